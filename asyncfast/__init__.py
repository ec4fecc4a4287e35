"""asyncfast: an asyncio event loop in C.

    asyncfast.run(main())                                            # or
    asyncio.run(main(), loop_factory=asyncfast.new_event_loop)       # or
    asyncio.set_event_loop_policy(asyncfast.EventLoopPolicy())
"""

from asyncio import Runner as _AsyncioRunner

from ._aiter import aiter_sync, as_completed, batched, merge, ticker, timeout_each
from ._core import Channel, ChannelClosed, ChannelEmpty, ChannelFull, Future, Handle, Task, TimerHandle, sleep
from ._loop import Loop, new_event_loop, run
from ._streams import (
    StreamReader, StreamReaderProtocol, StreamWriter, open_connection, open_unix_connection, start_server, start_unix_server)
from ._version import __version__

__all__ = (
    "Channel", "ChannelClosed", "ChannelEmpty", "ChannelFull", "EventLoopPolicy", "Future", "Handle", "Loop", "Runner",
    "StreamReader", "StreamReaderProtocol", "StreamWriter", "Task", "TimerHandle", "__version__", "aiter_sync", "as_completed",
    "batched", "install", "merge", "new_event_loop", "open_connection", "open_unix_connection", "run", "sleep",
    "start_server", "start_unix_server", "ticker", "timeout_each",
)


class Runner(_AsyncioRunner):
    """asyncio.Runner whose loop_factory is new_event_loop unless another is given."""

    def __init__(self, *, debug=None, loop_factory=None, await_values=None, fast_streams=None, ktls=None):
        if loop_factory is None:
            def loop_factory():
                return new_event_loop(await_values=await_values, fast_streams=fast_streams, ktls=ktls)
        super().__init__(debug=debug, loop_factory=loop_factory)


def __getattr__(name):
    # policies warn when touched from 3.14 on: only for those who ask for one
    if name in ("EventLoopPolicy", "install"):
        from . import _policy
        value = globals()[name] = getattr(_policy, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
