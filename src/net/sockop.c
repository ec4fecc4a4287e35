/* The loop's sock_recv(), sock_recv_into() and sock_sendall().

   asyncio's are coroutines that try the call, and on EAGAIN add a reader or writer with a handle, a future and a done
   callback.  Here the coroutine is one object: it tries, and waits for the fd by itself, with only a future for the task
   to wait on.  What is received is read when the awaiting task runs, so that a cancellation loses nothing.

   Only for plain socket.socket objects on a loop that is not in debug mode; everything else, wrong arguments included, is
   asyncio's own method, inherited.

   Belongs to its loop's thread.  Runs Python: buffers' owners, dropped references. */
#include "net/sockop.h"

#include "core/future.h"
#include "net/data.h"
#include "net/transport.h"

#include <sys/socket.h>

enum { SOCKOP_RECV, SOCKOP_RECV_INTO, SOCKOP_SENDALL };
enum { SOCKOP_NEW, SOCKOP_WAITING, SOCKOP_DONE };

static const char *const sockop_names[] = {"sock_recv", "sock_recv_into", "sock_sendall"};

typedef struct {
    AfOp op;
    AfLoop *loop;
    PyObject *sock;
    PyObject *waiter;           /* the future that the task waits on, while it waits */
    PyObject *arg;              /* the buffer, or NULL */
    Py_buffer view;             /* of arg; obj NULL: not taken */
    Py_ssize_t size;            /* sock_recv: bytes at most; sock_sendall: bytes sent so far */
    int fd;                     /* that it waits for */
    char kind, stage;
} AfSockOp;

static unsigned
sockop_direction(const AfSockOp *s)
{
    return s->kind == SOCKOP_SENDALL ? AF_WRITE : AF_READ;
}

/* ---- trying ----------------------------------------------------------------------------------------------------- */

static int
sockop_fd(const AfSockOp *s)
{
    return af_socket_fd(s->sock);
}

/* PYGEN_RETURN, PYGEN_ERROR, or PYGEN_NEXT: it would block. */
static PySendResult
sockop_failed(void)
{
    if (af_would_block(errno)) {
        return PYGEN_NEXT;
    }
    PyErr_SetFromErrno(PyExc_OSError);
    return PYGEN_ERROR;
}

