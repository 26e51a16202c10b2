//! What ends when its time is over, and how that is told.

use std::sync::Barrier;

use pgweir::protocol::tag;

use super::harness::crowd::{crowd, error, eventually, sqlstate};
use super::harness::wire::Frame;
use super::harness::{Pgweir, Postgres, Proxy, Wire};

fn log_in(pgweir: &Pgweir) -> Wire {
    Wire::log_in(pgweir.port(), "postgres", "app", None)
}

/// Severity, SQLSTATE and text of the error among these frames.
fn words(frames: &[Frame]) -> (String, String, String) {
    let error = error(frames).unwrap_or_else(|| panic!("no error in {frames:?}"));
    (error.field('S').unwrap(), error.sqlstate(), error.message())
}

fn send_extended(wire: &mut Wire, sql: &str) {
    wire.send_parse("", sql);
    wire.send_bind("", "", &[]);
    wire.send_execute("", 0);
    wire.send_sync();
}

fn nothing_runs(postgres: &Postgres) {
    let active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid()";
    eventually("the statement has ended on the server", || {
        postgres.sql(active) == "0"
    });
}

#[test]
fn a_statement_over_its_time_is_cancelled_and_its_client_goes_on() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "statement_timeout = \"500ms\"\npool_size = 1");
    let mut direct = Wire::log_in(postgres.port(), "postgres", "postgres", None);
    direct.query("SET statement_timeout = '100ms'");
    let expected = words(&direct.query("SELECT pg_sleep(30)"));
    let mut wire = log_in(&pgweir);
    let pid = wire.value("SELECT pg_backend_pid()");
    let frames = wire.query("SELECT pg_sleep(30)");
    assert_eq!(words(&frames), expected);
    assert_eq!(frames.last().unwrap().transaction_state(), 'I');
    send_extended(&mut wire, "SELECT pg_sleep(30)");
    let frames = wire.read_until_ready();
    assert_eq!(words(&frames), expected);
    assert_eq!(frames.last().unwrap().transaction_state(), 'I');
    // In a block, which is failed then.
    wire.query("BEGIN");
    let frames = wire.query("SELECT pg_sleep(30)");
    assert_eq!(words(&frames), expected);
    assert_eq!(frames.last().unwrap().transaction_state(), 'E');
    assert_eq!(sqlstate(&wire.query("SELECT 1")), "25P02");
    wire.query("ROLLBACK");
    // On the same connection all the time, and it is no setting that anybody sees.
    assert_eq!(wire.value("SELECT pg_backend_pid()"), pid);
    assert_eq!(wire.value("SHOW statement_timeout"), "0");
    nothing_runs(&postgres);
}

#[test]
fn a_cancelled_statement_in_a_pipeline_ends_its_part_of_it() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "statement_timeout = \"500ms\"");
    let mut direct = Wire::log_in(postgres.port(), "postgres", "postgres", None);
    direct.query("SET statement_timeout = '100ms'");
    let expected = words(&direct.query("SELECT pg_sleep(30)"));
    for send in [send_extended, |wire: &mut Wire, sql: &str| wire.send_query(sql)] {
        let mut wire = log_in(&pgweir);
        for sql in ["SELECT 1", "SELECT pg_sleep(30)", "SELECT 3"] {
            send(&mut wire, sql);
        }
        let values = |frames: &[Frame]| {
            let rows = frames.iter().filter(|frame| frame.tag == tag::DATA_ROW);
            rows.flat_map(Frame::columns).collect::<Vec<_>>()
        };
        let first = wire.read_until_ready();
        assert_eq!((error(&first), values(&first)), (None, vec!["1".to_owned()]));
        let second = wire.read_until_ready();
        assert_eq!(words(&second), expected);
        assert_eq!(second.last().unwrap().transaction_state(), 'I');
        // PostgreSQL signals twice for one request, and the second may hit what was sent behind. Then it says so.
        let third = wire.read_until_ready();
        match error(&third) {
            None => assert_eq!(values(&third), ["3"]),
            Some(hit) => {
                assert_eq!(words(&third), expected);
                assert_eq!(
                    hit.field('D').as_deref(),
                    Some("It was sent behind a statement that was over its time.")
                );
            }
        }
        assert_eq!(wire.value("SELECT 4"), "4");
    }
}

