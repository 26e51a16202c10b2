//! Writes to the primary, reads to the replicas.

use crate::harness::{PATIENCE, Pgweir, Postgres, Wire};

/// A primary with replicas, and the pooler before them.
struct House {
    primary: Postgres,
    replicas: Vec<Postgres>,
    pgweir: Pgweir,
}

impl House {
    fn new(replicas: usize, keys: &str) -> Self {
        let primary = Postgres::start();
        primary.sql("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 10) i");
        let replicas: Vec<_> = (0..replicas).map(|_| primary.replica()).collect();
        for replica in &replicas {
            replica.wait_for_replay(&primary);
        }
        let urls: Vec<_> = replicas.iter().map(|replica| format!("\"{}\"", replica.superuser_url())).collect();
        let list = format!("read_replicas = [{}]\n{keys}", urls.join(", "));
        let pgweir = Pgweir::before_with(&primary, &list);
        let house = Self {
            primary,
            replicas,
            pgweir,
        };
        house.wait_until_reads_go_to_replicas();
        house
    }

    fn client(&self) -> Wire {
        Wire::log_in(self.pgweir.port(), "postgres", "app", None)
    }

    /// The servers have been asked how they are, and the catalogs were read.
    fn wait_until_reads_go_to_replicas(&self) {
        let start = std::time::Instant::now();
        loop {
            let mut client = self.client();
            client.query("SELECT id FROM t");
            if role(&mut client) == "replica" {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{:?}", route(&mut client));
        }
    }
}

fn route(client: &mut Wire) -> Vec<Vec<String>> {
    client.rows("SHOW pgweir.route")
}

/// Where the last statement went.
fn role(client: &mut Wire) -> String {
    route(client).last().unwrap()[1].clone()
}

#[test]
fn reads_go_to_a_replica_and_writes_to_the_primary() {
    let house = House::new(1, "");
    let mut client = house.client();
    for (sql, expected) in [
        ("SELECT v FROM t WHERE id = 1", "replica"),
        ("UPDATE t SET v = v + 1 WHERE id = 1", "primary"),
        ("SELECT pg_advisory_lock(1)", "primary"),
    ] {
        client.query(sql);
        assert_eq!(role(&mut client), expected, "{sql}");
    }
    client.query("SELECT pg_advisory_unlock_all()");
    assert_eq!(client.value("SELECT v FROM t WHERE id = 1"), "1");
}

#[test]
fn a_session_sees_what_it_has_written_and_reads_from_a_replica_again_once_that_has_replayed_it() {
    let house = House::new(1, "");
    let mut client = house.client();
    let replica = &house.replicas[0];
    replica.sql("SELECT pg_wal_replay_pause()");
    client.query("UPDATE t SET v = 7 WHERE id = 2");
    assert_eq!(client.value("SELECT v FROM t WHERE id = 2"), "7");
    assert_eq!(role(&mut client), "primary");
    replica.sql("SELECT pg_wal_replay_resume()");
    replica.wait_for_replay(&house.primary);
    let start = std::time::Instant::now();
    loop {
        assert_eq!(client.value("SELECT v FROM t WHERE id = 2"), "7");
        if role(&mut client) == "replica" {
            break;
        }
        assert!(start.elapsed() < PATIENCE);
    }
}
