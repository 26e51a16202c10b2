# What needs a session: notifications to an idle client, settings, cursors that outlive their transaction.
import os
import psycopg

url = os.environ["DATABASE_URL"]

with psycopg.connect(url, autocommit=True) as listener, psycopg.connect(url, autocommit=True) as speaker:
    listener.execute("LISTEN news")
    for number in range(3):
        speaker.execute("SELECT pg_notify('news', %s)", (f"number {number}",))
    heard = [notify.payload for notify in listener.notifies(timeout=20, stop_after=3)]
    print("heard", heard)
    listener.execute("UNLISTEN news")

    listener.execute("SET search_path = pg_catalog")
    print("kept", listener.execute("SHOW search_path").fetchone())
    print("apart", speaker.execute("SHOW search_path").fetchone())
    with listener.cursor(name="held", withhold=True) as cursor:
        cursor.execute("SELECT generate_series(1, 10)")
        print("held", cursor.fetchmany(3), cursor.fetchmany(2))
    listener.execute("CREATE TEMP TABLE mine AS SELECT 42 AS answer")
    print("temporary", listener.execute("SELECT answer FROM mine").fetchone())
    print("locked", listener.execute("SELECT pg_try_advisory_lock(42)").fetchone())
    print("refused", speaker.execute("SELECT pg_try_advisory_lock(42)").fetchone())
