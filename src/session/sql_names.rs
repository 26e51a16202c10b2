//! Finds the names of prepared statements in SQL: `PREPARE`, `EXECUTE` (alone, explained, or filling a new table) and
//! `DEALLOCATE`.
//!
//! A lexer, not a parser: it finds where a name stands. Whether the rest is right is for the server to say. What it is not sure
//! of it leaves alone.

use std::borrow::Cow;
use std::ops::Range;

use crate::sql::{Kind, Lexer, Strings, Token, name_of};

/// What a statement does with the name of a prepared statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Prepare,
    Execute,
    Deallocate,
}

/// The name in one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    pub verb: Verb,
    /// The name as it is written, quotes included.
    pub name: Range<usize>,
    /// What is prepared, behind `AS`. Empty for the other verbs.
    pub body: Range<usize>,
}

impl Mention {
    /// The name as the server reads it.
    #[must_use]
    pub fn name<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        read(text.get(self.name.clone()).unwrap_or_default())
    }

    /// Whether the name is longer than the server lets names be: it says so when it reads the text.
    #[must_use]
    pub fn is_cut(&self, text: &[u8]) -> bool {
        let written = text.get(self.name.clone()).unwrap_or_default();
        let whole = |token: Token<'_>| name_of(&token).map_or(0, |name| name.len());
        let token = Lexer::new(written, Strings::Unknown).next();
        token.map_or(0, whole) > self.name(text).len()
    }

    /// What follows on the name: parameter types and body.
    #[must_use]
    pub fn definition<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(self.name.end..self.body.end).unwrap_or_default()
    }
}

/// The name in a text that is one statement and mentions one.
#[must_use]
pub fn only(text: &[u8]) -> Option<Mention> {
    if !begins(text) {
        return None;
    }
    let mut statements = Statements::new(text);
    let mention = statements.next()?.mention?;
    let is_alone = statements.is_sure() && statements.next().is_none() && statements.is_sure();
    is_alone.then_some(mention)
}

/// The names in a text of several statements. None when it is not sure, or there are more than it looks for.
#[must_use]
pub fn all(text: &[u8]) -> Option<Vec<Mention>> {
    if !mentions(text) {
        return None;
    }
    let mut statements = Statements::new(text);
    let mut found: Vec<Mention> = Vec::new();
    for statement in statements.by_ref() {
        found.extend(statement.mention);
        if found.len() > MENTIONS_MAX {
            return None;
        }
    }
    (statements.is_sure() && !found.is_empty()).then_some(found)
}

/// Whether a text begins with a word that may lead to a name; also when that is not to be seen yet.
#[must_use]
pub fn begins(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    match text.first() {
        None => true,
        // A comment: what stands behind it is looked for by the lexer. Of the next one there may be the first byte.
        Some(b'-' | b'/') => Lexer::new(text, Strings::Unknown).next().is_none_or(|first| {
            let first = first.text;
            is_verb(first) || matches!(first, b"-" | b"/")
        }),
        Some(first) => FIRST_LETTERS.contains(first) && is_verb(text),
    }
}

/// Whether one of the words stands at the beginning of a text, or what there is of it is the beginning of one.
fn is_verb(text: &[u8]) -> bool {
    let starts = |verb: &str| {
        let len = verb.len().min(text.len());
        let pair = text.get(..len).zip(verb.as_bytes().get(..len));
        pair.is_some_and(|(text, verb)| text.eq_ignore_ascii_case(verb))
    };
    VERBS.iter().any(|verb| starts(verb))
}

/// A quick look for the words that a text of several statements must hold.
fn mentions(text: &[u8]) -> bool {
    let is_at = |at: usize, word: &str| {
        let found = text.get(at..at + word.len());
        found.is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes()))
    };
    memchr::memchr(b';', text).is_some()
        && (memchr::memchr2_iter(b'x', b'X', text).any(|at| at > 0 && is_at(at - 1, "execute"))
            || memchr::memchr2_iter(b'd', b'D', text).any(|at| is_at(at, "deallocate")))
}

/// The statements of a text.
struct Statements<'a> {
    lexer: Lexer<'a>,
    /// Of parentheses and brackets: a rule has semicolons between them.
    depth: usize,
    codes: Codes,
}

/// Whether a name was written in code points. It may be that of a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Codes {
    None,
    Seen,
}

struct Statement {
    mention: Option<Mention>,
}

