//! Sessions never miss what they have written, and never go back in time, whatever happens to the servers.
//!
//! Many sessions write and read counters that only grow. Each knows what it has written and seen, and so what it must see at
//! the least. Meanwhile replicas fall behind, stand still, are killed and come back, and at the end the primary is lost.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use pgweir::protocol::tag;

use crate::harness::house::{House, role};
use crate::harness::wire::Frame;
use crate::harness::{PATIENCE, Postgres, Wire};

/// Sessions at once.
const SESSIONS: usize = 200;
/// Rows that all sessions count in.
const SHARED: usize = 4;
/// One read of so many is asked about where it was.
const ASKED_OF: u64 = 50;
/// How many operations, unless the environment says otherwise.
const OPERATIONS: u64 = 40_000;
/// Small pools, so that connections go from session to session.
const KEYS: &str =
    "pool_size = 4\npool_timeout = \"60s\"\nhealth_check_interval = \"200ms\"\nfailover_timeout = \"60s\"\n";

/// What all sessions have in common.
struct Ground {
    port: u16,
    /// When they stop.
    wanted: u64,
    done: AtomicU64,
    active: AtomicUsize,
    /// What a session should not have seen.
    violations: Mutex<Vec<String>>,
    /// Errors by what was asked for and code.
    errors: Mutex<BTreeMap<(&'static str, String), u64>>,
    /// Operations by what was asked for.
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Ground {
    fn new(port: u16, wanted: u64) -> Self {
        Self {
            port,
            wanted,
            done: AtomicU64::new(0),
            active: AtomicUsize::new(0),
            violations: Mutex::default(),
            errors: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    /// Waits until so many parts of a hundred are done. Says whether there is still somebody at work.
    fn wait_for(&self, percent: u64) -> bool {
        let (mut last, mut since) = (0, Instant::now());
        while self.done.load(Ordering::Relaxed) < self.wanted * percent / 100 {
            let done = self.done.load(Ordering::Relaxed);
            if done != last {
                (last, since) = (done, Instant::now());
            }
            assert!(since.elapsed() < PATIENCE * 2, "nobody gets on: {done} are done");
            if self.active.load(Ordering::Relaxed) == 0 && done > 0 {
                return false;
            }
            thread::sleep(std::time::Duration::from_millis(1));
        }
        true
    }

    fn print(&self, title: &str, start: Instant) {
        println!(
            "{title}: {} operations by {SESSIONS} sessions in {:?}",
            self.done.load(Ordering::Relaxed),
            start.elapsed()
        );
        println!("  operations {:?}", self.counts.lock().unwrap());
        println!("  errors {:?}", self.errors.lock().unwrap());
        println!("  violations {}", self.violations.lock().unwrap().len());
    }
}

/// One session, and what it knows.
struct Session<'a> {
    ground: &'a Ground,
    wire: Wire,
    id: usize,
    random: u64,
    /// Its own counter: what it must be at least, and what it can be at most. They differ while nobody knows whether a write
    /// was done.
    least: i64,
    most: i64,
    /// What it has seen of the shared ones.
    seen: [i64; SHARED],
}

/// The values of the rows of an answer; or the code of its error.
fn values(frames: &[Frame]) -> Result<Vec<i64>, String> {
    if let Some(error) = frames.iter().find(|frame| frame.tag == tag::ERROR_RESPONSE) {
        return Err(error.sqlstate());
    }
    let rows = frames.iter().filter(|frame| frame.tag == tag::DATA_ROW);
    Ok(rows.map(|row| row.columns()[0].parse().unwrap()).collect())
}

impl<'a> Session<'a> {
    fn new(ground: &'a Ground, id: usize) -> Self {
        Self {
            ground,
            wire: Wire::log_in(ground.port, "postgres", "app", None),
            id,
            random: u64::try_from(id).unwrap() + 1,
            least: 0,
            most: 0,
            seen: [0; SHARED],
        }
    }

    fn dice(&mut self, sides: u64) -> u64 {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }

    /// Until all have done enough.
    fn run(&mut self) {
        self.prepare();
        let mut counts = BTreeMap::<&'static str, u64>::new();
        while self.ground.done.load(Ordering::Relaxed) < self.ground.wanted {
            let what = match self.dice(100) {
                0..15 => self.write_own("write own, simple", false),
                15..25 => self.write_own("write own, extended", true),
                25..28 => self.write_shared(),
                28..50 => self.read_own("read own, simple", false),
                50..70 => self.read_own("read own, extended", true),
                70..88 => self.read_shared(),
                88..94 => self.transact("transaction", "BEGIN READ ONLY"),
                94..97 => self.transact("snapshot", "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"),
                _ => self.transact("write transaction", "BEGIN"),
            };
            *counts.entry(what).or_default() += 1;
            // Now and then it asks where that was.
            if self.dice(ASKED_OF) == 0 && what.starts_with("read") {
                let asked = if role(&mut self.wire) == "replica" {
                    "(sampled: on a replica)"
                } else {
                    "(sampled: on the primary)"
                };
                *counts.entry(asked).or_default() += 1;
            }
            self.ground.done.fetch_add(1, Ordering::Relaxed);
        }
        let mut all = self.ground.counts.lock().unwrap();
        for (what, count) in counts {
            *all.entry(what).or_default() += count;
        }
    }

    fn prepare(&mut self) {
        let id = self.id;
        self.wire
            .send_parse("r", &format!("SELECT v FROM own WHERE id = {id}"));
        self.wire.send_parse(
            "w",
            &format!("UPDATE own SET v = v + 1 WHERE id = {id} RETURNING v"),
        );
        self.wire.send_sync();
        self.wire.read_until_ready();
    }

    fn execute(&mut self, name: &str) -> Result<Vec<i64>, String> {
        self.wire.send_bind("", name, &[]);
        self.wire.send_execute("", 0);
        self.wire.send_sync();
        values(&self.wire.read_until_ready())
    }

    fn query(&mut self, sql: &str) -> Result<Vec<i64>, String> {
        values(&self.wire.query(sql))
    }

    fn note_error(&self, what: &'static str, code: String) {
        *self
            .ground
            .errors
            .lock()
            .unwrap()
            .entry((what, code))
            .or_default() += 1;
    }

    fn violation(&self, what: &str) {
        self.ground
            .violations
            .lock()
            .unwrap()
            .push(format!("session {}: {what}", self.id));
    }

    fn write_own(&mut self, what: &'static str, is_extended: bool) -> &'static str {
        self.most += 1;
        let id = self.id;
        let written = if is_extended {
            self.execute("w")
        } else {
            self.query(&format!("UPDATE own SET v = v + 1 WHERE id = {id} RETURNING v"))
        };
        match written {
            Ok(values) => self.see_own(what, &values, 1),
            Err(code) => {
                if code != "08007" {
                    // It was not done.
                    self.most -= 1;
                }
                self.note_error(what, code);
            }
        }
        what
    }

    /// It was told its own counter, which it has raised by so much just now.
    fn see_own(&mut self, what: &str, values: &[i64], raised: i64) {
        let expected = self.least + raised..=self.most;
        match values {
            [value] if expected.contains(value) => (self.least, self.most) = (*value, *value),
            other => self.violation(&format!("{what} tells {other:?}, not of {expected:?}")),
        }
    }

    fn see_shared(&mut self, what: &str, values: &[i64]) {
        if values.len() != SHARED {
            self.violation(&format!("{what} tells {values:?}"));
        }
        for (place, (seen, value)) in self.seen.iter_mut().zip(values).enumerate() {
            if *value < *seen {
                let told = format!(
                    "session {}: {what} tells {value} of counter {place}, after {seen}",
                    self.id
                );
                self.ground.violations.lock().unwrap().push(told);
            }
            *seen = (*seen).max(*value);
        }
    }

    fn write_shared(&mut self) -> &'static str {
        let what = "write shared";
        let place = self.dice(SHARED as u64);
        match self.query(&format!(
            "UPDATE shared SET v = v + 1 WHERE id = {place} RETURNING v"
        )) {
            Ok(values) => {
                let place = usize::try_from(place).unwrap();
                if values[0] <= self.seen[place] {
                    self.violation(&format!("{what} makes {values:?} of {}", self.seen[place]));
                }
                self.seen[place] = values[0];
            }
            Err(code) => self.note_error(what, code),
        }
        what
    }

    fn read_own(&mut self, what: &'static str, is_extended: bool) -> &'static str {
        let id = self.id;
        let read = if is_extended {
            self.execute("r")
        } else {
            self.query(&format!("SELECT v FROM own WHERE id = {id}"))
        };
        match read {
            Ok(values) => self.see_own(what, &values, 0),
            Err(code) => self.note_error(what, code),
        }
        what
    }

    fn read_shared(&mut self) -> &'static str {
        let what = "read shared";
        match self.query("SELECT v FROM shared ORDER BY id") {
            Ok(values) => self.see_shared(what, &values),
            Err(code) => self.note_error(what, code),
        }
        what
    }

    /// A transaction that reads both kinds twice, and writes in between if it may.
    fn transact(&mut self, what: &'static str, begin: &str) -> &'static str {
        if let Err(code) = self.try_transact(what, begin) {
            self.note_error(what, code);
            let _ = self.wire.query("ROLLBACK");
        }
        what
    }

    fn try_transact(&mut self, what: &'static str, begin: &str) -> Result<(), String> {
        let own = format!("SELECT v FROM own WHERE id = {}", self.id);
        self.query(begin)?;
        let shared = self.query("SELECT v FROM shared ORDER BY id")?;
        self.see_shared(what, &shared);
        let first = self.query(&own)?;
        self.see_own(what, &first, 0);
        let mut raised = 0;
        if begin == "BEGIN" {
            self.query(&format!("UPDATE own SET v = v + 1 WHERE id = {}", self.id))?;
            raised = 1;
        }
        let inside = self.query(&own)?;
        let is_right = inside.len() == 1 && inside[0] == first[0] + raised;
        if !is_right {
            self.violation(&format!("{what} tells {inside:?} after {first:?}"));
        }
        let again = self.query("SELECT v FROM shared ORDER BY id")?;
        self.see_shared(what, &again);
        if begin.contains("REPEATABLE") && again != shared {
            self.violation(&format!("{what} tells {again:?} in the snapshot of {shared:?}"));
        }
        self.most += raised;
        match self.query("COMMIT") {
            Ok(_) => {
                self.least += raised;
                Ok(())
            }
            Err(code) => {
                if code != "08007" {
                    self.most -= raised;
                }
                Err(code)
            }
        }
    }
}

fn tables() -> String {
    format!(
        "CREATE TABLE own (id int PRIMARY KEY, v bigint NOT NULL) WITH (fillfactor = 50); \
         INSERT INTO own SELECT i, 0 FROM generate_series(0, {}) i; \
         CREATE TABLE shared (id int PRIMARY KEY, v bigint NOT NULL); \
         INSERT INTO shared SELECT i, 0 FROM generate_series(0, {}) i",
        SESSIONS - 1,
        SHARED - 1
    )
}

fn operations(otherwise: u64) -> u64 {
    let wanted = std::env::var("PGWEIR_CONSISTENCY_OPS").ok();
    wanted.map_or(otherwise, |wanted| wanted.parse().unwrap())
}

/// Lets all sessions run while somebody meddles with the servers.
fn play(ground: &Ground, meddle: impl FnOnce()) {
    thread::scope(|scope| {
        for id in 0..SESSIONS {
            ground.active.fetch_add(1, Ordering::Relaxed);
            scope.spawn(move || {
                let _leaving = Leaving(ground);
                Session::new(ground, id).run();
            });
        }
        meddle();
    });
}

/// Counts a session out, however it ends.
struct Leaving<'a>(&'a Ground);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

fn delay(replica: &Postgres, delay: &str) {
    replica.sql(&format!("ALTER SYSTEM SET recovery_min_apply_delay = '{delay}'"));
    replica.sql("SELECT pg_reload_conf()");
}

/// What happens to replicas while sessions read from them, up to so many parts of a hundred.
fn harass(house: &mut House, ground: &Ground, end: u64) {
    delay(&house.replicas[0], "150ms");
    let mut percent = 5;
    for step in 0_u64.. {
        if percent >= end || !ground.wait_for(percent) {
            break;
        }
        match step % 5 {
            0 => _ = house.replicas[1].sql("SELECT pg_wal_replay_pause()"),
            1 => {
                house.replicas[2].kill_9();
                house.replicas[2].start().unwrap();
            }
            2 => _ = house.replicas[1].sql("SELECT pg_wal_replay_resume()"),
            3 => {
                house.replicas[1].kill_9();
                house.replicas[1].start().unwrap();
            }
            _ => _ = house.replicas[0].sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgweir'",
            ),
        }
        percent += 5;
    }
    house.replicas[1].sql("SELECT pg_wal_replay_resume()");
    delay(&house.replicas[0], "0");
}

/// The primary is lost, and the replica that has most of its log is promoted; the others follow it.
fn fail_over(house: &mut House) {
    house.primary.kill_9();
    let received = |replica: &Postgres| {
        let lsn = replica.sql("SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0')");
        lsn.parse::<u64>().unwrap()
    };
    let chosen = (0..house.replicas.len())
        .max_by_key(|&place| received(&house.replicas[place]))
        .unwrap();
    let heir = house.replicas.remove(chosen);
    let source = format!(
        "host={} port={} user=postgres",
        heir.socket_directory().display(),
        heir.port()
    );
    for other in &house.replicas {
        other.sql(&format!("ALTER SYSTEM SET primary_conninfo = '{source}'"));
        other.sql("SELECT pg_reload_conf()");
    }
    heir.sql("ALTER SYSTEM SET synchronous_standby_names = ''");
    heir.sql("SELECT pg_promote(true)");
    house.primary = heir;
}

#[test]
fn no_session_misses_its_own_writes_or_goes_back_in_time() {
    let start = Instant::now();
    let mut house = House::new(3, &tables(), KEYS);
    let ground = Ground::new(house.pgweir.port(), operations(OPERATIONS));
    play(&ground, || {
        harass(&mut house, &ground, 80);
        // A write that was acknowledged is wherever it may be promoted.
        house
            .primary
            .sql("ALTER SYSTEM SET synchronous_standby_names = 'ANY 3 (*)'");
        house.primary.sql("SELECT pg_reload_conf()");
        if ground.wait_for(85) {
            fail_over(&mut house);
        }
    });
    ground.print("consistency", start);
    let violations = ground.violations.lock().unwrap();
    assert!(
        violations.is_empty(),
        "{:#?}",
        &violations[..violations.len().min(20)]
    );
    let counts = ground.counts.lock().unwrap();
    assert!(
        counts.contains_key("(sampled: on a replica)"),
        "nothing was read from replicas: {counts:?}"
    );
    for ((what, code), count) in &*ground.errors.lock().unwrap() {
        // A transaction is lost with its server; a statement only if it was written and nobody can know what became of it.
        let is_due = what.contains("transaction")
            || *what == "snapshot"
            || (what.contains("write") && code == "08007");
        assert!(is_due, "{count} times {code}: {what}");
    }
}

#[test]
fn the_checker_sees_stale_reads_where_nothing_prevents_them() {
    let start = Instant::now();
    let house = House::new(3, &tables(), &format!("{KEYS}read_consistency = \"none\"\n"));
    let ground = Ground::new(house.pgweir.port(), OPERATIONS / 12);
    delay(&house.replicas[0], "150ms");
    play(&ground, || ());
    ground.print("without consistency", start);
    let violations = ground.violations.lock().unwrap();
    assert!(
        violations.iter().any(|what| what.contains("read own")),
        "no session misses its own write"
    );
    assert!(
        violations.iter().any(|what| what.contains("of counter")),
        "no session goes back"
    );
}
