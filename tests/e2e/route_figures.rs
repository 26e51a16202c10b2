//! What operators see of databases with replicas: the console, metrics, readiness.

use std::time::Instant;

use crate::harness::{PATIENCE, Pgweir, Postgres, Wire};
use crate::routes::{role, route};

fn start(primary: &Postgres, replica: &Postgres, keys: &str) -> Pgweir {
    let config = format!(
        "http_listen = \"127.0.0.1:0\"\nworkers = 2\nadmin_users = [\"admin\"]\n[auth]\nmethod = \"trust\"\n[databases.app]\n\
         url = \"{}\"\nread_replicas = [\"{}\"]\n{keys}\n",
        primary.superuser_url(),
        replica.superuser_url()
    );
    Pgweir::builder().config(&config).start()
}

fn client(pgweir: &Pgweir) -> Wire {
    Wire::log_in(pgweir.port(), "postgres", "app", None)
}

fn show(pgweir: &Pgweir, what: &str) -> Vec<Vec<String>> {
    Wire::log_in(pgweir.port(), "admin", "pgweir", None).rows(&format!("SHOW {what}"))
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE);
    }
}

/// A read by a client of its own goes to a replica.
fn reads_go_to_replicas(pgweir: &Pgweir) -> bool {
    let mut client = client(pgweir);
    client.query("SELECT id FROM t");
    role(&mut client) == "replica"
}

fn servers() -> (Postgres, Postgres) {
    let primary = Postgres::start();
    primary.sql("CREATE TABLE t (id int); CREATE FUNCTION bump() RETURNS int LANGUAGE sql AS 'SELECT 1'");
    let replica = primary.replica();
    replica.wait_for_replay(&primary);
    (primary, replica)
}

#[test]
fn the_console_shows_servers_with_their_lag_and_plans_with_their_reasons() {
    let (primary, replica) = servers();
    let pgweir = start(&primary, &replica, "");
    wait_until(|| reads_go_to_replicas(&pgweir));
    replica.sql("SELECT pg_wal_replay_pause()");
    client(&pgweir).query("INSERT INTO t SELECT generate_series(1, 1000)");
    client(&pgweir).query("SELECT bump() + 7");
    let mut rows = Vec::new();
    wait_until(|| {
        rows = show(&pgweir, "REPLICAS");
        rows[1][7].parse::<u64>().is_ok_and(|bytes| bytes > 1000)
    });
    let of = |row: usize, columns: &[usize]| {
        columns
            .iter()
            .map(|column| &*rows[row][*column])
            .collect::<Vec<_>>()
    };
    assert_eq!(of(0, &[0, 2, 3, 4, 7]), ["app", "primary", "no", "1", ""]);
    assert_eq!(of(1, &[0, 2, 3, 4]), ["app", "replica", "yes", "1"]);
    assert!(primary.superuser_url().contains(&rows[0][1]), "{rows:?}");
    assert!(replica.superuser_url().contains(&rows[1][1]), "{rows:?}");
    assert!(rows[0][6].contains('/') && rows[1][6].contains('/'), "{rows:?}");
    let scrape = pgweir.scrape();
    let server = [("database", "app"), ("server", &*rows[1][1])];
    assert!(scrape.value("pgweir_replica_lag_bytes", &server) > 1000.0);
    assert_eq!(scrape.value("pgweir_server_up", &server), 1.0);
    let plans = show(&pgweir, "ROUTES");
    let plan_of = |text: &str| {
        plans
            .iter()
            .find(|row| row[5].contains(text))
            .unwrap_or_else(|| panic!("{plans:?}"))
    };
    assert_eq!(plan_of("id FROM t")[3..5], ["replica", "reads only"]);
    assert_eq!(
        plan_of("bump")[3..5],
        ["primary", "volatile function public.bump()"]
    );
    assert!(!plan_of("bump")[5].contains('7'), "{plans:?}");
    // One pool to the tools that know no other, and a connection at each server.
    let pools: Vec<_> = show(&pgweir, "POOLS")
        .into_iter()
        .filter(|row| row[0] == "app")
        .collect();
    assert_eq!(pools.len(), 1, "{pools:?}");
    let connections = show(&pgweir, "SERVERS")
        .into_iter()
        .filter(|row| row[2] == "app")
        .count();
    let counted: usize = [6, 9, 11, 12]
        .iter()
        .map(|column| pools[0][*column].parse::<usize>().unwrap())
        .sum();
    assert_eq!(connections, counted);
    assert_eq!(
        show(&pgweir, "DATABASES")
            .iter()
            .filter(|row| row[0] == "app")
            .count(),
        1
    );
    replica.sql("SELECT pg_wal_replay_resume()");
}

