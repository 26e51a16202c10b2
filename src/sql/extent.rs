//! How far a token reaches. Each text begins with the token; none: it has no end.

use super::byte::{is_blank, is_inner, is_newline, is_operator, is_word};

/// What hides a quote from ending a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escapes {
    /// Nothing: bits.
    None,
    /// Another quote behind it.
    Doubled,
    /// That, or a backslash before it.
    Backslash,
}

/// Up to the end of the line, which is not part of it.
pub(super) fn line_comment_len(text: &[u8]) -> usize {
    memchr::memchr2(b'\n', b'\r', text).unwrap_or(text.len())
}

/// Comments nest.
pub(super) fn comment_len(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut depth = 0_usize;
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

pub(super) fn blanks_len(text: &[u8]) -> usize {
    len_while(text, is_blank)
}

/// An unquoted name.
pub(super) fn word_len(text: &[u8]) -> usize {
    len_while(text, is_inner)
}

/// A name in quotes that stand behind so many bytes.
pub(super) fn quoted_name_len(text: &[u8], prefix: usize) -> Option<usize> {
    let mut at = prefix + 1;
    loop {
        at += memchr::memchr(b'"', text.get(at..)?)? + 1;
        if text.get(at) != Some(&b'"') {
            return Some(at);
        }
        at += 1;
    }
}

/// A string whose first quote stands behind so many bytes, with what continues it on other lines.
pub(super) fn string_len(text: &[u8], prefix: usize, escapes: Escapes) -> Option<usize> {
    let mut at = prefix + 1;
    loop {
        at += string_end(text.get(at..)?, escapes)?;
        match continuation_len(text.get(at..).unwrap_or_default()) {
            Some(len) => at += len,
            None => return Some(at),
        }
    }
}

/// From behind a quote up to behind the one that ends it.
pub(super) fn string_end(text: &[u8], escapes: Escapes) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = text.get(at..)?;
        let next = match escapes {
            Escapes::Backslash => memchr::memchr2(b'\'', b'\\', rest)?,
            Escapes::None | Escapes::Doubled => memchr::memchr(b'\'', rest)?,
        };
        at += next + 1;
        let is_quote = rest.get(next) == Some(&b'\'');
        if is_quote && (escapes == Escapes::None || text.get(at) != Some(&b'\'')) {
            return Some(at);
        }
        at += 1;
    }
}

/// What stands between two parts of one string: blanks and comments with the end of a line among them, and a quote
/// (`quotecontinue`).
pub(super) fn continuation_len(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut has_newline = false;
    loop {
        let rest = text.get(at..)?;
        at += match rest {
            [b'\'', ..] if has_newline => return Some(at + 1),
            [b'-', b'-', ..] => line_comment_len(rest),
            [byte, ..] if is_blank(*byte) => {
                has_newline |= is_newline(*byte);
                1
            }
            _ => return None,
        };
    }
}

/// The tag of a string between tags, dollar signs included. None: there is no tag.
pub(super) fn tag(text: &[u8]) -> Option<&[u8]> {
    let inner = text.get(1..)?;
    let len = len_while(inner, is_word);
    let is_tag = inner.get(len) == Some(&b'$') && !inner.first()?.is_ascii_digit();
    text.get(..len + 2).filter(|_| is_tag)
}

/// A string between these tags.
pub(super) fn tagged_len(text: &[u8], tag: &[u8]) -> Option<usize> {
    let body = text.get(tag.len()..)?;
    memchr::memmem::find(body, tag).map(|end| end + 2 * tag.len())
}

/// A number that begins with a digit, or with a dot before one.
pub(super) fn number_len(text: &[u8]) -> usize {
    let based = match text {
        [b'0', b'x' | b'X', ..] => digits_len(text, 2, |byte| byte.is_ascii_hexdigit()),
        [b'0', b'o' | b'O', ..] => digits_len(text, 2, |byte| matches!(byte, b'0'..=b'7')),
        [b'0', b'b' | b'B', ..] => digits_len(text, 2, |byte| matches!(byte, b'0' | b'1')),
        _ => 0,
    };
    if based > 0 {
        return 2 + based;
    }
    let mut len = decimal_len(text, 0);
    let is_range = matches!(text.get(len..), Some([b'.', b'.', ..]));
    if text.get(len) == Some(&b'.') && !is_range {
        len += 1;
        len += decimal_len(text, len);
    }
    if let Some([b'e' | b'E', behind @ ..]) = text.get(len..) {
        let sign = usize::from(matches!(behind, [b'+' | b'-', ..]));
        let digits = decimal_len(behind, sign);
        if digits > 0 {
            len += 1 + sign + digits;
        }
    }
    len
}

fn decimal_len(text: &[u8], from: usize) -> usize {
    let is_first = text.get(from).is_some_and(u8::is_ascii_digit);
    if is_first {
        digits_len(text, from, |byte| byte.is_ascii_digit())
    } else {
        0
    }
}

/// Digits from a place on; an underscore may stand before each.
fn digits_len(text: &[u8], from: usize, is_digit: impl Fn(u8) -> bool) -> usize {
    let mut len = 0;
    loop {
        match text.get(from + len..) {
            Some([byte, ..]) if is_digit(*byte) => len += 1,
            Some([b'_', byte, ..]) if is_digit(*byte) => len += 2,
            _ => return len,
        }
    }
}

/// An operator: it ends before a comment, and with a plus or minus only if it holds what no operator of standard SQL does.
pub(super) fn operator_len(text: &[u8]) -> usize {
    let run = text.get(..len_while(text, is_operator)).unwrap_or(text);
    let is_comment = |pair: &[u8]| matches!(pair, b"--" | b"/*");
    let len = run.windows(2).position(is_comment).unwrap_or(run.len());
    let operator = run.get(..len).unwrap_or(run);
    if operator.iter().any(|byte| is_extraordinary(*byte)) {
        return len;
    }
    let is_sign = |byte: &u8| matches!(byte, b'+' | b'-');
    operator
        .iter()
        .rposition(|byte| !is_sign(byte))
        .map_or(1, |last| last + 1)
}

fn is_extraordinary(byte: u8) -> bool {
    matches!(
        byte,
        b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%'
    )
}

fn len_while(text: &[u8], is_part: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|byte| !is_part(*byte)).unwrap_or(text.len())
}
