//! After `AuthenticationOk`: what the server says about itself.

use super::{Login, LoginError, LoginStep};
use crate::protocol::startup::ProtocolVersion;
use crate::protocol::{CancelKey, Parameters, TransactionState, body, tag};

/// Before `ReadyForQuery`.
#[derive(Debug)]
pub struct ExpectReady {
    version: ProtocolVersion,
    parameters: Parameters,
    parameter_bytes: usize,
    cancel_key: Option<CancelKey>,
}

impl ExpectReady {
    pub(super) fn new(version: ProtocolVersion) -> Self {
        Self {
            version,
            parameters: Parameters::new(),
            parameter_bytes: 0,
            cancel_key: None,
        }
    }

    pub(super) fn on_message(mut self: Box<Self>, tag: u8, body: &[u8]) -> Result<LoginStep, LoginError> {
        match tag {
            tag::PARAMETER_STATUS => self.on_parameter(body)?,
            tag::BACKEND_KEY_DATA => {
                let key = CancelKey::decode_backend_key_data(body).ok_or(LoginError::Malformed(tag))?;
                self.cancel_key = Some(key);
            }
            tag::READY_FOR_QUERY => return self.on_ready(body),
            other => return Err(LoginError::Unexpected(other)),
        }
        Ok(LoginStep::NeedMore(Login::Ready(self)))
    }

    fn on_parameter(&mut self, status: &[u8]) -> Result<(), LoginError> {
        self.parameter_bytes += status.len();
        if self.parameters.len() == PARAMETERS_MAX || self.parameter_bytes > PARAMETERS_BYTES_MAX {
            return Err(LoginError::TooManyParameters);
        }
        // A value in another encoding than UTF-8 cannot be kept; none that matters ever is.
        if let Some((name, value)) = body::parameter_status(status) {
            self.parameters.set(name, value);
        }
        Ok(())
    }

    fn on_ready(self, body: &[u8]) -> Result<LoginStep, LoginError> {
        let state = match body {
            [state] => TransactionState::from_byte(*state),
            _ => None,
        };
        if state != Some(TransactionState::Idle) {
            return Err(LoginError::Malformed(tag::READY_FOR_QUERY));
        }
        Ok(LoginStep::Ready(Box::new(Settled {
            parameters: self.parameters,
            cancel_key: self.cancel_key.ok_or(LoginError::NoCancelKey)?,
            version: self.version,
        })))
    }
}

/// A server that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    pub parameters: Parameters,
    /// The server's process id and the secret.
    pub cancel_key: CancelKey,
    /// What is spoken, after negotiation.
    pub version: ProtocolVersion,
}

/// PostgreSQL reports about fifteen parameters; extensions may add some.
pub const PARAMETERS_MAX: usize = 256;
/// Room for that many of them, and then some: `search_path` may be long.
pub const PARAMETERS_BYTES_MAX: usize = 65_536;
