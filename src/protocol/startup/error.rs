//! What may be wrong with a packet of the startup.

use std::fmt;

use super::ProtocolVersion;
use crate::protocol::{Report, SqlState};

/// Worded as PostgreSQL words it. All of them end the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartupError {
    Length,
    Layout,
    CancelLength,
    Version(ProtocolVersion),
    /// The parameter of that name; names and values are UTF-8 here.
    NotUtf8(String),
    /// A word of `options` that sets nothing.
    Argument(String),
    /// A switch of `options` without its value.
    ArgumentValue(String),
    /// A word of `options` that sets what only the packet itself may say.
    NoSetting(String),
    Replication(String),
    NoUser,
}

impl fmt::Display for StartupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("invalid length of startup packet"),
            Self::Layout => f.write_str("invalid startup packet layout: expected terminator as last byte"),
            Self::CancelLength => f.write_str("invalid length of cancel request packet"),
            Self::Version(version) => write!(
                f,
                "unsupported frontend protocol {}.{}: server supports {}.0 to {}.{}",
                version.major,
                version.minor,
                ProtocolVersion::LATEST.major,
                ProtocolVersion::LATEST.major,
                ProtocolVersion::LATEST.minor
            ),
            Self::NotUtf8(name) => write!(f, "invalid startup packet: \"{name}\" is not valid UTF-8"),
            Self::Argument(word) => write!(f, "invalid command-line argument for server process: {word}"),
            Self::ArgumentValue(switch) => write!(f, "{switch} requires a value"),
            Self::NoSetting(name) => write!(f, "unrecognized configuration parameter \"{name}\""),
            Self::Replication(value) => write!(f, "invalid value for parameter \"replication\": \"{value}\""),
            Self::NoUser => f.write_str("no PostgreSQL user name specified in startup packet"),
        }
    }
}

impl std::error::Error for StartupError {}

impl From<&StartupError> for Report {
    fn from(error: &StartupError) -> Self {
        let report = |code| Self::fatal(code, error.to_string());
        match error {
            StartupError::Length
            | StartupError::Layout
            | StartupError::CancelLength
            | StartupError::NotUtf8(_) => report(SqlState::PROTOCOL_VIOLATION),
            StartupError::Version(_) => report(SqlState::FEATURE_NOT_SUPPORTED),
            StartupError::Argument(_) => report(SqlState::SYNTAX_ERROR)
                .with_hint("Settings in \"options\" are written as -c name=value or --name=value."),
            StartupError::ArgumentValue(_) => report(SqlState::SYNTAX_ERROR),
            StartupError::NoSetting(_) => report(SqlState::UNDEFINED_OBJECT),
            StartupError::Replication(_) => report(SqlState::INVALID_PARAMETER_VALUE)
                .with_hint("Valid values are: \"false\", 0, \"true\", 1, \"database\"."),
            StartupError::NoUser => report(SqlState::INVALID_AUTHORIZATION),
        }
    }
}
