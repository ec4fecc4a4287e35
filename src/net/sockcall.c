/* The system calls behind the loop's sock_...() methods: what each takes, and one attempt at it.

   None of them blocks.  Where an address is of a kind that we do not know, a socket is in blocking mode, or an argument is not
   just what is usual, the method is asyncio's own.  Runs Python: buffers' owners, audit hooks. */
#include "net/address.h"
#include "net/data.h"
#include "net/reading.h"
#include "net/sockop.h"
#include "net/transport.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

static int
sockcall_fd(const AfSockOp *s)
{
    return af_socket_fd(s->sock);
}

static PySendResult
sockcall_failed(void)
{
    if (af_would_block(errno)) {
        return PYGEN_NEXT;
    }
    PyErr_SetFromErrno(PyExc_OSError);
    return PYGEN_ERROR;
}

static PySendResult
sockcall_done(PyObject *value, PyObject **result)
{
    *result = value;
    return value == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

/* A number of bytes that is exactly an int: 1. */
static int
sockcall_size(PyObject *obj, Py_ssize_t *size)
{
    *size = PyLong_CheckExact(obj) ? PyLong_AsSsize_t(obj) : -1;
    if (*size < 0) {
        PyErr_Clear();
        return 0;
    }
    return 1;
}

static int
sockcall_option(int fd, int option)
{
    int value = -1;
    socklen_t len = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, option, &value, &len) < 0 ? -1 : value;
}

/* Its addresses are of a kind that we know: 1. */
static int
sockcall_family(AfSockOp *s, PyObject *sock)
{
    s->family = sockcall_option(af_socket_fd(sock), SO_DOMAIN);
    return af_address_knows(s->family);
}

static int
sockcall_is_nonblocking(PyObject *sock)
{
    int flags = fcntl(af_socket_fd(sock), F_GETFL);
    return flags >= 0 && (flags & O_NONBLOCK);
}

/* ---- receiving -------------------------------------------------------------------------------------------------- */

/* So much may come in pieces: little, or from a stream.  A datagram comes whole, or its rest is lost. */
static int
sockcall_partly(PyObject *sock, Py_ssize_t size)
{
    return size <= (Py_ssize_t)AF_READ_SIZE || sockcall_option(af_socket_fd(sock), SO_TYPE) == SOCK_STREAM;
}

static int
recv_take(AfSockOp *s, PyObject *const *args, Py_ssize_t nargs)
{
    /* socket.recv(0) waits for nothing, and asks nobody */
    return nargs == 2 && sockcall_size(args[1], &s->size) && s->size > 0 && sockcall_partly(args[0], s->size);
}

static PySendResult
recv_attempt(AfSockOp *s, PyObject **result)
{
    char *buffer = af_loop_room(s->loop);
    if (buffer == NULL) {
        return PYGEN_ERROR;
    }
    size_t size = (size_t)s->size < AF_READ_SIZE ? (size_t)s->size : AF_READ_SIZE;
    ssize_t n = recv(sockcall_fd(s), buffer, size, MSG_DONTWAIT);
    af_loop_moved(s->loop, n);
    return n < 0 ? sockcall_failed() : sockcall_done(PyBytes_FromStringAndSize(buffer, n), result);
}

static int
recv_into_take(AfSockOp *s, PyObject *const *args, Py_ssize_t nargs)
{
    s->arg = nargs == 2 ? args[1] : NULL;
    return nargs == 2;
}

static PySendResult
recv_into_attempt(AfSockOp *s, PyObject **result)
{
    Py_buffer view;
    if (af_data_room(s->arg, &view, 0) < 0) {
        return PYGEN_ERROR;
    }
    ssize_t n = 0;              /* no room: as recv_into(), wait for nothing */
    if (view.len > 0) {
        int partly = sockcall_partly(s->sock, view.len);
        n = af_recv_into(s->loop, sockcall_fd(s), view.buf, (size_t)view.len, partly, NULL, NULL);
    }
    int error = errno;
    PyBuffer_Release(&view);
    errno = error;
    return n < 0 ? sockcall_failed() : sockcall_done(PyLong_FromSsize_t(n), result);
}

