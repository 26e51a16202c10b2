//! Reads on replicas that could go wrong: what is unusual about a batch, a transaction, a definition or a server.

use std::thread;

use crate::harness::house::House as Shared;
use crate::harness::{Pgweir, Postgres, Proxy, Wire};
use crate::routes::{House, role, route};

/// A client in a transaction that only reads, on a replica.
fn in_a_transaction_on_a_replica(house: &House) -> Wire {
    let mut client = house.client();
    client.query("BEGIN READ ONLY");
    client.query("SELECT v FROM t WHERE id = 1");
    assert_eq!(role(&mut client), "replica");
    client
}

#[test]
fn a_full_replica_is_passed_over_and_when_all_are_full_one_is_waited_for() {
    let keys = "pool_size = 1\nread_consistency = \"none\"";
    let house = Shared::new(2, "CREATE TABLE t AS SELECT 1 AS id, 0 AS v", keys);
    let server = |client: &mut Wire| route(client).last().unwrap()[2].clone();
    let hold = || {
        let mut client = house.client();
        client.query("BEGIN READ ONLY");
        client.query("SELECT v FROM t");
        assert_eq!(role(&mut client), "replica");
        client
    };
    let mut first = hold();
    let taken = server(&mut first);
    let mut reader = house.client();
    for _ in 0..20 {
        assert_eq!(reader.value("SELECT v FROM t WHERE id = 1"), "0");
        assert_eq!(role(&mut reader), "replica");
        assert_ne!(server(&mut reader), taken);
    }
    let mut second = hold();
    assert_ne!(server(&mut second), taken);
    reader.send_query("SELECT v FROM t");
    let mut console = house.console();
    house.wait_until("the reader waits", || {
        let all = console.rows("SHOW POOLS");
        all.iter().any(|row| row[0] == "app" && row[3] == "1")
    });
    first.query("COMMIT");
    second.query("COMMIT");
    reader.read_until_ready();
    assert_eq!(role(&mut reader), "replica");
}

fn send_prepared(client: &mut Wire, sql: &str, values: &[Option<&str>]) {
    client.send_parse("", sql);
    client.send_bind("", "", values);
    client.send_execute("", 0);
}

#[test]
fn what_is_flushed_in_a_transaction_on_a_replica_is_judged_and_answered() {
    let house = House::new(1, "");
    let mut client = in_a_transaction_on_a_replica(&house);
    for _ in 0..3 {
        send_prepared(&mut client, "SELECT count(*) FROM t", &[]);
        client.send_flush();
        let frames = client.read_until(b'C');
        assert_eq!(
            frames.iter().filter(|frame| frame.tag == b'D').count(),
            1,
            "{frames:?}"
        );
    }
    client.send_parse("s", "SELECT v FROM t WHERE id = $1");
    client.send_describe_statement("s");
    client.send_flush();
    client.read_until(b'T');
    client.send_sync();
    client.read_until_ready();
    send_prepared(&mut client, "SELECT pg_advisory_lock(7)", &[]);
    client.send_flush();
    assert_eq!(client.read_until(b'E').last().unwrap().sqlstate(), "25006");
    client.send_sync();
    assert_eq!(client.read_until_ready().last().unwrap().transaction_state(), 'E');
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(house.replicas[0].sql(locks), "0");
    client.query("ROLLBACK");
    assert_eq!(client.value("SELECT 1"), "1");
}

#[test]
fn large_requests_in_a_transaction_on_a_replica_are_carried_out() {
    let house = House::new(1, "");
    let mut client = in_a_transaction_on_a_replica(&house);
    let large = "x".repeat(300_000);
    send_prepared(&mut client, "SELECT length($1)", &[Some(&large)]);
    client.send_sync();
    let frames = client.read_until_ready();
    assert!(frames.iter().all(|frame| frame.tag != b'E'), "{frames:?}");
    assert_eq!(client.value(&format!("SELECT length('{large}')")), "300000");
    for _ in 0..2000 {
        send_prepared(&mut client, "SELECT v FROM t WHERE id = 1", &[]);
    }
    client.send_sync();
    let frames = client.read_until_ready();
    assert_eq!(frames.iter().filter(|frame| frame.tag == b'D').count(), 2000);
    assert_eq!(role(&mut client), "replica");
    client.query("COMMIT");
}

