//! The pooler under test, as a process of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pgweir::demo::cluster::port;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{PATIENCE, Postgres, Wire};

/// A running `pgweir`. Its log is printed when the test fails; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Pgweir {
    child: Child,
    port: u16,
    log: Arc<Log>,
    directory: TempDir,
}

impl Pgweir {
    pub(crate) fn builder() -> PgweirBuilder {
        PgweirBuilder {
            program: env!("CARGO_BIN_EXE_pgweir").into(),
            tracer: Vec::new(),
            config: String::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// One worker in front of the server's database `postgres`, under the name `app`; anybody may log in, and is the
    /// superuser there.
    pub(crate) fn before(postgres: &Postgres) -> Self {
        Self::before_with(postgres, "")
    }

    /// The same with further keys of the database.
    pub(crate) fn before_with(postgres: &Postgres, keys: &str) -> Self {
        let url = postgres.superuser_url();
        let config =
            format!("workers = 1\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{url}\"\n{keys}\n");
        Self::builder().config(&config).start()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// A URL that leads through the pooler.
    pub(crate) fn url(&self, user: &str, database: &str) -> String {
        format!("postgresql://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// A raw connection, before its startup packet.
    pub(crate) fn wire(&self) -> Wire {
        Wire::connect(self.port)
    }

    /// A directory of this pooler's own, where its configuration is.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces the configuration file, `listen` excepted. Takes effect at the next reload.
    pub(crate) fn write_config(&self, config: &str) {
        write_config(self.directory.path(), self.port, config);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn hup(&self) {
        self.signal(Signal::HUP);
    }

    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn kill_9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the process to end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "pgweir did not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Everything it has written to its standard output and error.
    pub(crate) fn log(&self) -> String {
        self.log.text.lock().unwrap().clone()
    }

    pub(crate) fn log_contains(&self, text: &str) -> bool {
        self.log.text.lock().unwrap().contains(text)
    }

    /// Waits until the log holds this text so many times.
    pub(crate) fn wait_for_log(&self, text: &str, times: usize) {
        let found = self
            .log
            .wait_until(PATIENCE, |log| log.matches(text).count() >= times);
        assert!(
            found,
            "the log does not hold {text:?} {times} times:\n{}",
            self.log()
        );
    }
}

impl Drop for Pgweir {
    fn drop(&mut self) {
        if thread::panicking() {
            let status = self.child.try_wait().ok().flatten();
            let signal = status.and_then(|status| status.signal());
            eprintln!(
                "--- log of pgweir on port {} (ended: {status:?}, signal: {signal:?})",
                self.port
            );
            eprintln!(
                "{}\n---",
                self.log
                    .text
                    .lock()
                    .map_or_else(|_| String::new(), |text| text.clone())
            );
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
pub(crate) struct PgweirBuilder {
    program: PathBuf,
    tracer: Vec<String>,
    config: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl PgweirBuilder {
    /// The configuration as TOML. `listen` is put before it, with a free port, unless it has that key; `{port}` in it stands
    /// for that port.
    pub(crate) fn config(mut self, toml_text: &str) -> Self {
        toml_text.clone_into(&mut self.config);
        self
    }

    /// Another build of it than the tests'.
    pub(crate) fn program(mut self, program: &Path) -> Self {
        program.clone_into(&mut self.program);
        self
    }

    /// Runs it as the child of this command, which ends when it ends.
    pub(crate) fn under(mut self, tracer: &[&str]) -> Self {
        self.tracer = tracer.iter().map(|&word| word.to_owned()).collect();
        self
    }

    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until it says that it is ready.
    pub(crate) fn start(self) -> Pgweir {
        for _ in 0..PORT_ATTEMPTS_MAX {
            let mut pgweir = self.spawn();
            if pgweir.is_ready_in_time() {
                return pgweir;
            }
            // Somebody may have taken the port in between.
            let is_port_taken = pgweir.log_contains("in use");
            assert!(is_port_taken, "pgweir did not start:\n{}", pgweir.log());
        }
        panic!("no port stayed free");
    }

    /// Starts it without waiting: for starts that must fail.
    pub(crate) fn spawn(&self) -> Pgweir {
        let directory = tempfile::tempdir().unwrap();
        let port = port::free().unwrap();
        let config = write_config(directory.path(), port, &self.config);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig=KILL", "--"]);
        if !self.tracer.is_empty() {
            command
                .args(&self.tracer)
                .args(["setpriv", "--pdeathsig=KILL", "--"]);
        }
        command
            .arg(&self.program)
            .arg(config)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Log::default());
        log.follow(child.stdout.take().unwrap());
        log.follow(child.stderr.take().unwrap());
        Pgweir {
            child,
            port,
            log,
            directory,
        }
    }
}

impl Pgweir {
    fn is_ready_in_time(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self
                .log
                .wait_until(Duration::from_millis(50), |log| log.contains(READY_LINE))
            {
                return true;
            }
            if !self.is_running() {
                // Let the readers see the end of what it wrote.
                self.log
                    .wait_until(Duration::from_millis(200), |log| log.contains("in use"));
                return false;
            }
        }
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
    }
}

/// What the process has written so far.
#[derive(Debug, Default)]
struct Log {
    text: Mutex<String>,
    grown: Condvar,
}

impl Log {
    fn follow(self: &Arc<Self>, pipe: impl Read + Send + 'static) {
        let log = Arc::clone(self);
        thread::spawn(move || {
            let mut reader = BufReader::new(pipe);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                log.text.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                log.grown.notify_all();
                line.clear();
            }
        });
    }

    fn wait_until(&self, longest: Duration, is_met: impl Fn(&str) -> bool) -> bool {
        let text = self.text.lock().unwrap();
        let (text, _) = self
            .grown
            .wait_timeout_while(text, longest, |text| !is_met(text))
            .unwrap();
        is_met(&text)
    }
}

fn write_config(directory: &Path, port: u16, config: &str) -> PathBuf {
    let has_listen = config.lines().any(|line| line.starts_with("listen"));
    let listen = if has_listen {
        String::new()
    } else {
        format!("listen = [\"127.0.0.1:{port}\"]\n")
    };
    let config = config.replace("{port}", &port.to_string());
    let path = directory.join("pgweir.toml");
    fs::write(&path, format!("{listen}{config}")).unwrap();
    path
}

/// The line that says that every address is open.
const READY_LINE: &str = "pgweir ready";

const PORT_ATTEMPTS_MAX: u32 = 3;
