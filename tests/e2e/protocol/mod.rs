//! The protocol, message by message: what PostgreSQL answers is what it answers through the pooler.

mod copies;
mod messages;
mod statements;
mod talks;

use std::time::Duration;

use pgweir::protocol::tag;

use super::harness::wire::{Frame, bind, frame, parse, tags};
use super::harness::{PATIENCE, Pgweir, Postgres, Proxy, Wire};
use copies::{copy_talks, extended_copy_talks, function_talks};
use messages::{Talk, close, copy_data, copy_done, describe, extended, flush, query, run_portal, sync};
use statements::statement_talks;
use talks::{extended_talks, failing_talks, simple_talks};

fn talks() -> Vec<Talk> {
    let mut talks = simple_talks();
    talks.extend(extended_talks());
    talks.extend(failing_talks());
    talks.extend(copy_talks());
    talks.extend(extended_copy_talks());
    talks.extend(function_talks());
    talks.extend(statement_talks());
    talks
}
/// What of an answer must be the same: errors and notices by severity, code and text; notifications without their sender.
fn essence(frame: &Frame) -> String {
    match frame.tag {
        tag::ERROR_RESPONSE | tag::NOTICE_RESPONSE => {
            let fields = ['V', 'C', 'M'].map(|name| frame.field(name).unwrap_or_default());
            format!("{} {}", char::from(frame.tag), fields.join(" "))
        }
        tag::NOTIFICATION_RESPONSE => format!("A {}", frame.body[4..].escape_ascii()),
        other => format!("{} {}", char::from(other), frame.body.escape_ascii()),
    }
}

fn read_readies(wire: &mut Wire, count: usize) -> Vec<String> {
    let mut answers = Vec::new();
    for _ in 0..count {
        answers.extend(wire.read_until_ready().iter().map(essence));
    }
    answers
}

#[derive(Clone, Copy, PartialEq)]
enum Pace {
    AtOnce,
    ByteByByte,
    /// A message at a time, with a wait for what is answered to it.
    MessageByMessage,
}

fn hold(wire: &mut Wire, talk: &Talk, pace: Pace) -> Vec<String> {
    match pace {
        Pace::AtOnce => wire.send_raw(&talk.messages.concat()),
        Pace::ByteByByte => wire.send_in_single_bytes(&talk.messages.concat()),
        Pace::MessageByMessage => {
            for message in &talk.messages {
                wire.send_raw(message);
            }
        }
    }
    read_readies(wire, talk.readies)
}

/// Holds every talk with PostgreSQL itself and then through the pooler, and compares.
fn assert_talks_are_the_same(postgres: &Postgres, server_port: u16, keys: &str, pace: Pace) {
    let mut direct = Wire::log_in(postgres.port(), "postgres", "postgres", None);
    let expected: Vec<_> = talks()
        .iter()
        .map(|talk| hold(&mut direct, talk, Pace::AtOnce))
        .collect();
    direct.terminate();
    let url = postgres
        .superuser_url()
        .replace(&postgres.port().to_string(), &server_port.to_string());
    let config =
        format!("workers = 1\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{url}\"\n{keys}\n");
    let pgweir = Pgweir::builder().config(&config).start();
    let mut pooled = Wire::log_in(pgweir.port(), "postgres", "app", None);
    for (talk, expected) in talks().iter().zip(expected) {
        assert_eq!(hold(&mut pooled, talk, pace), expected, "{}", talk.name);
    }
}

#[test]
fn every_talk_is_the_same_in_transaction_mode() {
    let postgres = Postgres::start();
    assert_talks_are_the_same(&postgres, postgres.port(), "pool_size = 1", Pace::AtOnce);
    assert_talks_are_the_same(
        &postgres,
        postgres.port(),
        "pool_size = 1",
        Pace::MessageByMessage,
    );
}

#[test]
fn every_talk_is_the_same_in_session_mode() {
    let postgres = Postgres::start();
    assert_talks_are_the_same(
        &postgres,
        postgres.port(),
        "pool_mode = \"session\"",
        Pace::AtOnce,
    );
    assert_talks_are_the_same(
        &postgres,
        postgres.port(),
        "pool_mode = \"session\"",
        Pace::MessageByMessage,
    );
}

#[test]
fn every_talk_is_the_same_without_prepared_statements_of_the_poolers_own() {
    let postgres = Postgres::start();
    // Passed through, statements live on a server connection: with one, and one client, that is the same.
    assert_talks_are_the_same(
        &postgres,
        postgres.port(),
        "pool_size = 1\nprepared_statements = 0",
        Pace::AtOnce,
    );
}

#[test]
fn every_talk_is_the_same_with_room_for_two_prepared_statements() {
    let postgres = Postgres::start();
    assert_talks_are_the_same(
        &postgres,
        postgres.port(),
        "pool_size = 1\nprepared_statements = 2",
        Pace::AtOnce,
    );
}

#[test]
fn every_talk_is_the_same_when_clients_and_servers_send_single_bytes() {
    let postgres = Postgres::start();
    assert_talks_are_the_same(&postgres, postgres.port(), "pool_size = 1", Pace::ByteByByte);
    assert_talks_are_the_same(
        &postgres,
        postgres.port(),
        "pool_mode = \"session\"",
        Pace::ByteByByte,
    );
}

