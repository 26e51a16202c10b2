//! Protocol versions and their negotiation.

use super::StartupMessage;
use crate::protocol::body::split_cstr;
use crate::protocol::tag;
use crate::protocol::write::{self, Frame};

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion {
    pub major: u16,
    pub minor: u16,
}

impl ProtocolVersion {
    pub const V3_0: Self = Self { major: 3, minor: 0 };
    /// Cancel keys of up to 256 bytes.
    pub const V3_2: Self = Self { major: 3, minor: 2 };
    /// The newest that is spoken here.
    pub const LATEST: Self = Self::V3_2;

    #[must_use]
    pub fn from_u32(word: u32) -> Self {
        let [major_high, major_low, minor_high, minor_low] = word.to_be_bytes();
        Self {
            major: u16::from_be_bytes([major_high, major_low]),
            minor: u16::from_be_bytes([minor_high, minor_low]),
        }
    }

    #[must_use]
    pub fn to_u32(self) -> u32 {
        (u32::from(self.major) << 16) | u32::from(self.minor)
    }

    /// What is spoken with a client that asks for this version: never more than either side knows.
    #[must_use]
    pub fn negotiated(self) -> Self {
        self.min(Self::LATEST)
    }
}

/// Tells the client that it gets an older version than it asked for, or not all of the options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NegotiateProtocolVersion {
    /// What is spoken from here on.
    pub version: ProtocolVersion,
    /// Names of options that are not known.
    pub unsupported: Vec<String>,
}

impl NegotiateProtocolVersion {
    /// The answer to a startup message, where one is due. No `_pq_.` option is known here.
    #[must_use]
    pub fn answer(startup: &StartupMessage) -> Option<Self> {
        let version = startup.version.negotiated();
        if version == startup.version && startup.protocol_options.is_empty() {
            return None;
        }
        Some(Self {
            version,
            unsupported: startup
                .protocol_options
                .iter()
                .map(|(name, _)| name.clone())
                .collect(),
        })
    }

    /// Appends the message. The version is the whole one, as PostgreSQL sends it, not only the minor one.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let frame = Frame::begin(out, tag::NEGOTIATE_PROTOCOL_VERSION);
        out.extend_from_slice(&self.version.to_u32().to_be_bytes());
        let count = u32::try_from(self.unsupported.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        for name in &self.unsupported {
            write::cstr(out, name.as_bytes());
        }
        frame.end(out);
    }

    /// Reads the body of the message; names that are not UTF-8 lose what is not.
    #[must_use]
    pub fn decode(body: &[u8]) -> Option<Self> {
        let (version, rest) = body.split_first_chunk::<4>()?;
        let (count, mut rest) = rest.split_first_chunk::<4>()?;
        let mut unsupported = Vec::new();
        for _ in 0..u32::from_be_bytes(*count) {
            let (name, after) = split_cstr(rest)?;
            unsupported.push(String::from_utf8_lossy(name).into_owned());
            rest = after;
        }
        rest.is_empty().then(|| Self {
            version: ProtocolVersion::from_u32(u32::from_be_bytes(*version)),
            unsupported,
        })
    }
}
