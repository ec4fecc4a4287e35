"""The event loop policy, made on first use: asyncio's policies are deprecated from 3.14 on and gone in 3.16."""

import asyncio
import warnings

from ._loop import new_event_loop

with warnings.catch_warnings():
    # asyncio warns about its own name, not about what users do: set_event_loop_policy() still warns them itself
    warnings.simplefilter("ignore", DeprecationWarning)
    _Base = asyncio.DefaultEventLoopPolicy


class EventLoopPolicy(_Base):
    """asyncio's default policy, making asyncfast loops.

    asyncio.set_event_loop_policy(asyncfast.EventLoopPolicy()) switches a program over.  await_values, fast_streams, ktls: as for
    Loop.
    """

    def __init__(self, *, await_values=None, fast_streams=None, ktls=None):
        super().__init__()
        self._fast_streams = fast_streams
        self._await_values = await_values
        self._ktls = ktls

    def _loop_factory(self):
        return new_event_loop(await_values=self._await_values, fast_streams=self._fast_streams, ktls=self._ktls)


EventLoopPolicy.__module__ = "asyncfast"
EventLoopPolicy.__qualname__ = "EventLoopPolicy"


def install():
    """Make asyncfast the event loop of the process: set_event_loop_policy(EventLoopPolicy()).

    Warns as asyncio.set_event_loop_policy() does where policies are deprecated (3.14+); asyncfast.run() and
    loop_factory=asyncfast.new_event_loop are the ways that stay.
    """
    asyncio.set_event_loop_policy(EventLoopPolicy())
