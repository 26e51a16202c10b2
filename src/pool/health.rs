//! Asking the servers of a database how they are, each on a connection of its own.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::protocol::Report;
use crate::protocol::startup::Replication;
use crate::topology::{Answer, Conflict, Health, Layout, Lsn, Role, ServerView, View, Watch};

use super::clock::{Clock, micros};
use super::cluster::Realm;
use super::conn::ServerConn;
use super::connect::{self, Order};
use super::converse::{self, Rows};
use super::derive::Deriver;
use super::knowledge::{self, Demand};
use super::shared::PoolShared;

/// The servers of one database, and how they are reached.
#[derive(Debug)]
pub struct Ward {
    pub realm: Arc<Realm>,
    pub health: Health,
    /// By place: pools beside those of clients, each for one connection.
    pub servers: Vec<Arc<PoolShared>>,
    pub deriver: Arc<Deriver>,
    pub clock: Clock,
    /// What the log was told of last.
    pub told: Cell<Conflict>,
}

impl Ward {
    /// Whether the log was not told of this.
    fn is_new(&self, conflict: Conflict) -> bool {
        self.told.replace(conflict) != conflict
    }
}

/// Asks the servers until this is dropped. Each is asked by itself, so that one that hangs delays nobody.
pub async fn look_after(ward: Ward) {
    let view = (**ward.realm.cluster.view()).clone();
    let watch = Rc::new(RefCell::new(Watch::new(view, ward.health)));
    let ward = Rc::new(ward);
    let round = Rc::new(Notify::new());
    let mut askers = JoinSet::new();
    for place in 0..ward.servers.len() {
        askers.spawn_local(ask_on(
            Rc::clone(&ward),
            Rc::clone(&watch),
            Rc::clone(&round),
            place,
        ));
    }
    askers.spawn_local(learn(Rc::clone(&ward)));
    while askers.join_next().await.is_some() {}
}

/// Reads the catalogs of the primary, again whenever something is known to have changed, and once in a while.
async fn learn(ward: Rc<Ward>) {
    let knowledge = &ward.realm.knowledge;
    let mut conn = None;
    let mut number = u64::MAX / 2;
    let (mut at, mut read_at) = (None, None);
    loop {
        let now = ward.clock.now();
        let is_old = read_at.is_none_or(|at| now >= micros(KNOWN_MAX).saturating_add(at));
        if (is_old || knowledge.stamp(Demand::Current).is_none())
            && let Some(place) = ward.realm.cluster.view().primary
            && let Some(shared) = ward.servers.get(place)
        {
            if at != Some(place) {
                conn = None;
                at = Some(place);
            }
            let reading = timeout(READING_MAX, read_catalogs(&ward, shared, &mut conn, &mut number));
            let pause = if reading.await.unwrap_or_default() {
                read_at = Some(now);
                Duration::from_micros(ward.clock.now().saturating_sub(now)).saturating_mul(READING_PART)
            } else {
                conn = None;
                FAILED_PAUSE
            };
            sleep(pause).await;
        }
        sleep(CHANGES_LOOK).await;
    }
}

/// Says whether that could be done.
async fn read_catalogs(
    ward: &Ward,
    shared: &Arc<PoolShared>,
    conn: &mut Option<Box<ServerConn>>,
    number: &mut u64,
) -> bool {
    let Ok(conn) = connect(ward, shared, conn, number).await else {
        return false;
    };
    match knowledge::read::read(conn, &ward.realm.knowledge).await {
        Ok(()) => true,
        Err(trouble) => {
            tracing::warn!(
                database = &*shared.database,
                "cannot read the catalogs: every statement goes to the primary: {}",
                trouble.report()
            );
            false
        }
    }
}

/// Replicas are asked right after the primary was: what it had said by then, they will mostly have replayed, so that a session
/// that goes on reading from a busy primary is free to leave it.
async fn ask_on(ward: Rc<Ward>, watch: Rc<RefCell<Watch>>, round: Rc<Notify>, place: usize) {
    let Some(shared) = ward.servers.get(place) else {
        return;
    };
    let mut conn = None;
    let mut number = 0;
    loop {
        let signs = ward.realm.cluster.signs();
        let was_open = conn.is_some();
        let limit = ward.health.check_interval.max(ANSWER_MIN);
        let answer = timeout(limit, ask(&ward, shared, &mut conn, &mut number)).await;
        match answer {
            Ok(Asked::Said(answer)) => watch.borrow_mut().on_answer(place, &answer),
            Ok(Asked::Busy) => {}
            Ok(Asked::Silent) => {
                conn = None;
                watch.borrow_mut().on_failure(place);
            }
            Err(_) => {
                conn = None;
                watch.borrow_mut().on_failure(place);
            }
        }
        if was_open && conn.is_none() {
            watch.borrow_mut().on_lost(place);
        }
        publish(&ward, &watch.borrow());
        if ward.realm.cluster.view().primary == Some(place) {
            round.notify_waiters();
            rest(&ward, &watch, place, &mut conn, signs).await;
        } else {
            tokio::select! {
                () = rest(&ward, &watch, place, &mut conn, signs) => {}
                () = round.notified() => sleep(REPLAY_PAUSE).await,
            }
        }
    }
}

