//! When a server connection goes back: session, transaction and statement mode.

use pgweir::protocol::tag;

use super::harness::crowd::{error, eventually, sqlstate};
use super::harness::wire::frame;
use super::harness::{Pgweir, Postgres, Wire};

fn start(postgres: &Postgres, mode: &str) -> Pgweir {
    Pgweir::before_with(
        postgres,
        &format!("pool_mode = \"{mode}\"\npool_size = 1\npool_timeout = \"1s\""),
    )
}

fn log_in(pgweir: &Pgweir) -> Wire {
    Wire::log_in(pgweir.port(), "postgres", "app", None)
}

#[test]
fn in_transaction_mode_a_connection_is_free_between_transactions() {
    let postgres = Postgres::start();
    let pgweir = start(&postgres, "transaction");
    let [mut first, mut second] = [(); 2].map(|()| log_in(&pgweir));
    let pid = first.value("SELECT pg_backend_pid()");
    assert_eq!(second.value("SELECT pg_backend_pid()"), pid);
    first.query("BEGIN; SELECT 1");
    assert_eq!(sqlstate(&second.query("SELECT 1")), "53300");
    // An error inside of a block does not end it.
    first.query("SELECT 1/0");
    assert_eq!(sqlstate(&second.query("SELECT 1")), "53300");
    first.query("ROLLBACK");
    assert_eq!(second.value("SELECT 1"), "1");
    // A pipeline without its Sync is a transaction, too.
    first.send_parse("", "SELECT 1");
    first.send_flush();
    assert_eq!(first.read_frame().tag, b'1');
    assert_eq!(sqlstate(&second.query("SELECT 1")), "53300");
    first.send_sync();
    first.read_until_ready();
    assert_eq!(second.value("SELECT 1"), "1");
}

#[test]
fn in_session_mode_a_connection_is_the_clients_own_until_it_leaves() {
    let postgres = Postgres::start();
    let pgweir = start(&postgres, "session");
    let mut first = log_in(&pgweir);
    let pid = first.value("SELECT pg_backend_pid()");
    first.query("SET work_mem = '7MB'");
    first.query("CREATE TEMP TABLE own (id int)");
    first.query("PREPARE own AS SELECT 1");
    first.query("SELECT pg_advisory_lock(1)");
    first.query("LISTEN own");
    first.send_parse("named", "SELECT 'named'");
    first.send_sync();
    first.read_until_ready();
    let mut second = log_in(&pgweir);
    assert_eq!(sqlstate(&second.query("SELECT 1")), "53300");
    assert_eq!(first.value("SELECT count(*) FROM own"), "0");
    first.terminate();
    eventually("the next has it", || error(&second.query("SELECT 1")).is_none());
    // It is the same one, as good as new.
    assert_eq!(second.value("SELECT pg_backend_pid()"), pid);
    assert_eq!(second.value("SHOW work_mem"), "4MB");
    assert_eq!(sqlstate(&second.query("SELECT * FROM own")), "42P01");
    assert_eq!(sqlstate(&second.query("EXECUTE own")), "26000");
    assert_eq!(
        second.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
        "0"
    );
    assert_eq!(second.value("SELECT count(*) FROM pg_listening_channels()"), "0");
    second.send_bind("", "named", &[]);
    second.send_sync();
    assert_eq!(sqlstate(&second.read_until_ready()), "26000");
}

#[test]
fn a_session_that_ends_inside_a_transaction_leaves_nothing_behind() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE kept (id int)");
    for mode in ["session", "transaction"] {
        let pgweir = start(&postgres, mode);
        let mut first = log_in(&pgweir);
        first.query("BEGIN");
        first.query("INSERT INTO kept VALUES (1)");
        drop(first);
        let mut second = log_in(&pgweir);
        eventually("the next is served", || {
            let frames = second.query("SELECT count(*) FROM kept");
            error(&frames).is_none() && frames[1].columns() == ["0"]
        });
    }
}

#[test]
fn in_statement_mode_there_are_no_transaction_blocks() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE kept (id int)");
    let pgweir = start(&postgres, "statement");
    let [mut first, mut second] = [(); 2].map(|()| log_in(&pgweir));
    let pid = first.value("SELECT pg_backend_pid()");
    assert_eq!(second.value("SELECT pg_backend_pid()"), pid);
    first.query("INSERT INTO kept VALUES (1); INSERT INTO kept VALUES (2)");
    first.send_parse("", "SELECT count(*) FROM kept");
    first.send_bind("", "", &[]);
    first.send_execute("", 0);
    first.send_sync();
    assert_eq!(first.read_until_ready()[2].columns(), ["2"]);
    first.send_query("BEGIN");
    let refusal = first.read_fatal();
    assert_eq!(refusal.sqlstate(), "0A000");
    assert!(refusal.field('H').is_some());
    // Nobody else notices, and nobody is inside of that block.
    eventually("the connection is free", || {
        error(&second.query("SAVEPOINT a")).is_some_and(|error| error.sqlstate() == "25P01")
    });
    assert_eq!(second.value("SELECT count(*) FROM kept"), "2");
}

#[test]
fn a_users_own_mode_wins_over_the_databases() {
    let postgres = Postgres::start();
    let url = postgres.superuser_url();
    let config = format!(
        "workers = 1\npool_size = 1\npool_timeout = \"1s\"\n[auth]\nmethod = \"trust\"\n[users.keeper]\npool_mode = \"session\"\n[users.other]\n[databases.app]\nurl = \"{url}\"\n"
    );
    let pgweir = Pgweir::builder().config(&config).start();
    let mut other = Wire::log_in(pgweir.port(), "other", "app", None);
    let mut keeper = Wire::log_in(pgweir.port(), "keeper", "app", None);
    other.value("SELECT 1");
    keeper.value("SELECT 1");
    assert_eq!(sqlstate(&other.query("SELECT 1")), "53300");
    keeper.terminate();
    eventually("it is free", || error(&other.query("SELECT 1")).is_none());
}

#[test]
fn a_copy_that_fails_half_way_through_a_message_keeps_no_server_connection() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE numbers (id int)");
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1\npool_timeout = \"2s\"");
    let log_in = || Wire::log_in(pgweir.port(), "postgres", "app", None);
    let (mut wire, mut other) = (log_in(), log_in());
    for begin in ["", "SET application_name = 'copies'; "] {
        wire.send_query(&format!("{begin}COPY numbers FROM STDIN"));
        wire.read_until(tag::COPY_IN_RESPONSE);
        let (first, second) = (frame(tag::COPY_DATA, b"x\n"), frame(tag::COPY_DATA, &[b'1'; 100]));
        let (begun, rest) = second.split_at(50);
        wire.send_raw(&[&first, begun].concat());
        assert_eq!(sqlstate(&wire.read_until_ready()), "22P02");
        wire.send_raw(rest);
        assert_eq!(error(&other.query("SELECT 1")), None, "{begin}");
        wire.send(tag::COPY_DONE, &[]);
        assert_eq!(error(&wire.query("SELECT 1")), None, "{begin}");
    }
}
