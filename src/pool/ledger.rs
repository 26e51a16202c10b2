//! How many server connections may be open: counts, limits, and the permission to have one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Connections open against one limit: of a pool, a database or a user.
#[derive(Debug, Default)]
pub struct Account {
    open: AtomicU32,
    /// Those of them that are logged in.
    established: AtomicU32,
    /// Those of them that are being closed.
    departing: AtomicU32,
    /// Of a database: how often its tables were altered.
    schema: AtomicU64,
}

impl Account {
    #[must_use]
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Acquire)
    }

    /// Connections that are logged in, wherever they are, and not being closed.
    #[must_use]
    pub fn established(&self) -> u32 {
        self.established.load(Ordering::Acquire)
    }

    /// How often tables were altered.
    #[must_use]
    pub fn schema(&self) -> u64 {
        self.schema.load(Ordering::Relaxed)
    }

    /// Tables were altered.
    pub fn on_altered(&self) {
        self.schema.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections that are to stay open.
    #[must_use]
    pub fn staying(&self) -> u32 {
        self.open().saturating_sub(self.departing.load(Ordering::Acquire))
    }

    /// Counts one more, unless that would be more than `max`.
    fn enter(&self, max: u32) -> bool {
        let more = |open: u32| (open < max).then_some(open + 1);
        self.open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .is_ok()
    }

    fn leave(&self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The accounts that a connection of one pool counts against.
#[derive(Clone, Debug)]
pub struct Accounts {
    pub pool: Arc<Account>,
    pub database: Arc<Account>,
    pub user: Arc<Account>,
}

/// How many connections each account may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub pool: u32,
    pub database: u32,
    pub user: u32,
}

/// Why there is no permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Pool,
    Database,
    User,
}

impl Accounts {
    /// Permission for one more connection, if every limit allows it. Exact under concurrency: each account is counted up
    /// before the connection is opened, and down after it is closed.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn try_open(&self, limits: Limits, starving: &Arc<Starving>) -> Result<Slot, Full> {
        if !self.pool.enter(limits.pool) {
            return Err(Full::Pool);
        }
        if !self.database.enter(limits.database) {
            self.pool.leave();
            return Err(Full::Database);
        }
        if !self.user.enter(limits.user) {
            self.pool.leave();
            self.database.leave();
            return Err(Full::User);
        }
        Ok(Slot {
            accounts: self.clone(),
            starving: Arc::clone(starving),
            stage: Stage::Opening,
        })
    }
}

/// One connection's worth of capacity. Dropping it gives the capacity back.
#[derive(Debug)]
#[must_use = "dropping a slot gives its capacity back"]
pub struct Slot {
    accounts: Accounts,
    starving: Arc<Starving>,
    stage: Stage,
}

/// What the connection of a slot is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Established,
    Departing,
}

impl Slot {
    /// Its connection is logged in.
    pub fn establish(&mut self) {
        self.enter(Stage::Established);
    }

    /// Its connection is being closed: it counts until the slot is dropped, but not as one that stays.
    pub fn depart(&mut self) {
        self.enter(Stage::Departing);
    }

    fn enter(&mut self, stage: Stage) {
        if let Some(counter) = self.counter() {
            counter.fetch_sub(1, Ordering::AcqRel);
        }
        self.stage = stage;
        if let Some(counter) = self.counter() {
            counter.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Where the pool counts connections that are at this stage.
    fn counter(&self) -> Option<&AtomicU32> {
        match self.stage {
            Stage::Opening => None,
            Stage::Established => Some(&self.accounts.pool.established),
            Stage::Departing => Some(&self.accounts.pool.departing),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.enter(Stage::Opening);
        self.accounts.pool.leave();
        self.accounts.database.leave();
        self.accounts.user.leave();
        self.starving.on_capacity();
    }
}

/// Tells the workers whose clients wait for capacity that there is some.
#[derive(Debug, Default)]
pub struct Starving {
    /// Clients that wait, in the whole process.
    waiting: AtomicUsize,
    bells: Vec<tokio::sync::Notify>,
}

impl Starving {
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            bells: (0..workers).map(|_| tokio::sync::Notify::new()).collect(),
        }
    }

    /// Rings when capacity has come free and somebody waited.
    pub async fn capacity(&self, worker: usize) {
        match self.bells.get(worker) {
            Some(bell) => bell.notified().await,
            None => std::future::pending().await,
        }
    }

    pub fn enter(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
    }

    pub fn leave(&self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Rings at every worker.
    pub fn on_capacity(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            for bell in &self.bells {
                bell.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            pool: Arc::default(),
            database: Arc::default(),
            user: Arc::default(),
        }
    }

    #[test]
    fn a_slot_counts_against_every_account_until_it_is_dropped() {
        let (accounts, starving) = (accounts(), Arc::new(Starving::new(1)));
        let limits = Limits {
            pool: 2,
            database: 1,
            user: 2,
        };
        let slot = accounts.try_open(limits, &starving).unwrap();
        assert_eq!(accounts.try_open(limits, &starving).unwrap_err(), Full::Database);
        assert_eq!(
            (
                accounts.pool.open(),
                accounts.database.open(),
                accounts.user.open()
            ),
            (1, 1, 1)
        );
        drop(slot);
        assert_eq!(
            (
                accounts.pool.open(),
                accounts.database.open(),
                accounts.user.open()
            ),
            (0, 0, 0)
        );
    }

    #[test]
    fn threads_that_open_at_once_never_exceed_a_limit() {
        let (accounts, starving) = (accounts(), Arc::new(Starving::new(1)));
        let limits = Limits {
            pool: 5,
            database: 7,
            user: 3,
        };
        let most = AtomicU32::new(0);
        let open_and_close = || {
            for _ in 0..2_000 {
                let slot = accounts.try_open(limits, &starving);
                most.fetch_max(accounts.user.open(), Ordering::Relaxed);
                drop(slot);
            }
        };
        std::thread::scope(|scope| {
            (0..8).for_each(|_| _ = scope.spawn(open_and_close));
        });
        assert!(most.into_inner() <= 3);
        assert_eq!(accounts.pool.open(), 0);
    }
}
