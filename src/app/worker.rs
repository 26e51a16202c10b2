//! One worker: a thread with its own event loop, its clients and its part of every pool.

use std::rc::Rc;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use tokio::runtime::{Builder as RuntimeBuilder, LocalOptions};
use tokio::sync::mpsc;

use crate::admin::Console;
use crate::pool::conn::ServerInfo;
use crate::pool::mail::{ClientRow, Inquiry, Mail, ServerRow};
use crate::pool::seat::{Phase, Poke, Seat};
use crate::pool::worker::Worker;
use crate::relay::cancel;
use crate::relay::context::Context;
use crate::relay::hub::Hub;

use super::client;

/// Starts a worker's thread.
///
/// # Errors
/// The system gives no thread.
pub(super) fn spawn(
    console: Arc<Console>,
    index: usize,
    mail: mpsc::Receiver<Mail>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = move || -> std::io::Result<()> {
        let runtime = RuntimeBuilder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build_local(LocalOptions::default())?;
        runtime.block_on(run(console, index, mail));
        Ok(())
    };
    Builder::new().name(format!("worker-{index}")).spawn(move || {
        if let Err(error) = runtime() {
            tracing::error!("worker {index} cannot start its event loop: {error}");
        }
    })
}

async fn run(console: Arc<Console>, index: usize, mut mail: mpsc::Receiver<Mail>) {
    let hub = &console.hub;
    let worker = Worker::new(
        index,
        hub.registry.clock,
        hub.post.clone(),
        Arc::clone(&hub.registry.starving),
        Arc::clone(&hub.deriver),
    );
    let context = Context::new(Rc::clone(&worker));
    context.log_slow.set(hub.directory.load().log_slow);
    tokio::task::spawn_local(Rc::clone(&worker).tick());
    tokio::task::spawn_local(Rc::clone(&worker).reap());
    tokio::task::spawn_local(Rc::clone(&worker).watch_capacity());
    while let Some(letter) = mail.recv().await {
        open(&console, &context, letter);
    }
}

fn open(console: &Arc<Console>, context: &Rc<Context>, letter: Mail) {
    let worker = &context.worker;
    match letter {
        Mail::Client(socket, address) => {
            let knock = client::Knock {
                console: Arc::clone(console),
                context: Rc::clone(context),
                socket,
                address,
            };
            tokio::task::spawn_local(client::serve(Box::new(knock)));
        }
        Mail::Conn(shared, conn) => worker.pool(&shared).on_lent(conn),
        Mail::Lend { pool, to } => worker.pool(&pool).lend_idle(to),
        Mail::Evict { pool } => {
            let found = evict(worker, &pool.database, &pool.user, pool.id);
            if !found && worker.index == 0 {
                console.hub.answers.close_asker(&pool.database);
            }
        }
        Mail::Cancel {
            process_id,
            secret,
            done,
        } => {
            if let Some(seat) = worker.find(process_id, &secret) {
                match seat.phase.get() {
                    Phase::Idle => {}
                    Phase::Waiting => seat.poke(Poke::Cancel),
                    Phase::Active => {
                        if let Some(info) = &*seat.server.borrow() {
                            cancel::spawn(info, Some(done));
                        }
                    }
                }
            }
        }
        Mail::Inquiry(inquiry) => {
            // A reload is one.
            context.log_slow.set(console.hub.directory.load().log_slow);
            answer(&console.hub, worker, inquiry);
        }
    }
}

/// Makes room under a limit that several pools share: the other pools' idle connections go first.
fn evict(worker: &Rc<Worker>, database: &Arc<str>, user: &Arc<str>, id: u64) -> bool {
    for pool in worker.pools() {
        let shares = pool.shared.database == *database || pool.shared.user == *user;
        if shares && pool.shared.id != id && pool.evict() {
            return true;
        }
    }
    false
}

