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

use foldhash::fast::RandomState;
use memchr::memmem::Finder;

use crate::plan::{Literals, Normaliser, Plan, Reason, ReasonKind};
use crate::pool::knowledge::{Demand, id_of};
use crate::pool::shared::add;
use crate::protocol::SqlState;
use crate::session::ClientSession;
use crate::session::directive;

use super::planner::{Job, Planner};
use super::planning::Answer;
use sense::Senses;

mod sense;
#[cfg(test)]
mod tests;

pub use sense::{Meaning, Scope, Sense, Standing};

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
    /// Of statements that clients have prepared, each in the place that its id tells.
    prepared: Box<[Option<Prepared>]>,
    /// By the text without its literals.
    lifted: HashMap<u64, Arc<Entry>, RandomState>,
    bytes: usize,
    normaliser: Normaliser,
}

/// One plan, and what it is the plan of.
#[derive(Debug)]
struct Entry {
    hash: u64,
    sense: Sense,
    /// The text, or what is left of it without its literals.
    text: Box<[u8]>,
    plan: Arc<Plan>,
    voice: Voice,
}

/// The plan of a prepared statement, whose text never changes.
#[derive(Debug)]
struct Prepared {
    statement: u64,
    sense: Sense,
    plan: Arc<Plan>,
    voice: Voice,
}

/// Whether a text may say itself where it wants to go. That is known of the very text alone: what has no literals any more has no
/// comments either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    Silent,
    MaySay,
}

/// A text and what it means there.
#[derive(Clone, Copy)]
struct Question<'a> {
    sense: Sense,
    text: &'a [u8],
}

impl<'a> Question<'a> {
    /// The same without literals; a text that has none to be known by stays as it is.
    fn general(self, normaliser: &'a mut Normaliser) -> Self {
        Self {
            text: normaliser
                .normalise(self.text, self.sense.spelling)
                .unwrap_or(self.text),
            ..self
        }
    }
}

impl Entry {
    fn new(hash: u64, question: Question<'_>, plan: Arc<Plan>, voice: Voice) -> Self {
        Self {
            hash,
            sense: question.sense,
            text: question.text.into(),
            plan,
            voice,
        }
    }

    fn answers(&self, hash: u64, question: Question<'_>) -> bool {
        self.hash == hash && self.sense == question.sense && *self.text == *question.text
    }

    fn footprint(&self) -> usize {
        size_of::<Self>() + self.text.len() + self.plan.footprint()
    }
}

/// What all workers share.
#[derive(Debug, Default)]
pub struct SharedPlans {
    planner: Planner,
    senses: Senses,
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
        hasher.write_u64(question.sense.number);
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

