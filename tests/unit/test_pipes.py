"""The transports of pipes: FIFOs, sockets, terminals and devices too, and subprocesses, which are built on them.

Nearly all of it is a question to both loops: the same is done to a transport of ours and to one of asyncio's, and all that
can be seen has to be equal.  The other end is a plain descriptor, so that a turn of the loop is a turn of the one transport.
"""

import asyncio
import contextlib
import contextvars
import errno
import gc
import logging
import os
import pty
import re
import socket
import subprocess
import sys
import threading
import tty
import warnings
import weakref

import pytest
from _turns import BIG, EACH, Notes, backlog_then, called, turn, until, write_backlog

PIPES = ["pipe", "fifo", "socket"]
TERMINALS = ["master", "slave"]


class PipeNotes(Notes):
    def data_received(self, data):
        assert type(data) is bytes
        return super().data_received(data)

    def connection_lost(self, error):
        return self.note("connection_lost", error if error is None else (type(error), error.args))


def ends(form, reads, folder):
    """(the end for the transport, the other end) as descriptors: the transport's is to be read from, or written to."""
    if form == "pipe":
        read, write = os.pipe()
    elif form == "fifo":
        path = folder / f"fifo{len(list(folder.iterdir()))}"
        os.mkfifo(path)
        read = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        write = os.open(path, os.O_WRONLY)
    elif form == "socket":
        read, write = (sock.detach() for sock in socket.socketpair())
    else:
        own, other = pty.openpty()
        tty.setraw(other)
        return (own, other) if form == "master" else (other, own)
    return (read, write) if reads else (write, read)


class End:
    """A transport on one end of something; `peer` is the other end."""

    def __init__(self, loop, folder, reads, form="pipe", protocol=None, made=True, extra=None, **then):
        self.loop, self.reads, self.protocol = loop, reads, protocol or PipeNotes(**then)
        self.fd, self.peer = ends(form, reads, folder)
        os.set_blocking(self.peer, False)
        self.file = socket.socket(fileno=self.fd) if form == "socket" else os.fdopen(self.fd, "rb" if reads else "wb", 0)
        self.errors = []
        loop.set_exception_handler(lambda loop, context: self.errors.append(context))
        if made:
            connect = loop.connect_read_pipe if reads else loop.connect_write_pipe
            self.transport, _ = loop.run_until_complete(connect(lambda: self.protocol, self.file))
        else:
            make = loop._make_read_pipe_transport if reads else loop._make_write_pipe_transport
            self.transport = make(self.file, self.protocol, extra=extra)

    def __getattr__(self, name):
        return getattr(self.transport, name)

    @property
    def calls(self):
        return self.protocol.calls

    def put(self, data):
        """Write at the other end."""
        assert os.write(self.peer, data) == len(data)

    def get(self):
        """What is there to be read at the other end; then, if it has ended, how."""
        data = bytearray()
        while True:
            try:
                chunk = os.read(self.peer, 1 << 20)
            except BlockingIOError:
                return data, None
            except OSError as error:
                return data, error.errno
            if not chunk:
                return data, "end"
            data += chunk

    def get_all(self, size=None):
        """Read at the other end, and have the loop turn, until so many bytes have come or it ends."""
        data, end = self.get()
        while end is None and (size is None or len(data) < size):
            turn(self.loop)
            more, end = self.get()
            data += more
        return bytes(data)

    def hang_up(self):
        os.close(self.peer)
        self.peer = -1

    def reports(self):
        """What the exception handler was told.  In which callback something was raised is told in different words."""
        return [(context["message"] if not context["message"].startswith("Exception in callback") else "",
                 type(context["exception"]), context["exception"].args, context.get("protocol") in (None, self.protocol))
                for context in self.errors]

    def text(self):
        text = repr(self.transport)
        for name in ("ReadPipeTransport", "WritePipeTransport"):
            text = text.replace("_Unix" + name, name)
        return text.replace(f"fd={self.fd}", "fd=...")

    def facts(self):
        t = self.transport
        if self.reads:
            more = {"reading": t.is_reading()}
        else:
            more = {"size": t.get_write_buffer_size(), "limits": t.get_write_buffer_limits(), "eof": t.can_write_eof()}
        return more | {
            "repr": self.text(), "closing": t.is_closing(), "protocol": type(t.get_protocol()).__name__,
            "calls": self.calls[:], "reports": self.reports(),
            "closed": self.file.fileno() < 0 if isinstance(self.file, socket.socket) else self.file.closed}

    def end(self):
        if self.peer >= 0:
            self.hang_up()
        if not self.loop.is_closed():
            self.loop.set_exception_handler(lambda loop, context: None)
            if not self.transport.is_closing():
                self.transport.close()
            if not self.reads and self.transport.get_write_buffer_size():
                self.transport.abort()
            turn(self.loop, 3)
        self.file.close()


@pytest.fixture
def connect(loop, tmp_path):
    """connect(reads, form, actions..., loop=loop) makes an End; ended when the test is."""
    made = []

    def connect(reads, form="pipe", loop=loop, **kwargs):
        made.append(End(loop, tmp_path, reads, form, **kwargs))
        return made[-1]

    yield connect
    for end in made:
        end.end()


@pytest.fixture
def both(loop, oracle, connect):
    """both(play): play(connect) on the loop under test and on asyncio's; asserts that the same comes of it, and returns it."""
    def both(play):
        ours, theirs = (play(lambda *args, loop=each, **kwargs: connect(*args, loop=loop, **kwargs))
                        for each in (loop, oracle))
        assert ours == theirs
        return ours

    return both


