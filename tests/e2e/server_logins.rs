//! How pgweir logs in to servers, and what becomes of clients when it cannot.

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use super::harness::certificates::write_private;
use super::harness::clients::psql;
use super::harness::{PATIENCE, Pgweir, Postgres, Wire};

const HBA: &str = "local all all trust\nhost all clear all password\nhost all hashed all md5\nhost all all all scram-sha-256\n";

/// A server with a user for each method; every password is `secret`.
fn server(major: u32) -> Postgres {
    let postgres = Postgres::builder().major(major).hba(HBA).start();
    postgres.sql(
        "CREATE ROLE clear LOGIN PASSWORD 'secret'; CREATE ROLE salted LOGIN PASSWORD 'secret';
         CREATE ROLE other LOGIN PASSWORD 'secret';
         SET password_encryption = 'md5'; CREATE ROLE hashed LOGIN PASSWORD 'secret'",
    );
    postgres
}

fn stored(postgres: &Postgres, user: &str) -> String {
    postgres.sql(&format!(
        "SELECT rolpassword FROM pg_authid WHERE rolname = '{user}'"
    ))
}

fn start(config: &str) -> Pgweir {
    Pgweir::builder()
        .config(&format!("workers = 1\n{config}"))
        .start()
}

fn url(pgweir: &Pgweir, user: &str, password: &str) -> String {
    format!("postgresql://{user}:{password}@127.0.0.1:{}/app", pgweir.port())
}

fn by_file(postgres: &Postgres, file: &Path) -> String {
    format!(
        "[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"postgresql://salted:${{file:{}}}@127.0.0.1:{}/postgres\"\n",
        file.display(),
        postgres.port()
    )
}

fn terminate(postgres: &Postgres, user: &str) {
    postgres.sql(&format!(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = '{user}'"
    ));
}

/// Asks again and again until the pooler has its server.
fn wait_for_success(url: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !psql(url, "SELECT 1").is_success {
        assert!(Instant::now() < deadline, "it does not recover");
    }
}

#[test]
fn the_password_of_a_url_serves_each_method_of_each_major() {
    for major in [14, 15, 18] {
        let postgres = server(major);
        let mut config = "log_level = \"trace\"\n[auth]\nmethod = \"trust\"\n".to_owned();
        for user in ["clear", "hashed", "salted"] {
            let port = postgres.port();
            config.push_str(&format!(
                "[databases.{user}]\nurl = \"postgresql://{user}:secret@127.0.0.1:{port}/postgres\"\n"
            ));
        }
        let pgweir = start(&config);
        for user in ["clear", "hashed", "salted"] {
            let through = psql(&pgweir.url("anybody", user), "SELECT current_user");
            assert_eq!(through.success(), user, "{major}");
        }
        assert!(!pgweir.log_contains("secret"), "{}", pgweir.log());
    }
}

#[test]
fn what_is_stored_about_the_user_of_a_url_serves_where_it_has_no_password() {
    let postgres = server(15);
    let (hashed, salted) = (stored(&postgres, "hashed"), stored(&postgres, "salted"));
    let mut config = format!(
        "[auth]\nmethod = \"password\"\n[users.clear]\npassword = \"secret\"\n[users.hashed]\npassword = \"{hashed}\"\n\
         [users.salted]\npassword = \"{salted}\"\n[users.other]\npassword = \"secret\"\n"
    );
    for user in ["clear", "hashed", "salted"] {
        let port = postgres.port();
        config.push_str(&format!(
            "[databases.{user}]\nurl = \"postgresql://{user}@127.0.0.1:{port}/postgres\"\n"
        ));
    }
    let pgweir = start(&config);
    let ask = |user: &str, database: &str| {
        let url = format!(
            "postgresql://{user}:secret@127.0.0.1:{}/{database}",
            pgweir.port()
        );
        psql(&url, "SELECT current_user")
    };
    assert_eq!(ask("other", "clear").success(), "clear");
    assert_eq!(ask("other", "hashed").success(), "hashed");
    // From a SCRAM verifier nobody can log in; the user's own login can.
    let error = ask("other", "salted").failure();
    assert!(error.contains("no secret for it is known"), "{error}");
    assert_eq!(ask("salted", "salted").success(), "salted");
    assert_eq!(ask("other", "salted").success(), "salted");
}

