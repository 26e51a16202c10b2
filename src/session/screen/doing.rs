//! What a `DO` does to the session.

use super::{CatalogEffect, Effects, PATIENCE_MAX, PinReason, Words, body, is, is_any, set};

/// Statements in the body begin behind `BEGIN`, `THEN`, `LOOP` and more, so every word counts.
pub(super) fn procedural(effects: &mut Effects, words: &mut Words<'_>) {
    if is_hidden(words.rest) {
        body::unknown(effects);
    }
    if is_foreign(words.rest) {
        body::foreign(words.rest, effects);
    }
    while let Some(word) = words.next() {
        if is_any(word, &["create", "alter", "execute"]) {
            effects.catalog = CatalogEffect::MayDefine;
        }
        match word {
            _ if is(word, "set") => effects.on_set(set::set(words.rest)),
            _ if is(word, "reset") => effects.on_set(set::reset(words.rest)),
            _ if is(word, "listen") => effects.pins.insert(PinReason::Listen),
            _ if is(word, "load") => effects.pins.insert(PinReason::Load),
            _ if is_any(word, &["prepare", "deallocate"]) => effects.pins.insert(PinReason::Prepare),
            // It runs a text that may be put together from pieces.
            _ if is(word, "execute") => effects.pins.insert(PinReason::Setting),
            _ => {}
        }
    }
}

/// Whether the body is a literal whose words are written with escapes: `E'BEGIN \x53ET …'`, `U&'…'`.
fn is_hidden(text: &[u8]) -> bool {
    let text = text.get(..PATIENCE_MAX).unwrap_or(text);
    let quote = memchr::memchr2(b'\'', b'$', text).unwrap_or(text.len());
    let is_escaped = text.get(..quote).and_then(<[u8]>::last).is_some_and(|byte| {
        // In code points the escape is whatever UESCAPE says.
        *byte == b'&' || byte.eq_ignore_ascii_case(&b'e') && memchr::memchr(b'\\', text).is_some()
    });
    is_escaped && text.get(quote) == Some(&b'\'')
}

/// Whether it is in another language than SQL's own.
fn is_foreign(text: &[u8]) -> bool {
    let text = text.get(..PATIENCE_MAX).unwrap_or(text);
    memchr::memmem::find_iter(text, b"pl").any(|at| {
        let name = text.get(at..).and_then(|rest| Words::new(rest).next());
        name.is_some_and(|name| is_any(name, &body::FOREIGN))
    })
}

#[cfg(test)]
mod tests {
    use crate::session::screen::{PinReason, screen};

    #[test]
    fn what_a_do_may_do_pins_where_it_cannot_be_told() {
        for (text, pin) in [
            (
                "DO $$ BEGIN EXECUTE 'S' || 'ET a = 1'; END $$",
                PinReason::Setting,
            ),
            ("DO $$ BEGIN EXECUTE t; END $$", PinReason::Setting),
            ("DO E'BEGIN \\x53ET a = 1; END'", PinReason::Setting),
            ("DO U&'BEGIN !0053ET a = 1; END' UESCAPE '!'", PinReason::Setting),
            ("DO LANGUAGE plperl $$ spi_exec_query($x) $$", PinReason::Setting),
            (
                "DO $$ plpy.run(plpy.prepare(x)) $$ LANGUAGE plpython3u",
                PinReason::Setting,
            ),
            ("DO $$ BEGIN PREPARE x AS SELECT 1; END $$", PinReason::Prepare),
            ("DO $$ BEGIN DEALLOCATE ALL; END $$", PinReason::Prepare),
        ] {
            assert!(screen(text.as_bytes()).pins.contains(pin), "{text}");
        }
        for text in [
            "DO $$ BEGIN PERFORM f(1); END $$",
            "DO 'BEGIN RAISE NOTICE ''sample''; END'",
            "DO $$ BEGIN RAISE NOTICE E'a\\n'; END $$",
        ] {
            assert!(screen(text.as_bytes()).pins.is_empty(), "{text}");
        }
    }
}
