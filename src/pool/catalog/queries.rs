//! What is asked of the system catalogs. Nothing here depends on the search path, and nothing on the settings of whose
//! connection it is: see [`quiet`].

use super::{BODIES_LEN_MAX, FUNCTIONS_MAX, USES_MAX};

/// The same, whatever the client that had the connection has set: its time is not this one's, and names are compared by bytes.
pub(super) fn quiet(sql: &str) -> String {
    format!("SET LOCAL statement_timeout = 0; SET LOCAL client_encoding = 'UTF8'; {sql}")
}

/// One value that is another when something was defined, whoever did it: the versions of all rows that are read.
/// Takes a millisecond for some hundred functions and tables. Only definitions that last count: temporary tables come and go.
pub(super) fn fingerprint() -> String {
    let versions = |alias: &str, from: &str| {
        format!(
            "(SELECT pg_catalog.concat(pg_catalog.count(*), ' ', pg_catalog.sum(pg_catalog.hashtextextended( \
             pg_catalog.concat({alias}.xmin, {alias}.ctid), 0))) FROM {from})"
        )
    };
    let of_lasting = |catalog: &str, column: &str| {
        format!(
            "pg_catalog.{catalog} x JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) x.{column} \
             WHERE c.oid OPERATOR(pg_catalog.>=) {FIRST_OWN} AND c.relpersistence OPERATOR(pg_catalog.<>) 't'"
        )
    };
    let own =
        |catalog: &str| format!("pg_catalog.{catalog} x WHERE x.oid OPERATOR(pg_catalog.>=) {FIRST_OWN}");
    let parts = [
        versions("x", &own("pg_proc")),
        versions("x", &own("pg_operator")),
        versions("x", &own("pg_cast")),
        versions("x", &own("pg_event_trigger")),
        versions("x", &own("pg_namespace")),
        versions(
            "x",
            &(own("pg_type") + " AND x.typtype OPERATOR(pg_catalog.=) 'd'"),
        ),
        versions(
            "x",
            &(own("pg_constraint")
                + " AND x.contype OPERATOR(pg_catalog.=) 'c' AND x.conrelid OPERATOR(pg_catalog.=) 0"),
        ),
        versions(
            "x",
            &(of_lasting("pg_constraint", "conrelid") + " AND x.contype OPERATOR(pg_catalog.=) 'c'"),
        ),
        versions(
            "x",
            &(of_lasting("pg_constraint", "confrelid") + " AND x.contype OPERATOR(pg_catalog.=) 'f'"),
        ),
        versions(
            "x",
            &(of_lasting("pg_trigger", "tgrelid") + " AND NOT x.tgisinternal"),
        ),
        versions("x", &of_lasting("pg_rewrite", "ev_class")),
        versions("x", &of_lasting("pg_attrdef", "adrelid")),
        versions("x", &of_lasting("pg_policy", "polrelid")),
        versions("x", &of_lasting("pg_inherits", "inhrelid")),
        // Rows of tables change with their contents: only names count.
        format!(
            "(SELECT pg_catalog.concat(pg_catalog.count(*), ' ', pg_catalog.sum(pg_catalog.hashtextextended( \
             pg_catalog.concat(x.oid, x.relname, x.relnatts), 0))) FROM {} AND x.relkind OPERATOR(pg_catalog.=) ANY ('{{r,v,m,p,f,c}}') \
             AND x.relpersistence OPERATOR(pg_catalog.<>) 't')",
            own("pg_class")
        ),
    ];
    format!("SELECT pg_catalog.concat_ws(',', {})", parts.join(", "))
}

