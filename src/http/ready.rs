//! Whether clients can be served: each database is watched, from the start on.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::net::dial::{self, Encryption};
use crate::pool::clock::micros;
use crate::pool::connect::{self, Order};
use crate::pool::shared::OUTSIDE;
use crate::protocol::startup::Replication;
use crate::relay::directory::{DatabaseEntry, Directory};
use crate::relay::hub::Hub;
use crate::topology::{Vacancy, View};

use super::Site;

/// What is known of each database of the configuration.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    databases: RefCell<BTreeMap<String, Standing>>,
}

/// What is known of a database's servers. Times are microseconds on the process's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// None was tried yet.
    Unseen,
    /// None was reached since the start.
    Missing,
    /// One was there, at that time.
    Usable { at: u64 },
    /// One was there, and since that time none is.
    Lost { since: u64 },
}

/// What the pools of a database tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    /// There are connections.
    Connected,
    /// The last login has failed.
    Failing,
    /// Nobody has asked for one.
    Silent,
    /// The operator wants no connections.
    Paused,
}

/// What a server has said when it was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Probe {
    Reached,
    Failed(String),
    /// It could not be tried.
    Unknown,
}

impl Readiness {
    /// Why clients cannot be served; nothing when they can.
    pub(super) fn reasons(&self, hub: &Hub) -> String {
        let mut reasons = String::new();
        if hub.is_draining() {
            reasons.push_str("the pooler is draining\n");
        }
        let directory = hub.directory.load();
        let now = hub.registry.clock.now();
        let known = self.databases.borrow();
        let names: BTreeSet<_> = directory.databases.keys().collect();
        for name in names {
            let standing = known.get(name).copied().unwrap_or(Standing::Unseen);
            if let Some(reason) = standing.reason(now, lost_max(&directory, name)) {
                // A string takes everything.
                let _ = writeln!(reasons, "database {name:?}: {reason}");
            }
        }
        reasons
    }

    fn standing(&self, name: &str) -> Standing {
        let known = self.databases.borrow();
        known.get(name).copied().unwrap_or(Standing::Unseen)
    }

    /// A database's servers were tried at `now`.
    fn note(&self, name: &str, probe: &Probe, now: u64) {
        let before = self.standing(name);
        let after = before.after(probe, now);
        if let Probe::Failed(failure) = probe
            && before != after
        {
            tracing::warn!(database = name, "not ready: {failure}");
        }
        self.set(name, after);
    }

    fn set(&self, name: &str, standing: Standing) {
        self.databases.borrow_mut().insert(name.to_owned(), standing);
    }
}

impl Standing {
    fn reason(self, now: u64, lost_max: Duration) -> Option<String> {
        match self {
            Self::Unseen | Self::Missing => Some("no server was reached yet".to_owned()),
            Self::Usable { .. } => None,
            Self::Lost { since } => {
                let lost = now.saturating_sub(since);
                let seconds = lost / 1_000_000;
                (lost > micros(lost_max)).then(|| format!("its server is lost for {seconds} s"))
            }
        }
    }

    /// Whether a server is to be tried now.
    fn is_to_be_tried(self, evidence: Evidence, now: u64) -> bool {
        match (evidence, self) {
            (Evidence::Connected | Evidence::Paused, _) | (Evidence::Silent, Self::Usable { .. }) => false,
            (Evidence::Failing, Self::Usable { at }) => at + micros(AGAIN) <= now,
            (Evidence::Failing | Evidence::Silent, Self::Unseen | Self::Missing | Self::Lost { .. }) => true,
        }
    }

    fn after(self, probe: &Probe, now: u64) -> Self {
        match (probe, self) {
            (Probe::Reached, _) => Self::Usable { at: now },
            (Probe::Failed(_), Self::Unseen) => Self::Missing,
            (Probe::Failed(_), Self::Usable { .. }) => Self::Lost { since: now },
            (Probe::Failed(_) | Probe::Unknown, standing) => standing,
        }
    }
}

/// Looks at all databases, again and again. Never returns.
pub(super) async fn watch(site: Rc<Site>) -> std::io::Error {
    let room = Arc::new(Semaphore::new(PROBES_MAX));
    loop {
        if !site.hub.is_draining() {
            look(&site, &room).await;
        }
        sleep(LOOK).await;
    }
}

async fn look(site: &Site, room: &Arc<Semaphore>) {
    let (hub, readiness) = (&site.hub, &site.readiness);
    let directory = hub.directory.load_full();
    let now = hub.registry.clock.now();
    let evidence = evidence(hub);
    readiness
        .databases
        .borrow_mut()
        .retain(|name, _| directory.databases.contains_key(name));
    let mut probes = JoinSet::new();
    let realms = hub.registry.realms();
    for name in directory.databases.keys() {
        if let Some(realm) = realms.get(&**name) {
            readiness.note(name, &of_view(&realm.cluster.view()), now);
            continue;
        }
        let found = if hub.registry.is_paused(None) || hub.registry.is_paused(Some(name)) {
            Evidence::Paused
        } else {
            evidence.get(&**name).copied().unwrap_or(Evidence::Silent)
        };
        if found == Evidence::Connected {
            readiness.set(name, Standing::Usable { at: now });
        } else if readiness.standing(name).is_to_be_tried(found, now) {
            let (hub, directory) = (Arc::clone(hub), Arc::clone(&directory));
            let (name, room) = (name.clone(), Arc::clone(room));
            probes.spawn_local(async move {
                let _permit = room.acquire_owned().await;
                let probe = timeout(PROBE_MAX, try_server(&hub, &directory, &name)).await;
                let late = || Probe::Failed(format!("no answer within {PROBE_MAX:?}"));
                (name, probe.unwrap_or_else(|_| late()))
            });
        }
    }
    while let Some(done) = probes.join_next().await {
        let Ok((name, probe)) = done else { continue };
        readiness.note(&name, &probe, hub.registry.clock.now());
    }
}

