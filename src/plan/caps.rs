//! How large and how deep a text is, from its tokens alone, so that no text is parsed that the stack of a parser is too small for.

use crate::sql::{Kind, Lexer, Strings, Token};

/// What of a text is over its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    Bytes,
    Tokens,
    Nesting,
    /// Not a text that PostgreSQL would take.
    Broken,
}

/// How deep the tree of a text may be, in tokens; an error where something is over its limit.
///
/// A tree grows deeper by a token at a time. What is in parentheses and what is around them, up to the next comma, may be above each
/// other; what commas part lies side by side, save for set operations, whose arms have commas and still nest.
pub(super) fn depth(text: &[u8]) -> Result<usize, Excess> {
    if text.len() > PARSED_LEN_MAX {
        return Err(Excess::Bytes);
    }
    let mut lexer = Lexer::new(text, Strings::Conforming);
    let mut levels = vec![Level::default()];
    let mut tokens = 0;
    let mut open = 0;
    let mut sets = 0;
    for token in lexer.by_ref() {
        tokens += 1;
        if tokens > TOKENS_MAX {
            return Err(Excess::Tokens);
        }
        let level = levels.last_mut().ok_or(Excess::Broken)?;
        match (token.kind, token.text) {
            (Kind::Punctuation, b"(" | b"[") => {
                level.own += 1;
                open += level.own;
                levels.push(Level::default());
            }
            (Kind::Punctuation, b")" | b"]") => {
                let inner = levels.pop().ok_or(Excess::Broken)?.depth();
                let outer = levels.last_mut().ok_or(Excess::Broken)?;
                open -= outer.own;
                outer.inner = outer.inner.max(inner);
            }
            (Kind::Punctuation, b"," | b";") => level.part(),
            _ => {
                level.own += 1;
                sets += usize::from(is_set_operation(&token));
            }
        }
        let level = levels.last().ok_or(Excess::Broken)?;
        if open + level.depth() + sets > NESTING_MAX {
            return Err(Excess::Nesting);
        }
    }
    let outermost = levels.pop().ok_or(Excess::Broken)?;
    if levels.is_empty() && lexer.is_through() {
        Ok(outermost.depth() + sets)
    } else {
        Err(Excess::Broken)
    }
}

/// Inside one pair of parentheses or brackets.
#[derive(Debug, Default)]
struct Level {
    /// Tokens since the last comma.
    own: usize,
    /// The deepest parentheses since then.
    inner: usize,
    /// The deepest that a comma has ended.
    ended: usize,
}

impl Level {
    const fn part(&mut self) {
        self.ended = self.depth();
        self.own = 0;
        self.inner = 0;
    }

    const fn depth(&self) -> usize {
        let last = self.own + self.inner;
        if last > self.ended { last } else { self.ended }
    }
}

fn is_set_operation(token: &Token<'_>) -> bool {
    token.is_any(&["union", "intersect", "except"])
}

/// Longer texts are not parsed: they are lists of values, mostly, and take longer to parse than to run. Ten thousand keys fit.
pub(super) const PARSED_LEN_MAX: usize = 512 * 1024;
/// A token is at most a node with its parts, about 200 bytes; so a tree has at most 25 MB.
const TOKENS_MAX: usize = 131_072;
/// [`STACK_LEN`](super::STACK_LEN) is made for it. Two thousand conditions in a row fit.
pub(super) const NESTING_MAX: usize = 8_192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_commas_part_lies_side_by_side() {
        assert_eq!(depth(b"a b, c"), Ok(2));
        assert_eq!(depth(b"f(a b c, d)"), Ok(2 + 3));
        assert_eq!(depth(b"f((a), b) + 1 + 2"), Ok(2 + 1 + 1 + 4));
        let rows = format!("VALUES (1{})", "), (2".repeat(20_000));
        assert!(depth(rows.as_bytes()).unwrap() < 10);
    }

    #[test]
    fn arms_of_set_operations_nest_although_they_have_commas() {
        let chain = |length| format!("SELECT 1, 2{}", " UNION ALL SELECT 1, 2".repeat(length));
        assert!(depth(chain(500).as_bytes()).unwrap() > 500);
        assert_eq!(depth(chain(10_000).as_bytes()), Err(Excess::Nesting));
    }

    #[test]
    fn each_limit_is_held() {
        let deep = |part: &str, count| depth(format!("SELECT {}1", part.repeat(count)).as_bytes());
        assert_eq!(deep("(", 100_000), Err(Excess::Nesting));
        assert_eq!(deep("[", 100_000), Err(Excess::Nesting));
        assert_eq!(deep("NOT ", 100_000), Err(Excess::Nesting));
        assert_eq!(deep("1,", 200_000), Err(Excess::Tokens));
        assert_eq!(deep(" ", 1_000_000), Err(Excess::Bytes));
        assert_eq!(deep(")", 1), Err(Excess::Broken));
        assert_eq!(deep("'", 1), Err(Excess::Broken));
        assert_eq!(deep("\0", 1), Err(Excess::Broken));
    }
}
