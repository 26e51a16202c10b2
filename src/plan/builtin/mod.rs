//! PostgreSQL's own functions, types and operators, of all major versions that are supported: 14 to 18, read from 14, 15 and 18.
//!
//! `functions.txt`, `types.txt` and `operators.txt` are made by `scripts/builtins.sh` from `pg_proc`, `pg_type` and `pg_operator`;
//! what those do not tell is in `overrides.txt`. Lines are sorted by their bytes.

use super::verdict::ReasonKind;

/// What calling a function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Reads,
    /// More than reading.
    Acts(ReasonKind),
    /// What the setting is that it names.
    ReadsSetting,
    /// It makes values of types that are not named, whose checks may call anything.
    MakesValues,
}

/// What all functions of PostgreSQL's with this name do; `None` where there is none.
pub(super) fn function(name: &str) -> Option<Call> {
    let line = find(FUNCTIONS, name)?;
    Some(match line.trim_start().as_bytes() {
        b"r" => Call::Reads,
        b"s" => Call::Acts(ReasonKind::ServerFunction),
        b"k" => Call::Acts(ReasonKind::ActingFunction),
        b"a" => Call::Acts(ReasonKind::AdvisoryLock),
        b"q" => Call::Acts(ReasonKind::TextFunction),
        b"c" => Call::ReadsSetting,
        b"t" => Call::MakesValues,
        _ => Call::Acts(ReasonKind::VolatileFunction),
    })
}

/// Whether PostgreSQL has a type of this name.
pub(super) fn has_type(name: &str) -> bool {
    find(TYPES, name).is_some()
}

/// Whether PostgreSQL has an operator of this name; all of them only read.
pub(super) fn has_operator(name: &str) -> bool {
    find(OPERATORS, name).is_some()
}

/// Settings that a server has from its session, and that every server of a cluster answers alike.
pub(super) fn is_sessions_own(setting: &str) -> bool {
    // Those with a dot are the users' own.
    setting.contains('.')
        || SESSION_SETTINGS
            .iter()
            .any(|name| setting.eq_ignore_ascii_case(name))
}

/// The rest of the line that begins with `name`, by halves.
fn find<'a>(table: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = table;
    loop {
        let middle = rest.len() / 2;
        let (before, after) = rest.as_bytes().split_at_checked(middle)?;
        let start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
        let end = memchr::memchr(b'\n', after).map_or(rest.len(), |at| middle + at);
        let line = rest.get(start..end)?;
        if line.is_empty() {
            return None;
        }
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        rest = match name.cmp(key) {
            std::cmp::Ordering::Equal => return Some(value),
            std::cmp::Ordering::Less => rest.get(..start)?,
            std::cmp::Ordering::Greater => rest.get(end + 1..)?,
        };
    }
}

const FUNCTIONS: &str = include_str!("functions.txt");
const TYPES: &str = include_str!("types.txt");
const OPERATORS: &str = include_str!("operators.txt");

const SESSION_SETTINGS: [&str; 20] = [
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "is_superuser",
    "lock_timeout",
    "role",
    "row_security",
    "search_path",
    "server_version",
    "server_version_num",
    "session_authorization",
    "standard_conforming_strings",
    "statement_timeout",
    "timezone",
    "work_mem",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_found_and_nothing_else_is() {
        for table in [FUNCTIONS, TYPES, OPERATORS] {
            let mut last = "";
            for line in table.lines() {
                let (key, value) = line.split_once(' ').unwrap_or((line, ""));
                assert!(last < key, "{last} stands before {key}");
                assert_eq!(find(table, key), Some(value));
                assert_eq!(find(table, &format!("{key}~~~")), None);
                last = key;
            }
            assert_eq!(find(table, ""), None);
        }
    }

    #[test]
    fn what_pg_proc_does_not_tell_is_known() {
        for name in [
            "lower",
            "random",
            "now",
            "pg_sleep",
            "count",
            "gen_random_uuid",
            "timezone",
        ] {
            assert_eq!(function(name), Some(Call::Reads), "{name}");
        }
        let acts = |name, kind| assert_eq!(function(name), Some(Call::Acts(kind)), "{name}");
        acts("txid_current", ReasonKind::VolatileFunction);
        acts("nextval", ReasonKind::VolatileFunction);
        acts("pg_terminate_backend", ReasonKind::ActingFunction);
        acts("pg_promote", ReasonKind::ActingFunction);
        acts("set_config", ReasonKind::ActingFunction);
        acts("pg_advisory_xact_lock", ReasonKind::AdvisoryLock);
        acts("pg_is_in_recovery", ReasonKind::ServerFunction);
        acts("query_to_xml", ReasonKind::TextFunction);
        assert_eq!(function("bump"), None);
        assert!(has_type("int4") && has_type("regclass") && !has_type("hstore"));
        assert!(has_operator("||") && !has_operator("<<<"));
    }
}
