//! What the server's catalogs tell of what runs where no text shows it, and when pgweir comes to know it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::harness::{Pgweir, Postgres, Wire};

const TENANT: &str = "SELECT coalesce(current_setting('app.tenant', true), '')";

/// Becomes tenant seven, and lets a value through.
const BECOME: &str = "
    CREATE FUNCTION become(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.tenant', 'seven', false); RETURN i; END $$;";

/// Something that runs `become`, and a statement that does so.
const HIDDEN: &[(&str, &str)] = &[
    (
        "CREATE FUNCTION plus(a point, b point) RETURNS int LANGUAGE sql AS 'SELECT become(1)';
         CREATE OPERATOR <~+~> (FUNCTION = plus, LEFTARG = point, RIGHTARG = point)",
        "SELECT '(1,1)'::point <~+~> '(1,2)'::point",
    ),
    (
        "CREATE TYPE coin AS (value int);
         CREATE FUNCTION is_coin(a coin, b coin) RETURNS boolean LANGUAGE sql AS 'SELECT become(1) = 1';
         CREATE OPERATOR = (FUNCTION = is_coin, LEFTARG = coin, RIGHTARG = coin)",
        "SELECT x.y IN (ROW(2)::coin) FROM (SELECT ROW(1)::coin AS y) x",
    ),
    (
        "CREATE TYPE token AS (value text);
         CREATE FUNCTION as_token(t text) RETURNS token LANGUAGE sql AS 'SELECT ROW(become(1)::text)::token';
         CREATE CAST (text AS token) WITH FUNCTION as_token(text) AS ASSIGNMENT;
         CREATE TABLE tokens (t token)",
        "INSERT INTO tokens VALUES ('x'::text)",
    ),
    (
        "CREATE FUNCTION as_point(t text) RETURNS point LANGUAGE sql AS $$ SELECT point(become(1), 1) $$;
         CREATE CAST (text AS point) WITH FUNCTION as_point(text) AS IMPLICIT",
        "SELECT point_ne('x'::text, '(1,2)')",
    ),
    (
        "CREATE FUNCTION count_up(state int, i int) RETURNS int LANGUAGE sql AS 'SELECT become(state)';
         CREATE AGGREGATE every_tenant(int) (SFUNC = count_up, STYPE = int, INITCOND = '0')",
        "SELECT every_tenant(i) FROM generate_series(1, 2) i",
    ),
    (
        "CREATE AGGREGATE last_setting(text, boolean) (SFUNC = set_config, STYPE = text, INITCOND = 'app.tenant')",
        "SELECT last_setting('seven', false)",
    ),
    (
        "CREATE DOMAIN checked AS int CHECK (become(VALUE) > 0); CREATE TABLE checks (c checked)",
        "INSERT INTO checks VALUES (1)",
    ),
    (
        "CREATE DOMAIN filled AS int DEFAULT become(1); CREATE TABLE fills (f filled, g int)",
        "INSERT INTO fills (g) VALUES (1)",
    ),
    (
        "CREATE DOMAIN outer_checked AS checked",
        "SELECT '1'::outer_checked",
    ),
    (
        "CREATE TABLE constrained (i int CHECK (become(i) > 0))",
        "INSERT INTO constrained VALUES (1)",
    ),
    (
        "CREATE TABLE guarded (i int); INSERT INTO guarded VALUES (1); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
         CREATE ROLE reader; GRANT SELECT ON guarded TO reader;
         CREATE POLICY guard ON guarded USING (become(i) = 1)",
        "BEGIN; SET LOCAL ROLE reader; SELECT * FROM guarded; COMMIT",
    ),
    (
        "CREATE TABLE ruled (i int); CREATE RULE rule AS ON INSERT TO ruled DO ALSO SELECT become(1)",
        "INSERT INTO ruled VALUES (1)",
    ),
    (
        "CREATE TABLE fired (i int);
         CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER fire BEFORE INSERT ON fired FOR EACH ROW WHEN (become(NEW.i) > 1) EXECUTE FUNCTION nothing()",
        "INSERT INTO fired VALUES (1)",
    ),
    (
        "CREATE TABLE caught (i int);
         CREATE TRIGGER fire BEFORE INSERT ON caught FOR EACH ROW WHEN (set_config('app.tenant', 'seven', false) = 'x')
         EXECUTE FUNCTION nothing()",
        "INSERT INTO caught VALUES (1)",
    ),
    (
        "CREATE FUNCTION of_event() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM become(1); END';
         CREATE EVENT TRIGGER event ON ddl_command_end WHEN TAG IN ('COMMENT') EXECUTE FUNCTION of_event()",
        "COMMENT ON FUNCTION become IS 'x'",
    ),
];

fn client(pgweir: &Pgweir) -> Wire {
    Wire::log_in(pgweir.port(), "postgres", "app", None)
}

fn leave(mut wire: Wire) {
    wire.terminate();
    wire.read_until_closed();
}

/// Lets one become tenant seven, and looks whom it has become.
fn check(pgweir: &Pgweir, call: &str) {
    let (mut seven, mut other) = (client(pgweir), client(pgweir));
    seven.query(call);
    assert_eq!(other.value(TENANT), "", "{call}");
    assert_eq!(seven.value(TENANT), "seven", "{call}");
    assert_eq!(other.value(TENANT), "", "{call}");
    leave(seven);
    leave(other);
}

#[test]
fn what_runs_a_function_without_its_name_is_followed() {
    let postgres = Postgres::start();
    postgres.sql(BECOME);
    for (make, call) in HIDDEN {
        postgres.sql(make);
        // It reads the catalogs when it opens its first connection.
        check(&Pgweir::before_with(&postgres, "pool_size = 2"), call);
    }
}

#[test]
fn a_table_that_calls_a_function_is_known_when_it_was_made_and_before_long_when_it_was_altered() {
    let postgres = Postgres::start();
    postgres.sql(BECOME);
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1");
    let mut maker = client(&pgweir);
    maker.query("CREATE TABLE made (i int DEFAULT become(1), j int)");
    check(&pgweir, "INSERT INTO made (j) VALUES (1)");
    maker.query("CREATE TABLE altered (j int)");
    maker.query("ALTER TABLE altered ADD COLUMN i int");
    maker.query("ALTER TABLE altered ALTER COLUMN i SET DEFAULT become(1)");
    // Whoever comes back looks, once the time has come.
    let (mut seven, mut other) = (client(&pgweir), client(&pgweir));
    loop {
        seven.query("INSERT INTO altered (j) VALUES (1)");
        if other.value(TENANT).is_empty() && seven.value(TENANT) == "seven" {
            break;
        }
    }
    leave(seven);
    leave(other);
    check(&pgweir, "INSERT INTO altered (j) VALUES (1)");
}

#[test]
fn a_function_that_is_made_past_the_pool_is_found_before_long() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 3");
    let mut clients: Vec<Wire> = (0..3).map(|_| client(&pgweir)).collect();
    // Three connections, all open.
    for wire in &mut clients {
        wire.query("BEGIN; SELECT 1");
    }
    for wire in &mut clients {
        wire.query("COMMIT");
    }
    postgres.sql(BECOME);
    let [mut seven, mut other, _] = <[Wire; 3]>::try_from(clients).unwrap();
    // Whoever comes back looks, once the time has come.
    loop {
        seven.query("SELECT become(1)");
        if other.value(TENANT).is_empty() && seven.value(TENANT) == "seven" && other.value(TENANT).is_empty()
        {
            break;
        }
    }
    // Nor does any connection have what was done meanwhile.
    let mut clients: Vec<Wire> = (0..3).map(|_| client(&pgweir)).collect();
    for wire in &mut clients {
        wire.query("BEGIN; SELECT 1");
    }
    for wire in &mut clients {
        assert_eq!(wire.value(TENANT), "");
    }
}