static PySendResult
sockop_try_recv(AfSockOp *s, PyObject **result)
{
    char *buffer = af_loop_read_buffer(s->loop);
    if (buffer == NULL) {
        return PYGEN_ERROR;
    }
    size_t size = (size_t)s->size < AF_READ_SIZE ? (size_t)s->size : AF_READ_SIZE;
    ssize_t n = recv(sockop_fd(s), buffer, size, MSG_DONTWAIT);
    if (n < 0) {
        return sockop_failed();
    }
    *result = PyBytes_FromStringAndSize(buffer, n);
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

static PySendResult
sockop_try_recv_into(AfSockOp *s, PyObject **result)
{
    Py_buffer view;
    if (af_data_room(s->arg, &view) < 0) {
        return PYGEN_ERROR;
    }
    ssize_t n = recv(sockop_fd(s), view.buf, (size_t)view.len, MSG_DONTWAIT);
    int error = errno;
    PyBuffer_Release(&view);
    if (n < 0) {
        errno = error;
        return sockop_failed();
    }
    *result = PyLong_FromSsize_t(n);
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

static PySendResult
sockop_try_sendall(AfSockOp *s, PyObject **result)
{
    if (s->view.obj == NULL && PyObject_GetBuffer(s->arg, &s->view, PyBUF_SIMPLE) < 0) {
        return PYGEN_ERROR;
    }
    while (s->size < s->view.len) {
        ssize_t n = send(sockop_fd(s), (char *)s->view.buf + s->size, (size_t)(s->view.len - s->size),
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            return sockop_failed();
        }
        s->size += n;
    }
    *result = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

static PySendResult
sockop_try(AfSockOp *s, PyObject **result)
{
    switch (s->kind) {
    case SOCKOP_RECV:
        return sockop_try_recv(s, result);
    case SOCKOP_RECV_INTO:
        return sockop_try_recv_into(s, result);
    default:
        return sockop_try_sendall(s, result);
    }
}

/* ---- waiting ---------------------------------------------------------------------------------------------------- */

static void
sockop_stop_waiting(AfSockOp *s)
{
    if (s->fd >= 0) {
        af_op_forget(s->loop, &s->op, s->fd, sockop_direction(s));
        s->fd = -1;
    }
    Py_CLEAR(s->waiter);
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
    Py_DECREF(s);
}

static int
sockop_wake(AfOp *op)
{
    AfSockOp *s = (AfSockOp *)op;
    AfFuture *waiter = (AfFuture *)s->waiter;
    if (s->fd < 0 || waiter == NULL) {
        return 0;
    }
    af_op_forget(s->loop, op, s->fd, sockop_direction(s));
    s->fd = -1;
    return waiter->state == AF_PENDING ? af_future_set_result(waiter, Py_None) : 0;
}

/* Yield a future that is done when the fd is ready. */
static PySendResult
sockop_wait(AfSockOp *s, PyObject **result)
{
    int fd = sockop_fd(s);
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
    PyObject *waiter = af_future_new(s->loop);
    if (waiter == NULL) {
        return PYGEN_ERROR;
    }
    ((AfFuture *)waiter)->blocking = 1;
    s->fd = fd;
    Py_XSETREF(s->waiter, waiter);
    if (af_op_wait(s->loop, &s->op, s->sock, fd, sockop_direction(s)) < 0) {
        return PYGEN_ERROR;
    }
    s->stage = SOCKOP_WAITING;
    *result = Py_NewRef(waiter);
    return PYGEN_NEXT;
}

static PySendResult
sockop_am_send(AfSockOp *s, PyObject *arg, PyObject **result)
{
    *result = NULL;
    if (s->stage == SOCKOP_DONE) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
    if (s->stage == SOCKOP_NEW && arg != Py_None) {
        PyErr_SetString(PyExc_TypeError, "can't send non-None value to a just-started coroutine");
        return PYGEN_ERROR;
    }
    if (s->stage == SOCKOP_WAITING) {
        if (s->waiter != NULL && ((AfFuture *)s->waiter)->state == AF_PENDING) {
            sockop_finish(s);
            PyErr_SetString(PyExc_RuntimeError, "await wasn't used with future");
            return PYGEN_ERROR;
        }
        sockop_stop_waiting(s);
    }
    PySendResult how = sockop_try(s, result);
    if (how == PYGEN_NEXT) {
        how = sockop_wait(s, result);
    }
    if (how != PYGEN_NEXT) {
        sockop_finish(s);
    }
    return how;
}

static PyObject *
sockop_send(AfSockOp *s, PyObject *arg)
{
    PyObject *result;
    PySendResult how = sockop_am_send(s, arg, &result);
    return af_sent(how, result);
}

static PyObject *
sockop_tp_iternext(AfSockOp *s)
{
    return sockop_send(s, Py_None);
}

static PyObject *
sockop_throw(AfSockOp *s, PyObject *const *args, Py_ssize_t nargs)
{
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

/* asyncio's own method. */
static PyObject *
sockop_inherited(AfLoop *loop, int kind, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return af_loop_inherited(loop, sockop_names[kind], args, nargs, kwnames);
}

static PyObject *
sockop_make(AfLoop *loop, int kind, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    AfState *st = loop->st;
    if (nargs != 2 || kwnames != NULL || loop->debug || !loop->fast_soon || !af_socket_is_plain(st, args[0])) {
        return sockop_inherited(loop, kind, args, nargs, kwnames);
    }
    Py_ssize_t size = 0;
    if (kind == SOCKOP_RECV) {
        size = PyLong_CheckExact(args[1]) ? PyLong_AsSsize_t(args[1]) : -1;
        if (size < 0) {
            PyErr_Clear();
            return sockop_inherited(loop, kind, args, nargs, kwnames);
        }
    }
    AfSockOp *s = PyObject_GC_New(AfSockOp, st->SockOpType);
    if (s == NULL) {
        return NULL;
    }
    memset((char *)s + sizeof(PyObject), 0, sizeof(*s) - sizeof(PyObject));
    s->op.wake = sockop_wake;
    s->loop = (AfLoop *)Py_NewRef((PyObject *)loop);
    s->sock = Py_NewRef(args[0]);
    s->arg = kind == SOCKOP_RECV ? NULL : Py_NewRef(args[1]);
    s->size = size;
    s->fd = -1;
    s->kind = (char)kind;
    s->stage = SOCKOP_NEW;
    PyObject_GC_Track(s);
    return (PyObject *)s;
}

static PyObject *
sockop_loop_recv(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return sockop_make(loop, SOCKOP_RECV, args, nargs, kwnames);
}

static PyObject *
sockop_loop_recv_into(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return sockop_make(loop, SOCKOP_RECV_INTO, args, nargs, kwnames);
}

static PyObject *
sockop_loop_sendall(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return sockop_make(loop, SOCKOP_SENDALL, args, nargs, kwnames);
}

#define SOCKOP_F(f) (PyCFunction)(void (*)(void))(f), METH_FASTCALL | METH_KEYWORDS

static PyMethodDef sockop_loop_methods[] = {
    {"sock_recv", SOCKOP_F(sockop_loop_recv),
     "sock_recv($self, sock, n)\n--\n\nReceive up to n bytes from a non-blocking socket; b'' at its end.  A coroutine."},
    {"sock_recv_into", SOCKOP_F(sockop_loop_recv_into),
     "sock_recv_into($self, sock, buf)\n--\n\nReceive into buf; return how many bytes.  A coroutine."},
    {"sock_sendall", SOCKOP_F(sockop_loop_sendall),
     "sock_sendall($self, sock, data)\n--\n\nSend all of data through a non-blocking socket.  A coroutine."},
    {NULL, NULL, 0, NULL},
};

/* ---- life ------------------------------------------------------------------------------------------------------- */

static PyObject *
sockop_get_name(AfSockOp *s, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(sockop_names[(int)s->kind]);
}

static PyObject *
sockop_get_qualname(AfSockOp *s, void *Py_UNUSED(closure))
{
    return PyUnicode_FromFormat("Loop.%s", sockop_names[(int)s->kind]);
}

static PyObject *
sockop_tp_repr(AfSockOp *s)
{
    return PyUnicode_FromFormat("<coroutine object Loop.%s at %p>", sockop_names[(int)s->kind], s);
}

/* As of any coroutine. */
static void
sockop_tp_finalize(PyObject *self)
{
    AfSockOp *s = (AfSockOp *)self;
    if (s->stage != SOCKOP_NEW) {
        return;
    }
    PyObject *raised = PyErr_GetRaisedException();
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "coroutine 'Loop.%s' was never awaited",
                         sockop_names[(int)s->kind]) < 0) {
        PyErr_WriteUnraisable(self);
    }
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

static int
sockop_tp_traverse(AfSockOp *s, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(s));
    Py_VISIT((PyObject *)s->loop);
    Py_VISIT(s->sock);
    Py_VISIT(s->waiter);
    Py_VISIT(s->arg);
    Py_VISIT(s->view.obj);
    return 0;
}

static int
sockop_tp_clear(AfSockOp *s)
{
    sockop_finish(s);
    return 0;
}

static void
sockop_tp_dealloc(AfSockOp *s)
{
    PyTypeObject *type = Py_TYPE(s);
    if (s->stage == SOCKOP_NEW && PyObject_CallFinalizerFromDealloc((PyObject *)s) < 0) {
        return;
    }
    PyObject_GC_UnTrack(s);
    /* the table holds a reference while it waits, so it does not wait */
    Py_XDECREF(s->waiter);
    if (s->view.obj != NULL) {
        PyBuffer_Release(&s->view);
    }
    Py_XDECREF(s->arg);
    Py_XDECREF(s->sock);
    Py_XDECREF((PyObject *)s->loop);
    PyObject_GC_Del(s);
    Py_DECREF(type);
}

static PyMethodDef sockop_methods[] = {
    {"send", (PyCFunction)sockop_send, METH_O, "send($self, value, /)\n--\n\nAs of a coroutine."},
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
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, sockop_tp_iternext},
    {Py_am_await, PyObject_SelfIter},
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
    st->SockOpType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &sockop_spec, NULL);
    return st->SockOpType == NULL ? -1 : af_type_add(st->LoopType, sockop_loop_methods, NULL);
}
