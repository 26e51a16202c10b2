//! What a worker counts for the metrics of a pool: cells that it alone writes, and that are read while it goes on.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::protocol::SqlState;
use crate::session::screen::{PinReason, Pins};

use super::shared::add;

/// How often clients of a pool were pinned by each reason, and how many are now.
#[derive(Debug, Default)]
pub struct PinMeter {
    begun: [AtomicU64; PinReason::ALL.len()],
    now: [AtomicU32; PinReason::ALL.len()],
}

impl PinMeter {
    /// A client's reasons were those, and are these.
    pub fn change(&self, before: Pins, after: Pins) {
        for reason in after.without(before).iter() {
            if let (Some(begun), Some(now)) = (self.begun.get(reason.index()), self.now.get(reason.index())) {
                add(begun, 1);
                now.store(now.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
            }
        }
        for reason in before.without(after).iter() {
            if let Some(now) = self.now.get(reason.index()) {
                now.store(now.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
            }
        }
    }

    /// How often it was the reason.
    #[must_use]
    pub fn begun(&self, reason: PinReason) -> u64 {
        let count = self.begun.get(reason.index());
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// The clients for which it is one.
    #[must_use]
    pub fn now(&self, reason: PinReason) -> u32 {
        let count = self.now.get(reason.index());
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// How long things have taken.
#[derive(Debug, Default)]
pub struct Durations {
    /// From a request that finds its server with nothing to do, to the end of the last answer.
    pub query: Histogram,
    pub transaction: Histogram,
    /// For a server connection.
    pub wait: Histogram,
    /// For a new server connection, its login included.
    pub connect: Histogram,
}

/// Durations, counted by their length.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// Microseconds.
    sum: AtomicU64,
}

impl Histogram {
    /// Something has taken that many microseconds.
    pub fn observe(&self, micros: u64) {
        if let Some(bucket) = self.buckets.get(place(micros)) {
            add(bucket, 1);
        }
        add(&self.sum, micros);
    }

    /// Something has taken no time.
    pub fn observe_nothing(&self) {
        let [shortest, ..] = &self.buckets;
        add(shortest, 1);
    }

    /// Adds what was counted here.
    pub fn add_to(&self, sums: &mut HistogramSums) {
        for (sum, bucket) in sums.buckets.iter_mut().zip(&self.buckets) {
            *sum = sum.wrapping_add(bucket.load(Ordering::Relaxed));
        }
        sums.micros = sums.micros.wrapping_add(self.sum.load(Ordering::Relaxed));
    }
}

/// What several workers have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistogramSums {
    /// One for each of `BOUNDS`, and one for what is longer.
    pub buckets: [u64; BUCKETS],
    pub micros: u64,
}

/// A time limit that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeLimit {
    Pool,
    Statement,
    Transaction,
    IdleTransaction,
    ClientIdle,
}

impl TimeLimit {
    pub const ALL: [Self; 5] = [
        Self::Pool,
        Self::Statement,
        Self::Transaction,
        Self::IdleTransaction,
        Self::ClientIdle,
    ];

    /// The setting.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pool => "pool_timeout",
            Self::Statement => "statement_timeout",
            Self::Transaction => "transaction_timeout",
            Self::IdleTransaction => "idle_transaction_timeout",
            Self::ClientIdle => "client_idle_timeout",
        }
    }
}

/// How often each limit has passed.
#[derive(Debug, Default)]
pub struct TimeLimits([AtomicU64; TimeLimit::ALL.len()]);

impl TimeLimits {
    pub fn count(&self, limit: TimeLimit) {
        if let Some(count) = self.0.get(limit as usize) {
            add(count, 1);
        }
    }

    #[must_use]
    pub fn of(&self, limit: TimeLimit) -> u64 {
        let count = self.0.get(limit as usize);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// Where batches of a database went, and why. Several workers may share one.
#[derive(Debug)]
pub struct RouteMeter {
    /// By the place of the reason: those that went to replicas, and to the primary.
    counts: [[AtomicU64; ROUTE_REASONS_MAX]; 2],
    /// By a function that kept them on the primary.
    functions: NameCounts,
}

impl Default for RouteMeter {
    fn default() -> Self {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Self {
            counts: [zeros(), zeros()],
            functions: NameCounts::default(),
        }
    }
}

/// To which kind of server a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteRole {
    Replica,
    Primary,
}

impl RouteMeter {
    pub fn count(&self, role: RouteRole, reason: usize, function: Option<&str>) {
        let place = self
            .counts
            .get(role as usize)
            .and_then(|counts| counts.get(reason));
        if let Some(count) = place {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(function) = function {
            self.functions.count(function);
        }
    }

    #[must_use]
    pub fn of(&self, role: RouteRole, reason: usize) -> u64 {
        let place = self
            .counts
            .get(role as usize)
            .and_then(|counts| counts.get(reason));
        place.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Adds what was counted here, by function; under an empty name those that have no place.
    pub fn add_functions_to<'a>(&'a self, sums: &mut BTreeMap<&'a str, u64>) {
        self.functions.add_to(sums);
    }
}

/// Counts by name. A name has its place from its first time on; behind the last place, all others are counted together.
#[derive(Debug, Default)]
struct NameCounts {
    places: [NameCount; FUNCTIONS_MAX],
    others: AtomicU64,
}

#[derive(Debug, Default)]
struct NameCount {
    name: OnceLock<Box<str>>,
    count: AtomicU64,
}

impl NameCounts {
    fn count(&self, name: &str) {
        for place in &self.places {
            if **place.name.get_or_init(|| name.into()) == *name {
                place.count.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        self.others.fetch_add(1, Ordering::Relaxed);
    }

    fn add_to<'a>(&'a self, sums: &mut BTreeMap<&'a str, u64>) {
        for place in &self.places {
            if let Some(name) = place.name.get() {
                *sums.entry(name).or_default() += place.count.load(Ordering::Relaxed);
            }
        }
        let others = self.others.load(Ordering::Relaxed);
        if others > 0 {
            *sums.entry("").or_default() += others;
        }
    }
}

/// Reasons that are counted: there are fewer.
pub const ROUTE_REASONS_MAX: usize = 48;
/// Functions that are counted by themselves: an application calls a handful that nobody has marked.
const FUNCTIONS_MAX: usize = 32;

/// How often clients were told an error of each code. A code has its place from its first time on; behind the last place,
/// all others are counted together.
#[derive(Debug, Default)]
pub struct ErrorCounts {
    places: [ErrorCount; ERROR_CODES_MAX],
    others: AtomicU64,
}

#[derive(Debug, Default)]
struct ErrorCount {
    /// The code's bytes as a number; 0 while the place is free.
    code: AtomicU64,
    count: AtomicU64,
}

impl ErrorCounts {
    pub fn count(&self, code: SqlState) {
        let number = number(code);
        for place in &self.places {
            let found = place.code.load(Ordering::Relaxed);
            if found == 0 {
                place.code.store(number, Ordering::Relaxed);
            }
            if found == 0 || found == number {
                return add(&place.count, 1);
            }
        }
        add(&self.others, 1);
    }

