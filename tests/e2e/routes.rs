//! Writes to the primary, reads to the replicas.

use std::time::Instant;

use crate::harness::{PATIENCE, Pgweir, Postgres, Wire};

/// A primary with replicas, and the pooler before them.
pub(crate) struct House {
    pub(crate) primary: Postgres,
    pub(crate) replicas: Vec<Postgres>,
    pub(crate) pgweir: Pgweir,
}

impl House {
    pub(crate) fn new(replicas: usize, keys: &str) -> Self {
        let primary = Postgres::start();
        primary.sql("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 10) i");
        let replicas: Vec<_> = (0..replicas).map(|_| primary.replica()).collect();
        for replica in &replicas {
            replica.wait_for_replay(&primary);
        }
        let urls: Vec<_> = replicas
            .iter()
            .map(|replica| format!("\"{}\"", replica.superuser_url()))
            .collect();
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

    pub(crate) fn client(&self) -> Wire {
        Wire::log_in(self.pgweir.port(), "postgres", "app", None)
    }

    /// The servers have been asked how they are, and the catalogs were read.
    pub(crate) fn wait_until_reads_go_to_replicas(&self) {
        let start = Instant::now();
        loop {
            let mut client = self.client();
            client.query("/* pgweir: role=replica */ SELECT id FROM t");
            let route = route(&mut client);
            if route.last().unwrap()[1] == "replica" {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{route:?}");
        }
    }

    /// Asks again and again, each time with queries of its own.
    pub(crate) fn wait_until(&self, mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < PATIENCE);
        }
    }
}

pub(crate) fn route(client: &mut Wire) -> Vec<Vec<String>> {
    client.rows("SHOW pgweir.route")
}

/// Where the last statement went.
pub(crate) fn role(client: &mut Wire) -> String {
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
    house.wait_until(|| {
        assert_eq!(client.value("SELECT v FROM t WHERE id = 2"), "7");
        role(&mut client) == "replica"
    });
}

#[test]
fn what_only_the_primary_can_do_goes_there() {
    let house = House::new(1, "");
    house.primary.sql(
        "CREATE SEQUENCE s; CREATE VIEW bumps AS SELECT nextval('s'); CREATE VIEW reads AS SELECT v FROM t; \
         CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'UPDATE t SET v = v RETURNING 1'; \
         CREATE FUNCTION looks() RETURNS bigint STABLE PARALLEL SAFE LANGUAGE sql AS 'SELECT count(*) FROM t'; \
         CREATE UNLOGGED TABLE u (i int)",
    );
    // Whatever was made past the pooler is known by then.
    house.wait_until(|| {
        let mut client = house.client();
        client.query("SELECT looks()");
        role(&mut client) == "replica"
    });
    for (sql, expected) in [
        ("SELECT v FROM t FOR UPDATE", "primary"),
        ("SELECT nextval('s')", "primary"),
        ("SELECT * FROM bumps", "primary"),
        ("SELECT * FROM reads", "replica"),
        ("SELECT writes()", "primary"),
        ("SELECT looks()", "replica"),
        ("SELECT * FROM u", "primary"),
        (
            "WITH x AS (UPDATE t SET v = v RETURNING v) SELECT * FROM x",
            "primary",
        ),
        ("SELECT 1; SELECT 2", "replica"),
        ("SELECT 1; UPDATE t SET v = v", "primary"),
        ("EXPLAIN SELECT * FROM t", "replica"),
        ("EXPLAIN ANALYZE UPDATE t SET v = v", "primary"),
        ("COPY t TO STDOUT", "replica"),
        ("VALUES (1)", "replica"),
        ("SELECT pg_notify('a', 'b')", "primary"),
        ("SET application_name = 'x'", "primary"),
        ("DO 'BEGIN END'", "primary"),
    ] {
        let mut client = house.client();
        client.query(sql);
        assert_eq!(role(&mut client), expected, "{sql}: {:?}", route(&mut client));
    }
}