class File:
    """A file that counts how often it is closed."""

    def __init__(self, fd):
        self.fd, self.closed = fd, 0

    def fileno(self):
        return self.fd

    def close(self):
        self.closed += 1
        if self.closed == 1:
            os.close(self.fd)


# -- every method in every state

READ_STATES = {
    "idle": called(), "paused": called("pause_reading"), "closing": called("close"), "closed": called("close", turns=1),
    "data": lambda end: end.put(b"data"), "peer gone": lambda end: end.hang_up(), "new": None,
    "data, peer gone": lambda end: (end.put(b"data"), end.hang_up()),
    "eof": lambda end: (end.hang_up(), turn(end.loop)),
}
READ_CALLS = {
    "close": lambda t: t.close(), "pause": lambda t: t.pause_reading(), "resume": lambda t: t.resume_reading(),
    "pause, resume": lambda t: (t.pause_reading(), t.resume_reading()), "twice": lambda t: (t.close(), t.close()),
    "protocol": lambda t: t.set_protocol(PipeNotes()), "info": lambda t: t.get_extra_info("nothing", 42),
    "attribute": lambda t: setattr(t, "x", t) or t.x is t,
}
WRITE_STATES = {
    "idle": called(), "backlog": write_backlog, "eof": called("write_eof"), "backlog, eof": backlog_then("write_eof"),
    "backlog, closing": backlog_then("close"), "closed": called("close", turns=1), "lost": called("abort", turns=1),
    "backlog, aborted": backlog_then("abort"), "peer gone": lambda end: end.hang_up(),
    "backlog, peer gone": lambda end: (write_backlog(end), end.hang_up()),
    "backlog, closing, peer gone": lambda end: (backlog_then("close")(end), end.hang_up()), "new": None,
}
WRITE_CALLS = {
    "write": lambda t: t.write(b"data"), "write nothing": lambda t: t.write(b""), "write text": lambda t: t.write("text"),
    "writelines": lambda t: t.writelines([b"some", bytearray(b"thing")]), "write no lines": lambda t: t.writelines([]),
    "write_eof": lambda t: t.write_eof(), "close": lambda t: t.close(), "abort": lambda t: t.abort(),
    "limits": lambda t: t.set_write_buffer_limits(high=10), "bad limits": lambda t: t.set_write_buffer_limits(high=1, low=2),
    "protocol": lambda t: t.set_protocol(PipeNotes()), "info": lambda t: t.get_extra_info("nothing", 42),
}
# asyncio schedules connection_lost() again, and fails at that
ONLY_ONCE = ("eof", "closed", "lost", "backlog, aborted")


@EACH("form", PIPES)
@EACH("reads, state", [(True, state) for state in READ_STATES] + [(False, state) for state in WRITE_STATES])
def test_every_method_in_every_state(both, outcome, reads, state, form):
    def play(connect):
        seen = []
        for name, call in (READ_CALLS if reads else WRITE_CALLS).items():
            if name == "abort" and state in ONLY_ONCE:
                continue
            if name in ("close", "abort", "write_eof") and state == "new" and not reads:
                continue    # asyncio then watches a descriptor that it closes
            if name == "protocol" and state == "new":
                continue    # on asyncio the old one is told of the connection; no program can come here
            end = connect(reads, form, made=state != "new")
            if prepare := (READ_STATES if reads else WRITE_STATES)[state]:
                prepare(end)
            seen.append((name, outcome(call, end.transport), end.facts()))
            if name == "abort" and "peer gone" in state:
                continue    # asyncio then closes it a second time
            for _ in range(3):
                turn(end.loop)
                seen.append((end.facts(), len(end.get()[0]) if end.peer >= 0 and not reads else None))
        return seen

    both(play)


@EACH("reads", [True, False])
def test_what_there_is(loop, oracle, connect, reads):
    """The public names are those of asyncio's, and so are the bases."""
    ours, theirs = (connect(reads, loop=each).transport for each in (loop, oracle))
    assert {name for name in dir(ours) if name[0] != "_"} == {name for name in dir(theirs) if name[0] != "_"}
    for cls in (asyncio.BaseTransport, asyncio.ReadTransport, asyncio.WriteTransport, asyncio.Transport):
        assert isinstance(ours, cls) == isinstance(theirs, cls)
    for name in ("_pipe", "_fileno", "_loop", "_protocol", "_closing", "_extra"):
        assert hasattr(ours, name) and hasattr(theirs, name)


@pytest.mark.only_asyncfast
@EACH("reads", [True, False])
def test_not_made(loop, reads):
    """One that was never made, or could not be, is like a closed one."""
    cls = type(loop)._make_read_pipe_transport.__globals__["ReadPipeTransport" if reads else "WritePipeTransport"]
    t = cls.__new__(cls)
    assert t.is_closing() and t.get_protocol() is None and t._pipe is None and t._fileno is None
    assert repr(t) == f"<{cls.__name__} closed fd=None closed>"
    assert t.close() is None
    if not reads:
        assert t.write(b"x") is None and t.write_eof() is None and t.abort() is None and t.get_write_buffer_size() == 0
    with pytest.raises(TypeError, match="asyncfast loop"):
        cls(asyncio.DefaultEventLoopPolicy if sys.version_info < (3, 14) else object(), None, None)
    with pytest.raises(TypeError):
        cls()


