#include "encryptor/enc_pump.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "common/base/cmq_clock.h"
#include "common/log/cmq_log.h"
#include "common/proc/cmq_stage_ring.h"
#include "common/shm/cmq_crash.h"
#include "common/shm/cmq_ring.h"
#include "common/shm/cmq_table_topics.h"
#include "common/wire/cmq_batch.h"
#include "encryptor/enc_record.h"
#include "encryptor/enc_store.h"

/* After a key or cipher failure: long enough not to burn a core, short enough not to be noticed when it
 * heals. */
enum { SLEEP_MS = 1000, TROUBLE_MS = 100, TICKS_PER_RELOAD = 4 };

struct enc_pump {
    struct cmq_proc *proc;
    struct cmq_ring *ring;
    struct cmq_keyring *keyring;
    struct cmq_sealer *sealer;
    struct enc_store *store;
    struct cmq_table_topics *topics;
    pthread_t thread;
    bool thread_started;
    pthread_mutex_t lock;      /* for stopped only */
    pthread_cond_t stopped;    /* stop was set */
    atomic_uint stop;          /* main thread sets it, pump and cmq_ring_wait read it */
    atomic_bool reload_wanted; /* the keyring belongs to the pump thread */
    bool trouble;
    unsigned ticks; /* main thread */
};

static void reload_keyring(struct enc_pump *pump)
{
    struct cmq_reason reason;
    bool changed = false;
    enum cmq_err err = cmq_keyring_reload(pump->keyring, &changed, &reason);
    if (err != CMQ_OK)
        cmq_log(CMQ_LOG_ERROR, CMQ_EV_KEY_REFUSED, "action=keep_old_keys reason=\"%s\"", reason.text);
    else if (changed)
        cmq_log(CMQ_LOG_INFO, CMQ_EV_KEYRING_LOADED, "keys=%zu", cmq_keyring_count(pump->keyring));
    cmq_ring_gauge(pump->ring, CMQ_COUNT_KEY_SEALS_LEFT, cmq_keyring_seals_left(pump->keyring));
}

static void commit_void(struct enc_pump *pump, const struct cmq_lease *lease, const char *why)
{
    if (cmq_ring_commit_void(pump->ring, lease) == CMQ_OK)
        cmq_log(CMQ_LOG_WARN, CMQ_EV_RECORD_VOID, "seq=%llu reason=\"%s\"", (unsigned long long)lease->seq,
                why);
}

/* Something of ours fails, not the record: a key file, the random source, a mapping. Nothing accepted is dropped for it:
 * say so once, wait a little, and try again. */
static void rest_in_trouble(struct enc_pump *pump, enum cmq_err err, const char *reason)
{
    struct timespec until;
    if (!pump->trouble)
        cmq_log(CMQ_LOG_ERROR, CMQ_EV_SYSTEM_ERROR, "action=waiting error=\"%s\" reason=\"%s\"",
                cmq_err_text(err), reason);
    pump->trouble = true;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += TROUBLE_MS * (long)CMQ_NS_PER_MS;
    until.tv_sec += until.tv_nsec / (long)CMQ_NS_PER_S;
    until.tv_nsec %= (long)CMQ_NS_PER_S;
    pthread_mutex_lock(&pump->lock);
    if (atomic_load_explicit(&pump->stop, memory_order_acquire) == 0)
        (void)pthread_cond_timedwait(&pump->stopped, &pump->lock, &until);
    pthread_mutex_unlock(&pump->lock);
    reload_keyring(pump);
}

/* What was committed. Several units are read back from the own memory, which only this thread uses again. */
static void note_topics(struct enc_pump *pump, const struct cmq_lease *lease, const struct enc_sealed *sealed,
                        uint64_t now_ns)
{
    struct cmq_mp_reader units;
    struct cmq_sealed_head head;
    struct cmq_sealed_unit unit;
    if (sealed->units == 1) {
        cmq_table_topics_note(pump->topics, cmq_span_make(sealed->topic, sealed->topic_bytes),
                              sealed->messages, sealed->plain_bytes, now_ns);
        return;
    }
    if (cmq_sealed_decode(cmq_span_make(lease->dst, sealed->bytes), &units, &head) != CMQ_OK)
        return;
    for (uint32_t i = 0; i < head.unit_count && cmq_sealed_next(&units, &unit) == CMQ_OK; i++)
        cmq_table_topics_note(pump->topics, cmq_span_make(unit.topic, unit.topic_bytes), unit.count,
                              unit.sealed.bytes - CMQ_TAG_BYTES, now_ns);
}

