//! Users that only a server knows.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use super::harness::clients::{Ran, psql};
use super::harness::{PATIENCE, Pgweir, Postgres, Wire};

const HBA: &str = "local all all trust\nhost all hashed all md5\nhost all all all scram-sha-256\nhost replication all all scram-sha-256\n";

/// A server that counts how often it is asked, with a user of each kind of secret; every password is `secret`.
fn server() -> Postgres {
    let postgres = Postgres::builder().hba(HBA).start();
    prepare(&postgres);
    postgres
}

fn prepare(postgres: &Postgres) {
    postgres.sql(
        "CREATE ROLE asker LOGIN PASSWORD 'asking'; CREATE ROLE ann LOGIN PASSWORD 'secret';
         CREATE ROLE bob LOGIN PASSWORD 'secret'; SET password_encryption = 'md5';
         CREATE ROLE hashed LOGIN PASSWORD 'secret'; CREATE TABLE asked (who text);
         CREATE FUNCTION look_up(who text) RETURNS TABLE (name name, secret text)
         LANGUAGE plpgsql SECURITY DEFINER AS $$
         BEGIN
             INSERT INTO public.asked VALUES (who);
             RETURN QUERY SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE rolname = who AND rolcanlogin;
         END $$",
    );
}

fn config(postgres: &Postgres, method: &str, keys: &str) -> String {
    format!(
        "workers = 2\n[auth]\nmethod = \"{method}\"\nquery = \"SELECT * FROM look_up($1)\"\nquery_user = \"asker\"\nquery_cache = \"1h\"\n\
         [users.asker]\npassword = \"asking\"\n[databases.app]\nurl = \"postgresql://127.0.0.1:{}/postgres\"\n{keys}\n",
        postgres.port()
    )
}

fn pooler(postgres: &Postgres, method: &str, keys: &str) -> Pgweir {
    Pgweir::builder().config(&config(postgres, method, keys)).start()
}

fn asked(postgres: &Postgres, who: &str) -> usize {
    let count = postgres.sql(&format!("SELECT count(*) FROM asked WHERE who = '{who}'"));
    count.parse().unwrap()
}

fn ask(pgweir: &Pgweir, user: &str, password: &str) -> Ran {
    let url = format!("postgresql://{user}:{password}@127.0.0.1:{}/app", pgweir.port());
    psql(&url, "SELECT current_user")
}

/// Logs in again and again until it works.
fn ask_until_let_in(pgweir: &Pgweir, user: &str, password: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ran = ask(pgweir, user, password);
        if ran.is_success {
            return;
        }
        assert!(Instant::now() < deadline, "never let in: {}", ran.stderr);
    }
}

/// The process of a connection that was closed takes a moment to end.
fn wait_for_connections(postgres: &Postgres, most: usize) {
    let deadline = Instant::now() + PATIENCE;
    while postgres.connections() > most {
        assert!(
            Instant::now() < deadline,
            "{} connections",
            postgres.connections()
        );
    }
}

#[test]
fn a_user_known_to_the_server_alone_logs_in_on_every_major() {
    for major in [14, 15, 18] {
        let postgres = Postgres::builder().major(major).hba(HBA).start();
        prepare(&postgres);
        let pgweir = pooler(&postgres, "scram-sha-256", "");
        assert_eq!(ask(&pgweir, "ann", "secret").success(), "ann");
        assert_eq!(ask(&pgweir, "bob", "secret").success(), "bob");
        for (user, password) in [("ann", "guess"), ("nobody", "secret"), ("hashed", "secret")] {
            let error = ask(&pgweir, user, password).failure();
            let expected = format!("password authentication failed for user \"{user}\"");
            assert!(error.contains(&expected), "{error}");
        }
        let pgweir = pooler(&postgres, "md5", "");
        for user in ["ann", "hashed"] {
            assert_eq!(ask(&pgweir, user, "secret").success(), user);
            ask(&pgweir, user, "guess").failure();
        }
        let pgweir = pooler(&postgres, "password", "");
        for user in ["ann", "hashed"] {
            assert_eq!(ask(&pgweir, user, "secret").success(), user);
        }
        let log = pgweir.log();
        assert!(
            !log.contains("secret") && !log.contains("asking") && !log.contains("SCRAM-SHA-256$"),
            "{log}"
        );
    }
}

#[test]
fn fifty_logins_of_one_user_at_once_ask_once() {
    let postgres = server();
    let pgweir = pooler(&postgres, "scram-sha-256", "");
    let barrier = Barrier::new(50);
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                barrier.wait();
                let mut wire = Wire::log_in(pgweir.port(), "ann", "app", Some("secret"));
                assert_eq!(wire.value("SELECT current_user"), "ann");
            });
        }
    });
    assert_eq!(asked(&postgres, "ann"), 1);
    ask(&pgweir, "ann", "secret").success();
    assert_eq!(asked(&postgres, "ann"), 1);
}

