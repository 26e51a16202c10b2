//! Clients as people use them: what they print through the pooler is what they print without it.

use std::io::Write;
use std::process::Stdio;

use tokio_postgres::types::ToSql;

use super::harness::clients::{self, Ran, client, pgbench, psql, python, run};
use super::harness::{Pgweir, Postgres};

const MODES: [&str; 2] = ["transaction", "session"];

fn in_mode(postgres: &Postgres, mode: &str) -> Pgweir {
    Pgweir::before_with(postgres, &format!("pool_mode = \"{mode}\"\npool_size = 10"))
}

/// A script prints the same through the pooler in these modes as without it.
fn assert_script_is_the_same(script: &str, modes: &[&str]) {
    let postgres = Postgres::start();
    let direct = python(&postgres.superuser_url(), script).success();
    assert!(!direct.is_empty());
    for mode in modes {
        let pgweir = in_mode(&postgres, mode);
        let pooled = python(&pgweir.url("postgres", "app"), script).success();
        assert_eq!(pooled, direct, "in {mode} mode");
    }
}

#[test]
fn psycopg_works_in_session_and_transaction_mode() {
    assert_script_is_the_same(include_str!("scripts/psycopg_any_mode.py"), &MODES);
}

#[test]
fn psycopg_has_a_session_of_its_own_in_session_mode() {
    assert_script_is_the_same(include_str!("scripts/psycopg_session.py"), &["session"]);
}

#[test]
fn psycopg_keeps_what_its_session_holds_in_transaction_mode() {
    // Each of these statements pins its client to its server connection.
    assert_script_is_the_same(include_str!("scripts/psycopg_session.py"), &["transaction"]);
}

#[test]
fn asyncpg_works_in_session_and_transaction_mode() {
    assert_script_is_the_same(include_str!("scripts/asyncpg_any_mode.py"), &MODES);
}

#[test]
fn both_drivers_of_python_hear_notifications_in_both_modes() {
    assert_script_is_the_same(include_str!("scripts/listening.py"), &MODES);
}

#[test]
fn both_drivers_of_python_work_in_statement_mode() {
    assert_script_is_the_same(include_str!("scripts/statement_mode.py"), &["statement"]);
}

#[test]
fn pgbench_runs_in_its_three_protocols_and_with_a_connection_for_each_transaction() {
    let postgres = Postgres::start();
    pgbench(&postgres.superuser_url(), "-i -q -s 1").success();
    for mode in MODES {
        let pgweir = Pgweir::before_with(&postgres, &format!("pool_mode = \"{mode}\""));
        let url = pgweir.url("postgres", "app");
        for protocol in ["simple", "extended", "prepared"] {
            for kind in ["-S", "-N", "-b tpcb-like"] {
                let report = pgbench(&url, &format!("-n -M {protocol} {kind} -c 8 -j 2 -t 25")).success();
                assert_all_processed(&report, "200/200");
            }
            let report = pgbench(&url, &format!("-n -M {protocol} -S -C -c 4 -t 10")).success();
            assert_all_processed(&report, "40/40");
        }
    }
    // A client's place on the server is used by the others.
    let pgweir = Pgweir::before_with(&postgres, "pool_size = 2");
    let url = pgweir.url("postgres", "app");
    assert_all_processed(&pgbench(&url, "-n -M simple -c 20 -t 20").success(), "400/400");
    // pgbench prepares without looking at its other clients, so none of them may hold a transaction open.
    assert_all_processed(
        &pgbench(&url, "-n -M prepared -S -c 20 -t 20").success(),
        "400/400",
    );
    let balances =
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)";
    assert_eq!(postgres.sql("SELECT count(*) > 0 FROM pgbench_history"), "t");
    assert_eq!(postgres.sql(balances), "t");
}

fn assert_all_processed(report: &str, count: &str) {
    assert!(
        report.contains(&format!("number of transactions actually processed: {count}")),
        "{report}"
    );
    assert!(report.contains("number of failed transactions: 0"), "{report}");
}

#[test]
fn pgbench_works_with_pipelines() {
    let postgres = Postgres::start();
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("pipeline.sql");
    let commands = "\\startpipeline\nSELECT 1;\nSELECT 2;\nSELECT pg_backend_pid();\n\\endpipeline\n\
                    BEGIN;\nSELECT 3;\nEND;\n";
    std::fs::write(&script, commands).unwrap();
    for mode in MODES {
        let pgweir = in_mode(&postgres, mode);
        for protocol in ["extended", "prepared"] {
            let arguments = format!("-n -M {protocol} -c 4 -t 20 -f {}", script.display());
            assert_all_processed(
                &pgbench(&pgweir.url("postgres", "app"), &arguments).success(),
                "80/80",
            );
        }
    }
}

