//! The extended protocol: batches, pipelines, errors in their middle.

use super::super::{Attention, Naming};
use super::rig::Rig;
use super::tag::*;
use super::wire::*;
use crate::session::Hygiene;
use crate::session::screen::PinReason;

fn answered(command: &str) -> Vec<Vec<u8>> {
    vec![bare(BIND_COMPLETE), complete(command)]
}

#[test]
fn a_batch_is_at_rest_when_its_sync_is_answered() {
    let mut rig = Rig::new();
    let sent = rig.client(&[parse("", "select 1"), bind("", ""), execute(""), sync()]);
    assert_eq!(sent, ["Parse : select 1", "Bind  ", "Execute ", "Sync"]);
    let got = rig.server(&[bare(PARSE_COMPLETE), bare(BIND_COMPLETE), complete("SELECT 1")]);
    assert_eq!(got, ["ParseComplete", "BindComplete", "Complete SELECT 1"]);
    assert!(!rig.is_at_rest());
    rig.server(&[ready(b'I')]);
    assert!(rig.is_at_rest());
}

#[test]
fn a_batch_without_its_sync_keeps_the_connection() {
    let mut rig = Rig::new();
    rig.client(&[parse("", "select 1"), bind("", ""), execute(""), flush()]);
    assert_eq!(rig.flow.attention(&rig.server), Attention::Server);
    rig.server(&[bare(PARSE_COMPLETE), bare(BIND_COMPLETE), complete("SELECT 1")]);
    assert!(!rig.is_at_rest());
    assert_eq!(rig.flow.attention(&rig.server), Attention::Both);
    rig.client(&[sync()]);
    rig.server(&[ready(b'I')]);
    assert!(rig.is_at_rest());
}

#[test]
fn every_answer_that_ends_an_execute_is_known() {
    for end in [
        complete("SELECT 1"),
        bare(EMPTY_QUERY_RESPONSE),
        bare(PORTAL_SUSPENDED),
    ] {
        let mut rig = Rig::new();
        rig.client(&[
            parse("", ""),
            bind("", ""),
            message(DESCRIBE, b"P\0"),
            execute(""),
            sync(),
        ]);
        rig.server(&[
            bare(PARSE_COMPLETE),
            bare(BIND_COMPLETE),
            bare(NO_DATA),
            end,
            ready(b'I'),
        ]);
        assert!(rig.is_at_rest());
        assert_eq!(rig.flow.tally.queries, 1);
    }
}

#[test]
fn a_statement_is_described_by_two_messages() {
    let mut rig = Rig::new();
    rig.client(&[parse("", "select $1"), describe_statement(""), flush()]);
    rig.server(&[bare(PARSE_COMPLETE), message(PARAMETER_DESCRIPTION, &[0, 0])]);
    assert!(!rig.server.pipeline.is_empty());
    rig.server(&[row_description()]);
    assert!(rig.server.pipeline.is_empty());
}

#[test]
fn an_error_skips_to_the_sync_and_no_further() {
    let mut rig = Rig::new();
    rig.client(&[parse("", "bad"), bind("", ""), execute(""), sync()]);
    rig.client(&[parse("", "select 2"), bind("", ""), execute(""), sync()]);
    let got = rig.server(&[error("42601", "syntax"), ready(b'I'), bare(PARSE_COMPLETE)]);
    assert_eq!(got, ["ERROR 42601: syntax", "Ready I", "ParseComplete"]);
    rig.server(&answered("SELECT 1"));
    assert_eq!(rig.server(&[ready(b'I')]), ["Ready I"]);
    assert!(rig.is_at_rest());
}

#[test]
fn an_error_before_the_sync_is_sent_skips_what_comes_until_then() {
    let mut rig = Rig::new();
    rig.client(&[parse("a", "bad"), flush()]);
    rig.server(&[error("42601", "syntax")]);
    let sent = rig.client(&[
        parse("b", "select 1"),
        bind("", "b"),
        query("select 3"),
        execute(""),
    ]);
    assert_eq!(
        sent,
        ["Parse b: select 1", "Bind  b", "Query select 3", "Execute "]
    );
    assert!(rig.server.pipeline.is_empty() && !rig.is_at_rest());
    rig.client(&[sync(), parse("b", "select 1"), sync()]);
    rig.server(&[ready(b'I'), bare(PARSE_COMPLETE), ready(b'I')]);
    assert!(rig.is_at_rest());
    assert_eq!(rig.client(&[bind("", "b"), sync()]).len(), 2);
}

