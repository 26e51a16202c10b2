//! The wiring, once: from a configuration to a process that serves, reloads and ends.

mod alarm;
mod client;
mod descriptors;
mod directory;
mod logging;
mod memory;
mod reload;
mod route;
mod wards;
mod worker;

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use rand::Rng;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use crate::admin::Console;
use crate::config::{Config, Problems};
use crate::http;
use crate::net::addr::ListenAddr;
use crate::net::listener::{Acceptor, Listener};
use crate::pool::clock::Clock;
use crate::pool::derive::Deriver;
use crate::pool::mail::{Inquiry, Mail, Post};
use crate::pool::registry::Registry;
use crate::pool::worker::WORKERS_MAX;
use crate::relay::hub::{Control, Hub, Parts, Shutdown};

use alarm::{Alarm, Gone};
use wards::Wards;

pub use logging::Log;
pub use route::{Told, route};

/// Reads the configuration, at the start and at each reload.
pub type Loader = Box<dyn Fn() -> Result<Config, Problems>>;

/// A process that serves clients.
#[derive(Debug)]
pub struct App {
    hub: Arc<Hub>,
    control: mpsc::Receiver<Control>,
    bell: mpsc::Receiver<Gone>,
    acceptors: JoinSet<()>,
    /// What runs beside the workers for as long as the process does.
    own: JoinSet<()>,
    wards: Wards,
    mock_secret: [u8; 32],
    drain_timeout: std::time::Duration,
    max_memory: watch::Sender<Option<u64>>,
}

