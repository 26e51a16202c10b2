//! Reading one value at a time, and keeping what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::config::secret::SecretSource;
use crate::config::{Position, Problem, Sources, expand, suggest, units};

/// Reads values, notes problems, and remembers where each setting stood.
pub(super) struct Reader<'a> {
    pub sources: Sources<'a>,
    /// Where relative paths start.
    pub directory: PathBuf,
    problems: Vec<(Place, String)>,
    places: BTreeMap<String, Place>,
    failed: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(sources: Sources<'a>, directory: &Path) -> Self {
        Self {
            sources,
            directory: directory.to_owned(),
            problems: Vec::new(),
            places: BTreeMap::new(),
            failed: BTreeSet::new(),
        }
    }

    /// What was found, by place.
    pub(super) fn into_problems(self) -> Vec<(Place, String)> {
        self.problems
    }

    /// Notes a problem of this setting: its value is of no use.
    pub(super) fn problem(&mut self, written: &Written<'_>, message: impl AsRef<str>) {
        self.failed.insert(written.path.clone());
        self.problems.push((
            written.place.clone(),
            format!("\"{}\" {}", written.name, message.as_ref()),
        ));
    }

    /// The setting's value is of no use, and its problems are told elsewhere.
    pub(super) fn fail(&mut self, written: &Written<'_>) {
        self.failed.insert(written.path.clone());
    }

    /// Notes a problem at a place, in words that need no name in front.
    pub(super) fn problem_at(&mut self, place: Place, message: String) {
        self.problems.push((place, message));
    }

    /// Notes that settings exclude each other, at the last of them that is written. Says nothing where one of them could not
    /// be read: then that is the problem.
    pub(super) fn contradiction(&mut self, paths: &[&str], message: String) {
        if paths.iter().any(|path| self.failed.contains(*path)) {
            return;
        }
        let place = paths
            .iter()
            .filter_map(|path| self.places.get(*path))
            .max()
            .cloned();
        self.problems.push((place.unwrap_or(Place::START), message));
    }

    /// Where the setting stands, if it is written anywhere.
    pub(super) fn place(&self, path: &str) -> Option<&Place> {
        self.places.get(path)
    }

    pub(super) fn has_failed(&self, path: &str) -> bool {
        self.failed.contains(path)
    }

    /// Whether any setting is written whose path starts so.
    pub(super) fn has_place_under(&self, prefix: &str) -> bool {
        self.places
            .range(prefix.to_owned()..)
            .next()
            .is_some_and(|(path, _)| path.starts_with(prefix))
    }

    /// Whether any setting could not be read whose path starts so.
    pub(super) fn has_failed_under(&self, prefix: &str) -> bool {
        self.failed
            .range(prefix.to_owned()..)
            .next()
            .is_some_and(|path| path.starts_with(prefix))
    }

    /// Remembers where a setting stands, for later problems.
    pub(super) fn remember(&mut self, written: &Written<'_>) {
        self.places.insert(written.path.clone(), written.place.clone());
    }

    /// Notes a key that is none, with the name that was probably meant.
    pub(super) fn unknown(&mut self, written: &Written<'_>, known: &[&str]) {
        let name = written.name;
        let message = super::settings::not_here(name).unwrap_or_else(|| {
            match suggest::nearest(name, known.iter().copied()) {
                Some(nearest) => format!("unknown key \"{name}\": did you mean \"{nearest}\"?"),
                None => format!("unknown key \"{name}\": known here are {}", known.join(", ")),
            }
        });
        self.problems.push((written.key_place.clone(), message));
    }

    pub(super) fn text(&mut self, written: &Written<'_>) -> Option<String> {
        let source = self.source(written)?;
        match source.text(self.sources.files) {
            Ok(text) if text.contains('\0') => {
                self.problem(written, "must not contain a zero byte");
                None
            }
            Ok(text) => Some(text),
            Err(error) => {
                self.problem(written, format!("names a file: {error}"));
                None
            }
        }
    }

    /// A string that may not be empty.
    pub(super) fn name(&mut self, written: &Written<'_>) -> Option<String> {
        let text = self.text(written)?;
        if text.is_empty() {
            self.problem(written, "must not be empty");
            return None;
        }
        Some(text)
    }

    /// A string that can be read again.
    pub(super) fn source(&mut self, written: &Written<'_>) -> Option<SecretSource> {
        let text = match &written.value {
            Raw::Text(text) => return Some(SecretSource::fixed(text)),
            Raw::Toml(DeValue::String(text)) => text,
            Raw::Toml(other) => {
                self.problem(
                    written,
                    format!("must be a string in quotes, not {}", kind(other)),
                );
                return None;
            }
        };
        match expand::expand(text, self.sources.environment, &self.directory) {
            Ok(source) => Some(source),
            Err(problems) => {
                for problem in problems {
                    self.problem(written, problem);
                }
                None
            }
        }
    }

    /// A list of strings; from the environment, one with commas.
    pub(super) fn names(&mut self, written: &Written<'_>) -> Option<Vec<String>> {
        match &written.value {
            Raw::Text(text) => Some(
                text.split(',')
                    .map(str::trim)
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned)
                    .collect(),
            ),
            Raw::Toml(DeValue::Array(array)) => {
                let items: Vec<_> = array.iter().map(|item| written.item(item)).collect();
                let names: Vec<_> = items.iter().map(|item| self.name(item)).collect();
                names.into_iter().collect()
            }
            Raw::Toml(other) => {
                self.problem(
                    written,
                    format!("must be a list as in [\"a\", \"b\"], not {}", kind(other)),
                );
                None
            }
        }
    }

    pub(super) fn count(&mut self, written: &Written<'_>, limits: RangeInclusive<u32>) -> Option<u32> {
        let number = match &written.value {
            Raw::Text(text) => text.trim().parse::<i64>().ok(),
            Raw::Toml(DeValue::Integer(integer)) => {
                // What does not fit is far outside of every limit.
                Some(i64::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i64::MAX))
            }
            Raw::Toml(other) => {
                self.problem(written, format!("must be a whole number, not {}", kind(other)));
                return None;
            }
        };
        let Some(number) = number else {
            self.problem(written, "must be a whole number");
            return None;
        };
        let number = u32::try_from(number)
            .ok()
            .filter(|number| limits.contains(number));
        if number.is_none() {
            self.problem(
                written,
                format!("must be between {} and {}", limits.start(), limits.end()),
            );
        }
        number
    }

    pub(super) fn duration(&mut self, written: &Written<'_>) -> Option<Duration> {
        if let Raw::Toml(DeValue::Integer(number)) = &written.value {
            let number = number.as_str();
            let advice = if number == "0" {
                "\"0\"".to_owned()
            } else {
                format!("\"{number}s\" or \"{number}ms\"")
            };
            self.problem(
                written,
                format!("is a duration, a string with a unit: write {advice}"),
            );
            return None;
        }
        let text = self.text(written)?;
        units::duration(&text)
            .map_err(|message| self.problem(written, message))
            .ok()
    }

    pub(super) fn size(&mut self, written: &Written<'_>) -> Option<u64> {
        if let Raw::Toml(DeValue::Integer(number)) = &written.value {
            let number = number.as_str();
            let advice = if number == "0" {
                "\"0\"".to_owned()
            } else {
                format!("\"{number}MB\" or \"{number}B\"")
            };
            self.problem(
                written,
                format!("is a size, a string with a unit: write {advice}"),
            );
            return None;
        }
        let text = self.text(written)?;
        units::size(&text)
            .map_err(|message| self.problem(written, message))
            .ok()
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, written: &Written<'_>, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(written)?;
        let found = words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, meaning)| *meaning);
        if found.is_none() {
            let words = units::alternatives(words.iter().map(|(word, _)| *word));
            self.problem(written, format!("must be {words}"));
        }
        found
    }

    pub(super) fn path(&mut self, written: &Written<'_>) -> Option<PathBuf> {
        let path = self.name(written)?;
        Some(self.directory.join(path))
    }

    /// A table, as `[section]` or in braces.
    pub(super) fn table<'b>(&mut self, written: &Written<'b>) -> Option<&'b DeTable<'b>> {
        match written.value {
            Raw::Toml(DeValue::Table(table)) => Some(table),
            Raw::Toml(other) => {
                let message = format!("is a section: write [{}], not {}", written.path, kind(other));
                self.problem(written, message);
                None
            }
            Raw::Text(_) => None,
        }
    }
}

