#include "tests/bench/fake_v1.h"

#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/cmq_base.h"
#include "common/base/cmq_err.h"
#include "tests/bench/fake_net.h"

enum {
    CONNECTIONS = 192,
    RECORDS = 4096,
    REQUEST_BYTES = 1 << 20,
    FRAME_BYTES = 1 << 22,
    TEXT_BYTES = 64,
    COMMAND_BYTES = 1024,
    GROUP_SHARE = 7, /* messages that a member of a group gets at a time */
    IDS_MAX = 1 << 20,
};

struct record {
    char topic[TEXT_BYTES];
    unsigned long first; /* number of its first message; they count up */
    uint32_t count;
};

struct fake_v1 {
    enum fake_v1_fault fault;
    unsigned long at;
    unsigned victim;
    int http_fd, ws_fd;
    unsigned http_port, ws_port;
    pthread_t http_thread, ws_thread;
    atomic_uint stop; /* relaxed everywhere: a flag */

    pthread_mutex_t lock; /* over all below */
    pthread_t threads[CONNECTIONS];
    int fds[CONNECTIONS];
    unsigned count;
    struct record records[RECORDS]; /* record n has seq n + 1 */
    unsigned record_count;
    unsigned subscriptions;
    unsigned group_seq, group_index; /* what the group hands out next */
    bool fault_done;
};

struct client {
    struct fake_v1 *fake;
    int fd;
    bool msgpack, victim, group, subscribed;
    uint64_t sub;
    char topic[TEXT_BYTES];
    unsigned seq;  /* the next record; 1 is the first */
    unsigned held; /* record that comes after the next one; 0: none */
    uint8_t *frame;
    size_t bytes;
    uint64_t *ids; /* in flight: seq << 32 | index */
    size_t id_count;
};

struct thread_start {
    struct fake_v1 *fake;
    int fd;
};

static bool stopped(struct fake_v1 *fake)
{
    return atomic_load_explicit(&fake->stop, memory_order_relaxed) != 0;
}

/* ---- HTTP ---- */

static bool is_marked(const struct fake_v1 *fake, const struct record *record)
{
    return record->first == fake->at;
}

static unsigned keep_record(struct fake_v1 *fake, const char *head, const char *body, size_t bytes)
{
    static const char path[] = "POST /v1/topics/", word[] = "\"message_";
    const char *topic = head + sizeof path - 1, *end = body + bytes;
    cmq_assert(memcmp(head, path, sizeof path - 1) == 0);
    struct record record = {0};
    snprintf(record.topic, sizeof record.topic, "%.*s", (int)strcspn(topic, "/ "), topic);
    for (const char *at = body; (at = memmem(at, (size_t)(end - at), word, sizeof word - 1)) != NULL;
         record.count++) {
        at += sizeof word - 1;
        if (record.count == 0)
            record.first = strtoul(at, NULL, 10);
    }
    pthread_mutex_lock(&fake->lock);
    cmq_assert(fake->record_count < RECORDS);
    fake->records[fake->record_count++] = record;
    unsigned seq = fake->record_count;
    pthread_mutex_unlock(&fake->lock);
    return seq;
}

static bool answer(struct fake_v1 *fake, int fd, unsigned seq, const char *head)
{
    char body[128], reply[512];
    bool marked = is_marked(fake, &fake->records[seq - 1]);
    bool durable = strstr(head, "CMQ-Ack: accepted") == NULL;
    if (marked && fake->fault == FAKE_V1_LEVEL)
        durable = false;
    if (marked && fake->fault == FAKE_V1_OTHER_ID)
        seq++;
    if (marked && fake->fault == FAKE_V1_NO_ID)
        snprintf(body, sizeof body, "{\"ack\":\"durable\"}");
    else
        snprintf(body, sizeof body, "{\"id\":\"%u-0\",\"count\":%u,\"ack\":\"%s\"}", seq, 1u,
                 durable ? "durable" : "accepted");
    int bytes =
        snprintf(reply, sizeof reply, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
    return fake_send_all(fd, reply, (size_t)bytes, SIZE_MAX);
}

static void *request_main(void *arg)
{
    struct thread_start start = *(struct thread_start *)arg;
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
        unsigned seq = keep_record(start.fake, in, body, (size_t)(in + whole - body));
        open = answer(start.fake, start.fd, seq, in);
        have = 0;
    }
    free(in);
    (void)shutdown(start.fd, SHUT_RDWR); /* closed by stop, so that no other thread gets the number */
    return NULL;
}

