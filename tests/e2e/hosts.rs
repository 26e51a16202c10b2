//! Servers that are several, down, starting, or not willing.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use pgweir::demo::cluster::StopMode;
use pgweir::protocol::tag;

use super::harness::crowd::{Watcher, crowd, error, eventually, sqlstate};
use super::harness::wire::{c_string, frame};
use super::harness::{Pgweir, Postgres, Proxy, Wire};

/// A pooler before this URL, with this many workers.
fn before(url: &str, workers: u32, keys: &str) -> Pgweir {
    let config = format!(
        "workers = {workers}\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{url}\"\n{keys}\n"
    );
    Pgweir::builder().config(&config).start()
}

fn log_in(pgweir: &Pgweir) -> Wire {
    Wire::log_in(pgweir.port(), "postgres", "app", None)
}

/// A port on which nobody listens.
fn dead_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn a_dead_host_is_passed_over() {
    let postgres = Postgres::start();
    let (dead, port) = (dead_port(), postgres.port());
    let pgweir = before(
        &format!("postgresql://postgres@127.0.0.1:{dead},127.0.0.1:{port}/postgres"),
        1,
        "",
    );
    assert_eq!(
        log_in(&pgweir).value("SELECT current_setting('port')"),
        port.to_string()
    );
}

#[test]
fn the_session_attributes_choose_the_host() {
    let primary = Postgres::start();
    let replica = primary.replica();
    let (first, second) = (primary.port(), replica.port());
    for (attributes, port) in [
        ("any", second),
        ("read-write", first),
        ("read-only", second),
        ("primary", first),
        ("standby", second),
        ("prefer-standby", second),
    ] {
        let pgweir = before(
            &format!(
                "postgresql://postgres@127.0.0.1:{second},127.0.0.1:{first}/postgres?target_session_attrs={attributes}"
            ),
            1,
            "",
        );
        let served_by = log_in(&pgweir).value("SELECT current_setting('port')");
        assert_eq!(served_by, port.to_string(), "{attributes}");
    }
    let pgweir = before(
        &format!(
            "postgresql://postgres@127.0.0.1:{}/postgres?target_session_attrs=standby",
            first
        ),
        1,
        "",
    );
    let mut wire = pgweir.wire();
    wire.startup(&[("user", "postgres"), ("database", "app")]);
    assert_eq!(wire.read_fatal().sqlstate(), "08001");
    eventually("nothing is left open", || primary.connections() == 0);
}

#[test]
fn random_order_spreads_connections_over_the_hosts() {
    let servers = [Postgres::start(), Postgres::start()];
    let [first, second] = [servers[0].port(), servers[1].port()];
    let pgweir = before(
        &format!(
            "postgresql://postgres@127.0.0.1:{first},127.0.0.1:{second}/postgres?load_balance_hosts=random"
        ),
        1,
        "pool_size = 20",
    );
    let together = std::sync::Barrier::new(20);
    let ports: HashSet<String> = crowd(20, |_| {
        let mut wire = log_in(&pgweir);
        wire.query("BEGIN; SELECT 1");
        let port = wire.value("SELECT current_setting('port')");
        together.wait();
        port
    })
    .into_iter()
    .collect();
    assert_eq!(ports.len(), 2);
}

#[test]
fn a_server_that_is_down_is_told_at_once_and_used_when_it_is_back() {
    let mut postgres = Postgres::start();
    let pgweir = before(&postgres.superuser_url(), 2, "pool_size = 3");
    let mut known = log_in(&pgweir);
    known.value("SELECT 1");
    postgres.stop(StopMode::Fast);
    eventually("it is noticed", || {
        pgweir.log_contains("lost an idle server connection")
    });
    let refused = known.query("SELECT 1");
    assert_eq!(sqlstate(&refused), "08001");
    assert_eq!(error(&refused).unwrap().field('S').unwrap(), "ERROR");
    crowd(20, |_| {
        let mut wire = log_in(&pgweir);
        assert_eq!(sqlstate(&wire.query("SELECT 1")), "08001");
    });
    postgres.start().unwrap();
    eventually("it works again", || error(&known.query("SELECT 1")).is_none());
    all_of_it_is_there(&pgweir, &postgres, 3);
}

#[test]
fn a_server_that_refuses_a_login_says_so_itself() {
    let postgres = Postgres::start();
    postgres.sql("CREATE ROLE guest NOLOGIN");
    let url = format!("postgresql://guest@127.0.0.1:{}/postgres", postgres.port());
    let pgweir = before(&url, 1, "pool_size = 2");
    let attempt = || {
        let mut wire = pgweir.wire();
        wire.startup(&[("user", "postgres"), ("database", "app")]);
        let frames = wire.read_until(tag::AUTHENTICATION);
        assert_eq!(frames.len(), 1);
        wire.read_frame()
    };
    let refusal = attempt();
    assert_eq!(refusal.sqlstate(), "28000");
    assert!(refusal.message().contains("guest"), "{refusal:?}");
    postgres.sql("ALTER ROLE guest LOGIN");
    eventually("the next one is let in", || {
        attempt().tag == tag::PARAMETER_STATUS
    });
    all_of_it_is_there(&pgweir, &postgres, 2);
}

