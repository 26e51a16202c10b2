//! The table of classes, line by line.

use super::*;
use crate::plan::walk::{Steps, Walk, Whose};

fn reads(text: &str) {
    let plan = Fixture::new().plan(text);
    assert_eq!(plan.class(), Class::Read, "{text}: {}", plan.reason());
}

#[track_caller]
fn writes(text: &str, reason: &str) {
    let plan = Fixture::new().plan(text);
    assert_eq!(plan.class(), Class::Write, "{text}");
    assert_eq!(plan.reason().to_string(), reason, "{text}");
}

#[track_caller]
fn is(text: &str, class: Class) {
    let plan = Fixture::new().plan(text);
    assert_eq!(plan.class(), class, "{text}: {}", plan.reason());
}

/// What a query that only reads may have.
const READS: &[&str] = &[
    "SELECT",
    "SELECT 1",
    "VALUES (1, 'a'), (2, 'b')",
    "TABLE t",
    "SELECT * FROM t, public.users u, ONLY v WHERE t.id = u.id AND v.id > 1 OR NOT t.done",
    "SELECT count(*), sum(x) FILTER (WHERE y), string_agg(z, ',' ORDER BY z DESC) FROM t GROUP BY a HAVING max(b) > 1",
    "SELECT DISTINCT ON (a) a, b::text COLLATE \"C\" FROM t ORDER BY a, b USING > NULLS LAST LIMIT 10 OFFSET 5",
    "SELECT row_number() OVER w, lag(x, 1) OVER (PARTITION BY y ORDER BY z ROWS 3 PRECEDING) FROM t WINDOW w AS (ORDER BY y)",
    "WITH a AS (SELECT * FROM t), b AS (SELECT * FROM a) SELECT * FROM b UNION ALL SELECT * FROM a EXCEPT SELECT 1",
    "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT * FROM n",
    "WITH RECURSIVE n AS (SELECT 1 AS id UNION ALL SELECT id + 1 FROM n) CYCLE id SET c TO 1 DEFAULT 0 USING p SELECT * FROM n",
    "SELECT (SELECT max(x) FROM t), EXISTS (SELECT 1 FROM users), x = ANY (SELECT 1), x IN (1, 2), ARRAY(SELECT 1) FROM t",
    "SELECT CASE x WHEN 1 THEN 2 ELSE 3 END, coalesce(a, b), greatest(a, b), nullif(a, b), a IS DISTINCT FROM b FROM t",
    "SELECT a BETWEEN 1 AND 2, a NOT BETWEEN SYMMETRIC 1 AND 2, b LIKE 'x%', b ILIKE 'y', b SIMILAR TO 'z', b ~ 'r' FROM t",
    "SELECT (ARRAY[1, 2])[1], (x).y, (x)[1:2], ROW(1, 2), (a, b) = (c, d), a IS NULL, b IS NOT TRUE FROM t",
    "SELECT * FROM t TABLESAMPLE bernoulli (10) REPEATABLE (1) JOIN LATERAL (SELECT t.x) s ON true LEFT JOIN users USING (id)",
    "SELECT * FROM generate_series(1, 10) WITH ORDINALITY AS g(i, n), ROWS FROM (unnest(ARRAY[1]), unnest(ARRAY[2]))",
    "SELECT * FROM json_to_record('{}') AS x(a int, b text)",
    "SELECT a, b, grouping(a) FROM t GROUP BY GROUPING SETS ((a), (b)), ROLLUP (a, b), CUBE (a)",
    "SELECT extract(year FROM now()), now() AT TIME ZONE 'UTC', substring('a' FROM 1), position('a' IN 'b'), trim('a')",
    "SELECT current_date, current_user, localtimestamp, session_user, current_schema",
    "SELECT xmlelement(name a, xmlattributes(1 AS b), 'c'), xmlforest(1 AS a), xmlserialize(content '<a/>' AS text)",
    "SELECT * FROM xmltable('/a' PASSING '<a/>' COLUMNS b int PATH 'b' DEFAULT 1)",
    "SELECT json_object('a': 1), json_array(1, 2), json_objectagg('a': 1), json_arrayagg(1), '{}' IS JSON",
    "SELECT json_value('{}', '$.a' RETURNING int DEFAULT 1 ON EMPTY), json_query('{}', '$'), json_exists('{}', '$' PASSING 1 AS x)",
    "SELECT * FROM json_table('[]', '$[*]' COLUMNS (a int PATH '$.a', NESTED PATH '$.b' COLUMNS (c text PATH '$')))",
    "SELECT random(), gen_random_uuid(), clock_timestamp(), pg_sleep(0), md5('a'), pg_catalog.upper('a')",
    "SELECT 'sad'::mood, app.peek(1), peek FROM app.u",
    "SELECT current_setting('app.user_id'), current_setting('TimeZone')",
    "SELECT $1, $2::int FROM t WHERE id = $3",
    "COPY t TO STDOUT WITH (FORMAT csv)",
    "COPY (SELECT * FROM t) TO STDOUT",
    "EXPLAIN SELECT * FROM t",
    "EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM t",
    "SELECT 1; SELECT 2;",
];

