//! What a statement comes to when it is used: the names in its text stand for other statements, each client's own.

use std::sync::Arc;

use crate::protocol::body::split_cstr;
use crate::protocol::write::Frame;
use crate::protocol::{Report, SqlState, TransactionState, tag};
use crate::session::client::Batch;
use crate::session::outbox::Outbox;
use crate::session::pipeline::{Answer, ClientUndo, Entry, Kind, Move, Moves, ServerUndo};
use crate::session::screen::{LiteralEffect, NameEffect, PinReason, Pins};
use crate::session::sql_names::Verb;
use crate::session::statement::{SERVER_NAME_PREFIX, ServerName, Statement, Types};

use super::listening::Heed;
use super::prepared::{refusal, unknown_name};
use super::requests::{Message, Taken};
use super::{Flow, Parties, Stakes, aside};

/// What a statement means now, to this client on this server connection.
#[derive(Debug)]
pub(super) enum Meaning {
    Run(Run),
    /// It hangs on answers that have not come.
    Held,
    Refused(Report),
}

/// What is sent for a statement.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) sent: Arc<Statement>,
    /// What it executes must be on the server as well.
    pub(super) needs: Option<Arc<Statement>>,
    act: Option<Act>,
}

/// What the execution of a portal does to names.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Forgets all, and may reset what its client has started with: that is set behind it.
    Forget {
        restoring: Option<Box<str>>,
    },
    /// Resets that without forgetting names.
    Restore(Box<str>),
    Prepare {
        name: Box<[u8]>,
        statement: Arc<Statement>,
        sends: Sends,
    },
    Deallocate(Box<[u8]>),
    /// Nothing; but a name in its text was replaced.
    Run(Move),
}

/// Whether the server prepares something, or has it already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sends {
    Prepare(Move),
    Nothing,
}

impl Run {
    pub(super) fn itself(statement: &Arc<Statement>) -> Self {
        Self {
            sent: Arc::clone(statement),
            needs: None,
            act: None,
        }
    }

    /// How its errors are put right.
    pub(super) fn answer(&self) -> Answer {
        match self.act {
            Some(
                Act::Run(moved)
                | Act::Prepare {
                    sends: Sends::Prepare(moved),
                    ..
                },
            ) => Answer::Moved(Moves::One(moved)),
            _ => Answer::Forward,
        }
    }
}

impl Flow {
    /// Finds out what a statement means.
    pub(super) fn meaning(&self, statement: &Arc<Statement>, parties: &mut Parties<'_>) -> Meaning {
        let Some(mention) = statement.mention() else {
            return Meaning::Run(Run::itself(statement));
        };
        let Some(text) = statement.text() else {
            return Meaning::Run(Run::itself(statement));
        };
        self.stand_on_settings(parties);
        let name = mention.name(text);
        let known = self.known(&name, parties);
        let id = known.as_ref().map(|known| known.id);
        if parties.server.pipeline.is_unsettled(&name, id) {
            return Meaning::Held;
        }
        let moved = |name: ServerName| Move::of(text, &mention.name, name);
        match (mention.verb, known) {
            (Verb::Prepare, _) => {
                let start = mention.body.start - mention.name.end;
                let prepared = parties.cache.intern_sql(mention.definition(text), start);
                let prepared = self.as_read(prepared, &name, parties);
                let is_unsettled = parties.server.pipeline.is_unsettled(b"", Some(prepared.id));
                if is_unsettled || self.waits_to_read(&prepared, parties) {
                    return Meaning::Held;
                }
                let server_name = ServerName::Numbered(prepared.id);
                let (sent, sends) = if parties.server.statements.touch(prepared.id) {
                    (parties.cache.intern_anywhere(NOTHING_BODY), Sends::Nothing)
                } else {
                    let renamed = parties.cache.renamed(statement, server_name);
                    (renamed, Sends::Prepare(moved(server_name)))
                };
                let act = Act::Prepare {
                    name: (*name).into(),
                    statement: prepared,
                    sends,
                };
                Meaning::Run(Run {
                    sent,
                    needs: None,
                    act: Some(act),
                })
            }
            (Verb::Execute, Some(known)) if known.mention().is_some() => Meaning::Refused(nested()),
            (Verb::Execute, Some(known)) => {
                let server_name = ServerName::Numbered(known.id);
                Meaning::Run(Run {
                    sent: parties.cache.renamed(statement, server_name),
                    needs: Some(known),
                    act: Some(Act::Run(moved(server_name))),
                })
            }
            (Verb::Deallocate, Some(_)) => Meaning::Run(Run {
                sent: parties.cache.intern_anywhere(NOTHING_BODY),
                needs: None,
                act: Some(Act::Deallocate((*name).into())),
            }),
            (Verb::Execute | Verb::Deallocate, None) if name.starts_with(SERVER_NAME_PREFIX) => {
                Meaning::Refused(unknown_name(&name))
            }
            // The server says that it does not exist, or has it from a text of several statements.
            (Verb::Execute | Verb::Deallocate, None) => Meaning::Run(Run::itself(statement)),
        }
    }

