//! From the server to the client.

use crate::protocol::body::{self, ErrorFields};
use crate::protocol::write::{self, Frame};
use crate::protocol::{HEAD_LEN, Head, Report, Severity, SqlState, TransactionState, tag};
use crate::session::error::SessionError;
use crate::session::outbox::Outbox;
use crate::session::pipeline::{Answer, ClientUndo, Entry, Kind, ServerUndo};
use crate::session::screen::PinReason;
use crate::session::settings;

use super::copy::Copy;
use super::{Body, Flow, Parties, Unsynced};

/// What a pass over a server's input came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub consumed: usize,
    pub end: Option<Ending>,
}

/// The server ends the connection with these words.
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

    #[must_use]
    pub fn report(&self) -> Report {
        let fields = ErrorFields::read(&self.body);
        Report::error(fields.code, String::from_utf8_lossy(fields.message).into_owned())
    }
}

/// A message from the server.
struct Message<'a> {
    head: Head,
    /// What of its body has come.
    body: &'a [u8],
}

/// Whether a message goes on to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
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
            self.answer_fakes(input, out, parties);
            let rest = input.get(at..).unwrap_or_default();
            let head =
                Head::read(rest).map_err(|_| SessionError::Server("a message with an impossible length"))?;
            let Some(head) = head else { break };
            let end = input.len().min(at + head.len());
            let message = Message {
                head,
                body: input.get(at + HEAD_LEN..end).unwrap_or_default(),
            };
            if head.tag == tag::ERROR_RESPONSE && message.body.len() < head.body.min(ERROR_HEAD_MAX) {
                break;
            }
            if head.tag == tag::ERROR_RESPONSE && ErrorFields::read(message.body).ends_connection() {
                let body = message.body.into();
                return Ok(Heard {
                    consumed: end,
                    end: Some(Ending { body }),
                });
            }
            let verdict = self.on_answer(&message, input, out, parties)?;
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
            let Some(entry) = parties.server.pipeline.pop() else {
                return;
            };
            let tag = if entry.kind == Kind::Parse {
                tag::PARSE_COMPLETE
            } else {
                tag::CLOSE_COMPLETE
            };
            write::bare(out.make(input), tag);
        }
    }

    /// Whether a fake answer is due that no message from the server will bring along: after a `Flush`.
    #[must_use]
    pub fn owes_fakes(&self, parties: &Parties<'_>) -> bool {
        let head = parties.server.pipeline.head();
        self.flushed
            && head.is_some_and(|entry| matches!(entry.answer, Answer::Fake))
            && !parties.server.pipeline.has_sync()
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

    fn on_answer(
        &mut self,
        message: &Message<'_>,
        input: &[u8],
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Result<Verdict, SessionError> {
        let verdict = match parties.server.pipeline.head() {
            Some(Entry {
                answer: Answer::Skip, ..
            }) => Verdict::Drop,
            _ => Verdict::Pass,
        };
        match message.head.tag {
            tag::DATA_ROW | tag::COPY_DATA => Ok(verdict),
            tag::READY_FOR_QUERY => self.on_ready(message, parties, verdict),
            tag::COMMAND_COMPLETE => Ok(self.on_complete(message, parties, verdict)),
            tag::BIND_COMPLETE => self.on_end_of(Kind::Bind, parties, verdict),
            tag::PARSE_COMPLETE => self.on_end_of(Kind::Parse, parties, verdict),
            tag::CLOSE_COMPLETE => self.on_end_of(Kind::Close, parties, verdict),
            tag::ROW_DESCRIPTION | tag::NO_DATA => {
                if head_kind(parties) == Some(Kind::Describe) {
                    self.pop(parties);
                }
                Ok(verdict)
            }
            tag::EMPTY_QUERY_RESPONSE | tag::PORTAL_SUSPENDED => {
                if head_kind(parties) == Some(Kind::Execute) {
                    self.tally.queries += 1;
                    self.pop(parties);
                }
                Ok(verdict)
            }
            tag::ERROR_RESPONSE => self.on_error(message, input, out, parties, verdict),
            tag::PARAMETER_STATUS => self.on_parameter(message, parties, verdict),
            tag::COPY_IN_RESPONSE => {
                let ended = parties.server.pipeline.ignore_syncs_in_copy();
                self.copy = if ended { Copy::InEnded } else { Copy::In };
                Ok(verdict)
            }
            tag::COPY_BOTH_RESPONSE => {
                self.copy = Copy::Both;
                Ok(verdict)
            }
            tag::NOTICE_RESPONSE
            | tag::NOTIFICATION_RESPONSE
            | tag::PARAMETER_DESCRIPTION
            | tag::FUNCTION_CALL_RESPONSE
            | tag::COPY_OUT_RESPONSE
            | tag::COPY_DONE => Ok(verdict),
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

    fn on_complete(&mut self, message: &Message<'_>, parties: &mut Parties<'_>, verdict: Verdict) -> Verdict {
        if message.body.len() < message.head.body.min(COMMAND_TAG_MAX) {
            return Verdict::Cut;
        }
        let copied = std::mem::replace(&mut self.copy, Copy::None);
        if copied == Copy::Both {
            // Streaming replication may go on with another CommandComplete before it is ready.
            return verdict;
        }
        match message.body {
            b"DISCARD ALL\0" => self.on_discarded(parties, true),
            b"DEALLOCATE ALL\0" => self.on_discarded(parties, false),
            b"DEALLOCATE\0" | b"RESET\0" => {}
            b"LISTEN\0" if matches!(self.naming, super::Naming::Mapped { .. }) => {
                parties.client.pin = parties.client.pin.or(Some(PinReason::Listen));
            }
            _ => {}
        }
        self.tally.steps += 1;
        if head_kind(parties) == Some(Kind::Execute) {
            self.tally.queries += 1;
            self.pop(parties);
            while head_kind(parties) == Some(Kind::CopyEnd) {
                parties.server.pipeline.pop();
            }
        }
        verdict
    }

    /// `DISCARD ALL` or `DEALLOCATE ALL` was carried out. What was parsed behind it in the pipeline is not affected.
    fn on_discarded(&mut self, parties: &mut Parties<'_>, everything: bool) {
        let entries = || parties.server.pipeline.iter();
        let later_ids: Vec<u64> = entries()
            .filter_map(|entry| match entry.server_undo {
                ServerUndo::Prepared(id) => Some(id),
                ServerUndo::None | ServerUndo::Closed(_) | ServerUndo::Unnamed(_) => None,
            })
            .collect();
        let later_names: Vec<Box<[u8]>> = entries()
            .filter_map(|entry| match &entry.client_undo {
                ClientUndo::Named(named) => Some(named.name.clone()),
                ClientUndo::None | ClientUndo::Unnamed(_) => None,
            })
            .collect();
        parties.server.statements.clear_except(&later_ids);
        let names: Vec<&[u8]> = later_names.iter().map(|name| &**name).collect();
        parties.client.statements.clear_except(&names);
        if everything {
            // RESET ALL went back to the connection's own defaults, not to the client's.
            parties.client.settings = std::sync::Arc::clone(&parties.client.startup);
            parties.server.applied = std::sync::Arc::default();
            parties.client.pin = None;
        }
    }

    fn on_ready(
        &mut self,
        message: &Message<'_>,
        parties: &mut Parties<'_>,
        verdict: Verdict,
    ) -> Result<Verdict, SessionError> {
        let Some(&state) = message.body.first() else {
            return if message.head.body == 1 {
                Ok(Verdict::Cut)
            } else {
                Err(SessionError::Server("a ReadyForQuery without a state"))
            };
        };
        let state = TransactionState::from_byte(state)
            .ok_or(SessionError::Server("a ReadyForQuery with an unknown state"))?;
        while head_kind(parties) == Some(Kind::CopyEnd) {
            parties.server.pipeline.pop();
        }
        match head_kind(parties) {
            Some(Kind::Query) => self.tally.queries += u32::from(verdict == Verdict::Pass),
            Some(Kind::Sync | Kind::FunctionCall) => {}
            _ => return Err(SessionError::Server("a ReadyForQuery that nobody asked for")),
        }
        self.pop(parties);
        while head_kind(parties) == Some(Kind::CopyEnd) {
            parties.server.pipeline.pop();
        }
        self.copy = Copy::None;
        self.timed_out = false;
        self.batch = parties.server.statements.clock();
        parties.server.transaction = state;
        if verdict == Verdict::Pass && state == TransactionState::Idle {
            self.tally.transactions += 1;
        }
        Ok(verdict)
    }

    fn on_error(
        &mut self,
        message: &Message<'_>,
        input: &[u8],
        out: &mut Outbox,
        parties: &mut Parties<'_>,
        verdict: Verdict,
    ) -> Result<Verdict, SessionError> {
        self.copy = Copy::None;
        let fields = ErrorFields::read(message.body);
        let Some(kind) = head_kind(parties) else {
            // An error out of the blue that does not end the connection: PostgreSQL sends none, but it harms nobody.
            return Ok(verdict);
        };
        if verdict == Verdict::Drop {
            let text = String::from_utf8_lossy(fields.message).into_owned();
            self.own_error = Some(Box::new(Report::error(fields.code, text)));
        }
        let mut verdict = self.say_error(&fields, input, out, parties, verdict);
        if kind.is_extended() {
            self.fail(parties);
            // The error of a request of our own is the client's to know, when its own requests are skipped for it.
            if verdict == Verdict::Drop && kind != Kind::Sync {
                verdict = Verdict::Pass;
            }
        }
        Ok(verdict)
    }

    /// Puts an error into our words where the server cannot know what happened.
    fn say_error(
        &mut self,
        fields: &ErrorFields<'_>,
        input: &[u8],
        out: &mut Outbox,
        parties: &Parties<'_>,
        verdict: Verdict,
    ) -> Verdict {
        if let Some(Entry {
            answer: Answer::Replace(report),
            ..
        }) = parties.server.pipeline.head()
        {
            report.encode(out.make(input));
            return Verdict::Done;
        }
        if self.timed_out && fields.code == SqlState::QUERY_CANCELED && verdict == Verdict::Pass {
            self.timed_out = false;
            Report::error(
                SqlState::QUERY_CANCELED,
                "canceling statement due to statement timeout",
            )
            .encode(out.make(input));
            return Verdict::Done;
        }
        verdict
    }

    /// An extended request has failed: it and everything up to the next `Sync` was not carried out.
    fn fail(&mut self, parties: &mut Parties<'_>) {
        let skips = !parties.server.pipeline.has_sync();
        while let Some(entry) = parties.server.pipeline.pop_skipped() {
            let is_failed = !parties
                .server
                .pipeline
                .head()
                .is_some_and(|head| head.kind != Kind::Sync);
            undo(entry, is_failed, parties);
        }
        self.unsynced = if skips { Unsynced::Skipping } else { self.unsynced };
        self.tally.steps += 1;
    }

    fn on_parameter(
        &mut self,
        message: &Message<'_>,
        parties: &mut Parties<'_>,
        verdict: Verdict,
    ) -> Result<Verdict, SessionError> {
        if message.body.len() < message.head.body {
            return if message.head.body > PARAMETER_LEN_MAX {
                Err(SessionError::Server("a parameter status that is too long"))
            } else {
                Ok(Verdict::Cut)
            };
        }
        if let Some((name, value)) = body::parameter_status(message.body) {
            settings::on_reported(parties.client, parties.server, name, value);
        }
        Ok(verdict)
    }

    fn pop(&mut self, parties: &mut Parties<'_>) {
        self.tally.steps += 1;
        parties.server.pipeline.pop();
    }
}

fn head_kind(parties: &Parties<'_>) -> Option<Kind> {
    parties.server.pipeline.head().map(|entry| entry.kind)
}

/// Takes back what a request was going to change. A failed unnamed `Parse` leaves no unnamed statement behind: the old one is
/// dropped before the new one is looked at (`exec_parse_message` in `src/backend/tcop/postgres.c`).
fn undo(entry: Entry, is_failed: bool, parties: &mut Parties<'_>) {
    match entry.client_undo {
        ClientUndo::None => {}
        ClientUndo::Named(named) => {
            parties.client.statements.replace(&named.name, named.previous);
        }
        ClientUndo::Unnamed(previous) => {
            parties.client.statements.unnamed = if is_failed { None } else { previous };
        }
    }
    match entry.server_undo {
        ServerUndo::None => {}
        ServerUndo::Prepared(id) => parties.server.statements.remove(id),
        ServerUndo::Closed(id) => parties.server.statements.insert(id),
        ServerUndo::Unnamed(previous) => {
            parties.server.statements.unnamed = if is_failed { None } else { previous };
        }
    }
}

/// How much of an error must have come before its severity and code are read: those fields come first
/// (`send_message_to_frontend` in `src/backend/utils/error/elog.c`), and short errors are read whole.
const ERROR_HEAD_MAX: usize = 8 * 1024;
/// `COMPLETION_TAG_BUFSIZE` in `src/include/tcop/cmdtag.h`.
const COMMAND_TAG_MAX: usize = 64;
/// A reported value: a search path can be long, but not this long.
const PARAMETER_LEN_MAX: usize = 64 * 1024;