#[test]
fn queries_of_every_shape_read() {
    READS.iter().for_each(|text| reads(text));
}

/// Each kind of thing that matters is come by as often as it is in the tree, wherever it is.
#[test]
fn the_walk_passes_nothing_over() {
    let fixture = Fixture::new();
    for text in READS {
        let circumstances = fixture.circumstances();
        let mut walked = Steps::default();
        let mut printed = String::new();
        for statement in parse::statements(text).unwrap() {
            let pg_query::NodeEnum::SelectStmt(select) = &statement.node else {
                continue;
            };
            let mut walk = Walk::new(&circumstances, Whose::Any);
            walk.query(select).unwrap();
            walked.add(walk.steps());
            printed.push_str(&format!("SelectStmt {{{select:?}"));
        }
        let count = |name: &str| printed.matches(&format!("{name} {{")).count();
        // Roots are printed with their name once more.
        let roots = printed.matches("SelectStmt {SelectStmt {").count();
        let expected = Steps {
            functions: count("FuncCall"),
            relations: count("RangeVar"),
            selects: count("SelectStmt") - roots,
            casts: count("TypeCast"),
            operators: count("AExpr"),
            columns: count("ColumnRef"),
        };
        assert_eq!(walked, expected, "{text}");
    }
}

#[test]
fn what_does_more_than_read_is_found_at_any_depth() {
    let places = [
        "SELECT {}",
        "SELECT 1 FROM t WHERE {} IS NULL",
        "SELECT count(*) FILTER (WHERE {} = 1) FROM t",
        "SELECT sum(x) OVER (PARTITION BY {}) FROM t",
        "SELECT 1 FROM t GROUP BY 1 HAVING {} > 0",
        "SELECT 1 FROM t ORDER BY {}",
        "SELECT 1 FROM t LIMIT {}",
        "SELECT 1 FROM t OFFSET {}",
        "SELECT 1 FROM t JOIN users ON {} = 1",
        "SELECT * FROM generate_series(1, {})",
        "SELECT * FROM t, LATERAL (SELECT {}) s",
        "WITH a AS (SELECT {}) SELECT 1",
        "SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT {}",
        "SELECT CASE WHEN true THEN {} END",
        "SELECT ARRAY[{}]",
        "SELECT (ARRAY[1])[{}]",
        "SELECT upper(x => {})",
        "SELECT EXISTS (SELECT {})",
        "SELECT 1 IN (SELECT {})",
        "VALUES (1), ({})",
        "SELECT coalesce(1, {})",
        "SELECT json_object('a': {})",
        "SELECT json_array(SELECT {})",
        "SELECT xmlelement(name a, {})",
        "SELECT * FROM t TABLESAMPLE system ({})",
        "SELECT 1 FROM t WINDOW w AS (ORDER BY {})",
        "SELECT string_agg(a, b ORDER BY {}) FROM t",
        "SELECT percentile_disc({}) WITHIN GROUP (ORDER BY x) FROM t",
        "COPY (SELECT {}) TO STDOUT",
        "EXPLAIN SELECT {}",
        "EXECUTE p({})",
    ];
    for place in places {
        let text = place.replace("{}", "nextval('seq')");
        writes(&text, "volatile function nextval");
    }
    for place in places {
        let text = place.replace("{}", "(SELECT id FROM t FOR UPDATE)");
        writes(&text, "locking clause");
    }
}

