//! The handshake with a server, as its client: from the startup message until it is ready. TLS is there by now, if at all.
//!
//! Source: `PQconnectPoll` in PostgreSQL's `src/interfaces/libpq/fe-connect.c` and `fe-auth.c`.

mod error;
#[doc(hidden)]
pub mod fuzz;
mod settled;

#[cfg(test)]
mod tests;

pub use error::{LoginError, ServerError};
pub use settled::{ExpectReady, PARAMETERS_BYTES_MAX, PARAMETERS_MAX, Settled};

use std::fmt;

use crate::auth::scram::client::{self, ExpectServerFinal, ExpectServerFirst, Means, ServerFirst};
use crate::auth::scram::{NONCE_LEN, SCRAM_SHA_256_PLUS, ScramError};
use crate::auth::{Md5Secret, ScramKeys, ScramWork, Secret};
use crate::protocol::authentication::{
    Authentication, SaslInitialResponse, encode_password, encode_sasl_response,
};
use crate::protocol::startup::{NegotiateProtocolVersion, ProtocolVersion, Replication, StartupMessage};
use crate::protocol::tag;

/// A login under way. Whatever a call appends to `out` is to be sent before the step is done.
#[derive(Debug)]
pub enum Login {
    Auth(Box<ExpectAuth>),
    Ready(Box<ExpectReady>),
}

impl Login {
    /// Says the startup message.
    #[must_use]
    pub fn start(plan: LoginPlan, out: &mut Vec<u8>) -> Self {
        let given = [("user", plan.user.as_str()), ("database", plan.database.as_str())];
        let replication = plan.replication.parameter().map(|value| ("replication", value));
        let own = given.into_iter().chain(replication);
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let startup = StartupMessage {
            version: plan.version,
            parameters: own.chain(plan.parameters.iter().cloned()).collect(),
            protocol_options: Vec::new(),
        };
        startup.encode(out);
        Self::Auth(Box::new(ExpectAuth {
            plan,
            phase: Phase::Unasked,
        }))
    }

    /// Takes one whole message from the server.
    pub fn on_message(self, tag: u8, body: &[u8], out: &mut Vec<u8>) -> LoginStep {
        let next = match (tag, self) {
            (tag::ERROR_RESPONSE, _) => Err(LoginError::Server(ServerError::read(body))),
            (tag::NOTICE_RESPONSE, login) => Ok(LoginStep::NeedMore(login)),
            (_, Self::Auth(state)) => state.on_message(tag, body, out),
            (_, Self::Ready(state)) => state.on_message(tag, body),
        };
        next.unwrap_or_else(|error| LoginStep::Failed(Box::new(error)))
    }
}

/// What the shell does next.
#[derive(Debug)]
#[must_use = "the step is the login"]
pub enum LoginStep {
    /// Read the next message and feed it.
    NeedMore(Login),
    /// Derive keys off the event loop, or take them from a cache.
    Derive(Box<ExpectKeys>),
    Ready(Box<Settled>),
    /// Close the connection.
    Failed(Box<LoginError>),
}

/// Whom to log in as, and with what.
#[derive(Clone, Debug)]
pub struct LoginPlan {
    pub user: String,
    pub database: String,
    /// Further startup parameters.
    pub parameters: Vec<(String, String)>,
    pub replication: Replication,
    pub secret: ServerSecret,
    /// `tls-server-end-point` data of the server's certificate; none without TLS.
    pub channel_binding: Option<Box<[u8]>>,
    pub binding_rule: BindingRule,
    /// What to ask for: 3.0 unless more is wanted, since servers before 3.2 may not negotiate well.
    pub version: ProtocolVersion,
    /// Fresh random bytes, drawn for this login alone.
    pub nonce: [u8; NONCE_LEN],
}

/// libpq's `channel_binding`: whether the server's proof must be bound to the TLS session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BindingRule {
    Disable,
    /// Where the server offers it.
    #[default]
    Prefer,
    /// No other proof is taken, and no password leaves us without one.
    Require,
}

