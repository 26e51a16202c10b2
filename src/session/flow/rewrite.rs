//! Errors about texts in which names were replaced, as they would be about the client's own text.

use crate::protocol::body::{FIELD_MESSAGE, FIELD_POSITION, FIELD_WHERE, error_fields};
use crate::protocol::write;
use crate::session::pipeline::Move;
use crate::session::statement::{ClientStatements, SERVER_NAME_PREFIX};

use super::Parties;

/// Where an error's position is counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// In the client's own text.
    Kept,
    /// In the client's text with other names.
    Moved(&'a [Move]),
    /// In a text of ours.
    Unknown,
}

/// What the client calls its statements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a>(&'a ClientStatements);

impl<'a> Names<'a> {
    pub(super) fn of(parties: &'a Parties<'_>) -> Self {
        Self(&parties.client.statements)
    }
}

/// Whether a body may hold a name of ours.
pub(super) fn shows_a_name(body: &[u8]) -> bool {
    memchr::memmem::find(body, SERVER_NAME_PREFIX).is_some()
}

/// Appends the body of an error with its position and its names put right.
pub(super) fn error(body: &[u8], place: Place<'_>, names: Names<'_>, out: &mut Vec<u8>) {
    for (kind, value) in error_fields(body) {
        match (kind, place) {
            (FIELD_POSITION, Place::Unknown) => {}
            (FIELD_POSITION, Place::Moved(moves)) => {
                out.push(kind);
                write::cstr(out, &position(value, moves));
            }
            (FIELD_MESSAGE | FIELD_WHERE, _) => {
                out.push(kind);
                write::cstr(out, &with_own_names(value, names));
            }
            _ => {
                out.push(kind);
                write::cstr(out, value);
            }
        }
    }
    out.push(0);
}

/// A position in the client's text. Positions count characters, from 1.
fn position(value: &[u8], moves: &[Move]) -> Vec<u8> {
    let Some(at) = std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse::<i64>().ok())
    else {
        return value.to_vec();
    };
    let mut shift = 0;
    for moved in moves {
        let start = i64::from(moved.start) + 1;
        if at >= start + i64::from(moved.new_len) {
            shift += i64::from(moved.old_len) - i64::from(moved.new_len);
        } else if at > start {
            return (start + shift).to_string().into_bytes();
        }
    }
    (at + shift).to_string().into_bytes()
}

fn with_own_names(value: &[u8], names: Names<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = memchr::memmem::find(rest, SERVER_NAME_PREFIX) {
        let (before, found) = rest.split_at_checked(at).unwrap_or_default();
        out.extend_from_slice(before);
        let digits = found.get(SERVER_NAME_PREFIX.len()..).unwrap_or_default();
        let len = digits
            .iter()
            .position(|byte| !byte.is_ascii_hexdigit())
            .unwrap_or(digits.len());
        let id = digits
            .get(..len)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let written = SERVER_NAME_PREFIX.len() + len;
        let ours = found.get(..written).unwrap_or_default();
        out.extend_from_slice(id.and_then(|id| names.0.name_of(id)).unwrap_or(ours));
        rest = found.get(written..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position_: &str, moves: &[Move]) -> String {
        String::from_utf8(position(position_.as_bytes(), moves)).unwrap()
    }

    #[test]
    fn positions_are_those_of_the_clients_text() {
        // `EXECUTE a(x); EXECUTE longer_name(y)` with `pgweir_1` in both places.
        let moves = [
            Move {
                start: 8,
                old_len: 1,
                new_len: 8,
            },
            Move {
                start: 28,
                old_len: 11,
                new_len: 8,
            },
        ];
        for (server, client) in [
            ("1", "1"),
            ("9", "9"),
            ("12", "9"),
            ("18", "11"),
            ("29", "22"),
            ("31", "22"),
            ("38", "34"),
        ] {
            assert_eq!(at(server, &moves), client, "{server}");
        }
        assert_eq!(at("x", &moves), "x");
    }
}
