/* The loop's sock_...() methods, as one object each.

   asyncio's are coroutines that try the call, and on EAGAIN add a reader or writer with a handle, a future and a done
   callback.  Here the coroutine is one object: it tries (sockcall.c), and is itself what waits for the fd (core/watch.h)
   and what the task waits on (core/park.h).  What is received or accepted is taken when the awaiting task runs, so that
   a cancellation loses nothing.

   Only for plain socket.socket objects on a loop that is not in debug mode; everything else, wrong arguments included, is
   asyncio's own method, inherited.

   Belongs to its loop's thread.  Runs Python: buffers' owners, audit hooks, dropped references. */
#include "net/sockop.h"

#include "net/transport.h"

enum { SOCKOP_NEW, SOCKOP_WAITING, SOCKOP_DONE };

/* ---- waiting ---------------------------------------------------------------------------------------------------- */

static void
sockop_stop_waiting(AfSockOp *s)
{
    if (s->op.park.begun) {
        af_park_forget(&s->op.park);
        s->op.park.begun = 0;
    }
}

static void
sockop_finish(AfSockOp *s)
{
    s->stage = SOCKOP_DONE;
    Py_INCREF(s);
    sockop_stop_waiting(s);
    if (s->view.obj != NULL) {
        PyBuffer_Release(&s->view);
    }
    Py_CLEAR(s->arg);
    Py_CLEAR(s->peer);
    Py_DECREF(s);
}

/* Yield, until the fd is ready. */
static PySendResult
sockop_wait(AfSockOp *s, PyObject **result)
{
    int fd = af_socket_fd(s->sock);
    if (af_unlikely(af_watch_owner_of(s->loop, fd) != NULL)) {
        /* which raises if a transport uses it */
        PyObject *res = af_call_method((PyObject *)s->loop, "_ensure_fd_no_transport", "i", fd);
        Py_XDECREF(res);
        if (res == NULL) {
            return PYGEN_ERROR;
        }
    }
    if (af_loop_check_closed(s->loop) < 0) {
        return PYGEN_ERROR;
    }
    s->op.fd = fd;
    if (af_op_wait(s->loop, &s->op, s->sock) < 0) {
        return PYGEN_ERROR;
    }
    s->stage = SOCKOP_WAITING;
    *result = Py_NewRef((PyObject *)s);
    return PYGEN_NEXT;
}

static PySendResult
sockop_am_send(AfSockOp *s, PyObject *arg, PyObject **result)
{
    *result = NULL;
    if (s->stage == SOCKOP_DONE) {
        af_awaited_again();
        return PYGEN_ERROR;
    }
    if (s->stage == SOCKOP_NEW && arg != Py_None) {
        PyErr_SetString(PyExc_TypeError, "can't send non-None value to a just-started coroutine");
        return PYGEN_ERROR;
    }
    if (s->stage == SOCKOP_WAITING) {
        if (af_park_outcome(&s->op.park) < 0) {
            sockop_finish(s);
            return PYGEN_ERROR;
        }
        s->op.park.begun = 0;
    }
    PySendResult how = s->call->attempt(s, result);
    if (how == PYGEN_NEXT) {
        how = sockop_wait(s, result);
    }
    if (how != PYGEN_NEXT) {
        sockop_finish(s);
    }
    return how;
}

static PyObject *
sockop_throw(AfSockOp *s, PyObject *const *args, Py_ssize_t nargs)
{
    if (s->stage == SOCKOP_DONE) {
        return af_awaited_again();
    }
    sockop_finish(s);
    return af_raise_thrown(args, nargs);
}

static PyObject *
sockop_close(AfSockOp *s, PyObject *Py_UNUSED(ignored))
{
    sockop_finish(s);
    Py_RETURN_NONE;
}

/* ---- the loop's methods ------------------------------------------------------------------------------------------ */

static PyObject *
sockop_make(AfLoop *loop, const af_sockcall *call, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    AfState *st = loop->st;
    AfSockOp draft = {.loop = loop, .call = call};
    if (nargs < 1 || kwnames != NULL || loop->debug || !loop->fast_soon || !af_socket_is_plain(st, args[0]) ||
        !call->take(&draft, args, nargs)) {
        return af_loop_inherited(loop, call->name, args, nargs, kwnames);
    }
    AfSockOp *s = af_freelist_take(&st->sockops, st->SockOpType);
    if (s == NULL) {
        return NULL;
    }
    memcpy((char *)s + sizeof(PyObject), (char *)&draft + sizeof(PyObject), sizeof(*s) - sizeof(PyObject));
    s->op.park.st = st;
    s->op.what = call->direction;
    s->sock = Py_NewRef(args[0]);
    Py_INCREF((PyObject *)s->loop);
    Py_XINCREF(s->arg);
    Py_XINCREF(s->peer);
    s->stage = SOCKOP_NEW;
    PyObject_GC_Track(s);
    return (PyObject *)s;
}

