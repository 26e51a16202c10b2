use crate::admin::show::Show;
use crate::admin::table::Value;

use super::*;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 4).unwrap();
    [&[tag], len.to_be_bytes().as_slice(), body].concat()
}

fn query(text: &str) -> Vec<u8> {
    message(tag::QUERY, format!("{text}\0").as_bytes())
}

fn parse(name: &str, text: &str) -> Vec<u8> {
    message(tag::PARSE, format!("{name}\0{text}\0\0\0").as_bytes())
}

fn bind(portal: &str, statement: &str, formats: &[u16]) -> Vec<u8> {
    let mut body = format!("{portal}\0{statement}\0\0\0\0\0").into_bytes();
    body.extend(u16::try_from(formats.len()).unwrap().to_be_bytes());
    body.extend(formats.iter().flat_map(|format| format.to_be_bytes()));
    message(tag::BIND, &body)
}

fn execute(portal: &str, rows_max: u32) -> Vec<u8> {
    let body = [format!("{portal}\0").as_bytes(), &rows_max.to_be_bytes()].concat();
    message(tag::EXECUTE, &body)
}

fn describe(target: u8, name: &str) -> Vec<u8> {
    message(tag::DESCRIBE, &[&[target], name.as_bytes(), b"\0"].concat())
}

fn sync() -> Vec<u8> {
    message(tag::SYNC, b"")
}

/// Feeds messages and answers every command with two rows of one text; returns the tags of what came out, and all of it.
fn run(session: &mut Session, input: &[Vec<u8>]) -> (String, Vec<u8>) {
    let (mut input, mut out) = (input.concat(), Vec::new());
    loop {
        let (used, turn) = session.on_bytes(&input, &mut out).unwrap();
        input.drain(..used);
        match turn {
            Turn::Run(command) => {
                let answer = match command.columns() {
                    Some(_) => Answer::Rows(vec![vec![Value::from("a")], vec![Value::from("b")]]),
                    None => Answer::Done,
                };
                session.on_answer(Ok(answer), &mut out);
            }
            Turn::Read | Turn::Goodbye => return (tags(&out), out),
        }
    }
}

fn tags(mut out: &[u8]) -> String {
    let mut tags = String::new();
    while let Ok(Some(head)) = Head::read(out) {
        tags.push(char::from(head.tag));
        out = &out[head.len()..];
    }
    tags
}

fn contains(out: &[u8], text: &str) -> bool {
    memchr::memmem::find(out, text.as_bytes()).is_some()
}

#[test]
fn a_simple_query_is_answered_with_rows_or_a_tag() {
    let mut session = Session::new(Access::Admin);
    assert_eq!(run(&mut session, &[query("SHOW VERSION;")]).0, "TDDCZ");
    assert_eq!(run(&mut session, &[query("RELOAD")]).0, "CZ");
    assert_eq!(run(&mut session, &[query(";")]).0, "IZ");
    let (tags, out) = run(&mut session, &[query("SELECT 1"), query("SHOW VERSION")]);
    assert_eq!(tags, "EZTDDCZ");
    assert!(contains(
        &out,
        "C42601\0Minvalid command 'SELECT 1', use SHOW HELP;"
    ));
}

#[test]
fn messages_cut_anywhere_are_understood() {
    let whole = query("SHOW VERSION");
    for cut in 0..whole.len() {
        let mut session = Session::new(Access::Admin);
        let mut out = Vec::new();
        assert_eq!(
            session.on_bytes(&whole[..cut], &mut out).unwrap(),
            (0, Turn::Read)
        );
        let (used, turn) = session.on_bytes(&whole, &mut out).unwrap();
        assert_eq!(used, whole.len());
        assert_eq!(turn, Turn::Run(Rc::new(Command::Show(Show::Version))));
    }
}

#[test]
fn a_prepared_command_is_described_bound_and_executed_again_and_again() {
    let mut session = Session::new(Access::Admin);
    let prepare = [
        parse("s", "SHOW VERSION"),
        describe(tag::TARGET_STATEMENT, "s"),
        sync(),
    ];
    assert_eq!(run(&mut session, &prepare).0, "1tTZ");
    let portal = describe(tag::TARGET_PORTAL, "");
    for _ in 0..2 {
        let once = [bind("", "s", &[1]), portal.clone(), execute("", 0), sync()];
        assert_eq!(run(&mut session, &once).0, "2TDDCZ");
    }
    let close = [message(tag::CLOSE, b"Ss\0"), bind("", "s", &[]), sync()];
    let (tags, out) = run(&mut session, &close);
    assert_eq!(tags, "3EZ");
    assert!(contains(&out, "C26000\0"));
}