    /// The first `max` of them, of clients whose settings still have a number.
    #[must_use]
    pub fn list(&self, max: usize) -> Vec<Listed> {
        let meanings = self.senses.meanings();
        let mut listed = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let known = shard.known.values().filter_map(|entry| {
                let meaning = meanings.get(&entry.sense.number)?;
                Some(Listed {
                    realm: id_of(meaning.stamp),
                    search_path: meaning.path.clone(),
                    user: meaning.user.clone(),
                    text: shown(&entry.text),
                    plan: Arc::clone(&entry.plan),
                })
            });
            listed.extend(known.take(max - listed.len()));
        }
        listed
    }

    /// Takes up the plan of a text: that of all texts which differ in their literals alone, unless those have decided.
    pub fn take_up(&self, sense: Sense, text: &[u8], plan: &Arc<Plan>) {
        let question = Question { sense, text };
        match plan.literals() {
            Literals::Fixed => self.learn(question, Arc::clone(plan)),
            Literals::Free => self.learn(question.general(&mut Normaliser::new()), Arc::clone(plan)),
        }
    }

    fn learn(&self, question: Question<'_>, plan: Arc<Plan>) {
        let hash = self.hash(question);
        let entry = Arc::new(Entry::new(hash, question, plan, Voice::Silent));
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
                prepared: (0..PREPARED_MAX).map(|_| None).collect(),
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

    /// Whether a text that is not known may say where it wants to go.
    #[must_use]
    pub fn voice_of(&self, text: &[u8]) -> Voice {
        if directive::may_be_set(text) || self.names_us(text) {
            Voice::MaySay
        } else {
            Voice::Silent
        }
    }

    /// The number of a meaning.
    #[must_use]
    pub fn sense_of(&self, meaning: &Meaning) -> Sense {
        self.shared.senses.of(meaning)
    }

    /// What `look` sees in the plan of a text, if there is one.
    pub fn find<T>(&self, sense: Sense, text: &[u8], look: impl FnOnce(&Arc<Plan>, Voice) -> T) -> Option<T> {
        let own = &mut *self.own.borrow_mut();
        let question = Question { sense, text };
        let hash = self.shared.hash(question);
        let place = usize::try_from(hash).unwrap_or(usize::MAX) % EXACT_MAX;
        if let Some(Some(entry)) = own.exact.get(place)
            && entry.answers(hash, question)
        {
            add(&self.hits, 1);
            return Some(look(&entry.plan, entry.voice));
        }
        let plan = self.find_lifted(own, hash, question)?;
        add(&self.hits, 1);
        let voice = self.voice_of(text);
        let seen = look(&plan, voice);
        own.remember(place, hash, question, plan, voice);
        Some(seen)
    }

    /// The same for a prepared statement with this text.
    pub fn find_prepared<T>(
        &self,
        sense: Sense,
        statement: u64,
        text: &[u8],
        look: impl FnOnce(&Arc<Plan>, Voice) -> T,
    ) -> Option<T> {
        let place = usize::try_from(statement).unwrap_or(usize::MAX) % PREPARED_MAX;
        if let Some(Some(known)) = self.own.borrow().prepared.get(place)
            && known.statement == statement
            && known.sense == sense
        {
            add(&self.hits, 1);
            return Some(look(&known.plan, known.voice));
        }
        let (plan, voice) = self.find(sense, text, |plan, voice| (Arc::clone(plan), voice))?;
        let seen = look(&plan, voice);
        if let Some(slot) = self.own.borrow_mut().prepared.get_mut(place) {
            *slot = Some(Prepared {
                statement,
                sense,
                plan,
                voice,
            });
        }
        Some(seen)
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
    pub fn learn_refusal(&self, sense: Sense, text: &[u8], code: SqlState) {
        let Some(known) = self.find(sense, text, |plan, _| Arc::clone(plan)) else {
            return;
        };
        let own = &mut *self.own.borrow_mut();
        own.forget(&known);
        let plan = Arc::new(known.refused(code.as_str()));
        let asked = Question { sense, text };
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
    pub fn ask(&self, scope: &mut Scope, session: &ClientSession, wanted: Wanted, waker: &Waker) -> Asking {
        let Wanted { text, demand } = wanted;
        let Some(known) = scope.realm.knowledge.known(demand) else {
            return Asking::Refused;
        };
        // It is to be found by the number that the client looks for.
        let standing = scope.standing_at(known.stamp, session, self, demand);
        let meaning = scope.meaning(known.stamp, session, demand);
        let (Some(standing), Some(meaning)) = (standing, meaning) else {
            return Asking::Refused;
        };
        self.shared.counts.misses.fetch_add(1, Ordering::Relaxed);
        let answer = Answer::new(waker);
        let job = Job {
            text,
            sense: standing.sense,
            meaning,
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
    fn remember(&mut self, place: usize, hash: u64, question: Question<'_>, plan: Arc<Plan>, voice: Voice) {
        let Some(seen) = self.seen.get_mut(place) else {
            return;
        };
        if std::mem::replace(seen, hash) != hash || question.text.len() > EXACT_LEN_MAX {
            return;
        }
        if let Some(slot) = self.exact.get_mut(place) {
            *slot = Some(Arc::new(Entry::new(hash, question, plan, voice)));
        }
    }

    /// No text is found any more that has this plan, unless by what it is without its literals.
    fn forget(&mut self, plan: &Arc<Plan>) {
        for slot in &mut self.exact {
            if slot.as_ref().is_some_and(|entry| Arc::ptr_eq(&entry.plan, plan)) {
                *slot = None;
            }
        }
        for slot in &mut self.prepared {
            if slot.as_ref().is_some_and(|known| Arc::ptr_eq(&known.plan, plan)) {
                *slot = None;
            }
        }
    }
}

/// Makes the plan of a job, and puts it where it is found. Runs on a thread with the stack that it takes.
pub(super) fn carry_out(job: &Job) {
    let plan = Arc::new(job.plan());
    job.plans.take_up(job.sense, &job.text, &plan);
    job.answer.give(plan);
}

/// There is no plan of a text: it goes to the primary.
pub(super) fn give_up(job: &Job) {
    let plan = Arc::new(Plan::opaque(Reason::new(ReasonKind::Unparsable, "")));
    job.plans.learn(job.question(), Arc::clone(&plan));
    job.answer.give(plan);
}

impl Job {
    fn plan(&self) -> Plan {
        let Meaning {
            path, user, spelling, ..
        } = &self.meaning;
        self.known.plan(&self.text, path, user, *spelling)
    }

    fn question(&self) -> Question<'_> {
        Question {
            sense: self.sense,
            text: &self.text,
        }
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
/// Statements whose plans a worker finds by their ids: those that many clients have prepared, or one client uses over and over.
const PREPARED_MAX: usize = 1_024;
