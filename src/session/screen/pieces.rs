//! The words, literals and signs of a function's body, comments passed over.

use std::borrow::Cow;

use crate::sql::{Kind, Lexer, Strings, name_of, string_with};

/// A piece of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Word(&'a [u8]),
    /// A name in double quotes.
    Quoted(Cow<'a, [u8]>),
    /// What stands between the quotes.
    Literal(Cow<'a, [u8]>),
    /// A name or a string that may be written in code points.
    Coded,
    /// An operator, punctuation, a number or a parameter.
    Sign(&'a [u8]),
}

/// A piece, and what stands behind it.
#[derive(Clone, Debug)]
pub(super) struct Placed<'a> {
    pub(super) piece: Piece<'a>,
    pub(super) rest: &'a [u8],
}

impl Placed<'_> {
    pub(super) fn is_word(&self, known: &str) -> bool {
        matches!(self.piece, Piece::Word(word) if super::is(word, known))
    }

    pub(super) fn is_sign(&self, known: &[u8]) -> bool {
        self.piece == Piece::Sign(known)
    }
}

/// Cuts a text into its pieces. A literal without its end reaches to the end of the text.
pub(super) fn pieces(text: &[u8], strings: Strings) -> Vec<Placed<'_>> {
    let mut found = Vec::new();
    let mut tokens = Lexer::new(text, strings);
    while let Some(token) = tokens.next() {
        let piece = match token.kind {
            Kind::Word => Piece::Word(token.text),
            Kind::QuotedName => {
                // Without its end it reaches to that of the text.
                let open = || Cow::Borrowed(token.text.get(1..).unwrap_or_default());
                Piece::Quoted(name_of(&token).unwrap_or_else(open))
            }
            Kind::String(_) => string_with(&token, strings).map_or(Piece::Coded, Piece::Literal),
            Kind::CodedName => Piece::Coded,
            Kind::Operator | Kind::Punctuation | Kind::Number | Kind::Parameter => Piece::Sign(token.text),
            Kind::Comment => continue,
        };
        let rest = tokens.rest();
        found.push(Placed { piece, rest });
    }
    found
}
