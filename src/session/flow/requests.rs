//! From the client to the server.

use crate::protocol::{HEAD_LEN, Head, tag, write};
use crate::session::client::Batch;
use crate::session::error::SessionError;
use crate::session::outbox::Outbox;
use crate::session::pipeline::{Answer, ClientUndo, Entry, Kind, Plain, ServerUndo};
use crate::session::screen::{BlockEffect, Effects, NameEffect, PinReason, Pins, SettingEffect, screen};
use crate::session::{settings, sql_names};

use super::answers::ERROR_HEAD_MAX;
use super::copy::Copy;
use super::listening::Heed;
use super::prepared::STATEMENT_LEN_MAX;
use super::{Flow, Gate, Naming, Next, Parties, Passed, Settling, Stakes};

/// One message, from either side, as far as it has come.
pub(super) struct Message<'a> {
    pub(super) head: Head,
    /// What of its body has come.
    pub(super) body: &'a [u8],
    /// What it came with: the outbox keeps slices of that.
    pub(super) input: &'a [u8],
}

impl<'a> Message<'a> {
    pub(super) fn is_whole(&self) -> bool {
        self.body.len() == self.head.body
    }

    /// What is read of an error: as much of it however it was cut.
    pub(super) fn error_head(&self) -> &'a [u8] {
        self.body.get(..ERROR_HEAD_MAX).unwrap_or(self.body)
    }
}

/// What became of a message.
pub(super) enum Taken {
    /// It goes on as it came, rest included.
    Kept,
    /// It was dealt with up to this many bytes of its body; the rest goes on as it comes.
    Rewritten(usize),
    /// It was dealt with whole.
    Swallowed,
    /// It must be seen whole, and is cut.
    Cut,
    /// What it means hangs on answers that have not come.
    Held,
    /// The same of the answers to everything before it, or of somebody else's.
    Awaited,
}

