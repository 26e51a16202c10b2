//! Where a client's batch goes: to the primary, or to a replica that is fresh enough.

pub mod trace;

use std::rc::Rc;
use std::sync::Arc;

use crate::plan::{Access, Class, Plan};
use crate::pool::cluster::Realm;
use crate::pool::listener::Servers;
use crate::pool::local::LocalPool;
use crate::pool::settings::PoolMode;
use crate::protocol::{HEAD_LEN, Head, Report, SqlState, tag};
use crate::session::ClientSession;
use crate::session::batch::{self, Asked, Extent};
use crate::session::client::Block;
use crate::topology::{Choice, Consistency, Does, Reads, Sight, Use, View, Why, choice};

use super::plans::{Plans, Scope};
use trace::{Cause, Step};

/// What a client of a database with replicas has beside its pool. Boxed: others have none.
#[derive(Debug)]
pub struct Routing {
    realm: Arc<Realm>,
    /// This user's pools, by the place of their server.
    pools: Box<[Rc<LocalPool>]>,
    scope: Scope,
    sight: Sight,
    refuge: Refuge,
    /// Plans that were asked for since the batch began.
    asked: u32,
    /// Where it is served, since its batch was sent on its way, and what is to be remembered of that.
    way: Option<Way>,
    used: Option<Use>,
    /// The batch, for as long as another server could carry it out instead.
    again: Vec<u8>,
    /// How often a server was lost with it.
    losses: u32,
    /// Since when its batch waits for a primary; microseconds.
    vacant_since: Option<u64>,
    /// When a read may stand by again; microseconds.
    stands_by_from: u64,
    /// Where the last batch went.
    steps: Vec<Step>,
}

/// Whether the next batch is free to go anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refuge {
    None,
    /// A replica has failed it, with this code if it said something: it is carried out on the primary.
    Primary(Option<SqlState>),
    /// What is known of the replica is not known of the connection there is: so is this one.
    Unproven,
    /// The primary at this place was lost with it: it is carried out once that, or another, is heard of.
    Lost(usize),
}

/// What becomes of a batch.
#[derive(Debug)]
pub enum Route {
    Go(Way, Cause),
    /// Its end has not come.
    Cut,
    /// A text has not been planned: the place of it in the batch.
    Unplanned(Box<[u8]>),
    /// A replica may well take it, once the servers were asked how far they have come.
    Soon,
    /// It waits for a primary, the one at this place being lost.
    Await(usize),
}

/// Where to, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The server's place; none: no server may take it.
    pub place: Option<usize>,
    pub lane: Lane,
    /// Whether it is a transaction by itself that only reads, which may as well be carried out elsewhere.
    pub is_alone: bool,
    pub is_replica: bool,
}

/// What may follow a batch to its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Whatever the client sends.
    Open,
    /// As many bytes as were judged: a replica is given nothing that was not, and what may have to be carried out again goes alone.
    Judged(usize),
}

/// What a batch does, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    /// It only reads.
    Reads,
    /// It begins a transaction that only reads.
    Begins,
}

impl Routing {
    #[must_use]
    pub fn new(realm: Arc<Realm>, pools: Box<[Rc<LocalPool>]>) -> Option<Box<Self>> {
        pools.first()?;
        Some(Box::new(Self {
            scope: Scope {
                realm: Arc::clone(&realm),
                pools: pools.iter().map(|pool| Arc::clone(&pool.shared)).collect(),
            },
            realm,
            pools,
            sight: Sight::default(),
            refuge: Refuge::None,
            asked: 0,
            way: None,
            used: None,
            again: Vec::new(),
            losses: 0,
            vacant_since: None,
            stands_by_from: 0,
            steps: Vec::new(),
        }))
    }

    /// The pool at a place.
    #[must_use]
    pub fn pool(&self, place: usize) -> Option<&Rc<LocalPool>> {
        self.pools.get(place)
    }

    /// For whoever listens.
    #[must_use]
    pub fn servers(&self) -> Servers {
        Servers {
            realm: Arc::clone(&self.realm),
            pools: self.pools.clone(),
        }
    }

