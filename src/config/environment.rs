//! The environment variables of the process, read once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

/// A copy of the environment, made at start.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// `Ok(None)` where it is unset.
    pub(super) fn variable(&self, name: &str) -> Result<Option<&str>, NotText> {
        let Some(value) = self.variables.get(std::ffi::OsStr::new(name)) else {
            return Ok(None);
        };
        value.to_str().map(Some).ok_or(NotText)
    }

    /// The URL that serves where `--url` is not given.
    #[must_use]
    pub fn database_url(&self) -> Option<&str> {
        self.variable("DATABASE_URL")
            .ok()
            .flatten()
            .filter(|url| !url.is_empty())
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self {
            variables: variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        }
    }
}

/// Names only: values are often secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.variables.keys()).finish()
    }
}

/// The value is not UTF-8.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotText;
