//! A client's handshake, from its first byte until it is known: each state is consumed by what it was waiting for.
//!
//! The shell reads and writes bytes, speaks TLS, looks up users and runs derivations; what it is to do next is a `Step`.
//! Whatever a call appends to `out` is to be sent before the step is done.

mod first;
#[doc(hidden)]
pub mod fuzz;
mod proof;
mod request;

#[cfg(test)]
mod tests;

pub use first::{ExpectFirst, ExpectTls, TlsOffer};
pub use proof::{Credentials, ExpectCredentials, ExpectProof, ExpectVerdict, ExpectVerifier, Randomness};
pub use request::{ClientRequest, Security, TlsFacts};

use crate::auth::{ScramKeys, Secret};
use crate::protocol::transaction::TransactionState;
use crate::protocol::write::{self, Frame};
use crate::protocol::{CancelKey, Parameters, Report, tag};

/// What the shell does next.
#[derive(Debug)]
pub enum Step {
    /// Read more and feed it; what was not consumed is fed again.
    NeedMore(Reading),
    /// Become a TLS server, then go on with what comes out of it.
    StartTls(ExpectTls),
    /// Cancel what runs for that key, and close without an answer.
    Cancel(CancelKey),
    /// Find out what this login demands and what is stored about the user.
    Resolve(Box<ExpectCredentials>),
    /// Derive keys off the event loop, or take them from a cache.
    Derive(Box<ExpectVerifier>),
    /// Check a clear password off the event loop.
    CheckPassword(Box<ExpectVerdict>),
    /// The client is who it says. `AuthenticationOk` is in `out`.
    Authenticated(Box<ClientLogin>),
    /// Send the report and close. It is not in `out`.
    Refused(Box<Report>),
}

impl Step {
    fn refused(report: impl Into<Report>) -> Self {
        Self::Refused(Box::new(report.into()))
    }
}

/// A state that waits for bytes.
#[derive(Debug)]
pub enum Reading {
    First(ExpectFirst),
    Proof(Box<ExpectProof>),
}

impl Reading {
    /// Takes what has arrived and was not consumed before. Makes at most one step.
    pub fn on_bytes(self, input: &[u8], out: &mut Vec<u8>) -> Turn {
        match self {
            Self::First(state) => state.on_bytes(input, out),
            Self::Proof(state) => state.on_bytes(input, out),
        }
    }
}

/// How far the bytes went.
#[derive(Debug)]
#[must_use = "the step is the handshake"]
pub struct Turn {
    /// Bytes at the front of the input that are done with.
    pub consumed: usize,
    pub step: Step,
}

/// A client that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLogin {
    pub request: ClientRequest,
    pub evidence: Evidence,
}

/// What a login left behind that can log in to a server in the client's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    None,
    Password(Secret),
    Scram(ScramKeys),
}

/// Appends what ends a handshake: the parameters, the key to cancel by, and that the session is ready.
pub fn welcome(parameters: &Parameters, key: &CancelKey, out: &mut Vec<u8>) {
    for (name, value) in parameters.iter() {
        let frame = Frame::begin(out, tag::PARAMETER_STATUS);
        write::cstr(out, name.as_bytes());
        write::cstr(out, value.as_bytes());
        frame.end(out);
    }
    key.encode_backend_key_data(out);
    let frame = Frame::begin(out, tag::READY_FOR_QUERY);
    out.push(TransactionState::Idle.as_byte());
    frame.end(out);
}

/// As `PG_MAX_AUTH_TOKEN_LENGTH` in PostgreSQL's `src/include/libpq/auth.h`.
pub const PASSWORD_LEN_MAX: usize = 65_535;
