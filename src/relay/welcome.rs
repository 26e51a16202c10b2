//! From a client that is known to one that is served: its pool, its settings, its greeting.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::Verifier;
use crate::pool::connect::{self, Order};
use crate::pool::converse;
use crate::pool::lease::Lease;
use crate::pool::local::LocalPool;
use crate::pool::registry::{Admission, Crowded, Registry};
use crate::pool::shared::PoolShared;
use crate::pool::worker::Worker;
use crate::protocol::startup::{ProtocolVersion, Replication};
use crate::protocol::{Parameters, Report, SqlState};
use crate::session::flow::{Flow, Naming};
use crate::session::login::ServerSecret;
use crate::session::settings::APPLICATION_NAME;
use crate::session::startup::{ClientLogin, Evidence};
use crate::session::{ClientSession, Hygiene, settings};

use super::client::Client;
use super::directory::{DatabaseEntry, Directory};
use super::farewell::Farewell;
use super::route::Routing;
use super::vacancy;
use super::wait::{self, Waited};

/// What servers have made of the settings that clients start with: the same settings need be tried once only.
#[derive(Debug, Default)]
pub struct Greetings {
    known: Mutex<HashMap<(u64, Parameters), Greeting>>,
}

/// A client's settings in the server's own spelling, and every value it is told.
#[derive(Clone, Debug)]
struct Greeting {
    settings: Parameters,
    reported: Parameters,
    /// What the server remarked on the settings: messages, as they are sent.
    notices: Vec<u8>,
}

