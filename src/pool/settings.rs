//! What an operator may set for a pool.

use std::sync::Arc;
use std::time::Duration;

/// When a server connection goes back to its pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolMode {
    /// When the client leaves.
    Session,
    /// When the client's transaction ends.
    #[default]
    Transaction,
    /// After each statement; transaction blocks are refused.
    Statement,
}

impl PoolMode {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Statement => "statement",
        }
    }
}

/// The settings of one pool. A `Duration` of zero is off wherever the name ends in `_timeout` or `_lifetime`; a count of zero
/// is no limit, `prepared_statements = 0` excepted (pass through).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    pub pool_mode: PoolMode,
    pub pool_size: u32,
    pub min_pool_size: u32,
    pub reserve_pool_size: u32,
    pub reserve_pool_timeout: Duration,
    pub pool_timeout: Duration,
    pub statement_timeout: Duration,
    pub idle_timeout: Duration,
    pub connect_query: Option<Arc<str>>,
    pub transaction_timeout: Duration,
    pub idle_transaction_timeout: Duration,
    pub client_idle_timeout: Duration,
    pub connect_timeout: Duration,
    pub client_login_timeout: Duration,
    pub server_lifetime: Duration,
    /// Statements kept per server connection, least recently used out first.
    pub prepared_statements: u32,
    pub max_db_connections: u32,
    pub max_user_connections: u32,
    pub max_db_clients: u32,
    pub max_user_clients: u32,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            pool_mode: PoolMode::Transaction,
            pool_size: 20,
            min_pool_size: 0,
            reserve_pool_size: 0,
            reserve_pool_timeout: Duration::from_secs(5),
            pool_timeout: Duration::from_secs(5),
            statement_timeout: Duration::ZERO,
            idle_timeout: Duration::from_secs(600),
            connect_query: None,
            transaction_timeout: Duration::ZERO,
            idle_transaction_timeout: Duration::ZERO,
            client_idle_timeout: Duration::ZERO,
            connect_timeout: Duration::from_secs(5),
            client_login_timeout: Duration::from_secs(15),
            server_lifetime: Duration::from_secs(3600),
            prepared_statements: 200,
            max_db_connections: 0,
            max_user_connections: 0,
            max_db_clients: 0,
            max_user_clients: 0,
        }
    }
}

/// The same settings as they stand at one level of the file: what is absent is inherited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolOverrides {
    pub pool_mode: Option<PoolMode>,
    pub pool_size: Option<u32>,
    pub min_pool_size: Option<u32>,
    pub reserve_pool_size: Option<u32>,
    pub reserve_pool_timeout: Option<Duration>,
    pub pool_timeout: Option<Duration>,
    pub statement_timeout: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub connect_query: Option<Arc<str>>,
    pub transaction_timeout: Option<Duration>,
    pub idle_transaction_timeout: Option<Duration>,
    pub client_idle_timeout: Option<Duration>,
    pub connect_timeout: Option<Duration>,
    pub client_login_timeout: Option<Duration>,
    pub server_lifetime: Option<Duration>,
    pub prepared_statements: Option<u32>,
    pub max_db_connections: Option<u32>,
    pub max_user_connections: Option<u32>,
    pub max_db_clients: Option<u32>,
    pub max_user_clients: Option<u32>,
}

impl PoolSettings {
    /// These settings with what one level says on top: apply top level, then database, then user.
    #[must_use]
    pub fn overridden_by(mut self, over: &PoolOverrides) -> Self {
        macro_rules! take {
            ($($name:ident),* $(,)?) => { $( if let Some(value) = over.$name.clone() { self.$name = value; } )* };
        }
        take!(
            pool_mode,
            pool_size,
            min_pool_size,
            reserve_pool_size,
            reserve_pool_timeout,
            pool_timeout,
            statement_timeout,
            idle_timeout,
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
        );
        if over.connect_query.is_some() {
            self.connect_query.clone_from(&over.connect_query);
        }
        self
    }
}
