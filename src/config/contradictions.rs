//! Settings that are right each by itself and wrong together.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::auth::Method;
use crate::config::document::{Place, Reader};
use crate::config::{ChannelBinding, Config, Database};
use crate::net::{ClientTlsSettings, ListenAddr, ServerAddr, ServerTlsSettings, TlsMode};
use crate::pool::settings::{PoolOverrides, PoolSettings};

/// Notes all of them.
pub(super) fn note(reader: &mut Reader<'_>, config: &Config) {
    note_pools(reader, config);
    note_auth(reader, config);
    note_client_tls(reader, &config.tls);
    note_pair(
        reader,
        "server_tls",
        [&config.server_tls.cert, &config.server_tls.key],
    );
    if config.databases.is_empty() && config.wildcard.is_none() && !has_databases(reader) {
        let message = "there is no database: write [databases.NAME] with a url";
        reader.problem_at(Place::START, message.to_owned());
    }
    for (name, database) in &config.databases {
        note_server_tls(reader, config, name, database);
        note_query_user(reader, config, name, database);
        note_replica_users(reader, name, database);
    }
    if let Some(database) = &config.wildcard {
        note_server_tls(reader, config, "*", database);
        note_query_user(reader, config, "*", database);
        note_replica_users(reader, "*", database);
    }
}

/// Whether some stand in the file, right or wrong.
fn has_databases(reader: &Reader<'_>) -> bool {
    reader.has_failed("databases") || reader.has_place_under("databases.")
}

/// A pool that must always hold more connections than it may.
pub(super) fn note_pools(reader: &mut Reader<'_>, config: &Config) {
    let top = PoolSettings::default().overridden_by(&config.pool);
    note_pool(reader, "", &top, &config.pool);
    for (name, database) in &config.databases {
        note_pool(reader, &format!("databases.{name}."), &top, &database.pool);
    }
    if let Some(database) = &config.wildcard {
        note_pool(reader, "databases.*.", &top, &database.pool);
    }
    for (name, user) in &config.users {
        note_pool(reader, &format!("users.{name}."), &top, &user.pool);
    }
}

fn note_pool(reader: &mut Reader<'_>, section: &str, top: &PoolSettings, over: &PoolOverrides) {
    let PoolSettings {
        pool_size,
        min_pool_size,
        ..
    } = top.clone().overridden_by(over);
    let written = over.pool_size.is_some() || over.min_pool_size.is_some();
    if written && min_pool_size > pool_size {
        let message =
            format!("\"min_pool_size\" ({min_pool_size}) is larger than \"pool_size\" ({pool_size})");
        let (least, most) = (format!("{section}min_pool_size"), format!("{section}pool_size"));
        reader.contradiction(&[&least, &most, "min_pool_size", "pool_size"], message);
    }
}

fn note_auth(reader: &mut Reader<'_>, config: &Config) {
    let auth = &config.auth;
    if auth.query.is_none() && reader.place("auth.query_user").is_some() {
        let message = "\"query_user\" says who runs \"query\", and there is no \"query\"".to_owned();
        reader.contradiction(&["auth.query_user", "auth.query"], message);
    }
    match (auth.method, &auth.hba) {
        (Method::Hba, None) => {
            let message = "method = \"hba\" needs \"hba_file\"".to_owned();
            reader.contradiction(&["auth.method", "auth.hba_file"], message);
        }
        (Method::Hba, Some(_)) | (_, None) => {}
        (_, Some(_)) => {
            let message = "\"hba_file\" is read only with method = \"hba\"".to_owned();
            reader.contradiction(&["auth.hba_file", "auth.method"], message);
        }
    }
    if auth.method == Method::Cert && config.tls.ca.is_none() {
        let message =
            "method = \"cert\" needs \"ca\" in [tls], to know whose certificates are good".to_owned();
        reader.contradiction(&["auth.method", "tls.ca"], message);
    }
    let asks_password = matches!(auth.method, Method::Password | Method::Md5 | Method::ScramSha256);
    let has_passwords = auth.users_file.is_some()
        || auth.query.is_some()
        || config.users.values().any(|user| user.secret.is_some());
    let unread = reader.has_failed("users") || reader.has_failed_under("users.");
    if asks_password && !has_passwords && !unread {
        let message = "nobody can log in: write [users.NAME] with a password, \
                       or \"users_file\" or \"query\" in [auth], or \
                       method = \"trust\"";
        reader.contradiction(
            &["auth", "auth.method", "auth.users_file", "auth.query"],
            message.to_owned(),
        );
    }
}

