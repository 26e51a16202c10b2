//! Settings go with the client that has made them, to whatever server connection it gets, and to nobody else.

use std::time::Instant;

use super::harness::crowd::eventually;
use super::harness::wire::Frame;
use super::harness::{PATIENCE, Pgweir, Postgres, Wire};

const BACKEND: &str = "SELECT pg_backend_pid()";

/// What two clients do in turn: 0 and 1, and a text.
type Story = &'static [(usize, &'static str)];

const SHOW: &str = "SELECT current_setting('work_mem'), current_setting('search_path'), current_setting('statement_timeout'), \
     current_setting('TimeZone'), current_setting('default_transaction_isolation'), session_user, current_user, \
     current_setting('role'), current_setting('extra_float_digits')";

const STORIES: &[Story] = &[
    &[
        (0, "SET work_mem = 5120"),
        (1, "SET work_mem = '6MB'"),
        (0, "SHOW work_mem"),
        (1, "SHOW work_mem"),
    ],
    &[
        (0, "SET search_path = other, \"Odd \"\"name\"\"\", public"),
        (1, "SELECT 1"),
        (0, "SHOW search_path"),
    ],
    &[
        (0, "SET statement_timeout = 5000; SET work_mem = '7MB'"),
        (1, "RESET work_mem"),
        (0, "SELECT 1"),
    ],
    &[
        (0, "BEGIN"),
        (0, "SET work_mem = '9MB'"),
        (0, "ROLLBACK"),
        (1, "SELECT 1"),
        (0, "SHOW work_mem"),
    ],
    &[
        (
            0,
            "BEGIN; SET work_mem = '9MB'; SAVEPOINT a; SET work_mem = '10MB'; SET statement_timeout = 7000",
        ),
        (0, "ROLLBACK TO a"),
        (0, "SHOW work_mem"),
        (0, "COMMIT"),
        (1, "SHOW work_mem"),
        (0, "SHOW work_mem"),
    ],
    &[
        (0, "SET work_mem = '9MB'; SELECT 1/0"),
        (1, "SELECT 1"),
        (0, "SHOW work_mem"),
    ],
    &[
        (0, "SET LOCAL work_mem = '9MB'"),
        (0, "BEGIN; SET LOCAL work_mem = '9MB'; COMMIT"),
        (0, "SHOW work_mem"),
    ],
    &[
        (
            0,
            "SELECT set_config('work_mem', '11MB', false), set_config('search_path', 'x', true)",
        ),
        (1, "SELECT 1"),
    ],
    &[
        (0, "SET ROLE other_role"),
        (1, "SELECT current_user"),
        (0, "SELECT current_user"),
        (0, "RESET ROLE"),
    ],
    &[
        (0, "SET SESSION AUTHORIZATION other_role"),
        (1, "SELECT session_user"),
        (0, "SELECT session_user"),
        (0, "RESET SESSION AUTHORIZATION"),
        (1, "SET ROLE other_role"),
        (0, "SELECT session_user"),
    ],
    &[
        (0, "SET SESSION AUTHORIZATION other_role"),
        (0, "SET ROLE third_role"),
        (1, "SET SESSION AUTHORIZATION third_role"),
        (0, "SELECT session_user, current_user"),
        (1, "SELECT session_user, current_user"),
        (1, "SET work_mem = '5MB'"),
    ],
    &[
        (
            0,
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        ),
        (1, "SELECT 1"),
    ],
    &[
        (0, "SET TimeZone = 'Asia/Tokyo'; SET work_mem = '5MB'"),
        (1, "SELECT 1"),
        (0, "RESET ALL"),
        (1, "SELECT 1"),
    ],
    &[
        (0, "SET work_mem = '5MB'"),
        (0, "DISCARD ALL"),
        (1, "SET work_mem = '6MB'"),
        (1, "DISCARD ALL"),
    ],
    &[
        (0, "SET work_mem = '5MB'"),
        (0, "BEGIN; RESET ALL"),
        (0, "SHOW work_mem"),
        (0, "ROLLBACK"),
        (1, "SELECT 1"),
    ],
    &[
        (0, "SET app.tenant = 'one'"),
        (1, "SET app.tenant = 'two'"),
        (0, "SHOW app.tenant"),
        (1, "SHOW app.tenant"),
    ],
    &[
        (0, "SET work_mem = 'nonsense'"),
        (0, "SET nonsense = 1"),
        (0, "RESET nonsense"),
        (1, "SELECT 1"),
    ],
    &[
        (0, "SET work_mem TO DEFAULT"),
        (1, "SET work_mem = '5MB'"),
        (0, "SELECT 1"),
        (1, "SET work_mem TO DEFAULT"),
    ],
    &[
        (
            0,
            "DO $$ BEGIN PERFORM set_config('work_mem', '5MB', false); END $$",
        ),
        (1, "SELECT 1"),
        (0, "SELECT 1"),
    ],
    &[
        (0, "BEGIN"),
        (0, "SET work_mem = '5MB'"),
        (0, "SELECT 1/0"),
        (0, "COMMIT"),
        (1, "SELECT 1"),
    ],
    &[
        (0, "SET extra_float_digits = 0"),
        (1, "SELECT 1.1::float8/3"),
        (0, "SELECT 1.1::float8/3"),
        (0, "RESET extra_float_digits"),
    ],
    &[
        (0, "SET XML OPTION DOCUMENT"),
        (1, "SHOW xmloption"),
        (0, "SHOW xmloption"),
    ],
];

