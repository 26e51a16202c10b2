//! Clients that people use: tokio-postgres, psql, pgbench, and Python's.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use pgweir::demo::cluster::Binaries;
use tokio_postgres::{Client, NoTls};

use super::target_directory;

/// Logs in with tokio-postgres. The connection is driven by a task of the current runtime.
pub(crate) async fn connect(url: &str) -> Client {
    try_connect(url).await.unwrap()
}

pub(crate) async fn try_connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// What a program printed and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) is_success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// What it printed; a failure of the program is one of the test.
    pub(crate) fn success(self) -> String {
        assert!(self.is_success, "it failed:\n{}\n{}", self.stdout, self.stderr);
        self.stdout.trim_end().to_owned()
    }

    /// What it complained of; a success of the program is a failure of the test.
    pub(crate) fn failure(self) -> String {
        assert!(
            !self.is_success,
            "it did not fail:\n{}\n{}",
            self.stdout, self.stderr
        );
        self.stderr
    }
}

/// Runs `psql -At` with one string of SQL.
pub(crate) fn psql(url: &str, sql: &str) -> Ran {
    run(client("psql").args([
        "-X",
        "-A",
        "-t",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
        url,
        "-c",
        sql,
    ]))
}

/// Runs `pgbench` with these arguments, separated by spaces.
pub(crate) fn pgbench(url: &str, arguments: &str) -> Ran {
    run(client("pgbench").args(arguments.split_whitespace()).arg(url))
}

/// Runs a script with the Python that has psycopg and asyncpg; `DATABASE_URL` leads to the database.
pub(crate) fn python(url: &str, script: &str) -> Ran {
    let python = target_directory().join("venv/bin/python");
    assert!(
        python.exists(),
        "run scripts/setup.sh test first: there is no {}",
        python.display()
    );
    run(Command::new(python).args(["-c", script]).env("DATABASE_URL", url))
}

/// A client program of PostgreSQL (`pg_dump`, `pg_restore`, `pg_basebackup`, …), with nothing of libpq in its environment.
pub(crate) fn client(name: &str) -> Command {
    let path: PathBuf = Binaries::find().unwrap().client_program(name);
    let mut command = Command::new(path);
    for (variable, _) in std::env::vars_os() {
        let is_libpq = variable.to_string_lossy().starts_with("PG");
        if is_libpq && !variable.to_string_lossy().starts_with("PGWEIR") {
            command.env_remove(&variable);
        }
    }
    command
}

pub(crate) fn run(command: &mut Command) -> Ran {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Ran {
        is_success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