fn note_client_tls(reader: &mut Reader<'_>, tls: &ClientTlsSettings) {
    note_pair(reader, "tls", [&tls.cert, &tls.key]);
    if tls.mode != TlsMode::Disable && tls.cert.is_none() && tls.key.is_none() {
        let message = format!(
            "mode = \"{}\" needs \"cert\" and \"key\", to offer TLS to clients",
            tls.mode.as_str()
        );
        reader.contradiction(&["tls.mode", "tls.cert", "tls.key"], message);
    }
    let is_complete = tls.cert.is_some() && tls.key.is_some() && (tls.ca.is_some() || !tls.mode.verifies());
    if is_complete && let Some(problem) = reader.sources.files.client_tls_problem(tls) {
        reader.contradiction(&["tls.cert", "tls.ca"], problem);
    }
    if tls.mode.verifies() && tls.ca.is_none() {
        let message = format!(
            "mode = \"{}\" needs \"ca\", to know whose certificates are good",
            tls.mode.as_str()
        );
        reader.contradiction(&["tls.mode", "tls.ca"], message);
    }
}

fn note_pair(reader: &mut Reader<'_>, section: &str, [cert, key]: [&Option<PathBuf>; 2]) {
    if cert.is_some() != key.is_some() {
        let message = "\"cert\" and \"key\" must be given together".to_owned();
        reader.contradiction(&[&format!("{section}.cert"), &format!("{section}.key")], message);
    }
}

/// The auth query is run as somebody: by name, or as the user of the URL.
fn note_query_user(reader: &mut Reader<'_>, config: &Config, name: &str, database: &Database) {
    let Some(query) = &config.auth.query else { return };
    if query.user.is_none() && database.url.user.is_none() {
        let message = format!("\"query\" needs \"query_user\": the URL of database \"{name}\" has no user");
        reader.contradiction(&["auth.query", "auth.query_user"], message);
    }
}

/// Servers are asked how they are by the users of their URLs; clients' own may be passed through by nobody else.
fn note_replica_users(reader: &mut Reader<'_>, name: &str, database: &Database) {
    let Some(replicas) = &database.replicas else {
        return;
    };
    let (url, list) = (
        format!("databases.{name}.url"),
        format!("databases.{name}.read_replicas"),
    );
    if reader.has_failed_under(&list) {
        return;
    }
    let message = |what: &str| {
        format!(
            "\"read_replicas\" needs a user in {what}: somebody has to ask each server how it is, before any client comes"
        )
    };
    if database.url.user.is_none() {
        reader.contradiction(&[&url, &list], message("\"url\""));
    } else if replicas.servers.iter().any(|replica| replica.url.user.is_none()) {
        reader.contradiction(&[&list], message("each of its URLs"));
    }
}

fn note_server_tls(reader: &mut Reader<'_>, config: &Config, name: &str, database: &Database) {
    let url = &database.url;
    if url
        .servers
        .iter()
        .all(|server| matches!(server, ServerAddr::Unix { .. }))
    {
        return;
    }
    let tls = config.server_tls(url);
    let ServerTlsSettings { mode, ca, cert, key } = &tls;
    let path = format!("databases.{name}.url");
    if mode.verifies() && ca.is_none() {
        let message = format!(
            "sslmode={} needs the certificate of who signed the server's: \
             sslrootcert in the URL, or \"ca\" in [server_tls]",
            mode.as_str()
        );
        reader.contradiction(&[&path, "server_tls.mode", "server_tls.ca"], message);
    } else if cert.is_some() == key.is_some() {
        note_server_files(reader, &path, database, &tls);
    }
    if *mode == TlsMode::Disable && url.channel_binding == ChannelBinding::Require {
        let message =
            "channel_binding=require in the URL needs TLS, and mode = \"disable\" in [server_tls] forbids it";
        reader.contradiction(&[&path, "server_tls.mode"], message.to_owned());
    }
}

/// Files that can be read and hold something else than they should.
fn note_server_files(reader: &mut Reader<'_>, path: &str, database: &Database, tls: &ServerTlsSettings) {
    if let Some(problem) = reader.sources.files.server_tls_problem(tls) {
        let own = database.url.root_certificate.is_some() || database.url.certificate.is_some();
        let paths = if own {
            [path, path]
        } else {
            ["server_tls.ca", "server_tls.cert"]
        };
        reader.contradiction(&paths, problem);
    }
}

pub(super) use crate::relay::directory::is_console;

/// Whether only this machine reaches it.
pub(super) fn is_local(listen: &ListenAddr) -> bool {
    match listen {
        ListenAddr::Unix { .. } => true,
        ListenAddr::Tcp { host, .. } => {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}
