//! Anything from both sides of an exchange: what leaves is made of whole messages, and how the input was cut makes no difference.

use super::{Flow, Naming, Next, Parties};
use crate::protocol::{CancelKey, HEAD_LEN, Head, Parameters, Report, SqlState};
use crate::session::begin::Modes;
use crate::session::client::{Begins, Block};
use crate::session::statement::StatementCache;
use crate::session::{ClientSession, Outbox, ServerState};

/// Plays a script of events to two exchanges, one of which gets every piece of input byte by byte.
pub fn fuzz_flow(data: &[u8]) {
    let Some((&first, script)) = data.split_first() else {
        return;
    };
    let naming = if first & 1 == 0 {
        Naming::Verbatim
    } else {
        Naming::Mapped { max: 2 }
    };
    // Clients come in a block that no server knows of, or not.
    let block = if first & 2 == 0 {
        Block::None
    } else {
        Block::Begun(Modes::default())
    };
    let listening = match (naming, first & 12) {
        (Naming::Mapped { .. }, 4) => Listening::Granted,
        (Naming::Mapped { .. }, 12) => Listening::Refused,
        _ => Listening::Own,
    };
    let mut whole = Exchange::new(naming, block, listening);
    let mut cut = Exchange::new(naming, block, listening);
    let mut is_same_pin = true;
    let mut budget = INPUT_LEN_MAX;
    for event in Script(script) {
        whole.play(&event, Pieces::Whole);
        cut.play(&event, Pieces::Cut);
        // How much of a long text had come when it was looked at decides whether it pins, and a client that is pinned is told
        // by its own connection, too.
        is_same_pin &= whole.client.pins == cut.client.pins || listening == Listening::Own;
        if whole.server.hygiene != cut.server.hygiene {
            // One has seen a long text whole, and for the other it may do anything: names wait for its answer, and what
            // stands behind it waits with them.
            break;
        }
        assert_eq!(whole.end, cut.end, "cutting {event:?} changes how it ends");
        budget = budget.saturating_sub(event.len());
        if whole.end != End::Open || budget == 0 {
            break;
        }
    }
    is_same_pin &= whole.server.hygiene == cut.server.hygiene;
    // What a failed pass had already written is lost with it.
    assert!(
        !is_same_pin || cut.to_client.sent.starts_with(&whole.to_client.sent),
        "cutting the input changes what the client gets"
    );
    // A `Bind` that is refused goes to the server, which skips it, if it was cut, and is dropped if it was not.
    assert!(
        naming != Naming::Verbatim || cut.to_server.sent.starts_with(&whole.to_server.sent),
        "cutting the input changes what the server gets"
    );
    whole.lose();
}

/// Two sides, what has come from them and was not consumed, and what has left for them.
struct Exchange {
    flow: Flow,
    client: ClientSession,
    server: ServerState,
    cache: StatementCache,
    naming: Naming,
    block: Block,
    listening: Listening,
    client_unread: Vec<u8>,
    client_pending: Vec<u8>,
    server_pending: Vec<u8>,
    to_client: Sent,
    to_server: Sent,
    out: Outbox,
    end: End,
    /// What we have done of our own, so that answers are dropped or put in other words.
    interventions: u32,
}

impl Exchange {
    fn new(naming: Naming, block: Block, listening: Listening) -> Self {
        let key = CancelKey {
            process_id: 1,
            secret: [].into(),
        };
        let mut reported = Parameters::new();
        reported.set("client_encoding", "UTF8");
        let server = ServerState::new(1, key, reported);
        Self {
            flow: listening.flow(naming, &server),
            listening,
            client: newcomer(block),
            server,
            cache: StatementCache::new(0),
            naming,
            block,
            client_unread: Vec::new(),
            client_pending: Vec::new(),
            server_pending: Vec::new(),
            to_client: Sent::default(),
            to_server: Sent::default(),
            out: Outbox::new(),
            end: End::Open,
            interventions: u32::from(block != Block::None),
        }
    }

    fn play(&mut self, event: &Event<'_>, pieces: Pieces) {
        match event {
            Event::Client(input) => self.feed_client(input, pieces.of(1)),
            Event::Server(input) => self.feed_server(input, pieces.of(1)),
            Event::ClientFill(len) => self.feed_client(&vec![FILL; *len], pieces.of(FILL_SCALE)),
            Event::ServerFill(len) => self.feed_server(&vec![FILL; *len], pieces.of(FILL_SCALE)),
            Event::Query => self.inject(),
            Event::Timeout => {
                self.flow.on_statement_timeout();
                self.interventions += 1;
            }
            Event::Change => self.change_client(),
        }
    }

    /// What is not read while the exchange holds the client back is read later.
    fn feed_client(&mut self, input: &[u8], piece_len: usize) {
        self.client_unread.extend_from_slice(input);
        if self.flow.is_held() {
            self.on_client(&[]);
        }
        while self.end == End::Open && !self.flow.is_held() && !self.client_unread.is_empty() {
            let len = piece_len.min(self.client_unread.len());
            let piece: Vec<u8> = self.client_unread.drain(..len).collect();
            self.on_client(&piece);
        }
    }

