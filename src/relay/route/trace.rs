//! Where a session's last statement went, and why: `SHOW pgweir.route`.

use std::fmt;
use std::sync::Arc;

use crate::plan::Plan;
use crate::protocol::write::{self, Frame};
use crate::protocol::{SqlState, tag};
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
    /// `SET pgweir.role`.
    Directive,
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
            Self::Directive => f.write_str("pgweir.role"),
        }
    }
}

/// Where the last batch went: a row for each attempt, in order.
pub(super) fn route(steps: &[Step], view: &View, out: &mut Vec<u8>) {
    describe(&["shard", "role", "server", "reason"], out);
    for step in steps {
        let server = step.place.and_then(|place| view.servers.get(place));
        let role = match step.place {
            None => "none",
            Some(place) if view.writes_at() == Some(place) => "primary",
            Some(_) => "replica",
        };
        let reason = step.cause.to_string();
        let name = server.map_or("", |server| &*server.name);
        row(&[Some(""), Some(role), Some(name), Some(&reason)], out);
    }
    complete(out);
}

/// One value.
pub(super) fn value(name: &str, value: Option<&str>, out: &mut Vec<u8>) {
    describe(&[name], out);
    row(&[value], out);
    complete(out);
}

fn describe(names: &[&str], out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag::ROW_DESCRIPTION);
    out.extend_from_slice(&u16::try_from(names.len()).unwrap_or(0).to_be_bytes());
    for name in names {
        write::cstr(out, name.as_bytes());
        // Of no table; text of any length, in text.
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&TEXT_OID.to_be_bytes());
        out.extend_from_slice(&(-1_i16).to_be_bytes());
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        out.extend_from_slice(&[0; 2]);
    }
    frame.end(out);
}

fn row(values: &[Option<&str>], out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag::DATA_ROW);
    out.extend_from_slice(&u16::try_from(values.len()).unwrap_or(0).to_be_bytes());
    for value in values {
        match value {
            Some(value) => {
                out.extend_from_slice(&i32::try_from(value.len()).unwrap_or(0).to_be_bytes());
                out.extend_from_slice(value.as_bytes());
            }
            None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
        }
    }
    frame.end(out);
}

fn complete(out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag::COMMAND_COMPLETE);
    write::cstr(out, b"SHOW");
    frame.end(out);
}

/// `text`, in `pg_type.dat`.
const TEXT_OID: u32 = 25;
