//! The committed inputs of the fuzz targets, played as ordinary tests, and the inputs that once found a mistake.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::fs;
use std::path::Path;

use pgweir::{auth, config, protocol, session};

#[test]
fn each_target_plays_its_corpus() {
    play("config", |data| with_text(data, config::fuzz::fuzz_config));
    play("flow", session::flow::fuzz::fuzz_flow);
    play("frames", protocol::fuzz::fuzz_frames);
    play("handshake", session::startup::fuzz::fuzz_handshake);
    play("hba", |data| with_text(data, auth::fuzz::fuzz_hba));
    play("login", session::login::fuzz::fuzz_login);
    play("scram", auth::scram::fuzz::fuzz_scram);
    play("url", |data| with_text(data, config::fuzz::fuzz_url));
    play("users_file", |data| with_text(data, auth::fuzz::fuzz_users_file));
}

fn play(target: &str, run: impl Fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut count = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        // Shown when a test fails.
        println!("{}", path.display());
        run(&fs::read(path).unwrap());
        count += 1;
    }
    assert!(count > 0, "{target} has no corpus");
}

fn with_text(data: &[u8], run: impl Fn(&str)) {
    run(std::str::from_utf8(data).unwrap());
}

#[test]
fn a_mistake_on_a_continued_line_of_rules_is_named_where_it_stands() {
    let continued = include_str!("data/hba-mistake-on-a-continued-line");
    assert_eq!(places_of_mistakes(continued), [(2, 7)]);
    let unended = include_str!("data/hba-continued-past-the-end");
    assert_eq!(places_of_mistakes(unended), [(1, 9)]);
}

#[test]
fn a_ready_for_query_of_many_bytes_is_refused_however_it_is_cut() {
    session::flow::fuzz::fuzz_flow(include_bytes!("data/flow-ready-for-query-of-many-bytes"));
}

#[test]
fn a_name_of_many_kilobytes_is_refused_however_it_is_cut() {
    session::flow::fuzz::fuzz_flow(include_bytes!("data/flow-name-of-many-kilobytes"));
}

#[test]
fn a_begin_is_taken_back_without_what_was_sent_before_it() {
    session::flow::fuzz::fuzz_flow(include_bytes!(
        "data/flow-begin-taken-back-behind-queries-of-ours"
    ));
}

#[test]
fn a_client_in_the_middle_of_a_query_keeps_its_connection_however_it_is_cut() {
    session::flow::fuzz::fuzz_flow(include_bytes!("data/flow-client-that-changes-inside-a-query"));
}

#[test]
fn a_comment_is_one_however_it_is_cut() {
    session::flow::fuzz::fuzz_flow(include_bytes!("data/flow-comment-cut-behind-its-first-byte"));
}

#[test]
fn a_begin_goes_ahead_of_a_listen_that_waits_for_its_answer() {
    session::flow::fuzz::fuzz_flow(include_bytes!("data/flow-begin-ahead-of-a-listen-that-waits"));
}

#[test]
fn what_stands_behind_a_long_text_may_wait_if_that_is_cut() {
    session::flow::fuzz::fuzz_flow(include_bytes!("data/flow-long-text-before-what-cannot-be-read"));
}

fn places_of_mistakes(rules: &str) -> Vec<(usize, usize)> {
    let errors = auth::Hba::parse(rules).unwrap_err();
    errors.iter().map(|error| (error.line, error.column)).collect()
}
