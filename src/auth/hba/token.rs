//! Cutting a line of `pg_hba.conf` into fields, and these into words.
//!
//! Source: `next_token` and `next_field_expand` in PostgreSQL's `src/backend/libpq/hba.c`.

use super::FileError;

/// Words between commas: `a, b` is one field.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) words: Vec<Word>,
}

/// One word; quoted ones are never keywords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) quoting: Quoting,
    /// Byte offset of its first character in the line.
    pub(super) offset: usize,
}

impl Word {
    pub(super) fn is_keyword(&self, keyword: &str) -> bool {
        self.quoting == Quoting::Bare && self.text == keyword
    }

    /// The rest of a word that begins with a sign which has a meaning outside of quotes.
    pub(super) fn has_sigil(&self, sigil: char) -> bool {
        self.quoting == Quoting::Bare && self.text.starts_with(sigil)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quoting {
    Bare,
    Quoted,
}

/// All fields of a line; none if it is empty or a comment.
pub(super) fn fields(number: usize, line: &str) -> Result<Vec<Field>, FileError> {
    let mut cursor = Cursor { line, offset: 0 };
    let mut fields = Vec::new();
    loop {
        let mut words = Vec::new();
        while let Some((word, end)) = cursor.word(number)? {
            words.push(word);
            if end == End::Field {
                break;
            }
        }
        if words.is_empty() {
            return Ok(fields);
        }
        fields.push(Field { words });
    }
}

/// What stands behind a word.
#[derive(PartialEq, Eq)]
enum End {
    Comma,
    Field,
}

struct Cursor<'a> {
    line: &'a str,
    offset: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<char> {
        self.line.get(self.offset..).and_then(|rest| rest.chars().next())
    }

    fn take(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.offset += next.len_utf8();
        Some(next)
    }

    fn word(&mut self, number: usize) -> Result<Option<(Word, End)>, FileError> {
        while self.peek().is_some_and(|next| is_blank(next) || next == ',') {
            self.take();
        }
        let start = self.offset;
        let mut text = String::new();
        let mut quoting = Quoting::Bare;
        loop {
            match self.peek() {
                None | Some('#') => break,
                Some(next) if is_blank(next) || next == ',' => break,
                Some('"') => {
                    if self.offset == start {
                        quoting = Quoting::Quoted;
                    }
                    self.quoted(number, &mut text)?;
                }
                Some(next) => {
                    text.push(next);
                    self.take();
                }
            }
        }
        if self.offset == start {
            return Ok(None);
        }
        let end = if self.peek() == Some(',') {
            End::Comma
        } else {
            End::Field
        };
        let word = Word {
            text,
            quoting,
            offset: start,
        };
        Ok(Some((word, end)))
    }

    /// From an opening quote behind the closing one; two quotes stand for one.
    fn quoted(&mut self, number: usize, text: &mut String) -> Result<(), FileError> {
        let start = self.offset;
        self.take();
        loop {
            match self.take() {
                None => {
                    return Err(FileError::at(
                        number,
                        self.line,
                        start,
                        "the double quote is not closed",
                    ));
                }
                Some('"') if self.peek() == Some('"') => {
                    text.push('"');
                    self.take();
                }
                Some('"') => return Ok(()),
                Some(other) => text.push(other),
            }
        }
    }
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r')
}
