//! Messages of a client, and talks made of them.

use pgweir::protocol::tag;

use crate::harness::wire::{bind, c_string, execute, frame, parse};

/// Messages that are sent together, and how many ReadyForQuery come back.
pub(super) struct Talk {
    pub(super) name: &'static str,
    pub(super) messages: Vec<Vec<u8>>,
    pub(super) readies: usize,
}

pub(super) fn talk(name: &'static str, readies: usize, messages: impl IntoIterator<Item = Vec<u8>>) -> Talk {
    Talk {
        name,
        messages: messages.into_iter().collect(),
        readies,
    }
}

pub(super) fn query(sql: &str) -> Vec<u8> {
    frame(tag::QUERY, &c_string(sql))
}

pub(super) fn describe(target: char, name: &str) -> Vec<u8> {
    frame(tag::DESCRIBE, &c_string(&format!("{target}{name}")))
}

pub(super) fn close(target: char, name: &str) -> Vec<u8> {
    frame(tag::CLOSE, &c_string(&format!("{target}{name}")))
}

pub(super) fn run_portal() -> Vec<u8> {
    execute("", 0)
}

pub(super) fn sync() -> Vec<u8> {
    frame(tag::SYNC, &[])
}

pub(super) fn flush() -> Vec<u8> {
    frame(tag::FLUSH, &[])
}

pub(super) fn copy_data(bytes: &str) -> Vec<u8> {
    frame(tag::COPY_DATA, bytes.as_bytes())
}

pub(super) fn copy_done() -> Vec<u8> {
    frame(tag::COPY_DONE, &[])
}

pub(super) fn copy_fail(why: &str) -> Vec<u8> {
    frame(tag::COPY_FAIL, &c_string(why))
}

/// A FunctionCall with arguments and result in binary.
pub(super) fn function_call(function: u32, arguments: &[&[u8]]) -> Vec<u8> {
    let mut body = function.to_be_bytes().to_vec();
    body.extend([0, 1, 0, 1]);
    body.extend(u16::try_from(arguments.len()).unwrap().to_be_bytes());
    for argument in arguments {
        body.extend(u32::try_from(argument.len()).unwrap().to_be_bytes());
        body.extend_from_slice(argument);
    }
    body.extend([0, 1]);
    frame(tag::FUNCTION_CALL, &body)
}

/// A simple Parse, Bind, Execute of the unnamed statement, without values.
pub(super) fn extended(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", "", &[]), run_portal()].concat()
}
