//! The log of slow statements. Whether anything is noted at all is decided before anything is copied.

use crate::pool::clock::micros;
use crate::pool::conn::ServerInfo;
use crate::session::text;

use super::client::Client;

/// The statements that a server connection is busy with.
#[derive(Debug)]
pub(super) struct Slow {
    /// As the client sent them.
    text: Vec<u8>,
    since: u64,
    /// How long the client has waited for the connection; microseconds.
    wait: u64,
}

impl Slow {
    /// For a client that has just got its connection; nothing when no log is kept.
    pub(super) fn begin(client: &Client, now: u64) -> Option<Box<Self>> {
        let is_kept = !client.context.log_slow.get().is_zero();
        is_kept.then(|| {
            Box::new(Self {
                text: Vec::new(),
                since: now,
                wait: now.saturating_sub(client.seat.request_at.get()),
            })
        })
    }

    /// The client has sent this much more to the server.
    pub(super) fn note(slow: &mut Option<Box<Self>>, client: &Client, input: &[u8]) {
        if client.context.log_slow.get().is_zero() {
            return;
        }
        let now = client.context.worker.now();
        let slow = slow.get_or_insert_with(|| {
            Box::new(Self {
                text: Vec::new(),
                since: now,
                wait: 0,
            })
        });
        if slow.text.is_empty() {
            slow.since = now;
        }
        text::collect(input, &client.session.statements, &mut slow.text);
    }

    /// The server is done with them, or gone.
    pub(super) fn end(self, client: &Client, server: &ServerInfo) {
        let run = client.context.worker.now().saturating_sub(self.since);
        let limit = client.context.log_slow.get();
        if self.text.is_empty() || limit.is_zero() || run < micros(limit) {
            return;
        }
        tracing::warn!(
            client = client.seat.id,
            database = &*client.seat.database,
            user = &*client.seat.user,
            server = %server.address,
            wait_ms = self.wait / 1000,
            run_ms = run / 1000,
            statement = text::without_literals(&self.text),
            "slow statement"
        );
    }
}
