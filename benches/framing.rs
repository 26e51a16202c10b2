//! The cost of looking at what passes: one exchange, without sockets.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails may stop")]

use std::time::Duration;

use divan::Bencher;
use divan::counter::BytesCount;
use pgweir::protocol::write::{Frame, bare};
use pgweir::protocol::{CancelKey, Parameters, tag};
use pgweir::session::flow::{Naming, Parties};
use pgweir::session::statement::StatementCache;
use pgweir::session::{ClientSession, Flow, Outbox, ServerState};

fn main() {
    divan::main();
}

/// An answer of 1000 rows, handed over at once.
#[divan::bench(min_time = MIN_TIME)]
fn relay_rows_x1000_64b(bencher: Bencher<'_, '_>) {
    let mut exchange = Exchange::new();
    let request = query("select * from t");
    let mut answer = Vec::new();
    for _ in 0..1000 {
        message(tag::DATA_ROW, &[0; 64 - 5], &mut answer);
    }
    message(tag::COMMAND_COMPLETE, b"SELECT 1000\0", &mut answer);
    message(tag::READY_FOR_QUERY, b"I", &mut answer);
    bencher
        .counter(BytesCount::new(answer.len()))
        .bench_local(|| exchange.run(&request, &answer));
}

/// A simple query and its answer of one row.
#[divan::bench(min_time = MIN_TIME)]
fn simple_query(bencher: Bencher<'_, '_>) {
    let mut exchange = Exchange::new();
    let request = query("SELECT abalance FROM pgbench_accounts WHERE aid = 4711;");
    let mut answer = Vec::new();
    message(tag::ROW_DESCRIPTION, &[0; 34], &mut answer);
    answer_with_a_row(&mut answer);
    bencher.bench_local(|| exchange.run(&request, &answer));
}

/// `Bind`, `Execute` and `Sync` of a statement that the server connection already has, and the answer of one row.
#[divan::bench(min_time = MIN_TIME)]
fn prepared_statement(bencher: Bencher<'_, '_>) {
    let mut exchange = Exchange::new();
    let (mut parse, mut parsed) = (Vec::new(), Vec::new());
    let text = b"P0_1\0SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0\0\0";
    message(tag::PARSE, text, &mut parse);
    bare(&mut parse, tag::SYNC);
    bare(&mut parsed, tag::PARSE_COMPLETE);
    message(tag::READY_FOR_QUERY, b"I", &mut parsed);
    exchange.run(&parse, &parsed);

    let (mut request, mut answer) = (Vec::new(), Vec::new());
    message(tag::BIND, b"\0P0_1\0\0\0\0\x01\0\0\0\x044711\0\0", &mut request);
    message(tag::EXECUTE, b"\0\0\0\0\0", &mut request);
    bare(&mut request, tag::SYNC);
    bare(&mut answer, tag::BIND_COMPLETE);
    answer_with_a_row(&mut answer);
    bencher.bench_local(|| exchange.run(&request, &answer));
}

/// A client and a server connection in transaction mode.
struct Exchange {
    client: ClientSession,
    server: ServerState,
    cache: StatementCache,
    out: Outbox,
}

impl Exchange {
    fn new() -> Self {
        let key = CancelKey {
            process_id: 1,
            secret: [0; 4].into(),
        };
        Self {
            client: ClientSession::default(),
            server: ServerState::new(1, key, Parameters::new()),
            cache: StatementCache::new(0),
            out: Outbox::new(),
        }
    }

    /// Request, answer, rest. The bytes that leave are made, and sent nowhere.
    fn run(&mut self, request: &[u8], answer: &[u8]) {
        let mut flow = Flow::new(Naming::Mapped { max: 200 }, &self.server);
        let mut parties = Parties {
            client: &mut self.client,
            server: &mut self.server,
            cache: &mut self.cache,
        };
        self.out.reset();
        flow.on_client(request, &mut self.out, &mut parties).unwrap();
        divan::black_box(self.out.bytes(request));
        self.out.reset();
        flow.on_server(answer, &mut self.out, &mut parties).unwrap();
        divan::black_box(self.out.bytes(answer));
        let _ = divan::black_box(flow.into_rest(&mut self.server).unwrap());
    }
}

fn query(text: &str) -> Vec<u8> {
    let mut request = Vec::new();
    pgweir::session::client::query(text, &mut request);
    request
}

fn answer_with_a_row(out: &mut Vec<u8>) {
    message(tag::DATA_ROW, b"\0\x01\0\0\0\x010", out);
    message(tag::COMMAND_COMPLETE, b"SELECT 1\0", out);
    message(tag::READY_FOR_QUERY, b"I", out);
}

fn message(tag: u8, body: &[u8], out: &mut Vec<u8>) {
    let frame = Frame::begin(out, tag);
    out.extend_from_slice(body);
    frame.end(out);
}

/// Enough for a median that holds on a busy machine.
const MIN_TIME: Duration = Duration::from_millis(500);
