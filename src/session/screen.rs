//! Finds the texts that may change a session in a way that does not travel with the client.
//!
//! A screen, not a parser: a false alarm costs a client its share of the pooling, a miss would cost another client its settings.

/// Why a client keeps its server connection beyond a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinReason {
    Setting,
    Listen,
    Prepare,
    Cursor,
    TemporaryTable,
    AdvisoryLock,
    Load,
    /// Something else that a function leaves in the session: a connection of dblink, a backup, a replication origin.
    Session,
    /// A statement whose text is too large to be prepared elsewhere.
    LargeStatement,
}

impl PinReason {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::Listen => "listen",
            Self::Prepare => "prepare",
            Self::Cursor => "cursor",
            Self::TemporaryTable => "temporary table",
            Self::AdvisoryLock => "advisory lock",
            Self::Load => "load",
            Self::Session => "session state",
            Self::LargeStatement => "large statement",
        }
    }
}

/// What a text may do beyond its transaction, as far as its words tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// It changes the session.
    pub pin: Option<PinReason>,
    pub block: BlockEffect,
    pub names: NameEffect,
    pub settings: SettingEffect,
}

/// Whether a text resets every setting: those the client has made, and those that were made for it. Pins nobody where it
/// can be followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SettingEffect {
    #[default]
    None,
    ResetAll,
}

/// Whether a text may commit the block it runs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BlockEffect {
    #[default]
    None,
    MayCommit,
}

/// What a text does to the names of prepared statements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameEffect {
    #[default]
    None,
    /// It was not seen whole.
    MayForget,
    /// `DEALLOCATE ALL` or `DISCARD ALL`.
    Forgets,
}

impl Effects {
    /// What is assumed of a text that was not seen whole.
    #[must_use]
    pub fn or_unseen(self, is_whole: bool) -> Self {
        if is_whole {
            return self;
        }
        Self {
            block: BlockEffect::MayCommit,
            names: NameEffect::MayForget,
            ..self
        }
    }

    /// The same of a statement that is carried out at a time of its own.
    #[must_use]
    pub fn deferred(self) -> Self {
        let reset = (self.settings == SettingEffect::ResetAll).then_some(PinReason::Setting);
        Self {
            pin: self.pin.or(reset),
            ..self
        }
    }

    fn on_statement(&mut self, text: &[u8]) {
        let mut words = Words::new(text);
        let Some(first) = words.next() else {
            self.on_lost_words(&words);
            return;
        };
        if is(first, "reset") && words.peek().is_some_and(|name| is(name, "all")) {
            self.settings = SettingEffect::ResetAll;
            return;
        }
        let found = match_word(first, &mut words);
        self.pin = self.pin.or(found);
        if is_any(first, &["deallocate", "discard"]) && forgets(&mut words) {
            self.names = NameEffect::Forgets;
        }
        self.on_lost_words(&words);
        if is_any(first, &["commit", "end", "prepare"]) {
            self.block = BlockEffect::MayCommit;
        }
    }

    /// What was not looked at to its end may do anything.
    fn on_lost_words(&mut self, words: &Words<'_>) {
        if words.patience == 0 {
            *self = self.unknown();
        }
    }

    fn unknown(self) -> Self {
        Self {
            pin: self.pin.or(Some(PinReason::Setting)),
            block: BlockEffect::MayCommit,
            names: NameEffect::MayForget,
            ..self
        }
    }
}

/// Looks at a text, which may hold several statements.
#[must_use]
pub fn screen(text: &[u8]) -> Effects {
    let mut effects = Effects::default();
    effects.on_statement(text);
    // Most texts are one statement without calls of functions.
    if memchr::memchr3(b';', b'(', b'&', text).is_some() {
        effects = further(text, effects);
    }
    effects.pin = effects.pin.or_else(|| temporary(text));
    effects
}

