//! The console's side of the protocol, as a value: messages in, a command to run or bytes to send out.
//!
//! There are no transactions: each command stands alone, and portals last until the next `Sync`.

use std::collections::HashMap;
use std::rc::Rc;

use crate::protocol::body::split_cstr;
use crate::protocol::write::{self, Frame};
use crate::protocol::{Fate, HEAD_LEN, Head, Report, SqlState, TransactionState, tag};

use super::command::Command;
use super::table::{self, Format, Formats, Row};

/// One client's conversation with the console.
#[derive(Debug)]
pub struct Session {
    access: Access,
    statements: HashMap<Box<[u8]>, Rc<Command>>,
    portals: HashMap<Box<[u8]>, Portal>,
    /// An extended request has failed: everything up to `Sync` is passed over.
    is_skipping: bool,
    /// The command that is being run, and what asked for it.
    running: Option<Running>,
}

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Admin,
    /// Looks on.
    Stats,
}

/// What a command came to.
#[derive(Debug)]
pub enum Answer {
    Done,
    Rows(Vec<Row>),
    /// Something to read, and nothing to take apart.
    Notice(Report),
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Send what there is, and read more.
    Read,
    /// Run this, then come back with its answer.
    Run(Rc<Command>),
    Goodbye,
}

impl Session {
    #[must_use]
    pub fn new(access: Access) -> Self {
        Self {
            access,
            statements: HashMap::new(),
            portals: HashMap::new(),
            is_skipping: false,
            running: None,
        }
    }

    /// Takes in messages, up to the first command that is to be run. Returns how many bytes were dealt with, too.
    ///
    /// # Errors
    /// The client broke the protocol, and is told so for the last time.
    pub fn on_bytes(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(usize, Turn), Report> {
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let Some(head) = Head::read_frontend(rest).map_err(|error| Report::from(&error))? else {
                return Ok((at, Turn::Read));
            };
            if head.body > MESSAGE_LEN_MAX {
                return Err(Report::fatal(
                    SqlState::PROGRAM_LIMIT_EXCEEDED,
                    "the message is too long for the console",
                ));
            }
            let Some(body) = rest.get(HEAD_LEN..head.len()) else {
                return Ok((at, Turn::Read));
            };
            at += head.len();
            match self.on_message(head.tag, body, out)? {
                Turn::Read => {}
                turn @ (Turn::Run(_) | Turn::Goodbye) => return Ok((at, turn)),
            }
        }
    }

    /// Takes in what the command has come to.
    pub fn on_answer(&mut self, answer: Result<Answer, Report>, out: &mut Vec<u8>) {
        let Some(running) = self.running.take() else {
            return;
        };
        let is_simple = running.portal.is_none();
        match answer {
            Ok(answer) => self.complete(running, answer, out),
            Err(report) => {
                report.encode(out);
                self.is_skipping = !is_simple;
            }
        }
        if is_simple {
            ready(out);
        }
    }

    fn on_message(&mut self, message: u8, body: &[u8], out: &mut Vec<u8>) -> Result<Turn, Report> {
        match message {
            tag::TERMINATE => return Ok(Turn::Goodbye),
            tag::SYNC => {
                self.is_skipping = false;
                self.portals.clear();
                ready(out);
                return Ok(Turn::Read);
            }
            // What is left of a failed copy, as PostgreSQL has it; and what needs no answer.
            tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL | tag::FLUSH => return Ok(Turn::Read),
            _ if self.is_skipping => return Ok(Turn::Read),
            tag::QUERY => return self.on_query(body, out),
            tag::FUNCTION_CALL => {
                Report::error(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "the console has no functions to call",
                )
                .encode(out);
                ready(out);
                return Ok(Turn::Read);
            }
            _ => {}
        }
        let turn = match message {
            tag::PARSE => self.on_parse(body, out),
            tag::BIND => self.on_bind(body, out),
            tag::DESCRIBE => self.on_describe(body, out),
            tag::EXECUTE => self.on_execute(body, out),
            tag::CLOSE => self.on_close(body, out),
            _ => Err(malformed()),
        };
        turn.or_else(|report| match report.fate {
            Fate::Close => Err(report),
            Fate::Keep => {
                report.encode(out);
                self.is_skipping = true;
                Ok(Turn::Read)
            }
        })
    }

