//! What a `DO` does to the session.

use std::borrow::Cow;

use crate::sql::{self, Kind, Lexer, Strings, Token, name_of, string_of};

use super::{
    CODE_DEPTH_MAX, CatalogEffect, Effects, PinReason, SchemaEffect, Words, body, inside, is, is_any,
    is_temporary_made, set,
};

/// The code of a `DO`, which is a string.
pub(super) fn procedural(effects: &mut Effects, words: &mut Words<'_>) {
    let mut language = Cow::Borrowed(&b"plpgsql"[..]);
    let mut code = None;
    let tokens = words.tokens();
    while let Some(token) = tokens.next().filter(|token| !token.is_sign(b";")) {
        if token.is("language") {
            let next = tokens.next();
            let name = next.and_then(|next| name_of(&next).or_else(|| string_of(&next)));
            language = name.unwrap_or_default();
        }
        // A second string is that of UESCAPE.
        if let Kind::String(_) = token.kind
            && code.is_none()
        {
            code = Some(string_of(&token));
        }
    }
    match code {
        Some(Some(code)) if *language == *b"plpgsql" => {
            if let Cow::Owned(code) = &code {
                // What was looked at as it is written is something else.
                inside(code, effects);
                effects
                    .pins
                    .extend(is_temporary_made(code).then_some(PinReason::TemporaryTable));
            }
            statements(effects, &code, 0);
        }
        Some(Some(code)) => {
            effects.take_in(&body::judge(&language, &code));
            if sql::words(&code).any(may_define) {
                effects.catalog = CatalogEffect::MayDefine;
            }
        }
        // Written in code points.
        Some(None) => effects.on_unknown(),
        None => {}
    }
}

/// Procedural code, and the texts in it: statements there begin behind `BEGIN`, `THEN`, `LOOP` and more, so every word counts.
fn statements(effects: &mut Effects, code: &[u8], depth: usize) {
    let mut tokens = Lexer::new(code, Strings::Unknown);
    while let Some(token) = tokens.next() {
        match token.kind {
            Kind::Word => word_of_code(effects, &token, tokens.rest()),
            Kind::String(_) | Kind::QuotedName if depth < CODE_DEPTH_MAX => {
                let text = string_of(&token).or_else(|| name_of(&token));
                statements(effects, &text.unwrap_or_default(), depth + 1);
            }
            Kind::String(_) | Kind::QuotedName => effects.on_unknown(),
            Kind::CodedName
            | Kind::Comment
            | Kind::Number
            | Kind::Operator
            | Kind::Parameter
            | Kind::Punctuation => {}
        }
    }
    if !tokens.is_sure() && depth == 0 {
        effects.on_unknown();
    }
}

fn word_of_code(effects: &mut Effects, token: &Token<'_>, rest: &[u8]) {
    if may_define(token.text) {
        effects.catalog = CatalogEffect::MayDefine;
    }
    if is_any(token.text, &["create", "alter", "drop"]) {
        effects.schema = SchemaEffect::Alters;
    }
    match token.text {
        word if is(word, "set") => effects.on_set(set::set(rest)),
        word if is(word, "reset") => effects.on_set(set::reset(rest)),
        word if is(word, "listen") => effects.pins.insert(PinReason::Listen),
        word if is(word, "load") => effects.pins.insert(PinReason::Load),
        word if is_any(word, &["prepare", "deallocate"]) => effects.pins.insert(PinReason::Prepare),
        // It runs a text that may be put together from pieces.
        word if is(word, "execute") => effects.pins.insert(PinReason::Setting),
        _ => {}
    }
}

fn may_define(word: &[u8]) -> bool {
    is_any(word, &["create", "alter", "execute"])
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
        // Escapes are read.
        assert!(!screen(b"DO E'BEGIN \\x53ET a = 1; END'").sets.is_empty());
        for text in [
            "DO $$ BEGIN PERFORM f(1); END $$",
            "DO 'BEGIN RAISE NOTICE ''sample''; END'",
            "DO $$ BEGIN RAISE NOTICE E'a\\n'; END $$",
        ] {
            assert!(screen(text.as_bytes()).pins.is_empty(), "{text}");
        }
    }
}
