//! Nobody is told another client's values of sequences.

use super::rig::Rig;
use super::tag::*;
use super::wire::*;
use crate::session::screen::PinReason;
use crate::session::server::{Memory, SequenceUse};

/// With names that no client has.
const DISCARDED: [&str; 6] = [
    "Close Spgweir_aside",
    "Parse pgweir_aside: DISCARD SEQUENCES",
    "Bind pgweir_sql pgweir_aside",
    "Execute pgweir_sql",
    "Close Ppgweir_sql",
    "Close Spgweir_aside",
];

#[test]
fn a_query_waits_until_the_values_of_others_are_discarded() {
    let mut rig = Rig::new();
    let sent = rig.client(&[query("SELECT lastval()")]);
    assert_eq!(sent, ["Query DISCARD SEQUENCES"]);
    assert!(rig.flow.is_held());
    assert_eq!(rig.server(&[complete("DISCARD SEQUENCES"), ready(b'I')]), [""; 0]);
    assert_eq!(rig.server.sequences.memory, Memory::Own);
    assert_eq!(rig.client(&[]), ["Query SELECT lastval()"]);
    rig.server(&[complete("SELECT 1"), ready(b'I')]);
    // What is remembered from now on is the client's own.
    assert_eq!(
        rig.client(&[query("SELECT lastval()")]),
        ["Query SELECT lastval()"]
    );
}

#[test]
fn a_query_is_refused_if_they_cannot_be_discarded() {
    let mut rig = Rig::new();
    rig.client(&[query("SELECT currval('s')")]);
    assert_eq!(rig.server(&[error("57014", "canceling"), ready(b'I')]), [""; 0]);
    assert_eq!(rig.client(&[]), ["Query EXECUTE pgweir_none"]);
    let told = rig.server(&[error("26000", "does not exist"), ready(b'I')]);
    assert_eq!(told, ["ERROR 57014: canceling", "Ready I"]);
    assert_eq!(
        rig.client(&[query("SELECT currval('s')")]),
        ["Query DISCARD SEQUENCES"]
    );
}

#[test]
fn in_a_batch_they_are_discarded_once_and_again_if_that_has_failed() {
    let mut rig = Rig::new();
    rig.server.sequences.usage = SequenceUse::Read;
    let batch = [
        parse("", "SELECT nextval('s')"),
        bind("", ""),
        parse("", "SELECT lastval()"),
        bind("", ""),
        sync(),
    ];
    let sent = rig.client(&batch);
    assert_eq!(sent[1..7], DISCARDED);
    let again = sent.iter().filter(|line| line.contains("DISCARD")).count();
    assert_eq!(again, 1);
    // The next batch waits for it: this one may fail before.
    assert_eq!(
        rig.client(&[parse("", "SELECT lastval()"), bind("", "")]),
        ["Parse : SELECT lastval()"]
    );
    assert!(rig.flow.is_held());
    rig.server(&[bare(PARSE_COMPLETE), error("57014", "canceling"), ready(b'I')]);
    assert_eq!(rig.client(&[sync()])[..6], DISCARDED);
}

#[test]
fn what_is_executed_by_name_counts() {
    let mut rig = Rig::new();
    rig.server.sequences.memory = Memory::Own;
    rig.client(&[query("PREPARE a AS SELECT lastval()")]);
    rig.server(&[complete("PREPARE"), ready(b'I')]);
    rig.server.sequences.memory = Memory::Foreign;
    assert_eq!(rig.client(&[query("EXECUTE a")]), ["Query DISCARD SEQUENCES"]);
    rig.server(&[complete("DISCARD SEQUENCES"), ready(b'I')]);
    assert_eq!(rig.client(&[]), ["Query EXECUTE pgweir_2"]);
    rig.server(&[complete("SELECT 1"), ready(b'I')]);
    rig.server.sequences.memory = Memory::Foreign;
    let sent = rig.client(&[parse("b", "EXECUTE a"), bind("", "b"), sync()]);
    assert_eq!(sent[1..7], DISCARDED);
}

#[test]
fn whoever_takes_a_value_keeps_the_connection_once_somebody_has_asked() {
    let mut rig = Rig::new();
    rig.client(&[query("INSERT INTO t VALUES (1)")]);
    rig.server(&[complete("INSERT 0 1"), ready(b'I')]);
    assert_eq!(rig.client.pinned(), None);
    rig.server.sequences.usage = SequenceUse::Read;
    rig.server.sequences.memory = Memory::Foreign;
    rig.client(&[query("INSERT INTO t VALUES (1)")]);
    rig.server(&[complete("DISCARD SEQUENCES"), ready(b'I')]);
    assert_eq!(rig.client(&[]), ["Query INSERT INTO t VALUES (1)"]);
    assert_eq!(rig.client.pinned(), Some(PinReason::Sequence));
}
