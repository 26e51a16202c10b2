//! What the operator wrote, and what it means.
//!
//! The text is parsed into a document that knows where each value stands, the document is checked, and a [`Config`] comes
//! out, or every problem at once. Nothing here opens a socket or starts anything: files and the environment are read
//! through [`Files`] and [`Environment`], both handed in.

mod check;
mod contradictions;
mod document;
mod environment;
mod expand;
mod files;
#[doc(hidden)]
pub mod fuzz;
mod problem;
mod replicas;
mod rows;
mod secret;
mod sections;
mod settings;
mod suggest;
mod units;
mod url;

pub mod cli;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::auth::{Hba, Method, Verifier};
use crate::net::addr::PORT_DEFAULT;
use crate::net::{ClientTlsSettings, Keepalive, ListenAddr, ServerTlsSettings, TlsMode};
use crate::pool::settings::{PoolOverrides, PoolSettings};
use crate::topology::{Health, Rules};

pub use environment::Environment;
pub use files::{Disk, Files};
pub use problem::{Position, Problem, Problems};
pub use rows::Row;
pub use secret::{SecretError, SecretSource};
pub use url::{ChannelBinding, HostOrder, ServerUrl, TargetSession, UrlError};

/// All settings of one run of pgweir, defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where clients connect: `host:port`, or a directory for a Unix socket. Not changed by a reload.
    pub listen: Vec<ListenAddr>,
    /// Where metrics and health are served over HTTP. Not changed by a reload.
    pub http_listen: Option<ListenAddr>,
    /// Event-loop threads; 0 is one for each CPU this process may use. Not changed by a reload.
    pub workers: usize,
    pub max_clients: u32,
    /// Who may use the console.
    pub admin_users: Vec<String>,
    /// Who may only SHOW there.
    pub stats_users: Vec<String>,
    pub log_level: LogLevel,
    pub log_format: LogFormat,
    /// How long clients have to end their transactions at shutdown.
    pub drain_timeout: Duration,
    /// Silence after which the kernel asks whether a peer is alive; zero is never.
    pub tcp_keepalive: Duration,
    /// How long sent data may stay unacknowledged; zero is the kernel's own limit.
    pub tcp_user_timeout: Duration,
    /// Statements that take longer are logged.
    pub log_slow_queries: Option<Duration>,
    /// Bytes above which new work waits or is refused.
    pub max_memory: Option<u64>,
    /// Pool settings as they stand at the top level.
    pub pool: PoolOverrides,
    pub auth: AuthSettings,
    pub users: BTreeMap<String, User>,
    /// TLS between clients and pgweir. Where no mode is written it is `prefer` with a `cert`, and `disable` without.
    pub tls: ClientTlsSettings,
    /// TLS between pgweir and servers, where a URL does not say otherwise.
    pub server_tls: ServerTlsSettings,
    pub databases: BTreeMap<String, Database>,
    /// The server for every name that is not in `databases`.
    pub wildcard: Option<Database>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![ListenAddr::Tcp {
                host: "127.0.0.1".to_owned(),
                port: PORT_DEFAULT,
            }],
            http_listen: None,
            workers: 0,
            max_clients: 10_000,
            admin_users: Vec::new(),
            stats_users: Vec::new(),
            log_level: LogLevel::Info,
            log_format: LogFormat::Text,
            drain_timeout: Duration::from_secs(30),
            tcp_keepalive: Duration::from_secs(30),
            tcp_user_timeout: Duration::from_secs(60),
            log_slow_queries: None,
            max_memory: None,
            pool: PoolOverrides::default(),
            auth: AuthSettings::default(),
            users: BTreeMap::new(),
            tls: ClientTlsSettings {
                mode: TlsMode::Disable,
                ..ClientTlsSettings::default()
            },
            server_tls: ServerTlsSettings::default(),
            databases: BTreeMap::new(),
            wildcard: None,
        }
    }
}

impl Config {
    /// Reads and checks the file at `path`. Flags win over the environment, which wins over the file.
    pub fn load(path: &Path, sources: &Sources<'_>) -> Result<Self, Problems> {
        check::file(path, sources)
    }