/// Looks at the statements behind the first, and at what is called.
fn further(text: &[u8], mut effects: Effects) -> Effects {
    let mut rest = text;
    let mut count = 0;
    while let Some(at) = memchr::memchr(b';', rest) {
        rest = rest.get(at + 1..).unwrap_or_default();
        count += 1;
        if count > STATEMENTS_MAX {
            return effects.unknown();
        }
        if rest.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0) {
            break;
        }
        effects.block = BlockEffect::MayCommit;
        effects.on_statement(rest);
    }
    effects.pin = effects.pin.or_else(|| inside(text));
    effects
}

fn match_word(first: &[u8], words: &mut Words<'_>) -> Option<PinReason> {
    match first.first()? | 0x20 {
        b's' if is(first, "set") => setting(words),
        b'r' if is(first, "reset") => match words.next() {
            Some(name) if is_reported(name) => None,
            _ => Some(PinReason::Setting),
        },
        b'l' if is(first, "listen") => Some(PinReason::Listen),
        b'l' if is(first, "load") => Some(PinReason::Load),
        b'p' if is(first, "prepare") => (!is(words.next()?, "transaction")).then_some(PinReason::Prepare),
        // Of a statement that the text of another made: what it does is not seen here.
        b'e' if is(first, "execute") => Some(PinReason::Prepare),
        b'd' if is(first, "declare") => is_held(words).then_some(PinReason::Cursor),
        b'd' if is(first, "do") => words.find_map(procedural),
        _ => None,
    }
}

/// What follows on `DEALLOCATE` or `DISCARD`.
fn forgets(words: &mut Words<'_>) -> bool {
    match words.next() {
        Some(word) if is(word, "prepare") => words.next().is_some_and(|word| is(word, "all")),
        Some(word) => is(word, "all"),
        None => false,
    }
}

/// Whether a cursor outlives its transaction. WITH HOLD stands before FOR.
fn is_held(words: &mut Words<'_>) -> bool {
    words
        .take_while(|word| !is(word, "for"))
        .any(|word| is(word, "hold"))
}

/// A word in the body of a `DO`, wherever it stands: statements there begin behind `BEGIN`, `THEN`, `LOOP` and more.
fn procedural(word: &[u8]) -> Option<PinReason> {
    match word.first()? | 0x20 {
        b's' if is(word, "set") => Some(PinReason::Setting),
        b'r' if is(word, "reset") => Some(PinReason::Setting),
        b'l' if is(word, "listen") => Some(PinReason::Listen),
        b'l' if is(word, "load") => Some(PinReason::Load),
        // EXECUTE runs a text that may be put together from pieces.
        b'e' if is(word, "execute") => Some(PinReason::Setting),
        _ => None,
    }
}

fn setting(words: &mut Words<'_>) -> Option<PinReason> {
    let mut name = words.next()?;
    if is_any(name, &["local", "transaction", "constraints"]) {
        return None;
    }
    if is(name, "session") {
        name = words.next()?;
    }
    // SET NAMES and SET TIME ZONE are client_encoding and TimeZone.
    let reported = is_reported(name) || is_any(name, &["names", "time"]);
    (!reported).then_some(PinReason::Setting)
}

/// Parameters that every PostgreSQL from 14 on reports, and that travel with the client therefore.
fn is_reported(name: &[u8]) -> bool {
    is_any(name, &REPORTED)
}

fn is(word: &[u8], known: &str) -> bool {
    word.eq_ignore_ascii_case(known.as_bytes())
}

fn is_any(word: &[u8], known: &[&str]) -> bool {
    known.iter().any(|known| is(word, known))
}

/// What stands anywhere in a text: names of functions and of schemas, and words that make a table temporary. Each is looked
/// for by a byte that is rare in it and around it, so that a text is passed over in a few strides.
fn inside(text: &[u8]) -> Option<PinReason> {
    let around = |at: usize| {
        let (before, rest) = text.split_at_checked(at).unwrap_or_default();
        (before, rest)
    };
    memchr::memchr_iter(b'_', text)
        .find_map(|at| {
            let (before, rest) = around(at);
            UNDERSCORED
                .iter()
                .find(|(head, tail, _)| ends(before, head) && starts(rest, tail))
                .map(|(_, _, reason)| *reason)
        })
        .or_else(|| {
            // An identifier may be written in code points: U&"\0073et_config".
            let hidden = memchr::memchr_iter(b'&', text).any(|at| {
                let (before, rest) = around(at);
                ends(before, "u") && starts(rest, "&\"")
            });
            let mut seeds = memchr::memchr2_iter(b'd', b'D', text);
            let seeded = hidden || seeds.any(|at| ends(around(at).0, "setsee"));
            seeded.then_some(PinReason::Setting)
        })
}

