//! Strangers at the door: what is too large, too slow, too many, or no login at all.

use std::io::ErrorKind;
use std::time::Instant;

use pgweir::protocol::tag;

use super::harness::clients::psql;
use super::harness::wire::{PROTOCOL_3_0, c_string, frame, startup_packet, untagged};
use super::harness::{PATIENCE, Pgweir, Postgres, Wire};

fn pooler(postgres: &Postgres, method: &str, keys: &str) -> Pgweir {
    let url = postgres.superuser_url();
    let config = format!(
        "workers = 2\n{keys}\n[auth]\nmethod = \"{method}\"\n[users.app]\npassword = \"secret\"\n[databases.app]\nurl = \"{url}\"\n"
    );
    Pgweir::builder().config(&config).start()
}

/// At the point where the password is asked for.
fn asked(pgweir: &Pgweir) -> Wire {
    let mut wire = pgweir.wire();
    wire.startup(&[("user", "app"), ("database", "app")]);
    assert_eq!(wire.read_frame().tag, tag::AUTHENTICATION);
    wire
}

fn is_served(pgweir: &Pgweir) {
    let mut wire = Wire::log_in(pgweir.port(), "app", "app", Some("secret"));
    assert_eq!(wire.value("SELECT 1"), "1");
}

#[test]
fn a_password_up_to_the_limit_is_read_and_one_above_it_is_an_error() {
    let postgres = Postgres::start();
    for method in ["password", "md5", "scram-sha-256"] {
        let pgweir = pooler(&postgres, method, "");
        let limit = if method == "scram-sha-256" { 1024 } else { 65_535 };
        // The length word of the message is not counted, the terminator is.
        let mut wire = asked(&pgweir);
        wire.send(tag::PASSWORD_MESSAGE, &c_string(&"x".repeat(limit - 1)));
        let state = wire.read_fatal().sqlstate();
        assert_ne!(state, "54000", "{method}");
        for length in [limit + 1, 1 << 20, (1 << 31) - 5] {
            let mut wire = asked(&pgweir);
            let mut head = vec![tag::PASSWORD_MESSAGE];
            head.extend(u32::try_from(length + 4).unwrap().to_be_bytes());
            wire.send_raw(&head);
            assert_eq!(wire.read_fatal().sqlstate(), "54000", "{method} {length}");
        }
        for malformed in [
            [&[tag::PASSWORD_MESSAGE], [0, 0, 0, 3].as_slice()].concat(),
            [&[tag::PASSWORD_MESSAGE], [0xff; 4].as_slice()].concat(),
            frame(tag::QUERY, &c_string("SELECT 1")),
            frame(tag::TERMINATE, &[]),
        ] {
            let mut wire = asked(&pgweir);
            wire.send_raw(&malformed);
            let state = wire.read_fatal().sqlstate();
            assert!(
                ["08P01", "54000"].contains(&state.as_str()),
                "{method} {malformed:?}: {state}"
            );
        }
        is_served(&pgweir);
    }
}

#[test]
fn a_user_name_of_ten_megabytes_is_refused_at_its_length() {
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres, "scram-sha-256", "");
    let name = "x".repeat(10 << 20);
    let mut wire = pgweir.wire();
    // It is told at the length; how much of the rest it may send before that is a matter of luck.
    let _ = wire.try_send_raw(&startup_packet(PROTOCOL_3_0, &[("user", &name)]));
    for frame in wire.read_until_closed() {
        assert_eq!(frame.sqlstate(), "08P01");
    }
    let mut wire = pgweir.wire();
    wire.send_raw(&u32::try_from(10 << 20).unwrap().to_be_bytes());
    assert_eq!(wire.read_fatal().sqlstate(), "08P01");
    is_served(&pgweir);
}

#[test]
fn what_is_no_startup_packet_is_refused_and_hurts_nobody() {
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres, "scram-sha-256", "");
    let junk: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a handshake, and TLS is not offered",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &[0; 64],
        &[0xff; 64],
        &[0, 0, 0, 8, 0, 2, 0, 0],
        &[0, 0, 0, 9, 0, 3, 0, 0, 1],
        &[0, 0, 0, 4],
    ];
    for bytes in junk {
        let mut wire = pgweir.wire();
        wire.send_raw(bytes);
        for frame in wire.read_until_closed() {
            let state = frame.sqlstate();
            assert!(["08P01", "0A000"].contains(&state.as_str()), "{bytes:?}: {state}");
        }
    }
    // A generator that is bad on purpose, but the same each time.
    let mut seed = 1_u64;
    for _ in 0..200 {
        let mut wire = pgweir.wire();
        let mut bytes = Vec::new();
        for _ in 0..64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            bytes.push(u8::try_from(seed >> 56).unwrap());
        }
        bytes[..3].fill(0);
        let _ = wire.try_send_raw(&bytes);
        wire.shut_down_sending();
        wire.read_until_closed();
    }
    is_served(&pgweir);
    assert!(!pgweir.log_contains("a task has failed"), "{}", pgweir.log());
}