    fn feed_server(&mut self, input: &[u8], piece_len: usize) {
        for piece in input.chunks(piece_len) {
            if self.end == End::Open {
                self.on_server(piece);
            }
        }
    }

    fn on_client(&mut self, piece: &[u8]) {
        let was_begun = self.client.is_begun();
        self.client_pending.extend_from_slice(piece);
        self.out.reset();
        let mut parties = Parties {
            client: &mut self.client,
            server: &mut self.server,
            cache: &mut self.cache,
        };
        let passed = match self
            .flow
            .on_client(&self.client_pending, &mut self.out, &mut parties)
        {
            Ok(passed) => passed,
            Err(error) => {
                self.end = End::Broken(Report::from(&error).code);
                return;
            }
        };
        let owes_fakes = self.flow.owes_fakes(&parties);
        let sent = self.out.bytes(&self.client_pending);
        let consumed = self.client_pending.get(..passed.consumed).unwrap_or_default();
        assert_eq!(consumed.len(), passed.consumed, "more was consumed than has come");
        if was_begun {
            assert_eq!(
                self.client.is_begun(),
                sent.is_empty(),
                "a block is begun with a request"
            );
            // It goes ahead alone only if its answer is what the request waits for.
            assert!(consumed.is_empty() || !sent.is_empty());
            assert!(!consumed.is_empty() || sent.is_empty() || self.flow.is_held());
        }
        if self.naming == Naming::Verbatim {
            assert!(sent.ends_with(consumed), "a client's bytes were changed");
            assert!(was_begun || sent.len() == consumed.len(), "something was put in");
        }
        self.to_server.send(sent);
        assert_eq!(self.to_server.missing, self.flow.client_rest());
        self.client_pending.drain(..passed.consumed);
        if owes_fakes {
            self.answer_fakes();
        }
        if passed.next == Next::Goodbye {
            self.end = End::Goodbye;
        }
        self.answer_question();
    }

    /// The connection that many share answers at once.
    fn answer_question(&mut self) {
        if self.end == End::Open && self.flow.asks_for_channels().is_some() {
            self.flow.on_channels(self.listening == Listening::Granted);
            self.on_server(&[]);
            if self.end == End::Open && self.flow.is_held() {
                self.on_client(&[]);
            }
        }
    }

    fn answer_fakes(&mut self) {
        self.out.reset();
        let mut parties = Parties {
            client: &mut self.client,
            server: &mut self.server,
            cache: &mut self.cache,
        };
        self.flow.answer_fakes(&[], &mut self.out, &mut parties);
        self.to_client.send(self.out.bytes(&[]));
    }

    fn on_server(&mut self, piece: &[u8]) {
        self.server_pending.extend_from_slice(piece);
        self.out.reset();
        let mut parties = Parties {
            client: &mut self.client,
            server: &mut self.server,
            cache: &mut self.cache,
        };
        let heard = match self
            .flow
            .on_server(&self.server_pending, &mut self.out, &mut parties)
        {
            Ok(heard) => heard,
            Err(error) => {
                self.end = End::Broken(Report::from(&error).code);
                return;
            }
        };
        let sent = self.out.bytes(&self.server_pending);
        let consumed = self.server_pending.get(..heard.consumed).unwrap_or_default();
        assert_eq!(consumed.len(), heard.consumed, "more was consumed than has come");
        if self.naming == Naming::Verbatim && self.interventions == 0 {
            assert!(consumed.starts_with(sent), "a server's bytes were changed");
            assert!(
                sent.len() == consumed.len() || heard.end.is_some(),
                "a server's bytes were lost"
            );
        }
        self.to_client.send(sent);
        assert_eq!(self.to_client.missing > 0, self.flow.is_inside_answer());
        self.server_pending.drain(..heard.consumed);
        if let Some(ending) = heard.end {
            drop(ending.report());
            self.end = End::Closed;
        }
        self.answer_question();
    }

    /// A query of our own, between two messages of the client.
    fn inject(&mut self) {
        if self.flow.client_rest() > 0 || !self.is_client_idle() {
            return;
        }
        let mut made = Vec::new();
        self.flow.inject_query("select 1", &mut self.server, &mut made);
        self.to_server.send(&made);
        self.interventions += 1;
    }

    /// Whether nothing of the client's waits to be dealt with.
    fn is_client_idle(&self) -> bool {
        self.client_unread.is_empty() && self.client_pending.is_empty()
    }

