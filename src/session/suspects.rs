//! Names of functions, procedures, tables and views whose use may change the session from inside, which no text shows.
//!
//! A text that holds such a name, whatever for, is treated like one that says the same itself. A name too many costs a
//! question or some pooling; a name too few would cost another client its settings.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use super::screen::{Effects, PinReason, SettingEffect, judge};

/// The names that the texts on one server connection are searched for.
#[derive(Debug, Default)]
pub struct Suspects {
    /// Which state of the catalog this is; greater is later.
    pub version: u64,
    names: Names,
    /// Lengths and first bytes that occur: most words of a text are passed over by these.
    lengths: u64,
    firsts: [u64; 4],
    reach: Reach,
}

/// By name, in lower case.
type Names = HashMap<Box<[u8]>, Effects, RandomState>;

/// By what is used: who uses it.
type Users = HashMap<Box<[u8]>, Vec<Box<[u8]>>, RandomState>;

/// Which texts are suspected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reach {
    #[default]
    Named,
    /// Every one: there are too many functions to tell.
    Everything,
}

impl Suspects {
    /// Whether no text needs to be searched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.reach == Reach::Named
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether both say the same, whatever their versions.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.reach == other.reach && self.names == other.names
    }

    /// The same, as of another state of the catalog.
    #[must_use]
    pub fn at(&self, version: u64) -> Self {
        Self {
            version,
            names: self.names.clone(),
            ..*self
        }
    }

    /// Nothing can be told of the functions: every text is suspected.
    #[must_use]
    pub fn everything(version: u64) -> Self {
        Self {
            version,
            reach: Reach::Everything,
            ..Self::default()
        }
    }

    fn of(names: Names, version: u64) -> Self {
        let mut suspects = Self {
            version,
            ..Self::default()
        };
        for name in names.keys() {
            suspects.lengths |= 1 << (name.len() & 63);
            let first = name.first().copied().unwrap_or_default();
            if let Some(bits) = suspects.firsts.get_mut(usize::from(first >> 6)) {
                *bits |= 1 << (first & 63);
            }
        }
        suspects.names = names;
        suspects
    }

    /// What the names in a text stand for. A text without any costs the search alone.
    #[must_use]
    pub fn find(&self, text: &[u8]) -> Option<Effects> {
        if self.reach == Reach::Everything {
            return Some(unknown());
        }
        let mut found: Option<Effects> = None;
        for word in words(text) {
            let effects = self.get(word);
            if let Some(effects) = effects {
                found.get_or_insert_default().take_in(effects);
            }
        }
        found
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

/// A function or procedure, or something else that runs an expression: what it is used by, and what is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defined {
    pub name: Vec<u8>,
    pub language: Vec<u8>,
    /// None: there was too much of it to be looked at.
    pub body: Option<Vec<u8>>,
}

/// The functions of a database, each judged by its own body.
#[derive(Debug)]
pub struct Judged {
    defined: Vec<Defined>,
    names: Names,
}

impl Judged {
    #[must_use]
    pub fn of(defined: Vec<Defined>) -> Self {
        let mut names = Names::default();
        for one in &defined {
            let effects = match &one.body {
                Some(body) => judge(&one.language, body),
                None => unknown(),
            };
            if !effects.are_none()
                && let Some(key) = key(&one.name)
            {
                names.entry(key).or_default().take_in(&effects);
            }
        }
        Self { defined, names }
    }

    /// Whether no function changes a session.
    #[must_use]
    pub fn are_harmless(&self) -> bool {
        self.names.is_empty()
    }

    /// What uses one of them, and what uses that, is one too. `uses` are names beside those in bodies: who, and whom.
    #[must_use]
    pub fn spread(self, uses: &[(Vec<u8>, Vec<u8>)], version: u64) -> Suspects {
        let Self { defined, mut names } = self;
        let keyed = |name: &Vec<u8>| key(name);
        let mut known: HashSet<Box<[u8]>, RandomState> =
            defined.iter().filter_map(|one| keyed(&one.name)).collect();
        known.extend(uses.iter().filter_map(|(_, used)| keyed(used)));
        // By what is used.
        let mut users: Users = HashMap::default();
        for one in &defined {
            let Some(user) = key(&one.name) else { continue };
            for word in words(one.body.as_deref().unwrap_or_default()) {
                let word = clipped(word).to_ascii_lowercase();
                if let Some(used) = known.get(&*word)
                    && *used != user
                {
                    users.entry(used.clone()).or_default().push(user.clone());
                }
            }
        }
        for (user, used) in uses {
            if let (Some(user), Some(used)) = (key(user), key(used)) {
                users.entry(used).or_default().push(user);
            }
        }
        for list in users.values_mut() {
            list.sort_unstable();
            list.dedup();
        }
        let mut news: Vec<Box<[u8]>> = names.keys().cloned().collect();
        while let Some(used) = news.pop() {
            let Some(effects) = names.get(&used).cloned() else {
                continue;
            };
            for user in users.get(&used).into_iter().flatten() {
                if names.entry(user.clone()).or_default().take_in(&effects) {
                    news.push(user.clone());
                }
            }
        }
        Suspects::of(names, version)
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
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    text.split(move |byte| !is_word(*byte))
        .filter(|word| !word.is_empty())
}

/// What a name is found by: its longest word, in lower case.
fn key(name: &[u8]) -> Option<Box<[u8]>> {
    let longest = words(name).max_by_key(|word| word.len())?;
    Some(clipped(longest).to_ascii_lowercase().into())
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

#[cfg(test)]
mod tests;
