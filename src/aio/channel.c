/* Channels: who has an item, who gets the next one, who may send.

   Receivers are served in the order in which they began to wait: an item that is sent while one waits is handed to it, and
   nobody who comes later can take it.  A sender that waits for a place is granted the next one, and puts its item there
   itself when it runs: until then the item is the sender's, and a send() that raises has sent nothing.  Whoever is woken
   and then does not go on (it is cancelled, or its coroutine is closed) gives back what it was woken for: an item goes to
   the receiver that waits longest, or to the front; a place to the next sender.

   Invariants:
   - while receivers wait there is no item, except for those that were handed to woken receivers;
   - while senders wait there is no place: items + granted >= maxsize;
   - in a closed channel no sender waits, and receivers only for items that may yet be given back (handed > 0).

   Belongs to the thread of the loop on which its waiters wait; send_threadsafe() may be called from any, and the
   interpreter's lock protects it: nothing between a decision and what follows from it runs Python.
   Runs Python: foreign loops' call_soon(), dropped references. */
#include "aio/channel.h"

static const char channel_closed_text[] = "the channel is closed";

static inline Py_ssize_t
channel_len(const AfChannel *ch)
{
    return (Py_ssize_t)af_ring_len(&ch->items);
}

static inline int
channel_some_wait(const af_link *list)
{
    return list->next != list;
}

static inline AfChanOp *
channel_first(const af_link *list)
{
    return af_container_of(list->next, AfChanOp, link);
}

static inline int
channel_has_place(const AfChannel *ch)
{
    return ch->maxsize <= 0 || channel_len(ch) + ch->granted < ch->maxsize;
}

/* ---- waking ----------------------------------------------------------------------------------------------------- */

static int
channel_wake_first(af_link *list, int from_any_thread)
{
    AfChanOp *op = channel_first(list);
    af_list_remove(&op->link);
    Py_INCREF(op);
    int rc = af_park_wake(&op->park, from_any_thread);
    Py_DECREF(op);
    return rc;
}

/* The same where nobody can be told of a failure: memory ran out, or its loop is closed and will never resume it. */
static void
channel_wake_first_somehow(AfChannel *ch, af_link *list, int from_any_thread)
{
    if (channel_wake_first(list, from_any_thread) < 0) {
        PyErr_WriteUnraisable((PyObject *)ch);
    }
}

/* Places have become free. */
static void
channel_grant(AfChannel *ch, int from_any_thread)
{
    while (channel_some_wait(&ch->senders) && channel_has_place(ch)) {
        AfChanOp *op = channel_first(&ch->senders);
        op->granted = 1;
        ch->granted++;
        channel_wake_first_somehow(ch, &ch->senders, from_any_thread);
    }
}

/* It is closed: once no item can come back any more, receivers need not wait. */
static void
channel_settle(AfChannel *ch, int from_any_thread)
{
    while (ch->closed && ch->handed == 0 && channel_some_wait(&ch->receivers)) {
        channel_wake_first_somehow(ch, &ch->receivers, from_any_thread);
    }
}

/* ---- items ------------------------------------------------------------------------------------------------------ */

