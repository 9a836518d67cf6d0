#include "common/auth/cmq_auth_bucket.h"

#include "common/base/cmq_clock.h"

/* Half a part in a million of a second's worth: what rounding may cost nobody is refused for. */
#define SLACK 5e-7

static void refill(struct cmq_auth_bucket *bucket, uint64_t now_ns)
{
    if (now_ns <= bucket->at_ns) /* read before the lock, so it may be the older one */
        return;
    const double back = (double)(now_ns - bucket->at_ns) / (double)CMQ_NS_PER_S;
    bucket->spent = bucket->spent > back ? bucket->spent - back : 0;
    bucket->at_ns = now_ns;
}

/* Nothing is always there to be taken, from a bucket in debt, too. */
static bool has(const struct cmq_auth_bucket *bucket, double share)
{
    return share <= 0 || bucket->spent + (share < 1 ? share : 1) <= 1 + SLACK;
}

static uint32_t seconds_up(double seconds)
{
    return seconds < (double)UINT32_MAX - 1 ? (uint32_t)(seconds + 1 - SLACK) : UINT32_MAX;
}

void cmq_auth_bucket_take(struct cmq_auth_bucket *messages, struct cmq_auth_bucket *bytes,
                          const uint64_t counts[2], const uint64_t rates[2], uint64_t now_ns,
                          struct cmq_rate *ret_rate)
{
    struct cmq_auth_bucket *const buckets[2] = {messages, bytes};
    double shares[2] = {0};
    bool ok = true;
    for (unsigned i = 0; i < 2; i++) {
        if (rates[i] == 0)
            continue;
        shares[i] = (double)counts[i] / (double)rates[i];
        refill(buckets[i], now_ns);
        ok = ok && has(buckets[i], shares[i]);
    }
    struct cmq_rate rate = {.ok = ok};
    double tightest = -1;
    for (unsigned i = 0; i < 2; i++) {
        /* Of a refusal only a bucket tells that refused. */
        if (rates[i] == 0 || (!ok && has(buckets[i], shares[i])))
            continue;
        if (ok)
            buckets[i]->spent += shares[i];
        const double spent = buckets[i]->spent;
        if (spent <= tightest)
            continue;
        tightest = spent;
        rate.limit = rates[i];
        rate.remaining = spent < 1 ? (uint64_t)((1 - spent) * (double)rates[i] + SLACK) : 0;
        rate.reset_s = seconds_up(spent);
    }
    if (!ok && rate.reset_s == 0)
        rate.reset_s = 1;
    *ret_rate = rate;
}