#[test]
fn bytes_stuffed_behind_a_request_for_encryption_are_not_taken() {
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres, "scram-sha-256", "");
    for code in [80_877_103_u32, 80_877_104] {
        let mut wire = pgweir.wire();
        let stuffed = startup_packet(PROTOCOL_3_0, &[("user", "app"), ("database", "app")]);
        wire.send_raw(&[untagged(&code.to_be_bytes()), stuffed].concat());
        let frames = wire.read_until_closed();
        assert_eq!(frames.last().unwrap().sqlstate(), "08P01", "{frames:?}");
    }
}

#[test]
fn who_stops_in_the_middle_of_a_login_is_dropped_in_time() {
    let postgres = Postgres::start();
    let pgweir = pooler(&postgres, "scram-sha-256", "client_login_timeout = \"1s\"");
    let begun = Instant::now();
    let mut stopped: Vec<Wire> = Vec::new();
    stopped.push(pgweir.wire());
    let mut wire = pgweir.wire();
    wire.send_raw(&[0, 0]);
    stopped.push(wire);
    let packet = startup_packet(PROTOCOL_3_0, &[("user", "app"), ("database", "app")]);
    let mut wire = pgweir.wire();
    wire.send_raw(&packet[..packet.len() - 1]);
    stopped.push(wire);
    stopped.push(asked(&pgweir));
    let mut wire = asked(&pgweir);
    wire.send_raw(&[tag::PASSWORD_MESSAGE, 0, 0, 0, 50, b'S']);
    stopped.push(wire);
    for wire in &mut stopped {
        assert_eq!(wire.read_until_closed(), []);
    }
    assert!(begun.elapsed() < PATIENCE);
    pgweir.wait_for_log("not complete within 1s (client_login_timeout)", stopped.len());
    is_served(&pgweir);
}

#[test]
fn thousands_that_never_log_in_keep_nobody_from_being_served() {
    let postgres = Postgres::start();
    let pgweir = pooler(
        &postgres,
        "scram-sha-256",
        "client_login_timeout = \"8s\"\nmax_clients = 10",
    );
    let mut silent: Vec<Wire> = (0..2_000).map(|_| pgweir.wire()).collect();
    for _ in 0..3 {
        is_served(&pgweir);
    }
    let url = format!("postgresql://app:secret@127.0.0.1:{}/app", pgweir.port());
    assert_eq!(psql(&url, "SELECT 1").success(), "1");
    for wire in &mut silent {
        match wire.try_read_frame() {
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("{other:?}"),
        }
    }
    is_served(&pgweir);
}

#[test]
fn more_clients_than_the_limits_allow_are_told_so() {
    let postgres = Postgres::start();
    for (keys, limit) in [
        ("max_clients = 2", "max_clients"),
        ("max_db_clients = 2", "max_db_clients"),
        ("max_user_clients = 2", "max_user_clients"),
    ] {
        let pgweir = pooler(&postgres, "scram-sha-256", keys);
        let mut clients = [(); 2].map(|()| Wire::log_in(pgweir.port(), "app", "app", Some("secret")));
        let url = format!("postgresql://app:secret@127.0.0.1:{}/app", pgweir.port());
        let error = psql(&url, "SELECT 1").failure();
        assert!(error.contains("sorry, too many clients already"), "{error}");
        assert!(error.contains(limit), "{error}");
        // A wrong password is not told about it.
        let error = psql(&url.replace("secret", "guess"), "SELECT 1").failure();
        assert!(error.contains("password authentication failed"), "{error}");
        clients[0].terminate();
        clients[0].read_until_closed();
        let deadline = Instant::now() + PATIENCE;
        while !psql(&url, "SELECT 1").is_success {
            assert!(Instant::now() < deadline, "the place did not become free");
        }
    }
}