/* ---- frames ---- */

static void put(struct client *client, const char *fmt, ...) CMQ_PRINTF(2, 3);

static void put(struct client *client, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int bytes = vsnprintf((char *)client->frame + client->bytes, FRAME_BYTES - client->bytes, fmt, args);
    va_end(args);
    client->bytes += (size_t)bytes;
    cmq_assert(client->bytes < FRAME_BYTES);
}

static void put_byte(struct client *client, unsigned byte)
{
    client->frame[client->bytes++] = (uint8_t)byte;
}

static void mp_text(struct client *client, const char *text)
{
    put_byte(client, 0xd9);
    put_byte(client, (unsigned)strlen(text));
    put(client, "%s", text);
}

static void mp_number(struct client *client, uint64_t number)
{
    put_byte(client, 0xcf);
    for (unsigned i = 0; i < 8; i++)
        put_byte(client, (unsigned)(number >> (56u - 8u * i)) & 0xffu);
}

static bool send_whole(struct client *client)
{
    static const char ping[] = "are you there";
    unsigned opcode = client->msgpack ? 2u : 1u;
    size_t half = client->bytes / 2;
    if (client->fake->fault != FAKE_V1_NOISY || half == 0)
        return fake_send_frame(client->fd, 0x80u | opcode, false, client->frame, client->bytes, SIZE_MAX);
    return fake_send_frame(client->fd, opcode, false, client->frame, half, 7) &&
           fake_send_frame(client->fd, 0x89u, false, ping, sizeof ping - 1, SIZE_MAX) &&
           fake_send_frame(client->fd, 0x80u, false, client->frame + half, client->bytes - half, SIZE_MAX);
}

static bool send_heartbeat(struct client *client)
{
    client->bytes = 0;
    if (client->msgpack)
        put_byte(client, 0x80);
    else
        put(client, "{}");
    return send_whole(client);
}

/* {"id":N,"ok":{"acked":n,"stale":[...]}} for every command: what does not fit is ignored by clients. */
static bool send_ok(struct client *client, uint64_t id, uint64_t acked, bool stale)
{
    client->bytes = 0;
    if (!client->msgpack) {
        put(client, "{\"id\":%" PRIu64 ",\"ok\":{\"acked\":%" PRIu64 ",\"stale\":[%s]}}", id, acked,
            stale ? "\"1-0\"" : "");
        return send_whole(client);
    }
    put_byte(client, 0x82);
    mp_text(client, "id");
    mp_number(client, id);
    mp_text(client, "ok");
    put_byte(client, 0x82);
    mp_text(client, "acked");
    mp_number(client, acked);
    mp_text(client, "stale");
    put_byte(client, stale ? 0x91 : 0x90);
    if (stale)
        mp_text(client, "1-0");
    return send_whole(client);
}

static bool send_error(struct client *client, uint64_t id)
{
    client->bytes = 0;
    cmq_assert(!client->msgpack);
    put(client, "{\"id\":%" PRIu64 ",\"error\":{\"code\":\"limit\",\"message\":\"not you\"}}", id);
    return send_whole(client);
}

static bool send_gap(struct client *client, unsigned seq)
{
    client->bytes = 0;
    cmq_assert(!client->msgpack);
    put(client, "{\"gap\":{\"sub\":%" PRIu64 ",\"from\":\"%u-0\",\"to\":\"%u-0\",\"reason\":\"retention\"}}",
        client->sub, seq, seq + 1);
    return send_whole(client);
}

struct fake_item {
    unsigned seq;
    uint32_t index;
    unsigned long number;
    bool corrupt, again; /* attempt 2 */
};

