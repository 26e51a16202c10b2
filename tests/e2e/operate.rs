//! What an operator does: checks, reloads, pauses, ends, and reads the log.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::harness::clients::{self, pgbench, psql};
use super::harness::crowd::{error, eventually, sqlstate};
use super::harness::{PATIENCE, Pgweir, Postgres, Wire};

fn log_in(pgweir: &Pgweir) -> Wire {
    Wire::log_in(pgweir.port(), "postgres", "app", None)
}

fn config(postgres: &Postgres, top: &str, keys: &str) -> String {
    let url = postgres.superuser_url();
    format!("workers = 2\n{top}\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{url}\"\n{keys}\n")
}

fn start(postgres: &Postgres, top: &str, keys: &str) -> Pgweir {
    Pgweir::builder().config(&config(postgres, top, keys)).start()
}

fn is_refused(pgweir: &Pgweir) -> bool {
    std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, pgweir.port())).is_err()
}

#[test]
fn check_names_every_problem_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bad.toml");
    std::fs::write(
        &path,
        "listen = [\"127.0.0.1:1\"]\npool_size = \"many\"\n[databases.app]\nurl = \"mysql://x\"\n",
    )
    .unwrap();
    let check = || {
        Command::new(env!("CARGO_BIN_EXE_pgweir"))
            .arg("check")
            .arg(&path)
            .output()
            .unwrap()
    };
    let output = check();
    assert_eq!(output.status.code(), Some(78));
    let told = String::from_utf8(output.stderr).unwrap();
    for (place, word) in [
        ("1:1", "nobody can log in"),
        ("2:13", "pool_size"),
        ("4:7", "postgresql://"),
    ] {
        let place = format!("{}:{place}", path.display());
        let found = told
            .lines()
            .any(|line| line.starts_with(&place) && line.contains(word));
        assert!(found, "{place} {word}: {told}");
    }
    std::fs::write(
        &path,
        "[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"postgresql://localhost/app\"\n",
    )
    .unwrap();
    assert_eq!(check().status.code(), Some(0));
}

#[test]
fn reloads_go_unnoticed_by_clients() {
    let postgres = Postgres::start();
    let pgweir = start(&postgres, "", "pool_size = 4");
    pgbench(&postgres.superuser_url(), "-i -q -s 1").success();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let (pgweir, postgres) = (&pgweir, &postgres);
        let clients: Vec<_> = ["simple", "extended", "prepared"]
            .map(|protocol| {
                scope.spawn(move || {
                    pgbench(
                        &pgweir.url("postgres", "app"),
                        &format!("-n -S -M {protocol} -c 4 -j 2 -T 3"),
                    )
                })
            })
            .into();
        let ended = &ended;
        scope.spawn(move || {
            let mut size = 4;
            while !ended.load(Ordering::Acquire) {
                size = 10 - size;
                pgweir.write_config(&config(postgres, "", &format!("pool_size = {size}")));
                pgweir.hup();
                thread::sleep(Duration::from_millis(50));
            }
        });
        let told: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        ended.store(true, Ordering::Release);
        for told in told {
            assert!(!told.stderr.contains("ERROR"), "{}", told.stderr);
            let told = told.success();
            assert!(told.contains("number of failed transactions: 0"), "{told}");
        }
    });
    pgweir.wait_for_log("configuration reloaded", 5);
}

#[test]
fn a_broken_file_changes_nothing() {
    let postgres = Postgres::start();
    let pgweir = start(&postgres, "", "pool_size = 1\npool_timeout = \"1s\"");
    let mut wire = log_in(&pgweir);
    pgweir.write_config("pool_size = 7\n[databases.app]\nurl = \"nonsense\"\npool_mod = 1\n");
    pgweir.hup();
    pgweir.wait_for_log("nothing has changed", 1);
    pgweir.wait_for_log("unknown key \"pool_mod\"", 1);
    wire.query("BEGIN; SELECT 1");
    assert_eq!(sqlstate(&log_in(&pgweir).query("SELECT 1")), "53300");
}

