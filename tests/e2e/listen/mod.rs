//! Notifications for clients that share their server connections.

mod limits;
mod transactions;

use std::thread;

use pgweir::protocol::{Head, tag};

use super::harness::crowd::{eventually, sqlstate};
use super::harness::wire::{self, Frame, tags};
use super::harness::{Pgweir, Postgres, Wire};

/// Two workers and one server connection, the one that listens beside it.
fn pooler(postgres: &Postgres, keys: &str) -> Pgweir {
    let url = postgres.superuser_url();
    let config = format!(
        "workers = 2\nadmin_users = [\"admin\"]\n[auth]\nmethod = \"trust\"\n\
         [databases.app]\nurl = \"{url}\"\npool_size = 1\n{keys}\n"
    );
    Pgweir::builder().config(&config).start()
}

fn client(pgweir: &Pgweir) -> Wire {
    Wire::log_in(pgweir.port(), "postgres", "app", None)
}

/// A client beside the pooler.
fn direct(postgres: &Postgres) -> Wire {
    Wire::log_in(postgres.port(), "postgres", "postgres", None)
}

fn ok(frames: &[Frame]) {
    let is_error = |frame: &&Frame| frame.tag == tag::ERROR_RESPONSE;
    assert!(!frames.iter().any(|frame| is_error(&frame)), "{frames:?}");
}

/// Channel and payload.
fn notification(frame: &Frame) -> (String, String) {
    assert_eq!(frame.tag, tag::NOTIFICATION_RESPONSE, "{frame:?}");
    let mut parts = frame.body[4..]
        .split(|byte| *byte == 0)
        .map(|part| String::from_utf8_lossy(part).into_owned());
    (parts.next().unwrap(), parts.next().unwrap())
}

/// The payloads of the next notifications, up to the one that says `end`.
fn payloads(wire: &mut Wire) -> Vec<String> {
    let mut payloads = Vec::new();
    loop {
        let (_, payload) = notification(&wire.read_frame());
        if payload == "end" {
            return payloads;
        }
        payloads.push(payload);
    }
}

/// Waits until the server has so many clients: those that look at it are gone a moment after they have their answer.
fn settles_at(postgres: &Postgres, connections: usize) {
    eventually("the clients of the server", || {
        postgres.connections() == connections
    });
}

/// Server connections that listen, by what they are called.
fn listeners(postgres: &Postgres) -> String {
    postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgweir listener'")
}

#[test]
fn an_idle_client_is_told_and_keeps_no_server_connection() {
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres, "");
    let (mut one, mut other) = (client(&pgweir), client(&pgweir));
    ok(&one.query("LISTEN channel"));
    ok(&other.query("LISTEN \"Other \"\"channel\"\"\""));
    // There is one connection for queries, and it is free.
    ok(&other.query("NOTIFY channel, 'it''s \"here\"'"));
    assert_eq!(
        notification(&one.read_frame()),
        ("channel".to_owned(), "it's \"here\"".to_owned())
    );
    ok(&one.query("SELECT pg_notify('Other \"channel\"', '')"));
    assert_eq!(
        notification(&other.read_frame()),
        ("Other \"channel\"".to_owned(), String::new())
    );
    settles_at(&postgres, 2);
    // What was listened to on the connection of the queries is undone.
    let mut third = client(&pgweir);
    assert_eq!(third.value("SELECT count(*) FROM pg_listening_channels()"), "0");
}

#[test]
fn what_is_notified_before_the_commit_is_not_told_and_what_comes_after_is() {
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres, "");
    let mut notifier = direct(&postgres);
    // Somebody listens all the time, so that the channel is notified of.
    let mut other = client(&pgweir);
    ok(&other.query("LISTEN a"));
    for round in 0..50 {
        let mut listener = client(&pgweir);
        ok(&notifier.query(&format!("NOTIFY a, 'before {round}'")));
        let is_block = round % 2 == 0;
        if is_block {
            ok(&listener.query("BEGIN"));
            ok(&listener.query("LISTEN a"));
            ok(&notifier.query(&format!("NOTIFY a, 'within {round}'")));
            ok(&listener.query("COMMIT"));
        } else {
            ok(&listener.query("LISTEN a"));
        }
        ok(&notifier.query(&format!("NOTIFY a, 'after {round}'")));
        assert_eq!(notification(&listener.read_frame()).1, format!("after {round}"));
        assert_eq!(notification(&other.read_frame()).1, format!("before {round}"));
        if is_block {
            assert_eq!(notification(&other.read_frame()).1, format!("within {round}"));
        }
        assert_eq!(notification(&other.read_frame()).1, format!("after {round}"));
    }
}

