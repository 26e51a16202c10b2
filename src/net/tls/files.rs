//! Certificates and keys, read from the operator's files.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::{names, provider};

/// The authorities of one file.
#[derive(Debug)]
pub(super) struct Roots {
    /// As they stand in the file.
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) store: Arc<RootCertStore>,
}

impl Roots {
    pub(super) fn read(path: &Path) -> Result<Self, TlsFileError> {
        let certificates = read_certificates(path)?;
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            let added = store.add(certificate.clone());
            added.map_err(|error| TlsFileError::at(path, Problem::Unusable(error)))?;
        }
        let store = Arc::new(store);
        Ok(Self { certificates, store })
    }
}

/// What we prove our own identity with.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) resolver: Arc<SingleCertAndKey>,
    /// The hash of our certificate; none where no hash is defined for it.
    pub(super) channel_binding: Option<Arc<[u8]>>,
}

impl Identity {
    pub(super) fn read(certificate: &Path, key: &Path) -> Result<Self, TlsFileError> {
        let chain = read_certificates(certificate)?;
        let Some(leaf) = chain.first() else {
            return Err(TlsFileError::at(certificate, Problem::NoCertificate));
        };
        let certificate_key = names::public_key(leaf);
        let certificate_key =
            certificate_key.ok_or_else(|| TlsFileError::at(certificate, Problem::Malformed))?;
        let signer = provider()
            .key_provider
            .load_private_key(read_key(key)?)
            .map_err(|error| TlsFileError::at(key, Problem::Unusable(error)))?;
        if signer
            .public_key()
            .is_some_and(|public| *public != *certificate_key)
        {
            return Err(TlsFileError::at(key, Problem::Mismatch(certificate.to_owned())));
        }
        let channel_binding = names::channel_binding(leaf);
        let resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, signer)));
        Ok(Self {
            resolver,
            channel_binding,
        })
    }
}

/// What is wrong with the settings of TLS or with one of its files. For the operator's eyes only: it names files.
#[derive(Debug)]
pub struct TlsFileError {
    file: Option<PathBuf>,
    problem: Problem,
}

impl TlsFileError {
    pub(super) fn at(path: &Path, problem: Problem) -> Self {
        Self {
            file: Some(path.to_owned()),
            problem,
        }
    }

    /// A mode asks for a file, and none is set.
    pub(super) fn missing(setting: &'static str) -> Self {
        Self {
            file: None,
            problem: Problem::Missing(setting),
        }
    }
}

impl fmt::Display for TlsFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}: {}", file.display(), self.problem),
            None => self.problem.fmt(f),
        }
    }
}

impl std::error::Error for TlsFileError {}

impl From<rustls::Error> for TlsFileError {
    fn from(error: rustls::Error) -> Self {
        Self {
            file: None,
            problem: Problem::Unusable(error),
        }
    }
}

#[derive(Debug)]
pub(super) enum Problem {
    Malformed,
    Mismatch(PathBuf),
    Missing(&'static str),
    NoCertificate,
    NoKey,
    Pem(pem::Error),
    Read(io::Error),
    System,
    Unusable(rustls::Error),
    Verifier(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("the certificate cannot be decoded"),
            Self::Mismatch(file) => write!(
                f,
                "the key does not belong to the certificate in {}",
                file.display()
            ),
            Self::Missing(setting) => write!(f, "`{setting}` is not set, and the mode of TLS needs it"),
            Self::NoCertificate => f.write_str("there is no certificate in this file"),
            Self::NoKey => {
                f.write_str("there is no private key in this file; one with a passphrase cannot be used")
            }
            Self::Pem(error) => write!(f, "not a PEM file: {error}"),
            Self::Read(error) => error.fmt(f),
            Self::System => f.write_str("the system's own authorities cannot be used; name a file"),
            Self::Unusable(error) => error.fmt(f),
            Self::Verifier(error) => f.write_str(error),
        }
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(TlsFileError::at(path, Problem::NoCertificate)),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(pem_error(path, error, Problem::NoCertificate)),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| pem_error(path, error, Problem::NoKey))
}

fn pem_error(path: &Path, error: pem::Error, nothing: Problem) -> TlsFileError {
    if matches!(error, pem::Error::NoItemsFound) {
        return TlsFileError::at(path, nothing);
    }
    if let pem::Error::Io(error) = error {
        return TlsFileError::at(path, Problem::Read(error));
    }
    TlsFileError::at(path, Problem::Pem(error))
}