static int
channel_ready_ring(AfChannel *ch)
{
    if (af_unlikely(ch->items.slots == NULL) && af_ring_init(&ch->items) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* To the receiver that has waited longest. */
static int
channel_hand(AfChannel *ch, PyObject *item, int from_any_thread)
{
    AfChanOp *op = channel_first(&ch->receivers);
    Py_INCREF(op);
    op->item = Py_NewRef(item);
    ch->handed++;
    int rc = channel_wake_first(&ch->receivers, from_any_thread);
    if (af_unlikely(rc < 0) && op->item == item) {
        ch->handed--;
        Py_CLEAR(op->item);     /* the caller has it still */
    }
    Py_DECREF(op);
    return rc;
}

/* There is a place for it. */
static int
channel_put(AfChannel *ch, PyObject *item, int from_any_thread)
{
    if (channel_some_wait(&ch->receivers)) {
        return channel_hand(ch, item, from_any_thread);
    }
    if (channel_ready_ring(ch) < 0) {
        return -1;
    }
    if (af_unlikely(af_ring_push(&ch->items, (uintptr_t)item) < 0)) {
        PyErr_NoMemory();
        return -1;
    }
    Py_INCREF(item);
    return 0;
}

/* It was handed out and comes back.  Takes the reference. */
static void
channel_give_back_steal(AfChannel *ch, PyObject *item)
{
    while (channel_some_wait(&ch->receivers)) {
        if (channel_hand(ch, item, 1) == 0) {
            Py_DECREF(item);
            return;
        }
        PyErr_WriteUnraisable((PyObject *)ch);
    }
    if (channel_ready_ring(ch) < 0 || af_ring_push_front(&ch->items, (uintptr_t)item) < 0) {
        PyErr_NoMemory();
        PyErr_WriteUnraisable((PyObject *)ch);
        Py_DECREF(item);
    }
}

/* The oldest: a new reference. */
static PyObject *
channel_take(AfChannel *ch)
{
    PyObject *item = (PyObject *)af_ring_pop(&ch->items);
    if (af_unlikely(channel_some_wait(&ch->senders))) {
        channel_grant(ch, 0);
    }
    return item;
}

/* ---- errors ----------------------------------------------------------------------------------------------------- */

/* To a sender. */
static void
channel_raise_closed(AfChannel *ch)
{
    PyObject *text = PyUnicode_FromString(channel_closed_text);
    PyObject *exc = text == NULL ? NULL : PyObject_CallOneArg(ch->st->ChannelClosed, text);
    Py_XDECREF(text);
    if (exc != NULL) {
        if (ch->error != NULL) {
            PyException_SetCause(exc, Py_NewRef(ch->error));
        }
        PyErr_SetObject(ch->st->ChannelClosed, exc);
        Py_DECREF(exc);
    }
}

/* To a receiver of a closed channel with nothing in it. */
static void
channel_raise_end(AfChannel *ch, int kind)
{
    if (ch->error != NULL) {
        /* from the same beginning for each receiver, or its traceback would grow for ever */
        PyException_SetTraceback(ch->error, ch->error_tb == NULL ? Py_None : ch->error_tb);
        PyErr_SetObject((PyObject *)Py_TYPE(ch->error), ch->error);
    }
    else if (kind == AF_CHANOP_NEXT) {
        PyErr_SetNone(PyExc_StopAsyncIteration);
    }
    else {
        PyErr_SetString(ch->st->ChannelClosed, channel_closed_text);
    }
}

/* A method that wakes somebody is called in the loop's thread: in debug mode, as on asyncio, that is checked, and before
   anything is changed.  0, or -1 with RuntimeError. */
static int
channel_check_thread(AfChannel *ch)
{
    if (channel_some_wait(&ch->receivers) || channel_some_wait(&ch->senders)) {
        AfLoop *loop = af_loop_fast(ch->st, ch->loop);
        if (loop != NULL && af_unlikely(loop->closed | loop->debug)) {
            return af_loop_check_schedule(loop);
        }
    }
    return 0;
}

/* ---- what waits ------------------------------------------------------------------------------------------------- */

static PySendResult
channel_try_receive(AfChannel *ch, AfChanOp *op, PyObject **result)
{
    if (op->item != NULL) {
        *result = op->item;
        op->item = NULL;
        ch->handed--;
        channel_settle(ch, 0);
        return PYGEN_RETURN;
    }
    if (af_likely(channel_len(ch) > 0)) {
        *result = channel_take(ch);
        return PYGEN_RETURN;
    }
    if (ch->closed && ch->handed == 0) {
        channel_raise_end(ch, op->kind);
        return PYGEN_ERROR;
    }
    return PYGEN_NEXT;
}

static PySendResult
channel_try_send(AfChannel *ch, AfChanOp *op, PyObject **result)
{
    int granted = op->granted;
    op->granted = 0;
    ch->granted -= granted;
    if (af_unlikely(ch->closed)) {
        channel_raise_closed(ch);
        return PYGEN_ERROR;
    }
    if (!granted && !channel_some_wait(&ch->receivers) && !channel_has_place(ch)) {
        return PYGEN_NEXT;
    }
    int rc = channel_put(ch, op->item, 0);
    if (af_unlikely(granted)) {
        channel_grant(ch, 0);   /* a receiver took it: the place is free still */
    }
    if (rc < 0) {
        return PYGEN_ERROR;
    }
    *result = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

AF_API PySendResult
af_channel_try(AfChannel *ch, AfChanOp *op, PyObject **result)
{
    return op->kind == AF_CHANOP_SEND ? channel_try_send(ch, op, result) : channel_try_receive(ch, op, result);
}

static void
channel_forget_op(AfPark *p)
{
    af_list_remove(&((AfChanOp *)p)->link);
}

AF_API int
af_channel_wait(AfChannel *ch, AfChanOp *op, PyObject *loop)
{
    if (ch->loop == NULL) {
        ch->loop = Py_NewRef(loop);
    }
    else if (ch->loop != loop) {
        PyErr_Format(PyExc_RuntimeError, "%R is bound to a different event loop", (PyObject *)ch);
        return -1;
    }
    op->park.forget = channel_forget_op;
    af_list_append(op->kind == AF_CHANOP_SEND ? &ch->senders : &ch->receivers, &op->link);
    af_park_begin_steal(&op->park, Py_NewRef(loop));
    return 0;
}

/* The collector calls it too, in whichever thread. */
AF_API void
af_channel_abandon(AfChannel *ch, AfChanOp *op)
{
    af_park_forget(&op->park);
    if (op->granted) {
        op->granted = 0;
        ch->granted--;
        channel_grant(ch, 1);
    }
    else if (op->kind != AF_CHANOP_SEND && op->item != NULL) {
        PyObject *item = op->item;
        op->item = NULL;
        ch->handed--;
        channel_give_back_steal(ch, item);
        channel_settle(ch, 1);
    }
}

/* ---- methods ---------------------------------------------------------------------------------------------------- */

static PyObject *
channel_send(AfChannel *ch, PyObject *item)
{
    return af_chanop_new(ch, AF_CHANOP_SEND, item);
}

static PyObject *
channel_receive(AfChannel *ch, PyObject *Py_UNUSED(ignored))
{
    return af_chanop_new(ch, AF_CHANOP_RECEIVE, NULL);
}

static PyObject *
channel_am_anext(PyObject *self)
{
    return af_chanop_new((AfChannel *)self, AF_CHANOP_NEXT, NULL);
}

static PyObject *
channel_put_now(AfChannel *ch, PyObject *item, int from_any_thread)
{
    if (ch->closed) {
        channel_raise_closed(ch);
        return NULL;
    }
    if (!channel_some_wait(&ch->receivers) && !channel_has_place(ch)) {
        PyErr_SetString(ch->st->ChannelFull, "the channel is full");
        return NULL;
    }
    return channel_put(ch, item, from_any_thread) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
channel_send_nowait(AfChannel *ch, PyObject *item)
{
    return channel_check_thread(ch) < 0 ? NULL : channel_put_now(ch, item, 0);
}

/* As call_soon_threadsafe() would, if somebody waited. */
static int
channel_check_loop_open(AfChannel *ch)
{
    if (ch->loop == NULL) {
        return 0;
    }
    if (PyObject_TypeCheck(ch->loop, ch->st->LoopType)) {
        return af_loop_check_closed((AfLoop *)ch->loop);
    }
    PyObject *res = af_call_method(ch->loop, "is_closed", NULL);
    int truth = res == NULL ? -1 : PyObject_IsTrue(res);
    Py_XDECREF(res);
    if (truth > 0) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
    }
    return truth == 0 ? 0 : -1;
}

static PyObject *
channel_send_threadsafe(AfChannel *ch, PyObject *item)
{
    return channel_check_loop_open(ch) < 0 ? NULL : channel_put_now(ch, item, 1);
}

static PyObject *
channel_receive_nowait(AfChannel *ch, PyObject *Py_UNUSED(ignored))
{
    if (channel_check_thread(ch) < 0) {
        return NULL;
    }
    if (channel_len(ch) > 0) {
        return channel_take(ch);
    }
    if (ch->closed && ch->handed == 0) {
        channel_raise_end(ch, AF_CHANOP_RECEIVE);
    }
    else {
        PyErr_SetString(ch->st->ChannelEmpty, "the channel is empty");
    }
    return NULL;
}

/* exc of close(): an exception, or a class of it.  A new reference. */
static PyObject *
channel_check_error(PyObject *exc)
{
    PyObject *made = PyExceptionClass_Check(exc) ? PyObject_CallNoArgs(exc) : Py_NewRef(exc);
    if (made != NULL && (!PyExceptionInstance_Check(made) || PyErr_GivenExceptionMatches(made, PyExc_StopAsyncIteration) ||
                         PyErr_GivenExceptionMatches(made, PyExc_StopIteration))) {
        PyErr_Format(PyExc_TypeError, "close() takes an exception that can be raised from a coroutine, not %R", exc);
        Py_CLEAR(made);
    }
    return made;
}

static PyObject *
channel_close(AfChannel *ch, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"exc", NULL};
    PyObject *exc = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:close", names, &exc)) {
        return NULL;
    }
    PyObject *error = exc == Py_None ? NULL : channel_check_error(exc);
    if ((exc != Py_None && error == NULL) || channel_check_thread(ch) < 0) {
        Py_XDECREF(error);
        return NULL;
    }
    if (ch->closed) {
        Py_XDECREF(error);      /* the first one stays */
        Py_RETURN_NONE;
    }
    ch->closed = 1;
    ch->error = error;
    ch->error_tb = error == NULL ? NULL : PyException_GetTraceback(error);
    while (channel_some_wait(&ch->senders)) {
        channel_wake_first_somehow(ch, &ch->senders, 0);
    }
    channel_settle(ch, 0);
    Py_RETURN_NONE;
}

static PyObject *
channel_full(AfChannel *ch, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(!channel_some_wait(&ch->receivers) && !channel_has_place(ch));
}

static PyObject *
channel_get_maxsize(AfChannel *ch, void *Py_UNUSED(closure))
{
    return PyLong_FromSsize_t(ch->maxsize);
}

static PyObject *
channel_get_closed(AfChannel *ch, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(ch->closed);
}

static Py_ssize_t
channel_sq_length(PyObject *self)
{
    return channel_len((AfChannel *)self);
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static Py_ssize_t
channel_count(const af_link *list)
{
    Py_ssize_t n = 0;
    for (const af_link *l = list->next; l != list; l = l->next) {
        n++;
    }
    return n;
}

static PyObject *
channel_tp_repr(AfChannel *ch)
{
    return PyUnicode_FromFormat("<%s maxsize=%zd items=%zd receivers=%zd senders=%zd%s at %p>", Py_TYPE(ch)->tp_name,
                                ch->maxsize, channel_len(ch), channel_count(&ch->receivers), channel_count(&ch->senders),
                                ch->closed ? " closed" : "", ch);
}

static PyObject *
channel_tp_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    AfChannel *ch = (AfChannel *)type->tp_alloc(type, 0);
    if (ch != NULL) {
        ch->st = af_state_of_type(type);
        af_list_init(&ch->receivers);
        af_list_init(&ch->senders);
    }
    return (PyObject *)ch;
}

static int
channel_tp_init(AfChannel *ch, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"maxsize", NULL};
    Py_ssize_t maxsize = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|n:Channel", names, &maxsize)) {
        return -1;
    }
    ch->maxsize = maxsize;
    channel_grant(ch, 1);       /* called again, with more places */
    return 0;
}

