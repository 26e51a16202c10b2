//! Simple queries that name prepared statements.

use crate::protocol::write::{self, Frame};
use crate::protocol::{Report, tag};
use crate::session::client::Batch;
use crate::session::outbox::Outbox;
use crate::session::pipeline::{
    Answer, ClientUndo, Entry, Kind, Move, Moves, QueryUndo, Renaming, SEARCHED_MAX, ServerUndo,
};
use crate::session::screen::{NameEffect, PinReason, screen_followed};
use crate::session::sql_names::{self, Mention, Verb};
use crate::session::statement::{SERVER_NAME_PREFIX, ServerName, Statement};

use super::copy::Copy;
use super::meaning::{DEALLOCATE_TAG, NOTHING, PREPARE_TAG, nested};
use super::prepared::{STATEMENT_LEN_MAX, refusal, unknown_name};
use super::requests::{Message, Taken, forget_unnamed};
use super::{Flow, Parties, Stakes};

impl Flow {
    /// A simple query, if it names prepared statements and can be followed.
    pub(super) fn on_named_query(
        &mut self,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Option<Taken> {
        let text = message.body;
        let is_copying = matches!(self.copy, Copy::In | Copy::Both);
        if self.batch == Batch::Skipping || is_copying || text.len() > STATEMENT_LEN_MAX {
            return None;
        }
        if let Some(mention) = sql_names::only(text) {
            let taken = self.await_answers(message, std::slice::from_ref(&mention), out, parties);
            return Some(taken.unwrap_or_else(|| self.on_mention(&mention, message, out, parties)));
        }
        if parties.client.statements.is_empty() && !parties.server.pipeline.has_changes() {
            return None;
        }
        let mentions = sql_names::all(text)?;
        let taken = self.await_answers(message, &mentions, out, parties);
        Some(taken.unwrap_or_else(|| self.on_mentions(&mentions, message, out, parties)))
    }

    /// What a name means must be known; and nothing that stands before the query may make the server skip it, up to a Sync of
    /// ours.
    fn await_answers(
        &mut self,
        message: &Message<'_>,
        mentions: &[Mention],
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Option<Taken> {
        let pipeline = &parties.server.pipeline;
        if pipeline.len() > SEARCHED_MAX || pipeline.has_open_batch() {
            if self.batch == Batch::Open {
                self.flush(message.input, out);
            }
            return Some(Taken::Held);
        }
        let is_unsettled = |mention: &Mention| {
            let name = mention.name(message.body);
            let known = parties.client.statements.named(&name);
            pipeline.is_unsettled(&name, known.map(|known| known.id))
        };
        mentions.iter().any(is_unsettled).then_some(Taken::Held)
    }

    fn on_mention(
        &mut self,
        mention: &Mention,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Taken {
        let name = mention.name(message.body);
        let known = self.known(&name, parties);
        match (mention.verb, known) {
            (Verb::Prepare, _) => self.on_prepare(&name, mention, message, out, parties),
            (Verb::Execute, Some(known)) => {
                if let Some(report) = obstacle(&known) {
                    return self.refuse_query(message, report, out, parties);
                }
                self.tell_of_cut_ahead(mention, message, out, parties);
                self.ready_ahead(&known, message, out, parties);
                self.on_effects(&screen_followed(message.body), parties);
                self.on_deferred(&known.effects, parties);
                self.stakes = Stakes::Commit;
                let name = ServerName::Numbered(known.id);
                let moved = renamed_query(message, &mention.name, name, out);
                let mut entry = Entry {
                    answer: Answer::Moved(Moves::One(moved)),
                    ..Entry::forward(Kind::Query)
                };
                forget_unnamed(&mut entry, parties);
                self.push_named(entry, message, out, parties)
            }
            (Verb::Deallocate, Some(_)) => {
                self.tell_of_cut_ahead(mention, message, out, parties);
                let previous = parties.client.statements.replace(&name, None);
                let entry = Entry {
                    answer: Answer::Complete(DEALLOCATE_TAG),
                    client_undo: query_undo(vec![Renaming::new(&name, previous)], parties),
                    ..Entry::forward(Kind::Query)
                };
                query(NOTHING, out.make(message.input));
                self.push_named(entry, message, out, parties)
            }
            (Verb::Execute | Verb::Deallocate, None) if name.starts_with(SERVER_NAME_PREFIX) => {
                self.refuse_query(message, unknown_name(&name), out, parties)
            }
            // The server says that it does not exist, or has it from a text of several statements.
            (Verb::Execute | Verb::Deallocate, None) => {
                self.on_effects(&screen_followed(message.body), parties);
                let mut entry = Entry::forward(Kind::Query);
                forget_unnamed(&mut entry, parties);
                self.push_call(entry, parties);
                Taken::Kept
            }
        }
    }

    fn on_prepare(
        &mut self,
        name: &[u8],
        mention: &Mention,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Taken {
        self.stand_on_settings(parties);
        let start = mention.body.start - mention.name.end;
        let statement = parties.cache.intern_sql(mention.definition(message.body), start);
        let statement = self.as_read(statement, name, parties);
        let id = statement.id;
        let is_unsettled = parties.server.pipeline.is_unsettled(b"", Some(id));
        if is_unsettled || self.waits_to_read(&statement, parties) {
            return Taken::Held;
        }
        self.tally.client_parses += 1;
        self.tell_of_cut_ahead(mention, message, out, parties);
        if let Some(report) = refusal(name, parties) {
            if parties.server.statements.touch(id) {
                return self.refuse_query(message, report, out, parties);
            }
            return self.refuse_prepare(id, mention, message, report, out, parties);
        }
        let previous = parties.client.statements.replace(name, Some(statement.into()));
        let client_undo = query_undo(vec![Renaming::new(name, previous)], parties);
        if parties.server.statements.touch(id) {
            query(NOTHING, out.make(message.input));
            let entry = Entry {
                answer: Answer::Complete(PREPARE_TAG),
                client_undo,
                ..Entry::forward(Kind::Query)
            };
            return self.push_named(entry, message, out, parties);
        }
        let before = (parties.server.pipeline.len(), self.batch);
        self.make_room(id, message, out, parties);
        self.end_ahead(before, message, out, parties);
        parties.server.statements.insert(id);
        self.tally.server_parses += 1;
        let moved = renamed_query(message, &mention.name, ServerName::Numbered(id), out);
        let entry = Entry {
            answer: Answer::Moved(Moves::One(moved)),
            client_undo,
            server_undo: ServerUndo::Prepared(id),
            ..Entry::forward(Kind::Query)
        };
        self.push_named(entry, message, out, parties)
    }

    /// A text of several statements: the names that the client has are replaced, one after another.
    fn on_mentions(
        &mut self,
        mentions: &[Mention],
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Taken {
        let text = message.body;
        let known = |flow: &Self, mention: &Mention, parties: &mut Parties<'_>| {
            let named = (mention.verb != Verb::Prepare).then(|| flow.known(&mention.name(text), parties));
            named.flatten()
        };
        for mention in mentions {
            let found = known(self, mention, parties).and_then(|known| obstacle(&known));
            if let Some(report) = found {
                return self.refuse_query(message, report, out, parties);
            }
        }
        let effects = screen_followed(text);
        self.on_effects(&effects, parties);
        self.stakes = Stakes::Commit;
        let mut text_out = Renamed::default();
        let mut renamings = Vec::new();
        for mention in mentions {
            let name = mention.name(text);
            let Some(known) = known(self, mention, parties) else {
                if mention.verb != Verb::Prepare && name.starts_with(SERVER_NAME_PREFIX) {
                    text_out.replace(text, mention, ServerName::Nobody);
                } else {
                    // The server has it, or will have it, under this name.
                    parties.client.pins.insert(PinReason::Prepare);
                }
                // It takes its turn among the names that are known.
                let is_deallocated = mention.verb == Verb::Deallocate;
                renamings.extend(is_deallocated.then(|| Renaming::new(&name, None)));
                continue;
            };
            self.tell_of_cut_ahead(mention, message, out, parties);
            self.ready_ahead(&known, message, out, parties);
            text_out.replace(text, mention, ServerName::Numbered(known.id));
            self.on_deferred(&known.effects, parties);
            if mention.verb == Verb::Deallocate {
                parties.server.statements.remove(known.id);
                let previous = parties.client.statements.replace(&name, None);
                renamings.push(Renaming::new(&name, previous));
            }
        }
        let rest = text.get(text_out.taken..).unwrap_or_default();
        text_out.text.extend_from_slice(rest);
        query(&text_out.text, out.make(message.input));
        let mut entry = Entry {
            answer: Answer::Moved(Moves::Many(text_out.moves.into())),
            ..Entry::forward(Kind::Query)
        };
        if renamings.is_empty() {
            forget_unnamed(&mut entry, parties);
        } else {
            entry.client_undo = query_undo(renamings, parties);
        }
        if effects.names != NameEffect::None || matches!(entry.client_undo, ClientUndo::Query(_)) {
            entry.server_undo = ServerUndo::Unknown;
        }
        self.push_named(entry, message, out, parties)
    }

    /// A query whose names were replaced. In an open batch a Sync stands behind it, for the case that what was put before it
    /// fails.
    fn push_named(
        &mut self,
        entry: Entry,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Taken {
        let is_open = self.batch == Batch::Open;
        self.push_call(entry, parties);
        if is_open {
            write::bare(out.make(message.input), tag::SYNC);
            self.push(Entry::skip(Kind::Sync), parties);
        }
        Taken::Swallowed
    }

    /// Sees to it that the server connection has a statement before the query comes.
    fn ready_ahead(
        &mut self,
        statement: &Statement,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        let before = (parties.server.pipeline.len(), self.batch);
        self.ready(statement, message, out, parties);
        self.end_ahead(before, message, out, parties);
    }

    fn tell_of_cut_ahead(
        &mut self,
        mention: &Mention,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        let before = (parties.server.pipeline.len(), self.batch);
        self.tell_of_cut(mention, message.body, message, out, parties);
        self.end_ahead(before, message, out, parties);
    }

    /// What was put before a query, since the pipeline was so long, is a batch of its own; unless the client has one open, which
    /// it joins.
    fn end_ahead(
        &mut self,
        (before, batch): (usize, Batch),
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        if parties.server.pipeline.len() == before || batch == Batch::Open {
            return;
        }
        write::bare(out.make(message.input), tag::SYNC);
        self.push(Entry::skip(Kind::Sync), parties);
        parties.server.pipeline.put_ahead(before);
        self.batch = Batch::None;
    }

    /// An error that PostgreSQL would raise here, but that only we can know of: the server is made to fail in its place.
    pub(super) fn refuse_query(
        &mut self,
        message: &Message<'_>,
        report: Report,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Taken {
        query(FAILING, out.make(message.input));
        let mut entry = Entry {
            answer: Answer::Replace(Box::new(report)),
            ..Entry::forward(Kind::Query)
        };
        forget_unnamed(&mut entry, parties);
        self.push_named(entry, message, out, parties)
    }
}

/// A text in which names are being replaced.
#[derive(Default)]
struct Renamed {
    text: Vec<u8>,
    /// How much of the original stands in it.
    taken: usize,
    moves: Vec<Move>,
}

impl Renamed {
    fn replace(&mut self, original: &[u8], mention: &Mention, name: ServerName) {
        let before = original.get(self.taken..mention.name.start).unwrap_or_default();
        self.text.extend_from_slice(before);
        let mut moved = Move::of(original, &mention.name, name);
        moved.start = super::meaning::characters(&self.text);
        self.moves.push(moved);
        name.write_bare(&mut self.text);
        self.taken = mention.name.end;
    }
}

/// Why a query cannot run a statement, if it cannot.
fn obstacle(statement: &Statement) -> Option<Report> {
    statement.mention().is_some().then(nested)
}

fn query_undo(renamings: Vec<Renaming>, parties: &mut Parties<'_>) -> ClientUndo {
    parties.server.statements.unnamed = None;
    ClientUndo::Query(Box::new(QueryUndo {
        renamings,
        unnamed: parties.client.statements.unnamed.take(),
    }))
}

fn renamed_query(
    message: &Message<'_>,
    range: &std::ops::Range<usize>,
    name: ServerName,
    out: &mut Outbox,
) -> Move {
    let text = message.body;
    let made = out.make(message.input);
    let frame = Frame::begin(made, tag::QUERY);
    made.extend_from_slice(text.get(..range.start).unwrap_or_default());
    name.write_bare(made);
    write::cstr(made, text.get(range.end..).unwrap_or_default());
    frame.end(made);
    Move::of(text, range, name)
}

fn query(text: &[u8], out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag::QUERY);
    write::cstr(out, text);
    frame.end(out);
}

/// Fails, since no statement has this name.
const FAILING: &[u8] = b"EXECUTE pgweir_none";
