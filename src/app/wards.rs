//! A thread beside the workers that looks after the servers of databases with replicas.

use std::cell::Cell;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

use tokio::runtime::{Builder as RuntimeBuilder, LocalOptions};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::pool::health::{self, Ward};
use crate::pool::settings::PoolSettings;
use crate::relay::directory::{DatabaseEntry, Directory, ReplicaEntries};
use crate::relay::hub::Hub;
use crate::topology::{Conflict, View};

use super::alarm::{Alarm, Gone};

/// Where it learns what to look after. The thread begins when there is something, and lasts as long as the process.
#[derive(Debug)]
pub(super) struct Wards {
    alarms: mpsc::Sender<Gone>,
    list: Option<Arc<List>>,
}

/// What is to be looked after from now on. A later list takes the place of one that nobody has taken yet.
#[derive(Debug, Default)]
struct List {
    latest: Mutex<Option<Vec<Ward>>>,
    told: Notify,
}

impl List {
    fn put(&self, wards: Vec<Ward>) {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(wards);
        self.told.notify_one();
    }

    async fn take(&self) -> Vec<Ward> {
        loop {
            self.told.notified().await;
            let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(wards) = latest {
                return wards;
            }
        }
    }
}

impl Wards {
    /// `alarms`: who is told should the thread be gone.
    pub(super) fn new(alarms: &mpsc::Sender<Gone>) -> Self {
        Self {
            alarms: alarms.clone(),
            list: None,
        }
    }

    /// From now on these databases are looked after, and no others.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn set(&mut self, hub: &Hub, directory: &Directory) -> io::Result<()> {
        let mut wards = Vec::new();
        for (name, entry) in &directory.databases {
            match &entry.replicas {
                Some(replicas) => wards.push(ward(hub, directory, name, entry, replicas)),
                None => hub.registry.close_realm(name),
            }
        }
        if self.list.is_none() {
            if wards.is_empty() {
                return Ok(());
            }
            self.list = Some(start(Alarm::new("health".to_owned(), &self.alarms))?);
        }
        if let Some(list) = &self.list {
            // Were the thread gone, the alarm would have rung.
            list.put(wards);
        }
        Ok(())
    }
}

fn start(alarm: Alarm) -> io::Result<Arc<List>> {
    let list = Arc::new(List::default());
    let lists = Arc::clone(&list);
    let work = move || -> io::Result<()> {
        let runtime = RuntimeBuilder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())?;
        let _alarm = alarm;
        runtime.block_on(async move {
            let mut tasks = JoinSet::new();
            loop {
                let wards = lists.take().await;
                tasks.shutdown().await;
                for ward in wards {
                    tasks.spawn_local(health::look_after(ward));
                }
            }
        })
    };
    Builder::new().name("health".to_owned()).spawn(move || {
        if let Err(error) = work() {
            tracing::error!("nobody looks after the servers: {error}");
        }
    })?;
    Ok(list)
}

fn ward(
    hub: &Hub,
    directory: &Directory,
    name: &str,
    entry: &DatabaseEntry,
    replicas: &ReplicaEntries,
) -> Ward {
    let view = replicas.view(entry);
    let mut realm = hub.registry.realm(name, || view.clone());
    let known = (**realm.cluster.view()).clone();
    if names_of(&known) != names_of(&view) {
        // Who has come before knows other servers by their places.
        hub.registry.close_realm(name);
        realm = hub.registry.realm(name, || view);
    } else if let Some(weighed) = weighed(known, &view) {
        realm.cluster.publish(weighed);
    }
    realm.cluster.set_rules(replicas.rules);
    realm
        .cluster
        .set_failover_timeout(replicas.health.failover_timeout);
    realm.knowledge.set_functions(replicas.functions.clone());
    let servers = (0..=replicas.servers.len()).filter_map(|place| {
        let server = entry.at(place)?;
        let user = server.user.as_deref().unwrap_or_default();
        let settings = PoolSettings {
            // One to ask how it is, one to read its catalogs.
            pool_size: 2,
            ..(directory.settings)(name, user)
        };
        let target = server.target(name, user, server.secret.clone());
        Some(hub.registry.outside(name, user, settings, target))
    });
    Ward {
        realm,
        health: replicas.health,
        servers: servers.collect(),
        deriver: Arc::clone(&hub.deriver),
        clock: hub.registry.clock,
        told: Cell::new(Conflict::None),
    }
}

fn names_of(view: &View) -> Vec<Arc<str>> {
    view.servers
        .iter()
        .map(|server| Arc::clone(&server.name))
        .collect()
}

/// What is known of servers with the weights they have now; none if those are what they were.
fn weighed(mut known: View, view: &View) -> Option<View> {
    let mut has_changed = false;
    for (server, now) in known.servers.iter_mut().zip(&view.servers) {
        has_changed |= server.weight != now.weight;
        server.weight = now.weight;
    }
    has_changed.then_some(known)
}
