//! What a client leaves on its server connection: kept while it is there, gone when it has left.

use std::time::Instant;

use super::harness::{PATIENCE, Pgweir, Postgres, Wire};

const BACKEND: &str = "SELECT pg_backend_pid()";

struct Pair {
    pinned: Wire,
    other: Wire,
}

impl Pair {
    fn new(pgweir: &Pgweir) -> Self {
        let client = || Wire::log_in(pgweir.port(), "postgres", "app", None);
        Self {
            pinned: client(),
            other: client(),
        }
    }

    /// Whether the first client has a server connection of its own: the second then has another.
    fn is_pinned(&mut self) -> bool {
        let own = self.pinned.value(BACKEND);
        let other = self.other.value(BACKEND);
        let again = self.pinned.value(BACKEND);
        assert!(own == again || own == other, "neither kept nor shared");
        own != other
    }
}

/// What stays of a client on the server: locks, temporary tables, channels, cursors, settings, prepared statements.
const TRACES: &str = "SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
    (SELECT count(*) FROM pg_class WHERE relpersistence = 't'),
    (SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_cursors),
    (SELECT count(*) FROM pg_prepared_statements),
    (SELECT string_agg(name, ',') FROM pg_settings WHERE source = 'session' AND name NOT IN ('transaction_isolation', 'transaction_read_only', 'transaction_deferrable'))";

#[test]
fn what_outlives_a_transaction_keeps_the_server_connection_until_the_client_leaves() {
    let postgres = Postgres::start();
    postgres.sql("CREATE ROLE other_role; CREATE SCHEMA other; CREATE FUNCTION set_path() RETURNS void LANGUAGE sql AS $$ SELECT set_config('search_path', 'other', false) $$");
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 2");
    let clean = Wire::log_in(postgres.port(), "postgres", "postgres", None).rows(TRACES);
    for statement in [
        "SELECT set_config('search_' || 'path', 'other', false)",
        "LISTEN channel; SELECT 1",
        "CREATE TEMP TABLE mine (id int)",
        "SELECT 1 AS one INTO TEMP mine",
        "SELECT pg_advisory_lock(42)",
        "SELECT pg_try_advisory_lock(1, 2)",
        "SELECT 1; PREPARE mine AS SELECT 1",
        "BEGIN; DECLARE mine CURSOR WITH HOLD FOR SELECT 1; COMMIT",
        "DO $$ BEGIN EXECUTE 'SET search_path = other'; END $$",
        "SELECT setseed(0.5)",
        "LOAD 'auto_explain'",
    ] {
        let mut pair = Pair::new(&pgweir);
        assert!(!pair.is_pinned());
        pair.pinned.query(statement);
        assert!(pair.is_pinned(), "{statement}");
        let Pair {
            mut pinned,
            mut other,
        } = pair;
        pinned.terminate();
        pinned.read_until_closed();
        // Both connections, whoever had them, are as new.
        let mut next = Wire::log_in(pgweir.port(), "postgres", "app", None);
        other.query("BEGIN; SELECT 1");
        next.query("BEGIN; SELECT 1");
        for wire in [&mut other, &mut next] {
            assert_eq!(wire.rows(TRACES), clean, "after {statement}");
            assert_eq!(wire.value("SHOW search_path"), "\"$user\", public");
            assert_eq!(
                wire.value("SELECT session_user || current_user"),
                "postgrespostgres"
            );
        }
        other.query("COMMIT");
        next.query("COMMIT");
    }
    assert_eq!(postgres.connections(), 2);
}

#[test]
fn what_ends_with_its_transaction_pins_nobody() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 2");
    let mut pair = Pair::new(&pgweir);
    for statement in [
        "BEGIN; SET LOCAL search_path = other; COMMIT",
        "BEGIN; SET TRANSACTION READ ONLY; SELECT 1; COMMIT",
        "BEGIN; SELECT pg_advisory_xact_lock(42); COMMIT",
        "BEGIN; DECLARE mine CURSOR FOR SELECT 1; FETCH 1 FROM mine; COMMIT",
        "LISTEN channel",
        "UNLISTEN channel",
        "SET TimeZone = 'Asia/Tokyo'",
        "SET application_name = 'me'",
        "SET NAMES 'LATIN1'",
        "RESET ALL",
        "DISCARD ALL",
        "SELECT 'SET search_path = other'",
        "-- SET search_path = other\nSELECT 1",
        "PREPARE mine AS SELECT 1",
        "EXECUTE mine",
        "BEGIN; EXECUTE mine; COMMIT",
        "DEALLOCATE mine",
    ] {
        pair.pinned.query(statement);
        assert!(!pair.is_pinned(), "{statement}");
        let mut other = Wire::log_in(pgweir.port(), "postgres", "app", None);
        assert_eq!(
            other.value("SHOW TimeZone"),
            other
                .value("SELECT boot_val FROM pg_settings WHERE name = 'TimeZone'")
                .replace("GMT", &postgres.sql("SHOW TimeZone")),
            "{statement}"
        );
        assert_eq!(other.value("SHOW client_encoding"), "UTF8");
        other.terminate();
    }
}

