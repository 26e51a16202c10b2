//! The types of a statement's parameters, as its client was told.
//!
//! PostgreSQL finds out once what the types are that a `Parse` does not give, and keeps them whatever becomes of its tables. So
//! a statement that is prepared anew for a client names the types that it was told.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;

/// The body of a `ParameterDescription`, which is what stands behind the text in a `Parse`; none of a statement that has no
/// parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Types(Option<Arc<Box<[u8]>>>);

impl Types {
    /// What is put in the place of the types in a `Parse`, if it is another.
    #[must_use]
    pub fn body(&self) -> Option<&[u8]> {
        self.0.as_ref().map(|body| &***body)
    }
}

/// The lists of types that a worker's clients were told: few are different, and each stands in memory once.
#[derive(Debug)]
pub struct KnownTypes {
    known: HashMap<u64, Arc<Box<[u8]>>, RandomState>,
    hasher: RandomState,
    /// Sum of `known`.
    bytes: usize,
    /// Where `bytes` comes to this, what nobody holds is let go of.
    room: usize,
}

impl Default for KnownTypes {
    fn default() -> Self {
        Self {
            known: HashMap::default(),
            hasher: RandomState::default(),
            bytes: 0,
            room: TYPES_BYTES_MAX,
        }
    }
}

impl KnownTypes {
    /// Of the body of a `ParameterDescription`; none if it is not well-formed.
    pub fn intern(&mut self, body: &[u8]) -> Option<Types> {
        let (count, types) = body.split_first_chunk::<COUNT_LEN>()?;
        if types.len() != usize::from(u16::from_be_bytes(*count)) * TYPE_LEN {
            return None;
        }
        if types.is_empty() {
            return Some(Types::default());
        }
        let hash = self.hasher.hash_one(body);
        if let Some(known) = self.known.get(&hash)
            && ***known == *body
        {
            return Some(Types(Some(Arc::clone(known))));
        }
        self.make_room(cost(body));
        let made: Arc<Box<[u8]>> = Arc::new(body.into());
        self.bytes += cost(body);
        if let Some(old) = self.known.insert(hash, Arc::clone(&made)) {
            self.bytes -= cost(&old);
        }
        Some(Types(Some(made)))
    }

    fn make_room(&mut self, more: usize) {
        if self.bytes + more <= self.room {
            return;
        }
        let bytes = &mut self.bytes;
        self.known.retain(|_, known| {
            let is_used = Arc::strong_count(known) > 1;
            if !is_used {
                *bytes -= cost(known);
            }
            is_used
        });
        // Not at each new one, where clients hold many.
        self.room = TYPES_BYTES_MAX.max(2 * self.bytes);
    }
}

fn cost(body: &[u8]) -> usize {
    body.len() + TYPES_OVERHEAD
}

/// The number of types.
const COUNT_LEN: usize = 2;
const TYPE_LEN: usize = 4;
/// A description of as many parameters as PostgreSQL takes, 65,535.
pub const TYPES_LEN_MAX: usize = COUNT_LEN + TYPE_LEN * 65_535;
/// Lists a worker keeps, beside those that clients hold: thousands of them.
const TYPES_BYTES_MAX: usize = 1024 * 1024;
/// What a list costs beside itself, roughly: two allocations, the map's entry.
const TYPES_OVERHEAD: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn body(types: &[u32]) -> Vec<u8> {
        let mut body = u16::try_from(types.len()).unwrap().to_be_bytes().to_vec();
        body.extend(types.iter().flat_map(|oid| oid.to_be_bytes()));
        body
    }

    #[test]
    fn equal_lists_stand_in_memory_once() {
        let mut known = KnownTypes::default();
        let one = known.intern(&body(&[23, 25])).unwrap();
        let other = known.intern(&body(&[23, 25])).unwrap();
        assert_eq!(one.body().map(<[u8]>::as_ptr), other.body().map(<[u8]>::as_ptr));
        assert_eq!(one.body(), Some(&body(&[23, 25])[..]));
        assert_ne!(one, known.intern(&body(&[25, 23])).unwrap());
        assert_eq!(known.intern(&body(&[])), Some(Types::default()));
    }

    #[test]
    fn what_is_no_list_is_none() {
        let mut known = KnownTypes::default();
        for body in [
            &b""[..],
            b"\0",
            b"\0\x01",
            b"\0\x01\0\0\0",
            b"\0\0\0",
            b"\0\x01\0\0\0\x17\0",
        ] {
            assert_eq!(known.intern(body), None, "{body:?}");
        }
    }

    #[test]
    fn what_nobody_holds_makes_room() {
        let mut known = KnownTypes::default();
        let held = known.intern(&body(&[0; 1_000])).unwrap();
        for number in 1..2_000 {
            drop(known.intern(&body(&[number; 1_000])));
            assert!(known.bytes <= TYPES_BYTES_MAX);
        }
        let again = known.intern(&body(&[0; 1_000])).unwrap();
        assert_eq!(held.body().map(<[u8]>::as_ptr), again.body().map(<[u8]>::as_ptr));
        // Held by clients, they are kept.
        let all: Vec<_> = (1..2_000)
            .map(|number| known.intern(&body(&[number; 1_000])))
            .collect();
        assert!(known.bytes > TYPES_BYTES_MAX);
        drop(all);
        for number in 0..4_000 {
            drop(known.intern(&body(&[number, 1])));
        }
        known.room = 0;
        drop(known.intern(&body(&[1])));
        assert!(known.bytes <= 2 * cost(&body(&[0; 1_000])));
    }
}
