//! Whether the process has memory for new work.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::protocol::{Report, SqlState};

/// Told by who measures, and looked at where new work begins: a login, a request of a client without a server connection.
#[derive(Debug, Default)]
pub struct Memory {
    is_short: AtomicBool,
}

/// What a measurement has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// From now on new work is refused.
    Shortage,
    Relief,
}

impl Memory {
    #[must_use]
    pub fn is_short(&self) -> bool {
        // Whoever sees it a moment later does no harm.
        self.is_short.load(Ordering::Relaxed)
    }

    /// So much is in use, and so much may be; none is no limit. Only who measures calls this.
    pub fn measured(&self, resident: u64, max: Option<u64>) -> Option<Change> {
        let was_short = self.is_short();
        let is_short = max.is_some_and(|max| {
            let relief = if was_short { max / RELIEF_PART } else { 0 };
            resident > max - relief
        });
        self.is_short.store(is_short, Ordering::Relaxed);
        match (was_short, is_short) {
            (false, true) => Some(Change::Shortage),
            (true, false) => Some(Change::Relief),
            (false, false) | (true, true) => None,
        }
    }
}

/// What a request is refused with.
#[must_use]
pub fn shortage() -> Report {
    Report::error(SqlState::OUT_OF_MEMORY, "the pooler is short of memory")
        .with_detail("It has more in use than max_memory allows, so no new work is begun.")
        .with_hint(
            "Try again in a moment; if it lasts, raise max_memory, or let fewer clients in (max_clients).",
        )
}

/// A shortage is over when this part of the limit is free again: else it would begin anew with the next request.
const RELIEF_PART: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_begins_above_the_limit_and_ends_well_below_it() {
        let memory = Memory::default();
        let max = Some(1600);
        let steps = [
            (1600, None, false),
            (1601, Some(Change::Shortage), true),
            (5000, None, true),
            (1600, None, true),
            (1501, None, true),
            (1500, Some(Change::Relief), false),
            (1600, None, false),
        ];
        for (resident, change, is_short) in steps {
            assert_eq!(memory.measured(resident, max), change, "{resident}");
            assert_eq!(memory.is_short(), is_short, "{resident}");
        }
    }

    #[test]
    fn without_a_limit_there_is_no_shortage_and_one_that_was_ends() {
        let memory = Memory::default();
        assert_eq!(memory.measured(u64::MAX, None), None);
        assert_eq!(memory.measured(2, Some(1)), Some(Change::Shortage));
        assert_eq!(memory.measured(2, None), Some(Change::Relief));
        assert_eq!(memory.measured(0, Some(u64::MAX)), None);
    }
}
