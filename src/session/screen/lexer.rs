//! The words, literals and signs of a function's body, comments passed over.

use std::borrow::Cow;

use super::{comment_len, is_word};

/// A piece of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Word(&'a [u8]),
    /// A name in double quotes.
    Quoted(&'a [u8]),
    /// What stands between the quotes.
    Literal(Cow<'a, [u8]>),
    Sign(u8),
}

/// A piece, and what stands behind it.
#[derive(Clone, Debug)]
pub(super) struct Placed<'a> {
    pub(super) piece: Piece<'a>,
    pub(super) rest: &'a [u8],
}

impl Placed<'_> {
    pub(super) fn is_word(&self, known: &str) -> bool {
        matches!(self.piece, Piece::Word(word) if super::is(word, known))
    }

    pub(super) fn is_sign(&self, known: u8) -> bool {
        self.piece == Piece::Sign(known)
    }
}

/// Cuts a text into its pieces. A literal without its end reaches to the end of the text.
pub(super) fn pieces(text: &[u8]) -> Vec<Placed<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        let (piece, len) = match (byte, behind.first()) {
            (b'-', Some(b'-')) => (None, memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len())),
            (b'/', Some(b'*')) => (None, comment_len(rest)),
            (_, Some(b'\'')) if byte.eq_ignore_ascii_case(&b'e') => {
                literal(rest, 2, b'\'', Escapes::Backslash)
            }
            (b'\'', _) => literal(rest, 1, b'\'', Escapes::None),
            (b'"', _) => {
                let len = memchr::memchr(b'"', behind).map_or(rest.len(), |end| end + 2);
                let name = rest.get(1..len.saturating_sub(1)).unwrap_or_default();
                (Some(Piece::Quoted(name)), len)
            }
            (b'$', _) => dollar_quoted(rest),
            _ if is_word(byte) => {
                // A dollar sign may be part of a name, but not its first.
                let is_end = |byte: &u8| !is_word(*byte) && *byte != b'$';
                let len = rest.iter().position(is_end).unwrap_or(rest.len());
                (rest.get(..len).map(Piece::Word), len)
            }
            _ if byte.is_ascii_whitespace() => (None, 1),
            _ => (Some(Piece::Sign(byte)), 1),
        };
        rest = rest.get(len.max(1)..).unwrap_or_default();
        found.extend(piece.map(|piece| Placed { piece, rest }));
    }
    found
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    None,
    Backslash,
}

fn literal(text: &[u8], start: usize, quote: u8, escapes: Escapes) -> (Option<Piece<'_>>, usize) {
    let mut at = start;
    let mut is_plain = true;
    while let Some(&byte) = text.get(at) {
        if byte == b'\\' && escapes == Escapes::Backslash {
            is_plain = false;
            at += 2;
        } else if byte != quote {
            at += 1;
        } else if text.get(at + 1) == Some(&quote) {
            is_plain = false;
            at += 2;
        } else {
            break;
        }
    }
    let at = at.min(text.len());
    let inner = text.get(start..at).unwrap_or_default();
    let value = if is_plain {
        Cow::Borrowed(inner)
    } else {
        Cow::Owned(unescaped(inner, quote, escapes))
    };
    (Some(Piece::Literal(value)), at + 1)
}

fn unescaped(inner: &[u8], quote: u8, escapes: Escapes) -> Vec<u8> {
    let mut value = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        if byte == quote {
            bytes.next();
        }
        if byte == b'\\' && escapes == Escapes::Backslash {
            // What the character is makes no difference, but that it is no word.
            bytes.next();
            value.push(b' ');
        } else {
            value.push(byte);
        }
    }
    value
}

/// `$$ … $$` or `$tag$ … $tag$`; or a parameter, `$1`.
fn dollar_quoted(text: &[u8]) -> (Option<Piece<'_>>, usize) {
    let behind = text.get(1..).unwrap_or_default();
    let tag = behind
        .iter()
        .position(|byte| !is_word(*byte))
        .filter(|end| behind.get(*end) == Some(&b'$') && !behind.first().is_some_and(u8::is_ascii_digit))
        .and_then(|end| text.get(..end + 2));
    let Some(tag) = tag else {
        return (Some(Piece::Sign(b'$')), 1);
    };
    let inner = text.get(tag.len()..).unwrap_or_default();
    let len = memchr::memmem::find(inner, tag);
    let value = inner.get(..len.unwrap_or(inner.len())).unwrap_or_default();
    (
        Some(Piece::Literal(Cow::Borrowed(value))),
        value.len() + 2 * tag.len(),
    )
}
