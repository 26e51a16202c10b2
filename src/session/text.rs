//! Statements as the log shows them: their text, with every literal in it replaced.

use std::fmt::Write as _;

use crate::protocol::{HEAD_LEN, Head, tag};

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
/// anything may stand in them. What is cut in the middle of a string ends there.
#[must_use]
pub fn without_literals(sql: &[u8]) -> String {
    let sql = String::from_utf8_lossy(sql);
    let mut lexer = Lexer {
        rest: &sql,
        out: String::with_capacity(sql.len()),
        next: highest_parameter(&sql).saturating_add(1),
    };
    while lexer.step() {}
    lexer.out.truncate(lexer.out.trim_end().len());
    lexer.out
}

struct Lexer<'a> {
    rest: &'a str,
    out: String,
    /// The number of the next literal.
    next: u32,
}

impl<'a> Lexer<'a> {
    /// Takes one token. Says whether there was one.
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else {
            return false;
        };
        match first {
            '\'' => self.string(0, Escapes::Doubled),
            '"' => {
                let len = 1 + quoted_len(self.tail(1), '"', Escapes::Doubled);
                self.keep(len);
            }
            '$' => self.dollar(),
            '-' if self.rest.starts_with("--") => {
                let len = self.rest.find('\n').unwrap_or(self.rest.len());
                self.skip(len);
                self.space();
            }
            '/' if self.rest.starts_with("/*") => {
                self.skip(comment_len(self.rest));
                self.space();
            }
            '.' if self.tail(1).starts_with(|c: char| c.is_ascii_digit()) => self.number(),
            _ if first.is_ascii_digit() => self.number(),
            _ if first.is_whitespace() => {
                self.skip(first.len_utf8());
                self.space();
            }
            _ if is_word(first) => self.word(),
            _ => self.keep(first.len_utf8()),
        }
        true
    }

    /// A name, a keyword, or the letters before a string.
    fn word(&mut self) {
        let len = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        let word = self.rest.get(..len).unwrap_or_default();
        let behind = self.tail(len);
        if behind.starts_with('\'') && matches!(word, "e" | "E") {
            return self.string(len, Escapes::Backslash);
        }
        if behind.starts_with('\'') && matches!(word, "b" | "B" | "x" | "X" | "n" | "N") {
            return self.string(len, Escapes::Doubled);
        }
        if behind.starts_with("&'") && matches!(word, "u" | "U") {
            return self.string(len + 1, Escapes::Doubled);
        }
        self.keep(len);
    }

    /// A string whose quote stands behind a prefix of this length.
    fn string(&mut self, prefix: usize, escapes: Escapes) {
        let len = quoted_len(self.tail(prefix + 1), '\'', escapes);
        let inner = self.tail(prefix + 1).get(..len).unwrap_or_default();
        self.literal();
        if escapes == Escapes::Doubled && inner.ends_with("\\'") {
            // With standard_conforming_strings off it does not end here. Nothing that may belong to it is shown.
            self.skip(self.rest.len());
        } else {
            self.skip(prefix + 1 + len);
        }
    }

    fn dollar(&mut self) {
        let tail = self.tail(1);
        let digits = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits > 0 {
            return self.keep(1 + digits);
        }
        let tag_len = tail.find(|c| !is_word(c) || c == '$').unwrap_or(tail.len());
        if !tail.get(tag_len..).is_some_and(|rest| rest.starts_with('$')) {
            return self.keep(1);
        }
        let quote = self.rest.get(..tag_len + 2).unwrap_or_default();
        let body = self.tail(quote.len());
        let len = body
            .find(quote)
            .map_or(self.rest.len(), |end| end + 2 * quote.len());
        self.literal();
        self.skip(len);
    }

    fn number(&mut self) {
        let mut len = 0;
        let mut last = ' ';
        for c in self.rest.chars() {
            let is_sign = matches!(c, '+' | '-') && matches!(last, 'e' | 'E');
            if !(c.is_ascii_alphanumeric() || c == '_' || c == '.' || is_sign) {
                break;
            }
            len += c.len_utf8();
            last = c;
        }
        self.literal();
        self.skip(len);
    }

    fn literal(&mut self) {
        let _ = write!(self.out, "${}", self.next);
        self.next = self.next.saturating_add(1);
    }

    fn space(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with(' ') {
            self.out.push(' ');
        }
    }

    fn keep(&mut self, len: usize) {
        self.out.push_str(self.rest.get(..len).unwrap_or_default());
        self.skip(len);
    }

    fn skip(&mut self, len: usize) {
        self.rest = self.tail(len);
    }

    fn tail(&self, len: usize) -> &'a str {
        self.rest.get(len..).unwrap_or_default()
    }
}

/// What stands for a quote inside of quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escapes {
    /// Two of them.
    Doubled,
    /// That, or a backslash before it.
    Backslash,
}

/// How long a quoted text is behind its first quote, the last one included.
fn quoted_len(text: &str, quote: char, escapes: Escapes) -> usize {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && escapes == Escapes::Backslash {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return at + quote.len_utf8();
        }
    }
    text.len()
}

/// How long the comment at the start is. They nest.
fn comment_len(text: &str) -> usize {
    let mut depth = 0_u32;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth = depth.saturating_sub(1);
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn highest_parameter(sql: &str) -> u32 {
    let numbers = sql.split('$').skip(1).filter_map(|text| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text.get(..end).and_then(|digits| digits.parse().ok())
    });
    numbers.max().unwrap_or(0)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
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
