//! What names and strings stand for.

use std::borrow::Cow;

use super::extent::{Escapes, continuation_len, quoted_name_len, string_end, tag};
use super::lexer::{Kind, Quoting, Strings, Token};

/// A name as the server reads it, but for its cutting to 63 bytes: folded, or what stands between the quotes. None: it is no
/// name, has no end, or is written in code points.
#[must_use]
pub fn name_of<'a>(token: &Token<'a>) -> Option<Cow<'a, [u8]>> {
    match token.kind {
        Kind::Word if token.text.iter().any(u8::is_ascii_uppercase) => {
            Some(Cow::Owned(token.text.to_ascii_lowercase()))
        }
        Kind::Word => Some(Cow::Borrowed(token.text)),
        Kind::QuotedName => {
            let len = quoted_name_len(token.text, 0)?;
            Some(undoubled(token.text.get(1..len - 1)?, b'"'))
        }
        Kind::Comment
        | Kind::CodedName
        | Kind::String(_)
        | Kind::Number
        | Kind::Parameter
        | Kind::Operator
        | Kind::Punctuation => None,
    }
}

/// The value of a string; one without an end goes on to the end of the text. A backslash counts in `E'…'` alone. None: it is
/// no string, or is written in code points.
#[must_use]
pub fn string_of<'a>(token: &Token<'a>) -> Option<Cow<'a, [u8]>> {
    let Kind::String(quoting) = token.kind else {
        return None;
    };
    match quoting {
        Quoting::Plain => Some(quoted(token.text, 1, Escapes::Doubled)),
        Quoting::National => Some(quoted(token.text, 2, Escapes::Doubled)),
        Quoting::Bits => Some(quoted(token.text, 2, Escapes::None)),
        Quoting::Escaped => Some(quoted(token.text, 2, Escapes::Backslash)),
        Quoting::Dollars => {
            let tag = tag(token.text)?;
            let body = token.text.get(tag.len()..)?;
            Some(Cow::Borrowed(body.strip_suffix(tag).unwrap_or(body)))
        }
        Quoting::Coded => None,
    }
}

/// The same where it is known what a backslash does in other strings. Where it is not, it is a character.
#[must_use]
pub fn string_with<'a>(token: &Token<'a>, strings: Strings) -> Option<Cow<'a, [u8]>> {
    match (token.kind, strings) {
        (Kind::String(Quoting::Plain), Strings::Backslash) => Some(quoted(token.text, 1, Escapes::Backslash)),
        (Kind::String(Quoting::National), Strings::Backslash) => {
            Some(quoted(token.text, 2, Escapes::Backslash))
        }
        _ => string_of(token),
    }
}

/// The parts of a string, of which the first begins at a place.
fn quoted(text: &[u8], start: usize, escapes: Escapes) -> Cow<'_, [u8]> {
    let (first, mut rest) = part(text.get(start..).unwrap_or_default(), escapes);
    let mut value = unescaped(first, escapes);
    while let Some(len) = continuation_len(rest) {
        let (more, behind) = part(rest.get(len..).unwrap_or_default(), escapes);
        value.to_mut().extend_from_slice(&unescaped(more, escapes));
        rest = behind;
    }
    value
}

/// From behind a quote up to the one that ends the part, and what stands behind that.
fn part(text: &[u8], escapes: Escapes) -> (&[u8], &[u8]) {
    match string_end(text, escapes) {
        Some(end) => (
            text.get(..end.saturating_sub(1)).unwrap_or_default(),
            text.get(end..).unwrap_or_default(),
        ),
        None => (text, &[]),
    }
}

fn unescaped(inner: &[u8], escapes: Escapes) -> Cow<'_, [u8]> {
    match escapes {
        Escapes::None => Cow::Borrowed(inner),
        Escapes::Doubled => undoubled(inner, b'\''),
        Escapes::Backslash if memchr::memchr2(b'\'', b'\\', inner).is_none() => Cow::Borrowed(inner),
        Escapes::Backslash => Cow::Owned(without_backslashes(inner)),
    }
}

fn undoubled(inner: &[u8], quote: u8) -> Cow<'_, [u8]> {
    if memchr::memchr(quote, inner).is_none() {
        return Cow::Borrowed(inner);
    }
    let mut value = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((&byte, behind)) = rest.split_first() {
        value.push(byte);
        let doubled = if byte == quote {
            behind.strip_prefix(&[quote])
        } else {
            None
        };
        rest = doubled.unwrap_or(behind);
    }
    Cow::Owned(value)
}

fn without_backslashes(inner: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = match byte {
            b'\\' => escape(behind, &mut value),
            b'\'' => {
                value.push(byte);
                behind.strip_prefix(b"'").unwrap_or(behind)
            }
            _ => {
                value.push(byte);
                behind
            }
        };
    }
    value
}

/// Adds what stands for the characters behind a backslash. Says what follows on them.
fn escape<'a>(text: &'a [u8], value: &mut Vec<u8>) -> &'a [u8] {
    let Some((&byte, behind)) = text.split_first() else {
        return &[];
    };
    let (number, len) = match byte {
        b'0'..=b'7' => digits(text, 8, 3),
        b'x' => digits(behind, 16, 2),
        b'u' => digits(behind, 16, 4),
        b'U' => digits(behind, 16, 8),
        _ => (0, 0),
    };
    match byte {
        b'0'..=b'7' => {
            value.extend(number.to_le_bytes().first());
            return text.get(len..).unwrap_or_default();
        }
        b'x' if len > 0 => value.extend(number.to_le_bytes().first()),
        b'u' | b'U' if len > 0 => return code_point(byte, number, behind.get(len..), value),
        b'b' => value.push(b'\x08'),
        b'f' => value.push(b'\x0c'),
        b'n' => value.push(b'\n'),
        b'r' => value.push(b'\r'),
        b't' => value.push(b'\t'),
        b'v' => value.push(b'\x0b'),
        _ => value.push(byte),
    }
    behind.get(len..).unwrap_or_default()
}

/// A character by its code point; a pair of surrogates makes one. What is no character, the server refuses.
fn code_point<'a>(letter: u8, number: u32, rest: Option<&'a [u8]>, value: &mut Vec<u8>) -> &'a [u8] {
    let mut rest = rest.unwrap_or_default();
    let mut number = number;
    if (0xd800..0xdc00).contains(&number)
        && let Some(behind) = rest.strip_prefix(&[b'\\', letter])
    {
        let (second, len) = digits(behind, 16, if letter == b'u' { 4 } else { 8 });
        if (0xdc00..0xe000).contains(&second) {
            number = 0x10000 + ((number & 0x3ff) << 10) + (second & 0x3ff);
            rest = behind.get(len..).unwrap_or_default();
        }
    }
    let mut bytes = [0; 4];
    let character = char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER);
    value.extend_from_slice(character.encode_utf8(&mut bytes).as_bytes());
    rest
}

/// The number that up to so many digits make, and how many there are.
fn digits(text: &[u8], base: u32, max: usize) -> (u32, usize) {
    let found = text
        .iter()
        .take(max)
        .map_while(|byte| char::from(*byte).to_digit(base));
    found.fold((0, 0), |(number, len), digit| {
        (number.wrapping_mul(base).wrapping_add(digit), len + 1)
    })
}
