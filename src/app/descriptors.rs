//! How many files and sockets the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one: each client takes a descriptor, and the usual soft limit is for programs that use
/// select(2). Says so in the log when that is still too few for `max_clients`.
pub(super) fn raise(max_clients: u32) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    if let Some(allowed) = allowed
        && allowed < u64::from(max_clients) + OTHERS
    {
        tracing::warn!(
            allowed,
            max_clients,
            "the limit of open files is reached before max_clients"
        );
    }
}

/// Descriptors for everything but clients: listeners, event loops, and some server connections.
const OTHERS: u64 = 64;
