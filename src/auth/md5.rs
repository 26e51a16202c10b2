//! The `md5` method: `md5(md5(password + user) + salt)`.
//!
//! Source: PostgreSQL's `src/common/md5_common.c` and `src/backend/libpq/crypt.c`.

use std::fmt;

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

/// `md5(password + user)` as 32 hexadecimal digits: what PostgreSQL stores after `md5`. As good as the password itself.
#[derive(Clone)]
pub struct Md5Secret([u8; HEX_LEN]);

impl Md5Secret {
    /// Reads `md5` and 32 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(stored: &str) -> Option<Self> {
        let digits: [u8; HEX_LEN] = stored.strip_prefix("md5")?.as_bytes().try_into().ok()?;
        digits
            .iter()
            .all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(digit))
            .then_some(Self(digits))
    }

    #[must_use]
    pub fn derive(password: &[u8], user: &str) -> Self {
        Self(hex_digest(password, user.as_bytes()))
    }

    /// What a client sends for this secret and this salt, `md5` in front.
    #[must_use]
    pub fn response(&self, salt: [u8; SALT_LEN]) -> [u8; RESPONSE_LEN] {
        let digits = hex_digest(&self.0, &salt);
        let mut response = [0; RESPONSE_LEN];
        let (prefix, rest) = response.split_at_mut(PREFIX.len());
        prefix.copy_from_slice(PREFIX);
        rest.copy_from_slice(&digits);
        response
    }

    /// Whether a client's answer to the salt is the right one; in constant time.
    #[must_use]
    pub fn accepts(&self, salt: [u8; SALT_LEN], response: &[u8]) -> bool {
        self.response(salt).as_slice().ct_eq(response).into()
    }
}

impl PartialEq for Md5Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Md5Secret {}

impl fmt::Debug for Md5Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Secret(..)")
    }
}

fn hex_digest(first: &[u8], second: &[u8]) -> [u8; HEX_LEN] {
    let digest = Md5::new().chain_update(first).chain_update(second).finalize();
    let mut digits = [0; HEX_LEN];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(digest) {
        pair.copy_from_slice(&[hex_digit(byte >> 4), hex_digit(byte & 0xf)]);
    }
    digits
}

fn hex_digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'a' + (nibble - 10),
    }
}

/// Bytes of the salt in `AuthenticationMD5Password`.
pub const SALT_LEN: usize = 4;
const PREFIX: &[u8; 3] = b"md5";
const HEX_LEN: usize = 32;
const RESPONSE_LEN: usize = PREFIX.len() + HEX_LEN;

#[cfg(test)]
mod tests {
    use super::*;

    /// `CREATE ROLE app PASSWORD 'secret'` with `password_encryption = md5` on PostgreSQL 15.
    const STORED: &str = "md56a422f785c9e20873908ce25d1736ae2";

    #[test]
    fn derives_what_postgresql_stores() {
        assert_eq!(
            Md5Secret::parse(STORED),
            Some(Md5Secret::derive(b"secret", "app"))
        );
        assert_eq!(
            Md5Secret::parse("md5509d4a7634d370fe3d42826b21135401"),
            Some(Md5Secret::derive("ÄpfelAª".as_bytes(), "m2"))
        );
    }

    #[test]
    fn accepts_its_own_response_to_the_same_salt_only() {
        let secret = Md5Secret::derive(b"secret", "app");
        let response = secret.response([1, 2, 3, 4]);
        assert!(secret.accepts([1, 2, 3, 4], &response));
        assert!(!secret.accepts([1, 2, 3, 5], &response));
        assert!(!secret.accepts([1, 2, 3, 4], &response[..34]));
        assert!(!secret.accepts([1, 2, 3, 4], b""));
        assert!(!Md5Secret::derive(b"secret", "other").accepts([1, 2, 3, 4], &response));
    }
}
