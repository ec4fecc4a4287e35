"""What an SSLContext decides, and what may be asked of the connection: the same on both engines as on asyncio."""

import asyncio
import contextlib
import os
import shutil
import ssl
import sys

import pytest
from _tls_pair import (  # noqa: F401 (engine, pair and reported are fixtures)
    BIG, PEM, SIDES, VERSIONS, TLSNotes, client_context, engine, pair, reported, server_context)
from _turns import EACH, turn, until

PSK = pytest.mark.skipif(sys.version_info < (3, 13) or not getattr(ssl, "HAS_PSK", False), reason="PSK came with 3.13")
OPENSSL = pytest.mark.skipif(not shutil.which("openssl"), reason="asks the openssl program for it")


def both_contexts(server, **options):
    """(ours, the peer's)"""
    ours, theirs = server_context(**options), client_context(**options)
    return (ours, theirs) if server else (theirs, ours)


def exchange(p, size=100_000):
    p.transport.write(BIG[:size])
    assert p.read(size) == BIG[:size]
    p.protocol.data.clear()
    p.write(BIG[:size])
    p.until_data(size)
    assert p.protocol.data == BIG[:size]


# -- sessions

class Resuming(ssl.SSLContext):
    """Its connections go on with this session."""

    going_on = None

    def wrap_bio(self, *args, **kwargs):
        return super().wrap_bio(*args, **kwargs, session=self.going_on)


@VERSIONS
@SIDES
def test_a_session_is_resumed(pair, server, version):
    ours, theirs = both_contexts(server, maximum_version=version)
    if not server:
        ours = Resuming(ssl.PROTOCOL_TLS_CLIENT)
        ours.load_verify_locations(PEM)
        ours.maximum_version = version
    session = None
    for resumed in (False, True, True):
        if server:
            p = pair(context=ours, peer_context=theirs, session=session)
        else:
            ours.going_on = session
            p = pair(server=False, context=ours, peer_context=theirs)
        exchange(p)                     # with TLS 1.3 the ticket comes when the handshake is over
        tls = p.transport.get_extra_info("ssl_object")
        assert tls.session_reused is p.tls.session_reused is resumed
        session = p.tls.session if server else tls.session
        assert session.has_ticket and session.timeout > 0
        assert tls.getpeercert() == p.transport.get_extra_info("peercert")
        assert bool(p.transport.get_extra_info("peercert")) is not server
        assert p.transport.get_extra_info("cipher") == tls.cipher() == p.tls.cipher()
        p.transport.close()
        p.do(p.tls.unwrap)
        assert p.until_lost() is None


# -- PSK

def psk_contexts(server, version, key, their_key):
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    theirs.check_hostname = False
    theirs.verify_mode = ssl.CERT_NONE
    asked = []
    for context in (ours, theirs):
        context.minimum_version = context.maximum_version = version
        if version == ssl.TLSVersion.TLSv1_2:
            context.set_ciphers("PSK")

    def of_server(identity):
        asked.append(identity)
        return their_key

    def of_client(hint):
        asked.append(hint)
        return "me", key

    ours.set_psk_server_callback(of_server, "who are you?")
    theirs.set_psk_client_callback(of_client)
    return asked, *((ours, theirs) if server else (theirs, ours))


@PSK
@VERSIONS
@SIDES
def test_keys_that_both_know(pair, server, version):
    asked, ours, theirs = psk_contexts(server, version, b"secret", b"secret")
    p = pair(server=server, context=ours, peer_context=theirs)
    exchange(p)
    assert set(asked) == ({"who are you?", "me"} if version == ssl.TLSVersion.TLSv1_2 else {None, "me"})
    assert p.transport.get_extra_info("peercert") is None
    assert ("PSK" in p.transport.get_extra_info("cipher")[0]) == (version == ssl.TLSVersion.TLSv1_2)


def until_made(p):
    """The handshake, however it ends: why it failed on our side, or None."""
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        p.do(p.tls.do_handshake)
    p.flush()
    for _ in range(20):
        turn(p.loop)
        p.receive()
        if p.made.done():
            break
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            p.tls.read(1)
        p.flush()
    until(p.loop, p.made.done)
    return p.made.exception()


