//! Clear passwords, md5 and SCRAM, and what comes instead of them.

use super::*;

fn by_password(verifier: Option<Verifier>, password: &[u8]) -> Step {
    let (step, out) = ask(Credentials::new(Demand::Password, verifier), None);
    assert_eq!(out, sent(&Authentication::CleartextPassword));
    let mut out = Vec::new();
    let Step::CheckPassword(wait) = feed(reading(step), &password_message(password), &mut out) else {
        panic!()
    };
    let verdict = wait.check().run();
    wait.on_verdict(verdict, &mut out)
}

#[test]
fn clear_passwords_against_every_verifier() {
    for verifier in [plain(), scram(), md5()] {
        let login = authenticated(by_password(verifier.clone(), b"secret"));
        assert_eq!(login.evidence, Evidence::Password(Secret::from("secret")));
        assert_eq!(
            refused(by_password(verifier, b"other")),
            (SqlState::INVALID_PASSWORD, WRONG.to_owned())
        );
    }
    assert_eq!(
        refused(by_password(None, b"secret")),
        (SqlState::INVALID_PASSWORD, WRONG.to_owned())
    );
}

#[test]
fn md5_against_every_verifier() {
    let login = |verifier, password: &[u8]| {
        let (step, out) = ask(Credentials::new(Demand::Md5, verifier), None);
        assert_eq!(out, sent(&Authentication::Md5Password { salt: [1, 2, 3, 4] }));
        let response = Md5Secret::derive(password, "app").response([1, 2, 3, 4]);
        feed(reading(step), &password_message(&response), &mut Vec::new())
    };
    for verifier in [plain(), md5()] {
        assert_eq!(
            authenticated(login(verifier.clone(), b"secret")).evidence,
            Evidence::None
        );
        assert_eq!(
            refused(login(verifier, b"other")),
            (SqlState::INVALID_PASSWORD, WRONG.to_owned())
        );
    }
    // Where a SCRAM verifier is stored, SCRAM is asked for; an unknown user is asked for what the others have.
    let scram_offer = sent(&Authentication::Sasl(vec![b"SCRAM-SHA-256"]));
    assert_eq!(ask(Credentials::new(Demand::Md5, scram()), None).1, scram_offer);
    assert_eq!(ask(Credentials::new(Demand::Md5, None), None).1, scram_offer);
    let (mock, mut out) = (mock().with_stand_in(StandIn::Md5), Vec::new());
    let step = resolve(&[("user", "app")], None).on_credentials(
        Credentials::new(Demand::Md5, None),
        &mock,
        RANDOMNESS,
        &mut out,
    );
    assert_eq!(out, sent(&Authentication::Md5Password { salt: [1, 2, 3, 4] }));
    let right = mock.md5("app").response([1, 2, 3, 4]);
    let step = feed(reading(step), &password_message(&right), &mut out);
    assert_eq!(refused(step), (SqlState::INVALID_PASSWORD, WRONG.to_owned()));
}

/// The step after a derivation, where one is due.
fn derived(step: Step, out: &mut Vec<u8>) -> Step {
    if let Step::Derive(wait) = step {
        let keys = wait.work().run();
        return wait.on_keys(&keys, out);
    }
    step
}

/// A whole SCRAM login; also what the client thinks of the server's last words.
fn by_scram(
    verifier: Option<Verifier>,
    means: Means,
    tls: Option<TlsFacts>,
    ask_first: bool,
) -> (Step, Option<ScramKeys>) {
    let binding = tls.as_ref().and_then(|facts| facts.channel_binding.clone());
    let (step, mut out) = ask(Credentials::new(Demand::Scram, verifier), tls);
    let step = derived(step, &mut out);
    prove(step, &out, means, binding.as_deref(), ask_first)
}

