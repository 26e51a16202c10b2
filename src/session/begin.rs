//! Queries that say nothing but that a transaction block begins or ends: those can be answered without a server.
//!
//! What is found here is exactly what PostgreSQL's grammar takes for it (`TransactionStmt` in `src/backend/parser/gram.y`).
//! Whatever is not, is the server's to judge.

use crate::sql::{Kind, Lexer, Strings, Token};

/// What such a query says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// With the tag of its `CommandComplete`.
    Begin {
        tag: &'static str,
        modes: Modes,
    },
    Commit,
    Rollback,
}

impl Command {
    /// Reads the body of a `Query`. None: it is something else, or perhaps is.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        if !is_likely(body) || body.len() > BEGIN_LEN_MAX {
            return None;
        }
        let (0, text) = body.split_last()? else {
            return None;
        };
        let mut tokens = Lexer::new(text, Strings::Unknown);
        let command = statement(&mut tokens)?;
        // A server knows an encoding in which other bytes are none, even in a comment; and the vertical tab is a blank only
        // since PostgreSQL 16.
        let is_plain = text.is_ascii() && memchr::memchr2(0, b'\x0b', text).is_none();
        (is_plain && tokens.is_sure()).then_some(command)
    }
}

/// The modes that a `BEGIN` asks for, in its order, and at most one of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes([Option<Mode>; 3]);

impl Modes {
    /// Writes a `BEGIN` that asks for them.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"BEGIN");
        for mode in self.0.into_iter().flatten() {
            out.push(b' ');
            out.extend_from_slice(mode.as_str().as_bytes());
        }
    }

    /// Whether the block only reads, at an isolation that a standby has (`TransactionStmt` is checked in
    /// `check_XactIsoLevel`, `src/backend/commands/variable.c`).
    #[must_use]
    pub fn only_reads(self) -> bool {
        let has = |mode| self.0.contains(&Some(mode));
        has(Mode::ReadOnly) && !has(Mode::Serializable)
    }

    /// Whether a standby can begin such a block: nothing is said of writing, and its isolation is one that a standby has.
    #[must_use]
    pub fn suit_standby(self) -> bool {
        let has = |mode| self.0.contains(&Some(mode));
        !has(Mode::ReadWrite) && !has(Mode::Serializable)
    }

    /// None: there is one of that kind already. Which of them counts is left to the server.
    fn add(&mut self, mode: Mode) -> Option<()> {
        let is_known = |known: &Option<Mode>| known.is_some_and(|known| known.kind() == mode.kind());
        if self.0.iter().any(is_known) {
            return None;
        }
        *self.0.iter_mut().find(|room| room.is_none())? = Some(mode);
        Some(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Serializable,
    RepeatableRead,
    ReadCommitted,
    ReadUncommitted,
    ReadWrite,
    ReadOnly,
    Deferrable,
    NotDeferrable,
}

/// Of these, each mode is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ModeKind {
    Isolation,
    Access,
    Deferring,
}

impl Mode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Serializable => "ISOLATION LEVEL SERIALIZABLE",
            Self::RepeatableRead => "ISOLATION LEVEL REPEATABLE READ",
            Self::ReadCommitted => "ISOLATION LEVEL READ COMMITTED",
            Self::ReadUncommitted => "ISOLATION LEVEL READ UNCOMMITTED",
            Self::ReadWrite => "READ WRITE",
            Self::ReadOnly => "READ ONLY",
            Self::Deferrable => "DEFERRABLE",
            Self::NotDeferrable => "NOT DEFERRABLE",
        }
    }

    fn kind(self) -> ModeKind {
        match self {
            Self::Serializable | Self::RepeatableRead | Self::ReadCommitted | Self::ReadUncommitted => {
                ModeKind::Isolation
            }
            Self::ReadWrite | Self::ReadOnly => ModeKind::Access,
            Self::Deferrable | Self::NotDeferrable => ModeKind::Deferring,
        }
    }
}

/// Tells nearly every other query by its first two bytes.
#[inline]
fn is_likely(body: &[u8]) -> bool {
    let [first, second, ..] = body else {
        return false;
    };
    match &[first.to_ascii_lowercase(), second.to_ascii_lowercase()] {
        b"be" | b"st" | b"co" | b"en" | b"ro" | b"ab" => true,
        // A blank, or what a comment begins with.
        [b' ' | b'\t' | b'\n' | b'\r' | b'\x0c' | b'-' | b'/', _] => true,
        _ => false,
    }
}

