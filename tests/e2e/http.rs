//! The HTTP port: metrics, and whether the pooler is well and ready.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use super::harness::clients::psql;
use super::harness::http::Scrape;
use super::harness::{PATIENCE, Page, Pgweir, Postgres, Wire};

const HTTP: &str = "http_listen = \"127.0.0.1:0\"\n";

/// One worker in front of the server under the name `app`, and an HTTP port.
fn watched(postgres: &Postgres, top: &str, keys: &str) -> Pgweir {
    let url = postgres.superuser_url();
    let config = format!(
        "{HTTP}workers = 1\n{top}\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{url}\"\n{keys}\n"
    );
    Pgweir::builder().config(&config).start()
}

fn log_in(pgweir: &Pgweir) -> Wire {
    Wire::log_in(pgweir.port(), "postgres", "app", None)
}

#[test]
fn pins_are_counted_by_reason_while_they_last_and_since_the_start() {
    let postgres = Postgres::start();
    let pgweir = watched(&postgres, "", "pool_size = 2");
    let count = |reason: &str| {
        let scrape = pgweir.scrape();
        let labels = [("database", "app"), ("user", "postgres"), ("reason", reason)];
        let whole = |name| scrape.value(name, &labels);
        (whole("pgweir_pins_total"), whole("pgweir_pinned_clients"))
    };
    let mut wire = log_in(&pgweir);
    wire.query("SELECT 1");
    assert_eq!(count("temporary table"), (0.0, 0.0));
    wire.query("CREATE TEMP TABLE mine (id int)");
    wire.query("SELECT pg_advisory_lock(42)");
    wire.query("SELECT 1");
    assert_eq!(count("temporary table"), (1.0, 1.0));
    assert_eq!(count("advisory lock"), (1.0, 1.0));
    // Its answer comes before the question whether the lock is still there: the next answer comes behind it.
    wire.query("SELECT pg_advisory_unlock(42)");
    wire.query("SELECT 1");
    assert_eq!(count("temporary table"), (1.0, 1.0));
    assert_eq!(count("advisory lock"), (1.0, 0.0));
    let mut other = log_in(&pgweir);
    other.query("CREATE TEMP TABLE mine (id int)");
    other.query("SELECT 1");
    assert_eq!(count("temporary table"), (2.0, 2.0));
    wire.query("DISCARD ALL");
    assert_eq!(count("temporary table"), (2.0, 1.0));
    // One that disappears is counted no longer than its server connection: the only other one is taken by then.
    other.terminate();
    other.read_until_closed();
    assert_eq!(count("temporary table"), (2.0, 0.0));
    assert_eq!(count("load"), (0.0, 0.0));
}

#[test]
fn requests_that_are_no_good_are_refused() {
    let postgres = Postgres::start();
    let pgweir = watched(&postgres, "", "");
    let port = pgweir.http_port();
    let status = |request: &[u8]| Page::of(port, request).map(|page| page.status);
    assert_eq!(status(b"GET /metrics HTTP/1.0\r\n\r\n"), Some(200));
    assert_eq!(status(b"GET /metrics?x=y HTTP/1.1\r\nHost: a\r\n\r\n"), Some(200));
    assert_eq!(status(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Some(404));
    assert_eq!(
        status(b"GET /metrics/../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n"),
        Some(404)
    );
    let page = Page::of(
        port,
        b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
    )
    .unwrap();
    assert_eq!(page.status, 405);
    assert!(
        page.head.to_ascii_lowercase().contains("\r\nallow: get, head"),
        "{}",
        page.head
    );
    let page = Page::of(port, b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((page.status, page.body.as_str()), (200, ""));
    for bad in [
        b"\0\0\0\x08\x04\xd2\x16\x2f".as_slice(),
        b"\x16\x03\x01\x02\x00\x01",
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let said = status(&[bad, b"\r\n\r\n"].concat());
        assert!(matches!(said, None | Some(400)), "{bad:?}: {said:?}");
    }
    let long = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(64 * 1024));
    assert!(matches!(status(long.as_bytes()), None | Some(431)));
    let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1000));
    assert!(matches!(status(many.as_bytes()), None | Some(431)));
    assert_eq!(pgweir.page("/metrics").status, 200);
    assert!(!pgweir.log_contains("panick"), "{}", pgweir.log());
}

