//! A connection with a peer: plain or TLS, TCP or Unix, on this thread's event loop or parked on the way to another.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Handle;
use tokio::task::coop;

use super::keepalive::Keepalive;
use super::tls::{ClientSession, ServerSession};

/// A byte stream with a client or a server.
///
/// What is written may stay inside until `poll_flush` says it is gone (TLS only). What the TLS layer has decrypted ahead is
/// read before the socket is asked again, so a reader that reads until `Pending` misses nothing.
pub enum Stream {
    Plain(Socket),
    /// We are the TLS server: a client of ours.
    ServerTls(Box<ServerSession>),
    /// We are the TLS client: a PostgreSQL server.
    ClientTls(Box<ClientSession>),
}

impl Stream {
    /// Reads what is there; 0 is the end. A short read tells the event loop that the socket is drained, without a further
    /// system call.
    ///
    /// An idle connection is watched the same way: ready means that the peer has spoken or gone. The readiness of the
    /// socket alone would not do, as a TLS peer may send records that carry no data.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_receive(cx, buf),
            Self::ServerTls(session) => read_into(&mut **session, cx, buf),
            Self::ClientTls(session) => read_into(&mut **session, cx, buf),
        }
    }

    /// Whether nothing has come since the last read, as far as that is known without a system call. A plain stream alone can
    /// tell; TLS may hold records that carry no data.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        match self {
            Self::Plain(Socket {
                state: State::Tcp(socket),
            }) => {
                let looked = socket.try_io(Interest::READABLE, || Ok(()));
                looked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
            }
            Self::Plain(_) | Self::ServerTls(_) | Self::ClientTls(_) => false,
        }
    }

    /// Writes what fits.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_send(cx, bytes),
            Self::ServerTls(session) => Pin::new(&mut **session).poll_write(cx, bytes),
            Self::ClientTls(session) => Pin::new(&mut **session).poll_write(cx, bytes),
        }
    }

    /// Sends what the TLS layer still holds; nothing to do on a plain stream.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::ServerTls(session) => Pin::new(&mut **session).poll_flush(cx),
            Self::ClientTls(session) => Pin::new(&mut **session).poll_flush(cx),
        }
    }

    /// Whether the TLS layer still holds something that was written: it leaves by `poll_flush` alone.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::ServerTls(session) => session.get_ref().1.wants_write(),
            Self::ClientTls(session) => session.get_ref().1.wants_write(),
        }
    }

    /// Ends our direction; TLS says so to the peer first.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::ServerTls(session) => Pin::new(&mut **session).poll_shutdown(cx),
            Self::ClientTls(session) => Pin::new(&mut **session).poll_shutdown(cx),
        }
    }

    /// Reads what is there; 0 is the end. Cancel-safe: a future dropped before it is ready has taken nothing.
    pub async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buf)).await
    }

    /// Writes and flushes everything. Not cancel-safe: when dropped early, an unknown part has been sent, and the stream is
    /// good for nothing but closing.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = poll_fn(|cx| self.poll_write(cx, bytes)).await?;
            bytes = match bytes.get(count..) {
                Some(rest) if count > 0 => rest,
                Some(_) | None => return Err(ErrorKind::WriteZero.into()),
            };
        }
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Ends our direction. Cancel-safe.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_shutdown(cx)).await
    }

    /// Takes the stream off this thread's event loop; see [`Socket::park`].
    pub fn park(&mut self) -> io::Result<()> {
        self.socket_mut().park()
    }

    /// Puts the stream on this thread's event loop; see [`Socket::unpark`].
    pub fn unpark(&mut self) -> io::Result<()> {
        self.socket_mut().unpark()
    }

    /// Sets the options by which a lost peer is noticed.
    pub fn set_keepalive(&self, keepalive: &Keepalive) -> io::Result<()> {
        self.socket().set_keepalive(keepalive)
    }

    #[must_use]
    pub fn is_tls(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }

    /// The socket below; under TLS only for its addresses and options.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::ServerTls(session) => session.get_ref().0,
            Self::ClientTls(session) => session.get_ref().0,
        }
    }

    fn socket_mut(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::ServerTls(session) => session.get_mut().0,
            Self::ClientTls(session) => session.get_mut().0,
        }
    }
}

impl Stream {
    /// A stream that is no more: what stands in while the real one is being changed.
    #[must_use]
    pub fn closed() -> Self {
        Self::Plain(Socket { state: State::Closed })
    }
}

