//! Errors from the server: what was not carried out is taken back.

use crate::protocol::body::ErrorFields;
use crate::protocol::write::Frame;
use crate::protocol::{Report, SqlState, tag};
use crate::session::client::Batch;
use crate::session::error::SessionError;
use crate::session::outbox::Outbox;
use crate::session::pipeline::{Answer, ClientUndo, Entry, Kind, ServerUndo};
use crate::session::settings::Cause;
use crate::session::statement::Named;

use super::answers::{ERROR_HEAD_MAX, Verdict, head_kind};
use super::copy::Copy;
use super::requests::Message;
use super::rewrite::{self, Names, Place};
use super::{Flow, Naming, Overtime, Parties};

impl Flow {
    pub(super) fn on_error(
        &mut self,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
        verdict: Verdict,
    ) -> Result<Verdict, SessionError> {
        if self.copy != Copy::None && self.early_syncs > 0 {
            // Whether the server has read a Sync before the error is not to be known: it may answer it yet.
            Self::condemn(parties.server);
        }
        self.copy = Copy::None;
        parties.client.doubt();
        parties.server.sequences.on_error();
        self.on_request_failed();
        let seen = message.error_head();
        let fields = ErrorFields::read(seen);
        let Some(kind) = head_kind(parties) else {
            // An error out of the blue that does not end the connection: PostgreSQL sends none, but it harms nobody.
            return Ok(verdict);
        };
        if !self.is_of_altered(seen, &fields) {
            self.on_contradiction(kind, &fields, parties);
        }
        let is_ahead = matches!(
            parties.server.pipeline.head(),
            Some(Entry {
                answer: Answer::Ahead,
                ..
            })
        );
        if is_ahead {
            let mut body = Vec::new();
            let names = Names::of(parties);
            rewrite::error(seen, Place::Unknown, names, &mut body);
            let sql = self.sql.get_or_insert_default();
            sql.ahead_error.get_or_insert_with(|| body.into());
        } else if verdict == Verdict::Drop && kind == Kind::Query {
            let text = String::from_utf8_lossy(fields.message).into_owned();
            self.own_error = Some(Box::new(Report::error(fields.code, text)));
        }
        // The error of a request of our own is the client's to know, when its own requests are skipped for it.
        let mut verdict = verdict;
        if kind.is_extended() && verdict == Verdict::Drop && kind != Kind::Sync && !is_ahead {
            verdict = Verdict::Pass;
        }
        if verdict == Verdict::Pass {
            out.note_error(fields.code);
        }
        let verdict = self.say_error(message, &fields, out, parties, verdict);
        if kind.is_extended() {
            self.fail(parties);
        } else {
            fail_query(parties);
        }
        self.on_check_failed(parties);
        Ok(verdict)
    }

    /// The server says that a statement is not there, is there already, or has a plan that is out of date.
    fn on_contradiction(&self, kind: Kind, fields: &ErrorFields<'_>, parties: &mut Parties<'_>) {
        let answer = parties.server.pipeline.head().map(|entry| &entry.answer);
        let is_about_statement = matches!(kind, Kind::Parse | Kind::Bind | Kind::Describe)
            || matches!(answer, Some(Answer::Moved(_) | Answer::Looked(_) | Answer::Ahead));
        // What could not be sent ahead is not there: that is known.
        let is_ours = matches!(answer, Some(Answer::Replace(_)))
            || self.sql.as_ref().is_some_and(|sql| sql.ahead_error.is_some());
        if self.naming != Naming::Verbatim && is_about_statement && !is_ours && DOUBTS.contains(&fields.code)
        {
            parties.server.statements.doubt();
        }
    }

    /// Puts an error into our words where the server cannot know what happened.
    fn say_error(
        &mut self,
        message: &Message<'_>,
        fields: &ErrorFields<'_>,
        out: &mut Outbox,
        parties: &Parties<'_>,
        verdict: Verdict,
    ) -> Verdict {
        if verdict != Verdict::Pass {
            return verdict;
        }
        let head = parties.server.pipeline.head();
        // A failed block refuses everything in the same words.
        if let Some(Entry {
            answer: Answer::Replace(report),
            ..
        }) = head
            && fields.code != SqlState::IN_FAILED_TRANSACTION
        {
            // Else the server has failed for a reason of its own, before it came to ours.
            if fields.code == SqlState::INVALID_STATEMENT_NAME {
                report.encode(out.make(message.input));
                return Verdict::Done;
            }
            return verdict;
        }
        if self.overtime != Overtime::None && fields.code == SqlState::QUERY_CANCELED {
            let report = Report::error(
                SqlState::QUERY_CANCELED,
                "canceling statement due to statement timeout",
            );
            let report = match self.overtime {
                Overtime::Behind => {
                    report.with_detail("It was sent behind a statement that was over its time.")
                }
                Overtime::None | Overtime::Statement => report,
            };
            self.overtime = Overtime::Behind;
            report.encode(out.make(message.input));
            return Verdict::Done;
        }
        if let Some(body) = self.sql.as_mut().and_then(|sql| sql.ahead_error.take()) {
            let made = out.make(message.input);
            let frame = Frame::begin(made, tag::ERROR_RESPONSE);
            made.extend_from_slice(&body);
            frame.end(made);
            return Verdict::Done;
        }
        let is_short = message.head.body <= ERROR_HEAD_MAX;
        let Some(entry) = head.filter(|_| is_short && self.naming != Naming::Verbatim) else {
            return verdict;
        };
        let place = match &entry.answer {
            Answer::Moved(moves) | Answer::Looked(moves) => Place::Moved(moves.as_slice()),
            // A text that the server looks at once more is the client's own.
            Answer::Skip if entry.kind == Kind::Parse => Place::Kept,
            Answer::Skip | Answer::Notices | Answer::Complete(_) => Place::Unknown,
            Answer::Forward
            | Answer::Ahead
            | Answer::Begin
            | Answer::Read
            | Answer::Fake
            | Answer::Told(_)
            | Answer::Checked(_)
            | Answer::Parameters
            | Answer::Replace(_) => Place::Kept,
        };
        if matches!(place, Place::Kept) && !rewrite::shows_a_name(message.body) {
            return verdict;
        }
        let made = out.make(message.input);
        let frame = Frame::begin(made, tag::ERROR_RESPONSE);
        rewrite::error(message.body, place, Names::of(parties), made);
        frame.end(made);
        Verdict::Done
    }

