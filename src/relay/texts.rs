//! Texts of prepared statements that workers share: each stands in memory once, with one id in the whole process.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::RandomState;

use crate::session::basis::Basis;
use crate::session::statement::{Library, Origin, Shared};

/// A worker asks when it meets a text for the first time, and not again.
#[derive(Debug)]
pub struct Texts {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    next_id: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    known: HashMap<u64, (Under, Shared), RandomState>,
    /// Sum of the bodies in `known`; `bytes <= SHARD_BYTES_MAX` after each insertion, those in use excepted.
    bytes: usize,
}

/// What a text rests on beside itself.
#[derive(Debug)]
struct Under {
    origin: Origin,
    basis: Option<Arc<Basis>>,
    schema: u64,
}

impl Default for Texts {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::default(),
            next_id: AtomicU64::new(1),
        }
    }
}

impl Library for Texts {
    fn share(&self, body: &[u8], origin: Origin, basis: Option<&Arc<Basis>>, schema: u64) -> Shared {
        let hash = self.hasher.hash_one((body, origin, schema)) ^ basis.map_or(0, |basis| basis.hash());
        let make = || Shared {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            body: body.into(),
        };
        let index = usize::try_from(hash >> 32).unwrap_or(0) % SHARDS;
        let Some(shard) = self.shards.get(index) else {
            return make();
        };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((under, known)) = shard.known.get(&hash)
            && under.origin == origin
            && under.basis.as_ref() == basis
            && under.schema == schema
            && *known.body == *body
        {
            return known.clone();
        }
        shard.make_room(body.len());
        let made = make();
        let under = Under {
            origin,
            basis: basis.cloned(),
            schema,
        };
        shard.bytes += body.len();
        if let Some((_, old)) = shard.known.insert(hash, (under, made.clone())) {
            shard.bytes -= old.body.len();
        }
        made
    }
}

impl Shard {
    /// Lets go of what no worker has any more.
    fn make_room(&mut self, more: usize) {
        if self.bytes + more <= SHARD_BYTES_MAX {
            return;
        }
        let bytes = &mut self.bytes;
        self.known.retain(|_, (_, shared)| {
            let is_used = Arc::strong_count(&shared.body) > 1;
            if !is_used {
                *bytes -= shared.body.len();
            }
            is_used
        });
    }
}

/// So that workers that start at once seldom meet.
const SHARDS: usize = 16;
/// Texts that are kept although no worker has them: 16 MB in all shards, as a worker keeps for itself.
const SHARD_BYTES_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::statement::StatementCache;

    #[test]
    fn workers_share_texts_and_ids() {
        let texts = Arc::new(Texts::default());
        let mut first = StatementCache::sharing(0, Arc::clone(&texts) as _);
        let mut second = StatementCache::sharing(1, Arc::clone(&texts) as _);
        let (one, other) = (first.intern(b"select 1\0\0\0"), second.intern(b"select 1\0\0\0"));
        assert_eq!(one.id, other.id);
        assert_eq!(one.text().map(<[u8]>::as_ptr), other.text().map(<[u8]>::as_ptr));
        assert_ne!(one.id, second.intern_sql(b"select 1\0\0\0", 0).id);
        // What is known to one worker alone has a number of its own.
        assert_ne!(first.unkept(b"x").id, second.unkept(b"x").id);
    }

    #[test]
    fn what_no_worker_has_makes_room() {
        let texts = Texts::default();
        let held = texts.share(b"held", Origin::Parse, None, 0);
        for number in 0..64_u8 {
            let _ = texts.share(&vec![number; 512 * 1024], Origin::Parse, None, 0);
        }
        for shard in &texts.shards {
            assert!(shard.lock().unwrap().bytes <= SHARD_BYTES_MAX);
        }
        assert_eq!(texts.share(b"held", Origin::Parse, None, 0).id, held.id);
    }
}
