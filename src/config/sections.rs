//! The sections of the file.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::auth::{FileError, Hba, Method, Verifier, users_file};
use crate::config::document::{Place, Reader, Written, entries};
use crate::config::replicas::{REPLICA_KEYS, ReplicaKeys};
use crate::config::settings::{self, POOL_KEYS, SECTIONS, TOP_KEYS, set};
use crate::config::url::TLS_MODES;
use crate::config::{
    AuthQuery, Config, Database, HbaFile, Position, SecretSource, ServerUrl, User, UsersFile, contradictions,
};
use crate::net::{ClientTlsSettings, ServerTlsSettings, TlsMode};
use crate::pool::settings::PoolOverrides;

/// Reads all of the file into `config`, which holds the defaults.
pub(super) fn read(reader: &mut Reader<'_>, config: &mut Config, document: &DeTable<'_>) {
    for written in entries(document, "") {
        match written.name {
            "auth" => auth(reader, config, &written),
            "users" => users(reader, config, &written),
            "tls" => config.tls = client_tls(reader, &written),
            "server_tls" => config.server_tls = server_tls(reader, &written),
            "databases" => databases(reader, config, &written),
            _ => {
                if !settings::read_top(reader, config, &written) {
                    let known: Vec<&str> = TOP_KEYS.into_iter().chain(POOL_KEYS).chain(SECTIONS).collect();
                    reader.unknown(&written, &known);
                }
            }
        }
    }
}

fn auth(reader: &mut Reader<'_>, config: &mut Config, section: &Written<'_>) {
    let Some(table) = reader.table(section) else {
        return;
    };
    reader.remember(section);
    let auth = &mut config.auth;
    let mut query = AuthQuery {
        sql: "".into(),
        user: None,
        cache: QUERY_CACHE,
    };
    for written in entries(table, "auth") {
        match written.name {
            "method" => set(
                &mut auth.method,
                reader.word(&written, &METHODS.map(|method| (method.as_str(), method))),
            ),
            "users_file" => auth.users_file = users_file(reader, &written),
            "hba_file" => auth.hba = hba_file(reader, &written),
            "query" => set(&mut query.sql, reader.name(&written).map(Into::into)),
            "query_user" => query.user = reader.name(&written),
            "query_cache" => set(&mut query.cache, reader.duration(&written)),
            _ => {
                reader.unknown(&written, &AUTH_KEYS);
                continue;
            }
        }
        reader.remember(&written);
    }
    auth.query = Some(query).filter(|query| !query.sql.is_empty());
}

fn users_file(reader: &mut Reader<'_>, written: &Written<'_>) -> Option<UsersFile> {
    let (path, text) = content(reader, written)?;
    match users_file::parse(&text) {
        Ok(entries) => {
            let users = entries
                .into_iter()
                .map(|entry| (entry.user, entry.verifier))
                .collect();
            Some(UsersFile { path, users })
        }
        Err(errors) => {
            file_errors(reader, written, &path, errors);
            None
        }
    }
}

fn hba_file(reader: &mut Reader<'_>, written: &Written<'_>) -> Option<HbaFile> {
    let (path, text) = content(reader, written)?;
    match Hba::parse(&text) {
        Ok(rules) => Some(HbaFile {
            path,
            rules: rules.into(),
        }),
        Err(errors) => {
            file_errors(reader, written, &path, errors);
            None
        }
    }
}

/// Each line that is wrong, under the name of its own file.
fn file_errors(reader: &mut Reader<'_>, written: &Written<'_>, path: &Path, errors: Vec<FileError>) {
    reader.fail(written);
    for FileError {
        line,
        column,
        message,
    } in errors
    {
        let place = Place::Named(path.display().to_string(), Position { line, column });
        reader.problem_at(place, message);
    }
}

fn content(reader: &mut Reader<'_>, written: &Written<'_>) -> Option<(PathBuf, String)> {
    let path = reader.path(written)?;
    let bytes = bytes(reader, written, &path)?;
    match String::from_utf8(bytes) {
        Ok(text) => Some((path, text)),
        Err(_) => {
            reader.problem(
                written,
                format!("names a file: \"{}\" is not UTF-8 text", path.display()),
            );
            None
        }
    }
}

fn bytes(reader: &mut Reader<'_>, written: &Written<'_>, path: &Path) -> Option<Vec<u8>> {
    match reader.sources.files.read(path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            reader.problem(
                written,
                format!("names a file: cannot read \"{}\": {error}", path.display()),
            );
            None
        }
    }
}

fn users(reader: &mut Reader<'_>, config: &mut Config, section: &Written<'_>) {
    let Some(table) = reader.table(section) else {
        return;
    };
    let known: Vec<&str> = ["password"].into_iter().chain(POOL_KEYS).collect();
    for named in entries(table, "users") {
        let Some(table) = reader.table(&named) else {
            continue;
        };
        let mut user = User::default();
        for written in entries(table, &named.path) {
            if written.name == "password" {
                user.secret = reader.source(&written);
                user.verifier = verifier(reader, &written, user.secret.as_ref());
                reader.remember(&written);
            } else if !settings::read_pool(reader, &mut user.pool, &written) {
                reader.unknown(&written, &known);
            }
        }
        config.users.insert(named.name.to_owned(), user);
    }
}

