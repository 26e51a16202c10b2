//! Where a pool's connections go, and as whom.

use std::fmt;
use std::sync::Arc;

use crate::net::addr::ServerAddr;
use crate::net::keepalive::Keepalive;
use crate::net::tls::ServerTls;
use crate::protocol::Parameters;
use crate::session::login::{BindingRule, ServerSecret};

/// What it takes to open a connection.
#[derive(Clone, Debug)]
pub struct Target {
    /// Tried in this order, unless `shuffled`.
    pub hosts: Vec<ServerAddr>,
    pub shuffled: bool,
    pub tls: Arc<ServerTls>,
    pub keepalive: Keepalive,
    /// The database's name on the server.
    pub database: Arc<str>,
    /// The user's name on the server.
    pub user: Arc<str>,
    /// Further startup parameters, those of the URL.
    pub parameters: Vec<(String, String)>,
    pub session_attrs: SessionAttrs,
    pub binding_rule: BindingRule,
    pub secret: ServerSecret,
    pub reread: Option<Reread>,
}

impl Target {
    /// Its servers, as they are named to people.
    #[must_use]
    pub fn server_name(&self) -> String {
        let names: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        names.join(",")
    }
}

/// Reads the secret of a user on the server again where it came from: tried after a server has refused it.
#[derive(Clone)]
pub struct Reread(pub Arc<ReadSecret>);

type ReadSecret = dyn Fn(&str) -> Option<ServerSecret> + Send + Sync;

impl fmt::Debug for Reread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reread")
    }
}

impl Target {
    /// Whether connections to the one are as good as connections to the other.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.hosts == other.hosts
            && self.database == other.database
            && self.user == other.user
            && self.parameters == other.parameters
            && self.session_attrs == other.session_attrs
            && self.binding_rule == other.binding_rule
            && self.tls.mode() == other.tls.mode()
    }
}

/// libpq's `target_session_attrs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionAttrs {
    #[default]
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    /// A standby if there is one, else any.
    PreferStandby,
}

impl SessionAttrs {
    /// Whether a server that reports these values will do. PostgreSQL reports both from 14 on.
    #[must_use]
    pub fn accept(self, reported: &Parameters) -> bool {
        let is_on = |name: &str| reported.value(name) == Some("on");
        let standby = is_on("in_hot_standby");
        let read_only = standby || is_on("default_transaction_read_only");
        match self {
            Self::Any => true,
            Self::ReadWrite => !read_only,
            Self::ReadOnly => read_only,
            Self::Primary => !standby,
            Self::Standby | Self::PreferStandby => standby,
        }
    }

    /// What is left to wish for when no host would do.
    #[must_use]
    pub fn second_wish(self) -> Option<Self> {
        (self == Self::PreferStandby).then_some(Self::Any)
    }
}

#[cfg(test)]
impl Target {
    /// For pools that open nothing.
    pub(super) fn nowhere() -> Self {
        Self {
            hosts: Vec::new(),
            shuffled: false,
            tls: Arc::new(ServerTls::DISABLED),
            keepalive: Keepalive {
                idle: std::time::Duration::ZERO,
                user_timeout: std::time::Duration::ZERO,
            },
            database: "app".into(),
            user: "app".into(),
            parameters: Vec::new(),
            session_attrs: SessionAttrs::Any,
            secret: ServerSecret::None,
            binding_rule: BindingRule::default(),
            reread: None,
        }
    }
}
