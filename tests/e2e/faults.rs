//! Servers, backends and clients that die in the middle of something.

use std::process::{Command, Stdio};

use super::harness::clients;
use super::harness::crowd::{crowd, error, eventually, sqlstate};
use super::harness::wire::{Frame, tags};
use super::harness::{Pgweir, Postgres, Proxy, Wire};

fn log_in(pgweir: &Pgweir) -> Wire {
    Wire::log_in(pgweir.port(), "postgres", "app", None)
}

fn through(proxy: &Proxy, keys: &str) -> Pgweir {
    let url = format!("postgresql://postgres@127.0.0.1:{}/postgres", proxy.port());
    let config =
        format!("workers = 1\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{url}\"\n{keys}\n");
    Pgweir::builder().config(&config).start()
}

fn terminate(postgres: &Postgres, pid: &str) {
    assert_eq!(
        postgres.sql(&format!("SELECT pg_terminate_backend({pid}, 10000)")),
        "t"
    );
}

fn kill_9(pid: &str) {
    assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
}

/// Severity and SQLSTATE of the error among these frames, and the state of the session behind it.
fn outcome(frames: &[Frame]) -> (String, String, char) {
    let error = error(frames).unwrap_or_else(|| panic!("no error in {frames:?}"));
    let state = frames.last().unwrap().transaction_state();
    (error.field('S').unwrap(), error.sqlstate(), state)
}

fn told(severity: &str, sqlstate: &str, state: char) -> (String, String, char) {
    (severity.to_owned(), sqlstate.to_owned(), state)
}

/// The block is lost, and stays so until the client rolls back, as it would with PostgreSQL itself.
fn is_failed_until_rollback(wire: &mut Wire) {
    assert_eq!(outcome(&wire.query("SELECT 1")), told("ERROR", "25P02", 'E'));
    wire.send_parse("", "SELECT 1");
    wire.send_sync();
    assert_eq!(outcome(&wire.read_until_ready()), told("ERROR", "25P02", 'E'));
    let frames = wire.query("COMMIT");
    assert_eq!(tags(&frames), "CZ", "{frames:?}");
    assert_eq!(frames[0].body, b"ROLLBACK\0");
    assert_eq!(frames[1].transaction_state(), 'I');
    assert_eq!(wire.value("SELECT 'usable'"), "usable");
}

#[test]
fn a_backend_that_is_terminated_says_so_itself_and_its_client_goes_on() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1");
    let mut wire = log_in(&pgweir);
    // Idle: nobody notices.
    let pid = wire.value("SELECT pg_backend_pid()");
    terminate(&postgres, &pid);
    assert_ne!(wire.value("SELECT pg_backend_pid()"), pid);
    // In a query.
    let frames = wire.query("SELECT pg_terminate_backend(pg_backend_pid())");
    assert_eq!(outcome(&frames), told("ERROR", "57P01", 'I'));
    // In a query of the extended protocol, with more behind it.
    wire.send_parse("", "SELECT pg_terminate_backend(pg_backend_pid())");
    wire.send_bind("", "", &[]);
    wire.send_execute("", 0);
    wire.send_sync();
    wire.send_query("SELECT 'second'");
    assert_eq!(outcome(&wire.read_until_ready()), told("ERROR", "57P01", 'I'));
    let second = wire.read_until_ready();
    let is_refused = error(&second).is_some();
    assert!(is_refused || second[1].columns() == ["second"], "{second:?}");
    // In a block.
    wire.query("BEGIN");
    let frames = wire.query("SELECT pg_terminate_backend(pg_backend_pid())");
    assert_eq!(outcome(&frames), told("ERROR", "57P01", 'E'));
    is_failed_until_rollback(&mut wire);
    // Between two statements of a block.
    wire.query("BEGIN");
    let pid = wire.value("SELECT pg_backend_pid()");
    terminate(&postgres, &pid);
    assert_eq!(outcome(&wire.query("SELECT 1")), told("ERROR", "57P01", 'E'));
    is_failed_until_rollback(&mut wire);
    eventually("one connection is left", || postgres.connections() == 1);
}

