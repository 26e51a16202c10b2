//! One task a client: from its socket to its goodbye.

use std::mem::{self, MaybeUninit};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use rand::Rng;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::admin::visitor::Visitor;
use crate::admin::{self, Console};
use crate::net::addr::ClientAddr;
use crate::net::stream::{Socket, Stream};
use crate::pool::local::{LocalPool, count};
use crate::pool::mail::Mail;
use crate::pool::registry::Admission;
use crate::pool::seat::{Occupant, Seat};
use crate::pool::shared::add;
use crate::pool::worker::{Worker, worker_of};
use crate::protocol::startup::Replication;
use crate::protocol::{CancelKey, Parameters, Report, SqlState};
use crate::relay::client::{Client, Settings};
use crate::relay::context::Context;
use crate::relay::directory::is_console;
use crate::relay::exchange::Exchange;
use crate::relay::farewell::Farewell;
use crate::relay::handshake::{Arrival, Handshake, Newcomer};
use crate::relay::hub::{Hub, Presence};
use crate::relay::lookup::Lookup;
use crate::relay::memory::shortage;
use crate::relay::route::Routing;
use crate::relay::{self, Current, welcome};
use crate::session::ClientSession;
use crate::session::screen::Pins;
use crate::session::startup::{ClientLogin, welcome as encode_welcome};

/// A connection from its first byte to its last: the future of its task. Whatever takes more room than a pointer is in a box
/// that is gone when the state is, so that an idle client's task is small.
pub(super) enum Visit {
    Arriving(Pin<Box<dyn Future<Output = Option<Box<Guest>>>>>),
    Staying(Box<Guest>),
    Leaving(Pin<Box<dyn Future<Output = ()>>>),
    Over,
}

impl Visit {
    /// What lives as long as the client is allocated before what the login needs for a moment: else that leaves a hole
    /// behind each client.
    pub(super) fn new(knock: Knock) -> Self {
        let room = Box::new_uninit();
        Self::Arriving(Box::pin(let_in(knock, room)))
    }
}

impl Future for Visit {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        loop {
            let next = match &mut *self {
                Self::Arriving(arrival) => ready!(arrival.as_mut().poll(cx)).map(Self::Staying),
                Self::Staying(guest) => {
                    let farewell = ready!(relay::poll_serve(&mut guest.client, &mut guest.current, cx));
                    match mem::replace(&mut *self, Self::Over) {
                        Self::Staying(guest) => Some(Self::Leaving(Box::pin(leave(guest, farewell)))),
                        Self::Arriving(_) | Self::Leaving(_) | Self::Over => None,
                    }
                }
                Self::Leaving(leaving) => {
                    ready!(leaving.as_mut().poll(cx));
                    None
                }
                Self::Over => None,
            };
            let Some(next) = next else {
                *self = Self::Over;
                return Poll::Ready(());
            };
            *self = next;
        }
    }
}

async fn leave(mut guest: Box<Guest>, farewell: Farewell) {
    relay::say_farewell(&mut guest.client, &farewell).await;
    log_farewell(&guest.client, &farewell);
}

/// A connection that was accepted.
pub(super) struct Knock {
    pub(super) console: Arc<Console>,
    pub(super) context: Rc<Context>,
    pub(super) socket: Socket,
    pub(super) address: ClientAddr,
}

/// A client that is let in, and everything that is to be put in order when it goes.
pub(super) struct Guest {
    current: Current,
    client: Client,
    _presence: Presence,
}

impl Drop for Guest {
    fn drop(&mut self) {
        // A server connection goes before the seat it works for.
        self.current = Current::Idle;
        rise(&self.client.context.worker, &self.client.seat);
        self.client.pool.pin(&self.client.seat, Pins::NONE);
        count(&self.client.pool.numbers().clients, -1);
    }
}

/// The seat of a client of the console, which is given back when its task ends, however it ends.
struct Seated {
    worker: Rc<Worker>,
    seat: Rc<Seat>,
}

