#include "tests/support/ring_fixture.h"

#include <string.h>
#include <unistd.h>

static void must(enum cmq_err err, const struct cmq_reason *reason)
{
    if (err != CMQ_OK)
        fprintf(stderr, "fixture: %s: %s\n", cmq_err_text(err), reason->text);
    cmq_assert(err == CMQ_OK);
}

void ring_fixture_open(struct ring_fixture *fixture, uint32_t slots, uint64_t first_seq, uint64_t arena_bytes)
{
    static unsigned count;
    struct cmq_reason reason = {.text = ""};
    *fixture = (struct ring_fixture){.instance = ""};
    (void)snprintf(fixture->instance, sizeof fixture->instance, "unit-%d-%u", (int)getpid(), ++count);
    (void)snprintf(fixture->run_dir, sizeof fixture->run_dir, "/tmp/cmq-unit-XXXXXX");
    cmq_assert(mkdtemp(fixture->run_dir) != NULL);
    fixture->setup = (struct cmq_ring_setup){.instance = fixture->instance,
                                             .run_dir = fixture->run_dir,
                                             .slots = slots,
                                             .first_seq = first_seq,
                                             .record_bytes_max = 4096,
                                             .arena_bytes = arena_bytes,
                                             .lease_ms = 20,
                                             .stall_ms = 60000,
                                             .spin_us = 0,
                                             .wait_ms = 50};
    must(cmq_ring_create(&fixture->setup, &reason), &reason);
}

void ring_fixture_close(struct ring_fixture *fixture)
{
    static const char *const files[] = {"members", "lock"};
    struct cmq_reason reason = {.text = ""};
    char path[128];
    for (size_t i = 0; i < FIXTURE_MEMBERS_MAX; i++)
        cmq_ring_detach(fixture->members[i]);
    must(cmq_ring_destroy(&fixture->setup, &reason), &reason);
    for (size_t i = 0; i < CMQ_COUNT_OF(files); i++) {
        (void)snprintf(path, sizeof path, "%s/%s.%s", fixture->run_dir, fixture->instance, files[i]);
        (void)unlink(path);
    }
    (void)rmdir(fixture->run_dir);
}

struct cmq_ring *ring_fixture_join(struct ring_fixture *fixture, enum cmq_role role)
{
    struct cmq_reason reason = {.text = ""};
    struct cmq_ring *ring = NULL;
    must(cmq_ring_attach(&fixture->setup, role, &ring, &reason), &reason);
    for (size_t i = 0; i < FIXTURE_MEMBERS_MAX; i++) {
        if (fixture->members[i] == NULL) {
            fixture->members[i] = ring;
            return ring;
        }
    }
    cmq_assert(false);
    return NULL;
}

void ring_fixture_leave(struct ring_fixture *fixture, struct cmq_ring *ring)
{
    for (size_t i = 0; i < FIXTURE_MEMBERS_MAX; i++) {
        if (fixture->members[i] == ring)
            fixture->members[i] = NULL;
    }
    cmq_ring_detach(ring);
}

uint64_t ring_fixture_publish(struct cmq_ring *ingest, const char *text)
{
    uint64_t seq = 0;
    struct cmq_span part = cmq_span_make(text, strlen(text));
    enum cmq_err err = cmq_ring_publish(ingest, &part, 1, 1, &seq);
    cmq_assert(err == CMQ_OK);
    return seq;
}

uint64_t ring_fixture_seal(struct cmq_ring *encryptor)
{
    struct cmq_lease lease;
    enum cmq_err err = cmq_ring_lease(encryptor, &lease);
    cmq_assert(err == CMQ_OK && !lease.bad);
    memcpy(lease.dst, lease.payload.data, lease.payload.bytes);
    err = cmq_ring_commit(encryptor, &lease, lease.payload.bytes, lease.messages);
    cmq_assert(err == CMQ_OK);
    return lease.seq;
}

uint64_t ring_fixture_store(struct cmq_ring *encryptor, const char *expected)
{
    struct cmq_committed record;
    uint64_t seq = cmq_ring_stored_seq(encryptor);
    enum cmq_err err = cmq_ring_committed(encryptor, seq, &record);
    cmq_assert(err == CMQ_OK && !record.void_record && record.seq == seq);
    cmq_assert(record.payload.bytes == strlen(expected) &&
               memcmp(record.payload.data, expected, record.payload.bytes) == 0);
    cmq_ring_stored(encryptor, seq + 1, seq + 1);
    return seq;
}
