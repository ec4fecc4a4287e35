"""The Python half of the transports: what happens once per connection, or on the way to an error message."""

import asyncio
import errno
import functools
import os
import socket
import stat
import sys
import warnings
from asyncio import base_events, constants, futures, sslproto, transports, trsock
from asyncio.log import logger

from . import _core, _tls
from ._tls import SSLTransport

SocketTransport = _core.SocketTransport
DatagramTransport = _core.DatagramTransport
ReadPipeTransport = _core.ReadPipeTransport
for _reads in (SocketTransport, DatagramTransport, ReadPipeTransport):
    _reads.max_size = 256 * 1024        # asyncio's name for how much is read at once
WritePipeTransport = _core.WritePipeTransport
SocketTransport._start_tls_compatible = True
SocketTransport._sendfile_compatible = constants._SendfileMode.TRY_NATIVE


# what asyncio's transports call of a socket
_STREAM_CALLS = ("recv", "recv_into", "send", "sendmsg", "shutdown")
_DATAGRAM_CALLS = ("recvfrom", "send", "sendto")


def _has_its_own(sock, calls):
    """Whether sock's class, or sock itself, has changed one of these: what it does then is not what its fd would do."""
    cls = type(sock)
    return cls is not socket.socket and any(
        getattr(cls, name, None) is not getattr(socket.socket, name) or name in getattr(sock, "__dict__", ()) for name in calls)


def _given(context):
    """As an argument for asyncio's methods, which take one since 3.15."""
    return {} if context is None else {"context": context}


