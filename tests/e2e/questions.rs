//! `SHOW pgweir.…`: what no server knows.

use crate::harness::wire::tags;
use crate::harness::{Pgweir, Postgres, Wire};
use crate::routes::{House, route};

/// All of them in one batch.
fn ask(client: &mut Wire, name: &str, sql: &str) -> Vec<String> {
    client.send_parse(name, sql);
    client.send_describe_statement(name);
    client.send_bind("", name, &[]);
    client.send_execute("", 0);
    client.send_sync();
    let frames = client.read_until_ready();
    assert_eq!(tags(&frames), "1tT2DCZ", "{frames:?}");
    frames.iter().find(|frame| frame.tag == b'D').unwrap().columns()
}

#[test]
fn a_database_without_replicas_tells_its_server() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before(&postgres);
    let mut client = Wire::log_in(pgweir.port(), "postgres", "app", None);
    assert_eq!(route(&mut client), Vec::<Vec<String>>::new());
    client.query("SELECT 1");
    let rows = route(&mut client);
    assert_eq!((rows.len(), &*rows[0][1]), (1, "primary"));
    assert!(postgres.superuser_url().contains(&rows[0][2]), "{rows:?}");
    assert!(client.value("SHOW pgweir.lsn").contains('/'));
    assert_eq!(ask(&mut client, "", "SHOW pgweir.route"), rows[0]);
    assert!(ask(&mut client, "lsn", "SHOW pgweir.lsn")[0].contains('/'));
    client.query("BEGIN; SELECT 1");
    assert_eq!(route(&mut client), rows);
    let frames = client.query("SHOW pgweir.lsn");
    assert_eq!(frames.last().unwrap().transaction_state(), 'T');
    client.query("SELECT nothing");
    assert_eq!(client.query("SHOW pgweir.route")[0].sqlstate(), "25P02");
    client.query("ROLLBACK");
}

#[test]
fn questions_are_answered_in_the_extended_protocol_and_are_never_the_last_statement() {
    let house = House::new(1, "");
    let mut client = house.client();
    client.query("UPDATE t SET v = 1");
    let rows = route(&mut client);
    assert_eq!((&*rows[0][1], &*rows[0][3]), ("primary", "UPDATE"));
    assert!(client.value("SHOW pgweir.lsn").contains('/'));
    assert!(ask(&mut client, "", "SHOW pgweir.lsn")[0].contains('/'));
    assert_eq!(ask(&mut client, "", "show pgweir.route;"), rows[0]);
    // Prepared once, asked again and again, as drivers do; by Flush, too.
    client.send_parse("q", "SHOW pgweir.route");
    client.send_describe_statement("q");
    client.send_flush();
    client.send_bind("", "q", &[]);
    client.send_execute("", 0);
    client.send_sync();
    assert_eq!(tags(&client.read_until_ready()), "1tT2DCZ");
    client.query("DELETE FROM t WHERE id = 10");
    client.send_bind("", "q", &[]);
    client.send_execute("", 0);
    client.send_sync();
    let frames = client.read_until_ready();
    assert_eq!(tags(&frames), "2DCZ");
    assert_eq!(frames[1].columns()[3], "DELETE");
}

#[test]
fn a_question_behind_statements_that_are_not_answered_yet_waits_for_its_turn() {
    let house = House::new(1, "");
    let mut client = house.client();
    for _ in 0..10 {
        client.send_query("UPDATE t SET v = 1");
        client.send_query("SHOW pgweir.route");
        client.send_query("DELETE FROM t WHERE id = 77");
        client.send_parse("", "SHOW pgweir.route");
        client.send_bind("", "", &[]);
        client.send_execute("", 0);
        client.send_sync();
        client.send_query("SHOW pgweir.lsn");
        client.send_query("SHOW pgweir.route");
        let all: Vec<_> = (0..6).map(|_| client.read_until_ready()).collect();
        let told: Vec<_> = [1, 3, 5]
            .iter()
            .map(|index| {
                all[*index]
                    .iter()
                    .find(|frame| frame.tag == b'D')
                    .unwrap()
                    .columns()[3]
                    .clone()
            })
            .collect();
        assert_eq!(told, ["UPDATE", "DELETE", "DELETE"]);
        assert_eq!(tags(&all[4]), "TDCZ");
    }
}

#[test]
fn each_statement_of_a_block_on_a_replica_has_its_route() {
    let house = House::new(1, "");
    let mut client = house.client();
    let mut first = Vec::new();
    house.wait_until(|| {
        client = house.client();
        client.query("BEGIN READ ONLY");
        client.query("SELECT v FROM t");
        first = route(&mut client);
        first[0][1] == "replica"
    });
    assert_eq!(first[0][3], "reads only");
    client.query("SELECT count(*) FROM t");
    let second = route(&mut client);
    assert_eq!(second[0][..3], first[0][..3]);
    assert_eq!(second[0][3], "its transaction is on this server");
    assert!(client.value("SHOW pgweir.lsn").contains('/'));
    assert_eq!(route(&mut client), second);
    client.query("COMMIT");
}
