//! TLS with our clients: we are the TLS server.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ServerConnection, WebPkiClientVerifier};
use tokio_rustls::TlsAcceptor;

use super::files::{Identity, Problem, Roots, TlsFileError};
use super::names::CertNames;
use super::verify::ClientVerifier;
use super::{ALPN, TlsInfo, TlsMode, provider};
use crate::net::stream::Stream;

/// What the operator wrote about TLS with clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTlsSettings {
    pub mode: TlsMode,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Who signs the certificates of clients. Below verify-ca a client need not show one.
    pub ca: Option<PathBuf>,
}

/// TLS with clients as the files say it at one moment.
#[derive(Clone)]
pub struct ClientTls {
    mode: TlsMode,
    /// None when TLS is not offered.
    offer: Option<Offer>,
}

impl ClientTls {
    /// No TLS: each request for it is declined.
    pub const DISABLED: Self = Self {
        mode: TlsMode::Disable,
        offer: None,
    };

    /// Reads the files. Blocks, and is called again to reload.
    pub fn build(settings: &ClientTlsSettings) -> Result<Self, TlsFileError> {
        if settings.mode == TlsMode::Disable {
            return Ok(Self::DISABLED);
        }
        let certificate = settings
            .cert
            .as_deref()
            .ok_or_else(|| TlsFileError::missing("cert"))?;
        let key = settings
            .key
            .as_deref()
            .ok_or_else(|| TlsFileError::missing("key"))?;
        let identity = Identity::read(certificate, key)?;
        let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let config = match client_verifier(settings)? {
            Some(verifier) => config.with_client_cert_verifier(Arc::new(verifier)),
            None => config.with_no_client_auth(),
        };
        let mut config = config.with_cert_resolver(identity.resolver);
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let offer = Offer {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            channel_binding: identity.channel_binding,
        };
        Ok(Self {
            mode: settings.mode,
            offer: Some(offer),
        })
    }

    #[must_use]
    pub fn mode(&self) -> TlsMode {
        self.mode
    }

    /// Whether a request for TLS is answered with yes.
    #[must_use]
    pub fn is_offered(&self) -> bool {
        self.offer.is_some()
    }

    /// Makes TLS of a plain stream. `read_ahead` is what the caller has already read and not used: the beginning of the
    /// handshake when it starts directly, and nothing otherwise. Not cancel-safe: the stream is gone.
    pub async fn accept(
        &self,
        stream: Stream,
        start: TlsStart,
        read_ahead: &[u8],
    ) -> Result<(Stream, TlsPeer), AcceptError> {
        let (Some(offer), Stream::Plain(socket)) = (&self.offer, stream) else {
            return Err(AcceptError::NotOffered);
        };
        if start == TlsStart::Requested && !read_ahead.is_empty() {
            return Err(AcceptError::EarlyBytes);
        }
        let feed_early = |session: &mut ServerConnection| feed(session, read_ahead);
        // In a box, so that no caller carries the handshake's state for as long as the connection lives.
        let session = Box::pin(offer.acceptor.accept_with(socket, feed_early)).await;
        let session = Box::new(session.map_err(AcceptError::Handshake)?);
        let state = session.get_ref().1;
        if start == TlsStart::Direct && state.alpn_protocol() != Some(ALPN) {
            return Err(AcceptError::NoAlpn);
        }
        let certificate = state.peer_certificates().and_then(<[_]>::first);
        let peer = TlsPeer {
            channel_binding: offer.channel_binding.clone(),
            client_certificate: certificate.and_then(CertNames::of),
            info: TlsInfo::of(state),
        };
        Ok((Stream::ServerTls(session), peer))
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// How a client begins TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsStart {
    /// It asked, and was answered yes.
    Requested,
    /// It sent the handshake at once; the ALPN protocol must be agreed on then, as PostgreSQL 17 has it.
    Direct,
}

/// What the handshake told of a client.
#[derive(Clone, Debug)]
pub struct TlsPeer {
    /// `tls-server-end-point` of our certificate; none where no hash is defined for it.
    pub channel_binding: Option<Arc<[u8]>>,
    /// Present only when verified.
    pub client_certificate: Option<CertNames>,
    pub info: TlsInfo,
}

/// Why TLS with a client did not come to be. There is no way to tell the client, save what TLS itself has sent.
#[derive(Debug)]
pub enum AcceptError {
    /// Bytes came unencrypted after the request for TLS: somebody in between may have put them there.
    EarlyBytes,
    Handshake(io::Error),
    /// A direct start without the protocol's name.
    NoAlpn,
    NotOffered,
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EarlyBytes => f.write_str("received unencrypted data after the request for TLS"),
            Self::Handshake(error) => write!(f, "TLS handshake failed: {error}"),
            Self::NoAlpn => f.write_str("direct TLS without the ALPN protocol `postgresql`"),
            Self::NotOffered => f.write_str("TLS is not offered"),
        }
    }
}

impl std::error::Error for AcceptError {}

#[derive(Clone)]
struct Offer {
    acceptor: TlsAcceptor,
    channel_binding: Option<Arc<[u8]>>,
}

fn client_verifier(settings: &ClientTlsSettings) -> Result<Option<ClientVerifier>, TlsFileError> {
    let Some(path) = settings.ca.as_deref() else {
        return if settings.mode.verifies() {
            Err(TlsFileError::missing("ca"))
        } else {
            Ok(None)
        };
    };
    let roots = Roots::read(path)?;
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let library = WebPkiClientVerifier::builder_with_provider(roots.store.clone(), provider);
    let library = if settings.mode.verifies() {
        library
    } else {
        library.allow_unauthenticated()
    };
    let library = library
        .build()
        .map_err(|error| TlsFileError::at(path, Problem::Verifier(error.to_string())))?;
    Ok(Some(ClientVerifier {
        roots,
        library,
        algorithms,
    }))
}

/// Hands the session what came before it was made. An error stays in the session, and the handshake reports it.
fn feed(session: &mut ServerConnection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let fed = session.read_tls(&mut bytes);
        if !matches!(fed, Ok(count) if count > 0) || session.process_new_packets().is_err() {
            return;
        }
    }
}