#[test]
fn a_read_only_transaction_is_on_a_replica_whole_and_is_given_nothing_that_it_should_not_do_there() {
    let house = House::new(1, "");
    let mut client = house.client();
    client.query("BEGIN READ ONLY");
    assert_eq!(client.value("SELECT v FROM t WHERE id = 3"), "0");
    assert_eq!(role(&mut client), "replica", "{:?}", route(&mut client));
    // A snapshot of the primary would show it.
    house.primary.sql("UPDATE t SET v = 1 WHERE id = 3");
    assert_eq!(client.value("SELECT count(*) FROM t"), "10");
    assert_eq!(role(&mut client), "replica");
    let frames = client.query("SELECT pg_advisory_lock(7)");
    assert_eq!(frames[0].sqlstate(), "25006");
    assert_eq!(frames.last().unwrap().transaction_state(), 'E');
    client.query("ROLLBACK");
    assert_eq!(client.value("SELECT 1"), "1");
    // Where the first statement is the primary's, all of it is.
    client.query("BEGIN READ ONLY");
    client.query("SELECT pg_advisory_xact_lock(7)");
    assert_eq!(role(&mut client), "primary");
    client.query("COMMIT");
    client.query("BEGIN");
    client.query("SELECT v FROM t");
    assert_eq!(role(&mut client), "primary");
    client.query("COMMIT");
}

#[test]
fn reads_are_shared_exactly_between_replicas() {
    let house = House::new(2, "read_consistency = \"none\"\n");
    let ports: Vec<_> = house
        .replicas
        .iter()
        .map(|replica| replica.superuser_url())
        .collect();
    let mut counts = [0; 2];
    let mut clients: Vec<_> = (0..4).map(|_| house.client()).collect();
    for number in 0..400 {
        let client = &mut clients[number % 4];
        client.query(&format!("SELECT v FROM t WHERE id = {number}"));
        let server = route(client).last().unwrap()[2].clone();
        let place = ports.iter().position(|url| url.contains(&server)).unwrap();
        counts[place] += 1;
    }
    assert_eq!(counts, [200, 200]);
}

#[test]
fn prepared_statements_and_pipelines_are_routed_as_a_whole() {
    let house = House::new(1, "");
    let mut client = house.client();
    let run = |client: &mut Wire, statements: &[&str]| {
        for name in statements {
            client.send_bind("", name, &[]);
            client.send_execute("", 0);
        }
        client.send_sync();
        client.read_until_ready();
        role(client)
    };
    client.send_parse("r", "SELECT v FROM t WHERE id = 1");
    client.send_parse("w", "UPDATE t SET v = v + 1 WHERE id = 1 RETURNING v");
    client.send_sync();
    client.read_until_ready();
    let mut client2 = house.client();
    client2.send_parse("r", "SELECT v FROM t WHERE id = 1");
    client2.send_sync();
    client2.read_until_ready();
    house.wait_until(|| run(&mut client2, &["r"]) == "replica");
    assert_eq!(run(&mut client2, &["r", "r"]), "replica");
    assert_eq!(run(&mut client, &["r", "w"]), "primary");
    assert_eq!(run(&mut client, &["r"]), "primary");
    house.wait_until(|| run(&mut client, &["r"]) == "replica");
}

#[test]
fn what_follows_a_read_in_the_same_breath_is_routed_for_itself() {
    let house = House::new(1, "");
    let mut client = house.client();
    for _ in 0..20 {
        client.send_query("SELECT v FROM t WHERE id = 4");
        client.send_query("UPDATE t SET v = v + 1 WHERE id = 4");
        client.send_query("SELECT v FROM t WHERE id = 4");
        for _ in 0..3 {
            let frames = client.read_until_ready();
            assert!(frames.iter().all(|frame| frame.tag != b'E'), "{frames:?}");
        }
    }
    assert_eq!(client.value("SELECT v FROM t WHERE id = 4"), "20");
}

#[test]
fn a_replica_that_is_gone_costs_no_client_an_error() {
    let mut house = House::new(1, "");
    let mut client = house.client();
    client.query("SELECT v FROM t");
    house.replicas.clear();
    for _ in 0..50 {
        assert_eq!(client.value("SELECT count(*) FROM t"), "10");
    }
    assert_eq!(role(&mut client), "primary");
}

