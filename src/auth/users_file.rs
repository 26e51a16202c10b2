//! The users file: one `"user" "secret"` a line.

use super::text::FileError;
use super::verifier::Verifier;

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserEntry {
    pub user: String,
    /// None where the secret is empty: the user exists, but no password lets it in.
    pub verifier: Option<Verifier>,
    pub line: usize,
}

/// Reads a whole file. Where a user stands twice, the last line is meant to win. What follows the second quoted word of a
/// line is ignored, and so are empty lines and those that begin with `;`.
///
/// # Errors
/// Every line that is not of this form; messages never repeat what the file holds.
pub fn parse(text: &str) -> Result<Vec<UserEntry>, Vec<FileError>> {
    let mut entries = Vec::new();
    let mut errors = Vec::new();
    for (index, line) in text.lines().enumerate() {
        match parse_line(index + 1, line) {
            Ok(entry) => entries.extend(entry),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(entries)
    } else {
        Err(errors)
    }
}

fn parse_line(number: usize, line: &str) -> Result<Option<UserEntry>, FileError> {
    let offset = |rest: &str| line.len() - rest.len();
    let start = line.trim_start();
    if start.is_empty() || start.starts_with(';') {
        return Ok(None);
    }
    let Some(opened) = start.strip_prefix('"') else {
        return Err(FileError::at(
            number,
            line,
            offset(start),
            "expected a user name in double quotes",
        ));
    };
    let unclosed = |rest: &str| FileError::at(number, line, offset(rest), "the double quote is not closed");
    let (user, rest) = quoted(opened).ok_or_else(|| unclosed(start))?;
    if user.is_empty() {
        return Err(FileError::at(
            number,
            line,
            offset(start),
            "the user name is empty",
        ));
    }
    let start = rest.trim_start();
    let Some(opened) = start.strip_prefix('"') else {
        return Err(FileError::at(
            number,
            line,
            offset(start),
            "expected a secret in double quotes",
        ));
    };
    let (secret, _ignored) = quoted(opened).ok_or_else(|| unclosed(start))?;
    Ok(Some(UserEntry {
        user,
        verifier: Verifier::parse(&secret),
        line: number,
    }))
}

/// Reads up to the closing quote; two quotes stand for one. Also what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        value.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                value.push('"');
                rest = more;
            }
            None => return Some((value, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Secret;

    #[test]
    fn reads_users_with_every_kind_of_secret() {
        let text = "; comment\n\n\"app\" \"secret\" \"ignored\" more\r\n  \"a\"\"b\"\t\"x\"\"y\"\n\"none\" \"\"\n\"m\" \"md56a422f785c9e20873908ce25d1736ae2\"\n";
        let entries = parse(text).unwrap();
        let names: Vec<_> = entries
            .iter()
            .map(|entry| (entry.user.as_str(), entry.line))
            .collect();
        assert_eq!(names, [("app", 3), ("a\"b", 4), ("none", 5), ("m", 6)]);
        assert_eq!(entries[0].verifier, Some(Verifier::Plain(Secret::from("secret"))));
        assert_eq!(entries[1].verifier, Some(Verifier::Plain(Secret::from("x\"y"))));
        assert_eq!(entries[2].verifier, None);
        assert!(matches!(entries[3].verifier, Some(Verifier::Md5(_))));
    }

    #[test]
    fn reports_every_bad_line_without_its_secret() {
        let text = "app secret\n\"app\n\"ok\" \"x\"\n\"app\" hunter2\n\"äpp\" \"hunter2\n\"\" \"x\"\n";
        let errors = parse(text).unwrap_err();
        let shown: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "1:1: expected a user name in double quotes",
                "2:1: the double quote is not closed",
                "4:7: expected a secret in double quotes",
                "5:7: the double quote is not closed",
                "6:1: the user name is empty",
            ]
        );
    }
}