    /// The pools of servers that may be asked what a session begins with: the primary's, then those of replicas that take reads.
    #[must_use]
    pub fn hosts(&self) -> Vec<Rc<LocalPool>> {
        let places = self.realm.cluster.view().hosts();
        places.into_iter().filter_map(|place| self.pool(place).map(Rc::clone)).collect()
    }

    /// Decides for the batch at the beginning of `input`.
    pub fn decide(
        &mut self,
        session: &ClientSession,
        mode: PoolMode,
        input: &[u8],
        plans: &Plans,
        now: u64,
    ) -> Route {
        match std::mem::replace(&mut self.refuge, Refuge::None) {
            Refuge::None => {}
            Refuge::Primary(code) => return Route::Go(self.to_primary(), Cause::Refused(code)),
            Refuge::Unproven => return Route::Go(self.to_primary(), Cause::Read(Why::NotReplayed)),
            Refuge::Lost(place) => return Route::Await(place),
        }
        self.steps.clear();
        if let Some(cause) = self.stands_against(session, mode) {
            return Route::Go(self.to_primary(), cause);
        }
        let len = match batch::extent(input) {
            Extent::Whole(len) => len,
            Extent::Cut if input.len() < BATCH_LEN_MAX => return Route::Cut,
            Extent::Cut | Extent::Endless => return Route::Go(self.to_primary(), Cause::Unjudged),
        };
        let nature = match self.judge(session, input.get(..len).unwrap_or_default(), plans) {
            Ok(nature) => nature,
            Err(Unfit::Not(cause)) => {
                self.asked = 0;
                return Route::Go(self.to_primary(), cause);
            }
            Err(Unfit::Unplanned(text)) if self.asked < ASKED_MAX => {
                self.asked += 1;
                return Route::Unplanned(text);
            }
            Err(Unfit::Unplanned(_)) => {
                self.asked = 0;
                return Route::Go(self.to_primary(), Cause::Unplanned);
            }
        };
        self.asked = 0;
        let view = self.realm.cluster.view();
        let Choice { server, why } = self.choose(&view);
        if why == Why::NotReplayed {
            self.realm.cluster.await_replay(now);
            if now >= self.stands_by_from && server.is_some() && choice::is_near(&view, &self.sight) {
                self.stands_by_from = now.saturating_add(STANDS_BY_PAUSE);
                return Route::Soon;
            }
        }
        let is_alone = nature == Nature::Reads && session.block == Block::None;
        let is_replica = server.is_none() || server != view.primary;
        let way = Way {
            place: server,
            lane: if is_replica || is_alone {
                Lane::Judged(len)
            } else {
                Lane::Open
            },
            is_alone,
            is_replica,
        };
        Route::Go(way, Cause::Read(why))
    }

    /// Why nothing that comes now may go to a replica, whatever it is.
    fn stands_against(&self, session: &ClientSession, mode: PoolMode) -> Option<Cause> {
        match session.block {
            Block::None => {}
            Block::Begun(modes) if modes.only_reads() => {}
            Block::Begun(_) => return Some(Cause::Transaction),
            Block::Failed => return Some(Cause::Failed),
        }
        if mode == PoolMode::Session {
            return Some(Cause::SessionMode);
        }
        if self.scope.is_blind() {
            return Some(Cause::Blind);
        }
        if session.settings.is_empty() {
            return None;
        }
        let is = |name, wanted: &str| {
            let value = session.settings.value(name);
            value.is_some_and(|value| value.eq_ignore_ascii_case(wanted))
        };
        if is("pgweir.role", "primary") {
            return Some(Cause::Directive);
        }
        is("default_transaction_isolation", "serializable").then_some(Cause::Serializable)
    }

    fn choose(&mut self, view: &View) -> Choice {
        let pools = &self.pools;
        let load = |place: usize| pools.get(place).map_or(0, |pool| pool.shared.active());
        choice::choose(view, self.realm.cluster.rules(), &mut self.sight, &self.realm.cluster.turn, &load)
    }

