//! What a certificate says: whom it names, and the hash by which both ends know it.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer};
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{
    OID_HASH_SHA1, OID_NIST_HASH_SHA256, OID_NIST_HASH_SHA384, OID_NIST_HASH_SHA512, OID_PKCS1_MD5WITHRSAENC,
    OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA1WITHRSA, OID_PKCS1_SHA224WITHRSA, OID_PKCS1_SHA256WITHRSA,
    OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA224, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512, Oid, asn1_rs::oid,
};
use x509_parser::prelude::FromDer;
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// Whom a certificate names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertNames {
    /// The first common name of the subject.
    pub common_name: Option<String>,
    /// The alternative names that are host names.
    pub dns_names: Vec<String>,
}

impl CertNames {
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = parse(certificate)?;
        let dns_names = alternative_names(&certificate).filter_map(|name| {
            let GeneralName::DNSName(name) = name else {
                return None;
            };
            Some((*name).to_owned())
        });
        Some(Self {
            dns_names: dns_names.collect(),
            common_name: common_name(&certificate).map(str::to_owned),
        })
    }
}

/// The certificate's hash for the channel binding `tls-server-end-point` (RFC 5929): the hash of its own signature, SHA-256
/// in place of what is weaker. None where the signature has no hash of its own, as with Ed25519: PostgreSQL offers no
/// channel binding then either (`be_tls_get_certificate_hash`).
pub(super) fn channel_binding(certificate: &CertificateDer<'_>) -> Option<Arc<[u8]>> {
    let parsed = parse(certificate)?;
    let hash = signature_hash(&parsed)?;
    Some(match hash {
        Hash::Sha224 => Arc::from(Sha224::digest(certificate).as_slice()),
        Hash::Sha256 => Arc::from(Sha256::digest(certificate).as_slice()),
        Hash::Sha384 => Arc::from(Sha384::digest(certificate).as_slice()),
        Hash::Sha512 => Arc::from(Sha512::digest(certificate).as_slice()),
    })
}

/// The public key of a certificate of any version.
pub(super) fn public_key(certificate: &CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let certificate = parse(certificate)?;
    Some(SubjectPublicKeyInfoDer::from(
        certificate.public_key().raw.to_vec(),
    ))
}

pub(super) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (rest, certificate) = X509Certificate::from_der(certificate).ok()?;
    rest.is_empty().then_some(certificate)
}

/// Whether the signature rests on a hash for which collisions have been made.
pub(super) fn is_weakly_signed(certificate: &X509Certificate<'_>) -> bool {
    let weak = [
        OID_PKCS1_MD5WITHRSAENC,
        OID_PKCS1_SHA1WITHRSA,
        OID_ECDSA_WITH_SHA1,
    ];
    weak.contains(&certificate.signature_algorithm.algorithm)
}

/// Whether a certificate is for this host, by libpq's rules (`verify_peer_name_matches_certificate`): the alternative names
/// count; the common name only when none of them is of the host's kind. A wildcard stands for one leftmost label.
pub(super) fn is_for_host(certificate: &X509Certificate<'_>, host: &ServerName<'_>) -> bool {
    let host = match host {
        ServerName::DnsName(name) => Host::Name(name.as_ref()),
        ServerName::IpAddress(address) => Host::Ip(IpAddr::from(*address)),
        _ => return false,
    };
    let mut common_name_counts = true;
    for name in alternative_names(certificate) {
        let matched = match (name, host) {
            (GeneralName::DNSName(pattern), Host::Name(host)) => {
                common_name_counts = false;
                is_name_match(pattern, host)
            }
            (GeneralName::IPAddress(bytes), Host::Ip(host)) => {
                common_name_counts = false;
                is_same_ip(bytes, host)
            }
            _ => false,
        };
        if matched {
            return true;
        }
    }
    let Some(common_name) = common_name(certificate).filter(|_| common_name_counts) else {
        return false;
    };
    match host {
        Host::Name(host) => is_name_match(common_name, host),
        Host::Ip(host) => common_name.parse() == Ok(host),
    }
}

