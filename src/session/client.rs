//! What a client is, between its exchanges; and the answers it gets while it has no server connection.

use std::sync::Arc;

use crate::protocol::write::{self, Frame};
use crate::protocol::{HEAD_LEN, Head, Parameters, Report, TransactionState, tag};

use super::basis;
use super::begin::{Command, Modes};
use super::error::SessionError;
use super::inquiry::{Findings, Inquiry};
use super::listening::Channels;
use super::pipeline::{ClientUndo, Kind, Pipeline, Renaming};
use super::question::Questions;
use super::screen::{Effects, PinReason, Pins, Release};
use super::server::ServerState;
use super::settings;
use super::statement::ClientStatements;

/// One client's session. It never travels with a server connection.
#[derive(Debug, Default)]
pub struct ClientSession {
    /// The settings it asked for at its start: what `RESET ALL` goes back to.
    pub startup: Arc<Parameters>,
    /// The settings it has now, where they differ from the server's defaults.
    pub settings: Arc<Parameters>,
    /// The settings before the present transaction, if it has changed them: what a lost connection goes back to.
    pub settled: Option<Arc<Parameters>>,
    pub statements: ClientStatements,
    pub pins: Pins,
    /// What its settings make of a text.
    pub basis: basis::Known,
    /// What the server is asked before the connection goes back.
    pub inquiry: Option<Box<Inquiry>>,
    pub block: Block,
    /// What it listens to, where somebody else listens for it. Boxed: most clients never listen.
    pub channels: Option<Box<Channels>>,
    /// What it asks that no server knows. Boxed: most clients never do.
    pub(super) questions: Option<Box<Questions>>,
    local: Local,
}

/// The transaction block as the client sees it while it has no server connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Block {
    #[default]
    None,
    /// It was told that a block has begun, of which no server knows yet.
    Begun(Modes),
    /// The server connection was lost inside a block: to the client the block has failed, and stays so until it ends it.
    Failed,
}

/// Where a client without a server connection begins blocks and ends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// Here, at once: no server connection is taken before the block's first statement, and none for an end without one.
    Here,
    AtServer,
}

/// Where the client's stream stands while nothing is forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Local {
    #[default]
    Between,
    /// An error was answered: everything up to the next `Sync` is passed over.
    ToSync,
}

/// What a pass over the input of a client without a server connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// Bytes dealt with.
    pub consumed: usize,
    pub wants: Wants,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// More bytes.
    Nothing,
    /// A server connection for the message that stands next.
    Server,
    /// To leave.
    Goodbye,
}

impl ClientSession {
    #[must_use]
    pub fn new(mut startup: Parameters) -> Self {
        startup.shrink();
        Self::starting(Arc::new(startup))
    }

    /// The same with settings that other clients start with, too.
    #[must_use]
    pub fn starting(startup: Arc<Parameters>) -> Self {
        Self {
            settings: Arc::clone(&startup),
            startup,
            ..Self::default()
        }
    }

    /// The reason for which the client keeps its server connection, if there is one.
    #[must_use]
    pub fn pinned(&self) -> Option<PinReason> {
        self.pins
            .iter()
            .next()
            .or_else(|| self.statements.is_pinned().then_some(PinReason::LargeStatement))
    }

    /// Every reason for which it keeps its server connection.
    #[must_use]
    pub fn all_pins(&self) -> Pins {
        let mut pins = self.pins;
        pins.extend(self.statements.is_pinned().then_some(PinReason::LargeStatement));
        pins
    }

    /// Takes note of what a statement will do beyond itself.
    pub fn note(&mut self, effects: &Effects) {
        let news = effects.pins.without(self.pins).askable();
        self.pins = self.pins.union(effects.pins);
        let asked = match effects.release {
            Release::Maybe => self.pins.askable(),
            Release::No => news,
        };
        let mut inquiry = self.inquiry.take().unwrap_or_default();
        inquiry.note(effects, self.settings.iter().map(|(name, _)| name));
        inquiry.ask_pins(asked);
        if inquiry.is_too_large() {
            self.pins.insert(PinReason::Setting);
        } else if !inquiry.is_empty() {
            self.inquiry = Some(inquiry);
        }
    }

    /// A value was reported that no statement was known to change. The server is asked whose it is: it may have read its files
    /// again.
    pub fn on_unexpected(&mut self, name: &str) {
        if settings::is_settable(name) {
            self.inquiry.get_or_insert_default().ask_whether_set(name);
        }
    }