@PSK
@VERSIONS
@SIDES
def test_keys_that_differ(pair, server, version):
    asked, ours, theirs = psk_contexts(server, version, b"secret", b"guess")
    p = pair(server=server, context=ours, peer_context=theirs, handshake=False)
    assert isinstance(until_made(p), ssl.SSLError)
    assert asked and p.calls == []


# -- server names

@VERSIONS
def test_the_name_decides_which_context(pair, version):
    """The one that the server was made with has no certificate at all."""
    named = server_context(maximum_version=version)
    asked = []

    def choose(tls, name, context):
        asked.append((name, context))
        tls.context = named

    nameless = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    nameless.sni_callback = choose
    p = pair(context=nameless)
    exchange(p)
    assert asked == [("localhost", nameless)]
    info = p.transport.get_extra_info
    assert info("sslcontext") is nameless and info("ssl_object").context is named
    assert p.tls.getpeercert()


@EACH("how", ["alert", "nonsense", "raises"])
def test_a_name_that_is_refused(pair, monkeypatch, how):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append(args.exc_type))

    def refuse(tls, name, context):
        if how == "raises":
            raise ZeroDivisionError
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME if how == "alert" else "nonsense"

    p = pair(context=server_context(sni_callback=refuse), handshake=False)
    error = until_made(p)
    assert isinstance(error, ssl.SSLError) and error.reason == "CALLBACK_FAILED"
    assert unraisable == {"alert": [], "nonsense": [TypeError], "raises": [ZeroDivisionError]}[how]
    assert p.calls == []


# -- why a handshake fails

def with_ciphers(context, ciphers):
    context.set_ciphers(ciphers)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def demanding(context):
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(PEM)
    return context


TROUBLES = {
    "no common version": (lambda: server_context(minimum_version=ssl.TLSVersion.TLSv1_3),
                          lambda: client_context(maximum_version=ssl.TLSVersion.TLSv1_2)),
    "no common cipher": (lambda: with_ciphers(server_context(), "ECDHE-ECDSA-AES128-GCM-SHA256"),
                         lambda: with_ciphers(client_context(), "ECDHE-ECDSA-AES256-GCM-SHA384")),
    "no certificate": (lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), client_context),
    "unknown issuer": (server_context, lambda: ssl.create_default_context()),
    "nobody": (lambda: demanding(server_context()), client_context),
    "nobody, before 1.3": (lambda: demanding(server_context(maximum_version=ssl.TLSVersion.TLSv1_2)), client_context),
}


def without_loop(server, client):
    """What each side raises when nothing but ssl is in between."""
    bios = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [server().wrap_bio(*bios, server_side=True), client().wrap_bio(*bios[::-1], server_hostname="localhost")]
    errors = [None, None]
    for _ in range(6):
        for side in (1, 0):
            if errors[side] is None:
                try:
                    sides[side].do_handshake()
                    sides[side].read(1)
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError as error:
                    errors[side] = error
    return errors


@SIDES
@EACH("trouble", TROUBLES)
def test_why_a_handshake_fails(pair, reported, server, trouble):
    """It is told in the words of ssl, to the last line number."""
    contexts = TROUBLES[trouble]
    expected = without_loop(*contexts)[not server]
    p = pair(server=server, context=contexts[not server](), peer_context=contexts[server](), handshake=False)
    error = until_made(p)
    if error is None:           # TLS 1.3: our handshake was over when the peer found fault with it
        p.peer.close()
        error = p.until_lost()
        expected = error if expected is None else expected
    if error is not None:
        assert type(error) is type(expected) and error.args == expected.args
        assert (error.library, error.reason) == (expected.library, expected.reason)
        if isinstance(error, ssl.SSLCertVerificationError):
            assert (error.verify_code, error.verify_message) == (expected.verify_code, expected.verify_message)
    assert reported == []


# -- who the client is

