//! What a text resets that is one plain statement and does nothing else.

use crate::sql::Token;

use super::set::{name, tokens};
use super::without_end;

/// What goes back to what its session has started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reset {
    /// One setting, by name.
    One { name: String, span: Span },
    /// All but the user and the role: `RESET ALL`.
    All,
    /// These too: `DISCARD ALL`.
    Discard,
}

/// How long it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    Session,
    Transaction,
}

/// `RESET`, `SET … TO DEFAULT`, or `DISCARD ALL`. None where that is not certain.
#[must_use]
pub fn reset(text: &[u8]) -> Option<Reset> {
    let mut tokens = tokens(without_end(text));
    let first = tokens.next()?;
    let reset = if first.is("discard") {
        tokens.next()?.is("all").then_some(Reset::Discard)
    } else if first.is("reset") {
        if tokens.peek()?.is("all") {
            tokens.next();
            Some(Reset::All)
        } else {
            behind_reset(&mut tokens)
        }
    } else if first.is("set") {
        behind_set(&mut tokens)
    } else {
        None
    };
    let is_end = tokens.next().is_none() && tokens.is_sure();
    reset.filter(|_| is_end)
}

fn behind_reset<'a>(tokens: &mut crate::sql::Lexer<'a>) -> Option<Reset> {
    let token = tokens.next()?;
    let name = match second(&token, tokens) {
        Second::Known(name) => name.to_owned(),
        Second::Other => return None,
        Second::None => name(Some(token), tokens)?,
    };
    Some(Reset::One {
        name,
        span: Span::Session,
    })
}

fn behind_set<'a>(tokens: &mut crate::sql::Lexer<'a>) -> Option<Reset> {
    let mut token = tokens.next()?;
    let mut span = Span::Session;
    if token.is("local") {
        span = Span::Transaction;
        token = tokens.next()?;
    } else if token.is("session") && !tokens.peek()?.is("authorization") {
        token = tokens.next()?;
    }
    if token.is("names") {
        let is_default = tokens.next().is_none_or(|token| token.is("default"));
        let name = CLIENT_ENCODING.to_owned();
        return is_default.then_some(Reset::One { name, span });
    }
    let name = match second(&token, tokens) {
        Second::Known(TIME_ZONE) if tokens.peek()?.is("local") => {
            tokens.next();
            let name = TIME_ZONE.to_owned();
            return Some(Reset::One { name, span });
        }
        Second::Known(name) => name.to_owned(),
        Second::Other => return None,
        Second::None => {
            let name = name(Some(token), tokens)?;
            let sign = tokens.next()?;
            if !sign.is_sign(b"=") && !sign.is("to") {
                return None;
            }
            name
        }
    };
    tokens.next()?.is("default").then_some(Reset::One { name, span })
}

/// Whether a setting has a name of two words.
enum Second {
    Known(&'static str),
    /// It is none, or one that is the transaction's own.
    Other,
    None,
}

fn second<'a>(first: &Token<'a>, tokens: &mut crate::sql::Lexer<'a>) -> Second {
    let (word, name) = if first.is("time") {
        ("zone", TIME_ZONE)
    } else if first.is("session") {
        ("authorization", "session_authorization")
    } else if first.is("transaction") {
        return Second::Other;
    } else {
        return Second::None;
    };
    if !tokens.peek().is_some_and(|token| token.is(word)) {
        return Second::Other;
    }
    tokens.next();
    Second::Known(name)
}

const TIME_ZONE: &str = "timezone";
const CLIENT_ENCODING: &str = "client_encoding";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_reset_names_what_it_resets() {
        for (text, expected) in [
            ("RESET work_mem", "work_mem"),
            ("reset /* all */ \"Work_Mem\";\0", "Work_Mem"),
            ("RESET app . Tenant", "app.tenant"),
            ("RESET TIME ZONE ;", "timezone"),
            ("RESET SESSION AUTHORIZATION", "session_authorization"),
            ("RESET ROLE", "role"),
            ("SET work_mem TO DEFAULT", "work_mem"),
            ("SET SESSION work_mem = default", "work_mem"),
            ("SET TIME ZONE LOCAL", "timezone"),
            ("SET TIME ZONE DEFAULT", "timezone"),
            ("SET SESSION TIME ZONE DEFAULT", "timezone"),
            ("SET NAMES", "client_encoding"),
            ("SET NAMES DEFAULT", "client_encoding"),
            ("SET SESSION AUTHORIZATION DEFAULT", "session_authorization"),
            (
                "SET SESSION SESSION AUTHORIZATION DEFAULT",
                "session_authorization",
            ),
        ] {
            let expected = Reset::One {
                name: expected.to_owned(),
                span: Span::Session,
            };
            assert_eq!(reset(text.as_bytes()), Some(expected), "{text}");
        }
        assert_eq!(reset(b"-- all\nRESET ALL\0"), Some(Reset::All));
        assert_eq!(reset(b"discard all ; "), Some(Reset::Discard));
        let local = Reset::One {
            name: "work_mem".to_owned(),
            span: Span::Transaction,
        };
        assert_eq!(reset(b"SET LOCAL work_mem TO DEFAULT"), Some(local));
    }

    #[test]
    fn what_does_more_or_something_else_is_none() {
        for text in [
            "",
            "RESET",
            "RESET a b",
            "RESET work_mem; SHOW work_mem",
            "RESET TRANSACTION ISOLATION LEVEL",
            "RESET TIME",
            "RESET U&\"work_mem\"",
            "RESET 'work_mem'",
            "SET work_mem = '1MB'",
            "SET work_mem",
            "SET work_mem TO 'default'",
            "SET TIME ZONE 'UTC'",
            "SET NAMES 'utf8'",
            "SET TRANSACTION READ ONLY",
            "DISCARD TEMP",
            "DISCARD",
            "SELECT 1",
        ] {
            assert_eq!(reset(text.as_bytes()), None, "{text}");
        }
    }
}
