//! What is in flight on a server connection, and whose answer each is.

mod described;
mod moves;
mod undo;

use std::collections::VecDeque;

use crate::protocol::Report;

use super::statement::{Named, key};

pub use described::{Described, Slot};
pub use moves::{Move, Moves};
pub use undo::{ClientUndo, QueryUndo, Renaming, ServerUndo};

/// The requests sent and not yet answered, oldest first. The queue is the protocol state.
#[derive(Debug, Default)]
pub struct Pipeline {
    entries: VecDeque<Entry>,
    /// How many of them are answered here.
    fakes: usize,
    /// How many of them are a `Sync`.
    syncs: usize,
    /// How many of them are a `CopyEnd`.
    copy_ends: usize,
    /// How many of them end a batch otherwise: simple queries and calls.
    calls: usize,
    /// How many of them change what is prepared.
    changes: usize,
}

impl Pipeline {
    #[inline]
    #[must_use]
    pub fn head(&self) -> Option<&Entry> {
        self.entries.front()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.entries.len() >= PIPELINE_LEN_MAX
    }

    /// The same as `push` for a request whose answer goes on as it comes and that changes no name: most are such.
    #[inline]
    pub fn push_plain(&mut self, kind: Plain) {
        self.syncs += usize::from(kind == Plain::Sync);
        let kind = match kind {
            Plain::Bind => Kind::Bind,
            Plain::Describe => Kind::Describe,
            Plain::Execute => Kind::Execute,
            Plain::Sync => Kind::Sync,
        };
        self.entries.push_back(Entry::forward(kind));
    }

    pub fn push(&mut self, entry: Entry) {
        self.fakes += usize::from(matches!(entry.answer, Answer::Fake));
        self.syncs += usize::from(entry.kind == Kind::Sync);
        self.copy_ends += usize::from(entry.kind == Kind::CopyEnd);
        self.calls += usize::from(entry.kind.is_call());
        self.changes += usize::from(entry.is_change());
        self.entries.push_back(entry);
    }

    /// Takes out the oldest entry, with the ends of copies behind it: those have no answer of their own.
    #[inline]
    pub fn pop(&mut self) -> Option<Kind> {
        let head = self.entries.front()?;
        let kind = head.kind;
        if !head.is_plain() || self.copy_ends > 0 {
            self.pop_rare();
            return Some(kind);
        }
        self.syncs -= usize::from(kind == Kind::Sync);
        self.calls -= usize::from(kind.is_call());
        // It owns nothing: what there is to drop has not to be looked for.
        std::mem::forget(self.entries.pop_front());
        Some(kind)
    }

    #[inline(never)]
    fn pop_rare(&mut self) {
        self.take(0);
        while self.head().is_some_and(|head| head.kind == Kind::CopyEnd) {
            self.take(0);
        }
    }

    /// Takes out the latest entry.
    pub fn pop_latest(&mut self) -> Option<Entry> {
        self.take(self.entries.len().checked_sub(1)?)
    }

    /// Takes out the latest entry, if it is a part of a `BEGIN`. Says whether it was.
    pub fn pop_latest_begin(&mut self) -> bool {
        let latest = self.entries.back();
        let is_begin = latest.is_some_and(|entry| matches!(entry.answer, Answer::Begin));
        is_begin && self.pop_latest().is_some()
    }

    /// Moves what the server skips after an error, everything before the next `Sync`, behind the rest. Says how many entries
    /// those are. They are to be taken out, latest first, so that their changes can be undone in that order.
    pub fn put_skipped_last(&mut self) -> usize {
        if self.syncs == 0 {
            return self.entries.len();
        }
        let is_sync = |entry: &Entry| entry.kind == Kind::Sync;
        let count = self.entries.iter().position(is_sync).unwrap_or(0);
        self.entries.rotate_left(count);
        count
    }

    /// Takes out the `Sync`s that a server in copy-in mode ignores: those sent before the end of the copy
    /// (`CopyGetData` in `src/backend/commands/copyfromparse.c`). The head is the command that copies.
    pub fn ignore_syncs_in_copy(&mut self) -> EarlySyncs {
        let end = self.entries.iter().position(|entry| entry.kind == Kind::CopyEnd);
        let before = self.syncs;
        let mut index = 0;
        self.entries.retain(|entry| {
            let inside = end.is_none_or(|end| index < end);
            index += 1;
            !(inside && entry.kind == Kind::Sync)
        });
        self.syncs = self
            .entries
            .iter()
            .filter(|entry| entry.kind == Kind::Sync)
            .count();
        EarlySyncs {
            count: u32::try_from(before - self.syncs).unwrap_or(u32::MAX),
            is_ended: end.is_some(),
        }
    }

