//! Finds the texts that may change a session in a way that does not travel with the client.
//!
//! A screen, not a parser: a false alarm costs a client its share of the pooling, a miss would cost another client its settings.

mod body;
mod database;
mod doing;
mod dynamic;
mod pieces;
mod pins;
mod reset;
mod sequence;
mod set;
mod words;

use crate::sql::{self, Lexer, Strings};

use words::Words;

pub use body::{Remains, judge};
pub use database::{DatabaseEffect, vacated};
pub use pins::Pins;
pub use reset::{Reset, Span, reset};
pub use sequence::SequenceEffect;

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
    /// The seed of random numbers.
    Seed,
    /// Something else that a function leaves in the session: a connection of dblink, a backup, a replication origin.
    Session,
    /// A statement whose text is too large to be prepared elsewhere.
    LargeStatement,
    /// Values of sequences, which are asked for later.
    Sequence,
}

impl PinReason {
    pub const ALL: [Self; 11] = [
        Self::Setting,
        Self::Listen,
        Self::Prepare,
        Self::Cursor,
        Self::TemporaryTable,
        Self::AdvisoryLock,
        Self::Load,
        Self::Seed,
        Self::Session,
        Self::LargeStatement,
        Self::Sequence,
    ];

    /// Its place in `ALL`.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

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
            Self::Seed => "seed",
            Self::Session => "session state",
            Self::LargeStatement => "large statement",
            Self::Sequence => "sequence",
        }
    }
}

/// What a text may do beyond its transaction, as far as its words tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// It changes the session in ways that do not travel.
    pub pins: Pins,
    pub block: BlockEffect,
    pub names: NameEffect,
    pub settings: SettingEffect,
    /// Settings that keep their value beyond the transaction and that no server reports: the value is asked for at its end.
    pub sets: Vec<Box<str>>,
    /// It may end what pins its client.
    pub release: Release,
    pub channels: ChannelEffect,
    pub catalog: CatalogEffect,
    pub database: DatabaseEffect,
    pub schema: SchemaEffect,
    pub sequences: SequenceEffect,
    pub remains: Remains,
    pub literals: LiteralEffect,
}

/// Whether a text changes how literals are read, if only for its transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LiteralEffect {
    #[default]
    None,
    /// By a setting that the server reports before it is ready again.
    Reported,
    MayChange,
}

/// Whether a text says what is listened to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelEffect {
    #[default]
    None,
    /// One of its statements is LISTEN or UNLISTEN.
    Commands,
}

/// Whether a text that names no definition may make one all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CatalogEffect {
    #[default]
    None,
    MayDefine,
}

/// Whether a text alters what other texts name: `CREATE`, `ALTER`, `DROP`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SchemaEffect {
    #[default]
    None,
    Alters,
}

/// What a text does to settings. The greater says more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SettingEffect {
    #[default]
    None,
    /// It sets something, if only for its transaction.
    Local,
    /// It resets something to the default of its session.
    Reset,
    /// It resets every setting: those the client has made, and those that were made for it.
    ResetAll,
}

