//! From the text of a request to a command of the console.

use crate::protocol::{Report, SqlState};

use super::show::Show;
use super::table::{Column, Type};

/// What a client of the console asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Nothing but space.
    Empty,
    Show(Show),
    Help,
    /// A run-time parameter that clients ask every server for.
    Parameter(&'static Parameter),
    /// A run-time parameter that clients set at every server.
    Set,
    Reload,
    Pause(Option<String>),
    Resume(Option<String>),
    Shutdown(Ending),
    KillClient(u64),
}

/// When a shutdown ends the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Now,
    /// When transactions have ended.
    Drained,
}

/// A run-time parameter, with its fixed value.
#[derive(Debug, PartialEq, Eq)]
pub struct Parameter {
    column: Column,
    pub value: &'static str,
}

impl Command {
    /// Reads a command. Key words are written in any case; a name may stand in double quotes; a semicolon may end it.
    ///
    /// # Errors
    /// There is no such command.
    pub fn parse(text: &str) -> Result<Self, Report> {
        let words = split(text).ok_or_else(|| unknown(text))?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let Some((first, rest)) = words.split_first() else {
            return Ok(Self::Empty);
        };
        let keyword = first.to_ascii_lowercase();
        let command = match (keyword.as_str(), rest) {
            ("show", [what]) => Self::parse_show(what),
            ("set", [name, ..]) => return parse_set(name),
            ("reload", []) => Some(Self::Reload),
            ("pause", []) => Some(Self::Pause(None)),
            ("pause", [database]) => Some(Self::Pause(Some((*database).to_owned()))),
            ("resume", []) => Some(Self::Resume(None)),
            ("resume", [database]) => Some(Self::Resume(Some((*database).to_owned()))),
            ("shutdown", []) => Some(Self::Shutdown(Ending::Now)),
            ("shutdown", [how]) if is_wait(how) => Some(Self::Shutdown(Ending::Drained)),
            ("kill_client", [id]) => id.parse().ok().map(Self::KillClient),
            _ => None,
        };
        command.ok_or_else(|| unknown(text))
    }

    fn parse_show(what: &str) -> Option<Self> {
        if what.eq_ignore_ascii_case("help") {
            return Some(Self::Help);
        }
        Show::parse(what)
            .map(Self::Show)
            .or_else(|| Parameter::find(what).map(Self::Parameter))
    }

    /// Whether it does more than to look.
    #[must_use]
    pub fn needs_admin(&self) -> bool {
        match self {
            Self::Empty | Self::Show(_) | Self::Help | Self::Parameter(_) | Self::Set => false,
            Self::Reload | Self::Pause(_) | Self::Resume(_) | Self::Shutdown(_) | Self::KillClient(_) => true,
        }
    }

    /// The columns of its answer; none if it has no rows.
    #[must_use]
    pub fn columns(&self) -> Option<&'static [Column]> {
        match self {
            Self::Show(show) => Some(show.columns()),
            Self::Parameter(parameter) => Some(std::slice::from_ref(&parameter.column)),
            Self::Empty
            | Self::Help
            | Self::Set
            | Self::Reload
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Shutdown(_)
            | Self::KillClient(_) => None,
        }
    }

    /// What `CommandComplete` says.
    #[must_use]
    pub fn tag(&self) -> &'static str {
        match self {
            Self::Empty => "",
            Self::Show(_) | Self::Help | Self::Parameter(_) => "SHOW",
            Self::Set => "SET",
            Self::Reload => "RELOAD",
            Self::Pause(_) => "PAUSE",
            Self::Resume(_) => "RESUME",
            Self::Shutdown(_) => "SHUTDOWN",
            Self::KillClient(_) => "KILL_CLIENT",
        }
    }
}

impl Parameter {
    fn find(name: &str) -> Option<&'static Self> {
        PARAMETERS
            .iter()
            .find(|parameter| parameter.column.name.eq_ignore_ascii_case(name))
    }
}

fn parse_set(name: &str) -> Result<Command, Report> {
    let name = name.split_once('=').map_or(name, |(name, _)| name);
    if Parameter::find(name).is_some() {
        return Ok(Command::Set);
    }
    Err(Report::error(
        SqlState::FEATURE_NOT_SUPPORTED,
        "settings are not changed from the console",
    )
    .with_hint("Change the configuration file, then RELOAD."))
}

fn is_wait(how: &str) -> bool {
    ["wait_for_servers", "wait_for_clients"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(how))
}

