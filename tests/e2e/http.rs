//! The HTTP port: metrics, and whether the pooler is well and ready.

use std::time::Instant;

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
    let page = pgweir.page("/ready");
    assert_eq!(
        (page.status, page.body.as_str()),
        (503, "database \"late\": no server was reached yet\n")
    );
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
    for _ in 0..100 {
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
