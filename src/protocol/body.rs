//! Reading the few bodies that are looked into, without copying them.

use super::report::Severity;
use super::sqlstate::SqlState;

/// Splits off a zero-terminated string; `None` when its end is not in `input`.
#[must_use]
pub fn split_cstr(input: &[u8]) -> Option<(&[u8], &[u8])> {
    // Names are empty or short, mostly: there the fast search begins too late.
    let near = input.iter().take(SHORT_LEN).position(|byte| *byte == 0);
    let end = near.or_else(|| memchr::memchr(0, input))?;
    Some((input.get(..end)?, input.get(end + 1..)?))
}

/// Reads a `ParameterStatus` body: name and value.
#[must_use]
pub fn parameter_status(body: &[u8]) -> Option<(&str, &str)> {
    let (name, rest) = split_cstr(body)?;
    let (value, _) = split_cstr(rest)?;
    Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
}

/// The fields of an `ErrorResponse` or `NoticeResponse` that decide what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorFields<'a> {
    pub code: SqlState,
    pub message: &'a [u8],
    severity: &'a [u8],
}

impl<'a> ErrorFields<'a> {
    /// Reads the fields; what is missing (a cut body, a very old server) reads as an internal error.
    #[must_use]
    pub fn read(body: &'a [u8]) -> Self {
        let mut fields = Self {
            code: SqlState::INTERNAL_ERROR,
            message: b"",
            severity: b"ERROR",
        };
        for (kind, value) in error_fields(body) {
            match kind {
                b'V' => fields.severity = value,
                b'C' => fields.code = SqlState::from_bytes(value).unwrap_or(fields.code),
                b'M' => fields.message = value,
                _ => {}
            }
        }
        fields
    }

    /// Whether it is one that a primary might not give for a statement that only reads: what a standby refuses (whose words are
    /// translated: the code alone tells), a definition that it has not replayed, a conflict with what it replays, and the end of
    /// the server.
    #[must_use]
    pub fn is_of_standby(&self) -> bool {
        let classes = ["08", "40", "57P"];
        let is_of_class = || classes.iter().any(|class| self.code.as_str().starts_with(class));
        self.code.is_of_definitions() || self.code.is_of_replica() || is_of_class()
    }

    /// Whether the server ends the connection after it.
    #[must_use]
    pub fn ends_connection(&self) -> bool {
        self.severity == b"FATAL" || self.severity == b"PANIC"
    }
}

/// The fields of an error body in their order, as kind and value.
pub fn error_fields(body: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let (&kind, after) = rest.split_first()?;
        if kind == 0 {
            return None;
        }
        let (value, next) = split_cstr(after)?;
        rest = next;
        Some((kind, value))
    })
}

/// Appends an error body again with another severity: how a server's FATAL reaches a client that keeps its session.
pub fn with_severity(body: &[u8], severity: Severity, out: &mut Vec<u8>) {
    for (kind, value) in error_fields(body) {
        out.push(kind);
        let value = if matches!(kind, b'S' | b'V') {
            severity.as_str().as_bytes()
        } else {
            value
        };
        super::write::cstr(out, value);
    }
    out.push(0);
}

/// Kinds of fields in an error body.
pub const FIELD_MESSAGE: u8 = b'M';
pub const FIELD_POSITION: u8 = b'P';
pub const FIELD_WHERE: u8 = b'W';
/// How far a string's end is looked for byte by byte.
const SHORT_LEN: usize = 8;