/// The one statement of a text.
fn statement(tokens: &mut Lexer<'_>) -> Option<Command> {
    let first = tokens.next()?;
    let next = tokens.next();
    if first.is("begin") {
        let modes = modes(behind_work(next, tokens), tokens)?;
        return Some(Command::Begin { tag: "BEGIN", modes });
    }
    if first.is("start") && next.is_some_and(|next| next.is("transaction")) {
        let modes = modes(tokens.next(), tokens)?;
        return Some(Command::Begin {
            tag: "START TRANSACTION",
            modes,
        });
    }
    let command = if first.is_any(&["commit", "end"]) {
        Command::Commit
    } else if first.is_any(&["rollback", "abort"]) {
        Command::Rollback
    } else {
        return None;
    };
    // Without a chain to another block.
    end(behind_work(next, tokens), tokens)?;
    Some(command)
}

/// What follows on a word that may be left out.
fn behind_work<'a>(next: Option<Token<'a>>, tokens: &mut Lexer<'a>) -> Option<Token<'a>> {
    match next {
        Some(word) if word.is_any(&["work", "transaction"]) => tokens.next(),
        other => other,
    }
}

/// A list of modes up to the end of the text. Commas between them may be there or not.
fn modes<'a>(mut next: Option<Token<'a>>, tokens: &mut Lexer<'a>) -> Option<Modes> {
    let is_word = |token: &Token<'_>| token.kind == Kind::Word;
    let mut modes = Modes::default();
    while let Some(word) = next.filter(is_word) {
        modes.add(mode(&word, tokens)?)?;
        next = tokens.next();
        if next.is_some_and(|next| next.is_sign(b",")) {
            next = Some(tokens.next().filter(is_word)?);
        }
    }
    end(next, tokens)?;
    Some(modes)
}

fn mode(first: &Token<'_>, tokens: &mut Lexer<'_>) -> Option<Mode> {
    if first.is("isolation") {
        expect(tokens, "level")?;
        return isolation(tokens);
    }
    if first.is("read") {
        return match tokens.next()? {
            word if word.is("write") => Some(Mode::ReadWrite),
            word if word.is("only") => Some(Mode::ReadOnly),
            _ => None,
        };
    }
    if first.is("not") {
        expect(tokens, "deferrable")?;
        return Some(Mode::NotDeferrable);
    }
    first.is("deferrable").then_some(Mode::Deferrable)
}

fn isolation(tokens: &mut Lexer<'_>) -> Option<Mode> {
    match tokens.next()? {
        word if word.is("serializable") => Some(Mode::Serializable),
        word if word.is("repeatable") => {
            expect(tokens, "read")?;
            Some(Mode::RepeatableRead)
        }
        word if word.is("read") => match tokens.next()? {
            word if word.is("committed") => Some(Mode::ReadCommitted),
            word if word.is("uncommitted") => Some(Mode::ReadUncommitted),
            _ => None,
        },
        _ => None,
    }
}

fn expect(tokens: &mut Lexer<'_>, known: &str) -> Option<()> {
    tokens.next()?.is(known).then_some(())
}

/// Nothing more but semicolons.
fn end<'a>(next: Option<Token<'a>>, tokens: &mut Lexer<'a>) -> Option<()> {
    let mut rest = next.into_iter().chain(tokens);
    rest.all(|token| token.is_sign(b";")).then_some(())
}

