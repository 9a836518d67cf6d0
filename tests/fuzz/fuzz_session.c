/*
 * Bytes -> what a client of /v1/ws says. First byte: bit 0 = MessagePack; bit 1 = connect was said; bit 2 = the log grows
 * meanwhile; bit 3 = small frames. Messages are ended by the bytes ff fe ff, which neither format has in what it takes.
 * Whatever is said, each frame of the server is one value of the format, and the session ends clean.
 */
#include <string.h>

#include "dispatcher/dsp_session.h"
#include "tests/support/fake_groups.h"
#include "tests/support/fake_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { FRAMES_MAX = 64, CACHE_BYTES = 1 << 20, RECEIVE_BYTES_MAX = 65536 };
enum { IS_MSGPACK = 1, IS_CONNECTED = 2, GROWS = 4, SMALL_FRAMES = 8 };

/* Made once; the groups are new for each input. */
static struct fake_log *event_log;
static struct dsp_source *source;
static struct dsp_encoder encoder;
static struct dsp_text frame;
static struct dsp_access *everybody;
static struct cmq_json_packer *packer, *checker;

static void want(struct dsp_session *session)
{
    (void)session;
}

static void on_ready(void *context, struct dsp_member *member)
{
    dsp_hub_ready(context, member);
}

static void on_gap(void *context, struct dsp_member *member, uint64_t from, uint64_t to, bool damaged)
{
    dsp_hub_gap(context, member, from, to, damaged);
}

/* The log's keyring is a directory. */
static void clean_up(void)
{
    fake_log_free(event_log);
}

static void prepare(void)
{
    struct cmq_reason reason = {{0}};
    event_log = fake_log_new();
    cmq_assert(atexit(clean_up) == 0);
    const struct dsp_source_setup setup = {
        .directory = "unused", .cache_bytes = CACHE_BYTES, .free_encoded = dsp_encode_free};
    cmq_assert(dsp_source_new(&setup, event_log->ring, event_log->opening, &source, &reason) == CMQ_OK);
    cmq_assert(dsp_encoder_init(&encoder, source) == CMQ_OK);
    cmq_assert(dsp_text_init(&frame, 16, 4096) == CMQ_OK);
    cmq_assert(dsp_access_new("", 20, &everybody, &reason) == CMQ_OK);
    cmq_assert(cmq_json_packer_new(RECEIVE_BYTES_MAX, &packer) == CMQ_OK);
    cmq_assert(cmq_json_packer_new(4 << 20, &checker) == CMQ_OK);
    (void)fake_log_texts(event_log, "jobs", 3, 'a');
    (void)fake_log_texts(event_log, "o.eu", 2, 'b');
    (void)fake_log_add_void(event_log);
    (void)fake_log_texts(event_log, "jobs", 1, 'c');
}

static void check_frame(enum dsp_format format)
{
    const struct cmq_span text = cmq_span_make(dsp_text_start(&frame), frame.bytes);
    struct cmq_mp_reader reader;
    struct cmq_reason reason;
    struct cmq_buf packed;
    cmq_buf_init(&packed, 16u << 20);
    cmq_assert(frame.err == CMQ_OK && text.bytes != 0);
    if (format == DSP_FORMAT_JSON) {
        cmq_assert(cmq_json_pack(checker, text, &packed, &reason) == CMQ_OK);
    } else {
        cmq_mp_reader_init(&reader, text);
        cmq_assert(cmq_mp_skip(&reader) == CMQ_OK && cmq_mp_left(&reader) == 0);
    }
    cmq_buf_fini(&packed);
}

/* Takes what the session has to say. False: it closes. */
static bool listen_to(struct dsp_session *session, enum dsp_format format)
{
    for (unsigned i = 0; i < FRAMES_MAX; i++) {
        enum cmq_err err = CMQ_OK;
        switch (dsp_session_next(session, &err)) {
        case DSP_SEND_FRAME:
            check_frame(format);
            break;
        case DSP_SEND_LATER:
            break;
        case DSP_SEND_NOTHING:
            return true;
        case DSP_SEND_CLOSE:
            cmq_assert(session->closing != DSP_CLOSE_NONE && session->closing != DSP_CLOSE_INTERNAL);
            return false;
        case DSP_SEND_FAILED:
            cmq_assert(false);
        }
    }
    return true;
}

static size_t message_bytes(const uint8_t *data, size_t bytes)
{
    for (size_t i = 0; i + 3 <= bytes; i++)
        if (data[i] == 0xff && data[i + 1] == 0xfe && data[i + 2] == 0xff)
            return i;
    return bytes;
}

/* In memory of its own, so that a byte too far is found. */
static void say(struct dsp_session *session, const uint8_t *data, size_t bytes)
{
    uint8_t *exact = malloc(bytes == 0 ? 1 : bytes);
    cmq_assert(exact != NULL);
    if (bytes != 0)
        memcpy(exact, data, bytes);
    dsp_session_receive(session, cmq_span_make(exact, bytes));
    free(exact);
}

static void converse(struct dsp_session *session, uint8_t flags, const uint8_t *data, size_t bytes)
{
    static const char json[] = "{\"id\":1,\"connect\":{}}", msgpack[] = "\x82\xa2id\x01\xa7"
                                                                        "connect\x80";
    struct dsp_hub *hub = session->hub;
    const enum dsp_format format = session->format;
    if (flags & IS_CONNECTED)
        say(session, (const uint8_t *)(flags & IS_MSGPACK ? msgpack : json),
            (flags & IS_MSGPACK ? sizeof msgpack : sizeof json) - 1);
    bool open = true;
    while (bytes != 0 && open) {
        size_t length = message_bytes(data, bytes);
        say(session, data, length);
        open = listen_to(session, format);
        if (flags & GROWS)
            dsp_hub_stored(hub);
        fake_groups_commit(hub->groups);
        dsp_hub_durable(hub);
        open = open && listen_to(session, format);
        size_t taken = length < bytes ? length + 3 : length;
        data += taken;
        bytes -= taken;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (event_log == NULL)
        prepare();
    if (bytes == 0)
        return 0;
    const uint8_t flags = data[0];
    struct dsp_session session;
    struct dsp_hub hub = {.ring = event_log->ring,
                          .source = source,
                          .access = everybody,
                          .encoder = &encoder,
                          .frame = &frame,
                          .packer = packer,
                          .limits = {.frame_bytes_max = flags & SMALL_FRAMES ? 64 : 4096,
                                     .frame_messages_max = flags & SMALL_FRAMES ? 1 : 1000},
                          .settings = {.heartbeat_ms = 30000,
                                       .receive_bytes_max = RECEIVE_BYTES_MAX,
                                       .ack_wait_ms = 1000,
                                       .subscriptions_max = 4,
                                       .credit = 100,
                                       .max_deliver = 16,
                                       .max_ack_pending = 65536},
                          .follow = UINT64_MAX,
                          .want = want};
    const struct cmq_grant grant = {.open = true};
    const struct cmq_address address = {.bytes = {192, 0, 2, 1}, .length = 4};
    hub.groups = fake_groups_new(source, on_ready, on_gap, &hub);
    cmq_buf_init(&hub.packed, 1 << 20);
    dsp_session_init(&session, &hub, flags & IS_MSGPACK ? DSP_FORMAT_MSGPACK : DSP_FORMAT_JSON);
    dsp_session_identify(&session, &grant, &address);
    converse(&session, flags, data + 1, bytes - 1);
    dsp_session_fini(&session);
    dsp_hub_fini(&hub);
    fake_groups_free(hub.groups);
    return 0;
}
