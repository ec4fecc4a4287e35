/* asyncio's own streams: the methods that run per read and per write, in C.

   A program that uses asyncio.StreamReader and StreamWriter has instances of just these classes.  The first time that a
   transport of ours feeds such a reader, or is written to by such a writer, the object gets a class of ours in its place: a
   subclass without anything of its own but a few methods, which work on the instance's own attributes and leave in them what
   asyncio would.  Nothing else knows of it: a future is the reader's `_waiter`, the buffer a bytearray.

   Each of these methods is there for the interpreter's method calls only, `reader.read(n)`: as an attribute it is asyncio's
   own function or bound method, with all that can be seen of one.  And each steps back for asyncio's, before it has done
   anything, whenever Python would not do just the same: a class, function or instance was changed, an attribute is of
   another kind, arguments are out of the ordinary, there is an error to be raised that Python's code can raise.

   Belongs to its loop's thread.  Runs Python: transports, futures of other loops, asyncio's methods. */
#include "net/asyncstream.h"

#include "net/bytebuf.h"
#include "net/stream.h"
#include "net/writer.h"

#define ASYNCSTREAM_NAME(st, offset) (*(PyObject **)((char *)(st) + (offset)))

/* ---- are they as they were? ------------------------------------------------------------------------------------- */

/* Once per change of the class or of one of its bases. */
static int
asyncio_look(AfState *st, af_asyncio_class *class)
{
    class->good = 0;
    PyObject *res = af_call_method(st->hooks, "stream_class_is_asyncios", "O", class->type);
    int good = res == Py_True;
    Py_XDECREF(res);
    PyErr_Clear();
    /* a type that was changed has no version until it is asked for something */
    Py_XDECREF(PyObject_GetAttr(class->type, st->str_write));
    PyErr_Clear();
    class->version = af_type_version((PyTypeObject *)class->type);
    class->good = good && class->version != 0;
    return class->good;
}

/* Are the attributes of the class and its bases what they were?  Runs Python as below. */
static int
asyncio_class_is_good(AfState *st, int which)
{
    af_asyncio_class *class = &st->asyncio_classes[which];
    if (af_unlikely(class->type == NULL)) {
        return 0;
    }
    int same = af_type_version((PyTypeObject *)class->type) == class->version;
    return same ? class->good : asyncio_look(st, class);
}

AF_API int
af_asyncio_is_unchanged(AfState *st, int which)
{
    af_asyncio_class *class = &st->asyncio_classes[which];
    if (!asyncio_class_is_good(st, which)) {
        return 0;
    }
    /* each function that would run, and the code that it had */
    for (Py_ssize_t i = 1; i < PyTuple_GET_SIZE(class->codes); i += 2) {
        if (PyFunction_GET_CODE(PyTuple_GET_ITEM(class->codes, i)) != PyTuple_GET_ITEM(class->codes, i + 1)) {
            return 0;
        }
    }
    return 1;
}

static int
asyncio_is_ours(AfState *st, int which, PyObject *obj)
{
    return (PyObject *)Py_TYPE(obj) == st->asyncio_classes[which].type && asyncio_class_is_good(st, which);
}

/* The instance's dict, a new reference, if its class is. */
static PyObject *
asyncio_dict(AfState *st, int which, PyObject *obj)
{
    return asyncio_is_ours(st, which, obj) ? af_instance_dict(obj) : NULL;
}

/* The same, if all that it runs is as it was, too. */
static PyObject *
asyncio_unchanged_dict(AfState *st, int which, PyObject *obj)
{
    int ours = (PyObject *)Py_TYPE(obj) == st->asyncio_classes[which].type;
    return ours && af_asyncio_is_unchanged(st, which) ? af_instance_dict(obj) : NULL;
}

/* An attribute that somebody has added to an instance: does it hide one of the class?  What debug mode adds does no harm. */
static int
asyncio_hides(AfState *st, PyObject *obj, PyObject *name)
{
    if (name == st->str_source_traceback) {
        return 0;
    }
    PyObject *value = NULL;
    int found = af_lookup_attr((PyObject *)Py_TYPE(obj), name, &value);
    Py_XDECREF(value);
    PyErr_Clear();
    return found != 0;
}

