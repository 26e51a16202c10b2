//! Which settings a statement sets, as far as its words tell.

use crate::session::basis::is_of_literals;
use crate::sql::{Kind, Lexer, Quoting, Strings, Token, name_of, string_of};

use super::{LiteralEffect, PATIENCE_MAX, PinReason, SettingEffect, is, is_any, is_reported};

/// What a `SET`, a `RESET` or a call of `set_config` does to the session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) effect: SettingEffect,
    /// Settings that keep their value beyond the transaction, and that no server reports.
    pub(super) names: Vec<Box<str>>,
    pub(super) pin: Option<PinReason>,
    pub(super) literals: LiteralEffect,
}

impl Set {
    fn local() -> Self {
        Self {
            effect: SettingEffect::Local,
            ..Self::default()
        }
    }

    fn of(names: &[&str]) -> Self {
        Self {
            effect: SettingEffect::Local,
            names: names.iter().map(|name| (*name).into()).collect(),
            pin: None,
            literals: LiteralEffect::None,
        }
    }

    /// The same, for the transaction alone.
    fn into_local(self) -> Self {
        Self {
            literals: self.literals,
            ..Self::local()
        }
    }

    /// Something that says how literals are read, and that is reported.
    fn reported() -> Self {
        Self {
            literals: LiteralEffect::Reported,
            ..Self::local()
        }
    }

    /// The same of something that says how literals are read.
    fn of_literals(self) -> Self {
        Self {
            literals: LiteralEffect::MayChange,
            ..self
        }
    }

    /// The same, to what its session has started with.
    fn into_reset(self) -> Self {
        Self {
            effect: SettingEffect::Reset,
            ..self
        }
    }

    /// It sets something that cannot be told.
    fn unknown() -> Self {
        Self {
            effect: SettingEffect::Local,
            names: Vec::new(),
            pin: Some(PinReason::Setting),
            literals: LiteralEffect::MayChange,
        }
    }

    fn named(name: Option<String>) -> Self {
        let Some(name) = name else {
            return Self::unknown();
        };
        let word = name.as_bytes();
        if is(word, "seed") {
            return Self {
                pin: Some(PinReason::Seed),
                ..Self::local()
            };
        }
        if is_reported(word) && is_of_literals(&name) {
            Self::reported()
        } else if is_reported(word) || is_any(word, &OF_TRANSACTION) {
            Self::local()
        } else if is_of_literals(&name) {
            Self::of(&[&name]).of_literals()
        } else {
            Self::of(&[&name])
        }
    }
}

/// What stands behind `SET`.
pub(super) fn set(text: &[u8]) -> Set {
    let mut tokens = tokens(text);
    let mut token = tokens.next();
    if is_word(token, "local") {
        return set(tokens.rest()).into_local();
    }
    if is_word(token, "session") {
        token = tokens.next();
        if is_word(token, "characteristics") {
            return Set::of(&CHARACTERISTICS);
        }
        if is_word(token, "authorization") {
            return Set::of(&AUTHORIZATION);
        }
    }
    if let Some(known) = token.and_then(|token| of_keyword(&token)) {
        return known;
    }
    let set = Set::named(name(token, &mut tokens));
    let is_default = tokens.next().is_some() && is_word(tokens.next(), "default");
    if is_default { set.into_reset() } else { set }
}

/// What a statement sets that has words of its own.
fn of_keyword(token: &Token<'_>) -> Option<Set> {
    if token.kind != Kind::Word {
        return None;
    }
    match token.text {
        word if is_any(word, &["transaction", "constraints"]) => Some(Set::default()),
        word if is_any(word, &["time", "names"]) => Some(Set::reported()),
        word if is(word, "schema") => Some(Set::of(&["search_path"])),
        word if is(word, "xml") => Some(Set::of(&["xmloption"]).of_literals()),
        word if is(word, "session") => Some(Set::of(&AUTHORIZATION)),
        _ => None,
    }
}

