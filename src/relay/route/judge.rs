//! What a batch does as a whole, and what its client wants for it.

use std::sync::Arc;

use crate::plan::{Access, Class, Following, Plan};
use crate::pool::knowledge::Demand;
use crate::protocol::{HEAD_LEN, Report, SqlState, tag};
use crate::relay::plans::{Plans, Sense, Voice};
use crate::session::ClientSession;
use crate::session::batch::{self, Asked, Extent};
use crate::session::client::Block;
use crate::session::directive::{self, Role, Setting};
use crate::session::question::POSITION;
use crate::session::sql_names;
use crate::topology::Lsn;

use super::trace::Cause;
use super::{ADMITTED_LEN_MAX, BATCH_LEN_MAX, Routing};

/// What a batch does, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    /// It only reads.
    Reads,
    /// It begins a transaction that only reads.
    Begins,
}

/// What the client wants, beside what its statements need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) role: Option<Role>,
    /// No server will do that has not come so far.
    pub(super) floor: Lsn,
}

impl Wish {
    /// By its settings.
    pub(super) fn of(session: &ClientSession) -> Self {
        if session.settings.is_empty() {
            return Self::default();
        }
        // What was reset is empty. What nobody understands, as functions may set it, is not taken for less than it may mean.
        let set = |name| session.settings.value(name).filter(|value| !value.is_empty());
        Self {
            role: set(directive::ROLE).map(|word| Role::read(word).unwrap_or(Role::Primary)),
            floor: set(directive::MIN_LSN)
                .map_or_else(Lsn::default, |text| text.parse().unwrap_or(Lsn(u64::MAX))),
        }
    }
}

/// Why a batch is not known to only read.
pub(super) enum Unfit {
    Not(Cause),
    /// One of its texts has not been planned.
    Unplanned(Box<[u8]>),
    /// It asks for what cannot be.
    Refused(Box<Report>),
}

enum Planned<T> {
    As(T),
    Unknown,
    Not(Box<[u8]>),
}

/// What may be passed on in a transaction on a replica.
#[derive(Debug)]
pub enum Admitted {
    Bytes(usize),
    Cut,
    /// A text has not been planned, for which this is demanded.
    Unplanned(Box<[u8]>, Demand),
}

/// Whether the names in a transaction on a replica mean what the session's settings say, as far as those are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    Known,
    /// It has set something, of which nothing is heard before it ends: they may be of any schema.
    Any,
}

impl Names {
    fn demand(self) -> Demand {
        match self {
            Self::Known => Demand::Last,
            Self::Any => Demand::Anywhere,
        }
    }
}

/// Why something may not.
#[derive(Debug)]
pub enum Refused {
    Writes(Arc<Plan>),
    Unknown,
    TooLong,
}

impl Routing {
    /// What may follow in a transaction on a replica, at the beginning of `input`: how much was judged to be harmless there.
    ///
    /// # Errors
    /// It may not.
    pub fn admit(
        &mut self,
        session: &ClientSession,
        input: &[u8],
        plans: &Plans,
    ) -> Result<Admitted, Refused> {
        let len = match batch::extent(input) {
            Extent::Whole(len) => len,
            Extent::Cut if input.len() < BATCH_LEN_MAX => return Ok(Admitted::Cut),
            Extent::Cut | Extent::Endless => match batch::first(input) {
                Some(len) => len,
                None if input.len() < ADMITTED_LEN_MAX => return Ok(Admitted::Cut),
                None => return Err(Refused::TooLong),
            },
        };
        let batch = input.get(..len).unwrap_or(input);
        // Its transaction is there, whatever has changed meanwhile, and can do nothing but read.
        let mut names = self.names;
        let mut sense = self.sense(session, plans, names).ok_or(Refused::Unknown)?;
        let follows = |plan: &Arc<Plan>, _| {
            let harmful = is_harmful(plan).then(|| Arc::clone(plan));
            (plan.following(), harmful)
        };
        for asked in batch::asked(batch, &session.statements) {
            let mut planned = plan_of(session, sense, asked, plans, follows);
            if names == Names::Known && matches!(planned, Planned::As((Following::Renames, _))) {
                // What stands behind it in the same text is judged by that, too.
                names = Names::Any;
                sense = self.sense(session, plans, names).ok_or(Refused::Unknown)?;
                planned = plan_of(session, sense, asked, plans, follows);
            }
            match planned {
                Planned::As((_, Some(plan))) => return Err(Refused::Writes(plan)),
                Planned::As((_, None)) => {}
                Planned::Unknown => return Err(Refused::Unknown),
                Planned::Not(text) => return Ok(Admitted::Unplanned(text, names.demand())),
            }
        }
        self.names = names;
        Ok(Admitted::Bytes(len))
    }

    fn sense(&mut self, session: &ClientSession, plans: &Plans, names: Names) -> Option<Sense> {
        let standing = self.scope.standing(session, plans, names.demand());
        standing.map(|standing| standing.sense)
    }

