//! Where secrets come from, without ever showing them.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::auth::Secret;
use crate::config::files::Files;
use crate::config::url::UrlError;

/// A secret as it was written: parts that are fixed, and files that may have other content the next time.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretSource {
    pieces: Vec<Piece>,
}

impl SecretSource {
    pub(super) fn new(mut pieces: Vec<Piece>) -> Self {
        pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
        Self { pieces }
    }

    /// One that names no file.
    #[must_use]
    pub fn fixed(text: &str) -> Self {
        Self::new(vec![Piece::Text(text.to_owned())])
    }

    /// Whether reading it again can give nothing new.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.pieces.iter().all(|piece| matches!(piece, Piece::Text(_)))
    }

    /// The secret as it stands now.
    pub fn read(&self, files: &dyn Files) -> Result<Secret, SecretError> {
        self.text(files).map(Secret::from)
    }

    /// The same, for what is not secret or is taken apart at once.
    pub(super) fn text(&self, files: &dyn Files) -> Result<String, SecretError> {
        let mut whole = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => whole.push_str(text),
                Piece::File { path, encoding } => encoding.push(&mut whole, &file_text(path, files)?),
            }
        }
        Ok(whole)
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_tuple("SecretSource");
        for piece in &self.pieces {
            match piece {
                Piece::Text(_) => shown.field(&".."),
                Piece::File { path, .. } => shown.field(path),
            };
        }
        shown.finish()
    }
}

/// A part of a secret. It has no `Debug`, so that none can be derived for what holds it.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    File { path: PathBuf, encoding: Encoding },
}

/// How a value goes into the text around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As it is.
    Plain,
    /// Percent-encoded.
    Url,
}

impl Encoding {
    pub(super) fn push(self, whole: &mut String, value: &str) {
        match self {
            Self::Plain => whole.push_str(value),
            Self::Url => {
                whole.extend(percent_encoding::utf8_percent_encode(
                    value,
                    percent_encoding::NON_ALPHANUMERIC,
                ));
            }
        }
    }
}

/// Why a secret could not be read. No variant holds any of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretError {
    /// The file cannot be opened or read.
    File { path: PathBuf, cause: String },
    /// The file's content is not text.
    NotText { path: PathBuf },
    /// What came out is not a URL.
    Url(UrlError),
}

impl fmt::Display for SecretError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, cause } => write!(formatter, "cannot read \"{}\": {cause}", path.display()),
            Self::NotText { path } => write!(formatter, "\"{}\" is not UTF-8 text", path.display()),
            Self::Url(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for SecretError {}

/// A file's content without the one newline that editors and `echo` leave at its end.
fn file_text(path: &Path, files: &dyn Files) -> Result<String, SecretError> {
    let bytes = files.read(path).map_err(|error| SecretError::File {
        path: path.to_owned(),
        cause: error.to_string(),
    })?;
    let mut text = String::from_utf8(bytes).map_err(|_| SecretError::NotText {
        path: path.to_owned(),
    })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
