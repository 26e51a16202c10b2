//! A `BEGIN` that was answered before it was sent: it goes to the server ahead of the client's next request, in one write.
//!
//! It goes as an extended query without a `Sync`. Should the server refuse it (it was cancelled, or has a mode that a standby
//! does not know), then it passes over everything up to a `Sync`, so that nothing is carried out outside of the block that
//! the client believes to be in. For that, nothing goes behind a `Sync` of the client's before the `BEGIN` is answered.

use crate::protocol::TransactionState;
use crate::session::begin::Modes;
use crate::session::client::Block;
use crate::session::outbox::Outbox;
use crate::session::pipeline::{Answer, Entry, Kind};
use crate::session::screen::Pins;
use crate::session::statement::ServerName;

use super::aside;
use super::{Flow, Naming, Parties, Settling};

impl Flow {
    /// Begins the block on the server, if the client is in one that is not begun there. Says with which modes.
    pub(super) fn open_block(&mut self, out: &mut Outbox, parties: &mut Parties<'_>) -> Option<Modes> {
        let Block::Begun(modes) = parties.client.block else {
            return None;
        };
        parties.client.block = Block::None;
        let out = out.make(&[]);
        aside::parse(ServerName::Unnamed, |out| modes.write(out), out);
        aside::bind(b"", ServerName::Unnamed, out);
        aside::execute(b"", out);
        let mut push = |kind| parties.server.pipeline.push(Entry::begin(kind));
        push(Kind::Parse);
        push(Kind::Bind);
        push(Kind::Execute);
        if self.naming == Naming::Verbatim {
            // The client may name the unnamed statement, and must not find this one.
            ServerName::Unnamed.close(out);
            push(Kind::Close);
        }
        // As every simple query does.
        parties.server.statements.unnamed = None;
        // That is what the client was told.
        parties.server.transaction = TransactionState::InBlock;
        self.settling = Settling::Begin;
        // What was asked for before, the client's settings, was: this has no end that the server answers at once.
        self.flushed = false;
        Some(modes)
    }

    /// Nothing of the client's request can be sent yet: neither is the `BEGIN`. A server must not be waited for that waits
    /// for the client.
    pub(super) fn take_back_block(&mut self, modes: Modes, out: &mut Outbox, parties: &mut Parties<'_>) {
        out.reset();
        // Queries of ours that stand before it are in flight all the same.
        while parties.server.pipeline.pop_latest_begin() {}
        parties.server.transaction = TransactionState::Idle;
        parties.client.block = Block::Begun(modes);
        self.settling = Settling::Done;
    }

    /// Whether the server refuses to begin the block. Nothing was carried out of what stands behind it.
    pub(super) fn is_block_refused(parties: &mut Parties<'_>) -> bool {
        let is_begin = |entry: &Entry| matches!(entry.answer, Answer::Begin);
        let is_refused = parties.server.pipeline.head().is_some_and(is_begin);
        if is_refused {
            parties.client.pins = Pins::NONE;
            parties.client.inquiry = None;
        }
        is_refused
    }
}
