//! Judges the body of a function or procedure: what a call of it may do to the session beyond its transaction.
//!
//! Settings that can be told by name are followed; where a body runs texts that it was given, anything may happen.

use crate::sql::{Lexer, Strings, words};

use super::dynamic::{Joining, calls_unknown};
use super::pieces::{Piece, Placed, pieces};
use super::{
    Called, Effects, PinReason, Release, SETS_MAX, SchemaEffect, SettingEffect, UNDERSCORED, is, is_any, set,
};

/// Whether a text may leave something in its session of which nothing is known but that it is there: nobody else gets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remains {
    #[default]
    None,
    Unknown,
}

/// What a body in this language may do. The body of a function in C is its library and its name there, of an internal one its
/// name; of those that are volatile, and that may not run in parallel.
#[must_use]
pub fn judge(language: &[u8], body: &[u8]) -> Effects {
    let mut effects = Effects::default();
    match language {
        b"sql" => read(Language::Sql, body, &mut effects),
        b"plpgsql" => read(Language::Procedural, body, &mut effects),
        _ if FOREIGN.iter().any(|known| language == known.as_bytes()) => foreign(body, &mut effects),
        b"c" => compiled(body, &mut effects),
        b"builtin" | b"internal" => builtin(body, &mut effects),
        // What stands there may be the name of something that lies elsewhere.
        _ => unknown(&mut effects),
    }
    if effects.pins.contains(PinReason::TemporaryTable) {
        // Nobody else sees the table.
        effects.schema = SchemaEffect::None;
    }
    effects
}

/// A body of statements. What a backslash does in it is for its function's settings to say, or for those of who calls it: where
/// there is one, it does all that it may do either way.
fn read(language: Language, body: &[u8], effects: &mut Effects) {
    Reader::new(language, Strings::Conforming, effects).text(body, Place::Statements);
    if memchr::memchr(b'\\', body).is_some() {
        Reader::new(language, Strings::Backslash, effects).text(body, Place::Statements);
    }
}

impl Effects {
    /// Adds what another text does. Says whether that was more.
    pub fn take_in(&mut self, other: &Self) -> bool {
        let extent = |effects: &Self| {
            let flags = (effects.pins, effects.settings, effects.release, effects.literals);
            (flags, effects.remains, effects.schema, effects.sets.len())
        };
        let before = extent(self);
        self.pins = self.pins.union(other.pins);
        self.settings = self.settings.max(other.settings);
        self.release = self.release.max(other.release);
        self.remains = self.remains.max(other.remains);
        self.literals = self.literals.max(other.literals);
        self.schema = self.schema.max(other.schema);
        if !self.pins.contains(PinReason::Setting) || self.sets.len() < SETS_MAX {
            for name in &other.sets {
                if !self.sets.contains(name) {
                    self.sets.push(name.clone());
                }
            }
        }
        if self.sets.len() > SETS_MAX {
            self.pins.insert(PinReason::Setting);
        }
        before != extent(self)
    }
}

/// Sets something that cannot be told.
fn unknown(effects: &mut Effects) {
    effects.pins.insert(PinReason::Setting);
    effects.settings = effects.settings.max(SettingEffect::Local);
}

/// A function of the server's own, which texts call by another name, or by number.
fn builtin(name: &[u8], effects: &mut Effects) {
    if memchr::memmem::find(name, b"set_config").is_some() {
        // What it sets is an argument.
        return unknown(effects);
    }
    called(name, &[], effects);
}

