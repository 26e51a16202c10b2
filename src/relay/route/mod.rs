//! Where a client's batch goes: to the primary, or to a replica that is fresh enough.

mod judge;
pub mod trace;

use std::rc::Rc;
use std::sync::Arc;

use crate::pool::cluster::Realm;
use crate::pool::conn::ServerInfo;
use crate::pool::local::LocalPool;
use crate::pool::meter::RouteRole;
use crate::pool::settings::PoolMode;
use crate::pool::target::SessionAttrs;
use crate::protocol::{Report, SqlState};
use crate::session::ClientSession;
use crate::session::batch::{self, Extent};
use crate::session::client::Block;
use crate::session::directive::Role;
use crate::session::question::RouteRow;
use crate::topology::{Choice, Reads, Sight, View, Why, choice};

use super::plans::{Plans, Scope};
pub use judge::{Admitted, Refused};
use judge::{Nature, Unfit, Wish};
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
    /// Where it is served, since its batch was sent on its way.
    way: Option<Way>,
    /// The batch, for as long as another server could carry it out instead.
    again: Vec<u8>,
    /// Since when its batch waits for a primary; microseconds.
    vacant_since: Option<u64>,
    /// Where the last batch went.
    steps: Vec<Step>,
}

/// Whether the next batch is free to go anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refuge {
    None,
    /// A replica has failed it, with this code if it said something: it is carried out on the primary.
    Primary(Option<SqlState>),
}

/// What becomes of a batch.
#[derive(Debug)]
pub enum Route {
    Go(Way, Cause),
    /// Its end has not come.
    Cut,
    /// A text has not been planned: the place of it in the batch.
    Unplanned(Box<[u8]>),
    /// It is not carried out.
    Refused(Box<Report>),
}

/// Where to, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The server's place; none: no server may take it.
    pub place: Option<usize>,
    pub lane: Lane,
    /// Whether it is a transaction by itself, which may as well be carried out elsewhere.
    pub is_alone: bool,
}

/// What may follow a batch to its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Whatever the client sends.
    Open,
    /// As many bytes as were judged: a replica is given nothing that was not.
    Judged(usize),
}

impl Routing {
    #[must_use]
    pub fn new(realm: Arc<Realm>, pools: Box<[Rc<LocalPool>]>) -> Option<Box<Self>> {
        let pool = Arc::clone(&pools.first()?.shared);
        Some(Box::new(Self {
            scope: Scope {
                realm: Arc::clone(&realm),
                pool,
            },
            realm,
            pools,
            sight: Sight::default(),
            refuge: Refuge::None,
            asked: 0,
            way: None,
            again: Vec::new(),
            vacant_since: None,
            steps: Vec::new(),
        }))
    }

