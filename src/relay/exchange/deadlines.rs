//! Time limits of an exchange, and what else wakes it beside its sockets.

use std::time::Duration;

use crate::pool::clock::{self, micros};
use crate::pool::meter::TimeLimit;
use crate::pool::seat::Poke;
use crate::pool::settings::PoolSettings;
use crate::protocol::{Report, SqlState, TransactionState};
use crate::relay::cancel;
use crate::relay::client::Client;
use crate::relay::farewell::Farewell;

use super::{End, Exchange, Stage};

/// The limits in force, in milliseconds; 0 is off. Small, since every idle client has room for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timeouts {
    statement: u32,
    transaction: u32,
    idle_transaction: u32,
    client_idle: u32,
}

impl Timeouts {
    pub(super) fn of(settings: &PoolSettings) -> Self {
        Self {
            statement: millis(settings.statement_timeout),
            transaction: millis(settings.transaction_timeout),
            idle_transaction: millis(settings.idle_transaction_timeout),
            client_idle: millis(settings.client_idle_timeout),
        }
    }

    pub(super) fn are_off(&self) -> bool {
        self.statement == 0 && self.transaction == 0 && self.idle_transaction == 0 && self.client_idle == 0
    }
}

/// A limit below a millisecond is one: it is not off.
fn millis(limit: Duration) -> u32 {
    if limit.is_zero() {
        return 0;
    }
    let parts = u64::from(limit.subsec_nanos().div_ceil(1_000_000));
    let millis = limit.as_secs().saturating_mul(1000).saturating_add(parts);
    u32::try_from(millis).unwrap_or(u32::MAX)
}

fn limit(millis: u32) -> Duration {
    Duration::from_millis(millis.into())
}

impl Exchange {
    pub(super) fn on_poke(&mut self, client: &mut Client, poke: Poke) -> Option<End> {
        match poke {
            Poke::Look => self.looks = true,
            Poke::Renew => {
                if self.timeouts.are_off() {
                    self.transaction_since = client.context.worker.now();
                }
                self.timeouts = Timeouts::of(client.settings());
                if self.stage == Stage::Preparing || self.is_tidying() {
                    return None;
                }
                let is_busy = self.flow.is_busy(&self.lease.conn().state);
                self.set_deadline(client, is_busy);
            }
            // It came while the client waited, at the moment it was served.
            Poke::Cancel => cancel::spawn(&self.lease.conn().info, None),
            Poke::Deadline => return self.on_deadline(client),
            Poke::Drain if self.is_over(client) => return Some(End::Leave(Farewell::shutdown())),
            // It may stand for any other, and stays until it is obeyed.
            Poke::Drain => {
                self.looks = true;
                return self.on_deadline(client);
            }
            Poke::Kill => return Some(End::Leave(Farewell::shutdown())),
        }
        None
    }

    pub(super) fn is_timed(&self) -> bool {
        !self.timeouts.are_off() || self.stage == Stage::Cancelling
    }

    /// The server does not answer; nothing that the client has asked for was sent.
    fn on_unprepared(&self) -> End {
        let report = Report::error(
            SqlState::CONNECTION_FAILURE,
            "the server connection did not take the session's settings in time",
        )
        .with_detail("The request was not sent; the connection is closed.")
        .with_hint("Repeat the request, or the transaction.");
        // Answers have come before.
        if self.steps > 0 {
            // What the connection holds for the client, in session mode or pinned, is lost with it.
            return End::Leave(Farewell::Told(report.into_fatal()));
        }
        End::Refused(report)
    }

    /// A request has gone to a server that had nothing to do.
    pub(super) fn on_busy(&mut self, client: &Client) {
        let now = client.context.worker.now();
        self.count_from(now);
        client.seat.begin(now);
        self.set_deadline(client, true);
    }

    /// The time of a query begins, and that of a transaction if there is none.
    pub(super) fn count_from(&mut self, now: u64) {
        let in_block = self.lease.conn().state.transaction != TransactionState::Idle;
        if !in_block {
            self.transaction_since = now;
        }
        self.busy_since = now;
    }

    pub(super) fn set_deadline(&mut self, client: &Client, is_busy: bool) {
        let now = client.context.worker.now();
        let in_block = self.lease.conn().state.transaction != TransactionState::Idle;
        let idle = match (is_busy, in_block) {
            (true, _) if self.stage == Stage::Cancelling => clock::deadline(now, CANCEL_PATIENCE),
            (true, _) => clock::deadline(now, limit(self.timeouts.statement)),
            (false, true) => clock::deadline(now, limit(self.timeouts.idle_transaction)),
            (false, false) => clock::deadline(now, limit(self.timeouts.client_idle)),
        };
        let transaction = if is_busy || in_block {
            clock::deadline(self.transaction_since, limit(self.timeouts.transaction))
        } else {
            0
        };
        client.seat.deadline.set(clock::earlier(idle, transaction));
    }

    /// Some timeout has passed. Which one, the state tells.
    fn on_deadline(&mut self, client: &mut Client) -> Option<End> {
        let now = client.context.worker.now();
        if client.seat.deadline.get() == 0 || client.seat.deadline.get() > now {
            return None;
        }
        client.seat.deadline.set(0);
        if self.stage == Stage::Preparing {
            return Some(self.on_unprepared());
        }
        let conn = self.lease.conn();
        let is_busy = self.flow.is_busy(&conn.state);
        let in_block = conn.state.transaction != TransactionState::Idle;
        if self.is_tidying() {
            return Some(End::Leave(Farewell::Told(Report::fatal(
                SqlState::CONNECTION_FAILURE,
                "terminating connection: the server did not say what became of the session's settings",
            ))));
        }
        if self.flow.asks_for_channels().is_some() {
            // The connection that listens is waited for, which has limits of its own; the client's requests have none then. Seen
            // again at the next tick. A transaction whose time was over meanwhile has it once more, for its COMMIT.
            self.transaction_since = now;
            client.seat.deadline.set(now);
            return None;
        }
        let longest = limit(self.timeouts.transaction);
        if !longest.is_zero() && (is_busy || in_block) && self.transaction_since + micros(longest) <= now {
            return Some(End::Leave(Farewell::transaction_too_long()));
        }
        if self.is_holding() && self.stage != Stage::Cancelling {
            // The request under way may hit the present statement, or the client has asked for more and we do not listen:
            // seen again at the next tick.
            client.seat.deadline.set(now);
            return None;
        }
        match (is_busy, in_block) {
            (true, _) if self.stage == Stage::Cancelling => Some(End::Leave(Farewell::Told(Report::fatal(
                SqlState::QUERY_CANCELED,
                "terminating connection: the server did not cancel the statement in time",
            )))),
            (true, _) => {
                client.pool.numbers().time_limits.count(TimeLimit::Statement);
                self.cancel_statement();
                self.set_deadline(client, true);
                None
            }
            (false, true) => Some(End::Leave(Farewell::idle_in_transaction())),
            (false, false) => Some(End::Leave(Farewell::idle())),
        }
    }
}

/// The connection is being brought to the client's settings, which takes no longer than a login may.
pub(super) fn on_preparing(client: &mut Client) {
    let timeout = client.settings().connect_timeout;
    let longest = if timeout.is_zero() { PREPARING_MAX } else { timeout };
    let now = client.context.worker.now();
    client.seat.begin(now);
    client.seat.deadline.set(clock::deadline(now, longest));
}

/// How long a server may take for the settings of a session where `connect_timeout` is off: a matter of milliseconds.
const PREPARING_MAX: Duration = Duration::from_secs(10);
/// How long a server may take to carry out a cancel request before its connection is given up.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);
