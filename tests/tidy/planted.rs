//! Each rule catches a source that breaks it.

use super::check;
use super::source::{File, blank};

fn complaints(path: &str, text: &str) -> Vec<String> {
    let file = File {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    check(&[file])
        .into_iter()
        .map(|complaint| complaint.what)
        .collect()
}

#[track_caller]
fn caught(path: &str, text: &str, what: &str) {
    let found = complaints(path, text);
    assert!(found.len() == 1 && found[0].contains(what), "{found:?}");
}

#[track_caller]
fn fine(path: &str, text: &str) {
    assert_eq!(complaints(path, text), Vec::<String>::new());
}

#[test]
fn a_module_that_names_a_higher_floor_is_caught() {
    caught("src/protocol/frame.rs", "use crate::pool::Lease;", "names pool");
    caught(
        "src/auth/mod.rs",
        "fn f() { crate::config::load() }",
        "names config",
    );
    caught(
        "src/session/mod.rs",
        "use crate::{\n    protocol::tag,\n    net::{Conn, Addr},\n};",
        "names net",
    );
    caught("src/auth/mod.rs", "use super::relay::serve;", "names relay");
    caught(
        "src/auth/scram.rs",
        "use super::super::relay::serve;",
        "names relay",
    );
    caught("src/app/mod.rs", "use crate::demo::Demo;", "names demo");
    caught(
        "src/auth/mod.rs",
        "#[cfg(test)]\nmod tests {\n use super::super::pool::Pool;\n}",
        "names pool",
    );
    caught("src/lib.rs", "pub mod attic;", "no floor");
    fine(
        "src/pool/lease.rs",
        "use crate::{net::Conn, pool::Slot};\nuse super::Pool; // crate::app",
    );
    fine(
        "src/auth/mod.rs",
        "#[cfg(test)]\nmod tests {\n use super::pool;\n}",
    );
    fine("src/main.rs", "use pgweir::{app::App, demo::Demo};");
}

#[test]
fn sockets_files_and_clocks_are_caught_on_the_low_floors() {
    caught(
        "src/session/mod.rs",
        "use std::time::Instant;\nfn f() { Instant::now(); }",
        "Instant::now",
    );
    caught("src/auth/mod.rs", "use std::{fmt, fs::read};", "std::fs");
    caught("src/protocol/mod.rs", "use tokio::io::AsyncRead;", "tokio");
    caught(
        "src/protocol/mod.rs",
        "use std::net::{IpAddr, TcpStream};",
        "TcpStream",
    );
    fine(
        "src/protocol/mod.rs",
        "use std::net::IpAddr; // never std::fs\n#[cfg(test)]\nmod tests {\nuse std::fs;\n}",
    );
    fine("src/net/mod.rs", "use std::net::TcpStream;");
}

#[test]
fn a_crate_outside_its_home_is_caught() {
    caught("src/relay/mod.rs", "use rustls::ServerConfig;", "rustls");
    caught(
        "src/session/mod.rs",
        "postgres_protocol::escape::escape_literal(x)",
        "postgres_protocol",
    );
    fine(
        "src/net/tls/load.rs",
        "use rustls::ServerConfig;\nuse tokio_rustls::TlsAcceptor;",
    );
    fine(
        "src/auth/scram.rs",
        "use postgres_protocol::authentication::sasl;",
    );
}

#[test]
fn a_long_file_is_caught() {
    caught("tests/sim/main.rs", &"//\n".repeat(601), "601 lines");
    fine("tests/sim/main.rs", &"//\n".repeat(600));
}

#[test]
fn a_tag_as_a_literal_is_caught() {
    caught("src/relay/mod.rs", "match tag { b'Q' => 1 }", "tag");
    caught("src/relay/mod.rs", "match tag {\n b'Q' | x => 1 }", "tag");
    caught("src/relay/mod.rs", "if frame.tag == b'Z' {}", "tag");
    caught("src/relay/mod.rs", "matches!(tag, tag::QUERY | b'P')", "tag");
    fine(
        "src/relay/mod.rs",
        "if byte == b'\"' || byte == b' ' || byte == b'p' // Not a tag: a flag\n{}",
    );
    fine("src/relay/mod.rs", "let digits = b'0'..=b'9'; // == b'Q'");
    fine(
        "src/config/units.rs",
        "matches!(digit, b'0'..=b'9' | b'a'..=b'f')",
    );
    fine("src/auth/scram.rs", "matches!(flag, b'n' | b'y')");
    fine("src/protocol/tag.rs", "if tag == b'Z' {}");
}

#[test]
fn a_sqlstate_as_a_literal_is_caught() {
    caught("src/relay/mod.rs", "report(\"57014\")", "57014");
    caught("src/relay/mod.rs", "report(r#\"XX000\"#)", "XX000");
    fine(
        "src/relay/mod.rs",
        "let s = (\"QUERY\", \"5701\", \"57014 \"); // \"57014\"",
    );
    fine(
        "src/relay/mod.rs",
        "#[cfg(test)]\nmod tests {\nlet x = \"57014\";\n}",
    );
    fine("src/relay/tests.rs", "let x = \"57014\";");
}

#[test]
fn a_global_that_changes_is_caught() {
    caught(
        "src/app/mod.rs",
        "static POOLS: Mutex<Vec<u8>> = Mutex::new(Vec::new());",
        "global",
    );
    caught(
        "src/app/mod.rs",
        "    pub(crate) static N: AtomicU64 = AtomicU64::new(0);",
        "global",
    );
    fine(
        "src/app/mod.rs",
        "static NAME: &str = \"Mutex\";\nfn f(x: &'static Mutex<u8>) {}",
    );
}

#[test]
fn unfinished_work_and_evasive_tests_are_caught() {
    caught("README.md", concat!("TO", "DO: write"), "no place");
    caught("src/app/mod.rs", concat!("fn f() { to", "do!() }"), "no place");
    caught("tests/e2e/main.rs", concat!("#[ign", "ore]"), "evades");
    caught("tests/e2e/main.rs", concat!("#[should", "_panic]"), "evades");
    fine("scripts/run.sh", "mktemp -d pgweir.XXXXXX");
}

#[test]
fn places_of_one_machine_are_caught() {
    caught("README.md", concat!("see /wo", "rk/main"), "no place");
    caught("Makefile", concat!("cp ../sha", "red/x ."), "no place");
    fine("README.md", "a shared work/tmp");
}

#[test]
fn strings_and_comments_are_no_code() {
    let (code, strings) =
        blank("a(\"x\\\"y\", 'c', '\\'', b'\"') /* crate::app */ // rest\nfn f<'a>(x: &'a str)");
    assert_eq!(strings, [(1, "x\\\"y".to_owned())]);
    assert!(
        code.contains("'c', '\\'', b'\"')") && code.ends_with("\nfn f<'a>(x: &'a str)"),
        "{code}"
    );
    assert!(!code.contains("crate") && !code.contains("rest"));
}