/* The values of an instance's dict, if it begins with these names and nothing in it hides anything: 1 or 0. */
static int
asyncio_fields(AfState *st, PyObject *obj, PyObject *dict, const size_t *names, Py_ssize_t n, PyObject **values)
{
    PyObject *name;
    Py_ssize_t pos = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        if (!PyDict_Next(dict, &pos, &name, &values[i]) || name != ASYNCSTREAM_NAME(st, names[i])) {
            return 0;
        }
    }
    if (af_likely(PyDict_GET_SIZE(dict) == n)) {
        return 1;
    }
    PyObject *value;
    while (PyDict_Next(dict, &pos, &name, &value)) {
        if (asyncio_hides(st, obj, name)) {
            return 0;
        }
    }
    return 1;
}

/* The plain class gives way to ours; whoever cannot have it keeps the one it has. */
static void
asyncio_adopt(AfState *st, PyObject *obj, PyObject *plain, int which)
{
    if ((PyObject *)Py_TYPE(obj) == plain && af_asyncio_is_unchanged(st, which) &&
        PyObject_SetAttrString(obj, "__class__", st->asyncio_classes[which].type) < 0) {
        PyErr_Clear();
    }
}

/* ---- the reader ------------------------------------------------------------------------------------------------- */

static const size_t reader_field_names[] = {
    offsetof(AfState, str_limit),  offsetof(AfState, str_private_loop), offsetof(AfState, str_buffer),
    offsetof(AfState, str_eof),    offsetof(AfState, str_waiter),       offsetof(AfState, str_private_exception),
    offsetof(AfState, str_private_transport), offsetof(AfState, str_paused),
};

#define READER_FIELDS ((Py_ssize_t)(sizeof(reader_field_names) / sizeof(reader_field_names[0])))

AF_API PyObject *
af_asyncstream_reader(AfState *st, PyObject *reader, af_reader_fields *f)
{
    asyncio_adopt(st, reader, st->asyncio_StreamReader, AF_ASYNCIO_READER);
    PyObject *dict = asyncio_unchanged_dict(st, AF_ASYNCIO_READER, reader);
    if (dict != NULL && asyncio_fields(st, reader, dict, reader_field_names, READER_FIELDS, &f->limit) &&
        PyByteArray_CheckExact(f->buffer) && PyBool_Check(f->eof) && PyBool_Check(f->paused) && PyLong_CheckExact(f->limit)) {
        return dict;
    }
    Py_XDECREF(dict);
    return NULL;
}

/* The same for whoever runs no Python before the fields are used: 1 or 0. */
static int
asyncreader_look(AfCoro *c, af_reader_fields *f)
{
    PyObject *dict = af_asyncstream_reader(c->park.st, c->self, f);
    Py_XDECREF(dict);           /* the reader keeps it */
    return dict != NULL && (c->waited || f->exception == Py_None);
}

/* The function of that name as it was on import, borrowed: what was called, if somebody has changed the class since. */
static PyObject *
asyncstream_function(AfState *st, int which, const char *name)
{
    PyObject *codes = st->asyncio_classes[which].codes;
    for (Py_ssize_t i = 1; i < PyTuple_GET_SIZE(codes); i += 2) {
        PyObject *function = PyTuple_GET_ITEM(codes, i);
        if (PyUnicode_CompareWithASCIIString(((PyFunctionObject *)function)->func_name, name) == 0) {
            return function;
        }
    }
    PyErr_SetString(PyExc_SystemError, name);
    return NULL;
}

/* asyncio's method does it, from the start. */
static PySendResult
asyncstream_delegate(AfCoro *c, int which, PyObject **result)
{
    PyObject *function = asyncstream_function(c->park.st, which, c->kind->name);
    PyObject *arg = c->n > 0 ? PyLong_FromSsize_t(c->n) : Py_XNewRef(c->arg);
    PyObject *coro = function == NULL || (c->n > 0 && arg == NULL)
                         ? NULL : PyObject_CallFunctionObjArgs(function, c->self, arg, NULL);
    Py_XDECREF(arg);
    return af_coro_delegate_steal(c, coro, result);
}

