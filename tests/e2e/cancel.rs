//! Cancel requests: they reach the query that runs for that client, and nobody else's.

use std::io::Read;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rand::Rng;
use rustix::process::{Pid, Signal, kill_process};

use super::harness::clients;
use super::harness::crowd::{error, eventually, sqlstate};
use super::harness::wire::{Frame, PROTOCOL_3_0, PROTOCOL_3_2};
use super::harness::{Pgweir, Postgres, Wire};

type Key = (u32, Vec<u8>);

fn log_in(pgweir: &Pgweir, version: u32) -> (Wire, Key) {
    let mut wire = pgweir.wire();
    wire.startup_version(version, &[("user", "postgres"), ("database", "app")]);
    let key = wire
        .authenticate("postgres", "")
        .iter()
        .find_map(Frame::cancel_key);
    (wire, key.unwrap())
}

/// Sends a cancel request and waits until it has been dealt with.
fn cancel(pgweir: &Pgweir, process_id: u32, secret: &[u8]) {
    let mut wire = pgweir.wire();
    wire.cancel(process_id, secret);
    assert!(wire.read_until_closed().is_empty());
}

fn wait_until_runs(postgres: &Postgres, text: &str) {
    let running = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%{text}%' AND pid <> pg_backend_pid()"
    );
    eventually("the query runs", || postgres.sql(&running) != "0");
}

#[test]
fn a_running_query_is_cancelled_and_its_client_goes_on() {
    let postgres = Postgres::start();
    for mode in ["transaction", "session"] {
        let pgweir = Pgweir::before_with(&postgres, &format!("pool_mode = \"{mode}\""));
        for version in [PROTOCOL_3_0, PROTOCOL_3_2] {
            let (mut wire, (process_id, secret)) = log_in(&pgweir, version);
            assert_eq!(secret.len() > 4, version == PROTOCOL_3_2);
            wire.send_query("SELECT pg_sleep(30)");
            wait_until_runs(&postgres, "pg_sleep(30)");
            cancel(&pgweir, process_id, &secret);
            let frames = wire.read_until_ready();
            assert_eq!(sqlstate(&frames), "57014");
            let message = error(&frames).unwrap().message();
            assert_eq!(message, "canceling statement due to user request");
            assert_eq!(wire.value("SELECT 1"), "1");
            // Inside of a transaction block.
            wire.query("BEGIN");
            wire.send_query("SELECT pg_sleep(30)");
            wait_until_runs(&postgres, "pg_sleep(30)");
            cancel(&pgweir, process_id, &secret);
            let frames = wire.read_until_ready();
            assert_eq!(sqlstate(&frames), "57014");
            assert_eq!(frames.last().unwrap().transaction_state(), 'E');
            wire.query("ROLLBACK");
        }
    }
}

#[test]
fn a_client_that_waits_for_a_connection_is_cancelled() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1\npool_timeout = \"30s\"");
    let (mut holder, _) = log_in(&pgweir, PROTOCOL_3_0);
    let (mut waiter, (process_id, secret)) = log_in(&pgweir, PROTOCOL_3_0);
    holder.query("BEGIN; SELECT 1");
    waiter.send_query("SELECT 'never'");
    // It may not be in the queue yet: a request that comes too early does nothing.
    waiter.set_read_timeout(std::time::Duration::from_millis(50));
    let mut first = None;
    eventually("it is cancelled", || {
        cancel(&pgweir, process_id, &secret);
        first = waiter.try_read_frame().ok().flatten();
        first.is_some()
    });
    waiter.set_read_timeout(super::harness::PATIENCE);
    assert_eq!(first.unwrap().sqlstate(), "57014");
    assert_eq!(waiter.read_frame().transaction_state(), 'I');
    holder.query("COMMIT");
    assert_eq!(waiter.value("SELECT 1"), "1");
    assert_eq!(holder.value("SELECT 2"), "2");
}

