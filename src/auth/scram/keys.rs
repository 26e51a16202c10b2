//! The keys of a password: what is stored, what is derived.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::saslprep::saslprep;
use super::{KEY_LEN, SCRAM_ITERATIONS_MAX};
use crate::auth::secret::Secret;

/// What PostgreSQL stores: enough to check a proof, not enough to make one.
#[derive(Clone)]
pub struct ScramVerifier {
    pub iterations: u32,
    pub salt: Box<[u8]>,
    pub stored_key: [u8; KEY_LEN],
    pub server_key: [u8; KEY_LEN],
}

impl ScramVerifier {
    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
    #[must_use]
    pub fn parse(stored: &str) -> Option<Self> {
        let rest = stored.strip_prefix("SCRAM-SHA-256$")?;
        let (cost, keys) = rest.split_once('$')?;
        let (iterations, salt) = cost.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        Some(Self {
            iterations: parse_iterations(iterations)?,
            salt: STANDARD.decode(salt).ok()?.into(),
            stored_key: STANDARD.decode(stored_key).ok()?.try_into().ok()?,
            server_key: STANDARD.decode(server_key).ok()?.try_into().ok()?,
        })
    }

    /// The text that `parse` reads.
    #[must_use]
    pub fn to_stored(&self) -> Secret {
        Secret::new(format!(
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            STANDARD.encode(&self.salt),
            STANDARD.encode(self.stored_key),
            STANDARD.encode(self.server_key)
        ))
    }

    /// Whether the clear password fits. Costs a derivation: not for an event loop.
    #[must_use]
    pub fn accepts_password(&self, password: &[u8]) -> bool {
        let keys = derive(password, &self.salt, self.iterations);
        keys.stored_key().ct_eq(&self.stored_key).into()
    }
}

impl PartialEq for ScramVerifier {
    fn eq(&self, other: &Self) -> bool {
        let keys = self.stored_key.ct_eq(&other.stored_key) & self.server_key.ct_eq(&other.server_key);
        self.iterations == other.iterations && self.salt == other.salt && bool::from(keys)
    }
}

impl Eq for ScramVerifier {}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramVerifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

/// What logs in without the password: both keys, as a successful login of a client leaves them behind.
/// As good as the password at every server that stores the same salt and iterations.
#[derive(Clone)]
pub struct ScramKeys {
    pub client_key: [u8; KEY_LEN],
    pub server_key: [u8; KEY_LEN],
}

impl ScramKeys {
    /// The hash of the client key, which is what a server stores.
    #[must_use]
    pub fn stored_key(&self) -> [u8; KEY_LEN] {
        Sha256::digest(self.client_key).into()
    }

    /// The verifier that these keys belong to.
    #[must_use]
    pub fn verifier(&self, salt: &[u8], iterations: u32) -> ScramVerifier {
        ScramVerifier {
            iterations,
            salt: salt.into(),
            stored_key: self.stored_key(),
            server_key: self.server_key,
        }
    }
}

impl PartialEq for ScramKeys {
    fn eq(&self, other: &Self) -> bool {
        (self.client_key.ct_eq(&other.client_key) & self.server_key.ct_eq(&other.server_key)).into()
    }
}

impl Eq for ScramKeys {}

impl std::hash::Hash for ScramKeys {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.client_key.hash(state);
        self.server_key.hash(state);
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramKeys(..)")
    }
}

/// A derivation to be done off the event loop. Equal work has equal keys, so it is also the name of a cached result.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScramWork {
    pub password: Secret,
    pub salt: Box<[u8]>,
    /// At least 1 and at most `SCRAM_ITERATIONS_MAX` where it came from the wire.
    pub iterations: u32,
}

impl ScramWork {
    /// Milliseconds and more: PBKDF2.
    #[must_use]
    pub fn run(&self) -> ScramKeys {
        derive(self.password.expose(), &self.salt, self.iterations)
    }
}

/// Derives the keys of a password; PBKDF2, so not for an event loop.
#[must_use]
pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> ScramKeys {
    let prepared = saslprep(password);
    let salted: [u8; KEY_LEN] =
        pbkdf2::pbkdf2_hmac_array::<Sha256, KEY_LEN>(&prepared, salt, iterations.max(1));
    ScramKeys {
        client_key: hmac(&salted, &[b"Client Key"]),
        server_key: hmac(&salted, &[b"Server Key"]),
    }
}

/// HMAC-SHA-256 over the parts, one after the other.
pub(super) fn hmac(key: &[u8; KEY_LEN], parts: &[&[u8]]) -> [u8; KEY_LEN] {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return [0; KEY_LEN]; // HMAC takes keys of any length.
    };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// A count of iterations: decimal, positive, within the limit.
pub(super) fn parse_iterations(text: &str) -> Option<u32> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let iterations = text.parse().ok()?;
    (1..=SCRAM_ITERATIONS_MAX)
        .contains(&iterations)
        .then_some(iterations)
}
