//! Moments as the console shows them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment of the process's clock as date and time, in UTC: `2026-01-31 23:59:59 UTC`. `started` is the clock's zero.
#[must_use]
pub(super) fn show(started: SystemTime, micros: u64) -> String {
    let since = started.duration_since(UNIX_EPOCH).unwrap_or_default() + Duration::from_micros(micros);
    let seconds = since.as_secs();
    let (year, month, day) = date(seconds / DAY);
    let (hour, minute, second) = (seconds % DAY / 3600, seconds % 3600 / 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// The date so many days after 1 January 1970. Counted in years that begin in March, so that the leap day is a year's last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_BEFORE_1970;
    let (era, day) = (days / ERA, days % ERA);
    let century = (day / CENTURY).min(3);
    let day = day - century * CENTURY;
    let (leap, day) = (day / LEAP_CYCLE, day % LEAP_CYCLE);
    let year = (day / 365).min(3);
    let day = day - year * 365;
    // Months of 31, 30, 31, 30, 31 days repeat: 153 days for five.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let is_after_december = month >= 10;
    let year = era * 400 + century * 100 + leap * 4 + year + u64::from(is_after_december);
    let month = if is_after_december { month - 9 } else { month + 3 };
    (year, month, day)
}

const DAY: u64 = 86_400;
/// From 1 March of the year 0.
const DAYS_BEFORE_1970: u64 = 719_468;
const ERA: u64 = 146_097;
const CENTURY: u64 = 36_524;
const LEAP_CYCLE: u64 = 1_461;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds| show(UNIX_EPOCH + Duration::from_secs(seconds), 0);
        assert_eq!(at(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(at(951_782_399), "2000-02-28 23:59:59 UTC");
        assert_eq!(at(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(at(951_868_800), "2000-03-01 00:00:00 UTC");
        assert_eq!(at(1_735_689_599), "2024-12-31 23:59:59 UTC");
        assert_eq!(at(4_107_542_400), "2100-03-01 00:00:00 UTC");
        let started = UNIX_EPOCH + Duration::from_secs(1_735_689_599);
        assert_eq!(show(started, 1_500_000), "2025-01-01 00:00:00 UTC");
    }
}
