//! Talks with copies and with function calls.

use super::messages::{
    Talk, copy_data, copy_done, copy_fail, extended, flush, function_call, query, sync, talk,
};

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn copy_talks() -> Vec<Talk> {
    let into = || query("COPY kept FROM STDIN");
    vec![
        talk(
            "somewhere to copy to",
            1,
            [query("CREATE TABLE kept (id int PRIMARY KEY)")],
        ),
        talk(
            "a copy in",
            1,
            [
                into(),
                copy_data("1\n2\n"),
                copy_data("3"),
                copy_data("\n"),
                copy_done(),
            ],
        ),
        talk("a copy in of nothing", 1, [into(), copy_done()]),
        talk("a copy out", 1, [query("COPY kept TO STDOUT")]),
        talk(
            "a copy out of much",
            1,
            [query(
                "COPY (SELECT n, repeat('c', 50) FROM generate_series(1, 5000) n) TO STDOUT",
            )],
        ),
        talk(
            "a copy given up",
            2,
            [
                into(),
                copy_data("7\n"),
                copy_fail("enough"),
                query("SELECT count(*) FROM kept"),
            ],
        ),
        talk(
            "a copy refused by the server",
            2,
            [
                into(),
                copy_data("x\n"),
                copy_data("8\n"),
                copy_done(),
                query("SELECT count(*) FROM kept"),
            ],
        ),
        talk(
            "a copy refused at its end",
            2,
            [into(), copy_data("9\n1\n"), copy_done(), query("SELECT 1")],
        ),
        talk(
            "a copy that cannot begin",
            2,
            [
                query("COPY nowhere FROM STDIN"),
                copy_data("1\n"),
                copy_done(),
                query("SELECT 1"),
            ],
        ),
        talk(
            "a copy with Flush and Sync inside",
            1,
            [
                into(),
                flush(),
                copy_data("20\n"),
                sync(),
                copy_data("21\n"),
                copy_done(),
            ],
        ),
        talk(
            "two copies in one query",
            1,
            [
                query("COPY kept FROM STDIN; COPY kept FROM STDIN; SELECT 1"),
                copy_data("30\n"),
                copy_done(),
                copy_data("31\n"),
                copy_done(),
            ],
        ),
        talk(
            "a copy in a block",
            4,
            [
                query("BEGIN"),
                into(),
                copy_data("40\n"),
                copy_done(),
                query("COPY kept TO STDOUT"),
                query("ROLLBACK"),
            ],
        ),
        talk(
            "what was kept",
            1,
            [query("SELECT array_agg(id ORDER BY id) FROM kept")],
        ),
    ]
}

pub(super) fn extended_copy_talks() -> Vec<Talk> {
    let into = || extended("COPY kept FROM STDIN");
    vec![
        talk(
            "an extended copy in",
            1,
            [into(), copy_data("50\n"), copy_done(), sync()],
        ),
        // libpq sends a Sync before it knows that there is a copy: PostgreSQL ignores it, and waits for another.
        talk(
            "an extended copy in with an early Sync",
            1,
            [into(), sync(), copy_data("51\n"), copy_done(), sync()],
        ),
        talk(
            "an extended copy out",
            1,
            [extended("COPY kept TO STDOUT"), sync()],
        ),
        talk(
            "an extended copy given up",
            2,
            [into(), sync(), copy_fail("enough"), sync(), query("SELECT 1")],
        ),
        talk(
            "an extended copy refused",
            1,
            [into(), copy_data("x\n"), copy_data("52\n"), copy_done(), sync()],
        ),
        talk(
            "an extended copy in and more",
            1,
            [
                into(),
                copy_data("53\n"),
                copy_done(),
                extended("SELECT 1"),
                sync(),
            ],
        ),
        talk(
            "what was kept of them",
            1,
            [query(
                "SELECT array_agg(id ORDER BY id) FROM kept WHERE id >= 50; DROP TABLE kept",
            )],
        ),
    ]
}

pub(super) fn function_talks() -> Vec<Talk> {
    let object = 777_777_u32.to_be_bytes();
    let number = |number: u32| number.to_be_bytes();
    vec![
        talk("a function", 1, [function_call(177, &[&number(40), &number(2)])]),
        talk(
            "a function that fails",
            2,
            [function_call(154, &[&number(40), &number(0)]), query("SELECT 1")],
        ),
        talk("a function that is unknown", 1, [function_call(4_000_000, &[])]),
        talk(
            "a large object by functions",
            10,
            [
                query("BEGIN"),
                function_call(715, &[&object]),
                function_call(952, &[&object, &number(0x6_0000)]),
                function_call(955, &[&number(0), b"what is written"]),
                function_call(956, &[&number(0), &number(5), &number(0)]),
                function_call(954, &[&number(0), &number(100)]),
                function_call(953, &[&number(0)]),
                function_call(964, &[&object]),
                query("COMMIT"),
                query("SELECT 1"),
            ],
        ),
        talk(
            "a function in a batch",
            2,
            [
                extended("SELECT 1"),
                function_call(177, &[&number(1), &number(2)]),
                sync(),
            ],
        ),
    ]
}
