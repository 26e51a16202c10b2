//! Prepared statements made, run and dropped by SQL.

use super::rig::{self, Rig};
use super::tag::*;
use super::wire::*;
use crate::session::ClientSession;
use crate::session::screen::PinReason;

/// A client that has prepared `a` by SQL, on a server connection that has it as `pgweir_2`.
pub(super) fn prepared() -> Rig {
    let mut rig = Rig::new();
    let sent = rig.client(&[query("PREPARE a AS SELECT 1")]);
    assert_eq!(sent, ["Query PREPARE pgweir_2 AS SELECT 1"]);
    assert_eq!(
        rig.server(&[complete("PREPARE"), ready(b'I')]),
        ["Complete PREPARE", "Ready I"]
    );
    assert!(rig.is_at_rest());
    rig
}

/// The same client on a server connection that has nothing.
fn elsewhere() -> Rig {
    let mut rig = prepared();
    let (mut nobody, mut other) = (ClientSession::default(), rig::server(2));
    std::mem::swap(&mut nobody, &mut rig.client);
    rig.swap(&mut nobody, &mut other);
    rig
}

/// What the server answers to a statement that is brought to it by SQL.
fn brought() -> Vec<u8> {
    [
        bare(PARSE_COMPLETE),
        bare(BIND_COMPLETE),
        complete("PREPARE"),
        bare(CLOSE_COMPLETE),
    ]
    .concat()
}

const BROUGHT: [&str; 4] = [
    "Parse : PREPARE pgweir_2 AS SELECT 1",
    "Bind pgweir_sql ",
    "Execute pgweir_sql",
    "Close Ppgweir_sql",
];

#[test]
fn a_statement_of_sql_is_run_by_sql_and_by_the_protocol() {
    let mut rig = prepared();
    assert_eq!(rig.client.pinned(), None);
    for (text, sent) in [
        ("EXECUTE a", "Query EXECUTE pgweir_2"),
        ("execute A (1)", "Query execute pgweir_2 (1)"),
        (
            "EXPLAIN (COSTS OFF) EXECUTE \"a\";",
            "Query EXPLAIN (COSTS OFF) EXECUTE pgweir_2;",
        ),
        (
            "CREATE TABLE t AS EXECUTE a",
            "Query CREATE TABLE t AS EXECUTE pgweir_2",
        ),
    ] {
        assert_eq!(rig.client(&[query(text)]), [sent]);
        rig.server(&[complete("SELECT 1"), ready(b'I')]);
        assert!(rig.is_at_rest() && rig.client.pinned().is_none());
    }
    assert_eq!(
        rig.client(&[describe_statement("a"), bind("", "a"), execute(""), sync()])[..2],
        ["Describe Spgweir_2", "Bind  pgweir_2"]
    );
}

#[test]
fn a_statement_of_the_protocol_is_run_and_dropped_by_sql() {
    let mut rig = super::names::prepared();
    assert_eq!(rig.client(&[query("EXECUTE a")]), ["Query EXECUTE pgweir_2"]);
    rig.server(&[complete("SELECT 1"), ready(b'I')]);
    assert_eq!(
        rig.client(&[query("DEALLOCATE a")]),
        ["Query UNLISTEN pgweir_none"]
    );
    assert_eq!(
        rig.server(&[complete("UNLISTEN"), ready(b'I')]),
        ["Complete DEALLOCATE", "Ready I"]
    );
    assert_eq!(rig.client(&[bind("", "a"), sync()])[0], "Describe Spgweir_none");
    rig.server(&[error("26000", "none"), ready(b'I')]);
    assert_eq!(rig.client(&[bind("", "b"), sync()])[0], "Bind  pgweir_3");
}

#[test]
fn what_the_server_has_is_not_prepared_again() {
    let mut rig = prepared();
    assert_eq!(
        rig.client(&[query("PREPARE b AS SELECT 1;")]),
        ["Query UNLISTEN pgweir_none"]
    );
    assert_eq!(
        rig.server(&[complete("UNLISTEN"), ready(b'T')]),
        ["Complete PREPARE", "Ready T"]
    );
    assert_eq!(rig.client(&[query("EXECUTE b")]), ["Query EXECUTE pgweir_2"]);
    rig.server(&[complete("SELECT 1"), ready(b'T')]);
    assert_eq!(
        rig.client(&[query("PREPARE c (int) AS SELECT 1")]),
        ["Query PREPARE pgweir_3 (int) AS SELECT 1"]
    );
}