    /// The same for a file whose text is at hand. `path` is the name in messages, and its directory is where relative paths
    /// start.
    pub fn parse(path: &Path, text: &str, sources: &Sources<'_>) -> Result<Self, Problems> {
        check::text(path, text, sources)
    }

    /// The configuration of a run without a file: one database under the URL's own name, one user with the URL's own
    /// password. `origin` is what the URL came from, as messages name it: `--url` or `DATABASE_URL`.
    pub fn from_url(url: &str, origin: &str, sources: &Sources<'_>) -> Result<Self, Problems> {
        check::url(url, origin, sources)
    }

    /// The same with replicas of that database.
    pub fn from_urls(
        url: &str,
        origin: &str,
        replicas: &[String],
        sources: &Sources<'_>,
    ) -> Result<Self, Problems> {
        let mut config = check::url(url, origin, sources)?;
        let servers = check::replicas(replicas)?;
        for database in config.databases.values_mut().filter(|_| !servers.is_empty()) {
            database.replicas = Some(Box::new(Replicas {
                servers: servers.clone(),
                ..Replicas::default()
            }));
        }
        Ok(config)
    }

    /// The database that clients know under this name.
    #[must_use]
    pub fn database(&self, name: &str) -> Option<&Database> {
        self.databases.get(name).or(self.wildcard.as_ref())
    }

    /// What is set for this user's connections to this database: the most specific level wins.
    #[must_use]
    pub fn pool_settings(&self, database: &str, user: &str) -> PoolSettings {
        let mut settings = PoolSettings::default().overridden_by(&self.pool);
        if let Some(database) = self.database(database) {
            settings = settings.overridden_by(&database.pool);
        }
        if let Some(user) = self.users.get(user) {
            settings = settings.overridden_by(&user.pool);
        }
        settings
    }

    /// What is stored of this user's password: under `[users]`, else in the users file. An auth query is asked elsewhere.
    #[must_use]
    pub fn verifier(&self, user: &str) -> Option<&Verifier> {
        let inline = self.users.get(user).and_then(|user| user.verifier.as_ref());
        inline.or_else(|| self.auth.users_file.as_ref()?.users.get(user)?.as_ref())
    }

    /// Whether the user stands under `[users]` or in the users file.
    #[must_use]
    pub fn is_listed(&self, user: &str) -> bool {
        let in_file = || {
            self.auth
                .users_file
                .as_ref()
                .is_some_and(|file| file.users.contains_key(user))
        };
        self.users.contains_key(user) || in_file()
    }

    /// Whether any user is listed: then `trust` lets in those alone.
    #[must_use]
    pub fn lists_users(&self) -> bool {
        !self.users.is_empty()
            || self
                .auth
                .users_file
                .as_ref()
                .is_some_and(|file| !file.users.is_empty())
    }

    /// How clients that have silently gone are noticed.
    #[must_use]
    pub fn keepalive(&self) -> Keepalive {
        Keepalive {
            idle: self.tcp_keepalive,
            user_timeout: self.tcp_user_timeout,
        }
    }

    /// The same for servers: their URL may say otherwise.
    #[must_use]
    pub fn server_keepalive(&self, url: &ServerUrl) -> Keepalive {
        Keepalive {
            idle: url.keepalive.unwrap_or(self.tcp_keepalive),
            user_timeout: url.user_timeout.unwrap_or(self.tcp_user_timeout),
        }
    }

    /// TLS with the servers of this URL: what it says itself wins over `[server_tls]`.
    #[must_use]
    pub fn server_tls(&self, url: &ServerUrl) -> ServerTlsSettings {
        let section = &self.server_tls;
        // A certificate and its key come from one place.
        let own = url.certificate.is_some();
        let (cert, key) = if own {
            (&url.certificate, &url.key)
        } else {
            (&section.cert, &section.key)
        };
        ServerTlsSettings {
            mode: url.tls_mode.unwrap_or(section.mode),
            cert: cert.clone(),
            key: key.clone(),
            ca: url.root_certificate.clone().or_else(|| section.ca.clone()),
        }
    }

