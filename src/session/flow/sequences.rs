//! What a session remembers of sequences: `currval` and `lastval` must never tell one client the values of another.
//!
//! Before such a question on a connection that others have used, the memory is discarded, and PostgreSQL itself says that
//! there is no value yet. Once a pool has met such a question, its clients keep their connection from their first value on.

use crate::protocol::{Report, SqlState, TransactionState};
use crate::session::client::{Batch, query};
use crate::session::outbox::Outbox;
use crate::session::pipeline::{Entry, Kind};
use crate::session::screen::{PinReason, SequenceEffect};
use crate::session::server::{Memory, SequenceUse};
use crate::session::sql_names::{self, Verb};

use super::requests::{Message, Taken};
use super::{Flow, Parties};

impl Flow {
    /// What a statement that is bound has to do with sequences, and the one that it executes.
    pub(super) fn sequences_of(name: &[u8], parties: &Parties<'_>) -> SequenceEffect {
        let statements = &parties.client.statements;
        let Some(statement) = statements.get(name) else {
            return SequenceEffect::None;
        };
        let executed = statement
            .mention()
            .zip(statement.text())
            .and_then(|(mention, text)| {
                let is_run = mention.verb == Verb::Execute;
                is_run.then(|| statements.named(&mention.name(text))).flatten()
            });
        let executed = executed.map_or(SequenceEffect::None, |known| known.effects.sequences);
        statement.effects.sequences.max(executed)
    }

    /// The same of the statements that a simple query executes by their names.
    pub(super) fn sequences_of_names(text: &[u8], parties: &Parties<'_>) -> SequenceEffect {
        let statements = &parties.client.statements;
        if statements.is_empty() {
            return SequenceEffect::None;
        }
        let mentions = match sql_names::only(text) {
            Some(mention) => vec![mention],
            None => sql_names::all(text).unwrap_or_default(),
        };
        let executed = mentions.iter().filter(|mention| mention.verb == Verb::Execute);
        let known = executed.filter_map(|mention| statements.named(&mention.name(text)));
        known
            .map(|known| known.effects.sequences)
            .max()
            .unwrap_or_default()
    }

    /// A statement is about to be carried out: `kind` is what carries it. Says what becomes of it instead, if it is not.
    pub(super) fn on_sequences(
        &mut self,
        effect: SequenceEffect,
        kind: Kind,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Option<Taken> {
        if effect == SequenceEffect::None || self.batch == Batch::Skipping {
            return None;
        }
        let memory = parties.server.sequences.memory;
        let is_read = effect == SequenceEffect::Reads;
        let pins = parties.server.sequences.usage == SequenceUse::Read;
        if (is_read || pins) && matches!(memory, Memory::Foreign | Memory::Discarding) {
            let taken = if kind == Kind::Query {
                self.discard_before_query(message, out, parties)
            } else {
                self.discard_in_batch(message, out, parties)
            };
            if taken.is_some() {
                return taken;
            }
        }
        if is_read {
            parties.server.sequences.usage = SequenceUse::Read;
        } else if parties.server.sequences.memory == Memory::Foreign {
            // What it is given is its own, as long as it keeps the connection.
            parties.server.sequences.memory = Memory::Mixed;
        }
        if (pins && !is_read) || (is_read && memory == Memory::Mixed) {
            parties.client.pins.insert(PinReason::Sequence);
        }
        None
    }

    /// A simple query is carried out whatever became of what stands before it: it waits until all is discarded.
    fn discard_before_query(
        &mut self,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Option<Taken> {
        if !parties.server.pipeline.is_empty() {
            return Some(Taken::Awaited);
        }
        let error = self.own_error.take();
        if error.is_some() || parties.server.transaction == TransactionState::Failed {
            let report = error.map_or_else(not_defined, |error| *error);
            return Some(self.refuse_query(message, report, out, parties));
        }
        query(DISCARD, out.make(message.input));
        parties.server.statements.unnamed = None;
        parties.server.sequences.memory = Memory::Discarding;
        parties.server.pipeline.push(Entry::skip(Kind::Query));
        self.flushed = true;
        Some(Taken::Held)
    }

    /// In a batch nothing behind what has failed is carried out.
    fn discard_in_batch(
        &mut self,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Option<Taken> {
        let is_sent = parties.server.sequences.memory == Memory::Discarding;
        if parties.server.pipeline.has_earlier_batch() {
            // It may fail, and this is carried out all the same.
            return Some(Taken::Held);
        }
        if is_sent {
            return None;
        }
        parties.server.sequences.memory = Memory::Discarding;
        self.run_aside(DISCARD, message, out, parties);
        None
    }
}

/// What PostgreSQL says of a session that has been given no value.
fn not_defined() -> Report {
    let text = "lastval is not yet defined in this session";
    Report::error(SqlState::OBJECT_NOT_IN_STATE, text)
}

const DISCARD: &str = "DISCARD SEQUENCES";
