//! The words of PostgreSQL's frontend/backend protocol: bytes become types here, once, and nowhere else.
//!
//! A leaf: knows no sockets, no clock, no configuration.
//! Source: <https://www.postgresql.org/docs/current/protocol-message-formats.html>

pub mod authentication;
pub mod body;
pub mod cancel;
pub mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod parameter;
pub mod report;
pub mod sqlstate;
pub mod startup;
pub mod tag;
pub mod transaction;
pub mod write;

pub use cancel::{CancelKey, CancelSecret};
pub use frame::{FrameError, HEAD_LEN, Head};
pub use parameter::Parameters;
pub use report::{Fate, Report, Severity};
pub use sqlstate::SqlState;
pub use transaction::TransactionState;
