//! The servers of one database, as the workers see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};

use crate::topology::{Rules, View};

use super::knowledge::Knowledge;

/// What is shared about a database with replicas.
#[derive(Debug)]
pub struct Realm {
    pub cluster: Cluster,
    pub knowledge: Knowledge,
}

impl Realm {
    /// `id` is unique in the process.
    #[must_use]
    pub fn new(id: u64, view: View) -> Self {
        Self {
            cluster: Cluster::new(view),
            knowledge: Knowledge::new(id),
        }
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
        self.view.store(Arc::new(view));
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

/// How long servers are asked often after a session has waited; microseconds.
const AWAITED_FOR: u64 = 1_000_000;
