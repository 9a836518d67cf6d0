/* Unit tests of cmq_address. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cmocka.h>

#include "common/base/cmq_address.h"

static struct cmq_address address_of(const char *text)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
        return cmq_address_of((const struct sockaddr *)&in);
    assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
    return cmq_address_of((const struct sockaddr *)&in6);
}

static bool add(struct cmq_address_counts *counts, const char *text, uint32_t max)
{
    const struct cmq_address address = address_of(text);
    return cmq_address_counts_add(counts, &address, max);
}

static void a_mapped_address_is_the_address(void **state)
{
    (void)state;
    char text[CMQ_ADDRESS_TEXT_BYTES];
    const struct cmq_address plain = address_of("192.0.2.7"), mapped = address_of("::ffff:192.0.2.7");
    assert_int_equal(plain.length, 4);
    assert_int_equal(mapped.length, 4);
    assert_memory_equal(plain.bytes, mapped.bytes, 4);
    assert_string_equal(cmq_address_text(&mapped, text), "192.0.2.7");
    const struct cmq_address long_one = address_of("2001:db8::1");
    assert_string_equal(cmq_address_text(&long_one, text), "2001:db8::1");
    assert_int_equal(cmq_address_span(&long_one).bytes, 16);
    const struct sockaddr local = {.sa_family = AF_UNIX};
    const struct cmq_address none = cmq_address_of(&local);
    assert_string_equal(cmq_address_text(&none, text), "-");
}

static void an_address_has_at_most_so_many(void **state)
{
    (void)state;
    struct cmq_address_counts *counts = cmq_address_counts_new(100);
    const struct cmq_address first = address_of("192.0.2.1");
    assert_true(add(counts, "192.0.2.1", 2));
    assert_true(add(counts, "::ffff:192.0.2.1", 2));
    assert_false(add(counts, "192.0.2.1", 2));
    assert_true(add(counts, "192.0.2.2", 2));
    cmq_address_counts_remove(counts, &first);
    assert_int_equal(cmq_address_counts_of(counts, &first), 1);
    assert_true(add(counts, "192.0.2.1", 2));
    cmq_address_counts_free(counts);
}

static void neighbours_in_a_64_are_one(void **state)
{
    (void)state;
    struct cmq_address_counts *counts = cmq_address_counts_new(100);
    assert_true(add(counts, "2001:db8:0:1::1", 1));
    assert_false(add(counts, "2001:db8:0:1:ffff::2", 1));
    assert_true(add(counts, "2001:db8:0:2::1", 1));
    assert_true(add(counts, "::1", 1));
    assert_true(add(counts, "0.0.0.0", 1)); /* no prefix of IPv6 */
    cmq_address_counts_free(counts);
}

static void a_full_table_takes_no_other_address(void **state)
{
    (void)state;
    struct cmq_address_counts *counts = cmq_address_counts_new(2);
    const struct cmq_address first = address_of("10.0.0.1");
    assert_true(add(counts, "10.0.0.1", 9));
    assert_true(add(counts, "10.0.0.2", 9));
    assert_false(add(counts, "10.0.0.3", 9));
    assert_true(add(counts, "10.0.0.2", 9));
    cmq_address_counts_remove(counts, &first);
    assert_true(add(counts, "10.0.0.3", 9));
    cmq_address_counts_free(counts);
}

/* Against an array, with so few free slots that addresses stand in each other's way. */
static void counts_are_right_after_many_comings_and_goings(void **state)
{
    (void)state;
    enum { ADDRESSES = 200, STEPS = 200000, MAX = 3 };
    struct cmq_address_counts *counts = cmq_address_counts_new(ADDRESSES);
    uint32_t expected[ADDRESSES] = {0};
    uint64_t random = 17;
    for (unsigned step = 0; step < STEPS; step++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        const uint32_t i = (uint32_t)(random >> 33) % ADDRESSES;
        const struct cmq_address address = {.bytes = {10, 0, 0, (uint8_t)i}, .length = 4};
        if ((random >> 20) % 2 == 0) {
            assert_int_equal(cmq_address_counts_add(counts, &address, MAX), expected[i] < MAX);
            expected[i] += expected[i] < MAX;
        } else if (expected[i] > 0) {
            cmq_address_counts_remove(counts, &address);
            expected[i]--;
        }
        assert_int_equal(cmq_address_counts_of(counts, &address), expected[i]);
    }
    for (uint32_t i = 0; i < ADDRESSES; i++) {
        const struct cmq_address address = {.bytes = {10, 0, 0, (uint8_t)i}, .length = 4};
        assert_int_equal(cmq_address_counts_of(counts, &address), expected[i]);
    }
    cmq_address_counts_free(counts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mapped_address_is_the_address),
        cmocka_unit_test(an_address_has_at_most_so_many),
        cmocka_unit_test(neighbours_in_a_64_are_one),
        cmocka_unit_test(a_full_table_takes_no_other_address),
        cmocka_unit_test(counts_are_right_after_many_comings_and_goings),
    };
    return cmocka_run_group_tests_name("cmq_address", tests, NULL, NULL);
}
