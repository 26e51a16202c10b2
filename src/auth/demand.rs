//! How clients log in, as configured, and what one login finally demands.

use super::mock::StandIn;
use super::verifier::Verifier;

/// The configured method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    Trust,
    Password,
    Md5,
    #[default]
    ScramSha256,
    Cert,
    Hba,
}

impl Method {
    /// Reads the name used in configuration.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "trust" => Some(Self::Trust),
            "password" => Some(Self::Password),
            "md5" => Some(Self::Md5),
            "scram-sha-256" => Some(Self::ScramSha256),
            "cert" => Some(Self::Cert),
            "hba" => Some(Self::Hba),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::ScramSha256 => "scram-sha-256",
            Self::Cert => "cert",
            Self::Hba => "hba",
        }
    }

    /// What the method demands of every login; `None` where an HBA file decides.
    #[must_use]
    pub fn demand(self) -> Option<Demand> {
        match self {
            Self::Trust => Some(Demand::Trust),
            Self::Password => Some(Demand::Password),
            Self::Md5 => Some(Demand::Md5),
            Self::ScramSha256 => Some(Demand::Scram),
            Self::Cert => Some(Demand::Cert),
            Self::Hba => None,
        }
    }
}

/// What one login demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Demand {
    Trust,
    Reject,
    Password,
    Md5,
    Scram,
    Cert,
    Peer,
}

impl Demand {
    /// What the client is asked for, given what is stored about it. A user without a stored secret is asked for what
    /// the stand-in has, so that the question tells nothing about who exists.
    #[must_use]
    pub fn challenge(self, verifier: Option<&Verifier>, stand_in: StandIn) -> Option<Challenge> {
        match self {
            Self::Trust | Self::Reject | Self::Cert | Self::Peer => None,
            Self::Password => Some(Challenge::ClearText),
            Self::Scram => Some(Challenge::Scram),
            Self::Md5 => Some(match verifier {
                Some(Verifier::Scram(_)) => Challenge::Scram,
                Some(Verifier::Plain(_) | Verifier::Md5(_)) => Challenge::Md5,
                None => match stand_in {
                    StandIn::Scram => Challenge::Scram,
                    StandIn::Md5 | StandIn::Plain => Challenge::Md5,
                },
            }),
        }
    }
}

/// A question that the client answers with a `p` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Challenge {
    ClearText,
    Md5,
    Scram,
}
