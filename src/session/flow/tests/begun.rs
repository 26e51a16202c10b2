//! A block that was begun before a server knew of it.

use super::super::Naming;
use super::rig::Rig;
use super::tag::*;
use super::wire::*;
use crate::protocol::{Report, SqlState, TransactionState};
use crate::session::ClientSession;
use crate::session::client::{Begins, Block, Wants};

const LOST: &str = "ERROR 08006: lost";
const BEGUN: [&str; 2] = ["Complete BEGIN", "Ready T"];
/// What of a `BEGIN` is sent.
const BEGIN: [&str; 3] = ["Parse : BEGIN", "Bind  ", "Execute "];

/// What a client without a server connection wants, and is told.
fn idle(client: &mut ClientSession, messages: &[Vec<u8>]) -> (Wants, Vec<String>) {
    let mut out = Vec::new();
    let idle = client
        .on_idle(&messages.concat(), Begins::Here, &mut out)
        .unwrap();
    (idle.wants, backend(&out))
}

/// A client that was told that it is in a block.
fn begun(naming: Naming) -> Rig {
    let mut rig = Rig::with(naming);
    let (wants, told) = idle(&mut rig.client, &[query("begin")]);
    assert_eq!((wants, told), (Wants::Nothing, BEGUN.map(String::from).to_vec()));
    rig
}

fn mapped() -> Rig {
    begun(Naming::Mapped { max: 200 })
}

fn begin_is_answered() -> Vec<u8> {
    [bare(PARSE_COMPLETE), bare(BIND_COMPLETE), complete("BEGIN")].concat()
}

#[test]
fn a_block_without_a_statement_needs_no_server() {
    let mut client = ClientSession::default();
    for (end, told) in [
        ("commit", "COMMIT"),
        ("END;", "COMMIT"),
        ("rollback", "ROLLBACK"),
        ("ABORT WORK", "ROLLBACK"),
    ] {
        let messages = [query("START TRANSACTION"), sync(), query(end), sync()];
        let (wants, answers) = idle(&mut client, &messages);
        assert_eq!(wants, Wants::Nothing);
        let expected = [
            "Complete START TRANSACTION",
            "Ready T",
            "Ready T",
            &format!("Complete {told}"),
            "Ready I",
            "Ready I",
        ];
        assert_eq!(answers, expected);
    }
}

#[test]
fn whatever_else_is_said_needs_a_server() {
    for message in [
        query("begin"),
        query("commit and chain"),
        query("select 1"),
        query("commit; begin"),
        parse("", "commit"),
        message(FUNCTION_CALL, &[0; 10]),
    ] {
        let mut client = ClientSession::default();
        let (wants, told) = idle(&mut client, &[query("begin"), message]);
        assert_eq!((wants, told.len()), (Wants::Server, 2));
        assert!(client.is_begun());
    }
    let mut client = ClientSession::default();
    assert_eq!(idle(&mut client, &[query("commit")]).0, Wants::Server);
    let elsewhere = client.on_idle(&query("begin"), Begins::AtServer, &mut Vec::new());
    assert_eq!(elsewhere.unwrap().wants, Wants::Server);
}

#[test]
fn a_begin_destroys_the_unnamed_statement() {
    for naming in [Naming::Mapped { max: 200 }, Naming::Verbatim] {
        let mut rig = Rig::with(naming);
        rig.client(&[parse("", "select 1"), sync()]);
        rig.server(&[bare(PARSE_COMPLETE), ready(b'I')]);
        drop(rig.rest());
        idle(&mut rig.client, &[query("begin")]);
        assert!(rig.client.statements.unnamed.is_none());
        assert_eq!(
            rig.server.statements.unnamed.is_some(),
            naming != Naming::Verbatim
        );
        rig.client(&[query("select 2")]);
        assert!(rig.server.statements.unnamed.is_none());
    }
}

#[test]
fn the_begin_goes_ahead_of_the_first_request_and_its_answer_nowhere() {
    let mut rig = mapped();
    let sent = rig.client(&[query("select 1")]);
    assert_eq!(sent[..3], BEGIN);
    assert_eq!(sent[3..], ["Query select 1"]);
    assert_eq!(rig.client.block, Block::None);
    assert_eq!(rig.server.transaction, TransactionState::InBlock);
    let heard = rig.server(&[begin_is_answered(), row("1"), complete("SELECT 1"), ready(b'T')]);
    assert_eq!(heard, ["Row 1", "Complete SELECT 1", "Ready T"]);
    assert!(!rig.is_at_rest());
    rig.client(&[query("commit")]);
    rig.server(&[complete("COMMIT"), ready(b'I')]);
    // Three statements and one transaction.
    assert_eq!((rig.flow.tally.queries, rig.flow.tally.transactions), (3, 1));
    drop(rig.rest());
}

#[test]
fn modes_go_with_the_begin() {
    let mut rig = Rig::new();
    idle(
        &mut rig.client,
        &[query("start transaction isolation level serializable, read only")],
    );
    let sent = rig.client(&[parse("", "select 1"), bind("", ""), execute(""), sync()]);
    assert_eq!(sent[0], "Parse : BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY");
    assert_eq!(sent[3], "Parse : select 1");
}