#[test]
fn every_talk_is_the_same_over_a_network_that_cuts_everything_up() {
    let postgres = Postgres::start();
    for length in [1, 7] {
        let proxy = Proxy::before(postgres.port());
        proxy.chop(length);
        assert_talks_are_the_same(&postgres, proxy.port(), "pool_size = 1", Pace::AtOnce);
    }
}

#[test]
fn a_pipeline_with_flushes_alone_is_answered_as_it_goes() {
    let postgres = Postgres::start();
    for mode in ["transaction", "session"] {
        let pgweir = Pgweir::before_with(&postgres, &format!("pool_mode = \"{mode}\""));
        let mut wire = Wire::log_in(pgweir.port(), "postgres", "app", None);
        for round in 0..3 {
            for (message, answer) in [
                (parse(&format!("s{round}"), "SELECT 1"), tag::PARSE_COMPLETE),
                // The same text again is answered by the pooler, in its turn.
                (parse(&format!("t{round}"), "SELECT 1"), tag::PARSE_COMPLETE),
                (describe('S', &format!("t{round}")), tag::ROW_DESCRIPTION),
                (bind("", &format!("s{round}"), &[]), tag::BIND_COMPLETE),
                (run_portal(), tag::COMMAND_COMPLETE),
                (close('S', &format!("t{round}")), tag::CLOSE_COMPLETE),
                (bind("", &format!("t{round}"), &[]), tag::ERROR_RESPONSE),
            ] {
                wire.send_raw(&[message, flush()].concat());
                wire.read_until(answer);
            }
            // Skipped up to the Sync.
            wire.send_raw(&[bind("", "s0", &[]), flush(), sync()].concat());
            assert_eq!(tags(&wire.read_until_ready()), "Z");
        }
    }
}

#[test]
fn an_idle_client_hears_notifications_in_both_modes() {
    let postgres = Postgres::start();
    for mode in ["session", "transaction"] {
        let pgweir = Pgweir::before_with(&postgres, &format!("pool_mode = \"{mode}\""));
        let mut listener = Wire::log_in(pgweir.port(), "postgres", "app", None);
        let mut speaker = Wire::log_in(pgweir.port(), "postgres", "app", None);
        listener.query("LISTEN news");
        for payload in ["one", "two"] {
            speaker.query(&format!("NOTIFY news, '{payload}'"));
            let heard = listener.read_frame();
            assert_eq!(heard.tag, tag::NOTIFICATION_RESPONSE, "in {mode} mode");
            assert!(
                heard.body.ends_with(format!("news\0{payload}\0").as_bytes()),
                "{heard:?}"
            );
        }
        // A client that had the connection before hears nothing of it.
        listener.terminate();
        listener.read_until_closed();
        for _ in 0..3 {
            assert_eq!(tags(&speaker.query("NOTIFY news, 'three'")), "CZ");
        }
        speaker.set_read_timeout(Duration::from_millis(20));
        assert!(speaker.try_read_frame().is_err());
        speaker.set_read_timeout(PATIENCE);
    }
}

#[test]
fn a_goodbye_in_a_transaction_ends_it_at_once() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE kept (id int)");
    for mode in ["transaction", "session"] {
        let pgweir = Pgweir::before_with(&postgres, &format!("pool_mode = \"{mode}\"\npool_size = 1"));
        let in_copy = [query("COPY kept FROM STDIN"), copy_data("1\n")].concat();
        let in_block = [query("BEGIN"), query("INSERT INTO kept VALUES (1)")].concat();
        let in_batch = extended("INSERT INTO kept VALUES (2)");
        let in_batch_with_flush = [extended("INSERT INTO kept VALUES (3)"), flush()].concat();
        let in_parse = parse("", "SELECT 1");
        for unfinished in [in_copy, in_block, in_batch, in_batch_with_flush, in_parse] {
            for goodbye in [true, false] {
                let mut wire = Wire::log_in(pgweir.port(), "postgres", "app", None);
                wire.send_raw(&unfinished);
                if goodbye {
                    wire.terminate();
                    wire.read_until_closed();
                }
                drop(wire);
                // There is but one server connection, and nothing is locked or written.
                let mut next = Wire::log_in(pgweir.port(), "postgres", "app", None);
                assert_eq!(
                    next.value("BEGIN; LOCK kept; SELECT count(*) FROM kept; COMMIT"),
                    "0"
                );
                next.terminate();
            }
        }
    }
}

#[test]
fn what_was_asked_for_before_a_goodbye_is_carried_out() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE kept (id int)");
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1");
    let asked = [
        query("INSERT INTO kept VALUES (1)"),
        [extended("INSERT INTO kept VALUES (2)"), sync()].concat(),
        [query("COPY kept FROM STDIN"), copy_data("3\n"), copy_done()].concat(),
        [
            query("SELECT pg_sleep(0.05)"),
            query("INSERT INTO kept VALUES (4)"),
        ]
        .concat(),
    ];
    for messages in asked {
        let mut wire = Wire::log_in(pgweir.port(), "postgres", "app", None);
        wire.send_raw(&[messages, frame(tag::TERMINATE, &[])].concat());
        wire.read_until_closed();
    }
    let mut next = Wire::log_in(pgweir.port(), "postgres", "app", None);
    assert_eq!(
        next.value("SELECT array_agg(id ORDER BY id) FROM kept"),
        "{1,2,3,4}"
    );
}
