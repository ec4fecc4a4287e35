/* The limit of the TLS cases: an echo server on epoll and OpenSSL that does nothing else.  What has been read with one
 * system call is decrypted, encrypted and sent with one.
 *
 *     echotls CERTIFICATE [--cpu=N]
 *
 * CERTIFICATE is a PEM file with its key.  Prints "READY tls:PORT", and serves until it is killed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 1024
#define EVENTS 512

struct conn {
    int fd, watched;
    SSL *ssl;
    BIO *in, *out;              /* memory; the SSL has them */
};

static char received[256 * 1024], plain[256 * 1024];
static int poller;
static SSL_CTX *context;

static void
die(const char *what)
{
    perror(what);
    exit(1);
}

static void
conn_watch(struct conn *c, int operation, int events)
{
    struct epoll_event event = {.events = (uint32_t)events, .data.ptr = c};
    if (c->watched == events)
        return;
    if (epoll_ctl(poller, operation, c->fd, &event) < 0)
        die("epoll_ctl");
    c->watched = events;
}

static void
conn_close(struct conn *c)
{
    close(c->fd);
    SSL_free(c->ssl);
    free(c);
}

static void
conn_accept(int listener)
{
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct conn *c = calloc(1, sizeof *c);
        if (c == NULL || (c->ssl = SSL_new(context)) == NULL || (c->in = BIO_new(BIO_s_mem())) == NULL
            || (c->out = BIO_new(BIO_s_mem())) == NULL)
            die("a connection");
        SSL_set_bio(c->ssl, c->in, c->out);
        SSL_set_accept_state(c->ssl);
        c->fd = fd;
        if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0)
            die("TCP_NODELAY");
        conn_watch(c, EPOLL_CTL_ADD, EPOLLIN);
    }
    if (errno != EAGAIN && errno != ECONNABORTED)
        die("accept4");
}

/* What OpenSSL has written goes to the socket; until it has all gone nothing is read.  0: the connection is over. */
static int
conn_flush(struct conn *c)
{
    char *data;
    long size = BIO_get_mem_data(c->out, &data);
    ssize_t sent = size > 0 ? write(c->fd, data, (size_t)size) : 0;
    if (sent < 0 && errno != EAGAIN)
        return 0;
    int all = sent == size;
    if (all)
        (void)BIO_reset(c->out);
    while (!all && sent > 0)                    /* drop what has gone */
        sent -= BIO_read(c->out, plain, sent < (ssize_t)sizeof plain ? (int)sent : (int)sizeof plain);
    conn_watch(c, EPOLL_CTL_MOD, all ? EPOLLIN : EPOLLOUT);
    return 1;
}

static void
conn_echo(struct conn *c)
{
    ssize_t n = read(c->fd, received, sizeof received);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0 || BIO_write(c->in, received, (int)n) != n) {
        conn_close(c);
        return;
    }
    int got, total = 0;
    while ((got = SSL_read(c->ssl, plain + total, (int)sizeof plain - total)) > 0)
        total += got;
    int error = SSL_get_error(c->ssl, got);
    if ((total > 0 && SSL_write(c->ssl, plain, total) != total) || !conn_flush(c)
        || (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)) {
        ERR_clear_error();
        conn_close(c);
    }
}

static int
serve(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof in;
    if (fd < 0 || bind(fd, (struct sockaddr *)&in, sizeof in) < 0 || listen(fd, BACKLOG) < 0
        || getsockname(fd, (struct sockaddr *)&in, &length) < 0)
        die("the listener");
    printf("READY tls:%d\n", ntohs(in.sin_port));
    fflush(stdout);
    return fd;
}

int
main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    if (argc < 2 || argc > 3 || (argc == 3 && strncmp(argv[2], "--cpu=", 6))) {
        fprintf(stderr, "usage: echotls CERTIFICATE [--cpu=N]\n");
        return 2;
    }
    if (argc == 3) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(atoi(argv[2] + 6), &set);
        if (sched_setaffinity(0, sizeof set, &set) < 0)
            die("--cpu");
    }
    signal(SIGPIPE, SIG_IGN);
    context = SSL_CTX_new(TLS_server_method());
    if (context == NULL || SSL_CTX_use_certificate_chain_file(context, argv[1]) != 1
        || SSL_CTX_use_PrivateKey_file(context, argv[1], SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        return 1;
    }
    poller = epoll_create1(0);
    if (poller < 0)
        die("epoll_create1");
    int fd = serve();
    struct epoll_event listening = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &listening) < 0)
        die("epoll_ctl");

    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        if (ready < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < ready; i++) {
            struct conn *c = events[i].data.ptr;
            if (c == NULL)
                conn_accept(fd);
            else if (!(c->watched & EPOLLOUT))
                conn_echo(c);
            else if (!conn_flush(c))
                conn_close(c);
        }
    }
}
