//! A network that misbehaves on request, between two parties that do not know of it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Relays TCP connections to a port of this machine. Dropped, it cuts them all.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    network: Arc<Network>,
}

impl Proxy {
    pub(crate) fn before(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let network = Arc::new(Network::default());
        let accepting = Arc::clone(&network);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.is_over() {
                    return;
                }
                let server = if accepting.refuses() {
                    None
                } else {
                    TcpStream::connect((Ipv4Addr::LOCALHOST, target)).ok()
                };
                if let Some(server) = server {
                    accepting.join(client, server);
                }
            }
        });
        Self { port, network }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Nothing arrives any more, and nobody is told: a cable that was pulled.
    pub(crate) fn stall(&self) {
        self.network.change(|state| state.flow = Flow::Stalled);
    }

    /// What was held back arrives, and all that follows.
    pub(crate) fn resume(&self) {
        self.network.change(|state| state.flow = Flow::Whole);
    }

    /// From now on bytes arrive in pieces of at most this size.
    pub(crate) fn chop(&self, size: usize) {
        self.network.change(|state| state.flow = Flow::Chopped(size));
    }

    /// Closes all connections.
    pub(crate) fn cut(&self) {
        self.network.change(|state| {
            for stream in state.streams.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
    }

    /// Closes new connections at once, until [`Self::admit`].
    pub(crate) fn refuse(&self) {
        self.network.change(|state| state.door = Door::Closed);
    }

    /// New connections are made, but nothing gets through on them until [`Self::admit`].
    pub(crate) fn hold(&self) {
        self.network.change(|state| state.door = Door::Held);
    }

    pub(crate) fn admit(&self) {
        self.network.change(|state| {
            state.door = Door::Open;
            state.held = 0;
        });
    }

    /// How many connections are held.
    pub(crate) fn held(&self) -> usize {
        self.network.state.lock().unwrap().held
    }

    /// From now on what comes from clients is remembered.
    pub(crate) fn record(&self) {
        self.network.change(|state| state.heard = Some(Vec::new()));
    }

    /// What has come from clients since it is remembered, piece by piece as it was read.
    pub(crate) fn heard(&self) -> Vec<Vec<u8>> {
        self.network
            .state
            .lock()
            .unwrap()
            .heard
            .clone()
            .unwrap_or_default()
    }

    /// How many connections it has relayed so far.
    pub(crate) fn accepted(&self) -> usize {
        self.network.state.lock().unwrap().accepted
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.network.change(|state| state.door = Door::Gone);
        self.cut();
        self.resume();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

#[derive(Debug, Default)]
struct Network {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    flow: Flow,
    door: Door,
    accepted: usize,
    held: usize,
    streams: Vec<TcpStream>,
    heard: Option<Vec<Vec<u8>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Flow {
    #[default]
    Whole,
    Chopped(usize),
    Stalled,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Door {
    #[default]
    Open,
    Closed,
    Held,
    Gone,
}

impl Network {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    fn refuses(&self) -> bool {
        self.state.lock().unwrap().door == Door::Closed
    }

    fn is_over(&self) -> bool {
        self.state.lock().unwrap().door == Door::Gone
    }

    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let copies = [client.try_clone().unwrap(), server.try_clone().unwrap()];
        let mut is_held = false;
        self.change(|state| {
            state.accepted += 1;
            state.streams.extend(copies);
            is_held = state.door == Door::Held;
            state.held += usize::from(is_held);
        });
        let [from, to] = [client.try_clone().unwrap(), server.try_clone().unwrap()];
        for (from, to, direction) in [
            (from, to, Direction::ToServer),
            (server, client, Direction::ToClient),
        ] {
            let network = Arc::clone(self);
            thread::spawn(move || {
                if is_held {
                    network.wait_for_admittance();
                }
                network.pump(from, to, direction);
            });
        }
    }

    fn wait_for_admittance(&self) {
        let state = self.state.lock().unwrap();
        drop(
            self.changed
                .wait_while(state, |state| state.door == Door::Held)
                .unwrap(),
        );
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, direction: Direction) {
        to.set_nodelay(true).unwrap();
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let mut rest = &buffer[..length];
            if direction == Direction::ToServer
                && let Some(heard) = &mut self.state.lock().unwrap().heard
            {
                heard.push(rest.to_vec());
            }
            while !rest.is_empty() {
                let size = self.piece_max().min(rest.len());
                if to.write_all(&rest[..size]).is_err() {
                    let _ = from.shutdown(Shutdown::Both);
                    return;
                }
                rest = &rest[size..];
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    /// How much may be written at once; waits while nothing may.
    fn piece_max(&self) -> usize {
        let state = self.state.lock().unwrap();
        let state = self
            .changed
            .wait_while(state, |state| state.flow == Flow::Stalled)
            .unwrap();
        match state.flow {
            Flow::Chopped(size) => size,
            Flow::Whole | Flow::Stalled => usize::MAX,
        }
    }
}
