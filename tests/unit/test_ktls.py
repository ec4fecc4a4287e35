"""Kernel TLS, and sendfile() over TLS with it and without.

The wish is honoured only by a kernel that has its module tls, which many machines do not load: what needs it says so when it
is skipped (CONTRIBUTING.md has a way to run it in an emulator).  All else runs everywhere.
"""

import asyncio
import ctypes
import io
import os
import socket
import ssl
import threading

import asyncfast
import pytest
from _tls_pair import BIG, Pair, TLSNotes, client_context, server_context
from _turns import EACH, turn, until
from asyncfast import _core, _tls
from conftest import tcp_pair

pytestmark = pytest.mark.only_asyncfast

WHY_NOT = _tls.why_no_ktls()
kernel = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
WISHES = [pytest.param(False, id="without"), pytest.param(True, id="with")]
SENDS = {"send": True, "recv": False, "why": ""}
OP_ENABLE_KTLS = 0x8


def refused(why):
    return {"send": False, "recv": False, "why": why}


@pytest.fixture
def pair(loop):
    """pair(wish, ...): a TLS transport on a TCP socket, whose context wishes for kernel TLS or not, and its peer."""
    made = []

    def pair(wish=True, server=True, version=None, ciphers=None, sockets=None, **options):
        context = server_context() if server else client_context()
        if version:
            context.maximum_version = version
        if ciphers:
            context.set_ciphers(ciphers)
        if wish:
            context.options |= OP_ENABLE_KTLS
        made.append(Pair(loop, server=server, context=context, sockets=sockets or tcp_pair(), **options))
        return made[-1]

    yield pair
    for each in made:
        each.close()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(BIG)
    with open(path, "rb") as file:
        yield file


def info(pair):
    return pair.transport.get_extra_info("ktls")


# -- who asks, and what is answered

def test_nobody_asks(pair):
    assert info(pair(wish=False)) is None


@EACH("engine", ["direct", "portable"])
@EACH("wish", [True, False, None, 1, "yes", 0, ""])
@EACH("environment", [None, "1", "0"])
def test_who_asks(engine, wish, environment, monkeypatch):
    if engine == "direct" and _tls.why_not_direct():
        pytest.skip(_tls.why_not_direct())
    monkeypatch.delenv("ASYNCFAST_KTLS", raising=False)
    if environment is not None:
        monkeypatch.setenv("ASYNCFAST_KTLS", environment)
    loop = asyncfast.new_event_loop(tls=engine, ktls=wish)
    try:
        pair = Pair(loop, sockets=tcp_pair())
        asked = bool(wish) if wish is not None else environment == "1"
        assert (info(pair) is not None) == asked
        if asked and engine == "portable":
            assert info(pair) == refused("the portable engine has no part in it")
        elif asked:
            assert info(pair) == (refused(WHY_NOT) if WHY_NOT else SENDS)
        pair.close()
    finally:
        loop.close()


ASK = """
import asyncio, asyncfast, ssl, warnings
warnings.simplefilter("ignore")

async def main():
    return asyncio.get_running_loop()._ktls

context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
print(asyncfast.run(main(), ktls=True), asyncfast.run(main()), asyncfast.run(main(), ktls=False))
with asyncfast.Runner(ktls=True) as runner:
    print(runner.run(main()))
asyncio.set_event_loop_policy(asyncfast.EventLoopPolicy(ktls=True))
print(asyncio.run(main()))
asyncio.set_event_loop_policy(asyncfast.EventLoopPolicy())
print(asyncio.run(main()))
"""


def test_ways_to_ask(program):
    assert program(ASK).split() == ["True", "False", "False", "True", "True", "False"]


def test_the_command_asks(program):
    code = "import asyncio, os; print(os.environ['ASYNCFAST_KTLS'], asyncio.new_event_loop()._ktls)"
    run = f"import subprocess, sys; subprocess.run([sys.executable, '-m', 'asyncfast', '--ktls', '-c', {code!r}], check=True)"
    assert program(run).split() == ["1", "True"]


