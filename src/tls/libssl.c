/* Finding OpenSSL's functions, and the SSL inside an _ssl._SSLSocket.

   Where in the object the SSL lies is CPython's business and may change.  So nothing is assumed: in an object made for the
   purpose the place is looked for that comes before the pointer to its context.  What is there is taken for an SSL only if its
   memory, looked at in a way that cannot crash, has the pointers in it that OpenSSL must have put there (the SSL_CTX of that
   context and the BIOs of those MemoryBIOs), and if OpenSSL's functions then say the same of it, and that it belongs to the
   very object.  Each is compared with what other objects of _ssl hold first; if these do not hold what is expected, nothing
   matches, and the engine is not used.

   Runs no Python but the constructors of errors. */
#include "tls/libssl.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As far as an SSL is searched for its pointers: it is smaller than that on all versions. */
#define LIBSSL_MOST ((size_t)16 * 1024)
/* Nothing smaller is worth a call: an SSL has over a thousand bytes. */
#define LIBSSL_LEAST ((size_t)256)

static const struct {
    const char *name;
    size_t offset;
} libssl_names[] = {
#define X(type, name, args) {#name, offsetof(af_libssl, name)},
    AF_LIBSSL_FUNCTIONS(X)
#undef X
};

AF_API PyObject *
af_libssl_open(PyObject *module, PyObject *path)
{
    AfState *st = af_state_of_module(module);
    const char *name = PyUnicode_AsUTF8(path);
    if (name == NULL) {
        return NULL;
    }
    if (st->libssl != NULL) {
        Py_RETURN_NONE;
    }
    af_libssl *lib = PyMem_Calloc(1, sizeof(*lib));
    if (lib == NULL) {
        return PyErr_NoMemory();
    }
    lib->handle = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
    const char *missing = lib->handle == NULL ? name : NULL;
    for (size_t i = 0; missing == NULL && i < sizeof(libssl_names) / sizeof(libssl_names[0]); i++) {
        void *function = dlsym(lib->handle, libssl_names[i].name);
        missing = function == NULL ? libssl_names[i].name : NULL;
        memcpy((char *)lib + libssl_names[i].offset, &function, sizeof(function));
    }
    if (missing != NULL) {
        PyErr_Format(PyExc_OSError, "%s is not to be found", missing);
        if (lib->handle != NULL) {
            dlclose(lib->handle);
        }
        PyMem_Free(lib);
        return NULL;
    }
    st->libssl = lib;
    Py_RETURN_NONE;
}

AF_API void
af_libssl_close(AfState *st)
{
    af_libssl *lib = st->libssl;
    st->libssl = NULL;
    if (lib == NULL) {
        return;
    }
    if (lib->method != NULL) {
        lib->BIO_meth_free(lib->method);
    }
    dlclose(lib->handle);
    PyMem_Free(lib);
}

/* The first pointer that an object holds, behind its head; NULL if it is too small for one. */
static void *
libssl_first_pointer(PyObject *obj)
{
    if (Py_TYPE(obj)->tp_basicsize < (Py_ssize_t)(sizeof(PyObject) + sizeof(void *))) {
        return NULL;
    }
    return ((void **)(obj + 1))[0];
}

/* Copy what is at address, if it can be read: how many bytes.  The kernel looks in our stead: a pipe takes nothing from where
   there is no memory.  The bare system call, for AddressSanitizer forbids write() what it knows to lie behind a block. */
static size_t
libssl_peek(int pipes[2], const void *address, char *to, size_t size)
{
    size_t done = 0;
    while (done < size) {
        /* not across the end of a page: what lies behind it may be missing */
        size_t part = 4096 - ((uintptr_t)address + done) % 4096;
        part = part < size - done ? part : size - done;
        if (syscall(SYS_write, pipes[1], (const char *)address + done, part) != (long)part ||
            read(pipes[0], to + done, part) != (ssize_t)part) {
            break;
        }
        done += part;
    }
    return done;
}

