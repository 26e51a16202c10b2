//! From the server to the client.

use std::sync::Arc;

use crate::protocol::body::{self, ErrorFields};
use crate::protocol::write::{self, Frame};
use crate::protocol::{HEAD_LEN, Head, Report, Severity, TransactionState, tag};
use crate::session::client::Batch;
use crate::session::error::SessionError;
use crate::session::inquiry::Letters;
use crate::session::outbox::Outbox;
use crate::session::pipeline::{Answer, ClientUndo, Entry, Kind, ServerUndo};
use crate::session::screen::{PinReason, Pins, SettingEffect};
use crate::session::server::{Definitions, Memory};
use crate::session::settings::Cause;

use super::copy::Copy;
use super::requests::Message;
use super::schema::Rows;
use super::{Body, Certainty, Doing, Flow, Overtime, Parties, Settling, Stakes};

/// What a pass over a server's input came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub consumed: usize,
    pub end: Option<Ending>,
}

/// With these words the server ends the connection; or it refuses a `BEGIN`, and nothing can be made of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The body of its `ErrorResponse`.
    pub body: Box<[u8]>,
}

impl Ending {
    /// The server's words as an error that leaves the client its session.
    pub fn encode(&self, severity: Severity, out: &mut Vec<u8>) {
        let frame = Frame::begin(out, tag::ERROR_RESPONSE);
        body::with_severity(&self.body, severity, out);
        frame.end(out);
    }

    /// Whether the server is still there, and waits for a `Sync` that nobody will send.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        !ErrorFields::read(&self.body).ends_connection()
    }

    #[must_use]
    pub fn report(&self) -> Report {
        let fields = ErrorFields::read(&self.body);
        Report::error(fields.code, String::from_utf8_lossy(fields.message).into_owned())
    }
}

/// Whether a message goes on to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    Drop,
    /// It must be seen whole, and is cut.
    Cut,
    /// Its bytes were written by the handler.
    Done,
}

