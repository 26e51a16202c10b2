//! Errors that PostgreSQL would raise, and that only we can know of.

use std::sync::Arc;

use crate::protocol::write::Frame;
use crate::protocol::{Report, tag};
use crate::session::outbox::Outbox;
use crate::session::pipeline::{Answer, Entry, Kind, ServerUndo};
use crate::session::statement::{ServerName, Statement};

use super::requests::Message;
use super::{Flow, Parties};

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
        if statement.is_kept() {
            let made = out.make(message.input);
            let (name, server_undo) = if is_free {
                let unnamed = parties.server.statements.replace_unnamed(Some(statement.id));
                (ServerName::Unnamed, ServerUndo::Unnamed(unnamed))
            } else {
                ServerName::Aside.close(made);
                self.push(Entry::skip(Kind::Close), parties);
                (ServerName::Aside, ServerUndo::None)
            };
            statement.parse(name, made);
            self.tally.server_parses += 1;
            let entry = Entry {
                server_undo,
                ..Entry::skip(Kind::Parse)
            };
            self.push(entry, parties);
        }
        self.refuse_in_place(message, report, out, parties);
    }
}
