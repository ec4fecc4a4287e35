/* Making TLS transports: what is asked of ssl's classes before there is a handshake.

   The SSLObject is made by the user's context, in the call that asyncio makes.  A server's connections come here straight
   from the listener, which has neither task nor future for them: if the handshake fails that is the transport's to tell.

   A program that has changed asyncio.sslproto.SSLProtocol gets that one.  Whether it has is asked for each connection, by
   the version of the type, which any change to it or its bases changes.

   Runs Python: ssl's methods, the program's subclasses of them. */
#include "tls/tls.h"

#include "tls/libssl.h"

/* An attribute of _ssl's own context, whatever a subclass may say; NULL without an exception: there is none. */
static PyObject *
make_context_attr(PyObject *descr, PyObject *context)
{
    descrgetfunc get = Py_TYPE(descr)->tp_descr_get;
    PyObject *value = get == NULL ? NULL : get(descr, context, (PyObject *)Py_TYPE(context));
    PyErr_Clear();
    return value;
}

/* Is the attribute there, and not None? */
static int
make_context_has(PyObject *descr, PyObject *context)
{
    PyObject *value = make_context_attr(descr, context);
    Py_XDECREF(value);
    return value != NULL && value != Py_None;
}

/* The context that the SSL is really of: a program's may only stand in front of it. */
static PyObject *
make_real_context(PyObject *sslobj, PyObject *context)
{
    PyObject *sock = af_get_attr(sslobj, "_sslobj");
    PyObject *real = sock == NULL ? NULL : af_get_attr(sock, "context");
    Py_XDECREF(sock);
    PyErr_Clear();
    return real == NULL ? Py_NewRef(context) : real;
}

/* A class of the program's own wants its methods called; and an exception of a message callback is kept in the SSLObject,
   which raises it from its next method.  The same holds for the key log, in the handshake; and somebody may have put another
   method in the place of do_handshake(). */
static void
make_choose_engine(AfState *st, af_tls_wish *wish, PyObject *context)
{
    wish->direct = wish->direct && (PyObject *)Py_TYPE(wish->sslobj) == st->ssl_object_type &&
                   !make_context_has(st->ssl_msg_callback, context);
    if (wish->direct) {
        PyObject *method = PyObject_GetAttr(wish->sslobj, st->str_do_handshake);
        PyErr_Clear();
        wish->handshake_direct = !make_context_has(st->ssl_keylog, context) && method != NULL && PyMethod_Check(method) &&
                                 PyMethod_GET_FUNCTION(method) == st->ssl_do_handshake;
        Py_XDECREF(method);
    }
}

