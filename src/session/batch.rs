//! What a client asks for at once: a simple query, a call, or everything up to the next `Sync`. It is carried out by one
//! server, so where it goes is decided for all of it.

use std::sync::Arc;

use crate::protocol::body::split_cstr;
use crate::protocol::{HEAD_LEN, Head, tag};

use super::statement::{ClientStatements, Statement};

/// A batch at the beginning of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// It ends here.
    Whole(usize),
    /// Its end has not come.
    Cut,
    /// It cannot be judged as a whole: its answers are asked for before it ends, or it is no batch.
    Endless,
}

/// How far the batch at the beginning of an input reaches.
#[must_use]
pub fn extent(input: &[u8]) -> Extent {
    let mut at = 0;
    loop {
        let rest = input.get(at..).unwrap_or_default();
        let Ok(head) = Head::read_frontend(rest) else {
            return Extent::Endless;
        };
        let Some(head) = head.filter(|head| rest.len() >= head.len()) else {
            return Extent::Cut;
        };
        at += head.len();
        match head.tag {
            tag::SYNC => return Extent::Whole(at),
            tag::QUERY | tag::FUNCTION_CALL if at == head.len() => return Extent::Whole(at),
            tag::PARSE | tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE => {}
            _ => return Extent::Endless,
        }
    }
}

/// The length of what can be passed on alone at the beginning of a batch that is endless, or too long to be awaited: whole messages
/// up to one that asks for answers, that included. Of a `Bind` its names are enough; none if what stands first must be awaited.
#[must_use]
pub fn first(input: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = input.get(at..).unwrap_or_default();
        let Ok(head) = Head::read_frontend(rest) else {
            // It is refused where it is read.
            return Some(if at == 0 { input.len() } else { at });
        };
        let is_first = at == 0;
        let begun = (at > 0).then_some(at);
        let Some(head) = head else { return begun };
        let is_whole = rest.len() >= head.len();
        match head.tag {
            tag::FLUSH => return Some(at + head.len()),
            tag::PARSE | tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE if is_whole => {
                at += head.len()
            }
            tag::BIND if is_first => return bind_names(rest).map(|_| head.len()),
            tag::PARSE
            | tag::BIND
            | tag::DESCRIBE
            | tag::EXECUTE
            | tag::CLOSE
            | tag::QUERY
            | tag::FUNCTION_CALL => {
                return begun;
            }
            _ => return Some(if is_first { head.len() } else { at }),
        }
    }
}

/// The portal and the statement that a `Bind` names, as far as it has come.
fn bind_names(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let (portal, rest) = split_cstr(message.get(HEAD_LEN..)?)?;
    Some((portal, split_cstr(rest)?.0))
}

