//! What a session remembers of sequences: `currval` and `lastval` must never tell one client the values of another.
//!
//! Before such a question on a connection that others have used, the memory is discarded, and PostgreSQL itself says that
//! there is no value yet. Once a pool has met such a question, its clients keep their connection from their first value on.

use crate::protocol::write::{self, Frame};
use crate::protocol::{TransactionState, tag};
use crate::session::client::{Batch, query};
use crate::session::outbox::Outbox;
use crate::session::pipeline::{Entry, Kind, ServerUndo};
use crate::session::screen::{PinReason, SequenceEffect};
use crate::session::server::{Memory, SequenceUse};

use super::requests::Message;
use super::{Flow, Parties};

impl Flow {
    /// A statement is about to be carried out: `kind` is what carries it.
    pub(super) fn on_sequences(
        &mut self,
        effect: SequenceEffect,
        kind: Kind,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        if effect == SequenceEffect::None || self.batch == Batch::Skipping {
            return;
        }
        let memory = parties.server.sequences.memory;
        let is_read = effect == SequenceEffect::Reads;
        let pins = parties.server.sequences.usage == SequenceUse::Read;
        if memory == Memory::Foreign && (is_read || pins) {
            self.discard_sequences(kind, message, out, parties);
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
    }

    fn discard_sequences(
        &mut self,
        kind: Kind,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        let is_sure =
            parties.server.pipeline.is_empty() && parties.server.transaction != TransactionState::Failed;
        if is_sure {
            parties.server.sequences.memory = Memory::Own;
        }
        let out = out.make(message.input);
        if kind == Kind::Query {
            query(DISCARD, out);
            parties.server.statements.unnamed = None;
            self.push(Entry::skip(Kind::Query), parties);
            return;
        }
        let frame = Frame::begin(out, tag::PARSE);
        write::cstr(out, b"");
        write::cstr(out, DISCARD.as_bytes());
        out.extend_from_slice(&[0; 2]);
        frame.end(out);
        let frame = Frame::begin(out, tag::BIND);
        out.extend_from_slice(&[0; 8]);
        frame.end(out);
        let frame = Frame::begin(out, tag::EXECUTE);
        out.extend_from_slice(&[0; 5]);
        frame.end(out);
        let server_undo = ServerUndo::Unnamed(parties.server.statements.unnamed.take());
        let parse = Entry {
            server_undo,
            ..Entry::skip(Kind::Parse)
        };
        self.push(parse, parties);
        self.push(Entry::skip(Kind::Bind), parties);
        self.push(Entry::skip(Kind::Execute), parties);
    }
}

const DISCARD: &str = "DISCARD SEQUENCES";
