//! Bringing a server connection's settings to those of the client that is about to use it.

use std::sync::Arc;

use crate::protocol::Parameters;

use super::client::ClientSession;
use super::inquiry::Findings;
use super::screen::{Reset, Span};
use super::server::ServerState;

/// The statements that make the server's settings the client's; `None` when they are the same already.
/// Two clients that ask for nothing share one empty set, so the common case is one comparison of pointers.
#[must_use]
pub fn difference(client: &mut ClientSession, server: &mut ServerState) -> Option<String> {
    if Arc::ptr_eq(&client.settings, &server.applied) {
        return None;
    }
    if client.settings == server.applied {
        share(&mut client.settings, &mut server.applied);
        return None;
    }
    let quotes = quotes(server);
    let mut sql = String::new();
    let (given_up, kept): (Vec<_>, Vec<_>) = server
        .applied
        .iter()
        .map(|(name, _)| name)
        .filter(|name| client.settings.value(name).is_none())
        .partition(|name| is_of_user(name));
    // Another client's limit of time is not for this. Each statement of a text has its own (`exec_simple_query` in
    // `src/backend/tcop/postgres.c`), so all but the first are free of it.
    let limit = server.applied.value(STATEMENT_TIMEOUT);
    if limit.is_some() && limit != client.settings.value(STATEMENT_TIMEOUT) {
        sql.push_str("RESET statement_timeout;");
    }
    let is_left = |name: &&str| !name.eq_ignore_ascii_case(STATEMENT_TIMEOUT);
    // Back to the user who has logged in first: what others have set, they may not be allowed to reset.
    for name in given_up.into_iter().chain(kept).filter(is_left) {
        sql.push_str("RESET ");
        (quotes.name)(name, &mut sql);
        sql.push(';');
    }
    let is_user_changed =
        client.settings.value(SESSION_AUTHORIZATION) != server.applied.value(SESSION_AUTHORIZATION);
    // The user last, and the role behind it: a change of the user takes the role away.
    let of_user = OF_USER
        .iter()
        .filter_map(|name| client.settings.value(name).map(|value| (*name, value)));
    let others = client.settings.iter().filter(|(name, _)| !is_of_user(name));
    let changed = others.chain(of_user).filter(|(name, value)| {
        let is_lost = is_user_changed && is_of_user(name);
        is_lost || server.applied.value(name) != Some(value)
    });
    set(changed, Span::Session, server, &mut sql);
    (!sql.is_empty()).then_some(sql)
}

/// The statement that sets what a client has started with, and what is reset by its own statement. The user goes with its
/// role, and is not a part of all settings; with all else it is discarded.
#[must_use]
pub fn restoring(reset: &Reset, client: &ClientSession, server: &ServerState) -> Option<Box<str>> {
    let is_user = |name: &str| SESSION_AUTHORIZATION.eq_ignore_ascii_case(name);
    let is_reset = |name: &str| match reset {
        Reset::One { name: reset, .. } => {
            reset.eq_ignore_ascii_case(name) || is_user(reset) && is_of_user(name)
        }
        Reset::All => !is_of_user(name),
        Reset::Discard => true,
    };
    let span = match reset {
        Reset::One { span, .. } => *span,
        Reset::All | Reset::Discard => Span::Session,
    };
    let own = client.startup.iter().filter(|(name, _)| is_reset(name));
    let (mut of_user, mut others): (Vec<_>, Vec<_>) = own.partition(|(name, _)| is_of_user(name));
    of_user.sort_by_key(|(name, _)| !is_user(name));
    others.append(&mut of_user);
    let mut sql = String::new();
    set(others.into_iter(), span, server, &mut sql);
    (!sql.is_empty()).then(|| sql.into())
}

