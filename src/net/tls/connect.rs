//! TLS with PostgreSQL servers: we are the TLS client.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::files::{Identity, Problem, Roots, TlsFileError};
use super::verify::{Check, ServerVerifier};
use super::{ALPN, TlsInfo, TlsMode, names, provider};
use crate::net::stream::Stream;

/// What the operator wrote about TLS with servers, or with one server: libpq's `sslmode`, `sslrootcert`, `sslcert`, `sslkey`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServerTlsSettings {
    pub mode: TlsMode,
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

/// TLS with servers as the files say it at one moment.
#[derive(Clone)]
pub struct ServerTls {
    mode: TlsMode,
    /// None when TLS is never tried.
    connector: Option<TlsConnector>,
}

impl ServerTls {
    /// TLS is never tried.
    pub const DISABLED: Self = Self {
        mode: TlsMode::Disable,
        connector: None,
    };

    /// Reads the files. Blocks, and is called again to reload.
    ///
    /// As with libpq, a `ca` makes every mode verify the chain, and the two verifying modes cannot do without one.
    pub fn build(settings: &ServerTlsSettings) -> Result<Self, TlsFileError> {
        if settings.mode == TlsMode::Disable {
            return Ok(Self::DISABLED);
        }
        let provider = provider();
        let verifier = ServerVerifier {
            check: check(settings)?,
            algorithms: provider.signature_verification_algorithms,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match (&settings.cert, &settings.key) {
            (Some(certificate), Some(key)) => {
                config.with_client_cert_resolver(Identity::read(certificate, key)?.resolver)
            }
            (None, None) => config.with_no_client_auth(),
            (Some(_), None) => return Err(TlsFileError::missing("key")),
            (None, Some(_)) => return Err(TlsFileError::missing("cert")),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self {
            mode: settings.mode,
            connector: Some(TlsConnector::from(Arc::new(config))),
        })
    }

    #[must_use]
    pub fn mode(&self) -> TlsMode {
        self.mode
    }

    /// Makes TLS of a plain stream on which the server has agreed to it. Not cancel-safe: the stream is gone.
    pub async fn connect(&self, stream: Stream, host: &str) -> Result<(Stream, ServerTlsPeer), ConnectError> {
        let (Some(connector), Stream::Plain(socket)) = (&self.connector, stream) else {
            return Err(ConnectError::Disabled);
        };
        let name = match ServerName::try_from(host.to_owned()) {
            Ok(name) => name,
            // A name that no certificate can hold can still be dialled; it is not sent then.
            Err(_) if self.mode != TlsMode::VerifyFull => IpAddr::from(Ipv4Addr::UNSPECIFIED).into(),
            Err(_) => return Err(ConnectError::HostName),
        };
        // In a box, so that no caller carries the handshake's state for as long as the connection lives.
        let session = Box::pin(connector.connect(name, socket)).await;
        let session = Box::new(session.map_err(ConnectError::Handshake)?);
        let state = session.get_ref().1;
        let certificate = state.peer_certificates().and_then(<[_]>::first);
        let peer = ServerTlsPeer {
            channel_binding: certificate.and_then(names::channel_binding),
            info: TlsInfo::of(state),
        };
        Ok((Stream::ClientTls(session), peer))
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// What the handshake told of a server.
#[derive(Clone, Debug)]
pub struct ServerTlsPeer {
    /// `tls-server-end-point` of the server's certificate; none where no hash is defined for it.
    pub channel_binding: Option<Arc<[u8]>>,
    pub info: TlsInfo,
}

/// Why TLS with a server did not come to be.
#[derive(Debug)]
pub enum ConnectError {
    Disabled,
    Handshake(io::Error),
    /// The certificate is to be checked against a name that no certificate can hold.
    HostName,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("TLS is disabled"),
            Self::Handshake(error) => write!(f, "TLS handshake failed: {error}"),
            Self::HostName => f.write_str("no certificate can be for this host name"),
        }
    }
}

impl std::error::Error for ConnectError {}

fn check(settings: &ServerTlsSettings) -> Result<Check, TlsFileError> {
    let Some(path) = settings.ca.as_deref() else {
        return if settings.mode.verifies() {
            Err(TlsFileError::missing("ca"))
        } else {
            Ok(Check::Nothing)
        };
    };
    if path == Path::new(SYSTEM_ROOTS) {
        return Err(TlsFileError::at(path, Problem::System));
    }
    let roots = Arc::new(Roots::read(path)?);
    Ok(if settings.mode == TlsMode::VerifyFull {
        Check::Full(roots)
    } else {
        Check::Chain(roots)
    })
}

/// What libpq takes for the authorities of the system.
const SYSTEM_ROOTS: &str = "system";
