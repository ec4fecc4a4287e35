/* SSLTransport: what a program calls of a TLS transport, its attributes and its life.  The machine behind it is tls.c.

   Until it is made it is like one that is lost: its methods do nothing.  Belongs to its loop's thread.  Runs Python: the
   protocol's methods, the SSLObject's, the transport below. */
#include "tls/tls.h"

#include "net/asyncstream.h"
#include "rt/args.h"

/* ---- methods ---------------------------------------------------------------------------------------------------- */

static PyObject *
tls_write(AfTls *tls, PyObject *data)
{
    if (af_unlikely(!af_data_is_writable(data))) {
        PyObject *name = PyType_GetName(Py_TYPE(data));
        PyErr_Format(PyExc_TypeError, "data: expecting a bytes-like instance, got %U", name);
        Py_XDECREF(name);
        return NULL;
    }
    Py_ssize_t size = PyObject_Size(data);
    if (af_unlikely(size <= 0)) {       /* nothing is no write in vain either */
        return size < 0 ? NULL : Py_NewRef(Py_None);
    }
    if (af_unlikely(tls->app_new)) {
        tls->app_new = 0;
        af_asyncstream_find_writer(tls->st, (PyObject *)tls);
    }
    return af_tls_write_object(tls, data);
}

/* Joined, so that small items share a record. */
static PyObject *
tls_writelines(AfTls *tls, PyObject *list)
{
    PyObject *empty = PyBytes_FromStringAndSize(NULL, 0);
    PyObject *data = empty == NULL ? NULL : af_call_method(empty, "join", "O", list);
    PyObject *res = data == NULL ? NULL : af_tls_write_object(tls, data);
    Py_XDECREF(empty);
    Py_XDECREF(data);
    return res;
}