#[test]
fn psql_is_answered_as_by_the_server() {
    let postgres = Postgres::start();
    let script = "\\set ON_ERROR_STOP 0\n\
        CREATE TABLE words (id int PRIMARY KEY, word text);\n\
        \\copy words FROM STDIN\n1\tone\n2\ttwo\n\\.\n\
        \\copy (SELECT * FROM words ORDER BY id) TO STDOUT\n\
        COPY words TO STDOUT;\n\
        INSERT INTO words VALUES (1, 'again');\n\
        SELECT 1 \\; SELECT 2 \\; SELECT 1/0 \\; SELECT 3;\n\
        BEGIN; SELECT 1/0; SELECT 2; COMMIT;\n\
        SELECT format('SELECT %s', n) FROM generate_series(1, 3) n \\gexec\n\
        SELECT * FROM words WHERE id = 1 \\gdesc\n\
        \\set FETCH_COUNT 10\n\
        SELECT generate_series(1, 35);\n\
        \\d words\n\
        \\lo_import /etc/hostname\n\
        SELECT length(lo_get(loid)) > 0 FROM (SELECT DISTINCT loid FROM pg_largeobject) AS objects;\n\
        DO $$ BEGIN RAISE NOTICE 'a notice'; END $$;\n\
        \\encoding\n\
        SELECT lo_unlink(loid) FROM (SELECT DISTINCT loid FROM pg_largeobject) AS objects;\n\
        DROP TABLE words;\n";
    let direct = psql_script(&postgres.superuser_url(), script);
    assert!(direct.is_success && direct.stdout.contains("two"), "{direct:?}");
    for mode in MODES {
        let pgweir = in_mode(&postgres, mode);
        let pooled = psql_script(&pgweir.url("postgres", "app"), script);
        assert_eq!(
            without_oids(&pooled.stdout),
            without_oids(&direct.stdout),
            "in {mode} mode"
        );
        assert_eq!(pooled.stderr, direct.stderr, "in {mode} mode");
    }
}

/// `\lo_import` prints the number of its object, which is another one each time.
fn without_oids(text: &str) -> String {
    let is_oid = |line: &&str| !line.starts_with("lo_import");
    text.lines().filter(is_oid).collect::<Vec<_>>().join("\n")
}

