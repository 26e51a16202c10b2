//! A text without its literals, so that texts that differ in those alone are known to be alike before anybody parses them.

use std::ops::Range;

use super::caps::PARSED_LEN_MAX;
use super::scan::{Kind, Scan, Token};

/// Takes literals out of texts, one after another, in memory of its own: nothing is allocated once that is large enough.
#[derive(Debug, Default)]
pub struct Normaliser {
    key: Vec<u8>,
    literals: Vec<Range<usize>>,
    omitted: usize,
}

impl Normaliser {
    /// One whose memory is still to come.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is left of `text`; `None` where it is no text of PostgreSQL's, or too large to be parsed.
    ///
    /// Texts with one key have one [`Class`](super::Class), unless the plan of either says that a literal decided
    /// ([`Literals::Fixed`](super::Literals::Fixed)). They differ in literals, numbers of parameters, comments and white space, and
    /// in how many literals or rows of literals follow each other between commas. No plan hangs on those: functions are judged by
    /// all that share a name, whatever their arguments are.
    pub fn normalise(&mut self, text: &[u8]) -> Option<&[u8]> {
        self.key.clear();
        self.literals.clear();
        self.omitted = 0;
        if text.len() > PARSED_LEN_MAX {
            return None;
        }
        // A token and a space, at the most, for each byte.
        self.key.reserve(2 * text.len());
        let mut scan = Scan::new(text);
        let mut list = List::None;
        while let Some(token) = scan.next() {
            let bytes = scan.slice(token);
            list = match (token.kind, bytes, list) {
                (Kind::Broken, _, _) => return None,
                (Kind::Text | Kind::Number, _, list) => {
                    self.lift(token);
                    self.value(list)
                }
                (Kind::Parameter, _, list) => self.value(list),
                (Kind::Sign, b",", List::Value) => {
                    self.put(b",");
                    List::Comma
                }
                (Kind::Sign, b")", List::Value) => {
                    self.put(b")");
                    self.drop_row();
                    List::None
                }
                _ => {
                    self.put(bytes);
                    List::None
                }
            };
        }
        Some(&self.key)
    }

    /// Where the literals of the last text are, from first to last, up to [`LITERALS_MAX`].
    #[must_use]
    pub fn literals(&self) -> &[Range<usize>] {
        &self.literals
    }

    /// How many more there are.
    #[must_use]
    pub const fn omitted(&self) -> usize {
        self.omitted
    }

    fn lift(&mut self, token: Token) {
        if self.literals.len() < LITERALS_MAX {
            self.literals.push(token.start..token.end);
        } else {
            self.omitted += 1;
        }
    }

    /// A value that follows another one and a comma is taken for the same.
    fn value(&mut self, list: List) -> List {
        if list == List::Comma {
            let shorter = self.key.len().saturating_sub(COMMA.len());
            self.key.truncate(shorter);
        } else {
            self.put(VALUE);
        }
        List::Value
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.key.extend_from_slice(bytes);
        self.key.push(b' ');
    }

    /// A row of values behind another one.
    fn drop_row(&mut self) {
        if self.key.ends_with(ROWS) {
            let shorter = self.key.len() - (ROWS.len() - ROW_LEN);
            self.key.truncate(shorter);
        }
    }
}

/// What the last tokens were.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    None,
    Value,
    /// A value and a comma.
    Comma,
}

/// Stands for a literal; no token has this byte, save in double quotes, which show where they begin and end.
const VALUE: &[u8] = b"\0";
const COMMA: &[u8] = b", ";
const ROWS: &[u8] = b"( \0 ) , ( \0 ) ";
const ROW_LEN: usize = b"( \0 ) ".len();

/// A place is 16 bytes: what is said about a statement's literals has no use for more.
pub const LITERALS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<String> {
        let mut normaliser = Normaliser::new();
        let key = normaliser.normalise(text.as_bytes());
        key.map(|key| String::from_utf8(key.to_vec()).unwrap())
    }

    #[test]
    fn literals_comments_and_white_space_make_no_difference() {
        let same = [
            "SELECT * FROM t WHERE a = 1 AND b = 'x'",
            "SELECT * FROM t WHERE a = 2.5e3 AND b = E'it\\'s'",
            "SELECT  *\nFROM t -- why\nWHERE a=$1 AND b = $$y$$ /* traceparent='00' */",
        ];
        assert_eq!(key(same[0]).unwrap(), "SELECT * FROM t WHERE a = \0 AND b = \0 ");
        assert!(same.iter().all(|text| key(text) == key(same[0])));
        let others = [
            "SELECT * FROM t WHERE a = 1 AND c = 'x'",
            "SELECT * FROM t WHERE a = 1 AND \"b\" = 'x'",
        ];
        assert!(others.iter().all(|text| key(text) != key(same[0])));
    }

    #[test]
    fn lists_and_rows_of_literals_are_of_any_length() {
        let list = |items: &str| key(&format!("SELECT * FROM t WHERE a IN ({items})"));
        assert!(list("1").is_some());
        assert_eq!(list("1"), list("2, 3, 'x', $4"));
        assert_ne!(list("1"), list("1, a"));
        let rows = |rows: &str| key(&format!("INSERT INTO t VALUES {rows} RETURNING 1"));
        assert_eq!(rows("(1, 'a')"), rows("(2, 'b'), (3, 'c'), (4, 'd')"));
        assert_ne!(rows("(1, 'a')"), rows("(2, now()), (3, 'c')"));
    }

    #[test]
    fn tokens_that_touch_and_tokens_that_do_not_are_told_apart() {
        assert_ne!(key("SELECT - -1"), key("SELECT @-1"));
        assert_ne!(key("SELECT a.b"), key("SELECT a, b"));
        assert_ne!(key("SELECT \"a \0 b\""), key("SELECT \"a 1 b\""));
        assert_ne!(key("SELECT 1 a"), key("SELECT 1, a"));
    }

    #[test]
    fn places_of_literals_are_told() {
        let mut normaliser = Normaliser::new();
        let text = "SELECT 'a', 12 + $1";
        normaliser.normalise(text.as_bytes()).unwrap();
        let literals: Vec<&str> = normaliser
            .literals()
            .iter()
            .map(|range| &text[range.clone()])
            .collect();
        assert_eq!(literals, ["'a'", "12"]);
        let many = format!("SELECT 1{}", ", 1".repeat(LITERALS_MAX));
        normaliser.normalise(many.as_bytes()).unwrap();
        assert_eq!(
            (normaliser.literals().len(), normaliser.omitted()),
            (LITERALS_MAX, 1)
        );
    }

    #[test]
    fn what_cannot_be_read_has_no_key() {
        assert_eq!(key("SELECT 'a"), None);
        assert_eq!(key("SELECT 1 /*"), None);
        assert_eq!(key(&" ".repeat(PARSED_LEN_MAX + 1)), None);
    }
}
