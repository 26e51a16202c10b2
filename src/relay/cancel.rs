//! Cancelling what a server does for a client.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::net::dial;
use crate::pool::conn::{CancelUnderWay, Cancels, ServerInfo};

/// Sends a cancel request for whatever runs on a connection, in the background. The connection serves nobody else until
/// the request has settled. `done` is told, or dropped, when that is over.
pub fn spawn(info: &Arc<ServerInfo>, done: Option<oneshot::Sender<()>>) {
    let Some(under_way) = Cancels::enter(info) else {
        return;
    };
    tokio::task::spawn_local(async move {
        if timeout(CANCEL_MAX, send(&under_way)).await.is_err() {
            under_way.info.cancels.doubt();
            tracing::warn!(server = %under_way.info.address, "a cancel request was not taken in time");
        }
        drop(under_way);
        drop(done);
    });
}

/// To the very server that runs the statement, with the protection its connection has.
async fn send(under_way: &CancelUnderWay) {
    let info = &under_way.info;
    let dialed = dial::dial_exactly(&info.address, &info.tls, &info.keepalive, info.encryption).await;
    let mut stream = match dialed {
        Ok(dialed) => dialed.stream,
        Err(error) => {
            tracing::warn!(server = %info.address, "cannot send a cancel request: {error}");
            return;
        }
    };
    let mut request = Vec::new();
    info.cancel_key.encode_cancel_request(&mut request);
    if stream.write_all(&request).await.is_err() {
        info.cancels.doubt();
        return;
    }
    // The server closes when it has passed the request on: from then on it cannot hit a later statement by surprise.
    let mut buf = [0; 64];
    loop {
        match stream.read(&mut buf).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(_) => return info.cancels.doubt(),
        }
    }
}

/// A cancel request is a matter of milliseconds.
const CANCEL_MAX: Duration = Duration::from_secs(10);
