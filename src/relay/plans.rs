//! Plans of texts, found by the text. A text that was seen before is not parsed again, and neither is one that differs from it in
//! its literals alone.
//!
//! Each worker has a part of its own, which no lock guards; what it lacks it looks for in the part that all share, and what that
//! lacks is planned on a thread beside the workers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use arc_swap::Guard;
use foldhash::fast::RandomState;
use memchr::memmem::Finder;

use crate::plan::{Literals, Normaliser, Plan, Reason, ReasonKind, Spelling};
use crate::pool::cluster::Realm;
use crate::pool::knowledge::{Defaults, Demand, Isolation, id_of};
use crate::pool::shared::{PoolShared, add};
use crate::protocol::SqlState;
use crate::session::ClientSession;

use super::planner::{Job, Planner};
use super::planning::Answer;

/// Under what a client's texts are planned, beside what it sets itself.
#[derive(Debug)]
pub struct Scope {
    /// What its database has.
    pub realm: Arc<Realm>,
    /// The pools of its user on the servers: they know what a session begins with there.
    pub pools: Box<[Arc<PoolShared>]>,
}

impl Scope {
    /// Whether a session's transactions are serializable unless it says otherwise.
    #[must_use]
    pub fn is_serializable(&self) -> bool {
        self.defaults()
            .as_ref()
            .is_some_and(|defaults| defaults.isolation == Isolation::Serializable)
    }

    /// Whether nothing can be planned, as nobody knows what there is.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.realm.knowledge.stamp(Demand::Current).is_none() || self.defaults().is_none()
    }

    /// What a session begins with: on the first of the servers that has told.
    fn defaults(&self) -> Guard<Option<Arc<Defaults>>> {
        let mut all = self.pools.iter().map(|pool| pool.defaults.load());
        all.find(|defaults| defaults.is_some()).unwrap_or_default()
    }
}

/// A worker's part.
#[derive(Debug)]
pub struct Plans {
    shared: Arc<SharedPlans>,
    own: RefCell<Own>,
    our_name: Finder<'static>,
    hits: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Own {
    /// By the very text, each in the place that its hash tells: the later takes the place of the earlier.
    exact: Box<[Option<Arc<Entry>>]>,
    /// Hashes of texts that were seen once: the second time they get a place. So texts that never come again take none.
    seen: Box<[u64]>,
    /// By the text without its literals.
    lifted: HashMap<u64, Arc<Entry>, RandomState>,
    bytes: usize,
    normaliser: Normaliser,
}

/// One plan, and what it is the plan of.
#[derive(Debug)]
struct Entry {
    hash: u64,
    /// Which knowledge of which database it rests on.
    stamp: Stamp,
    path: Box<str>,
    user: Box<str>,
    spelling: Spelling,
    /// The text, or what is left of it without its literals.
    text: Box<[u8]>,
    plan: Arc<Plan>,
}

/// Changes with whatever plans depend on beside text and path; unique in the process.
type Stamp = u64;

/// A text and what it means there.
#[derive(Clone, Copy)]
struct Question<'a> {
    stamp: Stamp,
    path: &'a str,
    user: &'a str,
    spelling: Spelling,
    text: &'a [u8],
}

impl<'a> Question<'a> {
    fn under(self, demand: Demand) -> Self {
        Self {
            path: demand.path(self.path),
            ..self
        }
    }

    /// The same without literals; a text that has none to be known by stays as it is.
    fn general(self, normaliser: &'a mut Normaliser) -> Self {
        Self {
            text: normaliser
                .normalise(self.text, self.spelling)
                .unwrap_or(self.text),
            ..self
        }
    }
}

impl Entry {
    fn new(hash: u64, question: Question<'_>, plan: Arc<Plan>) -> Self {
        Self {
            hash,
            stamp: question.stamp,
            path: question.path.into(),
            user: question.user.into(),
            spelling: question.spelling,
            text: question.text.into(),
            plan,
        }
    }

    fn answers(&self, hash: u64, question: Question<'_>) -> bool {
        self.hash == hash
            && self.stamp == question.stamp
            && *self.path == *question.path
            && *self.user == *question.user
            && self.spelling == question.spelling
            && *self.text == *question.text
    }

