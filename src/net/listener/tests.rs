use std::env;
use std::fs::File;
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustix::process::{Resource, Rlimit, getpid, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::net::stream::Stream;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn bind(entry: &str) -> Result<Vec<Listener>, BindError> {
    Listener::bind(&ListenAddr::parse(entry, 6432).unwrap())
}

fn bind_one(entry: &str) -> Listener {
    let mut bound = bind(entry).unwrap();
    assert_eq!(bound.len(), 1);
    bound.pop().unwrap()
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let first = bind_one("127.0.0.1:0");
    let entry = first.to_string();
    let error = bind(&entry).unwrap_err().to_string();
    assert!(error.contains(&entry) && error.contains("in use"), "{error}");
}

#[test]
fn a_star_is_every_interface() {
    let bound = bind("*:0").unwrap();
    assert!(
        bound
            .iter()
            .any(|listener| listener.local_addr().unwrap().ip() == Ipv4Addr::UNSPECIFIED)
    );
    assert!(!bind("localhost:0").unwrap().is_empty());
}

#[test]
fn an_address_of_another_machine_is_an_error() {
    assert!(bind("192.0.2.1:6432").is_err());
    assert!(bind("no-such-host.invalid:6432").is_err());
    assert!(bind("/no/such/directory").is_err());
}

#[test]
fn accepted_clients_may_go_to_any_event_loop() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().to_str().unwrap().to_owned();
    for entry in ["127.0.0.1:0", &path] {
        let listener = bind_one(entry);
        let name = listener.to_string();
        let (socket, address, _client) = runtime().block_on(async {
            let mut acceptor = Acceptor::new(listener).unwrap();
            let client = connect(&name);
            let (socket, address) = acceptor.accept().await.unwrap();
            (socket, address, client)
        });
        match address {
            ClientAddr::Tcp(address) => assert_eq!(Some(address), socket.peer_addr()),
            ClientAddr::Unix { pid, uid } => {
                assert_eq!(pid, Some(getpid().as_raw_nonzero().get()));
                assert!(uid.is_some());
            }
        }
        let mut stream = Stream::from(socket);
        runtime().block_on(async {
            stream.unpark().unwrap();
            stream.write_all(b"hello").await.unwrap();
        });
    }
}

/// A client; kept open by the caller.
fn connect(name: &str) -> Box<dyn Send> {
    if name.starts_with('/') {
        Box::new(net::UnixStream::connect(name).unwrap())
    } else {
        Box::new(std::net::TcpStream::connect(name).unwrap())
    }
}

#[test]
fn the_socket_file_is_open_to_all_and_goes_with_its_listener() {
    let directory = TempDir::new().unwrap();
    let file = socket_file(directory.path(), 6432);
    let listener = bind_one(directory.path().to_str().unwrap());
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o777);
    drop(listener);
    assert!(!file.exists());
    // So it does when it was accepting.
    let listener = bind_one(directory.path().to_str().unwrap());
    runtime().block_on(async { drop(Acceptor::new(listener).unwrap()) });
    assert!(!file.exists());
}

#[test]
fn a_stale_socket_file_is_replaced() {
    let directory = TempDir::new().unwrap();
    let file = socket_file(directory.path(), 6432);
    let left = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    left.bind(&SockAddr::unix(&file).unwrap()).unwrap();
    drop(left);
    assert!(file.exists());
    let _listener = bind_one(directory.path().to_str().unwrap());
    net::UnixStream::connect(&file).unwrap();
}

#[test]
fn a_socket_file_in_use_and_a_file_of_another_kind_stay() {
    let directory = TempDir::new().unwrap();
    let entry = directory.path().to_str().unwrap();
    let file = socket_file(directory.path(), 6432);
    let listener = bind_one(entry);
    let error = bind(entry).unwrap_err().to_string();
    assert!(error.contains("another process listens"), "{error}");
    net::UnixStream::connect(&file).unwrap();
    drop(listener);
    fs::write(&file, "precious").unwrap();
    let error = bind(entry).unwrap_err().to_string();
    assert!(error.contains("no socket"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn a_listener_leaves_the_file_of_its_successor_alone() {
    let directory = TempDir::new().unwrap();
    let file = socket_file(directory.path(), 6432);
    let first = bind_one(directory.path().to_str().unwrap());
    // Renamed, not removed: a removed file's number could be given to the next at once.
    fs::rename(&file, directory.path().join("old")).unwrap();
    let _second = bind_one(directory.path().to_str().unwrap());
    drop(first);
    net::UnixStream::connect(&file).unwrap();
}

#[test]
fn errors_of_one_client_do_not_pause_accepting() {
    let of = |errno: Errno| Trouble::of(&errno.into());
    assert_eq!(of(Errno::CONNABORTED), Trouble::Client);
    assert_eq!(of(Errno::PERM), Trouble::Client);
    assert_eq!(of(Errno::BADF), Trouble::Listener);
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::IO] {
        assert_eq!(of(errno), Trouble::Machine);
    }
    assert_eq!(Trouble::of(&ErrorKind::ConnectionAborted.into()), Trouble::Client);
}

#[test]
fn pauses_grow_up_to_their_limit_and_begin_anew() {
    runtime().block_on(async {
        let mut acceptor = Acceptor::new(bind_one("127.0.0.1:0")).unwrap();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let error: io::Result<()> = Err(Errno::MFILE.into());
            pauses.push(acceptor.settle(&error).unwrap().as_millis());
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(acceptor.settle(&Ok(())), None);
        assert_eq!(acceptor.settle::<()>(&Err(Errno::MFILE.into())), Some(PAUSE_MIN));
    });
}

/// The limit on file descriptors is the whole process's, so that the scene plays in one of its own.
#[test]
fn accepting_pauses_while_descriptors_are_short_and_resumes() {
    if env::var_os(SCENE).is_some() {
        return shortage();
    }
    let played = Command::new(env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("net::listener::tests::accepting_pauses_while_descriptors_are_short_and_resumes")
        .env(SCENE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&played.stdout) + String::from_utf8_lossy(&played.stderr);
    assert!(
        played.status.success() && text.contains("the scene was played"),
        "{text}"
    );
}

fn shortage() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        runtime().block_on(async {
            let listener = bind_one("127.0.0.1:0");
            let address = listener.local_addr().unwrap();
            let mut acceptor = Acceptor::new(listener).unwrap();
            let hard = getrlimit(Resource::Nofile).maximum;
            let limit = Rlimit {
                current: Some(64),
                maximum: hard,
            };
            setrlimit(Resource::Nofile, limit).unwrap();
            let _client = std::net::TcpStream::connect(address).unwrap();
            let mut hoard = Vec::new();
            while let Ok(file) = File::open("/dev/null") {
                hoard.push(file);
            }
            let mut accepting = Box::pin(acceptor.accept());
            // Three pauses long there is no client.
            let short = tokio::time::timeout(PAUSE_MIN * 7, &mut accepting).await;
            assert!(short.is_err());
            drop(hoard);
            accepting.await.unwrap();
            // It is over when it has not come again for a while.
            sleep(CALM).await;
            let _later = std::net::TcpStream::connect(address).unwrap();
            acceptor.accept().await.unwrap();
        });
    });
    let log = log.text();
    assert_eq!(log.matches("accepting clients pauses").count(), 1, "{log}");
    assert_eq!(log.matches("accepting clients again").count(), 1, "{log}");
    println!("the scene was played");
}

/// Where the log of a test goes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const SCENE: &str = "PGWEIR_TEST_SHORTAGE";