/// Whether a text may end what pins its client: a lock, a cursor, a temporary table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    #[default]
    No,
    Maybe,
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

    /// Whether it says nothing that outlives a statement: so do most texts.
    #[must_use]
    pub fn are_none(&self) -> bool {
        self.pins.is_empty()
            && self.settings == SettingEffect::None
            && self.names == NameEffect::None
            && self.release == Release::No
            && self.catalog == CatalogEffect::None
            && self.schema == SchemaEffect::None
            && self.remains == Remains::None
    }

    /// Whether it says nothing whatever.
    #[must_use]
    pub fn are_none_at_all(&self) -> bool {
        self.are_none()
            && self.block == BlockEffect::None
            && self.sets.is_empty()
            && self.channels == ChannelEffect::None
            && self.database == DatabaseEffect::default()
            && self.sequences == SequenceEffect::None
            && self.literals == LiteralEffect::None
    }

    fn on_statement(&mut self, text: &[u8]) {
        if starts(text, "select") && text.get(6).is_none_or(|byte| !sql::is_word(*byte)) {
            // None of the words below, and the most frequent.
            return;
        }
        let mut words = Words::new(text);
        let Some(first) = words.next() else {
            self.on_lost_words(&words);
            return;
        };
        if self.database == DatabaseEffect::default() {
            self.database = DatabaseEffect::of(first, &words);
        }
        match_word(self, first, &mut words);
        self.on_lost_words(&words);
        if is_any(first, &["commit", "end", "prepare"]) {
            self.block = BlockEffect::MayCommit;
        }
        if is(first, "insert") {
            self.sequences = SequenceEffect::Advances;
        }
        if is_any(first, &["create", "alter", "drop"]) {
            self.schema = SchemaEffect::Alters;
        }
    }

    fn on_set(&mut self, set: set::Set) {
        self.pins.extend(set.pin);
        self.settings = self.settings.max(set.effect);
        self.literals = self.literals.max(set.literals);
        for name in set.names {
            if !self.sets.contains(&name) {
                self.sets.push(name);
            }
        }
        if self.sets.len() > SETS_MAX {
            self.on_unknown();
        }
    }

    /// What was not looked at to its end may do anything.
    fn on_lost_words(&mut self, words: &Words<'_>) {
        if words.are_lost() {
            self.on_unknown();
        }
    }

    fn on_unknown(&mut self) {
        if self.pins.is_empty() {
            self.pins.insert(PinReason::Setting);
        }
        self.block = BlockEffect::MayCommit;
        self.names = NameEffect::MayForget;
        self.on_hidden_setting();
    }

    /// It may set anything.
    fn on_hidden_setting(&mut self) {
        self.settings = self.settings.max(SettingEffect::Local);
        self.literals = LiteralEffect::MayChange;
    }
}

/// Looks at a text, which may hold several statements.
#[must_use]
pub fn screen(text: &[u8]) -> Effects {
    let mut effects = Effects::default();
    let text = without_end(text);
    effects.on_statement(text);
    // Most texts are one statement without calls of functions.
    if memchr::memchr3(b';', b'(', b'&', text).is_some() {
        further(text, &mut effects);
        effects.sequences = sequence::sequences(text, effects.sequences == SequenceEffect::Advances);
    }
    if is_temporary_made(text) {
        effects.pins.insert(PinReason::TemporaryTable);
        // Nobody else sees the table.
        effects.schema = SchemaEffect::None;
    }
    effects
}

/// The same of a text that is prepared, and looked at once for all its uses: whether it is a `SELECT INTO`, too. Of a simple
/// query that is told by its answer.
#[must_use]
pub fn screen_prepared(text: &[u8]) -> Effects {
    let mut effects = screen(text);
    let is_temporary = effects.pins.contains(PinReason::TemporaryTable);
    if !is_temporary && starts(text.trim_ascii_start(), "select") && has_into(text) {
        effects.schema = SchemaEffect::Alters;
    }
    effects
}

fn has_into(text: &[u8]) -> bool {
    sql::words(text).any(|word| is(word, "into"))
        && Lexer::new(text, Strings::Unknown).any(|token| token.is("into"))
}

/// The same where the names of prepared statements in it are followed: those pin nobody.
#[must_use]
pub fn screen_followed(text: &[u8]) -> Effects {
    let mut effects = screen(text);
    effects.pins = effects.pins.without(Pins::of(PinReason::Prepare));
    effects
}

/// A text without what ends it: the zero of the message, blanks, semicolons.
fn without_end(text: &[u8]) -> &[u8] {
    let is_end = |byte: &u8| matches!(byte, b';' | 0) || byte.is_ascii_whitespace();
    let len = text
        .iter()
        .rposition(|byte| !is_end(byte))
        .map_or(0, |last| last + 1);
    text.get(..len).unwrap_or(text)
}

/// Looks at the statements behind the first, and at what is called.
fn further(text: &[u8], effects: &mut Effects) {
    if memchr::memchr(b';', text).is_some() && !statements_behind(text, effects) {
        return;
    }
    inside(text, effects);
}

