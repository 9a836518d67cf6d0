#include "tests/support/groups_bench.h"
#include "common/ledger/cmq_ledger_edit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <semaphore.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"
#include "common/wire/cmq_batch.h"
#include "dispatcher/dsp_groups_int.h"

enum { WAIT_S = 10, LOOK_AGAIN_MS = 5 };

static struct bench the_bench;
static char directory[64];
static uint64_t dead_owners;
static sem_t durable;

static bool is_alive(void *context, uint64_t owner)
{
    (void)context;
    return (dead_owners >> owner & 1) == 0;
}

/* Until the ledger's thread of any engine has done something, or a moment has passed. */
static void pause_for(uint64_t deadline_ns)
{
    struct timespec until;
    assert_true(cmq_clock_mono_ns() < deadline_ns);
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)(LOOK_AGAIN_MS * CMQ_NS_PER_MS);
    if (until.tv_nsec >= (long)CMQ_NS_PER_S) {
        until.tv_nsec -= (long)CMQ_NS_PER_S;
        until.tv_sec++;
    }
    (void)sem_timedwait(&durable, &until);
}

/* ---- hooks ---- */

static void on_ready(void *context, struct dsp_member *member)
{
    struct bench_engine *engine = context;
    engine->ready[engine->ready_count++ % BENCH_READY] = member;
}

static void on_durable(void *context)
{
    (void)context;
    (void)sem_post(&durable);
}

static void on_failed(void *context, enum cmq_err err)
{
    (void)context;
    (void)fprintf(stderr, "the ledger failed: %s\n", cmq_err_text(err));
    abort();
}

static void on_gap(void *context, struct dsp_member *member, uint64_t from, uint64_t to, bool damaged)
{
    struct bench_engine *engine = context;
    (void)member;
    engine->gap_from = from;
    engine->gap_to = to;
    engine->gap_damaged = damaged;
    engine->gaps++;
}

static enum cmq_err publish_dead(void *context, struct cmq_span topic, struct cmq_span message,
                                 uint64_t *ret_seq)
{
    struct bench_engine *engine = context;
    if (dsp_groups_durable(engine->groups) < dsp_groups_ticket(engine->groups))
        engine->letters_early++;
    if (engine->publish != CMQ_OK) {
        engine->letters_refused++;
        return engine->publish;
    }
    struct bench_letter *letter = &engine->letters[engine->letter_count++ % BENCH_LETTERS];
    cmq_assert(topic.bytes < sizeof letter->topic && message.bytes <= sizeof letter->message);
    memcpy(letter->topic, topic.data, topic.bytes);
    letter->topic[topic.bytes] = '\0';
    memcpy(letter->message, message.data, message.bytes);
    letter->bytes = message.bytes;
    const struct fake_unit unit = {.topic = "other", /* no key is for $dead here */
                                   .messages = message,
                                   .count = 1};
    *ret_seq = fake_log_seal(the_bench.log, &unit, 1);
    return CMQ_OK;
}

/* ---- life ---- */

struct bench *bench_start(void)
{
    (void)snprintf(directory, sizeof directory, "/tmp/cmq-groups-XXXXXX");
    assert_non_null(mkdtemp(directory));
    assert_int_equal(sem_init(&durable, 0, 0), 0);
    dead_owners = 0;
    the_bench = (struct bench){.log = fake_log_new()};
    return &the_bench;
}

void bench_stop(struct bench *bench)
{
    /* A test that failed leaves members, which are static for that. */
    for (unsigned i = 0; i < BENCH_ENGINES; i++) {
        struct dsp_groups *groups = bench->engines[i].groups;
        while (groups != NULL && groups->groups != NULL && groups->groups->members != NULL)
            dsp_group_leave(groups, groups->groups->members);
        bench_close(&bench->engines[i]);
    }
    fake_log_free(bench->log);
    (void)sem_destroy(&durable);
    DIR *dir = opendir(directory);
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (entry->d_name[0] != '.')
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    (void)closedir(dir);
    assert_int_equal(rmdir(directory), 0);
}

