//! Which kind of replication a client asks for.
//!
//! Source: `ProcessStartupPacket` in PostgreSQL's `src/backend/tcop/backend_startup.c`, `parse_bool_with_len` in
//! `src/backend/utils/adt/bool.c`.

use super::StartupError;

/// The `replication` parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Replication {
    #[default]
    None,
    /// A stream of the whole server's log.
    Physical,
    /// A database, whose changes may be decoded.
    Logical,
}

impl Replication {
    /// # Errors
    /// Neither `database` nor a Boolean.
    pub fn parse(value: &str) -> Result<Self, StartupError> {
        if value == "database" {
            return Ok(Self::Logical);
        }
        match parse_bool(value) {
            Some(true) => Ok(Self::Physical),
            Some(false) => Ok(Self::None),
            None => Err(StartupError::Replication(value.to_owned())),
        }
    }

    /// The value to send.
    #[must_use]
    pub fn parameter(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Physical => Some("true"),
            Self::Logical => Some("database"),
        }
    }
}

/// `1`, `0`, or any beginning of a word that tells it from the others.
fn parse_bool(value: &str) -> Option<bool> {
    let begins = |word: &str, least: usize| {
        value.len() >= least
            && word
                .get(..value.len())
                .is_some_and(|front| front.eq_ignore_ascii_case(value))
    };
    if value == "1" || begins("true", 1) || begins("yes", 1) || begins("on", 2) {
        Some(true)
    } else if value == "0" || begins("false", 1) || begins("no", 1) || begins("off", 2) {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_postgresql_reads_them() {
        for value in ["1", "true", "T", "tr", "on", "ON", "y", "yes"] {
            assert_eq!(Replication::parse(value), Ok(Replication::Physical), "{value}");
        }
        for value in ["0", "false", "f", "of", "off", "n", "NO"] {
            assert_eq!(Replication::parse(value), Ok(Replication::None), "{value}");
        }
        assert_eq!(Replication::parse("database"), Ok(Replication::Logical));
        for value in ["", "o", "2", "truely", "Database", "onn", "é"] {
            assert!(Replication::parse(value).is_err(), "{value}");
        }
    }
}