static PySendResult
asyncreader_delegate(AfCoro *c, PyObject **result)
{
    return asyncstream_delegate(c, AF_ASYNCIO_READER, result);
}

/* _paused = False; _transport.resume_reading(): 0 or -1. */
static int
asyncreader_resume(AfCoro *c, PyObject *transport)
{
    PyObject *res = NULL;
    Py_INCREF(transport);
    if (PyObject_SetAttr(c->self, c->park.st->str_paused, Py_False) == 0) {
        res = af_call_method(transport, "resume_reading", NULL);
    }
    Py_DECREF(transport);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

/* _wait_for_data() */
static PySendResult
asyncreader_wait(AfCoro *c, const af_reader_fields *f, PyObject **result)
{
    AfState *st = c->park.st;
    if (f->waiter != Py_None) {
        return asyncreader_delegate(c, result);         /* which raises the RuntimeError */
    }
    PyObject *loop = Py_NewRef(f->loop);
    PyObject *future = f->paused == Py_True && asyncreader_resume(c, f->transport) < 0
                           ? NULL : PyObject_CallMethodNoArgs(loop, st->str_create_future);
    Py_DECREF(loop);
    PySendResult how = PYGEN_ERROR;
    if (future != NULL && PyObject_SetAttr(c->self, st->str_waiter, future) == 0) {
        c->waited = 1;
        how = af_coro_wait(c, future, result);
    }
    Py_XDECREF(future);
    return how;
}

/* ... and its `finally`.  An exception may be on its way. */
static void
asyncreader_stopped(AfCoro *c)
{
    PyObject *exc = PyErr_GetRaisedException(), *waiter = c->park.st->str_waiter, *dict = af_instance_dict(c->self);
    /* whoever woke it has set it already */
    if (dict != NULL && af_dict_get(dict, waiter) != Py_None && PyDict_SetItem(dict, waiter, Py_None) < 0) {
        PyErr_Clear();
    }
    Py_XDECREF(dict);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

/* The first n bytes leave the buffer and are the result.  Nothing runs Python. */
static PySendResult
asyncreader_take(AfCoro *c, PyObject *buffer, Py_ssize_t n, PyObject **result)
{
    PyObject *bytes = PyBytes_FromStringAndSize(PyByteArray_AS_STRING(buffer), n);
    if (bytes != NULL && af_bytebuf_drop(buffer, n) < 0) {
        Py_CLEAR(bytes);
    }
    *result = bytes;
    return bytes == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

static int
asyncreader_maybe_resume(AfCoro *c)
{
    PyObject *res = PyObject_CallMethodNoArgs(c->self, c->park.st->str_maybe_resume_transport);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

static PySendResult
asyncreader_take_and_resume(AfCoro *c, const af_reader_fields *f, Py_ssize_t n, PyObject **result)
{
    int paused = f->paused == Py_True;
    PySendResult how = asyncreader_take(c, f->buffer, n, result);
    if (how == PYGEN_RETURN && af_unlikely(paused) && asyncreader_maybe_resume(c) < 0) {
        Py_CLEAR(*result);
        how = PYGEN_ERROR;
    }
    return how;
}

/* The end of read(), which runs nothing but _maybe_resume_transport(), and that for nothing.  1; 0: nothing was done. */
static int
asyncreader_end_read(AfCoro *c, PyObject **result, PySendResult *how)
{
    AfState *st = c->park.st;
    PyObject *dict = asyncio_dict(st, AF_ASYNCIO_READER, c->self);
    PyObject *buffer = dict == NULL ? NULL : af_dict_get(dict, st->str_buffer);
    int ends = buffer != NULL && PyByteArray_CheckExact(buffer) && af_dict_get(dict, st->str_paused) == Py_False &&
               af_dict_get(dict, st->str_maybe_resume_transport) == NULL;
    if (ends) {
        Py_ssize_t size = PyByteArray_GET_SIZE(buffer);
        *how = asyncreader_take(c, buffer, c->n < size ? c->n : size, result);
    }
    Py_XDECREF(dict);
    return ends;
}

/* read(n), n > 0 */
static PySendResult
asyncreader_step_read(AfCoro *c, PyObject **result)
{
    af_reader_fields f;
    PySendResult how;
    if (af_likely(c->waited) && asyncreader_end_read(c, result, &how)) {
        return how;
    }
    if (!asyncreader_look(c, &f)) {
        return asyncreader_delegate(c, result);
    }
    Py_ssize_t size = PyByteArray_GET_SIZE(f.buffer);
    if (size == 0 && f.eof == Py_False && !c->waited) {
        return asyncreader_wait(c, &f, result);
    }
    return asyncreader_take_and_resume(c, &f, c->n < size ? c->n : size, result);
}

/* readexactly(n), n > 0 */
static PySendResult
asyncreader_step_readexactly(AfCoro *c, PyObject **result)
{
    af_reader_fields f;
    if (!asyncreader_look(c, &f)) {
        return asyncreader_delegate(c, result);
    }
    if (PyByteArray_GET_SIZE(f.buffer) >= c->n) {
        return asyncreader_take_and_resume(c, &f, c->n, result);
    }
    if (f.eof == Py_False) {
        return asyncreader_wait(c, &f, result);
    }
    PyObject *expected = PyLong_FromSsize_t(c->n);
    return expected == NULL ? PYGEN_ERROR : af_reader_incomplete_steal(c->park.st, f.buffer, expected);
}

/* readuntil() and readline(); c->arg is the separator. */
static PySendResult
asyncreader_step_readuntil(AfCoro *c, PyObject **result)
{
    af_reader_fields f;
    Py_ssize_t most = -1;
    if (asyncreader_look(c, &f)) {
        most = PyLong_AsSsize_t(f.limit);
        PyErr_Clear();
    }
    if (most < 0) {
        return asyncreader_delegate(c, result);
    }
    Py_ssize_t found = af_reader_find(c, f.buffer, most);
    if (found != 0) {
        return found < 0 ? PYGEN_ERROR : asyncreader_take_and_resume(c, &f, found, result);
    }
    return f.eof == Py_False ? asyncreader_wait(c, &f, result)
                             : af_reader_incomplete_steal(c->park.st, f.buffer, Py_NewRef(Py_None));
}

static int
asyncreader_caught_in_line(AfCoro *c, PyObject **result)
{
    PyObject *exc = PyErr_GetRaisedException(), *buffer = PyObject_GetAttr(c->self, c->park.st->str_buffer);
    PyErr_SetRaisedException(exc);
    int caught = buffer != NULL && PyByteArray_CheckExact(buffer)
                     ? af_reader_caught_in_line(c, buffer, asyncreader_maybe_resume, result) : 0;
    Py_XDECREF(buffer);
    return caught;
}

#define READER_KIND(name, step, caught) {name, "StreamReader." name, step, caught, asyncreader_stopped}

static const af_coro_kind asyncreader_read_kind = READER_KIND("read", asyncreader_step_read, NULL);
static const af_coro_kind asyncreader_readexactly_kind = READER_KIND("readexactly", asyncreader_step_readexactly, NULL);
static const af_coro_kind asyncreader_readuntil_kind = READER_KIND("readuntil", asyncreader_step_readuntil, NULL);
static const af_coro_kind asyncreader_readline_kind =
    READER_KIND("readline", asyncreader_step_readuntil, asyncreader_caught_in_line);

#undef READER_KIND

/* ---- the writer ------------------------------------------------------------------------------------------------- */

/* Would `raise self._reader.exception()` not be reached? */
static int
asyncwriter_reader_is_good(AfState *st, PyObject *reader)
{
    if (reader == Py_None) {
        return 1;
    }
    PyObject *dict = asyncio_dict(st, AF_ASYNCIO_READER, reader);
    int good = dict != NULL && af_dict_get(dict, st->str_private_exception) == Py_None &&
               af_dict_get(dict, st->str_exception) == NULL;
    Py_XDECREF(dict);
    return good;
}

/* Would `await self._protocol._drain_helper()` return at once? */
static int
asyncwriter_protocol_is_free(AfState *st, PyObject *protocol)
{
    PyObject *dict = asyncio_dict(st, AF_ASYNCIO_PROTOCOL, protocol);
    int is_free = dict != NULL && af_dict_get(dict, st->str_private_connection_lost) == Py_False &&
                  af_dict_get(dict, st->str_paused) == Py_False && af_dict_get(dict, st->str_drain_helper) == NULL;
    Py_XDECREF(dict);
    return is_free;
}

/* 1: drain() has returned; 0: asyncio's has to be called; or -1. */
static int
asyncwriter_drained(AfState *st, PyObject *dict)
{
    PyObject *reader = af_dict_get(dict, st->str_private_reader), *transport = af_dict_get(dict, st->str_private_transport);
    if (reader == NULL || transport == NULL || !asyncwriter_reader_is_good(st, reader) ||
        !(Py_IS_TYPE(transport, st->StreamType) || Py_IS_TYPE(transport, st->TlsType))) {
        return 0;
    }
    int closing = af_writer_is_closing(st, transport);
    PyObject *protocol = closing != 0 ? NULL : af_dict_get(dict, st->str_private_protocol);
    return closing < 0 ? -1 : protocol != NULL && asyncwriter_protocol_is_free(st, protocol);
}

static PySendResult
asyncwriter_step_drain(AfCoro *c, PyObject **result)
{
    AfState *st = c->park.st;
    PyObject *dict = asyncio_unchanged_dict(st, AF_ASYNCIO_WRITER, c->self);
    int drained = dict == NULL ? 0 : asyncwriter_drained(st, dict);
    Py_XDECREF(dict);
    if (af_likely(drained > 0)) {
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    return drained < 0 ? PYGEN_ERROR : asyncstream_delegate(c, AF_ASYNCIO_WRITER, result);
}

static const af_coro_kind asyncwriter_drain_kind = {"drain", "StreamWriter.drain", asyncwriter_step_drain, NULL, NULL};

/* Which writer's frame is it: a new reference, or NULL. */
static PyObject *
asyncwriter_of_frame(AfState *st, PyFrameObject *frame)
{
    PyObject *codes = st->asyncio_classes[AF_ASYNCIO_WRITER].codes, *code = (PyObject *)PyFrame_GetCode(frame);
    int writes = codes != NULL && code == PyTuple_GET_ITEM(codes, 2);      /* write() comes first */
    Py_DECREF(code);
    PyObject *locals = writes ? PyFrame_GetLocals(frame) : NULL;
    PyObject *writer = locals == NULL ? NULL : PyMapping_GetItemString(locals, "self");
    Py_XDECREF(locals);
    return writer;
}

AF_API void
af_asyncstream_find_writer(AfState *st, PyObject *transport)
{
    PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());
    PyObject *writer = frame == NULL ? NULL : asyncwriter_of_frame(st, frame);
    PyObject *dict = writer == NULL ? NULL : af_instance_dict(writer);
    if (dict != NULL && af_dict_get(dict, st->str_private_transport) == transport) {
        asyncio_adopt(st, writer, st->asyncio_StreamWriter, AF_ASYNCIO_WRITER);
    }
    PyErr_Clear();
    Py_XDECREF(dict);
    Py_XDECREF(writer);
    Py_XDECREF((PyObject *)frame);
}

/* ---- methods ---------------------------------------------------------------------------------------------------- */

/* In the dict of the class: for method calls a function in C, otherwise what the class above has. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    AfState *st;
    PyObject *owner;            /* the class */
    PyObject *name;
} AfStreamMethod;

/* As super().name */
static PyObject *
method_above(AfStreamMethod *m, PyObject *obj)
{
    PyObject *above = PyObject_CallFunctionObjArgs((PyObject *)&PySuper_Type, m->owner, obj, NULL);
    PyObject *method = above == NULL ? NULL : PyObject_GetAttr(above, m->name);
    Py_XDECREF(above);
    return method;
}

static PyObject *
method_call_above(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    if (nargs == 0) {
        PyErr_SetString(PyExc_TypeError, "missing argument: 'self'");
        return NULL;
    }
    PyObject *method = method_above((AfStreamMethod *)self, args[0]);
    PyObject *res = method == NULL ? NULL : PyObject_Vectorcall(method, args + 1, (size_t)nargs - 1, kwnames);
    Py_XDECREF(method);
    return res;
}

/* Is it obj.name(), a coroutine, with up to that many arguments, of an object whose class is just ours?  Nor does Python have
   to note where coroutines are made, as it does in debug mode. */
static int
method_is_usual(PyObject *self, int which, PyObject *const *args, Py_ssize_t nargs, Py_ssize_t most, PyObject *kwnames)
{
    return nargs > 0 && nargs <= 1 + most && kwnames == NULL &&
           PyThreadState_Get()->coroutine_origin_tracking_depth == 0 &&
           asyncio_is_ours(((AfStreamMethod *)self)->st, which, args[0]);
}

/* read(n) and readexactly(n) */
static PyObject *
method_call_sized(PyObject *self, const af_coro_kind *kind, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf), n = 0;
    if (nargs == 2 && method_is_usual(self, AF_ASYNCIO_READER, args, nargs, 1, kwnames) && PyLong_CheckExact(args[1])) {
        n = PyLong_AsSsize_t(args[1]);
        PyErr_Clear();
    }
    if (n <= 0) {
        return method_call_above(self, args, nargsf, kwnames);
    }
    AfCoro *c = af_coro_new(((AfStreamMethod *)self)->st, kind, args[0]);
    if (c != NULL) {
        c->n = n;
    }
    return (PyObject *)c;
}

static PyObject *
method_read(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    return method_call_sized(self, &asyncreader_read_kind, args, nargsf, kwnames);
}

static PyObject *
method_readexactly(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    return method_call_sized(self, &asyncreader_readexactly_kind, args, nargsf, kwnames);
}

static PyObject *
method_readuntil(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    if (!method_is_usual(self, AF_ASYNCIO_READER, args, nargs, 1, kwnames) ||
        (nargs == 2 && !(PyBytes_CheckExact(args[1]) && PyBytes_GET_SIZE(args[1]) > 0))) {
        return method_call_above(self, args, nargsf, kwnames);
    }
    AfCoro *c = af_coro_new(((AfStreamMethod *)self)->st, &asyncreader_readuntil_kind, args[0]);
    if (c != NULL && nargs == 2) {
        c->arg = Py_NewRef(args[1]);
    }
    return (PyObject *)c;
}

/* readline() and drain() */
static PyObject *
method_call_plain(PyObject *self, int which, const af_coro_kind *kind, PyObject *const *args, size_t nargsf,
                  PyObject *kwnames)
{
    if (!method_is_usual(self, which, args, PyVectorcall_NARGS(nargsf), 0, kwnames)) {
        return method_call_above(self, args, nargsf, kwnames);
    }
    return (PyObject *)af_coro_new(((AfStreamMethod *)self)->st, kind, args[0]);
}

static PyObject *
method_readline(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    return method_call_plain(self, AF_ASYNCIO_READER, &asyncreader_readline_kind, args, nargsf, kwnames);
}

static PyObject *
method_drain(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    return method_call_plain(self, AF_ASYNCIO_WRITER, &asyncwriter_drain_kind, args, nargsf, kwnames);
}

static PyObject *
method_write(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    AfState *st = ((AfStreamMethod *)self)->st;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    PyObject *dict = nargs == 2 && kwnames == NULL ? asyncio_unchanged_dict(st, AF_ASYNCIO_WRITER, args[0]) : NULL;
    PyObject *transport = dict == NULL ? NULL : Py_XNewRef(af_dict_get(dict, st->str_private_transport));
    Py_XDECREF(dict);
    if (transport == NULL) {
        return method_call_above(self, args, nargsf, kwnames);
    }
    PyObject *res = af_writer_write(st, transport, args[1]);
    Py_DECREF(transport);
    return res;
}

static PyObject *
method_descr_get(AfStreamMethod *m, PyObject *obj, PyObject *type)
{
    return method_above(m, obj == NULL || obj == Py_None ? type : obj);
}

static int
method_traverse(AfStreamMethod *m, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(m));
    Py_VISIT(m->owner);
    return 0;
}

static int
method_clear(AfStreamMethod *m)
{
    Py_CLEAR(m->owner);
    return 0;
}

static void
method_dealloc(AfStreamMethod *m)
{
    PyTypeObject *type = Py_TYPE(m);
    PyObject_GC_UnTrack(m);
    method_clear(m);
    Py_CLEAR(m->name);
    PyObject_GC_Del(m);
    Py_DECREF(type);
}

static PyMemberDef method_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(AfStreamMethod, call), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot method_slots[] = {
    {Py_tp_doc, (void *)"A method of asyncio's streams that is called in C."},
    {Py_tp_dealloc, method_dealloc},
    {Py_tp_traverse, method_traverse},
    {Py_tp_clear, method_clear},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, method_descr_get},
    {Py_tp_members, method_members},
    {0, NULL},
};

