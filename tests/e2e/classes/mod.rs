//! What pgweir says of statements, held against what a primary and a standby do with them.

mod corpus;
mod reader;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pgweir::plan::{
    Catalog, Circumstances, Class, Literals, Normaliser, Patterns, Plan, STACK_LEN, Spelling, plan,
};
use pgweir::protocol::tag;

use super::harness::wire::Frame;
use super::harness::{Postgres, Wire, target_directory};

#[test]
fn no_statement_that_does_more_than_read_is_called_a_read() {
    judge_and_run(Postgres::start, "installed");
}

#[test]
fn nor_is_one_by_the_oldest_major_version() {
    judge_and_run(|| Postgres::major(14), "14");
}

#[test]
fn nor_is_one_by_the_newest_major_version() {
    judge_and_run(|| Postgres::major(18), "18");
}

/// The check itself: what is called a read although it is none is found out by what the servers do.
#[test]
fn a_read_that_is_none_is_noticed() {
    let primary = Postgres::start();
    corpus::make_schema(&primary);
    let standby = primary.replica();
    standby.wait_for_replay(&primary);
    let mut there = Server::connect(&primary).watched();
    let mut here = Server::connect(&standby);
    let read = on_a_long_stack(|| plan_of("SELECT 1"));
    for sql in [
        "SELECT nextval('seq')",
        "SELECT app.bump(1)",
        "SELECT txid_current()",
        "SELECT pg_advisory_lock(1)",
        "SELECT set_config('work_mem', '5MB', false)",
        "SELECT lo_create(0)",
        "SELECT * FROM unlogged",
        "SELECT * FROM t FOR SHARE",
        "SELECT pg_is_in_recovery()",
        "LOCK TABLE t IN ROW EXCLUSIVE MODE",
        "DECLARE c CURSOR FOR SELECT 1",
        "SET work_mem = '5MB'",
    ] {
        let record = Record::observe(sql.to_owned(), read.clone(), &mut there, &mut here);
        assert!(record.complaint().is_some(), "{sql}");
    }
    let record = Record::observe(
        "SELECT * FROM t ORDER BY id".to_owned(),
        read,
        &mut there,
        &mut here,
    );
    assert_eq!(record.complaint(), None);
}

fn plan_of(sql: &str) -> Plan {
    let circumstances = Circumstances {
        catalog: &Catalog::default(),
        search_path: &[],
        functions: &Patterns::default(),
        spelling: Spelling::Standard,
    };
    plan(sql.as_bytes(), &circumstances)
}

/// What a server did with a statement, in a transaction that was rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Rows(Vec<Vec<String>>),
    Refused(String),
}

/// One statement of the corpus, and what became of it.
#[derive(Debug)]
struct Record {
    sql: String,
    plan: Plan,
    primary: Outcome,
    standby: Outcome,
    /// What is not as it was, on the primary.
    changes: Option<String>,
}

fn judge_and_run(start: impl FnOnce() -> Postgres, name: &str) {
    let primary = start();
    corpus::make_schema(&primary);
    let standby = primary.replica();
    standby.wait_for_replay(&primary);
    let statements = corpus::statements(&primary);
    assert!(statements.len() >= 1_500, "{} statements", statements.len());
    let plans = on_a_long_stack(|| {
        let catalog = reader::read(&primary);
        let circumstances = Circumstances {
            catalog: &catalog,
            search_path: &["public".into()],
            functions: &Patterns::default(),
            spelling: Spelling::Standard,
        };
        for sql in corpus::NEVER_RUN {
            let plan = plan(sql.as_bytes(), &circumstances);
            assert!(!is_read(&plan), "{sql}");
        }
        let planned = statements.iter().map(|sql| {
            let plan = plan(sql.as_bytes(), &circumstances);
            other_literals_change_nothing(sql, &plan, &circumstances);
            plan
        });
        planned.collect::<Vec<Plan>>()
    });
    let mut there = Server::connect(&primary).watched();
    let mut here = Server::connect(&standby);
    let pairs = statements.into_iter().zip(plans);
    let records: Vec<Record> = pairs
        .filter(|(sql, plan)| is_read(plan) || !corpus::is_dangerous(sql))
        .map(|(sql, plan)| Record::observe(sql, plan, &mut there, &mut here))
        .collect();
    report(&records, name);
    let wrong: Vec<String> = records.iter().filter_map(Record::complaint).collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        records.len(),
        wrong.join("\n")
    );
    let served = records.iter().filter(|record| record.is_served());
    let served = served.count();
    assert!(served >= 1_000, "a check of {served} reads says little");
}

/// The statement with other literals is known as the same one, and is of its class, unless the plan says that a literal decided.
fn other_literals_change_nothing(sql: &str, plan_here: &Plan, circumstances: &Circumstances<'_>) {
    let mut normaliser = Normaliser::new();
    let Some(key) = normaliser
        .normalise(sql.as_bytes(), Spelling::Standard)
        .map(<[u8]>::to_vec)
    else {
        return;
    };
    let mut other = sql.to_owned();
    for literal in normaliser.literals().iter().rev() {
        let is_number =
            sql[literal.clone()].starts_with(|first: char| first.is_ascii_digit() || first == '.');
        other.replace_range(literal.clone(), if is_number { "7" } else { "'pgweir'" });
    }
    assert_eq!(
        normaliser.normalise(other.as_bytes(), Spelling::Standard),
        Some(&*key),
        "{sql} and {other}"
    );
    let plan_there = plan(other.as_bytes(), circumstances);
    if [plan_here, &plan_there]
        .iter()
        .all(|plan| plan.literals() == Literals::Free)
    {
        assert_eq!(plan_here.class(), plan_there.class(), "{sql} and {other}");
    }
}

