//! What all clients of a worker share while they are being served: buffers for one pass, and texts of statements.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::pool::worker::Worker;
use crate::session::Outbox;
use crate::session::statement::StatementCache;

/// One worker's tools. Borrowed for one pass at a time, never across a wait.
#[derive(Debug)]
pub struct Context {
    pub worker: Rc<Worker>,
    pub scratch: RefCell<Scratch>,
    pub cache: RefCell<StatementCache>,
    /// Statements that take longer are logged; zero is off.
    pub log_slow: Cell<Duration>,
}

/// Buffers for one pass over what a socket had. No client owns one.
#[derive(Debug)]
pub struct Scratch {
    pub read: Box<[u8]>,
    pub out: Outbox,
}

impl Context {
    #[must_use]
    pub fn new(worker: Rc<Worker>) -> Rc<Self> {
        let index = u16::try_from(worker.index).unwrap_or(u16::MAX);
        Rc::new(Self {
            worker,
            scratch: RefCell::new(Scratch {
                read: vec![0; READ_LEN].into(),
                out: Outbox::new(),
            }),
            cache: RefCell::new(StatementCache::new(index)),
            log_slow: Cell::new(Duration::ZERO),
        })
    }
}

/// One read: large, since large results are read in few calls, and one buffer serves the whole worker.
const READ_LEN: usize = 64 * 1024;
