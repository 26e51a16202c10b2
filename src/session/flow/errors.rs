//! Errors from the server: what was not carried out is taken back.

use crate::protocol::body::ErrorFields;
use crate::protocol::{Report, SqlState};
use crate::session::client::Batch;
use crate::session::error::SessionError;
use crate::session::outbox::Outbox;
use crate::session::pipeline::{Answer, ClientUndo, Entry, Kind, ServerUndo};
use crate::session::settings::Cause;

use super::answers::{Message, Verdict, head_kind};
use super::copy::Copy;
use super::{Flow, Naming, Parties};

impl Flow {
    pub(super) fn on_error(
        &mut self,
        message: &Message<'_>,
        input: &[u8],
        out: &mut Outbox,
        parties: &mut Parties<'_>,
        verdict: Verdict,
    ) -> Result<Verdict, SessionError> {
        if self.copy != Copy::None && self.early_syncs > 0 {
            // Whether the server has read a Sync before the error is not to be known: it may answer it yet.
            Self::condemn(parties.server);
        }
        self.copy = Copy::None;
        self.on_request_failed();
        let fields = ErrorFields::read(message.body);
        let Some(kind) = head_kind(parties) else {
            // An error out of the blue that does not end the connection: PostgreSQL sends none, but it harms nobody.
            return Ok(verdict);
        };
        self.on_contradiction(kind, &fields, parties);
        if verdict == Verdict::Drop && kind == Kind::Query {
            let text = String::from_utf8_lossy(fields.message).into_owned();
            self.own_error = Some(Box::new(Report::error(fields.code, text)));
        }
        let mut verdict = self.say_error(&fields, input, out, parties, verdict);
        if kind.is_extended() {
            self.fail(parties);
            // The error of a request of our own is the client's to know, when its own requests are skipped for it.
            if verdict == Verdict::Drop && kind != Kind::Sync {
                verdict = Verdict::Pass;
            }
        }
        Ok(verdict)
    }

    /// The server says that a statement is not there, is there already, or has a plan that is out of date.
    fn on_contradiction(&self, kind: Kind, fields: &ErrorFields<'_>, parties: &mut Parties<'_>) {
        let is_about_statement = matches!(kind, Kind::Parse | Kind::Bind | Kind::Describe);
        let is_ours = matches!(
            parties.server.pipeline.head().map(|entry| &entry.answer),
            Some(Answer::Replace(_))
        );
        if self.naming != Naming::Verbatim && is_about_statement && !is_ours && DOUBTS.contains(&fields.code)
        {
            parties.server.statements.doubt();
        }
    }

    /// Puts an error into our words where the server cannot know what happened.
    fn say_error(
        &mut self,
        fields: &ErrorFields<'_>,
        input: &[u8],
        out: &mut Outbox,
        parties: &Parties<'_>,
        verdict: Verdict,
    ) -> Verdict {
        if let Some(Entry {
            answer: Answer::Replace(report),
            ..
        }) = parties.server.pipeline.head()
        {
            report.encode(out.make(input));
            return Verdict::Done;
        }
        if self.timed_out && fields.code == SqlState::QUERY_CANCELED && verdict == Verdict::Pass {
            self.timed_out = false;
            Report::error(
                SqlState::QUERY_CANCELED,
                "canceling statement due to statement timeout",
            )
            .encode(out.make(input));
            return Verdict::Done;
        }
        verdict
    }

    /// An extended request has failed: it and everything up to the next `Sync` was not carried out.
    fn fail(&mut self, parties: &mut Parties<'_>) {
        let skips = !parties.server.pipeline.has_sync();
        while let Some(entry) = parties.server.pipeline.pop_skipped() {
            let is_failed = !parties
                .server
                .pipeline
                .head()
                .is_some_and(|head| head.kind != Kind::Sync);
            undo(entry, is_failed, parties);
        }
        self.batch = if skips { Batch::Skipping } else { self.batch };
        self.on_rolled_back(parties);
        self.tally.steps += 1;
    }

    /// A reset in this batch is rolled back with it, and what that comes to is not reported where nothing was before.
    pub(super) fn on_rolled_back(&self, parties: &mut Parties<'_>) {
        if self.cause != Cause::Set {
            Self::taint(parties.server);
        }
    }
}

/// Takes back what a request was going to change. A failed unnamed `Parse` leaves no unnamed statement behind: the old one is
/// dropped before the new one is looked at (`exec_parse_message` in `src/backend/tcop/postgres.c`).
fn undo(entry: Entry, is_failed: bool, parties: &mut Parties<'_>) {
    let Parties { client, server, .. } = parties;
    match entry.client_undo {
        ClientUndo::Unnamed(previous) => {
            let previous = if is_failed { None } else { previous };
            if let Err(previous) = server.pipeline.hand_down_client(previous) {
                client.undo(ClientUndo::Unnamed(previous));
            }
        }
        other @ (ClientUndo::None | ClientUndo::Named(_) | ClientUndo::All(_)) => client.undo(other),
    }
    match entry.server_undo {
        ServerUndo::None => {}
        ServerUndo::Unknown => server.statements.doubt(),
        ServerUndo::Prepared(id) => server.statements.remove(id),
        ServerUndo::Closed(id) => server.statements.insert(id),
        ServerUndo::Unnamed(previous) => {
            let previous = if is_failed { None } else { previous };
            if !server.pipeline.hand_down_server(previous) {
                server.statements.unnamed = previous;
            }
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
