//! Prepared statements: the names a client knows, and what a server connection really has.
//!
//! A statement's identity is its whole `Parse` body, text and parameter types, compared byte for byte.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use indexmap::IndexMap;

use crate::protocol::tag;
use crate::protocol::write::Frame;

use super::screen::{Effects, screen};

/// One text with its parameter types.
#[derive(Debug)]
pub struct Statement {
    /// Unique in the process; names the statement on every server connection.
    pub id: u64,
    /// The body of `Parse` behind the name. `None`: too large to be kept, so it lives on one server connection alone.
    body: Option<Box<[u8]>>,
    /// What it may do when it is executed.
    pub effects: Effects,
}

impl Statement {
    /// Whether it can be prepared again elsewhere.
    #[must_use]
    pub fn is_movable(&self) -> bool {
        self.body.is_some()
    }

    /// The text alone; none when it is not kept.
    #[must_use]
    pub fn text(&self) -> Option<&[u8]> {
        self.body.as_deref()?.split(|byte| *byte == 0).next()
    }

    /// Appends a `Parse` for it under its own name, or as the unnamed statement.
    pub fn parse(&self, name: ServerName, out: &mut Vec<u8>) {
        let frame = Frame::begin(out, tag::PARSE);
        name.write(out);
        out.extend_from_slice(self.body.as_deref().unwrap_or(b"\0\0\0"));
        frame.end(out);
    }
}

/// A statement's name on a server connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerName {
    Unnamed,
    Numbered(u64),
    /// A name under which no statement is ever prepared.
    Nobody,
}

impl ServerName {
    /// Appends the name with its terminating zero.
    pub fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Unnamed => {}
            Self::Numbered(id) => {
                out.extend_from_slice(SERVER_NAME_PREFIX);
                let start = (id.max(1).ilog2() / 4).min(15);
                for shift in (0..=start).rev() {
                    let nibble = usize::try_from((id >> (shift * 4)) & 0xf).unwrap_or(0);
                    out.push(HEX.get(nibble).copied().unwrap_or(b'0'));
                }
            }
            Self::Nobody => {
                out.extend_from_slice(SERVER_NAME_PREFIX);
                out.extend_from_slice(b"none");
            }
        }
        out.push(0);
    }
}

/// The statements of a worker's clients by text, so that equal texts are one statement.
#[derive(Debug)]
pub struct StatementCache {
    known: HashMap<u64, Arc<Statement>, RandomState>,
    hasher: RandomState,
    /// Sum of the bodies in `known`; `bytes <= STATEMENT_CACHE_BYTES_MAX` after each insertion, statements in use excepted.
    bytes: usize,
    next_id: u64,
}

impl StatementCache {
    /// `worker` keeps the ids of different workers apart, since server connections move between them.
    #[must_use]
    pub fn new(worker: u16) -> Self {
        Self {
            known: HashMap::default(),
            hasher: RandomState::default(),
            bytes: 0,
            next_id: (u64::from(worker) << 44) + 1,
        }
    }

    /// The statement of a `Parse` body.
    pub fn intern(&mut self, body: &[u8]) -> Arc<Statement> {
        let hash = self.hasher.hash_one(body);
        if let Some(known) = self.known.get(&hash)
            && known.body.as_deref() == Some(body)
        {
            return Arc::clone(known);
        }
        let statement = Arc::new(Statement {
            id: self.take_id(),
            body: Some(body.into()),
            effects: screen(body.get(..text_len(body)).unwrap_or_default()).deferred(),
        });
        self.make_room(body.len());
        // Of two texts with one hash the later is found from now on; both stay valid for who holds them.
        self.bytes += body.len() + STATEMENT_OVERHEAD;
        if let Some(old) = self.known.insert(hash, Arc::clone(&statement)) {
            self.bytes -= old.body.as_deref().map_or(0, <[u8]>::len) + STATEMENT_OVERHEAD;
        }
        statement
    }

