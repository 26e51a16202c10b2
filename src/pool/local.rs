//! One worker's part of a pool: its idle connections and its queue.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use crossbeam::utils::CachePadded;

use crate::session::screen::Pins;
use crate::session::{Hygiene, Rest};

use super::clock::micros;
use super::conn::{ServerConn, ServerInfo};
use super::ledger::Full;
use super::mail::Mail;
use super::seat::{Grant, Seat};
use super::settings::PoolSettings;
use super::shared::{Cell as Numbers, PoolShared, add};
use super::worker::Worker;
use super::{connect, lease::Lease, reset};

/// The part of a pool that lives on one worker. Nothing here is locked: only that worker's thread comes by.
#[derive(Debug)]
pub struct LocalPool {
    pub shared: Arc<PoolShared>,
    pub worker: Rc<Worker>,
    settings: RefCell<Arc<PoolSettings>>,
    numbers: Arc<CachePadded<Numbers>>,
    /// The one used last is used next, so that what is not needed grows old.
    #[expect(
        clippy::vec_box,
        reason = "a connection moves between this, leases and workers; the box is all that moves"
    )]
    idle: RefCell<Vec<Box<ServerConn>>>,
    /// First come, first served.
    waiters: RefCell<VecDeque<Rc<Seat>>>,
    connecting: Cell<u32>,
    /// Being made ready for the next client.
    pub(super) tested: RefCell<Vec<Arc<ServerInfo>>>,
    /// Connections that other workers were asked for, and that have not answered.
    asked: Cell<u32>,
    /// When one was asked for last; microseconds on the worker's clock.
    asked_at: Cell<u64>,
}

impl LocalPool {
    #[must_use]
    pub fn new(shared: Arc<PoolShared>, worker: Rc<Worker>) -> Rc<Self> {
        Rc::new(Self {
            settings: RefCell::new(shared.settings()),
            numbers: shared.cell(worker.index),
            shared,
            worker,
            idle: RefCell::default(),
            waiters: RefCell::default(),
            connecting: Cell::new(0),
            tested: RefCell::default(),
            asked: Cell::new(0),
            asked_at: Cell::new(0),
        })
    }

    #[must_use]
    pub fn settings(&self) -> Arc<PoolSettings> {
        Arc::clone(&self.settings.borrow())
    }

    /// This worker's numbers.
    pub fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// A client's reasons to keep its server connection are others now.
    #[inline]
    pub fn pin(&self, seat: &Seat, pins: Pins) {
        let before = seat.pins.get();
        if before != pins {
            seat.pin(pins, self.worker.now());
            self.numbers.pins.change(before, pins);
        }
    }

