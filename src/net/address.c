/* Addresses in C and in Python.  No state, no loop; runs no Python. */
#include "net/address.h"

#include <arpa/inet.h>

#define ADDRESS_PATH offsetof(struct sockaddr_un, sun_path)

/* ---- to Python -------------------------------------------------------------------------------------------------- */

static char *
address_put_byte(char *p, unsigned n)
{
    if (n >= 100) {
        *p++ = (char)('0' + n / 100);
        n %= 100;
        *p++ = (char)('0' + n / 10);
    }
    else if (n >= 10) {
        *p++ = (char)('0' + n / 10);
    }
    *p++ = (char)('0' + n % 10);
    return p;
}

/* inet_ntop() does it with sprintf(), which costs more than all the rest of an address. */
static PyObject *
address_ipv4_host(const struct in_addr *host)
{
    const unsigned char *b = (const unsigned char *)host;
    char text[INET_ADDRSTRLEN], *p = text;
    for (int i = 0; i < 4; i++) {
        p = address_put_byte(p, b[i]);
        *p++ = '.';
    }
    p--;
    PyObject *str = PyUnicode_New(p - text, 127);
    if (str != NULL) {
        memcpy(PyUnicode_DATA(str), text, (size_t)(p - text));
    }
    return str;
}

static PyObject *
address_ipv6_host(const struct in6_addr *host)
{
    char text[INET6_ADDRSTRLEN];
    if (inet_ntop(AF_INET6, host, text, sizeof(text)) == NULL) {
        PyErr_SetFromErrno(PyExc_OSError);
        return NULL;
    }
    return PyUnicode_FromString(text);
}

/* A tuple of host, which is stolen, and numbers; NULL if there is no host. */
static PyObject *
address_tuple_steal(PyObject *host, const unsigned long *numbers, Py_ssize_t n)
{
    PyObject *tuple = host == NULL ? NULL : PyTuple_New(1 + n);
    if (tuple == NULL) {
        Py_XDECREF(host);
        return NULL;
    }
    PyTuple_SET_ITEM(tuple, 0, host);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *number = PyLong_FromUnsignedLong(numbers[i]);
        if (number == NULL) {
            Py_DECREF(tuple);
            return NULL;
        }
        PyTuple_SET_ITEM(tuple, 1 + i, number);
    }
    return tuple;
}

/* A path is text up to its zero byte; a name that begins with one is not in the file system, and is bytes. */
static PyObject *
address_unix(const struct sockaddr_un *un, size_t len)
{
    size_t n = len > ADDRESS_PATH ? len - ADDRESS_PATH : 0;
    if (n > 0 && un->sun_path[0] == 0) {
        return PyBytes_FromStringAndSize(un->sun_path, (Py_ssize_t)n);
    }
    return PyUnicode_DecodeFSDefaultAndSize(un->sun_path, (Py_ssize_t)strnlen(un->sun_path, n));
}

AF_API int
af_address_to_python(const af_sockaddr *addr, socklen_t len, PyObject **obj)
{
    *obj = NULL;
    if (len == 0) {
        *obj = Py_NewRef(Py_None);      /* the other end has no name */
    }
    else if (addr->any.sa_family == AF_INET) {
        unsigned long port = ntohs(addr->in.sin_port);
        *obj = address_tuple_steal(address_ipv4_host(&addr->in.sin_addr), &port, 1);
    }
    else if (addr->any.sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = &addr->in6;
        unsigned long numbers[3] = {ntohs(in6->sin6_port), ntohl(in6->sin6_flowinfo), in6->sin6_scope_id};
        *obj = address_tuple_steal(address_ipv6_host(&in6->sin6_addr), numbers, 3);
    }
    else if (addr->any.sa_family == AF_UNIX) {
        *obj = address_unix(&addr->un, len);
    }
    else {
        return 0;
    }
    return *obj == NULL ? -1 : 1;
}

/* ---- from Python ------------------------------------------------------------------------------------------------ */

/* Item i of an address as a number up to most; 0: it is something else. */
static int
address_number(PyObject *tuple, Py_ssize_t i, unsigned long most, unsigned long *number)
{
    PyObject *item = PyTuple_GET_ITEM(tuple, i);
    if (!PyLong_CheckExact(item)) {
        return 0;
    }
    *number = PyLong_AsUnsignedLong(item);
    if (*number == (unsigned long)-1 && PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    return *number <= most;
}

/* The characters of an ASCII str without a zero byte, or NULL. */
static const char *
address_text(PyObject *str, Py_ssize_t *len)
{
    if (!PyUnicode_CheckExact(str) || !PyUnicode_IS_COMPACT_ASCII(str)) {
        return NULL;
    }
    *len = PyUnicode_GET_LENGTH(str);
    const char *text = (const char *)PyUnicode_DATA(str);
    return strlen(text) == (size_t)*len ? text : NULL;
}

static int
address_from_tuple(int family, PyObject *obj, af_sockaddr *addr, socklen_t *len)
{
    Py_ssize_t n = PyTuple_CheckExact(obj) ? PyTuple_GET_SIZE(obj) : 0, size;
    if (n < 2 || n > (family == AF_INET ? 2 : 4)) {
        return 0;
    }
    const char *host = address_text(PyTuple_GET_ITEM(obj, 0), &size);
    unsigned long port, flow = 0, scope = 0;
    if (host == NULL || !address_number(obj, 1, 0xffff, &port)) {
        return 0;
    }
    if (family == AF_INET) {
        addr->in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        *len = sizeof(addr->in);
        return inet_pton(AF_INET, host, &addr->in.sin_addr) == 1;
    }
    if ((n > 2 && !address_number(obj, 2, 0xfffff, &flow)) || (n > 3 && !address_number(obj, 3, UINT32_MAX, &scope))) {
        return 0;
    }
    addr->in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port),
                                      .sin6_flowinfo = htonl((uint32_t)flow), .sin6_scope_id = (uint32_t)scope};
    *len = sizeof(addr->in6);
    return inet_pton(AF_INET6, host, &addr->in6.sin6_addr) == 1;
}

/* A path as ASCII text, or any name as bytes.  The zero byte that ends a path counts; an abstract name has none. */
static int
address_from_name(PyObject *obj, struct sockaddr_un *un, socklen_t *len)
{
    Py_ssize_t n = 0;
    const char *name = PyBytes_CheckExact(obj) ? PyBytes_AS_STRING(obj) : address_text(obj, &n);
    if (PyBytes_CheckExact(obj)) {
        n = PyBytes_GET_SIZE(obj);
    }
    if (name == NULL || n == 0 || (size_t)n >= sizeof(un->sun_path)) {
        return 0;
    }
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, name, (size_t)n);
    un->sun_path[n] = 0;
    *len = (socklen_t)(ADDRESS_PATH + (size_t)n + (name[0] != 0));
    return 1;
}

AF_API int
af_address_from_python(int family, PyObject *obj, af_sockaddr *addr, socklen_t *len)
{
    if (family == AF_UNIX) {
        return address_from_name(obj, &addr->un, len);
    }
    return family == AF_INET || family == AF_INET6 ? address_from_tuple(family, obj, addr, len) : 0;
}

#undef ADDRESS_PATH