@SIDES
@EACH("who", ["known", "nobody"])
def test_post_handshake_authentication(pair, server, who):
    """TLS 1.3: the server asks for a certificate when it wants to."""
    server_side, client_side = server_context(), client_context()
    server_side.verify_mode = ssl.CERT_REQUIRED if who == "known" else ssl.CERT_OPTIONAL
    server_side.load_verify_locations(PEM)
    server_side.post_handshake_auth = client_side.post_handshake_auth = True
    if who == "known":
        client_side.load_cert_chain(PEM)
    p = pair(server=server, context=server_side if server else client_side, peer_context=client_side if server else server_side)
    tls = p.transport.get_extra_info("ssl_object") if server else p.tls
    before = p.transport.get_extra_info("peercert")
    assert tls.getpeercert() is None
    exchange(p, 1000)
    tls.verify_client_post_handshake()
    if server:
        p.transport.write(b"who?")
        assert p.read(4) == b"who?"
        p.write(b"me")
        p.until_data(1002)
    else:
        p.write(b"who?")
        p.until_data(1004)
        p.transport.write(b"me")
        assert p.read(2) == b"me"
    cert = tls.getpeercert()
    assert (cert is None) == (who == "nobody")
    if cert:
        assert cert["subject"] == cert["issuer"]
    # as it was after the handshake
    assert p.transport.get_extra_info("peercert") == before
    exchange(p)


def test_a_client_without_a_certificate(pair):
    """Where one is asked for, but not demanded."""
    context = server_context(verify_mode=ssl.CERT_OPTIONAL)
    context.load_verify_locations(PEM)
    p = pair(context=context)
    assert p.transport.get_extra_info("peercert") is None
    exchange(p)


# -- what may be asked

@VERSIONS
@SIDES
def test_what_the_ssl_object_answers(pair, server, version):
    ours, theirs = both_contexts(server, maximum_version=version)
    for context in (ours, theirs):
        context.set_alpn_protocols(["one", "two"] if context is ours else ["two"])
    p = pair(server=server, context=ours, peer_context=theirs)
    tls, info = p.transport.get_extra_info("ssl_object"), p.transport.get_extra_info
    assert type(tls) is ssl.SSLObject and tls.server_side is server
    assert tls.server_hostname == (None if server else "localhost")
    assert tls.version() == p.tls.version() == version.name.replace("_", ".")
    assert tls.selected_alpn_protocol() == p.tls.selected_alpn_protocol() == "two"
    assert info("cipher") == tls.cipher() == p.tls.cipher() and info("compression") is tls.compression() is None
    assert tls.pending() == 0 and tls.context is ours is info("sslcontext")
    if version == ssl.TLSVersion.TLSv1_2:
        assert tls.get_channel_binding() == p.tls.get_channel_binding() is not None
    if server:
        assert info("cipher") in tls.shared_ciphers()
    else:
        assert tls.getpeercert() == info("peercert")
        assert ssl.DER_cert_to_PEM_cert(tls.getpeercert(True)) in PEM.read_text()
    with pytest.raises(ValueError):
        tls.session = p.tls.session     # too late


# -- on other things than a socket

class PipeTransport(asyncio.Transport):
    """Both directions of two pipes, one protocol: a transport as programs write them."""

    _start_tls_compatible = True

    def __init__(self, protocol):
        super().__init__()
        self.protocol, self.closing = protocol, False
        self.reading = self.writing = None

    async def connect(self, loop, read, write):
        outer = self

        class Reader(asyncio.Protocol):
            def data_received(self, data):
                protocol = outer.protocol
                if not isinstance(protocol, asyncio.BufferedProtocol):
                    protocol.data_received(data)
                    return
                view = memoryview(data)
                while view:
                    buffer = protocol.get_buffer(len(view))
                    size = min(len(buffer), len(view))
                    buffer[:size] = view[:size]
                    protocol.buffer_updated(size)
                    view = view[size:]

            def eof_received(self):
                outer.protocol.eof_received() or outer.close()

        class Writer(asyncio.Protocol):
            def pause_writing(self):
                outer.protocol.pause_writing()

            def resume_writing(self):
                outer.protocol.resume_writing()

            def connection_lost(self, error):
                outer._lost(error)

        self.reading, _ = await loop.connect_read_pipe(Reader, os.fdopen(read, "rb", 0))
        self.writing, _ = await loop.connect_write_pipe(Writer, os.fdopen(write, "wb", 0))
        self.protocol.connection_made(self)

    def _lost(self, error):
        self.closing = True
        self.reading.close()
        self.protocol.connection_lost(error)

    def write(self, data):
        self.writing.write(data)

    def close(self):
        self.closing = True
        self.writing.close()

    def abort(self):
        self._force_close(None)

    def _force_close(self, error):
        self.closing = True
        self.writing.abort()

    def is_closing(self):
        return self.closing

    def set_protocol(self, protocol):
        self.protocol = protocol

    def get_protocol(self):
        return self.protocol

    def pause_reading(self):
        self.reading.pause_reading()

    def resume_reading(self):
        self.reading.resume_reading()


