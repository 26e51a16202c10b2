//! What the prepared statements of many clients cost: the names, and each text once.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use pgweir::relay::texts::Texts;
use pgweir::session::ClientSession;
use pgweir::session::statement::StatementCache;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const CLIENTS: usize = 1_000;
const STATEMENTS: usize = 50;
const TEXT_LEN: usize = 2_000;

#[test]
fn a_statement_that_a_client_holds_costs_less_than_150_bytes() {
    let _counted = dhat::Profiler::builder().testing().build();
    let texts = Arc::new(Texts::default());
    let mut workers: Vec<_> = (0..4)
        .map(|worker| StatementCache::sharing(worker, Arc::clone(&texts) as _))
        .collect();
    let bodies: Vec<Vec<u8>> = (0..STATEMENTS)
        .map(|number| format!("select {number:0$}\0\0\0", TEXT_LEN).into_bytes())
        .collect();
    let in_use = || dhat::HeapStats::get().curr_bytes;
    let before = in_use();
    for body in &bodies {
        workers.iter_mut().for_each(|worker| drop(worker.intern(body)));
    }
    let shared = in_use() - before;
    // Once, not once for each worker.
    assert!(shared < 2 * STATEMENTS * TEXT_LEN, "{shared} bytes of texts");

    let mut clients: Vec<ClientSession> = (0..CLIENTS).map(|_| ClientSession::default()).collect();
    let before = in_use();
    for (index, client) in clients.iter_mut().enumerate() {
        let worker = index % workers.len();
        for (number, body) in bodies.iter().enumerate() {
            let statement = workers.get_mut(worker).unwrap().intern(body);
            let name = format!("__asyncpg_stmt_{number:x}__");
            client.statements.replace(name.as_bytes(), Some(statement.into()));
        }
    }
    let each = (in_use() - before) / (CLIENTS * STATEMENTS);
    println!("{each} bytes for each statement that a client holds");
    assert!(each < 150, "{each} bytes");
}