/// Asks until the answer has this status; returns it.
fn wait_for(pgweir: &Pgweir, path: &str, status: u16) -> Page {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = pgweir.page(path);
        if page.status == status {
            return page;
        }
        assert!(Instant::now() < deadline, "{path}: {page:?}");
    }
}

#[test]
fn it_is_ready_when_every_database_has_had_its_server() {
    let postgres = Postgres::start();
    let there = postgres.superuser_url();
    let port = postgres.port();
    let config = |late: &str| {
        format!(
            "{HTTP}workers = 2\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{there}\"\n[databases.late]\nurl = \"{late}\"\n"
        )
    };
    let missing = format!("postgresql://postgres:sesame@127.0.0.1:{port}/missing");
    let pgweir = Pgweir::builder().config(&config(&missing)).start();
    pgweir.wait_for_log("not ready: ", 1);
    // The one that is there is reached soon.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = pgweir.page("/ready");
        assert_eq!(page.status, 503);
        if page.body == "database \"late\": no server was reached yet\n" {
            break;
        }
        assert!(Instant::now() < deadline, "{page:?}");
    }
    assert_eq!(pgweir.page("/health").status, 200);
    let reached = format!("postgresql://postgres:sesame@127.0.0.1:{port}/postgres");
    pgweir.write_config(&config(&reached));
    pgweir.hup();
    assert_eq!(wait_for(&pgweir, "/ready", 200).body, "ok\n");
    assert!(!pgweir.log_contains("sesame"));
}

#[test]
fn a_pause_leaves_it_ready_and_its_server_alone() {
    let postgres = Postgres::start();
    let pgweir = watched(&postgres, "admin_users = [\"postgres\"]", "");
    wait_for(&pgweir, "/ready", 200);
    let mut console = Wire::log_in(pgweir.port(), "postgres", "pgweir", None);
    log_in(&pgweir).query("SELECT 1");
    console.query("PAUSE");
    let mut waiting = log_in(&pgweir);
    waiting.send_query("SELECT 1");
    for _ in 0..20 {
        assert_eq!(pgweir.page("/ready").status, 200);
        assert_eq!(pgweir.page("/health").status, 200);
        assert_eq!(postgres.connections(), 0);
    }
    console.query("RESUME");
    waiting.read_until_ready();
}

#[test]
fn while_it_drains_it_is_well_but_not_ready() {
    let postgres = Postgres::start();
    let mut pgweir = watched(&postgres, "", "");
    wait_for(&pgweir, "/ready", 200);
    let mut wire = log_in(&pgweir);
    wire.query("BEGIN; SELECT 1");
    pgweir.terminate();
    assert_eq!(wait_for(&pgweir, "/ready", 503).body, "the pooler is draining\n");
    assert_eq!(pgweir.page("/health").body, "ok\n");
    assert_eq!(pgweir.page("/metrics").status, 200);
    wire.query("COMMIT");
    wire.read_until_closed();
    assert!(pgweir.wait().success());
}

