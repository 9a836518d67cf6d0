/* Tests of cmq_status and cmq_metrics: counters that outlive their process, durations, and their text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/shm/cmq_metrics.h"
#include "common/shm/cmq_status.h"
#include "tests/support/ring_fixture.h"

enum { SLOTS = 16, ARENA = 1 << 16, STATUSES = 8 };

static int set_up(void **state)
{
    static struct ring_fixture fixture;
    ring_fixture_open(&fixture, SLOTS, 1, ARENA);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    ring_fixture_close(*state);
    return 0;
}

static struct cmq_status only_status(const struct ring_fixture *fixture)
{
    struct cmq_status statuses[STATUSES];
    assert_int_equal(cmq_status_read(fixture->instance, statuses, STATUSES), 1);
    return statuses[0];
}

static void status_counts_on_when_the_next_process_has_the_number(void **state)
{
    struct ring_fixture *fixture = *state;
    for (uint64_t life = 1; life <= 3; life++) {
        struct cmq_ring *ring = ring_fixture_join(fixture, CMQ_ROLE_DISPATCHER);
        cmq_ring_count(ring, CMQ_COUNT_ACKS, 5);
        struct cmq_status status = only_status(fixture);
        assert_int_equal(status.role, CMQ_ROLE_DISPATCHER);
        assert_int_equal(status.instance_number, 0);
        assert_int_equal(status.starts, life);
        assert_int_equal(status.counters[CMQ_COUNT_ACKS], 5 * life);
        ring_fixture_leave(fixture, ring);
        assert_int_equal(only_status(fixture).counters[CMQ_COUNT_ACKS], 5 * life);
    }
}

static void status_gauges_begin_anew(void **state)
{
    struct ring_fixture *fixture = *state;
    struct cmq_ring *ring = ring_fixture_join(fixture, CMQ_ROLE_INGEST);
    cmq_ring_gauge(ring, CMQ_COUNT_CLIENTS, 7);
    assert_int_equal(only_status(fixture).counters[CMQ_COUNT_CLIENTS], 7);
    ring_fixture_leave(fixture, ring);
    ring = ring_fixture_join(fixture, CMQ_ROLE_INGEST);
    assert_int_equal(only_status(fixture).counters[CMQ_COUNT_CLIENTS], 0);
}

static void status_names_the_version_of_the_process_that_has_the_number(void **state)
{
    struct ring_fixture *fixture = *state;
    static const struct {
        const char *version, *told;
    } lives[] = {
        {"1.2.3", "1.2.3"}, {NULL, ""}, {"2.0.0~rc1+git-abcdef", "2.0.0~rc1+git-a"}, {"9\"},{", "9"}};
    for (size_t i = 0; i < CMQ_COUNT_OF(lives); i++) {
        fixture->setup.version = lives[i].version;
        struct cmq_ring *ring = ring_fixture_join(fixture, CMQ_ROLE_INGEST);
        assert_string_equal(only_status(fixture).version, lives[i].told);
        ring_fixture_leave(fixture, ring);
    }
}

static void the_high_water_of_the_ring_stays(void **state)
{
    struct ring_fixture *fixture = *state;
    struct cmq_ring *ingest = ring_fixture_join(fixture, CMQ_ROLE_INGEST);
    struct cmq_status status[STATUSES];
    (void)ring_fixture_publish(ingest, "a");
    assert_int_equal(only_status(fixture).counters[CMQ_COUNT_RING_HIGH_WATER], 1);
    (void)ring_fixture_publish(ingest, "b");
    (void)ring_fixture_publish(ingest, "c");
    assert_int_equal(only_status(fixture).counters[CMQ_COUNT_RING_HIGH_WATER], 3);
    struct cmq_ring *encryptor = ring_fixture_join(fixture, CMQ_ROLE_ENCRYPTOR);
    for (unsigned i = 0; i < 3; i++)
        (void)ring_fixture_seal(encryptor);
    for (unsigned i = 0; i < 3; i++)
        (void)ring_fixture_store(encryptor, i == 0 ? "a" : i == 1 ? "b" : "c");
    (void)ring_fixture_publish(ingest, "d");
    assert_int_equal(cmq_status_read(fixture->instance, status, STATUSES), 2);
    assert_int_equal(status[0].counters[CMQ_COUNT_RING_HIGH_WATER], 3);
}

static void status_of_stages_and_numbers_is_kept_apart(void **state)
{
    struct ring_fixture *fixture = *state;
    struct cmq_status statuses[STATUSES];
    fixture->setup.instance_number = 3;
    struct cmq_ring *third = ring_fixture_join(fixture, CMQ_ROLE_INGEST);
    fixture->setup.instance_number = 0;
    struct cmq_ring *first = ring_fixture_join(fixture, CMQ_ROLE_INGEST);
    struct cmq_ring *other = ring_fixture_join(fixture, CMQ_ROLE_ENCRYPTOR);
    cmq_ring_count(third, CMQ_COUNT_REQUESTS, 3);
    cmq_ring_count(first, CMQ_COUNT_REQUESTS, 1);
    cmq_ring_count(other, CMQ_COUNT_SEALS, 9);
    assert_int_equal(cmq_status_read(fixture->instance, statuses, STATUSES), 3);
    assert_int_equal(statuses[0].counters[CMQ_COUNT_REQUESTS], 1);
    assert_int_equal(statuses[1].instance_number, 3);
    assert_int_equal(statuses[1].counters[CMQ_COUNT_REQUESTS], 3);
    assert_int_equal(statuses[2].role, CMQ_ROLE_ENCRYPTOR);
    assert_int_equal(statuses[2].counters[CMQ_COUNT_SEALS], 9);
}

static void status_of_a_number_beyond_the_table_is_not_kept_and_harms_nobody(void **state)
{
    struct ring_fixture *fixture = *state;
    fixture->setup.instance_number = CMQ_STATUS_INSTANCES_MAX;
    struct cmq_ring *ring = ring_fixture_join(fixture, CMQ_ROLE_INGEST);
    cmq_ring_count(ring, CMQ_COUNT_REQUESTS, 1);
    cmq_ring_observe(ring, CMQ_HIST_REQUEST, 1);
    assert_int_equal(cmq_status_read(fixture->instance, NULL, 0), 0);
}

static void status_page_that_its_maker_left_unfinished_is_finished(void **state)
{
    struct ring_fixture *fixture = *state;
    char name[CMQ_SEGMENT_NAME_BYTES];
    struct cmq_segment segment = {0};
    cmq_segment_name(name, fixture->instance, "sd0");
    assert_int_equal(cmq_segment_create(name, sizeof(struct cmq_status_page), 0640, &segment, NULL), CMQ_OK);
    assert_int_equal(cmq_status_read(fixture->instance, NULL, 0), 0);
    struct cmq_ring *ring = ring_fixture_join(fixture, CMQ_ROLE_DISPATCHER);
    cmq_ring_count(ring, CMQ_COUNT_ACKS, 1);
    assert_int_equal(only_status(fixture).counters[CMQ_COUNT_ACKS], 1);
    cmq_segment_unmap(&segment);
}

static void status_page_of_another_build_is_replaced(void **state)
{
    struct ring_fixture *fixture = *state;
    char name[CMQ_SEGMENT_NAME_BYTES];
    struct cmq_segment segment = {0};
    cmq_segment_name(name, fixture->instance, "sd0");
    assert_int_equal(cmq_segment_create(name, sizeof(struct cmq_status_page), 0640, &segment, NULL), CMQ_OK);
    struct cmq_status_page *page = segment.data;
    atomic_store_explicit(&page->magic, 12345, memory_order_relaxed);
    atomic_store_explicit(&page->counters[CMQ_COUNT_ACKS], 99, memory_order_relaxed);
    struct cmq_ring *ring = ring_fixture_join(fixture, CMQ_ROLE_DISPATCHER);
    cmq_ring_count(ring, CMQ_COUNT_ACKS, 1);
    assert_int_equal(only_status(fixture).counters[CMQ_COUNT_ACKS], 1);
    cmq_segment_unmap(&segment);
}

static void duration_falls_into_the_bucket_of_its_power_of_two(void **state)
{
    (void)state;
    assert_int_equal(cmq_hist_bucket(0), 0);
    assert_int_equal(cmq_hist_bucket(1000), 0);
    assert_int_equal(cmq_hist_bucket(1001), 1);
    assert_int_equal(cmq_hist_bucket(2000), 1);
    assert_int_equal(cmq_hist_bucket(2001), 2);
    for (unsigned k = 0; k + 1 < CMQ_HIST_BUCKETS; k++) {
        assert_int_equal(cmq_hist_bucket(1000ull << k), k);
        assert_int_equal(cmq_hist_bucket((1000ull << k) + 1), k + 1);
    }
    assert_int_equal(cmq_hist_bucket(UINT64_MAX), CMQ_HIST_BUCKETS - 1);
}

static void durations_are_counted_with_their_sum(void **state)
{
    struct ring_fixture *fixture = *state;
    struct cmq_ring *ring = ring_fixture_join(fixture, CMQ_ROLE_INGEST);
    cmq_ring_observe(ring, CMQ_HIST_REQUEST, 1500);
    cmq_ring_observe(ring, CMQ_HIST_REQUEST, 1500);
    cmq_ring_observe(ring, CMQ_HIST_REQUEST, 3000);
    struct cmq_status status = only_status(fixture);
    assert_int_equal(status.hists[CMQ_HIST_REQUEST].count, 3);
    assert_int_equal(status.hists[CMQ_HIST_REQUEST].sum_ns, 6000);
    assert_int_equal(status.hists[CMQ_HIST_REQUEST].buckets[1], 2);
    assert_int_equal(status.hists[CMQ_HIST_REQUEST].buckets[2], 1);
    assert_int_equal(status.hists[CMQ_HIST_LOG_WAIT].count, 0);
}

static void expect_line(const struct cmq_buf *text, const char *line)
{
    char wanted[256];
    (void)snprintf(wanted, sizeof wanted, "\n%s\n", line);
    if (strstr((const char *)text->data, wanted) == NULL)
        fail_msg("no line: %s", line);
}

static void metrics_tell_what_every_instance_counted(void **state)
{
    struct ring_fixture *fixture = *state;
    struct cmq_sight *sight;
    struct cmq_buf text;
    cmq_buf_init(&text, 1 << 20);
    struct cmq_ring *gone = ring_fixture_join(fixture, CMQ_ROLE_DISPATCHER);
    cmq_ring_gauge(gone, CMQ_COUNT_CLIENTS, 4);
    cmq_ring_count(gone, CMQ_COUNT_CLIENTS_TOTAL, 4);
    ring_fixture_leave(fixture, gone);
    struct cmq_ring *ring = ring_fixture_join(fixture, CMQ_ROLE_INGEST);
    cmq_ring_count(ring, CMQ_COUNT_WORK_NS, 1500000000);
    cmq_ring_count(ring, CMQ_COUNT_REQUESTS, 12);
    cmq_ring_observe(ring, CMQ_HIST_REQUEST, 3000);
    (void)ring_fixture_publish(ring, "one");
    assert_int_equal(cmq_sight_take(ring, &sight), CMQ_OK);
    assert_int_equal(cmq_metrics_write(sight, "9.9", true, &text), CMQ_OK);
    cmq_sight_free(sight);
    assert_int_equal(cmq_buf_append(&text, "", 1), CMQ_OK);
    expect_line(&text, "ciphermq_build_info{version=\"9.9\"} 1");
    expect_line(&text, "ciphermq_up{stage=\"ingest\",instance=\"0\"} 1");
    expect_line(&text, "ciphermq_up{stage=\"dispatcher\",instance=\"0\"} 0");
    expect_line(&text, "ciphermq_ring_depth 1");
    expect_line(&text, "ciphermq_log_health{state=\"none\"} 1");
    expect_line(&text, "ciphermq_log_health{state=\"ok\"} 0");
    expect_line(&text, "ciphermq_requests_total{stage=\"ingest\",instance=\"0\"} 12");
    expect_line(&text, "ciphermq_work_seconds_total{stage=\"ingest\",instance=\"0\"} 1.500000000");
    expect_line(&text, "ciphermq_clients{stage=\"dispatcher\",instance=\"0\"} 0");
    expect_line(&text, "ciphermq_clients_total{stage=\"dispatcher\",instance=\"0\"} 4");
    expect_line(&text, "# TYPE ciphermq_request_duration_seconds histogram");
    expect_line(&text,
                "ciphermq_request_duration_seconds_bucket{stage=\"ingest\",instance=\"0\",le=\"2e-06\"} 0");
    expect_line(&text,
                "ciphermq_request_duration_seconds_bucket{stage=\"ingest\",instance=\"0\",le=\"4e-06\"} 1");
    expect_line(&text,
                "ciphermq_request_duration_seconds_bucket{stage=\"ingest\",instance=\"0\",le=\"+Inf\"} 1");
    expect_line(&text, "ciphermq_request_duration_seconds_count{stage=\"ingest\",instance=\"0\"} 1");
    /* What a stage does not count it does not show. */
    assert_null(strstr((const char *)text.data, "ciphermq_seals_total{stage=\"ingest\""));
    cmq_buf_fini(&text);
}

