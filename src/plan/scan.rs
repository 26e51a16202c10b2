//! A text cut into PostgreSQL's tokens, by the rules of `src/backend/parser/scan.l` with `standard_conforming_strings` on.
//! Nothing is decoded and nothing allocated: a token is a kind and a range.

use super::glyph::{Glyph, glyph, is_identifier, is_identifier_start, is_operator, is_space};

/// The tokens of a text, comments and white space left out.
#[derive(Debug, Clone)]
pub(super) struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword or a name without quotes.
    Word,
    /// A name in double quotes, `U&` included.
    Quoted,
    /// Any literal with quotes or dollars, its continuations included.
    Text,
    Number,
    /// `$1`.
    Parameter,
    Operator,
    /// One of `,()[].;:`, or `::`, `:=`, `..`.
    Sign,
    /// What PostgreSQL refuses, or a quote or comment without an end. Nothing follows it.
    Broken,
}

/// How a quoted text ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    /// Nothing stands for a quote.
    None,
    /// A quote is doubled.
    Doubled,
    /// A backslash takes what follows it, too.
    Backslash,
}

impl<'a> Scan<'a> {
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// The bytes of a token.
    pub(super) fn slice(&self, token: Token) -> &'a [u8] {
        self.text.get(token.start..token.end).unwrap_or_default()
    }

    #[inline]
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    /// Where the bytes from `at` on that `keep` end.
    #[inline]
    fn run(&self, at: usize, keep: impl Fn(u8) -> bool) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        rest.iter()
            .position(|byte| !keep(*byte))
            .map_or(self.text.len(), |length| at + length)
    }

    /// The first byte at or after `at` that is neither space nor comment; `None` for a comment without an end.
    #[inline]
    fn past_space(&self, at: usize) -> Option<usize> {
        // One space or none is what stands between most tokens.
        let at = at + usize::from(self.byte(at) == b' ');
        match glyph(self.byte(at)) {
            Glyph::Space | Glyph::Operator => self.past_comments(at),
            Glyph::Letter
            | Glyph::Digit
            | Glyph::Dollar
            | Glyph::Quote
            | Glyph::DoubleQuote
            | Glyph::Sign
            | Glyph::Other => Some(at),
        }
    }

    fn past_comments(&self, mut at: usize) -> Option<usize> {
        loop {
            at = self.run(at, is_space);
            match (self.byte(at), self.byte(at + 1)) {
                (b'-', b'-') => at = self.line_end(at),
                (b'/', b'*') => at = self.comment_end(at)?,
                _ => return Some(at),
            }
        }
    }

    fn line_end(&self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        memchr::memchr2(b'\n', b'\r', rest).map_or(self.text.len(), |length| at + length)
    }

    /// Comments nest.
    fn comment_end(&self, start: usize) -> Option<usize> {
        let mut depth = 1_usize;
        let mut at = start + 2;
        loop {
            let rest = self.text.get(at..)?;
            at += memchr::memchr2(b'*', b'/', rest)?;
            match (self.byte(at), self.byte(at + 1)) {
                (b'*', b'/') => {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        return Some(at);
                    }
                }
                (b'/', b'*') => {
                    depth += 1;
                    at += 2;
                }
                _ => at += 1,
            }
        }
    }

    /// The end of what begins with the quote at `at`, and goes on behind a new line.
    fn text_end(&self, mut at: usize, escape: Escape) -> Option<usize> {
        loop {
            let end = self.quoted_end(at, b'\'', escape)?;
            match self.continuation(end) {
                Some(next) => at = next,
                None => return Some(end),
            }
        }
    }

    fn quoted_end(&self, start: usize, quote: u8, escape: Escape) -> Option<usize> {
        let mut at = start + 1;
        loop {
            let rest = self.text.get(at..)?;
            let length = match escape {
                Escape::None | Escape::Doubled => memchr::memchr(quote, rest)?,
                Escape::Backslash => memchr::memchr2(quote, b'\\', rest)?,
            };
            at += length;
            let is_end = self.byte(at) == quote && (escape == Escape::None || self.byte(at + 1) != quote);
            if is_end {
                return Some(at + 1);
            }
            at += 2;
        }
    }

    /// A quote that goes on with the text before `at`: white space with a new line is between, and comments to the end of a line.
    fn continuation(&self, mut at: usize) -> Option<usize> {
        let mut lines = 0;
        loop {
            match (self.byte(at), self.byte(at + 1)) {
                (b'\n' | b'\r', _) => lines += 1,
                (b'-', b'-') => {
                    at = self.line_end(at);
                    continue;
                }
                (b'\'', _) => return (lines > 0).then_some(at),
                (byte, _) if is_space(byte) => {}
                _ => return None,
            }
            at += 1;
        }
    }

    /// The end of `$tag$ … $tag$`; `None` where none begins; `Some(None)` where it has no end.
    fn dollar_end(&self, start: usize) -> Option<Option<usize>> {
        let tag_end = if is_identifier_start(self.byte(start + 1)) {
            self.run(start + 1, |byte| is_identifier(byte) && byte != b'$')
        } else {
            start + 1
        };
        if self.byte(tag_end) != b'$' {
            return None;
        }
        let tag = self.text.get(start..=tag_end)?;
        let rest = self.text.get(tag_end + 1..)?;
        let found = memchr::memmem::find(rest, tag);
        Some(found.map(|length| tag_end + 1 + length + tag.len()))
    }

    /// Follows PostgreSQL 16 and later; older ones refuse `0x1F` and `1_000`, which changes nothing here.
    fn number_end(&self, start: usize) -> Option<usize> {
        let prefix = [self.byte(start), self.byte(start + 1).to_ascii_lowercase()];
        let radix = match &prefix {
            b"0x" => Some(16),
            b"0o" => Some(8),
            b"0b" => Some(2),
            _ => None,
        };
        let end = match radix {
            Some(radix) => self.digits(start + 2, radix),
            None => self.decimal_end(start),
        };
        // Digits with letters behind them are refused.
        let is_whole = !is_identifier_start(self.byte(end)) && (radix.is_none() || end > start + 2);
        is_whole.then_some(end)
    }

    fn decimal_end(&self, start: usize) -> usize {
        let mut end = self.digits(start, 10);
        // `1..10` is two numbers.
        if self.byte(end) == b'.' && self.byte(end + 1) != b'.' {
            end = self.digits(end + 1, 10);
        }
        if self.byte(end).eq_ignore_ascii_case(&EXPONENT) {
            let sign = usize::from(matches!(self.byte(end + 1), b'+' | b'-'));
            if self.byte(end + 1 + sign).is_ascii_digit() {
                end = self.digits(end + 1 + sign, 10);
            }
        }
        end
    }

    /// Digits with single underscores between them.
    fn digits(&self, mut at: usize, radix: u32) -> usize {
        let is_digit = |at: usize| char::from(self.byte(at)).is_digit(radix);
        loop {
            if is_digit(at) || (self.byte(at) == b'_' && is_digit(at + 1)) {
                at += 1;
            } else {
                return at;
            }
        }
    }

    /// An operator ends before a comment, and gives up `+` and `-` at its end unless it has a character that SQL's own lack.
    fn operator_end(&self, start: usize) -> usize {
        if !is_operator(self.byte(start + 1)) {
            return start + 1;
        }
        let mut end = self.run(start, is_operator);
        for at in start + 1..end {
            if matches!((self.byte(at), self.byte(at + 1)), (b'-', b'-') | (b'/', b'*')) {
                end = at;
                break;
            }
        }
        let own = self.text.get(start..end).unwrap_or_default();
        if !own.iter().any(|byte| b"~!@#^&|`?%".contains(byte)) {
            while end > start + 1 && matches!(self.byte(end - 1), b'+' | b'-') {
                end -= 1;
            }
        }
        end
    }

    #[inline]
    fn word(&self, start: usize) -> (Kind, Option<usize>) {
        let next = self.byte(start + 1);
        if next == b'\'' || next == b'&' {
            let letter = self.byte(start).to_ascii_lowercase();
            if next == b'\'' && b"bx".contains(&letter) {
                return (Kind::Text, self.text_end(start + 1, Escape::None));
            }
            if next == b'\'' && letter == EXPONENT {
                return (Kind::Text, self.text_end(start + 1, Escape::Backslash));
            }
            if next == b'&' && b"u".contains(&letter) {
                match self.byte(start + 2) {
                    b'\'' => return (Kind::Text, self.text_end(start + 2, Escape::Doubled)),
                    b'"' => return (Kind::Quoted, self.quoted_end(start + 2, b'"', Escape::Doubled)),
                    _ => {}
                }
            }
        }
        (Kind::Word, Some(self.run(start, is_identifier)))
    }

    fn dollar(&self, start: usize) -> (Kind, Option<usize>) {
        if self.byte(start + 1).is_ascii_digit() {
            let end = self.run(start + 1, |byte| byte.is_ascii_digit());
            // Servers before 15 take letters behind it for another word.
            return (Kind::Parameter, Some(end));
        }
        (Kind::Text, self.dollar_end(start).flatten())
    }

    fn sign(&self, start: usize) -> (Kind, Option<usize>) {
        match (self.byte(start), self.byte(start + 1)) {
            (b'.', digit) if digit.is_ascii_digit() => (Kind::Number, self.number_end(start)),
            (b':', b':' | b'=') | (b'.', b'.') => (Kind::Sign, Some(start + 2)),
            _ => (Kind::Sign, Some(start + 1)),
        }
    }
}

