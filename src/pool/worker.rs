//! One worker's share of everything: its pools, its clients, its clock.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use super::clock::{Clock, Turns, micros};
use super::derive::Deriver;
use super::ledger::Starving;
use super::local::LocalPool;
use super::mail::{Mail, Post};
use super::seat::{Occupant, Phase, Poke, Seat};
use super::shared::PoolShared;

/// The worker, as its tasks see it. Only its own thread touches it.
#[derive(Debug)]
pub struct Worker {
    pub index: usize,
    pub clock: Clock,
    pub post: Post,
    pub starving: Arc<Starving>,
    pub deriver: Arc<Deriver>,
    pools: RefCell<HashMap<u64, Rc<LocalPool>>>,
    seats: RefCell<Vec<Option<Rc<Seat>>>>,
    vacant: RefCell<Vec<usize>>,
    /// Clients that wait for a connection or have one.
    busy: RefCell<Vec<Rc<Seat>>>,
    /// The ticker sleeps: somebody busy has to wake it.
    ticker_sleeps: Cell<bool>,
    ticker: Notify,
    reaper: Arc<Bell>,
    reaper_waker: Waker,
    next_id: Cell<u64>,
    /// Changes whenever settings may have changed.
    generation: Cell<u32>,
    /// The time as it was read last: good enough where a query would otherwise read the clock again.
    recent: Cell<u64>,
    /// The turns of its event loop, where they are counted; in which the clock was read last, and how often that was used.
    turns: OnceCell<Arc<Turns>>,
    read_in: Cell<u32>,
    used: Cell<u32>,
}

/// Wakes the task that looks after idle connections.
#[derive(Debug, Default)]
struct Bell {
    notify: Notify,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.notify.notify_one();
    }
}

impl Worker {
    #[must_use]
    pub fn new(
        index: usize,
        clock: Clock,
        post: Post,
        starving: Arc<Starving>,
        deriver: Arc<Deriver>,
    ) -> Rc<Self> {
        let reaper = Arc::new(Bell::default());
        Rc::new(Self {
            index,
            clock,
            post,
            starving,
            deriver,
            pools: RefCell::default(),
            seats: RefCell::default(),
            vacant: RefCell::default(),
            busy: RefCell::default(),
            ticker_sleeps: Cell::new(false),
            ticker: Notify::new(),
            reaper_waker: Waker::from(Arc::clone(&reaper)),
            reaper,
            next_id: Cell::new(0),
            generation: Cell::new(0),
            recent: Cell::new(clock.now()),
            turns: OnceCell::new(),
            read_in: Cell::new(0),
            used: Cell::new(0),
        })
    }

