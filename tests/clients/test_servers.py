"""ASGI servers under a load, which the test makes itself, with asyncfast's streams on asyncfast."""

import asyncio
import os
import re
import signal

import pytest

DEADLINE = 30  # seconds, for what takes one or two


class Unanswered(Exception):
    """The server closed the connection before the request got there: clients repeat it on another connection."""


class Connection:
    """A keep-alive connection: as much of HTTP/1.1 as a load needs.  Every answer must be a good one."""

    @classmethod
    async def open(cls, site):
        self = cls()
        self.site = site
        self.reader, self.writer = await site.connect()
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc):
        self.writer.close()
        if exc == (None, None, None):
            await self.writer.wait_closed()

    def send(self, method, path, length=0, body=b""):
        self.writer.write(f"{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n".encode() + body)

    async def head(self):
        """The length of the answer's body."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            if getattr(error, "partial", b""):
                raise
            raise Unanswered from error
        assert head.startswith(b"HTTP/1.1 200 "), head
        return int(re.search(rb"(?i)\r\ncontent-length: *(\d+)\r\n", head)[1])

    async def echo(self, body):
        self.send("POST", "/echo", len(body), body)
        assert await self.reader.readexactly(await self.head()) == body

    async def who(self):
        """The process that answers; it must be made of what the site asks for."""
        self.send("GET", "/who")
        pid, _, line = (await self.reader.readexactly(await self.head())).decode().partition(" ")
        self.site.check(line)
        return int(pid)


async def load(site, connections=50, requests=20):
    """Many connections at a time; every answer is the one to its own request."""
    async def one(number):
        async with await Connection.open(site) as connection:
            await connection.who()
            for count in range(requests):
                await connection.echo(f"{number} {count} ".encode() * (count * count + 1))

    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(one(number))


@pytest.mark.recipes("uvicorn")
def test_uvicorn(recipes, serve, site):
    server = serve(f"{recipes['uvicorn'].command} --port {site.port} {site.options('--ssl-certfile', '--ssl-keyfile')}", site.env)
    site.run(load(site))
    server.stop(signal.SIGINT)


@pytest.mark.recipes("hypercorn")
@pytest.mark.parametrize("streams", ["asyncio", "asyncfast"])
def test_hypercorn(recipes, serve, site, streams):
    """It uses streams."""
    site.streams = streams
    server = serve(f"{recipes['hypercorn'].command} --bind 127.0.0.1:{site.port} {site.options('--certfile', '--keyfile')}",
                   site.env | {"ASYNCFAST_FAST_STREAMS": str(int(streams == "asyncfast"))})
    site.run(load(site))
    server.stop()


@pytest.mark.recipes("gunicorn")
def test_gunicorn(recipes, serve, here, site):
    (here / "worker.py").write_text(recipes["gunicorn"].code, encoding="utf-8")
    server = serve(f"{recipes['gunicorn'].command} --bind 127.0.0.1:{site.port} {site.options('--certfile', '--keyfile')}", site.env)
    site.run(load(site))
    site.run(reload(site, server))
    server.stop()


async def reload(site, server):
    """A reload while requests run and others come in: new workers take over, and no request is lost."""
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        before = await crew(site)
        begun = [await Begun.open(site, f"request {number}, ".encode() * 1000) for number in range(20)]
        over = asyncio.Event()
        for number in range(8):
            group.create_task(incessantly(site, f"client {number}, ".encode() * 100, over))
        server.send_signal(signal.SIGHUP)
        await crew(site, before)
        for request in begun:
            await request.finish()
        while any(map(alive, before)):
            await asyncio.sleep(0.01)
        over.set()


async def crew(site, before=frozenset()):
    """Both workers, which are none of those *before*."""
    found = set()
    while len(found) < 2:
        try:
            async with await Connection.open(site) as connection:
                found |= {await connection.who()} - before
        except Unanswered:
            pass
    return found


class Begun:
    """A request whose first half has been answered."""

    @classmethod
    async def open(cls, site, half):
        self = cls()
        self.half, self.connection = half, await Connection.open(site)
        self.connection.send("POST", "/echo", 2 * len(half), half)
        assert await self.connection.head() == 2 * len(half)
        assert await self.connection.reader.readexactly(len(half)) == half
        return self

    async def finish(self):
        async with self.connection:
            self.connection.writer.write(self.half)
            assert await self.connection.reader.read() == self.half


async def incessantly(site, body, over):
    """Ask, on one connection after the other: uvicorn keeps one that comes in as it shuts down for as long as it is used."""
    while not over.is_set():
        try:
            async with await Connection.open(site) as connection:
                for _ in range(10):
                    await connection.echo(body)
        except Unanswered:
            pass


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
