//! From a configuration to the directory that logins look into.

use std::collections::HashMap;
use std::sync::Arc;

use crate::auth::scram::SCRAM_ITERATIONS_DEFAULT;
use crate::auth::{Mock, StandIn, Verifier};
use crate::config::{ChannelBinding, Config, Database, Disk, HostOrder, ServerUrl, TargetSession};
use crate::net::tls::{ClientTls, ServerTls, TlsFileError};
use crate::plan::Patterns;
use crate::pool::target::{Reread, SessionAttrs};
use crate::relay::directory::{AuthQuery, DatabaseEntry, Directory, ReplicaEntries, ReplicaEntry};
use crate::session::login::{BindingRule, ServerSecret};

/// Makes the directory. Certificates and keys are read here.
///
/// # Errors
/// A certificate or key that cannot be used.
pub(super) fn directory(config: &Arc<Config>, mock_secret: [u8; 32]) -> Result<Directory, TlsFileError> {
    let mut databases = HashMap::new();
    for (name, database) in &config.databases {
        databases.insert(name.clone(), Arc::new(entry(config, database)?));
    }
    let wildcard = config
        .wildcard
        .as_ref()
        .map(|database| entry(config, database))
        .transpose()?;
    let users = users(config);
    let in_file = config.auth.users_file.iter().flat_map(|file| file.users.keys());
    let names = in_file.chain(config.users.keys()).cloned().collect();
    let resolver = Arc::clone(config);
    let query = config.auth.query.as_ref();
    Ok(Directory {
        mock: mock(mock_secret, &users, query.is_some()),
        databases,
        wildcard: wildcard.map(Arc::new),
        users,
        names,
        method: config.auth.method,
        hba: config.auth.hba.as_ref().map(|hba| Arc::clone(&hba.rules)),
        auth_query: query.map(|query| AuthQuery {
            sql: Arc::clone(&query.sql),
            user: query.user.clone(),
            cache: query.cache,
        }),
        tls: Arc::new(ClientTls::build(&config.tls)?),
        keepalive: config.keepalive(),
        admin_users: config.admin_users.clone(),
        stats_users: config.stats_users.clone(),
        max_clients: config.max_clients,
        login_timeout: config.pool_settings("", "").client_login_timeout,
        settings: Box::new(move |database, user| resolver.pool_settings(database, user)),
        log_slow: config.log_slow_queries.unwrap_or_default(),
        rows: config
            .rows()
            .into_iter()
            .map(|row| (row.key, row.value, row.default, row.changeable))
            .collect(),
    })
}

fn users(config: &Config) -> HashMap<String, Option<Verifier>> {
    let from_file = config.auth.users_file.iter().flat_map(|file| &file.users);
    let mut users: HashMap<_, _> = from_file
        .map(|(name, verifier)| (name.clone(), verifier.clone()))
        .collect();
    for (name, user) in &config.users {
        // A section that sets pool sizes alone says nothing about the password: a server may be asked.
        if user.verifier.is_some() {
            users.insert(name.clone(), user.verifier.clone());
        }
    }
    users
}

/// Unknown users look as most of the known ones do; where servers are asked, as those of PostgreSQL do until one is known.
/// Depends on nothing but the users, so that a reload changes nothing about it.
fn mock(secret: [u8; 32], users: &HashMap<String, Option<Verifier>>, is_asked: bool) -> Mock {
    let mut looks: HashMap<(StandIn, u32), usize> = HashMap::new();
    for verifier in users.values().flatten() {
        let look = match verifier {
            Verifier::Scram(verifier) => (StandIn::Scram, verifier.iterations),
            Verifier::Md5(_) => (StandIn::Md5, SCRAM_ITERATIONS_DEFAULT),
            Verifier::Plain(_) => (StandIn::Plain, SCRAM_ITERATIONS_DEFAULT),
        };
        *looks.entry(look).or_default() += 1;
    }
    let usual = looks
        .into_iter()
        .max_by_key(|((stand_in, iterations), count)| (*count, *stand_in == StandIn::Scram, *iterations));
    let default = (StandIn::Scram, SCRAM_ITERATIONS_DEFAULT);
    let (stand_in, iterations) = usual.filter(|_| !is_asked).map_or(default, |(look, _)| look);
    Mock::new(secret)
        .with_iterations(iterations)
        .with_stand_in(stand_in)
}

