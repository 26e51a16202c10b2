//! Both halves against each other, against the RFC, against what PostgreSQL stores, and against forgers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::client::{ExpectServerFinal, ExpectServerFirst, Initial, Means, Proof, ServerFirst};
use super::server::{Binding, ExpectClientFinal, ExpectClientFirst, Identity, Outcome};
use super::*;
use crate::auth::mock::Mock;
use crate::auth::secret::Secret;
use crate::protocol::{Report, SqlState};

const CLIENT_NONCE: &[u8; NONCE_LEN] = b"client nonce 18 by";
const SERVER_NONCE: &[u8; NONCE_LEN] = b"server nonce 18 by";
const BINDING: &[u8] = b"\x01\x02 the hash of a certificate";

/// `CREATE ROLE … PASSWORD …` on PostgreSQL 15: password, `rolpassword`.
const STORED: [(&str, &str); 5] = [
    (
        "secret",
        "SCRAM-SHA-256$4096:OnHWr5pO3h7lD4xc0vQgqg==$t7w+MTIAc8rHTlzbNvliEox2pV0zf4zUtjX42BtgP/c=:SQdQ503EzokAG+ovQnwfPP2wE5oy2vHlvik1FzEgWcw=",
    ),
    (
        "I\u{ad}X\u{aa}\u{2168} ä",
        "SCRAM-SHA-256$4096:4MAzig8VwMjrZXrg4IW+NQ==$xcaWxFZGLalCS1O27aOP7mKigYYM1XQemCZ+Todnqqo=:R/0JZ4gxC7oB5A3sE6XgISFtjPx+a1VVHvXFmXmNxME=",
    ),
    (
        "\u{627}1",
        "SCRAM-SHA-256$4096:PcmmMdAK2Kj1RC2QMB7+mQ==$R2KlP8k2esCNkYZ8sf0VJQeBxU9joUk7mn3zMCtVAHE=:altNpQo+qASCBVmda/Q5yhaYXC1R0M+5TzoH+5LMgq0=",
    ),
    (
        "\u{340}x",
        "SCRAM-SHA-256$4096:thLIstAtKkNUwODGGo9L6A==$JO0e48XywGjrkDrqK32gdaQKqS/OtuaHDv8I0Vv9dYM=:7BK2Ov8Sk6Qvk+Xaczror/kqZRgDZrEDVNpb/b9iUnE=",
    ),
    (
        "\u{a8} a\u{a0}b",
        "SCRAM-SHA-256$4096:w5aF8Gl3zBq9hUoi3pk4kA==$t+U6cdVGhaEf2Ey1musxDuOT2e3Ox4ddAvil3ie1Tos=:jcIpMBzt1JhQ0UXqrXXkolzloq2U5Qs0iQTpPwkXlZQ=",
    ),
];

fn keys() -> ScramKeys {
    derive(b"pencil", b"salt", 2)
}

fn known() -> Identity {
    Identity::Known(keys().verifier(b"salt", 2))
}

fn means() -> Means {
    Means::Password(Secret::from("pencil"))
}

fn prove(first: ServerFirst) -> Proof {
    match first {
        ServerFirst::Derive(wait) => {
            let keys = wait.work().run();
            wait.on_keys(keys)
        }
        ServerFirst::Prove(proof) => proof,
    }
}

struct Exchange {
    server: ExpectClientFinal,
    proof: Vec<u8>,
    client: ExpectServerFinal,
}

/// Runs up to the client's proof, which has not been judged yet.
fn exchange(identity: Identity, means: Means, server: Option<&[u8]>, client: Option<&[u8]>) -> Exchange {
    let offered = Binding::mechanisms(server).iter().map(|name| name.as_bytes());
    let (state, initial) = ExpectServerFirst::start(means, offered, client, CLIENT_NONCE).unwrap();
    let binding = Binding::for_mechanism(initial.mechanism.as_bytes(), server).unwrap();
    let (server, first) = ExpectClientFirst::new(identity, binding)
        .on_client_first(&initial.message, SERVER_NONCE)
        .unwrap();
    let proof = prove(state.on_server_first(&first).unwrap());
    Exchange {
        server,
        proof: proof.message,
        client: proof.next,
    }
}

