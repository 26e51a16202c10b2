//! What the server is given to read, so that its own words come first.

use super::rig::Rig;
use super::sql::prepared;
use super::tag::*;
use super::wire::*;

#[test]
fn what_is_wrong_with_a_statement_is_told_before_its_name_is_taken() {
    let mut rig = prepared();
    rig.client(&[query("PREPARE a AS SELECT b")]);
    let mut wrong = error("42703", "column \"b\" does not exist");
    let position = b"P0000028\0";
    wrong.splice(wrong.len() - 1..wrong.len() - 1, position.iter().copied());
    let len = u32::try_from(wrong.len() - 1).unwrap();
    wrong[1..5].copy_from_slice(&len.to_be_bytes());
    let answer = [bare(PARSE_COMPLETE), bare(BIND_COMPLETE), wrong, ready(b'I')];
    let got = rig.server_bytes(&answer.concat()).unwrap();
    // In the client's text the name is seven bytes shorter.
    assert!(got.windows(4).any(|window| window == b"P21\0"), "{got:?}");
    assert!(rig.is_at_rest());
    assert_eq!(rig.server.statements.len(), 1);
}

#[test]
fn a_name_that_is_cut_is_read_by_the_server_for_its_notice() {
    let mut rig = Rig::new();
    let name = "a".repeat(64);
    let text = format!("PREPARE {name} AS SELECT 1");
    let sent = rig.client(&[query(&text)]);
    assert_eq!(sent[1], format!("Parse pgweir_aside: ROLLBACK TO {name}"));
    assert_eq!(sent[3..], ["Sync", "Query PREPARE pgweir_2 AS SELECT 1"]);
    let notice = message(NOTICE_RESPONSE, b"SNOTICE\0\0");
    let answer = [
        bare(CLOSE_COMPLETE),
        notice.clone(),
        bare(PARSE_COMPLETE),
        bare(CLOSE_COMPLETE),
        ready(b'I'),
        complete("PREPARE"),
        ready(b'I'),
    ];
    let got = rig.server_bytes(&answer.concat()).unwrap();
    assert_eq!(got, [notice, complete("PREPARE"), ready(b'I')].concat());
    assert!(rig.is_at_rest());
}
