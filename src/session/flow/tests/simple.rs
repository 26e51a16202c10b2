//! Simple queries, function calls, settings, and what nobody should send.

use super::super::{Attention, Naming};
use super::rig::Rig;
use super::tag;
use super::wire::*;
use crate::session::inquiry::Findings;
use crate::session::screen::PinReason;
use crate::session::{Hygiene, SessionError, settings};

#[test]
fn a_query_and_its_answer_pass_as_they_come() {
    let mut rig = Rig::new();
    assert_eq!(rig.client(&[query("select 1")]), ["Query select 1"]);
    assert!(!rig.is_at_rest());
    assert_eq!(rig.flow.attention(&rig.server), Attention::Server);
    let answer = [row_description(), row("1"), complete("SELECT 1"), ready(b'I')];
    assert_eq!(
        rig.server(&answer),
        ["RowDescription", "Row 1", "Complete SELECT 1", "Ready I"]
    );
    assert!(rig.is_at_rest());
    assert_eq!((rig.flow.tally.queries, rig.flow.tally.transactions), (1, 1));
    assert_eq!(rig.rest().server(), 1);
}

#[test]
fn a_block_is_not_at_rest_before_it_ends() {
    let mut rig = Rig::new();
    rig.client(&[query("begin")]);
    rig.server(&[complete("BEGIN"), ready(b'T')]);
    assert!(!rig.is_at_rest());
    assert_eq!(rig.flow.attention(&rig.server), Attention::Both);
    rig.client(&[query("x")]);
    assert_eq!(
        rig.server(&[error("42601", "syntax"), ready(b'E')]),
        ["ERROR 42601: syntax", "Ready E"]
    );
    assert!(!rig.is_at_rest());
    rig.client(&[query("rollback")]);
    rig.server(&[complete("ROLLBACK"), ready(b'I')]);
    assert!(rig.is_at_rest());
}

#[test]
fn rest_is_refused_while_something_is_in_flight() {
    let mut rig = Rig::new();
    rig.client(&[query("select 1"), query("select 2")]);
    rig.server(&[complete("SELECT 1"), ready(b'I')]);
    let next = super::super::Flow::new(Naming::Verbatim, &rig.server);
    let flow = std::mem::replace(&mut rig.flow, next);
    assert!(flow.into_rest(&mut rig.server).is_err());
}

#[test]
fn rest_is_refused_in_the_middle_of_a_message() {
    let mut rig = Rig::new();
    rig.client(&[query("select 1")]);
    rig.server(&[complete("SELECT 1"), ready(b'I')]);
    rig.client_bytes(&copy_data("stray, and long")[..8]).unwrap();
    assert!(!rig.is_at_rest());
    rig.client_bytes(&copy_data("stray, and long")[8..]).unwrap();
    assert!(rig.is_at_rest());
}

#[test]
fn a_function_call_is_answered_like_a_query() {
    let mut rig = Rig::new();
    rig.client(&[message(tag::FUNCTION_CALL, &[0; 10])]);
    assert!(!rig.is_at_rest());
    rig.server(&[message(tag::FUNCTION_CALL_RESPONSE, &[0; 4]), ready(b'I')]);
    assert!(rig.is_at_rest());
    rig.client(&[message(tag::FUNCTION_CALL, &[0; 10]), query("select 1")]);
    rig.server(&[error("42883", "no such function"), ready(b'I')]);
    assert!(!rig.is_at_rest());
    rig.server(&[complete("SELECT 1"), ready(b'I')]);
    assert!(rig.is_at_rest());
}

#[test]
fn goodbye_stands_behind_what_was_asked_before() {
    let mut rig = Rig::new();
    let input = [query("select 1"), message(tag::TERMINATE, b"")].concat();
    assert_eq!(rig.client_bytes(&input).unwrap(), query("select 1"));
    assert_eq!(rig.client_carry, message(tag::TERMINATE, b""));
}

