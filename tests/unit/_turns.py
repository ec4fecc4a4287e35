"""What the tests share: turns of a loop, and protocols that write down what they are told."""

import asyncio
import re
import socket

import pytest

EACH = pytest.mark.parametrize
BIG = bytes(range(256)) * 8192      # more than the buffers of any socket or pipe here
ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")


def turn(loop, count=1):
    """Let the loop make that many turns."""
    for _ in range(count):
        loop.stop()
        loop.run_forever()


async def settle(turns=5):
    """The same from within: let the others run for so many turns."""
    for _ in range(turns):
        await asyncio.sleep(0)


def until(loop, condition):
    while not condition():
        loop.call_later(0.0005, loop.stop)
        loop.run_forever()


class KeepsSocketWeakly:
    """For what has a transport: whose socket somebody else keeps, that transport holds nothing back."""

    _sock = None                # a weak reference to the socket

    @property
    def sock(self):
        """The transport's socket; once that is no more, a closed one."""
        sock = self._sock()
        if sock is None:
            sock = socket.socket()
            sock.close()
        return sock


def idle_turns(loop):
    """How many turns it takes until a timer: a few, or it spins."""
    over, count = [], 0
    loop.call_later(0.02, over.append, True)
    while not over:
        loop._run_once()
        count += 1
    return count


class Bytes(bytes):
    pass


class ByteArray(bytearray):
    pass


class Notes(asyncio.Protocol):
    """Writes down what it is told; `then` says what else to do, by name: a function of the transport."""

    def __init__(self, **then):
        self.calls, self.then, self.transport, self.data = [], then, None, bytearray()

    def note(self, name, *args):
        self.calls.append((name, *args) if args else name)
        then = self.then.get(name)
        return then(self.transport) if then else None

    def connection_made(self, transport):
        self.transport = transport
        return self.note("connection_made")

    def data_received(self, data):
        self.data += data
        return self.note("data_received")

    def eof_received(self):
        return self.note("eof_received")

    def connection_lost(self, error):
        return self.note("connection_lost", error if error is None else type(error))

    def pause_writing(self):
        return self.note("pause_writing")

    def resume_writing(self):
        return self.note("resume_writing")


# -- states that a transport may be in: functions of what has it, and its loop

def write_backlog(end):
    end.write(BIG)
    assert end.get_write_buffer_size() > 0


def backlog_then(method):
    def prepare(end):
        write_backlog(end)
        getattr(end.transport, method)()
    return prepare


def called(*names, turns=0):
    def prepare(end):
        for name in names:
            getattr(end.transport, name)()
        turn(end.loop, turns)
    return prepare
