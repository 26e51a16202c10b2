//! The pooler's shell, simulated: clients that come and go, fewer server connections than clients, bytes that arrive in
//! pieces, connections that are lost. What the relay does with sockets is done here with buffers, step by step.

use std::collections::VecDeque;

use pgweir::protocol::{Parameters, Report, TransactionState};
use pgweir::session::client::{Begins, Block, Wants};
use pgweir::session::flow::{Answered, Attention, Next, Parties};
use pgweir::session::pipeline::{Answer, Entry};
use pgweir::session::screen::Pins;
use pgweir::session::statement::StatementCache;
use pgweir::session::{ClientSession, Flow, Hygiene, Outbox, ServerState, settings};

use crate::client::Client;
use crate::model::Model;
use crate::wire::{backend, frontend};
use crate::{Failure, Random, fail};

pub struct World {
    pub random: Random,
    pub peers: Vec<Peer>,
    pub idle: Vec<Conn>,
    pub queue: VecDeque<usize>,
    pub cache: StatementCache,
    pub now: u64,
    /// Clients that are still to come.
    pub to_come: u32,
    pub next_id: u64,
    pub plan: Plan,
    /// Nothing goes wrong any more.
    pub calm: bool,
    pub trace: Option<Vec<String>>,
    /// Bytes that were moved, ever.
    pub moved: u64,
}

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub clients: usize,
    pub servers: usize,
    pub statements: usize,
    pub rounds: u32,
    pub piece_max: usize,
    /// One step in so many loses something.
    pub faults: usize,
    pub patience: u64,
    /// How much a client asks before what it asked was read.
    pub ahead: usize,
    pub begins: Begins,
    /// One `BEGIN` in so many is refused.
    pub refusals: usize,
}

/// A client as the pooler has it.
pub struct Peer {
    pub client: Client,
    pub session: ClientSession,
    pub carry: Vec<u8>,
    pub skip: usize,
    pub pending: Option<Report>,
    pub exchange: Option<Exchange>,
    pub waiting_since: Option<u64>,
    pub is_gone: bool,
}

pub struct Exchange {
    pub conn: Conn,
    pub flow: Flow,
    pub stage: Stage,
    pub leaves: bool,
}

/// What an exchange is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The connection is being brought to the client's settings.
    Preparing,
    Running,
    /// The server is asked what became of the client's settings.
    Inquiring,
}

/// A server connection.
pub struct Conn {
    pub state: ServerState,
    pub model: Model,
    /// On its way to the server.
    pub sent: Vec<u8>,
    /// Come from the server and not dealt with.
    pub carry: Vec<u8>,
}

impl World {
    pub fn new(seed: u64, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan {
            clients: 2 + random.below(4),
            servers: 1 + random.below(2),
            statements: 2 + random.below(4),
            rounds: 6,
            piece_max: [1, 7, 40, 4000][random.below(4)].max(7),
            faults: [60, 400, usize::MAX][random.below(3)],
            patience: [150, 1_000_000][random.below(2)],
            ahead: [1, 100, 2000][random.below(3)],
            refusals: [2, 20, usize::MAX][random.below(3)],
            begins: [Begins::Here, Begins::Here, Begins::AtServer][random.below(3)],
        };
        let mut world = Self {
            random,
            peers: Vec::new(),
            idle: Vec::new(),
            queue: VecDeque::new(),
            cache: StatementCache::new(0),
            now: 0,
            to_come: 3,
            next_id: 0,
            plan,
            calm: false,
            trace: trace.then(Vec::new),
            moved: 0,
        };
        for _ in 0..plan.clients {
            let peer = world.newcomer();
            world.peers.push(peer);
        }
        world
    }

