//! Waiting in a pool's queue.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, ready};

use crate::pool::clock;
use crate::pool::lease::Lease;
use crate::pool::local::LocalPool;
use crate::pool::meter::TimeLimit;
use crate::pool::seat::{Grant, Phase, Poke, Seat};
use crate::pool::shared::add;
use crate::protocol::{Report, SqlState};

use super::client::Client;
use super::farewell::Farewell;

/// How a wait ends.
#[derive(Debug)]
pub enum Waited {
    Leased(Lease),
    /// No connection can be had.
    Failed(Report),
    /// The client's request is to be refused.
    Refused(Report),
    Leave(Farewell),
}

/// Waits for a server connection of a pool, first come, first served. Cancel-safe: dropped early, the client is in no queue,
/// and a connection granted meanwhile goes to the next.
pub async fn wait(client: &mut Client, pool: Rc<LocalPool>) -> Waited {
    let place = Place::take(client, pool);
    poll_fn(|cx| place.poll(client, cx)).await
}

/// A client's place in the queue. Leaving it, however that happens, puts everything in order.
#[derive(Debug)]
pub struct Place {
    pool: Rc<LocalPool>,
    seat: Rc<Seat>,
    since: u64,
}

impl Place {
    /// Puts the client into the queue of a pool.
    pub fn take(client: &mut Client, pool: Rc<LocalPool>) -> Self {
        let since = client.context.worker.now();
        let timeout = client.settings().pool_timeout;
        client.seat.enter(Phase::Waiting, since);
        client.seat.deadline.set(clock::deadline(since, timeout));
        client.context.worker.enter_busy(&client.seat);
        let place = Self {
            pool,
            seat: Rc::clone(&client.seat),
            since,
        };
        place.pool.enqueue(&place.seat);
        place
    }

    /// Waits for what comes of it.
    pub fn poll(&self, client: &mut Client, cx: &mut TaskContext<'_>) -> Poll<Waited> {
        let waited = ready!(self.poll_grant(client, cx));
        let (numbers, elapsed) = (self.pool.numbers(), self.elapsed());
        add(&numbers.stats.wait_time, elapsed);
        numbers.durations.wait.observe(elapsed);
        Poll::Ready(waited)
    }

    fn poll_grant(&self, client: &mut Client, cx: &mut TaskContext<'_>) -> Poll<Waited> {
        self.seat.register(cx);
        match self.seat.take_grant() {
            Some(Grant::Conn(conn)) => return Poll::Ready(Waited::Leased(self.pool.lease(conn))),
            Some(Grant::Refused(report)) => return Poll::Ready(Waited::Failed(*report)),
            None => {}
        }
        match self.seat.take_poke() {
            Some(Poke::Deadline) => {
                return Poll::Ready(Waited::Refused(timed_out(&self.pool, self.elapsed())));
            }
            Some(Poke::Cancel) => {
                let report = Report::error(
                    SqlState::QUERY_CANCELED,
                    "canceling statement due to user request",
                );
                return Poll::Ready(Waited::Refused(report));
            }
            // It waits in a transaction, which may end as any other. The poke stays, and stands for any other.
            Some(Poke::Drain) if client.session.is_begun() => {
                if self.seat.is_due(self.pool.worker.now()) {
                    return Poll::Ready(Waited::Refused(timed_out(&self.pool, self.elapsed())));
                }
            }
            Some(Poke::Drain | Poke::Kill) => return Poll::Ready(Waited::Leave(Farewell::shutdown())),
            Some(Poke::Look | Poke::Renew) | None => {}
        }
        match watch(client, cx) {
            Ok(()) => Poll::Pending,
            Err(_) => Poll::Ready(Waited::Leave(Farewell::Lost)),
        }
    }

    fn elapsed(&self) -> u64 {
        self.pool.worker.now().saturating_sub(self.since)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.dequeue(&self.seat);
        self.pool.worker.leave_busy(&self.seat);
        self.seat.enter(Phase::Idle, self.pool.worker.recent());
        self.seat.deadline.set(0);
    }
}

/// Notices a client that leaves while it waits. What it says meanwhile is kept, within a limit.
pub(super) fn watch(client: &mut Client, cx: &mut TaskContext<'_>) -> io::Result<()> {
    while client.carry.len() < WAITING_LEN_MAX {
        match client.poll_read_more(cx) {
            Poll::Pending => break,
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(result) => _ = result?,
        }
    }
    Ok(())
}

fn timed_out(pool: &LocalPool, elapsed: u64) -> Report {
    pool.numbers().time_limits.count(TimeLimit::Pool);
    if pool.shared.is_paused() {
        return Report::error(SqlState::CANNOT_CONNECT_NOW, "the pool is paused")
            .with_hint("Wait until it is resumed.");
    }
    let waiting: u32 = pool
        .shared
        .cells()
        .map(|cell| cell.waiting.load(std::sync::atomic::Ordering::Relaxed))
        .sum();
    let millis = elapsed / 1000;
    let mut detail = format!("Waited {millis} ms; {waiting} more clients wait for this pool.");
    if let Some(failure) = pool.shared.last_failure() {
        detail.push_str(" The last login to the server failed: ");
        detail.push_str(&failure.message);
    }
    Report::error(
        SqlState::TOO_MANY_CONNECTIONS,
        "no server connection became free in time",
    )
    .with_detail(detail)
    .with_hint("Raise pool_size or pool_timeout, or shorten transactions.")
}

/// What a waiting client may have sent ahead.
const WAITING_LEN_MAX: usize = 64 * 1024;
