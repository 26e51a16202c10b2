//! Errors that PostgreSQL would raise, and that only we can know of; and errors that name what only we know of.

use std::sync::Arc;

use crate::protocol::body::{ErrorFields, error_fields};
use crate::protocol::write::{self, Frame};
use crate::protocol::{Report, tag};
use crate::session::outbox::Outbox;
use crate::session::pipeline::{Answer, Entry, Kind, ServerUndo};
use crate::session::statement::{SERVER_NAME_PREFIX, ServerName, Statement};

use super::requests::Message;
use super::{Flow, Parties, answers};

impl Flow {
    /// The server is made to fail at this place, so that its transaction and everything behind in the pipeline fare as they
    /// should; its words are replaced by ours.
    pub(super) fn refuse_in_place(
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

    /// A name cannot be given. PostgreSQL looks at the text first (`exec_parse_message` in `src/backend/tcop/postgres.c`), so
    /// it gets that as the unnamed statement: an error in it, or of a failed block, is what the client is told then.
    pub(super) fn refuse_name(
        &mut self,
        message: &Message<'_>,
        statement: &Arc<Statement>,
        report: Report,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        let unnamed = parties.client.statements.unnamed.as_ref();
        // What lives on this connection alone is not given up for it.
        let is_free = unnamed.is_none_or(|unnamed| unnamed.is_movable());
        if statement.is_movable() && is_free {
            let server_undo = ServerUndo::Unnamed(parties.server.statements.unnamed.replace(statement.id));
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
        self.refuse_in_place(message, report, out, parties);
    }

    /// Puts the client's own name for a statement where an error has ours. False: it has none.
    pub(super) fn rename_in_error(
        message: &answers::Message<'_>,
        input: &[u8],
        out: &mut Outbox,
        parties: &Parties<'_>,
    ) -> bool {
        if message.body.len() < message.head.body {
            return false;
        }
        let text = ErrorFields::read(message.body).message;
        let Some(found) = numbered(text) else {
            return false;
        };
        let Some(name) = parties.client.statements.name_of(found.id) else {
            return false;
        };
        let out = out.make(input);
        let frame = Frame::begin(out, tag::ERROR_RESPONSE);
        for (kind, value) in error_fields(message.body) {
            out.push(kind);
            if value == text {
                out.extend_from_slice(found.before);
                out.extend_from_slice(name);
                write::cstr(out, found.behind);
            } else {
                write::cstr(out, value);
            }
        }
        out.push(0);
        frame.end(out);
        true
    }
}

/// A text around our name of a statement.
struct Numbered<'a> {
    before: &'a [u8],
    id: u64,
    behind: &'a [u8],
}

fn numbered(text: &[u8]) -> Option<Numbered<'_>> {
    let at = memchr::memmem::find(text, SERVER_NAME_PREFIX)?;
    let (before, rest) = text.split_at_checked(at)?;
    let digits = rest.get(SERVER_NAME_PREFIX.len()..)?;
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let len = digits
        .iter()
        .position(|byte| !is_digit(byte))
        .unwrap_or(digits.len());
    let (digits, behind) = digits.split_at_checked(len)?;
    let id = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some(Numbered { before, id, behind })
}
