//! Clients that break the protocol: each ends in an error of its own, and nobody else notices.

use pgweir::protocol::tag;

use super::harness::wire::{Frame, c_string, frame, parse, tags};
use super::harness::{Pgweir, Postgres, Wire};

/// Bytes that PostgreSQL would not take, each with a name.
fn nonsense() -> Vec<(&'static str, Vec<u8>)> {
    let head = |tag: u8, length: u32| [&[tag], length.to_be_bytes().as_slice()].concat();
    vec![
        ("an unknown type", b"!".to_vec()),
        ("a zero byte", vec![0]),
        (
            "a message of the login",
            frame(tag::PASSWORD_MESSAGE, &c_string("secret")),
        ),
        ("a message of a server", frame(tag::READY_FOR_QUERY, b"I")),
        ("a length below four", head(tag::QUERY, 3)),
        ("a length of zero", head(tag::PARSE, 0)),
        ("a length that is negative", head(tag::QUERY, u32::MAX)),
        ("a length over the limit", head(tag::QUERY, 0x4000_0004)),
        ("a sync that is long", head(tag::SYNC, 1_000_000)),
        ("a startup packet", vec![0, 0, 0, 8, 0, 3, 0, 0]),
        ("TLS", b"\x16\x03\x01\x02\x00\x01".to_vec()),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ]
}

/// What a client was doing before.
fn situations() -> Vec<(&'static str, Vec<u8>)> {
    let query = |sql: &str| frame(tag::QUERY, &c_string(sql));
    vec![
        ("at rest", Vec::new()),
        (
            "in a block",
            [query("BEGIN"), query("INSERT INTO kept VALUES (1)")].concat(),
        ),
        ("in a batch", parse("a", "SELECT 1")),
        ("while it waits for an answer", query("SELECT pg_sleep(0.02)")),
        ("in a copy", query("COPY kept FROM STDIN")),
    ]
}

fn last_error(frames: &[Frame]) -> String {
    let error = frames.iter().rev().find(|frame| frame.tag == tag::ERROR_RESPONSE);
    error.map_or_else(String::new, Frame::sqlstate)
}

#[test]
fn nonsense_ends_a_session_with_a_protocol_violation_and_nobody_else_notices() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE kept (id int)");
    for mode in ["transaction", "session"] {
        let pgweir = Pgweir::before_with(&postgres, &format!("pool_mode = \"{mode}\"\npool_size = 2"));
        let mut bystander = Wire::log_in(pgweir.port(), "postgres", "app", None);
        let own = bystander
            .value("BEGIN; CREATE TEMP TABLE mine ON COMMIT DROP AS SELECT 7; SELECT pg_backend_pid()");
        for (situation, before) in situations() {
            for (name, bytes) in nonsense() {
                let mut wire = Wire::log_in(pgweir.port(), "postgres", "app", None);
                wire.send_raw(&before);
                wire.send_raw(&bytes);
                let frames = wire.read_until_closed();
                assert_eq!(
                    last_error(&frames),
                    "08P01",
                    "{mode}, {situation}: {name}: {frames:?}"
                );
                assert_eq!(frames.last().unwrap().tag, tag::ERROR_RESPONSE);
                assert_eq!(bystander.value("SELECT pg_backend_pid()"), own);
            }
        }
        assert_eq!(tags(&bystander.query("COMMIT")), "CZ");
        let mut next = Wire::log_in(pgweir.port(), "postgres", "app", None);
        assert_eq!(
            next.value("BEGIN; LOCK kept; SELECT count(*) FROM kept; COMMIT"),
            "0"
        );
    }
}

#[test]
fn messages_that_are_cut_off_by_a_close_end_quietly() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1");
    let whole = frame(tag::QUERY, &c_string("SELECT pg_backend_pid()"));
    for length in 0..whole.len() {
        let mut wire = Wire::log_in(pgweir.port(), "postgres", "app", None);
        wire.send_raw(&whole[..length]);
        wire.shut_down_sending();
        assert_eq!(wire.read_until_closed(), [], "{length}");
    }
    let mut next = Wire::log_in(pgweir.port(), "postgres", "app", None);
    assert_eq!(next.value("SELECT 1"), "1");
}

#[test]
fn messages_whose_inside_is_broken_are_errors() {
    let postgres = Postgres::start();
    for mode in ["transaction", "session"] {
        let pgweir = Pgweir::before_with(&postgres, &format!("pool_mode = \"{mode}\"\npool_size = 1"));
        for (name, message) in [
            ("a Parse without its end", frame(tag::PARSE, b"name")),
            ("a Parse without types", frame(tag::PARSE, b"\0SELECT 1\0")),
            ("a Bind without its end", frame(tag::BIND, b"portal")),
            ("a Bind without values", frame(tag::BIND, b"\0\0")),
            ("a Describe of nothing", frame(tag::DESCRIBE, b"")),
            ("a Describe of something else", frame(tag::DESCRIBE, b"Xname\0")),
            ("a Close of nothing", frame(tag::CLOSE, b"S")),
            ("an Execute without its end", frame(tag::EXECUTE, b"portal")),
            ("a Query without its end", frame(tag::QUERY, b"SELECT 1")),
            (
                "a Query with more behind it",
                frame(tag::QUERY, b"SELECT 1\0more"),
            ),
            ("a FunctionCall of nothing", frame(tag::FUNCTION_CALL, b"")),
            (
                "a text that is not UTF-8",
                frame(tag::QUERY, b"SELECT '\xff\xfe'\0"),
            ),
        ] {
            let answer = |port, database| {
                let mut wire = Wire::log_in(port, "postgres", database, None);
                let sync = frame(tag::SYNC, &[]);
                let goodbye = frame(tag::TERMINATE, &[]);
                wire.send_raw(&[message.clone(), sync.clone(), sync, goodbye].concat());
                last_error(&wire.read_until_closed())
            };
            let expected = answer(postgres.port(), "postgres");
            assert!(!expected.is_empty(), "{name}");
            assert_eq!(answer(pgweir.port(), "app"), expected, "{mode}: {name}");
            let mut next = Wire::log_in(pgweir.port(), "postgres", "app", None);
            assert_eq!(next.value("SELECT 1"), "1");
            next.terminate();
        }
    }
}
