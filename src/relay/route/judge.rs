//! What a batch does as a whole, and what its client wants for it.

use std::sync::Arc;

use crate::plan::{Access, Class, Following, Plan};
use crate::pool::knowledge::Demand;
use crate::protocol::{Report, SqlState};
use crate::relay::plans::Plans;
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
        let mut names = self.names;
        for asked in batch::asked(batch, &session.statements) {
            // Its transaction is there, whatever has changed meanwhile, and can do nothing but read.
            let mut planned = self.plan_of(session, asked, plans, names.demand());
            if let Planned::As(plan) = &planned
                && names == Names::Known
                && plan.following() == Following::Renames
            {
                // What stands behind it in the same text is judged by that, too.
                names = Names::Any;
                planned = self.plan_of(session, asked, plans, names.demand());
            }
            match planned {
                Planned::As(plan) if plan.following() == Following::Harmful => {
                    return Err(Refused::Writes(plan));
                }
                Planned::As(_) => {}
                Planned::Unknown => return Err(Refused::Unknown),
                Planned::Not(text) => return Ok(Admitted::Unplanned(text, names.demand())),
            }
        }
        self.names = names;
        Ok(Admitted::Bytes(len))
    }

    /// What is known of names behind a batch that begins a transaction on a replica.
    pub(super) fn names_behind(&self, session: &ClientSession, batch: &[u8], plans: &Plans) -> Names {
        let sets = |asked| match self.plan_of(session, asked, plans, Demand::Current) {
            Planned::As(plan) => plan.following() != Following::Harmless,
            Planned::Unknown | Planned::Not(_) => true,
        };
        if batch::asked(batch, &session.statements).any(sets) {
            Names::Any
        } else {
            Names::Known
        }
    }

    /// What may follow there in a batch that has failed: the server passes over it, up to its end.
    #[must_use]
    pub fn pass_over(&self, input: &[u8]) -> Admitted {
        match batch::extent(input) {
            Extent::Whole(len) => Admitted::Bytes(len),
            Extent::Cut | Extent::Endless => batch::first(input).map_or(Admitted::Cut, Admitted::Bytes),
        }
    }

    /// What a batch that only reads does, and what its client wants for it, comments included.
    pub(super) fn judge(
        &self,
        session: &ClientSession,
        batch: &[u8],
        plans: &Plans,
        wish: Wish,
    ) -> Result<(Nature, Wish), Unfit> {
        let said = said(session, batch, plans).map_err(|report| Unfit::Refused(Box::new(report)))?;
        let wish = Wish {
            role: said.or(wish.role),
            ..wish
        };
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
        for asked in batch::asked(batch, &session.statements) {
            let plan = match self.plan_of(session, asked, plans, Demand::Current) {
                Planned::As(plan) => plan,
                Planned::Unknown => return Err(Unfit::Not(Cause::Unknown)),
                Planned::Not(text) => return Err(Unfit::Unplanned(text)),
            };
            match plan.class() {
                // What was said before may have changed what it means.
                Class::Read if has_set => return Err(Unfit::Not(last.map_or(Cause::Unknown, Cause::Does))),
                Class::Read => has_read = true,
                Class::Begin(Access::ReadOnly) => has_begun = true,
                Class::Begin(Access::Unstated) if wants_replica => has_begun = true,
                Class::Modes(Access::ReadOnly) if has_begun || session.is_begun() => {}
                Class::Session if session.is_begun() => has_set = true,
                Class::Within if session.is_begun() => has_set |= plan.reason().subject().starts_with("SET"),
                Class::Write if wants_replica => {
                    return Err(Unfit::Refused(Box::new(not_on_replica(&plan))));
                }
                Class::Write
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
            (true, false) => Ok((Nature::Reads, wish)),
            (true, true) => Ok((Nature::Begins, wish)),
            (false, true) if wants_replica => Ok((Nature::Begins, wish)),
            // Nothing tells what the rest of its transaction does.
            (false, _) => Err(Unfit::Not(last.map_or(Cause::Unknown, Cause::Does))),
        }
    }

    pub(super) fn learn(&self, code: SqlState, session: &ClientSession, plans: &Plans) {
        let mut all = batch::asked(&self.again, &session.statements).map(text_of);
        if let (Some(Some(text)), None) = (all.next(), all.next()) {
            plans.learn_refusal(&self.scope, session, text, code);
        }
    }

    fn plan_of(&self, session: &ClientSession, asked: Asked<'_>, plans: &Plans, demand: Demand) -> Planned {
        let Some(text) = text_of(asked) else {
            return Planned::Unknown;
        };
        let Some(plan) = plans.find(&self.scope, session, text, demand) else {
            return Planned::Not(text.into());
        };
        if plan.class() != Class::Execute {
            return Planned::As(plan);
        }
        // It is of the class of what the client has prepared under that name.
        let mention = sql_names::only(text);
        let prepared = mention.and_then(|mention| session.statements.named(&mention.name(text)));
        let Some(inner) = prepared.and_then(|statement| statement.text()) else {
            return Planned::As(plan);
        };
        match plans.find(&self.scope, session, inner, demand) {
            Some(plan) => Planned::As(plan),
            None => Planned::Not(inner.into()),
        }
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
        let starts_with_set = text
            .trim_ascii_start()
            .get(..3)
            .is_some_and(|word| word.eq_ignore_ascii_case(b"set"));
        if starts_with_set && let Some(Setting::Role(role)) = directive::of_set(text)? {
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