#[test]
fn a_clients_own_login_serves_at_the_server_and_each_user_has_a_pool_of_its_own() {
    for major in [14, 15, 18] {
        let postgres = server(major);
        for (method, users) in [
            ("scram-sha-256", vec!["salted", "other"]),
            ("md5", vec!["salted", "hashed"]),
            ("password", vec!["clear", "salted", "hashed"]),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let lines = ["clear", "salted", "hashed", "other"]
                .map(|user| format!("\"{user}\" \"{}\"\n", stored(&postgres, user)));
            let file = write_private(directory.path(), "userlist.txt", &lines.concat());
            let pgweir = start(&format!(
                "[auth]\nmethod = \"{method}\"\nusers_file = \"{}\"\n[databases.app]\nurl = \"postgresql://127.0.0.1:{}/postgres\"\n",
                file.display(),
                postgres.port()
            ));
            for _ in 0..2 {
                for user in &users {
                    let through = psql(&url(&pgweir, user, "secret"), "SELECT session_user, current_user");
                    assert_eq!(through.success(), format!("{user}|{user}"), "{method} {major}");
                }
            }
            assert_eq!(postgres.connections(), users.len());
        }
    }
}

#[test]
fn a_verifier_of_another_salt_is_no_way_through_and_says_so() {
    let postgres = server(15);
    let verifier = stored(&postgres, "salted");
    postgres.sql("ALTER ROLE salted PASSWORD 'secret'");
    let pgweir = start(&format!(
        "[auth]\n[users.salted]\npassword = \"{verifier}\"\n[databases.app]\nurl = \"postgresql://127.0.0.1:{}/postgres\"\n",
        postgres.port()
    ));
    let error = psql(&url(&pgweir, "salted", "secret"), "SELECT 1").failure();
    assert!(
        error.contains("password authentication failed for user \"salted\""),
        "{error}"
    );
}

#[test]
fn a_client_without_a_secret_cannot_pass_through_where_one_is_asked_for() {
    let postgres = server(15);
    let config = format!(
        "[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"postgresql://127.0.0.1:{}/postgres\"\n",
        postgres.port()
    );
    let pgweir = start(&config);
    let error = psql(&pgweir.url("salted", "app"), "SELECT 1").failure();
    assert!(error.contains("no secret for it is known"), "{error}");
    assert!(error.contains("HINT"), "{error}");
}

#[test]
fn the_password_of_a_url_goes_with_it() {
    let postgres = server(15);
    let config = |credentials: &str| {
        let port = postgres.port();
        format!(
            "workers = 1\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"postgresql://{credentials}127.0.0.1:{port}/postgres\"\n"
        )
    };
    let pgweir = Pgweir::builder().config(&config("salted:secret@")).start();
    let through = pgweir.url("salted", "app");
    assert_eq!(psql(&through, "SELECT current_user").success(), "salted");
    pgweir.write_config(&config(""));
    pgweir.hup();
    pgweir.wait_for_log("configuration reloaded", 1);
    terminate(&postgres, "salted");
    let error = psql(&through, "SELECT 1").failure();
    assert!(error.contains("no secret for it is known"), "{error}");
}