def test_before_the_handshake_and_never_a_socket(loop, pair):
    p = pair(handshake=False)
    until(loop, lambda: loop._owner(p.sock) is not None)
    transport = loop._owner(p.sock).get_protocol()._app_transport
    assert transport.get_extra_info("ktls") == refused("the handshake is not over")


@EACH("family", ["unix", "tls"])
@pytest.mark.skipif(bool(_tls.why_not_direct()), reason=_tls.why_not_direct() or "it can")
async def test_what_is_no_tcp_socket(loop, family):
    """A Unix socket; or TLS, which has TLS inside."""
    context, client = server_context(), client_context()
    made = loop.create_future()

    async def upgrade(reader, writer):
        if family == "tls":
            await writer.start_tls(context)
            made.set_result(writer.transport.get_extra_info("ktls"))
        writer.close()

    left, right = socket.socketpair() if family == "unix" else tcp_pair()
    for each in (left, right):
        each.setblocking(False)
    ours = server_context() if family == "unix" or WHY_NOT else context
    if family == "unix":
        ours.options |= OP_ENABLE_KTLS
        protocol = TLSNotes()
        accepted = loop.create_task(loop.connect_accepted_socket(lambda: protocol, left, ssl=ours))
        reader, writer = await asyncio.open_connection(sock=right, ssl=client, server_hostname="localhost")
        transport, _ = await accepted
        assert transport.get_extra_info("ktls") in (refused("not a TCP socket"), refused(WHY_NOT))
        transport.close()
    else:
        outer = asyncio.StreamReader(loop=loop)
        accepted = loop.create_task(loop.connect_accepted_socket(
            lambda: asyncio.StreamReaderProtocol(outer, upgrade, loop=loop), left, ssl=server_context()))
        context.options |= OP_ENABLE_KTLS
        reader, writer = await asyncio.open_connection(sock=right, ssl=client, server_hostname="localhost")
        await accepted
        await writer.start_tls(client, server_hostname="localhost")
        assert await made == refused("no socket right below")
    writer.close()
    assert await reader.read() == b""
    left.close()
    right.close()


def test_no_other_openssl_has_it(monkeypatch, loop, pair):
    """Before 3.0 the bit meant something else, or nothing."""
    monkeypatch.setattr(_tls, "_OP_ENABLE_KTLS", 0)
    assert info(pair()) is None
    loop._ktls = True
    assert info(pair()) == refused("this OpenSSL has none") and _tls.why_no_ktls() == "this OpenSSL has none"


@EACH("wish", [False, True])
def test_a_context_that_stands_in_front_of_another(loop, wish):
    """It is the one that the connection is really of that has the options."""
    class Front(ssl.SSLContext):
        options = "none"

        def wrap_bio(self, *args, **kwargs):
            return inner.wrap_bio(*args, **kwargs)

    inner = server_context()
    if wish:
        inner.options |= OP_ENABLE_KTLS
    p = Pair(loop, context=Front(ssl.PROTOCOL_TLS_SERVER), sockets=tcp_pair())
    assert (info(p) is None) is not wish
    p.close()


@kernel
@EACH("server", [True, False], ids=["server", "client"])
def test_a_cipher_that_the_kernel_has_not(pair, server):
    p = pair(server=server, version=ssl.TLSVersion.TLSv1_2, ciphers="ECDHE-ECDSA-AES128-SHA256")
    assert info(p) == refused("OpenSSL has offered no keys: not of ECDHE-ECDSA-AES128-SHA256, or its build has no kernel TLS")
    p.transport.write(BIG)
    assert p.read(len(BIG)) == BIG


# -- the kernel encrypts

