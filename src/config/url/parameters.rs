//! What the parameters of a connection string mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::auth::Secret;
use crate::config::suggest;
use crate::config::units;
use crate::config::url::error::UrlError;
use crate::config::url::{ChannelBinding, HostOrder, ServerUrl, TargetSession};
use crate::net::{ServerAddr, TlsMode};

/// Pairs in the order they were written; where a name stands twice, the last one counts, as in libpq.
pub(super) fn understand(pairs: Vec<(String, String)>, directory: &Path) -> Result<ServerUrl, UrlError> {
    let mut reading = Reading::new(directory);
    for (name, value) in pairs {
        reading.take(&name, value)?;
    }
    reading.finish()
}

/// The URL as far as it has been read. Hosts and ports wait for each other.
struct Reading<'a> {
    url: ServerUrl,
    hosts: String,
    ports: String,
    fallback_application_name: Option<String>,
    keepalives: Keepalives,
    directory: &'a Path,
}

/// libpq's `keepalives`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keepalives {
    Off,
    On,
}

impl<'a> Reading<'a> {
    fn new(directory: &'a Path) -> Self {
        let url = ServerUrl {
            servers: Vec::new(),
            user: None,
            password: None,
            database: None,
            tls_mode: None,
            root_certificate: None,
            certificate: None,
            key: None,
            target_session: TargetSession::default(),
            options: None,
            application_name: None,
            client_encoding: None,
            connect_timeout: None,
            channel_binding: ChannelBinding::default(),
            host_order: HostOrder::default(),
            keepalive: None,
            user_timeout: None,
        };
        Self {
            url,
            hosts: String::new(),
            ports: String::new(),
            fallback_application_name: None,
            keepalives: Keepalives::On,
            directory,
        }
    }

    fn take(&mut self, name: &str, value: String) -> Result<(), UrlError> {
        let url = &mut self.url;
        match name {
            "host" => self.hosts = value,
            "port" => self.ports = value,
            "user" => url.user = text("user", value)?,
            "password" => url.password = text("password", value)?.map(Secret::from),
            "dbname" => url.database = text("dbname", value)?,
            "sslmode" => url.tls_mode = word("sslmode", &value, &TLS_MODES)?,
            "sslrootcert" if value == "system" => return Err(unsupported(name)),
            "sslrootcert" => url.root_certificate = file(self.directory, "sslrootcert", value)?,
            "sslcert" => url.certificate = file(self.directory, "sslcert", value)?,
            "sslkey" => url.key = file(self.directory, "sslkey", value)?,
            "target_session_attrs" => {
                url.target_session =
                    word("target_session_attrs", &value, &TARGET_SESSIONS)?.unwrap_or_default();
            }
            "options" => url.options = text("options", value)?,
            "application_name" => url.application_name = text("application_name", value)?,
            "fallback_application_name" => {
                self.fallback_application_name = text("fallback_application_name", value)?;
            }
            "client_encoding" => url.client_encoding = text("client_encoding", value)?,
            "channel_binding" => {
                url.channel_binding = word("channel_binding", &value, &CHANNEL_BINDINGS)?.unwrap_or_default();
            }
            "load_balance_hosts" => {
                url.host_order = word("load_balance_hosts", &value, &HOST_ORDERS)?.unwrap_or_default();
            }
            _ => return self.take_time(name, &value),
        }
        Ok(())
    }

