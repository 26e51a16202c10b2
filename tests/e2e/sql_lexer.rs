//! The lexer against PostgreSQL's own, as far as that can be seen from outside.

use pgweir::protocol::tag;
use pgweir::sql::{Kind, Lexer, Quoting, Strings, string_of};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::harness::wire::Frame;
use super::harness::{Postgres, Wire};

/// A syntax error names a token and its place: so there is one there, of that text.
#[test]
fn a_token_that_postgresql_complains_about_is_one() {
    let postgres = Postgres::start();
    let mut wire = Wire::log_in(postgres.port(), "postgres", "postgres", None);
    let mut random = StdRng::seed_from_u64(1);
    let mut seen = Seen::default();
    for strings in [Strings::Conforming, Strings::Backslash] {
        let setting = if strings == Strings::Conforming {
            "on"
        } else {
            "off"
        };
        wire.query(&format!(
            "SET standard_conforming_strings = {setting}; SET escape_string_warning = off"
        ));
        for _ in 0..TEXTS {
            let text = any_text(&mut random);
            let frames = wire.query(&text);
            let error = frames.iter().find(|frame| frame.tag == tag::ERROR_RESPONSE);
            if let Some(error) = error {
                check(&text, strings, error, &mut seen);
            }
        }
    }
    // Else the texts say nothing.
    assert!(seen.named > TEXTS / 2 && seen.unended > TEXTS / 100, "{seen:?}");
}

/// What the errors were about.
#[derive(Debug, Default)]
struct Seen {
    named: usize,
    unended: usize,
}

fn check(text: &str, strings: Strings, error: &Frame, seen: &mut Seen) {
    let message = error.field('M').unwrap();
    let (what, near) = match message.split_once(" at or near \"") {
        Some((what, near)) => (what, near.strip_suffix('"').unwrap()),
        None => return,
    };
    let at = error.field('P').unwrap().parse::<usize>().unwrap() - 1;
    let mut lexer = Lexer::new(text.as_bytes(), strings).keeping_comments();
    let mut found = None;
    for token in lexer.by_ref().take_while(|token| token.start <= at) {
        found = Some(token);
    }
    let mut found = found.unwrap_or_else(|| panic!("nothing at {at} of {text:?}: {message}"));
    if found.kind == Kind::String(Quoting::National) {
        // There the letter is a keyword of its own.
        let (letter, string) = found.text.split_at(1);
        (found.start, found.text) = if at == found.start {
            (at, letter)
        } else {
            (found.start + 1, string)
        };
    }
    if what == "syntax error" {
        seen.named += 1;
        assert_eq!(
            (found.start, String::from_utf8_lossy(found.text)),
            (at, near.into()),
            "{text:?}: {message}"
        );
    }
    if what.starts_with("unterminated") {
        seen.unended += 1;
        assert_eq!(found.start, at, "{text:?}: {message}");
        assert!(!lexer.is_sure(), "{text:?}: {message}");
    }
}

/// Pieces that begin, end and hide each other, often behind something that the grammar takes.
fn any_text(random: &mut StdRng) -> String {
    let mut text = String::new();
    if random.random_bool(0.7) {
        text.push_str("SELECT 1");
        for _ in 0..random.random_range(0..4) {
            text.push_str(OPERANDS.choose(random).unwrap());
        }
    }
    for _ in 0..random.random_range(1..8) {
        text.push_str(PIECES.choose(random).unwrap());
    }
    text
}

/// The server shows the value of a string as it reads it.
#[test]
fn a_string_has_the_value_that_postgresql_reads() {
    let postgres = Postgres::start();
    let mut wire = Wire::log_in(postgres.port(), "postgres", "postgres", None);
    let mut random = StdRng::seed_from_u64(2);
    let mut compared = 0;
    for _ in 0..TEXTS {
        let mut text = (*PREFIXES.choose(&mut random).unwrap()).to_owned();
        for _ in 0..random.random_range(0..8) {
            text.push_str(INNER.choose(&mut random).unwrap());
        }
        text.push_str(["'", "$$", "$a$"].choose(&mut random).unwrap());
        let mut lexer = Lexer::new(text.as_bytes(), Strings::Conforming);
        let token = lexer.next().unwrap();
        let frames = wire.query(&format!("SELECT {text}"));
        if frames[0].tag != tag::ROW_DESCRIPTION {
            continue;
        }
        assert!(lexer.is_sure(), "{text:?}");
        let value = string_of(&token).unwrap();
        assert_eq!(frames[1].columns(), [String::from_utf8_lossy(&value)], "{text:?}");
        compared += 1;
    }
    assert!(compared > TEXTS / 10, "{compared}");
}

const TEXTS: usize = 3000;
const OPERANDS: &[&str] = &[
    " + 1",
    "+-1",
    " * .5",
    ", 'a'",
    ", 'a'\n'b'",
    ", E'\\''",
    ", $$a$$",
    ", 0x1f",
    ", a",
    ", \"a\"",
    "/**/",
    "::int",
    ", N'x'",
    ", b'01'",
    ", U&'\\0041'",
    ", '\\\\'",
    "@-1",
    " <> 2",
    " -- x'\n",
    ", (1)",
    ", 1e5",
];
const PIECES: &[&str] = &[
    "'", "'", "''", "\"", "\"a\"", "$$", "$a$", "$", "$1", "\\", "\\'", "\\\\", "/*", "*/", "--", "\n", "\r",
    " ", " ", "\t", ";", ",", "(", ")", "[", "]", ".", "..", ":", "::", ":=", "+", "-", "@", "<", "=", "*",
    "/", "|", "E'", "e", "B'", "x'", "N'", "U&'", "U&\"", "U&", "a", "select", "1", "0x", "1.", ".5", "1e",
    "_", "a$b", "'a'", "{", "~", "?", "!",
];
const PREFIXES: &[&str] = &["'", "E'", "e'", "N'", "$$", "$a$", "'a'\n'", "E'a' -- x\n'"];
const INNER: &[&str] = &[
    "a",
    "''",
    "\\\\",
    "\\n",
    "\\t",
    "\\'",
    "\\x41",
    "\\101",
    "\\7",
    "\\u00e9",
    "\\U0001F600",
    "\\ud83d\\ude00",
    "\\b",
    "\\f",
    "\\r",
    "\\q",
    "$",
    "$a",
    "\n",
    "'\n'",
    "' -- '\n  '",
    "\"",
    "--",
    "/*",
    "0",
    "é",
];
