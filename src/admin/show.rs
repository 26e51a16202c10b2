//! The tables that SHOW shows: their columns, and the rows made of what the process knows.
//!
//! Columns, their order and their types are fixed: monitoring tools read some of them by position.

use std::time::SystemTime;

use crate::net::addr::ClientAddr;
use crate::pool::mail::{ClientRow, ServerRow};
use crate::protocol::startup::Replication;

use super::moment;
use super::stats::Totals;
use super::table::{Column, Row, Type, Value};

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    Clients,
    Config,
    Databases,
    Pins,
    Pools,
    Replicas,
    Routes,
    Servers,
    Stats,
    StatsAverages,
    StatsTotals,
    Version,
}

impl Show {
    /// Finds a table by its name, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        ALL.iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, show)| *show)
    }

    #[must_use]
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Clients | Self::Servers => SOCKETS,
            Self::Config => CONFIG,
            Self::Databases => DATABASES,
            Self::Pins => PINS,
            Self::Pools => POOLS,
            Self::Replicas => REPLICAS,
            Self::Routes => ROUTES,
            Self::Stats => STATS,
            Self::StatsAverages => STATS_AVERAGES,
            Self::StatsTotals => STATS_TOTALS,
            Self::Version => VERSION,
        }
    }
}

/// A pool, as `SHOW POOLS` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolRow<'a> {
    pub database: &'a str,
    pub user: &'a str,
    /// Clients that do not wait.
    pub clients: u32,
    pub waiting: u32,
    /// Cancel requests on their way to a server.
    pub cancelling: u32,
    pub active: u32,
    pub idle: u32,
    /// Being made ready for the next client.
    pub tested: u32,
    pub connecting: u32,
    /// How long the first in the queue has waited; microseconds.
    pub max_wait: u64,
    pub pool_mode: &'static str,
    pub load_balance_hosts: Option<&'static str>,
}

impl PoolRow<'_> {
    #[must_use]
    pub fn row(&self) -> Row {
        let (wait, wait_us) = split_wait(self.max_wait);
        vec![
            self.database.into(),
            self.user.into(),
            self.clients.into(),
            self.waiting.into(),
            self.cancelling.into(),
            // A cancel request is sent at once: none waits for its turn.
            0_u32.into(),
            self.active.into(),
            self.cancelling.into(),
            0_u32.into(),
            self.idle.into(),
            // There is no state between idle and tested.
            0_u32.into(),
            self.tested.into(),
            self.connecting.into(),
            wait,
            wait_us,
            self.pool_mode.into(),
            self.load_balance_hosts.into(),
        ]
    }
}

/// A database, as `SHOW DATABASES` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatabaseRow<'a> {
    pub name: &'a str,
    pub host: Option<&'a str>,
    pub port: u16,
    /// Its name on the server.
    pub database: &'a str,
    pub user: Option<&'a str>,
    pub pool_size: u32,
    pub min_pool_size: u32,
    pub reserve_pool_size: u32,
    /// Seconds.
    pub server_lifetime: u64,
    pub pool_mode: &'static str,
    pub load_balance_hosts: Option<&'static str>,
    pub connections_max: u32,
    pub connections: u32,
    pub clients_max: u32,
    pub clients: u32,
    pub is_paused: bool,
}

impl DatabaseRow<'_> {
    #[must_use]
    pub fn row(&self) -> Row {
        vec![
            self.name.into(),
            self.host.into(),
            u32::from(self.port).into(),
            self.database.into(),
            self.user.into(),
            self.pool_size.into(),
            self.min_pool_size.into(),
            self.reserve_pool_size.into(),
            self.server_lifetime.into(),
            self.pool_mode.into(),
            self.load_balance_hosts.into(),
            self.connections_max.into(),
            self.connections.into(),
            self.clients_max.into(),
            self.clients.into(),
            self.is_paused.into(),
            false.into(),
        ]
    }
}