impl Drop for Seated {
    fn drop(&mut self) {
        rise(&self.worker, &self.seat);
    }
}

/// Gives a seat back.
fn rise(worker: &Worker, seat: &Seat) {
    worker.leave_busy(seat);
    worker.vacate(seat.key.process_id);
}

async fn let_in(knock: Knock, room: Room) -> Option<Box<Guest>> {
    let Knock {
        console,
        context,
        socket,
        address,
    } = knock;
    let stream = Stream::from(socket);
    let (console, context, hub) = (&console, &context, &console.hub);
    match arrive(hub, context, stream, address).await {
        Arrival::Client(newcomer) if is_console(&newcomer.login.request.database) => {
            Box::pin(visit(console, context, *newcomer, address)).await;
            None
        }
        Arrival::Client(newcomer) => seat(hub, context, *newcomer, address, room).await,
        Arrival::Cancel(key, mut stream) => {
            cancel(hub, key).await;
            let _ = timeout(GOODBYE_MAX, stream.shutdown()).await;
            None
        }
        Arrival::Refused(report) => {
            tracing::warn!(address = %address, "login refused: {report}");
            None
        }
        Arrival::Gone => {
            tracing::debug!(address = %address, "left during its login");
            None
        }
    }
}

/// The handshake, within its time.
async fn arrive(hub: &Arc<Hub>, context: &Rc<Context>, stream: Stream, address: ClientAddr) -> Arrival {
    let directory = hub.directory.load_full();
    let _ = stream.set_keepalive(&directory.keepalive);
    let lookup = Lookup {
        directory: &directory,
        answers: &hub.answers,
        registry: &hub.registry,
        worker: &context.worker,
    };
    let handshake = Handshake::new(stream, address, &directory, &hub.deriver, &lookup);
    let limit = directory.login_timeout;
    if limit.is_zero() {
        return handshake.run().await;
    }
    match timeout(limit, handshake.run()).await {
        Ok(arrival) => arrival,
        Err(_) => {
            tracing::warn!(address = %address, "login refused: not complete within {limit:?} (client_login_timeout)");
            Arrival::Gone
        }
    }
}

/// Serves a client of the console, from its login to its goodbye. No limit on clients and no pause keeps it out.
async fn visit(console: &Arc<Console>, context: &Rc<Context>, mut newcomer: Newcomer, address: ClientAddr) {
    let directory = console.hub.directory.load_full();
    let access = match admin::access(&directory, &newcomer.login.request, address) {
        Ok(access) => access,
        Err(refused) => return turn_away(&mut newcomer, address, &refused).await,
    };
    drop(directory);
    let worker = &context.worker;
    let Some(process_id) = worker.reserve() else {
        return turn_away(&mut newcomer, address, &too_many()).await;
    };
    let Newcomer {
        stream,
        login,
        verifier: _,
        carry,
        mut out,
    } = newcomer;
    let startup = welcome::startup_settings(&login);
    let seat = worker.seat(Occupant {
        key: cancel_key(process_id, &login),
        database: admin::DATABASE.into(),
        user: login.request.user.as_str().into(),
        application_name: application_name(context, &startup),
        address,
        local: stream.socket().local_addr(),
        is_tls: stream.is_tls(),
        replication: Replication::None,
    });
    let _seated = Seated {
        worker: Rc::clone(worker),
        seat: Rc::clone(&seat),
    };
    encode_welcome(&admin::greeting(), &seat.key, &mut out);
    let (id, user) = (seat.id, Arc::clone(&seat.user));
    tracing::info!(client = id, address = %address, user = &*user, ?access, "login to the console");
    let farewell = Visitor::new(stream, seat, console, carry, out)
        .serve(access)
        .await;
    tracing::debug!(
        client = id,
        user = &*user,
        "left the console: {}",
        farewell.as_str()
    );
}

