//! What may be wrong with a SCRAM exchange.

use std::fmt;

use crate::protocol::{Report, SqlState};

/// Why an exchange ended, apart from a wrong proof, which `server` reports as such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScramError {
    /// A message that does not follow the grammar; the text says where.
    Malformed(String),
    /// The peer's message is larger than any that PostgreSQL would take.
    TooLong,
    /// The peer wants something that SCRAM has and PostgreSQL does not.
    Unsupported(&'static str),
    UnsupportedBindingType(String),
    /// The client has channel binding and was made to believe that we do not: somebody is in between.
    Downgrade,
    /// The client is bound to another TLS session than ours.
    BindingMismatch,
    /// The flag of the first message and the data of the last do not fit together.
    UnexpectedBinding,
    NonceNotPrintable,
    NonceMismatch,
    /// Seen by the client: the server gave up.
    ServerError(String),
    /// Seen by the client: the server does not know the password either.
    ServerSignature,
    /// Seen by the client: a number of iterations outside of what is sensible.
    Iterations,
    /// Seen by the client: no mechanism in common.
    NoMechanism,
}

impl fmt::Display for ScramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(_) => f.write_str("malformed SCRAM message"),
            Self::TooLong => f.write_str("SCRAM message is too long"),
            Self::Unsupported(what) => f.write_str(what),
            Self::UnsupportedBindingType(kind) => {
                write!(f, "unsupported SCRAM channel-binding type \"{kind}\"")
            }
            Self::Downgrade => f.write_str("SCRAM channel binding negotiation error"),
            Self::BindingMismatch => f.write_str("SCRAM channel binding check failed"),
            Self::UnexpectedBinding => {
                f.write_str("unexpected SCRAM channel-binding attribute in client-final-message")
            }
            Self::NonceNotPrintable => f.write_str("non-printable characters in SCRAM nonce"),
            Self::NonceMismatch => f.write_str("invalid SCRAM response"),
            Self::ServerError(text) => write!(f, "SCRAM error from the server: {text}"),
            Self::ServerSignature => f.write_str("incorrect server signature"),
            Self::Iterations => f.write_str("iteration count of the server is out of range"),
            Self::NoMechanism => f.write_str("no SASL mechanism in common with the server"),
        }
    }
}

impl std::error::Error for ScramError {}

impl From<&ScramError> for Report {
    fn from(error: &ScramError) -> Self {
        let code = match error {
            ScramError::Unsupported(_) => SqlState::FEATURE_NOT_SUPPORTED,
            ScramError::Downgrade | ScramError::BindingMismatch => SqlState::INVALID_AUTHORIZATION,
            ScramError::TooLong => SqlState::PROGRAM_LIMIT_EXCEEDED,
            ScramError::Malformed(_)
            | ScramError::UnsupportedBindingType(_)
            | ScramError::UnexpectedBinding
            | ScramError::NonceNotPrintable
            | ScramError::NonceMismatch
            | ScramError::ServerError(_)
            | ScramError::ServerSignature
            | ScramError::Iterations
            | ScramError::NoMechanism => SqlState::PROTOCOL_VIOLATION,
        };
        let report = Self::fatal(code, error.to_string());
        match error {
            ScramError::Malformed(detail) => report.with_detail(detail.clone()),
            ScramError::NonceMismatch => report.with_detail("Nonce does not match."),
            ScramError::Downgrade => report.with_detail(
                "The client supports SCRAM channel binding but thinks the server does not. However, this server does support channel binding.",
            ),
            ScramError::TooLong
            | ScramError::Unsupported(_)
            | ScramError::UnsupportedBindingType(_)
            | ScramError::BindingMismatch
            | ScramError::UnexpectedBinding
            | ScramError::NonceNotPrintable
            | ScramError::ServerError(_)
            | ScramError::ServerSignature
            | ScramError::Iterations
            | ScramError::NoMechanism => report,
        }
    }
}