#[test]
fn where_names_are_the_clients_own_the_begin_leaves_none_behind() {
    let mut rig = begun(Naming::Verbatim);
    let sent = rig.client(&[bind("", ""), sync()]);
    assert_eq!(sent[3..], ["Close S", "Bind  ", "Sync"]);
    let missing = error("26000", "missing");
    let heard = rig.server(&[begin_is_answered(), bare(CLOSE_COMPLETE), missing, ready(b'E')]);
    assert_eq!(heard, ["ERROR 26000: missing", "Ready E"]);
}

#[test]
fn nothing_goes_behind_a_sync_before_the_begin_is_answered() {
    let mut rig = mapped();
    let batch = [parse("", "select 1"), bind("", ""), execute(""), sync()].concat();
    let sent = rig.client(&[batch.clone(), query("select 2")]);
    assert_eq!((sent.len(), sent[6].as_str()), (7, "Sync"));
    assert!(rig.flow.is_held());
    rig.server(&[begin_is_answered()]);
    assert_eq!(rig.client(&[]), ["Query select 2"]);
    assert!(!rig.flow.is_held());
    // What is skipped with it goes at once.
    let mut rig = mapped();
    let sent = rig.client(&[query("select 1"), query("select 2"), batch]);
    assert_eq!(sent.len(), 9);
}

#[test]
fn a_begin_that_is_refused_is_the_error_of_every_request_behind_it() {
    for refused in [
        vec![error("57014", "canceled")],
        vec![bare(PARSE_COMPLETE), error("57014", "canceled")],
        vec![
            bare(PARSE_COMPLETE),
            bare(BIND_COMPLETE),
            error("57014", "canceled"),
        ],
    ] {
        let mut rig = mapped();
        rig.client(&[query("listen news"), query("select 2")]);
        assert!(rig.client.pinned().is_some());
        assert!(rig.server(&refused).is_empty());
        // The connection waits for a Sync: it is given up.
        let report = rig.ending.take().unwrap().report();
        assert_eq!(
            (report.code, &*report.message),
            (SqlState::QUERY_CANCELED, "canceled")
        );
        assert_eq!(rig.lose(), [LOST, "Ready E", LOST, "Ready E"]);
        assert_eq!((rig.client.block, rig.client.pinned()), (Block::Failed, None));
        let (wants, told) = idle(&mut rig.client, &[query("commit")]);
        assert_eq!(
            (wants, told.as_slice()),
            (
                Wants::Nothing,
                ["Complete ROLLBACK", "Ready I"].map(String::from).as_slice()
            )
        );
    }
}

#[test]
fn an_error_behind_the_begin_is_the_statements_own() {
    let mut rig = mapped();
    rig.client(&[query("select 1/0")]);
    let heard = rig.server(&[begin_is_answered(), error("22012", "division"), ready(b'E')]);
    assert_eq!(heard, ["ERROR 22012: division", "Ready E"]);
    assert_eq!(rig.ending, None);
}

#[test]
fn a_block_is_lost_with_the_connection_that_was_told_of_it() {
    let mut rig = mapped();
    rig.client(&[query("select 1")]);
    assert!(!rig.flow.may_commit());
    assert_eq!(rig.lose(), [LOST, "Ready E"]);
    assert_eq!(rig.client.block, Block::Failed);
}

#[test]
fn no_server_waits_in_a_block_for_a_message_that_is_cut() {
    let mut rig = mapped();
    let large = parse("", &"x".repeat(20_000));
    assert!(rig.client(&[large[..17_000].to_vec()]).is_empty());
    assert!(rig.is_at_rest());
    // Lost now, nothing is lost.
    assert!(rig.lose().is_empty());
    assert!(rig.client.is_begun());
    let sent = rig.client(&[large[17_000..].to_vec(), sync()]);
    assert_eq!(
        (sent[..3].to_vec(), sent.len()),
        (BEGIN.map(String::from).to_vec(), 5)
    );
}

#[test]
fn a_request_that_is_refused_fails_the_block() {
    let report = Report::error(SqlState::TOO_MANY_CONNECTIONS, "none");
    for (message, told) in [
        (query("select 1"), vec!["ERROR 53300: none", "Ready E"]),
        (parse("", "select 1"), vec!["ERROR 53300: none"]),
    ] {
        let mut rig = mapped();
        let mut out = Vec::new();
        assert_eq!(rig.client.refuse(&message, &report, &mut out), message.len());
        assert_eq!(backend(&out), told);
        let (wants, told) = idle(&mut rig.client, &[sync(), query("rollback")]);
        assert_eq!(wants, Wants::Nothing);
        assert_eq!(told, ["Ready E", "Complete ROLLBACK", "Ready I"]);
    }
}

#[test]
fn a_block_that_a_request_waits_for_is_asked_for_even_behind_the_settings_of_its_client() {
    let mut rig = mapped();
    let mut settings = Vec::new();
    rig.flow.inject_query("SELECT 1", &mut rig.server, &mut settings);
    assert_eq!(rig.server(&[complete("SELECT 1"), ready(b'I')]), [""; 0]);
    // What the name means is known when the block has begun.
    let sent = rig.client(&[query("PREPARE a AS SELECT 1")]);
    assert!(rig.flow.is_held());
    assert_eq!(sent, [&BEGIN[..], &["Flush"]].concat());
}
