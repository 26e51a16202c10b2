//! What a client says itself about where its statements go: comments in a text, and settings of its own.
//!
//! `/* pgweir: role=primary */` before the first token of a text or behind its last, `SET pgweir.role = replica`,
//! `SET pgweir.min_lsn = '0/16B3748'`. To a server these are a comment and settings that somebody has made up.

use std::borrow::Cow;

use crate::protocol::{Report, SqlState};
use crate::sql::{Kind, Lexer, Strings, Token, name_of, string_of};
use crate::topology::Lsn;

/// Which servers a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Primary,
    Replica,
}

/// A setting of ours, to be set to what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// None: back to what it was without.
    Role(Option<Role>),
    MinLsn(Option<Lsn>),
}

impl Role {
    /// Reads the word for it; any case will do.
    #[must_use]
    pub fn read(word: &str) -> Option<Self> {
        if word.eq_ignore_ascii_case("primary") {
            Some(Self::Primary)
        } else if word.eq_ignore_ascii_case("replica") {
            Some(Self::Replica)
        } else {
            None
        }
    }
}

/// The role that the comments of a text ask for; the last of several counts.
///
/// # Errors
/// A comment that begins with our name and says something else.
pub fn of_comments(text: &[u8]) -> Result<Option<Role>, Report> {
    // Wrongly cut where backslashes are no characters; at worst a string is taken for a comment, which only asks.
    let (mut leading, mut trailing) = (None, Ok(None));
    let mut is_before = true;
    for token in Lexer::new(text, Strings::Conforming).keeping_comments() {
        if token.kind == Kind::Comment {
            match (of_comment(token.text), is_before) {
                (Ok(None), _) => {}
                (said, true) => leading = said?,
                (said, false) => trailing = said,
            }
        } else if !token.is_sign(b";") {
            is_before = false;
            // It was no trailing one.
            trailing = Ok(None);
        }
    }
    Ok(trailing?.or(leading))
}

/// What one comment says to us.
fn of_comment(comment: &[u8]) -> Result<Option<Role>, Report> {
    let Ok(text) = std::str::from_utf8(comment) else {
        return Ok(None);
    };
    let inside = text
        .strip_prefix("--")
        .or_else(|| text.strip_prefix("/*")?.strip_suffix("*/"));
    let Some(words) = inside.and_then(|inside| inside.trim().strip_prefix("pgweir:")) else {
        return Ok(None);
    };
    let mut role = None;
    for word in words
        .split([' ', ',', '\t', '\n', '\r'])
        .filter(|word| !word.is_empty())
    {
        let said = match word.split_once('=') {
            Some(("role", value)) => Role::read(value.trim_matches('\'')),
            _ => None,
        };
        role = Some(said.ok_or_else(|| unknown_directive(word))?);
    }
    Ok(role)
}

/// Whether a text may set something of ours: few do.
#[must_use]
pub fn may_be_set(text: &[u8]) -> bool {
    let first = text.trim_ascii_start().get(..3);
    first.is_some_and(|word| word.eq_ignore_ascii_case(b"set"))
}

/// What a text sets of ours, if that is all it does: `SET [SESSION | LOCAL] pgweir.… {TO | =} value`.
///
/// # Errors
/// It may not be set to that.
pub fn of_set(text: &[u8]) -> Result<Option<Setting>, Report> {
    let Some((name, value)) = assignment(text) else {
        return Ok(None);
    };
    let setting = match (&*name, value.as_deref()) {
        (ROLE, None) => Setting::Role(None),
        (MIN_LSN, None) => Setting::MinLsn(None),
        (ROLE, Some(word)) => {
            Setting::Role(Some(Role::read(word).ok_or_else(|| {
                invalid(ROLE, word).with_hint("Available values: primary, replica.")
            })?))
        }
        (MIN_LSN, Some(word)) => Setting::MinLsn(Some(word.parse().map_err(|_| {
            invalid(MIN_LSN, word).with_hint("Use what SHOW pgweir.lsn has shown, as in '0/16B3748'.")
        })?)),
        _ => return Ok(None),
    };
    Ok(Some(setting))
}