/// Appends the statement that sets these settings.
fn set<'a>(
    settings: impl Iterator<Item = (&'a str, &'a str)>,
    span: Span,
    server: &ServerState,
    sql: &mut String,
) {
    let quote = quotes(server).value;
    let mut separator = "SELECT ";
    for (name, value) in settings {
        sql.push_str(separator);
        sql.push_str("pg_catalog.set_config(");
        quote(name, sql);
        sql.push(',');
        quote(value, sql);
        sql.push_str(match span {
            Span::Session => ",false)",
            Span::Transaction => ",true)",
        });
        separator = ",";
    }
}

/// Of two sets that are equal one is kept, by both; always the same one, so that all who have equal settings come to share
/// a set, and are found equal by a comparison of pointers.
fn share(one: &mut Arc<Parameters>, other: &mut Arc<Parameters>) {
    if Arc::as_ptr(one) < Arc::as_ptr(other) {
        *other = Arc::clone(one);
    } else {
        *one = Arc::clone(other);
    }
}

fn is_of_user(name: &str) -> bool {
    OF_USER.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The server has said what became of settings that the client's statements named: the client has them now, and the
/// connection too.
pub fn on_found(client: &mut ClientSession, server: &mut ServerState, findings: &Findings) {
    if findings.values.is_empty() {
        return;
    }
    let mut settings = Parameters::clone(&client.settings);
    let mut applied = Parameters::clone(&server.applied);
    for (name, value) in &findings.values {
        // As the client spells it: both sets are the same then.
        let known = client.startup.iter().chain(client.settings.iter());
        let known = known.map(|(known, _)| known);
        let name = known
            .filter(|known| known.eq_ignore_ascii_case(name))
            .last()
            .unwrap_or(name);
        let value = value.as_deref().filter(|_| !findings.is_default(name));
        let wanted = value.or_else(|| client.startup.value(name));
        put(&mut settings, name, wanted);
        put(&mut applied, name, value);
        if value.is_none()
            && let Some(own) = server.reported.value(name).map(str::to_owned)
        {
            server.rebase(name, &own);
        }
    }
    settings.shrink();
    client.settings = Arc::new(settings);
    server.applied = if applied == *client.settings {
        Arc::clone(&client.settings)
    } else {
        Arc::new(applied)
    };
}

fn put(settings: &mut Parameters, name: &str, value: Option<&str>) {
    match value {
        Some(value) => _ = settings.set(name, value),
        None => _ = settings.remove(name),
    }
}

/// The server has confirmed the difference.
pub fn on_applied(client: &ClientSession, server: &mut ServerState) {
    server.applied = Arc::clone(&client.settings);
}

/// Why a value was reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    #[default]
    Set,
    /// Something was reset: to the connection's own default, where the client expects that of its session.
    Reset,
    /// Everything was.
    ResetAll,
}

/// The server reports a value during the client's exchange: from now on it is the client's, and goes where the client goes.
pub fn on_reported(
    client: &mut ClientSession,
    server: &mut ServerState,
    name: &str,
    value: &str,
    cause: Cause,
) -> News {
    server.reported.set(name, value);
    if !is_settable(name) {
        return News::AsReported;
    }
    let is_base = server.base.value(name) == Some(value);
    let default = client.startup.value(name);
    let wanted = match cause {
        Cause::Reset | Cause::ResetAll if is_base => default,
        Cause::Set if is_base && default.is_none() => None,
        Cause::Set | Cause::Reset | Cause::ResetAll => Some(value),
    };
    let applied = if is_base && wanted != Some(value) {
        None
    } else {
        Some(value)
    };
    let known = client.settings.value(name);
    let news = match wanted {
        Some(wanted) if wanted == value => News::AsReported,
        Some(wanted) if known == Some(wanted) => News::None,
        Some(_) => News::OfStartup,
        None => News::AsReported,
    };
    let was_shared = Arc::ptr_eq(&client.settings, &server.applied);
    if let Some(changed) = changed(&client.settings, name, wanted) {
        let before = std::mem::replace(&mut client.settings, Arc::new(changed));
        client.settled.get_or_insert(before);
    }
    if was_shared && wanted == applied {
        server.applied = Arc::clone(&client.settings);
    } else if let Some(changed) = changed(&server.applied, name, applied) {
        server.applied = Arc::new(changed);
    }
    news
}

