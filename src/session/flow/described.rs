//! What clients were told of their statements, and whether that is still so.
//!
//! PostgreSQL refuses a prepared statement whose rows are others than they were when it was prepared, and keeps the types that
//! it has found for its parameters. A statement that is prepared anew on another server connection would be carried out, its
//! client read the rows by the old description, and the server the values by other types. So it is described as well, before the
//! client's own message goes on, and compared; where the types are others, it is prepared once more with those of old.

use crate::protocol::report::Raiser;
use crate::protocol::write::Frame;
use crate::protocol::{Report, SqlState, TransactionState, tag};
use crate::session::client::Batch;
use crate::session::error::SessionError;
use crate::session::outbox::Outbox;
use crate::session::pipeline::{Answer, Described, Entry, Kind, Slot};
use crate::session::statement::{Description, Named, ServerName, TYPES_LEN_MAX, Told, Types};

use super::answers::Verdict;
use super::prepared::{Provided, bad_message, target};
use super::requests::{Message, Taken};
use super::{Flow, Parties};

/// Whether the statement of the message that stands next was prepared anew, to see what it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Check {
    #[default]
    None,
    Asked,
    /// Its parameters are of other types than its client was told: it must be prepared with those.
    OtherTypes,
    /// That was done.
    AskedAgain,
    /// It is what its client was told, or too much to be compared.
    Same,
    Others,
}

/// What a statement is to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// What it was told, if it has asked.
    AsTold,
    /// Another.
    Stale,
    /// The server is being asked.
    Asked,
}

impl Flow {
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
        let found = match self.provide(message, name, out, parties) {
            Provided::Held => return Ok(Taken::Held),
            Provided::Refused => return Ok(Taken::Swallowed),
            Provided::Foreign => return Ok(self.plain(Kind::Describe, parties)),
            Provided::Found(found) => found,
        };
        let is_itself = found.run.sent.id == found.statement.id;
        let answer = match slot(name, parties).filter(|_| is_itself) {
            Some(slot) => Answer::Told(Described {
                id: found.statement.id,
                slot,
            }),
            // What it names may be another statement the next time.
            None => found.run.answer(),
        };
        let entry = Entry {
            answer,
            ..Entry::forward(Kind::Describe)
        };
        self.push(entry, parties);
        if found.name == ServerName::Unnamed {
            return Ok(Taken::Kept);
        }
        describe(found.name, message, out);
        Ok(Taken::Swallowed)
    }

    /// Finds out whether a statement is what its client was told. Where the server connection does not have it as it was told,
    /// it is prepared anew there, and the message waits for its description: what is refused must not be carried out.
    pub(super) fn standing(
        &mut self,
        known: &Named,
        name: &[u8],
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Standing {
        let id = known.id;
        let Some(told) = known.told.as_ref().filter(|_| known.is_movable()) else {
            return Standing::AsTold;
        };
        let server = &*parties.server;
        if server.transaction == TransactionState::Failed && server.pipeline.is_empty() {
            // It refuses the message whatever it is about.
            return Standing::AsTold;
        }
        let statements = &server.statements;
        let is_here = if name.is_empty() {
            statements.unnamed_description(id)
        } else {
            statements.description(id)
        };
        let types = match self.check {
            Check::None if is_here == Some(told.description) => return Standing::AsTold,
            // As it would be found now: what is prepared on this connection serves others too.
            Check::None => Types::default(),
            Check::Asked | Check::AskedAgain => return Standing::Asked,
            Check::OtherTypes => {
                self.note_stale(known, parties);
                told.types.clone()
            }
            Check::Same | Check::Others => {
                let is_same = std::mem::take(&mut self.check) == Check::Same;
                return if is_same {
                    Standing::AsTold
                } else {
                    Standing::Stale
                };
            }
        };
        let Some(slot) = slot(name, parties) else {
            return Standing::AsTold;
        };
        self.ask(known, slot, &types, message, out, parties);
        Standing::Asked
    }

    /// Prepares a statement anew, with these types of parameters if there are any, and asks what it is.
    fn ask(
        &mut self,
        known: &Named,
        slot: Slot,
        types: &Types,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        let id = known.id;
        let server_name = match slot {
            Slot::Unnamed => {
                parties.server.statements.unnamed = None;
                self.ready_unnamed(known, types, message, out, parties);
                ServerName::Unnamed
            }
            Slot::Named(_) => {
                if parties.server.statements.touch(id) {
                    self.close(id, message, out, parties);
                }
                self.ready_as(known, types, message, out, parties);
                ServerName::Numbered(id)
            }
        };
        describe(server_name, message, out);
        let entry = Entry {
            answer: Answer::Checked(Described { id, slot }),
            ..Entry::forward(Kind::Describe)
        };
        self.push(entry, parties);
        self.flush(message.input, out);
        self.check = match self.check {
            Check::OtherTypes => Check::AskedAgain,
            Check::None | Check::Asked | Check::AskedAgain | Check::Same | Check::Others => Check::Asked,
        };
    }

    /// A statement whose rows have become others is refused as PostgreSQL refuses it, until it is prepared again.
    pub(super) fn refuse_stale(
        &mut self,
        known: &Named,
        name: &[u8],
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        self.note_stale(known, parties);
        if message.head.tag == tag::DESCRIBE {
            // Its parameters come first, and are told.
            let server_name = if name.is_empty() {
                ServerName::Unnamed
            } else {
                ServerName::Numbered(known.id)
            };
            describe(server_name, message, out);
            let entry = Entry {
                answer: Answer::Parameters,
                ..Entry::forward(Kind::Describe)
            };
            self.push(entry, parties);
        }
        let report = Report::error(
            SqlState::FEATURE_NOT_SUPPORTED,
            "cached plan must not change result type",
        );
        self.refuse_in_place(message, report.raised_by(Raiser::PlanCache), out, parties);
    }

    /// Something has failed: what was asked in the same batch will not be answered.
    pub(super) fn on_check_failed(&mut self, parties: &Parties<'_>) {
        let is_check = |entry: &Entry| matches!(entry.answer, Answer::Checked(_));
        if self.check != Check::None && !parties.server.pipeline.iter().any(is_check) {
            self.check = Check::None;
        }
    }

    /// The types of a statement's parameters: its rows are described next.
    pub(super) fn on_parameters(
        message: &Message<'_>,
        parties: &mut Parties<'_>,
        verdict: Verdict,
    ) -> Verdict {
        let answer = parties.server.pipeline.head().map(|head| &head.answer);
        if !matches!(answer, Some(Answer::Told(_) | Answer::Checked(_))) {
            return verdict;
        }
        if !message.is_whole() && message.head.body <= TYPES_LEN_MAX {
            return Verdict::Cut;
        }
        let types = parties.cache.types.intern(message.body);
        parties.server.statements.parameters = types.filter(|_| message.is_whole());
        verdict
    }

    /// A statement or a portal is described, to its client or to us.
    pub(super) fn on_description(
        &mut self,
        message: &Message<'_>,
        parties: &mut Parties<'_>,
        verdict: Verdict,
    ) -> Verdict {
        let Some(head) = parties.server.pipeline.head() else {
            return verdict;
        };
        if head.kind != Kind::Describe {
            return verdict;
        }
        let (Answer::Told(described) | Answer::Checked(described)) = head.answer else {
            let is_of_parameters = matches!(head.answer, Answer::Parameters);
            self.pop(parties);
            return if is_of_parameters { Verdict::Drop } else { verdict };
        };
        if !message.is_whole() && message.head.body <= ROWS_LEN_MAX {
            return Verdict::Cut;
        }
        let is_told = matches!(head.answer, Answer::Told(_));
        let rows = (message.head.tag != tag::NO_DATA).then_some(message.body);
        let types = parties.server.statements.parameters.take();
        let types = types.filter(|_| message.is_whole());
        let now = types.map(|types| Told {
            description: Description::of(&types, rows),
            types,
        });
        self.pop(parties);
        if !is_told {
            self.check = match (told(described, parties), &now) {
                // Its name is another's meanwhile: that one is asked about.
                (None, _) => Check::None,
                (Some(_), None) => Check::Same,
                (Some(told), Some(now)) if told.description == now.description => Check::Same,
                (Some(told), Some(now)) if told.types != now.types && self.check == Check::Asked => {
                    Check::OtherTypes
                }
                (Some(_), Some(_)) => Check::Others,
            };
        }
        note(described, now, is_told, parties);
        verdict
    }
}