class Transports:
    """The loop's methods that make transports, and those that have to know about them.

    A socket that sends and receives in a way of its own (through a proxy, say) gets asyncio's transport, which calls it.
    """

    def _make_socket_transport(self, sock, protocol, waiter=None, *, extra=None, server=None, context=None):
        if _has_its_own(sock, _STREAM_CALLS):
            return super()._make_socket_transport(sock, protocol, waiter, extra=extra, server=server, **_given(context))
        self._ensure_fd_no_transport(sock)
        return SocketTransport(self, sock, protocol, waiter, extra, server, context)

    def _make_datagram_transport(self, sock, protocol, address=None, waiter=None, extra=None, context=None):
        if _has_its_own(sock, _DATAGRAM_CALLS):
            return super()._make_datagram_transport(sock, protocol, address, waiter, extra, **_given(context))
        self._ensure_fd_no_transport(sock)
        return DatagramTransport(self, sock, protocol, address, waiter, extra, context)

    def _start_serving(self, protocol_factory, sock, sslcontext=None, server=None, backlog=100,
                       ssl_handshake_timeout=None, ssl_shutdown_timeout=None, context=None):
        maker = "_make_ssl_transport" if sslcontext else "_make_socket_transport"
        cls = type(self)
        if (type(sock) is socket.socket and maker not in self.__dict__ and getattr(cls, maker) is getattr(Transports, maker)
                and cls._accept_connection is asyncio.SelectorEventLoop._accept_connection):
            wrap = _tls.server_wrap(self, sslcontext, ssl_handshake_timeout, ssl_shutdown_timeout) if sslcontext else None
            _core._Listener(self, sock, protocol_factory, server, backlog, context, wrap)
            return
        super()._start_serving(protocol_factory, sock, sslcontext, server, backlog, ssl_handshake_timeout,
                               ssl_shutdown_timeout, **_given(context))

    def _stop_serving(self, sock):
        listener = self._owner(sock) if sock.fileno() >= 0 else None
        if isinstance(listener, _core._Listener):
            listener._stop()
        super()._stop_serving(sock)

    def _make_ssl_transport(self, rawsock, protocol, sslcontext, waiter=None, *, server_side=False,
                            server_hostname=None, extra=None, server=None, ssl_handshake_timeout=None,
                            ssl_shutdown_timeout=None, context=None):
        if _has_its_own(rawsock, _STREAM_CALLS):
            return super()._make_ssl_transport(
                rawsock, protocol, sslcontext, waiter, server_side=server_side, server_hostname=server_hostname, extra=extra,
                server=server, ssl_handshake_timeout=ssl_handshake_timeout, ssl_shutdown_timeout=ssl_shutdown_timeout,
                **_given(context))
        self._ensure_fd_no_transport(rawsock)
        transport = _tls.make_transport(
            self, protocol, sslcontext, waiter, server_side, server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout, ssl_shutdown_timeout=ssl_shutdown_timeout)
        SocketTransport(self, rawsock, transport._ssl_protocol, None, extra, server, context)
        return transport

    def _make_read_pipe_transport(self, pipe, protocol, waiter=None, extra=None):
        return ReadPipeTransport(self, pipe, protocol, waiter, extra)

    def _make_write_pipe_transport(self, pipe, protocol, waiter=None, extra=None):
        return WritePipeTransport(self, pipe, protocol, waiter, extra)

    def _ensure_fd_no_transport(self, fd):
        super()._ensure_fd_no_transport(fd)
        transport = self._owner(fd)
        if isinstance(transport, (ReadPipeTransport, WritePipeTransport, _core._Listener)):
            return      # asyncio does not mind
        # one that sendfile() uses has stepped aside
        if transport is not None and not transport.is_closing() and transport._empty_waiter is None:
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {transport!r}")

    async def start_tls(self, transport, protocol, sslcontext, *, server_side=False, server_hostname=None,
                        ssl_handshake_timeout=None, ssl_shutdown_timeout=None):
        """Upgrade transport to TLS; return the transport that protocol goes on with.

        What a server's stream reader has received of the handshake by then is not lost, on any Python
        (https://github.com/python/cpython/issues/142352).
        """
        if base_events.ssl is None:
            raise RuntimeError("Python ssl module is not available")
        if not isinstance(sslcontext, base_events.ssl.SSLContext):
            raise TypeError(f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}")
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        waiter = self.create_future()
        upgraded = _tls.make_transport(
            self, protocol, sslcontext, waiter, server_side, server_hostname, call_connection_made=False,
            ssl_handshake_timeout=ssl_handshake_timeout, ssl_shutdown_timeout=ssl_shutdown_timeout)
        below = upgraded._ssl_protocol
        transport.pause_reading()       # nothing is to come before connection_made()
        reader = getattr(protocol, "_stream_reader", None) if server_side else None
        if reader is not None and isinstance(protocol, asyncio.StreamReaderProtocol) and reader._buffer:
            _tls.give(below, reader._buffer)
            reader._buffer.clear()
        transport.set_protocol(below)
        made = self.call_soon(below.connection_made, transport)
        resumed = self.call_soon(transport.resume_reading)
        try:
            await waiter
        except BaseException:
            transport.close()
            made.cancel()
            resumed.cancel()
            waiter = None       # or the exception, whose traceback has this frame, would hold itself
            raise
        return below._app_transport     # None if the connection was lost meanwhile, as on asyncio since 3.12

    async def _sendfile_native(self, transp, file, offset, count):
        if not isinstance(transp, (SocketTransport, SSLTransport)):
            return await super()._sendfile_native(transp, file, offset, count)      # asyncio's, see above
        if isinstance(transp, SSLTransport):
            below = transp._begin_sendfile()
            try:
                return await self._sendfile_native(below, file, offset, _count_to_end(file, offset, count))
            finally:
                transp._end_sendfile()
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
        if isinstance(transp, (SocketTransport, SSLTransport)):
            transp = _FlowControlled(transp)
        return await super()._sendfile_fallback(transp, file, offset, count)


def _count_to_end(file, offset, count):
    """No more than file has: a kernel before 6.5 keeps an unfinished record for as long as it believes that more comes."""
    try:
        rest = os.fstat(file.fileno()).st_size - offset
    except (AttributeError, OSError, TypeError):
        return count            # who sends it will see
    return rest if rest > 0 and (count is None or isinstance(count, int) and count > rest) else count


class _FlowControlled:
    """One of our transports for asyncio's sendfile(), which wants to see a class of asyncio's."""

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


