//! Reads the few texts that say what is listened to. What is not understood to its last byte is none of them.

use crate::sql::{Kind, Lexer, Strings, Token, name_of, words};

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
    let mut tokens = Lexer::new(text, Strings::Unknown);
    let mut commands = Vec::new();
    while let Some(token) = tokens.next() {
        if token.is_sign(b";") {
            continue;
        }
        commands.push(if token.is("listen") {
            Command::Listen(channel(&tokens.next()?)?)
        } else if token.is("unlisten") {
            unlistened(&tokens.next()?)?
        } else {
            return None;
        });
        let is_over = tokens.next().is_none_or(|next| next.is_sign(b";"));
        if commands.len() > COMMANDS_MAX || !is_over {
            return None;
        }
    }
    (tokens.is_sure() && !commands.is_empty()).then_some(commands)
}

/// The commands that end listening, of a text that holds other statements too. With `standard_conforming_strings` off a quote
/// may hide what looks like one; the answers tell how many there were.
#[must_use]
pub fn unlistens(text: &[u8]) -> Vec<Command> {
    let mut tokens = Lexer::new(text, Strings::Conforming);
    let mut commands = Vec::new();
    let mut is_first = true;
    while let Some(token) = tokens.next() {
        if is_first && token.is("unlisten") {
            commands.extend(tokens.next().and_then(|next| unlistened(&next)));
        }
        is_first = token.is_sign(b";");
        if commands.len() > COMMANDS_MAX {
            break;
        }
    }
    commands
}

/// What a text does to savepoints.
#[must_use]
pub fn step(text: &[u8]) -> Step {
    let mut tokens = Lexer::new(text, Strings::Unknown);
    match tokens.next().and_then(|first| single_step(&first, &mut tokens)) {
        Some(step) if tokens.all(|token| token.is_sign(b";")) && tokens.is_sure() => step,
        // Of several statements, or of one that is not understood, the words tell whether it matters.
        _ if !words(text).any(is_of_savepoints) => Step::Other,
        _ => Step::Unclear,
    }
}

/// The step of the only statement, which begins with this word. `None`: it is not understood.
fn single_step(first: &Token<'_>, tokens: &mut Lexer<'_>) -> Option<Step> {
    if first.is("savepoint") {
        return Some(Step::Savepoint(channel(&tokens.next()?)?));
    }
    if first.is("release") {
        return Some(Step::Release(name_behind("savepoint", tokens)?));
    }
    if !first.is_any(&["rollback", "abort"]) {
        return None;
    }
    let mut next = tokens.next();
    if next.is_some_and(|next| next.is_any(&["work", "transaction"])) {
        next = tokens.next();
    }
    match next {
        Some(word) if word.is("to") => Some(Step::RollbackTo(name_behind("savepoint", tokens)?)),
        Some(word) if word.is_any(&["and", "prepared"]) => {
            // AND CHAIN, AND NO CHAIN, a prepared transaction: none is of a savepoint.
            tokens.find(|token| token.is_sign(b";"));
            Some(Step::Other)
        }
        None => Some(Step::Other),
        Some(sign) if sign.is_sign(b";") => Some(Step::Other),
        Some(_) => None,
    }
}

/// A name, perhaps behind this word.
fn name_behind(word: &str, tokens: &mut Lexer<'_>) -> Option<Channel> {
    let token = tokens.next()?;
    let is_the_name = tokens.peek().is_none_or(|next| next.is_sign(b";"));
    if !token.is(word) || is_the_name {
        return channel(&token);
    }
    channel(&tokens.next()?)
}

fn is_of_savepoints(word: &[u8]) -> bool {
    ["savepoint", "release", "rollback", "abort"]
        .iter()
        .any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
}

/// What UNLISTEN names.
fn unlistened(token: &Token<'_>) -> Option<Command> {
    if token.is_sign(b"*") {
        return Some(Command::UnlistenAll);
    }
    channel(token).map(Command::Unlisten)
}

/// The name that the server makes of it. How other letters are folded hangs on the database, and a long name is cut.
fn channel(token: &Token<'_>) -> Option<Channel> {
    let is_folded = token.kind == Kind::Word;
    let name = name_of(token).filter(|name| !is_folded || name.is_ascii())?;
    let is_plain = (1..=NAME_LEN_MAX).contains(&name.len()) && std::str::from_utf8(&name).is_ok();
    is_plain.then(|| name.into_owned().into())
}

/// `NAMEDATALEN - 1` in `src/include/pg_config_manual.h`.
const NAME_LEN_MAX: usize = 63;
/// Commands in one text: drivers that put several into one put few.
const COMMANDS_MAX: usize = 64;
