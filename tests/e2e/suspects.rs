//! What functions, triggers and views do to a session from inside stays with the client that has called them.

use super::harness::{Pgweir, Postgres, Wire};

const TENANT: &str = "SELECT coalesce(current_setting('app.tenant', true), '')";

const FUNCTIONS: &str = "
    CREATE FUNCTION by_sql(t text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.tenant', t, false) $$;
    CREATE FUNCTION by_plpgsql(t text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('app.tenant', t, false); END $$;
    CREATE FUNCTION by_standard(t text) RETURNS text BEGIN ATOMIC SELECT set_config('app.tenant', t, false); END;
    CREATE FUNCTION by_return(t text) RETURNS text RETURN set_config('app.tenant', t, false);
    CREATE FUNCTION by_execute(t text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SET app.tenant = ' || quote_literal(t); END $$;
    CREATE FUNCTION by_other(t text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM by_plpgsql(t); END $$;
    CREATE PROCEDURE by_procedure(t text) LANGUAGE plpgsql AS $$ BEGIN PERFORM by_other(t); END $$;
    CREATE TABLE by_trigger (t text);
    CREATE FUNCTION on_insert() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM by_sql(NEW.t); RETURN NEW; END $$;
    CREATE TRIGGER on_insert BEFORE INSERT ON by_trigger FOR EACH ROW EXECUTE FUNCTION on_insert();
    CREATE VIEW by_view AS SELECT * FROM by_trigger;
    CREATE TABLE by_default (t text DEFAULT set_config('app.tenant', 'seven', false));
    CREATE VIEW by_reading AS SELECT set_config('app.tenant', 'seven', false);
    CREATE TABLE parent (t text) PARTITION BY LIST (t);
    CREATE TABLE part PARTITION OF parent DEFAULT;
    CREATE TRIGGER on_insert BEFORE INSERT ON part FOR EACH ROW EXECUTE FUNCTION on_insert();";

/// Ways to become tenant seven.
const CALLS: &[&str] = &[
    "SELECT by_sql('seven')",
    "SELECT by_plpgsql('seven')",
    "SELECT by_standard('seven')",
    "SELECT by_return('seven')",
    "SELECT by_execute('seven')",
    "SELECT BY_OTHER('seven')",
    "CALL by_procedure('seven')",
    "INSERT INTO by_trigger VALUES ('seven')",
    "INSERT INTO by_view VALUES ('seven')",
    "INSERT INTO by_default DEFAULT VALUES",
    "SELECT * FROM by_reading",
    "INSERT INTO parent VALUES ('seven')",
];

fn client(pgweir: &Pgweir) -> Wire {
    Wire::log_in(pgweir.port(), "postgres", "app", None)
}

#[test]
fn a_setting_made_inside_of_a_function_goes_with_its_client() {
    let postgres = Postgres::start();
    postgres.sql(FUNCTIONS);
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1");
    for call in CALLS {
        let (mut seven, mut other) = (client(&pgweir), client(&pgweir));
        seven.query(call);
        assert_eq!(other.value(TENANT), "", "{call}");
        assert_eq!(seven.value(TENANT), "seven", "{call}");
        assert_eq!(other.value(TENANT), "", "{call}");
        seven.terminate();
        seven.read_until_closed();
        other.terminate();
        other.read_until_closed();
    }
}

#[test]
fn a_setting_made_by_a_prepared_statement_goes_with_its_client() {
    let postgres = Postgres::start();
    postgres.sql(FUNCTIONS);
    for keys in ["pool_size = 1", "pool_size = 1\nprepared_statements = 0"] {
        let pgweir = Pgweir::before_with(&postgres, keys);
        let (mut seven, mut other) = (client(&pgweir), client(&pgweir));
        seven.send_parse("", "SELECT by_other('seven')");
        seven.send_bind("", "", &[]);
        seven.send_execute("", 0);
        seven.send_sync();
        seven.read_until_ready();
        assert_eq!(other.value(TENANT), "");
        assert_eq!(seven.value(TENANT), "seven");
    }
}

#[test]
fn a_function_that_runs_what_it_is_given_keeps_the_server_connection() {
    let postgres = Postgres::start();
    postgres.sql("CREATE FUNCTION runs(t text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE t; END $$");
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 2");
    let (mut seven, mut other) = (client(&pgweir), client(&pgweir));
    seven.query("SELECT runs('SET app' || '.tenant = ''seven''')");
    assert_eq!(other.value(TENANT), "");
    assert_eq!(seven.value(TENANT), "seven");
}

#[test]
fn a_lock_taken_inside_of_a_function_keeps_the_server_connection_until_it_is_released() {
    let postgres = Postgres::start();
    postgres.sql(
        "CREATE FUNCTION locks() RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_lock(42) $$;
        CREATE FUNCTION unlocks() RETURNS boolean LANGUAGE sql AS $$ SELECT pg_advisory_unlock(42) $$",
    );
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 2");
    let (mut locker, mut other) = (client(&pgweir), client(&pgweir));
    let backend = "SELECT pg_backend_pid()";
    locker.query("SELECT locks()");
    assert_ne!(locker.value(backend), other.value(backend));
    assert_eq!(other.value("SELECT pg_try_advisory_lock(42)"), "f");
    assert_eq!(locker.value("SELECT unlocks()"), "t");
    assert_eq!(other.value("SELECT pg_try_advisory_lock(42)"), "t");
    other.query("SELECT pg_advisory_unlock(42)");
    // Nobody keeps one of the two connections.
    other.query("BEGIN; SELECT 1");
    assert_eq!(client(&pgweir).value("SELECT 1"), "1");
    other.query("COMMIT");
}

#[test]
fn a_function_made_through_the_pool_is_known_at_once_to_all_its_connections() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 2");
    let (mut one, mut two) = (client(&pgweir), client(&pgweir));
    // Two connections, both open.
    one.query("BEGIN; SELECT 1");
    two.query("BEGIN; SELECT 1");
    one.query("COMMIT");
    two.query("COMMIT");
    for make in [
        "CREATE FUNCTION become(t text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET app.tenant = 'seven'; END $$",
        "BEGIN; CREATE FUNCTION become(t text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET app.tenant = 'seven'; END $$; COMMIT",
        "DO $do$ BEGIN EXECUTE 'CREATE FUNCTION become(t text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET app.tenant = ''seven''; END $$'; END $do$",
    ] {
        let (mut maker, mut seven, mut other) = (client(&pgweir), client(&pgweir), client(&pgweir));
        maker.query(make);
        maker.terminate();
        maker.read_until_closed();
        seven.query("SELECT become('seven')");
        // Whichever connection they get.
        seven.query("BEGIN; SELECT 1");
        assert_eq!(other.value(TENANT), "", "{make}");
        assert_eq!(seven.value(TENANT), "seven", "{make}");
        seven.query("ROLLBACK");
        other.query("BEGIN; SELECT 1");
        let mut third = client(&pgweir);
        assert_eq!(third.value(TENANT), "", "{make}");
        assert_eq!(other.value(TENANT), "", "{make}");
        other.query("ROLLBACK; DROP FUNCTION become");
        for mut wire in [seven, other, third] {
            wire.terminate();
            wire.read_until_closed();
        }
    }
}

#[test]
fn a_function_that_is_used_in_the_transaction_that_makes_it_leaves_nothing_behind() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 1");
    let (mut maker, mut other) = (client(&pgweir), client(&pgweir));
    maker.query("BEGIN; CREATE FUNCTION become() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET app.tenant = 'seven'; END $$");
    maker.query("SELECT become()");
    maker.query("COMMIT");
    assert_eq!(other.value(TENANT), "");
}

#[test]
fn an_update_of_the_view_of_settings_keeps_the_server_connection() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 2");
    for call in [
        "UPDATE pg_settings SET setting = '5MB' WHERE name = 'work_mem'",
        "WITH one AS (SELECT 1) UPDATE pg_catalog.pg_settings SET setting = '5MB' WHERE name = 'work_mem'",
    ] {
        let (mut one, mut other) = (client(&pgweir), client(&pgweir));
        let before = other.value("SHOW work_mem");
        one.query(call);
        assert_eq!(other.value("SHOW work_mem"), before, "{call}");
        assert_eq!(one.value("SHOW work_mem"), "5MB", "{call}");
        one.terminate();
        one.read_until_closed();
    }
}
