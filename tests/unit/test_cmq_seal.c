/*
 * Unit tests of cmq_seal. Vectors: C2SP XAES-256-GCM (c2sp.org/XAES-256-GCM, "Test vectors" and "Accumulated
 * randomized tests"; the Go implementation filippo.io/xaes256gcm has the same ones).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "common/crypto/cmq_seal.h"
#include "common/crypto/cmq_secret.h"

enum { NONCES = 1000000, POOL_TOLD = 200, ROUNDS = 10000, LARGE_BYTES = (64 << 20) + 100 };

static struct cmq_sealer *sealer;
static const uint8_t *const letters = (const uint8_t *)"ABCDEFGHIJKLMNOPQRSTUVWX";
static uint8_t *random_dst;
static size_t random_bytes;

static int sealer_begin(void **state)
{
    (void)state;
    return cmq_sealer_new(&sealer) == CMQ_OK ? 0 : -1;
}

static int sealer_end(void **state)
{
    (void)state;
    cmq_sealer_free(sealer);
    cmq_secret_set_sys(NULL);
    return 0;
}

static void check_vector(uint8_t key_byte, const char *aad, const uint8_t expected[28])
{
    uint8_t key[CMQ_SEAL_KEY_BYTES], sealed[28], plain[12];
    const struct cmq_span aad_span = cmq_span_make(aad, strlen(aad));
    memset(key, key_byte, sizeof key);
    assert_int_equal(cmq_seal(sealer, key, letters, aad_span, cmq_span_make("XAES-256-GCM", 12), sealed),
                     CMQ_OK);
    assert_memory_equal(sealed, expected, sizeof sealed);
    assert_int_equal(cmq_open(sealer, key, letters, aad_span, cmq_span_make(sealed, sizeof sealed), plain),
                     CMQ_OK);
    assert_memory_equal(plain, "XAES-256-GCM", sizeof plain);
}

static void seal_gives_the_published_vectors_of_xaes_256_gcm(void **state)
{
    (void)state;
    static const uint8_t top_bit_clear[28] = {0xce, 0x54, 0x6e, 0xf6, 0x3c, 0x9c, 0xc6, 0x07, 0x65, 0x92,
                                              0x36, 0x09, 0xb3, 0x3a, 0x9a, 0x19, 0x74, 0xe9, 0x6e, 0x52,
                                              0xda, 0xf2, 0xfc, 0xf7, 0x07, 0x5e, 0x22, 0x71};
    static const uint8_t top_bit_set[28] = {0x98, 0x6e, 0xc1, 0x83, 0x25, 0x93, 0xdf, 0x54, 0x43, 0xa1,
                                            0x79, 0x43, 0x7f, 0xd0, 0x83, 0xbf, 0x3f, 0xdb, 0x41, 0xab,
                                            0xd7, 0x40, 0xa2, 0x1f, 0x71, 0xeb, 0x76, 0x9d};
    check_vector(0x01, "", top_bit_clear);
    check_vector(0x03, "c2sp.org/XAES-256-GCM", top_bit_set);
    check_vector(0x01, "", top_bit_clear); /* the key before last: nothing of the last one may stick */
}

/* key[32], nonce[24], plaintext<0..255>, aad<0..255> (one length byte each) are read ROUNDS times from
 * SHAKE-128 of nothing; the ciphertexts with their tags go into another SHAKE-128, whose first 32 bytes are
 * known. */
static void seal_gives_the_published_hash_over_10000_random_units(void **state)
{
    (void)state;
    static const uint8_t expected[32] = {0xe6, 0xb9, 0xed, 0xf2, 0xdf, 0x6c, 0xec, 0x60, 0xc8, 0xcb, 0xd8,
                                         0x64, 0xe2, 0x21, 0x1b, 0x59, 0x7f, 0xb6, 0x9a, 0x52, 0x91, 0x60,
                                         0xcd, 0x04, 0x0d, 0x56, 0xc0, 0xc2, 0x10, 0x08, 0x19, 0x39};
    static const size_t stream_bytes = (size_t)ROUNDS * (32 + 24 + 2 * 256);
    uint8_t sealed[255 + CMQ_SEAL_TAG_BYTES], opened[255], digest[32];
    uint8_t *stream = malloc(stream_bytes);
    EVP_MD_CTX *source = EVP_MD_CTX_new(), *sink = EVP_MD_CTX_new();
    assert_non_null(stream);
    assert_int_equal(EVP_DigestInit_ex(source, EVP_shake128(), NULL), 1);
    assert_int_equal(EVP_DigestInit_ex(sink, EVP_shake128(), NULL), 1);
    assert_int_equal(EVP_DigestFinalXOF(source, stream, stream_bytes), 1);
    const uint8_t *next = stream;
    for (int i = 0; i < ROUNDS; i++) {
        const uint8_t *key = next, *nonce = key + 32;
        const struct cmq_span plain = cmq_span_make(nonce + 25, nonce[24]);
        const struct cmq_span aad = cmq_span_make(plain.data + plain.bytes + 1, plain.data[plain.bytes]);
        const struct cmq_span out = cmq_span_make(sealed, plain.bytes + CMQ_SEAL_TAG_BYTES);
        next = aad.data + aad.bytes;
        assert_int_equal(cmq_seal(sealer, key, nonce, aad, plain, sealed), CMQ_OK);
        assert_int_equal(cmq_open(sealer, key, nonce, aad, out, opened), CMQ_OK);
        assert_memory_equal(opened, plain.data, plain.bytes);
        assert_int_equal(EVP_DigestUpdate(sink, out.data, out.bytes), 1);
    }
    assert_int_equal(EVP_DigestFinalXOF(sink, digest, sizeof digest), 1);
    assert_memory_equal(digest, expected, sizeof digest);
    EVP_MD_CTX_free(sink);
    EVP_MD_CTX_free(source);
    free(stream);
}

