//! Sessions through pgweir against the same sessions at PostgreSQL itself: every answer must be the same.
//!
//! A script (`scripts/*.txt`, see `script.rs`) is played with PostgreSQL and then through pgweir in transaction mode with
//! one server connection, so that its clients take turns on it. Each is played as simple queries, as extended queries, and
//! as extended queries with binary results. `DIFFERENTIAL_SCRIPT=words` plays the scripts whose names hold these words,
//! `DIFFERENTIAL_SEED=n` one random history; with `DIFFERENTIAL_DIRECT=1` both sides are PostgreSQL itself, which shows
//! whether a script says the same each time.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]
#![allow(clippy::panic, reason = "a panic is a failed test")]
#![allow(clippy::indexing_slicing, reason = "a wrong index is a failed test")]

mod compare;
mod ground;
#[path = "../e2e/harness/mod.rs"]
mod harness;
mod histories;
mod message;
mod play;
mod script;
mod trace;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use compare::{Outcome, compare};
use ground::Ground;
use histories::History;
use script::Script;

/// Plays every script of a topic and fails with the names of those that differ.
fn play_topic(topic: &str) {
    let path = scripts_directory().join(format!("{topic}.txt"));
    let text = std::fs::read_to_string(&path).unwrap();
    let wanted = std::env::var("DIFFERENTIAL_SCRIPT").unwrap_or_default();
    let scripts: Vec<Script> = Script::parse_all(topic, &text)
        .into_iter()
        .filter(|script| script.name.contains(&wanted))
        .collect();
    if !scripts.is_empty() {
        play_all(&scripts);
    }
}

fn play_all(scripts: &[Script]) {
    let mut ground = Ground::new();
    let mut different = Vec::new();
    for script in scripts {
        let mut is_different = false;
        for run in script.runs() {
            let name = format!("{} ({})", script.name, run.as_str());
            match compare(&mut ground, script, run) {
                Outcome::Same => println!("same       {name}"),
                Outcome::Different(_) if script.differs.is_some() => {
                    println!("KNOWN      {name}");
                    ground.forget_connections();
                    is_different = true;
                    break;
                }
                Outcome::Meaningless => panic!("{name}: one session is in a block while another acts"),
                Outcome::Different(report) => {
                    println!("DIFFERENT  {name}\n{report}");
                    ground.forget_connections();
                    is_different = true;
                    different.push(name);
                    // The other ways to play it mostly differ alike, and every wait for a connection takes its time.
                    break;
                }
            }
        }
        if script.differs.is_some() && !is_different {
            different.push(format!("{} is said to differ, and does not", script.name));
        }
    }
    assert!(
        different.is_empty(),
        "{} differ from PostgreSQL:\n{}",
        different.len(),
        different.join("\n")
    );
}

fn scripts_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/scripts")
}

macro_rules! topics {
    ($($test:ident: $topic:literal,)*) => {
        $(#[test]
        fn $test() {
            play_topic($topic);
        })*

        #[test]
        fn every_file_of_scripts_is_played() {
            let files: BTreeSet<String> = std::fs::read_dir(scripts_directory())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            let topics: BTreeSet<String> = [$(concat!($topic, ".txt").to_owned()),*].into();
            assert_eq!(files, topics);
        }
    };
}

topics! {
    prepared_statements_of_the_protocol_are_as_direct: "statements",
    prepared_statements_of_sql_are_as_direct: "sql_statements",
    statements_whose_rows_become_others_are_as_direct: "stale",
    settings_are_as_direct: "settings",
    roles_and_startup_parameters_are_as_direct: "roles",
    what_a_session_keeps_is_as_direct: "session",
    notifications_are_as_direct: "notifications",
    cursors_and_portals_are_as_direct: "portals",
    transactions_are_as_direct: "transactions",
    pipelines_and_copies_are_as_direct: "pipelines",
    what_is_done_inside_of_bodies_is_as_direct: "bodies",
}

#[test]
fn random_histories_are_as_direct() {
    let seed = std::env::var("DIFFERENTIAL_SEED").ok();
    let seeds = seed.map_or(0..SEEDS, |seed| {
        let seed = seed.parse().unwrap();
        seed..seed + 1
    });
    let mut ground = Ground::new();
    let mut different = Vec::new();
    for seed in seeds {
        if let Some(report) = History::of(seed).play(&mut ground) {
            println!("DIFFERENT  {report}");
            different.push(seed);
        }
        if different.len() == DIFFERENT_SEEDS_MAX {
            break;
        }
    }
    assert!(
        different.is_empty(),
        "differ from PostgreSQL: {different:?}; DIFFERENTIAL_SEED=… plays one again"
    );
}

const SEEDS: u64 = 150;
/// After so many, the rest has nothing to add.
const DIFFERENT_SEEDS_MAX: usize = 2;