#[test]
fn a_transaction_on_a_replica_may_ask_for_what_is_that_servers_own() {
    let house = House::new(1, "");
    let mut client = in_a_transaction_on_a_replica(&house);
    assert_eq!(client.value("SELECT count(*) > 0 FROM pg_class"), "t");
    assert_eq!(client.value("SELECT pg_is_in_recovery()"), "t");
    assert_eq!(
        client.value("SELECT current_setting('transaction_read_only')"),
        "on"
    );
    client.query("COMMIT; SELECT 1");
    for (sql, expected) in [
        ("SELECT * FROM missing", "42P01"),
        ("SELECT pg_advisory_xact_lock(7) FROM pg_class LIMIT 1", "25006"),
        ("COMMIT; SELECT pg_advisory_lock(7)", "25006"),
    ] {
        let mut client = in_a_transaction_on_a_replica(&house);
        let frames = client.query(sql);
        let error = frames.iter().find(|frame| frame.tag == b'E').unwrap();
        assert_eq!(error.sqlstate(), expected, "{sql}");
        client.query("ROLLBACK");
    }
}

#[test]
fn a_function_that_nobody_has_marked_follows_in_a_transaction_on_a_replica_unless_it_may_take_a_lock() {
    let house = House::new(1, "");
    let mut client = house.client();
    for sql in [
        "CREATE FUNCTION total(lowest int DEFAULT 0) RETURNS bigint LANGUAGE plpgsql AS \
            $$ BEGIN RETURN (SELECT count(*) FROM t WHERE v >= lowest); END $$",
        "CREATE FUNCTION over_total() RETURNS bigint LANGUAGE sql AS 'SELECT total(0)'",
        "CREATE FUNCTION bump() RETURNS int LANGUAGE sql AS 'UPDATE t SET v = v + 1 RETURNING v'",
        "CREATE FUNCTION guard() RETURNS int LANGUAGE plpgsql AS \
            $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN 1; END $$",
        "CREATE FUNCTION guarded() RETURNS int LANGUAGE sql AS 'SELECT guard()'",
        "CREATE FUNCTION by_default(v int DEFAULT guard()) RETURNS int LANGUAGE sql AS 'SELECT v'",
        "CREATE FUNCTION made(what text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE what; RETURN 1; END $$",
    ] {
        let frames = client.query(sql);
        assert!(frames.iter().all(|frame| frame.tag != b'E'), "{frames:?}");
    }
    house.replicas[0].wait_for_replay(&house.primary);
    house.wait_until(|| {
        let mut client = house.client();
        client.query("SELECT 1");
        role(&mut client) == "replica"
    });
    let mut client = in_a_transaction_on_a_replica(&house);
    assert_eq!(client.value("SELECT total()"), "10");
    assert_eq!(client.value("SELECT over_total()"), "10");
    assert_eq!(role(&mut client), "replica");
    client.query("COMMIT");
    for (sql, is_told_by_server) in [
        ("SELECT bump()", true),
        ("SELECT guard()", false),
        ("SELECT guarded()", false),
        ("SELECT by_default()", false),
        ("SELECT made('SELECT pg_advisory_xact_lock(7)')", false),
    ] {
        let mut client = in_a_transaction_on_a_replica(&house);
        let frames = client.query(sql);
        let error = frames.iter().find(|frame| frame.tag == b'E').unwrap();
        assert_eq!(error.sqlstate(), "25006", "{sql}");
        let is_ours = String::from_utf8_lossy(&error.body).contains("on a replica");
        assert_eq!(is_ours, !is_told_by_server, "{sql}");
        client.query("ROLLBACK");
        assert_eq!(client.value("SELECT count(*) FROM t"), "10");
    }
}

