//! Reasons to keep a server connection, several at once.

use super::PinReason;

/// A set of reasons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pins(u16);

impl Pins {
    pub const NONE: Self = Self(0);

    #[must_use]
    pub fn of(reason: PinReason) -> Self {
        Self(1 << reason as u16)
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub fn contains(self, reason: PinReason) -> bool {
        self.0 & Self::of(reason).0 != 0
    }

    pub fn insert(&mut self, reason: PinReason) {
        self.0 |= Self::of(reason).0;
    }

    pub fn extend(&mut self, reason: Option<PinReason>) {
        if let Some(reason) = reason {
            self.insert(reason);
        }
    }

    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those that the server can be asked about: whether they last.
    #[must_use]
    pub fn askable(self) -> Self {
        Self(
            self.0 & (bit(PinReason::Cursor) | bit(PinReason::TemporaryTable) | bit(PinReason::AdvisoryLock)),
        )
    }

    /// Those that no `DISCARD ALL` ends: a loaded library, the state of random numbers, what extensions keep.
    #[must_use]
    pub fn lasting(self) -> Self {
        Self(self.0 & (bit(PinReason::Load) | bit(PinReason::Seed) | bit(PinReason::Session)))
    }

    /// The reasons, in the order of their kinds.
    pub fn iter(self) -> impl Iterator<Item = PinReason> {
        PinReason::ALL
            .into_iter()
            .filter(move |reason| self.contains(*reason))
    }
}

const fn bit(reason: PinReason) -> u16 {
    1 << reason as u16
}