    /// A statement whose text is not kept. `seen` is what of its body has come.
    pub fn unkept(&mut self, seen: &[u8]) -> Arc<Statement> {
        let len = text_len(seen);
        Arc::new(Statement {
            id: self.take_id(),
            body: None,
            effects: screen(seen.get(..len).unwrap_or_default())
                .or_unseen(len < seen.len())
                .deferred(),
        })
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn make_room(&mut self, more: usize) {
        if self.bytes + more + STATEMENT_OVERHEAD <= STATEMENT_CACHE_BYTES_MAX {
            return;
        }
        let bytes = &mut self.bytes;
        self.known.retain(|_, statement| {
            let used = Arc::strong_count(statement) > 1;
            if !used {
                *bytes -= statement.body.as_deref().map_or(0, <[u8]>::len) + STATEMENT_OVERHEAD;
            }
            used
        });
    }
}

/// The names one client has given, and its unnamed statement.
#[derive(Debug, Default)]
pub struct ClientStatements {
    /// Boxed: most clients never name a statement.
    named: Option<Box<Names>>,
    /// Where in `named` the last name was found: one message asks for the same name several times.
    recent: Cell<usize>,
    pub unnamed: Option<Arc<Statement>>,
    /// How many of the named statements live on the present server connection alone.
    unmovable: usize,
}

/// The names that a client had.
#[derive(Debug, Default)]
pub struct Forgotten(Option<Box<Names>>);

type Names = IndexMap<Box<[u8]>, Arc<Statement>, RandomState>;

impl ClientStatements {
    #[must_use]
    pub fn named(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        let named = self.named.as_ref()?;
        let name = key(name);
        if let Some((known, statement)) = named.get_index(self.recent.get())
            && **known == *name
        {
            return Some(statement);
        }
        let (place, _, statement) = named.get_full(name)?;
        self.recent.set(place);
        Some(statement)
    }

    /// Gives or takes away a name; what it meant before comes back.
    pub fn replace(&mut self, name: &[u8], statement: Option<Arc<Statement>>) -> Option<Arc<Statement>> {
        let count = |statement: &Option<Arc<Statement>>| {
            usize::from(
                statement
                    .as_ref()
                    .is_some_and(|statement| !statement.is_movable()),
            )
        };
        self.unmovable += count(&statement);
        let previous = match statement {
            Some(statement) => self
                .named
                .get_or_insert_default()
                .insert(key(name).into(), statement),
            None => self.named.as_mut().and_then(|named| named.swap_remove(key(name))),
        };
        self.unmovable -= count(&previous);
        previous
    }

    /// Forgets every name, for the time being or for good.
    pub fn forget(&mut self) -> Forgotten {
        self.unmovable = 0;
        Forgotten(self.named.take())
    }

    /// Nothing was forgotten after all.
    pub fn restore(&mut self, forgotten: Forgotten) {
        self.named = forgotten.0;
        self.count_unmovable();
    }

    fn count_unmovable(&mut self) {
        let named = self.named.iter().flat_map(|named| named.values());
        self.unmovable = named.filter(|statement| !statement.is_movable()).count();
    }

    /// Forgets every name but the given ones.
    pub fn clear_except(&mut self, kept: &[&[u8]]) {
        if let Some(named) = &mut self.named {
            named.retain(|name, _| kept.contains(&&**name));
        }
        self.count_unmovable();
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.named.as_ref().map_or(0, |named| named.len())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The server connection is gone: what lived on it alone is forgotten.
    pub fn forget_unmovable(&mut self) {
        if self
            .unnamed
            .as_ref()
            .is_some_and(|statement| !statement.is_movable())
        {
            self.unnamed = None;
        }
        if let Some(named) = &mut self.named {
            named.retain(|_, statement| statement.is_movable());
        }
        self.unmovable = 0;
    }

    /// Whether some statement lives on the present server connection alone.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.unmovable > 0
            || self
                .unnamed
                .as_ref()
                .is_some_and(|statement| !statement.is_movable())
    }
}

/// What is prepared on one server connection.
#[derive(Debug, Default)]
pub struct ServerStatements {
    /// Statement id to the time of its last use, by `clock`.
    named: IndexMap<u64, u64, RandomState>,
    /// Where in `named` the last one used was found.
    recent: usize,
    clock: u64,
    /// The id of the unnamed statement, whoever parsed it.
    pub unnamed: Option<u64>,
    trust: Trust,
}

/// Whether the list is known to be complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Trust {
    #[default]
    Complete,
    /// The server was found to have others, or the same with stale plans: what is not in the list is closed before it is
    /// prepared.
    Doubtful,
}

impl ServerStatements {
    /// Whether it is there; if so, it counts as used now.
    pub fn touch(&mut self, id: u64) -> bool {
        self.clock += 1;
        if let Some((known, used)) = self.named.get_index_mut(self.recent)
            && *known == id
        {
            *used = self.clock;
            return true;
        }
        let Some((place, _, used)) = self.named.get_full_mut(&id) else {
            return false;
        };
        *used = self.clock;
        self.recent = place;
        true
    }

    pub fn insert(&mut self, id: u64) {
        self.clock += 1;
        self.named.insert(id, self.clock);
    }

    pub fn remove(&mut self, id: u64) {
        self.named.swap_remove(&id);
    }

