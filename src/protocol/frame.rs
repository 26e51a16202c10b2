//! Heads of tagged messages: one byte of tag, four of length (itself included), then the body.
//!
//! Only the head is ever needed to relay a message, so nothing here collects a body.

use super::report::Report;
use super::sqlstate::SqlState;
use super::tag;

/// The head of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub tag: u8,
    /// Length of the body in bytes; with the head the message is `HEAD_LEN + body` long.
    pub body: usize,
}

impl Head {
    /// Reads the head at the start of `input`; `None` when it is cut.
    ///
    /// # Errors
    /// A length below four, which no message can have.
    pub fn read(input: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some((&[tag, a, b, c, d], _)) = input.split_first_chunk::<HEAD_LEN>() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes([a, b, c, d]);
        match usize::try_from(len).ok().and_then(|len| len.checked_sub(4)) {
            Some(body) if len <= MESSAGE_LEN_MAX => Ok(Some(Self { tag, body })),
            _ => Err(FrameError::Length { tag, len }),
        }
    }

    /// The same for a message from a client, whose tag and length PostgreSQL checks before it reads on
    /// (`SocketBackend` in `src/backend/tcop/postgres.c`).
    ///
    /// # Errors
    /// A length out of bounds for its tag, or a tag that no client sends once it is logged in.
    pub fn read_frontend(input: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some(&first) = input.first() else {
            return Ok(None);
        };
        let Some(max) = frontend_body_max(first) else {
            return Err(FrameError::Tag(first));
        };
        match Self::read(input)? {
            Some(head) if head.body > max => Err(FrameError::Length {
                tag: head.tag,
                len: u32::try_from(head.body + 4).unwrap_or(u32::MAX),
            }),
            head => Ok(head),
        }
    }

    /// Length of the whole message.
    #[must_use]
    pub fn len(&self) -> usize {
        HEAD_LEN + self.body
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    Length { tag: u8, len: u32 },
    Tag(u8),
}

impl From<&FrameError> for Report {
    fn from(error: &FrameError) -> Self {
        match *error {
            FrameError::Length { tag, len } => {
                Self::fatal(SqlState::PROTOCOL_VIOLATION, "invalid message length")
                    .with_detail(format!("A message of type {tag} claims to be {len} bytes long."))
            }
            FrameError::Tag(tag) => Self::fatal(
                SqlState::PROTOCOL_VIOLATION,
                format!("invalid frontend message type {tag}"),
            ),
        }
    }
}

fn frontend_body_max(tag: u8) -> Option<usize> {
    match tag {
        tag::QUERY | tag::FUNCTION_CALL | tag::BIND | tag::PARSE | tag::COPY_DATA => Some(LARGE_MESSAGE_MAX),
        tag::CLOSE
        | tag::DESCRIBE
        | tag::EXECUTE
        | tag::FLUSH
        | tag::SYNC
        | tag::TERMINATE
        | tag::COPY_DONE
        | tag::COPY_FAIL => Some(SMALL_MESSAGE_MAX),
        _ => None,
    }
}

pub const HEAD_LEN: usize = 5;
/// A backend message may not exceed what a signed 32-bit length can say.
const MESSAGE_LEN_MAX: u32 = i32::MAX as u32;
/// `PQ_LARGE_MESSAGE_LIMIT`, that is `MaxAllocSize - 1`, in `src/include/libpq/libpq.h`.
const LARGE_MESSAGE_MAX: usize = 0x3fff_fffe;
/// `PQ_SMALL_MESSAGE_LIMIT` in `src/include/libpq/libpq.h`.
pub const SMALL_MESSAGE_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_head_is_not_an_error() {
        for cut in 0..HEAD_LEN {
            assert_eq!(Head::read_frontend(&b"Q\0\0\0\x05"[..cut]), Ok(None));
        }
        assert_eq!(
            Head::read_frontend(b"Q\0\0\0\x05"),
            Ok(Some(Head {
                tag: tag::QUERY,
                body: 1
            }))
        );
    }

    #[test]
    fn a_length_that_lies_is_refused_as_soon_as_it_is_read() {
        assert_eq!(
            Head::read(b"Q\0\0\0\x03"),
            Err(FrameError::Length {
                tag: tag::QUERY,
                len: 3
            })
        );
        assert_eq!(
            Head::read(b"D\xff\xff\xff\xff"),
            Err(FrameError::Length {
                tag: tag::DATA_ROW,
                len: u32::MAX
            })
        );
        assert!(matches!(
            Head::read_frontend(b"S\0\x01\0\0"),
            Err(FrameError::Length { .. })
        ));
        assert!(matches!(
            Head::read_frontend(b"Q\x7f\0\0\0"),
            Err(FrameError::Length { .. })
        ));
    }

    #[test]
    fn an_unknown_frontend_tag_is_refused_at_its_first_byte() {
        assert_eq!(Head::read_frontend(b"!"), Err(FrameError::Tag(b'!')));
        assert_eq!(Head::read_frontend(b"p\0\0\0\x08"), Err(FrameError::Tag(b'p')));
    }
}