async def over_pipes(loop):
    """A client and a server that speak TLS through two pipes: their transports and protocols."""
    one, other = os.pipe(), os.pipe()
    ends = []
    for read, write in ((one[0], other[1]), (other[0], one[1])):
        protocol = TLSNotes()
        transport = PipeTransport(protocol)
        await transport.connect(loop, read, write)
        ends.append((transport, protocol))
    (left, client), (right, server) = ends
    upgraded = await asyncio.gather(
        loop.start_tls(left, client, client_context(), server_hostname="localhost"),
        loop.start_tls(right, server, server_context(), server_side=True))
    return upgraded, (client, server)


async def until_true(condition):
    while not condition():
        await asyncio.sleep(0.0005)


@EACH("end", ["close", "abort"])
async def test_tls_over_a_transport_of_the_program(loop, end):
    transports, protocols = await over_pipes(loop)
    assert transports[0].get_extra_info("peercert") and transports[0].get_extra_info("socket") is None
    for size in (1, 300_000):
        for n in (0, 1):
            protocols[1 - n].data.clear()
            transports[n].write(BIG[:size])
            await until_true(lambda: len(protocols[1 - n].data) == size)
            assert protocols[1 - n].data == BIG[:size]
    getattr(transports[0], end)()
    if end == "close":
        assert transports[0].is_closing()
    await until_true(lambda: all("connection_lost" in str(protocol.calls) for protocol in protocols))
    for protocol in protocols:
        assert protocol.error is None
    await asyncio.sleep(0)


# -- as a client of another program

@OPENSSL
@pytest.mark.kinds("asyncfast", "asyncio")
@EACH("version, command", [("-tls1_3", b"K"), ("-tls1_3", b"k"), ("-tls1_2", b"r")],
      ids=["keys of both", "keys of one", "renegotiation"])
async def test_a_server_that_wants_new_keys(loop, version, command):
    """In the middle of what we send it."""
    server = await asyncio.create_subprocess_exec(
        "openssl", "s_server", version, "-accept", "127.0.0.1:0", "-cert", str(PEM), "-key", str(PEM), "-naccept", "1",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    output, line = bytearray(), b""
    while not line.startswith(b"ACCEPT "):
        line = await server.stdout.readline()
    port = int(line.split(b":")[-1])

    async def collect():
        while data := await server.stdout.read(65536):
            output.extend(data)

    context = client_context()
    if version == "-tls1_2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.options &= ~getattr(ssl, "OP_NO_RENEGOTIATION", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    collecting = loop.create_task(collect())
    lines = [b"<%05d>\n" % n for n in range(60_000)]
    for at in range(0, len(lines), 1000):
        writer.write(b"".join(lines[at:at + 1000]))
        await writer.drain()
        if at == 20_000:
            server.stdin.write(command + b"\n")
            await server.stdin.drain()
            answer = loop.create_task(reader.readline())
            while not answer.done():        # what it reads together with the command it does not send
                server.stdin.write(b"between\n")
                await asyncio.sleep(0.005)
            assert answer.result() == b"between\n"
    await until_true(lambda: lines[-1] in output)
    assert [line for line in bytes(output).splitlines(True) if line in lines[:5] + lines[-5:]] == lines[:5] + lines[-5:]
    assert output.count(b"<") >= len(lines)
    writer.close()
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        await writer.wait_closed()
    server.stdin.close()
    await collecting
    await server.wait()