/// Finds a place for a client that is who it says; tells it why if there is none.
async fn seat(
    hub: &Arc<Hub>,
    context: &Rc<Context>,
    mut newcomer: Newcomer,
    address: ClientAddr,
    room: Room,
) -> Option<Box<Guest>> {
    let refused = match find_place(hub, context, &newcomer) {
        Ok(place) => return greet(hub, newcomer, address, place, room).await,
        Err(report) => report,
    };
    turn_away(&mut newcomer, address, &refused).await;
    None
}

/// Tells a client why it cannot stay.
async fn turn_away(newcomer: &mut Newcomer, address: ClientAddr, refused: &Report) {
    log_refusal(newcomer, address, refused);
    refused.encode(&mut newcomer.out);
    if newcomer.stream.write_all(&newcomer.out).await.is_ok() {
        let _ = newcomer.stream.shutdown().await;
    }
}

fn too_many() -> Report {
    Report::fatal(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
        .with_detail("The limit max_clients is reached.")
}

fn cancel_key(process_id: u32, login: &ClientLogin) -> CancelKey {
    let mut random = [0; welcome::SECRET_LEN_3_2];
    rand::rng().fill(&mut random);
    let len = welcome::secret_len(login.request.version);
    CancelKey {
        process_id,
        secret: random.get(..len).unwrap_or(&random).into(),
    }
}

/// Its name for the log. Those who give none have one together.
fn application_name(context: &Context, startup: &Parameters) -> Arc<str> {
    startup
        .value("application_name")
        .filter(|name| !name.is_empty())
        .map_or_else(|| Arc::clone(&context.no_name), Into::into)
}

/// Where a client is put when it is let in.
type Room = Box<MaybeUninit<Guest>>;

struct Place {
    context: Rc<Context>,
    presence: Presence,
    admission: Admission,
    pool: Rc<LocalPool>,
    routing: Option<Box<Routing>>,
    process_id: u32,
}

fn find_place(hub: &Arc<Hub>, context: &Rc<Context>, newcomer: &Newcomer) -> Result<Place, Report> {
    if hub.is_draining() {
        return Err(
            Report::fatal(SqlState::CANNOT_CONNECT_NOW, "the pooler is shutting down")
                .with_hint("Connect again in a moment."),
        );
    }
    if hub.memory.is_short() {
        return Err(shortage().into_fatal());
    }
    let directory = hub.directory.load();
    let presence = hub.admit(directory.max_clients).ok_or_else(too_many)?;
    let (shared, admission) = welcome::find_pool(
        &newcomer.login,
        newcomer.verifier.as_ref(),
        &directory,
        &hub.registry,
    )?;
    let pool = context.worker.pool(&shared);
    let routing = welcome::find_routing(
        &newcomer.login,
        newcomer.verifier.as_ref(),
        &directory,
        &hub.registry,
        &context.worker,
    );
    let process_id = context.worker.reserve().ok_or_else(too_many)?;
    Ok(Place {
        context: Rc::clone(context),
        presence,
        admission,
        pool,
        routing,
        process_id,
    })
}

/// Gets a client its settings and says hello. None: it cannot be served, and was told why.
async fn greet(
    hub: &Arc<Hub>,
    newcomer: Newcomer,
    address: ClientAddr,
    place: Place,
    room: Room,
) -> Option<Box<Guest>> {
    let (mut guest, login) = settle(newcomer, address, place, room);
    let Guest { client, current, .. } = &mut *guest;
    let greeted = if client.is_replication {
        client.session = ClientSession::new(Parameters::new());
        let opened = welcome::open_own(&client.pool, &login).await;
        opened.map(|(lease, reported)| {
            let now = client.context.worker.clock.now();
            *current = Current::Serving(Exchange::begin(lease, client, now));
            reported
        })
    } else {
        welcome::greet(client, &hub.greetings).await
    };
    match greeted {
        Ok(reported) => {
            encode_welcome(&reported, &client.seat.key, &mut client.owed);
            add(&client.pool.numbers().stats.logins, 1);
            log_login(client, address);
            if matches!(current, Current::Idle) {
                client.enter_idle(client.context.worker.now());
            }
            Some(guest)
        }
        Err(farewell) => {
            on_greeting_failed(hub, client, address, &farewell);
            relay::say_farewell(client, &farewell).await;
            None
        }
    }
}

/// Gives a newcomer its seat.
fn settle(newcomer: Newcomer, address: ClientAddr, place: Place, room: Room) -> (Box<Guest>, ClientLogin) {
    let Newcomer {
        stream,
        login,
        verifier: _,
        carry,
        out,
    } = newcomer;
    let Place {
        context,
        presence,
        admission,
        pool,
        routing,
        process_id,
    } = place;
    let startup = welcome::startup_settings(&login);
    let seat = context.worker.seat(Occupant {
        key: cancel_key(process_id, &login),
        database: Arc::clone(&admission.profile.database),
        user: Arc::clone(&admission.profile.user),
        application_name: application_name(&context, &startup),
        address,
        is_tls: stream.is_tls(),
        local: stream.socket().local_addr(),
        replication: login.request.replication,
    });
    count(&pool.numbers().clients, 1);
    let client = Client {
        stream,
        session: ClientSession::new(startup),
        seat,
        settings: Settings::new(admission, &context.worker),
        context,
        pool,
        // An idle client owns no buffer, not even an empty one.
        carry: if carry.is_empty() { Vec::new() } else { carry },
        skip: 0,
        owed: out,
        pending: None,
        begun_at: 0,
        ears: None,
        routing,
        last: None,
        is_replication: welcome::is_replication(&login),
    };
    let guest = Guest {
        current: Current::Idle,
        client,
        _presence: presence,
    };
    (Box::write(room, guest), login)
}

fn log_login(client: &Client, address: ClientAddr) {
    tracing::info!(
        client = client.seat.id,
        address = %address,
        database = &*client.seat.database,
        user = &*client.seat.user,
        tls = client.seat.is_tls,
        "login"
    );
}

fn on_greeting_failed(hub: &Hub, client: &Client, address: ClientAddr, farewell: &Farewell) {
    let Farewell::Told(report) = farewell else {
        return;
    };
    if report.code == SqlState::INVALID_PASSWORD {
        // The password that was good enough here is not for the server.
        hub.answers.doubt(&client.seat.database, &client.seat.user);
    }
    tracing::warn!(
        address = %address,
        database = &*client.seat.database,
        user = &*client.seat.user,
        "login refused: {report}"
    );
}

/// Passes a cancel request on to the worker that has the client. The requester is kept until the server has taken it, since
/// it may send its next statement when we close.
async fn cancel(hub: &Hub, key: CancelKey) {
    let (done, taken) = oneshot::channel();
    let worker = worker_of(key.process_id);
    let mail = Mail::Cancel {
        process_id: key.process_id,
        secret: key.secret,
        done,
    };
    if hub.post.send(worker, mail).await {
        let _ = taken.await;
    }
}

fn log_refusal(newcomer: &Newcomer, address: ClientAddr, report: &Report) {
    let request = &newcomer.login.request;
    tracing::warn!(
        address = %address,
        database = request.database,
        user = request.user,
        "login refused: {report}"
    );
}

fn log_farewell(client: &Client, farewell: &Farewell) {
    match farewell {
        Farewell::Goodbye | Farewell::Lost => {
            tracing::debug!(client = client.seat.id, "session ended: {}", farewell.as_str());
        }
        Farewell::Told(_) | Farewell::Silent => {
            tracing::info!(
                client = client.seat.id,
                database = &*client.seat.database,
                user = &*client.seat.user,
                "session ended: {}",
                farewell.as_str()
            );
        }
    }
}

/// TLS says goodbye to who has sent a cancel request; that fits into any socket's buffer.
const GOODBYE_MAX: std::time::Duration = std::time::Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_task_is_the_smallest_there_is() {
        // With more, tokio's task takes 256 bytes instead of 128.
        assert!(size_of::<Visit>() <= 24, "{}", size_of::<Visit>());
    }
}
