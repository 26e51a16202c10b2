//! Transactions in transaction mode, however they begin and end: as by PostgreSQL itself, and shared by many.

use super::begin::{essence, log_in, state};
use super::harness::crowd::sqlstate;
use super::harness::{Pgweir, Postgres, Wire};

/// Texts of several statements: implicit transactions, and blocks that begin or end in the middle.
const TEXTS: [&str; 32] = [
    "SELECT 1; SELECT 2",
    "INSERT INTO kept VALUES (1); INSERT INTO kept VALUES (2)",
    "INSERT INTO kept VALUES (3); SELECT 1/0; INSERT INTO kept VALUES (4)",
    "INSERT INTO kept VALUES (5); SELECT broken; INSERT INTO kept VALUES (6)",
    "INSERT INTO kept VALUES (7); syntax error",
    "BEGIN; INSERT INTO kept VALUES (8); COMMIT",
    "BEGIN; INSERT INTO kept VALUES (9); ROLLBACK",
    "BEGIN; INSERT INTO kept VALUES (10)",
    "COMMIT",
    "INSERT INTO kept VALUES (11); BEGIN; INSERT INTO kept VALUES (12)",
    "ROLLBACK",
    "INSERT INTO kept VALUES (13); COMMIT; INSERT INTO kept VALUES (14); SELECT 1/0",
    "BEGIN; INSERT INTO kept VALUES (15); COMMIT; INSERT INTO kept VALUES (16); BEGIN; INSERT INTO kept VALUES (17)",
    "SELECT 1; COMMIT; SELECT 1/0; BEGIN",
    "BEGIN; SELECT 1/0; COMMIT; SELECT 2",
    "SELECT 1",
    "COMMIT; INSERT INTO kept VALUES (18)",
    "ROLLBACK; INSERT INTO kept VALUES (19)",
    "BEGIN; INSERT INTO kept VALUES (20); COMMIT AND CHAIN; INSERT INTO kept VALUES (21)",
    "COMMIT AND CHAIN",
    "ROLLBACK AND CHAIN; INSERT INTO kept VALUES (22)",
    "END; SELECT 1",
    "SAVEPOINT a",
    "BEGIN; SAVEPOINT a; INSERT INTO kept VALUES (23); ROLLBACK TO a; INSERT INTO kept VALUES (24); RELEASE a; COMMIT",
    "SAVEPOINT a; SELECT 1",
    "SET LOCAL TimeZone = 'Asia/Tokyo'; SHOW TimeZone",
    "SHOW TimeZone",
    "VACUUM kept; SELECT 1",
    "BEGIN; BEGIN; COMMIT; COMMIT",
    "DECLARE c CURSOR FOR SELECT 1; FETCH c; SELECT 2",
    "START TRANSACTION READ ONLY; INSERT INTO kept VALUES (25); ROLLBACK",
    "SELECT array_agg(id ORDER BY id) FROM kept",
];

#[test]
fn texts_of_several_statements_do_what_they_do_without_the_pooler() {
    let [direct, pooled] = [(); 2].map(|()| Postgres::start());
    for postgres in [&direct, &pooled] {
        postgres.sql("CREATE TABLE kept (id int)");
    }
    let pgweir = Pgweir::before_with(&pooled, "pool_size = 1");
    for before in [
        None,
        Some("BEGIN"),
        Some("BEGIN; SELECT 1"),
        Some("BEGIN; SELECT 1/0"),
    ] {
        let mut expected = Wire::log_in(direct.port(), "postgres", "postgres", None);
        let mut wire = log_in(&pgweir);
        for text in TEXTS {
            for sql in before.iter().chain(&[text]) {
                let frames = expected.query(sql);
                assert_eq!(
                    essence(&wire.query(sql)),
                    essence(&frames),
                    "{sql:?} behind {before:?}"
                );
            }
            if before.is_some() {
                assert_eq!(
                    essence(&wire.query("ROLLBACK")),
                    essence(&expected.query("ROLLBACK"))
                );
            }
        }
        wire.terminate();
        wire.read_until_closed();
    }
}

#[test]
fn a_prepared_transaction_leaves_the_connection_to_others_and_anybody_ends_it() {
    let postgres = Postgres::builder()
        .setting("max_prepared_transactions", "4")
        .start();
    postgres.sql("CREATE TABLE kept (id int)");
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1\npool_timeout = \"1s\"");
    let [mut first, mut second] = [(); 2].map(|()| log_in(&pgweir));
    for (begin, number) in [
        ("BEGIN", 1),
        ("BEGIN; SELECT 1", 2),
        ("START TRANSACTION READ WRITE", 3),
    ] {
        assert_eq!(state(&first.query(begin)), 'T');
        assert_eq!(
            state(&first.query(&format!("INSERT INTO kept VALUES ({number})"))),
            'T'
        );
        assert_eq!(sqlstate(&second.query("SELECT 1")), "53300");
        let prepared = first.query("PREPARE TRANSACTION 'both'");
        assert_eq!(essence(&prepared), ["C PREPARE TRANSACTION\\x00", "Z I"]);
        // Neither of them is in a block, or keeps the connection.
        assert_eq!(second.value("SELECT count(*) FROM pg_prepared_xacts"), "1");
        assert_eq!(state(&second.query("BEGIN")), 'T');
        assert_eq!(sqlstate(&second.query("COMMIT PREPARED 'both'")), "25001");
        assert_eq!(state(&second.query("COMMIT")), 'I');
        let end = if number == 2 { "ROLLBACK" } else { "COMMIT" };
        let ended = second.query(&format!("{end} PREPARED 'both'"));
        assert_eq!(
            essence(&ended),
            [format!("C {end} PREPARED\\x00"), "Z I".to_owned()]
        );
        assert_eq!(first.value("SELECT count(*) FROM pg_prepared_xacts"), "0");
    }
    assert_eq!(first.value("SELECT array_agg(id) FROM kept"), "{1,3}");
    // What cannot be prepared is rolled back.
    for inside in ["SELECT 1/0", "SET LOCAL work_mem = '1MB'; LISTEN news"] {
        first.query("BEGIN");
        first.query(inside);
        let prepared = first.query("PREPARE TRANSACTION 'none'");
        assert_eq!(state(&prepared), 'I', "{prepared:?}");
    }
    assert_eq!(sqlstate(&first.query("COMMIT PREPARED 'none'")), "42704");
    first.query("BEGIN");
    assert_eq!(state(&first.query("PREPARE TRANSACTION 'empty'")), 'I');
    assert_eq!(state(&first.query("ROLLBACK PREPARED 'empty'")), 'I');
}