    /// Whether some answer in the queue is made here.
    #[must_use]
    pub fn has_fakes(&self) -> bool {
        self.fakes > 0
    }

    #[must_use]
    pub fn has_sync(&self) -> bool {
        self.syncs > 0
    }

    /// How often the server will say that it is ready.
    #[must_use]
    pub fn awaited(&self) -> usize {
        let awaits = |entry: &&Entry| {
            let is_end = entry.kind == Kind::Sync || entry.kind.is_call();
            is_end && !matches!(entry.answer, Answer::Fake)
        };
        self.entries.iter().filter(awaits).count()
    }

    /// Whether something of an earlier batch is in flight.
    #[must_use]
    pub fn has_earlier_batch(&self) -> bool {
        self.syncs > 0 || self.calls > 0
    }

    /// Whether something in flight changes what is prepared.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.changes > 0
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Whether something of the client's behind the head may still do a thing of its own: more than `Sync`s.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.entries
            .iter()
            .skip(1)
            .any(|entry| !entry.is_own() && !matches!(entry.kind, Kind::Sync | Kind::CopyEnd))
    }

    /// Whether what a name or a statement means hangs on a request of an earlier batch that is not answered yet. If that one
    /// fails, the present batch is carried out all the same.
    #[must_use]
    pub fn is_unsettled(&self, name: &[u8], id: Option<u64>) -> bool {
        // Without an earlier batch there is nothing to search, however long the present one is.
        if self.changes == 0 || !self.has_earlier_batch() {
            return false;
        }
        if self.entries.len() > SEARCHED_MAX {
            return true;
        }
        let mut behind_sync = false;
        self.entries.iter().rev().any(|entry| {
            behind_sync |= entry.kind == Kind::Sync;
            // A query is a batch of its own.
            (behind_sync || entry.kind == Kind::Query)
                && (entry.touches(name, id) || entry.server_undo == ServerUndo::Unknown)
        })
    }

    /// Whether any name hangs on a request of an earlier batch.
    #[must_use]
    pub fn is_any_unsettled(&self) -> bool {
        if self.changes == 0 || !self.has_earlier_batch() {
            return false;
        }
        let mut behind_sync = false;
        self.entries.iter().rev().any(|entry| {
            behind_sync |= entry.kind == Kind::Sync;
            (behind_sync || entry.kind == Kind::Query) && entry.is_change()
        })
    }

    /// The same for the unnamed statement: its last change belongs to an earlier batch.
    #[must_use]
    pub fn is_unnamed_unsettled(&self) -> bool {
        if self.changes == 0 || self.syncs == 0 {
            return false;
        }
        let mut behind_sync = false;
        for entry in self.entries.iter().rev() {
            behind_sync |= entry.kind == Kind::Sync;
            if entry.is_of_unnamed() {
                return behind_sync;
            }
        }
        false
    }

    /// Whether something may fail and make the server skip all that is sent from now on.
    #[must_use]
    pub fn has_open_batch(&self) -> bool {
        let is_open = |entry: &Entry| {
            entry.kind.is_extended() && entry.kind != Kind::CopyEnd && !matches!(entry.answer, Answer::Fake)
        };
        let tail = self.entries.iter().rev();
        tail.take_while(|entry| entry.kind != Kind::Sync).any(is_open)
    }

    /// Whether the present batch closes a statement, or prepares it.
    #[must_use]
    pub fn changes_statement(&self, id: u64) -> bool {
        self.changes > 0 && self.entries.iter().any(|entry| entry.touches(b"", Some(id)))
    }

    /// Whether something in flight gives a name another meaning.
    #[must_use]
    pub fn changes_name(&self, name: &[u8]) -> bool {
        self.changes > 0 && self.entries.iter().any(|entry| entry.touches(name, None))
    }

    /// Whether something in flight changes what the unnamed statement is.
    #[must_use]
    pub fn changes_unnamed(&self) -> bool {
        self.changes > 0 && self.entries.iter().any(Entry::is_of_unnamed)
    }

    /// Changes of the client's unnamed statement are undone: if what is left has changed it again, the first undoing there goes
    /// back further now. Gives the statement back if there is none.
    pub fn hand_down_client(&mut self, previous: Option<Named>) -> Result<(), Option<Named>> {
        for entry in self.changes() {
            match &mut entry.client_undo {
                ClientUndo::Unnamed(later) => {
                    *later = previous;
                    return Ok(());
                }
                ClientUndo::Query(query) => {
                    query.unnamed = previous;
                    return Ok(());
                }
                ClientUndo::None | ClientUndo::Named(_) | ClientUndo::All(_) => {}
            }
        }
        Err(previous)
    }

    /// The same for the server's. Says whether there was a later change.
    pub fn hand_down_server(&mut self, previous: Option<u64>) -> bool {
        for entry in self.changes() {
            if let ServerUndo::Unnamed(later) = &mut entry.server_undo {
                *later = previous;
                return true;
            }
            if entry.kind == Kind::Query {
                // It destroys the unnamed statement, whatever else it does.
                return true;
            }
        }
        false
    }

    /// What was pushed since the queue was so long goes ahead of a simple query.
    pub fn put_ahead(&mut self, before: usize) {
        for entry in self.entries.iter_mut().skip(before) {
            if matches!(entry.answer, Answer::Skip) {
                entry.answer = Answer::Ahead;
            }
        }
    }

    /// The answer of the `Sync` at the head goes to the client, although it is ours.
    pub fn show_own_sync(&mut self) {
        let head = self.entries.front_mut();
        if let Some(sync) = head.filter(|head| head.kind == Kind::Sync && matches!(head.answer, Answer::Skip))
        {
            sync.answer = Answer::Forward;
        }
    }

    /// The query at the head has failed: what it was going to change, but for the unnamed statement, which is gone.
    pub fn fail_query(&mut self) -> (Vec<Renaming>, ServerUndo) {
        let Some(entry) = self.entries.front_mut() else {
            return (Vec::new(), ServerUndo::None);
        };
        let ClientUndo::Query(query) = &mut entry.client_undo else {
            return (Vec::new(), ServerUndo::None);
        };
        let renamings = std::mem::take(&mut query.renamings);
        (renamings, std::mem::take(&mut entry.server_undo))
    }

    /// One `DEALLOCATE` of the query at the head was carried out. No rollback brings the name back.
    pub fn on_deallocated(&mut self) {
        if let Some(Entry {
            kind: Kind::Query,
            client_undo: ClientUndo::Query(query),
            ..
        }) = self.entries.front_mut()
            && !query.renamings.is_empty()
        {
            query.renamings.remove(0);
        }
    }

    /// Gives up what a large batch has grown.
    pub fn shrink(&mut self) {
        self.entries.shrink_to(PIPELINE_KEPT_MAX);
    }

    fn changes(&mut self) -> impl Iterator<Item = &mut Entry> {
        let count = if self.changes > 0 { self.entries.len() } else { 0 };
        self.entries.iter_mut().take(count)
    }

    fn take(&mut self, index: usize) -> Option<Entry> {
        let entry = if index == 0 {
            self.entries.pop_front()?
        } else {
            self.entries.remove(index)?
        };
        self.fakes -= usize::from(matches!(entry.answer, Answer::Fake));
        self.syncs -= usize::from(entry.kind == Kind::Sync);
        self.copy_ends -= usize::from(entry.kind == Kind::CopyEnd);
        self.calls -= usize::from(entry.kind.is_call());
        self.changes -= usize::from(entry.is_change());
        Some(entry)
    }
}

