/*
 * Commits: what is done or acked goes to the ledger by a thread of its own, so that nobody waits for the disk.
 *
 *   - the delivery thread adds changes to `building`; when the ledger thread is free it takes all of them as one commit;
 *   - acks of records that are not done are not added one by one: their records are dirty, and a flush writes what they are
 *     now, once a commit. Tickets say which acks a commit has;
 *   - claims that depend on acks are given up only after these are on the disk.
 * A commit that fails for lack of space is tried again, and nothing is confirmed meanwhile.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/cmq_clock.h"
#include "common/log/cmq_log.h"
#include "dispatcher/dsp_groups_int.h"

enum { CHANGES_MIN = 256, RETRY_MS = 200, STOP_TRIES = 3 };

#define AT_ONCE 1u

/* Room for one more of a growing array; NULL: no memory. */
static void *grow(void *array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return array;
    size_t wanted = *capacity == 0 ? CHANGES_MIN : *capacity * 2;
    void *grown = realloc(array, wanted * size);
    if (grown != NULL)
        *capacity = wanted;
    return grown;
}

/* Under lock. */
static bool add_change(struct dsp_groups *groups, const struct dsp_ledger_change *change, uint64_t due_ns)
{
    struct dsp_commit *commit = &groups->building;
    void *grown = grow(commit->changes, commit->count, &commit->capacity, sizeof *commit->changes);
    if (grown == NULL) {
        groups->nomem = true;
        return false;
    }
    commit->changes = grown;
    commit->changes[commit->count++] = *change;
    if (commit->due_ns == 0 || due_ns < commit->due_ns)
        commit->due_ns = due_ns;
    return true;
}

void dsp_commit_done(struct dsp_groups *groups, const struct dsp_group *group, uint64_t from, uint64_t to)
{
    struct dsp_commit *commit = &groups->building;
    uint64_t due_ns =
        group->auto_ack ? cmq_clock_mono_ns() + groups->setup.commit_ms * CMQ_NS_PER_MS : (uint64_t)AT_ONCE;
    const struct dsp_ledger_change change = {.group = group->ledger.id, .from = from, .to = to};
    pthread_mutex_lock(&groups->lock);
    struct dsp_ledger_change *last = commit->count > 0 ? &commit->changes[commit->count - 1] : NULL;
    if (last != NULL && last->group == change.group && last->chunk_count == 0 && last->to == from)
        last->to = to;
    else
        (void)add_change(groups, &change, due_ns);
    if (due_ns == AT_ONCE)
        commit->due_ns = AT_ONCE;
    pthread_mutex_unlock(&groups->lock);
}

void dsp_commit_release(struct dsp_groups *groups, const struct dsp_group *group, uint64_t from, uint64_t to,
                        uint64_t noted_seq, uint32_t noted_index)
{
    struct dsp_commit *commit = &groups->building;
    pthread_mutex_lock(&groups->lock);
    void *grown =
        grow(commit->releases, commit->release_count, &commit->release_capacity, sizeof *commit->releases);
    if (grown == NULL) {
        groups->nomem = true; /* the claim stays until this process ends */
    } else {
        commit->releases = grown;
        commit->releases[commit->release_count++] = (struct dsp_release){.group = group->ledger.id,
                                                                         .from = from,
                                                                         .to = to,
                                                                         .noted_seq = noted_seq,
                                                                         .noted_index = noted_index};
        commit->due_ns = AT_ONCE;
    }
    pthread_mutex_unlock(&groups->lock);
}

/* ---- acks of records that are not done ---- */

/* Deliveries that are stored: whoever has the record next adds those that were lost with owners before. If this process
 * dies, it is one of those, and what is in a flight now is the delivery that is lost with it. */
static uint32_t attempts_of(const struct dsp_hand *hand, const struct dsp_message *message)
{
    const bool under_way = message->state == DSP_FLIGHT || message->state == DSP_PASSED;
    uint32_t counted = hand->losses + (under_way ? 1u : 0u);
    return message->attempt > counted ? message->attempt - counted : 0;
}

