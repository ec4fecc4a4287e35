/* The table of watched file descriptors, by number.

   Belongs to the loop's thread.  Runs Python: cancelling a handle, dropped references; never while events are put on the
   ring, so that the table cannot change under them. */
#include "core/watch.h"

#include "core/context.h"
#include "core/handle.h"
#include "rt/args.h"

#include <fcntl.h>

/* An int, or what int() makes of fileno(); ValueError if it cannot make any, as in selectors. */
static PyObject *
watch_number(PyObject *obj)
{
    if (PyLong_Check(obj)) {
        return Py_NewRef(obj);
    }
    PyObject *fileno = af_call_method(obj, "fileno", NULL);
    PyObject *number = fileno == NULL ? NULL : PyNumber_Long(fileno);
    Py_XDECREF(fileno);
    if (number == NULL && (PyErr_ExceptionMatches(PyExc_AttributeError) || PyErr_ExceptionMatches(PyExc_TypeError) ||
                           PyErr_ExceptionMatches(PyExc_ValueError))) {
        PyErr_Format(PyExc_ValueError, "Invalid file object: %R", obj);
    }
    return number;
}

/* ValueError if it is no file, or its number negative: it is closed; OverflowError if that is too big for a descriptor. */
static int
watch_fd(PyObject *obj)
{
    PyObject *number = watch_number(obj);
    if (number == NULL) {
        return -1;
    }
    int overflow, fd = -1;
    if (PyLong_AsLongAndOverflow(number, &overflow) < 0 && overflow <= 0) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %S", number);
    }
    else {
        fd = PyObject_AsFileDescriptor(number);
    }
    Py_DECREF(number);
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
    loop->watching++;
    return w;
}

static void
watch_free_if_idle(AfLoop *loop, AfFdWatch *w)
{
    if (w->watcher.want == 0 && w->watcher.have == 0 && w->io == NULL) {
        loop->watches[w->watcher.fd] = NULL;
        loop->watching--;
        AF_ASSERT(w->named == NULL);
        Py_XDECREF(w->sock_ref);
        PyMem_Free(w);
    }
}

/* The place of a closed object, which is found again by what it was registered as; NULL with the error that is set. */
static AfFdWatch *
watch_of_closed(AfLoop *loop, PyObject *obj)
{
    if (!PyErr_ExceptionMatches(PyExc_ValueError)) {
        return NULL;
    }
    for (int fd = 0; fd < loop->nwatches; fd++) {
        AfFdWatch *w = loop->watches[fd];
        if (w != NULL && w->named == obj) {
            PyErr_Clear();
            return w;
        }
    }
    return NULL;
}

/* The place of obj, open (its number is put into fd) or closed (-1).  NULL if there is none, or with an error set. */
static AfFdWatch *
watch_lookup(AfLoop *loop, PyObject *obj, int *fd)
{
    *fd = watch_fd(obj);
    if (*fd < 0 && PyErr_ExceptionMatches(PyExc_OverflowError)) {
        PyErr_Clear();      /* nobody waits for what cannot be a descriptor */
        return NULL;
    }
    return *fd < 0 ? watch_of_closed(loop, obj) : watch_find(loop, *fd);
}

/* What nobody waits for is not registered: its object is returned, for the caller to let go of at last; or NULL. */
static PyObject *
watch_take_name(AfFdWatch *w)
{
    PyObject *named = NULL;
    if (w->reader == NULL && w->writer == NULL) {
        named = w->named;
        w->named = NULL;
    }
    return named;
}

static unsigned
watch_wants(const AfFdWatch *w)
{
    return w->io_want | (w->reader != NULL ? AF_READ : 0) | (w->writer != NULL ? AF_WRITE : 0);
}

/* Where the handle or operation is that waits for what. */
static PyObject **
watch_slot(AfFdWatch *w, unsigned what)
{
    return what == AF_READ ? &w->reader : &w->writer;
}

/* Tell the kernel what is wanted now, which is not more than before. */
static void
watch_want_less(AfLoop *loop, AfFdWatch *w)
{
    w->watcher.want = watch_wants(w);
    if (af_poll_update(&loop->poll, &w->watcher) < 0) {
        /* the fd was closed meanwhile: the kernel has forgotten it by itself */
        w->watcher.have = w->watcher.want;
    }
}

