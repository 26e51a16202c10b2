//! What the rules look at: files, cut into code, text and tests.

use std::fmt;
use std::fs;
use std::path::Path;

pub(super) struct File {
    /// From the root of the repository.
    pub(super) path: String,
    pub(super) text: String,
}

impl File {
    pub(super) fn complain(&self, line: usize, what: String) -> Complaint {
        Complaint {
            path: self.path.clone(),
            line,
            what,
        }
    }

    /// The module of the crate that the file belongs to.
    pub(super) fn module(&self) -> Option<&str> {
        self.path
            .strip_prefix("src/")?
            .split_once('/')
            .map(|(name, _)| name)
    }

    /// A file that is compiled for tests alone.
    pub(super) fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.ends_with("_tests.rs") || self.path.contains("/tests/")
    }

    pub(super) fn line(&self, number: usize) -> &str {
        self.text.lines().nth(number - 1).unwrap_or_default()
    }

    /// The module that a path of `super`s arrives at when it leaves the file's own module of the crate.
    pub(super) fn climbs_to_the_root<'a>(&self, path: &'a str, is_inner: bool) -> Option<&'a str> {
        let depth = self.path.matches('/').count() - usize::from(self.path.ends_with("/mod.rs"))
            + usize::from(is_inner);
        let steps = path.split("::").take_while(|part| *part == "super").count();
        if steps < depth || steps == 0 {
            None
        } else {
            path.split("::").nth(steps)
        }
    }
}

/// A source cut into what is code, text and test.
pub(super) struct Code {
    /// The lines with comments and the contents of strings blanked.
    pub(super) lines: Vec<String>,
    /// String literals with their lines.
    pub(super) strings: Vec<(usize, String)>,
    /// Every path that is named, `use` groups written out, with its line.
    pub(super) paths: Vec<(usize, String)>,
    /// The first line of the test module at the end; the number after the last line when there is none.
    pub(super) tests_from: usize,
}

impl Code {
    pub(super) fn of(text: &str) -> Self {
        let (blanked, strings) = blank(text);
        let lines: Vec<String> = blanked.lines().map(ToOwned::to_owned).collect();
        let inline = lines.windows(2).position(|pair| {
            pair[0].trim() == "#[cfg(test)]"
                && pair[1].trim_start().starts_with("mod ")
                && pair[1].ends_with('{')
        });
        let tests_from = inline.map_or(lines.len() + 1, |index| index + 1);
        Self {
            paths: paths(&blanked),
            lines,
            strings,
            tests_from,
        }
    }

    pub(super) fn is_test(&self, number: usize) -> bool {
        number >= self.tests_from
    }

    pub(super) fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines
            .iter()
            .enumerate()
            .map(|(index, line)| (index + 1, line.as_str()))
            .filter(|(n, _)| !self.is_test(*n))
    }

    /// Where these words stand outside tests, whether written out or out of a `use` group.
    pub(super) fn words_found<'a>(&'a self, words: &'a [&'a str]) -> impl Iterator<Item = (usize, &'a str)> {
        words.iter().filter_map(|word| {
            let in_path = self
                .paths
                .iter()
                .find(|(number, path)| has_word(path, word) && !self.is_test(*number));
            let in_line = self
                .product_lines()
                .find(|(_, line)| has_word(line, word))
                .map(|(number, _)| number);
            in_path
                .map(|(number, _)| *number)
                .or(in_line)
                .map(|number| (number, *word))
        })
    }
}

pub(super) struct Complaint {
    pub(super) path: String,
    pub(super) line: usize,
    pub(super) what: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

pub(super) fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

pub(super) fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(start, _)| {
        !text[..start].ends_with(is_part) && !text[start + word.len()..].starts_with(is_part)
    })
}

/// Replaces comments and the contents of strings by spaces, and returns those strings.
pub(super) fn blank(text: &str) -> (String, Vec<(usize, String)>) {
    let mut out = String::with_capacity(text.len());
    let mut strings = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let token = token_length(rest, out.ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        let (token_text, next) = rest.split_at(token.unwrap_or_else(|| first.len_utf8()));
        if token.is_none() || token_text.starts_with('\'') {
            out.push_str(token_text);
        } else {
            let body = token_text
                .split_once('"')
                .and_then(|(_, body)| body.rsplit_once('"'));
            if let Some((body, _)) = body.filter(|_| !token_text.starts_with('/')) {
                strings.push((out.matches('\n').count() + 1, body.to_owned()));
            }
            out.extend(token_text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = next;
    }
    (out, strings)
}

/// The length of the comment, string or character that starts here.
fn token_length(rest: &str, follows_word: bool) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    if rest.starts_with('"') {
        let mut escaped = false;
        let end = rest.char_indices().skip(1).find(|(_, c)| {
            let is_end = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            is_end
        });
        return Some(end.map_or(rest.len(), |(index, _)| index + 1));
    }
    if rest.starts_with("r\"") || rest.starts_with("r#") && !follows_word {
        let hashes = rest[1..].bytes().take_while(|b| *b == b'#').count();
        let body = rest.get(1 + hashes..).filter(|body| body.starts_with('"'))?;
        let close = format!("\"{}", "#".repeat(hashes));
        return Some(
            body[1..]
                .find(&close)
                .map_or(rest.len(), |end| 1 + hashes + 1 + end + close.len()),
        );
    }
    if let Some(inner) = rest.strip_prefix('\'') {
        // A character, not a lifetime.
        let inner = inner.chars().next()?;
        let end = if inner == '\\' {
            rest[3..].find('\'').map(|end| 3 + end)
        } else {
            Some(1 + inner.len_utf8())
        };
        return end
            .filter(|end| rest[*end..].starts_with('\''))
            .map(|end| end + 1);
    }
    None
}

/// Paths with at least one `::`; those of a group each in full.
fn paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut prefixes: Vec<String> = Vec::new();
    let mut current = String::new();
    let mut number = 1;
    for c in code.chars() {
        match c {
            c if c.is_alphanumeric() || c == '_' || c == ':' => current.push(c),
            '{' if current.ends_with("::") || !prefixes.is_empty() => {
                prefixes.push(prefixes.last().cloned().unwrap_or_default() + &std::mem::take(&mut current));
            }
            _ => {
                let path = prefixes.last().cloned().unwrap_or_default() + current.as_str();
                if path.contains("::") && !current.is_empty() {
                    found.push((number, path));
                }
                // Spaces inside a group are between its names; the path goes on behind a comma.
                current.clear();
                if c == '}' {
                    prefixes.pop();
                } else if c == '\n' {
                    number += 1;
                }
            }
        }
    }
    found
}

pub(super) fn repository() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(root, root, &mut files);
    files
}

fn collect(root: &Path, directory: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if ["target", ".git", "Cargo.lock", "artifacts", "corpus"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            files.push(File { path, text });
        }
    }
}
