//! Names in texts.

use super::*;
use proptest::prelude::*;

fn found(text: &str) -> Option<(Verb, String)> {
    let mention = only(text.as_bytes())?;
    let name = mention.name(text.as_bytes());
    Some((mention.verb, String::from_utf8_lossy(&name).into_owned()))
}

#[test]
fn a_statement_that_names_another_is_found() {
    for (text, verb, name) in [
        ("PREPARE a AS SELECT 1", Verb::Prepare, "a"),
        ("prepare A (int, text) as select $1, $2;", Verb::Prepare, "a"),
        (
            " /* x /* y */ */ PREPARE--z\n\"A b\"(numeric(3, 2)) AS SELECT 1 ; ",
            Verb::Prepare,
            "A b",
        ),
        (
            "PREPARE a AS SELECT ';' || $x$;$x$ || \";\" || E'\\';'",
            Verb::Prepare,
            "a",
        ),
        ("PREPARE \"q\"\"q\" AS SELECT 1", Verb::Prepare, "q\"q"),
        ("PREPARE a AS SELECT '--', 1 -- ;\n", Verb::Prepare, "a"),
        ("PREPARE a AS SELECT 1 AS \"as\"\0", Verb::Prepare, "a"),
        ("EXECUTE Foo", Verb::Execute, "foo"),
        ("execute foo(1, 'x;y')\0", Verb::Execute, "foo"),
        ("EXPLAIN EXECUTE foo", Verb::Execute, "foo"),
        ("EXPLAIN ANALYZE VERBOSE EXECUTE foo(1)", Verb::Execute, "foo"),
        (
            "explain (analyze, format json) execute \"Foo\"",
            Verb::Execute,
            "Foo",
        ),
        ("CREATE TABLE t AS EXECUTE foo", Verb::Execute, "foo"),
        (
            "CREATE UNLOGGED TABLE IF NOT EXISTS s.t (a, b) AS EXECUTE foo(1) WITH NO DATA",
            Verb::Execute,
            "foo",
        ),
        (
            "CREATE TEMP TABLE t ON COMMIT DROP AS EXECUTE foo",
            Verb::Execute,
            "foo",
        ),
        ("EXPLAIN CREATE TABLE t AS EXECUTE foo", Verb::Execute, "foo"),
        ("DEALLOCATE foo", Verb::Deallocate, "foo"),
        ("DEALLOCATE PREPARE foo;", Verb::Deallocate, "foo"),
        ("DEALLOCATE prepare", Verb::Deallocate, "prepare"),
        ("deallocate \"all\"", Verb::Deallocate, "all"),
        ("EXECUTE größe", Verb::Execute, "größe"),
        // Wherever the setting says that a backslash counts, the string ends at the same quote; or it is an error.
        ("PREPARE a AS SELECT 'C:\\temp'", Verb::Prepare, "a"),
        ("PREPARE a AS SELECT U&'\\0061'", Verb::Prepare, "a"),
        ("PREPARE a AS SELECT E'x'\n'\\';'", Verb::Prepare, "a"),
    ] {
        assert_eq!(found(text), Some((verb, name.to_owned())), "{text}");
    }
}

#[test]
fn what_is_something_else_or_not_certain_is_left_alone() {
    for text in [
        "",
        "SELECT 1",
        "PREPARE TRANSACTION 'x'",
        "PREPARE a",
        "PREPARE a AS",
        "PREPARE a AS SELECT 1; SELECT 2",
        "EXECUTE",
        "EXECUTE \"\"",
        "EXECUTE 'a'",
        "EXECUTE U&\"\\0061\"",
        "PREPARE a AS SELECT 1 AS U&\"\\0061\"",
        "PREPARE a AS SELECT 'C:\\'",
        "PREPARE a AS SELECT 'no end",
        "PREPARE a AS SELECT $x$ no end $y$",
        "PREPARE a AS SELECT 1 /* no end",
        "DEALLOCATE ALL",
        "DEALLOCATE PREPARE ALL",
        "EXPLAIN SELECT 1",
        "EXPLAIN (ANALYZE",
        "CREATE TABLE t AS SELECT 1",
        "CREATE TABLE execute (a int)",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'EXECUTE a'",
        "EXECUTE a; EXECUTE b",
    ] {
        assert_eq!(found(text), None, "{text}");
    }
}

#[test]
fn names_in_several_statements_are_found() {
    let text = b"BEGIN; EXECUTE a(';'); SELECT 'EXECUTE b'; deallocate C;; PREPARE d AS SELECT 1; COMMIT";
    let names: Vec<_> = all(text)
        .unwrap()
        .iter()
        .map(|mention| String::from_utf8_lossy(&mention.name(text)).into_owned())
        .collect();
    assert_eq!(names, ["a", "c", "d"]);
    assert_eq!(all(b"SELECT 1; SELECT 'EXECUTE b'"), None);
    assert_eq!(all(b"EXECUTE a; SELECT U&\"x\""), None);
    assert!(all("EXECUTE a;".repeat(1001).as_bytes()).is_none());
}

#[test]
fn what_is_prepared_is_what_stands_behind_the_name_without_the_end_of_the_text() {
    let text = b" PREPARE a (int) AS  SELECT 1 + 1 ; \n\0";
    let mention = only(text).unwrap();
    assert_eq!(mention.definition(text), b" (int) AS  SELECT 1 + 1");
    assert_eq!(&text[mention.body], b"SELECT 1 + 1");
}

#[test]
fn names_are_cut_where_the_server_cuts_them() {
    let name = |written: &str| read(written.as_bytes()).len();
    assert_eq!(name(&"n".repeat(70)), 63);
    assert_eq!(name(&format!("\"{}\"", "N".repeat(70))), 63);
    assert_eq!(name(&"ü".repeat(40)), 62);
    assert_eq!(name("\"a\"\"b\""), 3);
}

#[test]
fn a_text_that_begins_otherwise_is_not_looked_at() {
    for (text, expected) in [
        ("", true),
        ("  ", true),
        ("exec", true),
        ("Execute", true),
        ("-- x\n deallocate", true),
        ("/* x */ SELECT", false),
        ("/* not to be seen yet", true),
        ("select 1", false),
        ("delete from x", false),
        ("exclude", false),
    ] {
        assert_eq!(begins(text.as_bytes()), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_fail(text in "(PREPARE a AS |EXECUTE|CREATE TABLE|EXPLAIN ?|['\"$;()/*a-]|\\PC)*", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for text in [text.as_bytes(), &bytes] {
            let _ = (begins(text), all(text));
            if let Some(mention) = only(text) {
                prop_assert!(mention.name.end <= text.len() && !mention.name(text).is_empty());
            }
        }
    }
}
