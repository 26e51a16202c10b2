//! The pool of the simulated pooler: who gets which connection, and what is lost.

use pgweir::protocol::{CancelKey, Parameters, Report, Severity, SqlState, TransactionState};
use pgweir::session::client::Block;
use pgweir::session::flow::Naming;
use pgweir::session::{Flow, Hygiene, Rest, ServerState};

use crate::model::Model;
use crate::wire::fatal;
use crate::world::{Conn, Exchange, Stage, World};
use crate::{Failure, fail};

impl World {
    /// The client needs a server connection for what is in `carry`.
    pub fn ask(&mut self, at: usize) -> Result<(), Failure> {
        let open = self.idle.len() + self.peers.iter().filter(|peer| peer.exchange.is_some()).count();
        if self.queue.is_empty() {
            if let Some(conn) = self.idle.pop() {
                return self.lease(at, conn);
            }
            if open < self.plan.servers {
                let conn = self.open();
                return self.lease(at, conn);
            }
        }
        self.queue.push_back(at);
        self.peers[at].waiting_since = Some(self.now);
        Ok(())
    }

    fn open(&mut self) -> Conn {
        self.next_id += 1;
        let mut reported = Parameters::new();
        reported.set("TimeZone", "UTC");
        let key = CancelKey {
            process_id: 1,
            secret: [0; 4].into(),
        };
        let state = ServerState::new(self.next_id, key, reported);
        Conn {
            state,
            model: Model::new(&[]),
            sent: Vec::new(),
            carry: Vec::new(),
        }
    }

    fn lease(&mut self, at: usize, conn: Conn) -> Result<(), Failure> {
        let id = conn.state.id;
        let naming = Naming::Mapped {
            max: self.plan.statements,
        };
        let flow = Flow::new(naming, &conn.state);
        let peer = &mut self.peers[at];
        peer.waiting_since = None;
        peer.exchange = Some(Exchange {
            conn,
            flow,
            stage: Stage::Running,
            leaves: false,
        });
        let (input, client) = (std::mem::take(&mut peer.carry), peer.client.id);
        self.note(|| format!("client {client} has server {id}"));
        self.on_client_input(at, input)
    }

    pub fn give_back(&mut self, mut conn: Conn, rest: &Rest) -> Result<(), Failure> {
        assert_eq!(rest.server(), conn.state.id);
        if conn.state.hygiene == Hygiene::Unfit {
            return self.serve_queue(None);
        }
        // What is still on its way is what the server ignores: the data of a copy that has failed.
        let sent = std::mem::take(&mut conn.sent);
        conn.model.feed(&sent);
        if conn.state.hygiene == Hygiene::Tainted {
            conn.model.reset();
            conn.state.on_discarded();
        }
        self.serve_queue(Some(conn))
    }

    fn serve_queue(&mut self, conn: Option<Conn>) -> Result<(), Failure> {
        let conn = match conn {
            Some(conn) => conn,
            None if self.queue.is_empty() => return Ok(()),
            None => self.open(),
        };
        crate::invariants::check_idle(&conn)?;
        match self.queue.pop_front() {
            Some(next) => self.lease(next, conn),
            None => {
                self.idle.push(conn);
                Ok(())
            }
        }
    }

    /// A client that has waited too long is refused.
    pub fn time_out(&mut self) -> Result<(), Failure> {
        let Some(&at) = self.queue.front() else {
            return Ok(());
        };
        let since = self.peers[at].waiting_since.unwrap_or(self.now);
        if self.now - since < self.plan.patience {
            return Ok(());
        }
        self.queue.pop_front();
        let peer = &mut self.peers[at];
        peer.waiting_since = None;
        peer.pending = Some(Report::error(
            SqlState::TOO_MANY_CONNECTIONS,
            "no server connection became free",
        ));
        let input = std::mem::take(&mut peer.carry);
        let client = peer.client.id;
        self.note(|| format!("client {client} is refused"));
        self.on_idle_input(at, input)
    }

