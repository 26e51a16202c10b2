//! The one connection of a pool that listens for all its clients, and the task that has it.
//!
//! Outside of `pool_size`, inside `max_db_connections`. It is there as long as somebody listens, and is opened again when it is
//! lost: then everybody is told that notifications may be missing.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::protocol::body::{ErrorFields, split_cstr};
use crate::protocol::startup::Replication;
use crate::protocol::{HEAD_LEN, Head, Report, SqlState, tag};
use crate::session::client::query;
use crate::session::listening::Channel;

use super::cluster::Realm;
use super::conn::ServerConn;
use super::connect::{self, Order};
use super::converse;
use super::desk::{Ask, Desk};
use super::ledger::{Full, Slot};
use super::local::LocalPool;

/// Whom a listener serves, and where it listens.
#[derive(Debug)]
pub struct Stand {
    /// The pool with the desk.
    pub pool: Rc<LocalPool>,
    /// Of a database with replicas. Notifications are the primary's, whichever that is.
    pub servers: Option<Servers>,
}

/// The servers of a database with replicas, as a user uses them.
#[derive(Debug)]
pub struct Servers {
    pub realm: Arc<Realm>,
    /// Its pools, by place.
    pub pools: Box<[Rc<LocalPool>]>,
}

impl Stand {
    /// The pool of the server that has the notifications; none: no server has them now.
    fn source(&self) -> Option<&Rc<LocalPool>> {
        let Some(Servers { realm, pools }) = &self.servers else {
            return Some(&self.pool);
        };
        let view = realm.cluster.view();
        // The servers of a database that is configured anew are not those of these pools.
        let is_current = view.servers.len() == pools.len();
        if is_current {
            pools.get(view.writes_at()?)
        } else {
            Some(&self.pool)
        }
    }
}

/// Starts the listener of a pool on this worker.
pub fn spawn(stand: Stand) {
    tokio::task::spawn_local(run(stand));
}

async fn run(stand: Stand) {
    let pool = &stand.pool;
    let desk = &pool.shared.desk;
    let mut duty = Duty {
        desk,
        state: DutyState::On,
    };
    let mut failures = 0;
    loop {
        match open_at(stand.source()).await {
            Ok((source, conn)) => {
                let opened_at = Instant::now();
                desk.set_server(Some((pool.worker.index, Arc::clone(&conn.info))));
                let attendant = Attendant::new(&stand, source, conn);
                let ended = attendant.attend().await;
                desk.set_server(None);
                if let Some(why) = ended {
                    on_lost(pool, &why);
                }
                // A server that lets us in to throw us out is not to be asked without pause.
                let has_lasted = opened_at.elapsed() >= BACK_OFF_MAX;
                failures = if has_lasted { 0 } else { failures + 1 };
            }
            Err(report) => {
                if failures == 0 {
                    tracing::warn!(
                        database = &*pool.shared.database,
                        user = &*pool.shared.user,
                        "cannot open the connection that listens: {report}"
                    );
                }
                failures += 1;
                // They go on with connections of their own.
                desk.refuse_all(&report);
            }
        }
        if desk.end_if_unused() {
            duty.state = DutyState::Over;
            return;
        }
        if failures > 0 {
            sleep(back_off(failures)).await;
        }
    }
}

/// Whoever asks is answered even if the task ends before its time.
struct Duty<'a> {
    desk: &'a Desk,
    state: DutyState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DutyState {
    On,
    Over,
}

impl Drop for Duty<'_> {
    fn drop(&mut self) {
        if self.state == DutyState::On {
            self.desk.abandon();
        }
    }
}

fn back_off(failures: u32) -> Duration {
    BACK_OFF_MIN
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(BACK_OFF_MAX)
}

/// The connection is gone while somebody listened.
fn on_lost(pool: &LocalPool, why: &str) {
    tracing::warn!(
        database = &*pool.shared.database,
        user = &*pool.shared.user,
        "lost the connection that listens: {why}"
    );
    let report = Report::warning(
        SqlState::CONNECTION_FAILURE,
        "the server connection that listens for this client was lost",
    )
    .with_detail("Notifications are missed until it is there again.");
    pool.shared.desk.tell_all(&report);
}