/// The `Sync`s that a copy has swallowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlySyncs {
    pub count: u32,
    /// The end of the copy has been sent already.
    pub is_ended: bool,
}

/// One request.
#[derive(Debug)]
pub struct Entry {
    pub kind: Kind,
    pub answer: Answer,
    pub client_undo: ClientUndo,
    pub server_undo: ServerUndo,
}

impl Entry {
    /// A request whose answer goes to the client as it comes.
    #[inline]
    #[must_use]
    pub fn forward(kind: Kind) -> Self {
        Self {
            kind,
            answer: Answer::Forward,
            client_undo: ClientUndo::None,
            server_undo: ServerUndo::None,
        }
    }

    /// A request of our own: its answer goes nowhere.
    #[must_use]
    pub fn skip(kind: Kind) -> Self {
        Self {
            answer: Answer::Skip,
            ..Self::forward(kind)
        }
    }

    /// A question of our own: its rows are read, and nothing of the answer goes to the client.
    #[must_use]
    pub fn read(kind: Kind) -> Self {
        Self {
            answer: Answer::Read,
            ..Self::forward(kind)
        }
    }

    /// A part of the client's `BEGIN`, which it was told of before.
    #[must_use]
    pub fn begin(kind: Kind) -> Self {
        Self {
            answer: Answer::Begin,
            ..Self::forward(kind)
        }
    }

