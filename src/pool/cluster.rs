//! The servers of one database, as the workers see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::topology::{Rules, View};

use super::catalog::changes::Changes;
use super::clock::micros;
use super::knowledge::Knowledge;
use super::meter::RouteMeter;

/// What is shared about a database with replicas.
#[derive(Debug)]
pub struct Realm {
    /// Unique in the process.
    pub id: u64,
    pub cluster: Cluster,
    pub knowledge: Knowledge,
    meters: [RouteMeter; METERS],
}

impl Realm {
    /// `id` is unique in the process.
    #[must_use]
    pub fn new(id: u64, view: View, changes: Arc<Changes>) -> Self {
        Self {
            id,
            cluster: Cluster::new(view),
            knowledge: Knowledge::new(id, changes),
            meters: std::array::from_fn(|_| RouteMeter::default()),
        }
    }

    /// Where a worker counts.
    #[must_use]
    pub fn meter(&self, worker: usize) -> Option<&RouteMeter> {
        self.meters.get(worker % METERS)
    }

    /// What all have counted.
    pub fn meters(&self) -> impl Iterator<Item = &RouteMeter> {
        self.meters.iter()
    }
}

/// One for each database that has replicas. Whoever looks after the servers publishes views; whoever routes reads them, without
/// a lock.
#[derive(Debug, Default)]
pub struct Cluster {
    view: ArcSwap<View>,
    rules: ArcSwap<Rules>,
    /// Reads that were free to choose, of all workers.
    pub turn: AtomicU64,
    /// Until when somebody is taken to wait for replicas, none being known to have come far enough. Microseconds on the clock.
    awaited_until: AtomicU64,
    /// `failover_timeout`, microseconds.
    failover_timeout: AtomicU64,
    /// Until when somebody stands by to hear how far the servers have come. Microseconds on the clock.
    urged_until: AtomicU64,
    urge: Notify,
    /// Tells those who wait for a primary, or for replicas to come further, that something is known anew.
    heard: Arc<Notify>,
    /// How many they are.
    awaiting: AtomicU32,
    /// The place of the last primary and 1; 0 before there was one.
    last_primary: AtomicUsize,
    /// How often another server became primary.
    failovers: AtomicU64,
    /// Signs that something is wrong with a server, counted.
    signs: AtomicU64,
    sign: Notify,
}

impl Cluster {
    #[must_use]
    pub fn new(view: View) -> Self {
        Self {
            view: ArcSwap::from_pointee(view),
            ..Self::default()
        }
    }

    /// What is known now.
    #[must_use]
    pub fn view(&self) -> Guard<Arc<View>> {
        self.view.load()
    }

    #[must_use]
    pub fn rules(&self) -> Rules {
        **self.rules.load()
    }

    /// Something else is known from now on.
    pub fn publish(&self, view: View) {
        if let Some(place) = view.primary {
            let before = self.last_primary.swap(place + 1, Ordering::Relaxed);
            if before != 0 && before != place + 1 {
                self.failovers.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.view.store(Arc::new(view));
        self.heard.notify_waiters();
    }

    /// How often another server became primary.
    #[must_use]
    pub fn failovers(&self) -> u64 {
        self.failovers.load(Ordering::Relaxed)
    }

    pub fn set_failover_timeout(&self, timeout: Duration) {
        self.failover_timeout.store(micros(timeout), Ordering::Relaxed);
    }

    #[must_use]
    pub fn failover_timeout(&self) -> Duration {
        Duration::from_micros(self.failover_timeout.load(Ordering::Relaxed))
    }

    /// Somebody found a server lost, or other than it was taken for: all are asked at once.
    pub fn on_sign(&self) {
        self.signs.fetch_add(1, Ordering::Relaxed);
        self.sign.notify_waiters();
    }

    #[must_use]
    pub fn signs(&self) -> u64 {
        self.signs.load(Ordering::Relaxed)
    }

    /// Waits until there are other signs than these.
    pub async fn other_signs(&self, seen: u64) {
        loop {
            let told = self.sign.notified();
            if self.signs() != seen {
                return;
            }
            told.await;
        }
    }

    /// Somebody stands by until then to hear how far the servers have come: they are asked at once.
    pub fn urge(&self, until: u64) {
        self.urged_until.fetch_max(until, Ordering::Relaxed);
        self.urge.notify_waiters();
    }

    #[must_use]
    pub fn is_urged(&self, now: u64) -> bool {
        now < self.urged_until.load(Ordering::Relaxed)
    }

    /// Waits until somebody urges.
    pub async fn urged(&self) {
        self.urge.notified().await;
    }

    /// Ends when something is published after this was called, while there is a primary.
    pub fn heard(&self) -> OwnedNotified {
        Arc::clone(&self.heard).notified_owned()
    }

    pub fn set_rules(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
    }

    /// A session waits for replicas to come further, at `now`.
    pub fn await_replay(&self, now: u64) {
        let until = now.saturating_add(AWAITED_FOR);
        if self.awaited_until.load(Ordering::Relaxed) < until.saturating_sub(AWAITED_FOR / 2) {
            self.awaited_until.store(until, Ordering::Relaxed);
        }
    }

    /// Whether one has, lately.
    #[must_use]
    pub fn is_awaited(&self, now: u64) -> bool {
        now < self.awaited_until.load(Ordering::Relaxed)
    }
}

/// A place among those who wait for a primary, until it is dropped.
#[derive(Debug)]
pub struct Ticket {
    realm: Arc<Realm>,
}

impl Ticket {
    /// None: too many wait.
    #[must_use]
    pub fn take(realm: &Arc<Realm>) -> Option<Self> {
        let ticket = Self {
            realm: Arc::clone(realm),
        };
        let before = realm.cluster.awaiting.fetch_add(1, Ordering::Relaxed);
        (before < AWAITING_MAX).then_some(ticket)
    }

    /// Ends when something is known anew after this was called.
    pub fn heard(&self) -> OwnedNotified {
        self.realm.cluster.heard()
    }

    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.realm.cluster
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.realm.cluster.awaiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Requests of a database that wait for a primary, or for a replica. All are let go at once when there is one, and each holds what its client has
/// sent; it is as many as clients that one process mostly has.
const AWAITING_MAX: u32 = 10_000;
/// How long servers are asked often after a session has waited; microseconds.
const AWAITED_FOR: u64 = 1_000_000;
/// Counters of routes: workers beyond that share them.
const METERS: usize = 8;