#define SOCKOP_METHOD(method)                                                                                          \
    static PyObject *                                                                                                  \
    sockop_loop_##method(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)                     \
    {                                                                                                                  \
        return sockop_make(loop, af_sockcall_of(AF_SOCK_##method), args, nargs, kwnames);                              \
    }
AF_SOCKCALLS(SOCKOP_METHOD)
#undef SOCKOP_METHOD

#define SOCKOP_ENTRY(method, doc)                                                                                      \
    {"sock_" #method, (PyCFunction)(void (*)(void))sockop_loop_##method, METH_FASTCALL | METH_KEYWORDS, doc}

static PyMethodDef sockop_loop_methods[] = {
    SOCKOP_ENTRY(recv, "sock_recv($self, sock, n)\n--\n\n"
                       "Receive up to n bytes from a non-blocking socket; b'' at its end.  A coroutine."),
    SOCKOP_ENTRY(recv_into, "sock_recv_into($self, sock, buf)\n--\n\nReceive into buf; return how many bytes.  A coroutine."),
    SOCKOP_ENTRY(recvfrom, "sock_recvfrom($self, sock, bufsize)\n--\n\n"
                           "Receive a datagram of up to bufsize bytes: (data, address).  A coroutine."),
    SOCKOP_ENTRY(recvfrom_into, "sock_recvfrom_into($self, sock, buf, nbytes=0)\n--\n\n"
                                "Receive a datagram of up to nbytes bytes (0: what fits) into buf: (bytes, address).\n"
                                "A coroutine."),
    SOCKOP_ENTRY(sendall, "sock_sendall($self, sock, data)\n--\n\n"
                          "Send all of data through a non-blocking socket.  A coroutine."),
    SOCKOP_ENTRY(sendto, "sock_sendto($self, sock, data, address)\n--\n\n"
                         "Send a datagram to address; return how many bytes were sent.  A coroutine."),
    SOCKOP_ENTRY(accept, "sock_accept($self, sock)\n--\n\n"
                         "Accept a connection: (non-blocking socket, address).  A coroutine."),
    SOCKOP_ENTRY(connect, "sock_connect($self, sock, address)\n--\n\n"
                          "Connect a non-blocking socket to address; a host name is looked up.  A coroutine."),
    {NULL, NULL, 0, NULL},
};

/* ---- life ------------------------------------------------------------------------------------------------------- */

static PyObject *
sockop_get_name(AfSockOp *s, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(s->call->name);
}

/* asyncio's: programs filter warnings by it */
#define SOCKOP_CLASS "BaseSelectorEventLoop"

static PyObject *
sockop_get_qualname(AfSockOp *s, void *Py_UNUSED(closure))
{
    return PyUnicode_FromFormat(SOCKOP_CLASS ".%s", s->call->name);
}

static PyObject *
sockop_tp_repr(AfSockOp *s)
{
    return PyUnicode_FromFormat("<coroutine object " SOCKOP_CLASS ".%s at %p>", s->call->name, s);
}

static void
sockop_tp_finalize(PyObject *self)
{
    if (((AfSockOp *)self)->stage == SOCKOP_NEW) {
        af_never_awaited(self);
    }
}

static int
sockop_tp_traverse(AfSockOp *s, visitproc visit, void *arg)
{
    Py_VISIT((PyObject *)s->loop);
    Py_VISIT(s->sock);
    Py_VISIT(s->arg);
    Py_VISIT(s->peer);
    Py_VISIT(s->view.obj);
    return af_park_traverse(&s->op.park, visit, arg);
}

static int
sockop_tp_clear(AfSockOp *s)
{
    sockop_finish(s);
    af_park_clear(&s->op.park);
    return 0;
}

static void
sockop_tp_dealloc(AfSockOp *s)
{
    AfState *st = s->loop->st;
    if (s->stage == SOCKOP_NEW && PyObject_CallFinalizerFromDealloc((PyObject *)s) < 0) {
        return;
    }
    PyObject_GC_UnTrack(s);
    /* the table holds a reference while it waits, so it does not wait */
    af_park_clear(&s->op.park);
    Py_CLEAR(s->op.park.loop);
    if (s->view.obj != NULL) {
        PyBuffer_Release(&s->view);
    }
    Py_XDECREF(s->arg);
    Py_XDECREF(s->peer);
    Py_XDECREF(s->sock);
    Py_XDECREF((PyObject *)s->loop);
    af_freelist_give(af_freelist_unless_finalized(&st->sockops, s), s);
}

static PyMethodDef sockop_methods[] = {
    {"throw", (PyCFunction)(void (*)(void))sockop_throw, METH_FASTCALL,
     "throw($self, type, value=None, traceback=None, /)\n--\n\nAs of a coroutine."},
    {"close", (PyCFunction)sockop_close, METH_NOARGS, "close($self, /)\n--\n\nAs of a coroutine."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef sockop_getset[] = {
    {"__name__", (getter)sockop_get_name, NULL, "The name of the loop's method.", NULL},
    {"__qualname__", (getter)sockop_get_qualname, NULL, "The same with the class.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot sockop_slots[] = {
    {Py_tp_doc, (void *)"What the loop's sock_...() methods return: a coroutine."},
    {Py_tp_dealloc, sockop_tp_dealloc},
    {Py_tp_finalize, sockop_tp_finalize},
    {Py_tp_traverse, sockop_tp_traverse},
    {Py_tp_clear, sockop_tp_clear},
    {Py_tp_repr, sockop_tp_repr},
    {Py_am_send, sockop_am_send},
    {Py_tp_methods, sockop_methods},
    {Py_tp_getset, sockop_getset},
    {0, NULL},
};

static PyType_Spec sockop_spec = {
    "asyncfast._SockOp", sizeof(AfSockOp), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    sockop_slots,
};

AF_API int
af_sockop_setup(PyObject *module, AfState *st)
{
    st->SockOpType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &sockop_spec, (PyObject *)st->ParkType);
    return st->SockOpType == NULL ? -1 : af_type_add(st->LoopType, sockop_loop_methods, NULL);
}

#undef SOCKOP_CLASS
