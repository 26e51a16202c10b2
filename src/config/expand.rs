//! `${NAME}` and `${file:PATH}` in the strings of a file.

use std::path::Path;

use crate::config::environment::{Environment, NotText};
use crate::config::secret::{Encoding, Piece, SecretSource};
use crate::config::url;

/// A string with every variable filled in and every file named by its whole path; or all that is wrong with it.
///
/// In the user and the password of a URL a value may hold any character: it is percent-encoded as it goes in.
pub(super) fn expand(
    text: &str,
    environment: &Environment,
    directory: &Path,
) -> Result<SecretSource, Vec<String>> {
    let user_info = url::user_info(&masked(text)).unwrap_or(0..0);
    let (mut pieces, mut fixed, mut problems) = (Vec::new(), String::new(), Vec::new());
    for part in parts(text) {
        let (name, at) = match part {
            Part::Text(text) => {
                fixed.push_str(text);
                continue;
            }
            Part::Placeholder { name, at } => (name, at),
            Part::Open => {
                problems.push("has a ${ without a } (write ${ itself as $${)".to_owned());
                continue;
            }
        };
        let encoding = if user_info.contains(&at) {
            Encoding::Url
        } else {
            Encoding::Plain
        };
        match name.strip_prefix("file:") {
            Some("") => problems.push("has a ${file:} without a path".to_owned()),
            Some(path) => {
                pieces.push(Piece::Text(std::mem::take(&mut fixed)));
                pieces.push(Piece::File {
                    path: directory.join(path),
                    encoding,
                });
            }
            None => match variable(name, environment) {
                Ok(value) => encoding.push(&mut fixed, value),
                Err(problem) => problems.push(problem),
            },
        }
    }
    pieces.push(Piece::Text(fixed));
    if problems.is_empty() {
        Ok(SecretSource::new(pieces))
    } else {
        Err(problems)
    }
}

/// What a string is made of.
enum Part<'a> {
    Text(&'a str),
    /// `at` is where its `$` stands.
    Placeholder {
        name: &'a str,
        at: usize,
    },
    /// `${` that is never closed.
    Open,
}

fn parts(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
        if rest.starts_with("$${") {
            at += 3;
            return rest.get(1..3).map(Part::Text);
        }
        let Some(inside) = rest.strip_prefix("${") else {
            let end = next_dollar(rest);
            at += end;
            return rest.get(..end).map(Part::Text);
        };
        let Some((name, _)) = inside.split_once('}') else {
            at = text.len();
            return Some(Part::Open);
        };
        let start = at;
        at += name.len() + 3;
        Some(Part::Placeholder { name, at: start })
    })
}

/// The length of the text before the next thing that may be a placeholder; a dollar sign at the very start is text.
fn next_dollar(rest: &str) -> usize {
    let mut letters = rest.char_indices();
    letters.next();
    letters
        .find(|(_, letter)| *letter == '$')
        .map_or(rest.len(), |(index, _)| index)
}

/// The same length with every placeholder made of letters, so that no `/` or `@` in it counts as one of the URL.
fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    for part in parts(text) {
        match part {
            Part::Text("${") => masked.push_str("xxx"),
            Part::Text(text) => masked.push_str(text),
            Part::Placeholder { name, .. } => masked.extend(std::iter::repeat_n('x', name.len() + 3)),
            Part::Open => {}
        }
    }
    masked
}

fn variable<'a>(name: &str, environment: &'a Environment) -> Result<&'a str, String> {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(letters) || name.starts_with(|first: char| first.is_ascii_digit())
    {
        return Err(
            "has a ${…} that is neither ${NAME} nor ${file:PATH} (write ${ itself as $${)".to_owned(),
        );
    }
    match environment.variable(name) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(format!("names the environment variable {name}, which is not set")),
        Err(NotText) => Err(format!(
            "names the environment variable {name}, which is not UTF-8 text"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::expand;
    use crate::config::{Environment, Files};
    use crate::net::{ClientTlsSettings, ServerTlsSettings};

    struct Echo;

    impl Files for Echo {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            Ok(format!("<{}>\n\n", path.display()).into_bytes())
        }

        fn client_tls_problem(&self, _: &ClientTlsSettings) -> Option<String> {
            None
        }

        fn server_tls_problem(&self, _: &ServerTlsSettings) -> Option<String> {
            None
        }
    }

    fn expanded(text: &str) -> Result<String, Vec<String>> {
        let environment: Environment = [("USER", "app"), ("PASS", "p@ss/w:rd%")].into_iter().collect();
        expand(text, &environment, Path::new("/etc")).map(|source| source.text(&Echo).unwrap())
    }

    #[test]
    fn variables_files_and_escapes_are_filled_in() {
        for (text, meant) in [
            ("", ""),
            ("plain $1 $$ $", "plain $1 $$ $"),
            ("${USER}", "app"),
            ("a${USER}${USER}b", "aappappb"),
            ("$${USER}", "${USER}"),
            ("$$${USER}", "$${USER}"),
            ("é${USER}é", "éappé"),
            // One newline goes, another stays; a relative path starts in the directory.
            ("${file:pw}", "</etc/pw>\n"),
            ("${file:/run/pw}x", "</run/pw>\nx"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(meant), "{text}");
        }
    }

    #[test]
    fn any_character_may_stand_in_the_password_of_a_url() {
        assert_eq!(
            expanded("postgresql://${USER}:${PASS}@${USER}/${PASS}").as_deref(),
            Ok("postgresql://app:p%40ss%2Fw%3Ard%25@app/p@ss/w:rd%")
        );
        assert_eq!(
            expanded("postgresql://a:${file:/x}@h").as_deref(),
            Ok("postgresql://a:%3C%2Fx%3E%0A@h")
        );
    }

    #[test]
    fn everything_that_is_wrong_is_told() {
        let problems = expanded("${NOPE} ${} ${file:} ${1X} ${a b} ${open").unwrap_err();
        assert_eq!(problems.len(), 6);
        assert_eq!(
            problems[0],
            "names the environment variable NOPE, which is not set"
        );
        assert_eq!(problems[5], "has a ${ without a } (write ${ itself as $${)");
    }
}