fn entry(config: &Arc<Config>, database: &Database) -> Result<DatabaseEntry, TlsFileError> {
    let again = database.clone();
    let mut entry = server(config, &database.url, move || again.url_again(&Disk).ok())?;
    let Some(replicas) = &database.replicas else {
        return Ok(entry);
    };
    let mut servers = Vec::new();
    for replica in &replicas.servers {
        let (again, directory) = (replica.clone(), database.directory.clone());
        let again = move || again.url_again(&directory, &Disk).ok();
        servers.push(ReplicaEntry {
            server: server(config, &replica.url, again)?,
            weight: replica.weight,
        });
    }
    entry.replicas = Some(Box::new(ReplicaEntries {
        servers,
        rules: replicas.rules,
        health: replicas.health,
        functions: Patterns::new(
            replicas.read_only_functions.iter().map(String::as_str),
            replicas.write_functions.iter().map(String::as_str),
        ),
    }));
    Ok(entry)
}

/// One server. `again` reads its URL where it came from.
fn server(
    config: &Arc<Config>,
    url: &ServerUrl,
    again: impl Fn() -> Option<ServerUrl> + Send + Sync + 'static,
) -> Result<DatabaseEntry, TlsFileError> {
    let mut parameters = Vec::new();
    let mut add = |name: &str, value: &Option<String>| {
        parameters.extend(value.iter().map(|value| (name.to_owned(), value.clone())));
    };
    add("options", &url.options);
    add("application_name", &url.application_name);
    add("client_encoding", &url.client_encoding);
    let users = Arc::clone(config);
    let reread = Reread(Arc::new(move |user: &str| {
        if let Some(password) = again()?.password {
            return Some(ServerSecret::Plain(password));
        }
        stored_secret(&users.users.get(user)?.verifier_again(&Disk)?)
    }));
    Ok(DatabaseEntry {
        hosts: url.servers.clone(),
        shuffled: url.host_order == HostOrder::Random,
        tls: Arc::new(ServerTls::build(&config.server_tls(url))?),
        keepalive: config.server_keepalive(url),
        database: url.database.clone(),
        user: url.user.clone(),
        parameters,
        session_attrs: session_attrs(url.target_session),
        binding_rule: binding_rule(url.channel_binding),
        secret: url
            .password
            .clone()
            .map_or_else(|| listed_secret(config, url.user.as_deref()), ServerSecret::Plain),
        reread: Some(reread),
        replicas: None,
    })
}

/// A URL with a user and no password: what is stored about that user may do.
fn listed_secret(config: &Config, user: Option<&str>) -> ServerSecret {
    let stored = user.and_then(|user| config.verifier(user));
    stored.and_then(stored_secret).unwrap_or_default()
}

/// From a SCRAM verifier alone nobody can log in.
pub(super) fn stored_secret(verifier: &Verifier) -> Option<ServerSecret> {
    match verifier {
        Verifier::Plain(password) => Some(ServerSecret::Plain(password.clone())),
        Verifier::Md5(secret) => Some(ServerSecret::Md5(secret.clone())),
        Verifier::Scram(_) => None,
    }
}

fn binding_rule(wanted: ChannelBinding) -> BindingRule {
    match wanted {
        ChannelBinding::Disable => BindingRule::Disable,
        ChannelBinding::Prefer => BindingRule::Prefer,
        ChannelBinding::Require => BindingRule::Require,
    }
}

fn session_attrs(wanted: TargetSession) -> SessionAttrs {
    match wanted {
        TargetSession::Any => SessionAttrs::Any,
        TargetSession::ReadWrite => SessionAttrs::ReadWrite,
        TargetSession::ReadOnly => SessionAttrs::ReadOnly,
        TargetSession::Primary => SessionAttrs::Primary,
        TargetSession::Standby => SessionAttrs::Standby,
        TargetSession::PreferStandby => SessionAttrs::PreferStandby,
    }
}
