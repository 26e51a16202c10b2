//! What all workers share, and nobody asks during a query: who may come in, what there is, and how to reach the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use crate::pool::derive::Deriver;
use crate::pool::mail::Post;
use crate::pool::registry::Registry;

use super::answers::Answers;
use super::directory::Directory;
use super::memory::Memory;
use super::plans::SharedPlans;
use super::texts::Texts;
use super::welcome::Greetings;

/// The process, as its workers see it.
#[derive(Debug)]
pub struct Hub {
    pub registry: Arc<Registry>,
    pub post: Post,
    pub directory: ArcSwap<Directory>,
    pub deriver: Arc<Deriver>,
    pub answers: Answers,
    pub greetings: Greetings,
    pub texts: Arc<Texts>,
    pub plans: Arc<SharedPlans>,
    pub memory: Arc<Memory>,
    pub control: mpsc::Sender<Control>,
    /// The wall clock at the clock's zero.
    pub started: SystemTime,
    clients: AtomicU32,
    drains: AtomicBool,
}

/// A wish that only the application can fulfil.
#[derive(Debug)]
pub enum Control {
    /// Read the configuration again. Answers what was wrong with it.
    Reload(oneshot::Sender<Result<(), String>>),
    /// Lend no more connections; answers when all are closed.
    Pause(Option<String>, oneshot::Sender<Result<(), String>>),
    Resume(Option<String>, oneshot::Sender<Result<(), String>>),
    Shutdown(Shutdown),
    /// Are you there?
    Echo(oneshot::Sender<()>),
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Clients end their transactions first.
    Drain,
    Now,
}

/// What a hub is made of.
#[derive(Debug)]
pub struct Parts {
    pub registry: Arc<Registry>,
    pub post: Post,
    pub directory: Directory,
    pub deriver: Arc<Deriver>,
    pub control: mpsc::Sender<Control>,
    pub started: SystemTime,
}

impl Hub {
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            registry: parts.registry,
            post: parts.post,
            directory: ArcSwap::from_pointee(parts.directory),
            deriver: parts.deriver,
            answers: Answers::default(),
            greetings: Greetings::default(),
            texts: Arc::default(),
            plans: SharedPlans::new(),
            memory: Arc::default(),
            control: parts.control,
            started: parts.started,
            clients: AtomicU32::new(0),
            drains: AtomicBool::new(false),
        })
    }

    /// Counts a client in, unless there are `max` already.
    #[must_use]
    pub fn admit(self: &Arc<Self>, max: u32) -> Option<Presence> {
        let more = |count: u32| (count < max).then_some(count + 1);
        self.clients
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .ok()?;
        Some(Presence {
            hub: Arc::clone(self),
        })
    }

    /// Clients that are logged in.
    #[must_use]
    pub fn clients(&self) -> u32 {
        self.clients.load(Ordering::Acquire)
    }

    /// From now on nobody is let in.
    pub fn drain(&self) {
        self.drains.store(true, Ordering::Release);
    }

    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drains.load(Ordering::Acquire)
    }
}

/// A client that is counted in until this is dropped.
#[derive(Debug)]
pub struct Presence {
    hub: Arc<Hub>,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.hub.clients.fetch_sub(1, Ordering::AcqRel);
    }
}
