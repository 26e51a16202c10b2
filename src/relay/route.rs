//! Where a client's batch goes: to the primary, or to a replica that is fresh enough.

use std::rc::Rc;
use std::sync::Arc;

use crate::plan::{Access, Class, Plan};
use crate::pool::cluster::Realm;
use crate::pool::local::LocalPool;
use crate::protocol::{Report, SqlState};
use crate::session::ClientSession;
use crate::session::batch::{self, Asked, Extent};
use crate::session::client::Block;
use crate::topology::{Choice, Sight, View, Why, choice};

use super::plans::{Plans, Scope};

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
}

/// Whether the next batch is free to go anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refuge {
    None,
    /// A replica has failed it: it is carried out on the primary.
    Primary,
}

/// What becomes of a batch.
#[derive(Debug)]
pub enum Route {
    Go(Way),
    /// Its end has not come.
    Cut,
    /// A text has not been planned: the place of it in the batch.
    Unplanned(Box<[u8]>),
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

/// What a batch does, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    /// It only reads.
    Reads,
    /// It begins a transaction that only reads.
    Begins,
    Primary,
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
        }))
    }

    /// The pool at a place.
    #[must_use]
    pub fn pool(&self, place: usize) -> Option<&Rc<LocalPool>> {
        self.pools.get(place)
    }

    /// Decides for the batch at the beginning of `input`.
    pub fn decide(&mut self, session: &ClientSession, input: &[u8], plans: &Plans, now: u64) -> Route {
        let view = self.realm.cluster.view();
        if std::mem::replace(&mut self.refuge, Refuge::None) == Refuge::Primary {
            return Route::Go(self.to_primary());
        }
        let may_read = match session.block {
            Block::None => true,
            Block::Begun(modes) => modes.only_reads(),
            Block::Failed => false,
        };
        if !may_read || self.scope.is_blind() || is_serializable(session) {
            return Route::Go(self.to_primary());
        }
        let len = match batch::extent(input) {
            Extent::Whole(len) => len,
            Extent::Cut if input.len() < BATCH_LEN_MAX => return Route::Cut,
            Extent::Cut | Extent::Endless => return Route::Go(self.to_primary()),
        };
        let batch = input.get(..len).unwrap_or_default();
        let nature = match self.judge(session, batch, plans) {
            Ok(nature) => nature,
            Err(text) => {
                self.asked += 1;
                if self.asked > ASKED_MAX {
                    self.asked = 0;
                    return Route::Go(self.to_primary());
                }
                return Route::Unplanned(text);
            }
        };
        self.asked = 0;
        if nature == Nature::Primary {
            return Route::Go(self.to_primary());
        }
        let Choice { server, why } = self.choose(&view);
        if why == Why::NotReplayed {
            self.realm.cluster.await_replay(now);
        }
        let lane = if server.is_some() && server == view.primary {
            Lane::Open
        } else {
            Lane::Judged(len)
        };
        Route::Go(Way {
            place: server,
            lane,
            is_alone: nature == Nature::Reads && session.block == Block::None,
        })
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

    /// What a batch does; or a text in it that has not been planned.
    fn judge(&self, session: &ClientSession, batch: &[u8], plans: &Plans) -> Result<Nature, Box<[u8]>> {
        let (mut has_read, mut has_begun) = (false, false);
        for asked in batch::asked(batch, &session.statements) {
            match self.plan_of(session, asked, plans) {
                Planned::As(plan) => match plan.class() {
                    Class::Read => has_read = true,
                    Class::Begin(Access::ReadOnly) => has_begun = true,
                    Class::Modes(Access::ReadOnly) if has_begun || session.is_begun() => {}
                    Class::Session | Class::Within if session.is_begun() => {}
                    _ => return Ok(Nature::Primary),
                },
                Planned::Unknown => return Ok(Nature::Primary),
                Planned::Not(text) => return Err(text),
            }
        }
        Ok(match (has_read, has_begun) {
            (true, false) => Nature::Reads,
            (true, true) => Nature::Begins,
            // Nothing tells what the rest of its transaction does.
            (false, _) => Nature::Primary,
        })
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
            place: Some(self.realm.cluster.view().primary.unwrap_or(0)),
            lane: Lane::Open,
            is_alone: false,
        }
    }

    /// The batch goes its way. What a replica is given is kept until something of its answer has been passed on.
    pub fn set_out(&mut self, way: Way, input: &[u8], buffer: impl FnOnce() -> Vec<u8>) {
        self.way = Some(way);
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
        !self.again.is_empty()
    }

    /// Something is passed on: the batch stays where it is. Returns the buffer.
    pub fn stay(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.again)
    }

    /// The client's use of its server has ended, at `now`.
    pub fn on_done(&mut self, now: u64) {
        if let Some(Way { place: Some(place), .. }) = self.way.take() {
            self.sight.on_used(place, &self.realm.cluster.view(), now);
        }
    }

    /// Something was defined, altered or dropped: what is known of the database is old, until it is read again.
    pub fn on_altered(&self) {
        self.realm.knowledge.on_changed();
    }

    /// A replica cannot be had. False: it was none.
    pub fn turn_to_primary(&mut self) -> bool {
        let place = self.way.take().and_then(|way| way.place);
        let is_replica = place.is_some() && place != self.to_primary().place;
        if is_replica {
            self.refuge = Refuge::Primary;
        }
        is_replica
    }

    /// A replica has failed the batch, which goes to the primary now. Returns the batch.
    pub fn take_refuge(&mut self) -> Vec<u8> {
        self.refuge = Refuge::Primary;
        self.way = None;
        std::mem::take(&mut self.again)
    }

    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }
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
        Class::Read | Class::Session | Class::Within | Class::Begin(_) | Class::Modes(_) => true,
        Class::Write | Class::Execute => false,
    }
}

/// Whether the session has asked for an isolation that no standby has.
fn is_serializable(session: &ClientSession) -> bool {
    !session.settings.is_empty()
        && session
            .settings
            .value("default_transaction_isolation")
            .is_some_and(|level| level.eq_ignore_ascii_case("serializable"))
}

/// Nobody may take a read.
#[must_use]
pub fn nobody() -> Report {
    Report::error(SqlState::CANNOT_CONNECT_NOW, "no replica is usable, and reads may go nowhere else")
        .with_hint("Use reads = \"replica\" to read from the primary then.")
}

/// A batch is awaited whole up to this length, to be judged. What is longer goes to the primary.
const BATCH_LEN_MAX: usize = 64 * 1024;
/// Texts of one batch that are planned before it goes to the primary unjudged.
const ASKED_MAX: u32 = 64;
