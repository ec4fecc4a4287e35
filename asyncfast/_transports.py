"""The Python half of the transports: what happens once per connection, or on the way to an error message."""

import sys
import warnings
from asyncio import base_events, constants, futures, sslproto, transports, trsock
from asyncio.log import logger

from . import _core

SocketTransport = _core.SocketTransport
SocketTransport.max_size = 256 * 1024      # asyncio's name for how much is read at once
SocketTransport._start_tls_compatible = True
SocketTransport._sendfile_compatible = constants._SendfileMode.TRY_NATIVE

# Server._attach() and _detach() take the transport since 3.13
_SERVER_KNOWS_TRANSPORTS = base_events.Server._attach.__code__.co_argcount > 1


class Transports:
    """The loop's methods that make transports, and those that have to know about them."""

    def _make_socket_transport(self, sock, protocol, waiter=None, *, extra=None, server=None, context=None):
        self._ensure_fd_no_transport(sock)
        return SocketTransport(self, sock, protocol, waiter, extra, server, context)

    def _make_ssl_transport(self, rawsock, protocol, sslcontext, waiter=None, *, server_side=False,
                            server_hostname=None, extra=None, server=None, ssl_handshake_timeout=None,
                            ssl_shutdown_timeout=None, context=None):
        self._ensure_fd_no_transport(rawsock)
        ssl_protocol = sslproto.SSLProtocol(
            self, protocol, sslcontext, waiter, server_side, server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout, ssl_shutdown_timeout=ssl_shutdown_timeout)
        SocketTransport(self, rawsock, ssl_protocol, None, extra, server, context)
        return ssl_protocol._app_transport

    def _ensure_fd_no_transport(self, fd):
        super()._ensure_fd_no_transport(fd)
        transport = self._owner(fd)
        # one that sendfile() uses has stepped aside
        if transport is not None and not transport.is_closing() and transport._empty_waiter is None:
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {transport!r}")

    async def _sendfile_native(self, transp, file, offset, count):
        sent = transp._make_empty_waiter()
        resume_reading = transp.is_reading()
        transp.pause_reading()
        try:
            await sent
            return await self.sock_sendfile(transp._sock, file, offset, count, fallback=False)
        finally:
            transp._reset_empty_waiter()
            if resume_reading:
                transp.resume_reading()

    async def _sendfile_fallback(self, transp, file, offset, count):
        if isinstance(transp, SocketTransport):
            transp = _FlowControlled(transp)
        return await super()._sendfile_fallback(transp, file, offset, count)


class _FlowControlled:
    """A SocketTransport for asyncio's sendfile(), which wants to see a class of asyncio's."""

    __class__ = transports._FlowControlMixin

    def __init__(self, transport):
        self._transport = transport

    def __getattr__(self, name):
        return getattr(self._transport, name)


# -- called from C (part of the hooks of _core)

set_result_unless_cancelled = futures._set_result_unless_cancelled


def socket_info(sock, extra, stream):
    """The extra info of a new transport on sock, added to extra; a TCP stream has Nagle's algorithm switched off."""
    if extra is None:
        extra = {}
    extra["socket"] = trsock.TransportSocket(sock)
    try:
        extra["sockname"] = sock.getsockname()
    except OSError:
        extra["sockname"] = None
    if "peername" not in extra:
        try:
            extra["peername"] = sock.getpeername()
        except OSError:
            extra["peername"] = None
    if stream:
        base_events._set_nodelay(sock)
    return extra


def server_attach(server, transport):
    server._attach(transport) if _SERVER_KNOWS_TRANSPORTS else server._attach()


def server_detach(server, transport):
    server._detach(transport) if _SERVER_KNOWS_TRANSPORTS else server._detach()


def write_buffer_limits(high, low):
    """asyncio.WriteTransport.set_write_buffer_limits()'s rules: (high, low) in bytes."""
    if high is None:
        high = 64 * 1024 if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:
        raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
    return tuple(int(min(limit, sys.maxsize)) for limit in (high, low))     # a float will do, infinity too


def transport_failed(loop, transport, message, exc):
    loop.call_exception_handler({
        "message": message,
        "exception": exc,
        "transport": transport,
        "protocol": transport.get_protocol(),
    })


def transport_debug_error(loop, transport, message, exc):
    logger.debug("%r: %s", transport, message, exc_info=exc)


def transport_debug(transport, what):
    logger.debug("%r %s", transport, what)


def write_to_lost():
    logger.warning("socket.send() raised exception.")


def transport_unclosed(transport):
    warnings.warn(f"unclosed transport {transport!r}", ResourceWarning, source=transport)


def transport_repr(transport):
    info = [type(transport).__name__]
    if transport._sock is None:
        info.append("closed")
    elif transport._closing:
        info.append("closing")
    info.append(f"fd={transport._sock_fd}")
    loop = transport._loop
    if loop is not None and not loop.is_closed():
        watched = loop._watched(transport._sock_fd)
        info.append("read=polling" if watched & 1 else "read=idle")
        state = "polling" if watched & 2 else "idle"
        info.append(f"write=<{state}, bufsize={transport.get_write_buffer_size()}>")
    return f"<{' '.join(info)}>"
