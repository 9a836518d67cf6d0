#include "tests/bench/fake_broker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/cmq_base.h"
#include "tests/bench/fake_net.h"

enum { CONNECTIONS = 64, LATE_MS = 100, REQUEST_BYTES = 1 << 22 };

static const char content_head[] = "{\"content\": \"";

struct frame {
    struct frame *next;
    size_t bytes;
    enum fake_fault fault; /* one that is done when the frame is sent, or none */
    char text[];
};

struct fake_broker {
    enum fake_fault fault;
    unsigned long at;
    const char *_Atomic token; /* NULL: none is wanted; relaxed everywhere: set before the first connection */
    int http_fd, ws_fd;
    unsigned http_port, ws_port;
    pthread_t http_thread, ws_thread;
    pthread_t connections[CONNECTIONS];
    int connection_fds[CONNECTIONS];
    unsigned connection_count;
    atomic_uint stop; /* relaxed everywhere: a flag */
    atomic_uint pongs;

    pthread_mutex_t lock; /* over all below */
    struct frame *first, **last;
    struct frame *held; /* comes after the next batch */
    bool fault_done;
};

/* ---- sockets ---- */

/* head: text up to its end. */
static bool has_token(struct fake_broker *fake, const char *head)
{
    const char *token = atomic_load_explicit(&fake->token, memory_order_relaxed);
    char line[128];
    if (token == NULL)
        return true;
    snprintf(line, sizeof line, "\r\nAuthorization: Bearer %s\r\n", token);
    return strstr(head, line) != NULL;
}

static bool stopped(struct fake_broker *fake)
{
    return atomic_load_explicit(&fake->stop, memory_order_relaxed) != 0;
}

/* ---- requests -> frames ---- */

static struct frame *frame_new(size_t capacity)
{
    struct frame *frame = calloc(1, sizeof *frame + capacity);
    cmq_assert(frame != NULL);
    return frame;
}

static void add_text(struct frame *frame, const char *text, size_t bytes)
{
    memcpy(frame->text + frame->bytes, text, bytes);
    frame->bytes += bytes;
}

static void add_message(struct fake_broker *fake, struct frame *frame, const char *content, size_t bytes)
{
    bool noisy = fake->fault == FAKE_NOISY;
    if (frame->bytes > 1)
        add_text(frame, noisy ? " , " : ",", noisy ? 3 : 1);
    add_text(frame, "\"", 1);
    if (noisy) {
        add_text(frame, "\\u006d", 6); /* m */
        content++;
        bytes--;
    }
    add_text(frame, content, bytes);
    add_text(frame, "\"", 1);
}

/* One request's contents as one frame, with the fault in it. Quadratic in nothing; called once a request. */
static struct frame *make_frame(struct fake_broker *fake, const char *body, size_t body_bytes, bool cut)
{
    struct frame *frame = frame_new(body_bytes * 2 + 64);
    const char *at = body, *end = body + body_bytes, *swapped = NULL;
    size_t swapped_bytes = 0;
    add_text(frame, "[", 1);
    while ((at = memmem(at, (size_t)(end - at), content_head, sizeof content_head - 1)) != NULL) {
        at += sizeof content_head - 1;
        size_t bytes = (size_t)((const char *)memchr(at, '"', (size_t)(end - at)) - at);
        unsigned long number = strtoul(at + sizeof "message_" - 1, NULL, 10);
        bool here = number == fake->at && !cut;
        if (here && fake->fault == FAKE_REORDER) {
            swapped = at;
            swapped_bytes = bytes;
            continue;
        }
        if (here && fake->fault == FAKE_CORRUPT)
            add_message(fake, frame, "massage_1", 9);
        else if (!(here && fake->fault == FAKE_LOSE))
            add_message(fake, frame, at, bytes);
        if (here && fake->fault == FAKE_DUPLICATE)
            add_message(fake, frame, at, bytes);
        if (swapped != NULL)
            add_message(fake, frame, swapped, swapped_bytes);
        swapped = NULL;
    }
    add_text(frame, "]", 1);
    return frame;
}

static void queue_frame(struct fake_broker *fake, struct frame *frame)
{
    *fake->last = frame;
    fake->last = &frame->next;
}