/// One thing that a batch asks for.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// A text that is carried out, or may be in this batch.
    Text(&'a [u8]),
    /// A statement that was prepared before.
    Statement(&'a Arc<Statement>),
    /// Something that nobody can judge: a function by its number, a statement that is not known.
    Unknown,
}

/// Everything that a batch asks for, in order, whole or up to what [`first`] says. Closing and describing ask for nothing.
pub fn asked<'a>(batch: &'a [u8], statements: &'a ClientStatements) -> impl Iterator<Item = Asked<'a>> {
    let mut at = 0;
    // Whatever this batch prepares itself is judged by its text, where that stands.
    let (mut has_parsed, mut has_parsed_unnamed) = (false, false);
    std::iter::from_fn(move || {
        loop {
            let rest = batch.get(at..)?;
            let head = Head::read_frontend(rest).ok()??;
            let body = rest.get(HEAD_LEN..head.len().min(rest.len()))?;
            at += head.len();
            match head.tag {
                tag::QUERY => {
                    return Some(split_cstr(body).map_or(Asked::Unknown, |(text, _)| Asked::Text(text)));
                }
                tag::PARSE => {
                    let parsed = split_cstr(body).and_then(|(name, rest)| Some((name, split_cstr(rest)?.0)));
                    let Some((name, text)) = parsed else {
                        return Some(Asked::Unknown);
                    };
                    has_parsed = true;
                    has_parsed_unnamed |= name.is_empty();
                    return Some(Asked::Text(text));
                }
                tag::BIND => {
                    let Some((_, name)) = bind_names(rest) else {
                        return Some(Asked::Unknown);
                    };
                    if name.is_empty() && has_parsed_unnamed {
                        continue;
                    }
                    match statements.get(name) {
                        Some(statement) => return Some(Asked::Statement(statement)),
                        None if has_parsed => {}
                        None => return Some(Asked::Unknown),
                    }
                }
                tag::FUNCTION_CALL => return Some(Asked::Unknown),
                _ => {}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(body.len() + 4).unwrap();
        [&[tag][..], &len.to_be_bytes(), body].concat()
    }

    fn texts(batch: &[u8]) -> Vec<Option<String>> {
        asked(batch, &ClientStatements::default())
            .map(|asked| match asked {
                Asked::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
                Asked::Statement(_) | Asked::Unknown => None,
            })
            .collect()
    }

    #[test]
    fn a_batch_reaches_to_its_sync_and_a_simple_query_to_its_own_end() {
        let parse = message(tag::PARSE, b"s\0SELECT 1\0\0\0");
        let bind = message(tag::BIND, b"\0s\0\0\0\0\0\0\0");
        let execute = message(tag::EXECUTE, b"\0\0\0\0\0");
        let sync = message(tag::SYNC, b"");
        let batch = [parse, bind, execute, sync.clone()].concat();
        assert_eq!(extent(&batch), Extent::Whole(batch.len()));
        assert_eq!(
            extent(&[batch.clone(), sync].concat()),
            Extent::Whole(batch.len())
        );
        for cut in 0..batch.len() {
            assert_eq!(extent(&batch[..cut]), Extent::Cut, "{cut}");
        }
        let query = message(tag::QUERY, b"SELECT 2\0");
        assert_eq!(
            extent(&[query.clone(), batch.clone()].concat()),
            Extent::Whole(query.len())
        );
        assert_eq!(texts(&batch), [Some("SELECT 1".to_owned())]);
        assert_eq!(texts(&query), [Some("SELECT 2".to_owned())]);
    }

    #[test]
    fn what_stands_before_a_flush_can_be_passed_on_and_so_can_a_bind_whose_names_have_come() {
        let parse = message(tag::PARSE, b"s\0SELECT 1\0\0\0");
        let bind = message(tag::BIND, &[&b"\0s\0"[..], &[0; 100]].concat());
        let flush = message(tag::FLUSH, b"");
        let input = [parse.clone(), bind.clone(), flush.clone(), parse.clone()].concat();
        assert_eq!(first(&input), Some(parse.len() + bind.len() + flush.len()));
        assert_eq!(first(&parse[..9]), None);
        assert_eq!(
            first(&[parse.clone(), parse[..9].to_vec()].concat()),
            Some(parse.len())
        );
        assert_eq!(
            first(&[parse.clone(), message(tag::QUERY, b"BEGIN\0")].concat()),
            Some(parse.len())
        );
        assert_eq!(first(&bind[..6]), None);
        assert_eq!(first(&bind[..20]), Some(bind.len()));
        // A statement that nobody knows is told from one that is cut.
        assert_eq!(texts(&bind[..20]), [None]);
        assert_eq!(texts(&parse[..9]), [None]);
        assert_eq!(first(b"!!!!!!!!"), Some(8));
    }

    #[test]
    fn what_cannot_be_judged_is_said_to_be_so() {
        let bind = message(tag::BIND, b"\0other\0\0\0\0\0\0\0");
        assert_eq!(texts(&bind), [None]);
        assert_eq!(texts(&message(tag::FUNCTION_CALL, b"\0\0\0\x01")), [None]);
        let flush = message(tag::FLUSH, b"");
        assert_eq!(extent(&[bind, flush].concat()), Extent::Endless);
        assert_eq!(extent(&message(tag::COPY_DATA, b"x")), Extent::Endless);
        assert_eq!(extent(b"!!!!!!!!"), Extent::Endless);
    }
}
