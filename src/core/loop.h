/* The loop: the ready ring, the timers, the poller, and the tasks that live on it. */
#ifndef AF_CORE_LOOP_H
#define AF_CORE_LOOP_H

#include "base/heap.h"
#include "base/list.h"
#include "base/ring.h"
#include "rt/state.h"
#include "sys/busy.h"
#include "sys/clock.h"
#include "sys/poller.h"

/* What a ready entry is: the low bits of the pointer say it.  Every entry owns a reference. */
enum {
    AF_ENTRY_HANDLE = 0,        /* AfHandle: run its callback */
    AF_ENTRY_TASK = 1,          /* AfTask: step it */
    AF_ENTRY_FOREIGN = 2,       /* asyncio.Handle or alike: call its _run() */
    AF_ENTRY_THREADSAFE = 3,    /* the handle of call_soon_threadsafe() */
    AF_ENTRY_READ = 4,          /* AfIo: its fd is readable */
    AF_ENTRY_WRITE = 5,         /* ... writable */
    AF_ENTRY_WAKE = 6,          /* AfOp: what it waits for is there */
    AF_ENTRY_BITS = 7
};

struct AfFdWatch;
struct AfTimerHandle;

/* asyncgens.c: the asynchronous generators that are iterated on the loop. */
typedef struct {
    PyObject **refs;            /* weak references without callbacks, some of them dead */
    size_t count, room;
    PyObject *set;              /* loop._asyncgens: asyncio's WeakSet, or what somebody has put there; NULL: not yet */
    char is_weak;               /* it is a WeakSet, to which what is in refs may be added later */
    char in_set;                /* there may be something in it */
    char shutdown;              /* shutdown_asyncgens() was called */
} af_asyncgens;

#define AF_LOOP_SPARES 64

typedef struct AfLoop {
    PyObject_HEAD
    AfState *st;

    /* loop thread */
    af_ring ready;
    af_heap timers;
    struct AfTimerHandle *last_timer;   /* borrowed: the last one armed, or NULL */
    af_link tasks;              /* AfTask.link: every task of this loop that is not done */
    PyObject *pristine;         /* core/context.h: what is scheduled now would share this context */
    PyObject *runner;           /* ... and would run in this one */
    char entered;               /* ... which the thread is in, between two entries of the ring */
    PyObject *told_current;     /* borrowed: the task that asyncio has been told is current, or NULL */
    struct AfTask *stepping;    /* borrowed: the task that is being stepped */
    int64_t polled_at;          /* clock at the last poll */
    int64_t released_at;        /* clock when the interpreter's lock was last given up by a poll */
    unsigned since_poll;        /* callbacks run since the last poll */
    int polled;                 /* events that it brought */
    unsigned vain_polls;        /* of a busy loop, in a row, that brought none */
    int batch;                  /* events that a poll may bring, at most, for what they bring */
    size_t unread;              /* bytes received since then for tasks that run later */
    uint64_t turns;             /* begun so far */
    uint64_t polled_ticks;      /* af_ticks() then */
    unsigned signal_check;      /* callbacks until signals are looked at */
    char fast_soon;             /* call_soon is ours and not overridden: rooms may push on the ring directly */
    char custom_at;             /* call_at() is not ours: call_later() goes through it, as asyncio's does */
    char custom_time;           /* time() is not ours: ask it */
    char debug, closed, stopping, await_values;

    /* interpreter lock: written by the loop's thread, read by call_soon_threadsafe */
    char asleep;                /* in, or on the way into, a poll that waits */
    char woken;                 /* and somebody has written to its eventfd */

    unsigned long thread;       /* of the thread that runs the loop; 0: not running */
    af_poll poll;
    af_busy busy;
    struct AfFdWatch **watches; /* by fd */
    int nwatches;               /* fds there is room for, ... */
    int watching;               /* ... and of them in use */
    struct AfIo *held, *last_held;      /* own a reference each: to be flushed when the entry that runs has returned, or ... */
    uint64_t burst_since;       /* ... its turn, if that has many entries: af_ticks() at its beginning; 0: it has few */
    size_t held_bytes;          /* held back since the last flush */
    char in_entry;              /* an entry of the ring runs */
    PyObject *next_task;        /* a task that is stepped as soon as that has returned, or NULL */
    PyObject *spares[AF_LOOP_SPARES];   /* bytes objects that nobody has any more: what is received next may lie in them */
    int nspares;
    PyObject *read_buffer;      /* bytes of AF_READ_SIZE, to be lent to protocols; NULL: none yet, or lent */
    char *room;                 /* as large, for what only C sees: datagrams, TLS records; NULL: none yet, or in use */

    PyObject *module;           /* keeps the state: everything on the loop reaches it through st */
    PyObject *task_factory;     /* NULL: our Task */
    PyObject *current_handle;   /* debug mode: what runs now */
    double slow_callback_duration;      /* seconds */
    af_asyncgens asyncgens;
    af_link link;               /* in AfState.loops */
} AfLoop;