    /// Numbers, and words that say what is done anyway.
    fn take_time(&mut self, name: &str, value: &str) -> Result<(), UrlError> {
        let url = &mut self.url;
        match name {
            // libpq: zero, negative or not given waits without end.
            "connect_timeout" => {
                let given = if value.trim_start().starts_with('-') {
                    "0"
                } else {
                    value
                };
                url.connect_timeout = Some(Duration::from_secs(number(
                    "connect_timeout",
                    given,
                    SECONDS_MAX,
                )?));
            }
            "keepalives" => {
                let on = number("keepalives", value, 1)? == 1;
                self.keepalives = if on { Keepalives::On } else { Keepalives::Off };
            }
            // Zero is the system's own default in libpq; here that is `tcp_keepalive`.
            "keepalives_idle" => {
                let seconds = number("keepalives_idle", value, KEEPALIVE_SECONDS_MAX)?;
                url.keepalive = (seconds > 0).then_some(Duration::from_secs(seconds));
            }
            "tcp_user_timeout" => {
                let milliseconds = number("tcp_user_timeout", value, SECONDS_MAX * 1000)?;
                url.user_timeout = (milliseconds > 0).then_some(Duration::from_millis(milliseconds));
            }
            "gssencmode" if matches!(value, "disable" | "prefer") => {}
            "sslnegotiation" if value == "postgres" => {}
            "sslcompression" if value == "0" => {}
            _ if UNSUPPORTED.iter().any(|(known, _)| *known == name) => return Err(unsupported(name)),
            _ => {
                let nearest = suggest::nearest(name, NAMES);
                let parameter = name.escape_debug().take(NAME_SHOWN_MAX).collect();
                return Err(UrlError::Unknown { parameter, nearest });
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<ServerUrl, UrlError> {
        self.url.servers = servers(&self.hosts, &self.ports)?;
        if self.url.application_name.is_none() {
            self.url.application_name = self.fallback_application_name;
        }
        if self.keepalives == Keepalives::Off {
            self.url.keepalive = Some(Duration::ZERO);
        }
        if self.url.certificate.is_some() != self.url.key.is_some() {
            return Err(UrlError::Contradiction(
                "the URL's sslcert and sslkey must be given together",
            ));
        }
        if self.url.channel_binding == ChannelBinding::Require && self.url.tls_mode == Some(TlsMode::Disable)
        {
            return Err(UrlError::Contradiction(
                "the URL's channel_binding=require needs TLS, and its sslmode=disable forbids it",
            ));
        }
        Ok(self.url)
    }
}

/// Hosts and ports side by side: one port serves for all, an empty one is the default.
fn servers(hosts: &str, ports: &str) -> Result<Vec<ServerAddr>, UrlError> {
    let hosts: Vec<&str> = hosts.split(',').collect();
    let ports: Vec<&str> = ports.split(',').collect();
    if hosts.len() > SERVERS_MAX {
        return Err(UrlError::ServerCount);
    }
    if ports.len() != 1 && ports.len() != hosts.len() {
        return Err(UrlError::PortCount {
            hosts: hosts.len(),
            ports: ports.len(),
        });
    }
    let ports = ports.iter().cycle();
    hosts
        .into_iter()
        .zip(ports)
        .map(|(name, number)| Ok(ServerAddr::new(host(name)?, port(number)?)))
        .collect()
}

/// The name, checked; the usual socket directory where it is empty.
fn host(name: &str) -> Result<&str, UrlError> {
    if name.is_empty() {
        return Ok(SOCKET_DIRECTORY);
    }
    if name.starts_with('@') {
        return Err(UrlError::AbstractSocket);
    }
    let is_foreign = |letter: char| letter == '@' || letter.is_whitespace() || letter.is_control();
    if !name.starts_with('/') && name.contains(is_foreign) {
        return Err(UrlError::HostSign);
    }
    Ok(name)
}

fn port(number: &str) -> Result<u16, UrlError> {
    let number = number.trim();
    if number.is_empty() {
        return Ok(PORT);
    }
    match number.parse() {
        Ok(0) | Err(_) => Err(UrlError::Port),
        Ok(port) => Ok(port),
    }
}

/// An empty value is one that is not given, as in libpq.
fn text(parameter: &'static str, value: String) -> Result<Option<String>, UrlError> {
    if value.len() > VALUE_BYTES_MAX || value.contains('\0') {
        return Err(UrlError::Name { parameter });
    }
    Ok(Some(value).filter(|value| !value.is_empty()))
}

fn file(directory: &Path, parameter: &'static str, value: String) -> Result<Option<PathBuf>, UrlError> {
    Ok(text(parameter, value)?.map(|path| directory.join(path)))
}

fn word<T: Copy>(parameter: &'static str, value: &str, words: &[(&str, T)]) -> Result<Option<T>, UrlError> {
    if value.is_empty() {
        return Ok(None);
    }
    let found = words
        .iter()
        .find(|(word, _)| *word == value)
        .map(|(_, meaning)| *meaning);
    found.map(Some).ok_or_else(|| UrlError::Word {
        parameter,
        words: units::alternatives(words.iter().map(|(word, _)| *word)),
    })
}

fn number(parameter: &'static str, value: &str, most: u64) -> Result<u64, UrlError> {
    let number = value.trim().parse().ok().filter(|number| *number <= most);
    number.ok_or(UrlError::Number {
        parameter,
        least: 0,
        most,
    })
}

fn unsupported(name: &str) -> UrlError {
    let advice = UNSUPPORTED
        .iter()
        .find(|(known, _)| *known == name)
        .map_or("", |(_, advice)| *advice);
    UrlError::Unsupported {
        parameter: name.to_owned(),
        advice,
    }
}

/// `sslmode`.
pub(in crate::config) const TLS_MODES: [(&str, TlsMode); 6] = [
    ("disable", TlsMode::Disable),
    ("allow", TlsMode::Allow),
    ("prefer", TlsMode::Prefer),
    ("require", TlsMode::Require),
    ("verify-ca", TlsMode::VerifyCa),
    ("verify-full", TlsMode::VerifyFull),
];

const TARGET_SESSIONS: [(&str, TargetSession); 6] = [
    ("any", TargetSession::Any),
    ("read-write", TargetSession::ReadWrite),
    ("read-only", TargetSession::ReadOnly),
    ("primary", TargetSession::Primary),
    ("standby", TargetSession::Standby),
    ("prefer-standby", TargetSession::PreferStandby),
];

const CHANNEL_BINDINGS: [(&str, ChannelBinding); 3] = [
    ("disable", ChannelBinding::Disable),
    ("prefer", ChannelBinding::Prefer),
    ("require", ChannelBinding::Require),
];

const HOST_ORDERS: [(&str, HostOrder); 2] = [("disable", HostOrder::Disable), ("random", HostOrder::Random)];

/// Names that are understood, for suggestions.
const NAMES: [&str; 20] = [
    "host",
    "port",
    "user",
    "password",
    "dbname",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "target_session_attrs",
    "options",
    "application_name",
    "fallback_application_name",
    "client_encoding",
    "connect_timeout",
    "channel_binding",
    "load_balance_hosts",
    "keepalives",
    "keepalives_idle",
    "tcp_user_timeout",
];

/// libpq's other names, each with what to do instead.
const UNSUPPORTED: [(&str, &str); 26] = [
    ("hostaddr", "write the address as the host"),
    ("passfile", "write password=… or ${file:PATH}"),
    ("service", "write the service's settings here"),
    ("servicefile", "write the service's settings here"),
    (
        "require_auth",
        "take it out; channel_binding=require or sslmode=verify-full show who the server is",
    ),
    (
        "replication",
        "clients that start replication ask for it themselves",
    ),
    (
        "sslrootcert",
        "name a file: there is no store of system certificates here",
    ),
    ("sslcrl", "revocation lists are not read"),
    ("sslcrldir", "revocation lists are not read"),
    (
        "sslpassword",
        "store the key without a password, readable by pgweir alone",
    ),
    (
        "sslcertmode",
        "leave sslcert and sslkey out where no certificate shall be sent",
    ),
    ("sslsni", "the host name is always sent"),
    (
        "sslnegotiation",
        "servers are asked for TLS in PostgreSQL's own way, sslnegotiation=postgres",
    ),
    ("sslcompression", "TLS is never compressed"),
    ("sslkeylogfile", "keys of TLS connections are never written out"),
    ("ssl_min_protocol_version", "TLS 1.2 is the least"),
    (
        "ssl_max_protocol_version",
        "TLS 1.3 is used wherever the server has it",
    ),
    (
        "min_protocol_version",
        "the protocol version is agreed on with the server",
    ),
    (
        "max_protocol_version",
        "the protocol version is agreed on with the server",
    ),
    (
        "requirepeer",
        "the owner of a Unix socket is not checked; use sslmode=verify-full over TCP",
    ),
    ("krbsrvname", "Kerberos is not supported"),
    ("gsslib", "Kerberos is not supported"),
    (
        "gssencmode",
        "Kerberos is not supported; gssencmode=disable is understood",
    ),
    ("gssdelegation", "Kerberos is not supported"),
    (
        "keepalives_interval",
        "take it out; keepalives_idle and tcp_user_timeout say when a dead server is noticed",
    ),
    (
        "keepalives_count",
        "take it out; keepalives_idle and tcp_user_timeout say when a dead server is noticed",
    ),
];

/// PostgreSQL's port.
const PORT: u16 = 5432;

/// Where the packages of Debian, Ubuntu and Red Hat put the server's socket, and their libpq looks for it.
const SOCKET_DIRECTORY: &str = "/var/run/postgresql";

/// Of one URL. They are tried one after the other, each with its own timeout.
pub(super) const SERVERS_MAX: usize = 32;

/// Of one value: all of them must fit into a startup packet of 10,000 bytes (MAX_STARTUP_PACKET_LENGTH in pqcomm.h).
pub(super) const VALUE_BYTES_MAX: usize = 4096;

/// PostgreSQL's own limit for a time, 2^31 milliseconds.
const SECONDS_MAX: u64 = i32::MAX as u64 / 1000;

/// Linux refuses more (MAX_TCP_KEEPIDLE in include/net/tcp.h).
const KEEPALIVE_SECONDS_MAX: u64 = 32_767;

/// Of an unknown name, in characters: a slip of the pen must not print a page, nor a password.
const NAME_SHOWN_MAX: usize = 32;
