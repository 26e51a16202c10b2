//! One logged-in connection to PostgreSQL.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::net::dial::{Encryption, ExactAddr};
use crate::net::keepalive::Keepalive;
use crate::net::stream::Stream;
use crate::net::tls::ServerTls;
use crate::protocol::body::{self, ErrorFields};
use crate::protocol::{CancelKey, HEAD_LEN, Head, tag, write};
use crate::session::ServerState;

use super::ledger::Slot;

/// A server connection. Who holds the value has the connection; dropping it closes it and gives its capacity back.
pub struct ServerConn {
    pub stream: Stream,
    pub state: ServerState,
    /// What has come from the server and is not dealt with: the beginning of a message.
    pub carry: Vec<u8>,
    pub info: Arc<ServerInfo>,
    /// When it is to be closed at its next rest; 0 is never. Microseconds on the clock.
    pub expires_at: u64,
    /// Since when it has been idle.
    pub idle_since: u64,
    /// The epoch of its pool when it was opened: those of an older one are closed at their next rest.
    pub epoch: u32,
    /// Taken when the connection is dropped.
    slot: Option<Slot>,
}

impl ServerConn {
    #[must_use]
    pub fn new(stream: Stream, state: ServerState, info: ServerInfo, epoch: u32, mut slot: Slot) -> Self {
        slot.establish();
        Self {
            stream,
            state,
            carry: Vec::new(),
            info: Arc::new(info),
            expires_at: 0,
            idle_since: 0,
            epoch,
            slot: Some(slot),
        }
    }

    /// Looks whether an idle connection is still of use, and asks to be woken when that may change. Costs no system call
    /// as long as nothing has come.
    pub fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        let mut buf = [0; IDLE_READ_LEN];
        loop {
            let count = match self.stream.poll_read(cx, &mut buf) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_) | Ok(0)) => return Poll::Ready(Broken::Closed),
                Poll::Ready(Ok(count)) => count,
            };
            self.carry.extend_from_slice(buf.get(..count).unwrap_or_default());
            if let Err(broken) = self.on_idle_messages() {
                return Poll::Ready(broken);
            }
        }
    }

    /// Whether an idle connection is known to be of use, without looking further.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.carry.is_empty() && self.stream.is_quiet()
    }

    /// What a server says to an idle connection: values that a reload has changed, notices; or that it closes.
    fn on_idle_messages(&mut self) -> Result<(), Broken> {
        loop {
            let Ok(head) = Head::read(&self.carry) else {
                return Err(Broken::Nonsense);
            };
            let Some(head) = head else { return Ok(()) };
            if head.body > IDLE_MESSAGE_MAX {
                return Err(Broken::Nonsense);
            }
            let Some(body) = self.carry.get(HEAD_LEN..head.len()) else {
                return Ok(());
            };
            match head.tag {
                tag::PARAMETER_STATUS => {
                    if let Some((name, value)) = body::parameter_status(body) {
                        self.state.rebase(name, value);
                    }
                }
                tag::NOTICE_RESPONSE | tag::NOTIFICATION_RESPONSE => {}
                tag::ERROR_RESPONSE => {
                    let fields = ErrorFields::read(body);
                    return Err(Broken::Error(
                        String::from_utf8_lossy(fields.message).into_owned(),
                    ));
                }
                _ => return Err(Broken::Nonsense),
            }
            self.carry.drain(..head.len());
        }
    }

    /// Says goodbye to the server, as far as that goes without waiting, and closes. Only for a connection at rest: inside
    /// of a message the goodbye would be taken for a part of it.
    pub fn close(mut self: Box<Self>) {
        let mut terminate = Vec::with_capacity(HEAD_LEN);
        write::bare(&mut terminate, tag::TERMINATE);
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(Ok(_)) = self.stream.poll_write(&mut cx, &terminate) {
            let _ = self.stream.poll_flush(&mut cx);
        }
    }
}

impl Drop for ServerConn {
    fn drop(&mut self) {
        let Some(mut slot) = self.slot.take() else { return };
        slot.depart();
        let stream = std::mem::replace(&mut self.stream, Stream::closed());
        // Without an event loop the process ends, and nobody counts any more.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(part(stream, slot));
        }
    }
}