/// From the offer of mechanisms, which was the last thing said, to the end.
fn prove(
    step: Step,
    offer: &[u8],
    means: Means,
    binding: Option<&[u8]>,
    ask_first: bool,
) -> (Step, Option<ScramKeys>) {
    let Some(Authentication::Sasl(offered)) = Authentication::decode(&offer[5..]) else {
        panic!()
    };
    let (state, initial) = ExpectServerFirst::start(means, offered.into_iter(), binding, &[6; 18]).unwrap();
    let response = SaslInitialResponse {
        mechanism: initial.mechanism.as_bytes(),
        data: (!ask_first).then_some(&initial.message),
    };
    let (mut bytes, mut out) = (Vec::new(), Vec::new());
    response.encode(&mut bytes);
    let mut step = feed(reading(step), &bytes, &mut out);
    if ask_first {
        assert_eq!(out, sent(&Authentication::SaslContinue(b"")));
        bytes.clear();
        out.clear();
        encode_sasl_response(&mut bytes, &initial.message);
        step = feed(reading(step), &bytes, &mut out);
    }
    let Some(Authentication::SaslContinue(server_first)) = Authentication::decode(&out[5..]) else {
        panic!()
    };
    let client::Proof { message, next } = match state.on_server_first(server_first).unwrap() {
        ServerFirst::Derive(wait) => {
            let keys = wait.work().run();
            wait.on_keys(keys)
        }
        ServerFirst::Prove(proof) => proof,
    };
    let (mut bytes, mut out) = (Vec::new(), Vec::new());
    encode_sasl_response(&mut bytes, &message);
    let step = feed(reading(step), &bytes, &mut out);
    let end = out.len().saturating_sub(sent(&Authentication::Ok).len());
    let last = out.get(5..end).and_then(Authentication::decode);
    let Some(Authentication::SaslFinal(server_final)) = last else {
        return (step, None);
    };
    (step, next.on_server_final(server_final).ok())
}

#[test]
fn scram_in_all_its_ways() {
    let means = || Means::Password(Secret::from("secret"));
    for tls in [None, tls_with(None)] {
        for verifier in [plain(), scram()] {
            for ask_first in [false, true] {
                let (step, keys) = by_scram(verifier.clone(), means(), tls.clone(), ask_first);
                assert_eq!(authenticated(step).evidence, Evidence::Scram(keys.unwrap()));
                let (step, _) = by_scram(
                    verifier.clone(),
                    Means::Password(Secret::from("x")),
                    tls.clone(),
                    ask_first,
                );
                assert_eq!(refused(step), (SqlState::INVALID_PASSWORD, WRONG.to_owned()));
            }
        }
        for nobody in [None, md5()] {
            let (step, _) = by_scram(nobody, means(), tls.clone(), false);
            assert_eq!(refused(step), (SqlState::INVALID_PASSWORD, WRONG.to_owned()));
        }
    }
    let keys = derive(b"secret", b"salt", 2);
    let (step, _) = by_scram(scram(), Means::Keys(keys.clone()), None, false);
    assert_eq!(authenticated(step).evidence, Evidence::Scram(keys));
}

#[test]
fn a_user_stored_in_the_clear_looks_like_an_unknown_one() {
    let server_first = |verifier: Option<Verifier>| {
        let (step, mut out) = ask(Credentials::new(Demand::Scram, verifier), None);
        let step = derived(step, &mut out);
        let response = SaslInitialResponse {
            mechanism: b"SCRAM-SHA-256",
            data: Some(b"n,,n=,r=abc"),
        };
        let mut bytes = Vec::new();
        response.encode(&mut bytes);
        feed(reading(step), &bytes, &mut out);
        out
    };
    assert_eq!(server_first(plain()), server_first(None));
}