static PyType_Spec method_spec = {
    "asyncfast._StreamMethod", sizeof(AfStreamMethod), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR |
        Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    method_slots,
};

static const struct {
    int class;
    const char *name;
    vectorcallfunc call;
} method_table[] = {
    {AF_ASYNCIO_READER, "read", method_read},           {AF_ASYNCIO_READER, "readexactly", method_readexactly},
    {AF_ASYNCIO_READER, "readuntil", method_readuntil}, {AF_ASYNCIO_READER, "readline", method_readline},
    {AF_ASYNCIO_WRITER, "write", method_write},         {AF_ASYNCIO_WRITER, "drain", method_drain},
};

static int
method_add(AfState *st, PyTypeObject *type, PyObject *owner, const char *name, vectorcallfunc call)
{
    AfStreamMethod *m = PyObject_GC_New(AfStreamMethod, type);
    if (m == NULL) {
        return -1;
    }
    m->call = call;
    m->st = st;
    m->owner = Py_NewRef(owner);
    m->name = PyUnicode_InternFromString(name);
    PyObject_GC_Track(m);
    int rc = m->name == NULL ? -1 : PyObject_SetAttr(owner, m->name, (PyObject *)m);
    Py_DECREF(m);
    return rc;
}

AF_API int
af_asyncstream_register(AfState *st, PyObject *classes)
{
    if (!PyTuple_CheckExact(classes) || PyTuple_GET_SIZE(classes) != AF_ASYNCIO_CLASSES) {
        PyErr_BadInternalCall();
        return -1;
    }
    for (Py_ssize_t i = 0; i < AF_ASYNCIO_CLASSES; i++) {
        af_asyncio_class *class = &st->asyncio_classes[i];
        Py_XSETREF(class->codes, Py_NewRef(PyTuple_GET_ITEM(classes, i)));
        Py_XSETREF(class->type, Py_NewRef(PyTuple_GET_ITEM(class->codes, 0)));
        class->version = UINT_MAX;      /* to be looked at */
    }
    PyTypeObject *type = (PyTypeObject *)PyType_FromSpec(&method_spec);
    int rc = type == NULL ? -1 : 0;
    for (size_t i = 0; rc == 0 && i < sizeof(method_table) / sizeof(method_table[0]); i++) {
        rc = method_add(st, type, st->asyncio_classes[method_table[i].class].type, method_table[i].name, method_table[i].call);
    }
    Py_XDECREF((PyObject *)type);
    return rc;
}
