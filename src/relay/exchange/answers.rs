//! From the server to the client.

use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use crate::pool::catalog::Catalog;
use crate::pool::clock;
use crate::pool::seat::Phase;
use crate::pool::shared::add;
use crate::protocol::{Report, SqlState, TransactionState};
use crate::relay::account;
use crate::relay::client::Client;
use crate::relay::context::Scratch;
use crate::relay::farewell::Farewell;
use crate::relay::lost;
use crate::session::Outbox;
use crate::session::flow::{Answered, Parties};
use crate::session::server::Definitions;

use super::{End, Exchange, Input, Keeping, Stage};

impl Exchange {
    /// Reads from the server and passes on. Ready when something was moved, or when the exchange has ended.
    pub(super) fn poll_server(&mut self, client: &mut Client, cx: &mut TaskContext<'_>) -> Poll<Option<End>> {
        let context = Rc::clone(&client.context);
        let Scratch { read, out } = &mut *context.scratch.borrow_mut();
        let conn = self.lease.conn();
        let count = match conn.stream.poll_read(cx, read) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Some(self.on_server_lost(client))),
            Poll::Ready(Ok(count)) => count,
        };
        let came = read.get(..count).unwrap_or_default();
        if conn.carry.is_empty() {
            return Poll::Ready(self.on_server_input(client, Input::Scratch(came), out, cx));
        }
        let mut input = std::mem::take(&mut conn.carry);
        input.extend_from_slice(came);
        Poll::Ready(self.on_server_input(client, Input::Held(&input), out, cx))
    }

    /// Passes on what the server has said before, and what was kept from the client until now.
    pub(super) fn resume_server(&mut self, client: &mut Client, cx: &mut TaskContext<'_>) -> Option<End> {
        let context = Rc::clone(&client.context);
        let out = &mut context.scratch.borrow_mut().out;
        let input = std::mem::take(&mut self.lease.conn().carry);
        if input.is_empty() {
            return None;
        }
        self.on_server_input(client, Input::Held(&input), out, cx)
    }

    fn on_server_input(
        &mut self,
        client: &mut Client,
        source: Input<'_>,
        out: &mut Outbox,
        cx: &mut TaskContext<'_>,
    ) -> Option<End> {
        out.reset();
        let (Input::Scratch(input) | Input::Held(input)) = source;
        if client.routing.is_some()
            && let Some(code) = self.failed_by_replica(client, input)
        {
            return Some(End::Elsewhere(Some(code)));
        }
        let conn = self.lease.conn();
        let heard = {
            let mut cache = client.context.cache.borrow_mut();
            let mut parties = Parties {
                client: &mut client.session,
                server: &mut conn.state,
                cache: &mut cache,
            };
            self.flow.on_server(input, out, &mut parties)
        };
        if self.flow.take_altered() {
            client.on_altered();
        }
        if self.flow.take_relabelled() {
            client.show_application_name();
        }
        let heard = match heard {
            Ok(heard) => heard,
            Err(error) => {
                tracing::error!(server = %conn.info.address, "{}", Report::from(&error));
                return Some(End::Lost(None));
            }
        };
        conn.carry
            .extend_from_slice(input.get(heard.consumed..).unwrap_or_default());
        self.tell_of_definitions(client);
        for code in out.errors() {
            client.note_error(*code);
        }
        let ends = self.is_over(client);
        let bytes = out.bytes(input);
        add(
            &self.lease.pool().numbers().stats.sent,
            u64::try_from(bytes.len()).unwrap_or(0),
        );
        if ends && heard.end.is_none() && matches!(source, Input::Scratch(_)) && !self.leaves {
            return Some(End::Answered(input.len()));
        }
        if !bytes.is_empty() && client.send(cx, bytes).is_err() {
            return Some(if ends {
                End::Leave(Farewell::Lost)
            } else {
                self.client_is_gone(client)
            });
        }
        if let Some(words) = heard.end {
            return Some(End::Lost(Some(words)));
        }
        match self.stage {
            Stage::Preparing => return self.on_prepared(client, out, cx),
            Stage::Inquiring => return self.on_inquired(client, out, cx),
            Stage::Unlistening => return self.on_unlistened(client, out, cx),
            Stage::Running | Stage::Cancelling => {}
        }
        if ends {
            return Some(self.rest(client));
        }
        let end = self.on_progress(client);
        if end.is_none() {
            self.tidy(client, cx);
        }
        end
    }

    /// Whether the client has its answer, and the server does something of ours.
    pub(super) fn is_tidying(&self) -> bool {
        matches!(self.stage, Stage::Inquiring | Stage::Unlistening)
    }

    /// At rest: what has to be done before the connection can go back.
    pub(super) fn tidy(&mut self, client: &mut Client, cx: &mut TaskContext<'_>) {
        self.undo_listening(client, cx);
        self.inquire(client, cx);
    }

    /// What a command has defined is known before anybody hears of it.
    #[inline]
    fn tell_of_definitions(&mut self, client: &Client) {
        let state = &mut self.lease.conn().state;
        match state.definitions {
            Definitions::AsKnown | Definitions::Making | Definitions::Changing => {}
            Definitions::Made => {
                state.definitions = Definitions::AsKnown;
                match &client.routing {
                    Some(routing) => routing.catalogs().for_each(Catalog::on_made),
                    None => client.pool.shared.catalog.on_made(),
                }
            }
            Definitions::Changed => {
                state.definitions = Definitions::AsKnown;
                match &client.routing {
                    Some(routing) => routing.catalogs().for_each(Catalog::on_changed),
                    None => client.pool.shared.catalog.on_changed(),
                }
            }
        }
    }

    /// A transaction has ended that has named settings, or that may have ended what pins the client: the server says what is
    /// true now. The client has its answer already.
    fn inquire(&mut self, client: &mut Client, cx: &mut TaskContext<'_>) {
        if self.keeping == Keeping::Session || self.leaves || self.is_holding() {
            return;
        }
        let state = &mut self.lease.conn().state;
        if !self.flow.is_at_rest(state) {
            return;
        }
        let Some(inquiry) = &mut client.session.inquiry else {
            return;
        };
        let mut question = Vec::new();
        self.flow.inquire(inquiry, state, &mut question);
        self.ask(Stage::Inquiring, &question, client, cx);
    }

    /// Sends something of ours. A client's cancel request does not hit it, and the session's limits of time are not for it.
    fn ask(&mut self, stage: Stage, question: &[u8], client: &Client, cx: &mut TaskContext<'_>) {
        self.stage = stage;
        client.seat.phase.set(Phase::Settling);
        let now = client.context.worker.now();
        client.seat.deadline.set(clock::deadline(now, INQUIRY_MAX));
        self.send(question, cx);
    }

    /// The server has said more of the answer to our question.
    fn on_inquired(
        &mut self,
        client: &mut Client,
        out: &mut Outbox,
        cx: &mut TaskContext<'_>,
    ) -> Option<End> {
        let state = &mut self.lease.conn().state;
        if !state.pipeline.is_empty() {
            return None;
        }
        match self.flow.take_findings(&mut client.session) {
            Answered::Found(findings) => client.session.on_found(state, &findings),
            Answered::Cancelled => {
                // By the session's own limit of time, or by a request of the client's that came late.
                self.inquire(client, cx);
                return None;
            }
            Answered::Nothing => client.session.on_nothing_found(),
        }
        self.on_tidy(client, out, cx)
    }

    /// The server has said more of its having forgotten channels.
    fn on_unlistened(
        &mut self,
        client: &mut Client,
        out: &mut Outbox,
        cx: &mut TaskContext<'_>,
    ) -> Option<End> {
        if !self.lease.conn().state.pipeline.is_empty() {
            return None;
        }
        self.on_tidy(client, out, cx)
    }

    /// Something of ours was done, and the exchange is as it was.
    fn on_tidy(&mut self, client: &mut Client, out: &mut Outbox, cx: &mut TaskContext<'_>) -> Option<End> {
        self.stage = Stage::Running;
        client.seat.phase.set(Phase::Active);
        self.set_deadline(client, false);
        self.tidy(client, cx);
        if self.is_tidying() {
            return None;
        }
        if self.is_over(client) {
            return Some(self.rest(client));
        }
        self.resume(client, out, cx)
    }

    /// Whether the connection can go back now.
    pub(super) fn is_over(&mut self, client: &Client) -> bool {
        let flow = &self.flow;
        let is_at_rest = flow.is_at_rest(&self.lease.conn().state);
        let is_kept = match self.keeping {
            Keeping::Session => true,
            Keeping::Transaction | Keeping::Statement => {
                let pins = client.session.all_pins();
                client.pool.pin(&client.seat, pins);
                !pins.is_empty()
            }
        };
        let asks = client.session.inquiry.is_some() && self.keeping != Keeping::Session && !self.leaves;
        is_at_rest
            && flow.asks_for_channels().is_none()
            && (is_kept || !flow.leaves_listening())
            && self.owed.is_empty()
            && !asks
            && self.stage != Stage::Preparing
            && !self.is_tidying()
            && (!is_kept || self.leaves || client.seat.is_leaving())
    }

    /// What the client has listened to on this connection is for nobody else. A client that leaves has it cleaned.
    fn undo_listening(&mut self, client: &Client, cx: &mut TaskContext<'_>) {
        let is_due = self.flow.must_undo_listening() && client.session.pinned().is_none();
        if !is_due || self.leaves || self.is_holding() || !self.is_at_rest() {
            return;
        }
        let mut command = Vec::new();
        self.flow
            .undo_listening(&mut self.lease.conn().state, &mut command);
        self.ask(Stage::Unlistening, &command, client, cx);
    }

    pub(super) fn rest(&self, client: &Client) -> End {
        if self.leaves {
            return End::Leave(Farewell::Goodbye);
        }
        if client.seat.is_leaving() {
            End::Leave(Farewell::shutdown())
        } else {
            End::Rest
        }
    }

    /// The server has said something, and the exchange goes on.
    fn on_progress(&mut self, client: &mut Client) -> Option<End> {
        let conn = self.lease.conn();
        let is_busy = self.flow.is_busy(&conn.state);
        if self.keeping == Keeping::Statement && conn.state.transaction != TransactionState::Idle && !is_busy
        {
            return Some(End::Leave(Farewell::Told(
                Report::fatal(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "transaction blocks are not allowed in statement pooling mode",
                )
                .with_hint("Use pool_mode = \"transaction\" for this database or user."),
            )));
        }
        if self.steps != self.flow.tally.steps {
            self.steps = self.flow.tally.steps;
            let is_timed = self.is_timed();
            if self.stage == Stage::Cancelling && !(is_busy && self.flow.is_timed_out()) {
                // What comes next in the pipeline has its own time.
                self.stage = Stage::Running;
            }
            if is_timed {
                self.set_deadline(client, is_busy);
            }
            if !is_busy {
                self.end_slow(client);
                self.on_pause(client);
            }
        }
        None
    }

    /// The exchange goes on, but its server has nothing to do: what was done so far counts from now on.
    fn on_pause(&mut self, client: &Client) {
        let now = client.context.worker.now();
        if self.lease.conn().state.transaction == TransactionState::Idle {
            self.settle(client, now);
            self.transaction_since = 0;
        } else {
            // What else there is counts when the transaction is over.
            account::note_query(client, self.busy_since, now);
        }
        self.busy_since = 0;
    }

    /// The connection has the client's settings now, or never will.
    fn on_prepared(
        &mut self,
        client: &mut Client,
        out: &mut Outbox,
        cx: &mut TaskContext<'_>,
    ) -> Option<End> {
        let conn = self.lease.conn();
        if !conn.state.pipeline.is_empty() {
            return None;
        }
        self.stage = Stage::Running;
        client.seat.deadline.set(0);
        if let Some(report) = lost::on_prepared(&mut self.flow, client, conn) {
            return Some(End::Refused(report));
        }
        self.resume(client, out, cx)
    }

    /// The client's input that has waited goes on.
    fn resume(&mut self, client: &mut Client, out: &mut Outbox, cx: &mut TaskContext<'_>) -> Option<End> {
        let input = std::mem::take(&mut client.carry);
        match self.on_client_input(client, &input, out, cx) {
            Ok(consumed) => {
                client
                    .carry
                    .extend_from_slice(input.get(consumed..).unwrap_or_default());
                None
            }
            Err(farewell) => Some(End::Leave(farewell)),
        }
    }
}

/// Longer than a server that is well takes for a look into its own settings.
const INQUIRY_MAX: Duration = Duration::from_secs(10);