/* Splits a body behind its first message. */
static size_t first_half(const char *body, size_t bytes)
{
    const char *brace = memchr(body, '}', bytes);
    return brace == NULL ? bytes : (size_t)(brace - body) + 1;
}

static void deliver(struct fake_broker *fake, const char *body, size_t bytes, bool marked)
{
    pthread_mutex_lock(&fake->lock);
    struct frame *held = fake->held;
    fake->held = NULL;
    if (marked && fake->fault == FAKE_SPLIT) {
        size_t half = first_half(body, bytes);
        queue_frame(fake, make_frame(fake, body, half, true));
        fake->held = make_frame(fake, body + half, bytes - half, true);
    } else {
        struct frame *frame = make_frame(fake, body, bytes, false);
        if (marked && (fake->fault == FAKE_BAD_FRAME || fake->fault == FAKE_HANG_UP))
            frame->fault = fake->fault;
        if (marked && fake->fault == FAKE_NOT_JSON)
            frame->text[frame->bytes - 1] = '}';
        if (marked && fake->fault == FAKE_SWAP)
            fake->held = frame;
        else
            queue_frame(fake, frame);
        if (marked && fake->fault == FAKE_LATE_DUPLICATE) {
            frame = make_frame(fake, body, first_half(body, bytes), false);
            frame->fault = fake->fault;
            queue_frame(fake, frame);
        }
    }
    if (held != NULL)
        queue_frame(fake, held);
    pthread_mutex_unlock(&fake->lock);
}

/* ---- HTTP ---- */

enum answer {
    ANSWER_OK,
    ANSWER_DURABLE,
    ANSWER_ACCEPTED,
    ANSWER_REFUSE,
    ANSWER_NOBODY,
    ANSWER_RESET,
    ANSWER_NONE
};

/* Does the body begin with message `at`? */
static bool is_marked(const struct fake_broker *fake, const char *body, size_t bytes)
{
    const char *first = memmem(body, bytes, content_head, sizeof content_head - 1);
    return first != NULL &&
           strtoul(first + sizeof content_head - 1 + sizeof "message_" - 1, NULL, 10) == fake->at;
}

static enum answer take_request(struct fake_broker *fake, const char *head, const char *body, size_t bytes)
{
    bool marked = is_marked(fake, body, bytes);
    if (!has_token(fake, head))
        return ANSWER_NOBODY;
    pthread_mutex_lock(&fake->lock);
    bool once = marked && !fake->fault_done;
    fake->fault_done = fake->fault_done || marked;
    pthread_mutex_unlock(&fake->lock);
    if (marked && fake->fault == FAKE_SILENT)
        return ANSWER_NONE;
    if ((once && fake->fault == FAKE_REFUSE_ONCE) || (marked && fake->fault == FAKE_REFUSE))
        return ANSWER_REFUSE;
    deliver(fake, body, bytes, marked);
    if (once && fake->fault == FAKE_RESET)
        return ANSWER_RESET;
    if (strstr(head, "CMQ-Ack: durable\r\n") == NULL)
        return ANSWER_OK;
    return marked && fake->fault == FAKE_LEVEL ? ANSWER_ACCEPTED : ANSWER_DURABLE;
}

static bool send_answer(struct fake_broker *fake, int fd, enum answer answer)
{
    static const char ok[] =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    static const char ok_close[] = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    static const char refused[] = "HTTP/1.1 503 Full\r\nRetry-After: 1\r\ncontent-length:  2\r\n\r\n{}";
    static const char nobody[] = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
    static const char durable[] =
        "HTTP/1.1 200 OK\r\nContent-Length: 28\r\n\r\n{\"id\":\"1-0\",\"ack\":\"durable\"}";
    static const char accepted[] =
        "HTTP/1.1 200 OK\r\nContent-Length: 29\r\n\r\n{\"id\":\"1-0\",\"ack\":\"accepted\"}";
    const char *text = fake->fault == FAKE_CLOSE_EACH ? ok_close : ok;
    if (answer == ANSWER_REFUSE)
        text = refused;
    else if (answer == ANSWER_NOBODY)
        text = nobody;
    else if (answer == ANSWER_DURABLE || answer == ANSWER_ACCEPTED)
        text = answer == ANSWER_DURABLE ? durable : accepted;
    if (answer == ANSWER_NONE)
        return true;
    return answer != ANSWER_RESET &&
           fake_send_all(fd, text, strlen(text), fake->fault == FAKE_NOISY ? 9 : SIZE_MAX) &&
           fake->fault != FAKE_CLOSE_EACH;
}