/// A query up to this length is looked at: a `BEGIN` with a comment that names its origin is shorter.
const BEGIN_LEN_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Command> {
        Command::read(&[text.as_bytes(), b"\0"].concat())
    }

    fn written(text: &str) -> Option<(&'static str, String)> {
        let Some(Command::Begin { tag, modes }) = read(text) else {
            return None;
        };
        let mut out = Vec::new();
        modes.write(&mut out);
        Some((tag, String::from_utf8(out).unwrap()))
    }

    #[test]
    fn a_begin_is_written_again_with_its_modes_in_their_order() {
        for (text, again) in [
            ("BEGIN", "BEGIN"),
            ("begin;", "BEGIN"),
            ("  Begin\tWork ;; \n;", "BEGIN"),
            ("-- first\rBEGIN -- and last", "BEGIN"),
            ("/* a /* b */ **/BEGIN/*/**/*/TRANSACTION", "BEGIN"),
            ("BEGIN READ ONLY", "BEGIN READ ONLY"),
            (
                "begin transaction isolation level serializable, read write, deferrable",
                "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE DEFERRABLE",
            ),
            (
                "BEGIN NOT DEFERRABLE READ ONLY,ISOLATION/**/LEVEL\x0cREPEATABLE\nREAD",
                "BEGIN NOT DEFERRABLE READ ONLY ISOLATION LEVEL REPEATABLE READ",
            ),
            (
                "BEGIN ISOLATION LEVEL READ COMMITTED",
                "BEGIN ISOLATION LEVEL READ COMMITTED",
            ),
            (
                "BEGIN ISOLATION LEVEL READ UNCOMMITTED",
                "BEGIN ISOLATION LEVEL READ UNCOMMITTED",
            ),
        ] {
            assert_eq!(written(text), Some(("BEGIN", again.to_owned())), "{text:?}");
        }
        for (text, again) in [
            ("start transaction", "BEGIN"),
            ("/* x */ START TRANSACTION READ WRITE;", "BEGIN READ WRITE"),
        ] {
            let expected = Some(("START TRANSACTION", again.to_owned()));
            assert_eq!(written(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_ends_a_block_without_a_chain_is_known() {
        for text in [
            "COMMIT",
            "commit work;",
            "End",
            "END TRANSACTION",
            "/**/ COMMIT --",
        ] {
            assert_eq!(read(text), Some(Command::Commit), "{text:?}");
        }
        for text in ["ROLLBACK", "rollback transaction", "ABORT", "abort work ;"] {
            assert_eq!(read(text), Some(Command::Rollback), "{text:?}");
        }
    }

    #[test]
    fn everything_else_is_the_servers_to_judge() {
        for text in [
            "",
            ";",
            ";BEGIN",
            "BEGIN; SELECT 1",
            "BEGIN WORK WORK",
            "BEGIN WORK TRANSACTION",
            "BEGIN,",
            "BEGIN, READ ONLY",
            "BEGIN READ ONLY,",
            "BEGIN READ ONLY,,DEFERRABLE",
            "BEGIN READ ONLY; COMMIT",
            "BEGIN READ",
            "BEGIN READ COMMITTED",
            "BEGIN NOT",
            "BEGIN ISOLATION",
            "BEGIN ISOLATION LEVEL",
            "BEGIN ISOLATION LEVEL READ",
            "BEGIN ISOLATION LEVEL READ ONLY",
            "BEGIN ISOLATION LEVEL REPEATABLE",
            "BEGIN ISOLATION LEVEL CHAOS",
            // Which of two counts is not decided here.
            "BEGIN READ ONLY READ WRITE",
            "BEGIN READ ONLY READ ONLY",
            "BEGIN ISOLATION LEVEL SERIALIZABLE, ISOLATION LEVEL SERIALIZABLE",
            "BEGIN ATOMIC",
            "BEGIN$",
            "BEGIN1",
            "BEGIN_",
            "BEGINREAD ONLY",
            "BEGIN READONLY",
            "\"BEGIN\"",
            "BEGIN 1",
            "BEGIN - -",
            "BEGIN -",
            "BEGIN /",
            "BEGIN /* open",
            "BEGIN /*/",
            "BEGIN /* /* */",
            "BEGIN */",
            "BEGIN\x0b",
            "BEGIN -- \u{e9}",
            "BEGIN\u{a0}",
            "BEGIN /* \0 */",
            "BEGIN\0",
            "START",
            "START WORK",
            "START TRANSACTION WORK",
            "COMMIT AND CHAIN",
            "COMMIT AND NO CHAIN",
            "COMMIT PREPARED 'x'",
            "COMMIT READ ONLY",
            "END AND CHAIN",
            "ROLLBACK TO a",
            "ROLLBACK TO SAVEPOINT a",
            "ROLLBACK PREPARED 'x'",
            "ROLLBACK AND CHAIN",
            "ABORT; BEGIN",
            "SELECT 1",
            "SAVEPOINT a",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
        assert_eq!(Command::read(b""), None);
        assert_eq!(Command::read(b"BEGIN"), None);
        assert_eq!(Command::read(&[0xff, 0]), None);
        let long = format!("BEGIN{}", " ".repeat(BEGIN_LEN_MAX));
        assert_eq!(read(&long), None);
    }

    #[test]
    fn a_begin_that_is_written_again_reads_as_the_same() {
        let kinds = [
            [
                "",
                "ISOLATION LEVEL SERIALIZABLE",
                "ISOLATION LEVEL READ COMMITTED",
            ],
            ["", "READ ONLY", "READ WRITE"],
            ["", "DEFERRABLE", "NOT DEFERRABLE"],
        ];
        for number in 0..27 {
            let [first, second, third] = [number % 3, number / 3 % 3, number / 9];
            let text = format!(
                "BEGIN {} {} {}",
                kinds[2][third], kinds[0][first], kinds[1][second]
            );
            let (_, again) = written(&text).unwrap();
            assert_eq!(read(&again), read(&text), "{text:?}");
        }
    }
}
