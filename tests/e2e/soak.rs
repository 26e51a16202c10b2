//! Isolation: two hundred clients do everything at once on ten connections, and each hears its own answers alone.
//!
//! `PGWEIR_SOAK_SECONDS` says how long, 60 by default.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pgweir::protocol::tag;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::harness::crowd::{Watcher, crowd, error, eventually};
use super::harness::wire::{Frame, bind, execute, frame, parse, tags};
use super::harness::{Pgweir, Postgres, Wire};

#[test]
fn no_answer_reaches_a_wrong_client() {
    let seconds = std::env::var("PGWEIR_SOAK_SECONDS").map_or(60, |text| text.parse().unwrap());
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE soak (owner text)");
    let url = postgres.superuser_url();
    let config = format!(
        "workers = 2\npool_size = 10\npool_timeout = \"60s\"\nadmin_users = [\"admin\"]\n\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{url}\"\n"
    );
    let pgweir = Pgweir::builder().config(&config).start();
    let watcher = Watcher::start(&postgres, "true");
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let done = AtomicU64::new(0);
    crowd(CLIENTS, |number| {
        let mut client = Soaker::new(&pgweir, number);
        while Instant::now() < deadline {
            client.act();
            done.fetch_add(1, Ordering::Relaxed);
        }
        client.wire.terminate();
        client.wire.read_until_closed();
    });
    println!("{} acts", done.load(Ordering::Relaxed));
    assert!(watcher.most() <= 10);
    assert!(!pgweir.log_contains("a task has failed"));
    eventually("everything is at rest", || is_at_rest(&pgweir, &postgres));
}

/// Nobody is served and nobody waits, and the idle connections are those that the server has.
fn is_at_rest(pgweir: &Pgweir, postgres: &Postgres) -> bool {
    let mut console = Wire::log_in(pgweir.port(), "admin", "pgweir", None);
    let pools = console.rows("SHOW POOLS");
    let pool = pools.iter().find(|row| row[0] == "app").unwrap();
    let [clients, waiting, active, idle] = [2, 3, 6, 9].map(|column: usize| pool[column].as_str());
    let connections = postgres.connections().to_string();
    clients == "0" && waiting == "0" && active == "0" && idle == connections
}

/// One client that knows what it has asked for.
struct Soaker<'a> {
    pgweir: &'a Pgweir,
    wire: Wire,
    key: (u32, Vec<u8>),
    number: usize,
    turn: u64,
    random: StdRng,
    /// Texts of its prepared statements, by name.
    prepared: Vec<(String, String)>,
}

impl<'a> Soaker<'a> {
    fn new(pgweir: &'a Pgweir, number: usize) -> Self {
        let (wire, key) = log_in(pgweir, number);
        Self {
            pgweir,
            wire,
            key,
            number,
            turn: 0,
            random: StdRng::seed_from_u64(number.try_into().unwrap()),
            prepared: Vec::new(),
        }
    }

    fn reconnect(&mut self) {
        (self.wire, self.key) = log_in(self.pgweir, self.number);
        self.prepared.clear();
    }

    /// A word that nobody else uses, and this client but once.
    fn word(&mut self) -> String {
        self.turn += 1;
        format!("c{}t{}", self.number, self.turn)
    }

    fn act(&mut self) {
        match self.random.random_range(0..100) {
            0..20 => self.simple(),
            20..35 => self.extended(),
            35..50 => self.named(),
            50..58 => self.unnamed_across_transactions(),
            58..68 => self.transaction(),
            68..74 => self.copy_out(),
            74..79 => self.copy_in(),
            79..84 => self.fail(),
            84..89 => self.pipeline(),
            89..92 => self.large(),
            92..94 => self.own_settings(),
            94..97 => self.cancel(),
            _ => self.vanish(),
        }
    }

    fn simple(&mut self) {
        let word = self.word();
        assert_eq!(self.wire.value(&format!("SELECT '{word}'")), word);
    }

    fn extended(&mut self) {
        let word = self.word();
        self.wire.send_parse("", "SELECT $1::text");
        self.wire.send_bind("", "", &[Some(&word)]);
        self.wire.send_execute("", 0);
        self.wire.send_sync();
        self.hear(&word);
    }

