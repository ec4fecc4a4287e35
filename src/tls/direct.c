/* The direct engine: OpenSSL reads records from the memory they were received in, and writes them into the bytes object that
   goes to the socket.

   The SSL is that of a real ssl.SSLObject, which the user's context has made; while the connection lives it has a BIO of
   ours instead of the MemoryBIOs.  These are put back in the end, for a program may keep the object for longer.  The
   shutdown is the SSLObject's own call, through our BIO.  Reading, writing and the handshake go past it, and only where it
   would add nothing: what OpenSSL refuses is done again through the SSLObject, which finds the error where OpenSSL has left
   it and raises it in ssl's words.  Callbacks of the program are made by _ssl, which takes the interpreter's lock for them.

   The BIO is called without that lock in a handshake or shutdown: no Python in its functions, and nobody else touches the
   memory meanwhile, for the loop's thread is in that call. */
#include "tls/tls.h"

#include "tls/libssl.h"

#include <limits.h>
#include <stdlib.h>

/* Room for a record besides its data: header, nonce or IV, padding, MAC, 85 bytes at most; and how much data it holds. */
#define DIRECT_OVERHEAD 96
#define DIRECT_RECORD ((size_t)16 * 1024)
/* RFC 8446: a type of records, and one of messages in them. */
#define DIRECT_RECORD_HANDSHAKE 22
#define DIRECT_KEY_UPDATE 24

static const af_libssl *
direct_lib(const AfTls *tls)
{
    return tls->st->libssl;
}

/* ---- the BIO ---------------------------------------------------------------------------------------------------- */

/* BIO_get_data(), which finds all else: the one thing that a BIO's functions cannot be given.  Atomic; the same for every
   interpreter of the process, or the engine is not used. */
static void *(*direct_get_data)(void *);

static af_tls_memory *
direct_memory(void *bio)
{
    return __atomic_load_n(&direct_get_data, __ATOMIC_RELAXED)(bio);
}

static int
direct_bio_read(void *bio, char *to, int size)
{
    af_tls_memory *m = direct_memory(bio);
    m->lib->BIO_clear_flags(bio, AF_BIO_FLAGS_RETRY_MASK);
    if (m->in_size == 0 || size <= 0) {
        m->lib->BIO_set_flags(bio, AF_BIO_FLAGS_READ | AF_BIO_FLAGS_SHOULD_RETRY);
        return -1;
    }
    size_t n = m->in_size < (size_t)size ? m->in_size : (size_t)size;
    memcpy(to, m->in, n);
    m->in += n;
    m->in_size -= n;
    return (int)n;
}

/* What there is no room for in the bytes goes to a block of its own. */
static int
direct_spill(af_tls_memory *m, const char *from, size_t size)
{
    if (m->spill_size + size > m->spill_room) {
        size_t room = m->spill_room * 2 > m->spill_size + size ? m->spill_room * 2 : m->spill_size + size;
        char *bigger = realloc(m->spill, room);
        if (bigger == NULL) {
            m->no_memory = 1;
            return -1;
        }
        m->spill = bigger;
        m->spill_room = room;
    }
    memcpy(m->spill + m->spill_size, from, size);
    m->spill_size += size;
    return 0;
}

/* The kernel will make the records: a row of them, each with its type. */
static int
direct_spill_record(af_tls_memory *m, unsigned char type, const char *from, size_t size)
{
    size_t before = m->spill_size;
    if (direct_spill(m, (const char *)&type, sizeof(type)) < 0 ||
        direct_spill(m, (const char *)&size, sizeof(size)) < 0 || direct_spill(m, from, size) < 0) {
        m->spill_size = before;
        return -1;
    }
    return 0;
}

/* The kernel cannot change its keys: the connection ends with the first KeyUpdate of ours, which the peer has asked for. */
static int
direct_write_plain(af_tls_memory *m, const char *from, int size)
{
    unsigned char record = m->ktls.record;
    m->ktls.record = 0;
    if (record == DIRECT_RECORD_HANDSHAKE && from[0] == DIRECT_KEY_UPDATE) {
        m->ktls.stale = 1;
    }
    if (m->ktls.stale) {
        return -1;
    }
    if (record == 0 && m->spill_size == 0 && m->out_size + (size_t)size <= m->out_room) {
        memcpy(m->out + m->out_size, from, (size_t)size);
        m->out_size += (size_t)size;
        return size;
    }
    return direct_spill_record(m, record, from, (size_t)size) < 0 ? -1 : size;
}

