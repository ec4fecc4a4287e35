/* asyncfast._core: making the module, its state's life.  No logic. */
#include "aio/channel.h"
#include "core/awaitval.h"
#include "core/context.h"
#include "core/coro.h"
#include "core/future.h"
#include "core/handle.h"
#include "core/loop.h"
#include "core/park.h"
#include "core/sleep.h"
#include "core/stopiter.h"
#include "core/task.h"
#include "net/asyncstream.h"
#include "net/datagram.h"
#include "net/flow.h"
#include "net/pipe.h"
#include "net/listener.h"
#include "net/reader.h"
#include "net/sockop.h"
#include "net/stream.h"
#include "net/writer.h"
#include "rt/moduledef.h"
#include "tls/libssl.h"
#include "tls/tls.h"

/* What is taken from asyncio: name in the state, module, attribute. */
static const struct {
    size_t offset;
    const char *module, *attr;
} module_imports[] = {
    {offsetof(AfState, asyncio_Handle), "asyncio.events", "Handle"},
    {offsetof(AfState, asyncio_TimerHandle), "asyncio.events", "TimerHandle"},
    {offsetof(AfState, asyncio_Future), "asyncio.futures", "Future"},
    {offsetof(AfState, asyncio_Task), "asyncio.tasks", "Task"},
    {offsetof(AfState, asyncio_BaseTransport), "asyncio.transports", "BaseTransport"},
    {offsetof(AfState, asyncio_StreamReader), "asyncio.streams", "StreamReader"},
    {offsetof(AfState, asyncio_StreamReaderProtocol), "asyncio.streams", "StreamReaderProtocol"},
    {offsetof(AfState, asyncio_StreamWriter), "asyncio.streams", "StreamWriter"},
    {offsetof(AfState, CancelledError), "asyncio.exceptions", "CancelledError"},
    {offsetof(AfState, InvalidStateError), "asyncio.exceptions", "InvalidStateError"},
    {offsetof(AfState, IncompleteReadError), "asyncio.exceptions", "IncompleteReadError"},
    {offsetof(AfState, LimitOverrunError), "asyncio.exceptions", "LimitOverrunError"},
    {offsetof(AfState, BufferedProtocol), "asyncio.protocols", "BufferedProtocol"},
    {offsetof(AfState, TransportSocket), "asyncio.trsock", "TransportSocket"},
    {offsetof(AfState, socket_type), "_socket", "socket"},
    {offsetof(AfState, get_event_loop), "asyncio.events", "get_event_loop"},
    {offsetof(AfState, get_running_loop), "asyncio.events", "_get_running_loop"},
    {offsetof(AfState, iscoroutine), "asyncio.coroutines", "iscoroutine"},
    {offsetof(AfState, extract_stack), "asyncio.format_helpers", "extract_stack"},
    {offsetof(AfState, future_repr_info), "asyncio.base_futures", "_future_repr_info"},
    {offsetof(AfState, task_repr_info), "asyncio.base_tasks", "_task_repr_info"},
    {offsetof(AfState, task_get_stack), "asyncio.base_tasks", "_task_get_stack"},
    {offsetof(AfState, task_print_stack), "asyncio.base_tasks", "_task_print_stack"},
    {offsetof(AfState, asyncio_sleep), "asyncio.tasks", "sleep"},
    {offsetof(AfState, gather), "asyncio.tasks", "gather"},
    {offsetof(AfState, WeakSet), "weakref", "WeakSet"},
    {offsetof(AfState, register_task), "asyncio.tasks", "_register_task"},
#if AF_HAVE_EAGER_TASKS
    {offsetof(AfState, register_eager_task), "asyncio.tasks", "_register_eager_task"},
    {offsetof(AfState, unregister_eager_task), "asyncio.tasks", "_unregister_eager_task"},
    {offsetof(AfState, eager_task_factory), "asyncio.tasks", "eager_task_factory"},
#endif
#if AF_HAVE_SWAP_CURRENT_TASK
    {offsetof(AfState, swap_current_task), "asyncio.tasks", "_swap_current_task"},
#else
    {offsetof(AfState, current_tasks), "asyncio.tasks", "_current_tasks"},
#endif
#if AF_HAVE_THREADSAFE_HANDLE
    {offsetof(AfState, asyncio_ThreadSafeHandle), "asyncio.events", "_ThreadSafeHandle"},
#endif
};