struct bench_engine *bench_open(struct bench *bench, unsigned index)
{
    struct bench_engine *engine = &bench->engines[index];
    struct cmq_reason reason = {{0}};
    assert_null(engine->groups);
    *engine = (struct bench_engine){.owner = ++bench->owners};
    struct dsp_ledger_setup ledger = {
        .directory = directory, .map_bytes = 64u << 20, .owner = engine->owner, .is_alive = is_alive};
    for (unsigned i = 0; i < BENCH_ENGINES; i++)
        if (bench->engines[i].ledger != NULL)
            ledger.beside = bench->engines[i].ledger;
    const struct dsp_source_setup source = {
        .directory = "", .cache_bytes = bench->cache_bytes != 0 ? bench->cache_bytes : 64u << 20};
    assert_int_equal(dsp_ledger_open(&ledger, &engine->ledger, &reason), CMQ_OK);
    assert_int_equal(dsp_source_new(&source, bench->log->ring, bench->log->opening, &engine->source, &reason),
                     CMQ_OK);
    const struct dsp_groups_setup setup = {.ring = bench->log->ring,
                                           .source = engine->source,
                                           .ledger = engine->ledger,
                                           .tables = &engine->tables,
                                           .on_ready = on_ready,
                                           .on_durable = on_durable,
                                           .on_failed = on_failed,
                                           .on_gap = on_gap,
                                           .publish_dead = publish_dead,
                                           .context = engine,
                                           .commit_ms = 5};
    assert_int_equal(dsp_groups_new(&setup, &engine->groups), CMQ_OK);
    return engine;
}

void bench_close(struct bench_engine *engine)
{
    if (engine->groups == NULL)
        return;
    dsp_groups_free(engine->groups);
    dsp_source_free(engine->source);
    dsp_ledger_close(engine->ledger);
    engine->groups = NULL;
    engine->ledger = NULL;
}

void bench_die(struct bench_engine *engine)
{
    struct dsp_groups *groups = engine->groups;
    const uint64_t deadline_ns = cmq_clock_mono_ns() + WAIT_S * CMQ_NS_PER_S;
    /* All its threads die: what is not committed never will be. */
    pthread_mutex_lock(&groups->lock);
    while (groups->busy) {
        pthread_mutex_unlock(&groups->lock);
        pause_for(deadline_ns);
        pthread_mutex_lock(&groups->lock);
    }
    for (size_t i = 0; i < groups->building.count; i++)
        free((void *)(uintptr_t)groups->building.changes[i].acked);
    groups->building.count = 0;
    groups->building.release_count = 0;
    groups->building.due_ns = 0;
    groups->building.partial = false;
    pthread_mutex_unlock(&groups->lock);
    dead_owners |= UINT64_C(1) << engine->owner;
}

void bench_bury(struct bench_engine *engine, struct dsp_member *members, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (members[i].group != NULL)
            dsp_group_leave(engine->groups, &members[i]);
    bench_close(engine);
}

/* ---- members ---- */

static void join(struct bench_engine *engine, struct dsp_member *ret_member, const char *name,
                 const char *topic, const struct dsp_group_options *options)
{
    struct cmq_reason reason = {{0}};
    enum cmq_err err = dsp_group_join(engine->groups, name, cmq_span_make(topic, strlen(topic)), options,
                                      ret_member, &reason);
    if (err != CMQ_OK)
        fail_msg("%s", reason.text);
}

void bench_join(struct bench_engine *engine, struct dsp_member *ret_member, const char *topic, bool auto_ack)
{
    const struct dsp_group_options options = {
        .start_seq = 1, .ack_wait_ms = 1000, .max_ack_pending = 1u << 20, .auto_ack = auto_ack};
    join(engine, ret_member, "g", topic, &options);
}

