//! The threads that make plans: they have the stack for it, and take their time.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::thread::Builder;

use crossbeam::channel::{self, Receiver, Sender};

use crate::plan;
use crate::pool::knowledge::Known;

use super::planning::Answer;
use super::plans::{self, Meaning, Sense, SharedPlans};

/// A text to be planned.
#[derive(Debug)]
pub struct Job {
    pub text: Box<[u8]>,
    pub meaning: Meaning,
    /// By which it will be looked for.
    pub sense: Sense,
    pub known: Arc<Known>,
    pub answer: Arc<Answer>,
    pub plans: Arc<SharedPlans>,
}

/// Takes jobs. Its threads begin with the first of them, and end when nobody can ask any more.
#[derive(Debug, Default)]
pub struct Planner {
    jobs: OnceLock<Option<Sender<Job>>>,
}

impl Planner {
    /// Takes a job, unless there are too many.
    #[must_use]
    pub fn take(&self, job: Job) -> bool {
        let jobs = self.jobs.get_or_init(|| {
            start()
                .inspect_err(|error| {
                    tracing::error!("no statement can be planned; all go to the primary: {error}")
                })
                .ok()
        });
        jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok())
    }
}

fn start() -> io::Result<Sender<Job>> {
    let (jobs, queue) = channel::bounded(JOBS_MAX);
    for index in 0..THREADS {
        let queue: Receiver<Job> = queue.clone();
        Builder::new()
            .name(format!("planner-{index}"))
            .stack_size(plan::STACK_LEN)
            .spawn(move || {
                for job in queue {
                    // The parser is others' work. Were it to panic, the text has a plan all the same: it is not understood.
                    if catch_unwind(AssertUnwindSafe(|| plans::carry_out(&job))).is_err() {
                        tracing::error!(bytes = job.text.len(), "a statement could not be planned");
                        plans::give_up(&job);
                    }
                }
            })?;
    }
    Ok(jobs)
}

/// Plans that are being made at once. They are few once a workload is known, and a core each.
const THREADS: usize = 2;
/// Texts that wait to be planned. Above it they go to the primary.
const JOBS_MAX: usize = 1024;
