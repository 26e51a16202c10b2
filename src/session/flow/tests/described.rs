//! Statements whose rows a client was told of.

use super::names::prepared;
use super::rig::{self, Rig};
use super::tag::*;
use super::wire::*;
use crate::session::ClientSession;

/// Of a statement with parameters of these types.
fn parameters(types: &[u8]) -> Vec<u8> {
    let count = u8::try_from(types.len()).unwrap();
    let types = types.iter().flat_map(|kind| [0, 0, 0, *kind]);
    let body: Vec<u8> = [0, count].into_iter().chain(types).collect();
    message(PARAMETER_DESCRIPTION, &body)
}

/// Of one column of this type.
fn column(kind: u32) -> Vec<u8> {
    let rest = [&[0; 6][..], &kind.to_be_bytes(), &[0; 8]].concat();
    message(ROW_DESCRIPTION, &[&[0, 1][..], b"a\0", &rest].concat())
}

fn use_it(name: &str) -> [Vec<u8>; 3] {
    [bind("", name), execute(""), sync()]
}

fn done() -> [Vec<u8>; 3] {
    [bare(BIND_COMPLETE), complete("UPDATE 1"), ready(b'I')]
}

/// A client that was told what the rows of its `a` are.
fn told() -> Rig {
    let mut rig = prepared();
    rig.client(&[describe_statement("a"), sync()]);
    let got = rig.server(&[parameters(&[]), column(23), ready(b'I')]);
    assert_eq!(got[1..], ["RowDescription", "Ready I"]);
    rig
}

/// It comes to another connection.
fn elsewhere(rig: &mut Rig) {
    let (mut nobody, mut elsewhere) = (ClientSession::default(), rig::server(2));
    std::mem::swap(&mut nobody, &mut rig.client);
    rig.swap(&mut nobody, &mut elsewhere);
}

/// Its use of `a` waits for what the rows are there.
fn ask(rig: &mut Rig) {
    let asked = ["Parse pgweir_2: select a", "Describe Spgweir_2", "Flush"];
    assert_eq!(rig.client(&use_it("a")), asked);
    assert!(rig.flow.is_held());
}

fn answer(rig: &mut Rig, kind: u32) {
    let answers = [bare(PARSE_COMPLETE), parameters(&[]), column(kind)];
    assert!(rig.server(&answers).is_empty());
}

#[test]
fn a_statement_that_is_where_it_was_described_is_used_as_it_is() {
    let mut rig = told();
    assert_eq!(rig.client(&use_it("a")), ["Bind  pgweir_2", "Execute ", "Sync"]);
}

#[test]
fn a_statement_prepared_anew_is_used_when_its_rows_are_what_they_were_and_not_asked_about_again() {
    let mut rig = told();
    elsewhere(&mut rig);
    ask(&mut rig);
    answer(&mut rig, 23);
    let sent = ["Bind  pgweir_2", "Execute ", "Sync"];
    assert_eq!(rig.client(&[]), sent);
    assert_eq!(rig.server(&done())[1..], ["Complete UPDATE 1", "Ready I"]);
    assert_eq!(rig.client(&use_it("a")), sent);
}

#[test]
fn a_statement_whose_rows_have_become_others_is_not_carried_out_until_it_is_prepared_again() {
    let mut rig = told();
    elsewhere(&mut rig);
    ask(&mut rig);
    answer(&mut rig, 25);
    // What stands behind it is skipped.
    assert_eq!(
        rig.client(&[]),
        ["Describe Spgweir_none", "Bind  a", "Execute ", "Sync"]
    );
    assert!(rig.flow.take_altered(), "somebody else has altered the table");
    let got = rig.server(&[error("26000", "does not exist"), ready(b'I')]);
    assert_eq!(
        got,
        ["ERROR 0A000: cached plan must not change result type", "Ready I"]
    );
    // The table may be what it was by now.
    let sent = rig.client(&use_it("a"));
    let asked = [
        "Close Spgweir_2",
        "Parse pgweir_2: select a",
        "Describe Spgweir_2",
        "Flush",
    ];
    assert_eq!(sent, asked);
    rig.server(&[bare(CLOSE_COMPLETE)]);
    answer(&mut rig, 23);
    assert_eq!(rig.client(&[])[0], "Bind  pgweir_2");
    rig.server(&done());
    rig.client(&[close_statement("a"), parse("a", "select a"), sync()]);
    rig.server(&[ready(b'I')]);
    assert_eq!(rig.client(&use_it("a"))[0], "Bind  pgweir_2");
}

#[test]
fn a_client_that_has_not_asked_is_not_told_that_rows_have_become_others() {
    let mut rig = told();
    elsewhere(&mut rig);
    assert_eq!(
        rig.client(&use_it("b")),
        ["Parse pgweir_3: select b", "Bind  pgweir_3", "Execute ", "Sync"]
    );
}

