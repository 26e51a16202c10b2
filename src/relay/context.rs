//! What all clients of a worker share while they are being served: buffers for one pass, and texts of statements.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::pool::worker::Worker;
use crate::protocol::Parameters;
use crate::session::Outbox;
use crate::session::statement::StatementCache;

use super::memory::Memory;
use super::plans::{Plans, SharedPlans};
use super::texts::Texts;

/// One worker's tools. Borrowed for one pass at a time, never across a wait.
#[derive(Debug)]
pub struct Context {
    pub worker: Rc<Worker>,
    pub scratch: RefCell<Scratch>,
    /// Small buffers for what clients have sent while they wait for a connection.
    spare: RefCell<Vec<Vec<u8>>>,
    pub cache: RefCell<StatementCache>,
    pub plans: Plans,
    pub memory: Arc<Memory>,
    /// The settings of all who ask for none: with one set for all, a comparison of pointers tells that nothing differs.
    pub no_settings: Arc<Parameters>,
    /// The name of all who give none.
    pub no_name: Arc<str>,
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
    pub fn new(
        worker: Rc<Worker>,
        texts: &Arc<Texts>,
        plans: &Arc<SharedPlans>,
        memory: Arc<Memory>,
    ) -> Rc<Self> {
        let index = u16::try_from(worker.index).unwrap_or(u16::MAX);
        Rc::new(Self {
            worker,
            scratch: RefCell::new(Scratch {
                read: vec![0; READ_LEN].into(),
                out: Outbox::new(),
            }),
            spare: RefCell::default(),
            cache: RefCell::new(StatementCache::sharing(index, Arc::clone(texts) as _)),
            plans: Plans::new(plans),
            memory,
            no_settings: Arc::default(),
            no_name: "".into(),
            log_slow: Cell::new(Duration::ZERO),
        })
    }

    /// A buffer that is empty.
    pub fn take_spare(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// The buffer is not needed any more. Small ones are kept for the next who waits.
    pub fn put_spare(&self, mut buffer: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_MAX && (1..=SPARE_LEN_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            spare.push(buffer);
        }
    }
}

/// One read: large, since large results are read in few calls, and one buffer serves the whole worker.
const READ_LEN: usize = 64 * 1024;
/// Buffers that are kept: together with their size 512 KB for a worker.
const SPARE_MAX: usize = 256;
const SPARE_LEN_MAX: usize = 2048;
