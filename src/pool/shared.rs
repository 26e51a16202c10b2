//! What the workers' parts of one pool have in common.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam::utils::CachePadded;

use crate::protocol::{Parameters, Report};

use super::catalog::Catalog;
use super::clock::{Clock, micros};
use super::desk::Desk;
use super::knowledge::Defaults;
use super::ledger::{Account, Accounts, Full, Limits, Slot, Starving};
use super::meter::{Durations, ErrorCounts, PinMeter, TimeLimits};
use super::settings::PoolSettings;
use super::target::Target;

/// One pool: a database, a user name on the server, and where that is.
#[derive(Debug)]
pub struct PoolShared {
    /// Unique in the process.
    pub id: u64,
    pub database: Arc<str>,
    pub user: Arc<str>,
    /// Which of the database's servers it goes to: 0 is that of its URL, the others are its replicas in their order.
    pub place: usize,
    pub clock: Clock,
    accounts: Accounts,
    starving: Arc<Starving>,
    settings: ArcSwap<PoolSettings>,
    pub target: ArcSwap<Target>,
    /// Connections of an older epoch are closed at their next rest.
    epoch: AtomicU32,
    pause: AtomicBool,
    retired: AtomicBool,
    /// Its database has replicas.
    routed: AtomicBool,
    /// A client has asked for the last value of a sequence.
    pub sequences: AtomicBool,
    cells: Box<[Arc<CachePadded<Cell>>]>,
    failure: Mutex<Failure>,
    /// The values a server reported at its last login: what a new client is told.
    pub welcome: ArcSwapOption<Parameters>,
    /// What its sessions begin with, as far as that decides where statements go.
    pub defaults: ArcSwapOption<Defaults>,
    /// Cancel requests under way to its connections.
    pub cancelling: Arc<AtomicU32>,
    /// Who listens to what.
    pub desk: Desk,
    /// The connection that listens.
    listener: Arc<Account>,
    /// What the functions of its database may do.
    pub catalog: Arc<Catalog>,
}

/// One worker's numbers. Written by that worker alone, so there is nothing to contend for; read by all.
#[derive(Debug, Default)]
pub struct Cell {
    pub idle: AtomicU32,
    pub active: AtomicU32,
    pub waiting: AtomicU32,
    pub connecting: AtomicU32,
    /// Being reset, or waiting for a cancel request to settle.
    pub tested: AtomicU32,
    pub clients: AtomicU32,
    /// Since when the oldest waiter has waited; 0 when nobody does.
    pub oldest: AtomicU64,
    pub stats: Stats,
    pub pins: PinMeter,
    pub durations: Durations,
    pub time_limits: TimeLimits,
    pub errors: ErrorCounts,
}

/// What a worker has done for a pool since the start. Times are microseconds.
#[derive(Debug, Default)]
pub struct Stats {
    pub logins: AtomicU64,
    pub leases: AtomicU64,
    pub transactions: AtomicU64,
    pub simple_queries: AtomicU64,
    pub extended_queries: AtomicU64,
    pub received: AtomicU64,
    pub sent: AtomicU64,
    pub transaction_time: AtomicU64,
    pub query_time: AtomicU64,
    pub wait_time: AtomicU64,
    pub client_parses: AtomicU64,
    pub server_parses: AtomicU64,
    pub binds: AtomicU64,
}

/// Adds to a counter that only this thread writes.
pub fn add(counter: &AtomicU64, more: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(more),
        Ordering::Relaxed,
    );
}

/// Logins that failed, and when the next is tried.
#[derive(Debug, Default)]
struct Failure {
    in_a_row: u32,
    retry_at: u64,
    last: Option<Report>,
}

/// What a pool is made of.
#[derive(Debug)]
pub struct Founding {
    pub id: u64,
    pub database: Arc<str>,
    pub user: Arc<str>,
    pub place: usize,
    pub accounts: Accounts,
    pub settings: PoolSettings,
    pub target: Target,
    pub workers: usize,
    pub catalog: Arc<Catalog>,
}

