//! Logins at servers that behave, and at servers that do not.

use proptest::prelude::*;

use super::*;
use crate::auth::scram::derive;
use crate::auth::scram::server::{Binding, ExpectClientFinal, ExpectClientFirst, Identity, Outcome};
use crate::protocol::authentication::decode_password;
use crate::protocol::startup::{Decoded, Packet, decode};
use crate::protocol::{CancelKey, Report, SqlState};

const BINDING: &[u8] = b"the hash of the server's certificate";
const SERVER_NONCE: &[u8; NONCE_LEN] = b"server nonce 18 by";

fn plan(secret: ServerSecret) -> LoginPlan {
    LoginPlan {
        user: "app".into(),
        database: "data".into(),
        parameters: vec![("application_name".into(), "x".into())],
        replication: Replication::None,
        secret,
        channel_binding: None,
        binding_rule: BindingRule::Prefer,
        version: ProtocolVersion::V3_2,
        nonce: [6; NONCE_LEN],
    }
}

fn plain() -> ServerSecret {
    ServerSecret::Plain(Secret::from("secret"))
}

fn start(plan: LoginPlan) -> Login {
    Login::start(plan, &mut Vec::new())
}

/// A step with what it sent, without the head.
fn ask(login: Login, asked: &Authentication<'_>) -> (LoginStep, Vec<u8>) {
    let (mut message, mut out) = (Vec::new(), Vec::new());
    asked.encode(&mut message);
    let step = login.on_message(tag::AUTHENTICATION, &message[5..], &mut out);
    if !out.is_empty() {
        assert_eq!(out[0], tag::PASSWORD_MESSAGE);
        out.drain(..5);
    }
    (step, out)
}

fn login(step: LoginStep) -> Login {
    let LoginStep::NeedMore(login) = step else {
        panic!("{step:?}")
    };
    login
}

fn failed(step: LoginStep) -> LoginError {
    let LoginStep::Failed(error) = step else {
        panic!("{step:?}")
    };
    *error
}

fn ready(login: Login) -> Login {
    let (step, out) = ask(login, &Authentication::Ok);
    assert!(out.is_empty());
    self::login(step)
}

fn message(login: Login, tag: u8, body: &[u8]) -> LoginStep {
    let mut out = Vec::new();
    let step = login.on_message(tag, body, &mut out);
    assert!(out.is_empty());
    step
}

#[test]
fn the_startup_message_says_whom_and_what() {
    let mut out = Vec::new();
    let replication = Replication::Logical;
    let _login = Login::start(
        LoginPlan {
            replication,
            ..plan(plain())
        },
        &mut out,
    );
    let Ok(Decoded::Packet {
        packet: Packet::Startup(startup),
        ..
    }) = decode(&out)
    else {
        panic!()
    };
    let shown: Vec<_> = startup
        .parameters
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        shown,
        [
            "user=app",
            "database=data",
            "replication=database",
            "application_name=x"
        ]
    );
    assert_eq!(startup.version, ProtocolVersion::V3_2);
}

#[test]
fn a_server_that_trusts_settles() {
    let mut state = message(
        start(plan(ServerSecret::None)),
        tag::NOTICE_RESPONSE,
        b"SNOTICE\0\0",
    );
    state = message(ready(login(state)), tag::PARAMETER_STATUS, b"TimeZone\0UTC\0");
    state = message(login(state), tag::PARAMETER_STATUS, b"odd\0\xff\0");
    state = message(login(state), tag::NOTICE_RESPONSE, b"");
    state = message(
        login(state),
        tag::BACKEND_KEY_DATA,
        &[0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8],
    );
    let LoginStep::Ready(settled) = message(login(state), tag::READY_FOR_QUERY, b"I") else {
        panic!()
    };
    assert_eq!(settled.parameters.value("timezone"), Some("UTC"));
    assert_eq!(settled.parameters.len(), 1);
    let key = CancelKey {
        process_id: 9,
        secret: [1, 2, 3, 4, 5, 6, 7, 8].into(),
    };
    assert_eq!(settled.cancel_key, key);
    assert_eq!(settled.version, ProtocolVersion::V3_2);
}