#[test]
fn the_notifications_of_two_come_in_the_order_in_which_a_client_without_the_pooler_gets_them() {
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres, "");
    let mut listeners = [direct(&postgres), client(&pgweir), client(&pgweir)];
    for listener in &mut listeners {
        ok(&listener.query("LISTEN a"));
    }
    let notify = |name: &'static str, mut wire: Wire| {
        thread::spawn(move || {
            for number in 0..500 {
                ok(&wire.query(&format!("NOTIFY a, '{name} {number}'")));
            }
        })
    };
    let notifiers = [notify("one", direct(&postgres)), notify("other", client(&pgweir))];
    for notifier in notifiers {
        notifier.join().unwrap();
    }
    ok(&direct(&postgres).query("NOTIFY a, 'end'"));
    let heard: Vec<_> = listeners.iter_mut().map(payloads).collect();
    assert_eq!(heard[0].len(), 1000);
    assert_eq!(heard[0], heard[1]);
    assert_eq!(heard[0], heard[2]);
}

#[test]
fn many_listen_by_one_server_connection_which_goes_when_nobody_listens() {
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres, "");
    let mut clients: Vec<_> = (0..30).map(|_| client(&pgweir)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        ok(&client.query(&format!("LISTEN a; LISTEN own{number}")));
    }
    assert_eq!(listeners(&postgres), "1");
    settles_at(&postgres, 2);
    let mut console = Wire::log_in(pgweir.port(), "admin", "pgweir", None);
    let servers = console.rows("SHOW SERVERS");
    let states: Vec<_> = servers.iter().filter(|row| row[4] == "listening").collect();
    assert_eq!(states.len(), 1, "{servers:?}");
    ok(&direct(&postgres).query("NOTIFY a, 'to all'; NOTIFY own7, 'to one'"));
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(notification(&client.read_frame()).1, "to all");
        if number == 7 {
            assert_eq!(notification(&client.read_frame()).1, "to one");
        }
        assert_eq!(client.value("SELECT 1"), "1");
    }
    // Those of a client that has left are not listened to any more; the others still are.
    for mut client in clients.drain(1..) {
        client.terminate();
    }
    let own = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgweir listener' AND query LIKE 'UNLISTEN%'";
    eventually("channels are given up", || postgres.sql(own) == "1");
    assert_eq!(tags(&clients[0].query("NOTIFY a, 'still'")), "CAZ");
    drop(clients);
    eventually("the connection is closed", || listeners(&postgres) == "0");
}

#[test]
fn a_client_in_a_block_is_told_when_it_has_ended() {
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres, "");
    let (mut listener, mut notifier) = (client(&pgweir), direct(&postgres));
    ok(&listener.query("LISTEN a"));
    ok(&listener.query("BEGIN"));
    for number in 0..3 {
        ok(&notifier.query(&format!("NOTIFY a, '{number}'")));
        assert_eq!(tags(&listener.query("SELECT 1")), "TDCZ");
    }
    assert_eq!(tags(&listener.query("COMMIT")), "CZ");
    for number in 0..3 {
        assert_eq!(notification(&listener.read_frame()).1, number.to_string());
    }
    // Its own come with the commit, as they do from a server of its own.
    ok(&listener.query("BEGIN"));
    assert_eq!(tags(&listener.query("NOTIFY a, 'own'")), "CZ");
    assert_eq!(tags(&listener.query("SELECT 1")), "TDCZ");
    assert_eq!(tags(&listener.query("COMMIT")), "CAZ");
    assert_eq!(tags(&listener.query("NOTIFY a, 'alone'")), "CAZ");
    assert_eq!(
        tags(&listener.query("BEGIN; LISTEN b; NOTIFY b; COMMIT")),
        "CCCCAZ"
    );
}

