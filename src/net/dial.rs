//! To a PostgreSQL server: resolve, connect, and agree on TLS. Deadlines are the caller's.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use super::addr::{ServerAddr, socket_file};
use super::keepalive::Keepalive;
use super::stream::{Socket, Stream};
use super::tls::{ConnectError, ServerTls, ServerTlsPeer, TlsMode};
use crate::protocol::{Report, SqlState, tag};

/// Connects to a server; of the addresses of its name the first one that answers.
///
/// Cancel-safe: when dropped, nothing remains but a name that may still be looked up on a thread.
pub async fn dial(
    server: &ServerAddr,
    tls: &ServerTls,
    keepalive: &Keepalive,
    encryption: Encryption,
) -> Result<Dialed, DialError> {
    let addresses = resolve(server).await?;
    let last = addresses.len().saturating_sub(1);
    let mut failed = None;
    for (index, address) in addresses.into_iter().enumerate() {
        let connected = if index == last {
            connect(&address, keepalive).await
        } else {
            let turn = timeout(ADDRESS_TURN_MAX, connect(&address, keepalive)).await;
            turn.unwrap_or_else(|_| {
                Err(DialError::Connect(
                    address.clone(),
                    io::ErrorKind::TimedOut.into(),
                ))
            })
        };
        match connected {
            Ok(stream) => return agree(stream, address, tls, keepalive, encryption).await,
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or(DialError::NoAddress))
}

/// Connects to the very address of an earlier connection, as a cancel request has to.
pub async fn dial_exactly(
    address: &ExactAddr,
    tls: &ServerTls,
    keepalive: &Keepalive,
    encryption: Encryption,
) -> Result<Dialed, DialError> {
    let stream = connect(address, keepalive).await?;
    agree(stream, address.clone(), tls, keepalive, encryption).await
}

/// A connection on which nothing has been said yet but about TLS.
#[derive(Debug)]
pub struct Dialed {
    pub stream: Stream,
    pub address: ExactAddr,
    /// What the TLS handshake told; none when plain.
    pub tls: Option<ServerTlsPeer>,
}

impl Dialed {
    /// How to reach the same server once more with no less protection than now.
    #[must_use]
    pub fn encryption(&self) -> Encryption {
        if self.tls.is_some() {
            Encryption::Required
        } else {
            Encryption::Plain
        }
    }

    /// The other way to try when the server refuses the login (SQLSTATE 28000), as libpq does: with TLS under `allow`,
    /// without it under `prefer`.
    #[must_use]
    pub fn other_encryption(&self, tls: &ServerTls) -> Option<Encryption> {
        match (tls.mode(), &self.tls, &self.address) {
            (TlsMode::Allow, None, ExactAddr::Tcp { .. }) => Some(Encryption::Required),
            (TlsMode::Prefer, Some(_), ExactAddr::Tcp { .. }) => Some(Encryption::Plain),
            _ => None,
        }
    }
}

/// What one connection attempt does about TLS. A Unix socket is plain whatever this says, as with libpq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    Plain,
    /// TLS, or plain when the server declines or the handshake fails.
    Preferred,
    Required,
}

impl Encryption {
    /// What a mode tries first.
    #[must_use]
    pub fn first(mode: TlsMode) -> Self {
        match mode {
            TlsMode::Disable | TlsMode::Allow => Self::Plain,
            TlsMode::Prefer => Self::Preferred,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => Self::Required,
        }
    }
}

/// One address of a server, after resolution.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ExactAddr {
    /// `host` is what certificates are checked against.
    Tcp { address: SocketAddr, host: Arc<str> },
    /// The socket file.
    Unix(Arc<Path>),
}

impl fmt::Display for ExactAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { address, .. } => address.fmt(f),
            Self::Unix(file) => file.display().fmt(f),
        }
    }
}

/// Why a server was not reached. For the log: it names addresses; a client gets the `Report`.
#[derive(Debug)]
pub enum DialError {
    Connect(ExactAddr, io::Error),
    /// The server answered the request for TLS with an error. Its text is not to be trusted: nobody has proven who sent it.
    Errored,
    /// The connection was lost while TLS was negotiated.
    Lost(io::Error),
    NoAddress,
    Resolve(io::Error),
    Tls(ConnectError),
    TlsDeclined,
    /// The answer to the request for TLS is none.
    Unexpected(u8),
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(address, error) => write!(f, "cannot connect to {address}: {error}"),
            Self::Errored => f.write_str("the server answered the request for TLS with an error"),
            Self::Lost(error) => write!(f, "connection lost while TLS was negotiated: {error}"),
            Self::NoAddress => f.write_str("the host name has no address"),
            Self::Resolve(error) => write!(f, "cannot resolve the host name: {error}"),
            Self::Tls(error) => error.fmt(f),
            Self::TlsDeclined => f.write_str("the server does not support TLS, but TLS is required"),
            Self::Unexpected(byte) => write!(f, "unexpected answer 0x{byte:02x} to the request for TLS"),
        }
    }
}

