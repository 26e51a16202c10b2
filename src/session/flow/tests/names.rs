//! Prepared statements: whose name means what, on whichever server connection.

use super::rig::{self, Rig};
use super::tag::*;
use super::wire::*;
use crate::session::ClientSession;
use crate::session::screen::PinReason;

/// A client that has prepared `a` and `b`, on a server connection that has them as `pgweir_2` and `pgweir_3`.
pub(super) fn prepared() -> Rig {
    let mut rig = Rig::new();
    rig.client(&[parse("a", "select a"), parse("b", "select b"), sync()]);
    rig.server(&[bare(PARSE_COMPLETE), bare(PARSE_COMPLETE), ready(b'I')]);
    rig
}

pub(super) fn prepare(rig: &mut Rig, name: &str, text: &str) {
    rig.client(&[parse(name, text), sync()]);
    rig.server(&[bare(PARSE_COMPLETE), ready(b'I')]);
}

#[test]
fn a_named_statement_has_another_name_on_the_server() {
    let mut rig = Rig::new();
    let sent = rig.client(&[
        parse("a", "select 1"),
        describe_statement("a"),
        bind("p", "a"),
        execute("p"),
        sync(),
    ]);
    assert_eq!(
        sent,
        [
            "Parse pgweir_2: select 1",
            "Describe Spgweir_2",
            "Bind p pgweir_2",
            "Execute p",
            "Sync"
        ]
    );
    rig.server(&[
        bare(PARSE_COMPLETE),
        bare(NO_DATA),
        bare(BIND_COMPLETE),
        complete("SELECT 1"),
        ready(b'I'),
    ]);
    assert!(rig.is_at_rest());
}

#[test]
fn a_text_that_the_server_has_is_not_parsed_again_and_answered_in_its_place() {
    let mut rig = prepared();
    let sent = rig.client(&[
        bind("", "a"),
        parse("c", "select b"),
        bind("", "c"),
        parse("d", "select a"),
        sync(),
    ]);
    assert_eq!(sent, ["Bind  pgweir_2", "Bind  pgweir_3", "Sync"]);
    assert_eq!(
        rig.server(&[bare(BIND_COMPLETE)]),
        ["BindComplete", "ParseComplete"]
    );
    assert_eq!(
        rig.server(&[bare(BIND_COMPLETE)]),
        ["BindComplete", "ParseComplete"]
    );
    assert_eq!(rig.server(&[ready(b'I')]), ["Ready I"]);
    assert!(rig.is_at_rest());
}

#[test]
fn a_batch_of_answers_made_here_waits_for_its_sync_or_its_flush() {
    let mut rig = prepared();
    assert_eq!(
        rig.client(&[parse("c", "select a"), close_statement("c"), sync()]),
        ["Sync"]
    );
    assert!(rig.fakes().is_empty());
    assert_eq!(
        rig.server(&[ready(b'I')]),
        ["ParseComplete", "CloseComplete", "Ready I"]
    );
    assert_eq!(rig.client(&[parse("d", "select a"), flush()]), ["Flush"]);
    assert_eq!(rig.fakes(), ["ParseComplete"]);
    assert!(!rig.is_at_rest());
    rig.client(&[sync()]);
    rig.server(&[ready(b'I')]);
    assert!(rig.is_at_rest());
}

#[test]
fn a_query_brings_along_the_answers_made_here_before_it() {
    let mut rig = prepared();
    rig.client(&[parse("c", "select a"), query("select 1")]);
    assert_eq!(
        rig.server(&[complete("SELECT 1")]),
        ["ParseComplete", "Complete SELECT 1"]
    );
}

#[test]
fn a_statement_that_the_server_lacks_is_parsed_first_and_its_answer_passed_over() {
    let mut rig = prepared();
    let (mut nobody, mut elsewhere) = (ClientSession::default(), rig::server(2));
    std::mem::swap(&mut nobody, &mut rig.client);
    rig.swap(&mut nobody, &mut elsewhere);
    let sent = rig.client(&[bind("", "a"), execute(""), describe_statement("b"), sync()]);
    let expected = [
        "Parse pgweir_2: select a",
        "Bind  pgweir_2",
        "Execute ",
        "Parse pgweir_3: select b",
        "Describe Spgweir_3",
        "Sync",
    ];
    assert_eq!(sent, expected);
    let answers = [
        bare(PARSE_COMPLETE),
        bare(BIND_COMPLETE),
        complete("SELECT 1"),
        bare(PARSE_COMPLETE),
        bare(NO_DATA),
        ready(b'I'),
    ];
    assert_eq!(
        rig.server(&answers),
        ["BindComplete", "Complete SELECT 1", "NoData", "Ready I"]
    );
    assert!(rig.is_at_rest());
}

