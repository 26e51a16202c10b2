//! What a byte of a text may begin, by `src/backend/parser/scan.l`.

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Glyph {
    Space,
    /// Letters, `_`, and every byte that is not ASCII.
    Letter,
    Digit,
    Dollar,
    Quote,
    DoubleQuote,
    Operator,
    Sign,
    /// What no token begins with.
    Other,
}

/// What `byte` begins.
#[inline]
pub(super) fn glyph(byte: u8) -> Glyph {
    GLYPHS.get(usize::from(byte)).copied().unwrap_or(Glyph::Other)
}

#[inline]
pub(super) fn is_space(byte: u8) -> bool {
    glyph(byte) == Glyph::Space
}

#[inline]
pub(super) fn is_operator(byte: u8) -> bool {
    glyph(byte) == Glyph::Operator
}

#[inline]
pub(super) fn is_identifier_start(byte: u8) -> bool {
    glyph(byte) == Glyph::Letter
}

#[inline]
pub(super) fn is_identifier(byte: u8) -> bool {
    matches!(glyph(byte), Glyph::Letter | Glyph::Digit | Glyph::Dollar)
}

const GLYPHS: [Glyph; 256] = glyphs();

const fn glyphs() -> [Glyph; 256] {
    let mut glyphs = [Glyph::Other; 256];
    let mut rest: &mut [Glyph] = &mut glyphs;
    let mut byte = 0_u8;
    while let Some((glyph, others)) = rest.split_first_mut() {
        *glyph = classify(byte);
        byte = byte.wrapping_add(1);
        rest = others;
    }
    glyphs
}

const fn classify(byte: u8) -> Glyph {
    if byte.is_ascii_alphabetic() || byte >= 0x80 {
        return Glyph::Letter;
    }
    if byte.is_ascii_digit() {
        return Glyph::Digit;
    }
    match byte {
        b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => Glyph::Space,
        b'_' => Glyph::Letter,
        b'\'' => Glyph::Quote,
        b'"' => Glyph::DoubleQuote,
        b'$' => Glyph::Dollar,
        b'+' | b'-' | b'*' | b'/' | b'<' | b'>' | b'=' | b'~' | b'!' | b'@' | b'#' | b'%' | b'^' | b'&'
        | b'|' | b'`' | b'?' => Glyph::Operator,
        b',' | b'(' | b')' | b'[' | b']' | b'.' | b';' | b':' => Glyph::Sign,
        _ => Glyph::Other,
    }
}