impl std::error::Error for DialError {}

impl From<&DialError> for Report {
    fn from(error: &DialError) -> Self {
        let detail = match error {
            DialError::Connect(_, error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "The connection was refused."
            }
            DialError::Connect(_, error) if error.kind() == io::ErrorKind::TimedOut => {
                "The server did not answer in time."
            }
            DialError::Connect(..) => "The network connection failed.",
            DialError::Errored | DialError::Unexpected(_) => {
                "The server answered the request for TLS with an error."
            }
            DialError::Lost(_) => "The connection was lost while TLS was negotiated.",
            DialError::NoAddress | DialError::Resolve(_) => {
                "The host name of the server could not be resolved."
            }
            DialError::Tls(_) => "TLS could not be established with the server.",
            DialError::TlsDeclined => "The server does not support TLS, but the pooler requires it.",
        };
        Self::error(
            SqlState::CANNOT_ESTABLISH_CONNECTION,
            "could not connect to the PostgreSQL server",
        )
        .with_detail(detail)
    }
}

async fn resolve(server: &ServerAddr) -> Result<Vec<ExactAddr>, DialError> {
    match server {
        ServerAddr::Tcp { host, port } => {
            let found = lookup_host((&**host, *port)).await.map_err(DialError::Resolve)?;
            let found = found.take(ADDRESSES_MAX).map(|address| ExactAddr::Tcp {
                address,
                host: host.clone(),
            });
            Ok(found.collect())
        }
        ServerAddr::Unix { directory, port } => {
            let file = socket_file(directory, *port);
            Ok(vec![ExactAddr::Unix(Arc::from(file))])
        }
    }
}

async fn connect(address: &ExactAddr, keepalive: &Keepalive) -> Result<Stream, DialError> {
    let socket = async {
        Ok(match address {
            ExactAddr::Tcp { address, .. } => Socket::tcp(TcpStream::connect(address).await?)?,
            ExactAddr::Unix(file) => Socket::unix(UnixStream::connect(file).await?),
        })
    };
    let socket: io::Result<Socket> = socket.await;
    let socket = socket.and_then(|socket| socket.set_keepalive(keepalive).map(|()| socket));
    let socket = socket.map_err(|error| DialError::Connect(address.clone(), error))?;
    Ok(Stream::from(socket))
}

async fn agree(
    mut stream: Stream,
    address: ExactAddr,
    tls: &ServerTls,
    keepalive: &Keepalive,
    encryption: Encryption,
) -> Result<Dialed, DialError> {
    let host = match &address {
        ExactAddr::Tcp { host, .. } if encryption != Encryption::Plain => host,
        ExactAddr::Tcp { .. } | ExactAddr::Unix(_) => return Ok(plain(stream, address)),
    };
    match ask(&mut stream).await? {
        Answer::Yes => {}
        Answer::No if encryption == Encryption::Preferred => return Ok(plain(stream, address)),
        Answer::No => return Err(DialError::TlsDeclined),
    }
    match tls.connect(stream, host).await {
        Ok((stream, peer)) => Ok(Dialed {
            stream,
            address,
            tls: Some(peer),
        }),
        Err(_) if encryption == Encryption::Preferred => {
            Ok(plain(connect(&address, keepalive).await?, address))
        }
        Err(error) => Err(DialError::Tls(error)),
    }
}

fn plain(stream: Stream, address: ExactAddr) -> Dialed {
    let tls = None;
    Dialed { stream, address, tls }
}

enum Answer {
    Yes,
    No,
}

/// Asks for TLS. Exactly one byte is read: what follows it belongs to the handshake, and nothing is taken unencrypted.
async fn ask(stream: &mut Stream) -> Result<Answer, DialError> {
    stream.write_all(&SSL_REQUEST).await.map_err(DialError::Lost)?;
    let mut answer = [0];
    let count = stream.read(&mut answer).await.map_err(DialError::Lost)?;
    match answer {
        _ if count == 0 => Err(DialError::Lost(io::ErrorKind::UnexpectedEof.into())),
        [TLS_YES] => Ok(Answer::Yes),
        [TLS_NO] => Ok(Answer::No),
        [tag::ERROR_RESPONSE] => Err(DialError::Errored),
        [other] => Err(DialError::Unexpected(other)),
    }
}

/// `SSLRequest`: its length and its code, 1234.5679.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// The server's one-byte answers.
const TLS_YES: u8 = b'S';
const TLS_NO: u8 = b'N';

/// Addresses of one name that are tried: a name with more is a mistake, and each costs time.
const ADDRESSES_MAX: usize = 16;

/// How long an address may take while there are others to try, so that one dead address does not use up the caller's deadline.
const ADDRESS_TURN_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