#[test]
fn the_catalogs_are_read_whatever_the_client_has_set() {
    let postgres = Postgres::start();
    postgres.sql(BECOME);
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1");
    let mut odd = client(&pgweir);
    odd.query("SET search_path = nowhere, public");
    odd.query("SET client_encoding = 'LATIN1'");
    odd.query("SET quote_all_identifiers = on");
    odd.query("CREATE VIEW through AS SELECT become(1)");
    odd.query("CREATE TABLE plain (i int DEFAULT become(1))");
    check(&pgweir, "SELECT * FROM through");
    check(&pgweir, "INSERT INTO plain DEFAULT VALUES");
}

/// A call by number, with arguments in text.
fn call_by_number(wire: &mut Wire, oid: u32, arguments: &[&str]) {
    let mut body = oid.to_be_bytes().to_vec();
    body.extend([0, 0]);
    body.extend(u16::try_from(arguments.len()).unwrap().to_be_bytes());
    for argument in arguments {
        body.extend(u32::try_from(argument.len()).unwrap().to_be_bytes());
        body.extend(argument.as_bytes());
    }
    body.extend([0, 0]);
    wire.send(b'F', &body);
    let answer = wire.read_until_ready();
    assert!(answer.iter().any(|frame| frame.tag == b'V'), "{answer:?}");
}