#[test]
fn names_behind_a_setting_in_a_transaction_on_a_replica_may_be_of_any_schema() {
    let house = House::new(1, "");
    let mut client = house.client();
    for sql in [
        "CREATE SCHEMA other",
        "CREATE FUNCTION public.peek() RETURNS int STABLE PARALLEL SAFE LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION other.peek() RETURNS int LANGUAGE sql AS 'SELECT 2 FROM pg_advisory_xact_lock(7)'",
        "CREATE FUNCTION other.lonely() RETURNS int STABLE PARALLEL SAFE LANGUAGE sql AS 'SELECT 3'",
    ] {
        let frames = client.query(sql);
        assert!(frames.iter().all(|frame| frame.tag != b'E'), "{frames:?}");
    }
    house.replicas[0].wait_for_replay(&house.primary);
    house.wait_until(|| {
        let mut client = house.client();
        client.query("SELECT peek()");
        role(&mut client) == "replica"
    });
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    for set in ["SET LOCAL search_path = other", "SET search_path = other"] {
        for at_once in [false, true] {
            let mut client = in_a_transaction_on_a_replica(&house);
            assert_eq!(client.value("SELECT peek()"), "1");
            let frames = if at_once {
                client.query(&format!("{set}; SELECT peek()"))
            } else {
                client.query(set);
                assert_eq!(client.value("SELECT lonely()"), "3");
                client.query("SELECT peek()")
            };
            let error = frames.iter().find(|frame| frame.tag == b'E').unwrap();
            assert_eq!(error.sqlstate(), "25006", "{set}");
            assert_eq!(house.replicas[0].sql(locks), "0");
            client.query("ROLLBACK");
        }
    }
    // What stands at the beginning of a block, too, and nothing of it is left for the next.
    let mut client = house.client();
    client.query("BEGIN READ ONLY");
    send_prepared(&mut client, "SELECT v FROM t WHERE id = 1", &[]);
    send_prepared(&mut client, "SET LOCAL search_path = other", &[]);
    client.send_sync();
    client.read_until_ready();
    assert_eq!(role(&mut client), "replica");
    let frames = client.query("SELECT peek()");
    assert!(
        frames
            .iter()
            .any(|frame| frame.tag == b'E' && frame.sqlstate() == "25006")
    );
    client.query("ROLLBACK");
    let mut client = in_a_transaction_on_a_replica(&house);
    assert_eq!(client.value("SELECT peek()"), "1");
}

#[test]
fn definitions_that_change_meanwhile_cost_no_transaction_on_a_replica_an_error() {
    let house = House::new(1, "");
    let mut client = in_a_transaction_on_a_replica(&house);
    let mut other = house.client();
    for number in 0..50 {
        other.query(&format!("CREATE TABLE made_{number} (i int)"));
        assert_eq!(
            client.value(&format!("SELECT v AS a{number} FROM t WHERE id = 1")),
            "0"
        );
    }
    client.query("COMMIT");
}

#[test]
fn what_a_setting_in_the_same_batch_may_change_is_not_read_on_a_replica() {
    let house = House::new(1, "");
    let mut client = house.client();
    client.query("BEGIN READ ONLY");
    send_prepared(&mut client, "SET LOCAL search_path = other", &[]);
    send_prepared(&mut client, "SELECT 1", &[]);
    client.send_sync();
    client.read_until_ready();
    assert_eq!(role(&mut client), "primary");
    client.query("COMMIT");
}

#[test]
fn where_literals_end_is_not_guessed_where_backslashes_escape() {
    let house = House::new(1, "");
    let mut client = house.client();
    client.query("SET standard_conforming_strings = off");
    house.wait_until(|| {
        client.query("SELECT 'x'");
        role(&mut client) == "replica"
    });
    // One literal by the usual rules; here a literal, a call and a comment.
    let frames = client.query("SELECT 'a\\'', pg_advisory_lock(7) --'");
    assert!(frames.iter().all(|frame| frame.tag != b'E'), "{frames:?}");
    assert_eq!(role(&mut client), "primary");
    client.query("SELECT pg_advisory_unlock_all()");
}

#[test]
fn who_is_notified_of_a_write_sees_it() {
    let house = House::new(1, "");
    let mut listener = house.client();
    listener.query("LISTEN jobs");
    house.wait_until(|| {
        listener.query("SELECT v FROM t WHERE id = 6");
        role(&mut listener) == "replica"
    });
    house.replicas[0].sql("SELECT pg_wal_replay_pause()");
    house
        .primary
        .sql("BEGIN; UPDATE t SET v = 6 WHERE id = 6; NOTIFY jobs; COMMIT");
    listener.read_until(b'A');
    assert_eq!(listener.value("SELECT v FROM t WHERE id = 6"), "6");
    assert_eq!(role(&mut listener), "primary");
    house.replicas[0].sql("SELECT pg_wal_replay_resume()");
}