#[test]
fn passwords_in_the_clear_and_as_md5() {
    let (step, out) = ask(start(plan(plain())), &Authentication::CleartextPassword);
    assert_eq!(decode_password(&out), Some(&b"secret"[..]));
    ready(login(step));
    let secret = Md5Secret::derive(b"secret", "app");
    for given in [plain(), ServerSecret::Md5(secret.clone())] {
        let (step, out) = ask(
            start(plan(given)),
            &Authentication::Md5Password { salt: [4, 3, 2, 1] },
        );
        assert!(secret.accepts([4, 3, 2, 1], decode_password(&out).unwrap()));
        ready(login(step));
    }
}

#[test]
fn a_secret_that_does_not_fit_is_asked_for_by_a_hint() {
    let keys = || ServerSecret::Scram(derive(b"secret", b"salt", 2));
    let md5 = || ServerSecret::Md5(Md5Secret::derive(b"secret", "app"));
    let sasl = Authentication::Sasl(vec![b"SCRAM-SHA-256"]);
    let salted = Authentication::Md5Password { salt: [0; 4] };
    for (given, asked, method) in [
        (ServerSecret::None, &Authentication::CleartextPassword, "password"),
        (md5(), &Authentication::CleartextPassword, "password"),
        (keys(), &Authentication::CleartextPassword, "password"),
        (ServerSecret::None, &salted, "md5"),
        (keys(), &salted, "md5"),
        (ServerSecret::None, &sasl, "scram-sha-256"),
        (md5(), &sasl, "scram-sha-256"),
    ] {
        let error = failed(ask(start(plan(given)), asked).0);
        assert_eq!(error, LoginError::SecretNeeded(method));
        let report = Report::from(&error);
        assert!(report.code == SqlState::CANNOT_ESTABLISH_CONNECTION && report.hint.is_some());
    }
}

#[test]
fn methods_that_are_not_supported() {
    for asked in [
        Authentication::KerberosV5,
        Authentication::Gss,
        Authentication::Sspi,
        Authentication::Other(6),
    ] {
        let error = failed(ask(start(plan(plain())), &asked).0);
        assert!(matches!(error, LoginError::UnsupportedMethod(_)));
    }
}

/// A server's half of SCRAM, up to the client's proof: the step that sent the proof, the server's state, the proof.
fn scram(secret: ServerSecret, binding: Option<&[u8]>) -> (Login, ExpectClientFinal, Vec<u8>) {
    let plan = LoginPlan {
        channel_binding: binding.map(Into::into),
        ..plan(secret)
    };
    let offered = Binding::mechanisms(binding)
        .iter()
        .map(|name| name.as_bytes())
        .collect();
    let (step, out) = ask(start(plan), &Authentication::Sasl(offered));
    let response = SaslInitialResponse::decode(&out).unwrap();
    let identity = Identity::Known(derive(b"secret", b"salt", 2).verifier(b"salt", 2));
    let binding = Binding::for_mechanism(response.mechanism, binding).unwrap();
    let state = ExpectClientFirst::new(identity, binding);
    let (state, server_first) = state
        .on_client_first(response.data.unwrap(), SERVER_NONCE)
        .unwrap();
    match ask(login(step), &Authentication::SaslContinue(&server_first)) {
        (LoginStep::Derive(wait), _) => {
            let keys = wait.work().run();
            let mut out = Vec::new();
            let step = wait.on_keys(keys, &mut out);
            (login(step), state, out.split_off(5))
        }
        (step, proof) => (login(step), state, proof),
    }
}

#[test]
fn scram_by_password_and_by_keys_with_and_without_binding() {
    let keys = derive(b"secret", b"salt", 2);
    for binding in [None, Some(BINDING)] {
        for secret in [plain(), ServerSecret::Scram(keys.clone())] {
            let (state, server, proof) = scram(secret, binding);
            let Ok(Outcome::Accepted { server_final, .. }) = server.on_client_final(&proof) else {
                panic!()
            };
            let (step, _) = ask(state, &Authentication::SaslFinal(&server_final));
            ready(login(step));
        }
    }
    let (_, server, proof) = scram(ServerSecret::Plain(Secret::from("other")), None);
    assert!(matches!(server.on_client_final(&proof), Ok(Outcome::Refused)));
}

