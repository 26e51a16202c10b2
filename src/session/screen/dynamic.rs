//! Texts that a body puts together, with holes where the pieces are not known: what may be called there is not known either.

use crate::sql::{Kind, Lexer, Strings, Token};

use super::pieces::{Piece, Placed};
use super::{is, is_any};

/// How the literals of an expression are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joining {
    /// One behind the other.
    Concatenation,
    /// The first has directives, as those of `format`.
    Format,
}

/// What stands in a place that is not known. The later of two may say more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hole {
    /// A string.
    Value,
    /// One name.
    Name,
    Text,
}

impl Hole {
    fn of(word: &[u8]) -> Self {
        if is_any(word, &["quote_literal", "quote_nullable"]) {
            Self::Value
        } else if is(word, "quote_ident") {
            Self::Name
        } else {
            Self::Text
        }
    }

    fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Value => b"''",
            Self::Name => NAME,
            Self::Text => TEXT,
        }
    }
}

/// Whether an expression, whose first literal is the piece at this place, gives a statement that may call what is not known.
pub(super) fn calls_unknown(pieces: &[Placed<'_>], first: usize, joining: Joining) -> bool {
    let text = joined(pieces.get(first..).unwrap_or_default(), joining);
    let tokens: Vec<Token<'_>> = Lexer::new(&text, Strings::Conforming).collect();
    let is_call = |at: usize| {
        let is_followed = tokens.get(at + 1).is_some_and(|next| next.is_sign(b"("));
        is_followed && tokens.get(at).is_some_and(is_hole) && !is_behind_keyword(&tokens, at)
    };
    is_expression(&tokens) || (0..tokens.len()).any(is_call)
}

/// The statement, with words of ours in its holes.
fn joined(pieces: &[Placed<'_>], mut joining: Joining) -> Vec<u8> {
    let mut text = Vec::new();
    let mut hole = None;
    let mut place = Place::Operand;
    let mut depth = 0_usize;
    for placed in pieces {
        match (&placed.piece, place) {
            (Piece::Sign(b"(" | b"["), _) => depth += 1,
            (Piece::Sign(b")" | b"]"), _) if depth > 0 => depth -= 1,
            // The call that puts them together is over.
            (Piece::Sign(b")"), _) => (joining, place) = (Joining::Concatenation, Place::Operand),
            _ if depth > 0 => {}
            (Piece::Sign(b";"), _) => break,
            (_, Place::Argument) => {}
            (Piece::Sign(b"," | b"||"), _) => {
                text.extend_from_slice(hole.take().map_or(&b""[..], Hole::as_bytes));
                let is_filled = joining == Joining::Format && placed.is_sign(b",");
                place = if is_filled {
                    Place::Argument
                } else {
                    Place::Operand
                };
            }
            (Piece::Sign(b"::"), _) => place = Place::Type,
            (_, Place::Type) => place = Place::Operand,
            (Piece::Word(word), _) if is_any(word, &BEHIND) => break,
            (Piece::Word(word), _) => hole = Some(Hole::of(word)),
            (Piece::Literal(value), _) if joining == Joining::Format && text.is_empty() => {
                fill(value, &mut text);
            }
            (Piece::Literal(value), _) => text.extend_from_slice(value),
            (Piece::Quoted(_) | Piece::Coded, _) => hole = Some(Hole::Text),
            (Piece::Sign(_), _) => {}
        }
    }
    text.extend_from_slice(hole.map_or(&b""[..], Hole::as_bytes));
    text
}

/// What a piece of an expression is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Operand,
    /// Of `format`: it goes into a hole.
    Argument,
    /// Behind `::`
    Type,
}

/// Adds what `format` makes of a text: `%s`, `%I`, `%L`, with a position, a flag and a width before the letter.
fn fill(template: &[u8], text: &mut Vec<u8>) {
    let mut rest = template;
    while let Some(at) = memchr::memchr(b'%', rest) {
        let (before, behind) = rest.split_at_checked(at).unwrap_or_default();
        text.extend_from_slice(before);
        let is_inner = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'$' | b'-' | b'*');
        let len = behind.iter().skip(1).take_while(|byte| is_inner(byte)).count();
        let hole = match behind.get(len + 1) {
            Some(b'I') => Hole::Name.as_bytes(),
            Some(b'L') => Hole::Value.as_bytes(),
            Some(b's') => Hole::Text.as_bytes(),
            _ => b"%",
        };
        text.extend_from_slice(hole);
        rest = behind.get(len + 2..).unwrap_or_default();
    }
    text.extend_from_slice(rest);
}

fn is_hole(token: &Token<'_>) -> bool {
    matches!(token.kind, Kind::Word | Kind::QuotedName) && memchr::memmem::find(token.text, PREFIX).is_some()
}

/// Whether a name stands behind a word that says what it names: no function that is called.
fn is_behind_keyword(tokens: &[Token<'_>], at: usize) -> bool {
    let defines = tokens
        .first()
        .is_some_and(|first| first.is_any(&["create", "alter", "grant", "revoke"]));
    let mut at = at;
    while let Some(before) = at.checked_sub(1).and_then(|before| tokens.get(before)) {
        if !before.is_sign(b".") {
            return before.is_any(&NAMING) || defines && before.is_any(&["on", "using", "function"]);
        }
        at = at.saturating_sub(2);
    }
    false
}

/// Whether a statement is an expression of which nothing is known.
fn is_expression(tokens: &[Token<'_>]) -> bool {
    let mut tokens = tokens.iter().filter(|token| !token.is_sign(b";"));
    let is_select = tokens.next().is_some_and(|first| first.is("select"));
    let is_text = |token: &Token<'_>| is_hole(token) && memchr::memmem::find(token.text, TEXT).is_some();
    is_select && tokens.next().is_some_and(is_text) && tokens.next().is_none()
}

/// What stands behind the expression of an `EXECUTE`.
const BEHIND: [&str; 3] = ["into", "using", "loop"];
/// Words before the name of something that has a list in parentheses.
const NAMING: [&str; 15] = [
    "analyze",
    "as",
    "copy",
    "exists",
    "index",
    "into",
    "of",
    "procedure",
    "recursive",
    "references",
    "table",
    "type",
    "vacuum",
    "view",
    "with",
];
const PREFIX: &[u8] = b"pgweir_";
const NAME: &[u8] = b"pgweir_name";
const TEXT: &[u8] = b"pgweir_text";
