//! Tokens are those of PostgreSQL's own scanner.

use pg_query::protobuf::Token as Theirs;
use proptest::prelude::*;

use crate::sql::{Lexer, Strings};

/// Starts and ends of tokens, `None` where the scanner refuses the text.
fn theirs(text: &str) -> Option<Vec<(usize, usize)>> {
    let scanned = pg_query::scan(text).ok()?;
    let is_comment = |token: i32| token == Theirs::CComment as i32 || token == Theirs::SqlComment as i32;
    let tokens = scanned.tokens.iter().filter(|token| !is_comment(token.token));
    let mut ends: Vec<(usize, usize)> = Vec::new();
    for token in tokens {
        let (start, end) = (token.start as usize, token.end as usize);
        match ends.last_mut() {
            // The letter before a national string is a word of its own there.
            Some(before)
                if before.1 - before.0 == 1 && before.1 == start && is_national(&text[before.0..]) =>
            {
                before.1 = end
            }
            Some(_) | None => ends.push((start, end)),
        }
    }
    // What begins no token is passed on by the scanner, for the grammar to refuse.
    let is_refused = |(start, end): &(usize, usize)| ["$", "{", "\\"].contains(&&text[*start..*end]);
    (!ends.iter().any(is_refused)).then_some(ends)
}

fn is_national(text: &str) -> bool {
    text.starts_with("n'") || text.starts_with("N'")
}

fn ours(text: &str) -> Vec<(usize, usize)> {
    Lexer::new(text.as_bytes(), Strings::Conforming)
        .map(|token| (token.start, token.end()))
        .collect()
}

/// Pieces that scanners go wrong with.
const PIECES: [&str; 62] = [
    "'", "''", "\"", "\"\"", "\\", "E'", "e'", "U&'", "u&\"", "B'1", "x'f", "n'", "$", "$$", "$a$", "$1",
    "$a", "--", "-", "/*", "*/", "/", "*", "\n", "\r", " ", "\t", "a", "select", "é", "_", "1", "0x1F",
    "1_0", "1e5", "1.", ".5", "..", ".", ":", "::", ":=", "=>", "<=", ">=", "<>", "!=", "+", "@", "||", "#",
    "?", "&", "(", ")", "[", "]", ",", ";", "=", "{", "|/",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn a_text_is_cut_where_postgresql_cuts_it(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..14)) {
        let text = pieces.concat();
        // What PostgreSQL refuses may be cut in any way.
        if let Some(theirs) = theirs(&text) {
            prop_assert_eq!(ours(&text), theirs, "{:?}", text);
        }
    }
}