void bench_consume(struct bench_engine *engine, struct dsp_member *ret_member, const char *name,
                   uint32_t max_deliver)
{
    const struct dsp_group_options options = {
        .start_seq = 1, .ack_wait_ms = 1000, .max_deliver = max_deliver, .max_ack_pending = 1000000};
    join(engine, ret_member, name, "jobs", &options);
    dsp_group_set_credit(engine->groups, ret_member, 1000000);
}

struct bench_got bench_take(struct bench_engine *engine, struct dsp_member *member, uint32_t max)
{
    struct dsp_batch batch;
    struct cmq_mp_reader reader;
    struct cmq_message_full message;
    enum cmq_err err = dsp_group_peek(engine->groups, member, &batch);
    if (err == CMQ_ERR_AGAIN)
        return (struct bench_got){0};
    assert_int_equal(err, CMQ_OK);
    assert_true(batch.count > 0 && batch.attempt > 0);
    uint32_t count = batch.count < max ? batch.count : max;
    cmq_mp_reader_init(&reader, batch.messages);
    for (uint32_t i = 0; i < count; i++) {
        char expected[16];
        assert_int_equal(cmq_message_read(&reader, &message), CMQ_OK);
        (void)snprintf(expected, sizeof expected, "%u", batch.first - batch.unit->first + i);
        assert_int_equal(message.body.bytes, strlen(expected) + 1);
        assert_memory_equal(message.body.data + 1, expected, strlen(expected));
    }
    const struct bench_got got = {
        .seq = batch.record->seq, .first = batch.first, .count = count, .attempt = batch.attempt};
    assert_int_equal(
        dsp_group_take(engine->groups, member, &batch, count, (size_t)(reader.next - batch.messages.data)),
        CMQ_OK);
    return got;
}

struct bench_got bench_take_soon(struct bench_engine *engine, struct dsp_member *member, uint32_t max)
{
    const uint64_t deadline_ns = cmq_clock_mono_ns() + WAIT_S * CMQ_NS_PER_S;
    for (;;) {
        struct bench_got got = bench_take(engine, member, max);
        if (got.count > 0)
            return got;
        pause_for(deadline_ns);
    }
}

enum dsp_ack bench_ack(struct bench_engine *engine, struct dsp_member *member, uint64_t seq, uint32_t index)
{
    return dsp_group_ack(engine->groups, member, (struct cmq_id){.seq = seq, .index = index}, 0);
}

void bench_commit(struct bench_engine *engine)
{
    const uint64_t deadline_ns = cmq_clock_mono_ns() + WAIT_S * CMQ_NS_PER_S;
    const uint64_t ticket = dsp_groups_ticket(engine->groups);
    while (dsp_groups_durable(engine->groups) < ticket)
        pause_for(deadline_ns);
}

static uint64_t floor_of(struct bench_engine *engine, const char *name)
{
    struct dsp_ledger_state state;
    for (size_t i = 0; dsp_ledger_state(engine->ledger, i, &state) == CMQ_OK; i++)
        if (strcmp(state.name, name) == 0)
            return state.floor;
    return 0;
}

void bench_wait_floor(struct bench_engine *engine, const char *name, uint64_t floor)
{
    const uint64_t deadline_ns = cmq_clock_mono_ns() + WAIT_S * CMQ_NS_PER_S;
    while (floor_of(engine, name) < floor)
        pause_for(deadline_ns);
    assert_int_equal(floor_of(engine, name), floor);
}

void bench_move(const char *name, const char *topic, uint64_t seq, uint32_t index)
{
    int status = 0;
    uint32_t old_id = 0;
    const pid_t pid = fork(); /* LMDB must not be open twice in a process */
    assert_true(pid >= 0);
    if (pid == 0) {
        enum cmq_err err = seq != 0 ? cmq_ledger_move(directory, name, topic, seq, index, &old_id, NULL)
                                    : cmq_ledger_remove(directory, name, topic, &old_id, NULL);
        if (err == CMQ_OK)
            cmq_ledger_forget_claims(directory, old_id);
        _exit(err == CMQ_OK ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}