#[test]
fn whoever_listens_is_told_that_the_connection_was_lost_and_hears_again() {
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres, "");
    let mut clients = [client(&pgweir), client(&pgweir)];
    for client in &mut clients {
        ok(&client.query("LISTEN a; LISTEN b"));
    }
    postgres.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgweir listener'",
    );
    for client in &mut clients {
        for words in ["was lost", "may have been missed"] {
            let warning = client.read_frame();
            assert_eq!(warning.tag, tag::NOTICE_RESPONSE, "{warning:?}");
            assert_eq!(warning.field('S').unwrap(), "WARNING");
            assert_eq!(warning.field('C').unwrap(), "08006");
            assert!(warning.message().contains(words), "{warning:?}");
        }
    }
    ok(&direct(&postgres).query("NOTIFY a, '1'; NOTIFY b, '2'"));
    for client in &mut clients {
        assert_eq!(notification(&client.read_frame()).1, "1");
        assert_eq!(notification(&client.read_frame()).1, "2");
        assert_eq!(client.value("SELECT 1"), "1");
    }
    assert_eq!(listeners(&postgres), "1");
}

#[test]
fn listening_goes_on_when_a_server_that_was_killed_is_there_again() {
    let mut postgres = Postgres::start();
    let pgweir = pooler(&postgres, "");
    let mut listener = client(&pgweir);
    ok(&listener.query("LISTEN a"));
    postgres.kill_9();
    assert_eq!(listener.read_frame().tag, tag::NOTICE_RESPONSE);
    postgres.start().unwrap();
    assert_eq!(listener.read_frame().tag, tag::NOTICE_RESPONSE);
    assert_eq!(tags(&listener.query("NOTIFY a, 'again'")), "CAZ");
}

#[test]
fn a_pause_closes_the_connection_that_listens_and_a_resume_opens_it_again() {
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres, "");
    let mut listener = client(&pgweir);
    ok(&listener.query("LISTEN a"));
    let mut console = Wire::log_in(pgweir.port(), "admin", "pgweir", None);
    ok(&console.query("PAUSE"));
    settles_at(&postgres, 0);
    assert_eq!(listener.read_frame().tag, tag::NOTICE_RESPONSE);
    ok(&console.query("RESUME"));
    assert_eq!(listener.read_frame().tag, tag::NOTICE_RESPONSE);
    assert_eq!(tags(&listener.query("NOTIFY a, 'again'")), "CAZ");
}

/// The first words of the notifications that come before the close, which may cut the last.
fn numbers_told(wire: &mut Wire) -> Vec<String> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = wire.read_some(&mut buffer);
        bytes.extend_from_slice(&buffer[..count]);
        if count == 0 {
            break;
        }
    }
    let mut rest = bytes.as_slice();
    let mut told = Vec::new();
    while let Ok(Some(head)) = Head::read(rest)
        && let Some((message, behind)) = rest.split_at_checked(head.len())
    {
        rest = behind;
        let payload = String::from_utf8_lossy(&message[11..]).into_owned();
        if head.tag == tag::NOTIFICATION_RESPONSE {
            told.push(payload.split(' ').next().unwrap().to_owned());
        }
    }
    told
}

#[test]
fn a_client_that_does_not_read_is_ended_and_the_others_are_not() {
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres, "");
    let (mut deaf, mut other, mut notifier) = (client(&pgweir), client(&pgweir), direct(&postgres));
    for listener in [&mut deaf, &mut other] {
        ok(&listener.query("LISTEN a"));
    }
    let filler = "x".repeat(7900);
    for number in 0..4000 {
        ok(&notifier.query(&format!("NOTIFY a, '{number} {filler}'")));
        let (_, payload) = notification(&other.read_frame());
        assert!(payload.starts_with(&format!("{number} ")), "{payload:.20}");
    }
    // What was on its way comes, in order; the rest of it does not.
    let told = numbers_told(&mut deaf);
    assert!(told.len() < 4000, "everything was told");
    assert!(
        told.iter()
            .enumerate()
            .all(|(at, number)| *number == at.to_string())
    );
    pgweir.wait_for_log("too many notifications", 1);
    assert_eq!(tags(&other.query("NOTIFY a, 'still'")), "CAZ");
}

