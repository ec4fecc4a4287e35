/* The loop.  Its thread alone runs it; other threads come in through call_soon_threadsafe(), which the interpreter's lock
   orders with everything here: the ring needs no lock of its own, and the eventfd is written only when the loop is, or
   is about to be, asleep.

   One turn (loop_turn): poll if it is time to, put what is due on the ring, run what was on the ring at that moment.
   What a callback schedules runs in the next turn, after the I/O and timers that became ready meanwhile: asyncio's order.

   Runs Python: entries of the ring, signal handlers, dropped references.  Never between taking note of events and
   the ring, so watchers and timers cannot change under a dispatch. */
#include "core/loop.h"

#include "core/asyncgens.h"
#include "core/awaitval.h"
#include "core/context.h"
#include "core/handle.h"
#include "core/sleep.h"
#include "core/task.h"
#include "core/watch.h"
#include "rt/args.h"
#include "sys/copy.h"

#include <math.h>

/* A poll that does not wait keeps the interpreter's lock: Python code hands it over once another thread has waited for a
   switch interval.  Callbacks that are C all the way down do not, so the poll does after several intervals, when the
   other thread has surely asked.  Sooner would starve it: it wakes, finds the lock taken again and begins to wait anew. */
#define LOOP_HOLD_NS 20000000
#define LOOP_HOLD_INTERVALS 4
#define LOOP_SIGNAL_STEP 32
/* A turn of LOOP_BURST_LEAST entries or more is a busy server's: what they write leaves together, after the last of them or
   every LOOP_BURST_TICKS (0.5 to 2 ms).  Sent one by one between the callbacks, each write would find its reader asleep and
   pay for waking it, which costs both sides as much as the system call (bench: net, http_aiohttp at 50 connections). */
#define LOOP_BURST_LEAST 8
#define LOOP_BURST_TICKS (20 * AF_TICKS_SHORT)
#define LOOP_BURST_BYTES ((size_t)64 * 1024)    /* more would leave the processor's nearest caches before it leaves */
/* So much is received for tasks before they run: what came first would be out of the caches when its task comes to it (bench:
   net, streams of 100 KiB). */
#define LOOP_UNREAD_BYTES ((size_t)256 * 1024)
#define LOOP_UNREAD_LEAST (AF_POLL_BATCH < 4 ? AF_POLL_BATCH : 4)
/* Who is served first asks again before the last of the same poll are served, and would come before those who asked
   earlier but after the poll.  A poll takes a share of the fds: nobody is overtaken by more than that share (bench: net, p99
   of 50 connections 0.7 of what it is if all come at once). */
#define LOOP_SHARE 4
#define LOOP_SHARE_LEAST (AF_POLL_BATCH < 16 ? AF_POLL_BATCH : 16)
/* Thousands of timers or tasks lie all over memory: ask for them a few entries ahead (bench: timer_fire). */
#define LOOP_AHEAD 4

/* ---- small things ----------------------------------------------------------------------------------------------- */

/* Deadlines are doubles, ordered as asyncio orders them; the heap compares integers.  The bits of a double, read as an
   integer, order like it; for negative ones the other way round.  NaN counts as long past, as in asyncio's heap. */
static int64_t
loop_key(double seconds)
{
    int64_t bits;
    if (seconds != seconds) {
        return INT64_MIN;
    }
    seconds += 0.0;             /* -0.0 is 0.0 */
    memcpy(&bits, &seconds, sizeof(bits));
    return bits >= 0 ? bits : INT64_MIN - bits;
}

static double
loop_key_seconds(int64_t key)
{
    double seconds;
    int64_t bits = key >= 0 ? key : INT64_MIN - key;
    memcpy(&seconds, &bits, sizeof(seconds));
    return seconds;
}

/* loop.time(): 0 or -1 */
static int
loop_now(AfLoop *loop, double *now)
{
    if (af_likely(!loop->custom_time)) {
        *now = (double)af_clock_ns() / 1e9;
        return 0;
    }
    PyObject *res = af_call_method((PyObject *)loop, "time", NULL);
    *now = res == NULL ? -1.0 : PyFloat_AsDouble(res);
    Py_XDECREF(res);
    return *now == -1.0 && PyErr_Occurred() ? -1 : 0;
}

/* Nanoseconds to wait, never fewer than there are; < 0: for ever. */
static int64_t
loop_wait_ns(double seconds)
{
    return !(seconds > 0) ? 0 : seconds >= 9e9 ? -1 : (int64_t)ceil(seconds * 1e9);
}

AF_API int
af_loop_oserror(int rc)
{
    errno = -rc;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

AF_API int
af_loop_check_closed(AfLoop *loop)
{
    if (af_unlikely(loop->closed)) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return -1;
    }
    return 0;
}

