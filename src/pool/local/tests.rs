#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::net::Ipv4Addr;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc::Receiver;

use crate::net::addr::ClientAddr;
use crate::net::dial::{Encryption, ExactAddr};
use crate::net::keepalive::Keepalive;
use crate::net::stream::{Socket, Stream};
use crate::net::tls::{ServerTls, TlsMode};
use crate::pool::clock::Clock;
use crate::pool::conn::Cancels;
use crate::pool::derive::Deriver;
use crate::pool::ledger::{Accounts, Starving};
use crate::pool::mail::{Inquiry, Post};
use crate::pool::seat::Occupant;
use crate::pool::shared::Founding;
use crate::pool::target::Target;
use crate::protocol::startup::Replication;
use crate::protocol::{CancelKey, Parameters, SqlState};
use crate::session::ServerState;
use crate::session::flow::{Flow, Naming};

use super::*;

fn keepalive() -> Keepalive {
    Keepalive {
        idle: Duration::ZERO,
        user_timeout: Duration::ZERO,
    }
}

fn founding(workers: usize, pool_size: u32) -> Founding {
    Founding {
        id: 1,
        database: "app".into(),
        user: "app".into(),
        place: 0,
        accounts: Accounts {
            pool: Arc::default(),
            database: Arc::default(),
            user: Arc::default(),
        },
        settings: PoolSettings {
            pool_size,
            ..PoolSettings::default()
        },
        target: Target::nowhere(),
        workers,
        catalog: Arc::default(),
    }
}

/// One pool and its workers, all on one event loop: what they send each other is handed out by `deliver`.
struct House {
    clock: Clock,
    shared: Arc<PoolShared>,
    workers: Vec<Rc<Worker>>,
    boxes: Vec<Receiver<Mail>>,
}

impl House {
    fn new(workers: usize, pool_size: u32) -> Self {
        let clock = Clock::starting_at(Instant::now());
        let starving = Arc::new(Starving::new(workers));
        let (post, boxes) = Post::new(workers);
        let shared = PoolShared::new(founding(workers, pool_size), clock, Arc::clone(&starving));
        let worker = |index| {
            let deriver = Deriver::new(1, [0; 32]);
            Worker::new(index, clock, post.clone(), Arc::clone(&starving), deriver)
        };
        Self {
            clock,
            shared: Arc::new(shared),
            workers: (0..workers).map(worker).collect(),
            boxes,
        }
    }

    fn pool(&self, worker: usize) -> Rc<LocalPool> {
        self.workers[worker].pool(&self.shared)
    }

    /// A new connection, idle at this worker.
    fn open_at(&self, worker: usize) -> tokio::io::DuplexStream {
        let (ours, server) = tokio::io::duplex(64);
        let pool = self.pool(worker);
        pool.accept(connection(&pool, ours));
        server
    }

    /// A client that begins to wait at this worker, and says that it has waited since then.
    fn waiter(&self, worker: usize, since: u64) -> Rc<Seat> {
        let occupant = Occupant {
            key: CancelKey {
                process_id: self.workers[worker].reserve().unwrap(),
                secret: [0; 4].into(),
            },
            database: "app".into(),
            user: "app".into(),
            application_name: "".into(),
            address: ClientAddr::Tcp((Ipv4Addr::LOCALHOST, 1).into()),
            local: None,
            is_tls: false,
            replication: Replication::None,
        };
        let seat = self.workers[worker].seat(occupant);
        seat.since.set(since);
        self.pool(worker).enqueue(&seat);
        seat
    }

    /// Hands out letters until none is left.
    fn deliver(&mut self) {
        while (0..self.boxes.len()).any(|worker| self.deliver_one(worker)) {}
    }

    /// Hands out the next letter to this worker, if there is one.
    fn deliver_one(&mut self, worker: usize) -> bool {
        let Ok(letter) = self.boxes[worker].try_recv() else {
            return false;
        };
        let pool = self.pool(worker);
        match letter {
            Mail::Conn(_, conn) => pool.on_conn(conn),
            Mail::Lend { to, .. } => pool.on_lend(to),
            Mail::Loan(_, conn) => pool.on_loan(conn),
            Mail::Client(..)
            | Mail::Evict { .. }
            | Mail::Cancel { .. }
            | Mail::Vacate(_)
            | Mail::Inquiry(_) => {
                panic!("{letter:?}")
            }
        }
        true
    }

    /// Connections that are idle, by worker.
    fn idle(&self) -> Vec<u32> {
        let idle = |cell: &Numbers| cell.idle.load(Ordering::SeqCst);
        self.shared.cells().map(idle).collect()
    }

    fn connecting(&self) -> u32 {
        let connecting = |cell: &Numbers| cell.connecting.load(Ordering::SeqCst);
        self.shared.cells().map(connecting).sum()
    }
}

/// The connection that this client was granted, if it was.
fn granted(seat: &Seat) -> Option<Box<ServerConn>> {
    match seat.take_grant()? {
        Grant::Conn(conn) => Some(conn),
        Grant::Refused(report) => panic!("{report:?}"),
    }
}