/// Everything was reset, and what changed by that on the server is reported. Where nothing did, since the client had set the
/// very default of the server, the client goes back to its startup all the same, and is told so.
pub fn on_all_reset(client: &mut ClientSession, server: &ServerState, mut tell: impl FnMut(&str, &str)) {
    if Arc::ptr_eq(&client.settings, &client.startup) {
        return;
    }
    let mut settings = Parameters::clone(&client.settings);
    for (name, own) in client.startup.iter() {
        let now = server.reported.value(name);
        if now.is_some() && now == server.base.value(name) && settings.set(name, own) {
            tell(name, own);
        }
    }
    for (name, _) in client.settings.iter() {
        if server.reported.value(name).is_none() {
            put(&mut settings, name, client.startup.value(name));
        }
    }
    if settings == *client.startup {
        let before = std::mem::replace(&mut client.settings, Arc::clone(&client.startup));
        client.settled.get_or_insert(before);
    } else if settings != *client.settings {
        let before = std::mem::replace(&mut client.settings, Arc::new(settings));
        client.settled.get_or_insert(before);
    }
}

/// What the client hears of a value that the server has reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum News {
    AsReported,
    /// Nothing: to the client nothing has changed.
    None,
    /// The value it has started with, which it has again.
    OfStartup,
}

/// `RESET ALL` is on its way: what was applied and is not reported will be gone, unless the transaction is rolled back. What
/// has become of it is asked at the end of the transaction.
pub fn on_reset_all(server: &mut ServerState) {
    let mut applied = Parameters::clone(&server.applied);
    for (name, _) in server.applied.iter() {
        if server.reported.value(name).is_none() {
            applied.remove(name);
        }
    }
    if applied.len() != server.applied.len() {
        server.applied = Arc::new(applied);
    }
}

fn changed(settings: &Parameters, name: &str, value: Option<&str>) -> Option<Parameters> {
    if settings.value(name) == value {
        return None;
    }
    let mut settings = settings.clone();
    put(&mut settings, name, value);
    Some(settings)
}

/// Whether a setting is neither the client's nor that of the one before.
#[must_use]
pub fn is_of_nobody(client: &ClientSession, server: &ServerState, name: &str) -> bool {
    let is_set = client.settings.value(name).is_some() || server.applied.value(name).is_some();
    !is_set && is_settable(name)
}