CIPHERS = ["TLSv1.3", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"]


@EACH("wish", WISHES)
@EACH("server", [True, False], ids=["server", "client"])
@EACH("cipher", CIPHERS)
def test_data_both_ways(pair, wish, server, cipher):
    old = dict(version=ssl.TLSVersion.TLSv1_2, ciphers=cipher) if cipher != "TLSv1.3" else {}
    p = pair(wish, server=server, **old)
    if wish and not WHY_NOT:
        assert info(p) == SENDS
    for data in (b"x", BIG[:16384], BIG[:16385], BIG):
        p.transport.write(data)
        assert p.read(len(data)) == data
        p.write(data)
        p.until_data(len(data))
        assert p.protocol.data == data
        p.protocol.data.clear()
    p.transport.write(b"the last")
    p.transport.close()
    assert p.read(8) == b"the last"
    p.do(p.tls.unwrap)
    assert p.until_lost() is None


@EACH("wish", WISHES)
@EACH("server", [True, False], ids=["server", "client"])
def test_close_behind_a_backlog(pair, loop, wish, server):
    """close_notify is a record of its own, and comes last."""
    p = pair(wish, server=server)
    p.transport.write(BIG * 8)
    assert p.transport.get_write_buffer_size() > 0
    p.transport.close()
    assert p.read(len(BIG) * 8) == BIG * 8
    p.do(p.tls.unwrap)
    assert p.until_lost() is None


@EACH("wish", WISHES)
def test_the_peer_closes_first(pair, wish):
    p = pair(wish)
    p.transport.write(BIG)
    assert p.read(len(BIG)) == BIG
    p.do(p.tls.unwrap)
    assert p.until_lost() is None and p.calls[-2:] == ["eof_received", ("connection_lost", None)]


@EACH("wish", WISHES)
@EACH("server", [True, False], ids=["server", "client"])
def test_the_peer_says_goodbye_and_reads_on(pair, loop, wish, server):
    """The socket is closed as soon as close_notify has been sent: nothing before it may be lost with what the kernel has."""
    p = pair(wish, server=server)
    p.transport.write(BIG * 4)
    assert p.transport.get_write_buffer_size() > 0
    p.say_goodbye()
    p.until("eof_received")
    assert p.read(len(BIG) * 4) == BIG * 4
    p.do(p.tls.unwrap)
    assert p.until_lost() is None


@EACH("wish", WISHES)
def test_garbage(pair, loop, wish):
    loop.set_exception_handler(lambda loop, context: None)
    p = pair(wish)
    p.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert p.read(1) == b""
    assert p.until_lost().reason in ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE")     # the latter from 3.2 on


@EACH("wish", WISHES)
def test_start_tls(pair, loop, wish):
    left, right = tcp_pair()
    for each in (left, right):
        each.setblocking(False)
    context, notes, tls = server_context(), TLSNotes(), None
    context.options |= OP_ENABLE_KTLS if wish else 0
    plain, _ = loop.run_until_complete(loop.connect_accepted_socket(lambda: notes, left))
    plain.write(b"ready")

    def speak():
        with client_context().wrap_socket(right, server_hostname="localhost") as sock:
            sock.sendall(b"hello")
            data = bytearray()
            while chunk := sock.recv(65536):
                data += chunk
            heard.append(bytes(data))

    heard = []
    assert loop.run_until_complete(loop.sock_recv(right, 5)) == b"ready"
    right.setblocking(True)
    thread = threading.Thread(target=speak)
    thread.start()
    tls = loop.run_until_complete(loop.start_tls(plain, notes, context, server_side=True))
    if wish and not WHY_NOT and not _tls.why_not_direct():
        assert tls.get_extra_info("ktls") == SENDS
    tls.write(BIG)
    until(loop, lambda: notes.data == b"hello")
    tls.close()
    until(loop, lambda: not thread.is_alive())
    thread.join()
    assert heard == [BIG]
    until(loop, lambda: notes.calls[-1] == ("connection_lost", None))


@kernel
def test_a_socket_that_is_full_in_the_handshake(pair, loop):
    """What was written before the keys change has to leave before; if it cannot, OpenSSL goes on."""
    left, right = tcp_pair()
    left.setblocking(False)
    filled = 0
    try:
        while True:
            filled += left.send(bytes(65536))
    except BlockingIOError:
        pass
    p = pair(sockets=(left, right), handshake=False)
    with pytest.raises(ssl.SSLWantReadError):
        p.tls.do_handshake()
    p.flush()
    turn(loop, 3)
    while filled:
        filled -= len(right.recv(filled))
        turn(loop)
    p.handshake()
    assert info(p) in (refused("the socket was full"), refused("what came before waited to be sent"))
    p.transport.write(BIG)
    assert p.read(len(BIG)) == BIG


@kernel
def test_new_keys(pair, loop):
    """The peer asks us to change ours, which OpenSSL would do with the next write: the kernel cannot."""
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    p = pair(server=False)
    p.transport.write(b"x")
    assert info(p) == SENDS and p.read(1) == b"x"
    words = ctypes.cast(id(p.tls._sslobj), ctypes.POINTER(ctypes.c_void_p))
    at = next(n for n in range(2, 8) if words[n] == id(p.tls.context))
    libssl = ctypes.CDLL("libssl.so.3")
    libssl.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
    assert libssl.SSL_key_update(words[at - 1], 1) == 1
    p.write(b"with new keys")
    p.until_data(13)
    p.transport.write(b"y")
    error = p.until_lost()
    assert isinstance(error, ssl.SSLError) and "the peer asks for new keys" in str(error)
    assert [context["exception"] for context in contexts] in ([], [error])
    assert p.protocol.data == b"with new keys"
    assert p.read(1) == b""


# -- sendfile()

@EACH("wish", WISHES)
@EACH("offset, count", [(0, None), (5, None), (5, 1_000), (0, len(BIG)), (1_000_000, len(BIG)), (len(BIG), 10),
                        (len(BIG) + 5, None), (0, 1)])
def test_sendfile(pair, loop, file, wish, offset, count):
    p = pair(wish)
    expected = BIG[offset:][:count]
    p.transport.write(b"before")
    task = loop.create_task(loop.sendfile(p.transport, file, offset, count))
    data = p.read(len(expected) + 6)
    assert data == b"before" + expected
    assert loop.run_until_complete(task) == len(expected)
    assert not expected or file.tell() == offset + len(expected)
    p.transport.write(b"after")
    assert p.read(5) == b"after"
    p.write(b"and back")
    p.until_data(8)
    p.transport.close()
    p.do(p.tls.unwrap)
    assert p.until_lost() is None


@EACH("wish", WISHES)
def test_sendfile_behind_a_backlog(pair, loop, file, wish):
    """What was written before comes before; what was written meanwhile, by whom the kernel helps, comes behind."""
    p = pair(wish)
    p.transport.write(BIG * 4)
    assert p.transport.get_write_buffer_size() > 0
    task = loop.create_task(loop.sendfile(p.transport, file))
    turn(loop, 2)
    after = b""
    if wish and not WHY_NOT:
        after = b"meanwhile"
        p.transport.write(after)
    p.write(b"and back")
    assert p.read(len(BIG) * 5 + len(after)) == BIG * 5 + after
    assert loop.run_until_complete(task) == len(BIG)
    p.until_data(8)
    assert p.protocol.data == b"and back"


@EACH("wish", WISHES)
def test_sendfile_holds_no_file_in_memory(pair, loop, tmp_path, wish):
    path = tmp_path / "large"
    with open(path, "wb") as file:
        file.truncate(64 << 20)
    p = pair(wish)
    with open(path, "rb") as file:
        task = loop.create_task(loop.sendfile(p.transport, file))
        size = 0
        while size < 64 << 20:
            size += len(p.read(1 << 20))
            assert p.transport.get_write_buffer_size() < 2 << 20
        assert loop.run_until_complete(task) == 64 << 20


@EACH("wish", WISHES)
def test_sendfile_without_fallback(pair, loop, file, wish):
    p = pair(wish)
    sending = loop.sendfile(p.transport, file, fallback=False)
    if wish and not WHY_NOT:
        task = loop.create_task(sending)
        assert p.read(len(BIG)) == BIG and loop.run_until_complete(task) == len(BIG)
        with pytest.raises(asyncio.SendfileNotAvailableError):
            loop.run_until_complete(loop.sendfile(p.transport, io.BytesIO(BIG), fallback=False))
    else:
        with pytest.raises(RuntimeError, match="fallback is disabled and native sendfile is not supported"):
            loop.run_until_complete(sending)
    p.transport.write(b"goes on")
    assert p.read(7) == b"goes on"


@EACH("wish", WISHES)
@EACH("wrong", [dict(count=-1), dict(count="1"), dict(offset=-1), dict(offset="1"), dict(file=None)])
def test_wrong_arguments(pair, loop, file, wish, wrong):
    """Whoever was to send it says no, and nothing is sent."""
    p = pair(wish)
    arguments = dict(file=file, offset=0, count=None) | wrong
    with pytest.raises((TypeError, ValueError, AttributeError, OSError)):
        loop.run_until_complete(loop.sendfile(p.transport, **arguments))
    p.transport.write(b"goes on")
    assert p.read(7) == b"goes on"


@EACH("wish", WISHES)
def test_sendfile_of_what_is_no_file(pair, loop, wish):
    p = pair(wish)
    task = loop.create_task(loop.sendfile(p.transport, io.BytesIO(BIG), 7))
    assert p.read(len(BIG) - 7) == BIG[7:]
    assert loop.run_until_complete(task) == len(BIG) - 7


@kernel
def test_close_while_a_file_is_sent(pair, loop, file):
    """close() sends what was asked for before."""
    p = pair()
    task = loop.create_task(loop.sendfile(p.transport, file))
    turn(loop, 2)
    p.transport.close()
    turn(loop, 2)
    assert not task.done() and p.read(len(BIG)) == BIG
    assert loop.run_until_complete(task) == len(BIG)
    p.do(p.tls.unwrap)
    assert p.until_lost() is None


@kernel
@EACH("backlog", [False, True], ids=["sending", "backlog"])
def test_cancelled(pair, loop, file, backlog):
    """The transport goes on, behind what was sent of it."""
    p = pair()
    if backlog:
        p.transport.write(BIG * 4)
    task = loop.create_task(loop.sendfile(p.transport, file))
    turn(loop, 3)
    task.cancel()
    turn(loop, 3)
    assert task.cancelled()
    p.write(b"and back")
    p.until_data(8)
    p.transport.write(b"after")
    p.transport.close()
    data = bytearray()
    while chunk := p.do(p.tls.read, 1 << 20):
        data += chunk
    assert data.endswith(b"after") and (BIG * 5).startswith(data[:-5])
    p.do(p.tls.unwrap)
    assert p.until_lost() is None


@kernel
def test_two_files_at_once(pair, loop, file):
    p = pair()
    first = loop.create_task(loop.sendfile(p.transport, file))
    turn(loop, 2)
    with pytest.raises(RuntimeError, match="sendfile is in progress"):
        loop.run_until_complete(loop.sendfile(p.transport, file))
    assert p.read(len(BIG)) == BIG and loop.run_until_complete(first) == len(BIG)


@kernel
@EACH("how", ["peer", "abort"])
def test_cut_off(pair, loop, file, how):
    loop.set_exception_handler(lambda loop, context: None)
    p = pair()
    task = loop.create_task(loop.sendfile(p.transport, file))
    turn(loop, 3)
    if how == "abort":
        p.transport.abort()
        turn(loop, 3)
        task.cancel()
    else:
        p.peer.close()
    until(loop, task.done)
    assert task.cancelled() or isinstance(task.exception(), OSError)
    p.until_lost()


def test_a_transport_that_sends_no_files(pair, loop):
    p = pair(wish=False)
    with pytest.raises(RuntimeError, match="Transport is closing"):
        p.transport._begin_sendfile()
    p.transport._end_sendfile()
    p.transport.write(b"x")
    assert p.read(1) == b"x"
    with pytest.raises(RuntimeError):
        _core.SSLTransport.__new__(_core.SSLTransport)._begin_sendfile()


@EACH("wish", WISHES)
def test_nothing_is_left(pair, loop, file, wish):
    before = len(os.listdir("/proc/self/fd"))
    for server in (True, False) * 3:
        p = pair(wish, server=server)
        file.seek(0)
        task = loop.create_task(loop.sendfile(p.transport, file))
        assert p.read(len(BIG)) == BIG
        loop.run_until_complete(task)
        p.close()
    assert len(os.listdir("/proc/self/fd")) == before