impl App {
    /// Serves until it is told to end. Says so in the log when clients can connect. Runs on a runtime of its own, beside the
    /// workers' threads.
    ///
    /// # Errors
    /// What keeps it from starting, or from going on.
    pub fn run(loader: &Loader, config: Config, log: &Log) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut app =
                Self::start(config).map_err(|error| io::Error::other(format!("cannot start: {error}")))?;
            app.steer(loader, log).await
        })
    }

    fn start(config: Config) -> io::Result<Self> {
        descriptors::raise(config.max_clients);
        let workers = workers(config.workers);
        let listeners = bind(&config.listen)?;
        let http_listeners = bind(config.http_listen.as_slice())?;
        let clock = Clock::starting_at(Instant::now());
        let (post, boxes) = Post::new(workers);
        let (alarms, bell) = alarm::bell();
        let (control_sender, control) = mpsc::channel(CONTROL_MAX);
        let mut secrets = [[0; 32]; 2];
        rand::rng().fill(secrets.as_flattened_mut());
        let [mock_secret, deriver_key] = secrets;
        let drain_timeout = config.drain_timeout;
        let (max_memory, limit) = watch::channel(config.max_memory);
        let config = Arc::new(config);
        let directory = directory::directory(&config, mock_secret).map_err(io::Error::other)?;
        let hub = Hub::new(Parts {
            registry: Registry::new(workers, clock),
            post,
            directory,
            deriver: Deriver::new(workers.div_ceil(2), deriver_key),
            control: control_sender,
            started: SystemTime::now(),
        });
        let console = Console::new(Arc::clone(&hub));
        let mut own = JoinSet::new();
        own.spawn(Arc::clone(&console).watch());
        own.spawn(memory::keep(Arc::clone(&hub.memory), limit));
        for (index, mail) in boxes.into_iter().enumerate() {
            let alarm = Alarm::new(format!("worker {index}"), &alarms);
            worker::spawn(Arc::clone(&console), index, mail, alarm)?;
        }
        let mut wards = Wards::new(&alarms);
        wards.set(&hub, &hub.directory.load())?;
        found_pools(&hub);
        let addresses: Vec<String> = listeners.iter().map(ToString::to_string).collect();
        let mut acceptors = JoinSet::new();
        for listener in listeners {
            acceptors.spawn(accept(hub.post.clone(), Acceptor::new(listener)?));
        }
        let http = start_http(&hub, http_listeners)?;
        tracing::info!(workers, listen = addresses.join(", "), http, "pgweir ready");
        Ok(Self {
            hub,
            control,
            bell,
            acceptors,
            own,
            wards,
            mock_secret,
            drain_timeout,
            max_memory,
        })
    }

    /// Obeys signals and the console until the end.
    async fn steer(&mut self, loader: &Loader, log: &Log) -> io::Result<()> {
        let mut signals = Signals::new()?;
        let mut looks = interval(IDLE_LOOK);
        loop {
            let ends = tokio::select! {
                signal = signals.next() => self.on_signal(signal, loader, log).await,
                control = self.control.recv() => match control {
                    Some(control) => self.on_control(control, loader, log).await,
                    None => pending().await,
                },
                error = loss(&mut self.bell, [&mut self.acceptors, &mut self.own]) => return Err(error),
                _ = looks.tick() => {
                    self.hub.answers.close_idle(self.hub.registry.clock.now());
                    None
                }
            };
            match ends {
                None => {}
                Some(Shutdown::Now) => return Ok(()),
                Some(Shutdown::Drain) => return self.drain(&mut signals).await,
            }
        }
    }

    async fn on_signal(&mut self, signal: Wish, loader: &Loader, log: &Log) -> Option<Shutdown> {
        match signal {
            Wish::Reload => {
                if let Err(problems) = self.reload(loader, log).await {
                    tracing::error!("reload failed, nothing has changed: {problems}");
                }
                None
            }
            Wish::Pause => {
                self.set_paused(None, true).await;
                None
            }
            Wish::Resume => {
                self.set_paused(None, false).await;
                None
            }
            Wish::Drain => Some(Shutdown::Drain),
            Wish::Quit => Some(Shutdown::Now),
        }
    }

    async fn on_control(&mut self, control: Control, loader: &Loader, log: &Log) -> Option<Shutdown> {
        match control {
            Control::Reload(reply) => {
                let done = self.reload(loader, log).await;
                if let Err(problems) = &done {
                    tracing::error!("reload failed, nothing has changed: {problems}");
                }
                let _ = reply.send(done);
                None
            }
            Control::Pause(database, reply) => {
                self.set_paused(database.as_deref(), true).await;
                self.answer_when_closed(database, reply);
                None
            }
            Control::Resume(database, reply) => {
                let was_paused = self.hub.registry.is_paused(database.as_deref());
                self.set_paused(database.as_deref(), false).await;
                let answer = if was_paused {
                    Ok(())
                } else {
                    Err("pooler is not paused/suspended".to_owned())
                };
                let _ = reply.send(answer);
                None
            }
            Control::Echo(reply) => {
                let _ = reply.send(());
                None
            }
            Control::Shutdown(how) => {
                tracing::info!("the console asks for the end");
                Some(how)
            }
        }
    }

    async fn reload(&mut self, loader: &Loader, log: &Log) -> Result<(), String> {
        let config = loader().map_err(|problems| problems.to_string())?;
        let config = Arc::new(config);
        let directory = directory::directory(&config, self.mock_secret).map_err(|error| error.to_string())?;
        log.change(config.log_level, config.log_format);
        self.drain_timeout = config.drain_timeout;
        self.max_memory.send_replace(config.max_memory);
        reload::apply(&self.hub, directory).await;
        self.wards
            .set(&self.hub, &self.hub.directory.load())
            .map_err(|error| error.to_string())?;
        found_pools(&self.hub);
        tracing::info!("configuration reloaded");
        Ok(())
    }

    async fn set_paused(&self, database: Option<&str>, paused: bool) {
        self.hub.registry.set_paused(database, paused);
        reload::tell(&self.hub, || Inquiry::Recheck).await;
        tracing::info!(database, "{}", if paused { "paused" } else { "resumed" });
    }

    /// PAUSE is done when every server connection is closed; a RESUME meanwhile ends the wait.
    fn answer_when_closed(&self, database: Option<String>, reply: oneshot::Sender<Result<(), String>>) {
        let hub = Arc::clone(&self.hub);
        tokio::spawn(async move {
            while hub.registry.is_paused(database.as_deref()) && hub.registry.open(database.as_deref()) > 0 {
                if reply.is_closed() {
                    return;
                }
                sleep(PAUSE_LOOK).await;
            }
            let _ = reply.send(Ok(()));
        });
    }

    /// Stops accepting and lets transactions end. Another INT or TERM ends it at once.
    async fn drain(&mut self, signals: &mut Signals) -> io::Result<()> {
        tracing::info!(clients = self.hub.clients(), "draining");
        self.acceptors.shutdown().await;
        self.hub.drain();
        reload::tell(&self.hub, || Inquiry::Drain).await;
        let hub = Arc::clone(&self.hub);
        let empty = async move {
            while hub.clients() > 0 {
                sleep(PAUSE_LOOK).await;
            }
        };
        let limit = self.drain_timeout;
        tokio::select! {
            done = timeout(limit, empty) => {
                if done.is_err() {
                    tracing::warn!(clients = self.hub.clients(), "not everybody has left in time");
                    reload::tell(&self.hub, || Inquiry::Kill).await;
                    let last = async { while self.hub.clients() > 0 { sleep(PAUSE_LOOK).await } };
                    let _ = timeout(KILL_MAX, last).await;
                }
            }
            error = loss(&mut self.bell, [&mut self.acceptors, &mut self.own]) => return Err(error),
            () = signals.impatience() => tracing::warn!(clients = self.hub.clients(), "ending at once"),
            () = refuse(&mut self.control) => tracing::warn!(clients = self.hub.clients(), "ending at once"),
        }
        tracing::info!("pgweir ends");
        Ok(())
    }
}

