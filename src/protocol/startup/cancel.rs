//! Cancel keys on the wire: handed out after a login, shown by whoever wants the query cancelled.

use super::{CANCEL_REQUEST_CODE, StartupError};
use crate::protocol::CancelKey;
use crate::protocol::tag;
use crate::protocol::write::Frame;

impl CancelKey {
    /// Reads the body of a `BackendKeyData`; none unless the secret has 4 to 256 bytes.
    #[must_use]
    pub fn decode_backend_key_data(body: &[u8]) -> Option<Self> {
        let (process_id, secret) = body.split_first_chunk::<4>()?;
        (CANCEL_SECRET_LEN_MIN..=CANCEL_SECRET_LEN_MAX)
            .contains(&secret.len())
            .then(|| Self {
                process_id: u32::from_be_bytes(*process_id),
                secret: secret.into(),
            })
    }

    /// Appends a `BackendKeyData`.
    pub fn encode_backend_key_data(&self, out: &mut Vec<u8>) {
        let frame = Frame::begin(out, tag::BACKEND_KEY_DATA);
        self.write(out);
        frame.end(out);
    }

    /// Appends the packet that asks for the cancellation; it is never answered.
    pub fn encode_cancel_request(&self, out: &mut Vec<u8>) {
        let frame = Frame::begin_untagged(out);
        out.extend_from_slice(&CANCEL_REQUEST_CODE.to_be_bytes());
        self.write(out);
        frame.end(out);
    }

    /// Reads what follows the code of a `CancelRequest`.
    pub(super) fn decode_cancel_request(body: &[u8]) -> Result<Self, StartupError> {
        Self::decode_backend_key_data(body).ok_or(StartupError::CancelLength)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.process_id.to_be_bytes());
        out.extend_from_slice(&self.secret);
    }
}

/// The secret of protocol 3.0.
pub const CANCEL_SECRET_LEN_MIN: usize = 4;
/// The largest secret that protocol 3.2 allows.
pub const CANCEL_SECRET_LEN_MAX: usize = 256;