impl<'a> Statements<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self {
            lexer: Lexer::new(text, Strings::Unknown),
            depth: 0,
            codes: Codes::None,
        }
    }

    fn is_sure(&self) -> bool {
        self.lexer.is_sure() && self.codes == Codes::None
    }

    /// The next token of the present statement; none at its end.
    fn token(&mut self) -> Option<Token<'a>> {
        let before = self.lexer.clone();
        let token = self.lexer.next()?;
        match token.text {
            b"(" | b"[" => self.depth += 1,
            b")" | b"]" => self.depth = self.depth.saturating_sub(1),
            b";" if self.depth == 0 => {
                self.lexer = before;
                return None;
            }
            _ if token.kind == Kind::CodedName => self.codes = Codes::Seen,
            _ => {}
        }
        Some(token)
    }

    /// The first token of the next statement.
    fn beginning(&mut self) -> Option<Token<'a>> {
        self.depth = 0;
        while self.lexer.peek()?.is_sign(b";") {
            self.lexer.next();
        }
        self.token()
    }

    fn mention(&mut self, first: &Token<'a>) -> Option<Mention> {
        if first.is("prepare") {
            return self.prepare();
        }
        if first.is("deallocate") {
            return self.deallocate();
        }
        if first.is("explain") {
            let first = self.behind_options()?;
            return self.execute(&first);
        }
        self.execute(first)
    }

    fn prepare(&mut self) -> Option<Mention> {
        let name = self.name()?;
        let mut depth = 0_usize;
        loop {
            let token = self.token()?;
            match token.text {
                b"(" => depth += 1,
                b")" => depth = depth.saturating_sub(1),
                _ if depth == 0 && token.is("as") => break,
                _ => {}
            }
        }
        let mut body = self.token()?.range();
        while let Some(token) = self.token() {
            body.end = token.end();
        }
        Some(Mention {
            verb: Verb::Prepare,
            name,
            body,
        })
    }

    fn deallocate(&mut self) -> Option<Mention> {
        let mut token = self.token()?;
        if token.is("prepare") {
            // Which may also be the name.
            token = self.token().unwrap_or(token);
        }
        if token.is("all") || !is_name(&token) {
            return None;
        }
        Some(Mention {
            verb: Verb::Deallocate,
            name: token.range(),
            body: 0..0,
        })
    }

    /// `EXECUTE`, or `CREATE TABLE … AS EXECUTE`.
    fn execute(&mut self, first: &Token<'_>) -> Option<Mention> {
        if first.is("create") {
            self.filling()?;
        } else if !first.is("execute") {
            return None;
        }
        Some(Mention {
            verb: Verb::Execute,
            name: self.name()?,
            body: 0..0,
        })
    }

    /// Passes over the options of an `EXPLAIN`; the first word of what is explained.
    fn behind_options(&mut self) -> Option<Token<'a>> {
        let mut token = self.token()?;
        if token.text == b"(" {
            let mut depth = 1_usize;
            while depth > 0 {
                match self.token()?.text {
                    b"(" => depth += 1,
                    b")" => depth -= 1,
                    _ => {}
                }
            }
            return self.token();
        }
        while token.is_any(&["analyze", "analyse", "verbose"]) {
            token = self.token()?;
        }
        Some(token)
    }

    /// Passes over the beginning of a `CREATE TABLE` that is filled by a statement.
    fn filling(&mut self) -> Option<()> {
        let mut token = self.token()?;
        while token.is_any(&["temp", "temporary", "local", "global", "unlogged"]) {
            token = self.token()?;
        }
        if !token.is("table") {
            return None;
        }
        let mut depth = 0_usize;
        let mut is_behind_as = false;
        loop {
            let token = self.token()?;
            if is_behind_as && token.is("execute") {
                return Some(());
            }
            match token.text {
                b"(" => depth += 1,
                b")" => depth = depth.saturating_sub(1),
                _ => {}
            }
            is_behind_as = depth == 0 && token.is("as");
        }
    }

    fn name(&mut self) -> Option<Range<usize>> {
        let token = self.token()?;
        let is_other = token.is("transaction");
        (is_name(&token) && !is_other).then(|| token.range())
    }
}

impl Iterator for Statements<'_> {
    type Item = Statement;

    fn next(&mut self) -> Option<Statement> {
        let first = self.beginning()?;
        let mention = self.mention(&first);
        while self.token().is_some() {}
        Some(Statement { mention })
    }
}

/// A keyword or a name. A name of no characters is an error.
fn is_name(token: &Token<'_>) -> bool {
    token.bare().is_some_and(|name| !name.is_empty())
}

/// A name as the server reads it: folded unless quoted, and cut.
fn read(written: &[u8]) -> Cow<'_, [u8]> {
    let token = Lexer::new(written, Strings::Unknown).next();
    let name = token.and_then(|token| name_of(&token)).unwrap_or_default();
    let len = cut_len(&name);
    match name {
        Cow::Borrowed(name) => Cow::Borrowed(name.get(..len).unwrap_or(name)),
        Cow::Owned(mut name) => {
            name.truncate(len);
            Cow::Owned(name)
        }
    }
}

/// How much of a name counts: up to 63 bytes, and whole characters (`truncate_identifier` in
/// `src/backend/parser/scansup.c`).
fn cut_len(name: &[u8]) -> usize {
    let max = super::statement::key(name).len();
    if max == name.len() {
        return max;
    }
    let is_inside = |at: &usize| name.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (0..=max).rev().find(|at| !is_inside(at)).unwrap_or(max)
}

const VERBS: [&str; 5] = ["prepare", "execute", "deallocate", "explain", "create"];
const FIRST_LETTERS: &[u8] = b"pPeEdDcC";
/// Names in one text: what is pasted together by drivers has a hundred or so.
const MENTIONS_MAX: usize = 1000;

#[cfg(test)]
mod tests;
