//! Prepared statements on their way from the client to the server: whose name means what, and what the server has.

use std::sync::Arc;

use crate::protocol::body::split_cstr;
use crate::protocol::{HEAD_LEN, Report, SqlState, TransactionState, tag};
use crate::session::client::Batch;
use crate::session::error::SessionError;
use crate::session::outbox::Outbox;
use crate::session::pipeline::{Answer, ClientUndo, Entry, Kind, Plain, ServerUndo};
use crate::session::screen::{SequenceEffect, screen};
use crate::session::statement::{SERVER_NAME_PREFIX, ServerName, Statement, Types};

use super::described::{Check, Standing};
use super::meaning::{Meaning, Run};
use super::requests::{Message, SCREENED_LEN_MAX, Taken};
use super::{Flow, Naming, Parties};

impl Flow {
    pub(super) fn on_parse(
        &mut self,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Result<Taken, SessionError> {
        let is_large = message.head.body > STATEMENT_LEN_MAX;
        if !message.is_whole() && !is_large {
            return Ok(Taken::Cut);
        }
        self.flushed = false;
        if self.batch == Batch::Skipping {
            return Ok(Taken::Kept);
        }
        let Some((name, text)) = split_cstr(message.body) else {
            return if is_large && message.body.len() < NAME_LEN_MAX {
                Ok(Taken::Cut)
            } else {
                Err(bad_message())
            };
        };
        if is_large && name.len() >= NAME_LEN_MAX {
            // As when it is cut there: how it was cut makes no difference.
            return Err(bad_message());
        }
        self.stand_on_settings(parties);
        let statement = if is_large {
            parties.cache.unkept(text)
        } else {
            let statement = parties.cache.intern(text);
            self.as_read(statement, name, parties)
        };
        if self.waits_to_read(&statement, parties) {
            return Ok(Taken::Held);
        }
        if name.is_empty() && statement.mention().is_none() && message.is_whole() {
            self.tally.client_parses += 1;
            let id = statement.id;
            self.push_unnamed(statement, id, Answer::Forward, parties);
            return Ok(Taken::Kept);
        }
        let run = match self.meaning(&statement, parties) {
            Meaning::Run(run) => run,
            Meaning::Held => return Ok(Taken::Held),
            // Not before it is used.
            Meaning::Refused(_) => Run::itself(&statement),
        };
        if !name.is_empty() && parties.server.pipeline.is_unsettled(name, Some(run.sent.id)) {
            return Ok(Taken::Held);
        }
        self.tally.client_parses += 1;
        if let Some(report) = refusal(name, parties) {
            self.refuse_name(message, &run.sent, report, out, parties);
            // The server skips it.
            return Ok(Taken::Kept);
        }
        if is_large {
            // Nor is its text there when it is executed, to be searched for what it calls.
            Self::taint(parties.server);
        }
        self.tell_of_renamed(&statement, &run.sent, message, out, parties);
        if let Some(needs) = &run.needs {
            self.ready(needs, message, out, parties);
        }
        if name.is_empty() {
            return Ok(self.parse_unnamed(message, statement, &run, out, parties));
        }
        Ok(self.parse_named(message, name, statement, &run, out, parties))
    }

    /// A `Parse` that goes on as it came. Its text is looked at all the same: it may change the session.
    pub(super) fn on_parse_verbatim(&mut self, message: &Message<'_>, parties: &mut Parties<'_>) -> Taken {
        if !message.is_whole() && message.head.body <= SCREENED_LEN_MAX {
            return Taken::Cut;
        }
        self.tally.client_parses += 1;
        let text = split_cstr(message.body).map_or(message.body, |(_, text)| text);
        let effects = screen(text);
        self.note(&effects, parties.client);
        self.note_vacated(&effects, Some(text));
        self.note_suspects(text, parties);
        if !message.is_whole() {
            Self::taint(parties.server);
        }
        // The name may be empty, and what it meant to others is gone.
        parties.server.statements.unnamed = None;
        self.plain(Kind::Parse, parties)
    }

    fn parse_named(
        &mut self,
        message: &Message<'_>,
        name: &[u8],
        statement: Arc<Statement>,
        run: &Run,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Taken {
        let id = run.sent.id;
        let is_itself = id == statement.id;
        let previous = parties.client.statements.replace(name, Some(statement.into()));
        let client_undo = ClientUndo::named(name, previous);
        if parties.server.statements.touch(id) {
            if !may_be_failed(id, parties) {
                let entry = Entry {
                    client_undo,
                    ..Entry::fake(Kind::Parse)
                };
                self.push(entry, parties);
                return Taken::Swallowed;
            }
            self.close(id, message, out, parties);
        }
        self.make_room(id, message, out, parties);
        parties.server.statements.insert(id);
        self.tally.server_parses += 1;
        let entry = Entry {
            client_undo,
            server_undo: ServerUndo::Prepared(id),
            answer: run.answer(),
            ..Entry::forward(Kind::Parse)
        };
        self.push(entry, parties);
        if !is_itself {
            run.sent.parse(ServerName::Numbered(id), out.make(message.input));
            return Taken::Swallowed;
        }
        let cut = name.len() + 1;
        let rest = message.head.body - cut;
        renamed_head(tag::PARSE, &[], id, rest, out.make(message.input));
        Taken::Rewritten(cut)
    }

    fn parse_unnamed(
        &mut self,
        message: &Message<'_>,
        statement: Arc<Statement>,
        run: &Run,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Taken {
        let is_itself = run.sent.id == statement.id;
        self.push_unnamed(statement, run.sent.id, run.answer(), parties);
        if is_itself {
            return Taken::Kept;
        }
        run.sent.parse(ServerName::Unnamed, out.make(message.input));
        Taken::Swallowed
    }

    /// The client's unnamed statement is parsed; on the server it has this id.
    fn push_unnamed(
        &mut self,
        statement: Arc<Statement>,
        id: u64,
        answer: Answer,
        parties: &mut Parties<'_>,
    ) {
        let server_undo = ServerUndo::Unnamed(parties.server.statements.replace_unnamed(Some(id)));
        let client_undo = ClientUndo::Unnamed(parties.client.statements.unnamed.replace(statement.into()));
        self.tally.server_parses += 1;
        let entry = Entry {
            client_undo,
            server_undo,
            answer,
            ..Entry::forward(Kind::Parse)
        };
        self.push(entry, parties);
    }

    pub(super) fn on_bind(
        &mut self,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Result<Taken, SessionError> {
        self.flushed = false;
        let names = split_cstr(message.body).and_then(|(portal, rest)| Some((portal, split_cstr(rest)?.0)));
        let Some((portal, name)) = names else {
            let cut = !message.is_whole() && message.body.len() < NAME_LEN_MAX;
            return if cut { Ok(Taken::Cut) } else { Err(bad_message()) };
        };
        if portal.len() + name.len() + 2 > NAME_LEN_MAX {
            return Err(bad_message());
        }
        if self.batch == Batch::Skipping {
            return Ok(Taken::Kept);
        }
        if let Some(server_name) = self.bind_plain(name, parties) {
            return Ok(bound(portal, name, server_name, message, out));
        }
        let effect = Self::sequences_of(name, parties);
        if effect != SequenceEffect::None {
            let pipeline = &parties.server.pipeline;
            if pipeline.is_unnamed_unsettled() || pipeline.is_unsettled(name, None) {
                return Ok(Taken::Held);
            }
            if let Some(taken) = self.on_sequences(effect, Kind::Bind, message, out, parties) {
                return Ok(taken);
            }
        }
        let found = match self.provide(message, name, out, parties) {
            Provided::Held => return Ok(Taken::Held),
            Provided::Found(found) => Some(found),
            Provided::Refused => None,
            Provided::Foreign => {
                self.push(Entry::forward(Kind::Bind), parties);
                None
            }
        };
        self.tally.binds += 1;
        let Some(Found {
            name: server_name,
            statement,
            run,
        }) = found
        else {
            // What is refused the server skips.
            return Ok(Taken::Kept);
        };
        let entry = Entry {
            answer: run.answer(),
            ..Entry::forward(Kind::Bind)
        };
        self.on_bound(portal, &statement, run, parties);
        self.push(entry, parties);
        Ok(bound(portal, name, server_name, message, out))
    }

    /// Binds a statement that does nothing beyond itself, whose name nothing in flight changes and that is on the server: so
    /// it is with nearly all. Says what it is called there.
    fn bind_plain(&mut self, name: &[u8], parties: &mut Parties<'_>) -> Option<ServerName> {
        let Parties { client, server, .. } = parties;
        let statement = client.statements.get(name).filter(|known| known.is_plain())?;
        if self.sql.is_some() || self.said.is_some() || !server.suspects.is_empty() {
            return None;
        }
        if self.check != Check::None {
            // What was found out is of this statement, and of no other.
            return None;
        }
        let told = statement.description();
        let server_name = if name.is_empty() {
            let is_there = server.statements.unnamed == Some(statement.id);
            let is_as_told = told.is_none() || server.statements.unnamed_description(statement.id) == told;
            (is_there && is_as_told && !server.pipeline.is_unnamed_unsettled())
                .then_some(ServerName::Unnamed)?
        } else {
            let is_settled = !server.pipeline.has_changes();
            (is_settled && server.statements.touch_as(statement.id, told))
                .then_some(ServerName::Numbered(statement.id))?
        };
        self.tally.binds += 1;
        self.batch = Batch::Open;
        server.pipeline.push_plain(Plain::Bind);
        Some(server_name)
    }

    pub(super) fn on_close(
        &mut self,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Result<Taken, SessionError> {
        if !message.is_whole() {
            return Ok(Taken::Cut);
        }
        let Some((target, name)) = target(message.body) else {
            return Err(bad_message());
        };
        if target != tag::TARGET_STATEMENT || self.batch == Batch::Skipping {
            return Ok(self.plain(Kind::Close, parties));
        }
        self.flushed = false;
        if name.is_empty() {
            let server_undo = ServerUndo::Unnamed(parties.server.statements.unnamed.take());
            let client_undo = ClientUndo::Unnamed(parties.client.statements.unnamed.take());
            self.push(
                Entry {
                    client_undo,
                    server_undo,
                    ..Entry::forward(Kind::Close)
                },
                parties,
            );
            return Ok(Taken::Kept);
        }
        let known = parties
            .client
            .statements
            .named(name)
            .map(|statement| statement.id);
        if parties.server.pipeline.is_unsettled(name, known) {
            return Ok(Taken::Held);
        }
        let Some(statement) = parties.client.statements.replace(name, None) else {
            // Closing what does not exist is no error.
            self.push(Entry::fake(Kind::Close), parties);
            return Ok(Taken::Swallowed);
        };
        let is_movable = statement.is_movable();
        let id = statement.id;
        let client_undo = ClientUndo::named(name, Some(statement));
        if is_movable {
            // Others may use it: it stays on the server until its room is needed.
            self.push(
                Entry {
                    client_undo,
                    ..Entry::fake(Kind::Close)
                },
                parties,
            );
        } else {
            parties.server.statements.remove(id);
            let server_undo = ServerUndo::Closed(id);
            self.push(
                Entry {
                    client_undo,
                    server_undo,
                    ..Entry::forward(Kind::Close)
                },
                parties,
            );
            ServerName::Numbered(id).close(out.make(message.input));
        }
        Ok(Taken::Swallowed)
    }

    /// Sees to it that the server connection has the statement a client names.
    pub(super) fn provide(
        &mut self,
        message: &Message<'_>,
        name: &[u8],
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Provided {
        let pipeline = &parties.server.pipeline;
        let statements = &parties.client.statements;
        let (known, is_unsettled) = if name.is_empty() {
            (statements.unnamed.as_ref(), pipeline.is_unnamed_unsettled())
        } else {
            let known = statements.named(name);
            (known, pipeline.is_unsettled(name, known.map(|known| known.id)))
        };
        if is_unsettled {
            return Provided::Held;
        }
        let Some(named) = known.cloned() else {
            if !parties.client.pins.is_empty() && !name.is_empty() && !name.starts_with(SERVER_NAME_PREFIX) {
                return Provided::Foreign;
            }
            self.refuse_in_place(message, unknown_name(name), out, parties);
            return Provided::Refused;
        };
        let named = self.own(named, name, parties);
        let statement = Arc::clone(&named);
        let run = match self.meaning(&statement, parties) {
            Meaning::Run(run) => run,
            Meaning::Held => return Provided::Held,
            Meaning::Refused(report) => {
                self.refuse_in_place(message, report, out, parties);
                return Provided::Refused;
            }
        };
        let id = run.sent.id;
        if id != statement.id && parties.server.pipeline.is_unsettled(b"", Some(id)) {
            return Provided::Held;
        }
        match self.standing(&named, name, message, out, parties) {
            Standing::AsTold => {}
            Standing::Asked => return Provided::Held,
            Standing::Stale => {
                self.refuse_stale(&named, name, message, out, parties);
                return Provided::Refused;
            }
        }
        if let Some(needs) = &run.needs {
            self.ready(needs, message, out, parties);
        }
        let name = if name.is_empty() {
            self.ready_unnamed(&run.sent, &Types::default(), message, out, parties);
            ServerName::Unnamed
        } else {
            self.ready(&run.sent, message, out, parties);
            ServerName::Numbered(id)
        };
        Provided::Found(Found { name, statement, run })
    }

    pub(super) fn ready_unnamed(
        &mut self,
        statement: &Statement,
        types: &Types,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        if parties.server.statements.unnamed == Some(statement.id) {
            return;
        }
        let turned = self.turn_reading(statement, message, out, parties);
        let previous = parties.server.statements.replace_unnamed(Some(statement.id));
        let server_undo = ServerUndo::Unnamed(previous);
        statement.parse_as(ServerName::Unnamed, types, out.make(message.input));
        self.tally.server_parses += 1;
        let entry = Entry {
            server_undo,
            ..Entry::skip(Kind::Parse)
        };
        self.push(entry, parties);
        self.turn_reading_back(turned, message, out, parties);
    }

    /// Closes statements that the server connection has had longest, so that one more fits.
    pub(super) fn make_room(
        &mut self,
        id: u64,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        let Naming::Mapped { max } = self.naming else {
            return;
        };
        let room = max.saturating_sub(1);
        while let Some(surplus) = parties.server.statements.surplus(room, self.since) {
            if parties.server.pipeline.changes_statement(surplus) {
                break;
            }
            self.close(surplus, message, out, parties);
        }
        if parties.server.statements.is_doubtful() {
            ServerName::Numbered(id).close(out.make(message.input));
            self.push(Entry::skip(Kind::Close), parties);
        }
    }

    pub(super) fn close(
        &mut self,
        id: u64,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        parties.server.statements.remove(id);
        ServerName::Numbered(id).close(out.make(message.input));
        let entry = Entry {
            server_undo: ServerUndo::Closed(id),
            ..Entry::skip(Kind::Close)
        };
        self.push(entry, parties);
    }
}

/// Whether the statement that a client names is on the server.
pub(super) enum Provided {
    Found(Found),
    /// It is not known; the server may know it by this name from a text of several statements.
    Foreign,
    /// It does not exist; the error is on its way.
    Refused,
    /// Whether it exists is not known before answers come.
    Held,
}

pub(super) struct Found {
    /// On the server.
    pub(super) name: ServerName,
    pub(super) statement: Arc<Statement>,
    pub(super) run: Run,
}

/// What becomes of a `Bind` whose statement has this name on the server.
#[inline]
fn bound(
    portal: &[u8],
    name: &[u8],
    server_name: ServerName,
    message: &Message<'_>,
    out: &mut Outbox,
) -> Taken {
    let ServerName::Numbered(id) = server_name else {
        return Taken::Kept;
    };
    let cut = portal.len() + name.len() + 2;
    let rest = message.head.body - cut;
    renamed_head(tag::BIND, portal, id, rest, out.make(message.input));
    Taken::Rewritten(cut)
}

/// Writes the head of a `Bind` or `Parse` whose statement has another name; `rest` bytes of body follow as they came.
fn renamed_head(tag: u8, portal: &[u8], id: u64, rest: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.reserve(RENAMED_HEAD_LEN + portal.len());
    out.extend_from_slice(&[tag, 0, 0, 0, 0]);
    if tag == tag::BIND {
        // It was read up to its zero.
        out.extend_from_slice(portal);
        out.push(0);
    }
    ServerName::Numbered(id).write(out);
    let len = u32::try_from(out.len() - start - 1 + rest).unwrap_or(u32::MAX);
    if let Some(word) = out.get_mut(start + 1..start + HEAD_LEN) {
        word.copy_from_slice(&len.to_be_bytes());
    }
}

/// Whether the server may be in a failed block when it comes to the next request: it refuses a `Parse` there. What fails in
/// the present batch makes it skip the rest of that anyhow, so what is prepared there tells.
fn may_be_failed(id: u64, parties: &Parties<'_>) -> bool {
    let pipeline = &parties.server.pipeline;
    let may_be = parties.server.transaction == TransactionState::Failed || pipeline.has_earlier_batch();
    may_be && !pipeline.changes_statement(id)
}

/// Why a name cannot be given, if it cannot.
pub(super) fn refusal(name: &[u8], parties: &Parties<'_>) -> Option<Report> {
    if name.is_empty() {
        return None;
    }
    if parties.client.statements.named(name).is_some() {
        let name = String::from_utf8_lossy(name);
        let text = format!("prepared statement \"{name}\" already exists");
        return Some(Report::error(SqlState::DUPLICATE_STATEMENT, text));
    }
    (parties.client.statements.len() >= CLIENT_STATEMENTS_MAX).then(|| {
        Report::error(SqlState::PROGRAM_LIMIT_EXCEEDED, "too many prepared statements")
            .with_hint("Deallocate the statements that are no longer used.")
    })
}

pub(super) fn unknown_name(name: &[u8]) -> Report {
    let text = if name.is_empty() {
        "unnamed prepared statement does not exist".to_owned()
    } else {
        let name = String::from_utf8_lossy(name);
        format!("prepared statement \"{name}\" does not exist")
    };
    Report::error(SqlState::INVALID_STATEMENT_NAME, text)
}

/// What `Describe` and `Close` aim at.
pub(super) fn target(body: &[u8]) -> Option<(u8, &[u8])> {
    let (target, rest) = body.split_first()?;
    Some((*target, split_cstr(rest)?.0))
}

pub(super) fn bad_message() -> SessionError {
    SessionError::Client(Report::fatal(
        SqlState::PROTOCOL_VIOLATION,
        "invalid message format",
    ))
}

/// A statement up to this length (of its `Parse` body) is kept, so that it can be prepared on another server connection. A list
/// of as many parameters as PostgreSQL takes, 65,535, fits with room to spare, and so does an `EXECUTE` of it.
pub(super) const STATEMENT_LEN_MAX: usize = 1024 * 1024;
/// Room for a head, a name of ours and two zeros.
const RENAMED_HEAD_LEN: usize = 32;
/// Names in front of a message that is cut: portal and statement. PostgreSQL itself uses 63 bytes of each.
const NAME_LEN_MAX: usize = 8 * 1024;
/// Statements one client may name.
const CLIENT_STATEMENTS_MAX: usize = 10_000;
