//! A moment in which a client's read stands by until somebody has asked the servers how far they have come.
//!
//! A session that has written reads from the primary, until a replica is known to have what it has seen. If it reads again and again
//! without a pause, it has always seen something since the servers were asked last. So once a replica has what the session has
//! written, its next read waits for an answer to a question that is put now.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use tokio::sync::futures::OwnedNotified;
use tokio::time::{Sleep, sleep};

use crate::pool::clock::micros;
use crate::pool::cluster::Realm;
use crate::pool::seat::{Poke, Seat};
use crate::protocol::{Report, SqlState};

use super::client::Client;
use super::farewell::Farewell;
use super::planning::Planned;
use super::wait::{self, Waited};

/// A read that stands by.
#[derive(Debug)]
pub struct Lookout {
    realm: Arc<Realm>,
    seat: Rc<Seat>,
    heard: Pin<Box<OwnedNotified>>,
    end: Pin<Box<Sleep>>,
}

impl Lookout {
    #[must_use]
    pub fn begin(realm: &Arc<Realm>, seat: &Rc<Seat>, now: u64) -> Self {
        let heard = Box::pin(realm.cluster.heard());
        realm.cluster.urge(now.saturating_add(micros(STANDS_BY_MAX)));
        Self {
            realm: Arc::clone(realm),
            seat: Rc::clone(seat),
            heard,
            end: Box::pin(sleep(STANDS_BY_MAX)),
        }
    }

    /// Waits until the session is free, or for long enough. What the client sends meanwhile is kept.
    pub fn poll(&mut self, client: &mut Client, cx: &mut TaskContext<'_>) -> Poll<Planned> {
        self.seat.register(cx);
        while self.heard.as_mut().poll(cx).is_ready() {
            self.heard = Box::pin(self.realm.cluster.heard());
        }
        let is_free = client.routing.as_mut().is_none_or(|routing| routing.is_free());
        if is_free || self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Planned::Done);
        }
        match self.seat.take_poke() {
            Some(Poke::Cancel) => {
                let report = Report::error(
                    SqlState::QUERY_CANCELED,
                    "canceling statement due to user request",
                );
                return Poll::Ready(Planned::Not(Waited::Refused(report)));
            }
            Some(Poke::Kill) => return Poll::Ready(Planned::Not(Waited::Leave(Farewell::shutdown()))),
            Some(Poke::Deadline | Poke::Drain | Poke::Look | Poke::Renew) | None => {}
        }
        match wait::watch(client, cx) {
            Ok(()) => Poll::Pending,
            Err(_) => Poll::Ready(Planned::Not(Waited::Leave(Farewell::Lost))),
        }
    }
}

/// The primary is asked, and a few milliseconds later the replicas: a read that has waited for so long does better on the primary.
const STANDS_BY_MAX: Duration = Duration::from_millis(25);