#[test]
fn a_pinned_client_lets_go_when_it_discards_everything() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 2");
    let mut pair = Pair::new(&pgweir);
    pair.pinned.query("SET search_path = other; LISTEN channel");
    assert!(pair.is_pinned());
    pair.pinned.query("DISCARD ALL");
    assert!(!pair.is_pinned());
    assert_eq!(pair.other.value("SHOW search_path"), "\"$user\", public");
}

#[test]
fn a_session_in_session_mode_is_its_own_and_leaves_nothing() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_mode = \"session\"\npool_size = 1");
    let clean = Wire::log_in(postgres.port(), "postgres", "postgres", None).rows(TRACES);
    let mut backends = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let mut wire = Wire::log_in(pgweir.port(), "postgres", "app", None);
        assert_eq!(wire.rows(TRACES), clean);
        backends.insert(wire.value(BACKEND));
        wire.query("SET search_path = other; SET TimeZone = 'Asia/Tokyo'; LISTEN a; PREPARE p AS SELECT 1");
        wire.query("CREATE TEMP TABLE mine (id int); SELECT pg_advisory_lock(42)");
        wire.query("BEGIN; DECLARE mine CURSOR WITH HOLD FOR SELECT 1; COMMIT");
        wire.send_parse("named", "SELECT 1");
        wire.send_sync();
        wire.read_until_ready();
        assert_ne!(wire.rows(TRACES), clean);
        wire.terminate();
        wire.read_until_closed();
    }
    // It was the same server connection all the time, cleaned in between.
    assert_eq!(backends.len(), 1);
}

#[test]
fn a_client_that_disappears_leaves_nothing_either() {
    let postgres = Postgres::start();
    for mode in ["transaction", "session"] {
        let pgweir = Pgweir::before_with(&postgres, &format!("pool_mode = \"{mode}\"\npool_size = 1"));
        for unfinished in [
            "SELECT pg_advisory_lock(42)",
            "BEGIN; SELECT pg_advisory_lock(42)",
            "SELECT pg_advisory_lock(42); SELECT 1/0",
        ] {
            let mut wire = Wire::log_in(pgweir.port(), "postgres", "app", None);
            let server = wire.value(BACKEND);
            wire.query(unfinished);
            drop(wire);
            let mut next = Wire::log_in(pgweir.port(), "postgres", "app", None);
            // A connection that was closed is gone when its process is.
            let is_gone = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE pid = {server} AND pid <> pg_backend_pid()"
            );
            let deadline = Instant::now() + PATIENCE;
            while next.value(&is_gone) != "0" {
                assert!(Instant::now() < deadline, "{mode}: {unfinished}");
            }
            assert_eq!(
                next.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
                "0"
            );
            next.terminate();
        }
    }
}

#[test]
fn a_value_of_a_sequence_is_never_told_to_another_client() {
    let postgres = Postgres::start();
    postgres.sql("CREATE SEQUENCE s; CREATE TABLE t (id serial, word text)");
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1");
    let client = || Wire::log_in(pgweir.port(), "postgres", "app", None);
    let (mut a, mut b) = (client(), client());
    a.query("SELECT nextval('s')");
    b.query("BEGIN");
    assert_eq!(b.query("SELECT lastval()")[1].sqlstate(), "55000");
    b.query("ROLLBACK");
    // Since then clients keep their connection from their first value on.
    b.query("INSERT INTO t (word) VALUES ('b')");
    assert_eq!(b.value("SELECT lastval()"), "1");
    assert_eq!(b.value("SELECT currval('t_id_seq')"), "1");
    b.query("DISCARD SEQUENCES");
    assert_eq!(a.query("SELECT currval('t_id_seq')")[1].sqlstate(), "55000");
}
