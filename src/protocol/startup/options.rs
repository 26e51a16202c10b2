//! The `options` of a startup packet: command-line switches of a server process.
//!
//! Source: `pg_split_opts` in PostgreSQL's `src/backend/utils/init/postinit.c`, `process_postgres_switches` in
//! `src/backend/tcop/postgres.c`, `ParseLongOption` in `src/backend/utils/misc/guc.c`.

use super::StartupError;

/// Reads settings in their order: `-c name=value`, `-cname=value` and `--name=value`.
///
/// # Errors
/// Any other word. The switches of a server process that are no settings have no meaning for a session here.
pub fn parse_options(text: &str) -> Result<Vec<(String, String)>, StartupError> {
    let mut settings = Vec::new();
    let mut words = split(text).into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            // Ends the switches; nothing may follow.
            match words.next() {
                Some(extra) => return Err(StartupError::Argument(extra)),
                None => break,
            }
        }
        let (switch, assignment) = if let Some(long) = word.strip_prefix("--") {
            ("--", long.to_owned())
        } else if word == "-c" {
            (
                "-c ",
                words.next().ok_or_else(|| StartupError::Argument(word.clone()))?,
            )
        } else if let Some(attached) = word.strip_prefix("-c") {
            ("-c ", attached.to_owned())
        } else {
            return Err(StartupError::Argument(word));
        };
        let Some((name, value)) = assignment.split_once('=') else {
            return Err(StartupError::ArgumentValue(format!("{switch}{assignment}")));
        };
        if name.is_empty() {
            return Err(StartupError::Argument(format!("{switch}{assignment}")));
        }
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

/// Words between white space; a backslash takes the next character as it is.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut characters = text.chars().peekable();
    loop {
        while characters.next_if(|next| is_space(*next)).is_some() {}
        if characters.peek().is_none() {
            return words;
        }
        let mut word = String::new();
        while let Some(next) = characters.next_if(|next| !is_space(*next)) {
            match next {
                '\\' => word.extend(characters.next()),
                other => word.push(other),
            }
        }
        words.push(word);
    }
}

/// As `isspace` of the C locale, which knows the vertical tab too.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}
