//! What an exchange does that is on a replica: what may be passed on there, and what becomes of a batch that the replica fails.

use std::rc::Rc;
use std::task::Context as TaskContext;

use crate::protocol::body::ErrorFields;
use crate::protocol::{HEAD_LEN, Head, Report, SqlState, TransactionState, tag};
use crate::relay::client::Client;
use crate::relay::plans::{Asking, Wanted};
use crate::relay::route::{Admitted, Refused};
use crate::session::client::Block;

use super::{End, Exchange, Stage};

impl Exchange {
    /// Whether something of the client's waits to be judged, and could be passed on.
    fn must_judge(&mut self, client: &Client) -> bool {
        let judges = client
            .routing
            .as_ref()
            .is_some_and(|routing| routing.must_judge());
        if !judges || client.carry.is_empty() || self.stage != Stage::Running || self.flow.client_rest() > 0 {
            return false;
        }
        let state = &self.lease.conn().state;
        // What belongs to a batch that was begun waits for no answer: the server may give none before it has come.
        let goes_on = self.flow.is_in_batch() && !state.pipeline.has_sync();
        goes_on || !self.flow.is_busy(state)
    }

    /// Answers questions that no server can, while nothing else is asked. Returns their length.
    pub(super) fn tell_routes(&mut self, client: &mut Client, input: &[u8]) -> usize {
        let transaction = self.lease.conn().state.transaction;
        let mut at = 0;
        while self.may_tell()
            && let told = client.tell_route(input.get(at..).unwrap_or_default(), transaction)
            && told > 0
        {
            at += told;
        }
        at
    }

    /// Whether it is the turn of a question that no server can answer.
    pub(super) fn may_tell(&mut self) -> bool {
        let state = &self.lease.conn().state;
        self.stage == Stage::Running
            && state.transaction != TransactionState::Failed
            && !self.flow.is_busy(state)
            && !self.flow.is_in_batch()
    }

    /// Where something of the client's waits to be judged, judges it and passes it on. Says whether something was moved.
    ///
    /// # Errors
    /// It may not be carried out here.
    pub(super) fn judge_waiting(
        &mut self,
        client: &mut Client,
        cx: &mut TaskContext<'_>,
    ) -> Result<bool, End> {
        if client.routing.is_none() || !self.must_judge(client) {
            return Ok(false);
        }
        self.judge(client, cx)
    }

