"""The Python half of TLS: what happens once per connection, and which engine makes the records.

The engines (src/tls): *direct* has OpenSSL work on the memory of the connection, *portable* goes through ssl.SSLObject
for each record.  Both are given an SSLObject that the user's SSLContext has made, and behave alike.
"""

import functools
import os
import socket
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


#: ssl.OP_ENABLE_KTLS, which ssl names from 3.12 on; 0: this OpenSSL has no such option.
_OP_ENABLE_KTLS = 0 if ssl is None or ssl.OPENSSL_VERSION_INFO < (3,) else 0x8
_TCP_ULP = 31               # linux/tcp.h


def _ktls_info(direct):
    """What get_extra_info("ktls") says until the handshake is over, and for ever if it cannot be had."""
    why = ("this OpenSSL has none" if not _OP_ENABLE_KTLS else "the portable engine has no part in it" if not direct else
           "the handshake is not over")
    return {"send": False, "recv": False, "why": why}


def why_no_ktls():
    """Why no connection to this machine itself can have kernel TLS; "" if one can.  Found by trying it, each time."""
    if not _OP_ENABLE_KTLS or why_not_direct():
        return _ktls_info(direct=False)["why"]
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sock:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_ULP, b"tls")
        except FileNotFoundError:
            return "the kernel has no TLS, or has not loaded its module tls"
        except OSError as error:
            return f"the socket takes no TLS: {error.strerror}"
    return ""


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
    if not _core._sslproto_is_asyncios():
        return sslproto.SSLProtocol(loop, protocol, sslcontext, waiter, server_side, server_hostname, call_connection_made,
                                    ssl_handshake_timeout, ssl_shutdown_timeout)._app_transport
    handshake_timeout = _positive("ssl_handshake_timeout", ssl_handshake_timeout, constants.SSL_HANDSHAKE_TIMEOUT)
    shutdown_timeout = _positive("ssl_shutdown_timeout", ssl_shutdown_timeout, constants.SSL_SHUTDOWN_TIMEOUT)
    if not sslcontext:
        sslcontext = sslproto._create_transport_context(server_side, server_hostname)
    return _core._make_tls(loop, protocol, sslcontext, waiter, bool(server_side),
                           server_hostname if server_hostname and not server_side else None, call_connection_made,
                           handshake_timeout, shutdown_timeout, loop.tls_engine == "direct", loop._ktls)


def server_wrap(loop, sslcontext, ssl_handshake_timeout, ssl_shutdown_timeout):
    """What gives, for the protocol of a server's connection, the protocol of the transport below."""
    try:
        handshake_timeout = _positive("ssl_handshake_timeout", ssl_handshake_timeout, constants.SSL_HANDSHAKE_TIMEOUT)
        shutdown_timeout = _positive("ssl_shutdown_timeout", ssl_shutdown_timeout, constants.SSL_SHUTDOWN_TIMEOUT)
    except (TypeError, ValueError) as error:
        # asyncio finds that out anew with each connection
        return functools.partial(_refuse, type(error), str(error))
    return functools.partial(_core._accept_tls, loop, sslcontext, handshake_timeout, shutdown_timeout,
                             loop.tls_engine == "direct", loop._ktls)


def _refuse(error, text, protocol):
    raise error(text)


def give(protocol, data):
    """What was received already comes before what the transport below will bring."""
    if isinstance(protocol, sslproto.SSLProtocol):
        protocol._incoming.write(data)
    else:
        protocol._give(data)


# -- called from C (part of the hooks of _core)

def sslproto_is_asyncios():
    """Whether asyncio's SSLProtocol is what it was at import."""
    return _SSL_PROTOCOL == (sslproto.SSLProtocol, vars(sslproto.SSLProtocol))


def _certificate_to_decode(sslobj):
    """The server's certificate, if getpeercert() would decode it: which takes long, and most clients never ask."""
    if type(sslobj) is not ssl.SSLObject or sslobj.server_side:
        return None
    sock = sslobj._sslobj
    chain = sock.get_unverified_chain() if _verify_mode(sock.context) != ssl.CERT_NONE else None
    return chain[0] if chain else None


def tls_connected(sslobj, extra):
    """The handshake is over: what get_extra_info() knows from now on.

    Returns what will give 'peercert', a function; or None, and it is there.
    """
    extra.update(cipher=sslobj.cipher(), compression=sslobj.compression(), ssl_object=sslobj)
    certificate = _certificate_to_decode(sslobj)
    if certificate is not None:
        return certificate.get_info
    extra["peercert"] = sslobj.getpeercert()
    return None


def tls_wish_ktls(wish, options, direct, extra):
    """Whether kernel TLS is wished for, by the loop or by the context's options, and could be had; noted in extra."""
    if not wish and not options & _OP_ENABLE_KTLS:
        return False
    extra["ktls"] = _ktls_info(direct)
    return bool(_OP_ENABLE_KTLS)


def tls_ktls(transport, sslobj, sends, why, error):
    """The handshake is over: what became of the wish for kernel TLS."""
    if sends:
        transport._sendfile_compatible = constants._SendfileMode.TRY_NATIVE
        why = ""
    elif why is None:
        why = f"OpenSSL has offered no keys: not of {sslobj.cipher()[0]}, or its build has no kernel TLS"
    elif error:
        why = f"{why}: {os.strerror(error)}"
    transport._extra["ktls"] = {"send": bool(sends), "recv": False, "why": why}


def tls_zero_return(method):
    """Raise what method() of an SSLObject does in a handshake that the peer ends with close_notify: asked of another one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    incoming = ssl.MemoryBIO()
    incoming.write(b"\x15\3\3\0\2\1\0")
    tls = context.wrap_bio(incoming, ssl.MemoryBIO())
    if method == "write":
        tls.write(b"?")
    tls.do_handshake()


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
    _verify_mode = _ssl._SSLContext.verify_mode.__get__      # without the enum that ssl makes of it
    _core._register_tls(ssl, _ssl._SSLContext, (ssl.SSLWantReadError, ssl.SSLSyscallError), sslproto)
