//! TLS on both sides. The only module that names the TLS library.
//!
//! What the operator's files say becomes a snapshot, [`ClientTls`] or [`ServerTls`]; whoever keeps it replaces it to reload.
//! Sessions are never resumed: each handshake proves anew who the peer is.

mod accept;
mod connect;
mod files;
mod names;
mod verify;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::{CipherSuite, CommonState, ProtocolVersion};
use tokio_rustls::{client, server};

use super::stream::Socket;

pub use accept::{AcceptError, ClientTls, ClientTlsSettings, TlsPeer, TlsStart};
pub use connect::{ConnectError, ServerTls, ServerTlsPeer, ServerTlsSettings};
pub use files::TlsFileError;
pub use names::CertNames;

/// A session in which we are the TLS server: a client of ours.
pub(super) type ServerSession = server::TlsStream<Socket>;

/// A session in which we are the TLS client: a PostgreSQL server.
pub(super) type ClientSession = client::TlsStream<Socket>;

/// How much TLS is asked for, on either side: libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TlsMode {
    Disable,
    Allow,
    #[default]
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl TlsMode {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// Whether a connection without TLS is refused.
    #[must_use]
    pub fn is_required(self) -> bool {
        match self {
            Self::Disable | Self::Allow | Self::Prefer => false,
            Self::Require | Self::VerifyCa | Self::VerifyFull => true,
        }
    }

    /// Whether the peer's certificate must be signed by `ca`.
    #[must_use]
    pub fn verifies(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }
}

impl FromStr for TlsMode {
    type Err = UnknownTlsMode;

    fn from_str(text: &str) -> Result<Self, UnknownTlsMode> {
        MODES
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or(UnknownTlsMode)
    }
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names none of the six modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownTlsMode;

impl fmt::Display for UnknownTlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected disable, allow, prefer, require, verify-ca or verify-full")
    }
}

impl std::error::Error for UnknownTlsMode {}

/// What was negotiated, in the names of OpenSSL, which PostgreSQL shows too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    pub version: &'static str,
    pub cipher: &'static str,
}

impl TlsInfo {
    fn of(session: &CommonState) -> Self {
        let version = match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(_) | None => "unknown",
        };
        let cipher = session.negotiated_cipher_suite();
        let cipher = cipher.map_or("unknown", |suite| cipher_name(suite.suite()));
        Self { version, cipher }
    }
}

impl fmt::Display for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.version, self.cipher)
    }
}

const MODES: [TlsMode; 6] = [
    TlsMode::Disable,
    TlsMode::Allow,
    TlsMode::Prefer,
    TlsMode::Require,
    TlsMode::VerifyCa,
    TlsMode::VerifyFull,
];

/// The application protocol of ALPN, as registered for PostgreSQL.
const ALPN: &[u8] = b"postgresql";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn cipher_name(suite: CipherSuite) -> &'static str {
    let known = CIPHERS.iter().find(|(known, _)| *known == suite);
    known.map_or("unknown", |(_, name)| name)
}

/// The suites of the provider; others cannot be negotiated.
const CIPHERS: [(CipherSuite, &str); 9] = [
    (CipherSuite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256"),
    (CipherSuite::TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384"),
    (
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        "TLS_CHACHA20_POLY1305_SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-AES128-GCM-SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-AES256-GCM-SHA384",
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-AES128-GCM-SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-AES256-GCM-SHA384",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-RSA-CHACHA20-POLY1305",
    ),
];

#[cfg(test)]
mod tests;