static PyObject *
tls_close(AfTls *tls, PyObject *Py_UNUSED(ignored))
{
    if (tls->closed) {
        tls->closed = 2;
        af_tls_forget(tls);
        Py_RETURN_NONE;
    }
    tls->closed = 1;
    return af_tls_start_shutdown(tls) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
tls_force_close(AfTls *tls, PyObject *exc)
{
    tls->closed = tls->closed ? tls->closed : 1;
    return af_tls_abort(tls, exc) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
tls_abort_method(AfTls *tls, PyObject *Py_UNUSED(ignored))
{
    return tls_force_close(tls, Py_None);
}

static PyObject *
tls_is_closing(AfTls *tls, PyObject *Py_UNUSED(ignored))
{
    if (tls->closed || tls->lower == NULL) {
        return PyBool_FromLong(tls->closed);
    }
    return af_call_method(tls->lower, "is_closing", NULL);
}

static int
tls_take_protocol(AfTls *tls, PyObject *protocol)
{
    PyObject *method;
    int buffered = af_lookup_attr(protocol, tls->st->str_get_buffer, &method);
    if (buffered > 0) {
        Py_DECREF(method);
        buffered = PyObject_IsInstance(protocol, tls->st->BufferedProtocol);
    }
    if (buffered < 0) {
        return -1;
    }
    tls->app_sink = af_sink_of(tls->st, protocol);
    tls->app_feed = af_feeder_of(tls->st, protocol);
    tls->app_new = af_feeds_asyncio(tls->st, protocol);
    tls->app_buffered = buffered && tls->app_sink == NULL;
    Py_XSETREF(tls->protocol, Py_NewRef(protocol));
    return 0;
}

static PyObject *
tls_set_protocol(AfTls *tls, PyObject *protocol)
{
    return tls_take_protocol(tls, protocol) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
tls_get_protocol(AfTls *tls, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(tls->protocol == NULL ? Py_None : tls->protocol);
}

static PyObject *
tls_get_extra_info(AfTls *tls, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name", "default", NULL};
    PyObject *name, *fallback = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:get_extra_info", names, &name, &fallback)) {
        return NULL;
    }
    /* whatever equals it: a str that does not is the usual case */
    if (tls->peercert != NULL && (!PyUnicode_CheckExact(name) || PyUnicode_CompareWithASCIIString(name, "peercert") == 0) &&
        af_tls_know_peercert(tls) < 0) {
        return NULL;
    }
    PyObject *extra = tls->extra;
    if (extra != NULL && PyDict_Check(extra)) {
        Py_INCREF(extra);       /* a key may do anything when it is hashed */
        PyObject *value = Py_XNewRef(PyDict_GetItemWithError(extra, name));
        Py_DECREF(extra);
        if (value != NULL || PyErr_Occurred()) {
            return value;
        }
    }
    if (tls->lower == NULL) {
        return Py_NewRef(fallback);
    }
    PyObject *lower = Py_NewRef(tls->lower);
    PyObject *value = af_call_method(lower, "get_extra_info", "OO", name, fallback);
    Py_DECREF(lower);
    return value;
}

static PyObject *
tls_is_reading(AfTls *tls, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(!tls->app_reading_paused);
}

static PyObject *
tls_pause_reading(AfTls *tls, PyObject *Py_UNUSED(ignored))
{
    tls->app_reading_paused = 1;
    Py_RETURN_NONE;
}

static PyObject *
tls_resume_reading(AfTls *tls, PyObject *Py_UNUSED(ignored))
{
    if (!tls->app_reading_paused || tls->loop == NULL) {
        Py_RETURN_NONE;
    }
    tls->app_reading_paused = 0;
    PyObject *resume = af_tls_face_method(tls, "_resume");
    int rc = resume == NULL ? -1 : af_call_soon(tls->st, (PyObject *)tls->loop, resume, NULL, NULL);
    Py_XDECREF(resume);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static int
tls_parse_limits(AfTls *tls, PyObject *args, PyObject *kwargs, size_t most, size_t *low_water, size_t *high_water)
{
    static char *names[] = {"high", "low", NULL};
    PyObject *high = Py_None, *low = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:set_buffer_limits", names, &high, &low)) {
        return -1;
    }
    PyObject *pair = af_call_method(tls->st->hooks, "tls_buffer_limits", "OOn", high, low, (Py_ssize_t)most);
    Py_ssize_t h, l;
    int rc = pair == NULL || !PyArg_ParseTuple(pair, "nn", &h, &l) ? -1 : 0;
    if (rc == 0) {
        *high_water = (size_t)h;
        *low_water = (size_t)l;
    }
    Py_XDECREF(pair);
    return rc;
}

static PyObject *
tls_set_write_buffer_limits(AfTls *tls, PyObject *args, PyObject *kwargs)
{
    if (tls_parse_limits(tls, args, kwargs, AF_TLS_OUT_HIGH, &tls->out_low, &tls->out_high) < 0) {
        return NULL;
    }
    return af_tls_control_app_writing(tls) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
tls_set_read_buffer_limits(AfTls *tls, PyObject *args, PyObject *kwargs)
{
    if (tls_parse_limits(tls, args, kwargs, AF_TLS_IN_HIGH, &tls->in_low, &tls->in_high) < 0) {
        return NULL;
    }
    return af_tls_control_reading(tls) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
tls_get_write_buffer_limits(AfTls *tls, PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("nn", (Py_ssize_t)tls->out_low, (Py_ssize_t)tls->out_high);
}

static PyObject *
tls_get_read_buffer_limits(AfTls *tls, PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("nn", (Py_ssize_t)tls->in_low, (Py_ssize_t)tls->in_high);
}

static PyObject *
tls_get_write_buffer_size(AfTls *tls, PyObject *Py_UNUSED(ignored))
{
    Py_ssize_t size = af_tls_backlog(tls);
    return size < 0 ? NULL : PyLong_FromSsize_t(size);
}

static PyObject *
tls_get_read_buffer_size(AfTls *tls, PyObject *Py_UNUSED(ignored))
{
    Py_ssize_t size = tls->engine->unread(tls);
    return size < 0 ? NULL : PyLong_FromSsize_t(size);
}

static PyObject *
tls_write_eof(AfTls *Py_UNUSED(tls), PyObject *Py_UNUSED(ignored))
{
    PyErr_SetNone(PyExc_NotImplementedError);
    return NULL;
}

static PyObject *
tls_can_write_eof(AfTls *Py_UNUSED(tls), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_FALSE;
}

static PyObject *
tls_begin_sendfile(AfTls *tls, PyObject *Py_UNUSED(ignored))
{
    return af_tls_begin_sendfile(tls) < 0 ? NULL : Py_NewRef(tls->lower);
}

static PyObject *
tls_end_sendfile(AfTls *tls, PyObject *Py_UNUSED(ignored))
{
    return af_tls_end_sendfile(tls) < 0 ? NULL : Py_NewRef(Py_None);
}

/* CPython's tests of TLS fill the backlog with it, behind the back of write(). */
static PyObject *
tls_test_append(AfTls *tls, PyObject *data)
{
    af_data d;
    if (af_data_open(&d, data) < 0) {
        return NULL;
    }
    int rc = af_tls_keep(tls, &d, 0);
    af_data_close(&d);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

AF_METHOD_OF_ONE(AfTls, tls_write, "write", "data")
AF_METHOD_OF_ONE(AfTls, tls_writelines, "writelines", "list_of_data")
AF_METHOD_OF_ONE(AfTls, tls_set_protocol, "set_protocol", "protocol")

static PyMethodDef tls_methods[] = {
    {"write", (PyCFunction)(void (*)(void))tls_write_args, METH_FASTCALL | METH_KEYWORDS,
     "write($self, /, data)\n--\n\n"
     "Encrypt and send data (bytes, bytearray or memoryview).  What is changed after the call is not sent.\n\n"
     "TypeError for anything else."},
    {"writelines", (PyCFunction)(void (*)(void))tls_writelines_args, METH_FASTCALL | METH_KEYWORDS,
     "writelines($self, /, list_of_data)\n--\n\nwrite() all of them, joined.  TypeError if one is no buffer."},
    {"write_eof", (PyCFunction)tls_write_eof, METH_NOARGS,
     "write_eof($self, /)\n--\n\nRaise NotImplementedError: asyncio does not close one direction of TLS."},
    {"can_write_eof", (PyCFunction)tls_can_write_eof, METH_NOARGS, "can_write_eof($self, /)\n--\n\nReturn False."},
    {"close", (PyCFunction)tls_close, METH_NOARGS,
     "close($self, /)\n--\n\n"
     "Send what is buffered and close_notify, wait for the peer's, then close; connection_lost() is called in the end.\n\n"
     "If that takes longer than ssl_shutdown_timeout seconds the connection is aborted, with a TimeoutError."},
    {"abort", (PyCFunction)tls_abort_method, METH_NOARGS,
     "abort($self, /)\n--\n\nClose at once; what is buffered is lost."},
    {"_force_close", (PyCFunction)tls_force_close, METH_O,
     "_force_close($self, exc, /)\n--\n\nabort(), with a reason for connection_lost()."},
    {"is_closing", (PyCFunction)tls_is_closing, METH_NOARGS,
     "is_closing($self, /)\n--\n\nReturn True once it, or the transport below, is closing or closed."},
    {"set_protocol", (PyCFunction)(void (*)(void))tls_set_protocol_args, METH_FASTCALL | METH_KEYWORDS,
     "set_protocol($self, /, protocol)\n--\n\nDeliver to this protocol from now on."},
    {"get_protocol", (PyCFunction)tls_get_protocol, METH_NOARGS,
     "get_protocol($self, /)\n--\n\nReturn the protocol; None once closed."},
    {"get_extra_info", (PyCFunction)(void (*)(void))tls_get_extra_info, METH_VARARGS | METH_KEYWORDS,
     "get_extra_info($self, name, default=None)\n--\n\n"
     "Return 'sslcontext' or, after the handshake, 'peercert', 'cipher', 'compression' or 'ssl_object'; anything else the\n"
     "transport below is asked for."},
    {"is_reading", (PyCFunction)tls_is_reading, METH_NOARGS,
     "is_reading($self, /)\n--\n\nReturn False after pause_reading()."},
    {"pause_reading", (PyCFunction)tls_pause_reading, METH_NOARGS,
     "pause_reading($self, /)\n--\n\nDeliver nothing until resume_reading().  May be called again."},
    {"resume_reading", (PyCFunction)tls_resume_reading, METH_NOARGS,
     "resume_reading($self, /)\n--\n\nDeliver again, beginning with the loop's next turn.  May be called again."},
    {"get_write_buffer_size", (PyCFunction)tls_get_write_buffer_size, METH_NOARGS,
     "get_write_buffer_size($self, /)\n--\n\n"
     "Return how many bytes, of what was written and of its records, wait for the transport below to take them."},
    {"get_write_buffer_limits", (PyCFunction)tls_get_write_buffer_limits, METH_NOARGS,
     "get_write_buffer_limits($self, /)\n--\n\nReturn (low, high), in bytes."},
    {"set_write_buffer_limits", (PyCFunction)(void (*)(void))tls_set_write_buffer_limits, METH_VARARGS | METH_KEYWORDS,
     "set_write_buffer_limits($self, high=None, low=None)\n--\n\n"
     "Pause the protocol's writing at high bytes (512 KiB by default), resume it at low bytes (a quarter).\n\n"
     "ValueError unless high >= low >= 0."},
    {"get_read_buffer_size", (PyCFunction)tls_get_read_buffer_size, METH_NOARGS,
     "get_read_buffer_size($self, /)\n--\n\nReturn how many bytes of records were received and not yet decrypted."},
    {"get_read_buffer_limits", (PyCFunction)tls_get_read_buffer_limits, METH_NOARGS,
     "get_read_buffer_limits($self, /)\n--\n\nReturn (low, high), in bytes."},
    {"set_read_buffer_limits", (PyCFunction)(void (*)(void))tls_set_read_buffer_limits, METH_VARARGS | METH_KEYWORDS,
     "set_read_buffer_limits($self, high=None, low=None)\n--\n\n"
     "Have the transport below stop reading at high bytes (256 KiB by default), and go on at low bytes (a quarter).\n\n"
     "ValueError unless high >= low >= 0."},
    {"_begin_sendfile", (PyCFunction)tls_begin_sendfile, METH_NOARGS,
     "_begin_sendfile($self, /)\n--\n\n"
     "Return the transport below, to whose socket a file can go as it is; until _end_sendfile() nothing else does."},
    {"_end_sendfile", (PyCFunction)tls_end_sendfile, METH_NOARGS,
     "_end_sendfile($self, /)\n--\n\nSend what was written meanwhile."},
    {"_test__append_write_backlog", (PyCFunction)tls_test_append, METH_O,
     "_test__append_write_backlog($self, data, /)\n--\n\nFor tests only: asyncio's transport has it."},
    {NULL, NULL, 0, NULL},
};

/* ---- attributes ------------------------------------------------------------------------------------------------- */

static PyObject *
tls_get_loop(AfTls *tls, void *Py_UNUSED(closure))
{
    return Py_NewRef(tls->loop == NULL ? Py_None : (PyObject *)tls->loop);
}

static PyObject *
tls_get_face(AfTls *tls, void *Py_UNUSED(closure))
{
    return tls->loop == NULL ? Py_NewRef(Py_None) : af_tls_face(tls);
}

static PyObject *
tls_get_protocol_paused(AfTls *tls, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(tls->app_writing_paused);
}

static PyObject *
tls_get_closed(AfTls *tls, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(tls->closed);
}

static PyObject *
tls_get_engine(AfTls *tls, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(tls->engine->name);
}

/* The slot that asyncio's transports have, with all that belongs there. */
static PyObject *
tls_get_extra(AfTls *tls, void *Py_UNUSED(closure))
{
    if (af_tls_know_peercert(tls) < 0) {
        return NULL;
    }
    if (tls->extra == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_extra");
        return NULL;
    }
    return Py_NewRef(tls->extra);
}

static int
tls_set_extra(AfTls *tls, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL && tls->extra == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_extra");
        return -1;
    }
    Py_CLEAR(tls->peercert);
    Py_XSETREF(tls->extra, Py_XNewRef(value));
    return 0;
}

static PyGetSetDef tls_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_extra", (getter)tls_get_extra, (setter)tls_set_extra, NULL, NULL},
    {"_loop", (getter)tls_get_loop, NULL, NULL, NULL},
    {"_ssl_protocol", (getter)tls_get_face, NULL, NULL, NULL},
    {"_protocol_paused", (getter)tls_get_protocol_paused, NULL, NULL, NULL},
    {"_closed", (getter)tls_get_closed, NULL, NULL, NULL},
    {"_engine", (getter)tls_get_engine, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* ---- life ------------------------------------------------------------------------------------------------------- */

/* The engine of a transport that is not made: nothing has come and nothing is to be sent. */
static Py_ssize_t
tls_nothing(AfTls *Py_UNUSED(tls))
{
    return 0;
}

static void
tls_no_detach(AfTls *Py_UNUSED(tls))
{
}

static const af_tls_engine tls_unmade = {
    .name = "none",
    .detach = tls_no_detach,
    .unread = tls_nothing,
    .unsent = tls_nothing,
};

static PyObject *
tls_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    AfTls *tls = (AfTls *)type->tp_alloc(type, 0);
    if (tls != NULL) {
        tls->st = af_state_of_type(type);
        tls->engine = &tls_unmade;
        tls->closed = 1;
    }
    return (PyObject *)tls;
}

AF_API int
af_tls_init(AfTls *tls, const af_tls_wish *wish)
{
    if (!PyObject_TypeCheck(wish->loop, tls->st->LoopType)) {
        PyErr_Format(PyExc_TypeError, "an asyncfast loop is needed, not %.100s", Py_TYPE(wish->loop)->tp_name);
        return -1;
    }
    if (tls->made) {
        PyErr_SetString(PyExc_RuntimeError, "a transport is made only once");
        return -1;
    }
    tls->made = 1;
    tls->loop = (AfLoop *)Py_NewRef(wish->loop);
    tls->sslobj = Py_NewRef(wish->sslobj);
    tls->incoming = Py_NewRef(wish->incoming);
    tls->outgoing = Py_NewRef(wish->outgoing);
    tls->extra = Py_NewRef(wish->extra);
    tls->waiter = wish->waiter == Py_None ? NULL : Py_NewRef(wish->waiter);
    tls->handshake_timeout = Py_NewRef(wish->handshake_timeout);
    tls->shutdown_timeout = Py_NewRef(wish->shutdown_timeout);
    tls->accepted = wish->accepted;
    tls->handshake_direct = wish->direct && wish->handshake_direct;
    tls->app_state = wish->call_connection_made ? AF_TLS_APP_INIT : AF_TLS_APP_MADE;
    tls->out_high = AF_TLS_OUT_HIGH;
    tls->out_low = AF_TLS_OUT_HIGH / 4;
    tls->in_high = AF_TLS_IN_HIGH;
    tls->in_low = AF_TLS_IN_HIGH / 4;
    if (tls_take_protocol(tls, wish->protocol) < 0) {
        return -1;
    }
    tls->memory.ktls.wished = wish->direct && wish->ktls;
    const af_tls_engine *engine = wish->direct ? af_tls_direct() : af_tls_portable();
    if (engine->attach(tls) < 0) {
        return -1;
    }
    tls->engine = engine;
    tls->closed = 0;
    return 0;
}

static int
tls_tp_init(AfTls *tls, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"loop", "protocol", "sslobj", "incoming", "outgoing", "extra", "waiter",
                            "call_connection_made", "handshake_timeout", "shutdown_timeout", "direct", "ktls", NULL};
    af_tls_wish wish = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOO!OpOOp|p:SSLTransport", names, &wish.loop, &wish.protocol,
                                     &wish.sslobj, &wish.incoming, &wish.outgoing, &PyDict_Type, &wish.extra,
                                     &wish.waiter, &wish.call_connection_made, &wish.handshake_timeout,
                                     &wish.shutdown_timeout, &wish.direct, &wish.ktls)) {
        return -1;
    }
    return af_tls_init(tls, &wish);
}

static int
tls_tp_traverse(AfTls *tls, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(tls));
    Py_VISIT(tls->extra);
    Py_VISIT((PyObject *)tls->loop);
    Py_VISIT(tls->sslobj);
    Py_VISIT(tls->incoming);
    Py_VISIT(tls->outgoing);
    Py_VISIT(tls->lower);
    Py_VISIT(tls->protocol);
    Py_VISIT(tls->waiter);
    Py_VISIT(tls->peercert);
    Py_VISIT(tls->ssl_owner);
    Py_VISIT(tls->handshake_timer);
    Py_VISIT(tls->shutdown_timer);
    Py_VISIT(tls->handshake_timeout);
    Py_VISIT(tls->shutdown_timeout);
    Py_VISIT(tls->room);
    Py_VISIT(tls->dict);
    return 0;
}

