//! From the client to the server.

use std::sync::Arc;

use crate::protocol::body::split_cstr;
use crate::protocol::write::{self, Frame};
use crate::protocol::{HEAD_LEN, Head, Report, SqlState, tag};
use crate::session::error::SessionError;
use crate::session::outbox::Outbox;
use crate::session::pipeline::{Answer, ClientUndo, Entry, Kind, ServerUndo};
use crate::session::screen::screen;
use crate::session::server::Hygiene;
use crate::session::statement::{ServerName, Statement};

use super::copy::Copy;
use super::{Flow, Naming, Next, Parties, Passed, Unsynced};

/// One message from the client, as far as it has come.
struct Message<'a> {
    head: Head,
    /// What of its body has come.
    body: &'a [u8],
    input: &'a [u8],
}

impl Message<'_> {
    fn is_whole(&self) -> bool {
        self.body.len() == self.head.body
    }
}

/// What became of a message.
enum Taken {
    /// It goes on as it came, rest included.
    Kept,
    /// It was dealt with up to this many bytes of its body; the rest goes on as it comes.
    Rewritten(usize),
    /// It was dealt with whole.
    Swallowed,
    /// It must be seen whole, and is cut.
    Cut,
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
        let mut at = self.pass_client_body(input, out);
        let next = loop {
            let rest = input.get(at..).unwrap_or_default();
            let head = Head::read_frontend(rest).map_err(|error| SessionError::client(&error))?;
            let Some(head) = head else { break Next::More };
            if head.tag == tag::TERMINATE {
                break Next::Goodbye;
            }
            if parties.server.pipeline.is_full() {
                break Next::Answers;
            }
            let end = input.len().min(at + head.len());
            let body = input.get(at + HEAD_LEN..end).unwrap_or_default();
            let message = Message { head, body, input };
            let sent = match self.on_message(&message, out, parties)? {
                Taken::Cut => break Next::More,
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
        Ok(Passed { consumed: at, next })
    }

    fn pass_client_body(&mut self, input: &[u8], out: &mut Outbox) -> usize {
        let len = self.client_body.min(input.len());
        if len > 0 {
            out.keep(input, 0..len);
            self.client_body -= len;
        }
        len
    }

    fn on_message(
        &mut self,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Result<Taken, SessionError> {
        let mapped = matches!(self.naming, Naming::Mapped { .. });
        match message.head.tag {
            tag::QUERY => self.on_query(message, parties),
            tag::SYNC => Ok(self.on_sync(parties)),
            tag::FLUSH => {
                self.flushed = true;
                Ok(Taken::Kept)
            }
            tag::COPY_DATA => Ok(Taken::Kept),
            tag::COPY_DONE | tag::COPY_FAIL => Ok(self.on_copy_end(parties)),
            tag::FUNCTION_CALL => {
                self.push_call(Kind::FunctionCall, parties);
                Ok(Taken::Kept)
            }
            tag::PARSE => {
                self.tally.client_parses += 1;
                if mapped {
                    self.on_parse(message, out, parties)
                } else {
                    Ok(self.plain(Kind::Parse, parties))
                }
            }
            tag::BIND => {
                self.tally.binds += 1;
                if mapped {
                    self.on_bind(message, out, parties)
                } else {
                    Ok(self.plain(Kind::Bind, parties))
                }
            }
            tag::DESCRIBE if mapped => self.on_describe(message, out, parties),
            tag::DESCRIBE => Ok(self.plain(Kind::Describe, parties)),
            tag::CLOSE if mapped => self.on_close(message, out, parties),
            tag::CLOSE => Ok(self.plain(Kind::Close, parties)),
            _ => Ok(self.plain(Kind::Execute, parties)),
        }
    }

    /// An extended message that goes on as it came.
    fn plain(&mut self, kind: Kind, parties: &mut Parties<'_>) -> Taken {
        self.flushed = false;
        self.push(Entry::forward(kind), parties);
        Taken::Kept
    }

    /// Records a request, unless the server will pass over it.
    fn push(&mut self, entry: Entry, parties: &mut Parties<'_>) {
        if self.unsynced == Unsynced::Skipping {
            return;
        }
        if entry.kind.is_extended() && !matches!(entry.kind, Kind::Sync | Kind::CopyEnd) {
            self.unsynced = Unsynced::Open;
        }
        parties.server.pipeline.push(entry);
    }

    fn on_query(&mut self, message: &Message<'_>, parties: &mut Parties<'_>) -> Result<Taken, SessionError> {
        if let Naming::Mapped { .. } = self.naming {
            if !message.is_whole() && message.head.body <= SCREENED_LEN_MAX {
                return Ok(Taken::Cut);
            }
            if let Some(reason) = screen(message.body) {
                parties.client.pin = parties.client.pin.or(Some(reason));
            }
            if !message.is_whole() {
                // Not seen whole: it may hide a setting, so nobody else gets the connection as it is.
                parties.server.hygiene = parties.server.hygiene.worsen(Hygiene::Tainted);
            }
            if self.unsynced != Unsynced::Skipping {
                // A simple query destroys the unnamed statement (exec_simple_query in src/backend/tcop/postgres.c).
                parties.client.statements.unnamed = None;
                parties.server.statements.unnamed = None;
            }
        }
        self.push_call(Kind::Query, parties);
        Ok(Taken::Kept)
    }

    /// A request that is answered with a `ReadyForQuery` of its own.
    fn push_call(&mut self, kind: Kind, parties: &mut Parties<'_>) {
        self.push(Entry::forward(kind), parties);
        if self.unsynced == Unsynced::Open {
            self.unsynced = Unsynced::No;
        }
        self.flushed = true;
    }

    fn on_sync(&mut self, parties: &mut Parties<'_>) -> Taken {
        if self.copy == Copy::In {
            // Ignored by the server. A client sends one before it knows of the copy; any other is a muddle we cannot follow.
            Self::condemn(parties.server);
            return Taken::Kept;
        }
        self.unsynced = Unsynced::No;
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

    fn on_parse(
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
        if self.unsynced == Unsynced::Skipping {
            return Ok(Taken::Kept);
        }
        let Some((name, text)) = split_cstr(message.body) else {
            return if is_large && message.body.len() < NAME_LEN_MAX {
                Ok(Taken::Cut)
            } else {
                Err(bad_message())
            };
        };
        if !name.is_empty() && parties.client.statements.named(name).is_some() {
            let name = String::from_utf8_lossy(name);
            let text = format!("prepared statement \"{name}\" already exists");
            self.refuse_in_place(
                message,
                Report::error(SqlState::DUPLICATE_STATEMENT, text),
                out,
                parties,
            );
            return swallowed_whole(message);
        }
        if parties.client.statements.len() >= CLIENT_STATEMENTS_MAX {
            let report = Report::error(SqlState::PROGRAM_LIMIT_EXCEEDED, "too many prepared statements")
                .with_hint("Deallocate the statements that are no longer used.");
            self.refuse_in_place(message, report, out, parties);
            return swallowed_whole(message);
        }
        if let Some(reason) = screen(text) {
            parties.client.pin = parties.client.pin.or(Some(reason));
        }
        let statement = if is_large {
            parties.cache.unkept()
        } else {
            parties.cache.intern(text)
        };
        if name.is_empty() {
            return Ok(self.parse_unnamed(statement, parties));
        }
        let previous = parties
            .client
            .statements
            .replace(name, Some(Arc::clone(&statement)));
        let undo = ClientUndo::Named(Box::new((name.into(), previous)));
        if parties.server.statements.touch(statement.id) {
            self.push(
                Entry {
                    client_undo: undo,
                    ..Entry::fake(Kind::Parse)
                },
                parties,
            );
            return Ok(Taken::Swallowed);
        }
        self.make_room(message, out, parties);
        parties.server.statements.insert(statement.id);
        self.tally.server_parses += 1;
        let server_undo = ServerUndo::Prepared(statement.id);
        self.push(
            Entry {
                client_undo: undo,
                server_undo,
                ..Entry::forward(Kind::Parse)
            },
            parties,
        );
        let cut = name.len() + 1;
        let rest = message.head.body - cut;
        renamed_head(tag::PARSE, &[], statement.id, rest, out.make(message.input));
        Ok(Taken::Rewritten(cut))
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

    fn on_bind(
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
        if self.unsynced == Unsynced::Skipping {
            return Ok(Taken::Kept);
        }
        let found = self.provide(message, name, out, parties);
        match found {
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
            Provided::Refused => Ok(swallowed_or_skipped(message, out)),
        }
    }

    fn on_describe(
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
        if target != tag::TARGET_STATEMENT || self.unsynced == Unsynced::Skipping {
            return Ok(self.plain(Kind::Describe, parties));
        }
        self.flushed = false;
        match self.provide(message, name, out, parties) {
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

    fn on_close(
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
        if target != tag::TARGET_STATEMENT || self.unsynced == Unsynced::Skipping {
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
        let Some(statement) = parties.client.statements.replace(name, None) else {
            // Closing what does not exist is no error; the server is asked, so that the answer keeps its place.
            out.make(message.input);
            self.push(Entry::fake(Kind::Close), parties);
            return Ok(Taken::Swallowed);
        };
        let is_movable = statement.is_movable();
        let id = statement.id;
        let client_undo = ClientUndo::Named(Box::new((name.into(), Some(statement))));
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
        if parties.server.statements.touch(statement.id) {
            return Provided::Numbered(statement.id);
        }
        let statement = Arc::clone(statement);
        self.make_room(message, out, parties);
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

    /// Closes statements that the server connection has had longest, so that one more fits.
    fn make_room(&mut self, message: &Message<'_>, out: &mut Outbox, parties: &mut Parties<'_>) {
        let Naming::Mapped { max } = self.naming else {
            return;
        };
        let room = max.saturating_sub(1);
        while let Some(id) = parties.server.statements.surplus(room, self.batch) {
            parties.server.statements.remove(id);
            close_statement(ServerName::Numbered(id), out.make(message.input));
            self.push(
                Entry {
                    server_undo: ServerUndo::Closed(id),
                    ..Entry::skip(Kind::Close)
                },
                parties,
            );
        }
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

/// What `Describe` and `Close` aim at.
fn target(body: &[u8]) -> Option<(u8, &[u8])> {
    let (target, rest) = body.split_first()?;
    Some((*target, split_cstr(rest)?.0))
}

/// A refused message that has come whole.
fn swallowed_whole(message: &Message<'_>) -> Result<Taken, SessionError> {
    if message.is_whole() {
        return Ok(Taken::Swallowed);
    }
    Err(SessionError::Client(
        Report::fatal(
            SqlState::PROGRAM_LIMIT_EXCEEDED,
            "a statement of this size cannot be refused by itself",
        )
        .with_hint("Close the prepared statement before preparing it again."),
    ))
}

/// A refused `Bind`: its rest, if it is cut, goes to the server as the body of a message that the server will skip.
fn swallowed_or_skipped(message: &Message<'_>, out: &mut Outbox) -> Taken {
    if message.is_whole() {
        return Taken::Swallowed;
    }
    out.make(message.input);
    Taken::Kept
}

fn bad_message() -> SessionError {
    SessionError::Client(Report::fatal(
        SqlState::PROTOCOL_VIOLATION,
        "invalid message format",
    ))
}

/// A simple query up to this length is looked at whole; of a longer one what came first.
const SCREENED_LEN_MAX: usize = 16 * 1024;
/// A statement up to this length (of its `Parse` body) is kept, so that it can be prepared on another server connection.
const STATEMENT_LEN_MAX: usize = 256 * 1024;
/// Names in front of a message that is cut: portal and statement. PostgreSQL itself uses 63 bytes of each.
const NAME_LEN_MAX: usize = 8 * 1024;
/// Statements one client may name.
const CLIENT_STATEMENTS_MAX: usize = 10_000;
