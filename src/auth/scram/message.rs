//! The grammar of SCRAM messages: `a=value` pairs between commas.

use super::ScramError;

/// Reads attributes one after the other, as `read_attr_value` and `read_any_attr` of PostgreSQL's `auth-scram.c`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The value of the next attribute, which must be the one named.
    pub(super) fn value(&mut self, name: u8) -> Result<&'a [u8], ScramError> {
        match self.rest.first() {
            Some(found) if *found == name => self.any().map(|(_, value)| value),
            found => Err(malformed(format!(
                "Expected attribute \"{}\" but found \"{}\".",
                char::from(name),
                shown(found)
            ))),
        }
    }

    /// The next attribute, whatever it is.
    pub(super) fn any(&mut self) -> Result<(u8, &'a [u8]), ScramError> {
        let (name, after) = match self.rest.split_first() {
            Some((name, after)) if name.is_ascii_alphabetic() => (*name, after),
            Some((other, _)) => {
                let other = shown(Some(other));
                return Err(malformed(format!(
                    "Attribute expected, but found invalid character \"{other}\"."
                )));
            }
            None => {
                return Err(malformed(
                    "Attribute expected, but found end of string.".to_owned(),
                ));
            }
        };
        let Some((b'=', after)) = after.split_first() else {
            return Err(malformed(format!(
                "Expected character \"=\" for attribute \"{}\".",
                char::from(name)
            )));
        };
        let end = memchr::memchr(b',', after).unwrap_or(after.len());
        let (value, rest) = after.split_at_checked(end).unwrap_or((after, &[]));
        self.rest = rest.strip_prefix(b",").unwrap_or(rest);
        Ok((name, value))
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes one byte that must be there.
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }
}

/// What both sides refuse before they look at the grammar.
pub(super) fn check_whole(message: &[u8], length_max: usize) -> Result<(), ScramError> {
    if message.len() > length_max {
        return Err(ScramError::TooLong);
    }
    if message.is_empty() {
        return Err(malformed("The message is empty.".to_owned()));
    }
    if memchr::memchr(0, message).is_some() {
        return Err(malformed(
            "Message length does not match input length.".to_owned(),
        ));
    }
    Ok(())
}

/// Printable as RFC 5802 has it: ASCII without the comma.
pub(super) fn is_printable(nonce: &[u8]) -> bool {
    nonce.iter().all(|byte| byte.is_ascii_graphic() && *byte != b',')
}

pub(super) fn malformed(detail: String) -> ScramError {
    ScramError::Malformed(detail)
}

/// A byte as it may stand in an error, as `sanitize_char` does.
pub(super) fn shown(byte: Option<&u8>) -> String {
    match byte {
        None => "end of string".to_owned(),
        Some(byte) if byte.is_ascii_graphic() => char::from(*byte).to_string(),
        Some(byte) => format!("0x{byte:02x}"),
    }
}

/// Foreign text as it may stand in an error: short and printable, as `sanitize_str` does.
pub(super) fn shown_text(text: &[u8]) -> String {
    text.iter()
        .take(SHOWN_LEN_MAX)
        .map(|byte| {
            if byte.is_ascii_graphic() {
                char::from(*byte)
            } else {
                '?'
            }
        })
        .collect()
}

/// As `sanitize_str` in PostgreSQL's `auth-scram.c`: an error message is no place for a peer's essays.
const SHOWN_LEN_MAX: usize = 30;
