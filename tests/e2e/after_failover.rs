//! The server of the database's URL is gone for good, and a replica has taken its place.

use crate::harness::house::{House, role, route};
use crate::harness::wire::Frame;
use crate::harness::{Pgweir, Postgres, Wire};
use pgweir::protocol::tag;

const KEYS: &str = "pool_timeout = \"30s\"\nhealth_check_interval = \"200ms\"\n";
const TABLES: &str = "CREATE TABLE t (id int); CREATE ROLE late SUPERUSER LOGIN; CREATE SCHEMA side; CREATE TABLE side.u (id int)";

/// The primary is killed.
fn bereave(house: &mut House) {
    house.primary.kill_9();
    house.pgweir.wait_for_log("the primary is another now", 1);
}

/// The first replica takes its place; the others follow it.
fn promote(house: &mut House) {
    let heir = house.replicas.remove(0);
    let source = format!(
        "host={} port={} user=postgres",
        heir.socket_directory().display(),
        heir.port()
    );
    for other in &house.replicas {
        other.sql(&format!("ALTER SYSTEM SET primary_conninfo = '{source}'"));
        other.sql("SELECT pg_reload_conf()");
    }
    heir.sql("SELECT pg_promote(true)");
    house.primary = heir;
    house.pgweir.wait_for_log("the primary is known", 2);
}

fn is_error(frames: &[Frame]) -> bool {
    frames.iter().any(|frame| frame.tag == tag::ERROR_RESPONSE)
}

/// Logs in with these parameters, and returns what the client was told.
fn log_in(house: &House, parameters: &[(&str, &str)]) -> (Wire, Vec<Frame>) {
    let mut wire = house.pgweir.wire();
    wire.startup(&[&[("database", "app")], parameters].concat());
    let frames = wire.authenticate(parameters[0].1, "");
    (wire, frames)
}

fn told(frames: &[Frame], name: &str) -> Option<String> {
    let mut values = frames.iter().filter_map(Frame::parameter);
    values.find(|(known, _)| known == name).map(|(_, value)| value)
}

#[test]
fn users_who_come_later_are_served_as_before() {
    let mut house = House::new(2, TABLES, KEYS);
    bereave(&mut house);
    promote(&mut house);
    // A user nobody has seen before, and settings nobody has tried.
    for parameters in [
        [("user", "late"), ("application_name", "x")],
        [("user", "postgres"), ("search_path", "side")],
        [("user", "late"), ("search_path", "side")],
    ] {
        let (mut client, frames) = log_in(&house, &parameters);
        assert_eq!(told(&frames, "in_hot_standby").as_deref(), Some("off"));
        let table = if parameters[1].0 == "search_path" {
            "u"
        } else {
            "t"
        };
        let frames = client.query(&format!("INSERT INTO {table} VALUES (1)"));
        assert!(!is_error(&frames), "{frames:?}");
        house.wait_until("reads go to the replica that is left", || {
            assert_eq!(client.value(&format!("SELECT count(*) > 0 FROM {table}")), "t");
            role(&mut client) == "replica"
        });
        let port = house.replicas[0].port().to_string();
        assert!(route(&mut client)[0][2].ends_with(&port));
    }
}

#[test]
fn clients_are_let_in_while_there_is_no_primary_and_may_read() {
    let mut house = House::new(1, TABLES, KEYS);
    bereave(&mut house);
    for parameters in [
        [("user", "late"), ("application_name", "x")],
        [("user", "late"), ("search_path", "side")],
    ] {
        let (mut client, frames) = log_in(&house, &parameters);
        assert_eq!(told(&frames, "in_hot_standby").as_deref(), Some("off"));
        assert_eq!(client.value("SELECT 7"), "7");
        assert_eq!(role(&mut client), "replica");
    }
}

#[test]
fn sessions_that_have_written_read_on_while_there_is_no_primary() {
    let mut house = House::new(1, TABLES, &format!("{KEYS}failover_timeout = \"500ms\"\n"));
    let mut client = house.client();
    client.query("INSERT INTO t VALUES (1)");
    house.wait_until("the replica has it", || {
        assert_eq!(client.value("SELECT count(*) FROM t"), "1");
        role(&mut client) == "replica"
    });
    bereave(&mut house);
    for _ in 0..50 {
        assert_eq!(client.value("SELECT count(*) FROM t"), "1");
        assert_eq!(role(&mut client), "replica");
    }
}

#[test]
fn whoever_listens_is_told_of_what_the_new_primary_notifies() {
    let mut house = House::new(2, TABLES, KEYS);
    let mut ears = house.client();
    ears.query("LISTEN news");
    notify(&house, "before");
    assert_eq!(notification(&mut ears), "before");
    bereave(&mut house);
    // One warning when the connection is lost, another when channels are listened to again.
    assert_eq!(ears.read_frame().tag, tag::NOTICE_RESPONSE);
    promote(&mut house);
    assert_eq!(ears.read_frame().tag, tag::NOTICE_RESPONSE);
    notify(&house, "after");
    assert_eq!(notification(&mut ears), "after");
    // Those who begin now are told as well.
    let mut later = house.client();
    later.query("LISTEN news");
    notify(&house, "at last");
    assert_eq!(notification(&mut ears), "at last");
    assert_eq!(notification(&mut later), "at last");
}

#[test]
fn the_new_primary_is_asked_for_the_secrets_of_users() {
    let primary = Postgres::start();
    primary.sql(&format!("{TABLES}; ALTER ROLE late PASSWORD 'secret'"));
    let replica = primary.replica();
    replica.wait_for_replay(&primary);
    let config = format!(
        "workers = 2\n[auth]\nmethod = \"scram-sha-256\"\nquery_user = \"postgres\"\n\
         query = \"SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1\"\n\
         [databases.app]\nurl = \"{}\"\nread_replicas = [\"{}\"]\n{KEYS}",
        primary.superuser_url(),
        replica.superuser_url(),
    );
    let pgweir = Pgweir::builder().config(&config).start();
    pgweir.wait_for_log("the primary is known", 1);
    let mut house = House {
        primary,
        replicas: vec![replica],
        pgweir,
    };
    bereave(&mut house);
    promote(&mut house);
    let mut client = Wire::log_in(house.pgweir.port(), "late", "app", Some("secret"));
    let frames = client.query("INSERT INTO t VALUES (1)");
    assert!(!is_error(&frames), "{frames:?}");
}

fn notify(house: &House, text: &str) {
    let frames = house.client().query(&format!("NOTIFY news, '{text}'"));
    assert!(!is_error(&frames), "{frames:?}");
}

fn notification(client: &mut Wire) -> String {
    let frame = client.read_frame();
    assert_eq!(frame.tag, tag::NOTIFICATION_RESPONSE, "{frame:?}");
    let mut texts = frame.body[4..].split(|byte| *byte == 0).skip(1);
    String::from_utf8_lossy(texts.next().unwrap()).into_owned()
}