# -- what can be a pipe


@EACH("reads", [True, False])
@EACH("form", ["file", "folder"])
def test_refused(loop, oracle, outcome, tmp_path, reads, form):
    path = tmp_path / "file"
    path.write_bytes(b"data")
    seen = []
    for each in (loop, oracle):
        file, protocol = File(os.open(tmp_path if form == "folder" else path, os.O_RDONLY)), PipeNotes()
        make = each._make_read_pipe_transport if reads else each._make_write_pipe_transport
        seen.append(outcome(make, file, protocol))
        gc.collect()
        assert protocol.calls == [] and file.closed == 0 and os.get_blocking(file.fd)
        alive = weakref.ref(protocol)
        del protocol
        assert alive() is None
        file.close()
    assert seen[0] == seen[1] and seen[0][0] is ValueError


@pytest.mark.only_asyncfast
@EACH("reads", [True, False])
def test_no_file(loop, reads):
    """As on asyncio; whose transport then fails a second time, in its finalizer."""
    make = loop._make_read_pipe_transport if reads else loop._make_write_pipe_transport
    closed = open("/dev/null", "rb", 0)
    closed.close()
    for file, error in [(closed, ValueError), (7, AttributeError), (File(-1), OSError), (File(9999), OSError)]:
        with pytest.raises(error):
            make(file, PipeNotes())
        assert not isinstance(file, File) or file.closed == 0


async def test_refused_by_connect(loop, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"data")
    with open(path, "rb") as file:
        with pytest.raises(ValueError, match=r"^Pipe transport is for pipes/sockets only\.$"):
            await loop.connect_read_pipe(PipeNotes, file)
        with pytest.raises(ValueError, match="^Pipe transport is only for pipes, sockets and character devices$"):
            await loop.connect_write_pipe(PipeNotes, file)
        assert file.read() == b"data"


def test_device_that_cannot_be_watched(both):
    """/dev/null cannot be polled: it is connected to, and the handler hears why nothing is ever read."""
    def play(connect):
        end = connect(True)
        protocol = PipeNotes()
        file = open("/dev/null", "rb", 0)
        transport, _ = end.loop.run_until_complete(end.loop.connect_read_pipe(lambda: protocol, file))
        turn(end.loop, 2)
        seen = [protocol.calls[:], end.reports(), transport.is_reading()]
        transport.close()
        turn(end.loop, 2)
        return *seen, protocol.calls, file.closed

    assert play and both(play)[1][0][1] is PermissionError


@EACH("path", ["/dev/null", "/dev/full"])
def test_device(both, path):
    def play(connect):
        end = connect(False)
        protocol = PipeNotes()
        file = open(path, "wb", 0)
        transport, _ = end.loop.run_until_complete(end.loop.connect_write_pipe(lambda: protocol, file))
        transport.write(b"data")
        seen = [end.reports(), transport.is_closing(), transport.get_write_buffer_size(), os.get_blocking(file.fileno())]
        turn(end.loop, 2)
        transport.close()
        turn(end.loop, 2)
        return *seen, protocol.calls, file.closed

    both(play)


@EACH("reads", [True, False])
@EACH("form", PIPES + TERMINALS)
def test_nonblocking_and_extra_info(both, reads, form):
    def play(connect):
        extra = {"name": 1}
        end = connect(reads, form, made=False, extra=extra)
        assert end.get_extra_info("pipe") is end.file and extra == {"name": 1, "pipe": end.file}
        seen = os.get_blocking(end.fd), end.get_extra_info("name"), end.get_extra_info("socket"), end.facts()
        turn(end.loop)
        return *seen, end.facts()

    both(play)


# -- reading

@EACH("form", PIPES + TERMINALS)
@EACH("size", [1, 1000, 3000])
def test_read(both, form, size):
    def play(connect):
        end = connect(True, form)
        end.put(BIG[:size])
        until(end.loop, lambda: len(end.protocol.data) == size)
        while end.calls[-2] == "data_received":     # a terminal takes it to pieces
            end.calls.pop()
        seen = end.facts()
        end.hang_up()
        turn(end.loop, 4)
        return seen, bytes(end.protocol.data) == BIG[:size], end.facts()

    both(play)


def test_end_of_a_pipe(both):
    """eof_received() and connection_lost() come by call_soon(), whatever the former returns."""
    def play(connect):
        seen = []
        end = connect(True, eof_received=lambda t: seen.append((t.is_closing(), t.get_protocol() is end.protocol)) or True,
                      connection_lost=lambda t: seen.append(end.file.closed))
        end.loop.call_later(0, seen.append, "other")
        end.hang_up()
        for _ in range(4):
            turn(end.loop)
            seen.append(end.facts())
        return seen

    assert both(play)[-1]["closed"]


def test_end_of_a_terminal(both):
    """A pty whose other end was closed is an EIO: logged when debugging only."""
    def play(connect):
        end = connect(True, "master")
        end.put(b"data")
        turn(end.loop)
        end.hang_up()
        turn(end.loop, 3)
        return end.facts()

    assert both(play)["calls"][-1] == ("connection_lost", (OSError, (errno.EIO, os.strerror(errno.EIO))))


