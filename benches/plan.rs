//! The cost of knowing what a text does: its literals taken out, and planned anew.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails may stop")]
#![allow(clippy::indexing_slicing, reason = "a benchmark that fails may stop")]

use std::sync::Arc;
use std::time::Duration;

use divan::Bencher;
use divan::counter::BytesCount;
use pgweir::plan::{Catalog, Circumstances, Normaliser, Patterns, Plan, Relation, Spelling, plan};
use pgweir::relay::plans::{Meaning, Plans, Sense, SharedPlans};

fn main() {
    divan::main();
}

#[divan::bench(args = NAMES, min_time = MIN_TIME)]
fn normalise(bencher: Bencher<'_, '_>, name: &str) {
    let text = text(name);
    let mut normaliser = Normaliser::new();
    bencher.counter(BytesCount::new(text.len())).bench_local(|| {
        normaliser
            .normalise(text.as_bytes(), Spelling::Standard)
            .unwrap()
            .len()
    });
}

/// The same text again.
#[divan::bench(args = NAMES, min_time = MIN_TIME)]
fn find_same(bencher: Bencher<'_, '_>, name: &str) {
    let text = text(name);
    let (plans, sense) = knowing(text);
    bencher.counter(BytesCount::new(text.len())).bench_local(|| {
        plans
            .find(sense, text.as_bytes(), |plan, _| plan.class())
            .unwrap()
    });
}

/// A text with literals that never come again.
#[divan::bench(args = NAMES, min_time = MIN_TIME)]
fn find_other_literals(bencher: Bencher<'_, '_>, name: &str) {
    let (plans, sense) = knowing(text(name));
    let mut text = format!("{} -- {:08}", text(name), 0).into_bytes();
    let digits = text.len() - 8;
    let mut number = 0_u32;
    bencher.counter(BytesCount::new(text.len())).bench_local(|| {
        number += 1;
        for (place, digit) in text.iter_mut().skip(digits).enumerate() {
            *digit = b"0123456789abcdef"[(number >> (4 * place)) as usize % 16];
        }
        plans.find(sense, &text, |plan, _| plan.class()).unwrap()
    });
}

#[divan::bench(args = NAMES, min_time = MIN_TIME)]
fn find_prepared(bencher: Bencher<'_, '_>, name: &str) {
    let text = text(name);
    let (plans, sense) = knowing(text);
    bencher.bench_local(|| {
        plans
            .find_prepared(sense, 7, text.as_bytes(), |plan, _| plan.class())
            .unwrap()
    });
}

/// A worker that knows this text.
fn knowing(text: &str) -> (Plans, Sense) {
    let shared = SharedPlans::new();
    let plans = Plans::new(&shared);
    let sense = plans.sense_of(&Meaning {
        stamp: 1,
        path: "public".into(),
        user: "app".into(),
        spelling: Spelling::Standard,
    });
    shared.take_up(sense, text.as_bytes(), &Arc::new(planned(text, &catalog())));
    (plans, sense)
}

#[divan::bench(args = NAMES, min_time = MIN_TIME)]
fn plan_anew(bencher: Bencher<'_, '_>, name: &str) {
    let text = text(name);
    let catalog = catalog();
    bencher
        .counter(BytesCount::new(text.len()))
        .bench_local(|| planned(text, &catalog).class());
}

fn planned(text: &str, catalog: &Catalog) -> Plan {
    let circumstances = Circumstances {
        catalog,
        search_path: &["public".into()],
        functions: &Patterns::default(),
        spelling: Spelling::Standard,
    };
    plan(text.as_bytes(), &circumstances)
}

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    for name in [
        "pgbench_accounts",
        "orders",
        "customers",
        "auth_user",
        "auth_group",
    ] {
        catalog.add_relation("public", name, Relation::Logged);
    }
    catalog
}

fn text(name: &str) -> &'static str {
    let found = TEXTS.iter().find(|(known, _)| *known == name);
    found.map(|(_, text)| *text).unwrap()
}

const NAMES: [&str; 4] = ["pgbench", "orm", "insert_rows", "report"];

const TEXTS: [(&str, &str); 4] = [
    (
        "pgbench",
        "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;",
    ),
    (
        "orm",
        r#"SELECT "auth_user"."id", "auth_user"."password", "auth_user"."last_login", "auth_user"."is_superuser",
        "auth_user"."username", "auth_user"."first_name", "auth_user"."last_name", "auth_user"."email",
        "auth_user"."is_staff", "auth_user"."is_active", "auth_user"."date_joined" FROM "auth_user"
        INNER JOIN "auth_group" ON ("auth_user"."id" = "auth_group"."user_id") WHERE ("auth_user"."is_active" = true
        AND "auth_group"."name" = 'staff' AND UPPER("auth_user"."email"::text) LIKE UPPER('%example.com'))
        ORDER BY "auth_user"."date_joined" DESC LIMIT 21"#,
    ),
    (
        "insert_rows",
        "INSERT INTO orders (customer, item, price, placed) VALUES (1, 'a thing', 12.50, '2024-01-01'), \
         (2, 'another thing', 99.99, '2024-01-02'), (3, 'a third', 1.25, '2024-01-03'), (4, 'it''s', 0, '2024-01-04')",
    ),
    (
        "report",
        "WITH recent AS (SELECT o.*, row_number() OVER (PARTITION BY o.customer ORDER BY o.placed DESC) AS n FROM orders o \
         WHERE o.placed > now() - interval '30 days') SELECT c.name, sum(r.price) AS total, count(*) FILTER (WHERE r.n = 1) \
         FROM recent r JOIN customers c ON c.id = r.customer GROUP BY c.name HAVING sum(r.price) > 100 ORDER BY 2 DESC",
    ),
];

const MIN_TIME: Duration = Duration::from_millis(500);
