/* The transports of pipes and of whatever else reads and writes like one.

   In asyncio a pipe's transport is a class of its own, and it differs from a socket's in small things that programs may
   know: an exception of data_received() does not end it; eof_received() comes by call_soon(), and the end follows whatever
   it returns; a closing one that still has something to write goes on watching whether its reader is there; writing is
   resumed only when nothing waits any more.  So it is here.

   A write end is watched for being readable as well: that is how the kernel says that the reader has gone.  Two transports
   may have one file, a tty for instance, each for its direction.

   Belongs to its loop's thread.  Runs Python: the protocol's methods; after each of them everything may have changed. */
#include "net/pipe.h"

#include "net/backlog.h"
#include "net/data.h"
#include "net/reading.h"
#include "rt/args.h"

#include <sys/stat.h>
#include <unistd.h>

/* asyncio.constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES */
#define PIPE_IGNORED_WRITES 5

static const char pipe_read_error[] = "Fatal read error on pipe transport";
static const char pipe_write_error[] = "Fatal write error on pipe transport";

typedef struct {
    AfTransport t;
    af_backlog out;
    long ignored;               /* writes since it is closing */
    char keeps;                 /* the protocol kept what was lent to it */
} AfPipe;

static size_t
pipe_backlog(AfTransport *t)
{
    return ((AfPipe *)t)->out.size;
}

static void
pipe_drop_backlog(AfTransport *t)
{
    af_backlog_clear(&((AfPipe *)t)->out);
}

