use super::*;

fn channel(name: &str) -> Channel {
    name.as_bytes().into()
}

fn listen(name: &str) -> Command {
    Command::Listen(channel(name))
}

fn unlisten(name: &str) -> Command {
    Command::Unlisten(channel(name))
}

#[test]
fn the_name_of_a_channel_is_read_as_the_server_reads_it() {
    for (text, name) in [
        ("LISTEN ch", "ch"),
        ("listen Ch;", "ch"),
        ("/* a /* b */ */ LISTEN -- c\n ch_1$x ; ; \0", "ch_1$x"),
        ("LISTEN \"Ch ann;el\"", "Ch ann;el"),
        ("LISTEN \"a\"\"b\"", "a\"b"),
        ("LISTEN\"é\"", "é"),
    ] {
        assert_eq!(commands(text.as_bytes()), Some(vec![listen(name)]), "{text}");
    }
    let long = "x".repeat(63);
    assert_eq!(
        commands(format!("LISTEN {long}").as_bytes()),
        Some(vec![listen(&long)])
    );
}

#[test]
fn a_text_of_nothing_else_may_hold_several_commands() {
    assert_eq!(
        commands(b"LISTEN a; UNLISTEN b; UNLISTEN *;\0"),
        Some(vec![listen("a"), unlisten("b"), Command::UnlistenAll])
    );
}

#[test]
fn what_is_not_understood_to_its_end_is_no_command() {
    let long = format!("LISTEN {}", "x".repeat(64));
    for text in [
        "",
        ";",
        "LISTEN",
        "LISTEN é",
        "LISTEN U&\"a\"",
        "LISTEN \"\"",
        "LISTEN \"a",
        "LISTEN a b",
        "LISTEN a; SELECT 1",
        "SELECT 1; LISTEN a",
        "LISTEN a; LISTEN b 'c'",
        "LISTEN *",
        "LISTEN 'a'",
        "LISTENING",
        &long,
    ] {
        assert_eq!(commands(text.as_bytes()), None, "{text}");
    }
    assert_eq!(commands(b"LISTEN \"\xff\""), None);
    assert_eq!(commands("LISTEN a;".repeat(100).as_bytes()), None);
}

#[test]
fn savepoints_are_told_from_what_ends_a_transaction() {
    let name = || channel("s");
    for (text, found) in [
        ("SAVEPOINT s", Step::Savepoint(name())),
        ("savepoint \"s\";", Step::Savepoint(name())),
        ("RELEASE s", Step::Release(name())),
        ("RELEASE SAVEPOINT S", Step::Release(name())),
        ("RELEASE savepoint", Step::Release(channel("savepoint"))),
        ("ROLLBACK TO s", Step::RollbackTo(name())),
        ("ROLLBACK WORK TO SAVEPOINT s;", Step::RollbackTo(name())),
        ("abort transaction to s", Step::RollbackTo(name())),
        ("ROLLBACK", Step::Other),
        ("ROLLBACK;", Step::Other),
        ("ROLLBACK WORK", Step::Other),
        ("ROLLBACK AND NO CHAIN", Step::Other),
        ("COMMIT", Step::Other),
        ("SELECT 1; SELECT 2", Step::Other),
        ("SELECT 1; ROLLBACK TO s", Step::Unclear),
        ("SAVEPOINT s; SELECT 1", Step::Unclear),
        ("SAVEPOINT é", Step::Unclear),
        ("DO $$ BEGIN ROLLBACK; END $$", Step::Unclear),
        ("ROLLBACK AND CHAIN; ROLLBACK TO s", Step::Unclear),
        ("ROLLBACK TO U&\"s\"", Step::Unclear),
        ("", Step::Other),
    ] {
        assert_eq!(step(text.as_bytes()), found, "{text}");
    }
}

/// Plays a transaction by its texts: what a client that listened to `old` listens to after it.
fn after(texts: &[&str]) -> Vec<String> {
    let mut log = Log::default();
    for text in texts {
        match commands(text.as_bytes()) {
            Some(commands) => commands.into_iter().for_each(|command| log.say(command).unwrap()),
            None if log.is_empty() => {}
            None => log.step(&step(text.as_bytes())).unwrap(),
        }
    }
    let mut channels = Channels::from([channel("old")]);
    log.commit(&mut channels);
    assert!(log.is_empty());
    channels
        .iter()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

#[test]
fn a_commit_does_what_was_said_in_order() {
    assert_eq!(after(&["LISTEN a", "UNLISTEN *", "LISTEN b"]), ["b"]);
    assert_eq!(after(&["UNLISTEN old", "LISTEN old"]), ["old"]);
    assert_eq!(after(&["LISTEN a", "UNLISTEN a"]), ["old"]);
}

#[test]
fn going_back_to_a_savepoint_takes_back_what_was_said_since() {
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["LISTEN a", "SAVEPOINT s", "LISTEN b", "ROLLBACK TO s", "LISTEN c"],
            &["a", "c", "old"],
        ),
        // One that was set before anything was said.
        (
            &["SAVEPOINT s", "LISTEN a", "ROLLBACK TO s", "LISTEN b"],
            &["b", "old"],
        ),
        (
            &["LISTEN a", "SAVEPOINT s", "UNLISTEN *", "ROLLBACK TO s"],
            &["a", "old"],
        ),
        // The same name twice: the later hides the earlier until it is released.
        (
            &[
                "LISTEN a",
                "SAVEPOINT s",
                "LISTEN b",
                "SAVEPOINT s",
                "LISTEN c",
                "ROLLBACK TO s",
                "RELEASE s",
                "ROLLBACK TO s",
            ],
            &["a", "old"],
        ),
        // A savepoint can be gone back to again, and releasing one keeps what was said.
        (
            &[
                "LISTEN a",
                "SAVEPOINT s",
                "LISTEN b",
                "ROLLBACK TO s",
                "LISTEN c",
                "ROLLBACK TO s",
            ],
            &["a", "old"],
        ),
        (
            &["LISTEN a", "SAVEPOINT s", "LISTEN b", "RELEASE s"],
            &["a", "b", "old"],
        ),
        // Released with the one outside of it.
        (
            &["SAVEPOINT o", "LISTEN a", "SAVEPOINT s", "LISTEN b", "RELEASE o"],
            &["a", "b", "old"],
        ),
    ];
    for (texts, expected) in cases {
        assert_eq!(after(texts), *expected, "{texts:?}");
    }
}

#[test]
fn a_transaction_cannot_say_more_than_the_limit_allows() {
    let mut log = Log::default();
    for _ in 0..LOG_LEN_MAX {
        log.say(Command::UnlistenAll).unwrap();
    }
    assert_eq!(log.say(Command::UnlistenAll), Err(Full));
    log.roll_back();
    assert!(log.is_empty());
}
