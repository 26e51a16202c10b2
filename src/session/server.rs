//! What a server connection remembers between exchanges. It lives with the connection and is lent to a client's exchange.

use std::sync::Arc;

use crate::protocol::{CancelKey, Parameters, TransactionState};

use super::pipeline::Pipeline;
use super::statement::ServerStatements;
use super::suspects::Suspects;

/// The memory of one server connection.
#[derive(Debug)]
pub struct ServerState {
    /// Unique in the process; a `Rest` proves rest for this connection alone.
    pub id: u64,
    pub cancel_key: CancelKey,
    pub transaction: TransactionState,
    /// Values the server has reported, now.
    pub reported: Parameters,
    /// Values it reported at login: what `RESET` goes back to.
    pub base: Arc<Parameters>,
    /// Settings that were applied on top of `base`, whether reported or not.
    pub applied: Arc<Parameters>,
    pub statements: ServerStatements,
    /// How often tables of the database were altered, as far as is known here: what is prepared anew is another statement
    /// then.
    pub schema: u64,
    pub sequences: Sequences,
    pub pipeline: Pipeline,
    pub hygiene: Hygiene,
    /// Names that change the session from inside, as of when the connection was lent.
    pub suspects: Arc<Suspects>,
    pub definitions: Definitions,
}

/// Whether functions and what uses them were defined anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Definitions {
    #[default]
    AsKnown,
    /// Perhaps, in a transaction that has not ended: a table was made, whose defaults may call something. Mostly they
    /// do not, so nothing is cleaned for it until a look says that they do.
    Making,
    /// The same for everybody.
    Made,
    /// In a transaction that has not ended.
    Changing,
    /// For everybody.
    Changed,
}

impl ServerState {
    #[must_use]
    pub fn new(id: u64, cancel_key: CancelKey, reported: Parameters) -> Self {
        Self {
            id,
            cancel_key,
            transaction: TransactionState::Idle,
            base: Arc::new(reported.clone()),
            reported,
            applied: Arc::default(),
            statements: ServerStatements::default(),
            schema: 0,
            sequences: Sequences::default(),
            pipeline: Pipeline::default(),
            hygiene: Hygiene::Clean,
            suspects: Arc::default(),
            definitions: Definitions::AsKnown,
        }
    }

    /// The server has another value for all sessions that have none of their own.
    pub fn rebase(&mut self, name: &str, value: &str) {
        self.reported.set(name, value);
        if self.base.value(name) != Some(value) {
            Arc::make_mut(&mut self.base).set(name, value);
        }
    }

    /// After a confirmed `DISCARD ALL`: nothing of the last client is left.
    pub fn on_discarded(&mut self) {
        self.applied = Arc::default();
        self.statements = ServerStatements::default();
        if self.hygiene == Hygiene::Tainted {
            self.hygiene = Hygiene::Clean;
        }
    }
}

impl Definitions {
    /// Where the transaction has ended.
    #[must_use]
    pub fn ended(self) -> Self {
        match self {
            Self::AsKnown => Self::AsKnown,
            Self::Making | Self::Made => Self::Made,
            Self::Changing | Self::Changed => Self::Changed,
        }
    }
}

/// What a server connection remembers of sequences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequences {
    /// The client that had the connection last.
    pub client: u64,
    pub memory: Memory,
    pub usage: SequenceUse,
}

impl Sequences {
    /// A client gets the connection.
    pub fn on_client(&mut self, client: u64) {
        if self.client != client {
            self.client = client;
            self.memory = Memory::Foreign;
        }
    }

    /// Something has failed: what stands behind it in its batch is not carried out.
    pub fn on_error(&mut self) {
        if self.memory == Memory::Discarding {
            self.memory = Memory::Foreign;
        }
    }
}

/// Whose values it remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// Perhaps another client's.
    #[default]
    Foreign,
    /// Another client's, and behind them the present one's.
    Mixed,
    /// What was remembered is being discarded: what stands behind that in the same batch is carried out only if it is.
    Discarding,
    Own,
}

/// Whether a client of the pool has asked for the last value of a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SequenceUse {
    #[default]
    None,
    Read,
}

/// What must be undone before another client may have the connection. Only worsens, except by a confirmed reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hygiene {
    #[default]
    Clean,
    /// Holds session state of its client: `DISCARD ALL` before reuse.
    Tainted,
    /// Never reused.
    Unfit,
}

impl Hygiene {
    #[must_use]
    pub fn worsen(self, by: Self) -> Self {
        self.max(by)
    }
}
