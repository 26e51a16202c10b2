//! How many server connections there are, and who gets them.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pgweir::protocol::tag;

use super::harness::crowd::{Watcher, crowd, error, eventually, sqlstate};
use super::harness::{Pgweir, Postgres, Proxy, Wire};

/// Anybody may log in; users are passed through to the server.
fn passed_through(postgres: &Postgres, top: &str, keys: &str) -> Pgweir {
    let port = postgres.port();
    let config = format!(
        "{top}\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"postgresql://127.0.0.1:{port}/postgres\"\n{keys}\n"
    );
    Pgweir::builder().config(&config).start()
}

/// One user on the server for all clients, and so many workers.
fn one_pool(postgres: &Postgres, workers: u32, keys: &str) -> Pgweir {
    let url = postgres.superuser_url();
    let config = format!(
        "workers = {workers}\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{url}\"\n{keys}\n"
    );
    Pgweir::builder().config(&config).start()
}

fn log_in(pgweir: &Pgweir) -> Wire {
    Wire::log_in(pgweir.port(), "postgres", "app", None)
}

/// Clients that come, ask, hold transactions, and sometimes leave in the middle of an answer or a transaction.
fn hammer(pgweir: &Pgweir, user: &str, number: usize) {
    let mut wire = Wire::log_in(pgweir.port(), user, "app", None);
    for round in 0..ROUNDS {
        match (number + round) % 7 {
            0 => {
                wire.send_query("SELECT pg_sleep(0.02)");
                wire = Wire::log_in(pgweir.port(), user, "app", None);
            }
            1 => {
                wire.query("BEGIN; SELECT 1");
                wire = Wire::log_in(pgweir.port(), user, "app", None);
            }
            2 => {
                wire.query("BEGIN");
                wire.query("SELECT pg_sleep(0.001)");
                wire.query("COMMIT");
            }
            _ => assert_eq!(wire.value(&format!("SELECT {number}")), number.to_string()),
        }
    }
}

#[test]
fn a_pool_never_has_one_connection_too_many_on_one_worker() {
    no_connection_too_many(1);
}

#[test]
fn a_pool_never_has_one_connection_too_many_on_four_workers() {
    no_connection_too_many(4);
}

fn no_connection_too_many(workers: u32) {
    let postgres = Postgres::start();
    let pgweir = one_pool(&postgres, workers, "pool_size = 5\npool_timeout = \"30s\"");
    let watcher = Watcher::start(&postgres, "true");
    crowd(100, |number| hammer(&pgweir, "postgres", number));
    assert_eq!(watcher.most(), 5);
}

#[test]
fn limits_over_several_pools_hold() {
    let postgres = Postgres::start();
    postgres.sql("CREATE ROLE u1 LOGIN; CREATE ROLE u2 LOGIN; CREATE ROLE u3 LOGIN");
    let pgweir = passed_through(
        &postgres,
        "workers = 4\npool_timeout = \"30s\"",
        "pool_size = 3\nmax_db_connections = 4\n[users.u1]\nmax_user_connections = 2\n[users.u2]\n[users.u3]",
    );
    let all = Watcher::start(&postgres, "true");
    let first = Watcher::start(&postgres, "usename = 'u1'");
    let second = Watcher::start(&postgres, "usename = 'u2'");
    crowd(60, |number| {
        hammer(&pgweir, ["u1", "u2", "u3"][number % 3], number);
    });
    assert!(all.most() <= 4);
    assert!(first.most() <= 2);
    assert!(second.most() <= 3);
}

#[test]
fn the_reserve_opens_for_who_has_waited_long_enough() {
    let postgres = Postgres::start();
    let keys =
        "pool_size = 1\nreserve_pool_size = 1\nreserve_pool_timeout = \"100ms\"\npool_timeout = \"1s\"";
    let pgweir = one_pool(&postgres, 1, keys);
    let [mut first, mut second, mut third] = [(); 3].map(|()| log_in(&pgweir));
    first.query("BEGIN; SELECT 1");
    second.query("BEGIN; SELECT 1");
    assert_eq!(postgres.connections(), 2);
    let refused = third.query("SELECT 1");
    assert_eq!(sqlstate(&refused), "53300");
    let refusal = error(&refused).unwrap();
    assert_eq!(refusal.field('S').unwrap(), "ERROR");
    assert!(refusal.field('D').unwrap().starts_with("Waited "), "{refusal:?}");
    assert!(refusal.field('H').is_some());
    assert_eq!(refused.last().unwrap().transaction_state(), 'I');
    assert_eq!(postgres.connections(), 2);
    first.query("COMMIT");
    assert_eq!(third.value("SELECT 1"), "1");
}

#[test]
fn a_refused_pipeline_is_skipped_to_its_sync() {
    let postgres = Postgres::start();
    let pgweir = one_pool(&postgres, 1, "pool_size = 1\npool_timeout = \"1s\"");
    let [mut first, mut second] = [(); 2].map(|()| log_in(&pgweir));
    first.query("BEGIN; SELECT 1");
    second.send_parse("", "SELECT 1");
    second.send_bind("", "", &[]);
    second.send_execute("", 0);
    second.send_sync();
    assert_eq!(sqlstate(&second.read_until_ready()), "53300");
    first.query("COMMIT");
    assert_eq!(second.value("SELECT 2"), "2");
}