#[test]
fn functions_are_judged_by_all_that_share_a_name() {
    writes("SELECT app.bump(1)", "volatile function app.bump(integer)");
    writes("SELECT bump(1)", "unknown function bump");
    writes("SELECT mixed()", "volatile function public.mixed(integer)");
    // A user's overload of a function of PostgreSQL's.
    writes("SELECT lower(1)", "volatile function public.lower(integer)");
    reads("SELECT pg_catalog.lower('a')");
    let mut fixture = Fixture::new();
    let class = |fixture: &Fixture, text| fixture.plan(text).class();
    fixture.path = vec!["app".into()];
    assert_eq!(class(&fixture, "SELECT peek(1)"), Class::Read);
    fixture.path = vec!["app".into(), "other".into()];
    assert_eq!(class(&fixture, "SELECT peek(1)"), Class::Write);
}

#[test]
fn patterns_of_the_operator_win() {
    let mut fixture = Fixture::new();
    fixture.path = vec!["public".into(), "app".into()];
    fixture.patterns = Patterns::new(["app.b*", "unheard_of"], ["upper", "app.peek"]);
    let reason = |text: &str| fixture.plan(text).reason().to_string();
    assert_eq!(reason("SELECT bump(1), unheard_of()"), "reads only");
    assert_eq!(
        reason("SELECT peek(1)"),
        "function in write_functions app.peek(integer)"
    );
    assert_eq!(reason("SELECT upper('a')"), "function in write_functions upper");
}

#[test]
fn relations_are_told_apart() {
    writes("SELECT * FROM u", "unlogged table public.u");
    reads("SELECT * FROM app.u");
    reads("WITH u AS (SELECT 1) SELECT * FROM u");
    writes(
        "WITH u AS (SELECT * FROM u) SELECT * FROM u",
        "unlogged table public.u",
    );
    writes(
        "SELECT (WITH u AS (SELECT 1) SELECT 1), * FROM u",
        "unlogged table public.u",
    );
    writes(
        "WITH RECURSIVE a AS (SELECT * FROM public.u) SELECT * FROM a",
        "unlogged table public.u",
    );
    writes(
        "SELECT last_value FROM seq",
        "sequence read as a table public.seq",
    );
    writes("SELECT * FROM f", "foreign table public.f");
    writes("SELECT * FROM missing", "unknown table missing");
    writes("SELECT * FROM pg_temp.t", "temporary table pg_temp.t");
    writes("SELECT * FROM pg_class", "system catalog pg_class");
    writes(
        "SELECT * FROM information_schema.tables",
        "system catalog information_schema.tables",
    );
    writes(
        "SELECT * FROM vv",
        "public.vv: volatile function app.bump(integer)",
    );
    writes("COPY u TO STDOUT", "unlogged table public.u");
}

#[test]
fn types_operators_and_rows_may_call_functions() {
    writes(
        "SELECT 'x'::checked",
        "type public.checked: volatile function app.bump(integer)",
    );
    writes("SELECT 'x'::hstore", "unknown type hstore");
    writes("SELECT 1 <+> 2", "volatile function public.<+>");
    writes("SELECT 1 OPERATOR(other.<<<) 2", "unknown operator other.<<<");
    writes("SELECT t.bump_row FROM t", "volatile function app.bump(integer)");
    writes(
        "SELECT (t).bump_row FROM t",
        "volatile function app.bump(integer)",
    );
    let reason = "jsonb_populate_record: type checked: volatile function app.bump(integer)";
    writes("SELECT jsonb_populate_record(t, '{}') FROM t", reason);
    let mut fixture = Fixture::new();
    fixture.catalog.add_operator("public", "=", Judgement::Volatile);
    assert_eq!(fixture.plan("SELECT 1 FROM t GROUP BY a").class(), Class::Write);
}

