//! What an exchange does that is on a replica: what may be passed on there, and what becomes of a batch that the replica fails.

use std::rc::Rc;
use std::task::Context as TaskContext;

use crate::protocol::body::ErrorFields;
use crate::protocol::{HEAD_LEN, Head, Report, SqlState, tag};
use crate::relay::client::Client;
use crate::relay::plans::Asking;
use crate::relay::route::{Admitted, Refused};
use crate::session::client::Block;

use super::{End, Exchange, Stage};

impl Exchange {
    /// Whether something of the client's waits to be judged, and could be passed on.
    pub(super) fn must_judge(&mut self, client: &Client) -> bool {
        let judges = client.routing.as_ref().is_some_and(|routing| routing.must_judge());
        judges
            && !client.carry.is_empty()
            && self.stage == Stage::Running
            && self.flow.client_rest() == 0
            && !self.flow.is_busy(&self.lease.conn().state)
    }

    /// Judges what the client has sent, and passes it on. Says whether something was moved.
    ///
    /// # Errors
    /// It may not be carried out here.
    pub(super) fn judge(&mut self, client: &mut Client, cx: &mut TaskContext<'_>) -> Result<bool, End> {
        let context = Rc::clone(&client.context);
        let Some(routing) = &mut client.routing else {
            return Ok(false);
        };
        let admitted = match routing.admit(&client.session, &client.carry, &context.plans) {
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
            Admitted::Unplanned(text) => {
                // Its task is woken when the plan is there, and looks again.
                match context.plans.ask(routing.scope(), &client.session, text, cx.waker()) {
                    Asking::Waits(_) => Ok(false),
                    Asking::Refused => Err(self.refuse_on_replica(client, &Refused::Unknown)),
                }
            }
        }
    }

    /// The transaction has failed, and with it its connection: PostgreSQL was told nothing of the statement.
    fn refuse_on_replica(&self, client: &mut Client, refused: &Refused) -> End {
        client.session.block = Block::Failed;
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
            Some(routing) if routing.may_try_again() => End::Elsewhere,
            Some(_) | None => End::Lost(None),
        }
    }

    /// The first of an answer has come. Whether it says that this replica, as a replica, cannot carry out the batch; if not, the
    /// batch stays.
    pub(super) fn is_failed_by_replica(&mut self, client: &mut Client, input: &[u8]) -> bool {
        let Some(routing) = &mut client.routing else {
            return false;
        };
        if self.stage != Stage::Running || !routing.may_try_again() {
            return false;
        }
        if is_refusal(input) {
            return true;
        }
        client.context.put_spare(routing.stay());
        false
    }

    /// The batch is carried out on the primary instead: it comes again, and what it has changed here is taken back.
    pub fn retreat(mut self, client: &mut Client) {
        let again = client.routing.as_mut().map(|routing| routing.take_refuge()).unwrap_or_default();
        self.depart(client);
        client.session.take_back(&mut self.lease.conn().state.pipeline);
        client.session.on_server_gone();
        let behind = std::mem::replace(&mut client.carry, again);
        client.carry.extend_from_slice(&behind);
    }

    /// The client has its answer: it has seen what is there.
    pub(super) fn arrive(&self, client: &mut Client, now: u64) {
        if let Some(routing) = &mut client.routing {
            if routing.may_try_again() {
                client.context.put_spare(routing.stay());
            }
            routing.on_done(now);
        }
    }
}

/// Whether an answer is nothing but an error that a primary would not give. Rows, once there are any, are the client's.
fn is_refusal(input: &[u8]) -> bool {
    let mut at = 0;
    while let Some(rest) = input.get(at..)
        && let Ok(Some(head)) = Head::read(rest)
    {
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
                return ErrorFields::read(rest.get(HEAD_LEN..end).unwrap_or_default()).is_of_standby();
            }
            _ => return false,
        }
    }
    false
}