static void put_item(struct client *client, const struct fake_item *item)
{
    char id[48], data[48];
    snprintf(id, sizeof id, "%u-%" PRIu32, item->seq, item->index);
    snprintf(data, sizeof data, "%s_%lu", item->corrupt ? "massage" : "message", item->number);
    unsigned attempt = item->again ? 2 : 1;
    bool has_attempt = client->group || item->again, noisy = client->fake->fault == FAKE_V1_NOISY;
    if (client->msgpack) {
        put_byte(client, has_attempt ? 0x84 : 0x83);
        mp_text(client, "id");
        mp_text(client, id);
        mp_text(client, "data");
        mp_text(client, data);
        mp_text(client, "ts");
        mp_number(client, 1732480000000);
        if (has_attempt)
            mp_text(client, "attempt");
        if (has_attempt)
            put_byte(client, attempt);
        return;
    }
    if (noisy && item->index % 3 == 1)
        put(client, " {\"headers\" : {\"a\":[1,{\"b\":\"]}\\\"\"}]}, \"data\":\"%s\" ,\"id\":\"%s\"\t} ",
            data, id);
    else if (has_attempt)
        put(client, "{\"id\":\"%s\",\"data\":\"%s\",\"ts\":1732480000000,\"attempt\":%u}", id, data, attempt);
    else
        put(client, "{\"id\":\"%s\",\"data\":\"%s\",\"ts\":1732480000000}", id, data);
}

/* Items first .. first + count - 1 of a record with the fault in them; returns how many. */
static uint32_t make_items(struct client *client, unsigned seq, uint32_t first, uint32_t count,
                           struct fake_item *items)
{
    const struct fake_v1 *fake = client->fake;
    const struct record *record = &fake->records[seq - 1];
    uint32_t made = 0;
    for (uint32_t i = first; i < first + count; i++) {
        struct fake_item item = {.seq = seq, .index = i, .number = record->first + i};
        bool here = client->victim && item.number == fake->at,
             behind = client->victim && item.number == fake->at + 1;
        if (here && fake->fault == FAKE_V1_LOSE)
            continue;
        item.corrupt = here && fake->fault == FAKE_V1_CORRUPT;
        item.again = here && fake->fault == FAKE_V1_ATTEMPT;
        if (here && fake->fault == FAKE_V1_WRONG_RECORD)
            item.seq += 1000;
        if (fake->fault == FAKE_V1_SWAP_CONTENT)
            item.number = here ? item.number + 1 : behind ? item.number - 1 : item.number;
        items[made++] = item;
        if (here && fake->fault == FAKE_V1_DUPLICATE)
            items[made++] = item;
        if (behind && fake->fault == FAKE_V1_REORDER && made > 1) {
            items[made - 1] = items[made - 2];
            items[made - 2] = item;
        }
    }
    return made;
}

static bool send_items(struct client *client, unsigned seq, uint32_t first, uint32_t count)
{
    const struct fake_v1 *fake = client->fake;
    struct fake_item *items = calloc((size_t)count + 1, sizeof *items);
    cmq_assert(items != NULL);
    uint32_t made = make_items(client, seq, first, count, items);
    client->bytes = 0;
    if (client->msgpack) {
        put_byte(client, 0x81);
        mp_text(client, "msgs");
        put_byte(client, 0x83);
        mp_text(client, "sub");
        mp_number(client, client->sub);
        mp_text(client, "topic");
        mp_text(client, client->topic);
        mp_text(client, "items");
        put_byte(client, 0xdd);
        for (unsigned i = 0; i < 4; i++)
            put_byte(client, made >> (24u - 8u * i) & 0xffu);
    } else {
        put(client, "{\"msgs\":{\"sub\":%" PRIu64 ",\"topic\":\"%s\",\"items\":[", client->sub,
            client->topic);
    }
    for (uint32_t i = 0; i < made; i++) {
        if (i > 0 && !client->msgpack)
            put(client, ",");
        put_item(client, &items[i]);
        if (client->group)
            client->ids[client->id_count++] = (uint64_t)items[i].seq << 32 | items[i].index;
    }
    cmq_assert(client->id_count < IDS_MAX / 2);
    if (!client->msgpack)
        put(client, fake->fault == FAKE_V1_NOISY ? "],\"more\":null} , \"x\":1}" : "]}}");
    free(items);
    if (fake->fault == FAKE_V1_BROKEN && client->victim && is_marked(fake, &fake->records[seq - 1]))
        client->bytes -= 2;
    return send_whole(client);
}

