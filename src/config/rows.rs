//! The settings as the console shows them.

use crate::config::settings::OFF;
use crate::config::{Config, units};
use crate::pool::settings::PoolSettings;

/// One setting of the top level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: &'static str,
    pub value: String,
    pub default: String,
    /// Whether a reload can change it.
    pub changeable: bool,
}

/// In the order of the file that documents them all.
pub(super) fn rows(config: &Config) -> Vec<Row> {
    let defaults = Config::default();
    let top = top_values(config).into_iter().zip(top_values(&defaults));
    let pool = PoolSettings::default().overridden_by(&config.pool);
    let pool = pool_values(pool)
        .into_iter()
        .zip(pool_values(PoolSettings::default()));
    top.chain(pool)
        .map(|((key, value), (_, default))| Row {
            key,
            value,
            default,
            changeable: !matches!(key, "listen" | "http_listen" | "workers"),
        })
        .collect()
}

fn top_values(config: &Config) -> [(&'static str, String); 13] {
    let off = || OFF.to_owned();
    let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    [
        ("listen", listen.join(", ")),
        (
            "http_listen",
            config.http_listen.as_ref().map_or_else(off, ToString::to_string),
        ),
        ("workers", config.workers.to_string()),
        ("max_clients", config.max_clients.to_string()),
        ("admin_users", config.admin_users.join(", ")),
        ("stats_users", config.stats_users.join(", ")),
        ("log_level", config.log_level.as_str().to_owned()),
        ("log_format", config.log_format.as_str().to_owned()),
        ("drain_timeout", units::show_duration(config.drain_timeout)),
        ("tcp_keepalive", units::show_duration(config.tcp_keepalive)),
        ("tcp_user_timeout", units::show_duration(config.tcp_user_timeout)),
        (
            "log_slow_queries",
            config.log_slow_queries.map_or_else(off, units::show_duration),
        ),
        ("max_memory", config.max_memory.map_or_else(off, units::show_size)),
    ]
}

/// Taken apart by name, so that a new setting cannot be forgotten here.
fn pool_values(settings: PoolSettings) -> [(&'static str, String); 20] {
    let PoolSettings {
        pool_mode,
        pool_size,
        min_pool_size,
        reserve_pool_size,
        reserve_pool_timeout,
        pool_timeout,
        statement_timeout,
        idle_timeout,
        connect_query,
        transaction_timeout,
        idle_transaction_timeout,
        client_idle_timeout,
        connect_timeout,
        client_login_timeout,
        server_lifetime,
        prepared_statements,
        max_db_connections,
        max_user_connections,
        max_db_clients,
        max_user_clients,
    } = settings;
    [
        ("pool_mode", pool_mode.as_str().to_owned()),
        ("pool_size", pool_size.to_string()),
        ("min_pool_size", min_pool_size.to_string()),
        ("reserve_pool_size", reserve_pool_size.to_string()),
        ("reserve_pool_timeout", units::show_duration(reserve_pool_timeout)),
        ("pool_timeout", units::show_duration(pool_timeout)),
        ("statement_timeout", units::show_duration(statement_timeout)),
        ("idle_timeout", units::show_duration(idle_timeout)),
        (
            "connect_query",
            connect_query.as_deref().unwrap_or_default().to_owned(),
        ),
        ("transaction_timeout", units::show_duration(transaction_timeout)),
        (
            "idle_transaction_timeout",
            units::show_duration(idle_transaction_timeout),
        ),
        ("client_idle_timeout", units::show_duration(client_idle_timeout)),
        ("connect_timeout", units::show_duration(connect_timeout)),
        ("client_login_timeout", units::show_duration(client_login_timeout)),
        ("server_lifetime", units::show_duration(server_lifetime)),
        ("prepared_statements", prepared_statements.to_string()),
        ("max_db_connections", max_db_connections.to_string()),
        ("max_user_connections", max_user_connections.to_string()),
        ("max_db_clients", max_db_clients.to_string()),
        ("max_user_clients", max_user_clients.to_string()),
    ]
}
