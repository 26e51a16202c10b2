-- One statement a line: every kind that PostgreSQL has, and shapes of queries that a classifier may be wrong about.
SELECT 1
VALUES (1), (2)
TABLE t
SELECT * FROM t ORDER BY id LIMIT 3
SELECT count(*), sum(a), max(b) FROM t GROUP BY a HAVING count(*) > 1
SELECT * FROM t JOIN users USING (id) ORDER BY id
SELECT * FROM plain ORDER BY id
SELECT * FROM mat ORDER BY id
SELECT * FROM parted
SELECT * FROM half
SELECT * FROM over_unlogged
SELECT * FROM unlogged
SELECT * FROM bumping
SELECT * FROM over_bumping
SELECT * FROM numbering
SELECT * FROM guarded
SELECT last_value, is_called FROM seq
SELECT nextval('seq')
SELECT setval('seq', 5)
SELECT currval('seq')
SELECT lastval()
SELECT app.bump(1)
SELECT app.peek(1), app.twice(2)
SELECT mixed(1)
SELECT mixed('a')
SELECT lower(1)
SELECT lower('A'), pg_catalog.lower('A')
SELECT bump_all(id) FROM t
SELECT 1 <+> 2
SELECT 1 OPERATOR(public.<+>) 2
SELECT t.bump_row FROM t
SELECT (t).bump_row FROM t
SELECT (SELECT t).bump_row FROM t
SELECT x.bump_row FROM (SELECT * FROM t) AS x
SELECT '1'::checked
SELECT CAST(1 AS checked)
SELECT checked '1'
SELECT '1'::positive, 'sad'::mood
SELECT '(1,2)'::pair
SELECT jsonb_populate_record(NULL::pair, '{"b": 1}')
SELECT * FROM jsonb_to_record('{"b": 1}') AS x(b checked)
SELECT * FROM json_populate_recordset(NULL::pair, '[{"b": 1}]')
SELECT * FROM xmltable('/a' PASSING '<a>1</a>' COLUMNS b checked PATH '.')
SELECT ARRAY['1'::checked]
SELECT '{1}'::checked[]
SELECT * FROM t FOR UPDATE
SELECT * FROM t FOR NO KEY UPDATE
SELECT * FROM t FOR SHARE
SELECT * FROM t FOR KEY SHARE SKIP LOCKED
SELECT * FROM (SELECT * FROM t FOR UPDATE) x
SELECT (SELECT id FROM t LIMIT 1 FOR UPDATE)
WITH x AS (SELECT * FROM t FOR SHARE) SELECT * FROM x
WITH x AS MATERIALIZED (SELECT * FROM t) SELECT count(*) FROM x
WITH x AS (INSERT INTO log(what) VALUES ('a') RETURNING *) SELECT * FROM x
WITH x AS (DELETE FROM log RETURNING *) SELECT 1
WITH x AS (UPDATE t SET a = 1 RETURNING *) TABLE x
WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT * FROM n
WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT app.bump(i + 1) FROM n WHERE i < 5) SELECT * FROM n
SELECT * INTO made FROM t
SELECT * INTO TEMP made FROM t
CREATE TABLE made AS SELECT 1
CREATE TEMP TABLE made AS SELECT 1
CREATE TABLE IF NOT EXISTS made AS EXECUTE p
INSERT INTO log(what) VALUES ('x')
INSERT INTO log(what) SELECT b FROM t ON CONFLICT DO NOTHING
UPDATE t SET a = 2 WHERE id = 1
DELETE FROM t WHERE id = 1
MERGE INTO t USING users u ON t.id = u.id WHEN MATCHED THEN DO NOTHING
MERGE INTO t USING users u ON t.id = u.id WHEN MATCHED THEN UPDATE SET a = 1
TRUNCATE log
LOCK TABLE t
LOCK TABLE t IN ACCESS SHARE MODE
LOCK TABLE t IN ROW EXCLUSIVE MODE
COPY t TO STDOUT
COPY (SELECT * FROM t) TO STDOUT
COPY (SELECT app.bump(1)) TO STDOUT
COPY (INSERT INTO log(what) VALUES ('x') RETURNING *) TO STDOUT
COPY unlogged TO STDOUT
COPY bumping TO STDOUT
COPY t TO PROGRAM 'true'
EXPLAIN SELECT * FROM t
EXPLAIN INSERT INTO log(what) VALUES ('x')
EXPLAIN ANALYZE SELECT 1
EXPLAIN (ANALYZE) SELECT app.bump(1)
EXPLAIN ANALYZE INSERT INTO log(what) VALUES ('x')
EXPLAIN ANALYZE CREATE TABLE made AS SELECT 1
EXPLAIN ANALYZE DECLARE c CURSOR FOR SELECT 1
PREPARE p AS SELECT 1
PREPARE p AS INSERT INTO log(what) VALUES ('x')
EXECUTE p
EXECUTE p(app.bump(1))
DEALLOCATE ALL
DECLARE c CURSOR FOR SELECT * FROM t
DECLARE c CURSOR WITH HOLD FOR SELECT * FROM t
DECLARE c CURSOR FOR SELECT * FROM t FOR UPDATE
FETCH 1 FROM c
MOVE 1 FROM c
CLOSE ALL
BEGIN
BEGIN READ ONLY
BEGIN READ WRITE
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE
START TRANSACTION ISOLATION LEVEL REPEATABLE READ
SET TRANSACTION READ ONLY
SET TRANSACTION READ WRITE
SET TRANSACTION SNAPSHOT '00000003-0000001B-1'
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY
SET transaction_read_only = off
SAVEPOINT a
RELEASE a
ROLLBACK TO a
COMMIT
ROLLBACK
PREPARE TRANSACTION 'x'
COMMIT PREPARED 'x'
ROLLBACK PREPARED 'x'
SET work_mem = '5MB'
SET LOCAL work_mem = '5MB'
SET ROLE postgres
SET SESSION AUTHORIZATION postgres
SET CONSTRAINTS ALL DEFERRED
RESET work_mem
RESET ALL
SHOW work_mem
SHOW ALL
SELECT set_config('work_mem', '5MB', false)
SELECT set_config('work_mem', '5MB', true)
SELECT a FROM t WHERE set_config('a.b', b, false) IS NULL
SELECT current_setting('work_mem')
SELECT current_setting('transaction_read_only')
SELECT current_setting('in_hot_standby', true)
SELECT current_setting('app.user', true)
SELECT setseed(0.5)
SELECT pg_advisory_lock(1)
SELECT pg_advisory_xact_lock(1)
SELECT pg_try_advisory_lock(1)
SELECT pg_advisory_unlock_all()
SELECT count(*) FROM t WHERE pg_try_advisory_lock_shared(id)
SELECT pg_notify('a', 'b')
NOTIFY a
LISTEN a
UNLISTEN *
SELECT lo_create(0)
SELECT lo_from_bytea(0, 'a')
SELECT txid_current()
SELECT pg_current_xact_id()
SELECT txid_current_if_assigned()
SELECT pg_is_in_recovery()
SELECT pg_export_snapshot()
SELECT pg_switch_wal()
SELECT pg_create_restore_point('x')
SELECT pg_logical_emit_message(false, 'a', 'b')
SELECT query_to_xml('INSERT INTO log(what) VALUES (1) RETURNING 1', true, true, '')
SELECT query_to_xml('SELECT app.bump(1)', true, true, '')
SELECT table_to_xml('bumping', true, true, '')
SELECT schema_to_xml('public', true, true, '')
SELECT database_to_xml(true, true, '')
SELECT ts_stat('SELECT ''a''::tsvector FROM app.bump(1)')
SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, ''b''::tsquery FROM app.bump(1)')
SELECT pg_input_is_valid('1', 'checked')
SELECT * FROM pg_class
SELECT * FROM pg_catalog.pg_proc
SELECT * FROM information_schema.tables
SELECT * FROM pg_stat_activity
SELECT * FROM pg_settings
SELECT CASE WHEN id > 5 THEN nextval('seq') END FROM t ORDER BY id
SELECT * FROM generate_series(1, app.bump(3))
SELECT * FROM t, LATERAL (SELECT app.bump(t.id)) x
SELECT * FROM t LEFT JOIN users ON app.bump(t.id) = users.id
SELECT sum(a) OVER (ORDER BY app.bump(id)) FROM t
SELECT sum(a) FILTER (WHERE app.bump(a) = 1) FROM t
SELECT 1 ORDER BY app.bump(1)
SELECT 1 LIMIT app.bump(1)
SELECT 1 UNION SELECT app.bump(1)
SELECT DISTINCT ON (app.bump(a)) a FROM t
SELECT row_number() OVER (PARTITION BY a ORDER BY id), rank() OVER w FROM t WINDOW w AS (ORDER BY b)
SELECT a, count(*) FROM t GROUP BY ROLLUP (a) ORDER BY 1
SELECT * FROM t TABLESAMPLE bernoulli (100) ORDER BY id
SELECT * FROM t WHERE b LIKE 'b1%' AND a BETWEEN 0 AND 2 AND id IN (1, 2, 10) ORDER BY id
SELECT * FROM t WHERE EXISTS (SELECT 1 FROM users u WHERE u.id = t.id) ORDER BY id
SELECT j -> 'a', j ->> 'a', j @> '{}', j #> '{a}', jsonb_path_query(j, '$.a') FROM t
SELECT xpath('/a', x), xmlelement(name b, x) FROM t
SELECT extract(year FROM date '2020-01-01'), date_trunc('day', timestamp '2020-01-01'), age(timestamp '2020-01-01', timestamp '2019-01-01')
SELECT to_tsvector('english', b) @@ to_tsquery('english', 'b1') FROM t
SELECT ARRAY(SELECT id FROM t ORDER BY id), (ARRAY[1, 2, 3])[2], ROW(1, 'a')
SELECT string_agg(b, ',' ORDER BY id), array_agg(id ORDER BY id), json_agg(a ORDER BY id) FROM t
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a), mode() WITHIN GROUP (ORDER BY a) FROM t
SELECT random() < 2, gen_random_uuid() IS NULL, clock_timestamp() IS NULL
SELECT pg_sleep(0)
SELECT pg_table_size('t') > 0, pg_relation_size('t') > 0
SELECT 't'::regclass, to_regclass('missing'), 'int4'::regtype
SELECT current_user, session_user, current_database(), current_schema
SELECT version() IS NULL, pg_typeof(1), obj_description('t'::regclass, 'pg_class')
SELECT generate_series(1, 3), unnest(ARRAY[1, 2])
SELECT * FROM ROWS FROM (generate_series(1, 2), unnest(ARRAY['a'])) WITH ORDINALITY
SELECT 1; SELECT 2
SELECT 1; INSERT INTO log(what) VALUES ('x')
SET work_mem = '5MB'; SELECT 1
BEGIN; SELECT 1
DO 'BEGIN PERFORM 1; END'
DO 'BEGIN INSERT INTO log(what) VALUES (1); END'
CALL proc()
CREATE TABLE made (id int)
CREATE TEMP TABLE made (id int)
CREATE UNLOGGED TABLE made (id int)
CREATE TABLE made (LIKE t)
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20)
CREATE VIEW made AS SELECT 1
CREATE MATERIALIZED VIEW made AS SELECT 1
CREATE INDEX ON t (a)
CREATE SEQUENCE made
CREATE SCHEMA made
CREATE TYPE made AS (a int)
CREATE TYPE made AS ENUM ('a')
CREATE TYPE made AS RANGE (subtype = int4)
CREATE DOMAIN made AS int
CREATE FUNCTION made() RETURNS int LANGUAGE sql AS 'SELECT 1'
CREATE PROCEDURE made() LANGUAGE sql AS 'SELECT 1'
CREATE AGGREGATE made(int) (SFUNC = int4pl, STYPE = int)
CREATE OPERATOR <-+> (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl)
CREATE CAST (mood AS int) WITH INOUT
CREATE COLLATION made FROM "C"
CREATE RULE made AS ON INSERT TO log DO NOTHING
CREATE TRIGGER made BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()
CREATE EVENT TRIGGER made ON ddl_command_start EXECUTE FUNCTION made()
CREATE POLICY made ON t
CREATE ROLE made
CREATE USER made
CREATE EXTENSION IF NOT EXISTS plpgsql
CREATE FOREIGN DATA WRAPPER made
CREATE SERVER made FOREIGN DATA WRAPPER made
CREATE USER MAPPING FOR postgres SERVER made
CREATE FOREIGN TABLE made (id int) SERVER made
CREATE PUBLICATION made FOR TABLE t
CREATE STATISTICS made ON a, b FROM t
CREATE TEXT SEARCH CONFIGURATION made (COPY = simple)
CREATE TEXT SEARCH DICTIONARY made (TEMPLATE = simple)
CREATE ACCESS METHOD made TYPE INDEX HANDLER bthandler
CREATE OPERATOR CLASS made FOR TYPE int USING btree AS OPERATOR 1 <
CREATE OPERATOR FAMILY made USING btree
CREATE CONVERSION made FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8
CREATE LANGUAGE made HANDLER plpgsql_call_handler
CREATE TRANSFORM FOR int LANGUAGE plpgsql (FROM SQL WITH FUNCTION made(internal))
ALTER TABLE t ADD COLUMN made int
ALTER TABLE t RENAME TO made
ALTER TABLE t SET SCHEMA app
ALTER TABLE t OWNER TO postgres
ALTER VIEW plain RENAME TO made
ALTER SEQUENCE seq RESTART
ALTER FUNCTION app.bump(int) STABLE
ALTER TYPE mood RENAME TO made
ALTER DOMAIN positive DROP NOT NULL
ALTER ROLE postgres SET work_mem = '4MB'
ALTER DATABASE postgres SET work_mem = '4MB'
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC
ALTER INDEX t_pkey RENAME TO made
ALTER SCHEMA app RENAME TO made
DROP TABLE log
DROP VIEW plain
DROP FUNCTION app.bump(int)
DROP SCHEMA app CASCADE
DROP OWNED BY CURRENT_USER
REASSIGN OWNED BY CURRENT_USER TO postgres
GRANT SELECT ON t TO PUBLIC
REVOKE SELECT ON t FROM PUBLIC
GRANT pg_monitor TO postgres
COMMENT ON TABLE t IS 'x'
SECURITY LABEL ON TABLE t IS 'x'
ANALYZE t
CLUSTER t USING t_pkey
REINDEX TABLE t
REFRESH MATERIALIZED VIEW mat
IMPORT FOREIGN SCHEMA x FROM SERVER made INTO public