    /// Something goes wrong.
    pub fn fault(&mut self, at: usize) -> Result<(), Failure> {
        match self.random.below(4) {
            0 => {
                let client = self.peers[at].client.id;
                self.note(|| format!("client {client} breaks off"));
                self.leave(at);
                self.abandon(at)
            }
            1 => {
                _ = self.idle.pop();
                Ok(())
            }
            2 => {
                let Some(exchange) = &mut self.peers[at].exchange else {
                    return Ok(());
                };
                // The last words come behind whatever was on its way.
                let mut last = std::mem::take(&mut exchange.conn.model.out);
                last.extend(fatal("57P01", "terminating connection"));
                self.on_server_input(at, &last)?;
                // Nobody listened to them.
                let ended = SqlState::ADMIN_SHUTDOWN;
                self.bury(at, Report::error(ended, "terminating connection"))
            }
            _ => self.bury(at, Report::error(SqlState::CONNECTION_FAILURE, "lost")),
        }
    }

    /// A client's server connection is lost.
    pub fn bury(&mut self, at: usize, report: Report) -> Result<(), Failure> {
        let peer = &mut self.peers[at];
        let Some(mut exchange) = peer.exchange.take() else {
            return Ok(());
        };
        let (client, id) = (peer.client.id, exchange.conn.state.id);
        let is_inside = exchange.flow.is_inside_answer();
        let inquiry = peer.session.inquiry.as_ref();
        let is_asking = inquiry.is_some_and(|inquiry| inquiry.asks_settings());
        if is_inside || is_asking || peer.session.pinned().is_some() {
            if is_inside != peer.client.is_inside_message() && !is_inside {
                return fail(format!("client {client}: is inside a message unbeknown"));
            }
            assert_eq!(report.severity, Severity::Error);
            self.leave(at);
            return self.serve_queue(None);
        }
        let flow = &exchange.flow;
        let state = &mut exchange.conn.state;
        let mut out = Vec::new();
        if peer.session.is_begun() {
            // The server had heard nothing of the block.
            flow.on_lost(&mut peer.session, state, &report, &mut out);
        } else if state.pipeline.is_empty() && !flow.is_busy(state) && !flow.is_in_batch() {
            peer.client.on_lost_between();
            if state.transaction != TransactionState::Idle {
                peer.session.block = Block::Failed;
                peer.pending = Some(report);
            }
        } else {
            let rest = flow.client_rest();
            peer.client.on_lost();
            flow.on_lost(&mut peer.session, state, &report, &mut out);
            peer.skip += rest;
            peer.client.consumed += rest;
        }
        peer.session.on_server_gone();
        self.note(|| format!("client {client} loses server {id}"));
        self.tell(at, &out)?;
        self.serve_queue(None)?;
        let input = std::mem::take(&mut self.peers[at].carry);
        self.on_idle_input(at, input)
    }

    /// A client that has said goodbye in a block: nothing that is promised to it is left.
    pub fn let_go(&mut self, at: usize) -> Result<(), Failure> {
        let peer = &mut self.peers[at];
        let Some(exchange) = &peer.exchange else {
            return Ok(());
        };
        if !exchange.leaves || exchange.flow.is_promised(&exchange.conn.state) {
            return Ok(());
        }
        if exchange.conn.state.pipeline.is_empty() {
            peer.client.on_goodbye()?;
        }
        self.leave(at);
        self.abandon(at)
    }

    pub fn leave(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        peer.is_gone = true;
        self.queue.retain(|waiting| *waiting != at);
    }

    /// The exchange of a client that is gone.
    fn abandon(&mut self, at: usize) -> Result<(), Failure> {
        if self.peers[at].exchange.take().is_some() {
            self.serve_queue(None)?;
        }
        Ok(())
    }

    /// Those who are gone make room for others, as long as some are to come.
    pub fn admit(&mut self) {
        for at in 0..self.peers.len() {
            if self.peers[at].is_gone && self.peers[at].exchange.is_none() && self.to_come > 0 {
                self.to_come -= 1;
                self.peers[at] = self.newcomer();
            }
        }
    }
}
