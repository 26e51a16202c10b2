//! Statements prepared, run and dropped by SQL: two clients on one server connection, each told what PostgreSQL would tell it.

use pgweir::protocol::tag;

use super::harness::wire::{Frame, bind, c_string, execute, frame, parse};
use super::harness::{Pgweir, Postgres, Wire};

/// What a client says: a simple query, or messages up to a `Sync`.
enum Say {
    Query(&'static str),
    Batch(Vec<Vec<u8>>),
}

use Say::{Batch, Query};

/// Parses, binds and executes a text without a name.
fn run(sql: &str) -> Say {
    Batch(vec![
        parse("", sql),
        describe(""),
        bind("", "", &[]),
        execute("", 0),
    ])
}

/// Binds and executes a statement.
fn bound(name: &str, values: &[Option<&str>]) -> Say {
    Batch(vec![describe(name), bind("", name, values), execute("", 0)])
}

fn describe(name: &str) -> Vec<u8> {
    frame(tag::DESCRIBE, &c_string(&format!("S{name}")))
}

fn close(name: &str) -> Vec<u8> {
    frame(tag::CLOSE, &c_string(&format!("S{name}")))
}

/// What an answer comes to: an error's fields, or the bytes.
fn essence(frame: &Frame) -> String {
    if frame.tag == tag::ERROR_RESPONSE {
        let field = |name: char| frame.field(name).unwrap_or_default();
        return format!("E {} {} at {}", field('C'), field('M'), field('P'));
    }
    format!("{} {}", char::from(frame.tag), frame.body.escape_ascii())
}

fn say(wire: &mut Wire, what: &Say) -> Vec<String> {
    match what {
        Query(text) => wire.send_query(text),
        Batch(messages) => wire.send_raw(&[messages.concat(), frame(tag::SYNC, &[])].concat()),
    }
    wire.read_until_ready().iter().map(essence).collect()
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn talk() -> Vec<Say> {
    vec![
        Query("PREPARE s (int) AS SELECT v, $1 FROM words"),
        Query("EXECUTE s(1)"),
        Query("EXECUTE S ( 2 ) ;"),
        bound("s", &[Some("3")]),
        bound("s", &[]),
        Query("PREPARE s AS SELECT 1"),
        Query("PREPARE untyped AS SELECT $1 || '!', 'a;b', $$c;d$$ -- e;f\n;"),
        Query("/* a /* nested */ one */ execute untyped('x')"),
        bound("untyped", &[Some("y")]),
        Query("PREPARE \"Quoted \"\"Name\" AS SELECT 'quoted'"),
        Query("EXECUTE \"Quoted \"\"Name\""),
        Query("EXECUTE \"quoted \"\"name\""),
        bound("Quoted \"Name", &[]),
        Query("EXPLAIN (COSTS OFF) EXECUTE s(1)"),
        Query("EXPLAIN VERBOSE EXECUTE \"Quoted \"\"Name\""),
        Query("CREATE UNLOGGED TABLE IF NOT EXISTS filled AS EXECUTE s(7)"),
        Query("SELECT * FROM filled"),
        Query("DROP TABLE filled"),
        // Errors: of the arguments, of the texts, of the names.
        Query("EXECUTE s(nonsense)"),
        Query("EXECUTE untyped"),
        Query("EXECUTE s(1) nonsense"),
        Query("PREPARE bad AS SELECT * FROM nowhere"),
        Query("PREPARE bad AS SELEC"),
        Query("EXECUTE bad"),
        Query("DEALLOCATE bad"),
        Query("EXECUTE pgweir_2(1)"),
        bound("bad", &[]),
        // The protocol's names.
        Batch(vec![parse("p", "SELECT 'by Parse', $1::text")]),
        Query("EXECUTE p('z')"),
        Query("PREPARE p AS SELECT 1"),
        Batch(vec![parse("s", "SELECT 1")]),
        Query("DEALLOCATE PREPARE p"),
        bound("p", &[Some("z")]),
        Batch(vec![close("untyped")]),
        Query("EXECUTE untyped('x')"),
        // Blocks: what is prepared stays.
        Query("BEGIN"),
        Query("PREPARE in_block AS SELECT 'in block'"),
        Query("DEALLOCATE \"Quoted \"\"Name\""),
        Query("EXECUTE s(1, 2)"),
        Query("PREPARE late AS SELECT 1"),
        Query("EXECUTE in_block"),
        Query("DEALLOCATE in_block"),
        Query("ROLLBACK"),
        Query("EXECUTE in_block"),
        Query("EXECUTE \"Quoted \"\"Name\""),
        Query("EXECUTE late"),
        // By portals.
        run("PREPARE ext (text) AS SELECT $1, 'ext'"),
        run("EXECUTE ext('a')"),
        run("EXECUTE ext('b')"),
        run("EXECUTE ext"),
        run("EXECUTE nobody"),
        run("PREPARE ext AS SELECT 2"),
        run("PREPARE other AS SELECT * FROM nowhere"),
        bound("ext", &[Some("c")]),
        Batch(vec![parse("runs", "EXECUTE ext('d')")]),
        bound("runs", &[]),
        run("DEALLOCATE ext"),
        Batch(vec![bind("", "runs", &[]), execute("", 0)]),
        run("PREPARE ext (text) AS SELECT $1, 'another'"),
        bound("runs", &[]),
        run("DEALLOCATE nobody"),
        // Several statements.
        Query("BEGIN; EXECUTE s(1); EXECUTE ext('e'); COMMIT"),
        Query("SELECT 1; EXECUTE s(1, 2)"),
        Query("SELECT 1; EXECUTE ext(nonsense)"),
        Query("SELECT 1; DEALLOCATE s"),
        Query("EXECUTE s(1)"),
        // Tables that change under it.
        Query("PREPARE changing AS SELECT * FROM words"),
        Query("EXECUTE changing"),
        Query("DEALLOCATE ALL"),
        Query("EXECUTE ext('f')"),
        Query("EXECUTE changing"),
        Query("DEALLOCATE ext"),
    ]
}

fn database(word: &str) -> Postgres {
    let postgres = Postgres::start();
    postgres.sql(&format!("CREATE TABLE words AS SELECT '{word}'::text AS v"));
    postgres
}

fn pooled(postgres: &Postgres) -> Pgweir {
    Pgweir::before_with(postgres, "pool_size = 1")
}

fn client(pgweir: &Pgweir) -> Wire {
    Wire::log_in(pgweir.port(), "postgres", "app", None)
}

#[test]
fn sql_names_mean_what_they_mean_to_postgresql() {
    let (postgres, reference) = (database("word"), database("word"));
    let pgweir = pooled(&postgres);
    let mut direct = Wire::log_in(reference.port(), "postgres", "postgres", None);
    let mut wire = client(&pgweir);
    for (index, step) in talk().iter().enumerate() {
        assert_eq!(say(&mut wire, step), say(&mut direct, step), "step {index}");
    }
    assert_eq!(wire.value("SELECT 'well'"), "well");
}

#[test]
fn two_clients_on_one_connection_have_names_of_their_own() {
    let (postgres, reference) = (database("word"), database("word"));
    let pgweir = pooled(&postgres);
    let mut direct = Wire::log_in(reference.port(), "postgres", "postgres", None);
    let (mut wire, mut other) = (client(&pgweir), client(&pgweir));
    let names = ["s", "untyped", "p", "in_block", "ext", "runs", "changing"];
    for name in names {
        other.query(&format!("PREPARE {name} AS SELECT 'of the other: {name}'"));
    }
    let mut in_block = false;
    for (index, step) in talk().iter().enumerate() {
        assert_eq!(say(&mut wire, step), say(&mut direct, step), "step {index}");
        in_block = match step {
            Query("BEGIN") => true,
            Query("ROLLBACK") => false,
            Query(_) | Batch(_) => in_block,
        };
        if let Some(name) = names.get(index % names.len()).filter(|_| !in_block) {
            let expected = format!("of the other: {name}");
            assert_eq!(other.value(&format!("EXECUTE {name}")), expected);
            // What the other leaves on the connection is the unnamed statement, too.
            other.send_raw(
                &[
                    parse("", &format!("EXECUTE {name}")),
                    bind("", "", &[]),
                    execute("", 0),
                    frame(tag::SYNC, &[]),
                ]
                .concat(),
            );
            assert_eq!(other.read_until_ready()[2].columns(), [expected]);
        }
    }
    assert_eq!(postgres.connections(), 1);
}

#[test]
fn sql_statements_follow_their_client_to_other_server_connections() {
    let postgres = database("word");
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 3");
    let mut wire = client(&pgweir);
    wire.query("PREPARE s (int) AS SELECT $1 + 1");
    wire.query("PREPARE t AS SELECT $1 || '!'");
    let mut others: Vec<Wire> = (0..3).map(|_| client(&pgweir)).collect();
    let mut servers = std::collections::BTreeSet::new();
    for busy in [&[0, 1][..], &[1, 2], &[0, 2], &[]] {
        for index in busy {
            others[*index].query("BEGIN; SELECT 1");
        }
        servers.insert(wire.value("SELECT pg_backend_pid()"));
        assert_eq!(wire.value("EXECUTE s(4)"), "5");
        wire.send_raw(&[bind("", "t", &[Some("x")]), execute("", 0), frame(tag::SYNC, &[])].concat());
        assert_eq!(wire.read_until_ready()[1].columns(), ["x!"]);
        for index in busy {
            others[*index].query("COMMIT");
        }
    }
    assert!(servers.len() > 1, "it was never on another connection");
}

#[test]
fn a_statement_that_cannot_be_prepared_again_fails_with_its_own_error() {
    let postgres = database("word");
    let pgweir = pooled(&postgres);
    let mut wire = client(&pgweir);
    wire.query("PREPARE s AS SELECT v FROM words");
    wire.query("PREPARE typed (int) AS SELECT v, $1 FROM words");
    assert_eq!(wire.value("EXECUTE s"), "word");
    // A new server connection, which knows neither; and the table is gone.
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'");
    while postgres.connections() > 0 {}
    postgres.sql("DROP TABLE words");
    let missing = "E 42P01 relation \"words\" does not exist at ";
    let mut answers = say(&mut wire, &Query("EXECUTE s"));
    if answers[0].starts_with("E 08") || answers[0].starts_with("E 57P01") {
        // The loss was not known yet.
        answers = say(&mut wire, &Query("EXECUTE s"));
    }
    assert_eq!(answers, [missing, "Z I"]);
    assert_eq!(say(&mut wire, &bound("typed", &[Some("1")])), [missing, "Z I"]);
    wire.query("BEGIN");
    assert_eq!(say(&mut wire, &Query("EXECUTE typed(1)")), [missing, "Z E"]);
    wire.query("ROLLBACK");
    postgres.sql("CREATE TABLE words AS SELECT 'again'::text AS v");
    assert_eq!(wire.value("EXECUTE s"), "again");
    assert_eq!(
        say(&mut wire, &Query("DEALLOCATE typed")),
        ["C DEALLOCATE\\x00", "Z I"]
    );
}

#[test]
fn a_plan_whose_columns_have_changed_is_made_anew_when_it_is_prepared_again() {
    let postgres = database("word");
    let pgweir = pooled(&postgres);
    let mut wire = client(&pgweir);
    wire.query("PREPARE s AS SELECT * FROM words");
    assert_eq!(wire.value("EXECUTE s"), "word");
    postgres.sql("ALTER TABLE words ADD COLUMN w int DEFAULT 2");
    assert_eq!(wire.query("EXECUTE s")[0].sqlstate(), "0A000");
    wire.query("DEALLOCATE s");
    wire.query("PREPARE s AS SELECT * FROM words");
    assert_eq!(wire.rows("EXECUTE s"), [["word", "2"]]);
}

#[test]
fn no_more_sql_statements_than_the_limit_stay_on_a_server_connection() {
    let postgres = database("word");
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1\nprepared_statements = 2");
    let mut wire = client(&pgweir);
    for number in 0..5 {
        wire.query(&format!("PREPARE s{number} AS SELECT {number}"));
    }
    for number in [0, 1, 2, 3, 4, 0, 4, 1] {
        assert_eq!(wire.value(&format!("EXECUTE s{number}")), number.to_string());
    }
    let count = wire.value("SELECT count(*) FROM pg_prepared_statements");
    assert!(count.parse::<usize>().unwrap() <= 2, "{count}");
    // One text may use more than the limit.
    let frames = wire.query("EXECUTE s0; EXECUTE s1; EXECUTE s2; EXECUTE s3");
    assert!(frames.iter().all(|frame| frame.tag != tag::ERROR_RESPONSE));
}