fn told(frames: &[Frame]) -> Vec<String> {
    frames.iter().map(told_one).collect()
}

fn told_one(frame: &Frame) -> String {
    match frame.tag {
        b'E' | b'N' => format!("{:?} {:?}", frame.field('C'), frame.field('M')),
        b'D' => format!("{:?}", frame.columns()),
        _ => format!(
            "{} {}",
            char::from(frame.tag),
            String::from_utf8_lossy(&frame.body)
        ),
    }
}

fn play(port: u16, database: &str, story: Story) -> Vec<Vec<String>> {
    let mut clients = [0, 1].map(|_| Wire::log_in(port, "postgres", database, None));
    let mut trace = Vec::new();
    for (at, text) in story {
        let frames = clients[*at].query(text);
        trace.push(told(&frames));
        if frames.last().unwrap().transaction_state() == 'I' {
            // Nobody keeps the only server connection.
            for client in &mut clients {
                trace.push(told(&client.query(SHOW)));
            }
        }
    }
    for client in &mut clients {
        client.terminate();
        client.read_until_closed();
    }
    trace
}

#[test]
fn each_client_meets_its_own_settings_as_on_a_connection_of_its_own() {
    let postgres = Postgres::start();
    postgres.sql("CREATE ROLE other_role; CREATE ROLE third_role; GRANT third_role TO other_role");
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1");
    // The connection is never given up for another.
    let mut wire = Wire::log_in(pgweir.port(), "postgres", "app", None);
    let backend = wire.value(BACKEND);
    for story in STORIES {
        let direct = play(postgres.port(), "postgres", story);
        let pooled = play(pgweir.port(), "app", story);
        for (step, (pooled, direct)) in pooled.iter().zip(&direct).enumerate() {
            assert_eq!(pooled, direct, "step {step} of {story:?}");
        }
        assert_eq!(wire.value(BACKEND), backend, "{story:?}");
    }
}

#[test]
fn settings_need_no_connection_of_their_own_in_the_extended_protocol_either() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1");
    let mut clients = [0, 1].map(|_| Wire::log_in(pgweir.port(), "postgres", "app", None));
    for (client, value) in clients.iter_mut().zip(["5MB", "6MB"]) {
        client.send_parse("set", "SELECT set_config('work_mem', $1, $2)");
        client.send_bind("", "set", &[Some(value), Some("false")]);
        client.send_execute("", 0);
        client.send_sync();
        client.read_until_ready();
    }
    for (client, value) in clients.iter_mut().zip(["5MB", "6MB"]) {
        assert_eq!(client.value("SHOW work_mem"), value);
    }
    let [first, second] = &mut clients;
    assert_eq!(first.value(BACKEND), second.value(BACKEND));
}

#[test]
fn a_reset_goes_back_to_the_settings_of_the_start() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1");
    let parameters = [
        ("user", "postgres"),
        ("database", "app"),
        ("options", "-c work_mem=5MB -c search_path=mine"),
        ("application_name", "me"),
    ];
    let mut client = pgweir.wire();
    client.startup(&parameters);
    client.read_until_ready();
    let mut other = Wire::log_in(pgweir.port(), "postgres", "app", None);
    for reset in ["RESET work_mem; RESET search_path", "RESET ALL", "DISCARD ALL"] {
        client.query("SET work_mem = '7MB'");
        client.query("SET search_path = theirs");
        assert_eq!(other.value("SHOW work_mem"), "4MB");
        assert_eq!(client.value("SHOW work_mem"), "7MB");
        for part in reset.split("; ") {
            client.query(part);
        }
        assert_eq!(client.value("SHOW work_mem"), "5MB", "{reset}");
        assert_eq!(client.value("SHOW search_path"), "mine", "{reset}");
        assert_eq!(other.value("SHOW search_path"), "\"$user\", public");
    }
    // Also for what stands right behind it.
    client.query("SET work_mem = '7MB'");
    client.send_query("RESET work_mem");
    client.send_query("SHOW work_mem");
    client.read_until_ready();
    let frames = client.read_until_ready();
    assert_eq!(frames[1].columns(), ["5MB"]);
}

#[test]
fn a_setting_that_was_confirmed_and_is_lost_with_its_server_ends_the_session() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 2");
    let mut client = Wire::log_in(pgweir.port(), "postgres", "app", None);
    client.query("BEGIN");
    client.query("SET work_mem = '7MB'");
    let backend = client.value(BACKEND);
    postgres.sql(&format!("SELECT pg_terminate_backend({backend})"));
    client.send_query("SHOW work_mem");
    let fatal = client.read_fatal();
    assert_eq!(fatal.field('V').as_deref(), Some("FATAL"));
}