/// One value, and where it was found.
#[derive(Clone)]
pub(super) struct Written<'a> {
    pub name: &'a str,
    /// With the names of the sections around it.
    pub path: String,
    pub key_place: Place,
    pub place: Place,
    pub value: Raw<'a>,
}

impl<'a> Written<'a> {
    /// A value from outside of the file.
    pub(super) fn outside(name: &'a str, text: &'a str, origin: &str) -> Self {
        let place = Place::Outside(origin.to_owned());
        Self {
            name,
            path: name.to_owned(),
            key_place: place.clone(),
            place,
            value: Raw::Text(text),
        }
    }

    pub(super) fn item(&self, item: &'a toml::Spanned<DeValue<'a>>) -> Self {
        let place = Place::File(item.span().start);
        Self {
            place,
            value: Raw::Toml(item.get_ref()),
            ..self.clone()
        }
    }
}

/// The entries of a table, under the path of its section.
pub(super) fn entries<'a>(table: &'a DeTable<'a>, section: &str) -> impl Iterator<Item = Written<'a>> {
    let prefix = if section.is_empty() {
        String::new()
    } else {
        format!("{section}.")
    };
    table.iter().map(move |(key, value)| Written {
        name: key.get_ref(),
        path: format!("{prefix}{}", key.get_ref()),
        key_place: Place::File(key.span().start),
        place: Place::File(value.span().start),
        value: Raw::Toml(value.get_ref()),
    })
}

/// A value as it was found.
#[derive(Clone, Copy)]
pub(super) enum Raw<'a> {
    Toml(&'a DeValue<'a>),
    /// From a variable or a flag: always text.
    Text(&'a str),
}

/// Where something is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A flag or an environment variable.
    Outside(String),
    /// A byte of the file.
    File(usize),
    /// Another file that is named in it.
    Named(String, Position),
}

impl Place {
    /// Where problems stand that are about what is not there.
    pub(super) const START: Self = Self::File(0);
}

/// A problem with its place in words.
pub(super) fn located(source: &str, text: &str, place: Place, message: &str) -> Problem {
    match place {
        Place::Outside(source) => Problem::new(&source, None, message),
        Place::Named(file, position) => Problem::new(&file, Some(position), message),
        Place::File(offset) => Problem::new(source, Some(Position::of(text, offset)), message),
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number without quotes",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}
