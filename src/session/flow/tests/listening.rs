//! LISTEN of a client for which another connection listens.

use std::sync::Arc;

use super::rig::Rig;
use super::tag::*;
use super::wire::*;
use crate::protocol::Parameters;
use crate::session::screen::PinReason;

/// A client whose server connection is its own for a while.
fn sharing() -> Rig {
    let mut rig = Rig::new();
    let mut base = Parameters::new();
    base.set("client_encoding", "UTF8");
    rig.server.base = Arc::new(base);
    rig.flow.share_listening();
    rig
}

fn asked(rig: &Rig) -> Option<Vec<String>> {
    let channels = rig.flow.asks_for_channels()?;
    Some(
        channels
            .iter()
            .map(|channel| String::from_utf8_lossy(channel).into_owned())
            .collect(),
    )
}

/// What is listened for, and whether the client is pinned.
fn heard(rig: &Rig) -> (Vec<String>, bool) {
    let channels = rig.client.channels.iter().flat_map(|channels| channels.iter());
    let names = channels.map(|channel| String::from_utf8_lossy(channel).into_owned());
    (names.collect(), rig.client.pinned() == Some(PinReason::Listen))
}

/// Says something that is granted if it is asked for, and carried out.
fn say(rig: &mut Rig, text: &str, command: &str, state: u8) {
    rig.client(&[query(text)]);
    if asked(rig).is_some() {
        rig.flow.on_channels(true);
        rig.client(&[]);
    }
    rig.server(&[complete(command), ready(state)]);
}

fn notification(channel: &str) -> Vec<u8> {
    message(
        NOTIFICATION_RESPONSE,
        &[&[0, 0, 0, 9], channel.as_bytes(), b"\0\0"].concat(),
    )
}

#[test]
fn the_statement_waits_until_somebody_listens_and_is_undone_on_the_connection() {
    let mut rig = sharing();
    assert!(rig.client(&[query("LISTEN a"), query("SELECT 1")]).is_empty());
    assert_eq!(asked(&rig).unwrap(), ["a"]);
    rig.flow.on_channels(true);
    assert_eq!(rig.client(&[]), ["Query LISTEN a"]);
    assert_eq!(asked(&rig), None);
    rig.server(&[complete("LISTEN"), ready(b'I')]);
    assert_eq!(heard(&rig), (vec!["a".to_owned()], false));
    assert!(rig.flow.must_undo_listening());
    let mut undoing = Vec::new();
    rig.flow.undo_listening(&mut rig.server, &mut undoing);
    assert_eq!(frontend(&undoing), ["Query UNLISTEN *"]);
    assert!(rig.flow.leaves_listening() && !rig.flow.must_undo_listening());
    // What comes behind goes on meanwhile.
    assert_eq!(rig.client(&[]), ["Query SELECT 1"]);
    assert!(rig.server(&[complete("UNLISTEN"), ready(b'I')]).is_empty());
    assert!(!rig.flow.leaves_listening());
    assert_eq!(heard(&rig), (vec!["a".to_owned()], false));
}

#[test]
fn a_connection_that_was_not_cleaned_is_not_given_to_others() {
    let mut rig = sharing();
    say(&mut rig, "LISTEN a", "LISTEN", b'I');
    rig.flow.undo_listening(&mut rig.server, &mut Vec::new());
    rig.server(&[error("57014", "canceled"), ready(b'I')]);
    assert_eq!(rig.server.hygiene, crate::session::Hygiene::Tainted);
}

