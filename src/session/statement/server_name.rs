//! What statements are called on server connections.

use crate::protocol::tag;
use crate::protocol::write::Frame;

/// A statement's name on a server connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerName {
    Unnamed,
    Numbered(u64),
    /// A name under which no statement is ever prepared.
    Nobody,
    /// Of a statement that is needed for a moment: closed before it is prepared.
    Aside,
}

impl ServerName {
    /// Appends the name with its terminating zero.
    #[inline]
    pub fn write(self, out: &mut Vec<u8>) {
        self.write_bare(out);
        out.push(0);
    }

    /// Appends a `Close` of the statement.
    pub fn close(self, out: &mut Vec<u8>) {
        let frame = Frame::begin(out, tag::CLOSE);
        out.push(tag::TARGET_STATEMENT);
        self.write(out);
        frame.end(out);
    }

    /// The length of the name alone.
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            Self::Unnamed => 0,
            Self::Numbered(id) => SERVER_NAME_PREFIX.len() + digits(id),
            Self::Nobody => SERVER_NAME_PREFIX.len() + NOBODY.len(),
            Self::Aside => SERVER_NAME_PREFIX.len() + ASIDE.len(),
        }
    }

    /// Whether it is that of the unnamed statement.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::Unnamed
    }

    /// Appends the name alone. It needs no quotes in SQL.
    #[inline]
    pub fn write_bare(self, out: &mut Vec<u8>) {
        match self {
            Self::Unnamed => {}
            Self::Numbered(id) => {
                out.extend_from_slice(SERVER_NAME_PREFIX);
                // All sixteen are written, the highest first, and what is too much is cut off: no loop, no length to look at.
                let (digits, end) = (digits(id), out.len());
                out.extend_from_slice(&hexadecimal(id << (64 - 4 * digits)));
                out.truncate(end + digits);
            }
            Self::Nobody => {
                out.extend_from_slice(SERVER_NAME_PREFIX);
                out.extend_from_slice(NOBODY);
            }
            Self::Aside => {
                out.extend_from_slice(SERVER_NAME_PREFIX);
                out.extend_from_slice(ASIDE);
            }
        }
    }
}

/// All hexadecimal digits of a number. Every `Bind` has one, so eight are made at a time: the half bytes are spread, and the
/// letters, which do not follow on the figures, are moved up.
fn hexadecimal(id: u64) -> [u8; 16] {
    let eight = |half: u64| {
        let mut word = half & 0xffff_ffff;
        word = (word | word << 16) & 0x0000_ffff_0000_ffff;
        word = (word | word << 8) & 0x00ff_00ff_00ff_00ff;
        word = (word | word << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        let letters = ((word + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
        word + 0x3030_3030_3030_3030 + letters * 0x27
    };
    let (high, low) = (eight(id >> 32).to_be_bytes(), eight(id).to_be_bytes());
    let mut all = [0; 16];
    let (first, last) = all.split_at_mut(8);
    first.copy_from_slice(&high);
    last.copy_from_slice(&low);
    all
}

/// How many hexadecimal digits a number has.
fn digits(id: u64) -> usize {
    let highest = id.max(1).ilog2() / 4;
    usize::try_from(highest).unwrap_or(0) + 1
}

pub(in crate::session) const SERVER_NAME_PREFIX: &[u8] = b"pgweir_";
const NOBODY: &[u8] = b"none";
const ASIDE: &[u8] = b"aside";
