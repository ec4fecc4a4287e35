"""TLS over our transports.  localhost.pem is a key and a certificate of its own signature, for these tests only."""

import asyncio
import os
import socket
import ssl
from pathlib import Path

import pytest

PEM = Path(__file__).with_name("localhost.pem")


def contexts():
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(PEM)
    client = ssl.create_default_context(cafile=PEM)
    return server, client


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.mark.parametrize("size", [1, 1000, 300_000])
async def test_echo(loop, size):
    server_tls, client_tls = contexts()
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_tls)
    host, port = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(host, port, ssl=client_tls, server_hostname="localhost")
    assert writer.get_extra_info("peername") == (host, port)
    assert writer.get_extra_info("cipher") and writer.get_extra_info("ssl_object").getpeercert()
    data = os.urandom(size)
    for _ in range(3):
        writer.write(data)
        assert await reader.readexactly(size) == data
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


@pytest.mark.kinds("asyncfast", "asyncio")
async def test_peer_that_speaks_no_tls(loop):
    server_tls, _ = contexts()
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_tls)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    assert b"HTTP" not in await reader.read()
    writer.close()
    server.close()


@pytest.mark.kinds("asyncfast", "asyncio")
async def test_certificate_refused(loop):
    server_tls, _ = contexts()
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_tls)
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=ssl.create_default_context(),
                                      server_hostname="localhost")
    server.close()


async def upgrade(reader, writer):
    """Answer to one plain line, then to one under TLS."""
    assert await reader.readline() == b"STARTTLS\n"
    server_tls, _ = contexts()
    await writer.start_tls(server_tls)
    writer.write(b"secret " + await reader.readline())
    await writer.drain()
    writer.close()


async def talk_tls(loop, sock, tls, incoming, outgoing, call):
    while True:
        try:
            return call()
        except ssl.SSLWantReadError:
            await loop.sock_sendall(sock, outgoing.read())
            incoming.write(await loop.sock_recv(sock, 65536))
        finally:
            if outgoing.pending:
                await loop.sock_sendall(sock, outgoing.read())


@pytest.mark.only_asyncfast
@pytest.mark.parametrize("at_once", [False, True], ids=["in its turn", "with the line"])
async def test_start_tls(loop, at_once):
    """A client may send its hello together with the line that asks for TLS: the stream reader has it by then."""
    server = await asyncio.start_server(upgrade, "127.0.0.1", 0)
    _, client_tls = contexts()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_tls.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(server.sockets[0].getsockname()) as sock:
        sock.setblocking(False)
        if at_once:
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            await loop.sock_sendall(sock, b"STARTTLS\n" + outgoing.read())
        else:
            await loop.sock_sendall(sock, b"STARTTLS\n")
        await talk_tls(loop, sock, tls, incoming, outgoing, tls.do_handshake)
        tls.write(b"hello\n")
        assert await talk_tls(loop, sock, tls, incoming, outgoing, tls.read) == b"secret hello\n"
    server.close()