#[test]
fn a_block_asks_when_it_may_end() {
    let mut rig = sharing();
    say(&mut rig, "BEGIN", "BEGIN", b'T');
    assert_eq!(rig.client(&[query("LISTEN a")]), ["Query LISTEN a"]);
    rig.server(&[complete("LISTEN"), ready(b'T')]);
    assert_eq!(heard(&rig), (vec![], false));
    assert_eq!(rig.client(&[query("SELECT 1")]), ["Query SELECT 1"]);
    // Behind a request that is not answered, too.
    assert!(rig.client(&[query("COMMIT")]).is_empty());
    assert_eq!(asked(&rig), None);
    rig.server(&[complete("SELECT 1"), ready(b'T')]);
    rig.client(&[]);
    assert_eq!(asked(&rig).unwrap(), ["a"]);
    rig.flow.on_channels(true);
    assert_eq!(rig.client(&[]), ["Query COMMIT"]);
    rig.server(&[complete("COMMIT"), ready(b'I')]);
    assert_eq!(heard(&rig), (vec!["a".to_owned()], false));
}

#[test]
fn what_is_listened_to_already_is_not_asked_for() {
    let mut rig = sharing();
    say(&mut rig, "LISTEN a", "LISTEN", b'I');
    rig.client(&[query("LISTEN a")]);
    assert_eq!(asked(&rig), None);
}

#[test]
fn a_batch_is_held_at_the_statement_and_its_answers_are_called_for() {
    let mut rig = sharing();
    let sent = rig.client(&[parse("s", "LISTEN a"), bind("", "s"), execute(""), sync()]);
    assert_eq!(sent, ["Parse pgweir_2: LISTEN a", "Bind  pgweir_2", "Flush"]);
    rig.server(&[bare(PARSE_COMPLETE), bare(BIND_COMPLETE)]);
    rig.client(&[]);
    assert_eq!(asked(&rig).unwrap(), ["a"]);
    rig.flow.on_channels(true);
    assert_eq!(rig.client(&[]), ["Execute ", "Flush"]);
    rig.server(&[complete("LISTEN")]);
    assert_eq!(rig.client(&[]), ["Sync"]);
    rig.server(&[ready(b'I')]);
    assert_eq!(heard(&rig), (vec!["a".to_owned()], false));
}

#[test]
fn a_batch_that_fails_has_listened_to_nothing() {
    let mut rig = sharing();
    rig.client(&[parse("", "LISTEN a"), bind("", ""), execute("")]);
    rig.server(&[bare(PARSE_COMPLETE), bare(BIND_COMPLETE)]);
    rig.client(&[]);
    rig.flow.on_channels(true);
    rig.client(&[parse("", "SELECT 1/0"), bind("", ""), execute(""), sync()]);
    rig.server(&[complete("LISTEN")]);
    rig.client(&[]);
    rig.server(&[bare(PARSE_COMPLETE), bare(BIND_COMPLETE), error("22012", "no")]);
    rig.server(&[ready(b'I')]);
    assert_eq!(heard(&rig), (vec![], false));
    assert!(!rig.flow.must_undo_listening());
}

#[test]
fn a_parse_that_is_answered_here_is_not_waited_for_in_vain() {
    let mut rig = sharing();
    rig.client(&[parse("s", "LISTEN a"), sync()]);
    rig.server(&[bare(PARSE_COMPLETE), ready(b'I')]);
    rig.client(&[parse("t", "LISTEN a"), bind("", "t"), execute(""), sync()]);
    assert_eq!(rig.fakes(), ["ParseComplete"]);
    rig.server(&[bare(BIND_COMPLETE)]);
    rig.client(&[]);
    assert_eq!(asked(&rig).unwrap(), ["a"]);
}

#[test]
fn without_a_listener_the_client_keeps_its_connection() {
    let mut rig = sharing();
    rig.client(&[query("LISTEN a")]);
    rig.flow.on_channels(false);
    assert_eq!(rig.client(&[]), ["Query LISTEN a"]);
    rig.server(&[complete("LISTEN"), ready(b'I')]);
    assert_eq!(heard(&rig), (vec![], true));
    assert!(!rig.flow.must_undo_listening());
    assert_eq!(rig.server(&[notification("a")]).len(), 1);
}