static void seal_record(struct enc_pump *pump, const struct cmq_lease *lease)
{
    struct cmq_reason reason = {.text = ""};
    struct enc_sealed sealed;
    const uint64_t begin_ns = cmq_clock_mono_ns();
    enum cmq_err err = enc_record_seal(pump->sealer, pump->keyring, lease->seq, lease->payload, lease->dst,
                                       lease->dst_bytes, &sealed, &reason);
    CMQ_CRASH_POINT("seal.done");
    if (err == CMQ_ERR_MALFORMED || err == CMQ_ERR_VERSION || err == CMQ_ERR_TOO_BIG) {
        commit_void(pump, lease, cmq_err_text(err));
        return;
    }
    if (err != CMQ_OK) {
        cmq_ring_abandon(pump->ring, lease); /* the lease ages; this or another encryptor steals it */
        rest_in_trouble(pump, err, reason.text);
        return;
    }
    pump->trouble = false;
    /* LOST, another encryptor was first: counted by the ring. */
    if (cmq_ring_commit(pump->ring, lease, sealed.bytes, sealed.messages) == CMQ_OK) {
        cmq_ring_count(pump->ring, CMQ_COUNT_SEALS, sealed.units);
        note_topics(pump, lease, &sealed, begin_ns);
    }
    cmq_ring_gauge(pump->ring, CMQ_COUNT_KEY_EPOCH, sealed.epoch);
    const uint64_t took_ns = cmq_clock_mono_ns() - begin_ns;
    cmq_ring_count(pump->ring, CMQ_COUNT_WORK_NS, took_ns);
    cmq_ring_observe(pump->ring, CMQ_HIST_SEAL, took_ns);
}

static void step(struct enc_pump *pump)
{
    struct cmq_lease lease;
    enum cmq_err err = cmq_ring_lease(pump->ring, &lease);
    if (err == CMQ_OK && lease.bad)
        commit_void(pump, &lease, "unreadable record");
    else if (err == CMQ_OK)
        seal_record(pump, &lease);
    else if (err == CMQ_ERR_AGAIN || err == CMQ_ERR_FULL)
        (void)cmq_ring_wait(pump->ring, err == CMQ_ERR_FULL ? CMQ_WAIT_SPACE_ENCRYPTOR : CMQ_WAIT_PLAIN,
                            SLEEP_MS, &pump->stop);
    else
        rest_in_trouble(
            pump, err,
            "a producer's memory cannot be mapped; stages need one common group, and enough descriptors");
}

static void *run(void *context)
{
    struct enc_pump *pump = context;
    while (atomic_load_explicit(&pump->stop, memory_order_acquire) == 0) {
        if (atomic_exchange_explicit(&pump->reload_wanted, false, memory_order_acq_rel))
            reload_keyring(pump);
        step(pump);
    }
    return NULL;
}

static enum cmq_err open_all(struct enc_pump *pump, struct cmq_reason *reason)
{
    const struct cmq_conf *conf = &pump->proc->conf;
    const struct cmq_keyring_paths paths = {.kek_file = conf->encryptor_kek_file,
                                            .keyring_file = conf->encryptor_keyring_file};
    struct cmq_ring_setup setup;
    enum cmq_err err = cmq_keyring_open(&paths, CMQ_KEYRING_ENCRYPTOR, &pump->keyring, reason);
    if (err == CMQ_OK)
        err = cmq_sealer_new(&pump->sealer);
    if (err != CMQ_OK)
        return err;
    cmq_stage_ring_setup(conf, pump->proc->instance, conf->encryptor_arena_bytes, &setup);
    err = cmq_stage_ring_create(conf, &setup, reason);
    if (err == CMQ_OK)
        cmq_log(CMQ_LOG_INFO, CMQ_EV_RING_CREATED, "slots=%u", setup.slots);
    else if (err != CMQ_ERR_EXISTS)
        return err;
    err = cmq_ring_attach(&setup, CMQ_ROLE_ENCRYPTOR, &pump->ring, reason);
    if (err == CMQ_OK)
        err = cmq_table_topics_new(cmq_tables_of(pump->ring), (unsigned)conf->common_status_topics_max,
                                   &pump->topics);
    return err == CMQ_OK ? enc_store_new(pump->proc, pump->ring, &pump->store, reason) : err;
}

