//! Durations and sizes as text.

use std::time::Duration;

/// Reads "250ms", "5s", "10min", "1h", "1d" and "0". The error says what is wrong, without the name of the setting.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let milliseconds = quantity(text, &TIME_UNITS, "must be a number with a unit, as in \"5s\"")?;
    if milliseconds > DURATION_MILLISECONDS_MAX {
        return Err(format!(
            "must be at most \"{}d\"",
            DURATION_MILLISECONDS_MAX / DAY
        ));
    }
    Ok(Duration::from_millis(milliseconds))
}

/// Reads "64MB" and its kin, in bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    quantity(text, &SIZE_UNITS, "must be a number with a unit, as in \"64MB\"")
}

/// In the largest unit that shows it exactly.
pub(super) fn show_duration(duration: Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    show(milliseconds, &TIME_UNITS)
}

/// In the largest unit that shows it exactly.
pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, &SIZE_UNITS)
}

/// `"a", "b" or "c"`.
pub(super) fn alternatives<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

fn quantity(text: &str, units: &[(&str, u64)], what: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let end = trimmed
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(trimmed.len());
    let (digits, unit) = trimmed.split_at(end);
    if digits.is_empty() {
        return Err(what.to_owned());
    }
    let number: u64 = digits.parse().map_err(|_| "is too large".to_owned())?;
    let unit = unit.trim_start();
    if number == 0 && unit.is_empty() {
        return Ok(0);
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        let names = alternatives(units.iter().map(|(name, _)| *name));
        return Err(format!("{what}; the units are {names}"));
    };
    number
        .checked_mul(*factor)
        .ok_or_else(|| "is too large".to_owned())
}

fn show(amount: u64, units: &[(&str, u64)]) -> String {
    if amount == 0 {
        return "0".to_owned();
    }
    let unit = units
        .iter()
        .rev()
        .find(|(_, factor)| amount.is_multiple_of(*factor));
    unit.map_or_else(
        || amount.to_string(),
        |(name, factor)| format!("{}{name}", amount / factor),
    )
}

/// PostgreSQL's names, smallest first, in milliseconds.
const TIME_UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("d", DAY),
];

const DAY: u64 = 86_400_000;

/// PostgreSQL's names, smallest first, in bytes; a step is 1024, as there.
const SIZE_UNITS: [(&str, u64); 5] = [
    ("B", 1),
    ("kB", 1 << 10),
    ("MB", 1 << 20),
    ("GB", 1 << 30),
    ("TB", 1 << 40),
];

/// PostgreSQL's own limit for a time is 2^31 milliseconds; every timer and socket option takes that much too.
const DURATION_MILLISECONDS_MAX: u64 = 24 * DAY;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown_in_the_same_words() {
        for (text, milliseconds) in [
            ("0", 0),
            ("250ms", 250),
            ("5s", 5000),
            ("90s", 90_000),
            ("10min", 600_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
            assert_eq!(show_duration(Duration::from_millis(milliseconds)), text);
        }
        assert_eq!(duration(" 5 s "), Ok(Duration::from_secs(5)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for text in [
            "",
            "5",
            "s",
            "-5s",
            "1.5s",
            "5 S",
            "5m",
            "5s5",
            "99999999999999999999s",
            "25d",
            "600h\u{0}",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_and_shown_in_the_same_words() {
        for (text, bytes) in [
            ("0", 0),
            ("1B", 1),
            ("64MB", 64 << 20),
            ("1537kB", 1537 << 10),
            ("2TB", 2 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
            assert_eq!(show_size(bytes), text);
        }
        for text in ["64", "64M", "64mb", "18446744073709551616B", "20000000TB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
