//! A transaction block begins without a server connection, and to its client as always.

use pgweir::protocol::tag;
use rustix::process::Signal;

use super::harness::clients::pgbench;
use super::harness::crowd::{error, eventually, sqlstate};
use super::harness::wire::{Frame, bind, c_string, execute, frame, parse, tags};
use super::harness::{Pgweir, Postgres, Proxy, Wire};

pub(super) fn log_in(pgweir: &Pgweir) -> Wire {
    Wire::log_in(pgweir.port(), "postgres", "app", None)
}

fn pooled(postgres: &Postgres) -> Pgweir {
    Pgweir::before_with(postgres, "pool_size = 1\npool_timeout = \"1s\"")
}

pub(super) fn state(frames: &[Frame]) -> char {
    frames.last().unwrap().transaction_state()
}

/// What of an answer must be the same.
pub(super) fn essence(frames: &[Frame]) -> Vec<String> {
    let words = |frame: &Frame| match frame.tag {
        tag::ERROR_RESPONSE | tag::NOTICE_RESPONSE => {
            let fields = ['V', 'C', 'M'].map(|name| frame.field(name).unwrap_or_default());
            format!("{} {}", char::from(frame.tag), fields.join(" "))
        }
        other => format!("{} {}", char::from(other), frame.body.escape_ascii()),
    };
    frames.iter().map(words).collect()
}

fn query(sql: &str) -> Vec<u8> {
    frame(tag::QUERY, &c_string(sql))
}

fn extended(sql: &str) -> Vec<u8> {
    [
        parse("", sql),
        bind("", "", &[]),
        execute("", 0),
        frame(tag::SYNC, &[]),
    ]
    .concat()
}

#[test]
fn two_clients_are_in_a_block_before_either_has_the_one_connection() {
    let postgres = Postgres::start();
    let pgweir = pooled(&postgres);
    let [mut first, mut second] = [(); 2].map(|()| log_in(&pgweir));
    let before = postgres.connections();
    for wire in [&mut first, &mut second] {
        let begun = wire.query("BEGIN");
        assert_eq!((tags(&begun), state(&begun)), ("CZ".to_owned(), 'T'));
    }
    // Whatever the logins have opened, no transaction is open on it.
    assert_eq!(postgres.connections(), before);
    let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'";
    assert_eq!(postgres.sql(open), "0");
    assert_eq!(state(&first.query("SELECT 1")), 'T');
    assert_eq!(postgres.sql(open), "1");
    // There is none for the other, whose block has failed by that.
    let refused = second.query("SELECT 1");
    assert_eq!((sqlstate(&refused).as_str(), state(&refused)), ("53300", 'E'));
    let ended = second.query("ROLLBACK");
    assert_eq!((tags(&ended), state(&ended)), ("CZ".to_owned(), 'I'));
    assert_eq!(state(&first.query("COMMIT")), 'I');
    assert_eq!(second.value("SELECT 1"), "1");
}

#[test]
fn a_begin_arrives_with_the_first_statement_of_its_block_in_one_piece() {
    let postgres = Postgres::start();
    let proxy = Proxy::before(postgres.port());
    let url = postgres
        .superuser_url()
        .replace(&postgres.port().to_string(), &proxy.port().to_string());
    let config = format!("workers = 1\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{url}\"\n");
    let pgweir = Pgweir::builder().config(&config).start();
    let mut wire = log_in(&pgweir);
    wire.value("SELECT 1");
    for (first, text) in [
        (query("SELECT 'first'"), "SELECT 'first'"),
        (extended("SELECT 'second'"), "SELECT 'second'"),
    ] {
        wire.query("BEGIN ISOLATION LEVEL SERIALIZABLE");
        proxy.record();
        wire.send_raw(&first);
        assert_eq!(state(&wire.read_until_ready()), 'T');
        let heard = proxy.heard();
        assert_eq!(heard.len(), 1, "{heard:?}");
        let heard = String::from_utf8_lossy(&heard[0]).into_owned();
        let begin = heard.find("BEGIN ISOLATION LEVEL SERIALIZABLE").unwrap();
        assert!(begin < heard.find(text).unwrap());
        assert_eq!(wire.value("SHOW transaction_isolation"), "serializable");
        assert_eq!(state(&wire.query("COMMIT")), 'I');
    }
    // Without a statement nothing arrives at all.
    proxy.record();
    for end in ["COMMIT", "END", "ROLLBACK", "ABORT"] {
        assert_eq!(state(&wire.query("BEGIN")), 'T');
        assert_eq!(state(&wire.query(end)), 'I');
    }
    assert!(proxy.heard().is_empty());
}

