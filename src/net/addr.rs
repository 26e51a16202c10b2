//! Where to listen, where to dial, and who came.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An entry of `listen`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// A host name, an IP address without brackets, or `*` for all interfaces.
    Tcp { host: String, port: u16 },
    /// The directory in which the socket file is made.
    Unix { directory: PathBuf, port: u16 },
}

impl ListenAddr {
    /// Reads `host:port`, `[address]:port`, `*:port`, or a directory, which starts with `/`. `unix_port` is the number in
    /// the name of a socket file: that of the first TCP entry, or [`PORT_DEFAULT`].
    pub fn parse(entry: &str, unix_port: u16) -> Result<Self, AddrError> {
        if entry.starts_with('/') {
            return Ok(Self::Unix {
                directory: PathBuf::from(entry),
                port: unix_port,
            });
        }
        let (host, port) = split_host_port(entry)?;
        let port = port.parse().map_err(|_| AddrError::Port(port.to_owned()))?;
        Ok(Self::Tcp {
            host: host.to_owned(),
            port,
        })
    }

    /// The port, or the number that stands for it in the name of a socket file.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Tcp { port, .. } | Self::Unix { port, .. } => *port,
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write_host_port(f, host, *port),
            Self::Unix { directory, port } => write!(f, "{}", socket_file(directory, *port).display()),
        }
    }
}

/// A PostgreSQL server, as its URL names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerAddr {
    /// A host name or an IP address without brackets.
    Tcp { host: Arc<str>, port: u16 },
    /// The directory in which the server keeps its socket file.
    Unix { directory: Arc<Path>, port: u16 },
}

impl ServerAddr {
    /// A host as libpq reads it: what starts with `/` is a directory.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        if host.starts_with('/') {
            let directory = Arc::from(Path::new(host));
            Self::Unix { directory, port }
        } else {
            let host = Arc::from(host);
            Self::Tcp { host, port }
        }
    }

    /// The port, or the number that stands for it in the name of a socket file.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Tcp { port, .. } | Self::Unix { port, .. } => *port,
        }
    }
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write_host_port(f, host, *port),
            Self::Unix { directory, port } => write!(f, "{}", socket_file(directory, *port).display()),
        }
    }
}

/// Where a client came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAddr {
    /// The peer's address.
    Tcp(SocketAddr),
    /// The peer's process, as far as the kernel tells.
    Unix { pid: Option<i32>, uid: Option<u32> },
}

impl ClientAddr {
    /// The IP address; none over a Unix socket.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix { .. } => None,
        }
    }
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { pid: Some(pid), .. } => write!(f, "unix({pid})"),
            Self::Unix { pid: None, .. } => f.write_str("unix"),
        }
    }
}

/// Why an address could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddrError {
    /// There is no host before the port.
    Host,
    /// There is no port.
    PortMissing,
    /// This is no port.
    Port(String),
    /// An IPv6 address stands without brackets, or a bracket is not closed.
    Brackets,
}

impl fmt::Display for AddrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("the host is missing (`*` is all interfaces)"),
            Self::PortMissing => write!(f, "the port is missing, as in `127.0.0.1:{PORT_DEFAULT}`"),
            Self::Port(text) => write!(f, "`{text}` is not a port number"),
            Self::Brackets => write!(f, "an IPv6 address needs brackets, as in `[::1]:{PORT_DEFAULT}`"),
        }
    }
}

impl std::error::Error for AddrError {}

/// The port of the pooler where none is named.
pub const PORT_DEFAULT: u16 = 6432;

/// The socket file of a port in a directory, as libpq looks for it.
#[must_use]
pub fn socket_file(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

fn split_host_port(entry: &str) -> Result<(&str, &str), AddrError> {
    let (host, port) = if let Some(rest) = entry.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(AddrError::Brackets)?;
        (host, rest.strip_prefix(':').ok_or(AddrError::PortMissing)?)
    } else {
        let (host, port) = entry.rsplit_once(':').ok_or(AddrError::PortMissing)?;
        if host.contains(':') {
            return Err(AddrError::Brackets);
        }
        (host, port)
    };
    if host.is_empty() {
        return Err(AddrError::Host);
    }
    Ok((host, port))
}

fn write_host_port(f: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
    if host.contains(':') {
        write!(f, "[{host}]:{port}")
    } else {
        write!(f, "{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_and_shown_the_same() {
        for entry in [
            "127.0.0.1:6432",
            "[::1]:6432",
            "*:6432",
            "localhost:0",
            "/run/pg/.s.PGSQL.7000",
        ] {
            let text = entry.strip_suffix("/.s.PGSQL.7000").unwrap_or(entry);
            assert_eq!(ListenAddr::parse(text, 7000).unwrap().to_string(), entry);
        }
    }

    #[test]
    fn entries_that_are_wrong_say_why() {
        for (entry, error) in [
            ("", AddrError::PortMissing),
            ("localhost", AddrError::PortMissing),
            ("[::1]", AddrError::PortMissing),
            (":6432", AddrError::Host),
            ("[]:6432", AddrError::Host),
            ("::1:6432", AddrError::Brackets),
            ("[::1:6432", AddrError::Brackets),
            ("localhost:65536", AddrError::Port("65536".into())),
            ("localhost:-1", AddrError::Port("-1".into())),
        ] {
            assert_eq!(ListenAddr::parse(entry, 1).unwrap_err(), error, "{entry}");
        }
    }

    #[test]
    fn a_server_host_that_is_a_path_is_a_directory() {
        assert_eq!(ServerAddr::new("/tmp", 5432).to_string(), "/tmp/.s.PGSQL.5432");
        assert_eq!(ServerAddr::new("::1", 5432).to_string(), "[::1]:5432");
        assert_eq!(ServerAddr::new("db", 5432).to_string(), "db:5432");
    }
}