#[test]
fn a_server_that_lacks_the_statement_is_given_it_ahead() {
    let mut rig = elsewhere();
    let sent = rig.client(&[query("EXECUTE a")]);
    assert_eq!(sent[..4], BROUGHT);
    assert_eq!(sent[4..], ["Sync", "Query EXECUTE pgweir_2"]);
    assert!(rig.server(&[brought(), ready(b'I')]).is_empty());
    assert_eq!(
        rig.server(&[complete("SELECT 1"), ready(b'I')]),
        ["Complete SELECT 1", "Ready I"]
    );
    assert!(rig.is_at_rest());
    assert_eq!(rig.client(&[query("EXECUTE a")]), ["Query EXECUTE pgweir_2"]);

    let mut rig = elsewhere();
    let sent = rig.client(&[bind("", "a"), execute(""), sync()]);
    assert_eq!(sent[..4], BROUGHT);
    assert_eq!(sent[4..], ["Bind  pgweir_2", "Execute ", "Sync"]);
    assert_eq!(
        rig.server(&[brought(), bare(BIND_COMPLETE), complete("SELECT 1"), ready(b'I')]),
        ["BindComplete", "Complete SELECT 1", "Ready I"]
    );
    assert!(rig.is_at_rest());
}

#[test]
fn a_statement_of_the_protocol_is_parsed_ahead_of_a_query() {
    let mut rig = super::names::prepared();
    rig.lose();
    assert_eq!(
        rig.client(&[query("EXECUTE b")]),
        ["Parse pgweir_3: select b", "Sync", "Query EXECUTE pgweir_3"]
    );
    rig.server(&[bare(PARSE_COMPLETE), ready(b'I')]);
    rig.server(&[complete("SELECT 1"), ready(b'I')]);
    assert!(rig.is_at_rest());
}

#[test]
fn what_cannot_be_prepared_elsewhere_fails_with_the_servers_reason_once() {
    let mut rig = elsewhere();
    rig.client(&[query("EXECUTE a")]);
    let got = rig.server(&[
        bare(PARSE_COMPLETE),
        bare(BIND_COMPLETE),
        error("42P01", "no such table"),
        ready(b'I'),
        error("26000", "prepared statement \"pgweir_2\" does not exist"),
        ready(b'I'),
    ]);
    assert_eq!(got, ["ERROR 42P01: no such table", "Ready I"]);
    assert!(rig.is_at_rest());
    assert_eq!(rig.client(&[query("EXECUTE a")])[..4], BROUGHT);

    let mut rig = elsewhere();
    rig.client(&[bind("", "a"), execute(""), sync()]);
    let got = rig.server(&[
        bare(PARSE_COMPLETE),
        bare(BIND_COMPLETE),
        error("42P01", "no such table"),
        ready(b'I'),
    ]);
    assert_eq!(got, ["ERROR 42P01: no such table", "Ready I"]);
    assert!(rig.is_at_rest());
    assert_eq!(rig.client(&[bind("", "a")])[..4], BROUGHT);
}

#[test]
fn a_name_taken_and_a_name_unknown_are_refused_in_their_place() {
    let mut rig = prepared();
    let none = error("26000", "prepared statement \"pgweir_none\" does not exist");
    let taken = ["ERROR 42P05: prepared statement \"a\" already exists", "Ready E"];
    // The server looks at the statement first.
    assert_eq!(
        rig.client(&[query("PREPARE a AS SELECT 2")]),
        [
            "Parse : PREPARE pgweir_3 AS SELECT 2",
            "Bind  ",
            "Execute ",
            "Describe Spgweir_none",
            "Sync"
        ]
    );
    let looked = [
        bare(PARSE_COMPLETE),
        bare(BIND_COMPLETE),
        complete("PREPARE"),
        none.clone(),
        ready(b'E'),
    ];
    assert_eq!(rig.server(&looked), taken);
    // What it has is right.
    assert_eq!(
        rig.client(&[query("PREPARE a AS SELECT 2")]),
        ["Query EXECUTE pgweir_none"]
    );
    assert_eq!(rig.server(&[none.clone(), ready(b'E')]), taken);
    // Whether the server has it under this name, it knows itself; but not by a name like ours.
    for text in ["EXECUTE x", "DEALLOCATE x"] {
        assert_eq!(rig.client(&[query(text)]), [format!("Query {text}")]);
        rig.server(&[none.clone(), ready(b'I')]);
    }
    for text in ["EXECUTE pgweir_2", "DEALLOCATE PGWEIR_2"] {
        assert_eq!(rig.client(&[query(text)]), ["Query EXECUTE pgweir_none"]);
        assert_eq!(
            rig.server(&[none.clone(), ready(b'I')])[0],
            "ERROR 26000: prepared statement \"pgweir_2\" does not exist"
        );
    }
    assert_eq!(rig.client.pinned(), None);
}

