//! Messages in pieces: any cut gives the same bytes, and large ones are never collected.

use proptest::prelude::*;

use super::super::{Flow, Naming, Parties};
use super::rig::{self, Rig};
use super::tag::*;
use super::wire::*;
use crate::session::statement::StatementCache;
use crate::session::{ClientSession, Outbox};

/// A conversation with everything in it that is looked into.
fn conversation() -> (Vec<u8>, Vec<u8>) {
    let client = [
        query("select 1; select 2"),
        parse("a", "select a"),
        parse("b", "select a"),
        describe_statement("b"),
        bind("p", "a"),
        execute("p"),
        close_statement("a"),
        sync(),
        parse("", "bad"),
        bind("", ""),
        sync(),
        bind("", "none"),
        execute(""),
        sync(),
        query("copy t from stdin"),
        copy_data("1"),
        copy_done(),
        query("set timezone to 'Asia/Tokyo'"),
    ];
    let server = [
        complete("SELECT 1"),
        row_description(),
        row("1"),
        complete("SELECT 1"),
        ready(b'I'),
        bare(PARSE_COMPLETE),
        message(PARAMETER_DESCRIPTION, &[0, 0]),
        row_description(),
        bare(BIND_COMPLETE),
        row("a"),
        complete("SELECT 1"),
        ready(b'I'),
        error("42601", "syntax"),
        ready(b'I'),
        error("26000", "prepared statement \"pgweir_none\" does not exist"),
        ready(b'I'),
        copy_response(COPY_IN_RESPONSE),
        complete("COPY 1"),
        ready(b'I'),
        complete("SET"),
        parameter("TimeZone", "Asia/Tokyo"),
        ready(b'I'),
    ];
    (client.concat(), server.concat())
}

/// Plays it in pieces of these lengths, over and over; what came out on either side.
fn play(lengths: &[usize]) -> (Vec<u8>, Vec<u8>) {
    let (client, server) = conversation();
    let mut rig = Rig::new();
    let mut out = (Vec::new(), Vec::new());
    for piece in pieces(&client, lengths) {
        out.0.extend(rig.client_bytes(piece).unwrap());
    }
    for piece in pieces(&server, lengths) {
        out.1.extend(rig.server_bytes(piece).unwrap());
        out.0.extend(rig.client_bytes(&[]).unwrap());
    }
    assert!(rig.is_at_rest());
    assert_eq!(rig.client.settings.value("TimeZone"), Some("Asia/Tokyo"));
    out
}

fn pieces<'a>(bytes: &'a [u8], lengths: &[usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    let mut lengths = lengths.iter().copied().cycle();
    std::iter::from_fn(move || {
        let len = lengths.next()?.min(rest.len());
        let (piece, behind) = rest.split_at(len);
        rest = behind;
        (len > 0).then_some(piece)
    })
}

#[test]
fn a_cut_at_any_byte_changes_nothing() {
    let whole = play(&[usize::MAX]);
    let (client, server) = conversation();
    for cut in 1..client.len().max(server.len()) {
        assert!(play(&[cut, usize::MAX]) == whole, "cut at {cut}");
    }
    assert!(play(&[1]) == whole);
}

proptest! {
    #[test]
    fn any_cuts_change_nothing(lengths in proptest::collection::vec(1_usize..60, 1..20)) {
        prop_assert!(play(&lengths) == play(&[usize::MAX]));
    }

    #[test]
    fn no_bytes_make_a_flow_panic(
        client in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..30)), 0..8),
        server in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..30)), 0..8),
        is_mapped in any::<bool>(),
    ) {
        let naming = if is_mapped { Naming::Mapped { max: 1 } } else { Naming::Verbatim };
        let mut rig = Rig::with(naming);
        let tags = b"QPBDECSHdcfFX!";
        let answers = b"123CDIZESTGWHcdtnsVNA!";
        for (index, (tag, body)) in client.iter().enumerate() {
            let tag = tags[usize::from(*tag) % tags.len()];
            if rig.client_bytes(&message(tag, body)).is_err() {
                break;
            }
            let Some((tag, body)) = server.get(index) else { continue };
            let tag = answers[usize::from(*tag) % answers.len()];
            if rig.server_bytes(&message(tag, body)).is_err() {
                break;
            }
        }
    }
}

#[test]
fn a_large_row_passes_in_pieces_that_are_not_copied() {
    let mut rig = Rig::new();
    rig.client(&[query("select large")]);
    let len: u32 = 100 * 1024 * 1024;
    let mut head = vec![DATA_ROW];
    head.extend_from_slice(&(len + 4).to_be_bytes());
    let piece = vec![b'x'; 64 * 1024];
    assert_eq!(rig.server_bytes(&head).unwrap(), head);
    for _ in 0..len as usize / piece.len() {
        assert!(rig.flow.is_inside_answer());
        // The outbox holds a range of the input, nothing of its own.
        let mut out = Outbox::new();
        let mut parties = Parties {
            client: &mut rig.client,
            server: &mut rig.server,
            cache: &mut rig.cache,
        };
        let heard = rig.flow.on_server(&piece, &mut out, &mut parties).unwrap();
        assert_eq!(
            (heard.consumed, out.bytes(&piece).as_ptr()),
            (piece.len(), piece.as_ptr())
        );
    }
    assert!(!rig.flow.is_inside_answer());
    rig.server(&[complete("SELECT 1"), ready(b'I')]);
    assert!(rig.is_at_rest());
}

