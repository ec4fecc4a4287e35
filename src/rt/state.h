/* The state of the module, one per interpreter: heap types, what is imported from asyncio, free lists, live loops. */
#ifndef AF_RT_STATE_H
#define AF_RT_STATE_H

#include "base/af.h"
#include "base/list.h"
#include "rt/compat.h"

/* Recycled memory of one exact type.  Held by the interpreter's lock: no other protection. */
#define AF_FREELIST_MAX 1024

typedef struct {
    int n;
    int closed;             /* the module goes away: nothing is kept any more */
    void *items[AF_FREELIST_MAX];
} af_freelist;

AF_API void *af_freelist_make(PyTypeObject *type);
AF_API void af_freelist_free(void *obj);

/* One from the list, its fields as they were left, or a new one, all zero: not tracked yet.  NULL with MemoryError. */
static inline void *
af_freelist_take(af_freelist *list, PyTypeObject *type)
{
    if (af_likely(list->n > 0)) {
        void *obj = list->items[--list->n];
        AF_REVIVE(obj);
        return obj;
    }
    return af_freelist_make(type);
}

/* One of asyncio's stream classes, net/asyncstream.c. */
enum { AF_ASYNCIO_READER, AF_ASYNCIO_WRITER, AF_ASYNCIO_PROTOCOL, AF_ASYNCIO_CLASSES };

typedef struct {
    PyObject *type;             /* that instances have: of the first two ours, in the place of asyncio's */
    PyObject *codes;            /* a tuple: that type, a function that its methods in C stand for, its code, and so on */
    unsigned version;           /* of the type, when it was last looked at */
    int good;                   /* it was what it is on import */
} af_asyncio_class;