static void metrics_that_do_not_fit_are_an_error(void **state)
{
    struct ring_fixture *fixture = *state;
    struct cmq_sight *sight;
    struct cmq_buf text;
    cmq_buf_init(&text, 100);
    struct cmq_ring *ring = ring_fixture_join(fixture, CMQ_ROLE_INGEST);
    assert_int_equal(cmq_sight_take(ring, &sight), CMQ_OK);
    assert_int_equal(cmq_metrics_write(sight, "9.9", true, &text), CMQ_ERR_TOO_BIG);
    cmq_sight_free(sight);
    cmq_buf_fini(&text);
}

#define WITH_RING(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RING(status_counts_on_when_the_next_process_has_the_number),
        WITH_RING(status_gauges_begin_anew),
        WITH_RING(the_high_water_of_the_ring_stays),
        WITH_RING(status_names_the_version_of_the_process_that_has_the_number),
        WITH_RING(status_of_stages_and_numbers_is_kept_apart),
        WITH_RING(status_of_a_number_beyond_the_table_is_not_kept_and_harms_nobody),
        WITH_RING(status_page_that_its_maker_left_unfinished_is_finished),
        WITH_RING(status_page_of_another_build_is_replaced),
        cmocka_unit_test(duration_falls_into_the_bucket_of_its_power_of_two),
        WITH_RING(durations_are_counted_with_their_sum),
        WITH_RING(metrics_tell_what_every_instance_counted),
        WITH_RING(metrics_that_do_not_fit_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