def test_read_error(both, tmp_path):
    """Every other error of reading is for the exception handler."""
    def play(connect):
        end = connect(True)
        fd = os.open(tmp_path, os.O_RDONLY)
        end.put(b"data")
        os.dup2(fd, end.fd)     # the descriptor is a folder now; epoll knows the pipe by another
        os.close(fd)
        end.transport._fatal_error(OSError(errno.EISDIR, "folder"), "Fatal read error on pipe transport")
        turn(end.loop, 3)
        return end.facts()

    assert both(play)["reports"] == [("Fatal read error on pipe transport", IsADirectoryError, (errno.EISDIR, "folder"), True)]


@pytest.mark.kinds("asyncfast", "asyncio")
def test_read_error_of_the_system(both):
    def play(connect):
        left, right = socket.socketpair()
        end = connect(True)
        protocol = PipeNotes()
        transport, _ = end.loop.run_until_complete(end.loop.connect_read_pipe(lambda: protocol, left))
        left.send(b"never read")
        right.close()           # which resets the connection
        turn(end.loop, 3)
        return protocol.calls, [report[:3] for report in end.reports()]

    assert both(play)[1] == [("Fatal read error on pipe transport", ConnectionResetError, (104, "Connection reset by peer"))]


def test_pause_while_there_is_data(both):
    def play(connect):
        seen = []
        end = connect(True, data_received=lambda t: t.pause_reading())
        end.put(b"first")
        turn(end.loop, 2)
        end.put(b"second")
        turn(end.loop, 2)
        seen.append((end.facts(), bytes(end.protocol.data)))
        end.resume_reading()
        turn(end.loop, 2)
        seen.append((end.facts(), bytes(end.protocol.data)))
        end.hang_up()
        turn(end.loop, 2)
        seen.append(end.facts())
        end.resume_reading()
        turn(end.loop, 4)
        seen.append(end.facts())
        return seen

    both(play)


def test_paused_before_it_is_made(both):
    def play(connect):
        end = connect(True, made=False)
        end.pause_reading()
        end.put(b"data")
        turn(end.loop, 3)
        seen = end.facts()
        end.resume_reading()
        turn(end.loop, 2)
        return seen, end.facts(), bytes(end.protocol.data)

    both(play)


@EACH("then", ["close", "pause_reading"])
def test_connection_made_stops_it(both, then):
    def play(connect):
        end = connect(True, made=False, connection_made=lambda t: getattr(t, then)())
        end.put(b"data")
        turn(end.loop, 4)
        return end.facts(), bytes(end.protocol.data)

    both(play)


def test_close_in_data_received(both):
    def play(connect):
        end = connect(True, data_received=lambda t: t.close())
        end.put(b"data")
        turn(end.loop, 3)
        return end.facts()

    both(play)


def test_another_protocol(both):
    def play(connect):
        other = PipeNotes()
        end = connect(True, data_received=lambda t: t.set_protocol(other))
        end.put(b"data")
        turn(end.loop)
        end.put(b"more")
        turn(end.loop)
        end.hang_up()
        turn(end.loop, 3)
        return end.calls, other.calls, bytes(other.data)

    both(play)


def test_buffered_protocol_is_none(both):
    """Pipes know no get_buffer()."""
    class Protocol(PipeNotes, asyncio.BufferedProtocol):
        get_buffer = buffer_updated = property()    # whoever calls them is wrong

    def play(connect):
        end = connect(True, protocol=Protocol())
        end.put(b"data")
        turn(end.loop, 2)
        return end.facts(), bytes(end.protocol.data)

    both(play)


@EACH("keep", [True, False])
def test_large_data_stays_what_it_was(loop, connect, keep):
    """What was received is lent, perhaps; nobody can tell."""
    kept, total = [], bytearray()
    end = connect(True)

    def received(data):
        total.extend(data)
        if keep:
            kept.append(data)

    end.protocol.data_received = received
    sent = bytearray()
    for n in range(40):
        data = bytes([n]) * (60_000 if n % 3 else 100)
        end.put(data)
        sent += data
        until(loop, lambda: len(total) == len(sent))
    assert total == sent and (not keep or b"".join(kept) == sent)


@EACH("form", PIPES)
def test_megabytes_from_a_slow_writer(loop, connect, form):
    end = connect(True, form)
    os.set_blocking(end.peer, True)

    def write():
        rest = memoryview(BIG)
        while rest:
            rest = rest[os.write(end.peer, rest[:100_003]):]
        end.hang_up()

    thread = threading.Thread(target=write)
    thread.start()
    until(loop, lambda: end.is_closing())
    thread.join()
    turn(loop)
    assert end.protocol.data == BIG and end.calls[-2:] == ["eof_received", ("connection_lost", None)]


# -- writing

@EACH("form", PIPES + TERMINALS)
@EACH("data", [b"data", bytearray(b"data"), memoryview(b"data"), memoryview(bytearray(b"xdatax"))[1:-1]],
      ids=["bytes", "bytearray", "memoryview", "part"])
def test_write(both, form, data):
    def play(connect):
        end = connect(False, form)
        end.write(data)
        end.write(b"")
        end.writelines([data, b"", data])
        seen = end.facts(), end.get()
        end.close()
        turn(end.loop, 3)
        return seen, end.facts()

    both(play)


@EACH("data", ["text", None, 1, [b"data"], object], ids=str)
def test_write_what_is_no_data(both, outcome, data):
    def play(connect):
        end = connect(False)
        seen = outcome(end.write, data), end.facts()
        end.close()
        return *seen, outcome(end.write, data)

    assert both(play)[0][0] is AssertionError