    /// What may follow in a transaction on a replica, at the beginning of `input`: how much was judged to be harmless there.
    ///
    /// # Errors
    /// It may not.
    pub fn admit(&mut self, session: &ClientSession, input: &[u8], plans: &Plans) -> Result<Admitted, Refused> {
        let len = match batch::extent(input) {
            Extent::Whole(len) => len,
            Extent::Cut if input.len() < BATCH_LEN_MAX => return Ok(Admitted::Cut),
            Extent::Cut => return Err(Refused::TooLong),
            Extent::Endless => return Ok(Admitted::Bytes(batch::first(input))),
        };
        let batch = input.get(..len).unwrap_or_default();
        for asked in batch::asked(batch, &session.statements) {
            match self.plan_of(session, asked, plans) {
                Planned::As(plan) if !may_follow(&plan) => return Err(Refused::Writes(plan)),
                Planned::As(_) => {}
                Planned::Unknown => return Err(Refused::Unknown),
                Planned::Not(text) => return Ok(Admitted::Unplanned(text)),
            }
        }
        Ok(Admitted::Bytes(len))
    }

    /// What a batch that only reads does.
    fn judge(&self, session: &ClientSession, batch: &[u8], plans: &Plans) -> Result<Nature, Unfit> {
        let (mut has_read, mut has_begun) = (false, false);
        let mut last = None;
        for asked in batch::asked(batch, &session.statements) {
            let plan = match self.plan_of(session, asked, plans) {
                Planned::As(plan) => plan,
                Planned::Unknown => return Err(Unfit::Not(Cause::Unknown)),
                Planned::Not(text) => return Err(Unfit::Unplanned(text)),
            };
            match plan.class() {
                Class::Read => has_read = true,
                Class::Begin(Access::ReadOnly) => has_begun = true,
                Class::Modes(Access::ReadOnly) if has_begun || session.is_begun() => {}
                Class::Session | Class::Within if session.is_begun() => {}
                _ => return Err(Unfit::Not(Cause::Does(plan))),
            }
            last = Some(plan);
        }
        match (has_read, has_begun) {
            (true, false) => Ok(Nature::Reads),
            (true, true) => Ok(Nature::Begins),
            // Nothing tells what the rest of its transaction does.
            (false, _) => Err(Unfit::Not(last.map_or(Cause::Unknown, Cause::Does))),
        }
    }

    fn plan_of(&self, session: &ClientSession, asked: Asked<'_>, plans: &Plans) -> Planned {
        let text = match asked {
            Asked::Text(text) => text,
            Asked::Statement(statement) => match statement.text() {
                Some(text) => text,
                None => return Planned::Unknown,
            },
            Asked::Unknown => return Planned::Unknown,
        };
        match plans.find(&self.scope, session, text) {
            Some(plan) => Planned::As(plan),
            None => Planned::Not(text.into()),
        }
    }

    /// The way to the primary.
    #[must_use]
    pub fn to_primary(&self) -> Way {
        Way {
            place: self.realm.cluster.view().writes_at(),
            lane: Lane::Open,
            is_alone: false,
            is_replica: false,
        }
    }

    /// The batch goes its way. What only reads is kept until something of its answer has been passed on.
    pub fn set_out(&mut self, way: Way, cause: Cause, input: &[u8], now: u64, buffer: impl FnOnce() -> Vec<u8>) {
        self.way = Some(way);
        let does = if matches!(cause, Cause::Read(_)) {
            Does::Read
        } else {
            Does::Anything
        };
        self.used = way.place.map(|place| Use::begin(place, does, &self.realm.cluster.view(), now));
        self.steps.push(Step {
            place: way.place,
            cause,
        });
        self.again.clear();
        if let Lane::Judged(len) = way.lane
            && way.is_alone
        {
            if self.again.capacity() == 0 {
                self.again = buffer();
            }
            self.again.extend_from_slice(input.get(..len).unwrap_or_default());
        }
    }

    /// How much of what the client has sent may be passed on to its server.
    #[must_use]
    pub fn judged(&self) -> usize {
        match self.way {
            Some(Way { lane: Lane::Judged(len), .. }) => len,
            Some(Way { lane: Lane::Open, .. }) | None => usize::MAX,
        }
    }