/// A client whose statement waits for the advisory lock 1, and whose time is over: the cancel request is held by the proxy.
/// From then on nothing has a limit.
fn with_late_cancel(proxy: &Proxy, mode: &str, begin: &str) -> (Pgweir, Wire) {
    let config = |timeout: &str| {
        let url = format!("postgresql://postgres@127.0.0.1:{}/postgres", proxy.port());
        format!(
            "workers = 1\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{url}\"\npool_mode = \"{mode}\"\nstatement_timeout = \"{timeout}\"\n"
        )
    };
    let pgweir = Pgweir::builder().config(&config("500ms")).start();
    let mut wire = log_in(&pgweir);
    wire.query(begin);
    proxy.hold();
    wire.send_query("SELECT pg_advisory_xact_lock(1)");
    eventually("the cancel request is under way", || proxy.held() == 1);
    pgweir.write_config(&config("0"));
    pgweir.hup();
    pgweir.wait_for_log("configuration reloaded", 1);
    (pgweir, wire)
}

#[test]
fn a_late_cancel_of_a_statement_over_its_time_does_not_hit_the_next_one() {
    let postgres = Postgres::start();
    for (mode, begin, order) in [
        ("transaction", "BEGIN", Order::AfterAnswer),
        ("session", "BEGIN", Order::AfterAnswer),
        ("session", "SELECT 1", Order::AfterAnswer),
        ("transaction", "BEGIN", Order::Ahead),
        ("transaction", "SELECT 1", Order::Ahead),
    ] {
        let case = format!("{mode} {begin} {order:?}");
        let mut keeper = Wire::log_in(postgres.port(), "postgres", "postgres", None);
        keeper.query("SELECT pg_advisory_lock(1), pg_advisory_lock(2)");
        let proxy = Proxy::before(postgres.port());
        let (_pgweir, mut wire) = with_late_cancel(&proxy, mode, begin);
        let next = "SELECT pg_advisory_xact_lock(2)";
        if order == Order::Ahead {
            wire.send_query(next);
        }
        keeper.query("SELECT pg_advisory_unlock(1)");
        let frames = wire.read_until_ready();
        assert_eq!(error(&frames), None, "{case}");
        if order == Order::AfterAnswer {
            wire.send_query(next);
        }
        proxy.admit();
        eventually("the next statement runs", || {
            postgres.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") == "1"
        });
        keeper.query("SELECT pg_advisory_unlock(2)");
        assert_eq!(error(&wire.read_until_ready()), None, "{case}");
        assert_eq!(error(&wire.query("COMMIT")), None, "{case}");
    }
}

#[test]
fn a_block_ends_when_nobody_knows_whether_a_cancel_may_still_hit_it() {
    let postgres = Postgres::start();
    let mut keeper = Wire::log_in(postgres.port(), "postgres", "postgres", None);
    keeper.query("SELECT pg_advisory_lock(1)");
    let proxy = Proxy::before(postgres.port());
    let (pgweir, mut wire) = with_late_cancel(&proxy, "transaction", "BEGIN");
    keeper.query("SELECT pg_advisory_unlock(1)");
    assert_eq!(error(&wire.read_until_ready()), None);
    // The request never arrives.
    let frames = wire.query("SELECT 1");
    assert_eq!(sqlstate(&frames), "08006");
    assert_eq!(frames.last().unwrap().transaction_state(), 'E');
    pgweir.wait_for_log("a cancel request was not taken in time", 1);
    proxy.admit();
    assert_eq!(sqlstate(&wire.query("SELECT 2")), "25P02");
    assert_eq!(wire.query("ROLLBACK").last().unwrap().transaction_state(), 'I');
    assert_eq!(wire.value("SELECT 3"), "3");
}

#[test]
fn a_server_that_does_not_take_the_settings_of_a_session_is_not_waited_for() {
    let postgres = Postgres::start();
    for mode in ["transaction", "session"] {
        let proxy = Proxy::before(postgres.port());
        let config = format!(
            "workers = 1\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"postgresql://postgres@127.0.0.1:{}/postgres\"\npool_mode = \"{mode}\"\npool_size = 1\nconnect_timeout = \"1s\"\npool_timeout = \"30s\"\n",
            proxy.port()
        );
        let pgweir = Pgweir::builder().config(&config).start();
        let log_in = |name: &str| {
            let mut wire = pgweir.wire();
            wire.startup(&[
                ("user", "postgres"),
                ("database", "app"),
                ("application_name", name),
            ]);
            wire.authenticate("postgres", "");
            wire
        };
        let mut first = log_in("first");
        let mut second = log_in("second");
        if mode == "transaction" {
            assert_eq!(second.value("SHOW application_name"), "second");
        } else {
            drop(second);
            second = log_in("second");
        }
        proxy.stall();
        let frames = first.query("SELECT 1");
        let refused = words(&frames);
        assert_eq!((refused.0.as_str(), refused.1.as_str()), ("ERROR", "08006"));
        assert_eq!(frames.last().unwrap().transaction_state(), 'I');
        proxy.resume();
        assert_eq!(first.value("SHOW application_name"), "first");
        if mode == "session" {
            // What the session had is gone with its connection.
            first.query("DISCARD ALL");
            proxy.stall();
            first.send_query("SELECT 1");
            let last = first.read_fatal();
            assert_eq!(
                (last.field('S').as_deref(), last.sqlstate().as_str()),
                (Some("FATAL"), "08006")
            );
            proxy.resume();
        } else {
            first.terminate();
        }
        assert_eq!(second.value("SHOW application_name"), "second");
    }
}

