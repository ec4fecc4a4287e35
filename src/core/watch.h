/* File descriptors: who is told when one is ready.

   Three kinds of parties ask: handles (add_reader(), add_writer()), operations on a socket (sock_recv() and alike), and
   owners of an fd (transports, listening sockets).  The latter two are C, called by the loop without a handle.  All come
   through the ready ring, so that what an event starts keeps its place among callbacks and timers.

   Who asks again and again for the same thing should not pay two system calls each time.  So an operation's or an owner's
   wish to read ends in the table only, and the kernel is told when it reports what nobody wants any more.  Owners have
   their fd for themselves; for operations the table remembers the socket object (sock_ref), since somebody may close that and
   the kernel then forgets the fd without a word. */
#ifndef AF_CORE_WATCH_H
#define AF_CORE_WATCH_H

#include "core/park.h"

/* The beginning of whatever owns an fd. */
typedef struct AfIo {
    PyObject_HEAD
    PyObject *extra;            /* where asyncio.BaseTransport keeps its _extra: transports are derived from it */
    AfLoop *loop;               /* NULL when it has let go of everything */
    struct AfFdWatch *watch;    /* its place in the loop's table; NULL: it owns no fd there */
    struct AfIo *next;          /* another owner of the same fd, or NULL */
    unsigned want;              /* AF_READ | AF_WRITE */
    int shares;                 /* a tty, say, may have a transport that reads and one that writes */
    /* AF_READ or AF_WRITE; 0, or -1 to end the loop's run.  What it runs of Python finds the last task current unless
       af_loop_no_current() comes first: who runs none need not call that. */
    int (*ready)(struct AfIo *io, unsigned what);
    int (*flush)(struct AfIo *io);      /* send what was held back; likewise */
    struct AfIo *next_held;     /* in AfLoop.held */
    char is_held;
} AfIo;

/* The beginning of an operation that waits for an fd: a park, which is woken when that is ready. */
typedef struct AfOp {
    AF_PARK_HEAD;
    int fd;
    unsigned what;              /* AF_READ or AF_WRITE */
} AfOp;

typedef struct AfFdWatch {
    af_watcher watcher;
    PyObject *reader, *writer;  /* handles or, as ops says, operations (the reference is the one by which a park is held);
                                   or NULL */
    unsigned ops;               /* AF_READ: reader is an AfOp; AF_WRITE: writer is */
    uint64_t woken;             /* AfLoop.turns when one was woken at last */
    PyObject *named;            /* what add_reader() or add_writer() was given, by which remove_reader() finds it once it
                                   is closed; NULL: an int, or nobody waits any more */
    PyObject *sock_ref;         /* a weak reference to the socket that operations watch it for, or NULL */
    AfIo *io;                   /* the owners, or NULL; a reference while one wants something, borrowed otherwise */
    unsigned io_want;           /* what any of them wants */
} AfFdWatch;

/* From now on io owns fd: 0 or -1.  Unless both share, whoever had it is out of the game: its fd was closed behind its
   back, and the number given out again. */
AF_API int af_io_claim(AfIo *io, AfLoop *loop, int fd);
/* 0, or -1 with OSError and nothing changed.  Who waited for the same by add_reader() or sock_recv(), say, does no more. */
AF_API int af_io_want(AfIo *io, unsigned want);
AF_API void af_io_release(AfIo *io);                        /* before fd is closed */

/* op, which is to be yielded, waits for op->what of sock, whose fd op->fd is; whoever waited is pushed aside, as by
   add_reader().  0 or -1. */
AF_API int af_op_wait(AfLoop *loop, AfOp *op, PyObject *sock);
AF_API int af_op_wake(AfOp *op);                            /* its fd is ready; 0 or -1 */
/* fd has been closed by its owner: whoever else waits for it is woken, and finds out.  0, or -1 as of a callback. */
AF_API int af_watch_rouse(AfLoop *loop, int fd);
AF_API AfIo *af_watch_owner_of(AfLoop *loop, int fd);      /* borrowed, or NULL */

static inline unsigned
af_io_wants(const AfIo *io)
{
    return io->want;
}

/* An event that was noted earlier in this turn may have become stale: paused, closed, or the fd another's by now. */
static inline int
af_io_run(AfIo *io, unsigned what)
{
    return af_io_wants(io) & what ? io->ready(io, what) : 0;
}

/* io holds something back until the callback or step that runs now has returned: what is written in several calls leaves
   in one. */
AF_API void af_io_hold_back(AfIo *io);
AF_API int af_io_flush_held(AfLoop *loop);                  /* 0 or -1 */

/* The loop's. */
AF_API int af_watch_dispatch(AfLoop *loop, const af_event *events, int n);  /* events to the ring; 0 or -1 */
AF_API int af_watch_visit(AfLoop *loop, visitproc visit, void *arg);
AF_API void af_watch_forget_all(AfLoop *loop);
AF_API void af_watch_again_all(AfLoop *loop);               /* after a fork: a new poller hears of them all */

/* Methods of the loop. */
AF_API PyObject *af_watch_add_reader(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
AF_API PyObject *af_watch_add_writer(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
AF_API PyObject *af_watch_remove_reader(AfLoop *loop, PyObject *fd);
AF_API PyObject *af_watch_remove_writer(AfLoop *loop, PyObject *fd);
AF_API PyObject *af_watch_bits(AfLoop *loop, PyObject *fd);
AF_API PyObject *af_watch_owner(AfLoop *loop, PyObject *fd);

#endif
