//! Host-based authentication: which connection must prove what. The first rule that matches decides.
//!
//! Source: PostgreSQL's `src/backend/libpq/hba.c` (`check_hba`, `check_db`).

mod parse;
mod token;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;

use super::demand::Demand;
use super::text::FileError;

/// The rules of a file, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hba {
    rules: Vec<Rule>,
}

impl Hba {
    /// Reads a whole file in the format of `pg_hba.conf`.
    ///
    /// # Errors
    /// Every line that cannot be understood or not be honoured: a rule that is skipped might let somebody in.
    pub fn parse(text: &str) -> Result<Self, Vec<FileError>> {
        parse::rules(text).map(|rules| Self { rules })
    }

    /// The first rule that matches; without one nobody comes in.
    #[must_use]
    pub fn decide(&self, connection: &HbaConnection<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.matches(connection))
    }

    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

/// What is known of a connection when it has sent its startup message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HbaConnection<'a> {
    pub transport: Transport,
    pub database: &'a str,
    pub user: &'a str,
    pub target: Target,
}

/// How the client came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A Unix socket.
    Local,
    Plain(IpAddr),
    Tls(IpAddr),
}

/// What the client wants to be connected to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// A database; logical replication is one too.
    #[default]
    Database,
    /// Physical replication, which only the keyword `replication` matches.
    PhysicalReplication,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub line: usize,
    pub demand: Demand,
    pub certificate: CertificateDemand,
    pub(super) origin: Origin,
    pub(super) databases: Vec<DatabaseMatch>,
    pub(super) users: Vec<UserMatch>,
}

impl Rule {
    fn matches(&self, connection: &HbaConnection<'_>) -> bool {
        self.origin.matches(connection.transport)
            && self.databases.iter().any(|database| database.matches(connection))
            && self.users.iter().any(|user| user.matches(connection.user))
    }
}

/// What a rule demands of the client's certificate, on top of its method (`clientcert=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateDemand {
    #[default]
    None,
    /// A certificate that the configured authority signed.
    VerifyCa,
    /// And that names the user.
    VerifyFull,
}

/// The kind of connection and the addresses of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Local,
    Host(Addresses),
    HostSsl(Addresses),
    HostNoSsl(Addresses),
    /// `hostgssenc`: there is no such connection here.
    Never,
}

impl Origin {
    fn matches(&self, transport: Transport) -> bool {
        match (self, transport) {
            (Self::Local, Transport::Local) => true,
            (Self::Host(addresses), Transport::Plain(ip) | Transport::Tls(ip))
            | (Self::HostSsl(addresses), Transport::Tls(ip))
            | (Self::HostNoSsl(addresses), Transport::Plain(ip)) => addresses.contain(ip),
            (Self::Local | Self::Host(_) | Self::HostSsl(_) | Self::HostNoSsl(_) | Self::Never, _) => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Addresses {
    All,
    Net(IpNet),
}

impl Addresses {
    fn contain(&self, ip: IpAddr) -> bool {
        match self {
            Self::All => true,
            // An IPv4 client of a socket that serves both families is an IPv4 client.
            Self::Net(net) => net.contains(&ip.to_canonical()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DatabaseMatch {
    All,
    SameUser,
    Replication,
    Name(String),
}

impl DatabaseMatch {
    fn matches(&self, connection: &HbaConnection<'_>) -> bool {
        match (connection.target, self) {
            (Target::PhysicalReplication, Self::Replication) | (Target::Database, Self::All) => true,
            (Target::Database, Self::SameUser) => connection.database == connection.user,
            (Target::Database, Self::Name(name)) => connection.database == name,
            (Target::Database, Self::Replication) | (Target::PhysicalReplication, _) => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UserMatch {
    All,
    Name(String),
}

impl UserMatch {
    fn matches(&self, user: &str) -> bool {
        match self {
            Self::All => true,
            Self::Name(name) => name == user,
        }
    }
}