    /// So much of it was.
    pub fn on_passed(&mut self, len: usize) {
        if let Some(Way { lane: Lane::Judged(left), .. }) = &mut self.way {
            *left = left.saturating_sub(len);
        }
    }

    /// Whether what the client sends now has to be judged first.
    #[must_use]
    pub fn must_judge(&self) -> bool {
        self.judged() == 0
    }

    /// This much more was judged.
    pub fn on_judged(&mut self, len: usize) {
        if let Some(Way { lane: Lane::Judged(left), .. }) = &mut self.way {
            *left = len;
        }
    }

    /// Whether the batch could be carried out elsewhere: nothing of an answer was passed on.
    #[must_use]
    pub fn may_try_again(&self) -> bool {
        !self.again.is_empty() && self.losses < LOSSES_MAX
    }

    /// Something is passed on: the batch stays where it is. Returns the buffer.
    pub fn stay(&mut self) -> Vec<u8> {
        self.losses = 0;
        std::mem::take(&mut self.again)
    }

    /// The client's use of its server has ended, at `now`.
    pub fn on_done(&mut self, now: u64) {
        self.vacant_since = None;
        if let (Some(_), Some(used)) = (self.way.take(), self.used.take()) {
            self.losses = 0;
            self.sight.on_used(used, now);
        }
    }

    /// Whether a replica may take its next read.
    pub fn is_free(&mut self) -> bool {
        choice::is_free(&self.realm.cluster.view(), &mut self.sight)
    }

    /// Whether its batch may go through this connection. What is known of a server need not be true of one that was opened since:
    /// the server may have started anew, and be behind what it was, or be no primary any more.
    #[must_use]
    pub fn may_use(&self, connected_at: u64, is_standby: impl FnOnce() -> bool) -> bool {
        let Some(Way { place: Some(place), .. }) = self.way else {
            return true;
        };
        let view = self.realm.cluster.view();
        if view.writes_at() == Some(place) {
            let is_known = view.servers.get(place).is_none_or(|server| server.vouches_for(connected_at));
            return is_known || !is_standby();
        }
        self.realm.cluster.rules().consistency == Consistency::None
            || self.sight.allows(place, &view, connected_at)
    }

    /// The connection of a replica that there is proves nothing. False: it was none.
    pub fn turn_away(&mut self, now: u64) -> bool {
        let is_replica = self.turn_to_primary();
        if is_replica {
            self.refuge = Refuge::Unproven;
            self.realm.cluster.await_replay(now);
        }
        is_replica
    }

    /// Something was defined, altered or dropped: what is known of the database is old, until it is read again.
    pub fn on_altered(&self) {
        self.realm.knowledge.on_changed();
    }

    /// Whether its batch is at a replica.
    #[must_use]
    pub fn is_on_replica(&self) -> bool {
        self.way.is_some_and(|way| way.is_replica)
    }

    /// Something was found to be wrong with a server.
    pub fn on_sign(&self) {
        self.realm.cluster.on_sign();
    }

    /// Whether a batch that nobody may take now is to wait for a primary.
    #[must_use]
    pub fn may_await_primary(&self, cause: &Cause) -> bool {
        let is_read = matches!(cause, Cause::Read(_));
        let is_vacant = self.realm.cluster.view().writes_at().is_none();
        is_vacant && !(is_read && self.realm.cluster.rules().reads == Reads::ReplicaOnly)
    }

    /// Where its batch was to go; it does not go there.
    pub fn give_up_way(&mut self) -> Option<usize> {
        self.way.take().and_then(|way| way.place)
    }

    /// The batch waits for a primary from `now` on, if it did not before. Returns since when.
    pub fn vacant_since(&mut self, now: u64) -> u64 {
        *self.vacant_since.get_or_insert(now)
    }

    /// It does not wait any more.
    pub fn on_waited_out(&mut self) {
        self.vacant_since = None;
    }

    #[must_use]
    pub fn realm(&self) -> &Arc<Realm> {
        &self.realm
    }