/// Serves metrics and health, if an address is set; answers what was bound.
fn start_http(hub: &Arc<Hub>, listeners: Vec<Listener>) -> io::Result<Option<String>> {
    if listeners.is_empty() {
        return Ok(None);
    }
    let addresses: Vec<String> = listeners.iter().map(ToString::to_string).collect();
    http::spawn(Arc::clone(hub), listeners)?;
    Ok(Some(addresses.join(", ")))
}

/// Waits until something is gone without which the process cannot serve: whoever has started it is to start it again.
/// Cancel-safe.
async fn loss(bell: &mut mpsc::Receiver<Gone>, tasks: [&mut JoinSet<()>; 2]) -> io::Error {
    let [acceptors, own] = tasks;
    loop {
        tokio::select! {
            Some(gone) = bell.recv() => return io::Error::other(gone),
            // One whose socket is lost has said so, and the others go on.
            Some(ended) = acceptors.join_next() => if let Err(panic) = ended {
                return io::Error::other(panic);
            },
            Some(ended) = own.join_next() => if let Err(panic) = ended {
                return io::Error::other(panic);
            },
            else => pending().await,
        }
    }
}

/// While it drains, the console can have the end at once, and nothing else.
async fn refuse(control: &mut mpsc::Receiver<Control>) {
    while let Some(wish) = control.recv().await {
        match wish {
            Control::Reload(reply) | Control::Pause(_, reply) | Control::Resume(_, reply) => {
                let _ = reply.send(Err("pooler is shutting down".to_owned()));
            }
            Control::Echo(reply) => _ = reply.send(()),
            Control::Shutdown(Shutdown::Drain) => {}
            Control::Shutdown(Shutdown::Now) => return,
        }
    }
}

/// Pools whose user is in the URL need not wait for a client: they keep their minimum from the start.
fn found_pools(hub: &Arc<Hub>) {
    let directory = hub.directory.load_full();
    for (name, entry) in &directory.databases {
        let Some(user) = &entry.user else { continue };
        let settings = (directory.settings)(name, user);
        if settings.min_pool_size == 0 {
            continue;
        }
        let target = entry.target(name, user, entry.secret.clone());
        let _ = hub.registry.pool(name, user, 0, || (settings, target));
    }
    for pool in hub.registry.pools() {
        if pool.settings().min_pool_size > 0 {
            let _ = hub.post.try_send(0, Mail::Inquiry(Inquiry::Found(pool)));
        }
    }
}

