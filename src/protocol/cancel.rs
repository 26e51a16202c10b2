//! The key that a `CancelRequest` must show.

use std::fmt;
use std::ops::Deref;

use subtle::ConstantTimeEq;

/// Process id and secret of a session, as `BackendKeyData` carries them.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelKey {
    pub process_id: u32,
    pub secret: CancelSecret,
}

impl CancelKey {
    /// Compares without telling by its time how much was right.
    #[must_use]
    pub fn is(&self, process_id: u32, secret: &[u8]) -> bool {
        self.process_id == process_id
            && self.secret.len() == secret.len()
            && bool::from(self.secret.ct_eq(secret))
    }
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelKey({})", self.process_id)
    }
}

/// The secret of a cancel key: 4 bytes up to protocol 3.1, and up to 256 from 3.2 on. Each client has one: the short one
/// takes no memory beside it.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelSecret(Bytes);

#[derive(Clone, PartialEq, Eq)]
enum Bytes {
    Four([u8; 4]),
    Other(Box<[u8]>),
}

impl From<&[u8]> for CancelSecret {
    fn from(bytes: &[u8]) -> Self {
        Self(match bytes.try_into() {
            Ok(four) => Bytes::Four(four),
            Err(_) => Bytes::Other(bytes.into()),
        })
    }
}

impl<const N: usize> From<[u8; N]> for CancelSecret {
    fn from(bytes: [u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl Deref for CancelSecret {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Four(four) => four,
            Bytes::Other(bytes) => bytes,
        }
    }
}

impl fmt::Debug for CancelSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CancelSecret")
    }
}