    /// An extended request has failed: it and everything up to the next `Sync` was not carried out.
    fn fail(&mut self, parties: &mut Parties<'_>) {
        let skips = !parties.server.pipeline.has_sync();
        let mut is_query_skipped = false;
        let mut unnamed = Unnamed::default();
        for left in (0..parties.server.pipeline.put_skipped_last()).rev() {
            let Some(entry) = parties.server.pipeline.pop_latest() else {
                break;
            };
            is_query_skipped |= entry.kind == Kind::Query;
            unnamed.undo(entry, left == 0, parties);
        }
        unnamed.put_back(parties);
        if is_query_skipped {
            // If the Sync behind it is ours, its answer is the query's.
            parties.server.pipeline.show_own_sync();
        }
        self.batch = if skips { Batch::Skipping } else { self.batch };
        self.on_rolled_back(parties);
        self.tally.steps += 1;
    }

    /// A reset in this batch is rolled back with it, and what that comes to is not reported where nothing was before.
    pub(super) fn on_rolled_back(&self, parties: &mut Parties<'_>) {
        parties.client.doubt();
        if self.cause != Cause::Set {
            Self::taint(parties.server);
        }
    }
}

/// A simple query has failed: the names that it was going to give or to take away are what they were.
fn fail_query(parties: &mut Parties<'_>) {
    let (renamings, server_undo) = parties.server.pipeline.fail_query();
    parties.client.rename_back(renamings);
    match server_undo {
        ServerUndo::Prepared(id) => parties.server.statements.remove(id),
        ServerUndo::Unknown => parties.server.statements.doubt(),
        ServerUndo::None | ServerUndo::Closed(_) | ServerUndo::Unnamed(_) => {}
    }
}

/// What the unnamed statements were before requests that were not carried out, if those have changed them. They are put back at
/// the end, once: what stands behind may have changed them again, and is searched for that.
#[derive(Default)]
struct Unnamed {
    client: Option<Option<Named>>,
    server: Option<Option<u64>>,
}

impl Unnamed {
    /// Takes back what a request was going to change. A failed unnamed `Parse` leaves no unnamed statement behind: the old one is
    /// dropped before the new one is looked at (`exec_parse_message` in `src/backend/tcop/postgres.c`).
    fn undo(&mut self, entry: Entry, is_failed: bool, parties: &mut Parties<'_>) {
        let Parties { client, server, .. } = parties;
        match entry.client_undo {
            ClientUndo::Unnamed(previous) => self.client = Some(if is_failed { None } else { previous }),
            ClientUndo::Query(query) => {
                client.rename_back(query.renamings);
                self.client = Some(query.unnamed);
            }
            other @ (ClientUndo::None | ClientUndo::Named(_) | ClientUndo::All(_)) => client.undo(other),
        }
        match entry.server_undo {
            ServerUndo::None => {}
            ServerUndo::Unknown => server.statements.doubt(),
            ServerUndo::Prepared(id) => server.statements.remove(id),
            ServerUndo::Closed(id) => server.statements.insert(id),
            ServerUndo::Unnamed(previous) => self.server = Some(if is_failed { None } else { previous }),
        }
    }

    fn put_back(self, parties: &mut Parties<'_>) {
        let Parties { client, server, .. } = parties;
        if let Some(previous) = self.client
            && let Err(previous) = server.pipeline.hand_down_client(previous)
        {
            client.undo(ClientUndo::Unnamed(previous));
        }
        if let Some(previous) = self.server
            && !server.pipeline.hand_down_server(previous)
        {
            server.statements.replace_unnamed(previous);
        }
    }
}

/// The statement is not there; it is there; it is not supported, which is what PostgreSQL calls a statement whose result has
/// other columns since the tables were changed (`RevalidateCachedQuery` in `src/backend/utils/cache/plancache.c`).
const DOUBTS: [SqlState; 3] = [
    SqlState::INVALID_STATEMENT_NAME,
    SqlState::DUPLICATE_STATEMENT,
    SqlState::FEATURE_NOT_SUPPORTED,
];
