//! Messages and streams of any size, through a process that does not grow with them.

use std::fs;
use std::time::Instant;

use pgweir::protocol::tag;

use super::harness::wire::{bind, c_string, execute, frame, tags};
use super::harness::{PATIENCE, Pgweir, Postgres, Wire};

const MODES: [&str; 2] = ["transaction", "session"];
const MEGABYTE: usize = 1024 * 1024;
/// What the process may grow by, whatever passes through.
const GROWTH_MAX: usize = 10 * MEGABYTE;
const LARGE: usize = 64_000_000;

/// A pooler that has served a client, a client, and how large the process was then.
struct Setting {
    pgweir: Pgweir,
    wire: Wire,
    before: usize,
}

impl Setting {
    fn new(postgres: &Postgres, mode: &str) -> Self {
        let pgweir = Pgweir::before_with(postgres, &format!("pool_mode = \"{mode}\"\npool_size = 2"));
        let mut wire = Wire::log_in(pgweir.port(), "postgres", "app", None);
        wire.send_query("SELECT repeat('x', 1000) FROM generate_series(1, 1000)");
        Drain::new().run(&mut wire);
        let before = most_memory(&pgweir);
        Self { pgweir, wire, before }
    }

    fn assert_small(&self, what: &str) {
        let grown = most_memory(&self.pgweir).saturating_sub(self.before);
        assert!(grown < GROWTH_MAX, "{what}: grown by {grown} bytes");
    }
}

/// The most memory the process has had at any time.
fn most_memory(pgweir: &Pgweir) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", pgweir.process_id())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Reads up to ReadyForQuery without keeping anything.
struct Drain {
    buffer: Vec<u8>,
    /// What was read of a head that is not whole.
    head: Vec<u8>,
    /// Bytes of the present message still to come.
    rest: usize,
    counted: Counted,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counted {
    /// Messages with data, and their bodies' length together.
    messages: usize,
    bytes: usize,
    /// The other messages, in order.
    others: String,
}

impl Drain {
    fn new() -> Self {
        Self {
            buffer: vec![0; MEGABYTE],
            head: Vec::new(),
            rest: 0,
            counted: Counted::default(),
        }
    }

    fn run(mut self, wire: &mut Wire) -> Counted {
        let mut buffer = std::mem::take(&mut self.buffer);
        while self.rest > 0 || !self.counted.others.ends_with('Z') {
            let count = wire.read_some(&mut buffer);
            assert!(count > 0, "closed; so far {:?}", self.counted);
            self.take(&buffer[..count]);
        }
        self.counted
    }

    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let here = self.rest.min(bytes.len());
                self.rest -= here;
                bytes = &bytes[here..];
                continue;
            }
            let here = (5 - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..here]);
            bytes = &bytes[here..];
            if self.head.len() == 5 {
                self.on_head();
            }
        }
    }

    fn on_head(&mut self) {
        let length = u32::from_be_bytes(self.head[1..].try_into().unwrap());
        self.rest = usize::try_from(length).unwrap() - 4;
        match self.head[0] {
            tag::DATA_ROW | tag::COPY_DATA => {
                self.counted.messages += 1;
                self.counted.bytes += self.rest;
            }
            other => self.counted.others.push(char::from(other)),
        }
        self.head.clear();
    }
}

fn counted(messages: usize, bytes: usize, others: &str) -> Counted {
    Counted {
        messages,
        bytes,
        others: others.to_owned(),
    }
}

#[test]
fn a_gigabyte_of_rows_and_of_copies_passes() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE sink (line text)");
    for mode in MODES {
        let mut setting = Setting::new(&postgres, mode);
        let wire = &mut setting.wire;
        wire.send_query("SELECT repeat('x', 1000000) FROM generate_series(1, 1000)");
        assert_eq!(Drain::new().run(wire), counted(1000, 1000 * 1_000_006, "TCZ"));
        wire.send_query("COPY (SELECT repeat('x', 999999) FROM generate_series(1, 1000)) TO STDOUT");
        assert_eq!(Drain::new().run(wire), counted(1000, 1_000_000_000, "HcCZ"));
        setting.assert_small("out");

        let line = [vec![b'y'; 999_999], vec![b'\n']].concat();
        let message = frame(tag::COPY_DATA, &line);
        let wire = &mut setting.wire;
        wire.send_query("COPY sink FROM STDIN WHERE line IS NULL");
        for _ in 0..1000 {
            wire.send_raw(&message);
        }
        wire.send(tag::COPY_DONE, &[]);
        assert_eq!(tags(&wire.read_until_ready()), "GCZ");
        setting.assert_small("in");
    }
}