#[test]
fn with_replicas_only_a_read_waits_for_what_its_session_has_written() {
    let house = House::new(1, "reads = \"replica_only\"\npool_timeout = \"30s\"\n");
    let mut client = house.client();
    house.replicas[0].sql("SELECT pg_wal_replay_pause()");
    client.query("UPDATE t SET v = 9 WHERE id = 9");
    client.send_query("SELECT v FROM t WHERE id = 9");
    house.replicas[0].sql("SELECT pg_wal_replay_resume()");
    let frames = client.read_until_ready();
    assert!(frames.iter().all(|frame| frame.tag != b'E'), "{frames:?}");
    assert_eq!(role(&mut client), "replica");
    assert_eq!(client.value("SELECT v FROM t WHERE id = 9"), "9");
}

#[test]
fn with_replicas_only_the_primary_takes_no_reads_when_they_are_lost() {
    let mut house = House::new(1, "reads = \"replica_only\"\n");
    let mut client = house.client();
    client.query("SELECT v FROM t");
    house.replicas.clear();
    for _ in 0..10 {
        let frames = client.query("SELECT v FROM t");
        assert_eq!(frames[0].tag, b'E', "{frames:?}");
        assert!(route(&mut client).iter().all(|step| step[1] != "primary"));
    }
    client.query("UPDATE t SET v = 1");
    assert_eq!(role(&mut client), "primary");
}

#[test]
fn what_hides_in_types_and_casts_and_behind_names_is_found() {
    let house = House::new(1, "");
    let mut client = house.client();
    client.query(
        "CREATE FUNCTION locks(int) RETURNS bool LANGUAGE sql AS 'SELECT pg_advisory_xact_lock($1) IS NULL'; \
         CREATE DOMAIN inner_d AS int CHECK (locks(VALUE) IS NOT NULL); CREATE DOMAIN outer_d AS inner_d; \
         CREATE DOMAIN plain_d AS int CHECK (VALUE > 0); \
         CREATE TYPE made AS (d outer_d); CREATE TYPE plain AS (d plain_d); CREATE TYPE cast_to AS (i int); \
         CREATE FUNCTION to_cast(int) RETURNS cast_to LANGUAGE sql AS 'SELECT ROW($1)::cast_to FROM (SELECT locks($1)) s'",
    );
    client.query(
        "CREATE CAST (int AS cast_to) WITH FUNCTION to_cast(int); \
         CREATE SCHEMA first; CREATE SCHEMA second; CREATE TABLE first.both_have (i int); \
         CREATE VIEW second.both_have AS SELECT locks(1) AS i",
    );
    house.wait_until(|| {
        client.query("SELECT 1::plain_d");
        role(&mut client) == "replica"
    });
    for (sql, expected) in [
        ("SELECT 1::inner_d", "primary"),
        ("SELECT 1::outer_d", "primary"),
        ("SELECT '(1)'::made", "primary"),
        ("SELECT '{1}'::outer_d[]", "primary"),
        ("SELECT '(1)'::plain", "replica"),
        ("SELECT 1::cast_to", "primary"),
        ("SELECT * FROM first.both_have", "replica"),
    ] {
        let mut client = house.client();
        client.query(sql);
        assert_eq!(role(&mut client), expected, "{sql}: {:?}", route(&mut client));
    }
    let mut client = house.client();
    client.query("SET search_path = first, second");
    client.query("SELECT * FROM both_have");
    assert_eq!(role(&mut client), "primary");
}