/// Tells the workers, if there is something to tell.
fn publish(ward: &Ward, watch: &Watch) {
    let cluster = &ward.realm.cluster;
    let before = cluster.view();
    if **before == *watch.view() {
        return;
    }
    if before.primary != watch.view().primary && watch.view().primary.is_some() {
        // What was defined last may not have come to it.
        ward.realm.knowledge.on_changed();
    }
    cluster.publish(watch.view().clone());
    tell(ward, watch, &before);
}

/// Tells the log, once everybody knows.
fn tell(ward: &Ward, watch: &Watch, before: &View) {
    if ward.is_new(watch.conflict()) {
        match watch.conflict() {
            Conflict::None => {}
            Conflict::TwoPrimaries => {
                tracing::error!(
                    "two servers take writes on the same timeline: writes are refused until one of them does not"
                );
            }
            Conflict::Outdated => {
                tracing::error!(
                    "a server takes writes on a timeline that was left: writes are refused until its successor is back"
                );
            }
        }
    }
    let is_stranger = |server: &ServerView| server.role == Role::Stranger;
    for (server, known) in watch.view().servers.iter().zip(&before.servers) {
        if is_stranger(server) && !is_stranger(known) {
            tracing::error!(
                server = &*server.name,
                "a server of read_replicas is none of the primary's: it is of another cluster, and takes nothing"
            );
        }
    }
    if before.primary == watch.view().primary {
        return;
    }
    let name = |place: Option<usize>| {
        let server = place.and_then(|place| watch.view().servers.get(place));
        server.map_or_else(|| "none".to_owned(), |server| server.name.to_string())
    };
    let (now, then) = (name(watch.view().primary), name(before.primary));
    if before.primary.is_none() {
        tracing::info!(primary = now, "the primary is known");
    } else {
        tracing::warn!(primary = now, before = then, "the primary is another now");
    }
}

/// Until it is time to ask again: sooner while sessions wait for replicas, or something seems to be wrong. `signs`: those there
/// were when it was asked last.
async fn rest(
    ward: &Ward,
    watch: &RefCell<Watch>,
    place: usize,
    conn: &mut Option<Box<ServerConn>>,
    signs: u64,
) {
    let is_urgent = watch.borrow().is_urgent(place);
    if ward.realm.cluster.is_urged(ward.clock.now()) {
        sleep(REPLAY_PAUSE).await;
        return;
    }
    let is_lost = tokio::select! {
        () = pause(ward, is_urgent) => false,
        () = ward.realm.cluster.urged() => false,
        () = ward.realm.cluster.other_signs(signs) => {
            sleep(SIGN_PAUSE).await;
            false
        }
        () = lost(conn) => true,
    };
    if is_lost {
        *conn = None;
        watch.borrow_mut().on_lost(place);
        publish(ward, &watch.borrow());
    }
}

async fn pause(ward: &Ward, is_urgent: bool) {
    let Health {
        check_interval,
        poll_interval,
        ..
    } = ward.health;
    let whole = if is_urgent {
        poll_interval.min(check_interval)
    } else {
        check_interval
    };
    let mut rested = Duration::ZERO;
    while rested < whole {
        let pause = poll_interval.min(whole - rested);
        sleep(pause).await;
        rested += pause;
        if ward.realm.cluster.is_awaited(ward.clock.now()) {
            return;
        }
    }
}

/// Until the server closes the connection: it is down, or about to be.
async fn lost(conn: &mut Option<Box<ServerConn>>) {
    match conn {
        Some(conn) => drop(poll_fn(|cx| conn.poll_idle(cx)).await),
        None => pending().await,
    }
}

/// What became of a question.
#[derive(Debug)]
enum Asked {
    Said(Answer),
    /// There was no answer.
    Silent,
    /// It has no room for the question, or another reason not to answer: it is there, and nothing else is known.
    Busy,
}

