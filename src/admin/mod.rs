//! The console: a database that is the pooler itself, for those who operate it and for the tools that watch it.
//!
//! The conversation is `session`, a value; what a command does is in `run`. What only the application can do is asked of it
//! through the hub.

pub mod command;
mod moment;
mod replicas;
mod run;
pub mod session;
pub mod show;
pub mod stats;
pub mod table;
pub mod visitor;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::net::addr::ClientAddr;
use crate::protocol::{Parameters, Report, SqlState};
use crate::relay::directory::{Directory, is_own_console};
use crate::relay::hub::Hub;
use crate::session::startup::ClientRequest;

use session::Access;
use stats::{Averages, STATS_PERIOD, Totals};

/// What all clients of the console share.
#[derive(Debug)]
pub struct Console {
    pub hub: Arc<Hub>,
    averages: Averages,
    visitors: AtomicU32,
    commands: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Console {
    #[must_use]
    pub fn new(hub: Arc<Hub>) -> Arc<Self> {
        Arc::new(Self {
            hub,
            averages: Averages::default(),
            visitors: AtomicU32::new(0),
            commands: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        })
    }

    /// Looks at the sums once a period, for the averages. Never returns.
    pub async fn watch(self: Arc<Self>) {
        loop {
            self.averages.sample(self.hub.registry.clock.now(), self.totals());
            tokio::time::sleep(STATS_PERIOD).await;
        }
    }

    /// The sums by database.
    fn totals(&self) -> BTreeMap<Arc<str>, Totals> {
        let mut databases: BTreeMap<Arc<str>, Totals> = BTreeMap::new();
        for pool in self.hub.registry.pools() {
            let totals = databases.entry(Arc::clone(&pool.database)).or_default();
            totals.add(&Totals::of(&pool));
        }
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let commands = load(&self.commands);
        let received = load(&self.received);
        let own = [
            0,
            commands,
            commands,
            received,
            load(&self.sent),
            0,
            0,
            0,
            0,
            0,
            0,
        ];
        databases.insert(DATABASE.into(), Totals(own));
        databases
    }
}

/// What a client that is who it says may do here.
///
/// # Errors
/// Nothing.
pub fn access(directory: &Directory, request: &ClientRequest, address: ClientAddr) -> Result<Access, Report> {
    let is_in = |users: &[String]| users.contains(&request.user);
    if is_own_console(request, address) || is_in(&directory.admin_users) {
        Ok(Access::Admin)
    } else if is_in(&directory.stats_users) {
        Ok(Access::Stats)
    } else {
        Err(
            Report::fatal(SqlState::INSUFFICIENT_PRIVILEGE, "not allowed to use the console")
                .with_hint("The settings admin_users and stats_users say who is."),
        )
    }
}

/// What a client is told at its login.
#[must_use]
pub fn greeting() -> Parameters {
    let mut parameters = Parameters::new();
    let version = format!("{}/bouncer", show::COLUMNS_VERSION);
    for (name, value) in [
        ("server_version", version.as_str()),
        ("client_encoding", "UTF8"),
        ("server_encoding", "UTF8"),
        ("DateStyle", "ISO"),
        ("TimeZone", "GMT"),
        ("standard_conforming_strings", "on"),
        ("is_superuser", "on"),
    ] {
        parameters.set(name, value);
    }
    parameters
}

/// The name under which the console and its clients are shown, whichever name they came by: tools know it, and pass over it
/// where databases are counted.
pub const DATABASE: &str = "pgbouncer";