impl From<Socket> for Stream {
    fn from(socket: Socket) -> Self {
        Self::Plain(socket)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.is_tls() { "Tls" } else { "Plain" };
        f.debug_tuple(name).field(self.socket()).finish()
    }
}

/// A connected socket: on an event loop, or parked, which is bound to no thread. A parked one refuses to read and write.
#[derive(Debug)]
pub struct Socket {
    state: State,
}

impl Socket {
    /// A connected TCP socket, not yet on an event loop. Small messages are not held back (`TCP_NODELAY`).
    pub fn parked_tcp(socket: std::net::TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let state = State::ParkedTcp(socket);
        Ok(Self { state })
    }

    /// A connected Unix socket, not yet on an event loop.
    pub fn parked_unix(socket: std::os::unix::net::UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let state = State::ParkedUnix(socket);
        Ok(Self { state })
    }

    /// A connected TCP socket on this thread's event loop. Small messages are not held back (`TCP_NODELAY`).
    pub fn tcp(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let state = State::Tcp(socket);
        Ok(Self { state })
    }

    /// A connected Unix socket on this thread's event loop.
    #[must_use]
    pub fn unix(socket: UnixStream) -> Self {
        let state = State::Unix(socket);
        Self { state }
    }

    /// One end of a pipe in memory.
    #[must_use]
    pub fn memory(pipe: DuplexStream) -> Self {
        let state = State::Memory(pipe);
        Self { state }
    }

    /// Takes the socket off this thread's event loop, so that it may go to another thread. Bytes that have arrived stay in
    /// the kernel. When this fails the socket is closed.
    pub fn park(&mut self) -> io::Result<()> {
        self.state = match mem::replace(&mut self.state, State::Closed) {
            State::Tcp(socket) => State::ParkedTcp(socket.into_std()?),
            State::Unix(socket) => State::ParkedUnix(socket.into_std()?),
            State::Closed => return Err(closed()),
            parked @ (State::Memory(_) | State::ParkedTcp(_) | State::ParkedUnix(_)) => parked,
        };
        Ok(())
    }

    /// Puts the socket on this thread's event loop; nothing changes when it is on one. When this fails the socket is closed.
    pub fn unpark(&mut self) -> io::Result<()> {
        // Without an event loop the registration would panic.
        Handle::try_current().map_err(io::Error::other)?;
        self.state = match mem::replace(&mut self.state, State::Closed) {
            State::ParkedTcp(socket) => State::Tcp(TcpStream::from_std(socket)?),
            State::ParkedUnix(socket) => State::Unix(UnixStream::from_std(socket)?),
            State::Closed => return Err(closed()),
            running @ (State::Memory(_) | State::Tcp(_) | State::Unix(_)) => running,
        };
        Ok(())
    }

    /// Sets the options by which a lost peer is noticed; nothing to do unless this is TCP.
    pub fn set_keepalive(&self, keepalive: &Keepalive) -> io::Result<()> {
        match &self.state {
            State::Tcp(socket) => keepalive.apply(socket),
            State::ParkedTcp(socket) => keepalive.apply(socket),
            State::Unix(_) | State::ParkedUnix(_) | State::Memory(_) => Ok(()),
            State::Closed => Err(closed()),
        }
    }

    /// The address of our end; none unless this is TCP.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.state {
            State::Tcp(socket) => socket.local_addr().ok(),
            State::ParkedTcp(socket) => socket.local_addr().ok(),
            State::Unix(_) | State::ParkedUnix(_) | State::Memory(_) | State::Closed => None,
        }
    }

    /// The address of the peer; none unless this is TCP.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        match &self.state {
            State::Tcp(socket) => socket.peer_addr().ok(),
            State::ParkedTcp(socket) => socket.peer_addr().ok(),
            State::Unix(_) | State::ParkedUnix(_) | State::Memory(_) | State::Closed => None,
        }
    }

    #[must_use]
    pub fn is_tcp(&self) -> bool {
        matches!(self.state, State::Tcp(_) | State::ParkedTcp(_))
    }

    /// Reads what is there, on the shortest way: a query comes by here four times.
    fn poll_receive(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut self.state {
            State::Tcp(socket) => receive(socket, cx, buf),
            State::Unix(socket) => receive(socket, cx, buf),
            State::Memory(_) | State::ParkedTcp(_) | State::ParkedUnix(_) | State::Closed => {
                read_into(self, cx, buf)
            }
        }
    }

    /// Writes what fits, on the shortest way.
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.state {
            State::Tcp(socket) => send(socket, cx, bytes),
            State::Unix(socket) => send(socket, cx, bytes),
            State::Memory(_) | State::ParkedTcp(_) | State::ParkedUnix(_) | State::Closed => {
                Pin::new(self).poll_write(cx, bytes)
            }
        }
    }
}

