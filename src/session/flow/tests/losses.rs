//! A server connection that is lost: what the client is told, and what it may do next.

use super::rig::Rig;
use super::tag::*;
use super::wire::*;
use crate::session::ClientSession;
use crate::session::client::{Begins, Block, Idle, Wants};

const LOST: &str = "ERROR 08006: lost";

fn idle(client: &mut ClientSession, messages: &[Vec<u8>]) -> (Idle, Vec<String>) {
    let mut out = Vec::new();
    let idle = client
        .on_idle(&messages.concat(), Begins::AtServer, &mut out)
        .unwrap();
    (idle, backend(&out))
}

#[test]
fn each_request_in_flight_is_answered_once() {
    let mut rig = Rig::new();
    rig.client(&[
        query("select 1"),
        message(FUNCTION_CALL, &[0; 10]),
        query("select 2"),
    ]);
    rig.client(&[parse("", "select 3"), bind("", ""), execute(""), sync()]);
    let told = [LOST, "Ready I", LOST, "Ready I", LOST, "Ready I", LOST, "Ready I"];
    assert_eq!(rig.lose(), told);
}

#[test]
fn a_query_behind_a_lost_batch_is_skipped_with_it() {
    let mut rig = Rig::new();
    rig.client(&[
        parse("", "select 3"),
        query("select 1"),
        sync(),
        query("select 2"),
    ]);
    assert_eq!(rig.lose(), [LOST, "Ready I", LOST, "Ready I"]);
}

#[test]
fn a_query_behind_a_lost_batch_does_not_end_it() {
    let mut rig = Rig::new();
    rig.client(&[parse("", "select 3"), query("select 1")]);
    assert_eq!(rig.lose(), [LOST]);
    let (idle, told) = idle(&mut rig.client, &[query("select 2"), sync()]);
    assert_eq!((idle.wants, told), (Wants::Nothing, vec!["Ready I".to_owned()]));
}

#[test]
fn a_batch_that_is_not_at_its_end_is_passed_over_up_to_its_sync() {
    for answered in [false, true] {
        let mut rig = Rig::new();
        rig.client(&[parse("", "insert"), bind("", ""), execute(""), flush()]);
        if answered {
            rig.server(&[bare(PARSE_COMPLETE), bare(BIND_COMPLETE), complete("INSERT 0 1")]);
        }
        assert_eq!(rig.lose(), [LOST]);
        // The second half of the transaction must not be carried out without the first.
        let rest = [bind("", ""), execute(""), sync(), query("select 1")];
        let (idle, told) = idle(&mut rig.client, &rest);
        assert_eq!((idle.wants, told), (Wants::Server, vec!["Ready I".to_owned()]));
        assert_eq!(idle.consumed, rest[..3].concat().len());
    }
}

#[test]
fn a_failed_batch_stays_failed() {
    let mut rig = Rig::new();
    rig.client(&[parse("", "bad"), flush()]);
    rig.server(&[error("42601", "syntax")]);
    assert!(rig.lose().is_empty());
    let (idle, told) = idle(&mut rig.client, &[query("select 1"), sync()]);
    assert_eq!((idle.wants, told), (Wants::Nothing, vec!["Ready I".to_owned()]));
}

#[test]
fn a_lost_block_has_failed() {
    let mut rig = Rig::new();
    rig.client(&[query("begin")]);
    rig.server(&[complete("BEGIN"), ready(b'T')]);
    rig.client(&[query("insert")]);
    assert_eq!(rig.lose(), [LOST, "Ready E"]);
    assert_eq!(rig.client.block, Block::Failed);
    let (_, told) = idle(&mut rig.client, &[sync()]);
    assert_eq!(told, ["Ready E"]);
}

#[test]
fn names_and_settings_are_what_they_were_before_what_was_lost() {
    let mut rig = Rig::new();
    rig.client(&[parse("a", "select a"), parse("", "select u"), sync()]);
    rig.server(&[bare(PARSE_COMPLETE), bare(PARSE_COMPLETE), ready(b'I')]);
    rig.client(&[query("begin"), query("set timezone to 'Asia/Tokyo'")]);
    rig.server(&[
        complete("BEGIN"),
        ready(b'T'),
        complete("SET"),
        parameter("TimeZone", "Asia/Tokyo"),
        ready(b'T'),
    ]);
    rig.client(&[
        close_statement("a"),
        parse("a", "select 1"),
        parse("b", "select 2"),
        sync(),
    ]);
    rig.client(&[query("select 1")]);
    rig.lose();
    assert!(rig.client.settings.is_empty());
    assert!(rig.client.statements.named(b"b").is_none());
    assert_eq!(
        rig.client(&[bind("", "a"), sync()])[0],
        "Parse pgweir_2: select a"
    );
}

#[test]
fn what_lived_on_the_lost_connection_alone_is_forgotten() {
    let mut rig = Rig::new();
    let text = format!("select '{}'", "x".repeat(1_100_000));
    rig.client(&[parse("big", &text), sync()]);
    rig.server(&[bare(PARSE_COMPLETE), ready(b'I')]);
    rig.client(&[query("listen a")]);
    assert_eq!(rig.lose(), [LOST, "Ready I"]);
    assert_eq!(rig.client.pinned(), None);
    assert_eq!(rig.client(&[bind("", "big"), sync()])[0], "Describe Spgweir_none");
}

#[test]
fn requests_of_our_own_are_nobodys() {
    let mut rig = Rig::new();
    rig.flow.inject_query(
        "SELECT set_config('a', 'b', false)",
        &mut rig.server,
        &mut Vec::new(),
    );
    assert!(rig.lose().is_empty());
}

#[test]
fn a_refused_request_leaves_the_client_in_step() {
    let report = crate::protocol::Report::error(crate::protocol::SqlState::TOO_MANY_CONNECTIONS, "full");
    let mut client = ClientSession::default();
    let mut out = Vec::new();
    assert_eq!(
        client.refuse(&query("select 1"), &report, &mut out),
        query("select 1").len()
    );
    assert_eq!(backend(&out), ["ERROR 53300: full", "Ready I"]);
    out.clear();
    assert_eq!(
        client.refuse(&parse("", "select 1")[..7], &report, &mut out),
        parse("", "select 1").len()
    );
    assert_eq!(backend(&out), ["ERROR 53300: full"]);
    let (idle, told) = idle(&mut client, &[bind("", ""), execute(""), sync(), bind("", "")]);
    assert_eq!((idle.wants, told), (Wants::Server, vec!["Ready I".to_owned()]));
}

#[test]
fn an_idle_client_is_answered_what_needs_no_server() {
    let mut client = ClientSession::default();
    let rest = [copy_data("late"), copy_done(), flush(), sync()];
    let (passed, told) = idle(&mut client, &rest);
    assert_eq!((passed.wants, told), (Wants::Nothing, vec!["Ready I".to_owned()]));
    assert_eq!(passed.consumed, rest.concat().len());
    let (passed, _) = idle(&mut client, &[message(TERMINATE, b"")]);
    assert_eq!(passed.wants, Wants::Goodbye);
    assert!(client.on_idle(b"!", Begins::AtServer, &mut Vec::new()).is_err());
    // A cut message that is passed over: its rest too.
    let (cut, len) = (copy_data("late")[..6].to_vec(), copy_data("late").len());
    let (passed, _) = idle(&mut client, &[cut]);
    assert_eq!(passed.consumed, len);
}
