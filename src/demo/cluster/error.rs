//! What can go wrong between looking for PostgreSQL and having it answer.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why there is no server, or why it did not do as it was told.
#[derive(Debug)]
pub enum ClusterError {
    /// A command ended with a failure; its output says why.
    Command { what: String, output: String },
    /// The server ended by itself, or was not ready in time; the end of its log says why.
    Start { why: &'static str, log: String },
    /// A file or a process could not be made, read or removed.
    Io { what: String, source: io::Error },
    /// No directory with `initdb` and `postgres`, 14 or newer.
    NoBinaries { looked_in: Vec<PathBuf> },
    /// Root, and nobody else to run the servers as.
    NoAccount,
    /// Every port that was tried is taken.
    NoPort,
}

impl ClusterError {
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command { what, output } => write!(f, "{what} failed: {}", output.trim()),
            Self::Start { why, log } => write!(f, "PostgreSQL {why}; the end of its log:\n{}", log.trim()),
            Self::Io { what, source } => write!(f, "{what}: {source}"),
            Self::NoBinaries { looked_in } => {
                write!(f, "no PostgreSQL server 14 or newer (install the package `postgresql`, or set PGWEIR_PG_BIN to its directory); looked in")?;
                looked_in.iter().try_for_each(|directory| write!(f, " {}", directory.display()))
            }
            Self::NoAccount => {
                f.write_str("started as root, and there is no user `postgres` or `nobody` to run PostgreSQL as; name one in PGWEIR_PG_USER")
            }
            Self::NoPort => f.write_str("no free TCP port on 127.0.0.1"),
        }
    }
}

impl std::error::Error for ClusterError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Command { .. }
            | Self::Start { .. }
            | Self::NoBinaries { .. }
            | Self::NoAccount
            | Self::NoPort => None,
        }
    }
}