static const struct {
    size_t offset;
    const char *text;
} module_names[] = {
    {offsetof(AfState, str_accepted), "_accepted"},
    {offsetof(AfState, str_add_done_callback), "add_done_callback"},
    {offsetof(AfState, str_attach), "_attach"},
    {offsetof(AfState, str_asyncio_awaited_by), "_asyncio_awaited_by"},
    {offsetof(AfState, str_asyncio_future_blocking), "_asyncio_future_blocking"},
    {offsetof(AfState, str_buffer_updated), "buffer_updated"},
    {offsetof(AfState, str_close), "close"},
    {offsetof(AfState, str_connection_lost), "connection_lost"},
    {offsetof(AfState, str_connection_made), "connection_made"},
    {offsetof(AfState, str_data_received), "data_received"},
    {offsetof(AfState, str_datagram_received), "datagram_received"},
    {offsetof(AfState, str_detach), "_detach"},
    {offsetof(AfState, str_eof_received), "eof_received"},
    {offsetof(AfState, str_error_received), "error_received"},
    {offsetof(AfState, str_get_buffer), "get_buffer"},
    {offsetof(AfState, str_get_extra_info), "get_extra_info"},
    {offsetof(AfState, str_pause_writing), "pause_writing"},
    {offsetof(AfState, str_pending), "pending"},
    {offsetof(AfState, str_read), "read"},
    {offsetof(AfState, str_resume_writing), "resume_writing"},
    {offsetof(AfState, str_call_exception_handler), "call_exception_handler"},
    {offsetof(AfState, str_call_connection_lost), "_call_connection_lost"},
    {offsetof(AfState, str_call_soon), "call_soon"},
    {offsetof(AfState, str_call_soon_threadsafe), "call_soon_threadsafe"},
    {offsetof(AfState, str_feed_data), "feed_data"},
    {offsetof(AfState, str_call_later), "call_later"},
    {offsetof(AfState, str_do_handshake), "do_handshake"},
    {offsetof(AfState, str_SSLProtocol), "SSLProtocol"},
    {offsetof(AfState, str_sslcontext), "sslcontext"},
    {offsetof(AfState, str_tls_connected), "tls_connected"},
    {offsetof(AfState, str_wrap_bio), "wrap_bio"},
    {offsetof(AfState, str_wakeup_waiter), "_wakeup_waiter"},
    {offsetof(AfState, str_buffer), "_buffer"},
    {offsetof(AfState, str_eof), "_eof"},
    {offsetof(AfState, str_limit), "_limit"},
    {offsetof(AfState, str_waiter), "_waiter"},
    {offsetof(AfState, str_paused), "_paused"},
    {offsetof(AfState, str_private_transport), "_transport"},
    {offsetof(AfState, str_stream_reader_wr), "_stream_reader_wr"},
    {offsetof(AfState, str_write), "write"},
    {offsetof(AfState, str_create_future), "create_future"},
    {offsetof(AfState, str_drain_helper), "_drain_helper"},
    {offsetof(AfState, str_exception), "exception"},
    {offsetof(AfState, str_maybe_resume_transport), "_maybe_resume_transport"},
    {offsetof(AfState, str_private_connection_lost), "_connection_lost"},
    {offsetof(AfState, str_private_exception), "_exception"},
    {offsetof(AfState, str_private_protocol), "_protocol"},
    {offsetof(AfState, str_private_reader), "_reader"},
    {offsetof(AfState, str_source_traceback), "_source_traceback"},
    {offsetof(AfState, str_cancel), "cancel"},
    {offsetof(AfState, str_context), "context"},
    {offsetof(AfState, str_eager_start), "eager_start"},
    {offsetof(AfState, str_get_debug), "get_debug"},
    {offsetof(AfState, str_get_loop), "get_loop"},
    {offsetof(AfState, str_is_running), "is_running"},
    {offsetof(AfState, str_msg), "msg"},
    {offsetof(AfState, str_name), "name"},
    {offsetof(AfState, str_peername), "peername"},
    {offsetof(AfState, str_private_loop), "_loop"},
    {offsetof(AfState, str_result), "result"},
    {offsetof(AfState, str_run), "run"},
    {offsetof(AfState, str_send), "send"},
    {offsetof(AfState, str_socket), "socket"},
    {offsetof(AfState, str_sockname), "sockname"},
    {offsetof(AfState, str_start), "_start"},
    {offsetof(AfState, str_throw), "throw"},
};

#define MODULE_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MODULE_SLOT(st, offset) ((PyObject **)((char *)(st) + (offset)))

