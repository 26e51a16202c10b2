//! The demonstration, and the private PostgreSQL servers that it and the tests run on.
//!
//! A primary, two streaming replicas and three shards, each a server of its own with the same small shop in it. Passwords
//! are needed over TCP, so that other users of the machine get no superuser; the role `app` has a well-known one.

pub mod cluster;

use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::ControlFlow;
use std::thread;
use std::time::Instant;

use cluster::{Account, Binaries, ClusterError, Instance, InstanceOptions, Recipe, Template};

/// The running servers. Dropped, they end and their files go.
#[derive(Debug)]
pub struct Demo {
    listen: SocketAddr,
    replicas: Vec<Instance>,
    shards: Vec<Instance>,
    /// After the replicas, so that they do not complain of a lost primary.
    primary: Instance,
}

/// What may be chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DemoOptions {
    /// Where pgweir listens; else port 6432 of the loopback address, or a free one when that is taken.
    pub listen: Option<SocketAddr>,
}

impl Demo {
    /// Starts all servers and fills them. `progress` is told of each step that is done, as a line, and may end the start;
    /// what has been started by then is removed. Takes a few seconds and blocks.
    pub fn start(
        options: &DemoOptions,
        progress: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Self, DemoError> {
        let mut steps = Steps {
            progress,
            begun: Instant::now(),
        };
        let listen = options.listen.map_or_else(choose_listen, Ok)?;
        let binaries = Binaries::find()?;
        let owner = match Account::choose()? {
            Account::Own => String::new(),
            Account::Other { name, .. } => format!(", run as user {name}"),
        };
        steps.done(&format!("{}{owner}", binaries.version()))?;
        let template = Template::make(binaries, &Recipe::scram())?;
        steps.done("template data directory made")?;
        let plain = InstanceOptions::default();
        let mut primary = template.instance(&plain)?;
        let mut shards = (0..SHARDS)
            .map(|_| template.instance(&plain))
            .collect::<Result<Vec<_>, _>>()?;
        // All start side by side; each is then waited for.
        primary.spawn()?;
        shards.iter_mut().try_for_each(Instance::spawn)?;
        primary.wait_ready()?;
        steps.done(&format!("primary on port {}", primary.port()))?;
        let mut replicas = (0..REPLICAS)
            .map(|_| template.replica_of(&primary, &plain))
            .collect::<Result<Vec<_>, _>>()?;
        replicas.iter_mut().try_for_each(Instance::spawn)?;
        for (shard, number) in shards.iter_mut().zip(1..) {
            shard.wait_ready()?;
            steps.done(&format!("shard{number} on port {}", shard.port()))?;
        }
        fill(&primary, &shards)?;
        steps.done("sample data loaded")?;
        for (replica, number) in replicas.iter_mut().zip(1..) {
            replica.wait_ready()?;
            replica.wait_for_replay(&primary)?;
            steps.done(&format!("replica{number} on port {}, streaming", replica.port()))?;
        }
        Ok(Self {
            listen,
            replicas,
            shards,
            primary,
        })
    }

    /// The configuration of a pgweir in front of all of them.
    #[must_use]
    pub fn config_toml(&self) -> String {
        let mut text = format!(
            "listen = [\"{}\"]\nadmin_users = [\"app\"]\n\n[auth]\nmethod = \"scram-sha-256\"\n\n[users.app]\npassword = \"{PASSWORD}\"\n",
            self.listen
        );
        for (name, _, instance) in self.databases() {
            let _ = write!(text, "\n[databases.{name}]\nurl = \"{}\"\n", direct_url(instance));
            if name == "app" {
                let urls = self
                    .replicas
                    .iter()
                    .map(|replica| format!("\"{}\"", direct_url(replica)));
                let urls: Vec<String> = urls.collect();
                let _ = writeln!(text, "read_replicas = [{}]", urls.join(", "));
            }
        }
        text
    }

    /// What to paste, for a pgweir that listens there.
    #[must_use]
    pub fn table(&self, listen: SocketAddr) -> String {
        let mut text = format!(
            "\n  {:<20} {:<46} {}\n",
            "what", "DATABASE_URL through pgweir", "directly, port"
        );
        for (name, what, instance) in self.databases() {
            let _ = writeln!(
                text,
                "  {what:<20} {:<46} {}",
                url(listen, &name),
                instance.port()
            );
        }
        let _ = write!(
            text,
            "  {:<20} {}\n\nTry it:\n\n  psql {} -c 'SELECT count(*) AS users FROM users'\n\nWhere that went, and why:\n\n  psql {} -c 'SELECT count(*) AS users FROM users' -c 'SHOW pgweir.route'\n\nCtrl-C stops and removes all of it.\n",
            "console",
            url(listen, "pgweir"),
            url(listen, "app"),
            url(listen, "app"),
        );
        text
    }

    /// Where pgweir is to listen.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Name, meaning and server of each database.
    fn databases(&self) -> impl Iterator<Item = (String, String, &Instance)> {
        let replicas = self
            .replicas
            .iter()
            .zip(1..)
            .map(|(replica, n)| (format!("replica{n}"), format!("replica {n}"), replica));
        let shards = self
            .shards
            .iter()
            .zip(1..)
            .map(|(shard, n)| (format!("shard{n}"), format!("shard {n}"), shard));
        std::iter::once(("app".to_owned(), "primary, 2 replicas".to_owned(), &self.primary))
            .chain(replicas)
            .chain(shards)
    }
}

/// Why there is no demonstration.
#[derive(Debug)]
pub enum DemoError {
    Cluster(ClusterError),
    /// The caller wanted no more of it.
    Stopped,
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(error) => error.fmt(f),
            Self::Stopped => f.write_str("stopped before it was up"),
        }
    }
}

