/* A closed-loop load generator: every connection sends a request, waits for the whole reply, and sends the next.
 *
 *     load echo|http|connect tcp:PORT|tls:PORT|udp:PORT|unix:PATH [options]
 *
 *     echo         messages of --size bytes that come back
 *     http         GET with keep-alive; the replies need a Content-Length
 *     connect      connect, one echo, close, and again: a "request" is all of it
 *
 * When each connection has had a reply the warm-up begins; after it the load counts for --seconds and prints one line of
 * JSON.  With --pid it also reads that process's CPU clock (all threads, user and kernel, in nanoseconds) and minor page
 * faults where its own window begins and ends, so that what is divided belongs together.
 *
 * Replies are checked for their length, and an echo for its first and last byte, which differ from request to request.
 * Compiled with -DWITH_TLS and OpenSSL it speaks TLS to tls:PORT; with --resume each connection but the first resumes the
 * session of an earlier one.
 *
 * A connection that fails is closed and counted ("errors"); it is not replaced.  One that has waited for its reply
 * for more than half the window when that ends is "starved".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

#define EVENTS 512
#define SECOND UINT64_C(1000000000)
#define RESEND_AFTER (SECOND / 5)           /* a datagram that has not come back by then is lost */
#define LOOK_EVERY (SECOND / 20)            /* for lost datagrams */
#define HTTP_ROOM 16384                     /* the longest reply, head and body */
#define MAX_SIZE (16 << 20)
#define PATIENCE (10 * SECOND)              /* until all connections have had a reply */

enum { ECHO, HTTP, CONNECT };

struct conn {
    int fd;                     /* -1: failed */
    uint32_t watched;           /* events the poller knows of; 0: it does not know the fd */
    unsigned char tag;          /* first byte of this request; the last one is its complement */
    size_t sent, received;      /* of this request and its reply */
    size_t expected;            /* http: of the reply; 0 until its head is there */
    uint64_t begun, sent_at;    /* they differ when a datagram was sent again */
    char *reply;                /* http: own, of HTTP_ROOM */
#ifdef WITH_TLS
    SSL *ssl;                   /* or NULL */
#endif
    int blocked;                /* TLS: it waits for room, not for what the server says */
    int answered;               /* it has had a reply */
};

/* fixed when the load begins */
static int mode, tcp, tls, udp, resume;
static struct sockaddr_storage server;
static socklen_t server_length;
static char *request;
static size_t request_size = 1024;
static int count = 50;
static int poller;

static struct conn *conns;
static int live;                            /* connections that have not failed */
static int unanswered;                      /* of these, without a reply so far */
static char buffer[256 * 1024];
static uint64_t requests, resent, errors;
static char first_error[128];

/* ---- time and distribution ---- */

static uint64_t
now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

/* Latencies in buckets of 1/64 of their power of two: 1.6 % wide at most, whatever the range. */
#define SUB_BITS 6
static uint64_t histogram[(65 - SUB_BITS) << SUB_BITS];

static void
histogram_add(uint64_t ns)
{
    unsigned shift = 63 - SUB_BITS - (unsigned)__builtin_clzll(ns | (1 << SUB_BITS));
    histogram[((uint64_t)shift << SUB_BITS) + (ns >> shift)]++;
}

static double
histogram_us(double quantile)
{
    uint64_t before = 0, wanted = (uint64_t)(quantile * (double)requests);
    for (size_t i = 0; i < sizeof histogram / sizeof *histogram; i++) {
        before += histogram[i];
        if (before > wanted) {
            /* the first 2 << SUB_BITS buckets are exact; from there on an index has its shift above the mantissa */
            unsigned shift = i < (2 << SUB_BITS) ? 0 : (unsigned)(i >> SUB_BITS) - 1;
            uint64_t low = (uint64_t)(i - ((size_t)shift << SUB_BITS)) << shift;
            return ((double)low + (double)((UINT64_C(1) << shift) - 1) / 2) / 1000;
        }
    }
    return 0;
}

/* ---- the measured process ---- */

struct usage {
    uint64_t cpu_ns, faults;
};

static void
die(const char *what)
{
    perror(what);
    exit(1);
}

