//! What a client listens to, and what its open transaction is going to make of that.
//!
//! LISTEN takes effect when its transaction commits, and a rollback to a savepoint takes back what was said since. The texts
//! tell all of it as long as they are simple; of others it is found out here that they are not.

pub mod parse;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use parse::{Step, commands, step, unlistens};

/// The name of a channel as the server has it: quotes taken off, folded.
pub type Channel = Arc<[u8]>;

/// The channels of one client.
pub type Channels = BTreeSet<Channel>;

/// LISTEN or UNLISTEN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Listen(Channel),
    Unlisten(Channel),
    UnlistenAll,
}

/// What an open transaction has said so far, in order.
#[derive(Debug, Default)]
pub struct Log {
    entries: Vec<Entry>,
}

#[derive(Debug)]
enum Entry {
    Said(Command),
    /// A savepoint that was set since the first command.
    Savepoint(Channel),
}

/// There is no more room.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl Log {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A command was carried out.
    ///
    /// # Errors
    /// There are too many.
    pub fn say(&mut self, command: Command) -> Result<(), Full> {
        self.push(Entry::Said(command))
    }

    /// A savepoint was set, gone back to, or released. Those that were set before the first command are not known, and
    /// going back to one takes back everything.
    ///
    /// # Errors
    /// There are too many.
    pub fn step(&mut self, step: &Step) -> Result<(), Full> {
        match step {
            Step::Savepoint(name) => return self.push(Entry::Savepoint(Arc::clone(name))),
            Step::RollbackTo(name) => {
                let kept = self.position(name).map_or(0, |at| at + 1);
                self.entries.truncate(kept);
            }
            Step::Release(name) => {
                let from = self.position(name).unwrap_or(0);
                let behind = self.entries.split_off(from);
                let said = behind.into_iter().filter(|entry| matches!(entry, Entry::Said(_)));
                self.entries.extend(said);
            }
            Step::Other | Step::Unclear => {}
        }
        // Savepoints alone say nothing.
        if !self.entries.iter().any(|entry| matches!(entry, Entry::Said(_))) {
            self.entries.clear();
        }
        Ok(())
    }

    /// The channels that are going to be listened to.
    pub fn listens(&self) -> impl Iterator<Item = &Channel> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Said(Command::Listen(channel)) => Some(channel),
            Entry::Said(_) | Entry::Savepoint(_) => None,
        })
    }

    /// What was said of listening holds for the server connection alone.
    pub fn forget_listens(&mut self) {
        self.entries
            .retain(|entry| !matches!(entry, Entry::Said(Command::Listen(_))));
    }

    /// The transaction has committed.
    pub fn commit(&mut self, channels: &mut Channels) {
        for entry in self.entries.drain(..) {
            match entry {
                Entry::Said(Command::Listen(channel)) => _ = channels.insert(channel),
                Entry::Said(Command::Unlisten(channel)) => _ = channels.remove(&channel),
                Entry::Said(Command::UnlistenAll) => channels.clear(),
                Entry::Savepoint(_) => {}
            }
        }
    }

    /// The transaction was rolled back.
    pub fn roll_back(&mut self) {
        self.entries.clear();
    }

    fn push(&mut self, entry: Entry) -> Result<(), Full> {
        if self.entries.len() >= LOG_LEN_MAX {
            return Err(Full);
        }
        self.entries.push(entry);
        Ok(())
    }

    /// The latest savepoint of this name.
    fn position(&self, name: &Channel) -> Option<usize> {
        self.entries
            .iter()
            .rposition(|entry| matches!(entry, Entry::Savepoint(found) if found == name))
    }
}

/// Commands and savepoints of one transaction: more than any needs, and little to look through.
const LOG_LEN_MAX: usize = 1000;
/// Channels of one client. One with more keeps its server connection.
pub const CHANNELS_MAX: usize = 1000;

#[cfg(test)]
mod tests;
