//! What a client says itself about where its statements go.

use crate::harness::Wire;
use crate::routes::{House, role, route};

fn code(client: &mut Wire, sql: &str) -> String {
    client.query(sql)[0].sqlstate()
}

#[test]
fn a_comment_or_a_setting_keeps_reads_on_the_primary_or_asks_for_a_replica() {
    let house = House::new(1, "reads = \"primary\"\n");
    let mut client = house.client();
    let read = |client: &mut Wire, sql: &str| {
        client.query(sql);
        role(client)
    };
    assert_eq!(read(&mut client, "SELECT v FROM t"), "primary");
    for sql in [
        "/* pgweir: role=replica */ SELECT v FROM t",
        "SELECT v FROM t /* pgweir: role=replica */",
        "SELECT v FROM t; -- pgweir: role=replica",
    ] {
        let mut other = house.client();
        house.wait_until(|| read(&mut other, sql) == "replica");
    }
    let mut other = house.client();
    other.query("SET pgweir.role = 'replica'");
    house.wait_until(|| read(&mut other, "SELECT v FROM t") == "replica");
    assert_eq!(
        read(&mut other, "/* pgweir: role=primary */ SELECT v FROM t"),
        "primary"
    );
    other.query("SET pgweir.role TO 'primary'");
    assert_eq!(read(&mut other, "SELECT v FROM t"), "primary");
    assert_eq!(route(&mut other)[0][3], "pgweir: role=primary");
    let mut other = house.client();
    other.send_parse("r", "SELECT v FROM t /* pgweir: role=replica */");
    other.send_sync();
    other.read_until_ready();
    house.wait_until(|| {
        other.send_bind("", "r", &[]);
        other.send_execute("", 0);
        other.send_sync();
        other.read_until_ready();
        role(&mut other) == "replica"
    });
}

#[test]
fn no_directive_sends_a_write_to_a_replica() {
    let house = House::new(1, "");
    let mut client = house.client();
    for sql in [
        "/* pgweir: role=replica */ UPDATE t SET v = 9",
        "SELECT v FROM t FOR UPDATE /* pgweir: role=replica */",
    ] {
        let frames = client.query(sql);
        assert_eq!(
            frames[0].tag,
            b'E',
            "{sql}: {:?}",
            client.rows("SHOW pgweir.route")
        );
        assert_eq!(frames[0].sqlstate(), "25006", "{sql}");
        assert_eq!(frames.last().unwrap().transaction_state(), 'I');
    }
    client.query("SET pgweir.role = 'replica'");
    assert_eq!(code(&mut client, "INSERT INTO t VALUES (99, 9)"), "25006");
    client.send_parse("", "DELETE FROM t");
    client.send_bind("", "", &[]);
    client.send_execute("", 0);
    client.send_sync();
    assert_eq!(client.read_until_ready()[0].sqlstate(), "25006");
    assert_eq!(client.value("SELECT count(*) FROM t WHERE v = 9"), "0");
    // The session is as it was, and may ask for the primary.
    client.query("/* pgweir: role=primary */ UPDATE t SET v = 9 WHERE id = 1");
    assert_eq!(role(&mut client), "primary");
    client.query("RESET pgweir.role");
    client.query("UPDATE t SET v = 9 WHERE id = 2");
    assert_eq!(client.value("SELECT count(*) FROM t WHERE v = 9"), "2");
}

#[test]
fn a_block_goes_to_a_replica_where_that_is_asked_for_and_writes_nothing_there() {
    let house = House::new(1, "");
    let mut client = house.client();
    house.wait_until(|| {
        client = house.client();
        client.query("BEGIN");
        client.query("SET LOCAL pgweir.role = 'replica'");
        assert_eq!(client.value("SELECT v FROM t WHERE id = 1"), "0");
        role(&mut client) == "replica"
    });
    assert_eq!(code(&mut client, "UPDATE t SET v = 1"), "25006");
    client.query("ROLLBACK");
    // It was for that block alone.
    client.query("BEGIN");
    client.query("SELECT v FROM t");
    assert_eq!(role(&mut client), "primary");
    client.query("COMMIT");
    client.query("SET pgweir.role = 'replica'");
    client.query("BEGIN");
    assert_eq!(code(&mut client, "UPDATE t SET v = 1"), "25006");
    assert_eq!(code(&mut client, "SELECT 1"), "25P02");
    client.query("ROLLBACK");
    assert_eq!(client.value("SELECT count(*) FROM t WHERE v = 1"), "0");
}

#[test]
fn what_is_asked_for_at_the_start_holds_for_the_session() {
    let house = House::new(1, "");
    for (wanted, expected) in [
        ("replica", "replica"),
        ("primary", "primary"),
        ("nobody", "primary"),
    ] {
        let options = format!("-c pgweir.role={wanted}");
        let start = [("user", "postgres"), ("database", "app"), ("options", &options)];
        house.wait_until(|| {
            let mut client = house.pgweir.wire();
            client.startup(&start);
            client.read_until_ready();
            client.query("SELECT v FROM t");
            role(&mut client) == expected
        });
    }
}

#[test]
fn values_and_words_that_mean_nothing_are_refused() {
    let house = House::new(1, "");
    let mut client = house.client();
    for sql in [
        "SET pgweir.role = 'standby'",
        "SET pgweir.min_lsn = 'soon'",
        "SET pgweir.min_lsn = '0/0/0'",
        "/* pgweir: role=standby */ SELECT 1",
        "SELECT 1 /* pgweir: rule=primary */",
    ] {
        let frames = client.query(sql);
        assert_eq!(frames[0].sqlstate(), "22023", "{sql}");
        assert_eq!(frames.last().unwrap().transaction_state(), 'I');
    }
    assert_eq!(client.value("SELECT 1"), "1");
}

#[test]
fn a_position_that_was_carried_over_is_what_reads_wait_for() {
    let house = House::new(1, "");
    let mut writer = house.client();
    let replica = &house.replicas[0];
    replica.sql("SELECT pg_wal_replay_pause()");
    writer.query("UPDATE t SET v = 7 WHERE id = 1");
    let position = writer.value("SHOW pgweir.lsn");
    let mut stale = house.client();
    assert_eq!(stale.value("SELECT v FROM t WHERE id = 1"), "0");
    let mut reader = house.client();
    reader.query(&format!("SET pgweir.min_lsn = '{position}'"));
    assert_eq!(reader.value("SELECT v FROM t WHERE id = 1"), "7");
    assert_eq!(role(&mut reader), "primary");
    replica.sql("SELECT pg_wal_replay_resume()");
    house.wait_until(|| {
        assert_eq!(reader.value("SELECT v FROM t WHERE id = 1"), "7");
        role(&mut reader) == "replica"
    });
}
