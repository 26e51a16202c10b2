//! The cost of taking a connection out of its pool and giving it back, on its own worker.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails may stop")]

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use divan::Bencher;
use pgweir::net::dial::{Encryption, ExactAddr};
use pgweir::net::keepalive::Keepalive;
use pgweir::net::stream::{Socket, Stream};
use pgweir::net::tls::{ServerTls, TlsMode};
use pgweir::pool::clock::Clock;
use pgweir::pool::conn::{Cancels, ServerConn, ServerInfo};
use pgweir::pool::derive::Deriver;
use pgweir::pool::ledger::{Accounts, Starving};
use pgweir::pool::local::LocalPool;
use pgweir::pool::mail::Post;
use pgweir::pool::settings::PoolSettings;
use pgweir::pool::shared::{Founding, PoolShared};
use pgweir::pool::target::{SessionAttrs, Target};
use pgweir::pool::worker::Worker;
use pgweir::protocol::{CancelKey, Parameters};
use pgweir::session::flow::Naming;
use pgweir::session::login::{BindingRule, ServerSecret};
use pgweir::session::{Flow, ServerState};

fn main() {
    divan::main();
}

/// A connection that is idle and in order: what each transaction does.
#[divan::bench(min_time = MIN_TIME)]
fn lease_and_return(bencher: Bencher<'_, '_>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        let pool = pool();
        let (ours, _servers) = tokio::io::duplex(64);
        pool.accept(Box::new(connection(&pool, Stream::from(Socket::memory(ours)))));
        bencher.bench_local(|| {
            let mut lease = pool.try_lease().unwrap();
            let server = &mut lease.conn().state;
            let rest = Flow::new(Naming::Mapped { max: 200 }, server)
                .into_rest(server)
                .unwrap();
            lease.give_back(&rest);
        });
    });
}

fn pool() -> Rc<LocalPool> {
    let clock = Clock::starting_at(Instant::now());
    let starving = Arc::new(Starving::new(1));
    let (post, _letters) = Post::new(1);
    let worker = Worker::new(0, clock, post, Arc::clone(&starving), Deriver::new(1, [0; 32]));
    let founding = Founding {
        id: 1,
        database: "app".into(),
        user: "app".into(),
        place: 0,
        accounts: Accounts {
            pool: Arc::default(),
            database: Arc::default(),
            user: Arc::default(),
        },
        settings: PoolSettings::default(),
        target: Target {
            hosts: Vec::new(),
            shuffled: false,
            tls: Arc::new(ServerTls::DISABLED),
            keepalive: keepalive(),
            database: "app".into(),
            user: "app".into(),
            parameters: Vec::new(),
            session_attrs: SessionAttrs::Any,
            secret: ServerSecret::None,
            binding_rule: BindingRule::default(),
            reread: None,
        },
        workers: 1,
        catalog: Arc::default(),
    };
    worker.pool(&Arc::new(PoolShared::new(founding, clock, starving)))
}

fn connection(pool: &LocalPool, stream: Stream) -> ServerConn {
    let cancel_key = CancelKey {
        process_id: 1,
        secret: [0; 4].into(),
    };
    let info = ServerInfo {
        id: 1,
        address: ExactAddr::Unix(std::path::Path::new("/none").into()),
        local: None,
        encryption: Encryption::first(TlsMode::Disable),
        tls: Arc::new(ServerTls::DISABLED),
        keepalive: keepalive(),
        cancel_key: cancel_key.clone(),
        connected_at: 1,
        database: "app".into(),
        user: "app".into(),
        epoch: 0,
        statements: Default::default(),
        cancels: Cancels::default(),
    };
    let state = ServerState::new(1, cancel_key, Parameters::new());
    ServerConn::new(stream, state, info, 0, pool.shared.try_open(false).unwrap())
}

fn keepalive() -> Keepalive {
    Keepalive {
        idle: Duration::ZERO,
        user_timeout: Duration::ZERO,
    }
}

/// Enough for a median that holds on a busy machine.
const MIN_TIME: Duration = Duration::from_millis(500);