/// A client as `SHOW CLIENTS` shows it. `started` is the clock's zero.
#[must_use]
pub fn client(client: &ClientRow, started: SystemTime) -> Row {
    let (wait, wait_us) = split_wait(client.wait);
    let (address, port) = match client.address {
        ClientAddr::Tcp(address) => (address.ip().to_string(), address.port()),
        ClientAddr::Unix { .. } => (UNIX.to_owned(), 0),
    };
    let (local_address, local_port) = client.local.map_or_else(
        || (UNIX.to_owned(), 0),
        |local| (local.ip().to_string(), local.port()),
    );
    let process_id = match client.address {
        ClientAddr::Unix { pid, .. } => pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0),
        ClientAddr::Tcp(_) => 0,
    };
    vec![
        "C".into(),
        (*client.user).into(),
        (*client.database).into(),
        replication(client.replication).into(),
        client.state.into(),
        address.into(),
        u32::from(port).into(),
        local_address.into(),
        u32::from(local_port).into(),
        moment::show(started, client.connected_at).into(),
        moment::show(started, client.request_at).into(),
        wait,
        wait_us,
        false.into(),
        pointer(client.id).into(),
        client.server.map_or_else(String::new, pointer).into(),
        process_id.into(),
        tls(client.is_tls).into(),
        (*client.application_name).into(),
        u64::try_from(client.prepared_statements)
            .unwrap_or(u64::MAX)
            .into(),
        client.id.into(),
    ]
}

/// A server connection as `SHOW SERVERS` shows it.
#[must_use]
pub fn server(server: &ServerRow, started: SystemTime) -> Row {
    let (local_address, local_port) = server.local.map_or_else(
        || (UNIX.to_owned(), 0),
        |local| (local.ip().to_string(), local.port()),
    );
    vec![
        "S".into(),
        (*server.user).into(),
        (*server.database).into(),
        replication(server.replication).into(),
        server.state.into(),
        (*server.address).into(),
        u32::from(server.port).into(),
        local_address.into(),
        u32::from(local_port).into(),
        moment::show(started, server.connected_at).into(),
        moment::show(started, server.request_at.max(server.connected_at)).into(),
        0_u32.into(),
        0_u32.into(),
        server.close_needed.into(),
        pointer(server.id).into(),
        server.client.map_or_else(String::new, pointer).into(),
        server.process_id.into(),
        tls(server.is_tls).into(),
        (*server.application_name).into(),
        u64::try_from(server.prepared_statements)
            .unwrap_or(u64::MAX)
            .into(),
        server.id.into(),
    ]
}

/// A client that keeps its server connection, as `SHOW PINS` shows it: a row for each reason.
pub fn pins(client: &ClientRow, started: SystemTime) -> impl Iterator<Item = Row> {
    client.pins.iter().map(move |reason| {
        vec![
            (*client.database).into(),
            (*client.user).into(),
            client.id.into(),
            client.server.map_or(Value::Null, Value::Number),
            reason.as_str().into(),
            moment::show(started, client.pinned_at).into(),
            (*client.application_name).into(),
        ]
    })
}

/// A database as `SHOW STATS` shows it.
#[must_use]
pub fn stats(database: &str, totals: &Totals, averages: &Totals) -> Row {
    let mut row = counts(database, totals);
    row.extend(averages.0.map(Value::Number));
    row
}

/// The same with one kind of figures.
#[must_use]
pub fn counts(database: &str, counts: &Totals) -> Row {
    let mut row = vec![database.into()];
    row.extend(counts.0.map(Value::Number));
    row
}

/// What `SHOW VERSION` says: tools read the number that comes first as that of the columns they may expect.
#[must_use]
pub fn version() -> String {
    format!(
        "PgBouncer {COLUMNS_VERSION} (pgweir {})",
        env!("CARGO_PKG_VERSION")
    )
}

/// What `SHOW HELP` says.
pub const HELP: &str = "
\tSHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|PINS|REPLICAS|ROUTES|VERSION
\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES
\tRELOAD
\tPAUSE [<db>]
\tRESUME [<db>]
\tKILL_CLIENT <client_id>
\tSHUTDOWN
\tSHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS";

/// The version whose columns the tables have.
pub const COLUMNS_VERSION: &str = "1.25.2";

/// Whole seconds, and the rest in microseconds.
fn split_wait(micros: u64) -> (Value, Value) {
    ((micros / 1_000_000).into(), (micros % 1_000_000).into())
}

/// Names a client or a server connection; of all of them no two have the same.
fn pointer(id: u64) -> String {
    format!("{id:#x}")
}

fn tls(is_tls: bool) -> &'static str {
    if is_tls { "TLS" } else { "" }
}

fn replication(replication: Replication) -> &'static str {
    match replication {
        Replication::None => "none",
        Replication::Logical => "logical",
        Replication::Physical => "physical",
    }
}

/// The address of either end of a Unix socket.
const UNIX: &str = "unix";

const ALL: &[(&str, Show)] = &[
    ("clients", Show::Clients),
    ("config", Show::Config),
    ("databases", Show::Databases),
    ("pins", Show::Pins),
    ("pools", Show::Pools),
    ("replicas", Show::Replicas),
    ("routes", Show::Routes),
    ("servers", Show::Servers),
    ("stats", Show::Stats),
    ("stats_averages", Show::StatsAverages),
    ("stats_totals", Show::StatsTotals),
    ("version", Show::Version),
];

