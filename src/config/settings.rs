//! The keys of the file: which there are, how each is read, and what is said of those that are not.

use crate::config::document::{Reader, Written};
use crate::config::{Config, LogFormat, LogLevel};
use crate::net::ListenAddr;
use crate::net::addr::PORT_DEFAULT;
use crate::pool::settings::{PoolMode, PoolOverrides};

/// Reads one key of the top level. False if there is none of that name.
pub(super) fn read_top(reader: &mut Reader<'_>, config: &mut Config, written: &Written<'_>) -> bool {
    match written.name {
        "listen" => set(&mut config.listen, listen(reader, written)),
        "http_listen" => set(&mut config.http_listen, http_listen(reader, written)),
        "workers" => set(
            &mut config.workers,
            reader.count(written, 0..=WORKERS_MAX).map(|count| count as usize),
        ),
        "max_clients" => set(&mut config.max_clients, reader.count(written, 1..=CLIENTS_MAX)),
        "admin_users" => set(&mut config.admin_users, reader.names(written)),
        "stats_users" => set(&mut config.stats_users, reader.names(written)),
        "log_level" => set(&mut config.log_level, reader.word(written, &LOG_LEVELS)),
        "log_format" => set(&mut config.log_format, reader.word(written, &LOG_FORMATS)),
        "drain_timeout" => set(&mut config.drain_timeout, reader.duration(written)),
        "tcp_keepalive" => set(&mut config.tcp_keepalive, reader.duration(written)),
        "tcp_user_timeout" => set(&mut config.tcp_user_timeout, reader.duration(written)),
        "log_slow_queries" => {
            let limit = reader
                .duration(written)
                .map(|limit| Some(limit).filter(|limit| !limit.is_zero()));
            set(&mut config.log_slow_queries, limit);
        }
        "max_memory" => {
            let limit = reader
                .size(written)
                .map(|limit| Some(limit).filter(|limit| *limit > 0));
            set(&mut config.max_memory, limit);
        }
        _ => return read_pool(reader, &mut config.pool, written),
    }
    reader.remember(written);
    true
}

/// Reads one pool setting, which may stand at three levels. False if there is none of that name.
pub(super) fn read_pool(reader: &mut Reader<'_>, over: &mut PoolOverrides, written: &Written<'_>) -> bool {
    match written.name {
        "pool_mode" => over.pool_mode = reader.word(written, &POOL_MODES),
        "pool_size" => over.pool_size = reader.count(written, 1..=COUNT_MAX),
        "min_pool_size" => over.min_pool_size = reader.count(written, 0..=COUNT_MAX),
        "reserve_pool_size" => over.reserve_pool_size = reader.count(written, 0..=COUNT_MAX),
        "reserve_pool_timeout" => over.reserve_pool_timeout = reader.duration(written),
        "pool_timeout" => over.pool_timeout = reader.duration(written),
        "statement_timeout" => over.statement_timeout = reader.duration(written),
        "idle_timeout" => over.idle_timeout = reader.duration(written),
        "connect_query" => over.connect_query = reader.text(written).map(Into::into),
        "transaction_timeout" => over.transaction_timeout = reader.duration(written),
        "idle_transaction_timeout" => over.idle_transaction_timeout = reader.duration(written),
        "client_idle_timeout" => over.client_idle_timeout = reader.duration(written),
        "connect_timeout" => over.connect_timeout = reader.duration(written),
        "client_login_timeout" => over.client_login_timeout = reader.duration(written),
        "server_lifetime" => over.server_lifetime = reader.duration(written),
        "prepared_statements" => over.prepared_statements = reader.count(written, 0..=COUNT_MAX),
        "max_db_connections" => over.max_db_connections = reader.count(written, 0..=COUNT_MAX),
        "max_user_connections" => over.max_user_connections = reader.count(written, 0..=COUNT_MAX),
        "max_db_clients" => over.max_db_clients = reader.count(written, 0..=CLIENTS_MAX),
        "max_user_clients" => over.max_user_clients = reader.count(written, 0..=CLIENTS_MAX),
        _ => return false,
    }
    reader.remember(written);
    true
}

/// What to say of a name that this version knows but does not take where it stands.
pub(super) fn not_here(name: &str) -> Option<String> {
    if let Some((_, instead)) = NOT_AVAILABLE.iter().find(|(key, _)| *key == name) {
        return Some(format!("\"{name}\" is not available in this version: {instead}"));
    }
    if let Some((_, meant)) = OTHER_NAMES.iter().find(|(key, _)| *key == name) {
        return Some(format!("unknown key \"{name}\": it is called {meant} here"));
    }
    if TOP_KEYS.contains(&name) {
        return Some(format!(
            "\"{name}\" may stand only at the top level, before the first [section]"
        ));
    }
    if super::replicas::REPLICA_KEYS.contains(&name) {
        return Some(format!("\"{name}\" may stand only under [databases.NAME]"));
    }
    if POOL_KEYS.contains(&name) {
        return Some(format!(
            "\"{name}\" may stand only at the top level, under [databases.NAME] and under [users.NAME]"
        ));
    }
    None
}

/// Keeps the old value where the new one could not be read.
pub(super) fn set<T>(setting: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *setting = value;
    }
}