#[test]
fn the_extended_protocol_listens_too() {
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres, "");
    let (mut listener, mut other) = (client(&pgweir), client(&pgweir));
    // A statement that is prepared once and carried out twice, in between by a client that shares the connection.
    listener.send_parse("named", "LISTEN a");
    listener.send_sync();
    listener.read_until_ready();
    let run = |wire: &mut Wire, statement: &str| {
        wire.send_bind("", statement, &[]);
        wire.send_execute("", 0);
        wire.send_sync();
        tags(&wire.read_until_ready())
    };
    assert_eq!(run(&mut listener, "named"), "2CZ");
    ok(&other.query("NOTIFY a, '1'"));
    assert_eq!(notification(&listener.read_frame()).1, "1");
    ok(&listener.query("UNLISTEN a"));
    assert_eq!(run(&mut listener, "named"), "2CZ");
    // Everything at once: two statements of one batch, then a block that is rolled back, then a query.
    let batch = [
        wire::parse("", "LISTEN b"),
        wire::bind("", "", &[]),
        wire::execute("", 0),
        wire::parse("", "SELECT 7"),
        wire::bind("", "", &[]),
        wire::execute("", 0),
        wire::frame(tag::SYNC, &[]),
        wire::frame(tag::QUERY, &wire::c_string("BEGIN")),
        wire::frame(tag::QUERY, &wire::c_string("LISTEN c")),
        wire::frame(tag::QUERY, &wire::c_string("ROLLBACK")),
        wire::frame(tag::QUERY, &wire::c_string("SELECT 8")),
    ];
    listener.send_raw(&batch.concat());
    assert_eq!(tags(&listener.read_until_ready()), "12C12DCZ");
    for expected in ["CZ", "CZ", "CZ", "TDCZ"] {
        assert_eq!(tags(&listener.read_until_ready()), expected);
    }
    // A batch that fails has listened to nothing.
    let failing = [
        wire::parse("", "LISTEN c"),
        wire::bind("", "", &[]),
        wire::execute("", 0),
        wire::parse("", "SELECT 1/0"),
        wire::bind("", "", &[]),
        wire::execute("", 0),
        wire::frame(tag::SYNC, &[]),
    ];
    listener.send_raw(&failing.concat());
    assert_eq!(sqlstate(&listener.read_until_ready()), "22012");
    ok(&other.query("NOTIFY c, 'c'; NOTIFY a, 'a'; NOTIFY b, 'b'"));
    assert_eq!(notification(&listener.read_frame()).1, "a");
    assert_eq!(notification(&listener.read_frame()).1, "b");
    assert_eq!(listeners(&postgres), "1");
    assert_eq!(other.value("SELECT count(*) FROM pg_listening_channels()"), "0");
}

#[test]
fn a_block_of_the_extended_protocol_is_followed_statement_by_statement() {
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres, "");
    let (mut listener, mut notifier) = (client(&pgweir), direct(&postgres));
    for text in [
        "BEGIN",
        "LISTEN a",
        "SAVEPOINT s",
        "LISTEN b",
        "ROLLBACK TO s",
        "LISTEN c",
        "COMMIT",
    ] {
        listener.send_parse("", text);
        listener.send_bind("", "", &[]);
        listener.send_execute("", 0);
        listener.send_sync();
        ok(&listener.read_until_ready());
        ok(&notifier.query("NOTIFY a, 'early'"));
    }
    assert_eq!(notification(&listener.read_frame()).1, "early");
    ok(&notifier.query("NOTIFY b, 'b'; NOTIFY c, 'c'"));
    assert_eq!(notification(&listener.read_frame()).1, "c");
    settles_at(&postgres, 3);
}

#[test]
fn what_the_server_refuses_is_refused_in_its_words() {
    let postgres = Postgres::start();
    let replica = postgres.replica();
    for server in [&postgres, &replica] {
        let pgweir = pooler(server, "");
        for texts in [
            &["LISTEN a"][..],
            &["LISTEN"],
            &["BEGIN", "SELECT 1/0", "LISTEN a", "ROLLBACK"],
            &["BEGIN READ ONLY", "LISTEN a", "COMMIT"],
        ] {
            let (mut listener, mut directly) = (client(&pgweir), direct(server));
            for text in texts {
                assert_eq!(listener.query(text), directly.query(text), "{text}");
            }
            listener.terminate();
            listener.read_until_closed();
        }
    }
}

