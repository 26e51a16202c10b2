//! Statements as the log shows them: their text, with every literal in it replaced.

use std::fmt::Write as _;

use crate::protocol::{HEAD_LEN, Head, tag};
use crate::sql::{Kind, Lexer, Strings};

use super::statement::ClientStatements;

/// Appends the texts of the statements that a client's messages run. `input` begins with a message; the last may be cut.
pub fn collect(input: &[u8], statements: &ClientStatements, text: &mut Vec<u8>) {
    let mut at = 0;
    let mut parsed = false;
    while let Ok(Some(head)) = Head::read(input.get(at..).unwrap_or_default()) {
        if text.len() >= TEXT_LEN_MAX {
            return;
        }
        let end = (at + head.len()).min(input.len());
        let body = input.get(at + HEAD_LEN..end).unwrap_or_default();
        match head.tag {
            tag::QUERY => append(text, first(body)),
            tag::PARSE => {
                parsed = true;
                append(text, first(behind_first(body)));
            }
            // What was prepared with it stands there already.
            tag::BIND if !parsed => {
                let name = first(behind_first(body));
                let unnamed = statements.unnamed.as_ref().filter(|_| name.is_empty());
                let statement = unnamed.or_else(|| statements.named(name));
                append(text, statement.and_then(|known| known.text()).unwrap_or(UNKNOWN));
            }
            _ => {}
        }
        at = end;
    }
}

/// The text on one line, with strings and numbers replaced by `$n`, counted on from its own parameters. Comments go, since
/// anything may stand in them. What is cut in the middle of a string ends there; and a string that would end elsewhere with
/// `standard_conforming_strings` off, since nothing that may belong to it is shown.
#[must_use]
pub fn without_literals(sql: &[u8]) -> String {
    let sql = String::from_utf8_lossy(sql);
    let mut out = String::with_capacity(sql.len());
    let mut next = highest_parameter(&sql).saturating_add(1);
    let mut end = 0;
    for token in Lexer::new(sql.as_bytes(), Strings::Unknown) {
        if token.start > end && !out.is_empty() {
            out.push(' ');
        }
        end = token.end();
        match token.kind {
            Kind::String(_) | Kind::Number => {
                let _ = write!(out, "${next}");
                next = next.saturating_add(1);
            }
            Kind::CodedName
            | Kind::Comment
            | Kind::Operator
            | Kind::Parameter
            | Kind::Punctuation
            | Kind::QuotedName
            | Kind::Word => out.push_str(sql.get(token.range()).unwrap_or_default()),
        }
    }
    out
}

fn highest_parameter(sql: &str) -> u32 {
    let numbers = sql.split('$').skip(1).filter_map(|text| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text.get(..end).and_then(|digits| digits.parse().ok())
    });
    numbers.max().unwrap_or(0)
}

fn append(text: &mut Vec<u8>, more: &[u8]) {
    if more.is_empty() {
        return;
    }
    if !text.is_empty() {
        text.extend_from_slice(b"; ");
    }
    let room = TEXT_LEN_MAX.saturating_sub(text.len());
    text.extend_from_slice(more.get(..more.len().min(room)).unwrap_or_default());
}

/// The string at the start, without its zero.
fn first(body: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, body).unwrap_or(body.len());
    body.get(..end).unwrap_or_default()
}

fn behind_first(body: &[u8]) -> &[u8] {
    body.get(first(body).len() + 1..).unwrap_or_default()
}

/// A line of the log need not hold more.
const TEXT_LEN_MAX: usize = 4096;
/// What was prepared where it was not seen.
const UNKNOWN: &[u8] = b"(prepared earlier)";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(sql: &str) -> String {
        without_literals(sql.as_bytes())
    }

    #[test]
    fn literals_are_replaced_and_names_stay() {
        for (sql, expected) in [
            ("SELECT 1", "SELECT $1"),
            (
                "select a1, \"B 2\" from t3 where x=-1.5e+10",
                "select a1, \"B 2\" from t3 where x=-$1",
            ),
            (
                "SELECT 'it''s', E'\\'x', .5, 0xFF, 1_000",
                "SELECT $1, $2, $3, $4, $5",
            ),
            ("SELECT $2, 'x', $1", "SELECT $2, $3, $1"),
            ("SELECT $$a'b$$, $t$ $$ $t$, $1", "SELECT $2, $3, $1"),
            (
                "SELECT B'01', x'ff', N'a', U&'\\0041', u'a'",
                "SELECT $1, $2, $3, $4, u$5",
            ),
            (
                "SELECT\n\t1  -- secret\n + 2 /* a /* b */ 'c' */ + x",
                "SELECT $1 + $2 + x",
            ),
            ("SELECT 'C:\\', secret", "SELECT $1"),
            ("SELECT 'cut in the midd", "SELECT $1"),
            ("SELECT $t$ cut", "SELECT $1"),
            ("SELECT a$b, $, \"x\"\"1\"", "SELECT a$b, $, \"x\"\"1\""),
            (
                "SELECT größe2 FROM x WHERE ü = 'ü'",
                "SELECT größe2 FROM x WHERE ü = $1",
            ),
            ("", ""),
        ] {
            assert_eq!(shown(sql), expected, "{sql}");
        }
    }

    proptest! {
        #[test]
        fn no_input_makes_it_fail(sql in "\\PC*", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (shown(&sql), without_literals(&bytes));
            collect(&bytes, &ClientStatements::default(), &mut Vec::new());
        }

        #[test]
        fn what_stands_in_a_string_is_never_shown(secret in "[a-z]{8}", before in "[ -~&&[^'$\\\\/-]]{0,9}") {
            let text = shown(&format!("SELECT {}, '{secret}'", before.replace('"', "")));
            prop_assert!(!text.contains(&secret) || before.contains(&secret));
        }
    }
}
