//! From the text of a query to a [`Plan`]: what it does, as far as that decides which server may run it, what it touches, and why,
//! in words of PostgreSQL's.
//!
//! A plan is a value that depends on the text and its [`Circumstances`] alone, and never changes. Anything that is not known to
//! only read is [`Class::Write`]: a statement, function, type, operator or table that nobody has heard of, a text that PostgreSQL's
//! grammar does not have, a text that is too large to be parsed.
//!
//! How it is meant to be used:
//!
//! 1. The text as it came is looked for among plans that are known, then what a [`Normaliser`] makes of it. Plans of texts whose
//!    literals decide ([`Literals::Fixed`]) are kept by the text itself. Plans are of one catalog and one search path.
//! 2. A text that is new goes to the threads of `relay::planner`, whose stacks are [`STACK_LEN`] long: [`plan`] goes as deep as the
//!    text is nested. Until it is back, or where there is no room, the statement is the primary's.
//! 3. The class decides together with what a text does not show: the transaction that the session stands in; whether it is pinned,
//!    as with temporary tables, which hide others; `default_transaction_isolation`, since a standby has no `serializable`; whether
//!    `default_transaction_read_only` makes a `BEGIN` without modes one that reads.
//! 4. A standby that refuses a read all the same is the last net, not the first: it takes much that it should not.
//!
//! The catalog is read elsewhere, and judged there where that needs what is inside of something: a view acts as its definition
//! does, an aggregate as its functions, a domain as its checks, a table as its policies and inheritors.

mod builtin;
mod caps;
mod catalog;
mod closure;
mod normalise;
mod parse;
mod patterns;
mod restraint;
mod statement;
#[cfg(test)]
mod tests;
mod verdict;
mod walk;

pub use catalog::{Catalog, Function, Judgement, Relation};
pub use closure::{View, judge_views};
pub use normalise::{LITERALS_MAX, Normaliser};
pub use patterns::Patterns;
pub use restraint::{Body, restrain};
pub use verdict::{Access, Class, Following, Inner, Literals, Plan, Reason, ReasonKind};

/// What the meaning of a text depends on, besides itself.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    pub catalog: &'a Catalog,
    /// The schemas of the session's `search_path`, `$user` replaced. `pg_catalog` is always meant too.
    pub search_path: &'a [Box<str>],
    pub functions: &'a Patterns,
    pub spelling: Spelling,
}

/// How a session's texts are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Spelling {
    /// `standard_conforming_strings` is on, and `client_encoding` is `UTF8`.
    Standard,
    /// Anything else: a backslash or a byte beyond ASCII may mean something that is not seen here.
    Other,
}

impl Spelling {
    /// Whether a text means what it seems to.
    fn is_plain(self, text: &[u8]) -> bool {
        let is_strange = |byte: &u8| *byte == b'\\' || !byte.is_ascii();
        self == Self::Standard || !text.iter().any(is_strange)
    }
}

/// What `text`, one statement or several, does.
///
/// It needs [`STACK_LEN`] bytes of stack: parsing, walking and dropping a tree go as deep as the tree.
#[must_use]
pub fn plan(text: &[u8], circumstances: &Circumstances<'_>) -> Plan {
    if !circumstances.spelling.is_plain(text) {
        let subject = "standard_conforming_strings or client_encoding is not the usual one";
        return Plan::opaque(Reason::new(ReasonKind::Unparsable, subject));
    }
    let Ok(text) = std::str::from_utf8(text) else {
        return Plan::opaque(Reason::new(ReasonKind::Unparsable, "not UTF-8"));
    };
    match parse::statements(text) {
        Ok(statements) => statement::whole(text, &statements, circumstances),
        Err(reason) => Plan::opaque(reason),
    }
}

/// The statements of a text, without the semicolons between them; the whole, where it cannot be parsed.
///
/// It needs [`STACK_LEN`] bytes of stack.
#[must_use]
pub fn split(text: &str) -> Vec<&str> {
    let Ok(statements) = parse::statements(text) else {
        return vec![text];
    };
    // Comments before a statement are its own.
    let ends = statements
        .iter()
        .skip(1)
        .map(|statement| statement.start)
        .chain([text.len()]);
    let mut start = 0;
    let parts = ends.filter_map(|end| {
        let part = text.get(start..end);
        start = end;
        part
    });
    let bare = |part: &'_ str| -> usize { part.trim_end_matches([';', ' ', '\n', '\r', '\t']).len() };
    parts
        .filter_map(|part| part.get(..bare(part)))
        .map(str::trim)
        .collect()
}

/// What a thread needs that calls [`plan`]. The deepest text that is parsed, 8,180 times `NOT`, takes 23 MB of it without
/// optimisation. Only what is used of it takes memory.
pub const STACK_LEN: usize = 64 * 1024 * 1024;
