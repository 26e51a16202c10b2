//! What the pooler takes: memory for clients that are idle, system calls for a query.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use super::harness::clients::{pgbench, run};
use super::harness::{Pgweir, Postgres, Wire, target_directory};

/// One worker before the server; `app` is its database.
fn config(postgres: &Postgres) -> String {
    let url = postgres.superuser_url();
    format!("workers = 1\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{url}\"\n")
}

#[test]
fn ten_thousand_idle_clients_fit_into_24_megabytes() {
    let hard = getrlimit(Resource::Nofile).maximum;
    let own = Rlimit {
        current: hard,
        maximum: hard,
    };
    setrlimit(Resource::Nofile, own).unwrap();
    // Where fewer descriptors are allowed there are fewer clients, and each may take as much.
    let count = hard.map_or(CLIENTS, |hard| {
        usize::try_from(hard).unwrap().saturating_sub(200).min(CLIENTS)
    });
    let program = release_program();
    let postgres = Postgres::start();
    let pgweir = Pgweir::builder()
        .program(&program)
        .config(&config(&postgres))
        .start();
    let log_in = || Wire::log_in(pgweir.port(), "postgres", "app", None);
    let mut clients: Vec<Wire> = (0..count).map(|_| log_in()).collect();
    // Each has been served once, and has grown and shrunk whatever it needs for that.
    for wire in &mut clients {
        wire.value("SELECT 1");
    }
    let taken = resident_kb(pgweir.process_id());
    println!("{count} idle clients: {taken} kB");
    let most = PROGRAM_KB_MAX + (RESIDENT_KB_MAX - PROGRAM_KB_MAX) * count / CLIENTS;
    assert!(taken <= most, "{taken} kB for {count} idle clients");
}

/// The program as it is released. Where it is not there yet, or not of this code, it is built, which takes a minute or more.
fn release_program() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo has set for this test is not meant for that build: some packages are built again when it differs.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_") && !["CARGO_HOME", "CARGO_NET_OFFLINE"].contains(&name.as_str()) {
            cargo.env_remove(name);
        }
    }
    let built = cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--release", "--locked", "--quiet", "--bin", "pgweir"])
        .arg("--target-dir")
        .arg(target_directory());
    run(built).success();
    target_directory().join("release/pgweir")
}

/// Resident memory of a process, in kB.
fn resident_kb(process_id: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process_id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_query_takes_six_system_calls() {
    let postgres = Postgres::start();
    for protocol in ["simple", "extended", "prepared"] {
        // What start, login and end take is the same for few queries and for many.
        let few = traced(&postgres, protocol, QUERIES_FEW);
        let many = traced(&postgres, protocol, QUERIES_MANY);
        let queries = f64::from(QUERIES_MANY - QUERIES_FEW);
        let calls = many.calls("total") - few.calls("total");
        let ticks = f64::from(u32::try_from(many.elapsed.as_millis()).unwrap()) / TICK_MS;
        println!("{protocol}: {} a query, {ticks} ticks included", calls / queries);
        assert!(
            calls <= queries * CALLS_MAX + ticks * TICK_CALLS_MAX,
            "{protocol}: {}",
            many.table
        );
        // The clock reads and sends nothing: here nothing is allowed for it.
        let others =
            |counted: &Traced| counted.calls("total") - counted.calls("epoll_wait") - counted.calls("write");
        let transfers = others(&many) - others(&few);
        assert!(transfers <= queries * TRANSFERS_MAX, "{protocol}: {}", many.table);
    }
}

/// A pooler that served one client, as `strace` saw it.
struct Traced {
    elapsed: Duration,
    /// What `strace -c` prints: share, seconds, seconds a call, calls, errors, name.
    table: String,
}

impl Traced {
    /// How often it made the system call of this name.
    fn calls(&self, name: &str) -> f64 {
        let mut rows = self
            .table
            .lines()
            .map(|row| row.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row.last() == Some(&name));
        row.map_or(0.0, |row| row[3].parse().unwrap())
    }
}

/// System calls of the pooler for so many queries of one client, its start and its end included.
fn traced(postgres: &Postgres, protocol: &str, queries: u32) -> Traced {
    let directory = tempfile::tempdir().unwrap();
    let table = directory.path().join("calls");
    let script = directory.path().join("select.sql");
    fs::write(&script, "SELECT 1;\n").unwrap();
    let tracer = ["strace", "-f", "-c", "-o", table.to_str().unwrap()];
    let mut pgweir = Pgweir::builder().under(&tracer).config(&config(postgres)).start();
    let script = script.display();
    let begun = Instant::now();
    let told = pgbench(
        &pgweir.url("postgres", "app"),
        &format!("-n -c 1 -M {protocol} -t {queries} -f {script}"),
    );
    let elapsed = begun.elapsed();
    let told = told.success();
    assert!(told.contains(&format!("{queries}/{queries}")), "{told}");
    terminate_traced(&pgweir);
    assert!(pgweir.wait().success());
    Traced {
        elapsed,
        table: fs::read_to_string(&table).unwrap(),
    }
}

/// `strace` is deaf to signals while it traces; its child is the pooler.
fn terminate_traced(pgweir: &Pgweir) {
    let tracer = pgweir.process_id();
    let children = fs::read_to_string(format!("/proc/{tracer}/task/{tracer}/children")).unwrap();
    let child: i32 = children.split_whitespace().next().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(child).unwrap(), Signal::TERM).unwrap();
}

const CLIENTS: usize = 10_000;
/// For 10,000 clients and the program, in kB: 24,000,000 bytes.
const RESIDENT_KB_MAX: usize = 23_437;
/// The program alone, before its first client.
const PROGRAM_KB_MAX: usize = 6_000;
/// Wait, read and send, from the client to the server and back: six, and one in ten queries may take another.
const CALLS_MAX: f64 = 6.1;
/// The reads and sends among them.
const TRANSFERS_MAX: f64 = 4.02;
/// How often the ticker of a busy worker looks, and what it may take each time: its timer is set, which wakes the event loop,
/// and goes off in one or two steps.
const TICK_MS: f64 = 20.0;
const TICK_CALLS_MAX: f64 = 4.0;
const QUERIES_FEW: u32 = 500;
const QUERIES_MANY: u32 = 3_500;
