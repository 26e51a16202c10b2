//! `SHOW pgweir.…`: what no server knows. Answered as a server would, in both protocols.

use crate::protocol::body::split_cstr;
use crate::protocol::write::{self, Frame};
use crate::protocol::{HEAD_LEN, Head, tag};

use super::ClientSession;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `SHOW pgweir.route`: where the last statement went.
    Route,
    /// `SHOW pgweir.lsn`: a position that contains whatever the session has seen. The primary is asked for it, in words that
    /// it knows ([`POSITION`]).
    Lsn,
}

impl Question {
    /// Reads a text.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        if text.len() > QUESTION_LEN_MAX {
            return None;
        }
        let (first, rest) = text.trim_ascii_start().split_at_checked(4)?;
        if !first.eq_ignore_ascii_case(b"show") || !rest.first()?.is_ascii_whitespace() {
            return None;
        }
        let name = rest.trim_ascii();
        let name = name.strip_suffix(b";").unwrap_or(name).trim_ascii_end();
        if name.eq_ignore_ascii_case(b"pgweir.route") {
            Some(Self::Route)
        } else if name.eq_ignore_ascii_case(b"pgweir.lsn") {
            Some(Self::Lsn)
        } else {
            None
        }
    }

    /// The question that a `Query` or a `Parse` asks.
    #[must_use]
    pub fn of(tag: u8, body: &[u8]) -> Option<Self> {
        if body.len() > QUESTION_LEN_MAX + NAME_LEN_MAX {
            return None;
        }
        match tag {
            tag::QUERY => Self::read(split_cstr(body)?.0),
            tag::PARSE => Self::read(split_cstr(split_cstr(body)?.1)?.0),
            _ => None,
        }
    }
}

/// One attempt to carry out a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteRow {
    pub shard: Box<str>,
    pub role: &'static str,
    pub server: Box<str>,
    pub reason: Box<str>,
}

/// What a client has prepared and bound of such questions. Boxed by its session: most clients have none.
#[derive(Debug, Default)]
pub struct Questions {
    statements: Vec<Box<[u8]>>,
    portals: Vec<Portal>,
}

#[derive(Debug)]
struct Portal {
    name: Box<[u8]>,
    /// The formats of its columns. All are texts, which look the same in both.
    formats: Box<[u8]>,
    /// What there was to tell when it was executed first, latest first; as much as was not told yet.
    rows: Option<Vec<RouteRow>>,
}

impl Questions {
    fn prepare(&mut self, name: &[u8]) -> bool {
        let is_known = self.statements.iter().any(|known| **known == *name);
        if !is_known && self.statements.len() < QUESTIONS_MAX {
            self.statements.push(name.into());
        }
        !is_known || name.is_empty()
    }

    fn has(&self, name: &[u8]) -> bool {
        self.statements.iter().any(|known| **known == *name)
    }

    fn portal(&mut self, name: &[u8]) -> Option<&mut Portal> {
        self.portals.iter_mut().find(|portal| *portal.name == *name)
    }

    fn bind(&mut self, portal: Portal) {
        self.portals.retain(|known| known.name != portal.name);
        if self.portals.len() < QUESTIONS_MAX {
            self.portals.push(portal);
        }
    }

    /// Portals end with their transaction.
    pub(super) fn end_portals(&mut self) {
        self.portals.clear();
    }
}

/// Told at a glance: whether what begins like this may be such a question. Of nearly all texts two letters tell that it is none.
fn may_begin(input: &[u8]) -> bool {
    let (first, second) = match input {
        [tag::QUERY, _, _, _, _, first, second, ..] | [tag::PARSE, _, _, _, _, 0, first, second, ..] => {
            (*first, *second)
        }
        [tag::QUERY | tag::PARSE, ..] => return true,
        _ => return false,
    };
    first.is_ascii_whitespace() || first.eq_ignore_ascii_case(&b's') && second.eq_ignore_ascii_case(&b'h')
}

impl ClientSession {
    /// Whether what stands at the beginning of `input` may have to do with such a question.
    #[must_use]
    pub fn may_be_question(&self, input: &[u8]) -> bool {
        may_begin(input) || self.questions.is_some()
    }

