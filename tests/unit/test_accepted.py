"""Connections that a server accepted: what programs find of their sockets, early, late and when all is over."""

import gc
import os
import socket
import warnings

import pytest

from _turns import EACH, Notes, turn, until

pytestmark = pytest.mark.kinds("asyncfast", "asyncfast-debug")

FAMILIES = [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX]


def serve(loop, family, path, factory):
    """A server of the loop, and a function that connects to it."""
    if family == socket.AF_UNIX:
        server = loop.run_until_complete(loop.create_unix_server(factory, path))
        address = path
    else:
        server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1" if family == socket.AF_INET else "::1", 0))
        address = server.sockets[0].getsockname()[:2]

    def connect():
        client = socket.socket(family)
        client.connect(address)
        return client

    return server, connect


def about(sock):
    """What may be asked of a socket, without the numbers that differ each time."""
    named = (socket.AF_INET, socket.AF_INET6)
    facts = [type(sock).__name__, sock.family, sock.type, sock.proto, sock.gettimeout(), sock.fileno() >= 0]
    if sock.fileno() >= 0:
        facts += [sock.getsockname()[0] if sock.family in named else sock.getsockname() != "",
                  sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE), os.get_inheritable(sock.fileno()),
                  os.get_blocking(sock.fileno())]
        if sock.family in named:
            facts.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0)
    return facts


LOOKS = {
    "extra info": lambda t: t.get_extra_info("socket"),
    "extra": lambda t: t._extra["socket"],
    "sock": lambda t: t._sock,
    "str": lambda t: t.get_extra_info(type("Name", (str,), {})("socket")),
}


def sorted_extra(transport):
    return sorted(transport._extra), type(transport._extra)


@EACH("family", FAMILIES, ids=lambda f: f.name)
@EACH("when", ["made", "data", "lost", "after"])
@EACH("look", LOOKS)
def test_the_socket_whenever_it_is_asked_for(loop, oracle, tmp_path, family, when, look):
    def play(loop):
        seen = []

        def ask(transport):
            sock = LOOKS[look](transport)
            seen.append(None if sock is None else about(sock))      # what _sock is at the end
            seen.append(LOOKS[look](transport) is sock)
            seen.append(sorted_extra(transport))

        name = {"made": "connection_made", "data": "data_received", "lost": "connection_lost"}.get(when)
        notes = Notes(**({name: ask} if name else {}))
        server, connect = serve(loop, family, str(tmp_path / f"{type(loop).__name__}"), lambda: notes)
        client = connect()
        until(loop, lambda: "connection_made" in notes.calls)
        client.send(b"x")
        until(loop, lambda: notes.data)
        transport = notes.transport
        client.close()
        until(loop, lambda: ("connection_lost", None) in notes.calls)
        if when == "after":
            ask(transport)
        server.close()
        turn(loop, 2)
        return seen

    ours, theirs = play(loop), play(oracle)
    assert ours == theirs and ours


def test_a_program_may_close_the_socket_it_was_given(loop):
    """Then it is closed once, and the number is another's."""
    notes = Notes()
    server, connect = serve(loop, socket.AF_INET, None, lambda: notes)
    client = connect()
    until(loop, lambda: "connection_made" in notes.calls)
    sock = notes.transport._sock
    fd = sock.detach()
    notes.transport.abort()
    turn(loop, 3)
    os.fstat(fd)            # still open: it was ours to close
    os.close(fd)
    client.close()
    server.close()
    turn(loop, 2)


def open_fds():
    return len(os.listdir("/proc/self/fd"))


@EACH("end", ["close the loop", "factory", "connection_made", "nobody", "server"])
def test_no_connection_is_left_open(kind, end):
    """Whatever happens to it between accept() and the protocol."""
    before = open_fds()
    loop = kind.new_event_loop()
    errors = []
    loop.set_exception_handler(lambda loop, context: errors.append(context["message"]))

    def factory():
        if end == "factory":
            raise RuntimeError("no protocol")
        return Notes(connection_made=lambda t: t.abort() if end == "nobody" else 1 / 0)

    server, connect = serve(loop, socket.AF_INET, None, factory)
    clients = [connect() for _ in range(5)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        if end == "close the loop":
            turn(loop, 1)                   # accepted; the factory has not been called
        elif end == "server":
            loop.call_soon(server.close)
            turn(loop, 6)
        else:
            turn(loop, 6)
        if end == "nobody":
            for client in clients:
                assert client.recv(1) == b""        # closed, not forgotten
        for client in clients:
            client.close()
        turn(loop, 6)
        server.close()
        turn(loop, 3)
        del server
        loop.close()
        gc.collect()
    assert open_fds() == before
