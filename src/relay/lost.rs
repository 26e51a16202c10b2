//! When a server connection is lost: what the client is told, and how its failed transaction block lives on.

use crate::pool::conn::ServerConn;
use crate::protocol::{Report, Severity, SqlState, TransactionState};
use crate::session::client::Block;
use crate::session::flow::{Flow, answers::Ending};
use crate::session::settings;

use super::client::Client;
use super::farewell::Farewell;

/// What a connection is told before the client's request: its settings, and the failed block it believes to be in.
pub(super) fn prepare(
    flow: &mut Flow,
    conn: &mut ServerConn,
    settings: Option<&str>,
    block: Block,
    out: &mut Vec<u8>,
) {
    if let Some(sql) = settings {
        flow.inject_query(sql, &mut conn.state, out);
    }
    if block == Block::Failed {
        // PostgreSQL itself answers from inside a failed block, so that the client meets what it would meet anywhere.
        flow.inject_query("BEGIN", &mut conn.state, out);
        flow.inject_query("ROLLBACK TO SAVEPOINT pgweir_lost", &mut conn.state, out);
    }
}

/// Everything was answered. An error means that the client's settings cannot be had here.
pub(super) fn on_prepared(flow: &mut Flow, client: &mut Client, conn: &mut ServerConn) -> Option<Report> {
    let error = flow.take_own_error();
    if client.session.block == Block::Failed {
        client.session.block = Block::None;
        if conn.state.transaction == TransactionState::Failed {
            settings::on_applied(&client.session, &mut conn.state);
            return None;
        }
    }
    match error {
        Some(report) => Some(*report),
        None => {
            settings::on_applied(&client.session, &mut conn.state);
            None
        }
    }
}

/// Tells the client that its server connection is gone, so that it can go on where that is possible. `is_kept`: the
/// connection was the client's own, so its session is lost with it.
pub(super) fn tell(
    client: &mut Client,
    flow: &Flow,
    conn: &mut ServerConn,
    is_kept: bool,
    words: Option<&Ending>,
) -> Option<Farewell> {
    let in_block = conn.state.transaction != TransactionState::Idle;
    let report = words.map_or_else(|| report(flow, conn, in_block), Ending::report);
    let what = if words.is_some_and(Ending::is_refusal) {
        "gave up a server connection that refused to begin a transaction"
    } else {
        "lost a server connection"
    };
    tracing::warn!(
        client = client.seat.id,
        server = %conn.info.address,
        database = &*conn.info.database,
        user = &*conn.info.user,
        "{what}: {report}"
    );
    if flow.is_inside_answer() {
        // The client has the beginning of a message: whatever followed would be read as its rest.
        return Some(Farewell::Silent);
    }
    if is_kept {
        if let Some(words) = words {
            words.encode(Severity::Fatal, &mut client.owed);
            client.note_error(report.code);
            return Some(Farewell::Silent);
        }
        return Some(Farewell::Told(report.into_fatal()));
    }
    if conn.state.pipeline.is_empty() && !flow.is_busy(&conn.state) && !flow.is_in_batch() {
        if in_block {
            client.session.block = Block::Failed;
            client.pending = Some(Box::new(report));
        }
        return None;
    }
    client.note_error(report.code);
    flow.on_lost(&mut client.session, &mut conn.state, &report, &mut client.owed);
    client.skip += flow.client_rest();
    None
}

fn report(flow: &Flow, conn: &ServerConn, in_block: bool) -> Report {
    let message = "the server connection was lost";
    let is_busy = flow.is_busy(&conn.state);
    if is_busy && (!in_block || flow.may_commit()) {
        return Report::error(SqlState::TRANSACTION_RESOLUTION_UNKNOWN, message)
            .with_detail("Whether the statement in flight took effect is not known.")
            .with_hint("Look whether its changes are there before you repeat it.");
    }
    Report::error(SqlState::CONNECTION_FAILURE, message)
        .with_detail("Nothing of the transaction was committed.")
        .with_hint("Roll back, and repeat the transaction.")
}
