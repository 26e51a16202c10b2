//! One task a client: from its socket to its goodbye.

use std::rc::Rc;
use std::sync::Arc;

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
use crate::relay::{self, Current, welcome};
use crate::session::ClientSession;
use crate::session::screen::Pins;
use crate::session::startup::{ClientLogin, welcome as encode_welcome};

/// Serves a connection until it ends. The states that are passed through but once are boxed, so that an idle client's task
/// is small.
pub(super) async fn serve(knock: Box<Knock>) {
    let Some(mut guest) = Box::pin(let_in(knock)).await else {
        return;
    };
    let farewell = relay::serve(&mut guest.client, &mut guest.current).await;
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
struct Guest {
    /// A server connection goes before the seat it works for.
    current: Current,
    client: Client,
    _seated: Seated,
    _admission: Admission,
    _presence: Presence,
}

/// A seat that is given back when its client's task ends, however it ends.
struct Seated {
    worker: Rc<Worker>,
    seat: Rc<Seat>,
    /// The pool that counts it; none for a client of the console.
    pool: Option<Rc<LocalPool>>,
}

impl Seated {
    fn new(worker: &Rc<Worker>, seat: &Rc<Seat>, pool: Option<&Rc<LocalPool>>) -> Self {
        if let Some(pool) = pool {
            count(&pool.numbers().clients, 1);
        }
        Self {
            worker: Rc::clone(worker),
            seat: Rc::clone(seat),
            pool: pool.map(Rc::clone),
        }
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.worker.leave_busy(&self.seat);
        self.worker.vacate(self.seat.key.process_id);
        if let Some(pool) = &self.pool {
            pool.pin(&self.seat, Pins::NONE);
            count(&pool.numbers().clients, -1);
        }
    }
}

async fn let_in(knock: Box<Knock>) -> Option<Box<Guest>> {
    let Knock {
        console,
        context,
        mut socket,
        address,
    } = *knock;
    socket.unpark().ok()?;
    let stream = Stream::from(socket);
    let (console, context, hub) = (&console, &context, &console.hub);
    match arrive(hub, context, stream, address).await {
        Arrival::Client(newcomer) if is_console(&newcomer.login.request.database) => {
            Box::pin(visit(console, context, *newcomer, address)).await;
            None
        }
        Arrival::Client(newcomer) => seat(hub, context, *newcomer, address).await,
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
        application_name: startup
            .value("application_name")
            .map_or_else(|| Arc::clone(&context.no_name), Into::into),
        address,
        local: stream.socket().local_addr(),
        is_tls: stream.is_tls(),
        replication: Replication::None,
    });
    let _seated = Seated::new(worker, &seat, None);
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
) -> Option<Box<Guest>> {
    let refused = match find_place(hub, context, &newcomer) {
        Ok(place) => match greet(hub, context, newcomer, address, place).await {
            Ok(guest) => return Some(guest),
            Err(_) => return None,
        },
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
    let mut secret = vec![0; welcome::secret_len(login.request.version)];
    rand::rng().fill(secret.as_mut_slice());
    CancelKey {
        process_id,
        secret: secret.into(),
    }
}

struct Place {
    presence: Presence,
    admission: Admission,
    pool: Rc<LocalPool>,
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
    let process_id = context.worker.reserve().ok_or_else(too_many)?;
    Ok(Place {
        presence,
        admission,
        pool,
        process_id,
    })
}

/// Gets a client its settings and says hello.
async fn greet(
    hub: &Arc<Hub>,
    context: &Rc<Context>,
    newcomer: Newcomer,
    address: ClientAddr,
    place: Place,
) -> Result<Box<Guest>, Farewell> {
    let Newcomer {
        stream,
        login,
        verifier: _,
        carry,
        out,
    } = newcomer;
    let worker = &context.worker;
    let startup = welcome::startup_settings(&login);
    let is_replication = welcome::is_replication(&login);
    let seat = worker.seat(Occupant {
        key: cancel_key(place.process_id, &login),
        database: Arc::clone(&place.admission.profile.database),
        user: Arc::clone(&place.admission.profile.user),
        application_name: startup.value("application_name").unwrap_or_default().into(),
        address,
        is_tls: stream.is_tls(),
        local: stream.socket().local_addr(),
        replication: login.request.replication,
    });
    let seated = Seated::new(worker, &seat, Some(&place.pool));
    let mut client = Client {
        stream,
        session: ClientSession::new(startup),
        seat,
        context: Rc::clone(context),
        pool: place.pool,
        settings: Settings::new(&place.admission.profile, worker),
        // An idle client owns no buffer, not even an empty one.
        carry: if carry.is_empty() { Vec::new() } else { carry },
        skip: 0,
        owed: out,
        pending: None,
        begun_at: 0,
        ears: None,
        is_replication,
    };
    let mut current = Current::Idle;
    let greeted = if is_replication {
        client.session = ClientSession::new(Parameters::new());
        let opened = welcome::open_own(&client.pool, &login).await;
        opened.map(|(lease, reported)| {
            let now = worker.clock.now();
            current = Current::Serving(Exchange::begin(lease, &mut client, now));
            reported
        })
    } else {
        welcome::greet(&mut client, &hub.greetings).await
    };
    match greeted {
        Ok(reported) => {
            encode_welcome(&reported, &client.seat.key, &mut client.owed);
            add(&client.pool.numbers().stats.logins, 1);
            log_login(&client, address);
            Ok(Box::new(Guest {
                current,
                client,
                _seated: seated,
                _admission: place.admission,
                _presence: place.presence,
            }))
        }
        Err(farewell) => {
            on_greeting_failed(hub, &client, address, &farewell);
            relay::say_farewell(&mut client, &farewell).await;
            Err(farewell)
        }
    }
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
