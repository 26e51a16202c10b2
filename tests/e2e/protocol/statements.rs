//! Talks about prepared statements.

use super::messages::{Talk, close, describe, extended, query, run_portal, sync, talk};
use crate::harness::wire::{bind, parse};

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn statement_talks() -> Vec<Talk> {
    vec![
        talk(
            "a statement is prepared",
            1,
            [parse("s", "SELECT $1::int * 2"), describe('S', "s"), sync()],
        ),
        talk(
            "a statement is used",
            1,
            [
                bind("", "s", &[Some("4")]),
                run_portal(),
                bind("", "s", &[Some("5")]),
                run_portal(),
                sync(),
            ],
        ),
        talk(
            "a name is taken",
            2,
            [
                parse("s", "SELECT 2"),
                sync(),
                bind("", "s", &[Some("6")]),
                run_portal(),
                sync(),
            ],
        ),
        talk(
            "a name is given again",
            1,
            [
                close('S', "s"),
                parse("s", "SELECT 'other'"),
                bind("", "s", &[]),
                run_portal(),
                sync(),
            ],
        ),
        talk(
            "a bad text for a name",
            2,
            [parse("t", "SELEC"), sync(), bind("", "t", &[]), sync()],
        ),
        talk(
            "a good text for it",
            1,
            [
                parse("t", "SELECT 'good'"),
                bind("", "t", &[]),
                run_portal(),
                sync(),
            ],
        ),
        talk(
            "a batch that fails takes no name",
            3,
            [
                extended("SELEC"),
                parse("u", "SELECT 1"),
                sync(),
                bind("", "u", &[]),
                sync(),
                parse("u", "SELECT 'u'"),
                sync(),
            ],
        ),
        talk(
            "a name outlives its block",
            4,
            [
                query("BEGIN"),
                parse("v", "SELECT 'v'"),
                sync(),
                query("ROLLBACK"),
                bind("", "v", &[]),
                run_portal(),
                sync(),
            ],
        ),
        talk(
            "the unnamed statement stays",
            2,
            [
                parse("", "SELECT 'unnamed'"),
                sync(),
                bind("", "", &[]),
                run_portal(),
                sync(),
            ],
        ),
        talk(
            "a query forgets the unnamed statement",
            3,
            [
                parse("", "SELECT 1"),
                sync(),
                query("SELECT 1"),
                bind("", "", &[]),
                sync(),
            ],
        ),
        talk(
            "a failed Parse forgets it too",
            3,
            [
                parse("", "SELECT 1"),
                sync(),
                parse("", "SELEC"),
                sync(),
                bind("", "", &[]),
                sync(),
            ],
        ),
        talk(
            "names given and taken in a pipeline",
            4,
            [
                parse("w", "SELECT 'first'"),
                sync(),
                close('S', "w"),
                parse("w", "SELECT 'second'"),
                sync(),
                bind("", "w", &[]),
                run_portal(),
                sync(),
                close('S', "w"),
                sync(),
            ],
        ),
        talk(
            "everything is deallocated",
            3,
            [
                query("DEALLOCATE ALL"),
                bind("", "s", &[]),
                sync(),
                parse("s", "SELECT 'new'"),
                bind("", "s", &[]),
                run_portal(),
                sync(),
            ],
        ),
        talk(
            "everything is discarded",
            3,
            [
                query("DISCARD ALL"),
                bind("", "s", &[]),
                sync(),
                parse("s", "SELECT 'newer'"),
                bind("", "s", &[]),
                run_portal(),
                sync(),
            ],
        ),
        talk(
            "tables change under a statement",
            5,
            [
                query("CREATE TABLE changing (a int); INSERT INTO changing VALUES (1)"),
                parse("x", "SELECT * FROM changing"),
                sync(),
                query("ALTER TABLE changing ADD COLUMN b int"),
                bind("", "x", &[]),
                run_portal(),
                sync(),
                query("DROP TABLE changing"),
            ],
        ),
        talk(
            "all are closed",
            1,
            [
                close('S', "s"),
                close('S', "t"),
                close('S', "u"),
                close('S', "v"),
                close('S', "x"),
                sync(),
            ],
        ),
    ]
}