/// When the next statement is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    AfterAnswer,
    /// While the one before it is being cancelled.
    Ahead,
}

#[test]
fn the_wait_for_a_connection_is_not_a_statements_time() {
    let postgres = Postgres::start();
    let keys = "pool_size = 1\npool_timeout = \"30s\"";
    let pgweir = Pgweir::before_with(&postgres, &format!("{keys}\nstatement_timeout = \"500ms\""));
    let mut holder = log_in(&pgweir);
    holder.query("BEGIN; SELECT 1");
    let mut waiter = log_in(&pgweir);
    waiter.send_query("SELECT 'waited'");
    // Longer than a statement may take.
    postgres.sql("SELECT pg_sleep(0.8)");
    holder.query("COMMIT");
    assert_eq!(waiter.read_until_ready()[1].columns(), ["waited"]);
}

#[test]
fn a_clients_own_statement_timeout_works_beside_the_cap() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "statement_timeout = \"30s\"");
    let mut wire = log_in(&pgweir);
    wire.query("BEGIN");
    wire.query("SET LOCAL statement_timeout = '50ms'");
    assert_eq!(sqlstate(&wire.query("SELECT pg_sleep(30)")), "57014");
    wire.query("ROLLBACK");
    assert_eq!(wire.value("SELECT 1"), "1");
}

#[test]
fn a_transaction_over_its_time_ends_with_its_client() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "transaction_timeout = \"1s\"");
    let mut idle = log_in(&pgweir);
    idle.query("BEGIN");
    idle.query("SELECT 1");
    let last = idle.read_fatal();
    assert_eq!(
        (last.field('S').unwrap(), last.sqlstate()),
        ("FATAL".to_owned(), "25P04".to_owned())
    );
    let mut busy = log_in(&pgweir);
    busy.query("BEGIN");
    busy.send_query("SELECT pg_sleep(30)");
    assert_eq!(busy.read_fatal().sqlstate(), "25P04");
    let mut single = log_in(&pgweir);
    single.send_query("SELECT pg_sleep(30)");
    assert_eq!(single.read_fatal().sqlstate(), "25P04");
    nothing_runs(&postgres);
    eventually("no transaction is left open", || {
        postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'") == "0"
    });
}

#[test]
fn a_client_that_idles_in_a_transaction_is_closed_and_its_locks_are_free() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE kept (id int)");
    let pgweir = Pgweir::before_with(&postgres, "idle_transaction_timeout = \"1s\"");
    let mut wire = log_in(&pgweir);
    wire.query("BEGIN");
    wire.query("LOCK TABLE kept");
    // Busy is not idle.
    wire.query("SELECT pg_sleep(1.5)");
    let last = wire.read_fatal();
    assert_eq!(
        (last.field('S').unwrap(), last.sqlstate()),
        ("FATAL".to_owned(), "25P03".to_owned())
    );
    assert_eq!(postgres.sql("SELECT count(*) FROM kept"), "0");
    // In a failed block, too; and a pipeline that waits for its Sync is one.
    let mut failed = log_in(&pgweir);
    failed.query("BEGIN");
    failed.query("SELECT 1/0");
    assert_eq!(failed.read_fatal().sqlstate(), "25P03");
}

