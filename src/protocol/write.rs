//! Writing messages into a caller's buffer.

/// A message under way: the length is filled in by `end`.
#[derive(Debug)]
#[must_use = "a frame without an end has no length"]
pub struct Frame {
    /// Index of the length word; `start + 4 <= out.len()` from `begin` on.
    start: usize,
}

impl Frame {
    /// Writes the tag and reserves the length.
    pub fn begin(out: &mut Vec<u8>, tag: u8) -> Self {
        out.push(tag);
        Self::begin_untagged(out)
    }

    /// Startup packets have a length, but no tag.
    pub fn begin_untagged(out: &mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        Self { start }
    }

    /// Fills in the length: itself and the body, without the tag.
    pub fn end(self, out: &mut [u8]) {
        let len = u32::try_from(out.len() - self.start).unwrap_or(u32::MAX);
        if let Some(word) = out.get_mut(self.start..self.start + 4) {
            word.copy_from_slice(&len.to_be_bytes());
        }
    }
}

/// A message without a body.
pub fn bare(out: &mut Vec<u8>, tag: u8) {
    out.push(tag);
    out.extend_from_slice(&4_u32.to_be_bytes());
}

/// A zero-terminated string. A zero byte inside would shift every later field, so the value ends there.
pub fn cstr(out: &mut Vec<u8>, value: &[u8]) {
    let end = memchr::memchr(0, value).unwrap_or(value.len());
    out.extend_from_slice(value.get(..end).unwrap_or(value));
    out.push(0);
}