#[test]
fn calls_that_standby_servers_take_and_should_not_are_the_primarys() {
    writes("SELECT pg_advisory_lock(1)", "advisory lock pg_advisory_lock");
    writes(
        "SELECT pg_try_advisory_xact_lock(1)",
        "advisory lock pg_try_advisory_xact_lock",
    );
    for call in [
        "set_config('a.b', 'c', false)",
        "setseed(0.5)",
        "pg_terminate_backend(1)",
        "pg_cancel_backend(1)",
        "pg_promote()",
        "pg_reload_conf()",
        "pg_export_snapshot()",
        "pg_create_physical_replication_slot('x')",
        "pg_drop_replication_slot('x')",
        "pg_stat_reset()",
        "pg_wal_replay_pause()",
        "pg_switch_wal()",
    ] {
        let name = call.split('(').next().unwrap();
        let reason = format!("function that acts on the session or the server {name}");
        writes(&format!("SELECT {call}"), &reason);
    }
    writes("SELECT txid_current()", "volatile function txid_current");
    writes(
        "SELECT query_to_xml('DELETE FROM t', true, true, '')",
        "function that runs a text query_to_xml",
    );
    writes(
        "SELECT pg_is_in_recovery()",
        "answer of one server: function pg_is_in_recovery",
    );
    let reason = "answer of one server: function current_setting(transaction_read_only)";
    writes("SELECT current_setting('transaction_read_only')", reason);
    writes(
        "SELECT current_setting($1)",
        "answer of one server: function current_setting(…)",
    );
}

#[test]
fn statements_that_write_are_named() {
    for (text, reason) in [
        ("INSERT INTO t VALUES (1)", "INSERT"),
        ("WITH a AS (SELECT 1) UPDATE t SET x = 1", "UPDATE"),
        (
            "WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a",
            "DELETE in WITH",
        ),
        (
            "SELECT * FROM (WITH a AS (INSERT INTO t VALUES (1) RETURNING 1) SELECT 1) b",
            "INSERT in WITH",
        ),
        ("SELECT * INTO x FROM t", "SELECT INTO"),
        ("SELECT 1 UNION SELECT 2 FROM t FOR SHARE", "locking clause"),
        ("COPY t FROM STDIN", "COPY FROM"),
        ("COPY t TO PROGRAM 'rm'", "COPY TO PROGRAM"),
        ("COPY t TO '/tmp/x'", "COPY TO a file"),
        ("COPY (DELETE FROM t RETURNING *) TO STDOUT", "DELETE"),
        ("EXPLAIN INSERT INTO t VALUES (1)", "INSERT"),
        ("EXPLAIN ANALYZE CREATE TABLE x AS SELECT 1", "CREATE TABLE AS"),
        ("LOCK TABLE t IN ACCESS SHARE MODE", "LOCK TABLE"),
        (
            "create or replace function f() returns int language sql as 'select 1'",
            "CREATE FUNCTION",
        ),
        ("/* x */ ALTER SYSTEM SET work_mem = 1", "ALTER SYSTEM"),
        ("DO 'BEGIN END'", "DO"),
        ("CALL p()", "CALL"),
        ("NOTIFY a", "NOTIFY"),
        ("LISTEN a", "LISTEN"),
        ("CHECKPOINT", "CHECKPOINT"),
        ("LOAD 'x'", "LOAD"),
        ("PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION"),
        (
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            "DECLARE CURSOR WITH HOLD",
        ),
        ("SET transaction_read_only = off", "SET TRANSACTION_READ_ONLY"),
        ("SET LOCAL transaction_isolation = 'serializable'", "SET LOCAL"),
    ] {
        writes(text, reason);
    }
}