static int
loop_call_check(AfLoop *loop, const char *check, PyObject *callback, const char *method)
{
    PyObject *res = callback == NULL ? af_call_method((PyObject *)loop, check, NULL)
                                     : af_call_method((PyObject *)loop, check, "Os", callback, method);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

AF_API int
af_loop_check_schedule(AfLoop *loop)
{
    if (af_loop_check_closed(loop) < 0) {
        return -1;
    }
    return loop->debug ? loop_call_check(loop, "_check_thread", NULL, NULL) : 0;
}

AF_API int
af_loop_push_steal(AfLoop *loop, void *obj, int kind)
{
    if (af_unlikely(af_ring_push(&loop->ready, (uintptr_t)obj | (uintptr_t)kind) < 0)) {
        Py_DECREF((PyObject *)obj);
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

AF_API int
af_loop_arm(AfLoop *loop, af_timer *timer, double when)
{
    if (af_unlikely(af_heap_arm(&loop->timers, timer, loop_key(when)) < 0)) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

AF_API int
af_loop_arm_after(AfLoop *loop, af_timer *timer, double delay)
{
    double now;
    return loop_now(loop, &now) < 0 ? -1 : af_loop_arm(loop, timer, now + delay);
}

static int
loop_call_by_name(PyObject *name, PyObject *loop, PyObject *func, PyObject *arg, PyObject *ctx, AfState *st)
{
    PyObject *stack[4] = {loop, func};
    size_t n = 2;
    if (arg != NULL) {
        stack[n++] = arg;
    }
    stack[n] = ctx;
    PyObject *res = PyObject_VectorcallMethod(name, stack, n, ctx == NULL ? NULL : st->kw_context);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

AF_API int
af_call_soon_threadsafe(AfState *st, PyObject *loop, PyObject *func, PyObject *arg, PyObject *ctx)
{
    return loop_call_by_name(st->str_call_soon_threadsafe, loop, func, arg, ctx, st);
}

AF_API int
af_call_soon(AfState *st, PyObject *loop, PyObject *func, PyObject *arg, PyObject *ctx)
{
    AfLoop *fast = af_loop_fast(st, loop);
    if (fast != NULL) {
        if (af_unlikely(fast->closed | fast->debug) && af_loop_check_schedule(fast) < 0) {
            return -1;
        }
        PyObject *stack[2] = {func, arg};
        AfHandle *h = af_handle_new(fast, stack, arg == NULL ? 1 : 2, ctx);
        return h == NULL ? -1 : af_loop_push_steal(fast, h, AF_ENTRY_HANDLE);
    }
    return loop_call_by_name(st->str_call_soon, loop, func, arg, ctx, st);
}

AF_API int
af_loop_call_exception_handler(AfState *st, PyObject *loop, PyObject *context)
{
    if (st->hooks == NULL) {
        return 0;           /* the interpreter ends, and asyncio with it */
    }
    PyObject *res = PyObject_CallMethodOneArg(loop, st->str_call_exception_handler, context);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

/* ---- the current task ------------------------------------------------------------------------------------------- */

AF_API int
af_current_swap(AfState *st, PyObject *loop, PyObject *task, PyObject **prev)
{
#if AF_HAVE_SWAP_CURRENT_TASK
    PyObject *stack[2] = {loop, task == NULL ? Py_None : task};
    PyObject *res = st->swap_current_fast != NULL
        ? st->swap_current_fast(PyCFunction_GET_SELF(st->swap_current_task), stack, 2, NULL)
        : PyObject_Vectorcall(st->swap_current_task, stack, 2, NULL);
    if (res == NULL) {
        *prev = NULL;
        return -1;
    }
    if (res == Py_None) {
        Py_DECREF(res);
        res = NULL;
    }
    *prev = res;
    return 0;
#else
    *prev = Py_XNewRef(PyDict_GetItemWithError(st->current_tasks, loop));
    if (*prev == NULL && PyErr_Occurred()) {
        return -1;
    }
    int rc;
    if (task != NULL) {
        rc = PyDict_SetItem(st->current_tasks, loop, task);
    }
    else {
        rc = *prev == NULL ? 0 : PyDict_DelItem(st->current_tasks, loop);
    }
    if (rc < 0) {
        Py_CLEAR(*prev);
    }
    return rc;
#endif
}

AF_API int
af_loop_tell_current(AfLoop *loop, PyObject *task)
{
#if AF_HAVE_SWAP_CURRENT_TASK
    PyObject *prev;
    if (af_current_swap(loop->st, (PyObject *)loop, task, &prev) < 0) {
        return -1;
    }
    Py_XDECREF(prev);
#else
    if (task != NULL) {
        if (PyDict_SetItem(loop->st->current_tasks, (PyObject *)loop, task) < 0) {
            return -1;
        }
    }
    else if (PyDict_DelItem(loop->st->current_tasks, (PyObject *)loop) < 0) {
        PyErr_Clear();          /* somebody was faster */
    }
#endif
    loop->told_current = task;
    return 0;
}

/* ---- scheduling ------------------------------------------------------------------------------------------------- */

/* The arguments of call_soon() and its kin: [delay or when,] callback, *args, context=None. */
typedef struct {
    const char *method;         /* as asyncio names it in errors */
    const char *first;          /* "delay", "when" or NULL */
    PyObject *const *args;
    Py_ssize_t nargs;
    PyObject *context;
    PyObject *bound[2];         /* what was given by name, with what was not */
} loop_call;

static int
loop_bind_names(AfLoop *loop, loop_call *c, PyObject *kwnames)
{
    Py_ssize_t needed = c->first == NULL ? 1 : 2;
    int given = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(kwnames); i++) {
        PyObject *key = PyTuple_GET_ITEM(kwnames, i), *value = c->args[c->nargs + i];
        Py_ssize_t at = PyUnicode_CompareWithASCIIString(key, "callback") == 0 ? needed - 1
                      : c->first != NULL && PyUnicode_CompareWithASCIIString(key, c->first) == 0 ? 0 : -1;
        if (key == loop->st->str_context || PyUnicode_Compare(key, loop->st->str_context) == 0) {
            c->context = value;
        }
        else if (at < 0 || at < c->nargs) {
            PyErr_Format(PyExc_TypeError, at < 0 ? "%s() got an unexpected keyword argument '%U'"
                                                 : "%s() got multiple values for argument '%U'", c->method, key);
            return -1;
        }
        else {
            c->bound[at] = value;
            given = 1;
        }
    }
    if (given) {
        for (Py_ssize_t i = 0; i < c->nargs; i++) {
            c->bound[i] = c->args[i];           /* fewer than needed, or a name would have met a value */
        }
        c->args = c->bound;
        c->nargs = c->bound[0] != NULL && (needed == 1 || c->bound[1] != NULL) ? needed : c->bound[0] != NULL;
    }
    return 0;
}

static int
loop_parse_call(AfLoop *loop, loop_call *c, PyObject *kwnames)
{
    if (af_unlikely(kwnames != NULL) && loop_bind_names(loop, c, kwnames) < 0) {
        return -1;
    }
    Py_ssize_t needed = c->first == NULL ? 1 : 2;
    if (af_unlikely(c->nargs < needed)) {
        PyErr_Format(PyExc_TypeError, "%s() missing required positional argument: '%s'", c->method,
                     c->nargs + 1 == needed ? "callback" : c->first);
        return -1;
    }
    if (af_unlikely(c->first != NULL && c->args[0] == Py_None)) {
        PyErr_SetString(PyExc_TypeError, c->first[0] == 'd' ? "delay must not be None" : "when cannot be None");
        return -1;
    }
    if (af_likely(!(loop->closed | loop->debug))) {
        return 0;
    }
    int threadsafe = strcmp(c->method, "call_soon_threadsafe") == 0;
    if (af_loop_check_closed(loop) < 0 || (!threadsafe && loop_call_check(loop, "_check_thread", NULL, NULL) < 0)) {
        return -1;
    }
    /* asyncio's call_later() leaves the check to call_at() */
    return loop_call_check(loop, "_check_callback", c->args[needed - 1], c->first == NULL ? c->method : "call_at");
}

static PyObject *
loop_call_soon(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    loop_call c = {.method = "call_soon", .args = args, .nargs = nargs};
    if (loop_parse_call(loop, &c, kwnames) < 0) {
        return NULL;
    }
    AfHandle *h = af_handle_new(loop, c.args, c.nargs, c.context);
    if (h == NULL || af_loop_push_steal(loop, Py_NewRef((PyObject *)h), AF_ENTRY_HANDLE) < 0) {
        Py_XDECREF(h);
        return NULL;
    }
    return (PyObject *)h;
}

AF_API void
af_loop_wake(AfLoop *loop)
{
    if (loop->asleep && !loop->woken) {
        loop->woken = 1;
        af_poll_wake(&loop->poll);
    }
}

static PyObject *
loop_call_soon_threadsafe(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    loop_call c = {.method = "call_soon_threadsafe", .args = args, .nargs = nargs};
    if (loop_parse_call(loop, &c, kwnames) < 0) {
        return NULL;
    }
    AfHandle *h = af_handle_new_threadsafe(loop, c.args, c.nargs, c.context);
    int kind = AF_HAVE_THREADSAFE_HANDLE ? AF_ENTRY_THREADSAFE : AF_ENTRY_HANDLE;
    if (h == NULL || af_loop_push_steal(loop, Py_NewRef((PyObject *)h), kind) < 0) {
        Py_XDECREF(h);
        return NULL;
    }
    af_loop_wake(loop);
    return (PyObject *)h;
}

static PyObject *
loop_call_timer(AfLoop *loop, double when, PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    AfTimerHandle *h = af_timer_handle_new(loop, when, args, nargs, context);
    if (h == NULL || af_loop_arm(loop, &h->timer, when) < 0) {
        Py_XDECREF(h);
        return NULL;
    }
    af_timer_handle_settle(loop, h);
    return Py_NewRef((PyObject *)h);        /* the timer keeps the first reference */
}

static PyObject *
loop_call_later(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (af_unlikely(loop->custom_at)) {
        return af_loop_inherited(loop, "call_later", args, nargs, kwnames);
    }
    loop_call c = {.method = "call_later", .first = "delay", .args = args, .nargs = nargs};
    if (loop_parse_call(loop, &c, kwnames) < 0) {
        return NULL;
    }
    double now, when;
    if (loop_now(loop, &now) < 0) {
        return NULL;
    }
    if (af_likely(PyFloat_CheckExact(c.args[0]))) {
        when = now + PyFloat_AS_DOUBLE(c.args[0]);
    }
    else {
        /* whatever can be added to a float, with the error that this gives */
        PyObject *base = PyFloat_FromDouble(now);
        PyObject *sum = base == NULL ? NULL : PyNumber_Add(base, c.args[0]);
        when = sum == NULL ? -1.0 : PyFloat_AsDouble(sum);
        Py_XDECREF(base);
        Py_XDECREF(sum);
        if (when == -1.0 && PyErr_Occurred()) {
            return NULL;
        }
    }
    return loop_call_timer(loop, when, c.args + 1, c.nargs - 1, c.context);
}

static PyObject *
loop_call_at(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    loop_call c = {.method = "call_at", .first = "when", .args = args, .nargs = nargs};
    if (loop_parse_call(loop, &c, kwnames) < 0) {
        return NULL;
    }
    double when = PyFloat_AsDouble(c.args[0]);
    if (when == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    PyObject *handle = loop_call_timer(loop, when, c.args + 1, c.nargs - 1, c.context);
    if (handle != NULL && PyLong_CheckExact(c.args[0]) && fabs(when) < 0x1p53) {
        ((AfHandle *)handle)->whole = 1;
    }
    return handle;
}

static PyObject *
loop_time(AfLoop *Py_UNUSED(loop), PyObject *Py_UNUSED(ignored))
{
    return PyFloat_FromDouble((double)af_clock_ns() / 1e9);
}

/* What inherited code hands over: our handles or asyncio's. */
static PyObject *
loop_add_callback(AfLoop *loop, PyObject *handle)
{
    int kind = Py_TYPE(handle) == loop->st->HandleType || Py_TYPE(handle) == loop->st->TimerHandleType
        ? AF_ENTRY_HANDLE : AF_ENTRY_FOREIGN;
    return af_loop_push_steal(loop, Py_NewRef(handle), kind) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
loop_add_callback_signalsafe(AfLoop *loop, PyObject *handle)
{
    PyObject *res = loop_add_callback(loop, handle);
    af_loop_wake(loop);
    return res;
}

static PyObject *
loop_write_to_self(AfLoop *loop, PyObject *Py_UNUSED(ignored))
{
    af_loop_wake(loop);
    Py_RETURN_NONE;
}

/* ---- futures and tasks ------------------------------------------------------------------------------------------ */

static PyObject *
loop_create_future(AfLoop *loop, PyObject *Py_UNUSED(ignored))
{
    return af_future_new(loop);
}

AF_API PyObject *
af_loop_inherited(AfLoop *loop, const char *name, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *func = af_get_attr(loop->st->hooks, name);
    if (func == NULL) {
        return NULL;
    }
    Py_ssize_t n = nargs + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    PyObject *res = NULL;
    PyObject **stack = PyMem_New(PyObject *, n + 1);
    if (stack == NULL) {
        PyErr_NoMemory();
    }
    else {
        stack[0] = (PyObject *)loop;
        if (n > 0) {
            memcpy(stack + 1, args, (size_t)n * sizeof(*args));
        }
        res = PyObject_Vectorcall(func, stack, (size_t)nargs + 1, kwnames);
        PyMem_Free(stack);
    }
    Py_DECREF(func);
    return res;
}

/* Anything but our own Task with the usual arguments: the running Python's own code says what happens. */
static PyObject *
loop_create_task_inherited(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return af_loop_inherited(loop, "create_task", args, nargs, kwnames);
}

static PyObject *
loop_create_task(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *coro = nargs == 1 ? args[0] : NULL, *name = NULL, *context = NULL;
    int eager = 0;
    if (af_unlikely(loop->task_factory != NULL)) {
        if (loop->task_factory != loop->st->eager_task_factory) {
            return loop_create_task_inherited(loop, args, nargs, kwnames);
        }
        eager = 1;
    }
    if (af_loop_check_closed(loop) < 0) {
        return NULL;
    }
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < nkw; i++) {
        PyObject *key = PyTuple_GET_ITEM(kwnames, i);
        if (key == loop->st->str_name) {
            name = args[nargs + i];
        }
        else if (key == loop->st->str_context) {
            context = args[nargs + i];
        }
        else if (key == loop->st->str_eager_start && loop->st->create_task_takes_eager) {
            if (args[nargs + i] != Py_None) {
                eager = PyObject_IsTrue(args[nargs + i]);
                if (eager < 0) {
                    return NULL;
                }
            }
        }
        else if (nargs == 0 && PyUnicode_CompareWithASCIIString(key, "coro") == 0) {
            coro = args[nargs + i];
        }
        else {
            return loop_create_task_inherited(loop, args, nargs, kwnames);
        }
    }
    if (af_unlikely(coro == NULL)) {
        return loop_create_task_inherited(loop, args, nargs, kwnames);      /* which says what is wrong */
    }
    return af_task_new(loop, coro, name, context, eager);
}

/* ---- one turn --------------------------------------------------------------------------------------------------- */

static int
loop_holds_long(const AfLoop *loop)
{
    int64_t held = loop->polled_at - loop->released_at;
    if (held <= LOOP_HOLD_NS) {
        return 0;
    }
    PyObject *get = PySys_GetObject("getswitchinterval");
    PyObject *interval = get ? PyObject_CallNoArgs(get) : NULL;
    double seconds = interval ? PyFloat_AsDouble(interval) : -1.0;
    Py_XDECREF(interval);
    if (seconds < 0.0 && PyErr_Occurred()) {
        return -1;
    }
    return (double)held > LOOP_HOLD_INTERVALS * 1e9 * seconds;
}

/* Wait up to timeout (ns; 0: not, < 0: for ever) and put the handles of what is ready on the ring.  Returns how many
   events there were, or -1.  Asking again before their callbacks have run would only bring the same ones back. */
static int
loop_poll(AfLoop *loop, int64_t timeout)
{
    af_event events[AF_POLL_BATCH];
    int release = timeout != 0 ? 1 : loop_holds_long(loop);
    if (release < 0) {
        return -1;
    }
    int n;
    if (release) {
        if (af_loop_no_current(loop) < 0) {
            return -1;
        }
        loop->asleep = timeout != 0;
        Py_BEGIN_ALLOW_THREADS
        n = af_busy_wait(&loop->busy, &loop->poll, events, timeout);
        Py_END_ALLOW_THREADS
        loop->asleep = loop->woken = 0;
        loop->released_at = loop->polled_at;
    }
    else {
        n = af_poll_wait(&loop->poll, events, 0);
    }
    if (n < 0) {
        return n == -EINTR ? 0 : af_loop_oserror(n);
    }
    return af_watch_dispatch(loop, events, n) < 0 ? -1 : n;
}

/* How many events the next poll may ask for, after one that brought n: what they bring for tasks has to stay in the caches. */
static int
loop_batch(const AfLoop *loop, int n)
{
    int most = loop->batch;
    if (af_unlikely(loop->unread > LOOP_UNREAD_BYTES)) {
        most = (int)((size_t)n * LOOP_UNREAD_BYTES / loop->unread);
        return most < LOOP_UNREAD_LEAST ? LOOP_UNREAD_LEAST : most;
    }
    if (n == most && loop->unread <= LOOP_UNREAD_BYTES / 2) {
        most *= 2;              /* so many were there, and little came of them */
    }
    return most < AF_POLL_BATCH ? most : AF_POLL_BATCH;
}

static int
loop_share(const AfLoop *loop)
{
    int share = loop->watching / LOOP_SHARE;
    return share < LOOP_SHARE_LEAST ? LOOP_SHARE_LEAST : share;
}

/* Poll: until the first deadline if there is nothing to run, just a look if there is. */
static int
loop_wait(AfLoop *loop)
{
    int64_t timeout = 0;
    if (af_ring_len(&loop->ready) == 0 && !loop->stopping) {
        if (af_heap_len(&loop->timers) == 0) {
            timeout = -1;
        }
        else {
            double now;
            if (loop_now(loop, &now) < 0) {
                return -1;
            }
            timeout = af_heap_is_due(&loop->timers, loop_key(now))
                    ? 0 : loop_wait_ns(loop_key_seconds(af_heap_next(&loop->timers)) - now);
        }
    }
    loop->batch = loop_batch(loop, loop->polled);
    int share = loop_share(loop);
    loop->poll.most = loop->batch < share ? loop->batch : share;
    loop->unread = 0;
    int n = loop->polled = loop_poll(loop, timeout);
    loop->vain_polls = n == 0 && timeout == 0 ? loop->vain_polls + 1 : 0;
    loop->polled_at = af_clock_ns();
    loop->polled_ticks = af_ticks();
    loop->since_poll = 0;
    if (n == loop->poll.most) {     /* a full array: there are more */
        af_loop_poll_next(loop);
    }
    /* a signal may be what woke us, and its Python handler has to run before we go back to sleep */
    return n < 0 || PyErr_CheckSignals() < 0 ? -1 : 0;
}

/* Its owner goes to the ring; the reference the timer held goes along. */
static inline int
loop_fire(AfLoop *loop, af_timer *t)
{
    return t->kind == AF_TIMER_SLEEP ? af_sleep_fire(af_container_of(t, AfSleep, timer))
                                     : af_loop_push_steal(loop, af_handle_of_timer(t), AF_ENTRY_HANDLE);
}

static int
loop_fire_timers(AfLoop *loop)
{
    double seconds;
    if (loop_now(loop, &seconds) < 0) {
        return -1;
    }
    int64_t now = loop_key(seconds);
    size_t n = 0;
    const af_heap_slot *all = loop->debug ? NULL : af_heap_take_due(&loop->timers, now, &n);
    for (size_t i = 0; i < n; i++) {
        if (i + LOOP_AHEAD < n) {
            __builtin_prefetch(all[i + LOOP_AHEAD].timer, 1);
        }
        all[i].timer->pos = 0;
    }
    int rc = 0;
    for (size_t i = 0; i < n; i++) {
        rc |= loop_fire(loop, all[i].timer);        /* out of memory: each gives up its reference all the same */
    }
    af_timer *t;
    while (rc == 0 && (t = af_heap_pop_due(&loop->timers, now)) != NULL) {
        rc = loop_fire(loop, t);
    }
    return rc;
}

static int
loop_run_foreign(PyObject *handle)
{
    PyObject *cancelled = af_get_attr(handle, "_cancelled");
    int skip = cancelled == NULL ? -1 : PyObject_IsTrue(cancelled);
    Py_XDECREF(cancelled);
    if (skip != 0) {
        return skip < 0 ? -1 : 0;
    }
    PyObject *res = af_call_method(handle, "_run", NULL);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

static inline int
loop_run_entry(AfLoop *loop, PyObject *obj, int kind)
{
    if (kind == AF_ENTRY_TASK) {
        return af_task_step((AfTask *)obj);
    }
    if (kind == AF_ENTRY_READ || kind == AF_ENTRY_WRITE) {
        return af_io_run((AfIo *)obj, kind == AF_ENTRY_READ ? AF_READ : AF_WRITE);
    }
    if (af_unlikely(af_loop_no_current(loop) < 0)) {
        return -1;
    }
    switch (kind) {
    case AF_ENTRY_HANDLE:
        return af_handle_run((AfHandle *)obj);
    case AF_ENTRY_WAKE:
        return af_op_wake((AfOp *)obj);
    case AF_ENTRY_THREADSAFE:
        return af_handle_run_threadsafe((AfHandle *)obj);
    default:
        return loop_run_foreign(obj);
    }
}

/* Debug mode: note what runs, and complain if it takes long. */
static int
loop_run_entry_debug(AfLoop *loop, PyObject *obj, int kind)
{
    if (kind == AF_ENTRY_HANDLE || kind == AF_ENTRY_THREADSAFE || kind == AF_ENTRY_FOREIGN) {
        Py_XSETREF(loop->current_handle, Py_NewRef(obj));   /* asyncio asks it where it was made; nothing else can say */
    }
    int64_t start = af_clock_ns();
    int rc = loop_run_entry(loop, obj, kind);
    double took = (double)(af_clock_ns() - start) / 1e9;
    Py_CLEAR(loop->current_handle);
    if (rc == 0 && took >= loop->slow_callback_duration) {
        rc = af_call_hook(loop->st, "slow_callback", "Od", obj, took);
    }
    return rc;
}

/* May what is held back wait for more of this turn's entries? */
static int
loop_in_burst(AfLoop *loop)
{
    if (loop->burst_since == 0) {
        return 0;
    }
    uint64_t now = af_ticks();
    if (now - loop->burst_since < LOOP_BURST_TICKS && loop->held_bytes < LOOP_BURST_BYTES) {
        return 1;
    }
    loop->burst_since = now;
    return 0;
}

/* After an entry, or the last one of a turn, which returned rc and may have raised. */
static int
loop_flush_held(AfLoop *loop, int rc)
{
    PyObject *raised = PyErr_GetRaisedException();
    loop->held_bytes = 0;
    if (af_io_flush_held(loop) < 0) {
        rc = -1;
    }
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
    return rc;
}

/* One entry, whose reference is taken. */
static inline int
loop_run_steal(AfLoop *loop, PyObject *obj, int kind)
{
    loop->in_entry = 1;
    int rc = af_likely(!loop->debug) ? loop_run_entry(loop, obj, kind) : loop_run_entry_debug(loop, obj, kind);
    loop->in_entry = 0;
    if (af_unlikely(loop->held != NULL) && !loop_in_burst(loop)) {
        rc = loop_flush_held(loop, rc);
    }
    if (Py_REFCNT(obj) > 1 && (kind == AF_ENTRY_HANDLE || kind == AF_ENTRY_THREADSAFE)) {
        af_handle_outlives((AfHandle *)obj);
    }
    Py_DECREF(obj);
    return rc;
}

/* The task that the entry has left to be stepped next; it may leave another. */
static int
loop_run_next_tasks(AfLoop *loop, int rc)
{
    while (loop->next_task != NULL) {
        PyObject *task = loop->next_task;
        loop->next_task = NULL;
        if (af_unlikely(rc < 0)) {
            /* the run ends here: the task's turn comes in the next one */
            PyObject *raised = PyErr_GetRaisedException();
            (void)af_loop_push_steal(loop, task, AF_ENTRY_TASK);
            PyErr_SetRaisedException(raised);
            return rc;
        }
        rc = loop_run_steal(loop, task, AF_ENTRY_TASK);
    }
    return rc;
}

static int
loop_run_entries(AfLoop *loop, size_t todo)
{
    for (; todo > 0; todo--) {
        if (af_unlikely(--loop->signal_check == 0)) {
            loop->signal_check = LOOP_SIGNAL_STEP;
            if (PyErr_CheckSignals() < 0) {
                return -1;
            }
            if (todo > af_ring_len(&loop->ready)) {     /* a turn within the last entry has run them */
                todo = af_ring_len(&loop->ready);
                if (todo == 0) {
                    break;
                }
            }
        }
        if (todo > LOOP_AHEAD) {
            const char *later = (const char *)(af_ring_at(&loop->ready, LOOP_AHEAD) & ~(uintptr_t)AF_ENTRY_BITS);
            __builtin_prefetch(later, 1);
            __builtin_prefetch(later + 64, 1);
        }
        uintptr_t entry = af_ring_pop(&loop->ready);
        PyObject *obj = (PyObject *)(entry & ~(uintptr_t)AF_ENTRY_BITS);
        int kind = (int)(entry & AF_ENTRY_BITS);
        int rc = loop_run_steal(loop, obj, kind);
        if (loop->next_task != NULL) {
            rc = loop_run_next_tasks(loop, rc);
        }
        if (af_unlikely(rc < 0)) {
            return -1;
        }
    }
    return 0;
}

static int
loop_run_ready(AfLoop *loop)
{
    size_t todo = af_ring_len(&loop->ready);
    loop->since_poll += (unsigned)todo;
    loop->turns++;
    loop->burst_since = todo >= LOOP_BURST_LEAST ? af_ticks() : 0;
    int rc = loop_run_entries(loop, todo);
    loop->burst_since = 0;
    return loop->held == NULL ? rc : loop_flush_held(loop, rc);
}

static inline int
loop_has_to_poll(const AfLoop *loop)
{
    return af_ring_len(&loop->ready) == 0 || loop->since_poll >= AF_LOOP_POLL_MOST ||
           (loop->watching > 0 && loop->vain_polls < AF_LOOP_VAIN_POLLS) ||
           af_ticks() - loop->polled_ticks >= AF_TICKS_SHORT;
}

static int
loop_turn(AfLoop *loop)
{
    if (loop_has_to_poll(loop) && loop_wait(loop) < 0) {
        return -1;
    }
    if (af_heap_len(&loop->timers) > 0 && loop_fire_timers(loop) < 0) {
        return -1;
    }
    int rc = loop_run_ready(loop);
    AF_ASSERT(af_heap_check(&loop->timers));
    return rc;
}

/* What an entry is in the middle of, while a turn runs within it: some programs change the loop so that it can. */
typedef struct {
    PyObject *current;
    struct AfTask *stepping;
    af_context_aside context;
    char in_entry;
} loop_aside;

static int
loop_set_aside(AfLoop *loop, loop_aside *aside)
{
    *aside = (loop_aside){Py_XNewRef(loop->told_current), loop->stepping, af_context_set_aside(loop), loop->in_entry};
    loop->st->stepping = NULL;
    loop->stepping = NULL;
    loop->in_entry = 0;
    if (loop->next_task != NULL) {      /* what the entry has left for its end comes now */
        PyObject *task = loop->next_task;
        loop->next_task = NULL;
        if (af_loop_push_steal(loop, task, AF_ENTRY_TASK) < 0) {
            return -1;
        }
    }
    return loop->held == NULL ? 0 : loop_flush_held(loop, 0);
}

static void
loop_take_back(AfLoop *loop, loop_aside *aside)
{
    af_context_take_back(loop, aside->context);
    loop->stepping = aside->stepping;
    loop->st->stepping = aside->stepping == NULL ? NULL : loop;
    loop->in_entry = aside->in_entry;
    loop->signal_check = 1;         /* the turn around this one counts anew what is left for it */
    if (loop->told_current != aside->current) {
        PyObject *raised = PyErr_GetRaisedException();
        if (af_loop_tell_current(loop, aside->current) < 0) {
            PyErr_WriteUnraisable((PyObject *)loop);
        }
        if (raised != NULL) {
            PyErr_SetRaisedException(raised);
        }
    }
    Py_XDECREF(aside->current);
}

static PyObject *
loop_run(AfLoop *loop, PyObject *Py_UNUSED(ignored))
{
    af_awaitval_mark mark;
    loop_aside aside;
    af_awaitval_enter(loop->st, loop->await_values, &mark);
    af_loop_poll_next(loop);        /* programs count on stop(); run_forever() */
    loop->signal_check = LOOP_SIGNAL_STEP;
    if (loop->busy.thread != loop->thread) {
        af_busy_init(&loop->busy, loop->thread);
    }
    Py_INCREF(loop);
    int rc = loop_set_aside(loop, &aside);
    while (rc == 0) {
        rc = loop_turn(loop);
        if (loop->stopping) {
            break;
        }
    }
    loop_take_back(loop, &aside);
    af_awaitval_leave(&mark);
    Py_DECREF(loop);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
loop_run_once(AfLoop *loop, PyObject *Py_UNUSED(ignored))
{
    loop_aside aside;
    int rc = loop_set_aside(loop, &aside);
    if (rc == 0) {
        rc = af_loop_no_current(loop);
    }
    if (rc == 0) {
        rc = loop_turn(loop);
    }
    loop_take_back(loop, &aside);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
loop_stop(AfLoop *loop, PyObject *Py_UNUSED(ignored))
{
    loop->stopping = 1;
    Py_RETURN_NONE;
}

/* ---- attributes that the inherited Python reads and writes -------------------------------------------------------- */

static PyObject *
loop_is_running(AfLoop *loop, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(loop->thread != 0);
}

static PyObject *
loop_is_closed(AfLoop *loop, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(loop->closed);
}

static PyObject *
loop_get_debug(AfLoop *loop, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(loop->debug);
}

static PyObject *
loop_check_closed_method(AfLoop *loop, PyObject *Py_UNUSED(ignored))
{
    return af_loop_check_closed(loop) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
loop_get_flag(AfLoop *loop, void *offset)
{
    return PyBool_FromLong(*((char *)loop + (intptr_t)offset));
}

static int
loop_set_flag(AfLoop *loop, PyObject *value, void *offset)
{
    int truth = value == NULL ? 0 : PyObject_IsTrue(value);
    if (truth < 0) {
        return -1;
    }
    *((char *)loop + (intptr_t)offset) = (char)truth;
    return 0;
}

static PyObject *
loop_get_object(AfLoop *loop, void *offset)
{
    PyObject *value = *(PyObject **)((char *)loop + (intptr_t)offset);
    return Py_NewRef(value == NULL ? Py_None : value);
}

static int
loop_set_object(AfLoop *loop, PyObject *value, void *offset)
{
    PyObject **slot = (PyObject **)((char *)loop + (intptr_t)offset);
    PyObject *old = *slot;
    *slot = value == NULL || value == Py_None ? NULL : Py_NewRef(value);
    Py_XDECREF(old);
    return 0;
}

static PyObject *
loop_get_thread_id(AfLoop *loop, void *Py_UNUSED(closure))
{
    return loop->thread == 0 ? Py_NewRef(Py_None) : PyLong_FromUnsignedLong(loop->thread);
}

static int
loop_set_thread_id(AfLoop *loop, PyObject *value, void *Py_UNUSED(closure))
{
    unsigned long thread = 0;
    if (value != NULL && value != Py_None) {
        thread = PyLong_AsUnsignedLong(value);
        if (thread == (unsigned long)-1 && PyErr_Occurred()) {
            return -1;
        }
    }
    loop->thread = thread;
    return 0;
}

static PyObject *
loop_get_backend(AfLoop *Py_UNUSED(loop), void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(af_poll_name());
}

static PyObject *
loop_get_timer_backend(AfLoop *loop, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(af_poll_timer_name(&loop->poll));
}

/* An instance may get a call_soon, a call_at or a time of its own (tests, instrumentation): then ours is no longer taken
   for granted. */
static int
loop_tp_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    AfLoop *loop = (AfLoop *)self;
    if (PyUnicode_CompareWithASCIIString(name, "call_soon") == 0) {
        loop->fast_soon = 0;
    }
    else if (PyUnicode_CompareWithASCIIString(name, "call_at") == 0) {
        loop->custom_at = 1;
    }
    else if (PyUnicode_CompareWithASCIIString(name, "time") == 0) {
        loop->custom_time = 1;
    }
    return PyObject_GenericSetAttr(self, name, value);
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

/* 1 if the class has this method from us, 0 if a subclass replaced it. */
static int
loop_method_is_ours(AfLoop *loop, const char *name)
{
    PyObject *mine = af_get_attr((PyObject *)loop->st->LoopType, name);
    PyObject *its = mine == NULL ? NULL : af_get_attr((PyObject *)Py_TYPE(loop), name);
    int same = its == NULL ? -1 : mine == its;
    Py_XDECREF(mine);
    Py_XDECREF(its);
    return same;
}

static PyObject *
loop_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    AfLoop *loop = (AfLoop *)type->tp_alloc(type, 0);
    if (loop == NULL) {
        return NULL;
    }
    AfState *st = af_state_of_type(type);
    loop->st = st;
    loop->module = Py_NewRef(((PyHeapTypeObject *)st->LoopType)->ht_module);
    loop->poll.fd = loop->poll.wake_fd = loop->poll.timer_fd = -1;
    loop->slow_callback_duration = 0.1;
    af_heap_init(&loop->timers);
    af_list_init(&loop->tasks);
    af_list_append(&st->loops, &loop->link);
    int soon = loop_method_is_ours(loop, "call_soon"), at = loop_method_is_ours(loop, "call_at");
    int time = loop_method_is_ours(loop, "time");
    if (soon < 0 || at < 0 || time < 0) {
        Py_DECREF(loop);
        return NULL;
    }
    loop->fast_soon = (char)soon;
    loop->custom_at = !at;
    loop->custom_time = !time;
    loop->batch = AF_POLL_BATCH;
    loop->busy.on = 1;
    int rc = af_ring_init(&loop->ready);
    if (rc == 0) {
        rc = af_poll_open(&loop->poll);
    }
    if (rc < 0) {
        Py_DECREF(loop);
        af_loop_oserror(rc);
        return NULL;
    }
    return (PyObject *)loop;
}

static int
loop_tp_traverse(AfLoop *loop, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(loop));
    for (size_t i = 0; i < af_ring_len(&loop->ready); i++) {
        uintptr_t entry = af_ring_at(&loop->ready, i);
        PyObject *obj = (PyObject *)(entry & ~(uintptr_t)AF_ENTRY_BITS);
        int kind = (int)(entry & AF_ENTRY_BITS), rc = 0;
        if (kind == AF_ENTRY_HANDLE || kind == AF_ENTRY_THREADSAFE) {
            rc = af_handle_visit((AfHandle *)obj, visit, arg);
        }
        else {
            Py_VISIT(obj);
        }
        if (rc != 0) {
            return rc;
        }
    }
    for (int pass = 0; pass < 2; pass++) {
        const af_heap_slot *slots = pass ? loop->timers.staged : loop->timers.heap;
        size_t n = pass ? loop->timers.nstaged : loop->timers.nheap;
        for (size_t i = 0; i < n; i++) {
            af_timer *t = slots[i].timer;
            if (t->kind == AF_TIMER_HANDLE) {
                int rc = af_handle_visit(af_handle_of_timer(t), visit, arg);
                if (rc != 0) {
                    return rc;
                }
            }
            else if (af_container_of(t, AfSleep, timer)->park.held) {
                Py_VISIT((PyObject *)af_container_of(t, AfSleep, timer));
            }
        }
    }
    for (af_link *l = loop->tasks.next; l != NULL && l != &loop->tasks; l = l->next) {
        AfTask *t = af_container_of(l, AfTask, link);
        if (t->fut.owned) {
            Py_VISIT((PyObject *)t);
        }
    }
    int rc = af_watch_visit(loop, visit, arg);
    if (rc != 0) {
        return rc;
    }
    Py_VISIT(loop->module);
    Py_VISIT(loop->pristine);
    Py_VISIT(loop->runner);
    Py_VISIT(loop->task_factory);
    Py_VISIT(loop->current_handle);
    Py_VISIT(loop->next_task);
    Py_VISIT(loop->asyncgens.set);
    return 0;
}

/* Let go of everything: close(), and the collector.  Dropping references may run Python, which finds a closed loop. */
static void
loop_empty(AfLoop *loop)
{
    loop->closed = 1;
    while (loop->ready.slots != NULL && af_ring_len(&loop->ready) > 0) {
        Py_DECREF((PyObject *)(af_ring_pop(&loop->ready) & ~(uintptr_t)AF_ENTRY_BITS));
    }
    Py_CLEAR(loop->next_task);
    af_timer *t;
    while ((t = af_heap_any(&loop->timers)) != NULL) {
        if (t->kind == AF_TIMER_SLEEP) {
            af_park_forget(&af_container_of(t, AfSleep, timer)->park);
        }
        else {
            af_heap_disarm(&loop->timers, t);
            Py_DECREF(af_handle_of_timer(t));
        }
    }
    af_watch_forget_all(loop);
    af_poll_close(&loop->poll);
    af_task_disown_all(loop);
    Py_CLEAR(loop->pristine);
    Py_CLEAR(loop->runner);
    Py_CLEAR(loop->read_buffer);
    while (loop->nspares > 0) {
        Py_DECREF(loop->spares[--loop->nspares]);
    }
    free(loop->room);
    loop->room = NULL;
}

static PyObject *
loop_shutdown(AfLoop *loop, PyObject *Py_UNUSED(ignored))
{
    loop_empty(loop);
    Py_RETURN_NONE;
}

static int
loop_tp_clear(AfLoop *loop)
{
    loop_empty(loop);
    Py_CLEAR(loop->task_factory);
    Py_CLEAR(loop->current_handle);
    Py_CLEAR(loop->asyncgens.set);
    return 0;
}

static void
loop_tp_dealloc(AfLoop *loop)
{
    PyTypeObject *type = Py_TYPE(loop);
    PyObject_GC_UnTrack(loop);
    loop_tp_clear(loop);
    /* tasks hold their loop, so none is left in the list */
    af_ring_fini(&loop->ready);
    af_heap_fini(&loop->timers);
    PyMem_Free(loop->watches);
    af_asyncgens_forget(loop);
    if (af_list_linked(&loop->link)) {
        af_list_remove(&loop->link);
    }
    Py_CLEAR(loop->module);
    type->tp_free(loop);
    Py_DECREF(type);
}

/* Before a fork: what is held back would be sent by the parent and by the child. */
static PyObject *
loop_before_fork(AfLoop *loop, PyObject *Py_UNUSED(ignored))
{
    return af_io_flush_held(loop) < 0 ? NULL : Py_NewRef(Py_None);
}

/* In the child of a fork the poller's descriptors are the parent's: leave its epoll set alone and make our own, with
   every watched fd in it. */
static PyObject *
loop_after_fork(AfLoop *loop, PyObject *Py_UNUSED(ignored))
{
    if (loop->closed) {
        Py_RETURN_NONE;
    }
    af_poll_close(&loop->poll);
    int rc = af_poll_open(&loop->poll);
    if (rc < 0) {
        af_loop_oserror(rc);
        return NULL;
    }
    loop->asleep = loop->woken = 0;
    af_watch_again_all(loop);
    Py_RETURN_NONE;
}

#define LOOP_KW METH_FASTCALL | METH_KEYWORDS
#define LOOP_F(f) (PyCFunction)(void (*)(void))(f)

static PyMethodDef loop_methods[] = {
    {"call_soon", LOOP_F(loop_call_soon), LOOP_KW,
     "call_soon($self, callback, *args, context=None)\n--\n\n"
     "Call callback(*args) in the next turn of the loop; return its Handle."},
    {"call_soon_threadsafe", LOOP_F(loop_call_soon_threadsafe), LOOP_KW,
     "call_soon_threadsafe($self, callback, *args, context=None)\n--\n\ncall_soon() that any thread may use."},
    {"call_later", LOOP_F(loop_call_later), LOOP_KW,
     "call_later($self, delay, callback, *args, context=None)\n--\n\n"
     "Call callback(*args) after delay seconds, never earlier; return its TimerHandle."},
    {"call_at", LOOP_F(loop_call_at), LOOP_KW,
     "call_at($self, when, callback, *args, context=None)\n--\n\n"
     "Call callback(*args) when time() has reached when (seconds); return its TimerHandle."},
    {"time", (PyCFunction)loop_time, METH_NOARGS,
     "time($self, /)\n--\n\nReturn the loop's clock in seconds: the monotonic clock, in nanosecond resolution."},
    {"create_future", (PyCFunction)loop_create_future, METH_NOARGS,
     "create_future($self, /)\n--\n\nReturn a new Future of this loop."},
    {"create_task", LOOP_F(loop_create_task), LOOP_KW,
     AF_CREATE_TASK_SIGNATURE
     "Schedule a coroutine; return its Task.  name, context and, where asyncio has it, eager_start."},
    {"stop", (PyCFunction)loop_stop, METH_NOARGS,
     "stop($self, /)\n--\n\nMake run_forever() return at the end of the present turn."},
    {"is_running", (PyCFunction)loop_is_running, METH_NOARGS,
     "is_running($self, /)\n--\n\nReturn True while it runs."},
    {"is_closed", (PyCFunction)loop_is_closed, METH_NOARGS, "is_closed($self, /)\n--\n\nReturn True once closed."},
    {"get_debug", (PyCFunction)loop_get_debug, METH_NOARGS, "get_debug($self, /)\n--\n\nReturn the debug mode."},
    {"_run", (PyCFunction)loop_run, METH_NOARGS, "_run($self, /)\n--\n\nTurn until stopped."},
    {"_run_once", (PyCFunction)loop_run_once, METH_NOARGS, "_run_once($self, /)\n--\n\nOne turn."},
    {"_shutdown", (PyCFunction)loop_shutdown, METH_NOARGS, "_shutdown($self, /)\n--\n\nThe C part of close()."},
    {"_before_fork", (PyCFunction)loop_before_fork, METH_NOARGS,
     "_before_fork($self, /)\n--\n\nIn the loop's thread: send what is held back."},
    {"_after_fork", (PyCFunction)loop_after_fork, METH_NOARGS,
     "_after_fork($self, /)\n--\n\nIn a forked child: stop sharing the parent's poller."},
    {"_check_closed", (PyCFunction)loop_check_closed_method, METH_NOARGS,
     "_check_closed($self, /)\n--\n\nRaise RuntimeError if closed."},
    {"_add_callback", (PyCFunction)loop_add_callback, METH_O, "_add_callback($self, handle, /)\n--\n\nMake it ready."},
    {"_add_callback_signalsafe", (PyCFunction)loop_add_callback_signalsafe, METH_O,
     "_add_callback_signalsafe($self, handle, /)\n--\n\nMake it ready, and wake the loop."},
    {"_write_to_self", (PyCFunction)loop_write_to_self, METH_NOARGS, "_write_to_self($self, /)\n--\n\nWake the loop."},
    {"_add_reader", LOOP_F(af_watch_add_reader), LOOP_KW,
     "_add_reader($self, fd, callback, /, *args, context=None)\n--\n\nCall callback(*args) when fd is readable."},
    {"_add_writer", LOOP_F(af_watch_add_writer), LOOP_KW,
     "_add_writer($self, fd, callback, /, *args, context=None)\n--\n\nCall callback(*args) when fd is writable."},
    {"_remove_reader", (PyCFunction)af_watch_remove_reader, METH_O,
     "_remove_reader($self, fd, /)\n--\n\nReturn True if there was a reader."},
    {"_watched", (PyCFunction)af_watch_bits, METH_O,
     "_watched($self, fd, /)\n--\n\nReturn what fd is watched for: 1 reading, 2 writing, 3 both, 0 neither."},
    {"_owner", (PyCFunction)af_watch_owner, METH_O,
     "_owner($self, fd, /)\n--\n\nReturn the transport that owns fd, or None."},
    {"_asyncgen_firstiter_hook", (PyCFunction)af_asyncgens_firstiter, METH_O,
     "_asyncgen_firstiter_hook($self, agen, /)\n--\n\nAn asynchronous generator is iterated for the first time."},
    {"_asyncgen_finalizer_hook", (PyCFunction)af_asyncgens_finalizer, METH_O,
     "_asyncgen_finalizer_hook($self, agen, /)\n--\n\nOne was dropped before its end: have a task close it."},
    {"shutdown_asyncgens", (PyCFunction)af_asyncgens_shutdown, METH_NOARGS,
     "shutdown_asyncgens($self, /)\n--\n\n"
     "Close the asynchronous generators that were iterated on this loop and have not ended.  A coroutine.\n\n"
     "What they raise in that goes to the exception handler.  Those iterated for the first time from then on are warned\n"
     "about (ResourceWarning)."},
    {"_remove_writer", (PyCFunction)af_watch_remove_writer, METH_O,
     "_remove_writer($self, fd, /)\n--\n\nReturn True if there was a writer."},
    {NULL, NULL, 0, NULL},
};

#define LOOP_AT(field) (void *)offsetof(AfLoop, field)

static PyGetSetDef loop_getset[] = {
    {"_closed", (getter)loop_get_flag, (setter)loop_set_flag, "True once closed.", LOOP_AT(closed)},
    {"_stopping", (getter)loop_get_flag, (setter)loop_set_flag, "True from stop() on.", LOOP_AT(stopping)},
    {"_debug", (getter)loop_get_flag, (setter)loop_set_flag, "The debug mode.", LOOP_AT(debug)},
    {"_await_values", (getter)loop_get_flag, (setter)loop_set_flag, "Whether plain values may be awaited.",
     LOOP_AT(await_values)},
    {"_busy_poll", (getter)loop_get_flag, (setter)loop_set_flag, "Whether short waits may look instead of sleeping.",
     LOOP_AT(busy.on)},
    {"_asyncgens", (getter)af_asyncgens_get, (setter)af_asyncgens_set,
     "The asynchronous generators that were iterated and have not ended, a weakref.WeakSet.", NULL},
    {"_asyncgens_shutdown_called", (getter)loop_get_flag, (setter)loop_set_flag,
     "True once shutdown_asyncgens() has run.", LOOP_AT(asyncgens.shutdown)},
    {"_thread_id", (getter)loop_get_thread_id, (setter)loop_set_thread_id, "Ident of the thread that runs it, or None.",
     NULL},
    {"_task_factory", (getter)loop_get_object, (setter)loop_set_object, "The task factory, or None.",
     LOOP_AT(task_factory)},
    {"_current_handle", (getter)loop_get_object, (setter)loop_set_object, "Debug mode: the handle that runs, or None.",
     LOOP_AT(current_handle)},
    {"backend", (getter)loop_get_backend, NULL, "Name of the poller in use.", NULL},
    {"timer_backend", (getter)loop_get_timer_backend, NULL, "What waits for timers: epoll_pwait2 or timerfd.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef loop_members[] = {
    {"slow_callback_duration", T_DOUBLE, offsetof(AfLoop, slow_callback_duration), 0,
     "Debug mode: callbacks that take at least this many seconds are logged."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot loop_slots[] = {
    {Py_tp_doc, (void *)"The loop's core in C; asyncfast.Loop is the whole of it."},
    {Py_tp_new, loop_tp_new},
    {Py_tp_dealloc, loop_tp_dealloc},
    {Py_tp_traverse, loop_tp_traverse},
    {Py_tp_clear, loop_tp_clear},
    {Py_tp_setattro, loop_tp_setattro},
    {Py_tp_methods, loop_methods},
    {Py_tp_getset, loop_getset},
    {Py_tp_members, loop_members},
    {0, NULL},
};

static PyType_Spec loop_spec = {
    "asyncfast._core.Loop", sizeof(AfLoop), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    loop_slots,
};

AF_API char *
af_loop_room(AfLoop *loop)
{
    if (af_unlikely(loop->room == NULL) && (loop->room = af_page_alloc(AF_READ_SIZE)) == NULL) {
        PyErr_NoMemory();
    }
    return loop->room;
}

AF_API int
af_loop_setup(PyObject *module, AfState *st)
{
    st->LoopType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &loop_spec, NULL);
    return st->LoopType == NULL ? -1 : PyModule_AddType(module, st->LoopType);
}

#undef LOOP_RELEASE_NS
#undef LOOP_SIGNAL_STEP
#undef LOOP_AHEAD
#undef LOOP_KW
#undef LOOP_F
#undef LOOP_AT
