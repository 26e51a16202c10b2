//! What a server connection really has.

use foldhash::fast::RandomState;
use indexmap::IndexMap;

use super::{Description, Types};

/// What is prepared on one server connection.
#[derive(Debug, Default)]
pub struct ServerStatements {
    /// By statement id.
    named: IndexMap<u64, There, RandomState>,
    /// Where in `named` the last one used was found.
    recent: usize,
    clock: u64,
    /// The id of the unnamed statement, whoever parsed it.
    pub unnamed: Option<u64>,
    /// What was said of it, as long as it is the same one.
    unnamed_description: Option<Description>,
    /// Those of the statement that is being described.
    pub parameters: Option<Types>,
    trust: Trust,
}

/// A statement on the server.
#[derive(Clone, Copy, Debug)]
struct There {
    /// The time of its last use, by `clock`.
    used: u64,
    /// What was said of it, if somebody has asked since it was prepared here.
    description: Option<Description>,
}

/// Whether the list is known to be complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Trust {
    #[default]
    Complete,
    /// The server was found to have others, or the same with stale plans: what is not in the list is closed before it is
    /// prepared.
    Doubtful,
}

impl ServerStatements {
    /// Whether it is there; if so, it counts as used now.
    pub fn touch(&mut self, id: u64) -> bool {
        self.find(id).is_some()
    }

    /// The same, and it is what a client was told, if it was.
    pub fn touch_as(&mut self, id: u64, told: Option<Description>) -> bool {
        let there = self.find(id);
        there.is_some_and(|there| told.is_none() || there.description == told)
    }

    fn find(&mut self, id: u64) -> Option<&mut There> {
        self.clock += 1;
        let clock = self.clock;
        let is_recent = matches!(self.named.get_index(self.recent), Some((known, _)) if *known == id);
        if !is_recent {
            self.recent = self.named.get_index_of(&id)?;
        }
        let (_, there) = self.named.get_index_mut(self.recent)?;
        there.used = clock;
        Some(there)
    }

    /// What a statement is, if that is known.
    #[must_use]
    pub fn description(&self, id: u64) -> Option<Description> {
        self.named.get(&id)?.description
    }

    /// The server has described a statement.
    pub fn describe(&mut self, id: u64, description: Option<Description>) {
        if let Some(there) = self.named.get_mut(&id) {
            there.description = description;
        }
    }

    /// What the unnamed statement is, if it is this one and that is known.
    #[must_use]
    pub fn unnamed_description(&self, id: u64) -> Option<Description> {
        self.unnamed_description.filter(|_| self.unnamed == Some(id))
    }

    /// The server has described the unnamed statement.
    pub fn describe_unnamed(&mut self, id: u64, description: Option<Description>) {
        if self.unnamed == Some(id) {
            self.unnamed_description = description;
        }
    }

    /// Another statement is the unnamed one, even if its text is the same.
    pub fn replace_unnamed(&mut self, id: Option<u64>) -> Option<u64> {
        self.unnamed_description = None;
        std::mem::replace(&mut self.unnamed, id)
    }

    pub fn insert(&mut self, id: u64) {
        self.clock += 1;
        let there = There {
            used: self.clock,
            description: None,
        };
        self.named.insert(id, there);
    }

    pub fn remove(&mut self, id: u64) {
        self.named.swap_remove(&id);
    }

    /// The least recently used statement, if there are more than `max` and it was not used since `batch`.
    #[must_use]
    pub fn surplus(&self, max: usize, batch: u64) -> Option<u64> {
        if self.named.len() <= max {
            return None;
        }
        let (id, there) = self.named.iter().min_by_key(|(_, there)| there.used)?;
        (there.used <= batch).then_some(*id)
    }

    /// The time of the last use so far: what is used later than this is used by the batch that begins here.
    #[must_use]
    pub fn clock(&self) -> u64 {
        self.clock
    }

    /// Forgets every statement but the given ones.
    pub fn clear_except(&mut self, kept: &[u64]) {
        self.named.retain(|id, _| kept.contains(id));
    }

    /// The server has contradicted the list: it starts again.
    pub fn doubt(&mut self) {
        self.named.clear();
        self.trust = Trust::Doubtful;
    }

    /// Whether the server may have statements that are not in the list.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.trust == Trust::Doubtful
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.named.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }
}
