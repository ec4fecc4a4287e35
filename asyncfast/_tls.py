"""The Python half of TLS: what happens once per connection, and which engine makes the records.

The engines (src/tls): *direct* has OpenSSL work on the memory of the connection, *portable* goes through ssl.SSLObject
for each record.  Both are given an SSLObject that the user's SSLContext has made, and behave alike.
"""

import os
import sys
from asyncio import constants, exceptions, sslproto
from asyncio.log import logger

from . import _core

try:
    import _ssl
    import ssl
except ImportError:         # a Python without it
    ssl = _ssl = None

#: What asyncio's own protocol is like as long as nobody has changed it.
_SSL_PROTOCOL = sslproto.SSLProtocol, dict(vars(sslproto.SSLProtocol))

SSLTransport = _core.SSLTransport
SSLTransport._start_tls_compatible = True
SSLTransport._sendfile_compatible = constants._SendfileMode.FALLBACK

ENGINES = ("direct", "portable")
#: Said where it is asked which one is in use, if the direct one can be.
WHY_ENGINE = f"the OpenSSL of ssl can be called directly: {ssl and ssl.OPENSSL_VERSION}"
_why_not_direct = None      # why the direct engine cannot be used, "" if it can; None: nobody has asked yet


def _prove_direct():
    if ssl is None:
        raise RuntimeError("this Python has no ssl")
    if not ssl.OPENSSL_VERSION.startswith("OpenSSL "):
        raise RuntimeError(f"made for OpenSSL, not for {ssl.OPENSSL_VERSION}")
    path = getattr(_ssl, "__file__", None)
    if path is None:
        raise RuntimeError("ssl is built into this Python, and its OpenSSL hidden")
    _core._open_libssl(path)
    for protocol in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER):
        context = ssl.SSLContext(protocol)
        context.check_hostname = False
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=protocol == ssl.PROTOCOL_TLS_SERVER)
        incoming.write(b"?")
        _core._prove_libssl(tls._sslobj, incoming, outgoing, context)


def why_not_direct():
    """Why the direct engine cannot be used on this Python; "" if it can.  Found by trying it, once."""
    global _why_not_direct
    if _why_not_direct is None:
        try:
            _prove_direct()
        except Exception as error:
            _why_not_direct = str(error) or type(error).__name__
        else:
            _why_not_direct = ""
    return _why_not_direct


def choose_engine(wish):
    """The engine that is meant by wish: a name, or None for the environment's ASYNCFAST_TLS, or else the best there is.

    ValueError if there is no such engine, RuntimeError if the direct one is asked for by name and cannot be used.
    """
    if wish is None:
        wish = os.environ.get("ASYNCFAST_TLS") or None
    if wish is not None and wish not in ENGINES:
        raise ValueError(f"tls should be one of {', '.join(map(repr, ENGINES))} or None, got {wish!r}")
    if wish == "direct" and why_not_direct():
        raise RuntimeError(f"the direct TLS engine cannot be used: {why_not_direct()}")
    if wish is None:
        wish = "portable" if why_not_direct() else "direct"
    return wish


def _goes_direct(context, sslobj):
    # a class of the program's own wants its methods called; and an exception of a message callback is kept in the
    # SSLObject, which raises it from its next method
    return type(sslobj) is ssl.SSLObject and getattr(context, "_msg_callback", None) is None


def _positive(name, value, default):
    if value is None:
        return default
    if value <= 0:
        raise ValueError(f"{name} should be a positive number, got {value}")
    return value


def make_transport(loop, protocol, sslcontext, waiter, server_side=False, server_hostname=None, call_connection_made=True,
                   ssl_handshake_timeout=None, ssl_shutdown_timeout=None):
    """A SSLTransport; its _ssl_protocol is the protocol for the transport below.  asyncio's SSLProtocol(...).

    A program that has changed asyncio's class gets that one.
    """
    if ssl is None or sslproto.ssl is None:
        raise RuntimeError("stdlib ssl module not available")
    if _SSL_PROTOCOL != (sslproto.SSLProtocol, vars(sslproto.SSLProtocol)):
        return sslproto.SSLProtocol(loop, protocol, sslcontext, waiter, server_side, server_hostname, call_connection_made,
                                    ssl_handshake_timeout, ssl_shutdown_timeout)._app_transport
    handshake_timeout = _positive("ssl_handshake_timeout", ssl_handshake_timeout, constants.SSL_HANDSHAKE_TIMEOUT)
    shutdown_timeout = _positive("ssl_shutdown_timeout", ssl_shutdown_timeout, constants.SSL_SHUTDOWN_TIMEOUT)
    if not sslcontext:
        sslcontext = sslproto._create_transport_context(server_side, server_hostname)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    sslobj = sslcontext.wrap_bio(incoming, outgoing, server_side=server_side,
                                 server_hostname=server_hostname if server_hostname and not server_side else None)
    direct = loop.tls_engine == "direct" and _goes_direct(sslcontext, sslobj)
    return SSLTransport(loop, protocol, sslobj, incoming, outgoing, {"sslcontext": sslcontext}, waiter,
                        call_connection_made, handshake_timeout, shutdown_timeout, direct)


def give(protocol, data):
    """What was received already comes before what the transport below will bring."""
    if isinstance(protocol, sslproto.SSLProtocol):
        protocol._incoming.write(data)
    else:
        protocol._give(data)


# -- called from C (part of the hooks of _core)

def tls_connected(sslobj, extra):
    """The handshake is over: what get_extra_info() knows from now on."""
    extra.update(peercert=sslobj.getpeercert(), cipher=sslobj.cipher(), compression=sslobj.compression(),
                 ssl_object=sslobj)


def tls_took(loop, protocol, began):
    logger.debug("%r: SSL handshake took %.1f ms", protocol, (loop.time() - began) * 1e3)


def tls_fatal(loop, transport, protocol, message, exc):
    """End the connection below because of exc, and say so where asyncio does."""
    if transport is not None:
        transport._force_close(exc)
    if isinstance(exc, OSError):
        if loop.get_debug():
            logger.debug("%r: %s", protocol, message, exc_info=exc)
    elif not isinstance(exc, exceptions.CancelledError):
        tls_failed(loop, transport, protocol, message, exc)


def tls_failed(loop, transport, protocol, message, exc):
    loop.call_exception_handler({
        "message": message,
        "exception": exc,
        "transport": transport,
        "protocol": protocol,
    })


def tls_write_to_lost():
    logger.warning("SSL connection is closed")


def tls_keeps_not_open():
    logger.warning("returning true from eof_received() has no effect when using ssl")


def tls_buffer_limits(high, low, default):
    """asyncio's rules for the limits of TLS, which default to *default* bytes: (high, low) in bytes."""
    high, low = sslproto.add_flowcontrol_defaults(high, low, default // 1024)
    return tuple(int(min(limit, sys.maxsize)) for limit in (high, low))     # a float will do, infinity too


if ssl is not None:
    _core._register_tls((ssl.SSLWantReadError, ssl.SSLSyscallError), ssl.SSLError, ssl.CertificateError)