/* ---- commands ---- */

struct command {
    uint8_t data[COMMAND_BYTES];
    size_t bytes;
};

/* The text that belongs to a key, wherever it is. */
static bool text_of(const struct client *client, const struct command *command, const char *key,
                    char ret_text[TEXT_BYTES])
{
    char wanted[TEXT_BYTES];
    snprintf(wanted, sizeof wanted, client->msgpack ? "%s" : "\"%s\":\"", key);
    const uint8_t *at = memmem(command->data, command->bytes, wanted, strlen(wanted));
    if (at == NULL)
        return false;
    at += strlen(wanted);
    size_t bytes = client->msgpack ? at[1] : strcspn((const char *)at, "\"");
    snprintf(ret_text, TEXT_BYTES, "%.*s", (int)bytes, (const char *)at + (client->msgpack ? 2 : 0));
    return true;
}

static uint64_t id_of(const struct client *client, const struct command *command)
{
    if (!client->msgpack)
        return strtoul((const char *)command->data + strlen("{\"id\":"), NULL, 10);
    uint64_t id = 0;
    for (unsigned i = 0; i < 8; i++)
        id = id << 8 | command->data[6 + i];
    return id;
}

static bool has(const struct command *command, const char *word)
{
    return memmem(command->data, command->bytes, word, strlen(word)) != NULL;
}

static bool take_ack(struct client *client, const struct command *command, uint64_t id)
{
    struct fake_v1 *fake = client->fake;
    char upto[TEXT_BYTES] = "", *dash;
    uint64_t acked = 0, seq, last;
    size_t left = 0;
    bool marked = false;
    cmq_assert(text_of(client, command, "upto", upto));
    seq = strtoul(upto, &dash, 10);
    last = seq << 32 | strtoul(dash + 1, NULL, 10);
    for (size_t i = 0; i < client->id_count; i++) {
        const struct record *record = &fake->records[(client->ids[i] >> 32) - 1];
        if (client->ids[i] > last) {
            client->ids[left++] = client->ids[i];
            continue;
        }
        acked++;
        marked = marked || record->first + (uint32_t)client->ids[i] == fake->at;
    }
    client->id_count = left;
    return send_ok(client, id, acked - (marked && fake->fault == FAKE_V1_FEWER_ACKS),
                   marked && fake->fault == FAKE_V1_STALE);
}

static bool take_command(struct client *client, const struct command *command)
{
    struct fake_v1 *fake = client->fake;
    uint64_t id = id_of(client, command);
    char since[TEXT_BYTES] = "0-0";
    bool consume = has(command, "consume"), subscribe = has(command, "subscribe");
    if (has(command, "upto"))
        return take_ack(client, command, id);
    if (!consume && !subscribe)
        return send_ok(client, id, 0, false);
    if (fake->fault == FAKE_V1_REFUSE)
        return send_error(client, id);
    cmq_assert(text_of(client, command, "topic", client->topic) && text_of(client, command, "since", since));
    pthread_mutex_lock(&fake->lock);
    client->victim = consume || fake->subscriptions == fake->victim;
    fake->subscriptions++;
    client->seq = (unsigned)strtoul(since, NULL, 10) + 1;
    if (consume && fake->group_seq == 0)
        fake->group_seq = client->seq;
    pthread_mutex_unlock(&fake->lock);
    client->group = consume;
    client->subscribed = true;
    client->sub = id;
    return send_ok(client, id, 0, false);
}