#[test]
fn transactions_and_sessions_have_classes_of_their_own() {
    is("BEGIN", Class::Begin(Access::Unstated));
    is(
        "START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        Class::Begin(Access::ReadOnly),
    );
    is("BEGIN READ WRITE", Class::Begin(Access::Primary));
    is("BEGIN READ ONLY READ WRITE", Class::Begin(Access::Primary));
    is(
        "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE",
        Class::Begin(Access::Primary),
    );
    is("SET TRANSACTION READ ONLY", Class::Modes(Access::ReadOnly));
    is("SET TRANSACTION SNAPSHOT 'x'", Class::Write);
    for text in [
        "COMMIT",
        "END",
        "ROLLBACK AND CHAIN",
        "SAVEPOINT a",
        "ROLLBACK TO a",
        "RELEASE a",
        "FETCH 1 FROM c",
    ] {
        is(text, Class::Within);
    }
    is("DECLARE c CURSOR FOR SELECT * FROM t", Class::Within);
    is("DECLARE c CURSOR FOR SELECT * FROM t FOR UPDATE", Class::Write);
    is("SET LOCAL work_mem = '1MB'", Class::Within);
    for text in [
        "SET a.b = 'c'",
        "RESET ALL",
        "SHOW work_mem",
        "DISCARD ALL",
        "DEALLOCATE p",
        "UNLISTEN *",
        "",
        ";;",
    ] {
        is(text, Class::Session);
    }
    is("PREPARE p AS SELECT * FROM t", Class::Prepare(Inner::Reads));
    is(
        "PREPARE p AS INSERT INTO t VALUES (1)",
        Class::Prepare(Inner::Writes),
    );
    is("EXECUTE p(1)", Class::Execute);
    is("EXPLAIN EXECUTE p(1)", Class::Execute);
}

#[test]
fn several_statements_are_judged_as_one() {
    writes("SELECT 1; INSERT INTO t VALUES (1)", "INSERT");
    writes(
        "SET search_path TO app; SELECT * FROM t",
        "several statements, one of which is SET SEARCH_PATH",
    );
    writes(
        "BEGIN; SELECT 1; COMMIT",
        "several statements, one of which is BEGIN",
    );
    is("SET a.b = 'c'; SET d.e = 'f'", Class::Session);
}

#[test]
fn what_is_not_understood_is_the_primarys() {
    assert_eq!(
        Fixture::new().plan("SELEC 1").reason().kind(),
        ReasonKind::Unparsable
    );
    assert_eq!(
        Fixture::new().plan("SELECT 'a").reason().kind(),
        ReasonKind::Unparsable
    );
    assert_eq!(
        plan(b"SELECT '\xff'", &Fixture::new().circumstances()).class(),
        Class::Write
    );
    assert_eq!(
        plan(b"SELECT 1\0", &Fixture::new().circumstances()).class(),
        Class::Write
    );
    let fixture = Fixture::new();
    let other = Circumstances {
        spelling: Spelling::Other,
        ..fixture.circumstances()
    };
    assert_eq!(
        plan(br"SELECT '\'', nextval('x') --'", &other).class(),
        Class::Write
    );
    assert_eq!(plan(b"SELECT 'a' FROM t", &other).class(), Class::Read);
}

#[test]
fn a_plan_knows_what_it_touches_and_whether_a_literal_decided() {
    let fixture = Fixture::new();
    let plan = fixture.plan("SELECT * FROM t JOIN users USING (id) JOIN public.t x ON true");
    assert_eq!(plan.relations(), ["public.t".into(), "public.users".into()]);
    assert_eq!(plan.literals(), Literals::Free);
    assert_eq!(
        fixture.plan("SELECT current_setting('a.b')").literals(),
        Literals::Fixed
    );
    assert_eq!(fixture.plan("SELECT '").literals(), Literals::Fixed);
}
