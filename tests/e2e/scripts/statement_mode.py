# What works without transaction blocks, with both drivers.
import asyncio
import os
import asyncpg
import psycopg

url = os.environ["DATABASE_URL"]


async def with_asyncpg():
    connection = await asyncpg.connect(url)
    for number in range(5):
        print("asyncpg", await connection.fetchval("SELECT $1::int + 1", number))
    await connection.close()


with psycopg.connect(url, autocommit=True) as connection:
    connection.prepare_threshold = 0
    for number in range(5):
        print("psycopg", connection.execute("SELECT %s::int + 1", (number,)).fetchone())
    connection.execute("CREATE TABLE IF NOT EXISTS statement_rows (id int)")
    with connection.cursor() as cursor:
        with cursor.copy("COPY statement_rows FROM STDIN") as copy:
            copy.write_row((1,))
        print("copied", cursor.rowcount)
    connection.execute("DROP TABLE statement_rows")
asyncio.run(with_asyncpg())
