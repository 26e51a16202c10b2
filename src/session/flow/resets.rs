//! Resets: to what the client has started with, which the server knows nothing of.
//!
//! A reset goes to the server as it came, and takes a setting to the connection's own default. What the client has started with
//! is set right behind it, in the same transaction: what rolls back the one rolls back the other.

use crate::protocol::write::{self, Frame};
use crate::protocol::{TransactionState, tag};
use crate::session::client::Batch;
use crate::session::outbox::Outbox;
use crate::session::pipeline::{Entry, Kind};
use crate::session::screen::{self, Effects, NameEffect, SettingEffect};
use crate::session::settings;
use crate::session::statement::ServerName;

use super::copy::Copy;
use super::requests::{Message, Taken, forget_unnamed};
use super::{Flow, Parties, Stakes};

impl Flow {
    /// What is to be set behind a text, if it resets something that its client has started with.
    pub(super) fn restoring(text: &[u8], effects: &Effects, parties: &Parties<'_>) -> Option<Box<str>> {
        let resets = effects.settings >= SettingEffect::Local || effects.names == NameEffect::Forgets;
        if !resets || parties.client.startup.is_empty() {
            return None;
        }
        let reset = screen::reset(text)?;
        settings::restoring(&reset, parties.client, parties.server)
    }

    /// A simple query that is such a reset. It goes as an extended one, so that what is set behind it is of the same transaction
    /// and its answers can be told apart; unless that would be told by how it fails.
    pub(super) fn on_reset_query(
        &mut self,
        message: &Message<'_>,
        effects: &Effects,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Option<Taken> {
        if !message.is_whole() || self.batch != Batch::None || self.copy != Copy::None {
            return None;
        }
        let restoring = Self::restoring(message.body, effects, parties)?;
        if !parties.server.pipeline.is_empty() {
            return Some(Taken::Awaited);
        }
        if parties.server.transaction == TransactionState::Failed {
            return None;
        }
        self.on_effects(effects, parties);
        self.stakes = Stakes::Commit;
        let made = out.make(message.input);
        let frame = Frame::begin(made, tag::PARSE);
        made.push(0);
        // Its zero came with it.
        made.extend_from_slice(message.body);
        made.extend_from_slice(&[0; 2]);
        frame.end(made);
        let frame = Frame::begin(made, tag::BIND);
        made.extend_from_slice(&[0; 8]);
        frame.end(made);
        let frame = Frame::begin(made, tag::EXECUTE);
        made.extend_from_slice(&[0; 5]);
        frame.end(made);
        ServerName::Unnamed.close(made);
        let mut parse = Entry::skip(Kind::Parse);
        forget_unnamed(&mut parse, parties);
        self.push(parse, parties);
        self.push(Entry::skip(Kind::Bind), parties);
        self.push(Entry::forward(Kind::Execute), parties);
        self.push(Entry::skip(Kind::Close), parties);
        self.run_aside(&restoring, message, out, parties);
        write::bare(out.make(message.input), tag::SYNC);
        self.push(Entry::forward(Kind::Sync), parties);
        self.batch = Batch::None;
        self.flushed = true;
        Some(Taken::Swallowed)
    }
}
