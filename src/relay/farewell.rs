//! Why a client's session ends.

use crate::pool::meter::TimeLimit;
use crate::protocol::{Report, SqlState};

/// The end of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// The client said so.
    Goodbye,
    /// The client is gone.
    Lost,
    /// The client is told why. These words are the last it gets.
    Told(Report),
    /// The server's last words were passed on; or nothing can be said any more.
    Silent,
}

impl Farewell {
    #[must_use]
    pub fn shutdown() -> Self {
        Self::Told(
            Report::fatal(
                SqlState::ADMIN_SHUTDOWN,
                "terminating connection due to administrator command",
            )
            .with_hint("Connect again."),
        )
    }

    /// It has said nothing for too long, outside of a transaction.
    #[must_use]
    pub fn idle() -> Self {
        Self::Told(Report::fatal(
            SqlState::IDLE_SESSION_TIMEOUT,
            "terminating connection due to client idle timeout",
        ))
    }

    /// The same inside of one.
    #[must_use]
    pub fn idle_in_transaction() -> Self {
        Self::Told(Report::fatal(
            SqlState::IDLE_IN_TRANSACTION_TIMEOUT,
            "terminating connection due to idle-in-transaction timeout",
        ))
    }

    #[must_use]
    pub fn transaction_too_long() -> Self {
        Self::Told(Report::fatal(
            SqlState::TRANSACTION_TIMEOUT,
            "terminating connection due to transaction timeout",
        ))
    }

    /// The time limit that has ended the session, if one has.
    #[must_use]
    pub fn time_limit(&self) -> Option<TimeLimit> {
        match self {
            Self::Told(report) if report.code == SqlState::IDLE_SESSION_TIMEOUT => {
                Some(TimeLimit::ClientIdle)
            }
            Self::Told(report) if report.code == SqlState::IDLE_IN_TRANSACTION_TIMEOUT => {
                Some(TimeLimit::IdleTransaction)
            }
            Self::Told(report) if report.code == SqlState::TRANSACTION_TIMEOUT => {
                Some(TimeLimit::Transaction)
            }
            Self::Goodbye | Self::Lost | Self::Told(_) | Self::Silent => None,
        }
    }

    /// For the log.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Goodbye => "client said goodbye",
            Self::Lost => "client is gone",
            Self::Told(report) => &report.message,
            Self::Silent => "server connection ended",
        }
    }
}
