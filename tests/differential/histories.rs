//! Random histories of two sessions, decided by a seed and written in the language of the scripts.
//!
//! The sessions take turns: whoever may be in a block ends it before the other goes on, since there is one connection.

use std::fmt::Write as _;

use crate::compare::{Outcome, compare};
use crate::ground::Ground;
use crate::script::{Pool, Run, Script};

/// Lines that belong together: a batch, a statement.
type Unit = String;

/// What a seed makes, and how it is played.
#[derive(Clone, Debug)]
pub(crate) struct History {
    seed: u64,
    units: Vec<Unit>,
    pool: Pool,
    run: Run,
}

impl History {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let run = [Run::Simple, Run::Text, Run::Binary][random.below(3)];
        let pool = if random.below(4) == 0 {
            Pool::FewStatements
        } else {
            Pool::Size(1)
        };
        let mut teller = Teller {
            random,
            session: 'A',
            block: Block::Outside,
            values: 0,
            units: Vec::new(),
        };
        let turns = 4 + teller.random.below(10);
        for _ in 0..turns {
            teller.turn();
        }
        for session in ['A', 'B'] {
            teller.switch(session);
            let shown: Vec<String> = SETTINGS
                .iter()
                .map(|name| format!("coalesce(current_setting('{name}', true), '')"))
                .collect();
            teller.say(&format!(": SELECT current_user, {}", shown.join(", ")));
        }
        Self {
            seed,
            units: teller.units,
            pool,
            run,
        }
    }

    /// None if it went as directly; else the shortest history found that does not, with the answers.
    pub(crate) fn play(&self, ground: &mut Ground) -> Option<String> {
        let mut report = self.report(ground)?;
        let mut shortest = self.clone();
        let mut at = shortest.units.len();
        while at > 0 {
            at -= 1;
            let mut shorter = shortest.clone();
            shorter.units.remove(at);
            if let Some(other) = shorter.report(ground) {
                (shortest, report) = (shorter, other);
            }
        }
        for at in 0..shortest.units.len() {
            let mut line = shortest.units[at].lines().count();
            while line > 0 {
                line -= 1;
                let Some(unit) = without_line(&shortest.units[at], line) else {
                    continue;
                };
                let mut shorter = shortest.clone();
                shorter.units[at] = unit;
                if let Some(other) = shorter.report(ground) {
                    (shortest, report) = (shorter, other);
                }
            }
        }
        let pool = self.pool.database();
        Some(format!(
            "seed {} ({}, {pool}), {} of {} steps:\n{report}",
            self.seed,
            self.run.as_str(),
            shortest.units.len(),
            self.units.len()
        ))
    }

    fn report(&self, ground: &mut Ground) -> Option<String> {
        let mut script = Script::parse(&format!("seed {}", self.seed), &self.units.concat());
        script.pool = self.pool;
        script.setup = SETUP.iter().map(|sql| (*sql).to_owned()).collect();
        match compare(ground, &script, self.run) {
            Outcome::Same | Outcome::Meaningless => None,
            Outcome::Different(report) => {
                ground.forget_connections();
                Some(report)
            }
        }
    }
}

/// A batch without one of its messages; the Syncs must stay, for they are waited for.
fn without_line(unit: &str, at: usize) -> Option<String> {
    let lines: Vec<&str> = unit.lines().collect();
    let is_needed = lines.len() == 1 || lines[at].ends_with("> sync") || lines[at][1..].starts_with('<');
    let kept = lines.iter().enumerate().filter(|(number, _)| *number != at);
    (!is_needed).then(|| kept.map(|(_, line)| format!("{line}\n")).collect())
}

/// Whether the session whose turn it is may be in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Outside,
    Perhaps,
}

struct Teller {
    random: Random,
    session: char,
    block: Block,
    values: usize,
    units: Vec<Unit>,
}

