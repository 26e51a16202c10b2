//! What transactions say of channels comes to the same as without the pooler.

use pgweir::protocol::tag;

use crate::harness::wire::{self, tags};
use crate::harness::{Postgres, Wire};

use super::{client, direct, notification, ok, payloads, pooler};

/// What a client hears that has done this, of what is notified then. Of two connections that listen for it either may be the
/// first, so as much as is expected is waited for.
fn heard_after(mut listener: Wire, postgres: &Postgres, texts: &[&str], expected: usize) -> Vec<String> {
    for text in texts {
        let frames = listener.query(text);
        if !text.contains("fails") {
            ok(&frames);
        }
    }
    ok(&listener.query("LISTEN last"));
    let mut notifier = direct(postgres);
    for channel in ["a", "b", "c", "last"] {
        ok(&notifier.query(&format!("NOTIFY {channel}, '{channel}'")));
    }
    let mut heard = Vec::new();
    while heard.len() < expected || !heard.contains(&"last".to_owned()) {
        heard.push(notification(&listener.read_frame()).1);
    }
    assert_eq!(tags(&listener.query("SELECT 1")), "TDCZ", "{texts:?}");
    listener.terminate();
    listener.read_until_closed();
    heard.retain(|payload| payload != "last");
    heard.sort();
    heard
}

/// What a client does, and what it hears afterwards.
const TRANSACTIONS: &[(&[&str], &[&str])] = &[
    (&["LISTEN a"], &["a"]),
    (&["LISTEN a; LISTEN b"], &["a", "b"]),
    (&["BEGIN", "LISTEN a", "COMMIT"], &["a"]),
    (
        &["BEGIN", "LISTEN a", "COMMIT AND CHAIN", "LISTEN b", "ROLLBACK"],
        &["a"],
    ),
    (&["BEGIN", "LISTEN a", "ROLLBACK"], &[]),
    (&["BEGIN", "LISTEN a", "SELECT 1/0 -- fails", "COMMIT"], &[]),
    (
        &["BEGIN", "SELECT 1/0 -- fails", "LISTEN a -- fails", "ROLLBACK"],
        &[],
    ),
    (&["LISTEN a", "LISTEN b", "UNLISTEN a"], &["b"]),
    (&["LISTEN a", "LISTEN b", "UNLISTEN *"], &[]),
    (&["LISTEN a", "BEGIN", "UNLISTEN a", "ROLLBACK"], &["a"]),
    (&["LISTEN a", "BEGIN", "UNLISTEN *", "LISTEN b", "COMMIT"], &["b"]),
    (&["LISTEN a", "DISCARD ALL"], &[]),
    // How a driver's pool cleans a session.
    (
        &[
            "LISTEN a",
            "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;",
        ],
        &[],
    ),
    // A savepoint that was set before, and one that was set since.
    (
        &[
            "BEGIN",
            "SAVEPOINT s",
            "LISTEN a",
            "ROLLBACK TO s",
            "LISTEN b",
            "COMMIT",
        ],
        &["b"],
    ),
    (
        &[
            "BEGIN",
            "LISTEN a",
            "SAVEPOINT s",
            "LISTEN b",
            "SELECT 1/0 -- fails",
            "ROLLBACK TO SAVEPOINT s",
            "LISTEN c",
            "RELEASE s",
            "COMMIT",
        ],
        &["a", "c"],
    ),
    // What cannot be followed pins, and comes to the same.
    (
        &[
            "BEGIN",
            "LISTEN a",
            "SAVEPOINT s; LISTEN b; ROLLBACK TO s",
            "COMMIT",
        ],
        &["a"],
    ),
    (&["BEGIN; LISTEN a; COMMIT"], &["a"]),
    (&["LISTEN a; SELECT 1"], &["a"]),
    (&["DO 'BEGIN EXECUTE ''LISTEN a''; END'"], &["a"]),
    (&["LISTEN a", "SELECT 1; LISTEN a"], &["a"]),
];