    /// What a statement has named may not have come about.
    pub fn doubt(&mut self) {
        if let Some(inquiry) = &mut self.inquiry {
            inquiry.doubt();
        }
    }

    /// The server has said what became of settings and pins.
    pub fn on_found(&mut self, server: &mut ServerState, findings: &Findings) {
        settings::on_found(self, server, findings);
        let gone = findings.asked.without(findings.pins);
        self.pins = self.pins.without(gone);
    }

    /// The server could not say: what the client has stays where it is.
    pub fn on_nothing_found(&mut self) {
        self.pins.insert(PinReason::Setting);
    }

    /// Whether the client is in a block of which no server knows yet.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        matches!(self.block, Block::Begun(_))
    }

    /// Whether it would be told now what was notified: it is between two transactions.
    #[must_use]
    pub fn may_be_notified(&self) -> bool {
        self.block == Block::None && self.local == Local::Between
    }

    /// Looks at input while there is no server connection. Answers what needs none.
    ///
    /// # Errors
    /// A message that breaks the protocol.
    pub fn on_idle(&mut self, input: &[u8], begins: Begins, out: &mut Vec<u8>) -> Result<Idle, SessionError> {
        let mut consumed = 0;
        loop {
            let rest = input.get(consumed..).unwrap_or_default();
            let head = Head::read_frontend(rest).map_err(|error| SessionError::client(&error))?;
            let Some(head) = head else {
                return Ok(Idle {
                    consumed,
                    wants: Wants::Nothing,
                });
            };
            let is_whole = rest.len() >= head.len();
            let wanted = match (head.tag, self.local) {
                (tag::TERMINATE, _) => {
                    return Ok(Idle {
                        consumed,
                        wants: Wants::Goodbye,
                    });
                }
                (tag::SYNC, _) => {
                    self.local = Local::Between;
                    if let Some(questions) = &mut self.questions {
                        questions.end_portals();
                    }
                    self.ready(out);
                    false
                }
                // A copy that failed may still be under way from the client's side: PostgreSQL ignores the rest of it.
                (tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL | tag::FLUSH, _) | (_, Local::ToSync) => {
                    false
                }
                (tag::QUERY, Local::Between) if is_whole && begins == Begins::Here => {
                    let body = rest.get(HEAD_LEN..head.len()).unwrap_or_default();
                    !self.on_block_command(body, out)
                }
                (_, Local::Between) => true,
            };
            if wanted {
                // A client that stops in the middle of a message keeps no server connection from the others.
                let is_awaited = !is_whole && head.len() <= AWAITED_LEN_MAX;
                let wants = if is_awaited { Wants::Nothing } else { Wants::Server };
                return Ok(Idle { consumed, wants });
            }
            if !is_whole {
                // The caller passes over the rest of a cut message: nothing of it is looked into.
                return Ok(Idle {
                    consumed: consumed + head.len(),
                    wants: Wants::Nothing,
                });
            }
            consumed += head.len();
        }
    }

    /// Answers a query that begins a block, or ends one of which no server knows. False: it is another.
    fn on_block_command(&mut self, body: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(command) = Command::read(body) else {
            return false;
        };
        let (block, tag) = match (self.block, command) {
            (Block::None, Command::Begin { modes, tag }) => (Block::Begun(modes), tag),
            (Block::Begun(_), Command::Commit) => (Block::None, "COMMIT"),
            // What has failed is not committed.
            (Block::Begun(_), Command::Rollback) | (Block::Failed, Command::Commit | Command::Rollback) => {
                (Block::None, "ROLLBACK")
            }
            (Block::None, Command::Commit | Command::Rollback)
            | (Block::Begun(_) | Block::Failed, Command::Begin { .. }) => return false,
        };
        self.block = block;
        // As every simple query does.
        self.statements.unnamed = None;
        command_complete(tag, out);
        self.ready(out);
        true
    }

    /// Refuses the message that stands next (`on_idle` said `Server`): an error, and in the extended protocol nothing more
    /// until the next `Sync`. A block that was begun has failed by it. Returns the length of the message, which may reach beyond the input.
    pub fn refuse(&mut self, input: &[u8], report: &Report, out: &mut Vec<u8>) -> usize {
        let Ok(Some(head)) = Head::read_frontend(input) else {
            return 0;
        };
        if self.is_begun() {
            self.block = Block::Failed;
        }
        report.encode(out);
        match head.tag {
            tag::QUERY | tag::FUNCTION_CALL => self.ready(out),
            _ => self.local = Local::ToSync,
        }
        head.len()
    }

    /// The server connection is lost: answers every request that was in flight, so that the client stays in step, and takes
    /// back what they were going to change. `batch` is where the client stands behind them.
    pub fn on_lost(&mut self, lost: Lost<'_>, out: &mut Vec<u8>) {
        let Lost {
            pipeline,
            batch,
            in_block,
            report,
        } = lost;
        if in_block {
            self.block = Block::Failed;
        }
        let mut told = false;
        for entry in pipeline.iter().filter(|entry| !entry.is_own()) {
            match (entry.kind, told) {
                (Kind::Sync, _) => {
                    told = false;
                    self.ready(out);
                }
                (Kind::CopyEnd, _) | (_, true) => {}
                (Kind::Query | Kind::FunctionCall, false) => {
                    report.encode(out);
                    self.ready(out);
                }
                (_, false) => {
                    told = true;
                    report.encode(out);
                }
            }
        }
        if batch == Batch::Open && !told {
            report.encode(out);
        }
        // A request that ends a batch by itself is skipped with a batch that has failed.
        let is_skipping = told || batch != Batch::None;
        self.local = if is_skipping {
            Local::ToSync
        } else {
            Local::Between
        };
        self.take_back(pipeline);
    }

    /// Takes back whatever the requests in flight were going to change.
    pub fn take_back(&mut self, pipeline: &mut Pipeline) {
        while let Some(entry) = pipeline.pop_latest() {
            self.undo(entry.client_undo);
        }
    }

    /// Takes back what a request was going to change.
    pub fn undo(&mut self, undo: ClientUndo) {
        match undo {
            ClientUndo::None => {}
            ClientUndo::Named(renaming) => _ = self.statements.replace(&renaming.name, renaming.previous),
            ClientUndo::Unnamed(previous) => self.statements.unnamed = previous,
            ClientUndo::All(forgotten) => self.statements.restore(forgotten),
            ClientUndo::Query(query) => {
                self.statements.unnamed = query.unnamed;
                self.rename_back(query.renamings);
            }
        }
    }

    /// Takes back names that were given or taken away, latest first.
    pub fn rename_back(&mut self, renamings: Vec<Renaming>) {
        for renaming in renamings.into_iter().rev() {
            self.statements.replace(&renaming.name, renaming.previous);
        }
    }

    /// The server connection it was pinned to is gone, and with it what lived there alone.
    pub fn on_server_gone(&mut self) {
        self.pins = Pins::NONE;
        self.inquiry = None;
        if let Some(settled) = self.settled.take() {
            self.settings = settled;
        }
        self.statements.forget_unmovable();
    }

    /// Appends a `ReadyForQuery` for the block as the client sees it.
    pub fn ready(&self, out: &mut Vec<u8>) {
        let state = match self.block {
            Block::None => TransactionState::Idle,
            Block::Begun(_) => TransactionState::InBlock,
            Block::Failed => TransactionState::Failed,
        };
        ready_for_query(state, out);
    }
}

