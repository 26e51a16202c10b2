//! Short conversations of our own with a server: resets, probes, questions. Answers are collected, within limits.

use crate::protocol::body::{self, ErrorFields};
use crate::protocol::write::{self, Frame};
use crate::protocol::{HEAD_LEN, Head, Report, SqlState, TransactionState, tag};

use super::conn::ServerConn;

/// The rows of an answer: each value as the server sent it, in text.
pub type Rows = Vec<Vec<Option<Vec<u8>>>>;

/// Runs a simple query, which may hold several statements.
///
/// # Errors
/// The server's error, or the loss of the connection.
pub async fn query(conn: &mut ServerConn, sql: &str) -> Result<Rows, Trouble> {
    query_within(conn, sql, ANSWER_LEN_MAX).await
}

/// The same for an answer of up to `max` bytes.
///
/// # Errors
/// The server's error, or the loss of the connection.
pub async fn query_within(conn: &mut ServerConn, sql: &str, max: usize) -> Result<Rows, Trouble> {
    answer_to(conn, sql, max).await.map(|answer| answer.rows)
}

/// The same for a client's own sake: what the server remarks on it, as messages for the client.
///
/// # Errors
/// The server's error, or the loss of the connection.
pub async fn remarks(conn: &mut ServerConn, sql: &str) -> Result<Vec<u8>, Trouble> {
    answer_to(conn, sql, ANSWER_LEN_MAX)
        .await
        .map(|answer| answer.notices)
}

async fn answer_to(conn: &mut ServerConn, sql: &str, max: usize) -> Result<Answer, Trouble> {
    let mut request = Vec::new();
    crate::session::client::query(sql, &mut request);
    // A simple query destroys the unnamed statement, whoever's it was.
    conn.state.statements.unnamed = None;
    talk(conn, &request, max).await
}

/// Runs one statement with text parameters.
///
/// # Errors
/// The server's error, or the loss of the connection.
pub async fn query_with(conn: &mut ServerConn, sql: &str, values: &[&str]) -> Result<Rows, Trouble> {
    let mut request = Vec::new();
    let frame = Frame::begin(&mut request, tag::PARSE);
    write::cstr(&mut request, b"");
    write::cstr(&mut request, sql.as_bytes());
    request.extend_from_slice(&[0, 0]);
    frame.end(&mut request);
    let frame = Frame::begin(&mut request, tag::BIND);
    request.extend_from_slice(&[0, 0, 0, 0]);
    request.extend_from_slice(&u16::try_from(values.len()).unwrap_or(0).to_be_bytes());
    for value in values {
        request.extend_from_slice(&u32::try_from(value.len()).unwrap_or(0).to_be_bytes());
        request.extend_from_slice(value.as_bytes());
    }
    request.extend_from_slice(&[0, 0]);
    frame.end(&mut request);
    let frame = Frame::begin(&mut request, tag::EXECUTE);
    request.extend_from_slice(&[0, 0, 0, 0, 0]);
    frame.end(&mut request);
    write::bare(&mut request, tag::SYNC);
    // Our own unnamed statement takes the place of whoever's was there.
    conn.state.statements.unnamed = None;
    talk(conn, &request, ANSWER_LEN_MAX)
        .await
        .map(|answer| answer.rows)
}

/// What went wrong.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// The statement failed; the connection is in order.
    Error(Report),
    /// The connection is of no more use.
    Lost(Report),
}

impl Trouble {
    #[must_use]
    pub fn report(&self) -> &Report {
        match self {
            Self::Error(report) | Self::Lost(report) => report,
        }
    }
}

/// Passes over so many answers to what was asked before, of which nothing is wanted any more.
///
/// # Errors
/// The loss of the connection.
pub(super) async fn pass_over(conn: &mut ServerConn, answers: usize) -> Result<(), Trouble> {
    for _ in 0..answers {
        match listen(conn, ANSWER_LEN_MAX).await {
            Ok(_) | Err(Trouble::Error(_)) => {}
            Err(lost) => return Err(lost),
        }
    }
    Ok(())
}

async fn talk(conn: &mut ServerConn, request: &[u8], max: usize) -> Result<Answer, Trouble> {
    conn.stream
        .write_all(request)
        .await
        .map_err(|_| lost("The connection was lost."))?;
    listen(conn, max).await
}

