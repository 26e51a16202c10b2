//! Where clients arrive: bound sockets, and accepting from them through shortages of the machine.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, SockAddr, Type};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::addr::{ClientAddr, ListenAddr, socket_file};
use super::stream::Socket;

/// A bound socket to which clients can connect. A socket file is removed when this is dropped.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
}

impl Listener {
    /// Binds one entry of `listen`: a socket for each address of the host.
    ///
    /// An address of a name that this machine cannot bind at all, such as IPv6 where there is none, is left out as long as
    /// another one is bound.
    pub fn bind(entry: &ListenAddr) -> Result<Vec<Self>, BindError> {
        let failed = |error| BindError {
            address: entry.to_string(),
            error,
        };
        match entry {
            ListenAddr::Tcp { host, port } => bind_host(host, *port).map_err(failed),
            ListenAddr::Unix { directory, port } => {
                let listener = bind_unix(&socket_file(directory, *port)).map_err(failed)?;
                Ok(vec![listener])
            }
        }
    }

    /// The address that was bound; none for a Unix socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp(socket) => socket.local_addr().ok(),
            Kind::Unix(..) => None,
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Tcp(socket) => match socket.local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("tcp"),
            },
            Kind::Unix(_, file) => file.path.display().fmt(f),
        }
    }
}

/// Yields the clients of one listener, as parked sockets that any worker may take.
///
/// When the machine is out of file descriptors or memory, accepting pauses for a growing while; clients wait in the kernel's
/// queue meanwhile.
#[derive(Debug)]
pub struct Acceptor {
    source: Source,
    /// The listener's address, for the log.
    name: String,
    supply: Supply,
}

impl Acceptor {
    /// Puts the listener on this thread's event loop.
    pub fn new(listener: Listener) -> io::Result<Self> {
        Handle::try_current().map_err(io::Error::other)?;
        let name = listener.to_string();
        let source = match listener.kind {
            Kind::Tcp(socket) => Source::Tcp(TcpListener::from_std(socket)?),
            Kind::Unix(socket, file) => Source::Unix(UnixListener::from_std(socket)?, file),
        };
        Ok(Self {
            source,
            name,
            supply: Supply::Plenty,
        })
    }

    /// The next client. An error is one of the listening socket itself: it is of no further use. Cancel-safe.
    pub async fn accept(&mut self) -> io::Result<(Socket, ClientAddr)> {
        loop {
            let accepted = self.source.accept().await;
            if let Some(pause) = self.settle(&accepted) {
                sleep(pause).await;
                continue;
            }
            match accepted {
                Err(error) if Trouble::of(&error) == Trouble::Client => {}
                client_or_error => return client_or_error,
            }
        }
    }

    /// Takes note of a shortage that begins, goes on or ends: one line in the log for each beginning and each end. A few
    /// clients that get through in between are no end of it.
    fn settle<T>(&mut self, accepted: &io::Result<T>) -> Option<Duration> {
        let shortage = accepted
            .as_ref()
            .err()
            .filter(|error| Trouble::of(error) == Trouble::Machine);
        let Some(error) = shortage else {
            if let Supply::Short { pause, last } = &mut self.supply {
                *pause = Duration::ZERO;
                if last.elapsed() >= CALM {
                    self.supply = Supply::Plenty;
                    warn!(listener = %self.name, "accepting clients again");
                }
            }
            return None;
        };
        let pause = match self.supply {
            Supply::Plenty => {
                warn!(listener = %self.name, %error, "accepting clients pauses");
                PAUSE_MIN
            }
            Supply::Short { pause, .. } => (pause * 2).clamp(PAUSE_MIN, PAUSE_MAX),
        };
        self.supply = Supply::Short {
            pause,
            last: Instant::now(),
        };
        Some(pause)
    }
}

/// Why an address could not be bound.
#[derive(Debug)]
pub struct BindError {
    address: String,
    error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.error)
    }
}

impl std::error::Error for BindError {}

#[derive(Debug)]
enum Kind {
    Tcp(std::net::TcpListener),
    Unix(net::UnixListener, SocketFile),
}

#[derive(Debug)]
enum Source {
    Tcp(TcpListener),
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "held to be dropped with the socket")] SocketFile,
    ),
}

impl Source {
    /// One client, taken off this thread's event loop again. Cancel-safe.
    async fn accept(&self) -> io::Result<(Socket, ClientAddr)> {
        let (socket, address) = match self {
            Self::Tcp(listener) => {
                let (socket, address) = listener.accept().await?;
                (Socket::tcp(socket), ClientAddr::Tcp(address))
            }
            Self::Unix(listener, _) => {
                let (socket, _) = listener.accept().await?;
                let address = peer(&socket);
                (Ok(Socket::unix(socket)), address)
            }
        };
        let parked = socket.and_then(|mut socket| socket.park().map(|()| socket));
        // A new socket that cannot be set up has lost its client.
        let parked = parked.map_err(|_| io::Error::from(ErrorKind::ConnectionAborted));
        Ok((parked?, address))
    }
}

