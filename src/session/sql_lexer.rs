//! SQL cut into tokens, as far as it takes to find names and the ends of statements.

use std::ops::Range;

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) range: Range<usize>,
    shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// A keyword, or a name without quotes.
    Word,
    /// A name in quotes.
    Quoted,
    /// A string, a number, a parameter, a sign.
    Other,
}

impl Token {
    pub(super) fn bytes<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(self.range.clone()).unwrap_or_default()
    }

    pub(super) fn is_word(&self) -> bool {
        self.shape == Shape::Word
    }

    pub(super) fn is_name(&self) -> bool {
        // A name of no characters is an error.
        self.shape == Shape::Word || (self.shape == Shape::Quoted && self.range.len() > 2)
    }
}

/// The tokens of a text, up to its end, a zero, or what cannot be told apart.
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
    doubt: Doubt,
}

/// Whether the text was understood so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doubt {
    None,
    /// Where a string ends hangs on `standard_conforming_strings`, a name is written in code points, or something has no end.
    Some,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        let len = memchr::memchr(0, text).unwrap_or(text.len());
        Self {
            text: text.get(..len).unwrap_or(text),
            at: 0,
            depth: 0,
            doubt: Doubt::None,
        }
    }

    pub(super) fn is_sure(&self) -> bool {
        self.doubt == Doubt::None
    }

    /// The next token of the present statement; none at its end.
    pub(super) fn next_in_statement(&mut self) -> Option<Token> {
        let (before, depth) = (self.at, self.depth);
        let token = self.next()?;
        if token.bytes(self.text) == b";" && self.depth == 0 {
            (self.at, self.depth) = (before, depth);
            return None;
        }
        Some(token)
    }

    /// The first token of the next statement.
    pub(super) fn next_beginning(&mut self) -> Option<Token> {
        self.depth = 0;
        loop {
            let token = self.next()?;
            if token.bytes(self.text) != b";" {
                return Some(token);
            }
        }
    }

    fn token(&mut self, shape: Shape, len: usize) -> Token {
        let start = self.at;
        self.at = self.text.len().min(start + len);
        Token {
            range: start..self.at,
            shape,
        }
    }

    fn give_up(&mut self) {
        self.doubt = Doubt::Some;
        self.at = self.text.len();
    }

    fn pass_blanks(&mut self) {
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let len = match rest {
                [b'-', b'-', ..] => memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len()),
                [b'/', b'*', ..] => match comment_len(rest) {
                    Some(len) => len,
                    None => return self.give_up(),
                },
                [byte, ..] if is_blank(*byte) => 1,
                _ => return,
            };
            self.at += len;
        }
    }

    /// The length of what is quoted from here on, with both quotes, where two quotes inside stand for one.
    fn quoted_len(&self, prefix: usize, quote: u8) -> Option<usize> {
        let mut at = prefix + 1;
        loop {
            let rest = self.text.get(self.at + at..)?;
            at += memchr::memchr(quote, rest)? + 1;
            if self.text.get(self.at + at) != Some(&quote) {
                return Some(at);
            }
            at += 1;
        }
    }

    /// The same for a string in which a backslash takes away the meaning of what follows.
    fn escaped_len(&self, prefix: usize) -> Option<usize> {
        let mut at = prefix + 1;
        loop {
            let rest = self.text.get(self.at + at..)?;
            let next = memchr::memchr2(b'\'', b'\\', rest)?;
            at += next + 1;
            let is_escape = rest.get(next) == Some(&b'\\');
            if !is_escape && self.text.get(self.at + at) != Some(&b'\'') {
                return Some(at);
            }
            at += 1;
        }
    }

    fn string(&mut self, prefix: usize) -> Option<Token> {
        let len = self.quoted_len(prefix, b'\'');
        let inner = len.and_then(|len| self.text.get(self.at..self.at + len));
        match inner {
            // With standard_conforming_strings off it may end elsewhere.
            Some(inner) if memchr::memchr(b'\\', inner).is_none() => {
                Some(self.token(Shape::Other, inner.len()))
            }
            _ => {
                self.give_up();
                None
            }
        }
    }

    fn taken(&mut self, shape: Shape, len: Option<usize>) -> Option<Token> {
        match len {
            Some(len) => Some(self.token(shape, len)),
            None => {
                self.give_up();
                None
            }
        }
    }

    fn word(&mut self, rest: &[u8]) -> Option<Token> {
        let len = rest
            .iter()
            .position(|byte| !is_inner(*byte))
            .unwrap_or(rest.len());
        let behind = rest.get(len..).unwrap_or_default();
        let word = rest.get(..len).unwrap_or_default();
        match (word, behind) {
            (b"e" | b"E", [b'\'', ..]) => {
                let len = self.escaped_len(1);
                self.taken(Shape::Other, len)
            }
            (b"b" | b"B" | b"x" | b"X" | b"n" | b"N", [b'\'', ..]) => self.string(1),
            (b"u" | b"U", [b'&', b'\'' | b'"', ..]) => {
                self.give_up();
                None
            }
            _ => Some(self.token(Shape::Word, len)),
        }
    }

    /// A parameter, or a string between tags.
    fn dollar(&mut self, rest: &[u8]) -> Option<Token> {
        let inner = rest.get(1..).unwrap_or_default();
        let len = inner
            .iter()
            .position(|byte| !is_inner(*byte) || *byte == b'$')
            .unwrap_or(inner.len());
        let is_tag = inner.get(len) == Some(&b'$') && !inner.first().is_some_and(u8::is_ascii_digit);
        if !is_tag {
            return Some(self.token(Shape::Other, len + 1));
        }
        let tag = rest.get(..len + 2).unwrap_or_default();
        let body = rest.get(tag.len()..).unwrap_or_default();
        let end = memchr::memmem::find(body, tag).map(|end| end + 2 * tag.len());
        self.taken(Shape::Other, end)
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.pass_blanks();
        let text = self.text;
        let rest = text.get(self.at..).unwrap_or_default();
        let first = *rest.first()?;
        match first {
            b'\'' => self.string(0),
            b'"' => {
                let len = self.quoted_len(0, b'"');
                self.taken(Shape::Quoted, len)
            }
            b'$' => self.dollar(rest),
            b'(' | b'[' => {
                self.depth += 1;
                Some(self.token(Shape::Other, 1))
            }
            b')' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                Some(self.token(Shape::Other, 1))
            }
            _ if first.is_ascii_digit() => {
                let len = rest
                    .iter()
                    .position(|byte| !is_inner(*byte))
                    .unwrap_or(rest.len());
                Some(self.token(Shape::Other, len))
            }
            _ if is_inner(first) => self.word(rest),
            _ => Some(self.token(Shape::Other, 1)),
        }
    }
}

/// The length of the comment at the start; comments nest. None when it has no end.
fn comment_len(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'*', b'/', text.get(at..)?)?;
        match text.get(at..at + 2)? {
            b"/*" => depth += 1,
            b"*/" => depth = depth.saturating_sub(1),
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return Some(at);
        }
    }
}

fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// What may stand inside of a name.
fn is_inner(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}
