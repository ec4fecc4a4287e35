# The C module, for type checkers. tests/source/test_stub.py holds it against what was built.
#
# Task, Future and the handles pass for asyncio's by isinstance, so that is what they are here.

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Generic, Self, TypeVar, TypeVarTuple, Unpack, final, overload

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

class Future(asyncio.Future[_T]): ...

class Task(Future[_T], asyncio.Task[_T]):  # type: ignore[misc]
    if sys.version_info >= (3, 12):
        def __init__(
            self,
            coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
            *,
            loop: asyncio.AbstractEventLoop | None = None,
            name: str | None = None,
            context: Context | None = None,
            eager_start: bool = False,
        ) -> None: ...
    else:
        def __init__(
            self,
            coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
            *,
            loop: asyncio.AbstractEventLoop | None = None,
            name: str | None = None,
            context: Context | None = None,
        ) -> None: ...

class SocketTransport(asyncio.Transport):
    max_size: int

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
        server: asyncio.Server | None = None,
        context: Context | None = None,
    ) -> None: ...

class DatagramTransport(asyncio.Transport, asyncio.DatagramTransport):
    max_size: int

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any = None,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
        context: Context | None = None,
    ) -> None: ...
    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None: ...

class ReadPipeTransport(asyncio.ReadTransport):
    max_size: int

    def __init__(
        self,
        loop: Loop,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None: ...

class WritePipeTransport(asyncio.Transport):
    def __init__(
        self,
        loop: Loop,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None: ...

class SSLTransport(asyncio.Transport):
    def __init__(
        self,
        loop: Loop,
        protocol: asyncio.BaseProtocol,
        sslobj: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        extra: dict[str, Any],
        waiter: asyncio.Future[None] | None,
        call_connection_made: bool,
        handshake_timeout: float,
        shutdown_timeout: float,
        direct: bool,
        ktls: bool = False,
    ) -> None: ...
    def get_read_buffer_size(self) -> int: ...
    def get_read_buffer_limits(self) -> tuple[int, int]: ...
    def set_read_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

class Handle(asyncio.Handle): ...
class TimerHandle(asyncio.TimerHandle): ...

class Loop:
    @property
    def backend(self) -> str: ...
    @property
    def timer_backend(self) -> str: ...
    slow_callback_duration: float
    def call_soon(
        self, callback: Callable[[Unpack[_Ts]], object], *args: Unpack[_Ts], context: Context | None = None
    ) -> Handle: ...
    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[_Ts]], object], *args: Unpack[_Ts], context: Context | None = None
    ) -> Handle: ...
    def call_later(
        self, delay: float, callback: Callable[[Unpack[_Ts]], object], *args: Unpack[_Ts], context: Context | None = None
    ) -> TimerHandle: ...
    def call_at(
        self, when: float, callback: Callable[[Unpack[_Ts]], object], *args: Unpack[_Ts], context: Context | None = None
    ) -> TimerHandle: ...
    def create_future(self) -> Future[Any]: ...
    def shutdown_asyncgens(self) -> Coroutine[Any, Any, None]: ...
    def sock_recv(self, sock: socket.socket, n: int) -> Coroutine[Any, Any, bytes]: ...
    def sock_recv_into(self, sock: socket.socket, buf: bytearray | memoryview) -> Coroutine[Any, Any, int]: ...
    def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> Coroutine[Any, Any, tuple[bytes, Any]]: ...
    def sock_recvfrom_into(
        self, sock: socket.socket, buf: bytearray | memoryview, nbytes: int = 0
    ) -> Coroutine[Any, Any, tuple[int, Any]]: ...
    def sock_sendall(self, sock: socket.socket, data: bytes | bytearray | memoryview) -> Coroutine[Any, Any, None]: ...
    def sock_sendto(
        self, sock: socket.socket, data: bytes | bytearray | memoryview, address: Any
    ) -> Coroutine[Any, Any, int]: ...
    def sock_accept(self, sock: socket.socket) -> Coroutine[Any, Any, tuple[socket.socket, Any]]: ...
    def sock_connect(self, sock: socket.socket, address: Any) -> Coroutine[Any, Any, None]: ...
    if sys.version_info >= (3, 14):
        def create_task(
            self,
            coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
            *,
            name: str | None = None,
            context: Context | None = None,
            eager_start: bool | None = None,
        ) -> Task[_T]: ...
    else:
        def create_task(
            self,
            coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
            *,
            name: str | None = None,
            context: Context | None = None,
        ) -> Task[_T]: ...
    def time(self) -> float: ...
    def stop(self) -> None: ...
    def is_running(self) -> bool: ...
    def is_closed(self) -> bool: ...
    def get_debug(self) -> bool: ...

@final
class _Sleep(Generic[_T]):
    def __await__(self) -> Generator[Any, None, _T]: ...

@overload
def sleep(delay: float) -> _Sleep[None]: ...
@overload
def sleep(delay: float, result: _T) -> _Sleep[_T]: ...

if sys.version_info >= (3, 13):
    class ChannelClosed(asyncio.QueueShutDown): ...
else:
    class ChannelClosed(Exception): ...

class ChannelEmpty(asyncio.QueueEmpty): ...
class ChannelFull(asyncio.QueueFull): ...

class Channel(Generic[_T]):
    # how many items may lie in it before senders wait; 0 or less: any number
    def __init__(self, maxsize: int = 0) -> None: ...
    @property
    def maxsize(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    def __len__(self) -> int: ...
    def full(self) -> bool: ...
    # ChannelClosed; one that raises has sent nothing
    def send(self, item: _T, /) -> Coroutine[Any, Any, None]: ...
    # ChannelFull, ChannelClosed
    def send_nowait(self, item: _T, /) -> None: ...
    # the same from any thread; RuntimeError if the loop that is waited on is closed
    def send_threadsafe(self, item: _T, /) -> None: ...
    # what close() was given, or ChannelClosed, when there is nothing left
    def receive(self) -> Coroutine[Any, Any, _T]: ...
    # ChannelEmpty, and as receive()
    def receive_nowait(self) -> _T: ...
    def close(self, exc: BaseException | type[BaseException] | None = None) -> None: ...
    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Coroutine[Any, Any, _T]: ...