#[test]
fn what_was_done_is_what_is_counted() {
    let postgres = Postgres::start();
    let pgweir = watched(&postgres, "", "");
    let mut wire = log_in(&pgweir);
    wire.query("SELECT 1");
    let before = pgweir.scrape();
    for _ in 0..3 {
        wire.query("SELECT 1");
    }
    wire.send_parse("", "SELECT 1");
    wire.send_bind("", "", &[]);
    wire.send_execute("", 0);
    wire.send_sync();
    wire.read_until_ready();
    for part in ["BEGIN", "SELECT 1", "COMMIT"] {
        wire.query(part);
    }
    let after = pgweir.scrape();
    let pool = [("database", "app"), ("user", "postgres")];
    let grown = |name: &str, more: &[(&str, &str)]| {
        let labels = [&pool, more].concat();
        after.value(name, &labels) - before.value(name, &labels)
    };
    assert_eq!(grown("pgweir_queries_total", &[("kind", "simple")]), 6.0);
    assert_eq!(grown("pgweir_queries_total", &[("kind", "extended")]), 1.0);
    assert_eq!(grown("pgweir_transactions_total", &[]), 5.0);
    // BEGIN goes with the first statement of its block.
    assert_eq!(grown("pgweir_query_duration_seconds_count", &[]), 6.0);
    assert_eq!(grown("pgweir_transaction_duration_seconds_count", &[]), 5.0);
    assert_eq!(grown("pgweir_pool_wait_seconds_count", &[]), 5.0);
    assert!(grown("pgweir_query_duration_seconds_sum", &[]) > 0.0);
    assert!(
        grown("pgweir_transaction_duration_seconds_sum", &[])
            >= grown("pgweir_query_duration_seconds_sum", &[])
    );
    assert!(after.value("pgweir_server_connect_seconds_count", &pool) >= 1.0);
    // A simple query is its head, its text and a zero.
    let simple = |text: &str| 6.0 + text.len() as f64;
    let sent = 4.0 * simple("SELECT 1") + simple("BEGIN") + simple("COMMIT");
    assert!(grown("pgweir_received_bytes_total", &[]) > sent);
    assert!(grown("pgweir_sent_bytes_total", &[]) > 0.0);
    let state = |name, state| after.value(name, &[&pool[..], &[("state", state)]].concat());
    assert_eq!(state("pgweir_clients", "idle"), 1.0);
    assert_eq!(state("pgweir_clients", "active"), 0.0);
    assert_eq!(state("pgweir_server_connections", "idle"), 1.0);
    assert_eq!(after.sum("pgweir_timeouts_total", &pool), 0.0);
}

#[test]
fn who_waits_and_who_is_served_is_told_by_state_and_limits_are_counted() {
    let postgres = Postgres::start();
    let keys = "pool_size = 1\npool_timeout = \"100ms\"\nstatement_timeout = \"100ms\"\nidle_transaction_timeout = \"1s\"";
    let pgweir = watched(&postgres, "", keys);
    let (mut first, mut second) = (log_in(&pgweir), log_in(&pgweir));
    first.query("BEGIN; SELECT 1");
    let scrape = pgweir.scrape();
    let value = |scrape: &Scrape, name: &str, state: &str| scrape.value(name, &[("state", state)]);
    assert_eq!(value(&scrape, "pgweir_clients", "active"), 1.0);
    assert_eq!(value(&scrape, "pgweir_clients", "idle"), 1.0);
    assert_eq!(value(&scrape, "pgweir_server_connections", "active"), 1.0);
    assert_eq!(
        scrape.value("database_connections_active", &[("database", "app")]),
        1.0
    );
    assert_eq!(second.query("SELECT 1")[0].sqlstate(), "53300");
    first.read_fatal();
    let cancelled = second.query("SELECT pg_sleep(60)");
    assert!(cancelled.iter().any(|frame| frame.tag == b'E'));
    let scrape = pgweir.scrape();
    let told = |code| scrape.sum("pgweir_errors_total", &[("sqlstate", code)]);
    assert_eq!((told("53300"), told("25P03"), told("57014")), (1.0, 1.0, 1.0));
    let passed = |limit: &str| scrape.value("pgweir_timeouts_total", &[("timeout", limit)]);
    assert_eq!(passed("pool_timeout"), 1.0);
    assert_eq!(passed("statement_timeout"), 1.0);
    assert_eq!(passed("idle_transaction_timeout"), 1.0);
    assert_eq!(passed("transaction_timeout"), 0.0);
    assert_eq!(scrape.value("pgweir_clients", &[("state", "idle")]), 1.0);
    assert!(scrape.value("pgweir_pool_wait_seconds_sum", &[]) >= 0.1);
}

#[test]
fn what_a_pinned_client_does_is_counted_while_it_stays() {
    let postgres = Postgres::start();
    for mode in ["transaction", "session"] {
        let pgweir = watched(&postgres, "", &format!("pool_mode = \"{mode}\""));
        let mut wire = log_in(&pgweir);
        wire.query("CREATE TEMP TABLE mine (id int)");
        for _ in 0..10 {
            wire.query("SELECT 1");
        }
        wire.query("BEGIN");
        wire.query("SELECT 1");
        wire.query("COMMIT");
        // What is counted with an answer, is counted before the next.
        wire.query("SELECT 1");
        let scrape = pgweir.scrape();
        assert!(scrape.sum("pgweir_queries_total", &[]) >= 14.0, "{mode}");
        let durations = scrape.value("pgweir_query_duration_seconds_count", &[]);
        assert!((14.0..=15.0).contains(&durations), "{mode}: {durations}");
        let durations = scrape.value("pgweir_transaction_duration_seconds_count", &[]);
        assert!((12.0..=13.0).contains(&durations), "{mode}: {durations}");
    }
}