    fn judge(&mut self, client: &mut Client, cx: &mut TaskContext<'_>) -> Result<bool, End> {
        let context = Rc::clone(&client.context);
        let Some(routing) = &mut client.routing else {
            return Ok(false);
        };
        let admitted = if self.flow.is_skipping() {
            Ok(routing.pass_over(&client.carry))
        } else {
            routing.admit(&client.session, &client.carry, &context.plans)
        };
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(refused) => return Err(self.refuse_on_replica(client, &refused)),
        };
        match admitted {
            Admitted::Bytes(len) => {
                routing.on_judged(len);
                self.on_carry(client, cx).map_err(End::Leave)?;
                Ok(true)
            }
            Admitted::Cut => Ok(false),
            Admitted::Unplanned(text, demand) => {
                // Its task is woken when the plan is there, and looks again.
                let wanted = Wanted { text, demand };
                match context
                    .plans
                    .ask(routing.scope(), &client.session, wanted, cx.waker())
                {
                    Asking::Waits(_) => Ok(false),
                    Asking::Refused => Err(self.refuse_on_replica(client, &Refused::Unknown)),
                }
            }
        }
    }

    /// The transaction has failed, and with it its connection: PostgreSQL was told nothing of the statement.
    fn refuse_on_replica(&mut self, client: &mut Client, refused: &Refused) -> End {
        client.session.block = Block::Failed;
        // The error stands for whatever of the batch was not answered.
        client.session.take_back(&mut self.lease.conn().state.pipeline);
        let what = match refused {
            Refused::Writes(plan) => plan.reason().to_string(),
            Refused::Unknown => "what it does is not known".to_owned(),
            Refused::TooLong => "it is too long to be judged".to_owned(),
        };
        End::Refused(
            Report::error(
                SqlState::READ_ONLY_SQL_TRANSACTION,
                format!("cannot execute the statement in a read-only transaction on a replica: {what}"),
            )
            .with_hint("Begin the transaction READ WRITE, or set pgweir.role to primary."),
        )
    }

    /// The server connection is gone.
    pub(super) fn on_server_lost(&self, client: &Client) -> End {
        match &client.routing {
            Some(routing) if routing.may_try_again() => End::Elsewhere(None),
            Some(_) | None => End::Lost(None),
        }
    }

    /// The first of an answer has come. If it says that this replica, as a replica, cannot carry out the batch, with which code;
    /// if not, the batch stays.
    pub(super) fn failed_by_replica(&mut self, client: &mut Client, input: &[u8]) -> Option<SqlState> {
        let routing = client.routing.as_mut()?;
        if self.stage != Stage::Running {
            return None;
        }
        if !routing.may_try_again() {
            if !routing.is_on_replica() && refusal(input) == Some(SqlState::READ_ONLY_SQL_TRANSACTION) {
                // What was the primary is a standby, unless the client has asked for it.
                routing.on_sign();
            }
            return None;
        }
        // Whoever ends a session of the primary means its statement.
        let refusal = refusal(input).filter(|code| routing.is_on_replica() && routing.may_leave(Some(*code)));
        match refusal {
            None => client.context.put_spare(routing.stay()),
            // What has come of its answer is passed over with the rest.
            Some(_) => self.lease.conn().carry.extend_from_slice(input),
        }
        refusal
    }

    /// The batch is carried out on the primary instead: it comes again, and what it has changed here is taken back. Where the
    /// statement alone has failed, the connection is used again, and nobody asks how its server is.
    pub fn retreat(mut self, client: &mut Client, code: Option<SqlState>) {
        // What of it was not passed on still stands in `carry`, and comes again with the rest.
        let left = client.routing.as_ref().map_or(0, |routing| routing.judged());
        let (session, plans) = (&client.session, &client.context.plans);
        let routing = client.routing.as_mut();
        let again = routing
            .map(|routing| routing.take_refuge(code, session, plans))
            .unwrap_or_default();
        let is_whole = code.is_some_and(SqlState::is_of_statement);
        if !is_whole {
            note_loss(client);
        }
        self.depart(client);
        let is_sent = left == 0 && self.flow.client_rest() == 0 && !self.owes();
        let pipeline = &mut self.lease.conn().state.pipeline;
        let answers = pipeline.awaited();
        client.session.take_back(pipeline);
        client.session.on_server_gone();
        let behind = std::mem::replace(&mut client.carry, again);
        client
            .carry
            .extend_from_slice(behind.get(left..).unwrap_or_default());
        if is_whole && is_sent && answers > 0 {
            self.lease.discard_behind(answers);
        }
    }

    /// The client has its answer: it has seen what is there by now, for which no older reading of the clock will do.
    pub(super) fn arrive(&self, client: &mut Client) {
        if let Some(routing) = &mut client.routing {
            let now = client.context.worker.clock.now();
            if routing.may_try_again() {
                client.context.put_spare(routing.stay());
            }
            routing.on_done(now);
        }
    }
}

/// A server was lost, or is other than it was taken for: those who look after the servers ask at once.
pub(super) fn note_loss(client: &Client) {
    if let Some(routing) = &client.routing {
        routing.on_sign();
    }
}

/// The code of an answer that is nothing but an error that a primary might not give. Rows, once there are any, are the client's.
fn refusal(input: &[u8]) -> Option<SqlState> {
    let mut at = 0;
    loop {
        let rest = input.get(at..)?;
        let head = Head::read(rest).ok()??;
        match head.tag {
            tag::PARSE_COMPLETE
            | tag::BIND_COMPLETE
            | tag::CLOSE_COMPLETE
            | tag::PARAMETER_DESCRIPTION
            | tag::ROW_DESCRIPTION
            | tag::NO_DATA
            | tag::NOTICE_RESPONSE
            | tag::PARAMETER_STATUS => at += head.len(),
            tag::ERROR_RESPONSE => {
                let end = rest.len().min(head.len());
                let fields = ErrorFields::read(rest.get(HEAD_LEN..end)?);
                return fields.is_of_standby().then_some(fields.code);
            }
            _ => return None,
        }
    }
}
