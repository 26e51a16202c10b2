//! Host-based rules in front of each login.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::harness::certificates::{Authority, write_private};
use super::harness::clients::{Ran, psql};
use super::harness::{Pgweir, Postgres};

/// A pooler with these rules, on TCP with TLS and on a Unix socket in the directory.
fn pooler(postgres: &Postgres, directory: &Path, rules: &str) -> (Pgweir, Authority) {
    let authority = Authority::new();
    let identity = authority.server(&["localhost", "127.0.0.1"]);
    let certificate = write_private(directory, "server.crt", &identity.certificate);
    let key = write_private(directory, "server.key", &identity.key);
    let ca = write_private(directory, "ca.crt", authority.certificate());
    let hba = write_private(directory, "hba.conf", rules);
    let config = format!(
        "listen = [\"127.0.0.1:{{port}}\", \"{}\"]\n[auth]\nmethod = \"hba\"\nhba_file = \"{}\"\n\
         [users.ann]\npassword = \"secret\"\n[users.bob]\npassword = \"secret\"\n\
         [tls]\nmode = \"allow\"\ncert = \"{}\"\nkey = \"{}\"\nca = \"{}\"\n\
         [databases.app]\nurl = \"{url}\"\n[databases.other]\nurl = \"{url}\"\n[databases.ann]\nurl = \"{url}\"\n",
        directory.display(),
        hba.display(),
        certificate.display(),
        key.display(),
        ca.display(),
        url = postgres.superuser_url(),
    );
    (Pgweir::builder().config(&config).start(), authority)
}

fn over_tcp(pgweir: &Pgweir, user: &str, database: &str, options: &str) -> Ran {
    let url = format!(
        "postgresql://{user}:secret@127.0.0.1:{}/{database}?{options}",
        pgweir.port()
    );
    psql(&url, "SELECT 1")
}

fn over_unix(pgweir: &Pgweir, directory: &TempDir, user: &str) -> Ran {
    let host = directory.path().display().to_string().replace('/', "%2F");
    psql(
        &format!("postgresql://{user}@{host}:{}/app", pgweir.port()),
        "SELECT 1",
    )
}

#[test]
fn the_first_rule_that_matches_decides() {
    let (postgres, directory) = (Postgres::start(), tempfile::tempdir().unwrap());
    let rules = "# comment\n\
        host app ann 127.0.0.1/32 scram-sha-256\n\
        host app ann 127.0.0.0/8 reject\n\
        host app \"bob\" 127.0.0.0 255.0.0.0 reject\n\
        host app bob all trust\n\
        hostssl other all all md5\n\
        host sameuser all all password\n";
    let (pgweir, _) = pooler(&postgres, directory.path(), rules);
    let plain = "sslmode=disable";
    assert_eq!(over_tcp(&pgweir, "ann", "app", plain).success(), "1");
    let error = over_tcp(&pgweir, "bob", "app", plain).failure();
    assert!(
        error.contains("pg_hba.conf rejects connection for user \"bob\", database \"app\""),
        "{error}"
    );
    assert_eq!(
        over_tcp(&pgweir, "bob", "other", "sslmode=require").success(),
        "1"
    );
    let error = over_tcp(&pgweir, "bob", "other", plain).failure();
    let expected = "no pg_hba.conf entry for user \"bob\", database \"other\"";
    assert!(error.contains(expected), "{error}");
    assert_eq!(over_tcp(&pgweir, "ann", "ann", plain).success(), "1");
    let error = over_tcp(&pgweir, "bob", "ann", plain).failure();
    assert!(error.contains("no pg_hba.conf entry"), "{error}");
}

#[test]
fn peers_of_the_unix_socket_are_who_the_system_says() {
    let (postgres, directory) = (Postgres::start(), tempfile::tempdir().unwrap());
    let (pgweir, _) = pooler(&postgres, directory.path(), "local all all peer\n");
    let own = Command::new("id").arg("-un").output().unwrap().stdout;
    let own = String::from_utf8(own).unwrap();
    assert_eq!(over_unix(&pgweir, &directory, own.trim()).success(), "1");
    let error = over_unix(&pgweir, &directory, "ann").failure();
    assert!(
        error.contains("Peer authentication failed for user \"ann\""),
        "{error}"
    );
}

#[test]
fn a_rule_may_ask_for_a_certificate_alone_or_on_top_of_a_password() {
    let (postgres, directory) = (Postgres::start(), tempfile::tempdir().unwrap());
    let rules = "hostssl app ann all cert\n\
        hostssl other all all scram-sha-256 clientcert=verify-ca\n\
        hostssl ann ann all scram-sha-256 clientcert=verify-full\n";
    let (pgweir, authority) = pooler(&postgres, directory.path(), rules);
    let with = |user: &str| {
        let identity = authority.client(user);
        let certificate = write_private(directory.path(), &format!("{user}.crt"), &identity.certificate);
        let key = write_private(directory.path(), &format!("{user}.key"), &identity.key);
        format!(
            "sslmode=require&sslcert={}&sslkey={}",
            certificate.display(),
            key.display()
        )
    };
    let without = "sslmode=require&sslcert=/none&sslkey=/none";
    assert_eq!(over_tcp(&pgweir, "ann", "app", &with("ann")).success(), "1");
    let error = over_tcp(&pgweir, "ann", "app", &with("bob")).failure();
    assert!(
        error.contains("certificate authentication failed for user \"ann\""),
        "{error}"
    );
    let error = over_tcp(&pgweir, "ann", "app", without).failure();
    assert!(
        error.contains("connection requires a valid client certificate"),
        "{error}"
    );
    assert_eq!(over_tcp(&pgweir, "ann", "other", &with("bob")).success(), "1");
    over_tcp(&pgweir, "ann", "other", without).failure();
    assert_eq!(over_tcp(&pgweir, "ann", "ann", &with("ann")).success(), "1");
    over_tcp(&pgweir, "ann", "ann", &with("bob")).failure();
}

#[test]
fn physical_replication_needs_a_rule_of_its_own() {
    let (postgres, directory) = (Postgres::start(), tempfile::tempdir().unwrap());
    let rules = "host all all all trust\n";
    let (pgweir, _) = pooler(&postgres, directory.path(), rules);
    let login = |replication: &str| {
        let mut wire = pgweir.wire();
        wire.startup(&[("user", "ann"), ("database", "app"), ("replication", replication)]);
        wire
    };
    let error = login("true").read_fatal();
    assert_eq!(error.sqlstate(), "28000");
    login("database").authenticate("ann", "");
}

#[test]
fn a_rule_that_cannot_be_honoured_keeps_the_old_ones_at_a_reload() {
    let (postgres, directory) = (Postgres::start(), tempfile::tempdir().unwrap());
    let (pgweir, _) = pooler(&postgres, directory.path(), "host all ann all trust\n");
    let plain = "sslmode=disable";
    assert_eq!(over_tcp(&pgweir, "ann", "app", plain).success(), "1");
    write_private(directory.path(), "hba.conf", "host all all all ldap\n");
    pgweir.hup();
    pgweir.wait_for_log("reload failed, nothing has changed", 1);
    pgweir.wait_for_log("authentication method \"ldap\" is not supported", 1);
    assert_eq!(over_tcp(&pgweir, "ann", "app", plain).success(), "1");
    write_private(directory.path(), "hba.conf", "host all bob all trust\n");
    pgweir.hup();
    pgweir.wait_for_log("configuration reloaded", 1);
    over_tcp(&pgweir, "ann", "app", plain).failure();
    assert_eq!(over_tcp(&pgweir, "bob", "app", plain).success(), "1");
}
