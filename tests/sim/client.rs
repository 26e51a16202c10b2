//! A client: what it asks for, and what it must be told.
//!
//! What it must be told comes from a server of its own, the reference, that is given the same messages. A message is given
//! when its answer is due, so that a loss finds the reference where the client is.

use std::collections::VecDeque;

use crate::model::{Copying, Model};
use crate::tag;
use crate::wire::*;
use crate::{Failure, Random, fail};

#[derive(Debug)]
pub struct Client {
    pub id: u64,
    /// Bytes that the pooler has not read.
    pub outgoing: Vec<u8>,
    pub rounds_left: u32,
    reference: Model,
    /// The reference before the message whose answer is under way.
    before: Model,
    /// Asked and not given to the reference yet.
    asked: VecDeque<Asked>,
    current: Option<Asked>,
    /// The unnamed statement before the latest query.
    unnamed_before: Option<String>,
    expected: VecDeque<Expected>,
    /// An extended message was given since the last `Sync`.
    in_batch: bool,
    /// Where the next message begins in everything asked.
    offset: usize,
    /// What the pooler has dealt with.
    pub consumed: usize,
    received: Vec<u8>,
    said: u32,
    last: Last,
}

/// What a client's last batch was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Ordinary,
    /// It asked for the answers so far: nothing is said before they have come.
    Flushed,
    /// A statement that is used in the next batch, after others may have had the connection.
    Parsed,
}

#[derive(Clone, Debug)]
struct Asked {
    tag: u8,
    bytes: Vec<u8>,
    start: usize,
}

#[derive(Debug)]
enum Expected {
    Exactly(Vec<u8>),
    /// An error with one of these codes.
    Error(&'static [&'static str]),
}

/// What a client is told of a lost connection; and of a block that could not begin.
const LOST: &[&str] = &["08006", "08007", "57P01", "57014"];
/// What it is told when it cannot be served.
const REFUSED: &[&str] = &["53300", "08006", "57P01"];
const NAMES: [&str; 4] = ["", "a", "b", "c"];

impl Client {
    pub fn new(id: u64, rounds: u32, own: &[(&str, &str)]) -> Self {
        let reference = Model::new(own);
        Self {
            id,
            outgoing: Vec::new(),
            rounds_left: rounds,
            before: reference.clone(),
            reference,
            asked: VecDeque::new(),
            current: None,
            unnamed_before: None,
            expected: VecDeque::new(),
            in_batch: false,
            offset: 0,
            consumed: 0,
            received: Vec::new(),
            said: 0,
            last: Last::Ordinary,
        }
    }

    fn is_answered(&mut self) -> bool {
        while self.expected.is_empty()
            && self
                .asked
                .front()
                .is_some_and(|asked| asked.start < self.consumed)
        {
            self.give();
        }
        self.expected.is_empty() && self.asked.is_empty()
    }

    /// It may go: everything it has asked for was answered.
    pub fn on_goodbye(&mut self) -> Result<(), Failure> {
        while self.expected.is_empty() && !self.asked.is_empty() {
            self.give();
        }
        match self.expected.front() {
            Some(missing) => fail(format!("client {} leaves without {missing:?}", self.id)),
            None => Ok(()),
        }
    }

    /// Asks for something more.
    pub fn ask(&mut self, random: &mut Random) {
        if self.rounds_left == 0 || (self.last == Last::Flushed && !self.is_answered()) {
            return;
        }
        self.rounds_left -= 1;
        let batch = match random.below(10) {
            _ if self.last == Last::Parsed => vec![self.bind(""), execute(""), sync()],
            9 => vec![parse("", &format!("SELECT {}", self.mark())), sync()],
            0..4 => vec![self.simple(random)],
            4 => self.copy(random),
            _ => self.extended(random),
        };
        self.last = match batch.as_slice() {
            [.., last] if *last == flush() => Last::Flushed,
            [first, _] if first[0] == tag::PARSE => Last::Parsed,
            _ => Last::Ordinary,
        };
        for message in batch {
            self.send(message);
        }
        if self.rounds_left == 0 {
            // Whatever is open ends here, so that everything can be answered.
            self.send(sync());
            self.send(query("ROLLBACK"));
            self.send(query("SHOW TimeZone"));
            self.send(query("SHOW work_mem"));
            self.outgoing.extend(message(tag::TERMINATE, b""));
        }
    }

