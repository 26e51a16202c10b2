//! Calls that read or advance sequences: a session remembers the values it was given.

/// What a text has to do with the values that a session remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SequenceEffect {
    #[default]
    None,
    /// It may take a value: `nextval`, `setval`, an `INSERT`.
    Advances,
    /// It asks for the last value: `currval`, `lastval`. It may take one, too.
    Reads,
}

/// Looks at what is called in a text, and at its first word.
pub(super) fn sequences(text: &[u8], first_is_insert: bool) -> SequenceEffect {
    let mut found = if first_is_insert {
        SequenceEffect::Advances
    } else {
        SequenceEffect::None
    };
    for at in memchr::memchr_iter(b'(', text) {
        let before = text.get(..at).unwrap_or_default().trim_ascii_end();
        let name = before.strip_suffix(b"\"").unwrap_or(before);
        if super::ends(name, "currval") || super::ends(name, "lastval") {
            return SequenceEffect::Reads;
        }
        if super::ends(name, "nextval") || super::ends(name, "setval") {
            found = SequenceEffect::Advances;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::screen;
    use super::SequenceEffect::{Advances, None, Reads};

    #[test]
    fn calls_on_sequences_are_found_and_an_insert_may_be_one() {
        for (text, effect) in [
            ("select 1", None),
            ("select lastval", None),
            ("select lastval()", Reads),
            ("SELECT pg_catalog.\"currval\" ('s')", Reads),
            ("select nextval('s'), CurrVal('s')", Reads),
            ("select nextval('s')", Advances),
            ("select setval('s', 1)", Advances),
            ("insert into t values (1)", Advances),
            ("insert into t values (1) returning lastval()", Reads),
            ("select now()", None),
        ] {
            assert_eq!(screen(text.as_bytes()).sequences, effect, "{text}");
        }
    }
}
