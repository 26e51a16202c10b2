//! Settings that change what a text means: the tables its names stand for, the values its constants have.
//!
//! PostgreSQL fixes constants when it analyses a text (`coerce_type` in `src/backend/parser/parse_coerce.c`): one text prepared
//! under two time zones is two statements.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::protocol::Parameters;

/// The settings under which a statement was prepared, without those that change nothing about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Basis {
    hash: u64,
    settings: Parameters,
    literals: Literals,
}

/// Whether something in it says how literals are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Literals {
    AsByDefault,
    Otherwise,
}

impl Basis {
    /// None where nothing differs from the connection's own.
    #[must_use]
    pub fn of(settings: &Parameters) -> Option<Arc<Self>> {
        let mut kept = Parameters::new();
        for (name, value) in settings.iter().filter(|(name, _)| !is_harmless(name)) {
            kept.set(name, value);
        }
        if kept.is_empty() {
            return None;
        }
        kept.shrink();
        let mut hasher = FixedState::default().build_hasher();
        for (name, value) in kept.iter() {
            (name.to_ascii_lowercase(), value).hash(&mut hasher);
        }
        let literals = if kept.iter().any(|(name, _)| is_of_literals(name)) {
            Literals::Otherwise
        } else {
            Literals::AsByDefault
        };
        Some(Arc::new(Self {
            hash: hasher.finish(),
            settings: kept,
            literals,
        }))
    }

    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.settings.value(name)
    }

    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// Whether literals are read alike under both.
#[must_use]
pub fn reads_alike(one: Option<&Arc<Basis>>, other: Option<&Arc<Basis>>) -> bool {
    let is_default =
        |basis: &Option<&Arc<Basis>>| basis.is_none_or(|basis| basis.literals == Literals::AsByDefault);
    if is_default(&one) && is_default(&other) {
        return true;
    }
    match (one, other) {
        (Some(one), Some(other)) if Arc::ptr_eq(one, other) => true,
        _ => OF_LITERALS
            .iter()
            .all(|name| one.and_then(|basis| basis.value(name)) == other.and_then(|basis| basis.value(name))),
    }
}

/// Whether a setting says how literals are read.
#[must_use]
pub fn is_of_literals(name: &str) -> bool {
    OF_LITERALS.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// What a client's settings come to, as long as they are the same. In a box: most clients have none that matter.
#[derive(Debug, Default)]
pub struct Known(Option<Box<Found>>);

#[derive(Debug)]
struct Found {
    of: Arc<Parameters>,
    basis: Option<Arc<Basis>>,
}

impl Known {
    /// Of these settings; found once.
    pub fn of(&mut self, settings: &Arc<Parameters>) -> Option<&Arc<Basis>> {
        if settings.is_empty() {
            self.0 = None;
            return None;
        }
        let is_known = self
            .0
            .as_ref()
            .is_some_and(|found| Arc::ptr_eq(&found.of, settings));
        if !is_known {
            self.0 = Some(Box::new(Found {
                of: Arc::clone(settings),
                basis: Basis::of(settings),
            }));
        }
        self.0.as_ref()?.basis.as_ref()
    }
}

fn is_harmless(name: &str) -> bool {
    // A custom setting is read when a statement runs.
    name.contains('.') || HARMLESS.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Settings by which PostgreSQL reads a text and its literals, and does not look at again before it uses what it has read:
/// where another `search_path` or role is in force, it reads the text anew itself (`RevalidateCachedQuery` in
/// `src/backend/utils/cache/plancache.c`).
pub const OF_LITERALS: [&str; 11] = [
    "array_nulls",
    "backslash_quote",
    "client_encoding",
    "datestyle",
    "intervalstyle",
    "lc_monetary",
    "standard_conforming_strings",
    "timezone",
    "timezone_abbreviations",
    "transform_null_equals",
    "xmloption",
];

/// Limits, memory, and how results are shown. What is not known to be harmless is not.
const HARMLESS: [&str; 14] = [
    "application_name",
    "bytea_output",
    "client_min_messages",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "log_min_duration_statement",
    "maintenance_work_mem",
    "statement_timeout",
    "transaction_timeout",
    "work_mem",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Arc<Parameters> {
        let mut settings = Parameters::new();
        for (name, value) in pairs {
            settings.set(name, value);
        }
        Arc::new(settings)
    }

    #[test]
    fn only_what_may_change_a_text_counts() {
        let mut known = Known::default();
        let harmless = settings(&[
            ("Application_Name", "me"),
            ("app.tenant", "1"),
            ("work_mem", "1MB"),
        ]);
        assert!(known.of(&harmless).is_none());
        let zone = settings(&[("TimeZone", "UTC"), ("work_mem", "1MB")]);
        let of_zone = Arc::clone(known.of(&zone).unwrap());
        let same = settings(&[("timezone", "UTC")]);
        assert_eq!(known.of(&same).unwrap().hash(), of_zone.hash());
        let other = settings(&[("TimeZone", "Asia/Tokyo")]);
        assert_ne!(known.of(&other), Some(&of_zone));
    }

    #[test]
    fn a_search_path_changes_no_literal() {
        let of = |pairs: &[(&str, &str)]| Basis::of(&settings(pairs));
        let zone = of(&[("TimeZone", "Asia/Tokyo")]);
        let both = of(&[("search_path", "a"), ("timezone", "Asia/Tokyo")]);
        let path = of(&[("search_path", "a")]);
        assert!(reads_alike(zone.as_ref(), both.as_ref()) && reads_alike(path.as_ref(), None));
        assert!(!reads_alike(zone.as_ref(), path.as_ref()) && !reads_alike(None, zone.as_ref()));
        let other = of(&[("TimeZone", "UTC")]);
        assert!(!reads_alike(zone.as_ref(), other.as_ref()));
    }
}