#[test]
fn a_failed_block_is_the_servers_to_report() {
    let mut rig = prepared();
    let failed = error("25P02", "current transaction is aborted");
    for text in [
        "PREPARE a AS SELECT 2",
        "PREPARE b AS SELECT 1",
        "PREPARE c AS SELECT 3",
        "DEALLOCATE a",
        "EXECUTE a",
    ] {
        rig.client(&[query(text)]);
        assert_eq!(
            rig.server(&[failed.clone(), ready(b'E')]),
            ["ERROR 25P02: current transaction is aborted", "Ready E"],
            "{text}"
        );
    }
    // And nothing of it has happened.
    assert_eq!((rig.client.statements.len(), rig.server.statements.len()), (1, 1));
    assert_eq!(rig.client(&[query("EXECUTE a")]), ["Query EXECUTE pgweir_2"]);
}

#[test]
fn a_failed_prepare_gives_no_name_and_its_position_is_the_clients() {
    let mut rig = Rig::new();
    rig.client(&[query("PREPARE longer_name AS SELECT * FROM nowhere")]);
    let body = b"VERROR\0C42P01\0Mnowhere\0P37\0\0";
    let got = rig.server_bytes(&message(ERROR_RESPONSE, body)).unwrap();
    assert_eq!(got, message(ERROR_RESPONSE, b"VERROR\0C42P01\0Mnowhere\0P40\0\0"));
    rig.server(&[ready(b'I')]);
    assert_eq!(
        rig.client(&[query("EXECUTE longer_name")]),
        ["Query EXECUTE longer_name"]
    );
    rig.server(&[error("26000", "none"), ready(b'I')]);
    assert_eq!(
        rig.client(&[query("PREPARE longer_name AS SELECT 2")]),
        ["Query PREPARE pgweir_3 AS SELECT 2"]
    );
}

#[test]
fn errors_name_the_statement_as_the_client_does() {
    let mut rig = prepared();
    rig.client(&[query("EXECUTE a(1)")]);
    let text = "wrong number of parameters for prepared statement \"pgweir_2\"";
    assert_eq!(
        rig.server(&[error("42601", text), ready(b'I')])[0],
        "ERROR 42601: wrong number of parameters for prepared statement \"a\""
    );
    rig.client(&[bind("", "a"), sync()]);
    assert_eq!(
        rig.server(&[error("08P01", text), ready(b'I')])[0],
        "ERROR 08P01: wrong number of parameters for prepared statement \"a\""
    );
}

#[test]
fn what_hangs_on_a_query_in_flight_waits_for_it() {
    let mut rig = Rig::new();
    let sent = rig.client(&[query("PREPARE a AS SELECT 1"), bind("", "a"), sync()]);
    assert_eq!(sent, ["Query PREPARE pgweir_2 AS SELECT 1"]);
    rig.server(&[error("42P01", "no such table"), ready(b'I')]);
    assert_eq!(rig.client(&[])[0], "Describe Spgweir_none");
    rig.server(&[error("26000", "none"), ready(b'I')]);

    let mut rig = prepared();
    let sent = rig.client(&[query("DEALLOCATE a"), query("EXECUTE a")]);
    assert_eq!(sent, ["Query UNLISTEN pgweir_none"]);
    rig.server(&[complete("UNLISTEN"), ready(b'I')]);
    assert_eq!(rig.client(&[]), ["Query EXECUTE a"]);
}