static PySendResult
recvfrom_done(PyObject *what, const af_sockaddr *addr, socklen_t len, PyObject **result)
{
    PyObject *peer = NULL;
    if (what != NULL && af_address_to_python(addr, len, &peer) == 0) {
        peer = Py_NewRef(Py_None);      /* of another family than its socket: cannot be */
    }
    *result = peer == NULL ? NULL : PyTuple_Pack(2, what, peer);
    Py_XDECREF(what);
    Py_XDECREF(peer);
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

static int
recvfrom_take(AfSockOp *s, PyObject *const *args, Py_ssize_t nargs)
{
    return nargs == 2 && sockcall_size(args[1], &s->size) && sockcall_partly(args[0], s->size) &&
           sockcall_family(s, args[0]);
}

static PySendResult
recvfrom_attempt(AfSockOp *s, PyObject **result)
{
    char *buffer = af_loop_room(s->loop);
    if (buffer == NULL) {
        return PYGEN_ERROR;
    }
    af_sockaddr addr;
    socklen_t len = sizeof(addr);
    size_t size = (size_t)s->size < AF_READ_SIZE ? (size_t)s->size : AF_READ_SIZE;
    ssize_t n = recvfrom(sockcall_fd(s), buffer, size, MSG_DONTWAIT, &addr.any, &len);
    af_loop_moved(s->loop, n);
    return n < 0 ? sockcall_failed() : recvfrom_done(PyBytes_FromStringAndSize(buffer, n), &addr, len, result);
}

/* A buffer to write to, whose len() is its size in bytes: 1. */
static int
sockcall_room(PyObject *buffer)
{
    Py_buffer view;
    Py_ssize_t len = -1;
    if (PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) == 0) {
        len = PyObject_Size(buffer) == view.len ? view.len : -1;
        PyBuffer_Release(&view);
    }
    PyErr_Clear();
    return len >= 0;
}

static int
recvfrom_into_take(AfSockOp *s, PyObject *const *args, Py_ssize_t nargs)
{
    s->arg = nargs >= 2 ? args[1] : NULL;
    return (nargs == 2 || (nargs == 3 && sockcall_size(args[2], &s->size))) && sockcall_room(args[1]) &&
           sockcall_family(s, args[0]);
}

static PySendResult
recvfrom_into_attempt(AfSockOp *s, PyObject **result)
{
    Py_buffer view;
    if (af_data_room(s->arg, &view, 0) < 0) {
        return PYGEN_ERROR;
    }
    if (s->size > view.len) {
        PyBuffer_Release(&view);
        PyErr_SetString(PyExc_ValueError, "nbytes is greater than the length of the buffer");
        return PYGEN_ERROR;
    }
    af_sockaddr addr;
    socklen_t len = sizeof(addr);
    size_t size = (size_t)(s->size == 0 ? view.len : s->size);
    ssize_t n = af_recv_into(s->loop, sockcall_fd(s), view.buf, size, 0, &addr.any, &len);
    int error = errno;
    PyBuffer_Release(&view);
    errno = error;
    return n < 0 ? sockcall_failed() : recvfrom_done(PyLong_FromSsize_t(n), &addr, len, result);
}

/* ---- sending ---------------------------------------------------------------------------------------------------- */

static int
sockcall_view(AfSockOp *s)
{
    return s->view.obj == NULL ? PyObject_GetBuffer(s->arg, &s->view, PyBUF_SIMPLE) : 0;
}

static PySendResult
sendall_attempt(AfSockOp *s, PyObject **result)
{
    if (sockcall_view(s) < 0) {
        return PYGEN_ERROR;
    }
    while (s->size < s->view.len) {
        ssize_t n = send(sockcall_fd(s), (char *)s->view.buf + s->size, (size_t)(s->view.len - s->size),
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            return sockcall_failed();
        }
        s->size += n;
        af_loop_moved(s->loop, n);
    }
    return sockcall_done(Py_NewRef(Py_None), result);
}

/* An address that needs no look-up: 1. */
static int
sockcall_peer(AfSockOp *s, PyObject *sock, PyObject *peer)
{
    af_sockaddr addr;
    socklen_t len = 0;
    s->peer = peer;
    return sockcall_family(s, sock) && af_address_from_python(s->family, peer, &addr, &len) == 1;
}

static int
sendto_take(AfSockOp *s, PyObject *const *args, Py_ssize_t nargs)
{
    s->arg = nargs == 3 ? args[1] : NULL;
    return nargs == 3 && sockcall_peer(s, args[0], args[2]);
}

static PySendResult
sendto_attempt(AfSockOp *s, PyObject **result)
{
    af_sockaddr addr;
    socklen_t len = 0;
    if (sockcall_view(s) < 0 || PySys_Audit("socket.sendto", "OO", s->sock, s->peer) < 0) {
        return PYGEN_ERROR;
    }
    af_address_from_python(s->family, s->peer, &addr, &len);
    ssize_t n = sendto(sockcall_fd(s), s->view.buf, (size_t)s->view.len, MSG_DONTWAIT | MSG_NOSIGNAL, &addr.any, len);
    return n < 0 ? sockcall_failed() : sockcall_done(PyLong_FromSsize_t(n), result);
}