#[test]
fn a_refused_password_is_told_in_the_servers_words_and_the_pooler_recovers() {
    let postgres = server(15);
    let directory = tempfile::tempdir().unwrap();
    let file = write_private(directory.path(), "password", "wrong");
    let mut pgweir = start(&by_file(&postgres, &file));
    let through = pgweir.url("anybody", "app");
    let begun = Barrier::new(20);
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let mut wire = pgweir.wire();
                begun.wait();
                wire.startup(&[("user", "anybody"), ("database", "app")]);
                let error = wire.read_fatal();
                assert_eq!(error.sqlstate(), "28P01");
                assert_eq!(
                    error.message(),
                    "password authentication failed for user \"salted\""
                );
            });
        }
    });
    // Not each client has knocked at the server with the wrong password.
    let knocks = postgres
        .log()
        .matches("password authentication failed for user \"salted\"")
        .count();
    assert!(knocks < 20, "{knocks}");
    assert!(pgweir.is_running());
    assert!(!pgweir.log_contains("wrong"), "{}", pgweir.log());
    fs::write(&file, "secret").unwrap();
    wait_for_success(&through);
    // Or the server takes up the password that is configured.
    postgres.sql("ALTER ROLE salted PASSWORD 'third'");
    terminate(&postgres, "salted");
    let error = psql(&through, "SELECT 1").failure();
    assert!(error.contains("password authentication failed"), "{error}");
    postgres.sql("ALTER ROLE salted PASSWORD 'secret'");
    wait_for_success(&through);
}

#[test]
fn a_secret_that_has_changed_on_disk_is_tried_before_anybody_is_refused() {
    let postgres = server(15);
    let directory = tempfile::tempdir().unwrap();
    let file = write_private(directory.path(), "password", "secret");
    let inline = format!(
        "[auth]\nmethod = \"trust\"\n[users.salted]\npassword = \"${{file:{}}}\"\n[databases.app]\nurl = \"postgresql://salted@127.0.0.1:{}/postgres\"\n",
        file.display(),
        postgres.port()
    );
    let passed = inline.replace("//salted@", "//");
    for (round, config) in [by_file(&postgres, &file), inline, passed].iter().enumerate() {
        let pgweir = start(config);
        let through = pgweir.url("salted", "app");
        psql(&through, "SELECT 1").success();
        let password = format!("changed {round}");
        postgres.sql(&format!("ALTER ROLE salted PASSWORD '{password}'"));
        fs::write(&file, &password).unwrap();
        terminate(&postgres, "salted");
        assert_eq!(
            psql(&through, "SELECT current_user").success(),
            "salted",
            "{config}"
        );
    }
}

#[test]
fn a_secret_that_has_changed_on_disk_is_taken_up_at_a_reload() {
    let postgres = server(15);
    let directory = tempfile::tempdir().unwrap();
    let file = write_private(directory.path(), "password", "secret");
    let pgweir = start(&by_file(&postgres, &file));
    let mut old = Wire::log_in(pgweir.port(), "anybody", "app", None);
    old.value("SELECT 1");
    postgres.sql("ALTER ROLE salted PASSWORD 'changed'");
    fs::write(&file, "changed").unwrap();
    pgweir.hup();
    pgweir.wait_for_log("configuration reloaded", 1);
    terminate(&postgres, "salted");
    assert_eq!(psql(&pgweir.url("anybody", "app"), "SELECT 1").success(), "1");
    assert_eq!(old.value("SELECT 1"), "1");
    assert!(
        !postgres.log().contains("password authentication failed"),
        "{}",
        postgres.log()
    );
}

#[test]
fn what_the_server_refuses_beside_the_password_is_told_too() {
    let postgres = server(15);
    postgres.sql("ALTER ROLE other NOLOGIN");
    let port = postgres.port();
    let pgweir = start(&format!(
        "[auth]\nmethod = \"trust\"\n[databases.nowhere]\nurl = \"postgresql://salted:secret@127.0.0.1:{port}/nowhere\"\n\
         [databases.nologin]\nurl = \"postgresql://other:secret@127.0.0.1:{port}/postgres\"\n\
         [databases.closed]\nurl = \"postgresql://salted:secret@127.0.0.1:1/postgres\"\n"
    ));
    for (database, state, text) in [
        ("nowhere", "3D000", "database \"nowhere\" does not exist"),
        ("nologin", "28000", "role \"other\" is not permitted to log in"),
        ("closed", "08001", "could not connect to the PostgreSQL server"),
    ] {
        let mut wire = pgweir.wire();
        wire.startup(&[("user", "anybody"), ("database", database)]);
        let error = wire.read_fatal();
        assert_eq!(
            (error.sqlstate().as_str(), error.message().as_str()),
            (state, text)
        );
    }
}