/// What stands behind `RESET`; `RESET ALL` is known already.
pub(super) fn reset(text: &[u8]) -> Set {
    let mut tokens = tokens(text);
    let token = tokens.next();
    if is_word(token, "transaction") {
        return Set::default();
    }
    let set = if is_word(token, "time") {
        Set::reported()
    } else if is_word(token, "session") {
        Set::of(&AUTHORIZATION)
    } else {
        Set::named(name(token, &mut tokens))
    };
    set.into_reset()
}

/// What stands behind the name `set_config`.
pub(super) fn call(text: &[u8]) -> Set {
    let mut tokens = tokens(text);
    if !is_sign(tokens.next(), b"(") {
        // Part of a longer name, or of something else.
        return Set::unknown();
    }
    let name = tokens.next().and_then(|token| literal(&token));
    skip_cast(&mut tokens);
    let name = name.filter(|_| is_sign(tokens.peek(), b","));
    if name.is_some() {
        tokens.next();
    } else if !skip_argument(&mut tokens) {
        return Set::unknown();
    }
    if !skip_argument(&mut tokens) {
        return Set::unknown();
    }
    if is_word(tokens.next(), "true") && is_sign(tokens.next(), b")") {
        return Set::named(name).into_local();
    }
    Set::named(name)
}

/// The tokens of a text, as far as it is looked at. What does not end there may have been meant to.
pub(super) fn tokens(text: &[u8]) -> Lexer<'_> {
    Lexer::new(text.get(..PATIENCE_MAX).unwrap_or(text), Strings::Unknown)
}

fn is_word(token: Option<Token<'_>>, known: &str) -> bool {
    token.is_some_and(|token| token.is(known))
}

fn is_sign(token: Option<Token<'_>>, known: &[u8]) -> bool {
    token.is_some_and(|token| token.is_sign(known))
}

/// A name of one part or more, which begins with this token.
pub(super) fn name<'a>(first: Option<Token<'a>>, tokens: &mut Lexer<'a>) -> Option<String> {
    let mut name = part(first)?;
    while is_sign(tokens.peek(), b".") {
        tokens.next();
        name.push('.');
        name.push_str(&part(tokens.next())?);
    }
    (tokens.is_sure() && name.len() <= NAME_LEN_MAX).then_some(name)
}

fn part(token: Option<Token<'_>>) -> Option<String> {
    let part = name_of(&token?)?;
    String::from_utf8(part.into_owned()).ok()
}

/// What a string says, unless that hangs on how a backslash is read.
fn literal(token: &Token<'_>) -> Option<String> {
    let is_plain = matches!(token.kind, Kind::String(Quoting::Plain | Quoting::National));
    let is_told = !is_plain || memchr::memchr(b'\\', token.text).is_none();
    let value = string_of(token).filter(|_| is_told)?;
    String::from_utf8(value.into_owned()).ok()
}

/// Passes over `::text`, which the server writes behind each literal.
fn skip_cast(tokens: &mut Lexer<'_>) {
    let mut ahead = tokens.clone();
    if is_sign(ahead.next(), b"::") && is_word(ahead.next(), "text") {
        *tokens = ahead;
    }
}