fn workers(wanted: usize) -> usize {
    let wanted = match wanted {
        // What the scheduler and the control group allow.
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        wanted => wanted,
    };
    wanted.min(usize::try_from(WORKERS_MAX).unwrap_or(usize::MAX))
}

fn bind(entries: &[ListenAddr]) -> io::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for entry in entries {
        listeners.extend(Listener::bind(entry).map_err(io::Error::other)?);
    }
    Ok(listeners)
}

/// Accepts clients and gives them to the workers in turn.
async fn accept(post: Post, mut acceptor: Acceptor) {
    let mut turn = 0;
    loop {
        match acceptor.accept().await {
            Ok((socket, address)) => {
                if !post.send_to_any(turn, Mail::Client(socket, address)).await {
                    tracing::error!("a worker is gone; its clients cannot be served");
                }
                turn = turn.wrapping_add(1);
            }
            Err(error) => {
                tracing::error!("a listening socket is lost: {error}");
                return;
            }
        }
    }
}

/// Watches for INT and TERM from now on, on a thread of its own: the answer says whether one has come.
///
/// # Errors
/// The system gives no thread or no handler.
pub fn watch_interrupts() -> io::Result<impl Fn() -> bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut signals = runtime.block_on(async { Signals::new() })?;
    let come = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&come);
    std::thread::Builder::new()
        .name("interrupts".to_owned())
        .spawn(move || {
            runtime.block_on(signals.impatience());
            flag.store(true, Ordering::Release);
        })?;
    Ok(move || come.load(Ordering::Acquire))
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Reload,
    Drain,
    Quit,
    Pause,
    Resume,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Cancel-safe.
    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.hangup.recv() => Wish::Reload,
            _ = self.terminate.recv() => Wish::Drain,
            _ = self.interrupt.recv() => Wish::Drain,
            _ = self.quit.recv() => Wish::Quit,
            _ = self.user1.recv() => Wish::Pause,
            _ = self.user2.recv() => Wish::Resume,
        }
    }

    /// While it drains: somebody does not want to wait.
    async fn impatience(&mut self) {
        loop {
            if matches!(self.next().await, Wish::Drain | Wish::Quit) {
                return;
            }
        }
    }
}

/// Wishes of the console that wait for each other.
const CONTROL_MAX: usize = 64;
/// How often it is looked for connections of the auth query that have been idle for too long.
const IDLE_LOOK: std::time::Duration = std::time::Duration::from_secs(10);
/// How often a pause and a drain look whether they are done.
const PAUSE_LOOK: std::time::Duration = std::time::Duration::from_millis(10);
/// For the last words to those who did not leave in time.
const KILL_MAX: std::time::Duration = std::time::Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_that_is_gone_ends_the_process() {
        let (alarms, mut bell) = alarm::bell();
        let mut acceptors = JoinSet::new();
        acceptors.spawn(async {});
        drop(Alarm::new("worker 3".to_owned(), &alarms));
        let error = loss(&mut bell, [&mut acceptors, &mut JoinSet::new()]).await;
        assert!(error.to_string().starts_with("worker 3 has ended"), "{error}");
    }

    #[tokio::test]
    async fn a_panic_where_clients_are_accepted_or_beside_the_workers_ends_the_process() {
        let (_alarms, mut bell) = alarm::bell();
        for place in [0, 1] {
            let mut sets = [JoinSet::new(), JoinSet::new()];
            // The socket of this one was lost.
            sets[0].spawn(async {});
            sets[place].spawn(async { panic!("planted: beside the workers") });
            let [acceptors, own] = &mut sets;
            let error = loss(&mut bell, [acceptors, own]).await;
            assert!(
                error.to_string().contains("planted: beside the workers"),
                "{error}"
            );
        }
    }
}