static int
direct_bio_write(void *bio, const char *from, int size)
{
    af_tls_memory *m = direct_memory(bio);
    m->lib->BIO_clear_flags(bio, AF_BIO_FLAGS_RETRY_MASK);
    if (size <= 0) {
        return 0;
    }
    if (af_unlikely(m->ktls.sends)) {
        return direct_write_plain(m, from, size);
    }
    if (m->spill_size == 0 && m->out_size + (size_t)size <= m->out_room) {
        memcpy(m->out + m->out_size, from, (size_t)size);
        m->out_size += (size_t)size;
        return size;
    }
    return direct_spill(m, from, (size_t)size) < 0 ? -1 : size;
}

static long
direct_bio_ctrl(void *bio, int command, long number, void *pointer)
{
    af_tls_memory *m = direct_memory(bio);
    switch (command) {
    case AF_BIO_CTRL_PENDING:
        return (long)m->in_size;
    case AF_BIO_CTRL_WPENDING:
        return (long)(m->out_size + m->spill_size);
    case AF_BIO_CTRL_FLUSH:
        return 1;
    case AF_BIO_CTRL_SET_KTLS:          /* number: to send with, not to receive */
        return number ? af_ktls_take_keys((AfTls *)((char *)m - offsetof(AfTls, memory)), pointer) : 0;
    case AF_BIO_CTRL_GET_KTLS_SEND:
        return m->ktls.sends;
    case AF_BIO_CTRL_SET_KTLS_RECORD:
        m->ktls.record = (unsigned char)number;
        return 0;
    default:
        return 0;
    }
}