static struct usage
usage_of(pid_t pid)
{
    struct usage usage = {0, 0};
    struct timespec t;
    clockid_t clock;
    char path[64], text[1024], *field;

    if (pid == 0)
        return usage;
    if ((errno = clock_getcpuclockid(pid, &clock)) || clock_gettime(clock, &t) < 0)
        die("the process's CPU clock");
    usage.cpu_ns = (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (file == NULL || fgets(text, sizeof text, file) == NULL)
        die(path);
    fclose(file);
    /* the name, in parentheses, may have anything in it */
    field = strrchr(text, ')');
    if (field == NULL || sscanf(field, ") %*c %*d %*d %*d %*d %*d %*u %" SCNu64, &usage.faults) != 1)
        die(path);
    return usage;
}

/* ---- TLS, or not ---- */

#ifdef WITH_TLS
static SSL_CTX *context;
static SSL_SESSION *session;                /* the last one that the server gave; --resume */

static int
keep_session(SSL *ssl, SSL_SESSION *given)
{
    (void)ssl;
    SSL_SESSION_free(session);
    session = given;
    return 1;                               /* the reference is ours now */
}

static void
tls_prepare(void)
{
    context = SSL_CTX_new(TLS_client_method());
    if (context == NULL)
        die("SSL_CTX_new");
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (resume) {
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(context, keep_session);
    }
}

static void
tls_open(struct conn *c)
{
    if (!tls)
        return;
    if ((c->ssl = SSL_new(context)) == NULL || !SSL_set_fd(c->ssl, c->fd) || (session && !SSL_set_session(c->ssl, session)))
        die("SSL_new");
    SSL_set_connect_state(c->ssl);
}

static void
tls_close(struct conn *c)
{
    if (c->ssl == NULL)
        return;
    SSL_shutdown(c->ssl);                   /* says that it ends; nobody waits for the answer */
    SSL_free(c->ssl);
    c->ssl = NULL;
}

/* As read() and write() have it. */
static ssize_t
tls_result(struct conn *c, int n)
{
    int error = n > 0 ? SSL_ERROR_NONE : SSL_get_error(c->ssl, n);
    c->blocked = error == SSL_ERROR_WANT_WRITE;
    if (n > 0 || error == SSL_ERROR_ZERO_RETURN)
        return n > 0 ? n : 0;
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        errno = EAGAIN;
    else if (error != SSL_ERROR_SYSCALL || errno == 0)
        errno = EPROTO;
    ERR_clear_error();
    return -1;
}

static ssize_t
conn_write(struct conn *c, const char *data, size_t size)
{
    return c->ssl ? tls_result(c, SSL_write(c->ssl, data, (int)size)) : send(c->fd, data, size, MSG_NOSIGNAL);
}

static ssize_t
conn_read(struct conn *c, char *to, size_t room)
{
    return c->ssl ? tls_result(c, SSL_read(c->ssl, to, (int)room)) : recv(c->fd, to, room, 0);
}

static int
conn_has_more(const struct conn *c)
{
    return c->fd >= 0 && c->ssl && SSL_pending(c->ssl) > 0;
}
#else
static void tls_open(struct conn *c) { (void)c; }
static void tls_close(struct conn *c) { (void)c; }
static int conn_has_more(const struct conn *c) { (void)c; return 0; }

static ssize_t
conn_write(struct conn *c, const char *data, size_t size)
{
    return send(c->fd, data, size, MSG_NOSIGNAL);
}

static ssize_t
conn_read(struct conn *c, char *to, size_t room)
{
    return recv(c->fd, to, room, 0);
}
#endif

/* ---- a connection ---- */

static void
conn_fail(struct conn *c, const char *why)
{
    if (errors++ == 0)
        snprintf(first_error, sizeof first_error, "%s", why);
    tls_close(c);
    close(c->fd);
    c->fd = -1;
    live--;
    unanswered -= !c->answered;
}

static void
conn_watch(struct conn *c, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (events == c->watched)
        return;
    if (epoll_ctl(poller, c->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &event) < 0)
        die("epoll_ctl");
    c->watched = events;
}

/* EPOLLOUT is watched for only while something is left to send: sockets other than TCP's report each request that the
   server takes as new room, at the server's expense. */
static void
conn_send(struct conn *c)
{
    if (mode != HTTP) {
        request[0] = (char)c->tag;
        request[request_size - 1] = (char)~c->tag;
    }
    ssize_t n;
    do {                        /* TLS takes a record at a time */
        n = conn_write(c, request + c->sent, request_size - c->sent);
        c->sent += n > 0 ? (size_t)n : 0;
    } while (tls && n > 0 && c->sent < request_size);
    if (n < 0 && errno != EAGAIN) {
        conn_fail(c, strerror(errno));
        return;
    }
    conn_watch(c, (tls ? c->blocked : c->sent < request_size) ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void
conn_request(struct conn *c, uint64_t time)
{
    c->tag++;
    c->sent = c->received = c->expected = 0;
    c->begun = c->sent_at = time;
    conn_send(c);
}

static void
conn_open(struct conn *c, uint64_t time)
{
    static uint32_t serial;
    int one = 1;

    c->watched = 0;
    c->fd = socket(server.ss_family, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        die("socket");
    if (tcp) {
        /* 127.0.0.2 and on: the ports of one address, each blocked for a minute after use, would soon run out */
        struct sockaddr_in source = {.sin_family = AF_INET,
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + serial++ % 250)};
        if (setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0
            || setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one) < 0
            || bind(c->fd, (struct sockaddr *)&source, sizeof source) < 0)
            die("a client's socket");
    }
    if (connect(c->fd, (struct sockaddr *)&server, server_length) < 0 && errno != EINPROGRESS) {
        conn_fail(c, strerror(errno));
        return;
    }
    tls_open(c);
    /* on loopback the connection often stands already; if not, EPOLLOUT tells */
    conn_request(c, time);
}

static void
conn_done(struct conn *c)
{
    uint64_t time = now();
    requests++;
    unanswered -= !c->answered;
    c->answered = 1;
    histogram_add(time - c->begun);
    if (mode == CONNECT) {
        tls_close(c);
        close(c->fd);
        conn_open(c, time);
    } else {
        conn_request(c, time);
    }
}

static void
conn_take_echo(struct conn *c)
{
    ssize_t n = conn_read(c, buffer, sizeof buffer);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        conn_fail(c, n ? strerror(errno) : "closed by the server");
        return;
    }
    int first = c->received > 0 || (unsigned char)buffer[0] == c->tag;
    if (udp && !first)
        return;                 /* late: it was given up, and sent again */
    c->received += (size_t)n;
    if (!first || c->received > request_size)
        conn_fail(c, first ? "more came back than was sent" : "another first byte came back");
    else if (c->received == request_size && (unsigned char)buffer[n - 1] != (unsigned char)~c->tag)
        conn_fail(c, "another last byte came back");
    else if (c->received == request_size)
        conn_done(c);
    else if (udp)
        conn_fail(c, "a part of the datagram came back");
}

static void
conn_take_http(struct conn *c)
{
    /* one byte stays free, for the NUL */
    ssize_t n = conn_read(c, c->reply + c->received, HTTP_ROOM - 1 - c->received);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        conn_fail(c, n ? strerror(errno) : "closed by the server, or too long a reply");
        return;
    }
    c->received += (size_t)n;
    if (c->expected == 0) {
        c->reply[c->received] = 0;
        char *end = strstr(c->reply, "\r\n\r\n");
        if (end == NULL)
            return;
        char *length = strcasestr(c->reply, "\r\ncontent-length:");
        if (strncmp(c->reply, "HTTP/1.1 200 ", 13) || length == NULL || length > end) {
            conn_fail(c, "a reply without 200 or Content-Length");
            return;
        }
        c->expected = (size_t)(end + 4 - c->reply) + strtoul(length + 17, NULL, 10);
    }
    if (c->received > c->expected)
        conn_fail(c, "a reply longer than its Content-Length");
    else if (c->received == c->expected)
        conn_done(c);
}

