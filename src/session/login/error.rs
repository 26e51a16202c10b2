//! Why a login to a server failed.

use std::fmt;

use crate::auth::scram::ScramError;
use crate::protocol::body::{ErrorFields, error_fields};
use crate::protocol::startup::ProtocolVersion;
use crate::protocol::{Report, SqlState};

/// Sorted by whose fault it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginError {
    /// The server refuses.
    Server(ServerError),
    /// The server wants a secret for that method, and there is none that fits.
    SecretNeeded(&'static str),
    UnsupportedMethod(&'static str),
    Scram(ScramError),
    /// The server ended a SCRAM exchange without a proof of its own.
    Unproven,
    /// `channel_binding=require`, and the server's proof is not bound to the TLS session.
    Unbound,
    Version(ProtocolVersion),
    Unexpected(u8),
    Malformed(u8),
    TooManyParameters,
    NoCancelKey,
    /// The connection ended before the login did.
    Lost,
}

impl fmt::Display for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(error) => write!(f, "{}: {} ({})", error.severity, error.message, error.code),
            Self::SecretNeeded(method) => {
                write!(
                    f,
                    "the server asks for {method} authentication, and no secret for it is known"
                )
            }
            Self::UnsupportedMethod(method) => {
                write!(f, "the server asks for {method}, which is not supported")
            }
            Self::Scram(error) => write!(f, "SCRAM login to the server failed: {error}"),
            Self::Unproven => f.write_str("the server did not prove that it knows the password"),
            Self::Unbound => f.write_str("channel binding is required, and the server did not complete authentication with channel binding"),
            Self::Version(version) => write!(
                f,
                "the server offers protocol {}.{}, which was not asked for",
                version.major, version.minor
            ),
            Self::Unexpected(tag) => write!(
                f,
                "the server sent an unexpected message of type {tag} during login"
            ),
            Self::Malformed(tag) => write!(
                f,
                "the server sent a malformed message of type {tag} during login"
            ),
            Self::TooManyParameters => f.write_str("the server reports more parameters than are accepted"),
            Self::NoCancelKey => f.write_str("the server did not send a cancellation key"),
            Self::Lost => f.write_str("the connection to the server was lost during login"),
        }
    }
}

impl std::error::Error for LoginError {}

impl From<&LoginError> for Report {
    fn from(error: &LoginError) -> Self {
        let report = || Self::error(SqlState::CANNOT_ESTABLISH_CONNECTION, error.to_string());
        match error {
            LoginError::Server(server) => server.report(),
            LoginError::SecretNeeded(method) => report().with_hint(match *method {
                "password" => "Set the password in the clear: in the server's URL or for the user.",
                "md5" => "Set the password, in the clear or as md5…, in the server's URL or for the user.",
                _ => {
                    "Set the password in the clear in the server's URL or for the user, or let clients log in with scram-sha-256 and the secret that the server stores."
                }
            }),
            LoginError::UnsupportedMethod(_) => {
                report().with_hint("Let the server ask for scram-sha-256, md5, password, cert or trust.")
            }
            LoginError::Unbound => report().with_hint(
                "The server must offer TLS and ask for scram-sha-256; else take channel_binding=require out of the URL.",
            ),
            LoginError::Scram(_)
            | LoginError::Unproven
            | LoginError::Version(_)
            | LoginError::Unexpected(_)
            | LoginError::Malformed(_)
            | LoginError::TooManyParameters
            | LoginError::NoCancelKey
            | LoginError::Lost => report(),
        }
    }
}

/// The server's own `ErrorResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// As it came.
    pub body: Box<[u8]>,
    /// In English; the localised one where the server sends no other.
    pub severity: String,
    pub code: SqlState,
    pub message: String,
}

impl ServerError {
    pub(super) fn read(body: &[u8]) -> Self {
        let fields = ErrorFields::read(body);
        let field = |kind| {
            error_fields(body)
                .find(|(found, _)| *found == kind)
                .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        Self {
            body: body.into(),
            severity: field(FIELD_SEVERITY)
                .or_else(|| field(FIELD_SEVERITY_LOCALISED))
                .unwrap_or_else(|| "FATAL".to_owned()),
            code: fields.code,
            message: String::from_utf8_lossy(fields.message).into_owned(),
        }
    }

    /// The same error, as one of ours: the client keeps its session unless the caller says otherwise.
    fn report(&self) -> Report {
        let mut report = Report::error(self.code, self.message.clone());
        for (kind, value) in error_fields(&self.body) {
            let value = String::from_utf8_lossy(value).into_owned();
            match kind {
                FIELD_DETAIL => report.detail = Some(value.into()),
                FIELD_HINT => report.hint = Some(value.into()),
                _ => {}
            }
        }
        report
    }
}

// Source: the PG_DIAG codes in PostgreSQL's `src/include/postgres_ext.h`.
const FIELD_SEVERITY: u8 = b'V';
const FIELD_SEVERITY_LOCALISED: u8 = b'S';
const FIELD_DETAIL: u8 = b'D';
const FIELD_HINT: u8 = b'H';