    fn footprint(&self) -> usize {
        size_of::<Self>() + self.text.len() + self.path.len() + self.user.len() + self.plan.footprint()
    }
}

/// What all workers share.
#[derive(Debug, Default)]
pub struct SharedPlans {
    planner: Planner,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    pub counts: Counts,
}

#[derive(Debug, Default)]
struct Shard {
    known: HashMap<u64, Arc<Entry>, RandomState>,
    bytes: usize,
}

/// For the statistics.
#[derive(Debug, Default)]
pub struct Counts {
    /// Texts that no worker had a plan for.
    pub misses: AtomicU64,
    /// Those that had one, as each worker counts them.
    hits: Mutex<Vec<Arc<AtomicU64>>>,
}

impl Counts {
    /// A counter for one more worker.
    fn hit_counter(&self) -> Arc<AtomicU64> {
        let counter = Arc::default();
        let mut all = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::clone(&counter));
        counter
    }

    /// Texts that had a plan, of all workers.
    #[must_use]
    pub fn hits(&self) -> u64 {
        let all = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// A plan that is shared, for the console.
#[derive(Debug)]
pub struct Listed {
    /// The id of its database's knowledge.
    pub realm: u64,
    pub search_path: Box<str>,
    pub user: Box<str>,
    /// Without its literals, where they do not matter.
    pub text: Box<str>,
    pub plan: Arc<Plan>,
}

/// What a plan is asked for.
#[derive(Debug)]
pub struct Wanted {
    pub text: Box<[u8]>,
    pub demand: Demand,
}

/// What became of asking for a plan.
#[derive(Debug)]
pub enum Asking {
    /// It is being made.
    Waits(Arc<Answer>),
    /// Too many are.
    Refused,
}

impl SharedPlans {
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    fn hash(&self, question: Question<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(question.stamp);
        hasher.write_u8(question.spelling as u8);
        hasher.write(question.path.as_bytes());
        hasher.write(question.user.as_bytes());
        hasher.write(question.text);
        hasher.finish()
    }

    fn shard(&self, hash: u64) -> Option<&Mutex<Shard>> {
        self.shards.get(usize::try_from(hash >> 32).unwrap_or(0) % SHARDS)
    }

    fn find(&self, hash: u64, question: Question<'_>) -> Option<Arc<Entry>> {
        let shard = self.shard(hash)?.lock().unwrap_or_else(PoisonError::into_inner);
        let found = shard.known.get(&hash)?;
        found.answers(hash, question).then(|| Arc::clone(found))
    }

    /// How many plans are shared.
    #[must_use]
    pub fn entries(&self) -> usize {
        let count = |shard: &Mutex<Shard>| shard.lock().unwrap_or_else(PoisonError::into_inner).known.len();
        self.shards.iter().map(count).sum()
    }

    /// The first `max` of them.
    #[must_use]
    pub fn list(&self, max: usize) -> Vec<Listed> {
        let mut listed = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            listed.extend(shard.known.values().take(max - listed.len()).map(|entry| Listed {
                realm: id_of(entry.stamp),
                search_path: entry.path.clone(),
                user: entry.user.clone(),
                text: shown(&entry.text),
                plan: Arc::clone(&entry.plan),
            }));
        }
        listed
    }

    /// Takes up a plan that was made.
    fn learn(&self, question: Question<'_>, plan: Arc<Plan>) {
        let hash = self.hash(question);
        let entry = Arc::new(Entry::new(hash, question, plan));
        let Some(shard) = self.shard(hash) else {
            return;
        };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let Shard { known, bytes } = &mut *shard;
        put(known, bytes, entry, SHARD_BYTES_MAX);
    }
}

/// Puts an entry into a map of bounded size; when that is full, it begins anew.
fn put(known: &mut HashMap<u64, Arc<Entry>, RandomState>, bytes: &mut usize, entry: Arc<Entry>, max: usize) {
    if *bytes + entry.footprint() > max {
        known.clear();
        *bytes = 0;
    }
    *bytes += entry.footprint();
    if let Some(old) = known.insert(entry.hash, entry) {
        *bytes -= old.footprint();
    }
}

