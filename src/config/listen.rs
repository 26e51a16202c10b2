//! An entry of `listen`.

use std::fmt;
use std::path::PathBuf;

/// One place to wait for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A host name, an IP address without brackets, or `*` for all interfaces.
    Tcp { host: String, port: u16 },
    /// The directory in which the socket is made, and the number in its name.
    Unix { directory: PathBuf, port: u16 },
}

impl Listen {
    pub(super) fn parse(entry: &str, unix_port: u16) -> Result<Self, &'static str> {
        if entry.starts_with('/') {
            return Ok(Self::Unix {
                directory: PathBuf::from(entry),
                port: unix_port,
            });
        }
        let (host, port) = entry
            .rsplit_once(':')
            .ok_or("the port is missing, as in \"127.0.0.1:6432\"")?;
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let port = port.parse().map_err(|_| "the port is not a number up to 65535")?;
        Ok(Self::Tcp {
            host: host.to_owned(),
            port,
        })
    }

    /// The port, or the number that stands for it in the name of a socket.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Tcp { port, .. } | Self::Unix { port, .. } => *port,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(formatter, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(formatter, "{host}:{port}"),
            Self::Unix { directory, .. } => directory.display().fmt(formatter),
        }
    }
}