#[test]
fn a_function_that_is_called_by_its_number_is_followed() {
    let postgres = Postgres::start();
    postgres.sql(BECOME);
    let own: u32 = postgres.sql("SELECT 'become'::regproc::oid").parse().unwrap();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 2");
    for (oid, arguments) in [(own, &["1"][..]), (2078, &["app.tenant", "seven", "false"])] {
        let (mut seven, mut other) = (client(&pgweir), client(&pgweir));
        call_by_number(&mut seven, oid, arguments);
        assert_eq!(other.value(TENANT), "", "{oid}");
        assert_eq!(seven.value(TENANT), "seven", "{oid}");
        leave(seven);
        leave(other);
    }
    let (mut locker, mut other) = (client(&pgweir), client(&pgweir));
    let lock: u32 = postgres
        .sql("SELECT 'pg_advisory_lock(bigint)'::regprocedure::oid")
        .parse()
        .unwrap();
    call_by_number(&mut locker, lock, &["42"]);
    assert_eq!(other.value("SELECT pg_try_advisory_lock(42)"), "f");
    assert_eq!(locker.value("SELECT pg_advisory_unlock(42)"), "t");
}

#[test]
fn functions_of_extensions_keep_what_they_leave_in_the_session() {
    let postgres = Postgres::start();
    postgres.sql("CREATE EXTENSION pg_trgm; CREATE EXTENSION dblink; CREATE EXTENSION tablefunc; CREATE EXTENSION pgcrypto");
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 2");
    let (mut one, mut other) = (client(&pgweir), client(&pgweir));
    one.query("SELECT set_limit(0.75)");
    assert_eq!(other.value("SELECT show_limit()"), "0.3");
    assert_eq!(one.value("SELECT show_limit()"), "0.75");
    // It travels: nobody is pinned.
    let backend = "SELECT pg_backend_pid()";
    one.query("SELECT gen_random_uuid(), gen_random_bytes(4), normal_rand(1, 0, 1)");
    assert_eq!(one.value(backend), other.value(backend));
    let open = format!(
        "SELECT dblink_connect('there', 'host=127.0.0.1 port={} user=postgres dbname=postgres')",
        postgres.port()
    );
    one.query(&open);
    other.query("BEGIN; SELECT 1");
    assert_eq!(one.value("SELECT dblink_get_connections()"), "{there}");
    assert_eq!(other.value("SELECT dblink_get_connections() IS NULL"), "t");
}

#[test]
fn what_a_function_of_an_unknown_library_leaves_is_nobody_elses() {
    let postgres = Postgres::start();
    let libraries = postgres.sql("SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'");
    let directory = tempfile::tempdir().unwrap();
    let strange = directory.path().join("strange.so");
    std::fs::copy(Path::new(&libraries).join("tablefunc.so"), &strange).unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    postgres.sql(&format!(
        "CREATE FUNCTION strange(int, float8, float8) RETURNS SETOF float8 AS '{}', 'normal_rand' LANGUAGE c VOLATILE",
        strange.display()
    ));
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1");
    let (mut one, mut other) = (client(&pgweir), client(&pgweir));
    // It leaves nothing really: so the log tells whether the connection was cleaned.
    postgres.sql("ALTER SYSTEM SET log_statement = 'all'");
    postgres.sql("SELECT pg_reload_conf()");
    let backend = one.value("SELECT pg_backend_pid()");
    one.query("SELECT strange(1, 0, 1)");
    assert_eq!(other.value("SELECT pg_backend_pid()"), backend);
    assert!(postgres.log().contains("DISCARD ALL"));
}

