//! The path of a query. `poll_serve` is the page to read first.

mod account;
pub mod answers;
pub mod cancel;
pub mod client;
pub mod context;
pub mod directory;
pub mod ears;
pub mod exchange;
pub mod farewell;
pub mod handshake;
pub mod hub;
pub mod lookout;
pub mod lookup;
mod lost;
pub mod memory;
pub mod planner;
pub mod planning;
pub mod plans;
pub mod route;
mod slow;
pub mod texts;
pub mod vacancy;
pub mod wait;
mod way;
pub mod welcome;

use std::future::poll_fn;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use crate::protocol::Report;

use client::{Client, Turn};
use exchange::{End, Exchange};
use farewell::Farewell;
use lookout::Lookout;
use planning::{Planned, Planning};
use vacancy::Vigil;
use wait::{Place, Waited};

/// Serves a logged-in client: from request to answer, and from answer to request, until the session ends. `current` is what it
/// begins with: a replication client has an exchange already.
pub fn poll_serve(client: &mut Client, current: &mut Current, cx: &mut TaskContext<'_>) -> Poll<Farewell> {
    loop {
        let done = match current {
            Current::Idle => match ready!(client.poll_idle(current, cx)) {
                Turn::Serve => Ok(()),
                Turn::Wait(pool) => {
                    *current = Current::Waiting(Place::take(client, pool));
                    Ok(())
                }
                Turn::Plan(planning) => {
                    *current = Current::Planning(planning);
                    Ok(())
                }
                Turn::Await(vigil) => {
                    *current = Current::Vacant(vigil);
                    Ok(())
                }
                Turn::StandBy(lookout) => {
                    *current = Current::StandingBy(lookout);
                    Ok(())
                }
                Turn::Leave(farewell) => Err(farewell),
            },
            Current::Waiting(place) => {
                let waited = ready!(place.poll(client, cx));
                // Out of the queue before anything else happens.
                *current = Current::Idle;
                on_waited(client, current, waited, cx)
            }
            Current::Planning(planning) => {
                let planned = ready!(planning.poll(client, cx));
                *current = Current::Idle;
                on_planned(client, current, planned, cx)
            }
            Current::Vacant(vigil) => {
                let planned = ready!(vigil.poll(client, cx));
                *current = Current::Idle;
                on_planned(client, current, planned, cx)
            }
            Current::StandingBy(lookout) => {
                let planned = ready!(lookout.poll(client, cx));
                *current = Current::Idle;
                on_planned(client, current, planned, cx)
            }
            Current::Serving(exchange) => {
                let end = ready!(exchange.poll(client, cx));
                match std::mem::take(current) {
                    Current::Serving(exchange) => conclude(client, exchange, end, cx),
                    Current::Idle
                    | Current::Waiting(_)
                    | Current::Planning(_)
                    | Current::Vacant(_)
                    | Current::StandingBy(_) => Ok(()),
                }
            }
        };
        if let Err(farewell) = done {
            return Poll::Ready(farewell);
        }
    }
}

/// Where the request goes can be decided now, or the client is not served.
fn on_planned(
    client: &mut Client,
    current: &mut Current,
    planned: Planned,
    cx: &mut TaskContext<'_>,
) -> Result<(), Farewell> {
    match planned {
        Planned::Done => Ok(()),
        Planned::Not(waited) => on_waited(client, current, waited, cx),
    }
}

/// Where a client stands.
#[derive(Debug, Default)]
pub enum Current {
    #[default]
    Idle,
    /// In the queue of its pool.
    Waiting(Place),
    /// Nobody knows yet where its request goes.
    Planning(Planning),
    /// There is no primary to send its request to.
    Vacant(Vigil),
    /// A replica may take its read soon.
    StandingBy(Lookout),
    Serving(Exchange),
}

/// A wait is over: the request is served, or refused so that the client goes on without.
fn on_waited(
    client: &mut Client,
    current: &mut Current,
    waited: Waited,
    cx: &mut TaskContext<'_>,
) -> Result<(), Farewell> {
    match waited {
        Waited::Leased(lease) => {
            let lease = match client.examine(lease) {
                Ok(lease) => lease,
                Err(Some(Ok(vigil))) => {
                    *current = Current::Vacant(vigil);
                    return Ok(());
                }
                Err(elsewhere) => {
                    if let Some(Err(report)) = elsewhere {
                        refuse(client, &report);
                    }
                    client.enter_idle(client.context.worker.now());
                    return Ok(());
                }
            };
            let now = client.context.worker.now();
            let mut exchange = Exchange::begin(lease, client, now);
            match exchange.on_carry(client, cx) {
                Ok(()) => *current = Current::Serving(exchange),
                Err(farewell) => {
                    exchange.abandon(client);
                    return Err(farewell);
                }
            }
        }
        Waited::Failed(report) => {
            // A replica that cannot be had is no reason for an error, while there is a primary; nor is a primary that is lost,
            // while there may be another soon.
            if !client.turn_to_primary() {
                match client.await_primary(report) {
                    Ok(vigil) => {
                        *current = Current::Vacant(vigil);
                        return Ok(());
                    }
                    Err(report) => refuse(client, &report),
                }
            }
            client.enter_idle(client.context.worker.now());
        }
        Waited::Refused(report) => {
            refuse(client, &report);
            client.enter_idle(client.context.worker.now());
        }
        Waited::Leave(farewell) => return Err(farewell),
    }
    Ok(())
}

/// Ends an exchange. An error ends the session. Not inlined, lest the exchange be taken apart and put together again.
#[inline(never)]
fn conclude(
    client: &mut Client,
    mut exchange: Exchange,
    end: End,
    cx: &mut TaskContext<'_>,
) -> Result<(), Farewell> {
    match end {
        End::Rest => exchange.finish(client),
        End::Answered(count) => {
            let leaves = client.seat.is_leaving();
            exchange.finish(client);
            if client.send_read(count, cx).is_err() {
                return Err(Farewell::Lost);
            }
            if leaves {
                return Err(Farewell::shutdown());
            }
        }
        End::Refused(report) => {
            exchange.finish(client);
            refuse(client, &report);
        }
        End::Elsewhere(code) => exchange.retreat(client, code),
        End::Lost(words) => exchange.bury(client, words.as_ref()).map_or(Ok(()), Err)?,
        End::Leave(farewell) => {
            if exchange.is_at_rest() {
                exchange.finish(client);
            } else {
                exchange.abandon(client);
            }
            return Err(farewell);
        }
    }
    Ok(())
}

/// Answers the request that stands in `carry` with an error.
fn refuse(client: &mut Client, report: &Report) {
    client.note_error(report.code);
    let refused = client.session.refuse(&client.carry, report, &mut client.owed);
    let here = refused.min(client.carry.len());
    client.skip += refused - here;
    client.carry.drain(..here);
}

/// Sends the last words, as far as the client takes them within a moment.
pub async fn say_farewell(client: &mut Client, farewell: &Farewell) {
    if let Farewell::Told(report) = farewell {
        report.encode(&mut client.owed);
        client.note_error(report.code);
        if let Some(limit) = farewell.time_limit() {
            client.pool.numbers().time_limits.count(limit);
        }
    }
    let last = async {
        if poll_fn(|cx| client.poll_flush(cx)).await.is_ok() {
            let _ = client.stream.shutdown().await;
        }
    };
    let _ = tokio::time::timeout(FAREWELL_MAX, last).await;
}

/// A client that does not read its last words is not waited for.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
