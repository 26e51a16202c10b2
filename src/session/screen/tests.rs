//! Texts that change a session, and texts that do not.

use super::*;

#[test]
fn statements_that_change_nothing_pass() {
    for text in [
        "",
        "SELECT abalance FROM pgbench_accounts WHERE aid = 17",
        "INSERT INTO settings VALUES ('set')",
        "UPDATE temperatures SET temp_c = 3",
        "set local statement_timeout = 0",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "set application_name to 'x'",
        "SET SESSION TimeZone TO 'UTC'; set names 'utf8'",
        "SET TIME ZONE 'UTC'",
        "BEGIN; SELECT 1; COMMIT",
        "SELECT pg_advisory_xact_lock(1)",
        "PREPARE TRANSACTION 'x'",
        "DECLARE c CURSOR FOR SELECT 1",
        "DECLARE hold_ CURSOR /* WITH HOLD */ FOR SELECT 1",
        "-- set x = 1\nselect 2",
        "/* set x */ select 2",
        "/* /* */ set x */ select 2",
        "UNLISTEN *",
        "CLOSE ALL",
        "EXPLAIN SELECT 1",
        "ALTER ROLE a SET work_mem = 1",
        "SELECT attempt, contempt, temp_c FROM m",
        "RESET TimeZone",
        "SELECT 'a; SET x = 1'; SELECT $$; LISTEN a$$, \"; LOAD 'x'\"; SELECT 2 -- ; RESET a",
        "INSERT INTO t VALUES (E'\\'; SET x = 1'), ('\\s; SET x = 1')",
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM 1; LISTEN a; END $$",
        "DO $$ BEGIN PERFORM 1; END $$",
    ] {
        assert!(screen(text.as_bytes()).pins.is_empty(), "{text}");
    }
}

const PINNING: &[(&str, PinReason)] = &[
    ("RESET ALL; LISTEN a", PinReason::Listen),
    ("LISTEN a", PinReason::Listen),
    ("PREPARE a AS SELECT 1", PinReason::Prepare),
    ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", PinReason::Cursor),
    ("CREATE TEMP TABLE x (a int)", PinReason::TemporaryTable),
    ("create temporary table x (a int)", PinReason::TemporaryTable),
    ("SELECT 1 INTO TEMP x", PinReason::TemporaryTable),
    ("SELECT pg_try_ADVISORY_LOCK(1)", PinReason::AdvisoryLock),
    ("DO $$ BEGIN LOAD 'auto_explain'; END $$", PinReason::Load),
    ("DO $$ BEGIN LISTEN a; END $$", PinReason::Listen),
    (
        "DO 'BEGIN EXECUTE ''SE'' || ''T a = 1''; END'",
        PinReason::Setting,
    ),
    (
        "SELECT U&\"\\0073et_config\"('a', 'b', false)",
        PinReason::Setting,
    ),
    ("SELECT SetSeed(0.5)", PinReason::Seed),
    (
        "DO E'BEGIN CREATE\\nTEMP TABLE x (); END'",
        PinReason::TemporaryTable,
    ),
    (
        "DO E'BEGIN\\nUPDATE pg_settings SET setting = 1; END'",
        PinReason::Setting,
    ),
    ("DO U&'BEGIN \\0053ET a = 1; END'", PinReason::Setting),
    ("DO LANGUAGE plperl 'f(\"SET a = 1\")'", PinReason::Setting),
    (
        "UPDATE pg_catalog.\"pg_settings\" SET setting = 1",
        PinReason::Setting,
    ),
    ("SELECT 1; LISTEN a", PinReason::Listen),
    (
        "create global temporary table x (a int)",
        PinReason::TemporaryTable,
    ),
    ("CREATE LOCAL TEMP VIEW x AS SELECT 1", PinReason::TemporaryTable),
    (
        "CREATE OR REPLACE TEMP VIEW x AS SELECT 1",
        PinReason::TemporaryTable,
    ),
    ("CREATE TEMP SEQUENCE x", PinReason::TemporaryTable),
    (
        "EXPLAIN ANALYZE CREATE TEMP TABLE x AS SELECT 1",
        PinReason::TemporaryTable,
    ),
    ("CREATE TABLE pg_temp.x (a int)", PinReason::TemporaryTable),
    ("CREATE TABLE pg_temp.x AS SELECT 1", PinReason::TemporaryTable),
    ("SELECT 1 INTO pg_temp_3.x", PinReason::TemporaryTable),
    ("EXECUTE a", PinReason::Prepare),
    ("SELECT pg_advisory_lock_shared(1)", PinReason::AdvisoryLock),
    (
        "SELECT pg_try_advisory_lock_shared(1, 2)",
        PinReason::AdvisoryLock,
    ),
    ("SELECT dblink_connect('a', '')", PinReason::Session),
    (
        "SELECT pg_replication_origin_session_setup('a')",
        PinReason::Session,
    ),
    ("SELECT pg_backup_start('a')", PinReason::Session),
];

#[test]
fn statements_that_outlive_their_transaction_pin() {
    for (text, reason) in PINNING {
        assert_eq!(screen(text.as_bytes()).pins, Pins::of(*reason), "{text}");
    }
}

