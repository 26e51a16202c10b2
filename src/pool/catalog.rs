//! What a database's functions may do to a session, as its connections know it.
//!
//! Read from the catalog when a connection is opened, and again when a definition has gone through: its version goes up before
//! anybody hears of it. What was defined past us is found by a look at a connection that has come back, once in a while: one
//! value says whether anything is another. Connections that were lent or idle since are cleaned, since their clients may
//! have used what nobody knew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use crate::protocol::SqlState;
use crate::session::ServerState;
use crate::session::suspects::{Defined, Judged, Suspects};

use super::clock::{Clock, micros};
use super::conn::ServerConn;
use super::converse::{self, Rows, Trouble};

pub mod changes;
mod queries;

use changes::Changes;

/// The functions of one database, for all its pools.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Tells the databases apart.
    id: u64,
    /// Counts the changes that are known of.
    version: AtomicU64,
    /// The last version that was found to be another than what connections had gone by.
    doubted: AtomicU64,
    /// What was read last; of an older version when something has changed since.
    known: ArcSwap<Suspects>,
    /// Counts what may have changed something here.
    alterations: AtomicU64,
    /// Whatever was defined, altered or dropped in the database, on any of its servers: what is known of it for plans is old
    /// with each.
    changes: Arc<Changes>,
    /// When a look is due; 0 until the first. Microseconds on the clock.
    due_at: AtomicU64,
    /// When somebody was told to look; 0 is never.
    claimed_at: AtomicU64,
    /// One connection at a time reads; this is what the last has found. Only connections at rest pass here.
    reading: Mutex<Option<Look>>,
}

/// What was found when somebody looked.
#[derive(Debug)]
struct Look {
    /// Another one when something was defined.
    fingerprint: Vec<u8>,
    /// How many changes were known of by then; none: that was on a standby, which may be behind.
    changes: Option<u64>,
}

impl Catalog {
    /// `id` is unique among the databases.
    #[must_use]
    pub fn new(id: u64, changes: Arc<Changes>) -> Self {
        Self {
            id,
            changes,
            ..Self::default()
        }
    }

    /// A definition was changed: what is known is old.
    pub fn on_changed(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        self.on_made();
    }

    /// Something was altered that may run functions: whatever connection comes back looks first.
    pub fn on_made(&self) {
        self.alterations.fetch_add(1, Ordering::AcqRel);
        self.changes.note();
        if self.due_at.load(Ordering::Acquire) != 0 {
            self.due_at.store(AT_ONCE, Ordering::Release);
        }
    }

    /// Whether a connection knows less than it could, or should.
    #[must_use]
    pub fn is_ahead_of(&self, state: &ServerState) -> bool {
        state.suspects.version != self.version.load(Ordering::Acquire)
    }

    /// Whether somebody may have used, on a connection that knew this version, what was not known then.
    #[must_use]
    pub fn is_doubtful(&self, version: u64) -> bool {
        version < self.doubted.load(Ordering::Acquire)
    }

    /// Brings a connection up to date, if what is known is not old. Says whether that could be done.
    pub fn tell(&self, state: &mut ServerState) -> bool {
        let known = self.known.load_full();
        let is_new = known.version == self.version.load(Ordering::Acquire);
        if is_new {
            state.suspects = known;
        }
        is_new
    }

    /// Whether a connection at rest is to be brought up to date.
    #[must_use]
    pub fn is_wanted_by(&self, state: &ServerState, now: u64) -> bool {
        let due_at = self.due_at.load(Ordering::Acquire);
        self.is_ahead_of(state) || (due_at != 0 && due_at <= now)
    }

    /// Whether a connection that has come back is to look whether something was defined past us. Where only time has passed, one
    /// is enough.
    #[inline]
    pub fn claim_look(&self, now: u64) -> bool {
        let due_at = self.due_at.load(Ordering::Acquire);
        due_at != 0 && due_at <= now && (due_at == AT_ONCE || self.claim(now))
    }

    fn claim(&self, now: u64) -> bool {
        let claimed_at = self.claimed_at.load(Ordering::Acquire);
        let is_free = claimed_at == 0 || claimed_at.saturating_add(micros(FRESH_MAX)) <= now;
        is_free
            && self
                .claimed_at
                .compare_exchange(claimed_at, now, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
    }

    fn is_fresh(&self, now: u64) -> bool {
        self.due_at.load(Ordering::Acquire) > now
    }

    /// Brings a connection at rest up to date, asking its server where what is known is old.
    ///
    /// # Errors
    /// The server could not be asked.
    pub async fn renew(&self, conn: &mut ServerConn, clock: Clock) -> Result<(), Trouble> {
        let mut last = self.reading.lock().await;
        if self.is_fresh(clock.now()) && self.tell(&mut conn.state) {
            return Ok(());
        }
        let alterations = self.alterations.load(Ordering::Acquire);
        let mut changes = self.changes.count();
        let version = self.version.load(Ordering::Acquire);
        let began = clock.now();
        // Before the rest: what is defined meanwhile is seen the next time.
        let found = look(conn).await?;
        let effort = clock.now().saturating_sub(began);
        let suspects = match &*last {
            Some(last) if last.fingerprint == found => self.known.load().at(version),
            Some(_) | None => self.read(conn).await?.of(self.id, version),
        };
        let is_standby = conn.state.reported.value("in_hot_standby") == Some("on");
        let is_past_us = |last: &Look| last.fingerprint != found && last.changes == Some(changes);
        if !is_standby && last.as_ref().is_some_and(is_past_us) {
            self.changes.note();
            changes = self.changes.count();
        }
        *last = Some(Look {
            fingerprint: found,
            changes: (!is_standby).then_some(changes),
        });
        self.take(suspects, version);
        let pause = micros(FRESH_MAX).max(effort.saturating_mul(EFFORT_PART));
        self.due_at
            .store(clock.now().saturating_add(pause), Ordering::Release);
        self.claimed_at.store(0, Ordering::Release);
        if self.alterations.load(Ordering::Acquire) != alterations {
            self.due_at.store(AT_ONCE, Ordering::Release);
        }
        if !self.tell(&mut conn.state) {
            // Something has changed meanwhile: this is newer than nothing, and asked for again.
            conn.state.suspects = self.known.load_full();
        }
        Ok(())
    }

    /// The same for a new connection, which is opened even where the catalogs cannot be read: the server may be none of
    /// PostgreSQL's.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn inform(&self, conn: &mut ServerConn, clock: Clock) -> Result<(), Trouble> {
        match self.renew(conn, clock).await {
            Err(Trouble::Error(report)) => {
                tracing::warn!(
                    database = &*conn.info.database,
                    user = &*conn.info.user,
                    "cannot read which functions change settings; they are not followed: {}",
                    report.message
                );
                let version = self.version.load(Ordering::Acquire);
                self.take(self.known.load().at(version), version);
                // Nobody looks until a connection can.
                self.due_at.store(0, Ordering::Release);
                conn.state.suspects = self.known.load_full();
                Ok(())
            }
            renewed => renewed,
        }
    }