/// A name of two parts that begins with our own, and the value; none is `DEFAULT`.
fn assignment(text: &[u8]) -> Option<(String, Option<String>)> {
    let mut tokens = Lexer::new(text, Strings::Conforming);
    if !tokens.next()?.is("set") {
        return None;
    }
    let mut token = tokens.next()?;
    if token.is_any(&["session", "local"]) {
        token = tokens.next()?;
    }
    let first = part(&token)?;
    if first != "pgweir" || !tokens.next()?.is_sign(b".") {
        return None;
    }
    let name = format!("{first}.{}", part(&tokens.next()?)?);
    let sign = tokens.next()?;
    if !sign.is_sign(b"=") && !sign.is("to") {
        return None;
    }
    let value = tokens.next()?;
    let is_alone = match tokens.next() {
        None => true,
        Some(end) => end.is_sign(b";") && tokens.next().is_none(),
    };
    if !is_alone {
        return None;
    }
    if value.is("default") {
        return Some((name, None));
    }
    let value = string_of(&value)
        .or_else(|| name_of(&value))
        .unwrap_or(Cow::Borrowed(value.text));
    Some((name, Some(String::from_utf8_lossy(&value).into_owned())))
}

fn part(token: &Token<'_>) -> Option<String> {
    String::from_utf8(name_of(token)?.into_owned()).ok()
}

fn invalid(name: &'static str, value: &str) -> Report {
    Report::error(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("invalid value for parameter \"{name}\": \"{}\"", shown(value)),
    )
}

fn unknown_directive(word: &str) -> Report {
    Report::error(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("unknown directive in a comment for pgweir: \"{}\"", shown(word)),
    )
    .with_hint("Write role=primary or role=replica.")
}

fn shown(word: &str) -> String {
    word.chars().take(SHOWN_MAX).collect()
}

/// The settings, by their names.
pub const ROLE: &str = "pgweir.role";
pub const MIN_LSN: &str = "pgweir.min_lsn";
/// Characters of a word that an error shows: enough to recognise it.
const SHOWN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn role(text: &str) -> Option<Role> {
        of_comments(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_comment_before_the_first_token_or_behind_the_last_asks_for_a_role() {
        for text in [
            "/* pgweir: role=replica */ SELECT 1",
            "-- pgweir: role=replica\nSELECT 1",
            "SELECT 1 /* pgweir: role=replica */",
            "SELECT 1; /*pgweir:role='replica'*/ ;",
            "SELECT 1 -- pgweir: role=REPLICA",
            "/* other */ /* pgweir: role=primary, role=replica */ SELECT 1",
            "/* pgweir: role=primary */ SELECT 1 /* pgweir: role=replica */",
        ] {
            assert_eq!(role(text), Some(Role::Replica), "{text}");
        }
        for text in [
            "SELECT /* pgweir: role=replica */ 1",
            "SELECT ' /* pgweir: role=replica */ '",
            "SELECT 1 /* pgweirx: role=replica */",
            "SELECT 1 /* see pgweir: role=replica */",
            "/* pgweir: */ SELECT 1",
            "",
        ] {
            assert_eq!(role(text), None, "{text}");
        }
    }

    #[test]
    fn what_a_comment_for_us_says_is_known_or_refused() {
        for text in [
            "/* pgweir: role=standby */ SELECT 1",
            "SELECT 1 /* pgweir: rule=replica */",
            "SELECT 1 -- pgweir: replica",
        ] {
            let report = of_comments(text.as_bytes()).unwrap_err();
            assert_eq!(report.code, SqlState::INVALID_PARAMETER_VALUE, "{text}");
        }
    }

    #[test]
    fn settings_of_ours_are_read_where_they_are_set() {
        let set = |text: &str| of_set(text.as_bytes()).unwrap();
        assert_eq!(
            set("SET pgweir.role = 'replica'"),
            Some(Setting::Role(Some(Role::Replica)))
        );
        assert_eq!(
            set("set local Pgweir.Role to Primary;"),
            Some(Setting::Role(Some(Role::Primary)))
        );
        assert_eq!(set("SET pgweir.role TO DEFAULT"), Some(Setting::Role(None)));
        assert_eq!(
            set("SET SESSION pgweir.min_lsn = '1/2'"),
            Some(Setting::MinLsn(Some(Lsn(0x1_0000_0002))))
        );
        for text in [
            "SET app.role = 'x'",
            "SET pgweir.other = 1",
            "SELECT 1",
            "SET pgweir.role = a, b",
            "",
        ] {
            assert_eq!(set(text), None, "{text}");
        }
        for text in [
            "SET pgweir.role = 'x'",
            "SET pgweir.min_lsn = 'x'",
            "SET pgweir.min_lsn = 7",
            "SET pgweir.role = ''",
        ] {
            let report = of_set(text.as_bytes()).unwrap_err();
            assert_eq!(report.code, SqlState::INVALID_PARAMETER_VALUE, "{text}");
        }
    }
}
