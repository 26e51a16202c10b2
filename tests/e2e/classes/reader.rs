//! A catalog for plans, read with SQL.

use pgweir::plan::{
    Catalog, Circumstances, Class, Function, Judgement, Patterns, Reason, ReasonKind, Relation, Spelling,
    View, judge_views, plan,
};

use crate::harness::{Postgres, Wire};

/// What the database has of its own. It needs the stack of a planner.
pub(super) fn read(primary: &Postgres) -> Catalog {
    let mut wire = Wire::log_in(primary.port(), "postgres", "postgres", None);
    wire.rows("SET search_path = ''");
    let mut catalog = Catalog::default();
    let judgement = |letter: &str| match letter {
        "t" => Judgement::Volatile,
        _ => Judgement::Reads,
    };
    for row in wire.rows(FUNCTIONS) {
        let function = Function {
            arguments: row[2].as_str().into(),
            judgement: judgement(&row[3]),
        };
        catalog.add_function(&row[0], &row[1], function);
        if row[3] == "t" && row[4] == "t" {
            let reason = Reason::new(ReasonKind::VolatileFunction, format!("{}.{}", row[0], row[1]));
            catalog.add_row_function(&row[1], reason);
        }
    }
    for row in wire.rows(OPERATORS) {
        catalog.add_operator(&row[0], &row[1], judgement(&row[2]));
    }
    for row in wire.rows(TYPES) {
        let checks = reads(&catalog, &row[2]);
        catalog.add_type(&row[0], &row[1], checks.map_or(Judgement::Reads, Judgement::Acts));
    }
    for row in wire.rows(COMPOSITE_TYPES) {
        let casts = reads(&catalog, &row[2]);
        catalog.add_type(&row[0], &row[1], casts.map_or(Judgement::Reads, Judgement::Acts));
    }
    for row in wire.rows(RELATIONS) {
        let policies = reads(&catalog, &row[4]);
        let relation = match (row[2].as_str(), row[3].as_str()) {
            ("S", _) => Relation::Sequence,
            ("f", _) => Relation::Foreign,
            (_, "u") => Relation::Unlogged,
            (_, "t") => Relation::Temporary,
            _ => policies.map_or(Relation::Logged, Relation::Acts),
        };
        catalog.add_relation(&row[0], &row[1], relation);
    }
    let views = wire.rows(VIEWS).into_iter().map(|row| View {
        schema: row[0].as_str().into(),
        name: row[1].as_str().into(),
        query: row[2].as_str().into(),
    });
    judge_views(&mut catalog, views.collect(), &Patterns::default());
    catalog
}

/// What an expression does beside reading.
fn reads(catalog: &Catalog, expressions: &str) -> Option<Reason> {
    let circumstances = Circumstances {
        catalog,
        search_path: &[],
        functions: &Patterns::default(),
        spelling: Spelling::Standard,
    };
    let plan = plan(format!("SELECT {expressions}").as_bytes(), &circumstances);
    (plan.class() != Class::Read).then(|| plan.reason().clone())
}

/// An aggregate is as volatile as the functions that it is made of.
const FUNCTIONS: &str = "
SELECT n.nspname, p.proname, pg_get_function_identity_arguments(p.oid),
    p.provolatile = 'v' OR EXISTS (SELECT FROM pg_aggregate a JOIN pg_proc f ON f.oid IN (aggtransfn, aggfinalfn,
        aggcombinefn, aggmtransfn, aggmfinalfn) WHERE a.aggfnoid = p.oid AND f.provolatile = 'v'),
    p.pronargs = 1 AND (SELECT typtype FROM pg_type WHERE oid = p.proargtypes[0]) = 'c'
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.oid >= 16384";

const OPERATORS: &str = "
SELECT n.nspname, o.oprname, p.provolatile = 'v' FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode
JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE o.oid >= 16384";

/// With the checks of a domain as a list of expressions; `VALUE` is a column there.
const TYPES: &str = "
SELECT n.nspname, t.typname, coalesce(string_agg(pg_get_expr(c.conbin, 0), ', '), '1')
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_constraint c ON c.contypid = t.oid
WHERE t.oid >= 16384 AND t.typtype IN ('d', 'e', 'r', 'm') GROUP BY 1, 2";

/// With a cast to the type of each column; types of tables' rows among them.
const COMPOSITE_TYPES: &str = "
SELECT n.nspname, t.typname, string_agg('NULL::' || format_type(a.atttypid, NULL), ', ')
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace JOIN pg_attribute a ON a.attrelid = t.typrelid
WHERE t.oid >= 16384 AND t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped GROUP BY 1, 2";

/// A table is unlogged where one of its inheritors is; with its policies as a list of expressions.
const RELATIONS: &str = "
WITH RECURSIVE heirs(root, oid) AS (SELECT oid, oid FROM pg_class UNION
    SELECT root, inhrelid FROM heirs JOIN pg_inherits ON inhparent = heirs.oid)
SELECT n.nspname, c.relname, c.relkind, max(h.relpersistence),
    (SELECT coalesce(string_agg(pg_get_expr(polqual, polrelid), ', '), '1') FROM pg_policy WHERE polrelid = c.oid)
FROM heirs JOIN pg_class c ON c.oid = root JOIN pg_class h ON h.oid = heirs.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'm', 'S', 'f') GROUP BY c.oid, 1, 2, 3";

const VIEWS: &str = "
SELECT n.nspname, c.relname, pg_get_viewdef(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid >= 16384 AND c.relkind = 'v'";