/// Remembers what a statement is, unless its name means another by now.
fn note(described: Described, now: Option<Told>, is_told: bool, parties: &mut Parties<'_>) {
    let Parties { client, server, .. } = parties;
    let Described { id, slot } = described;
    let description = now.as_ref().map(|now| now.description);
    match slot {
        Slot::Unnamed if server.pipeline.changes_unnamed() => {}
        Slot::Unnamed => {
            server.statements.describe_unnamed(id, description);
            if is_told {
                client.statements.tell_unnamed(id, now);
            }
        }
        Slot::Named(place) => {
            if !server.pipeline.changes_statement(id) {
                server.statements.describe(id, description);
            }
            let is_same = |name: &[u8]| !server.pipeline.changes_name(name);
            if is_told {
                client.statements.tell(id, place, now, is_same);
            }
        }
    }
}

/// What a client was told of a statement that is being asked about.
fn told<'a>(Described { id, slot }: Described, parties: &'a Parties<'_>) -> Option<&'a Told> {
    let statements = &parties.client.statements;
    let known = match slot {
        Slot::Unnamed => statements.unnamed.as_ref(),
        Slot::Named(place) => statements.at(place),
    };
    known.filter(|known| known.id == id)?.told.as_ref()
}

/// Where a statement stands among its client's.
fn slot(name: &[u8], parties: &Parties<'_>) -> Option<Slot> {
    if name.is_empty() {
        return Some(Slot::Unnamed);
    }
    let place = parties.client.statements.place(name)?;
    u32::try_from(place).ok().map(Slot::Named)
}

fn describe(name: ServerName, message: &Message<'_>, out: &mut Outbox) {
    let made = out.make(message.input);
    let frame = Frame::begin(made, tag::DESCRIBE);
    made.push(tag::TARGET_STATEMENT);
    name.write(made);
    frame.end(made);
}

/// A description that is compared: 1,664 columns, which PostgreSQL has at the most (`MaxTupleAttributeNumber`), with names
/// of 63 bytes, each of which may become four in another encoding.
const ROWS_LEN_MAX: usize = 512 * 1024;
