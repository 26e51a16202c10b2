//! The beginning of a session: versions, options and settings, as PostgreSQL itself takes them.

use std::time::{Duration, Instant};

use pgweir::protocol::tag;

use super::harness::wire::{Frame, PROTOCOL_3_0, PROTOCOL_3_2, startup_packet, tags, untagged};
use super::harness::{PATIENCE, Pgweir, Postgres, Wire};

/// Majors of which the newest speaks protocol 3.2 itself.
const MAJORS: [u32; 3] = [14, 15, 18];
const MODES: [&str; 2] = ["transaction", "session"];

fn in_mode(postgres: &Postgres, mode: &str) -> Pgweir {
    Pgweir::before_with(postgres, &format!("pool_mode = \"{mode}\"\npool_size = 1"))
}

/// Logs in with these parameters and returns everything up to the first ReadyForQuery or the end.
fn begin(port: u16, version: u32, parameters: &[(&str, &str)]) -> (Wire, Vec<Frame>) {
    let mut wire = Wire::connect(port);
    wire.startup_version(version, parameters);
    let mut frames = Vec::new();
    while let Some(frame) = wire.try_read_frame().unwrap() {
        let is_last = frame.tag == tag::READY_FOR_QUERY;
        frames.push(frame);
        if is_last {
            break;
        }
    }
    (wire, frames)
}

/// The parameters that were reported, in order of their names; or the error's severity, code and text.
fn outcome(frames: &[Frame]) -> Vec<String> {
    let mut lines: Vec<String> = frames
        .iter()
        .filter_map(|frame| match frame.tag {
            tag::PARAMETER_STATUS => frame.parameter().map(|(name, value)| format!("{name} = {value}")),
            tag::ERROR_RESPONSE => {
                let fields = ['V', 'C', 'M'].map(|name| frame.field(name).unwrap_or_default());
                Some(fields.join(" "))
            }
            _ => None,
        })
        .collect();
    lines.sort();
    lines
}

fn as_superuser<'a>(database: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("user", "postgres"), ("database", database)], more].concat()
}

#[test]
fn parameters_of_a_startup_packet_are_taken_and_refused_as_by_the_server() {
    let attempts: &[&[(&str, &str)]] = &[
        &[],
        &[
            ("TimeZone", "Europe/Berlin"),
            ("DateStyle", "German"),
            ("client_encoding", "LATIN1"),
        ],
        &[
            ("timezone", "america/new_york"),
            ("application_name", "psql"),
            ("extra_float_digits", "3"),
        ],
        &[(
            "options",
            "-c statement_timeout=5s -c search_path=a,b --work-mem=8MB",
        )],
        &[("options", "-c TimeZone=Asia/Tokyo"), ("TimeZone", "Asia/Seoul")],
        &[("options", "-c application_name=with\\ a\\ space -ctimezone=UTC")],
        &[("app.tenant", "42"), ("options", "-c other.thing=it's")],
        &[
            ("IntervalStyle", "iso_8601"),
            ("standard_conforming_strings", "off"),
        ],
        &[("TimeZone", "Nowhere/Bad")],
        &[("client_encoding", "nonsense")],
        &[("DateStyle", "nonsense")],
        &[("statement_timeout", "soon")],
        &[("statement_timeout", "-5")],
        &[("no_such_parameter", "1")],
        &[("options", "-c no_such_parameter=1")],
        &[("options", "-c work_mem=tiny")],
        &[("max_connections", "5")],
        &[("server_version", "99")],
        &[("options", "-c")],
        &[("options", "-c nonsense")],
    ];
    for major in MAJORS {
        let postgres = Postgres::major(major);
        for mode in MODES {
            let pgweir = in_mode(&postgres, mode);
            // Twice: what is known from the first time is told the second time.
            for _ in 0..2 {
                for more in attempts {
                    let (_, direct) = begin(postgres.port(), PROTOCOL_3_0, &as_superuser("postgres", more));
                    let (_, pooled) = begin(pgweir.port(), PROTOCOL_3_0, &as_superuser("app", more));
                    assert_eq!(outcome(&pooled), outcome(&direct), "{major}, {mode}: {more:?}");
                }
            }
        }
    }
}