/* Types and single objects that are not in the tables; all PyObject pointers. */
static const size_t module_others[] = {
    offsetof(AfState, LoopType), offsetof(AfState, PyLoopType), offsetof(AfState, HandleType),
    offsetof(AfState, TimerHandleType), offsetof(AfState, ThreadsafeHandleType), offsetof(AfState, FutureType),
    offsetof(AfState, FutureIterType), offsetof(AfState, TaskType), offsetof(AfState, SleepType),
    offsetof(AfState, ParkType), offsetof(AfState, AwaitValType), offsetof(AfState, StreamType),
    offsetof(AfState, ReadPipeType), offsetof(AfState, WritePipeType), offsetof(AfState, SockOpType),
    offsetof(AfState, ListenerType), offsetof(AfState, DatagramType), offsetof(AfState, plain_socket),
    offsetof(AfState, int_minus_one), offsetof(AfState, hooks), offsetof(AfState, kw_context),
    offsetof(AfState, kw_msg), offsetof(AfState, coroutine_types), offsetof(AfState, ChannelType),
    offsetof(AfState, ChanOpType), offsetof(AfState, ChannelClosed), offsetof(AfState, ChannelEmpty),
    offsetof(AfState, ChannelFull), offsetof(AfState, CoroType), offsetof(AfState, ReaderType),
    offsetof(AfState, WriterType), offsetof(AfState, FlowType), offsetof(AfState, PyReaderType),
    offsetof(AfState, PyFlowType), offsetof(AfState, TlsType),
    offsetof(AfState, SinkType), offsetof(AfState, tls_again_errors), offsetof(AfState, tls_error),
    offsetof(AfState, tls_certificate_error), offsetof(AfState, ssl_memory_bio), offsetof(AfState, ssl_object_type),
    offsetof(AfState, ssl_do_handshake), offsetof(AfState, ssl_msg_callback), offsetof(AfState, ssl_keylog),
    offsetof(AfState, ssl_options),
    offsetof(AfState, asyncio_SSLProtocol), offsetof(AfState, sslproto_names), offsetof(AfState, kw_wrap_bio),
    offsetof(AfState, StopIterType), offsetof(AfState, asyncio_awaited_by), offsetof(AfState, get_extra_info),
    offsetof(AfState, asyncio_classes[AF_ASYNCIO_READER].type), offsetof(AfState, asyncio_classes[AF_ASYNCIO_READER].codes),
    offsetof(AfState, asyncio_classes[AF_ASYNCIO_WRITER].type), offsetof(AfState, asyncio_classes[AF_ASYNCIO_WRITER].codes),
    offsetof(AfState, asyncio_classes[AF_ASYNCIO_PROTOCOL].type),
    offsetof(AfState, asyncio_classes[AF_ASYNCIO_PROTOCOL].codes),
};

/* ---- functions -------------------------------------------------------------------------------------------------- */

/* asyncfast/_loop.py calls it once: the helpers in Python, the Loop class, and what this Python's
   asyncio does: whether create_task() takes eager_start, and whether futures wrap a StopIteration. */
static PyObject *
module_register(PyObject *module, PyObject *args)
{
    AfState *st = af_state_of_module(module);
    PyObject *hooks, *loop_class;
    int eager, wraps;
    if (!PyArg_ParseTuple(args, "OO!pp:_register", &hooks, &PyType_Type, &loop_class, &eager, &wraps)) {
        return NULL;
    }
    Py_XSETREF(st->hooks, Py_NewRef(hooks));
    Py_INCREF(loop_class);
    Py_XSETREF(st->PyLoopType, (PyTypeObject *)loop_class);
    st->create_task_takes_eager = eager;
    st->wraps_stop_iteration = wraps;
    Py_RETURN_NONE;
}

/* asyncfast/_streams.py calls it once: its StreamReader, StreamReaderProtocol and StreamWriter; for the last argument see
   af_asyncstream_register(). */
static PyObject *
module_register_streams(PyObject *module, PyObject *args)
{
    AfState *st = af_state_of_module(module);
    PyObject *reader, *protocol, *writer, *theirs;
    if (!PyArg_ParseTuple(args, "O!O!O!O:_register_streams", &PyType_Type, &reader, &PyType_Type, &protocol,
                          &PyType_Type, &writer, &theirs) ||
        af_reader_add_hot((PyTypeObject *)reader) < 0 || af_writer_add_hot((PyTypeObject *)writer) < 0 ||
        af_asyncstream_register(st, theirs) < 0) {
        return NULL;
    }
    Py_XSETREF(st->PyReaderType, Py_NewRef(reader));
    Py_XSETREF(st->PyFlowType, Py_NewRef(protocol));
    Py_RETURN_NONE;
}

