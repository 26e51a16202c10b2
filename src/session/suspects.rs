//! Names of functions, procedures, tables and views whose use may change the session from inside, which no text shows.
//!
//! A text that holds such a name, whatever for, is treated like one that says the same itself. A name too many costs a
//! question or some pooling; a name too few would cost another client its settings.

use std::borrow::Cow;
use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::screen::{Effects, PinReason, SettingEffect};

mod judged;

pub use judged::{Defined, Judged};

/// What the texts on one server connection are searched for.
#[derive(Clone, Debug, Default)]
pub struct Suspects {
    /// Which state of the catalog this is; greater is later.
    pub version: u64,
    /// Whose catalog it is.
    database: u64,
    names: Names,
    /// Lengths and first bytes that occur: most words of a text are passed over by these.
    lengths: u64,
    firsts: [u64; 4],
    /// Operators, at most `OPERATORS_MAX`.
    operators: Vec<(Box<[u8]>, Effects)>,
    /// What any text may do, whatever it names.
    anywhere: Option<Effects>,
    /// Functions by number, those of the server's included.
    calls: HashMap<u32, Effects, RandomState>,
}

/// By name, in lower case; or by an operator's signs.
type Names = HashMap<Box<[u8]>, Effects, RandomState>;

impl Suspects {
    /// Whether no text needs to be searched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.operators.is_empty() && self.anywhere.is_none()
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether both say the same, whatever their versions.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.anywhere == other.anywhere
            && self.names == other.names
            && self.operators == other.operators
            && self.calls == other.calls
    }

    /// The same, as of another state of the catalog.
    #[must_use]
    pub fn at(&self, version: u64) -> Self {
        Self {
            version,
            ..self.clone()
        }
    }

    /// The same, as the state of this database's catalog.
    #[must_use]
    pub fn of(self, database: u64, version: u64) -> Self {
        Self {
            version,
            database,
            ..self
        }
    }

    /// Names this state of this database's catalog in the process; none of a connection that was told nothing.
    #[must_use]
    pub fn stamp(&self) -> Option<u64> {
        let stamp = self
            .database
            .wrapping_mul(DATABASE_SALT)
            .wrapping_add(self.version);
        (self.version > 0 && stamp > 0).then_some(stamp)
    }

    /// Nothing can be told of the functions: every text is suspected.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            anywhere: Some(unknown()),
            ..Self::default()
        }
    }

    fn new(all: Names, calls: HashMap<u32, Effects, RandomState>) -> Self {
        let mut suspects = Self {
            calls,
            ..Self::default()
        };
        for (name, effects) in all {
            match name.first() {
                _ if *name == *ANYWHERE => suspects.add_anywhere(&effects),
                Some(first) if is_word(*first) => {
                    suspects.lengths |= 1 << (name.len() & 63);
                    if let Some(bits) = suspects.firsts.get_mut(usize::from(first >> 6)) {
                        *bits |= 1 << (first & 63);
                    }
                    suspects.names.insert(name, effects);
                }
                // What it is used by may have no sign of it: IN, BETWEEN, LIKE, JOIN … USING.
                _ if IMPLIED.contains(&&*name) => suspects.add_anywhere(&effects),
                _ => suspects.operators.push((name, effects)),
            }
        }
        if suspects.operators.len() > OPERATORS_MAX {
            suspects.operators.clear();
            suspects.add_anywhere(&unknown());
        }
        suspects
            .operators
            .sort_unstable_by(|one, other| one.0.cmp(&other.0));
        suspects
    }

    fn add_anywhere(&mut self, effects: &Effects) {
        self.anywhere.get_or_insert_default().take_in(effects);
    }

    /// What the names in a text stand for. A text without any costs the search alone.
    #[must_use]
    pub fn find(&self, text: &[u8]) -> Option<Cow<'_, Effects>> {
        let mut found = self.anywhere.as_ref().map(Cow::Borrowed);
        if !self.names.is_empty() {
            for effects in words(text).filter_map(|word| self.get(word)) {
                add(&mut found, effects);
            }
        }
        for (operator, effects) in &self.operators {
            if memchr::memmem::find(text, operator).is_some() {
                add(&mut found, effects);
            }
        }
        found
    }

    /// What a call of the function with this number does.
    #[must_use]
    pub fn call(&self, oid: u32) -> Option<&Effects> {
        self.calls.get(&oid).or(self.anywhere.as_ref())
    }

    fn get(&self, word: &[u8]) -> Option<&Effects> {
        let word = clipped(word);
        let first = word.first()?.to_ascii_lowercase();
        let bits = self.firsts.get(usize::from(first >> 6))?;
        if self.lengths >> (word.len() & 63) & 1 == 0 || bits >> (first & 63) & 1 == 0 {
            return None;
        }
        let mut folded = [0; NAME_LEN_MAX];
        let folded = folded.get_mut(..word.len())?;
        folded.copy_from_slice(word);
        folded.make_ascii_lowercase();
        self.names.get(&*folded)
    }
}

fn add<'a>(found: &mut Option<Cow<'a, Effects>>, effects: &'a Effects) {
    match found {
        None => *found = Some(Cow::Borrowed(effects)),
        Some(Cow::Borrowed(known)) if std::ptr::eq(*known, effects) => {}
        Some(known) => _ = known.to_mut().take_in(effects),
    }
}

/// What is assumed where nothing can be told.
fn unknown() -> Effects {
    let mut effects = Effects {
        settings: SettingEffect::Local,
        ..Effects::default()
    };
    effects.pins.insert(PinReason::Setting);
    effects
}

/// The words of a text, wherever they stand.
fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| !is_word(*byte)).filter(|word| !word.is_empty())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// A word as far as PostgreSQL reads it; it ends where a character begins.
fn clipped(word: &[u8]) -> &[u8] {
    if word.len() <= NAME_LEN_MAX {
        return word;
    }
    let begins = |at: &usize| word.get(*at).is_some_and(|byte| byte & 0xc0 != 0x80);
    let len = (0..=NAME_LEN_MAX).rev().find(begins).unwrap_or(NAME_LEN_MAX);
    word.get(..len).unwrap_or(word)
}

/// `NAMEDATALEN` in `src/include/pg_config_manual.h`, less the zero.
const NAME_LEN_MAX: usize = 63;
/// Operators that texts are searched for; with more of them any text is suspected.
const OPERATORS_MAX: usize = 64;
/// Operators that are applied where a text does not say so.
const IMPLIED: [&[u8]; 10] = [
    b"=", b"<>", b"<", b">", b"<=", b">=", b"~~", b"!~~", b"~~*", b"!~~*",
];
/// Stands for any text, where nothing in a text shows the use: a cast between types of the server's.
const ANYWHERE: &[u8] = b"(any)";
/// Spreads small numbers: 2 to the 64th, divided by the golden ratio.
const DATABASE_SALT: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests;