/// What there is to log in with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ServerSecret {
    #[default]
    None,
    Plain(Secret),
    Md5(Md5Secret),
    Scram(ScramKeys),
}

/// Before `AuthenticationOk`.
#[derive(Debug)]
pub struct ExpectAuth {
    plan: LoginPlan,
    phase: Phase,
}

impl ExpectAuth {
    fn on_message(
        mut self: Box<Self>,
        tag: u8,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<LoginStep, LoginError> {
        match tag {
            tag::AUTHENTICATION => {
                let request = Authentication::decode(body).ok_or(LoginError::Malformed(tag))?;
                self.on_authentication(&request, out)
            }
            tag::NEGOTIATE_PROTOCOL_VERSION => {
                self.on_negotiation(body)?;
                Ok(LoginStep::NeedMore(Login::Auth(self)))
            }
            other => Err(LoginError::Unexpected(other)),
        }
    }

    fn on_authentication(
        mut self: Box<Self>,
        asked: &Authentication<'_>,
        out: &mut Vec<u8>,
    ) -> Result<LoginStep, LoginError> {
        let phase = std::mem::replace(&mut self.phase, Phase::Answered);
        self.check_binding(asked, &phase)?;
        match (asked, phase) {
            (Authentication::Ok, Phase::Unasked | Phase::Answered) => {
                let state = ExpectReady::new(self.plan.version);
                return Ok(LoginStep::NeedMore(Login::Ready(Box::new(state))));
            }
            // A server that skips its signature may be somebody else who only wants to be talked to.
            (Authentication::Ok, Phase::SaslFirst(_) | Phase::SaslFinal(_)) => {
                return Err(LoginError::Unproven);
            }
            (Authentication::CleartextPassword, Phase::Unasked) => match &self.plan.secret {
                ServerSecret::Plain(password) => encode_password(out, password.expose()),
                ServerSecret::None | ServerSecret::Md5(_) | ServerSecret::Scram(_) => {
                    return Err(LoginError::SecretNeeded("password"));
                }
            },
            (Authentication::Md5Password { salt }, Phase::Unasked) => {
                let response = self.md5_secret()?.response(*salt);
                encode_password(out, &response);
            }
            (Authentication::Sasl(offered), Phase::Unasked) => {
                let (state, initial) = self.start_scram(offered)?;
                let response = SaslInitialResponse {
                    mechanism: initial.mechanism.as_bytes(),
                    data: Some(&initial.message),
                };
                response.encode(out);
                self.phase = Phase::SaslFirst(state);
            }
            (Authentication::SaslContinue(data), Phase::SaslFirst(state)) => {
                return match state.on_server_first(data)? {
                    ServerFirst::Derive(wait) => {
                        Ok(LoginStep::Derive(Box::new(ExpectKeys { login: self, wait })))
                    }
                    ServerFirst::Prove(proof) => Ok(self.prove(proof, out)),
                };
            }
            (Authentication::SaslFinal(data), Phase::SaslFinal(state)) => {
                state.on_server_final(data)?;
            }
            (Authentication::KerberosV5, _) => return Err(LoginError::UnsupportedMethod("Kerberos V5")),
            (Authentication::Gss | Authentication::GssContinue, _) => {
                return Err(LoginError::UnsupportedMethod("GSSAPI"));
            }
            (Authentication::Sspi, _) => return Err(LoginError::UnsupportedMethod("SSPI")),
            (Authentication::Other(_), _) => return Err(LoginError::UnsupportedMethod("an unknown method")),
            (
                Authentication::CleartextPassword
                | Authentication::Md5Password { .. }
                | Authentication::Sasl(_)
                | Authentication::SaslContinue(_)
                | Authentication::SaslFinal(_),
                _,
            ) => return Err(LoginError::Unexpected(tag::AUTHENTICATION)),
        }
        Ok(LoginStep::NeedMore(Login::Auth(self)))
    }

    /// Under `Require`, the server must ask for SCRAM-SHA-256-PLUS, and nothing else ends the authentication.
    fn check_binding(&self, asked: &Authentication<'_>, phase: &Phase) -> Result<(), LoginError> {
        if self.plan.binding_rule != BindingRule::Require {
            return Ok(());
        }
        let is_bound = match (asked, phase) {
            (Authentication::Ok | Authentication::CleartextPassword, Phase::Unasked)
            | (Authentication::Md5Password { .. }, _) => false,
            (Authentication::Sasl(offered), _) => {
                self.plan.channel_binding.is_some() && offered.contains(&SCRAM_SHA_256_PLUS.as_bytes())
            }
            _ => true,
        };
        if is_bound {
            Ok(())
        } else {
            Err(LoginError::Unbound)
        }
    }

    fn md5_secret(&self) -> Result<Md5Secret, LoginError> {
        match &self.plan.secret {
            ServerSecret::Plain(password) => Ok(Md5Secret::derive(password.expose(), &self.plan.user)),
            ServerSecret::Md5(secret) => Ok(secret.clone()),
            ServerSecret::None | ServerSecret::Scram(_) => Err(LoginError::SecretNeeded("md5")),
        }
    }

    fn start_scram(&self, offered: &[&[u8]]) -> Result<(ExpectServerFirst, client::Initial), LoginError> {
        let means = match &self.plan.secret {
            ServerSecret::Plain(password) => Means::Password(password.clone()),
            ServerSecret::Scram(keys) => Means::Keys(keys.clone()),
            ServerSecret::None | ServerSecret::Md5(_) => {
                return Err(LoginError::SecretNeeded("scram-sha-256"));
            }
        };
        let binding = match self.plan.binding_rule {
            BindingRule::Disable => None,
            BindingRule::Prefer | BindingRule::Require => self.plan.channel_binding.as_deref(),
        };
        let offered = offered.iter().copied();
        Ok(ExpectServerFirst::start(
            means,
            offered,
            binding,
            &self.plan.nonce,
        )?)
    }

    fn prove(mut self: Box<Self>, proof: client::Proof, out: &mut Vec<u8>) -> LoginStep {
        encode_sasl_response(out, &proof.message);
        self.phase = Phase::SaslFinal(proof.next);
        LoginStep::NeedMore(Login::Auth(self))
    }

    /// Only downwards, and no refusal of options that were never asked for. There is no protocol 3.1.
    fn on_negotiation(&mut self, body: &[u8]) -> Result<(), LoginError> {
        let malformed = LoginError::Malformed(tag::NEGOTIATE_PROTOCOL_VERSION);
        let answer = NegotiateProtocolVersion::decode(body).ok_or(malformed)?;
        let is_spoken = [ProtocolVersion::V3_0, ProtocolVersion::V3_2].contains(&answer.version);
        if !is_spoken || answer.version > self.plan.version || !answer.unsupported.is_empty() {
            return Err(LoginError::Version(answer.version));
        }
        self.plan.version = answer.version;
        Ok(())
    }
}

/// Until the keys of the password are derived.
#[derive(Debug)]
pub struct ExpectKeys {
    login: Box<ExpectAuth>,
    wait: client::ExpectKeys,
}

impl ExpectKeys {
    #[must_use]
    pub fn work(&self) -> &ScramWork {
        self.wait.work()
    }

    pub fn on_keys(self, keys: ScramKeys, out: &mut Vec<u8>) -> LoginStep {
        self.login.prove(self.wait.on_keys(keys), out)
    }
}

/// How far the proof has come.
enum Phase {
    Unasked,
    /// All that was asked for has been given, and with SCRAM the server has proven itself.
    Answered,
    SaslFirst(ExpectServerFirst),
    SaslFinal(ExpectServerFinal),
}

impl fmt::Debug for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unasked => "Unasked",
            Self::Answered => "Answered",
            Self::SaslFirst(_) => "SaslFirst",
            Self::SaslFinal(_) => "SaslFinal",
        })
    }
}

impl From<ScramError> for LoginError {
    fn from(error: ScramError) -> Self {
        Self::Scram(error)
    }
}