#[test]
fn what_a_replica_refuses_is_done_on_the_primary_unseen() {
    let house = House::new(1, "read_only_functions = [\"liar\"]\n");
    house.primary.sql(
        "CREATE FUNCTION liar() RETURNS int LANGUAGE sql AS 'UPDATE t SET v = 5 WHERE id = 5 RETURNING v'",
    );
    house.replicas[0].wait_for_replay(&house.primary);
    let mut steps = Vec::new();
    house.wait_until(|| {
        let mut client = house.client();
        let answer = client.query("SELECT liar()");
        steps = route(&mut client);
        // Before anybody knows the function it goes to the primary at once.
        assert_eq!(answer[1].columns(), ["5"]);
        steps.len() == 2
    });
    assert_eq!(steps[0][1], "replica");
    assert_eq!(steps[1][1], "primary");
    assert_eq!(steps[1][3], "a replica refused it (25006)");
}

#[test]
fn execute_goes_where_what_was_prepared_goes() {
    let house = House::new(1, "");
    let mut client = house.client();
    client.query("PREPARE r(int) AS SELECT v FROM t WHERE id = $1");
    client.query("PREPARE w(int) AS UPDATE t SET v = 7 WHERE id = $1 RETURNING v");
    client.query("PREPARE f AS SELECT pg_advisory_xact_lock(3)");
    house.wait_until(|| {
        assert_eq!(client.value("EXECUTE r(1)"), "0");
        role(&mut client) == "replica"
    });
    client.query("EXECUTE f");
    assert_eq!(route(&mut client)[0][3], "advisory lock pg_advisory_xact_lock");
    assert_eq!(client.value("EXECUTE w(1)"), "7");
    assert_eq!(
        route(&mut client),
        [["", "primary", &*route(&mut client)[0][2], "UPDATE"]]
    );
    assert_eq!(client.value("EXECUTE r(1)"), "7");
    // By the extended protocol, and explained.
    let mut execute = |sql: &str| {
        client.send_parse("", sql);
        client.send_bind("", "", &[]);
        client.send_execute("", 0);
        client.send_sync();
        let frames = client.read_until_ready();
        assert!(frames.iter().all(|frame| frame.tag != b'E'), "{frames:?}");
        role(&mut client)
    };
    house.wait_until(|| execute("EXECUTE r(2)") == "replica");
    house.wait_until(|| execute("EXPLAIN EXECUTE r(2)") == "replica");
    assert_eq!(execute("EXECUTE w(2)"), "primary");
    // Another text under the same name.
    client.query("DEALLOCATE r");
    client.query("PREPARE r(int) AS DELETE FROM t WHERE id = $1 RETURNING v");
    assert_eq!(client.value("EXECUTE r(2)"), "7");
    assert_eq!(role(&mut client), "primary");
    // In a block on a replica.
    let mut reader = house.client();
    reader.query("PREPARE r AS SELECT 1");
    reader.query("PREPARE w AS DELETE FROM t");
    reader.query("BEGIN READ ONLY");
    house.wait_until(|| {
        reader.query("SELECT v FROM t");
        role(&mut reader) == "replica" || {
            reader.query("COMMIT");
            reader.query("BEGIN READ ONLY");
            false
        }
    });
    assert_eq!(reader.value("EXECUTE r"), "1");
    assert_eq!(reader.query("EXECUTE w")[0].sqlstate(), "25006");
    reader.query("ROLLBACK");
}

#[test]
fn replicas_that_a_reload_adds_take_reads_though_connections_were_open_before() {
    let primary = Postgres::start();
    primary.sql("CREATE TABLE t (id int PRIMARY KEY, v int)");
    let replica = primary.replica();
    replica.wait_for_replay(&primary);
    let config = |keys: &str| {
        let url = primary.superuser_url();
        format!("workers = 1\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{url}\"\n{keys}\n")
    };
    let pgweir = Pgweir::builder().config(&config("")).start();
    Wire::log_in(pgweir.port(), "postgres", "app", None).query("SELECT 1");
    pgweir.write_config(&config(&format!(
        "read_replicas = [\"{}\"]",
        replica.superuser_url()
    )));
    pgweir.hup();
    pgweir.wait_for_log("configuration reloaded", 1);
    let house = House {
        primary,
        replicas: vec![replica],
        pgweir,
    };
    house.wait_until_reads_go_to_replicas();
}