static int
channel_visit_list(const af_link *list, visitproc visit, void *arg)
{
    for (const af_link *l = list->next; l != list; l = l->next) {
        AfChanOp *op = af_container_of(l, AfChanOp, link);
        if (op->park.held) {
            Py_VISIT((PyObject *)op);
        }
    }
    return 0;
}

static int
channel_tp_traverse(AfChannel *ch, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(ch));
    Py_VISIT(ch->loop);
    Py_VISIT(ch->error);
    Py_VISIT(ch->error_tb);
    for (size_t i = 0; i < af_ring_len(&ch->items); i++) {
        Py_VISIT((PyObject *)af_ring_at(&ch->items, i));
    }
    int rc = channel_visit_list(&ch->receivers, visit, arg);
    return rc ? rc : channel_visit_list(&ch->senders, visit, arg);
}

static int
channel_tp_clear(AfChannel *ch)
{
    for (af_link *list = &ch->receivers; list != NULL; list = list == &ch->receivers ? &ch->senders : NULL) {
        while (channel_some_wait(list)) {
            AfChanOp *op = channel_first(list);
            Py_INCREF(op);
            af_park_forget(&op->park);
            Py_DECREF(op);
        }
    }
    while (channel_len(ch) > 0) {
        Py_DECREF((PyObject *)af_ring_pop(&ch->items));
    }
    Py_CLEAR(ch->error);
    Py_CLEAR(ch->error_tb);
    Py_CLEAR(ch->loop);
    return 0;
}