static int
libssl_holds(const char *memory, size_t size, const void *pointer)
{
    for (size_t i = 0; i + sizeof(void *) <= size; i += sizeof(void *)) {
        if (memcmp(memory + i, &pointer, sizeof(pointer)) == 0) {
            return 1;
        }
    }
    return 0;
}

/* Is candidate the SSL of sock?  NULL; or what speaks against it. */
static const char *
libssl_doubt(const af_libssl *lib, int pipes[2], void *candidate, PyObject *sock, void *ctx, void *in, void *out)
{
    char *memory = PyMem_Malloc(LIBSSL_MOST);
    if (memory == NULL) {
        return "no memory";
    }
    const char *why = NULL;
    size_t size = (uintptr_t)candidate % sizeof(void *) != 0 || candidate == NULL ? 0
                  : libssl_peek(pipes, candidate, memory, LIBSSL_MOST);
    if (size < LIBSSL_LEAST || !libssl_holds(memory, size, ctx) || !libssl_holds(memory, size, in) ||
        !libssl_holds(memory, size, out)) {
        why = "what comes before its context is no SSL";
    }
    else if (lib->SSL_get_SSL_CTX(candidate) != ctx || lib->SSL_get_rbio(candidate) != in ||
             lib->SSL_get_wbio(candidate) != out || lib->SSL_get_ex_data(candidate, 0) != (void *)sock) {
        why = "OpenSSL says otherwise of its SSL";
    }
    else if (lib->BIO_ctrl(in, AF_BIO_CTRL_PENDING, 0, NULL) != 1 || lib->BIO_ctrl(out, AF_BIO_CTRL_PENDING, 0, NULL) != 0) {
        why = "its BIOs hold other data than the MemoryBIOs";
    }
    PyMem_Free(memory);
    return why;
}

AF_API PyObject *
af_libssl_prove(PyObject *module, PyObject *args)
{
    af_libssl *lib = af_state_of_module(module)->libssl;
    PyObject *sock, *incoming, *outgoing, *context;
    if (!PyArg_ParseTuple(args, "OOOO:_prove_libssl", &sock, &incoming, &outgoing, &context)) {
        return NULL;
    }
    void *ctx = libssl_first_pointer(context), *in = libssl_first_pointer(incoming), *out = libssl_first_pointer(outgoing);
    int pipes[2];
    const char *why = "no place in it comes before its context";
    size_t offset = 0;
    if (lib == NULL || ctx == NULL || in == NULL || out == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "there is nothing to compare with");
        return NULL;
    }
    if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    void **words = (void **)sock;
    size_t count = (size_t)Py_TYPE(sock)->tp_basicsize / sizeof(void *);
    for (size_t i = sizeof(PyObject) / sizeof(void *) + 1; why != NULL && i < count; i++) {
        if (words[i] == (void *)context) {
            offset = (i - 1) * sizeof(void *);
            why = libssl_doubt(lib, pipes, words[i - 1], sock, ctx, in, out);
        }
    }
    close(pipes[0]);
    close(pipes[1]);
    if (why == NULL && lib->ssl_offset != 0 && lib->ssl_offset != offset) {
        why = "its SSL is in another place than that of the one before";
    }
    if (why != NULL) {
        lib->ssl_offset = 0;
        PyErr_SetString(PyExc_RuntimeError, why);
        return NULL;
    }
    lib->ssl_offset = offset;
    Py_RETURN_NONE;
}

AF_API void *
af_libssl_ssl_of(const af_libssl *lib, PyObject *sock)
{
    if (lib == NULL || lib->ssl_offset == 0 ||
        (size_t)Py_TYPE(sock)->tp_basicsize < lib->ssl_offset + sizeof(void *)) {
        return NULL;
    }
    void *ssl = *(void **)((char *)sock + lib->ssl_offset);
    return ssl != NULL && lib->SSL_get_ex_data(ssl, 0) == (void *)sock ? ssl : NULL;
}