#[test]
fn a_query_behind_an_open_batch_waits_for_its_answers() {
    let mut rig = prepared();
    let sent = rig.client(&[parse("", "select 1"), query("EXECUTE a")]);
    assert_eq!(sent, ["Parse : select 1", "Flush"]);
    assert_eq!(rig.server(&[bare(PARSE_COMPLETE)]), ["ParseComplete"]);
    assert_eq!(rig.client(&[]), ["Query EXECUTE pgweir_2", "Sync"]);
    rig.server(&[complete("SELECT 1"), ready(b'I'), ready(b'I')]);
    assert!(rig.is_at_rest());
    // When the batch fails, the server passes over the query.
    rig.client(&[parse("", "bad"), query("EXECUTE a")]);
    rig.server(&[error("42601", "syntax")]);
    assert_eq!(rig.client(&[sync()]), ["Query EXECUTE a", "Sync"]);
    rig.server(&[ready(b'I')]);
    assert!(rig.is_at_rest());
}

#[test]
fn an_open_batch_is_not_cut_in_two_by_what_is_put_ahead_of_its_query() {
    let open = || {
        let mut rig = elsewhere();
        rig.client(&[parse("", "select 1"), flush()]);
        rig.server(&[bare(PARSE_COMPLETE)]);
        let sent = rig.client(&[query("EXECUTE a")]);
        assert_eq!(sent[..4], BROUGHT);
        assert_eq!(sent[4..], ["Query EXECUTE pgweir_2", "Sync"]);
        rig
    };
    let mut rig = open();
    let got = rig.server(&[brought(), complete("SELECT 1"), ready(b'I'), ready(b'I')]);
    assert_eq!(got, ["Complete SELECT 1", "Ready I"]);
    assert!(rig.is_at_rest());
    // When it fails the server skips the query, and the Sync brings its ReadyForQuery.
    let mut rig = open();
    let failed = error("42P01", "no such table");
    let got = rig.server(&[bare(PARSE_COMPLETE), bare(BIND_COMPLETE), failed, ready(b'I')]);
    assert_eq!(got, ["ERROR 42P01: no such table", "Ready I"]);
    assert!(rig.is_at_rest());
}

#[test]
fn names_in_a_text_of_several_statements_are_replaced() {
    let mut rig = prepared();
    assert_eq!(
        rig.client(&[query("BEGIN; EXECUTE a(1); EXECUTE a(2); COMMIT")]),
        ["Query BEGIN; EXECUTE pgweir_2(1); EXECUTE pgweir_2(2); COMMIT"]
    );
    rig.server(&[complete("COMMIT"), ready(b'I')]);
    assert!(rig.is_at_rest() && rig.client.pinned().is_none());
    assert_eq!(
        rig.client(&[query(
            "DEALLOCATE a; PREPARE a AS SELECT 3; EXECUTE a; EXECUTE pgweir_2"
        )]),
        ["Query DEALLOCATE pgweir_2; PREPARE a AS SELECT 3; EXECUTE a; EXECUTE pgweir_none"]
    );
    assert_eq!(rig.client.pinned(), Some(PinReason::Prepare));
    rig.server(&[error("26000", "none"), ready(b'I')]);
    // How far it came is not known: the name is what it was, and the server is asked again.
    assert_eq!(rig.client.statements.len(), 1);
    assert_eq!(
        rig.client(&[bind("", "a")])[..2],
        ["Close Spgweir_2", "Parse : PREPARE pgweir_2 AS SELECT 1"]
    );
}

#[test]
fn a_text_of_several_statements_that_prepares_keeps_the_connection() {
    let mut rig = Rig::new();
    let text = "PREPARE a AS SELECT 1; EXECUTE a";
    assert_eq!(rig.client(&[query(text)]), [format!("Query {text}")]);
    rig.server(&[complete("SELECT 1"), ready(b'I')]);
    assert_eq!(rig.client.pinned(), Some(PinReason::Prepare));
    // What it has there, it has there alone.
    assert_eq!(rig.client(&[query("EXECUTE a")]), ["Query EXECUTE a"]);
    rig.server(&[complete("SELECT 1"), ready(b'I')]);
    assert_eq!(rig.client(&[bind("", "a"), sync()]), ["Bind  a", "Sync"]);
}