#[test]
fn listening_begins_and_ends_with_the_commit() {
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres, "");
    for (texts, expected) in TRANSACTIONS {
        let directly = heard_after(direct(&postgres), &postgres, texts, expected.len() + 1);
        assert_eq!(directly, *expected, "directly: {texts:?}");
        let pooled = heard_after(client(&pgweir), &postgres, texts, expected.len() + 1);
        assert_eq!(pooled, *expected, "{texts:?}");
        let mut next = client(&pgweir);
        assert_eq!(
            next.value("SELECT count(*) FROM pg_listening_channels()"),
            "0",
            "left behind: {texts:?}"
        );
    }
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn throw<'a, T>(&mut self, sides: &'a [T]) -> &'a T {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        &sides[usize::try_from(self.0 >> 33).unwrap() % sides.len()]
    }
}

/// Statements as a client sends them: all at once, or each when the one before is answered.
fn run_all(wire: &mut Wire, texts: &[&str], style: &str) -> Vec<String> {
    let message = |text: &str| match style {
        "extended" | "pipeline" => [
            wire::parse("", text),
            wire::bind("", "", &[]),
            wire::execute("", 0),
            wire::frame(tag::SYNC, &[]),
        ]
        .concat(),
        _ => wire::frame(tag::QUERY, &wire::c_string(text)),
    };
    let mut answers = Vec::new();
    if style == "at once" || style == "pipeline" {
        let messages: Vec<u8> = texts.iter().flat_map(|text| message(text)).collect();
        wire.send_raw(&messages);
    }
    for text in texts {
        if style == "simple" || style == "extended" {
            wire.send_raw(&message(text));
        }
        let frames = wire.read_until_ready();
        let state = frames.last().unwrap().transaction_state();
        answers.push(format!("{text}: {} {state}", tags(&frames)));
    }
    answers
}

#[test]
fn whatever_transactions_say_is_heard_as_without_the_pooler() {
    const STATEMENTS: [&str; 20] = [
        "BEGIN",
        "BEGIN",
        "COMMIT",
        "COMMIT",
        "COMMIT AND CHAIN",
        "ROLLBACK",
        "LISTEN a",
        "LISTEN b",
        "LISTEN c",
        "LISTEN a",
        "UNLISTEN a",
        "UNLISTEN *",
        "SAVEPOINT s",
        "SAVEPOINT t",
        "ROLLBACK TO s",
        "ROLLBACK TO t",
        "RELEASE s",
        "SELECT 1",
        "SELECT 1/0",
        "DISCARD ALL",
    ];
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres, "");
    let mut dice = Dice(1);
    for round in 0..100 {
        let mut texts: Vec<&str> = (0..15).map(|_| *dice.throw(&STATEMENTS)).collect();
        texts.push("COMMIT");
        let style = *dice.throw(&["simple", "extended", "at once", "pipeline"]);
        let (mut pooled, mut directly) = (client(&pgweir), direct(&postgres));
        let answers = run_all(&mut directly, &texts, style);
        assert_eq!(run_all(&mut pooled, &texts, style), answers, "{round}: {style}");
        let expected = directly
            .rows("SELECT * FROM pg_listening_channels() ORDER BY 1")
            .concat();
        directly.terminate();
        ok(&pooled.query("LISTEN last"));
        let mut notifier = direct(&postgres);
        ok(&notifier.query("NOTIFY a, 'a'; NOTIFY b, 'b'; NOTIFY c, 'c'; NOTIFY last, 'end'"));
        assert_eq!(payloads(&mut pooled), expected, "{round}: {style}: {texts:?}");
        pooled.terminate();
        pooled.read_until_closed();
        assert_eq!(
            client(&pgweir).value("SELECT count(*) FROM pg_listening_channels()"),
            "0",
            "left behind in {round}: {style}: {texts:?}"
        );
    }
}