impl Teller {
    /// One session does a few things.
    fn turn(&mut self) {
        let session = ['A', 'B'][self.random.below(2)];
        self.switch(session);
        let count = 1 + self.random.below(5);
        for _ in 0..count {
            match self.random.below(20) {
                0..=8 => {
                    let sql = self.statement();
                    self.say(&format!(": {sql}"));
                }
                9..=11 => self.text(),
                12..=13 => self.batch(),
                _ => self.protocol_statement(),
            }
        }
    }

    fn switch(&mut self, session: char) {
        if session != self.session && self.block == Block::Perhaps {
            let end = self.random.pick(&["COMMIT", "ROLLBACK"]);
            self.say(&format!(": {end}"));
            self.block = Block::Outside;
        }
        self.session = session;
    }

    /// A line of the session whose turn it is.
    fn say(&mut self, line: &str) {
        self.units.push(format!("{}{line}\n", self.session));
    }

    fn lines(&mut self, lines: &[String]) {
        let unit = lines.iter().fold(String::new(), |mut unit, line| {
            let _ = writeln!(unit, "{}{line}", self.session);
            unit
        });
        self.units.push(unit);
    }

    /// Several statements in one text.
    fn text(&mut self) {
        let count = 2 + self.random.below(3);
        // A statement that is prepared in such a text keeps its client on its connection.
        let is_movable = |text: &String| {
            let pinning = ["PREPARE ", "EXECUTE ", "DEALLOCATE p"];
            !pinning.iter().any(|verb| text.starts_with(verb))
        };
        let statements: Vec<String> = (0..count).map(|_| self.statement()).filter(is_movable).collect();
        self.say(&format!(":: SELECT 1; {}", statements.join("; ")));
    }

    /// Several statements up to one Sync, or two.
    fn batch(&mut self) {
        let mut lines = Vec::new();
        let mut syncs = "Z".to_owned();
        let count = 2 + self.random.below(4);
        let mut is_set = false;
        for _ in 0..count {
            let sql = self.statement();
            let sets = ["SET ", "RESET ", "SELECT set_config", "DISCARD ALL"];
            is_set |= sets.iter().any(|verb| sql.starts_with(verb));
            if is_set && sql.starts_with("PREPARE ") && sql.contains('\'') {
                // Its literals are read under settings that are not known yet: it keeps its client on its connection.
                continue;
            }
            lines.push(format!("> run {sql}"));
            if self.random.below(6) == 0 {
                lines.push("> sync".to_owned());
                is_set = false;
                syncs.push_str(" Z");
            }
        }
        lines.push("> sync".to_owned());
        lines.push(format!("< {syncs}"));
        self.lines(&lines);
    }

    fn protocol_statement(&mut self) {
        let name = self.random.pick(&["p1", "p2", "p3", "-"]);
        let text = self.random.pick(TEXTS);
        let mut lines = match self.random.below(9) {
            0..=2 => vec![format!("> parse {name} {text}")],
            3 => vec![
                format!("> parse {name} {text}"),
                format!("> bind - {name}"),
                "> execute -".to_owned(),
            ],
            4..=6 => vec![
                format!("> bind - {name}"),
                "> describe P -".to_owned(),
                "> execute -".to_owned(),
            ],
            7 => vec![format!("> describe S {name}")],
            _ => vec![format!("> close S {name}")],
        };
        lines.push("> sync".to_owned());
        lines.push("<".to_owned());
        self.lines(&lines);
    }

    /// One statement of SQL.
    fn statement(&mut self) -> String {
        match self.random.below(40) {
            0..=13 => self.setting(),
            14..=17 => {
                let name = self.random.pick(SETTINGS);
                if name.contains('.') {
                    // Once a connection has known such a name, it is empty and no longer unknown.
                    return format!("SELECT coalesce(current_setting('{name}', true), '')");
                }
                format!("SHOW {name}")
            }
            18..=20 => self.random.pick(TEXTS).to_owned(),
            21..=26 => self.transaction(),
            27 => "SELECT 1/0".to_owned(),
            28..=35 => self.sql_statement(),
            36 => self.random.pick(&["SET ROLE alice", "SET ROLE bob"]).to_owned(),
            37 => self.random.pick(&["RESET ROLE", "SET ROLE NONE"]).to_owned(),
            38 => "RESET ALL".to_owned(),
            _ => self
                .random
                .pick(&["DEALLOCATE ALL", "DISCARD ALL", "DISCARD PLANS"])
                .to_owned(),
        }
    }

