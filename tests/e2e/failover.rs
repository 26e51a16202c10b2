//! A primary is lost, and a replica is promoted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use pgweir::demo::cluster::StopMode;

use crate::harness::house::{House as Servers, route};
use crate::harness::{PATIENCE, Pgweir, Postgres, Wire};

const KEYS: &str = "pool_timeout = \"30s\"\nhealth_check_interval = \"200ms\"\n";

struct House {
    primary: Postgres,
    replica: Postgres,
    pgweir: Pgweir,
}

impl House {
    fn new(keys: &str) -> Self {
        let primary = Postgres::start();
        primary.sql("CREATE TABLE t (id bigint PRIMARY KEY)");
        let replica = primary.replica();
        replica.wait_for_replay(&primary);
        let list = format!("read_replicas = [\"{}\"]\n{KEYS}{keys}", replica.superuser_url());
        let pgweir = Pgweir::before_with(&primary, &list);
        let house = Self {
            primary,
            replica,
            pgweir,
        };
        let start = Instant::now();
        loop {
            let mut client = house.client();
            client.query("SELECT id FROM t");
            let route = client.rows("SHOW pgweir.route");
            if route.last().unwrap()[1] == "replica" {
                return house;
            }
            assert!(start.elapsed() < PATIENCE);
        }
    }

    fn client(&self) -> Wire {
        Wire::log_in(self.pgweir.port(), "postgres", "app", None)
    }
}

#[test]
fn writes_wait_for_the_promotion_of_a_replica_and_reads_go_on() {
    let mut house = House::new("");
    let mut writer = house.client();
    let mut reader = house.client();
    writer.query("INSERT INTO t VALUES (1)");
    house.replica.wait_for_replay(&house.primary);
    house.primary.kill_9();
    house.pgweir.wait_for_log("the primary is another now", 1);
    writer.send_query("INSERT INTO t VALUES (2)");
    for _ in 0..20 {
        assert_eq!(reader.value("SELECT count(*) FROM t"), "1");
    }
    let promoted_at = Instant::now();
    house.replica.sql("SELECT pg_promote(false)");
    let frames = writer.read_until_ready();
    println!("from promotion to the first write: {:?}", promoted_at.elapsed());
    assert!(frames.iter().all(|frame| frame.tag != b'E'), "{frames:?}");
    assert_eq!(writer.value("SELECT count(*) FROM t"), "2");
    assert_eq!(house.replica.sql("SELECT count(*) FROM t"), "2");
}

#[test]
fn writes_that_have_waited_for_a_primary_in_vain_fail_and_the_client_stays() {
    let mut house = House::new("failover_timeout = \"500ms\"\n");
    let mut client = house.client();
    client.query("SELECT id FROM t");
    house.primary.kill_9();
    house.pgweir.wait_for_log("the primary is another now", 1);
    for _ in 0..2 {
        let frames = client.query("INSERT INTO t VALUES (1)");
        assert_eq!(frames[0].sqlstate(), "57P03");
    }
    house.replica.sql("SELECT pg_promote(true)");
    house.pgweir.wait_for_log("the primary is known", 2);
    client.query("INSERT INTO t VALUES (1)");
    assert_eq!(house.replica.sql("SELECT count(*) FROM t"), "1");
}

#[test]
fn a_killed_primary_costs_no_connection_and_no_acknowledged_write() {
    let mut house = House::new("");
    house
        .primary
        .sql("ALTER SYSTEM SET synchronous_standby_names = '*'");
    house.primary.sql("SELECT pg_reload_conf()");
    let port = house.pgweir.port();
    let is_promoted = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4_u64)
        .map(|writer| {
            let is_promoted = Arc::clone(&is_promoted);
            thread::spawn(move || {
                let mut client = Wire::log_in(port, "postgres", "app", None);
                let (mut acknowledged, mut errors) = (Vec::new(), Vec::new());
                let start = Instant::now();
                let mut id = writer * 1_000_000;
                // Until so many have succeeded after the promotion; one that was not under way when the primary was lost has no error.
                let mut behind = 0;
                while behind < 20 {
                    assert!(start.elapsed() < PATIENCE);
                    id += 1;
                    let frames = client.query(&format!("INSERT INTO t VALUES ({id})"));
                    if frames[0].tag == b'E' {
                        errors.push(frames[0].sqlstate().to_owned());
                        behind = 0;
                    } else {
                        acknowledged.push(id);
                        behind += i32::from(is_promoted.load(Ordering::SeqCst));
                    }
                }
                (acknowledged, errors)
            })
        })
        .collect();
    let start = Instant::now();
    while house.replica.sql("SELECT count(*) >= 100 FROM t") != "t" {
        assert!(start.elapsed() < PATIENCE);
    }
    house.primary.kill_9();
    house
        .replica
        .sql("ALTER SYSTEM SET synchronous_standby_names = ''");
    house.replica.sql("SELECT pg_promote(true)");
    is_promoted.store(true, Ordering::SeqCst);
    for writer in writers {
        // A writer that had lost its connection would have panicked.
        let (acknowledged, errors) = writer.join().unwrap();
        println!("{} writes, errors {errors:?}", acknowledged.len());
        assert!(errors.iter().all(|code| code == "08007"), "{errors:?}");
        let list: Vec<_> = acknowledged.iter().map(|id| format!("({id})")).collect();
        let lost = format!(
            "SELECT count(*) FROM (VALUES {}) v(id) WHERE id NOT IN (SELECT id FROM t)",
            list.join(",")
        );
        assert_eq!(house.replica.sql(&lost), "0");
    }
}