#[test]
fn a_query_behind_an_error_is_skipped_too() {
    let mut rig = Rig::new();
    rig.client(&[parse("", "bad"), query("select 1"), sync()]);
    assert_eq!(
        rig.server(&[error("42601", "syntax"), ready(b'I')]),
        ["ERROR 42601: syntax", "Ready I"]
    );
    assert!(rig.is_at_rest());
}

#[test]
fn an_error_of_the_sync_itself_skips_nothing() {
    let mut rig = Rig::new();
    rig.client(&[parse("", "insert"), bind("", ""), execute(""), sync()]);
    rig.client(&[bind("", ""), execute(""), sync()]);
    assert!(rig.flow.is_held());
    rig.server(&[bare(PARSE_COMPLETE), bare(BIND_COMPLETE), complete("INSERT 0 1")]);
    rig.server(&[error("23503", "deferred constraint"), ready(b'I')]);
    assert_eq!(rig.client(&[]), ["Bind  ", "Execute ", "Sync"]);
    rig.server(&answered("INSERT 0 1"));
    rig.server(&[ready(b'I')]);
    assert!(rig.is_at_rest());
}

#[test]
fn pipelines_of_unnamed_statements_do_not_wait() {
    let mut rig = Rig::new();
    for index in 0..100 {
        let text = format!("select {index}");
        assert_eq!(
            rig.client(&[parse("", &text), bind("", ""), execute(""), sync()])
                .len(),
            4
        );
    }
    for _ in 0..100 {
        rig.server(&[
            bare(PARSE_COMPLETE),
            bare(BIND_COMPLETE),
            complete("SELECT 1"),
            ready(b'I'),
        ]);
    }
    assert!(rig.is_at_rest());
}

#[test]
fn a_pipeline_that_is_full_is_gone_on_with_when_answers_have_come() {
    let mut rig = Rig::new();
    let queries = query("select 1").repeat(40_000);
    let sent = rig.client_bytes(&queries).unwrap().len();
    assert!(rig.flow.is_held() && sent < queries.len());
    rig.server_bytes(&[complete("SELECT 1"), ready(b'I')].concat().repeat(30_000))
        .unwrap();
    assert_eq!(sent + rig.client_bytes(&[]).unwrap().len(), queries.len());
    assert!(!rig.flow.is_held());
}

#[test]
fn a_pipeline_full_of_answers_made_here_does_not_wait_for_the_server() {
    let mut rig = Rig::new();
    let closes = close_statement("none").repeat(40_000);
    assert!(rig.client_bytes(&closes).unwrap().is_empty());
    assert!(rig.flow.is_held());
    assert_eq!(rig.fakes().len(), 32_768);
    rig.client(&[]);
    assert!(!rig.flow.is_held());
}

#[test]
fn names_pass_as_they_are_where_the_connection_is_the_clients_own() {
    let mut rig = Rig::with(Naming::Verbatim);
    let messages = [
        parse("a", "select 1"),
        describe_statement("a"),
        bind("", "a"),
        execute(""),
        close_statement("a"),
    ];
    let sent = rig.client(&messages);
    assert_eq!(
        sent,
        [
            "Parse a: select 1",
            "Describe Sa",
            "Bind  a",
            "Execute ",
            "Close Sa"
        ]
    );
    rig.client(&[sync()]);
    let answers = [
        bare(PARSE_COMPLETE),
        bare(NO_DATA),
        bare(BIND_COMPLETE),
        complete("SELECT 1"),
        bare(CLOSE_COMPLETE),
    ];
    rig.server(&answers);
    rig.server(&[ready(b'I')]);
    assert!(rig.is_at_rest());
}