enum cmq_err enc_pump_new(struct cmq_proc *proc, struct enc_pump **ret_pump, struct cmq_reason *reason)
{
    struct enc_pump *pump = calloc(1, sizeof *pump);
    if (pump == NULL)
        return CMQ_ERR_NOMEM;
    pump->proc = proc;
    atomic_store_explicit(&pump->reload_wanted, true, memory_order_relaxed); /* tells of its seals, too */
    (void)pthread_mutex_init(&pump->lock, NULL);
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&pump->stopped, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    enum cmq_err err = open_all(pump, reason);
    if (err == CMQ_OK && pthread_create(&pump->thread, NULL, run, pump) != 0)
        err = cmq_reason_set(reason, CMQ_ERR_SYSTEM, "cannot start a thread");
    if (err != CMQ_OK) {
        enc_pump_free(pump);
        return err;
    }
    pump->thread_started = true;
    *ret_pump = pump;
    return CMQ_OK;
}

void enc_pump_tick(struct enc_pump *pump)
{
    struct cmq_reason reason;
    /* A new epoch in the file (key rotate, another encryptor) is noticed without a signal. */
    if (++pump->ticks % TICKS_PER_RELOAD == 0)
        atomic_store_explicit(&pump->reload_wanted, true, memory_order_release);
    enum cmq_err err = cmq_ring_tick(pump->ring, &reason);
    if (err == CMQ_OK && reason.text[0] != '\0') /* a silent member that this process may not end */
        cmq_log(CMQ_LOG_WARN, CMQ_EV_MEMBER_DEAD, "reason=\"%s\"", reason.text);
    if (err == CMQ_OK)
        return;
    cmq_log(CMQ_LOG_ERROR, CMQ_EV_RING_CORRUPT, "error=\"%s\" reason=\"%s\"", cmq_err_text(err), reason.text);
    cmq_proc_fail(pump->proc, err == CMQ_ERR_LOST ? CMQ_EXIT_TEMPORARY : CMQ_EXIT_INVARIANT);
}

void enc_pump_reload(struct enc_pump *pump)
{
    atomic_store_explicit(&pump->reload_wanted, true, memory_order_release);
    cmq_ring_wake(pump->ring, CMQ_WAIT_PLAIN);
}

void enc_pump_drain(struct enc_pump *pump)
{
    if (!pump->thread_started)
        return;
    pthread_mutex_lock(&pump->lock);
    atomic_store_explicit(&pump->stop, 1, memory_order_release);
    (void)pthread_cond_signal(&pump->stopped);
    pthread_mutex_unlock(&pump->lock);
    cmq_ring_wake(pump->ring, CMQ_WAIT_PLAIN);
    cmq_ring_wake(pump->ring, CMQ_WAIT_SPACE_ENCRYPTOR);
    (void)pthread_join(pump->thread, NULL);
    pump->thread_started = false;
    /* The record that was in hand is committed now. */
    enc_store_drain(pump->store);
}

void enc_pump_free(struct enc_pump *pump)
{
    if (pump == NULL)
        return;
    enc_pump_drain(pump);
    enc_store_free(pump->store);
    cmq_table_topics_free(pump->topics);
    cmq_ring_detach(pump->ring);
    cmq_sealer_free(pump->sealer);
    cmq_keyring_free(pump->keyring);
    (void)pthread_cond_destroy(&pump->stopped);
    (void)pthread_mutex_destroy(&pump->lock);
    free(pump);
}
