//! A primary with replicas, and the pooler before them.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{PATIENCE, Pgweir, Postgres, Wire};

/// What a test of several servers stands on. The database is `app`, and anybody is the superuser.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) primary: Postgres,
    pub(crate) replicas: Vec<Postgres>,
    pub(crate) pgweir: Pgweir,
}

impl House {
    /// So many replicas, with what this SQL makes, and two workers before them. `keys`: further ones of the database.
    pub(crate) fn new(replicas: usize, sql: &str, keys: &str) -> Self {
        let primary = Postgres::start();
        primary.sql(sql);
        let all: Vec<_> = (0..replicas).map(|_| primary.replica()).collect();
        for replica in &all {
            replica.wait_for_replay(&primary);
        }
        let urls: Vec<_> = all.iter().map(Postgres::superuser_url).collect();
        let pgweir = Self::pooler(&primary.superuser_url(), &urls, keys);
        let house = Self {
            primary,
            replicas: all,
            pgweir,
        };
        let mut seen = BTreeSet::new();
        house.wait_until("reads go to all replicas", || {
            let mut client = house.client();
            client.query("SELECT 1");
            let steps = route(&mut client);
            if let [step] = &steps[..]
                && step[1] == "replica"
            {
                seen.insert(step[2].clone());
            }
            seen.len() == replicas
        });
        house
    }

    /// A pooler with two workers before these servers.
    pub(crate) fn pooler(url: &str, replicas: &[String], keys: &str) -> Pgweir {
        let list: Vec<_> = replicas.iter().map(|url| format!("\"{url}\"")).collect();
        let config = format!(
            "workers = 2\nadmin_users = [\"postgres\"]\n[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{url}\"\nread_replicas = [{}]\n{keys}\n",
            list.join(", ")
        );
        Pgweir::builder().config(&config).start()
    }

    pub(crate) fn client(&self) -> Wire {
        Wire::log_in(self.pgweir.port(), "postgres", "app", None)
    }

    /// A client of the console.
    pub(crate) fn console(&self) -> Wire {
        Wire::log_in(self.pgweir.port(), "postgres", "pgweir", None)
    }

    /// Asks again and again, each time with queries of its own.
    pub(crate) fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < PATIENCE, "it never came to pass: {what}");
        }
    }
}

/// Where a client's last statement went: one row for each server, with its role and name and why.
pub(crate) fn route(client: &mut Wire) -> Vec<Vec<String>> {
    client.rows("SHOW pgweir.route")
}

/// The role of the server that carried it out.
pub(crate) fn role(client: &mut Wire) -> String {
    route(client).last().unwrap()[1].clone()
}
