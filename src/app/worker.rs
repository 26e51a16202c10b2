//! One worker: a thread with its own event loop, its clients and its part of every pool.

use std::rc::Rc;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use tokio::runtime::{Builder as RuntimeBuilder, LocalOptions};
use tokio::sync::mpsc;

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
    hub: Arc<Hub>,
    index: usize,
    mail: mpsc::Receiver<Mail>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = move || -> std::io::Result<()> {
        let runtime = RuntimeBuilder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build_local(LocalOptions::default())?;
        runtime.block_on(run(hub, index, mail));
        Ok(())
    };
    Builder::new().name(format!("worker-{index}")).spawn(move || {
        if let Err(error) = runtime() {
            tracing::error!("worker {index} cannot start its event loop: {error}");
        }
    })
}

async fn run(hub: Arc<Hub>, index: usize, mut mail: mpsc::Receiver<Mail>) {
    let worker = Worker::new(
        index,
        hub.registry.clock,
        hub.post.clone(),
        Arc::clone(&hub.registry.starving),
        Arc::clone(&hub.deriver),
    );
    let context = Context::new(Rc::clone(&worker));
    tokio::task::spawn_local(Rc::clone(&worker).tick());
    tokio::task::spawn_local(Rc::clone(&worker).reap());
    tokio::task::spawn_local(Rc::clone(&worker).watch_capacity());
    while let Some(letter) = mail.recv().await {
        open(&hub, &context, letter);
    }
}

fn open(hub: &Arc<Hub>, context: &Rc<Context>, letter: Mail) {
    let worker = &context.worker;
    match letter {
        Mail::Client(socket, address) => {
            tokio::task::spawn_local(client::serve(
                Arc::clone(hub),
                Rc::clone(context),
                socket,
                address,
            ));
        }
        Mail::Conn(shared, conn) => worker.pool(&shared).on_lent(conn),
        Mail::Lend { pool, to } => worker.pool(&pool).lend_idle(to),
        Mail::Evict { pool } => {
            let found = evict(worker, &pool.database, &pool.user, pool.id);
            if !found && worker.index == 0 {
                hub.answers.close_asker(&pool.database);
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
        Mail::Inquiry(inquiry) => answer(hub, worker, inquiry),
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
            server: seat
                .server
                .borrow()
                .as_ref()
                .map(|info| (info.id, info.cancel_key.process_id)),
        }
    };
    worker.seats().iter().map(row).collect()
}

fn servers(worker: &Rc<Worker>) -> Vec<ServerRow> {
    let mut rows = Vec::new();
    for seat in worker.seats() {
        if let Some(info) = &*seat.server.borrow() {
            let mut row = ServerRow::of(info, "active");
            row.request_at = seat.request_at.get();
            row.client = Some(seat.id);
            row.application_name = Arc::clone(&seat.application_name.borrow());
            rows.push(row);
        }
    }
    for pool in worker.pools() {
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
