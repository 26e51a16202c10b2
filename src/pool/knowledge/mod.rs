//! What is known of a database that decides where its statements go.

pub mod read;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::catalog::changes::{Changes, NAME_BITS, NAMES};
use crate::plan::{self, Catalog, Circumstances, Patterns, Plan, Spelling};

/// One for each database that has replicas, shared by all its pools.
#[derive(Debug, Default)]
pub struct Knowledge {
    /// Unique in the process.
    id: u64,
    /// How often the catalog was read.
    reads: AtomicU64,
    /// What was changed, as far as that is known, whoever has noticed it. Plans are of one count.
    changes: Arc<Changes>,
    known: ArcSwapOption<Known>,
    functions: ArcSwap<Patterns>,
}

/// How new what is known has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Of the last change that is known of.
    Current,
    /// Whatever was read last.
    Last,
    /// The same, for a text whose names may be of any schema: its session's `search_path` is not known.
    Anywhere,
}

impl Demand {
    /// Under which path a session's texts are planned that has this one.
    #[must_use]
    pub fn path(self, own: &str) -> &str {
        match self {
            Self::Current | Self::Last => own,
            Self::Anywhere => ANY_SCHEMA,
        }
    }
}

/// What a session of a user begins with on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// As `SHOW search_path` shows it.
    pub search_path: Box<str>,
    /// Whom `$user` means there.
    pub user: Box<str>,
    /// `standard_conforming_strings` is on, and `client_encoding` is `UTF8`.
    pub is_standard: bool,
    pub isolation: Isolation,
}

/// `default_transaction_isolation`, as far as servers differ in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// A standby has none.
    Serializable,
    Other,
}

/// What was read at one time. Never changed.
#[derive(Debug)]
pub struct Known {
    /// Unique in the process: the id of its database, and the name among [`Changes`].
    pub stamp: u64,
    /// What had been changed by then.
    changes: u64,
    catalog: Catalog,
    functions: Arc<Patterns>,
}

impl Knowledge {
    /// `id` tells it from that of other databases.
    #[must_use]
    pub fn new(id: u64, changes: Arc<Changes>) -> Self {
        // What was read for servers that were there before is not known of these.
        changes.note();
        Self {
            id,
            changes,
            ..Self::default()
        }
    }

    /// What is known, if it will do.
    #[must_use]
    pub fn known(&self, demand: Demand) -> Option<Arc<Known>> {
        let known = self.known.load_full()?;
        let will_do = match demand {
            Demand::Current => self.stamp(demand) == Some(known.stamp),
            Demand::Last | Demand::Anywhere => true,
        };
        will_do.then_some(known)
    }

    /// Names what is known, if it will do, so that plans can be told from those of another time.
    #[must_use]
    pub fn stamp(&self, demand: Demand) -> Option<u64> {
        match demand {
            Demand::Current => Some((self.id << NAME_BITS) | self.changes.named()?),
            Demand::Last | Demand::Anywhere => self.known.load().as_ref().map(|known| known.stamp),
        }
    }

    /// To be asked before the catalog is read.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.count()
    }

    /// Something was changed: until it is read again, nothing is known.
    pub fn on_changed(&self) {
        self.changes.note();
    }

    /// Nothing, to be filled with what is read after `changes` changes.
    fn blank(&self, changes: u64) -> Known {
        let name = self.reads.fetch_add(1, Ordering::Relaxed) % (NAMES - 1) + 1;
        Known {
            stamp: (self.id << NAME_BITS) | name,
            changes,
            catalog: Catalog::default(),
            functions: self.functions.load_full(),
        }
    }

    /// From now on this is known. Plans stay good where it says nothing new.
    fn learn(&self, mut known: Known) {
        let before = self.known.load();
        if let Some(before) = before.as_ref()
            && before.catalog == known.catalog
            && Arc::ptr_eq(&before.functions, &known.functions)
        {
            known.stamp = before.stamp;
        }
        let (changes, name) = (known.changes, known.stamp % NAMES);
        self.known.store(Some(Arc::new(known)));
        self.changes.name(changes, name);
    }

    /// From now on it is known that there is nothing beside what every database has.
    pub fn learn_nothing(&self) {
        self.learn(self.blank(self.changes()));
    }

    /// `read_only_functions` and `write_functions`, from now on.
    pub fn set_functions(&self, functions: Patterns) {
        self.functions.store(Arc::new(functions));
        self.on_changed();
    }
}