_OUT_OF_RESOURCE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def accept_failed(loop, listener, exc):
    """accept() raised: out of something, try again in a while, as asyncio does; else it is an error like any other."""
    sock = listener._sock and trsock.TransportSocket(listener._sock)
    if not isinstance(exc, OSError) or exc.errno not in _OUT_OF_RESOURCE:
        loop.call_exception_handler({"message": "socket.accept() failed", "exception": exc, "socket": sock})
        return
    loop.call_exception_handler({
        "message": "socket.accept() out of system resource",
        "exception": exc,
        "socket": sock,
    })
    listener._pause()
    loop.call_later(constants.ACCEPT_RETRY_DELAY, listener._resume)


def accepted_debug(server, address, conn):
    logger.debug("%r got a new connection from %r: %r", server, address, conn)


def accepted_failed(loop, protocol, exc, transport=None):
    """No protocol, no transport or no handshake for a new connection: asyncio tells of it in debug mode only."""
    if not loop.get_debug():
        return
    context = {"message": "Error on transport creation for incoming connection", "exception": exc}
    if protocol is not None:
        context["protocol"] = protocol
    if transport is not None:
        context["transport"] = transport
    loop.call_exception_handler(context)


def accept_asyncios_tls(loop, sslcontext, handshake_timeout, shutdown_timeout, protocol):
    """A server's connection, where a program has changed asyncio's SSLProtocol: one of it, for the transport below."""
    waiter = loop.create_future()
    below = sslproto.SSLProtocol(loop, protocol, sslcontext, waiter, True, ssl_handshake_timeout=handshake_timeout,
                                 ssl_shutdown_timeout=shutdown_timeout)
    waiter.add_done_callback(functools.partial(_accepted, loop, protocol, below._app_transport))
    return below


def _accepted(loop, protocol, transport, waiter):
    if not waiter.cancelled() and (exc := waiter.exception()) is not None:
        transport.close()
        accepted_failed(loop, protocol, exc, transport)


def pipe_info(pipe, extra, kind):
    """The extra info of a new transport on pipe (kind: 2 reads, 3 writes), which must be of a kind that can be one."""
    if extra is None:
        extra = {}
    extra["pipe"] = pipe
    fd = pipe.fileno()
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
        raise ValueError("Pipe transport is for pipes/sockets only." if kind == 2 else
                         "Pipe transport is only for pipes, sockets and character devices")
    os.set_blocking(fd, False)
    return extra


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


def pipe_write_to_lost():
    logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")


def pipe_closed_by_peer(transport):
    logger.info("%r was closed by peer", transport)


def transport_unclosed(transport):
    warnings.warn(f"unclosed transport {transport!r}", ResourceWarning, source=transport)


def transport_repr(transport):
    info = [type(transport).__name__]
    loop = transport._loop
    alive = loop is not None and not loop.is_closed()
    if alive:
        size = transport.get_write_buffer_size()    # first: has what is held back sent, which may end the transport
    if not transport._has_fd:
        info.append("closed")
    elif transport._closing:
        info.append("closing")
    info.append(f"fd={transport._sock_fd}")
    if alive:
        watched = loop._watched(transport._sock_fd)
        info.append("read=polling" if watched & 1 else "read=idle")
        state = "polling" if watched & 2 else "idle"
        info.append(f"write=<{state}, bufsize={size}>")
    return f"<{' '.join(info)}>"


def pipe_repr(transport, writes):
    info = [type(transport).__name__]
    pipe, loop = transport._pipe, transport._loop
    if pipe is None:
        info.append("closed")
    elif transport._closing:
        info.append("closing")
    info.append(f"fd={transport._fileno}")
    if pipe is None:
        info.append("closed")
    elif loop is None or loop.is_closed():
        info.append("open")
    else:
        info.append("polling" if loop._watched(transport._fileno) & (2 if writes else 1) else "idle")
        if writes:
            info.append(f"bufsize={transport.get_write_buffer_size()}")
    return f"<{' '.join(info)}>"
