//! The metrics of databases with replicas.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::pool::cluster::Realm;
use crate::pool::meter::RouteRole;
use crate::relay::hub::Hub;
use crate::relay::route::trace;
use crate::topology::Role;

use super::page::{Kind, Metric, Page, seconds};

type Realms = BTreeMap<Arc<str>, Arc<Realm>>;

/// All of them, as they are now.
pub(super) fn page(page: &mut Page, hub: &Hub, realms: &Realms) {
    routes(page, realms);
    plans(page, hub);
    servers(page, hub, realms);
    page.begin(&FAILOVERS);
    for (database, realm) in realms {
        page.sample(&FAILOVERS, &[database], realm.cluster.failovers());
    }
}

/// Where batches went, and why. What never happened makes no series.
fn routes(page: &mut Page, realms: &Realms) {
    page.begin(&ROUTES);
    for (database, realm) in realms {
        for (role, name) in [(RouteRole::Primary, "primary"), (RouteRole::Replica, "replica")] {
            for (index, reason) in trace::labels() {
                let count: u64 = realm.meters().map(|meter| meter.of(role, index)).sum();
                if count > 0 {
                    page.sample(&ROUTES, &[database, "", name, reason], count);
                }
            }
        }
    }
    page.begin(&FUNCTIONS);
    for (database, realm) in realms {
        let mut functions = BTreeMap::new();
        for meter in realm.meters() {
            meter.add_functions_to(&mut functions);
        }
        for (function, count) in functions {
            let function = if function.is_empty() { "other" } else { function };
            page.sample(&FUNCTIONS, &[database, function], count);
        }
    }
}

fn plans(page: &mut Page, hub: &Hub) {
    page.begin(&PLAN_HITS);
    page.sample(&PLAN_HITS, &[], hub.plans.counts.hits());
    page.begin(&PLAN_MISSES);
    page.sample(&PLAN_MISSES, &[], hub.plans.counts.misses.load(Ordering::Relaxed));
    page.begin(&PLAN_ENTRIES);
    page.sample(&PLAN_ENTRIES, &[], hub.plans.entries());
}

/// How the servers are.
fn servers(page: &mut Page, hub: &Hub, realms: &Realms) {
    page.begin(&SERVER_UP);
    for (database, realm) in realms {
        for server in &realm.cluster.view().servers {
            let is_up = u8::from(server.role != Role::Unknown);
            page.sample(&SERVER_UP, &[database, "", &server.name], is_up);
        }
    }
    let now = hub.registry.clock.now();
    page.begin(&LAG_SECONDS);
    for (database, realm) in realms {
        let view = realm.cluster.view();
        for (place, server) in view.servers.iter().enumerate() {
            if let Some(lag) = view.lag(place, now) {
                let micros = crate::pool::clock::micros(lag.time);
                page.sample(&LAG_SECONDS, &[database, "", &server.name], seconds(micros));
            }
        }
    }
    page.begin(&LAG_BYTES);
    for (database, realm) in realms {
        let view = realm.cluster.view();
        for (place, server) in view.servers.iter().enumerate() {
            if let Some(lag) = view.lag(place, now) {
                page.sample(&LAG_BYTES, &[database, "", &server.name], lag.bytes);
            }
        }
    }
}

const SERVER: &[&str] = &["database", "shard", "server"];

const ROUTES: Metric = Metric {
    name: "pgweir_routes_total",
    kind: Kind::Counter,
    labels: &["database", "shard", "role", "reason"],
    help: "Batches of databases with replicas, by the kind of server they went to, and why.",
};
const FUNCTIONS: Metric = Metric {
    name: "pgweir_primary_functions_total",
    kind: Kind::Counter,
    labels: &["database", "function"],
    help: "Batches that went to the primary because of a function that is not known to only read.",
};
const PLAN_HITS: Metric = Metric {
    name: "pgweir_plan_cache_hits",
    kind: Kind::Counter,
    labels: &[],
    help: "Texts of databases with replicas that had a plan.",
};
const PLAN_MISSES: Metric = Metric {
    name: "pgweir_plan_cache_misses",
    kind: Kind::Counter,
    labels: &[],
    help: "Texts that had to be parsed.",
};
const PLAN_ENTRIES: Metric = Metric {
    name: "pgweir_plan_cache_entries",
    kind: Kind::Gauge,
    labels: &[],
    help: "Plans that workers share.",
};
const SERVER_UP: Metric = Metric {
    name: "pgweir_server_up",
    kind: Kind::Gauge,
    labels: SERVER,
    help: "Whether a server of a database with replicas is heard of.",
};
const LAG_SECONDS: Metric = Metric {
    name: "pgweir_replica_lag_seconds",
    kind: Kind::Gauge,
    labels: SERVER,
    help: "The age of the oldest position of the primary that a replica has not replayed.",
};
const LAG_BYTES: Metric = Metric {
    name: "pgweir_replica_lag_bytes",
    kind: Kind::Gauge,
    labels: SERVER,
    help: "What the primary has written and a replica has not replayed, as of the last answers of both.",
};
const FAILOVERS: Metric = Metric {
    name: "pgweir_failovers_total",
    kind: Kind::Counter,
    labels: &["database"],
    help: "Times that another server became primary.",
};
