//! Prepared statements of several clients on few server connections.

use pgweir::protocol::tag;

use super::harness::wire::{Frame, bind, c_string, execute, frame, parse, tags};
use super::harness::{Pgweir, Postgres, Wire};

fn pooled(postgres: &Postgres, keys: &str) -> Pgweir {
    Pgweir::before_with(postgres, &format!("pool_size = 1\n{keys}"))
}

fn client(pgweir: &Pgweir) -> Wire {
    Wire::log_in(pgweir.port(), "postgres", "app", None)
}

fn prepare(wire: &mut Wire, name: &str, sql: &str) -> Vec<Frame> {
    wire.send_parse(name, sql);
    wire.send_sync();
    wire.read_until_ready()
}

fn close(wire: &mut Wire, name: &str) -> String {
    wire.send(tag::CLOSE, &c_string(&format!("S{name}")));
    wire.send_sync();
    tags(&wire.read_until_ready())
}

/// Binds and executes a statement: its values, or the SQLSTATE of the error.
fn run(wire: &mut Wire, name: &str, values: &[Option<&str>]) -> String {
    wire.send_raw(&[bind("", name, values), execute("", 0), frame(tag::SYNC, &[])].concat());
    let frames = wire.read_until_ready();
    match frames.iter().find(|frame| frame.tag == tag::ERROR_RESPONSE) {
        Some(error) => error.sqlstate(),
        None => frames
            .iter()
            .filter(|frame| frame.tag == tag::DATA_ROW)
            .map(|frame| frame.columns().concat())
            .collect(),
    }
}

#[test]
fn names_belong_to_their_clients() {
    let postgres = Postgres::start();
    let pgweir = pooled(&postgres, "");
    let (mut a, mut b, mut c) = (client(&pgweir), client(&pgweir), client(&pgweir));
    assert_eq!(tags(&prepare(&mut a, "s", "SELECT 'a' || $1::text")), "1Z");
    assert_eq!(tags(&prepare(&mut b, "s", "SELECT 'b' || $1::text")), "1Z");
    assert_eq!(tags(&prepare(&mut c, "other", "SELECT 'a' || $1::text")), "1Z");
    for round in ["1", "2"] {
        assert_eq!(run(&mut a, "s", &[Some(round)]), format!("a{round}"));
        assert_eq!(run(&mut b, "s", &[Some(round)]), format!("b{round}"));
        assert_eq!(run(&mut c, "s", &[Some(round)]), "26000");
        assert_eq!(run(&mut c, "other", &[Some(round)]), format!("a{round}"));
    }
    assert_eq!(prepare(&mut a, "s", "SELECT 2")[0].sqlstate(), "42P05");
    assert_eq!(close(&mut a, "s"), "3Z");
    assert_eq!(run(&mut a, "s", &[Some("x")]), "26000");
    assert_eq!(run(&mut b, "s", &[Some("x")]), "bx");
    assert_eq!(tags(&prepare(&mut a, "s", "SELECT 'new' || $1::text")), "1Z");
    assert_eq!(run(&mut a, "s", &[Some("!")]), "new!");
    // One text is prepared once, for whoever uses it.
    assert_eq!(
        c.value("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT ''a''%'"),
        "1"
    );
    assert_eq!(postgres.connections(), 1);
}

#[test]
fn the_unnamed_statement_is_never_anothers() {
    let postgres = Postgres::start();
    let pgweir = pooled(&postgres, "");
    let (mut a, mut b) = (client(&pgweir), client(&pgweir));
    assert_eq!(run(&mut a, "", &[]), "26000");
    prepare(&mut a, "", "SELECT 'of a'");
    assert_eq!(run(&mut b, "", &[]), "26000");
    prepare(&mut b, "", "SELECT 'of b'");
    for _ in 0..3 {
        assert_eq!(run(&mut a, "", &[]), "of a");
        assert_eq!(run(&mut b, "", &[]), "of b");
    }
    b.query("SELECT 1");
    assert_eq!(run(&mut b, "", &[]), "26000");
    assert_eq!(run(&mut a, "", &[]), "of a");
}

#[test]
fn an_unknown_name_fails_in_its_place_and_the_session_goes_on() {
    let postgres = Postgres::start();
    let pgweir = pooled(&postgres, "");
    let mut wire = client(&pgweir);
    wire.send_raw(
        &[
            parse("", "SELECT 1"),
            bind("", "", &[]),
            execute("", 0),
            bind("", "nobody", &[]),
            execute("", 0),
            frame(tag::SYNC, &[]),
        ]
        .concat(),
    );
    let frames = wire.read_until_ready();
    assert_eq!(tags(&frames), "12DCEZ");
    assert_eq!(frames[4].sqlstate(), "26000");
    assert_eq!(
        frames[4].message(),
        "prepared statement \"nobody\" does not exist"
    );
    assert_eq!(wire.value("SELECT 2"), "2");
    wire.query("BEGIN");
    assert_eq!(run(&mut wire, "nobody", &[]), "26000");
    assert_eq!(run(&mut wire, "", &[]), "26000");
    assert_eq!(wire.query("SELECT 1")[0].sqlstate(), "25P02");
    assert_eq!(tags(&wire.query("ROLLBACK")), "CZ");
}

