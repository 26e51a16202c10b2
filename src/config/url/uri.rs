//! `postgresql://user:password@host:port,host:port/database?name=value&…`, cut where libpq cuts it.

use std::ops::Range;

use crate::config::url::error::UrlError;

/// The URL in pieces, decoded, with libpq's names for what stands before the `?`.
pub(super) fn pairs(text: &str) -> Result<Vec<(String, String)>, UrlError> {
    let mut pairs = Vec::new();
    let mut rest = text;
    if let Some(end) = user_info_end(text) {
        let (user_info, after) = text.split_at(end);
        let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
        push(&mut pairs, "user", user)?;
        push(&mut pairs, "password", password)?;
        rest = after.strip_prefix('@').unwrap_or(after);
    }
    let (hosts, ports, after) = host_list(rest)?;
    push(&mut pairs, "host", &hosts)?;
    push(&mut pairs, "port", &ports)?;
    let (path, query) = match after.split_once('?') {
        Some((path, query)) => (path, query),
        None => (after, ""),
    };
    push(&mut pairs, "dbname", path.strip_prefix('/').unwrap_or(path))?;
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').ok_or(UrlError::Equals)?;
        if value.contains('=') {
            return Err(UrlError::Equals);
        }
        // Other clients' spelling; libpq takes it too, in URLs only.
        if name == "ssl" && value == "true" {
            pairs.push(("sslmode".to_owned(), "require".to_owned()));
        } else {
            pairs.push((decode(name)?, decode(value)?));
        }
    }
    Ok(pairs)
}

/// What follows the scheme, if there is one of PostgreSQL's.
pub(super) fn strip_scheme(text: &str) -> Option<&str> {
    text.strip_prefix("postgresql://")
        .or_else(|| text.strip_prefix("postgres://"))
}

/// Where user and password stand in a URL.
pub(in crate::config) fn user_info(text: &str) -> Option<Range<usize>> {
    let rest = strip_scheme(text)?;
    let start = text.len() - rest.len();
    user_info_end(rest).map(|end| start..start + end)
}

/// The first `@`, unless a `/` stands before it. A `?` does not end it: it may be part of a password.
fn user_info_end(rest: &str) -> Option<usize> {
    let end = rest.find(['@', '/'])?;
    rest.get(end..)?.starts_with('@').then_some(end)
}

/// The hosts and the ports, each as a list with commas, and what follows them. A list of ports without any port is empty.
fn host_list(text: &str) -> Result<(String, String, &str), UrlError> {
    let (mut hosts, mut ports) = (String::new(), String::new());
    let mut rest = text;
    loop {
        let (host, after) = one_host(rest)?;
        hosts.push_str(host);
        rest = after;
        if let Some(after) = rest.strip_prefix(':') {
            let end = after.find(['/', '?', ',']).unwrap_or(after.len());
            let (port, after) = after.split_at(end);
            ports.push_str(port);
            rest = after;
        }
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None => break,
        }
        hosts.push(',');
        ports.push(',');
    }
    if ports.bytes().all(|byte| byte == b',') {
        ports.clear();
    }
    Ok((hosts, ports, rest))
}

fn one_host(text: &str) -> Result<(&str, &str), UrlError> {
    if let Some(inside) = text.strip_prefix('[') {
        let (address, after) = inside.split_once(']').ok_or(UrlError::Brackets)?;
        if address.is_empty() || !(after.is_empty() || after.starts_with([':', '/', '?', ','])) {
            return Err(UrlError::Brackets);
        }
        return Ok((address, after));
    }
    let end = text.find([':', '/', '?', ',']).unwrap_or(text.len());
    Ok(text.split_at(end))
}

/// libpq takes an empty part of the URL as one that is not there.
fn push(pairs: &mut Vec<(String, String)>, name: &str, encoded: &str) -> Result<(), UrlError> {
    if !encoded.is_empty() {
        pairs.push((name.to_owned(), decode(encoded)?));
    }
    Ok(())
}

/// `+` is a plus here, and `%00` is refused, as in libpq.
fn decode(encoded: &str) -> Result<String, UrlError> {
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            continue;
        }
        match (bytes.next(), bytes.next()) {
            (Some(b'0'), Some(b'0')) => return Err(UrlError::PercentEncoding),
            (Some(high), Some(low)) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {}
            _ => return Err(UrlError::PercentEncoding),
        }
    }
    let decoded = percent_encoding::percent_decode_str(encoded)
        .decode_utf8()
        .map_err(|_| UrlError::NotText)?;
    Ok(decoded.into_owned())
}
