//! Talks in both query protocols, with their errors.

use super::messages::{
    Talk, close, copy_data, copy_done, copy_fail, describe, extended, flush, query, run_portal, sync, talk,
};
use crate::harness::wire::{bind, execute, parse};

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn simple_talks() -> Vec<Talk> {
    vec![
        talk("one query", 1, [query("SELECT 1, NULL, 'x'")]),
        talk("an empty query", 1, [query(" ; ")]),
        talk(
            "several statements",
            1,
            [query("SELECT 1; SELECT 2; SELECT 3 WHERE false")],
        ),
        talk(
            "an error among several",
            1,
            [query("SELECT 1; SELECT 1/0; SELECT 3")],
        ),
        talk("a syntax error", 1, [query("SELEC")]),
        talk(
            "queries in a pipeline",
            3,
            [query("SELECT 1"), query("SELECT 1/0"), query("SELECT 2")],
        ),
        talk(
            "a failed block",
            5,
            ["BEGIN", "SELECT 1/0", "SELECT 1", "COMMIT", "SELECT 2"].map(query),
        ),
        talk(
            "savepoints",
            6,
            [
                "BEGIN",
                "SAVEPOINT a",
                "SELEC",
                "ROLLBACK TO a",
                "SELECT 1",
                "COMMIT AND CHAIN",
            ]
            .map(query),
        ),
        talk("the end of a chain", 1, [query("ROLLBACK")]),
        talk(
            "a notice",
            1,
            [query(
                "DO $$ BEGIN RAISE NOTICE 'heard'; RAISE WARNING 'too'; END $$",
            )],
        ),
        talk(
            "parameters that are reported",
            4,
            [
                "SET TimeZone = 'Europe/Berlin'",
                "SET DateStyle = 'German'; SET application_name = 'it'",
                "BEGIN; SET TimeZone = 'Asia/Tokyo'; ROLLBACK",
                "RESET TimeZone; RESET DateStyle; RESET application_name",
            ]
            .map(query),
        ),
        talk(
            "cursors in a block",
            5,
            [
                "BEGIN",
                "DECLARE c CURSOR FOR SELECT generate_series(1, 5)",
                "FETCH 2 FROM c; FETCH 2 FROM c",
                "CLOSE c",
                "COMMIT",
            ]
            .map(query),
        ),
        talk(
            "a notification to itself",
            2,
            [query("LISTEN here"), query("NOTIFY here, 'payload'")],
        ),
        talk("no notifications any more", 1, [query("UNLISTEN *")]),
        talk(
            "a wide row",
            1,
            [query(
                "SELECT repeat('x', 100000), repeat('y', 9000), repeat('z', 300000)",
            )],
        ),
        talk(
            "many rows",
            1,
            [query(
                "SELECT n, repeat('r', n % 90) FROM generate_series(1, 4000) n",
            )],
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn extended_talks() -> Vec<Talk> {
    vec![
        talk(
            "every message once",
            1,
            [
                parse("", "SELECT $1::int + 1, $2::text"),
                describe('S', ""),
                bind("p", "", &[Some("41"), None]),
                describe('P', "p"),
                execute("p", 0),
                close('P', "p"),
                sync(),
            ],
        ),
        talk(
            "a portal in portions",
            1,
            [
                parse("", "SELECT generate_series(1, 5)"),
                bind("", "", &[]),
                execute("", 2),
                execute("", 2),
                execute("", 2),
                execute("", 2),
                sync(),
            ],
        ),
        talk("an empty statement", 1, [extended(""), sync()]),
        talk(
            "no rows to describe",
            1,
            [parse("", "SET work_mem = '4MB'"), describe('S', ""), sync()],
        ),
        talk("a sync alone", 2, [sync(), sync()]),
        talk("a flush alone", 1, [flush(), flush(), sync()]),
        talk(
            "flushes in between",
            1,
            [
                parse("", "SELECT 1"),
                flush(),
                bind("", "", &[]),
                flush(),
                run_portal(),
                sync(),
            ],
        ),
        talk(
            "several batches",
            3,
            [
                extended("SELECT 1"),
                sync(),
                extended("SELECT 2"),
                extended("SELECT 3"),
                sync(),
                sync(),
            ],
        ),
        talk(
            "a block over several batches",
            3,
            [
                extended("BEGIN"),
                sync(),
                extended("SELECT 1"),
                sync(),
                extended("COMMIT"),
                sync(),
            ],
        ),
        talk(
            "a block in one batch",
            1,
            [
                extended("BEGIN"),
                extended("SELECT 1"),
                extended("COMMIT"),
                sync(),
            ],
        ),
        talk(
            "both protocols",
            3,
            [
                extended("SELECT 1"),
                sync(),
                query("SELECT 2"),
                extended("SELECT 3"),
                sync(),
            ],
        ),
        talk(
            "a query in the middle of a batch",
            2,
            [
                extended("SELECT 1"),
                query("SELECT 2"),
                extended("SELECT 3"),
                sync(),
            ],
        ),
        talk(
            "a notice in a batch",
            1,
            [extended("DO $$ BEGIN RAISE NOTICE 'heard'; END $$"), sync()],
        ),
        talk(
            "a copy's messages without a copy",
            1,
            [copy_data("x"), copy_done(), copy_fail("y"), query("SELECT 1")],
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn failing_talks() -> Vec<Talk> {
    vec![
        talk(
            "an error in Parse",
            1,
            [extended("SELEC"), extended("SELECT 1"), sync()],
        ),
        talk(
            "an error in Execute",
            2,
            [
                extended("SELECT 1/0"),
                extended("SELECT 1"),
                flush(),
                sync(),
                extended("SELECT 2"),
                sync(),
            ],
        ),
        talk(
            "an error behind an answer",
            1,
            [
                extended("SELECT 1"),
                extended("SELECT 1/0"),
                describe('S', ""),
                sync(),
            ],
        ),
        talk(
            "errors in batches of a pipeline",
            3,
            [
                extended("SELECT 1/0"),
                sync(),
                extended("SELEC"),
                sync(),
                extended("SELECT 3"),
                sync(),
            ],
        ),
        talk(
            "a query that is skipped",
            1,
            [extended("SELEC"), query("SELECT 1"), sync()],
        ),
        talk(
            "values that are missing",
            1,
            [
                parse("", "SELECT $1::int"),
                bind("", "", &[]),
                run_portal(),
                sync(),
            ],
        ),
        talk(
            "a value that is none",
            1,
            [
                parse("", "SELECT $1::int"),
                bind("", "", &[Some("x")]),
                run_portal(),
                sync(),
            ],
        ),
        talk(
            "a portal that is unknown",
            2,
            [describe('P', "nobody"), sync(), execute("nobody", 0), sync()],
        ),
        talk(
            "a statement that is unknown",
            2,
            [
                describe('S', "nobody"),
                sync(),
                bind("", "nobody", &[]),
                run_portal(),
                sync(),
            ],
        ),
        talk(
            "closing what is unknown",
            1,
            [close('S', "nobody"), close('P', "nobody"), sync()],
        ),
        talk(
            "a block that fails in a batch",
            3,
            [
                extended("BEGIN"),
                extended("SELECT 1/0"),
                sync(),
                extended("SELECT 1"),
                sync(),
                query("ROLLBACK"),
            ],
        ),
        talk(
            "a statement that is unknown in a block",
            3,
            [query("BEGIN"), bind("", "nobody", &[]), sync(), query("ROLLBACK")],
        ),
    ]
}