typedef struct AfState {
    /* types */
    PyTypeObject *LoopType;
    PyTypeObject *PyLoopType;           /* asyncfast.Loop, the usual subclass: compared first */
    PyTypeObject *HandleType;
    PyTypeObject *TimerHandleType;
    PyTypeObject *ThreadsafeHandleType;
    PyTypeObject *FutureType;
    PyTypeObject *FutureIterType;
    PyTypeObject *TaskType;
    PyTypeObject *ParkType;
    PyTypeObject *StopIterType;
    PyTypeObject *SleepType;
    PyTypeObject *AwaitValType;
    PyTypeObject *StreamType;
    PyTypeObject *ReadPipeType;
    PyTypeObject *WritePipeType;
    PyTypeObject *DatagramType;
    PyTypeObject *SockOpType;
    PyTypeObject *ListenerType;
    PyTypeObject *ChannelType;
    PyTypeObject *ChanOpType;
    PyTypeObject *CoroType;
    PyTypeObject *ReaderType;
    PyTypeObject *WriterType;
    PyTypeObject *FlowType;
    PyObject *PyReaderType;             /* asyncfast.StreamReader, StreamReaderProtocol: those types and asyncio's in one */
    PyObject *PyFlowType;
    PyTypeObject *TlsType;
    PyTypeObject *SinkType;             /* net/sink.h */
    PyObject *plain_socket;             /* socket.socket, once one was seen to keep its fd right behind the head */

    /* exceptions of our own */
    PyObject *ChannelClosed;
    PyObject *ChannelEmpty;
    PyObject *ChannelFull;

    /* asyncio's own classes, which ours pass for (isinstance) */
    PyObject *asyncio_Handle;
    PyObject *asyncio_TimerHandle;
    PyObject *asyncio_ThreadSafeHandle;     /* 3.14+ */
    PyObject *asyncio_Future;
    PyObject *asyncio_Task;
    PyObject *asyncio_awaited_by;       /* 3.14+: the descriptor of Future._asyncio_awaited_by; NULL if ours has another base */
    PyObject *asyncio_BaseTransport;
    PyObject *get_extra_info;           /* of that, as it was on import */
    PyObject *asyncio_StreamReader;
    PyObject *asyncio_StreamReaderProtocol;
    PyObject *asyncio_StreamWriter;

    /* functions and exceptions of asyncio and friends */
    PyObject *CancelledError;
    PyObject *InvalidStateError;
    PyObject *IncompleteReadError;
    PyObject *LimitOverrunError;
    PyObject *BufferedProtocol;
    PyObject *TransportSocket;
    PyObject *socket_type;              /* _socket.socket */
    PyObject *get_event_loop;
    PyObject *get_running_loop;
    PyObject *iscoroutine;
    PyObject *extract_stack;
    PyObject *future_repr_info;
    PyObject *task_repr_info;
    PyObject *task_get_stack;
    PyObject *task_print_stack;
    PyObject *register_task;
    PyObject *unregister_task;
    PyObject *register_eager_task;      /* 3.12+ */
    PyObject *unregister_eager_task;
    PyObject *eager_task_factory;
    PyObject *swap_current_task;        /* 3.14+ */
    /* ... and the C function behind it, where it is one: called without the detour through vectorcall */
    PyObject *(*swap_current_fast)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);
    PyObject *current_tasks;            /* before 3.14 */
    PyObject *asyncio_sleep;
    PyObject *gather;
    PyObject *WeakSet;

    /* helpers in Python: asyncfast._loop registers them */
    PyObject *hooks;

    /* ssl's exceptions; NULL on a Python without ssl */
    PyObject *tls_again_errors;         /* a tuple: SSLWantReadError, SSLSyscallError */
    PyObject *tls_error;                /* SSLError */
    PyObject *tls_certificate_error;
    /* ... and what tls/make.c takes from ssl and asyncio.sslproto */
    PyObject *ssl_memory_bio;           /* MemoryBIO */
    PyObject *ssl_object_type;          /* SSLObject */
    PyObject *ssl_do_handshake;         /* its function */
    PyObject *ssl_msg_callback;         /* attributes of _ssl._SSLContext */
    PyObject *ssl_keylog;
    PyObject *ssl_options;
    PyObject *asyncio_SSLProtocol;
    PyObject *sslproto_names;           /* the globals it is among */
    unsigned sslproto_version;          /* of the type, when it was last looked at */
    int sslproto_good;                  /* it was what it is on import */
    struct af_libssl *libssl;           /* tls/libssl.h: what the direct engine calls; NULL: not to be had, or not yet */

    /* interned names */
    PyObject *str_accepted;
    PyObject *str_add_done_callback;
    PyObject *str_attach;
    PyObject *str_buffer_updated;
    PyObject *str_close;
    PyObject *str_connection_lost;
    PyObject *str_connection_made;
    PyObject *str_data_received;
    PyObject *str_datagram_received;
    PyObject *str_detach;
    PyObject *str_eof_received;
    PyObject *str_error_received;
    PyObject *str_get_buffer;
    PyObject *str_get_extra_info;
    PyObject *str_pause_writing;
    PyObject *str_pending;
    PyObject *str_read;
    PyObject *str_resume_writing;
    PyObject *str_asyncio_awaited_by;
    PyObject *str_asyncio_future_blocking;
    PyObject *str_call_exception_handler;
    PyObject *str_call_connection_lost;
    PyObject *str_call_soon;
    PyObject *str_call_soon_threadsafe;
    PyObject *str_feed_data;
    PyObject *str_call_later;
    PyObject *str_do_handshake;
    PyObject *str_SSLProtocol;
    PyObject *str_sslcontext;
    PyObject *str_tls_connected;
    PyObject *str_wrap_bio;
    PyObject *str_wakeup_waiter;
    PyObject *str_buffer;
    PyObject *str_eof;
    PyObject *str_limit;
    PyObject *str_waiter;
    PyObject *str_paused;
    PyObject *str_private_transport;
    PyObject *str_stream_reader_wr;
    PyObject *str_write;
    PyObject *str_create_future;
    PyObject *str_drain_helper;
    PyObject *str_exception;
    PyObject *str_maybe_resume_transport;
    PyObject *str_private_connection_lost;
    PyObject *str_private_exception;
    PyObject *str_private_protocol;
    PyObject *str_private_reader;
    PyObject *str_source_traceback;
    PyObject *str_cancel;
    PyObject *str_context;
    PyObject *str_get_debug;
    PyObject *str_get_loop;
    PyObject *str_is_running;
    PyObject *str_eager_start;
    PyObject *str_msg;
    PyObject *str_name;
    PyObject *str_peername;
    PyObject *str_private_loop;
    PyObject *str_result;
    PyObject *str_run;
    PyObject *str_send;
    PyObject *str_socket;
    PyObject *str_sockname;
    PyObject *str_start;
    PyObject *str_throw;
    PyObject *kw_context;               /* ("context",) */
    PyObject *kw_msg;                   /* ("msg",) */
    PyObject *kw_wrap_bio;              /* ("server_side", "server_hostname") */
    PyObject *int_minus_one;

    /* types seen to be coroutines by asyncio.iscoroutine() */
    PyObject *coroutine_types;

    af_asyncio_class asyncio_classes[AF_ASYNCIO_CLASSES];

    /* plain data */
    int share_contexts;                 /* core/context.h */
    int create_task_takes_eager;        /* BaseEventLoop.create_task() of this Python passes eager_start on */
    int wraps_stop_iteration;           /* a future takes StopIteration, as the cause of a RuntimeError */
    uint64_t task_counter;
    af_link loops;                      /* every AfLoop alive, by AfLoop.link */
    struct AfLoop *stepping;            /* borrowed: a loop that is stepping a task, or NULL; maybe another thread's */
    af_freelist futures, tasks, iters, handles, threadsafes, timers, sleeps, coros, chanops, sockops, stopiters;
} AfState;

