//! Handshakes as clients do them, cut anywhere, and as nobody should.

mod proofs;

use proptest::prelude::*;

use super::*;
use crate::auth::scram::client::{self, ExpectServerFirst, Means, ServerFirst};
use crate::auth::scram::derive;
use crate::auth::{CertificateDemand, CertificateNames, Demand, Md5Secret, Mock, StandIn, Verifier};
use crate::protocol::SqlState;
use crate::protocol::authentication::{
    Authentication, SaslInitialResponse, encode_password, encode_sasl_response,
};
use crate::protocol::startup::{ProtocolVersion, Replication, StartupMessage, encode_ssl_request};

const GSS_ENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];
const RANDOMNESS: Randomness = Randomness {
    md5_salt: [1, 2, 3, 4],
    nonce: [5; 18],
};
const BINDING: &[u8] = b"the hash of our certificate";

fn mock() -> Mock {
    Mock::new([9; 32]).with_iterations(2)
}

fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let message = StartupMessage {
        version: ProtocolVersion::V3_0,
        parameters: parameters
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
        protocol_options: vec![],
    };
    let mut out = Vec::new();
    message.encode(&mut out);
    out
}

fn ssl_request() -> Vec<u8> {
    let mut out = Vec::new();
    encode_ssl_request(&mut out);
    out
}

fn first(tls: TlsOffer) -> Reading {
    ExpectFirst::new(tls).into()
}

/// Feeds the bytes one more at a time; the step must come with the last of them and not before.
fn feed(reading: Reading, input: &[u8], out: &mut Vec<u8>) -> Step {
    let mut reading = reading;
    for cut in 0..input.len() {
        let turn = reading.on_bytes(&input[..cut], out);
        assert_eq!(turn.consumed, 0);
        let Step::NeedMore(next) = turn.step else {
            panic!("{:?} after {cut} of {} bytes", turn.step, input.len());
        };
        reading = next;
    }
    let turn = reading.on_bytes(input, out);
    if !matches!(turn.step, Step::Refused(_)) {
        assert_eq!(turn.consumed, input.len());
    }
    turn.step
}

fn reading(step: Step) -> Reading {
    let Step::NeedMore(reading) = step else {
        panic!("{step:?}")
    };
    reading
}

fn refused(step: Step) -> (SqlState, String) {
    let Step::Refused(report) = step else {
        panic!("{step:?}")
    };
    assert_eq!(report.severity, crate::protocol::Severity::Fatal);
    (report.code, report.message.into_owned())
}

fn authenticated(step: Step) -> ClientLogin {
    let Step::Authenticated(login) = step else {
        panic!("{step:?}")
    };
    *login
}

fn resolve(parameters: &[(&str, &str)], tls: Option<TlsFacts>) -> Box<ExpectCredentials> {
    let mut out = Vec::new();
    let begin = match tls {
        None => first(TlsOffer::None),
        Some(facts) => {
            let Step::StartTls(wait) = feed(first(TlsOffer::Offered), &ssl_request(), &mut out) else {
                panic!()
            };
            wait.on_tls(facts)
        }
    };
    let Step::Resolve(state) = feed(begin, &startup(parameters), &mut out) else {
        panic!()
    };
    state
}

/// The step after the credentials, with what was sent.
fn ask(credentials: Credentials, tls: Option<TlsFacts>) -> (Step, Vec<u8>) {
    let mut out = Vec::new();
    let step = resolve(&[("user", "app")], tls).on_credentials(credentials, &mock(), RANDOMNESS, &mut out);
    (step, out)
}

fn plain() -> Option<Verifier> {
    Verifier::parse("secret")
}

fn scram() -> Option<Verifier> {
    Some(Verifier::Scram(
        derive(b"secret", b"salt", 2).verifier(b"salt", 2),
    ))
}

fn md5() -> Option<Verifier> {
    Some(Verifier::Md5(Md5Secret::derive(b"secret", "app")))
}

fn sent(authentication: &Authentication<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    authentication.encode(&mut out);
    out
}

fn password_message(password: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_password(&mut out, password);
    out
}

fn at_proof(demand: Demand) -> Reading {
    reading(ask(Credentials::new(demand, scram()), None).0)
}

const WRONG: &str = "password authentication failed for user \"app\"";

#[test]
fn requests_for_encryption_in_any_order_once_each() {
    let mut out = Vec::new();
    let step = feed(first(TlsOffer::None), &GSS_ENC_REQUEST, &mut out);
    let step = feed(reading(step), &ssl_request(), &mut out);
    let Step::Resolve(_) = feed(reading(step), &startup(&[("user", "app")]), &mut out) else {
        panic!()
    };
    assert_eq!(out, b"NN");

    let step = feed(first(TlsOffer::None), &ssl_request(), &mut out);
    let (code, text) = refused(feed(reading(step), &ssl_request(), &mut out));
    assert_eq!(code, SqlState::FEATURE_NOT_SUPPORTED);
    assert_eq!(
        text,
        "unsupported frontend protocol 1234.5679: server supports 3.0 to 3.2"
    );
}

