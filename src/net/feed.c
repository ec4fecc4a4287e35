/* Feeding stream readers: ours, and asyncio's own.

   asyncio.StreamReaderProtocol.data_received() calls reader.feed_data(), which extends a bytearray, wakes who waits and
   may pause the transport.  For exactly these two classes that is done here, on their instances' own attributes, so that
   nobody can tell but by the time it takes.  Before anything is changed it is made sure that Python would have done just
   that: the classes are as they were (by the version of the type, which any change to it or its bases changes), the
   functions have the code they had, no instance attribute hides a method, and each attribute is of the kind that asyncio
   gives it.  Whatever is not so is left to data_received().

   Belongs to its loop's thread.  Runs Python: only when all of data has been taken. */
#include "net/feed.h"

#include "net/bytebuf.h"
#include "net/flow.h"
#include "net/reader.h"

/* ---- asyncio's -------------------------------------------------------------------------------------------------- */

AF_API PyObject *
af_feed_register(AfState *st, PyObject *codes)
{
    if (!PyTuple_CheckExact(codes)) {
        PyErr_BadInternalCall();
        return NULL;
    }
    Py_XSETREF(st->feed_codes, Py_NewRef(codes));
    st->feed_versions[0] = st->feed_versions[1] = UINT_MAX;     /* to be looked at */
    return codes;
}

/* Once per change of one of the classes.  Have they, and their bases, still the attributes that they had at first? */
static int
feed_look(AfState *st, PyTypeObject *protocol, PyTypeObject *reader)
{
    st->feed_good = 0;
    PyObject *res = af_call_method(st->hooks, "streams_are_asyncios", NULL);
    int good = res == NULL ? 0 : res == Py_True;
    Py_XDECREF(res);
    /* a type that was changed has no version until it is asked for something */
    Py_XDECREF(PyObject_GetAttr((PyObject *)protocol, st->str_data_received));
    Py_XDECREF(PyObject_GetAttr((PyObject *)reader, st->str_feed_data));
    PyErr_Clear();
    st->feed_versions[0] = af_type_version(protocol);
    st->feed_versions[1] = af_type_version(reader);
    st->feed_good = good && st->feed_versions[0] != 0 && st->feed_versions[1] != 0;
    return st->feed_good;
}

static int
feed_is_asyncios(AfState *st)
{
    PyTypeObject *protocol = (PyTypeObject *)st->asyncio_StreamReaderProtocol;
    PyTypeObject *reader = (PyTypeObject *)st->asyncio_StreamReader;
    if (af_unlikely(st->feed_codes == NULL)) {
        return 0;
    }
    int same = af_type_version(protocol) == st->feed_versions[0] && af_type_version(reader) == st->feed_versions[1];
    if (!(same ? st->feed_good : feed_look(st, protocol, reader))) {
        return 0;
    }
    /* each function that would run, and the code that it had */
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(st->feed_codes); i++) {
        PyObject *pair = PyTuple_GET_ITEM(st->feed_codes, i);
        if (PyFunction_GET_CODE(PyTuple_GET_ITEM(pair, 0)) != PyTuple_GET_ITEM(pair, 1)) {
            return 0;
        }
    }
    return 1;
}

/* Borrowed, NULL: not there. */
static inline PyObject *
feed_attr(PyObject *dict, PyObject *name)
{
    PyObject *value = PyDict_GetItemWithError(dict, name);
    if (af_unlikely(value == NULL) && PyErr_Occurred()) {
        PyErr_Clear();
    }
    return value;
}

/* An instance's dict, a new reference; NULL without an exception if it has none of its own kind. */
static PyObject *
feed_dict(PyObject *obj)
{
    PyObject *dict = PyObject_GenericGetDict(obj, NULL);
    if (dict == NULL) {
        PyErr_Clear();
    }
    return dict;
}

/* What feed_data() would change. */
typedef struct {
    PyObject *buffer, *waiter;          /* borrowed; waiter NULL: nobody waits, or it is cancelled */
    int pauses;                         /* the transport may have to be paused after it */
} feed_plan;