static void
channel_tp_dealloc(AfChannel *ch)
{
    PyTypeObject *type = Py_TYPE(ch);
    PyObject_GC_UnTrack(ch);
    if (ch->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)ch);
    }
    channel_tp_clear(ch);
    af_ring_fini(&ch->items);
    type->tp_free((PyObject *)ch);
    Py_DECREF(type);
}

static PyMethodDef channel_methods[] = {
    {"send", (PyCFunction)channel_send, METH_O,
     "send($self, item, /)\n--\n\n"
     "Send an item, waiting for a place if the channel is full.  A coroutine.\n\n"
     "Who waits longest is served first.  If it raises, nothing was sent: ChannelClosed if the channel is closed, or is\n"
     "while it waits; CancelledError if the task is cancelled while it waits."},
    {"send_nowait", (PyCFunction)channel_send_nowait, METH_O,
     "send_nowait($self, item, /)\n--\n\nSend an item now.  Raises ChannelFull if there is no place, or ChannelClosed."},
    {"send_threadsafe", (PyCFunction)channel_send_threadsafe, METH_O,
     "send_threadsafe($self, item, /)\n--\n\n"
     "send_nowait() that any thread may use: a loop that sleeps is woken as by call_soon_threadsafe().\n\n"
     "Raises ChannelFull, ChannelClosed, or RuntimeError if the loop that is waited on is closed."},
    {"receive", (PyCFunction)channel_receive, METH_NOARGS,
     "receive($self, /)\n--\n\n"
     "Return the next item, waiting for one if there is none.  A coroutine.\n\n"
     "Who waits longest is served first.  Once the channel is closed and empty it raises what close() was given, or\n"
     "ChannelClosed.  One that is cancelled has taken no item."},
    {"receive_nowait", (PyCFunction)channel_receive_nowait, METH_NOARGS,
     "receive_nowait($self, /)\n--\n\n"
     "Return the next item.  Raises ChannelEmpty if there is none; once it is closed what receive() raises."},
    {"close", (PyCFunction)(void (*)(void))channel_close, METH_VARARGS | METH_KEYWORDS,
     "close($self, /, exc=None)\n--\n\n"
     "No more items are sent: senders that wait get ChannelClosed, receivers get what is there and then the end.\n\n"
     "With an exception (or a class of one) receivers get that instead of the end.  A second call does nothing.\n"
     "Raises TypeError for anything else, and for StopIteration and StopAsyncIteration."},
    {"full", (PyCFunction)channel_full, METH_NOARGS,
     "full($self, /)\n--\n\nReturn whether send_nowait() would raise ChannelFull."},
    {"__class_getitem__", (PyCFunction)Py_GenericAlias, METH_O | METH_CLASS, "Channel[T], for type checkers."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef channel_getset[] = {
    {"maxsize", (getter)channel_get_maxsize, NULL, "How many items may lie in it; 0 or less: any number.", NULL},
    {"closed", (getter)channel_get_closed, NULL, "Whether close() was called; there may be items left.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef channel_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(AfChannel, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot channel_slots[] = {
    {Py_tp_doc, (void *)"Channel(maxsize=0)\n--\n\n"
                        "Items from any number of senders to any number of receivers, each item to one of them.\n\n"
                        "maxsize: how many items may lie in it before senders wait; 0 or less: any number.\n"
                        "`async for item in channel` receives until it is closed.  len() is the number of items in it."},
    {Py_tp_new, channel_tp_new},
    {Py_tp_init, channel_tp_init},
    {Py_tp_dealloc, channel_tp_dealloc},
    {Py_tp_traverse, channel_tp_traverse},
    {Py_tp_clear, channel_tp_clear},
    {Py_tp_repr, channel_tp_repr},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, channel_am_anext},
    {Py_sq_length, channel_sq_length},
    {Py_tp_methods, channel_methods},
    {Py_tp_getset, channel_getset},
    {Py_tp_members, channel_members},
    {0, NULL},
};

static PyType_Spec channel_spec = {
    "asyncfast.Channel", sizeof(AfChannel), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    channel_slots,
};

/* An exception that passes for the one of asyncio.Queue, where this Python's has it (QueueShutDown came in 3.13). */
static int
channel_setup_error(PyObject *module, PyObject *queues, PyObject **slot, const char *name, const char *base_name,
                    const char *doc)
{
    PyObject *base = NULL, *key = PyUnicode_InternFromString(base_name);
    int rc = key == NULL ? -1 : af_lookup_attr(queues, key, &base);
    Py_XDECREF(key);
    if (rc < 0) {
        return -1;
    }
    *slot = PyErr_NewExceptionWithDoc(name, doc, base, NULL);
    Py_XDECREF(base);
    return *slot == NULL ? -1 : PyModule_AddObjectRef(module, strchr(name, '.') + 1, *slot);
}

AF_API int
af_channel_setup(PyObject *module, AfState *st)
{
    st->ChannelType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &channel_spec, NULL);
    if (st->ChannelType == NULL || PyModule_AddType(module, st->ChannelType) < 0) {
        return -1;
    }
    PyObject *queues = PyImport_ImportModule("asyncio.queues");
    if (queues == NULL) {
        return -1;
    }
    int rc = 0;
    if (channel_setup_error(module, queues, &st->ChannelClosed, "asyncfast.ChannelClosed", "QueueShutDown",
                            "The channel is closed: nothing can be sent, and there is nothing left to receive.\n\n"
                            "An asyncio.QueueShutDown where there is that (3.13+).") < 0 ||
        channel_setup_error(module, queues, &st->ChannelEmpty, "asyncfast.ChannelEmpty", "QueueEmpty",
                            "There is no item now.  An asyncio.QueueEmpty.") < 0 ||
        channel_setup_error(module, queues, &st->ChannelFull, "asyncfast.ChannelFull", "QueueFull",
                            "There is no place now.  An asyncio.QueueFull.") < 0) {
        rc = -1;
    }
    Py_DECREF(queues);
    return rc;
}
