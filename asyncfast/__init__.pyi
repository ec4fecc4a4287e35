import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Executor
from typing import Any, Literal, Self, TypeVar

from ._core import Channel as Channel
from ._core import ChannelClosed as ChannelClosed
from ._core import ChannelEmpty as ChannelEmpty
from ._core import ChannelFull as ChannelFull
from ._core import Future as Future
from ._core import Handle as Handle
from ._core import Loop as _CoreLoop
from ._core import Task as Task
from ._core import TimerHandle as TimerHandle
from ._core import sleep as sleep

_T = TypeVar("_T")
_Connected = Callable[["StreamReader", "StreamWriter"], Awaitable[None] | None]

__version__: str

class Loop(_CoreLoop, asyncio.SelectorEventLoop):  # type: ignore[misc]
    def __init__(
        self,
        *,
        await_values: bool | None = None,
        fast_streams: bool | None = None,
        tls: str | None = None,
        ktls: bool | None = None,
        busy_poll: bool | None = None,
    ) -> None: ...
    @property
    def tls_engine(self) -> str: ...

def new_event_loop(
    *,
    await_values: bool | None = None,
    fast_streams: bool | None = None,
    tls: str | None = None,
    ktls: bool | None = None,
    busy_poll: bool | None = None,
) -> Loop: ...
def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    await_values: bool | None = None,
    fast_streams: bool | None = None,
    ktls: bool | None = None,
) -> _T: ...

class Runner(asyncio.Runner):
    def __init__(
        self,
        *,
        debug: bool | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
        await_values: bool | None = None,
        fast_streams: bool | None = None,
        ktls: bool | None = None,
    ) -> None: ...

class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
    def __init__(
        self, *, await_values: bool | None = None, fast_streams: bool | None = None, ktls: bool | None = None
    ) -> None: ...

def install() -> None: ...

class ticker:
    def __init__(
        self, interval: float, *, first: float | None = None, missed: Literal["skip", "burst", "delay"] = "skip"
    ) -> None: ...
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> int: ...

def as_completed(aws: Iterable[Awaitable[_T]], *, timeout: float | None = None) -> AsyncIterator[asyncio.Future[_T]]: ...
def merge(*iterables: AsyncIterable[_T]) -> AsyncGenerator[_T, None]: ...
def batched(iterable: AsyncIterable[_T], n: int, *, within: float | None = None) -> AsyncGenerator[list[_T], None]: ...
def timeout_each(iterable: AsyncIterable[_T], seconds: float | None) -> AsyncGenerator[_T, None]: ...
def aiter_sync(iterable: Iterable[_T], *, executor: Executor | None = None) -> AsyncGenerator[_T, None]: ...

class StreamReader(asyncio.StreamReader):
    def __init__(self, limit: int = 65536, loop: asyncio.AbstractEventLoop | None = None) -> None: ...

class StreamReaderProtocol(asyncio.StreamReaderProtocol): ...
class StreamWriter(asyncio.StreamWriter): ...

async def open_connection(
    host: str | None = None, port: int | str | None = None, *, limit: int = 65536, **kwds: Any
) -> tuple[StreamReader, StreamWriter]: ...
async def start_server(
    client_connected_cb: _Connected,
    host: str | list[str] | None = None,
    port: int | str | None = None,
    *,
    limit: int = 65536,
    **kwds: Any,
) -> asyncio.Server: ...
async def open_unix_connection(
    path: str | os.PathLike[str] | None = None, *, limit: int = 65536, **kwds: Any
) -> tuple[StreamReader, StreamWriter]: ...
async def start_unix_server(
    client_connected_cb: _Connected,
    path: str | os.PathLike[str] | None = None,
    *,
    limit: int = 65536,
    **kwds: Any,
) -> asyncio.Server: ...
