//! A text without its literals, so that texts that differ in those alone are known to be alike before anybody parses them.

use std::ops::Range;

use crate::sql::{Kind, Lexer, Strings};

use super::Spelling;
use super::caps::PARSED_LEN_MAX;

/// Takes literals out of texts, one after another, in memory of its own: nothing is allocated once that is large enough.
#[derive(Debug, Default)]
pub struct Normaliser {
    key: Key,
    literals: Vec<Range<usize>>,
    omitted: usize,
}

impl Normaliser {
    /// One whose memory is still to come.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is left of `text`; `None` where it is no text of PostgreSQL's, is too large to be parsed, or may mean something else
    /// than it seems to.
    ///
    /// Texts with one key have one [`Class`](super::Class), unless the plan of either says that a literal decided
    /// ([`Literals::Fixed`](super::Literals::Fixed)). They differ in literals, numbers of parameters, comments and white space, and
    /// in how many literals or rows of literals follow each other between commas. No plan hangs on those: functions are judged by
    /// all that share a name, whatever their arguments are.
    pub fn normalise(&mut self, text: &[u8], spelling: Spelling) -> Option<&[u8]> {
        self.literals.clear();
        self.omitted = 0;
        if text.len() > PARSED_LEN_MAX || !spelling.is_plain(text) {
            return None;
        }
        self.key.begin(text.len());
        let text_from = |start: usize| text.get(start..).unwrap_or_default();
        let mut lexer = Lexer::new(text, Strings::Conforming);
        let mut list = List::None;
        while let Some(token) = lexer.cut() {
            list = match (token.kind, token.text, list) {
                (Kind::String(_) | Kind::Number, _, list) => {
                    self.lift(token.range());
                    self.value(list)
                }
                (Kind::Parameter, _, list) => self.value(list),
                (Kind::Punctuation, b",", List::Value) => {
                    self.key.put(b",");
                    List::Comma
                }
                (Kind::Punctuation, b")", List::Value) => {
                    self.key.put(b")");
                    self.key.drop_row();
                    List::None
                }
                (_, text, _) => {
                    self.key.put_first(text_from(token.start), text.len());
                    List::None
                }
            };
        }
        lexer.is_through().then(|| self.key.bytes())
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

    fn lift(&mut self, place: Range<usize>) {
        if self.literals.len() < LITERALS_MAX {
            self.literals.push(place);
        } else {
            self.omitted += 1;
        }
    }

    /// A value that follows another one and a comma is taken for the same.
    fn value(&mut self, list: List) -> List {
        if list == List::Comma {
            self.key.take_back(COMMA.len());
        } else {
            self.key.put(VALUE);
        }
        List::Value
    }
}

/// What is left of a text, each token with a space behind it.
#[derive(Debug, Default)]
struct Key {
    /// Longer than what is in it.
    room: Vec<u8>,
    len: usize,
}

impl Key {
    /// Begins anew, for a text of this length: a token and a space, at the most, for each byte.
    fn begin(&mut self, text: usize) {
        self.len = 0;
        let room = 2 * text + PIECE;
        if self.room.len() < room {
            self.room.resize(room, 0);
        }
    }

    fn bytes(&self) -> &[u8] {
        self.room.get(..self.len).unwrap_or_default()
    }

    fn put(&mut self, token: &[u8]) {
        self.put_first(token, token.len());
    }

    /// Puts the token of this length that `rest` begins with. A short one is copied with what lies behind it, in one go.
    #[inline]
    fn put_first(&mut self, rest: &[u8], len: usize) {
        let Some(room) = self.room.get_mut(self.len..) else {
            return;
        };
        match (rest.first_chunk::<PIECE>(), room.first_chunk_mut::<PIECE>()) {
            (Some(from), Some(to)) if len <= PIECE => *to = *from,
            _ => copy(rest, room, len),
        }
        if let Some(space) = room.get_mut(len) {
            *space = b' ';
            self.len += len + 1;
        }
    }

    fn take_back(&mut self, count: usize) {
        self.len = self.len.saturating_sub(count);
    }

    /// A row of values behind another one.
    fn drop_row(&mut self) {
        if self.bytes().ends_with(ROWS) {
            self.take_back(ROWS.len() - ROW_LEN);
        }
    }
}

/// The first so many bytes.
#[inline(never)]
fn copy(from: &[u8], to: &mut [u8], count: usize) {
    if let (Some(from), Some(to)) = (from.get(..count), to.get_mut(..count)) {
        to.copy_from_slice(from);
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
/// Most tokens are shorter.
const PIECE: usize = 16;
const ROW_LEN: usize = b"( \0 ) ".len();

/// A place is 16 bytes: what is said about a statement's literals has no use for more.
pub const LITERALS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<String> {
        let mut normaliser = Normaliser::new();
        let key = normaliser.normalise(text.as_bytes(), Spelling::Standard);
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
        normaliser.normalise(text.as_bytes(), Spelling::Standard).unwrap();
        let literals: Vec<&str> = normaliser
            .literals()
            .iter()
            .map(|range| &text[range.clone()])
            .collect();
        assert_eq!(literals, ["'a'", "12"]);
        let many = format!("SELECT 1{}", ", 1".repeat(LITERALS_MAX));
        normaliser.normalise(many.as_bytes(), Spelling::Standard).unwrap();
        assert_eq!(
            (normaliser.literals().len(), normaliser.omitted()),
            (LITERALS_MAX, 1)
        );
    }

    #[test]
    fn what_cannot_be_read_has_no_key() {
        assert_eq!(key("SELECT 'a"), None);
        assert_eq!(key("SELECT 1 /*"), None);
        assert_eq!(key("SELECT 1\0"), None);
        assert_eq!(key(&" ".repeat(PARSED_LEN_MAX + 1)), None);
    }

    /// As one `standard_conforming_strings` cuts it, the backslash is a literal; as the other does, a function is called.
    #[test]
    fn a_text_that_may_mean_something_else_has_no_key() {
        let mut normaliser = Normaliser::new();
        let mut key = |text: &str| {
            let key = normaliser.normalise(text.as_bytes(), Spelling::Other);
            key.map(<[u8]>::to_vec)
        };
        assert!(key("SELECT 'a', 'b'").is_some());
        assert_eq!(key(r"SELECT '\', ', pg_advisory_lock(1) --'"), None);
        assert_eq!(key("SELECT 'é'"), None);
    }
}
