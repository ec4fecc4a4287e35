/* The table of watched file descriptors, by number.

   Belongs to the loop's thread.  Runs Python: cancelling a handle, dropped references; never while events are put on the
   ring, so that the table cannot change under them. */
#include "core/watch.h"

#include "core/handle.h"
#include "rt/args.h"

/* As selectors do: an int or something with fileno(); ValueError otherwise. */
static int
watch_fd(PyObject *obj)
{
    int fd = PyObject_AsFileDescriptor(obj);
    if (fd < 0) {
        int negative = PyErr_ExceptionMatches(PyExc_ValueError) && PyLong_Check(obj);
        PyErr_Format(PyExc_ValueError, negative ? "Invalid file descriptor: %S" : "Invalid file object: %R", obj);
    }
    return fd;
}

static AfFdWatch *
watch_find(AfLoop *loop, int fd)
{
    return fd >= 0 && fd < loop->nwatches ? loop->watches[fd] : NULL;
}

static AfFdWatch *
watch_make(AfLoop *loop, int fd)
{
    AfFdWatch *w = watch_find(loop, fd);
    if (w != NULL) {
        return w;
    }
    if (fd >= loop->nwatches) {
        int n = loop->nwatches ? loop->nwatches : 64;
        while (n <= fd) {
            n *= 2;
        }
        AfFdWatch **p = PyMem_Realloc(loop->watches, (size_t)n * sizeof(*p));
        if (p == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        memset(p + loop->nwatches, 0, (size_t)(n - loop->nwatches) * sizeof(*p));
        loop->watches = p;
        loop->nwatches = n;
    }
    w = PyMem_Calloc(1, sizeof(*w));
    if (w == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    w->watcher.fd = fd;
    loop->watches[fd] = w;
    return w;
}

static void
watch_free_if_idle(AfLoop *loop, AfFdWatch *w)
{
    if (w->watcher.want == 0 && w->io == NULL) {
        loop->watches[w->watcher.fd] = NULL;
        PyMem_Free(w);
    }
}

/* Somebody wants something no longer. */
static void
watch_want_less(AfLoop *loop, AfFdWatch *w)
{
    w->watcher.want = w->io_want | (w->reader != NULL ? AF_READ : 0) | (w->writer != NULL ? AF_WRITE : 0);
    if (w->watcher.want != w->watcher.have && af_poll_update(&loop->poll, &w->watcher) < 0) {
        /* the fd was closed meanwhile: the kernel has forgotten it by itself */
        w->watcher.have = w->watcher.want;
    }
}

/* handle.cancel(), whichever class it is of */
static int
watch_cancel_handle(AfLoop *loop, PyObject *handle)
{
    PyObject *res = PyObject_CallMethodNoArgs(handle, loop->st->str_cancel);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

static PyObject *
watch_add(AfLoop *loop, unsigned what, const char *method, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    PyObject *context;
    if (af_args_only_kw(method, loop->st->str_context, args + nargs, kwnames, &context) < 0 ||
        af_loop_check_closed(loop) < 0) {
        return NULL;
    }
    if (nargs < 2) {
        PyErr_Format(PyExc_TypeError, "%s() missing required positional argument: '%s'", method,
                     nargs == 0 ? "fd" : "callback");
        return NULL;
    }
    int fd = watch_fd(args[0]);
    AfFdWatch *w = fd < 0 ? NULL : watch_make(loop, fd);
    if (w == NULL) {
        return NULL;
    }
    AfHandle *h = af_handle_new(loop, args + 1, nargs - 1, context);
    if (h == NULL) {
        watch_free_if_idle(loop, w);
        return NULL;
    }
    h->repeats = 1;
    unsigned before = w->watcher.want;
    w->watcher.want |= what;
    int rc = af_poll_update(&loop->poll, &w->watcher);
    if (rc < 0) {
        w->watcher.want = before;
        watch_free_if_idle(loop, w);
        Py_DECREF(h);
        af_loop_oserror(rc);
        return NULL;
    }
    PyObject **slot = what == AF_READ ? &w->reader : &w->writer;
    PyObject *old = *slot;
    *slot = Py_NewRef((PyObject *)h);
    if (old != NULL) {
        rc = watch_cancel_handle(loop, old);
        Py_DECREF(old);
        if (rc < 0) {
            Py_DECREF(h);
            return NULL;
        }
    }
    return (PyObject *)h;
}

static PyObject *
watch_remove(AfLoop *loop, unsigned what, PyObject *arg)
{
    if (loop->closed) {
        Py_RETURN_FALSE;
    }
    int fd = watch_fd(arg);
    if (fd < 0) {
        return NULL;
    }
    AfFdWatch *w = watch_find(loop, fd);
    PyObject **slot = w == NULL ? NULL : what == AF_READ ? &w->reader : &w->writer;
    if (slot == NULL || *slot == NULL) {
        Py_RETURN_FALSE;
    }
    PyObject *old = *slot;
    *slot = NULL;
    watch_want_less(loop, w);
    watch_free_if_idle(loop, w);
    int rc = watch_cancel_handle(loop, old);
    Py_DECREF(old);
    return rc < 0 ? NULL : Py_NewRef(Py_True);
}

AF_API PyObject *
af_watch_add_reader(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return watch_add(loop, AF_READ, "_add_reader", args, nargs, kwnames);
}

AF_API PyObject *
af_watch_add_writer(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return watch_add(loop, AF_WRITE, "_add_writer", args, nargs, kwnames);
}

AF_API PyObject *
af_watch_remove_reader(AfLoop *loop, PyObject *fd)
{
    return watch_remove(loop, AF_READ, fd);
}

AF_API PyObject *
af_watch_remove_writer(AfLoop *loop, PyObject *fd)
{
    return watch_remove(loop, AF_WRITE, fd);
}

/* selectors.EVENT_READ | EVENT_WRITE, for the inherited transports' reprs */
AF_API PyObject *
af_watch_bits(AfLoop *loop, PyObject *arg)
{
    int fd = watch_fd(arg);
    if (fd < 0) {
        return NULL;
    }
    AfFdWatch *w = watch_find(loop, fd);
    return PyLong_FromLong(w == NULL ? 0 : (long)w->watcher.want);
}

/* The transport that owns fd, or None; an int or something with fileno(). */
AF_API PyObject *
af_watch_owner(AfLoop *loop, PyObject *arg)
{
    int fd = watch_fd(arg);
    if (fd < 0) {
        return NULL;
    }
    AfFdWatch *w = watch_find(loop, fd);
    return Py_NewRef(w == NULL || w->io == NULL ? Py_None : (PyObject *)w->io);
}

/* ---- owners ----------------------------------------------------------------------------------------------------- */

AF_API int
af_io_claim(AfIo *io, AfLoop *loop, int fd)
{
    AfFdWatch *w = watch_make(loop, fd);
    if (w == NULL) {
        return -1;
    }
    if (w->io != NULL) {
        /* its fd was closed behind its back, and the number given out again: it is out of the game */
        af_io_release(w->io);
        w = watch_make(loop, fd);
        if (w == NULL) {
            return -1;
        }
    }
    w->io = io;
    w->io_want = 0;
    io->watch = w;
    return 0;
}

AF_API int
af_io_want(AfIo *io, unsigned want)
{
    AfFdWatch *w = io->watch;
    unsigned before = w->io_want;
    w->io_want = want;
    if (want & ~before) {
        w->watcher.want |= want;
        int rc = af_poll_update(&io->loop->poll, &w->watcher);
        if (rc < 0) {
            w->io_want = before;
            watch_want_less(io->loop, w);
            return af_loop_oserror(rc);
        }
    }
    watch_want_less(io->loop, w);
    if (want && !before) {
        Py_INCREF(io);
    }
    else if (before && !want) {
        Py_DECREF(io);      /* the caller holds another */
    }
    return 0;
}

AF_API void
af_io_release(AfIo *io)
{
    AfFdWatch *w = io->watch;
    if (w == NULL) {
        return;
    }
    unsigned before = w->io_want;
    w->io_want = 0;
    w->io = NULL;
    io->watch = NULL;
    watch_want_less(io->loop, w);
    watch_free_if_idle(io->loop, w);
    if (before) {
        Py_DECREF(io);
    }
}

/* ---- the loop's ------------------------------------------------------------------------------------------------- */

static inline int
watch_push(AfLoop *loop, AfFdWatch *w, unsigned what, PyObject *handle, int kind)
{
    if (handle != NULL) {
        return af_loop_push_steal(loop, Py_NewRef(handle), AF_ENTRY_HANDLE);
    }
    return w->io_want & what ? af_loop_push_steal(loop, Py_NewRef((PyObject *)w->io), kind) : 0;
}

AF_API int
af_watch_dispatch(AfLoop *loop, const af_event *events, int n)
{
    for (int i = 0; i < n; i++) {
        AfFdWatch *w = watch_find(loop, events[i].fd);
        if (w == NULL) {
            continue;           /* closed without a word, and a duplicate of it lives on */
        }
        if (events[i].events & AF_READ && watch_push(loop, w, AF_READ, w->reader, AF_ENTRY_READ) < 0) {
            return -1;
        }
        if (events[i].events & AF_WRITE && watch_push(loop, w, AF_WRITE, w->writer, AF_ENTRY_WRITE) < 0) {
            return -1;
        }
    }
    return 0;
}

AF_API int
af_watch_visit(AfLoop *loop, visitproc visit, void *arg)
{
    for (int fd = 0; fd < loop->nwatches; fd++) {
        AfFdWatch *w = loop->watches[fd];
        if (w == NULL) {
            continue;
        }
        PyObject *pair[2] = {w->reader, w->writer};
        for (int i = 0; i < 2; i++) {
            int rc = pair[i] == NULL ? 0 : af_handle_visit((AfHandle *)pair[i], visit, arg);
            if (rc != 0) {
                return rc;
            }
        }
        if (w->io_want) {
            Py_VISIT((PyObject *)w->io);
        }
    }
    return 0;
}

AF_API void
af_watch_forget_all(AfLoop *loop)
{
    for (int fd = 0; fd < loop->nwatches; fd++) {
        AfFdWatch *w = loop->watches[fd];
        if (w == NULL) {
            continue;
        }
        loop->watches[fd] = NULL;
        af_poll_forget(&loop->poll, &w->watcher);
        if (w->io != NULL) {
            w->io->watch = NULL;
            if (w->io_want) {
                Py_DECREF(w->io);
            }
        }
        Py_XDECREF(w->reader);
        Py_XDECREF(w->writer);
        PyMem_Free(w);
    }
}

AF_API void
af_watch_again_all(AfLoop *loop)
{
    for (int fd = 0; fd < loop->nwatches; fd++) {
        if (loop->watches[fd] != NULL) {
            loop->watches[fd]->watcher.have = 0;
            (void)af_poll_update(&loop->poll, &loop->watches[fd]->watcher);     /* a closed fd stays out */
        }
    }
}
