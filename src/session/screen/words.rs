//! The words that a statement begins with.

use crate::sql::{Lexer, Strings};

use super::PATIENCE_MAX;

/// Keywords and names, those in quotes without them; everything else is passed over.
pub(super) struct Words<'a> {
    text: &'a [u8],
    /// Of the part of the text that is looked at.
    tokens: Lexer<'a>,
}

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        let seen = text.get(..PATIENCE_MAX).unwrap_or(text);
        Self {
            text,
            tokens: Lexer::new(seen, Strings::Unknown),
        }
    }

    /// The next word, which stays the next.
    pub(super) fn peek(&self) -> Option<&'a [u8]> {
        let mut ahead = Self {
            text: self.text,
            tokens: self.tokens.clone(),
        };
        ahead.next()
    }

    /// What stands behind the last word, the part that is not looked at included.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.text.get(self.tokens.at()..).unwrap_or_default()
    }

    /// All tokens, not the words alone.
    pub(super) fn tokens(&mut self) -> &mut Lexer<'a> {
        &mut self.tokens
    }

    /// Whether the next word, if there is one, comes too late to be looked at.
    pub(super) fn are_lost(&self) -> bool {
        self.text.len() > PATIENCE_MAX && self.tokens.rest().is_empty()
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.tokens.find_map(|token| token.bare())
    }
}
