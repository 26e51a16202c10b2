//! What a text comes to hangs on when and how its literals are read: PostgreSQL does so when it prepares it.

/// What else than its words a text hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Nothing.
    Fixed,
    /// The settings by which literals are read.
    Settings,
    /// Those, and the time: `'now'`, `'today'`.
    Moment,
}

impl Reading {
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        let is_dollar = |pair: &[u8]| matches!(pair, [b'$', byte] if !byte.is_ascii_digit());
        let has_strings = memchr::memchr(b'\'', text).is_some() || text.windows(2).any(is_dollar);
        if is_command(text) {
            return Self::Fixed;
        }
        if has_strings && names_moment(text) {
            return Self::Moment;
        }
        // `client_encoding` is about all that is not ASCII, `transform_null_equals` about `= NULL`.
        if has_strings || !text.is_ascii() || text.windows(4).any(|word| word.eq_ignore_ascii_case(b"null")) {
            Self::Settings
        } else {
            Self::Fixed
        }
    }
}

/// Commands whose words are read when they are carried out.
fn is_command(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let word = text.split(|byte| !byte.is_ascii_alphabetic()).next();
    word.is_some_and(|word| COMMANDS.iter().any(|known| word.eq_ignore_ascii_case(known)))
}

/// Whether a literal names a time that is another one each time it is read. What cannot be told apart counts as one.
fn names_moment(text: &[u8]) -> bool {
    MOMENTS.iter().any(|word| {
        let is_word = |at: usize| {
            let found = text.get(at..at + word.len());
            found.is_some_and(|found| found.eq_ignore_ascii_case(word))
        };
        let first = word.first().copied().unwrap_or_default();
        memchr::memchr2_iter(first, first.to_ascii_uppercase(), text)
            .filter(|at| is_word(*at))
            .any(|at| {
                let (before, behind) = text.split_at_checked(at).unwrap_or_default();
                is_in_literal(before, behind.get(word.len()..).unwrap_or_default())
            })
    })
}

/// Whether a word between these may be part of a literal.
fn is_in_literal(before: &[u8], behind: &[u8]) -> bool {
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if before.last().is_some_and(is_inner) || behind.first().is_some_and(is_inner) {
        return false;
    }
    let quotes = memchr::memchr_iter(b'\'', before).count();
    if quotes % 2 == 1 {
        return true;
    }
    // A comment, a name in quotes, a backslash or a string between tags may have made the count wrong.
    let is_doubtful = |pair: &[u8]| matches!(pair, b"--" | b"/*" | [b'"' | b'\\' | b'$', _]);
    let is_call = behind.trim_ascii_start().first() == Some(&b'(');
    !is_call && before.windows(2).any(is_doubtful)
}

const MOMENTS: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];
const COMMANDS: [&[u8]; 10] = [
    b"abort",
    b"begin",
    b"commit",
    b"end",
    b"reset",
    b"rollback",
    b"savepoint",
    b"set",
    b"show",
    b"start",
];

#[cfg(test)]
mod tests {
    use super::Reading;

    #[test]
    fn a_text_hangs_on_settings_if_it_has_literals_and_on_the_time_if_one_names_it() {
        for (text, reading) in [
            ("select 1, $1", Reading::Fixed),
            ("SET TimeZone = 'now'", Reading::Fixed),
            ("rollback", Reading::Fixed),
            ("select a = null", Reading::Settings),
            ("select ü", Reading::Settings),
            ("select $$1$$", Reading::Settings),
            ("select '1', now()", Reading::Settings),
            ("select 'known', 'now_and_then'", Reading::Settings),
            ("select today from t where a = 'b'", Reading::Settings),
            ("select 'now'::timestamp", Reading::Moment),
            ("select date ' Today '", Reading::Moment),
            ("select 'it''s', '12:00 TOMORROW'", Reading::Moment),
            ("select $$yesterday$$::date", Reading::Moment),
            ("-- don't\nselect date 'today'", Reading::Moment),
            ("/* a='b' */ select now()", Reading::Settings),
        ] {
            assert_eq!(Reading::of(text.as_bytes()), reading, "{text}");
        }
    }
}