#[test]
fn a_client_that_is_logged_in_keeps_its_session_while_the_server_refuses() {
    let postgres = server(15);
    let directory = tempfile::tempdir().unwrap();
    let file = write_private(directory.path(), "password", "secret");
    let pgweir = start(&by_file(&postgres, &file));
    let mut wire = Wire::log_in(pgweir.port(), "anybody", "app", None);
    wire.value("SELECT 1");
    postgres.sql("ALTER ROLE salted PASSWORD 'changed'");
    terminate(&postgres, "salted");
    let frames = wire.query("SELECT 1");
    assert_eq!(frames[0].sqlstate(), "28P01");
    assert_eq!(frames[0].field('S').unwrap(), "ERROR");
    fs::write(&file, "changed").unwrap();
    let deadline = Instant::now() + PATIENCE;
    while wire.query("SELECT 1").len() < 4 {
        assert!(Instant::now() < deadline, "it does not recover");
    }
}

#[test]
fn no_secret_is_ever_in_the_log() {
    let postgres = server(15);
    postgres.sql(
        "ALTER ROLE clear PASSWORD 'server-pass'; ALTER ROLE salted PASSWORD 'server-pass';
         ALTER ROLE other PASSWORD 'server-pass';
         SET password_encryption = 'md5'; ALTER ROLE hashed PASSWORD 'server-pass'",
    );
    let directory = tempfile::tempdir().unwrap();
    let file = write_private(directory.path(), "password", "first-pass");
    let verifier = stored(&postgres, "salted");
    let hash = stored(&postgres, "hashed");
    let port = postgres.port();
    for (format, method) in [("json", "scram-sha-256"), ("text", "md5"), ("text", "password")] {
        let pgweir = start(&format!(
            "log_level = \"trace\"\nlog_format = \"{format}\"\nlog_slow_queries = \"1ms\"\n[auth]\nmethod = \"{method}\"\n\
             query = \"SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1\"\nquery_user = \"postgres\"\n\
             [users.salted]\npassword = \"{verifier}\"\n[users.hashed]\npassword = \"{hash}\"\n\
             [users.clear]\npassword = \"inline-pass\"\n\
             [databases.app]\nurl = \"postgresql://127.0.0.1:{port}/postgres\"\n\
             [databases.filed]\nurl = \"postgresql://salted:${{file:{}}}@127.0.0.1:{port}/postgres\"\n",
            file.display()
        ));
        for user in ["salted", "hashed", "clear", "other", "nobody"] {
            for password in ["server-pass", "inline-pass", "guessed-pass"] {
                for database in ["app", "filed"] {
                    let url = format!(
                        "postgresql://{user}:{password}@127.0.0.1:{}/{database}",
                        pgweir.port()
                    );
                    let _ = psql(&url, "SELECT 1");
                }
            }
        }
        pgweir.hup();
        pgweir.wait_for_log("configuration reloaded", 1);
        // Something is told about each, and nothing that could log anybody in.
        pgweir.wait_for_log("login refused", 10);
        let log = pgweir.log();
        let keys = verifier.split(['$', ':']).skip(2);
        let secrets = [
            "first-pass",
            "inline-pass",
            "guessed-pass",
            "server-pass",
            &verifier,
            &hash,
        ];
        for secret in keys.chain(secrets) {
            assert!(!log.contains(secret), "{secret}:\n{log}");
        }
    }
}
