//! What holds after every step.

use pgweir::protocol::TransactionState;
use pgweir::session::Hygiene;

use crate::model::Copying;
use crate::world::{Conn, World};
use crate::{Failure, fail};

/// What a client may have sent ahead, beside what one message needs to be looked at whole.
const CARRY_MAX: usize = 64 * 1024;
const PIPELINE_MAX: usize = 32 * 1024;

pub fn check(world: &World) -> Result<(), Failure> {
    let leased = world.peers.iter().filter(|peer| peer.exchange.is_some()).count();
    if leased + world.idle.len() > world.plan.servers {
        return fail("more connections are open than allowed".into());
    }
    let mut ids: Vec<u64> = world.idle.iter().map(|conn| conn.state.id).collect();
    for peer in &world.peers {
        if peer.carry.len() > CARRY_MAX {
            return fail("too much is kept of a client's input".into());
        }
        let Some(exchange) = &peer.exchange else { continue };
        ids.push(exchange.conn.state.id);
        if peer.is_gone || peer.waiting_since.is_some() {
            return fail("a client has a connection that it cannot have".into());
        }
        if exchange.conn.state.pipeline.len() > PIPELINE_MAX {
            return fail("too much is in flight".into());
        }
    }
    ids.sort_unstable();
    ids.dedup();
    if ids.len() != leased + world.idle.len() {
        return fail("a server serves two clients".into());
    }
    if !world.queue.is_empty() && !world.idle.is_empty() {
        return fail("a client waits although a connection is idle".into());
    }
    let since = |at: &usize| world.peers[*at].waiting_since;
    if !world.queue.iter().is_sorted_by_key(since) || world.queue.iter().any(|at| since(at).is_none()) {
        return fail("who came first is not served first".into());
    }
    Ok(())
}

/// Of a connection that has just come back.
pub fn check_idle(conn: &Conn) -> Result<(), Failure> {
    let Conn {
        state,
        model,
        sent,
        carry,
    } = conn;
    let is_at_rest = state.transaction == TransactionState::Idle
        && state.pipeline.is_empty()
        && state.hygiene == Hygiene::Clean
        && carry.is_empty();
    if !is_at_rest {
        return fail(format!("server {}: is not at rest by its own account", state.id));
    }
    let is_quiet = model.state == b'I' && model.is_quiet() && model.copy == Copying::No && sent.is_empty();
    if !is_quiet || model.skipping || model.has_input() {
        return fail(format!("server {}: is not at rest: {model:?}", state.id));
    }
    let mut changed = model.changed_settings();
    // What a client has set to the connection's own value is known as set.
    let mut applied: Vec<(&str, &str)> = state
        .applied
        .iter()
        .filter(|(name, value)| !model.is_own(name, value))
        .collect();
    changed.sort_unstable();
    applied.sort_unstable();
    if changed != applied {
        return fail(format!(
            "server {}: has settings {changed:?}, for {applied:?}",
            state.id
        ));
    }
    if model.named.len() != state.statements.len() && !state.statements.is_doubtful() {
        return fail(format!(
            "server {}: has statements {:?}, for {:?}",
            state.id, model.named, state.statements
        ));
    }
    Ok(())
}

/// After the end: everybody has got everything, and nothing is open but idle connections.
pub fn check_end(world: &World) -> Result<(), Failure> {
    for peer in &world.peers {
        if !peer.is_gone {
            return fail(format!(
                "client {} is not served to its end: {:?}, in flight {:?}",
                peer.client.id,
                peer.client,
                peer.exchange
                    .as_ref()
                    .map(|exchange| (&exchange.flow, &exchange.conn.state.pipeline))
            ));
        }
    }
    if world.peers.iter().any(|peer| peer.exchange.is_some()) {
        return fail("a connection is leased by nobody".into());
    }
    Ok(())
}
