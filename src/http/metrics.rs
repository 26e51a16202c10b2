//! The metrics: what there is, and where each value comes from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::pool::cluster::Realm;
use crate::pool::meter::{Durations, Histogram, HistogramSums, TimeLimit};
use crate::pool::shared::{Cell, PoolShared, Stats, sum};
use crate::protocol::SqlState;
use crate::relay::hub::Hub;
use crate::session::screen::PinReason;

use super::page::{Kind, Metric, Page};

/// All metrics as they are now. Series are those of pools: whoever has not logged in makes none.
#[must_use]
pub(super) fn page(hub: &Hub) -> String {
    let all = hub.registry.pools();
    let realms = hub.registry.realms();
    let pools = groups(&all);
    let mut page = Page::default();
    page.begin(&BUILD_INFO);
    page.sample(&BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1);
    connections(&mut page, &pools);
    servers(&mut page, &all, &realms);
    work(&mut page, &pools);
    durations(&mut page, &pools);
    trouble(&mut page, &pools);
    pins(&mut page, &pools);
    super::routing::page(&mut page, hub, &realms);
    page.into_text()
}

/// A user's pools at a database: one for each server.
struct Pool<'a> {
    database: &'a str,
    user: &'a str,
    all: Vec<&'a PoolShared>,
}

impl Pool<'_> {
    fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.all.iter().flat_map(|pool| pool.cells())
    }
}

fn groups(pools: &[Arc<PoolShared>]) -> Vec<Pool<'_>> {
    let mut groups: BTreeMap<(&str, &str), Vec<&PoolShared>> = BTreeMap::new();
    for pool in pools {
        groups
            .entry((&*pool.database, &*pool.user))
            .or_default()
            .push(pool);
    }
    let group = |((database, user), all)| Pool { database, user, all };
    groups.into_iter().map(group).collect()
}

/// Who is there.
fn connections(page: &mut Page, pools: &[Pool<'_>]) {
    page.begin(&CLIENTS);
    for pool in pools {
        let now = Now::of(pool.cells());
        // A client that leaves may be counted as busy for a moment longer.
        let idle = now.clients.saturating_sub(now.active + now.waiting);
        for (state, count) in [("active", now.active), ("idle", idle), ("waiting", now.waiting)] {
            page.sample(&CLIENTS, &[pool.database, pool.user, state], count);
        }
    }
    let mut active: BTreeMap<&str, u32> = BTreeMap::new();
    for pool in pools {
        *active.entry(pool.database).or_default() += Now::of(pool.cells()).active;
    }
    page.begin(&DATABASE_CONNECTIONS_ACTIVE);
    for (database, count) in active {
        page.sample(&DATABASE_CONNECTIONS_ACTIVE, &[database], count);
    }
    page.begin(&POOL_WAITING);
    for pool in pools {
        page.sample(
            &POOL_WAITING,
            &[pool.database, pool.user],
            Now::of(pool.cells()).waiting,
        );
    }
}

/// The connections to each server.
fn servers(page: &mut Page, pools: &[Arc<PoolShared>], realms: &BTreeMap<Arc<str>, Arc<Realm>>) {
    page.begin(&SERVER_CONNECTIONS);
    for pool in pools {
        let view = realms.get(&pool.database).map(|realm| realm.cluster.view());
        let known = view.as_ref().and_then(|view| view.servers.get(pool.place));
        let name = known.map_or_else(
            || pool.target.load().server_name(),
            |server| server.name.to_string(),
        );
        let role = match &view {
            Some(view) if known.is_some() => view.role_at(pool.place),
            Some(_) | None => "primary",
        };
        let now = Now::of(pool.cells());
        for (state, count) in [
            ("active", now.active),
            ("connecting", now.connecting),
            ("idle", now.idle),
            ("tested", now.tested),
        ] {
            let values = [&*pool.database, &*pool.user, "", role, &name, state];
            page.sample(&SERVER_CONNECTIONS, &values, count);
        }
    }
}

/// A pool at this moment, over all workers.
#[derive(Clone, Copy, Debug, Default)]
struct Now {
    clients: u32,
    active: u32,
    waiting: u32,
    idle: u32,
    tested: u32,
    connecting: u32,
}

impl Now {
    fn of<'a>(cells: impl Iterator<Item = &'a Cell>) -> Self {
        let mut now = Self::default();
        for cell in cells {
            now.clients += sum(&[&cell.clients]);
            now.active += sum(&[&cell.active]);
            now.waiting += sum(&[&cell.waiting]);
            now.idle += sum(&[&cell.idle]);
            now.tested += sum(&[&cell.tested]);
            now.connecting += sum(&[&cell.connecting]);
        }
        now
    }
}

