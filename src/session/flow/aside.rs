//! Statements of our own among the client's messages.

use crate::protocol::tag;
use crate::protocol::write::{self, Frame};
use crate::session::outbox::Outbox;
use crate::session::pipeline::{Entry, Kind};
use crate::session::statement::ServerName;

use super::requests::Message;
use super::{Flow, Parties};

impl Flow {
    /// Runs a statement of our own in the client's batch. It has names of its own: the client may be about to use the unnamed
    /// statement, or has a portal without a name that is not at its end. A statement that an error has left behind is closed
    /// first.
    pub(super) fn run_aside(
        &mut self,
        sql: &str,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        let made = out.make(message.input);
        ServerName::Aside.close(made);
        parse(
            ServerName::Aside,
            |out| out.extend_from_slice(sql.as_bytes()),
            made,
        );
        run(ServerName::Aside, made);
        ServerName::Aside.close(made);
        for kind in [
            Kind::Close,
            Kind::Parse,
            Kind::Bind,
            Kind::Execute,
            Kind::Close,
            Kind::Close,
        ] {
            self.push(Entry::skip(kind), parties);
        }
    }
}

/// Appends what runs a statement by a portal of our own.
pub(super) fn run(name: ServerName, out: &mut Vec<u8>) {
    bind(PORTAL, name, out);
    execute(PORTAL, out);
    let frame = Frame::begin(out, tag::CLOSE);
    out.push(tag::TARGET_PORTAL);
    write::cstr(out, PORTAL);
    frame.end(out);
}

/// Appends a `Parse` of a text that has no parameters.
pub(super) fn parse(name: ServerName, sql: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag::PARSE);
    name.write(out);
    sql(out);
    // The end of the text, and no types.
    out.extend_from_slice(&[0; 3]);
    frame.end(out);
}

/// Appends a `Bind` of a statement that has no parameters; what it returns comes as text.
pub(super) fn bind(portal: &[u8], name: ServerName, out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag::BIND);
    write::cstr(out, portal);
    name.write(out);
    // No formats, no values, no formats of results.
    out.extend_from_slice(&[0; 6]);
    frame.end(out);
}

/// Appends an `Execute` that asks for all rows.
pub(super) fn execute(portal: &[u8], out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag::EXECUTE);
    write::cstr(out, portal);
    out.extend_from_slice(&[0; 4]);
    frame.end(out);
}

const PORTAL: &[u8] = b"pgweir_sql";
