//! How often a database's definitions were changed, as far as that is known, and the name of what was read of them since.

use std::sync::atomic::{AtomicU64, Ordering};

/// One word, so that whoever looks at it sees both at the same moment: the count, and a name; 0 is none.
#[derive(Debug, Default)]
pub struct Changes(AtomicU64);

impl Changes {
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire) >> NAME_BITS
    }

    /// Something was changed: what was read before has no name any more.
    pub fn note(&self) {
        self.update(|count, _| Some((count.wrapping_add(1), 0)));
    }

    /// What was read after so many changes is called so, if there were no more.
    pub fn name(&self, count: u64, name: u64) {
        self.update(|now, _| (now == count).then_some((count, name)));
    }

    /// The name of what is known, if that is not old.
    #[must_use]
    pub fn named(&self) -> Option<u64> {
        let name = self.0.load(Ordering::Acquire) % NAMES;
        (name != 0).then_some(name)
    }

    fn update(&self, next: impl Fn(u64, u64) -> Option<(u64, u64)>) {
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            let (count, name) = next(word >> NAME_BITS, word % NAMES)?;
            Some((count << NAME_BITS) | (name % NAMES))
        });
    }
}

/// What is left is for the count: while one reads, there are not as many changes.
pub const NAME_BITS: u32 = 40;
/// How many names there are: at one a second they last for ages.
pub const NAMES: u64 = 1 << NAME_BITS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_change_has_no_name() {
        let changes = Changes::default();
        assert_eq!(changes.named(), None);
        let before = changes.count();
        changes.name(before, 7);
        assert_eq!(changes.named(), Some(7));
        changes.note();
        assert_eq!(changes.named(), None);
        changes.name(before, 8);
        assert_eq!(changes.named(), None);
        changes.name(changes.count(), 9);
        assert_eq!(changes.named(), Some(9));
    }

    #[test]
    fn the_count_goes_round_and_leaves_the_name_alone() {
        let changes = Changes(AtomicU64::new(u64::MAX));
        changes.note();
        assert_eq!((changes.count(), changes.named()), (0, None));
    }
}