#[test]
fn many_small_rows_pass() {
    let postgres = Postgres::start();
    let mut setting = Setting::new(&postgres, "transaction");
    let wire = &mut setting.wire;
    wire.send_query("SELECT 'a row' FROM generate_series(1, 2000000)");
    assert_eq!(Drain::new().run(wire), counted(2_000_000, 2_000_000 * 11, "TCZ"));
    setting.assert_small("rows");
}

#[test]
fn a_client_that_does_not_read_costs_nothing() {
    let postgres = Postgres::start();
    for mode in MODES {
        let mut setting = Setting::new(&postgres, mode);
        setting
            .wire
            .send_query("SELECT repeat('x', 1000000) FROM generate_series(1, 200)");
        // PostgreSQL itself has to wait, since nobody takes what it sends.
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'";
        let deadline = Instant::now() + PATIENCE;
        while postgres.sql(waits) != "1" {
            assert!(Instant::now() < deadline);
        }
        setting.assert_small("while it waits");
        let all = Drain::new().run(&mut setting.wire);
        assert_eq!(all, counted(200, 200 * 1_000_006, "TCZ"));
        setting.assert_small("after it");
    }
}

#[test]
fn a_single_large_value_passes() {
    let postgres = Postgres::start();
    for mode in MODES {
        let mut setting = Setting::new(&postgres, mode);
        setting.wire.send_query("SELECT repeat('x', 200000000)");
        let all = Drain::new().run(&mut setting.wire);
        assert_eq!(all, counted(1, 200_000_006, "TCZ"));
        setting.assert_small(mode);
    }
}

#[test]
fn large_texts_and_large_values_pass() {
    let postgres = Postgres::start();
    let large = "x".repeat(LARGE);
    let text = format!("SELECT length('{large}')");
    for mode in MODES {
        let mut setting = Setting::new(&postgres, mode);
        let wire = &mut setting.wire;
        assert_eq!(wire.value(&text), LARGE.to_string());
        setting.assert_small("a query");

        let wire = &mut setting.wire;
        wire.send_parse("", "SELECT length($1::text)");
        wire.send_raw(
            &[
                bind("", "", &[Some(&large)]),
                execute("", 0),
                frame(tag::SYNC, &[]),
            ]
            .concat(),
        );
        let frames = wire.read_until_ready();
        assert_eq!(tags(&frames), "12DCZ");
        assert_eq!(frames[2].columns(), [LARGE.to_string()]);
        setting.assert_small("a value");

        // A named statement of this size, used more than once.
        let wire = &mut setting.wire;
        wire.send_parse("large", &text);
        wire.send_sync();
        assert_eq!(tags(&wire.read_until_ready()), "1Z");
        for _ in 0..2 {
            wire.send_raw(&[bind("", "large", &[]), execute("", 0), frame(tag::SYNC, &[])].concat());
            assert_eq!(tags(&wire.read_until_ready()), "2DCZ");
        }
        wire.send(tag::CLOSE, &c_string("Slarge"));
        wire.send_sync();
        assert_eq!(tags(&wire.read_until_ready()), "3Z");
        setting.assert_small("a statement");
        assert_eq!(setting.wire.value("SELECT 1"), "1");
    }
}

#[test]
fn large_errors_and_notices_pass() {
    let postgres = Postgres::start();
    let mut setting = Setting::new(&postgres, "transaction");
    let wire = &mut setting.wire;
    let frames = wire.query("DO $$ BEGIN RAISE NOTICE '%', repeat('n', 20000000); END $$");
    assert_eq!(frames[0].message().len(), 20_000_000);
    assert_eq!(tags(&frames), "NCZ");
    let frames = wire.query("DO $$ BEGIN RAISE EXCEPTION '%', repeat('e', 20000000); END $$");
    assert_eq!(frames[0].message().len(), 20_000_000);
    assert_eq!(tags(&frames), "EZ");
    setting.assert_small("errors");
}

#[test]
fn a_statement_of_as_many_parameters_as_there_may_be_travels() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1");
    let log_in = || Wire::log_in(pgweir.port(), "postgres", "app", None);
    let (mut wire, mut other) = (log_in(), log_in());
    let list = |item: fn(u16) -> String| (1..=u16::MAX).map(item).collect::<Vec<_>>().join(",");
    let text = format!("SELECT ARRAY[{}]::int4[]", list(|number| format!("${number}")));
    wire.send_parse("many", &text);
    wire.send_sync();
    assert_eq!(tags(&wire.read_until_ready()), "1Z");
    // It keeps no server connection.
    assert_eq!(other.value("SELECT 1"), "1");
    // This is how a driver asks which columns may be null.
    let nulls = list(|_| "NULL".to_owned());
    let plan = wire.query(&format!("EXPLAIN (COSTS OFF) EXECUTE many({nulls})"));
    assert_eq!(tags(&plan), "TDCZ", "{:?}", plan[0]);
}
