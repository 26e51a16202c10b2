//! What the tests stand on: servers, the pooler in front of them, clients of several kinds.
#![allow(dead_code, reason = "a tool box: not every tool is in use at any time")]

pub(crate) mod certificates;
pub(crate) mod clients;
pub(crate) mod crowd;
pub(crate) mod house;
pub(crate) mod http;
pub(crate) mod pooler;
pub(crate) mod postgres;
pub(crate) mod proxy;
mod transport;
pub(crate) mod wire;

#[allow(unused_imports, reason = "taken by the tests of the HTTP port")]
pub(crate) use http::Page;
#[allow(unused_imports, reason = "taken by the tests of the pooler")]
pub(crate) use pooler::Pgweir;
pub(crate) use postgres::Postgres;
#[allow(unused_imports, reason = "taken by tests of networks that break")]
pub(crate) use proxy::Proxy;
pub(crate) use wire::Wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest any wait of a test may take before it is a failure. Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Cargo's target directory.
pub(crate) fn target_directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .unwrap()
        .to_owned()
}
