//! `pgweir route`, and `--replica`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Instant;

use crate::harness::{PATIENCE, Postgres, Wire};
use crate::operate::port_of;
use crate::routes::{House, role};

fn ask(house: &House, database: &str, sql: &str, flags: &[&str]) -> Output {
    let file = house.pgweir.directory().join("asked.toml");
    let urls: Vec<_> = house
        .replicas
        .iter()
        .map(|replica| format!("\"{}\"", replica.superuser_url()))
        .collect();
    let config = format!(
        "[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{}\"\nread_replicas = [{}]\n[databases.alone]\nurl = \"postgresql://127.0.0.1:1/x\"\n",
        house.primary.superuser_url(),
        urls.join(", ")
    );
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgweir"));
    command
        .arg("route")
        .args(flags)
        .arg(file)
        .args([database, sql])
        .output()
        .unwrap()
}

fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone())
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_route_is_told_by_the_catalogs_and_nothing_is_executed() {
    let house = House::new(1, "");
    house.primary.sql(
        "CREATE FUNCTION bump(i int) RETURNS int LANGUAGE sql AS 'SELECT 1'; \
         CREATE FUNCTION looks() RETURNS int STABLE PARALLEL SAFE LANGUAGE sql AS 'SELECT 1'",
    );
    let told = ask(
        &house,
        "app",
        "SELECT looks(); SELECT bump(1); DELETE FROM t; CREATE TEMP TABLE x (i int)",
        &[],
    );
    assert_eq!(
        lines(&told),
        [
            "replica  SELECT looks()",
            "         reads only",
            "primary  SELECT bump(1)",
            "         volatile function public.bump(i integer)",
            "primary  DELETE FROM t",
            "         DELETE",
            "primary  CREATE TEMP TABLE x (i int)",
            "         CREATE TEMP; pins: temporary table",
        ]
    );
    assert!(told.stderr.is_empty(), "{told:?}");
    assert_eq!(house.primary.sql("SELECT count(*) FROM t"), "10");
    let told = ask(&house, "app", "SELECT looks()", &["--json"]);
    assert_eq!(
        lines(&told),
        [
            "{\"statement\":\"SELECT looks()\",\"role\":\"replica\",\"shards\":[],\"pins\":[],\"reason\":\"reads only\"}"
        ]
    );
}

#[test]
fn without_catalogs_what_is_not_postgresqls_own_is_unknown() {
    let house = House::new(1, "");
    let told = ask(&house, "app", "SELECT looks(); SELECT now()", &["--offline"]);
    assert_eq!(lines(&told)[1], "         unknown function looks");
    assert_eq!(lines(&told)[2], "replica  SELECT now()");
    assert!(
        String::from_utf8_lossy(&told.stderr).contains("not read"),
        "{told:?}"
    );
    assert_eq!(
        lines(&ask(&house, "alone", "SELECT 1", &[]))[1],
        "         the database has no replicas"
    );
    assert!(!ask(&house, "nobody", "SELECT 1", &[]).status.success());
    assert_eq!(
        lines(&ask(&house, "app", "SELEC 1", &["--offline"]))[0],
        "primary  SELEC 1"
    );
}

#[test]
fn a_run_without_a_file_reads_from_the_replicas_of_the_command_line() {
    let primary = Postgres::start();
    primary.sql("CREATE TABLE t (id int)");
    let replica = primary.replica();
    replica.wait_for_replay(&primary);
    let mut child = Command::new("setpriv")
        .args([
            "--pdeathsig=KILL",
            "--",
            env!("CARGO_BIN_EXE_pgweir"),
            "--listen",
            "127.0.0.1:0",
        ])
        .args([
            "--url",
            &primary.superuser_url(),
            "--replica",
            &replica.superuser_url(),
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let port = log.find_map(|line| port_of(&line.unwrap())).unwrap();
    // What it says further is read, so that it can go on.
    let rest = thread::spawn(move || log.count());
    let start = Instant::now();
    loop {
        let mut client = Wire::log_in(port, "postgres", "postgres", None);
        client.query("SELECT id FROM t");
        if role(&mut client) == "replica" {
            break;
        }
        assert!(start.elapsed() < PATIENCE);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    rest.join().unwrap();
}