#[test]
fn logins_that_fail_ask_again_at_most_once_a_second() {
    let postgres = server();
    let pgweir = pooler(&postgres, "scram-sha-256", "");
    let begun = Instant::now();
    let mut failed = 0;
    while begun.elapsed().as_millis() < 2_500 {
        for user in ["ann", "nobody"] {
            ask(&pgweir, user, "guess").failure();
        }
        failed += 1;
    }
    let most = usize::try_from(begun.elapsed().as_secs()).unwrap() + 2;
    for user in ["ann", "nobody"] {
        let asked = asked(&postgres, user);
        assert!(
            (2..=most).contains(&asked) || failed < 3,
            "{user}: {asked} of {failed}"
        );
    }
}

#[test]
fn a_changed_password_counts_although_the_old_one_is_cached() {
    let postgres = server();
    let pgweir = pooler(&postgres, "scram-sha-256", "");
    ask(&pgweir, "ann", "secret").success();
    postgres.sql("ALTER ROLE ann PASSWORD 'other'");
    ask_until_let_in(&pgweir, "ann", "other");
    let error = ask(&pgweir, "ann", "secret").failure();
    assert!(error.contains("password authentication failed"), "{error}");
    // The server connections of the pool, too, are opened with the new one.
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ann'");
    ask_until_let_in(&pgweir, "ann", "other");
}

#[test]
fn a_user_dropped_on_the_server_is_forgotten_at_a_reload() {
    let postgres = server();
    let pgweir = pooler(&postgres, "scram-sha-256", "");
    ask(&pgweir, "ann", "secret").success();
    postgres.sql("DROP ROLE ann");
    pgweir.hup();
    pgweir.wait_for_log("configuration reloaded", 1);
    ask(&pgweir, "ann", "secret").failure();
    assert_eq!(asked(&postgres, "ann"), 2);
}

#[test]
fn after_a_reload_the_server_that_is_configured_then_is_asked() {
    let (old, new) = (server(), server());
    new.sql("ALTER ROLE ann PASSWORD 'new'");
    let pgweir = pooler(&old, "scram-sha-256", "");
    ask(&pgweir, "ann", "secret").success();
    pgweir.write_config(&config(&new, "scram-sha-256", ""));
    pgweir.hup();
    pgweir.wait_for_log("configuration reloaded", 1);
    assert_eq!(ask(&pgweir, "ann", "new").success(), "ann");
    ask(&pgweir, "ann", "secret").failure();
}

#[test]
fn an_unknown_user_and_a_wrong_password_get_the_same_answer() {
    let postgres = server();
    for method in ["password", "md5", "scram-sha-256"] {
        let pgweir = pooler(&postgres, method, "");
        ask(&pgweir, "ann", "secret").success();
        let [known, unknown] = ["ann", "nil"].map(|user| {
            let error = ask(&pgweir, user, "guess").failure();
            error.replace(user, "USER")
        });
        assert_eq!(known, unknown);
        let first = |user: &str| {
            let mut wire = pgweir.wire();
            wire.startup(&[("user", user), ("database", "app")]);
            wire.read_frame()
        };
        if method != "md5" {
            assert_eq!(first("ann"), first("nil"));
        }
    }
}

#[test]
fn the_asking_connection_is_beside_the_pool_and_within_the_limit_of_the_database() {
    let postgres = server();
    let pgweir = pooler(
        &postgres,
        "scram-sha-256",
        "pool_size = 1\nmax_db_connections = 2\npool_timeout = \"1s\"",
    );
    let mut ann = Wire::log_in(pgweir.port(), "ann", "app", Some("secret"));
    ann.query("BEGIN; SELECT 1");
    assert_eq!(postgres.connections(), 2);
    // The one that asks makes room for a pool, and a pool's idle one for the one that asks.
    assert_eq!(ask(&pgweir, "bob", "secret").success(), "bob");
    wait_for_connections(&postgres, 2);
    ask(&pgweir, "nobody", "secret").failure();
    assert_eq!(asked(&postgres, "nobody"), 1);
    wait_for_connections(&postgres, 2);
    ann.query("COMMIT");
}

#[test]
fn pool_settings_of_a_user_do_not_hide_it_from_the_query() {
    let postgres = server();
    let pgweir = pooler(&postgres, "scram-sha-256", "[users.ann]\npool_size = 1\n");
    assert_eq!(ask(&pgweir, "ann", "secret").success(), "ann");
}

#[test]
fn a_query_that_fails_is_no_wrong_password_and_is_asked_again() {
    let postgres = server();
    let pgweir = pooler(&postgres, "scram-sha-256", "");
    postgres.sql("ALTER FUNCTION look_up RENAME TO gone");
    for user in ["ann", "nobody"] {
        let mut wire = pgweir.wire();
        wire.startup(&[("user", user), ("database", "app")]);
        assert_eq!(wire.read_fatal().sqlstate(), "57P03");
    }
    pgweir.wait_for_log("the auth query failed", 1);
    postgres.sql("ALTER FUNCTION gone RENAME TO look_up");
    ask_until_let_in(&pgweir, "ann", "secret");
}