#[test]
fn a_connection_tells_a_client_what_nobody_else_tells_it() {
    let mut rig = sharing();
    say(&mut rig, "LISTEN a", "LISTEN", b'I');
    // Left over from whoever had the connection before, or from this client: the listener tells it.
    assert!(rig.server(&[notification("a"), notification("b")]).is_empty());
    rig.client(&[query("LISTEN b; SELECT 1")]);
    rig.server(&[complete("LISTEN"), complete("SELECT 1"), ready(b'I')]);
    assert_eq!(heard(&rig), (vec!["a".to_owned()], true));
    assert_eq!(rig.server(&[notification("a"), notification("b")]).len(), 1);
}

#[test]
fn another_encoding_or_too_many_channels_keep_the_connection() {
    let mut rig = sharing();
    let mut settings = Parameters::new();
    settings.set("client_encoding", "LATIN1");
    rig.client.settings = Arc::new(settings);
    assert_eq!(rig.client(&[query("LISTEN a")]), ["Query LISTEN a"]);
    assert!(heard(&rig).1);
    let mut rig = sharing();
    let many = (0..1000).map(|number| number.to_string().as_bytes().into());
    rig.client.channels = Some(Box::new(many.collect()));
    assert_eq!(rig.client(&[query("LISTEN a")]), ["Query LISTEN a"]);
    assert!(heard(&rig).1);
}

#[test]
fn whoever_listens_to_nothing_is_not_held_by_unlisten() {
    let mut rig = sharing();
    assert_eq!(
        rig.client(&[query("UNLISTEN *"), query("UNLISTEN a")]),
        ["Query UNLISTEN *", "Query UNLISTEN a"]
    );
    assert!(!rig.flow.is_held());
}

#[test]
fn the_end_of_a_transaction_that_notifies_comes_behind_what_it_notified() {
    let mut rig = sharing();
    say(&mut rig, "LISTEN a", "LISTEN", b'I');
    rig.client(&[query("NOTIFY a")]);
    assert_eq!(
        rig.server(&[complete("NOTIFY"), ready(b'I')]),
        ["Complete NOTIFY"]
    );
    assert_eq!(asked(&rig).unwrap(), Vec::<String>::new());
    rig.flow.on_channels(true);
    assert_eq!(rig.server(&[]), ["Ready I"]);
    assert_eq!(asked(&rig), None);
    // Of one that listens to nothing nobody waits.
    let mut rig = sharing();
    rig.client(&[query("NOTIFY a")]);
    assert_eq!(rig.server(&[complete("NOTIFY"), ready(b'I')]).len(), 2);
}

#[test]
fn a_copy_is_not_waited_for() {
    let mut rig = sharing();
    say(&mut rig, "BEGIN", "BEGIN", b'T');
    say(&mut rig, "LISTEN a", "LISTEN", b'T');
    rig.client(&[query("COPY t FROM STDIN")]);
    rig.server(&[copy_response(COPY_IN_RESPONSE)]);
    // Nonsense, and the server is to say so.
    assert_eq!(rig.client(&[query("COMMIT")]), ["Query COMMIT"]);
}

#[test]
fn who_asks_for_channels_is_shown_its_own() {
    let mut rig = Rig::new();
    rig.flow.share_listening();
    let ask = query("select pg_listening_channels()");
    assert_eq!(rig.client(std::slice::from_ref(&ask)).len(), 1);
    rig.server(&[row_description(), complete("SELECT 0"), ready(b'I')]);
    let channels = [b"a".as_slice(), b"B\"c"].map(Arc::from);
    rig.client.channels = Some(Box::new(channels.into()));
    assert_eq!(
        rig.client(&[ask.clone(), ask]),
        [
            "Query LISTEN \"B\"\"c\";LISTEN \"a\";",
            "Query select pg_listening_channels()"
        ]
    );
    let got = rig.server(&[
        complete("LISTEN"),
        complete("LISTEN"),
        ready(b'I'),
        row_description(),
        row("a"),
        complete("SELECT 1"),
        ready(b'I'),
    ]);
    assert_eq!(got, ["RowDescription", "Row a", "Complete SELECT 1", "Ready I"]);
    assert!(rig.flow.must_undo_listening());
    assert!(rig.client.pinned().is_none());
}