#[test]
fn settings_of_the_startup_hold_on_every_server_connection_and_never_leak() {
    let postgres = Postgres::start();
    let settings = "SELECT array_agg(name || '=' || setting ORDER BY name) FROM pg_settings WHERE name IN
        ('TimeZone', 'statement_timeout', 'search_path', 'extra_float_digits', 'application_name', 'work_mem', 'DateStyle')";
    let clients: [&[(&str, &str)]; 4] = [
        &[
            ("options", "-c statement_timeout=7s"),
            ("search_path", "pg_catalog, \"Quoted\""),
            ("TimeZone", "Asia/Tokyo"),
        ],
        &[
            ("extra_float_digits", "0"),
            ("application_name", "second"),
            ("statement_timeout", "9s"),
        ],
        &[
            ("work_mem", "17MB"),
            ("DateStyle", "SQL, DMY"),
            ("TimeZone", "Europe/Berlin"),
            ("application_name", "third"),
        ],
        &[],
    ];
    let log_in = |port, database| -> Vec<Wire> {
        let one = |more: &&[_]| begin(port, PROTOCOL_3_0, &as_superuser(database, more)).0;
        clients.iter().map(one).collect()
    };
    for size in [1, 3] {
        let pgweir = Pgweir::before_with(&postgres, &format!("pool_size = {size}"));
        let mut direct = log_in(postgres.port(), "postgres");
        let mut pooled = log_in(pgweir.port(), "app");
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [3, 3, 0, 0]] {
            for index in order {
                let expected = direct[index].value(settings);
                assert_eq!(pooled[index].value(settings), expected);
            }
        }
        // Changed on the way: it goes with the one who changed it.
        for wires in [&mut direct, &mut pooled] {
            wires[0].query("SET TimeZone = 'America/Lima'");
            wires[3].query("SET DateStyle = 'ISO, YMD'");
            wires[2].query("BEGIN");
            wires[2].query("SET LOCAL TimeZone = 'UTC'; SET LOCAL work_mem = '1MB'");
            wires[2].query("COMMIT");
        }
        for index in [3, 0, 1, 2, 0, 3] {
            let expected = direct[index].value(settings);
            assert_eq!(pooled[index].value(settings), expected);
        }
    }
}

#[test]
fn a_reset_goes_back_to_the_startup_and_says_so() {
    let postgres = Postgres::start();
    let more = [
        ("TimeZone", "Asia/Tokyo"),
        ("options", "-c statement_timeout=7s -c search_path=a"),
        ("application_name", "it"),
    ];
    let texts = [
        "SET TimeZone = 'Europe/Berlin'; SET application_name = 'changed'",
        "RESET ALL",
        "SHOW TimeZone",
        "SHOW statement_timeout",
        "RESET ALL",
        "SHOW search_path",
        "SET TimeZone = 'Europe/Berlin'",
        "DISCARD ALL",
        "SHOW TimeZone",
        "SHOW statement_timeout",
        "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;",
        "SHOW application_name",
        "SHOW statement_timeout",
        "BEGIN; SET LOCAL TimeZone = 'UTC'",
        "ROLLBACK",
        "RESET TimeZone",
        "SHOW TimeZone",
    ];
    for mode in MODES {
        let pgweir = in_mode(&postgres, mode);
        let mut direct = begin(postgres.port(), PROTOCOL_3_0, &as_superuser("postgres", &more)).0;
        let mut pooled = begin(pgweir.port(), PROTOCOL_3_0, &as_superuser("app", &more)).0;
        for text in texts {
            assert_eq!(
                sorted(pooled.query(text)),
                sorted(direct.query(text)),
                "{mode}: {text}"
            );
        }
        if mode == "transaction" {
            // The server connection is not kept for this client, and is as new for the next.
            let mut next = Wire::log_in(pgweir.port(), "postgres", "app", None);
            assert_eq!(next.value("SHOW statement_timeout"), "0");
            assert_eq!(next.value("SHOW search_path"), "\"$user\", public");
            assert_eq!(pooled.value("SHOW search_path"), "a");
        }
    }
}