/// Whether a table is made for the session: TEMP, TEMPORARY, or by the name of its schema, pg_temp.
fn temporary(text: &[u8]) -> Option<PinReason> {
    let mut hits = memchr::memchr2_iter(b'm', b'M', text);
    let found = hits.any(|at| {
        let (before, rest) = text.split_at_checked(at).unwrap_or_default();
        is_temporary(before, rest)
    });
    found.then_some(PinReason::TemporaryTable)
}

/// Whether a text that goes on with `mp` or `MP` from `rest` on holds the word TEMP or TEMPORARY there.
fn is_temporary(before: &[u8], rest: &[u8]) -> bool {
    if !ends(before, "te") || !starts(rest, "mp") {
        return false;
    }
    let alone = |byte: Option<&u8>| byte.is_none_or(|byte| !is_word(*byte));
    let len = if starts(rest, "mporary") { 7 } else { 2 };
    let is_word = alone(before.iter().rev().nth(2)) && alone(rest.get(len));
    is_word || ends(before, "pg_te")
}

fn ends(text: &[u8], word: &str) -> bool {
    let tail = text.len().checked_sub(word.len()).and_then(|at| text.get(at..));
    tail.is_some_and(|tail| is(tail, word))
}

fn starts(text: &[u8], word: &str) -> bool {
    text.get(..word.len()).is_some_and(|head| is(head, word))
}

/// The words of a text: runs of letters, digits and underscores, comments passed over.
struct Words<'a> {
    rest: &'a [u8],
    /// Bytes that may still be looked at.
    patience: usize,
}

impl<'a> Words<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self {
            rest: text,
            patience: PATIENCE_MAX,
        }
    }

    /// The next word, which stays the next.
    fn peek(&self) -> Option<&'a [u8]> {
        let mut ahead = Words {
            rest: self.rest,
            patience: self.patience,
        };
        ahead.next()
    }

    fn advance(&mut self, len: usize) -> Option<()> {
        self.patience = self.patience.saturating_sub(len);
        self.rest = self.rest.get(len..)?;
        (self.patience > 0).then_some(())
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let text = self.rest;
            let (&byte, rest) = text.split_first()?;
            let len = match (byte, rest.first()) {
                _ if is_word(byte) => {
                    let len = 1 + rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len());
                    self.advance(len)?;
                    return text.get(..len);
                }
                (b'-', Some(b'-')) => memchr::memchr2(b'\n', b'\r', text).unwrap_or(text.len()),
                (b'/', Some(b'*')) => comment_len(text.get(..self.patience).unwrap_or(text)),
                _ => 1,
            };
            self.advance(len)?;
        }
    }
}

