#include "tests/bench/bench_verify.h"

#include <stdlib.h>

#include "common/base/cmq_base.h"

static enum cmq_err make(struct bench_verify *verify, struct bench_batch *batches,
                         struct bench_verify **ret_verify)
{
    verify->current_batch = verify->batch_count;
    verify->batches = batches;
    verify->seen = calloc((verify->messages + 63u) / 64u, sizeof *verify->seen);
    if (verify->batches == NULL || verify->seen == NULL) {
        bench_verify_free(verify);
        return CMQ_ERR_NOMEM;
    }
    *ret_verify = verify;
    return CMQ_OK;
}

enum cmq_err bench_verify_new(uint64_t first, uint64_t messages, uint32_t size,
                              struct bench_verify **ret_verify)
{
    cmq_assert(messages > 0 && size > 0);
    struct bench_verify *verify = calloc(1, sizeof *verify);
    if (verify == NULL)
        return CMQ_ERR_NOMEM;
    verify->first = first;
    verify->messages = messages;
    verify->size = size;
    verify->batch_count = (messages + size - 1) / size;
    return make(verify, calloc(verify->batch_count, sizeof *verify->batches), ret_verify);
}

enum cmq_err bench_verify_beside(const struct bench_verify *of, struct bench_verify **ret_verify)
{
    struct bench_verify *verify = calloc(1, sizeof *verify);
    if (verify == NULL)
        return CMQ_ERR_NOMEM;
    verify->first = of->first;
    verify->messages = of->messages;
    verify->size = of->size;
    verify->batch_count = of->batch_count;
    verify->borrows = true;
    return make(verify, of->batches, ret_verify);
}

void bench_verify_free(struct bench_verify *verify)
{
    if (verify == NULL)
        return;
    if (!verify->borrows)
        free(verify->batches);
    free(verify->seen);
    free(verify);
}

uint32_t bench_verify_batch_messages(const struct bench_verify *verify, uint64_t batch)
{
    return (uint32_t)cmq_min_u64(verify->size, verify->messages - batch * verify->size);
}

uint64_t bench_verify_first_missing(const struct bench_verify *verify)
{
    uint64_t words = (verify->messages + 63u) / 64u;
    for (uint64_t i = 0; i < words; i++)
        if (verify->seen[i] != UINT64_MAX)
            return verify->first +
                   cmq_min_u64(verify->messages, i * 64u + (uint64_t)__builtin_ctzll(~verify->seen[i]));
    return verify->first + verify->messages;
}

/* Bits from .. from + count - 1: how many are set; sets them all if asked to. */
static uint64_t walk_bits(uint64_t *seen, uint64_t from, uint64_t count, bool set)
{
    uint64_t before = 0;
    while (count > 0) {
        uint64_t shift = from % 64u;
        uint64_t here = cmq_min_u64(count, 64u - shift);
        uint64_t mask = (here == 64u ? UINT64_MAX : (1ull << here) - 1u) << shift;
        before += (uint64_t)__builtin_popcountll(seen[from / 64u] & mask);
        if (set)
            seen[from / 64u] |= mask;
        from += here;
        count -= here;
    }
    return before;
}

/* Order of new messages index .. index + count - 1, all of one batch. */
static void check_order(struct bench_verify *verify, uint64_t batch, uint64_t index, uint64_t count)
{
    struct bench_batch *entry = &verify->batches[batch];
    if (batch == verify->current_batch) {
        /* A gap is not counted here: what is in it comes later (out of order) or never (missing). */
        if (index < verify->next)
            verify->out_of_order++;
        verify->next = cmq_max_u64(verify->next, index + count);
        return;
    }
    verify->current_batch = batch;
    verify->next = index + count;
    /* Relaxed: made visible by sent_ns, which was read by acquire. */
    uint16_t connection = atomic_load_explicit(&entry->connection, memory_order_relaxed);
    uint64_t *newest = &verify->newest_of_connection[connection % BENCH_CONNECTIONS_MAX];
    /* Also true for the rest of a batch that another one came into: not contiguous. */
    if (batch + 1 <= *newest)
        verify->out_of_order++;
    *newest = cmq_max_u64(*newest, batch + 1);
}

static void count_duplicates(struct bench_verify *verify, uint64_t batch, uint64_t count)
{
    /* Acquire: pairs with the publisher's release before it sends the second copy. */
    if (atomic_load_explicit(&verify->batches[batch].retried, memory_order_acquire) != 0)
        verify->duplicates_after_retry += count;
    else
        verify->duplicates += count;
}

/* All in one batch, and either all new or all seen before. */
static void add_uniform(struct bench_verify *verify, uint64_t batch, uint64_t index, uint64_t count,
                        uint64_t now_ns)
{
    /* Acquire: pairs with the publisher's release of sent_ns before it sends. */
    uint64_t sent_ns = atomic_load_explicit(&verify->batches[batch].sent_ns, memory_order_acquire);
    if (sent_ns == 0) {
        verify->foreign += count;
        return;
    }
    if (walk_bits(verify->seen, index, count, true) > 0) {
        count_duplicates(verify, batch, count);
        return;
    }
    verify->unique += count;
    if (!verify->any_order)
        check_order(verify, batch, index, count);
    if (index + count == batch * verify->size + bench_verify_batch_messages(verify, batch))
        bench_hist_add(&verify->delivery, now_ns > sent_ns ? now_ns - sent_ns : 0);
}

void bench_verify_add(struct bench_verify *verify, uint64_t number, uint64_t count, uint64_t now_ns)
{
    while (count > 0) {
        uint64_t index = number - verify->first;
        if (number < verify->first || index >= verify->messages) {
            verify->foreign++;
            number++;
            count--;
            continue;
        }
        uint64_t batch = index / verify->size;
        uint64_t behind = batch * verify->size + bench_verify_batch_messages(verify, batch);
        uint64_t here = cmq_min_u64(count, behind - index);
        uint64_t before = walk_bits(verify->seen, index, here, false);
        if (before != 0 && before != here)
            here = 1;
        add_uniform(verify, batch, index, here, now_ns);
        number += here;
        count -= here;
    }
}

void bench_verify_excuse(struct bench_verify *verify, uint64_t from_seq, uint64_t end_seq)
{
    for (uint64_t b = 0; b < verify->batch_count; b++) {
        /* Acquire: pairs with the publisher's release when the reply came. */
        uint64_t seq = atomic_load_explicit(&verify->batches[b].seq, memory_order_acquire);
        uint64_t count = bench_verify_batch_messages(verify, b);
        if (seq >= from_seq && seq < end_seq)
            verify->excused += count - walk_bits(verify->seen, b * verify->size, count, true);
    }
}

void bench_verify_add_foreign(struct bench_verify *verify)
{
    verify->foreign++;
}