#[test]
fn a_statement_that_changes_the_session_pins_whenever_it_is_bound() {
    let mut rig = Rig::new();
    rig.client(&[parse("a", "create temp table a (b int)"), sync()]);
    assert_eq!(rig.client.pinned(), None);
    rig.server(&[bare(PARSE_COMPLETE), ready(b'I')]);
    let elsewhere = [&[bare(PARSE_COMPLETE)][..], &answered("CREATE TABLE")].concat();
    for answers in [answered("CREATE TABLE"), elsewhere] {
        rig.client(&[bind("", "a"), execute(""), sync()]);
        assert_eq!(rig.client.pinned(), Some(PinReason::TemporaryTable));
        rig.server(&answers);
        rig.server(&[ready(b'I')]);
        rig.lose();
        assert_eq!(rig.client.pinned(), None);
    }
}

#[test]
fn a_connection_is_cleaned_when_a_reset_was_rolled_back_with_its_batch() {
    let mut rig = Rig::new();
    rig.client(&[
        parse("", "reset all"),
        bind("", ""),
        execute(""),
        execute("no such"),
        sync(),
    ]);
    let reset = [bare(PARSE_COMPLETE), bare(BIND_COMPLETE), complete("RESET")];
    rig.server(&reset);
    assert_eq!(rig.server.hygiene, Hygiene::Clean);
    rig.server(&[error("34000", "no such portal"), ready(b'I')]);
    assert_eq!(rig.server.hygiene, Hygiene::Tainted);
}

#[test]
fn a_connection_is_cleaned_when_a_reset_was_rolled_back_in_one_query() {
    let mut rig = Rig::new();
    rig.client(&[query("begin; reset all; rollback")]);
    rig.server(&[complete("BEGIN"), complete("RESET"), complete("ROLLBACK")]);
    assert_eq!(rig.server.hygiene, Hygiene::Tainted);
}

#[test]
fn a_connection_is_not_cleaned_for_a_rollback_that_takes_no_reset_with_it() {
    let mut rig = Rig::new();
    rig.client(&[
        query("begin; reset all; commit"),
        query("begin"),
        query("rollback"),
    ]);
    rig.server(&[
        complete("BEGIN"),
        complete("RESET"),
        complete("COMMIT"),
        ready(b'I'),
    ]);
    rig.server(&[complete("BEGIN"), ready(b'T'), complete("ROLLBACK"), ready(b'I')]);
    assert_eq!(rig.server.hygiene, Hygiene::Clean);
}

#[test]
fn a_batch_of_tens_of_thousands_is_undone_in_one_pass() {
    let mut rig = Rig::new();
    rig.client(&[parse("", "SELECT 0"), sync()]);
    rig.server(&[bare(PARSE_COMPLETE), ready(b'I')]);
    let before = (
        rig.client.statements.unnamed.clone(),
        rig.server.statements.unnamed,
    );
    let mut batch = vec![bind("", "missing")];
    for number in 0..10_000 {
        let sql = format!("SELECT {}", number % 7);
        batch.extend([parse("", &sql), bind("", ""), execute("")]);
    }
    batch.push(sync());
    rig.client(&batch);
    assert_eq!(rig.server.pipeline.len(), batch.len());
    rig.server(&[error("26000", "missing")]);
    assert_eq!(rig.server.pipeline.len(), 1);
    let after = (
        rig.client.statements.unnamed.clone(),
        rig.server.statements.unnamed,
    );
    assert_eq!(before.0.unwrap().id, after.0.unwrap().id);
    assert_eq!(before.1, after.1);
    // What a later batch goes back to, if it fails, is what this has gone back to.
    rig.client(&[
        sync(),
        bind("", "missing"),
        parse("", "SELECT 1"),
        sync(),
        parse("", "SELECT 2"),
        sync(),
    ]);
    rig.server(&[
        ready(b'I'),
        ready(b'I'),
        error("26000", "missing"),
        ready(b'I'),
        error("42601", "wrong"),
    ]);
    assert!(rig.client.statements.unnamed.is_none() && rig.server.statements.unnamed.is_none());
}