/// What was done.
fn work(page: &mut Page, pools: &[Pool<'_>]) {
    page.begin(&QUERIES);
    for pool in pools {
        let kinds: [(&str, Counter); 2] = [
            ("extended", |stats| &stats.extended_queries),
            ("simple", |stats| &stats.simple_queries),
        ];
        for (kind, counter) in kinds {
            let count = total(pool, counter);
            page.sample(&QUERIES, &[pool.database, pool.user, kind], count);
        }
    }
    let counters: [(&Metric, Counter); 3] = [
        (&TRANSACTIONS, |stats| &stats.transactions),
        (&RECEIVED, |stats| &stats.received),
        (&SENT, |stats| &stats.sent),
    ];
    for (metric, counter) in counters {
        page.begin(metric);
        for pool in pools {
            page.sample(metric, &[pool.database, pool.user], total(pool, counter));
        }
    }
}

type Counter = fn(&Stats) -> &AtomicU64;

fn total(pool: &Pool<'_>, counter: Counter) -> u64 {
    let counts = pool
        .cells()
        .map(|cell| counter(&cell.stats).load(Ordering::Relaxed));
    counts.fold(0, u64::wrapping_add)
}

type Timed = fn(&Durations) -> &Histogram;

/// How long it took.
fn durations(page: &mut Page, pools: &[Pool<'_>]) {
    let histograms: [(&Metric, Timed); 4] = [
        (&QUERY_DURATION, |durations| &durations.query),
        (&TRANSACTION_DURATION, |durations| &durations.transaction),
        (&POOL_WAIT, |durations| &durations.wait),
        (&SERVER_CONNECT, |durations| &durations.connect),
    ];
    for (metric, histogram) in histograms {
        page.begin(metric);
        for pool in pools {
            let mut sums = HistogramSums::default();
            for cell in pool.cells() {
                histogram(&cell.durations).add_to(&mut sums);
            }
            page.histogram(metric, &[pool.database, pool.user], &sums);
        }
    }
}

/// What went wrong.
fn trouble(page: &mut Page, pools: &[Pool<'_>]) {
    page.begin(&ERRORS);
    for pool in pools {
        let mut codes = BTreeMap::new();
        for cell in pool.cells() {
            cell.errors.add_to(&mut codes);
        }
        for (code, count) in codes {
            let code = code.as_ref().map_or("other", SqlState::as_str);
            page.sample(&ERRORS, &[pool.database, pool.user, code], count);
        }
    }
    page.begin(&TIMEOUTS);
    for pool in pools {
        for limit in TimeLimit::ALL {
            let count = count(pool, |cell| cell.time_limits.of(limit));
            page.sample(&TIMEOUTS, &[pool.database, pool.user, limit.as_str()], count);
        }
    }
}

fn pins(page: &mut Page, pools: &[Pool<'_>]) {
    page.begin(&PINS);
    for pool in pools {
        for reason in PinReason::ALL {
            let count = count(pool, |cell| cell.pins.begun(reason));
            page.sample(&PINS, &[pool.database, pool.user, reason.as_str()], count);
        }
    }
    page.begin(&PINNED_CLIENTS);
    for pool in pools {
        for reason in PinReason::ALL {
            let count = count(pool, |cell| cell.pins.now(reason).into());
            let values = [pool.database, pool.user, reason.as_str()];
            page.sample(&PINNED_CLIENTS, &values, count);
        }
    }
}

/// The sum over all workers.
fn count(pool: &Pool<'_>, of: impl Fn(&Cell) -> u64) -> u64 {
    pool.cells().map(of).fold(0, u64::wrapping_add)
}

const POOL: &[&str] = &["database", "user"];

const BUILD_INFO: Metric = Metric {
    name: "pgweir_build_info",
    kind: Kind::Gauge,
    labels: &["version"],
    help: "Always 1; its label tells what runs.",
};
const CLIENTS: Metric = Metric {
    name: "pgweir_clients",
    kind: Kind::Gauge,
    labels: &["database", "user", "state"],
    help: "Clients that are logged in: active has a server connection, waiting is in the queue for one.",
};
const SERVER_CONNECTIONS: Metric = Metric {
    name: "pgweir_server_connections",
    kind: Kind::Gauge,
    labels: &["database", "user", "shard", "role", "server", "state"],
    help: "Server connections of the pool: active serves a client, tested is made ready for the next one.",
};
const DATABASE_CONNECTIONS_ACTIVE: Metric = Metric {
    name: "database_connections_active",
    kind: Kind::Gauge,
    labels: &["database"],
    help: "Server connections that serve a client, over all pools of the database.",
};
const POOL_WAITING: Metric = Metric {
    name: "pgweir_pool_waiting",
    kind: Kind::Gauge,
    labels: POOL,
    help: "Clients in the queue for a server connection.",
};
const QUERIES: Metric = Metric {
    name: "pgweir_queries_total",
    kind: Kind::Counter,
    labels: &["database", "user", "kind"],
    help: "Queries that ended, well or not: simple ones, and executions of the extended protocol.",
};
const TRANSACTIONS: Metric = Metric {
    name: "pgweir_transactions_total",
    kind: Kind::Counter,
    labels: POOL,
    help: "Transactions that ended; a statement outside of a block is one.",
};
const RECEIVED: Metric = Metric {
    name: "pgweir_received_bytes_total",
    kind: Kind::Counter,
    labels: POOL,
    help: "Bytes that clients have sent.",
};
const SENT: Metric = Metric {
    name: "pgweir_sent_bytes_total",
    kind: Kind::Counter,
    labels: POOL,
    help: "Bytes of servers that clients were sent.",
};
const QUERY_DURATION: Metric = Metric {
    name: "pgweir_query_duration_seconds",
    kind: Kind::Histogram,
    labels: POOL,
    help: "From a request to the end of its answer, the wait for a connection left out; what is sent behind it at once counts as one.",
};
const TRANSACTION_DURATION: Metric = Metric {
    name: "pgweir_transaction_duration_seconds",
    kind: Kind::Histogram,
    labels: POOL,
    help: "From the beginning of a transaction to its end; what is sent behind it at once counts as one.",
};
const POOL_WAIT: Metric = Metric {
    name: "pgweir_pool_wait_seconds",
    kind: Kind::Histogram,
    labels: POOL,
    help: "Wait for a server connection, however it ended; a client that finds one idle has waited for 0.",
};
const SERVER_CONNECT: Metric = Metric {
    name: "pgweir_server_connect_seconds",
    kind: Kind::Histogram,
    labels: POOL,
    help: "Opening a server connection of the pool, its login included; failures are left out.",
};
const ERRORS: Metric = Metric {
    name: "pgweir_errors_total",
    kind: Kind::Counter,
    labels: &["database", "user", "sqlstate"],
    help: "Errors that clients were told, of servers and of pgweir itself.",
};
const TIMEOUTS: Metric = Metric {
    name: "pgweir_timeouts_total",
    kind: Kind::Counter,
    labels: &["database", "user", "timeout"],
    help: "Times that a time limit has passed, by the name of its setting.",
};
const PINS: Metric = Metric {
    name: "pgweir_pins_total",
    kind: Kind::Counter,
    labels: &["database", "user", "reason"],
    help: "Times that a client got a reason to keep its server connection.",
};
const PINNED_CLIENTS: Metric = Metric {
    name: "pgweir_pinned_clients",
    kind: Kind::Gauge,
    labels: &["database", "user", "reason"],
    help: "Clients that keep their server connection, by reason; one may have several.",
};