static int
direct_make_method(af_libssl *lib)
{
    void *(*expected)(void *) = NULL;
    if (!__atomic_compare_exchange_n(&direct_get_data, &expected, lib->BIO_get_data, 0, __ATOMIC_RELAXED,
                                     __ATOMIC_RELAXED) && expected != lib->BIO_get_data) {
        PyErr_SetString(PyExc_RuntimeError, "another interpreter of this process uses another libssl");
        return -1;
    }
    lib->method = lib->BIO_meth_new(lib->BIO_get_new_index() | AF_BIO_TYPE_SOURCE_SINK, "asyncfast");
    if (lib->method == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    lib->BIO_meth_set_read(lib->method, direct_bio_read);
    lib->BIO_meth_set_write(lib->method, direct_bio_write);
    lib->BIO_meth_set_ctrl(lib->method, direct_bio_ctrl);
    return 0;
}

/* ---- coming and going ------------------------------------------------------------------------------------------- */

static int
direct_attach(AfTls *tls)
{
    af_libssl *lib = tls->st->libssl;
    if (lib != NULL && lib->method == NULL && direct_make_method(lib) < 0) {
        return -1;
    }
    PyObject *sock = af_get_attr(tls->sslobj, "_sslobj");
    if (sock == NULL) {
        return -1;
    }
    void *ssl = af_libssl_ssl_of(lib, sock);
    if (ssl == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this SSLObject has no SSL where others have it");
        Py_DECREF(sock);
        return -1;
    }
    void *bio = lib->BIO_new(lib->method);
    if (bio == NULL) {
        PyErr_NoMemory();
        Py_DECREF(sock);
        return -1;
    }
    tls->ssl_owner = sock;
    tls->memory = (af_tls_memory){.lib = lib, .ktls = {.wished = tls->memory.ktls.wished}};
    if (tls->memory.ktls.wished) {
        lib->SSL_set_options(ssl, AF_SSL_OP_ENABLE_KTLS);
    }
    lib->BIO_set_data(bio, &tls->memory);
    lib->BIO_set_init(bio, 1);
    tls->in_bio = lib->SSL_get_rbio(ssl);
    tls->out_bio = lib->SSL_get_wbio(ssl);
    lib->BIO_up_ref(tls->in_bio);
    lib->BIO_up_ref(tls->out_bio);
    lib->SSL_set_bio(ssl, bio, bio);        /* has our one reference now, and has dropped those that it had */
    tls->ssl = ssl;
    return 0;
}

static void
direct_drop_input(af_tls_memory *m)
{
    free(m->own);
    m->own = NULL;
    m->in = NULL;
    m->in_size = 0;
    m->borrowed = 0;
}

static void
direct_drop_output(AfTls *tls)
{
    af_tls_memory *m = &tls->memory;
    free(m->spill);
    m->spill = m->out = NULL;
    m->spill_size = m->spill_room = m->out_size = m->out_room = 0;
    Py_CLEAR(tls->out_bytes);
}

static void
direct_detach(AfTls *tls)
{
    if (tls->ssl == NULL) {
        return;
    }
    direct_lib(tls)->SSL_set_bio(tls->ssl, tls->in_bio, tls->out_bio);
    tls->ssl = tls->in_bio = tls->out_bio = NULL;
    Py_CLEAR(tls->ssl_owner);
    direct_drop_input(&tls->memory);
    direct_drop_output(tls);
}

/* ---- what is received ------------------------------------------------------------------------------------------- */

/* What is unread, and as much of data behind it, in memory of our own. */
static int
direct_own_input(af_tls_memory *m, const char *data, size_t size)
{
    char *own = malloc(m->in_size + size);
    if (own == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(own, m->in, m->in_size);
    if (size > 0) {
        memcpy(own + m->in_size, data, size);
    }
    free(m->own);
    m->own = own;
    m->in = own;
    m->in_size += size;
    m->borrowed = 0;
    return 0;
}

static int
direct_feed(AfTls *tls, const char *data, size_t size)
{
    af_tls_memory *m = &tls->memory;
    if (tls->ssl == NULL) {
        return 0;
    }
    if (af_unlikely(m->in_size > 0)) {
        return direct_own_input(m, data, size);
    }
    m->in = data;
    m->in_size = size;
    m->borrowed = 1;
    return 0;
}

static int
direct_settle(AfTls *tls)
{
    af_tls_memory *m = &tls->memory;
    if (af_likely(m->in_size == 0)) {
        direct_drop_input(m);           /* an idle connection keeps nothing */
        return 0;
    }
    return m->borrowed ? direct_own_input(m, NULL, 0) : 0;
}

/* OpenSSL's list of errors is one for all connections of the thread, and SSL_get_error() looks at it. */
static inline void
direct_forget_errors(const af_libssl *lib)
{
    if (af_unlikely(lib->ERR_peek_error() != 0)) {
        lib->ERR_clear_error();
    }
}

/* It did not work, and not because something has to come first: raise it as ssl does.  OpenSSL does not go on after a fatal
   error, and leaves what it has said of it; but after a close_notify it would, so that is not asked of this SSLObject again.
   arg NULL: there is none, or an exception is set. */
static Py_ssize_t
direct_raise(AfTls *tls, int error, const char *method, PyObject *arg)
{
    if (tls->memory.no_memory) {
        Py_XDECREF(arg);
        PyErr_NoMemory();
        return AF_TLS_ERROR;
    }
    if (tls->memory.ktls.stale) {
        Py_XDECREF(arg);
        PyErr_SetString(tls->st->tls_error, "the peer asks for new keys, and the kernel, which has the old ones, takes none");
        return AF_TLS_ERROR;
    }
    PyObject *res = PyErr_Occurred() ? NULL
                    : error == AF_SSL_ERROR_ZERO_RETURN ? af_call_method(tls->st->hooks, "tls_zero_return", "s", method)
                    : af_call_method(tls->sslobj, method, arg == NULL ? NULL : "O", arg);
    Py_XDECREF(arg);
    if (res != NULL || af_tls_again(tls->st)) {
        Py_XDECREF(res);
        PyErr_Format(tls->st->tls_error, "%s() failed", method);
    }
    return AF_TLS_ERROR;
}

/* OpenSSL refuses what is no TLS at all without noting that it did, and would read on when it is asked again: not for us. */
static int
direct_looks_like_tls(af_tls_memory *m)
{
    if (!m->greeted && m->in_size > 0) {
        m->greeted = m->in_size >= 3 && m->in[1] == 3;      /* a record's type, then the version's major number */
        return m->greeted;
    }
    return 1;
}

/* Without the exception that ssl makes each time that more has to come. */
static int
direct_handshake(AfTls *tls)
{
    const af_libssl *lib = direct_lib(tls);
    if (tls->ssl == NULL || !direct_looks_like_tls(&tls->memory)) {
        tls->handshake_direct = 0;
        return AF_TLS_UNABLE;
    }
    int n, error;
    direct_forget_errors(lib);
    Py_BEGIN_ALLOW_THREADS
    n = lib->SSL_do_handshake(tls->ssl);
    error = n > 0 ? 0 : lib->SSL_get_error(tls->ssl, n);
    Py_END_ALLOW_THREADS
    if (n > 0) {
        return 1;
    }
    if (error == AF_SSL_ERROR_WANT_READ || error == AF_SSL_ERROR_WANT_WRITE) {
        return AF_TLS_AGAIN;
    }
    return (int)direct_raise(tls, error, "do_handshake", NULL);
}

static Py_ssize_t
direct_read(AfTls *tls, char *to, size_t size)
{
    const af_libssl *lib = direct_lib(tls);
    if (tls->ssl == NULL || (tls->memory.in_size == 0 && !lib->SSL_has_pending(tls->ssl))) {
        return AF_TLS_AGAIN;
    }
    direct_forget_errors(lib);
    int n = lib->SSL_read(tls->ssl, to, size < INT_MAX ? (int)size : INT_MAX);
    if (af_likely(n > 0)) {
        return n;
    }
    int error = lib->SSL_get_error(tls->ssl, n);
    switch (error) {
    case AF_SSL_ERROR_WANT_READ:
    case AF_SSL_ERROR_WANT_WRITE:
        return AF_TLS_AGAIN;
    case AF_SSL_ERROR_ZERO_RETURN:
        return AF_TLS_ENDED;
    default:
        return direct_raise(tls, error, "read", PyLong_FromLong(1));
    }
}

/* ---- what is sent ----------------------------------------------------------------------------------------------- */

/* Bytes that the records of so much data fit into, behind what is there already; if not, they go to the spill. */
static int
direct_make_room(AfTls *tls, size_t size)
{
    af_tls_memory *m = &tls->memory;
    if (m->out != NULL || m->spill_size > 0) {
        return 0;
    }
    size_t room = size + (size / DIRECT_RECORD + 1) * DIRECT_OVERHEAD;
    tls->out_bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)room);
    if (tls->out_bytes == NULL) {
        return -1;
    }
    m->out = PyBytes_AS_STRING(tls->out_bytes);
    m->out_size = 0;
    m->out_room = room;
    return 0;
}