/// What accepting needs of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Supply {
    #[default]
    Plenty,
    Short {
        /// The latest pause; zero when a client has come since.
        pause: Duration,
        last: Instant,
    },
}

/// Whose trouble an error of accept(2) is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// One client has gone already, or the network that it came over has.
    Client,
    /// The listening socket can never yield a client again.
    Listener,
    /// The machine is short of something that comes back, or so one hopes of an error that is unknown.
    Machine,
}

impl Trouble {
    fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(errno) if OF_CLIENT.contains(&errno) => Self::Client,
            Some(errno) if OF_LISTENER.contains(&errno) => Self::Listener,
            None if error.kind() == ErrorKind::ConnectionAborted => Self::Client,
            Some(_) | None => Self::Machine,
        }
    }
}

/// A file that goes with its socket, unless another process has put its own in its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| file.dev() == self.device && file.ino() == self.inode);
        if ours {
            // Should it stay, the next start finds it stale and replaces it.
            drop(fs::remove_file(&self.path));
        }
    }
}

fn bind_host(host: &str, port: u16) -> io::Result<Vec<Listener>> {
    let addresses = if host == "*" {
        vec![
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        ]
    } else {
        (host, port).to_socket_addrs()?.take(ADDRESSES_MAX).collect()
    };
    let mut listeners = Vec::new();
    let mut left_out = None;
    for address in addresses {
        match bind_tcp(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_foreign(&error) => left_out = Some(error),
            Err(error) => return Err(error),
        }
    }
    if listeners.is_empty() {
        return Err(
            left_out.unwrap_or_else(|| io::Error::new(ErrorKind::NotFound, "the name has no address"))
        );
    }
    Ok(listeners)
}

fn bind_tcp(address: SocketAddr) -> io::Result<Listener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart need not wait for the connections of the last run to fade.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // IPv4 has a socket of its own.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let kind = Kind::Tcp(socket.into());
    Ok(Listener { kind })
}

fn bind_unix(path: &Path) -> io::Result<Listener> {
    remove_stale(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::of(path)?;
    // Who may log in is decided by the login. Nobody connects before `listen`.
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let kind = Kind::Unix(socket.into(), file);
    Ok(Listener { kind })
}

/// Removes the socket file of a process that is gone. What is no socket, and what somebody listens on, stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::new(
                ErrorKind::AlreadyExists,
                "the file exists and is no socket",
            ));
        }
        Ok(_) => {}
    }
    match net::UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(
            ErrorKind::AddrInUse,
            "another process listens there",
        )),
    }
}

/// The process at the other end, as far as the kernel tells; one of another namespace shows as 0.
fn peer(socket: &UnixStream) -> ClientAddr {
    let credentials = socket.peer_cred().ok();
    ClientAddr::Unix {
        pid: credentials.and_then(|peer| peer.pid()).filter(|pid| *pid != 0),
        uid: credentials.map(|peer| peer.uid()),
    }
}

/// The machine has no such address or no such family.
fn is_foreign(error: &io::Error) -> bool {
    let foreign = [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT];
    Errno::from_io_error(error).is_some_and(|errno| foreign.contains(&errno))
}

/// What accept(2) passes on of the network, to be treated as a client that is gone.
const OF_CLIENT: [Errno; 12] = [
    Errno::CONNABORTED,
    Errno::HOSTDOWN,
    Errno::HOSTUNREACH,
    Errno::INTR,
    Errno::NETDOWN,
    Errno::NETUNREACH,
    Errno::NONET,
    Errno::NOPROTOOPT,
    Errno::OPNOTSUPP,
    Errno::PERM,
    Errno::PROTO,
    Errno::TIMEDOUT,
];

const OF_LISTENER: [Errno; 4] = [Errno::BADF, Errno::FAULT, Errno::INVAL, Errno::NOTSOCK];

/// Clients that may wait in the kernel; it applies its own limit (`net.core.somaxconn`, 4096 by default) on top.
const BACKLOG: i32 = 4096;

/// Addresses of one name that are bound: a name with more is a mistake.
const ADDRESSES_MAX: usize = 16;

/// Anybody may connect, as to PostgreSQL's own socket.
const SOCKET_MODE: u32 = 0o777;

/// The first pause of a shortage, and the longest one.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A shortage is over when there was none for so long.
const CALM: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
