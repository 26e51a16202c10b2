//! Free TCP ports.

use std::net::{Ipv4Addr, TcpListener};

use super::error::ClusterError;

/// Finds a port that is free now, below those that the kernel gives to outgoing connections: so that a server that is stopped
/// finds it free again. The listener keeps it until the server is about to start.
pub(super) fn hold_free() -> Result<TcpListener, ClusterError> {
    (0..ATTEMPTS_MAX)
        .find_map(|_| {
            TcpListener::bind((Ipv4Addr::LOCALHOST, rand::random_range(PORT_FIRST..=PORT_LAST))).ok()
        })
        .ok_or(ClusterError::NoPort)
}

/// A port that was free a moment ago.
pub fn free() -> Result<u16, ClusterError> {
    let held = hold_free()?;
    held.local_addr()
        .map(|address| address.port())
        .map_err(ClusterError::io("local address"))
}

const PORT_FIRST: u16 = 12_000;

/// Linux gives out 32768 and above by default.
const PORT_LAST: u16 = 32_000;

/// Enough to find one of 20,000 ports on a machine that uses most of them.
const ATTEMPTS_MAX: u32 = 200;
