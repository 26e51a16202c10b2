//! A client and a server connection with a flow between them, driven by hand.

use super::super::answers::Ending;
use super::super::{Flow, Naming, Next, Parties, Rest};
use super::wire;
use crate::protocol::{CancelKey, Parameters, SqlState};
use crate::session::statement::StatementCache;
use crate::session::{ClientSession, Outbox, ServerState, SessionError};

/// A server connection as the pool keeps it.
pub(super) fn server(id: u64) -> ServerState {
    let mut reported = Parameters::new();
    reported.set("TimeZone", "UTC");
    let key = CancelKey {
        process_id: 1,
        secret: [0; 4].into(),
    };
    ServerState::new(id, key, reported)
}

/// One exchange. What the flow does not consume is given again with what comes next, as the relay does.
pub(super) struct Rig {
    pub(super) flow: Flow,
    pub(super) client: ClientSession,
    pub(super) server: ServerState,
    pub(super) cache: StatementCache,
    pub(super) client_carry: Vec<u8>,
    server_carry: Vec<u8>,
    pub(super) ending: Option<Ending>,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(Naming::Mapped { max: 200 })
    }

    pub(super) fn with(naming: Naming) -> Self {
        let server = server(1);
        Self {
            flow: Flow::new(naming, &server),
            client: ClientSession::default(),
            server,
            cache: StatementCache::new(0),
            client_carry: Vec::new(),
            server_carry: Vec::new(),
            ending: None,
        }
    }

    fn parts(&mut self) -> (&mut Flow, Parties<'_>) {
        let parties = Parties {
            client: &mut self.client,
            server: &mut self.server,
            cache: &mut self.cache,
        };
        (&mut self.flow, parties)
    }

    /// The client sends; what reaches the server.
    pub(super) fn client(&mut self, messages: &[Vec<u8>]) -> Vec<String> {
        wire::frontend(&self.client_bytes(&messages.concat()).unwrap())
    }

    pub(super) fn client_bytes(&mut self, bytes: &[u8]) -> Result<Vec<u8>, SessionError> {
        let mut input = std::mem::take(&mut self.client_carry);
        input.extend_from_slice(bytes);
        let mut out = Outbox::new();
        let (flow, mut parties) = self.parts();
        let passed = flow.on_client(&input, &mut out, &mut parties)?;
        assert_eq!(passed.next == Next::Answers, flow.is_held());
        self.client_carry = input[passed.consumed..].to_vec();
        Ok(out.bytes(&input).to_vec())
    }

    /// The answers that are due without a word from the server.
    pub(super) fn fakes(&mut self) -> Vec<String> {
        let mut out = Outbox::new();
        let (flow, mut parties) = self.parts();
        if flow.owes_fakes(&parties) {
            flow.answer_fakes(&[], &mut out, &mut parties);
        }
        wire::backend(out.bytes(&[]))
    }

    /// The server sends; what reaches the client.
    pub(super) fn server(&mut self, messages: &[Vec<u8>]) -> Vec<String> {
        wire::backend(&self.server_bytes(&messages.concat()).unwrap())
    }

    pub(super) fn server_bytes(&mut self, bytes: &[u8]) -> Result<Vec<u8>, SessionError> {
        let mut input = std::mem::take(&mut self.server_carry);
        input.extend_from_slice(bytes);
        let mut out = Outbox::new();
        let (flow, mut parties) = self.parts();
        let heard = flow.on_server(&input, &mut out, &mut parties)?;
        self.server_carry = input[heard.consumed..].to_vec();
        self.ending = heard.end;
        Ok(out.bytes(&input).to_vec())
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.flow.is_at_rest(&self.server)
    }

    /// Ends the exchange and begins another on the same connection.
    pub(super) fn rest(&mut self) -> Rest {
        let naming = self.flow.naming;
        let next = Flow::new(naming, &self.server);
        let flow = std::mem::replace(&mut self.flow, next);
        flow.into_rest(&mut self.server).unwrap()
    }

    /// Ends the exchange; the connection goes to another client, or the client to another connection.
    pub(super) fn swap(&mut self, client: &mut ClientSession, server: &mut ServerState) {
        drop(self.rest());
        std::mem::swap(&mut self.client, client);
        std::mem::swap(&mut self.server, server);
        self.flow = Flow::new(self.flow.naming, &self.server);
    }

    /// The connection is lost; what the client is told.
    pub(super) fn lose(&mut self) -> Vec<String> {
        let report = crate::protocol::Report::error(SqlState::CONNECTION_FAILURE, "lost");
        let mut out = Vec::new();
        self.flow
            .on_lost(&mut self.client, &mut self.server, &report, &mut out);
        self.client.on_server_gone();
        self.server = server(2);
        self.flow = Flow::new(self.flow.naming, &self.server);
        wire::backend(&out)
    }
}