impl Plans {
    #[must_use]
    pub fn new(shared: &Arc<SharedPlans>) -> Self {
        Self {
            hits: shared.counts.hit_counter(),
            shared: Arc::clone(shared),
            own: RefCell::new(Own {
                exact: vec![None; EXACT_MAX].into(),
                seen: vec![0; EXACT_MAX].into(),
                lifted: HashMap::default(),
                bytes: 0,
                normaliser: Normaliser::new(),
            }),
            our_name: Finder::new("pgweir"),
        }
    }

    /// Whether a text has our name in it: it may say where it wants to go.
    #[must_use]
    pub fn names_us(&self, text: &[u8]) -> bool {
        self.our_name.find(text).is_some()
    }

    /// The plan of a text for a client, if there is one.
    pub fn find(
        &self,
        scope: &Scope,
        session: &ClientSession,
        text: &[u8],
        demand: Demand,
    ) -> Option<Arc<Plan>> {
        let own = &mut *self.own.borrow_mut();
        let defaults = scope.defaults();
        let question = question(
            scope.realm.knowledge.stamp(demand)?,
            defaults.as_deref()?,
            session,
            text,
        )
        .under(demand);
        let hash = self.shared.hash(question);
        let place = usize::try_from(hash).unwrap_or(usize::MAX) % EXACT_MAX;
        if let Some(Some(entry)) = own.exact.get(place)
            && entry.answers(hash, question)
        {
            add(&self.hits, 1);
            return Some(Arc::clone(&entry.plan));
        }
        let plan = self.find_lifted(own, hash, question)?;
        add(&self.hits, 1);
        own.remember(place, hash, question, &plan);
        Some(plan)
    }

    fn find_lifted(&self, own: &mut Own, exact: u64, question: Question<'_>) -> Option<Arc<Plan>> {
        let Own {
            normaliser,
            lifted,
            bytes,
            ..
        } = own;
        let general = question.general(normaliser);
        let hash = self.shared.hash(general);
        if let Some(entry) = lifted.get(&hash)
            && entry.answers(hash, general)
        {
            return Some(Arc::clone(&entry.plan));
        }
        if let Some(entry) = self.shared.find(hash, general) {
            let plan = Arc::clone(&entry.plan);
            put(lifted, bytes, entry, OWN_BYTES_MAX);
            return Some(plan);
        }
        // Where a literal has decided, the text alone is known.
        let entry = self.shared.find(exact, question)?;
        Some(Arc::clone(&entry.plan))
    }

    /// A replica has refused a text, which has a plan: from now on this worker sends it to the primary, and those that have not
    /// met it yet.
    pub fn learn_refusal(&self, scope: &Scope, session: &ClientSession, text: &[u8], code: SqlState) {
        let Some(known) = self.find(scope, session, text, Demand::Current) else {
            return;
        };
        let defaults = scope.defaults();
        let stamp = scope.realm.knowledge.stamp(Demand::Current);
        let (Some(stamp), Some(defaults)) = (stamp, defaults.as_deref()) else {
            return;
        };
        let plan = Arc::new(known.refused(code.as_str()));
        let own = &mut *self.own.borrow_mut();
        let asked = question(stamp, defaults, session, text);
        let place = usize::try_from(self.shared.hash(asked)).unwrap_or(usize::MAX) % EXACT_MAX;
        if let Some(slot) = own.exact.get_mut(place) {
            *slot = None;
        }
        let key = match plan.literals() {
            Literals::Fixed => asked,
            Literals::Free => asked.general(&mut own.normaliser),
        };
        if let Some(old) = own.lifted.remove(&self.shared.hash(key)) {
            own.bytes -= old.footprint();
        }
        self.shared.learn(key, plan);
    }

