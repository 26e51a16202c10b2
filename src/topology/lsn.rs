//! Positions in the write-ahead log.

use std::fmt;
use std::str::FromStr;

/// A position in the write-ahead log, as `pg_lsn`. Positions of different timelines are not comparable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl Lsn {
    /// Where the last record ended, if this is where the next one begins: behind the header of a page of `page_len` bytes, if the
    /// last record has filled the page before. A standby that has replayed it is at the end of that page. (The first page of a
    /// segment has a longer header, which tells nothing without the length of segments.)
    #[must_use]
    pub fn before_page_header(self, page_len: u64) -> Self {
        match self.0.checked_rem(page_len) {
            Some(PAGE_HEADER_LEN) => Self(self.0 - PAGE_HEADER_LEN),
            Some(_) | None => self,
        }
    }
}

/// `SizeOfXLogShortPHD`
const PAGE_HEADER_LEN: u64 = 24;

/// Not two hexadecimal numbers of at most eight digits with a slash between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnLsn;

impl FromStr for Lsn {
    type Err = NotAnLsn;

    fn from_str(text: &str) -> Result<Self, NotAnLsn> {
        let (high, low) = text.split_once('/').ok_or(NotAnLsn)?;
        Ok(Self((half(high)? << 32) | half(low)?))
    }
}

fn half(text: &str) -> Result<u64, NotAnLsn> {
    let is_number = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_number {
        return Err(NotAnLsn);
    }
    u64::from_str_radix(text, 16).map_err(|_| NotAnLsn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_a_page_is_no_record() {
        for (insert, end) in [
            (0x2018, 0x2000),
            (0x2020, 0x2020),
            (0x2000, 0x2000),
            (0x3018, 0x3018),
        ] {
            assert_eq!(Lsn(insert).before_page_header(8192), Lsn(end));
        }
        assert_eq!(Lsn(24).before_page_header(0), Lsn(24));
    }

    #[test]
    fn it_is_read_and_written_as_postgresql_does() {
        for text in ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        assert_eq!("16/b374d848".parse::<Lsn>(), Ok(Lsn(0x16_b374_d848)));
        for text in [
            "",
            "/",
            "1",
            "1/",
            "/1",
            "1/2/3",
            "123456789/0",
            "+1/0",
            " 1/0",
            "g/0",
        ] {
            assert_eq!(text.parse::<Lsn>(), Err(NotAnLsn), "{text}");
        }
    }
}
