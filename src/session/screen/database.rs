//! Statements that a database must be free of connections for.

use crate::sql::{Kind, Lexer, Strings, Token, name_of};

use super::{Words, is, is_any};

/// What a statement wants of a database beside the client's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DatabaseEffect {
    #[default]
    None,
    /// That nobody is connected to it: see [`vacated`].
    MayVacate,
}

impl DatabaseEffect {
    /// Of a statement that begins with this word, and goes on with these.
    pub(super) fn of(first: &[u8], words: &Words<'_>) -> Self {
        let is_database = is_any(first, &["drop", "create", "alter"])
            && words.peek().is_some_and(|word| is(word, "database"));
        if is_database { Self::MayVacate } else { Self::None }
    }
}

/// The database that a statement drops, renames, moves or copies. PostgreSQL waits a few seconds for others to leave it, and
/// then refuses.
#[must_use]
pub fn vacated(text: &[u8]) -> Option<Box<[u8]>> {
    let mut tokens = Lexer::new(text, Strings::Unknown);
    let verb = tokens.find(|token| token.kind == Kind::Word)?;
    if !tokens.next()?.is("database") {
        return None;
    }
    let name = tokens.next()?;
    if verb.is("drop") {
        let mut ahead = tokens.clone();
        let is_checked = name.is("if") && ahead.next().is_some_and(|next| next.is("exists"));
        return identifier(&if is_checked { ahead.next()? } else { name });
    }
    if verb.is("create") {
        tokens.find(|token| token.is("template"))?;
        let token = tokens.next()?;
        return identifier(&if token.is_sign(b"=") {
            tokens.next()?
        } else {
            token
        });
    }
    let moves = tokens.any(|token| token.is_any(&["rename", "tablespace"]));
    (verb.is("alter") && moves).then(|| identifier(&name)).flatten()
}

/// A name as the server understands it.
fn identifier(token: &Token<'_>) -> Option<Box<[u8]>> {
    name_of(token).map(|name| name.into_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_that_must_be_left_is_found() {
        for (text, name) in [
            ("DROP DATABASE app", "app"),
            ("drop database App;", "app"),
            ("/* x */ DROP DATABASE IF EXISTS app WITH (FORCE)", "app"),
            ("DROP DATABASE \"If \"\"x\"\"\"", "If \"x\""),
            ("DROP DATABASE if", "if"),
            ("CREATE DATABASE a TEMPLATE b", "b"),
            ("CREATE DATABASE a OWNER c TEMPLATE=\"B\" ENCODING 'UTF8'", "B"),
            ("ALTER DATABASE a RENAME TO b", "a"),
            ("ALTER DATABASE a SET TABLESPACE b", "a"),
        ] {
            let words = &mut Words::new(text.as_bytes());
            let first = words.next().unwrap();
            assert_eq!(
                DatabaseEffect::of(first, words),
                DatabaseEffect::MayVacate,
                "{text}"
            );
            assert_eq!(
                vacated(text.as_bytes()).as_deref(),
                Some(name.as_bytes()),
                "{text}"
            );
        }
    }

    #[test]
    fn other_statements_leave_databases_alone() {
        for text in [
            "",
            "DROP",
            "DROP TABLE database",
            "DROP DATABASE",
            "DROP DATABASE \"a",
            "CREATE DATABASE a",
            "ALTER DATABASE a SET work_mem = 1",
            "COMMENT ON DATABASE a IS 'rename'",
        ] {
            assert_eq!(vacated(text.as_bytes()), None, "{text}");
        }
    }
}