#[test]
fn a_setting_that_is_reported_travels_with_the_client() {
    let mut rig = Rig::new();
    rig.client(&[query("set timezone to 'Asia/Tokyo'")]);
    let answer = [complete("SET"), parameter("TimeZone", "Asia/Tokyo"), ready(b'I')];
    assert_eq!(
        rig.server(&answer),
        ["Complete SET", "Parameter TimeZone = Asia/Tokyo", "Ready I"]
    );
    assert_eq!(rig.client.pinned(), None);
    let mut elsewhere = super::rig::server(2);
    assert_eq!(
        settings::difference(&mut rig.client, &mut elsewhere).unwrap(),
        "SELECT pg_catalog.set_config(E'TimeZone',E'Asia/Tokyo',false)"
    );
    let mut other = crate::session::ClientSession::default();
    assert_eq!(
        settings::difference(&mut other, &mut rig.server).unwrap(),
        "RESET \"TimeZone\";"
    );
}

#[test]
fn a_setting_that_is_rolled_back_does_not_travel() {
    let mut rig = Rig::new();
    rig.client(&[query("begin; set timezone to 'Asia/Tokyo'")]);
    rig.server(&[complete("SET"), parameter("TimeZone", "Asia/Tokyo"), ready(b'T')]);
    rig.client(&[query("rollback")]);
    rig.server(&[complete("ROLLBACK"), parameter("TimeZone", "UTC"), ready(b'I')]);
    assert!(rig.client.settings.is_empty());
    assert_eq!(settings::difference(&mut rig.client, &mut rig.server), None);
}

#[test]
fn a_clients_own_settings_are_applied_without_a_word_to_it() {
    let mut rig = Rig::new();
    let mut settings = crate::protocol::Parameters::new();
    settings.set("TimeZone", "utc");
    rig.client = crate::session::ClientSession::new(settings);
    let mut out = Vec::new();
    rig.flow.inject_query(
        "SELECT set_config('TimeZone', 'utc', false)",
        &mut rig.server,
        &mut out,
    );
    let answer = [
        row_description(),
        row("utc"),
        complete("SELECT 1"),
        parameter("TimeZone", "UTC"),
        ready(b'I'),
    ];
    assert!(rig.server(&answer).is_empty());
    assert!(rig.is_at_rest() && rig.flow.take_own_error().is_none());
    rig.flow
        .inject_query("SELECT set_config('x', 'y', false)", &mut rig.server, &mut out);
    assert!(
        rig.server(&[error("42704", "unrecognized"), ready(b'I')])
            .is_empty()
    );
    assert_eq!(rig.flow.take_own_error().unwrap().message, "unrecognized");
}

#[test]
fn a_value_that_nobody_has_set_is_the_servers_own_and_is_told() {
    let mut rig = Rig::new();
    let mut out = Vec::new();
    rig.flow.inject_query("UNLISTEN *", &mut rig.server, &mut out);
    let answer = [
        complete("UNLISTEN"),
        parameter("TimeZone", "Asia/Tokyo"),
        ready(b'I'),
    ];
    assert_eq!(rig.server(&answer), ["Parameter TimeZone = Asia/Tokyo"]);
    assert_eq!(rig.server.base.value("TimeZone"), Some("Asia/Tokyo"));
    assert!(rig.client.settings.is_empty());
    // Behind a request of the client's, the server is asked.
    rig.client(&[query("SELECT 1")]);
    let answer = [
        complete("SELECT 1"),
        parameter("TimeZone", "Europe/Berlin"),
        ready(b'I'),
    ];
    assert_eq!(rig.server(&answer)[1], "Parameter TimeZone = Europe/Berlin");
    let asked = rig.client.inquiry.take().unwrap().sql();
    assert!(asked.contains("current_setting(E'timezone',true)") && asked.contains("pg_settings"));
    let findings = Findings {
        values: vec![("timezone".into(), Some("Europe/Berlin".into()))],
        defaults: vec!["TimeZone".into()],
        ..Findings::default()
    };
    rig.client.on_found(&mut rig.server, &findings);
    assert!(rig.client.settings.is_empty() && rig.server.applied.is_empty());
    assert_eq!(rig.server.base.value("TimeZone"), Some("Europe/Berlin"));
    // What was said to set something is not asked for.
    rig.client(&[query("SET TimeZone = 'UTC'")]);
    rig.server(&[complete("SET"), parameter("TimeZone", "UTC"), ready(b'I')]);
    assert!(rig.client.inquiry.is_none());
}

