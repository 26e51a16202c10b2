//! Opening a server connection: dial, log in, make ready.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use rand::Rng;
use rand::seq::SliceRandom;
use tokio::time::timeout;

use crate::auth::scram::NONCE_LEN;
use crate::net::addr::ServerAddr;
use crate::net::dial::{self, DialError, Dialed, Encryption};
use crate::protocol::startup::{ProtocolVersion, Replication};
use crate::protocol::{HEAD_LEN, Head, Report, SqlState};
use crate::session::ServerState;
use crate::session::login::{Login, LoginError, LoginPlan, LoginStep, Settled};

use super::clock::micros;
use super::conn::{Cancels, ServerConn, ServerInfo};
use super::converse;
use super::derive::Deriver;
use super::knowledge::Defaults;
use super::ledger::Slot;
use super::local::LocalPool;
use super::shared::{OUTSIDE, PoolShared};
use super::target::{SessionAttrs, Target};

/// Opens one connection in the background and gives it to whoever waits.
pub(super) fn spawn(pool: &Rc<LocalPool>, slot: Slot) {
    let connecting = Connecting::new(pool);
    let pool = Rc::clone(pool);
    tokio::task::spawn_local(async move {
        let order = Order {
            shared: &pool.shared,
            extra: &[],
            replication: Replication::None,
        };
        let tried = pool.shared.target.load_full();
        let begun = pool.worker.now();
        let opened = open(&order, &pool.worker.deriver, pool.worker.take_id(), slot).await;
        drop(connecting);
        match opened {
            Ok(conn) => {
                pool.shared.on_success();
                let taken = pool.worker.now().saturating_sub(begun);
                pool.numbers().durations.connect.observe(taken);
                pool.accept(conn);
            }
            Err(failure) => {
                tracing::warn!(
                    database = &*pool.shared.database,
                    user = &*pool.shared.user,
                    "cannot open a server connection: {failure}"
                );
                if failure.report.code == SqlState::INVALID_PASSWORD
                    && has_other_secret(&pool.shared, &tried).await
                {
                    pool.recheck();
                    return;
                }
                pool.on_connect_failed(&failure.report, failure.is_passing);
            }
        }
    });
}

/// One more connection is being opened, until this is dropped.
struct Connecting(Rc<LocalPool>);

impl Connecting {
    fn new(pool: &Rc<LocalPool>) -> Self {
        pool.connecting(1);
        Self(Rc::clone(pool))
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.0.connecting(-1);
    }
}

/// The server refuses the password: perhaps there is a new one where it came from, or somebody has logged in with one.
async fn has_other_secret(shared: &Arc<PoolShared>, tried: &Target) -> bool {
    if let Some(reread) = tried.reread.clone() {
        let user = Arc::clone(&tried.user);
        let read = tokio::task::spawn_blocking(move || (reread.0)(&user)).await;
        let target = shared.target.load_full();
        if let Ok(Some(secret)) = read
            && secret != tried.secret
            && target.secret == tried.secret
        {
            let target = Target::clone(&target);
            shared.target.store(Arc::new(Target { secret, ..target }));
        }
    }
    let has_other = shared.target.load().secret != tried.secret;
    if has_other {
        shared.retry_now();
    }
    has_other
}

/// A connection to be opened.
#[derive(Debug)]
pub struct Order<'a> {
    pub shared: &'a Arc<PoolShared>,
    /// Startup parameters beside those of the target.
    pub extra: &'a [(String, String)],
    pub replication: Replication,
}