    /// A replica cannot be had. False: it was none.
    pub fn turn_to_primary(&mut self) -> bool {
        let is_replica = self.is_on_replica();
        if is_replica {
            self.way = None;
            self.refuge = Refuge::Primary(None);
        }
        is_replica
    }

    /// A server has failed the batch, which goes to the primary now, or waits for one. Returns the batch.
    pub fn take_refuge(&mut self, code: Option<SqlState>) -> Vec<u8> {
        self.losses += 1;
        self.refuge = match self.way.take() {
            Some(Way { place: Some(place), is_replica: false, .. }) => Refuge::Lost(place),
            _ => Refuge::Primary(code),
        };
        std::mem::take(&mut self.again)
    }

    /// Answers a simple query for what only the pooler knows, but for its end.
    pub fn answer(&mut self, question: Question, out: &mut Vec<u8>) {
        let view = self.realm.cluster.view();
        match question {
            Question::Route => trace::route(&self.steps, &view, out),
            Question::Lsn => {
                let lsn = self.sight.position(&view).map(|lsn| lsn.to_string());
                trace::value("pgweir.lsn", lsn.as_deref(), out);
            }
        }
    }

    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }
}

/// Why a batch is not known to only read.
enum Unfit {
    Not(Cause),
    /// One of its texts has not been planned.
    Unplanned(Box<[u8]>),
}

enum Planned {
    As(Arc<Plan>),
    Unknown,
    Not(Box<[u8]>),
}

/// What may be passed on in a transaction on a replica.
#[derive(Debug)]
pub enum Admitted {
    Bytes(usize),
    Cut,
    Unplanned(Box<[u8]>),
}

/// Why something may not.
#[derive(Debug)]
pub enum Refused {
    Writes(Arc<Plan>),
    Unknown,
    TooLong,
}

/// Whether a read-only transaction on a replica can do it as well as one on the primary.
fn may_follow(plan: &Plan) -> bool {
    match plan.class() {
        Class::Read
        | Class::Session
        | Class::Within
        | Class::Begin(_)
        | Class::Modes(_)
        | Class::Prepare(_) => true,
        Class::Write | Class::Execute => false,
    }
}

/// What only the pooler knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `SHOW pgweir.route`
    Route,
    /// `SHOW pgweir.lsn`
    Lsn,
}

/// Whether a simple query asks for what only the pooler knows, and how long its message is.
#[must_use]
pub fn question(input: &[u8]) -> Option<(Question, usize)> {
    let head = Head::read_frontend(input).ok()??;
    if head.tag != tag::QUERY || head.body > QUESTION_LEN_MAX {
        return None;
    }
    let body = input.get(HEAD_LEN..head.len())?;
    let text = std::str::from_utf8(body.strip_suffix(&[0])?).ok()?;
    let mut words = text.trim_end_matches([';', ' ', '\n']).split_ascii_whitespace();
    let is_show = words.next()?.eq_ignore_ascii_case("show");
    let name = words.next().filter(|_| is_show && words.next().is_none())?;
    let question = match name {
        name if name.eq_ignore_ascii_case("pgweir.route") => Question::Route,
        name if name.eq_ignore_ascii_case("pgweir.lsn") => Question::Lsn,
        _ => return None,
    };
    Some((question, head.len()))
}

/// Such a query is short.
const QUESTION_LEN_MAX: usize = 64;

/// Nobody may take a read.
#[must_use]
pub fn nobody() -> Report {
    Report::error(SqlState::CANNOT_CONNECT_NOW, "no replica is usable, and reads may go nowhere else")
        .with_hint("Use reads = \"replica\" to read from the primary then.")
}

/// A read that has cost two servers is not tried on a third: it may be what they are lost by.
const LOSSES_MAX: u32 = 2;
/// A session whose reads have stood by in vain reads from the primary for so long; microseconds.
const STANDS_BY_PAUSE: u64 = 100_000;
/// A batch is awaited whole up to this length, to be judged. What is longer goes to the primary.
const BATCH_LEN_MAX: usize = 64 * 1024;
/// Texts of one batch that are planned before it goes to the primary unjudged.
const ASKED_MAX: u32 = 64;