struct connection_start {
    struct fake_broker *fake;
    int fd;
};

static void *connection_main(void *arg)
{
    struct connection_start start = *(struct connection_start *)arg;
    free(arg);
    char *in = malloc(REQUEST_BYTES + 1);
    size_t have = 0;
    bool open = in != NULL;
    while (open && fake_readable(start.fd, &start.fake->stop)) {
        ssize_t got = recv(start.fd, in + have, REQUEST_BYTES - have, 0);
        if (got <= 0)
            break;
        have += (size_t)got;
        in[have] = '\0';
        const char *body = NULL;
        size_t whole = fake_request_bytes(in, have, &body);
        if (whole == 0)
            continue;
        cmq_assert(whole == have); /* no pipelining */
        open = send_answer(start.fake, start.fd,
                           take_request(start.fake, in, body, (size_t)(in + whole - body)));
        have = 0;
    }
    free(in);
    (void)shutdown(start.fd, SHUT_RDWR); /* closed by stop, so that no other thread gets the number */
    return NULL;
}

static void *http_main(void *arg)
{
    struct fake_broker *fake = arg;
    while (fake->connection_count < CONNECTIONS && fake_readable(fake->http_fd, &fake->stop)) {
        struct connection_start *start = malloc(sizeof *start);
        cmq_assert(start != NULL);
        *start =
            (struct connection_start){.fake = fake, .fd = accept4(fake->http_fd, NULL, NULL, SOCK_CLOEXEC)};
        cmq_assert(start->fd >= 0);
        unsigned index = fake->connection_count++;
        fake->connection_fds[index] = start->fd;
        cmq_assert(pthread_create(&fake->connections[index], NULL, connection_main, start) == 0);
    }
    return NULL;
}

/* ---- WebSocket ---- */

/* Fragments of 7, 14, 21 ... bytes with pings between them. */
static bool send_noisy(int fd, const struct frame *frame)
{
    size_t at = 0;
    for (unsigned part = 1; at < frame->bytes; part++) {
        size_t most = (size_t)part * 7u, here = frame->bytes - at < most ? frame->bytes - at : most;
        unsigned opcode = at == 0 ? 1u : 0u;
        bool last = at + here == frame->bytes;
        if (!fake_send_frame(fd, opcode | (last ? 0x80u : 0u), false, frame->text + at, here, 13))
            return false;
        if (part % 4 == 1 && !fake_send_frame(fd, 0x89u, false, "are you there", 13, 3))
            return false;
        at += here;
    }
    return true;
}

static struct frame *take_frame(struct fake_broker *fake)
{
    pthread_mutex_lock(&fake->lock);
    struct frame *frame = fake->first;
    if (frame != NULL) {
        fake->first = frame->next;
        if (fake->first == NULL)
            fake->last = &fake->first;
    }
    pthread_mutex_unlock(&fake->lock);
    return frame;
}

/* Counts pongs that say what was asked; false when the client closes. The test's clients send nothing else,
 * and each frame in one piece. */
static bool take_client_frames(struct fake_broker *fake, int fd)
{
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    while (poll(&wanted, 1, 0) > 0) {
        uint8_t head[6], payload[125];
        if (recv(fd, head, sizeof head, MSG_WAITALL) != (ssize_t)sizeof head || (head[1] & 0x80u) == 0)
            return false;
        size_t bytes = head[1] & 0x7fu;
        if (bytes > 0 && recv(fd, payload, bytes, MSG_WAITALL) != (ssize_t)bytes)
            return false;
        for (size_t i = 0; i < bytes; i++)
            payload[i] ^= head[2 + i % 4];
        if (head[0] == 0x88u)
            return false;
        if (head[0] == 0x8au && bytes == 13 && memcmp(payload, "are you there", 13) == 0)
            atomic_fetch_add_explicit(&fake->pongs, 1, memory_order_relaxed); /* relaxed: a counter */
    }
    return true;
}

