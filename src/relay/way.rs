//! How a client's batch finds the server that carries it out, and how that is told.

use std::rc::Rc;
use std::task::Context as TaskContext;

use crate::pool::conn::ServerInfo;
use crate::pool::knowledge::Demand;
use crate::pool::lease::Lease;
use crate::pool::local::LocalPool;
use crate::pool::target::SessionAttrs;
use crate::protocol::{Report, TransactionState, tag};
use crate::session::client::ready_for_query;
use crate::session::question::RouteRow;
use crate::topology::Why;

use super::client::Client;
use super::lookout::Lookout;
use super::planning::Planning;
use super::plans::{Asking, Wanted};
use super::route::trace::Cause;
use super::route::{self, Route};
use super::vacancy::{self, Awaited, Vigil};
use super::welcome;

/// Who serves what stands next.
pub(super) enum Found {
    Pool(Rc<LocalPool>),
    Cut,
    Unplanned(Planning),
    Vacant(Vigil),
    Soon(Lookout),
    Nobody(Box<Report>),
}

impl Client {
    /// Answers a question of where the last statement went. Returns the length of its message; 0 if it is none. `transaction` is
    /// the state of its session.
    pub(super) fn tell_route(&mut self, input: &[u8], transaction: TransactionState) -> usize {
        let (routing, seat, last, pool) = (&self.routing, &self.seat, &self.last, &self.pool);
        let rows = || match routing {
            Some(routing) => routing.rows(),
            None => {
                let server = seat.server.borrow().clone().or_else(|| last.clone());
                server.map(|server| only(&server, pool)).into_iter().collect()
            }
        };
        let len = self.session.answer_question(input, rows, &mut self.owed);
        if len > 0 && input.first() == Some(&tag::QUERY) {
            ready_for_query(transaction, &mut self.owed);
        }
        len
    }

    /// Whether a connection will do for the batch, which it was got for; else it is given back.
    ///
    /// # Errors
    /// It will not: the batch is to find its way anew, or waits for a primary.
    pub fn examine(&mut self, mut lease: Lease) -> Result<Lease, Option<Result<Vigil, Report>>> {
        let Some(routing) = &mut self.routing else {
            return Ok(lease);
        };
        let conn = lease.conn();
        let is_standby = || conn.state.reported.value("in_hot_standby") == Some("on");
        if routing.may_use(conn.info.connected_at, is_standby) {
            return Ok(lease);
        }
        welcome::give_back(lease);
        if routing.turn_away(self.context.worker.now()) {
            return Err(None);
        }
        routing.on_sign();
        let failed = routing.give_up_way();
        Err(Some(Vigil::begin(self, Awaited::Primary(failed))))
    }

    /// A replica that was chosen cannot be had: what waits in `carry` goes to the primary. False: there is nowhere else.
    pub fn turn_to_primary(&mut self) -> bool {
        self.routing
            .as_mut()
            .is_some_and(|routing| routing.turn_to_primary())
    }

    /// A primary cannot be had, for this reason: what waits in `carry` waits on.
    ///
    /// # Errors
    /// It does not.
    pub fn await_primary(&mut self, report: Report) -> Result<Vigil, Report> {
        let Some(routing) = &mut self.routing else {
            return Err(report);
        };
        routing.on_sign();
        let is_replica = routing.is_on_replica();
        let failed = routing.give_up_way();
        if is_replica || !vacancy::is_of_absence(&report) {
            return Err(report);
        }
        Vigil::begin(self, Awaited::Primary(failed))
    }

    /// Where the batch that stands next goes, of a client that has a choice.
    pub(super) fn find_way(&mut self, input: &[u8], cx: &TaskContext<'_>) -> Found {
        let context = Rc::clone(&self.context);
        let mode = self.settings().pool_mode;
        let Some(routing) = &mut self.routing else {
            return Found::Pool(Rc::clone(&self.pool));
        };
        let now = context.worker.recent();
        let decided = routing.decide(&self.session, mode, input, &context.plans, now);
        let (way, cause) = match decided {
            Route::Go(way, cause) => (way, cause),
            Route::Cut => return Found::Cut,
            Route::Await(lost) => {
                return match Vigil::begin(self, Awaited::Primary(Some(lost))) {
                    Ok(vigil) => Found::Vacant(vigil),
                    Err(report) => Found::Nobody(Box::new(report)),
                };
            }
            Route::Soon => return Found::Soon(Lookout::begin(routing.realm(), &self.seat, now)),
            Route::Refused(report) => return Found::Nobody(report),
            Route::Unplanned(text) => {
                let wanted = Wanted {
                    text,
                    demand: Demand::Current,
                };
                match context
                    .plans
                    .ask(routing.scope(), &self.session, wanted, cx.waker())
                {
                    Asking::Waits(answer) => return Found::Unplanned(Planning::new(answer)),
                    Asking::Refused => (routing.to_primary(), Cause::Unplanned),
                }
            }
        };
        let awaited = if way.place.is_some() {
            None
        } else if routing.may_await_primary(&cause) {
            Some(Awaited::Primary(None))
        } else {
            matches!(cause, Cause::Read(Why::NotReplayed)).then_some(Awaited::Replay)
        };
        if let Some(awaited) = awaited {
            return match Vigil::begin(self, awaited) {
                Ok(vigil) => Found::Vacant(vigil),
                Err(report) => Found::Nobody(Box::new(report)),
            };
        }
        routing.set_out(way, cause, input, now, || context.take_spare());
        let Some(place) = way.place else {
            return Found::Nobody(Box::new(route::nobody()));
        };
        let pool = routing.pool(place).unwrap_or(&self.pool);
        Found::Pool(Rc::clone(pool))
    }

    /// A table was altered: what is known of the database is old.
    pub(super) fn on_altered(&self) {
        self.pool.shared.accounts().database.on_altered();
        if let Some(routing) = &self.routing {
            routing.on_altered();
        }
    }
}

/// Where the last statement went of a client that has no choice.
fn only(server: &ServerInfo, pool: &LocalPool) -> RouteRow {
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
