//! One client of the console: its socket, and its conversation until it leaves.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::timeout;

use crate::net::stream::Stream;
use crate::pool::seat::{Phase, Poke, Seat};
use crate::protocol::{Report, SqlState};
use crate::relay::farewell::Farewell;

use super::Console;
use super::command::{Command, Ending};
use super::session::{Access, Answer, Session, Turn};

/// A client that has logged in to the console.
#[derive(Debug)]
pub struct Visitor {
    stream: Stream,
    seat: Rc<Seat>,
    console: Arc<Console>,
    /// What has come and is not dealt with.
    carry: Vec<u8>,
    /// What is still to be sent.
    out: Vec<u8>,
}

impl Visitor {
    #[must_use]
    pub fn new(stream: Stream, seat: Rc<Seat>, console: &Arc<Console>, carry: Vec<u8>, out: Vec<u8>) -> Self {
        console.visitors.fetch_add(1, Ordering::Relaxed);
        Self {
            stream,
            seat,
            console: Arc::clone(console),
            carry,
            out,
        }
    }

    /// Serves the client until it leaves.
    pub async fn serve(mut self, access: Access) -> Farewell {
        let farewell = self.converse(access).await.unwrap_or_else(|farewell| farewell);
        if let Farewell::Told(report) = &farewell {
            report.encode(&mut self.out);
        }
        let last = async {
            if self.stream.write_all(&self.out).await.is_ok() {
                let _ = self.stream.shutdown().await;
            }
        };
        let _ = timeout(FAREWELL_MAX, last).await;
        farewell
    }

    async fn converse(&mut self, access: Access) -> Result<Farewell, Farewell> {
        let mut session = Session::new(access);
        loop {
            let (used, turn) = session
                .on_bytes(&self.carry, &mut self.out)
                .map_err(Farewell::Told)?;
            self.carry.drain(..used);
            match turn {
                Turn::Goodbye => return Ok(Farewell::Goodbye),
                Turn::Run(command) => {
                    let answer = self.run(&command).await?;
                    session.on_answer(answer, &mut self.out);
                    if self.out.len() > OUT_MAX {
                        self.flush().await?;
                    }
                }
                Turn::Read => {
                    self.flush().await?;
                    poll_fn(|cx| self.poll_more(cx)).await?;
                }
            }
        }
    }

    /// Runs a command, and listens to the client meanwhile.
    async fn run(&mut self, command: &Rc<Command>) -> Result<Result<Answer, Report>, Farewell> {
        if **command == Command::Shutdown(Ending::Now) {
            // The last moment to say something.
            if let Farewell::Told(report) = Farewell::shutdown() {
                report.encode(&mut self.out);
            }
            self.flush().await?;
        }
        let console = Arc::clone(&self.console);
        let now = console.hub.registry.clock.now();
        self.seat.request_at.set(now);
        let waits = matches!(**command, Command::Pause(_));
        if waits {
            self.seat.enter(Phase::Waiting, now);
        }
        let interrupted = tokio::select! {
            biased;
            answer = console.run(command) => Ok(answer),
            why = poll_fn(|cx| self.poll_interruption(cx)) => Err(why),
        };
        if waits {
            self.seat.enter(Phase::Idle, console.hub.registry.clock.now());
        }
        match interrupted {
            Ok(answer) => Ok(answer),
            Err(Interruption::Ends(farewell)) => Err(farewell),
            Err(Interruption::Cancelled) => {
                if let Command::Pause(database) = &**command {
                    let _ = console.resume(database.as_deref()).await;
                }
                Ok(Err(Report::error(
                    SqlState::QUERY_CANCELED,
                    "canceling statement due to user request",
                )))
            }
        }
    }

    /// Waits until there is more to deal with. Cancel-safe.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Farewell>> {
        self.seat.register(cx);
        if let Some(farewell) = self.on_poke() {
            return Poll::Ready(Err(farewell));
        }
        Poll::Ready(ready!(self.poll_read(cx)))
    }

    /// Waits for what ends a command before its time. Cancel-safe.
    fn poll_interruption(&mut self, cx: &mut Context<'_>) -> Poll<Interruption> {
        self.seat.register(cx);
        match self.seat.take_poke() {
            Some(Poke::Cancel) => return Poll::Ready(Interruption::Cancelled),
            Some(Poke::Kill) => return Poll::Ready(Interruption::Ends(Farewell::shutdown())),
            Some(Poke::Look | Poke::Renew | Poke::Deadline | Poke::Drain) | None => {}
        }
        while self.carry.len() < CARRY_MAX {
            if let Err(farewell) = ready!(self.poll_read(cx)) {
                return Poll::Ready(Interruption::Ends(farewell));
            }
        }
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Farewell>> {
        let mut buf = [0; READ_LEN];
        match ready!(self.stream.poll_read(cx, &mut buf)) {
            Ok(0) | Err(_) => Poll::Ready(Err(Farewell::Lost)),
            Ok(count) => {
                let more = u64::try_from(count).unwrap_or(0);
                self.console.received.fetch_add(more, Ordering::Relaxed);
                self.carry.extend_from_slice(buf.get(..count).unwrap_or_default());
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Sends what there is, unless the client is told to leave.
    async fn flush(&mut self) -> Result<(), Farewell> {
        let out = std::mem::take(&mut self.out);
        let mut sent = 0;
        poll_fn(|cx| {
            self.seat.register(cx);
            if let Some(farewell) = self.on_poke() {
                return Poll::Ready(Err(farewell));
            }
            while let Some(rest) = out.get(sent..).filter(|rest| !rest.is_empty()) {
                match ready!(self.stream.poll_write(cx, rest)) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(Farewell::Lost)),
                    Ok(count) => sent += count,
                }
            }
            Poll::Ready(ready!(self.stream.poll_flush(cx)).map_err(|_| Farewell::Lost))
        })
        .await?;
        let more = u64::try_from(out.len()).unwrap_or(0);
        self.console.sent.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    /// The console stays while the process drains: it is needed then.
    fn on_poke(&self) -> Option<Farewell> {
        match self.seat.take_poke() {
            Some(Poke::Kill) => Some(Farewell::shutdown()),
            Some(Poke::Look | Poke::Renew | Poke::Deadline | Poke::Cancel | Poke::Drain) | None => None,
        }
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.console.visitors.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a command is not waited for.
#[derive(Debug)]
enum Interruption {
    Cancelled,
    Ends(Farewell),
}

/// Answers to commands that were sent together are sent together, up to about this.
const OUT_MAX: usize = 64 * 1024;
const READ_LEN: usize = 1024;
/// What a client may send ahead while its command runs.
const CARRY_MAX: usize = 64 * 1024;
/// A client that does not read its last words is not waited for.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