AF_API AfState *af_state_of_module(PyObject *module);

/* PyObject_GetAttrString() and PyObject_CallMethod() with the name interned.  CPython's method cache knows names by their
   address: a string made anew for each call never finds its entry, and takes that of another. */
AF_API PyObject *af_get_attr(PyObject *obj, const char *name);
AF_API PyObject *af_call_method(PyObject *obj, const char *name, const char *format, ...);     /* format NULL: no arguments */

/* A helper in Python whose result does not matter: 0 or -1. */
AF_API int af_call_hook(AfState *st, const char *name, const char *format, ...);
/* The same as in an except clause for exc, where asyncio tells its exception handler: that may look at sys.exc_info(), or
   log with logging.exception(), and what it raises itself has exc as its context. */
AF_API int af_call_hook_handling(AfState *st, PyObject *exc, const char *name, const char *format, ...);

/* Is what is raised meant to end the program?  Then no exception handler hears of it. */
static inline int
af_raised_exit(void)
{
    return PyErr_ExceptionMatches(PyExc_SystemExit) || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
}

/* More methods and attributes for a type that is made already; either may be NULL.  0 or -1. */
AF_API int af_type_add(PyTypeObject *type, PyMethodDef *methods, PyGetSetDef *getset);

/* While a heap type has its module the module is alive, and its state with it; a type that the collector has cleared (at
   the interpreter's end) has none any more, and its last instances must not touch the state. */
static inline int
af_state_is_alive(PyTypeObject *type)
{
    return ((PyHeapTypeObject *)type)->ht_module != NULL;
}

/* The end of obj, untracked and empty: it goes to the list, with its reference to its type, or is freed.  list NULL: it is not
   to live again, since it is of a subclass, or has been finalized and would not be a second time. */
static inline void
af_freelist_give(af_freelist *list, void *obj)
{
    if (af_likely(list != NULL && af_state_is_alive(Py_TYPE((PyObject *)obj)) && list->n < AF_FREELIST_MAX &&
                  !list->closed)) {
        list->items[list->n++] = obj;
        return;
    }
    af_freelist_free(obj);
}

/* The list for one that is tp_finalize()d at the end of each of its lives. */
static inline af_freelist *
af_freelist_unless_finalized(af_freelist *list, void *obj)
{
    return PyObject_GC_IsFinalized((PyObject *)obj) ? NULL : list;
}

/* The state from any instance of our types or of a Python subclass of them. */
AF_API AfState *af_state_of_type(PyTypeObject *type);

#endif
