/* Unit tests of common/crypto/cmq_digest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/crypto/cmq_digest.h"

/* FIPS 180-4, the example "abc". */
static const uint8_t abc[] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40,
                              0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17,
                              0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};

static void digest_is_that_of_the_pieces_back_to_back(void **state)
{
    (void)state;
    struct cmq_digest *digest = NULL;
    uint8_t bytes[CMQ_DIGEST_BYTES];
    const struct cmq_span whole = cmq_span_make("abc", 3);
    const struct cmq_span pieces[] = {cmq_span_make("a", 1), {0}, cmq_span_make("bc", 2)};
    assert_int_equal(cmq_digest_new(&digest), CMQ_OK);
    assert_int_equal(cmq_digest_sha256(digest, &whole, 1, bytes), CMQ_OK);
    assert_memory_equal(bytes, abc, sizeof abc);
    assert_int_equal(cmq_digest_sha256(digest, pieces, CMQ_COUNT_OF(pieces), bytes), CMQ_OK);
    assert_memory_equal(bytes, abc, sizeof abc);
    assert_int_equal(cmq_digest_sha256(digest, pieces, 2, bytes), CMQ_OK);
    assert_memory_not_equal(bytes, abc, sizeof abc);
    assert_int_equal(cmq_digest_begin(digest), CMQ_OK);
    for (size_t i = 0; i < CMQ_COUNT_OF(pieces); i++)
        assert_int_equal(cmq_digest_add(digest, pieces[i]), CMQ_OK);
    assert_int_equal(cmq_digest_end(digest, bytes), CMQ_OK);
    assert_memory_equal(bytes, abc, sizeof abc);
    cmq_digest_free(digest);
    cmq_digest_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(digest_is_that_of_the_pieces_back_to_back)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
