//! From what a client has left behind to a connection that is like new.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::protocol::TransactionState;
use crate::session::Hygiene;

use super::conn::{ServerConn, ServerInfo};
use super::converse::{self, Trouble};
use super::local::{LocalPool, count};
use super::shared::PoolShared;

/// Cleans a connection in the background and gives it to its pool; what cannot be cleaned is closed.
pub(super) fn spawn(pool: &Rc<LocalPool>, conn: Box<ServerConn>) {
    spawn_behind(pool, conn, 0);
}

/// The same once so many answers were given to what its last client has asked for.
pub(super) fn spawn_behind(pool: &Rc<LocalPool>, mut conn: Box<ServerConn>, answers: usize) {
    let tested = Tested::new(pool, &conn);
    let pool = Rc::clone(pool);
    tokio::task::spawn_local(async move {
        let cleaned = timeout(RESET_MAX, async {
            converse::pass_over(&mut conn, answers).await.ok()?;
            clean(conn, &pool.shared).await
        })
        .await;
        drop(tested);
        match cleaned {
            Ok(Some(conn)) => pool.accept(conn),
            Ok(None) | Err(_) => pool.recheck(),
        }
    });
}

/// A connection that is being cleaned, as the console counts and shows it, until this is dropped.
struct Tested {
    pool: Rc<LocalPool>,
    info: Arc<ServerInfo>,
}

impl Tested {
    fn new(pool: &Rc<LocalPool>, conn: &ServerConn) -> Self {
        count(&pool.numbers().tested, 1);
        pool.tested.borrow_mut().push(Arc::clone(&conn.info));
        Self {
            pool: Rc::clone(pool),
            info: Arc::clone(&conn.info),
        }
    }
}

impl Drop for Tested {
    fn drop(&mut self) {
        count(&self.pool.numbers().tested, -1);
        self.pool
            .tested
            .borrow_mut()
            .retain(|tested| tested.id != self.info.id);
    }
}

async fn clean(mut conn: Box<ServerConn>, shared: &PoolShared) -> Option<Box<ServerConn>> {
    if !conn.info.cancels.is_settled() {
        conn.info.cancels.settled().await;
        if conn.info.cancels.is_in_doubt() {
            return None;
        }
        // The server has taken the requests in; what they hit, if anything, is this, and its error is what they cause.
        match converse::query(&mut conn, "").await {
            Ok(_) | Err(Trouble::Error(_)) => {}
            Err(Trouble::Lost(_)) => return None,
        }
    }
    let discarded = discard(&mut conn, shared).await?;
    let known = conn.state.suspects.version;
    if shared.catalog.is_wanted_by(&conn.state, shared.clock.now()) {
        shared.catalog.renew(&mut conn, shared.clock).await.ok()?;
    }
    if shared.catalog.is_doubtful(known) && discarded == Discarded::Nothing {
        conn.state.hygiene = conn.state.hygiene.worsen(Hygiene::Tainted);
        discard(&mut conn, shared).await?;
    }
    let is_clean = conn.state.hygiene == Hygiene::Clean
        && conn.state.transaction == TransactionState::Idle
        && conn.carry.is_empty();
    is_clean.then_some(conn)
}

/// Whether there was something to be discarded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Discarded {
    Nothing,
    All,
}

async fn discard(conn: &mut ServerConn, shared: &PoolShared) -> Option<Discarded> {
    if conn.state.hygiene != Hygiene::Tainted {
        return Some(Discarded::Nothing);
    }
    converse::query(conn, "DISCARD ALL").await.ok()?;
    conn.state.on_discarded();
    if let Some(sql) = &shared.settings().connect_query {
        // Gone with everything else; a new connection has it.
        converse::query(conn, sql).await.ok()?;
    }
    // Some of it may be of files that were read again.
    if *conn.state.base != conn.state.reported {
        conn.state.base = Arc::new(conn.state.reported.clone());
    }
    Some(Discarded::All)
}

/// A reset is a matter of milliseconds; a server that does not answer for so long is not worth waiting for.
const RESET_MAX: Duration = Duration::from_secs(10);
