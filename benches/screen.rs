//! The cost of looking at a text: what each simple query pays, and each text that is prepared for the first time.

use divan::{Bencher, black_box};
use pgweir::session::screen::{Effects, screen};
use pgweir::session::{begin, sql_names};

fn main() {
    divan::main();
}

/// What drivers, ORMs and people send.
const TEXTS: [&str; 8] = [
    "begin", "point", "orm", "insert", "update", "strings", "several", "do",
];

fn text(name: &str) -> &'static [u8] {
    match name {
        "begin" => b"BEGIN ISOLATION LEVEL REPEATABLE READ",
        "point" => b"SELECT abalance FROM pgbench_accounts WHERE aid = $1",
        "orm" => {
            b"SELECT \"shop_order\".\"id\", \"shop_order\".\"number\", \"shop_order\".\"placed_at\", \
            \"shop_order\".\"customer_id\", \"shop_customer\".\"name\", COUNT(\"shop_line\".\"id\") AS \"lines\" FROM \
            \"shop_order\" INNER JOIN \"shop_customer\" ON (\"shop_order\".\"customer_id\" = \"shop_customer\".\"id\") LEFT \
            OUTER JOIN \"shop_line\" ON (\"shop_line\".\"order_id\" = \"shop_order\".\"id\") WHERE (\"shop_order\".\"state\" \
            IN ($1, $2) AND \"shop_customer\".\"region\" = $3) GROUP BY \"shop_order\".\"id\", \"shop_customer\".\"name\" \
            ORDER BY \"shop_order\".\"placed_at\" DESC LIMIT 21"
        }
        "insert" => {
            b"INSERT INTO \"shop_line\" (\"order_id\", \"product_id\", \"amount\", \"note\") VALUES ($1, $2, $3, $4) \
            RETURNING \"shop_line\".\"id\""
        }
        "update" => b"UPDATE \"shop_order\" SET \"state\" = $1, \"changed_at\" = now() WHERE \"shop_order\".\"id\" = $2",
        "strings" => {
            b"INSERT INTO note (title, body) VALUES ('It''s a title', 'Some words; more of them (and others), \
            a path C:\\temp and 100% of it'), (E'tab\\there', $tag$ not 'quoted' $tag$)"
        }
        "several" => b"SET LOCAL search_path = a, b; SELECT set_config('app.tenant', '42', true); SELECT count(*) FROM t",
        _ => {
            b"DO $$ DECLARE n int; BEGIN SELECT count(*) INTO n FROM t WHERE a = 'x'; IF n > 3 THEN SET app.many = 'on'; \
            END IF; END $$"
        }
    }
}

#[divan::bench(args = TEXTS)]
fn screened(bencher: Bencher<'_, '_>, name: &str) {
    let text = text(name);
    bencher.bench_local(|| -> Effects { screen(black_box(text)) });
}

#[divan::bench(args = TEXTS)]
fn begun(bencher: Bencher<'_, '_>, name: &str) {
    let text = [text(name), b"\0"].concat();
    bencher.bench_local(|| begin::Command::read(black_box(&text)));
}

#[divan::bench(args = TEXTS)]
fn named(bencher: Bencher<'_, '_>, name: &str) {
    let text = text(name);
    bencher.bench_local(|| (sql_names::only(black_box(text)), sql_names::all(black_box(text))));
}