#[test]
fn a_statement_runs_what_its_text_names_for_this_client() {
    let mut rig = prepared();
    let batch = [parse("", "EXECUTE a(1)"), bind("", ""), execute(""), sync()];
    let sent = rig.client(&batch);
    assert_eq!(
        sent,
        ["Parse : EXECUTE pgweir_2(1)", "Bind  ", "Execute ", "Sync"]
    );
    let ran = [
        bare(PARSE_COMPLETE),
        bare(BIND_COMPLETE),
        complete("SELECT 1"),
        ready(b'I'),
    ];
    rig.server(&ran);
    // Another client, whose `a` is another statement.
    drop(rig.rest());
    let mut first = std::mem::take(&mut rig.client);
    rig.client(&[query("PREPARE a AS SELECT 2")]);
    rig.server(&[complete("PREPARE"), ready(b'I')]);
    let sent = rig.client(&batch);
    assert_ne!(sent[0], "Parse : EXECUTE pgweir_2(1)");
    rig.server(&ran);
    drop(rig.rest());
    std::mem::swap(&mut rig.client, &mut first);
    // The first client's statement is the unnamed one still.
    assert_eq!(
        rig.client(&[bind("", ""), execute(""), sync()])[..2],
        ["Parse : EXECUTE pgweir_2(1)", "Bind  "]
    );
}

#[test]
fn a_named_statement_runs_what_the_name_in_its_text_means_by_then() {
    let mut rig = prepared();
    let sent = rig.client(&[parse("x", "EXECUTE a"), sync()]);
    assert_eq!(sent, ["Parse pgweir_4: EXECUTE pgweir_2", "Sync"]);
    rig.server(&[bare(PARSE_COMPLETE), ready(b'I')]);
    rig.client(&[query("DEALLOCATE a")]);
    rig.server(&[complete("UNLISTEN"), ready(b'I')]);
    rig.client(&[query("PREPARE a AS SELECT 2")]);
    rig.server(&[complete("PREPARE"), ready(b'I')]);
    let sent = rig.client(&[bind("", "x"), execute(""), sync()]);
    assert_eq!(sent[0], "Parse pgweir_6: EXECUTE pgweir_5");
    assert_eq!(sent[1..], ["Bind  pgweir_6", "Execute ", "Sync"]);
}

#[test]
fn a_statement_that_names_another_is_not_named_by_a_third() {
    let mut rig = prepared();
    super::names::prepare(&mut rig, "x", "EXECUTE a");
    for text in ["EXECUTE x", "SELECT 1; EXECUTE x"] {
        rig.client(&[query(text)]);
        let got = rig.server(&[error("26000", "none"), ready(b'I')]);
        assert!(got[0].starts_with("ERROR 0A000"), "{got:?}");
    }
    let sent = rig.client(&[parse("", "EXECUTE x"), bind("", ""), sync()]);
    assert_eq!(sent[..2], ["Parse : EXECUTE x", "Describe Spgweir_none"]);
}

#[test]
fn names_are_given_and_taken_by_portals() {
    let mut rig = Rig::new();
    let run = |text: &str| [parse("", text), bind("", ""), execute("")].concat();
    let sent = rig.client(&[
        run("PREPARE a AS SELECT 1"),
        run("EXECUTE a"),
        run("DEALLOCATE a"),
        run("PREPARE a AS SELECT 1"),
        bind("", "a"),
        sync(),
    ]);
    let parsed: Vec<&String> = sent.iter().filter(|line| line.starts_with("Parse")).collect();
    assert_eq!(
        parsed,
        [
            "Parse : PREPARE pgweir_3 AS SELECT 1",
            "Parse : EXECUTE pgweir_3",
            "Parse : UNLISTEN pgweir_none",
            "Parse : UNLISTEN pgweir_none",
        ]
    );
    let ran = |command: &str| [bare(PARSE_COMPLETE), bare(BIND_COMPLETE), complete(command)].concat();
    let got = rig.server(&[
        ran("PREPARE"),
        ran("SELECT 1"),
        ran("UNLISTEN"),
        ran("UNLISTEN"),
        bare(BIND_COMPLETE),
        ready(b'I'),
    ]);
    let completed: Vec<&String> = got.iter().filter(|line| line.starts_with("Complete")).collect();
    assert_eq!(
        completed,
        [
            "Complete PREPARE",
            "Complete SELECT 1",
            "Complete DEALLOCATE",
            "Complete PREPARE"
        ]
    );
    assert!(rig.is_at_rest() && rig.client.pinned().is_none());
}

