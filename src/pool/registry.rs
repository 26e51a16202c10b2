//! Every pool there is, and the accounts they share. Asked at logins and reloads, by a query only if it drops a database.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use super::catalog::Catalog;
use super::catalog::changes::Changes;
use super::clock::Clock;
use super::cluster::Realm;
use super::ledger::{Account, Accounts, Starving};
use super::settings::PoolSettings;
use super::shared::{Founding, OUTSIDE, PoolShared};
use super::target::Target;

use crate::topology::View;

/// All pools of the process.
#[derive(Debug)]
pub struct Registry {
    pub clock: Clock,
    pub starving: Arc<Starving>,
    workers: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next_id: u64,
    all_paused: bool,
    paused: HashSet<String>,
    /// By the name clients know the database by, the user's name on the server, and which of the database's servers that is.
    pools: HashMap<(Arc<str>, Arc<str>, usize), Arc<PoolShared>>,
    /// Of databases with replicas.
    realms: HashMap<Arc<str>, Arc<Realm>>,
    databases: HashMap<Arc<str>, Arc<Account>>,
    /// By database and server: what a replica has of it may be older.
    catalogs: HashMap<(Arc<str>, usize), Arc<Catalog>>,
    /// Of databases, whatever the server.
    changes: HashMap<Arc<str>, Arc<Changes>>,
    users: HashMap<Arc<str>, Arc<Account>>,
    profiles: HashMap<(Arc<str>, Arc<str>), Arc<Profile>>,
    database_clients: HashMap<Arc<str>, Arc<AtomicU32>>,
    user_clients: HashMap<Arc<str>, Arc<AtomicU32>>,
}

impl Inner {
    /// What is known of the definitions of a database's server, for all its pools.
    fn catalog(&mut self, database: &Arc<str>, place: usize) -> Arc<Catalog> {
        let changes = self.changes(database);
        let id = self.next_id;
        let founded = || Arc::new(Catalog::new(id, changes));
        let key = (Arc::clone(database), place);
        Arc::clone(self.catalogs.entry(key).or_insert_with(founded))
    }

    /// How often they were changed.
    fn changes(&mut self, database: &Arc<str>) -> Arc<Changes> {
        Arc::clone(self.changes.entry(Arc::clone(database)).or_default())
    }

    /// Forgets what nobody holds: under the lock, nobody else can get hold of it.
    fn forget_unused(&mut self) {
        self.pools.retain(|_, pool| Arc::strong_count(pool) > 1);
        self.databases.retain(|_, account| Arc::strong_count(account) > 1);
        self.catalogs.retain(|_, catalog| Arc::strong_count(catalog) > 1);
        self.changes.retain(|_, changes| Arc::strong_count(changes) > 1);
        self.users.retain(|_, account| Arc::strong_count(account) > 1);
        self.profiles.retain(|_, profile| Arc::strong_count(profile) > 1);
        self.database_clients
            .retain(|_, count| Arc::strong_count(count) > 1);
        self.user_clients.retain(|_, count| Arc::strong_count(count) > 1);
    }
}

impl Registry {
    #[must_use]
    pub fn new(workers: usize, clock: Clock) -> Arc<Self> {
        let starving = Arc::new(Starving::new(workers));
        Arc::new(Self {
            clock,
            starving,
            workers,
            inner: Mutex::default(),
        })
    }

    /// The pool of a database and a user on one of its servers, by the server's place; founded when it is asked for first.
    pub fn pool(
        &self,
        database: &str,
        user: &str,
        place: usize,
        found: impl FnOnce() -> (PoolSettings, Target),
    ) -> Arc<PoolShared> {
        let inner = &mut *self.lock();
        let (database, user): (Arc<str>, Arc<str>) = (database.into(), user.into());
        let key = (Arc::clone(&database), Arc::clone(&user), place);
        if let Some(pool) = inner.pools.get(&key) {
            return Arc::clone(pool);
        }
        if inner.pools.len() >= POOLS_MAX {
            inner.forget_unused();
        }
        let accounts = Accounts {
            pool: Arc::default(),
            database: Arc::clone(inner.databases.entry(Arc::clone(&database)).or_default()),
            user: Arc::clone(inner.users.entry(Arc::clone(&user)).or_default()),
        };
        inner.next_id += 1;
        let (settings, target) = found();
        let founding = Founding {
            id: inner.next_id,
            database: Arc::clone(&database),
            user: Arc::clone(&user),
            place,
            accounts,
            settings,
            target,
            workers: self.workers,
            catalog: inner.catalog(&database, place),
        };
        let pool = Arc::new(PoolShared::new(founding, self.clock, Arc::clone(&self.starving)));
        if inner.realms.contains_key(&database) {
            pool.set_routed();
        }
        pool.set_paused(inner.all_paused || inner.paused.contains(&*database));
        inner.pools.insert(key, Arc::clone(&pool));
        pool
    }