    /// The pool at a place.
    #[must_use]
    pub fn pool(&self, place: usize) -> Option<&Rc<LocalPool>> {
        self.pools.get(place)
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
        if let Refuge::Primary(code) = std::mem::replace(&mut self.refuge, Refuge::None) {
            return Route::Go(self.to_primary(), Cause::Refused(code));
        }
        match judge::of_position(session, input) {
            None => {}
            Some(Extent::Cut) => return Route::Cut,
            Some(_) => return Route::Go(self.to_primary(), Cause::Position),
        }
        self.steps.clear();
        let wish = Wish::of(session);
        if let Some(cause) = self.stands_against(session, mode, wish, || plans.names_us(input)) {
            return Route::Go(self.to_primary(), cause);
        }
        let len = match batch::extent(input) {
            Extent::Whole(len) => len,
            Extent::Cut if input.len() < BATCH_LEN_MAX => return Route::Cut,
            Extent::Cut | Extent::Endless => return Route::Go(self.to_primary(), Cause::Unjudged),
        };
        let batch = input.get(..len).unwrap_or_default();
        let (nature, wish) = match self.judge(session, batch, plans, wish) {
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
        let view = self.realm.cluster.view();
        let Choice { server, why } = self.choose(&view, wish);
        if why == Why::NotReplayed {
            self.realm.cluster.await_replay(now);
        }
        let lane = if server.is_some() && server == view.primary {
            Lane::Open
        } else {
            Lane::Judged(len)
        };
        let way = Way {
            place: server,
            lane,
            is_alone: nature == Nature::Reads && session.block == Block::None,
        };
        Route::Go(way, Cause::Read(why))
    }

    /// Why nothing that comes now may go to a replica, whatever it is. `names_us`: whether it may say itself where it wants to go.
    fn stands_against(
        &self,
        session: &ClientSession,
        mode: PoolMode,
        wish: Wish,
        names_us: impl Fn() -> bool,
    ) -> Option<Cause> {
        match session.block {
            Block::None => {}
            Block::Begun(modes) if modes.only_reads() => {}
            Block::Begun(modes)
                if modes.suit_standby() && (wish.role == Some(Role::Replica) || names_us()) => {}
            Block::Begun(_) => return Some(Cause::Transaction),
            Block::Failed => return Some(Cause::Failed),
        }
        if mode == PoolMode::Session {
            return Some(Cause::SessionMode);
        }
        if wish.role == Some(Role::Primary) && !names_us() {
            return Some(Cause::Directive);
        }
        if self.scope.is_blind() {
            return Some(Cause::Blind);
        }
        if session.settings.is_empty() {
            return None;
        }
        let isolation = session.settings.value("default_transaction_isolation");
        let is_serializable = isolation.is_some_and(|value| value.eq_ignore_ascii_case("serializable"));
        is_serializable.then_some(Cause::Serializable)
    }

    fn choose(&mut self, view: &View, wish: Wish) -> Choice {
        let pools = &self.pools;
        let load = |place: usize| pools.get(place).map_or(0, |pool| pool.shared.active());
        let mut rules = self.realm.cluster.rules();
        if wish.role == Some(Role::Replica) && matches!(rules.reads, Reads::Any | Reads::Primary) {
            rules.reads = Reads::Replica;
        }
        self.sight.set_floor(wish.floor);
        choice::choose(view, rules, &mut self.sight, &self.realm.cluster.turn, &load)
    }

    /// The way to the primary.
    #[must_use]
    pub fn to_primary(&self) -> Way {
        Way {
            place: self.realm.cluster.view().writes_at(),
            lane: Lane::Open,
            is_alone: false,
        }
    }

    /// The batch goes its way. What a replica is given is kept until something of its answer has been passed on.
    pub fn set_out(&mut self, way: Way, cause: Cause, input: &[u8], buffer: impl FnOnce() -> Vec<u8>) {
        self.way = Some(way);
        self.count(way, &cause);
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

    fn count(&self, way: Way, cause: &Cause) {
        let (Some(place), Some(pool)) = (way.place, self.pools.first()) else {
            return;
        };
        let role = if self.realm.cluster.view().writes_at() == Some(place) {
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
        !self.again.is_empty()
    }

    /// Something is passed on: the batch stays where it is. Returns the buffer.
    pub fn stay(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.again)
    }

    /// The client's use of its server has ended, at `now`.
    pub fn on_done(&mut self, now: u64) {
        self.vacant_since = None;
        if let Some(Way {
            place: Some(place), ..
        }) = self.way.take()
        {
            self.sight.on_used(place, &self.realm.cluster.view(), now);
        }
    }

    /// Something was defined, altered or dropped: what is known of the database is old, until it is read again.
    pub fn on_altered(&self) {
        self.realm.knowledge.on_changed();
    }

    /// Whether its batch is at a replica.
    #[must_use]
    pub fn is_on_replica(&self) -> bool {
        self.way.is_some_and(|way| matches!(way.lane, Lane::Judged(_)))
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

    /// A replica has failed the batch, which goes to the primary now. Returns the batch. What a replica refuses it always will:
    /// that is learned of a statement that was alone.
    pub fn take_refuge(&mut self, code: Option<SqlState>, session: &ClientSession, plans: &Plans) -> Vec<u8> {
        if let Some(code) = code.filter(|code| code.is_of_replica()) {
            self.learn(code, session, plans);
        }
        self.refuge = Refuge::Primary(code);
        self.way = None;
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

    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }
}

/// Where the last statement went of a client that has no choice.
#[must_use]
pub fn only(server: &ServerInfo, pool: &LocalPool) -> RouteRow {
    RouteRow {
        shard: Box::default(),
        role: match pool.shared.target.load().session_attrs {
            SessionAttrs::ReadOnly | SessionAttrs::Standby => "replica",
            SessionAttrs::Any
            | SessionAttrs::Primary
            | SessionAttrs::ReadWrite
            | SessionAttrs::PreferStandby => "primary",
        },
        server: server.address.to_string().into(),
        reason: "the database has no replicas".into(),
    }
}

/// Nobody may take a read.
#[must_use]
pub fn nobody() -> Report {
    Report::error(
        SqlState::CANNOT_CONNECT_NOW,
        "no replica is usable, and reads may go nowhere else",
    )
    .with_hint("Use reads = \"replica\" to read from the primary then.")
}

/// A batch is awaited whole up to this length, to be judged. What is longer goes to the primary.
const BATCH_LEN_MAX: usize = 64 * 1024;
/// Texts of one batch that are planned before it goes to the primary unjudged.
const ASKED_MAX: u32 = 64;
