/*
 * The bytes of the shared objects are the input: a small ring is filled by good members, then the input
 * overwrites words and records, then an encryptor, its log thread and readers work on whatever is there. They must
 * neither read outside their mappings (ASan) nor hang; what they make of it does not matter.
 */
#include <string.h>

#include "common/shm/cmq_view.h"
#include "tests/support/ring_fixture.h"

enum { SLOTS = 4, ARENA = 32768, STEPS = 12 };

static struct ring_fixture fixture;
static struct cmq_ring *ingest, *encryptor, *dispatcher;
static struct cmq_segment segments[6];
static struct {
    uint8_t *data;
    size_t bytes;
} pristine[6];
static size_t segment_count;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void keep(const char *suffix)
{
    char name[CMQ_SEGMENT_NAME_BYTES];
    cmq_segment_name(name, fixture.instance, suffix);
    cmq_assert(cmq_segment_map(name, 0, true, &segments[segment_count], NULL) == CMQ_OK);
    pristine[segment_count].bytes = segments[segment_count].bytes;
    pristine[segment_count].data = malloc(segments[segment_count].bytes);
    cmq_assert(pristine[segment_count].data != NULL);
    segment_count++;
}

static void close_all(void)
{
    /* Sound again, so that members can leave and the objects be removed. */
    for (size_t i = 0; i < segment_count; i++) {
        memcpy(segments[i].data, pristine[i].data, pristine[i].bytes);
        cmq_segment_unmap(&segments[i]);
        free(pristine[i].data);
    }
    segment_count = 0;
    ring_fixture_close(&fixture);
}

static void open_all(void)
{
    struct cmq_member_state members[8];
    char suffix[32];
    ring_fixture_open(&fixture, SLOTS, 0, ARENA);
    ingest = ring_fixture_join(&fixture, CMQ_ROLE_INGEST);
    encryptor = ring_fixture_join(&fixture, CMQ_ROLE_ENCRYPTOR);
    dispatcher = ring_fixture_join(&fixture, CMQ_ROLE_DISPATCHER);
    keep("a");
    keep("b");
    keep("d");
    const struct cmq_segment *ctl = &segments[segment_count];
    keep("ctl");
    size_t count = cmq_ring_members(ingest, members, CMQ_COUNT_OF(members));
    for (size_t i = 0; i < count; i++) {
        const struct cmq_ctl *view = ctl->data;
        uint64_t object =
            atomic_load_explicit(&view->entries[members[i].id].object_random, memory_order_relaxed);
        cmq_member_object_suffix(suffix, members[i].id, object);
        if (members[i].role != CMQ_ROLE_DISPATCHER)
            keep(suffix);
    }
    for (unsigned i = 0; i < SLOTS; i++)
        (void)ring_fixture_publish(ingest, "some payload of a record");
    (void)ring_fixture_seal(encryptor);
    (void)ring_fixture_seal(encryptor);
    for (size_t i = 0; i < segment_count; i++)
        memcpy(pristine[i].data, segments[i].data, pristine[i].bytes);
}

/* Input: groups of {object, offset, length, bytes}. */
static void damage(const uint8_t *data, size_t bytes)
{
    while (bytes > 4) {
        size_t index = data[0] % segment_count;
        size_t offset = ((size_t)data[1] | (size_t)data[2] << 8) * 8 % segments[index].bytes;
        size_t length = 1 + data[3] % 16;
        data += 4;
        bytes -= 4;
        length = cmq_min_u64(cmq_min_u64(length, bytes), segments[index].bytes - offset);
        memcpy((uint8_t *)segments[index].data + offset, data, length);
        data += length;
        bytes -= length;
    }
}

static volatile uint64_t sink;

static void touch(struct cmq_span span)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < span.bytes; i++)
        sum += span.data[i];
    sink = sum;
}

static void write_log(void)
{
    struct cmq_committed record;
    uint64_t seq = cmq_ring_stored_seq(encryptor);
    for (; cmq_ring_committed(encryptor, seq, &record) == CMQ_OK; seq++) {
        const struct cmq_outcome outcome = {.kind = CMQ_OUTCOME_PART, .seq = seq};
        touch(record.payload);
        cmq_ring_outcome_set(encryptor, seq, &outcome);
    }
    cmq_ring_stored(encryptor, seq, seq);
}

static void work(void)
{
    struct cmq_lease lease;
    struct cmq_outcome outcome = {.kind = CMQ_OUTCOME_PART};
    struct cmq_ring_state state;
    enum cmq_err err;
    uint64_t seq;
    struct cmq_span part = cmq_span_make("more", 4);
    for (unsigned step = 0; step < STEPS; step++) {
        if (cmq_ring_lease(encryptor, &lease) == CMQ_OK) {
            touch(lease.payload);
            if (lease.bad || lease.payload.bytes > lease.dst_bytes)
                err = cmq_ring_commit_void(encryptor, &lease);
            else
                err = cmq_ring_commit(encryptor, &lease, lease.payload.bytes, 1);
            sink = (uint64_t)err;
        }
        write_log();
        sink = cmq_ring_outcome(ingest, cmq_ring_durable_seq(ingest) - 1, &outcome) ? outcome.seq : 0;
        sink = (uint64_t)cmq_ring_log_health(dispatcher) + cmq_ring_stored_seq(dispatcher);
        err = cmq_ring_publish(ingest, &part, 1, 1, &seq);
        sink = (uint64_t)err;
    }
    cmq_ring_state(ingest, &state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    /* A fresh ring for every input: members keep private state that damage may have reached. */
    open_all();
    damage(data, bytes);
    work();
    close_all();
    return 0;
}