static PyObject *
module_live_tasks(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    AfState *st = af_state_of_module(module);
    PyObject *list = PyList_New(0);
    for (af_link *l = st->loops.next; list != NULL && l != &st->loops; l = l->next) {
        AfLoop *loop = af_container_of(l, AfLoop, link);
        for (af_link *k = loop->tasks.next; k != &loop->tasks; k = k->next) {
            PyObject *task = (PyObject *)af_container_of(k, AfTask, link);
            if (PyList_Append(list, task) < 0) {
                Py_DECREF(list);
                return NULL;
            }
        }
    }
    return list;
}

static PyObject *
module_live_loops(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    AfState *st = af_state_of_module(module);
    PyObject *list = PyList_New(0);
    for (af_link *l = st->loops.next; list != NULL && l != &st->loops; l = l->next) {
        if (PyList_Append(list, (PyObject *)af_container_of(l, AfLoop, link)) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

static PyObject *
module_install_await_values(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return af_awaitval_install() < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef module_methods[] = {
    {"_register_tls", af_tls_register, METH_VARARGS,
     "_register_tls($module, ssl, context_type, again, sslproto, /)\n--\n\n"
     "Set TLS up: what is needed of ssl, of the base class of its contexts, and of asyncio.sslproto."},
    {"_make_tls", af_tls_make, METH_VARARGS,
     "_make_tls($module, loop, protocol, sslcontext, waiter, server_side, server_hostname, call_connection_made, "
     "handshake_timeout, shutdown_timeout, direct, ktls, /)\n--\n\n"
     "Make an SSLTransport, on the direct engine if that is allowed and the context allows it; timeouts in seconds."},
    {"_accept_tls", af_tls_accept, METH_VARARGS,
     "_accept_tls($module, loop, sslcontext, handshake_timeout, shutdown_timeout, direct, ktls, protocol, /)\n--\n\n"
     "Make an SSLTransport for a connection of a server; return the protocol for the transport below."},
    {"_sslproto_is_asyncios", af_tls_is_asyncios, METH_NOARGS,
     "_sslproto_is_asyncios($module, /)\n--\n\nReturn False if a program has changed asyncio.sslproto.SSLProtocol."},
    {"_open_libssl", af_libssl_open, METH_O,
     "_open_libssl($module, path, /)\n--\n\n"
     "Find the functions of the libssl that the extension module at path has loaded.\n\n"
     "OSError, with what is missing."},
    {"_prove_libssl", af_libssl_prove, METH_VARARGS,
     "_prove_libssl($module, sslobj, incoming, outgoing, context, /)\n--\n\n"
     "Find OpenSSL's SSL in an _ssl._SSLSocket that was made of the others, and prove that it is that.\n\n"
     "RuntimeError, with what is not as it should be."},
    {"sleep", (PyCFunction)(void (*)(void))af_sleep_call, METH_FASTCALL | METH_KEYWORDS,
     "sleep($module, /, delay, result=None)\n--\n\n"
     "Awaitable that gives result after delay seconds, never earlier.\n\n"
     "asyncio.sleep() without a coroutine, a Future or a Handle.  Zero or less: let the others run once.\n"
     "Raises TypeError if delay is no number, and ValueError where asyncio does if it is NaN."},
    {"_register", module_register, METH_VARARGS, "_register($module, hooks, loop_class, eager, wraps, /)\n--\n\nSet up."},
    {"_register_streams", module_register_streams, METH_VARARGS,
     "_register_streams($module, reader, protocol, writer, theirs, /)\n--\n\nSet up the streams."},
    {"_live_tasks", module_live_tasks, METH_NOARGS,
     "_live_tasks($module, /)\n--\n\nThe tasks of every loop that are not done."},
    {"_live_loops", module_live_loops, METH_NOARGS, "_live_loops($module, /)\n--\n\nEvery loop of this interpreter."},
    {"_install_await_values", module_install_await_values, METH_NOARGS,
     "_install_await_values($module, /)\n--\n\nMake awaiting plain values possible, for loops that allow it."},
    {NULL, NULL, 0, NULL},
};

/* ---- life ------------------------------------------------------------------------------------------------------- */

static int
module_import(AfState *st)
{
    for (size_t i = 0; i < MODULE_COUNT(module_imports); i++) {
        PyObject *module = PyImport_ImportModule(module_imports[i].module);
        PyObject *value = module == NULL ? NULL : PyObject_GetAttrString(module, module_imports[i].attr);
        Py_XDECREF(module);
        if (value == NULL) {
            return -1;
        }
        *MODULE_SLOT(st, module_imports[i].offset) = value;
    }
    for (size_t i = 0; i < MODULE_COUNT(module_names); i++) {
        PyObject *text = PyUnicode_InternFromString(module_names[i].text);
        if (text == NULL) {
            return -1;
        }
        *MODULE_SLOT(st, module_names[i].offset) = text;
    }
#if AF_HAVE_SWAP_CURRENT_TASK
    PyObject *swap = st->swap_current_task;
    if (PyCFunction_CheckExact(swap) && PyCFunction_GET_FLAGS(swap) == (METH_FASTCALL | METH_KEYWORDS)) {
        st->swap_current_fast = (PyObject *(*)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *))(void (*)(void))
            PyCFunction_GET_FUNCTION(swap);
    }
#endif
    return 0;
}

static int
module_exec(PyObject *module)
{
    AfState *st = af_state_of_module(module);
    af_list_init(&st->loops);
    if (module_import(st) < 0 || af_context_probe(st) < 0) {
        return -1;
    }
    st->kw_context = PyTuple_Pack(1, st->str_context);
    st->kw_msg = PyTuple_Pack(1, st->str_msg);
    st->coroutine_types = PySet_New(NULL);
    st->int_minus_one = PyLong_FromLong(-1);
    if (st->int_minus_one == NULL || st->kw_context == NULL || st->kw_msg == NULL || st->coroutine_types == NULL) {
        return -1;
    }
    if (af_stopiter_setup(module, st) < 0 ||
        af_handle_setup(module, st) < 0 || af_future_setup(module, st) < 0 || af_task_setup(module, st) < 0 ||
        af_park_setup(module, st) < 0 || af_sleep_setup(module, st) < 0 || af_loop_setup(module, st) < 0 ||
        af_awaitval_setup(module, st) < 0 ||
        af_stream_setup(module, st) < 0 || af_pipe_setup(module, st) < 0 || af_datagram_setup(module, st) < 0 ||
        af_sockop_setup(module, st) < 0 || af_listener_setup(module, st) < 0 || af_coro_setup(module, st) < 0 ||
        af_reader_setup(module, st) < 0 || af_flow_setup(module, st) < 0 || af_writer_setup(module, st) < 0 ||
        af_tls_setup(module, st) < 0 || af_channel_setup(module, st) < 0 || af_chanop_setup(module, st) < 0) {
        return -1;
    }
    return 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    AfState *st = af_state_of_module(module);
    for (size_t i = 0; i < MODULE_COUNT(module_imports); i++) {
        Py_VISIT(*MODULE_SLOT(st, module_imports[i].offset));
    }
    for (size_t i = 0; i < MODULE_COUNT(module_others); i++) {
        Py_VISIT(*MODULE_SLOT(st, module_others[i]));
    }
    return 0;
}

/* Recycled objects still name their types: they go first. */
static void
module_drop_recycled(AfState *st)
{
    af_freelist *const lists[] = {
        &st->futures, &st->tasks, &st->iters, &st->handles, &st->threadsafes, &st->timers, &st->sleeps, &st->coros,
        &st->chanops, &st->sockops, &st->stopiters,
    };
    for (size_t i = 0; i < MODULE_COUNT(lists); i++) {
        lists[i]->closed = 1;
        while (lists[i]->n > 0) {
            af_freelist_give(NULL, lists[i]->items[--lists[i]->n]);
        }
    }
}

static int
module_clear(PyObject *module)
{
    AfState *st = af_state_of_module(module);
    module_drop_recycled(st);
    for (size_t i = 0; i < MODULE_COUNT(module_imports); i++) {
        Py_CLEAR(*MODULE_SLOT(st, module_imports[i].offset));
    }
    for (size_t i = 0; i < MODULE_COUNT(module_others); i++) {
        Py_CLEAR(*MODULE_SLOT(st, module_others[i]));
    }
    return 0;
}

static void
module_free(void *module)
{
    AfState *st = af_state_of_module((PyObject *)module);
    if (st == NULL) {
        return;
    }
    module_clear((PyObject *)module);
    af_libssl_close(st);
    for (size_t i = 0; i < MODULE_COUNT(module_names); i++) {
        Py_CLEAR(*MODULE_SLOT(st, module_names[i].offset));
    }
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, (void *)module_exec},
#if AF_HAVE_SLOT_INTERPRETERS
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

PyModuleDef af_module_def = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "asyncfast._core",
    .m_doc = "The event loop in C.  Import asyncfast instead.",
    .m_size = sizeof(AfState),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&af_module_def);
}
