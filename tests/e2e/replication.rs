//! Replication through the pooler: base backups, streams of WAL, and logical decoding.

use std::process::{Child, Stdio};
use std::time::Instant;

use pgweir::protocol::tag;

use super::harness::clients::{client, run};
use super::harness::wire::{PROTOCOL_3_0, tags};
use super::harness::{PATIENCE, Pgweir, Postgres, Wire};

const MODES: [&str; 2] = ["session", "transaction"];

fn in_mode(postgres: &Postgres, mode: &str) -> Pgweir {
    Pgweir::before_with(postgres, &format!("pool_mode = \"{mode}\"\npool_size = 4"))
}

/// A program that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_base_backup_is_taken_with_its_wal() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS id");
    for mode in MODES {
        let pgweir = in_mode(&postgres, mode);
        for method in ["fetch", "stream"] {
            let directory = tempfile::tempdir().unwrap();
            let place = directory.path().join("backup");
            let place = place.to_str().unwrap();
            let url = pgweir.url("postgres", "app");
            run(client("pg_basebackup").args(["-N", "-c", "fast", "-X", method, "-D", place, "-d", &url]))
                .success();
            run(client("pg_verifybackup").arg(place)).success();
        }
        // The pool is served as before.
        let mut wire = Wire::log_in(pgweir.port(), "postgres", "app", None);
        assert_eq!(wire.value("SELECT count(*) FROM kept"), "1000");
    }
}

#[test]
fn wal_is_received_as_it_is_written() {
    let postgres = Postgres::start();
    for mode in MODES {
        let pgweir = in_mode(&postgres, mode);
        let slot = format!("slot_{mode}");
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().to_str().unwrap();
        let url = pgweir.url("postgres", "app");
        run(client("pg_receivewal").args(["-D", place, "-d", &url, "-S", &slot, "--create-slot"])).success();
        let receiver = client("pg_receivewal")
            .args(["-D", place, "-d", &url, "-S", &slot, "--synchronous"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _receiver = Running(receiver);
        postgres.sql("CREATE TABLE IF NOT EXISTS written (id int); INSERT INTO written SELECT generate_series(1, 50000)");
        let end = postgres.sql("SELECT pg_current_wal_lsn()");
        let is_received =
            format!("SELECT restart_lsn >= '{end}' FROM pg_replication_slots WHERE slot_name = '{slot}'");
        let deadline = Instant::now() + PATIENCE;
        while postgres.sql(&is_received) != "t" {
            assert!(Instant::now() < deadline, "WAL does not arrive in {mode} mode");
        }
    }
}

fn replicate(port: u16, database: &str) -> Wire {
    let mut wire = Wire::connect(port);
    let parameters = [
        ("user", "postgres"),
        ("database", database),
        ("replication", "database"),
    ];
    wire.startup_version(PROTOCOL_3_0, &parameters);
    wire.authenticate("postgres", "");
    wire
}

#[test]
fn changes_are_decoded_and_streamed() {
    let postgres = Postgres::builder().setting("wal_level", "logical").start();
    postgres.sql(
        "CREATE TABLE changed (id int PRIMARY KEY, word text); CREATE PUBLICATION everything FOR ALL TABLES",
    );
    for mode in MODES {
        let pgweir = in_mode(&postgres, mode);
        let mut wire = replicate(pgweir.port(), "app");
        assert_eq!(tags(&wire.query("IDENTIFY_SYSTEM")), "TDCZ");
        // Both languages are spoken on such a connection.
        assert_eq!(wire.value("SELECT 42"), "42");
        let created = wire.query(&format!(
            "CREATE_REPLICATION_SLOT words_{mode} TEMPORARY LOGICAL pgoutput"
        ));
        assert_eq!(tags(&created), "TDCZ");
        let mut writer = Wire::log_in(pgweir.port(), "postgres", "app", None);
        writer.query(&format!(
            "INSERT INTO changed VALUES ({}, 'a word to find')",
            mode.len()
        ));
        wire.send_query(&format!(
            "START_REPLICATION SLOT words_{mode} LOGICAL 0/0 (proto_version '1', publication_names 'everything')"
        ));
        assert_eq!(wire.read_frame().tag, tag::COPY_BOTH_RESPONSE);
        let find = |wire: &mut Wire, word: &[u8]| loop {
            let frame = wire.read_frame();
            assert_eq!(frame.tag, tag::COPY_DATA);
            if frame.body.windows(word.len()).any(|window| window == word) {
                break;
            }
        };
        find(&mut wire, b"a word to find");
        writer.query("UPDATE changed SET word = 'another one'");
        find(&mut wire, b"another one");
        // The client's side of the stream: a status, then the end, which the server answers with its own.
        let status = [&[b'r'][..], &[0; 24], &[0; 8], &[1]].concat();
        wire.send(tag::COPY_DATA, &status);
        loop {
            let frame = wire.read_frame();
            if frame.tag == tag::COPY_DATA && frame.body.first() == Some(&b'k') {
                break;
            }
        }
        wire.send(tag::COPY_DONE, &[]);
        let ends: String = tags(&wire.read_until_ready())
            .chars()
            .filter(|tag| *tag != 'd')
            .collect();
        assert!(ends.starts_with('c') && ends.ends_with("CZ"), "{ends}");
        assert_eq!(wire.value("SELECT 43"), "43");
        // And given up in the middle of a stream.
        wire.send_query(&format!(
            "START_REPLICATION SLOT words_{mode} LOGICAL 0/0 (proto_version '1', publication_names 'everything')"
        ));
        assert_eq!(wire.read_frame().tag, tag::COPY_BOTH_RESPONSE);
        wire.terminate();
        wire.read_until_closed();
        let gone = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'words_{mode}'");
        let deadline = Instant::now() + PATIENCE;
        while postgres.sql(&gone) != "0" {
            assert!(
                Instant::now() < deadline,
                "the server connection stays in {mode} mode"
            );
        }
        postgres.sql("DELETE FROM changed");
    }
}

#[test]
fn errors_of_a_replication_connection_are_the_servers_own() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before(&postgres);
    for text in [
        "START_REPLICATION SLOT nowhere LOGICAL 0/0",
        "CREATE_REPLICATION_SLOT",
        "SELECT 1/0",
        "BASE_BACKUP (nonsense)",
    ] {
        let answer = |port, database| tags_and_codes(replicate(port, database).query(text));
        assert_eq!(
            answer(pgweir.port(), "app"),
            answer(postgres.port(), "postgres"),
            "{text}"
        );
    }
}

fn tags_and_codes(frames: Vec<super::harness::wire::Frame>) -> Vec<String> {
    let one = |frame: &super::harness::wire::Frame| {
        let texts = (frame.field('C'), frame.field('M'));
        if frame.tag == tag::ERROR_RESPONSE {
            format!("{texts:?}")
        } else {
            char::from(frame.tag).to_string()
        }
    };
    frames.iter().map(one).collect()
}
