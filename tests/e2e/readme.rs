//! What the README tells people to type, typed.

use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use pgweir::demo::cluster::{Binaries, port};

use super::harness::clients::run;
use super::harness::crowd::eventually;
use super::harness::{Pgweir, Postgres};

const README: &str = include_str!("../../README.md");
const MAKEFILE: &str = include_str!("../../Makefile");

/// Where the README has the server, and pgweir.
const SERVER_PORT: &str = ":5432";
const OWN_PORT: &str = ":6432";

const PASSWORD: &str = "secret";

/// The contents of the fenced blocks of a language, in their order.
fn blocks(language: &str) -> Vec<&'static str> {
    let opening = format!("```{language}\n");
    let blocks: Vec<_> = README
        .split(opening.as_str())
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(!blocks.is_empty(), "no {language} in the README");
    blocks
}

/// The commands of all blocks of shell that begin so.
fn commands(beginning: &str) -> Vec<&'static str> {
    let lines = blocks("sh").into_iter().flat_map(str::lines);
    let found: Vec<_> = lines.filter(|line| line.starts_with(beginning)).collect();
    assert!(!found.is_empty(), "no command {beginning:?} in the README");
    found
}

/// A server as the README takes it for granted: with a database and a role `app` that has a password.
fn server() -> Postgres {
    let hba = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
    let postgres = Postgres::builder().hba(hba).start();
    postgres.sql(&format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'"));
    postgres.sql("CREATE DATABASE app OWNER app");
    postgres
}

/// A configuration, with the ports of this test.
fn with_ports(config: &str, postgres: &Postgres) -> String {
    config
        .replace(SERVER_PORT, &format!(":{}", postgres.port()))
        .replace(OWN_PORT, ":{port}")
}

fn start(config: &str, postgres: &Postgres) -> Pgweir {
    Pgweir::builder()
        .config(&with_ports(config, postgres))
        .environment("APP_PASSWORD", PASSWORD)
        .start()
}

/// A line for a shell that finds our program and PostgreSQL's.
fn shell(line: &str) -> Command {
    let own = Path::new(env!("CARGO_BIN_EXE_pgweir")).parent().unwrap();
    let psql = Binaries::find().unwrap().client_program("psql");
    let theirs = psql.parent().unwrap();
    let usual = std::env::var("PATH").unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", line])
        .env("PATH", format!("{}:{}:{usual}", own.display(), theirs.display()))
        .env("APP_PASSWORD", PASSWORD);
    command
}

fn psql(line: &str, port: u16) -> String {
    run(&mut shell(&line.replace(OWN_PORT, &format!(":{port}")))).success()
}

#[test]
fn the_five_lines_serve_the_psql_line() {
    let config = blocks("toml")[0];
    assert_eq!(config.lines().count(), 5);
    let postgres = server();
    let pgweir = start(config, &postgres);
    let answer = psql(commands("psql ")[0], pgweir.port());
    assert!(
        answer.contains("current_user") && answer.contains(" app"),
        "{answer}"
    );
    let mut check = shell(commands("pgweir check ")[0]);
    let checked = run(check.current_dir(pgweir.directory()));
    assert_eq!(checked.success(), "");
}

#[test]
fn the_console_line_shows_the_pools() {
    let [config, keys] = blocks("toml")[..] else {
        panic!("another block of TOML in the README");
    };
    let pgweir = start(&format!("{keys}{config}"), &server());
    let answer = psql(commands("psql ")[1], pgweir.port());
    assert!(answer.contains("cl_active"), "{answer}");
}

/// A command that runs until it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_line_without_a_file_serves_the_psql_line() {
    let postgres = server();
    let port = port::free().unwrap();
    let line = commands("pgweir --url ")[0].replace(OWN_PORT, &format!(":{port}"));
    let url = format!("postgresql://app:{PASSWORD}@127.0.0.1:{}/app", postgres.port());
    let mut command = shell(&format!("exec setpriv --pdeathsig=KILL -- {line}"));
    command.env("DATABASE_URL", url).stderr(Stdio::piped());
    let mut running = Running(command.spawn().unwrap());
    eventually("it listens", || {
        if let Some(status) = running.0.try_wait().unwrap() {
            let mut log = String::new();
            running.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
            panic!("it ended, {status}:\n{log}");
        }
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
    });
    let answer = psql(commands("psql ")[0], port);
    assert!(answer.contains(" app"), "{answer}");
}

#[test]
fn what_is_made_can_be_made() {
    for command in commands("make ") {
        let target = command.split_whitespace().nth(1).unwrap();
        let rule = format!("\n{target}:");
        assert!(MAKEFILE.contains(&rule), "{command}");
    }
}