/// The pool a login leads to. Refused with what the client is told.
///
/// # Errors
/// No such database; too many clients.
pub fn find_pool(
    login: &ClientLogin,
    verifier: Option<&Verifier>,
    directory: &Directory,
    registry: &Registry,
) -> Result<(Arc<PoolShared>, Admission), Report> {
    let request = &login.request;
    let Some((database, entry)) = directory.asked_for(request) else {
        return Err(Report::fatal(
            SqlState::INVALID_DATABASE,
            format!("database \"{}\" does not exist", request.database),
        )
        .with_hint("The configuration has no database of this name."));
    };
    let settings = || (directory.settings)(database, &request.user);
    let profile = registry.profile(database, &request.user, settings);
    let admission = profile.admit().map_err(|crowded| {
        let what = match crowded {
            Crowded::Database => "max_db_clients",
            Crowded::User => "max_user_clients",
        };
        Report::fatal(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
            .with_detail(format!("The limit {what} is reached."))
    })?;
    let pool = pool_at(0, login, verifier, directory, registry, (database, entry));
    Ok((pool, admission))
}

/// The way of a client of a database with replicas; none if it has none.
#[must_use]
pub fn find_routing(
    login: &ClientLogin,
    verifier: Option<&Verifier>,
    directory: &Directory,
    registry: &Registry,
    worker: &Rc<Worker>,
) -> Option<Box<Routing>> {
    let (database, entry) = directory.asked_for(&login.request)?;
    let replicas = entry.replicas.as_ref()?;
    if is_replication(login) {
        return None;
    }
    let realm = registry.realm(database, || replicas.view(entry));
    let pools = (0..=replicas.servers.len()).filter_map(|place| {
        let server = entry.at(place)?;
        let shared = pool_at(place, login, verifier, directory, registry, (database, server));
        Some(worker.pool(&shared))
    });
    Routing::new(realm, pools.collect())
}

/// The pool of a login on one of its database's servers.
fn pool_at(
    place: usize,
    login: &ClientLogin,
    verifier: Option<&Verifier>,
    directory: &Directory,
    registry: &Registry,
    (database, entry): (&str, &DatabaseEntry),
) -> Arc<PoolShared> {
    let user = &login.request.user;
    let server_user = entry.user.as_deref().unwrap_or(user);
    // Nobody's secret is used for another user.
    let secret = if entry.passes_through(user) {
        secret_of(login, verifier, directory)
    } else {
        ServerSecret::None
    };
    let pool = registry.pool(database, server_user, place, || {
        let target = entry.target(database, user, secret.clone());
        ((directory.settings)(database, server_user), target)
    });
    keep_secret(&pool, &secret);
    pool
}

/// What the client's own login leaves to log in to a server with.
fn secret_of(login: &ClientLogin, verifier: Option<&Verifier>, directory: &Directory) -> ServerSecret {
    let listed = || directory.users.get(&login.request.user)?.as_ref();
    match (&login.evidence, verifier.or_else(listed)) {
        (_, Some(Verifier::Plain(password))) => ServerSecret::Plain(password.clone()),
        (Evidence::Password(password), _) => ServerSecret::Plain(password.clone()),
        (Evidence::Scram(keys), _) => ServerSecret::Scram(keys.clone()),
        (Evidence::None, Some(Verifier::Md5(secret))) => ServerSecret::Md5(secret.clone()),
        (Evidence::None, _) => ServerSecret::None,
    }
}

/// A user that is passed through may have another password than at its last login.
fn keep_secret(pool: &Arc<PoolShared>, secret: &ServerSecret) {
    let target = pool.target.load();
    if *secret != ServerSecret::None && target.secret != *secret {
        let target = crate::pool::target::Target {
            secret: secret.clone(),
            ..(**target).clone()
        };
        pool.target.store(Arc::new(target));
        pool.retry_now();
    }
}

/// The settings a client starts with. Of equal names the last counts.
#[must_use]
pub fn startup_settings(login: &ClientLogin) -> Parameters {
    let mut settings = Parameters::new();
    for (name, value) in &login.request.settings {
        settings.set(name, value);
    }
    settings
}

/// Finds out what the client is to be told at its login, and brings its settings into the server's spelling.
///
/// # Errors
/// What ends the login.
pub async fn greet(client: &mut Client, greetings: &Greetings) -> Result<Parameters, Farewell> {
    // A name for the log changes nothing else: it need not be tried, unless the server makes another of it.
    let mut tried = Parameters::clone(&client.session.startup);
    let name = tried.value(APPLICATION_NAME).filter(|name| is_plain(name));
    let application_name = name.map(str::to_owned);
    if application_name.is_some() {
        tried.remove(APPLICATION_NAME);
    }
    let mut greeting = match client.routing.as_ref().map(|routing| routing.hosts()) {
        None => {
            let pool = Rc::clone(&client.pool);
            greeting_of(client, pool, &tried, greetings).await?
        }
        Some(hosts) => greeting_of_any(client, hosts, &tried, greetings).await?,
    };
    if let Some(name) = application_name {
        greeting.settings.set(APPLICATION_NAME, &name);
        greeting.reported.set(APPLICATION_NAME, &name);
    }
    client.owed.extend_from_slice(&greeting.notices);
    client.session = if greeting.settings.is_empty() {
        ClientSession::starting(Arc::clone(&client.context.no_settings))
    } else {
        ClientSession::new(greeting.settings)
    };
    Ok(greeting.reported)
}

/// What the first of these servers says that can be reached; that is the one of the database's URL, if there is none.
async fn greeting_of_any(
    client: &mut Client,
    hosts: Vec<Rc<LocalPool>>,
    tried: &Parameters,
    greetings: &Greetings,
) -> Result<Greeting, Farewell> {
    let mut hosts = hosts.into_iter();
    let mut next = hosts.next().unwrap_or_else(|| Rc::clone(&client.pool));
    loop {
        match (greeting_of(client, next, tried, greetings).await, hosts.next()) {
            (Ok(mut greeting), _) => {
                // Whoever asks for a primary finds one here, wherever this was asked.
                if greeting.reported.value(IN_HOT_STANDBY).is_some() {
                    greeting.reported.set(IN_HOT_STANDBY, "off");
                }
                return Ok(greeting);
            }
            (Err(Farewell::Told(report)), Some(host)) if vacancy::is_of_absence(&report) => {
                if let Some(routing) = &client.routing {
                    routing.on_sign();
                }
                next = host;
            }
            (Err(farewell), _) => return Err(farewell),
        }
    }
}

/// What a pool's server says to a session with these settings.
async fn greeting_of(
    client: &mut Client,
    pool: Rc<LocalPool>,
    tried: &Parameters,
    greetings: &Greetings,
) -> Result<Greeting, Farewell> {
    let id = pool.shared.id;
    let known = if tried.is_empty() {
        let reported = pool.shared.welcome.load_full();
        reported.map(|reported| Greeting {
            settings: Parameters::new(),
            reported: (*reported).clone(),
            notices: Vec::new(),
        })
    } else {
        greetings.find(id, tried)
    };
    if let Some(known) = known {
        return Ok(known);
    }
    let found = ask(client, pool, tried).await?;
    greetings.remember(id, tried.clone(), &found);
    Ok(found)
}

/// Whether every server takes a name as it is: of others it replaces characters, or cuts the end off.
fn is_plain(name: &str) -> bool {
    name.len() <= NAME_LEN_MAX && name.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Tries the settings on a server.
async fn ask(client: &mut Client, pool: Rc<LocalPool>, tried: &Parameters) -> Result<Greeting, Farewell> {
    let mut lease = match pool.try_lease() {
        Some(lease) => lease,
        None => match wait::wait(client, pool).await {
            Waited::Leased(lease) => lease,
            Waited::Failed(report) | Waited::Refused(report) => {
                return Err(Farewell::Told(report.into_fatal()));
            }
            Waited::Leave(farewell) => return Err(farewell),
        },
    };
    let conn = lease.conn();
    let mut session = ClientSession::new(tried.clone());
    let mut notices = Vec::new();
    if let Some(sql) = settings::difference(&mut session, &mut conn.state) {
        let limit = client.settings().connect_timeout;
        let limit = if limit.is_zero() { TRIAL_MAX } else { limit };
        let Ok(tried) = tokio::time::timeout(limit, converse::remarks(conn, &sql)).await else {
            return Err(Farewell::Told(
                Report::fatal(
                    SqlState::CONNECTION_FAILURE,
                    "the server did not take the settings of the session in time",
                )
                .with_hint("Connect again."),
            ));
        };
        match tried {
            Ok(remarks) => notices = remarks,
            Err(trouble) => {
                let report = trouble.report().clone().into_fatal();
                if matches!(trouble, converse::Trouble::Error(_)) {
                    give_back(lease);
                }
                return Err(Farewell::Told(report));
            }
        }
        settings::on_applied(&session, &mut conn.state);
    }
    let reported = conn.state.reported.clone();
    let mut settings = tried.clone();
    for (name, _) in tried.iter() {
        if let Some(value) = reported.value(name) {
            settings.set(name, value);
        }
    }
    give_back(lease);
    Ok(Greeting {
        settings,
        reported,
        notices,
    })
}

/// A connection that was not used for anything that must be undone goes back.
pub(super) fn give_back(mut lease: Lease) {
    let state = &mut lease.conn().state;
    if let Ok(rest) = Flow::new(Naming::Verbatim, state).into_rest(state) {
        lease.give_back(&rest);
    }
}

/// A server connection of the client's own: replication.
///
/// # Errors
/// What ends the login.
pub async fn open_own(pool: &Rc<LocalPool>, login: &ClientLogin) -> Result<(Lease, Parameters), Farewell> {
    let extra = &login.request.settings;
    let order = Order {
        shared: &pool.shared,
        extra,
        replication: login.request.replication,
    };
    let limit = pool.settings().pool_timeout;
    let slot = async {
        loop {
            match pool.shared.try_open(false) {
                Ok(slot) => return slot,
                Err(_) if pool.evict() => {}
                Err(_) => tokio::time::sleep(SLOT_LOOK).await,
            }
        }
    };
    let Ok(slot) = tokio::time::timeout(limit, slot).await else {
        return Err(Farewell::Told(
            Report::fatal(
                SqlState::TOO_MANY_CONNECTIONS,
                "no server connection became free in time",
            )
            .with_hint("Raise pool_size: a replication connection has a server connection of its own."),
        ));
    };
    let worker = &pool.worker;
    let opened = connect::open(&order, &worker.deriver, worker.take_id(), slot).await;
    let mut conn = opened.map_err(|failure| Farewell::Told(failure.report.into_fatal()))?;
    // It was opened with the client's own parameters: nobody else can use it.
    conn.state.hygiene = Hygiene::Unfit;
    let reported = conn.state.reported.clone();
    Ok((pool.lease(conn), reported))
}

/// Whether a login asks for a connection of its own.
#[must_use]
pub fn is_replication(login: &ClientLogin) -> bool {
    login.request.replication != Replication::None
}

/// The length of the secret in a client's cancel key: longer from protocol 3.2 on.
#[must_use]
pub fn secret_len(version: ProtocolVersion) -> usize {
    if version >= ProtocolVersion::V3_2 {
        SECRET_LEN_3_2
    } else {
        4
    }
}

impl Greetings {
    fn find(&self, pool: u64, tried: &Parameters) -> Option<Greeting> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(pool, tried.clone())).cloned()
    }

    fn remember(&self, pool: u64, tried: Parameters, greeting: &Greeting) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= GREETINGS_MAX {
            known.clear();
        }
        known.insert((pool, tried), greeting.clone());
    }

    /// The servers may have changed.
    pub fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

const IN_HOT_STANDBY: &str = "in_hot_standby";
/// `NAMEDATALEN` of PostgreSQL, less the zero at the end.
const NAME_LEN_MAX: usize = 63;
/// As PostgreSQL 18 has it (`MAX_CANCEL_KEY_LENGTH` allows 256).
pub const SECRET_LEN_3_2: usize = 32;
const GREETINGS_MAX: usize = 1024;
/// How long a server may take to set a few settings, where connecting itself has no limit.
const TRIAL_MAX: std::time::Duration = std::time::Duration::from_secs(15);
/// How often a replication client looks whether there is room for its connection.
const SLOT_LOOK: std::time::Duration = std::time::Duration::from_millis(20);