/// Begins and what is close to one.
const BEGINS: [&str; 40] = [
    "BEGIN",
    "begin;",
    "BEGIN WORK",
    "BEGIN TRANSACTION;;",
    "/* a /* nested */ comment */ BEGIN -- and another",
    "\n\t BEGIN\n;\n",
    "START TRANSACTION",
    "start transaction read only",
    "BEGIN ISOLATION LEVEL SERIALIZABLE",
    "BEGIN ISOLATION LEVEL REPEATABLE READ",
    "BEGIN ISOLATION LEVEL READ COMMITTED",
    "BEGIN ISOLATION LEVEL READ UNCOMMITTED",
    "BEGIN READ ONLY",
    "BEGIN READ WRITE",
    "BEGIN DEFERRABLE",
    "BEGIN NOT DEFERRABLE",
    "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE",
    "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE",
    "BEGIN DEFERRABLE,READ WRITE ISOLATION/**/LEVEL REPEATABLE READ",
    "BEGIN READ ONLY READ WRITE",
    "BEGIN READ ONLY, READ ONLY",
    "BEGIN ISOLATION LEVEL SERIALIZABLE ISOLATION LEVEL READ COMMITTED",
    ";BEGIN",
    "BEGIN; SELECT 1",
    "BEGIN; BEGIN",
    "BEGIN,",
    "BEGIN, READ ONLY",
    "BEGIN READ ONLY,",
    "BEGIN READ",
    "BEGIN READ COMMITTED",
    "BEGIN ISOLATION LEVEL CHAOS",
    "BEGIN WORK WORK",
    "BEGIN ATOMIC",
    "BEGIN 1",
    "\"begin\"",
    "BEGIN$",
    "BEGIN /* open",
    "BEGIN -",
    "START",
    "START WORK",
];

/// What is asked in such a block.
const INSIDE: [&str; 26] = [
    "SHOW transaction_isolation",
    "SHOW transaction_read_only",
    "SHOW transaction_deferrable",
    "COMMIT",
    "END WORK;",
    "ROLLBACK",
    "ABORT TRANSACTION",
    "COMMIT AND CHAIN",
    "COMMIT AND NO CHAIN",
    "ROLLBACK AND CHAIN",
    "BEGIN",
    "START TRANSACTION READ ONLY",
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SAVEPOINT a",
    "ROLLBACK TO a",
    "SELECT 1/0",
    "SELECT broken syntax",
    "",
    ";",
    "SELECT 1; SELECT 2",
    "SELECT 1; COMMIT; SELECT 2",
    "COMMIT; BEGIN; SELECT 1",
    "INSERT INTO kept VALUES (1)",
    "VACUUM kept",
    "COPY (SELECT 1) TO STDOUT",
    "DISCARD ALL",
];

#[test]
fn every_begin_and_all_that_may_follow_is_answered_as_by_postgresql() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE kept (id int)");
    let pgweir = pooled(&postgres);
    let mut direct = Wire::log_in(postgres.port(), "postgres", "postgres", None);
    let mut wire = log_in(&pgweir);
    let mut compare = |sql: &str, story: &str| {
        let expected = essence(&direct.query(sql));
        assert_eq!(essence(&wire.query(sql)), expected, "{sql:?} in {story}");
    };
    let modes = &INSIDE[..3];
    for begin in BEGINS {
        for sql in [begin].iter().chain(modes).chain(&["ROLLBACK"]) {
            compare(sql, begin);
        }
    }
    for begin in [
        "BEGIN",
        "START TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE",
    ] {
        for inside in INSIDE {
            for sql in [begin, inside, "SHOW transaction_isolation", "ROLLBACK"] {
                compare(sql, &format!("{begin}; {inside}"));
            }
        }
    }
    assert_eq!(postgres.sql("SELECT count(*) FROM kept"), "0");
}

