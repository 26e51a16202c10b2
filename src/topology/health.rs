//! How servers are looked after.

use std::time::Duration;

/// What is set for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// `max_replica_lag`; zero is no limit.
    pub max_lag: Duration,
    /// `health_check_interval`.
    pub check_interval: Duration,
    /// `lsn_poll_interval`: the same while sessions wait for replicas to come further.
    pub poll_interval: Duration,
    /// `failover_timeout`.
    pub failover_timeout: Duration,
    /// `failover_threshold`: questions without an answer in a row that make a server lost.
    pub failover_threshold: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            max_lag: Duration::from_secs(10),
            check_interval: Duration::from_secs(1),
            poll_interval: Duration::from_millis(100),
            failover_timeout: Duration::from_secs(30),
            failover_threshold: 3,
        }
    }
}