    /// A pool beside the others: for connections that serve no clients. They count against the database's limit alone.
    #[must_use]
    pub fn outside(
        &self,
        database: &str,
        user: &str,
        settings: PoolSettings,
        target: Target,
    ) -> Arc<PoolShared> {
        let inner = &mut *self.lock();
        if inner.databases.len() >= POOLS_MAX {
            inner.forget_unused();
        }
        let database_account = Arc::clone(inner.databases.entry(Arc::from(database)).or_default());
        let accounts = Accounts {
            pool: Arc::default(),
            database: database_account,
            user: Arc::default(),
        };
        let (database, user) = (Arc::from(database), Arc::from(user));
        let founding = Founding {
            id: OUTSIDE,
            database,
            user,
            place: 0,
            accounts,
            settings,
            target,
            workers: self.workers,
            catalog: Arc::default(),
        };
        Arc::new(PoolShared::new(founding, self.clock, Arc::clone(&self.starving)))
    }

    /// What is known of a database with replicas; founded when it is asked for first.
    pub fn realm(&self, database: &str, found: impl FnOnce() -> View) -> Arc<Realm> {
        let inner = &mut *self.lock();
        if let Some(realm) = inner.realms.get(database) {
            return Arc::clone(realm);
        }
        inner.next_id += 1;
        let database: Arc<str> = database.into();
        let changes = inner.changes(&database);
        let realm = Arc::new(Realm::new(inner.next_id, found(), changes));
        inner.realms.insert(Arc::clone(&database), Arc::clone(&realm));
        for pool in inner.pools.values() {
            if pool.database == database {
                pool.set_routed();
            }
        }
        realm
    }

    /// All databases with replicas, by name.
    #[must_use]
    pub fn realms(&self) -> BTreeMap<Arc<str>, Arc<Realm>> {
        let inner = self.lock();
        let all = inner.realms.iter();
        all.map(|(database, realm)| (Arc::clone(database), Arc::clone(realm)))
            .collect()
    }

    /// The servers of a database are others now: who has come before uses that of its URL alone, until it comes again.
    pub fn close_realm(&self, database: &str) {
        let realm = self.lock().realms.remove(database);
        if let Some(realm) = realm {
            realm.cluster.publish(View {
                primary: Some(0),
                servers: Vec::new(),
                ..View::default()
            });
        }
    }

    /// Stops or goes on lending connections: of one database, or of all. Holds for pools that are founded later, too.
    pub fn set_paused(&self, database: Option<&str>, paused: bool) {
        let inner = &mut *self.lock();
        match (database, paused) {
            (Some(database), true) => _ = inner.paused.insert(database.to_owned()),
            (Some(database), false) => _ = inner.paused.remove(database),
            (None, paused) => inner.all_paused = paused,
        }
        for pool in inner.pools.values() {
            if pool.is_paused() {
                // Whoever pauses may change the database meanwhile.
                pool.catalog.on_changed();
            }
            pool.set_paused(inner.all_paused || inner.paused.contains(&*pool.database));
        }
    }

    /// Whether a database, or everything, is paused.
    #[must_use]
    pub fn is_paused(&self, database: Option<&str>) -> bool {
        let inner = self.lock();
        database.map_or(inner.all_paused, |database| inner.paused.contains(database))
    }

    /// Connections to a database of this name on a server are closed at their next rest. Says whether there is a pool of them.
    #[must_use]
    pub fn vacate(&self, database: &str) -> bool {
        let inner = self.lock();
        let mut found = false;
        for pool in inner.pools.values() {
            if *pool.target.load().database == *database {
                pool.renew();
                pool.welcome.store(None);
                found = true;
            }
        }
        found
    }

    /// Server connections open to a database, or to all.
    #[must_use]
    pub fn open(&self, database: Option<&str>) -> u32 {
        let inner = self.lock();
        let counted = |pool: &&Arc<PoolShared>| database.is_none_or(|database| *pool.database == *database);
        inner
            .pools
            .values()
            .filter(counted)
            .map(|pool| pool.open_in_all())
            .sum()
    }

