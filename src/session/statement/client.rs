//! The names that a client has given.

use std::cell::Cell;
use std::ops::Deref;
use std::sync::Arc;

use foldhash::fast::RandomState;
use indexmap::IndexMap;

use super::{Description, Statement, Told};

/// The names one client has given, and its unnamed statement.
#[derive(Debug, Default)]
pub struct ClientStatements {
    /// Boxed: most clients never name a statement.
    named: Option<Box<Names>>,
    /// Where in `named` the last name was found: one message asks for the same name several times.
    recent: Cell<usize>,
    pub unnamed: Option<Named>,
    /// How many of the named statements live on the present server connection alone.
    unmovable: usize,
}

/// What a name stands for, to the client that has given it.
#[derive(Clone, Debug)]
pub struct Named {
    pub statement: Arc<Statement>,
    /// What the client was told of it, if it has asked.
    pub told: Option<Told>,
}

impl Named {
    #[must_use]
    pub fn description(&self) -> Option<Description> {
        self.told.as_ref().map(|told| told.description)
    }
}

impl Deref for Named {
    type Target = Arc<Statement>;

    fn deref(&self) -> &Self::Target {
        &self.statement
    }
}

impl From<Arc<Statement>> for Named {
    fn from(statement: Arc<Statement>) -> Self {
        Self {
            statement,
            told: None,
        }
    }
}

/// The names that a client had.
#[derive(Debug, Default)]
pub struct Forgotten(Option<Box<Names>>);

type Names = IndexMap<Box<[u8]>, Named, RandomState>;

impl ClientStatements {
    #[must_use]
    pub fn named(&self, name: &[u8]) -> Option<&Named> {
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

    /// Where a name stands.
    #[must_use]
    pub fn place(&self, name: &[u8]) -> Option<usize> {
        self.named(name)?;
        Some(self.recent.get())
    }

    /// What stands at a place.
    #[must_use]
    pub fn at(&self, place: u32) -> Option<&Named> {
        let place = usize::try_from(place).ok()?;
        Some(self.named.as_ref()?.get_index(place)?.1)
    }

    /// The client is told what a statement is, which stood at this place under a name that means the same still.
    pub fn tell(&mut self, id: u64, place: u32, told: Option<Told>, is_same: impl Fn(&[u8]) -> bool) {
        let Some(named) = &mut self.named else { return };
        let found = usize::try_from(place)
            .ok()
            .and_then(|place| named.get_index_mut(place));
        if let Some((name, known)) = found
            && known.id == id
        {
            if is_same(name) {
                known.told = told;
            }
            return;
        }
        // Another name that was taken away has moved it. Two of one text are told alike.
        for (name, known) in named.iter_mut() {
            if known.id == id && is_same(name) {
                known.told.clone_from(&told);
            }
        }
    }

    /// The same of the unnamed one.
    pub fn tell_unnamed(&mut self, id: u64, told: Option<Told>) {
        if let Some(known) = self.unnamed.as_mut().filter(|known| known.id == id) {
            known.told = told;
        }
    }

    /// Gives or takes away a name; what it meant before comes back.
    pub fn replace(&mut self, name: &[u8], statement: Option<Named>) -> Option<Named> {
        let count = |statement: &Option<Named>| {
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

    /// What a name means, the empty one included.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&Named> {
        if name.is_empty() {
            self.unnamed.as_ref()
        } else {
            self.named(name)
        }
    }

    /// The first of the names that a statement has.
    #[must_use]
    pub fn name_of(&self, id: u64) -> Option<&[u8]> {
        let named = self.named.iter().flat_map(|named| named.iter());
        let names = named
            .filter(|(_, statement)| statement.id == id)
            .map(|(name, _)| &**name);
        names.min()
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

/// PostgreSQL tells statement names apart by their first 63 bytes: its hash table's keys are `NAMEDATALEN` long
/// (`src/backend/commands/prepare.c`).
pub(in crate::session) fn key(name: &[u8]) -> &[u8] {
    name.get(..NAME_LEN).unwrap_or(name)
}

/// `NAMEDATALEN - 1`.
const NAME_LEN: usize = 63;