fn listen(reader: &mut Reader<'_>, written: &Written<'_>) -> Option<Vec<ListenAddr>> {
    let entries = reader.names(written)?;
    if entries.is_empty() {
        reader.problem(written, "must name at least one address");
        return None;
    }
    if entries.len() > LISTEN_MAX {
        reader.problem(written, format!("must have at most {LISTEN_MAX} entries"));
        return None;
    }
    let tcp: Vec<_> = entries
        .iter()
        .filter(|entry| !entry.starts_with('/'))
        .map(|entry| ListenAddr::parse(entry, 0))
        .collect();
    let unix_port = tcp
        .iter()
        .flatten()
        .map(ListenAddr::port)
        .find(|port| *port != 0)
        .unwrap_or(PORT_DEFAULT);
    let mut addresses = Vec::with_capacity(entries.len());
    for entry in &entries {
        match ListenAddr::parse(entry, unix_port) {
            Ok(address) if addresses.contains(&address) => {
                reader.problem(written, format!("has \"{entry}\" twice"));
            }
            Ok(address) => addresses.push(address),
            Err(error) => reader.problem(written, format!("has \"{entry}\": {error}")),
        }
    }
    (addresses.len() == entries.len()).then_some(addresses)
}

/// One address, or `0`, which is none.
fn http_listen(reader: &mut Reader<'_>, written: &Written<'_>) -> Option<Option<ListenAddr>> {
    let entry = reader.text(written)?;
    if entry.trim() == OFF {
        return Some(None);
    }
    match ListenAddr::parse(entry.trim(), 0) {
        Ok(address @ ListenAddr::Tcp { .. }) => Some(Some(address)),
        Ok(ListenAddr::Unix { .. }) => {
            reader.problem(written, "must be a TCP address, as in 127.0.0.1:9127");
            None
        }
        Err(error) => {
            reader.problem(written, format!("has \"{entry}\": {error}"));
            None
        }
    }
}

/// What turns an address off, as it turns off durations and sizes.
pub(super) const OFF: &str = "0";

/// The keys of the top level that stand nowhere else.
pub(super) const TOP_KEYS: [&str; 13] = [
    "listen",
    "http_listen",
    "workers",
    "max_clients",
    "admin_users",
    "stats_users",
    "log_level",
    "log_format",
    "drain_timeout",
    "tcp_keepalive",
    "tcp_user_timeout",
    "log_slow_queries",
    "max_memory",
];

/// The settings of a pool.
pub(super) const POOL_KEYS: [&str; 20] = [
    "pool_mode",
    "pool_size",
    "min_pool_size",
    "reserve_pool_size",
    "reserve_pool_timeout",
    "pool_timeout",
    "statement_timeout",
    "idle_timeout",
    "connect_query",
    "transaction_timeout",
    "idle_transaction_timeout",
    "client_idle_timeout",
    "connect_timeout",
    "client_login_timeout",
    "server_lifetime",
    "prepared_statements",
    "max_db_connections",
    "max_user_connections",
    "max_db_clients",
    "max_user_clients",
];

/// The sections.
pub(super) const SECTIONS: [&str; 5] = ["auth", "users", "tls", "server_tls", "databases"];

pub(super) const LOG_LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

pub(super) const LOG_FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

const POOL_MODES: [(&str, PoolMode); 3] = [
    ("session", PoolMode::Session),
    ("transaction", PoolMode::Transaction),
    ("statement", PoolMode::Statement),
];

/// What other versions know, and what happens in this one.
const NOT_AVAILABLE: [(&str, &str); 6] = [
    (
        "shard_key",
        "a database is on one server; give each shard a [databases.NAME] of its own",
    ),
    (
        "shard_function",
        "a database is on one server; give each shard a [databases.NAME] of its own",
    ),
    ("cross_shard_writes", "a database is on one server; take it out"),
    (
        "gather_limit",
        "answers are passed on as they come and never gathered; take it out",
    ),
    (
        "shards",
        "a database is on one server; give each shard a [databases.NAME] of its own",
    ),
    ("tables", "a database is on one server; take it out"),
];

/// Names that operators bring along from other poolers.
const OTHER_NAMES: [(&str, &str); 22] = [
    ("default_pool_size", "\"pool_size\""),
    ("max_client_conn", "\"max_clients\""),
    ("query_timeout", "\"statement_timeout\""),
    ("query_wait_timeout", "\"pool_timeout\""),
    ("server_idle_timeout", "\"idle_timeout\""),
    ("server_connect_timeout", "\"connect_timeout\""),
    ("idle_transaction_session_timeout", "\"idle_transaction_timeout\""),
    ("max_prepared_statements", "\"prepared_statements\""),
    ("max_db_client_connections", "\"max_db_clients\""),
    ("max_user_client_connections", "\"max_user_clients\""),
    ("listen_addr", "\"listen\", as in [\"127.0.0.1:6432\"]"),
    ("listen_port", "\"listen\", as in [\"127.0.0.1:6432\"]"),
    ("unix_socket_dir", "\"listen\", as in [\"/var/run/postgresql\"]"),
    ("auth_type", "\"method\" in [auth]"),
    ("auth_file", "\"users_file\" in [auth]"),
    ("auth_hba_file", "\"hba_file\" in [auth]"),
    ("auth_query", "\"query\" in [auth]"),
    ("auth_user", "\"query_user\" in [auth]"),
    ("client_tls_sslmode", "\"mode\" in [tls]"),
    ("server_tls_sslmode", "\"mode\" in [server_tls]"),
    ("tcp_keepidle", "\"tcp_keepalive\""),
    ("verbose", "\"log_level\""),
];

/// More threads than any machine has CPUs would be a slip of the pen.
const WORKERS_MAX: u32 = 1024;

/// Each client is a socket, and Linux gives a process at most this many (fs.nr_open).
const CLIENTS_MAX: u32 = 1 << 20;

/// Of server connections and of statements kept: PostgreSQL's own limit for max_connections is 262,143 (MAX_BACKENDS).
const COUNT_MAX: u32 = 262_143;

/// Of addresses to listen on: each is opened on every worker.
const LISTEN_MAX: usize = 64;
