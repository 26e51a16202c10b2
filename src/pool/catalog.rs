//! What a database's functions may do to a session, as its connections know it.
//!
//! Read from the catalog when a connection is opened, at most once in a while, and again when a definition has gone through.
//! A connection that was lent meanwhile is cleaned when it comes back: its client may have used what nobody knew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use crate::session::ServerState;
use crate::session::suspects::{Defined, Judged, Suspects};

use super::clock::{Clock, micros};
use super::conn::ServerConn;
use super::converse::{self, Rows, Trouble};

/// The functions of one database, for all its pools.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Counts the changes that have gone through.
    version: AtomicU64,
    /// What was read last; of an older version when something has changed since.
    known: ArcSwap<Suspects>,
    /// When it was read; 0 is never. Microseconds on the clock.
    read_at: AtomicU64,
    /// One connection at a time reads. Only connections at rest pass here.
    reading: Mutex<()>,
}

impl Catalog {
    /// A definition was changed: what is known is old.
    pub fn on_changed(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether a connection knows less than it could, or should.
    #[must_use]
    pub fn is_ahead_of(&self, state: &ServerState) -> bool {
        state.suspects.version != self.version.load(Ordering::Acquire)
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

    /// Whether what is known may be believed without asking.
    fn is_fresh(&self, clock: Clock) -> bool {
        let read_at = self.read_at.load(Ordering::Acquire);
        read_at != 0 && clock.now() < read_at.saturating_add(micros(FRESH_MAX))
    }

    /// Brings a connection at rest up to date, asking its server where what is known is old.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn renew(&self, conn: &mut ServerConn, clock: Clock) -> Result<(), Trouble> {
        let _reading = self.reading.lock().await;
        if self.is_fresh(clock) && self.tell(&mut conn.state) {
            return Ok(());
        }
        let version = self.version.load(Ordering::Acquire);
        let suspects = match read(conn, version).await {
            Ok(suspects) => suspects,
            Err(Trouble::Lost(report)) => return Err(Trouble::Lost(report)),
            Err(Trouble::Error(report)) => {
                tracing::warn!(
                    database = &*conn.info.database,
                    user = &*conn.info.user,
                    "cannot read which functions change settings; they are not followed: {}",
                    report.message
                );
                self.known.load().at(version)
            }
        };
        self.take(suspects, version);
        self.read_at.store(clock.now(), Ordering::Release);
        if !self.tell(&mut conn.state) {
            // Something has changed meanwhile: this is newer than nothing, and asked for again.
            conn.state.suspects = self.known.load_full();
        }
        Ok(())
    }

    fn take(&self, mut suspects: Suspects, version: u64) {
        let known = self.known.load();
        if known.version == version && known.is_like(&suspects) {
            return;
        }
        if known.version == version {
            // It was changed by somebody who did not come by here: all are told.
            let next =
                self.version
                    .compare_exchange(version, version + 1, Ordering::AcqRel, Ordering::Acquire);
            suspects.version = if next.is_ok() { version + 1 } else { version };
        }
        self.known.store(Arc::new(suspects));
    }
}

async fn read(conn: &mut ServerConn, version: u64) -> Result<Suspects, Trouble> {
    let rows = converse::query_within(conn, &functions(), CATALOG_LEN_MAX).await?;
    let count = rows.len();
    if count > FUNCTIONS_MAX {
        tracing::warn!(
            database = &*conn.info.database,
            "too many functions to tell which change settings: clients keep their server connections"
        );
        return Ok(Suspects::everything(version));
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
        return Ok(judged.spread(&[], version));
    }
    let uses = converse::query_within(conn, &uses(), CATALOG_LEN_MAX).await?;
    if uses.len() > USES_MAX {
        tracing::warn!(
            database = &*conn.info.database,
            "too many tables and views to tell which use functions that change settings: clients keep their server connections"
        );
        return Ok(Suspects::everything(version));
    }
    let uses: Vec<_> = uses
        .into_iter()
        .filter_map(|row| {
            let mut values = row.into_iter().map(Option::unwrap_or_default);
            Some((values.next()?, values.next()?))
        })
        .collect();
    on_thread(move || judged.spread(&uses, version)).await
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
            name: values.next()??,
            language: values.next()??,
            body: values.next()?,
        })
    };
    rows.into_iter().filter_map(one).collect()
}

