//! Finds the texts that may change a session in a way that does not travel with the client.
//!
//! A screen, not a parser: a false alarm costs a client its share of the pooling, a miss would cost another client its settings.

/// Why a client keeps its server connection beyond a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinReason {
    Setting,
    Listen,
    Prepare,
    Cursor,
    TemporaryTable,
    AdvisoryLock,
    Load,
    /// A statement whose text is too large to be prepared elsewhere.
    LargeStatement,
}

impl PinReason {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::Listen => "listen",
            Self::Prepare => "prepare",
            Self::Cursor => "cursor",
            Self::TemporaryTable => "temporary table",
            Self::AdvisoryLock => "advisory lock",
            Self::Load => "load",
            Self::LargeStatement => "large statement",
        }
    }
}

/// Looks at a text, which may hold several statements. `None`: it changes nothing that outlives its transaction.
#[must_use]
pub fn screen(text: &[u8]) -> Option<PinReason> {
    let first = statement(text);
    if first.is_some() {
        return first;
    }
    let mut rest = text;
    while let Some(at) = memchr::memchr(b';', rest) {
        rest = rest.get(at + 1..).unwrap_or_default();
        let found = statement(rest);
        if found.is_some() {
            return found;
        }
    }
    inside(text)
}

/// What a statement's first words say.
fn statement(text: &[u8]) -> Option<PinReason> {
    let mut words = Words(text);
    let first = words.next()?;
    match_word(first, &mut words)
}

fn match_word(first: &[u8], words: &mut Words<'_>) -> Option<PinReason> {
    let is = |word: &str| first.eq_ignore_ascii_case(word.as_bytes());
    if is("set") {
        return setting(words);
    }
    if is("reset") {
        return match words.next() {
            Some(name) if is_reported(name) => None,
            _ => Some(PinReason::Setting),
        };
    }
    if is("listen") {
        return Some(PinReason::Listen);
    }
    if is("prepare") {
        return (!words.next()?.eq_ignore_ascii_case(b"transaction")).then_some(PinReason::Prepare);
    }
    if is("declare") {
        let held = words.any(|word| word.eq_ignore_ascii_case(b"hold"));
        return held.then_some(PinReason::Cursor);
    }
    is("load").then_some(PinReason::Load)
}

fn setting(words: &mut Words<'_>) -> Option<PinReason> {
    let mut name = words.next()?;
    if ["local", "transaction", "constraints"]
        .iter()
        .any(|word| name.eq_ignore_ascii_case(word.as_bytes()))
    {
        return None;
    }
    if name.eq_ignore_ascii_case(b"session") {
        name = words.next()?;
    }
    // SET NAMES and SET TIME ZONE are client_encoding and TimeZone.
    let reported = is_reported(name)
        || ["names", "time"]
            .iter()
            .any(|word| name.eq_ignore_ascii_case(word.as_bytes()));
    (!reported).then_some(PinReason::Setting)
}

/// Parameters that every PostgreSQL from 14 on reports, and that travel with the client therefore.
fn is_reported(name: &[u8]) -> bool {
    REPORTED
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// What stands anywhere in a text: names of functions, and words that make a table temporary.
fn inside(text: &[u8]) -> Option<PinReason> {
    for at in memchr::memchr3_iter(b's', b'a', b't', text).chain(memchr::memchr3_iter(b'S', b'A', b'T', text))
    {
        let rest = text.get(at..).unwrap_or_default();
        for (word, reason) in INSIDE {
            if rest
                .get(..word.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(word.as_bytes()))
            {
                let found = inside_reason(text, at, rest, word, *reason);
                if found.is_some() {
                    return found;
                }
            }
        }
    }
    None
}

fn inside_reason(text: &[u8], at: usize, rest: &[u8], word: &str, reason: PinReason) -> Option<PinReason> {
    if reason != PinReason::TemporaryTable {
        return Some(reason);
    }
    let before = at.checked_sub(1).and_then(|index| text.get(index)).copied();
    let after = rest.get(word.len()).copied();
    let alone = |byte: Option<u8>| byte.is_none_or(|byte| !byte.is_ascii_alphanumeric() && byte != b'_');
    (alone(before) && alone(after)).then_some(reason)
}

/// The words of a text: runs of letters, digits and underscores, comments passed over.
struct Words<'a>(&'a [u8]);

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let (&byte, rest) = self.0.split_first()?;
            if is_word(byte) {
                let len = self
                    .0
                    .iter()
                    .position(|byte| !is_word(*byte))
                    .unwrap_or(self.0.len());
                let (word, rest) = self.0.split_at_checked(len)?;
                self.0 = rest;
                return Some(word);
            }
            self.0 = match (byte, rest.first()) {
                (b'-', Some(b'-')) => after(rest, b"\n"),
                (b'/', Some(b'*')) => after(rest, b"*/"),
                _ => rest,
            };
        }
    }
}

fn after<'a>(text: &'a [u8], end: &[u8]) -> &'a [u8] {
    memchr::memmem::find(text, end)
        .and_then(|at| text.get(at + end.len()..))
        .unwrap_or_default()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

const REPORTED: [&str; 6] = [
    "client_encoding",
    "datestyle",
    "timezone",
    "standard_conforming_strings",
    "application_name",
    "intervalstyle",
];

const INSIDE: &[(&str, PinReason)] = &[
    ("set_config", PinReason::Setting),
    ("setseed", PinReason::Setting),
    // Not pg_advisory_xact_lock: that one ends with its transaction.
    ("advisory_lock", PinReason::AdvisoryLock),
    ("temp", PinReason::TemporaryTable),
    ("temporary", PinReason::TemporaryTable),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_change_nothing_pass() {
        for text in [
            "",
            "SELECT abalance FROM pgbench_accounts WHERE aid = 17",
            "INSERT INTO settings VALUES ('set')",
            "UPDATE temperatures SET temp_c = 3",
            "set local statement_timeout = 0",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "set application_name to 'x'",
            "SET SESSION TimeZone TO 'UTC'; set names 'utf8'",
            "SET TIME ZONE 'UTC'",
            "BEGIN; SELECT 1; COMMIT",
            "SELECT pg_advisory_xact_lock(1)",
            "PREPARE TRANSACTION 'x'",
            "DECLARE c CURSOR FOR SELECT 1",
            "-- set x = 1\nselect 2",
            "/* set x */ select 2",
        ] {
            assert_eq!(screen(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn statements_that_outlive_their_transaction_pin() {
        for (text, reason) in [
            ("SET search_path = a", PinReason::Setting),
            ("  /* x */ set session role = a", PinReason::Setting),
            ("select 1; SET statement_timeout = 1", PinReason::Setting),
            ("RESET ALL", PinReason::Setting),
            (
                "SELECT pg_catalog.set_config('search_path', '', false)",
                PinReason::Setting,
            ),
            ("LISTEN a", PinReason::Listen),
            ("PREPARE a AS SELECT 1", PinReason::Prepare),
            ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", PinReason::Cursor),
            ("CREATE TEMP TABLE x (a int)", PinReason::TemporaryTable),
            ("create temporary table x (a int)", PinReason::TemporaryTable),
            ("SELECT 1 INTO TEMP x", PinReason::TemporaryTable),
            ("SELECT pg_try_ADVISORY_LOCK(1)", PinReason::AdvisoryLock),
            ("LOAD 'auto_explain'", PinReason::Load),
        ] {
            assert_eq!(screen(text.as_bytes()), Some(reason), "{text}");
        }
    }
}