/// Whether a client that has said this keeps its server connection.
fn keeps(pgweir: &Pgweir, database: &str, text: &str) -> bool {
    let log_in = || Wire::log_in(pgweir.port(), "postgres", database, None);
    let (mut one, mut other) = (log_in(), log_in());
    one.query(text);
    let backend = "SELECT pg_backend_pid()";
    let is_kept = one.value(backend) != other.value(backend);
    leave(one);
    leave(other);
    is_kept
}

#[test]
fn with_bodies_that_are_too_long_any_function_of_the_database_keeps_its_connection() {
    let postgres = Postgres::start();
    let large = "CREATE FUNCTION harmless() RETURNS int LANGUAGE sql AS 'SELECT 1';
        DO $do$ BEGIN EXECUTE format('CREATE FUNCTION large() RETURNS int LANGUAGE sql AS %L',
            'SELECT 1 /*' || repeat('ü', 17 * 1024 * 1024) || '*/'); END $do$";
    postgres.sql("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'");
    // A byte for a character there, two on the way.
    postgres
        .query("latin", &format!("SET client_encoding = 'UTF8'; {large}"))
        .unwrap();
    postgres.sql(large);
    let databases = ["postgres", "latin"].map(|name| {
        format!(
            "[databases.{name}]\nurl = \"{}\"\npool_size = 2\n",
            postgres.url("postgres", name)
        )
    });
    let config = format!("workers = 1\n[auth]\nmethod = \"trust\"\n{}", databases.concat());
    let pgweir = Pgweir::builder().config(&config).start();
    for database in ["postgres", "latin"] {
        assert!(keeps(&pgweir, database, "SELECT harmless()"), "{database}");
        assert!(!keeps(&pgweir, database, "SELECT 1"), "{database}");
    }
}

#[test]
fn with_too_many_functions_any_text_keeps_its_connection() {
    let postgres = Postgres::start();
    // Rows of the catalog, as nobody would wait for so many definitions.
    postgres.sql(
        "CREATE FUNCTION harmless() RETURNS int LANGUAGE sql AS 'SELECT 1';
        SET allow_system_table_mods = on;
        CREATE TEMP TABLE more AS SELECT * FROM pg_proc WHERE proname = 'harmless';
        DO $do$ BEGIN FOR i IN 1..11 LOOP
            INSERT INTO more SELECT * FROM more;
        END LOOP; END $do$;
        INSERT INTO more SELECT m.* FROM more m, generate_series(1, 49);
        UPDATE more SET oid = 1000000 + n.row, proname = 'harmless_' || n.row
            FROM (SELECT ctid AS place, row_number() OVER () AS row FROM more) n WHERE more.ctid = n.place;
        INSERT INTO pg_proc SELECT * FROM more",
    );
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 2");
    assert!(keeps(&pgweir, "app", "SELECT 1"));
}

#[test]
fn with_too_many_tables_that_use_others_any_text_keeps_its_connection() {
    let postgres = Postgres::start();
    postgres.sql(BECOME);
    postgres.sql(
        "DO $do$ BEGIN FOR i IN 1..450 LOOP EXECUTE format('CREATE TABLE t%s ()', i); END LOOP; END $do$;
        SET allow_system_table_mods = on;
        INSERT INTO pg_inherits SELECT a.oid, b.oid, row_number() OVER (PARTITION BY a.oid), false
            FROM pg_class a, pg_class b WHERE a.relname ~ '^t[0-9]+$' AND b.relname ~ '^t[0-9]+$' AND a.oid <> b.oid",
    );
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 2");
    assert!(keeps(&pgweir, "app", "SELECT 1"));
}