    /// Adds what was counted here, by code; under none what has no place.
    pub fn add_to(&self, sums: &mut BTreeMap<Option<SqlState>, u64>) {
        for place in &self.places {
            let code = place.code.load(Ordering::Relaxed).to_be_bytes();
            let code = code.last_chunk::<5>().and_then(|code| SqlState::from_bytes(code));
            let count = place.count.load(Ordering::Relaxed);
            if count > 0 {
                *sums.entry(code).or_default() += count;
            }
        }
        let others = self.others.load(Ordering::Relaxed);
        if others > 0 {
            *sums.entry(None).or_default() += others;
        }
    }
}

fn number(code: SqlState) -> u64 {
    let bytes = code.as_bytes().iter();
    bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Codes that are counted by themselves: an application meets a dozen, and `RAISE` can make any.
const ERROR_CODES_MAX: usize = 32;

/// The bucket of a duration, without a search: bounds double.
fn place(micros: u64) -> usize {
    let shortest = micros.saturating_sub(1) / SHORTEST;
    let doubled = u64::BITS - shortest.leading_zeros();
    usize::try_from(doubled).map_or(BOUNDS.len(), |place| place.min(BOUNDS.len()))
}

/// Up to how many microseconds each bucket counts: from a query that hits the cache to one that somebody gives up on.
pub const BOUNDS: [u64; 20] = {
    let mut bounds = [SHORTEST; 20];
    let mut rest: &mut [u64] = &mut bounds;
    let mut bound = SHORTEST;
    while let [first, more @ ..] = rest {
        *first = bound;
        bound *= 2;
        rest = more;
    }
    bounds
};
const SHORTEST: u64 = 50;
const BUCKETS: usize = BOUNDS.len() + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_count_by_code_and_the_rest_together() {
        let counts = ErrorCounts::default();
        let code = |number: usize| SqlState::from_bytes(format!("{number:05}").as_bytes()).unwrap();
        for number in 0..ERROR_CODES_MAX + 8 {
            counts.count(code(number));
        }
        counts.count(code(7));
        let mut sums = BTreeMap::new();
        counts.add_to(&mut sums);
        counts.add_to(&mut sums);
        assert_eq!(
            (sums[&Some(code(0))], sums[&Some(code(7))], sums[&None]),
            (2, 4, 16)
        );
        assert_eq!(sums.len(), ERROR_CODES_MAX + 1);
    }

    #[test]
    fn a_duration_counts_in_the_first_bucket_that_it_fits_into() {
        let histogram = Histogram::default();
        for micros in [0, 50, 51, 26_214_400, 26_214_401, 7] {
            histogram.observe(micros);
        }
        histogram.observe_nothing();
        let mut sums = HistogramSums::default();
        histogram.add_to(&mut sums);
        histogram.add_to(&mut sums);
        assert_eq!((sums.buckets[0], sums.buckets[1], sums.buckets[2]), (8, 2, 0));
        assert_eq!((sums.buckets[19], sums.buckets[20]), (2, 2));
        assert_eq!(sums.micros, 2 * 52_428_909);
        for (index, bound) in BOUNDS.into_iter().enumerate() {
            assert_eq!((place(bound), place(bound + 1)), (index, index + 1));
        }
        assert_eq!(place(u64::MAX), BOUNDS.len());
    }

    #[test]
    fn a_reason_counts_once_as_long_as_it_lasts_and_each_time_it_comes() {
        let (load, cursor) = (Pins::of(PinReason::Load), Pins::of(PinReason::Cursor));
        let meter = PinMeter::default();
        meter.change(Pins::NONE, load);
        meter.change(load, load.union(cursor));
        meter.change(load.union(cursor), load);
        meter.change(load, load.union(cursor));
        let counts = |reason| (meter.begun(reason), meter.now(reason));
        assert_eq!(counts(PinReason::Load), (1, 1));
        assert_eq!(counts(PinReason::Cursor), (2, 1));
        meter.change(load.union(cursor), Pins::NONE);
        assert_eq!(counts(PinReason::Load), (1, 0));
        assert_eq!(counts(PinReason::Cursor), (2, 0));
        assert_eq!(counts(PinReason::Seed), (0, 0));
    }
}
