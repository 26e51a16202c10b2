//! TLS with servers.

use std::path::Path;

use pgweir::protocol::tag;
use tempfile::TempDir;

use super::harness::certificates::{Authority, Identity, write_private};
use super::harness::clients::{Ran, psql};
use super::harness::wire::Frame;
use super::harness::{Pgweir, Postgres, Wire};

const ENCRYPTED_ONLY: &str = "local all all trust\nhostssl all all all trust\n";
const SCRAM: &str = "local all all trust\nhostssl all all all scram-sha-256\n";

/// A server with this certificate, whose clients' certificates come from the authority.
fn server(major: u32, hba: &str, authority: &Authority, identity: &Identity) -> Postgres {
    let postgres = Postgres::builder().major(major).hba(hba).start();
    postgres.sql("CREATE ROLE app LOGIN PASSWORD 'secret'");
    for (name, text) in [
        ("server.crt", identity.certificate.as_str()),
        ("server.key", identity.key.as_str()),
        ("ca.crt", authority.certificate()),
    ] {
        postgres.write_file(name, text.as_bytes()).unwrap();
    }
    for setting in ["ssl_ca_file = 'ca.crt'", "ssl = on"] {
        postgres.sql(&format!("ALTER SYSTEM SET {setting}"));
    }
    postgres.sql("SELECT pg_reload_conf()");
    // The postmaster reads its configuration when it sees the signal.
    while postgres.sql("SHOW ssl") != "on" {}
    postgres
}

fn own_server(hba: &str, authority: &Authority) -> Postgres {
    server(15, hba, authority, &authority.server(&["127.0.0.1", "localhost"]))
}

fn config(postgres: &Postgres, options: &str, section: &str) -> String {
    format!(
        "workers = 1\n[auth]\nmethod = \"trust\"\n[server_tls]\n{section}\n\
         [databases.app]\nurl = \"postgresql://app:secret@127.0.0.1:{}/postgres?{options}\"\n",
        postgres.port()
    )
}

fn start(postgres: &Postgres, options: &str, section: &str) -> Pgweir {
    Pgweir::builder()
        .config(&config(postgres, options, section))
        .start()
}

/// Whether the server connection of a query has TLS.
fn ask(pgweir: &Pgweir) -> Ran {
    let is_encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    psql(&pgweir.url("app", "app"), is_encrypted)
}

fn files(authority: &Authority) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    write_private(directory.path(), "ca.crt", authority.certificate());
    directory
}

fn put(directory: &Path, identity: &Identity) {
    write_private(directory, "client.crt", &identity.certificate);
    write_private(directory, "client.key", &identity.key);
}

#[test]
fn each_mode_does_at_each_kind_of_server_what_libpq_does() {
    let authority = Authority::new();
    let directory = files(&authority);
    let ca = directory.path().join("ca.crt").display().to_string();
    let without_tls = Postgres::builder()
        .hba("local all all trust\nhost all all all trust\n")
        .start();
    without_tls.sql("CREATE ROLE app LOGIN PASSWORD 'secret'");
    let servers = [
        (
            "either",
            own_server("local all all trust\nhost all all all trust\n", &authority),
        ),
        ("encrypted only", own_server(ENCRYPTED_ONLY, &authority)),
        (
            "plain only",
            own_server("local all all trust\nhostnossl all all all trust\n", &authority),
        ),
        ("without", without_tls),
    ];
    for mode in [
        "disable",
        "allow",
        "prefer",
        "require",
        "verify-ca",
        "verify-full",
    ] {
        for (kind, postgres) in &servers {
            let mut options = format!("sslmode={mode}");
            if mode.starts_with("verify") {
                options.push_str(&format!("&sslrootcert={ca}"));
            }
            let direct = format!(
                "postgresql://app:secret@127.0.0.1:{}/postgres?{options}",
                postgres.port()
            );
            let direct = psql(
                &direct,
                "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
            );
            let through = ask(&start(postgres, &options, ""));
            assert_eq!(
                (through.is_success, through.stdout),
                (direct.is_success, direct.stdout),
                "{mode} at {kind}: {}",
                through.stderr
            );
        }
    }
}