    /// Has a plan made of a text. Whoever waits for it looks for it again afterwards.
    pub fn ask(&self, scope: &Scope, session: &ClientSession, wanted: Wanted, waker: &Waker) -> Asking {
        let Wanted { text, demand } = wanted;
        let defaults = scope.defaults();
        let (Some(known), Some(defaults)) = (scope.realm.knowledge.known(demand), defaults.as_deref()) else {
            return Asking::Refused;
        };
        self.shared.counts.misses.fetch_add(1, Ordering::Relaxed);
        let asked = question(known.stamp, defaults, session, &text).under(demand);
        let (path, user, spelling) = (asked.path.into(), asked.user.into(), asked.spelling);
        let answer = Answer::new(waker);
        let job = Job {
            text,
            path,
            user,
            spelling,
            known,
            answer: Arc::clone(&answer),
            plans: Arc::clone(&self.shared),
        };
        if self.shared.planner.take(job) {
            Asking::Waits(answer)
        } else {
            Asking::Refused
        }
    }
}

impl Own {
    /// A text that comes for the second time is found at once from then on.
    fn remember(&mut self, place: usize, hash: u64, question: Question<'_>, plan: &Arc<Plan>) {
        let Some(seen) = self.seen.get_mut(place) else {
            return;
        };
        if std::mem::replace(seen, hash) != hash || question.text.len() > EXACT_LEN_MAX {
            return;
        }
        if let Some(slot) = self.exact.get_mut(place) {
            *slot = Some(Arc::new(Entry::new(hash, question, Arc::clone(plan))));
        }
    }
}

/// Makes the plan of a job, and puts it where it is found. Runs on a thread with the stack that it takes.
pub(super) fn carry_out(job: &Job) {
    let plan = Arc::new(job.known.plan(&job.text, &job.path, &job.user, job.spelling));
    let question = job.question();
    match plan.literals() {
        Literals::Fixed => job.plans.learn(question, Arc::clone(&plan)),
        Literals::Free => {
            let mut normaliser = Normaliser::new();
            job.plans
                .learn(question.general(&mut normaliser), Arc::clone(&plan));
        }
    }
    job.answer.give(plan);
}

/// There is no plan of a text: it goes to the primary.
pub(super) fn give_up(job: &Job) {
    let plan = Arc::new(Plan::opaque(Reason::new(ReasonKind::Unparsable, "")));
    job.plans.learn(job.question(), Arc::clone(&plan));
    job.answer.give(plan);
}

impl Job {
    fn question(&self) -> Question<'_> {
        Question {
            stamp: self.known.stamp,
            path: &self.path,
            user: &self.user,
            spelling: self.spelling,
            text: &self.text,
        }
    }
}

/// What a text means to a client: under its own settings, and what it begins with where it has none.
fn question<'a>(
    stamp: Stamp,
    defaults: &'a Defaults,
    session: &'a ClientSession,
    text: &'a [u8],
) -> Question<'a> {
    let set = |name: &str| {
        let settings = &session.settings;
        if settings.is_empty() {
            None
        } else {
            settings.value(name)
        }
    };
    let user = set("role").filter(|role| *role != "none");
    let user = user.or_else(|| set("session_authorization"));
    let is_usual = |name, usual: &str, default: bool| {
        set(name).map_or(default, |value| value.eq_ignore_ascii_case(usual))
    };
    let is_standard = is_usual("standard_conforming_strings", "on", defaults.is_standard)
        && is_usual("client_encoding", "UTF8", defaults.is_standard);
    Question {
        stamp,
        path: set("search_path").unwrap_or(&defaults.search_path),
        user: user.unwrap_or(&defaults.user),
        spelling: if is_standard {
            Spelling::Standard
        } else {
            Spelling::Other
        },
        text,
    }
}

/// As much of a text as the console shows.
fn shown(text: &[u8]) -> Box<str> {
    let text = text.get(..SHOWN_MAX).unwrap_or(text);
    String::from_utf8_lossy(text).into()
}

const SHARDS: usize = 16;
/// Bytes of a text that the console shows: enough to recognise it.
const SHOWN_MAX: usize = 1024;
/// Plans and texts that workers share: 16 MB in all.
const SHARD_BYTES_MAX: usize = 1024 * 1024;
/// What a worker has of them: 8 MB.
const OWN_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Texts that a worker finds at once: with [`EXACT_LEN_MAX`], at most 16 MB.
const EXACT_MAX: usize = 2048;
const EXACT_LEN_MAX: usize = 8 * 1024;
