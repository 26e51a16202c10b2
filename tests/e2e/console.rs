//! The console, as operators and their tools use it.

use std::time::Instant;

use pgweir::protocol::tag;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::Type;

use super::harness::clients::{connect, psql, python, try_connect};
use super::harness::wire::{Frame, tags};
use super::harness::{PATIENCE, Pgweir, Postgres, Wire};

/// Two workers, so that what is counted is counted over all of them.
fn config(postgres: &Postgres, top: &str, keys: &str) -> String {
    format!(
        "workers = 2\nadmin_users = [\"admin\"]\nstats_users = [\"stats\"]\n{top}\n[auth]\nmethod = \"trust\"\n\
         [databases.app]\nurl = \"{}\"\n{keys}\n",
        postgres.superuser_url()
    )
}

fn start(postgres: &Postgres, keys: &str) -> Pgweir {
    Pgweir::builder().config(&config(postgres, "", keys)).start()
}

fn console(pgweir: &Pgweir) -> Wire {
    Wire::log_in(pgweir.port(), "admin", "pgweir", None)
}

fn client(pgweir: &Pgweir) -> Wire {
    Wire::log_in(pgweir.port(), "alice", "app", None)
}

/// The columns of a `RowDescription`: names, and type OIDs.
fn described(frame: &Frame) -> Vec<(String, u32)> {
    assert_eq!(frame.tag, tag::ROW_DESCRIPTION, "{frame:?}");
    let mut rest = &frame.body[2..];
    let mut columns = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        let name = String::from_utf8(rest[..end].to_vec()).unwrap();
        let fixed = &rest[end + 1..];
        columns.push((name, u32::from_be_bytes(fixed[6..10].try_into().unwrap())));
        rest = &fixed[18..];
    }
    columns
}

/// The rows of a table, each as a list of values by the names of their columns.
fn table(console: &mut Wire, what: &str) -> Vec<Vec<(String, String)>> {
    let frames = console.query(&format!("SHOW {what}"));
    let names: Vec<String> = described(&frames[0]).into_iter().map(|(name, _)| name).collect();
    let rows = frames.iter().filter(|frame| frame.tag == tag::DATA_ROW);
    rows.map(|row| names.iter().cloned().zip(row.columns()).collect())
        .collect()
}

fn value<'a>(row: &'a [(String, String)], name: &str) -> &'a str {
    let found = row.iter().find(|(column, _)| column == name);
    &found.unwrap_or_else(|| panic!("no column {name} in {row:?}")).1
}

/// The row of a table whose column has this value.
fn row(console: &mut Wire, what: &str, column: &str, wanted: &str) -> Vec<(String, String)> {
    let rows = table(console, what);
    let found = rows.iter().find(|row| value(row, column) == wanted);
    found
        .unwrap_or_else(|| panic!("SHOW {what}: no row with {column} = {wanted}: {rows:?}"))
        .clone()
}

/// Values of the pool of `app`, by the names of their columns.
fn pool(console: &mut Wire, columns: &[&str]) -> Vec<String> {
    let row = row(console, "POOLS", "database", "app");
    columns
        .iter()
        .map(|column| value(&row, column).to_owned())
        .collect()
}

/// Looks at the pool of `app` until it is as expected.
fn wait_for_pool(console: &mut Wire, columns: &[&str], expected: &[&str]) {
    wait_for_row(console, "POOLS", "app", columns, expected);
}

/// Looks at a database's row of a table until it is as expected: workers count when they have sent the answer.
fn wait_for_row(
    console: &mut Wire,
    what: &str,
    database: &str,
    columns: &[&str],
    expected: &[&str],
) -> Vec<(String, String)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let row = row(console, what, "database", database);
        let found: Vec<&str> = columns.iter().map(|column| value(&row, column)).collect();
        if found == expected {
            return row;
        }
        assert!(
            Instant::now() < deadline,
            "{columns:?} stay {found:?}, not {expected:?}"
        );
    }
}

