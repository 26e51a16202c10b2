//! The path of a query. `serve` is the page to read first.

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
use std::time::Duration;

use crate::protocol::Report;

use client::{Client, Turn};
use exchange::{End, Exchange};
use farewell::Farewell;
use wait::Waited;

/// Serves a logged-in client until it leaves.
pub async fn serve(client: &mut Client) -> Farewell {
    client.enter_idle(client.context.worker.now());
    let farewell = loop {
        let exchange = match poll_fn(|cx| client.poll_idle(cx)).await {
            Turn::Serve(exchange) => exchange,
            Turn::Wait => match wait_for_turn(client).await {
                Ok(Some(exchange)) => exchange,
                Ok(None) => continue,
                Err(farewell) => break farewell,
            },
            Turn::Leave(farewell) => break farewell,
        };
        if let Some(farewell) = run(client, exchange).await {
            break farewell;
        }
    };
    say_farewell(client, &farewell).await;
    farewell
}

/// Serves a client that has a server connection of its own, until it leaves.
pub async fn serve_own(client: &mut Client, exchange: Exchange) -> Farewell {
    let farewell = run(client, exchange).await.unwrap_or(Farewell::Goodbye);
    say_farewell(client, &farewell).await;
    farewell
}

/// Gets a waiting client its server connection; or refuses its request, so that it goes on without.
async fn wait_for_turn(client: &mut Client) -> Result<Option<Exchange>, Farewell> {
    match wait::wait(client).await {
        Waited::Leased(lease) => {
            let now = client.context.worker.now();
            let mut exchange = Exchange::begin(lease, client, now);
            let begun = poll_fn(|cx| std::task::Poll::Ready(exchange.on_carry(client, cx))).await;
            match begun {
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

/// Runs an exchange to its end. `None`: the client goes on.
async fn run(client: &mut Client, mut exchange: Exchange) -> Option<Farewell> {
    match poll_fn(|cx| exchange.poll(client, cx)).await {
        End::Rest => {
            exchange.finish(client);
            None
        }
        End::Refused(report) => {
            exchange.finish(client);
            refuse(client, &report);
            None
        }
        End::Lost(words) => exchange.bury(client, words.as_ref()),
        End::Leave(farewell) if exchange.is_at_rest() => {
            exchange.finish(client);
            Some(farewell)
        }
        End::Leave(farewell) => {
            exchange.abandon(client);
            Some(farewell)
        }
    }
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