    fn send(&mut self, message: Vec<u8>) {
        let start = self.offset;
        self.offset += message.len();
        self.outgoing.extend_from_slice(&message);
        self.asked.push_back(Asked {
            tag: message[0],
            bytes: message,
            start,
        });
    }

    /// A text that names the client and nobody else.
    fn mark(&mut self) -> String {
        self.said += 1;
        format!("c{}.{}", self.id, self.said)
    }

    fn text(&mut self, random: &mut Random) -> String {
        let mark = self.mark();
        if random.below(5) == 0 {
            return self.naming(random);
        }
        match random.below(31) {
            0..6 => format!("SELECT {mark}"),
            6..10 => format!("SELECT shared{}", random.below(4)),
            10..13 => "BEGIN".into(),
            13..15 => "COMMIT".into(),
            15 => "ROLLBACK".into(),
            16 => format!("FAIL {mark}"),
            17 | 24 | 25 => format!("SET TimeZone TO '{mark}'"),
            18 | 26 => "SHOW TimeZone".into(),
            19 => "SHOW search_path".into(),
            20 => "SHOW work_mem".into(),
            21 => format!("SET search_path TO '{mark}'"),
            28 => format!("SET work_mem TO '{mark}'"),
            29 => "RESET search_path".into(),
            30 => "RESET work_mem".into(),
            22 if random.below(2) == 0 => "DEALLOCATE ALL".into(),
            23 if random.below(2) == 0 => "DISCARD ALL".into(),
            _ => format!("COPY OUT {mark}"),
        }
    }

    /// A text that makes, runs or drops a prepared statement.
    fn naming(&mut self, random: &mut Random) -> String {
        let name = NAMES[1 + random.below(3)];
        match random.below(8) {
            0 => format!("PREPARE {name} AS SELECT {}", self.mark()),
            1 | 2 => format!("PREPARE {name} AS SELECT shared{}", random.below(4)),
            3 if random.below(4) == 0 => format!("PREPARE {name} AS BAD {}", self.mark()),
            4 => format!("DEALLOCATE {name}"),
            _ => format!("EXECUTE {name}"),
        }
    }

    fn simple(&mut self, random: &mut Random) -> Vec<u8> {
        match random.below(11) {
            10 => query(&format!("EXECUTE a; SELECT {}; EXECUTE b", self.mark())),
            9 => query(&format!("SELECT {}; DEALLOCATE a", self.mark())),
            8 => query("DISCARD ALL"),
            0 => query(&format!("SELECT {}; SELECT {}", self.mark(), self.mark())),
            1 => query(&format!("SELECT {}; FAIL x; SELECT y", self.mark())),
            2 => message(tag::FUNCTION_CALL, format!("{}\0", self.mark()).as_bytes()),
            _ => query(&self.text(random)),
        }
    }

    fn copy(&mut self, random: &mut Random) -> Vec<Vec<u8>> {
        let text = format!("COPY IN {}", self.mark());
        let is_extended = random.below(2) == 0;
        let mut batch = if is_extended {
            vec![parse("", &text), bind("", ""), execute("")]
        } else {
            vec![query(&text)]
        };
        if is_extended && random.below(2) == 0 {
            batch.push(sync());
        }
        for _ in 0..random.below(4) {
            let line = if random.below(4) == 0 { "bad" } else { "row" };
            batch.push(copy_data(&line.repeat(1 + random.below(60))));
        }
        batch.push(if random.below(4) == 0 {
            copy_fail("no more")
        } else {
            copy_done()
        });
        if is_extended {
            batch.push(sync());
        }
        batch
    }