#[test]
fn every_table_is_shown_to_psql_under_both_names() {
    let postgres = Postgres::start();
    let pgweir = start(&postgres, "");
    client(&pgweir).value("SELECT 1");
    for database in ["pgweir", "pgbouncer"] {
        let url = pgweir.url("admin", database);
        for (command, first) in [
            ("SHOW CLIENTS", "C|admin|pgbouncer|none|idle|127.0.0.1|"),
            ("show servers;", "S|postgres|app|none|idle|127.0.0.1|"),
            ("SHOW POOLS", "app|postgres|"),
            ("Show Databases;", "app|127.0.0.1|"),
            ("SHOW STATS", "app|"),
            ("SHOW STATS_TOTALS", "app|"),
            ("SHOW STATS_AVERAGES", "app|"),
            ("SHOW CONFIG", "listen|127.0.0.1:"),
            ("SHOW VERSION", "PgBouncer 1.25.2 (pgweir "),
            ("SHOW client_encoding", "UTF8"),
        ] {
            let shown = psql(&url, command).success();
            let found = shown.lines().any(|line| line.starts_with(first));
            assert!(found, "{command}: {shown}");
        }
        let help = psql(&url, "SHOW HELP");
        assert!(
            help.is_success && help.stderr.contains("SHOW HELP|CONFIG"),
            "{help:?}"
        );
        let unknown = psql(&url, "SELECT 1").failure();
        assert!(
            unknown.contains("invalid command 'SELECT 1', use SHOW HELP;"),
            "{unknown}"
        );
    }
}

#[test]
fn a_client_is_shown_with_the_name_that_it_has_set_last() {
    let postgres = Postgres::start();
    let pgweir = start(&postgres, "");
    let mut wire = Wire::connect(pgweir.port());
    wire.startup(&[
        ("user", "postgres"),
        ("database", "app"),
        ("application_name", "at first"),
    ]);
    wire.authenticate("postgres", "");
    let mut console = console(&pgweir);
    let mut shown = || {
        let row = row(&mut console, "CLIENTS", "database", "app");
        value(&row, "application_name").to_owned()
    };
    assert_eq!(shown(), "at first");
    for (sql, name) in [
        ("SET application_name = 'later'", "later"),
        ("BEGIN; SET application_name = 'taken back'", "taken back"),
        ("ROLLBACK", "later"),
        ("RESET application_name", "at first"),
        ("SELECT set_config('application_name', 'last', false)", "last"),
        ("DISCARD ALL", "at first"),
    ] {
        wire.query(sql);
        assert_eq!(shown(), name, "{sql}");
    }
}

#[test]
fn the_greeting_is_that_of_the_console() {
    let postgres = Postgres::start();
    let pgweir = start(&postgres, "");
    let mut wire = Wire::connect(pgweir.port());
    wire.startup(&[
        ("user", "admin"),
        ("database", "pgbouncer"),
        ("extra_float_digits", "2"),
    ]);
    let greeting = wire.authenticate("admin", "");
    let told: Vec<String> = greeting
        .iter()
        .filter_map(Frame::parameter)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        told.join(" "),
        "client_encoding=UTF8 DateStyle=ISO is_superuser=on server_encoding=UTF8 server_version=1.25.2/bouncer \
         standard_conforming_strings=on TimeZone=GMT"
    );
    assert!(greeting.iter().any(|frame| frame.cancel_key().is_some()));
}

