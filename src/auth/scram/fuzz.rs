//! Any bytes to both halves, and any password between them.

use super::client::{ExpectServerFirst, Means, ServerFirst};
use super::server::{Binding, ExpectClientFirst, Identity, Outcome};
use super::{NONCE_LEN, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramKeys, ScramVerifier, derive};
use crate::auth::secret::Secret;

/// Any bytes as the messages of a client, as those of a server, as a password and as what is stored of one.
pub fn fuzz_scram(data: &[u8]) {
    fuzz_scram_server(data);
    fuzz_scram_client(data);
    fuzz_scram_password(data);
    if let Ok(text) = std::str::from_utf8(data) {
        fuzz_scram_verifier(text);
    }
}

/// Two messages of a client, the second behind the first line feed.
fn fuzz_scram_server(data: &[u8]) {
    let (client_first, client_final) = split(data);
    let keys = derive(PASSWORD, SALT, 1);
    for binding in [
        Binding::Unavailable,
        Binding::Declined,
        Binding::Bound(BINDING.into()),
    ] {
        let verifier = keys.verifier(SALT, 1);
        for identity in [Identity::Known(verifier.clone()), Identity::Unknown(verifier)] {
            let is_unknown = matches!(identity, Identity::Unknown(_));
            let state = ExpectClientFirst::new(identity, binding.clone());
            let Ok((state, server_first)) = state.on_client_first(client_first, &NONCE) else {
                continue;
            };
            assert!(server_first.starts_with(b"r="));
            if let Ok(Outcome::Accepted { keys: found, .. }) = state.on_client_final(client_final) {
                assert!(!is_unknown, "a user came in that does not exist");
                assert_eq!(found, keys, "a proof was accepted that does not fit");
            }
        }
    }
}

/// Two messages of a server, the second behind the first line feed.
fn fuzz_scram_client(data: &[u8]) {
    let (server_first, server_final) = split(data);
    let offered = [SCRAM_SHA_256.as_bytes(), SCRAM_SHA_256_PLUS.as_bytes()];
    for binding in [None, Some(BINDING)] {
        let means = Means::Password(Secret::new(PASSWORD));
        let Ok((state, _)) = ExpectServerFirst::start(means, offered.into_iter(), binding, &NONCE) else {
            unreachable!("both mechanisms were on offer")
        };
        let proof = match state.on_server_first(server_first) {
            Ok(ServerFirst::Derive(state)) if state.work().iterations <= ITERATIONS_MAX => {
                let keys = state.work().run();
                state.on_keys(keys)
            }
            Ok(ServerFirst::Prove(_)) => unreachable!("there are no keys to prove with"),
            Ok(ServerFirst::Derive(_)) | Err(_) => continue,
        };
        drop(proof.next.on_server_final(server_final));
    }
}

/// A password, whatever its bytes: who knows it comes in, and who keeps its verifier as text keeps it whole.
fn fuzz_scram_password(password: &[u8]) {
    let keys = derive(password, SALT, 1);
    let verifier = keys.verifier(SALT, 1);
    let stored = verifier.to_stored();
    let text = std::str::from_utf8(stored.expose()).unwrap_or_default();
    assert_eq!(ScramVerifier::parse(text), Some(verifier.clone()));
    assert!(verifier.accepts_password(password));
    log_in(Means::Password(Secret::new(password)), &verifier, &keys);
    log_in(Means::Keys(keys.clone()), &verifier, &keys);
}

/// A stored verifier, whatever its text: what is read is written as it is meant.
fn fuzz_scram_verifier(text: &str) {
    if let Some(verifier) = ScramVerifier::parse(text) {
        let stored = verifier.to_stored();
        let text = std::str::from_utf8(stored.expose()).unwrap_or_default();
        assert_eq!(ScramVerifier::parse(text), Some(verifier));
    }
}

/// Both halves talk to each other.
fn log_in(means: Means, verifier: &ScramVerifier, keys: &ScramKeys) {
    let offered = Binding::mechanisms(Some(BINDING))
        .iter()
        .map(|name| name.as_bytes());
    let Ok((client, initial)) = ExpectServerFirst::start(means, offered, Some(BINDING), &NONCE) else {
        unreachable!("both mechanisms were on offer")
    };
    let Some(binding) = Binding::for_mechanism(initial.mechanism.as_bytes(), Some(BINDING)) else {
        unreachable!("the client took what was not on offer")
    };
    let server = ExpectClientFirst::new(Identity::Known(verifier.clone()), binding);
    let Ok((server, server_first)) = server.on_client_first(&initial.message, &NONCE) else {
        unreachable!("the client's first message was refused")
    };
    let proof = match client.on_server_first(&server_first) {
        Ok(ServerFirst::Derive(state)) => {
            let keys = state.work().run();
            state.on_keys(keys)
        }
        Ok(ServerFirst::Prove(proof)) => proof,
        Err(error) => unreachable!("the server's first message was refused: {error:?}"),
    };
    let Ok(Outcome::Accepted {
        keys: found,
        server_final,
    }) = server.on_client_final(&proof.message)
    else {
        unreachable!("who knows the password was refused")
    };
    assert_eq!(&found, keys);
    assert_eq!(proof.next.on_server_final(&server_final).ok(), Some(found));
}

fn split(data: &[u8]) -> (&[u8], &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (first, rest) = data.split_at(end);
    (first, rest.get(1..).unwrap_or_default())
}

const PASSWORD: &[u8] = b"pencil";
const SALT: &[u8] = b"salt";
const BINDING: &[u8] = b"end point";
const NONCE: [u8; NONCE_LEN] = [5; NONCE_LEN];
/// What a server may make us work here.
const ITERATIONS_MAX: u32 = 8;
