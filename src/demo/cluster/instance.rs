//! One running PostgreSQL server.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::account::Account;
use super::binaries::Binaries;
use super::error::ClusterError;
use super::home::Home;
use super::port;
use super::process::Process;
use super::template::{InstanceOptions, run, settings_text};

/// A server with its files. Dropped, the server ends and the files go.
#[derive(Debug)]
pub struct Instance {
    binaries: Binaries,
    account: Account,
    port: u16,
    /// Keeps the port until the server is started for the first time.
    held_port: Option<TcpListener>,
    process: Option<Process>,
    /// Last, so that it goes when no process uses it any more.
    home: Home,
}

/// PostgreSQL's three ways to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// When the last client has left.
    Smart,
    /// Clients are thrown out, transactions rolled back.
    Fast,
    /// At once; the next start recovers.
    Immediate,
}

impl Instance {
    pub(super) fn new(
        binaries: Binaries,
        account: Account,
        home: Home,
        options: &InstanceOptions,
    ) -> Result<Self, ClusterError> {
        home.subdirectory(&account, SOCKETS_NAME)?;
        let held = port::hold_free()?;
        let port = held
            .local_addr()
            .map_err(ClusterError::io("local address"))?
            .port();
        let instance = Self {
            binaries,
            account,
            port,
            held_port: Some(held),
            process: None,
            home,
        };
        instance.append_own_settings(options)?;
        if let Some(hba) = &options.hba {
            instance.write_hba(hba)?;
        }
        Ok(instance)
    }

    /// Starts the server and waits until it accepts connections.
    pub fn start(&mut self) -> Result<(), ClusterError> {
        self.spawn()?;
        self.wait_ready()
    }

    /// Starts the server without waiting for it, so that several may start side by side.
    pub fn spawn(&mut self) -> Result<(), ClusterError> {
        let failed = |what: &str| ClusterError::io(format!("{what} the log"));
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .map_err(failed("opening"))?;
        let mut command = self.account.server_command(self.binaries.program("postgres"));
        command
            .arg("-D")
            .arg(self.data_directory())
            .args(["-p", &self.port.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed("sharing"))?)
            .stderr(log);
        self.held_port = None;
        self.process = Some(Process::spawn(command)?);
        Ok(())
    }

    /// Waits until the server accepts connections. Where somebody took the port of a first start, another one is tried.
    pub fn wait_ready(&mut self) -> Result<(), ClusterError> {
        let deadline = Instant::now() + START_MAX;
        let mut moves_left = PORT_MOVES_MAX;
        while !self.is_ready() {
            let has_ended = self
                .process
                .as_mut()
                .is_none_or(|process| process.ended().is_some());
            if has_ended && moves_left > 0 && self.log().contains("could not create any TCP/IP sockets") {
                moves_left -= 1;
                self.move_to_another_port()?;
            } else if has_ended {
                return Err(ClusterError::Start {
                    why: "ended at its start",
                    log: self.log_tail(),
                });
            } else if Instant::now() >= deadline {
                return Err(ClusterError::Start {
                    why: "was not ready in time",
                    log: self.log_tail(),
                });
            }
            thread::sleep(READY_POLL_INTERVAL);
        }
        Ok(())
    }

    /// Shuts the server down and waits for its end; what does not end in time is killed.
    pub fn stop(&mut self, mode: StopMode) {
        let Some(process) = &mut self.process else { return };
        process.signal(match mode {
            StopMode::Smart => Signal::TERM,
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        });
        if process.wait(STOP_MAX) {
            self.process = None;
        } else {
            self.kill_9();
        }
    }