#[test]
fn where_passwords_are_stored_in_the_clear_an_unknown_user_costs_the_same_derivation() {
    let mock = mock().with_stand_in(StandIn::Plain);
    let work = |verifier: Option<Verifier>| {
        let step = resolve(&[("user", "app")], None).on_credentials(
            Credentials::new(Demand::Scram, verifier),
            &mock,
            RANDOMNESS,
            &mut Vec::new(),
        );
        let Step::Derive(state) = step else {
            panic!("{step:?}")
        };
        (state.work().salt.clone(), state.work().iterations)
    };
    assert_eq!(work(plain()), work(None));
    assert_eq!(work(plain()), work(md5()));
    // And it stays unknown, whatever it proves.
    let keys = mock.work("app").unwrap().run();
    let step = resolve(&[("user", "app")], None).on_credentials(
        Credentials::new(Demand::Scram, None),
        &mock,
        RANDOMNESS,
        &mut Vec::new(),
    );
    let Step::Derive(state) = step else {
        panic!("{step:?}")
    };
    let mut out = Vec::new();
    let step = state.on_keys(&keys, &mut out);
    let (step, _) = prove(step, &out, Means::Keys(keys), None, false);
    assert_eq!(refused(step), (SqlState::INVALID_PASSWORD, WRONG.to_owned()));
}

#[test]
fn other_messages_than_the_proof() {
    let text = "expected password response, got message type 81".to_owned();
    let step = at_proof(Demand::Password).on_bytes(b"Q", &mut Vec::new()).step;
    assert_eq!(refused(step), (SqlState::PROTOCOL_VIOLATION, text));
    let text = "expected SASL response, got message type 88".to_owned();
    let step = at_proof(Demand::Scram)
        .on_bytes(b"X\0\0\0\x04", &mut Vec::new())
        .step;
    assert_eq!(refused(step), (SqlState::PROTOCOL_VIOLATION, text));
}

#[test]
fn proofs_that_are_malformed_or_too_long() {
    let refuse = |demand, bytes: &[u8]| refused(at_proof(demand).on_bytes(bytes, &mut Vec::new()).step);
    assert_eq!(
        refuse(Demand::Password, b"p\0\0\0\x03"),
        (SqlState::PROTOCOL_VIOLATION, "invalid message length".into())
    );
    assert_eq!(
        refuse(Demand::Password, b"p\xff\xff\xff\xff").0,
        SqlState::PROTOCOL_VIOLATION
    );
    let too_long = (
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        "password is too long".to_owned(),
    );
    assert_eq!(refuse(Demand::Password, b"p\0\x01\0\x04"), too_long);
    let too_long = (
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        "SASL response is too long".to_owned(),
    );
    assert_eq!(refuse(Demand::Scram, b"p\0\0\x04\x05"), too_long);
    let empty = (
        SqlState::INVALID_PASSWORD,
        "empty password returned by client".to_owned(),
    );
    assert_eq!(refuse(Demand::Password, b"p\0\0\0\x05\0"), empty);
    let size = (
        SqlState::PROTOCOL_VIOLATION,
        "invalid password packet size".to_owned(),
    );
    assert_eq!(refuse(Demand::Password, b"p\0\0\0\x07a\0b"), size);
    assert_eq!(
        refuse(Demand::Scram, b"p\0\0\0\x05a"),
        (SqlState::PROTOCOL_VIOLATION, "invalid message format".into())
    );
    let mechanism = "client selected an invalid SASL authentication mechanism".to_owned();
    for name in [&b"SCRAM-SHA-256-PLUS"[..], b"PLAIN", b""] {
        let mut bytes = Vec::new();
        SaslInitialResponse {
            mechanism: name,
            data: Some(b"x"),
        }
        .encode(&mut bytes);
        assert_eq!(
            refuse(Demand::Scram, &bytes),
            (SqlState::PROTOCOL_VIOLATION, mechanism.clone())
        );
    }
    // The longest that is accepted.
    let longest = password_message(&vec![b'x'; PASSWORD_LEN_MAX - 1]);
    let step = at_proof(Demand::Password)
        .on_bytes(&longest, &mut Vec::new())
        .step;
    assert!(matches!(step, Step::CheckPassword(_)));
}

#[test]
fn nothing_secret_is_shown() {
    let (step, _) = ask(Credentials::new(Demand::Password, plain()), None);
    let step = feed(reading(step), &password_message(b"hunter2"), &mut Vec::new());
    let shown = format!("{step:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("secret"), "{shown}");
}
