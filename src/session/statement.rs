//! Prepared statements: the names a client knows, and what a server connection really has.
//!
//! A statement's identity is its whole `Parse` body, text and parameter types, compared byte for byte, and the settings that
//! change what the text means.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;

use crate::protocol::tag;
use crate::protocol::write::Frame;

use super::basis::Basis;
use super::screen::{Effects, screen, screen_followed, screen_prepared};
use super::sql_names::{self, Mention, Verb};

mod client;
mod description;
mod prepared;
mod reading;
mod server_name;
mod types;

pub(super) use client::key;
pub use client::{ClientStatements, Forgotten, Named};
pub use description::{Description, Told};
pub use prepared::ServerStatements;
pub use reading::Reading;
pub(super) use server_name::SERVER_NAME_PREFIX;
pub use server_name::ServerName;
pub use types::{KnownTypes, TYPES_LEN_MAX, Types};

/// One text with its parameter types.
#[derive(Debug)]
pub struct Statement {
    /// Unique in the process; names the statement on every server connection.
    pub id: u64,
    /// The body of `Parse`, or the text of `PREPARE`, behind the name. `None`: too large to be kept, so it lives on one server
    /// connection alone.
    body: Option<Arc<[u8]>>,
    origin: Origin,
    /// Where in the body of a `Parse` the text ends.
    text_end: u32,
    /// The settings it was prepared under first.
    basis: Option<Arc<Basis>>,
    /// How often the tables had been altered by then. What was prepared before has a plan that PostgreSQL may refuse, which
    /// is right for who prepared it, and for nobody else.
    schema: u64,
    /// What it may do when it is executed.
    pub effects: Effects,
    /// The name of another prepared statement in its text.
    mention: Option<Box<Mention>>,
    /// The state of a catalog by which its text names nothing that changes the session from inside; 0 is none.
    cleared: AtomicU64,
    reading: Reading,
    owner: Owner,
}

/// Who uses a statement, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Whoever prepares the same.
    Everybody,
    /// One client.
    Client,
    /// One client on one server connection: what its literals were read as is known there alone.
    Connection,
}

/// How a statement is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    Parse,
    /// By SQL; the statement itself begins so far behind the name.
    Sql(usize),
}

impl Statement {
    /// Whether it can be prepared again elsewhere.
    #[must_use]
    pub fn is_movable(&self) -> bool {
        self.body.is_some() && self.owner != Owner::Connection
    }

    /// What else than its words it hangs on.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.reading
    }

    /// Whether others may use it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.owner == Owner::Everybody
    }

    /// How often tables had been altered when it was prepared.
    #[must_use]
    pub fn schema(&self) -> u64 {
        self.schema
    }

    /// The settings that it rests on.
    #[must_use]
    pub fn basis(&self) -> Option<&Arc<Basis>> {
        self.basis.as_ref()
    }

    /// Whether its text is at hand.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.body.is_some()
    }

    /// Whether its text names nothing that changes the session, by this state of the catalog.
    #[inline]
    #[must_use]
    pub fn is_cleared(&self, stamp: Option<u64>) -> bool {
        // It stands for itself: nothing else is read by it.
        stamp.is_some_and(|stamp| self.cleared.load(Ordering::Relaxed) == stamp)
    }

    /// It does not.
    pub fn clear(&self, stamp: Option<u64>) {
        if let Some(stamp) = stamp {
            self.cleared.store(stamp, Ordering::Relaxed);
        }
    }

    /// The text alone; none when it is not kept.
    #[must_use]
    pub fn text(&self) -> Option<&[u8]> {
        let body = self.body.as_deref()?;
        match self.origin {
            Origin::Parse => body.get(..usize::try_from(self.text_end).ok()?),
            Origin::Sql(start) => body.get(start..),
        }
    }

    /// Whether its execution does what it says and nothing beyond, and its text names no other statement.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.mention.is_none() && self.reading == Reading::Fixed && self.effects.are_none_at_all()
    }

    /// The name of another prepared statement in its text, which must be resolved whenever it is used.
    #[must_use]
    pub fn mention(&self) -> Option<&Mention> {
        self.mention.as_deref()
    }

    /// What an SQL `PREPARE` says behind the name; none of a statement that was made by `Parse`.
    #[must_use]
    pub fn definition(&self) -> Option<&[u8]> {
        match self.origin {
            Origin::Parse => None,
            Origin::Sql(_) => self.body.as_deref(),
        }
    }

    /// Appends a `Parse` for it under its own name, or as the unnamed statement.
    pub fn parse(&self, name: ServerName, out: &mut Vec<u8>) {
        self.parse_as(name, &Types::default(), out);
    }

    /// The same with these types of parameters, if there are any.
    pub fn parse_as(&self, name: ServerName, types: &Types, out: &mut Vec<u8>) {
        let frame = Frame::begin(out, tag::PARSE);
        name.write(out);
        match (self.text(), types.body()) {
            (Some(text), Some(types)) => {
                out.extend_from_slice(text);
                out.push(0);
                out.extend_from_slice(types);
            }
            _ => out.extend_from_slice(self.body.as_deref().unwrap_or(b"\0\0\0")),
        }
        frame.end(out);
    }
}