    /// The least recently used statement, if there are more than `max` and it was not used since `batch`.
    #[must_use]
    pub fn surplus(&self, max: usize, batch: u64) -> Option<u64> {
        if self.named.len() <= max {
            return None;
        }
        let (id, used) = self.named.iter().min_by_key(|(_, used)| **used)?;
        (*used <= batch).then_some(*id)
    }

    /// The time of the last use so far: what is used later than this is used by the batch that begins here.
    #[must_use]
    pub fn clock(&self) -> u64 {
        self.clock
    }

    /// Forgets every statement but the given ones.
    pub fn clear_except(&mut self, kept: &[u64]) {
        self.named.retain(|id, _| kept.contains(id));
    }

    /// The server has contradicted the list: it starts again.
    pub fn doubt(&mut self) {
        self.named.clear();
        self.trust = Trust::Doubtful;
    }

    /// Whether the server may have statements that are not in the list.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.trust == Trust::Doubtful
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.named.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }
}

/// PostgreSQL tells statement names apart by their first 63 bytes: its hash table's keys are `NAMEDATALEN` long
/// (`src/backend/commands/prepare.c`).
pub(super) fn key(name: &[u8]) -> &[u8] {
    name.get(..NAME_LEN).unwrap_or(name)
}

/// Length of the text at the start of a `Parse` body without its name; of all of it, if its end is not there.
fn text_len(body: &[u8]) -> usize {
    memchr::memchr(0, body).unwrap_or(body.len())
}

/// `NAMEDATALEN - 1`.
const NAME_LEN: usize = 63;

const SERVER_NAME_PREFIX: &[u8] = b"pgweir_";
const HEX: &[u8; 16] = b"0123456789abcdef";
/// Texts a worker keeps for later clients, beside those that clients hold.
const STATEMENT_CACHE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a statement costs beside its text, roughly: two allocations, the map's entry.
const STATEMENT_OVERHEAD: usize = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_statement_and_other_types_another() {
        let mut cache = StatementCache::new(1);
        let first = cache.intern(b"select 1\0\0\0");
        assert_eq!(first.id, cache.intern(b"select 1\0\0\0").id);
        assert_ne!(first.id, cache.intern(b"select 1\0\0\x01\0\0\0\x17").id);
    }

    #[test]
    fn names_on_servers_are_short_and_distinct() {
        let write = |name: ServerName| {
            let mut out = Vec::new();
            name.write(&mut out);
            out
        };
        assert_eq!(write(ServerName::Numbered(0x1f)), b"pgweir_1f\0");
        assert_eq!(write(ServerName::Numbered(0)), b"pgweir_0\0");
        assert_eq!(
            write(ServerName::Numbered(u64::MAX)),
            b"pgweir_ffffffffffffffff\0"
        );
        assert_eq!(write(ServerName::Unnamed), b"\0");
    }

    #[test]
    fn a_full_cache_drops_the_texts_nobody_holds() {
        let mut cache = StatementCache::new(0);
        let held = cache.intern(b"held");
        let text = vec![b'x'; 1024 * 1024];
        for i in 0..40_u8 {
            let mut text = text.clone();
            text.push(i);
            drop(cache.intern(&text));
        }
        assert!(cache.bytes <= STATEMENT_CACHE_BYTES_MAX);
        assert_eq!(cache.intern(b"held").id, held.id);
    }

    #[test]
    fn the_surplus_is_the_least_recently_used_and_never_one_of_the_batch() {
        let mut server = ServerStatements::default();
        for id in 1..=3 {
            server.insert(id);
        }
        assert!(server.touch(1));
        let batch = server.clock();
        assert_eq!(server.surplus(2, batch), Some(2));
        assert!(server.touch(2) && server.touch(3) && server.touch(1));
        assert_eq!(server.surplus(2, batch), None);
    }

    #[test]
    fn a_name_is_found_wherever_others_have_left_it() {
        let mut cache = StatementCache::new(0);
        let mut client = ClientStatements::default();
        for name in [b"a", b"b", b"c"] {
            client.replace(name, Some(cache.intern(name)));
        }
        let id = |client: &ClientStatements, name: &[u8]| client.named(name).map(|found| found.id);
        let last = id(&client, b"c");
        assert!(last.is_some() && last == id(&client, b"c"));
        // It takes the place of the one that goes.
        client.replace(b"a", None);
        assert_eq!((id(&client, b"a"), id(&client, b"c")), (None, last));
        client.forget();
        assert_eq!(id(&client, b"c"), None);
    }

    #[test]
    fn a_statement_that_is_gone_is_not_touched() {
        let mut server = ServerStatements::default();
        server.insert(1);
        server.insert(2);
        assert!(server.touch(1) && server.touch(1));
        server.remove(1);
        assert!(!server.touch(1) && server.touch(2));
    }
}