#[test]
fn the_head_of_the_next_segment_is_nothing_that_a_replica_lacks() {
    let house = House::new(1, "");
    let mut client = house.client();
    house.primary.sql("UPDATE t SET v = 2 WHERE id = 2");
    house.primary.sql("SELECT pg_switch_wal()");
    // Read from the primary, which says how far it has come from then on.
    client.query("SELECT pg_backend_pid()");
    let mut lsn = String::new();
    house.wait_until(|| {
        lsn = client.value("SHOW pgweir.lsn");
        !lsn.is_empty()
    });
    house.replicas[0].wait_for_replay(&house.primary);
    println!(
        "{lsn} on a primary at {}",
        house.primary.sql("SELECT pg_current_wal_insert_lsn()")
    );
    let has_replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'");
    assert_eq!(house.replicas[0].sql(&has_replayed), "t", "{lsn}");
}

#[test]
fn an_error_of_a_statement_is_asked_of_the_primary_and_costs_the_replica_no_connection() {
    let house = House::new(1, "pool_size = 1\nread_consistency = \"none\"");
    let mut client = house.client();
    client.query("SELECT v FROM t WHERE id = 1");
    let backend = "SELECT pid || backend_start::text FROM pg_stat_activity WHERE backend_type = 'client backend' \
        AND query LIKE '%FROM t WHERE id = 1%' AND pid <> pg_backend_pid()";
    let before = house.replicas[0].sql(backend);
    assert_ne!(before, "");
    for code in ["42703", "42883", "22012"] {
        let sql = match code {
            "42703" => "SELECT missing FROM t WHERE id = 1",
            "42883" => "SELECT id || v FROM t WHERE id = 1",
            _ => "SELECT 1 / v FROM t WHERE id = 1",
        };
        let frames = client.query(sql);
        let errors: Vec<_> = frames.iter().filter(|frame| frame.tag == b'E').collect();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].sqlstate(), code, "{sql}");
        let expected: &[&str] = match code {
            "22012" => &["replica"],
            _ => &["replica", "primary"],
        };
        let roles: Vec<_> = route(&mut client).iter().map(|step| step[1].clone()).collect();
        assert_eq!(roles, expected, "{sql}");
        send_prepared(&mut client, sql, &[]);
        client.send_sync();
        let frames = client.read_until_ready();
        assert!(
            frames
                .iter()
                .any(|frame| frame.tag == b'E' && frame.sqlstate() == code)
        );
        for _ in 0..3 {
            assert_eq!(client.value("SELECT v FROM t WHERE id = 1"), "0");
            assert_eq!(role(&mut client), "replica");
        }
    }
    assert_eq!(house.replicas[0].sql(backend), before);
}

#[test]
fn what_a_replica_does_not_have_yet_is_no_error() {
    let house = House::new(1, "read_consistency = \"none\"");
    let mut client = house.client();
    assert_eq!(client.value("SELECT v FROM t WHERE id = 1"), "0");
    house.replicas[0].sql("SELECT pg_wal_replay_pause()");
    house.primary.sql("ALTER TABLE t ADD COLUMN fresh int DEFAULT 7");
    assert_eq!(client.value("SELECT fresh FROM t WHERE id = 1"), "7");
    assert_eq!(role(&mut client), "primary");
    house.replicas[0].sql("SELECT pg_wal_replay_resume()");
}

#[test]
fn a_named_statement_that_a_replica_refuses_is_prepared_once() {
    let house = House::new(1, "read_only_functions = [\"liar\"]\n");
    house.primary.sql("CREATE FUNCTION liar() RETURNS int LANGUAGE sql AS 'UPDATE t SET v = v + 1 WHERE id = 5 RETURNING v'");
    house.wait_until(|| {
        let mut other = house.client();
        other.query("SELECT liar()");
        route(&mut other).len() == 2
    });
    for _ in 0..3 {
        let mut client = house.client();
        for round in 0..2 {
            if round == 0 {
                client.send_parse("s", "SELECT liar() AS named");
            }
            client.send_bind("", "s", &[]);
            client.send_execute("", 0);
            client.send_sync();
            let frames = client.read_until_ready();
            let parsed = frames.iter().filter(|frame| frame.tag == b'1').count();
            assert_eq!(parsed, usize::from(round == 0), "{frames:?}");
            assert!(frames.iter().all(|frame| frame.tag != b'E'), "{frames:?}");
        }
    }
}

