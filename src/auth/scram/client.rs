//! The client's half: proving to a server that a password, or the keys of one, are known, and that the server knows it too.
//!
//! Source: PostgreSQL's `src/interfaces/libpq/fe-auth-scram.c`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::keys::{hmac, parse_iterations};
use super::message::{Attributes, check_whole, is_printable, malformed, shown_text};
use super::{
    BINDING_TYPE, KEY_LEN, NONCE_LEN, SCRAM_MESSAGE_LEN_MAX, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramError,
    ScramKeys, ScramWork,
};
use crate::auth::secret::Secret;

/// Before the server's first message.
#[derive(Debug)]
pub struct ExpectServerFirst {
    means: Means,
    /// The gs2 header with the binding data, if any: what `c=` must repeat.
    gs2: Vec<u8>,
    nonce: String,
    client_first_bare: String,
}

impl ExpectServerFirst {
    /// Picks the best mechanism in common and says the client-first-message. `binding` is the `tls-server-end-point` data
    /// of the connection, absent without TLS. `nonce` must be fresh and random.
    ///
    /// # Errors
    /// `NoMechanism` when the server offers neither.
    pub fn start<'a>(
        means: Means,
        mut offered: impl Iterator<Item = &'a [u8]> + Clone,
        binding: Option<&[u8]>,
        nonce: &[u8; NONCE_LEN],
    ) -> Result<(Self, Initial), ScramError> {
        let plus = offered.clone().any(|name| name == SCRAM_SHA_256_PLUS.as_bytes());
        let (mechanism, header, data) = match binding {
            Some(data) if plus => (SCRAM_SHA_256_PLUS, format!("p={BINDING_TYPE},,"), data),
            // Should the server in truth have PLUS, it now learns that somebody took it out of the list.
            Some(_) => (SCRAM_SHA_256, "y,,".to_owned(), &[][..]),
            None => (SCRAM_SHA_256, "n,,".to_owned(), &[][..]),
        };
        if !offered.any(|name| name == mechanism.as_bytes()) {
            return Err(ScramError::NoMechanism);
        }
        let nonce = STANDARD.encode(nonce);
        let client_first_bare = format!("n=,r={nonce}");
        let message = format!("{header}{client_first_bare}").into_bytes();
        let mut gs2 = header.into_bytes();
        gs2.extend_from_slice(data);
        let state = Self {
            means,
            gs2,
            nonce,
            client_first_bare,
        };
        Ok((state, Initial { mechanism, message }))
    }

    /// Takes the server-first-message.
    ///
    /// # Errors
    /// A message that breaks the grammar, a nonce that is not built on ours, a cost out of range.
    pub fn on_server_first(self, message: &[u8]) -> Result<ServerFirst, ScramError> {
        check_whole(message, SCRAM_MESSAGE_LEN_MAX)?;
        let mut input = Attributes::new(message);
        let nonce = input.value(b'r')?;
        let own = nonce.strip_prefix(self.nonce.as_bytes());
        if own.is_none_or(<[u8]>::is_empty) {
            return Err(ScramError::NonceMismatch);
        }
        if !is_printable(nonce) {
            return Err(ScramError::NonceNotPrintable);
        }
        let Ok(salt) = STANDARD.decode(input.value(b's')?) else {
            return Err(malformed("The salt is not base64.".to_owned()));
        };
        let iterations = std::str::from_utf8(input.value(b'i')?)
            .ok()
            .and_then(parse_iterations)
            .ok_or(ScramError::Iterations)?;
        if !input.is_at_end() {
            return Err(malformed(
                "Garbage found at the end of server-first-message.".to_owned(),
            ));
        }

        let mut without_proof = format!("c={},r=", STANDARD.encode(&self.gs2)).into_bytes();
        without_proof.extend_from_slice(nonce);
        let mut auth_message = self.client_first_bare.into_bytes();
        for part in [b",", message, b",", &without_proof] {
            auth_message.extend_from_slice(part);
        }
        let transcript = Transcript {
            without_proof,
            auth_message,
        };
        Ok(match self.means {
            Means::Keys(keys) => ServerFirst::Prove(transcript.prove(keys)),
            Means::Password(password) => ServerFirst::Derive(ExpectKeys {
                work: ScramWork {
                    password,
                    salt: salt.into(),
                    iterations,
                },
                transcript,
            }),
        })
    }
}

/// What comes after the server's first message.
#[derive(Debug)]
pub enum ServerFirst {
    Derive(ExpectKeys),
    Prove(Proof),
}

/// Until the keys of the password are derived.
#[derive(Debug)]
pub struct ExpectKeys {
    work: ScramWork,
    transcript: Transcript,
}

impl ExpectKeys {
    /// To be run off the event loop, or answered from a cache.
    #[must_use]
    pub fn work(&self) -> &ScramWork {
        &self.work
    }

    #[must_use]
    pub fn on_keys(self, keys: ScramKeys) -> Proof {
        self.transcript.prove(keys)
    }
}

/// The client-final-message, and who waits for its answer.
#[derive(Debug)]
pub struct Proof {
    pub message: Vec<u8>,
    pub next: ExpectServerFinal,
}

/// Before the server's signature.
pub struct ExpectServerFinal {
    keys: ScramKeys,
    signature: [u8; KEY_LEN],
}

impl ExpectServerFinal {
    /// Takes the server-final-message; hands back the keys, which are now known to be right.
    ///
    /// # Errors
    /// The server's own error, or a signature that shows that it does not know the password.
    pub fn on_server_final(self, message: &[u8]) -> Result<ScramKeys, ScramError> {
        check_whole(message, SCRAM_MESSAGE_LEN_MAX)?;
        let mut input = Attributes::new(message);
        if message.first() == Some(&b'e') {
            return Err(ScramError::ServerError(shown_text(input.value(b'e')?)));
        }
        let signature = STANDARD.decode(input.value(b'v')?).unwrap_or_default();
        if !input.is_at_end() {
            return Err(malformed(
                "Garbage found at the end of server-final-message.".to_owned(),
            ));
        }
        if bool::from(signature.ct_eq(&self.signature)) {
            Ok(self.keys)
        } else {
            Err(ScramError::ServerSignature)
        }
    }
}

impl fmt::Debug for ExpectServerFinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExpectServerFinal(..)")
    }
}

/// What there is to log in with.
#[derive(Clone, Debug)]
pub enum Means {
    Password(Secret),
    Keys(ScramKeys),
}

/// The `SASLInitialResponse` to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initial {
    pub mechanism: &'static str,
    pub message: Vec<u8>,
}

/// What both signatures are made over.
#[derive(Debug)]
struct Transcript {
    without_proof: Vec<u8>,
    auth_message: Vec<u8>,
}

impl Transcript {
    fn prove(self, keys: ScramKeys) -> Proof {
        let mut proof = hmac(&keys.stored_key(), &[&self.auth_message]);
        for (byte, key) in proof.iter_mut().zip(keys.client_key) {
            *byte ^= key;
        }
        let mut message = self.without_proof;
        message.extend_from_slice(b",p=");
        message.extend_from_slice(STANDARD.encode(proof).as_bytes());
        let signature = hmac(&keys.server_key, &[&self.auth_message]);
        Proof {
            message,
            next: ExpectServerFinal { keys, signature },
        }
    }
}
