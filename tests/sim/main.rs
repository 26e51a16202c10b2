//! Clients, sessions and flows against a model of PostgreSQL, in a world that is decided by a seed.
//!
//! `PGWEIR_SIM_SEED=n` replays one seed, with a trace of everybody involved; `PGWEIR_SIM_SEEDS=n` plays so many.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_debug_implementations,
    unreachable_pub,
    reason = "a panic is a failed test, and nobody names this crate"
)]

mod client;
mod invariants;
mod model;
mod pool;
#[path = "../../src/session/flow/tests/wire.rs"]
mod wire;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use pgweir::protocol::tag;

use world::World;

/// What went wrong.
#[derive(Debug)]
pub struct Failure(String);

pub fn fail<T>(text: String) -> Result<T, Failure> {
    Err(Failure(text))
}

/// Numbers that a seed decides (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

const SEEDS: u64 = 2_000;
/// Until then things go wrong; then everything is to come to its end.
const TROUBLED_STEPS: u64 = 800;
/// Without a byte moved for so many steps, nobody will ever move again.
const STILL_STEPS: u64 = 3_000;

#[test]
fn every_client_gets_its_own_answers_whatever_happens() {
    if let Some(seed) = number("PGWEIR_SIM_SEED") {
        return replay(seed);
    }
    let seeds = number("PGWEIR_SIM_SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || (thread..seeds).step_by(threads as usize).for_each(try_seed));
        }
    });
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn try_seed(seed: u64) {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(&mut World::new(seed, false))));
    if !matches!(outcome, Ok(Ok(()))) {
        replay(seed);
    }
}

/// Runs a seed again and tells everything.
fn replay(seed: u64) {
    let mut world = World::new(seed, true);
    let outcome = catch_unwind(AssertUnwindSafe(|| run(&mut world)));
    let failure = match outcome {
        Ok(Ok(())) => return,
        Ok(Err(Failure(text))) => text,
        Err(_) => "a panic".into(),
    };
    let trace = world.trace.unwrap_or_default();
    let last = trace.len().saturating_sub(150);
    println!("{:?}\n{}", world.plan, trace[last..].join("\n"));
    panic!("{failure}\nreplay with: make sim SEED={seed}");
}

fn run(world: &mut World) -> Result<(), Failure> {
    let mut still = 0;
    while still < STILL_STEPS {
        let moved = world.moved;
        world.calm = world.now > TROUBLED_STEPS;
        world.step()?;
        world.admit();
        invariants::check(world)?;
        let is_done = world.peers.iter().all(|peer| peer.is_gone) && world.to_come == 0;
        if is_done {
            break;
        }
        still = if world.moved == moved { still + 1 } else { 0 };
    }
    invariants::check_end(world)
}