#[test]
fn the_minimum_is_kept_and_what_is_idle_above_it_closes() {
    let postgres = Postgres::start();
    let pgweir = one_pool(&postgres, 2, "min_pool_size = 2\nidle_timeout = \"1s\"");
    eventually("two connections before any client", || {
        postgres.connections() == 2
    });
    let ready = Barrier::new(6);
    crowd(6, |_| {
        let mut wire = log_in(&pgweir);
        wire.query("BEGIN; SELECT 1");
        ready.wait();
        wire.query("COMMIT");
    });
    eventually("the surplus is closed", || postgres.connections() == 2);
    postgres.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
    );
    eventually("lost ones are replaced", || postgres.connections() == 2);
}

#[test]
fn a_user_that_is_passed_through_has_its_minimum_too() {
    let postgres = Postgres::start();
    let pgweir = passed_through(&postgres, "workers = 4", "min_pool_size = 3");
    // Whichever worker has the clients.
    for _ in 0..2 {
        assert_eq!(log_in(&pgweir).value("SELECT 1"), "1");
        eventually("three connections", || postgres.connections() >= 3);
    }
}

#[test]
fn a_connection_that_is_too_old_is_replaced() {
    let postgres = Postgres::start();
    let pgweir = one_pool(&postgres, 1, "pool_size = 1\nserver_lifetime = \"1s\"");
    let mut wire = log_in(&pgweir);
    let first = wire.value("SELECT pg_backend_pid()");
    eventually("another connection", || {
        wire.value("SELECT pg_backend_pid()") != first
    });
    // Not in the middle of a transaction.
    wire.query("BEGIN");
    let kept = wire.value("SELECT pg_backend_pid()");
    wire.query("SELECT pg_sleep(1.2)");
    assert_eq!(wire.value("SELECT pg_backend_pid()"), kept);
    wire.query("COMMIT");
    assert_ne!(wire.value("SELECT pg_backend_pid()"), kept);
}

#[test]
fn the_connect_query_runs_once_on_each_connection() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE opened (pid int)");
    let pgweir = one_pool(
        &postgres,
        2,
        "pool_size = 4\nconnect_query = \"INSERT INTO opened VALUES (pg_backend_pid())\"",
    );
    let together = Barrier::new(4);
    crowd(4, |_| {
        let mut wire = log_in(&pgweir);
        wire.query("BEGIN; SELECT 1");
        together.wait();
        wire.query("COMMIT");
        wire.value("SELECT 1");
    });
    let rows = "SELECT count(*) || ' ' || count(DISTINCT pid) FROM opened";
    assert_eq!(postgres.sql(rows), "4 4");
}

#[test]
fn a_connect_query_that_fails_is_told_to_who_waits() {
    let postgres = Postgres::start();
    let pgweir = one_pool(&postgres, 1, "connect_query = \"SELECT 1/0\"");
    let mut wire = pgweir.wire();
    wire.startup(&[("user", "postgres"), ("database", "app")]);
    assert_eq!(wire.read_fatal().sqlstate(), "22012");
    eventually("its connection is closed", || postgres.connections() == 0);
}

#[test]
fn clients_over_a_limit_are_refused_until_one_leaves() {
    let postgres = Postgres::start();
    for (top, keys, limit) in [
        ("max_clients = 2", "", "max_clients"),
        ("", "max_db_clients = 2", "max_db_clients"),
        ("", "[users.postgres]\nmax_user_clients = 2", "max_user_clients"),
    ] {
        let pgweir = passed_through(&postgres, top, keys);
        let first = log_in(&pgweir);
        let second = log_in(&pgweir);
        let mut third = pgweir.wire();
        third.startup(&[("user", "postgres"), ("database", "app")]);
        let refusal = third.read_fatal();
        assert_eq!(refusal.sqlstate(), "53300", "{limit}");
        assert!(refusal.field('D').unwrap().contains(limit), "{refusal:?}");
        drop(first);
        eventually("there is room again", || {
            let mut wire = pgweir.wire();
            wire.startup(&[("user", "postgres"), ("database", "app")]);
            let frames = wire.read_until(tag::AUTHENTICATION);
            let next = wire.try_read_frame().unwrap();
            assert_eq!(frames.len(), 1);
            next.is_some_and(|frame| frame.tag == tag::PARAMETER_STATUS)
        });
        drop(second);
    }
}

