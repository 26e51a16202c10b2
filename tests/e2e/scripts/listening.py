# How drivers wait for notifications, without a session of their own. Prints what an oracle can be compared with.
import asyncio
import os
import asyncpg
import psycopg

url = os.environ["DATABASE_URL"]

with psycopg.connect(url, autocommit=True) as listener, psycopg.connect(url, autocommit=True) as notifier:
    listener.execute("LISTEN py_channel")
    for number in range(3):
        notifier.execute("SELECT pg_notify('py_channel', %s)", (f"it's {number} é",))
    for notify in listener.notifies(timeout=30, stop_after=3):
        print("psycopg", notify.channel, notify.payload)
    listener.execute("UNLISTEN py_channel")
    notifier.execute("NOTIFY py_channel")
    print("nothing", list(listener.notifies(timeout=0.2)))


async def main():
    listener, notifier = await asyncpg.connect(url), await asyncpg.connect(url)
    heard = asyncio.Queue()
    await listener.add_listener("Py Channel", lambda connection, pid, channel, payload: heard.put_nowait((channel, payload)))
    for number in range(3):
        await notifier.execute("SELECT pg_notify('Py Channel', $1)", f"payload {number}")
        print("asyncpg", await asyncio.wait_for(heard.get(), 30))
    async with listener.transaction():
        print("still of use", await listener.fetchval("SELECT $1::int", 7))
    await listener.close()
    await notifier.close()

    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
        async with pool.acquire() as connection:
            await connection.execute("LISTEN pooled")
        # The pool of the driver has cleaned the session.
        async with pool.acquire() as connection:
            await connection.add_listener("other", lambda *told: heard.put_nowait(told[2:]))
            await connection.execute("NOTIFY pooled, 'x'; NOTIFY other, 'y'")
            print("asyncpg", await asyncio.wait_for(heard.get(), 30), heard.empty())


asyncio.run(main())