/// Gives a connection back at this worker, as a client does that is done with it.
fn give_back(pool: &Rc<LocalPool>, conn: Box<ServerConn>) {
    give_back_lease(pool.lease(conn));
}

fn give_back_lease(mut lease: Lease) {
    let state = &mut lease.conn().state;
    let rest = Flow::new(Naming::Verbatim, state).into_rest(state).unwrap();
    lease.give_back(&rest);
}

fn on_event_loop(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap()
        .block_on(test);
}

fn connection(pool: &LocalPool, pipe: tokio::io::DuplexStream) -> Box<ServerConn> {
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
    on_event_loop(async {
        let mut house = House::new(2, 20);
        let post = house.workers[0].post.clone();
        // At the other worker, somebody waits.
        house.shared.cell(1).oldest.store(1, Ordering::SeqCst);
        while post.try_send(1, Mail::Inquiry(Inquiry::Recheck)).is_ok() {}
        let _server = house.open_at(0);
        assert_eq!(house.idle(), [1, 0]);
        house.pool(0).on_lend(1);
        assert_eq!(house.idle(), [1, 0]);
        // When there is room, it can be had.
        assert!(house.boxes[1].recv().await.is_some());
        house.pool(0).on_lend(1);
        assert_eq!(house.idle(), [0, 0]);
        let mut last = None;
        while let Ok(mail) = house.boxes[1].try_recv() {
            last = Some(mail);
        }
        assert!(matches!(last, Some(Mail::Loan(_, Some(_)))));
    });
}

#[test]
fn a_worker_forgets_its_part_of_a_pool_that_nobody_uses_there() {
    on_event_loop(async {
        let house = House::new(1, 20);
        let worker = &house.workers[0];
        let pool = house.pool(0);
        worker.forget_unused();
        assert!(Rc::ptr_eq(&house.pool(0), &pool));
        let _server = house.open_at(0);
        drop(pool);
        worker.forget_unused();
        assert_eq!(worker.pools().len(), 1);
        house.pool(0).close_idle();
        worker.forget_unused();
        assert_eq!(worker.pools().len(), 0);
        // Nothing else has kept it.
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&house.shared), 1);
    });
}

#[test]
fn a_connection_that_a_cancel_request_may_still_hit_serves_nobody_else() {
    on_event_loop(async {
        let house = House::new(1, 20);
        let pool = house.pool(0);
        let _server = house.open_at(0);
        let mut lease = pool.try_lease().unwrap();
        let info = Arc::clone(&lease.conn().info);
        give_back_lease(lease);
        lease = pool.try_lease().unwrap();
        // Nobody waits for the request any more, and whether the server has carried it out is not known.
        info.cancels.doubt();
        give_back_lease(lease);
        assert!(pool.try_lease().is_none());
    });
}

#[test]
fn on_one_worker_who_came_first_is_served_first() {
    on_event_loop(async {
        let house = House::new(1, 1);
        let pool = house.pool(0);
        let _server = house.open_at(0);
        let first = pool.try_lease().unwrap();
        // The moments they say that they wait since do not matter: their places do.
        let mut queue: VecDeque<_> = (0..20).map(|number| house.waiter(0, 1 + number % 3)).collect();
        let gone = queue.remove(7).unwrap();
        pool.dequeue(&gone);
        give_back_lease(first);
        while let Some(next) = queue.pop_front() {
            let conn = granted(&next).unwrap();
            assert!(queue.iter().all(|later| granted(later).is_none()));
            // Nor does a newcomer get ahead of them.
            assert!(queue.is_empty() || pool.try_lease().is_none());
            give_back(&pool, conn);
        }
        assert!(granted(&gone).is_none());
        assert_eq!(house.idle(), [1]);
    });
}

#[test]
fn a_connection_leaves_for_who_has_waited_longer_elsewhere_only_above_the_bound() {
    let bound = micros(OVERTAKING_MAX);
    // How much longer the other has waited, and who is served.
    for (longer, is_overtaken) in [(0, false), (1, false), (bound, false), (bound + 1, true)] {
        on_event_loop(async {
            let mut house = House::new(2, 1);
            let _server = house.open_at(0);
            let conn = house.pool(0).unshelve().unwrap();
            let here = house.waiter(0, 1 + bound + longer);
            let elsewhere = house.waiter(1, 1 + bound);
            give_back(&house.pool(0), conn);
            house.deliver();
            assert_eq!(granted(&here).is_none(), is_overtaken, "{longer} µs");
            assert_eq!(granted(&elsewhere).is_some(), is_overtaken, "{longer} µs");
        });
    }
}

#[test]
fn with_nobody_waiting_here_a_connection_leaves_at_once() {
    on_event_loop(async {
        let mut house = House::new(2, 1);
        let _server = house.open_at(0);
        let conn = house.pool(0).unshelve().unwrap();
        let elsewhere = house.waiter(1, house.clock.now());
        give_back(&house.pool(0), conn);
        house.deliver();
        assert!(granted(&elsewhere).is_some());
    });
}