/// Several values are reported in no particular order.
fn sorted(mut frames: Vec<Frame>) -> Vec<String> {
    frames.sort_by_key(|frame| frame.tag == tag::PARAMETER_STATUS);
    let mut lines: Vec<String> = frames.iter().map(|frame| format!("{frame:?}")).collect();
    let reported = frames
        .iter()
        .filter(|frame| frame.tag == tag::PARAMETER_STATUS)
        .count();
    let first = lines.len() - reported;
    lines[first..].sort();
    lines
}

#[test]
fn encryption_that_is_not_there_is_declined() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before(&postgres);
    for gss_first in [true, false] {
        let mut wire = pgweir.wire();
        if gss_first {
            assert_eq!((wire.request_gss_encryption(), wire.request_ssl()), (b'N', b'N'));
        } else {
            assert_eq!((wire.request_ssl(), wire.request_gss_encryption()), (b'N', b'N'));
        }
        wire.startup(&as_superuser("app", &[]));
        wire.authenticate("postgres", "");
        assert_eq!(wire.value("SELECT 1"), "1");
    }
}

#[test]
fn versions_are_negotiated_as_the_newest_server_does() {
    let newest = Postgres::major(18);
    for major in MAJORS {
        let postgres = Postgres::major(major);
        let pgweir = Pgweir::before(&postgres);
        for (version, more) in [
            (PROTOCOL_3_0, &[][..]),
            (PROTOCOL_3_2, &[]),
            // What new clients of libpq send to find servers that cannot say no.
            ((3 << 16) | 9999, &[("_pq_.test_protocol_negotiation", "")]),
            (PROTOCOL_3_0, &[("_pq_.something", "1"), ("_pq_.else", "")]),
            ((3 << 16) | 3, &[]),
        ] {
            let (_, oracle) = begin(newest.port(), version, &as_superuser("postgres", more));
            let (mut wire, frames) = begin(pgweir.port(), version, &as_superuser("app", more));
            let negotiation = |frames: &[Frame]| {
                let found = frames
                    .iter()
                    .find(|frame| frame.tag == tag::NEGOTIATE_PROTOCOL_VERSION);
                found.cloned()
            };
            assert_eq!(negotiation(&frames), negotiation(&oracle), "{version:x} {more:?}");
            let secret_len = |frames: &[Frame]| frames.iter().find_map(Frame::cancel_key).unwrap().1.len();
            assert_eq!(secret_len(&frames), secret_len(&oracle), "{version:x}");
            assert_eq!(wire.value("SELECT 1"), "1");
            assert_cancel_works(&postgres, &pgweir, &mut wire, &frames);
        }
    }
}

/// Cancels a long query by the key that was handed out.
fn assert_cancel_works(postgres: &Postgres, pgweir: &Pgweir, wire: &mut Wire, greeting: &[Frame]) {
    let (process_id, secret) = greeting.iter().find_map(Frame::cancel_key).unwrap();
    wire.send_query("SELECT pg_sleep(600)");
    let deadline = Instant::now() + PATIENCE;
    let running =
        "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'";
    while postgres.sql(running) != "1" {
        assert!(Instant::now() < deadline);
    }
    let mut wrong = secret.clone();
    wrong[0] ^= 1;
    for (process_id, secret) in [
        (process_id, &wrong[..]),
        (process_id, &secret[..3]),
        (process_id ^ 0x10, &secret),
    ] {
        let mut stranger = pgweir.wire();
        stranger.cancel(process_id, secret);
        // A secret of an impossible length is complained about.
        let frames = stranger.read_until_closed();
        assert!(frames.iter().all(|frame| frame.tag == tag::ERROR_RESPONSE));
    }
    wire.set_read_timeout(Duration::from_millis(20));
    assert!(wire.try_read_frame().is_err());
    wire.set_read_timeout(PATIENCE);
    let mut canceller = pgweir.wire();
    canceller.cancel(process_id, &secret);
    assert_eq!(canceller.read_until_closed(), []);
    let frames = wire.read_until_ready();
    let error = frames
        .iter()
        .find(|frame| frame.tag == tag::ERROR_RESPONSE)
        .unwrap();
    assert_eq!(error.sqlstate(), "57014");
    assert_eq!(wire.value("SELECT 2"), "2");
}

