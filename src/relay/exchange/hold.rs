//! Holding back what a late cancel request of ours might hit.
//!
//! A statement over its time is cancelled, but it may end by itself while the request is under way. PostgreSQL sends the
//! signal before it closes the request's connection (`processCancelRequest` in `src/backend/postmaster/postmaster.c`), and
//! forgets one that comes while it reads a command (`ProcessInterrupts` in `src/backend/tcop/postgres.c`, `DoingCommandRead`).
//! So nothing that is sent after that close is hit, and until then nothing is sent. An empty query in between would add
//! nothing: it is read after the signal as any other is; and were it hit, a block would fail for it.
//!
//! What was sent behind the statement cannot be called back. If the statement ends just then, or when the server signals once
//! more for the same request, as it does, the request in the pipeline that it has gone on to fails with 57014. Nothing can
//! prevent that, short of sending no request before the one ahead of it is answered. Its error says what has happened
//! (`Overtime::Behind`), answers stay in order, and no other client is ever hit.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use tokio::sync::oneshot;

use crate::relay::cancel;

use super::{End, Exchange, Stage};

/// Whether the client's requests are held.
#[derive(Debug, Default)]
pub(super) enum Hold {
    #[default]
    None,
    /// Until the cancel request has settled.
    Cancel(oneshot::Receiver<()>),
    /// Whether the server has carried the request out is not known, and never will be: the connection can only end.
    Doubt,
}

impl Exchange {
    /// The statement in flight is over its time.
    pub(super) fn cancel_statement(&mut self) {
        let (done, settled) = oneshot::channel();
        cancel::spawn(&self.lease.conn().info, Some(done));
        self.hold = Hold::Cancel(settled);
        self.flow.on_statement_timeout();
        self.stage = Stage::Cancelling;
    }

    pub(super) fn is_holding(&self) -> bool {
        !matches!(self.hold, Hold::None)
    }

    /// Waits until nothing need be held any more. Bounded by the time that a cancel request is given.
    pub(super) fn poll_hold(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<End>> {
        if let Hold::Cancel(settled) = &mut self.hold {
            if Pin::new(settled).poll(cx).is_pending() {
                return Poll::Pending;
            }
            if !self.lease.conn().info.cancels.is_in_doubt() {
                self.hold = Hold::None;
                return Poll::Ready(None);
            }
            self.hold = Hold::Doubt;
        }
        if self.stage == Stage::Cancelling {
            // The statement may still end as it should. At rest, the pool closes the connection.
            return Poll::Pending;
        }
        Poll::Ready(Some(End::Lost(None)))
    }
}