@pytest.mark.only_asyncfast
def test_write_memoryview_of_numbers(loop, connect):
    """It is bytes that count.  (asyncio counts items, and writes some twice.)"""
    end = connect(False)
    end.write(memoryview(BIG).cast("I"))
    assert end.get_all(len(BIG)) == BIG
    end.write(memoryview(BIG)[:2000:2])
    assert end.get_all(1000) == BIG[:2000:2]


@EACH("form", PIPES + TERMINALS)
def test_backlog(both, form):
    """What does not fit waits; resume_writing() comes when nothing waits any more."""
    def play(connect):
        end = connect(False, form, resume_writing=lambda t: sizes.append(t.get_write_buffer_size()))
        sizes = []
        data = BIG[:100_000] if form in TERMINALS else BIG
        end.write(data)
        assert end.get_write_buffer_size() > 0
        end.write(b"and more")
        seen = end.calls[:] if form in TERMINALS else end.facts()      # how much these take depends
        return seen, end.get_all(len(data) + 8) == data + b"and more", turn(end.loop), end.facts(), sizes

    assert both(play)[1]


def test_many_small_pieces(loop, connect):
    end = connect(False)
    end.write(BIG)
    pieces = [bytes([n % 256]) * (n % 7) for n in range(3000)]
    for piece in pieces:
        end.write(piece)
    data = BIG + b"".join(pieces)
    assert end.get_all(len(data)) == data


@EACH("make", [bytearray, lambda data: memoryview(bytearray(data))], ids=["bytearray", "memoryview"])
@EACH("waiting", [False, True])
def test_what_is_changed_later(loop, connect, make, waiting):
    """What was written is written, whatever becomes of the buffer; which may grow at once."""
    end = connect(False)
    if waiting:
        end.write(BIG)
    data = make(BIG)
    end.write(data)
    data[:] = bytes(len(data))
    if isinstance(data, bytearray):
        data += b"more"
    assert end.get_all(len(BIG) * (1 + waiting)) == BIG * (1 + waiting)


@EACH("how", ["close", "write_eof"])
def test_close_writes_what_waits(both, how):
    def play(connect):
        end = connect(False, connection_lost=lambda t: None)
        end.write(BIG)
        getattr(end.transport, how)()
        end.write(b"ignored")
        seen = end.facts()
        return seen, end.get_all() == BIG, turn(end.loop), end.facts()

    result = both(play)
    assert result[1] and result[3]["calls"][-1] == ("connection_lost", None)


@EACH("form", PIPES)
@EACH("first", [None, "write_eof", "close"])
@EACH("backlog", [True, False])
def test_reader_goes(both, form, first, backlog):
    def play(connect):
        end = connect(False, form)
        if backlog:
            end.write(BIG)
        if first:
            getattr(end.transport, first)()
        end.hang_up()
        seen = []
        for _ in range(3):
            turn(end.loop)
            seen.append(end.facts())
        return seen

    lost = both(play)[-1]["calls"][-1]
    assert lost == ("connection_lost", (BrokenPipeError, ()) if backlog else None)


def test_reader_goes_unnoticed(both, logged):
    """Then writing finds out."""
    def play(connect):
        end = connect(False)
        end.hang_up()
        end.write(b"data")
        seen = end.facts()
        for _ in range(7):
            end.write(b"data")
        turn(end.loop, 2)
        return seen, end.facts(), logged.take()

    assert both(play)[1]["calls"][-1] == ("connection_lost", (BrokenPipeError, (errno.EPIPE, os.strerror(errno.EPIPE))))


LOST = "pipe closed by peer or os.write(pipe, data) raised exception."


@EACH("how", ["close", "abort", "peer", "write", "backlog, close"])
def test_writes_to_what_is_lost(both, logged, how):
    """A program that goes on writing is told, in the end."""
    def play(connect):
        end = connect(False)
        if how in ("close", "abort"):
            getattr(end.transport, how)()
        elif how == "backlog, close":
            backlog_then("close")(end)
        else:
            end.hang_up()
            if how == "peer":
                turn(end.loop)
        counts = []
        for n in range(9):
            end.write(b"data")
            end.write(b"")
            counts.append(logged.take())
        turn(end.loop, 2)
        return counts, [end.write(b"data") for _ in range(6)], logged.take()

    counts = both(play)[0]
    assert counts[-1] == [LOST] and counts[0] == []


def test_data_for_the_writer(both):
    """A socket that can be read counts as one whose reader has gone, as on asyncio."""
    def play(connect):
        end = connect(False, "socket")
        end.put(b"data")
        turn(end.loop, 2)
        return end.facts()

    assert both(play)["calls"][-1] == ("connection_lost", None)


def test_limits(both, outcome):
    def play(connect):
        end = connect(False)
        seen = []
        for limits in [{}, dict(high=0), dict(high=100), dict(low=100), dict(high=10, low=3), dict(high=1, low=2),
                       dict(low=-1)]:
            seen.append((outcome(lambda: end.set_write_buffer_limits(**limits)), end.get_write_buffer_limits()))
        end.set_write_buffer_limits(high=0)
        end.write(BIG)
        seen.append(end.facts())
        end.set_write_buffer_limits(high=1)
        seen.append(end.facts())
        return seen

    both(play)


