//! What a worker counts for the metrics of a pool: cells that it alone writes, and that are read while it goes on.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

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

#[cfg(test)]
mod tests {
    use super::*;

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
