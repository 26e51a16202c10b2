use super::super::Pins;
use super::*;
use PinReason::{AdvisoryLock, Cursor, Listen, Load, Prepare, Seed, Session, Setting, TemporaryTable};

fn names(effects: &Effects) -> Vec<&str> {
    effects.sets.iter().map(|name| &**name).collect()
}

const FOLLOWED: &[(&str, &str, &[&str])] = &[
    (
        "sql",
        "CREATE RULE r AS ON SELECT TO v DO INSTEAD SELECT set_config('a.b'::text, 'x'::text, false) AS set_config;",
        &["a.b"],
    ),
    (
        "sql",
        "SELECT set_config('app.tenant', $1, false)",
        &["app.tenant"],
    ),
    (
        "plpgsql",
        "BEGIN PERFORM set_config('a.b', x, false); END",
        &["a.b"],
    ),
    (
        "plpgsql",
        "BEGIN SET search_path = a, b; RESET work_mem; END",
        &["search_path", "work_mem"],
    ),
    (
        "plpgsql",
        "BEGIN IF a THEN SET ROLE none; ELSE SET work_mem TO 1; END IF; END",
        &["role", "work_mem"],
    ),
    (
        "plpgsql",
        "<<here>> BEGIN LOOP SET work_mem = 1; END LOOP; END",
        &["work_mem"],
    ),
    ("plpgsql", "BEGIN /* ' */ SET a.b = 1; -- it's\nEND", &["a.b"]),
    (
        "plpgsql",
        "BEGIN EXECUTE 'SET work_mem = ' || quote_literal(v); END",
        &["work_mem"],
    ),
    (
        "plpgsql",
        "BEGIN EXECUTE format('SET app.x TO %L', v); END",
        &["app.x"],
    ),
    (
        "plpgsql",
        "BEGIN EXECUTE 'SET ROLE ' || quote_ident(v); END",
        &["role"],
    ),
    (
        "plpgsql",
        "BEGIN EXECUTE $q$SELECT set_config('a.b', $1, false)$q$ USING v; END",
        &["a.b"],
    ),
    (
        "plpgsql",
        "BEGIN EXECUTE 'SELECT set_config(''a.b'', $1, false)' USING v; END",
        &["a.b"],
    ),
    (
        "plpgsql",
        "DECLARE q text := 'SET a.b = 1'; BEGIN EXECUTE q; END",
        &["a.b"],
    ),
    (
        "plpgsql",
        "BEGIN UPDATE t SET a = 1; SET LOCAL work_mem = 1; SET TimeZone = 'UTC'; END",
        &[],
    ),
    (
        "plpgsql",
        "BEGIN PERFORM set_config('a.b', x, true); RAISE NOTICE 'set it'; END",
        &[],
    ),
    ("plpgsql", "BEGIN EXECUTE 'SET LOCAL ' || x; END", &[]),
];

#[test]
fn settings_are_followed_by_name() {
    for (language, body, expected) in FOLLOWED {
        let effects = judge(language.as_bytes(), body.as_bytes());
        assert_eq!(names(&effects), *expected, "{body}");
        assert_eq!(effects.pins, Pins::NONE, "{body}");
    }
}

