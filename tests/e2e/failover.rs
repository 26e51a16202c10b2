//! A primary is lost, and a replica is promoted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

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
