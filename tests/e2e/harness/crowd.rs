//! Many clients at once, and somebody who counts what the server sees of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pgweir::protocol::tag;

use super::postgres::{ASIDE, OTHERS};
use super::wire::Frame;
use super::{PATIENCE, Postgres, Wire};

/// Counts a server's sessions without pause.
#[derive(Debug)]
pub(crate) struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u32>,
}

impl Watcher {
    /// Counts sessions of clients for which this SQL condition on `pg_stat_activity` holds, the watcher excepted.
    pub(crate) fn start(postgres: &Postgres, condition: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut wire = Wire::log_in(postgres.port(), "postgres", ASIDE, None);
        let count = format!("SELECT count(*) FROM pg_stat_activity WHERE {OTHERS} AND ({condition})");
        let thread = thread::spawn(move || {
            let mut most = 0;
            while !stopped.load(Ordering::Acquire) {
                most = most.max(wire.value(&count).parse().unwrap());
            }
            most
        });
        Self { stop, thread }
    }

    /// The most it has seen at a time.
    pub(crate) fn most(self) -> u32 {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap()
    }
}

/// Runs so many clients at once, each on a thread of its own, and waits for them.
pub(crate) fn crowd<T: Send>(count: usize, client: impl Fn(usize) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let client = &client;
        let clients: Vec<_> = (0..count)
            .map(|number| scope.spawn(move || client(number)))
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    })
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came to pass: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The error among these frames, if there is one.
pub(crate) fn error(frames: &[Frame]) -> Option<&Frame> {
    frames.iter().find(|frame| frame.tag == tag::ERROR_RESPONSE)
}

/// The SQLSTATE of the error that these frames must hold.
pub(crate) fn sqlstate(frames: &[Frame]) -> String {
    error(frames)
        .unwrap_or_else(|| panic!("no error in {frames:?}"))
        .sqlstate()
}
