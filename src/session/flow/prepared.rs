//! Prepared statements on their way from the client to the server: whose name means what, and what the server has.

use std::sync::Arc;

use crate::protocol::body::split_cstr;
use crate::protocol::write::{self, Frame};
use crate::protocol::{HEAD_LEN, Report, SqlState, tag};
use crate::session::client::Batch;
use crate::session::error::SessionError;
use crate::session::outbox::Outbox;
use crate::session::pipeline::{Answer, ClientUndo, Entry, Kind, ServerUndo};
use crate::session::screen::{NameEffect, SettingEffect, screen};
use crate::session::statement::{ServerName, Statement};

use super::requests::{Message, SCREENED_LEN_MAX, Taken};
use super::{Flow, Meaning, Naming, Parties};

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
        let client = &mut *parties.client;
        let meaning = client.meaning.of(&client.settings);
        let statement = match self.meaning {
            _ if is_large => parties.cache.unkept(text),
            Meaning::Known => parties.cache.intern(text, meaning),
            Meaning::Unsure => parties.cache.private(text, meaning),
        };
        if !name.is_empty() && parties.server.pipeline.is_unsettled(name, Some(statement.id)) {
            return Ok(Taken::Held);
        }
        self.tally.client_parses += 1;
        if let Some(report) = refusal(name, parties) {
            self.refuse_in_place(message, report, out, parties);
            // The server skips it.
            return Ok(Taken::Kept);
        }
        if !message.is_whole() {
            Self::taint(parties.server);
        }
        if name.is_empty() {
            return Ok(self.parse_unnamed(statement, parties));
        }
        Ok(self.parse_named(message, name, statement, out, parties))
    }

    /// A `Parse` that goes on as it came. Its text is looked at all the same: it may change the session.
    pub(super) fn on_parse_verbatim(&mut self, message: &Message<'_>, parties: &mut Parties<'_>) -> Taken {
        if !message.is_whole() && message.head.body <= SCREENED_LEN_MAX {
            return Taken::Cut;
        }
        self.tally.client_parses += 1;
        let text = split_cstr(message.body).map_or(message.body, |(_, text)| text);
        self.note_text(text, &screen(text).deferred(), parties);
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
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Taken {
        let id = statement.id;
        let previous = parties.client.statements.replace(name, Some(statement));
        let client_undo = ClientUndo::named(name, previous);
        if parties.server.statements.touch(id) {
            let entry = Entry {
                client_undo,
                ..Entry::fake(Kind::Parse)
            };
            self.push(entry, parties);
            return Taken::Swallowed;
        }
        self.make_room(id, message, out, parties);
        parties.server.statements.insert(id);
        self.tally.server_parses += 1;
        let entry = Entry {
            client_undo,
            server_undo: ServerUndo::Prepared(id),
            ..Entry::forward(Kind::Parse)
        };
        self.push(entry, parties);
        let cut = name.len() + 1;
        let rest = message.head.body - cut;
        renamed_head(tag::PARSE, &[], id, rest, out.make(message.input));
        Taken::Rewritten(cut)
    }

    fn parse_unnamed(&mut self, statement: Arc<Statement>, parties: &mut Parties<'_>) -> Taken {
        let server_undo = ServerUndo::Unnamed(parties.server.statements.unnamed);
        parties.server.statements.unnamed = Some(statement.id);
        let client_undo = ClientUndo::Unnamed(parties.client.statements.unnamed.replace(statement));
        self.tally.server_parses += 1;
        self.push(
            Entry {
                client_undo,
                server_undo,
                ..Entry::forward(Kind::Parse)
            },
            parties,
        );
        Taken::Kept
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
        let found = self.provide(message, name, out, parties);
        if matches!(found, Provided::Held) {
            return Ok(Taken::Held);
        }
        self.on_bound(portal, name, parties);
        match found {
            Provided::Held => Ok(Taken::Held),
            Provided::AsNamed => {
                self.push(Entry::forward(Kind::Bind), parties);
                Ok(Taken::Kept)
            }
            Provided::Numbered(id) => {
                self.push(Entry::forward(Kind::Bind), parties);
                let cut = portal.len() + name.len() + 2;
                renamed_head(
                    tag::BIND,
                    portal,
                    id,
                    message.head.body - cut,
                    out.make(message.input),
                );
                Ok(Taken::Rewritten(cut))
            }
            // The server skips it.
            Provided::Refused => Ok(Taken::Kept),
        }
    }

    pub(super) fn on_describe(
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
            return Ok(self.plain(Kind::Describe, parties));
        }
        self.flushed = false;
        match self.provide(message, name, out, parties) {
            Provided::Held => Ok(Taken::Held),
            Provided::AsNamed => Ok(self.plain(Kind::Describe, parties)),
            Provided::Numbered(id) => {
                self.push(Entry::forward(Kind::Describe), parties);
                let made = out.make(message.input);
                let frame = Frame::begin(made, tag::DESCRIBE);
                made.push(tag::TARGET_STATEMENT);
                ServerName::Numbered(id).write(made);
                frame.end(made);
                Ok(Taken::Swallowed)
            }
            Provided::Refused => Ok(Taken::Swallowed),
        }
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
            close_statement(ServerName::Numbered(id), out.make(message.input));
        }
        Ok(Taken::Swallowed)
    }

    /// Sees to it that the server connection has the statement a client names.
    fn provide(
        &mut self,
        message: &Message<'_>,
        name: &[u8],
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Provided {
        if name.is_empty() {
            return self.provide_unnamed(message, out, parties);
        }
        let known = parties
            .client
            .statements
            .named(name)
            .map(|statement| statement.id);
        if parties.server.pipeline.is_unsettled(name, known) {
            return Provided::Held;
        }
        let Some(statement) = parties.client.statements.named(name) else {
            let text = format!(
                "prepared statement \"{}\" does not exist",
                String::from_utf8_lossy(name)
            );
            self.refuse_in_place(
                message,
                Report::error(SqlState::INVALID_STATEMENT_NAME, text),
                out,
                parties,
            );
            return Provided::Refused;
        };
        let statement = Arc::clone(statement);
        if parties.server.statements.touch(statement.id) {
            return Provided::Numbered(statement.id);
        }
        self.make_room(statement.id, message, out, parties);
        statement.parse(ServerName::Numbered(statement.id), out.make(message.input));
        parties.server.statements.insert(statement.id);
        self.tally.server_parses += 1;
        let server_undo = ServerUndo::Prepared(statement.id);
        self.push(
            Entry {
                server_undo,
                ..Entry::skip(Kind::Parse)
            },
            parties,
        );
        Provided::Numbered(statement.id)
    }

    fn provide_unnamed(
        &mut self,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Provided {
        if parties.server.pipeline.is_unnamed_unsettled() {
            return Provided::Held;
        }
        let Some(statement) = &parties.client.statements.unnamed else {
            let report = Report::error(
                SqlState::INVALID_STATEMENT_NAME,
                "unnamed prepared statement does not exist",
            );
            self.refuse_in_place(message, report, out, parties);
            return Provided::Refused;
        };
        if parties.server.statements.unnamed != Some(statement.id) {
            let server_undo = ServerUndo::Unnamed(parties.server.statements.unnamed);
            parties.server.statements.unnamed = Some(statement.id);
            statement.parse(ServerName::Unnamed, out.make(message.input));
            self.tally.server_parses += 1;
            self.push(
                Entry {
                    server_undo,
                    ..Entry::skip(Kind::Parse)
                },
                parties,
            );
        }
        Provided::AsNamed
    }

    /// What the statement of a portal may do, the portal may do.
    fn on_bound(&mut self, portal: &[u8], name: &[u8], parties: &mut Parties<'_>) {
        self.tally.binds += 1;
        let statements = &parties.client.statements;
        let statement = if name.is_empty() {
            statements.unnamed.as_ref()
        } else {
            statements.named(name)
        };
        let Some(statement) = statement else { return };
        let suspects = &parties.server.suspects;
        let found = match statement.text() {
            Some(text) if !suspects.is_empty() => suspects.find(text),
            _ => None,
        };
        if statement.effects.are_none() && found.is_none() {
            if self.forgetting.as_deref() == Some(portal) {
                self.forgetting = None;
            }
            return;
        }
        let statement = Arc::clone(statement);
        if let Some(found) = found {
            self.note(&found, parties.client);
        }
        self.note(&statement.effects, parties.client);
        if statement.effects.settings >= SettingEffect::Reset {
            self.await_reset(parties);
        }
        if statement.effects.names == NameEffect::Forgets {
            self.forgetting = Some(portal.into());
        } else if self.forgetting.as_deref() == Some(portal) {
            self.forgetting = None;
        }
    }

    /// Closes statements that the server connection has had longest, so that one more fits.
    fn make_room(&mut self, id: u64, message: &Message<'_>, out: &mut Outbox, parties: &mut Parties<'_>) {
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
            close_statement(ServerName::Numbered(id), out.make(message.input));
            self.push(Entry::skip(Kind::Close), parties);
        }
    }

    fn close(&mut self, id: u64, message: &Message<'_>, out: &mut Outbox, parties: &mut Parties<'_>) {
        parties.server.statements.remove(id);
        close_statement(ServerName::Numbered(id), out.make(message.input));
        let entry = Entry {
            server_undo: ServerUndo::Closed(id),
            ..Entry::skip(Kind::Close)
        };
        self.push(entry, parties);
    }

    /// An error that PostgreSQL would raise here, but that only we can know of. The server is made to fail at this place, so
    /// that its transaction and everything behind in the pipeline fare as they should; its words are replaced by ours.
    fn refuse_in_place(
        &mut self,
        message: &Message<'_>,
        report: Report,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        let made = out.make(message.input);
        let frame = Frame::begin(made, tag::DESCRIBE);
        made.push(tag::TARGET_STATEMENT);
        ServerName::Nobody.write(made);
        frame.end(made);
        let answer = Answer::Replace(Box::new(report));
        self.push(
            Entry {
                answer,
                ..Entry::forward(Kind::Describe)
            },
            parties,
        );
    }
}