/// Tells others to end.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_thousand_scrapes_while_queries_run_show_counters_that_only_grow() {
    let postgres = Postgres::start();
    let pgweir = watched(&postgres, "", "pool_size = 2");
    let is_over = AtomicBool::new(false);
    let stop = Stop(&is_over);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut wire = log_in(&pgweir);
                while !is_over.load(Ordering::Relaxed) {
                    wire.query("BEGIN");
                    wire.query("SELECT 1");
                    wire.query("COMMIT");
                }
            });
        }
        // Whatever happens here, the others end.
        let _stop = stop;
        let mut before = pgweir.scrape();
        for _ in 0..1000 {
            let after = pgweir.scrape();
            for (series, value) in &before.samples {
                let is_gauge = after.metrics.get(&series.0).is_some_and(|kind| kind == "gauge");
                assert!(is_gauge || after.samples[series] >= *value, "{series:?}");
            }
            before = after;
        }
    });
    let scrape = pgweir.scrape();
    assert!(scrape.value("pgweir_transactions_total", &[]) > 0.0);
}

#[test]
fn the_metrics_are_those_of_the_documentation() {
    let postgres = Postgres::start();
    let replica = postgres.replica();
    let replicas = format!("read_replicas = [\"{}\"]\n", replica.superuser_url());
    let pgweir = watched(&postgres, "", &replicas);
    let mut wire = log_in(&pgweir);
    wire.query("SELECT 1/0");
    let start = Instant::now();
    // Until the servers and the catalogs are known.
    let has = |name: &str| pgweir.scrape().samples.keys().any(|(known, _)| known == name);
    while !has("pgweir_primary_functions_total") || !has("pgweir_replica_lag_bytes") {
        assert!(start.elapsed() < PATIENCE);
        log_in(&pgweir).query("SELECT pg_backend_pid()");
    }
    let scrape = pgweir.scrape();
    assert_eq!(scrape.value("pgweir_errors_total", &[("sqlstate", "22012")]), 1.0);
    let documented: BTreeMap<String, (String, BTreeSet<String>)> = include_str!("../../docs/metrics.md")
        .lines()
        .filter_map(|line| {
            let [_, name, kind, labels, _, _] = line.split('|').collect::<Vec<_>>()[..] else {
                return None;
            };
            let quoted = |cell: &str| {
                cell.split('`')
                    .skip(1)
                    .step_by(2)
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            let name = quoted(name).pop()?;
            Some((
                name,
                (kind.trim().to_owned(), quoted(labels).into_iter().collect()),
            ))
        })
        .collect();
    let mut found = BTreeMap::new();
    for (name, kind) in &scrape.metrics {
        let suffix = if kind == "histogram" { "_count" } else { "" };
        let mut series = scrape
            .samples
            .keys()
            .filter(|(known, _)| *known == format!("{name}{suffix}"));
        let labels = series
            .next()
            .unwrap_or_else(|| panic!("{name} has no sample"))
            .1
            .keys();
        found.insert(name.clone(), (kind.clone(), labels.cloned().collect()));
    }
    assert_eq!(found, documented);
}

#[test]
fn whoever_may_not_log_in_makes_no_series() {
    let postgres = Postgres::start();
    let url = postgres.superuser_url();
    let pgweir = Pgweir::builder()
        .config(&format!(
            "{HTTP}workers = 1\n[users.app]\npassword = \"sesame\"\n[databases.\"*\"]\nurl = \"{url}\"\n"
        ))
        .start();
    for name in ["a", "b%22c"] {
        let url = format!("postgresql://{name}:wrong@127.0.0.1:{}/{name}", pgweir.port());
        psql(&url, "SELECT 1").failure();
    }
    let page = pgweir.page("/metrics");
    assert!(!page.body.contains("database=\""), "{}", page.body);
    assert!(!page.body.contains("sesame"));
    assert_eq!(pgweir.page("/ready").status, 200);
}
