//! From the functions of a database, and who uses them, to the names that texts are searched for.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use crate::session::screen::{Effects, judge};

use super::{ANYWHERE, Names, Suspects, clipped, is_word, unknown, words};

/// A function or procedure, or something else that runs an expression: what it is used by, and what is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defined {
    /// Its number, if it is a function; else 0.
    pub oid: u32,
    pub name: Vec<u8>,
    /// `builtin` where texts that name it are known without this: it is called by number only.
    pub language: Vec<u8>,
    /// None: there was too much of it to be looked at.
    pub body: Option<Vec<u8>>,
}

/// By what is used: who uses it.
type Users = HashMap<Box<[u8]>, Vec<Box<[u8]>>, RandomState>;

/// The functions of a database, each judged by its own body.
#[derive(Debug)]
pub struct Judged {
    defined: Vec<Defined>,
    names: Names,
    calls: HashMap<u32, Effects, RandomState>,
}

impl Judged {
    #[must_use]
    pub fn of(defined: Vec<Defined>) -> Self {
        let mut names = Names::default();
        let mut calls = HashMap::default();
        for one in &defined {
            let effects = match &one.body {
                Some(body) => judge(&one.language, body),
                None => unknown(),
            };
            if effects.are_none() {
                continue;
            }
            if one.is_builtin() {
                calls.insert(one.oid, effects);
            } else {
                names.entry(key(&one.name)).or_default().take_in(&effects);
            }
        }
        Self {
            defined,
            names,
            calls,
        }
    }

    /// Whether no function that somebody has made changes a session.
    #[must_use]
    pub fn are_harmless(&self) -> bool {
        self.names.is_empty()
    }

    /// What uses one of them, and what uses that, is one too. `uses` are names beside those in bodies: who, and whom.
    #[must_use]
    pub fn spread(mut self, uses: &[(Vec<u8>, Vec<u8>)]) -> Suspects {
        let users = self.users(uses);
        let mut news: Vec<Box<[u8]>> = self.names.keys().cloned().collect();
        while let Some(used) = news.pop() {
            let Some(effects) = self.names.get(&used).cloned() else {
                continue;
            };
            let by_sign = self.users_of_operator(&used);
            for user in users.get(&used).into_iter().flatten().chain(&by_sign) {
                if self.names.entry(user.clone()).or_default().take_in(&effects) {
                    news.push(user.clone());
                }
            }
        }
        for one in &self.defined {
            if one.oid != 0
                && !one.is_builtin()
                && let Some(effects) = self.names.get(&key(&one.name))
            {
                self.calls.insert(one.oid, effects.clone());
            }
        }
        Suspects::new(self.names, self.calls)
    }

    fn users(&self, uses: &[(Vec<u8>, Vec<u8>)]) -> Users {
        let mut known: HashSet<Box<[u8]>, RandomState> =
            self.defined.iter().map(|one| key(&one.name)).collect();
        for (user, used) in uses {
            // Words of statements use event triggers, in bodies too.
            known.insert(key(user));
            known.insert(key(used));
        }
        let mut users = Users::default();
        for one in &self.defined {
            if one.is_builtin() {
                continue;
            }
            let user = key(&one.name);
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
            users.entry(key(used)).or_default().push(key(user));
        }
        for list in users.values_mut() {
            list.sort_unstable();
            list.dedup();
        }
        users
    }

    /// Whose bodies have the signs of an operator.
    fn users_of_operator(&self, name: &[u8]) -> Vec<Box<[u8]>> {
        if name == ANYWHERE || name.first().is_none_or(|first| is_word(*first)) {
            return Vec::new();
        }
        let has_it = |one: &&Defined| {
            let body = one.body.as_deref().unwrap_or_default();
            memchr::memmem::find(body, name).is_some()
        };
        let users = self.defined.iter().filter(|one| !one.is_builtin()).filter(has_it);
        users.map(|one| key(&one.name)).collect()
    }
}

impl Defined {
    fn is_builtin(&self) -> bool {
        self.language == b"builtin"
    }
}

/// What a name is found by: its longest word, in lower case; of an operator its signs.
fn key(name: &[u8]) -> Box<[u8]> {
    let longest = words(name).max_by_key(|word| word.len());
    match longest {
        Some(longest) if name != ANYWHERE => clipped(longest).to_ascii_lowercase().into(),
        Some(_) | None => name.into(),
    }
}