    /// Whether the client knows nothing of it.
    #[inline]
    #[must_use]
    pub fn is_own(&self) -> bool {
        matches!(
            self.answer,
            Answer::Skip
                | Answer::Ahead
                | Answer::Read
                | Answer::Begin
                | Answer::Checked(_)
                | Answer::Looked(_)
                | Answer::Notices
        )
    }

    /// A request that was not sent: its answer is made when its turn comes.
    #[must_use]
    pub fn fake(kind: Kind) -> Self {
        Self {
            answer: Answer::Fake,
            ..Self::forward(kind)
        }
    }

    /// Whether it is in no count but that of its kind, and owns nothing.
    #[inline]
    fn is_plain(&self) -> bool {
        matches!(self.answer, Answer::Forward | Answer::Skip) && !self.is_change()
    }

    #[inline]
    fn is_change(&self) -> bool {
        !matches!(self.client_undo, ClientUndo::None) || self.server_undo != ServerUndo::None
    }

    fn is_of_unnamed(&self) -> bool {
        matches!(self.client_undo, ClientUndo::Unnamed(_) | ClientUndo::Query(_))
            || matches!(self.server_undo, ServerUndo::Unnamed(_))
    }

    fn touches(&self, name: &[u8], id: Option<u64>) -> bool {
        let renames = match &self.client_undo {
            ClientUndo::Named(renaming) => *renaming.name == *key(name),
            ClientUndo::Query(query) => query
                .renamings
                .iter()
                .any(|renaming| *renaming.name == *key(name)),
            ClientUndo::All(_) => true,
            ClientUndo::None | ClientUndo::Unnamed(_) => false,
        };
        renames
            || match self.server_undo {
                ServerUndo::Prepared(changed) | ServerUndo::Closed(changed) => Some(changed) == id,
                ServerUndo::None | ServerUndo::Unnamed(_) | ServerUndo::Unknown => false,
            }
    }
}

/// The requests that come with every use of a prepared statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    Bind,
    Describe,
    Execute,
    Sync,
}

/// Which answer ends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Query,
    FunctionCall,
    Parse,
    Bind,
    /// Of a statement or a portal.
    Describe,
    Execute,
    Close,
    Sync,
    /// `CopyDone` or `CopyFail`: has no answer of its own.
    CopyEnd,
}

impl Kind {
    /// Whether an error in it makes the server skip to the next `Sync`.
    #[must_use]
    pub fn is_extended(self) -> bool {
        !self.is_call()
    }

    fn is_call(self) -> bool {
        matches!(self, Self::Query | Self::FunctionCall)
    }
}

/// What becomes of the answer.
#[derive(Debug)]
pub enum Answer {
    Forward,
    Skip,
    /// It is ours, and its rows are findings.
    Read,
    /// The client has it already. Only an error is news.
    Begin,
    /// The same for what is sent ahead of a simple query, which fails with its error.
    Ahead,
    Fake,
    /// The request was made to fail; the client gets this error in place of the server's.
    Replace(Box<Report>),
    /// Another request was sent in its place: it is completed with this command tag.
    Complete(&'static str),
    /// Names in its text were replaced: an error's position is put right.
    Moved(Moves),
    /// The description of a statement: what the client is told is remembered.
    Told(Described),
    /// The same of a question of ours.
    Checked(Described),
    /// It tells the client of its parameters alone.
    Parameters,
    /// The same of what the client is told nothing of but an error.
    Looked(Moves),
    /// It is ours, and the notices that come with it are the client's.
    Notices,
}

/// Requests in flight on one connection: far above what drivers pipeline, a few megabytes at the most. A client that sends
/// more is read again when answers have come.
const PIPELINE_LEN_MAX: usize = 32_768;
const PIPELINE_KEPT_MAX: usize = 32;
/// Entries that are searched for each message that names a statement; with more in flight it waits for answers.
pub(super) const SEARCHED_MAX: usize = 512;

#[cfg(test)]
mod tests;