/* sslobj and the BIOs stay: the transport's methods ask the engine, and neither can be part of a cycle without the
   program's doing, which the rest breaks. */
static int
tls_tp_clear(AfTls *tls)
{
    tls->engine->detach(tls);
    tls->state = AF_TLS_UNWRAPPED;
    tls->closed = 1;
    tls->app_sink = NULL;
    tls->lower_is_stream = 0;
    af_backlog_clear(&tls->plain);
    Py_CLEAR(tls->lower);
    Py_CLEAR(tls->protocol);
    Py_CLEAR(tls->waiter);
    Py_CLEAR(tls->peercert);
    Py_CLEAR(tls->handshake_timer);
    Py_CLEAR(tls->shutdown_timer);
    Py_CLEAR(tls->room);
    Py_CLEAR(tls->dict);
    Py_CLEAR(tls->extra);
    return 0;
}

static void
tls_tp_finalize(PyObject *self)
{
    AfTls *tls = (AfTls *)self;
    if (tls->closed) {
        return;
    }
    tls->closed = 1;
    if (tls->accepted) {
        return;                 /* the loop has ended in the middle of the handshake */
    }
    PyObject *raised = PyErr_GetRaisedException();
    if (af_call_hook(tls->st, "transport_unclosed", "O", self) < 0) {
        PyErr_WriteUnraisable(self);
    }
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

static void
tls_tp_dealloc(PyObject *self)
{
    AfTls *tls = (AfTls *)self;
    PyTypeObject *type = Py_TYPE(self);
    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return;
    }
    PyObject_GC_UnTrack(self);
    if (tls->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    (void)tls_tp_clear(tls);
    Py_CLEAR(tls->sslobj);
    Py_CLEAR(tls->incoming);
    Py_CLEAR(tls->outgoing);
    Py_CLEAR(tls->handshake_timeout);
    Py_CLEAR(tls->shutdown_timeout);
    Py_CLEAR(tls->loop);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef tls_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(AfTls, weakrefs), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(AfTls, dict), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot tls_slots[] = {
    {Py_tp_doc, (void *)"SSLTransport(loop, protocol, sslobj, incoming, outgoing, extra, waiter, call_connection_made, "
                         "handshake_timeout, shutdown_timeout, direct, ktls=False)\n--\n\n"
                         "Transport that speaks TLS over another one; made by create_connection(ssl=...) and alike."},
    {Py_tp_new, tls_tp_new},
    {Py_tp_init, tls_tp_init},
    {Py_tp_dealloc, tls_tp_dealloc},
    {Py_tp_finalize, tls_tp_finalize},
    {Py_tp_traverse, tls_tp_traverse},
    {Py_tp_clear, tls_tp_clear},
    {Py_tp_methods, tls_methods},
    {Py_tp_members, tls_members},
    {Py_tp_getset, tls_getset},
    {0, NULL},
};

static PyType_Spec tls_spec = {
    "asyncfast.SSLTransport", sizeof(AfTls), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, tls_slots,
};

AF_API int
af_tls_setup(PyObject *module, AfState *st)
{
    st->TlsType = af_tls_make_type(module, "asyncio.transports", "Transport", &tls_spec);
    PyObject *slot = st->TlsType == NULL ? NULL : af_get_attr((PyObject *)st->TlsType->tp_base, "_extra");
    if (slot == NULL) {
        return -1;
    }
    int same = Py_IS_TYPE(slot, &PyMemberDescr_Type) &&
               ((PyMemberDescrObject *)slot)->d_member->offset == offsetof(AfTls, extra);
    Py_DECREF(slot);
    if (!same) {
        PyErr_SetString(PyExc_ImportError, "asyncio.Transport has another layout than asyncfast knows");
        return -1;
    }
    return af_tls_setup_protocol(module, st) < 0 ? -1
               : PyModule_AddObjectRef(module, "SSLTransport", (PyObject *)st->TlsType);
}
