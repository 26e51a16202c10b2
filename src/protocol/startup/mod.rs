//! The packets before the first message: they have a length, but no tag.
//!
//! Source: `ProcessStartupPacket` in PostgreSQL's `src/backend/tcop/backend_startup.c`.

mod cancel;
mod error;
mod negotiate;
mod options;
mod replication;

#[cfg(test)]
mod tests;

pub use cancel::{CANCEL_SECRET_LEN_MAX, CANCEL_SECRET_LEN_MIN};
pub use error::StartupError;
pub use negotiate::{NegotiateProtocolVersion, ProtocolVersion};
pub use options::parse_options;
pub use replication::Replication;

use super::body::split_cstr;
use super::cancel::CancelKey;
use super::write::{self, Frame};

/// Reads one packet from the front of what has arrived.
///
/// # Errors
/// A length out of range, at its fourth byte; anything else once the packet is whole.
pub fn decode(input: &[u8]) -> Result<Decoded, StartupError> {
    let Some((length, _)) = input.split_first_chunk::<4>() else {
        return Ok(Decoded::NeedMore(4 - input.len()));
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if !(PACKET_LEN_MIN..=PACKET_LEN_MAX).contains(&length) {
        return Err(StartupError::Length);
    }
    let Some(packet) = input.get(..length) else {
        return Ok(Decoded::NeedMore(length - input.len()));
    };
    let Some((code, body)) = packet.get(4..).and_then(<[u8]>::split_first_chunk::<4>) else {
        return Err(StartupError::Length);
    };
    let packet = match u32::from_be_bytes(*code) {
        SSL_REQUEST_CODE => Packet::SslRequest,
        GSS_ENC_REQUEST_CODE => Packet::GssEncRequest,
        CANCEL_REQUEST_CODE => Packet::Cancel(CancelKey::decode_cancel_request(body)?),
        version => Packet::Startup(StartupMessage::decode(ProtocolVersion::from_u32(version), body)?),
    };
    Ok(Decoded::Packet { len: length, packet })
}

/// What `decode` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// At least that many bytes are missing.
    NeedMore(usize),
    /// A packet that took the first `len` bytes.
    Packet { len: usize, packet: Packet },
}

/// A packet without a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    SslRequest,
    GssEncRequest,
    Cancel(CancelKey),
    Startup(StartupMessage),
}

/// What a client wants: whom, where, how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartupMessage {
    /// As requested; the major version is one that is spoken here.
    pub version: ProtocolVersion,
    /// In the order of the packet; the last of a name counts.
    pub parameters: Vec<(String, String)>,
    /// The protocol extensions, which are not parameters: names with their `_pq_.` and values.
    pub protocol_options: Vec<(String, String)>,
}

impl StartupMessage {
    /// The value that counts.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut newest_first = self.parameters.iter().rev();
        newest_first
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Appends the packet as a client sends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let frame = Frame::begin_untagged(out);
        out.extend_from_slice(&self.version.to_u32().to_be_bytes());
        for (name, value) in self.parameters.iter().chain(&self.protocol_options) {
            // An empty name would end the packet.
            if !name.is_empty() {
                write::cstr(out, name.as_bytes());
                write::cstr(out, value.as_bytes());
            }
        }
        out.push(0);
        frame.end(out);
    }

    fn decode(version: ProtocolVersion, body: &[u8]) -> Result<Self, StartupError> {
        if version.major != ProtocolVersion::LATEST.major {
            return Err(StartupError::Version(version));
        }
        let mut message = Self {
            version,
            parameters: Vec::new(),
            protocol_options: Vec::new(),
        };
        let mut rest = body;
        loop {
            match rest {
                [0] => return Ok(message),
                [] | [0, ..] => return Err(StartupError::Layout),
                [_, ..] => {}
            }
            let (name, after) = split_cstr(rest).ok_or(StartupError::Layout)?;
            let (value, after) = split_cstr(after).ok_or(StartupError::Layout)?;
            rest = after;
            let name = text(name, name)?;
            let value = if name == "application_name" {
                text(value, name.as_bytes()).unwrap_or_else(|_| clean_ascii(value))
            } else {
                text(value, name.as_bytes())?
            };
            if name.starts_with(PROTOCOL_OPTION_PREFIX) {
                message.protocol_options.push((name, value));
            } else {
                message.parameters.push((name, value));
            }
        }
    }
}

/// Appends the packet that asks a server for TLS; it answers with one byte, `S` or `N` or the `E` of an error.
pub fn encode_ssl_request(out: &mut Vec<u8>) {
    let frame = Frame::begin_untagged(out);
    out.extend_from_slice(&SSL_REQUEST_CODE.to_be_bytes());
    frame.end(out);
}

fn text(bytes: &[u8], name: &[u8]) -> Result<String, StartupError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(StartupError::NotUtf8(clean_ascii(name))),
    }
}

/// As `pg_clean_ascii`, which PostgreSQL applies to an `application_name`.
fn clean_ascii(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '?',
        })
        .collect()
}

const SSL_REQUEST_CODE: u32 = (1234 << 16) | 5679;
const GSS_ENC_REQUEST_CODE: u32 = (1234 << 16) | 5680;
const CANCEL_REQUEST_CODE: u32 = (1234 << 16) | 5678;
/// What the names of protocol extensions begin with.
pub const PROTOCOL_OPTION_PREFIX: &str = "_pq_.";

/// The length word and the version.
const PACKET_LEN_MIN: usize = 8;
/// `MAX_STARTUP_PACKET_LENGTH` of PostgreSQL's `src/include/libpq/pqcomm.h`, which does not count the length word.
pub const PACKET_LEN_MAX: usize = 10_000 + 4;
