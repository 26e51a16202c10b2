//! Prepared statements that go: dropped by the client, contradicted by the server, or making room.

use super::super::Naming;
use super::names::{prepare, prepared};
use super::rig::Rig;
use super::tag::*;
use super::wire::*;

#[test]
fn forgetting_all_keeps_what_was_parsed_behind_it() {
    for forget in ["DEALLOCATE ALL", "DISCARD ALL"] {
        let mut rig = prepared();
        rig.client(&[
            parse("", forget),
            bind("", ""),
            execute(""),
            parse("c", "select c"),
            parse("d", "select a"),
            sync(),
        ]);
        rig.server(&[
            bare(PARSE_COMPLETE),
            bare(BIND_COMPLETE),
            complete(forget),
            bare(PARSE_COMPLETE),
        ]);
        // The text that the server had before is parsed again, since it is forgotten by then.
        assert_eq!(
            rig.server(&[bare(PARSE_COMPLETE), ready(b'I')]),
            ["ParseComplete", "Ready I"],
            "{forget}"
        );
        let sent = rig.client(&[bind("", "c"), bind("", "d"), bind("", "a"), sync()]);
        assert_eq!(
            sent[..3],
            ["Bind  pgweir_5", "Bind  pgweir_2", "Describe Spgweir_none"]
        );
    }
}

#[test]
fn forgetting_all_by_a_query_is_waited_for_where_names_hang_on_it() {
    let mut rig = prepared();
    let sent = rig.client(&[
        query("DEALLOCATE ALL"),
        parse("", "select 1"),
        parse("a", "select a"),
        sync(),
    ]);
    assert_eq!(sent, ["Query DEALLOCATE ALL", "Parse : select 1"]);
    rig.server(&[complete("DEALLOCATE ALL"), ready(b'I')]);
    assert_eq!(rig.client(&[]), ["Parse pgweir_2: select a", "Sync"]);
}

#[test]
fn forgetting_all_and_then_failing_brings_nothing_back() {
    let mut rig = prepared();
    let sent = rig.client(&[
        parse("", "DEALLOCATE ALL"),
        bind("", ""),
        execute(""),
        parse("c", "select a"),
        close_statement("b"),
        bind("", "none"),
        sync(),
    ]);
    assert_eq!(sent[3], "Parse pgweir_2: select a");
    rig.server(&[
        bare(PARSE_COMPLETE),
        bare(BIND_COMPLETE),
        complete("DEALLOCATE ALL"),
        bare(PARSE_COMPLETE),
    ]);
    rig.server(&[error("26000", "none"), ready(b'I')]);
    assert_eq!((rig.client.statements.len(), rig.server.statements.len()), (1, 1));
    assert_eq!(rig.client(&[bind("", "c"), sync()])[0], "Bind  pgweir_2");
}

#[test]
fn forgetting_all_that_fails_forgets_nothing() {
    let mut rig = prepared();
    rig.client(&[
        bind("", "none"),
        parse("", "DEALLOCATE ALL"),
        bind("", ""),
        execute(""),
        parse("a", "x"),
        sync(),
    ]);
    rig.server(&[error("26000", "none"), ready(b'I')]);
    // What the server has is found out again.
    let sent = rig.client(&[bind("", "a"), sync()]);
    assert_eq!(
        sent,
        [
            "Close Spgweir_2",
            "Parse pgweir_2: select a",
            "Bind  pgweir_2",
            "Sync"
        ]
    );
}

#[test]
fn a_server_that_contradicts_is_believed() {
    for (code, parsed) in [("26000", false), ("0A000", false), ("42P05", true)] {
        let mut rig = prepared();
        let asks = if parsed {
            parse("c", "select c")
        } else {
            bind("", "a")
        };
        rig.client(&[asks, sync()]);
        rig.server(&[error(code, "surprise"), ready(b'I')]);
        let sent = rig.client(&[bind("", "a"), sync()]);
        assert_eq!(
            sent,
            [
                "Close Spgweir_2",
                "Parse pgweir_2: select a",
                "Bind  pgweir_2",
                "Sync"
            ]
        );
        let got = rig.server(&[
            bare(CLOSE_COMPLETE),
            bare(PARSE_COMPLETE),
            bare(BIND_COMPLETE),
            ready(b'I'),
        ]);
        assert_eq!(got, ["BindComplete", "Ready I"]);
    }
}

#[test]
fn the_least_recently_used_statement_makes_room_and_never_one_of_the_batch() {
    let mut rig = Rig::with(Naming::Mapped { max: 2 });
    prepare(&mut rig, "a", "select a");
    prepare(&mut rig, "b", "select b");
    rig.client(&[bind("", "a"), sync()]);
    rig.server(&[bare(BIND_COMPLETE), ready(b'I')]);
    let sent = rig.client(&[
        parse("c", "select c"),
        bind("", "c"),
        parse("d", "select d"),
        bind("", "d"),
        sync(),
    ]);
    let expected = [
        "Close Spgweir_3",
        "Parse pgweir_4: select c",
        "Bind  pgweir_4",
        "Close Spgweir_2",
        "Parse pgweir_5: select d",
        "Bind  pgweir_5",
        "Sync",
    ];
    assert_eq!(sent, expected);
    let done = [bare(CLOSE_COMPLETE), bare(PARSE_COMPLETE), bare(BIND_COMPLETE)].concat();
    assert_eq!(rig.server(&[done.clone(), done, ready(b'I')]).len(), 5);
    let sent = rig.client(&[
        bind("", "c"),
        bind("", "d"),
        parse("e", "select e"),
        bind("", "c"),
        sync(),
    ]);
    assert_eq!(sent[..2], ["Bind  pgweir_4", "Bind  pgweir_5"]);
    assert_eq!(sent[2..], ["Parse pgweir_6: select e", "Bind  pgweir_4", "Sync"]);
    rig.server(&[
        bare(BIND_COMPLETE),
        bare(BIND_COMPLETE),
        bare(PARSE_COMPLETE),
        bare(BIND_COMPLETE),
        ready(b'I'),
    ]);
    assert_eq!(rig.server.statements.len(), 3);
    // What was too many goes with the next.
    let sent = rig.client(&[parse("f", "select f"), sync()]);
    assert_eq!(sent.iter().filter(|line| line.starts_with("Close")).count(), 2);
}