#[test]
fn what_another_client_has_prepared_without_asking_is_prepared_anew_and_compared() {
    let mut rig = told();
    let mut other = ClientSession::default();
    let mut there = rig::server(2);
    rig.swap(&mut other, &mut there);
    rig.client(&[parse("x", "select a"), sync()]);
    rig.server(&[bare(PARSE_COMPLETE), ready(b'I')]);
    let mut here = rig::server(3);
    std::mem::swap(&mut here, &mut rig.server);
    rig.swap(&mut other, &mut here);
    assert_eq!(
        rig.client(&use_it("a"))[..2],
        ["Close Spgweir_2", "Parse pgweir_2: select a"]
    );
    rig.server(&[bare(CLOSE_COMPLETE)]);
    answer(&mut rig, 25);
    assert_eq!(rig.client(&[])[0], "Describe Spgweir_none");
}

#[test]
fn an_error_of_an_earlier_batch_does_not_answer_what_was_asked() {
    let mut rig = told();
    elsewhere(&mut rig);
    rig.client(&[query("select 1 / 0")]);
    ask(&mut rig);
    rig.server(&[error("22012", "division by zero"), ready(b'I')]);
    assert!(rig.client(&[]).is_empty() && rig.flow.is_held());
    answer(&mut rig, 25);
    assert_eq!(rig.client(&[])[0], "Describe Spgweir_none");
}

#[test]
fn an_error_of_the_statement_itself_is_its_clients() {
    let mut rig = told();
    elsewhere(&mut rig);
    ask(&mut rig);
    assert_eq!(
        rig.server(&[error("42P01", "no table")]),
        ["ERROR 42P01: no table"]
    );
    assert_eq!(rig.client(&[]), ["Bind  a", "Execute ", "Sync"]);
    assert_eq!(rig.server(&[ready(b'I')]), ["Ready I"]);
    ask(&mut rig);
}

#[test]
fn the_unnamed_statement_is_compared_too() {
    let mut rig = Rig::new();
    rig.client(&[parse("", "select a"), describe_statement(""), sync()]);
    let answers = [bare(PARSE_COMPLETE), parameters(&[]), column(23), ready(b'I')];
    rig.server(&answers);
    let sent = ["Bind  ", "Execute ", "Sync"];
    assert_eq!(rig.client(&use_it("")), sent);
    rig.server(&done());
    elsewhere(&mut rig);
    assert_eq!(
        rig.client(&use_it("")),
        ["Parse : select a", "Describe S", "Flush"]
    );
    answer(&mut rig, 25);
    assert_eq!(rig.client(&[])[0], "Describe Spgweir_none");
    rig.server(&[error("26000", "does not exist"), ready(b'I')]);
    rig.client(&[parse("", "select a"), sync()]);
    rig.server(&[bare(PARSE_COMPLETE), ready(b'I')]);
    assert_eq!(rig.client(&use_it("")), sent);
}

#[test]
fn a_description_is_read_however_it_is_cut_and_whatever_name_is_given_up_meanwhile() {
    let mut rig = prepared();
    let answers = [parameters(&[]), column(23)].concat();
    for cut in 0..answers.len() {
        rig.client(&[parse("c", "select c"), parse("d", "select d"), sync()]);
        let parsed = [bare(PARSE_COMPLETE), bare(PARSE_COMPLETE), ready(b'I')];
        rig.server(if cut == 0 { &parsed } else { &parsed[2..] });
        // The last name takes the place of the one that goes.
        rig.client(&[describe_statement("d"), close_statement("c"), sync()]);
        let first = rig.server_bytes(&answers[..cut]).unwrap();
        let rest = rig.server_bytes(&answers[cut..]).unwrap();
        assert!([first, rest].concat().starts_with(&answers), "cut at {cut}");
        rig.server(&[ready(b'I')]);
        let known = rig.client.statements.named(b"d").unwrap();
        assert!(known.told.is_some(), "cut at {cut}");
        rig.client(&[close_statement("d"), sync()]);
        rig.server(&[ready(b'I')]);
    }
}

#[test]
fn what_was_prepared_anew_behind_a_description_is_not_told() {
    let mut rig = prepared();
    let again = [
        describe_statement("a"),
        close_statement("a"),
        parse("a", "select a"),
        sync(),
    ];
    rig.client(&again);
    rig.server(&[parameters(&[]), column(23), ready(b'I')]);
    assert!(rig.client.statements.named(b"a").unwrap().told.is_none());
}

/// A client that was told that the parameter of its `a` is of this type comes to another connection.
fn told_of_a_parameter(kind: u8) -> Rig {
    let mut rig = prepared();
    rig.client(&[describe_statement("a"), sync()]);
    rig.server(&[parameters(&[kind]), column(23), ready(b'I')]);
    elsewhere(&mut rig);
    rig
}

