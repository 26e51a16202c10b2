//! What the console shows of databases with replicas.

use crate::plan::{Class, Plan};
use crate::pool::shared::{PoolShared, sum};
use crate::relay::hub::Hub;

use super::table::{Row, Value};

/// `SHOW REPLICAS`: the servers, by database and in the order of the configuration.
pub(super) fn servers(hub: &Hub) -> Vec<Row> {
    let now = hub.registry.clock.now();
    let pools = hub.registry.pools();
    let mut rows = Vec::new();
    for (database, realm) in hub.registry.realms() {
        let view = realm.cluster.view();
        for (place, server) in view.servers.iter().enumerate() {
            let own = || {
                pools
                    .iter()
                    .filter(|pool| pool.database == database && pool.place == place)
            };
            let total = |of: fn(&PoolShared) -> u32| own().map(|pool| of(pool)).sum::<u32>();
            let lag = view.lag(place, now);
            let micros = |lag: crate::topology::Lag| crate::pool::clock::micros(lag.time);
            rows.push(vec![
                (*database).into(),
                (*server.name).into(),
                view.role_at(place).into(),
                yes_no(server.is_usable).into(),
                server.weight.into(),
                server.timeline.into(),
                server.latest().map_or(Value::Null, |lsn| lsn.to_string().into()),
                lag.map_or(Value::Null, |lag| lag.bytes.into()),
                lag.map_or(Value::Null, |lag| micros(lag).into()),
                total(PoolShared::active).into(),
                total(|pool| pool.cells().map(|cell| sum(&[&cell.idle])).sum()).into(),
            ]);
        }
    }
    rows
}

/// `SHOW ROUTES`: plans that workers share, by database and text.
pub(super) fn plans(hub: &Hub) -> Vec<Row> {
    let realms = hub.registry.realms();
    let mut rows = Vec::new();
    for listed in hub.plans.list(LISTED_MAX) {
        let database = realms.iter().find(|(_, realm)| realm.id == listed.realm);
        // Plans of databases that are gone are never found again.
        let Some((database, _)) = database else { continue };
        rows.push((
            (database.clone(), listed.text.clone()),
            vec![
                (**database).into(),
                (*listed.user).into(),
                (*listed.search_path).into(),
                role(&listed.plan).into(),
                listed.plan.reason().to_string().into(),
                (*listed.text).into(),
            ],
        ));
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows.into_iter().map(|(_, row)| row).collect()
}

fn role(plan: &Plan) -> &'static str {
    match plan.class() {
        Class::Read => "replica",
        Class::Write => "primary",
        Class::Session
        | Class::Begin(_)
        | Class::Modes(_)
        | Class::Within
        | Class::Prepare(_)
        | Class::Execute => "session",
    }
}

fn yes_no(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "no" }
}

/// Plans that are listed: a person reads no more, and a tool should not have to.
const LISTED_MAX: usize = 10_000;