#[test]
fn whatever_comes_behind_a_begin_in_one_packet_is_answered_as_by_postgresql() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE kept (id int)");
    let sync = frame(tag::SYNC, &[]);
    let copy = [
        query("COPY kept FROM STDIN"),
        frame(tag::COPY_DATA, b"7\n"),
        frame(tag::COPY_DONE, &[]),
    ]
    .concat();
    let failing = [extended("SELECT 1/0"), extended("INSERT INTO kept VALUES (9)")].concat();
    // Of a function that does not exist.
    let call = frame(tag::FUNCTION_CALL, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let flushed = [parse("", "SELECT 1"), frame(tag::FLUSH, &[]), sync.clone()].concat();
    let talks: [(Vec<u8>, usize); 12] = [
        (query("SELECT 1"), 1),
        ([query("SELECT 1"), query("SELECT 2")].concat(), 2),
        (extended("SELECT 1"), 1),
        ([extended("SELECT 1"), extended("SELECT 2")].concat(), 2),
        (failing, 2),
        (sync.clone(), 1),
        (flushed, 1),
        (copy, 1),
        (call, 1),
        ([bind("", "", &[]), sync.clone()].concat(), 1),
        ([bind("", "nobody", &[]), sync].concat(), 1),
        (query("LISTEN news"), 1),
    ];
    for keys in ["pool_size = 1", "pool_size = 1\nprepared_statements = 0"] {
        let pgweir = Pgweir::before_with(&postgres, keys);
        for (messages, readies) in &talks {
            let hear = |wire: &mut Wire| {
                // An unnamed statement from before: a simple query destroys it.
                wire.send_parse("", "SELECT 'before'");
                wire.send_sync();
                let mut answers = essence(&wire.read_until_ready());
                wire.send_raw(&[query("BEGIN"), messages.clone(), query("SELECT 'last'")].concat());
                for _ in 0..readies + 2 {
                    answers.extend(essence(&wire.read_until_ready()));
                }
                answers.extend(essence(&wire.query("ROLLBACK")));
                answers
            };
            let mut direct = Wire::log_in(postgres.port(), "postgres", "postgres", None);
            let expected = hear(&mut direct);
            let mut wire = log_in(&pgweir);
            assert_eq!(hear(&mut wire), expected, "{}", messages.escape_ascii());
            wire.terminate();
            wire.read_until_closed();
        }
    }
    assert_eq!(postgres.sql("SELECT count(*) FROM kept"), "0");
}

#[test]
fn a_begin_that_the_server_refuses_fails_the_block_and_carries_out_nothing() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE kept (id int)");
    let replica = postgres.replica();
    replica.wait_for_replay(&postgres);
    let pgweir = pooled(&replica);
    let mut wire = log_in(&pgweir);
    for (first, readies) in [
        (query("SELECT pg_notify('never', 'x')"), 1),
        ([query("SELECT 1"), query("SELECT 2")].concat(), 2),
        (extended("SELECT 1"), 1),
        ([extended("SELECT 1"), extended("SELECT 2")].concat(), 2),
        ([parse("", "SELECT 1"), query("LISTEN news")].concat(), 0),
    ] {
        let begun = wire.query("BEGIN ISOLATION LEVEL SERIALIZABLE");
        assert_eq!(state(&begun), 'T');
        wire.send_raw(&first);
        if readies == 0 {
            // A pipeline that has failed is skipped to its Sync.
            wire.send_sync();
        }
        let answers = wire.read_until_ready();
        let error = error(&answers).unwrap();
        assert_eq!(
            (
                error.sqlstate().as_str(),
                error.message().as_str(),
                state(&answers)
            ),
            ("0A000", "cannot use serializable mode in a hot standby", 'E')
        );
        assert!(!answers.iter().any(|frame| frame.tag == tag::DATA_ROW));
        for _ in 1..readies {
            let answers = wire.read_until_ready();
            assert_eq!(state(&answers), 'E');
            assert!(
                !answers.iter().any(|frame| frame.tag == tag::DATA_ROW),
                "{answers:?}"
            );
        }
        assert_eq!(sqlstate(&wire.query("SELECT 1")), "25P02");
        let ended = wire.query("COMMIT");
        assert_eq!(
            (ended[0].body.as_slice(), state(&ended)),
            (b"ROLLBACK\0".as_slice(), 'I')
        );
        assert_eq!(wire.value("SELECT 1"), "1");
    }
    assert!(pgweir.log_contains("refused to begin a transaction"));
    assert!(!pgweir.log_contains("lost a server connection"));
}

#[test]
fn a_begun_block_ends_at_its_time_and_not_at_that_of_an_idle_client() {
    let postgres = Postgres::start();
    let keys = |more: &str| format!("pool_size = 1\nclient_idle_timeout = \"1s\"\n{more}");
    for (more, expected) in [
        ("idle_transaction_timeout = \"3s\"", "25P03"),
        ("transaction_timeout = \"3s\"", "25P04"),
    ] {
        let pgweir = Pgweir::before_with(&postgres, &keys(more));
        let mut wire = log_in(&pgweir);
        wire.query("BEGIN");
        assert_eq!(wire.read_fatal().sqlstate(), expected);
    }
    let pgweir = Pgweir::before_with(&postgres, &keys(""));
    let mut wire = log_in(&pgweir);
    wire.query("BEGIN");
    // Longer than it may idle, were it not for the block.
    postgres.sql("SELECT pg_sleep(2.5)");
    assert_eq!(wire.value("SELECT 1"), "1");
    wire.query("COMMIT");
    assert_eq!(wire.read_fatal().sqlstate(), "57P05");
}

