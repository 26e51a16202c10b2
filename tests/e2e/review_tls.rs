//! TLS and a peer that reads more slowly than we write: what the TLS layer holds back is sent when there is room again.

use pgweir::protocol::tag;

use super::harness::certificates::{Authority, write_private};
use super::harness::wire::frame;
use super::harness::{Pgweir, Postgres, Wire};

/// Whether the server has sent its whole answer; else it waits for room.
fn has_sent_all(postgres: &Postgres) -> bool {
    let state = "SELECT state || ' ' || coalesce(wait_event, '') FROM pg_stat_activity \
                 WHERE query LIKE '%the long answer%' AND pid <> pg_backend_pid()";
    let mut blocked = 0;
    while blocked < 5 {
        let state = postgres.sql(state);
        if state.starts_with("idle") {
            return true;
        }
        blocked += u32::from(state == "active ClientWrite");
    }
    false
}

#[test]
fn a_client_that_reads_late_gets_the_end_of_its_answer() {
    let postgres = Postgres::start();
    let directory = tempfile::tempdir().unwrap();
    let identity = Authority::new().server(&["localhost"]);
    let certificate = write_private(directory.path(), "server.crt", &identity.certificate);
    let key = write_private(directory.path(), "server.key", &identity.key);
    let config = format!(
        "workers = 1\n[auth]\nmethod = \"trust\"\n[tls]\nmode = \"require\"\ncert = \"{}\"\nkey = \"{}\"\n\
         [databases.app]\nurl = \"{}\"\n",
        certificate.display(),
        key.display(),
        postgres.superuser_url()
    );
    let pgweir = Pgweir::builder().config(&config).start();
    // The end of an answer that just fits into all the buffers on the way fills the last of them.
    let mut length = 0;
    let mut step = 1024 * 1024;
    while length < 256 * 1024 * 1024 {
        let mut wire = pgweir.wire();
        assert_eq!(wire.request_ssl(), b'S');
        let mut wire: Wire = wire.start_tls(None).unwrap();
        wire.startup(&[("user", "postgres"), ("database", "app")]);
        wire.authenticate("postgres", "");
        let more = length + step;
        wire.send_query(&format!("SELECT repeat('x', {more}) /* the long answer */"));
        let fits = has_sent_all(&postgres);
        let frames = wire.read_until_ready();
        assert_eq!(frames[1].columns()[0].len(), more);
        if fits {
            length = more;
        } else if step > FINEST {
            // Once more from the last length that did, by smaller steps.
            step /= 4;
        } else {
            return;
        }
    }
}

#[test]
fn a_server_that_reads_slowly_gets_the_end_of_a_copy() {
    let postgres = Postgres::builder()
        .hba("local all all trust\nhostssl all all all trust\n")
        .start();
    let identity = Authority::new().server(&["127.0.0.1"]);
    for (name, text) in [
        ("server.crt", &identity.certificate),
        ("server.key", &identity.key),
    ] {
        postgres.write_file(name, text.as_bytes()).unwrap();
    }
    postgres.sql("ALTER SYSTEM SET ssl = on");
    postgres.sql("SELECT pg_reload_conf()");
    while postgres.sql("SHOW ssl") != "on" {}
    postgres.sql("CREATE TABLE copied (text text)");
    let pgweir = Pgweir::before_with(
        &postgres,
        "pool_mode = \"transaction\"\n[server_tls]\nmode = \"require\"",
    );
    let mut wire = Wire::log_in(pgweir.port(), "postgres", "app", None);
    let piece = frame(
        tag::COPY_DATA,
        &[b"x".repeat(8 * 1024).as_slice(), b"\n"].concat(),
    )
    .repeat(128);
    for _ in 0..3 {
        wire.send_query("COPY copied FROM STDIN");
        wire.read_until(tag::COPY_IN_RESPONSE);
        for _ in 0..16 {
            wire.send_raw(&piece);
        }
        wire.send(tag::COPY_DONE, &[]);
        let frames = wire.read_until_ready();
        assert_eq!(frames[0].tag, tag::COMMAND_COMPLETE, "{frames:?}");
    }
}

/// Less than the TLS layer holds back at the most.
const FINEST: usize = 16 * 1024;
