//! What is known of the servers of one database at a moment.

use std::sync::Arc;
use std::time::Duration;

use super::lsn::Lsn;

/// All of them, in the order of the configuration. Never changed: the next look makes another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The place of the primary; none while there is none, or more than one.
    pub primary: Option<usize>,
    /// Why there is none, while there is none.
    pub vacancy: Vacancy,
    pub servers: Vec<ServerView>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerView {
    /// Its host and port.
    pub name: Arc<str>,
    pub role: Role,
    /// Whether it takes reads: it was heard of, and is not too far behind.
    pub is_usable: bool,
    /// Changes when the server may have started anew, and with it may have gone back: a standby that starts again shows what it
    /// has on disk first.
    pub instance: u32,
    pub timeline: u32,
    /// When the primary was asked for the oldest position that this replica is known not to have replayed; microseconds.
    pub missing_since: Option<u64>,
    /// The part of the reads it takes, among replicas that are free to choose from; at least 1.
    pub weight: u32,
    /// How far it had come, oldest first: what it has written, or replayed. At most `SAMPLES_MAX`, of this instance and
    /// timeline alone.
    pub samples: Vec<Sample>,
}

/// Why there is no primary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vacancy {
    /// None was heard of yet: the first server is taken for it.
    #[default]
    Unheard,
    /// There was one, or the first server says that it is none.
    Lost,
    /// Two take writes on one timeline: nobody can say which of them is right.
    TwoPrimaries,
}

impl View {
    /// Where writes go; nowhere while nobody may take them.
    #[must_use]
    pub fn writes_at(&self) -> Option<usize> {
        match self.vacancy {
            Vacancy::Unheard => Some(self.primary.unwrap_or(0)),
            Vacancy::Lost | Vacancy::TwoPrimaries => self.primary,
        }
    }
}

impl View {
    /// The places of servers that may be asked for what all have, the best first: the primary, replicas that take reads.
    #[must_use]
    pub fn hosts(&self) -> Vec<usize> {
        let usable = self
            .servers
            .iter()
            .enumerate()
            .filter(|(_, server)| server.is_usable);
        self.writes_at()
            .into_iter()
            .chain(usable.map(|(place, _)| place))
            .collect()
    }
}

/// How far a replica is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The age of the oldest position of the primary that it has not replayed.
    pub time: Duration,
    pub bytes: u64,
}

impl View {
    /// How far behind the server at a place is, if it is a replica, and there is a primary to compare it with.
    #[must_use]
    pub fn lag(&self, place: usize, now: u64) -> Option<Lag> {
        let primary = self.servers.get(self.primary?)?;
        let replica = self
            .servers
            .get(place)
            .filter(|server| server.role == Role::Replica)?;
        let (written, replayed) = (primary.latest()?, replica.latest()?);
        let since = replica.missing_since.unwrap_or(now);
        Some(Lag {
            time: Duration::from_micros(now.saturating_sub(since)),
            bytes: written.0.saturating_sub(replayed.0),
        })
    }

    /// What the server at a place is now, in a word.
    #[must_use]
    pub fn role_at(&self, place: usize) -> &'static str {
        let role = self
            .servers
            .get(place)
            .map_or(Role::Unknown, |server| server.role);
        if self.writes_at() == Some(place) {
            return "primary";
        }
        match role {
            Role::Replica => "replica",
            // One that takes writes, and is not asked for any.
            Role::Primary => "stale primary",
            Role::Unknown => "unknown",
            Role::Stranger => "of another cluster",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Not heard of yet, or lost.
    #[default]
    Unknown,
    Primary,
    Replica,
    /// Of another cluster: the configuration is wrong.
    Stranger,
}

/// A position that was asked for at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When the question was sent; microseconds.
    pub asked_at: u64,
    /// Everything before it is there.
    pub lsn: Lsn,
    /// Nothing behind it can have been seen there. A standby shows what a commit did a moment before it counts the commit as
    /// replayed: while there is more to replay, the next record may be half done.
    pub shown: Lsn,
}

impl Sample {
    /// Of a server that shows nothing beyond.
    #[must_use]
    pub fn exact(asked_at: u64, lsn: Lsn) -> Self {
        Self {
            asked_at,
            lsn,
            shown: lsn,
        }
    }
}

impl ServerView {
    /// The latest position.
    #[must_use]
    pub fn latest(&self) -> Option<Lsn> {
        self.samples.last().map(|sample| sample.lsn)
    }

    /// A position that contains everything that was seen there until a time: that of the first question asked later.
    #[must_use]
    pub fn position_after(&self, time: u64) -> Option<Lsn> {
        let first = self.samples.partition_point(|sample| sample.asked_at <= time);
        self.samples.get(first).map(|sample| sample.shown)
    }

    /// Whether what is known of the server is known of this connection's: it was asked since the connection was opened. Else it
    /// may have started anew in between, and be behind what it was.
    #[must_use]
    pub fn vouches_for(&self, connected_at: u64) -> bool {
        self.samples
            .last()
            .is_some_and(|last| last.asked_at > connected_at)
    }

    /// Takes up a sample; the oldest gives way.
    pub fn push(&mut self, sample: Sample) {
        if self.samples.len() >= SAMPLES_MAX {
            self.samples.remove(0);
        }
        self.samples.push(sample);
    }
}

/// Samples that are remembered of a server. A session that comes back later takes the oldest of them for its own, which only
/// makes it wait for more than it has seen.
pub const SAMPLES_MAX: usize = 64;
