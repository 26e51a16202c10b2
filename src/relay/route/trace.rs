//! Where a session's last statement went, and why: `SHOW pgweir.route`.

use std::fmt;
use std::sync::Arc;

use crate::plan::{Plan, ReasonKind};
use crate::protocol::SqlState;
use crate::session::question::RouteRow;
use crate::topology::{View, Why};

/// One attempt.
#[derive(Clone, Debug)]
pub struct Step {
    /// The server's place; none: there was none.
    pub place: Option<usize>,
    pub cause: Cause,
}

/// Why a batch goes where it goes.
#[derive(Clone, Debug)]
pub enum Cause {
    /// It only reads.
    Read(Why),
    /// What one of its statements does.
    Does(Arc<Plan>),
    /// Something in it is not known: a statement, a function by its number.
    Unknown,
    /// The transaction may write.
    Transaction,
    /// The transaction was lost before.
    Failed,
    SessionMode,
    Serializable,
    /// Nobody knows yet what the database has.
    Blind,
    /// It is too long, or not sent whole.
    Unjudged,
    /// Its texts could not be planned in time.
    Unplanned,
    /// A replica refused it with this code, or was lost.
    Refused(Option<SqlState>),
    /// The client has asked for it, by a comment or `SET pgweir.role`.
    Directive,
    /// Its transaction is there.
    There,
    /// It is no statement of the client's: it asks for a position.
    Position,
}

/// Words for causes that are no reasons of plans; those have the places behind them.
const OWN_LABELS: [&str; 17] = [
    "turn",
    "stays",
    "not_replayed",
    "no_replica",
    "reads_primary",
    "unknown_statement",
    "transaction",
    "failed_transaction",
    "session_mode",
    "serializable",
    "catalogs_changed",
    "unjudged",
    "unplanned",
    "replica_refused",
    "directive",
    "same_transaction",
    "position",
];

/// All words for causes, by their places in the statistics.
pub fn labels() -> impl Iterator<Item = (usize, &'static str)> {
    let of_plans = ReasonKind::ALL.iter().map(|kind| kind.as_str());
    OWN_LABELS.into_iter().chain(of_plans).enumerate()
}

impl Cause {
    /// Its place in the statistics.
    #[must_use]
    pub fn index(&self) -> usize {
        match self {
            Self::Read(Why::Turn) => 0,
            Self::Read(Why::Stays) => 1,
            Self::Read(Why::NotReplayed) => 2,
            Self::Read(Why::NoReplica) => 3,
            Self::Read(Why::ReadsPrimary) => 4,
            Self::Unknown => 5,
            Self::Transaction => 6,
            Self::Failed => 7,
            Self::SessionMode => 8,
            Self::Serializable => 9,
            Self::Blind => 10,
            Self::Unjudged => 11,
            Self::Unplanned => 12,
            Self::Refused(_) => 13,
            Self::Directive => 14,
            Self::There => 15,
            Self::Position => 16,
            Self::Does(plan) => OWN_LABELS.len() + plan.reason().kind().index(),
        }
    }

    /// The function that has decided.
    #[must_use]
    pub fn function(&self) -> Option<&str> {
        let Self::Does(plan) = self else {
            return None;
        };
        let reason = plan.reason();
        reason.kind().is_of_function().then(|| reason.subject())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(Why::Turn) => f.write_str("reads only"),
            Self::Read(Why::Stays) => f.write_str("reads only; the session has read there last"),
            Self::Read(Why::NotReplayed) => {
                f.write_str("own write, or what was read, not yet known to be replayed on a replica")
            }
            Self::Read(Why::NoReplica) => f.write_str("no replica is usable"),
            Self::Read(Why::ReadsPrimary) => f.write_str("reads = \"primary\""),
            Self::Does(plan) => write!(f, "{}", plan.reason()),
            Self::Unknown => f.write_str("a statement that is not known, or a function by its number"),
            Self::Transaction => f.write_str("transaction that may write"),
            Self::Failed => f.write_str("transaction that was lost"),
            Self::SessionMode => f.write_str("pool_mode = \"session\""),
            Self::Serializable => f.write_str("a standby has no serializable isolation"),
            Self::Blind => f.write_str("the catalogs were changed, and are being read"),
            Self::Unjudged => f.write_str("too long to be judged, or not sent whole"),
            Self::Unplanned => f.write_str("too many statements wait to be planned"),
            Self::Refused(Some(code)) => write!(f, "a replica refused it ({code})"),
            Self::Refused(None) => f.write_str("a replica was lost, or could not be had"),
            Self::Directive => f.write_str("pgweir: role=primary"),
            Self::Position => f.write_str("SHOW pgweir.lsn"),
            Self::There => f.write_str("its transaction is on this server"),
        }
    }
}

/// Where the last batch went: a row for each attempt, in order.
pub(super) fn rows(steps: &[Step], view: &View) -> Vec<RouteRow> {
    let row = |step: &Step| {
        let server = step.place.and_then(|place| view.servers.get(place));
        RouteRow {
            shard: Box::default(),
            role: match step.place {
                None => "none",
                Some(place) if view.writes_at() == Some(place) => "primary",
                Some(_) => "replica",
            },
            server: server.map_or_else(Box::default, |server| (*server.name).into()),
            reason: step.cause.to_string().into(),
        }
    };
    steps.iter().map(row).collect()
}
