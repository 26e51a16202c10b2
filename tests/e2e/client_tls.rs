//! TLS with clients.

use std::path::{Path, PathBuf};

use pgweir::protocol::tag;
use tempfile::TempDir;

use super::harness::certificates::{Authority, Identity, write_private};
use super::harness::clients::{Ran, psql};
use super::harness::{Pgweir, Postgres, Wire};

/// A pooler that offers TLS; `app` has the password `secret`.
struct Stage {
    pgweir: Pgweir,
    authority: Authority,
    directory: TempDir,
    postgres: Postgres,
}

impl Stage {
    fn new(mode: &str) -> Self {
        Self::with(mode, "scram-sha-256", "")
    }

    fn with(mode: &str, method: &str, keys: &str) -> Self {
        let postgres = Postgres::start();
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        write_private(directory.path(), "ca.crt", authority.certificate());
        put(
            directory.path(),
            "server",
            &authority.server(&["localhost", "127.0.0.1"]),
        );
        let at = directory.path().display();
        let config = format!(
            "workers = 2\n{keys}\n[auth]\nmethod = \"{method}\"\n[users.app]\npassword = \"secret\"\n\
             [tls]\nmode = \"{mode}\"\ncert = \"{at}/server.crt\"\nkey = \"{at}/server.key\"\nca = \"{at}/ca.crt\"\n\
             [databases.app]\nurl = \"{}\"\n",
            postgres.superuser_url()
        );
        let pgweir = Pgweir::builder().config(&config).start();
        Self {
            pgweir,
            authority,
            directory,
            postgres,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn psql(&self, options: &str) -> Ran {
        let port = self.pgweir.port();
        psql(
            &format!("postgresql://app:secret@127.0.0.1:{port}/app?{options}"),
            "SELECT 1",
        )
    }

    /// The options for libpq to show a certificate.
    fn show(&self, name: &str, identity: &Identity) -> String {
        let (certificate, key) = put(self.directory.path(), name, identity);
        format!("sslcert={}&sslkey={}", certificate.display(), key.display())
    }

    fn is_served(&self) {
        let without = format!("sslmode=require&{NO_CERTIFICATE}");
        assert_eq!(self.psql(&without).success(), "1");
    }
}

fn put(directory: &Path, name: &str, identity: &Identity) -> (PathBuf, PathBuf) {
    (
        write_private(directory, &format!("{name}.crt"), &identity.certificate),
        write_private(directory, &format!("{name}.key"), &identity.key),
    )
}

const NO_CERTIFICATE: &str = "sslcert=/none&sslkey=/none";

#[test]
fn each_mode_takes_the_clients_it_should() {
    for (mode, plain, encrypted, verified, named) in [
        ("disable", true, false, false, false),
        ("allow", true, true, true, true),
        ("prefer", true, true, true, true),
        ("require", false, true, true, true),
        ("verify-ca", false, false, true, true),
        ("verify-full", false, false, false, true),
    ] {
        let stage = Stage::new(mode);
        let other = stage.show("other", &stage.authority.client("other"));
        let own = stage.show("own", &stage.authority.client("app"));
        let cases = [
            ("sslmode=disable".to_owned(), plain),
            (format!("sslmode=require&{NO_CERTIFICATE}"), encrypted),
            (format!("sslmode=require&{other}"), verified),
            (format!("sslmode=require&{own}"), named),
        ];
        for (options, expected) in cases {
            let ran = stage.psql(&options);
            assert_eq!(ran.is_success, expected, "{mode}: {options}: {}", ran.stderr);
        }
        if mode == "disable" {
            stage.pgweir.wait_for_log("tls=false", 1);
            assert!(!stage.pgweir.log_contains("tls=true"));
        } else {
            // The client may be done before the line has come through the pipe.
            stage.pgweir.wait_for_log("tls=true", 1);
        }
    }
}

#[test]
fn a_plain_startup_is_told_what_to_do_and_a_cancel_request_is_not_refused() {
    let stage = Stage::new("require");
    let mut wire = stage.pgweir.wire();
    wire.startup(&[("user", "app"), ("database", "app")]);
    let error = wire.read_fatal();
    assert_eq!(error.sqlstate(), "28000");
    assert_eq!(error.message(), "this server accepts TLS connections only");
    assert!(error.field('H').unwrap().contains("sslmode=require"));
    let mut wire = stage.pgweir.wire();
    wire.cancel(1, &[0; 4]);
    assert_eq!(wire.read_until_closed(), []);
}

#[test]
fn clients_see_whom_they_talk_to() {
    let stage = Stage::new("prefer");
    let ca = stage.file("ca.crt").display().to_string();
    let full = format!("sslmode=verify-full&sslrootcert={ca}&{NO_CERTIFICATE}");
    assert_eq!(stage.psql(&full).success(), "1");
    let stranger = write_private(
        stage.directory.path(),
        "stranger.crt",
        Authority::new().certificate(),
    );
    let wrong_authority = full.replace(&ca, &stranger.display().to_string());
    let error = stage.psql(&wrong_authority).failure();
    assert!(error.contains("SSL error"), "{error}");
    put(
        stage.directory.path(),
        "server",
        &stage.authority.server(&["elsewhere"]),
    );
    stage.pgweir.hup();
    stage.pgweir.wait_for_log("configuration reloaded", 1);
    assert!(stage.psql(&full).failure().contains("does not match host name"));
    assert_eq!(
        stage.psql(&full.replace("verify-full", "verify-ca")).success(),
        "1"
    );
}

#[test]
fn client_certificates_that_are_no_good_are_refused() {
    let stage = Stage::with("allow", "cert", "");
    let good = stage.show("good", &stage.authority.client("app"));
    assert_eq!(stage.psql(&format!("sslmode=require&{good}")).success(), "1");
    for (name, identity) in [
        ("other", stage.authority.client("other")),
        ("expired", stage.authority.expired_client("app")),
        ("stranger", Authority::new().client("app")),
        ("server", stage.authority.server(&["app"])),
    ] {
        let shown = stage.show(name, &identity);
        let error = stage.psql(&format!("sslmode=require&{shown}")).failure();
        assert!(
            !error.contains("terminated abnormally") || name != "other",
            "{name}: {error}"
        );
    }
    for options in [
        format!("sslmode=require&{NO_CERTIFICATE}"),
        "sslmode=disable".to_owned(),
    ] {
        let error = stage.psql(&options).failure();
        assert!(
            error.contains("connection requires a valid client certificate"),
            "{error}"
        );
    }
    assert_eq!(stage.psql(&format!("sslmode=require&{good}")).success(), "1");
}

#[test]
fn scram_is_bound_to_the_channel() {
    let stage = Stage::new("prefer");
    let bound = format!("sslmode=require&channel_binding=require&{NO_CERTIFICATE}");
    assert_eq!(stage.psql(&bound).success(), "1");
    assert_eq!(
        stage
            .psql(&bound.replace("binding=require", "binding=disable"))
            .success(),
        "1"
    );
    let error = stage.psql("sslmode=disable&channel_binding=require").failure();
    assert!(error.contains("channel binding"), "{error}");
    // Offered over TLS alone.
    let offer = |mut wire: Wire| {
        wire.startup(&[("user", "app"), ("database", "app")]);
        String::from_utf8_lossy(&wire.read_frame().body).into_owned()
    };
    assert!(!offer(stage.pgweir.wire()).contains("PLUS"));
    let mut wire = stage.pgweir.wire();
    assert_eq!(wire.request_ssl(), b'S');
    assert!(offer(wire.start_tls(None).unwrap()).contains("SCRAM-SHA-256-PLUS"));
    // And to nobody's surprise for other users than those that are there.
    let mut wire = stage.pgweir.wire();
    wire.request_ssl();
    let mut wire = wire.start_tls(None).unwrap();
    wire.startup(&[("user", "nobody"), ("database", "app")]);
    assert!(String::from_utf8_lossy(&wire.read_frame().body).contains("SCRAM-SHA-256-PLUS"));
    let wrong = bound.clone() + "&password=guess";
    let error = stage.psql(&wrong).failure();
    assert!(error.contains("password authentication failed"), "{error}");
}

#[test]
fn tls_may_begin_at_once_under_the_protocols_name() {
    let stage = Stage::new("require");
    let mut wire = stage.pgweir.wire().start_tls(Some("postgresql")).unwrap();
    wire.startup(&[("user", "app"), ("database", "app")]);
    wire.authenticate("app", "secret");
    assert_eq!(wire.value("SELECT 1"), "1");
    // Inside of it nobody asks for TLS again.
    let mut wire = stage.pgweir.wire().start_tls(Some("postgresql")).unwrap();
    assert_eq!(wire.request_ssl(), b'N');
    if let Ok(mut nameless) = stage.pgweir.wire().start_tls(None) {
        let _ = nameless.try_send_raw(&[0, 0, 0, 8, 4, 210, 22, 47]);
        assert!(!matches!(nameless.try_read_frame(), Ok(Some(_))));
    }
    assert!(stage.pgweir.wire().start_tls(Some("http/1.1")).is_err());
    stage.is_served();
}

#[test]
fn what_breaks_off_in_its_handshake_hurts_nobody() {
    let stage = Stage::with("require", "scram-sha-256", "client_login_timeout = \"1s\"");
    let mut silent = stage.pgweir.wire();
    assert_eq!(silent.request_ssl(), b'S');
    let mut plain = stage.pgweir.wire();
    assert_eq!(plain.request_ssl(), b'S');
    plain.startup(&[("user", "app"), ("database", "app")]);
    // An alert may come; no frame does.
    assert!(plain.try_read_frame().map_or(true, |frame| {
        frame.is_none_or(|frame| frame.tag != tag::AUTHENTICATION)
    }));
    let mut half = stage.pgweir.wire();
    half.send_raw(&[0x16, 3, 1, 2, 0, 1, 0]);
    stage.is_served();
    assert_eq!(silent.read_until_closed(), []);
    assert_eq!(half.read_until_closed(), []);
    assert!(!stage.pgweir.log_contains("a task has failed"));
}

#[test]
fn new_certificate_files_serve_after_a_reload_and_old_connections_live_on() {
    let stage = Stage::new("prefer");
    let mut old = stage.pgweir.wire();
    assert_eq!(old.request_ssl(), b'S');
    let mut old = old.start_tls(None).unwrap();
    old.startup(&[("user", "app"), ("database", "app")]);
    old.authenticate("app", "secret");
    let renewed = Authority::new();
    let ca = write_private(stage.directory.path(), "renewed.crt", renewed.certificate());
    let options = format!(
        "sslmode=verify-full&sslrootcert={}&{NO_CERTIFICATE}",
        ca.display()
    );
    stage.psql(&options).failure();
    // A key that does not belong to its certificate changes nothing.
    let identity = renewed.server(&["127.0.0.1"]);
    write_private(stage.directory.path(), "server.crt", &identity.certificate);
    stage.pgweir.hup();
    stage.pgweir.wait_for_log("reload failed, nothing has changed", 1);
    stage.psql(&options).failure();
    stage.is_served();
    put(stage.directory.path(), "server", &identity);
    stage.pgweir.hup();
    stage.pgweir.wait_for_log("configuration reloaded", 1);
    assert_eq!(stage.psql(&options).success(), "1");
    assert_eq!(stage.psql(&(options + "&channel_binding=require")).success(), "1");
    assert_eq!(old.value("SELECT 1"), "1");
}

#[test]
fn a_query_is_cancelled_over_tls() {
    let stage = Stage::new("require");
    let start = || {
        let mut wire = stage.pgweir.wire();
        assert_eq!(wire.request_ssl(), b'S');
        wire.start_tls(None).unwrap()
    };
    let mut wire = start();
    wire.startup(&[("user", "app"), ("database", "app")]);
    let greeting = wire.authenticate("app", "secret");
    let (process_id, secret) = greeting
        .iter()
        .find_map(super::harness::wire::Frame::cancel_key)
        .unwrap();
    wire.send_query("SELECT pg_sleep(60)");
    let sleeps =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
    while stage.postgres.sql(sleeps) != "1" {}
    let mut canceller = start();
    canceller.cancel(process_id, &secret);
    assert_eq!(canceller.read_until_closed(), []);
    let frames = wire.read_until_ready();
    assert!(
        frames
            .iter()
            .any(|frame| frame.tag == tag::ERROR_RESPONSE && frame.sqlstate() == "57014")
    );
    assert_eq!(wire.value("SELECT 1"), "1");
}
