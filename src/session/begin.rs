//! Queries that say nothing but that a transaction block begins or ends: those can be answered without a server.
//!
//! What is found here is exactly what PostgreSQL's grammar takes for it (`TransactionStmt` in `src/backend/parser/gram.y`).
//! Whatever is not, is the server's to judge.

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
        let mut tokens = Tokens(text);
        let command = statement(&mut tokens)?;
        // A server knows an encoding in which other bytes are none, even in a comment.
        (text.is_ascii() && !text.contains(&0)).then_some(command)
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
fn statement<'a>(tokens: &mut Tokens<'a>) -> Option<Command> {
    let Token::Word(first) = tokens.next()? else {
        return None;
    };
    let next = tokens.next()?;
    match first {
        word if is(word, "begin") => {
            let next = if next.is_word("work") || next.is_word("transaction") {
                tokens.next()?
            } else {
                next
            };
            let modes = modes(next, tokens)?;
            Some(Command::Begin { tag: "BEGIN", modes })
        }
        word if is(word, "start") && next.is_word("transaction") => {
            let next = tokens.next()?;
            let modes = modes(next, tokens)?;
            Some(Command::Begin {
                tag: "START TRANSACTION",
                modes,
            })
        }
        word if is(word, "commit") || is(word, "end") => plain_end(next, tokens, Command::Commit),
        word if is(word, "rollback") || is(word, "abort") => plain_end(next, tokens, Command::Rollback),
        _ => None,
    }
}

/// The end of a block, without a chain to another.
fn plain_end<'a>(next: Token<'a>, tokens: &mut Tokens<'a>, command: Command) -> Option<Command> {
    let next = if next.is_word("work") || next.is_word("transaction") {
        tokens.next()?
    } else {
        next
    };
    end(next, tokens)?;
    Some(command)
}

/// A list of modes up to the end of the text. Commas between them may be there or not.
fn modes<'a>(mut next: Token<'a>, tokens: &mut Tokens<'a>) -> Option<Modes> {
    let mut modes = Modes::default();
    while let Token::Word(word) = next {
        modes.add(mode(word, tokens)?)?;
        next = tokens.next()?;
        if next == Token::Comma {
            next = tokens.next()?;
            if !matches!(next, Token::Word(_)) {
                return None;
            }
        }
    }
    end(next, tokens)?;
    Some(modes)
}

fn mode(first: &[u8], tokens: &mut Tokens<'_>) -> Option<Mode> {
    let mode = match first {
        word if is(word, "isolation") => {
            tokens.expect("level")?;
            return isolation(tokens);
        }
        word if is(word, "read") => match tokens.word()? {
            word if is(word, "write") => Mode::ReadWrite,
            word if is(word, "only") => Mode::ReadOnly,
            _ => return None,
        },
        word if is(word, "deferrable") => Mode::Deferrable,
        word if is(word, "not") => {
            tokens.expect("deferrable")?;
            Mode::NotDeferrable
        }
        _ => return None,
    };
    Some(mode)
}

fn isolation(tokens: &mut Tokens<'_>) -> Option<Mode> {
    match tokens.word()? {
        word if is(word, "serializable") => Some(Mode::Serializable),
        word if is(word, "repeatable") => {
            tokens.expect("read")?;
            Some(Mode::RepeatableRead)
        }
        word if is(word, "read") => match tokens.word()? {
            word if is(word, "committed") => Some(Mode::ReadCommitted),
            word if is(word, "uncommitted") => Some(Mode::ReadUncommitted),
            _ => None,
        },
        _ => None,
    }
}

/// Nothing more but semicolons.
fn end<'a>(mut next: Token<'a>, tokens: &mut Tokens<'a>) -> Option<()> {
    loop {
        match next {
            Token::End => return Some(()),
            Token::Semicolon => next = tokens.next()?,
            Token::Word(_) | Token::Comma => return None,
        }
    }
}

fn is(word: &[u8], known: &str) -> bool {
    word.eq_ignore_ascii_case(known.as_bytes())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a [u8]),
    Comma,
    Semicolon,
    End,
}

impl Token<'_> {
    fn is_word(self, known: &str) -> bool {
        matches!(self, Self::Word(word) if is(word, known))
    }
}

/// What is left of a text.
struct Tokens<'a>(&'a [u8]);

impl<'a> Tokens<'a> {
    /// None: something that no such query has.
    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let text = self.0;
            let (token, len) = match text {
                [] => return Some(Token::End),
                // Without the vertical tab, which is a blank since PostgreSQL 16.
                [b' ' | b'\t' | b'\n' | b'\r' | b'\x0c', ..] => (None, 1),
                [b'-', b'-', ..] => (None, memchr::memchr2(b'\n', b'\r', text).unwrap_or(text.len())),
                [b'/', b'*', ..] => (None, comment_len(text)?),
                [b',', ..] => (Some(Token::Comma), 1),
                [b';', ..] => (Some(Token::Semicolon), 1),
                [b'A'..=b'Z' | b'a'..=b'z' | b'_', ..] => {
                    let is_end =
                        |byte: &u8| !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..));
                    let len = text.iter().position(is_end).unwrap_or(text.len());
                    (Some(Token::Word(text.get(..len)?)), len)
                }
                _ => return None,
            };
            self.0 = text.get(len..)?;
            if token.is_some() {
                return token;
            }
        }
    }

    fn word(&mut self) -> Option<&'a [u8]> {
        match self.next()? {
            Token::Word(word) => Some(word),
            Token::Comma | Token::Semicolon | Token::End => None,
        }
    }

    fn expect(&mut self, known: &str) -> Option<()> {
        is(self.word()?, known).then_some(())
    }
}

/// The length of the comment that a text begins with; comments nest. None: it does not end.
fn comment_len(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut depth = 0_usize;
    loop {
        at += memchr::memchr2(b'*', b'/', text.get(at..)?)?;
        match text.get(at..at + 2)? {
            b"/*" => depth += 1,
            b"*/" => depth = depth.saturating_sub(1),
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return Some(at);
        }
    }
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