    fn on_query(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<Turn, Report> {
        let (text, _) = split_cstr(body).ok_or_else(malformed)?;
        match self.understand(text) {
            Ok(Command::Empty) => write::bare(out, tag::EMPTY_QUERY_RESPONSE),
            Ok(command) => {
                let command = Rc::new(command);
                self.running = Some(Running {
                    command: Rc::clone(&command),
                    portal: None,
                    rows_max: 0,
                });
                return Ok(Turn::Run(command));
            }
            Err(report) => report.encode(out),
        }
        ready(out);
        Ok(Turn::Read)
    }

    fn on_parse(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<Turn, Report> {
        let (name, rest) = split_cstr(body).ok_or_else(malformed)?;
        let (text, _) = split_cstr(rest).ok_or_else(malformed)?;
        if !name.is_empty() && self.statements.contains_key(name) {
            return Err(Report::error(
                SqlState::DUPLICATE_STATEMENT,
                format!("prepared statement \"{}\" already exists", shown(name)),
            ));
        }
        let command = self.understand(text)?;
        admit(self.statements.len())?;
        self.statements.insert(name.into(), Rc::new(command));
        write::bare(out, tag::PARSE_COMPLETE);
        Ok(Turn::Read)
    }

    fn on_bind(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<Turn, Report> {
        let (portal, rest) = split_cstr(body).ok_or_else(malformed)?;
        let (name, rest) = split_cstr(rest).ok_or_else(malformed)?;
        let (_, rest) = codes(rest).ok_or_else(malformed)?;
        let (values, rest) = number(rest).ok_or_else(malformed)?;
        let command = Rc::clone(self.statement(name)?);
        if values != 0 {
            return Err(Report::error(
                SqlState::PROTOCOL_VIOLATION,
                format!("bind message supplies {values} parameters, but a command of the console takes 0"),
            ));
        }
        let (formats, _) = codes(rest).ok_or_else(malformed)?;
        let formats: Option<Vec<Format>> = formats.into_iter().map(Format::from_code).collect();
        let formats = formats
            .ok_or_else(|| Report::error(SqlState::INVALID_PARAMETER_VALUE, "unsupported format code"))?;
        let columns = command.columns().map_or(0, <[_]>::len);
        if formats.len() > 1 && formats.len() != columns {
            return Err(Report::error(
                SqlState::PROTOCOL_VIOLATION,
                format!(
                    "bind message has {} result formats but the command has {columns} columns",
                    formats.len()
                ),
            ));
        }
        admit(self.portals.len())?;
        let bound = Portal {
            command,
            formats: Formats(formats),
            progress: Progress::New,
        };
        self.portals.insert(portal.into(), bound);
        write::bare(out, tag::BIND_COMPLETE);
        Ok(Turn::Read)
    }

    fn on_describe(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<Turn, Report> {
        let (target, name) = target(body)?;
        let (command, formats) = if target == tag::TARGET_STATEMENT {
            let command = Rc::clone(self.statement(name)?);
            let frame = Frame::begin(out, tag::PARAMETER_DESCRIPTION);
            out.extend_from_slice(&0_u16.to_be_bytes());
            frame.end(out);
            (command, Formats::default())
        } else {
            let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
            (Rc::clone(&portal.command), portal.formats.clone())
        };
        match command.columns() {
            Some(columns) => table::describe(columns, &formats, out),
            None => write::bare(out, tag::NO_DATA),
        }
        Ok(Turn::Read)
    }

    fn on_execute(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<Turn, Report> {
        let (name, rest) = split_cstr(body).ok_or_else(malformed)?;
        let rows_max = rest.first_chunk().copied().map(u32::from_be_bytes);
        let rows_max = rows_max.ok_or_else(malformed)?;
        let portal = self.portals.get_mut(name).ok_or_else(|| no_portal(name))?;
        match std::mem::replace(&mut portal.progress, Progress::Done) {
            Progress::New if *portal.command == Command::Empty => {
                write::bare(out, tag::EMPTY_QUERY_RESPONSE);
                Ok(Turn::Read)
            }
            Progress::New => {
                let command = Rc::clone(&portal.command);
                self.running = Some(Running {
                    command: Rc::clone(&command),
                    portal: Some(name.into()),
                    rows_max,
                });
                Ok(Turn::Run(command))
            }
            Progress::Suspended(rows) => {
                portal.send(rows, rows_max, out);
                Ok(Turn::Read)
            }
            Progress::Done => {
                command_complete(portal.command.tag(), out);
                Ok(Turn::Read)
            }
        }
    }

    fn on_close(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<Turn, Report> {
        let (target, name) = target(body)?;
        if target == tag::TARGET_STATEMENT {
            self.statements.remove(name);
        } else {
            self.portals.remove(name);
        }
        write::bare(out, tag::CLOSE_COMPLETE);
        Ok(Turn::Read)
    }

    fn understand(&self, text: &[u8]) -> Result<Command, Report> {
        let command = Command::parse(&String::from_utf8_lossy(text))?;
        if self.access == Access::Stats && command.needs_admin() {
            return Err(
                Report::error(SqlState::INSUFFICIENT_PRIVILEGE, "admin access needed")
                    .with_hint("Users in admin_users may do this; those in stats_users may SHOW only."),
            );
        }
        Ok(command)
    }

    fn statement(&self, name: &[u8]) -> Result<&Rc<Command>, Report> {
        self.statements.get(name).ok_or_else(|| {
            let message = if name.is_empty() {
                "unnamed prepared statement does not exist".to_owned()
            } else {
                format!("prepared statement \"{}\" does not exist", shown(name))
            };
            Report::error(SqlState::INVALID_STATEMENT_NAME, message)
        })
    }

    fn complete(&mut self, running: Running, answer: Answer, out: &mut Vec<u8>) {
        let rows = match answer {
            Answer::Done => Vec::new(),
            Answer::Rows(rows) => rows,
            Answer::Notice(notice) => {
                notice.encode(out);
                Vec::new()
            }
        };
        match running.portal {
            Some(name) => {
                if let Some(portal) = self.portals.get_mut(&name) {
                    portal.send(rows.into_iter(), running.rows_max, out);
                }
            }
            None => {
                let formats = Formats::default();
                if let Some(columns) = running.command.columns() {
                    table::describe(columns, &formats, out);
                    for row in &rows {
                        table::data_row(columns, row, &formats, out);
                    }
                }
                command_complete(running.command.tag(), out);
            }
        }
    }
}

#[derive(Debug)]
struct Running {
    command: Rc<Command>,
    /// None for a simple query.
    portal: Option<Box<[u8]>>,
    /// Zero is no limit.
    rows_max: u32,
}

#[derive(Debug)]
struct Portal {
    command: Rc<Command>,
    formats: Formats,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    New,
    /// Rows that the client has not asked for yet.
    Suspended(std::vec::IntoIter<Row>),
    Done,
}

impl Portal {
    fn send(&mut self, mut rows: std::vec::IntoIter<Row>, rows_max: u32, out: &mut Vec<u8>) {
        let max = match usize::try_from(rows_max) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(max) => max,
        };
        let columns = self.command.columns().unwrap_or_default();
        for row in rows.by_ref().take(max) {
            table::data_row(columns, &row, &self.formats, out);
        }
        if rows.len() > 0 {
            self.progress = Progress::Suspended(rows);
            write::bare(out, tag::PORTAL_SUSPENDED);
        } else {
            command_complete(self.command.tag(), out);
        }
    }
}

fn command_complete(word: &str, out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag::COMMAND_COMPLETE);
    write::cstr(out, word.as_bytes());
    frame.end(out);
}

fn ready(out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag::READY_FOR_QUERY);
    out.push(TransactionState::Idle.as_byte());
    frame.end(out);
}

/// What `Describe` and `Close` name.
fn target(body: &[u8]) -> Result<(u8, &[u8]), Report> {
    let (&target, rest) = body.split_first().ok_or_else(malformed)?;
    let (name, _) = split_cstr(rest).ok_or_else(malformed)?;
    if target == tag::TARGET_STATEMENT || target == tag::TARGET_PORTAL {
        Ok((target, name))
    } else {
        Err(malformed())
    }
}

/// A two-byte number, and what follows.
fn number(input: &[u8]) -> Option<(u16, &[u8])> {
    let (bytes, rest) = input.split_first_chunk()?;
    Some((u16::from_be_bytes(*bytes), rest))
}

/// Format codes behind their count.
fn codes(input: &[u8]) -> Option<(Vec<u16>, &[u8])> {
    let (count, mut rest) = number(input)?;
    let mut codes = Vec::new();
    for _ in 0..count {
        let (code, after) = number(rest)?;
        codes.push(code);
        rest = after;
    }
    Some((codes, rest))
}

fn admit(count: usize) -> Result<(), Report> {
    if count < NAMES_MAX {
        return Ok(());
    }
    Err(Report::error(
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        "too many prepared statements or portals for the console",
    ))
}

fn no_portal(name: &[u8]) -> Report {
    Report::error(
        SqlState::INVALID_CURSOR_NAME,
        format!("portal \"{}\" does not exist", shown(name)),
    )
}

fn malformed() -> Report {
    Report::fatal(SqlState::PROTOCOL_VIOLATION, "invalid message format")
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name)
        .chars()
        .take(NAME_SHOWN_MAX)
        .collect()
}

/// Commands are short; a longer message is a mistake.
const MESSAGE_LEN_MAX: usize = 16 * 1024;
/// Statements and portals of one client: drivers keep a few.
const NAMES_MAX: usize = 256;
/// `NAMEDATALEN`.
const NAME_SHOWN_MAX: usize = 64;

#[cfg(test)]
mod tests;
