//! Waiting in a pool's queue.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};

use crate::pool::clock;
use crate::pool::lease::Lease;
use crate::pool::local::LocalPool;
use crate::pool::seat::{Grant, Phase, Poke, Seat};
use crate::pool::shared::add;
use crate::protocol::{Report, SqlState};

use super::client::Client;
use super::farewell::Farewell;

/// How a wait ends.
#[derive(Debug)]
pub enum Waited {
    Leased(Lease),
    /// The client's request is to be refused.
    Refused(Report),
    Leave(Farewell),
}

/// Waits for a server connection, first come, first served. Cancel-safe: dropped early, the client is in no queue, and a
/// connection granted meanwhile goes to the next.
pub async fn wait(client: &mut Client) -> Waited {
    let worker = Rc::clone(&client.context.worker);
    let now = worker.now();
    let timeout = client.settings().pool_timeout;
    client.seat.enter(Phase::Waiting, now);
    client.seat.deadline.set(clock::deadline(now, timeout));
    worker.enter_busy(&client.seat);
    let place = Place {
        pool: Rc::clone(&client.pool),
        seat: Rc::clone(&client.seat),
    };
    place.pool.enqueue(&place.seat);
    let waited = poll_fn(|cx| poll(client, cx)).await;
    let elapsed = worker.now().saturating_sub(now);
    add(&client.pool.numbers().stats.wait_time, elapsed);
    drop(place);
    match waited {
        Granted::Conn(lease) => Waited::Leased(lease),
        Granted::Refused(report) => Waited::Refused(report),
        Granted::TimedOut => Waited::Refused(timed_out(&client.pool, elapsed)),
        Granted::Leave(farewell) => Waited::Leave(farewell),
    }
}

enum Granted {
    Conn(Lease),
    Refused(Report),
    TimedOut,
    Leave(Farewell),
}

/// A client's place in the queue. Leaving it, however that happens, puts everything in order.
struct Place {
    pool: Rc<LocalPool>,
    seat: Rc<Seat>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.dequeue(&self.seat);
        self.pool.worker.leave_busy(&self.seat);
        self.seat.enter(Phase::Idle, self.pool.worker.now());
        self.seat.deadline.set(0);
    }
}

fn poll(client: &mut Client, cx: &mut TaskContext<'_>) -> Poll<Granted> {
    client.seat.register(cx);
    match client.seat.take_grant() {
        Some(Grant::Conn(conn)) => return Poll::Ready(Granted::Conn(client.pool.lease(conn))),
        Some(Grant::Refused(report)) => return Poll::Ready(Granted::Refused(report)),
        None => {}
    }
    match client.seat.take_poke() {
        Some(Poke::Deadline) => return Poll::Ready(Granted::TimedOut),
        Some(Poke::Cancel) => {
            let report = Report::error(
                SqlState::QUERY_CANCELED,
                "canceling statement due to user request",
            );
            return Poll::Ready(Granted::Refused(report));
        }
        Some(Poke::Drain | Poke::Kill) => return Poll::Ready(Granted::Leave(Farewell::shutdown())),
        Some(Poke::Look) | None => {}
    }
    if watch(client, cx).is_err() {
        return Poll::Ready(Granted::Leave(Farewell::Lost));
    }
    Poll::Pending
}

/// Notices a client that leaves while it waits. What it says meanwhile is kept, within a limit.
fn watch(client: &mut Client, cx: &mut TaskContext<'_>) -> io::Result<()> {
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
