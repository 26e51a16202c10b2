//! The harness itself, on PostgreSQL without anything in front.

use std::io::ErrorKind;
use std::time::Duration;

use pgweir::demo::cluster::StopMode;
use pgweir::protocol::tag;

use super::harness::certificates::{Authority, write_private};
use super::harness::clients::{self, pgbench, psql, python};
use super::harness::wire::{Frame, PROTOCOL_3_0, tags};
use super::harness::{PATIENCE, Postgres, Proxy, Wire};

#[test]
fn a_server_answers_psql_and_frames() {
    let postgres = Postgres::start();
    assert_eq!(postgres.sql("SELECT 6 * 7"), "42");
    assert_eq!(psql(&postgres.superuser_url(), "SHOW fsync").success(), "off");
    let mut wire = Wire::log_in(postgres.port(), "postgres", "postgres", None);
    assert_eq!(wire.value("SELECT 'a' || NULL::text IS NULL"), "t");
    wire.send_parse("", "SELECT $1::int + 1");
    wire.send_bind("", "", &[Some("41")]);
    wire.send_execute("", 0);
    wire.send_sync();
    let frames = wire.read_until_ready();
    assert_eq!(tags(&frames), "12DCZ");
    assert_eq!(frames[2].columns(), ["42"]);
    assert_eq!(wire.query("SELEC")[0].sqlstate(), "42601");
}

#[test]
fn a_killed_server_comes_back_on_its_port_with_its_data() {
    let mut postgres = Postgres::start();
    let port = postgres.port();
    postgres.sql("CREATE TABLE kept (id int); CHECKPOINT");
    postgres.kill_9();
    postgres.start().unwrap();
    assert_eq!(postgres.sql("SELECT count(*) FROM kept"), "0");
    postgres.stop(StopMode::Fast);
    postgres.start().unwrap();
    assert_eq!(postgres.port(), port);
}

#[test]
fn nothing_is_left_of_a_server_that_was_dropped() {
    let postgres = Postgres::start();
    let files = postgres.data_directory();
    let process = format!("/proc/{}", postgres.process_id().unwrap());
    assert!(files.exists() && std::path::Path::new(&process).exists());
    drop(postgres);
    assert!(!files.exists() && !std::path::Path::new(&process).exists());
}

#[test]
fn a_replica_follows_its_primary() {
    let primary = Postgres::builder().setting("max_connections", "150").start();
    primary.sql("CREATE TABLE followed AS SELECT generate_series(1, 10) AS id");
    let replica = primary.replica();
    let end = primary.sql("SELECT pg_current_wal_lsn()");
    while replica.sql(&format!("SELECT pg_last_wal_replay_lsn() >= '{end}'")) != "t" {}
    assert_eq!(
        replica.sql("SELECT count(*), pg_is_in_recovery() FROM followed"),
        "10|t"
    );
}

#[test]
fn every_kind_of_password_login_works_in_frames() {
    let hba = "local all all trust\nhost all clear all password\nhost all md5 all md5\nhost all scram all scram-sha-256\n";
    let postgres = Postgres::builder()
        .hba(hba)
        .setting("max_connections", "7")
        .start();
    postgres.sql(
        "CREATE ROLE clear LOGIN PASSWORD 'secret'; CREATE ROLE scram LOGIN PASSWORD 'secret';
         SET password_encryption = 'md5'; CREATE ROLE md5 LOGIN PASSWORD 'secret'",
    );
    for user in ["clear", "md5", "scram"] {
        let mut wire = Wire::log_in(postgres.port(), user, "postgres", Some("secret"));
        assert_eq!(wire.value("SELECT current_user"), user);
    }
    assert_eq!(postgres.sql("SHOW max_connections"), "7");
}

#[test]
fn a_refused_login_is_a_fatal_error() {
    let postgres = Postgres::start();
    let mut wire = Wire::connect(postgres.port());
    assert_eq!(wire.request_ssl(), b'N');
    wire.startup(&[("user", "nobody here"), ("database", "postgres")]);
    let error = wire.read_fatal();
    assert_eq!(
        (error.tag, error.sqlstate().as_str()),
        (tag::ERROR_RESPONSE, "28000")
    );
}

#[test]
fn pgbench_runs() {
    let postgres = Postgres::start();
    pgbench(&postgres.superuser_url(), "-i -q -s 1").success();
    let report = pgbench(&postgres.superuser_url(), "-n -S -t 10 -c 2").success();
    assert!(
        report.contains("number of transactions actually processed: 20/20"),
        "{report}"
    );
}

#[tokio::test]
async fn a_driver_gets_its_answer() {
    let postgres = Postgres::start();
    let client = clients::connect(&postgres.superuser_url()).await;
    let row = client.query_one("SELECT $1::int4 + 1", &[&41_i32]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 42);
}

#[test]
fn other_majors_start() {
    for major in [14, 15, 18] {
        let postgres = Postgres::major(major);
        assert_eq!(
            postgres.sql("SELECT current_setting('server_version_num')::int / 10000"),
            major.to_string()
        );
    }
}