#[test]
fn the_section_holds_where_the_url_says_nothing() {
    let authority = Authority::new();
    let directory = files(&authority);
    let postgres = own_server("local all all trust\nhost all all all trust\n", &authority);
    let section = |mode: &str| {
        format!(
            "mode = \"{mode}\"\nca = \"{}/ca.crt\"",
            directory.path().display()
        )
    };
    assert_eq!(ask(&start(&postgres, "", &section("verify-full"))).success(), "t");
    assert_eq!(ask(&start(&postgres, "", &section("disable"))).success(), "f");
    assert_eq!(
        ask(&start(&postgres, "sslmode=disable", &section("verify-full"))).success(),
        "f"
    );
}

#[test]
fn servers_that_are_not_who_they_should_be_are_refused() {
    let authority = Authority::new();
    let directory = files(&authority);
    let ca = directory.path().join("ca.crt").display().to_string();
    for (name, identity, by_chain, by_name) in [
        ("good", authority.server(&["127.0.0.1"]), true, true),
        ("elsewhere", authority.server(&["elsewhere"]), true, false),
        ("expired", authority.expired_server(&["127.0.0.1"]), false, false),
        ("stranger", Authority::new().server(&["127.0.0.1"]), false, false),
    ] {
        let postgres = server(15, ENCRYPTED_ONLY, &authority, &identity);
        assert_eq!(
            ask(&start(&postgres, "sslmode=require", "")).success(),
            "t",
            "{name}"
        );
        for (mode, expected) in [("verify-ca", by_chain), ("verify-full", by_name)] {
            let pgweir = start(&postgres, &format!("sslmode={mode}&sslrootcert={ca}"), "");
            let ran = ask(&pgweir);
            assert_eq!(ran.is_success, expected, "{mode}, {name}: {}", ran.stderr);
            if !expected {
                assert!(ran.stderr.contains("TLS"), "{}", ran.stderr);
                pgweir.wait_for_log("TLS handshake failed", 1);
            }
        }
    }
}

#[test]
fn a_client_certificate_logs_in_where_the_server_asks_for_one() {
    for major in [14, 15, 18] {
        let authority = Authority::new();
        let hba = "local all all trust\nhostssl all app all cert\nhostssl all all all scram-sha-256 clientcert=verify-ca\n";
        let postgres = server(major, hba, &authority, &authority.server(&["127.0.0.1"]));
        let directory = files(&authority);
        let at = directory.path().display();
        let section = format!("mode = \"require\"\ncert = \"{at}/client.crt\"\nkey = \"{at}/client.key\"");
        put(directory.path(), &authority.client("app"));
        assert_eq!(ask(&start(&postgres, "", &section)).success(), "t", "{major}");
        put(directory.path(), &authority.client("other"));
        let error = ask(&start(&postgres, "", &section)).failure();
        assert!(
            error.contains("certificate authentication failed for user \"app\""),
            "{error}"
        );
        let error = ask(&start(&postgres, "", "mode = \"require\"")).failure();
        assert!(
            error.contains("connection requires a valid client certificate"),
            "{error}"
        );
    }
}

#[test]
fn scram_with_channel_binding_on_every_major() {
    for major in [14, 15, 18] {
        let authority = Authority::new();
        let postgres = server(major, SCRAM, &authority, &authority.server(&["127.0.0.1"]));
        for binding in ["disable", "prefer", "require"] {
            let pgweir = start(
                &postgres,
                &format!("sslmode=require&channel_binding={binding}"),
                "",
            );
            assert_eq!(ask(&pgweir).success(), "t", "{binding} {major}");
        }
        // The keys of a client's own login can be bound as well as a password.
        let verifier = postgres.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'");
        let config = format!(
            "[auth]\n[users.app]\npassword = \"{verifier}\"\n\
             [databases.app]\nurl = \"postgresql://127.0.0.1:{}/postgres?sslmode=require&channel_binding=require\"\n",
            postgres.port()
        );
        let pgweir = Pgweir::builder().config(&config).start();
        let url = format!("postgresql://app:secret@127.0.0.1:{}/app", pgweir.port());
        assert_eq!(psql(&url, "SELECT current_user").success(), "app");
    }
}

