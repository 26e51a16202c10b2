//! The server's half: a client proves that it knows a password.
//!
//! Source: PostgreSQL's `src/backend/libpq/auth-scram.c`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::keys::hmac;
use super::message::{Attributes, check_whole, is_printable, malformed, shown, shown_text};
use super::{
    BINDING_TYPE, KEY_LEN, NONCE_LEN, SCRAM_MESSAGE_LEN_MAX, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramError,
    ScramKeys, ScramVerifier,
};

/// Before the client's first message.
#[derive(Debug)]
pub struct ExpectClientFirst {
    identity: Identity,
    binding: Binding,
}

impl ExpectClientFirst {
    #[must_use]
    pub fn new(identity: Identity, binding: Binding) -> Self {
        Self { identity, binding }
    }

    /// Takes the client-first-message and says the server-first-message. `nonce` must be fresh and random.
    ///
    /// # Errors
    /// A message that breaks the grammar or asks for what is not on offer; it never depends on who the user is.
    pub fn on_client_first(
        self,
        message: &[u8],
        nonce: &[u8; NONCE_LEN],
    ) -> Result<(ExpectClientFinal, Vec<u8>), ScramError> {
        check_whole(message, SCRAM_MESSAGE_LEN_MAX)?;
        let mut input = Attributes::new(message);
        let flag = self.binding.read_flag(&mut input)?;
        let client_first_bare = read_authzid(&mut input)?;
        if input.rest().first() == Some(&b'm') {
            return Err(ScramError::Unsupported(
                "client requires an unsupported SCRAM extension",
            ));
        }
        let _user = input.value(b'n')?; // The user of the startup packet counts, not this one.
        let client_nonce = input.value(b'r')?;
        if !is_printable(client_nonce) {
            return Err(ScramError::NonceNotPrintable);
        }
        while !input.is_at_end() {
            input.any()?;
        }

        let verifier = self.identity.verifier();
        let mut whole_nonce = client_nonce.to_vec();
        whole_nonce.extend_from_slice(STANDARD.encode(nonce).as_bytes());
        let mut server_first = b"r=".to_vec();
        server_first.extend_from_slice(&whole_nonce);
        let cost = format!(",s={},i={}", STANDARD.encode(&verifier.salt), verifier.iterations);
        server_first.extend_from_slice(cost.as_bytes());
        let next = ExpectClientFinal {
            identity: self.identity,
            expected_binding: flag.expected_data(),
            client_first_bare: client_first_bare.to_vec(),
            server_first: server_first.clone(),
            nonce: whole_nonce,
        };
        Ok((next, server_first))
    }
}

/// Before the client's proof.
#[derive(Debug)]
pub struct ExpectClientFinal {
    identity: Identity,
    expected_binding: ExpectedBinding,
    client_first_bare: Vec<u8>,
    server_first: Vec<u8>,
    /// The client's part and ours.
    nonce: Vec<u8>,
}

impl ExpectClientFinal {
    /// Takes the client-final-message.
    ///
    /// # Errors
    /// As before; a wrong proof is no error but `Outcome::Refused`.
    pub fn on_client_final(self, message: &[u8]) -> Result<Outcome, ScramError> {
        check_whole(message, SCRAM_MESSAGE_LEN_MAX)?;
        let mut input = Attributes::new(message);
        self.expected_binding.check(input.value(b'c')?)?;
        let nonce = input.value(b'r')?;
        let (without_proof, proof) = read_proof(message, &mut input)?;
        if nonce != self.nonce {
            return Err(ScramError::NonceMismatch);
        }

        let verifier = self.identity.verifier();
        let parts: [&[u8]; 5] = [
            &self.client_first_bare,
            b",",
            &self.server_first,
            b",",
            without_proof,
        ];
        let mut client_key = hmac(&verifier.stored_key, &parts);
        for (key, byte) in client_key.iter_mut().zip(proof) {
            *key ^= byte;
        }
        let stored_key: [u8; KEY_LEN] = Sha256::digest(client_key).into();
        let fits: bool = stored_key.ct_eq(&verifier.stored_key).into();
        let signature = hmac(&verifier.server_key, &parts);
        match &self.identity {
            Identity::Known(verifier) if fits => Ok(Outcome::Accepted {
                keys: ScramKeys {
                    client_key,
                    server_key: verifier.server_key,
                },
                server_final: format!("v={}", STANDARD.encode(signature)).into_bytes(),
            }),
            Identity::Known(_) | Identity::Unknown(_) => Ok(Outcome::Refused),
        }
    }
}

/// How the proof turned out.
#[derive(Debug)]
#[must_use = "an outcome decides who comes in"]
pub enum Outcome {
    /// `server_final` is owed to the client before anything else.
    Accepted {
        keys: ScramKeys,
        server_final: Vec<u8>,
    },
    Refused,
}

/// Whose proof is expected.
#[derive(Clone, Debug)]
pub enum Identity {
    Known(ScramVerifier),
    /// Made up by `Mock`: the exchange runs, and ends with `Refused` whatever the proof is.
    Unknown(ScramVerifier),
}

impl Identity {
    fn verifier(&self) -> &ScramVerifier {
        match self {
            Self::Known(verifier) | Self::Unknown(verifier) => verifier,
        }
    }
}

/// What the client picked, and what there is to bind to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// No TLS, or nothing in it to bind to: only SCRAM-SHA-256 was offered.
    Unavailable,
    /// SCRAM-SHA-256-PLUS was offered, the client took SCRAM-SHA-256.
    Declined,
    /// SCRAM-SHA-256-PLUS with the `tls-server-end-point` data of this connection.
    Bound(Box<[u8]>),
}