impl Flow {
    /// Passes on what the server has sent.
    ///
    /// # Errors
    /// The server broke the protocol.
    pub fn on_server(
        &mut self,
        input: &[u8],
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Result<Heard, SessionError> {
        let mut at = self.pass_server_body(input, out);
        loop {
            if parties.server.pipeline.has_fakes() {
                self.answer_fakes(input, out, parties);
            }
            let rest = input.get(at..).unwrap_or_default();
            let head =
                Head::read(rest).map_err(|_| SessionError::Server("a message with an impossible length"))?;
            let Some(head) = head else { break };
            let end = input.len().min(at + head.len());
            let body = input.get(at + HEAD_LEN..end).unwrap_or_default();
            if self.passes_plainly(head, body, parties) {
                out.keep(input, at..end);
                self.server_body = Body::Pass(at + head.len() - end);
                at = end;
                continue;
            }
            let message = Message { head, body, input };
            if head.tag == tag::ERROR_RESPONSE && message.body.len() < head.body.min(ERROR_HEAD_MAX) {
                break;
            }
            if head.tag == tag::ERROR_RESPONSE && is_end(&message, parties) {
                let body = message.body.into();
                return Ok(Heard {
                    consumed: end,
                    end: Some(Ending { body }),
                });
            }
            let verdict = self.on_answer(&message, out, parties)?;
            let passes = match verdict {
                Verdict::Cut => break,
                Verdict::Pass => true,
                Verdict::Drop | Verdict::Done => false,
            };
            if passes {
                out.keep(input, at..end);
            }
            let left = at + head.len() - end;
            self.server_body = if passes {
                Body::Pass(left)
            } else {
                Body::Drop(left)
            };
            at = end;
        }
        Ok(Heard {
            consumed: at,
            end: None,
        })
    }

    /// Answers that are made here and whose turn has come, when nothing from the server will bring them along.
    pub fn answer_fakes(&mut self, input: &[u8], out: &mut Outbox, parties: &mut Parties<'_>) {
        if !parties.server.pipeline.has_fakes() || self.is_inside_answer() {
            return;
        }
        while parties
            .server
            .pipeline
            .head()
            .is_some_and(|entry| matches!(entry.answer, Answer::Fake))
        {
            let Some(kind) = parties.server.pipeline.pop() else {
                return;
            };
            self.tally.steps += 1;
            let tag = if kind == Kind::Parse {
                tag::PARSE_COMPLETE
            } else {
                tag::CLOSE_COMPLETE
            };
            write::bare(out.make(input), tag);
        }
    }

    /// Whether a fake answer is due that no message from the server will bring along: after a `Flush`, or when nothing more
    /// can be sent before it.
    #[must_use]
    pub fn owes_fakes(&self, parties: &Parties<'_>) -> bool {
        let pipeline = &parties.server.pipeline;
        let is_due = self.flushed && !pipeline.has_sync() || pipeline.is_full();
        let head = pipeline.head();
        is_due && head.is_some_and(|entry| matches!(entry.answer, Answer::Fake))
    }

    fn pass_server_body(&mut self, input: &[u8], out: &mut Outbox) -> usize {
        let (left, passes) = match self.server_body {
            Body::Pass(left) => (left, true),
            Body::Drop(left) => (left, false),
        };
        let len = left.min(input.len());
        if passes && len > 0 {
            out.keep(input, 0..len);
        }
        self.server_body = if passes {
            Body::Pass(left - len)
        } else {
            Body::Drop(left - len)
        };
        len
    }

    /// Deals with what goes on as it comes and says nothing of the session: most of an answer. False: it is something else.
    #[inline]
    fn passes_plainly(&mut self, head: Head, body: &[u8], parties: &mut Parties<'_>) -> bool {
        let Some(entry) = parties.server.pipeline.head().filter(|entry| !entry.is_own()) else {
            return false;
        };
        let ends = match (head.tag, entry.kind) {
            (tag::DATA_ROW, _) => false,
            (tag::PARSE_COMPLETE, Kind::Parse) | (tag::BIND_COMPLETE, Kind::Bind) => true,
            (tag::ROW_DESCRIPTION, Kind::Describe) if matches!(entry.answer, Answer::Forward) => true,
            (tag::COMMAND_COMPLETE, kind)
                if body.len() == head.body
                    && self.is_of_rows(kind, body)
                    && matches!(entry.answer, Answer::Forward)
                    && self.copy == Copy::None
                    && self.settling != Settling::Begin =>
            {
                self.tally.steps += 1;
                self.tally.queries += u32::from(kind == Kind::Execute);
                self.early_syncs = 0;
                self.schema.on_rows(Rows::None);
                kind == Kind::Execute
            }
            _ => return false,
        };
        if ends {
            self.pop(parties);
        }
        true
    }

    fn on_answer(
        &mut self,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Result<Verdict, SessionError> {
        let verdict = match parties.server.pipeline.head() {
            Some(entry) if entry.is_own() => Verdict::Drop,
            _ => Verdict::Pass,
        };
        match message.head.tag {
            tag::DATA_ROW if verdict == Verdict::Drop => Ok(on_own_row(message, parties)),
            tag::DATA_ROW | tag::COPY_DATA => Ok(verdict),
            tag::READY_FOR_QUERY => self.on_ready(message, out, parties, verdict),
            tag::COMMAND_COMPLETE => Ok(self.on_complete(message, out, parties, verdict)),
            tag::BIND_COMPLETE => self.on_end_of(Kind::Bind, parties, verdict),
            tag::PARSE_COMPLETE => self.on_end_of(Kind::Parse, parties, verdict),
            tag::CLOSE_COMPLETE => self.on_end_of(Kind::Close, parties, verdict),
            tag::ROW_DESCRIPTION | tag::NO_DATA => {
                if head_kind(parties) == Some(Kind::Query) {
                    self.schema.on_rows(Rows::Described);
                }
                Ok(self.on_description(message, parties, verdict))
            }
            tag::EMPTY_QUERY_RESPONSE | tag::PORTAL_SUSPENDED => {
                if head_kind(parties) == Some(Kind::Execute) {
                    self.tally.queries += 1;
                    self.pop(parties);
                }
                Ok(verdict)
            }
            tag::PARAMETER_DESCRIPTION => Ok(Self::on_parameters(message, parties, verdict)),
            tag::ERROR_RESPONSE => self.on_error(message, out, parties, verdict),
            tag::PARAMETER_STATUS => self.on_parameter(message, out, parties, verdict),
            tag::COPY_IN_RESPONSE => {
                let early = parties.server.pipeline.ignore_syncs_in_copy();
                self.early_syncs = self.early_syncs.saturating_add(early.count);
                if early.count > 0 && self.batch == Batch::None && !parties.server.pipeline.has_sync() {
                    // Its Sync was none.
                    self.batch = Batch::Open;
                }
                self.copy = if early.is_ended { Copy::InEnded } else { Copy::In };
                Ok(verdict)
            }
            tag::COPY_BOTH_RESPONSE => {
                self.copy = Copy::Both;
                Ok(verdict)
            }
            // It answers nothing, whatever stands at the head.
            tag::NOTIFICATION_RESPONSE => Ok(self.on_notification(message, parties, Verdict::Pass)),
            tag::NOTICE_RESPONSE if is_heard(parties) => Ok(Verdict::Pass),
            tag::NOTICE_RESPONSE | tag::FUNCTION_CALL_RESPONSE | tag::COPY_OUT_RESPONSE | tag::COPY_DONE => {
                Ok(verdict)
            }
            _ => Err(SessionError::Server("a message of an unknown type")),
        }
    }

    fn on_end_of(
        &mut self,
        kind: Kind,
        parties: &mut Parties<'_>,
        verdict: Verdict,
    ) -> Result<Verdict, SessionError> {
        if head_kind(parties) != Some(kind) {
            return Err(SessionError::Server("an answer to a request that was not made"));
        }
        self.pop(parties);
        Ok(verdict)
    }

    fn on_complete(
        &mut self,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
        verdict: Verdict,
    ) -> Verdict {
        if message.body.len() < message.head.body.min(COMMAND_TAG_MAX) {
            return Verdict::Cut;
        }
        let copied = std::mem::replace(&mut self.copy, Copy::None);
        if copied == Copy::Both {
            // Streaming replication may go on with another CommandComplete before it is ready.
            return verdict;
        }
        self.note_altered(message.body, parties);
        let defined = defined(message.body, parties.client.pins);
        parties.server.definitions = parties.server.definitions.max(defined);
        match message.body {
            b"DISCARD ALL\0" => self.on_discarded(parties, true),
            b"DISCARD SEQUENCES\0" if verdict == Verdict::Drop => {
                parties.server.sequences.memory = Memory::Own;
            }
            b"DISCARD SEQUENCES\0" if verdict == Verdict::Pass => {
                parties.client.pins = parties.client.pins.without(Pins::of(PinReason::Sequence));
            }
            b"DEALLOCATE ALL\0" => self.on_discarded(parties, false),
            b"DEALLOCATE\0" => parties.server.pipeline.on_deallocated(),
            b"RESET\0" => {
                self.cause = match std::mem::take(&mut self.asked) {
                    SettingEffect::ResetAll => Cause::ResetAll,
                    SettingEffect::None | SettingEffect::Local | SettingEffect::Reset => Cause::Reset,
                }
            }
            b"DO\0" => {
                parties.client.doubt();
                if self.doing == Doing::Defining {
                    parties.server.definitions = Definitions::Changing;
                }
            }
            b"LOAD\0" => parties.client.pins.insert(PinReason::Load),
            b"COMMIT\0" => self.on_commit(parties),
            b"ROLLBACK\0" => {
                self.on_rolled_back(parties);
                self.on_taken_back();
            }
            b"SAVEPOINT\0" | b"RELEASE\0" => self.on_savepoint(parties),
            b"NOTIFY\0" => self.on_notified(parties),
            b"LISTEN\0" if verdict == Verdict::Pass => self.on_said(true, parties),
            // Not one that stands for something else.
            b"UNLISTEN\0" if verdict == Verdict::Pass && is_forwarded(parties) => {
                self.on_said(false, parties)
            }
            _ => {}
        }
        self.tally.steps += 1;
        let mut verdict = verdict;
        if let Some(Entry {
            answer: Answer::Complete(command),
            ..
        }) = parties.server.pipeline.head()
        {
            let made = out.make(message.input);
            let frame = Frame::begin(made, tag::COMMAND_COMPLETE);
            write::cstr(made, command.as_bytes());
            frame.end(made);
            verdict = Verdict::Done;
        }
        if head_kind(parties) == Some(Kind::Execute) {
            // The client's own BEGIN is one of its queries.
            let is_begin = matches!(parties.server.pipeline.head(), Some(entry) if matches!(entry.answer, Answer::Begin));
            self.tally.queries += u32::from(verdict != Verdict::Drop || is_begin);
            self.tally.simple_queries += u32::from(is_begin);
            self.pop(parties);
            if self.settling == Settling::Begin {
                // It stands before everything else.
                self.settling = Settling::Done;
            }
        }
        self.early_syncs = 0;
        verdict
    }

    /// `DISCARD ALL` or `DEALLOCATE ALL` was carried out. What was parsed behind it in the pipeline is not affected.
    fn on_discarded(&mut self, parties: &mut Parties<'_>, everything: bool) {
        let Parties { client, server, .. } = parties;
        let mut ids = Vec::new();
        let mut names: Vec<&[u8]> = Vec::new();
        for entry in server.pipeline.iter() {
            if let ServerUndo::Prepared(id) = entry.server_undo {
                ids.push(id);
            }
            if let ClientUndo::Named(renaming) = &entry.client_undo {
                names.push(&renaming.name);
            }
        }
        server.statements.clear_except(&ids);
        client.statements.clear_except(&names);
        if !everything {
            return;
        }
        // RESET ALL went back to the connection's own defaults, not to the client's: those are applied again.
        self.cause = Cause::ResetAll;
        server.applied = Arc::default();
        if !server.pipeline.is_followed() {
            client.pins = client.pins.lasting();
        }
        self.on_channels_discarded(parties);
    }

    fn on_ready(
        &mut self,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
        verdict: Verdict,
    ) -> Result<Verdict, SessionError> {
        if message.head.body != 1 {
            return Err(SessionError::Server("a ReadyForQuery of another length"));
        }
        let Some(&state) = message.body.first() else {
            return Ok(Verdict::Cut);
        };
        let state = TransactionState::from_byte(state)
            .ok_or(SessionError::Server("a ReadyForQuery with an unknown state"))?;
        self.on_ready_for_channels(state, parties);
        if verdict == Verdict::Pass && self.is_to_be_told_first(state) {
            return Ok(Verdict::Cut);
        }
        match head_kind(parties) {
            Some(Kind::Query) => {
                let counts = u32::from(verdict == Verdict::Pass);
                self.tally.queries += counts;
                self.tally.simple_queries += counts;
                if let Some(sql) = &mut self.sql {
                    sql.ahead_error = None;
                }
            }
            Some(Kind::Sync | Kind::FunctionCall) => {}
            // The answer to a Sync that an early end of a copy has left to it.
            None if self.early_syncs > 0 => {
                self.early_syncs -= 1;
                self.batch = Batch::None;
            }
            _ => return Err(SessionError::Server("a ReadyForQuery that nobody asked for")),
        }
        self.pop(parties);
        self.copy = Copy::None;
        self.overtime = match self.overtime {
            Overtime::Statement | Overtime::Behind if !parties.server.pipeline.is_empty() => Overtime::Behind,
            Overtime::None | Overtime::Statement | Overtime::Behind => Overtime::None,
        };
        if self.cause == Cause::ResetAll && state == TransactionState::Idle {
            self.on_all_reset(message, out, parties);
        }
        self.cause = Cause::Set;
        self.schema_at_ready(state, parties);
        if parties.server.pipeline.is_empty() {
            self.stakes = Stakes::Nothing;
            self.doing = Doing::Nothing;
            self.settling = Settling::Done;
            self.early_syncs = 0;
            if self.certainty == Certainty::Untold {
                self.certainty = Certainty::Unsure;
            }
            let is_told = !parties.client.pins.contains(PinReason::Setting);
            if state == TransactionState::Idle && parties.client.inquiry.is_none() && is_told {
                self.certainty = Certainty::Known;
            }
        }
        self.since = parties.server.statements.clock();
        parties.server.transaction = state;
        if state == TransactionState::Idle {
            parties.client.settled = None;
            parties.server.definitions = parties.server.definitions.ended();
        }
        if verdict == Verdict::Pass && state == TransactionState::Idle {
            self.tally.transactions += 1;
        }
        Ok(verdict)
    }

    #[inline]
    pub(super) fn pop(&mut self, parties: &mut Parties<'_>) {
        self.tally.steps += 1;
        parties.server.pipeline.pop();
    }
}

/// A row of the answer to our question, or to something that was set for the client.
fn on_own_row(message: &Message<'_>, parties: &mut Parties<'_>) -> Verdict {
    let Some(inquiry) = &mut parties.client.inquiry else {
        return Verdict::Drop;
    };
    let is_whole = message.body.len() == message.head.body;
    if !is_whole && message.head.body <= FINDING_LEN_MAX {
        return Verdict::Cut;
    }
    let letters = Letters::of(parties.server.reported.value("client_encoding"));
    inquiry.on_row(is_whole.then_some(message.body), letters);
    Verdict::Drop
}

/// Whether an error is the last of the connection.
fn is_end(message: &Message<'_>, parties: &mut Parties<'_>) -> bool {
    ErrorFields::read(message.error_head()).ends_connection() || Flow::is_block_refused(parties)
}

/// Whether the notices of our own request are the client's.
fn is_heard(parties: &Parties<'_>) -> bool {
    let head = parties.server.pipeline.head();
    head.is_some_and(|entry| matches!(entry.answer, Answer::Notices))
}

fn is_forwarded(parties: &Parties<'_>) -> bool {
    let head = parties.server.pipeline.head();
    head.is_some_and(|entry| matches!(entry.answer, Answer::Forward))
}

/// What the command with this tag has done to functions and what uses them.
fn defined(tag: &[u8], pins: Pins) -> Definitions {
    let kind = match tag.first() {
        Some(b'C') => tag.strip_prefix(b"CREATE "),
        Some(b'A') => tag.strip_prefix(b"ALTER "),
        _ => None,
    };
    match kind {
        None => Definitions::AsKnown,
        Some(kind) if DEFINITIONS.contains(&kind) => Definitions::Changing,
        // Nobody else sees a temporary one.
        Some(b"TABLE\0") if pins.contains(PinReason::TemporaryTable) => Definitions::AsKnown,
        // To look has connections cleaned that went by something else, which would hide from clients that have never asked for a
        // description that a statement of theirs is from before an ALTER (0A000): what that has done is found by the next look.
        Some(b"TABLE\0" | b"FOREIGN TABLE\0" | b"TYPE\0") if tag.starts_with(b"C") => Definitions::Making,
        Some(_) => Definitions::AsKnown,
    }
}

/// What `CREATE` and `ALTER` may do it with, as the server words it (`src/include/tcop/cmdtaglist.h`).
const DEFINITIONS: [&[u8]; 15] = [
    b"FUNCTION\0",
    b"PROCEDURE\0",
    b"ROUTINE\0",
    b"TRIGGER\0",
    b"VIEW\0",
    b"MATERIALIZED VIEW\0",
    b"RULE\0",
    b"SCHEMA\0",
    b"EXTENSION\0",
    b"AGGREGATE\0",
    b"POLICY\0",
    b"DOMAIN\0",
    b"OPERATOR\0",
    b"CAST\0",
    b"EVENT TRIGGER\0",
];

pub(super) fn head_kind(parties: &Parties<'_>) -> Option<Kind> {
    parties.server.pipeline.head().map(|entry| entry.kind)
}

/// How much of an error must have come before its severity and code are read: those fields come first
/// (`send_message_to_frontend` in `src/backend/utils/error/elog.c`), and short errors are read whole.
pub(super) const ERROR_HEAD_MAX: usize = 8 * 1024;
/// `COMPLETION_TAG_BUFSIZE` in `src/include/tcop/cmdtag.h`.
const COMMAND_TAG_MAX: usize = 64;
/// The value of a setting that is read back; a client with a longer one keeps its connection.
const FINDING_LEN_MAX: usize = 64 * 1024;
