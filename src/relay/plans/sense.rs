//! What texts mean to a client beside what they say, as a number: by that and the text its plans are found, so that a query looks
//! at no settings.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::Guard;

use crate::plan::Spelling;
use crate::pool::cluster::Realm;
use crate::pool::knowledge::{Defaults, Demand, Isolation};
use crate::pool::shared::PoolShared;
use crate::protocol::Parameters;
use crate::session::ClientSession;

use super::Plans;

/// Under what a client's texts are planned, beside what it sets itself.
#[derive(Debug)]
pub struct Scope {
    /// What its database has.
    pub realm: Arc<Realm>,
    /// The pools of its user on the servers: they know what a session begins with there.
    pools: Box<[Arc<PoolShared>]>,
    met: Option<Met>,
}

/// What its texts meant last, and what that hung on.
#[derive(Debug)]
struct Met {
    stamp: Stamp,
    defaults: Arc<Defaults>,
    settings: Arc<Parameters>,
    standing: Standing,
}

/// What is known of a client that sends a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub sense: Sense,
    /// Of its transactions, unless they say otherwise.
    pub isolation: Isolation,
}

/// Two are the same only where every text has the same plan. Unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    pub(super) number: u64,
    pub(super) spelling: Spelling,
}

/// Changes with whatever plans depend on beside text and settings; unique in the process.
type Stamp = u64;

/// What stands behind a sense.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Meaning {
    /// Which knowledge of which database.
    pub stamp: Stamp,
    pub path: Box<str>,
    pub user: Box<str>,
    pub spelling: Spelling,
}

/// The numbers of meanings, for all workers.
#[derive(Debug, Default)]
pub(super) struct Senses {
    known: Mutex<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    by_meaning: HashMap<Meaning, u64>,
    last: u64,
}

impl Scope {
    #[must_use]
    pub fn new(realm: Arc<Realm>, pools: Box<[Arc<PoolShared>]>) -> Self {
        Self {
            realm,
            pools,
            met: None,
        }
    }

    /// How the client stands to its texts now; nothing while nobody knows what there is.
    pub fn standing(&mut self, session: &ClientSession, plans: &Plans, demand: Demand) -> Option<Standing> {
        let stamp = self.realm.knowledge.stamp(demand)?;
        self.standing_at(stamp, session, plans, demand)
    }

    /// The same under the knowledge of this stamp.
    pub(super) fn standing_at(
        &mut self,
        stamp: Stamp,
        session: &ClientSession,
        plans: &Plans,
        demand: Demand,
    ) -> Option<Standing> {
        let defaults = defaults(&self.pools);
        let defaults = defaults.as_ref()?;
        if demand == Demand::Anywhere {
            return Some(Standing {
                sense: plans.sense_of(&Meaning::new(stamp, defaults, session).under(demand)),
                isolation: isolation(defaults, session),
            });
        }
        if let Some(met) = &self.met
            && met.stamp == stamp
            && Arc::ptr_eq(&met.settings, &session.settings)
            && Arc::ptr_eq(&met.defaults, defaults)
        {
            return Some(met.standing);
        }
        Some(self.meet(stamp, defaults, session, plans))
    }

    /// Something has changed, or was exchanged for something that is the same.
    #[cold]
    fn meet(
        &mut self,
        stamp: Stamp,
        defaults: &Arc<Defaults>,
        session: &ClientSession,
        plans: &Plans,
    ) -> Standing {
        let same = self.met.take().filter(|met| {
            met.stamp == stamp && met.settings == session.settings && met.defaults == *defaults
        });
        let standing = match same {
            Some(met) => met.standing,
            None => Standing {
                sense: plans.sense_of(&Meaning::new(stamp, defaults, session)),
                isolation: isolation(defaults, session),
            },
        };
        self.met = Some(Met {
            stamp,
            defaults: Arc::clone(defaults),
            settings: Arc::clone(&session.settings),
            standing,
        });
        standing
    }

    /// What stands behind it.
    pub(super) fn meaning(&self, stamp: Stamp, session: &ClientSession, demand: Demand) -> Option<Meaning> {
        let defaults = defaults(&self.pools);
        Some(Meaning::new(stamp, defaults.as_deref()?, session).under(demand))
    }
}

/// What a session begins with: on the first of the servers that has told.
fn defaults(pools: &[Arc<PoolShared>]) -> Guard<Option<Arc<Defaults>>> {
    let mut all = pools.iter().map(|pool| pool.defaults.load());
    all.find(|defaults| defaults.is_some()).unwrap_or_default()
}

fn isolation(defaults: &Defaults, session: &ClientSession) -> Isolation {
    match session.settings.value("default_transaction_isolation") {
        Some(level) if level.eq_ignore_ascii_case("serializable") => Isolation::Serializable,
        Some(_) => Isolation::Other,
        None => defaults.isolation,
    }
}

impl Meaning {
    fn under(self, demand: Demand) -> Self {
        Self {
            path: demand.path(&self.path).into(),
            ..self
        }
    }

    /// What a text means under a client's own settings, and what it begins with where it has none.
    fn new(stamp: Stamp, defaults: &Defaults, session: &ClientSession) -> Self {
        let set = |name: &str| session.settings.value(name);
        let user = set("role").filter(|role| *role != "none");
        let user = user.or_else(|| set("session_authorization"));
        let is_usual = |name, usual: &str, default: bool| {
            set(name).map_or(default, |value| value.eq_ignore_ascii_case(usual))
        };
        let is_standard = is_usual("standard_conforming_strings", "on", defaults.is_standard)
            && is_usual("client_encoding", "UTF8", defaults.is_standard);
        Self {
            stamp,
            path: set("search_path").unwrap_or(&defaults.search_path).into(),
            user: user.unwrap_or(&defaults.user).into(),
            spelling: if is_standard {
                Spelling::Standard
            } else {
                Spelling::Other
            },
        }
    }
}

impl Senses {
    pub(super) fn of(&self, meaning: &Meaning) -> Sense {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let number = match known.by_meaning.get(meaning) {
            Some(number) => *number,
            None => known.add(meaning.clone()),
        };
        Sense {
            number,
            spelling: meaning.spelling,
        }
    }

    /// What stands behind the numbers, for the console.
    pub(super) fn meanings(&self) -> HashMap<u64, Meaning> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let turned = known.by_meaning.iter();
        turned
            .map(|(meaning, number)| (*number, meaning.clone()))
            .collect()
    }
}

impl Numbers {
    /// A meaning that was forgotten gets another number when it is met again: its plans are made again.
    fn add(&mut self, meaning: Meaning) -> u64 {
        if self.by_meaning.len() >= SENSES_MAX {
            self.by_meaning.clear();
        }
        self.last += 1;
        self.by_meaning.insert(meaning, self.last);
        self.last
    }
}

/// Users and search paths of all databases, mostly few. When a catalog has changed all begin anew.
const SENSES_MAX: usize = 4_096;
