//! Where a client's batch goes: to the primary, or to a replica that is fresh enough.

mod judge;
pub mod trace;

use std::rc::Rc;
use std::sync::Arc;

use crate::pool::catalog::Catalog;
use crate::pool::cluster::Realm;
use crate::pool::knowledge::{Demand, Isolation};
use crate::pool::listener::Servers;
use crate::pool::local::LocalPool;
use crate::pool::meter::RouteRole;
use crate::pool::settings::PoolMode;
use crate::protocol::{Report, SqlState};
use crate::session::ClientSession;
use crate::session::batch::{self, Extent};
use crate::session::client::Block;
use crate::session::directive::Role;
use crate::session::question::RouteRow;
use crate::topology::{Choice, Consistency, Does, Load, Reads, Sight, Use, View, Why, choice};

use super::plans::{Plans, Scope, Sense};
pub use judge::{Admitted, Refused, nobody};
use judge::{Names, Nature, Unfit, Wish};
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
    names: Names,
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
    /// It is not carried out.
    Refused(Box<Report>),
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

impl Routing {
    #[must_use]
    pub fn new(realm: Arc<Realm>, pools: Box<[Rc<LocalPool>]>) -> Option<Box<Self>> {
        pools.first()?;
        Some(Box::new(Self {
            scope: Scope::new(
                Arc::clone(&realm),
                pools.iter().map(|pool| Arc::clone(&pool.shared)).collect(),
            ),
            realm,
            pools,
            sight: Sight::default(),
            refuge: Refuge::None,
            names: Names::Known,
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
        places
            .into_iter()
            .filter_map(|place| self.pool(place).map(Rc::clone))
            .collect()
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
        match judge::of_position(session, input) {
            None => {}
            Some(Extent::Cut) => return Route::Cut,
            Some(_) => return Route::Go(self.to_primary(), Cause::Position),
        }
        self.steps.clear();
        let wish = Wish::of(session);
        let sense = match self.fit(session, mode, wish, plans, || plans.names_us(input)) {
            Ok(sense) => sense,
            Err(cause) => return Route::Go(self.to_primary(), cause),
        };
        let len = match batch::extent(input) {
            Extent::Whole(len) => len,
            Extent::Cut if input.len() < BATCH_LEN_MAX => return Route::Cut,
            Extent::Cut | Extent::Endless => return Route::Go(self.to_primary(), Cause::Unjudged),
        };
        let batch = input.get(..len).unwrap_or_default();
        let (nature, wish) = match judge::judge(session, sense, batch, plans, wish) {
            Ok(judged) => judged,
            Err(Unfit::Unplanned(text)) if self.asked < ASKED_MAX => {
                self.asked += 1;
                return Route::Unplanned(text);
            }
            Err(unfit) => {
                self.asked = 0;
                return match unfit {
                    Unfit::Not(cause) => Route::Go(self.to_primary(), cause),
                    Unfit::Unplanned(_) => Route::Go(self.to_primary(), Cause::Unplanned),
                    Unfit::Refused(report) => Route::Refused(report),
                };
            }
        };
        self.asked = 0;
        if session.is_begun() || nature == Nature::Begins {
            self.names = judge::names_behind(session, sense, batch, plans);
        }
        let view = self.realm.cluster.view();
        let Choice { server, why } = self.choose(&view, wish);
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

    /// In which sense texts are to be read that come now. `names_us`: whether one may say itself where it wants to go.
    ///
    /// # Errors
    /// Why nothing may go to a replica, whatever it is.
    fn fit(
        &mut self,
        session: &ClientSession,
        mode: PoolMode,
        wish: Wish,
        plans: &Plans,
        names_us: impl Fn() -> bool,
    ) -> Result<Sense, Cause> {
        match session.block {
            Block::None => {}
            Block::Begun(modes) if modes.only_reads() => {}
            Block::Begun(modes)
                if modes.suit_standby() && (wish.role == Some(Role::Replica) || names_us()) => {}
            Block::Begun(_) => return Err(Cause::Transaction),
            Block::Failed => return Err(Cause::Failed),
        }
        if mode == PoolMode::Session {
            return Err(Cause::SessionMode);
        }
        if wish.role == Some(Role::Primary) && !names_us() {
            return Err(Cause::Directive);
        }
        let standing = self.scope.standing(session, plans, Demand::Current);
        let standing = standing.ok_or(Cause::Blind)?;
        match standing.isolation {
            Isolation::Serializable => Err(Cause::Serializable),
            Isolation::Other => Ok(standing.sense),
        }
    }

    fn choose(&mut self, view: &View, wish: Wish) -> Choice {
        let pools = &self.pools;
        let load = Load {
            active: &|place| pools.get(place).map_or(0, |pool| pool.shared.active()),
            has_room: &|place| pools.get(place).is_none_or(|pool| pool.has_room()),
        };
        let mut rules = self.realm.cluster.rules();
        if wish.role == Some(Role::Replica) && matches!(rules.reads, Reads::Any | Reads::Primary) {
            rules.reads = Reads::Replica;
        }
        self.sight.set_floor(wish.floor);
        choice::choose(view, rules, &mut self.sight, &self.realm.cluster.turn, load)
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
    pub fn set_out(
        &mut self,
        way: Way,
        cause: Cause,
        input: &[u8],
        now: u64,
        buffer: impl FnOnce() -> Vec<u8>,
    ) {
        self.way = Some(way);
        // What a replica lacks so far is no reason to take a read for more.
        let lacks = |code: Option<SqlState>| code.is_some_and(SqlState::is_of_definitions);
        let is_read = matches!(cause, Cause::Read(_)) || matches!(cause, Cause::Refused(code) if lacks(code));
        let does = if is_read { Does::Read } else { Does::Anything };
        let view = self.realm.cluster.view();
        self.used = way.place.map(|place| Use::begin(place, does, &view, now));
        self.count(way, &cause, &view);
        if !matches!(cause, Cause::Position) {
            self.steps.push(Step {
                place: way.place,
                cause,
            });
        }
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

    fn count(&self, way: Way, cause: &Cause, view: &View) {
        let (Some(place), Some(pool)) = (way.place, self.pools.first()) else {
            return;
        };
        let role = if view.writes_at() == Some(place) {
            RouteRole::Primary
        } else {
            RouteRole::Replica
        };
        if let Some(meter) = self.realm.meter(pool.worker.index) {
            meter.count(role, cause.index(), cause.function());
        }
    }

    /// How much of what the client has sent may be passed on to its server.
    #[must_use]
    pub fn judged(&self) -> usize {
        match self.way {
            Some(Way {
                lane: Lane::Judged(len),
                ..
            }) => len,
            Some(Way { lane: Lane::Open, .. }) | None => usize::MAX,
        }
    }

    /// So much of it was.
    pub fn on_passed(&mut self, len: usize) {
        if let Some(Way {
            lane: Lane::Judged(left),
            ..
        }) = &mut self.way
        {
            *left = left.saturating_sub(len);
        }
    }

    /// Whether what the client sends now has to be judged first.
    #[must_use]
    pub fn must_judge(&self) -> bool {
        self.judged() == 0
    }

    /// Whether so much of the client's waits to be judged that it is not listened to meanwhile.
    #[must_use]
    pub fn has_enough(&self, waiting: usize) -> bool {
        waiting >= ADMITTED_LEN_MAX && self.must_judge()
    }

    /// This much more was judged.
    pub fn on_judged(&mut self, len: usize) {
        if let Some(Way {
            place,
            lane: Lane::Judged(left),
            ..
        }) = &mut self.way
        {
            *left = len;
            self.steps.clear();
            self.steps.push(Step {
                place: *place,
                cause: Cause::There,
            });
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
        let Some(Way {
            place: Some(place), ..
        }) = self.way
        else {
            return true;
        };
        let view = self.realm.cluster.view();
        if view.writes_at() == Some(place) {
            let is_known = view
                .servers
                .get(place)
                .is_none_or(|server| server.vouches_for(connected_at));
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

    /// It is told of something that was committed by `now`: it has seen as much as if it had been there.
    pub fn on_notified(&mut self, now: u64) {
        let view = self.realm.cluster.view();
        if let Some(place) = view.writes_at() {
            let used = Use::begin(place, Does::Anything, &view, now);
            self.sight.on_used(used, now);
        }
    }

    /// Something was defined, altered or dropped: what is known of the database is old, until it is read again.
    pub fn on_altered(&self) {
        self.realm.knowledge.on_changed();
    }

    /// What is known of functions that change sessions, on each of its servers.
    pub fn catalogs(&self) -> impl Iterator<Item = &Catalog> {
        self.pools.iter().map(|pool| &*pool.shared.catalog)
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
        is_vacant && !(is_read && self.reads_replicas_only())
    }

    fn reads_replicas_only(&self) -> bool {
        self.realm.cluster.rules().reads == Reads::ReplicaOnly
    }

    /// Whether an answer of a replica that refuses with this code, or none, is reason enough to read from the primary.
    #[must_use]
    pub fn may_leave(&self, code: Option<SqlState>) -> bool {
        let is_no_read = code.is_some_and(SqlState::is_of_replica);
        is_no_read || !self.reads_replicas_only()
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

    /// A replica cannot be had. False: it was none, or there is nowhere else.
    pub fn turn_to_primary(&mut self) -> bool {
        let turns = self.is_on_replica() && self.may_leave(None);
        if turns {
            self.way = None;
            self.refuge = Refuge::Primary(None);
        }
        turns
    }

    /// A server has failed the batch, which goes to the primary now, or waits for one. Returns the batch. What a replica refuses it
    /// always will: that is learned of a statement that was alone.
    pub fn take_refuge(&mut self, code: Option<SqlState>, session: &ClientSession, plans: &Plans) -> Vec<u8> {
        if let Some(code) = code.filter(|code| code.is_of_replica()) {
            self.learn(code, session, plans);
        }
        self.losses += 1;
        let leaves = self.may_leave(code);
        self.refuge = match self.way.take() {
            Some(Way {
                place: Some(place),
                is_replica: false,
                ..
            }) => Refuge::Lost(place),
            _ if leaves => Refuge::Primary(code),
            _ => Refuge::None,
        };
        std::mem::take(&mut self.again)
    }

    /// Where the last batch went.
    #[must_use]
    pub fn rows(&self) -> Vec<RouteRow> {
        trace::rows(&self.steps, &self.realm.cluster.view())
    }

    /// The message that was judged is as much longer now.
    pub fn on_longer(&mut self, len: usize) {
        if let Some(Way {
            lane: Lane::Judged(left),
            ..
        }) = &mut self.way
        {
            *left += len;
        }
    }

    pub fn scope(&mut self) -> &mut Scope {
        &mut self.scope
    }
}

/// A read that has cost two servers is not tried on a third: it may be what they are lost by.
const LOSSES_MAX: u32 = 2;
/// A session whose reads have stood by in vain reads from the primary for so long; microseconds.
const STANDS_BY_PAUSE: u64 = 100_000;
/// A batch is awaited whole up to this length, to be judged. What is longer goes to the primary.
const BATCH_LEN_MAX: usize = 64 * 1024;
/// In a transaction on a replica a text is awaited whole up to this length: what is parsed is no longer.
const ADMITTED_LEN_MAX: usize = 640 * 1024;
/// Texts of one batch that are planned before it goes to the primary unjudged.
const ASKED_MAX: u32 = 64;
