//! Reads the few texts that say what is listened to. What is not understood to its last byte is none of them.

use crate::session::screen::comment_len;

use super::{Channel, Command};

/// What a text does to the savepoints of its transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, or it ends the transaction: the answer tells which way.
    Other,
    Savepoint(Channel),
    RollbackTo(Channel),
    Release(Channel),
    /// Something, but it is not known what.
    Unclear,
}

/// The commands of a text that consists of LISTEN and UNLISTEN alone.
#[must_use]
pub fn commands(text: &[u8]) -> Option<Vec<Command>> {
    let mut tokens = Tokens { rest: text };
    let mut commands = Vec::new();
    while let Some(token) = tokens.next() {
        match token {
            Token::Other(b';') => continue,
            Token::Word(word) if word.eq_ignore_ascii_case(b"listen") => {
                commands.push(Command::Listen(tokens.next()?.name()?));
            }
            Token::Word(word) if word.eq_ignore_ascii_case(b"unlisten") => {
                commands.push(tokens.next()?.into_unlisten()?);
            }
            Token::Word(_) | Token::Quoted(_) | Token::Other(_) => return None,
        }
        if commands.len() > COMMANDS_MAX || !tokens.at_end_of_statement() {
            return None;
        }
    }
    (!commands.is_empty()).then_some(commands)
}

/// The commands that end listening, of a text that holds other statements too. A quote may hide what looks like one; the
/// answers tell how many there were.
#[must_use]
pub fn unlistens(text: &[u8]) -> Vec<Command> {
    let mut tokens = Tokens { rest: text };
    let mut commands = Vec::new();
    let mut is_first = true;
    while let Some(token) = tokens.next() {
        if is_first && token.is("unlisten") {
            commands.extend(tokens.next().and_then(Token::into_unlisten));
        }
        is_first = matches!(token, Token::Other(b';'));
        if commands.len() > COMMANDS_MAX {
            break;
        }
    }
    commands
}

/// What a text does to savepoints.
#[must_use]
pub fn step(text: &[u8]) -> Step {
    let mut tokens = Tokens { rest: text };
    let found = match tokens.next() {
        Some(Token::Word(word)) => single_step(word, &mut tokens),
        _ => Some(Step::Other),
    };
    match found {
        Some(step) if tokens.is_over() => step,
        // Of several statements, or of one that is not understood, the words tell whether it matters.
        _ if !mentions_savepoints(text) => Step::Other,
        _ => Step::Unclear,
    }
}

/// The step of the only statement, which begins with this word. `None`: it is not understood.
fn single_step(first: &[u8], tokens: &mut Tokens<'_>) -> Option<Step> {
    let is = |known: &str| first.eq_ignore_ascii_case(known.as_bytes());
    if is("savepoint") {
        return Some(Step::Savepoint(tokens.next()?.name()?));
    }
    if is("release") {
        return Some(Step::Release(tokens.name_behind("savepoint")?));
    }
    if !is("rollback") && !is("abort") {
        return None;
    }
    let mut next = tokens.next();
    if next
        .as_ref()
        .is_some_and(|token| token.is("work") || token.is("transaction"))
    {
        next = tokens.next();
    }
    match next {
        Some(token) if token.is("to") => Some(Step::RollbackTo(tokens.name_behind("savepoint")?)),
        Some(token) if token.is("and") || token.is("prepared") => {
            // AND CHAIN, AND NO CHAIN, a prepared transaction: none is of a savepoint.
            tokens.rest = &[];
            Some(Step::Other)
        }
        None | Some(Token::Other(b';')) => Some(Step::Other),
        Some(_) => None,
    }
}

fn mentions_savepoints(text: &[u8]) -> bool {
    let tokens = Tokens { rest: text };
    let mut words = tokens.filter(|token| {
        ["savepoint", "release", "rollback", "abort"]
            .iter()
            .any(|known| token.is(known))
    });
    words.next().is_some()
}

