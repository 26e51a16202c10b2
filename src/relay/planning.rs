//! Waiting for the plan of a text that nobody has seen before.

use std::sync::{Arc, OnceLock};
use std::task::{Context as TaskContext, Poll, Waker};

use crate::plan::Plan;
use crate::pool::seat::Poke;
use crate::protocol::{Report, SqlState};

use super::client::Client;
use super::farewell::Farewell;
use super::wait::{self, Waited};

/// A plan that is being made elsewhere.
#[derive(Debug)]
pub struct Planning {
    answer: Arc<Answer>,
}

/// Where it is put.
#[derive(Debug)]
pub struct Answer {
    plan: OnceLock<Arc<Plan>>,
    asker: Waker,
}

impl Answer {
    #[must_use]
    pub fn new(asker: &Waker) -> Arc<Self> {
        Arc::new(Self {
            plan: OnceLock::new(),
            asker: asker.clone(),
        })
    }

    /// Here it is.
    pub fn give(&self, plan: Arc<Plan>) {
        let _ = self.plan.set(plan);
        self.asker.wake_by_ref();
    }
}

/// How it ends.
#[derive(Debug)]
pub enum Planned {
    /// The plan can be found now.
    Done,
    /// The client is not served any more, or its request is refused.
    Not(Waited),
}

impl Planning {
    #[must_use]
    pub fn new(answer: Arc<Answer>) -> Self {
        Self { answer }
    }

    /// Waits for it. What the client sends meanwhile is kept.
    pub fn poll(&self, client: &mut Client, cx: &mut TaskContext<'_>) -> Poll<Planned> {
        client.seat.register(cx);
        if self.answer.plan.get().is_some() {
            return Poll::Ready(Planned::Done);
        }
        match client.seat.take_poke() {
            Some(Poke::Cancel) => {
                let report = Report::error(
                    SqlState::QUERY_CANCELED,
                    "canceling statement due to user request",
                );
                return Poll::Ready(Planned::Not(Waited::Refused(report)));
            }
            Some(Poke::Kill) => {
                return Poll::Ready(Planned::Not(Waited::Leave(Farewell::shutdown())));
            }
            Some(Poke::Deadline | Poke::Drain | Poke::Look | Poke::Renew) | None => {}
        }
        match wait::watch(client, cx) {
            Ok(()) => Poll::Pending,
            Err(_) => Poll::Ready(Planned::Not(Waited::Leave(Farewell::Lost))),
        }
    }
}