/// Name, language and body of each function, and of each stored expression that calls a function of the server's that changes
/// a session. No body where they are too long altogether. Nothing depends on the search path.
fn functions() -> String {
    format!(
        "WITH own AS MATERIALIZED (SELECT n.oid FROM pg_catalog.pg_namespace n \
           WHERE n.nspname OPERATOR(pg_catalog.<>) ALL ('{{pg_catalog,information_schema,pg_toast}}'::pg_catalog.name[])), \
         called AS MATERIALIZED (SELECT pg_catalog.concat(':funcid (', pg_catalog.string_agg(p.oid::pg_catalog.text, '|'), ') ') AS pattern \
           FROM pg_catalog.pg_proc p WHERE p.pronamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace \
           AND p.proname OPERATOR(pg_catalog.~) '^(set_config|setseed|pg_(try_)?advisory_lock.*|pg_backup_start|pg_replication_origin_session_setup)$'), \
         run AS (SELECT p.proname AS name, l.lanname AS language, \
             COALESCE(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc) AS body \
           FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
           WHERE p.pronamespace IN (SELECT oid FROM own) AND l.lanname OPERATOR(pg_catalog.<>) ALL ('{{c,internal}}'::pg_catalog.name[]) \
           UNION ALL SELECT c.relname, 'sql', pg_catalog.pg_get_ruledef(r.oid) \
           FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) r.ev_class, called \
           WHERE c.relnamespace IN (SELECT oid FROM own) \
             AND pg_catalog.concat(r.ev_action, r.ev_qual) OPERATOR(pg_catalog.~) called.pattern \
           UNION ALL SELECT c.relname, 'sql', pg_catalog.pg_get_expr(a.adbin, a.adrelid) \
           FROM pg_catalog.pg_attrdef a JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.adrelid, called \
           WHERE a.adbin::pg_catalog.text OPERATOR(pg_catalog.~) called.pattern \
           UNION ALL SELECT c.relname, 'sql', pg_catalog.concat(pg_catalog.pg_get_expr(p.polqual, p.polrelid), ' ; ', \
             pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)) \
           FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) p.polrelid, called \
           WHERE pg_catalog.concat(p.polqual, p.polwithcheck) OPERATOR(pg_catalog.~) called.pattern \
           UNION ALL SELECT COALESCE(c.relname, t.typname), 'sql', pg_catalog.pg_get_constraintdef(k.oid) \
           FROM pg_catalog.pg_constraint k LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) k.conrelid \
           LEFT JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) k.contypid, called \
           WHERE k.conbin::pg_catalog.text OPERATOR(pg_catalog.~) called.pattern) \
         SELECT name, language, CASE WHEN pg_catalog.sum(pg_catalog.octet_length(body)) OVER () OPERATOR(pg_catalog.<=) {BODIES_LEN_MAX} \
           THEN body END FROM run LIMIT {FUNCTIONS_MAX} + 1"
    )
}

/// Who uses whom, by names: what runs when a table is changed or a view is read.
fn uses() -> String {
    let dependent = |catalog: &str, join: &str| {
        format!(
            " UNION SELECT c.relname, p.proname FROM used p JOIN pg_catalog.pg_depend d \
               ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass \
               AND d.refobjid OPERATOR(pg_catalog.=) p.oid \
               AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.{catalog}'::pg_catalog.regclass {join}"
        )
    };
    let of_table = |catalog: &str, column: &str| {
        let join = format!(
            "JOIN pg_catalog.{catalog} o ON o.oid OPERATOR(pg_catalog.=) d.objid \
             JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) o.{column}"
        );
        dependent(catalog, &join)
    };
    let mut sql = String::from(
        "WITH used AS MATERIALIZED (SELECT p.oid, p.proname FROM pg_catalog.pg_proc p \
             WHERE p.pronamespace OPERATOR(pg_catalog.<>) 'pg_catalog'::pg_catalog.regnamespace) \
         SELECT user_name, used_name FROM ( \
         SELECT c.relname AS user_name, p.proname AS used_name FROM pg_catalog.pg_trigger t JOIN used p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid \
           JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid \
         UNION SELECT p.relname, c.relname FROM pg_catalog.pg_inherits i \
           JOIN pg_catalog.pg_class p ON p.oid OPERATOR(pg_catalog.=) i.inhparent \
           JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.inhrelid \
         UNION SELECT p.relname, c.relname FROM pg_catalog.pg_constraint k \
           JOIN pg_catalog.pg_class p ON p.oid OPERATOR(pg_catalog.=) k.confrelid \
           JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) k.conrelid \
           WHERE k.contype OPERATOR(pg_catalog.=) 'f' \
         UNION SELECT v.relname, c.relname FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d \
           ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) r.oid \
             AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
           JOIN pg_catalog.pg_class v ON v.oid OPERATOR(pg_catalog.=) r.ev_class \
           JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.refobjid \
           WHERE c.oid OPERATOR(pg_catalog.<>) v.oid \
         UNION SELECT c.relname, y.typname FROM pg_catalog.pg_depend d \
           JOIN pg_catalog.pg_type y ON y.oid OPERATOR(pg_catalog.=) d.refobjid AND y.typtype OPERATOR(pg_catalog.=) 'd' \
           JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.objid \
           WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
             AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass",
    );
    sql.push_str(&of_table("pg_rewrite", "ev_class"));
    sql.push_str(&of_table("pg_attrdef", "adrelid"));
    sql.push_str(&of_table("pg_policy", "polrelid"));
    sql.push_str(&of_table("pg_constraint", "conrelid"));
    sql.push_str(&dependent(
        "pg_class",
        "JOIN pg_catalog.pg_index i ON i.indexrelid OPERATOR(pg_catalog.=) d.objid \
         JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indrelid",
    ));
    sql.push_str(
        &dependent(
            "pg_constraint",
            "JOIN pg_catalog.pg_constraint o ON o.oid OPERATOR(pg_catalog.=) d.objid \
             JOIN pg_catalog.pg_type c ON c.oid OPERATOR(pg_catalog.=) o.contypid",
        )
        .replace("c.relname", "c.typname"),
    );
    sql.push_str(
        &dependent(
            "pg_proc",
            "JOIN pg_catalog.pg_proc c ON c.oid OPERATOR(pg_catalog.=) d.objid",
        )
        .replace("c.relname", "c.proname"),
    );
    sql.push_str(&format!(") u LIMIT {USES_MAX} + 1"));
    sql
}

/// How long what was read is believed while nothing changes that we know of: a function that was made past us is known to
/// connections that are opened later than this.
const FRESH_MAX: std::time::Duration = std::time::Duration::from_secs(60);
/// Bodies of all functions of a database. Where there is more, every function of it counts as one that sets something.
const BODIES_LEN_MAX: usize = 32 * 1024 * 1024;
/// Functions of a database. Where there are more, every text counts as one that sets something.
const FUNCTIONS_MAX: usize = 100_000;
/// The same for tables and views that use functions and one another.
const USES_MAX: usize = 200_000;
/// An answer with all of them, and what the protocol adds.
const CATALOG_LEN_MAX: usize = 64 * 1024 * 1024;