#[test]
fn between_workers_nobody_is_overtaken_by_more_than_the_bound() {
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..200 {
        on_event_loop(async {
            let workers = random.random_range(2..5);
            let mut house = House::new(workers, 1);
            let _server = house.open_at(0);
            let mut conn = house.pool(0).unshelve();
            let mut at = 0;
            let mut since = 1;
            let mut queue = Vec::new();
            for _ in 0..30 {
                since += random.random_range(0..micros(OVERTAKING_MAX));
                let worker = random.random_range(0..workers);
                queue.push((worker, since, house.waiter(worker, since)));
            }
            house.deliver();
            while !queue.is_empty() {
                give_back(&house.pool(at), conn.take().unwrap());
                house.deliver();
                let place = queue.iter().position(|(_, _, seat)| {
                    conn = granted(seat);
                    conn.is_some()
                });
                let (worker, served, _) = queue.remove(place.unwrap());
                at = worker;
                let oldest = queue.first().map_or(served, |(_, since, _)| *since);
                assert!(served <= oldest + micros(OVERTAKING_MAX), "{oldest} {served}");
                // Of those at one worker, the first.
                assert!(
                    queue
                        .iter()
                        .all(|(other, since, _)| *other != worker || *since >= served)
                );
            }
        });
    }
}

#[test]
fn a_loan_that_is_on_its_way_is_waited_for() {
    on_event_loop(async {
        let mut house = House::new(2, 20);
        let _server = house.open_at(0);
        let now = house.workers[1].now();
        let waiter = house.waiter(1, now);
        // However soon the next look at the clock is.
        house.pool(1).on_tick(now);
        assert!(house.deliver_one(0));
        house.pool(1).on_tick(now + micros(LOAN_MAX) - 1);
        assert_eq!(house.connecting(), 0);
        house.deliver();
        assert!(granted(&waiter).is_some());
        assert_eq!((house.connecting(), house.shared.open()), (0, 1));
    });
}

#[test]
fn a_loan_that_is_declined_is_opened_at_once_and_one_that_is_lost_a_while_later() {
    on_event_loop(async {
        let mut house = House::new(2, 20);
        let _server = house.open_at(0);
        let _waiter = house.waiter(1, 1);
        let taken = house.pool(0).try_lease().unwrap();
        house.deliver();
        assert_eq!(house.connecting(), 1);
        drop(taken);

        let house = House::new(2, 20);
        let _server = house.open_at(0);
        let now = house.workers[1].now();
        let _waiter = house.waiter(1, now);
        house.pool(0).close_idle();
        house.pool(1).on_tick(now);
        assert_eq!(house.connecting(), 0);
        house.pool(1).on_tick(now + micros(LOAN_MAX));
        assert_eq!(house.connecting(), 1);
    });
}

#[test]
fn what_another_worker_sends_unasked_is_no_answer() {
    on_event_loop(async {
        let mut house = House::new(3, 20);
        let _servers = [house.open_at(0), house.open_at(2)];
        let given_back = house.pool(2).unshelve().unwrap();
        let now = house.workers[1].now();
        let first = house.waiter(1, now);
        // Worker 0 is asked; worker 2 sees that somebody waits.
        give_back(&house.pool(2), given_back);
        assert!(house.deliver_one(1));
        assert!(granted(&first).is_some());
        let second = house.waiter(1, now);
        assert_eq!(house.connecting(), 0);
        house.deliver();
        assert!(granted(&second).is_some());
        assert_eq!((house.connecting(), house.shared.open()), (0, 2));
    });
}

#[test]
fn a_task_that_panics_with_a_connection_closes_it_and_makes_room_for_the_next() {
    on_event_loop(async {
        let house = House::new(1, 1);
        let pool = house.pool(0);
        let mut server = house.open_at(0);
        let shared = Arc::clone(&house.shared);
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
        let _server = house.open_at(0);
        assert!(pool.try_lease().is_some());
    });
}

#[test]
fn nobody_is_refused_for_a_failed_login_while_a_connection_is_on_its_way() {
    on_event_loop(async {
        let mut house = House::new(2, 20);
        let server = house.open_at(0);
        let seat = house.waiter(1, 1);
        // The other worker is asked for its connection, and sends it.
        assert!(house.deliver_one(0));
        assert_eq!((house.idle(), house.shared.established()), (vec![0, 0], 1));
        let report = crate::protocol::Report::fatal(SqlState::CONNECTION_FAILURE, "refused");
        house.pool(1).on_connect_failed(&report, false);
        assert!(house.deliver_one(1));
        let conn = granted(&seat).unwrap();
        // One that is being closed is nobody's any more, although it still counts against the limits.
        drop(conn);
        assert_eq!((house.shared.established(), house.shared.open()), (0, 1));
        drop(server);
    });
}