/* The same construction from other parts of OpenSSL: CMAC, and AES-256-GCM in one piece. */
static void reference_seal(const uint8_t *key, const uint8_t *nonce, const uint8_t *src, int bytes,
                           uint8_t *dst)
{
    char cipher[] = "AES-256-CBC";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, cipher, 0),
                                 OSSL_PARAM_construct_end()};
    uint8_t unit_key[32], message[16] = {0, 0, 0x58, 0};
    size_t got = 0;
    int written;
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "CMAC", NULL);
    memcpy(message + 4, nonce, 12);
    for (uint8_t i = 1; i <= 2; i++) {
        EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
        message[1] = i;
        assert_int_equal(EVP_MAC_init(ctx, key, 32, params), 1);
        assert_int_equal(EVP_MAC_update(ctx, message, sizeof message), 1);
        assert_int_equal(EVP_MAC_final(ctx, unit_key + 16 * (i - 1), &got, 16), 1);
        EVP_MAC_CTX_free(ctx);
    }
    EVP_MAC_free(mac);
    EVP_CIPHER_CTX *gcm = EVP_CIPHER_CTX_new();
    assert_int_equal(EVP_EncryptInit_ex(gcm, EVP_aes_256_gcm(), NULL, unit_key, nonce + 12), 1);
    assert_int_equal(EVP_EncryptUpdate(gcm, dst, &written, src, bytes), 1);
    assert_int_equal(EVP_EncryptFinal_ex(gcm, dst + bytes, &written), 1);
    assert_int_equal(EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_AEAD_GET_TAG, 16, dst + bytes), 1);
    EVP_CIPHER_CTX_free(gcm);
}

static void seal_of_a_unit_larger_than_one_piece_is_one_gcm_message(void **state)
{
    (void)state;
    uint8_t key[CMQ_SEAL_KEY_BYTES], nonce[CMQ_SEAL_NONCE_BYTES];
    uint8_t *plain = malloc(LARGE_BYTES), *sealed = malloc(LARGE_BYTES + 16),
            *expected = malloc(LARGE_BYTES + 16);
    assert_true(plain != NULL && sealed != NULL && expected != NULL);
    memset(key, 0x42, sizeof key);
    memset(nonce, 0x17, sizeof nonce);
    for (size_t i = 0; i < LARGE_BYTES; i++)
        plain[i] = (uint8_t)(i * 7 + (i >> 16));
    reference_seal(key, nonce, plain, LARGE_BYTES, expected);
    assert_int_equal(
        cmq_seal(sealer, key, nonce, cmq_span_make(NULL, 0), cmq_span_make(plain, LARGE_BYTES), sealed),
        CMQ_OK);
    assert_true(memcmp(sealed, expected, LARGE_BYTES + 16) == 0);
    memset(expected, 0, LARGE_BYTES);
    assert_int_equal(cmq_open(sealer, key, nonce, cmq_span_make(NULL, 0),
                              cmq_span_make(sealed, LARGE_BYTES + 16), expected),
                     CMQ_OK);
    assert_true(memcmp(plain, expected, LARGE_BYTES) == 0);
    free(expected);
    free(sealed);
    free(plain);
}

static void seal_refuses_units_over_the_limit_without_touching_them(void **state)
{
    (void)state;
    static const size_t over = ((size_t)1 << 32) + 1;
    uint8_t key[CMQ_SEAL_KEY_BYTES] = {1}, dst[16];
    const struct cmq_span large = cmq_span_make(letters, over), none = cmq_span_make(NULL, 0);
    const struct cmq_span large_sealed = cmq_span_make(letters, over + CMQ_SEAL_TAG_BYTES);
    assert_int_equal(cmq_seal(sealer, key, letters, none, large, dst), CMQ_ERR_TOO_BIG);
    assert_int_equal(cmq_seal(sealer, key, letters, large, none, dst), CMQ_ERR_TOO_BIG);
    assert_int_equal(cmq_open(sealer, key, letters, none, large_sealed, dst), CMQ_ERR_TOO_BIG);
}

