//! The statements: one of every kind, a call of every function that can be called, and views over those.

use crate::harness::{Postgres, Wire};

/// Tables, functions, views and more that the statements name.
pub(super) fn make_schema(primary: &Postgres) {
    primary.sql("ALTER DATABASE postgres SET statement_timeout = '10s'");
    primary.sql(include_str!("schema.sql"));
    let mut wire = Wire::log_in(primary.port(), "postgres", "postgres", None);
    wire.rows("CREATE SCHEMA over");
    for (index, call) in calls(&mut wire).iter().enumerate() {
        // What cannot be called cannot be in a view either, and pseudo-types are no columns.
        let name = call
            .split(['(', ' '])
            .nth(1)
            .unwrap_or_default()
            .trim_matches('"');
        wire.query(&format!(
            "CREATE VIEW over.\"v{index}_{name}\" AS {call} AS value"
        ));
    }
}

/// All statements that are judged.
pub(super) fn statements(primary: &Postgres) -> Vec<String> {
    let mut wire = Wire::log_in(primary.port(), "postgres", "postgres", None);
    let lines = include_str!("statements.sql").lines();
    let mut statements: Vec<String> = lines
        .filter(|line| !line.starts_with("--"))
        .map(str::to_owned)
        .collect();
    statements.extend(calls(&mut wire));
    let views = wire.rows("SELECT viewname FROM pg_views WHERE schemaname = 'over' ORDER BY 1");
    let of_view = |row: Vec<String>| format!("{VIEW}\"{}\"", row.concat());
    statements.extend(views.into_iter().map(of_view));
    statements
}

/// Calls with simple arguments, of a type each; those with arguments that no text can have are left out.
fn calls(wire: &mut Wire) -> Vec<String> {
    let rows = wire.rows(CALLS);
    rows.into_iter().map(|row| row.concat()).collect()
}

const CALLS: &str = r#"
WITH value(type, text) AS (VALUES
    ('bool', 'true'), ('int2', '1'), ('int4', '1'), ('int8', '1'), ('oid', '1'), ('float4', '0.01'), ('float8', '0.01'),
    ('numeric', '0.5'), ('text', 'a'), ('name', 'a'), ('varchar', 'a'), ('bpchar', 'a'), ('char', 'a'), ('bytea', 'a'),
    ('date', '2020-01-01'), ('time', '12:00'), ('timetz', '12:00+00'), ('timestamp', '2020-01-01'),
    ('timestamptz', '2020-01-01+00'), ('interval', '1 ms'), ('json', '{"a": 1}'), ('jsonb', '{"a": 1}'),
    ('jsonpath', '$.a'), ('xml', '<a/>'), ('uuid', '00000000-0000-0000-0000-000000000001'), ('inet', '127.0.0.1'),
    ('cidr', '127.0.0.0/8'), ('macaddr', '00:00:00:00:00:01'), ('macaddr8', '00:00:00:00:00:00:00:01'), ('bit', '1'),
    ('varbit', '1'), ('money', '1'), ('point', '(1,1)'), ('box', '(1,1),(0,0)'), ('circle', '<(1,1),1>'),
    ('lseg', '[(1,1),(0,0)]'), ('line', '{1,1,1}'), ('path', '[(1,1),(0,0)]'), ('polygon', '((1,1),(0,0))'),
    ('tsvector', 'a'), ('tsquery', 'a'), ('regclass', 't'), ('regtype', 'int4'), ('regproc', 'now'),
    ('regconfig', 'simple'), ('regdictionary', 'simple'), ('regnamespace', 'public'), ('regrole', 'postgres'),
    ('pg_lsn', '0/1'), ('xid', '1'), ('xid8', '1'), ('tid', '(0,1)'), ('cid', '1'), ('txid_snapshot', '1:1:'),
    ('pg_snapshot', '1:1:'), ('int4range', '[1,5)'), ('int8range', '[1,5)'), ('numrange', '[1,5)'), ('tsrange', 'empty'),
    ('tstzrange', 'empty'), ('daterange', 'empty'), ('_text', '{a}'), ('_int4', '{1}'), ('_int8', '{1}'), ('_int2', '{1}'),
    ('_float8', '{1}'), ('_oid', '{1}'), ('_name', '{a}'), ('_char', '{a}'), ('_regtype', '{int4}'), ('_bool', '{t}'),
    ('int2vector', '1'), ('oidvector', '1'), ('cstring', 'a'), ('refcursor', 'a')),
