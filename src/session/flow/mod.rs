//! One exchange: what passes between a client and the server connection it has for a while.
//!
//! Bytes in, bytes out. A message is looked at by its head and passed on as it came; only names of prepared statements are
//! rewritten, and only the messages that tell where the conversation stands are looked into. Input that is not consumed
//! (a cut head, a cut message that must be seen whole) is given again with what came after it.

pub mod answers;
mod begin;
mod copy;
mod described;
mod errors;
#[doc(hidden)]
pub mod fuzz;
mod listening;
mod meaning;
mod prepared;
mod reading;
mod refusals;
mod requests;
mod rewrite;
mod schema;
mod sequences;
mod sql;
#[cfg(test)]
mod tests;

use crate::protocol::{Report, SqlState, TransactionState};

use super::client::{Batch, ClientSession, Lost};
use super::inquiry::{Findings, Inquiry};
use super::pipeline::Kind;
use super::screen::{
    CatalogEffect, DatabaseEffect, Effects, LiteralEffect, PinReason, Remains, SchemaEffect, SettingEffect,
    vacated,
};
use super::server::{Hygiene, ServerState};
use super::settings::Cause;
use super::statement::{Sharing, Statement, StatementCache};

use copy::Copy;
use described::Check;
use listening::{Listening, Said};
use meaning::Act;
use schema::Schema;

/// The state of one exchange. What outlives it is in the `ClientSession` and the `ServerState`.
#[derive(Debug)]
pub struct Flow {
    naming: Naming,
    /// Bytes of the client's present message that are still to be passed on.
    client_body: usize,
    /// Bytes of the server's present message that are still to be passed on, or over.
    server_body: Body,
    copy: Copy,
    /// `Sync`s that the present copy has swallowed, or will.
    early_syncs: u32,
    batch: Batch,
    /// The last request asks for an answer at once, so the server can be waited for alone.
    flushed: bool,
    gate: Gate,
    settling: Settling,
    /// The clock of the server's statements at the last `ReadyForQuery`: what was used later is not evicted.
    since: u64,
    certainty: Certainty,
    /// Boxed: most exchanges have nothing to do with names in SQL.
    sql: Option<Box<Sql>>,
    schema: Schema,
    check: Check,
    /// An answer to a request of our own was an error.
    own_error: Option<Box<Report>>,
    stakes: Stakes,
    overtime: Overtime,
    doing: Doing,
    /// Why the server reports values until the next `ReadyForQuery`.
    cause: Cause,
    /// What a query in flight does to all settings.
    asked: SettingEffect,
    listening: Listening,
    /// What was said of channels. In a box, since it is rare.
    said: Option<Box<Said>>,
    pub tally: Tally,
}

/// What is remembered of statements that name others, and of other rare things.
#[derive(Debug, Default)]
struct Sql {
    /// Portals whose execution does something about prepared statements.
    acts: Vec<(Box<[u8]>, Act)>,
    /// The error of what was sent ahead of the query that comes next: the body of its `ErrorResponse`.
    ahead_error: Option<Box<[u8]>>,
    /// A database that the client wants to be free of connections.
    vacated: Option<Box<[u8]>>,
}

/// How prepared statements are named on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// As the client names them: the server connection is the client's own.
    Verbatim,
    /// By their text; at most `max` stay prepared on a server connection.
    Mapped { max: usize },
}

/// Whether the client's input is dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    /// Its next message waits for answers.
    Held,
}

/// What must be answered before more can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settling {
    Done,
    /// A `BEGIN` is in flight: nothing may go behind a `Sync`.
    Begin,
    /// A reset of everything is in flight: the settings that the client has asked for at its start are applied again when it
    /// is answered, before its next request.
    Reset,
    /// Something was said of channels: what comes behind it is looked at when it is answered.
    Channels,
}

/// Whether the client's settings, as they are known, are those that its next statement meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Certainty {
    Known,
    /// Something in this transaction sets something.
    Unsure,
    /// That may change how literals are read, which the server reports before it is ready.
    Untold,
    /// The same, and it may not report it.
    Misread,
}

