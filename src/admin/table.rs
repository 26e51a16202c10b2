//! Columns and values of the console's answers, and how they stand on the wire.

use crate::protocol::tag;
use crate::protocol::write::{self, Frame};

/// A column of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub kind: Type,
}

/// The types that answers are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Text,
    Int4,
    Numeric,
}

impl Type {
    /// As `pg_type` has them.
    #[must_use]
    pub fn oid(self) -> u32 {
        match self {
            Self::Text => 25,
            Self::Int4 => 23,
            Self::Numeric => 1700,
        }
    }

    fn len(self) -> i16 {
        match self {
            Self::Int4 => 4,
            Self::Text | Self::Numeric => -1,
        }
    }
}

/// One value. Which type it has, its column says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Null,
    Text(Box<str>),
    Number(u64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        text.map_or(Self::Null, Self::from)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for Value {
    fn from(is_so: bool) -> Self {
        Self::Number(is_so.into())
    }
}

/// As many values as the table has columns.
pub type Row = Vec<Value>;

/// How a value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Text,
    Binary,
}

impl Format {
    /// Reads a format code.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        match code {
            0 => Some(Self::Text),
            1 => Some(Self::Binary),
            _ => None,
        }
    }

    fn code(self) -> u16 {
        match self {
            Self::Text => 0,
            Self::Binary => 1,
        }
    }
}

/// The formats of a row's columns: none is text for all, one is that one for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formats(pub Vec<Format>);

impl Formats {
    fn of(&self, column: usize) -> Format {
        match &*self.0 {
            [all] => *all,
            each => each.get(column).copied().unwrap_or_default(),
        }
    }
}

/// Appends a `RowDescription`.
pub fn describe(columns: &[Column], formats: &Formats, out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag::ROW_DESCRIPTION);
    count(columns.len(), out);
    for (index, column) in columns.iter().enumerate() {
        write::cstr(out, column.name.as_bytes());
        // No column of a table.
        out.extend_from_slice(&0_u32.to_be_bytes());
        out.extend_from_slice(&0_u16.to_be_bytes());
        out.extend_from_slice(&column.kind.oid().to_be_bytes());
        out.extend_from_slice(&column.kind.len().to_be_bytes());
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        out.extend_from_slice(&formats.of(index).code().to_be_bytes());
    }
    frame.end(out);
}

/// Appends a `DataRow`.
pub fn data_row(columns: &[Column], row: &[Value], formats: &Formats, out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag::DATA_ROW);
    count(row.len(), out);
    for (index, (column, value)) in columns.iter().zip(row).enumerate() {
        let start = out.len();
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        if *value == Value::Null {
            continue;
        }
        encode(value, column.kind, formats.of(index), out);
        let len = u32::try_from(out.len() - start - 4).unwrap_or(0);
        if let Some(word) = out.get_mut(start..start + 4) {
            word.copy_from_slice(&len.to_be_bytes());
        }
    }
    frame.end(out);
}

fn encode(value: &Value, kind: Type, format: Format, out: &mut Vec<u8>) {
    match (value, kind, format) {
        (Value::Null, ..) => {}
        (Value::Text(text), ..) => out.extend_from_slice(text.as_bytes()),
        (Value::Number(number), Type::Int4, _) => {
            let number = i32::try_from(*number).unwrap_or(i32::MAX);
            match format {
                Format::Text => out.extend_from_slice(number.to_string().as_bytes()),
                Format::Binary => out.extend_from_slice(&number.to_be_bytes()),
            }
        }
        (Value::Number(number), Type::Numeric, Format::Binary) => numeric(*number, out),
        (Value::Number(number), Type::Numeric | Type::Text, _) => {
            out.extend_from_slice(number.to_string().as_bytes());
        }
    }
}

/// A whole number as `numeric_send` in PostgreSQL's `src/backend/utils/adt/numeric.c` writes it: digits of base 10000, the
/// weight of the first, sign and scale zero.
fn numeric(number: u64, out: &mut Vec<u8>) {
    let mut digits: Vec<u16> = Vec::new();
    let mut rest = number;
    while rest > 0 {
        digits.push(u16::try_from(rest % NUMERIC_BASE).unwrap_or(0));
        rest /= NUMERIC_BASE;
    }
    count(digits.len(), out);
    let weight = i16::try_from(digits.len()).unwrap_or(0) - i16::from(!digits.is_empty());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    for digit in digits.iter().rev() {
        out.extend_from_slice(&digit.to_be_bytes());
    }
}

fn count(count: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
}

const NUMERIC_BASE: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column {
            name: "name",
            kind: Type::Text,
        },
        Column {
            name: "count",
            kind: Type::Int4,
        },
        Column {
            name: "total",
            kind: Type::Numeric,
        },
    ];

    #[test]
    fn a_row_is_written_as_its_formats_say() {
        let row = [Value::from("a"), Value::Number(258), Value::Number(10_002)];
        let mut out = Vec::new();
        data_row(&COLUMNS, &row, &Formats::default(), &mut out);
        assert_eq!(&out[5..], b"\0\x03\0\0\0\x01a\0\0\0\x03258\0\0\0\x0510002");
        out.clear();
        data_row(&COLUMNS, &row, &Formats(vec![Format::Binary]), &mut out);
        let numeric = b"\0\x02\0\x01\0\0\0\0\0\x01\0\x02";
        let expected = [
            b"\0\x03\0\0\0\x01a\0\0\0\x04\0\0\x01\x02\0\0\0\x0c".as_slice(),
            numeric,
        ]
        .concat();
        assert_eq!(&out[5..], expected);
    }

    #[test]
    fn zero_has_no_digits_and_null_no_bytes() {
        let mut out = Vec::new();
        numeric(0, &mut out);
        assert_eq!(out, [0; 8]);
        out.clear();
        data_row(&COLUMNS[..1], &[Value::Null], &Formats::default(), &mut out);
        assert_eq!(&out[5..], b"\0\x01\xff\xff\xff\xff");
    }

    #[test]
    fn what_does_not_fit_into_four_bytes_is_cut_to_the_largest() {
        let mut out = Vec::new();
        encode(&Value::Number(u64::MAX), Type::Int4, Format::Text, &mut out);
        assert_eq!(out, b"2147483647");
    }
}