#[test]
fn required_channel_binding_takes_no_server_that_does_not_bind() {
    let authority = Authority::new();
    for hba in ["trust", "password", "md5", "scram-sha-256"] {
        let postgres = own_server(
            &format!("local all all trust\nhost all all all {hba}\n"),
            &authority,
        );
        let encrypted = ask(&start(&postgres, "sslmode=require&channel_binding=require", ""));
        // With a SCRAM secret, `md5` asks for SCRAM.
        if hba == "scram-sha-256" || hba == "md5" {
            assert_eq!(encrypted.success(), "t");
        } else {
            let error = encrypted.failure();
            assert!(error.contains("channel binding is required"), "{hba}: {error}");
        }
        postgres.sql("ALTER SYSTEM SET ssl = off");
        postgres.sql("SELECT pg_reload_conf()");
        while postgres.sql("SHOW ssl") != "off" {}
        let error = ask(&start(&postgres, "sslmode=prefer&channel_binding=require", "")).failure();
        assert!(error.contains("channel binding is required"), "{hba}: {error}");
    }
}

#[test]
fn a_query_is_cancelled_at_a_server_that_takes_tls_alone() {
    let authority = Authority::new();
    let postgres = own_server(SCRAM, &authority);
    for mode in ["allow", "prefer", "require"] {
        let pgweir = start(&postgres, &format!("sslmode={mode}"), "");
        let mut wire = pgweir.wire();
        wire.startup(&[("user", "app"), ("database", "app")]);
        let greeting = wire.authenticate("app", "");
        let (process_id, secret) = greeting.iter().find_map(Frame::cancel_key).unwrap();
        wire.send_query("SELECT pg_sleep(60)");
        let sleeps =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
        while postgres.sql(sleeps) != "1" {}
        pgweir.wire().cancel(process_id, &secret);
        let frames = wire.read_until_ready();
        let error = frames
            .iter()
            .find(|frame| frame.tag == tag::ERROR_RESPONSE)
            .unwrap();
        assert_eq!(error.sqlstate(), "57014", "{mode}");
        assert_eq!(wire.value("SELECT 1"), "1");
    }
}

#[test]
fn new_files_serve_after_a_reload_and_old_connections_live_on() {
    let authority = Authority::new();
    let directory = files(&authority);
    let postgres = own_server(SCRAM, &authority);
    let section = format!(
        "mode = \"verify-full\"\nca = \"{}/ca.crt\"",
        directory.path().display()
    );
    let config = format!("pool_timeout = \"1s\"\n{}", config(&postgres, "", &section));
    let pgweir = Pgweir::builder().config(&config).start();
    let mut old = Wire::log_in(pgweir.port(), "app", "app", None);
    old.query("BEGIN; SELECT 1");
    write_private(directory.path(), "ca.crt", Authority::new().certificate());
    pgweir.hup();
    pgweir.wait_for_log("configuration reloaded", 1);
    // The old one is taken: this one has to be opened, and while the pool has one it is waited for.
    let mut new = Wire::log_in(pgweir.port(), "app", "app", None);
    let refused = &new.query("SELECT 1")[0];
    assert_eq!(refused.sqlstate(), "53300");
    assert!(
        refused.field('D').unwrap().contains("could not connect"),
        "{refused:?}"
    );
    assert_eq!(old.value("SELECT 1"), "1");
    write_private(directory.path(), "ca.crt", authority.certificate());
    pgweir.hup();
    pgweir.wait_for_log("configuration reloaded", 2);
    assert_eq!(new.value("SELECT 1"), "1");
    old.query("COMMIT");
}