    /// Sees to it that the server connection has a statement under its number.
    pub(super) fn ready(
        &mut self,
        statement: &Statement,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        self.ready_as(statement, &Types::default(), message, out, parties);
    }

    /// The same; where it is prepared, it is with these types of its parameters.
    pub(super) fn ready_as(
        &mut self,
        statement: &Statement,
        types: &Types,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        if parties.server.statements.touch(statement.id) {
            return;
        }
        self.make_room(statement.id, message, out, parties);
        parties.server.statements.insert(statement.id);
        self.tally.server_parses += 1;
        let turned = self.turn_reading(statement, message, out, parties);
        self.prepare(statement, types, message, out, parties);
        self.turn_reading_back(turned, message, out, parties);
    }

    fn prepare(
        &mut self,
        statement: &Statement,
        types: &Types,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        let server_undo = ServerUndo::Prepared(statement.id);
        let made = out.make(message.input);
        // SQL names types by words, which may stand for others by now.
        let definition = statement.definition().filter(|_| types.body().is_none());
        let Some(definition) = definition else {
            statement.parse_as(ServerName::Numbered(statement.id), types, made);
            let entry = Entry {
                server_undo,
                ..Entry::skip(Kind::Parse)
            };
            return self.push(entry, parties);
        };
        let sql = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"PREPARE ");
            ServerName::Numbered(statement.id).write_bare(out);
            out.extend_from_slice(definition);
        };
        // Its statement is the unnamed one, its portal is not: the client may be about to execute its own.
        let made = out.make(message.input);
        aside::parse(ServerName::Unnamed, sql, made);
        aside::run(ServerName::Unnamed, made);
        let unnamed = ServerUndo::Unnamed(parties.server.statements.unnamed.take());
        let entry = Entry {
            server_undo: unnamed,
            ..Entry::skip(Kind::Parse)
        };
        self.push(entry, parties);
        self.push(Entry::skip(Kind::Bind), parties);
        let entry = Entry {
            server_undo,
            ..Entry::skip(Kind::Execute)
        };
        self.push(entry, parties);
        self.push(Entry::skip(Kind::Close), parties);
    }

    /// What the statement of a portal may do, the portal may do.
    pub(super) fn on_bound(
        &mut self,
        portal: &[u8],
        statement: &Arc<Statement>,
        run: Run,
        parties: &mut Parties<'_>,
    ) {
        self.note_vacated(&statement.effects, statement.text());
        self.note_suspects_of(statement, parties);
        if self.heed_bind(portal, statement) {
            let mut effects = statement.effects.clone();
            effects.pins = effects.pins.without(Pins::of(PinReason::Listen));
            self.on_deferred(&effects, parties);
        } else {
            self.on_deferred(&statement.effects, parties);
        }
        if let Some(needed) = &run.needs {
            self.note_suspects_of(needed, parties);
            self.on_deferred(&needed.effects, parties);
        }
        if let Some(sql) = &mut self.sql {
            sql.acts.retain(|(bound, _)| **bound != *portal);
        }
        // A portal does not outlive its block, in which DISCARD ALL is refused.
        let is_refused = statement.effects.literals != LiteralEffect::None
            && self
                .certain_state(parties)
                .is_some_and(|state| state != TransactionState::Idle);
        let text = statement.text().unwrap_or_default();
        let restoring = Self::restoring(text, &statement.effects, parties);
        let own = match statement.effects.names {
            NameEffect::Forgets if is_refused => None,
            NameEffect::Forgets => Some(Act::Forget { restoring }),
            NameEffect::None | NameEffect::MayForget => restoring.map(Act::Restore),
        };
        if let Some(act) = run.act.or(own) {
            let acts = &mut self.sql.get_or_insert_default().acts;
            if acts.len() >= ACTS_MAX {
                acts.remove(0);
            }
            acts.push((portal.into(), act));
        }
    }

    pub(super) fn on_execute(
        &mut self,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Taken {
        if !message.is_whole() && self.follows() {
            return Taken::Cut;
        }
        if self.heed_execute(message, parties) == Heed::Hold {
            return Taken::Awaited;
        }
        self.flushed = false;
        self.stakes = Stakes::Commit;
        if self.sql.as_ref().is_none_or(|sql| sql.acts.is_empty()) {
            self.push(Entry::forward(Kind::Execute), parties);
            return Taken::Kept;
        }
        if !message.is_whole() {
            return Taken::Cut;
        }
        let portal = split_cstr(message.body).map_or(&b""[..], |(portal, _)| portal);
        let is_run = |(bound, _): &(Box<[u8]>, Act)| **bound == *portal;
        let is_skipped = self.batch == Batch::Skipping;
        let found = self.sql.as_mut().filter(|_| !is_skipped).and_then(|sql| {
            let index = sql.acts.iter().position(is_run)?;
            Some(sql.acts.swap_remove(index))
        });
        let Some((bound, act)) = found else {
            self.push(Entry::forward(Kind::Execute), parties);
            return Taken::Kept;
        };
        let taken = self.act(&act, message, out, parties);
        // A portal that gives or takes a name is run once.
        let is_lasting = matches!(act, Act::Forget { .. } | Act::Restore(_) | Act::Run(_));
        if matches!(taken, Taken::Held) || is_lasting {
            self.sql.get_or_insert_default().acts.push((bound, act));
        }
        taken
    }

    /// Executes a portal that does something about names.
    fn act(
        &mut self,
        act: &Act,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Taken {
        let mut entry = Entry::forward(Kind::Execute);
        match act {
            Act::Forget { .. } => {
                if parties.server.pipeline.is_any_unsettled() {
                    return Taken::Held;
                }
                // If it is carried out, the names are free for what stands behind it; else that is skipped.
                entry.client_undo = ClientUndo::All(parties.client.statements.forget());
                parties.server.statements.clear_except(&[]);
                entry.server_undo = ServerUndo::Unknown;
            }
            Act::Restore(_) => {}
            Act::Run(moved) => entry.answer = Answer::Moved(Moves::One(*moved)),
            Act::Prepare {
                name,
                statement,
                sends,
            } => {
                if let Some(report) = refusal(name, parties) {
                    if let Sends::Prepare(moved) = sends
                        && !parties.server.statements.touch(statement.id)
                    {
                        let portal = split_cstr(message.body).map_or(&b""[..], |(portal, _)| portal);
                        self.look_at_prepare(statement.id, portal, *moved, message, out, parties);
                    }
                    self.refuse_in_place(message, report, out, parties);
                    return Taken::Swallowed;
                }
                self.tally.client_parses += 1;
                let id = statement.id;
                let prepared = Some(Arc::clone(statement).into());
                let previous = parties.client.statements.replace(name, prepared);
                entry.client_undo = ClientUndo::named(name, previous);
                entry.answer = Answer::Complete(PREPARE_TAG);
                if let Sends::Prepare(moved) = sends {
                    entry.answer = Answer::Moved(Moves::One(*moved));
                    // Another portal may have prepared it since this one was bound: then it fails.
                    if !parties.server.statements.touch(id) {
                        self.make_room(id, message, out, parties);
                        parties.server.statements.insert(id);
                        self.tally.server_parses += 1;
                        entry.server_undo = ServerUndo::Prepared(id);
                    }
                }
            }
            Act::Deallocate(name) => {
                let Some(previous) = parties.client.statements.replace(name, None) else {
                    self.refuse_in_place(message, unknown_name(name), out, parties);
                    return Taken::Swallowed;
                };
                entry.client_undo = ClientUndo::named(name, Some(previous));
                entry.answer = Answer::Complete(DEALLOCATE_TAG);
            }
        }
        self.push(entry, parties);
        let (Act::Forget {
            restoring: Some(restoring),
        }
        | Act::Restore(restoring)) = act
        else {
            return Taken::Kept;
        };
        let frame = Frame::begin(out.make(message.input), tag::EXECUTE);
        out.make(message.input).extend_from_slice(message.body);
        frame.end(out.make(message.input));
        self.run_aside(restoring, message, out, parties);
        Taken::Swallowed
    }
}

impl Move {
    /// Of a name in a text that the server is given another name for.
    pub(super) fn of(text: &[u8], range: &std::ops::Range<usize>, name: ServerName) -> Self {
        Self {
            start: characters(text.get(..range.start).unwrap_or_default()),
            old_len: characters(text.get(range.clone()).unwrap_or_default()),
            new_len: u32::try_from(name.len()).unwrap_or(0),
        }
    }
}

/// Characters in a text, as far as it is UTF-8; else its bytes.
pub(super) fn characters(text: &[u8]) -> u32 {
    let count = std::str::from_utf8(text).map_or(text.len(), |text| text.chars().count());
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The error that a name stands for a statement whose text has a name in it.
pub(super) fn nested() -> Report {
    Report::error(
        SqlState::FEATURE_NOT_SUPPORTED,
        "EXECUTE of a statement that names another prepared statement",
    )
    .with_hint("Execute the statement that it names.")
}

/// A statement that does nothing, anywhere: what is sent where the server has nothing to do. A failed block refuses it.
pub(super) const NOTHING: &[u8] = b"UNLISTEN pgweir_none";
const NOTHING_BODY: &[u8] = b"UNLISTEN pgweir_none\0\0\0";
pub(super) const PREPARE_TAG: &str = "PREPARE";
pub(super) const DEALLOCATE_TAG: &str = "DEALLOCATE";
/// Portals bound to statements that do something about names, and not bound to others since: clients have one or a few.
const ACTS_MAX: usize = 64;
