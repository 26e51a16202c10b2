//! Which settings a statement sets, as far as its words tell.

use crate::session::basis::is_of_literals;

use super::{LiteralEffect, PinReason, SettingEffect, is, is_any, is_reported};

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
    let mut tokens = Tokens::new(text);
    let mut token = tokens.next();
    if token.is_word("local") {
        return set(tokens.words.rest).into_local();
    }
    if token.is_word("session") {
        token = tokens.next();
        if token.is_word("characteristics") {
            return Set::of(&CHARACTERISTICS);
        }
        if token.is_word("authorization") {
            return Set::of(&AUTHORIZATION);
        }
    }
    if let Token::Word(word) = token {
        let known = match word {
            _ if is_any(word, &["transaction", "constraints"]) => Some(Set::default()),
            _ if is_any(word, &["time", "names"]) => Some(Set::reported()),
            _ if is(word, "schema") => Some(Set::of(&["search_path"])),
            _ if is(word, "xml") => Some(Set::of(&["xmloption"]).of_literals()),
            _ if is(word, "session") => Some(Set::of(&AUTHORIZATION)),
            _ => None,
        };
        if let Some(known) = known {
            return known;
        }
    }
    let set = Set::named(tokens.name(token));
    let is_default = tokens.next() != Token::End && tokens.next().is_word("default");
    if is_default { set.into_reset() } else { set }
}

/// What stands behind `RESET`; `RESET ALL` is known already.
pub(super) fn reset(text: &[u8]) -> Set {
    let mut tokens = Tokens::new(text);
    let token = tokens.next();
    if token.is_word("transaction") {
        return Set::default();
    }
    let set = if token.is_word("time") {
        Set::reported()
    } else if token.is_word("session") {
        Set::of(&AUTHORIZATION)
    } else {
        Set::named(tokens.name(token))
    };
    set.into_reset()
}

/// What stands behind the name `set_config`.
pub(super) fn call(text: &[u8]) -> Set {
    let mut tokens = Tokens::new(text);
    if !matches!(tokens.next(), Token::Sign(b'(')) {
        // Part of a longer name, or of something else.
        return Set::unknown();
    }
    let name = match tokens.next() {
        Token::Literal(name) if !name.contains('\\') => Some(name),
        Token::Literal(_) | Token::Word(_) | Token::Quoted(_) | Token::Sign(_) | Token::End => None,
    };
    tokens.skip_cast();
    let name = name.filter(|_| matches!(tokens.peek(), Token::Sign(b',')));
    if name.is_some() {
        tokens.next();
    } else if !tokens.skip_argument() {
        return Set::unknown();
    }
    if !tokens.skip_argument() {
        return Set::unknown();
    }
    let scope = tokens.next();
    if scope.is_word("true") && matches!(tokens.next(), Token::Sign(b')')) {
        return Set::named(name).into_local();
    }
    Set::named(name)
}

/// A piece of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a [u8]),
    Quoted(String),
    Literal(String),
    Sign(u8),
    /// The end, or what is not understood.
    End,
}

impl Token<'_> {
    fn is_word(&self, known: &str) -> bool {
        matches!(self, Token::Word(word) if is(word, known))
    }
}

/// Words, quoted names, literals and signs of a statement; comments passed over.
struct Tokens<'a> {
    words: super::Words<'a>,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self {
            words: super::Words::new(text),
        }
    }

    fn peek(&self) -> Token<'a> {
        let mut ahead = Self {
            words: super::Words {
                rest: self.words.rest,
                patience: self.words.patience,
            },
        };
        ahead.next()
    }

    fn next(&mut self) -> Token<'a> {
        self.words.skip_blanks();
        let text = self.words.rest;
        let Some((&byte, rest)) = text.split_first() else {
            return Token::End;
        };
        let (token, len) = match byte {
            b'"' => match quoted(rest, b'"') {
                Some((name, len)) => (Token::Quoted(name), len + 1),
                None => return Token::End,
            },
            b'\'' => match quoted(rest, b'\'') {
                Some((value, len)) => (Token::Literal(value), len + 1),
                None => return Token::End,
            },
            _ if super::is_word(byte) => {
                let len = text
                    .iter()
                    .position(|byte| !super::is_word(*byte))
                    .unwrap_or(text.len());
                (Token::Word(text.get(..len).unwrap_or_default()), len)
            }
            _ => (Token::Sign(byte), 1),
        };
        if self.words.advance(len).is_none() {
            return Token::End;
        }
        token
    }

    /// A name of one part or more, which begins with this token.
    fn name(&mut self, first: Token<'a>) -> Option<String> {
        let mut name = part(first)?;
        while matches!(self.peek(), Token::Sign(b'.')) {
            self.next();
            name.push('.');
            name.push_str(&part(self.next())?);
        }
        (name.len() <= NAME_LEN_MAX).then_some(name)
    }

    /// Passes over `::text`, which the server writes behind each literal.
    fn skip_cast(&mut self) {
        let rest = self.words.rest.strip_prefix(b"::text");
        self.words.rest = rest.unwrap_or(self.words.rest);
    }

    /// Passes over an argument and the comma behind it.
    fn skip_argument(&mut self) -> bool {
        let mut depth = 0_u32;
        loop {
            match self.next() {
                Token::End => return false,
                Token::Sign(b'(' | b'[') => depth += 1,
                Token::Sign(b')' | b']') if depth == 0 => return false,
                Token::Sign(b')' | b']') => depth -= 1,
                Token::Sign(b',') if depth == 0 => return true,
                // A dollar-quoted string may hold anything.
                Token::Sign(b'$') if matches!(self.peek(), Token::Sign(b'$')) => return false,
                // In E'…' a backslash may hide the end.
                Token::Literal(text) if text.contains('\\') => return false,
                Token::Sign(_) | Token::Word(_) | Token::Quoted(_) | Token::Literal(_) => {}
            }
        }
    }
}

fn part(token: Token<'_>) -> Option<String> {
    match token {
        // U&"…" is written in code points.
        Token::Word(word) => {
            let word = std::str::from_utf8(word).ok()?;
            (word != "u" && word != "U").then(|| word.to_ascii_lowercase())
        }
        Token::Quoted(name) => Some(name),
        Token::Literal(_) | Token::Sign(_) | Token::End => None,
    }
}

/// The text up to the closing quote, and how long that was with the quote. Two quotes are one of the text.
fn quoted(text: &[u8], quote: u8) -> Option<(String, usize)> {
    let mut value = Vec::new();
    let mut at = 0;
    loop {
        let rest = text.get(at..)?;
        let end = memchr::memchr(quote, rest.get(..rest.len().min(LITERAL_LEN_MAX))?)?;
        value.extend_from_slice(rest.get(..end)?);
        at += end + 1;
        if text.get(at) != Some(&quote) {
            break;
        }
        value.push(quote);
        at += 1;
        if value.len() > LITERAL_LEN_MAX {
            return None;
        }
    }
    Some((String::from_utf8(value).ok()?, at))
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
/// A value that is passed over on the way to the scope of a `set_config`.
const LITERAL_LEN_MAX: usize = 4 * 1024;

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
            ("('a', $$ , true) $$, false)", None),
            ("('a', E'\\', true', false)", None),
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