#[test]
fn a_reload_adds_moves_and_removes_databases() {
    let postgres = Postgres::start();
    let other = Postgres::start();
    let pgweir = start(&postgres, "", "");
    let mut kept = log_in(&pgweir);
    assert_eq!(kept.value("SHOW port"), postgres.port().to_string());
    // Elsewhere: at the next transaction, not in the middle of one.
    kept.query("BEGIN; SELECT 1");
    let elsewhere = config(&other, "", "");
    let added = format!(
        "{elsewhere}[databases.added]\nurl = \"{}\"\n",
        postgres.superuser_url()
    );
    pgweir.write_config(&added);
    pgweir.hup();
    pgweir.wait_for_log("configuration reloaded", 1);
    assert_eq!(kept.value("SHOW port"), postgres.port().to_string());
    kept.query("COMMIT");
    assert_eq!(kept.value("SHOW port"), other.port().to_string());
    let mut added = Wire::log_in(pgweir.port(), "postgres", "added", None);
    assert_eq!(added.value("SHOW port"), postgres.port().to_string());
    // Removed: its clients end their transactions first.
    let mut idle = Wire::log_in(pgweir.port(), "postgres", "added", None);
    added.query("BEGIN; SELECT 1");
    pgweir.write_config(&elsewhere);
    pgweir.hup();
    assert_eq!(idle.read_fatal().sqlstate(), "57P01");
    assert_eq!(added.value("SELECT 1"), "1");
    added.send_query("COMMIT");
    assert!(error(&added.read_until_ready()).is_none());
    assert_eq!(added.read_fatal().sqlstate(), "57P01");
    let mut late = pgweir.wire();
    late.startup(&[("user", "postgres"), ("database", "added")]);
    assert_eq!(late.read_fatal().sqlstate(), "3D000");
    assert_eq!(kept.value("SELECT 1"), "1");
    eventually("its connections are closed", || postgres.connections() == 0);
}

#[test]
fn term_lets_transactions_end_and_then_ends() {
    let postgres = Postgres::start();
    let mut pgweir = start(&postgres, "", "");
    let [mut idle, mut in_block, mut busy] = [(); 3].map(|()| log_in(&pgweir));
    in_block.query("BEGIN; SELECT 1");
    busy.send_query("SELECT 'finished' FROM pg_sleep(0.5)");
    eventually("it runs", || {
        postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1"
    });
    pgweir.terminate();
    assert_eq!(idle.read_fatal().sqlstate(), "57P01");
    eventually("nobody is let in", || is_refused(&pgweir));
    assert_eq!(in_block.value("SELECT 'still here'"), "still here");
    assert_eq!(busy.read_until_ready()[1].columns(), ["finished"]);
    assert_eq!(busy.read_fatal().sqlstate(), "57P01");
    assert!(pgweir.is_running());
    assert!(error(&in_block.query("COMMIT")).is_none());
    assert_eq!(in_block.read_fatal().sqlstate(), "57P01");
    assert_eq!(pgweir.wait().code(), Some(0));
    eventually("nothing is left on the server", || postgres.connections() == 0);
}

#[test]
fn a_second_term_ends_at_once() {
    let postgres = Postgres::start();
    for (first, second) in [
        (Signal::TERM, Signal::TERM),
        (Signal::INT, Signal::INT),
        (Signal::TERM, Signal::QUIT),
    ] {
        let mut pgweir = start(&postgres, "", "");
        let mut in_block = log_in(&pgweir);
        in_block.query("BEGIN; SELECT 1");
        pgweir.signal(first);
        pgweir.wait_for_log("draining", 1);
        assert_eq!(in_block.value("SELECT 1"), "1");
        pgweir.signal(second);
        assert_eq!(pgweir.wait().code(), Some(0));
    }
}

#[test]
fn quit_ends_at_once() {
    let postgres = Postgres::start();
    let mut pgweir = start(&postgres, "", "");
    let mut in_block = log_in(&pgweir);
    in_block.query("BEGIN; SELECT 1");
    pgweir.signal(Signal::QUIT);
    assert_eq!(pgweir.wait().code(), Some(0));
    in_block.read_until_closed();
}

