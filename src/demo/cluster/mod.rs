//! Private PostgreSQL servers: made once as a template, copied for each instance, gone when dropped.
//!
//! PostgreSQL refuses to run as root. A process that has root's rights starts the servers as the user that `PGWEIR_PG_USER`
//! names, else as `postgres`, else as `nobody`, and gives their directories to that user; any other process starts them as
//! itself. Nothing here is durable: `fsync` is off and the directories lie in memory where there is room.

mod account;
mod binaries;
mod error;
mod home;
mod instance;
pub mod port;
mod process;
mod template;

pub use account::Account;
pub use binaries::Binaries;
pub use error::ClusterError;
pub use home::Home;
pub use instance::{Instance, StopMode};
pub use template::{InstanceOptions, Recipe, Template};