/* Does the loop, or the context by its options, wish for kernel TLS?  0 or -1. */
static int
make_wish_ktls(AfState *st, af_tls_wish *wish, PyObject *context)
{
    PyObject *options = make_context_attr(st->ssl_options, context);
    unsigned long bits = options == NULL || !PyLong_Check(options) ? 0 : PyLong_AsUnsignedLongMask(options);
    Py_XDECREF(options);
    if (af_likely(!wish->ktls && !(bits & AF_SSL_OP_ENABLE_KTLS))) {
        return 0;
    }
    PyObject *res = af_call_method(st->hooks, "tls_wish_ktls", "ikiO", wish->ktls, bits, wish->direct, wish->extra);
    wish->ktls = res == Py_True;
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

static PyObject *
make_sslobj(AfState *st, PyObject *context, PyObject *incoming, PyObject *outgoing, PyObject *server_side, PyObject *hostname)
{
    PyObject *args[] = {context, incoming, outgoing, server_side, hostname};
    return PyObject_VectorcallMethod(st->str_wrap_bio, args, 3, st->kw_wrap_bio);
}

/* A transport that waits for its connection_made() from below; direct: it may use that engine.  wish has what the caller
   knows, and borrows it. */
static AfTls *
make_transport(AfState *st, af_tls_wish *wish, PyObject *context, PyObject *server_side, PyObject *hostname)
{
    AfTls *tls = NULL;
    wish->incoming = PyObject_CallNoArgs(st->ssl_memory_bio);
    wish->outgoing = wish->incoming == NULL ? NULL : PyObject_CallNoArgs(st->ssl_memory_bio);
    wish->sslobj = wish->outgoing == NULL ? NULL
                   : make_sslobj(st, context, wish->incoming, wish->outgoing, server_side, hostname);
    wish->extra = wish->sslobj == NULL ? NULL : PyDict_New();
    if (wish->extra != NULL && PyDict_SetItem(wish->extra, st->str_sslcontext, context) == 0) {
        PyObject *real = make_real_context(wish->sslobj, context);
        make_choose_engine(st, wish, real);
        tls = make_wish_ktls(st, wish, real) < 0 ? NULL : (AfTls *)st->TlsType->tp_new(st->TlsType, NULL, NULL);
        Py_DECREF(real);
    }
    if (tls != NULL && af_tls_init(tls, wish) < 0) {
        Py_CLEAR(tls);
    }
    Py_XDECREF(wish->incoming);
    Py_XDECREF(wish->outgoing);
    Py_XDECREF(wish->sslobj);
    Py_XDECREF(wish->extra);
    return tls;
}

AF_API PyObject *
af_tls_make(PyObject *module, PyObject *args)
{
    AfState *st = af_state_of_module(module);
    PyObject *context, *server_side, *hostname;
    af_tls_wish wish = {0};
    if (!PyArg_ParseTuple(args, "OOOOO!OpOOpp:_make_tls", &wish.loop, &wish.protocol, &context, &wish.waiter, &PyBool_Type,
                          &server_side, &hostname, &wish.call_connection_made, &wish.handshake_timeout,
                          &wish.shutdown_timeout, &wish.direct, &wish.ktls)) {
        return NULL;
    }
    return (PyObject *)make_transport(st, &wish, context, server_side, hostname);
}

/* Is SSLProtocol what it was at import?  1 or 0; -1. */
static int
make_is_asyncios(AfState *st)
{
    PyObject *cls = PyDict_GetItemWithError(st->sslproto_names, st->str_SSLProtocol);
    if (cls != st->asyncio_SSLProtocol) {
        return PyErr_Occurred() ? -1 : 0;
    }
    unsigned version = af_type_version((PyTypeObject *)cls);
    if (af_likely(version != 0 && version == st->sslproto_version)) {
        return st->sslproto_good;
    }
    PyObject *res = af_call_method(st->hooks, "sslproto_is_asyncios", NULL);
    if (res == NULL) {
        return -1;
    }
    st->sslproto_good = res == Py_True;
    Py_DECREF(res);
    /* a type that was changed has no version until it is asked for something */
    Py_XDECREF(PyObject_GetAttr(cls, st->str_connection_made));
    PyErr_Clear();
    st->sslproto_version = af_type_version((PyTypeObject *)cls);
    return st->sslproto_good;
}

AF_API PyObject *
af_tls_accept(PyObject *module, PyObject *args)
{
    AfState *st = af_state_of_module(module);
    PyObject *context;
    af_tls_wish wish = {.waiter = Py_None, .call_connection_made = 1, .accepted = 1};
    if (!PyArg_ParseTuple(args, "OOOOppO:_accept_tls", &wish.loop, &context, &wish.handshake_timeout,
                          &wish.shutdown_timeout, &wish.direct, &wish.ktls, &wish.protocol)) {
        return NULL;
    }
    int same = make_is_asyncios(st);
    if (af_unlikely(same <= 0)) {
        return same < 0 ? NULL : af_call_method(st->hooks, "accept_asyncios_tls", "OOOOO", wish.loop, context,
                                                wish.handshake_timeout, wish.shutdown_timeout, wish.protocol);
    }
    AfTls *tls = make_transport(st, &wish, context, Py_True, Py_None);
    PyObject *face = tls == NULL ? NULL : af_tls_face(tls);
    Py_XDECREF((PyObject *)tls);
    return face;
}

AF_API PyObject *
af_tls_is_asyncios(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    int same = make_is_asyncios(af_state_of_module(module));
    return same < 0 ? NULL : PyBool_FromLong(same);
}

AF_API PyObject *
af_tls_register(PyObject *module, PyObject *args)
{
    AfState *st = af_state_of_module(module);
    PyObject *ssl, *context_type, *again, *sslproto;
    if (!PyArg_ParseTuple(args, "OOO!O:_register_tls", &ssl, &context_type, &PyTuple_Type, &again, &sslproto)) {
        return NULL;
    }
    PyObject *side = PyUnicode_InternFromString("server_side"), *hostname = PyUnicode_InternFromString("server_hostname");
    PyObject *names = side == NULL || hostname == NULL ? NULL : PyTuple_Pack(2, side, hostname);
    Py_XDECREF(side);
    Py_XDECREF(hostname);
    if (names == NULL) {
        return NULL;
    }
    Py_XSETREF(st->kw_wrap_bio, names);
    Py_XSETREF(st->tls_again_errors, Py_NewRef(again));
    const struct {
        PyObject **slot, *from;
        const char *name;
    } wanted[] = {
        {&st->tls_error, ssl, "SSLError"},
        {&st->tls_certificate_error, ssl, "CertificateError"},
        {&st->ssl_memory_bio, ssl, "MemoryBIO"},
        {&st->ssl_object_type, ssl, "SSLObject"},
        {&st->ssl_do_handshake, NULL, "do_handshake"},      /* of the one above */
        {&st->ssl_msg_callback, context_type, "_msg_callback"},
        {&st->ssl_keylog, context_type, "keylog_filename"},
        {&st->ssl_options, context_type, "options"},
        {&st->sslproto_names, sslproto, "__dict__"},
        {&st->asyncio_SSLProtocol, sslproto, "SSLProtocol"},
    };
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        PyObject *value = af_get_attr(wanted[i].from == NULL ? st->ssl_object_type : wanted[i].from, wanted[i].name);
        if (value == NULL) {
            return NULL;
        }
        Py_XSETREF(*wanted[i].slot, value);
    }
    Py_RETURN_NONE;
}
