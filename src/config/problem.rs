//! What is wrong with a configuration, and where.

use std::fmt;

/// All that is wrong, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    /// In the order in which they shall be shown.
    pub(super) fn new(mut list: Vec<Problem>) -> Self {
        list.dedup();
        Self { list }
    }

    /// One problem that has no place in the text, as with a file that cannot be read.
    pub(super) fn of_source(source: &str, message: &str) -> Self {
        Self::new(vec![Problem::new(source, None, message)])
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }
}

/// One line each.
impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            problem.fmt(formatter)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as it was named, or the flag, or the environment variable.
    pub source: String,
    pub position: Option<Position>,
    pub message: String,
}

impl Problem {
    /// One line, whatever names from the file stand in the message.
    pub(super) fn new(source: &str, position: Option<Position>, message: &str) -> Self {
        let mut line = String::with_capacity(message.len());
        for letter in message.chars().take(MESSAGE_LENGTH_MAX) {
            if letter.is_control() {
                line.extend(letter.escape_debug());
            } else {
                line.push(letter);
            }
        }
        Self {
            source: source.to_owned(),
            position,
            message: line,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.source)?;
        if let Some(Position { line, column }) = self.position {
            write!(formatter, ":{line}:{column}")?;
        }
        write!(formatter, ": {}", self.message)
    }
}

/// Both count from 1; a column is a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    /// Of the byte at `offset`.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.get(line_start..).map_or(0, |start| start.chars().count()) + 1;
        Self { line, column }
    }
}

/// In characters: a list of all known keys fits, a page that was taken for a key does not.
const MESSAGE_LENGTH_MAX: usize = 1000;
