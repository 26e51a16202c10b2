//! What an exchange has come to, added to its pool's statistics.

use std::sync::atomic::Ordering;

use crate::pool::lease::Lease;
use crate::pool::shared::add;
use crate::session::flow::Tally;

use super::client::Client;

/// Since when an exchange has been at work; 0 when that is accounted for, or not over. Microseconds on the clock.
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
    let numbers = lease.pool().numbers();
    let stats = &numbers.stats;
    add(&stats.simple_queries, done.simple_queries.into());
    let extended = done.queries.saturating_sub(done.simple_queries);
    add(&stats.extended_queries, extended.into());
    add(&stats.transactions, done.transactions.into());
    add(&stats.client_parses, done.client_parses.into());
    add(&stats.server_parses, done.server_parses.into());
    add(&stats.binds, done.binds.into());
    if since.transaction != 0 {
        let micros = now.saturating_sub(since.transaction);
        add(&stats.transaction_time, micros);
        numbers.durations.transaction.observe(micros);
    }
    note_query(client, since.busy, now);
}

/// Adds the time of a query that has begun then; 0 when there is none.
pub(super) fn note_query(client: &Client, since: u64, now: u64) {
    if since != 0 {
        let micros = now.saturating_sub(since);
        let numbers = client.pool.numbers();
        add(&numbers.stats.query_time, micros);
        numbers.durations.query.observe(micros);
    }
}
