# What asyncpg does in every application, in any pool mode. Prints what an oracle can be compared with.
import asyncio
import io
import os
import asyncpg

url = os.environ["DATABASE_URL"]


async def main():
    connection = await asyncpg.connect(url)
    for number in range(5):
        print("fetch", await connection.fetchrow("SELECT $1::int + 1 AS n, $2::text AS t", number, "x"))
    await connection.execute("DROP TABLE IF EXISTS asyncpg_rows; CREATE TABLE asyncpg_rows (id int PRIMARY KEY, word text)")
    await connection.executemany(
        "INSERT INTO asyncpg_rows VALUES ($1, $2)", [(number, f"word {number}") for number in range(2000)]
    )
    print("many", await connection.fetchval("SELECT count(*) FROM asyncpg_rows"))
    try:
        await connection.executemany("INSERT INTO asyncpg_rows VALUES ($1, $2)", [(9000, "a"), (1, "duplicate"), (9001, "b")])
    except asyncpg.UniqueViolationError as error:
        print("many failed", error.sqlstate, await connection.fetchval("SELECT count(*) FROM asyncpg_rows"))
    print("copied in", await connection.copy_records_to_table("asyncpg_rows", records=[(n, "c") for n in range(3000, 3500)]))
    out = io.BytesIO()
    print("copied out", await connection.copy_from_query("SELECT * FROM asyncpg_rows ORDER BY id LIMIT 2", output=out), out.getvalue())
    try:
        await connection.copy_records_to_table("asyncpg_rows", records=[(1, "duplicate")])
    except asyncpg.UniqueViolationError as error:
        print("copy failed", error.sqlstate)
    async with connection.transaction():
        print("cursor", sum([row["id"] async for row in connection.cursor("SELECT id FROM asyncpg_rows", prefetch=50)]))
        statement = await connection.prepare("SELECT id FROM asyncpg_rows WHERE id < $1 ORDER BY id")
        cursor = await statement.cursor(10)
        print("cursor of a statement", await cursor.fetch(2), await cursor.forward(3), await cursor.fetchrow())
    statement = await connection.prepare("SELECT $1::int * 2")
    print("types", statement.get_parameters(), statement.get_attributes())
    print("again", await statement.fetchval(4), await statement.fetchval(5))
    try:
        await connection.fetchval("SELECT 1 / $1::int", 0)
    except asyncpg.DivisionByZeroError as error:
        print("error", error.sqlstate)
    try:
        async with connection.transaction():
            await connection.execute("INSERT INTO asyncpg_rows VALUES (70000, 'x')")
            raise KeyError("roll back")
    except KeyError:
        print("rolled back", await connection.fetchval("SELECT count(*) FROM asyncpg_rows WHERE id = 70000"))
    await connection.execute("ALTER TABLE asyncpg_rows ADD COLUMN extra int DEFAULT 3")
    print("after a change", await connection.fetchrow("SELECT * FROM asyncpg_rows WHERE id = $1", 1))
    await connection.close()

    async with asyncpg.create_pool(url, min_size=2, max_size=8) as pool:
        async def one(number):
            async with pool.acquire() as connection:
                return await connection.fetchval("SELECT $1::int", number)

        print("pool", sum(await asyncio.gather(*(one(number) for number in range(200)))))
        await pool.execute("DROP TABLE asyncpg_rows")


asyncio.run(main())