#[test]
fn frames_travel_on_unix_sockets_and_on_tls() {
    let authority = Authority::new();
    let identity = authority.server(&["localhost", "127.0.0.1"]);
    let mut postgres = Postgres::start();
    postgres
        .write_file("server.crt", identity.certificate.as_bytes())
        .unwrap();
    postgres
        .write_file("server.key", identity.key.as_bytes())
        .unwrap();
    postgres.sql("ALTER SYSTEM SET ssl = on");
    postgres.stop(StopMode::Fast);
    postgres.start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let ca = write_private(directory.path(), "ca.crt", authority.certificate());

    let mut unix = Wire::connect_unix(&postgres.socket_directory(), postgres.port());
    unix.startup(&[("user", "postgres"), ("database", "postgres")]);
    unix.authenticate("postgres", "");
    assert_eq!(unix.value("SELECT inet_client_addr() IS NULL"), "t");

    let mut plain = Wire::connect(postgres.port());
    assert_eq!(plain.request_ssl(), b'S');
    let mut tls = plain.start_tls(None).unwrap();
    tls.startup(&[("user", "postgres"), ("database", "postgres")]);
    tls.authenticate("postgres", "");
    assert_eq!(
        tls.value("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"),
        "t"
    );

    let url = format!(
        "{}?sslmode=verify-full&sslrootcert={}",
        postgres.superuser_url(),
        ca.display()
    );
    assert_eq!(psql(&url, "SELECT 1").success(), "1");
    let stranger = Authority::new();
    let stranger = write_private(directory.path(), "stranger.crt", stranger.certificate());
    let url = format!(
        "{}?sslmode=verify-ca&sslrootcert={}",
        postgres.superuser_url(),
        stranger.display()
    );
    let error = psql(&url, "SELECT 1").failure();
    assert!(error.contains("SSL error"), "{error}");
}

#[test]
fn the_drivers_of_python_are_there() {
    let postgres = Postgres::start();
    let script = "import os, psycopg, asyncpg\nprint(psycopg.connect(os.environ['DATABASE_URL']).execute('SELECT 42').fetchone()[0])";
    assert_eq!(python(&postgres.superuser_url(), script).success(), "42");
}

#[test]
fn what_is_sent_after_a_cancel_request_was_closed_is_not_hit_by_it() {
    for major in [14, 15, 18] {
        cancel_between_statements(&Postgres::major(major));
    }
}

fn cancel_between_statements(postgres: &Postgres) {
    let mut wire = Wire::connect(postgres.port());
    wire.startup_version(PROTOCOL_3_0, &[("user", "postgres"), ("database", "postgres")]);
    let frames = wire.authenticate("postgres", "");
    let (process_id, secret) = frames.iter().find_map(Frame::cancel_key).unwrap();
    wire.query("BEGIN");
    let is_error = |frame: &Frame| frame.tag == tag::ERROR_RESPONSE;
    for _ in 0..200 {
        let mut cancel = Wire::connect(postgres.port());
        // It ends by itself, about when the request comes.
        wire.send_query("SELECT pg_sleep(0.001)");
        cancel.cancel(process_id, &secret);
        if wire.read_until_ready().iter().any(is_error) {
            wire.query("ROLLBACK; BEGIN");
        }
        cancel.read_until_closed();
        let next = wire.query("SELECT pg_sleep(0.002)");
        assert!(!next.iter().any(is_error), "{next:?}");
    }
}

#[test]
fn a_network_chops_cuts_and_refuses() {
    let postgres = Postgres::start();
    let proxy = Proxy::before(postgres.port());
    proxy.chop(3);
    let mut wire = Wire::log_in(proxy.port(), "postgres", "postgres", None);
    assert_eq!(wire.value("SELECT repeat('x', 1000)").len(), 1000);
    proxy.stall();
    wire.send_query("SELECT 1");
    wire.set_read_timeout(Duration::from_millis(50));
    assert_eq!(wire.try_read_frame().unwrap_err().kind(), ErrorKind::WouldBlock);
    proxy.resume();
    wire.set_read_timeout(PATIENCE);
    assert_eq!(tags(&wire.read_until_ready()), "TDCZ");
    proxy.cut();
    assert_eq!(wire.read_until_closed(), []);
    proxy.refuse();
    assert_eq!(Wire::connect(proxy.port()).read_until_closed(), []);
    proxy.admit();
    Wire::log_in(proxy.port(), "postgres", "postgres", None);
    assert_eq!(proxy.accepted(), 2);
    proxy.hold();
    let mut held = Wire::connect(proxy.port());
    held.startup(&[("user", "postgres"), ("database", "postgres")]);
    held.set_read_timeout(Duration::from_millis(50));
    assert_eq!(held.try_read_frame().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(proxy.held(), 1);
    proxy.admit();
    held.set_read_timeout(PATIENCE);
    held.authenticate("postgres", "");
}