/* ---- connections ------------------------------------------------------------------------------------------------ */

static int
accept_take(AfSockOp *s, PyObject *const *args, Py_ssize_t nargs)
{
    return nargs == 1 && sockcall_family(s, args[0]) && sockcall_is_nonblocking(args[0]);
}

/* The Python socket of fd, which it owns; or NULL and fd is closed. */
static PyObject *
accept_socket(AfSockOp *s, int fd)
{
    int proto;
    PyObject *conn = af_socket_int(s->sock, "proto", &proto) < 0
                         ? NULL : af_socket_of_fd(s->family, sockcall_option(fd, SO_TYPE), proto, fd);
    if (conn == NULL) {
        close(fd);
    }
    return conn;
}

static PySendResult
accept_attempt(AfSockOp *s, PyObject **result)
{
    af_sockaddr addr;
    socklen_t len = sizeof(addr);
    int fd = accept4(sockcall_fd(s), &addr.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return fd < 0 ? sockcall_failed() : recvfrom_done(accept_socket(s, fd), &addr, len, result);
}

static int
connect_take(AfSockOp *s, PyObject *const *args, Py_ssize_t nargs)
{
    return nargs == 2 && sockcall_peer(s, args[0], args[1]) && sockcall_is_nonblocking(args[0]);
}

/* asyncio gives the address as its look-up has it: IPv6 with flow and scope. */
static PySendResult
connect_refused(const AfSockOp *s, int error)
{
    PyObject *whole = Py_NewRef(s->peer);
    for (Py_ssize_t n = PyTuple_CheckExact(whole) ? PyTuple_GET_SIZE(whole) : 4; s->family == AF_INET6 && n < 4; n++) {
        PyObject *more = Py_BuildValue("(i)", 0);
        Py_SETREF(whole, more == NULL ? NULL : PySequence_Concat(whole, more));
        Py_XDECREF(more);
        if (whole == NULL) {
            return PYGEN_ERROR;
        }
    }
    PyObject *text = PyUnicode_FromFormat("Connect call failed %S", whole);
    PyObject *args = text == NULL ? NULL : Py_BuildValue("iO", error, text);
    if (args != NULL) {
        PyErr_SetObject(PyExc_OSError, args);
    }
    Py_DECREF(whole);
    Py_XDECREF(text);
    Py_XDECREF(args);
    return PYGEN_ERROR;
}

static PySendResult
connect_attempt(AfSockOp *s, PyObject **result)
{
    if (s->connecting) {
        int error = sockcall_option(sockcall_fd(s), SO_ERROR);
        if (error < 0) {
            return sockcall_failed();
        }
        if (error != 0) {
            return af_would_block(error) ? PYGEN_NEXT : connect_refused(s, error);
        }
        return sockcall_done(Py_NewRef(Py_None), result);
    }
    af_sockaddr addr;
    socklen_t len = 0;
    if (PySys_Audit("socket.connect", "OO", s->sock, s->peer) < 0) {
        return PYGEN_ERROR;
    }
    af_address_from_python(s->family, s->peer, &addr, &len);
    if (connect(sockcall_fd(s), &addr.any, len) == 0) {
        return sockcall_done(Py_NewRef(Py_None), result);
    }
    if (errno == EINPROGRESS || errno == EALREADY || af_would_block(errno)) {
        s->connecting = 1;
        return PYGEN_NEXT;
    }
    return sockcall_failed();
}

/* ---- all of them ------------------------------------------------------------------------------------------------ */

static const af_sockcall sockcalls[] = {
    [AF_SOCK_recv] = {"sock_recv", AF_READ, recv_take, recv_attempt},
    [AF_SOCK_recv_into] = {"sock_recv_into", AF_READ, recv_into_take, recv_into_attempt},
    [AF_SOCK_recvfrom] = {"sock_recvfrom", AF_READ, recvfrom_take, recvfrom_attempt},
    [AF_SOCK_recvfrom_into] = {"sock_recvfrom_into", AF_READ, recvfrom_into_take, recvfrom_into_attempt},
    [AF_SOCK_sendall] = {"sock_sendall", AF_WRITE, recv_into_take, sendall_attempt},
    [AF_SOCK_sendto] = {"sock_sendto", AF_WRITE, sendto_take, sendto_attempt},
    [AF_SOCK_accept] = {"sock_accept", AF_READ, accept_take, accept_attempt},
    [AF_SOCK_connect] = {"sock_connect", AF_WRITE, connect_take, connect_attempt},
};

AF_API const af_sockcall *
af_sockcall_of(int method)
{
    return &sockcalls[method];
}
