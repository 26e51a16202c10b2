#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use crate::net::dial::{Encryption, ExactAddr};
use crate::net::keepalive::Keepalive;
use crate::net::stream::{Socket, Stream};
use crate::net::tls::{ServerTls, TlsMode};
use crate::pool::clock::Clock;
use crate::pool::conn::Cancels;
use crate::pool::derive::Deriver;
use crate::pool::ledger::{Accounts, Starving};
use crate::pool::mail::{Inquiry, Post};
use crate::pool::shared::Founding;
use crate::pool::target::Target;
use crate::protocol::{CancelKey, Parameters};
use crate::session::ServerState;
use crate::session::flow::{Flow, Naming};

use super::*;

fn keepalive() -> Keepalive {
    Keepalive {
        idle: Duration::ZERO,
        user_timeout: Duration::ZERO,
    }
}

fn shared(workers: usize, clock: Clock, starving: &Arc<Starving>) -> Arc<PoolShared> {
    let founding = Founding {
        id: 1,
        database: "app".into(),
        user: "app".into(),
        accounts: Accounts {
            pool: Arc::default(),
            database: Arc::default(),
            user: Arc::default(),
        },
        settings: PoolSettings::default(),
        target: Target::nowhere(),
        workers,
    };
    Arc::new(PoolShared::new(founding, clock, Arc::clone(starving)))
}

fn connection(pool: &LocalPool, pipe: tokio::io::DuplexStream) -> Box<ServerConn> {
    let cancel_key = CancelKey {
        process_id: 1,
        secret: Box::new([0; 4]),
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
        statements: AtomicUsize::new(0),
        cancels: Cancels::default(),
    };
    let state = ServerState::new(1, cancel_key, Parameters::new());
    let slot = pool.shared.try_open(false).unwrap();
    let stream = Stream::from(Socket::memory(pipe));
    Box::new(ServerConn::new(stream, state, info, 0, slot))
}

#[test]
fn a_connection_for_a_worker_whose_box_is_full_stays_here() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        let clock = Clock::starting_at(Instant::now());
        let starving = Arc::new(Starving::new(2));
        let (post, mut boxes) = Post::new(2);
        let shared = shared(2, clock, &starving);
        let worker = Worker::new(0, clock, post.clone(), starving, Deriver::new(1, [0; 32]));
        let pool = worker.pool(&shared);
        // At the other worker, somebody waits.
        shared.cell(1).oldest.store(1, Ordering::SeqCst);
        while post.try_send(1, Mail::Inquiry(Inquiry::Recheck)).is_ok() {}
        let (ours, _server) = tokio::io::duplex(64);
        pool.accept(connection(&pool, ours));
        assert_eq!(shared.cell(0).idle.load(Ordering::SeqCst), 1);
        // When there is room, it can be had.
        let mut other = boxes.pop().unwrap();
        assert!(other.recv().await.is_some());
        pool.lend_idle(1);
        assert_eq!(shared.cell(0).idle.load(Ordering::SeqCst), 0);
        let mut last = None;
        while let Ok(mail) = other.try_recv() {
            last = Some(mail);
        }
        assert!(matches!(last, Some(Mail::Conn(..))));
    });
}

#[test]
fn a_worker_forgets_its_part_of_a_pool_that_nobody_uses_there() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        let clock = Clock::starting_at(Instant::now());
        let starving = Arc::new(Starving::new(1));
        let (post, _boxes) = Post::new(1);
        let shared = shared(1, clock, &starving);
        let worker = Worker::new(0, clock, post, starving, Deriver::new(1, [0; 32]));
        let pool = worker.pool(&shared);
        worker.forget_unused();
        assert!(Rc::ptr_eq(&worker.pool(&shared), &pool));
        let (ours, _server) = tokio::io::duplex(64);
        pool.accept(connection(&pool, ours));
        drop(pool);
        worker.forget_unused();
        assert_eq!(worker.pools().len(), 1);
        worker.pool(&shared).close_idle();
        worker.forget_unused();
        assert_eq!(worker.pools().len(), 0);
        // Nothing else has kept it.
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&shared), 1);
    });
}

#[test]
fn a_connection_that_a_cancel_request_may_still_hit_serves_nobody_else() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        let clock = Clock::starting_at(Instant::now());
        let starving = Arc::new(Starving::new(1));
        let (post, _boxes) = Post::new(1);
        let shared = shared(1, clock, &starving);
        let worker = Worker::new(0, clock, post, starving, Deriver::new(1, [0; 32]));
        let pool = worker.pool(&shared);
        let (ours, _server) = tokio::io::duplex(64);
        pool.accept(connection(&pool, ours));
        let give_back = |mut lease: Lease| {
            let state = &mut lease.conn().state;
            let rest = Flow::new(Naming::Verbatim, state).into_rest(state).unwrap();
            lease.give_back(&rest);
        };
        let mut lease = pool.try_lease().unwrap();
        let info = Arc::clone(&lease.conn().info);
        give_back(lease);
        lease = pool.try_lease().unwrap();
        // Nobody waits for the request any more, and whether the server has carried it out is not known.
        info.cancels.doubt();
        give_back(lease);
        assert!(pool.try_lease().is_none());
    });
}

#[test]
fn a_task_that_panics_with_a_connection_closes_it_and_makes_room_for_the_next() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        let clock = Clock::starting_at(Instant::now());
        let starving = Arc::new(Starving::new(1));
        let (post, _boxes) = Post::new(1);
        let shared = shared(1, clock, &starving);
        let worker = Worker::new(0, clock, post, starving, Deriver::new(1, [0; 32]));
        let pool = worker.pool(&shared);
        let (ours, mut server) = tokio::io::duplex(64);
        pool.accept(connection(&pool, ours));
        let mut lease = pool.try_lease().unwrap();
        assert_eq!(
            (shared.open(), shared.cell(0).active.load(Ordering::SeqCst)),
            (1, 1)
        );
        let task = tokio::task::spawn_local(async move {
            let conn = lease.conn();
            tokio::task::yield_now().await;
            assert!(
                !conn.carry.is_empty(),
                "planted: a client's task, in the middle of an exchange"
            );
        });
        assert!(task.await.unwrap_err().is_panic());
        // The server sees the end of the session, and nothing before it that could end a transaction.
        let mut said = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut server, &mut said)
            .await
            .unwrap();
        assert!(said.is_empty(), "{said:?}");
        drop(server);
        while shared.open() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(shared.cell(0).active.load(Ordering::SeqCst), 0);
        // Who comes next is served by another connection.
        let (ours, _server) = tokio::io::duplex(64);
        pool.accept(connection(&pool, ours));
        assert!(pool.try_lease().is_some());
    });
}
