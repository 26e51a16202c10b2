//! Logins of users nobody knows: they run like the others and fail where a wrong password fails.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::md5::Md5Secret;
use super::scram::{KEY_LEN, SCRAM_ITERATIONS_DEFAULT, ScramVerifier, ScramWork};
use super::secret::Secret;

/// Makes up what would be stored about a user, the same for the same name as long as the process lives.
///
/// Source: `mock_scram_secret` in PostgreSQL's `auth-scram.c`.
#[derive(Clone)]
pub struct Mock {
    secret: [u8; KEY_LEN],
    iterations: u32,
    stand_in: StandIn,
}

impl Mock {
    /// `secret` is random and drawn once for the whole process; were it to change, so would the salts, and tell.
    #[must_use]
    pub fn new(secret: [u8; KEY_LEN]) -> Self {
        Self {
            secret,
            iterations: SCRAM_ITERATIONS_DEFAULT,
            stand_in: StandIn::Scram,
        }
    }

    /// The iterations that the real users' secrets have.
    #[must_use]
    pub fn with_iterations(mut self, iterations: u32) -> Self {
        self.iterations = iterations.max(1);
        self
    }

    /// The kind of secret that the real users have.
    #[must_use]
    pub fn with_stand_in(mut self, stand_in: StandIn) -> Self {
        self.stand_in = stand_in;
        self
    }

    #[must_use]
    pub fn stand_in(&self) -> StandIn {
        self.stand_in
    }

    #[must_use]
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// A salt for the user: also that of real users whose secret is stored in the clear.
    #[must_use]
    pub fn salt(&self, user: &str) -> [u8; SALT_LEN] {
        let digest = self.digest(b"salt", user);
        let mut salt = [0; SALT_LEN];
        for (to, from) in salt.iter_mut().zip(digest) {
            *to = from;
        }
        salt
    }

    /// A verifier that no password fits. Whoever uses it refuses the login whatever the proof says.
    #[must_use]
    pub fn scram(&self, user: &str) -> ScramVerifier {
        ScramVerifier {
            iterations: self.iterations,
            salt: self.salt(user).into(),
            stored_key: self.digest(b"stored", user),
            server_key: self.digest(b"server", user),
        }
    }

    /// The derivation that a login costs where passwords are stored in the clear. Unknown users cost it too, so that the
    /// time of the answer tells nothing. None where the secrets of real users need none.
    #[must_use]
    pub fn work(&self, user: &str) -> Option<ScramWork> {
        let work = || ScramWork {
            password: Secret::new(self.digest(b"password", user)),
            salt: self.salt(user).into(),
            iterations: self.iterations,
        };
        (self.stand_in == StandIn::Plain).then(work)
    }

    /// The same for the `md5` method.
    #[must_use]
    pub fn md5(&self, user: &str) -> Md5Secret {
        Md5Secret::derive(&self.digest(b"md5", user), user)
    }

    fn digest(&self, purpose: &[u8], user: &str) -> [u8; KEY_LEN] {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.secret) else {
            return [0; KEY_LEN]; // HMAC takes keys of any length.
        };
        mac.update(purpose);
        mac.update(&[0]);
        mac.update(user.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Mock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mock")
            .field("iterations", &self.iterations)
            .field("stand_in", &self.stand_in)
            .finish()
    }
}

/// Which kind of stored secret an unknown user seems to have; PostgreSQL takes `password_encryption`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StandIn {
    #[default]
    Scram,
    Md5,
    /// The password itself.
    Plain,
}

/// As `SCRAM_DEFAULT_SALT_LEN` in PostgreSQL's `scram-common.h`.
pub const SALT_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_user_always_has_the_same_salt() {
        let mock = Mock::new([7; 32]);
        assert_eq!(mock.salt("nobody"), mock.clone().salt("nobody"));
        assert_ne!(mock.salt("nobody"), mock.salt("somebody"));
        assert_ne!(mock.salt("nobody"), Mock::new([8; 32]).salt("nobody"));
    }

    #[test]
    fn the_keys_are_not_the_salt() {
        let verifier = Mock::new([7; 32]).scram("nobody");
        assert_eq!(verifier.salt.len(), SALT_LEN);
        assert_ne!(verifier.stored_key, verifier.server_key);
        assert!(!verifier.stored_key.starts_with(&verifier.salt));
    }

    #[test]
    fn debug_shows_no_secret() {
        assert!(!format!("{:?}", Mock::new([7; 32])).contains('7'));
    }
}