/// The tokens of a text, as far as it takes to read what is read here: blanks and comments are passed over.
struct Tokens<'a> {
    rest: &'a [u8],
}

enum Token<'a> {
    /// A keyword, or a name without quotes.
    Word(&'a [u8]),
    /// A name in quotes, without them.
    Quoted(Vec<u8>),
    Other(u8),
}

impl Token<'_> {
    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(found) if found.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// What UNLISTEN names.
    fn into_unlisten(self) -> Option<Command> {
        if matches!(self, Self::Other(b'*')) {
            return Some(Command::UnlistenAll);
        }
        self.name().map(Command::Unlisten)
    }

    /// The name that the server makes of it. How other letters are folded hangs on the database, and a long name is cut.
    fn name(self) -> Option<Channel> {
        let name = match self {
            Token::Word(word) if word.is_ascii() => word.to_ascii_lowercase(),
            Token::Quoted(name) => name,
            Token::Word(_) | Token::Other(_) => return None,
        };
        let is_plain = (1..=NAME_LEN_MAX).contains(&name.len()) && std::str::from_utf8(&name).is_ok();
        is_plain.then(|| name.into())
    }
}

impl Tokens<'_> {
    /// A name, perhaps behind this word.
    fn name_behind(&mut self, word: &str) -> Option<Channel> {
        let token = self.next()?;
        if !token.is(word) {
            return token.name();
        }
        let before = self.rest;
        match self.next() {
            // The word is the name.
            None | Some(Token::Other(b';')) => {
                self.rest = before;
                token.name()
            }
            Some(name) => name.name(),
        }
    }

    fn at_end_of_statement(&mut self) -> bool {
        matches!(self.next(), None | Some(Token::Other(b';')))
    }

    /// Whether nothing follows but semicolons.
    fn is_over(&mut self) -> bool {
        self.all(|token| matches!(token, Token::Other(b';')))
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let text = self.rest;
            let (&byte, behind) = text.split_first()?;
            let skipped = match (byte, behind.first()) {
                (0, _) => return None,
                (b'-', Some(b'-')) => memchr::memchr2(b'\n', b'\r', text).unwrap_or(text.len()),
                (b'/', Some(b'*')) => comment_len(text),
                _ if byte.is_ascii_whitespace() || byte == VERTICAL_TAB => 1,
                (b'"', _) => return Some(self.quoted(behind)),
                _ if is_start(byte) => {
                    let len = text.iter().position(|byte| !is_part(*byte)).unwrap_or(text.len());
                    let (word, rest) = text.split_at_checked(len)?;
                    self.rest = rest;
                    return Some(Token::Word(word));
                }
                _ => {
                    self.rest = behind;
                    return Some(Token::Other(byte));
                }
            };
            self.rest = text.get(skipped..).unwrap_or_default();
        }
    }
}

impl<'a> Tokens<'a> {
    /// A name whose first quote has been read. One without an end is no name.
    fn quoted(&mut self, mut text: &'a [u8]) -> Token<'a> {
        let mut name = Vec::new();
        while let Some(at) = memchr::memchr(b'"', text) {
            name.extend_from_slice(text.get(..at).unwrap_or_default());
            text = text.get(at + 1..).unwrap_or_default();
            if text.first() != Some(&b'"') {
                self.rest = text;
                return Token::Quoted(name);
            }
            name.push(b'"');
            text = text.get(1..).unwrap_or_default();
        }
        self.rest = &[];
        Token::Other(b'"')
    }
}

fn is_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_part(byte: u8) -> bool {
    is_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

const VERTICAL_TAB: u8 = 0x0b;
/// `NAMEDATALEN - 1` in `src/include/pg_config_manual.h`.
const NAME_LEN_MAX: usize = 63;
/// Commands in one text: drivers that put several into one put few.
const COMMANDS_MAX: usize = 64;
