//! Reading what a database has from its catalogs.
//!
//! What only shows inside of something is judged by its definition, planned like any other text: views, policies, checks of
//! domains. What cannot be judged is left out, and what is not known goes to the primary.

use crate::plan::{self, Body, Class, Function, Judgement, Reason, ReasonKind, Relation, Spelling};
use crate::pool::conn::ServerConn;
use crate::pool::converse::{self, Rows, Trouble};
use crate::session::screen;

use super::{Defaults, Isolation, Knowledge, Known};

/// Everything that was read, as it came.
#[derive(Debug)]
struct Found {
    functions: Rows,
    relations: Rows,
    types: Rows,
    operators: Rows,
    casts: Rows,
    definitions: Rows,
    made_types: Rows,
}

/// Reads the catalogs by a connection at rest, and takes up what they say. What is changed meanwhile is read again by whoever
/// is told of it.
///
/// # Errors
/// The server's, or the loss of the connection.
pub async fn read(conn: &mut ServerConn, knowledge: &Knowledge) -> Result<(), Trouble> {
    let changes = knowledge.changes();
    let found = Found {
        functions: ask(conn, FUNCTIONS).await?,
        relations: ask(conn, RELATIONS).await?,
        types: ask(conn, TYPES).await?,
        operators: ask(conn, OPERATORS).await?,
        casts: ask(conn, CASTS).await?,
        definitions: ask(conn, DEFINITIONS).await?,
        made_types: ask(conn, &format!("SET LOCAL search_path = ''; {MADE_TYPES}")).await?,
    };
    let base = knowledge.blank(changes);
    let judged = tokio::task::spawn_blocking(move || on_large_stack(move || judge(&found, base)))
        .await
        .ok()
        .flatten();
    let Some(known) = judged else {
        return Err(converse::lost("The catalogs could not be judged."));
    };
    knowledge.learn(known);
    Ok(())
}

async fn ask(conn: &mut ServerConn, sql: &str) -> Result<Rows, Trouble> {
    let rows = converse::query_within(conn, sql, ANSWER_LEN_MAX).await?;
    Ok(rows)
}

/// Planning goes as deep as what is planned. None: it was not to be had.
pub fn on_large_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let thread = std::thread::Builder::new()
        .name("catalog".to_owned())
        .stack_size(plan::STACK_LEN)
        .spawn(work);
    thread.ok()?.join().ok()
}

fn judge(found: &Found, mut known: Known) -> Known {
    let catalog = &mut known.catalog;
    for row in &found.functions {
        let [schema, name, arguments, judgement, is_of_row, ..] = texts::<7>(row);
        let judgement = volatility(judgement);
        if is_of_row == "t" && judgement != Judgement::Reads {
            let subject = format!("{schema}.{name}({arguments})");
            catalog.add_row_function(name, Reason::new(ReasonKind::VolatileFunction, subject));
        }
        let arguments = arguments.into();
        catalog.add_function(schema, name, Function { arguments, judgement });
    }
    for row in &found.operators {
        let [schema, name, judgement] = texts(row);
        catalog.add_operator(schema, name, volatility(judgement));
    }
    for row in &found.casts {
        let [name] = texts(row);
        catalog.add_implicit_cast(Reason::new(ReasonKind::VolatileFunction, name));
    }
    for row in &found.relations {
        let [schema, name, kind] = texts(row);
        if let Some(relation) = relation(kind) {
            catalog.add_relation(schema, name, relation);
        }
    }
    for row in &found.types {
        let [schema, name, judgement] = texts(row);
        catalog.add_type(schema, name, volatility(judgement));
    }
    define(&mut known, &found.definitions, &found.made_types);
    let bodies: Vec<_> = found.functions.iter().filter_map(|row| body(row)).collect();
    plan::restrain(&mut known.catalog, &bodies, &known.functions);
    known
}

/// What a function runs, if that is known, and changes nothing of the session.
fn body(row: &[Option<Vec<u8>>]) -> Option<Body<'_>> {
    let [schema, name, arguments, _, _, language, text] = texts(row);
    if text.is_empty() {
        return None;
    }
    let effects = screen::judge(language.as_bytes(), text.as_bytes());
    (effects.are_none() && effects.sets.is_empty()).then_some(Body {
        schema,
        name,
        arguments,
        text,
    })
}