    /// What may follow there in a batch that has failed: the server passes over it, up to its end.
    #[must_use]
    pub fn pass_over(&self, input: &[u8]) -> Admitted {
        match batch::extent(input) {
            Extent::Whole(len) => Admitted::Bytes(len),
            Extent::Cut | Extent::Endless => batch::first(input).map_or(Admitted::Cut, Admitted::Bytes),
        }
    }

    pub(super) fn learn(&mut self, code: SqlState, session: &ClientSession, plans: &Plans) {
        let Some(standing) = self.scope.standing(session, plans, Demand::Current) else {
            return;
        };
        let mut all = batch::asked(&self.again, &session.statements).map(text_of);
        if let (Some(Some(text)), None) = (all.next(), all.next()) {
            plans.learn_refusal(standing.sense, text, code);
        }
    }
}

/// What is known of names behind a batch that begins a transaction on a replica.
pub(super) fn names_behind(session: &ClientSession, sense: Sense, batch: &[u8], plans: &Plans) -> Names {
    let follows = |plan: &Arc<Plan>, _| plan.following();
    let sets = |asked| {
        !matches!(
            plan_of(session, sense, asked, plans, follows),
            Planned::As(Following::Harmless)
        )
    };
    if batch::asked(batch, &session.statements).any(sets) {
        Names::Any
    } else {
        Names::Known
    }
}

fn is_harmful(plan: &Plan) -> bool {
    plan.following() == Following::Harmful
}

/// What a batch that only reads does, and what its client wants for it, comments included.
pub(super) fn judge(
    session: &ClientSession,
    sense: Sense,
    batch: &[u8],
    plans: &Plans,
    wish: Wish,
) -> Result<(Nature, Wish), Unfit> {
    let mut judging = Judging::new(session, sense, plans);
    let mut texts = batch::asked(batch, &session.statements);
    let judged = judging.all(&mut texts, wish);
    // Most texts say nothing, which is known with their plans. What was not reached is looked at.
    let says = judging.voice == Voice::MaySay
        || texts
            .filter_map(text_of)
            .any(|text| plans.voice_of(text) == Voice::MaySay);
    if !says {
        return judged.map(|nature| (nature, wish));
    }
    let said = said(session, batch, plans).map_err(|report| Unfit::Refused(Box::new(report)))?;
    let wish = Wish {
        role: said.or(wish.role),
        ..wish
    };
    let mut texts = batch::asked(batch, &session.statements);
    let nature = Judging::new(session, sense, plans).all(&mut texts, wish)?;
    Ok((nature, wish))
}

/// What is known of a batch so far.
struct Judging<'a> {
    session: &'a ClientSession,
    sense: Sense,
    plans: &'a Plans,
    /// Whether one of the texts that were met says something.
    voice: Voice,
}

impl<'a> Judging<'a> {
    fn new(session: &'a ClientSession, sense: Sense, plans: &'a Plans) -> Self {
        Self {
            session,
            sense,
            plans,
            voice: Voice::Silent,
        }
    }

    /// What they do, as far as that has to be known.
    fn all<'t>(&mut self, texts: &mut impl Iterator<Item = Asked<'t>>, wish: Wish) -> Result<Nature, Unfit> {
        let session = self.session;
        let wants_replica = match wish.role {
            Some(Role::Primary) => return Err(Unfit::Not(Cause::Directive)),
            Some(Role::Replica) => true,
            None => false,
        };
        if let Block::Begun(modes) = session.block
            && !modes.only_reads()
            && !wants_replica
        {
            return Err(Unfit::Not(Cause::Transaction));
        }
        let (mut has_read, mut has_begun) = (false, wants_replica && session.is_begun());
        let mut has_set = false;
        let mut last = None;
        for asked in texts {
            let Some(plan) = self.beyond_reading(asked)? else {
                if has_set {
                    // What was said before may have changed what it means.
                    return Err(Unfit::Not(last.map_or(Cause::Unknown, Cause::Does)));
                }
                has_read = true;
                continue;
            };
            match plan.class() {
                Class::Begin(Access::ReadOnly) => has_begun = true,
                Class::Begin(Access::Unstated) if wants_replica => has_begun = true,
                Class::Modes(Access::ReadOnly) if has_begun || session.is_begun() => {}
                Class::Session if session.is_begun() => has_set = true,
                Class::Within if session.is_begun() => has_set |= plan.reason().subject().starts_with("SET"),
                Class::Write if wants_replica => {
                    return Err(Unfit::Refused(Box::new(not_on_replica(&plan))));
                }
                Class::Read
                | Class::Write
                | Class::Session
                | Class::Begin(_)
                | Class::Modes(_)
                | Class::Within
                | Class::Prepare(_)
                | Class::Execute => return Err(Unfit::Not(Cause::Does(plan))),
            }
            last = Some(plan);
        }
        match (has_read, has_begun) {
            (true, false) => Ok(Nature::Reads),
            (true, true) => Ok(Nature::Begins),
            (false, true) if wants_replica => Ok(Nature::Begins),
            // Nothing tells what the rest of its transaction does.
            (false, _) => Err(Unfit::Not(last.map_or(Cause::Unknown, Cause::Does))),
        }
    }

    /// The plan of a text that does more than read. One that says no more than that is not held on to.
    fn beyond_reading(&mut self, asked: Asked<'_>) -> Result<Option<Arc<Plan>>, Unfit> {
        let look = |plan: &Arc<Plan>, voice| {
            let beyond = (plan.class() != Class::Read).then(|| Arc::clone(plan));
            (beyond, voice)
        };
        match plan_of(self.session, self.sense, asked, self.plans, look) {
            Planned::As((plan, voice)) => {
                if voice == Voice::MaySay {
                    self.voice = voice;
                }
                Ok(plan)
            }
            Planned::Unknown => Err(Unfit::Not(Cause::Unknown)),
            Planned::Not(text) => {
                let voice = text_of(asked).map(|text| self.plans.voice_of(text));
                if voice == Some(Voice::MaySay) {
                    self.voice = Voice::MaySay;
                }
                Err(Unfit::Unplanned(text))
            }
        }
    }
}