#[test]
fn a_client_that_nobody_else_can_listen_for_keeps_its_server_connection() {
    let postgres = Postgres::start();
    // No room for another connection; no UTF-8; statements that are not looked into.
    for (keys, encoding) in [
        ("max_db_connections = 1", "UTF8"),
        ("", "LATIN1"),
        ("prepared_statements = 0", "UTF8"),
        ("pool_mode = \"session\"", "UTF8"),
    ] {
        let pgweir = pooler(&postgres, keys);
        let mut listener = client(&pgweir);
        ok(&listener.query(&format!("SET client_encoding = '{encoding}'")));
        listener.send_parse("", "LISTEN a");
        listener.send_bind("", "", &[]);
        listener.send_execute("", 0);
        listener.send_sync();
        ok(&listener.read_until_ready());
        assert_eq!(
            listener.value("SELECT pg_listening_channels()"),
            "a",
            "{keys} {encoding}"
        );
        ok(&direct(&postgres).query("NOTIFY a, '\u{e9}'"));
        let told = listener.read_frame();
        let payload: &[u8] = if encoding == "UTF8" {
            "\u{e9}".as_bytes()
        } else {
            b"\xe9"
        };
        assert_eq!(told.body[6..told.body.len() - 1], *payload, "{told:?}");
        assert_eq!(listeners(&postgres), "0");
    }
}

#[test]
fn a_client_that_is_pinned_for_something_else_is_told_once() {
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres, "");
    let (mut listener, mut notifier) = (client(&pgweir), direct(&postgres));
    ok(&listener.query("LISTEN a"));
    ok(&listener.query("CREATE TEMP TABLE mine (id int)"));
    ok(&listener.query("LISTEN b"));
    ok(&notifier.query("NOTIFY a, '1'; NOTIFY b, '2'"));
    for expected in ["1", "2"] {
        assert_eq!(notification(&listener.read_frame()).1, expected);
    }
    ok(&listener.query("UNLISTEN a"));
    ok(&notifier.query("NOTIFY a, '3'; NOTIFY b, '4'"));
    assert_eq!(notification(&listener.read_frame()).1, "4");
    ok(&listener.query("BEGIN; DROP TABLE mine; COMMIT"));
    ok(&notifier.query("NOTIFY b, '5'"));
    assert_eq!(notification(&listener.read_frame()).1, "5");
    listener.terminate();
    listener.read_until_closed();
    assert_eq!(
        client(&pgweir).value("SELECT count(*) FROM pg_listening_channels()"),
        "0"
    );
}

#[test]
fn statement_mode_listens_as_well() {
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres, "pool_mode = \"statement\"");
    let (mut listener, mut other) = (client(&pgweir), client(&pgweir));
    ok(&listener.query("LISTEN a"));
    ok(&other.query("NOTIFY a, 'x'"));
    assert_eq!(notification(&listener.read_frame()).1, "x");
    settles_at(&postgres, 2);
}

#[test]
fn a_reload_that_renews_the_pool_renews_the_connection_that_listens() {
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres, "");
    let mut listener = client(&pgweir);
    ok(&listener.query("LISTEN a"));
    let before = postgres.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'pgweir listener'");
    let url = postgres.superuser_url();
    pgweir.write_config(&format!(
        "workers = 2\nadmin_users = [\"admin\"]\n[auth]\nmethod = \"trust\"\n\
         [databases.app]\nurl = \"{url}\"\npool_size = 1\nconnect_query = \"SELECT 1\"\n"
    ));
    pgweir.hup();
    assert_eq!(listener.read_frame().tag, tag::NOTICE_RESPONSE);
    assert_eq!(listener.read_frame().tag, tag::NOTICE_RESPONSE);
    let after = postgres.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'pgweir listener'");
    assert_ne!(before, after);
    assert_eq!(tags(&listener.query("NOTIFY a, 'again'")), "CAZ");
}