/* The test's clients send each frame in one piece. */
static bool take_client_frames(struct client *client)
{
    struct pollfd wanted = {.fd = client->fd, .events = POLLIN};
    while (poll(&wanted, 1, 0) > 0) {
        struct command command = {0};
        uint8_t head[4];
        if (recv(client->fd, head, 2, MSG_WAITALL) != 2 || (head[1] & 0x80u) == 0 || head[0] == 0x88u)
            return false;
        command.bytes = head[1] & 0x7fu;
        if (command.bytes == 126) {
            if (recv(client->fd, head + 2, 2, MSG_WAITALL) != 2)
                return false;
            command.bytes = (size_t)(head[2] << 8 | head[3]);
        }
        uint8_t mask[4];
        if (recv(client->fd, mask, sizeof mask, MSG_WAITALL) != (ssize_t)sizeof mask ||
            command.bytes >= sizeof command.data ||
            recv(client->fd, command.data, command.bytes, MSG_WAITALL) != (ssize_t)command.bytes)
            return false;
        for (size_t i = 0; i < command.bytes; i++)
            command.data[i] ^= mask[i % 4];
        if ((head[0] & 0x0fu) < 8 && !take_command(client, &command))
            return false;
    }
    return true;
}

/* ---- delivery ---- */

enum step { STEP_NOTHING, STEP_SENT, STEP_CLOSE };

static bool ours(struct client *client, unsigned seq)
{
    return strcmp(client->fake->records[seq - 1].topic, client->topic) == 0;
}

static enum step send_record(struct client *client, unsigned seq)
{
    struct fake_v1 *fake = client->fake;
    bool marked = client->victim && is_marked(fake, &fake->records[seq - 1]);
    bool good = true;
    if (marked && fake->fault == FAKE_V1_GAP)
        return send_gap(client, seq) ? STEP_SENT : STEP_CLOSE;
    if (marked && fake->fault == FAKE_V1_CLOSE) {
        static const uint8_t slow[] = {0x0b, 0xba}; /* 3002 */
        (void)fake_send_frame(client->fd, 0x88u, false, slow, sizeof slow, SIZE_MAX);
        return STEP_CLOSE;
    }
    if (marked && fake->fault == FAKE_V1_SWAP_RECORDS) {
        client->held = seq;
        return STEP_SENT;
    }
    if (marked && fake->fault == FAKE_V1_ERROR)
        good = send_error(client, 99);
    good = good && send_items(client, seq, 0, fake->records[seq - 1].count);
    if (good && client->held != 0)
        good = send_items(client, client->held, 0, fake->records[client->held - 1].count);
    client->held = 0;
    if (good && fake->fault == FAKE_V1_NOISY)
        good = send_heartbeat(client);
    return good ? STEP_SENT : STEP_CLOSE;
}

static enum step deliver(struct client *client)
{
    struct fake_v1 *fake = client->fake;
    pthread_mutex_lock(&fake->lock);
    unsigned end = fake->record_count, first = 0;
    unsigned *next = client->group ? &fake->group_seq : &client->seq;
    while (*next <= end && !ours(client, *next))
        ++*next;
    unsigned seq = *next <= end ? *next : 0;
    uint32_t count = 0;
    if (seq != 0 && client->group) {
        first = fake->group_index;
        count = (uint32_t)cmq_min_u64(GROUP_SHARE, fake->records[seq - 1].count - first);
        fake->group_index += count;
        if (fake->group_index == fake->records[seq - 1].count) {
            fake->group_index = 0;
            fake->group_seq++;
        }
    } else if (seq != 0) {
        client->seq++;
    }
    pthread_mutex_unlock(&fake->lock);
    if (seq == 0)
        return STEP_NOTHING;
    if (client->group)
        return send_items(client, seq, first, count) ? STEP_SENT : STEP_CLOSE;
    return send_record(client, seq);
}

