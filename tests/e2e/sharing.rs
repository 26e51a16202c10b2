//! How reads are shared between replicas, and when a session that has written shares in them again.

use std::collections::BTreeMap;

use crate::harness::Wire;
use crate::harness::crowd::crowd;
use crate::harness::house::House;
use crate::harness::wire::{Frame, tags};

/// Tells which server has answered. A setting of the server itself would be asked of the primary.
const WHERE: &str = "SELECT place()";
const PLACE: &str = "CREATE FUNCTION place() RETURNS text STABLE PARALLEL SAFE LANGUAGE plpgsql \
     AS 'BEGIN RETURN current_setting(''port''); END'";

fn port_of(frames: &[Frame]) -> String {
    assert_eq!(tags(frames), "TDCZ", "{frames:?}");
    frames[1].columns().concat()
}

#[test]
fn thirty_thousand_reads_of_many_clients_are_ten_thousand_for_each_of_three_replicas() {
    const CLIENTS: usize = 60;
    const READS: usize = 500;
    let house = House::new(
        3,
        PLACE,
        // Room for all of them: a replica that is full is passed over.
        "read_consistency = \"none\"\npool_size = 60\n",
    );
    let places = crowd(CLIENTS, |number| {
        let mut client = house.client();
        let is_extended = number % 2 == 0;
        let mut ports = Vec::new();
        for _ in 0..READS {
            let frames = if is_extended {
                // In one batch: a batch that only prepares takes its turn as well.
                client.send_parse("", WHERE);
                client.send_bind("", "", &[]);
                client.send_execute("", 0);
                client.send_sync();
                let frames = client.read_until_ready();
                assert_eq!(tags(&frames), "12DCZ", "{frames:?}");
                frames
            } else {
                client.query(WHERE)
            };
            ports.extend(
                frames
                    .iter()
                    .filter(|frame| frame.tag == b'D')
                    .map(|frame| frame.columns().concat()),
            );
        }
        ports
    });
    let mut counts = BTreeMap::<String, usize>::new();
    for port in places.into_iter().flatten() {
        *counts.entry(port).or_default() += 1;
    }
    println!("reads by port of the server: {counts:?}");
    let expected: BTreeMap<_, _> = house
        .replicas
        .iter()
        .map(|replica| (replica.port().to_string(), 10_000))
        .collect();
    assert_eq!(counts, expected);
}

#[test]
fn a_session_that_reads_without_a_pause_leaves_the_primary_once_a_replica_has_what_it_has_written() {
    const AT_ONCE: usize = 20;
    let house = House::new(1, &format!("CREATE TABLE t (v int); {PLACE}"), "");
    let primary = house.primary.port().to_string();
    let mut client = house.client();
    client.query(WHERE);
    for round in 0..5 {
        client.query("INSERT INTO t VALUES (1)");
        let (mut on_primary, mut first) = (0, true);
        // The next query is there before the answer to the last is.
        send_many(&mut client, AT_ONCE);
        house.wait_until("reads go to the replica", || {
            send_many(&mut client, AT_ONCE);
            let ports: Vec<_> = (0..AT_ONCE)
                .map(|_| port_of(&client.read_until_ready()))
                .collect();
            if first {
                assert_eq!(ports[0], primary, "nobody can know what the replica has");
                first = false;
            }
            on_primary += ports.iter().filter(|port| **port == primary).count();
            ports.last() != Some(&primary)
        });
        for _ in 0..AT_ONCE {
            client.read_until_ready();
        }
        println!("round {round}: {on_primary} reads on the primary");
    }
}

fn send_many(client: &mut Wire, count: usize) {
    for _ in 0..count {
        client.send_query(WHERE);
    }
}