#[test]
fn settings_that_can_be_read_back_are_named_and_pin_nobody() {
    for (text, names) in [
        ("SET search_path = a", "search_path"),
        ("  /* x */ set session role = a", "role"),
        (
            "select 1; SET statement_timeout = 1; RESET work_mem",
            "statement_timeout,work_mem",
        ),
        ("SELECT 1;; \t/* ; */ sEt a=1", "a"),
        ("-- x\rSET a=1", "a"),
        ("/* /* */ x */ SET a=1", "a"),
        (
            "SELECT pg_catalog.set_config('search_path', '', false)",
            "search_path",
        ),
        (
            "SELECT Set_Config('a.b', 'b', true), set_config('c.d', $1, $2)",
            "c.d",
        ),
        ("DO $$ BEGIN PERFORM set_config('a', 'b', false); END $$", "a"),
        ("DO $$ BEGIN SET x = 1; RESET y; SET LOCAL z = 2; END $$", "x,y"),
        ("DO $$ BEGIN IF a = '--' THEN SET x = 1; END IF; END $$", "x"),
        ("DO E'BEGIN\\nSET x = \\'1\\'; END'", "x"),
        ("DO LANGUAGE 'plpgsql' 'BEGIN SET x = ''1''; END'", "x"),
        ("DO $a$ BEGIN RAISE NOTICE $b$SET x = 1$b$; END $a$", "x"),
        ("SET LOCAL a = 1", ""),
        ("ALTER ROLE a SET work_mem = 1", ""),
    ] {
        let effects = screen(text.as_bytes());
        assert_eq!(effects.sets.join(","), names, "{text}");
        assert!(effects.pins.is_empty(), "{text}");
    }
}

#[test]
fn what_may_release_is_known() {
    for (text, release) in [
        ("SELECT 1", Release::No),
        ("SELECT pg_advisory_unlock(1)", Release::Maybe),
        ("SELECT pg_advisory_unlock_all()", Release::Maybe),
        ("DROP TABLE x", Release::Maybe),
        ("CLOSE c", Release::Maybe),
        ("DISCARD TEMP", Release::Maybe),
    ] {
        assert_eq!(screen(text.as_bytes()).release, release, "{text}");
    }
}

#[test]
fn a_reset_of_everything_pins_only_where_it_cannot_be_followed() {
    let given_back = "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;";
    for text in [given_back, "reset all", " RESET /* x */ ALL; SELECT 1"] {
        let effects = screen(text.as_bytes());
        assert_eq!(
            (effects.pins, effects.settings),
            (Pins::NONE, SettingEffect::ResetAll),
            "{text}"
        );
    }
}

#[test]
fn a_word_is_found_wherever_it_stands() {
    for at in 0..40 {
        for word in [
            "set_config(",
            " TEMP ",
            "Pg_Advisory_Lock(",
            "setseed(",
            "pg_temp.",
        ] {
            let text = format!("{}{word}{}", " ".repeat(at), " ".repeat(40 - at));
            assert!(!screen(text.as_bytes()).pins.is_empty(), "{text}");
        }
    }
}

#[test]
fn every_name_with_an_underscore_passes_the_quick_look() {
    for (head, tail, _) in UNDERSCORED {
        for (head, tail) in [
            (head.to_owned(), tail.to_owned()),
            (head.to_uppercase(), tail.to_uppercase()),
        ] {
            assert!(
                may_be_underscored(head.as_bytes(), tail.as_bytes()),
                "{head}{tail}"
            );
        }
    }
}

#[test]
fn a_text_made_to_be_long_to_look_at_is_given_up() {
    for piece in [";/*", ";declare ", ";do ", ";/* */", ";--", "/*;", "; ", "*/;/*"] {
        let text = piece.repeat(100_000);
        let end = "*/".repeat(1000);
        assert!(
            !screen(format!("{text}{end}").as_bytes()).pins.is_empty(),
            "{piece}"
        );
    }
}

#[test]
fn what_may_commit_a_block_is_known() {
    for (text, effect) in [
        ("SELECT 1", BlockEffect::None),
        ("SELECT 1;\0", BlockEffect::None),
        ("ROLLBACK", BlockEffect::None),
        ("commit", BlockEffect::MayCommit),
        (" END;", BlockEffect::MayCommit),
        ("PREPARE TRANSACTION 'x'", BlockEffect::MayCommit),
        ("SELECT 1; COMMIT", BlockEffect::MayCommit),
    ] {
        assert_eq!(screen(text.as_bytes()).block, effect, "{text}");
    }
}

#[test]
fn what_forgets_prepared_statements_is_known() {
    for (text, effect) in [
        ("SELECT 'deallocate'", NameEffect::None),
        ("DEALLOCATE ALL", NameEffect::Forgets),
        ("deallocate prepare all;", NameEffect::Forgets),
        ("select 1; discard all", NameEffect::Forgets),
        ("/* */ DISCARD PLANS", NameEffect::None),
        ("DEALLOCATE a", NameEffect::None),
    ] {
        assert_eq!(screen(text.as_bytes()).names, effect, "{text}");
    }
}

#[test]
fn a_select_that_fills_a_table_alters_where_it_is_prepared() {
    let alters = |text: &str| screen_prepared(text.as_bytes()).schema == SchemaEffect::Alters;
    assert!(alters("SELECT 1 AS a INTO t"));
    assert!(alters(" select 1 as a into t"));
    for text in [
        "SELECT 1 AS a INTO TEMP t",
        "SELECT 'into' AS a",
        "SELECT \"into\" FROM a -- into",
        "WITH a AS (INSERT INTO t VALUES (1)) SELECT 1",
    ] {
        assert!(!alters(text), "{text}");
    }
}
