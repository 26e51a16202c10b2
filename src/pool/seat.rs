//! A client's place on its worker: how the pool, the clock and the console reach its task.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Waker};

use crate::net::addr::ClientAddr;
use crate::protocol::startup::Replication;
use crate::protocol::{CancelKey, Report};
use crate::session::screen::Pins;

use super::conn::{ServerConn, ServerInfo};

/// One client. Lives on one worker; `Cell`s, since only that worker's thread touches it.
pub struct Seat {
    pub id: u64,
    pub key: CancelKey,
    pub database: Arc<str>,
    pub user: Arc<str>,
    /// As it has set it last.
    pub application_name: RefCell<Arc<str>>,
    pub address: ClientAddr,
    /// Our end of its connection; none over a Unix socket.
    pub local: Option<SocketAddr>,
    pub is_tls: bool,
    pub replication: Replication,
    /// Microseconds on the worker's clock.
    pub connected_at: u64,
    pub phase: Cell<Phase>,
    /// When the phase began; microseconds on the worker's clock.
    pub since: Cell<u64>,
    /// When the last request came.
    pub request_at: Cell<u64>,
    /// Statements it has prepared, as of its last rest.
    pub statements: Cell<usize>,
    /// Why it keeps its server connection.
    pub pins: Cell<Pins>,
    /// Since when; microseconds on the worker's clock.
    pub pinned_at: Cell<u64>,
    /// When to wake the task, 0 for never; microseconds on the worker's clock.
    pub deadline: Cell<u64>,
    /// It stands in the queue of its pool.
    pub queued: Cell<bool>,
    poke: Cell<Option<Poke>>,
    looked: Cell<bool>,
    /// Where it stands among its worker's busy clients.
    busy_place: Cell<usize>,
    waker: RefCell<Option<Waker>>,
    granted: Cell<Option<Grant>>,
    /// The server connection that works for this client now.
    pub server: RefCell<Option<Arc<ServerInfo>>>,
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("id", &self.id)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

/// What a client is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Idle,
    /// In the queue of its pool.
    Waiting,
    /// Has a server connection.
    Active,
    /// Has one, and its answer: the server is asked what became of its settings.
    Settling,
}

/// Why a task is woken beside its sockets. The later of two outranks the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Poke {
    /// It has waited long for its server: time to look whether its client is still there.
    Look,
    /// Settings have changed: its timeouts may be others.
    Renew,
    /// Its deadline has passed.
    Deadline,
    /// A `CancelRequest` came while it waits in the queue.
    Cancel,
    /// The process drains: leave at the next rest.
    Drain,
    /// Leave now.
    Kill,
}

/// How a wait for a server connection ends.
#[derive(Debug)]
pub enum Grant {
    Conn(Box<ServerConn>),
    /// In a box: it is rare, and each client has room for it.
    Refused(Box<Report>),
}

/// What a client brings to its seat.
#[derive(Debug)]
pub struct Occupant {
    pub key: CancelKey,
    pub database: Arc<str>,
    pub user: Arc<str>,
    pub application_name: Arc<str>,
    pub address: ClientAddr,
    pub local: Option<SocketAddr>,
    pub is_tls: bool,
    pub replication: Replication,
}

impl Seat {
    #[must_use]
    pub fn new(id: u64, occupant: Occupant, now: u64) -> Self {
        Self {
            id,
            key: occupant.key,
            database: occupant.database,
            user: occupant.user,
            application_name: RefCell::new(occupant.application_name),
            address: occupant.address,
            local: occupant.local,
            is_tls: occupant.is_tls,
            replication: occupant.replication,
            connected_at: now,
            phase: Cell::new(Phase::Idle),
            since: Cell::new(now),
            request_at: Cell::new(now),
            statements: Cell::new(0),
            pins: Cell::default(),
            pinned_at: Cell::new(0),
            deadline: Cell::new(0),
            queued: Cell::new(false),
            poke: Cell::new(None),
            looked: Cell::new(false),
            busy_place: Cell::new(usize::MAX),
            waker: RefCell::new(None),
            granted: Cell::new(None),
            server: RefCell::new(None),
        }
    }

    /// Changes the phase, at `now`.
    pub fn enter(&self, phase: Phase, now: u64) {
        self.phase.set(phase);
        self.begin(now);
    }

    /// Its reasons to keep its server connection are others now.
    pub(super) fn pin(&self, pins: Pins, now: u64) {
        if self.pins.replace(pins).is_empty() {
            self.pinned_at.set(now);
        }
    }

    /// Something new begins in the same phase: time counts again.
    pub fn begin(&self, now: u64) {
        self.since.set(now);
        self.looked.set(false);
    }

    pub fn place_busy(&self, place: usize) {
        self.busy_place.set(place);
    }

    #[must_use]
    pub fn busy_place(&self) -> usize {
        self.busy_place.get()
    }

    /// Remembers whom to wake. Cheap when the task is the same as before.
    pub fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Wakes the task, with a reason that stays until it is taken.
    pub fn poke(&self, poke: Poke) {
        self.poke.set(self.poke.get().max(Some(poke)));
        self.wake();
    }

    /// Wakes the task once in a phase, to look whether its client is still there.
    pub fn poke_look(&self) {
        if !self.looked.replace(true) {
            self.poke(Poke::Look);
        }
    }

    pub fn take_poke(&self) -> Option<Poke> {
        // `Drain` and `Kill` stay: whatever else happens, they are still to be obeyed.
        let poke = self.poke.get();
        if !matches!(poke, Some(Poke::Drain | Poke::Kill)) {
            self.poke.set(None);
        }
        poke
    }

    /// Whether it has been told to leave.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.poke.get() >= Some(Poke::Drain)
    }

    /// Whether its deadline has passed.
    #[must_use]
    pub fn is_due(&self, now: u64) -> bool {
        let deadline = self.deadline.get();
        deadline != 0 && deadline <= now
    }

    pub fn grant(&self, grant: Grant) {
        self.granted.set(Some(grant));
        self.wake();
    }

    pub fn take_grant(&self) -> Option<Grant> {
        self.granted.take()
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}