AF_API int af_loop_setup(PyObject *module, AfState *st);

/* The loop of ours that is stepping a task in this thread, borrowed; NULL: none, or another thread's loop did so last. */
static inline AfLoop *
af_loop_stepping(const AfState *st)
{
    AfLoop *loop = st->stepping;
    return loop != NULL && loop->thread == PyThread_get_thread_ident() ? loop : NULL;
}

/* A busy loop polls before each turn, as asyncio's does and programs count on; but once AF_LOOP_VAIN_POLLS in a row have
   brought nothing, only if the last one was AF_TICKS_SHORT ago or AF_LOOP_POLL_MOST callbacks have run since.  Then an event
   waits at most about 100 us behind short callbacks, and one turn behind long ones, and polling costs a few nanoseconds
   a callback (bench: call_soon_chain). */
#define AF_LOOP_POLL_MOST 256
#define AF_LOOP_VAIN_POLLS 32

/* The next turn polls, however busy the loop is. */
static inline void
af_loop_poll_next(AfLoop *loop)
{
    loop->since_poll = AF_LOOP_POLL_MOST;
}

/* n bytes were received or sent; or none, if n < 0. */
static inline void
af_loop_moved(AfLoop *loop, ssize_t n)
{
    loop->busy.moved += n < 0 ? 0 : (size_t)n;
}

#define AF_READ_SIZE ((size_t)256 * 1024)
AF_API char *af_loop_room(AfLoop *loop);         /* AF_READ_SIZE bytes, for as long as no Python runs; NULL: MemoryError */

/* asyncio's method of that name, which asyncfast._loop keeps for us. */
AF_API PyObject *af_loop_inherited(AfLoop *loop, const char *name, PyObject *const *args, Py_ssize_t nargs,
                                   PyObject *kwnames);

/* Kinds of af_timer: whose reference the armed timer is. */
enum { AF_TIMER_HANDLE, AF_TIMER_SLEEP };

/* An AfLoop whose ring may be used directly, or NULL: some other loop, or one whose call_soon was replaced. */
static inline AfLoop *
af_loop_fast(AfState *st, PyObject *loop)
{
    if (af_likely(Py_TYPE(loop) == st->PyLoopType) || PyObject_TypeCheck(loop, st->LoopType)) {
        AfLoop *l = (AfLoop *)loop;
        return l->fast_soon ? l : NULL;
    }
    return NULL;
}

AF_API int af_loop_oserror(int rc);              /* sets the OSError of a negative errno; -1 */
AF_API int af_loop_check_closed(AfLoop *loop);   /* 0, or -1 with RuntimeError */

/* Errors that asyncio's call_soon gives: closed, or (debug) called from another thread.  0 or -1. */
AF_API int af_loop_check_schedule(AfLoop *loop);
AF_API int af_loop_push_steal(AfLoop *loop, void *obj, int kind);      /* 0, or -1 with MemoryError; takes the ref */

/* loop.call_soon(func, arg, context=ctx) on any loop; arg and ctx may be NULL. */
AF_API int af_call_soon(AfState *st, PyObject *loop, PyObject *func, PyObject *arg, PyObject *ctx);

/* The same with loop.call_soon_threadsafe(). */
AF_API int af_call_soon_threadsafe(AfState *st, PyObject *loop, PyObject *func, PyObject *arg, PyObject *ctx);

/* Something was put on its ring, maybe by another thread: if it sleeps, or is about to, it is woken. */
AF_API void af_loop_wake(AfLoop *loop);

AF_API int af_loop_call_exception_handler(AfState *st, PyObject *loop, PyObject *context);

/* Tell asyncio which task runs (NULL: none).  Returns the previous one (a new reference or NULL) through prev. */
AF_API int af_current_swap(AfState *st, PyObject *loop, PyObject *task, PyObject **prev);

/* The same for the loop that runs in this thread, which remembers what it told. 0 or -1. */
AF_API int af_loop_tell_current(AfLoop *loop, PyObject *task);

/* ... and before other Python code may ask. */
static inline int
af_loop_no_current(AfLoop *loop)
{
    return loop->told_current == NULL ? 0 : af_loop_tell_current(loop, NULL);
}

/* Arm a timer; when is in seconds of loop.time(). */
AF_API int af_loop_arm(AfLoop *loop, af_timer *timer, double when);
AF_API int af_loop_arm_after(AfLoop *loop, af_timer *timer, double delay);     /* delay seconds from now */

#endif