    pub fn newcomer(&mut self) -> Peer {
        self.next_id += 1;
        let own: &[(&str, &str)] = match self.next_id % 3 {
            0 => &[("TimeZone", "Asia/Tokyo"), ("work_mem", "1MB")],
            _ => &[],
        };
        let mut startup = Parameters::new();
        for (name, value) in own {
            startup.set(name, value);
        }
        let mut session = ClientSession::new(startup);
        if own.is_empty() {
            session = ClientSession::default();
        }
        Peer {
            client: Client::new(self.next_id, self.plan.rounds, own),
            session,
            carry: Vec::new(),
            skip: 0,
            pending: None,
            exchange: None,
            waiting_since: None,
            is_gone: false,
        }
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now:5} {}", line()));
        }
    }

    /// One thing happens.
    pub fn step(&mut self) -> Result<(), Failure> {
        self.now += 1;
        let at = self.random.below(self.peers.len());
        if self.peers[at].is_gone {
            return Ok(());
        }
        if !self.calm && self.plan.faults != usize::MAX && self.random.below(self.plan.faults) == 0 {
            return self.fault(at);
        }
        match self.random.below(8) {
            0 => {
                let peer = &mut self.peers[at];
                if peer.client.outgoing.len() < self.plan.ahead {
                    peer.client.ask(&mut self.random);
                }
                Ok(())
            }
            1..4 => self.read_client(at),
            4..6 => {
                self.write_server(at);
                Ok(())
            }
            _ => self.read_server(at),
        }?;
        self.let_go(at)?;
        self.time_out()
    }

    fn piece(&mut self, len: usize) -> usize {
        let piece = 1 + self.random.below(self.plan.piece_max);
        self.moved += piece.min(len) as u64;
        piece.min(len)
    }

    fn read_client(&mut self, at: usize) -> Result<(), Failure> {
        let looks = self.random.below(4) == 0;
        let peer = &mut self.peers[at];
        if let Some(exchange) = &peer.exchange {
            let is_both = looks || exchange.flow.attention(&exchange.conn.state) == Attention::Both;
            if exchange.stage != Stage::Running || exchange.leaves || exchange.flow.is_held() || !is_both {
                return Ok(());
            }
        }
        let len = peer.client.outgoing.len();
        let len = self.piece(len);
        if len == 0 {
            return Ok(());
        }
        let peer = &mut self.peers[at];
        let came: Vec<u8> = peer.client.outgoing.drain(..len).collect();
        let mut input = std::mem::take(&mut peer.carry);
        input.extend_from_slice(&came);
        if peer.waiting_since.is_some() {
            peer.carry = input;
            return Ok(());
        }
        if peer.exchange.is_none() {
            return self.on_idle_input(at, input);
        }
        self.on_client_input(at, input)?;
        let peer = &self.peers[at];
        let leaves = peer.exchange.as_ref().is_some_and(|exchange| exchange.leaves);
        if self.is_over(at) && (leaves || peer.carry.is_empty()) {
            return self.finish(at);
        }
        Ok(())
    }

    /// A client without a server connection has sent something.
    pub fn on_idle_input(&mut self, at: usize, input: Vec<u8>) -> Result<(), Failure> {
        let begins = match self.peers[at].pending {
            Some(_) => Begins::AtServer,
            None => self.plan.begins,
        };
        let mut from = self.peers[at].skip.min(input.len());
        self.peers[at].skip -= from;
        loop {
            let peer = &mut self.peers[at];
            let mut out = Vec::new();
            let rest = input.get(from..).unwrap_or_default();
            let idle = peer
                .session
                .on_idle(rest, begins, &mut out)
                .map_err(|error| Failure(format!("{error:?}")))?;
            let advance = |peer: &mut Peer, from: usize, count: usize| {
                peer.client.consumed += count;
                peer.skip += (from + count).saturating_sub(input.len());
                (from + count).min(input.len())
            };
            from = advance(peer, from, idle.consumed);
            self.tell(at, &out)?;
            let peer = &mut self.peers[at];
            let rest = input[from..].to_vec();
            match idle.wants {
                Wants::Nothing => {
                    peer.carry = rest;
                    return Ok(());
                }
                Wants::Goodbye => {
                    peer.client.on_goodbye()?;
                    self.leave(at);
                    return Ok(());
                }
                Wants::Server => {}
            }
            let Some(report) = peer.pending.take() else {
                peer.carry = rest;
                return self.ask(at);
            };
            let mut out = Vec::new();
            peer.client.on_refused(peer.client.consumed);
            let refused = peer.session.refuse(&rest, &report, &mut out);
            from = advance(peer, from, refused);
            self.tell(at, &out)?;
        }
    }

    /// Input of a client that has a server connection.
    pub fn on_client_input(&mut self, at: usize, input: Vec<u8>) -> Result<(), Failure> {
        let peer = &mut self.peers[at];
        let Some(exchange) = &mut peer.exchange else {
            return Ok(());
        };
        let conn = &mut exchange.conn;
        let mut lines = Vec::new();
        if exchange.flow.is_at_rest(&conn.state) {
            let before = conn.sent.len();
            let sql = settings::difference(&mut peer.session, &mut conn.state);
            if sql.is_some() || peer.session.block == Block::Failed {
                exchange.stage = Stage::Preparing;
            }
            if let Some(sql) = sql {
                exchange.flow.inject_query(&sql, &mut conn.state, &mut conn.sent);
            }
            if peer.session.block == Block::Failed {
                exchange
                    .flow
                    .inject_query("BEGIN", &mut conn.state, &mut conn.sent);
                let fail = "ROLLBACK TO SAVEPOINT pgweir_lost";
                exchange.flow.inject_query(fail, &mut conn.state, &mut conn.sent);
            }
            if self.trace.is_some() {
                lines.extend(frontend(&conn.sent[before..]));
            }
        }
        let mut came = Vec::new();
        if exchange.stage == Stage::Preparing {
            peer.carry = input;
        } else {
            let mut out = Outbox::new();
            let mut parties = Parties {
                client: &mut peer.session,
                server: &mut conn.state,
                cache: &mut self.cache,
            };
            let passed = exchange.flow.on_client(&input, &mut out, &mut parties);
            let passed = passed.map_err(|error| Failure(format!("{error:?}")))?;
            if exchange.flow.owes_fakes(&parties) {
                let mut fakes = Outbox::new();
                exchange.flow.answer_fakes(&[], &mut fakes, &mut parties);
                came.extend_from_slice(fakes.bytes(&[]));
            }
            exchange.leaves |= passed.next == Next::Goodbye;
            peer.client.consumed += passed.consumed;
            peer.carry = input[passed.consumed..].to_vec();
            if self.trace.is_some() {
                lines.extend(frontend(out.bytes(&input)));
            }
            conn.sent.extend_from_slice(out.bytes(&input));
            let is_begin = |entry: &Entry| matches!(entry.answer, Answer::Begin);
            let is_refused = !self.calm && self.random.below(self.plan.refusals) == 0;
            if is_refused && conn.state.pipeline.head().is_some_and(is_begin) {
                conn.model.refuse_begin();
            }
        }
        let (client, id) = (peer.client.id, conn.state.id);
        self.note(|| format!("client {client} -> server {id}: {lines:?}"));
        self.tell(at, &came)
    }

    pub fn tell(&mut self, at: usize, bytes: &[u8]) -> Result<(), Failure> {
        let client = self.peers[at].client.id;
        if !bytes.is_empty() {
            self.note(|| format!("client {client} <- {:?}", backend(bytes)));
        }
        self.peers[at].client.receive(bytes)
    }

    fn write_server(&mut self, at: usize) {
        let Some(exchange) = &self.peers[at].exchange else {
            return;
        };
        let len = exchange.conn.sent.len();
        let len = self.piece(len);
        let Some(exchange) = &mut self.peers[at].exchange else {
            return;
        };
        let bytes: Vec<u8> = exchange.conn.sent.drain(..len).collect();
        exchange.conn.model.feed(&bytes);
    }

    fn read_server(&mut self, at: usize) -> Result<(), Failure> {
        let Some(exchange) = &self.peers[at].exchange else {
            return Ok(());
        };
        let len = exchange.conn.model.out.len();
        let len = self.piece(len);
        let Some(exchange) = &mut self.peers[at].exchange else {
            return Ok(());
        };
        if len == 0 {
            return Ok(());
        }
        let came: Vec<u8> = exchange.conn.model.out.drain(..len).collect();
        self.on_server_input(at, &came)
    }

    pub fn on_server_input(&mut self, at: usize, came: &[u8]) -> Result<(), Failure> {
        let peer = &mut self.peers[at];
        let Some(exchange) = &mut peer.exchange else {
            return Ok(());
        };
        let conn = &mut exchange.conn;
        let mut input = std::mem::take(&mut conn.carry);
        input.extend_from_slice(came);
        let mut out = Outbox::new();
        let mut parties = Parties {
            client: &mut peer.session,
            server: &mut conn.state,
            cache: &mut self.cache,
        };
        let heard = exchange.flow.on_server(&input, &mut out, &mut parties);
        let heard = heard.map_err(|error| Failure(format!("client {}: {error:?}", peer.client.id)))?;
        conn.carry = input[heard.consumed..].to_vec();
        let is_held = exchange.flow.is_held();
        let stage = exchange.stage;
        let bytes = out.bytes(&input).to_vec();
        self.tell(at, &bytes)?;
        if let Some(words) = heard.end {
            return self.bury(at, words.report());
        }
        match stage {
            Stage::Preparing => return self.on_prepared(at),
            Stage::Inquiring => return self.on_inquired(at),
            Stage::Running => {}
        }
        if self.is_over(at) {
            return self.finish(at);
        }
        if self.inquire(at) {
            return Ok(());
        }
        if is_held {
            let input = std::mem::take(&mut self.peers[at].carry);
            self.on_client_input(at, input)?;
            let leaves = self.peers[at]
                .exchange
                .as_ref()
                .is_some_and(|exchange| exchange.leaves);
            if leaves && self.is_over(at) {
                return self.finish(at);
            }
        }
        Ok(())
    }

    fn on_prepared(&mut self, at: usize) -> Result<(), Failure> {
        let peer = &mut self.peers[at];
        let Some(exchange) = &mut peer.exchange else {
            return Ok(());
        };
        if !exchange.conn.state.pipeline.is_empty() {
            return Ok(());
        }
        exchange.stage = Stage::Running;
        let error = exchange.flow.take_own_error();
        let was_failed = peer.session.block == Block::Failed;
        if was_failed {
            peer.session.block = Block::None;
        }
        let is_failed = exchange.conn.state.transaction == TransactionState::Failed;
        if was_failed != is_failed || (error.is_some() && !was_failed) {
            return fail(format!(
                "client {}: cannot be prepared: {error:?}",
                peer.client.id
            ));
        }
        settings::on_applied(&peer.session, &mut exchange.conn.state);
        let input = std::mem::take(&mut peer.carry);
        self.on_client_input(at, input)
    }

    /// A transaction has ended, and the server is asked what became of settings and pins. Says whether it is.
    fn inquire(&mut self, at: usize) -> bool {
        let peer = &mut self.peers[at];
        let Some(exchange) = &mut peer.exchange else {
            return false;
        };
        let state = &mut exchange.conn.state;
        if exchange.leaves || !exchange.flow.is_at_rest(state) {
            return false;
        }
        let Some(inquiry) = &mut peer.session.inquiry else {
            return false;
        };
        let (client, sql) = (peer.client.id, inquiry.sql());
        exchange.flow.inquire(inquiry, state, &mut exchange.conn.sent);
        exchange.stage = Stage::Inquiring;
        self.note(|| format!("client {client}: {sql}"));
        true
    }

    fn on_inquired(&mut self, at: usize) -> Result<(), Failure> {
        let peer = &mut self.peers[at];
        let Some(exchange) = &mut peer.exchange else {
            return Ok(());
        };
        let state = &mut exchange.conn.state;
        if !state.pipeline.is_empty() {
            return Ok(());
        }
        exchange.stage = Stage::Running;
        let Answered::Found(findings) = exchange.flow.take_findings(&mut peer.session) else {
            return fail(format!("client {}: nothing was found", peer.client.id));
        };
        peer.session.on_found(state, &findings);
        if self.is_over(at) {
            return self.finish(at);
        }
        let input = std::mem::take(&mut self.peers[at].carry);
        self.on_client_input(at, input)
    }

    fn is_over(&self, at: usize) -> bool {
        let peer = &self.peers[at];
        let Some(exchange) = &peer.exchange else {
            return false;
        };
        exchange.flow.is_at_rest(&exchange.conn.state)
            && exchange.stage == Stage::Running
            && (peer.session.inquiry.is_none() || exchange.leaves)
            && (peer.session.pinned().is_none() || exchange.leaves)
    }

    /// The exchange is at rest: its connection goes to the next.
    fn finish(&mut self, at: usize) -> Result<(), Failure> {
        let peer = &mut self.peers[at];
        let Some(exchange) = peer.exchange.take() else {
            return Ok(());
        };
        let Exchange {
            mut conn,
            flow,
            leaves,
            ..
        } = exchange;
        if peer.session.pinned().is_some() || peer.session.inquiry.is_some() {
            conn.state.hygiene = conn.state.hygiene.worsen(Hygiene::Tainted);
        }
        peer.session.pins = Pins::NONE;
        peer.session.inquiry = None;
        let Ok(rest) = flow.into_rest(&mut conn.state) else {
            return fail("a connection that is not at rest was to be given back".into());
        };
        if leaves {
            peer.client.on_goodbye()?;
            self.leave(at);
        }
        self.give_back(conn, &rest)?;
        let peer = &mut self.peers[at];
        if !peer.is_gone && !peer.carry.is_empty() {
            let input = std::mem::take(&mut peer.carry);
            return self.on_idle_input(at, input);
        }
        Ok(())
    }
}
