/* Accepting connections.

   One wake-up accepts a bounded number of them.  Each is then handed to the protocol factory by a callback of its own, in
   the next turn and in a context of its own, as asyncio's accepting task does; there is no task here, and no future.
   With create_server(ssl=) the protocol is wrapped first, in the one that TLS is to the transport (tls/make.c).
   Out of descriptors or memory, the listener steps aside for a while (asyncio's ACCEPT_RETRY_DELAY) and goes on.

   Belongs to its loop's thread.  Runs Python: the protocol factory, the exception handler. */
#include "net/listener.h"

#include "net/address.h"
#include "net/stream.h"

#include <sys/socket.h>
#include <unistd.h>

/* However long the queue: others are waiting too. */
#define LISTENER_BATCH 64

typedef struct {
    AfIo io;
    PyObject *sock;             /* the listening socket; NULL once stopped */
    PyObject *factory;          /* of protocols */
    PyObject *wrap;             /* gives, for one of those, the protocol that the transport has instead; or NULL */
    PyObject *server;
    PyObject *context;          /* of create_server(context=), or NULL */
    af_call_context call;
    int fd, family, proto, batch;
} AfListener;

/* ---- accepting -------------------------------------------------------------------------------------------------- */

/* Of a new connection; an address of a kind that we do not know is left to its socket. */
static PyObject *
listener_address(AfTransport *conn, const af_sockaddr *addr, socklen_t len)
{
    PyObject *address = NULL;
    if (af_address_to_python(addr, len, &address) == 0 && af_transport_need_socket(conn) == 0) {
        address = af_call_method(conn->sock, "getpeername", NULL);
        if (address == NULL && PyErr_ExceptionMatches(PyExc_OSError)) {
            PyErr_Clear();
            address = Py_NewRef(Py_None);
        }
    }
    return address;
}

/* To be given to the factory in the next turn. */
static int
listener_schedule(AfListener *l, AfTransport *conn, PyObject *address)
{
    AfLoop *loop = l->io.loop;
    if (loop->debug && (af_transport_need_socket(conn) < 0 ||
                        af_call_hook(loop->st, "accepted_debug", "OOO", l->server, address, conn->sock) < 0)) {
        return -1;
    }
    /* of a context that was asked for, each connection has a copy */
    PyObject *context = l->context == NULL ? Py_NewRef(Py_None) : PyContext_Copy(l->context);
    PyObject *what = context == NULL ? NULL : PyTuple_Pack(3, conn, address, context);
    PyObject *accepted = what == NULL ? NULL : PyObject_GetAttr((PyObject *)l, loop->st->str_accepted);
    int rc = accepted == NULL ? -1 : af_call_soon(loop->st, (PyObject *)loop, accepted, what,
                                                  context == Py_None ? NULL : context);
    Py_XDECREF(accepted);
    Py_XDECREF(what);
    Py_XDECREF(context);
    return rc;
}

/* 1: accepted one; 0: there is none; -1. */
static int
listener_accept_one(AfListener *l)
{
    af_sockaddr addr;
    socklen_t len = sizeof(addr);
    int fd = accept4(l->fd, &addr.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == ECONNABORTED) {
            return 1;           /* gone before we came to it */
        }
        if (af_would_block(errno)) {
            return 0;
        }
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    AfTransport *conn = af_stream_of_fd(l->io.loop->st, fd, l->family, l->proto);
    PyObject *address = conn == NULL ? NULL : listener_address(conn, &addr, len);
    int rc = address == NULL ? -1 : listener_schedule(l, conn, address);
    Py_XDECREF(conn);
    Py_XDECREF(address);
    return rc < 0 ? -1 : 1;
}

/* accept() failed: out of something (asyncio's list), it will be tried again later; anything else is reported. */
static int
listener_failed(AfListener *l, AfLoop *loop)
{
    if (af_raised_exit()) {
        return -1;
    }
    PyObject *exc = PyErr_GetRaisedException();
    int rc = af_call_hook_handling(loop->st, exc, "accept_failed", "OOO", (PyObject *)loop, (PyObject *)l, exc);
    Py_DECREF(exc);
    return rc;
}