#[derive(Clone, Copy)]
enum Host<'a> {
    Name(&'a str),
    Ip(IpAddr),
}

#[derive(Clone, Copy)]
enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

fn alternative_names<'a>(certificate: &'a X509Certificate<'_>) -> impl Iterator<Item = &'a GeneralName<'a>> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    extension
        .into_iter()
        .flat_map(|extension| &extension.value.general_names)
}

/// A name with a NUL inside is none: it could pass for a shorter one.
fn common_name<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().filter(|name| !name.contains('\0'))
}

fn is_name_match(pattern: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    let (Some(pattern), Some((label, host))) = (pattern.strip_prefix("*."), host.split_once('.')) else {
        return false;
    };
    !label.is_empty() && !pattern.is_empty() && pattern.eq_ignore_ascii_case(host)
}

fn is_same_ip(bytes: &[u8], host: IpAddr) -> bool {
    match host {
        IpAddr::V4(host) => host.octets() == bytes,
        IpAddr::V6(host) => host.octets() == bytes,
    }
}

fn signature_hash(certificate: &X509Certificate<'_>) -> Option<Hash> {
    let algorithm = &certificate.signature_algorithm;
    if algorithm.algorithm != OID_PKCS1_RSASSAPSS {
        return find_hash(&algorithm.algorithm, &SIGNATURE_HASHES);
    }
    let SignatureAlgorithm::RSASSA_PSS(parameters) = SignatureAlgorithm::try_from(algorithm).ok()? else {
        return None;
    };
    find_hash(parameters.hash_algorithm_oid(), &HASHES)
}

fn find_hash(oid: &Oid<'_>, table: &[(Oid<'_>, Hash)]) -> Option<Hash> {
    let found = table.iter().find(|(known, _)| known == oid);
    found.map(|(_, hash)| *hash)
}

const OID_ECDSA_WITH_SHA1: Oid<'static> = oid!(1.2.840.10045.4.1);

/// The hash within each signature.
const SIGNATURE_HASHES: [(Oid<'static>, Hash); 11] = [
    (OID_PKCS1_MD5WITHRSAENC, Hash::Sha256),
    (OID_PKCS1_SHA1WITHRSA, Hash::Sha256),
    (OID_PKCS1_SHA224WITHRSA, Hash::Sha224),
    (OID_PKCS1_SHA256WITHRSA, Hash::Sha256),
    (OID_PKCS1_SHA384WITHRSA, Hash::Sha384),
    (OID_PKCS1_SHA512WITHRSA, Hash::Sha512),
    (OID_ECDSA_WITH_SHA1, Hash::Sha256),
    (OID_SIG_ECDSA_WITH_SHA224, Hash::Sha224),
    (OID_SIG_ECDSA_WITH_SHA256, Hash::Sha256),
    (OID_SIG_ECDSA_WITH_SHA384, Hash::Sha384),
    (OID_SIG_ECDSA_WITH_SHA512, Hash::Sha512),
];

/// Hashes by their own name, as an RSA-PSS signature carries one.
const HASHES: [(Oid<'static>, Hash); 4] = [
    (OID_HASH_SHA1, Hash::Sha256),
    (OID_NIST_HASH_SHA256, Hash::Sha256),
    (OID_NIST_HASH_SHA384, Hash::Sha384),
    (OID_NIST_HASH_SHA512, Hash::Sha512),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_leftmost_label() {
        for (pattern, host, expected) in [
            ("db.example.com", "DB.example.com", true),
            ("db.example.com", "db.example.com.", true),
            ("*.example.com", "db.example.com", true),
            ("*.example.com", "a.db.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*", "db", false),
            ("*.", "db.", false),
            ("d*.example.com", "db.example.com", false),
            ("", "", true),
        ] {
            assert_eq!(is_name_match(pattern, host), expected, "{pattern} {host}");
        }
    }
}
