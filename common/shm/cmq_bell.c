/*
 * The wake protocol.
 *
 *   waiter                                   ringer
 *   W1 s = seq (acquire)                     R1 change the state (CAS in the arrays)
 *   W2 parked |= bit (seq_cst)               R2 fence (seq_cst)
 *   W3 fence (seq_cst)                       R3 if parked != 0:
 *   W4 look at the state; found: go to W6    R4   seq += 1 (release)
 *   W5 futex wait while seq == s, bounded    R5   futex wake
 *   W6 parked &= ~bit
 *
 * No wake is lost: of the two seq_cst fences one is first (Dekker). If W3 is first, R3 sees the bit, so R4
 * moves seq: either before W5, which then returns at once, or after it, and R5 wakes it. If R2 is first, W4
 * sees the state change. A ringer that dies between R1 and R5 loses the wake: the bound of W5 is the repair.
 *
 * Bugs that a prototype had, and tests guard against: a look that used a stale gate or hint (stall =
 * time-out), and two members sharing a bit (one clears the other's).
 */
#include "common/shm/cmq_bell.h"

#include "common/shm/cmq_futex.h"

enum cmq_bell_result cmq_bell_wait(struct cmq_bell *bell, uint32_t bit, cmq_bell_look *look, void *context,
                                   uint64_t timeout_us)
{
    const uint64_t mask = 1ull << bit;
    enum cmq_bell_result result = CMQ_BELL_FOUND;
    /* W1, pairs with R4: seeing an older seq than R4's makes the futex call return at once. */
    uint32_t seen = atomic_load_explicit(&bell->seq, memory_order_acquire);
    /* W2 and W3, pair with R2 and R3. */
    atomic_fetch_or_explicit(&bell->parked, mask, memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst);
    if (!look(context))
        result = cmq_futex_wait(&bell->seq, seen, timeout_us) ? CMQ_BELL_TIMED_OUT : CMQ_BELL_RUNG;
    /* W6: order does not matter, a stale bit costs one needless wake call. */
    atomic_fetch_and_explicit(&bell->parked, ~mask, memory_order_relaxed);
    return result;
}

void cmq_bell_ring(struct cmq_bell *bell, int waiters_max)
{
    /* R2, pairs with W3. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&bell->parked, memory_order_relaxed) == 0)
        return;
    /* R4, pairs with W1. */
    atomic_fetch_add_explicit(&bell->seq, 1, memory_order_release);
    cmq_futex_wake(&bell->seq, waiters_max);
}