#[test]
fn a_drain_has_an_end() {
    let postgres = Postgres::start();
    let mut pgweir = start(&postgres, "drain_timeout = \"300ms\"", "");
    let mut in_block = log_in(&pgweir);
    in_block.query("BEGIN; SELECT 1");
    pgweir.terminate();
    assert_eq!(in_block.read_fatal().sqlstate(), "57P01");
    assert_eq!(pgweir.wait().code(), Some(0));
    pgweir.wait_for_log("not everybody has left in time", 1);
}

#[test]
fn usr1_pauses_and_usr2_resumes() {
    let postgres = Postgres::start();
    let pgweir = start(&postgres, "", "pool_size = 2\npool_timeout = \"1s\"");
    let [mut in_block, mut other] = [(); 2].map(|()| log_in(&pgweir));
    other.value("SELECT 1");
    in_block.query("BEGIN; SELECT 1");
    pgweir.signal(Signal::USR1);
    pgweir.wait_for_log("paused", 1);
    // Who is inside of a transaction may end it; nobody begins one.
    assert_eq!(in_block.value("SELECT 1"), "1");
    let refused = other.query("SELECT 1");
    assert_eq!(sqlstate(&refused), "57P03");
    in_block.query("COMMIT");
    eventually("all connections are closed", || postgres.connections() == 0);
    let mut newcomer = log_in(&pgweir);
    pgweir.signal(Signal::USR2);
    pgweir.wait_for_log("resumed", 1);
    for wire in [&mut in_block, &mut other, &mut newcomer] {
        assert_eq!(wire.value("SELECT 1"), "1");
    }
    // Who waits when it is resumed is served.
    pgweir.signal(Signal::USR1);
    pgweir.wait_for_log("paused", 2);
    other.send_query("SELECT 'served'");
    pgweir.signal(Signal::USR2);
    assert_eq!(other.read_until_ready()[1].columns(), ["served"]);
}

#[test]
fn the_log_can_be_json() {
    let postgres = Postgres::start();
    let pgweir = start(&postgres, "log_format = \"json\"", "");
    log_in(&pgweir).value("SELECT 1");
    pgweir.wait_for_log("\"message\":\"login\"", 1);
    for line in pgweir.log().lines() {
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
        assert!(
            line.contains("\"timestamp\":") && line.contains("\"level\":"),
            "{line}"
        );
    }
    assert!(pgweir.log().contains("\"user\":\"postgres\""));
}

#[test]
fn a_url_is_configuration_enough() {
    let postgres = Postgres::start();
    postgres.sql("CREATE ROLE side LOGIN PASSWORD 'car/me'");
    let url = format!(
        "postgresql://side:car%2Fme@127.0.0.1:{}/postgres",
        postgres.port()
    );
    for by_flag in [true, false] {
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig=KILL",
            "--",
            env!("CARGO_BIN_EXE_pgweir"),
            "--listen",
            "127.0.0.1:0",
        ]);
        command
            .env_remove("DATABASE_URL")
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if by_flag {
            command.args(["--url", &url]);
        } else {
            command.env("DATABASE_URL", &url);
        }
        let mut child = command.spawn().unwrap();
        let mut log = child.stderr.take().unwrap();
        let mut text = String::new();
        let port = loop {
            let mut byte = [0];
            assert_eq!(log.read(&mut byte).unwrap(), 1, "{text}");
            text.push(char::from(byte[0]));
            if let Some(port) = text.contains('\n').then(|| port_of(&text)).flatten() {
                break port;
            }
        };
        let through = format!("postgresql://side:car%2Fme@127.0.0.1:{port}/postgres");
        assert_eq!(psql(&through, "SELECT current_user").success(), "side");
        let wrong = format!("postgresql://side:wrong@127.0.0.1:{port}/postgres");
        assert!(
            psql(&wrong, "SELECT 1")
                .failure()
                .contains("password authentication failed")
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!text.contains("car"), "{text}");
    }
}

/// The port in the line that says that it is ready.
pub(crate) fn port_of(log: &str) -> Option<u16> {
    let (_, address) = log.split_once("listen=\"127.0.0.1:")?;
    address.split('"').next()?.parse().ok()
}