/// Whose error it is when the server says that a statement was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overtime {
    /// The client's doing.
    None,
    /// The statement in flight is being cancelled because its time is over.
    Statement,
    /// It has ended; what was sent behind it may be hit instead, or as well: PostgreSQL signals twice for one request, the
    /// process and its group (`signal_child` in `src/backend/postmaster/postmaster.c`).
    Behind,
}

/// What is lost with the connection, beside the transaction block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stakes {
    Nothing,
    /// To know whether the block was committed: something that may end it was sent since the last `ReadyForQuery`.
    Commit,
}

/// What a `DO` in flight may do that its end does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Nothing,
    Defining,
}

/// What a message that is longer than the input does with its rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Pass(usize),
    Drop(usize),
}

/// What an exchange did, for the statistics. Whoever records it takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Simple queries and `Execute`s that ended, well or not.
    pub queries: u32,
    /// Those of them that were simple.
    pub simple_queries: u32,
    /// `ReadyForQuery` outside of a block.
    pub transactions: u32,
    pub client_parses: u32,
    pub server_parses: u32,
    pub binds: u32,
    /// Anything that moves the conversation: a timeout for a statement starts again with it.
    pub steps: u32,
}

/// The three that take part.
#[derive(Debug)]
pub struct Parties<'a> {
    pub client: &'a mut ClientSession,
    pub server: &'a mut ServerState,
    pub cache: &'a mut StatementCache,
}

/// What a pass over a client's input came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    pub consumed: usize,
    pub next: Next,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// More input, when there is some.
    More,
    /// The client says goodbye: what it has asked for before is still carried out.
    Goodbye,
    /// Answers: too much is in flight, or the next message means one thing or another by what is answered first. What was
    /// not consumed is given again when the server has said something.
    Answers,
}

/// What became of a question of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    Found(Findings),
    /// It was cancelled: it can be asked again.
    Cancelled,
    /// The server could not say.
    Nothing,
}

/// Which side can move the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// A request was sent whole and its answer is awaited: the client has nothing to say.
    Server,
    Both,
}

/// Proof that an exchange ended at rest: nothing in flight, no transaction, no half message on either side.
/// Only [`Flow::into_rest`] makes one.
///
/// ```compile_fail,E0451
/// let forged = pgweir::session::flow::Rest { server: 1 };
/// ```
#[derive(Debug)]
#[must_use]
pub struct Rest {
    server: u64,
}

impl Rest {
    /// The id of the server connection it proves rest for.
    #[must_use]
    pub fn server(&self) -> u64 {
        self.server
    }
}

impl Flow {
    #[must_use]
    pub fn new(naming: Naming, server: &ServerState) -> Self {
        Self {
            naming,
            client_body: 0,
            server_body: Body::Pass(0),
            copy: Copy::None,
            early_syncs: 0,
            batch: Batch::None,
            flushed: false,
            gate: Gate::Open,
            settling: Settling::Done,
            since: server.statements.clock(),
            sql: None,
            cause: Cause::Set,
            asked: SettingEffect::None,
            certainty: Certainty::Known,
            listening: Listening::Own,
            said: None,
            schema: Schema::default(),
            check: Check::None,
            own_error: None,
            stakes: Stakes::Nothing,
            overtime: Overtime::None,
            doing: Doing::Nothing,
            tally: Tally::default(),
        }
    }

    /// Who is to be waited for.
    #[must_use]
    pub fn attention(&self, server: &ServerState) -> Attention {
        let awaited = self.flushed && !server.pipeline.is_empty() && self.client_body == 0;
        if awaited && self.copy == Copy::None {
            Attention::Server
        } else {
            Attention::Both
        }
    }

    /// Whether the server has something to do for us.
    #[must_use]
    pub fn is_busy(&self, server: &ServerState) -> bool {
        !server.pipeline.is_empty() || self.client_body > 0 || self.copy != Copy::None
    }

    /// Whether something that the client has asked for takes effect although it says no more: requests up to the last that
    /// ends a batch. What comes behind is never committed, and neither is a copy without its end.
    #[must_use]
    pub fn is_promised(&self, server: &ServerState) -> bool {
        let ends_batch = |kind| matches!(kind, Kind::Query | Kind::FunctionCall | Kind::Sync);
        !matches!(self.copy, Copy::In | Copy::Both)
            && server.pipeline.iter().any(|entry| ends_batch(entry.kind))
    }

