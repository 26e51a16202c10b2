//! COPY, in both protocols, both ways, and when it fails.

use super::super::Attention;
use super::rig::Rig;
use super::tag::{self, BIND_COMPLETE, PARSE_COMPLETE};
use super::wire::*;
use crate::session::Hygiene;

#[test]
fn a_copy_in_by_a_simple_query() {
    let mut rig = Rig::new();
    rig.client(&[query("copy t from stdin")]);
    rig.server(&[copy_response(tag::COPY_IN_RESPONSE)]);
    assert_eq!(rig.flow.attention(&rig.server), Attention::Both);
    assert_eq!(
        rig.client(&[copy_data("a"), copy_data("b")]),
        ["CopyData a", "CopyData b"]
    );
    rig.client(&[copy_done()]);
    rig.server(&[complete("COPY 2"), ready(b'I')]);
    assert!(rig.is_at_rest());
}

#[test]
fn a_copy_in_whose_data_is_sent_ahead() {
    let mut rig = Rig::new();
    rig.client(&[
        query("copy t from stdin"),
        copy_data("a"),
        copy_done(),
        query("select 1"),
    ]);
    rig.server(&[
        copy_response(tag::COPY_IN_RESPONSE),
        complete("COPY 1"),
        ready(b'I'),
    ]);
    assert!(!rig.is_at_rest());
    rig.server(&[complete("SELECT 1"), ready(b'I')]);
    assert!(rig.is_at_rest());
}

#[test]
fn two_copies_in_one_query() {
    let mut rig = Rig::new();
    rig.client(&[query("copy t from stdin; copy u from stdin")]);
    for _ in 0..2 {
        rig.server(&[copy_response(tag::COPY_IN_RESPONSE)]);
        rig.client(&[copy_data("a"), copy_done()]);
        rig.server(&[complete("COPY 1")]);
        assert!(!rig.is_at_rest());
    }
    rig.server(&[ready(b'I')]);
    assert!(rig.is_at_rest());
}

#[test]
fn a_sync_before_the_copy_is_known_is_not_answered() {
    let mut rig = Rig::new();
    rig.client(&[parse("", "copy t from stdin"), bind("", ""), execute(""), sync()]);
    rig.server(&[
        bare(PARSE_COMPLETE),
        bare(BIND_COMPLETE),
        copy_response(tag::COPY_IN_RESPONSE),
    ]);
    rig.client(&[copy_data("a"), copy_done(), sync()]);
    assert_eq!(
        rig.server(&[complete("COPY 1"), ready(b'I')]),
        ["Complete COPY 1", "Ready I"]
    );
    assert!(rig.is_at_rest());
    assert_eq!(rig.server.hygiene, Hygiene::Clean);
}

#[test]
fn a_sync_in_the_middle_of_a_copy_is_not_answered() {
    let mut rig = Rig::new();
    rig.client(&[parse("", "copy t from stdin"), bind("", ""), execute(""), flush()]);
    rig.server(&[
        bare(PARSE_COMPLETE),
        bare(BIND_COMPLETE),
        copy_response(tag::COPY_IN_RESPONSE),
    ]);
    assert_eq!(
        rig.client(&[sync(), copy_data("a"), copy_done(), sync()]).len(),
        4
    );
    rig.server(&[complete("COPY 1"), ready(b'I')]);
    assert!(rig.is_at_rest());
    assert_eq!(rig.server.hygiene, Hygiene::Clean);
}

#[test]
fn everything_sent_ahead_with_two_syncs() {
    let mut rig = Rig::new();
    rig.client(&[parse("", "copy t from stdin"), bind("", ""), execute(""), sync()]);
    rig.client(&[copy_data("a"), copy_done(), sync()]);
    rig.server(&[
        bare(PARSE_COMPLETE),
        bare(BIND_COMPLETE),
        copy_response(tag::COPY_IN_RESPONSE),
    ]);
    rig.server(&[complete("COPY 1")]);
    assert!(!rig.is_at_rest());
    rig.server(&[ready(b'I')]);
    assert!(rig.is_at_rest());
}

#[test]
fn a_copy_that_never_begins_leaves_both_syncs_their_answers() {
    let mut rig = Rig::new();
    rig.client(&[parse("", "copy t from stdin"), bind("", ""), execute(""), sync()]);
    rig.client(&[copy_data("a"), copy_done(), sync()]);
    rig.server(&[
        bare(PARSE_COMPLETE),
        bare(BIND_COMPLETE),
        error("42501", "denied"),
        ready(b'I'),
    ]);
    assert!(!rig.is_at_rest());
    rig.server(&[ready(b'I')]);
    assert!(rig.is_at_rest());
}

#[test]
fn a_copy_that_the_client_fails() {
    let mut rig = Rig::new();
    rig.client(&[query("copy t from stdin")]);
    rig.server(&[copy_response(tag::COPY_IN_RESPONSE)]);
    rig.client(&[copy_data("a"), copy_fail("no more")]);
    rig.server(&[error("57014", "COPY from stdin failed: no more"), ready(b'I')]);
    assert!(rig.is_at_rest());

    rig.client(&[parse("", "copy t from stdin"), bind("", ""), execute(""), flush()]);
    rig.server(&[
        bare(PARSE_COMPLETE),
        bare(BIND_COMPLETE),
        copy_response(tag::COPY_IN_RESPONSE),
    ]);
    rig.client(&[copy_fail("no more"), sync()]);
    rig.server(&[error("57014", "COPY from stdin failed: no more"), ready(b'I')]);
    assert!(rig.is_at_rest());
}

