"""Streams: asyncio's, with what happens per chunk, per read and per write in C.

The classes inherit from the C type of the same name and then from asyncio's class, in this order: the C methods and
fields come first, everything else is asyncio's own, working on those fields.  The functions, and the one method that
names a class, are the code of the running Python's asyncio.streams, run with these classes in the place of its own.
"""

import asyncio
import types
from asyncio import streams

from . import _core

__all__ = ("StreamReader", "StreamReaderProtocol", "StreamWriter", "open_connection", "open_unix_connection",
           "start_server", "start_unix_server")

#: The functions of asyncio that make streams, by name.
FUNCTIONS = ("open_connection", "start_server", "open_unix_connection", "start_unix_server")

_names = vars(streams).copy()       # what their code finds as its globals


def _with_our_classes(function):
    """A function of asyncio.streams that finds our classes where it looks for asyncio's."""
    ours = types.FunctionType(function.__code__, _names, function.__name__, function.__defaults__, function.__closure__)
    ours.__kwdefaults__ = function.__kwdefaults__
    ours.__doc__ = function.__doc__
    ours.__qualname__ = function.__qualname__
    ours.__module__ = "asyncfast"
    return ours


class StreamReader(_core._StreamReader, streams.StreamReader):
    """asyncio.StreamReader in C.

    limit (bytes) is how long a line may be; above twice that the transport is paused.  ValueError unless limit > 0.
    """


class StreamReaderProtocol(_core._StreamReaderProtocol, streams.StreamReaderProtocol):
    """asyncio.StreamReaderProtocol for StreamReader, which transports of asyncfast feed without calling it."""

    connection_made = _with_our_classes(streams.StreamReaderProtocol.connection_made)


class StreamWriter(_core._StreamWriter, streams.StreamWriter):
    """asyncio.StreamWriter in C."""

    @property
    def _complete_fut(self):
        future = self._loop.create_future()
        future.set_result(None)
        return future


_names.update(StreamReader=StreamReader, StreamReaderProtocol=StreamReaderProtocol, StreamWriter=StreamWriter)

open_connection = _with_our_classes(streams.open_connection)
start_server = _with_our_classes(streams.start_server)
open_unix_connection = _with_our_classes(streams.open_unix_connection)
start_unix_server = _with_our_classes(streams.start_unix_server)


# -- asyncio's functions on loops made with fast_streams=True

def _chosen_by_loop(name):
    theirs, ours = getattr(streams, name), globals()[name]

    def function(*args, **kwargs):
        chosen = ours if getattr(asyncio._get_running_loop(), "_fast_streams", False) else theirs
        return chosen(*args, **kwargs)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = theirs.__doc__
    function.__module__ = theirs.__module__
    function.__wrapped__ = theirs       # inspect.signature() asks it
    return function


def install():
    """Have asyncio's functions that make streams ask the running loop whose classes to use.  May be called again."""
    for name in FUNCTIONS:
        if not hasattr(getattr(streams, name), "__wrapped__"):
            function = _chosen_by_loop(name)
            setattr(streams, name, function)
            setattr(asyncio, name, function)


# -- asyncio's own classes, whose instances C works on as long as nobody has changed them (asyncstream.c, feed.c)

def _passing_for(cls):
    """A subclass of cls, for methods in C; by all but type() and what that has its instances are of cls itself."""
    as_cls = property(lambda self: cls, object.__dict__["__class__"].__set__)
    return type(cls)(cls.__name__, (cls,), {"__slots__": (), "__class__": as_cls, "__doc__": cls.__doc__,
                                            "__module__": cls.__module__, "__qualname__": cls.__qualname__})


def _attributes(cls):
    made_when_asked_for = ("__anno", "__slotnames__")      # annotations; what copy.copy() keeps there
    return {name: value for name, value in vars(cls).items() if not name.startswith(made_when_asked_for)}


#: What instances of asyncio's get for their class.
AsyncioReader, AsyncioWriter = _passing_for(streams.StreamReader), _passing_for(streams.StreamWriter)

#: What runs per chunk, per read and per write.
_RUNS = {
    AsyncioReader: (
        streams.StreamReader.read, streams.StreamReader.readexactly, streams.StreamReader.readuntil,
        streams.StreamReader.readline, streams.StreamReader._wait_for_data, streams.StreamReader._maybe_resume_transport,
        streams.StreamReader.feed_data, streams.StreamReader._wakeup_waiter),
    AsyncioWriter: (
        streams.StreamWriter.write, streams.StreamWriter.drain, streams.StreamReader.exception,
        streams.StreamReaderProtocol._drain_helper),
    streams.StreamReaderProtocol: (
        streams.StreamReaderProtocol.data_received, streams.StreamReaderProtocol._stream_reader.fget),
}


def _with_codes(cls, functions):
    return (cls, *(item for function in functions for item in (function, function.__code__)))


_core._register_streams(StreamReader, StreamReaderProtocol, StreamWriter,
                        tuple(_with_codes(*item) for item in _RUNS.items()))

_UNCHANGED = {cls: [(base, _attributes(base)) for base in cls.__mro__[:-1]] for cls in _RUNS}


def is_asyncios(cls):
    """Whether one of these classes, and its bases, are what they were at import."""
    return all(_attributes(base) == attributes for base, attributes in _UNCHANGED[cls])