#[test]
fn discard_all_goes_back_to_the_settings_of_the_start() {
    let mut rig = Rig::new();
    rig.client = crate::session::ClientSession::new({
        let mut startup = crate::protocol::Parameters::new();
        startup.set("TimeZone", "Asia/Tokyo");
        startup
    });
    settings::on_applied(&rig.client, &mut rig.server);
    rig.client(&[query("create temp table a (b int)")]);
    rig.server(&[complete("CREATE TABLE"), ready(b'I')]);
    assert_eq!(rig.client.pinned(), Some(PinReason::TemporaryTable));
    assert_eq!(
        rig.client(&[query("discard all")]),
        [
            "Parse : discard all",
            "Bind  ",
            "Execute ",
            "Close S",
            "Close Spgweir_aside",
            "Parse pgweir_aside: SELECT pg_catalog.set_config(E'TimeZone',E'Asia/Tokyo',false)",
            "Bind pgweir_sql pgweir_aside",
            "Execute pgweir_sql",
            "Close Ppgweir_sql",
            "Close Spgweir_aside",
            "Sync"
        ]
    );
    let mut answer = vec![
        bare(tag::PARSE_COMPLETE),
        bare(tag::BIND_COMPLETE),
        complete("DISCARD ALL"),
    ];
    answer.extend(set_aside());
    answer.push(parameter("TimeZone", "Asia/Tokyo"));
    answer.push(ready(b'I'));
    assert_eq!(
        rig.server(&answer),
        [
            "Complete DISCARD ALL",
            "Parameter TimeZone = Asia/Tokyo",
            "Ready I"
        ]
    );
    assert_eq!(rig.client.pinned(), None);
    assert_eq!(rig.client.settings.value("TimeZone"), Some("Asia/Tokyo"));
    assert_eq!(settings::difference(&mut rig.client, &mut rig.server), None);
}

#[test]
fn discard_all_does_not_undo_what_is_in_flight_behind_it() {
    let mut rig = Rig::new();
    rig.client(&[query("discard all"), query("select pg_advisory_lock(1)")]);
    rig.server(&[
        complete("DISCARD ALL"),
        ready(b'I'),
        complete("SELECT 1"),
        ready(b'I'),
    ]);
    assert_eq!(rig.client.pinned(), Some(PinReason::AdvisoryLock));
}

#[test]
fn texts_that_change_the_session_pin_in_both_protocols_and_in_both_namings() {
    for naming in [Naming::Verbatim, Naming::Mapped { max: 10 }] {
        let mut rig = Rig::with(naming);
        rig.client(&[query("listen a")]);
        assert_eq!(rig.client.pinned(), Some(PinReason::Listen));
        let mut rig = Rig::with(naming);
        rig.client(&[
            parse("", "create temp table a (b int)"),
            bind("", ""),
            execute(""),
        ]);
        assert_eq!(rig.client.pinned(), Some(PinReason::TemporaryTable));
        let mut rig = Rig::with(naming);
        rig.client(&[query("load 'a'")]);
        assert_eq!(rig.client.pinned(), None);
        rig.server(&[complete("LOAD"), ready(b'I')]);
        assert_eq!(rig.client.pinned(), Some(PinReason::Load));
    }
}

#[test]
fn a_long_query_that_is_not_seen_whole_taints_the_connection() {
    let mut rig = Rig::new();
    let long = query(&format!("select '{}'", "x".repeat(1_000_000)));
    rig.client_bytes(&long[..50_000]).unwrap();
    assert_eq!(rig.server.hygiene, Hygiene::Tainted);
    rig.client_bytes(&long[50_000..]).unwrap();
    rig.server(&[complete("SELECT 1"), ready(b'I')]);
    assert!(rig.is_at_rest());
}

#[test]
fn what_may_end_the_block_is_known_until_it_is_answered() {
    let mut rig = Rig::new();
    for (text, may) in [
        ("select 1", false),
        ("rollback", false),
        ("commit", true),
        ("select 1; select 2", true),
    ] {
        rig.client(&[query(text)]);
        assert_eq!(rig.flow.may_commit(), may, "{text}");
        rig.server(&[complete("X"), ready(b'I')]);
        assert!(!rig.flow.may_commit());
    }
    rig.client(&[parse("", "commit"), bind("", "")]);
    assert!(!rig.flow.may_commit());
    rig.client(&[execute(""), sync()]);
    assert!(rig.flow.may_commit());
}

#[test]
fn a_statement_that_was_cancelled_for_its_time_is_told_so() {
    let mut rig = Rig::new();
    rig.client(&[query("select pg_sleep(9)")]);
    rig.flow.on_statement_timeout();
    let answer = [
        error("57014", "canceling statement due to user request"),
        ready(b'I'),
    ];
    assert_eq!(
        rig.server(&answer),
        [
            "ERROR 57014: canceling statement due to statement timeout",
            "Ready I"
        ]
    );
}

