//! What an exchange has come to, added to its pool's statistics.

use std::sync::atomic::Ordering;

use crate::pool::lease::Lease;
use crate::pool::shared::add;
use crate::session::flow::Tally;

use super::client::Client;

/// Since when an exchange has been at work; 0 when that is accounted for. Microseconds on the clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    pub(super) busy: u64,
    pub(super) transaction: u64,
}

/// Adds what has been done since the last time, and the time that it took until now.
pub(super) fn settle(client: &Client, lease: &mut Lease, tally: &mut Tally, since: Since, now: u64) {
    client.seat.statements.set(client.session.statements.len());
    let conn = lease.conn();
    let statements = conn.state.statements.len();
    conn.info.statements.store(statements, Ordering::Relaxed);
    let done = std::mem::take(tally);
    // The count of steps goes on.
    tally.steps = done.steps;
    let stats = &lease.pool().numbers().stats;
    add(&stats.queries, done.queries.into());
    add(&stats.transactions, done.transactions.into());
    add(&stats.client_parses, done.client_parses.into());
    add(&stats.server_parses, done.server_parses.into());
    add(&stats.binds, done.binds.into());
    if since.transaction != 0 {
        add(&stats.transaction_time, now.saturating_sub(since.transaction));
    }
    if since.busy != 0 {
        add(&stats.query_time, now.saturating_sub(since.busy));
    }
}
