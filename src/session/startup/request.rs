//! What a client asks for, read out of its startup message.

use crate::auth::CertificateNames;
use crate::protocol::startup::{
    PROTOCOL_OPTION_PREFIX, ProtocolVersion, Replication, StartupError, StartupMessage, parse_options,
};

/// Who wants to be connected to what, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRequest {
    /// Never empty.
    pub user: String,
    /// The user's name where none was given.
    pub database: String,
    /// Those of `options` first, then the other parameters, in their order; of equal names the last counts.
    pub settings: Vec<(String, String)>,
    pub replication: Replication,
    /// What is spoken with the client, after negotiation.
    pub version: ProtocolVersion,
    pub security: Security,
}

impl ClientRequest {
    pub(super) fn read(message: &StartupMessage, security: Security) -> Result<Self, StartupError> {
        let given = |name| message.value(name).filter(|value| !value.is_empty());
        let user = given("user").ok_or(StartupError::NoUser)?;
        let database = given("database").unwrap_or(user);
        let replication = message
            .value("replication")
            .map_or(Ok(Replication::None), Replication::parse)?;
        let mut settings = message.value("options").map_or(Ok(Vec::new()), parse_options)?;
        // Passed on in a startup packet, as a replication client's are, they would say who logs in to what.
        let special = |name: &str| SPECIAL.contains(&name) || name.starts_with(PROTOCOL_OPTION_PREFIX);
        if let Some((name, _)) = settings.iter().find(|(name, _)| special(name)) {
            return Err(StartupError::NoSetting(name.clone()));
        }
        let others = message
            .parameters
            .iter()
            .filter(|(name, _)| !SPECIAL.contains(&name.as_str()));
        settings.extend(others.cloned());
        Ok(Self {
            user: user.to_owned(),
            database: database.to_owned(),
            settings,
            replication,
            version: message.version.negotiated(),
            security,
        })
    }

    /// The data a SCRAM proof may be bound to.
    #[must_use]
    pub fn channel_binding(&self) -> Option<&[u8]> {
        match &self.security {
            Security::Plain => None,
            Security::Tls(facts) => facts.channel_binding.as_deref(),
        }
    }

    /// The names of the client's certificate.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateNames> {
        match &self.security {
            Security::Plain => None,
            Security::Tls(facts) => facts.certificate.as_ref(),
        }
    }
}

/// What lies between the client and us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Security {
    #[default]
    Plain,
    Tls(TlsFacts),
}

/// What the TLS handshake brought to light.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// `tls-server-end-point` data of our own certificate; none offers no channel binding.
    pub channel_binding: Option<Box<[u8]>>,
    /// Of a client certificate that was verified.
    pub certificate: Option<CertificateNames>,
}

/// Parameters that are no settings.
const SPECIAL: [&str; 4] = ["user", "database", "options", "replication"];
