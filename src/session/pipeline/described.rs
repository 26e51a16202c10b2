//! Which statement a description is of.

/// The statement that a `Describe` in flight asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    pub id: u64,
    pub slot: Slot,
}

/// Under which name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    Unnamed,
    /// Where among its client's names it stood when it was asked about.
    Named(u32),
}