const fn text(name: &'static str) -> Column {
    Column {
        name,
        kind: Type::Text,
    }
}

const fn int(name: &'static str) -> Column {
    Column {
        name,
        kind: Type::Int4,
    }
}

const fn numeric(name: &'static str) -> Column {
    Column {
        name,
        kind: Type::Numeric,
    }
}

const VERSION: &[Column] = &[text("version")];

const CONFIG: &[Column] = &[text("key"), text("value"), text("default"), text("changeable")];

const POOLS: &[Column] = &[
    text("database"),
    text("user"),
    int("cl_active"),
    int("cl_waiting"),
    int("cl_active_cancel_req"),
    int("cl_waiting_cancel_req"),
    int("sv_active"),
    int("sv_active_cancel"),
    int("sv_being_canceled"),
    int("sv_idle"),
    int("sv_used"),
    int("sv_tested"),
    int("sv_login"),
    int("maxwait"),
    int("maxwait_us"),
    text("pool_mode"),
    text("load_balance_hosts"),
];

const SOCKETS: &[Column] = &[
    text("type"),
    text("user"),
    text("database"),
    text("replication"),
    text("state"),
    text("addr"),
    int("port"),
    text("local_addr"),
    int("local_port"),
    text("connect_time"),
    text("request_time"),
    int("wait"),
    int("wait_us"),
    int("close_needed"),
    text("ptr"),
    text("link"),
    int("remote_pid"),
    text("tls"),
    text("application_name"),
    int("prepared_statements"),
    int("id"),
];

const DATABASES: &[Column] = &[
    text("name"),
    text("host"),
    int("port"),
    text("database"),
    text("force_user"),
    int("pool_size"),
    int("min_pool_size"),
    int("reserve_pool_size"),
    int("server_lifetime"),
    text("pool_mode"),
    text("load_balance_hosts"),
    int("max_connections"),
    int("current_connections"),
    int("max_client_connections"),
    int("current_client_connections"),
    int("paused"),
    int("disabled"),
];

const PINS: &[Column] = &[
    text("database"),
    text("user"),
    int("client_id"),
    int("server_id"),
    text("reason"),
    text("since"),
    text("application_name"),
];

const REPLICAS: &[Column] = &[
    text("database"),
    text("server"),
    text("role"),
    text("takes_reads"),
    int("weight"),
    int("timeline"),
    text("lsn"),
    numeric("lag_bytes"),
    numeric("lag_us"),
    int("sv_active"),
    int("sv_idle"),
];

const ROUTES: &[Column] = &[
    text("database"),
    text("user"),
    text("search_path"),
    text("role"),
    text("reason"),
    text("statement"),
];

const STATS: &[Column] = &[
    text("database"),
    numeric("total_server_assignment_count"),
    numeric("total_xact_count"),
    numeric("total_query_count"),
    numeric("total_received"),
    numeric("total_sent"),
    numeric("total_xact_time"),
    numeric("total_query_time"),
    numeric("total_wait_time"),
    numeric("total_client_parse_count"),
    numeric("total_server_parse_count"),
    numeric("total_bind_count"),
    numeric("avg_server_assignment_count"),
    numeric("avg_xact_count"),
    numeric("avg_query_count"),
    numeric("avg_recv"),
    numeric("avg_sent"),
    numeric("avg_xact_time"),
    numeric("avg_query_time"),
    numeric("avg_wait_time"),
    numeric("avg_client_parse_count"),
    numeric("avg_server_parse_count"),
    numeric("avg_bind_count"),
];

const STATS_TOTALS: &[Column] = &[
    text("database"),
    numeric("server_assignment_count"),
    numeric("xact_count"),
    numeric("query_count"),
    numeric("bytes_received"),
    numeric("bytes_sent"),
    numeric("xact_time"),
    numeric("query_time"),
    numeric("wait_time"),
    numeric("client_parse_count"),
    numeric("server_parse_count"),
    numeric("bind_count"),
];

const STATS_AVERAGES: &[Column] = &[
    text("database"),
    numeric("server_assignment_count"),
    numeric("xact_count"),
    numeric("query_count"),
    numeric("bytes_received"),
    numeric("bytes_sent"),
    numeric("xact_time"),
    numeric("query_time"),
    numeric("wait_time"),
    numeric("avg_client_parse_count"),
    numeric("avg_server_parse_count"),
    numeric("avg_bind_count"),
];

#[cfg(test)]
mod tests;
