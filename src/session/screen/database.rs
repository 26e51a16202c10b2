//! Statements that a database must be free of connections for.

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
    let mut words = Words::new(text);
    let verb = words.next()?;
    if !words.next().is_some_and(|word| is(word, "database")) {
        return None;
    }
    let name = words.rest;
    if is(verb, "drop") {
        let is_checked = words.next().is_some_and(|word| is(word, "if"));
        let is_checked = is_checked && words.next().is_some_and(|word| is(word, "exists"));
        return identifier(if is_checked { words.rest } else { name });
    }
    if is(verb, "create") {
        let is_copy = words.any(|word| is(word, "template"));
        return is_copy.then(|| identifier(words.rest)).flatten();
    }
    let moves = words.any(|word| is_any(word, &["rename", "tablespace"]));
    (is(verb, "alter") && moves).then(|| identifier(name)).flatten()
}

/// The identifier that a text begins with, as the server understands it.
fn identifier(text: &[u8]) -> Option<Box<[u8]>> {
    let start = text.iter().position(|byte| !is_between(*byte))?;
    let text = text.get(start..)?;
    let Some(quoted) = text.strip_prefix(b"\"") else {
        return Some(Words::new(text).next()?.to_ascii_lowercase().into());
    };
    let mut name = Vec::new();
    let mut rest = quoted;
    loop {
        let at = memchr::memchr(b'"', rest)?;
        name.extend_from_slice(rest.get(..at)?);
        rest = rest.get(at + 1..)?;
        let Some(more) = rest.strip_prefix(b"\"") else {
            return Some(name.into());
        };
        name.push(b'"');
        rest = more;
    }
}

/// Blanks, and what may stand before the name of a template.
fn is_between(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == b'='
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