def test_write_in_resume_writing(both):
    def play(connect):
        end = connect(False, resume_writing=lambda t: t.write(b"resumed"))
        end.write(BIG)
        return end.get_all(len(BIG) + 7) == BIG + b"resumed", turn(end.loop, 2), end.facts()

    assert both(play)[0]


@pytest.mark.only_asyncfast
def test_much_written_in_resume_writing(loop, connect):
    """All of it is written before the end.  (asyncio closes at once.)"""
    end = connect(False, resume_writing=lambda t: t.write(BIG) or t.close())
    end.write(BIG)
    assert end.get_all() == BIG + BIG
    turn(loop)
    assert end.calls.count(("connection_lost", None)) == 1 and end.errors == []


@pytest.mark.only_asyncfast
@EACH("then", ["close", "abort", "write_eof"])
def test_connection_made_ends_it(loop, connect, then):
    """The end comes once, and nothing is watched any more.  (asyncio watches a descriptor that it closes.)"""
    end = connect(False, made=False, connection_made=lambda t: getattr(t, then)())
    turn(loop, 3)
    assert end.calls == ["connection_made", ("connection_lost", None)] and end.file.closed and end.errors == []
    assert loop._watched(end.fd) == 0


@pytest.mark.only_asyncfast
def test_the_end_comes_once(loop, connect):
    """However often, and in whatever order, it is ended."""
    for names in [("close", "abort"), ("abort", "abort"), ("abort", "close"), ("write_eof", "abort", "close")]:
        for backlog in (False, True):
            end = connect(False)
            if backlog:
                end.write(BIG)
            for name in names:
                getattr(end.transport, name)()
            turn(loop, 3)
            end.abort()
            end.close()
            assert [call for call in end.calls if call[0] == "connection_lost"] == [("connection_lost", None)]
            assert end.errors == [] and end.file.closed


@EACH("form", PIPES)
def test_megabytes_to_a_slow_reader(loop, connect, form):
    end = connect(False, form)
    os.set_blocking(end.peer, True)
    got = bytearray()

    def read():
        while data := os.read(end.peer, 30_011):
            got.extend(data)

    thread = threading.Thread(target=read)
    thread.start()
    for start in range(0, len(BIG), 70_001):
        end.write(BIG[start:start + 70_001])
        turn(loop)
    end.close()
    until(loop, lambda: end.file._closed if form == "socket" else end.file.closed)
    thread.join()
    assert got == BIG and end.errors == []


# -- what callbacks raise

class Error(Exception):
    pass


def failing(transport):
    raise Error("why")


@EACH("name", ["connection_made", "data_received", "eof_received", "connection_lost"])
def test_read_callback_fails(both, name):
    def play(connect):
        end = connect(True, made=False, **{name: failing})
        seen = []
        turn(end.loop, 2)
        for data in (b"first", b"second"):
            end.put(data)
            turn(end.loop)
            seen.append(end.facts())
        end.hang_up()
        turn(end.loop, 3)
        return seen, end.facts(), bytes(end.protocol.data)

    both(play)


@EACH("name", ["connection_made", "pause_writing", "resume_writing", "connection_lost"])
@EACH("finish", [True, False])
def test_write_callback_fails(both, name, finish):
    def play(connect):
        end = connect(False, made=False, **{name: failing})
        turn(end.loop, 2)
        end.write(BIG)
        seen = [end.facts()]
        if finish:
            end.close()
        seen.append(end.get_all(len(BIG)) == BIG)
        turn(end.loop, 2)
        return seen, end.facts()

    both(play)


@EACH("name", ["data_received", "eof_received", "connection_lost"])
@EACH("error", [SystemExit, KeyboardInterrupt])
def test_end_of_the_program(loop, connect, name, error):
    def end_it(transport):
        raise error

    end = connect(True, **{name: end_it})
    end.put(b"data")
    end.hang_up()
    with pytest.raises(error):
        turn(loop, 4)
    assert end.errors == []


@pytest.mark.only_asyncfast
def test_exception_handler_fails(loop, connect):
    """It ends the run if it means to, and the transport ends all the same."""
    end = connect(True, "socket")

    def handler(loop, context):
        raise SystemExit

    loop.set_exception_handler(handler)
    with pytest.raises(SystemExit):
        end.transport._fatal_error(Error())
    assert end.is_closing()


# -- contexts

def test_contexts(both):
    """Callbacks run in copies of the context in which they were asked for."""
    where = contextvars.ContextVar("where", default="nowhere")

    def within(value, function, *args):
        def run():
            where.set(value)
            return function(*args)
        return contextvars.copy_context().run(run)

    def play(connect):
        seen = []

        def note(name):
            def then(transport):
                seen.append((name, where.get()))
                where.set(name)
            return then

        names = ("connection_made", "data_received", "eof_received", "connection_lost", "pause_writing", "resume_writing")
        then = {name: note(name) for name in names}
        end = within("made", lambda: connect(True, made=False, **then))
        turn(end.loop, 2)
        end.put(b"data")
        turn(end.loop)
        end.put(b"data")
        turn(end.loop)
        end.pause_reading()
        within("resumed", end.resume_reading)
        end.put(b"data")
        turn(end.loop)
        end.hang_up()
        turn(end.loop, 3)
        end = within("made", lambda: connect(False, made=False, **then))
        turn(end.loop, 2)
        within("written", end.write, BIG)
        within("written again", end.write, b"data")
        end.get_all(len(BIG) + 4)
        turn(end.loop)
        within("written", end.write, BIG)
        within("closed", end.close)
        end.get_all()
        turn(end.loop, 2)
        end = within("made", lambda: connect(False, made=False, **then))
        turn(end.loop, 2)
        within("closed", end.close)
        turn(end.loop, 2)
        end = within("made", lambda: connect(False, made=False, **then))
        turn(end.loop, 2)
        end.hang_up()
        turn(end.loop, 2)
        return seen

    both(play)
    assert where.get() == "nowhere"