/// Number, name, language and body of each function that was not there from the beginning, and of each stored expression that
/// calls a function of the server's that changes a session. No body where they are too long altogether. Functions in C that are
/// known to do nothing of that kind, by the words of who has made them, are left out: those that are not volatile, or that may
/// run in parallel; see "Function Volatility Categories" and "Parallel Labeling" in PostgreSQL's documentation.
pub(super) fn functions() -> String {
    let of_expression = |from: &str, name: &str, text: &str, tree: &str| {
        format!(
            " UNION ALL SELECT 0, {name}, 'sql', {text} FROM {from}, pattern \
               WHERE {tree} OPERATOR(pg_catalog.~) pattern.tree"
        )
    };
    let mut sql = format!(
        "WITH called AS MATERIALIZED (SELECT p.oid, p.proname FROM pg_catalog.pg_proc p \
           WHERE p.pronamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace \
           AND p.proname OPERATOR(pg_catalog.~) '{CALLED}'), \
         pattern AS MATERIALIZED (SELECT pg_catalog.concat(':funcid (', pg_catalog.string_agg(oid::pg_catalog.text, '|'), ') ') AS tree \
           FROM called), \
         run(oid, name, language, body) AS (SELECT p.oid::pg_catalog.int8, p.proname, l.lanname, \
             CASE WHEN l.lanname OPERATOR(pg_catalog.=) 'c' THEN pg_catalog.concat(p.probin, ' ', p.prosrc) \
               ELSE COALESCE(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc) END \
           FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
           WHERE p.oid OPERATOR(pg_catalog.>=) {FIRST_OWN} AND p.prokind OPERATOR(pg_catalog.<>) 'a' \
             AND (l.lanname OPERATOR(pg_catalog.<>) ALL ('{{c,internal}}'::pg_catalog.name[]) \
               OR p.provolatile OPERATOR(pg_catalog.=) 'v' AND p.proparallel OPERATOR(pg_catalog.<>) 's' \
                 AND p.prorettype OPERATOR(pg_catalog.<>) ALL ('{{trigger,event_trigger,language_handler,fdw_handler,index_am_handler,\
                   tsm_handler,table_am_handler,internal}}'::pg_catalog.regtype[])) \
           UNION ALL SELECT oid::pg_catalog.int8, proname, 'builtin', proname::pg_catalog.text FROM called \
           UNION ALL SELECT a.aggfnoid::pg_catalog.oid::pg_catalog.int8, p.proname, 'internal', called.proname::pg_catalog.text \
           FROM pg_catalog.pg_aggregate a JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) a.aggfnoid::pg_catalog.oid \
             JOIN called ON called.oid IN (a.aggtransfn, a.aggfinalfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn) \
           UNION ALL SELECT 0, o.oprname, 'internal', called.proname::pg_catalog.text \
           FROM pg_catalog.pg_operator o JOIN called ON called.oid OPERATOR(pg_catalog.=) o.oprcode"
    );
    sql.push_str(&of_expression(
        "pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) r.ev_class",
        "c.relname",
        "pg_catalog.pg_get_ruledef(r.oid)",
        &format!("r.oid OPERATOR(pg_catalog.>=) {FIRST_OWN} AND pg_catalog.concat(r.ev_action, r.ev_qual)"),
    ));
    sql.push_str(&of_expression(
        "pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid",
        "c.relname",
        "pg_catalog.pg_get_triggerdef(t.oid)",
        "t.tgqual::pg_catalog.text",
    ));
    sql.push_str(&of_expression(
        "pg_catalog.pg_attrdef a JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.adrelid",
        "c.relname",
        "pg_catalog.pg_get_expr(a.adbin, a.adrelid)",
        "a.adbin::pg_catalog.text",
    ));
    sql.push_str(&of_expression(
        "pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) p.polrelid",
        "c.relname",
        "pg_catalog.concat(pg_catalog.pg_get_expr(p.polqual, p.polrelid), ' ; ', pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid))",
        "pg_catalog.concat(p.polqual, p.polwithcheck)",
    ));
    sql.push_str(&of_expression(
        "pg_catalog.pg_constraint k LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) k.conrelid \
           LEFT JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) k.contypid",
        "COALESCE(c.relname, t.typname)",
        "pg_catalog.pg_get_constraintdef(k.oid)",
        "k.conbin::pg_catalog.text",
    ));
    // A default of a domain.
    sql.push_str(&of_expression(
        "pg_catalog.pg_type t",
        "t.typname",
        "t.typdefault",
        "t.typdefaultbin::pg_catalog.text",
    ));
    sql.push_str(&format!(
        ") SELECT oid, name, language, CASE WHEN pg_catalog.sum(pg_catalog.octet_length(pg_catalog.convert_to(body, 'UTF8'))) OVER () \
           OPERATOR(pg_catalog.<=) {BODIES_LEN_MAX} THEN body END FROM run LIMIT {FUNCTIONS_MAX} + 1"
    ));
    sql
}