const PINNING: &[(&str, &str, PinReason)] = &[
    ("sql", "SELECT set_config($1, $2, false)", Setting),
    (
        "sql",
        "UPDATE pg_settings SET setting = '1' WHERE name = 'work_mem'",
        Setting,
    ),
    ("plpgsql", "BEGIN EXECUTE $1; END", Setting),
    ("plpgsql", "BEGIN EXECUTE query; END", Setting),
    (
        "plpgsql",
        "DECLARE q text; BEGIN SELECT t INTO q FROM x; EXECUTE q; END",
        Setting,
    ),
    (
        "plpgsql",
        "DECLARE q text := 'SELECT 1'; BEGIN q := $1; EXECUTE q; END",
        Setting,
    ),
    ("plpgsql", "BEGIN EXECUTE 'SET ' || name || ' = 1'; END", Setting),
    (
        "plpgsql",
        "BEGIN EXECUTE 'SET app' || name || ' = 1'; END",
        Setting,
    ),
    (
        "plpgsql",
        "BEGIN EXECUTE format('SET app.%I = %L', a, b); END",
        Setting,
    ),
    ("plpgsql", "BEGIN EXECUTE 'RESET ' || name; END", Setting),
    (
        "plpgsql",
        "BEGIN EXECUTE 'SELECT 1' || '; SET ' || name; END",
        Setting,
    ),
    ("plpgsql", "BEGIN RESET ALL; END", Setting),
    (
        "plpgsql",
        "BEGIN PERFORM U&\"\\0073et_config\"('a', 'b', false); END",
        Setting,
    ),
    (
        "plpgsql",
        "BEGIN EXECUTE 'SELECT 1' || E'; \\123ET a.' || name; END",
        Setting,
    ),
    ("plpgsql", "BEGIN PERFORM E'a'\n'\\''; RESET ALL; END", Setting),
    ("plpgsql", "BEGIN EXECUTE U&'\\0053ET a = 1'; END", Setting),
    ("plpgsql", "BEGIN EXECUTE format('SELECT %I()', f); END", Setting),
    (
        "plpgsql",
        "BEGIN EXECUTE format('SELECT a FROM %1$I.%2$s ($1)', s, f) USING x; END",
        Setting,
    ),
    (
        "plpgsql",
        "BEGIN EXECUTE format('INSERT INTO %I (a) SELECT app.\"%s\"(1)', t, f); END",
        Setting,
    ),
    (
        "plpgsql",
        "BEGIN EXECUTE 'SELECT do_' || quote_ident(f) || '(1)' INTO x; END",
        Setting,
    ),
    (
        "plpgsql",
        "BEGIN EXECUTE concat('SELECT ', f, '()'); END",
        Setting,
    ),
    (
        "plpgsql",
        "BEGIN EXECUTE 'SELECT ' || expression INTO x; END",
        Setting,
    ),
    ("plpgsql", "BEGIN EXECUTE format('SELECT %s', x); END", Setting),
    (
        "plpgsql",
        "BEGIN PERFORM 'a\\''; SET a.b = 1; --'; RESET ALL; END",
        Setting,
    ),
    (
        "plpgsql",
        "BEGIN PERFORM 'a\\'; RESET ALL; PERFORM 'b'; END",
        Setting,
    ),
    ("plpgsql", "BEGIN PERFORM 'a\\''; RESET ALL; --'; END", Setting),
    ("plpgsql", "BEGIN EXECUTE 'R\\x45SET ALL'; END", Setting),
    ("plperl", "spi_exec_query($_[0]);", Setting),
    ("java", "com.example.Main.run", Setting),
    ("sql", "SELECT pg_advisory_lock(42)", AdvisoryLock),
    (
        "sql",
        "SELECT pg_catalog.\"pg_try_advisory_lock_shared\"(42)",
        AdvisoryLock,
    ),
    (
        "plpgsql",
        "BEGIN CREATE TEMP TABLE t (a int); END",
        TemporaryTable,
    ),
    (
        "plpgsql",
        "BEGIN EXECUTE 'CREATE TEMPORARY TABLE ' || n || ' (a int)'; END",
        TemporaryTable,
    ),
    (
        "plpgsql",
        "BEGIN CREATE TABLE pg_temp.t (a int); END",
        TemporaryTable,
    ),
    ("plpgsql", "BEGIN LISTEN news; END", Listen),
    ("plpgsql", "BEGIN LOAD 'x'; END", Load),
    ("plpgsql", "BEGIN EXECUTE 'PREPARE p AS SELECT 1'; END", Prepare),
    ("sql", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", Cursor),
    ("sql", "SELECT setseed(0.5)", Seed),
    ("sql", "SELECT dblink_connect('a', 'b')", Session),
];

#[test]
fn what_cannot_be_told_pins() {
    for (language, body, expected) in PINNING {
        let effects = judge(language.as_bytes(), body.as_bytes());
        assert_eq!(effects.pins, Pins::of(*expected), "{body}");
    }
}

#[test]
fn most_bodies_are_harmless() {
    for body in [
        "",
        "BEGIN RETURN NEW; END",
        "BEGIN NEW.updated_at := now(); UPDATE t SET a = 1 WHERE b = 2; RETURN NEW; END",
        "BEGIN EXECUTE format('INSERT INTO %I VALUES ($1)', name) USING NEW; RETURN NULL; END",
        "DECLARE q text; BEGIN q := 'CREATE TABLE ' || name || ' ()'; EXECUTE q; END",
        "BEGIN EXECUTE format('INSERT INTO %I.%I (a, b) VALUES (%L, f($1))', s, t, v) USING x; END",
        "BEGIN EXECUTE format('SELECT count(*), %s FROM %I WHERE a IN (%s)', c, t, v); END",
        "BEGIN EXECUTE format('CREATE INDEX %I ON %s (%I)', i, t, c); END",
        "BEGIN EXECUTE 'SELECT ' || quote_literal(x); END",
        "BEGIN EXECUTE 'INSERT INTO ' || t::text || ' (a) ' || 'VALUES (1)'; END",
        "BEGIN EXECUTE 'SELECT ' || array_to_string(c, ', ') || ' FROM t WHERE a = any ($1)' USING x; END",
        "BEGIN PERFORM regexp_replace(a, '\\s+', ' ') WHERE b LIKE 'x!%' ESCAPE '\\'; END",
        "BEGIN GRANT EXECUTE ON FUNCTION f() TO web; END",
        "BEGIN PERFORM pg_advisory_xact_lock(1); END",
        "DECLARE temp int; BEGIN temp := 1; INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2; END",
        "BEGIN RETURN current_setting('app.tenant'); END",
        "BEGIN SELECT setting FROM pg_settings; END",
        "'",
        "$$",
        "\"",
        "E'\\",
        "/*",
        "$a$ x",
    ] {
        assert!(judge(b"plpgsql", body.as_bytes()).are_none(), "{body}");
    }
}

#[test]
fn a_text_that_is_an_argument_may_be_any() {
    for body in [
        "BEGIN IF q = 'SELECT 1' THEN RETURN; END IF; EXECUTE q; END",
        "BEGIN IF q IS NULL THEN q := 'SELECT 1'; END IF; EXECUTE q; END",
        "BEGIN PERFORM 1 WHERE q = 'SELECT 1'; EXECUTE q; END",
    ] {
        assert!(
            judge(b"plpgsql", body.as_bytes()).pins.contains(Setting),
            "{body}"
        );
    }
    for body in [
        "DECLARE q text := 'SELECT 1'; BEGIN EXECUTE q; END",
        "DECLARE i int; q text; BEGIN q := 'SELECT 1'; EXECUTE q; END",
        "DECLARE q text; BEGIN IF true THEN q = 'SELECT 1'; ELSE q = 'SELECT 2'; END IF; EXECUTE q; END",
    ] {
        assert!(judge(b"plpgsql", body.as_bytes()).are_none(), "{body}");
    }
}

#[test]
fn a_function_in_c_is_told_by_its_library() {
    let judged = |body: &str| judge(b"c", body.as_bytes());
    assert_eq!(
        names(&judged("$libdir/pg_trgm set_limit")),
        ["pg_trgm.similarity_threshold"]
    );
    for body in [
        "$libdir/dblink dblink_connect",
        "$libdir/hypopg hypopg_create_index",
    ] {
        assert!(judged(body).pins.contains(Session), "{body}");
    }
    for body in [
        "$libdir/tablefunc normal_rand",
        "/usr/lib/pageinspect.so get_raw_page",
        "$libdir/dblink dblink_record",
    ] {
        assert!(judged(body).are_none(), "{body}");
    }
    for body in ["$libdir/strange f", "strange", ""] {
        let effects = judged(body);
        assert_eq!(
            (effects.remains, effects.pins),
            (Remains::Unknown, Pins::NONE),
            "{body}"
        );
        assert!(!effects.are_none(), "{body}");
    }
}

#[test]
fn a_function_of_the_servers_under_another_name_is_told_by_its_own() {
    for (name, pin) in [
        ("set_config_by_name", Setting),
        ("setseed", Seed),
        ("pg_try_advisory_lock_int8", AdvisoryLock),
    ] {
        assert!(judge(b"internal", name.as_bytes()).pins.contains(pin), "{name}");
    }
    assert!(judge(b"internal", b"array_agg_transfn").are_none());
    assert_eq!(judge(b"builtin", b"pg_advisory_unlock").release, Release::Maybe);
}

#[test]
fn a_body_that_alters_what_texts_name_is_one_for_all() {
    let altering = |body: &str| judge(b"plpgsql", body.as_bytes()).schema == SchemaEffect::Alters;
    assert!(altering("BEGIN ALTER TABLE t ADD b int; END"));
    assert!(altering(
        "BEGIN IF a THEN EXECUTE format('DROP TABLE %I', b); END IF; END"
    ));
    for body in [
        "BEGIN CREATE TABLE IF NOT EXISTS t (a int); END",
        "BEGIN DROP TABLE IF EXISTS t; CREATE TEMP TABLE t (a int); END",
        "BEGIN INSERT INTO notes VALUES ('alter'); END",
    ] {
        assert!(!altering(body), "{body}");
    }
}