    /// Whoever keeps a copy of settings looks again when this has changed.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation.get()
    }

    /// The time, read now.
    pub fn now(&self) -> u64 {
        let now = self.clock.now();
        self.recent.set(now);
        now
    }

    /// The turns of its event loop are counted here.
    pub fn follow(&self, turns: Arc<Turns>) {
        let _ = self.turns.set(turns);
    }

    /// The time, read at most once for each turn of the event loop, and again when many have asked for it.
    pub fn about_now(&self) -> u64 {
        let Some(turns) = self.turns.get() else {
            return self.now();
        };
        let turn = turns.count();
        if turn == self.read_in.get() && self.used.get() < USED_MAX {
            self.used.set(self.used.get() + 1);
            return self.recent.get();
        }
        self.read_in.set(turn);
        self.used.set(0);
        self.now()
    }

    /// The time as this worker has read it last.
    #[must_use]
    pub fn recent(&self) -> u64 {
        self.recent.get()
    }

    /// A number that no other worker gives out.
    pub fn take_id(&self) -> u64 {
        let next = self.next_id.get() + 1;
        self.next_id.set(next);
        let workers = u64::try_from(self.post.workers()).unwrap_or(1);
        next * workers + u64::try_from(self.index).unwrap_or(0)
    }

    /// This worker's part of a pool.
    pub fn pool(self: &Rc<Self>, shared: &Arc<PoolShared>) -> Rc<LocalPool> {
        let mut pools = self.pools.borrow_mut();
        Rc::clone(
            pools
                .entry(shared.id)
                .or_insert_with(|| LocalPool::new(Arc::clone(shared), Rc::clone(self))),
        )
    }

    /// This worker's parts of all pools.
    #[must_use]
    pub fn pools(&self) -> Vec<Rc<LocalPool>> {
        self.pools.borrow().values().map(Rc::clone).collect()
    }

    /// Forgets the parts of pools that nobody uses here.
    pub fn forget_unused(&self) {
        self.pools
            .borrow_mut()
            .retain(|_, pool| Rc::strong_count(pool) > 1 || !pool.is_idle());
    }

    /// Room for one more client: the process id that its cancel key will show. It tells this worker and the seat.
    #[must_use]
    pub fn reserve(&self) -> Option<u32> {
        let place = self.vacant.borrow_mut().pop().unwrap_or_else(|| {
            let mut seats = self.seats.borrow_mut();
            seats.push(None);
            seats.len() - 1
        });
        process_id(self.index, place)
    }

    /// Gives a client the room that `reserve` has named.
    pub fn seat(&self, occupant: Occupant) -> Rc<Seat> {
        let process_id = occupant.key.process_id;
        let seat = Rc::new(Seat::new(self.take_id(), occupant, self.clock.now()));
        if let Some(place) = self.seats.borrow_mut().get_mut(place_of(process_id)) {
            *place = Some(Rc::clone(&seat));
        }
        seat
    }

    /// The room is free again.
    pub fn vacate(&self, process_id: u32) {
        let place = place_of(process_id);
        if let Some(seat) = self.seats.borrow_mut().get_mut(place) {
            *seat = None;
        }
        self.vacant.borrow_mut().push(place);
    }

    /// The client that shows this key.
    #[must_use]
    pub fn find(&self, process_id: u32, secret: &[u8]) -> Option<Rc<Seat>> {
        let seats = self.seats.borrow();
        let seat = seats.get(place_of(process_id))?.as_ref()?;
        seat.key.is(process_id, secret).then(|| Rc::clone(seat))
    }

    /// All clients.
    #[must_use]
    pub fn seats(&self) -> Vec<Rc<Seat>> {
        self.seats.borrow().iter().flatten().map(Rc::clone).collect()
    }

    /// The client is busy from now on: the ticker looks after its deadlines.
    pub fn enter_busy(&self, seat: &Rc<Seat>) {
        let mut busy = self.busy.borrow_mut();
        seat.place_busy(busy.len());
        busy.push(Rc::clone(seat));
        if self.ticker_sleeps.replace(false) {
            self.ticker.notify_one();
        }
    }

    pub fn leave_busy(&self, seat: &Seat) {
        let mut busy = self.busy.borrow_mut();
        let place = seat.busy_place();
        if busy.get(place).is_some_and(|found| found.id == seat.id) {
            busy.swap_remove(place);
            if let Some(moved) = busy.get(place) {
                moved.place_busy(place);
            }
        }
    }

    /// Asks to be told when an idle connection speaks or ends.
    #[must_use]
    pub fn idle_context(&self) -> Context<'_> {
        Context::from_waker(&self.reaper_waker)
    }

    /// Looks after idle connections whenever one of them speaks or ends. Never returns.
    pub async fn reap(self: Rc<Self>) {
        loop {
            self.reaper.notify.notified().await;
            for pool in self.pools() {
                pool.reap_idle();
            }
        }
    }

    /// Looks at the queues again whenever capacity comes free elsewhere. Never returns.
    pub async fn watch_capacity(self: Rc<Self>) {
        loop {
            self.starving.capacity(self.index).await;
            self.recheck();
        }
    }

    /// Settings have changed, or pools were paused or resumed.
    pub fn renew(&self) {
        self.generation.set(self.generation.get().wrapping_add(1));
        for seat in self.seats.borrow().iter().flatten() {
            seat.poke(Poke::Renew);
        }
        for pool in self.pools() {
            pool.shared.desk.ring();
        }
        self.recheck();
    }

    /// A client drops a database, or copies it: connections to it that nobody uses are to go. The server waits for that,
    /// and if the letter is lost it says what is in the way.
    pub fn ask_to_vacate(&self, database: &[u8]) {
        let database = String::from_utf8_lossy(database).into();
        let _ = self.post.try_send(self.index, Mail::Vacate(database));
    }

    /// Something has changed that queues may have waited for.
    pub fn recheck(&self) {
        for pool in self.pools() {
            pool.recheck();
        }
    }

    /// Watches deadlines and queues, coarsely, while anybody is busy; looks at everything else once a second. Never returns.
    pub async fn tick(self: Rc<Self>) {
        let mut swept_at = 0;
        let mut quiet = 0;
        loop {
            if quiet < QUIET_TICKS {
                tokio::time::sleep(TICK).await;
            } else {
                self.ticker_sleeps.set(true);
                let _ = tokio::time::timeout(SWEEP, self.ticker.notified()).await;
                self.ticker_sleeps.set(false);
                quiet = 0;
            }
            let now = self.now();
            quiet = if self.tick_busy(now) { 0 } else { quiet + 1 };
            if now >= swept_at + micros(SWEEP) {
                swept_at = now;
                self.sweep(now);
            }
        }
    }

    /// Says whether anybody is busy.
    fn tick_busy(&self, now: u64) -> bool {
        let busy = self.busy.borrow().clone();
        let mut waits = false;
        for seat in &busy {
            if seat.is_due(now) {
                seat.poke(Poke::Deadline);
            } else if seat.phase.get() == Phase::Active && seat.since.get() + micros(LOOK_AFTER) <= now {
                seat.poke_look();
            }
            waits |= seat.phase.get() == Phase::Waiting;
        }
        if waits {
            self.pools().iter().for_each(|pool| pool.on_tick(now));
        }
        !busy.is_empty()
    }

    fn sweep(&self, now: u64) {
        for seat in self.seats.borrow().iter().flatten() {
            if seat.phase.get() == Phase::Idle && seat.is_due(now) {
                seat.poke(Poke::Deadline);
            }
        }
        self.tidy_up(now);
        self.forget_unused();
    }

    /// Closes idle connections that are too old, and opens what is missing.
    pub fn tidy_up(&self, now: u64) {
        for pool in self.pools() {
            pool.tidy_up(now);
        }
    }
}

