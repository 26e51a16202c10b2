//! What is taken back of a request that was not carried out.

use crate::session::statement::{Forgotten, Named, key};

/// What to undo in the client's names when the request was not carried out.
#[derive(Debug, Default)]
pub enum ClientUndo {
    #[default]
    None,
    Named(Box<Renaming>),
    Unnamed(Option<Named>),
    /// All names were forgotten.
    All(Forgotten),
    /// A simple query that gives or takes names.
    Query(Box<QueryUndo>),
}

/// What a simple query changes in the client's names.
#[derive(Debug)]
pub struct QueryUndo {
    /// In the order in which the query makes them.
    pub renamings: Vec<Renaming>,
    pub unnamed: Option<Named>,
}

impl ClientUndo {
    #[must_use]
    pub fn named(name: &[u8], previous: Option<Named>) -> Self {
        Self::Named(Box::new(Renaming::new(name, previous)))
    }
}

/// A name that was given or taken away, and what it meant before.
#[derive(Debug)]
pub struct Renaming {
    pub name: Box<[u8]>,
    pub previous: Option<Named>,
}

impl Renaming {
    #[must_use]
    pub fn new(name: &[u8], previous: Option<Named>) -> Self {
        Self {
            name: key(name).into(),
            previous,
        }
    }
}

/// What to undo in the server's statements when the request was not carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerUndo {
    #[default]
    None,
    Prepared(u64),
    Closed(u64),
    Unnamed(Option<u64>),
    /// All were forgotten. Which there were is found out again.
    Unknown,
}