/// Awaits an answer.
async fn listen(conn: &mut ServerConn, max: usize) -> Result<Answer, Trouble> {
    let mut answer = Answer {
        max,
        ..Answer::default()
    };
    let mut buf = vec![0; READ_LEN];
    loop {
        while let Some(len) = answer.on_message(conn)? {
            conn.carry.drain(..len);
            if answer.is_ready {
                return match answer.error {
                    None => Ok(answer),
                    Some(report) => Err(Trouble::Error(report)),
                };
            }
        }
        let count = conn.stream.read(&mut buf).await.unwrap_or(0);
        if count == 0 || conn.carry.len() > max {
            return Err(lost("The connection was lost."));
        }
        conn.carry.extend_from_slice(buf.get(..count).unwrap_or_default());
    }
}

#[derive(Default)]
struct Answer {
    rows: Rows,
    /// Bytes of the rows.
    bytes: usize,
    max: usize,
    notices: Vec<u8>,
    error: Option<Report>,
    is_ready: bool,
}

impl Answer {
    /// Takes in the message at the start of what has come; its length, when it is whole.
    fn on_message(&mut self, conn: &mut ServerConn) -> Result<Option<usize>, Trouble> {
        let head = Head::read(&conn.carry).map_err(|_| lost("The server broke the protocol."))?;
        let Some(head) = head else { return Ok(None) };
        let Some(body) = conn.carry.get(HEAD_LEN..head.len()) else {
            return Ok(None);
        };
        match head.tag {
            tag::DATA_ROW => {
                self.bytes += body.len();
                if self.bytes > self.max {
                    // The rest is passed over: the connection stays in order.
                    self.rows = Rows::new();
                    self.error.get_or_insert_with(too_large);
                } else {
                    self.rows
                        .push(row(body).ok_or_else(|| lost("The server broke the protocol."))?);
                }
            }
            tag::NOTICE_RESPONSE => {
                let message = conn.carry.get(..head.len()).unwrap_or_default();
                if self.notices.len() + message.len() <= NOTICES_LEN_MAX {
                    self.notices.extend_from_slice(message);
                }
            }
            tag::ERROR_RESPONSE => {
                let fields = ErrorFields::read(body);
                let report = Report::error(fields.code, String::from_utf8_lossy(fields.message).into_owned());
                if fields.ends_connection() {
                    return Err(Trouble::Lost(report));
                }
                self.error = Some(report);
            }
            tag::PARAMETER_STATUS => {
                if let Some((name, value)) = body::parameter_status(body) {
                    conn.state.reported.set(name, value);
                }
            }
            tag::COPY_IN_RESPONSE | tag::COPY_BOTH_RESPONSE => {
                return Err(lost("A copy cannot be part of this."));
            }
            tag::READY_FOR_QUERY => {
                let state = body.first().copied().and_then(TransactionState::from_byte);
                conn.state.transaction = state.unwrap_or(TransactionState::Failed);
                self.is_ready = true;
            }
            _ => {}
        }
        Ok(Some(head.len()))
    }
}

fn row(body: &[u8]) -> Option<Vec<Option<Vec<u8>>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (len, after) = rest.split_first_chunk::<4>()?;
        let len = i32::from_be_bytes(*len);
        let Ok(len) = usize::try_from(len) else {
            values.push(None);
            rest = after;
            continue;
        };
        let (value, after) = after.split_at_checked(len)?;
        values.push(Some(value.to_vec()));
        rest = after;
    }
    Some(values)
}

fn too_large() -> Report {
    Report::error(SqlState::PROGRAM_LIMIT_EXCEEDED, "the answer is too large")
}

pub(super) fn lost(detail: &'static str) -> Trouble {
    Trouble::Lost(
        Report::error(SqlState::CONNECTION_FAILURE, "the server connection was lost").with_detail(detail),
    )
}

const READ_LEN: usize = 4096;
/// An answer to a question of ours: a password, a few settings.
const ANSWER_LEN_MAX: usize = 1024 * 1024;
/// Remarks on a few settings; they are kept for the next login with the same. What is more is missed.
const NOTICES_LEN_MAX: usize = 4 * 1024;
