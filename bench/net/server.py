"""One server on one loop: run.py starts it, load.c asks it.

    python bench/net/server.py CASE LOOP [--cpu N] [--unix PATH]          serves until it is killed
    python bench/net/server.py spawn LOOP [--cpu N] [--at-once N]         measures itself and prints the result

A server prints "READY " and the address that load.c takes. LOOP is one of ../loops.py, or "LOOP+aiofastnet": that
loop with aiofastnet's transports and sock_* calls in place of its own.
"""

import argparse
import asyncio
import importlib
import importlib.util
import json
import os
import resource
import socket
import ssl
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import loops  # noqa: E402

LOOPS = [*loops.FACTORIES, "asyncio+aiofastnet", "uvloop+aiofastnet"]
BACKLOG = 1024  # more than the connections of any run: none of them shall have to knock twice
CERTIFICATE = Path(__file__).resolve().parents[2] / "tests/unit/localhost.pem"  # with its key
LARGEST_DATAGRAM = 65507
STREAM_READ = 256 * 1024  # read(n) of a stream: all that has come
SOCK_READ = 64 * 1024  # sock_recv(n) allocates n bytes: what programs usually ask for


def installed():
    names = [*loops.installed(), *(["aiofastnet"] if importlib.util.find_spec("aiofastnet") else [])]
    return [name for name in LOOPS if all(part in names for part in name.split("+"))]


def factory(name):
    base, _, layer = name.partition("+")
    return importlib.import_module(layer).loop_factory(loops.factory(base)) if layer else loops.factory(base)


def version(name):
    base, _, layer = name.partition("+")
    return loops.version(base) + (f" + {loops.version(layer)}" if layer else "")


def ready(kind, where):
    print(f"READY {kind}:{where}", flush=True)


def bound(kind=socket.SOCK_STREAM):
    # with the protocol's number, as create_server(host, port) has it: without, asyncio leaves TCP_NODELAY off
    sock = socket.socket(socket.AF_INET, kind, socket.IPPROTO_TCP if kind == socket.SOCK_STREAM else 0)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    return sock, sock.getsockname()[1]


# ---- echoes --------------------------------------------------------------------------------------------------------

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    """write() may keep what it is given until it is sent, and the buffer is needed before that: hence the copy."""

    def connection_made(self, transport):
        self.transport = transport
        self.buffer = memoryview(bytearray(256 * 1024))

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, n):
        self.transport.write(bytes(self.buffer[:n]))


class DatagramEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        self.transport.sendto(data, peer)


def tls():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


async def serve_protocol(protocol, ssl=None):
    sock, port = bound()
    server = await asyncio.get_running_loop().create_server(protocol, sock=sock, backlog=BACKLOG, ssl=ssl)
    ready("tls" if ssl else "tcp", port)
    return server


async def tcp_protocol(args):
    return await serve_protocol(Echo)


async def tcp_buffered(args):
    return await serve_protocol(BufferedEcho)


async def tls_protocol(args):
    return await serve_protocol(Echo, tls())


async def tls_buffered(args):
    return await serve_protocol(BufferedEcho, tls())


async def serve_streams(start_server, ssl=None):
    async def answer(reader, writer):
        while data := await reader.read(STREAM_READ):
            writer.write(data)
            await writer.drain()
        writer.close()

    sock, port = bound()
    server = await start_server(answer, sock=sock, backlog=BACKLOG, ssl=ssl)
    ready("tls" if ssl else "tcp", port)
    return server


async def tcp_streams(args):
    return await serve_streams(asyncio.start_server)


async def tls_streams(args):
    return await serve_streams(asyncio.start_server, tls())


async def tcp_own_streams(args):
    return await serve_streams(importlib.import_module("asyncfast").start_server)


async def tcp_sock(args):
    loop = asyncio.get_running_loop()

    async def answer(client):
        with client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as transports do
            while data := await loop.sock_recv(client, SOCK_READ):
                await loop.sock_sendall(client, data)

    sock, port = bound()
    sock.listen(BACKLOG)
    ready("tcp", port)
    answering = set()
    while True:
        client, _ = await loop.sock_accept(sock)
        task = loop.create_task(answer(client))
        answering.add(task)
        task.add_done_callback(answering.discard)


async def unix_protocol(args):
    server = await asyncio.get_running_loop().create_unix_server(Echo, args.unix, backlog=BACKLOG)
    ready("unix", args.unix)
    return server


async def udp(args):
    sock, port = bound(socket.SOCK_DGRAM)
    # one socket takes the datagrams of all clients: with the usual room some of them would be lost
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    endpoint = await asyncio.get_running_loop().create_datagram_endpoint(DatagramEcho, sock=sock)
    ready("udp", port)
    return endpoint


# ---- HTTP: "Hello, world!" -----------------------------------------------------------------------------------------

HELLO = b"Hello, world!"


async def http_httptools(args):
    import httptools

    response = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(HELLO), HELLO)

    class Answer(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            self.parser = httptools.HttpRequestParser(self)

        def data_received(self, data):
            self.parser.feed_data(data)

        def on_message_complete(self):
            self.transport.write(response)

    return await serve_protocol(Answer)


async def http_aiohttp(args):
    from aiohttp import web

    async def hello(request):
        return web.Response(body=HELLO, content_type="text/plain")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    sock, port = bound()
    await web.SockSite(runner, sock, backlog=BACKLOG).start()
    ready("tcp", port)
    return runner


async def http_uvicorn(args):
    import uvicorn

    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(HELLO)).encode())]

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": HELLO})

    config = uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False, backlog=BACKLOG)
    sock, port = bound()
    sock.listen(BACKLOG)  # who comes before uvicorn does waits
    ready("tcp", port)
    await uvicorn.Server(config).serve(sockets=[sock])