/// Where workers find each other's texts.
pub trait Library: fmt::Debug + Send + Sync {
    /// The one copy of a body, and its id.
    fn share(&self, body: &[u8], origin: Origin, basis: Option<&Arc<Basis>>, schema: u64) -> Shared;
}

/// A body that workers share.
#[derive(Clone, Debug)]
pub struct Shared {
    pub id: u64,
    pub body: Arc<[u8]>,
}

/// The statements of a worker's clients by text, so that equal texts are one statement.
#[derive(Debug)]
pub struct StatementCache {
    known: HashMap<u64, Arc<Statement>, RandomState>,
    hasher: RandomState,
    /// Sum of the bodies in `known`; `bytes <= STATEMENT_CACHE_BYTES_MAX` after each insertion, statements in use excepted.
    bytes: usize,
    next_id: u64,
    library: Option<Arc<dyn Library>>,
    /// The settings that the next statement rests on.
    basis: Option<Arc<Basis>>,
    sharing: Sharing,
    /// What their clients were told.
    pub types: KnownTypes,
    /// For bodies that are put together.
    scratch: Vec<u8>,
}

/// Who has part in a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Every client with the same settings, since tables were altered last: so often they were by now.
    All(u64),
    /// Its client alone: under which settings it is prepared is not certain.
    None,
}

impl StatementCache {
    /// Of a worker that shares its texts; `worker` keeps apart the ids of what is not shared, since server connections move
    /// between them.
    #[must_use]
    pub fn sharing(worker: u16, library: Arc<dyn Library>) -> Self {
        Self {
            next_id: (u64::from(worker) + 1) << 44,
            library: Some(library),
            ..Self::new(worker)
        }
    }

    /// Of a worker that is alone.
    #[must_use]
    pub fn new(worker: u16) -> Self {
        Self {
            known: HashMap::default(),
            hasher: RandomState::default(),
            bytes: 0,
            next_id: (u64::from(worker) << 44) + 1,
            library: None,
            basis: None,
            sharing: Sharing::All(0),
            types: KnownTypes::default(),
            scratch: Vec::new(),
        }
    }

    /// The statement of a `Parse` body.
    pub fn intern(&mut self, body: &[u8]) -> Arc<Statement> {
        self.find(body, Origin::Parse)
    }

    /// What is met from now on rests on these settings; or nobody knows for certain on which.
    pub fn stand_on(&mut self, basis: Option<&Arc<Basis>>, sharing: Sharing) {
        if self.basis.as_ref() != basis {
            self.basis = basis.cloned();
        }
        self.sharing = sharing;
    }

    /// The statement of a `Parse` body that means the same under any settings.
    pub fn intern_anywhere(&mut self, body: &[u8]) -> Arc<Statement> {
        self.stand_on(None, Sharing::All(0));
        self.intern(body)
    }

    /// The statement of an SQL `PREPARE`: what stands behind the name, and where in it the statement itself begins.
    pub fn intern_sql(&mut self, definition: &[u8], start: usize) -> Arc<Statement> {
        self.find(definition, Origin::Sql(start))
    }

