//! Who is served when, and for how long a server connection lives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgweir::net::addr::ServerAddr;
use pgweir::net::keepalive::Keepalive;
use pgweir::net::tls::ServerTls;
use pgweir::pool::clock::{Clock, micros};
use pgweir::pool::connect::{self, Order};
use pgweir::pool::derive::Deriver;
use pgweir::pool::registry::Registry;
use pgweir::pool::settings::PoolSettings;
use pgweir::pool::target::{SessionAttrs, Target};
use pgweir::protocol::startup::Replication;
use pgweir::session::login::{BindingRule, ServerSecret};

use super::harness::crowd::eventually;
use super::harness::{Pgweir, Postgres, Wire};

/// One worker and one connection.
fn narrow(postgres: &Postgres) -> Pgweir {
    let url = postgres.superuser_url();
    let config = format!(
        "workers = 1\nadmin_users = [\"admin\"]\npool_timeout = \"1min\"\n[auth]\nmethod = \"trust\"\n\
         [databases.app]\nurl = \"{url}\"\npool_size = 1\n"
    );
    Pgweir::builder().config(&config).start()
}

fn log_in(pgweir: &Pgweir) -> Wire {
    Wire::log_in(pgweir.port(), "postgres", "app", None)
}

/// Waits until so many clients stand in the queue.
fn wait_for_queue(console: &mut Wire, length: usize) {
    eventually("the queue has its length", || {
        let pools = console.rows("SHOW POOLS");
        let waiting = |pool: &&Vec<String>| pool[0] == "app";
        pools.iter().find(waiting).unwrap()[CL_WAITING] == length.to_string()
    });
}

#[test]
fn who_came_first_is_served_first() {
    let postgres = Postgres::start();
    postgres.sql("CREATE SEQUENCE turn");
    let pgweir = narrow(&postgres);
    let mut console = Wire::log_in(pgweir.port(), "admin", "pgweir", None);
    let mut holder = log_in(&pgweir);
    let mut queue: Vec<Wire> = (0..QUEUE_LEN).map(|_| log_in(&pgweir)).collect();
    // From the first to the last, from the last to the first, and crosswise: it is not the order of their logins.
    let orders: [fn(usize) -> usize; 3] = [|place| place, |place| QUEUE_LEN - 1 - place, |place| place ^ 1];
    for order in orders {
        holder.query("BEGIN; SELECT 1");
        for place in 0..QUEUE_LEN {
            let next = &mut queue[order(place)];
            match place % 3 {
                0 => next.send_query("SELECT nextval('turn')"),
                1 => next.send_query("BEGIN; SELECT nextval('turn'); COMMIT"),
                _ => {
                    next.send_parse("", "SELECT nextval('turn')");
                    next.send_bind("", "", &[]);
                    next.send_execute("", 0);
                    next.send_sync();
                }
            }
            wait_for_queue(&mut console, place + 1);
        }
        // Its next request comes while the others wait: it is the last.
        let before: usize = holder.value("SELECT nextval('turn')").parse().unwrap();
        holder.query("COMMIT");
        let last: usize = holder.value("SELECT nextval('turn')").parse().unwrap();
        let mut turns = Vec::new();
        for place in 0..QUEUE_LEN {
            let frames = queue[order(place)].read_until_ready();
            let row = frames
                .iter()
                .find(|frame| frame.tag == pgweir::protocol::tag::DATA_ROW);
            turns.push(row.unwrap().columns()[0].parse::<usize>().unwrap() - before);
        }
        assert_eq!(turns, (1..=QUEUE_LEN).collect::<Vec<_>>());
        assert_eq!(last - before, QUEUE_LEN + 1);
    }
}

#[test]
fn who_leaves_the_queue_changes_nothing_for_the_others() {
    let postgres = Postgres::start();
    postgres.sql("CREATE SEQUENCE turn");
    let pgweir = narrow(&postgres);
    let mut console = Wire::log_in(pgweir.port(), "admin", "pgweir", None);
    let mut holder = log_in(&pgweir);
    holder.query("BEGIN; SELECT 1");
    let mut queue = Vec::new();
    for place in 0..QUEUE_LEN {
        let mut wire = log_in(&pgweir);
        wire.send_query("SELECT nextval('turn')");
        wait_for_queue(&mut console, place + 1);
        queue.push(wire);
    }
    for place in [5, 0] {
        drop(queue.remove(place));
    }
    wait_for_queue(&mut console, QUEUE_LEN - 2);
    holder.query("COMMIT");
    let turns: Vec<_> = queue
        .iter_mut()
        .map(|wire| wire.read_until_ready()[1].columns().concat())
        .collect();
    let expected: Vec<_> = (1..=QUEUE_LEN - 2).map(|turn| turn.to_string()).collect();
    assert_eq!(turns, expected);
}

/// The parts themselves, without the program around them: what a connection remembers is not shown to anybody.
#[test]
fn connections_opened_together_do_not_end_together() {
    let postgres = Postgres::start();
    let lifetime = Duration::from_secs(1000);
    let settings = PoolSettings {
        pool_size: 0,
        server_lifetime: lifetime,
        ..PoolSettings::default()
    };
    let registry = Registry::new(1, Clock::starting_at(Instant::now()));
    let shared = registry.outside("app", "postgres", settings, target(postgres.port()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut lives = runtime.block_on(async {
        let mut lives = Vec::new();
        for id in 0..40 {
            let order = Order {
                shared: &shared,
                extra: &[],
                replication: Replication::None,
            };
            let slot = shared.try_open(false).unwrap();
            let conn = connect::open(&order, &Deriver::new(1, [0; 32]), id, slot)
                .await
                .unwrap();
            lives.push(conn.expires_at - conn.idle_since);
            conn.close();
        }
        lives
    });
    lives.sort_unstable();
    let (first, last) = (lives[0], lives[39]);
    assert!(
        first >= micros(lifetime) / 5 * 4 && last <= micros(lifetime),
        "{lives:?}"
    );
    // Forty that are spread evenly over a fifth of the lifetime do not fall into half of that.
    assert!(last - first > micros(lifetime) / 10, "{lives:?}");
    lives.dedup();
    assert_eq!(lives.len(), 40);
}

fn target(port: u16) -> Target {
    Target {
        hosts: vec![ServerAddr::new("127.0.0.1", port)],
        shuffled: false,
        tls: Arc::new(ServerTls::DISABLED),
        keepalive: Keepalive {
            idle: Duration::ZERO,
            user_timeout: Duration::ZERO,
        },
        database: "postgres".into(),
        user: "postgres".into(),
        parameters: Vec::new(),
        session_attrs: SessionAttrs::Any,
        binding_rule: BindingRule::default(),
        secret: ServerSecret::None,
        reread: None,
    }
}

/// Longer than any number of connections a worker opens at a time.
const QUEUE_LEN: usize = 12;
/// The column of SHOW POOLS.
const CL_WAITING: usize = 3;