#[test]
fn a_query_on_a_replica_is_cancelled_there() {
    let house = House::new(1, "");
    let mut client = Wire::connect(house.pgweir.port());
    client.startup(&[("user", "postgres"), ("database", "app")]);
    let greeting = client.read_until_ready();
    let (process_id, secret) = greeting.iter().find_map(|frame| frame.cancel_key()).unwrap();
    client.send_query("SELECT pg_sleep(600)");
    house.wait_until(|| {
        house.replicas[0].sql(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)' AND state = 'active'",
        ) == "1"
    });
    let port = house.pgweir.port();
    thread::spawn(move || Wire::connect(port).cancel(process_id, &secret))
        .join()
        .unwrap();
    let frames = client.read_until_ready();
    let error = frames.iter().find(|frame| frame.tag == b'E').unwrap();
    assert_eq!(error.sqlstate(), "57014", "{frames:?}");
    assert_eq!(role(&mut client), "replica");
}

#[test]
fn a_batch_whose_replica_is_lost_before_it_was_sent_is_carried_out_once() {
    let primary = Postgres::start();
    primary.sql(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 10) i",
    );
    let replica = primary.replica();
    replica.wait_for_replay(&primary);
    let proxy = Proxy::before(replica.port());
    let url = replica
        .superuser_url()
        .replace(&replica.port().to_string(), &proxy.port().to_string());
    let house = House {
        pgweir: Pgweir::before_with(&primary, &format!("read_replicas = [\"{url}\"]\n")),
        primary,
        replicas: vec![replica],
    };
    house.wait_until_reads_go_to_replicas();
    let mut plain = house.client();
    let mut named = house.client();
    named.query("SET application_name = 'named'");
    for client in [&mut named, &mut plain] {
        house.wait_until(|| {
            client.query("SELECT v FROM t WHERE id = 1");
            role(client) == "replica"
        });
    }
    proxy.record();
    proxy.stall();
    named.send_query("SELECT id FROM t WHERE id = 4");
    // Its settings come first, and are not answered.
    let is_set = |piece: &Vec<u8>| piece.windows(10).any(|part| part == b"set_config");
    house.wait_until(|| proxy.heard().iter().any(is_set));
    proxy.cut();
    let frames = named.read_until_ready();
    assert_eq!(
        frames.iter().filter(|frame| frame.tag == b'D').count(),
        1,
        "{frames:?}"
    );
    assert_eq!(named.value("SELECT id FROM t WHERE id = 5"), "5");
    assert_eq!(named.value("SELECT id FROM t WHERE id = 6"), "6");
}

#[test]
fn a_primary_that_takes_no_new_connection_is_not_lost() {
    let house = House::new(1, "health_check_interval = \"100ms\"\n");
    let mut client = house.client();
    client.query("BEGIN; UPDATE t SET v = 3 WHERE id = 3");
    let aside = |sql: &str| house.primary.query("template1", sql).unwrap();
    aside("ALTER DATABASE postgres ALLOW_CONNECTIONS false");
    aside(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%pg_is_in_recovery%' AND pid <> pg_backend_pid()",
    );
    let refusals = || {
        house
            .primary
            .log_tail()
            .matches("is not currently accepting connections")
            .count()
    };
    house.wait_until(|| refusals() >= 8);
    assert!(!house.pgweir.log_contains("the primary is another now"));
    assert_eq!(client.value("UPDATE t SET v = 4 WHERE id = 3 RETURNING v"), "4");
    client.query("COMMIT");
    assert_eq!(client.value("SELECT v FROM t WHERE id = 3"), "4");
}

#[test]
fn a_standby_of_another_cluster_is_read_by_nobody() {
    // Servers of one version are copies of one cluster here.
    let (primary, other) = (Postgres::start(), Postgres::major(14));
    for server in [&primary, &other] {
        server.sql("CREATE TABLE t (v int)");
    }
    primary.sql("INSERT INTO t VALUES (1)");
    let replica = other.replica();
    let keys = format!("read_replicas = [\"{}\"]\n", replica.superuser_url());
    let pgweir = Pgweir::before_with(&primary, &keys);
    pgweir.wait_for_log("of another cluster", 1);
    let mut client = Wire::log_in(pgweir.port(), "postgres", "app", None);
    for _ in 0..20 {
        assert_eq!(client.value("SELECT v FROM t"), "1");
        assert_eq!(role(&mut client), "primary");
    }
}
