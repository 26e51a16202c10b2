//! Plays scripts: a side is PostgreSQL itself, or pgweir.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use pgweir::protocol::tag;

use crate::harness::Wire;
use crate::harness::wire::Frame;
use crate::message::Message;
use crate::script::{Act, Run};
use crate::trace::{Line, sort_parameters};

/// Where the sessions of a script are.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    pub(crate) port: u16,
    pub(crate) database: String,
    /// PostgreSQL's own, for session X.
    pub(crate) direct_port: u16,
}

/// The sessions of a script on one side.
#[derive(Debug)]
pub(crate) struct Player {
    side: Side,
    run: Run,
    sessions: BTreeMap<char, Session>,
    parameters: BTreeMap<char, Vec<(String, String)>>,
}

#[derive(Debug)]
struct Session {
    wire: Wire,
    key: Option<(u32, Vec<u8>)>,
    /// Notifications, which may come at any time.
    heard: Vec<Line>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The other side has closed, or says nothing.
    Over,
}

impl Player {
    pub(crate) fn new(side: Side, run: Run) -> Self {
        Self {
            side,
            run,
            sessions: BTreeMap::new(),
            parameters: BTreeMap::new(),
        }
    }

    /// Carries out a line and returns what came of it.
    pub(crate) fn act(&mut self, name: char, act: &Act) -> Vec<Line> {
        let mut lines = Vec::new();
        match act {
            Act::Parameter(key, value) => {
                let parameters = self.parameters.entry(name).or_default();
                parameters.push((key.clone(), value.clone()));
                return lines;
            }
            Act::Leave => self.leave(name, &mut lines),
            Act::Vanish => drop(self.sessions.remove(&name)),
            Act::LogIn
            | Act::Statement(_)
            | Act::Query(_)
            | Act::Send(_)
            | Act::Read(_)
            | Act::Hear(_)
            | Act::Cancel => {
                self.log_in(name, &mut lines);
                self.act_in_session(name, act, &mut lines);
            }
        }
        sort_parameters(&mut lines);
        lines
    }

    fn act_in_session(&mut self, name: char, act: &Act, lines: &mut Vec<Line>) {
        let run = self.run;
        let port = self.port_of(name);
        let session = self.sessions.get_mut(&name).unwrap();
        match act {
            Act::Statement(sql) => {
                let message = match run {
                    Run::Simple => Message::Query(sql.clone()).encode(run),
                    Run::Text | Run::Binary => {
                        [Message::Run(sql.clone()).encode(run), Message::Sync.encode(run)].concat()
                    }
                };
                session.send(&message, lines);
                session.read_until(READY, lines);
            }
            Act::Query(sql) => {
                session.send(&Message::Query(sql.clone()).encode(run), lines);
                session.read_until(READY, lines);
            }
            Act::Send(message) => session.send(&message.encode(run), lines),
            Act::Read(tags) => tags.iter().for_each(|tag| session.read_until(*tag, lines)),
            Act::Hear(count) => session.hear(*count, lines),
            Act::Cancel => {
                if let Some((process_id, secret)) = &session.key {
                    let mut wire = Wire::connect(port);
                    wire.cancel(*process_id, secret);
                    wire.read_until_closed();
                }
            }
            Act::Parameter(..) | Act::LogIn | Act::Leave | Act::Vanish => {}
        }
    }

    fn port_of(&self, name: char) -> u16 {
        if name == DIRECT_SESSION {
            self.side.direct_port
        } else {
            self.side.port
        }
    }

    fn log_in(&mut self, name: char, lines: &mut Vec<Line>) {
        if self.sessions.contains_key(&name) {
            return;
        }
        let database = if name == DIRECT_SESSION {
            "postgres"
        } else {
            self.side.database.as_str()
        };
        let mut parameters = vec![("user", "postgres"), ("database", database)];
        let own = self.parameters.get(&name).map_or(&[][..], Vec::as_slice);
        parameters.extend(own.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        let mut wire = Wire::connect(self.port_of(name));
        wire.set_read_timeout(SILENCE_MAX);
        wire.startup(&parameters);
        let mut session = Session {
            wire,
            key: None,
            heard: Vec::new(),
            state: State::Open,
        };
        let mut greeting = Vec::new();
        session.read_until(READY, &mut greeting);
        sort_parameters(&mut greeting);
        lines.append(&mut greeting);
        self.sessions.insert(name, session);
    }

    fn leave(&mut self, name: char, lines: &mut Vec<Line>) {
        let Some(mut session) = self.sessions.remove(&name) else {
            return;
        };
        if session.state == State::Open {
            session.send(&[tag::TERMINATE, 0, 0, 0, 4], lines);
            while let Ok(Some(frame)) = session.wire.try_read_frame() {
                session.take(&frame, lines);
            }
        }
    }

    /// Everybody leaves.
    pub(crate) fn end(mut self) {
        let names: Vec<char> = self.sessions.keys().copied().collect();
        for name in names {
            self.leave(name, &mut Vec::new());
        }
    }
}

impl Session {
    fn send(&mut self, bytes: &[u8], lines: &mut Vec<Line>) {
        if self.wire.try_send_raw(bytes).is_err() {
            lines.push(Line::note("cannot be sent"));
            self.state = State::Over;
        }
    }

    /// Reads to a frame of this tag. An error ends the wait for any, a copy from the client that for ReadyForQuery.
    fn read_until(&mut self, wanted: u8, lines: &mut Vec<Line>) {
        while self.state == State::Open {
            let Some(tag) = self.read(lines) else {
                return;
            };
            let is_error = tag == tag::ERROR_RESPONSE && wanted != READY;
            let is_copy = tag == tag::COPY_IN_RESPONSE && wanted == READY;
            if tag == wanted || is_error || is_copy {
                return;
            }
        }
    }

    /// Reads one frame and returns its tag.
    fn read(&mut self, lines: &mut Vec<Line>) -> Option<u8> {
        let how = match self.wire.try_read_frame() {
            Ok(Some(frame)) => {
                self.take(&frame, lines);
                return Some(frame.tag);
            }
            Ok(None) => "the connection is closed",
            Err(error) if is_silence(&error) => "silence",
            Err(_) => "the connection is closed",
        };
        lines.push(Line::note(how));
        self.state = State::Over;
        None
    }

    fn take(&mut self, frame: &Frame, lines: &mut Vec<Line>) {
        self.key = frame.cancel_key().or_else(|| self.key.take());
        let line = Line::of(frame);
        match frame.tag {
            tag::NOTIFICATION_RESPONSE => self.heard.push(line),
            // How somebody proves who he is does not matter here.
            tag::AUTHENTICATION => {}
            _ => lines.push(line),
        }
    }

    fn hear(&mut self, count: Option<usize>, lines: &mut Vec<Line>) {
        let wanted = count.unwrap_or_default();
        while self.heard.len() < wanted && self.state == State::Open {
            self.read(lines);
        }
        let taken = count.map_or(self.heard.len(), |count| count.min(self.heard.len()));
        lines.extend(self.heard.drain(..taken));
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// This session is at PostgreSQL itself on both sides.
pub(crate) const DIRECT_SESSION: char = 'X';
const READY: u8 = tag::READY_FOR_QUERY;
/// Whoever says nothing for so long will say nothing more. Far longer than `pool_timeout`.
const SILENCE_MAX: Duration = Duration::from_secs(10);
