//! Time limits and limits of pools where several things come together.

use pgweir::protocol::tag;

use super::harness::crowd::{error, sqlstate};
use super::harness::wire::{c_string, frame};
use super::harness::{Pgweir, Postgres, Wire};

fn log_in(pgweir: &Pgweir) -> Wire {
    Wire::log_in(pgweir.port(), "postgres", "app", None)
}

#[test]
fn each_statement_of_a_pipeline_has_its_own_time() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "statement_timeout = \"300ms\"");
    let mut wire = log_in(&pgweir);
    let query = frame(tag::QUERY, &c_string("SELECT pg_sleep(60)"));
    wire.send_raw(&query.repeat(3));
    for _ in 0..3 {
        let frames = wire.read_until_ready();
        let error = error(&frames).unwrap();
        assert_eq!(
            (error.sqlstate().as_str(), error.field('S').as_deref()),
            ("57014", Some("ERROR"))
        );
        assert_eq!(error.message(), "canceling statement due to statement timeout");
    }
    assert_eq!(wire.value("SELECT 1"), "1");
}

#[test]
fn time_limits_hold_while_the_pooler_drains() {
    let postgres = Postgres::start();
    let config = format!(
        "workers = 1\ndrain_timeout = \"10min\"\nstatement_timeout = \"500ms\"\nidle_transaction_timeout = \"500ms\"\n\
         [auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{}\"\n",
        postgres.superuser_url()
    );
    let mut pgweir = Pgweir::builder().config(&config).start();
    let (mut running, mut idle) = (log_in(&pgweir), log_in(&pgweir));
    running.query("BEGIN");
    running.send_query("SELECT pg_sleep(600)");
    idle.query("BEGIN; SELECT 1");
    pgweir.terminate();
    let frames = running.read_until_ready();
    assert_eq!(sqlstate(&frames), "57014");
    assert_eq!(idle.read_fatal().sqlstate(), "25P03");
    running.send_query("ROLLBACK");
    assert_eq!(running.read_fatal().sqlstate(), "57P01");
    assert!(pgweir.wait().success());
}

#[test]
fn a_client_that_stops_in_the_middle_of_a_message_takes_no_connection() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1\npool_timeout = \"2s\"");
    let mut wire = log_in(&pgweir);
    assert_eq!(wire.value("SELECT 1"), "1");
    let query = frame(tag::QUERY, &c_string("SELECT 'the whole message'"));
    let mut stops = log_in(&pgweir);
    let (beginning, end) = query.split_at(12);
    stops.send_raw(beginning);
    assert_eq!(wire.value("SELECT 2"), "2");
    stops.send_raw(end);
    assert_eq!(
        stops.read_until_ready()[1].columns(),
        ["the whole message".to_owned()]
    );
}

#[test]
fn what_the_connect_query_sets_outlives_the_reset_between_two_clients() {
    let postgres = Postgres::start();
    let keys = "pool_size = 1\npool_mode = \"session\"\nconnect_query = \"SET search_path TO elsewhere; SET TimeZone TO 'Asia/Tokyo'\"";
    let pgweir = Pgweir::before_with(&postgres, keys);
    let mut backends = Vec::new();
    for _ in 0..3 {
        let mut wire = log_in(&pgweir);
        assert_eq!(wire.value("SHOW search_path"), "elsewhere");
        assert_eq!(wire.value("SHOW TimeZone"), "Asia/Tokyo");
        wire.query("SET search_path TO public; SET TimeZone TO 'UTC'");
        backends.push(wire.value("SELECT pg_backend_pid()"));
        wire.terminate();
    }
    backends.dedup();
    assert_eq!(backends.len(), 1);
}

#[test]
fn a_batch_longer_than_what_is_kept_in_mind_is_answered_to_its_end() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before(&postgres);
    let mut wire = log_in(&pgweir);
    let close = frame(tag::CLOSE, &[b"S".as_slice(), &c_string("nothing")].concat());
    wire.send_parse("first", "SELECT 1");
    wire.send_raw(&close.repeat(40_000));
    wire.send_sync();
    let frames = wire.read_until_ready();
    assert_eq!(frames.len(), 40_002);
}
