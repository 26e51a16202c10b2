//! The password as SCRAM hashes it.
//!
//! Source: `pg_saslprep` in PostgreSQL's `src/common/saslprep.c`, whose checks look at the text before normalisation.

use std::borrow::Cow;

use stringprep::tables;
use unicode_normalization::UnicodeNormalization as _;

/// RFC 4013, but bytes that are not UTF-8 or hold prohibited characters are taken raw instead of being refused.
pub(super) fn saslprep(password: &[u8]) -> Cow<'_, [u8]> {
    if password.is_ascii() {
        return Cow::Borrowed(password);
    }
    let Ok(text) = std::str::from_utf8(password) else {
        return Cow::Borrowed(password);
    };
    let mapped: Vec<char> = text.chars().filter_map(map).collect();
    if mapped.is_empty() || mapped.iter().copied().any(is_prohibited) || !is_bidi_sound(&mapped) {
        return Cow::Borrowed(password);
    }
    let normalized: String = mapped.into_iter().nfkc().collect();
    Cow::Owned(normalized.into_bytes())
}

fn map(character: char) -> Option<char> {
    if tables::non_ascii_space_character(character) {
        Some(' ')
    } else if tables::commonly_mapped_to_nothing(character) {
        None
    } else {
        Some(character)
    }
}

fn is_prohibited(character: char) -> bool {
    tables::ascii_control_character(character)
        || tables::non_ascii_control_character(character)
        || tables::private_use(character)
        || tables::non_character_code_point(character)
        || tables::surrogate_code(character)
        || tables::inappropriate_for_plain_text(character)
        || tables::inappropriate_for_canonical_representation(character)
        || tables::change_display_properties_or_deprecated(character)
        || tables::tagging_character(character)
        || tables::unassigned_code_point(character)
}

/// RFC 3454, section 6: right-to-left text is right-to-left at both ends and in between.
fn is_bidi_sound(text: &[char]) -> bool {
    if !text.iter().copied().any(tables::bidi_r_or_al) {
        return true;
    }
    let at = |end: Option<&char>| end.copied().is_some_and(tables::bidi_r_or_al);
    at(text.first()) && at(text.last()) && !text.iter().copied().any(tables::bidi_l)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_is_taken_as_it_is() {
        assert_eq!(&*saslprep(b"p\x07ass word"), b"p\x07ass word");
        assert_eq!(&*saslprep(b""), b"");
    }

    #[test]
    fn the_examples_of_rfc_4013() {
        assert_eq!(&*saslprep("I\u{ad}X".as_bytes()), b"IX");
        assert_eq!(&*saslprep("\u{aa}".as_bytes()), b"a");
        assert_eq!(&*saslprep("\u{2168}".as_bytes()), b"IX");
        assert_eq!(&*saslprep("a\u{a0}b".as_bytes()), b"a b");
    }

    #[test]
    fn prohibited_text_is_taken_raw() {
        for raw in ["\u{627}1", "\u{ad}", "\u{e000}x", "ä\x07", "\u{221}\u{aa}"] {
            assert_eq!(&*saslprep(raw.as_bytes()), raw.as_bytes(), "{raw:?}");
        }
        assert_eq!(&*saslprep(b"\xff\xc3\xa4"), b"\xff\xc3\xa4");
    }
}
