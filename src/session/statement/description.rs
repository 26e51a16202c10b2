//! What a client is told of a statement: the types of its parameters, and its rows.
//!
//! PostgreSQL refuses a statement whose rows have become others (`RevalidateCachedQuery` in
//! `src/backend/utils/cache/plancache.c`), since clients read them by a description they asked for once, and keeps the types
//! of its parameters. Its own descriptions are kept as a hash: two that differ by accident have the same in one of 2 to the
//! 64th cases.

use std::hash::{BuildHasher, Hasher};
use std::num::NonZeroU64;

use foldhash::fast::FixedState;

use crate::protocol::body::split_cstr;

use super::Types;

/// What a client was told.
#[derive(Clone, Debug)]
pub struct Told {
    pub description: Description,
    pub types: Types,
}

/// The types of a statement's parameters, and the names, types and modifiers of its rows; or that it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description(NonZeroU64);

impl Description {
    /// Of a statement with these parameters and the body of a `RowDescription`; of one that gives no rows (`NoData`) without.
    /// Where a column comes from is not of interest, as it is not to PostgreSQL; nor is a name outside of ASCII, which is
    /// another one in each `client_encoding`.
    #[must_use]
    pub fn of(types: &Types, rows: Option<&[u8]>) -> Self {
        let mut hasher = FixedState::default().build_hasher();
        let types = types.body().unwrap_or_default();
        hasher.write_usize(types.len());
        hasher.write(types);
        hasher.write_u8(u8::from(rows.is_some()));
        let mut rest = rows.and_then(|body| body.get(COUNT_LEN..)).unwrap_or_default();
        while let Some((name, behind)) = split_cstr(rest)
            && let Some((column, next)) = behind.split_first_chunk::<COLUMN_LEN>()
        {
            hasher.write(if name.is_ascii() { name } else { b"" });
            // The object, the attribute and the format are left out: the format of a statement's rows is none yet.
            let [_, _, _, _, _, _, kind @ .., _, _] = column;
            hasher.write(kind);
            rest = next;
        }
        Self(NonZeroU64::new(hasher.finish()).unwrap_or(NonZeroU64::MAX))
    }
}

/// The number of columns.
const COUNT_LEN: usize = 2;
/// What stands behind a column's name: table, attribute, type, length, modifier, format.
const COLUMN_LEN: usize = 18;

#[cfg(test)]
mod tests {
    use super::Description;
    use crate::session::statement::types::{KnownTypes, Types};

    fn column(name: &str, table: u32, kind: u32, modifier: i32) -> Vec<u8> {
        let mut column = name.as_bytes().to_vec();
        column.push(0);
        column.extend(table.to_be_bytes());
        column.extend([0, 1]);
        column.extend(kind.to_be_bytes());
        column.extend([0, 4]);
        column.extend(modifier.to_be_bytes());
        column.extend([0, 0]);
        column
    }

    fn rows(columns: &[Vec<u8>]) -> Description {
        let count = u16::try_from(columns.len()).unwrap().to_be_bytes();
        Description::of(&Types::default(), Some(&[&count[..], &columns.concat()].concat()))
    }

    #[test]
    fn descriptions_are_others_by_the_types_of_parameters() {
        let mut known = KnownTypes::default();
        let types = [
            &b"\0\0"[..],
            b"\0\x01\0\0\0\x17",
            b"\0\x01\0\0\0\x14",
            b"\0\x02\0\0\0\x17\0\0\0\x17",
        ];
        let descriptions: Vec<_> = types
            .iter()
            .map(|types| known.intern(types).unwrap())
            .flat_map(|types| [None, Some(&[0, 0][..])].map(|rows| Description::of(&types, rows)))
            .collect();
        for (index, one) in descriptions.iter().enumerate() {
            let same = descriptions.iter().position(|other| other == one);
            assert_eq!(same, Some(index));
        }
    }

    #[test]
    fn rows_are_others_by_names_types_modifiers_and_order_and_not_by_their_table() {
        let one = column("a", 1, 23, -1);
        let other = column("b", 1, 25, -1);
        let known = rows(&[one.clone(), other.clone()]);
        assert_eq!(known, rows(&[column("a", 2, 23, -1), other.clone()]));
        for columns in [
            vec![],
            vec![one.clone()],
            vec![other.clone(), one.clone()],
            vec![one.clone(), other.clone(), other.clone()],
            vec![column("c", 1, 23, -1), other.clone()],
            vec![column("a", 1, 20, -1), other.clone()],
            vec![one.clone(), column("b", 1, 25, 8)],
        ] {
            assert_ne!(known, rows(&columns), "{columns:?}");
            assert_ne!(Description::of(&Types::default(), None), rows(&columns));
        }
        assert_eq!(rows(&[column("ä", 1, 23, -1)]), rows(&[column("ö", 1, 23, -1)]));
    }

    #[test]
    fn what_is_cut_or_empty_is_read_as_far_as_it_goes() {
        let whole = [&[0, 1][..], &column("a", 1, 23, -1)].concat();
        let rows = |body: &[u8]| Description::of(&Types::default(), Some(body));
        for len in 0..whole.len() {
            assert_ne!(rows(&whole), rows(&whole[..len]));
        }
    }
}