    /// Statements whose names all clients use, each for a text of its own.
    fn named(&mut self) {
        let word = self.word();
        let index = self.random.random_range(0..4);
        let name = format!("s{index}");
        if !self.prepared.iter().any(|(known, _)| *known == name) {
            let own = format!("own{}x{}", self.number, self.turn);
            self.wire
                .send_parse(&name, &format!("SELECT $1::text || '{own}'"));
            self.prepared.push((name.clone(), own));
        }
        let own = self
            .prepared
            .iter()
            .find(|(known, _)| *known == name)
            .unwrap()
            .1
            .clone();
        self.wire.send_bind("", &name, &[Some(&word)]);
        self.wire.send_execute("", 0);
        let closes = self.random.random_bool(0.1);
        if closes {
            self.wire.send(tag::CLOSE, format!("S{name}\0").as_bytes());
            self.prepared.retain(|(known, _)| *known != name);
        }
        self.wire.send_sync();
        self.hear(&format!("{word}{own}"));
    }

    fn unnamed_across_transactions(&mut self) {
        let word = self.word();
        self.wire.send_parse("", &format!("SELECT '{word}'"));
        self.wire.send_sync();
        assert_eq!(tags(&self.wire.read_until_ready()), "1Z");
        std::thread::yield_now();
        self.wire.send_bind("", "", &[]);
        self.wire.send_execute("", 0);
        self.wire.send_sync();
        self.hear(&word);
    }

    fn transaction(&mut self) {
        let word = self.word();
        self.expect_done("BEGIN");
        self.expect_done(&format!("SELECT set_config('soak.owner', '{word}', true)"));
        for _ in 0..self.random.random_range(0..3) {
            self.simple();
        }
        assert_eq!(self.wire.value("SELECT current_setting('soak.owner')"), word);
        let end = if self.random.random_bool(0.5) {
            "COMMIT"
        } else {
            "ROLLBACK"
        };
        self.expect_done(end);
        let left = self.wire.value("SELECT current_setting('soak.owner', true)");
        assert_eq!(left, "", "a setting has outlived its transaction");
    }

    fn copy_out(&mut self) {
        let word = self.word();
        let rows = self.random.random_range(1..200);
        let frames = self.wire.query(&format!(
            "COPY (SELECT '{word}' FROM generate_series(1, {rows})) TO STDOUT"
        ));
        let heard: Vec<_> = frames.iter().filter(|frame| frame.tag == b'd').collect();
        assert_eq!(heard.len(), rows, "{frames:?}");
        for line in heard {
            assert_eq!(line.body, format!("{word}\n").into_bytes());
        }
    }

    fn copy_in(&mut self) {
        let word = self.word();
        let rows = self.random.random_range(1..50);
        self.wire.send_query("COPY public.soak FROM STDIN");
        assert_eq!(self.wire.read_frame().tag, b'G');
        for _ in 0..rows {
            self.wire.send(tag::COPY_DATA, format!("{word}\n").as_bytes());
        }
        if self.random.random_bool(0.2) {
            self.wire.send(tag::COPY_FAIL, b"changed my mind\0");
            let frames = self.wire.read_until_ready();
            assert!(error(&frames).unwrap().message().contains("changed my mind"));
            return;
        }
        self.wire.send(tag::COPY_DONE, b"");
        assert!(error(&self.wire.read_until_ready()).is_none());
        let deleted = self
            .wire
            .query(&format!("DELETE FROM public.soak WHERE owner = '{word}'"));
        assert_eq!(deleted[0].body, format!("DELETE {rows}\0").into_bytes());
    }

    fn fail(&mut self) {
        let word = self.word();
        let frames = if self.random.random_bool(0.5) {
            self.wire.query(&format!("SELECT '{word}'::int"))
        } else {
            self.wire.send_parse("", &format!("SELECT '{word}'::int"));
            self.wire.send_bind("", "", &[]);
            self.wire.send_execute("", 0);
            self.wire.send_sync();
            self.wire.read_until_ready()
        };
        let error = error(&frames).unwrap();
        assert_eq!(error.sqlstate(), "22P02");
        assert!(error.message().contains(&word), "{error:?} is not about {word}");
    }

