# What psycopg 3 does in every application, in any pool mode. Prints what an oracle can be compared with.
import os
import psycopg

url = os.environ["DATABASE_URL"]

with psycopg.connect(url) as connection:
    connection.prepare_threshold = 1
    for number in range(5):
        row = connection.execute("SELECT %s::int + 1, %s::text", (number, "x" * number)).fetchone()
        print("prepared", row)
    connection.commit()

    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS psycopg_rows (id int PRIMARY KEY, word text)")
        cursor.execute("TRUNCATE psycopg_rows")
        with cursor.copy("COPY psycopg_rows FROM STDIN") as copy:
            for number in range(1000):
                copy.write_row((number, f"word {number}"))
        print("copied in", cursor.rowcount)
        with cursor.copy("COPY (SELECT * FROM psycopg_rows ORDER BY id LIMIT 3) TO STDOUT") as copy:
            print("copied out", list(copy.rows()))
        cursor.executemany("INSERT INTO psycopg_rows VALUES (%s, %s)", [(n, "more") for n in range(1000, 1100)])
        print("many", cursor.rowcount)
    connection.commit()

    with connection.cursor() as cursor:
        try:
            with cursor.copy("COPY psycopg_rows FROM STDIN") as copy:
                copy.write_row((1, "a duplicate"))
        except psycopg.errors.UniqueViolation as error:
            print("copy failed", error.sqlstate)
    connection.rollback()
    with connection.cursor() as cursor:
        try:
            with cursor.copy("COPY psycopg_rows FROM STDIN") as copy:
                copy.write_row((5000, "never there"))
                raise KeyError("the application gives up")
        except KeyError as error:
            print("copy given up", error)
    connection.rollback()

    with connection.cursor(name="on_the_server") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT id FROM psycopg_rows ORDER BY id")
        print("server cursor", sum(row[0] for row in cursor))
    connection.commit()

    with connection.pipeline() as pipeline:
        cursors = [connection.execute("SELECT %s::int * 2", (number,)) for number in range(50)]
        pipeline.sync()
        print("pipeline", sum(cursor.fetchone()[0] for cursor in cursors))
    connection.commit()
    try:
        with connection.pipeline() as pipeline:
            first = connection.execute("SELECT 1")
            connection.execute("SELECT 1 / %s", (0,))
            connection.execute("SELECT 2")
            pipeline.sync()
    except psycopg.errors.DivisionByZero as error:
        print("pipeline failed", error.sqlstate)
    connection.rollback()

    try:
        connection.execute("SELECT no_such_column")
    except psycopg.errors.UndefinedColumn as error:
        print("error", error.sqlstate)
    connection.rollback()
    with connection.transaction():
        try:
            with connection.transaction():
                connection.execute("INSERT INTO psycopg_rows VALUES (1, 'a duplicate')")
        except psycopg.errors.UniqueViolation:
            print("savepoint", connection.execute("SELECT count(*) FROM psycopg_rows").fetchone())

    binary = connection.execute("SELECT %b::int8, %b::bytea", (7, b"\x00\xff"), binary=True).fetchone()
    print("binary", binary)
    notices = []
    connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    connection.execute("DO $$ BEGIN RAISE NOTICE 'heard'; END $$")
    print("notices", notices)
    connection.commit()

with psycopg.connect(url, autocommit=True) as connection:
    connection.prepare_threshold = 0
    for number in range(20):
        connection.execute(f"SELECT {number} AS c{number} WHERE %s::int IS NOT NULL", (number,))
    print("autocommit", connection.execute("SELECT count(*) FROM psycopg_rows").fetchone())
    connection.execute("DROP TABLE psycopg_rows")