static int
listener_run(AfIo *io, unsigned Py_UNUSED(what))
{
    AfListener *l = (AfListener *)io;
    int rc = 1;
    for (int i = 0; rc == 1 && i < l->batch && af_io_wants(io) & AF_READ; i++) {
        rc = listener_accept_one(l);
    }
    return rc < 0 ? -1 : 0;
}

static int
listener_ready(AfIo *io, unsigned what)
{
    AfListener *l = (AfListener *)io;
    AfLoop *loop = (AfLoop *)Py_NewRef((PyObject *)io->loop);
    int rc = af_loop_no_current(loop) < 0 ? -1 : af_call_context_run(loop, &l->call, listener_run, io, what);
    if (rc < 0) {
        rc = listener_failed(l, loop);
    }
    Py_DECREF(loop);
    return rc;
}

/* A new connection gets its protocol and starts. */
static PyObject *
listener_accepted(AfListener *l, PyObject *what)
{
    AfState *st = af_state_of_type(Py_TYPE(l));
    PyObject *address, *context;
    AfTransport *conn;
    if (!PyArg_ParseTuple(what, "O!OO:_accepted", st->StreamType, &conn, &address, &context)) {
        return NULL;
    }
    int rc = -1;
    PyObject *protocol = PyObject_CallNoArgs(l->factory);
    PyObject *face = protocol == NULL ? NULL
                     : l->wrap == NULL ? Py_NewRef(protocol) : PyObject_CallOneArg(l->wrap, protocol);
    PyObject *extra = face == NULL ? NULL : PyDict_New();
    conn->unseen = l->wrap != NULL;
    if (extra != NULL && PyDict_SetItem(extra, st->str_peername, address) == 0 &&
        af_transport_init(conn, (PyObject *)l->io.loop, conn->sock, face, extra, l->server, context,
                          AF_STREAM_SOCKET) == 0) {
        rc = af_transport_schedule_start(conn, Py_None);
    }
    Py_XDECREF(extra);
    Py_XDECREF(face);
    if (rc < 0 && !af_raised_exit()) {
        PyObject *exc = PyErr_GetRaisedException();
        af_transport_let_go(conn);
        rc = af_call_hook_handling(st, exc, "accepted_failed", "OOO", (PyObject *)l->io.loop,
                                   protocol == NULL ? Py_None : protocol, exc);
        Py_DECREF(exc);
    }
    Py_XDECREF(protocol);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- methods ---------------------------------------------------------------------------------------------------- */

static PyObject *
listener_pause(AfListener *l, PyObject *Py_UNUSED(ignored))
{
    return l->io.watch != NULL && af_io_want(&l->io, 0) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
listener_resume(AfListener *l, PyObject *Py_UNUSED(ignored))
{
    return l->io.watch != NULL && af_io_want(&l->io, AF_READ) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
listener_stop(AfListener *l, PyObject *Py_UNUSED(ignored))
{
    af_io_release(&l->io);
    Py_CLEAR(l->sock);
    Py_RETURN_NONE;
}

static PyObject *
listener_get_sock(AfListener *l, void *Py_UNUSED(closure))
{
    return Py_NewRef(l->sock == NULL ? Py_None : l->sock);
}

static PyMethodDef listener_methods[] = {
    {"_accepted", (PyCFunction)listener_accepted, METH_O,
     "_accepted($self, what, /)\n--\n\nMake protocol and transport for (socket, address, context or None)."},
    {"_pause", (PyCFunction)listener_pause, METH_NOARGS, "_pause($self, /)\n--\n\nAccept nothing until _resume()."},
    {"_resume", (PyCFunction)listener_resume, METH_NOARGS, "_resume($self, /)\n--\n\nAccept; nothing if stopped."},
    {"_stop", (PyCFunction)listener_stop, METH_NOARGS, "_stop($self, /)\n--\n\nLet go of the socket."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef listener_getset[] = {
    {"_sock", (getter)listener_get_sock, NULL, "The listening socket; None once stopped.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* ---- life ------------------------------------------------------------------------------------------------------- */

static int
listener_tp_init(AfListener *l, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"loop", "sock", "protocol_factory", "server", "backlog", "context", "wrap", NULL};
    AfState *st = af_state_of_type(Py_TYPE(l));
    PyObject *loop, *sock, *factory, *server, *context, *wrap = Py_None;
    int backlog;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OOOiO|O:Listener", names, st->LoopType, &loop, &sock, &factory,
                                     &server, &backlog, &context, &wrap)) {
        return -1;
    }
    if (l->io.loop != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a listener is made only once");
        return -1;
    }
    l->fd = PyObject_AsFileDescriptor(sock);
    if (l->fd < 0 || af_socket_int(sock, "family", &l->family) < 0 || af_socket_int(sock, "proto", &l->proto) < 0) {
        return -1;
    }
    l->call.context = af_context_take((AfLoop *)loop, &l->call.shared);
    if (l->call.context == NULL || af_loop_check_closed((AfLoop *)loop) < 0 ||
        af_io_claim(&l->io, (AfLoop *)loop, l->fd) < 0) {
        return -1;
    }
    l->batch = backlog < 1 ? 1 : backlog < LISTENER_BATCH ? backlog : LISTENER_BATCH;
    l->io.ready = listener_ready;
    l->io.loop = (AfLoop *)Py_NewRef(loop);
    l->sock = Py_NewRef(sock);
    l->factory = Py_NewRef(factory);
    l->wrap = wrap == Py_None ? NULL : Py_NewRef(wrap);
    l->server = Py_NewRef(server);
    l->context = context == Py_None ? NULL : Py_NewRef(context);
    return af_io_want(&l->io, AF_READ);
}

static int
listener_tp_traverse(AfListener *l, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(l));
    Py_VISIT((PyObject *)l->io.loop);
    Py_VISIT(l->sock);
    Py_VISIT(l->factory);
    Py_VISIT(l->wrap);
    Py_VISIT(l->server);
    Py_VISIT(l->context);
    Py_VISIT(l->call.context);
    return 0;
}

static int
listener_tp_clear(AfListener *l)
{
    af_io_release(&l->io);
    Py_CLEAR(l->sock);
    Py_CLEAR(l->factory);
    Py_CLEAR(l->wrap);
    Py_CLEAR(l->server);
    Py_CLEAR(l->context);
    Py_CLEAR(l->call.context);
    Py_CLEAR(l->io.loop);
    return 0;
}

static void
listener_tp_dealloc(AfListener *l)
{
    PyTypeObject *type = Py_TYPE(l);
    PyObject_GC_UnTrack(l);
    listener_tp_clear(l);
    type->tp_free(l);
    Py_DECREF(type);
}

static PyType_Slot listener_slots[] = {
    {Py_tp_doc, (void *)"_Listener(loop, sock, protocol_factory, server, backlog, context, wrap=None)\n--\n\n"
                         "Accepts the connections of a listening socket; made by the loop."},
    {Py_tp_init, listener_tp_init},
    {Py_tp_dealloc, listener_tp_dealloc},
    {Py_tp_traverse, listener_tp_traverse},
    {Py_tp_clear, listener_tp_clear},
    {Py_tp_methods, listener_methods},
    {Py_tp_getset, listener_getset},
    {0, NULL},
};

static PyType_Spec listener_spec = {
    "asyncfast._Listener", sizeof(AfListener), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, listener_slots,
};

AF_API int
af_listener_setup(PyObject *module, AfState *st)
{
    st->ListenerType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &listener_spec, NULL);
    return st->ListenerType == NULL ? -1 : PyModule_AddObjectRef(module, "_Listener", (PyObject *)st->ListenerType);
}