/// Who uses whom, by the names that stand in texts: what runs when a table is changed, a view is read, a value is cast, an
/// operator is applied, a definition is made. `pg_depend` knows most of it; what is named there is what an object has to be there for.
pub(super) fn uses() -> String {
    format!(
        "WITH node(classid, objid, name) AS MATERIALIZED ( \
           SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid, p.oid, p.proname FROM pg_catalog.pg_proc p \
             WHERE p.oid OPERATOR(pg_catalog.>=) {FIRST_OWN} \
           UNION ALL SELECT 'pg_catalog.pg_operator'::pg_catalog.regclass, o.oid, o.oprname FROM pg_catalog.pg_operator o \
             JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) o.oprcode WHERE o.oid OPERATOR(pg_catalog.>=) {FIRST_OWN} \
           UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, c.oid, c.relname FROM pg_catalog.pg_class c \
             WHERE c.oid OPERATOR(pg_catalog.>=) {FIRST_OWN} AND c.relkind OPERATOR(pg_catalog.=) ANY ('{{r,v,m,p,f,c}}') \
           UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, i.indexrelid, c.relname FROM pg_catalog.pg_index i \
             JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indrelid WHERE c.oid OPERATOR(pg_catalog.>=) {FIRST_OWN} \
           UNION ALL SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, t.oid, t.typname FROM pg_catalog.pg_type t \
             LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.typrelid \
             WHERE t.oid OPERATOR(pg_catalog.>=) {FIRST_OWN} AND (t.typtype OPERATOR(pg_catalog.=) 'd' \
               OR c.relkind OPERATOR(pg_catalog.=) 'c' \
               OR t.oid IN (SELECT castsource FROM pg_catalog.pg_cast UNION SELECT casttarget FROM pg_catalog.pg_cast)) \
           UNION ALL SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass, r.oid, c.relname FROM pg_catalog.pg_rewrite r \
             JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) r.ev_class \
           UNION ALL SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, a.oid, c.relname FROM pg_catalog.pg_attrdef a \
             JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.adrelid \
           UNION ALL SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, p.oid, c.relname FROM pg_catalog.pg_policy p \
             JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) p.polrelid \
           UNION ALL SELECT 'pg_catalog.pg_trigger'::pg_catalog.regclass, t.oid, c.relname FROM pg_catalog.pg_trigger t \
             JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid WHERE NOT t.tgisinternal \
           UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid, COALESCE(c.relname, t.typname) \
             FROM pg_catalog.pg_constraint k LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) k.conrelid \
             LEFT JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) k.contypid \
             WHERE k.contype OPERATOR(pg_catalog.=) 'c'), \
         edge(user_name, used_name) AS ( \
           SELECT u.name, x.name FROM pg_catalog.pg_depend d \
             JOIN node u ON u.classid OPERATOR(pg_catalog.=) d.classid AND u.objid OPERATOR(pg_catalog.=) d.objid \
             JOIN node x ON x.classid OPERATOR(pg_catalog.=) d.refclassid AND x.objid OPERATOR(pg_catalog.=) d.refobjid \
           UNION ALL SELECT p.relname, c.relname FROM pg_catalog.pg_inherits i \
             JOIN pg_catalog.pg_class p ON p.oid OPERATOR(pg_catalog.=) i.inhparent \
             JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.inhrelid \
           UNION ALL SELECT p.relname, c.relname FROM pg_catalog.pg_constraint k \
             JOIN pg_catalog.pg_class p ON p.oid OPERATOR(pg_catalog.=) k.confrelid \
             JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) k.conrelid \
             WHERE k.contype OPERATOR(pg_catalog.=) 'f' \
           UNION ALL SELECT type.name, p.proname FROM pg_catalog.pg_cast k \
             JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) k.castfunc \
             JOIN pg_catalog.pg_type s ON s.oid OPERATOR(pg_catalog.=) k.castsource \
             JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) k.casttarget, \
             LATERAL (SELECT s.typname WHERE s.oid OPERATOR(pg_catalog.>=) {FIRST_OWN} \
               UNION ALL SELECT t.typname WHERE t.oid OPERATOR(pg_catalog.>=) {FIRST_OWN} \
               UNION ALL SELECT '(any)' WHERE s.oid OPERATOR(pg_catalog.<) {FIRST_OWN} AND t.oid OPERATOR(pg_catalog.<) {FIRST_OWN}) type(name) \
             WHERE k.oid OPERATOR(pg_catalog.>=) {FIRST_OWN} \
           UNION ALL SELECT verb.name, p.proname FROM pg_catalog.pg_event_trigger e \
             JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) e.evtfoid, \
             pg_catalog.unnest('{DEFINING}'::pg_catalog.text[]) verb(name) \
             WHERE e.evtenabled OPERATOR(pg_catalog.<>) 'D' AND e.evtevent OPERATOR(pg_catalog.<>) 'login') \
         SELECT DISTINCT user_name, used_name FROM edge \
           WHERE user_name OPERATOR(pg_catalog.<>) used_name LIMIT {USES_MAX} + 1"
    )
}

/// `FirstNormalObjectId` in `src/include/access/transam.h`: what is older came with the server.
const FIRST_OWN: u32 = 16_384;
/// Functions of the server's that change a session.
const CALLED: &str = "^(set_config|setseed|pg_(try_)?advisory_(un)?lock.*|pg_(start_backup|backup_start)|pg_replication_origin_session_setup)$";
/// Words of statements that run event triggers, see "Event Trigger Firing Matrix" in PostgreSQL's documentation.
const DEFINING: &str =
    "{create,alter,drop,grant,revoke,comment,security,import,refresh,reindex,reassign,into}";