static void serve_client(struct fake_broker *fake, int fd)
{
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    char request[2048];
    bool open = fake_shake_hands(fd, &fake->stop, "", fake->fault == FAKE_NOISY ? 11 : SIZE_MAX, request) &&
                has_token(fake, request);
    while (open && !stopped(fake)) {
        struct frame *frame = take_frame(fake);
        if (frame == NULL) {
            /* A millisecond between two looks at the queue. */
            struct pollfd wanted = {.fd = fd, .events = POLLIN};
            if (poll(&wanted, 1, 1) > 0)
                open = take_client_frames(fake, fd);
            continue;
        }
        struct pollfd client = {.fd = fd, .events = POLLIN};
        if (frame->fault == FAKE_LATE_DUPLICATE)
            (void)poll(&client, 1, LATE_MS);
        if (frame->fault == FAKE_HANG_UP)
            open = false;
        else if (fake->fault == FAKE_NOISY)
            open = send_noisy(fd, frame);
        else
            open = fake_send_frame(fd, 0x81u, frame->fault == FAKE_BAD_FRAME, frame->text, frame->bytes,
                                   SIZE_MAX);
        free(frame);
        open = open && take_client_frames(fake, fd);
    }
}

static void *ws_main(void *arg)
{
    struct fake_broker *fake = arg;
    while (fake_readable(fake->ws_fd, &fake->stop)) {
        int fd = accept4(fake->ws_fd, NULL, NULL, SOCK_CLOEXEC);
        cmq_assert(fd >= 0);
        serve_client(fake, fd);
        close(fd);
    }
    return NULL;
}

/* ---- life ---- */

struct fake_broker *fake_broker_start(enum fake_fault fault, unsigned long at)
{
    struct fake_broker *fake = calloc(1, sizeof *fake);
    cmq_assert(fake != NULL);
    fake->fault = fault;
    fake->at = at;
    fake->last = &fake->first;
    fake->http_fd = fake_listen(&fake->http_port);
    fake->ws_fd = fake_listen(&fake->ws_port);
    cmq_assert(pthread_mutex_init(&fake->lock, NULL) == 0);
    cmq_assert(pthread_create(&fake->http_thread, NULL, http_main, fake) == 0);
    cmq_assert(pthread_create(&fake->ws_thread, NULL, ws_main, fake) == 0);
    return fake;
}

void fake_broker_leave_frame(struct fake_broker *fake, const char *text)
{
    struct frame *frame = frame_new(strlen(text));
    add_text(frame, text, strlen(text));
    pthread_mutex_lock(&fake->lock);
    queue_frame(fake, frame);
    pthread_mutex_unlock(&fake->lock);
}

void fake_broker_want_token(struct fake_broker *fake, const char *token)
{
    atomic_store_explicit(&fake->token, token, memory_order_relaxed);
}

unsigned fake_broker_http_port(const struct fake_broker *fake)
{
    return fake->http_port;
}

unsigned fake_broker_ws_port(const struct fake_broker *fake)
{
    return fake->ws_port;
}

unsigned fake_broker_pongs(struct fake_broker *fake)
{
    return atomic_load_explicit(&fake->pongs, memory_order_relaxed);
}

void fake_broker_stop(struct fake_broker *fake)
{
    atomic_store_explicit(&fake->stop, 1, memory_order_relaxed);
    (void)pthread_join(fake->http_thread, NULL);
    (void)pthread_join(fake->ws_thread, NULL);
    for (unsigned i = 0; i < fake->connection_count; i++) {
        (void)pthread_join(fake->connections[i], NULL);
        close(fake->connection_fds[i]);
    }
    close(fake->http_fd);
    close(fake->ws_fd);
    for (struct frame *frame = take_frame(fake); frame != NULL; frame = take_frame(fake))
        free(frame);
    free(fake->held);
    pthread_mutex_destroy(&fake->lock);
    free(fake);
}
