/* A connection that was accepted is an fd and no more: most programs never look at the socket object that asyncio makes
   of each, which takes longer than to accept it.  Made here when somebody asks, with the extra info that goes with it.

   Belongs to the loop's thread.  Runs Python: socket.socket(). */
#include "net/transport.h"

#include <sys/socket.h>
#include <unistd.h>

AF_API PyObject *
af_socket_of_fd(int family, int type, int proto, int fd)
{
    PyObject *module = PyImport_ImportModule("socket");
    /* SOCK_NONBLOCK tells it that the fd is non-blocking already */
    PyObject *sock = module == NULL ? NULL
                                    : af_call_method(module, "socket", "iiii", family, type | SOCK_NONBLOCK, proto, fd);
    Py_XDECREF(module);
    return sock;
}

AF_API int
af_socket_int(PyObject *sock, const char *name, int *value)
{
    PyObject *attr = af_get_attr(sock, name);
    *value = attr == NULL ? -1 : (int)PyLong_AsLong(attr);
    Py_XDECREF(attr);
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

AF_API void
af_transport_own_fd(AfTransport *t, int fd, int family, int proto)
{
    t->fd = fd;
    t->family = (short)family;
    t->proto = (short)proto;
    t->owns_fd = t->no_socket = 1;
}

AF_API void
af_transport_drop_fd(AfTransport *t)
{
    if (t->owns_fd) {
        t->owns_fd = 0;
        close(t->fd);
    }
}

/* What accept() gives on asyncio; once the connection has ended, what is left of that after close(). */
static PyObject *
bare_socket(AfTransport *t)
{
    if (t->owns_fd) {
        return af_socket_of_fd(t->family, SOCK_STREAM, t->proto, t->fd);
    }
    PyObject *module = PyImport_ImportModule("socket");
    PyObject *sock = module == NULL ? NULL : af_call_method(module, "socket", "iii", t->family, SOCK_STREAM, t->proto);
    PyObject *res = sock == NULL ? NULL : af_call_method(sock, "close", NULL);
    if (res == NULL) {
        Py_CLEAR(sock);
    }
    Py_XDECREF(res);
    Py_XDECREF(module);
    return sock;
}

AF_API int
af_transport_need_socket(AfTransport *t)
{
    if (af_likely(!t->no_socket)) {
        return 0;
    }
    int owned = t->owns_fd;
    PyObject *sock = bare_socket(t);
    if (sock == NULL) {
        return -1;
    }
    if (!t->no_socket || t->owns_fd != owned) {     /* making it ran Python, which asked as well, or closed it */
        PyObject *fd = af_call_method(sock, "detach", NULL);
        Py_DECREF(sock);
        Py_XDECREF(fd);
        return fd == NULL ? -1 : af_transport_need_socket(t);
    }
    t->no_socket = 0;
    if (t->owns_fd) {
        t->owns_fd = 0;
        t->sock = Py_NewRef(sock);
        t->fd_in_sock = (char)af_socket_is_plain(af_state_of_type(Py_TYPE(t)), sock);
    }
    int rc = 0;
    if (t->io.extra != NULL) {
        AfState *st = af_state_of_type(Py_TYPE(t));
        PyObject *extra = Py_NewRef(t->io.extra), *wrapped = PyObject_CallOneArg(st->TransportSocket, sock);
        PyObject *res = wrapped == NULL ? NULL : af_call_method(extra, "setdefault", "sO", "socket", wrapped);
        rc = res == NULL ? -1 : 0;
        Py_XDECREF(res);
        Py_XDECREF(wrapped);
        Py_DECREF(extra);
    }
    Py_DECREF(sock);
    return rc;
}