    fn extended(&mut self, random: &mut Random) -> Vec<Vec<u8>> {
        let mut batch = Vec::new();
        for _ in 0..=random.below(5) {
            let name = NAMES[random.below(4)];
            match random.below(12) {
                0..4 => {
                    let text = self.text(random);
                    // A statement that names another is not named by a third.
                    let name = match name {
                        "a" | "b" | "c" if is_naming(&text) => "d",
                        name => name,
                    };
                    batch.push(parse(name, &text));
                    batch.extend([self.bind(name), execute("")]);
                }
                4 => batch.push(parse(name, &format!("SELECT shared{}", random.below(4)))),
                5 => batch.push(parse(name, &format!("BAD {}", self.mark()))),
                6..9 => batch.extend([self.bind(name), execute("")]),
                9 => batch.push(describe_statement(name)),
                10 => batch.push(close_statement(if name == "c" { "d" } else { name })),
                _ => batch.push(flush()),
            }
        }
        if random.below(4) != 0 {
            batch.push(sync());
        } else if random.below(2) == 0 {
            batch.push(flush());
        }
        batch
    }

    fn bind(&mut self, name: &str) -> Vec<u8> {
        let value = self.mark();
        message(tag::BIND, format!("\0{name}\0{value}\0").as_bytes())
    }