    /// Whether the client is between two `Sync`s: the server keeps a transaction open, or skips.
    #[must_use]
    pub fn is_in_batch(&self) -> bool {
        self.batch != Batch::None
    }

    /// Whether [`Flow::into_rest`] would give proof now.
    #[must_use]
    pub fn is_at_rest(&self, server: &ServerState) -> bool {
        server.pipeline.is_empty()
            && server.transaction == TransactionState::Idle
            && self.is_between_messages()
            && self.copy == Copy::None
            && self.batch == Batch::None
    }

    /// Ends the exchange, if it is at rest.
    ///
    /// # Errors
    /// It is not: the exchange goes on, or its connection is closed.
    #[inline]
    pub fn into_rest(self, server: &mut ServerState) -> Result<Rest, Box<Self>> {
        if !self.is_at_rest(server) {
            return Err(Box::new(self));
        }
        server.pipeline.shrink();
        Ok(Rest { server: server.id })
    }

    /// Whether neither side is in the middle of a message that is being passed on.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.client_body == 0 && matches!(self.server_body, Body::Pass(0) | Body::Drop(0))
    }

    /// Whether the client was given the beginning of a message whose rest is still to come.
    #[must_use]
    pub fn is_inside_answer(&self) -> bool {
        matches!(self.server_body, Body::Pass(1..))
    }

    /// Bytes of the client's present message that are still to come.
    #[must_use]
    pub fn client_rest(&self) -> usize {
        self.client_body
    }

    /// Whether the client's next message waits for answers: more of its input is of no use now.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.gate == Gate::Held
    }

    /// The server connection is lost in the middle of something: the client is told what its requests came to.
    /// Not for a client that was given the beginning of a message.
    pub fn on_lost(
        &self,
        client: &mut ClientSession,
        server: &mut ServerState,
        report: &Report,
        out: &mut Vec<u8>,
    ) {
        let in_block = server.transaction != TransactionState::Idle;
        let lost = Lost {
            pipeline: &mut server.pipeline,
            batch: self.batch,
            in_block,
            report,
        };
        client.on_lost(lost, out);
    }

    /// Whether something in flight may end a transaction block.
    #[must_use]
    pub fn may_commit(&self) -> bool {
        self.stakes == Stakes::Commit
    }

    /// The statement in flight is being cancelled because its time is over: the server's word for it is put right.
    pub fn on_statement_timeout(&mut self) {
        self.overtime = Overtime::Statement;
    }

    /// Whether that statement has not ended yet.
    #[must_use]
    pub fn is_timed_out(&self) -> bool {
        self.overtime == Overtime::Statement
    }

    /// The error that an own request met with, once.
    pub fn take_own_error(&mut self) -> Option<Box<Report>> {
        self.own_error.take()
    }

    /// The database that the client is dropping, renaming or copying, once: the server waits until nobody is connected to it.
    pub fn take_vacated(&mut self) -> Option<Box<[u8]>> {
        self.sql.as_mut()?.vacated.take()
    }

    /// Sends a query of our own ahead of the client's; its answers go nowhere.
    pub fn inject_query(&mut self, sql: &str, server: &mut ServerState, out: &mut Vec<u8>) {
        super::client::query(sql, out);
        server.pipeline.push(super::pipeline::Entry::skip(Kind::Query));
        // As every simple query does.
        server.statements.unnamed = None;
        self.own_error = None;
        self.flushed = true;
    }

    /// Asks the server a question of our own, at rest.
    pub fn inquire(&mut self, inquiry: &mut Inquiry, server: &mut ServerState, out: &mut Vec<u8>) {
        super::client::query(&inquiry.sql(), out);
        inquiry.begin();
        server.pipeline.push(super::pipeline::Entry::read(Kind::Query));
        server.statements.unnamed = None;
        self.own_error = None;
        self.flushed = true;
    }

    /// What the server has answered, once.
    pub fn take_findings(&mut self, client: &mut ClientSession) -> Answered {
        let error = self.own_error.take();
        let is_cancelled = error
            .as_ref()
            .is_some_and(|error| error.code == SqlState::QUERY_CANCELED);
        if is_cancelled && client.inquiry.as_deref().is_some_and(Inquiry::may_be_repeated) {
            return Answered::Cancelled;
        }
        let findings = client.inquiry.take().and_then(|inquiry| inquiry.into_findings());
        match findings.filter(|_| error.is_none()) {
            Some(findings) => {
                self.certainty = Certainty::Known;
                Answered::Found(findings)
            }
            None => Answered::Nothing,
        }
    }

    /// Statements that are met from now on rest on the client's settings.
    fn stand_on_settings(&self, parties: &mut Parties<'_>) {
        let client = &mut *parties.client;
        let basis = client.basis.of(&client.settings);
        let sharing = match self.certainty {
            Certainty::Known => Sharing::All(parties.server.schema),
            Certainty::Unsure | Certainty::Untold | Certainty::Misread => Sharing::None,
        };
        parties.cache.stand_on(basis, sharing);
    }

    /// Takes note of what a statement that is about to be carried out does beyond itself.
    fn note(&mut self, effects: &Effects, client: &mut ClientSession) {
        if effects.are_none() {
            return;
        }
        if effects.settings != SettingEffect::None {
            self.certainty = self.certainty.max(Certainty::Unsure);
        }
        // What resets everything changes little for a client that has set nothing: at the most what the same text reports.
        let has_nothing = client.settings.is_empty() && effects.sets.is_empty();
        let by_literals = match (effects.literals, effects.settings) {
            _ if effects.pins.contains(PinReason::Setting) => Certainty::Misread,
            (LiteralEffect::MayChange, SettingEffect::None) if has_nothing => Certainty::Known,
            (LiteralEffect::MayChange, SettingEffect::ResetAll) if has_nothing => Certainty::Untold,
            (LiteralEffect::MayChange, _) => Certainty::Misread,
            (LiteralEffect::Reported, _) => Certainty::Untold,
            (LiteralEffect::None, _) => Certainty::Known,
        };
        self.certainty = self.certainty.max(by_literals);
        if effects.catalog == CatalogEffect::MayDefine {
            self.doing = Doing::Defining;
        }
        if effects.schema == SchemaEffect::Alters {
            self.on_altering();
        }
        client.note(effects);
    }

    /// Takes note of a database that a text wants to itself.
    fn note_vacated(&mut self, effects: &Effects, text: Option<&[u8]>) {
        if effects.database == DatabaseEffect::MayVacate
            && let Some(database) = text.and_then(vacated)
        {
            self.sql.get_or_insert_default().vacated = Some(database);
        }
    }

    /// The same for what the names in a text stand for. Says whether there are any.
    fn note_suspects(&mut self, text: &[u8], parties: &mut Parties<'_>) -> bool {
        if parties.server.suspects.is_empty() {
            return false;
        }
        let Some(found) = parties.server.suspects.find(text) else {
            return false;
        };
        self.note(&found, parties.client);
        let remains = found.remains;
        Self::taint_by(remains, parties.server);
        true
    }

    /// The same for a statement, which is searched once for each state of the catalog, unless something is found.
    #[inline]
    fn note_suspects_of(&mut self, statement: &Statement, parties: &mut Parties<'_>) {
        if parties.server.suspects.is_empty() {
            return;
        }
        let stamp = parties.server.suspects.stamp();
        if !statement.is_cleared(stamp)
            && let Some(text) = statement.text()
            && !self.note_suspects(text, parties)
        {
            statement.clear(stamp);
        }
    }

    /// The same for a function that is called by its number.
    fn note_call(&mut self, oid: u32, parties: &mut Parties<'_>) {
        let Some(effects) = parties.server.suspects.call(oid) else {
            return;
        };
        self.note(effects, parties.client);
        let remains = effects.remains;
        Self::taint_by(remains, parties.server);
    }

    /// Answers on the connection cannot be told apart any more: it is closed after this exchange.
    fn condemn(server: &mut ServerState) {
        server.hygiene = server.hygiene.worsen(Hygiene::Unfit);
    }

    /// A text was not seen whole: it may hide a setting, so nobody else gets the connection as it is.
    fn taint(server: &mut ServerState) {
        server.hygiene = server.hygiene.worsen(Hygiene::Tainted);
    }

    fn taint_by(remains: Remains, server: &mut ServerState) {
        if remains == Remains::Unknown {
            Self::taint(server);
        }
    }
}
