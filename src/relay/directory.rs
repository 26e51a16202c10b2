//! What a login needs to know: databases, users, methods. Made anew at each reload, and never changed.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::{Hba, Method, Mock, Verifier};
use crate::net::addr::{ClientAddr, ServerAddr};
use crate::net::keepalive::Keepalive;
use crate::net::tls::{ClientTls, ServerTls};
use crate::plan::Patterns;
use crate::pool::settings::PoolSettings;
use crate::pool::target::{Reread, SessionAttrs, Target};
use crate::protocol::startup::Replication;
use crate::session::login::{BindingRule, ServerSecret};
use crate::session::startup::ClientRequest;
use crate::topology::{Health, Role, Rules, ServerView, Vacancy, View};

/// The directory, as it stands between two reloads.
pub struct Directory {
    pub databases: HashMap<String, Arc<DatabaseEntry>>,
    /// Serves every other name.
    pub wildcard: Option<Arc<DatabaseEntry>>,
    /// `None` for a user that no password lets in.
    pub users: HashMap<String, Option<Verifier>>,
    /// The names of all who are listed anywhere.
    pub names: HashSet<String>,
    pub method: Method,
    pub hba: Option<Arc<Hba>>,
    pub auth_query: Option<AuthQuery>,
    pub tls: Arc<ClientTls>,
    pub keepalive: Keepalive,
    pub mock: Mock,
    pub admin_users: Vec<String>,
    pub stats_users: Vec<String>,
    pub max_clients: u32,
    pub login_timeout: Duration,
    /// Statements that take longer are logged; zero is off.
    pub log_slow: Duration,
    /// What `SHOW CONFIG` shows: key, value, default, and whether a reload changes it.
    pub rows: Vec<(&'static str, String, String, bool)>,
    /// Resolves the levels of settings for a database and a user.
    pub settings: Box<Resolver>,
}

/// From a database and a user to what is set for them.
type Resolver = dyn Fn(&str, &str) -> PoolSettings + Send + Sync;

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("databases", &self.databases.len())
            .finish_non_exhaustive()
    }
}

impl Directory {
    #[must_use]
    pub fn database(&self, name: &str) -> Option<&Arc<DatabaseEntry>> {
        self.databases.get(name).or(self.wildcard.as_ref())
    }

    /// The database for a client that names one or means its server: where the name is unknown, the only one there is.
    #[must_use]
    pub fn server<'a>(&'a self, name: &'a str) -> Option<(&'a str, &'a Arc<DatabaseEntry>)> {
        if let Some(entry) = self.database(name) {
            return Some((name, entry));
        }
        let mut all = self.databases.iter();
        let (only, entry) = all.next()?;
        all.next().is_none().then_some((only, entry))
    }

    /// The database that a login asks for, and the name it is configured under.
    #[must_use]
    pub fn asked_for<'a>(&'a self, request: &'a ClientRequest) -> Option<(&'a str, &'a Arc<DatabaseEntry>)> {
        let name = request.database.as_str();
        match request.replication {
            // A stream of WAL is of a whole server, and its clients name no database of it.
            Replication::Physical => self.server(name),
            Replication::None | Replication::Logical => self.database(name).map(|entry| (name, entry)),
        }
    }

    /// Under `trust`, whether this name is let in: any, unless users are listed.
    #[must_use]
    pub fn trusts(&self, user: &str) -> bool {
        self.names.is_empty() || self.names.contains(user)
    }
}

/// Whether a database is the console, under either of its names.
#[must_use]
pub fn is_console(database: &str) -> bool {
    matches!(database, "pgweir" | "pgbouncer")
}

/// Whether somebody comes to the console who could do anything to this process anyway: the same user of the operating
/// system, over a Unix socket. Needs no password under the console's own name.
#[must_use]
pub fn is_own_console(request: &ClientRequest, address: ClientAddr) -> bool {
    let ClientAddr::Unix { uid: Some(uid), .. } = address else {
        return false;
    };
    is_console(&request.database) && is_console(&request.user) && uid == rustix::process::geteuid().as_raw()
}

/// How an unknown user's secret is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthQuery {
    pub sql: Arc<str>,
    pub user: Option<String>,
    pub cache: Duration,
}

/// One database.
#[derive(Clone, Debug)]
pub struct DatabaseEntry {
    pub hosts: Vec<ServerAddr>,
    pub shuffled: bool,
    pub tls: Arc<ServerTls>,
    pub keepalive: Keepalive,
    /// The database's name on the server; the client's own where there is none.
    pub database: Option<String>,
    /// The user's name on the server; the client's own where there is none.
    pub user: Option<String>,
    pub parameters: Vec<(String, String)>,
    pub session_attrs: SessionAttrs,
    pub binding_rule: BindingRule,
    pub secret: ServerSecret,
    pub reread: Option<Reread>,
    /// In a box: most databases have none.
    pub replicas: Option<Box<ReplicaEntries>>,
}

/// The replicas of a database, and what is set for using them.
#[derive(Clone, Debug)]
pub struct ReplicaEntries {
    /// In the order of the configuration; their places begin with 1.
    pub servers: Vec<ReplicaEntry>,
    pub rules: Rules,
    pub health: Health,
    pub functions: Patterns,
}

/// One replica.
#[derive(Clone, Debug)]
pub struct ReplicaEntry {
    pub server: DatabaseEntry,
    pub weight: u32,
}

impl ReplicaEntries {
    /// What is known before anybody was asked: which servers there are.
    #[must_use]
    pub fn view(&self, primary: &DatabaseEntry) -> View {
        let unknown = |entry: &DatabaseEntry, weight| ServerView {
            name: entry
                .hosts
                .first()
                .map_or_else(|| "".into(), |host| host.to_string().into()),
            role: Role::Unknown,
            is_usable: false,
            instance: 0,
            timeline: 0,
            missing_since: None,
            weight,
            samples: Vec::new(),
        };
        let replicas = self
            .servers
            .iter()
            .map(|replica| unknown(&replica.server, replica.weight));
        View {
            primary: None,
            vacancy: Vacancy::Unheard,
            servers: std::iter::once(unknown(primary, 1)).chain(replicas).collect(),
        }
    }
}

impl DatabaseEntry {
    /// The server at a place.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<&Self> {
        let Some(before) = place.checked_sub(1) else {
            return Some(self);
        };
        Some(&self.replicas.as_ref()?.servers.get(before)?.server)
    }

    /// Whether this user of ours is the same on the server, and what it has logged in with here is needed there.
    #[must_use]
    pub fn passes_through(&self, user: &str) -> bool {
        self.secret == ServerSecret::None && self.user.as_deref().is_none_or(|own| own == user)
    }

    /// Where the connections of a user's pool go. `secret` is what is known of a user that is passed through.
    #[must_use]
    pub fn target(&self, database: &str, user: &str, secret: ServerSecret) -> Target {
        Target {
            hosts: self.hosts.clone(),
            shuffled: self.shuffled,
            tls: Arc::clone(&self.tls),
            keepalive: self.keepalive,
            database: self.database.as_deref().unwrap_or(database).into(),
            user: self.user.as_deref().unwrap_or(user).into(),
            parameters: self.parameters.clone(),
            session_attrs: self.session_attrs,
            binding_rule: self.binding_rule,
            secret: if self.passes_through(user) {
                secret
            } else {
                self.secret.clone()
            },
            reread: self.reread.clone(),
        }
    }
}