    /// Bytes from the pooler: they must be the answers that are due.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.received.extend_from_slice(bytes);
        let received = std::mem::take(&mut self.received);
        let (messages, rest) = split(&received);
        self.received = rest.to_vec();
        for (tag, body) in messages {
            let got = message(tag, body);
            let expected = self.next_expected(&got)?;
            let is_right = match &expected {
                Expected::Exactly(bytes) => *bytes == got,
                Expected::Error(codes) => {
                    let texts = texts(body);
                    tag == tag::ERROR_RESPONSE
                        && codes.iter().any(|code| texts.contains(&&*format!("C{code}")))
                }
            };
            if !is_right {
                let wanted = match &expected {
                    Expected::Exactly(bytes) => backend(bytes).join(""),
                    Expected::Error(codes) => format!("an error of {codes:?}"),
                };
                return fail(format!(
                    "client {}: got {:?} for {wanted:?}",
                    self.id,
                    backend(&got)
                ));
            }
        }
        Ok(())
    }

    /// Whether it was given the beginning of a message.
    pub fn is_inside_message(&self) -> bool {
        !self.received.is_empty()
    }

    fn next_expected(&mut self, got: &[u8]) -> Result<Expected, Failure> {
        loop {
            if let Some(expected) = self.expected.pop_front() {
                return Ok(expected);
            }
            let next = self
                .asked
                .front()
                .is_some_and(|asked| asked.start < self.consumed);
            if !next {
                return fail(format!(
                    "client {}: got {:?} for nothing: {self:?}",
                    self.id,
                    backend(got)
                ));
            }
            self.give();
        }
    }

    /// Gives the next message to the reference.
    fn give(&mut self) {
        let Some(asked) = self.asked.pop_front() else {
            return;
        };
        self.before = self.reference.clone();
        if asked.tag == tag::QUERY {
            self.unnamed_before.clone_from(&self.reference.unnamed);
        }
        self.reference.feed(&asked.bytes);
        self.in_batch = match asked.tag {
            tag::SYNC if self.reference.copy == Copying::No => false,
            tag::QUERY | tag::FUNCTION_CALL if !self.reference.skipping => false,
            tag::PARSE | tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE => true,
            _ => self.in_batch,
        };
        let answer = self.reference.take_all();
        let (messages, _) = split(&answer);
        self.expected.extend(
            messages
                .iter()
                .map(|(tag, body)| Expected::Exactly(message(*tag, body))),
        );
        self.current = Some(asked);
    }

    /// The message that begins here is refused.
    pub fn on_refused(&mut self, start: usize) {
        while self.asked.front().is_some_and(|asked| asked.start < start) {
            self.give();
        }
        let asked = self.asked.pop_front().unwrap();
        assert_eq!(asked.start, start, "not at the beginning of a message");
        self.reference.on_refused();
        self.expected.push_back(Expected::Error(REFUSED));
        if matches!(asked.tag, tag::QUERY | tag::FUNCTION_CALL) {
            self.expected
                .push_back(Expected::Exactly(ready(self.reference.state)));
        } else {
            self.reference.skipping = true;
            self.in_batch = true;
        }
    }

    /// The server connection was lost between two requests: an open block has failed.
    pub fn on_lost_between(&mut self) {
        while self
            .asked
            .front()
            .is_some_and(|asked| asked.start < self.consumed)
        {
            self.give();
        }
        self.reference.on_lost();
    }

    /// The server connection was lost: what is dealt with and not answered fails.
    pub fn on_lost(&mut self) {
        if !self.expected.is_empty() {
            self.take_back_current();
        }
        let mut told = self.reference.skipping;
        let mut in_copy = false;
        let mut failing = VecDeque::new();
        if let Copying::Simple(_) = self.reference.copy {
            in_copy = true;
            self.fail_request(&mut failing);
            // A query that was not carried out has not destroyed it.
            self.reference.unnamed = self.unnamed_before.take();
        } else if let Copying::Extended(_) = self.reference.copy {
            in_copy = true;
            told = true;
            failing.push_back(Expected::Error(LOST));
        }
        self.reference.on_lost();
        let mut in_batch = self.in_batch;
        while self
            .asked
            .front()
            .is_some_and(|asked| asked.start < self.consumed)
        {
            let Some(asked) = self.asked.pop_front() else {
                break;
            };
            match asked.tag {
                tag::SYNC if in_copy => {}
                tag::SYNC => {
                    told = false;
                    in_batch = false;
                    failing.push_back(Expected::Exactly(ready(self.reference.state)));
                }
                tag::COPY_DONE | tag::COPY_FAIL => in_copy = false,
                tag::COPY_DATA | tag::FLUSH => {}
                _ if told => {}
                tag::QUERY | tag::FUNCTION_CALL => {
                    in_batch = false;
                    self.fail_request(&mut failing);
                }
                _ => {
                    told = true;
                    in_batch = true;
                    failing.push_back(Expected::Error(LOST));
                }
            }
        }
        if in_batch && !told {
            told = true;
            failing.push_back(Expected::Error(LOST));
        }
        self.in_batch = in_batch;
        self.reference.skipping = told;
        self.expected = failing;
    }

    fn fail_request(&self, failing: &mut VecDeque<Expected>) {
        let state = if self.reference.told_state == b'I' {
            b'I'
        } else {
            b'E'
        };
        failing.extend([Expected::Error(LOST), Expected::Exactly(ready(state))]);
    }

    /// A message that was answered in part was not carried out; but what was forgotten by then is.
    fn take_back_current(&mut self) {
        let is_complete = |expected: &Expected| matches!(expected, Expected::Exactly(bytes) if bytes[0] == tag::COMMAND_COMPLETE);
        let was_completed = !self.expected.iter().any(is_complete);
        self.expected.clear();
        let Some(asked) = self.current.take() else { return };
        let forgets = ["DEALLOCATE ALL", "DISCARD ALL"]
            .iter()
            .any(|text| asked.bytes == query(text));
        let has_forgotten = forgets && was_completed && self.reference.named.is_empty();
        self.reference = self.before.clone();
        if has_forgotten {
            self.reference.named.clear();
        }
        self.asked.push_front(asked);
    }
}

fn is_naming(text: &str) -> bool {
    ["PREPARE", "EXECUTE", "DEALLOCATE"]
        .iter()
        .any(|verb| text.starts_with(verb))
}