/* ---- the load ---- */

static void
resend_lost(uint64_t time)
{
    for (struct conn *c = conns; c < conns + count; c++) {
        if (c->fd >= 0 && time - c->sent_at > RESEND_AFTER) {
            resent++;
            c->sent = 0;
            c->sent_at = time;
            conn_send(c);
        }
    }
}

/* Or, if asked, until all have had a reply. */
static void
load_until(uint64_t end, int answered)
{
    struct epoll_event events[EVENTS];
    uint64_t time, look = 0;

    while ((time = now()) < end && live && !(answered && unanswered == 0)) {
        if (udp && time >= look) {
            resend_lost(time);
            look = time + LOOK_EVERY;
        }
        uint64_t until = udp && look < end ? look : end;
        int ready = epoll_wait(poller, events, EVENTS, (int)((until - time) / 1000000) + 1);
        if (ready < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < ready; i++) {
            struct conn *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT || (tls && c->sent < request_size))
                conn_send(c);
            if (c->fd < 0 || !(events[i].events & ~(uint32_t)EPOLLOUT))
                continue;
            do
                mode == HTTP ? conn_take_http(c) : conn_take_echo(c);
            while (conn_has_more(c));
            /* reading may have ended the handshake */
            if (tls && c->fd >= 0 && c->sent < request_size && !c->blocked)
                conn_send(c);
        }
    }
}

/* ---- the command line ---- */