#[test]
fn slow_statements_are_logged_without_what_they_hold() {
    let postgres = Postgres::start();
    let pgweir = start(&postgres, "log_slow_queries = \"500ms\"", "pool_size = 1");
    let mut wire = log_in(&pgweir);
    wire.query("SELECT 'quick-secret'");
    wire.query("SELECT 'top-secret' FROM pg_sleep(0.6) WHERE 42 > 7");
    pgweir.wait_for_log("slow statement", 1);
    assert!(
        pgweir.log_contains("SELECT $1 FROM pg_sleep($2) WHERE $3 > $4"),
        "{}",
        pgweir.log()
    );
    // Inside of a block, prepared earlier, with a value that is bound.
    wire.send_parse("named", "SELECT 'x', $1 FROM pg_sleep(0.6)");
    wire.send_sync();
    wire.read_until_ready();
    wire.query("BEGIN");
    wire.send_bind("", "named", &[Some("bound-secret")]);
    wire.send_execute("", 0);
    wire.send_sync();
    wire.read_until_ready();
    pgweir.wait_for_log("slow statement", 2);
    assert!(
        pgweir.log_contains("SELECT $2, $1 FROM pg_sleep($3)"),
        "{}",
        pgweir.log()
    );
    // A long wait for a connection makes no statement slow.
    let mut waiter = log_in(&pgweir);
    waiter.send_query("SELECT 'waiter-secret'");
    wire.query("SELECT pg_sleep(0.6)");
    wire.query("COMMIT");
    waiter.read_until_ready();
    pgweir.wait_for_log("slow statement", 3);
    assert!(!pgweir.log_contains("-secret"), "{}", pgweir.log());
    assert_eq!(pgweir.log().matches("slow statement").count(), 3);
    // Off from now on.
    pgweir.write_config(&config(&postgres, "", ""));
    pgweir.hup();
    pgweir.wait_for_log("configuration reloaded", 1);
    wire.query("SELECT pg_sleep(0.6)");
    wire.terminate();
    wire.read_until_closed();
    assert_eq!(pgweir.log().matches("slow statement").count(), 3);
}

#[test]
fn the_demonstration_works_and_leaves_nothing() {
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig=KILL", "--", env!("CARGO_BIN_EXE_pgweir"), "demo"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut told = child.stdout.take().unwrap();
    let mut text = String::new();
    while !text.contains("Ctrl-C stops") {
        let mut bytes = [0; 4096];
        let length = told.read(&mut bytes).unwrap();
        assert!(length > 0, "it ended: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..length]));
    }
    let line = text
        .lines()
        .find(|line| line.trim().starts_with("psql "))
        .unwrap();
    let mut words = line.split_whitespace().skip(1);
    let url = words.next().unwrap().trim_matches('\'').to_owned();
    let port: u16 = url
        .rsplit(':')
        .next()
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    eventually("it listens", || {
        std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).is_ok()
    });
    // The very line, as a shell takes it.
    let shell = clients::run(Command::new("sh").args(["-c", line.trim()]));
    let count = shell.success();
    assert!(count.contains("users") && count.contains("(1 row)"), "{count}");
    let urls: Vec<&str> = text
        .split_whitespace()
        .filter(|word| word.starts_with("postgresql://"))
        .collect();
    assert!(urls.len() >= 7, "{text}");
    for url in urls.iter().filter(|url| !url.contains("/pgweir")) {
        let told = clients::run(clients::client("psql").args([
            "-X",
            "-d",
            url.trim_matches('\''),
            "-c",
            "SELECT 1",
        ]));
        told.success();
    }
    let homes = homes_of(child.id());
    assert!(!homes.is_empty());
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(),
        Signal::INT,
    )
    .unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        assert!(std::time::Instant::now() < deadline, "it does not end");
        thread::sleep(Duration::from_millis(10));
    }
    for home in homes {
        assert!(!std::path::Path::new(&home).exists(), "{home} is left");
    }
}

/// The data directories of the servers that a process has started.
fn homes_of(process_id: u32) -> Vec<String> {
    let listed =
        clients::run(Command::new("ps").args(["-o", "args=", "--ppid", &process_id.to_string()])).success();
    listed
        .lines()
        .filter_map(|line| {
            line.split_once(" -D ")?
                .1
                .split_whitespace()
                .next()
                .map(str::to_owned)
        })
        .collect()
}
