//! The metrics: what there is, and where each value comes from.

use std::sync::Arc;

use crate::pool::shared::PoolShared;
use crate::relay::hub::Hub;
use crate::session::screen::PinReason;

use super::page::Page;

pub use super::page::{Kind, Metric};

/// All metrics as they are now.
#[must_use]
pub fn page(hub: &Hub) -> String {
    let pools = hub.registry.pools();
    let mut page = Page::default();
    pins(&mut page, &pools);
    page.into_text()
}

fn pins(page: &mut Page, pools: &[Arc<PoolShared>]) {
    page.begin(&PINS);
    for pool in pools {
        for reason in PinReason::ALL {
            let count: u64 = pool.cells().map(|cell| cell.pins.begun(reason)).sum();
            page.sample(&PINS, &[&pool.database, &pool.user, reason.as_str()], count);
        }
    }
    page.begin(&PINNED_CLIENTS);
    for pool in pools {
        for reason in PinReason::ALL {
            let count: u32 = pool.cells().map(|cell| cell.pins.now(reason)).sum();
            page.sample(
                &PINNED_CLIENTS,
                &[&pool.database, &pool.user, reason.as_str()],
                count,
            );
        }
    }
}

const PINS: Metric = Metric {
    name: "pgweir_pins_total",
    kind: Kind::Counter,
    labels: &["database", "user", "reason"],
    help: "Times a client got a reason to keep its server connection.",
};
const PINNED_CLIENTS: Metric = Metric {
    name: "pgweir_pinned_clients",
    kind: Kind::Gauge,
    labels: &["database", "user", "reason"],
    help: "Clients that keep their server connection, by reason.",
};
