//! The query path: one client and the server connection it has for a while.
//!
//! Driven by polls, without a future for each side: while an answer is awaited the server alone is listened to, and the client
//! only once the wait has become long. An answer usually needs one read from and one write to each side.

mod answers;
mod deadlines;
mod hold;
mod requests;
mod routed;

use std::io;
use std::task::{Context as TaskContext, Poll};

use crate::pool::conn::ServerConn;
use crate::pool::lease::Lease;
use crate::pool::seat::Phase;
use crate::pool::settings::PoolMode;
use crate::protocol::{Report, SqlState};
use crate::session::Hygiene;
use crate::session::flow::{Attention, Flow, Naming, answers::Ending};
use crate::session::screen::Pins;

use super::account::{self, Since};
use super::client::Client;
use super::farewell::Farewell;
use super::slow::Slow;
use super::{cancel, ears, lost};
use deadlines::Timeouts;
use hold::Hold;

/// A client's use of a server connection.
#[derive(Debug)]
pub struct Exchange {
    lease: Lease,
    flow: Flow,
    /// Bytes that the server's socket did not take yet.
    owed: Vec<u8>,
    stage: Stage,
    hold: Hold,
    keeping: Keeping,
    timeouts: Timeouts,
    /// The client is listened to although only the server can move the conversation.
    looks: bool,
    /// The client has said goodbye: what it asked for before is carried out.
    leaves: bool,
    transaction_since: u64,
    busy_since: u64,
    /// For the log of slow statements, if there is one.
    slow: Option<Box<Slow>>,
    steps: u32,
}

/// What the exchange is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The connection is being brought to the client's settings; the client's request waits.
    Preparing,
    Running,
    /// The transaction has ended, and the server is asked what became of the client's settings and pins.
    Inquiring,
    /// The connection is made to forget what its client has listened to.
    Unlistening,
    /// A statement was cancelled because its time was over; the server is given until then to say so.
    Cancelling,
}

/// When the connection goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    /// When the client leaves.
    Session,
    /// At rest; or when the client leaves, if it is pinned.
    Transaction,
    /// At rest, and transaction blocks are refused.
    Statement,
}