static void
usage_error(void)
{
    fprintf(stderr, "usage: load echo|http|connect tcp:PORT|tls:PORT|udp:PORT|unix:PATH [--connections N]\n"
                    "            [--size BYTES] [--warm-up SECONDS] [--seconds SECONDS] [--cpu N] [--pid PID] [--resume]\n");
    exit(2);
}

static void
parse_address(const char *address)
{
    tls = !strncmp(address, "tls:", 4);
    tcp = tls || !strncmp(address, "tcp:", 4);
    udp = !strncmp(address, "udp:", 4);
    if (tcp || udp) {
        struct sockaddr_in *in = (struct sockaddr_in *)&server;
        in->sin_family = AF_INET;
        in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        in->sin_port = htons((uint16_t)atoi(address + 4));
        server_length = sizeof *in;
    } else if (!strncmp(address, "unix:", 5)) {
        struct sockaddr_un *un = (struct sockaddr_un *)&server;
        un->sun_family = AF_UNIX;
        strncpy(un->sun_path, address + 5, sizeof un->sun_path - 1);
        server_length = sizeof *un;
    } else {
        usage_error();
    }
}

static void
pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        die("--cpu");
}

static void
prepare_request(void)
{
    static char get[] = "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n";
    if (mode == HTTP) {
        request = get;
        request_size = sizeof get - 1;
        return;
    }
    request = malloc(request_size);
    if (request == NULL)
        die("malloc");
    for (size_t i = 0; i < request_size; i++)
        request[i] = (char)(i % 251);
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {
        {"connections", required_argument, NULL, 'c'}, {"size", required_argument, NULL, 's'},
        {"warm-up", required_argument, NULL, 'w'},     {"seconds", required_argument, NULL, 't'},
        {"cpu", required_argument, NULL, 'u'},         {"pid", required_argument, NULL, 'p'},
        {"resume", no_argument, NULL, 'r'},            {NULL, 0, NULL, 0},
    };
    static const char *const modes[] = {[ECHO] = "echo", [HTTP] = "http", [CONNECT] = "connect"};
    double warm_up = 0.3, seconds = 1;
    pid_t pid = 0;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        switch (option) {
        case 'c': count = atoi(optarg); break;
        case 's': request_size = strtoul(optarg, NULL, 10); break;
        case 'w': warm_up = atof(optarg); break;
        case 't': seconds = atof(optarg); break;
        case 'u': pin(atoi(optarg)); break;
        case 'p': pid = atoi(optarg); break;
        case 'r': resume = 1; break;
        default: usage_error();
        }
    }
    if (optind != argc - 2 || count < 1 || seconds <= 0 || request_size < 2 || request_size > MAX_SIZE)
        usage_error();
    while (mode <= CONNECT && strcmp(argv[optind], modes[mode]))
        mode++;
    if (mode > CONNECT)
        usage_error();
    parse_address(argv[optind + 1]);
    prepare_request();
#ifdef WITH_TLS
    tls_prepare();
#else
    if (tls)
        usage_error();
#endif

    poller = epoll_create1(0);
    conns = calloc((size_t)count, sizeof *conns);
    if (poller < 0 || conns == NULL)
        die("set-up");
    live = unanswered = count;
    for (struct conn *c = conns; c < conns + count; c++) {
        if (mode == HTTP && (c->reply = malloc(HTTP_ROOM)) == NULL)
            die("malloc");
        conn_open(c, now());
    }

    load_until(now() + PATIENCE, 1);
    load_until(now() + (uint64_t)(warm_up * 1e9), 0);
    requests = resent = 0;
    memset(histogram, 0, sizeof histogram);
    struct usage before = usage_of(pid);
    uint64_t begun = now();
    load_until(begun + (uint64_t)(seconds * 1e9), 0);
    uint64_t ended = now();
    struct usage after = usage_of(pid);

    int starved = 0;
    for (struct conn *c = conns; c < conns + count; c++)
        starved += c->fd >= 0 && c->begun < begun + (ended - begun) / 2;
    double spent = (double)(ended - begun) / 1e9;
    printf("{\"requests\": %" PRIu64 ", \"seconds\": %.6f, \"rate\": %.1f, \"p50\": %.2f, \"p99\": %.2f, \"p99.9\": %.2f, "
           "\"errors\": %" PRIu64 ", \"error\": \"%s\", \"starved\": %d, \"resent\": %" PRIu64 ", \"cpu_ns\": %" PRIu64
           ", \"faults\": %" PRIu64 "}\n",
           requests, spent, (double)requests / spent, histogram_us(0.5), histogram_us(0.99), histogram_us(0.999), errors,
           first_error, starved, resent, after.cpu_ns - before.cpu_ns, after.faults - before.faults);
    return 0;
}