/// Reported parameters that describe the server or the transaction, and that no session sets for itself.
#[must_use]
pub fn is_settable(name: &str) -> bool {
    !READ_ONLY.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// `session_authorization` and `is_superuser` are reported when the user changes, which is asked for.
const READ_ONLY: [&str; 6] = [
    "server_version",
    "server_encoding",
    "integer_datetimes",
    "in_hot_standby",
    "is_superuser",
    "session_authorization",
];

pub const APPLICATION_NAME: &str = "application_name";
pub(super) const STATEMENT_TIMEOUT: &str = "statement_timeout";
const SESSION_AUTHORIZATION: &str = "session_authorization";
/// Who the session acts as, in the order in which it is set.
const OF_USER: [&str; 2] = [SESSION_AUTHORIZATION, "role"];

/// How names and strings are written.
struct Quotes {
    name: fn(&str, &mut String),
    value: fn(&str, &mut String),
}

/// The server reads a text in the encoding of the last client: letters are written so that they are the same in any. Where the
/// database has none, they are bytes.
fn quotes(server: &ServerState) -> Quotes {
    match server.base.value("server_encoding") {
        Some("SQL_ASCII") => Quotes {
            name: quote_identifier,
            value: quote_literal,
        },
        _ => Quotes {
            name: quote_identifier_letters,
            value: quote_letters,
        },
    }
}

fn quote_identifier(name: &str, out: &mut String) {
    // A custom setting's name has dots that part it (`app.tenant`): each part is quoted for itself.
    for (index, part) in name.split('.').enumerate() {
        if index > 0 {
            out.push('.');
        }
        out.push('"');
        out.push_str(&part.replace('"', "\"\""));
        out.push('"');
    }
}

/// The same without a letter that is not ASCII.
fn quote_identifier_letters(name: &str, out: &mut String) {
    if name.is_ascii() {
        return quote_identifier(name, out);
    }
    for (index, part) in name.split('.').enumerate() {
        out.push_str(if index > 0 { ".U&\"" } else { "U&\"" });
        for char in part.chars() {
            match char {
                '"' | '\\' => out.extend([char, char]),
                _ if char.is_ascii() => out.push(char),
                _ => out.push_str(&format!("\\+{:06X}", u32::from(char))),
            }
        }
        out.push('"');
    }
}

pub(super) fn quote_literal(value: &str, out: &mut String) {
    // E'' means the same whatever standard_conforming_strings is.
    out.push_str("E'");
    for char in value.chars() {
        if matches!(char, '\'' | '\\') {
            out.push(char);
        }
        out.push(char);
    }
    out.push('\'');
}

/// The same without a letter that is not ASCII.
fn quote_letters(value: &str, out: &mut String) {
    let start = out.len();
    quote_literal(value, out);
    if value.is_ascii() {
        return;
    }
    let quoted = out.split_off(start);
    for char in quoted.chars() {
        if char.is_ascii() {
            out.push(char);
        } else {
            out.push_str(&format!("\\U{:08X}", u32::from(char)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CancelKey;

    fn server() -> ServerState {
        let mut reported = Parameters::new();
        reported.set("TimeZone", "UTC");
        reported.set("server_version", "15");
        ServerState::new(
            1,
            CancelKey {
                process_id: 1,
                secret: [0; 4].into(),
            },
            reported,
        )
    }

    fn client(settings: &[(&str, &str)]) -> ClientSession {
        let mut startup = Parameters::new();
        for (name, value) in settings {
            startup.set(name, value);
        }
        ClientSession::new(startup)
    }

    #[test]
    fn clients_without_settings_cost_nothing() {
        assert_eq!(difference(&mut client(&[]), &mut server()), None);
    }

    #[test]
    fn only_what_differs_is_set_and_what_another_client_had_is_reset() {
        let mut server = server();
        let mut first = client(&[("search_path", "a, \"B\""), ("app.tenant", "it's \\ 1")]);
        assert_eq!(
            difference(&mut first, &mut server).unwrap(),
            "SELECT pg_catalog.set_config(E'app.tenant',E'it''s \\\\ 1',false),\
             pg_catalog.set_config(E'search_path',E'a, \"B\"',false)"
        );
        on_applied(&first, &mut server);
        assert_eq!(difference(&mut first, &mut server), None);
        let mut second = client(&[("search_path", "a, \"B\"")]);
        assert_eq!(
            difference(&mut second, &mut server).unwrap(),
            "RESET \"app\".\"tenant\";"
        );
    }

    #[test]
    fn all_who_have_equal_settings_come_to_share_one_set() {
        let mut servers = [server(), server(), server()];
        let mut clients = [(); 3].map(|()| client(&[("app.tenant", "1")]));
        for server in &mut servers {
            on_applied(&clients[0], server);
            server.applied = Arc::new(Parameters::clone(&server.applied));
        }
        for _ in 0..clients.len() + servers.len() {
            for client in &mut clients {
                for server in &mut servers {
                    assert_eq!(difference(client, server), None);
                }
            }
        }
        let one = &clients[0].settings;
        assert!(clients.iter().all(|client| Arc::ptr_eq(&client.settings, one)));
        assert!(servers.iter().all(|server| Arc::ptr_eq(&server.applied, one)));
    }

    #[test]
    fn letters_are_said_in_no_encoding() {
        let mut one = client(&[("app.name", "\u{e9}'\u{1f600}\\")]);
        let mut server = server();
        assert_eq!(
            difference(&mut one, &mut server).unwrap(),
            "SELECT pg_catalog.set_config(E'app.name',E'\\U000000E9''\\U0001F600\\\\',false)"
        );
        let mut base = Parameters::clone(&server.base);
        base.set("server_encoding", "SQL_ASCII");
        server.base = Arc::new(base);
        assert!(difference(&mut one, &mut server).unwrap().contains("\u{e9}''"));
    }

    #[test]
    fn letters_of_names_are_said_in_no_encoding_either() {
        let mut server = server();
        on_applied(&client(&[("app.gr\u{f6}\"\u{1f600}", "1")]), &mut server);
        let reset = difference(&mut client(&[]), &mut server).unwrap();
        assert_eq!(reset, r#"RESET U&"app".U&"gr\+0000F6""\+01F600";"#);
        let mut base = Parameters::clone(&server.base);
        base.set("server_encoding", "SQL_ASCII");
        server.base = Arc::new(base);
        let reset = difference(&mut client(&[]), &mut server).unwrap();
        assert_eq!(reset, "RESET \"app\".\"gr\u{f6}\"\"\u{1f600}\";");
    }

    #[test]
    fn another_clients_limit_of_time_ends_before_anything_else_is_said() {
        let mut server = server();
        let hasty = client(&[("role", "other"), ("statement_timeout", "1ms")]);
        on_applied(&hasty, &mut server);
        assert_eq!(
            difference(&mut client(&[]), &mut server).unwrap(),
            "RESET statement_timeout;RESET \"role\";"
        );
        assert_eq!(
            difference(&mut client(&[("statement_timeout", "1s")]), &mut server).unwrap(),
            "RESET statement_timeout;RESET \"role\";\
             SELECT pg_catalog.set_config(E'statement_timeout',E'1s',false)"
        );
        let mut same = client(&[("statement_timeout", "1ms"), ("app.tenant", "1")]);
        assert_eq!(
            difference(&mut same, &mut server).unwrap(),
            "RESET \"role\";SELECT pg_catalog.set_config(E'app.tenant',E'1',false)"
        );
    }

    #[test]
    fn a_reported_value_goes_with_the_client_and_a_default_is_forgotten() {
        let (mut server, mut client) = (server(), client(&[]));
        let _ = on_reported(&mut client, &mut server, "TimeZone", "Europe/Berlin", Cause::Set);
        assert_eq!(client.settings.value("timezone"), Some("Europe/Berlin"));
        assert_eq!(difference(&mut client, &mut server), None);
        let _ = on_reported(&mut client, &mut server, "TimeZone", "UTC", Cause::Set);
        assert!(client.settings.is_empty());
        let _ = on_reported(&mut client, &mut server, "server_version", "16", Cause::Set);
        assert!(client.settings.is_empty());
    }

    #[test]
    fn a_reset_goes_back_to_what_the_client_asked_for_at_its_start() {
        let (mut server, mut client) = (server(), client(&[("TimeZone", "Asia/Tokyo")]));
        on_applied(&client, &mut server);
        let _ = on_reported(&mut client, &mut server, "TimeZone", "Europe/Berlin", Cause::Set);
        assert_eq!(difference(&mut client, &mut server), None);
        let news = on_reported(&mut client, &mut server, "TimeZone", "UTC", Cause::Reset);
        assert_eq!(news, News::OfStartup);
        assert_eq!(client.settings.value("TimeZone"), Some("Asia/Tokyo"));
        assert_eq!(
            difference(&mut client, &mut server).unwrap(),
            "SELECT pg_catalog.set_config(E'TimeZone',E'Asia/Tokyo',false)"
        );
    }

    #[test]
    fn the_servers_default_can_be_asked_for_although_the_start_said_otherwise() {
        let (mut server, mut client) = (server(), client(&[("TimeZone", "Asia/Tokyo")]));
        on_applied(&client, &mut server);
        let _ = on_reported(&mut client, &mut server, "TimeZone", "UTC", Cause::Set);
        assert_eq!(client.settings.value("TimeZone"), Some("UTC"));
        assert_eq!(difference(&mut client, &mut server), None);
    }
}
