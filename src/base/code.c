/* SPDX-License-Identifier: MIT */
/* code.c: names and sentences for codes, and the version. */
#include <dgram.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#define LIBRARY_CODES(X)                                                                           \
    X(DGRAM_ENULL, "a required pointer is NULL")                                                   \
    X(DGRAM_EBADTYPE, "the socket type is neither DGRAM_UDP4 nor DGRAM_UDP6")                      \
    X(DGRAM_EBADOPTIONS, "an options struct has a wrong size or a value out of range")             \
    X(DGRAM_EBADPORT, "the port is above 65535, or the destination port is 0")                     \
    X(DGRAM_EBADADDRESS,                                                                           \
      "not an IP address (without port or brackets) or, where allowed, a host name")               \
    X(DGRAM_EBADFAMILY, "the address is not of the socket's family")                               \
    X(DGRAM_EBADTTL, "the TTL is out of range")                                                    \
    X(DGRAM_EBADGROUP, "not the IP address of a multicast group for this socket")                  \
    X(DGRAM_EBADINTERFACE, "not an interface of this host")                                        \
    X(DGRAM_EBADTIME, "the delay or interval is negative")                                         \
    X(DGRAM_EBADBUFFERSIZE, "the buffer size is 0 or too large")                                   \
    X(DGRAM_EALREADYBOUND, "the socket is already bound")                                          \
    X(DGRAM_ENOTBOUND, "the socket is not bound")                                                  \
    X(DGRAM_ENOTRUNNING, "the socket is closed")                                                   \
    X(DGRAM_EFORKED, "the loop belongs to the parent process")                                     \
    X(DGRAM_EWRONGTHREAD, "the loop belongs to another thread")                                    \
    X(DGRAM_EREENTERED, "the loop is already running")                                             \
    X(DGRAM_EBADENGINE, "there is no such engine: the engines are auto, uring and poll")           \
    X(DGRAM_ENOTFOUND, "the name does not exist or has no address of this family")                 \
    X(DGRAM_EDNSTIMEOUT, "no name server answered in time")                                        \
    X(DGRAM_EDNSFAILED, "a name server failed or answered nonsense")                               \
    X(DGRAM_EWRONGLOOP, "the destination or buffer belongs to another loop")                       \
    X(DGRAM_EBADRANGE, "the part exceeds the buffer")

/* The errnos with which sockets, rings and name servers answer; strerrorname_np() is too new to
 * rely on. */
/* clang-format off */
#define SYSTEM_CODES(X) \
    X(EPERM) X(ENOENT) X(EINTR) X(EIO) X(ENXIO) X(E2BIG) X(EBADF) X(EAGAIN) X(ENOMEM) X(EACCES) \
    X(EFAULT) X(EBUSY) X(EEXIST) X(ENODEV) X(ENOTDIR) X(EINVAL) X(ENFILE) X(EMFILE) X(EFBIG) \
    X(ENOSPC) X(EPIPE) X(EDOM) X(ERANGE) X(ENOSYS) X(EOVERFLOW) X(ENOTSOCK) X(EDESTADDRREQ) \
    X(EMSGSIZE) X(EPROTOTYPE) X(ENOPROTOOPT) X(EPROTONOSUPPORT) X(EOPNOTSUPP) X(EPFNOSUPPORT) \
    X(EAFNOSUPPORT) X(EADDRINUSE) X(EADDRNOTAVAIL) X(ENETDOWN) X(ENETUNREACH) X(ENETRESET) \
    X(ECONNABORTED) X(ECONNRESET) X(ENOBUFS) X(EISCONN) X(ENOTCONN) X(ETIMEDOUT) X(ECONNREFUSED) \
    X(EHOSTDOWN) X(EHOSTUNREACH) X(EALREADY) X(EINPROGRESS) X(ECANCELED) X(EPROTO) X(ETIME)
/* clang-format on */

struct code_name {
    int code;
    const char *name, *text;
};

#define LIBRARY_ROW(code, text) {code, #code, text},
#define SYSTEM_ROW(code) {-(code), #code, NULL},

static const struct code_name code_names[] = {LIBRARY_CODES(LIBRARY_ROW) SYSTEM_CODES(SYSTEM_ROW)};

static const struct code_name *code_find(int code)
{
    for (size_t i = 0; i < sizeof(code_names) / sizeof(code_names[0]); i++) {
        if (code_names[i].code == code) {
            return &code_names[i];
        }
    }
    return NULL;
}

const char *dgram_strerror(int code)
{
    const struct code_name *known = code_find(code);
    if (known != NULL && known->text != NULL) {
        return known->text;
    }
    if (code >= 0) {
        return "success";
    }
    return code > -4096 ? strerror(-code) : "unknown error";
}

const char *dgram_error_name(int code)
{
    const struct code_name *known = code_find(code);
    return known != NULL ? known->name : code >= 0 ? "OK" : "UNKNOWN";
}

#define DGRAM_TEXT(number) #number
#define DGRAM_TEXT_OF(number) DGRAM_TEXT(number)

const char *dgram_version(void)
{
    return DGRAM_TEXT_OF(DGRAM_VERSION_MAJOR) "." DGRAM_TEXT_OF(
        DGRAM_VERSION_MINOR) "." DGRAM_TEXT_OF(DGRAM_VERSION_PATCH);
}
