//! Ten thousand clients, and too few file descriptors for them.

use std::fs;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use super::harness::crowd::{error, eventually, sqlstate};
use super::harness::wire::tags;
use super::harness::{Pgweir, Postgres, Wire};

fn log_in(pgweir: &Pgweir) -> Wire {
    Wire::log_in(pgweir.port(), "postgres", "app", None)
}

/// Resident memory of a process, in kB.
fn resident(pgweir: &Pgweir) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", pgweir.process_id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn thousands_of_idle_clients_take_little_memory() {
    let hard = getrlimit(Resource::Nofile).maximum;
    let own = Rlimit {
        current: hard,
        maximum: hard,
    };
    setrlimit(Resource::Nofile, own).unwrap();
    // Where fewer descriptors are allowed, fewer clients show the same.
    let count = hard.map_or(10_000, |hard| {
        usize::try_from(hard).unwrap().saturating_sub(200).min(10_000)
    });
    let postgres = Postgres::start();
    let pgweir = Pgweir::before(&postgres);
    let mut first = log_in(&pgweir);
    first.value("SELECT 1");
    let before = resident(&pgweir);
    let mut clients: Vec<Wire> = (1..count).map(|_| log_in(&pgweir)).collect();
    // Each has been served once, and has grown and shrunk whatever it needs for that.
    for wire in &mut clients {
        wire.value("SELECT 1");
    }
    let grown = resident(&pgweir) - before;
    println!("{count} clients: {grown} kB, and {before} kB before them");
    assert!(grown / count < PER_CLIENT_MAX, "{grown} kB for {count} clients");
    assert_eq!(first.value("SELECT 2"), "2");
    drop(clients);
    assert_eq!(log_in(&pgweir).value("SELECT 3"), "3");
}

#[test]
fn short_of_memory_new_work_is_refused_and_what_is_under_way_goes_on() {
    let postgres = Postgres::start();
    let config = |memory: &str| {
        format!(
            "workers = 1\nadmin_users = [\"postgres\"]\nmax_memory = \"{memory}\"\n[auth]\nmethod = \"trust\"\n\
             [databases.app]\nurl = \"{}\"\n",
            postgres.superuser_url()
        )
    };
    let pgweir = Pgweir::builder().config(&config("0")).start();
    let mut idle = log_in(&pgweir);
    idle.value("SELECT 1");
    let mut in_block = log_in(&pgweir);
    in_block.query("BEGIN; SELECT 1");
    pgweir.write_config(&config("100kB"));
    pgweir.hup();
    pgweir.wait_for_log("memory is short", 1);

    assert_eq!(error(&in_block.query("SELECT pg_sleep(0.01)")), None);
    assert_eq!(error(&in_block.query("COMMIT")), None);
    assert_eq!(sqlstate(&in_block.query("SELECT 1")), "53200");
    let frames = idle.query("SELECT 2");
    let refused = error(&frames).unwrap();
    assert_eq!(
        (refused.field('S').as_deref(), refused.sqlstate().as_str()),
        (Some("ERROR"), "53200")
    );
    assert!(refused.field('H').unwrap().contains("max_memory"));
    assert_eq!(frames.last().unwrap().transaction_state(), 'I');
    // A batch is refused once, up to its Sync.
    idle.send_parse("", "SELECT 3");
    idle.send_bind("", "", &[]);
    idle.send_execute("", 0);
    idle.send_sync();
    assert_eq!(tags(&idle.read_until_ready()), "EZ");
    let mut newcomer = pgweir.wire();
    newcomer.startup(&[("user", "postgres"), ("database", "app")]);
    let refused = newcomer.read_fatal();
    assert_eq!(
        (refused.field('S').as_deref(), refused.sqlstate().as_str()),
        (Some("FATAL"), "53200")
    );
    let mut console = Wire::log_in(pgweir.port(), "postgres", "pgweir", None);
    assert_eq!(error(&console.query("SHOW POOLS")), None);

    pgweir.write_config(&config("100GB"));
    pgweir.hup();
    pgweir.wait_for_log("memory is no longer short", 1);
    assert_eq!(idle.value("SELECT 4"), "4");
    assert_eq!(in_block.value("SELECT 5"), "5");
    assert_eq!(log_in(&pgweir).value("SELECT 6"), "6");
    assert_eq!(pgweir.log().matches("memory is").count(), 2);
}

#[test]
fn without_file_descriptors_accepting_waits_and_clients_are_served() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before(&postgres);
    let mut served = log_in(&pgweir);
    served.value("SELECT 1");
    let few = Rlimit {
        current: Some(60),
        maximum: Some(60),
    };
    let process = Pid::from_raw(i32::try_from(pgweir.process_id()).unwrap()).unwrap();
    prlimit(Some(process), Resource::Nofile, few).unwrap();
    let flood: Vec<Wire> = (0..200).map(|_| pgweir.wire()).collect();
    pgweir.wait_for_log("accepting clients pauses", 1);
    for _ in 0..100 {
        assert_eq!(served.value("SELECT 'served'"), "served");
    }
    drop(flood);
    eventually("newcomers are served, and the log says so", || {
        log_in(&pgweir).value("SELECT 1") == "1" && pgweir.log_contains("accepting clients again")
    });
    assert_eq!(pgweir.log().matches("accepting clients pauses").count(), 1);
}

#[test]
fn the_soft_limit_of_file_descriptors_is_raised_to_the_hard_one() {
    let postgres = Postgres::start();
    let hard = getrlimit(Resource::Nofile).maximum;
    let low = Rlimit {
        current: Some(256),
        maximum: hard,
    };
    setrlimit(Resource::Nofile, low).unwrap();
    let pgweir = Pgweir::before(&postgres);
    let process = Pid::from_raw(i32::try_from(pgweir.process_id()).unwrap()).unwrap();
    let found = fs::read_to_string(format!("/proc/{}/limits", process.as_raw_nonzero())).unwrap();
    let line = found
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let mut numbers = line.split_whitespace().skip(3);
    assert_eq!(numbers.next(), numbers.next());
}

/// What an idle client may take of a build for debugging, in kB. What it takes of a release is in `footprint`.
const PER_CLIENT_MAX: usize = 8;