# -- logs, warnings, the file

@EACH("reads", [True, False])
def test_debug_log(both, caplog, reads):
    caplog.set_level(logging.DEBUG, "asyncio")

    def play(connect):
        caplog.clear()
        end = connect(reads, "socket")
        if reads:
            end.pause_reading()
            end.resume_reading()
        end.hang_up()
        turn(end.loop, 2)
        end = connect(reads, "master")
        end.hang_up()
        if not reads:
            end.write(BIG)
        turn(end.loop, 2)
        varying = re.compile(r"_Unix|fd=\d+|bufsize=\d+|0x\w+|file=<.*?>|[Pp]ipe \d+")
        return [(record.levelname, varying.sub("", record.getMessage()), record.exc_info and record.exc_info[0])
                for record in caplog.records if "pipe" in record.getMessage().lower()]

    both(play)


@EACH("reads", [True, False])
def test_unclosed(loop, oracle, reads):
    """Nobody closed it: there is a warning, and it is closed."""
    seen = []
    for each in (loop, oracle):
        own, peer = ends("master", reads, None)
        file, protocol = File(own), PipeNotes()
        transport = (each._make_read_pipe_transport if reads else each._make_write_pipe_transport)(file, protocol)
        turn(each, 2)
        if reads:
            transport.pause_reading()   # or the loop would hold it
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del transport, protocol
            gc.collect()
        os.close(peer)
        seen.append([re.sub(r"_Unix|fd=\d+", "", str(warning.message)) for warning in caught] + [file.closed])
    name = "ReadPipeTransport" if reads else "WritePipeTransport"
    assert seen[0] == seen[1] == [f"unclosed transport <{name}  idle{'' if reads else ' bufsize=0'}>", 1]


@pytest.mark.only_asyncfast
@EACH("reads", [True, False])
def test_loop_closed_first(loop_factory, reads):
    loop = loop_factory()
    own, peer = ends("pipe", reads, None)
    file, protocol = File(own), PipeNotes()
    make = loop._make_read_pipe_transport if reads else loop._make_write_pipe_transport
    transport = make(file, protocol)
    turn(loop, 2)
    loop.close()
    assert repr(transport).endswith(f"fd={own} open>")
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.close()
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport, protocol.transport
        gc.collect()
    assert file.closed == 1
    os.close(peer)


@EACH("reads", [True, False])
@EACH("how", ["close", "peer", "both", "abort"])
def test_closed_once(loop, reads, how):
    if reads and how == "abort":
        return
    own, peer = ends("pipe", reads, None)
    file, protocol = File(own), PipeNotes()
    make = loop._make_read_pipe_transport if reads else loop._make_write_pipe_transport
    transport = make(file, protocol)
    turn(loop, 2)
    if how in ("peer", "both"):
        os.close(peer)
    if how != "peer":
        getattr(transport, "close" if how == "both" else how)()
    turn(loop, 4)
    assert file.closed == 1 and protocol.calls[-1] == ("connection_lost", None)
    assert transport._pipe is None and transport._protocol is None and transport._loop is None
    alive = weakref.ref(transport), weakref.ref(protocol), weakref.ref(file)
    del transport, protocol, file
    gc.collect()
    assert [ref() for ref in alive] == [None] * 3
    if how not in ("peer", "both"):
        os.close(peer)


def test_cycle_is_collected(loop):
    own, peer = os.pipe()
    file, protocol = File(own), PipeNotes()
    transport = loop._make_read_pipe_transport(file, protocol)
    turn(loop, 2)
    transport.pause_reading()
    transport.me = transport
    alive = weakref.ref(transport)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport, protocol
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    caught.clear()      # it has the transport
    gc.collect()
    os.close(peer)
    assert alive() is None and file.closed == 1


@pytest.mark.kinds("asyncfast")
def test_no_leaks(loop, connect, descriptors):
    """Nothing is left of a transport: no descriptor, no reference."""
    def once():
        for reads in (True, False):
            own, peer = ends("pipe", reads, None)
            make = loop.connect_read_pipe if reads else loop.connect_write_pipe
            transport, protocol = loop.run_until_complete(make(PipeNotes, os.fdopen(own, "rb" if reads else "wb", 0)))
            if reads:
                os.write(peer, b"data" * 10_000)
                turn(loop)
                os.close(peer)
            else:
                transport.write(bytearray(BIG))
                transport.write(BIG)
                os.read(peer, 200_000)
                turn(loop)
                transport.abort()
                os.close(peer)
            turn(loop, 3)
            assert protocol.calls[-1][0] == "connection_lost"

    once()
    gc.collect()
    before, refs = descriptors(), sys.getrefcount(BIG)
    counts = len(gc.get_objects())
    for _ in range(50):
        once()
    gc.collect()
    assert (descriptors(), sys.getrefcount(BIG)) == (before, refs)
    assert len(gc.get_objects()) - counts < 25


# -- one file, two transports

