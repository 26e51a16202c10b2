//! What has been done since the start, and on average of late.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::pool::shared::PoolShared;

/// Sums over a database's pools, in the order in which `SHOW STATS` shows them. Times are microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals(pub [u64; COUNTS]);

impl Totals {
    /// What all workers have done for a pool.
    #[must_use]
    pub fn of(pool: &PoolShared) -> Self {
        let mut totals = Self::default();
        for cell in pool.cells() {
            let stats = &cell.stats;
            let counters = [
                &stats.leases,
                &stats.transactions,
                &stats.simple_queries,
                &stats.received,
                &stats.sent,
                &stats.transaction_time,
                &stats.query_time,
                &stats.wait_time,
                &stats.client_parses,
                &stats.server_parses,
                &stats.binds,
            ];
            totals.add(&Self(counters.map(|counter| counter.load(Ordering::Relaxed))));
            let mut extended = [0; COUNTS];
            if let Some(queries) = extended.get_mut(QUERIES) {
                *queries = stats.extended_queries.load(Ordering::Relaxed);
            }
            totals.add(&Self(extended));
        }
        totals
    }

    pub fn add(&mut self, more: &Self) {
        for (sum, more) in self.0.iter_mut().zip(more.0) {
            *sum = sum.saturating_add(more);
        }
    }

    /// What has come to it since an earlier moment, by the second; the time of a transaction and of a query by the piece.
    fn average(&self, earlier: &Self, period: u64) -> Self {
        let mut average = [0; COUNTS];
        let mut grown = [0; COUNTS];
        for ((grown, now), then) in grown.iter_mut().zip(self.0).zip(earlier.0) {
            *grown = now.saturating_sub(then);
        }
        let [_, transactions, queries, ..] = grown;
        for (index, (average, grown)) in average.iter_mut().zip(grown).enumerate() {
            *average = match index {
                TRANSACTION_TIME => grown.checked_div(transactions).unwrap_or(0),
                QUERY_TIME => grown.checked_div(queries).unwrap_or(0),
                _ => per_second(grown, period),
            };
        }
        Self(average)
    }
}

/// Averages over the last period that is complete.
#[derive(Debug, Default)]
pub struct Averages {
    last: Mutex<[Sample; 2]>,
}

impl Averages {
    /// A period has ended.
    pub fn sample(&self, now: u64, databases: BTreeMap<Arc<str>, Totals>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let [_, newer] = std::mem::take(&mut *last);
        let newest = Sample { at: now, databases };
        *last = [newer, newest];
    }

    /// A database's averages; zero until the first period has ended.
    #[must_use]
    pub fn of(&self, database: &str) -> Totals {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let [older, newer] = &*last;
        let Some(now) = newer.databases.get(database) else {
            return Totals::default();
        };
        let then = older.databases.get(database).copied().unwrap_or_default();
        now.average(&then, newer.at.saturating_sub(older.at))
    }
}

/// The sums at one moment.
#[derive(Debug, Default)]
struct Sample {
    /// Microseconds on the process's clock.
    at: u64,
    databases: BTreeMap<Arc<str>, Totals>,
}

fn per_second(count: u64, micros: u64) -> u64 {
    let average = (u128::from(count) * 1_000_000).checked_div(micros.into());
    u64::try_from(average.unwrap_or(0)).unwrap_or(u64::MAX)
}

/// The kinds of counts.
pub const COUNTS: usize = 11;
const QUERIES: usize = 2;
const TRANSACTION_TIME: usize = 5;
const QUERY_TIME: usize = 6;
/// How often sums are looked at for the averages.
pub const STATS_PERIOD: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(averages: &Averages, at: u64, totals: [u64; COUNTS]) {
        averages.sample(at, BTreeMap::from([("app".into(), Totals(totals))]));
    }

    #[test]
    fn counts_are_averaged_by_the_second_and_times_by_the_piece() {
        let averages = Averages::default();
        assert_eq!(averages.of("app"), Totals::default());
        sample(&averages, 1_000_000, [0; COUNTS]);
        sample(
            &averages,
            11_000_000,
            [10, 20, 40, 1000, 2000, 600, 400, 50, 7, 8, 9],
        );
        let expected = [1, 2, 4, 100, 200, 30, 10, 5, 0, 0, 0];
        assert_eq!(averages.of("app"), Totals(expected));
        assert_eq!(averages.of("other"), Totals::default());
    }

    #[test]
    fn only_the_last_period_counts() {
        let averages = Averages::default();
        sample(&averages, 1_000_000, [0; COUNTS]);
        sample(&averages, 2_000_000, [500; COUNTS]);
        sample(&averages, 3_000_000, [501; COUNTS]);
        assert_eq!(averages.of("app"), Totals([1; COUNTS]));
    }

    #[test]
    fn sums_that_have_shrunk_and_periods_without_length_are_no_trouble() {
        let averages = Averages::default();
        sample(&averages, 1_000_000, [7; COUNTS]);
        sample(&averages, 1_000_000, [3; COUNTS]);
        assert_eq!(averages.of("app"), Totals::default());
        assert_eq!(per_second(u64::MAX, 1), u64::MAX);
    }
}
