//! The tokens of a text, one after the other.

use std::ops::Range;

use super::byte::{Class, class, is_word};
use super::extent::{
    Escapes, blanks_len, comment_len, line_comment_len, number_len, operator_len, quoted_name_len,
    string_len, tag, tagged_len, word_len,
};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only where comments are asked for.
    Comment,
    /// A keyword, or a name without quotes.
    Word,
    /// A name in double quotes.
    QuotedName,
    /// `U&"…"`, a name that may be written in code points.
    CodedName,
    String(Quoting),
    Number,
    /// `$1`
    Parameter,
    Operator,
    /// `,` `;` `.` `:` `::` `:=` `..`, parentheses and brackets; a character that SQL has no use for.
    Punctuation,
}

/// How a string is quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quoting {
    /// `'…'`
    Plain,
    /// `N'…'`
    National,
    /// `E'…'`
    Escaped,
    /// `U&'…'`
    Coded,
    /// `B'…'` and `X'…'`
    Bits,
    /// `$$…$$`, perhaps with a tag between the signs.
    Dollars,
}

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: Kind,
    /// As it is written.
    pub text: &'a [u8],
    /// Where it begins.
    pub start: usize,
}

impl<'a> Token<'a> {
    /// A keyword or a name as it is written, without the quotes around it.
    #[must_use]
    pub fn bare(&self) -> Option<&'a [u8]> {
        match self.kind {
            Kind::Word => Some(self.text),
            Kind::QuotedName => self.text.get(1..self.text.len().saturating_sub(1)),
            Kind::CodedName
            | Kind::Comment
            | Kind::String(_)
            | Kind::Number
            | Kind::Parameter
            | Kind::Operator
            | Kind::Punctuation => None,
        }
    }

    #[must_use]
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }

    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.start..self.end()
    }

    /// Whether it is this keyword.
    #[must_use]
    pub fn is(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word.as_bytes())
    }

    #[must_use]
    pub fn is_any(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(word))
    }

    /// Whether it is this operator or punctuation.
    #[must_use]
    pub fn is_sign(&self, sign: &[u8]) -> bool {
        matches!(self.kind, Kind::Operator | Kind::Punctuation) && self.text == sign
    }
}

/// What a backslash does in a string without a letter before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strings {
    /// It is a character: `standard_conforming_strings` is on.
    Conforming,
    /// It takes away the meaning of the next: the setting is off.
    Backslash,
    /// The setting is not known. A string that would end elsewhere is taken to go on to the end of the text.
    Unknown,
}

/// Cuts a text. Ends with it, or before a zero.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    strings: Strings,
    comments: Comments,
    doubt: Doubt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comments {
    Passed,
    Kept,
}

/// Whether every token so far ends where it was said to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    None,
    /// The last has no end, or `standard_conforming_strings` tells where it is.
    Some,
}

impl<'a> Lexer<'a> {
    #[must_use]
    pub fn new(text: &'a [u8], strings: Strings) -> Self {
        Self {
            text,
            at: 0,
            strings,
            comments: Comments::Passed,
            doubt: Doubt::None,
        }
    }

    /// Comments are tokens, too.
    #[must_use]
    pub fn keeping_comments(self) -> Self {
        Self {
            comments: Comments::Kept,
            ..self
        }
    }