impl Flow {
    /// Passes on what the client has sent.
    ///
    /// # Errors
    /// The client broke the protocol or a limit.
    pub fn on_client(
        &mut self,
        input: &[u8],
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Result<Passed, SessionError> {
        self.gate = Gate::Open;
        let begun = self.open_block(out, parties);
        let mut at = self.pass_client_body(input, out);
        let next = loop {
            let rest = input.get(at..).unwrap_or_default();
            let head = Head::read_frontend(rest).map_err(|error| SessionError::client(&error))?;
            let Some(head) = head else { break Next::More };
            if head.tag == tag::TERMINATE {
                break Next::Goodbye;
            }
            if self.settling != Settling::Done && self.is_settling(head.tag, parties)
                || parties.server.pipeline.is_full()
            {
                let is_made_here = |entry: &Entry| matches!(entry.answer, Answer::Fake);
                if !parties.server.pipeline.head().is_some_and(is_made_here) {
                    self.flush(input, out);
                }
                self.gate = Gate::Held;
                break Next::Answers;
            }
            let end = input.len().min(at + head.len());
            let body = input.get(at + HEAD_LEN..end).unwrap_or_default();
            if self.on_plain(head, body, parties) {
                out.keep(input, at..end);
                self.client_body = head.len() - (end - at);
                at = end;
                continue;
            }
            let message = Message { head, body, input };
            let sent = match self.on_message(&message, out, parties)? {
                Taken::Cut => break Next::More,
                Taken::Held => {
                    self.gate = Gate::Held;
                    break Next::Answers;
                }
                Taken::Awaited => {
                    self.await_everything(input, out, parties);
                    self.gate = Gate::Held;
                    break Next::Answers;
                }
                Taken::Swallowed => head.len(),
                Taken::Kept => {
                    out.keep(input, at..end);
                    end - at
                }
                Taken::Rewritten(skipped) => {
                    out.keep(input, at + HEAD_LEN + skipped..end);
                    end - at
                }
            };
            self.client_body = head.len() - sent;
            at += sent;
        };
        match begun {
            // It is the answer that the first request waits for.
            Some(_) if at == 0 && self.gate == Gate::Held => self.flush(input, out),
            Some(modes) if at == 0 => self.take_back_block(modes, out, parties),
            Some(_) | None => {}
        }
        Ok(Passed { consumed: at, next })
    }

    /// Asks for the answers that are waited for: else the server may keep them until it is asked to sync.
    pub(super) fn flush(&mut self, input: &[u8], out: &mut Outbox) {
        if !self.flushed {
            write::bare(out.make(input), tag::FLUSH);
            self.flushed = true;
        }
    }

    /// Whether more may be sent only when something is answered.
    fn is_settling(&mut self, next: u8, parties: &Parties<'_>) -> bool {
        let is_of_copy = matches!(next, tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL);
        match self.settling {
            Settling::Done => false,
            Settling::Begin => parties.server.pipeline.has_sync(),
            Settling::Channels => !parties.server.pipeline.is_empty(),
            // The rest of a batch, and the data of a copy, are of what the answer is awaited to.
            Settling::Reset if self.batch != Batch::None || is_of_copy => false,
            Settling::Reset if parties.server.pipeline.is_empty() => {
                self.settling = Settling::Done;
                false
            }
            Settling::Reset => true,
        }
    }

    fn pass_client_body(&mut self, input: &[u8], out: &mut Outbox) -> usize {
        let len = self.client_body.min(input.len());
        if len > 0 {
            out.keep(input, 0..len);
            self.client_body -= len;
        }
        len
    }

    /// Deals with what goes on as it came with nothing to be looked at: most of what follows on a `Bind`. False: it is
    /// something else.
    #[inline]
    fn on_plain(&mut self, head: Head, body: &[u8], parties: &mut Parties<'_>) -> bool {
        if self.batch == Batch::Skipping {
            return false;
        }
        let kind = match head.tag {
            tag::SYNC if self.copy != Copy::In => Plain::Sync,
            tag::EXECUTE if self.said.is_none() && self.sql.is_none() => Plain::Execute,
            tag::DESCRIBE if body.len() == head.body && body.first() == Some(&tag::TARGET_PORTAL) => {
                if body.last() != Some(&0) {
                    return false;
                }
                Plain::Describe
            }
            _ => return false,
        };
        (self.batch, self.flushed) = match kind {
            Plain::Sync => (Batch::None, true),
            Plain::Bind | Plain::Describe | Plain::Execute => (Batch::Open, false),
        };
        if kind == Plain::Execute {
            self.stakes = Stakes::Commit;
        }
        parties.server.pipeline.push_plain(kind);
        true
    }

    fn on_message(
        &mut self,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Result<Taken, SessionError> {
        let mapped = matches!(self.naming, Naming::Mapped { .. });
        if self.batch == Batch::None
            && !parties.server.pipeline.is_empty()
            && parties.client.is_question(message.head.tag, message.body)
        {
            // No server knows. Whoever does answers it in its turn.
            return Ok(Taken::Held);
        }
        if parties.client.channels.is_some()
            && let Some(taken) = self.show_channels(message, out, parties)
        {
            return Ok(taken);
        }
        match message.head.tag {
            tag::QUERY => Ok(self.on_query(message, out, parties)),
            tag::SYNC => Ok(self.on_sync(parties)),
            tag::FLUSH => {
                self.flushed = true;
                Ok(Taken::Kept)
            }
            tag::COPY_DATA => Ok(Taken::Kept),
            tag::COPY_DONE | tag::COPY_FAIL => Ok(self.on_copy_end(parties)),
            tag::FUNCTION_CALL => Ok(self.on_function_call(message, parties)),
            tag::PARSE if mapped => self.on_parse(message, out, parties),
            tag::PARSE => Ok(self.on_parse_verbatim(message, parties)),
            tag::BIND if mapped => self.on_bind(message, out, parties),
            tag::BIND => {
                self.tally.binds += 1;
                Ok(self.plain(Kind::Bind, parties))
            }
            tag::DESCRIBE if mapped => self.on_describe(message, out, parties),
            tag::DESCRIBE => Ok(self.plain(Kind::Describe, parties)),
            tag::CLOSE if mapped => self.on_close(message, out, parties),
            tag::CLOSE => Ok(self.plain(Kind::Close, parties)),
            _ => Ok(self.on_execute(message, out, parties)),
        }
    }

    /// An extended message that goes on as it came.
    pub(super) fn plain(&mut self, kind: Kind, parties: &mut Parties<'_>) -> Taken {
        self.flushed = false;
        self.push(Entry::forward(kind), parties);
        Taken::Kept
    }

    /// Records a request, unless the server will pass over it.
    #[inline]
    pub(super) fn push(&mut self, entry: Entry, parties: &mut Parties<'_>) {
        if self.batch == Batch::Skipping {
            return;
        }
        if entry.kind.is_extended() && !matches!(entry.kind, Kind::Sync | Kind::CopyEnd) {
            self.batch = Batch::Open;
        }
        parties.server.pipeline.push(entry);
    }

    fn on_query(&mut self, message: &Message<'_>, out: &mut Outbox, parties: &mut Parties<'_>) -> Taken {
        let is_followed = matches!(self.naming, Naming::Mapped { .. });
        if !message.is_whole() {
            let is_awaited = is_followed && sql_names::begins(message.body);
            let max = if is_awaited {
                STATEMENT_LEN_MAX
            } else {
                SCREENED_LEN_MAX
            };
            if message.head.body <= max {
                return Taken::Cut;
            }
        }
        let mut effects = screen(message.body).or_unseen(message.is_whole());
        let text = message.is_whole().then_some(message.body);
        match self.heed_text(text, &effects, parties) {
            Heed::Hold => return Taken::Awaited,
            Heed::Followed => effects.pins = effects.pins.without(Pins::of(PinReason::Listen)),
            Heed::Plain => {}
        }
        self.note_vacated(&effects, text);
        self.note_suspects(message.body, parties);
        if is_followed {
            let named = Self::sequences_of_names(message.body, parties);
            let heard = self.on_sequences(effects.sequences.max(named), Kind::Query, message, out, parties);
            if let Some(taken) = heard {
                return taken;
            }
        }
        if is_followed
            && message.is_whole()
            && let Some(taken) = self.on_named_query(message, out, parties)
        {
            return taken;
        }
        if let Some(taken) = self.on_reset_query(message, &effects, out, parties) {
            return taken;
        }
        if !message.is_whole() {
            Self::taint(parties.server);
        }
        self.on_effects(&effects, parties);
        let mut entry = Entry::forward(Kind::Query);
        if self.batch != Batch::Skipping {
            forget_unnamed(&mut entry, parties);
        }
        if effects.names != NameEffect::None {
            // Behind this request nothing is certain about names; and that is more than its own unnamed statement.
            entry.server_undo = ServerUndo::Unknown;
        }
        self.push_call(entry, parties);
        Taken::Kept
    }

    /// What the text of a query may do to the session and its transaction.
    pub(super) fn on_effects(&mut self, effects: &Effects, parties: &mut Parties<'_>) {
        self.note(effects, parties.client);
        if effects.settings == SettingEffect::ResetAll && self.batch != Batch::Skipping {
            self.on_reset_all(parties);
        }
        if effects.block == BlockEffect::MayCommit {
            self.stakes = Stakes::Commit;
        }
        let resets = effects.names == NameEffect::Forgets || effects.settings >= SettingEffect::Reset;
        if resets && self.batch != Batch::Skipping {
            self.await_reset(parties);
        }
    }

    /// The same of a statement that was prepared before, and is bound.
    pub(super) fn on_deferred(&mut self, effects: &Effects, parties: &mut Parties<'_>) {
        if effects.are_none() {
            return;
        }
        self.note(effects, parties.client);
        // What it discards is gone at once; what is set behind it goes with what fails in its batch.
        if effects.settings >= SettingEffect::Reset || effects.names == NameEffect::Forgets {
            self.await_reset(parties);
        }
        if effects.settings == SettingEffect::ResetAll {
            self.on_reset_all(parties);
        }
    }

    /// A reset of everything is on its way.
    pub(super) fn on_reset_all(&mut self, parties: &mut Parties<'_>) {
        settings::on_reset_all(parties.server);
        self.asked = SettingEffect::ResetAll;
    }

    /// What stands behind a reset meets the settings that its client has started with: they are applied again before it.
    pub(super) fn await_reset(&mut self, parties: &Parties<'_>) {
        if !parties.client.startup.is_empty() {
            self.settling = Settling::Reset;
        }
    }

    /// A request that is answered with a `ReadyForQuery` of its own.
    pub(super) fn push_call(&mut self, entry: Entry, parties: &mut Parties<'_>) {
        self.push(entry, parties);
        if self.batch == Batch::Open {
            self.batch = Batch::None;
        }
        self.flushed = true;
    }

    fn on_function_call(&mut self, message: &Message<'_>, parties: &mut Parties<'_>) -> Taken {
        match message.body.first_chunk() {
            Some(oid) => self.note_call(u32::from_be_bytes(*oid), parties),
            None if !message.is_whole() => return Taken::Cut,
            // The server refuses it.
            None => {}
        }
        self.push_call(Entry::forward(Kind::FunctionCall), parties);
        Taken::Kept
    }

    fn on_sync(&mut self, parties: &mut Parties<'_>) -> Taken {
        if self.copy == Copy::In {
            // Ignored by the server. libpq sends one before it knows of the copy.
            self.early_syncs = self.early_syncs.saturating_add(1);
            return Taken::Kept;
        }
        self.batch = Batch::None;
        self.flushed = true;
        self.push(Entry::forward(Kind::Sync), parties);
        Taken::Kept
    }

    fn on_copy_end(&mut self, parties: &mut Parties<'_>) -> Taken {
        if self.copy == Copy::In {
            self.copy = Copy::InEnded;
            self.flushed = true;
        } else if !parties.server.pipeline.is_empty() && self.copy != Copy::Both {
            // Sent before the server has said that it copies.
            self.push(Entry::forward(Kind::CopyEnd), parties);
        }
        Taken::Kept
    }
}

/// A simple query destroys the unnamed statement (`exec_simple_query` in `src/backend/tcop/postgres.c`), unless it is skipped.
pub(super) fn forget_unnamed(entry: &mut Entry, parties: &mut Parties<'_>) {
    let client = parties.client.statements.unnamed.take();
    let server = parties.server.statements.unnamed.take();
    // Where there is none, a request in flight may have taken it, and bring it back by its undoing.
    if client.is_some() || server.is_some() || parties.server.pipeline.has_changes() {
        entry.client_undo = ClientUndo::Unnamed(client);
        entry.server_undo = ServerUndo::Unnamed(server);
    }
}

/// A simple query up to this length is looked at whole; of a longer one what came first.
pub(super) const SCREENED_LEN_MAX: usize = 16 * 1024;