#[test]
fn required_channel_binding_takes_no_other_proof() {
    let required = |channel_binding: Option<&[u8]>| LoginPlan {
        channel_binding: channel_binding.map(Into::into),
        binding_rule: BindingRule::Require,
        ..plan(plain())
    };
    let both = || Authentication::Sasl(vec![b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"]);
    let unbound = [
        (Some(BINDING), Authentication::Ok),
        (Some(BINDING), Authentication::CleartextPassword),
        (Some(BINDING), Authentication::Md5Password { salt: [1; 4] }),
        (Some(BINDING), Authentication::Sasl(vec![b"SCRAM-SHA-256"])),
        (None, both()),
    ];
    for (channel_binding, asked) in unbound {
        let (step, sent) = ask(start(required(channel_binding)), &asked);
        assert_eq!((failed(step), sent), (LoginError::Unbound, vec![]), "{asked:?}");
    }
    let (step, sent) = ask(start(required(Some(BINDING))), &both());
    login(step);
    assert!(sent.starts_with(b"SCRAM-SHA-256-PLUS"));
}

#[test]
fn disabled_channel_binding_is_not_used() {
    let plan = LoginPlan {
        channel_binding: Some(BINDING.into()),
        binding_rule: BindingRule::Disable,
        ..plan(plain())
    };
    let offered = Authentication::Sasl(vec![b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"]);
    let (_, sent) = ask(start(plan), &offered);
    let response = SaslInitialResponse::decode(&sent).unwrap();
    assert_eq!(response.mechanism, b"SCRAM-SHA-256");
    assert!(response.data.unwrap().starts_with(b"n,,"));
}

#[test]
fn a_server_must_prove_itself_too() {
    let forged = b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let (state, _, _) = scram(plain(), None);
    let error = failed(ask(state, &Authentication::SaslFinal(forged)).0);
    assert_eq!(error, LoginError::Scram(ScramError::ServerSignature));
    let (state, _, _) = scram(plain(), None);
    assert_eq!(failed(ask(state, &Authentication::Ok).0), LoginError::Unproven);
    let (step, _) = ask(
        start(plan(plain())),
        &Authentication::Sasl(vec![b"SCRAM-SHA-256"]),
    );
    assert_eq!(
        failed(ask(login(step), &Authentication::Ok).0),
        LoginError::Unproven
    );
    // Nor may it change its mind and ask for the password in the clear.
    let (step, _) = ask(
        start(plan(plain())),
        &Authentication::Sasl(vec![b"SCRAM-SHA-256"]),
    );
    let error = failed(ask(login(step), &Authentication::CleartextPassword).0);
    assert_eq!(error, LoginError::Unexpected(tag::AUTHENTICATION));
}

#[test]
fn no_mechanism_in_common() {
    let (step, _) = ask(start(plan(plain())), &Authentication::Sasl(vec![b"OAUTHBEARER"]));
    assert_eq!(failed(step), LoginError::Scram(ScramError::NoMechanism));
}

#[test]
fn the_servers_own_error_is_kept() {
    let body =
        b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"app\"\0Dwhy\0Hwhat to do\0\0";
    let error = failed(message(start(plan(plain())), tag::ERROR_RESPONSE, body));
    let report = Report::from(&error);
    assert_eq!(
        (report.code, report.severity),
        (SqlState::INVALID_PASSWORD, crate::protocol::Severity::Error)
    );
    assert_eq!(
        (report.detail.as_deref(), report.hint.as_deref()),
        (Some("why"), Some("what to do"))
    );
    let LoginError::Server(server) = error else {
        panic!()
    };
    assert_eq!((&*server.body, server.severity.as_str()), (&body[..], "FATAL"));
    let late = failed(message(
        ready(start(plan(plain()))),
        tag::ERROR_RESPONSE,
        b"SFATAL\0C3D000\0Mno\0\0",
    ));
    assert_eq!(late.to_string(), "FATAL: no (3D000)");
}

#[test]
fn versions_are_negotiated_downwards_only() {
    let negotiate = |asked, body: &[u8]| {
        let plan = LoginPlan {
            version: asked,
            ..plan(plain())
        };
        message(start(plan), tag::NEGOTIATE_PROTOCOL_VERSION, body)
    };
    let state = ready(login(negotiate(ProtocolVersion::V3_2, b"\0\x03\0\0\0\0\0\0")));
    let state = login(message(state, tag::BACKEND_KEY_DATA, &[0; 8]));
    let LoginStep::Ready(settled) = message(state, tag::READY_FOR_QUERY, b"I") else {
        panic!()
    };
    assert_eq!(settled.version, ProtocolVersion::V3_0);
    for (asked, body) in [
        (ProtocolVersion::V3_0, &b"\0\x03\0\x02\0\0\0\0"[..]),
        (ProtocolVersion::V3_2, b"\0\x03\0\x01\0\0\0\0"),
        (ProtocolVersion::V3_2, b"\0\x02\0\0\0\0\0\0"),
        (ProtocolVersion::V3_2, b"\0\x03\0\0\0\0\0\x01_pq_.x\0"),
    ] {
        assert!(matches!(failed(negotiate(asked, body)), LoginError::Version(_)));
    }
    let error = failed(negotiate(ProtocolVersion::V3_2, b"\0"));
    assert_eq!(error, LoginError::Malformed(tag::NEGOTIATE_PROTOCOL_VERSION));
}

#[test]
fn messages_out_of_turn_or_out_of_shape() {
    let early = failed(message(start(plan(plain())), tag::READY_FOR_QUERY, b"I"));
    assert_eq!(early, LoginError::Unexpected(tag::READY_FOR_QUERY));
    let at_ready = || ready(start(plan(plain())));
    assert_eq!(
        failed(message(at_ready(), tag::DATA_ROW, b"")),
        LoginError::Unexpected(tag::DATA_ROW)
    );
    assert_eq!(
        failed(message(at_ready(), tag::READY_FOR_QUERY, b"I")),
        LoginError::NoCancelKey
    );
    for body in [&b"T"[..], b"", b"II", b"x"] {
        let error = failed(message(at_ready(), tag::READY_FOR_QUERY, body));
        assert_eq!(error, LoginError::Malformed(tag::READY_FOR_QUERY));
    }
    for length in [0, 7, 261] {
        let error = failed(message(at_ready(), tag::BACKEND_KEY_DATA, &vec![0; length]));
        assert_eq!(error, LoginError::Malformed(tag::BACKEND_KEY_DATA));
    }
    let error = failed(message(start(plan(plain())), tag::AUTHENTICATION, b"\0"));
    assert_eq!(error, LoginError::Malformed(tag::AUTHENTICATION));
}

#[test]
fn parameters_are_limited_in_number_and_size() {
    let mut state = ready(start(plan(plain())));
    for index in 0..PARAMETERS_MAX {
        state = login(message(
            state,
            tag::PARAMETER_STATUS,
            format!("p{index}\0\0").as_bytes(),
        ));
    }
    assert_eq!(
        failed(message(state, tag::PARAMETER_STATUS, b"x\0\0")),
        LoginError::TooManyParameters
    );
    let large = [b"x\0", vec![b'y'; PARAMETERS_BYTES_MAX].as_slice(), b"\0"].concat();
    let error = failed(message(
        ready(start(plan(plain()))),
        tag::PARAMETER_STATUS,
        &large,
    ));
    assert_eq!(error, LoginError::TooManyParameters);
}

#[test]
fn nothing_secret_is_shown() {
    let shown = format!("{:?} {:?}", plan(plain()), start(plan(plain())));
    assert!(
        !shown.contains("\"secret\"") && !shown.contains("115, 101, 99"),
        "{shown}"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_a_login_panic(tag in prop_oneof![Just(b'R'), Just(b'S'), Just(b'K'), Just(b'Z'), Just(b'E'), Just(b'v'), any::<u8>()],
        kind in 0_u8..14, bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut out = Vec::new();
        let _ = start(plan(plain())).on_message(tag, &bytes, &mut out);
        let _ = ready(start(plan(plain()))).on_message(tag, &bytes, &mut out);
        let asked = [&[0, 0, 0, kind], bytes.as_slice()].concat();
        let _ = start(plan(plain())).on_message(tag::AUTHENTICATION, &asked, &mut out);
        let (state, _, _) = scram(ServerSecret::Scram(derive(b"secret", b"salt", 1)), None);
        let step = state.on_message(tag::AUTHENTICATION, &asked, &mut out);
        prop_assert!(matches!(step, LoginStep::Failed(_)));
    }
}
