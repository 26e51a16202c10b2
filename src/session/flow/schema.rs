//! Statements and tables that are altered.
//!
//! A plan that was made before is no longer what a `Parse` of the same text would come to now. So a text that is prepared
//! since is another statement, with a name of its own on the server. Who has prepared it before keeps the old one, and is
//! told by PostgreSQL that its plan is out of date, as on a connection of its own: drivers prepare it again for that.

use crate::protocol::TransactionState;
use crate::protocol::body::{ErrorFields, error_fields};
use crate::protocol::report::STALE_PLAN;
use crate::session::pipeline::Kind;
use crate::session::screen::PinReason;
use crate::session::statement::Statement;

use super::answers::head_kind;
use super::{Certainty, Flow, Parties};

/// What this exchange knows of tables that are altered.
#[derive(Debug, Default)]
pub(super) struct Schema {
    transaction: Transaction,
    news: News,
    rows: Rows,
}

/// Whether the simple query in flight has said what its rows are: a `SELECT` that says nothing of them fills a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rows {
    #[default]
    None,
    Described,
}

impl Schema {
    pub(super) fn on_rows(&mut self, rows: Rows) {
        self.rows = rows;
    }
}

/// Whether something in the present transaction alters tables, for it alone until it commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Transaction {
    #[default]
    Reads,
    Alters,
}

/// Whether the pool is to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum News {
    #[default]
    None,
    Altered,
}

impl Flow {
    /// Whether tables were altered, once: every statement of the database that is prepared from now on is another.
    pub fn take_altered(&mut self) -> bool {
        std::mem::take(&mut self.schema.news) == News::Altered
    }

    /// A statement that alters tables is about to be carried out. What its client prepares behind it is that client's alone.
    pub(super) fn on_altering(&mut self) {
        self.schema.transaction = Transaction::Alters;
        self.certainty = self.certainty.max(Certainty::Unsure);
    }

    /// A command was carried out: it may have altered tables, or have taken that back to a savepoint.
    pub(super) fn note_altered(&mut self, command: &[u8], parties: &Parties<'_>) {
        let is_temporary = || parties.client.pins.contains(PinReason::TemporaryTable);
        let is_query = || head_kind(parties) == Some(Kind::Query);
        let rows = std::mem::take(&mut self.schema.rows);
        let alters = match command {
            // Nobody else sees a temporary one.
            b"CREATE TABLE\0" | b"CREATE INDEX\0" => !is_temporary(),
            [b'S', b'E', b'L', ..] => rows == Rows::None && is_query() && !is_temporary(),
            b"ROLLBACK\0" => self.schema.transaction == Transaction::Alters,
            _ => VERBS.iter().any(|verb| command.starts_with(verb)),
        };
        if alters {
            self.schema.transaction = Transaction::Alters;
            self.schema.news = News::Altered;
        }
    }

    /// Whether a command has read or changed rows, and nothing else.
    #[inline]
    pub(super) fn is_of_rows(&self, kind: Kind, command: &[u8]) -> bool {
        match command.first_chunk() {
            Some(b"INSERT " | b"UPDATE " | b"DELETE ") => true,
            Some(b"SELECT ") => kind == Kind::Execute || self.schema.rows == Rows::Described,
            _ => false,
        }
    }

    /// A transaction has ended, committed or not: what it has altered is in force, or is gone.
    pub(super) fn schema_at_ready(&mut self, state: TransactionState, parties: &Parties<'_>) {
        self.schema.rows = Rows::None;
        if self.schema.transaction == Transaction::Reads || state != TransactionState::Idle {
            return;
        }
        self.schema.news = News::Altered;
        if parties.server.pipeline.is_empty() {
            self.schema.transaction = Transaction::Reads;
        }
    }

    /// An error may say that tables were altered, by somebody who did not come this way.
    pub(super) fn is_of_altered(&mut self, body: &[u8], fields: &ErrorFields<'_>) -> bool {
        let is_stale = error_fields(body).any(|field| field == (b'R', STALE_PLAN.as_bytes()))
            || fields.message.starts_with(LOST_TYPE);
        if is_stale {
            self.schema.news = News::Altered;
        }
        is_stale
    }

    /// The same where it shows in what a statement is, unless that is known already.
    pub(super) fn note_stale(&mut self, statement: &Statement, parties: &Parties<'_>) {
        if statement.schema() == parties.server.schema {
            self.schema.news = News::Altered;
        }
    }
}

/// What PostgreSQL says of a statement whose parameter is of a type that was dropped. It is an internal error, which it
/// translates into no language. Only a `Parse` makes another statement of it, so that must not be spared.
const LOST_TYPE: &[u8] = b"cache lookup failed for type ";
/// What the tags of such commands begin with.
const VERBS: [&[u8]; 3] = [b"CREATE ", b"ALTER ", b"DROP "];