/* Entries of messages [first, end). */
static size_t describe(const struct dsp_hand *hand, uint32_t first, uint32_t end,
                       struct cmq_ledger_acked *ret_acked)
{
    size_t count = 0;
    for (uint32_t i = first; i < end; i++) {
        const struct dsp_message *message = &hand->states[i];
        bool done = message->state == DSP_DONE;
        uint32_t attempts = done ? 0 : attempts_of(hand, message);
        if (message->state == DSP_DEAD)
            attempts = CMQ_LEDGER_ACKED_DEAD | message->attempt;
        if (!done && attempts == 0)
            continue;
        struct cmq_ledger_acked *last = count > 0 ? &ret_acked[count - 1] : NULL;
        if (last != NULL && last->first + last->count == i && last->attempts == attempts)
            last->count++;
        else
            ret_acked[count++] = (struct cmq_ledger_acked){.first = i, .count = 1, .attempts = attempts};
    }
    return count;
}

/* Under lock. */
static void add_partial(struct dsp_groups *groups, struct dsp_hand *hand)
{
    uint32_t chunk_first = hand->dirty_first / CMQ_LEDGER_ACKED_CHUNK,
             chunk_last = hand->dirty_last / CMQ_LEDGER_ACKED_CHUNK;
    for (uint32_t chunk = chunk_first; chunk <= chunk_last; chunk++) {
        uint32_t first = chunk * CMQ_LEDGER_ACKED_CHUNK;
        uint32_t end = (uint32_t)cmq_min_u64(hand->message_count, (uint64_t)first + CMQ_LEDGER_ACKED_CHUNK);
        struct cmq_ledger_acked *acked = malloc((end - first) * sizeof *acked);
        if (acked == NULL) {
            groups->nomem = true;
            return;
        }
        const struct dsp_ledger_change change = {.group = hand->group->ledger.id,
                                                 .from = hand->seq,
                                                 .to = hand->seq + 1,
                                                 .chunk_first = chunk,
                                                 .chunk_count = 1,
                                                 .acked = acked,
                                                 .acked_count = describe(hand, first, end, acked)};
        if (!add_change(groups, &change, AT_ONCE))
            free(acked);
    }
    groups->building.partial = true;
}

void dsp_commit_partial(struct dsp_groups *groups, struct dsp_hand *hand)
{
    for (struct dsp_hand **link = &groups->dirty; *link != NULL; link = &(*link)->dirty_next) {
        if (*link != hand)
            continue;
        *link = hand->dirty_next;
        break;
    }
    hand->dirty = false;
    pthread_mutex_lock(&groups->lock);
    add_partial(groups, hand);
    pthread_mutex_unlock(&groups->lock);
}

void dsp_commit_flush(struct dsp_groups *groups)
{
    struct dsp_commit *commit = &groups->building;
    pthread_mutex_lock(&groups->lock);
    if (!commit->partial || groups->dirty == NULL) {
        for (struct dsp_hand *hand; (hand = groups->dirty) != NULL;) {
            groups->dirty = hand->dirty_next;
            hand->dirty = false;
            if (!hand->finished)
                add_partial(groups, hand);
        }
        commit->ticket = groups->ticket;
        if (commit->count == 0 && !groups->busy)
            groups->durable = groups->ticket;
    }
    /* A signal for each frame would be a change of threads for each. */
    if (commit->due_ns != 0 && commit->due_ns < groups->sleeping_ns) {
        groups->sleeping_ns = 0;
        pthread_cond_signal(&groups->changed);
    }
    pthread_mutex_unlock(&groups->lock);
}

/* ---- the ledger thread ---- */

static void clear(struct dsp_commit *commit)
{
    for (size_t i = 0; i < commit->count; i++)
        free((void *)(uintptr_t)commit->changes[i].acked);
    commit->count = 0;
    commit->release_count = 0;
    commit->due_ns = 0;
    commit->partial = false;
}

/* Waits until there is something to commit. False: told to stop, and nothing is left. Under lock. */
static bool wait_for_changes(struct dsp_groups *groups)
{
    struct dsp_commit *commit = &groups->building;
    for (;;) {
        uint64_t now_ns = cmq_clock_mono_ns();
        if (commit->due_ns != 0 && (groups->stop || commit->due_ns <= now_ns))
            return true;
        if (groups->stop)
            return false;
        if (commit->due_ns == 0) {
            groups->sleeping_ns = UINT64_MAX;
            pthread_cond_wait(&groups->changed, &groups->lock);
            groups->sleeping_ns = 0;
            continue;
        }
        groups->sleeping_ns = commit->due_ns;
        const struct timespec until = {.tv_sec = (time_t)(commit->due_ns / CMQ_NS_PER_S),
                                       .tv_nsec = (long)(commit->due_ns % CMQ_NS_PER_S)};
        (void)pthread_cond_timedwait(&groups->changed, &groups->lock, &until);
        groups->sleeping_ns = 0;
    }
}