/// What is judged by what stands inside, from the inside to the outside: each round knows those that the one before has judged.
fn define(known: &mut Known, definitions: &Rows, made_types: &Rows) {
    let mut open: Vec<[&str; 4]> = definitions
        .iter()
        .chain(made_types)
        .map(|row| texts(row))
        .collect();
    for [_, schema, name, _] in open.iter().filter(|[what, ..]| *what == "type") {
        // Not before what it is made of.
        known.catalog.remove_type(schema, name);
    }
    for _ in 0..ROUNDS_MAX {
        let before = open.len();
        let mut rest = Vec::new();
        for definition in open {
            let [what, schema, name, text] = definition;
            let plan = known.plan(text.as_bytes(), "", "", Spelling::Standard);
            if plan.class() != Class::Read {
                rest.push(definition);
                continue;
            }
            match what {
                "view" => known.catalog.add_relation(schema, name, Relation::View),
                "table" => known.catalog.add_relation(schema, name, Relation::Logged),
                _ => known.catalog.add_type(schema, name, Judgement::Reads),
            }
        }
        if rest.len() == before {
            open = rest;
            break;
        }
        open = rest;
    }
    for [what, schema, name, text] in open {
        let reason = known
            .plan(text.as_bytes(), "", "", Spelling::Standard)
            .reason()
            .clone();
        match what {
            "view" | "table" => known.catalog.add_relation(schema, name, Relation::Acts(reason)),
            _ => known.catalog.add_type(schema, name, Judgement::Acts(reason)),
        }
    }
}

/// The values of a row; empty where one is missing.
fn texts<const N: usize>(row: &[Option<Vec<u8>>]) -> [&str; N] {
    std::array::from_fn(|index| {
        let value = row.get(index).and_then(Option::as_deref).unwrap_or_default();
        std::str::from_utf8(value).unwrap_or_default()
    })
}

fn volatility(text: &str) -> Judgement {
    match text {
        "reads" => Judgement::Reads,
        _ => Judgement::Volatile,
    }
}

fn relation(kind: &str) -> Option<Relation> {
    match kind {
        "logged" => Some(Relation::Logged),
        "unlogged" => Some(Relation::Unlogged),
        "sequence" => Some(Relation::Sequence),
        "foreign" => Some(Relation::Foreign),
        _ => None,
    }
}

/// A stable function that is unsafe for parallel work may do what only volatile ones should. One that takes a row alone, or
/// anything, can be written like a column of it. Bodies of volatile ones are read where their language is known: no more than 64 kB of
/// one, and 16 MB of all, or none.
const FUNCTIONS: &str = "SELECT f.nspname, f.proname, f.arguments, f.judgement, f.is_of_row, f.lanname, \
    CASE WHEN pg_catalog.sum(pg_catalog.octet_length(f.body)) OVER () <= 16777216 THEN f.body END FROM ( \
    SELECT n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid) AS arguments, \
    CASE WHEN p.prokind IN ('f', 'w', 'a') AND p.provolatile IN ('i', 's') AND (p.proparallel <> 'u' OR p.provolatile = 'i') \
        AND (p.prokind <> 'a' OR NOT EXISTS (SELECT FROM pg_catalog.pg_aggregate a JOIN pg_catalog.pg_proc f \
            ON f.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn) \
            WHERE a.aggfnoid = p.oid AND f.provolatile = 'v')) \
        THEN 'reads' ELSE 'volatile' END AS judgement, \
    p.pronargs - p.pronargdefaults <= 1 AND EXISTS (SELECT FROM pg_catalog.pg_type t \
        WHERE t.oid = p.proargtypes[0] AND t.typtype IN ('c', 'd', 'p')) AS is_of_row, \
    l.lanname, CASE WHEN l.lanname IN ('sql', 'plpgsql') AND p.prokind IN ('f', 'w') AND p.provolatile <> 'i' \
        AND pg_catalog.octet_length(p.prosrc) <= 65536 \
        THEN pg_catalog.concat(COALESCE(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc), ' ; ', \
            pg_catalog.pg_get_expr(p.proargdefaults, 0)) END AS body \
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
        JOIN pg_catalog.pg_language l ON l.oid = p.prolang \
    WHERE p.oid >= 16384 OR n.nspname NOT IN ('pg_catalog', 'information_schema')) f";

/// Tables, with all that inherits from them: what of that is elsewhere decides. Those with policies are judged by definition.
const RELATIONS: &str = "WITH RECURSIVE below AS ( \
        SELECT c.oid AS top, c.oid AS rel FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p') \
        UNION SELECT b.top, i.inhrelid FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.rel), \
    kinds AS (SELECT b.top, bool_or(c.relkind = 'f') AS is_foreign, bool_or(c.relpersistence = 'u') AS is_unlogged \
        FROM below b JOIN pg_catalog.pg_class c ON c.oid = b.rel GROUP BY b.top) \
    SELECT n.nspname, c.relname, CASE WHEN c.relkind = 'S' THEN 'sequence' WHEN c.relkind = 'f' OR k.is_foreign THEN 'foreign' \
        WHEN c.relpersistence = 'u' OR k.is_unlogged THEN 'unlogged' ELSE 'logged' END \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN kinds k ON k.top = c.oid \
    WHERE c.relkind IN ('r', 'p', 'm', 'f', 'S') AND c.relpersistence <> 't' \
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND NOT (c.relrowsecurity AND c.relkind IN ('r', 'p'))";

