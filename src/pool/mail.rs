//! What workers send each other. Rare: a query is served by its own worker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::net::addr::ClientAddr;
use crate::net::dial::{Encryption, ExactAddr};
use crate::net::stream::Socket;
use crate::protocol::CancelSecret;
use crate::protocol::startup::Replication;
use crate::session::screen::Pins;

use super::conn::{ServerConn, ServerInfo};
use super::shared::PoolShared;

/// A letter to a worker.
#[derive(Debug)]
pub enum Mail {
    /// A new client, accepted for this worker.
    Client(Socket, ClientAddr),
    /// A server connection for a client that waits there. The worker has not asked for it.
    Conn(Arc<PoolShared>, Box<ServerConn>),
    /// The worker is asked for an idle connection of this pool.
    Lend { pool: Arc<PoolShared>, to: usize },
    /// The answer to that: a connection, or none.
    Loan(Arc<PoolShared>, Option<Box<ServerConn>>),
    /// The worker is asked to close its longest idle connection that counts against these accounts.
    Evict { pool: Arc<PoolShared> },
    /// A database of this name on a server is to be free of connections. For a worker itself, which tells the others.
    Vacate(Arc<str>),
    /// A `CancelRequest` for one of its clients.
    Cancel {
        process_id: u32,
        secret: CancelSecret,
        done: oneshot::Sender<()>,
    },
    /// The console asks or tells something.
    Inquiry(Inquiry),
}

/// What the console wants from a worker.
#[derive(Debug)]
pub enum Inquiry {
    Clients(oneshot::Sender<Vec<ClientRow>>),
    Servers(oneshot::Sender<Vec<ServerRow>>),
    /// Pools were paused, resumed, replaced or given other settings: look at the queues again.
    Recheck,
    /// Idle connections have become too old: look at them before the next tick.
    TidyUp,
    /// A pool that exists before it has clients.
    Found(Arc<PoolShared>),
    /// Every client is to leave at its next rest.
    Drain,
    /// Every client is to leave now.
    Kill,
    /// Every client of a database is to leave at its next rest: it is gone from the configuration.
    KillDatabase(Arc<str>),
    KillClient(u64, oneshot::Sender<bool>),
    /// Are you there?
    Echo(oneshot::Sender<()>),
}

/// A client, for the console. Times are microseconds on the process's clock.
#[derive(Clone, Debug)]
pub struct ClientRow {
    pub id: u64,
    pub user: Arc<str>,
    pub database: Arc<str>,
    pub application_name: Arc<str>,
    pub address: ClientAddr,
    /// Our end of its connection; none over a Unix socket.
    pub local: Option<SocketAddr>,
    pub state: &'static str,
    pub connected_at: u64,
    pub request_at: u64,
    /// How long it has waited in the queue, now; microseconds.
    pub wait: u64,
    pub is_tls: bool,
    pub replication: Replication,
    pub prepared_statements: usize,
    /// Why it keeps its server connection.
    pub pins: Pins,
    /// Since when; microseconds on the process's clock.
    pub pinned_at: u64,
    /// The id of the server connection that works for it.
    pub server: Option<u64>,
}

/// A server connection, for the console.
#[derive(Clone, Debug)]
pub struct ServerRow {
    pub id: u64,
    pub user: Arc<str>,
    pub database: Arc<str>,
    pub state: &'static str,
    pub address: Arc<str>,
    pub port: u16,
    /// Our end of it; none over a Unix socket.
    pub local: Option<SocketAddr>,
    pub connected_at: u64,
    pub request_at: u64,
    pub close_needed: bool,
    /// The id of the client it works for.
    pub client: Option<u64>,
    pub process_id: u32,
    pub is_tls: bool,
    pub replication: Replication,
    pub prepared_statements: usize,
    pub application_name: Arc<str>,
}

