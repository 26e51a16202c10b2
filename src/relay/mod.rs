//! The path of a query. `serve` is the page to read first.

pub mod answers;
pub mod cancel;
pub mod client;
pub mod context;
pub mod directory;
pub mod exchange;
pub mod farewell;
pub mod handshake;
pub mod hub;
pub mod lookup;
mod lost;
pub mod wait;
pub mod welcome;

use std::future::poll_fn;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use crate::protocol::Report;

use client::{Client, Turn};
use exchange::{End, Exchange};
use farewell::Farewell;
use wait::Waited;

/// Serves a logged-in client until it leaves. `current` is the exchange it begins with: a replication client's own.
pub async fn serve(client: &mut Client, mut current: Option<Exchange>) -> Farewell {
    if current.is_none() {
        client.enter_idle(client.context.worker.now());
    }
    let farewell = loop {
        let turn = poll_fn(|cx| poll_turn(client, &mut current, cx)).await;
        let next = match (turn, current.take()) {
            (Happened::Ended(end), Some(exchange)) => conclude(client, exchange, end),
            (Happened::Turn(Turn::Leave(farewell)), _) => Err(farewell),
            (Happened::Turn(Turn::Wait), _) => Box::pin(wait_for_turn(client)).await,
            (Happened::Turn(Turn::Serve) | Happened::Ended(_), exchange) => Ok(exchange),
        };
        match next {
            Ok(exchange) => current = exchange,
            Err(farewell) => break farewell,
        }
    };
    say_farewell(client, &farewell).await;
    farewell
}

/// What `serve` has to deal with itself.
enum Happened {
    Turn(Turn),
    /// The exchange has ended otherwise than at rest.
    Ended(End),
}

/// From request to answer, and from answer to request, as long as nothing out of the ordinary happens.
fn poll_turn(
    client: &mut Client,
    current: &mut Option<Exchange>,
    cx: &mut TaskContext<'_>,
) -> Poll<Happened> {
    loop {
        if let Some(exchange) = current {
            match ready!(exchange.poll(client, cx)) {
                End::Rest => {
                    if let Some(exchange) = current.take() {
                        exchange.finish(client);
                    }
                }
                end => return Poll::Ready(Happened::Ended(end)),
            }
        }
        match ready!(client.poll_idle(current, cx)) {
            Turn::Serve => {}
            turn => return Poll::Ready(Happened::Turn(turn)),
        }
    }
}

/// Gets a waiting client its server connection; or refuses its request, so that it goes on without.
async fn wait_for_turn(client: &mut Client) -> Result<Option<Exchange>, Farewell> {
    match wait::wait(client).await {
        Waited::Leased(lease) => {
            let now = client.context.worker.now();
            let mut exchange = Exchange::begin(lease, client, now);
            match poll_fn(|cx| Poll::Ready(exchange.on_carry(client, cx))).await {
                Ok(()) => Ok(Some(exchange)),
                Err(farewell) => {
                    exchange.abandon(client);
                    Err(farewell)
                }
            }
        }
        Waited::Refused(report) => {
            refuse(client, &report);
            client.enter_idle(client.context.worker.now());
            Ok(None)
        }
        Waited::Leave(farewell) => Err(farewell),
    }
}

/// Ends an exchange that did not simply come to rest. An error ends the session.
fn conclude(client: &mut Client, mut exchange: Exchange, end: End) -> Result<Option<Exchange>, Farewell> {
    match end {
        End::Rest => exchange.finish(client),
        End::Refused(report) => {
            exchange.finish(client);
            refuse(client, &report);
        }
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
    Ok(None)
}

/// Answers the request that stands in `carry` with an error.
fn refuse(client: &mut Client, report: &Report) {
    let refused = client.session.refuse(&client.carry, report, &mut client.owed);
    let here = refused.min(client.carry.len());
    client.skip += refused - here;
    client.carry.drain(..here);
}

/// Sends the last words, as far as the client takes them within a moment.
pub async fn say_farewell(client: &mut Client, farewell: &Farewell) {
    if let Farewell::Told(report) = farewell {
        report.encode(&mut client.owed);
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
