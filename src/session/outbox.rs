//! What leaves for one side: a slice of what came in, as long as nothing has to be put in, taken out or rewritten.

use std::ops::Range;

use crate::protocol::SqlState;

/// Collects the output of one pass over an input. While only neighbouring ranges are kept, nothing is copied; and what is
/// copied is copied in as few pieces.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What leaves first.
    copied: Vec<u8>,
    /// The range of the input that leaves behind it.
    kept: Range<usize>,
    /// The codes of the server's errors that leave with it.
    errors: Vec<SqlState>,
}

impl Outbox {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a new pass; keeps the memory unless a large message has grown it.
    pub fn reset(&mut self) {
        self.kept = 0..0;
        self.errors.clear();
        self.copied.clear();
        self.copied.shrink_to(OUTBOX_KEPT_MAX);
    }

    /// Passes a range of the input on as it is.
    #[inline]
    pub fn keep(&mut self, input: &[u8], range: Range<usize>) {
        if self.kept.end == range.start {
            self.kept.end = range.end;
        } else {
            self.spill(input);
            self.kept = range;
        }
    }

    /// The buffer to append made messages to, behind everything kept so far.
    pub fn make(&mut self, input: &[u8]) -> &mut Vec<u8> {
        self.spill(input);
        &mut self.copied
    }

    /// Takes note of an error that leaves, as far as there is room.
    pub fn note_error(&mut self, code: SqlState) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(code);
        }
    }

    /// The errors that leave.
    #[must_use]
    pub fn errors(&self) -> &[SqlState] {
        &self.errors
    }

    /// Everything that leaves, in order.
    #[must_use]
    pub fn bytes<'a>(&'a mut self, input: &'a [u8]) -> &'a [u8] {
        if self.copied.is_empty() {
            return input.get(self.kept.clone()).unwrap_or_default();
        }
        self.spill(input);
        &self.copied
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.copied.is_empty() && self.kept.is_empty()
    }

    fn spill(&mut self, input: &[u8]) {
        if !self.kept.is_empty() {
            self.copied
                .extend_from_slice(input.get(self.kept.clone()).unwrap_or_default());
        }
        self.kept = 0..0;
    }
}

/// Errors of one pass that are taken note of: a read of 64 kB holds no more, as PostgreSQL words them.
const ERRORS_MAX: usize = 1024;
/// Memory that stays with an outbox between passes: a worker has two.
const OUTBOX_KEPT_MAX: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_ranges_are_one_slice_of_the_input() {
        let input = b"abcdef";
        let mut out = Outbox::new();
        out.keep(input, 0..2);
        out.keep(input, 2..4);
        assert_eq!(out.bytes(input), b"abcd");
        assert!(out.copied.is_empty());
    }

    #[test]
    fn what_is_put_in_stands_where_it_was_put() {
        let input = b"abcdef";
        let mut out = Outbox::new();
        out.keep(input, 0..2);
        out.make(input).extend_from_slice(b"XY");
        out.keep(input, 2..3);
        out.keep(input, 4..6);
        assert_eq!(out.bytes(input), b"abXYcef");
        out.reset();
        assert!(out.is_empty());
    }
}
