use std::fs;
use std::path::PathBuf;
use std::thread;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, SigningKey, date_time_ymd,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::net::stream::{Socket, Stream};

/// Certificates made for one test, by two authorities.
struct Pki {
    directory: TempDir,
    ours: CertifiedIssuer<'static, KeyPair>,
    theirs: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let pki = Self {
            directory: TempDir::new().unwrap(),
            ours: authority("ours", KeyPair::generate().unwrap()),
            theirs: authority("theirs", KeyPair::generate().unwrap()),
        };
        pki.write("ours.crt", &pki.ours.pem());
        pki.write("theirs.crt", &pki.theirs.pem());
        pki.leaf("server", &["db.example.com", "127.0.0.1"], &pki.ours, |_| {});
        pki
    }

    /// Writes `<name>.crt` and `<name>.key`.
    fn leaf(
        &self,
        name: &str,
        hosts: &[&str],
        issuer: &CertifiedIssuer<'static, impl SigningKey>,
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let key = KeyPair::generate().unwrap();
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let certificate = params.signed_by(&key, issuer).unwrap();
        self.write(&format!("{name}.crt"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.directory.path().join(name))
    }

    /// Our settings towards clients; `ca` is the name of a file or empty.
    fn accepting(&self, mode: TlsMode, identity: &str, ca: &str) -> ClientTlsSettings {
        ClientTlsSettings {
            mode,
            cert: self.path(&format!("{identity}.crt")),
            key: self.path(&format!("{identity}.key")),
            ca: self.path(ca).filter(|_| !ca.is_empty()),
        }
    }

    /// Our settings towards servers; either name may be empty.
    fn connecting(&self, mode: TlsMode, ca: &str, identity: &str) -> ServerTlsSettings {
        let identity = |kind| {
            self.path(&format!("{identity}.{kind}"))
                .filter(|_| !identity.is_empty())
        };
        ServerTlsSettings {
            mode,
            ca: self.path(ca).filter(|_| !ca.is_empty()),
            cert: identity("crt"),
            key: identity("key"),
        }
    }
}

fn authority(name: &str, key: KeyPair) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, key).unwrap()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Both ends of a handshake that went well, after a word each way.
type Met = ((Stream, TlsPeer), (Stream, ServerTlsPeer));

fn meet(client: &ClientTlsSettings, server: &ServerTlsSettings, host: &str) -> Result<Met, String> {
    let client = ClientTls::build(client).unwrap();
    let server = ServerTls::build(server).unwrap();
    let (near, far) = tokio::io::duplex(65_536);
    runtime().block_on(async {
        let accepting = async {
            let stream = Stream::from(Socket::memory(near));
            let (mut stream, peer) = client
                .accept(stream, TlsStart::Requested, b"")
                .await
                .map_err(|error| error.to_string())?;
            let mut word = [0; 4];
            assert_eq!(
                stream.read(&mut word).await.map_err(|error| error.to_string())?,
                4
            );
            stream.write_all(&word).await.map_err(|error| error.to_string())?;
            Ok((stream, peer))
        };
        let connecting = async {
            let stream = Stream::from(Socket::memory(far));
            let (mut stream, peer) = server
                .connect(stream, host)
                .await
                .map_err(|error| error.to_string())?;
            stream
                .write_all(b"ping")
                .await
                .map_err(|error| error.to_string())?;
            let mut word = [0; 4];
            // A certificate of ours that is refused shows here with TLS 1.3.
            let count = stream.read(&mut word).await.map_err(|error| error.to_string())?;
            assert_eq!(&word[..count], b"ping");
            Ok((stream, peer))
        };
        let (accepted, connected) = tokio::join!(accepting, connecting);
        match (accepted, connected) {
            (Ok(accepted), Ok(connected)) => Ok((accepted, connected)),
            (accepted, connected) => {
                let error = |side: Result<(), String>| side.err().unwrap_or_else(|| "-".into());
                Err(format!(
                    "{} | {}",
                    error(accepted.map(|_| ())),
                    error(connected.map(|_| ()))
                ))
            }
        }
    })
}

#[test]
fn modes_are_read_and_shown_the_same() {
    for mode in MODES {
        assert_eq!(mode.as_str().parse(), Ok(mode));
    }
    assert_eq!("on".parse::<TlsMode>(), Err(UnknownTlsMode));
}