static int
feed_understands(AfState *st, PyObject *dict, Py_ssize_t n, feed_plan *plan)
{
    if (feed_attr(dict, st->str_feed_data) != NULL || feed_attr(dict, st->str_wakeup_waiter) != NULL ||
        feed_attr(dict, st->str_eof) != Py_False) {
        return 0;
    }
    PyObject *buffer = feed_attr(dict, st->str_buffer), *limit = feed_attr(dict, st->str_limit);
    PyObject *waiter = feed_attr(dict, st->str_waiter);
    if (buffer == NULL || !PyByteArray_CheckExact(buffer) || ((PyByteArrayObject *)buffer)->ob_exports > 0 ||
        limit == NULL || !PyLong_CheckExact(limit) || waiter == NULL) {
        return 0;
    }
    plan->buffer = buffer;
    plan->waiter = NULL;
    if (waiter != Py_None) {
        if (!af_future_is_exact(waiter) || ((AfFuture *)waiter)->state == AF_FINISHED) {
            return 0;
        }
        plan->waiter = waiter;
    }
    Py_ssize_t most = PyLong_AsSsize_t(limit), size = PyByteArray_GET_SIZE(buffer);
    if (most == -1) {
        PyErr_Clear();
        return 0;
    }
    plan->pauses = most < (size + n + 1) / 2;           /* size + n > 2 * most */
    return 1;
}

/* ... and the end of it, when that is not a matter of course: 0 or -1. */
static int
feed_pause(AfState *st, PyObject *reader, PyObject *dict)
{
    PyObject *transport = feed_attr(dict, st->str_private_transport), *paused = feed_attr(dict, st->str_paused);
    int is_paused = paused == NULL ? 0 : PyObject_IsTrue(paused);
    if (transport == NULL || paused == NULL) {
        PyErr_SetObject(PyExc_AttributeError, transport == NULL ? st->str_private_transport : st->str_paused);
        return -1;
    }
    if (transport == Py_None || is_paused != 0) {
        return is_paused < 0 ? -1 : 0;
    }
    Py_INCREF(transport);
    PyObject *res = af_call_method(transport, "pause_reading", NULL);
    Py_DECREF(transport);
    if (res != NULL) {
        Py_DECREF(res);
        return PyObject_SetAttr(reader, st->str_paused, Py_True);
    }
    if (!PyErr_ExceptionMatches(PyExc_NotImplementedError)) {
        return -1;
    }
    PyErr_Clear();
    return PyObject_SetAttr(reader, st->str_private_transport, Py_None);
}

static int
feed_reader(AfState *st, PyObject *reader, const char *data, Py_ssize_t n)
{
    PyObject *dict = feed_dict(reader);
    feed_plan plan;
    int rc = dict != NULL && feed_understands(st, dict, n, &plan);
    if (rc == 1) {
        PyObject *waiter = Py_XNewRef(plan.waiter);
        if (af_bytebuf_append(plan.buffer, data, n) < 0 ||
            (waiter != NULL && (PyObject_SetAttr(reader, st->str_waiter, Py_None) < 0 ||
                                af_reader_wake(st, waiter) < 0)) ||
            (plan.pauses && feed_pause(st, reader, dict) < 0)) {
            rc = -1;
        }
        Py_XDECREF(waiter);
    }
    Py_XDECREF(dict);
    return rc;
}

/* The reader that a weak reference leads to, a new reference, or NULL. */
static PyObject *
feed_follow(PyObject *ref)
{
    PyObject *reader = NULL;
    if (ref != NULL && PyWeakref_CheckRefExact(ref)) {
        (void)PyWeakref_GetRef(ref, &reader);
    }
    return reader;
}

static int
feed_asyncio(AfState *st, PyObject *protocol, const char *data, Py_ssize_t n)
{
    if (!feed_is_asyncios(st)) {
        return 0;
    }
    PyObject *dict = feed_dict(protocol);
    if (dict == NULL) {
        return 0;
    }
    PyObject *reader = feed_attr(dict, st->str_data_received) != NULL
                           ? NULL : feed_follow(feed_attr(dict, st->str_stream_reader_wr));
    int rc = reader == NULL || (PyObject *)Py_TYPE(reader) != st->asyncio_StreamReader
                 ? 0 : feed_reader(st, reader, data, n);
    Py_DECREF(dict);
    Py_XDECREF(reader);
    return rc;
}

/* ---- ours ------------------------------------------------------------------------------------------------------- */

static int
feed_ours(AfState *st, PyObject *protocol, const char *data, Py_ssize_t n)
{
    PyObject *reader = feed_follow(((AfFlow *)protocol)->reader_ref);
    int rc = 0;
    if (reader != NULL && af_reader_is_exact(st, reader)) {
        rc = af_reader_feed_next((AfReader *)reader, data, n) < 0 ? -1 : 1;
    }
    Py_XDECREF(reader);
    return rc;
}

AF_API af_feeder
af_feeder_of(AfState *st, PyObject *protocol)
{
    PyObject *type = (PyObject *)Py_TYPE(protocol);
    return type == st->PyFlowType ? feed_ours : type == st->asyncio_StreamReaderProtocol ? feed_asyncio : NULL;
}