#[test]
fn what_the_cancel_of_a_late_statement_hits_behind_it_is_told_so_and_nothing_else_is() {
    const BY_USER: &str = "canceling statement due to user request";
    const BY_TIME: &str = "ERROR 57014: canceling statement due to statement timeout";
    let cancelled = || error("57014", BY_USER);
    let mut rig = Rig::new();
    rig.client(&[query("select 1"), query("select 2"), query("select 3")]);
    rig.flow.on_statement_timeout();
    // The late one has ended by itself just then.
    rig.server(&[complete("SELECT 1"), ready(b'I')]);
    assert!(!rig.flow.is_timed_out());
    assert_eq!(rig.server(&[cancelled(), ready(b'I')]), [BY_TIME, "Ready I"]);
    assert_eq!(rig.server(&[cancelled(), ready(b'I')]), [BY_TIME, "Ready I"]);
    // What is sent later is cancelled by the client alone.
    rig.client(&[query("select 4")]);
    let by_user = "ERROR 57014: canceling statement due to user request";
    assert_eq!(rig.server(&[cancelled(), ready(b'I')]), [by_user, "Ready I"]);
    // Another error is what it is.
    rig.client(&[query("select 5"), query("select 6")]);
    rig.flow.on_statement_timeout();
    let answer = [error("22012", "division by zero"), ready(b'I')];
    assert_eq!(rig.server(&answer), ["ERROR 22012: division by zero", "Ready I"]);
    assert_eq!(rig.server(&[cancelled(), ready(b'I')]), [BY_TIME, "Ready I"]);
}

#[test]
fn the_last_words_of_a_server_end_the_exchange() {
    let mut rig = Rig::new();
    rig.client(&[query("select 1")]);
    assert!(rig.server(&[fatal("57P01", "terminating")]).is_empty());
    assert_eq!(rig.ending.unwrap().report().message, "terminating");
}

#[test]
fn what_a_client_may_not_send_ends_its_session() {
    for bytes in [
        &b"Q\0\0\0\x03"[..],
        b"S\0\x01\0\0",
        b"!\0\0\0\x04",
        b"p\0\0\0\x04",
        b"D\0\0\0\x05S",
        b"B\0\0\0\x06ab",
    ] {
        let mut rig = Rig::new();
        assert!(
            matches!(rig.client_bytes(bytes), Err(SessionError::Client(_))),
            "{bytes:?}"
        );
    }
}

#[test]
fn what_a_server_may_not_send_ends_its_connection() {
    let cases = [
        b"Z\0\0\0\x05I".to_vec(),
        b"D\0\0\0\x02".to_vec(),
        bare(tag::BIND_COMPLETE),
        bare(tag::PARSE_COMPLETE),
        message(b'!', b""),
        message(tag::AUTHENTICATION, &[0; 4]),
    ];
    for bytes in cases {
        let mut rig = Rig::new();
        assert!(
            matches!(rig.server_bytes(&bytes), Err(SessionError::Server(_))),
            "{bytes:?}"
        );
    }
    let mut rig = Rig::new();
    rig.client(&[query("select 1")]);
    assert!(rig.server_bytes(&ready(b'?')).is_err());
    let mut rig = Rig::new();
    rig.client(&[query("select 1")]);
    assert!(rig.server_bytes(&message(tag::READY_FOR_QUERY, b"")).is_err());
}

#[test]
fn notices_notifications_and_parameters_pass_at_any_time() {
    let mut rig = Rig::new();
    let asynchronous = [
        message(tag::NOTIFICATION_RESPONSE, b"\0\0\0\x01a\0b\0"),
        message(tag::NOTICE_RESPONSE, b"\0"),
    ];
    assert_eq!(rig.server(&asynchronous).len(), 2);
    rig.client(&[query("select 1")]);
    assert_eq!(rig.server(&asynchronous).len(), 2);
    assert!(!rig.is_at_rest());
}

