//! What all scripts of a topic are played on: one server, one pgweir, and somebody who tidies up in between.

use crate::harness::{PATIENCE, Pgweir, Postgres, Wire};
use crate::play::Side;
use crate::script::Pool;

#[derive(Debug)]
pub(crate) struct Ground {
    admin: Wire,
    console: Wire,
    pgweir: Pgweir,
    postgres: Postgres,
    /// To see that a script says the same each time it is played.
    is_direct_alone: bool,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let postgres = Postgres::builder()
            .setting("max_prepared_transactions", "10")
            .start();
        let pgweir = Pgweir::builder().config(&config(&postgres)).start();
        let mut admin = Wire::log_in(postgres.port(), "postgres", "postgres", None);
        admin.rows("SET client_min_messages = error");
        // The server says which condition never came to pass, before our own patience ends.
        let patience = PATIENCE.as_millis() / 2;
        admin.rows(&format!("SET statement_timeout = {patience}"));
        Self {
            admin,
            console: Wire::log_in(pgweir.port(), "postgres", "pgweir", None),
            pgweir,
            postgres,
            is_direct_alone: std::env::var_os("DIFFERENTIAL_DIRECT").is_some(),
        }
    }

    pub(crate) fn direct(&self) -> Side {
        Side {
            port: self.postgres.port(),
            database: "postgres".to_owned(),
            direct_port: self.postgres.port(),
        }
    }

    pub(crate) fn pooled(&self, pool: Pool) -> Side {
        if self.is_direct_alone {
            return self.direct();
        }
        Side {
            port: self.pgweir.port(),
            database: pool.database(),
            direct_port: self.postgres.port(),
        }
    }

    /// Removes what scripts have made and does what the next asks for.
    pub(crate) fn prepare(&mut self, setup: &[String]) {
        let transactions = "SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts";
        for rollback in self.admin.rows(transactions) {
            self.admin.rows(&rollback.concat());
        }
        self.admin.rows(TIDY);
        for sql in setup {
            self.admin.rows(sql);
        }
        if !setup.is_empty() {
            // What was made past pgweir is known to it only after a while, or after a pause.
            self.forget_connections();
        }
    }

    /// Waits until a condition is true at the server: by one query, which is answered when it is. What the server has seen of
    /// its sessions it keeps for a transaction, unless it is told to look again.
    pub(crate) fn wait(&mut self, sql: &str) {
        self.admin.rows(&format!(
            "DO $wait$ BEGIN WHILE ({sql}) IS NOT TRUE LOOP PERFORM pg_stat_clear_snapshot(); END LOOP; END $wait$"
        ));
    }

    /// Has pgweir close its server connections, so that a difference is one script's alone.
    pub(crate) fn forget_connections(&mut self) {
        self.console.query("PAUSE");
        self.console.query("RESUME");
    }
}

fn config(postgres: &Postgres) -> String {
    let url = postgres.superuser_url();
    let mut config =
        "workers = 1\nadmin_users = [\"postgres\"]\npool_timeout = \"1s\"\n[auth]\nmethod = \"trust\"\n"
            .to_owned();
    for size in 1..=POOL_SIZE_MAX {
        let name = Pool::Size(size).database();
        config.push_str(&format!(
            "[databases.{name}]\nurl = \"{url}\"\npool_size = {size}\n"
        ));
    }
    let name = Pool::FewStatements.database();
    config.push_str(&format!(
        "[databases.{name}]\nurl = \"{url}\"\npool_size = 1\nprepared_statements = 2\n"
    ));
    config
}

/// What a session finds when it begins: nothing of those before it. That a library was loaded for others may show.
pub(crate) const PROBES: &[&str] = &[
    "SELECT name, setting FROM pg_settings WHERE context IN ('user', 'superuser') AND name !~ '[.]' AND setting IS DISTINCT FROM boot_val ORDER BY name",
    "SELECT session_user, current_user, current_schemas(false)::text,
 coalesce(current_setting('app.tenant', true), '') AS tenant, coalesce(current_setting('app.other', true), '') AS other,
 (SELECT count(*) FROM pg_prepared_statements WHERE name NOT LIKE 'pgweir\\_%') AS statements,
 (SELECT count(*) FROM pg_cursors WHERE is_holdable) AS cursors,
 (SELECT count(*) FROM pg_listening_channels()) AS channels,
 (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks,
 (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()) AS tables",
];

const TIDY: &str = "DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
    CREATE SCHEMA public;
    GRANT ALL ON SCHEMA public TO public;
    FOR name IN SELECT rolname FROM pg_roles WHERE oid >= 16384 LOOP
        EXECUTE format('DROP OWNED BY %1$I; DROP ROLE %1$I', name);
    END LOOP;
    PERFORM lo_unlink(oid) FROM pg_largeobject_metadata;
END $$";

const POOL_SIZE_MAX: usize = 3;
