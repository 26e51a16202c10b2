//! What a server connection really has.

use foldhash::fast::RandomState;
use indexmap::IndexMap;

/// What is prepared on one server connection.
#[derive(Debug, Default)]
pub struct ServerStatements {
    /// Statement id to the time of its last use, by `clock`.
    named: IndexMap<u64, u64, RandomState>,
    /// Where in `named` the last one used was found.
    recent: usize,
    clock: u64,
    /// The id of the unnamed statement, whoever parsed it.
    pub unnamed: Option<u64>,
    trust: Trust,
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
        self.clock += 1;
        if let Some((known, used)) = self.named.get_index_mut(self.recent)
            && *known == id
        {
            *used = self.clock;
            return true;
        }
        let Some((place, _, used)) = self.named.get_full_mut(&id) else {
            return false;
        };
        *used = self.clock;
        self.recent = place;
        true
    }

    pub fn insert(&mut self, id: u64) {
        self.clock += 1;
        self.named.insert(id, self.clock);
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
        let (id, used) = self.named.iter().min_by_key(|(_, used)| **used)?;
        (*used <= batch).then_some(*id)
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
