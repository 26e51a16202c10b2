//! From a configuration to the directory that logins look into.

use std::collections::HashMap;
use std::sync::Arc;

use crate::auth::mock::StandIn;
use crate::auth::scram::SCRAM_ITERATIONS_DEFAULT;
use crate::auth::{Mock, Verifier};
use crate::config::{ChannelBinding, Config, Database, Disk, HostOrder, TargetSession};
use crate::net::tls::{ClientTls, ServerTls, TlsFileError};
use crate::pool::target::{Reread, SessionAttrs};
use crate::relay::directory::{AuthQuery, DatabaseEntry, Directory};
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
    let resolver = Arc::clone(config);
    let query = config.auth.query.as_ref();
    Ok(Directory {
        mock: mock(mock_secret, &users),
        databases,
        wildcard: wildcard.map(Arc::new),
        users,
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
        // A section that sets pool sizes alone says nothing about the password.
        if user.verifier.is_some() || !users.contains_key(name) {
            users.insert(name.clone(), user.verifier.clone());
        }
    }
    users
}

/// Unknown users are asked as most of the known ones are.
fn mock(secret: [u8; 32], users: &HashMap<String, Option<Verifier>>) -> Mock {
    let known = || users.values().flatten();
    let iterations = known().find_map(|verifier| match verifier {
        Verifier::Scram(verifier) => Some(verifier.iterations),
        Verifier::Plain(_) | Verifier::Md5(_) => None,
    });
    let has_scram = iterations.is_some() || known().next().is_none();
    let stand_in = if has_scram { StandIn::Scram } else { StandIn::Md5 };
    Mock::new(secret)
        .with_iterations(iterations.unwrap_or(SCRAM_ITERATIONS_DEFAULT))
        .with_stand_in(stand_in)
}

fn entry(config: &Config, database: &Database) -> Result<DatabaseEntry, TlsFileError> {
    let url = &database.url;
    let mut parameters = Vec::new();
    let mut add = |name: &str, value: &Option<String>| {
        parameters.extend(value.iter().map(|value| (name.to_owned(), value.clone())));
    };
    add("options", &url.options);
    add("application_name", &url.application_name);
    add("client_encoding", &url.client_encoding);
    let again = database.clone();
    let reread = Reread(Arc::new(move || {
        let url = again.url_again(&Disk).ok()?;
        url.password.map(ServerSecret::Plain)
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
    })
}

/// A URL with a user and no password: what is stored about that user may do.
fn listed_secret(config: &Config, user: Option<&str>) -> ServerSecret {
    match user.and_then(|user| config.verifier(user)) {
        Some(Verifier::Plain(password)) => ServerSecret::Plain(password.clone()),
        Some(Verifier::Md5(secret)) => ServerSecret::Md5(secret.clone()),
        Some(Verifier::Scram(_)) | None => ServerSecret::None,
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