#[test]
fn an_asking_connection_that_was_lost_is_opened_anew_unnoticed() {
    let postgres = server();
    let pgweir = pooler(&postgres, "scram-sha-256", "");
    ask(&pgweir, "ann", "secret").success();
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'asker'");
    assert_eq!(ask(&pgweir, "bob", "secret").success(), "bob");
}

#[test]
fn the_settings_of_a_client_do_not_reach_the_query() {
    let postgres = server();
    postgres.sql(
        "CREATE SCHEMA evil; GRANT ALL ON SCHEMA evil TO PUBLIC;
         CREATE FUNCTION evil.look_up(text) RETURNS TABLE (name name, secret text)
         LANGUAGE sql AS $$ SELECT $1::name, 'evil' $$",
    );
    let pgweir = pooler(&postgres, "scram-sha-256", "");
    let path = [("search_path", "evil"), ("options", "-c search_path=evil,public")];
    for setting in path {
        let mut wire = pgweir.wire();
        wire.startup(&[("user", "ann"), ("database", "app"), setting]);
        wire.authenticate("ann", "secret");
        assert!(wire.value("SHOW search_path").starts_with("evil"));
    }
    // Who knows the password of the false function is not let in, not even as the first to be asked for.
    let url = format!(
        "postgresql://bob:evil@127.0.0.1:{}/app?options=-csearch_path%3Devil",
        pgweir.port()
    );
    psql(&url, "SELECT 1").failure();
    assert_eq!((asked(&postgres, "ann"), asked(&postgres, "bob")), (1, 1));
}

#[test]
fn clear_passwords_of_a_query_serve_at_the_server_too() {
    let postgres = server();
    postgres.sql(
        "CREATE OR REPLACE FUNCTION look_up(who text) RETURNS TABLE (name name, secret text)
         LANGUAGE sql AS $$ SELECT who::name, 'secret' WHERE who = 'ann' $$",
    );
    let pgweir = pooler(&postgres, "scram-sha-256", "");
    assert_eq!(ask(&pgweir, "ann", "secret").success(), "ann");
    ask(&pgweir, "bob", "secret").failure();
}

#[test]
fn the_password_of_a_url_is_not_used_for_another_asking_user() {
    let postgres = server();
    postgres.sql("ALTER ROLE asker PASSWORD 'secret'");
    let config = format!(
        "[auth]\nmethod = \"scram-sha-256\"\nquery = \"SELECT * FROM look_up($1)\"\nquery_user = \"asker\"\n\
         [databases.app]\nurl = \"postgresql://ann:secret@127.0.0.1:{}/postgres\"\n",
        postgres.port()
    );
    let pgweir = Pgweir::builder().config(&config).start();
    let error = ask(&pgweir, "bob", "secret").failure();
    assert!(error.contains("cannot be checked"), "{error}");
    pgweir.wait_for_log("no secret for it is known", 1);
    // Without a name for it, the URL's own user asks.
    let pgweir = Pgweir::builder()
        .config(&config.replace("query_user = \"asker\"\n", ""))
        .start();
    assert_eq!(ask(&pgweir, "bob", "secret").success(), "ann");
}

#[test]
fn a_client_of_physical_replication_is_asked_about_at_the_only_server() {
    let postgres = server();
    postgres.sql("ALTER ROLE ann REPLICATION");
    let pgweir = pooler(&postgres, "scram-sha-256", "");
    let mut wire = pgweir.wire();
    wire.startup(&[("user", "ann"), ("replication", "true")]);
    wire.authenticate("ann", "secret");
    assert_eq!(wire.rows("IDENTIFY_SYSTEM").len(), 1);
    assert_eq!(asked(&postgres, "ann"), 1);
}

#[test]
fn any_name_under_a_wildcard_is_a_database_of_the_server() {
    let postgres = server();
    let config = config(&postgres, "scram-sha-256", "")
        .replace("/postgres", "")
        .replace("databases.app", "databases.\"*\"");
    let config = config.replace("look_up", "public.look_up");
    let pgweir = Pgweir::builder().config(&config).start();
    let url = format!("postgresql://ann:secret@127.0.0.1:{}/postgres", pgweir.port());
    assert_eq!(psql(&url, "SELECT current_database()").success(), "postgres");
    let error = psql(&url.replace("/postgres", "/nowhere"), "SELECT 1").failure();
    assert!(error.contains("cannot be checked"), "{error}");
    // The console is none of them, and no server is asked who may come there.
    let error = psql(&url.replace("/postgres", "/pgweir"), "SHOW VERSION").failure();
    assert!(error.contains("password authentication failed"), "{error}");
}
