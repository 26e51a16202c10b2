//! Positions in the write-ahead log.

use std::fmt;
use std::str::FromStr;

/// A position in the write-ahead log, as `pg_lsn`. Positions of different timelines are not comparable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The end of the last record before this position. Behind a record that ends with its page a primary gives the position
    /// behind the next page's head (`GetXLogInsertRecPtr`), and a standby that has replayed it that of the page: on an idle
    /// primary the two would differ for ever. The first page of a segment has a longer head.
    #[must_use]
    pub fn without_page_head(self, layout: Layout) -> Self {
        let behind = |len: u64| self.0.checked_rem(len);
        let is_in_first = behind(layout.segment).is_some_and(|offset| offset <= FIRST_HEAD_LEN);
        let (len, head) = if is_in_first {
            (layout.segment, FIRST_HEAD_LEN)
        } else {
            (layout.page, HEAD_LEN)
        };
        if behind(len) == Some(head) {
            Self(self.0 - head)
        } else {
            self
        }
    }
}

/// How a server lays out its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `wal_block_size`
    pub page: u64,
    /// `wal_segment_size`
    pub segment: u64,
}

/// `SizeOfXLogShortPHD` and `SizeOfXLogLongPHD` of `src/include/access/xlog_internal.h`.
const HEAD_LEN: u64 = 24;
const FIRST_HEAD_LEN: u64 = 40;

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
    fn the_head_of_a_page_is_not_part_of_what_was_written() {
        let layout = Layout {
            page: 8192,
            segment: 16 << 20,
        };
        for (given, ended) in [
            ("0/3000028", "0/3000000"),
            ("0/3002018", "0/3002000"),
            ("0/3002028", "0/3002028"),
            ("0/3000018", "0/3000018"),
            ("0/3000000", "0/3000000"),
            ("0/3002030", "0/3002030"),
        ] {
            let given: Lsn = given.parse().unwrap();
            assert_eq!(given.without_page_head(layout).to_string(), ended);
        }
        let unknown = Layout { page: 0, segment: 0 };
        assert_eq!(Lsn(24).without_page_head(unknown), Lsn(24));
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