/// A function of a library.
fn compiled(body: &[u8], effects: &mut Effects) {
    let mut words = body.splitn(2, |byte| *byte == b' ');
    let (path, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let library = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let library = library.strip_suffix(b".so").unwrap_or(library);
    if is(library, "pg_trgm") && is(name, "set_limit") {
        effects.settings = SettingEffect::Local;
        effects.sets.push(SIMILARITY.into());
    } else if is_any(library, &STATEFUL) {
        effects.pins.insert(PinReason::Session);
    } else if is_any(library, &HARMLESS_LIBRARIES) {
        called(name, &[], effects);
    } else {
        effects.remains = Remains::Unknown;
    }
}

/// A body in a language that is not SQL's own: its words, whatever they stand for.
fn foreign(body: &[u8], effects: &mut Effects) {
    for word in words(body) {
        if is_any(word, &RUNNING) || is_any(word, &["set", "reset", "set_config"]) {
            unknown(effects);
        }
        called(word, &[], effects);
        if is_any(word, &["temp", "temporary"]) {
            effects.pins.insert(PinReason::TemporaryTable);
        }
        effects
            .pins
            .extend(is(word, "listen").then_some(PinReason::Listen));
    }
}

/// A name anywhere in a body.
fn called(word: &[u8], rest: &[u8], effects: &mut Effects) {
    if is(word, "setseed") {
        effects.pins.insert(PinReason::Seed);
    }
    if memchr::memchr(b'_', word).is_none() {
        return;
    }
    if is(word, "pg_temp") {
        effects.pins.insert(PinReason::TemporaryTable);
    }
    let word = word.to_ascii_lowercase();
    for (head, tail, what) in &UNDERSCORED {
        let at = memchr::memmem::find_iter(&word, tail)
            .find(|at| word.get(..*at).is_some_and(|it| it.ends_with(head.as_bytes())));
        match (at, what) {
            (None, _) | (Some(_), Called::SetsIfUpdated) => {}
            (Some(_), Called::Sets) if is(&word, "set_config") && is_call(rest) => {
                effects.on_set(set::call(rest))
            }
            // A function of somebody's own, which is judged by its own body; or the name of a column.
            (Some(_), Called::Sets) => {}
            (Some(_), Called::Pins(reason)) => effects.pins.insert(*reason),
            (Some(_), Called::Releases) => effects.release = Release::Maybe,
        }
    }
}

fn is_call(rest: &[u8]) -> bool {
    let next = Lexer::new(rest, Strings::Conforming).next();
    next.is_some_and(|next| next.is_sign(b"("))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    Sql,
    Procedural,
}

/// What a text inside of a body is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Statements, as they stand.
    Statements,
    /// A statement that is put together, from its beginning.
    Pieces,
    /// A later piece of one.
    Continued,
    /// Perhaps nothing that is ever run.
    Words,
}

struct Reader<'e> {
    language: Language,
    strings: Strings,
    effects: &'e mut Effects,
    depth: usize,
}

impl<'e> Reader<'e> {
    fn new(language: Language, strings: Strings, effects: &'e mut Effects) -> Self {
        Self {
            language,
            strings,
            effects,
            depth: 0,
        }
    }