#[test]
fn a_command_without_rows_is_described_as_such() {
    let mut session = Session::new(Access::Admin);
    let reload = [
        parse("", "RELOAD"),
        describe(tag::TARGET_STATEMENT, ""),
        bind("", "", &[]),
        execute("", 0),
        sync(),
    ];
    assert_eq!(run(&mut session, &reload).0, "1tn2CZ");
    let empty = [parse("", ""), bind("", "", &[]), execute("", 0), sync()];
    assert_eq!(run(&mut session, &empty).0, "12IZ");
}

#[test]
fn rows_come_in_the_portions_that_are_asked_for() {
    let mut session = Session::new(Access::Admin);
    let portions = [
        parse("", "SHOW VERSION"),
        bind("p", "", &[]),
        execute("p", 1),
        execute("p", 1),
        execute("p", 1),
        sync(),
    ];
    assert_eq!(run(&mut session, &portions).0, "12DsDCCZ");
    // A portal lasts until Sync.
    assert_eq!(run(&mut session, &[execute("p", 1), sync()]).0, "EZ");
}

#[test]
fn after_an_error_everything_up_to_sync_is_passed_over() {
    let mut session = Session::new(Access::Admin);
    let failed = [
        parse("", "SHOW NOTHING"),
        bind("", "", &[]),
        execute("", 0),
        query("SHOW VERSION"),
        sync(),
        query("SHOW VERSION"),
    ];
    assert_eq!(run(&mut session, &failed).0, "EZTDDCZ");
}

#[test]
fn a_command_that_fails_leaves_the_session_usable() {
    let mut session = Session::new(Access::Admin);
    let mut out = Vec::new();
    let input = [parse("", "RELOAD"), bind("", "", &[]), execute("", 0)].concat();
    let (_, turn) = session.on_bytes(&input, &mut out).unwrap();
    assert_eq!(turn, Turn::Run(Rc::new(Command::Reload)));
    session.on_answer(
        Err(Report::error(SqlState::CONFIG_FILE_ERROR, "broken")),
        &mut out,
    );
    assert_eq!(tags(&out), "12E");
    assert_eq!(
        run(&mut session, &[execute("", 0), sync(), query("RELOAD")]).0,
        "ZCZ"
    );
}

#[test]
fn who_may_only_look_on_cannot_change_anything() {
    let mut session = Session::new(Access::Stats);
    for command in ["PAUSE", "RESUME", "RELOAD", "SHUTDOWN", "KILL_CLIENT 1"] {
        let (tags, out) = run(&mut session, &[query(command), parse("", command), sync()]);
        assert_eq!(tags, "EZEZ", "{command}");
        assert!(contains(&out, "C42501\0Madmin access needed"));
    }
    assert_eq!(run(&mut session, &[query("SHOW VERSION")]).0, "TDDCZ");
}

#[test]
fn what_breaks_the_protocol_ends_the_session() {
    let long = query(&"x".repeat(MESSAGE_LEN_MAX));
    let cases = [
        (message(tag::PARSE, b"no end"), SqlState::PROTOCOL_VIOLATION),
        (message(tag::BIND, b"\0\0\0"), SqlState::PROTOCOL_VIOLATION),
        (message(tag::EXECUTE, b"\0\0"), SqlState::PROTOCOL_VIOLATION),
        (message(tag::DESCRIBE, b"x\0"), SqlState::PROTOCOL_VIOLATION),
        (message(tag::QUERY, b""), SqlState::PROTOCOL_VIOLATION),
        (vec![b'!'], SqlState::PROTOCOL_VIOLATION),
        (long, SqlState::PROGRAM_LIMIT_EXCEEDED),
    ];
    for (input, code) in cases {
        let mut session = Session::new(Access::Admin);
        let report = session.on_bytes(&input, &mut Vec::new()).unwrap_err();
        assert_eq!((report.code, report.fate), (code, Fate::Close), "{input:?}");
    }
}

#[test]
fn what_cannot_be_bound_is_an_error_of_the_request() {
    let with_value = message(tag::BIND, b"\0\0\0\0\0\x01\0\0\0\x01x\0\0");
    for bad in [with_value, bind("", "", &[7]), bind("", "", &[0, 1, 0])] {
        let mut session = Session::new(Access::Admin);
        let input = [
            parse("", "SHOW VERSION"),
            bad,
            execute("", 0),
            sync(),
            query("RELOAD"),
        ];
        assert_eq!(run(&mut session, &input).0, "1EZCZ");
    }
}

#[test]
fn statements_have_a_limit_and_names_of_their_own() {
    let mut session = Session::new(Access::Admin);
    for index in 0..NAMES_MAX {
        assert_eq!(run(&mut session, &[parse(&format!("s{index}"), "RELOAD")]).0, "1");
    }
    let (tags, out) = run(&mut session, &[parse("more", "RELOAD"), sync()]);
    assert_eq!(tags, "EZ");
    assert!(contains(&out, "C54000\0"));
    let (tags, out) = run(&mut session, &[parse("s0", "RELOAD"), sync()]);
    assert_eq!(tags, "EZ");
    assert!(contains(&out, "C42P05\0"));
}
