//! Databases that come and go while pgweir keeps connections to them.

use super::harness::crowd::{error, sqlstate};
use super::harness::wire::Frame;
use super::harness::{Pgweir, Postgres, Wire};

/// Any database, of one server; so many workers.
fn any_database(postgres: &Postgres, workers: u32) -> Pgweir {
    let port = postgres.port();
    let config = format!(
        "workers = {workers}\n[auth]\nmethod = \"trust\"\n[databases.\"*\"]\nurl = \"postgresql://127.0.0.1:{port}\"\n"
    );
    Pgweir::builder().config(&config).start()
}

fn log_in(pgweir: &Pgweir, database: &str) -> Wire {
    Wire::log_in(pgweir.port(), "postgres", database, None)
}

fn assert_done(frames: &[Frame]) {
    assert!(error(frames).is_none(), "{frames:?}");
}

/// A client has used it and has left; the connection it had is still there.
fn use_once(pgweir: &Pgweir, database: &str) {
    let mut wire = log_in(pgweir, database);
    assert_eq!(wire.value("SELECT current_database()"), database);
    wire.terminate();
    wire.read_until_closed();
}

#[test]
fn a_database_is_dropped_although_its_pool_has_connections() {
    let postgres = Postgres::start();
    let pgweir = any_database(&postgres, 3);
    let mut wire = log_in(&pgweir, "postgres");
    for (name, sql) in [
        ("plain", "DROP DATABASE plain"),
        ("checked", "drop database if exists CHECKED;"),
        ("Odd \"one\"", "/* it goes */ DROP DATABASE \"Odd \"\"one\"\"\""),
    ] {
        let quoted = name.replace('"', "\"\"");
        assert_done(&wire.query(&format!("CREATE DATABASE \"{quoted}\"")));
        use_once(&pgweir, name);
        use_once(&pgweir, name);
        assert_done(&wire.query(sql));
    }
}

#[test]
fn a_database_is_dropped_by_a_prepared_statement_too() {
    let postgres = Postgres::start();
    let pgweir = any_database(&postgres, 3);
    let mut wire = log_in(&pgweir, "postgres");
    for name in ["", "named"] {
        assert_done(&wire.query("CREATE DATABASE gone"));
        use_once(&pgweir, "gone");
        wire.send_parse(name, "DROP DATABASE gone");
        wire.send_bind("", name, &[]);
        wire.send_execute("", 0);
        wire.send_sync();
        assert_done(&wire.read_until_ready());
    }
}

#[test]
fn a_database_is_copied_and_renamed_although_its_pool_has_connections() {
    let postgres = Postgres::start();
    let pgweir = any_database(&postgres, 3);
    let mut wire = log_in(&pgweir, "postgres");
    assert_done(&wire.query("CREATE DATABASE one"));
    for sql in [
        "CREATE DATABASE two TEMPLATE one",
        "CREATE DATABASE three OWNER postgres TEMPLATE = \"one\" ENCODING 'UTF8'",
        "ALTER DATABASE one RENAME TO four",
    ] {
        use_once(&pgweir, "one");
        assert_done(&wire.query(sql));
    }
    use_once(&pgweir, "two");
}

#[test]
fn a_database_that_a_client_is_using_is_not_dropped() {
    let postgres = Postgres::start();
    let pgweir = any_database(&postgres, 1);
    let mut wire = log_in(&pgweir, "postgres");
    assert_done(&wire.query("CREATE DATABASE used"));
    let mut user = log_in(&pgweir, "used");
    user.query("BEGIN");
    user.query("CREATE TABLE kept (a int)");
    assert_eq!(sqlstate(&wire.query("DROP DATABASE used")), "55006");
    user.query("COMMIT");
    assert_eq!(user.value("SELECT count(*) FROM kept"), "0");
}
