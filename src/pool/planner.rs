//! Threads that plan texts: their stacks are as long as the deepest text needs, and no event loop waits for a parser.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use crossbeam::channel::{Receiver, Sender, bounded};
use tokio::sync::oneshot;

use crate::plan::{Catalog, Circumstances, Patterns, Plan, STACK_LEN, Spelling, plan};

/// Takes texts and gives plans. Its threads end with it.
#[derive(Debug)]
pub struct Planner {
    queue: Sender<Job>,
}

/// What a text is planned with: [`Circumstances`] that go to another thread.
#[derive(Debug, Clone)]
pub struct Scene {
    pub catalog: Arc<Catalog>,
    pub search_path: Arc<[Box<str>]>,
    pub functions: Arc<Patterns>,
    pub spelling: Spelling,
}

#[derive(Debug)]
struct Job {
    text: Box<[u8]>,
    scene: Scene,
    reply: oneshot::Sender<Plan>,
}

impl Planner {
    /// # Errors
    ///
    /// A thread cannot be had, as where memory for its stack is refused.
    pub fn start(threads: usize) -> io::Result<Self> {
        let (queue, jobs) = bounded(WAITING_TEXTS_MAX);
        for index in 0..threads {
            let jobs = jobs.clone();
            thread::Builder::new()
                .name(format!("planner-{index}"))
                .stack_size(STACK_LEN)
                .spawn(move || work(&jobs))?;
        }
        Ok(Self { queue })
    }

    /// Has a text planned. `None` where too many wait already: the statement is the primary's, and the next one like it may have
    /// more luck. An answer that fails is one as well.
    pub fn plan(&self, text: Box<[u8]>, scene: Scene) -> Option<oneshot::Receiver<Plan>> {
        let (reply, answer) = oneshot::channel();
        let job = Job { text, scene, reply };
        self.queue.try_send(job).ok().map(|()| answer)
    }
}

fn work(jobs: &Receiver<Job>) {
    for job in jobs {
        let Job { text, scene, reply } = job;
        if reply.is_closed() {
            continue;
        }
        let circumstances = Circumstances {
            catalog: &scene.catalog,
            search_path: &scene.search_path,
            functions: &scene.functions,
            spelling: scene.spelling,
        };
        // The parser is others' work. Were it to panic, the text has no plan; the thread goes on.
        match catch_unwind(AssertUnwindSafe(|| plan(&text, &circumstances))) {
            Ok(plan) => drop(reply.send(plan)),
            Err(_) => tracing::error!(bytes = text.len(), "a statement could not be planned"),
        }
    }
}

/// Texts that wait for a thread. A text takes a tenth of a millisecond, mostly; half a megabyte each, at the most.
pub const WAITING_TEXTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Class;

    fn scene() -> Scene {
        Scene {
            catalog: Arc::default(),
            search_path: Arc::default(),
            functions: Arc::default(),
            spelling: Spelling::Standard,
        }
    }

    #[tokio::test]
    async fn texts_are_planned_however_deep_they_are() {
        let planner = Planner::start(2).unwrap();
        let class = async |text: String| {
            let text = text.into_bytes().into_boxed_slice();
            planner.plan(text, scene()).unwrap().await.unwrap().class()
        };
        assert_eq!(class("SELECT 1".to_owned()).await, Class::Read);
        assert_eq!(
            class(format!("SELECT {}true", "NOT ".repeat(8_000))).await,
            Class::Read
        );
        assert_eq!(
            class(format!("SELECT {}true", "NOT ".repeat(80_000))).await,
            Class::Write
        );
    }

    #[test]
    fn a_text_that_finds_no_room_is_turned_away() {
        let (queue, waiting) = bounded(1);
        let planner = Planner { queue };
        let text = || Box::from(&b"SELECT 1"[..]);
        let first = planner.plan(text(), scene());
        assert!(first.is_some());
        assert!(planner.plan(text(), scene()).is_none());
        drop(waiting);
        assert!(planner.plan(text(), scene()).is_none());
    }
}
