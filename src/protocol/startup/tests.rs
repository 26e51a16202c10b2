//! Packets as clients send them, cut anywhere, and what nobody should send.

use proptest::prelude::*;

use super::*;
use crate::protocol::{Report, SqlState};

fn packet(version: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let frame = Frame::begin_untagged(&mut out);
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(body);
    frame.end(&mut out);
    out
}

fn startup(body: &[u8]) -> Result<StartupMessage, StartupError> {
    let decoded = decode(&packet(ProtocolVersion::V3_0.to_u32(), body))?;
    let Decoded::Packet {
        packet: Packet::Startup(message),
        ..
    } = decoded
    else {
        panic!("{decoded:?}");
    };
    Ok(message)
}

fn report(error: &StartupError) -> (SqlState, String) {
    let report = Report::from(error);
    (report.code, report.message.into_owned())
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn a_startup_message_survives_the_wire_cut_anywhere() {
    let message = StartupMessage {
        version: ProtocolVersion {
            major: 3,
            minor: 9999,
        },
        parameters: pairs(&[
            ("user", "app"),
            ("database", "däta"),
            ("options", ""),
            ("user", "last"),
        ]),
        protocol_options: pairs(&[("_pq_.test", "1")]),
    };
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    for cut in 0..bytes.len() {
        let missing = if cut < 4 { 4 - cut } else { bytes.len() - cut };
        assert_eq!(decode(&bytes[..cut]), Ok(Decoded::NeedMore(missing)));
    }
    let len = bytes.len();
    bytes.extend_from_slice(b"more");
    assert_eq!(message.value("user"), Some("last"));
    let packet = Packet::Startup(message);
    assert_eq!(decode(&bytes), Ok(Decoded::Packet { len, packet }));
}

#[test]
fn requests_without_a_body() {
    let mut ssl = Vec::new();
    encode_ssl_request(&mut ssl);
    assert_eq!(ssl, [0, 0, 0, 8, 4, 210, 22, 47]);
    let decoded = Decoded::Packet {
        len: 8,
        packet: Packet::SslRequest,
    };
    assert_eq!(decode(&ssl), Ok(decoded));
    let decoded = Decoded::Packet {
        len: 8,
        packet: Packet::GssEncRequest,
    };
    assert_eq!(decode(&[0, 0, 0, 8, 4, 210, 22, 48]), Ok(decoded));
}

fn key(process_id: u32, secret: &[u8]) -> CancelKey {
    CancelKey {
        process_id,
        secret: secret.into(),
    }
}

#[test]
fn cancel_requests_with_short_and_long_keys() {
    for length in [4, 32, 256] {
        let key = key(77, &vec![9; length]);
        let mut bytes = Vec::new();
        key.encode_cancel_request(&mut bytes);
        assert_eq!(bytes.len(), 12 + length);
        let packet = Packet::Cancel(key.clone());
        assert_eq!(
            decode(&bytes),
            Ok(Decoded::Packet {
                len: bytes.len(),
                packet
            })
        );
        bytes.clear();
        key.encode_backend_key_data(&mut bytes);
        assert_eq!(CancelKey::decode_backend_key_data(&bytes[5..]), Some(key));
    }
    for length in [0, 3, 257] {
        let bytes = packet(CANCEL_REQUEST_CODE, &vec![0; 4 + length]);
        assert_eq!(decode(&bytes), Err(StartupError::CancelLength), "{length}");
    }
    assert_eq!(
        decode(&packet(CANCEL_REQUEST_CODE, &[])),
        Err(StartupError::CancelLength)
    );
}

#[test]
fn lengths_that_lie() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x16\x03\x01\x02\x00",
        &[0; 8],
        &[0, 0, 0, 7],
        &[0, 0, 0x27, 0x15],
        &[255; 4],
    ] {
        let error = decode(bytes).unwrap_err();
        let text = "invalid length of startup packet".to_owned();
        assert_eq!(report(&error), (SqlState::PROTOCOL_VIOLATION, text));
    }
    assert_eq!(decode(&[0, 0, 0x27, 0x14]), Ok(Decoded::NeedMore(10_000)));
}

#[test]
fn versions_that_are_not_spoken() {
    for (version, named) in [
        (2 << 16, "2.0"),
        (1 << 16, "1.0"),
        (4 << 16, "4.0"),
        (0, "0.0"),
        ((1234 << 16) | 5681, "1234.5681"),
    ] {
        let error = decode(&packet(version, &[0])).unwrap_err();
        let text = format!("unsupported frontend protocol {named}: server supports 3.0 to 3.2");
        assert_eq!(report(&error), (SqlState::FEATURE_NOT_SUPPORTED, text));
    }
}

#[test]
fn layouts_that_are_broken() {
    for body in [
        &b""[..],
        b"user",
        b"user\0",
        b"user\0app",
        b"user\0app\0",
        b"\0\0",
        b"user\0app\0\0x",
        b"user\0\0database\0\0",
    ] {
        let error = startup(body).unwrap_err();
        let text = "invalid startup packet layout: expected terminator as last byte".to_owned();
        assert_eq!(report(&error), (SqlState::PROTOCOL_VIOLATION, text), "{body:?}");
    }
    assert_eq!(startup(b"\0").unwrap().parameters, []);
    assert_eq!(startup(b"user\0\0\0").unwrap().value("user"), Some(""));
}

