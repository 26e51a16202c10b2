//! What ends an exchange before its time.

use crate::protocol::{FrameError, Report, SqlState};

/// Sorted by whose fault it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionError {
    /// The client broke the protocol or a limit: it is told, and leaves.
    Client(Report),
    /// The server sent what it should not: the connection is closed. The text is for the log.
    Server(&'static str),
}

impl From<&SessionError> for Report {
    fn from(error: &SessionError) -> Self {
        match error {
            SessionError::Client(report) => report.clone(),
            SessionError::Server(what) => {
                Self::fatal(SqlState::PROTOCOL_VIOLATION, "the server broke the protocol").with_detail(*what)
            }
        }
    }
}

impl SessionError {
    #[must_use]
    pub fn client(error: &FrameError) -> Self {
        Self::Client(error.into())
    }
}