    fn setting(&mut self) -> String {
        let name = self.random.pick(SETTINGS);
        let value = self.value_of(name);
        match self.random.below(10) {
            0..=3 => format!("SET {name} = {value}"),
            4..=5 => format!("SET LOCAL {name} = {value}"),
            6 => format!("RESET {name}"),
            7 => format!("SELECT set_config('{name}', {value}, false)"),
            8 => format!("SELECT set_config('{name}', {value}, true)"),
            _ => format!("SET {name} TO DEFAULT"),
        }
    }

    /// A value that no other statement sets, where there are enough.
    fn value_of(&mut self, name: &str) -> String {
        self.values += 1;
        let number = self.values;
        match name {
            "work_mem" => format!("'{}kB'", 1000 + number),
            "statement_timeout" => format!("'{}s'", 1000 + number),
            "TimeZone" => self
                .random
                .pick(&["'Asia/Tokyo'", "'America/New_York'", "'Nowhere'"])
                .to_owned(),
            "DateStyle" => self
                .random
                .pick(&["'ISO, DMY'", "'German'", "'ISO, MDY'"])
                .to_owned(),
            "search_path" => self.random.pick(&["'one'", "'two'", "'public'"]).to_owned(),
            _ => format!("'it''s {number}'"),
        }
    }

    fn transaction(&mut self) -> String {
        self.block = Block::Perhaps;
        self.random
            .pick(&[
                "BEGIN",
                "BEGIN",
                "BEGIN",
                "COMMIT",
                "COMMIT",
                "ROLLBACK",
                "SAVEPOINT one",
                "SAVEPOINT two",
                "ROLLBACK TO one",
                "ROLLBACK TO two",
                "RELEASE one",
                "COMMIT AND CHAIN",
            ])
            .to_owned()
    }

    fn sql_statement(&mut self) -> String {
        let name = self.random.pick(&["p1", "p2", "p3"]);
        let text = self.random.pick(TEXTS);
        match self.random.below(5) {
            // Under a name that is taken, the name is told to be, before the text is looked at.
            0..=1 if text.contains("nothing") => format!("EXECUTE {name}"),
            0..=1 => format!("PREPARE {name} AS {text}"),
            2..=3 => format!("EXECUTE {name}"),
            _ => format!("DEALLOCATE {name}"),
        }
    }
}

/// Numbers that a seed decides (splitmix64).
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x9e37_79b9_7f4a_7c15)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(end).unwrap()).unwrap()
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

const SETTINGS: &[&str] = &[
    "work_mem",
    "statement_timeout",
    "TimeZone",
    "DateStyle",
    "search_path",
    "application_name",
    "app.tenant",
];

/// What is prepared: texts whose meaning hangs on the session.
const TEXTS: &[&str] = &[
    "SELECT place FROM public.t",
    "SELECT place FROM t",
    "SELECT current_user, current_setting('work_mem')",
    "SELECT 'a constant'",
    "SELECT coalesce(current_setting('app.tenant', true), '')",
    "SELECT nothing",
    "INSERT INTO public.t VALUES ('inserted') RETURNING place",
];

const SETUP: &[&str] = &[
    "CREATE SCHEMA one; CREATE SCHEMA two",
    "CREATE TABLE one.t AS SELECT 'in one' AS place",
    "CREATE TABLE two.t AS SELECT 'in two' AS place",
    "CREATE TABLE public.t AS SELECT 'in public' AS place",
    "CREATE ROLE alice; CREATE ROLE bob; GRANT USAGE ON SCHEMA one TO alice; GRANT SELECT ON one.t TO alice",
];