fn psql_script(url: &str, script: &str) -> Ran {
    let mut child = client("psql")
        .args(["-X", "-A", "-t", "-d", url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Ran {
        is_success: output.status.success(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn a_dump_through_the_pooler_equals_a_direct_one() {
    let postgres = Postgres::start();
    postgres.sql(A_BIT_OF_EVERYTHING);
    let dump = |url: &str| run(client("pg_dump").args(["--no-comments", "-d", url])).success();
    let direct = dump(&postgres.superuser_url());
    assert!(
        direct.contains("pg_catalog.lo_create") && direct.contains("CREATE TYPE"),
        "{direct}"
    );
    for mode in MODES {
        let pgweir = in_mode(&postgres, mode);
        let pooled = dump(&pgweir.url("postgres", "app"));
        assert_eq!(
            without_restrict(&pooled),
            without_restrict(&direct),
            "in {mode} mode"
        );
        let inserts = |url: &str| run(client("pg_dump").args(["--inserts", "-d", url])).success();
        assert_eq!(
            without_restrict(&inserts(&pgweir.url("postgres", "app"))),
            without_restrict(&inserts(&postgres.superuser_url()))
        );
    }
}

#[test]
fn a_dump_is_restored_through_the_pooler() {
    let postgres = Postgres::start();
    postgres.sql(A_BIT_OF_EVERYTHING);
    let dump = |url: &str| run(client("pg_dump").args(["-d", url])).success();
    let direct = dump(&postgres.superuser_url());
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("archive");
    let archive = archive.to_str().unwrap();
    for mode in MODES {
        let target = format!("restored_{mode}");
        postgres.sql(&format!("CREATE DATABASE {target}"));
        let url = postgres.superuser_url();
        let target_url = url.replace("/postgres?", &format!("/{target}?"));
        let target_url = match target_url.strip_suffix("/postgres") {
            Some(server) => format!("{server}/{target}"),
            None => target_url,
        };
        let config = format!(
            "workers = 1\npool_mode = \"{mode}\"\n[auth]\nmethod = \"trust\"\n\
             [databases.app]\nurl = \"{url}\"\n[databases.target]\nurl = \"{target_url}\"\n"
        );
        let pgweir = Pgweir::builder().config(&config).start();
        run(client("pg_dump").args(["-Fc", "-f", archive, "-d", &pgweir.url("postgres", "app")])).success();
        let restored = pgweir.url("postgres", "target");
        run(client("pg_restore").args(["--exit-on-error", "-d", &restored, archive])).success();
        assert_eq!(
            without_restrict(&dump(&restored)),
            without_restrict(&direct),
            "in {mode} mode"
        );
        assert_eq!(without_restrict(&dump(&target_url)), without_restrict(&direct));
        // Several at once, and once more over what is there.
        run(client("pg_restore").args(["--clean", "--exit-on-error", "-j", "3", "-d", &restored, archive]))
            .success();
        assert_eq!(without_restrict(&dump(&target_url)), without_restrict(&direct));
    }
}

/// Newer releases of `pg_dump` put a random word into `\restrict`.
fn without_restrict(dump: &str) -> String {
    let lines = dump
        .lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"));
    lines.collect::<Vec<_>>().join("\n")
}

const A_BIT_OF_EVERYTHING: &str = "
    CREATE SCHEMA other;
    CREATE TYPE other.mood AS ENUM ('sad', 'ok', 'happy');
    CREATE TYPE other.pair AS (a int, b text);
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE SEQUENCE other.numbers START 17;
    CREATE TABLE people (id positive PRIMARY KEY DEFAULT nextval('other.numbers'), name text NOT NULL,
        mood other.mood, pair other.pair, born timestamptz, weight double precision, tags text[], doc jsonb, raw bytea);
    INSERT INTO people (name, mood, pair, born, weight, tags, doc, raw)
        SELECT 'name ' || n, 'ok'::other.mood, ROW(n, E'tab\\there')::other.pair, '2024-02-29 12:00:00+02'::timestamptz + n * interval '1 hour',
               n / 3.0::float8, ARRAY['a', NULL, 'c d'], jsonb_build_object('n', n), decode('00ff' || lpad(n::text, 4, '0'), 'hex')
        FROM generate_series(1, 500) AS n;
    CREATE INDEX people_by_name ON people (lower(name)) WHERE mood = 'ok';
    CREATE VIEW other.happy AS SELECT id, name FROM people WHERE mood = 'happy';
    CREATE MATERIALIZED VIEW counted AS SELECT mood, count(*) FROM people GROUP BY mood;
    CREATE FUNCTION other.twice(n int) RETURNS int LANGUAGE sql AS $$ SELECT n * 2 $$;
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := NEW.name; RETURN NEW; END $$;
    CREATE TRIGGER touched BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE TABLE parted (k int, v text) PARTITION BY HASH (k);
    CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO parted SELECT n, repeat('v', n % 50) FROM generate_series(1, 300) AS n;
    SELECT lo_from_bytea(4242, decode(repeat('00ff10', 3000), 'hex'));
    COMMENT ON TABLE people IS 'with ''quotes'' and \\ backslashes';
    REFRESH MATERIALIZED VIEW counted";

#[tokio::test]
async fn tokio_postgres_works_in_session_and_transaction_mode() {
    let postgres = Postgres::start();
    for mode in MODES {
        let pgweir = in_mode(&postgres, mode);
        let mut client = clients::connect(&pgweir.url("postgres", "app")).await;
        let statement = client.prepare("SELECT $1::int4 + 1, $2::text").await.unwrap();
        for number in 0..5_i32 {
            let row = client.query_one(&statement, &[&number, &"x"]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), number + 1);
        }
        // Pipelined: the driver sends before it has read.
        let futures = (0..100_i32).map(|number| {
            let (client, statement) = (&client, &statement);
            async move {
                let values: [&(dyn ToSql + Sync); 2] = [&number, &"y"];
                client
                    .query_one(statement, &values)
                    .await
                    .unwrap()
                    .get::<_, i32>(0)
            }
        });
        let mut sum = 0;
        for answer in futures_join(futures.collect()).await {
            sum += answer;
        }
        assert_eq!(sum, 5050);
        client
            .batch_execute("DROP TABLE IF EXISTS rows; CREATE TABLE rows (id int4)")
            .await
            .unwrap();
        let transaction = client.transaction().await.unwrap();
        transaction
            .execute("INSERT INTO rows VALUES ($1)", &[&1_i32])
            .await
            .unwrap();
        let portal = transaction
            .bind("SELECT generate_series(1, 10)", &[])
            .await
            .unwrap();
        assert_eq!(transaction.query_portal(&portal, 4).await.unwrap().len(), 4);
        assert_eq!(transaction.query_portal(&portal, 4).await.unwrap().len(), 4);
        assert_eq!(transaction.query_portal(&portal, 4).await.unwrap().len(), 2);
        transaction.rollback().await.unwrap();
        let error = client.query("SELECT 1 / $1::int4", &[&0_i32]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "22012");
        let count = client.query_one("SELECT count(*) FROM rows", &[]).await.unwrap();
        assert_eq!(count.get::<_, i64>(0), 0);
        drop(statement);
        client.simple_query("DISCARD ALL").await.unwrap();
        client.query_one("SELECT 1", &[]).await.unwrap();
    }
}

/// Polls all of them, so that their requests are sent together.
async fn futures_join<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures
        .into_iter()
        .map(|future| (Box::pin(future), None))
        .collect();
    std::future::poll_fn(|cx| {
        for (future, answer) in &mut futures {
            if answer.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *answer = Some(value);
            }
        }
        match futures.iter().all(|(_, answer)| answer.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    futures.into_iter().filter_map(|(_, answer)| answer).collect()
}

#[test]
fn psql_is_told_the_error_of_a_database_that_is_not_configured() {
    let postgres = Postgres::start();
    let pgweir = Pgweir::before(&postgres);
    let error = psql(&pgweir.url("postgres", "nowhere"), "SELECT 1").failure();
    assert!(error.contains("database \"nowhere\" does not exist"), "{error}");
}