/// Reads it once, so that a file that is not there is noticed now.
fn verifier(
    reader: &mut Reader<'_>,
    written: &Written<'_>,
    source: Option<&SecretSource>,
) -> Option<Verifier> {
    match source?.text(reader.sources.files) {
        Ok(text) => {
            let verifier = Verifier::parse(&text);
            if verifier.is_none() {
                reader.problem(written, "is empty: nobody could log in with it; take it out");
            }
            verifier
        }
        Err(error) => {
            reader.problem(written, format!("names a file: {error}"));
            None
        }
    }
}

/// `[tls]` or `[server_tls]`, as it is written.
#[derive(Default)]
struct TlsSection {
    mode: Option<TlsMode>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
}

fn tls(reader: &mut Reader<'_>, section: &Written<'_>) -> TlsSection {
    let mut tls = TlsSection::default();
    let Some(table) = reader.table(section) else {
        return tls;
    };
    reader.remember(section);
    for written in entries(table, &section.path) {
        match written.name {
            "mode" => tls.mode = reader.word(&written, &TLS_MODES),
            "cert" => tls.cert = existing(reader, &written),
            "key" => tls.key = existing(reader, &written),
            "ca" => tls.ca = existing(reader, &written),
            _ => {
                reader.unknown(&written, &TLS_KEYS);
                continue;
            }
        }
        reader.remember(&written);
    }
    tls
}

fn client_tls(reader: &mut Reader<'_>, section: &Written<'_>) -> ClientTlsSettings {
    let TlsSection { mode, cert, key, ca } = tls(reader, section);
    // A certificate is there to be offered.
    let default = if cert.is_some() {
        TlsMode::Prefer
    } else {
        TlsMode::Disable
    };
    ClientTlsSettings {
        mode: mode.unwrap_or(default),
        cert,
        key,
        ca,
    }
}

fn server_tls(reader: &mut Reader<'_>, section: &Written<'_>) -> ServerTlsSettings {
    let TlsSection { mode, cert, key, ca } = tls(reader, section);
    ServerTlsSettings {
        mode: mode.unwrap_or_default(),
        ca,
        cert,
        key,
    }
}

fn databases(reader: &mut Reader<'_>, config: &mut Config, section: &Written<'_>) {
    let Some(table) = reader.table(section) else {
        return;
    };
    for named in entries(table, "databases") {
        reader.remember(&named);
        if contradictions::is_console(named.name) {
            reader.problem_at(
                named.key_place.clone(),
                format!("the database name \"{}\" is that of the console", named.name),
            );
        }
        let Some(table) = reader.table(&named) else {
            continue;
        };
        let Some(database) = database(reader, &named, table) else {
            continue;
        };
        if named.name == WILDCARD {
            config.wildcard = Some(database);
        } else {
            config.databases.insert(named.name.to_owned(), database);
        }
    }
}

fn database(reader: &mut Reader<'_>, named: &Written<'_>, table: &DeTable<'_>) -> Option<Database> {
    let known: Vec<&str> = ["url"].into_iter().chain(POOL_KEYS).chain(REPLICA_KEYS).collect();
    let mut pool = PoolOverrides::default();
    let mut replicas = ReplicaKeys::default();
    let mut url = None;
    for written in entries(table, &named.path) {
        if written.name == "url" {
            reader.remember(&written);
            url = Some(server_url(reader, &written));
        } else if !replicas.read(reader, &written) && !settings::read_pool(reader, &mut pool, &written) {
            reader.unknown(&written, &known);
        }
    }
    let replicas = replicas.finish(reader, &named.path);
    if url.is_none() {
        // A database of shards has no URL, and its own problem says so.
        if !table.contains_key("shards") {
            let name = named.name;
            let message =
                format!("database \"{name}\" has no url: write url = \"postgresql://host:5432/{name}\"");
            reader.problem_at(named.key_place.clone(), message);
        }
        return None;
    }
    let (source, url) = url??;
    Some(Database {
        url,
        source,
        pool,
        replicas,
        directory: reader.directory.clone(),
    })
}

pub(super) fn server_url(
    reader: &mut Reader<'_>,
    written: &Written<'_>,
) -> Option<(SecretSource, ServerUrl)> {
    let source = reader.source(written)?;
    let text = source
        .text(reader.sources.files)
        .map_err(|error| reader.problem(written, format!("names a file: {error}")))
        .ok()?;
    let url = ServerUrl::parse(&text, &reader.directory)
        .map_err(|error| reader.problem(written, format!("is no URL to connect to: {error}")))
        .ok()?;
    for path in [&url.root_certificate, &url.certificate, &url.key]
        .into_iter()
        .flatten()
    {
        bytes(reader, written, path);
    }
    Some((source, url))
}

/// The path of a file that can be read.
fn existing(reader: &mut Reader<'_>, written: &Written<'_>) -> Option<PathBuf> {
    let path = reader.path(written)?;
    bytes(reader, written, &path)?;
    Some(path)
}

/// The database name that stands for every other.
const WILDCARD: &str = "*";

/// A changed password is known after this time at the latest, and a user who logs in all the time asks once.
const QUERY_CACHE: std::time::Duration = std::time::Duration::from_secs(60);

const AUTH_KEYS: [&str; 6] = [
    "method",
    "users_file",
    "hba_file",
    "query",
    "query_user",
    "query_cache",
];

const TLS_KEYS: [&str; 4] = ["mode", "cert", "key", "ca"];

const METHODS: [Method; 6] = [
    Method::Trust,
    Method::Password,
    Method::Md5,
    Method::ScramSha256,
    Method::Cert,
    Method::Hba,
];
