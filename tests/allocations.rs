//! A query costs no allocation once its client, its statement and its connection have been seen.
//!
//! The whole pooler runs in this process, and every allocation of the process is counted.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::indexing_slicing, reason = "a wrong index is a failed test")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use pgweir::app::{App, Loader, Log};
use pgweir::config::{Config, Disk, Environment, Flags, LogFormat, LogLevel, Sources};
use pgweir::demo::cluster::{Binaries, Instance, InstanceOptions, Recipe, Template, port};
use pgweir::protocol::{tag, write};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

#[test]
fn queries_allocate_nothing() {
    let _counted = dhat::Profiler::builder().testing().build();
    let binaries = Binaries::find().unwrap();
    let recipe = Recipe::trust();
    let template = Template::cached(binaries, &recipe, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let mut postgres = template.instance(&InstanceOptions::default()).unwrap();
    postgres.start().unwrap();
    // Texts are searched for it.
    let hidden = "CREATE FUNCTION hidden(a point, b point) RETURNS text LANGUAGE sql AS $$ SELECT set_config('a.b', 'c', false) $$;
        CREATE OPERATOR <~+~> (FUNCTION = hidden, LEFTARG = point, RIGHTARG = point)";
    postgres.query("postgres", hidden).unwrap();
    let mut replicas: Vec<_> = (0..2)
        .map(|_| {
            template
                .replica_of(&postgres, &InstanceOptions::default())
                .unwrap()
        })
        .collect();
    for replica in &mut replicas {
        replica.start().unwrap();
        replica.wait_for_replay(&postgres).unwrap();
    }
    let url = |instance: &Instance| instance.url("postgres", "postgres");
    let port = serve(&url(&postgres), &replicas.iter().map(url).collect::<Vec<_>>());
    let mut clients: Vec<_> = (0..4).map(|_| Client::log_in(port, "app")).collect();

    let simple = query("SELECT 1");
    nothing_is_allocated("simple", || clients[0].ask(&simple));
    let extended = [parse("", "SELECT $1::int"), run("")].concat();
    nothing_is_allocated("extended", || clients[0].ask(&extended));
    let prepare = [parse("named", "SELECT $1::int"), message(tag::SYNC, &[])].concat();
    clients.iter_mut().for_each(|client| client.ask(&prepare));
    let prepared = run("named");
    nothing_is_allocated("prepared, clients in turn", || {
        clients.iter_mut().for_each(|client| client.ask(&prepared));
    });
    let begin = query("BEGIN");
    let commit = query("COMMIT");
    nothing_is_allocated("a block", || {
        for part in [&begin, &prepared, &commit] {
            clients[0].ask(part);
        }
    });
    // More than the pool has connections: some of them wait.
    nothing_is_allocated("a queue", || {
        clients.iter_mut().for_each(|client| client.send(&simple));
        clients.iter_mut().for_each(Client::wait);
    });
    drop(clients);
    reads_allocate_nothing(&mut Client::log_in(port, "routed"));
}

/// Wherever they are routed to.
fn reads_allocate_nothing(client: &mut Client) {
    let simple = query("SELECT 1");
    let route = query("SHOW pgweir.route");
    let deadline = Instant::now() + PATIENCE;
    while !client.has_heard("replica") {
        assert!(Instant::now() < deadline, "no read goes to a replica");
        client.ask(&simple);
        client.ask(&route);
    }
    nothing_is_allocated("routed, the same text", || client.ask(&simple));
    let texts: Vec<_> = (0..WARM_UP + 10 * ROUNDS_MAX)
        .map(|number| query(&format!("SELECT {number}")))
        .collect();
    let mut others = texts.iter();
    nothing_is_allocated("routed, other literals", || client.ask(others.next().unwrap()));
    let extended = [parse("", "SELECT $1::int"), run("")].concat();
    nothing_is_allocated("routed, extended", || client.ask(&extended));
    client.ask(&[parse("named", "SELECT $1::int"), message(tag::SYNC, &[])].concat());
    let prepared = run("named");
    nothing_is_allocated("routed, prepared", || client.ask(&prepared));
    let (begin, commit) = (query("BEGIN READ ONLY"), query("COMMIT"));
    nothing_is_allocated("routed, a block", || {
        for part in [&begin, &prepared, &simple, &commit] {
            client.ask(part);
        }
    });
    client.ask(&route);
    assert!(client.has_heard("replica"));
}

/// A pooler with one worker and two connections, and the same server with replicas as another database; never ends.
fn serve(url: &str, replicas: &[String]) -> u16 {
    let port = port::free().unwrap();
    let text = format!(
        "listen = [\"127.0.0.1:{port}\"]\nworkers = 1\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{url}\"\npool_size = 2\n\
         [databases.routed]\nurl = \"{url}\"\nread_replicas = {replicas:?}\npool_size = 2\n"
    );
    thread::spawn(move || {
        let loader: Loader = Box::new(move || {
            let sources = Sources {
                environment: &Environment::default(),
                files: &Disk,
                flags: &Flags::default(),
            };
            Config::parse(Path::new("pgweir.toml"), &text, &sources)
        });
        let log = Log::start(LogLevel::Warn, LogFormat::Text);
        let config = loader().unwrap();
        App::run(&loader, config, &log).unwrap();
    });
    port
}

/// Now and then the clock of a worker makes a list of who is busy: that is not for a query, so the best of some rounds counts.
fn nothing_is_allocated(what: &str, mut ask: impl FnMut()) {
    for _ in 0..WARM_UP {
        ask();
    }
    let mut fewest = u64::MAX;
    for _ in 0..ROUNDS_MAX {
        let before = dhat::HeapStats::get().total_blocks;
        for _ in 0..10 {
            ask();
        }
        fewest = fewest.min(dhat::HeapStats::get().total_blocks - before);
        if fewest == 0 {
            return;
        }
    }
    assert_eq!(fewest, 0, "{what}");
}

/// A client that allocates nothing itself once it has logged in.
struct Client {
    stream: TcpStream,
    buffer: Box<[u8]>,
    filled: usize,
}

impl Client {
    fn log_in(port: u16, database: &str) -> Self {
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            thread::yield_now();
        };
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self {
            stream,
            buffer: vec![0; 16 * 1024].into(),
            filled: 0,
        };
        let mut startup = vec![0, 0, 0, 0, 0, 3, 0, 0];
        startup.extend_from_slice(format!("user\0postgres\0database\0{database}\0\0").as_bytes());
        startup[3] = u8::try_from(startup.len()).unwrap();
        client.send(&startup);
        client.wait();
        client
    }

    fn send(&mut self, request: &[u8]) {
        self.stream.write_all(request).unwrap();
    }

    /// Up to the next ReadyForQuery, the last that comes.
    fn wait(&mut self) {
        self.filled = 0;
        loop {
            let count = self.stream.read(&mut self.buffer[self.filled..]).unwrap();
            assert!(count > 0, "the connection was closed");
            self.filled += count;
            let came = &self.buffer[..self.filled];
            if let Some([tag::READY_FOR_QUERY, 0, 0, 0, 5, _]) = came.last_chunk() {
                return;
            }
        }
    }

    /// Whether what came last has this word.
    fn has_heard(&self, word: &str) -> bool {
        let came = &self.buffer[..self.filled];
        came.windows(word.len()).any(|part| part == word.as_bytes())
    }

    fn ask(&mut self, request: &[u8]) {
        self.send(request);
        self.wait();
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    let frame = write::Frame::begin(&mut message, tag);
    message.extend_from_slice(body);
    frame.end(&mut message);
    message
}

fn query(sql: &str) -> Vec<u8> {
    message(tag::QUERY, &[sql.as_bytes(), b"\0"].concat())
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(
        tag::PARSE,
        &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat(),
    )
}

/// Binds the value 1 to a statement, and executes it.
fn run(name: &str) -> Vec<u8> {
    let bind = [b"\0", name.as_bytes(), b"\0\0\0\0\x01\0\0\0\x011\0\0"].concat();
    [
        message(tag::BIND, &bind),
        message(tag::DESCRIBE, b"P\0"),
        message(tag::EXECUTE, b"\0\0\0\0\0"),
        message(tag::SYNC, &[]),
    ]
    .concat()
}

const WARM_UP: usize = 200;
const ROUNDS_MAX: usize = 200;
const PATIENCE: Duration = Duration::from_secs(30);