impl Binding {
    /// Reads a client's choice of mechanism; `data` is the connection's binding data. `None`: it was not offered.
    #[must_use]
    pub fn for_mechanism(mechanism: &[u8], data: Option<&[u8]>) -> Option<Self> {
        match data {
            Some(data) if mechanism == SCRAM_SHA_256_PLUS.as_bytes() => Some(Self::Bound(data.into())),
            Some(_) if mechanism == SCRAM_SHA_256.as_bytes() => Some(Self::Declined),
            None if mechanism == SCRAM_SHA_256.as_bytes() => Some(Self::Unavailable),
            Some(_) | None => None,
        }
    }

    /// The mechanisms on offer, the best first.
    #[must_use]
    pub fn mechanisms(data: Option<&[u8]>) -> &'static [&'static str] {
        match data {
            Some(_) => &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256],
            None => &[SCRAM_SHA_256],
        }
    }

    fn read_flag<'a>(&'a self, input: &mut Attributes<'_>) -> Result<Flag<'a>, ScramError> {
        let first = input.rest().first().copied();
        let flag = match (first, self) {
            (Some(FLAG_NO | FLAG_YES), Self::Bound(_)) => {
                return Err(malformed(format!(
                    "The client selected {SCRAM_SHA_256_PLUS}, but the SCRAM message does not include channel binding data."
                )));
            }
            (Some(FLAG_YES), Self::Declined) => return Err(ScramError::Downgrade),
            (Some(FLAG_NO), Self::Unavailable | Self::Declined) => Flag::No,
            (Some(FLAG_YES), Self::Unavailable) => Flag::Yes,
            (Some(FLAG_BOUND), Self::Bound(data)) => {
                let kind = input.value(FLAG_BOUND)?;
                if kind != BINDING_TYPE.as_bytes() {
                    return Err(ScramError::UnsupportedBindingType(shown_text(kind)));
                }
                return Ok(Flag::Bound(data));
            }
            (Some(FLAG_BOUND), Self::Unavailable | Self::Declined) => {
                return Err(malformed(format!(
                    "The client selected {SCRAM_SHA_256} without channel binding, but the SCRAM message includes channel binding data."
                )));
            }
            (other, _) => {
                let other = shown(other.as_ref());
                return Err(malformed(format!("Unexpected channel-binding flag \"{other}\".")));
            }
        };
        let _flag = input.byte();
        match input.byte() {
            Some(b',') => Ok(flag),
            other => Err(malformed(format!(
                "Comma expected, but found character \"{}\".",
                shown(other.as_ref())
            ))),
        }
    }
}

/// The gs2 flag of the client's first message.
enum Flag<'a> {
    No,
    Yes,
    Bound(&'a [u8]),
}

impl Flag<'_> {
    fn expected_data(&self) -> ExpectedBinding {
        match self {
            Self::No => ExpectedBinding::Header(STANDARD.encode("n,,")),
            Self::Yes => ExpectedBinding::Header(STANDARD.encode("y,,")),
            Self::Bound(data) => {
                let mut whole = format!("p={BINDING_TYPE},,").into_bytes();
                whole.extend_from_slice(data);
                ExpectedBinding::Data(STANDARD.encode(whole))
            }
        }
    }
}

/// What must come back as `c=`, in base64.
#[derive(Debug)]
enum ExpectedBinding {
    Header(String),
    Data(String),
}

impl ExpectedBinding {
    fn check(&self, found: &[u8]) -> Result<(), ScramError> {
        match self {
            Self::Header(expected) if expected.as_bytes() != found => Err(ScramError::UnexpectedBinding),
            Self::Data(expected) if expected.as_bytes() != found => Err(ScramError::BindingMismatch),
            Self::Header(_) | Self::Data(_) => Ok(()),
        }
    }
}

/// The rest of the gs2 header, which must name nobody; what follows it is the client-first-message-bare.
fn read_authzid<'a>(input: &mut Attributes<'a>) -> Result<&'a [u8], ScramError> {
    match input.byte() {
        Some(b',') => Ok(input.rest()),
        Some(b'a') => Err(ScramError::Unsupported(
            "client uses authorization identity, but it is not supported",
        )),
        other => Err(malformed(format!(
            "Unexpected attribute \"{}\" in client-first-message.",
            shown(other.as_ref())
        ))),
    }
}

/// Skips extensions up to the proof, which must be the last; also what is in front of it.
fn read_proof<'a>(
    message: &'a [u8],
    input: &mut Attributes<'a>,
) -> Result<(&'a [u8], [u8; KEY_LEN]), ScramError> {
    loop {
        let start = message.len().saturating_sub(input.rest().len());
        let (name, value) = input.any()?;
        if name != ATTRIBUTE_PROOF {
            continue;
        }
        let Some(proof) = STANDARD
            .decode(value)
            .ok()
            .and_then(|proof| proof.try_into().ok())
        else {
            return Err(malformed("Malformed proof in client-final-message.".to_owned()));
        };
        if !input.is_at_end() {
            return Err(malformed(
                "Garbage found at the end of client-final-message.".to_owned(),
            ));
        }
        let without_proof = message.get(..start.saturating_sub(1)).unwrap_or_default();
        return Ok((without_proof, proof));
    }
}

// The gs2 flags, and the one attribute that is looked for.
const FLAG_NO: u8 = b'n';
const FLAG_YES: u8 = b'y';
const FLAG_BOUND: u8 = b'p';
const ATTRIBUTE_PROOF: u8 = b'p';
