//! Messages as both sides write them, and as a person reads them. Shared with the simulation.

use super::tag;

/// A message of a tag and a body.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// Zero-terminated strings, one after another.
fn strings(parts: &[&str]) -> Vec<u8> {
    parts
        .iter()
        .flat_map(|part| [part.as_bytes(), b"\0"].concat())
        .collect()
}

pub(crate) fn query(text: &str) -> Vec<u8> {
    message(tag::QUERY, &strings(&[text]))
}

pub(crate) fn parse(name: &str, text: &str) -> Vec<u8> {
    message(tag::PARSE, &[strings(&[name, text]), vec![0, 0]].concat())
}

pub(crate) fn bind(portal: &str, name: &str) -> Vec<u8> {
    message(tag::BIND, &[strings(&[portal, name]), vec![0; 6]].concat())
}

pub(crate) fn describe_statement(name: &str) -> Vec<u8> {
    message(
        tag::DESCRIBE,
        &[vec![tag::TARGET_STATEMENT], strings(&[name])].concat(),
    )
}

pub(crate) fn close_statement(name: &str) -> Vec<u8> {
    message(
        tag::CLOSE,
        &[vec![tag::TARGET_STATEMENT], strings(&[name])].concat(),
    )
}

pub(crate) fn execute(portal: &str) -> Vec<u8> {
    message(tag::EXECUTE, &[strings(&[portal]), vec![0; 4]].concat())
}

pub(crate) fn sync() -> Vec<u8> {
    message(tag::SYNC, b"")
}

pub(crate) fn flush() -> Vec<u8> {
    message(tag::FLUSH, b"")
}

pub(crate) fn copy_data(data: &str) -> Vec<u8> {
    message(tag::COPY_DATA, data.as_bytes())
}

pub(crate) fn copy_done() -> Vec<u8> {
    message(tag::COPY_DONE, b"")
}

pub(crate) fn copy_fail(why: &str) -> Vec<u8> {
    message(tag::COPY_FAIL, &strings(&[why]))
}

pub(crate) fn ready(state: u8) -> Vec<u8> {
    message(tag::READY_FOR_QUERY, &[state])
}

pub(crate) fn complete(command: &str) -> Vec<u8> {
    message(tag::COMMAND_COMPLETE, &strings(&[command]))
}

/// A row of one column.
pub(crate) fn row(value: &str) -> Vec<u8> {
    let len = u32::try_from(value.len()).unwrap().to_be_bytes();
    message(tag::DATA_ROW, &[&[0, 1][..], &len, value.as_bytes()].concat())
}

/// The description of one column of text.
pub(crate) fn row_description() -> Vec<u8> {
    let name = strings(&["text"]);
    message(tag::ROW_DESCRIPTION, &[&[0, 1][..], &name, &[0; 18]].concat())
}

pub(crate) fn error(code: &str, text: &str) -> Vec<u8> {
    report("ERROR", code, text)
}

pub(crate) fn fatal(code: &str, text: &str) -> Vec<u8> {
    report("FATAL", code, text)
}

fn report(severity: &str, code: &str, text: &str) -> Vec<u8> {
    let fields = [
        format!("S{severity}"),
        format!("V{severity}"),
        format!("C{code}"),
        format!("M{text}"),
    ];
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    message(tag::ERROR_RESPONSE, &[strings(&fields), vec![0]].concat())
}

pub(crate) fn parameter(name: &str, value: &str) -> Vec<u8> {
    message(tag::PARAMETER_STATUS, &strings(&[name, value]))
}

/// The answer that is a tag alone.
pub(crate) fn bare(tag: u8) -> Vec<u8> {
    message(tag, b"")
}

/// `CopyInResponse`, `CopyOutResponse`, `CopyBothResponse`.
pub(crate) fn copy_response(tag: u8) -> Vec<u8> {
    message(tag, &[0, 0, 0])
}

/// The whole messages at the start of `bytes`, and what is left.
pub(crate) fn split(bytes: &[u8]) -> (Vec<(u8, &[u8])>, &[u8]) {
    let mut messages = Vec::new();
    let mut rest = bytes;
    while let Some(head) = rest.get(..5) {
        let len = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        let Some(body) = rest.get(5..=len) else { break };
        messages.push((head[0], body));
        rest = &rest[len + 1..];
    }
    (messages, rest)
}

/// The strings in a body.
pub(crate) fn texts(body: &[u8]) -> Vec<&str> {
    body.split(|byte| *byte == 0)
        .map(|part| std::str::from_utf8(part).unwrap_or("?"))
        .collect()
}

/// What a client sends, a message a line.
pub(crate) fn frontend(bytes: &[u8]) -> Vec<String> {
    lines(bytes, |tag, body| {
        let texts = texts(body);
        match tag {
            tag::QUERY => format!("Query {}", texts[0]),
            tag::PARSE => format!("Parse {}: {}", texts[0], texts[1]),
            tag::BIND => format!("Bind {} {}", texts[0], texts[1]),
            tag::DESCRIBE => format!("Describe {}", texts[0]),
            tag::EXECUTE => format!("Execute {}", texts[0]),
            tag::CLOSE => format!("Close {}", texts[0]),
            tag::SYNC => "Sync".into(),
            tag::FLUSH => "Flush".into(),
            tag::COPY_DATA => format!("CopyData {}", texts[0]),
            tag::COPY_DONE => "CopyDone".into(),
            tag::COPY_FAIL => "CopyFail".into(),
            tag::FUNCTION_CALL => "FunctionCall".into(),
            other => format!("{} {texts:?}", char::from(other)),
        }
    })
}

/// What a server sends, a message a line.
pub(crate) fn backend(bytes: &[u8]) -> Vec<String> {
    lines(bytes, |tag, body| {
        let texts = texts(body);
        match tag {
            tag::PARSE_COMPLETE => "ParseComplete".into(),
            tag::BIND_COMPLETE => "BindComplete".into(),
            tag::CLOSE_COMPLETE => "CloseComplete".into(),
            tag::NO_DATA => "NoData".into(),
            tag::ROW_DESCRIPTION => "RowDescription".into(),
            tag::DATA_ROW => format!("Row {}", String::from_utf8_lossy(&body[6..])),
            tag::COMMAND_COMPLETE => format!("Complete {}", texts[0]),
            tag::READY_FOR_QUERY => format!("Ready {}", texts[0]),
            tag::ERROR_RESPONSE => {
                let field = |kind: char| {
                    texts
                        .iter()
                        .find_map(|text| text.strip_prefix(kind))
                        .unwrap_or("")
                };
                format!("{} {}: {}", field('V'), field('C'), field('M'))
            }
            tag::PARAMETER_STATUS => format!("Parameter {} = {}", texts[0], texts[1]),
            tag::COPY_IN_RESPONSE => "CopyIn".into(),
            tag::COPY_OUT_RESPONSE => "CopyOut".into(),
            tag::COPY_BOTH_RESPONSE => "CopyBoth".into(),
            tag::COPY_DATA => format!("CopyData {}", texts[0]),
            tag::COPY_DONE => "CopyDone".into(),
            other => format!("{} {texts:?}", char::from(other)),
        }
    })
}

fn lines(bytes: &[u8], line: impl Fn(u8, &[u8]) -> String) -> Vec<String> {
    let (messages, rest) = split(bytes);
    let mut lines: Vec<String> = messages.into_iter().map(|(tag, body)| line(tag, body)).collect();
    if !rest.is_empty() {
        lines.push(format!("+ {} bytes", rest.len()));
    }
    lines
}
