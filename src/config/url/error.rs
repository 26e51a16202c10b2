//! Why a connection string is refused.

use std::fmt;

/// No variant holds a value that stood in the string: a misplaced sign can make any part of it a piece of the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// Neither of libpq's two forms.
    NotAUrl,
    /// A URL, but not PostgreSQL's.
    Scheme,
    /// `%` without two hexadecimal digits, or `%00`.
    PercentEncoding,
    /// Percent-encoded bytes that are not UTF-8.
    NotText,
    /// `[` without `]`, nothing in between, or something else than a port after it.
    Brackets,
    /// An `@` or another sign in the host that belongs into an encoded password.
    HostSign,
    /// An abstract Unix socket.
    AbstractSocket,
    /// A parameter without `=`, or with two of them.
    Equals,
    /// A quote that is not closed.
    Quote,
    /// The numbers of hosts and ports differ.
    PortCount { hosts: usize, ports: usize },
    /// Not a number between 1 and 65535.
    Port,
    /// More servers than [`SERVERS_MAX`](super::parameters::SERVERS_MAX).
    ServerCount,
    /// The user or database name is longer than PostgreSQL keeps, or has a zero byte.
    Name { parameter: &'static str },
    /// libpq knows it, pgweir has no equal.
    Unsupported { parameter: String, advice: &'static str },
    /// libpq does not know it either.
    Unknown {
        parameter: String,
        nearest: Option<&'static str>,
    },
    /// One of a few words is expected.
    Word { parameter: &'static str, words: String },
    /// A whole number within limits is expected.
    Number {
        parameter: &'static str,
        least: u64,
        most: u64,
    },
    /// Two parameters that exclude each other.
    Contradiction(&'static str),
}

impl fmt::Display for UrlError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAUrl => formatter.write_str(
                "not a URL: write \
                 \"postgresql://user:password@host:5432/database\"",
            ),
            Self::Scheme => formatter.write_str("the URL must begin with postgresql:// or postgres://"),
            Self::PercentEncoding => formatter.write_str(
                "the URL has a % that is not followed by two hexadecimal digits \
                 (write % itself as %25)",
            ),
            Self::NotText => formatter.write_str("the URL is not UTF-8 where it is percent-encoded"),
            Self::Brackets => {
                formatter.write_str("the URL's IPv6 address must stand in brackets, as in [::1]:5432")
            }
            Self::HostSign => formatter.write_str(
                "the URL's host has an @ or a space in it \
                 (in a user name or password write @ as %40, / as %2F, : as %3A)",
            ),
            Self::AbstractSocket => {
                formatter.write_str("abstract Unix sockets are not supported: name a directory")
            }
            Self::Equals => formatter.write_str(
                "each parameter of the URL must be name=value \
                 (write = and & in a value as %3D and %26)",
            ),
            Self::Quote => formatter.write_str("a quoted value of the connection string is not closed"),
            Self::PortCount { hosts, ports } => {
                write!(
                    formatter,
                    "the URL has {hosts} hosts and {ports} ports: \
                 give one port for all, or one for each"
                )
            }
            Self::Port => formatter.write_str(
                "the URL's port must be a number between 1 and 65535 \
                 (in a user name or password write / as %2F, : as %3A)",
            ),
            Self::ServerCount => {
                write!(
                    formatter,
                    "the URL has more than {} hosts",
                    super::parameters::SERVERS_MAX
                )
            }
            Self::Name { parameter } => write!(
                formatter,
                "the URL's {parameter} must be at most {} bytes, without a zero byte",
                super::parameters::VALUE_BYTES_MAX
            ),
            Self::Unsupported { parameter, advice } => {
                write!(
                    formatter,
                    "the URL's parameter \"{parameter}\" is not supported: {advice}"
                )
            }
            Self::Unknown {
                parameter,
                nearest: Some(nearest),
            } => {
                write!(
                    formatter,
                    "the URL has an unknown parameter \"{parameter}\": \
                 did you mean \"{nearest}\"?"
                )
            }
            Self::Unknown {
                parameter,
                nearest: None,
            } => {
                write!(formatter, "the URL has an unknown parameter \"{parameter}\"")
            }
            Self::Word { parameter, words } => write!(formatter, "the URL's {parameter} must be {words}"),
            Self::Number {
                parameter,
                least,
                most,
            } => {
                write!(
                    formatter,
                    "the URL's {parameter} must be a whole number between {least} and {most}"
                )
            }
            Self::Contradiction(what) => formatter.write_str(what),
        }
    }
}

impl std::error::Error for UrlError {}