impl Iterator for Scan<'_> {
    type Item = Token;

    #[inline]
    fn next(&mut self) -> Option<Token> {
        let broken = |start: usize, text: &[u8]| Token {
            kind: Kind::Broken,
            start,
            end: text.len(),
        };
        let Some(start) = self.past_space(self.at) else {
            let start = self.at;
            self.at = self.text.len();
            return Some(broken(start, self.text));
        };
        let first = *self.text.get(start)?;
        let (kind, end) = match glyph(first) {
            Glyph::Letter => self.word(start),
            Glyph::Digit => (Kind::Number, self.number_end(start)),
            Glyph::Quote => (Kind::Text, self.text_end(start, Escape::Doubled)),
            Glyph::DoubleQuote => (Kind::Quoted, self.quoted_end(start, b'"', Escape::Doubled)),
            Glyph::Dollar => self.dollar(start),
            Glyph::Operator => (Kind::Operator, Some(self.operator_end(start))),
            Glyph::Sign => self.sign(start),
            Glyph::Space | Glyph::Other => (Kind::Broken, None),
        };
        let token = match end {
            Some(end) => Token { kind, start, end },
            None => broken(start, self.text),
        };
        self.at = token.end;
        Some(token)
    }
}

/// Begins an exponent behind a number, and a text with escapes before a quote.
const EXPONENT: u8 = b'e';

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<(Kind, &str)> {
        let scan = Scan::new(text.as_bytes());
        scan.clone()
            .map(|token| (token.kind, &text[token.start..token.end]))
            .collect()
    }

    #[test]
    fn a_text_goes_on_behind_a_new_line_in_the_same_spelling() {
        assert_eq!(cut("E'a'\n 'b\\'c'"), [(Kind::Text, "E'a'\n 'b\\'c'")]);
        assert_eq!(cut("'a' 'b'"), [(Kind::Text, "'a'"), (Kind::Text, "'b'")]);
        assert_eq!(cut("'a' -- x\n'b'"), [(Kind::Text, "'a' -- x\n'b'")]);
    }

    #[test]
    fn operators_end_where_postgresql_ends_them() {
        let operators = |text| cut(text).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(operators("*-1"), ["*", "-", "1"]);
        assert_eq!(operators("@-1"), ["@-", "1"]);
        assert_eq!(operators("*--1"), ["*"]);
        assert_eq!(operators("||/*x*/2"), ["||", "2"]);
    }

    #[test]
    fn numbers_names_and_dollars_keep_apart() {
        use Kind::{Number, Parameter, Sign, Text, Word};
        assert_eq!(cut("1..2"), [(Number, "1"), (Sign, ".."), (Number, "2")]);
        assert_eq!(
            cut("1.5e-3+0xFF"),
            [(Number, "1.5e-3"), (Kind::Operator, "+"), (Number, "0xFF")]
        );
        assert_eq!(
            cut("a$b$ $1 $x$'$x$"),
            [(Word, "a$b$"), (Parameter, "$1"), (Text, "$x$'$x$")]
        );
        assert_eq!(cut("1a"), [(Kind::Broken, "1a")]);
        assert_eq!(cut("/* /* */ 'x"), [(Kind::Broken, "/* /* */ 'x")]);
    }
}