#[test]
fn under_constant_load_every_client_gets_its_share() {
    let postgres = Postgres::start();
    let pgweir = one_pool(&postgres, 4, "pool_size = 3\npool_timeout = \"30s\"");
    let served = AtomicUsize::new(0);
    let together = Barrier::new(24);
    let shares = crowd(24, |_| {
        let mut wire = log_in(&pgweir);
        let mut own = 0;
        together.wait();
        while served.fetch_add(1, Ordering::Relaxed) < 6_000 {
            wire.value("SELECT 1");
            own += 1;
        }
        own
    });
    let least = *shares.iter().min().unwrap();
    let mean = shares.iter().sum::<usize>() / shares.len();
    assert!(least * 4 >= mean, "{shares:?}");
}

#[test]
fn idle_connections_of_another_pool_make_room() {
    let postgres = Postgres::start();
    postgres.sql("CREATE ROLE u1 LOGIN; CREATE ROLE u2 LOGIN");
    let pgweir = passed_through(&postgres, "workers = 2", "max_db_connections = 2");
    for user in ["u1", "u2", "u1", "u2"] {
        let watcher = Watcher::start(&postgres, "true");
        let together = Barrier::new(2);
        crowd(2, |_| {
            let mut wire = Wire::log_in(pgweir.port(), user, "app", None);
            assert_eq!(sqlstates(&wire.query("BEGIN; SELECT 1")), "");
            together.wait();
            wire.query("COMMIT");
        });
        assert!(watcher.most() <= 2);
    }
}

fn sqlstates(frames: &[super::harness::wire::Frame]) -> String {
    error(frames)
        .map(super::harness::wire::Frame::sqlstate)
        .unwrap_or_default()
}

#[test]
fn connections_are_opened_side_by_side() {
    let postgres = Postgres::start();
    let proxy = Proxy::before(postgres.port());
    let url = format!(
        "postgresql://postgres@127.0.0.1:{}/postgres?sslmode=disable",
        proxy.port()
    );
    let config = format!(
        "workers = 1\nconnect_timeout = \"30s\"\npool_timeout = \"30s\"\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{url}\"\n"
    );
    let pgweir = Pgweir::builder().config(&config).start();
    let mut clients: Vec<_> = (0..4).map(|_| log_in(&pgweir)).collect();
    let before = proxy.accepted();
    proxy.stall();
    // One connection is there already, and stalls as well.
    for wire in &mut clients {
        wire.send_query("SELECT 1");
    }
    eventually("three logins at a time", || proxy.accepted() == before + 3);
    proxy.resume();
    for wire in &mut clients {
        assert_eq!(wire.read_until_ready()[1].columns(), ["1"]);
    }
}

#[test]
fn one_connection_serves_the_clients_of_all_workers() {
    let postgres = Postgres::start();
    let pgweir = one_pool(&postgres, 4, "pool_size = 1\npool_timeout = \"30s\"");
    let pids = crowd(12, |_| {
        let mut wire = log_in(&pgweir);
        let pid = wire.value("SELECT pg_backend_pid()");
        for _ in 0..50 {
            assert_eq!(wire.value("SELECT pg_backend_pid()"), pid);
        }
        pid
    });
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
}

#[test]
fn a_connection_that_is_lent_to_another_worker_comes_at_once() {
    let postgres = Postgres::start();
    let pgweir = one_pool(&postgres, 2, "pool_size = 1");
    let mut clients: Vec<_> = (0..2).map(|_| log_in(&pgweir)).collect();
    let begun = Instant::now();
    for round in 0..200 {
        clients[round % 2].value("SELECT 1");
    }
    // Not one of them has waited for a tick of some clock: that would have taken seconds.
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_smaller_pool_size_takes_effect_at_the_reload() {
    let postgres = Postgres::start();
    let pgweir = one_pool(&postgres, 1, "pool_size = 4");
    let config = |size: u32| {
        let url = postgres.superuser_url();
        format!(
            "workers = 1\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{url}\"\npool_size = {size}\n"
        )
    };
    let mut clients: Vec<_> = (0..4).map(|_| log_in(&pgweir)).collect();
    for wire in &mut clients {
        wire.query("BEGIN; SELECT 1");
    }
    assert_eq!(postgres.connections(), 4);
    pgweir.write_config(&config(2));
    pgweir.hup();
    pgweir.wait_for_log("configuration reloaded", 1);
    for wire in &mut clients {
        wire.query("COMMIT");
    }
    eventually("two are left", || postgres.connections() == 2);
    pgweir.write_config(&config(3));
    pgweir.hup();
    pgweir.wait_for_log("configuration reloaded", 2);
    for wire in clients.iter_mut().take(3) {
        wire.query("BEGIN; SELECT 1");
    }
    assert_eq!(postgres.connections(), 3);
}

#[test]
fn a_worker_borrows_before_it_opens() {
    let postgres = Postgres::start();
    let pgweir = one_pool(&postgres, 8, "pool_size = 20");
    let mut clients: Vec<_> = (0..8).map(|_| log_in(&pgweir)).collect();
    // Whoever has its answer has given its connection back: one is enough for clients that ask in turn.
    for round in 0..40 {
        clients[round % 8].value("SELECT 1");
        assert_eq!(postgres.connections(), 1, "round {round}");
    }
}

/// What one client of a crowd does.
const ROUNDS: usize = 12;