#[test]
fn a_server_that_is_starting_up_is_waited_for() {
    let postgres = Postgres::start();
    let starting = StartingUp::before(postgres.port());
    let url = format!(
        "postgresql://postgres@127.0.0.1:{}/postgres?sslmode=disable",
        starting.port
    );
    let pgweir = before(&url, 1, "pool_size = 2\npool_timeout = \"30s\"");
    crowd(4, |_| {
        let mut wire = pgweir.wire();
        wire.startup(&[("user", "postgres"), ("database", "app")]);
        // Who is told to come back soon does not fail: it is waited for.
        let count = starting.refusals.load(Ordering::Acquire);
        eventually("it was tried again", || {
            // Another client may have found it up meanwhile.
            starting.is_up.load(Ordering::Acquire) || starting.refusals.load(Ordering::Acquire) > count.min(2)
        });
        starting.is_up.store(true, Ordering::Release);
        wire.authenticate("postgres", "");
        assert_eq!(wire.value("SELECT 1"), "1");
    });
}

#[test]
fn a_server_that_stays_in_its_start_is_named_in_the_refusal() {
    let postgres = Postgres::start();
    let starting = StartingUp::before(postgres.port());
    let url = format!(
        "postgresql://postgres@127.0.0.1:{}/postgres?sslmode=disable",
        starting.port
    );
    let pgweir = before(&url, 1, "pool_timeout = \"300ms\"");
    let mut wire = pgweir.wire();
    wire.startup(&[("user", "postgres"), ("database", "app")]);
    let refusal = wire.read_fatal();
    assert_eq!(refusal.sqlstate(), "53300");
    assert!(refusal.field('D').unwrap().contains("starting up"), "{refusal:?}");
}

#[test]
fn a_server_that_says_nothing_is_given_up_after_connect_timeout() {
    let postgres = Postgres::start();
    let proxy = Proxy::before(postgres.port());
    proxy.stall();
    let url = format!("postgresql://postgres@127.0.0.1:{}/postgres", proxy.port());
    let pgweir = before(&url, 1, "pool_size = 1\nconnect_timeout = \"300ms\"");
    let mut wire = pgweir.wire();
    wire.startup(&[("user", "postgres"), ("database", "app")]);
    assert_eq!(wire.read_fatal().sqlstate(), "08001");
    proxy.resume();
    eventually("it is used when it speaks", || {
        let mut wire = pgweir.wire();
        wire.startup(&[("user", "postgres"), ("database", "app")]);
        wire.read_frame();
        wire.read_frame().tag == tag::PARAMETER_STATUS
    });
    assert_eq!(log_in(&pgweir).value("SELECT 1"), "1");
}

#[test]
fn a_restart_under_load_costs_errors_and_nothing_else() {
    let mut postgres = Postgres::start();
    let pgweir = before(&postgres.superuser_url(), 2, "pool_size = 4");
    let restarted = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..20)
            .map(|number| {
                let (wire, restarted) = (log_in(&pgweir), &restarted);
                scope.spawn(move || keep_asking(wire, number, restarted))
            })
            .collect();
        for mode in [StopMode::Fast, StopMode::Immediate] {
            postgres.stop(mode);
            postgres.start().unwrap();
        }
        restarted.store(true, Ordering::Release);
        for client in clients {
            client.join().unwrap();
        }
    });
    all_of_it_is_there(&pgweir, &postgres, 4);
    assert!(!pgweir.log_contains("a task has failed"));
}

/// Asks until a while after the restart. Every answer is the right one, or an error that says what happened.
fn keep_asking(mut wire: Wire, number: usize, restarted: &AtomicBool) {
    let mut answered = 0;
    while answered < 20 {
        let frames = wire.query(&format!("SELECT {number}"));
        match error(&frames) {
            None => {
                assert_eq!(frames[1].columns(), [number.to_string()]);
                answered += usize::from(restarted.load(Ordering::Acquire));
            }
            Some(error) => {
                let expected = ["08001", "08006", "08007", "57P01", "57P02", "57P03", "53300"];
                assert!(expected.contains(&error.sqlstate().as_str()), "{error:?}");
                assert_eq!(error.field('S').unwrap(), "ERROR");
            }
        }
    }
}

/// No slot was lost on the way: as many transactions as the pool has connections run side by side, and never more.
fn all_of_it_is_there(pgweir: &Pgweir, postgres: &Postgres, size: usize) {
    let watcher = Watcher::start(postgres, "true");
    let together = std::sync::Barrier::new(size);
    crowd(size, |_| {
        let mut wire = log_in(pgweir);
        assert!(error(&wire.query("BEGIN; SELECT 1")).is_none());
        together.wait();
        assert_eq!(postgres.connections(), size);
        together.wait();
        wire.query("COMMIT");
    });
    assert_eq!(watcher.most(), u32::try_from(size).unwrap());
}

/// Before a server, says that it is starting up, until it is told that it is up.
struct StartingUp {
    port: u16,
    is_up: Arc<AtomicBool>,
    refusals: Arc<AtomicUsize>,
}

impl StartingUp {
    fn before(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let starting = Self {
            port: listener.local_addr().unwrap().port(),
            is_up: Arc::default(),
            refusals: Arc::default(),
        };
        let (is_up, refusals) = (Arc::clone(&starting.is_up), Arc::clone(&starting.refusals));
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                if is_up.load(Ordering::Acquire) {
                    relay(stream, target);
                    continue;
                }
                let _ = stream.read(&mut [0; 512]);
                let words = [
                    c_string("SFATAL"),
                    c_string("C57P03"),
                    c_string("Mthe database system is starting up"),
                    vec![0],
                ];
                let _ = stream.write_all(&frame(tag::ERROR_RESPONSE, &words.concat()));
                refusals.fetch_add(1, Ordering::AcqRel);
            }
        });
        starting
    }
}

fn relay(client: TcpStream, target: u16) {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).unwrap();
    for (mut from, mut to) in [
        (client.try_clone().unwrap(), server.try_clone().unwrap()),
        (server, client),
    ] {
        thread::spawn(move || std::io::copy(&mut from, &mut to));
    }
}