enum { FIELD_KEY, FIELD_NONCE, FIELD_AAD, FIELD_SEALED, FIELDS };

static void open_refuses_every_single_bit_changed_and_leaves_nothing(void **state)
{
    (void)state;
    uint8_t key[32], nonce[24], aad[20], sealed[33 + 16], plain[33];
    uint8_t *const field[FIELDS] = {key, nonce, aad, sealed};
    const size_t bytes[FIELDS] = {sizeof key, sizeof nonce, sizeof aad, sizeof sealed};
    const struct cmq_span aad_span = cmq_span_make(aad, sizeof aad);
    const struct cmq_span sealed_span = cmq_span_make(sealed, sizeof sealed);
    memset(key, 0xa1, sizeof key);
    memset(nonce, 0xb2, sizeof nonce);
    memset(aad, 0xc3, sizeof aad);
    memset(plain, 0xd4, sizeof plain);
    assert_int_equal(cmq_seal(sealer, key, nonce, aad_span, cmq_span_make(plain, sizeof plain), sealed),
                     CMQ_OK);
    for (int f = 0; f < FIELDS; f++) {
        for (size_t bit = 0; bit < bytes[f] * 8; bit++) {
            field[f][bit / 8] ^= (uint8_t)(1u << bit % 8);
            memset(plain, 0xee, sizeof plain);
            assert_int_equal(cmq_open(sealer, key, nonce, aad_span, sealed_span, plain), CMQ_ERR_AUTH);
            assert_true(cmq_secret_is_zero(plain, sizeof plain));
            field[f][bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
    assert_int_equal(cmq_open(sealer, key, nonce, aad_span, sealed_span, plain), CMQ_OK);
    assert_int_equal(plain[32], 0xd4);
}

static void open_refuses_what_is_cut_or_moved_between_text_and_aad(void **state)
{
    (void)state;
    uint8_t key[32] = {9}, sealed[8 + 16], plain[8];
    const struct cmq_span aad = cmq_span_make("head", 4);
    assert_int_equal(cmq_seal(sealer, key, letters, aad, cmq_span_make("12345678", 8), sealed), CMQ_OK);
    for (size_t bytes = 0; bytes < sizeof sealed; bytes++)
        assert_int_equal(cmq_open(sealer, key, letters, aad, cmq_span_make(sealed, bytes), plain),
                         CMQ_ERR_AUTH);
    assert_int_equal(
        cmq_open(sealer, key, letters, cmq_span_make("hea", 3), cmq_span_make(sealed, sizeof sealed), plain),
        CMQ_ERR_AUTH);
    assert_int_equal(
        cmq_open(sealer, key, letters, cmq_span_make(NULL, 0), cmq_span_make(sealed, sizeof sealed), plain),
        CMQ_ERR_AUTH);
}

static void seal_of_nothing_is_a_tag_that_covers_the_aad(void **state)
{
    (void)state;
    uint8_t key[32] = {5}, sealed[16], nothing[1] = {0x33};
    const struct cmq_span aad = cmq_span_make("aad", 3), empty = cmq_span_make(NULL, 0);
    assert_int_equal(cmq_seal(sealer, key, letters, aad, empty, sealed), CMQ_OK);
    assert_int_equal(cmq_open(sealer, key, letters, aad, cmq_span_make(sealed, 16), nothing), CMQ_OK);
    assert_int_equal(cmq_open(sealer, key, letters, empty, cmq_span_make(sealed, 16), nothing), CMQ_ERR_AUTH);
    assert_int_equal(nothing[0], 0x33);
}

static int compare_nonces(const void *a, const void *b)
{
    return memcmp(a, b, CMQ_SEAL_NONCE_BYTES);
}

static void nonces_do_not_repeat_in_a_million(void **state)
{
    (void)state;
    uint8_t(*nonces)[CMQ_SEAL_NONCE_BYTES] = malloc(sizeof *nonces * NONCES);
    assert_non_null(nonces);
    for (size_t i = 0; i < NONCES; i++)
        assert_int_equal(cmq_seal_nonce(nonces[i]), CMQ_OK);
    qsort(nonces, NONCES, sizeof *nonces, compare_nonces);
    for (size_t i = 1; i < NONCES; i++)
        assert_true(compare_nonces(nonces[i - 1], nonces[i]) != 0);
    free(nonces);
}

static void nonces_of_parent_and_forked_child_differ(void **state)
{
    (void)state;
    uint8_t(*nonces)[CMQ_SEAL_NONCE_BYTES] =
        mmap(NULL, sizeof *nonces * 2 * POOL_TOLD, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint8_t first[CMQ_SEAL_NONCE_BYTES];
    int status;
    assert_true(nonces != MAP_FAILED);
    assert_int_equal(cmq_seal_nonce(first), CMQ_OK);
    pid_t child = fork();
    assert_true(child >= 0);
    for (size_t i = 0; i < POOL_TOLD; i++)
        if (cmq_seal_nonce(nonces[child == 0 ? i : POOL_TOLD + i]) != CMQ_OK)
            abort();
    if (child == 0)
        _exit(0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    qsort(nonces, (size_t)2 * POOL_TOLD, sizeof *nonces, compare_nonces);
    for (size_t i = 0; i < (size_t)2 * POOL_TOLD; i++) {
        assert_false(cmq_secret_is_zero(nonces[i], sizeof *nonces));
        assert_true(i == 0 || compare_nonces(nonces[i - 1], nonces[i]) != 0);
    }
    (void)munmap(nonces, sizeof *nonces * 2 * POOL_TOLD);
}

/* A child that seals under the key its parent used last must not take zeros for that key's K1. */
static void seal_in_a_forked_child_gives_the_same_bytes(void **state)
{
    (void)state;
    uint8_t key[32] = {7}, mine[4 + 16], theirs[4 + 16];
    const struct cmq_span plain = cmq_span_make("text", 4), none = cmq_span_make(NULL, 0);
    int fds[2], status;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(cmq_seal(sealer, key, letters, none, plain, mine), CMQ_OK);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool good = cmq_seal(sealer, key, letters, none, plain, theirs) == CMQ_OK;
        _exit(good && write(fds[1], theirs, sizeof theirs) == (ssize_t)sizeof theirs ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(read(fds[0], theirs, sizeof theirs), sizeof theirs);
    assert_memory_equal(mine, theirs, sizeof mine);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static ssize_t watched_random(void *dst, size_t bytes, unsigned flags)
{
    random_dst = dst;
    random_bytes = bytes;
    return getrandom(dst, bytes, flags);
}

static ssize_t no_random(void *dst, size_t bytes, unsigned flags)
{
    (void)dst, (void)bytes, (void)flags;
    errno = EIO;
    return -1;
}

static void nonces_are_never_kept_in_stock(void **state)
{
    (void)state;
    const struct cmq_secret_sys watched = {.mlock = mlock, .madvise = madvise, .getrandom = watched_random};
    uint8_t nonce[CMQ_SEAL_NONCE_BYTES];
    cmq_secret_set_sys(&watched);
    for (unsigned i = 0; i < 3; i++) {
        random_dst = NULL;
        assert_int_equal(cmq_seal_nonce(nonce), CMQ_OK);
        assert_ptr_equal(random_dst, nonce);
        assert_int_equal(random_bytes, sizeof nonce);
    }
}

static void nonce_is_refused_when_the_kernel_has_no_random_bytes(void **state)
{
    (void)state;
    const struct cmq_secret_sys broken = {.mlock = mlock, .madvise = madvise, .getrandom = no_random};
    uint8_t nonce[CMQ_SEAL_NONCE_BYTES];
    cmq_secret_set_sys(&broken);
    assert_int_equal(cmq_seal_nonce(nonce), CMQ_ERR_SYSTEM);
    assert_int_equal(cmq_seal_nonce(nonce), CMQ_ERR_SYSTEM);
    cmq_secret_set_sys(NULL);
    assert_int_equal(cmq_seal_nonce(nonce), CMQ_OK);
}

#define SEALER_TEST(name) cmocka_unit_test_setup_teardown(name, sealer_begin, sealer_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SEALER_TEST(seal_gives_the_published_vectors_of_xaes_256_gcm),
        SEALER_TEST(seal_gives_the_published_hash_over_10000_random_units),
        SEALER_TEST(seal_of_a_unit_larger_than_one_piece_is_one_gcm_message),
        SEALER_TEST(seal_refuses_units_over_the_limit_without_touching_them),
        SEALER_TEST(open_refuses_every_single_bit_changed_and_leaves_nothing),
        SEALER_TEST(open_refuses_what_is_cut_or_moved_between_text_and_aad),
        SEALER_TEST(seal_of_nothing_is_a_tag_that_covers_the_aad),
        SEALER_TEST(nonces_do_not_repeat_in_a_million),
        SEALER_TEST(nonces_of_parent_and_forked_child_differ),
        SEALER_TEST(seal_in_a_forked_child_gives_the_same_bytes),
        SEALER_TEST(nonces_are_never_kept_in_stock),
        SEALER_TEST(nonce_is_refused_when_the_kernel_has_no_random_bytes),
    };
    return cmocka_run_group_tests_name("cmq_seal", tests, NULL, NULL);
}