static void pause_ms(struct dsp_groups *groups, uint64_t ms)
{
    uint64_t until_ns = cmq_clock_mono_ns() + ms * CMQ_NS_PER_MS;
    const struct timespec until = {.tv_sec = (time_t)(until_ns / CMQ_NS_PER_S),
                                   .tv_nsec = (long)(until_ns % CMQ_NS_PER_S)};
    pthread_mutex_lock(&groups->lock);
    while (!groups->stop && cmq_clock_mono_ns() < until_ns)
        (void)pthread_cond_timedwait(&groups->changed, &groups->lock, &until);
    pthread_mutex_unlock(&groups->lock);
}

/* Tries until it works or never will. */
static enum cmq_err commit_all(struct dsp_groups *groups)
{
    const struct dsp_commit *commit = &groups->committing;
    enum cmq_err err;
    bool said = false;
    unsigned tries = 0;
    while ((err = commit->count == 0
                      ? CMQ_OK
                      : dsp_ledger_commit(groups->setup.ledger, commit->changes, commit->count)) != CMQ_OK) {
        if (cmq_err_advice(err) != CMQ_ADVICE_RETRY)
            return err;
        if (!said)
            cmq_log(CMQ_LOG_ERROR, CMQ_EV_SYSTEM_ERROR, "where=ledger action=retry err=\"%s\"",
                    cmq_err_text(err));
        said = true;
        pthread_mutex_lock(&groups->lock);
        bool stop = groups->stop;
        pthread_mutex_unlock(&groups->lock);
        if (stop && ++tries >= STOP_TRIES)
            return err;
        pause_ms(groups, RETRY_MS);
    }
    for (size_t i = 0; err == CMQ_OK && i < commit->release_count; i++) {
        const struct dsp_release *release = &commit->releases[i];
        err = dsp_ledger_give_up(groups->setup.ledger, release->group, release->from, release->to,
                                 release->noted_seq, release->noted_index);
    }
    return err;
}

static void *run(void *context)
{
    struct dsp_groups *groups = context;
    pthread_mutex_lock(&groups->lock);
    while (wait_for_changes(groups)) {
        struct dsp_commit taken = groups->building;
        groups->building = groups->committing;
        groups->building.ticket = taken.ticket;
        groups->committing = taken;
        groups->busy = true;
        pthread_mutex_unlock(&groups->lock);
        enum cmq_err err = commit_all(groups);
        pthread_mutex_lock(&groups->lock);
        clear(&groups->committing);
        groups->busy = false;
        if (err == CMQ_OK) {
            groups->durable = cmq_max_u64(groups->durable, taken.ticket);
        } else if (!groups->stop) {
            pthread_mutex_unlock(&groups->lock);
            groups->setup.on_failed(groups->setup.context, err);
            return NULL;
        }
        pthread_mutex_unlock(&groups->lock);
        groups->setup.on_durable(groups->setup.context);
        pthread_mutex_lock(&groups->lock);
    }
    pthread_mutex_unlock(&groups->lock);
    return NULL;
}

enum cmq_err dsp_commit_start(struct dsp_groups *groups)
{
    pthread_condattr_t attributes;
    pthread_mutex_init(&groups->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&groups->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&groups->thread, NULL, run, groups) != 0)
        return CMQ_ERR_SYSTEM;
    (void)pthread_setname_np(groups->thread, "cmq-ledger");
    groups->thread_started = true;
    return CMQ_OK;
}

void dsp_commit_stop(struct dsp_groups *groups)
{
    if (groups->thread_started) {
        dsp_commit_flush(groups);
        pthread_mutex_lock(&groups->lock);
        groups->stop = true;
        pthread_cond_signal(&groups->changed);
        pthread_mutex_unlock(&groups->lock);
        pthread_join(groups->thread, NULL);
        groups->thread_started = false;
    }
    clear(&groups->building);
    free(groups->building.changes);
    free(groups->building.releases);
    free(groups->committing.changes);
    free(groups->committing.releases);
    pthread_cond_destroy(&groups->changed);
    pthread_mutex_destroy(&groups->lock);
}