#[test]
fn a_failed_parse_gives_no_name_to_anybody() {
    let postgres = Postgres::start();
    let pgweir = pooled(&postgres, "");
    let (mut a, mut b) = (client(&pgweir), client(&pgweir));
    for wire in [&mut a, &mut b] {
        assert_eq!(
            prepare(wire, "s", "SELECT * FROM comes_later")[0].sqlstate(),
            "42P01"
        );
        assert_eq!(run(wire, "s", &[]), "26000");
    }
    postgres.sql("CREATE TABLE comes_later AS SELECT 'here' AS word");
    for wire in [&mut a, &mut b] {
        assert_eq!(tags(&prepare(wire, "s", "SELECT * FROM comes_later")), "1Z");
        assert_eq!(run(wire, "s", &[]), "here");
    }
}

#[test]
fn what_one_client_deallocates_others_keep() {
    let postgres = Postgres::start();
    let pgweir = pooled(&postgres, "");
    let (mut a, mut b) = (client(&pgweir), client(&pgweir));
    for all in ["DEALLOCATE ALL", "DISCARD ALL", "DEALLOCATE PREPARE ALL"] {
        prepare(&mut a, "mine", "SELECT 'common'");
        prepare(&mut b, "mine", "SELECT 'common'");
        prepare(&mut b, "more", "SELECT 'more'");
        assert_eq!(tags(&a.query(all)), "CZ");
        assert_eq!(run(&mut a, "mine", &[]), "26000");
        assert_eq!(run(&mut b, "mine", &[]), "common");
        assert_eq!(run(&mut b, "more", &[]), "more");
        assert_eq!(tags(&prepare(&mut a, "mine", "SELECT 'again'")), "1Z");
        assert_eq!(run(&mut a, "mine", &[]), "again");
        assert_eq!(close(&mut a, "mine"), "3Z");
        assert_eq!(close(&mut b, "mine"), "3Z");
        assert_eq!(close(&mut b, "more"), "3Z");
    }
}

#[test]
fn no_more_than_the_limit_stay_on_a_server_connection() {
    let postgres = Postgres::start();
    let pgweir = pooled(&postgres, "prepared_statements = 2");
    let (mut a, mut b) = (client(&pgweir), client(&pgweir));
    let texts: Vec<String> = (0..6).map(|number| format!("SELECT 'text {number}'")).collect();
    let count = "SELECT count(*) FROM pg_prepared_statements";
    for (number, text) in texts.iter().enumerate() {
        let wire = if number % 2 == 0 { &mut a } else { &mut b };
        prepare(wire, &format!("s{number}"), text);
        assert!(wire.value(count).parse::<usize>().unwrap() <= 2);
    }
    for _ in 0..2 {
        for number in [0, 1, 2, 3, 4, 5, 0, 5, 1, 4] {
            let wire = if number % 2 == 0 { &mut a } else { &mut b };
            assert_eq!(run(wire, &format!("s{number}"), &[]), format!("text {number}"));
            assert!(wire.value(count).parse::<usize>().unwrap() <= 2);
        }
    }
    // What was used last stays: the server has the same statement as before.
    let stays = "SELECT string_agg(statement, ' ' ORDER BY statement) FROM pg_prepared_statements";
    run(&mut a, "s2", &[]);
    run(&mut a, "s4", &[]);
    run(&mut a, "s2", &[]);
    run(&mut b, "s1", &[]);
    assert_eq!(a.value(stays), "SELECT 'text 1' SELECT 'text 2'");
    // One batch may use more than the limit.
    let batch: Vec<u8> = [0, 2, 4, 0]
        .iter()
        .flat_map(|number| [bind("", &format!("s{number}"), &[]), execute("", 0)].concat())
        .collect();
    a.send_raw(&[batch, frame(tag::SYNC, &[])].concat());
    assert_eq!(tags(&a.read_until_ready()), "2DC2DC2DC2DCZ");
    b.query("SELECT 1");
    run(&mut b, "s3", &[]);
    assert!(b.value(count).parse::<usize>().unwrap() <= 2);
}

#[test]
fn tables_that_change_are_seen_by_statements_prepared_before() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE changing AS SELECT 1 AS a");
    let pgweir = pooled(&postgres, "");
    let (mut a, mut b) = (client(&pgweir), client(&pgweir));
    prepare(&mut a, "s", "SELECT a FROM changing");
    prepare(&mut b, "s", "SELECT * FROM changing");
    assert_eq!(
        (run(&mut a, "s", &[]), run(&mut b, "s", &[])),
        ("1".to_owned(), "1".to_owned())
    );
    postgres.sql("ALTER TABLE changing ADD COLUMN b int DEFAULT 2");
    assert_eq!(run(&mut a, "s", &[]), "1");
    // As on a direct connection, until it is prepared again; and then it is prepared anew.
    assert_eq!(run(&mut b, "s", &[]), "0A000");
    close(&mut b, "s");
    assert_eq!(tags(&prepare(&mut b, "s", "SELECT * FROM changing")), "1Z");
    assert_eq!(run(&mut b, "s", &[]), "12");
    postgres.sql("DROP TABLE changing");
    assert_eq!(run(&mut a, "s", &[]), "42P01");
}