/* The same, but nobody wanting to read any more is no reason for a system call. */
static void
watch_want_less_lazily(AfLoop *loop, AfFdWatch *w)
{
    w->watcher.want = watch_wants(w);
    if ((w->watcher.have & ~w->watcher.want) != AF_READ) {
        watch_want_less(loop, w);
    }
}

/* Somebody comes who cannot know whether what the kernel has been told is still true: tell it anew. */
static void
watch_settle(AfLoop *loop, AfFdWatch *w)
{
    if (w->sock_ref != NULL) {
        Py_CLEAR(w->sock_ref);
        af_poll_forget(&loop->poll, &w->watcher);
        watch_want_less(loop, w);
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

/* Take those who wait for what out of the table. */
static void
watch_take(AfFdWatch *w, unsigned what, PyObject *taken[2])
{
    for (int i = 0; i < 2; i++) {
        unsigned one = i == 0 ? AF_READ : AF_WRITE;
        taken[i] = NULL;
        if (what & one) {
            PyObject **slot = watch_slot(w, one);
            taken[i] = *slot;
            *slot = NULL;
        }
    }
    w->ops &= ~what;
}

/* The table's reference to party, or to nobody (NULL), ends. */
static void
watch_let_go(PyObject *party, int is_op)
{
    if (is_op) {
        ((AfOp *)party)->park.held = 0;
    }
    Py_XDECREF(party);
}

/* The same, and nothing comes of it any more: a handle is cancelled, an operation never wakes.  0 or -1. */
static int
watch_drop(AfLoop *loop, PyObject *party, int is_op)
{
    int rc = party == NULL || is_op ? 0 : watch_cancel_handle(loop, party);
    watch_let_go(party, is_op);
    return rc;
}

static int
watch_drop_both(AfLoop *loop, PyObject *taken[2], unsigned ops)
{
    int rc = watch_drop(loop, taken[0], ops & AF_READ);
    return watch_drop(loop, taken[1], ops & AF_WRITE) < 0 ? -1 : rc;
}

/* Somebody comes with fd, as obj.  If another is registered as fd, that may have been closed, and the number given out again:
   what it was registered for will not come any more.  0 or -1. */
static int
watch_forget_closed(AfLoop *loop, int fd, PyObject *obj)
{
    AfFdWatch *w = watch_find(loop, fd);
    if (af_likely(w == NULL || w->named == NULL || w->named == obj)) {
        return 0;
    }
    PyObject *named = Py_NewRef(w->named);
    int now = watch_fd(named);
    if (now < 0) {
        PyErr_Clear();
    }
    int rc = 0;
    w = watch_find(loop, fd);       /* fileno() may have changed the table */
    if (now != fd && w != NULL && w->named == named) {
        Py_CLEAR(w->named);         /* not the last reference */
        PyObject *handles[2];
        watch_take(w, (AF_READ | AF_WRITE) & ~w->ops, handles);
        af_poll_forget(&loop->poll, &w->watcher);
        watch_want_less(loop, w);
        watch_free_if_idle(loop, w);
        rc = watch_drop_both(loop, handles, 0);
    }
    Py_DECREF(named);
    return rc;
}

/* 0, or -1 with OSError and nothing changed. */
static int
watch_want_more(AfLoop *loop, AfFdWatch *w, unsigned what)
{
    w->watcher.want |= what;
    if ((what & ~w->watcher.have) == 0) {
        return 0;
    }
    int rc = af_poll_update(&loop->poll, &w->watcher);
    if (rc < 0) {
        w->watcher.want = watch_wants(w);
        watch_free_if_idle(loop, w);
        return af_loop_oserror(rc);
    }
    af_loop_poll_next(loop);    /* what is there already comes in the next turn, as on asyncio */
    return 0;
}

/* Put a handle or an operation (which is taken over) where another may be; a handle that is pushed aside is cancelled. */
static int
watch_put(AfLoop *loop, AfFdWatch *w, unsigned what, PyObject *party, int is_op)
{
    PyObject **slot = watch_slot(w, what);
    PyObject *old = *slot;
    int was_op = (w->ops & what) != 0;
    *slot = party;
    w->ops = is_op ? w->ops | what : w->ops & ~what;
    return watch_drop(loop, old, was_op);
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
    if (fd >= 0 && watch_forget_closed(loop, fd, args[0]) < 0) {
        return NULL;
    }
    if (fd >= loop->nwatches && fcntl(fd, F_GETFD) < 0) {   /* no room is made for just any number */
        af_loop_oserror(-errno);
        return NULL;
    }
    AfFdWatch *w = fd < 0 ? watch_of_closed(loop, args[0]) : watch_make(loop, fd);
    if (w == NULL) {
        return NULL;
    }
    if (fd < 0 && what & ~watch_wants(w)) {     /* its number may be another's by now */
        af_loop_oserror(-EBADF);
        return NULL;
    }
    AfHandle *h = af_handle_new(loop, args + 1, nargs - 1, context);
    if (h == NULL) {
        watch_free_if_idle(loop, w);
        return NULL;
    }
    af_handle_outlives(h);      /* asyncio's own code holds it too, in cycles */
    if (fd >= 0) {
        watch_settle(loop, w);
        if (watch_want_more(loop, w, what) < 0) {
            Py_DECREF(h);
            return NULL;
        }
        if (w->named == NULL && !PyLong_Check(args[0])) {
            w->named = Py_NewRef(args[0]);
        }
    }
    if (watch_put(loop, w, what, Py_NewRef((PyObject *)h), 0) < 0) {
        Py_DECREF(h);
        return NULL;
    }
    return (PyObject *)h;
}

static PyObject *
watch_remove(AfLoop *loop, unsigned what, PyObject *arg)
{
    if (loop->closed) {
        Py_RETURN_FALSE;
    }
    int fd;
    AfFdWatch *w = watch_lookup(loop, arg, &fd);
    if (w == NULL && PyErr_Occurred()) {
        return NULL;
    }
    PyObject **slot = w == NULL ? NULL : watch_slot(w, what);
    if (slot == NULL || *slot == NULL) {
        Py_RETURN_FALSE;
    }
    PyObject *old = *slot;
    int was_op = (w->ops & what) != 0;
    *slot = NULL;
    w->ops &= ~what;
    PyObject *named = watch_take_name(w);
    watch_want_less(loop, w);
    watch_free_if_idle(loop, w);
    int rc = watch_drop(loop, old, was_op);
    Py_XDECREF(named);
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

/* The transport that owns fd, or None; an int or something with fileno(), whose owner is nobody once it is closed. */
AF_API PyObject *
af_watch_owner(AfLoop *loop, PyObject *arg)
{
    int fd;
    if (watch_lookup(loop, arg, &fd) == NULL && PyErr_Occurred()) {
        return NULL;
    }
    AfIo *io = af_watch_owner_of(loop, fd);
    return Py_NewRef(io == NULL ? Py_None : (PyObject *)io);
}

/* ---- operations ------------------------------------------------------------------------------------------------- */

AF_API AfIo *
af_watch_owner_of(AfLoop *loop, int fd)
{
    AfFdWatch *w = watch_find(loop, fd);
    return w == NULL ? NULL : w->io;
}

/* Out of the table; the reference is still the park's. */
static void
op_leave(AfPark *p)
{
    AfOp *op = (AfOp *)p;
    AfLoop *loop = (AfLoop *)p->loop;
    AfFdWatch *w = watch_find(loop, op->fd);
    PyObject **slot = w == NULL ? NULL : watch_slot(w, op->what);
    if (slot == NULL || *slot != (PyObject *)op) {
        return;
    }
    *slot = NULL;
    w->ops &= ~op->what;
    PyObject *named = watch_take_name(w);
    watch_want_less_lazily(loop, w);
    watch_free_if_idle(loop, w);
    Py_XDECREF(named);
}

AF_API int
af_op_wait(AfLoop *loop, AfOp *op, PyObject *sock)
{
    if (watch_forget_closed(loop, op->fd, sock) < 0) {
        return -1;
    }
    AfFdWatch *w = watch_make(loop, op->fd);
    PyObject *ref = w == NULL ? NULL : PyWeakref_NewRef(sock, NULL);
    if (ref == NULL) {
        if (w != NULL) {
            watch_free_if_idle(loop, w);
        }
        return -1;
    }
    if (ref != w->sock_ref) {   /* a socket has one weak reference without a callback, and this one lives */
        watch_settle(loop, w);
        w->sock_ref = Py_NewRef(ref);
    }
    Py_DECREF(ref);
    if (watch_want_more(loop, w, op->what) < 0) {
        return -1;
    }
    op->park.forget = op_leave;
    op->park.held = 1;
    af_park_begin_steal(&op->park, Py_NewRef((PyObject *)loop));
    return watch_put(loop, w, op->what, Py_NewRef((PyObject *)op), 1);
}

AF_API int
af_op_wake(AfOp *op)
{
    if (!op->park.waiting) {
        return 0;
    }
    AfLoop *loop = (AfLoop *)op->park.loop;
    AfFdWatch *w = watch_find(loop, op->fd);
    if (w != NULL) {
        w->woken = loop->turns;
    }
    op_leave(&op->park);
    return af_park_wake(&op->park, 0);
}

/* 0, or -1 as of a callback. */
static int
watch_run(PyObject *party, int is_op)
{
    if (is_op) {
        ((AfOp *)party)->park.held = 0;     /* the reference is the caller's now */
        return af_park_wake((AfPark *)party, 0);
    }
    int rc = af_handle_run_inside((AfHandle *)party);
    if (Py_REFCNT(party) > 1) {
        af_handle_outlives((AfHandle *)party);
    }
    return rc;
}

AF_API int
af_watch_rouse(AfLoop *loop, int fd)
{
    AfFdWatch *w = watch_find(loop, fd);
    if (w == NULL) {
        return 0;
    }
    PyObject *parties[2];
    unsigned ops = w->ops;
    watch_take(w, AF_READ | AF_WRITE, parties);
    PyObject *named = watch_take_name(w);
    watch_want_less(loop, w);
    watch_free_if_idle(loop, w);
    int rc = 0;
    for (int i = 0; i < 2; i++) {
        int is_op = (ops & (i == 0 ? AF_READ : AF_WRITE)) != 0;
        if (rc == 0 && parties[i] != NULL) {
            rc = watch_run(parties[i], is_op);
        }
        watch_let_go(parties[i], is_op);
    }
    Py_XDECREF(named);
    return rc;
}

/* ---- owners ----------------------------------------------------------------------------------------------------- */

/* An owner takes the place of whoever waits for the same, as asyncio's transports do.  0 or -1. */
static int
watch_oust(AfLoop *loop, AfFdWatch *w, unsigned what)
{
    if (af_likely(w->reader == NULL && w->writer == NULL)) {
        return 0;
    }
    PyObject *ousted[2];
    unsigned ops = w->ops;
    watch_take(w, what, ousted);
    PyObject *named = watch_take_name(w);
    int rc = watch_drop_both(loop, ousted, ops);
    Py_XDECREF(named);
    return rc;
}

static void
watch_sum_owners(AfFdWatch *w)
{
    w->io_want = 0;
    for (AfIo *io = w->io; io != NULL; io = io->next) {
        w->io_want |= io->want;
    }
}

AF_API int
af_io_claim(AfIo *io, AfLoop *loop, int fd)
{
    AfFdWatch *w = watch_make(loop, fd);
    while (w != NULL && w->io != NULL && !(io->shares && w->io->shares)) {
        af_io_release(w->io);
        w = watch_make(loop, fd);
    }
    if (w == NULL) {
        return -1;
    }
    watch_settle(loop, w);
    if (w->io != NULL) {        /* or was its fd closed, too? */
        af_poll_forget(&loop->poll, &w->watcher);
        watch_want_less(loop, w);
    }
    io->next = w->io;
    io->want = 0;
    io->watch = w;
    w->io = io;
    return 0;
}

AF_API int
af_io_want(AfIo *io, unsigned want)
{
    AfLoop *loop = io->loop;
    AfFdWatch *w = io->watch;
    unsigned before = io->want;
    unsigned gained = want & ~before;
    if (gained) {
        if (watch_want_more(loop, w, want) < 0) {
            return -1;
        }
        af_loop_poll_next(loop);    /* the kernel may not have been told that it stopped: data may be there */
    }
    io->want = want;
    watch_sum_owners(w);
    watch_want_less_lazily(loop, w);
    if (want && !before) {
        Py_INCREF(io);
    }
    else if (before && !want) {
        Py_DECREF(io);      /* the caller holds another */
    }
    return gained ? watch_oust(loop, w, gained) : 0;
}

AF_API void
af_io_release(AfIo *io)
{
    AfFdWatch *w = io->watch;
    if (w == NULL) {
        return;
    }
    unsigned before = io->want;
    AfIo **link = &w->io;
    while (*link != io) {
        link = &(*link)->next;
    }
    *link = io->next;
    io->next = NULL;
    io->want = 0;
    io->watch = NULL;
    watch_sum_owners(w);
    watch_want_less(io->loop, w);
    watch_free_if_idle(io->loop, w);
    if (before) {
        Py_DECREF(io);
    }
}

AF_API void
af_io_hold_back(AfIo *io)
{
    if (io->is_held) {
        return;
    }
    AfLoop *loop = io->loop;
    io->is_held = 1;
    io->next_held = NULL;
    Py_INCREF(io);
    if (loop->held == NULL) {
        loop->held = io;
    }
    else {
        loop->last_held->next_held = io;
    }
    loop->last_held = io;
}

AF_API int
af_io_flush_held(AfLoop *loop)
{
    PyObject *raised = NULL;        /* by the first that did; the others are flushed all the same */
    AfIo *io;
    while ((io = loop->held) != NULL) {
        loop->held = io->next_held;
        io->is_held = 0;
        if (io->flush(io) < 0) {
            PyObject *exc = PyErr_GetRaisedException();
            if (raised == NULL) {
                raised = exc;
            }
            else {
                Py_XDECREF(exc);
            }
        }
        Py_DECREF(io);
    }
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
        return -1;
    }
    return 0;
}

/* ---- the loop's ------------------------------------------------------------------------------------------------- */

static inline int
watch_push(AfLoop *loop, AfFdWatch *w, unsigned what, PyObject *party, int kind)
{
    if (party != NULL) {
        return af_loop_push_steal(loop, Py_NewRef(party), w->ops & what ? AF_ENTRY_WAKE : AF_ENTRY_HANDLE);
    }
    for (AfIo *io = w->io; io != NULL; io = io->next) {
        if (io->want & what && af_loop_push_steal(loop, Py_NewRef((PyObject *)io), kind) < 0) {
            return -1;
        }
    }
    return 0;
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
        /* what lies there still may be what an operation was woken for: its task runs in this turn */
        if (w->watcher.have & ~w->watcher.want && w->woken != loop->turns) {
            watch_want_less(loop, w);
            watch_free_if_idle(loop, w);
        }
    }
    return 0;
}

static int
watch_visit_party(PyObject *party, int is_op, visitproc visit, void *arg)
{
    if (party != NULL && !is_op) {
        return af_handle_visit((AfHandle *)party, visit, arg);
    }
    Py_VISIT(party);
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
        int rc = watch_visit_party(w->reader, w->ops & AF_READ, visit, arg);
        rc = rc != 0 ? rc : watch_visit_party(w->writer, w->ops & AF_WRITE, visit, arg);
        if (rc != 0) {
            return rc;
        }
        Py_VISIT(w->named);
        for (AfIo *io = w->io; io != NULL; io = io->next) {
            if (io->want) {
                Py_VISIT((PyObject *)io);
            }
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
        loop->watching--;
        af_poll_forget(&loop->poll, &w->watcher);
        for (AfIo *io; (io = w->io) != NULL; ) {
            unsigned wanted = io->want;
            w->io = io->next;
            io->next = NULL;
            io->want = 0;
            io->watch = NULL;
            if (wanted) {
                Py_DECREF(io);
            }
        }
        watch_let_go(w->reader, w->ops & AF_READ);
        watch_let_go(w->writer, w->ops & AF_WRITE);
        Py_XDECREF(w->named);
        Py_XDECREF(w->sock_ref);
        PyMem_Free(w);
    }
}

AF_API void
af_watch_again_all(AfLoop *loop)
{
    for (int fd = 0; fd < loop->nwatches; fd++) {
        AfFdWatch *w = loop->watches[fd];
        if (w != NULL) {
            w->watcher.have = 0;
            (void)af_poll_update(&loop->poll, &w->watcher);     /* a closed fd stays out */
            watch_free_if_idle(loop, w);
        }
    }
}
