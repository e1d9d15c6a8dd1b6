/* Messages to the daemon. driver/daemon/protocol.py has the same on the other side, and a test compares both. */
#ifndef SHIM_WIRE_H
#define SHIM_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MESSAGE_MAGIC = 0x6d6e7869, MESSAGE_VERSION = 1 };

struct message { /* the payload follows */
    uint32_t magic;
    uint16_t version;
    uint16_t kind;
    int32_t error; /* of a reply: 0 or an errno */
    uint32_t size; /* bytes of payload */
    uint64_t value;
};

enum message_kind { MESSAGE_CTRL = 1, MESSAGE_ATTACH = 2, MESSAGE_INTERFACE = 3, MESSAGE_REFUSED = 7 };

enum { MESSAGE_PAYLOAD = 16384, REPLY_DESCRIPTORS = 6 };

struct reply {
    int error; /* 0, or the errno that the daemon answers with */
    uint64_t value;
    size_t size; /* bytes of payload */
    int count; /* descriptors in fds; the caller closes them */
    int fds[REPLY_DESCRIPTORS];
};

/* Remember where the daemon listens: $IXRINGS_SOCKET. False: this program was not started by `ixrings run`. */
bool wire_setup(void);
bool wire_is_set_up(void);

/* A connected socket with the lowest free number, or -errno. */
int wire_connect(bool close_on_exec);

/* Whether `fd` is a socket that is connected to the daemon. Leaves errno as it is. */
bool wire_is_daemon(int fd);

/* After a failed request on a new connection: the errno that the daemon has refused the connection with, or 0. */
int wire_refusal(int socket);

/* Ask and wait for the answer. `payload` has `size` bytes to send, and room for `room` bytes of the answer.
 * Returns 0 when an answer came (reply->error may still refuse); ENXIO: the daemon has gone; EIO: it does not answer;
 * or what the kernel says, such as EMFILE. */
int wire_request(int socket, enum message_kind kind, uint64_t value, void *payload, size_t size, size_t room,
                 struct reply *reply);

#endif