impl ServerRow {
    #[must_use]
    pub fn of(info: &ServerInfo, state: &'static str) -> Self {
        let (address, port) = match &info.address {
            ExactAddr::Tcp { address, .. } => (address.ip().to_string(), address.port()),
            ExactAddr::Unix(file) => (file.display().to_string(), 0),
        };
        Self {
            id: info.id,
            user: Arc::clone(&info.user),
            database: Arc::clone(&info.database),
            state,
            address: address.into(),
            port,
            local: info.local,
            connected_at: info.connected_at,
            request_at: 0,
            close_needed: false,
            client: None,
            process_id: info.cancel_key.process_id,
            is_tls: info.encryption == Encryption::Required,
            replication: Replication::None,
            prepared_statements: info.statements.load(Ordering::Relaxed),
            application_name: "".into(),
        }
    }
}

/// The letter boxes of all workers.
#[derive(Clone, Debug)]
pub struct Post {
    boxes: Arc<[mpsc::Sender<Mail>]>,
}

impl Post {
    /// The boxes, and what falls into them, by worker.
    #[must_use]
    pub fn new(workers: usize) -> (Self, Vec<mpsc::Receiver<Mail>>) {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(MAIL_MAX)).unzip();
        (
            Self {
                boxes: senders.into(),
            },
            receivers,
        )
    }

    #[must_use]
    pub fn workers(&self) -> usize {
        self.boxes.len()
    }

    /// Sends without waiting; what does not fit comes back.
    ///
    /// # Errors
    /// The letter, when the box is full or its worker gone.
    pub fn try_send(&self, worker: usize, mail: Mail) -> Result<(), Mail> {
        let Some(sender) = self.boxes.get(worker) else {
            return Err(mail);
        };
        sender.try_send(mail).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(mail) | mpsc::error::TrySendError::Closed(mail) => mail,
        })
    }

    /// Sends to the first worker in turn that has room; waits while none has. Says whether there is anybody to send to.
    pub async fn send_to_any(&self, turn: usize, mut mail: Mail) -> bool {
        loop {
            for step in 0..self.workers() {
                let worker = turn.wrapping_add(step) % self.workers();
                match self.try_send(worker, mail) {
                    Ok(()) => return true,
                    Err(back) => mail = back,
                }
            }
            if self.boxes.iter().all(mpsc::Sender::is_closed) {
                return false;
            }
            tokio::time::sleep(ROOM_LOOK).await;
        }
    }

    /// Sends, waiting for room. Says whether the worker is still there.
    pub async fn send(&self, worker: usize, mail: Mail) -> bool {
        match self.boxes.get(worker) {
            Some(sender) => sender.send(mail).await.is_ok(),
            None => false,
        }
    }
}

/// Letters under way to one worker. New clients come this way, so it bounds how far accepting runs ahead of logging in.
const MAIL_MAX: usize = 1024;
/// How often it is looked for room when every box is full: a worker opens many letters in that time.
const ROOM_LOOK: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Mail {
        Mail::Inquiry(Inquiry::Recheck)
    }

    #[tokio::test]
    async fn a_worker_whose_box_is_full_is_passed_over() {
        let (post, mut boxes) = Post::new(3);
        while post.try_send(1, letter()).is_ok() {}
        assert!(post.send_to_any(1, letter()).await);
        assert!(boxes[2].try_recv().is_ok() && boxes[0].try_recv().is_err());
        // Turns may be counted for ever.
        assert!(post.send_to_any(usize::MAX, letter()).await);
    }

    #[tokio::test]
    async fn when_every_box_is_full_any_that_has_room_again_will_do() {
        let (post, mut boxes) = Post::new(2);
        for worker in 0..2 {
            while post.try_send(worker, letter()).is_ok() {}
        }
        let waiting = tokio::spawn({
            let post = post.clone();
            async move { post.send_to_any(0, letter()).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert!(boxes[1].try_recv().is_ok());
        assert!(waiting.await.unwrap());
        drop(boxes);
        assert!(!post.send_to_any(0, letter()).await);
    }
}
