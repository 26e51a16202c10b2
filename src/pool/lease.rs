//! A server connection taken out of its pool.

use std::rc::Rc;

use crate::session::{Hygiene, Rest};

use super::conn::ServerConn;
use super::local::{LocalPool, note};
use super::reset;

/// Whoever has it has the connection. Dropping it closes the connection; giving it back takes a proof that it is at rest.
#[derive(Debug)]
#[must_use = "dropping a lease closes its connection"]
pub struct Lease {
    conn: Box<ServerConn>,
    active: Active,
}

impl Lease {
    pub(super) fn new(conn: Box<ServerConn>, pool: Rc<LocalPool>) -> Self {
        note(&pool.numbers().active, 1);
        Self {
            conn,
            active: Active { pool },
        }
    }

    pub fn conn(&mut self) -> &mut ServerConn {
        &mut self.conn
    }

    #[must_use]
    pub fn pool(&self) -> &Rc<LocalPool> {
        &self.active.pool
    }

    /// The connection is at rest: somebody else may have it.
    pub fn give_back(self, rest: &Rest) {
        let Self { conn, active } = self;
        let pool = Rc::clone(&active.pool);
        drop(active);
        pool.give_back(conn, rest);
    }

    /// Its client wants nothing of what the server still answers, so many times: that is passed over in the background, and all that
    /// may be left of the client is discarded before somebody else has the connection. Everything was sent that the answers are to.
    pub fn discard_behind(self, answers: usize) {
        let Self { mut conn, active } = self;
        conn.state.hygiene = conn.state.hygiene.worsen(Hygiene::Tainted);
        if conn.state.hygiene == Hygiene::Tainted {
            reset::spawn_behind(&active.pool, conn, answers);
        }
    }
}

/// Counts a connection as active.
#[derive(Debug)]
struct Active {
    pool: Rc<LocalPool>,
}

impl Drop for Active {
    fn drop(&mut self) {
        note(&self.pool.numbers().active, -1);
    }
}