impl std::error::Error for DemoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Cluster(error) => Some(error),
            Self::Stopped => None,
        }
    }
}

impl From<ClusterError> for DemoError {
    fn from(error: ClusterError) -> Self {
        Self::Cluster(error)
    }
}

struct Steps<P> {
    progress: P,
    begun: Instant,
}

impl<P: FnMut(&str) -> ControlFlow<()>> Steps<P> {
    fn done(&mut self, what: &str) -> Result<(), DemoError> {
        match (self.progress)(&format!("{:5.1} s  {what}", self.begun.elapsed().as_secs_f32())) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(DemoError::Stopped),
        }
    }
}

fn choose_listen() -> Result<SocketAddr, ClusterError> {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, USUAL_PORT));
    if TcpListener::bind(usual).is_ok() {
        return Ok(usual);
    }
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, cluster::port::free()?)))
}

/// The whole shop on the primary, and on each shard the rows that PostgreSQL's own hash partitioning would put there.
fn fill(primary: &Instance, shards: &[Instance]) -> Result<(), ClusterError> {
    let everything = "true".to_owned();
    let parts = (0..).zip(shards).map(|(remainder, shard)| {
        (
            shard,
            format!(
                "satisfies_hash_partition('pg_temp.hashed'::regclass, {}, {remainder}, key)",
                shards.len()
            ),
        )
    });
    let jobs: Vec<(&Instance, String)> = std::iter::once((primary, everything)).chain(parts).collect();
    thread::scope(|scope| {
        let running: Vec<_> = jobs
            .iter()
            .map(|(instance, part)| scope.spawn(|| fill_one(instance, part)))
            .collect();
        running.into_iter().try_for_each(|job| {
            job.join().unwrap_or_else(|_| {
                Err(ClusterError::Start {
                    why: "was not filled",
                    log: String::new(),
                })
            })
        })
    })
}

fn fill_one(instance: &Instance, part: &str) -> Result<(), ClusterError> {
    instance.query(
        "postgres",
        &format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'"),
    )?;
    instance.query("postgres", "CREATE DATABASE app OWNER app")?;
    let users = part.replace("key", "n");
    let orders = part.replace("key", "1 + n % 1000");
    instance.query(
        "app",
        &format!(
            "SET ROLE app;
             CREATE TEMP TABLE hashed (key bigint) PARTITION BY HASH (key);
             CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL);
             CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint NOT NULL, amount numeric(10, 2) NOT NULL);
             CREATE INDEX ON orders (user_id);
             INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1::bigint, 1000) AS n WHERE {users};
             INSERT INTO orders SELECT n, 1 + n % 1000, n % 97 + 0.99 FROM generate_series(1::bigint, 5000) AS n WHERE {orders};
             ANALYZE"
        ),
    )?;
    Ok(())
}

fn url(address: SocketAddr, database: &str) -> String {
    format!("postgresql://app:{PASSWORD}@{address}/{database}")
}

fn direct_url(instance: &Instance) -> String {
    url(SocketAddr::from((Ipv4Addr::LOCALHOST, instance.port())), "app")
}

const USUAL_PORT: u16 = 6432;
const REPLICAS: usize = 2;
const SHARDS: usize = 3;

/// Of the role `app`, which owns nothing but the sample data.
const PASSWORD: &str = "app";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demonstration_starts_and_the_shards_share_the_rows() {
        let mut lines = Vec::new();
        let demo = Demo::start(&DemoOptions::default(), |line| {
            lines.push(line.to_owned());
            ControlFlow::Continue(())
        });
        let demo = demo.unwrap();
        assert_eq!(lines.len(), 3 + SHARDS + 1 + REPLICAS, "{lines:#?}");
        let count = |instance: &Instance| instance.query("app", "SELECT count(*) FROM orders").unwrap();
        let counts: Vec<u32> = demo
            .shards
            .iter()
            .map(|shard| count(shard).parse().unwrap())
            .collect();
        assert!(
            counts.iter().sum::<u32>() == 5000 && counts.iter().all(|part| *part > 1000),
            "{counts:?}"
        );
        assert_eq!(count(&demo.replicas[1]), "5000");
        let table: toml::Table = demo.config_toml().parse().unwrap();
        assert_eq!(
            table["databases"].as_table().unwrap().len(),
            1 + REPLICAS + SHARDS
        );
        let replicas = table["databases"]["app"]["read_replicas"].as_array().unwrap();
        assert_eq!(replicas.len(), REPLICAS);
        let homes: Vec<_> = demo
            .databases()
            .map(|(_, _, instance)| instance.data_directory())
            .collect();
        drop(demo);
        assert!(homes.iter().all(|home| !home.exists()));
    }

    #[test]
    fn a_start_that_is_stopped_leaves_nothing() {
        let mut steps = 0;
        let stopped = Demo::start(&DemoOptions::default(), |_| {
            steps += 1;
            if steps == 3 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert!(matches!(stopped, Err(DemoError::Stopped)));
    }
}
