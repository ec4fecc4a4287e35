/* Kernel TLS: OpenSSL makes the handshake, then the kernel makes the records of what is sent.

   OpenSSL itself offers the keys, to the BIO of the direct engine, in the moment in which all that comes later is to be
   encrypted with them.  What was written before has to be on its way by then, so it is sent right here: nothing may wait in
   the transport below, and the socket has to take all of it.  If not, or if the kernel wants no keys, OpenSSL goes on as
   ever.  Afterwards it writes plain data to the BIO, which the transport below sends as it sends any data, and records of
   other types, which are system calls of their own (net/stream.c).

   What is received stays with OpenSSL: the transport below reads ahead, and it is sendfile() that gains.

   Called by OpenSSL without the interpreter's lock, in the thread of the loop: no Python in here. */
#include "tls/tls.h"

#include "net/stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

/* linux/tls.h, which not all systems have: the head of the struct that tells the kernel the keys, and the sizes of all of it
   by the cipher's number. */
typedef struct {
    unsigned short version, cipher;
} ktls_head;

static const struct {
    unsigned short cipher;
    unsigned short size;
} ktls_ciphers[] = {
    {51, 40},                   /* AES-GCM, 128 bits */
    {52, 56},                   /* AES-GCM, 256 bits */
    {53, 40},                   /* AES-CCM, 128 bits */
    {54, 56},                   /* ChaCha20-Poly1305 */
};

#define KTLS_TX 1
#ifndef TCP_ULP
#define TCP_ULP 31
#endif

static int
ktls_refuse(af_ktls *k, const char *why, int error)
{
    k->why = why;
    k->error = error;
    return 0;
}

/* Send what is in a block: 1 if it is empty now, or 0. */
static int
ktls_push(int fd, char *block, size_t *size)
{
    ssize_t n = *size == 0 ? 0 : send(fd, block, *size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
        *size -= (size_t)n;
        memmove(block, block + n, *size);
    }
    return *size == 0;
}

AF_API int
af_ktls_take_keys(AfTls *tls, const void *keys)
{
    af_ktls *k = &tls->memory.ktls;
    const ktls_head *head = keys;
    unsigned short size = 0;
    for (size_t i = 0; i < sizeof(ktls_ciphers) / sizeof(ktls_ciphers[0]); i++) {
        size = head->cipher == ktls_ciphers[i].cipher ? ktls_ciphers[i].size : size;
    }
    if (!k->wished || k->sends) {
        return 0;
    }
    int fd = tls->lower_is_stream ? af_stream_idle_fd(tls->lower) : -1;
    if (fd < 0) {
        return ktls_refuse(k, tls->lower_is_stream ? "what came before waited to be sent" : "no socket right below", 0);
    }
    if (size == 0) {
        return ktls_refuse(k, "this cipher is not known here", 0);
    }
    if (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) < 0 && errno != EEXIST) {
        return errno == ENOENT ? ktls_refuse(k, "the kernel has no TLS, or has not loaded its module tls", 0)
               : errno == EOPNOTSUPP || errno == ENOPROTOOPT ? ktls_refuse(k, "not a TCP socket", 0)
               : ktls_refuse(k, "the socket takes no TLS", errno);
    }
    if (!ktls_push(fd, tls->memory.out, &tls->memory.out_size) ||
        !ktls_push(fd, tls->memory.spill, &tls->memory.spill_size)) {
        return ktls_refuse(k, "the socket was full", 0);
    }
    if (setsockopt(fd, AF_SOL_TLS, KTLS_TX, keys, size) < 0) {
        return ktls_refuse(k, "the kernel does not take the keys", errno);
    }
    free(tls->memory.spill);
    tls->memory.spill = NULL;
    tls->memory.spill_room = 0;
    k->sends = 1;
    k->why = NULL;
    return 1;
}