static void serve(struct client *client)
{
    static const char *const lines[] = {"Sec-WebSocket-Protocol: ciphermq.v1.json\r\n",
                                        "Sec-WebSocket-Protocol: ciphermq.v1.msgpack\r\n"};
    char request[2048] = "";
    /* Which subprotocol was asked for is not known before the request was read: look without taking it. */
    if (!fake_readable(client->fd, &client->fake->stop) ||
        recv(client->fd, request, sizeof request - 1, MSG_PEEK) <= 0)
        return;
    client->msgpack = strstr(request, "ciphermq.v1.msgpack") != NULL;
    bool other = client->fake->fault == FAKE_V1_PROTOCOL;
    bool open =
        fake_shake_hands(client->fd, &client->fake->stop, lines[client->msgpack != other], SIZE_MAX, request);
    while (open && !stopped(client->fake)) {
        enum step step = client->subscribed ? deliver(client) : STEP_NOTHING;
        /* A millisecond between two looks at the records. */
        struct pollfd wanted = {.fd = client->fd, .events = POLLIN};
        open = step != STEP_CLOSE &&
               (poll(&wanted, 1, step == STEP_SENT ? 0 : 1) <= 0 || take_client_frames(client));
    }
}

static void *client_main(void *arg)
{
    struct thread_start start = *(struct thread_start *)arg;
    free(arg);
    struct client *client = calloc(1, sizeof *client);
    cmq_assert(client != NULL);
    *client = (struct client){.fake = start.fake, .fd = start.fd};
    client->frame = malloc(FRAME_BYTES);
    client->ids = malloc(IDS_MAX * sizeof *client->ids);
    cmq_assert(client->frame != NULL && client->ids != NULL);
    int on = 1;
    (void)setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    serve(client);
    (void)shutdown(client->fd, SHUT_RDWR); /* closed by stop */
    free(client->frame);
    free(client->ids);
    free(client);
    return NULL;
}

/* ---- life ---- */

static void accept_loop(struct fake_v1 *fake, int listener, void *(*serve_main)(void *))
{
    while (fake_readable(listener, &fake->stop)) {
        struct thread_start *start = malloc(sizeof *start);
        cmq_assert(start != NULL);
        *start = (struct thread_start){.fake = fake, .fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)};
        cmq_assert(start->fd >= 0);
        pthread_mutex_lock(&fake->lock);
        cmq_assert(fake->count < CONNECTIONS);
        unsigned index = fake->count++;
        fake->fds[index] = start->fd;
        cmq_assert(pthread_create(&fake->threads[index], NULL, serve_main, start) == 0);
        pthread_mutex_unlock(&fake->lock);
    }
}

static void *http_main(void *arg)
{
    struct fake_v1 *fake = arg;
    accept_loop(fake, fake->http_fd, request_main);
    return NULL;
}

static void *ws_main(void *arg)
{
    struct fake_v1 *fake = arg;
    accept_loop(fake, fake->ws_fd, client_main);
    return NULL;
}

struct fake_v1 *fake_v1_start(enum fake_v1_fault fault, unsigned long at, unsigned victim)
{
    struct fake_v1 *fake = calloc(1, sizeof *fake);
    cmq_assert(fake != NULL);
    fake->fault = fault;
    fake->at = at;
    fake->victim = victim;
    fake->http_fd = fake_listen(&fake->http_port);
    fake->ws_fd = fake_listen(&fake->ws_port);
    cmq_assert(pthread_mutex_init(&fake->lock, NULL) == 0);
    cmq_assert(pthread_create(&fake->http_thread, NULL, http_main, fake) == 0);
    cmq_assert(pthread_create(&fake->ws_thread, NULL, ws_main, fake) == 0);
    return fake;
}

unsigned fake_v1_http_port(const struct fake_v1 *fake)
{
    return fake->http_port;
}

unsigned fake_v1_ws_port(const struct fake_v1 *fake)
{
    return fake->ws_port;
}

void fake_v1_stop(struct fake_v1 *fake)
{
    atomic_store_explicit(&fake->stop, 1, memory_order_relaxed);
    (void)pthread_join(fake->http_thread, NULL);
    (void)pthread_join(fake->ws_thread, NULL);
    for (unsigned i = 0; i < fake->count; i++) {
        (void)shutdown(fake->fds[i], SHUT_RDWR);
        (void)pthread_join(fake->threads[i], NULL);
        close(fake->fds[i]);
    }
    close(fake->http_fd);
    close(fake->ws_fd);
    pthread_mutex_destroy(&fake->lock);
    free(fake);
}
