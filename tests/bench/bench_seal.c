/*
 * bench-seal: nanoseconds and GB/s of common/crypto on one core. No verdict: it prints what it measures.
 * Usage: bench-seal [MILLISECONDS a row, 1..10000, default 200]
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"
#include "common/crypto/cmq_keyring.h"
#include "common/crypto/cmq_seal.h"

enum { UNIT_BYTES_MAX = 1 << 20, AAD_BYTES = 64, KEYS = 2, CALLS_A_LOOK = 64 };

struct bench {
    struct cmq_sealer *sealer;
    struct cmq_keyring *keyring;
    uint8_t key[KEYS][CMQ_SEAL_KEY_BYTES];
    uint8_t nonce[CMQ_SEAL_NONCE_BYTES];
    uint8_t aad[AAD_BYTES];
    uint8_t *plain, *sealed;
    size_t bytes;
    uint64_t calls;
};

typedef bool bench_step(struct bench *bench);

static struct cmq_span aad_of(const struct bench *bench)
{
    return cmq_span_make(bench->aad, AAD_BYTES);
}

static bool step_nonce(struct bench *bench)
{
    return cmq_seal_nonce(bench->nonce) == CMQ_OK;
}

static bool seal_under(struct bench *bench, const uint8_t *key)
{
    return step_nonce(bench) && cmq_seal(bench->sealer, key, bench->nonce, aad_of(bench),
                                         cmq_span_make(bench->plain, bench->bytes), bench->sealed) == CMQ_OK;
}

static bool step_seal(struct bench *bench)
{
    return seal_under(bench, bench->key[0]);
}

static bool step_seal_two_keys(struct bench *bench)
{
    return seal_under(bench, bench->key[bench->calls % KEYS]);
}

static bool step_open(struct bench *bench)
{
    return cmq_open(bench->sealer, bench->key[0], bench->nonce, aad_of(bench),
                    cmq_span_make(bench->sealed, bench->bytes + CMQ_SEAL_TAG_BYTES), bench->plain) == CMQ_OK;
}

static bool step_seal_key(struct bench *bench)
{
    const struct cmq_data_key *key;
    return cmq_keyring_seal_key(bench->keyring, cmq_span_make("default", 7), &key, NULL) == CMQ_OK;
}

/* Nanoseconds a call, or a negative number if a call failed. */
static double measure(struct bench *bench, bench_step *step, uint64_t duration_ns)
{
    uint64_t calls = 0, begin_ns = cmq_clock_mono_ns(), now_ns;
    do {
        for (int i = 0; i < CALLS_A_LOOK; i++, bench->calls++)
            if (!step(bench))
                return -1.0;
        calls += CALLS_A_LOOK;
        now_ns = cmq_clock_mono_ns();
    } while (now_ns - begin_ns < duration_ns);
    return (double)(now_ns - begin_ns) / (double)calls;
}

static bool print_row(struct bench *bench, size_t bytes, uint64_t duration_ns)
{
    bench->bytes = bytes;
    double two_keys_ns = measure(bench, step_seal_two_keys, duration_ns);
    double seal_ns = measure(bench, step_seal, duration_ns);
    double open_ns = measure(bench, step_open, duration_ns); /* what was sealed last */
    if (two_keys_ns < 0 || seal_ns < 0 || open_ns < 0)
        return false;
    printf("%9zu %11.0f %8.2f %11.0f %8.2f %16.0f\n", bytes, seal_ns, (double)bytes / seal_ns, open_ns,
           (double)bytes / open_ns, two_keys_ns);
    return true;
}

/* In a directory of its own, which is removed again. */
static bool print_keyring(struct bench *bench, uint64_t duration_ns)
{
    char path[] = "/tmp/cmq-bench-seal-XXXXXX";
    char name[4][64];
    static const char *const suffix[] = {"kek", "delivery.kek", "keyring", "keyring.lock"};
    double ns = -1.0;
    if (mkdtemp(path) == NULL)
        return false;
    for (size_t i = 0; i < CMQ_COUNT_OF(suffix); i++)
        (void)snprintf(name[i], sizeof name[i], "%s/%s", path, suffix[i]);
    const struct cmq_keyring_paths paths = {
        .kek_file = name[0], .delivery_kek_file = name[1], .keyring_file = name[2]};
    if (cmq_keyring_create(&paths, NULL) == CMQ_OK &&
        cmq_keyring_open(&paths, CMQ_KEYRING_ENCRYPTOR, &bench->keyring, NULL) == CMQ_OK) {
        ns = measure(bench, step_seal_key, duration_ns);
        cmq_keyring_free(bench->keyring);
    }
    for (size_t i = 0; i < CMQ_COUNT_OF(suffix); i++)
        (void)unlink(name[i]);
    (void)rmdir(path);
    if (ns >= 0)
        printf("key for a topic: %.1f ns\n", ns);
    return ns >= 0;
}

int main(int argc, char **argv)
{
    static const size_t rows[] = {0, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, UNIT_BYTES_MAX};
    struct bench bench = {.key = {{1}, {2}}};
    char *end = NULL;
    unsigned long duration_ms = argc == 2 ? strtoul(argv[1], &end, 10) : 200;
    bool good = false;
    if (argc > 2 || (end != NULL && *end != '\0') || duration_ms < 1 || duration_ms > 10000) {
        fprintf(stderr, "usage: bench-seal [MILLISECONDS a row, 1..10000]\n");
        return 64;
    }
    bench.plain = calloc(1, UNIT_BYTES_MAX);
    bench.sealed = calloc(1, UNIT_BYTES_MAX + CMQ_SEAL_TAG_BYTES);
    if (bench.plain == NULL || bench.sealed == NULL || cmq_sealer_new(&bench.sealer) != CMQ_OK)
        goto out;
    printf("%9s %11s %8s %11s %8s %16s\n", "bytes", "seal ns", "GB/s", "open ns", "GB/s", "seal ns, 2 keys");
    good = true;
    for (size_t i = 0; i < CMQ_COUNT_OF(rows) && good; i++)
        good = print_row(&bench, rows[i], duration_ms * CMQ_NS_PER_MS);
    double nonce_ns = good ? measure(&bench, step_nonce, duration_ms * CMQ_NS_PER_MS) : -1.0;
    good = nonce_ns >= 0 && print_keyring(&bench, duration_ms * CMQ_NS_PER_MS);
    if (good)
        printf("nonce: %.0f ns (in every seal above)\n", nonce_ns);
out:
    cmq_sealer_free(bench.sealer);
    free(bench.sealed);
    free(bench.plain);
    return good ? 0 : 70;
}