#[test]
fn a_notification_ahead_of_an_answer_that_goes_nowhere_is_passed_on() {
    let mut rig = Rig::new();
    rig.client(&[parse("a", "select a"), sync()]);
    rig.server(&[bare(tag::PARSE_COMPLETE), ready(b'I')]);
    // The next server connection lacks the statement: it is prepared there without the client's knowledge.
    let mut client = std::mem::take(&mut rig.client);
    rig.swap(&mut client, &mut super::rig::server(2));
    rig.client(&[bind("", "a"), sync()]);
    let notification = message(tag::NOTIFICATION_RESPONSE, b"\0\0\0\x01a\0b\0");
    let heard = rig.server(&[
        notification,
        bare(tag::PARSE_COMPLETE),
        bare(tag::BIND_COMPLETE),
        ready(b'I'),
    ]);
    assert_eq!(heard.len(), 3, "{heard:?}");
    assert_eq!(heard[1..], ["BindComplete", "Ready I"]);
}

#[test]
fn the_settings_of_the_start_are_there_again_before_what_follows_a_reset_of_everything() {
    for (text, command) in [("select 1; reset all", "RESET"), ("discard all", "DISCARD ALL")] {
        let mut rig = starting_with("work_mem", "1MB");
        let sent = rig.client(&[query(text), query("show work_mem")]);
        assert!(!sent.iter().any(|message| message.contains("show")), "{sent:?}");
        assert!(rig.flow.is_held());
        if sent.len() == 1 {
            rig.server(&[complete("SELECT 1"), complete(command), ready(b'I')]);
            assert!(settings::difference(&mut rig.client, &mut rig.server).is_some());
        } else {
            let mut answer = vec![
                bare(tag::PARSE_COMPLETE),
                bare(tag::BIND_COMPLETE),
                complete(command),
            ];
            answer.extend(set_aside());
            answer.push(ready(b'I'));
            rig.server(&answer);
        }
        assert!(rig.is_at_rest());
    }
}

#[test]
fn a_reset_of_what_its_client_has_not_started_with_passes_as_it_comes() {
    let mut rig = starting_with("work_mem", "1MB");
    for text in [
        "reset lock_timeout",
        "reset role",
        "reset transaction isolation level",
    ] {
        assert_eq!(rig.client(&[query(text)]), [format!("Query {text}")]);
        rig.server(&[complete("RESET"), ready(b'I')]);
    }
}

#[test]
fn what_a_reset_goes_back_to_is_set_behind_each_use_of_a_statement() {
    let mut rig = starting_with("work_mem", "1MB");
    rig.client(&[parse("s", "reset work_mem"), sync()]);
    rig.server(&[bare(tag::PARSE_COMPLETE), ready(b'I')]);
    for _ in 0..2 {
        let sent = rig.client(&[bind("p", "s"), execute("p"), sync()]);
        let set = "SELECT pg_catalog.set_config(E'work_mem',E'1MB',false)";
        assert_eq!(sent[1], "Execute p");
        assert_eq!(sent[3], format!("Parse pgweir_aside: {set}"));
        let mut answer = vec![bare(tag::BIND_COMPLETE), complete("RESET")];
        answer.extend(set_aside().split_off(1));
        answer.push(ready(b'I'));
        assert_eq!(rig.server(&answer), ["BindComplete", "Complete RESET", "Ready I"]);
    }
}

#[test]
fn what_a_reset_that_fails_would_have_gone_back_to_is_not_set() {
    let mut rig = starting_with("work_mem", "1MB");
    rig.client(&[query("reset work_mem")]);
    let answer = [error("57014", "canceling"), ready(b'I')];
    assert_eq!(rig.server(&answer), ["ERROR 57014: canceling", "Ready I"]);
    assert!(rig.is_at_rest());
}

fn starting_with(name: &str, value: &str) -> Rig {
    let mut rig = Rig::new();
    let mut startup = crate::protocol::Parameters::new();
    startup.set(name, value);
    rig.client = crate::session::ClientSession::new(startup);
    settings::on_applied(&rig.client, &mut rig.server);
    rig
}

/// The answers to what is set aside, with that to the `Close` of the client's own statement.
fn set_aside() -> Vec<Vec<u8>> {
    vec![
        bare(tag::CLOSE_COMPLETE),
        bare(tag::CLOSE_COMPLETE),
        bare(tag::PARSE_COMPLETE),
        bare(tag::BIND_COMPLETE),
        row("1MB"),
        complete("SELECT 1"),
        bare(tag::CLOSE_COMPLETE),
        bare(tag::CLOSE_COMPLETE),
    ]
}