/// What `look` sees in the plan of what is asked for.
fn plan_of<T>(
    session: &ClientSession,
    sense: Sense,
    asked: Asked<'_>,
    plans: &Plans,
    look: impl Fn(&Arc<Plan>, Voice) -> T,
) -> Planned<T> {
    // What is executed by name is looked at when its name is known.
    let see = |plan: &Arc<Plan>, voice| (look(plan, voice), voice, plan.class() == Class::Execute);
    let (text, found) = match asked {
        Asked::Text(text) => (text, plans.find(sense, text, see)),
        Asked::Statement(statement) => match statement.text() {
            Some(text) => (text, plans.find_prepared(sense, statement.id, text, see)),
            None => return Planned::Unknown,
        },
        Asked::Unknown => return Planned::Unknown,
    };
    let Some((seen, voice, executes)) = found else {
        return Planned::Not(text.into());
    };
    if !executes {
        return Planned::As(seen);
    }
    // It is of the class of what the client has prepared under that name.
    let mention = sql_names::only(text);
    let prepared = mention.and_then(|mention| session.statements.named(&mention.name(text)));
    let Some(inner) = prepared.and_then(|statement| statement.text()) else {
        return Planned::As(seen);
    };
    match plans.find(sense, inner, |plan, _| look(plan, voice)) {
        Some(seen) => Planned::As(seen),
        None => Planned::Not(inner.into()),
    }
}

/// What the texts of a batch say about where it goes. Where they do not agree it is the primary.
fn said(session: &ClientSession, batch: &[u8], plans: &Plans) -> Result<Option<Role>, Report> {
    let (mut said, mut set) = (None, None);
    for text in batch::asked(batch, &session.statements).filter_map(text_of) {
        if plans.names_us(text) {
            let role = directive::of_comments(text)?;
            said = if role == Some(Role::Primary) {
                role
            } else {
                said.or(role)
            };
        }
        if directive::may_be_set(text)
            && let Some(Setting::Role(role)) = directive::of_set(text)?
        {
            set = role;
        }
    }
    // What is set now counts for the block that it stands in; else for what comes later.
    let counts = session.is_begun();
    Ok(said.or(if counts { set } else { None }))
}

/// What becomes of a batch that asks for a position and nothing else: that is `SHOW pgweir.lsn`, which is no statement of the
/// client's. None: it is another, or may be.
pub(super) fn of_position(session: &ClientSession, input: &[u8]) -> Option<Extent> {
    if !may_be_position(input) {
        return None;
    }
    let is_it = |asked| text_of(asked) == Some(POSITION);
    let is_first = batch::asked(input, &session.statements).next().is_some_and(is_it);
    let extent = is_first.then(|| batch::extent(input))?;
    let len = match extent {
        Extent::Whole(len) => len,
        Extent::Cut if input.len() < BATCH_LEN_MAX => input.len(),
        Extent::Cut | Extent::Endless => return None,
    };
    let batch = input.get(..len).unwrap_or_default();
    batch::asked(batch, &session.statements)
        .all(is_it)
        .then_some(extent)
}

/// Most queries are told at once to be none.
fn may_be_position(input: &[u8]) -> bool {
    let text_at = match input {
        [tag::QUERY, ..] => HEAD_LEN,
        [tag::PARSE, _, _, _, _, 0, ..] => HEAD_LEN + 1,
        _ => return true,
    };
    input
        .get(text_at..)
        .is_some_and(|text| text.starts_with(POSITION))
}

fn text_of(asked: Asked<'_>) -> Option<&[u8]> {
    match asked {
        Asked::Text(text) => Some(text),
        Asked::Statement(statement) => statement.text(),
        Asked::Unknown => None,
    }
}

/// A replica is asked for, and the statement is none for it.
fn not_on_replica(plan: &Plan) -> Report {
    Report::error(
        SqlState::READ_ONLY_SQL_TRANSACTION,
        format!("cannot execute the statement on a replica: {}", plan.reason()),
    )
    .with_hint("A replica was asked for, by pgweir.role or a comment. Ask for role=primary to write.")
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