    /// Whether a message has to do with such a question: a server would not understand it.
    #[must_use]
    pub fn is_question(&self, tag: u8, body: &[u8]) -> bool {
        match tag {
            tag::QUERY | tag::PARSE => Question::of(tag, body).is_some(),
            tag::BIND => {
                self.questions.is_some() && bound(body).is_some_and(|(_, name, _)| self.has_asked(name))
            }
            tag::DESCRIBE | tag::CLOSE => match (&self.questions, body.split_first()) {
                (Some(_), Some((&tag::TARGET_STATEMENT, name))) => {
                    split_cstr(name).is_some_and(|(name, _)| self.has_asked(name))
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether a name is that of such a statement. What a server has under it comes first.
    fn has_asked(&self, name: &[u8]) -> bool {
        let is_asked = self
            .questions
            .as_ref()
            .is_some_and(|questions| questions.has(name));
        is_asked && self.statements.get(name).is_none()
    }

    /// Answers the message that stands next, if it is about where the last statement went: as `rows` tell, in order. Returns
    /// its length, and 0 if it is about something else, or wrong. What a query ends with is the caller's to say.
    pub fn answer_question(
        &mut self,
        input: &[u8],
        rows: impl FnOnce() -> Vec<RouteRow>,
        out: &mut Vec<u8>,
    ) -> usize {
        let Ok(Some(head)) = Head::read_frontend(input) else {
            return 0;
        };
        let Some(body) = input.get(HEAD_LEN..head.len()) else {
            return 0;
        };
        match self.answer_message(head.tag, body, rows, out) {
            Some(()) => head.len(),
            None => 0,
        }
    }

    fn answer_message(
        &mut self,
        tag: u8,
        body: &[u8],
        rows: impl FnOnce() -> Vec<RouteRow>,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let is_text = matches!(tag, tag::QUERY | tag::PARSE);
        if !is_text && self.questions.is_none() {
            return None;
        }
        match tag {
            tag::QUERY => {
                (Question::of(tag, body)? == Question::Route).then_some(())?;
                self.statements.unnamed = None;
                describe(&[], out);
                rows().iter().for_each(|told| row(told, out));
                complete(out);
            }
            tag::PARSE => {
                (Question::of(tag, body)? == Question::Route).then_some(())?;
                let (name, _) = split_cstr(body)?;
                if name.is_empty() {
                    self.statements.unnamed = None;
                }
                let is_free = self.statements.get(name).is_none();
                let questions = self.questions.get_or_insert_default();
                (is_free && questions.prepare(name)).then_some(())?;
                write::bare(out, tag::PARSE_COMPLETE);
            }
            tag::BIND => {
                let (portal, statement, rest) = bound(body)?;
                self.has_asked(statement).then_some(())?;
                let portal = Portal {
                    name: portal.into(),
                    formats: formats(rest)?.into(),
                    rows: None,
                };
                self.questions.as_mut()?.bind(portal);
                write::bare(out, tag::BIND_COMPLETE);
            }
            tag::DESCRIBE => self.describe_question(body, out)?,
            tag::EXECUTE => {
                let (name, rest) = split_cstr(body)?;
                let max = u32::from_be_bytes(*rest.first_chunk()?);
                let portal = self.questions.as_mut()?.portal(name)?;
                execute(portal, max, rows, out);
            }
            tag::CLOSE => {
                let (target, name) = body.split_first()?;
                let (name, _) = split_cstr(name)?;
                let is_asked = self.has_asked(name);
                let questions = self.questions.as_mut()?;
                if *target == tag::TARGET_PORTAL {
                    questions.portal(name)?;
                    questions.portals.retain(|portal| *portal.name != *name);
                } else {
                    is_asked.then_some(())?;
                    questions.statements.retain(|known| **known != *name);
                }
                write::bare(out, tag::CLOSE_COMPLETE);
            }
            _ => return None,
        }
        Some(())
    }

    fn describe_question(&mut self, body: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let (target, name) = body.split_first()?;
        let (name, _) = split_cstr(name)?;
        if *target == tag::TARGET_PORTAL {
            let formats = &self.questions.as_mut()?.portal(name)?.formats;
            describe(formats, out);
            return Some(());
        }
        self.has_asked(name).then_some(())?;
        let frame = Frame::begin(out, tag::PARAMETER_DESCRIPTION);
        out.extend_from_slice(&[0; 2]);
        frame.end(out);
        describe(&[], out);
        Some(())
    }
}

/// What asks a server for a position in place of the `Query` or `Parse` at the beginning of `input`, and the length of that; if
/// it is such a question.
#[must_use]
pub fn position(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let head = Head::read_frontend(input).ok()??;
    let body = input.get(HEAD_LEN..head.len())?;
    if Question::of(head.tag, body)? != Question::Lsn {
        return None;
    }
    let mut out = Vec::new();
    let frame = Frame::begin(&mut out, head.tag);
    if head.tag == tag::PARSE {
        write::cstr(&mut out, split_cstr(body)?.0);
    }
    write::cstr(&mut out, POSITION);
    if head.tag == tag::PARSE {
        out.extend_from_slice(split_cstr(split_cstr(body)?.1)?.1);
    }
    frame.end(&mut out);
    Some((out, head.len()))
}

/// Portal, statement, and what follows on them.
fn bound(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (portal, rest) = split_cstr(body)?;
    let (statement, rest) = split_cstr(rest)?;
    Some((portal, statement, rest))
}

/// The formats that a `Bind` asks for, from what follows on its names. It has no parameters.
fn formats(rest: &[u8]) -> Option<&[u8]> {
    let (count, rest) = rest.split_first_chunk()?;
    let rest = rest.get(usize::from(u16::from_be_bytes(*count)) * 2..)?;
    let (parameters, rest) = rest.split_first_chunk()?;
    if *parameters != [0; 2] {
        return None;
    }
    let (count, rest) = rest.split_first_chunk()?;
    rest.get(..usize::from(u16::from_be_bytes(*count)) * 2)
}

fn execute(portal: &mut Portal, max: u32, rows: impl FnOnce() -> Vec<RouteRow>, out: &mut Vec<u8>) {
    let left = portal
        .rows
        .get_or_insert_with(|| rows().into_iter().rev().collect());
    let mut count = 0;
    while max == 0 || count < max {
        let Some(told) = left.pop() else {
            return complete(out);
        };
        row(&told, out);
        count += 1;
    }
    write::bare(out, tag::PORTAL_SUSPENDED);
}

/// `formats`: codes of two bytes; none, one for all, or one for each column.
fn describe(formats: &[u8], out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag::ROW_DESCRIPTION);
    out.extend_from_slice(&u16::try_from(COLUMNS.len()).unwrap_or(0).to_be_bytes());
    for (index, name) in COLUMNS.iter().enumerate() {
        let format = match formats.len() {
            2 => formats.first_chunk(),
            _ => formats.get(index * 2..).and_then(<[u8]>::first_chunk::<2>),
        };
        write::cstr(out, name.as_bytes());
        // Of no table; text of any length.
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&TEXT_OID.to_be_bytes());
        out.extend_from_slice(&(-1_i16).to_be_bytes());
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        out.extend_from_slice(format.unwrap_or(&[0; 2]));
    }
    frame.end(out);
}

fn row(told: &RouteRow, out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag::DATA_ROW);
    let values = [&*told.shard, told.role, &*told.server, &*told.reason];
    out.extend_from_slice(&u16::try_from(values.len()).unwrap_or(0).to_be_bytes());
    for value in values {
        out.extend_from_slice(&i32::try_from(value.len()).unwrap_or(0).to_be_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    frame.end(out);
}

fn complete(out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag::COMMAND_COMPLETE);
    write::cstr(out, b"SHOW");
    frame.end(out);
}

/// Says what `SHOW pgweir.lsn` means, in words of a server's: the end of the last record, without the head of a page that may stand
/// behind it, as no standby counts that as replayed. A standby that has more to replay may show a little of it before it counts it.
/// Operators are PostgreSQL's own, whatever the session's path is.
pub const POSITION: &[u8] = b"SELECT CASE \
    WHEN r THEN CASE WHEN COALESCE(received OPERATOR(pg_catalog.<>) l, true) THEN l OPERATOR(pg_catalog.+) 1 ELSE l END \
    WHEN pg_catalog.mod(o, s) OPERATOR(pg_catalog.=) 40 THEN l OPERATOR(pg_catalog.-) 40 \
    WHEN pg_catalog.mod(o, s) OPERATOR(pg_catalog.>) 40 AND pg_catalog.mod(o, p) OPERATOR(pg_catalog.=) 24 \
        THEN l OPERATOR(pg_catalog.-) 24 \
    ELSE l END::pg_catalog.text AS \"pgweir.lsn\" \
    FROM (SELECT r, received, l, l OPERATOR(pg_catalog.-) '0/0'::pg_catalog.pg_lsn AS o, s, p FROM (SELECT r, \
        CASE WHEN r THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_insert_lsn() END AS l, \
        CASE WHEN r THEN pg_catalog.pg_last_wal_receive_lsn() END AS received, \
        pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))::pg_catalog.numeric AS s, \
        pg_catalog.current_setting('wal_block_size')::pg_catalog.numeric AS p \
        FROM (SELECT pg_catalog.pg_is_in_recovery() AS r) AS a) AS b) AS c";

const COLUMNS: [&str; 4] = ["shard", "role", "server", "reason"];
/// `text`, in `pg_type.dat`.
const TEXT_OID: u32 = 25;
/// Such a question is short.
const QUESTION_LEN_MAX: usize = 64;
/// So are the names that drivers give to statements. Behind a longer one a question is not looked for.
const NAME_LEN_MAX: usize = 192;
/// Statements and portals of a client: there is one question to ask, and a driver prepares it under one name or a few.
const QUESTIONS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_a_question_may_be_one_at_a_glance() {
        for text in ["SHOW pgweir.route", "show pgweir.lsn;", "\n ShOw\tPgweir.Lsn "] {
            for (tag, name) in [(tag::QUERY, ""), (tag::PARSE, "\0"), (tag::PARSE, "name\0")] {
                let body = format!("{name}{text}\0\0\0");
                assert!(Question::of(tag, body.as_bytes()).is_some(), "{text}");
                let input = [&[tag, 0, 0, 0, 0], body.as_bytes()].concat();
                assert!(may_begin(&input), "{text}");
            }
        }
        assert!(!may_begin(b"Q\0\0\0\x0dSELECT 1\0"));
        assert!(!may_begin(b"P\0\0\0\x10\0SELECT 1\0\0\0"));
    }

    #[test]
    fn a_question_is_read_in_any_case_and_with_a_semicolon() {
        for text in [
            "SHOW pgweir.route",
            " show\tPgweir.Route ; ",
            "SHOW pgweir.route;",
        ] {
            assert_eq!(Question::read(text.as_bytes()), Some(Question::Route), "{text}");
        }
        assert_eq!(Question::read(b"SHOW pgweir.lsn"), Some(Question::Lsn));
        for text in [
            "",
            "SHOW",
            "SHOWpgweir.route",
            "SHOW pgweir.role",
            "SELECT 1",
            "SHOW pgweir.route; SELECT 1",
        ] {
            assert_eq!(Question::read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn rows_that_are_asked_for_one_by_one_come_one_by_one() {
        let rows = || vec![RouteRow::default(), RouteRow::default()];
        let mut portal = Portal {
            name: Box::default(),
            formats: Box::default(),
            rows: None,
        };
        let tags = |portal: &mut Portal, max| {
            let mut out = Vec::new();
            execute(portal, max, rows, &mut out);
            let mut found = String::new();
            while let Ok(Some(head)) = Head::read(&out) {
                found.push(char::from(head.tag));
                out.drain(..head.len());
            }
            found
        };
        assert_eq!(tags(&mut portal, 1), "Ds");
        assert_eq!(tags(&mut portal, 1), "Ds");
        assert_eq!(tags(&mut portal, 1), "C");
        portal.rows = None;
        assert_eq!(tags(&mut portal, 0), "DDC");
    }

    #[test]
    fn what_a_bind_says_of_formats_is_read_and_parameters_are_refused() {
        assert_eq!(formats(b"\0\0\0\0\0\0"), Some(&[][..]));
        assert_eq!(formats(b"\0\x01\0\x01\0\0\0\x01\0\x01"), Some(&[0, 1][..]));
        assert_eq!(formats(b"\0\0\0\x01\0\0\0\x01x\0\0"), None);
        assert_eq!(formats(b"\0\0"), None);
    }
}