/// A database with replicas is looked after already: writes have somewhere to go, or not.
fn of_view(view: &View) -> Probe {
    match (view.primary, view.vacancy) {
        (Some(_), _) => Probe::Reached,
        (None, Vacancy::Unheard) => Probe::Failed("no server has said that it is the primary".to_owned()),
        (None, Vacancy::Lost) => Probe::Failed("the primary is lost".to_owned()),
        (None, Vacancy::TwoPrimaries) => {
            Probe::Failed("two servers take writes on the same timeline".to_owned())
        }
    }
}

/// How long a database may be without its primary.
fn lost_max(directory: &Directory, name: &str) -> Duration {
    let replicas = directory
        .databases
        .get(name)
        .and_then(|entry| entry.replicas.as_ref());
    replicas.map_or(LOST_MAX, |replicas| replicas.health.failover_timeout)
}

/// What pools tell, by database.
fn evidence(hub: &Hub) -> BTreeMap<Arc<str>, Evidence> {
    let mut all: BTreeMap<Arc<str>, Evidence> = BTreeMap::new();
    for pool in hub.registry.pools() {
        let found = if pool.established() > 0 {
            Evidence::Connected
        } else if pool.is_failing() {
            Evidence::Failing
        } else {
            Evidence::Silent
        };
        let known = all.entry(Arc::clone(&pool.database)).or_insert(found);
        if found == Evidence::Connected || *known == Evidence::Silent {
            *known = found;
        }
    }
    all
}

/// Tries a database's server on a connection of its own: a login where pgweir has the means for one, else whether the server
/// answers.
async fn try_server(hub: &Hub, directory: &Directory, name: &str) -> Probe {
    let Some(entry) = directory.databases.get(name) else {
        return Probe::Unknown;
    };
    match &entry.user {
        Some(user) if !entry.passes_through(user) => log_in(hub, directory, (name, entry), user).await,
        _ => reach(entry).await,
    }
}

async fn log_in(
    hub: &Hub,
    directory: &Directory,
    (name, entry): (&str, &DatabaseEntry),
    user: &str,
) -> Probe {
    let settings = (directory.settings)(name, user);
    let target = entry.target(name, user, entry.secret.clone());
    let shared = hub.registry.outside(name, user, settings, target);
    // As many connections as there may be are open or on their way, and will tell.
    let Ok(slot) = shared.try_open(false) else {
        return Probe::Unknown;
    };
    let order = Order {
        shared: &shared,
        extra: &[],
        replication: Replication::None,
    };
    match connect::open(&order, &hub.deriver, OUTSIDE, slot).await {
        Ok(conn) => {
            conn.close();
            Probe::Reached
        }
        Err(failure) => Probe::Failed(failure.text),
    }
}

async fn reach(entry: &DatabaseEntry) -> Probe {
    let mut probe = Probe::Unknown;
    for host in &entry.hosts {
        let encryption = Encryption::first(entry.tls.mode());
        match dial::dial(host, &entry.tls, &entry.keepalive, encryption).await {
            Ok(_) => return Probe::Reached,
            Err(error) => probe = Probe::Failed(format!("{host}: {error}")),
        }
    }
    probe
}

/// How long a database may be without its server before the pooler is not ready: a failover is over by then, and clients
/// wait or try again meanwhile.
const LOST_MAX: Duration = Duration::from_secs(30);
/// Between two looks at what is known, and between two tries of a server that is not there.
const LOOK: Duration = Duration::from_secs(1);
/// Where clients fail to log in at a server that is there, it is not tried as often.
const AGAIN: Duration = Duration::from_secs(5);
/// For a server's answer, where `connect_timeout` is off or longer.
const PROBE_MAX: Duration = Duration::from_secs(10);
/// Databases that are tried at once: few enough not to be a burden to a server that has many of them.
const PROBES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_was_there_once_may_be_gone_for_a_while() {
        let failed = Probe::Failed("gone".to_owned());
        let mut standing = Standing::Unseen.after(&failed, 1);
        assert!(standing.reason(2, LOST_MAX).is_some());
        standing = standing.after(&Probe::Reached, 3);
        assert_eq!(standing.reason(4, LOST_MAX), None);
        standing = standing.after(&failed, 1_000_000);
        standing = standing.after(&failed, 2_000_000);
        standing = standing.after(&Probe::Unknown, 3_000_000);
        assert_eq!(standing.reason(31_000_000, LOST_MAX), None);
        let reason = standing.reason(33_000_000, LOST_MAX);
        assert_eq!(reason.as_deref(), Some("its server is lost for 32 s"));
        standing = standing.after(&Probe::Reached, 34_000_000);
        assert_eq!(standing.reason(35_000_000, LOST_MAX), None);
    }

    #[test]
    fn a_server_is_tried_where_nothing_else_tells_and_never_during_a_pause() {
        let (unseen, usable, lost) = (
            Standing::Unseen,
            Standing::Usable { at: 1 },
            Standing::Lost { since: 1 },
        );
        for standing in [unseen, usable, lost] {
            assert!(!standing.is_to_be_tried(Evidence::Paused, u64::MAX));
            assert!(!standing.is_to_be_tried(Evidence::Connected, u64::MAX));
        }
        assert!(unseen.is_to_be_tried(Evidence::Silent, 2) && lost.is_to_be_tried(Evidence::Silent, 2));
        assert!(!usable.is_to_be_tried(Evidence::Silent, u64::MAX));
        assert!(!usable.is_to_be_tried(Evidence::Failing, 2));
        assert!(usable.is_to_be_tried(Evidence::Failing, 10_000_000));
    }
}