#[test]
fn tables_changed_by_another_are_seen_by_whoever_prepares_anew_on_any_connection() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE changing AS SELECT 1 AS a");
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 2");
    let (mut a, mut b) = (client(&pgweir), client(&pgweir));
    let text = "SELECT * FROM changing";
    let mut number = 0;
    // Both server connections prepare it before each change.
    for change in ["here", "directly"] {
        for wire in [&mut a, &mut b] {
            wire.query("BEGIN; SELECT 1");
        }
        number += 1;
        let name = format!("s{number}");
        for wire in [&mut a, &mut b] {
            prepare(wire, &name, text);
            run(wire, &name, &[]);
        }
        b.query("COMMIT");
        a.query("COMMIT");
        let sql = format!("ALTER TABLE changing ADD COLUMN {change} int DEFAULT 2");
        if change == "here" {
            a.query(&sql);
        } else {
            postgres.sql(&sql);
            assert_eq!(run(&mut a, &name, &[]), "0A000");
        }
        for wire in [&mut a, &mut b] {
            wire.query("BEGIN; SELECT 1");
        }
        number += 1;
        let name = format!("s{number}");
        let expected = if change == "here" { "12" } else { "122" };
        for wire in [&mut a, &mut b] {
            prepare(wire, &name, text);
            assert_eq!(run(wire, &name, &[]), expected);
            wire.query("COMMIT");
        }
    }
}

#[test]
fn statements_follow_their_client_to_other_server_connections() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 3");
    let mut wire = client(&pgweir);
    prepare(
        &mut wire,
        "s",
        "SELECT $1::int + pg_backend_pid() - pg_backend_pid()",
    );
    let mut servers = std::collections::BTreeSet::new();
    let mut others: Vec<Wire> = (0..3).map(|_| client(&pgweir)).collect();
    for busy in [&[0, 1][..], &[1, 2], &[0, 2], &[]] {
        for index in busy {
            others[*index].query("BEGIN; SELECT 1");
        }
        assert_eq!(run(&mut wire, "s", &[Some("5")]), "5");
        servers.insert(wire.value("SELECT pg_backend_pid()"));
        for index in busy {
            others[*index].query("COMMIT");
        }
    }
    // Killed underneath: the next connection learns it anew.
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'");
    while postgres.connections() > 0 {}
    let answer = run(&mut wire, "s", &[Some("6")]);
    assert!(
        answer == "6" || answer.starts_with("08") || answer == "57P01",
        "{answer}"
    );
    assert_eq!(run(&mut wire, "s", &[Some("7")]), "7");
}

/// Prepares a text under a name of its own, and executes it.
fn prepared_value(client: &mut Wire, name: &str, sql: &str) -> String {
    client.send_parse(name, sql);
    client.send_bind("", name, &[]);
    client.send_execute("", 0);
    client.send_sync();
    let frames = client.read_until_ready();
    frames
        .iter()
        .find(|frame| frame.tag == b'D')
        .map(|frame| frame.columns()[0].clone())
        .unwrap_or_else(|| panic!("no row: {frames:?}"))
}

#[test]
fn one_text_under_other_settings_is_another_statement() {
    let postgres = Postgres::start();
    postgres.sql("CREATE SCHEMA one; CREATE SCHEMA two; CREATE TABLE one.t AS SELECT 1 AS a; CREATE TABLE two.t AS SELECT 'two' AS a");
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1");
    let mut clients = [0, 1].map(|_| Wire::log_in(pgweir.port(), "postgres", "app", None));
    // Constants are fixed when a text is analysed.
    let noon = "SELECT extract(epoch FROM timestamptz '2026-01-01 12:00')::int4";
    let names = "SELECT a FROM t";
    for (client, zone, path) in [(0, "UTC", "one"), (1, "Asia/Tokyo", "two")] {
        clients[client].query(&format!("SET TimeZone = '{zone}'"));
        clients[client].query(&format!("SET search_path = {path}"));
    }
    let [first, second] = &mut clients;
    assert_eq!(prepared_value(first, "a", noon), "1767268800");
    assert_eq!(prepared_value(second, "a", noon), "1767236400");
    assert_eq!(prepared_value(first, "b", names), "1");
    assert_eq!(prepared_value(second, "b", names), "two");
    // What is set for a transaction alone counts in it.
    first.query("BEGIN");
    first.query("SET LOCAL TimeZone = 'Asia/Tokyo'");
    assert_eq!(prepared_value(first, "c", noon), "1767236400");
    first.query("COMMIT");
    let mut third = Wire::log_in(pgweir.port(), "postgres", "app", None);
    third.query("SET TimeZone = 'UTC'");
    third.query("SET search_path = one");
    assert_eq!(prepared_value(&mut third, "c", noon), "1767268800");
    assert_eq!(first.value("SELECT count(*) FROM pg_prepared_statements"), "5");
}
