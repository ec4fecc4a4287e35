/* OpenSSL as the running Python's _ssl has it: found at run time, nothing to link, no header of it. */
#ifndef AF_TLS_LIBSSL_H
#define AF_TLS_LIBSSL_H

#include "rt/state.h"

/* Its constants (openssl/ssl.h, openssl/bio.h), the same since 1.1.0. */
enum {
    AF_SSL_OP_ENABLE_KTLS = 0x08,       /* since 3.0 */
    AF_SSL_ERROR_SSL = 1,
    AF_SSL_ERROR_WANT_READ = 2,
    AF_SSL_ERROR_WANT_WRITE = 3,
    AF_SSL_ERROR_ZERO_RETURN = 6,
    AF_BIO_CTRL_PENDING = 10,
    AF_BIO_CTRL_FLUSH = 11,
    AF_BIO_CTRL_WPENDING = 13,
    AF_BIO_CTRL_SET_KTLS = 72,
    AF_BIO_CTRL_GET_KTLS_SEND = 73,
    AF_BIO_CTRL_SET_KTLS_RECORD = 74,   /* ..._TX_SEND_CTRL_MSG there */
    AF_BIO_FLAGS_READ = 0x01,
    AF_BIO_FLAGS_RETRY_MASK = 0x0f,     /* READ | WRITE | IO_SPECIAL | SHOULD_RETRY */
    AF_BIO_FLAGS_SHOULD_RETRY = 0x08,
    AF_BIO_TYPE_SOURCE_SINK = 0x0400,
};

/* SSL, BIO and so on are void here. */
#define AF_LIBSSL_FUNCTIONS(X)                                                                                         \
    X(int, SSL_read, (void *ssl, void *buf, int num))                                                                  \
    X(int, SSL_write, (void *ssl, const void *buf, int num))                                                           \
    X(int, SSL_do_handshake, (void *ssl))                                                                              \
    X(int, SSL_get_error, (const void *ssl, int ret))                                                                  \
    X(int, SSL_has_pending, (const void *ssl))                                                                         \
    X(void, SSL_set_bio, (void *ssl, void *rbio, void *wbio))                                                          \
    X(void *, SSL_get_rbio, (const void *ssl))                                                                         \
    X(void *, SSL_get_wbio, (const void *ssl))                                                                         \
    X(uint64_t, SSL_set_options, (void *ssl, uint64_t options))                                                        \
    X(void *, SSL_get_SSL_CTX, (const void *ssl))                                                                      \
    X(void *, SSL_get_ex_data, (const void *ssl, int idx))                                                             \
    X(void *, BIO_new, (const void *method))                                                                           \
    X(int, BIO_up_ref, (void *bio))                                                                                    \
    X(long, BIO_ctrl, (void *bio, int cmd, long larg, void *parg))                                                     \
    X(void, BIO_set_data, (void *bio, void *data))                                                                     \
    X(void *, BIO_get_data, (void *bio))                                                                               \
    X(void, BIO_set_init, (void *bio, int init))                                                                       \
    X(void, BIO_set_flags, (void *bio, int flags))                                                                     \
    X(void, BIO_clear_flags, (void *bio, int flags))                                                                   \
    X(int, BIO_get_new_index, (void))                                                                                  \
    X(void *, BIO_meth_new, (int type, const char *name))                                                              \
    X(void, BIO_meth_free, (void *method))                                                                             \
    X(int, BIO_meth_set_read, (void *method, int (*read)(void *, char *, int)))                                        \
    X(int, BIO_meth_set_write, (void *method, int (*write)(void *, const char *, int)))                                \
    X(int, BIO_meth_set_ctrl, (void *method, long (*ctrl)(void *, int, long, void *)))                                 \
    X(unsigned long, ERR_peek_error, (void))                                                                           \
    X(void, ERR_clear_error, (void))

typedef struct af_libssl {
#define X(type, name, args) type(*name) args;
    AF_LIBSSL_FUNCTIONS(X)
#undef X
    void *handle;               /* of dlopen() */
    void *method;               /* BIO_METHOD of the direct engine; NULL until the first connection */
    size_t ssl_offset;          /* where an _ssl._SSLSocket has its SSL; 0: not proved */
} af_libssl;

/* Methods of the module. */
AF_API PyObject *af_libssl_open(PyObject *module, PyObject *path);
AF_API PyObject *af_libssl_prove(PyObject *module, PyObject *args);
AF_API void af_libssl_close(AfState *st);

/* The SSL of an _ssl._SSLSocket; NULL: it does not look like one of those that the proof was made with. */
AF_API void *af_libssl_ssl_of(const af_libssl *lib, PyObject *sock);

#endif
