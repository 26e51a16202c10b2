use std::net::{TcpListener, TcpStream as StdTcpStream};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::thread;

use socket2::SockRef;
use tokio::runtime::{Builder, Runtime};

use super::*;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn tcp_pair() -> (Socket, StdTcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = StdTcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    (Socket::parked_tcp(ours).unwrap(), theirs)
}

/// Reads on this thread's loop until `want` has come.
async fn expect(stream: &mut Stream, want: &[u8]) {
    let mut got = Vec::new();
    let mut buf = [0; 3];
    while got.len() < want.len() {
        let room = buf.len().min(want.len() - got.len());
        let count = stream.read(&mut buf[..room]).await.unwrap();
        assert_ne!(count, 0, "the end came early");
        got.extend_from_slice(&buf[..count]);
    }
    assert_eq!(got, want);
}

#[test]
fn a_stream_is_small_and_may_be_sent() {
    fn sent<T: Send + Unpin>() {}
    sent::<Stream>();
    assert!(size_of::<Stream>() <= 40, "{}", size_of::<Stream>());
}

#[test]
fn small_messages_are_not_held_back() {
    let (socket, _peer) = tcp_pair();
    let State::ParkedTcp(inner) = &socket.state else {
        panic!("not parked")
    };
    assert!(SockRef::from(inner).tcp_nodelay().unwrap());
}

#[test]
fn a_parked_stream_refuses_to_read_and_write() {
    let (socket, _peer) = tcp_pair();
    let mut stream = Stream::from(socket);
    runtime().block_on(async {
        assert!(stream.read(&mut [0; 8]).await.is_err());
        assert!(stream.write_all(b"x").await.is_err());
        stream.unpark().unwrap();
        stream.write_all(b"x").await.unwrap();
        stream.park().unwrap();
        assert!(stream.write_all(b"x").await.is_err());
    });
}

#[test]
fn unparking_without_an_event_loop_is_an_error() {
    let (mut socket, _peer) = tcp_pair();
    assert!(socket.unpark().is_err());
    runtime().block_on(async { socket.unpark().unwrap() });
}

#[test]
fn a_stream_moves_between_the_event_loops_of_two_threads() {
    let (tcp, mut tcp_peer) = tcp_pair();
    let (unix, mut unix_peer) = StdUnixStream::pair().unwrap();
    move_across(tcp.into(), &mut tcp_peer);
    move_across(Socket::parked_unix(unix).unwrap().into(), &mut unix_peer);
}

fn move_across(mut stream: Stream, peer: &mut impl io::Write) {
    let here = runtime();
    peer.write_all(b"first, and second").unwrap();
    here.block_on(async {
        stream.unpark().unwrap();
        expect(&mut stream, b"first").await;
        stream.park().unwrap();
    });
    // What came while it was parked is not lost either.
    peer.write_all(b", third").unwrap();
    let mut stream = thread::spawn(move || {
        runtime().block_on(async move {
            stream.unpark().unwrap();
            expect(&mut stream, b", and second, third").await;
            stream.park().unwrap();
            stream
        })
    })
    .join()
    .unwrap();
    peer.write_all(b", fourth").unwrap();
    here.block_on(async {
        stream.unpark().unwrap();
        expect(&mut stream, b", fourth").await;
    });
}

#[test]
fn the_end_of_the_peer_is_read_as_zero() {
    let (socket, peer) = tcp_pair();
    let mut stream = Stream::from(socket);
    drop(peer);
    runtime().block_on(async {
        stream.unpark().unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    });
}

#[test]
fn a_write_larger_than_the_socket_holds_goes_out_whole() {
    let (ours, theirs) = tokio::io::duplex(7);
    let mut ours = Stream::from(Socket::memory(ours));
    let mut theirs = Stream::from(Socket::memory(theirs));
    let bytes: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    runtime().block_on(async {
        let (written, ()) = tokio::join!(ours.write_all(&bytes), expect(&mut theirs, &bytes));
        written.unwrap();
    });
}

#[test]
fn what_a_socket_does_not_take_at_once_follows() {
    let (tcp, tcp_peer) = tcp_pair();
    let (unix, unix_peer) = StdUnixStream::pair().unwrap();
    write_much(tcp.into(), tcp_peer);
    write_much(Socket::parked_unix(unix).unwrap().into(), unix_peer);
}

fn write_much(mut stream: Stream, mut peer: impl io::Read + Send + 'static) {
    let bytes: Vec<u8> = (0..=255).cycle().take(16 * 1024 * 1024).collect();
    let reader = thread::spawn(move || {
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        got
    });
    runtime().block_on(async {
        stream.unpark().unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    assert!(reader.join().unwrap() == bytes);
}

#[test]
fn after_a_short_read_a_stream_is_known_to_be_quiet() {
    let (socket, mut peer) = tcp_pair();
    let mut stream = Stream::from(socket);
    runtime().block_on(async {
        stream.unpark().unwrap();
        io::Write::write_all(&mut peer, b"abcd").unwrap();
        let mut buf = [0; 2];
        assert_eq!(stream.read(&mut buf).await.unwrap(), 2);
        assert!(!stream.is_quiet(), "there may be more");
        let mut buf = [0; 8];
        assert_eq!(stream.read(&mut buf).await.unwrap(), 2);
        assert!(stream.is_quiet());
    });
}

#[test]
fn a_peer_that_always_has_more_to_say_leaves_others_their_turn() {
    let (unix, mut peer) = StdUnixStream::pair().unwrap();
    let mut stream = Stream::from(Socket::parked_unix(unix).unwrap());
    io::Write::write_all(&mut peer, &[0; 4096]).unwrap();
    let is_done = std::cell::Cell::new(false);
    runtime().block_on(async {
        stream.unpark().unwrap();
        let reader = async {
            for _ in 0..4096 {
                assert_eq!(stream.read(&mut [0]).await.unwrap(), 1);
            }
            is_done.set(true);
        };
        let other = async { assert!(!is_done.get()) };
        tokio::join!(biased; reader, other);
    });
}
