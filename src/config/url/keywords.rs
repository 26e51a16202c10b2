//! `name=value name='quoted value' …`, libpq's other form.

use std::iter::Peekable;
use std::str::Chars;

use crate::config::url::error::UrlError;

/// The string in pieces.
pub(super) fn pairs(text: &str) -> Result<Vec<(String, String)>, UrlError> {
    let mut pairs = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        skip_spaces(&mut rest);
        if rest.peek().is_none() {
            return Ok(pairs);
        }
        let name = name(&mut rest)?;
        skip_spaces(&mut rest);
        let value = if rest.next_if_eq(&'\'').is_some() {
            quoted(&mut rest)?
        } else {
            bare(&mut rest)
        };
        pairs.push((name, value));
    }
}

/// Spaces may stand on both sides of the equals sign.
fn name(rest: &mut Peekable<Chars<'_>>) -> Result<String, UrlError> {
    let mut name = String::new();
    while let Some(letter) = rest.next_if(|letter| *letter != '=' && !letter.is_ascii_whitespace()) {
        name.push(letter);
    }
    skip_spaces(rest);
    match rest.next() {
        Some('=') if !name.is_empty() => Ok(name),
        _ => Err(UrlError::Equals),
    }
}

fn bare(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut value = String::new();
    while let Some(letter) = rest.next_if(|letter| !letter.is_ascii_whitespace()) {
        // A backslash at the very end stands for nothing.
        let letter = if letter == '\\' { rest.next() } else { Some(letter) };
        value.extend(letter);
    }
    value
}

fn quoted(rest: &mut Peekable<Chars<'_>>) -> Result<String, UrlError> {
    let mut value = String::new();
    loop {
        match rest.next() {
            Some('\'') => return Ok(value),
            Some('\\') => value.push(rest.next().ok_or(UrlError::Quote)?),
            Some(letter) => value.push(letter),
            None => return Err(UrlError::Quote),
        }
    }
}

fn skip_spaces(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(char::is_ascii_whitespace).is_some() {}
}
