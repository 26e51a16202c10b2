//! Errors that PostgreSQL would raise, and that only we can know of.

use std::sync::Arc;

use crate::protocol::write::{self, Frame};
use crate::protocol::{Report, tag};
use crate::session::client::Batch;
use crate::session::outbox::Outbox;
use crate::session::pipeline::{Answer, Entry, Kind, Move, Moves, ServerUndo};
use crate::session::sql_names::Mention;
use crate::session::statement::{ServerName, Statement};

use super::requests::{Message, Taken, forget_unnamed};
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

    /// The same of a `PREPARE` by SQL: the server prepares the statement under a name of ours, which tells what is wrong with it.
    /// What it has already is right.
    pub(super) fn look_at_prepare(
        &mut self,
        id: u64,
        portal: &[u8],
        moved: Move,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        self.make_room(id, message, out, parties);
        parties.server.statements.insert(id);
        self.tally.server_parses += 1;
        execute(portal, out.make(message.input));
        let entry = Entry {
            answer: Answer::Looked(Moves::One(moved)),
            server_undo: ServerUndo::Prepared(id),
            ..Entry::forward(Kind::Execute)
        };
        self.push(entry, parties);
    }

    /// The same in a simple query, which goes as an extended one for it.
    pub(super) fn refuse_prepare(
        &mut self,
        id: u64,
        mention: &Mention,
        message: &Message<'_>,
        report: Report,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Taken {
        let name = ServerName::Numbered(id);
        let moved = Move::of(message.body, &mention.name, name);
        let made = out.make(message.input);
        let frame = Frame::begin(made, tag::PARSE);
        made.push(0);
        let text = message.body;
        made.extend_from_slice(text.get(..mention.name.start).unwrap_or_default());
        name.write_bare(made);
        // Its zero came with it.
        made.extend_from_slice(text.get(mention.name.end..).unwrap_or_default());
        made.extend_from_slice(&[0; 2]);
        frame.end(made);
        let frame = Frame::begin(made, tag::BIND);
        made.extend_from_slice(&[0; 8]);
        frame.end(made);
        let mut parse = Entry {
            answer: Answer::Looked(Moves::One(moved)),
            ..Entry::forward(Kind::Parse)
        };
        forget_unnamed(&mut parse, parties);
        self.push(parse, parties);
        self.push(Entry::skip(Kind::Bind), parties);
        self.look_at_prepare(id, b"", moved, message, out, parties);
        self.refuse_in_place(message, report, out, parties);
        write::bare(out.make(message.input), tag::SYNC);
        self.push(Entry::forward(Kind::Sync), parties);
        self.batch = Batch::None;
        self.flushed = true;
        Taken::Swallowed
    }

    /// Names that are too long are cut, and the server says so when it reads them. Of one that it is not given it is told in
    /// a text of ours, which is never carried out. It is one that a failed block reads as well.
    pub(super) fn tell_of_cut(
        &mut self,
        mention: &Mention,
        text: &[u8],
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        if !mention.is_cut(text) {
            return;
        }
        let made = out.make(message.input);
        ServerName::Aside.close(made);
        let frame = Frame::begin(made, tag::PARSE);
        ServerName::Aside.write(made);
        made.extend_from_slice(b"ROLLBACK TO ");
        write::cstr(made, text.get(mention.name.clone()).unwrap_or_default());
        made.extend_from_slice(&[0; 2]);
        frame.end(made);
        ServerName::Aside.close(made);
        let parse = Entry {
            answer: Answer::Notices,
            ..Entry::forward(Kind::Parse)
        };
        self.push(Entry::skip(Kind::Close), parties);
        self.push(parse, parties);
        self.push(Entry::skip(Kind::Close), parties);
    }

    /// The same of a statement for which another is sent.
    pub(super) fn tell_of_renamed(
        &mut self,
        statement: &Statement,
        sent: &Statement,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        if sent.id != statement.id
            && let (Some(mention), Some(text)) = (statement.mention(), statement.text())
        {
            self.tell_of_cut(mention, text, message, out, parties);
        }
    }
}

/// Appends an `Execute` of all rows.
fn execute(portal: &[u8], out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag::EXECUTE);
    write::cstr(out, portal);
    out.extend_from_slice(&[0; 4]);
    frame.end(out);
}
