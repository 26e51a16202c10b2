//! A logged-in client: its socket, its session, and what is owed to it.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use crate::net::stream::Stream;
use crate::pool::clock;
use crate::pool::conn::ServerInfo;
use crate::pool::local::LocalPool;
use crate::pool::registry::Admission;
use crate::pool::seat::{Phase, Poke, Seat};
use crate::pool::settings::{PoolMode, PoolSettings};
use crate::pool::worker::Worker;
use crate::protocol::{Report, SqlState, TransactionState};
use crate::session::client::{Begins, Block, Wants};
use crate::session::settings::APPLICATION_NAME;
use crate::session::{ClientSession, Outbox, question};

use super::Current;
use super::context::{Context, Scratch};
use super::ears::{self, Ears};
use super::exchange::Exchange;
use super::farewell::Farewell;
use super::lookout::Lookout;
use super::memory;
use super::planning::Planning;
use super::route::Routing;
use super::vacancy::Vigil;
use super::way::Found;

/// A client between its login and its goodbye. Owns no buffer while it is idle.
#[derive(Debug)]
pub struct Client {
    pub stream: Stream,
    pub session: ClientSession,
    pub seat: Rc<Seat>,
    pub context: Rc<Context>,
    pub pool: Rc<LocalPool>,
    pub settings: Settings,
    /// Bytes that have come and are not dealt with.
    pub carry: Vec<u8>,
    /// Bytes of a message still to come that are passed over.
    pub skip: usize,
    /// Bytes that the client's socket did not take yet.
    pub owed: Vec<u8>,
    /// An error that the client is told with its next request: its server was lost while it was silent.
    pub pending: Option<Box<Report>>,
    /// When the block began that no server knows of; microseconds on the clock.
    pub begun_at: u64,
    /// What it listens to, if somebody else listens for it. In a box: most clients never listen.
    pub ears: Option<Box<Ears>>,
    /// Where its batches go, if there is a choice. In a box: mostly there is none.
    pub routing: Option<Box<Routing>>,
    /// The server that was used last, where there is no choice.
    pub last: Option<Arc<ServerInfo>>,
    /// A replication connection: it keeps its server connection, which is its own from the start.
    pub is_replication: bool,
}

/// A copy of what is set for clients of a user at a database.
#[derive(Debug)]
pub struct Settings {
    /// Counts the client in where the settings are from.
    admission: Admission,
    copy: Arc<PoolSettings>,
    /// The worker's generation when the copy was made.
    generation: u32,
}

impl Settings {
    #[must_use]
    pub fn new(admission: Admission, worker: &Worker) -> Self {
        let copy = admission.profile.settings.load_full();
        Self {
            admission,
            copy,
            generation: worker.generation(),
        }
    }
}

/// What asking for a server comes to.
enum Asked {
    Turn(Turn),
    /// The end of the batch has not come.
    Cut,
    Refused(Box<Report>),
}

/// What an idle client's turn comes to.
#[derive(Debug)]
pub enum Turn {
    /// It has asked for something, and a server connection is at work for it.
    Serve,
    /// It has asked for something (that is in `carry`), and has to wait for a connection of this pool.
    Wait(Rc<LocalPool>),
    /// It has asked for something (that is in `carry`) of which nobody knows yet where it goes.
    Plan(Planning),
    /// It has asked for something (that is in `carry`), and there is no primary.
    Await(Vigil),
    /// It reads (that is in `carry`), and stands by for a moment.
    StandBy(Lookout),
    Leave(Farewell),
}

