//! A server's process: it ends with its owner, whatever becomes of that.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::error::ClusterError;

/// A child process that gets the signal it asked for when the thread that started it ends. A thread that does nothing else
/// starts it and stays, so that it may be handed around freely.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Dropped, it lets the keeping thread end.
    _keeper: mpsc::SyncSender<()>,
}

impl Process {
    pub(super) fn spawn(mut command: Command) -> Result<Self, ClusterError> {
        let what = format!("starting {}", command.get_program().display());
        let (child_out, child_in) = mpsc::sync_channel::<io::Result<Child>>(1);
        let (keeper, kept) = mpsc::sync_channel::<()>(1);
        // Ctrl-C at a terminal is for the owner, who then ends its servers in order.
        command.process_group(0);
        thread::Builder::new()
            .name("server-keeper".to_owned())
            .spawn(move || {
                if child_out.send(command.spawn()).is_ok() {
                    let _ = kept.recv();
                }
            })
            .map_err(ClusterError::io("starting a thread"))?;
        let child = child_in
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("its thread ended")));
        Ok(Self {
            child: child.map_err(ClusterError::io(what))?,
            _keeper: keeper,
        })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    pub(super) fn signal(&mut self, signal: Signal) {
        // A process that has been waited for may have given its id to another.
        if self.ended().is_none() {
            send(self.child.id(), signal);
        }
    }

    /// Waits until it ended; false when that took longer.
    pub(super) fn wait(&mut self, longest: Duration) -> bool {
        let deadline = Instant::now() + longest;
        while self.ended().is_none() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(POLL_INTERVAL);
        }
        true
    }

    /// Ends it and the processes it has started, without a chance to clean up.
    pub(super) fn kill_with_children(&mut self) {
        // It starts no more of them while they are listed, and they do not see it end.
        self.signal(Signal::STOP);
        let children = children_of(self.child.id());
        for child in &children {
            send(*child, Signal::KILL);
        }
        self.signal(Signal::KILL);
        let _ = self.child.wait();
        // Until then they hold on to the server's shared memory, and a new start fails.
        let deadline = Instant::now() + KILL_MAX;
        while children.iter().any(|child| is_alive(*child)) && Instant::now() < deadline {
            thread::sleep(POLL_INTERVAL);
        }
    }
}

fn send(id: u32, signal: Signal) {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }
}

fn children_of(id: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    listed
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// Whether a process runs. One that has ended and was not waited for does not.
fn is_alive(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim_start());
    !state.is_empty() && !state.starts_with(['Z', 'X'])
}

/// A killed process is gone at once, mostly; on a machine that is busy, after a while.
const KILL_MAX: Duration = Duration::from_secs(10);

/// How often a process is looked at while it ends.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
