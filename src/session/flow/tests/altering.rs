//! Tables that are altered, and errors that PostgreSQL raises where a `Parse` is not needed.

use super::names::{prepare, prepared};
use super::tag::*;
use super::wire::*;

#[test]
fn a_text_prepared_since_tables_were_altered_is_another_statement() {
    let mut rig = prepared();
    rig.client(&[query("alter table t add b int")]);
    rig.server(&[complete("ALTER TABLE"), ready(b'I')]);
    assert!(rig.flow.take_altered() && !rig.flow.take_altered());
    rig.server.schema += 1;
    assert_eq!(
        rig.client(&[parse("c", "select a"), sync()])[0],
        "Parse pgweir_4: select a"
    );
    rig.server(&[bare(PARSE_COMPLETE), ready(b'I')]);
    // Who has prepared it before has the old plan.
    assert_eq!(rig.client(&[bind("", "a"), sync()])[0], "Bind  pgweir_2");
}

#[test]
fn a_plan_out_of_date_by_somebody_elses_doing_is_not_given_to_those_who_prepare_anew() {
    let mut rig = prepared();
    rig.client(&[bind("", "a"), sync()]);
    let fields = "SERROR\0VERROR\0C0A000\0Mcached plan\0RRevalidateCachedQuery\0\0";
    let got = rig.server(&[message(ERROR_RESPONSE, fields.as_bytes()), ready(b'I')]);
    assert_eq!(got[0], "ERROR 0A000: cached plan");
    assert!(rig.flow.take_altered());
    // As on a direct connection, until it is prepared again.
    assert_eq!(rig.client(&[bind("", "a"), sync()])[0], "Bind  pgweir_2");
}

#[test]
fn what_is_prepared_behind_an_alteration_is_its_clients_alone_until_it_is_answered() {
    let mut rig = prepared();
    let sent = rig.client(&[query("drop table t"), parse("c", "select a"), sync()]);
    assert_eq!(sent[1], "Parse pgweir_4: select a");
    rig.server(&[complete("DROP TABLE"), ready(b'I')]);
    rig.server(&[bare(PARSE_COMPLETE), ready(b'I')]);
    assert!(rig.flow.take_altered());
    assert_eq!(rig.client(&[parse("d", "select a"), sync()]), ["Sync"]);
}

#[test]
fn an_alteration_that_is_committed_later_counts_again() {
    let mut rig = prepared();
    rig.client(&[query("begin; create table t (a int)")]);
    rig.server(&[complete("BEGIN"), complete("CREATE TABLE"), ready(b'T')]);
    assert!(rig.flow.take_altered());
    rig.client(&[query("rollback")]);
    rig.server(&[complete("ROLLBACK"), ready(b'I')]);
    assert!(rig.flow.take_altered());
    rig.client(&[query("select 1")]);
    rig.server(&[row_description(), row("1"), complete("SELECT 1"), ready(b'I')]);
    assert!(!rig.flow.take_altered());
}

#[test]
fn a_temporary_table_concerns_nobody_else() {
    let mut rig = prepared();
    rig.client(&[query("create temp table t (a int)")]);
    rig.server(&[complete("CREATE TABLE"), ready(b'I')]);
    assert!(!rig.flow.take_altered());
}

#[test]
fn a_text_that_the_server_has_is_parsed_all_the_same_in_a_block_that_may_have_failed() {
    let expected = ["Close Spgweir_2", "Parse pgweir_2: select a", "Sync"];
    let mut rig = prepared();
    rig.client(&[query("begin; select 1/0")]);
    rig.server(&[complete("BEGIN"), error("22012", "division"), ready(b'E')]);
    assert_eq!(rig.client(&[parse("c", "select a"), sync()]), expected);
    let refused = error("25P02", "aborted");
    let got = rig.server(&[bare(CLOSE_COMPLETE), refused, ready(b'E')]);
    assert_eq!(got, ["ERROR 25P02: aborted", "Ready E"]);
    // It is gone from the server, and comes back where it is needed.
    let sent = rig.client(&[bind("", "a"), sync()]);
    assert_eq!(sent[..2], ["Parse pgweir_2: select a", "Bind  pgweir_2"]);

    let mut rig = prepared();
    let sent = rig.client(&[bind("", "b"), sync(), parse("c", "select a"), sync()]);
    assert_eq!(sent[2..], expected);
}

#[test]
fn the_servers_own_error_comes_before_the_one_of_a_name_taken() {
    for (code, text) in [("42601", "syntax"), ("25P02", "aborted")] {
        let mut rig = prepared();
        rig.client(&[parse("a", "selekt"), sync()]);
        let got = rig.server(&[error(code, text), ready(b'I')]);
        assert_eq!(got, [format!("ERROR {code}: {text}"), "Ready I".to_owned()]);
        assert_eq!(rig.client(&[bind("", "a"), sync()])[0], "Bind  pgweir_2");
    }
}

#[test]
fn an_error_names_a_statement_as_its_client_does() {
    let mut rig = prepared();
    prepare(&mut rig, "mine", "select $1");
    rig.client(&[bind("", "mine"), sync()]);
    let said = |name: &str| {
        format!("bind message supplies 0 parameters, but prepared statement \"{name}\" requires 1")
    };
    let got = rig.server(&[error("08P01", &said("pgweir_4")), ready(b'I')]);
    assert_eq!(
        got,
        [format!("ERROR 08P01: {}", said("mine")), "Ready I".to_owned()]
    );
}

#[test]
fn a_simple_select_that_shows_no_rows_has_filled_a_table() {
    let mut rig = prepared();
    rig.client(&[query("select 1 as a into t")]);
    rig.server(&[complete("SELECT 1"), ready(b'I')]);
    assert!(rig.flow.take_altered());
    rig.client(&[query("select 1; select 2")]);
    let rows = [row_description(), row("1"), complete("SELECT 1")].concat();
    rig.server(&[rows.clone(), rows.clone(), ready(b'I')]);
    rig.client(&[bind("", "a"), execute(""), sync()]);
    rig.server(&[bare(BIND_COMPLETE), row("1"), complete("SELECT 1"), ready(b'I')]);
    assert!(!rig.flow.take_altered());
    rig.client(&[query("select 1; select 2 into t")]);
    rig.server(&[rows, complete("SELECT 1"), ready(b'I')]);
    assert!(rig.flow.take_altered());
    rig.client(&[query("select 1 into temp t")]);
    rig.server(&[complete("SELECT 1"), ready(b'I')]);
    assert!(!rig.flow.take_altered());
}
