//! Where a copy stands.

/// The copy under way on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copy {
    None,
    /// The client sends; `Flush` and `Sync` are ignored until it has ended.
    In,
    /// The client has ended it; the server has not said so yet.
    InEnded,
    /// Both send: replication.
    Both,
}