#[test]
fn tls_is_started_and_then_not_asked_for_again() {
    let mut out = Vec::new();
    let step = feed(first(TlsOffer::Offered), &GSS_ENC_REQUEST, &mut out);
    let Step::StartTls(wait) = feed(reading(step), &ssl_request(), &mut out) else {
        panic!()
    };
    assert_eq!(out, b"NS");
    let inside = wait.on_tls(TlsFacts::default());
    let (code, _) = refused(feed(inside, &GSS_ENC_REQUEST, &mut out));
    assert_eq!(code, SqlState::FEATURE_NOT_SUPPORTED);
}

#[test]
fn a_tls_session_may_begin_at_the_first_byte() {
    let mut out = Vec::new();
    let turn = first(TlsOffer::Offered).on_bytes(b"\x16\x03\x01", &mut out);
    let Step::StartTls(wait) = turn.step else { panic!() };
    assert_eq!((turn.consumed, out.len()), (0, 0));
    // Inside of it TLS is declined, since it is there already.
    let step = feed(wait.on_tls(TlsFacts::default()), &ssl_request(), &mut out);
    assert_eq!(out, b"N");
    let Step::Resolve(state) = feed(reading(step), &startup(&[("user", "app")]), &mut out) else {
        panic!()
    };
    assert_eq!(state.request().security, Security::Tls(TlsFacts::default()));
    let turn = first(TlsOffer::None).on_bytes(b"\x16\x03\x01\x02\x00", &mut out);
    assert_eq!(refused(turn.step).0, SqlState::PROTOCOL_VIOLATION);
}

#[test]
fn bytes_behind_a_request_for_encryption_are_an_attack() {
    for offer in [TlsOffer::None, TlsOffer::Offered] {
        let mut out = Vec::new();
        let turn = first(offer).on_bytes(&[ssl_request(), startup(&[("user", "app")])].concat(), &mut out);
        let text = "received unencrypted data after SSL request".to_owned();
        assert_eq!(refused(turn.step), (SqlState::PROTOCOL_VIOLATION, text));
        let turn = first(offer).on_bytes(&[&GSS_ENC_REQUEST[..], b"x"].concat(), &mut out);
        let text = "received unencrypted data after GSSAPI encryption request".to_owned();
        assert_eq!(refused(turn.step), (SqlState::PROTOCOL_VIOLATION, text));
        assert!(out.is_empty());
    }
}

#[test]
fn cancellations_come_before_any_login() {
    let key = CancelKey {
        process_id: 7,
        secret: [8; 32].into(),
    };
    let mut bytes = Vec::new();
    key.encode_cancel_request(&mut bytes);
    let mut out = Vec::new();
    let Step::Cancel(found) = feed(first(TlsOffer::None), &bytes, &mut out) else {
        panic!()
    };
    assert!(found == key && out.is_empty());
}

#[test]
fn a_request_is_read_out_of_the_parameters() {
    let state = resolve(
        &[
            ("user", "app"),
            ("application_name", "x"),
            ("options", "-c work_mem=1MB --search-path=a"),
            ("replication", "database"),
            ("search_path", "b"),
        ],
        None,
    );
    let request = state.request();
    assert_eq!((request.user.as_str(), request.database.as_str()), ("app", "app"));
    assert_eq!(request.replication, Replication::Logical);
    let settings: Vec<_> = request
        .settings
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        settings,
        [
            "work_mem=1MB",
            "search_path=a",
            "application_name=x",
            "search_path=b"
        ]
    );
}

#[test]
fn requests_that_name_nobody_or_nonsense() {
    let refuse = |parameters: &[(&str, &str)]| {
        refused(feed(first(TlsOffer::None), &startup(parameters), &mut Vec::new()))
    };
    let nobody = "no PostgreSQL user name specified in startup packet".to_owned();
    assert_eq!(refuse(&[]), (SqlState::INVALID_AUTHORIZATION, nobody.clone()));
    assert_eq!(
        refuse(&[("user", ""), ("database", "x")]),
        (SqlState::INVALID_AUTHORIZATION, nobody)
    );
    let text = "invalid value for parameter \"replication\": \"maybe\"".to_owned();
    assert_eq!(
        refuse(&[("user", "a"), ("replication", "maybe")]),
        (SqlState::INVALID_PARAMETER_VALUE, text)
    );
    assert_eq!(
        refuse(&[("user", "a"), ("options", "-x")]).0,
        SqlState::SYNTAX_ERROR
    );
    for name in ["user", "database", "replication", "options", "_pq_.x"] {
        let options = format!("-c work_mem=1MB --{name}=postgres");
        assert_eq!(
            refuse(&[("user", "a"), ("options", &options), ("replication", "1")]),
            (
                SqlState::UNDEFINED_OBJECT,
                format!("unrecognized configuration parameter \"{name}\"")
            )
        );
    }
    let step = first(TlsOffer::None)
        .on_bytes(b"GET / HTTP/1.1\r\n\r\n", &mut Vec::new())
        .step;
    assert_eq!(
        refused(step),
        (
            SqlState::PROTOCOL_VIOLATION,
            "invalid length of startup packet".to_owned()
        )
    );
}