#[tokio::test]
async fn a_driver_with_the_extended_protocol_reads_every_table() {
    let postgres = Postgres::start();
    let pgweir = start(&postgres, "");
    client(&pgweir).value("SELECT 1");
    let console = connect(&pgweir.url("admin", "pgweir")).await;
    let pools = console.query("SHOW POOLS", &[]).await.unwrap();
    assert_eq!(pools[0].get::<_, &str>("database"), "app");
    assert_eq!(pools[0].get::<_, i32>("sv_idle"), 1);
    assert_eq!(pools[0].get::<_, Option<&str>>("load_balance_hosts"), None);
    let stats = console.prepare("SHOW STATS").await.unwrap();
    for _ in 0..2 {
        let rows = console.query(&stats, &[]).await.unwrap();
        assert_eq!(rows[0].columns().len(), 23);
        assert_eq!(*rows[0].columns()[1].type_(), Type::NUMERIC);
    }
    for (table, columns) in [
        ("CLIENTS", 21),
        ("SERVERS", 21),
        ("DATABASES", 17),
        ("CONFIG", 4),
        ("VERSION", 1),
    ] {
        let rows = console.query(&format!("SHOW {table}"), &[]).await.unwrap();
        assert_eq!(rows[0].len(), columns, "{table}");
    }
    console.execute("PAUSE app", &[]).await.unwrap();
    console.execute("RESUME app", &[]).await.unwrap();
    let error = console.query("SHOW NOTHING", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42601");
    // The same session, over the simple protocol.
    let answer = console.simple_query("SHOW VERSION").await.unwrap();
    assert!(
        answer
            .iter()
            .any(|message| matches!(message, SimpleQueryMessage::Row(_)))
    );
}

#[test]
fn psycopg_prepares_commands_of_the_console() {
    let postgres = Postgres::start();
    let pgweir = start(&postgres, "");
    client(&pgweir).value("SELECT 1");
    let script = "
import os, psycopg
from psycopg.rows import dict_row
with psycopg.connect(os.environ['DATABASE_URL'], autocommit=True, row_factory=dict_row) as console:
    for binary in (False, True):
        cursor = console.cursor(binary=binary)
        for _ in range(3):
            pool = cursor.execute('SHOW POOLS', prepare=True).fetchall()[0]
            stats = cursor.execute('SHOW STATS', prepare=True).fetchall()[0]
        print(pool['database'], pool['sv_idle'], stats['total_query_count'])
    console.execute('RELOAD')
";
    let printed = python(&pgweir.url("admin", "pgbouncer"), script).success();
    assert_eq!(printed, "app 1 1\napp 1 1");
}

#[test]
fn pools_clients_and_servers_are_counted_as_they_are() {
    let postgres = Postgres::start();
    let pgweir = start(&postgres, "pool_size = 1\npool_timeout = \"1min\"");
    let mut console = console(&pgweir);
    let columns = ["cl_active", "cl_waiting", "sv_active", "sv_idle"];
    let mut active = client(&pgweir);
    let mut idle = client(&pgweir);
    idle.value("SELECT 1");
    wait_for_pool(&mut console, &columns, &["2", "0", "0", "1"]);
    active.query("BEGIN; SELECT 1");
    let mut waiting = [client(&pgweir), client(&pgweir)];
    for waiting in &mut waiting {
        waiting.send_query("SELECT 2");
    }
    wait_for_pool(&mut console, &columns, &["2", "2", "1", "0"]);
    let waited = pool(&mut console, &["maxwait", "maxwait_us"]);
    assert_ne!(waited, ["0", "0"]);

    let clients = table(&mut console, "CLIENTS");
    let state = |wanted: &str| {
        let found = clients.iter().filter(|row| value(row, "state") == wanted);
        found.filter(|row| value(row, "database") == "app").count()
    };
    assert_eq!(
        (state("active"), state("waiting"), state("idle")),
        (1, 2, 1),
        "{clients:?}"
    );
    let servers = table(&mut console, "SERVERS");
    assert_eq!(servers.len(), 1);
    let at_work = clients
        .iter()
        .find(|row| value(row, "state") == "active")
        .unwrap();
    assert_eq!(value(at_work, "link"), value(&servers[0], "ptr"));
    assert_eq!(value(&servers[0], "link"), value(at_work, "ptr"));
    assert_eq!(value(&servers[0], "state"), "active");
    let backend = active.value("SELECT pg_backend_pid()");
    assert_eq!(value(&servers[0], "remote_pid"), backend);
    let database = row(&mut console, "DATABASES", "name", "app");
    assert_eq!(value(&database, "current_connections"), "1");
    assert_eq!(value(&database, "current_client_connections"), "4");

    active.query("COMMIT");
    for waiting in &mut waiting {
        waiting.read_until_ready();
    }
    wait_for_pool(&mut console, &columns, &["4", "0", "0", "1"]);
    drop((active, idle, waiting));
    wait_for_pool(&mut console, &columns, &["0", "0", "0", "1"]);
    assert_eq!(pool(&mut console, &["maxwait", "maxwait_us"]), ["0", "0"]);
    let own = row(&mut console, "POOLS", "database", "pgbouncer");
    assert_eq!(
        (
            value(&own, "user"),
            value(&own, "cl_active"),
            value(&own, "pool_mode")
        ),
        ("pgbouncer", "1", "statement")
    );
}

#[test]
fn statistics_count_queries_and_transactions_in_every_mode() {
    let postgres = Postgres::start();
    for mode in ["transaction", "session", "statement"] {
        let pgweir = start(&postgres, &format!("pool_mode = \"{mode}\""));
        let mut console = console(&pgweir);
        let mut client = client(&pgweir);
        for _ in 0..3 {
            client.value("SELECT pg_sleep(0.001)");
        }
        client.send_parse("", "SELECT 4");
        client.send_bind("", "", &[]);
        client.send_execute("", 0);
        client.send_sync();
        client.read_until_ready();
        // The client is still connected: sessions are counted while they last, too.
        let counted = [
            "total_query_count",
            "total_xact_count",
            "total_client_parse_count",
            "total_bind_count",
        ];
        let stats = wait_for_row(&mut console, "STATS", "app", &counted, &["4", "4", "1", "1"]);
        for (column, min) in [
            ("total_query_time", 3000),
            ("total_xact_time", 3000),
            ("total_received", 50),
            ("total_sent", 50),
        ] {
            let total: u64 = value(&stats, column).parse().unwrap();
            assert!(total >= min, "{mode}: {column} is {total}");
        }
        let own = row(&mut console, "STATS", "database", "pgbouncer");
        assert_ne!(value(&own, "total_query_count"), "0");
    }
}

#[test]
fn a_pause_waits_for_transactions_and_a_resume_lets_the_queue_go_on() {
    let postgres = Postgres::start();
    let pgweir = start(&postgres, "pool_timeout = \"1min\"");
    for (times, command) in [(1, "PAUSE"), (2, "PAUSE app")] {
        let mut console = console(&pgweir);
        let mut busy = client(&pgweir);
        busy.query("BEGIN; SELECT 1");
        let mut pausing = Wire::log_in(pgweir.port(), "admin", "pgbouncer", None);
        pausing.send_query(command);
        pgweir.wait_for_log(" paused", times);
        let mut queued = client(&pgweir);
        queued.send_query("SELECT 3");
        wait_for_pool(&mut console, &["cl_waiting"], &["1"]);
        assert_eq!(busy.value("SELECT 'goes on'"), "goes on");
        assert_eq!(tags(&busy.query("COMMIT")), "CZ");
        assert_eq!(tags(&pausing.read_until_ready()), "CZ");
        assert_eq!(postgres.connections(), 0);
        assert_eq!(
            pool(&mut console, &["cl_waiting", "sv_active", "sv_idle"]),
            ["1", "0", "0"]
        );
        assert_eq!(
            value(&row(&mut console, "DATABASES", "name", "app"), "paused"),
            if command == "PAUSE" { "0" } else { "1" }
        );
        let resume = command.replace("PAUSE", "RESUME");
        assert_eq!(tags(&console.query(&resume)), "CZ");
        assert_eq!(tags(&queued.read_until_ready()), "TDCZ");
        let again = console.query(&resume);
        assert_eq!(
            (tags(&again).as_str(), again[0].sqlstate().as_str()),
            ("EZ", "55000")
        );
    }
}

/// A pause shows in the client that waits for its end.
fn is_paused(console: &mut Wire) -> bool {
    let clients = table(console, "CLIENTS");
    clients
        .iter()
        .any(|row| value(row, "database") == "pgbouncer" && value(row, "state") == "waiting")
}

#[test]
fn a_pause_that_is_cancelled_is_no_pause() {
    let postgres = Postgres::start();
    let pgweir = start(&postgres, "pool_timeout = \"1min\"");
    let mut console = console(&pgweir);
    let mut busy = client(&pgweir);
    busy.query("BEGIN; SELECT 1");
    let mut pausing = Wire::connect(pgweir.port());
    pausing.startup(&[("user", "admin"), ("database", "pgweir")]);
    let greeting = pausing.authenticate("admin", "");
    let (process_id, secret) = greeting.iter().find_map(Frame::cancel_key).unwrap();
    pausing.send_query("PAUSE");
    let deadline = Instant::now() + PATIENCE;
    while !is_paused(&mut console) {
        assert!(Instant::now() < deadline, "no pause");
    }
    pgweir.wire().cancel(process_id, &secret);
    let frames = pausing.read_until_ready();
    assert_eq!(
        (tags(&frames).as_str(), frames[0].sqlstate().as_str()),
        ("EZ", "57014")
    );
    assert_eq!(client(&pgweir).value("SELECT 5"), "5");
    assert_eq!(tags(&busy.query("COMMIT")), "CZ");
}

#[tokio::test]
async fn who_may_only_look_on_cannot_pause_and_others_cannot_come_in() {
    let postgres = Postgres::start();
    let pgweir = start(&postgres, "");
    let mut stats = Wire::log_in(pgweir.port(), "stats", "pgweir", None);
    assert_eq!(table(&mut stats, "VERSION").len(), 1);
    for command in ["PAUSE", "RELOAD", "SHUTDOWN", "KILL_CLIENT 1", "RESUME"] {
        let frames = stats.query(command);
        assert_eq!(
            (tags(&frames).as_str(), frames[0].sqlstate().as_str()),
            ("EZ", "42501")
        );
    }
    assert_eq!(client(&pgweir).value("SELECT 1"), "1");
    let refused = try_connect(&pgweir.url("alice", "pgweir")).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
    pgweir.wait_for_log("not allowed to use the console", 1);
}

#[test]
fn a_reload_of_a_broken_file_says_so_and_changes_nothing() {
    let postgres = Postgres::start();
    let pgweir = start(&postgres, "pool_size = 3");
    let mut console = console(&pgweir);
    client(&pgweir).value("SELECT 1");
    pgweir.write_config(&config(&postgres, "pool_sise = 5", "pool_size = 7"));
    let frames = console.query("RELOAD");
    assert_eq!(
        (tags(&frames).as_str(), frames[0].sqlstate().as_str()),
        ("EZ", "F0000")
    );
    assert!(frames[0].message().starts_with("RELOAD failed"));
    assert!(frames[0].field('D').unwrap().contains("pool_sise"), "{frames:?}");
    let size = |console: &mut Wire| {
        let row = row(console, "DATABASES", "name", "app");
        value(&row, "pool_size").to_owned()
    };
    assert_eq!(size(&mut console), "3");
    assert_eq!(client(&pgweir).value("SELECT 1"), "1");
    pgweir.write_config(&config(&postgres, "max_clients = 50", "pool_size = 7"));
    assert_eq!(tags(&console.query("RELOAD")), "CZ");
    assert_eq!(size(&mut console), "7");
    let shown = row(&mut console, "CONFIG", "key", "max_clients");
    assert_eq!(
        (
            value(&shown, "value"),
            value(&shown, "default"),
            value(&shown, "changeable")
        ),
        ("50", "10000", "yes")
    );
}

#[test]
fn a_shutdown_ends_the_process() {
    let postgres = Postgres::start();
    let mut pgweir = start(&postgres, "");
    let mut busy = client(&pgweir);
    busy.query("BEGIN; SELECT 1");
    let mut console = console(&pgweir);
    console.send_query("SHUTDOWN");
    assert_eq!(console.read_fatal().sqlstate(), "57P01");
    assert!(pgweir.wait().success());
}

#[test]
fn a_shutdown_that_waits_lets_transactions_end_and_the_console_look_on() {
    let postgres = Postgres::start();
    let mut pgweir = start(&postgres, "");
    let mut busy = client(&pgweir);
    busy.query("BEGIN; SELECT 1");
    let mut console = console(&pgweir);
    assert_eq!(tags(&console.query("SHUTDOWN WAIT_FOR_CLIENTS")), "CZ");
    pgweir.wait_for_log("draining", 1);
    wait_for_pool(&mut console, &["cl_active", "sv_active"], &["1", "1"]);
    let frames = console.query("RELOAD");
    assert_eq!(
        frames[0].message(),
        "RELOAD failed, see logs for additional details"
    );
    assert_eq!(busy.value("SELECT 'still'"), "still");
    busy.send_query("COMMIT");
    assert_eq!(tags(&busy.read_until_closed()), "CZE");
    assert!(pgweir.wait().success());
}

#[test]
fn a_client_is_ended_by_its_id() {
    let postgres = Postgres::start();
    let pgweir = start(&postgres, "");
    let mut victim = client(&pgweir);
    let mut console = console(&pgweir);
    let id = value(&row(&mut console, "CLIENTS", "user", "alice"), "id").to_owned();
    assert_eq!(tags(&console.query(&format!("KILL_CLIENT {id}"))), "CZ");
    assert_eq!(victim.read_fatal().sqlstate(), "57P01");
    wait_for_pool(&mut console, &["cl_active"], &["0"]);
    let frames = console.query(&format!("KILL_CLIENT {id}"));
    assert_eq!(
        (tags(&frames).as_str(), frames[0].sqlstate().as_str()),
        ("EZ", "42704")
    );
}

#[tokio::test]
async fn the_console_is_reached_when_there_are_too_many_clients() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::builder()
        .config(&config(&postgres, "max_clients = 1", ""))
        .start();
    let _only = client(&pgweir);
    let refused = try_connect(&pgweir.url("alice", "app")).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "53300");
    let mut consoles = [console(&pgweir), console(&pgweir)];
    assert_eq!(pool(&mut consoles[0], &["cl_active"]), ["1"]);
    assert_eq!(
        value(
            &row(&mut consoles[1], "POOLS", "database", "pgbouncer"),
            "cl_active"
        ),
        "2"
    );
}