    /// Whether every token so far has its end. One that has none reaches to the end of the text.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        self.doubt == Doubt::None
    }

    /// Whether the text was cut to its end, and every token has its own.
    #[must_use]
    pub fn is_through(&self) -> bool {
        self.is_sure() && self.at >= self.text.len()
    }

    /// Where the last token has ended.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// What follows on the last token.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next token, which stays the next.
    #[must_use]
    pub fn peek(&self) -> Option<Token<'a>> {
        self.clone().next()
    }

    #[inline(always)]
    fn word(&self, rest: &[u8]) -> (Kind, Option<usize>) {
        match rest {
            // Most words are told from a string by their second byte.
            [_, b'\'' | b'&', ..] => self.prefixed(rest),
            _ => (Kind::Word, Some(word_len(rest))),
        }
    }

    /// A letter before a quote or an ampersand.
    fn prefixed(&self, rest: &[u8]) -> (Kind, Option<usize>) {
        let (quoting, prefix) = match rest {
            [b'e' | b'E', b'\'', ..] => (Quoting::Escaped, 1),
            [b'n' | b'N', b'\'', ..] => (Quoting::National, 1),
            [b'b' | b'B' | b'x' | b'X', b'\'', ..] => (Quoting::Bits, 1),
            [b'u' | b'U', b'&', b'\'', ..] => (Quoting::Coded, 2),
            [b'u' | b'U', b'&', b'"', ..] => return (Kind::CodedName, quoted_name_len(rest, 2)),
            _ => return (Kind::Word, Some(word_len(rest))),
        };
        self.string(rest, quoting, prefix)
    }

    fn string(&self, rest: &[u8], quoting: Quoting, prefix: usize) -> (Kind, Option<usize>) {
        let len = match quoting {
            Quoting::Plain | Quoting::National => self.plain_len(rest, prefix),
            Quoting::Escaped => string_len(rest, prefix, Escapes::Backslash),
            Quoting::Bits => string_len(rest, prefix, Escapes::None),
            Quoting::Coded | Quoting::Dollars => string_len(rest, prefix, Escapes::Doubled),
        };
        (Kind::String(quoting), len)
    }

    fn plain_len(&self, rest: &[u8], prefix: usize) -> Option<usize> {
        if self.strings == Strings::Backslash {
            return string_len(rest, prefix, Escapes::Backslash);
        }
        let len = string_len(rest, prefix, Escapes::Doubled)?;
        let is_certain = self.strings == Strings::Conforming
            || memchr::memchr(b'\\', rest.get(..len)?).is_none()
            || string_len(rest, prefix, Escapes::Backslash) == Some(len);
        is_certain.then_some(len)
    }

    /// The next token, for a loop that all time is spent in: the code is there, not called.
    #[inline(always)]
    pub fn cut(&mut self) -> Option<Token<'a>> {
        loop {
            // One space is what stands between most tokens.
            let rest = match self.rest() {
                [b' ', rest @ ..] => {
                    self.at += 1;
                    rest
                }
                rest => rest,
            };
            let (kind, len) = match class(*rest.first()?) {
                Class::End => return None,
                Class::Blank => {
                    self.at += blanks_len(rest);
                    continue;
                }
                Class::Letter => self.word(rest),
                Class::Digit => (Kind::Number, Some(number_len(rest))),
                Class::Quote => self.string(rest, Quoting::Plain, 0),
                Class::DoubleQuote => (Kind::QuotedName, quoted_name_len(rest, 0)),
                Class::Dollar => dollar(rest),
                Class::Dot => dot(rest),
                Class::Colon => colon(rest),
                Class::Operator => operator(rest),
                Class::Sign => (Kind::Punctuation, Some(1)),
            };
            if len.is_none() {
                self.doubt = Doubt::Some;
            }
            let text = rest.get(..len.unwrap_or(rest.len())).unwrap_or(rest);
            let start = self.at;
            self.at += text.len();
            if kind != Kind::Comment || self.comments == Comments::Kept {
                return Some(Token { kind, text, start });
            }
        }
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.cut()
    }
}

fn dollar(rest: &[u8]) -> (Kind, Option<usize>) {
    if let Some(tag) = tag(rest) {
        return (Kind::String(Quoting::Dollars), tagged_len(rest, tag));
    }
    let behind = rest.get(1..).unwrap_or_default();
    let digits = behind.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match digits {
        0 => (Kind::Punctuation, Some(1)),
        _ => (Kind::Parameter, Some(1 + digits)),
    }
}

fn dot(rest: &[u8]) -> (Kind, Option<usize>) {
    match rest {
        [_, b'.', ..] => (Kind::Punctuation, Some(2)),
        [_, b'0'..=b'9', ..] => (Kind::Number, Some(number_len(rest))),
        _ => (Kind::Punctuation, Some(1)),
    }
}

fn colon(rest: &[u8]) -> (Kind, Option<usize>) {
    match rest {
        [_, b':' | b'=', ..] => (Kind::Punctuation, Some(2)),
        _ => (Kind::Punctuation, Some(1)),
    }
}

fn operator(rest: &[u8]) -> (Kind, Option<usize>) {
    match rest {
        [b'-', b'-', ..] => (Kind::Comment, Some(line_comment_len(rest))),
        [b'/', b'*', ..] => (Kind::Comment, comment_len(rest)),
        _ => (Kind::Operator, Some(operator_len(rest))),
    }
}

/// The runs of letters, digits and underscores in a text, wherever they stand: in quotes and comments, too. What looks for a
/// word among them may find it too often, but never misses it.
pub fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| !is_word(*byte)).filter(|word| !word.is_empty())
}
