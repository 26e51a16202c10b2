//! Time as the pools count it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Microseconds since the process began to serve. Handed down, so that all workers count the same.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    #[must_use]
    pub fn starting_at(start: Instant) -> Self {
        Self { start }
    }

    /// Never 0, which stands for "not at all" wherever a moment is kept.
    #[must_use]
    pub fn now(&self) -> u64 {
        micros(self.start.elapsed()).max(1)
    }
}

/// Counts the turns of a worker's event loop: within one, time hardly passes.
#[derive(Debug, Default)]
pub struct Turns(AtomicU32);

impl Turns {
    /// The event loop has slept.
    pub fn on_wake(&self) {
        // One thread alone writes.
        let next = self.0.load(Ordering::Relaxed).wrapping_add(1);
        self.0.store(next, Ordering::Relaxed);
    }

    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A duration in microseconds.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    // Not by `as_micros`, which divides 128 bits: this is done for every query.
    let seconds = duration.as_secs().saturating_mul(1_000_000);
    seconds.saturating_add(duration.subsec_micros().into())
}

/// The moment a timeout ends that begins at `now`; 0, that is never, when it is off.
#[must_use]
pub fn deadline(now: u64, timeout: Duration) -> u64 {
    if timeout.is_zero() {
        0
    } else {
        now.saturating_add(micros(timeout)).max(1)
    }
}

/// The earlier of two deadlines, of which 0 is never.
#[must_use]
pub fn earlier(a: u64, b: u64) -> u64 {
    match (a, b) {
        (0, other) | (other, 0) => other,
        (a, b) => a.min(b),
    }
}