/// Why a connection could not be opened.
#[derive(Clone, Debug)]
pub struct Failure {
    /// For clients.
    pub report: Report,
    /// For the log.
    pub text: String,
    /// The server says that it will be there soon.
    pub is_passing: bool,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Opens a connection within `connect_timeout`: host by host, until one will do.
///
/// # Errors
/// What the last host that was tried failed with.
pub async fn open(
    order: &Order<'_>,
    deriver: &Deriver,
    id: u64,
    slot: Slot,
) -> Result<Box<ServerConn>, Failure> {
    let limit = order.shared.settings().connect_timeout;
    let opening = open_some(order, deriver, id, slot);
    if limit.is_zero() {
        return opening.await;
    }
    timeout(limit, opening).await.unwrap_or_else(|_| {
        let report = Report::error(
            SqlState::CANNOT_ESTABLISH_CONNECTION,
            "cannot connect to the server",
        )
        .with_detail("It did not complete the login in time.")
        .with_hint("See connect_timeout.");
        Err(Failure {
            text: format!("no login within {limit:?}"),
            report,
            is_passing: false,
        })
    })
}

async fn open_some(
    order: &Order<'_>,
    deriver: &Deriver,
    id: u64,
    slot: Slot,
) -> Result<Box<ServerConn>, Failure> {
    let target = order.shared.target.load_full();
    let epoch = order.shared.epoch();
    let (opened, info) = reach(order, &target, deriver, id, epoch).await?;
    let Opened {
        dialed,
        settled,
        carry,
    } = opened;
    order
        .shared
        .welcome
        .store(Some(Arc::new(settled.parameters.clone())));
    let state = ServerState::new(id, settled.cancel_key, settled.parameters);
    let mut conn = Box::new(ServerConn::new(dialed.stream, state, info, epoch, slot));
    conn.carry = carry;
    let settings = order.shared.settings();
    let now = order.shared.clock.now();
    conn.idle_since = now;
    conn.expires_at = expiry(now, settings.server_lifetime, &mut rand::rng());
    if order.replication == Replication::None && order.shared.id != OUTSIDE {
        // In session mode, too: a client's own mode may be another than its pool's.
        let renewed = order.shared.catalog.inform(&mut conn, order.shared.clock).await;
        renewed.map_err(|trouble| Failure {
            text: format!("cannot read the functions: {}", trouble.report()),
            report: trouble.report().clone(),
            is_passing: false,
        })?;
    }
    if let Some(sql) = &settings.connect_query
        && order.replication == Replication::None
    {
        converse::query(&mut conn, sql).await.map_err(|trouble| Failure {
            text: format!("connect_query failed: {}", trouble.report()),
            report: trouble.report().clone(),
            is_passing: false,
        })?;
        // What it has set is this connection's default from now on.
        conn.state.base = Arc::new(conn.state.reported.clone());
    }
    if order.shared.is_routed() && order.replication == Replication::None {
        let defaults = Defaults::of(&mut conn).await.map_err(|trouble| Failure {
            text: format!("cannot read what sessions begin with: {}", trouble.report()),
            report: trouble.report().clone(),
            is_passing: false,
        })?;
        order.shared.defaults.store(Some(Arc::new(defaults)));
    }
    Ok(conn)
}

/// When a connection is to be closed that is opened now; 0 is never. Those that were opened together do not end together.
fn expiry(now: u64, lifetime: Duration, random: &mut impl Rng) -> u64 {
    if lifetime.is_zero() {
        return 0;
    }
    let lifetime = micros(lifetime);
    let jitter = random.random_range(0..=lifetime / LIFETIME_JITTER_PART);
    now.saturating_add(lifetime - jitter)
}

struct Opened {
    dialed: Dialed,
    settled: Settled,
    /// What came behind the login.
    carry: Vec<u8>,
}

/// Tries host by host.
async fn reach(
    order: &Order<'_>,
    target: &Target,
    deriver: &Deriver,
    id: u64,
    epoch: u32,
) -> Result<(Opened, ServerInfo), Failure> {
    let mut hosts: Vec<&ServerAddr> = target.hosts.iter().collect();
    if target.shuffled {
        hosts.shuffle(&mut rand::rng());
    }
    let mut wish = Some(target.session_attrs);
    let mut failure = unsuitable(target.session_attrs);
    while let Some(attrs) = wish {
        for host in &hosts {
            match try_host(order, target, host, deriver).await {
                Ok(opened) if attrs.accept(&opened.settled.parameters) => {
                    let mut info = info(order, target, &opened, id);
                    info.epoch = epoch;
                    return Ok((opened, info));
                }
                Ok(_) => failure = unsuitable(attrs),
                Err(failed) => failure = failed,
            }
        }
        wish = attrs.second_wish();
    }
    Err(failure)
}

fn info(order: &Order<'_>, target: &Target, opened: &Opened, id: u64) -> ServerInfo {
    ServerInfo {
        id,
        address: opened.dialed.address.clone(),
        local: opened.dialed.stream.socket().local_addr(),
        encryption: opened.dialed.encryption(),
        tls: Arc::clone(&target.tls),
        keepalive: target.keepalive,
        cancel_key: opened.settled.cancel_key.clone(),
        connected_at: order.shared.clock.now(),
        database: Arc::clone(&order.shared.database),
        user: Arc::clone(&order.shared.user),
        epoch: 0,
        statements: AtomicUsize::new(0),
        cancels: Cancels::counted_in(&order.shared.cancelling),
    }
}

/// Logs in at one host, with the other kind of encryption if the first is refused.
async fn try_host(
    order: &Order<'_>,
    target: &Target,
    host: &ServerAddr,
    deriver: &Deriver,
) -> Result<Opened, Failure> {
    let mut encryption = Encryption::first(target.tls.mode());
    loop {
        let mut dialed = dial::dial(host, &target.tls, &target.keepalive, encryption)
            .await
            .map_err(|error| dial_failed(host, &error))?;
        let other = dialed.other_encryption(&target.tls);
        match log_in(order, target, &mut dialed, deriver).await {
            Ok((settled, carry)) => {
                return Ok(Opened {
                    dialed,
                    settled,
                    carry,
                });
            }
            Err(Snag::Login(LoginError::Server(error))) if error.code == SqlState::INVALID_AUTHORIZATION => {
                match other {
                    Some(other) if other != encryption => encryption = other,
                    _ => return Err(login_failed(host, &Snag::Login(LoginError::Server(error)))),
                }
            }
            Err(error) => return Err(login_failed(host, &error)),
        }
    }
}

async fn log_in(
    order: &Order<'_>,
    target: &Target,
    dialed: &mut Dialed,
    deriver: &Deriver,
) -> Result<(Settled, Vec<u8>), Snag> {
    let mut nonce = [0; NONCE_LEN];
    rand::rng().fill(&mut nonce);
    let binding = dialed
        .tls
        .as_ref()
        .and_then(|peer| peer.channel_binding.as_deref());
    let plan = LoginPlan {
        user: target.user.to_string(),
        database: target.database.to_string(),
        parameters: target.parameters.iter().chain(order.extra).cloned().collect(),
        replication: order.replication,
        secret: target.secret.clone(),
        channel_binding: binding.map(Into::into),
        binding_rule: target.binding_rule,
        version: ProtocolVersion::V3_0,
        nonce,
    };
    let mut out = Vec::new();
    let mut login = Login::start(plan, &mut out);
    let mut carry = Vec::new();
    let mut buf = vec![0; LOGIN_READ_LEN];
    loop {
        send(dialed, &mut out).await?;
        let message = next_message(dialed, &mut carry, &mut buf).await?;
        let (tag, body) = message;
        let mut step = login.on_message(tag, &body, &mut out);
        if let LoginStep::Derive(wait) = step {
            let keys = deriver.keys(wait.work()).await.ok_or(Snag::Lost)?;
            step = wait.on_keys(keys, &mut out);
        }
        login = match step {
            LoginStep::NeedMore(login) => login,
            LoginStep::Ready(settled) => return Ok((*settled, carry)),
            LoginStep::Failed(error) => return Err(Snag::Login(*error)),
            LoginStep::Derive(_) => return Err(Snag::Lost),
        };
    }
}

async fn send(dialed: &mut Dialed, out: &mut Vec<u8>) -> Result<(), Snag> {
    if !out.is_empty() {
        dialed.stream.write_all(out).await.map_err(|_| Snag::Lost)?;
        out.clear();
    }
    Ok(())
}

async fn next_message(
    dialed: &mut Dialed,
    carry: &mut Vec<u8>,
    buf: &mut [u8],
) -> Result<(u8, Vec<u8>), Snag> {
    loop {
        let head = Head::read(carry).map_err(|_| Snag::Lost)?;
        if let Some(head) = head {
            if head.body > LOGIN_MESSAGE_MAX {
                return Err(Snag::Login(LoginError::Unexpected(head.tag)));
            }
            if let Some(body) = carry.get(HEAD_LEN..head.len()) {
                let body = body.to_vec();
                carry.drain(..head.len());
                return Ok((head.tag, body));
            }
        }
        match dialed.stream.read(buf).await {
            Ok(0) | Err(_) => return Err(Snag::Lost),
            Ok(count) => carry.extend_from_slice(buf.get(..count).unwrap_or_default()),
        }
    }
}

fn dial_failed(host: &ServerAddr, error: &DialError) -> Failure {
    Failure {
        text: format!("{host}: {error}"),
        report: error.into(),
        is_passing: false,
    }
}

fn login_failed(host: &ServerAddr, snag: &Snag) -> Failure {
    match snag {
        Snag::Login(error) => {
            let is_passing =
                matches!(error, LoginError::Server(server) if server.code == SqlState::CANNOT_CONNECT_NOW);
            Failure {
                text: format!("{host}: {error}"),
                report: error.into(),
                is_passing,
            }
        }
        Snag::Lost => {
            let report = Report::error(
                SqlState::CANNOT_ESTABLISH_CONNECTION,
                "cannot connect to the server",
            )
            .with_detail("The connection was lost during the login.");
            Failure {
                text: format!("{host}: the connection was lost during the login"),
                report,
                is_passing: false,
            }
        }
    }
}

/// What ends a login early.
enum Snag {
    Login(LoginError),
    Lost,
}

fn unsuitable(attrs: SessionAttrs) -> Failure {
    let report = Report::error(
        SqlState::CANNOT_ESTABLISH_CONNECTION,
        "no host has the session attributes asked for",
    )
    .with_hint("See target_session_attrs in the URL of the database.");
    Failure {
        text: format!("no host is {attrs:?}"),
        report,
        is_passing: false,
    }
}

const LOGIN_READ_LEN: usize = 4096;
/// A message of a login: parameters, a challenge, an error.
const LOGIN_MESSAGE_MAX: usize = 64 * 1024;
/// Lifetimes are shortened by up to this part of them.
const LIFETIME_JITTER_PART: u64 = 5;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn lifetimes_are_spread_over_their_last_fifth() {
        let hour = Duration::from_secs(3600);
        let now = 7;
        let random = &mut StdRng::seed_from_u64(1);
        let ends: Vec<u64> = (0..10_000).map(|_| expiry(now, hour, random) - now).collect();
        let (first, last) = (ends.iter().min().unwrap(), ends.iter().max().unwrap());
        assert!(
            *first >= micros(hour) / 5 * 4 && *last <= micros(hour),
            "{first} {last}"
        );
        // As many in each tenth of it, give or take.
        let tenth = micros(hour) / 50;
        for part in 0..10 {
            let from = micros(hour) / 5 * 4 + part * tenth;
            let count = ends
                .iter()
                .filter(|end| (from..from + tenth).contains(*end))
                .count();
            assert!((800..1200).contains(&count), "{count} in tenth {part}");
        }
        assert!(ends.iter().collect::<HashSet<_>>().len() > 9_900);
    }

    #[test]
    fn a_lifetime_of_zero_never_ends_and_the_shortest_ends() {
        let random = &mut StdRng::seed_from_u64(1);
        assert_eq!(expiry(7, Duration::ZERO, random), 0);
        assert_eq!(expiry(7, Duration::from_micros(1), random), 8);
        assert!(expiry(7, Duration::MAX, random) > 7);
    }
}
