//! What a byte may be the first of.

/// What a token that begins with a byte may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A zero: no text goes beyond it.
    End,
    Blank,
    /// Of a word, or of a string with a letter before it.
    Letter,
    Digit,
    Dollar,
    Quote,
    DoubleQuote,
    Dot,
    Colon,
    Operator,
    /// A sign that is a token alone, or that SQL has no use for.
    Sign,
}

pub(super) fn class(byte: u8) -> Class {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(Class::Sign)
}

/// Whether a byte may stand in a word, but for the dollar sign, which never begins one.
#[must_use]
pub fn is_word(byte: u8) -> bool {
    matches!(class(byte), Class::Letter | Class::Digit)
}

/// `ident_cont`.
pub(super) fn is_inner(byte: u8) -> bool {
    matches!(class(byte), Class::Letter | Class::Digit | Class::Dollar)
}

/// `space`. The vertical tab is one since PostgreSQL 16; before, no statement can have one outside of quotes.
pub(super) fn is_blank(byte: u8) -> bool {
    class(byte) == Class::Blank
}

pub(super) fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

pub(super) fn is_operator(byte: u8) -> bool {
    class(byte) == Class::Operator
}

const CLASSES: [Class; 256] = classes();

#[allow(clippy::indexing_slicing, reason = "the compiler checks it: a constant")]
const fn classes() -> [Class; 256] {
    let mut classes = [Class::Sign; 256];
    let mut byte = 0_u8;
    loop {
        classes[byte as usize] = match byte {
            0 => Class::End,
            b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c' => Class::Blank,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => Class::Letter,
            b'0'..=b'9' => Class::Digit,
            b'\'' => Class::Quote,
            b'"' => Class::DoubleQuote,
            b'$' => Class::Dollar,
            b'.' => Class::Dot,
            b':' => Class::Colon,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'-' | b'*' | b'/'
            | b'%' | b'<' | b'>' | b'=' => Class::Operator,
            _ => Class::Sign,
        };
        if byte == u8::MAX {
            return classes;
        }
        byte += 1;
    }
}