#[test]
fn without_an_authority_any_server_will_do() {
    let pki = Pki::new();
    let client = pki.accepting(TlsMode::Require, "server", "");
    for mode in [TlsMode::Allow, TlsMode::Prefer, TlsMode::Require] {
        meet(&client, &pki.connecting(mode, "", ""), "elsewhere_1").unwrap();
    }
}

#[test]
fn with_an_authority_every_mode_checks_the_chain() {
    let pki = Pki::new();
    let client = pki.accepting(TlsMode::Require, "server", "");
    for mode in [
        TlsMode::Allow,
        TlsMode::Prefer,
        TlsMode::Require,
        TlsMode::VerifyCa,
    ] {
        meet(&client, &pki.connecting(mode, "ours.crt", ""), "elsewhere").unwrap();
        let error = meet(&client, &pki.connecting(mode, "theirs.crt", ""), "elsewhere").unwrap_err();
        assert!(error.contains("UnknownIssuer"), "{error}");
    }
}

#[test]
fn verify_full_checks_the_host() {
    let pki = Pki::new();
    let client = pki.accepting(TlsMode::Require, "server", "");
    let server = pki.connecting(TlsMode::VerifyFull, "ours.crt", "");
    for host in ["db.example.com", "DB.example.com", "127.0.0.1"] {
        meet(&client, &server, host).unwrap();
    }
    // The common name, "server", does not count beside alternative names.
    for host in ["db2.example.com", "example.com", "server", "127.0.0.2", "::1"] {
        let error = meet(&client, &server, host).unwrap_err();
        assert!(error.contains("NotValidForName"), "{host}: {error}");
    }
    let error = meet(
        &client,
        &pki.connecting(TlsMode::VerifyFull, "theirs.crt", ""),
        "127.0.0.1",
    )
    .unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[test]
fn the_common_name_counts_where_no_other_name_is() {
    let pki = Pki::new();
    pki.leaf("db.local", &[], &pki.ours, |_| {});
    pki.leaf("10.0.0.1", &["db.example.com"], &pki.ours, |_| {});
    let server = pki.connecting(TlsMode::VerifyFull, "ours.crt", "");
    meet(
        &pki.accepting(TlsMode::Require, "db.local", ""),
        &server,
        "db.local",
    )
    .unwrap();
    meet(
        &pki.accepting(TlsMode::Require, "db.local", ""),
        &server,
        "db.other",
    )
    .unwrap_err();
    meet(
        &pki.accepting(TlsMode::Require, "10.0.0.1", ""),
        &server,
        "10.0.0.1",
    )
    .unwrap();
}

#[test]
fn an_expired_certificate_is_refused_where_it_is_checked() {
    let pki = Pki::new();
    pki.leaf("old", &["db"], &pki.ours, |params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let client = pki.accepting(TlsMode::Require, "old", "");
    meet(&client, &pki.connecting(TlsMode::Require, "", ""), "db").unwrap();
    let error = meet(&client, &pki.connecting(TlsMode::VerifyCa, "ours.crt", ""), "db").unwrap_err();
    assert!(error.contains("expired"), "{error}");
}

#[test]
fn a_self_signed_server_is_trusted_by_its_own_certificate() {
    let pki = Pki::new();
    // As `openssl req -x509` makes one: an authority and a server at once.
    let own = authority("db.own", KeyPair::generate().unwrap());
    pki.write("own.crt", &own.pem());
    pki.write("own.key", &own.key().serialize_pem());
    let client = pki.accepting(TlsMode::Require, "own", "");
    meet(
        &client,
        &pki.connecting(TlsMode::VerifyFull, "own.crt", ""),
        "db.own",
    )
    .unwrap();
    meet(
        &client,
        &pki.connecting(TlsMode::VerifyFull, "own.crt", ""),
        "db.other",
    )
    .unwrap_err();
    meet(
        &client,
        &pki.connecting(TlsMode::VerifyCa, "ours.crt", ""),
        "db.own",
    )
    .unwrap_err();
}

#[test]
fn certificates_of_version_1_are_taken_from_their_authority_alone() {
    let pki = Pki::new();
    pki.write("v1.crt", V1_CERTIFICATE);
    pki.write("v1.key", V1_KEY);
    pki.write("v1-root.crt", V1_ROOT);
    let client = pki.accepting(TlsMode::VerifyCa, "v1", "v1-root.crt");
    let full = pki.connecting(TlsMode::VerifyFull, "v1-root.crt", "v1");
    let ((_, peer), (_, server)) = meet(&client, &full, "db.example.com").unwrap();
    assert_eq!(
        peer.client_certificate.unwrap().common_name.as_deref(),
        Some("db.example.com")
    );
    let binding = server.channel_binding.unwrap();
    let binding: Vec<String> = binding.iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(binding.join(":"), V1_SHA384);

    let error = meet(&client, &full, "db.example.org").unwrap_err();
    assert!(error.contains("NotValidForName"), "{error}");
    let error = meet(&client, &pki.connecting(TlsMode::Require, "ours.crt", "v1"), "db").unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    let client = pki.accepting(TlsMode::VerifyCa, "v1", "ours.crt");
    let error = meet(&client, &full, "db.example.com").unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[test]
fn a_client_certificate_is_asked_for_by_the_verifying_modes() {
    let pki = Pki::new();
    pki.leaf("alice", &["alice.example.com"], &pki.ours, |_| {});
    pki.leaf("mallory", &[], &pki.theirs, |_| {});
    let with = |identity| pki.connecting(TlsMode::Require, "", identity);
    for mode in [TlsMode::VerifyCa, TlsMode::VerifyFull] {
        let client = pki.accepting(mode, "server", "ours.crt");
        let ((_, peer), _) = meet(&client, &with("alice"), "db").unwrap();
        let names = CertNames {
            common_name: Some("alice".into()),
            dns_names: vec!["alice.example.com".into()],
        };
        assert_eq!(peer.client_certificate, Some(names));
        let error = meet(&client, &with(""), "db").unwrap_err();
        assert!(error.contains("no certificates"), "{error}");
        let error = meet(&client, &with("mallory"), "db").unwrap_err();
        assert!(error.contains("UnknownIssuer"), "{error}");
    }
}

#[test]
fn below_verify_ca_a_client_certificate_is_optional_but_must_be_good() {
    let pki = Pki::new();
    pki.leaf("alice", &[], &pki.ours, |_| {});
    pki.leaf("mallory", &[], &pki.theirs, |_| {});
    let with = |identity| pki.connecting(TlsMode::Require, "", identity);
    let client = pki.accepting(TlsMode::Require, "server", "ours.crt");
    let ((_, peer), _) = meet(&client, &with(""), "db").unwrap();
    assert_eq!(peer.client_certificate, None);
    let ((_, peer), _) = meet(&client, &with("alice"), "db").unwrap();
    assert_eq!(
        peer.client_certificate.unwrap().common_name.as_deref(),
        Some("alice")
    );
    meet(&client, &with("mallory"), "db").unwrap_err();

    // Not asked for, not shown: nothing unverified is ever reported.
    let client = pki.accepting(TlsMode::Prefer, "server", "");
    let ((_, peer), _) = meet(&client, &with("mallory"), "db").unwrap();
    assert_eq!(peer.client_certificate, None);
}

#[test]
fn both_ends_bind_to_the_same_certificate() {
    let pki = Pki::new();
    let server = pki.connecting(TlsMode::Require, "", "");
    let ((near, peer), (far, other)) =
        meet(&pki.accepting(TlsMode::Allow, "server", ""), &server, "db").unwrap();
    assert!(near.is_tls() && far.is_tls());
    assert_eq!(peer.channel_binding, other.channel_binding);
    let der = rustls::pki_types::pem::PemObject::from_pem_file(pki.path("server.crt").unwrap());
    let der: rustls::pki_types::CertificateDer<'static> = der.unwrap();
    assert_eq!(
        peer.channel_binding.as_deref(),
        Some(Sha256::digest(&der).as_slice())
    );
    assert_eq!(peer.info, other.info);
    assert_eq!(peer.info.to_string(), "TLSv1.3/TLS_AES_256_GCM_SHA384");

    let wide = authority("wide", KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap());
    pki.leaf("wide", &[], &wide, |_| {});
    let ((_, peer), (_, other)) = meet(&pki.accepting(TlsMode::Allow, "wide", ""), &server, "db").unwrap();
    assert_eq!(peer.channel_binding.as_deref().map(<[u8]>::len), Some(48));
    assert_eq!(peer.channel_binding, other.channel_binding);

    // No hash is defined for these.
    let edwards = authority("edwards", KeyPair::generate_for(&PKCS_ED25519).unwrap());
    pki.leaf("edwards", &[], &edwards, |_| {});
    let ((_, peer), (_, other)) = meet(&pki.accepting(TlsMode::Allow, "edwards", ""), &server, "db").unwrap();
    assert_eq!((peer.channel_binding, other.channel_binding), (None, None));
}

/// Shakes hands as a client that starts directly; the first bytes are read before TLS takes over.
fn start_directly(alpn: &[&[u8]], start: TlsStart) -> Result<TlsPeer, AcceptError> {
    let pki = Pki::new();
    let client = ClientTls::build(&pki.accepting(TlsMode::Prefer, "server", "")).unwrap();
    let roots = files::Roots::read(&pki.path("ours.crt").unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots.store.clone())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let (near, far) = tokio::io::duplex(65_536);
    runtime().block_on(async {
        let accepting = async {
            let mut stream = Stream::from(Socket::memory(near));
            let mut first = [0; 100];
            let count = stream.read(&mut first).await.unwrap();
            assert_eq!(first[0], 0x16);
            let (mut stream, peer) = client.accept(stream, start, &first[..count]).await?;
            stream.write_all(b"hello").await.unwrap();
            Ok(peer)
        };
        let connecting = connector.connect("db.example.com".try_into().unwrap(), Socket::memory(far));
        let (accepted, _) = tokio::join!(accepting, connecting);
        accepted
    })
}

#[test]
fn a_direct_start_needs_the_name_of_the_protocol() {
    start_directly(&[b"postgresql"], TlsStart::Direct).unwrap();
    start_directly(&[b"http/1.1", b"postgresql"], TlsStart::Direct).unwrap();
    let error = start_directly(&[], TlsStart::Direct).unwrap_err();
    assert!(matches!(error, AcceptError::NoAlpn), "{error}");
    let error = start_directly(&[b"http/1.1"], TlsStart::Direct).unwrap_err();
    assert!(matches!(error, AcceptError::Handshake(_)), "{error}");
}

#[test]
fn bytes_that_came_before_the_answer_are_refused() {
    let error = start_directly(&[b"postgresql"], TlsStart::Requested).unwrap_err();
    assert!(matches!(error, AcceptError::EarlyBytes), "{error}");
}

#[test]
fn a_direct_start_that_is_no_handshake_is_an_error() {
    let pki = Pki::new();
    let client = ClientTls::build(&pki.accepting(TlsMode::Prefer, "server", "")).unwrap();
    runtime().block_on(async {
        for garbage in [
            &b"\x16\x03\x01\xff\xff"[..],
            b"\x16rubbish, and more of it",
            &[0x16; 20_000],
        ] {
            let (near, far) = tokio::io::duplex(65_536);
            let stream = Stream::from(Socket::memory(near));
            drop(far);
            let accepted = client.accept(stream, TlsStart::Direct, garbage).await;
            assert!(matches!(accepted, Err(AcceptError::Handshake(_))));
        }
    });
}

#[test]
fn a_tls_stream_moves_between_the_event_loops_of_two_threads() {
    let pki = Pki::new();
    let client = ClientTls::build(&pki.accepting(TlsMode::Prefer, "server", "")).unwrap();
    let server = ServerTls::build(&pki.connecting(TlsMode::VerifyFull, "ours.crt", "")).unwrap();
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    let here = runtime();
    let (mut near, mut far) = here.block_on(async {
        let [mut near, mut far] = [near, far].map(|socket| Socket::parked_unix(socket).unwrap());
        near.unpark().unwrap();
        far.unpark().unwrap();
        let (near, far) = tokio::join!(
            client.accept(near.into(), TlsStart::Requested, b""),
            server.connect(far.into(), "db.example.com")
        );
        (near.unwrap().0, far.unwrap().0)
    });
    here.block_on(async {
        near.write_all(b"one record that is read in two halves")
            .await
            .unwrap();
        let mut half = [0; 10];
        assert_eq!(far.read(&mut half).await.unwrap(), 10);
        assert_eq!(&half, b"one record");
        far.park().unwrap();
        assert!(near.write_all(b", and another").await.is_ok());
    });
    // The rest is decrypted already and travels with the stream; the other record waits in the kernel.
    let far = thread::spawn(move || {
        runtime().block_on(async {
            far.unpark().unwrap();
            let mut rest = Vec::new();
            let mut buf = [0; 64];
            while rest.len() < 40 {
                let count = far.read(&mut buf).await.unwrap();
                rest.extend_from_slice(&buf[..count]);
            }
            assert_eq!(rest, b" that is read in two halves, and another");
            far.write_all(b"back").await.unwrap();
            far.shutdown().await.unwrap();
            far
        })
    });
    let _far = far.join().unwrap();
    here.block_on(async {
        let mut buf = [0; 64];
        let count = near.read(&mut buf).await.unwrap();
        assert_eq!(&buf[..count], b"back");
        assert_eq!(near.read(&mut buf).await.unwrap(), 0);
    });
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_its_name() {
    let pki = Pki::new();
    pki.leaf("other", &[], &pki.ours, |_| {});
    pki.write("empty.crt", "");
    pki.write("empty.key", "no key here");
    pki.write(
        "broken.crt",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    pki.write(
        "broken.key",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    );
    let settings = |cert: &str, key: &str, ca: &str| ClientTlsSettings {
        mode: TlsMode::VerifyCa,
        cert: pki.path(cert),
        key: pki.path(key),
        ca: pki.path(ca),
    };
    let wrong = |[cert, key, ca]: [&str; 3], text: &str| {
        let error = ClientTls::build(&settings(cert, key, ca))
            .unwrap_err()
            .to_string();
        assert!(error.contains(text), "{cert} {key} {ca}: {error}");
    };
    wrong(["none.crt", "server.key", "ours.crt"], "none.crt: No such file");
    wrong(
        ["empty.crt", "server.key", "ours.crt"],
        "empty.crt: there is no certificate",
    );
    wrong(
        ["broken.crt", "server.key", "ours.crt"],
        "broken.crt: the certificate",
    );
    wrong(
        ["server.crt", "empty.key", "ours.crt"],
        "empty.key: there is no private key",
    );
    wrong(["server.crt", "broken.key", "ours.crt"], "broken.key: ");
    wrong(
        ["server.crt", "other.key", "ours.crt"],
        "other.key: the key does not belong",
    );
    wrong(["server.crt", "server.key", "none.crt"], "none.crt: No such file");
    wrong(["server.crt", "server.key", "broken.crt"], "broken.crt: ");
}

#[test]
fn a_setting_that_a_mode_needs_is_told_by_its_name() {
    let pki = Pki::new();
    let missing = ClientTlsSettings {
        mode: TlsMode::VerifyCa,
        ..pki.accepting(TlsMode::Require, "server", "")
    };
    let error = ClientTls::build(&missing).unwrap_err().to_string();
    assert!(error.contains("`ca`"), "{error}");
    let error = ServerTls::build(&pki.connecting(TlsMode::VerifyFull, "", ""))
        .unwrap_err()
        .to_string();
    assert!(error.contains("`ca`"), "{error}");
    let system = ServerTlsSettings {
        ca: Some("system".into()),
        ..ServerTlsSettings::default()
    };
    assert!(
        ServerTls::build(&system)
            .unwrap_err()
            .to_string()
            .contains("system")
    );
}

#[test]
fn a_disabled_side_refuses_to_shake_hands() {
    let client = ClientTls::build(&ClientTlsSettings {
        mode: TlsMode::Disable,
        ..Default::default()
    })
    .unwrap();
    assert!(!client.is_offered());
    let (near, _far) = tokio::io::duplex(64);
    let accepted = runtime().block_on(client.accept(Socket::memory(near).into(), TlsStart::Requested, b""));
    assert!(matches!(accepted, Err(AcceptError::NotOffered)));
}

/// Made with openssl: an authority, and a certificate of X.509 version 1 signed by it with SHA-384.
const V1_ROOT: &str = include_str!("testdata/v1-root.crt");
const V1_CERTIFICATE: &str = include_str!("testdata/v1.crt");
const V1_KEY: &str = include_str!("testdata/v1.key");

/// What `openssl x509 -fingerprint -sha384` says of it.
const V1_SHA384: &str = "FB:BD:AD:A3:C1:89:42:6C:3E:85:10:28:F8:2B:CA:99:7F:3C:AD:10:43:1F:97:6A:A9:49:7A:A5:6B:1B:77:BB:\
                         C5:C8:46:83:C1:90:3C:DF:76:FD:33:E3:D2:DD:5E:FC";