    /// Every setting of the top level, for the console. No secret is among them.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        rows::rows(self)
    }
}

/// Reads and checks a configuration file: what `pgweir check` does. The exit code is [`PROBLEMS_EXIT_CODE`] on problems.
pub fn check(path: &Path, sources: &Sources<'_>) -> Result<Config, Problems> {
    Config::load(path, sources)
}

/// What a configuration is made from besides its own text.
#[derive(Clone, Copy)]
#[expect(
    missing_debug_implementations,
    reason = "the environment holds secrets, and files are a trait object"
)]
pub struct Sources<'a> {
    pub environment: &'a Environment,
    pub files: &'a dyn Files,
    pub flags: &'a Flags,
}

/// Settings given on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub listen: Vec<String>,
    pub http_listen: Option<String>,
    pub workers: Option<u32>,
    pub log_level: Option<LogLevel>,
}

/// What is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl LogFormat {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// How clients prove who they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuthSettings {
    pub method: Method,
    pub users_file: Option<UsersFile>,
    pub hba: Option<HbaFile>,
    pub query: Option<AuthQuery>,
}

/// The users file, read.
#[derive(Clone, Debug, PartialEq)]
pub struct UsersFile {
    pub path: PathBuf,
    /// Without a verifier, the user exists and no password lets it in.
    pub users: BTreeMap<String, Option<Verifier>>,
}

/// The HBA file, read.
#[derive(Clone, Debug, PartialEq)]
pub struct HbaFile {
    pub path: PathBuf,
    pub rules: Arc<Hba>,
}

/// A query that asks a server for the secrets of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthQuery {
    pub sql: Arc<str>,
    /// Who runs it; without, the user of the database's URL.
    pub user: Option<String>,
    /// How long an answer is believed.
    pub cache: Duration,
}

/// One `[users.NAME]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct User {
    /// A password, or what PostgreSQL keeps of one.
    pub secret: Option<SecretSource>,
    /// The secret as it stood when the file was read.
    pub verifier: Option<Verifier>,
    pub pool: PoolOverrides,
}

impl User {
    /// The secret with the files it names read again: after a server refused it.
    #[must_use]
    pub fn verifier_again(&self, files: &dyn Files) -> Option<Verifier> {
        Verifier::parse(&self.secret.as_ref()?.text(files).ok()?)
    }
}

/// One `[databases.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    pub url: ServerUrl,
    /// The URL as it was written, to be read again when a file in it may have changed.
    pub source: SecretSource,
    pub pool: PoolOverrides,
    /// In a box: most have none.
    pub replicas: Option<Box<Replicas>>,
    /// Where relative paths of the URL start.
    pub directory: PathBuf,
}

/// The replicas of a database, and how they are used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replicas {
    pub servers: Vec<Replica>,
    pub rules: Rules,
    pub health: Health,
    /// Patterns of functions that are judged safe for a replica, whatever the catalog says.
    pub read_only_functions: Vec<String>,
    /// Patterns of functions that are judged to write.
    pub write_functions: Vec<String>,
}

/// One replica.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    pub url: ServerUrl,
    /// The URL as it was written.
    pub source: SecretSource,
    pub weight: u32,
}

impl Replica {
    /// The same of a replica; relative paths start in `directory`.
    pub fn url_again(&self, directory: &Path, files: &dyn Files) -> Result<ServerUrl, SecretError> {
        let text = self.source.text(files)?;
        ServerUrl::parse(&text, directory).map_err(SecretError::Url)
    }
}

impl Database {
    /// The URL with the files it names read again: for a reload, and after a server refused the password.
    pub fn url_again(&self, files: &dyn Files) -> Result<ServerUrl, SecretError> {
        let text = self.source.text(files)?;
        ServerUrl::parse(&text, &self.directory).map_err(SecretError::Url)
    }
}

/// `sysexits.h` calls it EX_CONFIG.
pub const PROBLEMS_EXIT_CODE: u8 = 78;

#[cfg(test)]
mod tests;