    /// The statement with another name in the place of the one it mentions.
    pub fn renamed(&mut self, statement: &Statement, name: ServerName) -> Arc<Statement> {
        let mut body = std::mem::take(&mut self.scratch);
        body.clear();
        let original = statement.body.as_deref().unwrap_or_default();
        let range = statement
            .mention
            .as_ref()
            .map_or(0..0, |mention| mention.name.clone());
        body.extend_from_slice(original.get(..range.start).unwrap_or_default());
        name.write_bare(&mut body);
        body.extend_from_slice(original.get(range.end..).unwrap_or_default());
        let renamed = self.intern(&body);
        self.scratch = body;
        self.scratch.shrink_to(SCRATCH_KEPT_MAX);
        renamed
    }

    fn find(&mut self, body: &[u8], origin: Origin) -> Arc<Statement> {
        let schema = match self.sharing {
            Sharing::All(schema) => schema,
            Sharing::None => 0,
        };
        let basis_hash = self.basis.as_ref().map_or(0, |basis| basis.hash());
        let hash = self.hasher.hash_one(body) ^ basis_hash ^ schema.wrapping_mul(SCHEMA_SALT);
        if self.sharing != Sharing::None
            && let Some(known) = self.known.get(&hash)
            && known.body.as_deref() == Some(body)
            && known.origin == origin
            && known.basis == self.basis
            && known.schema == schema
        {
            return Arc::clone(known);
        }
        let text = match origin {
            Origin::Parse => body.get(..text_len(body)),
            Origin::Sql(start) => body.get(start..),
        };
        let text = text.unwrap_or_default();
        let mention = match origin {
            Origin::Parse => sql_names::only(text).map(Box::new),
            Origin::Sql(_) => None,
        };
        let reading = match &mention {
            Some(_) => Reading::Fixed,
            None => Reading::of(text),
        };
        let owner = match self.sharing {
            Sharing::All(_) if reading != Reading::Moment => Owner::Everybody,
            Sharing::All(_) | Sharing::None => Owner::Client,
        };
        let shared = match &self.library {
            Some(library) if owner == Owner::Everybody => {
                library.share(body, origin, self.basis.as_ref(), schema)
            }
            Some(_) | None => Shared {
                id: self.take_id(),
                body: body.into(),
            },
        };
        let statement = Arc::new(Statement {
            id: shared.id,
            body: Some(shared.body),
            origin,
            text_end: u32::try_from(text.len()).unwrap_or(u32::MAX),
            basis: self.basis.clone(),
            schema,
            effects: effects(text, mention.as_deref()),
            mention,
            cleared: AtomicU64::new(0),
            reading,
            owner,
        });
        if owner == Owner::Client {
            return statement;
        }
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
            origin: Origin::Parse,
            text_end: 0,
            basis: None,
            schema: 0,
            mention: None,
            cleared: AtomicU64::new(0),
            reading: Reading::Fixed,
            owner: Owner::Connection,
            effects: screen(seen.get(..len).unwrap_or_default()).or_unseen(len < seen.len()),
        })
    }

    /// The same statement for one client alone.
    pub fn own(&mut self, statement: &Statement, owner: Owner) -> Arc<Statement> {
        Arc::new(Statement {
            id: self.take_id(),
            body: statement.body.clone(),
            basis: statement.basis.clone(),
            effects: statement.effects.clone(),
            mention: statement.mention.clone(),
            cleared: AtomicU64::new(0),
            owner,
            ..*statement
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

/// What a text may do when it is executed. Where it mentions a name, the statement of that name does the rest.
fn effects(text: &[u8], mention: Option<&Mention>) -> Effects {
    match mention.map(|mention| mention.verb) {
        None => screen_prepared(text),
        Some(Verb::Execute) => screen_followed(text),
        Some(Verb::Prepare | Verb::Deallocate) => Effects::default(),
    }
}

/// Length of the text at the start of a `Parse` body without its name; of all of it, if its end is not there.
fn text_len(body: &[u8]) -> usize {
    memchr::memchr(0, body).unwrap_or(body.len())
}

/// Spreads small numbers over a hash: 2 to the 64th, divided by the golden ratio.
const SCHEMA_SALT: u64 = 0x9e37_79b9_7f4a_7c15;
/// Texts a worker keeps for later clients, beside those that clients hold.
const STATEMENT_CACHE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Memory for bodies put together that a worker keeps.
const SCRATCH_KEPT_MAX: usize = 16 * 1024;
/// What a statement costs beside its text, roughly: two allocations, the map's entry.
const STATEMENT_OVERHEAD: usize = 96;

#[cfg(test)]
mod tests;