# ---- subprocesses --------------------------------------------------------------------------------------------------

def usage():
    """(CPU ns, minor page faults) of this process, all its threads, and its children that have ended."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(round((u.ru_utime + u.ru_stime) * 1e9) for u in both), sum(u.ru_minflt for u in both)


async def spawn(args):
    """/bin/true, `at_once` at a time: what load.c prints, of processes instead of requests."""

    async def spawner(until):
        latencies = []
        while (begun := time.perf_counter()) < until:
            process = await asyncio.create_subprocess_exec("/bin/true")
            if await process.wait():
                raise AssertionError("/bin/true failed")
            latencies.append((time.perf_counter() - begun) * 1e6)
        return latencies

    async def spawners(seconds):
        until = time.perf_counter() + seconds
        return sum(await asyncio.gather(*[spawner(until) for _ in range(args.at_once)]), [])

    await spawners(args.warm_up)
    (cpu_ns, faults), begun = usage(), time.perf_counter()
    latencies = await spawners(args.seconds)
    seconds, (cpu_after, faults_after) = time.perf_counter() - begun, usage()
    percentiles = statistics.quantiles(latencies, n=1000, method="inclusive")
    print(json.dumps({
        "requests": len(latencies), "seconds": seconds, "rate": len(latencies) / seconds,
        "p50": percentiles[499], "p99": percentiles[989], "p99.9": percentiles[998],
        "errors": 0, "starved": 0, "resent": 0, "cpu_ns": cpu_after - cpu_ns, "faults": faults_after - faults,
    }))  # fmt: skip


# ---- the cases -----------------------------------------------------------------------------------------------------

class Case(NamedTuple):
    title: str
    serve: object
    mode: str | None = "echo"  # of load.c; None: the case measures itself
    limit: str | None = None  # what echo.c serves to the same load
    sizes: tuple = ()  # messages of these sizes, whatever run.py is asked for
    largest: int | None = None  # message
    most: int | None = None  # connections: a short run of more would hardly get beyond the handshakes
    connections: tuple = ()  # so many, whatever run.py is asked for
    needs: str | None = None  # a module
    options: tuple = ()  # of load.c


ANY = (0,)  # the size of a message is not part of the question

CASES = {
    "tcp_protocol": Case("protocol echo", tcp_protocol, limit="tcp"),
    "tcp_buffered": Case("buffered protocol echo", tcp_buffered, limit="tcp"),
    "tcp_streams": Case("streams echo", tcp_streams, limit="tcp"),
    "tcp_own_streams": Case("asyncfast's streams echo", tcp_own_streams, limit="tcp", needs="asyncfast"),
    "tcp_sock": Case("`sock_*` echo", tcp_sock, limit="tcp"),
    "unix_protocol": Case("Unix protocol echo", unix_protocol, limit="unix"),
    "udp": Case("UDP echo", udp, limit="udp", largest=LARGEST_DATAGRAM),
    "connect": Case("connect, echo, close", tcp_protocol, mode="connect", limit="tcp", sizes=(64,)),
    "http_httptools": Case("HTTP by httptools", http_httptools, mode="http", sizes=ANY, needs="httptools"),
    "http_aiohttp": Case("HTTP by aiohttp", http_aiohttp, mode="http", sizes=ANY, needs="aiohttp"),
    "http_uvicorn": Case("HTTP by uvicorn", http_uvicorn, mode="http", sizes=ANY, needs="uvicorn"),
    "tls_protocol": Case("TLS protocol echo", tls_protocol, limit="tls", most=50),
    "tls_buffered": Case("TLS buffered protocol echo", tls_buffered, limit="tls", most=50),
    "tls_streams": Case("TLS streams echo", tls_streams, limit="tls", most=50),
    "tls_connect": Case("TLS handshake, echo, close", tls_protocol, mode="connect", limit="tls", most=50, sizes=(64,)),
    "tls_resume": Case("the same, resuming a session", tls_protocol, mode="connect", limit="tls", most=50, sizes=(64,),
                       options=("--resume",)),
    "spawn": Case("spawn `/bin/true` and wait", spawn, mode=None, sizes=ANY, connections=(1, 8)),
}


async def serve(args):
    serving = await CASES[args.case].serve(args)
    if CASES[args.case].mode:
        await asyncio.get_running_loop().create_future()
    del serving  # alive until here


def main():
    parser = argparse.ArgumentParser(description="One server on one loop.")
    parser.add_argument("case", choices=CASES)
    parser.add_argument("loop", choices=LOOPS)
    parser.add_argument("--cpu", type=int, help="the core to stay on")
    parser.add_argument("--unix", metavar="PATH", help="where unix_protocol listens")
    parser.add_argument("--at-once", type=int, default=1, help="spawn: processes at a time")
    parser.add_argument("--warm-up", type=float, default=0.3, help="spawn: seconds that do not count")
    parser.add_argument("--seconds", type=float, default=1, help="spawn: seconds that do")
    args = parser.parse_args()
    if args.cpu is not None:
        os.sched_setaffinity(0, {args.cpu})  # before there are threads and children, which inherit it
    with asyncio.Runner(debug=False, loop_factory=factory(args.loop)) as runner:
        runner.run(serve(args))


if __name__ == "__main__":
    main()