#[test]
fn the_time_of_a_transaction_runs_from_its_begin() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "transaction_timeout = \"2s\"");
    let mut wire = log_in(&pgweir);
    wire.query("BEGIN");
    postgres.sql("SELECT pg_sleep(1)");
    wire.query("SELECT 1");
    wire.send_query("SELECT pg_sleep(30)");
    assert_eq!(wire.read_fatal().sqlstate(), "25P04");
}

#[test]
fn a_first_statement_over_its_time_fails_the_block() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "statement_timeout = \"500ms\"\npool_size = 1");
    let mut wire = log_in(&pgweir);
    wire.query("BEGIN");
    let frames = wire.query("SELECT pg_sleep(30)");
    assert_eq!((sqlstate(&frames).as_str(), state(&frames)), ("57014", 'E'));
    assert_eq!(sqlstate(&wire.query("SELECT 1")), "25P02");
    assert_eq!(state(&wire.query("ROLLBACK")), 'I');
}

#[test]
fn a_begun_block_outlives_the_loss_of_every_server_connection() {
    let postgres = Postgres::start();
    let pgweir = pooled(&postgres);
    let mut wire = log_in(&pgweir);
    wire.value("SELECT 1");
    wire.query("BEGIN READ ONLY");
    postgres.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
    );
    eventually("it is gone", || postgres.connections() == 0);
    assert_eq!(wire.value("SHOW transaction_read_only"), "on");
    assert_eq!(state(&wire.query("COMMIT")), 'I');
}

#[test]
fn a_pause_lets_blocks_begin_and_their_first_statements_wait() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1\npool_timeout = \"30s\"");
    let mut wire = log_in(&pgweir);
    wire.query("BEGIN");
    pgweir.signal(Signal::USR1);
    pgweir.wait_for_log("paused", 1);
    eventually("its connections are closed", || postgres.connections() == 0);
    wire.send_query("SELECT 'resumed'");
    pgweir.signal(Signal::USR2);
    let frames = wire.read_until_ready();
    assert_eq!(
        (frames[1].columns(), state(&frames)),
        (vec!["resumed".to_owned()], 'T')
    );
    let mut other = log_in(&pgweir);
    assert_eq!(state(&other.query("BEGIN")), 'T');
    assert_eq!(state(&wire.query("COMMIT")), 'I');
}

#[test]
fn a_drain_lets_begun_blocks_come_to_their_end() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE kept (id int)");
    let mut pgweir = pooled(&postgres);
    let [mut working, mut empty, mut idle] = [(); 3].map(|()| log_in(&pgweir));
    working.query("BEGIN");
    empty.query("BEGIN");
    pgweir.terminate();
    assert_eq!(idle.read_fatal().sqlstate(), "57P01");
    assert_eq!(state(&working.query("INSERT INTO kept VALUES (1)")), 'T');
    assert_eq!(state(&working.query("COMMIT")), 'I');
    assert_eq!(working.read_fatal().sqlstate(), "57P01");
    assert_eq!(state(&empty.query("COMMIT")), 'I');
    assert_eq!(empty.read_fatal().sqlstate(), "57P01");
    assert!(pgweir.wait().success());
    assert_eq!(postgres.sql("SELECT count(*) FROM kept"), "1");
}

#[test]
fn pgbench_runs_its_blocks_over_one_connection() {
    let postgres = Postgres::start();
    pgbench(&postgres.superuser_url(), "-i -q -s 1").success();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1\npool_timeout = \"30s\"");
    let url = pgweir.url("postgres", "app");
    for (protocol, clients) in [("simple", 8), ("extended", 8), ("prepared", 1)] {
        let report = pgbench(&url, &format!("-n -M {protocol} -c {clients} -t 20")).success();
        let processed = format!("processed: {0}/{0}", clients * 20);
        assert!(report.contains(&processed), "{report}");
    }
    let sums =
        "SELECT (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(delta) FROM pgbench_history)";
    assert_eq!(postgres.sql(sums), "t");
}

#[test]
fn settings_of_a_client_are_in_force_in_its_begun_block() {
    let postgres = Postgres::start();
    let pgweir = pooled(&postgres);
    let mut plain = log_in(&pgweir);
    let mut wire = Wire::connect(pgweir.port());
    wire.startup(&[
        ("user", "postgres"),
        ("database", "app"),
        ("options", "-c work_mem=7MB"),
    ]);
    wire.authenticate("postgres", "");
    for _ in 0..3 {
        assert_eq!(plain.value("SHOW work_mem"), "4MB");
        wire.query("BEGIN ISOLATION LEVEL REPEATABLE READ");
        assert_eq!(wire.value("SHOW work_mem"), "7MB");
        assert_eq!(wire.value("SHOW transaction_isolation"), "repeatable read");
        wire.query("COMMIT");
        plain.query("BEGIN");
        assert_eq!(plain.value("SHOW work_mem"), "4MB");
        plain.query("COMMIT");
    }
}