@EACH("order", ["read, write", "write, read"])
@EACH("form", ["master", "slave", "socket"])
def test_both_directions(loop, tmp_path, form, order):
    """A terminal that is read and written; a socket, too, if it is first written, as on asyncio."""
    if form == "socket" and order == "read, write" and not type(loop).__module__.startswith("asyncfast"):
        return
    own, peer = ends(form, True, tmp_path)
    os.set_blocking(peer, False)
    file = os.fdopen(own, "r+b", 0)
    made = {}
    for name in order.split(", "):
        make = loop.connect_read_pipe if name == "read" else loop.connect_write_pipe
        made[name] = loop.run_until_complete(make(PipeNotes, file))
    (reader, reads), (writer, _) = made["read"], made["write"]
    data = BIG[:300_000]
    writer.write(data)
    os.write(peer, b"data")
    until(loop, lambda: reads.data == b"data")
    assert writer.get_write_buffer_size() > 0
    got = bytearray()
    while len(got) < len(data):
        turn(loop)
        with contextlib.suppress(BlockingIOError):
            got += os.read(peer, 1 << 20)
    assert got == data and not writer.is_closing() and not reader.is_closing()
    os.write(peer, b"more")
    until(loop, lambda: reads.data == b"datamore")
    writer.close()
    reader.close()
    turn(loop, 3)
    assert file.closed
    os.close(peer)


@pytest.mark.only_asyncfast
def test_file_closed_behind_its_back(loop, tmp_path):
    """Its number goes to another pipe; which is not the other one's."""
    own, peer = os.pipe()
    file = os.fdopen(own, "rb", 0)
    old, old_notes = loop.run_until_complete(loop.connect_read_pipe(PipeNotes, file))
    file.close()
    os.close(peer)
    own, peer = os.pipe()
    assert own == old._fileno
    new, notes = loop.run_until_complete(loop.connect_read_pipe(PipeNotes, os.fdopen(own, "rb", 0)))
    os.write(peer, b"data")
    turn(loop, 2)
    assert notes.data == b"data" and old_notes.data == b""
    old.close()
    turn(loop, 2)
    os.write(peer, b"more")
    turn(loop, 2)
    assert notes.data == b"datamore"
    new.close()
    turn(loop, 2)
    os.close(peer)


def test_readers_of_its_descriptor(both):
    """asyncio lets a program take a pipe's events away: its reader is in the transport's place."""
    def play(connect):
        end = connect(True)
        seen = []
        end.loop.add_reader(end.fd, lambda: seen.append(os.read(end.fd, 100)))
        end.put(b"data")
        turn(end.loop, 2)
        end.loop.remove_reader(end.fd)
        return seen, end.calls

    both(play)


# -- with the rest of the library

async def test_streams(loop):
    read, write = os.pipe()
    reader = asyncio.StreamReader(limit=1000)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb", 0))
    to, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(write, "wb", 0))
    writer = asyncio.StreamWriter(to, protocol, None, loop)

    async def send():
        for start in range(0, len(BIG), 50_000):
            writer.write(BIG[start:start + 50_000])
            await writer.drain()
        writer.close()

    task = loop.create_task(send())
    got = bytearray()
    while data := await reader.read(5000):
        got += data
    await task
    assert got == BIG
    transport.close()
    await asyncio.sleep(0)


async def test_drain_when_the_reader_goes(loop):
    read, write = os.pipe()
    to, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(write, "wb", 0))
    writer = asyncio.StreamWriter(to, protocol, None, loop)
    writer.write(BIG)
    task = loop.create_task(writer.drain())
    await asyncio.sleep(0)
    os.close(read)
    with pytest.raises(BrokenPipeError):
        await task
    await asyncio.sleep(0)


CAT = "import sys, shutil; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)"


async def test_subprocess_of_megabytes(loop):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CAT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = await process.communicate(BIG)
    assert out == BIG and err == b"" and await process.wait() == 0


async def test_subprocess_that_does_not_read(loop):
    """Its stdin is a socket pair; that it has gone is an end like any other."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import os; os.close(0); print('closed', flush=True)",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert await process.stdout.readline() == b"closed\n"
    process.stdin.write(BIG)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        await process.stdin.drain()
    assert await process.wait() == 0
    assert await process.stdout.read() == b""


async def test_subprocess_killed(loop):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import time; time.sleep(1000)", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(BIG)
    process.kill()
    assert await process.wait() == -9
    assert await process.stdout.read() == b""


def test_fork(program):
    """A child writes into a pipe that the parent's loop reads, and the child's own loop works on another."""
    assert program("""
        class PipeNotes(asyncio.Protocol):
            data = b""
            def data_received(self, data):
                self.data += data
            def connection_lost(self, error):
                self.done.set_result(error)

        async def collect(fd):
            loop = asyncio.get_running_loop()
            notes = PipeNotes()
            notes.done = loop.create_future()
            await loop.connect_read_pipe(lambda: notes, os.fdopen(fd, "rb", 0))
            await notes.done
            return notes.data

        async def main():
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                asyncio._set_running_loop(None)
                os.close(read)
                inner = os.pipe()
                os.write(inner[1], b"child")
                os.close(inner[1])
                os.write(write, run(collect(inner[0])) * 3)
                os._exit(0)
            os.close(write)
            print(await collect(read))
            assert os.waitpid(child, 0)[1] == 0

        warnings.simplefilter("ignore", DeprecationWarning)
        run(main())
        """) == "b'childchildchild'\n"