/// Clients that write and read for as long as it is wanted, each statement by itself.
struct Crowd {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    clients: Vec<thread::JoinHandle<Kept>>,
}

/// What one of them has of it.
#[derive(Default)]
struct Kept {
    acknowledged: Vec<u64>,
    reads: u64,
    errors: Vec<(&'static str, String)>,
}

impl Crowd {
    fn start(port: u16, count: u64) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |number: u64| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            thread::spawn(move || {
                let mut client = Wire::log_in(port, "postgres", "app", None);
                let mut kept = Kept::default();
                let mut id = number * 1_000_000;
                while !stop.load(Ordering::SeqCst) {
                    id += 1;
                    match client.query(&format!("INSERT INTO log VALUES ({id})"))[0] {
                        ref frame if frame.tag == b'E' => kept.errors.push(("write", frame.sqlstate())),
                        _ => kept.acknowledged.push(id),
                    }
                    match client.query("SELECT 1 FROM log LIMIT 1")[0] {
                        ref frame if frame.tag == b'E' => kept.errors.push(("read", frame.sqlstate())),
                        _ => kept.reads += 1,
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                }
                kept
            })
        };
        let clients = (0..count).map(client).collect();
        Self { stop, done, clients }
    }

    /// Waits until so many more rounds are done.
    fn wait_for(&self, more: u64) {
        let wanted = self.done.load(Ordering::SeqCst) + more;
        let start = Instant::now();
        while self.done.load(Ordering::SeqCst) < wanted {
            assert!(start.elapsed() < PATIENCE, "the clients do not get on");
            thread::yield_now();
        }
    }

    /// Lets them end. A client that had lost its connection would have panicked.
    fn finish(self) -> Kept {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Kept::default();
        for client in self.clients {
            let kept = client.join().expect("a client has lost its connection");
            all.acknowledged.extend(kept.acknowledged);
            all.reads += kept.reads;
            all.errors.extend(kept.errors);
        }
        all
    }
}

/// How many of these writes a server does not have, and how many rows it has twice.
fn lost_and_doubled(server: &Postgres, acknowledged: &[u64]) -> (String, String) {
    let list: Vec<_> = acknowledged.iter().map(|id| format!("({id})")).collect();
    let lost = format!(
        "SELECT count(*) FROM (VALUES {}) v(id) WHERE NOT EXISTS (SELECT FROM log WHERE log.id = v.id)",
        list.join(",")
    );
    (
        server.sql(&lost),
        server.sql("SELECT count(*) - count(DISTINCT id) FROM log"),
    )
}

#[test]
fn a_primary_that_is_killed_costs_nobody_anything_but_writes_that_were_under_way() {
    const CLIENTS: u64 = 16;
    let mut house = Servers::new(2, "CREATE TABLE log (id bigint)", KEYS);
    house
        .primary
        .sql("ALTER SYSTEM SET synchronous_standby_names = 'ANY 2 (*)'");
    house.primary.sql("SELECT pg_reload_conf()");
    let crowd = Crowd::start(house.pgweir.port(), CLIENTS);
    crowd.wait_for(200);
    house.primary.kill_9();
    house.pgweir.wait_for_log("the primary is another now", 1);
    let heir = house.replicas.remove(0);
    heir.sql("ALTER SYSTEM SET synchronous_standby_names = ''");
    let promoted_at = Instant::now();
    heir.sql("SELECT pg_promote(false)");
    crowd.wait_for(1);
    let first = promoted_at.elapsed();
    crowd.wait_for(200);
    let kept = crowd.finish();
    let (lost, doubled) = lost_and_doubled(&heir, &kept.acknowledged);
    println!("from the call of pg_promote to the first write: {first:?}");
    println!(
        "{} clients: {} writes, {} reads",
        CLIENTS,
        kept.acknowledged.len(),
        kept.reads
    );
    println!(
        "errors {:?}, connections lost 0, writes lost {lost}, done twice {doubled}",
        kept.errors
    );
    assert_eq!((lost.as_str(), doubled.as_str()), ("0", "0"));
    assert!(
        kept.errors
            .iter()
            .all(|(what, code)| *what == "write" && code == "08007"),
        "{:?}",
        kept.errors
    );
}