fn read_into(
    stream: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    buf: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buf = ReadBuf::new(buf);
    let done = Pin::new(stream).poll_read(cx, &mut buf);
    done.map_ok(|()| buf.filled().len())
}

/// A socket on the event loop: what TCP and Unix sockets have in common.
trait Evented: AsFd {
    fn try_io(&self, interest: Interest, io: impl FnOnce() -> io::Result<()>) -> io::Result<()>;
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Evented for TcpStream {
    fn try_io(&self, interest: Interest, io: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.try_io(interest, io)
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(cx)
    }
}

impl Evented for UnixStream {
    fn try_io(&self, interest: Interest, io: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.try_io(interest, io)
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(cx)
    }
}

fn receive(socket: &impl Evented, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
    let asked = buf.len();
    loop {
        if coop::has_budget_remaining() {
            let receive = || rustix::net::recv(socket, &mut *buf, RecvFlags::empty()).map(|(_, count)| count);
            if let Some(done) = attempt(socket, Interest::READABLE, asked, receive) {
                // A peer that always has more to say leaves the others their turn.
                if let Poll::Ready(budget) = coop::poll_proceed(cx) {
                    budget.made_progress();
                }
                return Poll::Ready(done);
            }
        }
        ready!(socket.poll_read_ready(cx))?;
    }
}

fn send(socket: &impl Evented, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        let send = || rustix::net::send(socket, bytes, SendFlags::NOSIGNAL);
        if let Some(done) = attempt(socket, Interest::WRITABLE, bytes.len(), send) {
            return Poll::Ready(done);
        }
        ready!(socket.poll_write_ready(cx))?;
    }
}

/// Makes a system call if the event loop thinks that the socket is ready for it. None: it has to be made again when it is.
///
/// The call is made directly: the C library's may be a point of cancellation, which costs as much as all else here. After
/// fewer bytes than asked for the socket has no more to give, or to take: the loop learns it by what stands for `EAGAIN`, so
/// that the next attempt costs no system call.
fn attempt(
    socket: &impl Evented,
    interest: Interest,
    asked: usize,
    call: impl FnOnce() -> Result<usize, Errno>,
) -> Option<io::Result<usize>> {
    let mut done = None;
    let _ = socket.try_io(interest, || {
        let is_drained = match call() {
            Ok(count) => {
                done = Some(Ok(count));
                0 < count && count < asked
            }
            Err(Errno::AGAIN) => true,
            Err(error) => {
                done = Some(Err(error.into()));
                false
            }
        };
        if is_drained {
            Err(ErrorKind::WouldBlock.into())
        } else {
            Ok(())
        }
    });
    done
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            State::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
            State::Memory(pipe) => Pin::new(pipe).poll_read(cx, buf),
            State::ParkedTcp(_) | State::ParkedUnix(_) => Poll::Ready(Err(parked())),
            State::Closed => Poll::Ready(Err(closed())),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.state {
            State::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            State::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
            State::Memory(pipe) => Pin::new(pipe).poll_write(cx, bytes),
            State::ParkedTcp(_) | State::ParkedUnix(_) => Poll::Ready(Err(parked())),
            State::Closed => Poll::Ready(Err(closed())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            State::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            State::Memory(pipe) => Pin::new(pipe).poll_shutdown(cx),
            State::ParkedTcp(_) | State::ParkedUnix(_) => Poll::Ready(Err(parked())),
            State::Closed => Poll::Ready(Err(closed())),
        }
    }
}

#[derive(Debug)]
enum State {
    Tcp(TcpStream),
    Unix(UnixStream),
    Memory(DuplexStream),
    ParkedTcp(std::net::TcpStream),
    ParkedUnix(std::os::unix::net::UnixStream),
    /// Parking or unparking has failed, and the socket with it.
    Closed,
}

fn parked() -> io::Error {
    io::Error::other("the socket is parked")
}

fn closed() -> io::Error {
    io::Error::new(ErrorKind::NotConnected, "the socket is closed")
}

#[cfg(test)]
mod tests;