static Py_ssize_t
direct_write(AfTls *tls, const char *from, size_t size)
{
    const af_libssl *lib = direct_lib(tls);
    if (tls->ssl == NULL) {
        return AF_TLS_AGAIN;
    }
    size = size < INT_MAX ? size : INT_MAX;
    if (direct_make_room(tls, size) < 0) {
        return AF_TLS_ERROR;
    }
    direct_forget_errors(lib);
    int n = lib->SSL_write(tls->ssl, from, (int)size);
    if (af_likely(n > 0)) {
        return n;
    }
    int error = lib->SSL_get_error(tls->ssl, n);
    switch (error) {
    case AF_SSL_ERROR_WANT_READ:
    case AF_SSL_ERROR_WANT_WRITE:
        return AF_TLS_AGAIN;
    default:
        return direct_raise(tls, error, "write", PyBytes_FromStringAndSize(from, (Py_ssize_t)size));
    }
}

static Py_ssize_t
direct_unread(AfTls *tls)
{
    return (Py_ssize_t)tls->memory.in_size;
}

static Py_ssize_t
direct_unsent(AfTls *tls)
{
    return (Py_ssize_t)(tls->memory.out_size + tls->memory.spill_size);
}

/* While the kernel makes the records: the data in out, or the first record behind it; ktls.taken says what it is. */
static PyObject *
direct_take_plain(AfTls *tls)
{
    af_tls_memory *m = &tls->memory;
    PyObject *data = tls->out_bytes;
    m->ktls.taken = 0;
    if (m->out_size > 0) {
        af_bytes_set_length(data, (Py_ssize_t)m->out_size);
        tls->out_bytes = NULL;
        m->out = NULL;
        m->out_size = m->out_room = 0;
        return data;
    }
    size_t size, head = 1 + sizeof(size);
    memcpy(&size, m->spill + 1, sizeof(size));
    data = PyBytes_FromStringAndSize(m->spill + head, (Py_ssize_t)size);
    if (data == NULL) {
        return NULL;
    }
    m->ktls.taken = (unsigned char)m->spill[0];
    m->spill_size -= head + size;
    memmove(m->spill, m->spill + head + size, m->spill_size);
    if (m->spill_size == 0) {
        direct_drop_output(tls);
    }
    return data;
}

static PyObject *
direct_take(AfTls *tls)
{
    af_tls_memory *m = &tls->memory;
    PyObject *data = tls->out_bytes;
    if (af_unlikely(m->ktls.sends)) {
        return direct_take_plain(tls);
    }
    if (af_likely(m->spill_size == 0 && data != NULL)) {
        tls->out_bytes = NULL;
        af_bytes_set_length(data, (Py_ssize_t)m->out_size);
    }
    else {
        data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(m->out_size + m->spill_size));
        if (data == NULL) {
            return NULL;
        }
        if (m->out_size > 0) {
            memcpy(PyBytes_AS_STRING(data), m->out, m->out_size);
        }
        if (m->spill_size > 0) {
            memcpy(PyBytes_AS_STRING(data) + m->out_size, m->spill, m->spill_size);
        }
    }
    direct_drop_output(tls);
    return data;
}

static const af_tls_engine direct_engine = {
    .name = "direct",
    .attach = direct_attach,
    .handshake = direct_handshake,
    .detach = direct_detach,
    .feed = direct_feed,
    .settle = direct_settle,
    .read = direct_read,
    .write = direct_write,
    .unread = direct_unread,
    .unsent = direct_unsent,
    .take = direct_take,
};

AF_API const af_tls_engine *
af_tls_direct(void)
{
    return &direct_engine;
}