#[test]
fn a_client_that_idles_outside_of_a_transaction_is_closed() {
    let postgres = Postgres::start();
    for mode in ["transaction", "session"] {
        let keys = format!("client_idle_timeout = \"1s\"\npool_mode = \"{mode}\"");
        let pgweir = Pgweir::before_with(&postgres, &keys);
        let mut wire = log_in(&pgweir);
        // Whoever waits for an answer is not idle.
        assert!(error(&wire.query("SELECT pg_sleep(1.5)")).is_none());
        wire.query("BEGIN");
        postgres.sql("SELECT pg_sleep(1.5)");
        wire.query("COMMIT");
        let last = wire.read_fatal();
        assert_eq!(
            (last.field('S').unwrap(), last.sqlstate()),
            ("FATAL".to_owned(), "57P05".to_owned()),
            "{mode}"
        );
    }
}

#[test]
fn who_does_not_log_in_in_time_is_closed() {
    let postgres = Postgres::start();
    let url = postgres.superuser_url();
    let config = format!(
        "workers = 1\nclient_login_timeout = \"300ms\"\n[auth]\nmethod = \"password\"\n[users.app]\npassword = \"secret\"\n[databases.app]\nurl = \"{url}\"\n"
    );
    let pgweir = Pgweir::builder().config(&config).start();
    let mut logged_in = Wire::log_in(pgweir.port(), "app", "app", Some("secret"));
    let mut silent = pgweir.wire();
    let mut half = pgweir.wire();
    half.send_raw(&[0, 0]);
    let mut without_password = pgweir.wire();
    without_password.startup(&[("user", "app"), ("database", "app")]);
    for wire in [&mut silent, &mut half, &mut without_password] {
        wire.read_until_closed();
    }
    assert_eq!(logged_in.value("SELECT 1"), "1");
}

#[test]
fn the_most_specific_timeout_counts() {
    let postgres = Postgres::start();
    let url = postgres.superuser_url();
    let config = format!(
        "workers = 1\nstatement_timeout = \"30s\"\n[auth]\nmethod = \"trust\"\n[users.patient]\nstatement_timeout = \"0\"\n[users.other]\n[databases.app]\nurl = \"{url}\"\nstatement_timeout = \"100ms\"\n[databases.long]\nurl = \"{url}\"\n"
    );
    let pgweir = Pgweir::builder().config(&config).start();
    let run = |user: &str, database: &str| {
        let mut wire = Wire::log_in(pgweir.port(), user, database, None);
        error(&wire.query("SELECT pg_sleep(0.5)")).map(Frame::sqlstate)
    };
    assert_eq!(run("other", "app").as_deref(), Some("57014"));
    assert_eq!(run("patient", "app"), None);
    assert_eq!(run("other", "long"), None);
}

#[test]
fn a_reload_changes_the_timeouts_of_clients_that_are_there() {
    let postgres = Postgres::start();
    for mode in ["transaction", "session"] {
        let config = |timeout: &str| {
            format!(
                "workers = 1\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{}\"\npool_mode = \"{mode}\"\nstatement_timeout = \"{timeout}\"\n",
                postgres.superuser_url()
            )
        };
        let pgweir = Pgweir::builder().config(&config("0")).start();
        let mut wire = log_in(&pgweir);
        wire.value("SELECT 1");
        pgweir.write_config(&config("100ms"));
        pgweir.hup();
        pgweir.wait_for_log("configuration reloaded", 1);
        assert_eq!(sqlstate(&wire.query("SELECT pg_sleep(30)")), "57014", "{mode}");
        pgweir.write_config(&config("0"));
        pgweir.hup();
        pgweir.wait_for_log("configuration reloaded", 2);
        assert!(error(&wire.query("SELECT pg_sleep(0.5)")).is_none(), "{mode}");
    }
}

#[test]
fn many_statements_that_end_at_their_time_harm_nobody_else() {
    let postgres = Postgres::start();
    let keys = "statement_timeout = \"100ms\"\npool_size = 4\npool_timeout = \"30s\"";
    let pgweir = Pgweir::before_with(&postgres, keys);
    let together = Barrier::new(16);
    crowd(16, |number| {
        let mut wire = log_in(&pgweir);
        together.wait();
        for _ in 0..10 {
            let seconds = if number % 2 == 0 { "0.09" } else { "0" };
            let frames = wire.query(&format!("SELECT {number} FROM pg_sleep({seconds})"));
            match error(&frames) {
                None => {
                    let row = frames.iter().find(|frame| frame.tag == tag::DATA_ROW);
                    assert_eq!(row.unwrap().columns(), [number.to_string()]);
                }
                Some(error) => {
                    assert_eq!(error.sqlstate(), "57014");
                    assert_eq!(error.message(), "canceling statement due to statement timeout");
                    assert_eq!(number % 2, 0, "a quick statement was cancelled");
                }
            }
        }
    });
}