#[test]
fn a_batch_that_fails_takes_back_what_its_portals_did_to_names() {
    let mut rig = prepared();
    let run = |text: &str| [parse("", text), bind("", ""), execute("")].concat();
    rig.client(&[
        bind("", "a"),
        run("DEALLOCATE a"),
        run("PREPARE b AS SELECT 2"),
        sync(),
    ]);
    rig.server(&[error("22P02", "bad value"), ready(b'I')]);
    assert_eq!((rig.client.statements.len(), rig.server.statements.len()), (1, 1));
    assert_eq!(rig.client(&[query("EXECUTE a")]), ["Query EXECUTE pgweir_2"]);
    rig.server(&[complete("SELECT 1"), ready(b'I')]);
    // A name that is taken is refused when the portal is executed.
    let sent = rig.client(&[run("PREPARE a AS SELECT 3"), sync()]);
    assert_eq!(sent[2..], ["Execute ", "Describe Spgweir_none", "Sync"]);
    let got = rig.server(&[
        bare(PARSE_COMPLETE),
        bare(BIND_COMPLETE),
        complete("PREPARE"),
        error("26000", "none"),
        ready(b'I'),
    ]);
    assert_eq!(got[2], "ERROR 42P05: prepared statement \"a\" already exists");
    assert!(rig.is_at_rest());
}

#[test]
fn a_lost_connection_takes_back_a_prepare_in_flight() {
    let mut rig = Rig::new();
    rig.client(&[query("PREPARE a AS SELECT 1")]);
    rig.lose();
    assert!(rig.client.statements.is_empty());
    rig.client(&[query("PREPARE a AS SELECT 1")]);
    rig.server(&[complete("PREPARE"), ready(b'I')]);
    rig.client(&[query("DEALLOCATE a")]);
    assert_eq!(rig.lose(), ["ERROR 08006: lost", "Ready I"]);
    assert_eq!(rig.client(&[query("EXECUTE a")])[..4], BROUGHT);
}

#[test]
fn a_query_that_prepares_destroys_the_unnamed_statement() {
    let mut rig = prepared();
    super::names::prepare(&mut rig, "", "select 1");
    rig.client(&[query("PREPARE b AS SELECT 1")]);
    rig.server(&[complete("UNLISTEN"), ready(b'I')]);
    assert_eq!(rig.client(&[bind("", ""), sync()])[0], "Describe Spgweir_none");
}

#[test]
fn what_a_statement_may_do_it_does_when_it_is_run() {
    let mut rig = Rig::new();
    rig.client(&[query("PREPARE a AS SELECT pg_advisory_lock(1)")]);
    rig.server(&[complete("PREPARE"), ready(b'I')]);
    assert_eq!(rig.client.pinned(), None);
    rig.client(&[query("EXECUTE a")]);
    rig.server(&[complete("SELECT 1"), ready(b'I')]);
    assert_eq!(rig.client.pinned(), Some(PinReason::AdvisoryLock));

    let mut rig = prepared();
    rig.client(&[query("CREATE TEMP TABLE t AS EXECUTE a")]);
    assert_eq!(rig.client.pinned(), Some(PinReason::TemporaryTable));
}

#[test]
fn a_long_prepare_is_awaited_and_a_longer_one_keeps_the_connection() {
    let mut rig = Rig::new();
    let text = format!("PREPARE a AS SELECT '{}'", "x".repeat(100_000));
    let whole = query(&text);
    assert!(rig.client_bytes(&whole[..50_000]).unwrap().is_empty());
    let sent = rig.client_bytes(&whole[50_000..]).unwrap();
    assert_eq!(sent, query(&text.replacen(" a ", " pgweir_2 ", 1)));
    rig.server(&[complete("PREPARE"), ready(b'I')]);

    let text = format!("PREPARE b AS SELECT '{}'", "x".repeat(1_100_000));
    assert_eq!(rig.client_bytes(&query(&text)).unwrap(), query(&text));
    assert_eq!(rig.client.pinned(), Some(PinReason::Prepare));
}

#[test]
fn a_server_that_contradicts_a_query_is_believed() {
    for code in ["26000", "0A000"] {
        let mut rig = prepared();
        rig.client(&[query("EXECUTE a")]);
        rig.server(&[error(code, "surprise"), ready(b'I')]);
        let sent = rig.client(&[query("EXECUTE a")]);
        assert_eq!(sent[0], "Close Spgweir_2");
        assert_eq!(sent[1..5], BROUGHT);
        assert_eq!(sent[5..], ["Sync", "Query EXECUTE pgweir_2"]);
        rig.server(&[bare(CLOSE_COMPLETE), brought(), ready(b'I')]);
        rig.server(&[complete("SELECT 1"), ready(b'I')]);
        assert!(rig.is_at_rest());
    }
}