impl Client {
    /// Waits for the client's next request. Holds nothing across a wait: cancel-safe.
    ///
    /// The exchange that comes of it is put into `begun`.
    pub fn poll_idle(&mut self, begun: &mut Current, cx: &mut TaskContext<'_>) -> Poll<Turn> {
        self.seat.register(cx);
        if let Some(poke) = self.seat.take_poke()
            && let Some(farewell) = self.on_idle_poke(poke)
        {
            return Poll::Ready(Turn::Leave(farewell));
        }
        if let Err(farewell) = self.hear(cx) {
            return Poll::Ready(Turn::Leave(farewell));
        }
        let context = Rc::clone(&self.context);
        let Scratch { read, out } = &mut *context.scratch.borrow_mut();
        if !self.carry.is_empty() {
            // What came behind the last request; or the beginning of a message.
            let input = std::mem::take(&mut self.carry);
            if let Some(turn) = self.on_input(&input, begun, out, cx) {
                return Poll::Ready(turn);
            }
        }
        loop {
            if self.owes() && ready!(self.poll_flush(cx)).is_err() {
                return Poll::Ready(Turn::Leave(Farewell::Lost));
            }
            match self.hear(cx) {
                Ok(false) => {}
                Ok(true) => continue,
                Err(farewell) => return Poll::Ready(Turn::Leave(farewell)),
            }
            let count = match ready!(self.stream.poll_read(cx, read)) {
                Ok(0) | Err(_) => return Poll::Ready(Turn::Leave(Farewell::Lost)),
                Ok(count) => count,
            };
            self.note_received(count);
            let came = read.get(..count).unwrap_or_default();
            let turn = if self.carry.is_empty() {
                self.on_input(came, begun, out, cx)
            } else {
                let mut input = std::mem::take(&mut self.carry);
                input.extend_from_slice(came);
                self.on_input(&input, begun, out, cx)
            };
            if let Some(turn) = turn {
                return Poll::Ready(turn);
            }
        }
    }

    /// Takes up what was notified, as far as the client may be told now. Says whether there was something.
    fn hear(&mut self, cx: &TaskContext<'_>) -> Result<bool, Farewell> {
        if self.ears.is_none() {
            return Ok(false);
        }
        ears::hear(self, self.session.may_be_notified(), cx)
    }

    /// What is set for it, now.
    pub fn settings(&mut self) -> &PoolSettings {
        let generation = self.context.worker.generation();
        if self.settings.generation != generation {
            self.settings.copy = self.settings.admission.profile.settings.load_full();
            self.settings.generation = generation;
        }
        &self.settings.copy
    }

    fn on_idle_poke(&mut self, poke: Poke) -> Option<Farewell> {
        match poke {
            Poke::Look | Poke::Cancel => None,
            Poke::Renew => {
                let now = self.context.worker.now();
                self.set_idle_deadline(now);
                None
            }
            Poke::Deadline => self.on_idle_deadline(),
            // It is in a transaction, which may end as any other. The poke stays, and stands for any other.
            Poke::Drain if self.session.is_begun() => self.on_idle_deadline(),
            Poke::Drain | Poke::Kill => Some(Farewell::shutdown()),
        }
    }

    fn on_idle_deadline(&mut self) -> Option<Farewell> {
        let now = self.context.worker.now();
        if !self.seat.is_due(now) {
            return None;
        }
        if !self.session.is_begun() {
            return Some(Farewell::idle());
        }
        let longest = self.settings().transaction_timeout;
        let is_too_long = !longest.is_zero() && clock::deadline(self.begun_at, longest) <= now;
        Some(if is_too_long {
            Farewell::transaction_too_long()
        } else {
            Farewell::idle_in_transaction()
        })
    }

