#include "common/auth/cmq_auth_failures.h"

#include <arpa/inet.h>
#include <nettle/sha2.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>

enum { SETS = 4096, WAYS = 4, LOCKS = 64, ID_BYTES = 16, SEED_BYTES = 32, TEXT_BYTES_MAX = INET6_ADDRSTRLEN };

struct slot {
    uint8_t id[ID_BYTES];
    uint64_t began_ns;
    uint32_t count; /* 0: free */
};

struct cmq_auth_failures {
    uint32_t failures_max;
    uint8_t seed[SEED_BYTES];
    pthread_mutex_t locks[LOCKS]; /* of set i: locks[i % LOCKS] */
    struct slot slots[SETS][WAYS];
};

enum cmq_err cmq_auth_failures_new(uint32_t failures_max, struct cmq_auth_failures **ret_failures)
{
    struct cmq_auth_failures *failures = calloc(1, sizeof *failures);
    if (failures == NULL)
        return CMQ_ERR_NOMEM;
    if (getrandom(failures->seed, sizeof failures->seed, 0) != (ssize_t)sizeof failures->seed) {
        free(failures);
        return CMQ_ERR_SYSTEM;
    }
    failures->failures_max = failures_max;
    for (unsigned i = 0; i < LOCKS; i++)
        (void)pthread_mutex_init(&failures->locks[i], NULL);
    *ret_failures = failures;
    return CMQ_OK;
}

void cmq_auth_failures_free(struct cmq_auth_failures *failures)
{
    if (failures == NULL)
        return;
    for (unsigned i = 0; i < LOCKS; i++)
        (void)pthread_mutex_destroy(&failures->locks[i]);
    free(failures);
}

/* Text becomes the bytes that it stands for; what is no address stays. Four letters that could be both stand for a text. */
static struct cmq_span parse_text(struct cmq_span address, uint8_t memory[sizeof(struct in6_addr)])
{
    char text[TEXT_BYTES_MAX + 1] = {0};
    if (address.bytes > TEXT_BYTES_MAX)
        return address;
    memcpy(text, address.data, address.bytes);
    if (inet_pton(AF_INET, text, memory) == 1)
        return cmq_span_make(memory, sizeof(struct in_addr));
    if (inet_pton(AF_INET6, text, memory) == 1)
        return cmq_span_make(memory, sizeof(struct in6_addr));
    return address;
}

/* The part of an address that one customer of a provider has. */
static struct cmq_span counted_part(struct cmq_span address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (address.bytes != sizeof(struct in6_addr))
        return address;
    if (memcmp(address.data, mapped, sizeof mapped) == 0)
        return cmq_span_make(address.data + sizeof mapped, 4);
    return cmq_span_make(address.data, 8);
}

static struct slot *find(struct slot *set, const uint8_t id[ID_BYTES], uint64_t now_ns)
{
    struct slot *victim = NULL;
    for (unsigned i = 0; i < WAYS; i++) {
        struct slot *slot = &set[i];
        /* now_ns was read before the lock, so it may be the older one. */
        if (now_ns > slot->began_ns && now_ns - slot->began_ns >= CMQ_AUTH_FAILURES_WINDOW_NS)
            slot->count = 0;
        if (slot->count != 0 && memcmp(slot->id, id, ID_BYTES) == 0)
            return slot;
        if (victim == NULL || slot->count < victim->count ||
            (slot->count == victim->count && slot->began_ns < victim->began_ns))
            victim = slot;
    }
    cmq_assert(victim != NULL);
    memcpy(victim->id, id, ID_BYTES);
    victim->began_ns = now_ns;
    victim->count = 0;
    return victim;
}

bool cmq_auth_failures_add(struct cmq_auth_failures *failures, struct cmq_span address, uint64_t now_ns)
{
    uint8_t memory[sizeof(struct in6_addr)], digest[SHA256_DIGEST_SIZE];
    if (address.bytes == 0)
        return false;
    const struct cmq_span part = counted_part(parse_text(address, memory));
    struct sha256_ctx sha;
    sha256_init(&sha);
    sha256_update(&sha, sizeof failures->seed, failures->seed);
    sha256_update(&sha, part.bytes, part.data);
    sha256_digest(&sha, sizeof digest, digest);
    const unsigned set = ((unsigned)digest[ID_BYTES] << 8 | digest[ID_BYTES + 1]) % SETS;
    pthread_mutex_t *lock = &failures->locks[set % LOCKS];
    (void)pthread_mutex_lock(lock);
    struct slot *slot = find(failures->slots[set], digest, now_ns);
    if (slot->count != UINT32_MAX)
        slot->count++;
    const bool above = slot->count > failures->failures_max;
    (void)pthread_mutex_unlock(lock);
    return above;
}