    /// Kills the server with all its backends, as a crash of the machine would.
    pub fn kill_9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill_with_children();
        }
    }

    /// Lets the server read its configuration again.
    pub fn reload(&mut self) {
        if let Some(process) = &mut self.process {
            process.signal(Signal::HUP);
        }
    }

    /// Runs SQL as the superuser over the Unix socket and returns what `psql -At` prints.
    pub fn query(&self, database: &str, sql: &str) -> Result<String, ClusterError> {
        let printed = run(self.client(&self.binaries.client_program("psql")).args([
            "-X",
            "-A",
            "-t",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            database,
            "-c",
            sql,
        ]))?;
        Ok(printed.trim_end().to_owned())
    }

    /// Waits until this replica has replayed what the primary has written so far.
    pub fn wait_for_replay(&self, primary: &Self) -> Result<(), ClusterError> {
        let end = primary.query("postgres", "SELECT pg_current_wal_lsn()")?;
        let is_reached = format!("SELECT pg_last_wal_replay_lsn() >= '{end}'");
        let deadline = Instant::now() + START_MAX;
        while self.query("postgres", &is_reached)? != "t" {
            if Instant::now() >= deadline {
                return Err(ClusterError::Start {
                    why: "does not follow its primary",
                    log: self.log_tail(),
                });
            }
            thread::sleep(READY_POLL_INTERVAL);
        }
        Ok(())
    }

    /// A client program of libpq that finds this server as its superuser.
    #[must_use]
    pub fn client(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("PGHOST", self.socket_directory())
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres")
            .env_remove("PGSERVICE")
            .env_remove("PGOPTIONS")
            .stdin(Stdio::null());
        command
    }

    /// Adds to `postgresql.conf`; the last of a name wins. Takes effect at the next start or reload.
    pub fn append_settings(&self, settings: &[(String, String)]) -> Result<(), ClusterError> {
        let failed = ClusterError::io("writing postgresql.conf");
        let appended = OpenOptions::new()
            .append(true)
            .open(self.settings_path())
            .and_then(|mut file| file.write_all(settings_text(settings).as_bytes()));
        appended.map_err(failed)
    }

    /// Replaces `pg_hba.conf`. Takes effect at the next start or reload.
    pub fn write_hba(&self, text: &str) -> Result<(), ClusterError> {
        fs::write(self.data_directory().join("pg_hba.conf"), text)
            .map_err(ClusterError::io("writing pg_hba.conf"))
    }

    /// Puts a file that the server must be able to read alone (a key, a certificate) into the data directory.
    pub fn write_file(&self, name: &str, contents: &[u8]) -> Result<PathBuf, ClusterError> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.data_directory().join(name);
        let written = File::create(&path).and_then(|mut file| {
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            file.write_all(contents)
        });
        written.map_err(ClusterError::io(format!("writing {name}")))?;
        self.account.own(&path)?;
        Ok(path)
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of the Unix socket, closed to other users.
    #[must_use]
    pub fn socket_directory(&self) -> PathBuf {
        self.home.path().join(SOCKETS_NAME)
    }

    #[must_use]
    pub fn data_directory(&self) -> PathBuf {
        self.home.path().join("data")
    }

    #[must_use]
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The process id of the postmaster, while it runs.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// A URL over TCP, without a password.
    #[must_use]
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgresql://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// Everything the server has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map_or_else(
            |_| String::new(),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// The last lines of that.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let skipped = lines.len().saturating_sub(LOG_TAIL_LINES_MAX);
        lines.into_iter().skip(skipped).collect::<Vec<_>>().join("\n")
    }

    /// Replaces the settings by another instance's, with this one's own after them.
    pub(super) fn take_settings_of(
        &self,
        other: &Self,
        options: &InstanceOptions,
    ) -> Result<(), ClusterError> {
        let theirs =
            fs::read_to_string(other.settings_path()).map_err(ClusterError::io("reading postgresql.conf"))?;
        fs::write(self.settings_path(), theirs).map_err(ClusterError::io("writing postgresql.conf"))?;
        self.append_own_settings(options)
    }

    fn append_own_settings(&self, options: &InstanceOptions) -> Result<(), ClusterError> {
        let sockets = self.socket_directory().display().to_string();
        self.append_settings(&[("unix_socket_directories".to_owned(), sockets)])?;
        self.append_settings(&options.settings)
    }

    fn settings_path(&self) -> PathBuf {
        self.data_directory().join("postgresql.conf")
    }

    fn log_path(&self) -> PathBuf {
        self.home.path().join("log")
    }

    /// The server writes its state into its lock file, as line 8; that is what `pg_ctl` waits for too.
    fn is_ready(&self) -> bool {
        let Some(process) = &self.process else {
            return false;
        };
        let lock = fs::read_to_string(self.lock_path()).unwrap_or_default();
        let mut lines = lock.lines();
        let is_own = lines.next().and_then(|line| line.trim().parse().ok()) == Some(process.id());
        is_own && lines.nth(6).is_some_and(|status| status.trim_end() == "ready")
    }

    fn move_to_another_port(&mut self) -> Result<(), ClusterError> {
        let held = port::hold_free()?;
        self.port = held
            .local_addr()
            .map_err(ClusterError::io("local address"))?
            .port();
        drop(held);
        fs::write(self.log_path(), "").map_err(ClusterError::io("emptying the log"))?;
        self.spawn()
    }

    /// A killed server leaves a small segment of System V shared memory behind; the lock file's line 7 names it.
    fn remove_shared_memory(&self) {
        let lock = fs::read_to_string(self.lock_path()).unwrap_or_default();
        let segment = lock
            .lines()
            .nth(6)
            .and_then(|line| line.split_whitespace().nth(1));
        if let Some(segment) = segment {
            let _ = Command::new("ipcrm")
                .args(["-m", segment])
                .stderr(Stdio::null())
                .status();
        }
    }

    fn lock_path(&self) -> PathBuf {
        self.data_directory().join("postmaster.pid")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop(StopMode::Immediate);
        self.remove_shared_memory();
    }
}

const SOCKETS_NAME: &str = "socket";

/// Recovery of a small server takes far less, on a busy machine too.
const START_MAX: Duration = Duration::from_secs(60);

/// A fast shutdown of a small server takes far less.
const STOP_MAX: Duration = Duration::from_secs(20);

/// How often the lock file is looked at while a server starts.
const READY_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Thieves of ports are rare; several in a row mean something else.
const PORT_MOVES_MAX: u32 = 5;

/// What fits on a screen.
const LOG_TAIL_LINES_MAX: usize = 30;
