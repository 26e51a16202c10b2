//! Answers as lines of text, without what may differ between two sessions that are alike.

use pgweir::protocol::tag;

use crate::harness::wire::Frame;

/// What came back, as text that can be compared and read.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) text: String,
    /// File, line and function of PostgreSQL's source where an error was raised; none if somebody else raised it, who may
    /// know the function and not the line.
    origin: [Option<String>; 3],
}

impl Line {
    pub(crate) fn note(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            origin: [None, None, None],
        }
    }

    /// An error of the pooler's own must say the same, from wherever.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let mut origins = self.origin.iter().zip(&other.origin);
        let is_same = |(one, two): (&Option<_>, &Option<_>)| one.is_none() || two.is_none() || one == two;
        self.text == other.text && origins.all(is_same)
    }

    pub(crate) fn of(frame: &Frame) -> Self {
        let body = frame.body.as_slice();
        let text = match frame.tag {
            tag::ERROR_RESPONSE => return report("error", frame),
            tag::NOTICE_RESPONSE => return report("notice", frame),
            tag::READY_FOR_QUERY => format!("ready {}", frame.transaction_state()),
            tag::ROW_DESCRIPTION => format!("columns {}", columns(body)),
            tag::PARAMETER_DESCRIPTION => format!("parameters {}", types(body).join(", ")),
            tag::DATA_ROW => format!("row {}", values(body).join(" | ")),
            tag::COMMAND_COMPLETE => format!("done {}", string(body)),
            tag::BACKEND_KEY_DATA => "key".to_owned(),
            tag::PARAMETER_STATUS => {
                let (name, value) = frame.parameter().unwrap();
                format!("parameter {name} = {value}")
            }
            tag::NOTIFICATION_RESPONSE => format!("notification {}", body[4..].escape_ascii()),
            tag::PARSE_COMPLETE => "parsed".to_owned(),
            tag::BIND_COMPLETE => "bound".to_owned(),
            tag::CLOSE_COMPLETE => "closed".to_owned(),
            tag::NO_DATA => "no data".to_owned(),
            tag::PORTAL_SUSPENDED => "suspended".to_owned(),
            tag::EMPTY_QUERY_RESPONSE => "empty".to_owned(),
            other => format!("{} {}", char::from(other), body.escape_ascii()),
        };
        Self::note(&text)
    }
}

/// Reports of parameters that follow on each other come in no order.
pub(crate) fn sort_parameters(lines: &mut [Line]) {
    let is_parameter = |line: &Line| line.text.starts_with("parameter ");
    let runs = lines.chunk_by_mut(|one, two| is_parameter(one) && is_parameter(two));
    for run in runs {
        run.sort_by(|one, two| one.text.cmp(&two.text));
    }
}

fn report(kind: &str, frame: &Frame) -> Line {
    let fields = |names: &str| -> Vec<String> {
        names
            .chars()
            .filter_map(|name| Some(format!("{name}={}", without_own_type(frame.field(name)?))))
            .collect()
    };
    let lost = frame.field('M').is_some_and(|text| text.starts_with(LOST_TYPE));
    // PostgreSQL says so of a value, or of the text where that is prepared anew.
    let shown = if lost { "SVCMDH" } else { "SVCMDHPpqWstcdn" };
    Line {
        text: format!("{kind} {}", fields(shown).join(" ")),
        origin: ['F', 'L', 'R'].map(|name| frame.field(name).filter(|_| !lost)),
    }
}

/// Types and tables that a script made have other numbers each time.
fn object(oid: u32) -> String {
    if oid < FIRST_OWN_OID {
        oid.to_string()
    } else {
        "own".to_owned()
    }
}

/// What PostgreSQL says of a type that was dropped.
const LOST_TYPE: &str = "cache lookup failed for type ";

/// A type that is gone is named by its number, which is another in each database.
fn without_own_type(text: String) -> String {
    let number = text
        .rsplit_once(" type ")
        .and_then(|(_, number)| number.parse().ok());
    match number {
        Some(oid) => text.replace(&format!("{oid}"), &object(oid)),
        None => text,
    }
}

fn columns(body: &[u8]) -> String {
    let mut rest = &body[2..];
    let mut shown = Vec::new();
    while !rest.is_empty() {
        let name = string(rest);
        let fields = &rest[name.len() + 1..];
        shown.push(format!(
            "{name} (table {} column {} type {} length {} modifier {} format {})",
            object(u32_at(fields, 0)),
            i16_at(fields, 4),
            object(u32_at(fields, 6)),
            i16_at(fields, 10),
            u32_at(fields, 12).cast_signed(),
            i16_at(fields, 16),
        ));
        rest = &fields[18..];
    }
    shown.join(", ")
}

fn types(body: &[u8]) -> Vec<String> {
    body[2..]
        .chunks_exact(4)
        .map(|oid| object(u32_at(oid, 0)))
        .collect()
}

fn values(body: &[u8]) -> Vec<String> {
    let mut rest = &body[2..];
    let mut shown = Vec::new();
    while !rest.is_empty() {
        let length = u32_at(rest, 0).cast_signed();
        let (value, next) = rest[4..].split_at(usize::try_from(length).unwrap_or(0));
        shown.push(match length {
            -1 => "null".to_owned(),
            _ if value.len() > VALUE_SHOWN_MAX => format!("{} bytes, {:x}", value.len(), digest(value)),
            _ => value.escape_ascii().to_string(),
        });
        rest = next;
    }
    shown
}

/// FNV-1a: enough to see that two large values are the same.
fn digest(value: &[u8]) -> u64 {
    value.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn string(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap();
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(*bytes[at..].first_chunk().unwrap())
}

fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(*bytes[at..].first_chunk().unwrap())
}

/// PostgreSQL's `FirstNormalObjectId`.
const FIRST_OWN_OID: u32 = 16_384;
const VALUE_SHOWN_MAX: usize = 2_000;