#[test]
fn the_error_of_a_statement_parsed_again_is_the_clients() {
    let mut rig = prepared();
    rig.lose();
    rig.client(&[bind("", "a"), execute(""), sync()]);
    let got = rig.server(&[error("42P01", "no such table"), ready(b'I')]);
    assert_eq!(got, ["ERROR 42P01: no such table", "Ready I"]);
    assert!(rig.is_at_rest() && rig.flow.take_own_error().is_none());
    // And it is not taken for prepared afterwards.
    assert_eq!(
        rig.client(&[bind("", "a"), sync()])[0],
        "Parse pgweir_2: select a"
    );
}

#[test]
fn a_name_is_free_again_after_its_parse_has_failed() {
    let mut rig = Rig::new();
    rig.client(&[parse("a", "bad"), sync()]);
    rig.server(&[error("42601", "syntax"), ready(b'I')]);
    assert_eq!(
        rig.client(&[parse("a", "select 1"), sync()])[0],
        "Parse pgweir_3: select 1"
    );
    rig.server(&[bare(PARSE_COMPLETE), ready(b'I')]);
    assert_eq!(rig.client(&[bind("", "a"), sync()])[0], "Bind  pgweir_3");
}

#[test]
fn the_same_bad_text_is_sent_again_under_the_same_name() {
    let mut rig = Rig::new();
    for _ in 0..2 {
        assert_eq!(rig.client(&[parse("a", "bad"), sync()])[0], "Parse pgweir_2: bad");
        rig.server(&[error("42601", "syntax"), ready(b'I')]);
    }
}

#[test]
fn an_error_takes_back_the_names_behind_it_given_and_taken() {
    let mut rig = prepared();
    let sent = rig.client(&[
        bind("", "a"),
        close_statement("a"),
        parse("a", "select b"),
        parse("c", "select c"),
        close_statement("b"),
        sync(),
    ]);
    assert_eq!(sent, ["Bind  pgweir_2", "Parse pgweir_4: select c", "Sync"]);
    assert_eq!(
        rig.server(&[error("22P02", "bad value"), ready(b'I')]),
        ["ERROR 22P02: bad value", "Ready I"]
    );
    let sent = rig.client(&[bind("", "a"), bind("", "b"), parse("c", "select c"), sync()]);
    assert_eq!(
        sent,
        [
            "Bind  pgweir_2",
            "Bind  pgweir_3",
            "Parse pgweir_4: select c",
            "Sync"
        ]
    );
}

#[test]
fn a_name_taken_is_refused_in_its_place() {
    let mut rig = prepared();
    let sent = rig.client(&[
        bind("", "b"),
        parse("a", "select 1"),
        bind("", "a"),
        execute(""),
        sync(),
    ]);
    assert_eq!(
        sent[..3],
        ["Bind  pgweir_3", "Parse : select 1", "Describe Spgweir_none"]
    );
    let got = rig.server(&[bare(BIND_COMPLETE), bare(PARSE_COMPLETE)]);
    assert_eq!(got, ["BindComplete"]);
    let got = rig.server(&[
        error("26000", "prepared statement \"pgweir_none\" does not exist"),
        ready(b'E'),
    ]);
    assert_eq!(
        got,
        ["ERROR 42P05: prepared statement \"a\" already exists", "Ready E"]
    );
    // The server's own transaction has failed with it.
    assert!(!rig.is_at_rest());
    assert_eq!(rig.client(&[bind("", "a"), sync()])[0], "Bind  pgweir_2");
}

#[test]
fn a_name_unknown_is_refused_in_its_place() {
    for asks in [bind("", "none"), describe_statement("none")] {
        let mut rig = prepared();
        let sent = rig.client(&[asks, execute(""), sync()]);
        assert_eq!(
            (&*sent[0], &*sent[sent.len() - 1]),
            ("Describe Spgweir_none", "Sync")
        );
        let got = rig.server(&[
            error("26000", "prepared statement \"pgweir_none\" does not exist"),
            ready(b'I'),
        ]);
        assert_eq!(
            got,
            [
                "ERROR 26000: prepared statement \"none\" does not exist",
                "Ready I"
            ]
        );
        assert!(rig.is_at_rest());
    }
}

#[test]
fn a_refused_message_that_is_cut_is_passed_on_for_the_server_to_skip() {
    let mut rig = prepared();
    let long = message(BIND, &[&b"\0none\0"[..], &[b'x'; 5000]].concat());
    assert_eq!(
        rig.client_bytes(&long[..100]).unwrap().len() - 100,
        describe_statement("pgweir_none").len()
    );
    assert_eq!(rig.flow.client_rest(), long.len() - 100);
    rig.client_bytes(&[&long[100..], &sync()].concat()).unwrap();
    assert_eq!(rig.server(&[error("26000", "none"), ready(b'I')]).len(), 2);
    assert!(rig.is_at_rest());
}