const NAMED_ANEW: [&str; 4] = [
    "Close Spgweir_2",
    "Parse pgweir_2: select a",
    "Describe Spgweir_2",
    "Flush",
];

#[test]
fn a_statement_whose_parameters_have_become_others_is_prepared_with_the_types_its_client_was_told() {
    let mut rig = told_of_a_parameter(23);
    ask(&mut rig);
    rig.server(&[bare(PARSE_COMPLETE), parameters(&[20]), column(23)]);
    let sent = rig.client_bytes(&[]).unwrap();
    assert!(rig.flow.is_held());
    let parse = b"pgweir_2\0select a\0\0\x01\0\0\0\x17";
    let found = sent.windows(parse.len()).any(|part| part == parse);
    assert!(found, "{}", sent.escape_ascii());
    assert!(
        rig.flow.take_altered(),
        "who prepares it from now on gets the new types"
    );
    rig.server(&[
        bare(CLOSE_COMPLETE),
        bare(PARSE_COMPLETE),
        parameters(&[23]),
        column(23),
    ]);
    assert_eq!(rig.client(&[]), ["Bind  pgweir_2", "Execute ", "Sync"]);
    rig.server(&done());
    assert_eq!(rig.client(&use_it("a")), ["Bind  pgweir_2", "Execute ", "Sync"]);
}

#[test]
fn rows_that_have_become_others_with_the_parameters_are_refused() {
    let mut rig = told_of_a_parameter(23);
    ask(&mut rig);
    rig.server(&[bare(PARSE_COMPLETE), parameters(&[20]), column(20)]);
    assert_eq!(rig.client(&[]), NAMED_ANEW);
    rig.server(&[
        bare(CLOSE_COMPLETE),
        bare(PARSE_COMPLETE),
        parameters(&[23]),
        column(20),
    ]);
    assert_eq!(rig.client(&[])[0], "Describe Spgweir_none");
}

#[test]
fn a_server_that_does_not_keep_to_the_types_is_asked_twice_and_no_more() {
    let mut rig = told_of_a_parameter(23);
    ask(&mut rig);
    rig.server(&[bare(PARSE_COMPLETE), parameters(&[20]), column(23)]);
    assert_eq!(rig.client(&[]), NAMED_ANEW);
    rig.server(&[
        bare(CLOSE_COMPLETE),
        bare(PARSE_COMPLETE),
        parameters(&[20]),
        column(23),
    ]);
    assert_eq!(rig.client(&[])[0], "Describe Spgweir_none");
}

#[test]
fn a_type_that_is_gone_is_an_error_of_the_server_and_makes_other_statements() {
    let mut rig = told_of_a_parameter(23);
    ask(&mut rig);
    rig.server(&[bare(PARSE_COMPLETE), parameters(&[20]), column(23)]);
    assert_eq!(rig.client(&[]), NAMED_ANEW);
    assert!(rig.flow.take_altered());
    let lost = error("XX000", "cache lookup failed for type 16401");
    assert_eq!(
        rig.server(&[bare(CLOSE_COMPLETE), lost]),
        ["ERROR XX000: cache lookup failed for type 16401"]
    );
    assert!(rig.flow.take_altered());
    assert_eq!(rig.client(&[]), ["Bind  a", "Execute ", "Sync"]);
    assert_eq!(rig.server(&[ready(b'I')]), ["Ready I"]);
    // From the beginning.
    ask(&mut rig);
}

#[test]
fn each_of_several_statements_in_a_batch_gets_its_types() {
    let mut rig = told();
    rig.client(&[describe_statement("a"), describe_statement("b"), sync()]);
    let described = [parameters(&[23]), column(23)].concat();
    rig.server(&[described.clone(), described.clone(), ready(b'I')]);
    elsewhere(&mut rig);
    let batch = [bind("", "a"), execute(""), bind("", "b"), execute(""), sync()];
    let found = [bare(PARSE_COMPLETE), parameters(&[20]), column(23)];
    let anew = [bare(CLOSE_COMPLETE), bare(PARSE_COMPLETE), described];
    assert_eq!(rig.client(&batch)[0], "Parse pgweir_2: select a");
    rig.server(&found);
    assert_eq!(rig.client(&[]), NAMED_ANEW);
    rig.server(&anew);
    let next = [
        "Bind  pgweir_2",
        "Execute ",
        "Parse pgweir_3: select b",
        "Describe Spgweir_3",
        "Flush",
    ];
    assert_eq!(rig.client(&[]), next);
    rig.server(&[bare(BIND_COMPLETE), complete("UPDATE 1")]);
    rig.server(&found);
    assert_eq!(rig.client(&[])[0], "Close Spgweir_3");
    rig.server(&anew);
    assert_eq!(rig.client(&[]), ["Bind  pgweir_3", "Execute ", "Sync"]);
}