async fn open_at(source: Option<&Rc<LocalPool>>) -> Result<(&Rc<LocalPool>, Box<ServerConn>), Report> {
    let Some(source) = source else {
        return Err(Report::error(SqlState::CANNOT_CONNECT_NOW, "there is no primary"));
    };
    Ok((source, open(source).await?))
}

/// Opens the connection and makes it ready. Fails while the pool is paused or without room for it.
async fn open(pool: &Rc<LocalPool>) -> Result<Box<ServerConn>, Report> {
    if pool.shared.is_paused() || pool.shared.is_retired() {
        return Err(Report::error(SqlState::CANNOT_CONNECT_NOW, "the pool is paused"));
    }
    let order = Order {
        shared: &pool.shared,
        extra: &[],
        replication: Replication::None,
    };
    let opening = async {
        let slot = slot(pool).await?;
        let opened = connect::open(&order, &pool.worker.deriver, pool.worker.take_id(), slot).await;
        let mut conn = opened.map_err(|failure| failure.report)?;
        let talk = converse::query(&mut conn, PREPARE).await;
        talk.map_err(|trouble| trouble.report().clone())?;
        Ok(conn)
    };
    timeout(OPENING_MAX, opening).await.unwrap_or_else(|_| {
        Err(Report::error(
            SqlState::CANNOT_ESTABLISH_CONNECTION,
            "cannot connect to the server",
        ))
    })
}

/// Room for the connection under the limit of its database; one that is idle here makes some.
async fn slot(pool: &Rc<LocalPool>) -> Result<Slot, Report> {
    for _ in 0..SLOT_LOOKS_MAX {
        match pool.shared.try_open_listener() {
            Ok(slot) => return Ok(slot),
            Err(Full::Pool) => break,
            Err(Full::Database | Full::User) => {
                pool.evict();
                pool.ask_to_evict();
            }
        }
        sleep(SLOT_LOOK).await;
    }
    Err(Report::error(
        SqlState::TOO_MANY_CONNECTIONS,
        "there is no room for a connection that listens",
    )
    .with_hint("Raise max_db_connections."))
}

/// Looks after the connection.
struct Attendant<'a> {
    stand: &'a Stand,
    pool: &'a LocalPool,
    /// Whose connection it is.
    source: &'a Rc<LocalPool>,
    conn: Box<ServerConn>,
    /// What was sent and is not answered, oldest first.
    in_flight: VecDeque<Request>,
    sent_at: Instant,
    /// The error of the oldest request.
    error: Option<Report>,
    /// Since when nobody has listened.
    unused_since: Option<Instant>,
}

enum Request {
    /// Of a client that waits.
    Ask(Ask),
    /// What was listened to before the connection was lost.
    Again,
    /// Nobody waits for it.
    Unlisten,
}

/// Why a connection is attended no longer.
enum Ended {
    /// Nobody has listened for a while.
    Unused,
    Lost(String),
}

impl<'a> Attendant<'a> {
    fn new(stand: &'a Stand, source: &'a Rc<LocalPool>, conn: Box<ServerConn>) -> Self {
        let now = Instant::now();
        Self {
            stand,
            pool: &stand.pool,
            source,
            conn,
            in_flight: VecDeque::new(),
            sent_at: now,
            error: None,
            unused_since: None,
        }
    }

    /// Listens until nobody is left or the connection is of no more use. Says why it is lost, if it is.
    async fn attend(mut self) -> Option<String> {
        let ended = match self.listen_again().await {
            Ok(()) => self.talk().await,
            Err(why) => Ended::Lost(why),
        };
        let Self { conn, in_flight, .. } = self;
        let asks = in_flight.into_iter().filter_map(|request| match request {
            Request::Ask(ask) => Some(ask),
            Request::Again | Request::Unlisten => None,
        });
        let asks: Vec<Ask> = asks.collect();
        self.pool.shared.desk.put_back(asks.into_iter());
        conn.close();
        match ended {
            Ended::Unused => None,
            Ended::Lost(why) => Some(why),
        }
    }

