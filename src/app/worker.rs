//! One worker: a thread with its own event loop, its clients and its part of every pool.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::Builder;

use tokio::runtime::{Builder as RuntimeBuilder, LocalOptions};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::admin::Console;
use crate::pool::clock::Turns;
use crate::pool::conn::ServerInfo;
use crate::pool::mail::{ClientRow, Inquiry, Mail, ServerRow};
use crate::pool::seat::{Phase, Poke, Seat};
use crate::pool::worker::Worker;
use crate::relay::cancel;
use crate::relay::context::Context;
use crate::relay::hub::Hub;

use super::alarm::Alarm;
use super::client::{Knock, Visit};

/// Starts a worker's thread. It works until the process ends: should it end before, for whatever reason, the alarm rings.
///
/// # Errors
/// The system gives no thread.
pub(super) fn spawn(
    console: Arc<Console>,
    index: usize,
    mail: mpsc::Receiver<Mail>,
    alarm: Alarm,
) -> io::Result<()> {
    let work = move || -> io::Result<()> {
        let turns = Arc::new(Turns::default());
        let woken = Arc::clone(&turns);
        let runtime = RuntimeBuilder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .on_thread_unpark(move || woken.on_wake())
            .build_local(LocalOptions::default())?;
        // Rings before the event loop is taken down, which may have to wait.
        let _alarm = alarm;
        runtime.block_on(run(console, index, mail, turns));
        Ok(())
    };
    Builder::new().name(format!("worker-{index}")).spawn(move || {
        if let Err(error) = work() {
            tracing::error!("worker {index} cannot start its event loop: {error}");
        }
    })?;
    Ok(())
}

async fn run(console: Arc<Console>, index: usize, mail: mpsc::Receiver<Mail>, turns: Arc<Turns>) {
    let hub = &console.hub;
    let worker = Worker::new(
        index,
        hub.registry.clock,
        hub.post.clone(),
        Arc::clone(&hub.registry.starving),
        Arc::clone(&hub.deriver),
    );
    worker.follow(turns);
    let context = Context::new(
        Rc::clone(&worker),
        &hub.texts,
        &hub.plans,
        Arc::clone(&hub.memory),
    );
    context.log_slow.set(hub.directory.load().log_slow);
    let mut own = JoinSet::new();
    own.spawn_local(Rc::clone(&worker).tick());
    own.spawn_local(Rc::clone(&worker).reap());
    own.spawn_local(Rc::clone(&worker).watch_capacity());
    attend(own, mail, |letter| open(&console, &context, letter)).await;
    tracing::error!("worker {index} has lost a task of its own");
}

/// Opens letters for as long as the worker's own tasks run. None of them ever returns: without one of them, clients would be
/// served without time limits, or not at all. A client's task is none of them, and fails alone.
async fn attend(mut own: JoinSet<()>, mut mail: mpsc::Receiver<Mail>, mut open: impl FnMut(Mail)) {
    loop {
        tokio::select! {
            letter = mail.recv() => match letter {
                Some(letter) => open(letter),
                None => return,
            },
            _ = own.join_next() => return,
        }
    }
}

fn open(console: &Arc<Console>, context: &Rc<Context>, letter: Mail) {
    let worker = &context.worker;
    match letter {
        Mail::Client(mut socket, address) => {
            if socket.unpark().is_ok() {
                tokio::task::spawn_local(Visit::new(Knock {
                    console: Arc::clone(console),
                    context: Rc::clone(context),
                    socket,
                    address,
                }));
            }
        }
        Mail::Conn(shared, conn) => worker.pool(&shared).on_conn(conn),
        Mail::Lend { pool, to } => worker.pool(&pool).on_lend(to),
        Mail::Loan(shared, conn) => worker.pool(&shared).on_loan(conn),
        Mail::Evict { pool } => {
            let found = evict(worker, &pool.database, &pool.user, pool.id);
            if !found && worker.index == 0 {
                console.hub.answers.close_asker(&pool.database);
            }
        }
        Mail::Vacate(database) => vacate(&console.hub, worker, &database),
        Mail::Cancel {
            process_id,
            secret,
            done,
        } => {
            if let Some(seat) = worker.find(process_id, &secret) {
                match seat.phase.get() {
                    // Nothing of the client's runs.
                    Phase::Idle | Phase::Settling => {}
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

/// Closes the idle connections to a database that is being dropped or copied; used ones follow when they are at rest.
fn vacate(hub: &Hub, worker: &Worker, database: &str) {
    if !hub.registry.vacate(database) {
        return;
    }
    // Its successor may be another in what clients are told.
    hub.greetings.forget();
    for index in 0..worker.post.workers() {
        // A worker that does not hear of it now looks at its connections within a second.
        let _ = worker.post.try_send(index, Mail::Inquiry(Inquiry::TidyUp));
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
        Inquiry::TidyUp => worker.tidy_up(worker.clock.now()),
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
        Inquiry::Echo(reply) => _ = reply.send(()),
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
                Phase::Active | Phase::Settling => "active",
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
            pins: seat.pins.get(),
            pinned_at: seat.pinned_at.get(),
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use super::*;

    fn runtime() -> tokio::runtime::LocalRuntime {
        RuntimeBuilder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .unwrap()
    }

    /// What a client's task has in hand.
    struct Held(Rc<Cell<u32>>);

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }

    #[test]
    fn a_worker_ends_when_a_task_of_its_own_panics() {
        runtime().block_on(async {
            let (_post, mail) = mpsc::channel(1);
            let mut own = JoinSet::new();
            own.spawn_local(pending::<()>());
            own.spawn_local(async { panic!("planted: a task of the worker") });
            attend(own, mail, |_| {}).await;
        });
    }

    #[test]
    fn a_panic_in_a_clients_task_ends_that_client_alone() {
        runtime().block_on(async {
            let (post, mail) = mpsc::channel(4);
            let held = Rc::new(Cell::new(0));
            let mut own = JoinSet::new();
            own.spawn_local(pending::<()>());
            let mut letters = 0;
            let open = |_| {
                letters += 1;
                let panics = letters == 2;
                held.set(held.get() + 1);
                let held = Held(Rc::clone(&held));
                tokio::task::spawn_local(async move {
                    tokio::task::yield_now().await;
                    assert!(!panics, "planted: a client's task");
                    // The others stay.
                    pending::<()>().await;
                    drop(held);
                });
            };
            for _ in 0..3 {
                post.send(Mail::Inquiry(Inquiry::Recheck)).await.unwrap();
            }
            let mut worker = std::pin::pin!(attend(own, mail, open));
            let mut has_begun = false;
            tokio::select! {
                () = &mut worker => panic!("the worker has ended"),
                () = async {
                    while !has_begun || held.get() != 2 {
                        has_begun |= held.get() == 3;
                        tokio::task::yield_now().await;
                    }
                } => {}
            }
        });
    }
}