    async fn read(&self, conn: &mut ServerConn) -> Result<Suspects, Trouble> {
        match read(conn).await {
            Err(Trouble::Error(report)) if report.code == SqlState::PROGRAM_LIMIT_EXCEEDED => Ok(too_much(
                conn,
                "what there is to be read of functions is too long",
            )),
            read => read,
        }
    }

    fn take(&self, mut suspects: Suspects, version: u64) {
        let known = self.known.load();
        let is_like = known.is_like(&suspects);
        if known.version == version && is_like {
            return;
        }
        if known.version == version {
            // It was changed by somebody who did not come by here: all are told.
            let next =
                self.version
                    .compare_exchange(version, version + 1, Ordering::AcqRel, Ordering::Acquire);
            suspects.version = if next.is_ok() { version + 1 } else { version };
        }
        if !is_like {
            self.doubted.store(suspects.version, Ordering::Release);
        }
        self.known.store(Arc::new(suspects));
    }
}

/// One value that is another when something was defined.
async fn look(conn: &mut ServerConn) -> Result<Vec<u8>, Trouble> {
    let rows = converse::query(conn, &queries::quiet(&queries::fingerprint())).await?;
    Ok(rows.into_iter().flatten().next().flatten().unwrap_or_default())
}

async fn read(conn: &mut ServerConn) -> Result<Suspects, Trouble> {
    let rows = converse::query_within(conn, &queries::quiet(&queries::functions()), CATALOG_LEN_MAX).await?;
    if rows.len() > FUNCTIONS_MAX {
        return Ok(too_much(conn, "too many functions"));
    }
    let defined = defined(rows);
    if defined.iter().any(|one| one.body.is_none()) {
        tracing::warn!(
            database = &*conn.info.database,
            "the functions are too long to tell which change settings: clients that call one keep their server connections"
        );
    }
    let judged = on_thread(move || Judged::of(defined)).await?;
    if judged.are_harmless() {
        return Ok(judged.spread(&[]));
    }
    let uses = converse::query_within(conn, &queries::quiet(&queries::uses()), CATALOG_LEN_MAX).await?;
    if uses.len() > USES_MAX {
        return Ok(too_much(conn, "too many tables and views that use functions"));
    }
    let uses: Vec<_> = uses
        .into_iter()
        .filter_map(|row| {
            let mut values = row.into_iter().map(Option::unwrap_or_default);
            Some((values.next()?, values.next()?))
        })
        .collect();
    on_thread(move || judged.spread(&uses)).await
}

/// Nothing can be told.
fn too_much(conn: &ServerConn, what: &str) -> Suspects {
    tracing::warn!(
        database = &*conn.info.database,
        "{what}: which statements change settings cannot be told; clients keep their server connections"
    );
    Suspects::everything()
}

/// Long bodies take their time.
async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Trouble> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| converse::lost("The bodies of functions could not be read."))
}

fn defined(rows: Rows) -> Vec<Defined> {
    let one = |row: Vec<Option<Vec<u8>>>| {
        let mut values = row.into_iter();
        Some(Defined {
            oid: number(&values.next()??),
            name: values.next()??,
            language: values.next()??,
            body: values.next()?,
        })
    };
    rows.into_iter().filter_map(one).collect()
}

fn number(text: &[u8]) -> u32 {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// A moment that has always passed.
const AT_ONCE: u64 = 1;
/// How long nobody looks whether something was defined past us: so long a session may keep what such a function did to it, and
/// hand it on. A look takes a server a millisecond or two.
const FRESH_MAX: std::time::Duration = std::time::Duration::from_secs(5);
/// Looks take no more than this part of the time, however large the catalogs are.
const EFFORT_PART: u64 = 100;
/// Bodies of all functions of a database. Where there is more, every function of it counts as one that sets something.
const BODIES_LEN_MAX: usize = 32 * 1024 * 1024;
/// Functions of a database. Where there are more, every text counts as one that sets something.
const FUNCTIONS_MAX: usize = 100_000;
/// The same for tables and views that use functions and one another.
const USES_MAX: usize = 200_000;
/// An answer with all of them, their names, and what the protocol adds. Where it is longer all the same, every text counts.
const CATALOG_LEN_MAX: usize = 64 * 1024 * 1024;