#[test]
fn the_same_user_of_the_system_needs_no_password_over_a_unix_socket() {
    let postgres = Postgres::start();
    let sockets = tempfile::tempdir().unwrap();
    let pgweir = Pgweir::builder()
        .config(&format!(
            "listen = [\"{}\"]\nworkers = 1\n[users.alice]\npassword = \"secret\"\n[databases.app]\nurl = \"{}\"\n",
            sockets.path().display(),
            postgres.superuser_url()
        ))
        .start();
    let mut console = Wire::connect_unix(sockets.path(), 6432);
    console.startup(&[("user", "pgbouncer"), ("database", "pgbouncer")]);
    console.authenticate("pgbouncer", "");
    assert_eq!(tags(&console.query("RELOAD")), "CZ");
    let shown = row(&mut console, "CLIENTS", "user", "pgbouncer");
    assert_eq!(
        (value(&shown, "addr"), value(&shown, "local_addr")),
        ("unix", "unix")
    );
    let mut other = Wire::connect_unix(sockets.path(), 6432);
    other.startup(&[("user", "pgbouncer"), ("database", "app")]);
    assert_eq!(other.read_frame().tag, tag::AUTHENTICATION);
    drop(pgweir);
}

#[test]
fn the_console_asks_for_the_same_proof_as_a_database() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::builder()
        .config(&format!(
            "admin_users = [\"admin\", \"nobody\"]\n[users.admin]\npassword = \"secret\"\n[databases.\"*\"]\nurl = \"{}\"\n\
             [auth]\nquery = \"SELECT 'nobody', 'known'\"\nquery_user = \"postgres\"\n",
            postgres.superuser_url().trim_end_matches("/postgres")
        ))
        .start();
    let mut console = Wire::log_in(pgweir.port(), "admin", "pgweir", Some("secret"));
    assert_eq!(table(&mut console, "VERSION").len(), 1);
    // A database's own idea of who somebody is does not count here.
    for (user, password) in [("admin", "wrong"), ("nobody", "known")] {
        let url = format!(
            "postgresql://{user}:{password}@127.0.0.1:{}/pgweir",
            pgweir.port()
        );
        let refused = psql(&url, "SHOW VERSION").failure();
        assert!(refused.contains("password authentication failed"), "{refused}");
    }
}