    /// Deals with what has come; what it leaves over is in `carry` (which is empty before).
    fn on_input(
        &mut self,
        input: &[u8],
        begun: &mut Current,
        out: &mut Outbox,
        cx: &mut TaskContext<'_>,
    ) -> Option<Turn> {
        let mut at = self.pass_over(input.len());
        let begins = self.begins();
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let was_begun = self.session.is_begun();
            out.reset();
            let idle = self.session.on_idle(rest, begins, out.make(&[]));
            if !out.is_empty() && self.answer(out.bytes(&[]), cx).is_err() {
                return Some(Turn::Leave(Farewell::Lost));
            }
            let idle = match idle {
                Ok(idle) => idle,
                Err(error) => return Some(Turn::Leave(Farewell::Told(Report::from(&error)))),
            };
            if self.session.is_begun() != was_begun
                && let Some(farewell) = self.on_block_changed()
            {
                return Some(Turn::Leave(farewell));
            }
            at = self.advance(at, idle.consumed, input.len());
            let rest = input.get(at..).unwrap_or_default();
            match idle.wants {
                Wants::Nothing => {
                    self.carry.extend_from_slice(rest);
                    return None;
                }
                Wants::Goodbye => return Some(Turn::Leave(Farewell::Goodbye)),
                Wants::Server => {}
            }
            let may_be_question = self.session.may_be_question(rest);
            let told = match self.session.block {
                _ if !may_be_question => 0,
                Block::None => self.tell_route(rest, TransactionState::Idle),
                Block::Begun(_) => self.tell_route(rest, TransactionState::InBlock),
                // Nothing is told in a block that has failed.
                Block::Failed => 0,
            };
            if told > 0 {
                at += told;
                continue;
            }
            if may_be_question && let Some((mut asked, len)) = question::position(rest) {
                asked.extend_from_slice(rest.get(len..).unwrap_or_default());
                return self.on_input(&asked, begun, out, cx);
            }
            let report = match self.pending.take() {
                Some(report) => report,
                None if self.context.memory.is_short() => Box::new(memory::shortage()),
                None => match self.ask(rest, begun, out, cx) {
                    Asked::Turn(turn) => return Some(turn),
                    Asked::Cut => {
                        self.carry.extend_from_slice(rest);
                        // What has come is the beginning of a request.
                        let now = self.context.worker.now();
                        self.set_idle_deadline(now);
                        return None;
                    }
                    Asked::Refused(report) => report,
                },
            };
            self.note_error(report.code);
            let refused = self.session.refuse(rest, &report, &mut self.owed);
            at = self.advance(at, refused, input.len());
        }
    }

    /// Where it begins blocks and ends them. An error that it is owed comes first.
    fn begins(&mut self) -> Begins {
        let is_pooled = !self.is_replication && self.settings().pool_mode == PoolMode::Transaction;
        if is_pooled && self.pending.is_none() {
            Begins::Here
        } else {
            Begins::AtServer
        }
    }

    /// It has begun a block that no server knows of, or ended it.
    fn on_block_changed(&mut self) -> Option<Farewell> {
        let now = self.context.worker.now();
        self.begun_at = now;
        self.seat.request_at.set(now);
        self.set_idle_deadline(now);
        (!self.session.is_begun() && self.seat.is_leaving()).then(Farewell::shutdown)
    }

    /// Answers without a server.
    fn answer(&mut self, bytes: &[u8], cx: &mut TaskContext<'_>) -> io::Result<()> {
        if self.owes() {
            self.owed.extend_from_slice(bytes);
            return Ok(());
        }
        self.send(cx, bytes)
    }

    /// The client needs a server connection for what stands next.
    fn ask(
        &mut self,
        input: &[u8],
        begun: &mut Current,
        out: &mut Outbox,
        cx: &mut TaskContext<'_>,
    ) -> Asked {
        let now = self.context.worker.about_now();
        self.seat.request_at.set(now);
        let found = if self.routing.is_some() {
            self.find_way(input, cx)
        } else {
            Found::Pool(Rc::clone(&self.pool))
        };
        let lease = match found {
            Found::Pool(pool) => match pool.try_lease() {
                Some(lease) => match self.examine(lease) {
                    Ok(lease) => lease,
                    Err(None) => return self.ask(input, begun, out, cx),
                    Err(Some(Ok(vigil))) => return self.stand_back(input, Turn::Await(vigil)),
                    Err(Some(Err(report))) => return Asked::Refused(Box::new(report)),
                },
                None => return self.stand_back(input, Turn::Wait(pool)),
            },
            Found::Cut => return Asked::Cut,
            Found::Unplanned(planning) => return self.stand_back(input, Turn::Plan(planning)),
            Found::Soon(lookout) => return self.stand_back(input, Turn::StandBy(lookout)),
            Found::Vacant(vigil) => return self.stand_back(input, Turn::Await(vigil)),
            Found::Nobody(report) => return Asked::Refused(report),
        };
        self.pool.numbers().durations.wait.observe_nothing();
        let mut exchange = Exchange::begin(lease, self, now);
        Asked::Turn(match exchange.on_client_input(self, input, out, cx) {
            Ok(consumed) => {
                self.carry
                    .extend_from_slice(input.get(consumed..).unwrap_or_default());
                *begun = Current::Serving(exchange);
                Turn::Serve
            }
            Err(farewell) => {
                exchange.abandon(self);
                Turn::Leave(farewell)
            }
        })
    }

    /// Keeps the input for later.
    fn stand_back(&mut self, input: &[u8], turn: Turn) -> Asked {
        self.carry = self.context.take_spare();
        self.carry.extend_from_slice(input);
        Asked::Turn(turn)
    }

    /// How much of an input of this length is the rest of a message that is passed over.
    pub fn pass_over(&mut self, len: usize) -> usize {
        let skipped = self.skip.min(len);
        self.skip -= skipped;
        skipped
    }

    /// Moves on in an input; what lies beyond its end is passed over when it comes.
    fn advance(&mut self, at: usize, count: usize, len: usize) -> usize {
        let end = at + count;
        self.skip += end.saturating_sub(len);
        end.min(len)
    }

    /// Reads more behind what is in `carry`. 0 is the end.
    pub fn poll_read_more(&mut self, cx: &mut TaskContext<'_>) -> Poll<io::Result<usize>> {
        let context = Rc::clone(&self.context);
        let read = &mut context.scratch.borrow_mut().read;
        let count = ready!(self.stream.poll_read(cx, read))?;
        self.note_received(count);
        self.carry
            .extend_from_slice(read.get(..count).unwrap_or_default());
        Poll::Ready(Ok(count))
    }

    /// Whether something was said to the client that its socket did not take yet.
    #[must_use]
    pub fn owes(&self) -> bool {
        !self.owed.is_empty() || self.stream.holds_back()
    }

    /// Writes what is owed.
    pub fn poll_flush(&mut self, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        while !self.owed.is_empty() {
            let count = ready!(self.stream.poll_write(cx, &self.owed))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.owed.drain(..count);
        }
        self.owed = Vec::new();
        self.stream.poll_flush(cx)
    }

    /// Writes to the client what fits; the rest is owed, behind what is owed already.
    pub fn send(&mut self, cx: &mut TaskContext<'_>, bytes: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        while self.owed.is_empty()
            && let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty())
        {
            match self.stream.poll_write(cx, rest)? {
                Poll::Pending => break,
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => sent += count,
            }
        }
        self.owed.extend_from_slice(bytes.get(sent..).unwrap_or_default());
        if self.owed.is_empty() && self.stream.is_tls() {
            let _ = self.stream.poll_flush(cx)?;
        }
        Ok(())
    }

    /// Sends what the worker's buffers hold for the client, made of the first `count` bytes that were read.
    pub fn send_read(&mut self, count: usize, cx: &mut TaskContext<'_>) -> io::Result<()> {
        let context = Rc::clone(&self.context);
        let Scratch { read, out } = &mut *context.scratch.borrow_mut();
        self.send(cx, out.bytes(read.get(..count).unwrap_or_default()))
    }

    /// From now on the client is idle, and its idle timeout runs.
    pub fn enter_idle(&mut self, now: u64) {
        self.seat.enter(Phase::Idle, now);
        self.set_idle_deadline(now);
    }

    fn set_idle_deadline(&mut self, now: u64) {
        let (is_begun, begun_at) = (self.session.is_begun(), self.begun_at);
        let settings = self.settings();
        let deadline = if is_begun {
            let idle = clock::deadline(now, settings.idle_transaction_timeout);
            clock::earlier(idle, clock::deadline(begun_at, settings.transaction_timeout))
        } else {
            clock::deadline(now, settings.client_idle_timeout)
        };
        self.seat.deadline.set(deadline);
    }

    /// What others see of it is its `application_name` of now.
    pub(super) fn show_application_name(&self) {
        let name = self.session.settings.value(APPLICATION_NAME);
        *self.seat.application_name.borrow_mut() = name.unwrap_or_default().into();
    }

    /// The client is told an error.
    pub(super) fn note_error(&self, code: SqlState) {
        self.pool.numbers().errors.count(code);
    }

    fn note_received(&self, count: usize) {
        crate::pool::shared::add(
            &self.pool.numbers().stats.received,
            u64::try_from(count).unwrap_or(0),
        );
    }
}
