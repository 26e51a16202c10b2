//! Where names stood, for positions that an error tells.

/// Where names were replaced in a text.
#[derive(Debug)]
pub enum Moves {
    One(Move),
    Many(Box<[Move]>),
}

impl Moves {
    /// In the order of the text.
    #[must_use]
    pub fn as_slice(&self) -> &[Move] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// A name that was replaced, counted in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Where it stands in the text that the server gets.
    pub start: u32,
    pub old_len: u32,
    pub new_len: u32,
}