/// One question.
async fn ask(
    ward: &Ward,
    shared: &Arc<PoolShared>,
    conn: &mut Option<Box<ServerConn>>,
    number: &mut u64,
) -> Asked {
    let conn = match connect(ward, shared, conn, number).await {
        Ok(conn) => conn,
        Err(away) => return away,
    };
    let asked_at = shared.clock.now();
    let asked = converse::query(conn.as_mut(), QUESTION).await;
    match asked {
        Ok(rows) => read(&rows, asked_at).map_or(Asked::Busy, Asked::Said),
        Err(trouble) => {
            tracing::debug!(
                database = &*shared.database,
                "a server did not say how it is: {}",
                trouble.report()
            );
            refused(trouble.report())
        }
    }
}

/// Whether a server that answers with this is there.
fn refused(report: &Report) -> Asked {
    let code = report.code.as_str();
    if code.starts_with("08") || code.starts_with("57P") {
        Asked::Silent
    } else {
        Asked::Busy
    }
}

/// The connection, opened if there is none.
async fn connect<'a>(
    ward: &Ward,
    shared: &Arc<PoolShared>,
    conn: &'a mut Option<Box<ServerConn>>,
    number: &mut u64,
) -> Result<&'a mut Box<ServerConn>, Asked> {
    if conn.is_none() {
        *number += 1;
        let slot = shared.try_open(false).map_err(|_| Asked::Busy)?;
        let order = Order {
            shared,
            extra: &[],
            replication: Replication::None,
        };
        match connect::open(&order, &ward.deriver, *number, slot).await {
            Ok(opened) => *conn = Some(opened),
            Err(failure) => {
                tracing::debug!(
                    database = &*shared.database,
                    "cannot ask a server how it is: {failure}"
                );
                return Err(refused(&failure.report));
            }
        }
    }
    conn.as_mut().ok_or(Asked::Silent)
}

fn read(rows: &Rows, asked_at: u64) -> Option<Answer> {
    let row = rows.first()?;
    let value = |index: usize| std::str::from_utf8(row.get(index)?.as_deref()?).ok();
    let is_in_recovery = value(0)? == "t";
    let mut lsn = value(2)?.parse::<Lsn>().ok()?;
    let layout = Layout {
        page: value(4)?.parse().ok()?,
        segment: value(5)?.parse().ok()?,
    };
    if !is_in_recovery {
        lsn = lsn.without_page_head(layout);
    }
    let received = value(6).and_then(|value| value.parse::<Lsn>().ok());
    let has_more = is_in_recovery && received != Some(lsn);
    Some(Answer {
        asked_at,
        system: value(7)?.parse().ok()?,
        is_in_recovery,
        timeline: value(1)?.parse().ok()?,
        lsn,
        shown: Lsn(lsn.0.saturating_add(u64::from(has_more))),
        started_at: value(3)?.parse().ok()?,
    })
}

/// What was inserted, not what was written: with `synchronous_commit = off` a commit is told before it is written. The timeline of a
/// standby is that of the connection it receives from, where that may be seen, else of what it has on disk. What it has received is
/// looked at after what it has replayed: where that is the same, nothing was being replayed.
const QUESTION: &str = "SELECT r, \
    CASE WHEN r THEN COALESCE((SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver LIMIT 1), \
        (SELECT GREATEST(min_recovery_end_timeline, (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint())) \
         FROM pg_catalog.pg_control_recovery())) \
    ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int END, \
    CASE WHEN r THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_insert_lsn() END, \
    (EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint, \
    pg_catalog.current_setting('wal_block_size'), \
    pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')), \
    CASE WHEN r THEN pg_catalog.pg_last_wal_receive_lsn() END, \
    (SELECT system_identifier FROM pg_catalog.pg_control_system()) \
    FROM (SELECT pg_catalog.pg_is_in_recovery() AS r) AS s";

/// How long what was read of the catalogs is believed while nothing changes that we know of.
const KNOWN_MAX: Duration = Duration::from_secs(10);
const READING_MAX: Duration = Duration::from_secs(30);
/// How soon a change is looked for. Until it is found, statements go to the primary.
const CHANGES_LOOK: Duration = Duration::from_millis(20);
/// However often something is defined, large catalogs are read no longer than this part of the time.
const READING_PART: u32 = 4;
/// What could not be read is not tried again at once: every attempt costs the primary something.
const FAILED_PAUSE: Duration = Duration::from_secs(1);
/// Between two questions that signs have caused: a storm of them is one.
const SIGN_PAUSE: Duration = Duration::from_millis(10);
/// What streaming and replaying take, mostly.
const REPLAY_PAUSE: Duration = Duration::from_millis(5);
/// A server has at least so long to answer.
const ANSWER_MIN: Duration = Duration::from_secs(1);