    /// Whether there is nothing to look after.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let keeps_minimum = self.settings.borrow().min_pool_size > 0 && !self.shared.is_retired();
        !keeps_minimum
            && self.idle.borrow().is_empty()
            && self.waiters.borrow().is_empty()
            && self.connecting.get() == 0
    }

    /// Whether one more client would be served without another having to end: a connection is idle, or may be opened.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let is_idle_here = !self.idle.borrow().is_empty() && self.waiters.borrow().is_empty();
        is_idle_here || self.shared.has_room() || self.shared.has_spare()
    }

    /// A connection, if one is idle here and nobody waits for it.
    pub fn try_lease(self: &Rc<Self>) -> Option<Lease> {
        if self.shared.is_paused() || !self.waiters.borrow().is_empty() {
            return None;
        }
        loop {
            let mut conn = self.unshelve()?;
            if self.is_stale(&conn, self.worker.recent()) {
                conn.close();
                continue;
            }
            if !self.is_informed(&mut conn) {
                reset::spawn(self, conn);
                continue;
            }
            if conn.is_quiet() {
                return Some(self.lease(conn));
            }
            match conn.poll_idle(&mut self.worker.idle_context()) {
                Poll::Pending => return Some(self.lease(conn)),
                Poll::Ready(broken) => self.lost_idle(conn, &broken),
            }
        }
    }

    /// Makes a lease of a connection that was granted.
    pub fn lease(self: &Rc<Self>, conn: Box<ServerConn>) -> Lease {
        add(&self.numbers().stats.leases, 1);
        Lease::new(conn, Rc::clone(self))
    }

    /// Puts a client into the queue, and does what can be done to serve it. Its seat is granted a connection or refused.
    pub fn enqueue(self: &Rc<Self>, seat: &Rc<Seat>) {
        self.waiters.borrow_mut().push_back(Rc::clone(seat));
        seat.queued.set(true);
        self.shared.starving().enter();
        self.note_waiters();
        self.recheck();
    }

    /// Takes a client out of the queue, wherever it stands.
    pub fn dequeue(self: &Rc<Self>, seat: &Seat) {
        if seat.queued.replace(false) {
            let mut waiters = self.waiters.borrow_mut();
            // Mostly the first, as it is the oldest whose time is over.
            if waiters.front().is_some_and(|first| first.id == seat.id) {
                waiters.pop_front();
            } else {
                waiters.retain(|waiter| waiter.id != seat.id);
            }
            drop(waiters);
            self.shared.starving().leave();
            self.note_waiters();
        }
        // It may have been served at the same moment.
        if let Some(Grant::Conn(conn)) = seat.take_grant() {
            self.pass_on(conn);
        }
    }

    /// Serves whoever waits: with an idle connection, a new one, or one from another worker.
    pub fn recheck(self: &Rc<Self>) {
        if !Arc::ptr_eq(&self.settings.borrow(), &self.shared.settings()) {
            self.settings.replace(self.shared.settings());
        }
        if self.shared.is_paused() {
            self.close_idle();
            return;
        }
        while !self.waiters.borrow().is_empty() {
            let Some(conn) = self.unshelve() else { break };
            self.accept(conn);
        }
        self.grow();
    }

    /// Time has passed: an answer that has not come for so long is not waited for.
    pub fn on_tick(self: &Rc<Self>, now: u64) {
        if self.asked_at.get() + micros(LOAN_MAX) <= now {
            self.asked.set(0);
        }
        self.recheck();
    }

    /// Takes back a connection that is proven to be at rest.
    pub fn give_back(self: &Rc<Self>, mut conn: Box<ServerConn>, rest: &Rest) {
        if rest.server() != conn.state.id {
            return;
        }
        let unsettled = !conn.info.cancels.is_settled();
        if conn.info.cancels.is_in_doubt() {
            return conn.close();
        }
        if self.shared.catalog.is_ahead_of(&conn.state) {
            // Its client may have used a function of which nothing was known.
            conn.state.hygiene = conn.state.hygiene.worsen(Hygiene::Tainted);
        }
        match conn.state.hygiene {
            Hygiene::Clean if !unsettled && !self.shared.catalog.claim_look(self.worker.recent()) => {
                self.accept(conn)
            }
            Hygiene::Clean | Hygiene::Tainted => reset::spawn(self, conn),
            Hygiene::Unfit => conn.close(),
        }
    }

    /// Takes in a connection that is at rest and clean: an old one again, a new one, one from another worker.
    #[inline(always)]
    pub fn accept(self: &Rc<Self>, conn: Box<ServerConn>) {
        if self.is_stale(&conn, self.worker.recent()) || self.shared.is_over(&self.settings.borrow()) {
            conn.close();
            self.grow();
            return;
        }
        self.pass_on(conn);
    }

    /// Gives a connection to who has waited longest, here or, if much longer, elsewhere; or keeps it idle.
    #[inline(always)]
    fn pass_on(self: &Rc<Self>, conn: Box<ServerConn>) {
        if self.shared.is_paused() {
            conn.close();
            return;
        }
        let here = self.waiters.borrow().front().map(|seat| seat.since.get());
        let Some((worker, since)) = self.shared.oldest_elsewhere(self.worker.index) else {
            return self.keep(conn);
        };
        let overtaken = here.is_none_or(|here| since + micros(OVERTAKING_MAX) < here);
        if overtaken {
            self.lend(conn, worker)
        } else {
            self.keep(conn)
        }
    }

    #[inline]
    fn keep(self: &Rc<Self>, mut conn: Box<ServerConn>) {
        if self.waiters.borrow().is_empty() {
            return self.put_idle(conn);
        }
        if !self.is_informed(&mut conn) {
            return reset::spawn(self, conn);
        }
        if !conn.is_quiet()
            && let Poll::Ready(broken) = conn.poll_idle(&mut self.worker.idle_context())
        {
            self.lost_idle(conn, &broken);
            return self.grow();
        }
        let next = self.waiters.borrow_mut().pop_front();
        if let Some(seat) = next {
            seat.queued.set(false);
            self.shared.starving().leave();
            self.note_waiters();
            seat.grant(Grant::Conn(conn));
        }
    }

    #[inline(always)]
    fn put_idle(self: &Rc<Self>, conn: Box<ServerConn>) {
        self.shelve(conn);
        // Somebody may have begun to wait elsewhere while this was going on: both sides write first and look then.
        if let Some((worker, _)) = self.shared.oldest_elsewhere(self.worker.index)
            && let Some(conn) = self.unshelve()
        {
            self.lend(conn, worker);
        }
    }

    #[inline(always)]
    fn shelve(&self, mut conn: Box<ServerConn>) {
        conn.idle_since = self.worker.recent();
        // One that stays idle is watched from the next look around on: watching each for microseconds would cost every query.
        self.idle.borrow_mut().push(conn);
        count(&self.numbers().idle, 1);
    }

    fn unshelve(&self) -> Option<Box<ServerConn>> {
        let conn = self.idle.borrow_mut().pop()?;
        count(&self.numbers().idle, -1);
        Some(conn)
    }

    /// Another worker asks for an idle connection. It waits for the answer, whatever that is.
    pub fn on_lend(self: &Rc<Self>, worker: usize) {
        let is_spare = self.waiters.borrow().is_empty();
        let conn = if is_spare { self.unshelve() } else { None };
        // If it does not fit into that worker's box, nobody waits for it longer than `LOAN_MAX`.
        let parked = conn.and_then(|mut conn| conn.stream.park().is_ok().then_some(conn));
        self.send(worker, Mail::Loan(Arc::clone(&self.shared), parked));
    }

    fn lend(self: &Rc<Self>, mut conn: Box<ServerConn>, worker: usize) {
        if conn.stream.park().is_ok() {
            self.send(worker, Mail::Conn(Arc::clone(&self.shared), conn));
        }
    }

    /// Sends a parked connection, or keeps it.
    fn send(self: &Rc<Self>, worker: usize, letter: Mail) {
        if let Err(Mail::Conn(_, mut conn) | Mail::Loan(_, Some(mut conn))) =
            self.worker.post.try_send(worker, letter)
            && conn.stream.unpark().is_ok()
        {
            if self.waiters.borrow().is_empty() {
                // That worker's box is full. Its clients ask for it at their next tick.
                self.shelve(conn);
            } else {
                self.keep(conn);
            }
        }
    }

    /// A connection has come from another worker.
    pub fn on_conn(self: &Rc<Self>, mut conn: Box<ServerConn>) {
        if conn.stream.unpark().is_ok() {
            self.accept(conn);
        }
        // If it is of no use, or went on to somebody who has waited longer, those who wait here need another.
        self.recheck();
    }

    /// Another worker has answered: it lends a connection, or has none.
    pub fn on_loan(self: &Rc<Self>, conn: Option<Box<ServerConn>>) {
        self.asked.set(self.asked.get().saturating_sub(1));
        match conn {
            Some(conn) => self.on_conn(conn),
            None => self.recheck(),
        }
    }

    /// Opens connections for those who wait, several at once; asks other workers when the limit is reached.
    fn grow(self: &Rc<Self>) {
        let waiting = u32::try_from(self.waiters.borrow().len()).unwrap_or(u32::MAX);
        if waiting == 0 {
            return;
        }
        if self.asked.get() < waiting
            && let Some(worker) = self.shared.idle_elsewhere(self.worker.index)
        {
            let lend = Mail::Lend {
                pool: Arc::clone(&self.shared),
                to: self.worker.index,
            };
            if self.worker.post.try_send(worker, lend).is_ok() {
                self.asked.set(self.asked.get() + 1);
                self.asked_at.set(self.worker.recent());
            }
        }
        // While logins fail, one is enough to find out whether they still do. What may be lent need not be opened: if it has
        // been taken meanwhile, the answer says so.
        let most = if self.shared.is_failing() {
            1
        } else {
            CONNECTING_MAX
        };
        let coming = self.asked.get() + self.soon_clean();
        let wanted = waiting.saturating_sub(coming).min(most);
        while self.connecting.get() < wanted && self.shared.may_connect() {
            match self.shared.try_open(self.is_reserve_due()) {
                Ok(slot) => connect::spawn(self, slot),
                Err(Full::Pool) => return,
                Err(Full::Database | Full::User) => return self.ask_to_evict(),
            }
        }
    }

    /// Connections that are being made ready for the next client: mostly that takes a round trip, and opening one takes many.
    /// Who has waited for long does not wait for them.
    fn soon_clean(&self) -> u32 {
        let waiters = self.waiters.borrow();
        let is_recent = |seat: &Rc<Seat>| self.worker.recent() < seat.since.get() + micros(CLEANING_MAX);
        if waiters.front().is_some_and(is_recent) {
            u32::try_from(self.tested.borrow().len()).unwrap_or(0)
        } else {
            0
        }
    }

    /// Keeps `min_pool_size` connections open.
    fn keep_minimum(self: &Rc<Self>) {
        let minimum = self.settings.borrow().min_pool_size;
        while self.shared.open() < minimum
            && self.connecting.get() < CONNECTING_MAX
            && self.shared.may_connect()
        {
            let Ok(slot) = self.shared.try_open_minimum() else {
                return;
            };
            connect::spawn(self, slot);
        }
    }

    fn is_reserve_due(&self) -> bool {
        let settings = self.settings.borrow();
        let since = self.waiters.borrow().front().map(|seat| seat.since.get());
        let timeout = micros(settings.reserve_pool_timeout);
        settings.reserve_pool_size > 0
            && since.is_some_and(|since| since + timeout <= self.shared.clock.now())
    }

    /// A limit that several pools share is reached: connections that are idle elsewhere make room.
    pub(super) fn ask_to_evict(&self) {
        for worker in 0..self.worker.post.workers() {
            let _ = self.worker.post.try_send(
                worker,
                Mail::Evict {
                    pool: Arc::clone(&self.shared),
                },
            );
        }
    }

    /// Closes the connection that has been idle longest, to make room for another pool.
    pub fn evict(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        let minimum = self.settings.borrow().min_pool_size;
        if idle.is_empty() || self.shared.open() <= minimum {
            return false;
        }
        let conn = idle.remove(0);
        drop(idle);
        count(&self.numbers().idle, -1);
        conn.close();
        true
    }

    pub fn connecting(&self, more: i32) {
        self.connecting
            .set(self.connecting.get().saturating_add_signed(more));
        count(&self.numbers().connecting, more);
    }

    /// A login has failed. If the pool has no other connection, those who wait need not wait any longer.
    pub fn on_connect_failed(self: &Rc<Self>, report: &crate::protocol::Report, is_passing: bool) {
        self.shared.on_failure(report.clone());
        if is_passing || self.shared.established() > 0 {
            return;
        }
        let waiters = std::mem::take(&mut *self.waiters.borrow_mut());
        for seat in waiters {
            self.shared.starving().leave();
            seat.queued.set(false);
            seat.grant(Grant::Refused(Box::new(report.clone())));
        }
        self.note_waiters();
    }

    /// Some idle connection has spoken or ended.
    pub fn reap_idle(self: &Rc<Self>) {
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        let mut kept = Vec::with_capacity(idle.len());
        for mut conn in idle {
            match conn.poll_idle(&mut self.worker.idle_context()) {
                Poll::Pending => kept.push(conn),
                Poll::Ready(broken) => {
                    count(&self.numbers().idle, -1);
                    self.lost_idle(conn, &broken);
                }
            }
        }
        self.idle.borrow_mut().splice(0..0, kept);
    }

    /// Closes what is too old, and opens what is missing. Once a second.
    pub fn tidy_up(self: &Rc<Self>, now: u64) {
        self.recheck();
        self.reap_idle();
        let timeout = self.settings.borrow().idle_timeout;
        let minimum = self.settings.borrow().min_pool_size;
        let is_old = |conn: &ServerConn| !timeout.is_zero() && conn.idle_since + micros(timeout) <= now;
        let mut surplus = self.shared.accounts().pool.staying().saturating_sub(minimum);
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        let mut kept = Vec::with_capacity(idle.len());
        for conn in idle {
            let is_surplus = surplus > 0 && is_old(&conn);
            if self.is_stale(&conn, now) || is_surplus || self.shared.is_over(&self.settings.borrow()) {
                surplus = surplus.saturating_sub(1);
                count(&self.numbers().idle, -1);
                conn.close();
            } else {
                kept.push(conn);
            }
        }
        self.idle.replace(kept);
        if !self.shared.is_paused() && !self.shared.is_retired() {
            self.keep_minimum();
        }
    }

    /// Closes every idle connection: the pool is paused or retired.
    pub fn close_idle(&self) {
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        for conn in idle {
            count(&self.numbers().idle, -1);
            conn.close();
        }
    }

    /// Looks at each idle connection.
    pub fn for_each_idle(&self, mut look: impl FnMut(&ServerConn)) {
        for conn in self.idle.borrow().iter() {
            look(conn);
        }
    }

    /// The connections that are being made ready for the next client.
    #[must_use]
    pub fn tested(&self) -> Vec<Arc<ServerInfo>> {
        self.tested.borrow().clone()
    }

    fn is_stale(&self, conn: &ServerConn, now: u64) -> bool {
        conn.epoch != self.shared.epoch() || (conn.expires_at != 0 && conn.expires_at <= now)
    }

    /// Sees to it that an idle connection knows what functions do, as far as that is known.
    fn is_informed(&self, conn: &mut ServerConn) -> bool {
        let catalog = &self.shared.catalog;
        !catalog.is_ahead_of(&conn.state)
            || !catalog.is_doubtful(conn.state.suspects.version) && catalog.tell(&mut conn.state)
    }

    fn lost_idle(&self, conn: Box<ServerConn>, broken: &super::conn::Broken) {
        tracing::warn!(
            database = &*self.shared.database,
            user = &*self.shared.user,
            server = %conn.info.address,
            "lost an idle server connection: {broken}"
        );
    }

    fn note_waiters(&self) {
        let waiters = self.waiters.borrow();
        let oldest = waiters.front().map_or(0, |seat| seat.since.get());
        self.numbers().waiting.store(
            u32::try_from(waiters.len()).unwrap_or(u32::MAX),
            Ordering::Relaxed,
        );
        self.numbers().oldest.store(oldest, Ordering::SeqCst);
    }
}

/// Changes a count that only this thread writes, and that nobody decides by.
pub(super) fn note(counter: &AtomicU32, more: i32) {
    counter.store(
        counter.load(Ordering::Relaxed).saturating_add_signed(more),
        Ordering::Relaxed,
    );
}

/// Changes a count that only this thread writes. Sequentially consistent, since other workers decide by it.
pub fn count(counter: &AtomicU32, more: i32) {
    counter.store(
        counter.load(Ordering::Relaxed).saturating_add_signed(more),
        Ordering::SeqCst,
    );
}

/// Connections a worker opens for one pool at a time: enough for a quick start, few enough not to flood a server with logins.
const CONNECTING_MAX: u32 = 8;
/// How long a connection that is being cleaned is waited for before another is opened: longer than that takes on a busy machine.
const CLEANING_MAX: Duration = Duration::from_millis(100);
/// How long another worker's answer is waited for before a connection is opened instead. It answers as soon as it comes by;
/// its answer is lost only where a box is full.
const LOAN_MAX: Duration = Duration::from_millis(500);
/// How much later than somebody elsewhere a client may have come and still be served before.
const OVERTAKING_MAX: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests;
