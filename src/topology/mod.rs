//! Who is primary, which replicas may be read from, and how far each has come.
//!
//! Values: somebody else asks the servers and publishes a [`View`]; whoever routes a statement reads the latest one. A session
//! carries a [`Sight`]: what it has seen, so that it never goes back in time, and never misses what it has written.
//!
//! Times are microseconds on one clock that never goes back. A [`Sample`] says when it was *asked for*: what a server answers
//! to a question that was asked after something had happened there contains it.

pub mod choice;
pub mod health;
pub mod lsn;
pub mod sight;
pub mod view;
pub mod watch;

pub use choice::{Balancing, Choice, Consistency, Load, Reads, Rules, Why};
pub use health::Health;
pub use lsn::{Layout, Lsn};
pub use sight::{Does, Sight, Use};
pub use view::{Lag, Role, Sample, ServerView, Vacancy, View};
pub use watch::{Answer, Conflict, Watch};