#[test]
fn closing_a_statement_frees_its_name_and_closing_nothing_is_no_error() {
    let mut rig = prepared();
    assert_eq!(
        rig.client(&[
            close_statement("a"),
            close_statement("x"),
            parse("a", "select b"),
            sync()
        ]),
        ["Sync"]
    );
    assert_eq!(
        rig.server(&[ready(b'I')]),
        ["CloseComplete", "CloseComplete", "ParseComplete", "Ready I"]
    );
    assert_eq!(rig.client(&[bind("", "a"), sync()])[0], "Bind  pgweir_3");
}

#[test]
fn unnamed_statements_of_two_clients_on_one_connection_are_told_apart() {
    let mut rig = Rig::new();
    let (mut other, mut unused) = (ClientSession::default(), rig::server(2));
    rig.client(&[parse("", "select 'first'"), sync()]);
    rig.server(&[bare(PARSE_COMPLETE), ready(b'I')]);
    drop(rig.rest());
    std::mem::swap(&mut rig.client, &mut other);
    rig.client(&[parse("", "select 'second'"), sync()]);
    rig.server(&[bare(PARSE_COMPLETE), ready(b'I')]);
    drop(rig.rest());
    std::mem::swap(&mut rig.client, &mut other);
    let sent = rig.client(&[bind("", ""), execute(""), sync()]);
    assert_eq!(sent, ["Parse : select 'first'", "Bind  ", "Execute ", "Sync"]);
    let got = rig.server(&[
        bare(PARSE_COMPLETE),
        bare(BIND_COMPLETE),
        complete("SELECT 1"),
        ready(b'I'),
    ]);
    assert_eq!(got, ["BindComplete", "Complete SELECT 1", "Ready I"]);
    rig.swap(&mut other, &mut unused);
}

#[test]
fn a_query_destroys_the_unnamed_statement() {
    let mut rig = Rig::new();
    prepare(&mut rig, "", "select 1");
    rig.client(&[query("select 2")]);
    rig.server(&[complete("SELECT 1"), ready(b'I')]);
    rig.client(&[bind("", ""), sync()]);
    let got = rig.server(&[error("26000", "pgweir_none"), ready(b'I')]);
    assert_eq!(got[0], "ERROR 26000: unnamed prepared statement does not exist");
}

#[test]
fn a_query_that_is_skipped_destroys_nothing() {
    let mut rig = Rig::new();
    prepare(&mut rig, "", "select 1");
    rig.client(&[message(DESCRIBE, b"Pnone\0"), query("select 2"), sync()]);
    rig.server(&[error("34000", "no portal"), ready(b'I')]);
    assert_eq!(rig.client(&[bind("", ""), sync()]), ["Bind  ", "Sync"]);
}

#[test]
fn a_query_of_our_own_destroys_the_servers_unnamed_statement_not_the_clients() {
    let mut rig = Rig::new();
    prepare(&mut rig, "", "select 1");
    rig.flow.inject_query(
        "SELECT set_config('a', 'b', false)",
        &mut rig.server,
        &mut Vec::new(),
    );
    rig.server(&[complete("SELECT 1"), ready(b'I')]);
    assert_eq!(
        rig.client(&[bind("", ""), sync()]),
        ["Parse : select 1", "Bind  ", "Sync"]
    );
}

#[test]
fn a_failed_unnamed_parse_leaves_none_and_a_skipped_one_the_old() {
    let mut rig = Rig::new();
    prepare(&mut rig, "", "select 1");
    rig.client(&[message(DESCRIBE, b"Pnone\0"), parse("", "select 2"), sync()]);
    rig.server(&[error("34000", "no portal"), ready(b'I')]);
    assert_eq!(rig.client(&[bind("", ""), sync()]), ["Bind  ", "Sync"]);
    rig.server(&[bare(BIND_COMPLETE), ready(b'I')]);
    rig.client(&[parse("", "bad"), sync()]);
    rig.server(&[error("42601", "syntax"), ready(b'I')]);
    assert_eq!(rig.client(&[bind("", ""), sync()])[0], "Describe Spgweir_none");
}

#[test]
fn a_failure_takes_back_nothing_that_a_later_batch_has_changed() {
    let mut rig = Rig::new();
    prepare(&mut rig, "", "select 0");
    rig.client(&[parse("", "bad"), sync(), parse("", "select 2"), sync()]);
    rig.server(&[
        error("42601", "syntax"),
        ready(b'I'),
        bare(PARSE_COMPLETE),
        ready(b'I'),
    ]);
    assert_eq!(rig.client(&[bind("", ""), sync()]), ["Bind  ", "Sync"]);
    assert_eq!(
        rig.client
            .statements
            .unnamed
            .as_ref()
            .map(|statement| statement.id),
        Some(4)
    );

    // And a failure of the later batch goes back behind both.
    let mut rig = Rig::new();
    prepare(&mut rig, "", "select 0");
    rig.client(&[
        parse("", "bad"),
        sync(),
        message(DESCRIBE, b"Pnone\0"),
        parse("", "select 2"),
        sync(),
    ]);
    rig.server(&[
        error("42601", "syntax"),
        ready(b'I'),
        error("34000", "no portal"),
        ready(b'I'),
    ]);
    assert!(rig.client.statements.unnamed.is_none() && rig.server.statements.unnamed.is_none());
}

