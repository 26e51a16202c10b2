//! What is served over HTTP for those who watch the pooler: `/metrics`, `/health` and `/ready`.
//!
//! It has a thread of its own, and reads what the workers have written for themselves: nobody who asks here stands in the
//! way of a query.

mod answer;
mod health;
mod metrics;
mod page;
mod ready;
mod routing;

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread::Builder;
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::runtime::{Builder as RuntimeBuilder, LocalOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::net::listener::{Acceptor, Listener};
use crate::net::stream::{Socket, Stream};
use crate::relay::hub::Hub;

/// What every answer is made from.
#[derive(Debug)]
struct Site {
    hub: Arc<Hub>,
    readiness: ready::Readiness,
}

/// Serves on these sockets until the process ends.
///
/// # Errors
/// The system gives no thread.
pub fn spawn(hub: Arc<Hub>, listeners: Vec<Listener>) -> io::Result<()> {
    Builder::new().name("http".to_owned()).spawn(move || {
        if let Err(error) = run(hub, listeners) {
            tracing::error!("metrics and health are not served any more: {error}");
        }
    })?;
    Ok(())
}

fn run(hub: Arc<Hub>, listeners: Vec<Listener>) -> io::Result<()> {
    let runtime = RuntimeBuilder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let site = Rc::new(Site {
            hub,
            readiness: ready::Readiness::default(),
        });
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut own = JoinSet::new();
        own.spawn_local(ready::watch(Rc::clone(&site)));
        for listener in listeners {
            own.spawn_local(accept(
                Rc::clone(&site),
                Acceptor::new(listener)?,
                Arc::clone(&room),
            ));
        }
        match own.join_next().await {
            Some(Ok(error)) => Err(error),
            Some(Err(panic)) => Err(io::Error::other(panic)),
            None => Ok(()),
        }
    })
}

/// Accepts while there is room; who comes then waits in the kernel's queue. Returns why it cannot go on.
async fn accept(site: Rc<Site>, mut acceptor: Acceptor, room: Arc<Semaphore>) -> io::Error {
    loop {
        let permit = match Arc::clone(&room).acquire_owned().await {
            Ok(permit) => permit,
            Err(closed) => return io::Error::other(closed),
        };
        match acceptor.accept().await {
            Ok((socket, _)) => _ = tokio::task::spawn_local(serve(Rc::clone(&site), socket, permit)),
            Err(error) => return error,
        }
    }
}

/// Answers one request.
async fn serve(site: Rc<Site>, mut socket: Socket, _permit: OwnedSemaphorePermit) {
    if socket.unpark().is_err() {
        return;
    }
    let service = service_fn(|request| {
        let site = Rc::clone(&site);
        async move { Ok::<_, Infallible>(answer::answer(&site, &request).await) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .half_close(true)
        .max_buf_size(REQUEST_LEN_MAX)
        .serve_connection(Wire(Stream::from(socket)), service);
    // What went wrong is the business of whoever has asked.
    let _ = timeout(REQUEST_MAX, connection).await;
}

/// A stream as the HTTP library wants it.
struct Wire(Stream);

impl Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut room: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut chunk = [0; CHUNK_LEN];
        let len = room.remaining().min(CHUNK_LEN);
        let chunk = chunk.get_mut(..len).unwrap_or_default();
        let count = ready!(self.get_mut().0.poll_read(cx, chunk))?;
        room.put_slice(chunk.get(..count).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().0.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().0.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().0.poll_shutdown(cx)
    }
}

/// Several scrapers and probes at once; more wait until one of them is done.
const CONNECTIONS_MAX: usize = 32;
/// From accepting to the last byte: as long as Prometheus waits by default. Nobody holds a connection for longer.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// Line and headers of a request: those of a scraper take less than 1 kB.
const REQUEST_LEN_MAX: usize = 16 * 1024;
/// A request usually comes in one piece.
const CHUNK_LEN: usize = 2048;
/// Threads for looking up names and deriving keys.
const BLOCKING_THREADS_MAX: usize = 2;
