//! The key that a `CancelRequest` must show.

use std::fmt;

use subtle::ConstantTimeEq;

/// Process id and secret of a session, as `BackendKeyData` carries them. The secret is 4 bytes long up to protocol 3.1, and
/// up to 256 from 3.2 on.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelKey {
    pub process_id: u32,
    pub secret: Box<[u8]>,
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