#[test]
fn batches_are_counted_by_where_they_went_and_by_the_function_that_kept_them_on_the_primary() {
    let (primary, replica) = servers();
    let pgweir = start(&primary, &replica, "");
    wait_until(|| reads_go_to_replicas(&pgweir));
    let count = |role: &str, reason: &str| {
        pgweir.scrape().sum(
            "pgweir_routes_total",
            &[("database", "app"), ("role", role), ("reason", reason)],
        )
    };
    assert!(count("replica", "turn") >= 1.0);
    let before = count("primary", "statement");
    for _ in 0..3 {
        client(&pgweir).query("INSERT INTO t VALUES (1)");
    }
    assert_eq!(count("primary", "statement"), before + 3.0);
    client(&pgweir).query("SELECT bump()");
    client(&pgweir).query("SELECT bump(), 1");
    let scrape = pgweir.scrape();
    let labels = [("database", "app"), ("function", "public.bump()")];
    assert_eq!(scrape.value("pgweir_primary_functions_total", &labels), 2.0);
    assert_eq!(
        scrape.value("pgweir_failovers_total", &[("database", "app")]),
        0.0
    );
    assert!(scrape.value("pgweir_plan_cache_hits", &[]) >= 3.0);
    assert!(scrape.value("pgweir_plan_cache_misses", &[]) >= 3.0);
    assert!(scrape.value("pgweir_plan_cache_entries", &[]) >= 3.0);
}

#[test]
fn what_a_replica_has_refused_goes_to_the_primary_at_once_the_next_time() {
    let (primary, replica) = servers();
    primary.sql(
        "CREATE FUNCTION liar(int) RETURNS int LANGUAGE sql AS 'INSERT INTO t VALUES ($1) RETURNING id'",
    );
    replica.wait_for_replay(&primary);
    let pgweir = start(&primary, &replica, "read_only_functions = [\"liar\"]");
    wait_until(|| reads_go_to_replicas(&pgweir));
    let mut sessions = 0;
    wait_until(|| {
        let mut client = client(&pgweir);
        sessions += 1;
        assert_eq!(client.value("SELECT liar(5)"), "5");
        route(&mut client).len() == 2
    });
    // On the other worker it may be met once more.
    wait_until(|| {
        let mut client = client(&pgweir);
        sessions += 1;
        assert_eq!(
            client.value(&format!("SELECT liar({sessions})")),
            sessions.to_string()
        );
        let steps = route(&mut client);
        steps.len() == 1 && steps[0][3] == "a replica has refused it before: 25006"
    });
    let listed = show(&pgweir, "ROUTES");
    let row = listed.iter().find(|row| row[5].contains("liar")).unwrap();
    assert_eq!(row[3..5], ["primary", "a replica has refused it before: 25006"]);
}

#[test]
fn a_database_whose_primary_is_lost_for_longer_than_a_failover_may_take_is_not_ready() {
    let (primary, replica) = servers();
    let pgweir = start(
        &primary,
        &replica,
        "failover_timeout = \"100ms\"\nhealth_check_interval = \"100ms\"",
    );
    wait_until(|| pgweir.page("/ready").status == 200);
    drop(primary);
    wait_until(|| {
        let page = pgweir.page("/ready");
        page.status == 503 && page.body.contains("database \"app\": its server is lost for")
    });
    drop(replica);
}