#[test]
fn a_wrong_key_does_nothing() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before(&postgres);
    for version in [PROTOCOL_3_0, PROTOCOL_3_2] {
        let (mut wire, (process_id, secret)) = log_in(&pgweir, version);
        wire.send_query("SELECT pg_sleep(0.5)");
        wait_until_runs(&postgres, "pg_sleep(0.5)");
        let mut other = secret.clone();
        other[0] ^= 1;
        cancel(&pgweir, process_id, &other);
        cancel(&pgweir, process_id + 1, &secret);
        cancel(&pgweir, process_id | 1 << 30, &secret);
        cancel(&pgweir, 0, &secret);
        cancel(&pgweir, u32::MAX, &secret);
        for short in [&secret[..secret.len() / 2], &[]] {
            let mut other = pgweir.wire();
            other.cancel(process_id, short);
            other.read_until_closed();
        }
        assert!(error(&wire.read_until_ready()).is_none());
    }
}

#[test]
fn cancelling_an_idle_client_does_nothing() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1");
    let (mut idle, (process_id, secret)) = log_in(&pgweir, PROTOCOL_3_0);
    let (mut other, _) = log_in(&pgweir, PROTOCOL_3_0);
    idle.value("SELECT 1");
    other.send_query("SELECT pg_sleep(0.5)");
    wait_until_runs(&postgres, "pg_sleep(0.5)");
    for _ in 0..10 {
        cancel(&pgweir, process_id, &secret);
    }
    assert!(error(&other.read_until_ready()).is_none());
    // In a block between two statements, as with PostgreSQL itself.
    idle.query("BEGIN");
    cancel(&pgweir, process_id, &secret);
    assert_eq!(idle.value("SELECT 1"), "1");
    assert!(error(&idle.query("COMMIT")).is_none());
}

#[test]
fn control_c_in_psql_cancels() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before(&postgres);
    let mut psql = clients::client("psql")
        .args([
            "-X",
            "-d",
            &pgweir.url("postgres", "app"),
            "-c",
            "SELECT pg_sleep(30)",
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until_runs(&postgres, "pg_sleep(30)");
    let process = Pid::from_raw(i32::try_from(psql.id()).unwrap()).unwrap();
    kill_process(process, Signal::INT).unwrap();
    assert!(!psql.wait().unwrap().success());
    let mut words = String::new();
    psql.stderr.unwrap().read_to_string(&mut words).unwrap();
    assert!(
        words.contains("canceling statement due to user request"),
        "{words}"
    );
}

#[test]
fn a_storm_of_cancels_never_hits_who_was_not_cancelled() {
    let postgres = Postgres::start();
    let url = postgres.superuser_url();
    let config = format!(
        "workers = 2\npool_size = 5\npool_timeout = \"30s\"\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{url}\"\n"
    );
    let pgweir = Pgweir::builder().config(&config).start();
    thread::scope(|scope| {
        for number in 0..50 {
            let pgweir = &pgweir;
            let ended = std::sync::Arc::new(AtomicBool::new(false));
            let (wire, key) = log_in(
                pgweir,
                if number % 4 < 2 {
                    PROTOCOL_3_0
                } else {
                    PROTOCOL_3_2
                },
            );
            if number % 2 == 0 {
                let ended = std::sync::Arc::clone(&ended);
                scope.spawn(move || keep_cancelling(pgweir, &key, &ended));
            }
            scope.spawn(move || {
                ask_quickly(wire, number);
                ended.store(true, Ordering::Release);
            });
        }
    });
    assert!(!pgweir.log_contains("a task has failed"));
}

fn keep_cancelling(pgweir: &Pgweir, key: &Key, ended: &AtomicBool) {
    while !ended.load(Ordering::Acquire) {
        cancel(pgweir, key.0, &key.1);
        let pause = rand::rng().random_range(0..8);
        thread::sleep(std::time::Duration::from_millis(pause));
    }
}

/// Short queries of all kinds. Only those with an even number expect to be cancelled.
fn ask_quickly(mut wire: Wire, number: usize) {
    let query = format!("SELECT {number} FROM pg_sleep(0.002)");
    for round in 0..150 {
        let frames = match round % 3 {
            0 => {
                wire.send_parse("", &query);
                wire.send_bind("", "", &[]);
                wire.send_execute("", 0);
                wire.send_sync();
                wire.read_until_ready()
            }
            1 => {
                wire.query("BEGIN");
                let frames = wire.query(&query);
                wire.query("ROLLBACK");
                frames
            }
            _ => wire.query(&query),
        };
        if let Some(error) = error(&frames) {
            assert_eq!((error.sqlstate().as_str(), number % 2), ("57014", 0), "{error:?}");
        }
    }
}