/// Closes our direction and waits for the server to close its own: PostgreSQL does that when the session is gone. Only then
/// is the capacity free, so that a server never counts one session more than the limits allow.
async fn part(mut stream: Stream, slot: Slot) {
    let _ = timeout(PARTING_MAX, async {
        let mut buf = [0; PARTING_READ_LEN];
        if stream.shutdown().await.is_ok() {
            while stream.read(&mut buf).await.is_ok_and(|count| count > 0) {}
        }
    })
    .await;
    drop(stream);
    drop(slot);
}

impl fmt::Debug for ServerConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConn")
            .field("id", &self.info.id)
            .field("address", &self.info.address)
            .finish()
    }
}

/// Why an idle connection is of no more use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    Closed,
    /// The server's own words.
    Error(String),
    Nonsense,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the server closed the connection"),
            Self::Error(message) => write!(f, "the server said: {message}"),
            Self::Nonsense => f.write_str("the server sent what it should not"),
        }
    }
}

/// What others need to know of a connection while somebody works with it.
#[derive(Debug)]
pub struct ServerInfo {
    /// Unique in the process.
    pub id: u64,
    pub address: ExactAddr,
    /// Our end of it; none over a Unix socket.
    pub local: Option<SocketAddr>,
    pub encryption: Encryption,
    pub tls: Arc<ServerTls>,
    pub keepalive: Keepalive,
    pub cancel_key: CancelKey,
    /// Microseconds on the clock.
    pub connected_at: u64,
    pub database: Arc<str>,
    pub user: Arc<str>,
    /// The epoch of its pool when it was opened.
    pub epoch: u32,
    /// Statements prepared on it, as of its last rest.
    pub statements: AtomicUsize,
    pub cancels: Cancels,
}

/// Cancel requests under way for a connection. While there is one, the connection serves nobody else: it might hit the wrong
/// statement.
#[derive(Debug, Default)]
pub struct Cancels {
    under_way: AtomicU32,
    /// The same for all connections of the pool.
    in_pool: Arc<AtomicU32>,
    in_doubt: AtomicBool,
    settled: Notify,
}

impl Cancels {
    /// Counted in the pool's number, too.
    #[must_use]
    pub fn counted_in(in_pool: &Arc<AtomicU32>) -> Self {
        Self {
            in_pool: Arc::clone(in_pool),
            ..Self::default()
        }
    }

    /// Whether no request is under way.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.under_way.load(Ordering::Acquire) == 0
    }

    /// Whether the server may still carry out a request that nobody waits for any more: whatever runs next is not safe.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.in_doubt.load(Ordering::Acquire)
    }

    /// A request was sent, and the server has not said that it is done with it.
    pub fn doubt(&self) {
        self.in_doubt.store(true, Ordering::Release);
    }

    /// One more is under way until the value is dropped. `None` when there are too many.
    #[must_use]
    pub fn enter(info: &Arc<ServerInfo>) -> Option<CancelUnderWay> {
        let cancels = &info.cancels;
        let more = |count: u32| (count < CANCELS_MAX).then_some(count + 1);
        cancels
            .under_way
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .ok()?;
        cancels.in_pool.fetch_add(1, Ordering::Relaxed);
        Some(CancelUnderWay {
            info: Arc::clone(info),
        })
    }

    /// Waits until none is under way.
    pub async fn settled(&self) {
        while !self.is_settled() {
            self.settled.notified().await;
        }
    }
}

/// Counts a cancel request as under way.
#[derive(Debug)]
pub struct CancelUnderWay {
    pub info: Arc<ServerInfo>,
}

impl Drop for CancelUnderWay {
    fn drop(&mut self) {
        self.info.cancels.in_pool.fetch_sub(1, Ordering::Relaxed);
        self.info.cancels.under_way.fetch_sub(1, Ordering::AcqRel);
        self.info.cancels.settled.notify_one();
    }
}

/// How long a server that was left may take to end the session. One that does not is counted as gone: it may be dead.
const PARTING_MAX: Duration = Duration::from_secs(5);
/// What a server still says is read and forgotten.
const PARTING_READ_LEN: usize = 4096;
const IDLE_READ_LEN: usize = 512;
/// What an idle connection may be told in one message: notices and parameters are short.
const IDLE_MESSAGE_MAX: usize = 64 * 1024;
/// Cancel requests at a time for one connection: one does the work, a few more do no harm.
const CANCELS_MAX: u32 = 4;