    fn text(&mut self, text: &[u8], place: Place) {
        if self.depth >= DEPTH_MAX {
            return unknown(self.effects);
        }
        self.depth += 1;
        let pieces = pieces(text, self.strings);
        for (at, placed) in pieces.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|at| pieces.get(at));
            match &placed.piece {
                Piece::Word(word) => {
                    called(word, placed.rest, self.effects);
                    self.word(word, placed, before, place);
                    if is(word, "pg_settings") && is_updated(&pieces, at) {
                        // That sets.
                        unknown(self.effects);
                    }
                    let runs = self.language == Language::Procedural && place == Place::Statements;
                    if runs && is(word, "execute") {
                        self.dynamic(&pieces, at + 1);
                    }
                }
                Piece::Quoted(name) => called(name, placed.rest, self.effects),
                Piece::Coded => unknown(self.effects),
                Piece::Literal(value) => self.text(value, Place::Words),
                Piece::Sign(_) => {}
            }
        }
        self.depth -= 1;
    }

    fn word(&mut self, word: &[u8], placed: &Placed<'_>, before: Option<&Placed<'_>>, place: Place) {
        let is_behind = |known: &[&str]| {
            before.is_some_and(|before| matches!(before.piece, Piece::Word(word) if is_any(word, known)))
        };
        if place == Place::Words {
            return;
        }
        if is_any(word, &["temp", "temporary"])
            && is_behind(&["create", "local", "global", "into", "replace"])
        {
            self.effects.pins.insert(PinReason::TemporaryTable);
        }
        if is(word, "hold") && is_behind(&["with"]) {
            self.effects.pins.insert(PinReason::Cursor);
        }
        let begins = match before {
            None => place != Place::Continued,
            Some(before) => {
                before.is_sign(b";")
                    || before.is_sign(b">>")
                    || is_behind(&["begin", "then", "else", "loop", "atomic"])
            }
        };
        if begins {
            self.statement(word, placed.rest, place);
        }
    }

    fn statement(&mut self, word: &[u8], rest: &[u8], place: Place) {
        match word {
            _ if is(word, "set") && (place == Place::Statements || names_whole(rest, self.strings)) => {
                self.effects.on_set(set::set(rest));
            }
            _ if is(word, "reset") && place == Place::Statements => {
                let is_all = pieces(rest.get(..RESET_LEN_MAX).unwrap_or(rest), self.strings)
                    .first()
                    .is_some_and(|first| first.is_word("all"));
                if is_all {
                    unknown(self.effects);
                } else {
                    self.effects.on_set(set::reset(rest));
                }
            }
            _ if is_any(word, &["set", "reset"]) => unknown(self.effects),
            _ if is(word, "listen") => self.effects.pins.insert(PinReason::Listen),
            _ if is(word, "load") => self.effects.pins.insert(PinReason::Load),
            _ if is_any(word, &["prepare", "deallocate"]) => self.effects.pins.insert(PinReason::Prepare),
            _ if is_any(word, &["close", "drop", "discard"]) => self.effects.release = Release::Maybe,
            _ => {}
        }
        // Not what makes one: a trigger may do so for each row, IF NOT EXISTS.
        if is_any(word, &["alter", "drop"]) {
            self.effects.schema = SchemaEffect::Alters;
        }
    }

    /// `EXECUTE` of a text, which begins with the piece at this place.
    fn dynamic(&mut self, pieces: &[Placed<'_>], at: usize) {
        let Some(first) = pieces.get(at) else { return };
        // GRANT EXECUTE ON …, CREATE TRIGGER … EXECUTE FUNCTION …
        if ["on", "function", "procedure"]
            .iter()
            .any(|word| first.is_word(word))
        {
            return;
        }
        let Piece::Word(variable) = first.piece else {
            return self.expression(pieces, at);
        };
        let is_followed = |sign: &[u8]| pieces.get(at + 1).is_some_and(|next| next.is_sign(sign));
        if is_followed(b"(") || is_followed(b".") || is_followed(b"||") {
            return self.expression(pieces, at);
        }
        let (mut is_declared, mut is_assigned) = (false, false);
        for (place, placed) in pieces.iter().enumerate() {
            if !placed.is_word_of(variable) {
                continue;
            }
            let is_behind =
                |known| place > 0 && pieces.get(place - 1).is_some_and(|before| before.is_word(known));
            if ["into", "for", "foreach"].into_iter().any(is_behind) {
                return unknown(self.effects);
            }
            // Elsewhere a sign of equality compares.
            if !begins_statement(pieces, place) {
                continue;
            }
            is_declared |= matches!(
                pieces.get(place + 1),
                Some(Placed {
                    piece: Piece::Word(_),
                    ..
                })
            );
            if let Some(value) = assignment(pieces, place + 1) {
                is_assigned = true;
                self.expression(pieces, value);
            }
        }
        // An argument has a value that is not seen here.
        if !is_declared || !is_assigned {
            unknown(self.effects);
        }
    }

    /// An expression that gives a statement.
    fn expression(&mut self, pieces: &[Placed<'_>], start: usize) {
        let mut at = start;
        while pieces.get(at).is_some_and(|placed| {
            placed.is_sign(b"(")
                || placed.is_word("format")
                || placed.is_word("concat")
                || placed.is_word("pg_catalog")
                || placed.is_sign(b".")
        }) {
            at += 1;
        }
        let Some(Piece::Literal(value)) = pieces.get(at).map(|placed| &placed.piece) else {
            return unknown(self.effects);
        };
        let first = words(value).next().unwrap_or_default();
        if !is_any(first, &HARMLESS) && !is_any(first, &TOLD) {
            return unknown(self.effects);
        }
        let behind = pieces.get(start..at).unwrap_or_default();
        let joining = if behind.iter().any(|placed| placed.is_word("format")) {
            Joining::Format
        } else {
            Joining::Concatenation
        };
        if calls_unknown(pieces, at, joining) {
            unknown(self.effects);
        }
        self.text(value, Place::Pieces);
        for placed in pieces.iter().skip(at + 1) {
            match &placed.piece {
                Piece::Sign(b";") => break,
                Piece::Literal(value) => self.text(value, Place::Continued),
                Piece::Word(_) | Piece::Quoted(_) | Piece::Coded | Piece::Sign(_) => {}
            }
        }
    }
}

impl Placed<'_> {
    fn is_word_of(&self, name: &[u8]) -> bool {
        matches!(self.piece, Piece::Word(word) if word.eq_ignore_ascii_case(name))
    }
}