/// Types as their functions are, those that cast to them included; domains are judged by definition, and so are composite types and
/// ranges that have parts which are.
const TYPES: &str = "SELECT n.nspname, t.typname, CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_proc p \
        WHERE p.oid IN (t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin) AND p.provolatile = 'v') \
        OR EXISTS (SELECT FROM pg_catalog.pg_cast k JOIN pg_catalog.pg_proc p ON p.oid = k.castfunc \
            WHERE k.casttarget IN (t.oid, t.typarray) AND p.provolatile = 'v') THEN 'volatile' ELSE 'reads' END \
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND t.typtype <> 'd'";

/// Types that are made of others whose values may do something when they come into being.
const MADE_TYPES: &str = "WITH parts AS ( \
        SELECT c.reltype AS whole, a.atttypid AS part FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
            WHERE a.attnum > 0 AND NOT a.attisdropped AND c.reltype <> 0 \
        UNION ALL SELECT r.rngtypid, r.rngsubtype FROM pg_catalog.pg_range r \
        UNION ALL SELECT r.rngmultitypid, r.rngsubtype FROM pg_catalog.pg_range r) \
    SELECT 'type', n.nspname, t.typname, 'SELECT ' || pg_catalog.string_agg('NULL::' || pg_catalog.format_type(x.oid, NULL), ', ') \
    FROM parts p JOIN pg_catalog.pg_type t ON t.oid = p.whole JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
        JOIN pg_catalog.pg_type x ON x.oid = p.part LEFT JOIN pg_catalog.pg_type e ON e.oid = x.typelem \
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND x.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace \
        AND (x.typtype IN ('d', 'c', 'r', 'm') OR e.typtype IN ('d', 'c', 'r', 'm')) \
    GROUP BY n.nspname, t.typname";

const OPERATORS: &str = "SELECT n.nspname, o.oprname, CASE WHEN p.provolatile IN ('i', 's') THEN 'reads' ELSE 'volatile' END \
    FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode \
    WHERE o.oid >= 16384";

/// Casts that nobody writes, or that are written with the name of a type of PostgreSQL's own.
const CASTS: &str = "SELECT p.oid::pg_catalog.regprocedure::pg_catalog.text FROM pg_catalog.pg_cast c \
    JOIN pg_catalog.pg_proc p ON p.oid = c.castfunc JOIN pg_catalog.pg_type t ON t.oid = c.casttarget \
    WHERE (c.castcontext <> 'e' OR t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace) AND p.provolatile = 'v' AND c.oid >= 16384";

/// With an empty search path, definitions name schemas.
const DEFINITIONS: &str = "SET LOCAL search_path = ''; \
    SELECT 'view', n.nspname, c.relname, pg_catalog.pg_get_viewdef(c.oid) \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'v' AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
    UNION ALL SELECT 'table', n.nspname, c.relname, 'SELECT ' || COALESCE((SELECT pg_catalog.string_agg(pg_catalog.pg_get_expr(p.polqual, p.polrelid), ', ') \
        FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND p.polqual IS NOT NULL), '1') \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p') AND c.relrowsecurity AND c.relpersistence = 'p' \
    UNION ALL SELECT 'type', n.nspname, t.typname, 'SELECT NULL::' || pg_catalog.format_type(t.typbasetype, NULL) \
        || COALESCE((SELECT pg_catalog.string_agg(', ' || pg_catalog.pg_get_expr(k.conbin, 0), '') \
        FROM pg_catalog.pg_constraint k WHERE k.contypid = t.oid AND k.conbin IS NOT NULL), '') \
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
    WHERE t.typtype = 'd' AND n.nspname NOT IN ('pg_catalog', 'information_schema')";

/// Views on views, so deep. What lies deeper goes to the primary.
const ROUNDS_MAX: usize = 64;
/// An answer about one kind of thing.
const ANSWER_LEN_MAX: usize = 64 * 1024 * 1024;

impl Defaults {
    /// Asks a connection that nobody has used yet.
    ///
    /// # Errors
    /// The server's, or the loss of the connection.
    pub async fn of(conn: &mut ServerConn) -> Result<Self, Trouble> {
        let rows = converse::query(conn, BEGINNINGS).await?;
        let [search_path, user, conforming, encoding, isolation] =
            rows.first().map(|row| texts(row)).unwrap_or_default();
        Ok(Self {
            search_path: search_path.into(),
            user: user.into(),
            is_standard: conforming == "on" && encoding.eq_ignore_ascii_case("UTF8"),
            isolation: if isolation == "serializable" {
                Isolation::Serializable
            } else {
                Isolation::Other
            },
        })
    }
}

const BEGINNINGS: &str = "SELECT pg_catalog.current_setting('search_path'), current_user, \
    pg_catalog.current_setting('standard_conforming_strings'), pg_catalog.current_setting('client_encoding'), \
    pg_catalog.current_setting('default_transaction_isolation')";
