use std::path::PathBuf;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener};

use super::*;
use crate::net::tls::{ClientTls, ClientTlsSettings, ServerTlsSettings, TlsStart};

/// What the other end does with a connection.
#[derive(Clone, Copy)]
enum Script {
    /// Answers the request for TLS with these bytes.
    Answer(&'static [u8]),
    /// Agrees to TLS and shakes hands.
    Tls,
    /// Says nothing and waits for the first byte.
    Silent,
    Close,
}

/// A listener on loopback that plays its scripts, one for each connection.
struct Scripted {
    directory: TempDir,
    server: ServerAddr,
    listener: TcpListener,
}

impl Scripted {
    async fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["localhost".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        std::fs::write(directory.path().join("crt"), certificate.pem()).unwrap();
        std::fs::write(directory.path().join("key"), key.serialize_pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = ServerAddr::new("localhost", listener.local_addr().unwrap().port());
        Self {
            directory,
            server,
            listener,
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.directory.path().join(name))
    }

    async fn play(&self, scripts: &[Script]) {
        let settings = ClientTlsSettings {
            mode: TlsMode::Prefer,
            cert: self.path("crt"),
            key: self.path("key"),
            ca: None,
        };
        let tls = ClientTls::build(&settings).unwrap();
        for script in scripts {
            let (socket, _) = self.listener.accept().await.unwrap();
            let mut stream = Stream::from(Socket::tcp(socket).unwrap());
            let mut first = [0; 8];
            match script {
                Script::Close => {}
                Script::Silent => {
                    assert_eq!(stream.read(&mut first).await.unwrap(), 1);
                    assert_eq!(first[0], b'p');
                }
                Script::Answer(answer) => {
                    assert_eq!(stream.read(&mut first).await.unwrap(), 8);
                    assert_eq!(first, SSL_REQUEST);
                    stream.write_all(answer).await.unwrap();
                    // Until the other end has gone, or goes on.
                    drop(stream.read(&mut first).await);
                }
                Script::Tls => {
                    assert_eq!(stream.read(&mut first).await.unwrap(), 8);
                    stream.write_all(b"S").await.unwrap();
                    let Ok((mut stream, _)) = tls.accept(stream, TlsStart::Requested, b"").await else {
                        continue;
                    };
                    assert_eq!(stream.read(&mut first).await.unwrap(), 1);
                    assert_eq!(first[0], b't');
                }
            }
        }
    }

    /// Dials with a mode while the scripts are played, and says one byte on what comes of it.
    async fn dial(&self, mode: TlsMode, ca: Option<&str>, scripts: &[Script]) -> Result<Dialed, DialError> {
        let settings = ServerTlsSettings {
            mode,
            ca: ca.and_then(|name| self.path(name)),
            ..ServerTlsSettings::default()
        };
        let tls = ServerTls::build(&settings).unwrap();
        let dialing = async {
            let keepalive = Keepalive::default();
            let mut dialed = dial(&self.server, &tls, &keepalive, Encryption::first(mode)).await?;
            let word = if dialed.tls.is_some() { b"t" } else { b"p" };
            dialed.stream.write_all(word).await.unwrap();
            Ok(dialed)
        };
        let (dialed, ()) = tokio::join!(dialing, self.play(scripts));
        dialed
    }
}

#[tokio::test]
async fn without_tls_nothing_is_asked() {
    let server = Scripted::new().await;
    for mode in [TlsMode::Disable, TlsMode::Allow] {
        let dialed = server.dial(mode, None, &[Script::Silent]).await.unwrap();
        assert!(!dialed.stream.is_tls());
        assert_eq!(dialed.encryption(), Encryption::Plain);
    }
}

#[tokio::test]
async fn tls_is_used_where_the_server_agrees() {
    let server = Scripted::new().await;
    for (mode, ca) in [
        (TlsMode::Prefer, None),
        (TlsMode::Require, None),
        (TlsMode::VerifyCa, Some("crt")),
        (TlsMode::VerifyFull, Some("crt")),
    ] {
        let dialed = server.dial(mode, ca, &[Script::Tls]).await.unwrap();
        assert!(dialed.stream.is_tls());
        assert!(dialed.tls.as_ref().unwrap().channel_binding.is_some());
        assert_eq!(dialed.encryption(), Encryption::Required);
        let ExactAddr::Tcp { address, .. } = &dialed.address else {
            panic!("{}", dialed.address)
        };
        assert_eq!(Some(*address), dialed.stream.socket().peer_addr());
    }
}

#[tokio::test]
async fn a_server_without_tls_will_do_for_prefer_alone() {
    let server = Scripted::new().await;
    let answer = Script::Answer(b"N");
    let dialed = server.dial(TlsMode::Prefer, None, &[answer]).await.unwrap();
    assert!(!dialed.stream.is_tls());
    drop(dialed);
    let error = server.dial(TlsMode::Require, None, &[answer]).await.unwrap_err();
    assert!(matches!(error, DialError::TlsDeclined), "{error}");
}

#[tokio::test]
async fn prefer_falls_back_when_the_handshake_fails() {
    let server = Scripted::new().await;
    // The answer is yes, and what follows is no handshake; the second connection is plain.
    let scripts = [Script::Answer(b"Sno handshake"), Script::Silent];
    let dialed = server.dial(TlsMode::Prefer, None, &scripts).await.unwrap();
    assert!(!dialed.stream.is_tls());
    let error = server
        .dial(TlsMode::Require, None, &scripts[..1])
        .await
        .unwrap_err();
    assert!(matches!(error, DialError::Tls(_)), "{error}");
}

#[tokio::test]
async fn answers_that_are_none_are_errors() {
    let server = Scripted::new().await;
    let error = server
        .dial(TlsMode::Prefer, None, &[Script::Answer(b"EFATAL")])
        .await
        .unwrap_err();
    assert!(matches!(error, DialError::Errored), "{error}");
    let error = server
        .dial(TlsMode::Prefer, None, &[Script::Answer(b"HTTP/1.1")])
        .await
        .unwrap_err();
    assert!(matches!(error, DialError::Unexpected(b'H')), "{error}");
    let error = server
        .dial(TlsMode::Prefer, None, &[Script::Close])
        .await
        .unwrap_err();
    assert!(matches!(error, DialError::Lost(_)), "{error}");
}

#[tokio::test]
async fn the_other_encryption_is_known_to_allow_and_prefer() {
    let server = Scripted::new().await;
    let with = |mode| {
        let settings = ServerTlsSettings {
            mode,
            ..ServerTlsSettings::default()
        };
        ServerTls::build(&settings).unwrap()
    };
    let dialed = server
        .dial(TlsMode::Allow, None, &[Script::Silent])
        .await
        .unwrap();
    let other = dialed.other_encryption(&with(TlsMode::Allow));
    assert_eq!(other, Some(Encryption::Required));
    assert_eq!(dialed.other_encryption(&with(TlsMode::Disable)), None);
    assert_eq!(dialed.other_encryption(&with(TlsMode::Prefer)), None);
    let dialed = server.dial(TlsMode::Prefer, None, &[Script::Tls]).await.unwrap();
    let other = dialed.other_encryption(&with(TlsMode::Prefer));
    assert_eq!(other, Some(Encryption::Plain));
    assert_eq!(dialed.other_encryption(&with(TlsMode::Require)), None);
}

#[tokio::test]
async fn the_exact_address_is_dialled_again_with_the_same_protection() {
    let server = Scripted::new().await;
    let dialed = server.dial(TlsMode::Require, None, &[Script::Tls]).await.unwrap();
    let tls = ServerTls::build(&ServerTlsSettings::default()).unwrap();
    let again = async {
        let again = dial_exactly(&dialed.address, &tls, &Keepalive::OFF, dialed.encryption()).await;
        let mut again = again.unwrap();
        again.stream.write_all(b"t").await.unwrap();
        again
    };
    let (again, ()) = tokio::join!(again, server.play(&[Script::Tls]));
    assert_eq!(again.address, dialed.address);
    // A cancel key must not travel in the clear when the first connection was encrypted.
    let declined = dial_exactly(&dialed.address, &tls, &Keepalive::OFF, dialed.encryption());
    let (declined, ()) = tokio::join!(declined, server.play(&[Script::Answer(b"N")]));
    assert!(matches!(declined, Err(DialError::TlsDeclined)));
}

#[tokio::test]
async fn a_unix_socket_is_plain_whatever_the_mode() {
    let directory = TempDir::new().unwrap();
    let listener = UnixListener::bind(socket_file(directory.path(), 5432)).unwrap();
    let server = ServerAddr::new(directory.path().to_str().unwrap(), 5432);
    let settings = ServerTlsSettings {
        mode: TlsMode::Require,
        ..ServerTlsSettings::default()
    };
    let tls = ServerTls::build(&settings).unwrap();
    let dialing = dial(&server, &tls, &Keepalive::OFF, Encryption::Required);
    let (dialed, accepted) = tokio::join!(dialing, listener.accept());
    let dialed = dialed.unwrap();
    accepted.unwrap();
    assert!(!dialed.stream.is_tls());
    assert_eq!(dialed.address.to_string(), server.to_string());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_that_names_no_address_to_clients() {
    // Bound, so that nobody else listens there, and not listening.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = ServerAddr::new("127.0.0.1", socket.local_addr().unwrap().port());
    let dialed = dial(&address, &ServerTls::DISABLED, &Keepalive::OFF, Encryption::Plain).await;
    let error = dialed.unwrap_err();
    assert!(matches!(error, DialError::Connect(..)), "{error}");
    let report = Report::from(&error);
    assert_eq!(report.code, SqlState::CANNOT_ESTABLISH_CONNECTION);
    let text = report.to_string();
    assert!(text.contains("refused") && !text.contains("127.0.0.1"), "{text}");

    let nowhere = ServerAddr::new("no-such-host.invalid", 5432);
    let dialed = dial(&nowhere, &ServerTls::DISABLED, &Keepalive::OFF, Encryption::Plain).await;
    let error = dialed.unwrap_err();
    assert!(matches!(error, DialError::Resolve(_)), "{error}");
}