    /// Another client gets the connection, if it is at rest, and its client is not in the middle of something: how much of
    /// a long text had come when it was looked at decides whether the rest of it is awaited.
    fn change_client(&mut self) {
        if !self.is_client_idle() {
            return;
        }
        let fresh = self.listening.flow(self.naming, &self.server);
        let flow = std::mem::replace(&mut self.flow, fresh);
        match flow.into_rest(&mut self.server) {
            Ok(rest) => {
                assert_eq!(rest.server(), self.server.id);
                assert!(self.server.pipeline.is_empty());
                assert_eq!((self.to_client.missing, self.to_server.missing), (0, 0));
                self.client = newcomer(self.block);
                self.interventions = u32::from(self.block != Block::None);
                self.flow = self.listening.flow(self.naming, &self.server);
            }
            Err(flow) => self.flow = *flow,
        }
    }

    /// The server connection is lost: the client is answered, and what it has sent is refused.
    fn lose(mut self) {
        let report = Report::error(SqlState::CONNECTION_FAILURE, "lost");
        let mut out = Vec::new();
        self.flow
            .on_lost(&mut self.client, &mut self.server, &report, &mut out);
        self.client.on_server_gone();
        let mut input = self.client_pending.as_slice();
        while let Ok(idle) = self.client.on_idle(input, Begins::Here, &mut out) {
            input = input.get(idle.consumed..).unwrap_or_default();
            let refused = self.client.refuse(input, &report, &mut out);
            if idle.wants != crate::session::client::Wants::Server || refused == 0 {
                break;
            }
            input = input.get(refused..).unwrap_or_default();
        }
        let mut answers = Sent::default();
        answers.send(&out);
        assert_eq!(answers.missing, 0);
    }
}

fn newcomer(block: Block) -> ClientSession {
    let mut client = ClientSession::default();
    client.block = block;
    client
}

/// What has left for one side. It is made of whole messages, the last of which may still be under way.
#[derive(Default)]
struct Sent {
    sent: Vec<u8>,
    /// Bytes of the last message that are still to come.
    missing: usize,
}

impl Sent {
    fn send(&mut self, bytes: &[u8]) {
        self.sent.extend_from_slice(bytes);
        let passed = self.missing.min(bytes.len());
        self.missing -= passed;
        let mut rest = bytes.get(passed..).unwrap_or_default();
        while !rest.is_empty() {
            let Ok(Some(head)) = Head::read(rest) else {
                unreachable!("no head where a message begins: {rest:?}")
            };
            let end = head.len().min(rest.len());
            assert!(end >= HEAD_LEN);
            self.missing = head.len() - end;
            rest = rest.get(end..).unwrap_or_default();
        }
    }
}

/// Who listens for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listening {
    Own,
    /// Another connection.
    Granted,
    /// Another connection, which cannot.
    Refused,
}

impl Listening {
    fn flow(self, naming: Naming, server: &ServerState) -> Flow {
        let mut flow = Flow::new(naming, server);
        if self != Self::Own {
            flow.share_listening();
        }
        flow
    }
}

/// How input is handed over.
#[derive(Clone, Copy, Debug)]
enum Pieces {
    Whole,
    Cut,
}

impl Pieces {
    fn of(self, len: usize) -> usize {
        match self {
            Self::Whole => usize::MAX,
            Self::Cut => len,
        }
    }
}

/// Why nothing more is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// The client has left.
    Goodbye,
    /// The server has closed the connection.
    Closed,
    /// One side broke the protocol.
    Broken(SqlState),
}

#[derive(Debug)]
enum Event<'a> {
    Client(&'a [u8]),
    Server(&'a [u8]),
    /// A long stretch of nothing special.
    ClientFill(usize),
    ServerFill(usize),
    Query,
    Timeout,
    Change,
}

impl Event<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Client(input) | Self::Server(input) => input.len(),
            Self::ClientFill(len) | Self::ServerFill(len) => *len,
            Self::Query | Self::Timeout | Self::Change => 0,
        }
    }
}

/// Two bytes say what happens and how long it is; bytes of a side follow.
struct Script<'a>(&'a [u8]);

impl<'a> Iterator for Script<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        let (&[what, len], rest) = self.0.split_first_chunk::<2>()?;
        let len = usize::from(len);
        let (bytes, after) = rest.split_at(len.min(rest.len()));
        let (event, rest) = match what % 8 {
            0 | 1 => (Event::Client(bytes), after),
            2 | 3 => (Event::Server(bytes), after),
            4 => (Event::ClientFill(len * FILL_SCALE), rest),
            5 => (Event::ServerFill(len * FILL_SCALE), rest),
            6 => (Event::Change, rest),
            _ if len % 2 == 0 => (Event::Query, rest),
            _ => (Event::Timeout, rest),
        };
        self.0 = rest;
        Some(event)
    }
}

/// Of one script: above every limit that is counted in bytes, and little enough to be quick.
const INPUT_LEN_MAX: usize = 512 * 1024;
const FILL: u8 = b'x';
/// So that limits of many kilobytes are within reach of a short script.
const FILL_SCALE: usize = 256;