/// The process id of a client's cancel key: worker and seat, and never negative, since some drivers read it so.
fn process_id(worker: usize, place: usize) -> Option<u32> {
    let worker = u32::try_from(worker)
        .ok()
        .filter(|worker| *worker < WORKERS_MAX)?;
    let place = u32::try_from(place)
        .ok()
        .filter(|place| *place < (1 << SEAT_BITS) - 1)?;
    Some((worker << SEAT_BITS) | (place + 1))
}

/// The worker a process id leads to.
#[must_use]
pub fn worker_of(process_id: u32) -> usize {
    usize::try_from(process_id >> SEAT_BITS).unwrap_or(usize::MAX)
}

fn place_of(process_id: u32) -> usize {
    usize::try_from(process_id & ((1 << SEAT_BITS) - 1)).map_or(usize::MAX, |place| place.wrapping_sub(1))
}

/// 2^22 clients on each of 512 workers.
const SEAT_BITS: u32 = 22;
/// So that a process id fits into 31 bits.
pub const WORKERS_MAX: u32 = 1 << (31 - SEAT_BITS);
/// How exactly deadlines of the busy are kept.
const TICK: Duration = Duration::from_millis(20);
/// Ticks without anybody busy after which the ticker sleeps.
const QUIET_TICKS: u32 = 50;
/// Uses of one reading of the clock: under a load that leaves the event loop no sleep it is read again after a few queries.
const USED_MAX: u32 = 16;
/// How often idle clients and connections are looked at.
const SWEEP: Duration = Duration::from_secs(1);
/// How long a client waits for its server before we look whether it is still there.
const LOOK_AFTER: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_id_leads_back_to_worker_and_seat() {
        for (worker, place) in [(0, 0), (1, 0), (511, 4_194_302)] {
            let id = process_id(worker, place).unwrap();
            assert_eq!((worker_of(id), place_of(id)), (worker, place));
            assert!(i32::try_from(id).is_ok() && id != 0);
        }
        assert_eq!(process_id(512, 0), None);
        assert_eq!(process_id(0, 4_194_303), None);
    }
}