/// Where the statement that a client names is to be found on the server.
enum Provided {
    /// Under the client's own (empty) name.
    AsNamed,
    Numbered(u64),
    /// It does not exist; the error is on its way.
    Refused,
    /// Whether it exists is not known before answers come.
    Held,
}

/// Writes the head of a `Bind` or `Parse` whose statement has another name; `rest` bytes of body follow as they came.
fn renamed_head(tag: u8, portal: &[u8], id: u64, rest: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[tag, 0, 0, 0, 0]);
    if tag == tag::BIND {
        write::cstr(out, portal);
    }
    ServerName::Numbered(id).write(out);
    let len = u32::try_from(out.len() - start - 1 + rest).unwrap_or(u32::MAX);
    if let Some(word) = out.get_mut(start + 1..start + HEAD_LEN) {
        word.copy_from_slice(&len.to_be_bytes());
    }
}

fn close_statement(name: ServerName, out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag::CLOSE);
    out.push(tag::TARGET_STATEMENT);
    name.write(out);
    frame.end(out);
}

/// Why a name cannot be given, if it cannot.
fn refusal(name: &[u8], parties: &Parties<'_>) -> Option<Report> {
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

/// What `Describe` and `Close` aim at.
fn target(body: &[u8]) -> Option<(u8, &[u8])> {
    let (target, rest) = body.split_first()?;
    Some((*target, split_cstr(rest)?.0))
}

fn bad_message() -> SessionError {
    SessionError::Client(Report::fatal(
        SqlState::PROTOCOL_VIOLATION,
        "invalid message format",
    ))
}

/// A statement up to this length (of its `Parse` body) is kept, so that it can be prepared on another server connection.
const STATEMENT_LEN_MAX: usize = 256 * 1024;
/// Names in front of a message that is cut: portal and statement. PostgreSQL itself uses 63 bytes of each.
const NAME_LEN_MAX: usize = 8 * 1024;
/// Statements one client may name.
const CLIENT_STATEMENTS_MAX: usize = 10_000;