/// Passes over an argument and the comma behind it.
fn skip_argument(tokens: &mut Lexer<'_>) -> bool {
    let mut depth = 0_u32;
    while let Some(token) = tokens.next() {
        match token.text {
            _ if !tokens.is_sure() => return false,
            b"(" | b"[" => depth += 1,
            b")" | b"]" if depth == 0 => return false,
            b")" | b"]" => depth -= 1,
            b"," if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

/// Settings that are the transaction's own.
const OF_TRANSACTION: [&str; 3] = [
    "transaction_isolation",
    "transaction_read_only",
    "transaction_deferrable",
];
const CHARACTERISTICS: [&str; 3] = [
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
];
/// A change of the session's user takes the role with it.
const AUTHORIZATION: [&str; 2] = ["role", "session_authorization"];
/// A name of several parts, each up to 63 bytes; what is longer is not followed.
const NAME_LEN_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(set: &Set) -> Vec<&str> {
        set.names.iter().map(|name| &**name).collect()
    }

    #[test]
    fn a_set_names_what_it_sets() {
        for (text, expected) in [
            (" search_path = a, b", vec!["search_path"]),
            (" SESSION work_mem TO '5MB'", vec!["work_mem"]),
            (" app.Tenant = 1", vec!["app.tenant"]),
            (" app.a$b = 1", vec!["app.a$b"]),
            (" \"App\" . \"Te\"\"n\" = 1", vec!["App.Te\"n"]),
            (" ROLE none", vec!["role"]),
            (" session role none", vec!["role"]),
            (" SESSION AUTHORIZATION a", vec!["role", "session_authorization"]),
            (" SCHEMA 'a'", vec!["search_path"]),
            (" XML OPTION DOCUMENT", vec!["xmloption"]),
            (" LOCAL work_mem = 1", vec![]),
            (" TIME ZONE 'UTC'", vec![]),
            (" NAMES 'utf8'", vec![]),
            (" TimeZone = 'UTC'", vec![]),
            (" TRANSACTION READ ONLY", vec![]),
            (" transaction_isolation = serializable", vec![]),
        ] {
            let set = set(text.as_bytes());
            assert_eq!(names(&set), expected, "{text}");
            assert_eq!(set.pin, None, "{text}");
        }
        assert_eq!(
            names(&set(b" session characteristics as transaction read only")).len(),
            3
        );
        assert_eq!(set(b" seed = 0.5").pin, Some(PinReason::Seed));
    }

    #[test]
    fn what_a_set_sets_may_be_unknown() {
        for text in ["", " U&\"\\0061\" = 1", " \"a", " = 1", " \"a\".", " '"] {
            assert_eq!(set(text.as_bytes()).pin, Some(PinReason::Setting), "{text}");
        }
    }

    #[test]
    fn a_call_names_what_it_sets_and_whether_for_the_transaction_alone() {
        for (text, expected) in [
            ("('a.b', 'x', false)", Some(vec!["a.b"])),
            ("('a.b'::text, 'x'::text, false)", Some(vec!["a.b"])),
            ("('a'::textual || 'b', 'x', false)", None),
            (" ( 'a.b' , $1, $2)", Some(vec!["a.b"])),
            ("('a', coalesce(x, 'f,('), false), 2", Some(vec!["a"])),
            ("('a', 'x', true)", Some(vec![])),
            ("($1, $2, true)", Some(vec![])),
            ("($1, $2, false)", None),
            ("('a' || 'b', 'x', false)", None),
            ("('a', $$ , true) $$, false)", Some(vec!["a"])),
            ("('a', E'\\', true', false)", Some(vec!["a"])),
            ("('a', '\\', true', false)", None),
            ("('a\\b', 'x', false)", None),
            ("(E'a\\x2eb', 'x', false)", Some(vec!["a.b"])),
            ("('a.'\n'b', 'x', false)", Some(vec!["a.b"])),
            ("(U&'a', 'x', false)", None),
            ("('a', 'x', /* true */ false)", Some(vec!["a"])),
            ("_of('a', 'x', true)", None),
            ("''a'', ''x'', false)", None),
            ("('TimeZone', 'UTC', false)", Some(vec![])),
        ] {
            let set = call(text.as_bytes());
            match expected {
                Some(expected) => assert_eq!((names(&set), set.pin), (expected, None), "{text}"),
                None => assert_eq!(set.pin, Some(PinReason::Setting), "{text}"),
            }
        }
    }

    #[test]
    fn a_default_is_a_reset() {
        for (text, effect) in [
            (" work_mem TO DEFAULT", SettingEffect::Reset),
            (" work_mem = default", SettingEffect::Reset),
            (" work_mem = '1MB'", SettingEffect::Local),
            (" work_mem", SettingEffect::Local),
        ] {
            assert_eq!(set(text.as_bytes()).effect, effect, "{text}");
        }
    }

    #[test]
    fn a_reset_names_what_it_resets() {
        assert_eq!(names(&reset(b" search_path")), ["search_path"]);
        assert_eq!(names(&reset(b" ROLE")), ["role"]);
        assert_eq!(
            names(&reset(b" SESSION AUTHORIZATION")),
            ["role", "session_authorization"]
        );
        assert_eq!(reset(b" TimeZone").names.len(), 0);
    }
}