#[test]
fn a_copy_that_the_server_fails_while_the_client_goes_on() {
    let mut rig = Rig::new();
    rig.client(&[query("copy t from stdin")]);
    rig.server(&[copy_response(tag::COPY_IN_RESPONSE)]);
    rig.client(&[copy_data("a")]);
    rig.server(&[error("22P04", "missing data")]);
    assert_eq!(rig.client(&[copy_data("b"), copy_done()]).len(), 2);
    rig.server(&[ready(b'I')]);
    assert!(rig.is_at_rest());
    // What the client sends before it has read the error harms nobody.
    assert_eq!(
        rig.client(&[copy_data("c"), copy_done(), query("select 1")])
            .len(),
        3
    );
    rig.server(&[complete("SELECT 1"), ready(b'I')]);
    assert!(rig.is_at_rest());
}

#[test]
fn an_extended_copy_that_the_server_fails() {
    let mut rig = Rig::new();
    rig.client(&[parse("", "copy t from stdin"), bind("", ""), execute(""), flush()]);
    rig.server(&[
        bare(PARSE_COMPLETE),
        bare(BIND_COMPLETE),
        copy_response(tag::COPY_IN_RESPONSE),
    ]);
    rig.client(&[copy_data("a")]);
    rig.server(&[error("22P04", "missing data")]);
    assert!(!rig.is_at_rest());
    rig.client(&[copy_data("b"), copy_done(), sync()]);
    rig.server(&[ready(b'I')]);
    assert!(rig.is_at_rest());
    assert_eq!(rig.server.hygiene, Hygiene::Clean);
}

#[test]
fn a_failed_copy_with_an_early_sync_ends_well_either_way_but_the_connection_is_not_reused() {
    for is_sync_answered_early in [false, true] {
        let mut rig = Rig::new();
        rig.client(&[parse("", "copy t from stdin"), bind("", ""), execute(""), sync()]);
        rig.server(&[
            bare(PARSE_COMPLETE),
            bare(BIND_COMPLETE),
            copy_response(tag::COPY_IN_RESPONSE),
        ]);
        rig.server(&[error("P0001", "raised by a trigger")]);
        assert_eq!(rig.server.hygiene, Hygiene::Unfit);
        if !is_sync_answered_early {
            rig.client(&[copy_done(), sync()]);
        }
        assert_eq!(rig.server(&[ready(b'I')]), ["Ready I"]);
        assert!(rig.is_at_rest());
    }
}

#[test]
fn a_copy_out_passes() {
    let mut rig = Rig::new();
    rig.client(&[query("copy t to stdout")]);
    let answer = [
        copy_response(tag::COPY_OUT_RESPONSE),
        copy_data("a"),
        copy_done(),
        complete("COPY 1"),
        ready(b'I'),
    ];
    assert_eq!(
        rig.server(&answer),
        ["CopyOut", "CopyData a", "CopyDone", "Complete COPY 1", "Ready I"]
    );
    assert!(rig.is_at_rest());
    rig.client(&[parse("", "copy t to stdout"), bind("", ""), execute(""), sync()]);
    rig.server(&[bare(PARSE_COMPLETE), bare(BIND_COMPLETE)]);
    assert_eq!(rig.server(&answer).len(), 5);
    assert!(rig.is_at_rest());
}

#[test]
fn a_copy_both_passes_both_ways_until_both_have_ended() {
    let mut rig = Rig::new();
    rig.client(&[query("START_REPLICATION 0/0")]);
    rig.server(&[copy_response(tag::COPY_BOTH_RESPONSE), copy_data("wal")]);
    assert_eq!(rig.flow.attention(&rig.server), Attention::Both);
    assert_eq!(rig.client(&[copy_data("status")]), ["CopyData status"]);
    rig.client(&[copy_done()]);
    assert!(!rig.is_at_rest());
    rig.server(&[copy_done(), complete("COPY 0")]);
    rig.server(&[complete("START_STREAMING"), ready(b'I')]);
    assert!(rig.is_at_rest());
}

#[test]
fn the_end_of_a_copy_that_nobody_makes_is_passed_over() {
    let mut rig = Rig::new();
    rig.client(&[
        parse("", "select 1"),
        copy_done(),
        bind("", ""),
        execute(""),
        sync(),
    ]);
    rig.server(&[
        bare(PARSE_COMPLETE),
        bare(BIND_COMPLETE),
        complete("SELECT 1"),
        ready(b'I'),
    ]);
    assert!(rig.is_at_rest());
    rig.client(&[query("select 1"), copy_done(), query("select 2")]);
    rig.server(&[
        complete("SELECT 1"),
        ready(b'I'),
        complete("SELECT 1"),
        ready(b'I'),
    ]);
    assert!(rig.is_at_rest());
}