/* In debug mode it is logged that the other end has gone.  0 or -1. */
static int
pipe_log_closed_by_peer(AfTransport *t)
{
    if (!t->io.loop->debug) {
        return 0;
    }
    return af_call_hook(t->io.loop->st, "pipe_closed_by_peer", "O", (PyObject *)t);
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static int
pipe_received_eof(AfTransport *t)
{
    AfLoop *loop = t->io.loop;
    if (pipe_log_closed_by_peer(t) < 0) {
        return -1;
    }
    t->closing = 1;
    if (af_transport_want(t, 0, AF_READ) < 0) {
        return -1;
    }
    PyObject *func = PyObject_GetAttr(t->protocol, loop->st->str_eof_received);
    int rc = func == NULL ? -1 : af_call_soon(loop->st, (PyObject *)loop, func, NULL, NULL);
    Py_XDECREF(func);
    return rc < 0 ? -1 : af_transport_force_close(t, Py_None);
}

static int
pipe_deliver(void *whom, PyObject *data)
{
    return af_transport_deliver(whom, data);
}

static int
pipe_read(AfPipe *p)
{
    AfTransport *t = &p->t;
    AfLoop *loop = t->io.loop;
    PyObject *buffer = af_reading_take(loop);
    if (buffer == NULL) {
        return -1;
    }
    ssize_t n = -1;
    errno = EBADF;
    if (af_transport_fd_is_ours(t)) {
        n = read(t->fd, PyBytes_AS_STRING(buffer), AF_READ_SIZE);
        af_loop_moved(loop, n);
    }
    if (n > 0) {
        return af_reading_deliver(loop, buffer, n, &p->keeps, pipe_deliver, t);
    }
    loop->read_buffer = buffer;
    if (n == 0) {
        return pipe_received_eof(t);
    }
    return af_would_block(errno) ? 0 : af_transport_fatal_errno(t, errno, pipe_read_error);
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

/* The write end is readable. */
static int
pipe_reader_gone(AfPipe *p)
{
    if (pipe_log_closed_by_peer(&p->t) < 0) {
        return -1;
    }
    PyObject *exc = p->out.count == 0 ? Py_NewRef(Py_None) : PyObject_CallNoArgs(PyExc_BrokenPipeError);
    int rc = exc == NULL ? -1 : af_transport_force_close(&p->t, exc);
    Py_XDECREF(exc);
    return rc;
}

/* Write what waits, as much as the pipe takes. */
static int
pipe_flush(AfPipe *p)
{
    AfTransport *t = &p->t;
    if (p->out.count == 0) {
        return af_transport_want(t, 0, AF_WRITE);
    }
    struct iovec iov[AF_BACKLOG_IOV];
    ssize_t n = -1;
    errno = EBADF;
    if (af_transport_fd_is_ours(t)) {
        n = writev(t->fd, iov, af_backlog_iov(&p->out, iov));
        af_loop_moved(t->io.loop, n);
    }
    if (n < 0) {
        if (af_would_block(errno)) {
            return 0;
        }
        p->ignored++;
        return af_transport_fatal_errno(t, errno, pipe_write_error);
    }
    af_backlog_sent(&p->out, (size_t)n);
    if (p->out.count > 0) {
        return 0;
    }
    if (af_transport_want(t, 0, AF_WRITE) < 0 || af_transport_maybe_resume(t) < 0) {    /* which may write, or close */
        return -1;
    }
    if (!t->closing || t->lost || p->out.count > 0) {
        return 0;
    }
    t->lost = 1;
    return af_transport_end(t, Py_None);
}

static int
pipe_ignore_write(AfPipe *p)
{
    if (p->ignored++ < PIPE_IGNORED_WRITES) {
        return 0;
    }
    return af_call_hook(af_state_of_type(Py_TYPE(p)), "pipe_write_to_lost", NULL);
}

/* Write at once what the pipe takes; the rest waits.  0 or -1. */
static int
pipe_send(AfPipe *p, const af_data *data)
{
    AfTransport *t = &p->t;
    size_t sent = 0;
    if (p->out.count == 0) {
        ssize_t n = -1;
        errno = EBADF;
        if (af_transport_fd_is_ours(t)) {
            n = write(t->fd, data->view.buf, (size_t)data->view.len);
            af_loop_moved(t->io.loop, n);
        }
        if (n == (ssize_t)data->view.len) {
            return 0;
        }
        if (n < 0 && !af_would_block(errno)) {
            p->ignored++;
            return af_transport_fatal_errno(t, errno, pipe_write_error);
        }
        sent = n < 0 ? 0 : (size_t)n;
        if (af_transport_start_writing(t) < 0) {
            return -1;
        }
    }
    PyObject *rest = af_data_snapshot(data, sent);
    if (rest == NULL || af_backlog_add_steal(&p->out, rest, rest == data->obj ? sent : 0) < 0) {
        return -1;
    }
    return af_transport_maybe_pause(t);
}

static PyObject *
pipe_write(AfPipe *p, PyObject *data)
{
    if (!af_data_is_writable(data)) {
        PyErr_Format(PyExc_AssertionError, "%R", data);
        return NULL;
    }
    af_data d;
    if (af_data_open(&d, data) < 0) {
        return NULL;
    }
    int rc = 0;
    if (d.view.len > 0) {
        rc = p->t.closing ? pipe_ignore_write(p) : pipe_send(p, &d);
    }
    af_data_close(&d);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* There is no other way to say it to a pipe. */
static PyObject *
pipe_write_eof(AfPipe *p, PyObject *Py_UNUSED(ignored))
{
    return af_transport_close(&p->t) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
pipe_can_write_eof(AfPipe *Py_UNUSED(p), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_TRUE;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static int
pipe_run(AfIo *io, unsigned what)
{
    AfPipe *p = (AfPipe *)io;
    if (p->t.lost || p->t.protocol == NULL) {
        return 0;
    }
    if (what == AF_WRITE) {
        return pipe_flush(p);
    }
    return p->t.writes_only ? pipe_reader_gone(p) : pipe_read(p);
}

/* Does the write end become readable when the reader goes? */
static int
pipe_tells(int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        return 0;
    }
#ifdef _AIX
    return S_ISSOCK(st.st_mode);
#else
    return S_ISSOCK(st.st_mode) || S_ISFIFO(st.st_mode);
#endif
}

/* Where two transports have one file, it is for the one that reads, or else for the last, to hear that it is readable. */
static int
pipe_begin_to_read(AfPipe *p)
{
    AfTransport *t = &p->t;
    t->paused = t->writes_only && !pipe_tells(t->fd);
    for (AfIo *io = t->io.next; io != NULL; io = io->next) {
        AfTransport *other = (AfTransport *)io;     /* only pipes share */
        if (t->writes_only && !other->writes_only) {
            t->paused = 1;
        }
        else {
            other->paused = 1;
            return af_transport_want(other, 0, AF_READ);
        }
    }
    return 0;
}

static const af_transport_kind pipe_kind = {
    .run = pipe_run,
    .backlog = pipe_backlog,
    .drop_backlog = pipe_drop_backlog,
    .clear = af_transport_clear,
};

static PyObject *
pipe_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    PyObject *self = af_transport_new(type, &pipe_kind);
    if (self != NULL) {
        ((AfPipe *)self)->t.fd = -1;
    }
    return self;
}

static int
pipe_init(AfPipe *p, PyObject *args, PyObject *kwargs, const char *format, int kind)
{
    static char *names[] = {"loop", "pipe", "protocol", "waiter", "extra", NULL};
    PyObject *loop, *pipe, *protocol, *waiter = Py_None, *extra = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &loop, &pipe, &protocol, &waiter, &extra) ||
        af_transport_init(&p->t, loop, pipe, protocol, extra, Py_None, Py_None, kind) < 0 ||
        pipe_begin_to_read(p) < 0) {
        return -1;
    }
    return af_transport_schedule_start(&p->t, waiter);
}

static int
pipe_read_tp_init(AfPipe *p, PyObject *args, PyObject *kwargs)
{
    return pipe_init(p, args, kwargs, "OOO|OO:ReadPipeTransport", AF_READ_PIPE);
}

static int
pipe_write_tp_init(AfPipe *p, PyObject *args, PyObject *kwargs)
{
    return pipe_init(p, args, kwargs, "OOO|OO:WritePipeTransport", AF_WRITE_PIPE);
}

static PyObject *
pipe_tp_repr(PyObject *self)
{
    return af_call_method(af_state_of_type(Py_TYPE(self))->hooks, "pipe_repr", "Oi", self,
                               (int)((AfPipe *)self)->t.writes_only);
}

AF_METHOD_OF_ONE(AfPipe, pipe_write, "write", "data")

static PyMethodDef pipe_write_methods[] = {
    {"write", (PyCFunction)(void (*)(void))pipe_write_args, METH_FASTCALL | METH_KEYWORDS,
     "write($self, /, data)\n--\n\n"
     "Write data (bytes, bytearray or memoryview), at once or as soon as the pipe takes it.\n\n"
     "AssertionError for anything else.  What is changed after the call is not written."},
    {"write_eof", (PyCFunction)pipe_write_eof, METH_NOARGS,
     "write_eof($self, /)\n--\n\nThe same as close(): write what is buffered, then close."},
    {"can_write_eof", (PyCFunction)pipe_can_write_eof, METH_NOARGS, "can_write_eof($self, /)\n--\n\nReturn True."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef pipe_members[] = {
    AF_TRANSPORT_OFFSETS,
    {NULL, 0, 0, 0, NULL},
};

static PyObject *
pipe_get_pipe(AfPipe *p, void *Py_UNUSED(closure))
{
    return Py_NewRef(p->t.sock == NULL ? Py_None : p->t.sock);
}

static PyObject *
pipe_get_fileno(AfPipe *p, void *Py_UNUSED(closure))
{
    return p->t.fd < 0 ? Py_NewRef(Py_None) : PyLong_FromLong(p->t.fd);
}

static PyGetSetDef pipe_getset[] = {
    {"_pipe", (getter)pipe_get_pipe, NULL, NULL, NULL},
    {"_fileno", (getter)pipe_get_fileno, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define PIPE_SLOTS                                                                                                     \
    {Py_tp_new, pipe_tp_new},                                                                                          \
    {Py_tp_dealloc, af_transport_dealloc},                                                                             \
    {Py_tp_finalize, af_transport_finalize},                                                                           \
    {Py_tp_traverse, af_transport_traverse},                                                                           \
    {Py_tp_clear, af_transport_clear},                                                                                 \
    {Py_tp_repr, pipe_tp_repr},                                                                                        \
    {Py_tp_members, pipe_members},                                                                                     \
    {Py_tp_getset, pipe_getset}

static PyType_Slot pipe_read_slots[] = {
    {Py_tp_doc, (void *)"ReadPipeTransport(loop, pipe, protocol, waiter=None, extra=None)\n--\n\n"
                        "Transport of what is read like a pipe; made by connect_read_pipe()."},
    {Py_tp_init, pipe_read_tp_init},
    PIPE_SLOTS,
    {0, NULL},
};

static PyType_Slot pipe_write_slots[] = {
    {Py_tp_doc, (void *)"WritePipeTransport(loop, pipe, protocol, waiter=None, extra=None)\n--\n\n"
                        "Transport of what is written like a pipe; made by connect_write_pipe()."},
    {Py_tp_init, pipe_write_tp_init},
    {Py_tp_methods, pipe_write_methods},
    PIPE_SLOTS,
    {0, NULL},
};

#undef PIPE_SLOTS

static PyType_Spec pipe_read_spec = {
    "asyncfast.ReadPipeTransport", sizeof(AfPipe), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    pipe_read_slots,
};

static PyType_Spec pipe_write_spec = {
    "asyncfast.WritePipeTransport", sizeof(AfPipe), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    pipe_write_slots,
};

AF_API int
af_pipe_setup(PyObject *module, AfState *st)
{
    st->ReadPipeType = af_transport_type(module, "ReadTransport", &pipe_read_spec);
    st->WritePipeType = st->ReadPipeType == NULL ? NULL : af_transport_type(module, "WriteTransport", &pipe_write_spec);
    if (st->WritePipeType == NULL) {
        return -1;
    }
    return PyModule_AddObjectRef(module, "ReadPipeTransport", (PyObject *)st->ReadPipeType) < 0
               ? -1
               : PyModule_AddObjectRef(module, "WritePipeTransport", (PyObject *)st->WritePipeType);
}
