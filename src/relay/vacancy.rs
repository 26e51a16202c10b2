//! Waiting for a primary, while there is none.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};

use tokio::sync::futures::OwnedNotified;

use crate::pool::clock;
use crate::pool::cluster::Ticket;
use crate::pool::seat::{Phase, Poke, Seat};
use crate::pool::worker::Worker;
use crate::protocol::{Report, SqlState};
use crate::topology::{Vacancy, View};

use super::client::Client;
use super::farewell::Farewell;
use super::planning::Planned;
use super::wait::{self, Waited};

/// A request that was not sent, and waits for somebody to take it. Leaving, however that happens, puts everything in order.
#[derive(Debug)]
pub struct Vigil {
    ticket: Ticket,
    seat: Rc<Seat>,
    worker: Rc<Worker>,
    heard: Pin<Box<OwnedNotified>>,
    /// The primary that could not be reached, at `begun_at`.
    failed: Option<usize>,
    begun_at: u64,
    /// When the batch began to wait.
    since: u64,
}

impl Vigil {
    /// `failed`: the primary that could not be reached, if there was one.
    ///
    /// # Errors
    /// Too many wait, or this one has waited for too long.
    pub fn begin(client: &mut Client, failed: Option<usize>) -> Result<Self, Report> {
        let now = client.context.worker.now();
        let Some(routing) = &mut client.routing else {
            return Err(refusal(Vacancy::Lost, 0));
        };
        let since = routing.vacant_since(now);
        let view = routing.realm().cluster.view();
        let deadline = clock::deadline(since, routing.realm().cluster.failover_timeout());
        let ticket = Ticket::take(routing.realm()).filter(|_| deadline == 0 || now < deadline);
        let Some(ticket) = ticket else {
            let report = refusal(view.vacancy, now.saturating_sub(since));
            drop(view);
            routing.on_waited_out();
            return Err(report);
        };
        client.seat.enter(Phase::Waiting, since);
        client.seat.deadline.set(deadline);
        client.context.worker.enter_busy(&client.seat);
        Ok(Self {
            heard: Box::pin(ticket.heard()),
            ticket,
            seat: Rc::clone(&client.seat),
            worker: Rc::clone(&client.context.worker),
            failed,
            begun_at: now,
            since,
        })
    }

    /// Waits for a primary. What the client sends meanwhile is kept.
    pub fn poll(&mut self, client: &mut Client, cx: &mut TaskContext<'_>) -> Poll<Planned> {
        self.seat.register(cx);
        // Listened to before it is looked, so that nothing is missed in between.
        while self.heard.as_mut().poll(cx).is_ready() {
            self.heard = Box::pin(self.ticket.heard());
        }
        if let Some(place) = self.found(&self.ticket.cluster().view()) {
            if let Some(pool) = client.routing.as_ref().and_then(|routing| routing.pool(place)) {
                // What it failed with before is of no meaning now.
                pool.shared.retry_now();
            }
            return Poll::Ready(Planned::Done);
        }
        if let Some(waited) = self.on_poke(client) {
            if let Some(routing) = &mut client.routing {
                routing.on_waited_out();
            }
            return Poll::Ready(Planned::Not(waited));
        }
        match wait::watch(client, cx) {
            Ok(()) => Poll::Pending,
            Err(_) => Poll::Ready(Planned::Not(Waited::Leave(Farewell::Lost))),
        }
    }

    /// The primary, if there is another one, or the one that failed has been heard of since.
    fn found(&self, view: &View) -> Option<usize> {
        let place = view.writes_at()?;
        let is_heard = || {
            let server = view.servers.get(place);
            server.is_none_or(|server| {
                server
                    .samples
                    .last()
                    .is_some_and(|last| last.asked_at > self.begun_at)
            })
        };
        (self.failed != Some(place) || is_heard()).then_some(place)
    }

    fn on_poke(&self, client: &Client) -> Option<Waited> {
        match self.seat.take_poke()? {
            Poke::Cancel => Some(Waited::Refused(Report::error(
                SqlState::QUERY_CANCELED,
                "canceling statement due to user request",
            ))),
            // It waits in a transaction, which may end as any other. The poke stays, and stands for any other.
            Poke::Drain if client.session.is_begun() => self.time_out(),
            Poke::Drain | Poke::Kill => Some(Waited::Leave(Farewell::shutdown())),
            Poke::Deadline => self.time_out(),
            Poke::Look | Poke::Renew => None,
        }
    }

    fn time_out(&self) -> Option<Waited> {
        let now = self.worker.now();
        let vacancy = self.ticket.cluster().view().vacancy;
        self.seat
            .is_due(now)
            .then(|| Waited::Refused(refusal(vacancy, now.saturating_sub(self.since))))
    }
}

impl Drop for Vigil {
    fn drop(&mut self) {
        self.worker.leave_busy(&self.seat);
        self.seat.enter(Phase::Idle, self.worker.recent());
        self.seat.deadline.set(0);
    }
}

/// Whether a login that failed like this says that the server is not there, rather than that it does not want us.
pub(super) fn is_of_absence(report: &Report) -> bool {
    matches!(
        report.code,
        SqlState::CANNOT_ESTABLISH_CONNECTION
            | SqlState::CONNECTION_FAILURE
            | SqlState::CONNECTION_EXCEPTION
            | SqlState::ADMIN_SHUTDOWN
            | SqlState::CRASH_SHUTDOWN
            | SqlState::CANNOT_CONNECT_NOW
    )
}

fn refusal(vacancy: Vacancy, elapsed: u64) -> Report {
    let millis = elapsed / 1000;
    let (message, hint) = match vacancy {
        Vacancy::TwoPrimaries => (
            "two servers take writes on the same timeline",
            "Stop one of them, or make it a standby of the other.",
        ),
        Vacancy::Lost | Vacancy::Unheard => (
            "the primary is lost, and no other was found",
            "Nothing was sent: repeat the transaction once a replica is promoted, or the primary is back.",
        ),
    };
    Report::error(SqlState::CANNOT_CONNECT_NOW, message)
        .with_detail(format!("Waited {millis} ms for a primary."))
        .with_hint(hint)
}