/// The words of a command; `None` when its quotes or semicolons are not where they belong.
fn split(text: &str) -> Option<Vec<String>> {
    let mut rest = text.trim();
    rest = rest.strip_suffix(';').unwrap_or(rest).trim_end();
    let mut words = Vec::new();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                let (word, after) = rest.split_at_checked(end)?;
                if word.contains(['"', ';']) {
                    return None;
                }
                (word.to_owned(), after)
            }
        };
        if !after.is_empty() && !after.starts_with(char::is_whitespace) {
            return None;
        }
        words.push(word);
        rest = after.trim_start();
    }
    Some(words)
}

/// A name up to its closing quote, of which two inside stand for one; and what is behind it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        name.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

fn unknown(text: &str) -> Report {
    let shown: String = text.chars().take(SHOWN_MAX).collect();
    Report::error(
        SqlState::SYNTAX_ERROR,
        format!("invalid command '{shown}', use SHOW HELP;"),
    )
}

/// What clients ask for or set without looking where they are.
const PARAMETERS: &[Parameter] = &[
    parameter("client_encoding", "UTF8"),
    parameter("default_transaction_isolation", "read committed"),
    parameter("standard_conforming_strings", "on"),
    parameter("datestyle", "ISO"),
    parameter("timezone", "GMT"),
    parameter("extra_float_digits", "2"),
];

const fn parameter(name: &'static str, value: &'static str) -> Parameter {
    let column = Column {
        name,
        kind: Type::Text,
    };
    Parameter { column, value }
}

/// Characters of a command that an error shows: enough to recognise it.
const SHOWN_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_space_quotes_and_a_semicolon_do_not_matter() {
        assert_eq!(Command::parse("show pools"), Ok(Command::Show(Show::Pools)));
        assert_eq!(
            Command::parse(" \n SHOW\tPools ;\n"),
            Ok(Command::Show(Show::Pools))
        );
        assert_eq!(Command::parse("Show Help;"), Ok(Command::Help));
        let pause = |name: &str| Ok(Command::Pause(Some(name.to_owned())));
        assert_eq!(Command::parse("PAUSE"), Ok(Command::Pause(None)));
        assert_eq!(Command::parse("PAUSE Shop"), pause("Shop"));
        assert_eq!(
            Command::parse("pause \"my \"\"own\"\" db\";"),
            pause("my \"own\" db")
        );
        assert_eq!(Command::parse("pause a-b.c;"), pause("a-b.c"));
        assert_eq!(Command::parse("kill_client 42"), Ok(Command::KillClient(42)));
        assert_eq!(
            Command::parse("SHUTDOWN wait_for_clients"),
            Ok(Command::Shutdown(Ending::Drained))
        );
    }

    #[test]
    fn what_is_nothing_is_empty() {
        for text in ["", "  ", ";", " ; "] {
            assert_eq!(Command::parse(text), Ok(Command::Empty));
        }
    }

    #[test]
    fn an_unknown_command_is_named_in_the_error() {
        for text in [
            "SELECT 1",
            "SHOW",
            "SHOW nothing",
            "SHOW POOLS; SHOW STATS",
            "RELOAD now",
            "PAUSE a b",
            "PAUSE \"a",
            "PAUSE \"a\"b",
            "SHUTDOWN softly",
            "KILL_CLIENT all",
            ";;",
        ] {
            let report = Command::parse(text).unwrap_err();
            assert_eq!(report.code, SqlState::SYNTAX_ERROR);
            assert_eq!(
                report.message,
                format!("invalid command '{text}', use SHOW HELP;")
            );
        }
        let long = Command::parse(&"ä".repeat(10_000)).unwrap_err();
        assert!(long.message.len() < 1000);
    }

    #[test]
    fn parameters_that_drivers_touch_are_shown_and_set_to_no_effect() {
        let Ok(Command::Parameter(shown)) = Command::parse("SHOW DateStyle") else {
            panic!("not a parameter");
        };
        assert_eq!((shown.column.name, shown.value), ("datestyle", "ISO"));
        for text in [
            "SET extra_float_digits = 3",
            "set client_encoding='UTF8'",
            "SET datestyle TO ISO",
        ] {
            assert_eq!(Command::parse(text), Ok(Command::Set));
        }
        let refused = Command::parse("SET pool_size = 7").unwrap_err();
        assert_eq!(refused.code, SqlState::FEATURE_NOT_SUPPORTED);
    }
}
