//! What is in flight on a server connection, and whose answer each is.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::protocol::Report;

use super::statement::Statement;

/// The requests sent and not yet answered, oldest first. The queue is the protocol state.
#[derive(Debug, Default)]
pub struct Pipeline {
    entries: VecDeque<Entry>,
    /// How many of `entries` are answered here.
    fakes: usize,
}

impl Pipeline {
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

    /// Whether some answer in the queue is made here.
    #[must_use]
    pub fn has_fakes(&self) -> bool {
        self.fakes > 0
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.entries.len() >= PIPELINE_LEN_MAX
    }

    pub fn push(&mut self, entry: Entry) {
        self.fakes += usize::from(matches!(entry.answer, Answer::Fake));
        self.entries.push_back(entry);
    }

    pub fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.fakes -= usize::from(matches!(entry.answer, Answer::Fake));
        Some(entry)
    }

    /// Takes back the last entry of the tail that the server will skip after an error: everything before the next `Sync`.
    /// Call until `None`; entries come latest first, so that their changes can be undone in that order.
    pub fn pop_skipped(&mut self) -> Option<Entry> {
        let sync = self
            .entries
            .iter()
            .position(|entry| entry.kind == Kind::Sync)
            .unwrap_or(self.entries.len());
        let entry = self.entries.remove(sync.checked_sub(1)?)?;
        self.fakes -= usize::from(matches!(entry.answer, Answer::Fake));
        Some(entry)
    }

    /// Takes out the `Sync`s that a server in copy-in mode ignores: those sent before the end of the copy
    /// (`CopyGetData` in `src/backend/commands/copyfromparse.c`). The head is the command that copies.
    /// Says whether the end of the copy has been sent already.
    pub fn ignore_syncs_in_copy(&mut self) -> bool {
        let end = self.entries.iter().position(|entry| entry.kind == Kind::CopyEnd);
        let mut index = 0;
        self.entries.retain(|entry| {
            let inside = end.is_none_or(|end| index < end);
            index += 1;
            !(inside && entry.kind == Kind::Sync)
        });
        end.is_some()
    }

    #[must_use]
    pub fn has_sync(&self) -> bool {
        self.entries.iter().any(|entry| entry.kind == Kind::Sync)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Gives up what a large batch has grown.
    pub fn shrink(&mut self) {
        self.entries.shrink_to(PIPELINE_KEPT_MAX);
    }
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

    /// A request that was not sent: its answer is made when its turn comes.
    #[must_use]
    pub fn fake(kind: Kind) -> Self {
        Self {
            answer: Answer::Fake,
            ..Self::forward(kind)
        }
    }
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
        !matches!(self, Self::Query | Self::FunctionCall)
    }
}

/// What becomes of the answer.
#[derive(Debug)]
pub enum Answer {
    Forward,
    Skip,
    Fake,
    /// The request was made to fail; the client gets this error in place of the server's.
    Replace(Box<Report>),
}

/// What to undo in the client's names when the request was not carried out.
#[derive(Debug, Default)]
pub enum ClientUndo {
    #[default]
    None,
    Named(Box<Renaming>),
    Unnamed(Option<Arc<Statement>>),
}

impl ClientUndo {
    #[must_use]
    pub fn named(name: &[u8], previous: Option<Arc<Statement>>) -> Self {
        Self::Named(Box::new(Renaming {
            name: name.into(),
            previous,
        }))
    }
}

/// A name that was given or taken away, and what it meant before.
#[derive(Debug)]
pub struct Renaming {
    pub name: Box<[u8]>,
    pub previous: Option<Arc<Statement>>,
}

/// What to undo in the server's statements when the request was not carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerUndo {
    #[default]
    None,
    Prepared(u64),
    Closed(u64),
    Unnamed(Option<u64>),
}

/// Requests in flight on one connection: far above what drivers pipeline, a few megabytes at the most. A client that sends
/// more is read again when answers have come.
const PIPELINE_LEN_MAX: usize = 32_768;
const PIPELINE_KEPT_MAX: usize = 32;