#[test]
fn a_name_that_hangs_on_an_earlier_batch_waits_for_it() {
    let mut rig = prepared();
    // Whether `a` means the old or the new statement, the first batch decides.
    rig.client(&[
        bind("", "b"),
        close_statement("a"),
        parse("a", "select 1"),
        sync(),
    ]);
    assert!(
        rig.client(&[bind("", "b"), bind("", "a"), sync()])
            .ends_with(&["Bind  pgweir_3".into()])
    );
    assert!(rig.flow.is_held());
    rig.server(&[error("22P02", "bad value"), ready(b'I')]);
    assert_eq!(rig.client(&[]), ["Bind  pgweir_2", "Sync"]);
    assert!(!rig.flow.is_held());
}

#[test]
fn a_text_that_an_earlier_batch_is_preparing_is_waited_for() {
    let mut rig = Rig::new();
    rig.client(&[bind("", ""), parse("a", "select 1"), sync()]);
    assert!(
        rig.client(&[parse("b", "select 1"), bind("", "b"), sync()])
            .is_empty()
    );
    rig.server(&[error("26000", "none"), ready(b'I')]);
    assert_eq!(
        rig.client(&[]),
        ["Parse pgweir_2: select 1", "Bind  pgweir_2", "Sync"]
    );
}

#[test]
fn names_that_differ_behind_the_63rd_byte_are_one() {
    let mut rig = Rig::new();
    let name = "n".repeat(63);
    prepare(&mut rig, &name, "select 1");
    rig.client(&[parse(&format!("{name}x"), "select 2"), sync()]);
    let got = rig.server(&[bare(PARSE_COMPLETE), error("26000", "none"), ready(b'I')]);
    assert!(got[0].starts_with("ERROR 42P05"), "{got:?}");
    assert_eq!(
        rig.client(&[bind("", &format!("{name}y")), sync()])[0],
        "Bind  pgweir_2"
    );
}

#[test]
fn names_like_ours_are_names_like_any() {
    let mut rig = Rig::new();
    prepare(&mut rig, "pgweir_2", "select 1");
    prepare(&mut rig, "pgweir_none", "select 2");
    let sent = rig.client(&[
        bind("", "pgweir_none"),
        bind("", "pgweir_2"),
        bind("", "pgweir_3"),
        sync(),
    ]);
    assert_eq!(
        sent[..3],
        ["Bind  pgweir_3", "Bind  pgweir_2", "Describe Spgweir_none"]
    );
}

#[test]
fn a_client_names_so_many_statements_and_no_more() {
    let mut rig = Rig::new();
    for index in 0..10_000 {
        let name = format!("s{index}");
        rig.client(&[parse(&name, "select 1"), sync()]);
        if index == 0 {
            rig.server(&[bare(PARSE_COMPLETE)]);
        }
        rig.server(&[ready(b'I')]);
    }
    rig.client(&[parse("more", "select 1"), sync()]);
    assert_eq!(
        rig.server(&[bare(PARSE_COMPLETE), error("26000", "none"), ready(b'I')])[0],
        "ERROR 54000: too many prepared statements"
    );
}

#[test]
fn a_statement_too_large_to_be_kept_pins_until_it_is_closed() {
    let mut rig = Rig::new();
    let text = format!("select '{}'", "x".repeat(1_100_000));
    let whole = parse("big", &text);
    let first = rig.client_bytes(&whole[..70_000]).unwrap();
    assert_eq!(rig.client.pinned(), Some(PinReason::LargeStatement));
    let rest = rig.client_bytes(&[&whole[70_000..], &sync()].concat()).unwrap();
    assert_eq!(
        [first, rest].concat(),
        [parse("pgweir_2", &text), sync()].concat()
    );
    rig.server(&[bare(PARSE_COMPLETE), ready(b'I')]);
    assert_eq!(rig.client(&[bind("", "big"), sync()])[0], "Bind  pgweir_2");
    rig.server(&[bare(BIND_COMPLETE), ready(b'I')]);
    assert_eq!(
        rig.client(&[close_statement("big"), sync()]),
        ["Close Spgweir_2", "Sync"]
    );
    rig.server(&[bare(CLOSE_COMPLETE), ready(b'I')]);
    assert_eq!(rig.client.pinned(), None);
}
