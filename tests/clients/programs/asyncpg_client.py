"""An asyncpg client; where the server is, is in PGHOST and its like.  PGSSLROOTCERT: with TLS."""

import asyncio
import io
import os

import asyncpg
from inside import inside


async def queries(connection):
    encrypted = await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    assert encrypted == ("PGSSLROOTCERT" in os.environ)
    await connection.execute("CREATE TABLE item (id serial PRIMARY KEY, name text, data bytea)")
    insert = "INSERT INTO item (name, data) VALUES ($1, $2)"
    await connection.executemany(insert, [(f"name {number}", bytes([number])) for number in range(200)])
    rows = await connection.fetch("SELECT * FROM item WHERE id > $1 ORDER BY id", 100)
    assert [row["name"] for row in rows] == [f"name {number}" for number in range(100, 200)]
    large = bytes(range(256)) * 20_000
    assert await connection.fetchval("SELECT $1::bytea", large) == large
    async with connection.transaction():
        cursor = connection.cursor("SELECT id FROM item", prefetch=7)
        assert len([row async for row in cursor]) == 200
    try:
        async with connection.transaction():
            await connection.execute("DELETE FROM item")
            await connection.execute("SELECT 1 / 0")
    except asyncpg.DivisionByZeroError:
        pass
    assert await connection.fetchval("SELECT count(*) FROM item") == 200


async def copies(connection):
    records = [(f"copy {number}", b"x" * number) for number in range(1000)]
    await connection.copy_records_to_table("item", records=records, columns=("name", "data"))
    out = io.BytesIO()
    await connection.copy_from_query("SELECT name FROM item WHERE name LIKE 'copy%' ORDER BY id", output=out)
    assert out.getvalue().decode().split("\n")[:-1] == [name for name, data in records]


async def notifications(connection, other):
    received = asyncio.Queue()
    await connection.add_listener("channel", lambda connection, pid, channel, payload: received.put_nowait((pid, payload)))
    for number in range(100):
        await other.execute(f"NOTIFY channel, 'number {number}'")
    for number in range(100):
        assert await received.get() == (other.get_server_pid(), f"number {number}")


async def cancellation(connection, other):
    """What is cancelled or takes too long is cancelled in the server too, and the connection goes on."""
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
    task = asyncio.ensure_future(connection.execute("SELECT pg_sleep(3600)"))
    while not await other.fetchval(sleeping):
        pass
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert await connection.fetchval("SELECT 1") == 1
    while await other.fetchval(sleeping):
        pass
    try:
        await connection.execute("SELECT pg_sleep(3600)", timeout=0.1)
    except TimeoutError:
        pass
    else:
        raise AssertionError("no timeout")
    assert await connection.fetchval("SELECT 2") == 2


async def pool():
    """More users than connections, some of which give up; every answer is the one to its own query."""
    async with asyncpg.create_pool(min_size=2, max_size=5) as pool:
        async def one(number):
            assert await pool.fetchval("SELECT $1::int + 1", number) == number + 1

        async def gives_up():
            async with asyncio.timeout(0.05):
                await pool.execute("SELECT pg_sleep(3600)")

        results = await asyncio.gather(*(gives_up() for _ in range(10)), *(one(number) for number in range(300)),
                                       return_exceptions=True)
        assert [type(result) for result in results[:10]] == [TimeoutError] * 10
        assert results[10:] == [None] * 300
        assert pool.get_size() <= 5


async def main():
    connection, other = await asyncpg.connect(), await asyncpg.connect()
    await queries(connection)
    await copies(connection)
    await notifications(connection, other)
    await cancellation(connection, other)
    await pool()
    await connection.execute("DROP TABLE item")
    print(inside())
    await connection.close()
    other.terminate()


asyncio.run(main())