    /// All pools, by database and user.
    #[must_use]
    pub fn pools(&self) -> Vec<Arc<PoolShared>> {
        let mut pools: Vec<_> = self.lock().pools.values().map(Arc::clone).collect();
        pools.sort_by(|a, b| (&a.database, &a.user, a.place).cmp(&(&b.database, &b.user, b.place)));
        pools
    }

    /// Forgets a pool whose database is gone from the configuration.
    pub fn retire(&self, pool: &PoolShared) {
        pool.retire();
        self.lock().pools.retain(|_, known| known.id != pool.id);
    }

    /// What is set for a client's user at a database; made when it is asked for first.
    pub fn profile(&self, database: &str, user: &str, make: impl FnOnce() -> PoolSettings) -> Arc<Profile> {
        let inner = &mut *self.lock();
        let (database, user): (Arc<str>, Arc<str>) = (database.into(), user.into());
        if inner.profiles.len() >= PROFILES_MAX {
            inner.forget_unused();
        }
        let database_clients = Arc::clone(inner.database_clients.entry(Arc::clone(&database)).or_default());
        let user_clients = Arc::clone(inner.user_clients.entry(Arc::clone(&user)).or_default());
        let make = || {
            let (database, user) = (Arc::clone(&database), Arc::clone(&user));
            let settings = ArcSwap::from_pointee(make());
            Arc::new(Profile {
                database,
                user,
                settings,
                database_clients,
                user_clients,
            })
        };
        Arc::clone(
            inner
                .profiles
                .entry((Arc::clone(&database), Arc::clone(&user)))
                .or_insert_with(make),
        )
    }

    #[must_use]
    pub fn profiles(&self) -> Vec<Arc<Profile>> {
        self.lock().profiles.values().map(Arc::clone).collect()
    }

    /// Connections open to a database's servers, and clients connected to it.
    #[must_use]
    pub fn database_load(&self, database: &str) -> (u32, u32) {
        let inner = self.lock();
        let open = inner.databases.get(database).map_or(0, |account| account.open());
        let clients = inner
            .database_clients
            .get(database)
            .map_or(0, |count| count.load(Ordering::Relaxed));
        (open, clients)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is set for the clients of one user at one database.
#[derive(Debug)]
pub struct Profile {
    pub database: Arc<str>,
    pub user: Arc<str>,
    pub settings: ArcSwap<PoolSettings>,
    database_clients: Arc<AtomicU32>,
    user_clients: Arc<AtomicU32>,
}

/// Which limit a client does not fit into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    Database,
    User,
}

impl Profile {
    /// Counts a client in, if the limits allow it.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn admit(self: &Arc<Self>) -> Result<Admission, Crowded> {
        let settings = self.settings.load();
        if !enter(&self.database_clients, settings.max_db_clients) {
            return Err(Crowded::Database);
        }
        if !enter(&self.user_clients, settings.max_user_clients) {
            self.database_clients.fetch_sub(1, Ordering::AcqRel);
            return Err(Crowded::User);
        }
        Ok(Admission {
            profile: Arc::clone(self),
        })
    }
}

fn enter(count: &AtomicU32, max: u32) -> bool {
    let max = if max == 0 { u32::MAX } else { max };
    let more = |count: u32| (count < max).then_some(count + 1);
    count
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
        .is_ok()
}

/// A client that is counted in until this is dropped.
#[derive(Debug)]
pub struct Admission {
    pub profile: Arc<Profile>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.profile.database_clients.fetch_sub(1, Ordering::AcqRel);
        self.profile.user_clients.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Above this, the profiles of users that are not connected are forgotten.
const PROFILES_MAX: usize = 10_000;
/// Above this, pools without clients and connections are forgotten, with their statistics: where a wildcard serves every name
/// whoever may connect can name any.
const POOLS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn pools_that_nobody_uses_any_more_are_forgotten() {
        let registry = Registry::new(1, Clock::starting_at(Instant::now()));
        let found = |database: &str| {
            let _ = registry.profile(database, "app", PoolSettings::default);
            registry.pool(database, "app", 0, || {
                (PoolSettings::default(), Target::nowhere())
            })
        };
        let used = found("used");
        for index in 0..PROFILES_MAX + 10 {
            let _ = found(&format!("any{index}"));
        }
        assert!(Arc::ptr_eq(&found("used"), &used));
        let inner = registry.lock();
        assert!(inner.pools.len() <= POOLS_MAX && inner.databases.len() <= POOLS_MAX);
        assert!(inner.profiles.len() <= PROFILES_MAX && inner.database_clients.len() <= PROFILES_MAX);
    }
}