#[test]
fn text_that_is_not_utf8() {
    let error = startup(b"user\0\xe4\0\0").unwrap_err();
    assert_eq!(error, StartupError::NotUtf8("user".into()));
    assert_eq!(
        startup(b"us\xe4r\0x\0\0").unwrap_err(),
        StartupError::NotUtf8("us?r".into())
    );
    let message = startup(b"application_name\0caf\xe9\0\0").unwrap();
    assert_eq!(message.value("application_name"), Some("caf?"));
    assert_eq!(
        startup("application_name\0café\0\0".as_bytes())
            .unwrap()
            .value("application_name"),
        Some("café")
    );
}

#[test]
fn negotiation_answers_only_what_asks_for_more() {
    let answer = |minor, options: &[(&str, &str)]| {
        NegotiateProtocolVersion::answer(&StartupMessage {
            version: ProtocolVersion { major: 3, minor },
            parameters: vec![],
            protocol_options: pairs(options),
        })
    };
    assert_eq!(answer(0, &[]), None);
    assert_eq!(answer(2, &[]), None);
    assert_eq!(answer(9999, &[]).unwrap().version, ProtocolVersion::V3_2);
    let both = answer(0, &[("_pq_.a", "1"), ("_pq_.b", "2")]).unwrap();
    assert_eq!(both.version, ProtocolVersion::V3_0);
    assert_eq!(both.unsupported, ["_pq_.a", "_pq_.b"]);
    let mut out = Vec::new();
    both.encode(&mut out);
    assert_eq!(&out[..13], b"v\0\0\0\x1a\0\x03\0\0\0\0\0\x02");
    assert_eq!(NegotiateProtocolVersion::decode(&out[5..]), Some(both));
    for bad in [
        &b""[..],
        b"\0\x03\0\0\0\0\0\x01",
        b"\0\x03\0\0\0\0\0\x01a",
        b"\0\x03\0\0\0\0\0\0x",
        b"\0\x03\0\0\xff\xff\xff\xff",
    ] {
        assert_eq!(NegotiateProtocolVersion::decode(bad), None, "{bad:?}");
    }
}

#[test]
fn options_as_postgresql_reads_them() {
    let read = |text: &str| parse_options(text).unwrap();
    assert_eq!(read(""), []);
    assert_eq!(read(" \t\x0b\n"), []);
    assert_eq!(
        read("-c statement_timeout=5s -cwork-mem=1MB\t--search-path=a,b --geqo=off"),
        pairs(&[
            ("statement_timeout", "5s"),
            ("work_mem", "1MB"),
            ("search_path", "a,b"),
            ("geqo", "off")
        ])
    );
    assert_eq!(
        read(r"-c search_path=a\ b\\c -c application_name=x=y-z --empty= -c x=\"),
        pairs(&[
            ("search_path", r"a b\c"),
            ("application_name", "x=y-z"),
            ("empty", ""),
            ("x", "")
        ])
    );
    assert_eq!(read("-c a=1 --"), pairs(&[("a", "1")]));
}

#[test]
fn options_that_set_nothing() {
    let refuse = |text: &str| report(&parse_options(text).unwrap_err());
    for (text, named) in [
        ("-e", "-e"),
        ("-d 3", "-d"),
        ("foo", "foo"),
        ("-c", "-c"),
        ("-c a=1 bar", "bar"),
        ("-- x", "x"),
        ("\\ ", " "),
        ("--=x", "--=x"),
        ("-c =x", "-c =x"),
    ] {
        let text_of = format!("invalid command-line argument for server process: {named}");
        assert_eq!(refuse(text), (SqlState::SYNTAX_ERROR, text_of));
    }
    assert_eq!(refuse("--geqo").1, "--geqo requires a value");
    assert_eq!(refuse("-c geqo").1, "-c geqo requires a value");
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoders_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), code in prop_oneof![
        Just(196_608_u32), Just(CANCEL_REQUEST_CODE), Just(SSL_REQUEST_CODE), any::<u32>(),
    ]) {
        let _ = decode(&bytes);
        let _ = decode(&packet(code, &bytes));
        let _ = NegotiateProtocolVersion::decode(&bytes);
        let _ = CancelKey::decode_backend_key_data(&bytes);
    }

    #[test]
    fn no_text_makes_the_options_panic(text in "[-c= \\\\\n\ta-zé]{0,40}") {
        let _ = parse_options(&text);
    }

    #[test]
    fn every_message_survives_the_wire(minor: u16, list in proptest::collection::vec(("[a-z.]{1,9}", "[^\0]{0,9}"), 0..9)) {
        let message = StartupMessage { version: ProtocolVersion { major: 3, minor }, parameters: list, protocol_options: vec![] };
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let len = bytes.len();
        prop_assert_eq!(decode(&bytes), Ok(Decoded::Packet { len, packet: Packet::Startup(message) }));
    }
}
