//! Limits of time, and what is done for clients that listen.

use rustix::process::{Pid, Signal, kill_process};

use super::super::harness::Proxy;
use super::super::harness::crowd::error;
use super::super::harness::wire::execute;
use super::*;

/// A pooler that reaches its server through a proxy.
fn through(proxy: &Proxy, keys: &str) -> Pgweir {
    let config = format!(
        "workers = 1\n[auth]\nmethod = \"trust\"\n[databases.app]\n\
         url = \"postgresql://postgres@127.0.0.1:{}/postgres\"\npool_size = 1\n{keys}\n",
        proxy.port()
    );
    Pgweir::builder().config(&config).start()
}

#[test]
fn the_wait_for_the_listener_is_not_a_clients_time() {
    let postgres = Postgres::start();
    let proxy = Proxy::before(postgres.port());
    let limits = [
        "statement_timeout",
        "transaction_timeout",
        "idle_transaction_timeout",
    ];
    let keys = limits.map(|limit| format!("{limit} = \"2s\"")).join("\n");
    let pgweir = through(&proxy, &keys);
    let mut wire = client(&pgweir);
    ok(&wire.query("LISTEN channel"));
    let pid = postgres.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'pgweir listener'");
    let listener = Pid::from_raw(pid.parse().unwrap()).unwrap();
    let connections = proxy.accepted();
    for last in ["NOTIFY channel", "COMMIT"] {
        if last == "COMMIT" {
            ok(&wire.query("BEGIN"));
            ok(&wire.query("LISTEN other"));
        }
        kill_process(listener, Signal::STOP).unwrap();
        wire.send_query(last);
        // Longer than anything may take.
        postgres.sql("SELECT pg_sleep(3)");
        kill_process(listener, Signal::CONT).unwrap();
        let frames = wire.read_until_ready();
        assert_eq!(error(&frames), None, "{last}");
        assert_eq!(frames.last().unwrap().transaction_state(), 'I', "{last}");
    }
    assert_eq!(proxy.accepted(), connections, "something was cancelled");
    ok(&wire.query("SELECT 1"));
}

#[test]
fn what_was_listened_to_is_not_forgotten_while_a_cancel_is_under_way() {
    let postgres = Postgres::start();
    let proxy = Proxy::before(postgres.port());
    let pgweir = through(&proxy, "statement_timeout = \"1s\"");
    let (mut wire, mut other) = (client(&pgweir), client(&pgweir));
    ok(&wire.query("LISTEN first"));
    // The one connection has forgotten that.
    ok(&other.query("SELECT 1"));
    let mut keeper = direct(&postgres);
    keeper.query("SELECT pg_advisory_lock(1)");
    proxy.hold();
    proxy.record();
    let mut batch = Vec::new();
    for sql in [
        "BEGIN",
        "LISTEN second",
        "COMMIT",
        "SELECT pg_advisory_xact_lock(1)",
    ] {
        batch.extend(wire::parse("", sql));
        batch.extend(wire::bind("", "", &[]));
        batch.extend(execute("", 0));
    }
    wire.send_raw(&batch);
    wire.send_sync();
    eventually("the cancel request is under way", || proxy.held() == 1);
    keeper.query("SELECT pg_advisory_unlock(1)");
    ok(&wire.read_until_ready());
    let forgets = || {
        proxy
            .heard()
            .concat()
            .windows(10)
            .any(|text| text == b"UNLISTEN *")
    };
    // Whatever was sent is there when another statement has been to the server and back.
    ok(&keeper.query("SELECT 1"));
    assert!(!forgets());
    proxy.admit();
    eventually("the channel is forgotten", forgets);
    ok(&other.query("NOTIFY second"));
    assert_eq!(notification(&wire.read_frame()).0, "second");
}