/// The id of the knowledge that a stamp is of.
#[must_use]
pub fn id_of(stamp: u64) -> u64 {
    stamp >> NAME_BITS
}

impl Known {
    /// The plan of a text under a search path, as it is set, of a user.
    #[must_use]
    pub fn plan(&self, text: &[u8], path: &str, user: &str, spelling: Spelling) -> Plan {
        let search_path = if path == ANY_SCHEMA {
            self.catalog.schemas()
        } else {
            schemas(path, user)
        };
        let circumstances = Circumstances {
            catalog: &self.catalog,
            search_path: &search_path,
            functions: &self.functions,
            spelling,
        };
        plan::plan(text, &circumstances)
    }
}

/// The schemas of a `search_path`, as `SplitIdentifierString` reads it (`src/backend/utils/adt/varlena.c`). One that cannot be read has none.
fn schemas(path: &str, user: &str) -> Vec<Box<str>> {
    let mut found = Vec::new();
    let mut rest = path.trim_start();
    while !rest.is_empty() {
        let (name, after) = if let Some(quoted) = rest.strip_prefix('"') {
            let Some((name, after)) = quoted_name(quoted) else {
                return Vec::new();
            };
            (name, after)
        } else {
            let end = rest
                .find([',', ' ', '\t', '\n', '\r', '\x0c'])
                .unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            (name.to_lowercase(), after)
        };
        found.push(if name == "$user" { user.into() } else { name.into() });
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None if rest.is_empty() => {}
            None => return Vec::new(),
        }
    }
    found
}

/// A name up to its closing quote, and what follows.
fn quoted_name(input: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = input;
    loop {
        let end = rest.find('"')?;
        name.push_str(rest.get(..end)?);
        rest = rest.get(end + 1..)?;
        match rest.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, rest)),
        }
    }
}

/// Stands for a path of all schemas. A session that sets this very text, which means one strange schema, has its texts judged by more
/// than they name.
const ANY_SCHEMA: &str = "(any)";

#[cfg(test)]
mod tests {
    use crate::pool::catalog::Catalog as Suspicions;

    use super::*;

    #[test]
    fn a_search_path_is_read_as_postgresql_reads_it() {
        let read = |path: &str| {
            schemas(path, "Ann")
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(read("\"$user\", public"), ["Ann", "public"]);
        assert_eq!(read("App,  \"B\"\"c, d\" , $user"), ["app", "B\"c, d", "Ann"]);
        assert_eq!(read(""), [""; 0]);
        assert_eq!(read("\"open"), [""; 0]);
        assert_eq!(read("a b"), [""; 0]);
    }

    #[test]
    fn what_was_read_before_a_change_is_not_known_after_it() {
        let knowledge = Knowledge::default();
        let current = |knowledge: &Knowledge| knowledge.stamp(Demand::Current);
        assert_eq!(current(&knowledge), None);
        assert_eq!(knowledge.stamp(Demand::Last), None);
        let before = knowledge.changes();
        knowledge.learn(knowledge.blank(before));
        let stamp = current(&knowledge);
        assert!(stamp.is_some());
        knowledge.on_changed();
        assert_eq!(current(&knowledge), None);
        assert_eq!(knowledge.stamp(Demand::Last), stamp);
        knowledge.learn(knowledge.blank(before));
        assert_eq!(current(&knowledge), None);
        // What was read again and is the same leaves plans as they are.
        knowledge.learn(knowledge.blank(knowledge.changes()));
        assert_eq!(current(&knowledge), stamp);
    }

    #[test]
    fn what_one_reader_of_catalogs_notices_is_old_for_the_other() {
        let changes = Arc::<Changes>::default();
        let knowledge = Knowledge::new(1, Arc::clone(&changes));
        let catalogs = [2, 3].map(|id| Suspicions::new(id, Arc::clone(&changes)));
        for catalog in &catalogs {
            for notice in [Suspicions::on_made, Suspicions::on_changed] {
                knowledge.learn_nothing();
                assert!(knowledge.stamp(Demand::Current).is_some());
                assert!(knowledge.known(Demand::Current).is_some());
                notice(catalog);
                assert_eq!(knowledge.stamp(Demand::Current), None);
                assert!(knowledge.known(Demand::Current).is_none());
            }
        }
        // What was known of servers that were there before is not known of others.
        knowledge.learn_nothing();
        let other = Knowledge::new(4, changes);
        assert_eq!(other.stamp(Demand::Current), None);
    }
}
