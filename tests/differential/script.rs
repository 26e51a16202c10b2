//! The language of the scripts.
//!
//! ```text
//! == the name of a script
//! @pool 3                 server connections, where a client is expected to keep one; 1 else
//! @differs reason          it is known to differ, in some way to play it; when it does no more, that is a failure
//! @few                    a pool whose server connections keep two prepared statements
//! # a comment
//! setup: SQL              before the script, at PostgreSQL itself, for both sides
//! wait: SQL               until this is true at PostgreSQL itself
//! A+ name=value           a startup parameter of session A, before its first use
//! A*                      A logs in; else it does so at its first use
//! A: SQL                  one statement, in the protocol of the run, to ReadyForQuery
//! A:: SQL                 always as a simple query: several statements, copies
//! A> message              sent with the messages around it: see `message.rs`
//! A<                      reads to ReadyForQuery
//! A< D D Z                reads to each of these tags in turn; an error ends the wait for a tag
//! A? 2                    waits for two notifications, which are kept apart from the answers
//! A?                      those that have come since, without waiting
//! A!                      cancels what A does
//! A.                      A says goodbye
//! A..                     A is gone without a word
//! ```
//!
//! A line that begins with a blank continues the one before. Session X is at PostgreSQL itself on both sides.

use crate::message::Message;

#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) name: String,
    pub(crate) pool: Pool,
    /// Why it is known to differ.
    pub(crate) differs: Option<String>,
    pub(crate) setup: Vec<String>,
    pub(crate) steps: Vec<Step>,
}

/// Which of the pools before the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    /// So many server connections.
    Size(usize),
    /// One server connection with room for two prepared statements.
    FewStatements,
}

impl Pool {
    pub(crate) fn database(self) -> String {
        match self {
            Self::Size(size) => format!("pool{size}"),
            Self::FewStatements => "few".to_owned(),
        }
    }

    pub(crate) fn size(self) -> usize {
        match self {
            Self::Size(size) => size,
            Self::FewStatements => 1,
        }
    }
}

/// A line: what is done, and its text for the reports.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) text: String,
    pub(crate) action: Action,
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Wait(String),
    Session(char, Act),
}

#[derive(Clone, Debug)]
pub(crate) enum Act {
    Parameter(String, String),
    LogIn,
    Statement(String),
    Query(String),
    Send(Message),
    Read(Vec<u8>),
    Hear(Option<usize>),
    Cancel,
    Leave,
    Vanish,
}

/// How the plain statements of a script are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    Simple,
    Text,
    Binary,
}

impl Run {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Text => "extended",
            Self::Binary => "binary",
        }
    }
}

impl Script {
    /// The scripts of a file, each named after its topic too.
    pub(crate) fn parse_all(topic: &str, text: &str) -> Vec<Self> {
        let text = format!("\n{text}");
        let scripts = text.split("\n== ").skip(1);
        scripts
            .map(|script| {
                let (name, body) = script.split_once('\n').unwrap();
                Self::parse(&format!("{topic}: {name}"), body)
            })
            .collect()
    }

    pub(crate) fn parse(name: &str, body: &str) -> Self {
        let mut script = Self {
            name: name.to_owned(),
            pool: Pool::Size(1),
            differs: None,
            setup: Vec::new(),
            steps: Vec::new(),
        };
        for line in logical_lines(body) {
            script
                .add(&line)
                .unwrap_or_else(|| panic!("{name}: this is no line of a script: {line}"));
        }
        script
    }

    fn add(&mut self, line: &str) -> Option<()> {
        if let Some(size) = line.strip_prefix("@pool ") {
            self.pool = Pool::Size(size.parse().ok()?);
        } else if let Some(reason) = line.strip_prefix("@differs ") {
            self.differs = Some(reason.to_owned());
        } else if line == "@few" {
            self.pool = Pool::FewStatements;
        } else if let Some(sql) = line.strip_prefix("setup: ") {
            self.setup.push(sql.to_owned());
        } else {
            let action = match line.strip_prefix("wait: ") {
                Some(sql) => Action::Wait(sql.to_owned()),
                None => session_line(line)?,
            };
            self.steps.push(Step {
                text: line.to_owned(),
                action,
            });
        }
        Some(())
    }

    /// Those that differ from each other.
    pub(crate) fn runs(&self) -> Vec<Run> {
        let is_any = |wanted: fn(&Act) -> bool| {
            let acts = self.steps.iter().filter_map(|step| match &step.action {
                Action::Session(_, act) => Some(act),
                Action::Wait(_) => None,
            });
            acts.into_iter().any(wanted)
        };
        let has_plain = is_any(|act| matches!(act, Act::Statement(_)));
        let has_results = is_any(|act| {
            matches!(
                act,
                Act::Send(Message::Bind { .. } | Message::Run(_) | Message::Call { .. })
            )
        });
        let mut runs = vec![Run::Simple];
        if has_plain {
            runs.push(Run::Text);
        }
        if has_plain || has_results {
            runs.push(Run::Binary);
        }
        runs
    }
}

/// Lines without comments and empty ones, continuations joined.
fn logical_lines(body: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        match lines.last_mut() {
            Some(last) if line.starts_with(' ') => {
                last.push('\n');
                last.push_str(line);
            }
            _ if line.trim().is_empty() => {}
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

fn session_line(line: &str) -> Option<Action> {
    let session = line.chars().next().filter(char::is_ascii_uppercase)?;
    let rest = &line[1..];
    let act = match rest {
        "*" => Act::LogIn,
        "." => Act::Leave,
        ".." => Act::Vanish,
        "!" => Act::Cancel,
        "<" => Act::Read(vec![b'Z']),
        "?" => Act::Hear(None),
        _ => act_with_argument(rest)?,
    };
    Some(Action::Session(session, act))
}

fn act_with_argument(rest: &str) -> Option<Act> {
    // An empty query has nothing behind its colon.
    let (sign, argument) = rest.split_once(' ').unwrap_or((rest, ""));
    Some(match sign {
        "+" => {
            let (name, value) = argument.split_once('=')?;
            Act::Parameter(name.to_owned(), value.to_owned())
        }
        ":" => Act::Statement(argument.to_owned()),
        "::" => Act::Query(argument.to_owned()),
        ">" => Act::Send(Message::parse(argument)?),
        "<" => Act::Read(argument.split(' ').map(|tag| tag.as_bytes()[0]).collect()),
        "?" => Act::Hear(Some(argument.parse().ok()?)),
        _ => return None,
    })
}