#[test]
fn bad_startups_end_in_the_servers_own_codes_and_nobody_else_notices() {
    let postgres = Postgres::major(18);
    let pgweir = Pgweir::before(&postgres);
    let mut bystander = Wire::log_in(pgweir.port(), "postgres", "app", None);
    bystander.query("BEGIN; SELECT 1");
    let no_end = &startup_packet(PROTOCOL_3_0, &as_superuser("app", &[]))[..20];
    let attempts: [(&str, Vec<u8>); 6] = [
        ("version 4", startup_packet(4 << 16, &as_superuser("app", &[]))),
        ("no user", startup_packet(PROTOCOL_3_0, &[("database", "app")])),
        ("an empty user", startup_packet(PROTOCOL_3_0, &[("user", "")])),
        ("no end of the list", untagged(&no_end[4..])),
        (
            "a bad replication",
            startup_packet(PROTOCOL_3_0, &as_superuser("app", &[("replication", "perhaps")])),
        ),
        ("bytes behind the end", {
            let mut packet = startup_packet(PROTOCOL_3_0, &as_superuser("app", &[]));
            packet.extend(b"more");
            let length = u32::try_from(packet.len()).unwrap();
            packet[..4].copy_from_slice(&length.to_be_bytes());
            packet
        }),
    ];
    for (name, packet) in attempts {
        let answer = |port| {
            let mut wire = Wire::connect(port);
            wire.send_raw(&packet);
            let fields = |frame: &Frame| {
                ['V', 'C']
                    .map(|name| frame.field(name).unwrap_or_default())
                    .join(" ")
            };
            wire.read_until_closed().iter().map(fields).collect::<Vec<_>>()
        };
        assert_eq!(answer(pgweir.port()), answer(postgres.port()), "{name}");
    }
    // PostgreSQL would answer this one in the language of protocol 2.
    let (_, frames) = begin(pgweir.port(), 2 << 16, &as_superuser("app", &[]));
    assert_eq!(frames[0].sqlstate(), "0A000");
    // Lengths that no startup packet has: closed without a word, at once.
    for length in [0, 3, 7, 10_005, u32::MAX] {
        let mut wire = pgweir.wire();
        wire.send_raw(&length.to_be_bytes());
        let frames = wire.read_until_closed();
        let is_silent = frames.is_empty();
        assert!(
            is_silent || frames[0].sqlstate() == "08P01",
            "{length}: {frames:?}"
        );
    }
    // One that stops in the middle is left alone; and one that goes on byte by byte is served.
    let mut slow = pgweir.wire();
    slow.send_in_single_bytes(&startup_packet(PROTOCOL_3_0, &as_superuser("app", &[])));
    slow.authenticate("postgres", "");
    assert_eq!(slow.value("SELECT 3"), "3");
    assert_eq!(tags(&bystander.query("COMMIT")), "CZ");
}

#[test]
fn an_application_name_is_told_as_the_server_has_it() {
    for major in MAJORS {
        let postgres = Postgres::major(major);
        let pgweir = in_mode(&postgres, "transaction");
        let long = "n".repeat(70);
        for name in [long.as_str(), "n\u{f6}", "tab\there", "plain"] {
            let names = [
                ("user", "postgres"),
                ("database", "app"),
                ("application_name", name),
            ];
            let direct = [("user", "postgres"), ("database", "postgres"), names[2]];
            let told = |port, parameters| {
                let (mut wire, frames) = begin(port, PROTOCOL_3_0, parameters);
                let name = frames
                    .iter()
                    .filter_map(Frame::parameter)
                    .find(|(name, _)| name == "application_name");
                let notices: Vec<String> = frames
                    .iter()
                    .filter(|frame| frame.tag == tag::NOTICE_RESPONSE)
                    .map(Frame::message)
                    .collect();
                (name, notices, wire.value("SHOW application_name"))
            };
            let expected = told(postgres.port(), &direct);
            // Once the settings are tried, then they are known.
            for _ in 0..2 {
                assert_eq!(told(pgweir.port(), &names), expected, "{major} {name}");
            }
        }
    }
}