#[test]
fn a_large_query_and_a_large_parse_pass_in_pieces() {
    let text = format!("select '{}'", "x".repeat(1_100_000));
    for (whole, expected) in [
        (query(&text), query(&text)),
        (parse("a", &text), parse("pgweir_2", &text)),
    ] {
        let mut rig = Rig::new();
        let mut sent = Vec::new();
        for piece in pieces(&whole, &[30_000]) {
            sent.extend(rig.client_bytes(piece).unwrap());
            assert!(rig.client_carry.len() <= 30_000);
        }
        assert!(sent == expected);
    }
}

#[test]
fn a_large_bind_of_a_statement_that_the_server_lacks() {
    let mut rig = Rig::new();
    rig.client(&[parse("a", "select $1"), sync()]);
    rig.server(&[bare(PARSE_COMPLETE), ready(b'I')]);
    rig.lose();
    let values = vec![b'v'; 2_000_000];
    let whole = message(BIND, &[&b"p\0a\0"[..], &values].concat());
    let mut sent = Vec::new();
    for piece in pieces(&whole, &[3, 65_536]) {
        sent.extend(rig.client_bytes(piece).unwrap());
    }
    let expected = message(BIND, &[&b"p\0pgweir_2\0"[..], &values].concat());
    assert!(sent == [parse("pgweir_2", "select $1"), expected].concat());
}

#[test]
fn a_long_error_is_recognised_by_its_beginning() {
    let mut rig = Rig::new();
    rig.client(&[parse("", "bad"), sync()]);
    let long = error("42601", &"x".repeat(100_000));
    let mut got = Vec::new();
    for piece in pieces(&long, &[1000]) {
        got.extend(rig.server_bytes(piece).unwrap());
    }
    assert!(got == long);
    rig.server(&[ready(b'I')]);
    assert!(rig.is_at_rest());
}

#[test]
fn what_passes_unchanged_is_not_copied() {
    let mut client = ClientSession::default();
    let mut server = rig::server(1);
    let mut cache = StatementCache::new(0);
    let mut flow = Flow::new(Naming::Mapped { max: 10 }, &server);
    let mut parties = Parties {
        client: &mut client,
        server: &mut server,
        cache: &mut cache,
    };
    let input = [query("select 1"), query("select 2")].concat();
    let mut out = Outbox::new();
    flow.on_client(&input, &mut out, &mut parties).unwrap();
    assert_eq!(out.bytes(&input).as_ptr(), input.as_ptr());
    let answer = [row_description(), row("1"), complete("SELECT 1"), ready(b'I')].concat();
    out.reset();
    flow.on_server(&answer, &mut out, &mut parties).unwrap();
    assert_eq!(out.bytes(&answer).as_ptr(), answer.as_ptr());
}

/// Requests that name statements in SQL, each with its answer.
fn talk() -> [(Vec<u8>, Vec<u8>); 6] {
    let done = |command: &str| [complete(command), ready(b'I')].concat();
    let wrong = b"VERROR\0C42601\0Mwrong for \"pgweir_2\"\0P17\0\0";
    let batch = [parse("", "execute q"), bind("", ""), execute(""), sync()].concat();
    let ran = [bare(PARSE_COMPLETE), bare(BIND_COMPLETE), done("SELECT 1")].concat();
    [
        (query("/* q */ prepare Q as select ';'"), done("PREPARE")),
        (
            query("execute q(x)"),
            [message(ERROR_RESPONSE, wrong), ready(b'I')].concat(),
        ),
        (batch, ran),
        (query("begin; execute q; commit"), done("COMMIT")),
        (query("prepare r as select ';'"), done("UNLISTEN")),
        (query("deallocate q"), done("UNLISTEN")),
    ]
}

proptest! {
    #[test]
    fn any_cuts_change_nothing_about_names_in_sql(lengths in prop::collection::vec(1_usize..30, 1..6)) {
        let play = |lengths: &[usize]| {
            let mut rig = Rig::new();
            let mut out = (Vec::new(), Vec::new());
            for (asked, answered) in talk() {
                for piece in pieces(&asked, lengths) {
                    out.0.extend(rig.client_bytes(piece).unwrap());
                }
                for piece in pieces(&answered, lengths) {
                    out.1.extend(rig.server_bytes(piece).unwrap());
                }
                assert!(rig.is_at_rest());
            }
            out
        };
        let (to_server, to_client) = play(&[usize::MAX]);
        prop_assert_eq!(play(&lengths), (to_server.clone(), to_client.clone()));
        prop_assert!(frontend(&to_server).contains(&"Query begin; execute pgweir_2; commit".into()));
        prop_assert!(backend(&to_client).contains(&"ERROR 42601: wrong for \"q\"".into()));
    }
}