    /// Everything that somebody listened to on the connection before this one.
    async fn listen_again(&mut self) -> Result<(), String> {
        let channels = self.pool.shared.desk.channels();
        if channels.is_empty() {
            return Ok(());
        }
        let sql = statements("LISTEN", &channels);
        self.send(&sql, [Request::Again].into_iter()).await
    }

    async fn talk(&mut self) -> Ended {
        let mut buf = vec![0; READ_LEN];
        loop {
            if let Err(why) = self.on_messages() {
                return Ended::Lost(why);
            }
            if let Some(ended) = self.look() {
                return ended;
            }
            if self.in_flight.is_empty()
                && let Err(why) = self.ask().await
            {
                return Ended::Lost(why);
            }
            tokio::select! {
                count = self.conn.stream.read(&mut buf) => match count {
                    Ok(0) | Err(_) => return Ended::Lost("the server closed the connection".to_owned()),
                    Ok(count) => self.conn.carry.extend_from_slice(buf.get(..count).unwrap_or_default()),
                },
                () = self.pool.shared.desk.rung() => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    /// Whether the connection is to go on.
    fn look(&mut self) -> Option<Ended> {
        let shared = &self.source.shared;
        let is_elsewhere = self
            .stand
            .source()
            .is_none_or(|source| !Rc::ptr_eq(source, self.source));
        if is_elsewhere {
            return Some(Ended::Lost("the primary is another now".to_owned()));
        }
        let is_replaced = self.conn.epoch != shared.epoch() || shared.is_retired() || shared.is_paused();
        if is_replaced {
            return Some(Ended::Lost(
                "the pool is paused, or has other servers now".to_owned(),
            ));
        }
        if !self.in_flight.is_empty() && self.sent_at.elapsed() >= ANSWER_MAX {
            return Some(Ended::Lost("the server does not answer".to_owned()));
        }
        if !self.pool.shared.desk.is_unused() {
            self.unused_since = None;
            return None;
        }
        let since = *self.unused_since.get_or_insert_with(Instant::now);
        (since.elapsed() >= UNUSED_MAX).then_some(Ended::Unused)
    }

    /// Sends what clients ask for, and ends what nobody listens to. A channel that is listened to already is asked for all the
    /// same: its answer comes behind everything that was notified before.
    async fn ask(&mut self) -> Result<(), String> {
        let desk = &self.pool.shared.desk;
        let mut requests = Vec::new();
        let mut bytes = Vec::new();
        let freed = desk.take_freed();
        if !freed.is_empty() {
            query(&statements("UNLISTEN", &freed), &mut bytes);
            requests.push(Request::Unlisten);
        }
        while bytes.len() < SENT_LEN_MAX
            && let Some(ask) = desk.take_ask()
        {
            query(&statements("LISTEN", &ask.channels), &mut bytes);
            requests.push(Request::Ask(ask));
        }
        if requests.is_empty() {
            return Ok(());
        }
        self.send_bytes(&bytes, requests.into_iter()).await
    }

    async fn send(&mut self, sql: &str, requests: impl Iterator<Item = Request>) -> Result<(), String> {
        let mut bytes = Vec::new();
        query(sql, &mut bytes);
        self.send_bytes(&bytes, requests).await
    }

    async fn send_bytes(
        &mut self,
        bytes: &[u8],
        requests: impl Iterator<Item = Request>,
    ) -> Result<(), String> {
        self.in_flight.extend(requests);
        self.sent_at = Instant::now();
        match timeout(ANSWER_MAX, self.conn.stream.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the server does not read".to_owned()),
        }
    }

    /// Deals with what has come. An error is the end of the connection.
    fn on_messages(&mut self) -> Result<(), String> {
        let input = std::mem::take(&mut self.conn.carry);
        let mut rest = input.as_slice();
        while let Some(head) = Head::read(rest).map_err(|_| nonsense())? {
            if head.body > MESSAGE_LEN_MAX {
                return Err(nonsense());
            }
            let Some((message, behind)) = rest.split_at_checked(head.len()) else {
                break;
            };
            rest = behind;
            self.on_message(head.tag, message)?;
        }
        self.conn.carry.extend_from_slice(rest);
        Ok(())
    }

    fn on_message(&mut self, tag: u8, message: &[u8]) -> Result<(), String> {
        let body = message.get(HEAD_LEN..).unwrap_or_default();
        match tag {
            tag::NOTIFICATION_RESPONSE => {
                let name = body.get(4..).and_then(split_cstr).map(|(name, _)| name);
                self.pool.shared.desk.deliver(name.ok_or_else(nonsense)?, message);
            }
            tag::ERROR_RESPONSE => {
                let fields = ErrorFields::read(body);
                let text = String::from_utf8_lossy(fields.message).into_owned();
                if fields.ends_connection() {
                    return Err(text);
                }
                self.error = Some(Report::error(fields.code, text));
            }
            tag::READY_FOR_QUERY => self.on_answer()?,
            _ => {}
        }
        Ok(())
    }

    fn on_answer(&mut self) -> Result<(), String> {
        let desk = &self.pool.shared.desk;
        match (self.in_flight.pop_front(), self.error.take()) {
            (Some(Request::Ask(ask)), None) => desk.grant(ask),
            (Some(Request::Ask(ask)), Some(report)) => desk.refuse(ask, report),
            (Some(Request::Again), None) => {
                let report = Report::warning(
                    SqlState::CONNECTION_FAILURE,
                    "notifications may have been missed while the connection that listens was lost",
                )
                .with_hint("Look at what they would have told of.");
                desk.tell_all(&report);
            }
            (Some(Request::Again), Some(report)) => return Err(report.to_string()),
            (Some(Request::Unlisten), _) => {}
            (None, _) => return Err(nonsense()),
        }
        Ok(())
    }
}

/// A statement for each channel, in one text.
fn statements(command: &str, channels: &[Channel]) -> String {
    let mut sql = String::new();
    for channel in channels {
        let name = String::from_utf8_lossy(channel).replace('"', "\"\"");
        sql.push_str(command);
        sql.push_str(" \"");
        sql.push_str(&name);
        sql.push_str("\";");
    }
    sql
}

fn nonsense() -> String {
    "the server sent what it should not".to_owned()
}

/// Clients that are listened for speak UTF-8. The name tells who looks at the server's sessions what this one is for.
const PREPARE: &str = "SET client_encoding = 'UTF8'; SET application_name = 'pgweir listener'";
const READ_LEN: usize = 32 * 1024;
/// A message to this connection: a notification has 8000 bytes at the most, an error may be longer.
const MESSAGE_LEN_MAX: usize = 64 * 1024;
/// Questions sent at a time: few enough that they fit into the buffers of the sockets while the server has much to say.
const SENT_LEN_MAX: usize = 16 * 1024;
/// How long the server may take to answer, which it does at once while it is there.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long the connection may take to be opened, whatever `connect_timeout` says: a client waits, and has another way.
const OPENING_MAX: Duration = Duration::from_secs(15);
/// How often it is looked whether the connection is to go on, when nothing else happens.
const LOOK: Duration = Duration::from_secs(1);
/// How long the connection stays when nobody listens: clients come again soon, or not for long.
const UNUSED_MAX: Duration = Duration::from_secs(3);
/// Between attempts to open it, doubling.
const BACK_OFF_MIN: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(2);
/// How often it is tried to get a place under the limit of the database, and how many times.
const SLOT_LOOK: Duration = Duration::from_millis(20);
const SLOT_LOOKS_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_channel_is_quoted() {
        let channels: Vec<Channel> = vec![b"a".as_slice().into(), b"B\"; c".as_slice().into()];
        assert_eq!(
            statements("LISTEN", &channels),
            "LISTEN \"a\";LISTEN \"B\"\"; c\";"
        );
    }

    #[test]
    fn attempts_become_rarer_up_to_a_limit() {
        let waits: Vec<_> = (1..=7).map(|failures| back_off(failures).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 2000]);
        assert_eq!(back_off(u32::MAX), BACK_OFF_MAX);
    }
}
