/* The portable engine: ssl.SSLObject over two ssl.MemoryBIO, as asyncio has it, called from C.

   For a Python whose libssl cannot be reached, and for contexts whose SSLObject is of a class of its own or that have
   hooks into OpenSSL which raise (direct.c says which).  Every call runs Python, if only ssl.py's. */
#include "tls/tls.h"

static int
portable_attach(AfTls *Py_UNUSED(tls))
{
    return 0;
}

static void
portable_detach(AfTls *Py_UNUSED(tls))
{
}

static int
portable_feed(AfTls *tls, const char *data, size_t size)
{
    PyObject *view = PyMemoryView_FromMemory((char *)data, (Py_ssize_t)size, PyBUF_READ);   /* it is copied at once */
    PyObject *res = view == NULL ? NULL : PyObject_CallMethodOneArg(tls->incoming, tls->st->str_write, view);
    Py_XDECREF(view);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

static int
portable_settle(AfTls *Py_UNUSED(tls))
{
    return 0;
}

static Py_ssize_t
portable_read(AfTls *tls, char *to, size_t size)
{
    PyObject *most = PyLong_FromSize_t(size);
    PyObject *data = most == NULL ? NULL : PyObject_CallMethodOneArg(tls->sslobj, tls->st->str_read, most);
    Py_XDECREF(most);
    if (data == NULL) {
        return af_tls_again(tls->st) ? AF_TLS_AGAIN : AF_TLS_ERROR;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        Py_DECREF(data);
        return AF_TLS_ERROR;
    }
    Py_ssize_t n = view.len;
    if (n > (Py_ssize_t)size) {
        PyErr_SetString(PyExc_ValueError, "read() returned more than was asked for");
        n = AF_TLS_ERROR;
    }
    else if (n > 0) {
        memcpy(to, view.buf, (size_t)n);
    }
    PyBuffer_Release(&view);
    Py_DECREF(data);
    return n;
}

static Py_ssize_t
portable_write(AfTls *tls, const char *from, size_t size)
{
    PyObject *data = PyBytes_FromStringAndSize(from, (Py_ssize_t)size);     /* a class of the program's may keep it */
    PyObject *res = data == NULL ? NULL : PyObject_CallMethodOneArg(tls->sslobj, tls->st->str_write, data);
    Py_XDECREF(data);
    if (res == NULL) {
        return af_tls_again(tls->st) ? AF_TLS_AGAIN : AF_TLS_ERROR;
    }
    Py_ssize_t n = PyLong_AsSsize_t(res);
    Py_DECREF(res);
    if (n > 0 && (size_t)n <= size) {
        return n;
    }
    if (!PyErr_Occurred()) {
        PyErr_Format(PyExc_ValueError, "write() of %zu bytes returned %zd", size, n);
    }
    return AF_TLS_ERROR;
}

static Py_ssize_t
portable_pending(AfTls *tls, PyObject *bio)
{
    PyObject *pending = PyObject_GetAttr(bio, tls->st->str_pending);
    Py_ssize_t n = pending == NULL ? -1 : PyLong_AsSsize_t(pending);
    Py_XDECREF(pending);
    return n;
}

static Py_ssize_t
portable_unread(AfTls *tls)
{
    return portable_pending(tls, tls->incoming);
}

static Py_ssize_t
portable_unsent(AfTls *tls)
{
    return portable_pending(tls, tls->outgoing);
}

static PyObject *
portable_take(AfTls *tls)
{
    return PyObject_CallMethodNoArgs(tls->outgoing, tls->st->str_read);
}

static const af_tls_engine portable_engine = {
    .name = "portable",
    .attach = portable_attach,
    .detach = portable_detach,
    .feed = portable_feed,
    .settle = portable_settle,
    .read = portable_read,
    .write = portable_write,
    .unread = portable_unread,
    .unsent = portable_unsent,
    .take = portable_take,
};

AF_API const af_tls_engine *
af_tls_portable(void)
{
    return &portable_engine;
}