/// The length of the comment that a text begins with; comments nest.
fn comment_len(text: &[u8]) -> usize {
    let mut at = 0;
    let mut depth = 0_usize;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let Some(next) = memchr::memchr2(b'*', b'/', rest) else {
            return text.len();
        };
        let here = rest.get(next..).unwrap_or_default();
        at += next + 2;
        if here.starts_with(b"/*") {
            depth += 1;
        } else if here.starts_with(b"*/") {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return at;
            }
        } else {
            at -= 1;
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

const REPORTED: [&str; 6] = [
    "client_encoding",
    "datestyle",
    "timezone",
    "standard_conforming_strings",
    "application_name",
    "intervalstyle",
];

/// What stands before an underscore, and from it on. `pg_advisory_xact_lock` is none of them: it ends with its transaction.
const UNDERSCORED: [(&str, &str, PinReason); 6] = [
    ("set", "_config", PinReason::Setting),
    ("advisory", "_lock", PinReason::AdvisoryLock),
    ("dblink", "_connect", PinReason::Session),
    ("origin", "_session", PinReason::Session),
    ("pg", "_backup_start", PinReason::Session),
    ("pg", "_start_backup", PinReason::Session),
];

/// How much of a statement's beginning is looked at, comments included; a statement whose first words come later may do
/// anything. Keeps the work linear in the length of the text.
const PATIENCE_MAX: usize = 4 * 1024;
/// The same for statements in one text.
const STATEMENTS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_change_nothing_pass() {
        for text in [
            "",
            "SELECT abalance FROM pgbench_accounts WHERE aid = 17",
            "INSERT INTO settings VALUES ('set')",
            "UPDATE temperatures SET temp_c = 3",
            "set local statement_timeout = 0",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "set application_name to 'x'",
            "SET SESSION TimeZone TO 'UTC'; set names 'utf8'",
            "SET TIME ZONE 'UTC'",
            "BEGIN; SELECT 1; COMMIT",
            "SELECT pg_advisory_xact_lock(1)",
            "PREPARE TRANSACTION 'x'",
            "DECLARE c CURSOR FOR SELECT 1",
            "-- set x = 1\nselect 2",
            "/* set x */ select 2",
            "/* /* */ set x */ select 2",
            "UNLISTEN *",
            "CLOSE ALL",
            "EXPLAIN SELECT 1",
            "ALTER ROLE a SET work_mem = 1",
            "SELECT attempt, contempt, temp_c FROM m",
            "RESET TimeZone",
            "DO $$ BEGIN PERFORM 1; END $$",
        ] {
            assert_eq!(screen(text.as_bytes()).pin, None, "{text}");
        }
    }

    const PINNING: &[(&str, PinReason)] = &[
        ("SET search_path = a", PinReason::Setting),
        ("  /* x */ set session role = a", PinReason::Setting),
        ("select 1; SET statement_timeout = 1", PinReason::Setting),
        ("RESET search_path", PinReason::Setting),
        ("RESET ALL; LISTEN a", PinReason::Listen),
        (
            "SELECT pg_catalog.set_config('search_path', '', false)",
            PinReason::Setting,
        ),
        ("LISTEN a", PinReason::Listen),
        ("PREPARE a AS SELECT 1", PinReason::Prepare),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", PinReason::Cursor),
        ("CREATE TEMP TABLE x (a int)", PinReason::TemporaryTable),
        ("create temporary table x (a int)", PinReason::TemporaryTable),
        ("SELECT 1 INTO TEMP x", PinReason::TemporaryTable),
        ("SELECT pg_try_ADVISORY_LOCK(1)", PinReason::AdvisoryLock),
        ("LOAD 'auto_explain'", PinReason::Load),
        ("SELECT 'x'; SET a=1", PinReason::Setting),
        ("SELECT 1;; \t/* ; */ sEt a=1", PinReason::Setting),
        ("-- x\rSET a=1", PinReason::Setting),
        ("/* /* */ x */ SET a=1", PinReason::Setting),
        ("SET SESSION AUTHORIZATION a", PinReason::Setting),
        ("SET ROLE a", PinReason::Setting),
        ("RESET ROLE", PinReason::Setting),
        ("RESET SESSION AUTHORIZATION", PinReason::Setting),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            PinReason::Setting,
        ),
        ("DO $$ BEGIN SET x = 1; END $$", PinReason::Setting),
        (
            "DO $$ BEGIN PERFORM set_config('a', 'b', false); END $$",
            PinReason::Setting,
        ),
        (
            "DO 'BEGIN EXECUTE ''SE'' || ''T a = 1''; END'",
            PinReason::Setting,
        ),
        ("SELECT Set_Config('a', 'b', true)", PinReason::Setting),
        (
            "SELECT U&\"\\0073et_config\"('a', 'b', false)",
            PinReason::Setting,
        ),
        ("SELECT SetSeed(0.5)", PinReason::Setting),
        ("SELECT 1; LISTEN a", PinReason::Listen),
        (
            "create global temporary table x (a int)",
            PinReason::TemporaryTable,
        ),
        ("CREATE LOCAL TEMP VIEW x AS SELECT 1", PinReason::TemporaryTable),
        (
            "CREATE OR REPLACE TEMP VIEW x AS SELECT 1",
            PinReason::TemporaryTable,
        ),
        ("CREATE TEMP SEQUENCE x", PinReason::TemporaryTable),
        (
            "EXPLAIN ANALYZE CREATE TEMP TABLE x AS SELECT 1",
            PinReason::TemporaryTable,
        ),
        ("CREATE TABLE pg_temp.x (a int)", PinReason::TemporaryTable),
        ("EXECUTE a", PinReason::Prepare),
        ("SELECT pg_advisory_lock_shared(1)", PinReason::AdvisoryLock),
        (
            "SELECT pg_try_advisory_lock_shared(1, 2)",
            PinReason::AdvisoryLock,
        ),
        ("SELECT dblink_connect('a', '')", PinReason::Session),
        (
            "SELECT pg_replication_origin_session_setup('a')",
            PinReason::Session,
        ),
        ("SELECT pg_backup_start('a')", PinReason::Session),
    ];

    #[test]
    fn statements_that_outlive_their_transaction_pin() {
        for (text, reason) in PINNING {
            assert_eq!(screen(text.as_bytes()).pin, Some(*reason), "{text}");
        }
    }

    #[test]
    fn a_reset_of_everything_pins_only_where_it_cannot_be_followed() {
        let given_back = "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;";
        for text in [given_back, "reset all", " RESET /* x */ ALL; SELECT 1"] {
            let effects = screen(text.as_bytes());
            assert_eq!(
                (effects.pin, effects.settings),
                (None, SettingEffect::ResetAll),
                "{text}"
            );
            assert_eq!(effects.deferred().pin, Some(PinReason::Setting));
        }
    }

    #[test]
    fn a_word_is_found_wherever_it_stands() {
        for at in 0..40 {
            for word in [
                "set_config(",
                " TEMP ",
                "Pg_Advisory_Lock(",
                "setseed(",
                "pg_temp.",
            ] {
                let text = format!("{}{word}{}", " ".repeat(at), " ".repeat(40 - at));
                assert!(screen(text.as_bytes()).pin.is_some(), "{text}");
            }
        }
    }

    #[test]
    fn a_text_made_to_be_long_to_look_at_is_given_up() {
        for piece in [";/*", ";declare ", ";do ", ";/* */", ";--", "/*;", "; ", "*/;/*"] {
            let text = piece.repeat(100_000);
            let end = "*/".repeat(1000);
            assert!(screen(format!("{text}{end}").as_bytes()).pin.is_some(), "{piece}");
        }
    }

    #[test]
    fn what_may_commit_a_block_is_known() {
        for (text, effect) in [
            ("SELECT 1", BlockEffect::None),
            ("SELECT 1;\0", BlockEffect::None),
            ("ROLLBACK", BlockEffect::None),
            ("commit", BlockEffect::MayCommit),
            (" END;", BlockEffect::MayCommit),
            ("PREPARE TRANSACTION 'x'", BlockEffect::MayCommit),
            ("SELECT 1; COMMIT", BlockEffect::MayCommit),
        ] {
            assert_eq!(screen(text.as_bytes()).block, effect, "{text}");
        }
    }

    #[test]
    fn what_forgets_prepared_statements_is_known() {
        for (text, effect) in [
            ("SELECT 'deallocate'", NameEffect::None),
            ("DEALLOCATE ALL", NameEffect::Forgets),
            ("deallocate prepare all;", NameEffect::Forgets),
            ("select 1; discard all", NameEffect::Forgets),
            ("/* */ DISCARD PLANS", NameEffect::None),
            ("DEALLOCATE a", NameEffect::None),
        ] {
            assert_eq!(screen(text.as_bytes()).names, effect, "{text}");
        }
    }
}