    /// Several requests in one packet, some under a Sync of their own.
    fn pipeline(&mut self) {
        let words: Vec<String> = (0..6).map(|_| self.word()).collect();
        let mut packet = Vec::new();
        for (index, word) in words.iter().enumerate() {
            packet.extend(parse("", "SELECT $1::text"));
            packet.extend(bind("", "", &[Some(word)]));
            packet.extend(execute("", 0));
            if index % 2 == 1 {
                packet.extend(frame(tag::SYNC, b""));
            }
        }
        self.wire.send_raw(&packet);
        let frames: Vec<Frame> = (0..3).flat_map(|_| self.wire.read_until_ready()).collect();
        let rows = frames.iter().filter(|frame| frame.tag == tag::DATA_ROW);
        let heard: Vec<String> = rows.map(|row| row.columns().concat()).collect();
        assert_eq!(heard, words);
    }

    fn large(&mut self) {
        let word = self.word();
        let times = self.random.random_range(1..20_000);
        let value = self.wire.value(&format!("SELECT repeat('{word}', {times})"));
        assert!(
            value == word.repeat(times),
            "a large value of {word} was mixed up"
        );
    }

    fn own_settings(&mut self) {
        let own = format!("soak-{}", self.number);
        assert_eq!(self.wire.value("SHOW application_name"), own);
        let path = self.wire.value("SHOW search_path");
        assert_eq!(path, format!("schema{}", self.number % 7));
    }

    /// Cancelled or not: the answer is this client's own.
    fn cancel(&mut self) {
        let word = self.word();
        self.wire
            .send_query(&format!("SELECT '{word}' FROM pg_sleep(0.02)"));
        std::thread::sleep(Duration::from_millis(self.random.random_range(0..25)));
        let mut requester = self.pgweir.wire();
        requester.cancel(self.key.0, &self.key.1);
        let frames = self.wire.read_until_ready();
        requester.read_until_closed();
        match error(&frames) {
            Some(error) => assert_eq!(error.sqlstate(), "57014", "{error:?}"),
            None => assert_eq!(frames[1].columns(), [word]),
        }
    }

    /// Leaves in the middle of something, and comes again.
    fn vanish(&mut self) {
        let word = self.word();
        match self.random.random_range(0..5) {
            0 => self
                .wire
                .send_query(&format!("SELECT '{word}' FROM pg_sleep(0.01)")),
            1 => self.expect_done("BEGIN"),
            2 => self.wire.send_query("COPY public.soak FROM STDIN"),
            3 => self.wire.send_raw(b"Q\x00\x00\x10\x00SELECT "),
            _ => self.wire.send_query(&format!("SELECT repeat('{word}', 1000000)")),
        }
        self.reconnect();
    }

    fn expect_done(&mut self, sql: &str) {
        let frames = self.wire.query(sql);
        assert!(error(&frames).is_none(), "{sql}: {frames:?}");
    }

    /// The answer to the last request: one row with this value.
    fn hear(&mut self, expected: &str) {
        let frames = self.wire.read_until_ready();
        let row = frames.iter().find(|frame| frame.tag == tag::DATA_ROW);
        let row = row.unwrap_or_else(|| panic!("client {} waits for {expected}: {frames:?}", self.number));
        assert_eq!(row.columns(), [expected]);
    }
}

fn log_in(pgweir: &Pgweir, number: usize) -> (Wire, (u32, Vec<u8>)) {
    let mut wire = pgweir.wire();
    let name = format!("soak-{number}");
    let path = format!("-c search_path=schema{}", number % 7);
    wire.startup(&[
        ("user", "postgres"),
        ("database", "app"),
        ("application_name", &name),
        ("options", &path),
    ]);
    let frames = wire.authenticate("postgres", "");
    let key = frames.iter().find_map(Frame::cancel_key);
    (wire, key.unwrap())
}

const CLIENTS: usize = 200;
