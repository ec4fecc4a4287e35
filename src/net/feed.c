/* Feeding stream readers: ours, and asyncio's own.

   asyncio.StreamReaderProtocol.data_received() calls reader.feed_data(), which extends a bytearray, wakes who waits and
   may pause the transport.  For these two classes (asyncstream.c) that is done here, on their instances' own attributes, so
   that nobody can tell but by the time it takes.  Before anything is changed it is made sure that Python would have done just
   that: the classes are as they were (by the version of the type, which any change to it or its bases changes), the
   functions have the code they had, no instance attribute hides a method, and each attribute is of the kind that asyncio
   gives it.  Whatever is not so is left to data_received().

   Belongs to its loop's thread.  Runs Python: only when all of data has been taken. */
#include "net/feed.h"

#include "net/asyncstream.h"
#include "net/bytebuf.h"
#include "net/flow.h"

/* ---- asyncio's -------------------------------------------------------------------------------------------------- */

/* What feed_data() would change. */
typedef struct {
    PyObject *waiter;                   /* borrowed; NULL: nobody waits */
    int pauses;                         /* the transport may have to be paused after it */
} feed_plan;

static int
feed_understands(const af_reader_fields *f, Py_ssize_t n, feed_plan *plan)
{
    if (f->eof != Py_False || ((PyByteArrayObject *)f->buffer)->ob_exports > 0) {
        return 0;
    }
    plan->waiter = NULL;
    if (f->waiter != Py_None) {
        if (!af_future_is_exact(f->waiter) || ((AfFuture *)f->waiter)->state == AF_FINISHED) {
            return 0;
        }
        plan->waiter = f->waiter;
    }
    Py_ssize_t most = PyLong_AsSsize_t(f->limit), size = PyByteArray_GET_SIZE(f->buffer);
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
    PyObject *transport = af_dict_get(dict, st->str_private_transport), *paused = af_dict_get(dict, st->str_paused);
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
    af_reader_fields fields;
    PyObject *dict = af_asyncstream_reader(st, reader, &fields);
    feed_plan plan;
    int rc = dict != NULL && feed_understands(&fields, n, &plan);
    if (rc == 1) {
        PyObject *waiter = Py_XNewRef(plan.waiter);
        if (af_bytebuf_append(fields.buffer, data, n) < 0 ||
            (waiter != NULL && (PyDict_SetItem(dict, st->str_waiter, Py_None) < 0 || af_reader_wake(st, waiter) < 0)) ||
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
    PyObject *dict = af_asyncio_is_unchanged(st, AF_ASYNCIO_PROTOCOL) ? af_instance_dict(protocol) : NULL;
    if (dict == NULL) {
        return 0;
    }
    PyObject *reader = af_dict_get(dict, st->str_data_received) != NULL
                           ? NULL : feed_follow(af_dict_get(dict, st->str_stream_reader_wr));
    int rc = reader == NULL ? 0 : feed_reader(st, reader, data, n);
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
    return type == st->PyFlowType ? feed_ours : af_feeds_asyncio(st, protocol) ? feed_asyncio : NULL;
}