#[test]
fn a_backend_that_is_killed_takes_all_others_with_it() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE kept (id int)");
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 3");
    let [mut victim, mut in_block, mut single] = [(); 3].map(|()| log_in(&pgweir));
    victim.query("BEGIN");
    let pid = victim.value("SELECT pg_backend_pid()");
    in_block.query("BEGIN");
    in_block.query("INSERT INTO kept VALUES (1)");
    in_block.send_query("SELECT pg_sleep(30)");
    single.send_query("SELECT pg_sleep(30)");
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    eventually("both sleep", || postgres.sql(asleep) == "2");
    kill_9(&pid);
    // It had no time for last words; those of the others are a mere warning.
    assert_eq!(outcome(&victim.query("SELECT 1")), told("ERROR", "08006", 'E'));
    assert_eq!(outcome(&in_block.read_until_ready()), told("ERROR", "08006", 'E'));
    assert_eq!(outcome(&single.read_until_ready()), told("ERROR", "08007", 'I'));
    eventually("the server has recovered", || {
        error(&single.query("SELECT 1")).is_none()
    });
    is_failed_until_rollback(&mut victim);
    is_failed_until_rollback(&mut in_block);
    assert_eq!(single.value("SELECT count(*) FROM kept"), "0");
    side_by_side(&pgweir, 3);
    eventually("no more than the pool's", || postgres.connections() <= 3);
}

#[test]
fn a_server_that_is_killed_is_told_by_what_may_have_happened() {
    let mut postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 3");
    let [mut in_block, mut single, mut idle] = [(); 3].map(|()| log_in(&pgweir));
    idle.value("SELECT 1");
    in_block.query("BEGIN");
    in_block.send_query("SELECT pg_sleep(30)");
    single.send_query("SELECT pg_sleep(30)");
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    eventually("both sleep", || postgres.sql(asleep) == "2");
    postgres.kill_9();
    // Backends notice the death of their postmaster at once, and end without a word, or with one.
    let frames = in_block.read_until_ready();
    assert_eq!(frames.last().unwrap().transaction_state(), 'E');
    assert!(
        ["08006", "57P01", "57P02"].contains(&sqlstate(&frames).as_str()),
        "{frames:?}"
    );
    let frames = single.read_until_ready();
    assert_eq!(frames.last().unwrap().transaction_state(), 'I');
    assert!(
        ["08007", "57P01", "57P02"].contains(&sqlstate(&frames).as_str()),
        "{frames:?}"
    );
    eventually("the idle one is told, too", || {
        error(&idle.query("SELECT 1")).is_some_and(|error| error.sqlstate() == "08001")
    });
    // What is left of the old one may have to end first.
    eventually("it starts again", || postgres.start().is_ok());
    eventually("it serves again", || error(&idle.query("SELECT 1")).is_none());
    is_failed_until_rollback(&mut in_block);
    assert_eq!(single.value("SELECT 1"), "1");
    side_by_side(&pgweir, 3);
    assert!(!pgweir.log_contains("a task has failed"));
}

#[test]
fn a_lost_commit_is_told_apart_from_a_lost_statement() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE kept (id int)");
    let proxy = Proxy::before(postgres.port());
    let pgweir = through(&proxy, "");
    for (in_block, sql, expected) in [
        (true, "INSERT INTO kept VALUES (1)", "08006"),
        (true, "COMMIT", "08007"),
        (true, "commit and chain", "08007"),
        (true, "END", "08007"),
        (true, "PREPARE TRANSACTION 'a'", "08007"),
        (true, "SELECT 1; COMMIT", "08007"),
        (true, "ROLLBACK", "08006"),
        (false, "INSERT INTO kept VALUES (1)", "08007"),
    ] {
        let mut wire = log_in(&pgweir);
        if in_block {
            wire.query("BEGIN; SELECT 1");
        }
        proxy.stall();
        wire.send_query(sql);
        // It is on its way, and never arrives.
        wire.set_read_timeout(std::time::Duration::from_millis(100));
        assert!(wire.try_read_frame().is_err());
        wire.set_read_timeout(super::harness::PATIENCE);
        proxy.cut();
        proxy.resume();
        let frames = wire.read_until_ready();
        assert_eq!(sqlstate(&frames), expected, "{sql}");
        assert!(error(&frames).unwrap().field('D').is_some());
        assert!(error(&frames).unwrap().field('H').is_some());
        wire.query("ROLLBACK");
        assert_eq!(wire.value("SELECT 1"), "1", "{sql}");
    }
    assert_eq!(postgres.sql("SELECT count(*) FROM kept"), "0");
}