#[test]
fn a_newer_protocol_is_negotiated_before_the_login() {
    let message = StartupMessage {
        version: ProtocolVersion {
            major: 3,
            minor: 9999,
        },
        parameters: vec![("user".into(), "app".into())],
        protocol_options: vec![("_pq_.x".into(), "1".into())],
    };
    let (mut bytes, mut out) = (Vec::new(), Vec::new());
    message.encode(&mut bytes);
    let Step::Resolve(state) = feed(first(TlsOffer::None), &bytes, &mut out) else {
        panic!()
    };
    assert_eq!(state.request().version, ProtocolVersion::V3_2);
    assert_eq!(out, b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.x\0");
}

#[test]
fn trust_reject_and_peer_ask_nothing() {
    let (step, out) = ask(Credentials::new(Demand::Trust, None), None);
    assert_eq!(authenticated(step).evidence, Evidence::None);
    assert_eq!(out, sent(&Authentication::Ok));
    let (step, out) = ask(Credentials::new(Demand::Reject, plain()), None);
    assert_eq!(refused(step).0, SqlState::INVALID_AUTHORIZATION);
    assert!(out.is_empty());
    for (peer, is_let_in) in [(Some("app"), true), (Some("root"), false), (None, false)] {
        let credentials = Credentials {
            peer: peer.map(str::to_owned),
            ..Credentials::new(Demand::Peer, None)
        };
        assert_eq!(
            matches!(ask(credentials, None).0, Step::Authenticated(_)),
            is_let_in,
            "{peer:?}"
        );
    }
}

fn tls_with(common_name: Option<&str>) -> Option<TlsFacts> {
    Some(TlsFacts {
        channel_binding: Some(BINDING.into()),
        certificate: common_name.map(|name| CertificateNames {
            common_name: Some(name.to_owned()),
            dns_names: vec![],
        }),
    })
}

#[test]
fn certificates_must_be_there_and_name_the_user() {
    let outcome = |demand, certificate, tls| {
        let credentials = Credentials {
            certificate,
            ..Credentials::new(demand, None)
        };
        let step = ask(credentials, tls).0;
        if matches!(step, Step::Authenticated(_)) {
            return "in".to_owned();
        }
        refused(step).1
    };
    let (missing, wrong) = (
        "connection requires a valid client certificate",
        "certificate authentication failed for user \"app\"",
    );
    assert_eq!(
        outcome(Demand::Cert, CertificateDemand::None, tls_with(Some("app"))),
        "in"
    );
    assert_eq!(
        outcome(Demand::Cert, CertificateDemand::None, tls_with(Some("root"))),
        wrong
    );
    assert_eq!(
        outcome(Demand::Cert, CertificateDemand::None, tls_with(None)),
        missing
    );
    assert_eq!(outcome(Demand::Cert, CertificateDemand::None, None), missing);
    assert_eq!(
        outcome(Demand::Trust, CertificateDemand::VerifyCa, tls_with(Some("root"))),
        "in"
    );
    assert_eq!(
        outcome(Demand::Trust, CertificateDemand::VerifyCa, tls_with(None)),
        missing
    );
    assert_eq!(
        outcome(
            Demand::Trust,
            CertificateDemand::VerifyFull,
            tls_with(Some("root"))
        ),
        wrong
    );
}

#[test]
fn the_welcome_ends_with_ready() {
    let mut parameters = Parameters::new();
    parameters.set("TimeZone", "UTC");
    let key = CancelKey {
        process_id: 1,
        secret: [2; 4].into(),
    };
    let mut out = Vec::new();
    welcome(&parameters, &key, &mut out);
    assert_eq!(
        out,
        b"S\0\0\0\x11TimeZone\0UTC\0K\0\0\0\x0c\0\0\0\x01\x02\x02\x02\x02Z\0\0\0\x05I"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_a_handshake_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), tag in prop_oneof![Just(b'p'), any::<u8>()]) {
        let mut out = Vec::new();
        let _ = first(TlsOffer::Offered).on_bytes(&bytes, &mut out);
        let mut message = vec![tag];
        message.extend_from_slice(&u32::try_from(bytes.len() + 4).unwrap().to_be_bytes());
        message.extend_from_slice(&bytes);
        for demand in [Demand::Password, Demand::Md5, Demand::Scram] {
            let _ = at_proof(demand).on_bytes(&bytes, &mut out);
            let step = at_proof(demand).on_bytes(&message, &mut out).step;
            prop_assert!(!matches!(step, Step::Authenticated(_)));
        }
    }
}
