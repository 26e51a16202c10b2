//! Whether a peer's certificate is good enough for the mode.
//!
//! Chains are judged by the TLS library, save two kinds it refuses and PostgreSQL takes, both common where certificates are
//! made by hand: a certificate that stands in the file of authorities itself, and one of X.509 version 1.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Version;

use super::files::Roots;
use super::names;

/// Judges PostgreSQL servers.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) check: Check,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (Check::Chain(roots) | Check::Full(roots)) = &self.check else {
            return Ok(ServerCertVerified::assertion());
        };
        let certificate = names::parse(end_entity).ok_or(CertificateError::BadEncoding)?;
        if !is_taken_directly(roots, end_entity, &certificate, now)? {
            verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(end_entity)?,
                &roots.store,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        if matches!(self.check, Check::Full(_)) && !names::is_for_host(&certificate, server_name) {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What is asked of a server's certificate; that the server holds its key is proven always.
#[derive(Clone, Debug)]
pub(super) enum Check {
    Nothing,
    Chain(Arc<Roots>),
    /// The chain, and the name of the host.
    Full(Arc<Roots>),
}

/// Judges clients that show a certificate.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub(super) roots: Roots,
    /// Judges all but what is taken directly, and knows whether a certificate is mandatory.
    pub(super) library: Arc<dyn ClientCertVerifier>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.library.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.library.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let certificate = names::parse(end_entity).ok_or(CertificateError::BadEncoding)?;
        if is_taken_directly(&self.roots, end_entity, &certificate, now)? {
            return Ok(ClientCertVerified::assertion());
        }
        self.library.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.library
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.library.supported_verify_schemes()
    }
}

/// The proof that the peer holds the key. Version 1 of X.509 is known to TLS 1.3 only.
fn verify_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let parsed = names::parse(certificate).ok_or(CertificateError::BadEncoding)?;
    if parsed.version() != X509Version::V1 {
        return verify_tls13_signature(message, certificate, signature, algorithms);
    }
    let key = names::public_key(certificate).ok_or(CertificateError::BadEncoding)?;
    verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
}

/// Whether a certificate is trusted without a chain: as one of the authorities, or as version 1 and signed by one of them.
fn is_taken_directly(
    roots: &Roots,
    der: &CertificateDer<'_>,
    certificate: &X509Certificate<'_>,
    now: UnixTime,
) -> Result<bool, Error> {
    let listed = roots.certificates.contains(der);
    if !listed && certificate.version() != X509Version::V1 {
        return Ok(false);
    }
    check_dates(certificate, now)?;
    if listed {
        return Ok(true);
    }
    for root in roots.certificates.iter().filter_map(names::parse) {
        let signed = root.subject() == certificate.issuer()
            && !names::is_weakly_signed(certificate)
            && certificate.verify_signature(Some(root.public_key())).is_ok();
        if signed {
            check_dates(&root, now)?;
            return Ok(true);
        }
    }
    Err(CertificateError::UnknownIssuer.into())
}

fn check_dates(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
    let now = i64::try_from(now.as_secs()).ok().map(ASN1Time::from_timestamp);
    let Some(Ok(now)) = now else {
        return Err(CertificateError::Expired.into());
    };
    let validity = certificate.validity();
    if now < validity.not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}