impl PoolShared {
    #[must_use]
    pub fn new(founding: Founding, clock: Clock, starving: Arc<Starving>) -> Self {
        Self {
            id: founding.id,
            database: founding.database,
            user: founding.user,
            place: founding.place,
            clock,
            accounts: founding.accounts,
            starving,
            settings: ArcSwap::from_pointee(founding.settings),
            target: ArcSwap::from_pointee(founding.target),
            epoch: AtomicU32::new(0),
            pause: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            routed: AtomicBool::new(false),
            sequences: AtomicBool::new(false),
            cells: (0..founding.workers).map(|_| Arc::default()).collect(),
            failure: Mutex::default(),
            welcome: ArcSwapOption::empty(),
            defaults: ArcSwapOption::empty(),
            cancelling: Arc::default(),
            desk: Desk::default(),
            listener: Arc::default(),
            catalog: founding.catalog,
        }
    }

    #[must_use]
    pub fn settings(&self) -> Arc<PoolSettings> {
        self.settings.load_full()
    }

    /// Other settings from now on. Workers take them up when they look at the pool again.
    pub fn set_settings(&self, settings: PoolSettings) {
        self.settings.store(Arc::new(settings));
    }

    /// A worker's numbers. Those of a worker beyond the last are nobody's.
    #[must_use]
    pub fn cell(&self, worker: usize) -> Arc<CachePadded<Cell>> {
        self.cells.get(worker).map_or_else(Arc::default, Arc::clone)
    }

    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().map(|cell| &***cell)
    }

    /// Permission for one more connection. `reserve`: somebody has waited long enough for the reserve to be used.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn try_open(&self, reserve: bool) -> Result<Slot, Full> {
        let settings = self.settings.load();
        let reserve = if reserve { settings.reserve_pool_size } else { 0 };
        self.open_below(unlimited(settings.pool_size).saturating_add(reserve))
    }

    /// Whether there would be permission now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let settings = self.settings.load();
        let Accounts { pool, database, user } = &self.accounts;
        [
            (pool, settings.pool_size),
            (database, settings.max_db_connections),
            (user, settings.max_user_connections),
        ]
        .into_iter()
        .all(|(account, max)| account.open() < unlimited(max))
    }

    /// Whether there are more connections than clients with work for them: idle ones, or some on their way, opened or between workers.
    #[must_use]
    pub fn has_spare(&self) -> bool {
        let waiting: u32 = self
            .cells()
            .map(|cell| cell.waiting.load(Ordering::Relaxed))
            .sum();
        self.active().saturating_add(waiting) < self.open()
    }

    /// The same for a connection that nobody waits for: up to `min_pool_size`.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn try_open_minimum(&self) -> Result<Slot, Full> {
        let settings = self.settings.load();
        self.open_below(settings.min_pool_size.min(unlimited(settings.pool_size)))
    }

    /// The same for the connection that listens: it stands outside of the pool's size, and is one.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn try_open_listener(&self) -> Result<Slot, Full> {
        let settings = self.settings.load();
        let accounts = Accounts {
            pool: Arc::clone(&self.listener),
            database: Arc::clone(&self.accounts.database),
            user: Arc::default(),
        };
        let limits = Limits {
            pool: u32::MAX,
            database: unlimited(settings.max_db_connections),
            user: u32::MAX,
        };
        accounts.try_open(limits, &self.starving)
    }

    fn open_below(&self, pool: u32) -> Result<Slot, Full> {
        let settings = self.settings.load();
        let limits = Limits {
            pool,
            database: unlimited(settings.max_db_connections),
            user: unlimited(settings.max_user_connections),
        };
        self.accounts.try_open(limits, &self.starving)
    }

    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    #[must_use]
    pub fn starving(&self) -> &Arc<Starving> {
        &self.starving
    }

    /// Connections open or being opened, in the whole process.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.accounts.pool.open()
    }

    /// The same with the one that listens.
    #[must_use]
    pub fn open_in_all(&self) -> u32 {
        self.open() + self.listener.open()
    }

    /// Whether its database has replicas, so that statements are planned.
    #[must_use]
    pub fn is_routed(&self) -> bool {
        self.routed.load(Ordering::Acquire)
    }

    /// It has, from now on: connections tell anew what sessions begin with.
    pub fn set_routed(&self) {
        if !self.routed.swap(true, Ordering::AcqRel) {
            // Nothing was defined: what is known of the database stays known.
            self.epoch.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Connections that work for a client, in the whole process.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.cells().map(|cell| cell.active.load(Ordering::Relaxed)).sum()
    }

    /// Whether more connections are to stay than these settings allow: the pool was made smaller.
    #[must_use]
    pub fn is_over(&self, settings: &PoolSettings) -> bool {
        let most = unlimited(settings.pool_size).saturating_add(settings.reserve_pool_size);
        self.accounts.pool.staying() > most
    }

    /// Connections that are logged in, in the whole process, those on their way between workers among them.
    #[must_use]
    pub fn established(&self) -> u32 {
        self.accounts.pool.established()
    }

    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Every connection that is open now is closed at its next rest.
    pub fn renew(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.catalog.on_changed();
    }

    pub fn set_paused(&self, paused: bool) {
        self.pause.store(paused, Ordering::Release);
    }

    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.pause.load(Ordering::Acquire)
    }

    /// The configuration has no such pool any more.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.renew();
    }

    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// The moment somebody has waited since at another worker, the earliest of them; `None` when nobody does.
    #[must_use]
    pub fn oldest_elsewhere(&self, worker: usize) -> Option<(usize, u64)> {
        let elsewhere = self.cells().enumerate().filter(|(index, _)| *index != worker);
        let waiting = elsewhere.map(|(index, cell)| (index, cell.oldest.load(Ordering::SeqCst)));
        waiting
            .filter(|(_, since)| *since != 0)
            .min_by_key(|(_, since)| *since)
    }

    /// A worker other than this one that has an idle connection.
    #[must_use]
    pub fn idle_elsewhere(&self, worker: usize) -> Option<usize> {
        let mut elsewhere = self.cells().enumerate().filter(|(index, _)| *index != worker);
        elsewhere
            .find(|(_, cell)| cell.idle.load(Ordering::SeqCst) > 0)
            .map(|(index, _)| index)
    }

    /// A login failed: the next is tried after a while that doubles each time.
    pub fn on_failure(&self, report: Report) {
        let mut failure = self.failure();
        let wait = micros(BACK_OFF_MIN)
            .saturating_mul(1 << failure.in_a_row.min(10))
            .min(micros(BACK_OFF_MAX));
        failure.in_a_row = failure.in_a_row.saturating_add(1);
        failure.retry_at = self.clock.now().saturating_add(wait);
        failure.last = Some(report);
    }

    pub fn on_success(&self) {
        let mut failure = self.failure();
        if failure.last.is_some() {
            *failure = Failure::default();
        }
    }

    /// Whether the last login failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failure().last.is_some()
    }

    /// Whether a login may be tried now.
    #[must_use]
    pub fn may_connect(&self) -> bool {
        let failure = self.failure();
        failure.last.is_none() || self.clock.now() >= failure.retry_at
    }

    /// The next login may be tried at once: something has changed.
    pub fn retry_now(&self) {
        self.failure().retry_at = 0;
    }

    /// What the last login failed with, unless one has succeeded since.
    #[must_use]
    pub fn last_failure(&self) -> Option<Report> {
        self.failure().last.clone()
    }

    fn failure(&self) -> std::sync::MutexGuard<'_, Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The id of a pool that serves no clients.
pub const OUTSIDE: u64 = 0;

fn unlimited(max: u32) -> u32 {
    if max == 0 { u32::MAX } else { max }
}

/// The sum of several counts.
#[must_use]
pub fn sum(counts: &[&AtomicU32]) -> u32 {
    counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
}

/// Between two failed logins: short enough that a restart is noticed at once, long enough not to hammer a server.
const BACK_OFF_MIN: std::time::Duration = std::time::Duration::from_millis(50);
const BACK_OFF_MAX: std::time::Duration = std::time::Duration::from_secs(2);
