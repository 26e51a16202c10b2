//! Why a connection string is refused.

use std::fmt;

use crate::config::url::parameters::{SERVERS_MAX, VALUE_BYTES_MAX};

/// No variant holds a value that stood in the string, the name of a parameter excepted: a misplaced sign can make any part of it a piece of the password.
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
    /// More servers than one URL may have.
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
            Self::NotAUrl => formatter.write_str(NOT_A_URL),
            Self::Scheme => formatter.write_str("the URL must begin with postgresql:// or postgres://"),
            Self::PercentEncoding => formatter.write_str(PERCENT_ENCODING),
            Self::NotText => formatter.write_str("the URL is not UTF-8 where it is percent-encoded"),
            Self::Brackets => formatter.write_str(BRACKETS),
            Self::HostSign => formatter.write_str(HOST_SIGN),
            Self::AbstractSocket => formatter.write_str(ABSTRACT_SOCKET),
            Self::Equals => formatter.write_str(EQUALS),
            Self::Quote => formatter.write_str("a quoted value of the connection string is not closed"),
            Self::PortCount { hosts, ports } => {
                write!(
                    formatter,
                    "the URL has {hosts} hosts and {ports} ports: {PORT_COUNT}"
                )
            }
            Self::Port => formatter.write_str(PORT),
            Self::ServerCount => write!(formatter, "the URL has more than {SERVERS_MAX} hosts"),
            Self::Name { parameter } => {
                write!(
                    formatter,
                    "the URL's {parameter} must be at most {VALUE_BYTES_MAX} bytes, without a zero byte"
                )
            }
            Self::Unsupported { parameter, advice } => {
                write!(
                    formatter,
                    "the URL's parameter \"{parameter}\" is not supported: {advice}"
                )
            }
            Self::Unknown { parameter, nearest } => {
                write!(formatter, "the URL has an unknown parameter \"{parameter}\"")?;
                nearest.map_or(Ok(()), |nearest| {
                    write!(formatter, ": did you mean \"{nearest}\"?")
                })
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

const NOT_A_URL: &str = "not a URL: write \"postgresql://user:password@host:5432/database\"";

const PERCENT_ENCODING: &str =
    "the URL has a % that is not followed by two hexadecimal digits (write % itself as %25)";

const BRACKETS: &str = "the URL's IPv6 address must stand in brackets, as in [::1]:5432";

const HOST_SIGN: &str = "the URL's host has an @ or a space in it \
    (in a user name or password write @ as %40, / as %2F, : as %3A)";

const ABSTRACT_SOCKET: &str = "abstract Unix sockets are not supported: name a directory";

const EQUALS: &str = "each parameter of the URL must be name=value (write = and & in a value as %3D and %26)";

const PORT_COUNT: &str = "give one port for all, or one for each";

const PORT: &str = "the URL's port must be a number between 1 and 65535 \
    (in a user name or password write / as %2F, : as %3A)";