/// A server connection that was lost while a client had it.
#[derive(Debug)]
pub struct Lost<'a> {
    /// What was in flight; empty afterwards.
    pub pipeline: &'a mut Pipeline,
    pub batch: Batch,
    pub in_block: bool,
    pub report: &'a Report,
}

/// Where the client stands between two `Sync`s of the extended protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// No extended message since the last `Sync`.
    None,
    /// Some: the server keeps a transaction open for them, whatever it said last.
    Open,
    /// An error has come: the server skips to the next `Sync`, and so do we.
    Skipping,
}

/// A message up to this length is awaited whole before a server connection is asked for. What is longer may be passed on in
/// pieces.
const AWAITED_LEN_MAX: usize = 16 * 1024;

/// Appends a `ReadyForQuery`.
pub fn ready_for_query(state: TransactionState, out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag::READY_FOR_QUERY);
    out.push(state.as_byte());
    frame.end(out);
}

/// Appends a `CommandComplete`.
fn command_complete(command: &str, out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag::COMMAND_COMPLETE);
    write::cstr(out, command.as_bytes());
    frame.end(out);
}

/// Appends a `ParameterStatus`.
pub fn parameter_status(name: &str, value: &str, out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag::PARAMETER_STATUS);
    write::cstr(out, name.as_bytes());
    write::cstr(out, value.as_bytes());
    frame.end(out);
}

/// Appends a simple `Query`.
pub fn query(text: &str, out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag::QUERY);
    write::cstr(out, text.as_bytes());
    frame.end(out);
}