polymorphic(type, text) AS (VALUES
    ('any', '1'), ('anyelement', '1'), ('anynonarray', '1'), ('anycompatible', '1'), ('anycompatiblenonarray', '1'),
    ('anyarray', 'ARRAY[1]'), ('anycompatiblearray', 'ARRAY[1]'), ('anyrange', 'int4range(1, 5)'),
    ('anycompatiblerange', 'int4range(1, 5)'), ('anymultirange', 'int4multirange()'), ('anyenum', '''sad''::mood'),
    ('anycompatiblemultirange', 'int4multirange()'), ('record', 'ROW(1, 2)'), ('_record', 'ARRAY[ROW(1, 2)]')),
argument AS (
    SELECT p.oid, string_agg(coalesce(polymorphic.text, quote_literal(value.text) || '::' || format_type(t.oid, NULL),
        'NULL::' || format_type(t.oid, NULL)), ', ' ORDER BY a.place) AS list,
        bool_or(t.typname IN ('internal', 'trigger', 'event_trigger') OR t.typname LIKE '%handler') AS is_internal
    FROM pg_proc p, unnest(p.proargtypes) WITH ORDINALITY AS a(type, place)
    JOIN pg_type t ON t.oid = a.type LEFT JOIN value ON value.type = t.typname
    LEFT JOIN polymorphic ON polymorphic.type = t.typname GROUP BY p.oid)
SELECT 'SELECT ' || quote_ident(p.proname) || '(' || coalesce(argument.list, '') || ')' ||
    CASE prokind WHEN 'w' THEN ' OVER ()' ELSE '' END
FROM pg_proc p LEFT JOIN argument USING (oid)
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind <> 'p' AND NOT coalesce(argument.is_internal, false)
    AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype, 'internal'::regtype)
ORDER BY p.proname, p.oid"#;

/// What would end the session, the server or the test, or last beyond it; nor may it be called a read.
pub(super) fn is_dangerous(sql: &str) -> bool {
    sql.starts_with(VIEW) || DANGEROUS.iter().any(|word| sql.contains(word))
}

const DANGEROUS: [&str; 16] = [
    "pg_promote",
    "pg_terminate_backend",
    "pg_cancel_backend",
    "pg_wal_replay",
    "pg_reload_conf",
    "pg_rotate_logfile",
    "replication_slot",
    "logical_slot",
    "pg_switch_wal",
    "pg_backup",
    "pg_start_backup",
    "pg_stop_backup",
    "lo_export",
    "pg_log_",
    "pg_replication_origin",
    "binary_upgrade",
];

/// Statements that are judged and not run.
pub(super) const NEVER_RUN: &[&str] = &[
    "ALTER SYSTEM SET work_mem = '4MB'",
    "CHECKPOINT",
    "COPY t FROM STDIN",
    "COPY t FROM '/dev/null'",
    "COPY t TO '/tmp/made'",
    "CREATE DATABASE made",
    "CREATE INDEX CONCURRENTLY made ON t (a)",
    "CREATE SUBSCRIPTION made CONNECTION '' PUBLICATION made",
    "CREATE TABLESPACE made LOCATION '/tmp/made'",
    "DISCARD ALL",
    "DROP DATABASE made",
    "LOAD 'made'",
    "REINDEX DATABASE postgres",
    "SELECT pg_cancel_backend(pg_backend_pid())",
    "SELECT pg_create_logical_replication_slot('a', 'b')",
    "SELECT pg_create_physical_replication_slot('a')",
    "SELECT pg_drop_replication_slot('a')",
    "SELECT pg_promote()",
    "SELECT pg_reload_conf()",
    "SELECT pg_terminate_backend(pid) FROM t",
    "SELECT pg_terminate_backend(pg_backend_pid())",
    "SELECT pg_wal_replay_pause()",
    "VACUUM",
    "VACUUM FULL t",
];

/// Reads whose answers are no two times the same.
pub(super) fn differs_from_call_to_call(sql: &str) -> bool {
    let called = match sql.strip_prefix(VIEW) {
        Some(view) => view
            .split_once('_')
            .map(|(_, function)| function.trim_end_matches('"')),
        None => sql
            .strip_prefix("SELECT ")
            .and_then(|call| call.split('(').next()),
    };
    sql.starts_with("EXPLAIN ANALYZE") || called.is_some_and(|name| DIFFERENT.contains(&name))
}

const VIEW: &str = "SELECT * FROM over.";

const DIFFERENT: [&str; 10] = [
    "clock_timestamp",
    "gen_random_uuid",
    "now",
    "random",
    "random_normal",
    "statement_timestamp",
    "timeofday",
    "transaction_timestamp",
    "uuidv4",
    "uuidv7",
];