fn answer(hub: &Hub, worker: &Rc<Worker>, inquiry: Inquiry) {
    match inquiry {
        Inquiry::Clients(reply) => _ = reply.send(clients(worker)),
        Inquiry::Servers(reply) => {
            let mut rows = servers(worker);
            if worker.index == 0 {
                // Those of the auth query are nobody's in particular.
                rows.extend(hub.answers.servers());
            }
            let _ = reply.send(rows);
        }
        Inquiry::Recheck => worker.renew(),
        Inquiry::Found(shared) => worker.pool(&shared).recheck(),
        Inquiry::Drain => worker.seats().iter().for_each(|seat| seat.poke(Poke::Drain)),
        Inquiry::Kill => worker.seats().iter().for_each(|seat| seat.poke(Poke::Kill)),
        Inquiry::KillDatabase(database) => {
            worker
                .seats()
                .iter()
                .filter(|seat| *seat.database == *database)
                .for_each(|seat| seat.poke(Poke::Drain));
        }
        Inquiry::KillClient(id, reply) => {
            let found = worker.seats().into_iter().find(|seat| seat.id == id);
            if let Some(seat) = &found {
                seat.poke(Poke::Kill);
            }
            let _ = reply.send(found.is_some());
        }
    }
}

fn clients(worker: &Worker) -> Vec<ClientRow> {
    let now = worker.clock.now();
    let row = |seat: &Rc<Seat>| {
        let phase = seat.phase.get();
        let is_waiting = phase == Phase::Waiting;
        ClientRow {
            id: seat.id,
            user: Arc::clone(&seat.user),
            database: Arc::clone(&seat.database),
            application_name: Arc::clone(&seat.application_name.borrow()),
            address: seat.address,
            local: seat.local,
            state: match phase {
                Phase::Idle => "idle",
                Phase::Waiting => "waiting",
                Phase::Active => "active",
            },
            connected_at: seat.connected_at,
            request_at: seat.request_at.get(),
            wait: if is_waiting {
                now.saturating_sub(seat.since.get())
            } else {
                0
            },
            is_tls: seat.is_tls,
            replication: seat.replication,
            prepared_statements: seat.statements.get(),
            server: seat.server.borrow().as_ref().map(|info| info.id),
        }
    };
    worker.seats().iter().map(row).collect()
}

fn servers(worker: &Rc<Worker>) -> Vec<ServerRow> {
    let mut rows = Vec::new();
    let pools = worker.pools();
    let is_old = |info: &ServerInfo| {
        let mut own = pools
            .iter()
            .filter(|pool| pool.shared.database == info.database && pool.shared.user == info.user);
        own.any(|pool| pool.shared.epoch() != info.epoch)
    };
    for seat in worker.seats() {
        if let Some(info) = &*seat.server.borrow() {
            let mut row = ServerRow::of(info, "active");
            row.request_at = seat.request_at.get();
            row.client = Some(seat.id);
            row.replication = seat.replication;
            row.close_needed = is_old(info);
            row.application_name = Arc::clone(&seat.application_name.borrow());
            rows.push(row);
        }
    }
    for pool in &pools {
        if let Some((index, info)) = pool.shared.desk.server()
            && index == worker.index
        {
            let mut row = ServerRow::of(&info, "listening");
            row.close_needed = is_old(&info);
            rows.push(row);
        }
        for info in pool.tested() {
            let mut row = ServerRow::of(&info, "tested");
            row.close_needed = is_old(&info);
            rows.push(row);
        }
        pool.for_each_idle(|conn| {
            let mut row = ServerRow::of(&conn.info, "idle");
            row.request_at = conn.idle_since;
            row.prepared_statements = conn.state.statements.len();
            row.close_needed = conn.epoch != pool.shared.epoch();
            rows.push(row);
        });
    }
    rows
}

/// Threads for what cannot be waited for on an event loop: names, derivations.
const BLOCKING_THREADS_MAX: usize = 4;