fn client_first(binding: Binding, message: &[u8]) -> Result<ExpectClientFinal, ScramError> {
    let state = ExpectClientFirst::new(known(), binding);
    state.on_client_first(message, SERVER_NONCE).map(|(next, _)| next)
}

#[test]
fn rfc_7677_example() {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let keys = derive(b"pencil", &salt, 4096);
    // The nonces of the example are not ours to choose, so the transcript is signed by hand.
    let auth = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let mut proof = keys::hmac(&keys.stored_key(), &[auth.as_bytes()]);
    proof
        .iter_mut()
        .zip(keys.client_key)
        .for_each(|(byte, key)| *byte ^= key);
    assert_eq!(
        STANDARD.encode(proof),
        "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    let signature = keys::hmac(&keys.server_key, &[auth.as_bytes()]);
    assert_eq!(
        STANDARD.encode(signature),
        "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    );
}

#[test]
fn verifiers_made_by_postgresql() {
    for (password, stored) in STORED {
        let verifier = ScramVerifier::parse(stored).unwrap();
        let keys = derive(password.as_bytes(), &verifier.salt, verifier.iterations);
        assert_eq!(
            keys.verifier(&verifier.salt, verifier.iterations),
            verifier,
            "{password:?}"
        );
        assert_eq!(verifier.to_stored(), Secret::from(stored));
        assert!(verifier.accepts_password(password.as_bytes()));
        assert!(!verifier.accepts_password(b"other"));
    }
}

#[test]
fn a_verifier_that_is_not_one() {
    let (_, good) = STORED[0];
    assert!(ScramVerifier::parse(&good.replace("OnHWr5pO3h7lD4xc0vQgqg==", "")).is_some());
    for (from, to) in [
        ("SCRAM-SHA-256", "SCRAM-SHA-1"),
        ("$4096", "$0"),
        ("$4096", "$+4096"),
        ("$4096", "$4294967297"),
        ("$4096", "$10000001"),
        ("qg==", "qg="),
        ("P/c=", "P/"),
        ("P/c=:", "P/c="),
        ("Wcw=", "Wcw=x"),
    ] {
        assert_eq!(ScramVerifier::parse(&good.replace(from, to)), None, "{to}");
    }
}

#[test]
fn both_halves_agree_with_and_without_binding() {
    for binding in [None, Some(BINDING)] {
        let run = exchange(known(), means(), binding, binding);
        let Outcome::Accepted {
            keys: found,
            server_final,
        } = run.server.on_client_final(&run.proof).unwrap()
        else {
            panic!("refused");
        };
        assert_eq!(found, keys());
        assert_eq!(run.client.on_server_final(&server_final).unwrap(), keys());
    }
}

#[test]
fn keys_of_a_login_log_in_again() {
    let run = exchange(known(), Means::Keys(keys()), Some(BINDING), Some(BINDING));
    assert!(matches!(
        run.server.on_client_final(&run.proof),
        Ok(Outcome::Accepted { .. })
    ));
}

#[test]
fn a_client_without_binding_data_declines_plus() {
    let run = exchange(known(), means(), Some(BINDING), None);
    assert!(matches!(
        run.server.on_client_final(&run.proof),
        Ok(Outcome::Accepted { .. })
    ));
}

#[test]
fn wrong_password_and_unknown_user_end_alike() {
    let run = exchange(known(), Means::Password(Secret::from("pen")), None, None);
    assert!(matches!(
        run.server.on_client_final(&run.proof),
        Ok(Outcome::Refused)
    ));
    let mock = Mock::new([3; 32]).scram("nobody");
    let run = exchange(Identity::Unknown(mock), means(), None, None);
    assert!(matches!(
        run.server.on_client_final(&run.proof),
        Ok(Outcome::Refused)
    ));
    // Even the right proof does not let an unknown user in.
    let run = exchange(
        Identity::Unknown(keys().verifier(b"salt", 2)),
        means(),
        None,
        None,
    );
    assert!(matches!(
        run.server.on_client_final(&run.proof),
        Ok(Outcome::Refused)
    ));
}

#[test]
fn another_tls_session_is_noticed() {
    let run = exchange(known(), means(), Some(BINDING), Some(b"another certificate"));
    assert_eq!(
        run.server.on_client_final(&run.proof).unwrap_err(),
        ScramError::BindingMismatch
    );
}

#[test]
fn a_stripped_mechanism_list_is_noticed() {
    // Somebody in between shows the client only SCRAM-SHA-256, while we offered both.
    let offered = [SCRAM_SHA_256.as_bytes()].into_iter();
    let (_, initial) = ExpectServerFirst::start(means(), offered, Some(BINDING), CLIENT_NONCE).unwrap();
    let binding = Binding::for_mechanism(initial.mechanism.as_bytes(), Some(BINDING)).unwrap();
    let error = client_first(binding, &initial.message).unwrap_err();
    assert_eq!(error, ScramError::Downgrade);
    assert_eq!(Report::from(&error).code, SqlState::INVALID_AUTHORIZATION);
}

#[test]
fn mechanisms_must_have_been_offered() {
    assert_eq!(Binding::for_mechanism(b"SCRAM-SHA-256-PLUS", None), None);
    assert_eq!(Binding::for_mechanism(b"SCRAM-SHA-1", Some(BINDING)), None);
    assert_eq!(Binding::for_mechanism(b"", None), None);
    let plus_only = [SCRAM_SHA_256_PLUS.as_bytes()].into_iter();
    let error = ExpectServerFirst::start(means(), plus_only, None, CLIENT_NONCE).unwrap_err();
    assert_eq!(error, ScramError::NoMechanism);
}

fn refused_as_malformed(binding: &Binding, message: &[u8]) -> String {
    let error = client_first(binding.clone(), message).unwrap_err();
    assert_eq!(Report::from(&error).code, SqlState::PROTOCOL_VIOLATION);
    let ScramError::Malformed(detail) = error else {
        panic!("{error:?}");
    };
    detail
}

#[test]
fn first_messages_that_break_the_grammar() {
    let cases: [(&[u8], &str); 14] = [
        (b"", "The message is empty."),
        (b"n,,n=,r=x\0", "Message length does not match input length."),
        (b"x,,n=,r=x", "Unexpected channel-binding flag \"x\"."),
        (b"n", "Comma expected, but found character \"end of string\"."),
        (b"n;,n=,r=x", "Comma expected, but found character \";\"."),
        (
            b"n,",
            "Unexpected attribute \"end of string\" in client-first-message.",
        ),
        (
            b"n,b,n=,r=x",
            "Unexpected attribute \"b\" in client-first-message.",
        ),
        (b"n,,", "Expected attribute \"n\" but found \"end of string\"."),
        (b"n,,r=x", "Expected attribute \"n\" but found \"r\"."),
        (b"n,,n=u", "Expected attribute \"r\" but found \"end of string\"."),
        (b"n,,n", "Expected character \"=\" for attribute \"n\"."),
        (
            b"n,,n=,r=x,1=y",
            "Attribute expected, but found invalid character \"1\".",
        ),
        (
            b"n,,n=,r=x,\xff=y",
            "Attribute expected, but found invalid character \"0xff\".",
        ),
        (b"n,,n=,r=x,e", "Expected character \"=\" for attribute \"e\"."),
    ];
    for (message, detail) in cases {
        assert_eq!(refused_as_malformed(&Binding::Unavailable, message), detail);
    }
}

#[test]
fn flags_that_contradict_the_mechanism() {
    let with = "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.";
    for binding in [Binding::Unavailable, Binding::Declined] {
        assert_eq!(
            refused_as_malformed(&binding, b"p=tls-server-end-point,,n=,r=x"),
            with
        );
    }
    let bound = Binding::Bound(BINDING.into());
    let without = "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.";
    assert_eq!(refused_as_malformed(&bound, b"n,,n=,r=x"), without);
    assert_eq!(refused_as_malformed(&bound, b"y,,n=,r=x"), without);
    let bare = "Expected character \"=\" for attribute \"p\".";
    assert_eq!(refused_as_malformed(&bound, b"p,,n=,r=x"), bare);
}

#[test]
fn first_messages_that_ask_for_too_much() {
    let refuse = |message: &[u8]| client_first(Binding::Unavailable, message).unwrap_err();
    assert!(matches!(refuse(b"n,a=admin,n=,r=x"), ScramError::Unsupported(_)));
    assert!(matches!(refuse(b"n,,m=x,n=,r=x"), ScramError::Unsupported(_)));
    assert_eq!(refuse(b"n,,n=,r=a b"), ScramError::NonceNotPrintable);
    assert_eq!(refuse(&[b'n'; SCRAM_MESSAGE_LEN_MAX + 1]), ScramError::TooLong);
    let unique = client_first(Binding::Bound(BINDING.into()), b"p=tls-unique,,n=,r=x").unwrap_err();
    assert_eq!(unique, ScramError::UnsupportedBindingType("tls-unique".into()));
    assert!(client_first(Binding::Unavailable, b"y,,n=who=2Cever,r=x,z=ignored").is_ok());
}

/// Changes the last message of a good exchange.
fn tampered(change: impl Fn(&str) -> String) -> Result<Outcome, ScramError> {
    let run = exchange(known(), means(), None, None);
    let text = String::from_utf8(run.proof).unwrap();
    run.server.on_client_final(change(&text).as_bytes())
}

#[test]
fn tampered_final_messages() {
    assert!(matches!(tampered(str::to_owned), Ok(Outcome::Accepted { .. })));
    assert_eq!(
        tampered(|m| m.replace("c=biws", "c=eSws")).unwrap_err(),
        ScramError::UnexpectedBinding
    );
    assert_eq!(
        tampered(|m| m.replace("c=biws", "c=")).unwrap_err(),
        ScramError::UnexpectedBinding
    );
    assert_eq!(
        tampered(|m| m.replacen("r=", "r=x", 1)).unwrap_err(),
        ScramError::NonceMismatch
    );
    assert_eq!(
        tampered(|m| m.replace(",p=", "x,p=")).unwrap_err(),
        ScramError::NonceMismatch
    );
    let malformed = |change: fn(&str) -> String, detail: &str| {
        assert_eq!(
            tampered(change).unwrap_err(),
            ScramError::Malformed(detail.to_owned())
        );
    };
    malformed(
        |m| format!("{m},x=y"),
        "Garbage found at the end of client-final-message.",
    );
    malformed(
        |m| m.replace(",p=", ",p=AAAA"),
        "Malformed proof in client-final-message.",
    );
    malformed(
        |m| m[..m.find(",p=").unwrap()].to_owned(),
        "Attribute expected, but found end of string.",
    );
    malformed(
        |m| m.replace("c=", "d="),
        "Expected attribute \"c\" but found \"d\".",
    );
    // An extension is allowed, but it is signed too.
    assert!(matches!(
        tampered(|m| m.replace(",p=", ",x=y,p=")),
        Ok(Outcome::Refused)
    ));
    let other = STANDARD.encode([0; KEY_LEN]);
    let forged = move |m: &str| format!("{},p={other}", &m[..m.find(",p=").unwrap()]);
    assert!(matches!(tampered(forged), Ok(Outcome::Refused)));
}

#[test]
fn servers_that_do_not_know_the_password() {
    let final_of = |message: &[u8]| {
        exchange(known(), means(), None, None)
            .client
            .on_server_final(message)
    };
    let forged = format!("v={}", STANDARD.encode([0; KEY_LEN]));
    assert_eq!(
        final_of(forged.as_bytes()).unwrap_err(),
        ScramError::ServerSignature
    );
    assert_eq!(final_of(b"v=").unwrap_err(), ScramError::ServerSignature);
    assert_eq!(
        final_of(b"e=other-error").unwrap_err(),
        ScramError::ServerError("other-error".into())
    );
    assert!(matches!(final_of(b"x=y").unwrap_err(), ScramError::Malformed(_)));
    assert!(matches!(
        final_of(b"v=AAAA,x=y").unwrap_err(),
        ScramError::Malformed(_)
    ));
    assert!(matches!(final_of(b"").unwrap_err(), ScramError::Malformed(_)));
}

#[test]
fn server_first_messages_that_are_not_sound() {
    let answer = |message: &str| {
        let offered = [SCRAM_SHA_256.as_bytes()].into_iter();
        let (state, Initial { message: first, .. }) =
            ExpectServerFirst::start(means(), offered, None, CLIENT_NONCE).unwrap();
        let nonce = String::from_utf8(first[b"n,,n=,r=".len()..].to_vec()).unwrap();
        state.on_server_first(message.replace("NONCE", &nonce).as_bytes())
    };
    assert!(answer("r=NONCEx,s=c2FsdA==,i=4096").is_ok());
    assert_eq!(
        answer("r=NONCE,s=c2FsdA==,i=4096").unwrap_err(),
        ScramError::NonceMismatch
    );
    assert_eq!(
        answer("r=other,s=c2FsdA==,i=4096").unwrap_err(),
        ScramError::NonceMismatch
    );
    assert_eq!(
        answer("r=NONCE\u{7f},s=c2FsdA==,i=4096").unwrap_err(),
        ScramError::NonceNotPrintable
    );
    for iterations in ["0", "-1", "+1", "", "1x", "10000001", "99999999999999999999"] {
        let message = format!("r=NONCEx,s=c2FsdA==,i={iterations}");
        assert_eq!(
            answer(&message).unwrap_err(),
            ScramError::Iterations,
            "{iterations}"
        );
    }
    for message in [
        "",
        "m=x,r=NONCEx,s=c2FsdA==,i=1",
        "r=NONCEx,s=?,i=1",
        "r=NONCEx,i=1",
        "r=NONCEx,s=c2FsdA==,i=1,x=y",
    ] {
        assert!(
            matches!(answer(message).unwrap_err(), ScramError::Malformed(_)),
            "{message}"
        );
    }
}

#[test]
fn nothing_secret_is_shown() {
    let run = exchange(known(), Means::Keys(keys()), None, None);
    let shown = format!("{:?} {:?} {:?}", known(), Means::Keys(keys()), means());
    assert!(!shown.contains("pencil") && !shown.contains(&format!("{:?}", keys().server_key)));
    let shown = format!("{:?} {:?}", run.server, run.client);
    assert!(!shown.contains(&format!("{:?}", keys().server_key)), "{shown}");
    assert!(!shown.contains(&format!("{:?}", keys().stored_key())), "{shown}");
}

proptest! {
    #[test]
    fn no_bytes_make_either_half_panic(message in proptest::collection::vec(any::<u8>(), 0..80), bound: bool) {
        let binding = if bound { Binding::Bound(BINDING.into()) } else { Binding::Declined };
        let _ = client_first(binding, &message);
        let run = exchange(known(), Means::Keys(keys()), None, None);
        let accepted = matches!(run.server.on_client_final(&message), Ok(Outcome::Accepted { .. }));
        prop_assert!(!accepted);
        prop_assert!(run.client.on_server_final(&message).is_err());
    }

    #[test]
    fn no_text_of_the_right_look_makes_either_half_panic(message in "[nyp]?(=[a-z]{0,3})?,{0,2}([a-z]=[A-Za-z0-9+/=]{0,9},?){0,5}") {
        let _ = client_first(Binding::Unavailable, message.as_bytes());
        let _ = ScramVerifier::parse(&message);
        let run = exchange(known(), Means::Keys(keys()), None, None);
        let accepted = matches!(run.server.on_client_final(message.as_bytes()), Ok(Outcome::Accepted { .. }));
        prop_assert!(!accepted);
    }
}
