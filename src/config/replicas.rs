//! The keys of a database that are about its replicas.

use std::time::Duration;

use toml::de::DeValue;

use crate::config::document::{Raw, Reader, Written, entries};
use crate::config::{Replica, Replicas, sections};
use crate::topology::{Balancing, Consistency, Reads};

/// What was written of them so far.
#[derive(Debug, Default)]
pub(super) struct ReplicaKeys {
    servers: Vec<Replica>,
    settings: Replicas,
    /// The first of the others, which mean nothing without replicas.
    first: Option<String>,
}

impl ReplicaKeys {
    /// Reads one key. False if it is none of these.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, written: &Written<'_>) -> bool {
        let all = &mut self.settings;
        match written.name {
            "read_replicas" => {
                reader.remember(written);
                self.servers = servers(reader, written);
                return true;
            }
            "load_balancing" => set(&mut all.rules.balancing, reader.word(written, &BALANCINGS)),
            "reads" => set(&mut all.rules.reads, reader.word(written, &READS)),
            "read_consistency" => set(&mut all.rules.consistency, reader.word(written, &CONSISTENCIES)),
            "max_replica_lag" => set(&mut all.health.max_lag, reader.duration(written)),
            "health_check_interval" => set(&mut all.health.check_interval, interval(reader, written)),
            "lsn_poll_interval" => set(&mut all.health.poll_interval, interval(reader, written)),
            "failover_timeout" => set(&mut all.health.failover_timeout, reader.duration(written)),
            "failover_threshold" => {
                set(
                    &mut all.health.failover_threshold,
                    reader.count(written, 1..=THRESHOLD_MAX),
                );
            }
            "read_only_functions" => set(&mut all.read_only_functions, reader.names(written)),
            "write_functions" => set(&mut all.write_functions, reader.names(written)),
            _ => return false,
        }
        reader.remember(written);
        if self.first.is_none() {
            self.first = Some(written.path.clone());
        }
        true
    }

    /// Everything was read.
    pub(super) fn finish(self, reader: &mut Reader<'_>, section: &str) -> Option<Box<Replicas>> {
        let list = format!("{section}.read_replicas");
        if self.servers.is_empty() {
            if let Some(first) = self.first
                && !reader.has_failed_under(&list)
            {
                let name = first.rsplit('.').next().unwrap_or_default().to_owned();
                let message = format!("\"{name}\" is about replicas, and there is no \"read_replicas\"");
                reader.contradiction(&[&first], message);
            }
            return None;
        }
        Some(Box::new(Replicas {
            servers: self.servers,
            ..self.settings
        }))
    }
}

fn set<T>(setting: &mut T, value: Option<T>) {
    super::settings::set(setting, value);
}

/// A pause between two questions: none at all would be a busy loop.
fn interval(reader: &mut Reader<'_>, written: &Written<'_>) -> Option<Duration> {
    let interval = reader.duration(written)?;
    if interval < INTERVAL_MIN {
        reader.problem(written, "must be at least 1ms");
        return None;
    }
    Some(interval)
}

fn servers(reader: &mut Reader<'_>, written: &Written<'_>) -> Vec<Replica> {
    let Raw::Toml(DeValue::Array(array)) = &written.value else {
        reader.problem(
            written,
            "must be a list of URLs, as in [\"postgresql://user:password@replica1/app\"]",
        );
        return Vec::new();
    };
    if array.len() > SERVERS_MAX {
        reader.problem(written, format!("must have at most {SERVERS_MAX} entries"));
        return Vec::new();
    }
    let items: Vec<_> = array.iter().map(|item| written.item(item)).collect();
    items.iter().filter_map(|item| server(reader, item)).collect()
}

/// One replica: a URL, or a table with one.
fn server(reader: &mut Reader<'_>, written: &Written<'_>) -> Option<Replica> {
    let Raw::Toml(DeValue::Table(table)) = &written.value else {
        let (source, url) = sections::server_url(reader, written)?;
        return single(
            reader,
            written,
            Replica {
                source,
                url,
                weight: 1,
            },
        );
    };
    let (mut found, mut weight) = (None, 1);
    for entry in entries(table, &written.path) {
        match entry.name {
            "url" => found = Some(sections::server_url(reader, &entry)),
            "weight" => set(&mut weight, reader.count(&entry, 1..=WEIGHT_MAX)),
            _ => reader.unknown(&entry, &["url", "weight"]),
        }
    }
    if found.is_none() {
        reader.problem(
            written,
            "needs a url, as in { url = \"postgresql://…\", weight = 2 }",
        );
    }
    let (source, url) = found??;
    single(reader, written, Replica { source, url, weight })
}

/// What one of several hosts says of itself would be taken for true of the others.
fn single(reader: &mut Reader<'_>, written: &Written<'_>, replica: Replica) -> Option<Replica> {
    if replica.url.servers.len() > 1 {
        reader.problem(
            written,
            "must have one host: each replica has an entry of its own",
        );
        return None;
    }
    Some(replica)
}

pub(super) const REPLICA_KEYS: [&str; 11] = [
    "read_replicas",
    "load_balancing",
    "reads",
    "read_consistency",
    "max_replica_lag",
    "health_check_interval",
    "lsn_poll_interval",
    "failover_timeout",
    "failover_threshold",
    "read_only_functions",
    "write_functions",
];

const BALANCINGS: [(&str, Balancing); 3] = [
    ("round_robin", Balancing::RoundRobin),
    ("least_connections", Balancing::LeastConnections),
    ("random", Balancing::Random),
];

const READS: [(&str, Reads); 4] = [
    ("replica", Reads::Replica),
    ("replica_only", Reads::ReplicaOnly),
    ("any", Reads::Any),
    ("primary", Reads::Primary),
];

const CONSISTENCIES: [(&str, Consistency); 2] =
    [("session", Consistency::Session), ("none", Consistency::None)];

/// Of replicas of one database. PostgreSQL streams to as many as `max_wal_senders`, 10 by default.
const SERVERS_MAX: usize = 64;
const WEIGHT_MAX: u32 = 1000;
const THRESHOLD_MAX: u32 = 1000;
const INTERVAL_MIN: Duration = Duration::from_millis(1);