#[test]
fn an_answer_that_breaks_off_in_the_middle_closes_its_client() {
    let postgres = Postgres::start();
    let proxy = Proxy::before(postgres.port());
    let pgweir = through(&proxy, "");
    let mut wire = log_in(&pgweir);
    // One row of 64 MB, which nobody reads.
    wire.send_query("SELECT repeat('x', 64 << 20)");
    wire.set_read_timeout(std::time::Duration::from_secs(10));
    assert_eq!(wire.read_byte(), b'T');
    proxy.cut();
    let mut rest = 0;
    while wire.try_read_byte().is_some() {
        rest += 1;
    }
    assert!(rest < 64 << 20);
    assert_eq!(log_in(&pgweir).value("SELECT 1"), "1");
}

#[test]
fn in_session_mode_a_lost_connection_ends_the_session() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_mode = \"session\"");
    let mut wire = log_in(&pgweir);
    wire.send_query("SELECT pg_terminate_backend(pg_backend_pid())");
    let last = wire.read_fatal();
    assert_eq!(last.sqlstate(), "57P01");
    assert_eq!(last.field('S').unwrap(), "FATAL");
    let mut idle = log_in(&pgweir);
    let pid = idle.value("SELECT pg_backend_pid()");
    terminate(&postgres, &pid);
    assert_eq!(idle.read_fatal().sqlstate(), "57P01");
}

#[test]
fn a_client_that_vanishes_in_a_query_cancels_it_and_frees_its_connection() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE kept (id int)");
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1\npool_timeout = \"30s\"");
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    for sql in [
        "SELECT pg_sleep(30)",
        "BEGIN; INSERT INTO kept VALUES (1); SELECT pg_sleep(30)",
    ] {
        let mut psql = clients::client("psql")
            .args(["-X", "-d", &pgweir.url("postgres", "app"), "-c", sql])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        eventually("it sleeps", || postgres.sql(asleep) == "1");
        psql.kill().unwrap();
        psql.wait().unwrap();
        eventually("it is cancelled", || postgres.sql(asleep) == "0");
        assert_eq!(log_in(&pgweir).value("SELECT count(*) FROM kept"), "0");
    }
    // In the middle of a block, of a COPY, of a message, and while it waits.
    let mut block = log_in(&pgweir);
    block.query("BEGIN");
    block.query("INSERT INTO kept VALUES (1)");
    let mut waiting = log_in(&pgweir);
    waiting.send_query("INSERT INTO kept VALUES (2)");
    drop(waiting);
    drop(block);
    let mut copy = log_in(&pgweir);
    copy.send_query("COPY kept FROM STDIN");
    assert_eq!(copy.read_frame().tag, b'G');
    copy.send(b'd', b"3\n");
    drop(copy);
    let mut half = log_in(&pgweir);
    half.send_raw(b"Q\x00\x01\x00\x00INSERT INTO kept VALUES (4)");
    drop(half);
    assert_eq!(
        log_in(&pgweir).value("SELECT count(*) FROM kept WHERE id <> 2"),
        "0"
    );
    side_by_side(&pgweir, 1);
    eventually("no more than one", || postgres.connections() <= 1);
}

#[test]
fn every_request_of_a_lost_pipeline_is_answered() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1");
    let mut wire = log_in(&pgweir);
    for number in 0..20 {
        let sql = if number == 3 {
            "SELECT pg_terminate_backend(pg_backend_pid())"
        } else {
            "SELECT 'kept'"
        };
        wire.send_parse("", sql);
        wire.send_bind("", "", &[]);
        wire.send_execute("", 0);
        wire.send_sync();
    }
    let answers: Vec<_> = (0..20).map(|_| wire.read_until_ready()).collect();
    for (number, frames) in answers.iter().enumerate() {
        assert_eq!(
            error(frames).is_none(),
            number < 3 || tags(frames) == "12DCZ",
            "{number}: {frames:?}"
        );
    }
    assert_eq!(sqlstate(&answers[3]), "57P01");
    assert_eq!(wire.value("SELECT 'in step'"), "in step");
}

/// The pool has all its connections.
fn side_by_side(pgweir: &Pgweir, size: usize) {
    let together = std::sync::Barrier::new(size);
    crowd(size, |_| {
        let mut wire = log_in(pgweir);
        let begun = wire.query("BEGIN; SELECT 1");
        together.wait();
        assert!(error(&begun).is_none(), "{begun:?}");
    });
}