/// Where a server's input is.
#[derive(Clone, Copy)]
enum Input<'a> {
    /// At the beginning of the worker's buffer.
    Scratch(&'a [u8]),
    /// Put together from what was held and what came.
    Held(&'a [u8]),
}

/// How an exchange ends.
#[derive(Debug)]
pub enum End {
    /// The connection is at rest; the client goes on without it.
    Rest,
    /// The same, with the end of the answer still in the worker's buffers: the first so many bytes that were read. The
    /// connection goes back before they are sent, so that whoever has the answer finds the connection free.
    Answered(usize),
    /// The client could not be served: its request, in `carry`, is to be refused.
    Refused(Report),
    /// The replica has failed a batch of which nothing was answered, with this code if it said something: the primary carries
    /// it out.
    Elsewhere(Option<SqlState>),
    /// The server connection is gone. The server's last words, if there were any.
    Lost(Option<Ending>),
    Leave(Farewell),
}

impl Exchange {
    pub fn begin(mut lease: Lease, client: &mut Client, now: u64) -> Self {
        let is_replication = client.is_replication;
        let pool_settings = client.settings();
        let is_session = pool_settings.pool_mode == PoolMode::Session || is_replication;
        let naming = if is_session || pool_settings.prepared_statements == 0 {
            Naming::Verbatim
        } else {
            Naming::Mapped {
                max: usize::try_from(pool_settings.prepared_statements).unwrap_or(usize::MAX),
            }
        };
        let keeping = match pool_settings.pool_mode {
            _ if is_session => Keeping::Session,
            PoolMode::Statement => Keeping::Statement,
            PoolMode::Session | PoolMode::Transaction => Keeping::Transaction,
        };
        let timeouts = Timeouts::of(pool_settings);
        client.seat.enter(Phase::Active, now);
        client.seat.deadline.set(0);
        client.context.worker.enter_busy(&client.seat);
        let conn = lease.conn();
        *client.seat.server.borrow_mut() = Some(std::sync::Arc::clone(&conn.info));
        conn.state.sequences.on_client(client.seat.id);
        let mut flow = Flow::new(naming, &conn.state);
        if !is_session {
            flow.share_listening();
        }
        Self {
            lease,
            flow,
            owed: Vec::new(),
            stage: Stage::Running,
            hold: Hold::None,
            keeping,
            timeouts,
            looks: false,
            leaves: false,
            transaction_since: if client.session.is_begun() {
                client.begun_at
            } else {
                now
            },
            busy_since: now,
            slow: Slow::begin(client, now),
            steps: 0,
        }
    }

    /// Whether the connection can go back.
    pub fn is_at_rest(&mut self) -> bool {
        let flow = &self.flow;
        flow.is_at_rest(&self.lease.conn().state) && self.owed.is_empty()
    }

    /// Moves what can be moved, in both directions, until the exchange ends or everybody is waited for.
    pub fn poll(&mut self, client: &mut Client, cx: &mut TaskContext<'_>) -> Poll<End> {
        client.seat.register(cx);
        if let Some(poke) = client.seat.take_poke()
            && let Some(end) = self.on_poke(client, poke)
        {
            return Poll::Ready(end);
        }
        loop {
            let mut moved = false;
            if self.is_holding() {
                match self.poll_hold(cx) {
                    Poll::Ready(Some(end)) => return Poll::Ready(end),
                    Poll::Ready(None) => {
                        moved = true;
                        self.tidy(client, cx);
                    }
                    Poll::Pending => {}
                }
            }
            if client.ears.is_some()
                && let Err(farewell) = self.hear(client, cx)
            {
                return Poll::Ready(End::Leave(farewell));
            }
            if self.owes() && !self.is_holding() {
                moved |= self.flush(cx);
            }
            if client.owes() {
                match client.poll_flush(cx) {
                    Poll::Ready(Ok(())) => moved = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(self.client_is_gone(client)),
                    Poll::Pending => {}
                }
            }
            // The answer to our own question has nothing for a client that reads slowly.
            if !client.owes() || self.is_tidying() {
                match self.poll_server(client, cx) {
                    Poll::Ready(Some(end)) => return Poll::Ready(end),
                    Poll::Ready(None) => moved = true,
                    Poll::Pending => {}
                }
            }
            if self.listens_to_client(client) {
                match self.poll_client(client, cx) {
                    Poll::Ready(Some(end)) => return Poll::Ready(end),
                    Poll::Ready(None) => moved = true,
                    Poll::Pending => {}
                }
            }
            if self.flow.asks_for_channels().is_some() && ears::poll_channels(&mut self.flow, client, cx) {
                moved = true;
                if let Some(end) = self.resume_server(client, cx) {
                    return Poll::Ready(end);
                }
            }
            match self.judge_waiting(client, cx) {
                Ok(judged) => moved |= judged,
                Err(end) => return Poll::Ready(end),
            }
            if moved && self.flow.is_held() && !self.is_holding() && !self.is_tidying() {
                // What it waited for may have come.
                if let Err(farewell) = self.on_carry(client, cx) {
                    return Poll::Ready(End::Leave(farewell));
                }
            }
            if moved {
                continue;
            }
            if self.leaves && self.owed.is_empty() && !self.flow.is_promised(&self.lease.conn().state) {
                return Poll::Ready(End::Leave(Farewell::Goodbye));
            }
            return self.on_quiet(client, cx);
        }
    }

    /// Everybody is waited for. No answer ends the exchange if what was sent last was the rest of a message that has none: of a
    /// copy that had failed before.
    fn on_quiet(&mut self, client: &mut Client, cx: &mut TaskContext<'_>) -> Poll<End> {
        if self.stage != Stage::Running || !client.carry.is_empty() || !self.is_at_rest() {
            return Poll::Pending;
        }
        if self.is_over(client) {
            return Poll::Ready(self.rest(client));
        }
        self.tidy(client, cx);
        Poll::Pending
    }

    /// Gives the connection back, if the exchange ended at rest; else closes it.
    pub fn finish(mut self, client: &mut Client) {
        self.depart(client);
        let conn = self.lease.conn();
        let pins = client.session.all_pins();
        let is_own = self.keeping == Keeping::Session || !pins.is_empty();
        if is_own || client.session.inquiry.is_some() || self.flow.leaves_listening() {
            conn.state.hygiene = conn.state.hygiene.worsen(Hygiene::Tainted);
        }
        if !pins.lasting().is_empty() {
            conn.state.hygiene = Hygiene::Unfit;
        }
        client.session.pins = Pins::NONE;
        client.session.inquiry = None;
        match self.flow.into_rest(&mut conn.state) {
            Ok(rest) => self.lease.give_back(&rest),
            Err(_) => drop(self.lease),
        }
    }

    /// Closes the connection; a statement that still runs on it is cancelled.
    pub fn abandon(mut self, client: &mut Client) {
        self.depart(client);
        let conn = self.lease.conn();
        if self.flow.is_busy(&conn.state) && self.stage != Stage::Cancelling {
            cancel::spawn(&conn.info, None);
        }
        drop(self.lease);
        client.session.on_server_gone();
    }

    /// The server connection is gone: the client is told, and stays in step.
    pub fn bury(mut self, client: &mut Client, words: Option<&Ending>) -> Option<Farewell> {
        self.depart(client);
        let inquiry = client.session.inquiry.as_ref();
        let is_asking = inquiry.is_some_and(|inquiry| inquiry.asks_settings());
        // What it has set is known to this connection alone.
        let is_kept = self.keeping == Keeping::Session || client.session.pinned().is_some() || is_asking;
        routed::note_loss(client);
        let farewell = lost::tell(client, &self.flow, self.lease.conn(), is_kept, words);
        drop(self.lease);
        client.session.on_server_gone();
        client.show_application_name();
        farewell
    }

    /// A client that is pinned is told of notifications while its connection rests.
    fn hear(&mut self, client: &mut Client, cx: &TaskContext<'_>) -> Result<bool, Farewell> {
        let rests = self.stage == Stage::Running && self.is_at_rest();
        ears::hear(client, rests && client.session.may_be_notified(), cx)
    }

    fn depart(&mut self, client: &mut Client) {
        ears::settle(client);
        let server = client.seat.server.borrow_mut().take();
        if client.routing.is_none() {
            client.last = server;
        }
        client.pool.pin(&client.seat, Pins::NONE);
        client.context.worker.leave_busy(&client.seat);
        self.arrive(client);
        let now = client.context.worker.about_now();
        self.settle(client, now);
        self.end_slow(client);
        client.enter_idle(now);
    }

    fn end_slow(&mut self, client: &Client) {
        if let Some(slow) = self.slow.take() {
            slow.end(client, &self.lease.conn().info);
        }
    }

    fn settle(&mut self, client: &Client, now: u64) {
        let since = Since {
            busy: self.busy_since,
            transaction: self.transaction_since,
        };
        account::settle(client, &mut self.lease, &mut self.flow.tally, since, now);
    }

    fn listens_to_client(&mut self, client: &Client) -> bool {
        if client
            .routing
            .as_ref()
            .is_some_and(|routing| routing.has_enough(client.carry.len()))
        {
            return false;
        }
        let is_asking = self.stage == Stage::Preparing || self.is_tidying();
        let is_waiting = is_asking || self.flow.is_held() || self.is_holding();
        if is_waiting || self.leaves || !self.owed.is_empty() {
            return false;
        }
        let looks = self.looks;
        let flow = &self.flow;
        let state = &self.lease.conn().state;
        !state.pipeline.is_full() && (looks || flow.attention(state) == Attention::Both)
    }

    fn client_is_gone(&mut self, client: &Client) -> End {
        tracing::debug!(
            client = client.seat.id,
            "client left in the middle of an exchange"
        );
        End::Leave(Farewell::Lost)
    }

    fn owes(&mut self) -> bool {
        !self.owed.is_empty() || self.lease.conn().stream.holds_back()
    }

    /// Writes to the server what fits; the rest is owed. A failure shows at the next read, which may still bring the
    /// server's last words.
    fn send(&mut self, bytes: &[u8], cx: &mut TaskContext<'_>) {
        let mut sent = 0;
        if self.owed.is_empty() {
            sent = write_some(self.lease.conn(), bytes, cx).unwrap_or(bytes.len());
        }
        self.owed.extend_from_slice(bytes.get(sent..).unwrap_or_default());
    }

    /// Writes what is owed to the server. Says whether something was moved.
    fn flush(&mut self, cx: &mut TaskContext<'_>) -> bool {
        let owed = std::mem::take(&mut self.owed);
        let conn = self.lease.conn();
        let sent = write_some(conn, &owed, cx).unwrap_or(owed.len());
        let rest = owed.get(sent..).unwrap_or_default();
        self.owed.extend_from_slice(rest);
        sent > 0
    }
}

fn write_some(conn: &mut ServerConn, bytes: &[u8], cx: &mut TaskContext<'_>) -> io::Result<usize> {
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        match conn.stream.poll_write(cx, rest)? {
            Poll::Pending => break,
            Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(count) => sent += count,
        }
    }
    if conn.stream.is_tls() {
        let _ = conn.stream.poll_flush(cx)?;
    }
    Ok(sent)
}