/// Whether a statement or a declaration begins with a piece.
fn begins_statement(pieces: &[Placed<'_>], place: usize) -> bool {
    let before = place.checked_sub(1).and_then(|before| pieces.get(before));
    before.is_none_or(|before| {
        before.is_sign(b";")
            || before.is_sign(b">>")
            || ["begin", "declare", "then", "else", "loop"]
                .iter()
                .any(|word| before.is_word(word))
    })
}

/// Where the value stands that a variable is given by what follows on its name: `v := …`, `v = …`, `v text := …`.
fn assignment(pieces: &[Placed<'_>], at: usize) -> Option<usize> {
    for place in at..at + DECLARATION_LEN_MAX {
        let placed = pieces.get(place)?;
        match placed.piece {
            Piece::Sign(b"=" | b":=") => return Some(place + 1),
            Piece::Word(word) if is(word, "default") => return Some(place + 1),
            Piece::Word(_) => {}
            Piece::Sign(_) | Piece::Quoted(_) | Piece::Coded | Piece::Literal(_) => return None,
        }
    }
    None
}

/// Whether `UPDATE` stands before the name of a table.
fn is_updated(pieces: &[Placed<'_>], at: usize) -> bool {
    let before = pieces.get(at.saturating_sub(NAME_PIECES_MAX)..at);
    before.is_some_and(|before| before.iter().any(|placed| placed.is_word("update")))
}

/// Whether what follows on `SET`, in a text that is put together, names the setting to its end.
fn names_whole(rest: &[u8], strings: Strings) -> bool {
    let pieces = pieces(rest, strings);
    let mut named = 0;
    for placed in &pieces {
        match placed.piece {
            Piece::Word(word) if named == 0 && is_any(word, &OF_ONE_WORD) => return true,
            Piece::Word(word) if is(word, "to") && named > 0 => return true,
            Piece::Sign(b"=") => return named > 0,
            Piece::Word(_) | Piece::Quoted(_) | Piece::Sign(b".") => named += 1,
            Piece::Literal(_) | Piece::Coded | Piece::Sign(_) => return false,
        }
    }
    false
}

/// First words behind `SET` that tell what is set.
const OF_ONE_WORD: [&str; 7] = [
    "local",
    "role",
    "time",
    "names",
    "schema",
    "transaction",
    "constraints",
];
/// Languages whose bodies are no SQL.
const FOREIGN: [&str; 6] = ["plpython3u", "plperl", "plperlu", "pltcl", "pltclu", "plv8"];
/// What `set_limit` sets (`contrib/pg_trgm/trgm_op.c`).
const SIMILARITY: &str = "pg_trgm.similarity_threshold";
/// Libraries that keep something for the session which no `DISCARD ALL` ends: variables, messages, indexes that are not there.
const STATEFUL: [&str; 5] = ["pg_variables", "orafce", "hypopg", "set_user", "pg_background"];
/// Those that come with PostgreSQL: they look, or do what everybody sees. `dblink_connect` is told by its name.
const HARMLESS_LIBRARIES: [&str; 15] = [
    "adminpack",
    "amcheck",
    "dblink",
    "dict_int",
    "dict_xsyn",
    "file_fdw",
    "old_snapshot",
    "pageinspect",
    "pg_prewarm",
    "pg_surgery",
    "pg_visibility",
    "pg_walinspect",
    "postgres_fdw",
    "sslinfo",
    "tablefunc",
];
/// First words of statements that change no session.
const HARMLESS: [&str; 24] = [
    "select", "insert", "update", "delete", "merge", "with", "values", "table", "create", "alter", "drop",
    "truncate", "analyze", "vacuum", "refresh", "copy", "comment", "grant", "revoke", "lock", "explain",
    "notify", "reindex", "unlisten",
];
/// First words of statements that are looked into further.
const TOLD: [&str; 6] = ["set", "reset", "listen", "load", "prepare", "deallocate"];
/// What runs a text in other languages.
const RUNNING: [&str; 10] = [
    "execute",
    "prepare",
    "eval",
    "exec",
    "spi_exec",
    "spi_exec_query",
    "spi_query",
    "spi_prepare",
    "spi_execp",
    "cursor",
];
/// Texts within texts.
const DEPTH_MAX: usize = 4;
/// A variable's name, its type and modifiers before its value.
const DECLARATION_LEN_MAX: usize = 6;
/// `UPDATE ONLY schema.` before a table's name.
const NAME_PIECES_MAX: usize = 4;
/// What is looked at behind a `RESET`.
const RESET_LEN_MAX: usize = 256;

#[cfg(test)]
mod tests;