#[test]
fn a_planned_switchover_costs_nobody_anything() {
    let mut house = Servers::new(2, "CREATE TABLE log (id bigint)", KEYS);
    let crowd = Crowd::start(house.pgweir.port(), 16);
    crowd.wait_for(200);
    let mut console = house.console();
    assert!(crate::harness::crowd::error(&console.query("PAUSE app")).is_none());
    let paused_at = Instant::now();
    house.primary.stop(StopMode::Fast);
    let heir = house.replicas.remove(0);
    heir.sql("SELECT pg_promote(true)");
    assert!(crate::harness::crowd::error(&console.query("RESUME app")).is_none());
    crowd.wait_for(1);
    println!("from PAUSE to the first answer: {:?}", paused_at.elapsed());
    crowd.wait_for(200);
    let kept = crowd.finish();
    let (lost, doubled) = lost_and_doubled(&heir, &kept.acknowledged);
    println!(
        "{} writes, {} reads, errors {:?}",
        kept.acknowledged.len(),
        kept.reads,
        kept.errors
    );
    assert_eq!((lost.as_str(), doubled.as_str()), ("0", "0"));
    assert!(kept.errors.is_empty(), "{:?}", kept.errors);
}

#[test]
fn of_two_primaries_on_one_timeline_neither_is_written_to() {
    let mut house = Servers::new(
        1,
        "CREATE TABLE log (id bigint)",
        &format!("{KEYS}failover_timeout = \"300ms\"\n"),
    );
    let mut client = house.client();
    let other = &mut house.replicas[0];
    // Without the file it is a primary, on the timeline it has.
    other.stop(StopMode::Fast);
    std::fs::remove_file(other.data_directory().join("standby.signal")).unwrap();
    other.start().unwrap();
    house
        .pgweir
        .wait_for_log("two servers take writes on the same timeline", 1);
    let log = house.pgweir.log();
    assert!(
        log.lines()
            .any(|line| line.contains("ERROR") && line.contains("two servers take writes")),
        "{log}"
    );
    let frames = client.query("INSERT INTO log VALUES (1)");
    assert_eq!(frames[0].sqlstate(), "57P03");
    assert!(frames[0].message().contains("two servers"), "{frames:?}");
    house.replicas[0].stop(StopMode::Fast);
    house.wait_until("writes go to the one that is left", || {
        crate::harness::crowd::error(&client.query("INSERT INTO log VALUES (2)")).is_none()
    });
    assert_eq!(house.primary.sql("SELECT array_agg(DISTINCT id) FROM log"), "{2}");
}

#[test]
fn a_replica_that_is_lost_takes_no_reads_and_does_again_when_it_is_found() {
    const ENOUGH: usize = 20;
    let mut house = Servers::new(2, "CREATE TABLE log (id bigint)", KEYS);
    let lost = house.replicas[0].port().to_string();
    let port = house.pgweir.port();
    // By sessions that come anew: one that reads without a pause stays where it is.
    let read = |wanted: &dyn Fn(&[Vec<String>]) -> bool| {
        let mut client = Wire::log_in(port, "postgres", "app", None);
        assert_eq!(client.value("SELECT count(*) FROM log"), "0");
        wanted(&route(&mut client))
    };
    let is_there = |steps: &[Vec<String>]| steps.len() == 1 && steps[0][2].ends_with(&lost);
    let is_elsewhere =
        |steps: &[Vec<String>]| steps.len() == 1 && steps[0][1] == "replica" && !steps[0][2].ends_with(&lost);
    house.wait_until("reads go there", || read(&is_there));
    house.replicas[0].kill_9();
    house.wait_until("no reads go there", || (0..ENOUGH).all(|_| read(&is_elsewhere)));
    house.replicas[0].start().unwrap();
    house.wait_until("reads go there again", || read(&is_there));
}