/// Whether each of the two takes the connection that the other has had: a connection may go back a moment after its answer.
fn are_free(one: &mut Wire, other: &mut Wire) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while one.value(BACKEND) != other.value(BACKEND) {
        if Instant::now() > deadline {
            return false;
        }
    }
    true
}

#[test]
fn what_pins_a_client_ends_with_its_reason() {
    let postgres = Postgres::start();
    let url = postgres.superuser_url();
    let pgweir = Pgweir::builder()
        .config(&format!(
            "workers = 1\nadmin_users = [\"postgres\"]\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{url}\"\npool_size = 2\n"
        ))
        .start();
    let mut pinned = Wire::log_in(pgweir.port(), "postgres", "app", None);
    let mut other = Wire::log_in(pgweir.port(), "postgres", "app", None);
    for (begin, end) in [
        ("SELECT pg_advisory_lock(42)", "SELECT pg_advisory_unlock(42)"),
        (
            "SELECT pg_advisory_lock(42), pg_advisory_lock(43)",
            "SELECT pg_advisory_unlock_all()",
        ),
        ("CREATE TEMP TABLE mine (id int)", "DROP TABLE mine"),
        ("CREATE TEMP TABLE mine (id int)", "DISCARD TEMP"),
        (
            "BEGIN; DECLARE mine CURSOR WITH HOLD FOR SELECT 1; COMMIT",
            "CLOSE mine",
        ),
        (
            "BEGIN; CREATE TEMP TABLE mine (id int); COMMIT",
            "BEGIN; DROP TABLE mine; COMMIT",
        ),
    ] {
        assert!(are_free(&mut pinned, &mut other), "{begin}");
        pinned.query(begin);
        let shared = pinned.value(BACKEND);
        assert_ne!(other.value(BACKEND), shared, "{begin}");
        pinned.query("BEGIN");
        pinned.query(if begin.starts_with("BEGIN") {
            "SELECT 1"
        } else {
            end
        });
        pinned.query("ROLLBACK");
        let lasts = !end.contains("unlock");
        if lasts {
            assert_ne!(other.value(BACKEND), shared, "{end} was rolled back");
            pinned.query(end);
        }
        // Its next request comes when that is known.
        assert!(are_free(&mut pinned, &mut other), "{end}");
    }
    pinned.query("CREATE TEMP TABLE mine (id int); SELECT pg_advisory_lock(42)");
    let mut console = Wire::log_in(pgweir.port(), "postgres", "pgweir", None);
    let shown = console.rows("SHOW PINS");
    let reasons: Vec<&str> = shown.iter().map(|row| row[4].as_str()).collect();
    assert_eq!(reasons, ["temporary table", "advisory lock"]);
    assert_eq!((shown[0][0].as_str(), shown[0][1].as_str()), ("app", "postgres"));
    pinned.query("DROP TABLE mine; SELECT pg_advisory_unlock_all()");
    pinned.query("SELECT 1");
    assert!(console.rows("SHOW PINS").is_empty());
    for harmless in [
        "BEGIN; CREATE TEMP TABLE mine (id int) ON COMMIT DROP; COMMIT",
        "BEGIN; CREATE TEMP TABLE mine (id int); ROLLBACK",
        "SELECT 'a word like temp'",
        "SELECT pg_advisory_lock(42), pg_advisory_unlock(42)",
    ] {
        pinned.query(harmless);
        assert!(are_free(&mut pinned, &mut other), "{harmless}");
    }
}

#[test]
fn a_value_that_the_server_has_read_again_is_nobodys_own() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1");
    let mut clients = [(); 2].map(|()| Wire::log_in(pgweir.port(), "postgres", "app", None));
    for zone in ["Asia/Tokyo", "Europe/Berlin", "America/New_York"] {
        postgres.sql(&format!("ALTER SYSTEM SET TimeZone = '{zone}'"));
        postgres.sql("SELECT pg_reload_conf()");
        eventually("the server has read its files", || {
            clients[0].value("SHOW TimeZone") == zone
        });
        for client in [1, 0, 1] {
            assert_eq!(clients[client].value("SHOW TimeZone"), zone);
        }
        clients.reverse();
    }
    // What one has set itself stays.
    clients[0].query("SET TimeZone = 'Asia/Kolkata'");
    postgres.sql("ALTER SYSTEM SET TimeZone = 'Asia/Tokyo'");
    postgres.sql("SELECT pg_reload_conf()");
    eventually("the server has read its files", || {
        clients[1].value("SHOW TimeZone") == "Asia/Tokyo"
    });
    assert_eq!(clients[0].value("SHOW TimeZone"), "Asia/Kolkata");
    clients[0].query("RESET TimeZone");
    assert_eq!(clients[0].value("SHOW TimeZone"), "Asia/Tokyo");
}