fn is_read(plan: &Plan) -> bool {
    plan.class() == Class::Read
}

impl Record {
    fn observe(sql: String, plan: Plan, there: &mut Server, here: &mut Server) -> Self {
        let (primary, changes) = there.observe(&sql, is_read(&plan));
        let (standby, _) = here.observe(&sql, is_read(&plan));
        Self {
            sql,
            plan,
            primary,
            standby,
            changes,
        }
    }

    fn is_served(&self) -> bool {
        is_read(&self.plan) && matches!(self.primary, Outcome::Rows(_))
    }

    /// What is wrong with calling it a read.
    fn complaint(&self) -> Option<String> {
        if !is_read(&self.plan) {
            return None;
        }
        if let Some(changes) = &self.changes {
            return Some(format!("{}: {changes}", self.sql));
        }
        let is_same = match (&self.primary, &self.standby) {
            (Outcome::Rows(primary), Outcome::Rows(standby)) => {
                primary == standby || corpus::differs_from_call_to_call(&self.sql)
            }
            (primary, standby) => primary == standby,
        };
        let text = |outcome: &Outcome| format!("{outcome:?}").chars().take(120).collect::<String>();
        (!is_same).then(|| {
            let (primary, standby) = (text(&self.primary), text(&self.standby));
            format!("{}: {primary} on the primary, {standby} on the standby", self.sql)
        })
    }
}

/// Writes down what each statement did, and tells the figures.
fn report(records: &[Record], name: &str) {
    let mut text = String::new();
    let mut figures: BTreeMap<&str, usize> = BTreeMap::new();
    for record in records {
        let did = match (&record.primary, &record.standby) {
            (Outcome::Rows(one), Outcome::Rows(other)) if one == other => "the same on both",
            (Outcome::Rows(_), Outcome::Rows(_)) => "other rows on the standby",
            (Outcome::Rows(_), Outcome::Refused(_)) => "refused by the standby alone",
            (Outcome::Refused(one), Outcome::Refused(other)) if one == other => "an error on both",
            (Outcome::Refused(_), _) => "an error on the primary",
        };
        *figures.entry(did).or_default() += 1;
        let class = format!("{:?}", record.plan.class());
        let (sql, reason) = (&record.sql, record.plan.reason());
        writeln!(text, "{class}\t{did}\t{sql}\t{reason}").unwrap();
    }
    let place = target_directory().join(format!("classes-{name}.tsv"));
    std::fs::write(&place, text).unwrap();
    let reads = records.iter().filter(|record| is_read(&record.plan)).count();
    let served = records.iter().filter(|record| record.is_served()).count();
    let count = records.len();
    println!(
        "{count} statements, {reads} reads, {served} of them without an error; {figures:?}; {}",
        place.display()
    );
}

/// A session of its own on one server.
struct Server {
    wire: Wire,
    port: u16,
    /// What [`STATE`] is at the beginning of each transaction, where changes are looked for.
    state: Option<String>,
}

impl Server {
    fn connect(postgres: &Postgres) -> Self {
        let port = postgres.port();
        let wire = Wire::log_in(port, "postgres", "postgres", None);
        Self {
            wire,
            port,
            state: None,
        }
    }

    /// It will look for changes.
    fn watched(mut self) -> Self {
        self.wire.query("BEGIN");
        self.state = Some(self.wire.value(STATE));
        self.wire.query("ROLLBACK");
        self
    }

    /// Runs a statement. What it has changed is looked for where nothing should have, and else undone.
    fn observe(&mut self, sql: &str, is_read: bool) -> (Outcome, Option<String>) {
        self.wire.query("BEGIN");
        let outcome = outcome(&self.wire.query(sql));
        let mut changes = None;
        if let (true, Outcome::Rows(_), Some(before)) = (is_read, &outcome, &self.state) {
            let after = self.wire.value(STATE);
            changes = (after != *before).then(|| format!("from {before} to {after}"));
        }
        self.wire.query("ROLLBACK");
        if !is_read || changes.is_some() {
            self.clean();
        }
        (outcome, changes)
    }

    fn clean(&mut self) {
        self.wire.query("ROLLBACK PREPARED 'x'");
        if error_of(&self.wire.query("DISCARD ALL")).is_some() {
            self.wire = Wire::log_in(self.port, "postgres", "postgres", None);
        }
        if let Some(state) = &mut self.state {
            self.wire.query("BEGIN");
            *state = self.wire.value(STATE);
            self.wire.query("ROLLBACK");
        }
    }
}

fn error_of(frames: &[Frame]) -> Option<String> {
    let error = frames.iter().find(|frame| frame.tag == tag::ERROR_RESPONSE);
    error.map(Frame::sqlstate)
}

fn outcome(frames: &[Frame]) -> Outcome {
    match error_of(frames) {
        Some(sqlstate) => Outcome::Refused(sqlstate),
        None => {
            let rows = frames.iter().filter(|frame| frame.tag == tag::DATA_ROW);
            Outcome::Rows(rows.map(Frame::columns).collect())
        }
    }
}

/// What a statement that only reads leaves as it is: no number for the transaction, no locks but those of reading, no settings,
/// no cursors and prepared statements of its own.
const STATE: &str = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL,
    (SELECT string_agg(DISTINCT locktype || mode, ' ') FROM pg_locks WHERE pid = pg_backend_pid()
        AND mode <> 'AccessShareLock' AND locktype <> 'virtualxid'),
    (SELECT md5(string_agg(name || '=' || setting, ',' ORDER BY name)) FROM pg_settings),
    (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors),
    (SELECT count(*) FROM pg_replication_slots)";

fn on_a_long_stack<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_LEN);
        thread.spawn_scoped(scope, run).unwrap().join().unwrap()
    })
}