/// Looks at the statements behind the first. False: there are too many.
fn statements_behind(text: &[u8], effects: &mut Effects) -> bool {
    let mut tokens = Lexer::new(text, Strings::Unknown);
    let (mut count, mut at) = (0, 0);
    for token in tokens.by_ref() {
        if token.is_sign(b";") && !statement_at(text, token.end(), &mut count, effects) {
            return false;
        }
        at = token.start;
    }
    if tokens.is_sure() {
        return true;
    }
    // What reaches to the end may have its own end before: then any semicolon in it may be one.
    let rest = text.get(at..).unwrap_or_default();
    memchr::memchr_iter(b';', rest).all(|found| statement_at(text, at + found + 1, &mut count, effects))
}

/// Looks at the statement that begins at a place behind a semicolon, if one does. False: it is one too many.
fn statement_at(text: &[u8], at: usize, count: &mut usize, effects: &mut Effects) -> bool {
    let rest = text.get(at..).unwrap_or_default();
    if rest.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0) {
        return true;
    }
    *count += 1;
    if *count > STATEMENTS_MAX {
        effects.on_unknown();
        return false;
    }
    effects.block = BlockEffect::MayCommit;
    effects.on_statement(rest);
    true
}

fn match_word(effects: &mut Effects, first: &[u8], words: &mut Words<'_>) {
    match first {
        word if is(word, "set") => effects.on_set(set::set(words.rest())),
        word if is(word, "reset") && words.peek().is_some_and(|name| is(name, "all")) => {
            effects.settings = SettingEffect::ResetAll;
            effects.literals = LiteralEffect::MayChange;
        }
        word if is(word, "reset") => effects.on_set(set::reset(words.rest())),
        word if is(word, "listen") => {
            effects.pins.insert(PinReason::Listen);
            effects.channels = ChannelEffect::Commands;
        }
        word if is(word, "unlisten") => effects.channels = ChannelEffect::Commands,
        word if is(word, "prepare") => {
            let is_transaction = words.next().is_none_or(|word| is(word, "transaction"));
            effects
                .pins
                .extend((!is_transaction).then_some(PinReason::Prepare));
        }
        // Of a statement that the text of another made: what it does is not seen here.
        word if is(word, "execute") => effects.pins.insert(PinReason::Prepare),
        word if is(word, "declare") => effects.pins.extend(is_held(words).then_some(PinReason::Cursor)),
        word if is(word, "do") => doing::procedural(effects, words),
        word if is_any(word, &["deallocate", "discard"]) => {
            effects.release = Release::Maybe;
            if forgets(words) {
                effects.names = NameEffect::Forgets;
                if is(word, "discard") {
                    effects.literals = LiteralEffect::MayChange;
                }
            }
        }
        word if is(word, "update") => {
            let mut named = words.take_while(|word| !is(word, "set"));
            if named.any(|word| is(word, "pg_settings")) {
                effects.pins.insert(PinReason::Setting);
                effects.on_hidden_setting();
            }
        }
        word if is_any(word, &["close", "drop"]) => effects.release = Release::Maybe,
        _ => {}
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

/// What stands anywhere in a text: names of functions and of schemas. Each is looked for by a byte that is rare in it and
/// around it, so that a text is passed over in a few strides.
fn inside(text: &[u8], effects: &mut Effects) {
    let mut updates = None;
    for at in memchr::memchr_iter(b'_', text) {
        let (before, rest) = text.split_at_checked(at).unwrap_or_default();
        if !may_be_underscored(before, rest) {
            continue;
        }
        let found = UNDERSCORED
            .iter()
            .find(|(head, tail, _)| ends(before, head) && starts(rest, tail));
        match found {
            Some((_, tail, Called::Sets)) => {
                effects.on_set(set::call(rest.get(tail.len()..).unwrap_or_default()));
            }
            Some((_, _, Called::Pins(reason))) => effects.pins.insert(*reason),
            Some((_, _, Called::Releases)) => effects.release = Release::Maybe,
            Some((_, _, Called::SetsIfUpdated))
                if *updates.get_or_insert_with(|| sql::words(text).any(|word| is(word, "update"))) =>
            {
                effects.pins.insert(PinReason::Setting);
                effects.on_hidden_setting();
            }
            Some((_, _, Called::SetsIfUpdated)) | None => {}
        }
    }
    // An identifier may be written in code points: U&"\0073et_config".
    let hidden = memchr::memchr_iter(b'&', text).any(|at| {
        let (before, rest) = text.split_at_checked(at).unwrap_or_default();
        ends(before, "u") && starts(rest, "&\"")
    });
    if hidden {
        effects.pins.insert(PinReason::Setting);
        effects.on_hidden_setting();
    }
    let mut seeds = memchr::memchr2_iter(b'd', b'D', text);
    if seeds.any(|at| ends(text.get(..at).unwrap_or_default(), "setsee")) {
        effects.pins.insert(PinReason::Seed);
    }
}

/// Tells nearly every other name by the bytes around its underscore.
fn may_be_underscored(before: &[u8], rest: &[u8]) -> bool {
    let is_one_of =
        |byte: Option<&u8>, known: &[u8]| byte.is_some_and(|byte| known.contains(&byte.to_ascii_lowercase()));
    is_one_of(before.last(), BEFORE_UNDERSCORE) && is_one_of(rest.get(1), BEHIND_UNDERSCORE)
}

/// Whether a table is made for the session: TEMP, TEMPORARY, or by the name of its schema, pg_temp.
fn is_temporary_made(text: &[u8]) -> bool {
    memchr::memchr2_iter(b'm', b'M', text).any(|at| {
        let (before, rest) = text.split_at_checked(at).unwrap_or_default();
        is_temporary(before, rest)
    })
}

/// Whether a text that goes on with `mp` or `MP` from `rest` on holds the word TEMP or TEMPORARY there.
fn is_temporary(before: &[u8], rest: &[u8]) -> bool {
    if !ends(before, "te") || !starts(rest, "mp") {
        return false;
    }
    let alone = |byte: Option<&u8>| byte.is_none_or(|byte| !sql::is_word(*byte));
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

const REPORTED: [&str; 6] = [
    "client_encoding",
    "datestyle",
    "timezone",
    "standard_conforming_strings",
    "application_name",
    "intervalstyle",
];

/// What a function does whose name is found in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Called {
    Sets,
    Pins(PinReason),
    Releases,
    /// A view whose rows are settings.
    SetsIfUpdated,
}

/// What stands before an underscore, and from it on. `pg_advisory_xact_lock` is none of them: it ends with its transaction.
const UNDERSCORED: [(&str, &str, Called); 8] = [
    ("set", "_config", Called::Sets),
    ("pg", "_settings", Called::SetsIfUpdated),
    ("advisory", "_lock", Called::Pins(PinReason::AdvisoryLock)),
    ("advisory", "_unlock", Called::Releases),
    ("dblink", "_connect", Called::Pins(PinReason::Session)),
    ("origin", "_session", Called::Pins(PinReason::Session)),
    ("pg", "_backup_start", Called::Pins(PinReason::Session)),
    ("pg", "_start_backup", Called::Pins(PinReason::Session)),
];

/// Last letters of those heads, and first letters of those tails.
const BEFORE_UNDERSCORE: &[u8] = b"gknty";
const BEHIND_UNDERSCORE: &[u8] = b"bclsu";

/// Settings of one text that are followed by name.
const SETS_MAX: usize = 100;
/// How much of a statement's beginning is looked at, comments included; a statement whose first words come later may do
/// anything. Keeps the work linear in the length of the text.
const PATIENCE_MAX: usize = 4 * 1024;
/// Texts within texts of a `DO`.
const CODE_DEPTH_MAX: usize = 4;
/// Statements in one text that are looked at.
const STATEMENTS_MAX: usize = 1000;

#[cfg(test)]
mod tests;
