//! Where a database is: libpq's connection strings, in both of their forms, as far as a pooler can follow them.
//!
//! Both forms are cut into pairs of a name and a value first (`uri`, `keywords`), as libpq does it in
//! `src/interfaces/libpq/fe-connect.c`; what the pairs mean is decided here, once. No error repeats a value.

mod error;
mod keywords;
mod parameters;
mod uri;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::auth::Secret;
use crate::net::{ServerAddr, TlsMode};

pub use error::UrlError;
pub(super) use parameters::TLS_MODES;
pub(super) use uri::user_info;

/// A connection string, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// In the order they are tried; never empty.
    pub servers: Vec<ServerAddr>,
    /// Without it, the client's own user name is passed through.
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// Without it, the name that the client asked for.
    pub database: Option<String>,
    /// Without it, `[server_tls]` decides; the same holds for the three files.
    pub tls_mode: Option<TlsMode>,
    pub root_certificate: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub target_session: TargetSession,
    /// `options` of the startup packet.
    pub options: Option<String>,
    pub application_name: Option<String>,
    pub client_encoding: Option<String>,
    /// Without it, the pool's own `connect_timeout`; zero is no limit.
    pub connect_timeout: Option<Duration>,
    pub channel_binding: ChannelBinding,
    pub host_order: HostOrder,
    /// Without it, `tcp_keepalive`; zero is off.
    pub keepalive: Option<Duration>,
    /// Without it, `tcp_user_timeout`; zero is the kernel's own limit.
    pub user_timeout: Option<Duration>,
}

impl ServerUrl {
    /// Reads `postgresql://…`, `postgres://…` or `name=value …`. Relative paths start in `directory`.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, UrlError> {
        let pairs = match uri::strip_scheme(text) {
            Some(rest) => uri::pairs(rest)?,
            None if text.contains("://") => return Err(UrlError::Scheme),
            None if text.contains('=') => keywords::pairs(text)?,
            None => return Err(UrlError::NotAUrl),
        };
        parameters::understand(pairs, directory)
    }
}

/// For logs and the console: who and where, with stars for the password.
impl fmt::Display for ServerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("postgresql://")?;
        if let Some(user) = &self.user {
            formatter.write_str(user)?;
            if self.password.is_some() {
                formatter.write_str(":***")?;
            }
            formatter.write_str("@")?;
        }
        for (position, server) in self.servers.iter().enumerate() {
            if position > 0 {
                formatter.write_str(",")?;
            }
            server.fmt(formatter)?;
        }
        match &self.database {
            Some(database) => write!(formatter, "/{database}"),
            None => Ok(()),
        }
    }
}

/// libpq's `target_session_attrs`: which of several servers will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetSession {
    #[default]
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

/// libpq's `channel_binding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    Disable,
    #[default]
    Prefer,
    Require,
}

/// libpq's `load_balance_hosts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostOrder {
    /// As written.
    #[default]
    Disable,
    /// A new order for each connection.
    Random,
}

#[cfg(test)]
mod tests;
