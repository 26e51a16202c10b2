//! What the server is asked at the end of a transaction, when something comes between.

use super::harness::crowd::{error, eventually, sqlstate};
use super::harness::wire::Frame;
use super::harness::{Pgweir, Postgres, Wire};

/// The question waits for this, where it asks for cursors.
const LOCK: &str = "BEGIN; LOCK TABLE pg_catalog.pg_cursors IN ACCESS EXCLUSIVE MODE";
const WAITING: &str = "SELECT query_start FROM pg_stat_activity WHERE wait_event_type = 'Lock'";

fn log_in(pgweir: &Pgweir) -> (Wire, (u32, Vec<u8>)) {
    let mut wire = pgweir.wire();
    wire.startup(&[("user", "postgres"), ("database", "app")]);
    let frames = wire.authenticate("postgres", "");
    let key = frames.iter().find_map(Frame::cancel_key);
    (wire, key.unwrap())
}

/// One server connection, for which nobody waits long.
fn pooler(postgres: &Postgres) -> Pgweir {
    Pgweir::before_with(postgres, "pool_size = 1\npool_timeout = \"2s\"")
}

#[test]
fn a_session_with_a_short_statement_timeout_does_not_keep_its_connection() {
    // So many settings that to look through them takes longer than the timeout.
    let builder = (1..=1500).fold(Postgres::builder(), |builder, number| {
        builder.setting(&format!("a.setting_{number}"), "1")
    });
    let postgres = builder.start();
    let pgweir = pooler(&postgres);
    let (mut hasty, _) = log_in(&pgweir);
    let (mut other, _) = log_in(&pgweir);
    for (statement, timeout) in [
        ("SET statement_timeout = 1", "1ms"),
        ("RESET work_mem", "1ms"),
        ("RESET statement_timeout; SET statement_timeout = 2", "2ms"),
    ] {
        hasty.query(statement);
        assert_eq!(error(&other.query("SELECT 1")), None, "after {statement}");
        assert_eq!(other.value("SHOW statement_timeout"), "0");
        assert_eq!(hasty.value("SHOW statement_timeout"), timeout);
    }
    assert_eq!(sqlstate(&hasty.query("SELECT pg_sleep(30)")), "57014");
    hasty.query("RESET statement_timeout");
    assert_eq!(hasty.value("SHOW statement_timeout"), "0");
}

#[test]
fn a_cancel_behind_the_answer_hits_no_question_of_ours() {
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres);
    let (mut wire, (process_id, secret)) = log_in(&pgweir);
    wire.query("BEGIN; DECLARE kept CURSOR WITH HOLD FOR SELECT 1; COMMIT");
    let mut keeper = Wire::log_in(postgres.port(), "postgres", "postgres", None);
    keeper.query(LOCK);
    wire.query("CLOSE kept");
    eventually("it is asked whether the cursor is there", || {
        !postgres.sql(WAITING).is_empty()
    });
    let asked = postgres.sql(WAITING);
    let mut cancel = pgweir.wire();
    cancel.cancel(process_id, &secret);
    cancel.read_until_closed();
    assert_eq!(postgres.sql(WAITING), asked, "the question was cancelled");
    keeper.query("COMMIT");
    let (mut other, _) = log_in(&pgweir);
    assert_eq!(error(&other.query("SELECT 1")), None);
}

#[test]
fn a_question_that_a_late_cancel_hits_is_asked_again() {
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres);
    let (mut wire, _) = log_in(&pgweir);
    wire.query("BEGIN; DECLARE kept CURSOR WITH HOLD FOR SELECT 1; COMMIT");
    let mut keeper = Wire::log_in(postgres.port(), "postgres", "postgres", None);
    keeper.query(LOCK);
    wire.query("CLOSE kept");
    for _ in 0..3 {
        eventually("it is asked whether the cursor is there", || {
            !postgres.sql(WAITING).is_empty()
        });
        let asked = postgres.sql(WAITING);
        postgres.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'");
        eventually("it is asked again", || {
            let waiting = postgres.sql(WAITING);
            !waiting.is_empty() && waiting != asked
        });
    }
    keeper.query("COMMIT");
    let (mut other, _) = log_in(&pgweir);
    assert_eq!(error(&other.query("SELECT 1")), None);
}
