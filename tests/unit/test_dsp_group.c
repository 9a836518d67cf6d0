#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/wire/cmq_batch.h"
#include "dispatcher/dsp_group.h"
#include "tests/support/fake_delivery_ring.h"

/* Records here are not sealed: the payload is a table of segments and the messages, and these three functions
 * take the place of dsp_record.c. A message is the text "<seq>.<index>". */

enum {
    TEXT_BYTES_MAX = 24,
    SEGMENTS_MAX = 4,
    FRAME_BYTES = 4096,
    FRAME_MESSAGES = 1000,
    CLIENTS = 6,
    RECORDS_MAX = 4000
};

struct payload {
    uint32_t message_count, segment_count;
    struct dsp_segment segments[SEGMENTS_MAX];
    uint8_t messages[];
};

static enum cmq_err open_result = CMQ_OK;

enum cmq_err dsp_record_open(struct dsp_opener *opener, const struct cmq_claim *claim,
                             struct dsp_opened *record)
{
    (void)opener;
    struct payload head;
    if (open_result != CMQ_OK)
        return open_result;
    memcpy(&head, claim->payload.data, sizeof(head));
    size_t bytes = claim->payload.bytes - sizeof(head);
    free(record->plain);
    record->plain = malloc(bytes + 1);
    record->plain_bytes = record->plain_capacity = bytes;
    memcpy(record->plain, claim->payload.data + sizeof(head), bytes);
    free(record->segments);
    record->segments = malloc(sizeof(head.segments));
    memcpy(record->segments, head.segments, sizeof(head.segments));
    record->segment_count = head.segment_count;
    record->message_count = head.message_count;
    return CMQ_OK;
}

void dsp_record_clear(struct dsp_opened *record, size_t keep_bytes)
{
    (void)keep_bytes;
    dsp_record_fini(record);
}

void dsp_record_fini(struct dsp_opened *record)
{
    free(record->plain);
    free(record->segments);
    *record = (struct dsp_opened){0};
}

/* ---- a ring, a group and its clients, and who got what ---- */

struct receiver {
    struct dsp_consumer share;
    struct cmq_span frame; /* sent, not taken */
    bool joined;
};

struct world {
    struct cmq_ring *ring;
    struct dsp_share group;
    struct dsp_frame frame;
    struct receiver receivers[CLIENTS];
    uint32_t *got[RECORDS_MAX]; /* by seq: how often each message arrived */
    uint32_t counts[RECORDS_MAX];
    uint32_t segment[RECORDS_MAX], gap[RECORDS_MAX]; /* of add_record */
    uint64_t random;
};

static struct world world;
static const struct dsp_limits limits = {.open_records_max = 64, .open_bytes_max = 1 << 20};

static int setup(void **state)
{
    (void)state;
    memset(&world, 0, sizeof(world));
    open_result = CMQ_OK;
    world.ring = fake_delivery_ring_new();
    dsp_share_init(&world.group, world.ring, NULL, &limits);
    return dsp_frame_init(&world.frame, 16, FRAME_BYTES, FRAME_MESSAGES) == CMQ_OK ? 0 : -1;
}

static void leave(unsigned i)
{
    struct receiver *receiver = &world.receivers[i];
    dsp_share_leave(&world.group, &receiver->share);
    free((void *)(uintptr_t)receiver->frame.data);
    *receiver = (struct receiver){0};
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CLIENTS; i++)
        if (world.receivers[i].joined)
            leave(i);
    dsp_share_fini(&world.group);
    dsp_frame_fini(&world.frame);
    fake_delivery_ring_free(world.ring);
    for (size_t i = 0; i < CMQ_COUNT_OF(world.got); i++)
        free(world.got[i]);
    return 0;
}

static size_t write_message(uint8_t *dst, uint64_t seq, uint32_t index)
{
    char text[TEXT_BYTES_MAX];
    int bytes = snprintf(text, sizeof(text), "%llu.%u", (unsigned long long)seq, index);
    size_t head = cmq_message_head(dst, true, (uint32_t)bytes);
    memcpy(dst + head, text, (size_t)bytes);
    return head + (size_t)bytes;
}

/* A record of `segment_count` equal segments with `gap` messages that are not for delivery before, between
 * and behind. */
static uint64_t add_record(uint32_t segment_count, uint32_t count, uint32_t gap)
{
    uint64_t seq = 1;
    while (world.got[seq] != NULL)
        seq++;
    struct payload *payload =
        calloc(1, sizeof(*payload) + (size_t)segment_count * count * (TEXT_BYTES_MAX + 5));
    size_t bytes = 0;
    uint32_t index = gap;
    for (uint32_t i = 0; i < segment_count; i++) {
        struct dsp_segment *segment = &payload->segments[i];
        *segment = (struct dsp_segment){.first = index, .count = count, .offset = bytes};
        for (uint32_t j = 0; j < count; j++)
            bytes += write_message(payload->messages + bytes, seq, index++);
        segment->bytes = bytes - segment->offset;
        index += gap;
    }
    payload->segment_count = segment_count;
    payload->message_count = index;
    world.got[seq] = calloc(index + 1, sizeof(uint32_t));
    world.counts[seq] = index;
    world.segment[seq] = count;
    world.gap[seq] = gap;
    uint64_t given = fake_delivery_ring_add(world.ring, payload, sizeof(*payload) + bytes, index);
    free(payload);
    assert_int_equal(given, seq);
    return seq;
}

static void join(unsigned i)
{
    dsp_share_join(&world.group, &world.receivers[i].share);
    world.receivers[i].joined = true;
}

/* Returns the messages that were sent; 0: nothing was there. */
static uint32_t send_frame(unsigned i)
{
    struct receiver *receiver = &world.receivers[i];
    enum cmq_err err = CMQ_OK;
    enum dsp_fill fill = dsp_share_fill(&world.group, &receiver->share, &world.frame, &err);
    assert_int_not_equal(fill, DSP_FILL_FAILED);
    if (fill == DSP_FILL_NOTHING)
        return 0;
    size_t bytes;
    uint8_t *text = dsp_frame_end(&world.frame, &bytes);
    assert_true(bytes <= FRAME_BYTES);
    uint8_t *copy = malloc(bytes + 1);
    memcpy(copy, text, bytes);
    copy[bytes] = 0;
    receiver->frame = cmq_span_make(copy, bytes);
    return world.frame.messages;
}

/* The socket takes the frame: counts its messages. */
static void take_frame(unsigned i)
{
    struct receiver *receiver = &world.receivers[i];
    uint64_t last_seq = 0, seq, index, last_index = 0;
    char *next = (char *)(uintptr_t)receiver->frame.data;
    assert_int_equal(*next++, '[');
    do {
        assert_int_equal(*next++, '"');
        seq = strtoull(next, &next, 10);
        assert_int_equal(*next++, '.');
        index = strtoull(next, &next, 10);
        assert_int_equal(*next++, '"');
        assert_true(world.got[seq] != NULL && index < world.counts[seq]);
        assert_true(seq != last_seq || index > last_index);
        world.got[seq][index]++;
        last_seq = seq;
        last_index = index;
    } while (*next++ == ',');
    assert_int_equal(next[-1], ']');
    free((void *)(uintptr_t)receiver->frame.data);
    receiver->frame = (struct cmq_span){0};
    dsp_share_delivered(&world.group, &receiver->share);
}

static uint32_t receive_all(unsigned i)
{
    uint32_t messages = 0, sent;
    while ((sent = send_frame(i)) > 0) {
        take_frame(i);
        messages += sent;
    }
    return messages;
}

/* Every message that is for delivery arrived, the others did not. */
static void assert_arrived(uint64_t seq, bool exactly_once)
{
    for (uint32_t i = 0; i < world.counts[seq]; i++) {
        bool wanted = i % (world.segment[seq] + world.gap[seq]) >= world.gap[seq];
        if (exactly_once || !wanted)
            assert_int_equal(world.got[seq][i], wanted ? 1 : 0);
        else
            assert_true(world.got[seq][i] >= 1);
    }
}

static uint64_t counter(enum cmq_counter which)
{
    return fake_delivery_ring_counter(world.ring, which);
}

/* ---- one client ---- */

static void nothing_is_claimed_before_a_client_can_take_it(void **state)
{
    (void)state;
    uint64_t seq = add_record(1, 10, 0);
    assert_int_equal(fake_delivery_ring_state(world.ring, seq), FAKE_FREE);
    join(0);
    assert_int_equal(fake_delivery_ring_state(world.ring, seq), FAKE_FREE);
    assert_int_equal(send_frame(0), 10);
    assert_int_equal(fake_delivery_ring_state(world.ring, seq), FAKE_CLAIMED);
    assert_int_equal(counter(CMQ_COUNT_BACKLOG), 1);
}

static void record_is_done_only_when_the_socket_took_its_last_frame(void **state)
{
    (void)state;
    uint64_t seq = add_record(1, 10, 0);
    join(0);
    assert_int_equal(send_frame(0), 10);
    assert_int_equal(fake_delivery_ring_state(world.ring, seq), FAKE_CLAIMED);
    take_frame(0);
    assert_int_equal(fake_delivery_ring_state(world.ring, seq), FAKE_DONE);
    assert_arrived(seq, true);
    assert_int_equal(counter(CMQ_COUNT_RECORDS), 1);
    assert_int_equal(counter(CMQ_COUNT_MESSAGES), 10);
    assert_int_equal(counter(CMQ_COUNT_FRAMES), 1);
    assert_int_equal(counter(CMQ_COUNT_BACKLOG), 0);
}

static void many_small_records_share_a_frame(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 16; i++)
        add_record(1, 1, 0);
    join(0);
    assert_int_equal(send_frame(0), 16);
    take_frame(0);
    for (uint64_t seq = 1; seq <= 16; seq++) {
        assert_int_equal(fake_delivery_ring_state(world.ring, seq), FAKE_DONE);
        assert_arrived(seq, true);
    }
    assert_int_equal(counter(CMQ_COUNT_FRAMES), 1);
}

static void huge_record_spans_frames_and_notes_its_progress(void **state)
{
    (void)state;
    uint64_t seq = add_record(1, 5000, 0);
    join(0);
    uint32_t first = send_frame(0);
    assert_true(first > 0 && first < 5000);
    take_frame(0);
    assert_int_equal(fake_delivery_ring_progress(world.ring, seq), first);
    assert_int_equal(receive_all(0), 5000 - first);
    assert_int_equal(fake_delivery_ring_state(world.ring, seq), FAKE_DONE);
    assert_arrived(seq, true);
}

static void frame_ends_at_its_message_limit(void **state)
{
    (void)state;
    dsp_frame_set_limits(&world.frame, FRAME_BYTES, 7);
    uint64_t seq = add_record(1, 10, 0);
    join(0);
    assert_int_equal(send_frame(0), 7);
    take_frame(0);
    assert_int_equal(send_frame(0), 3);
    take_frame(0);
    assert_arrived(seq, true);
}

static void gaps_count_as_delivered(void **state)
{
    (void)state;
    uint64_t seq = add_record(3, 5, 4);
    join(0);
    assert_int_equal(receive_all(0), 15);
    assert_arrived(seq, true);
    assert_int_equal(fake_delivery_ring_state(world.ring, seq), FAKE_DONE);
}

static void record_without_messages_for_this_endpoint_is_done_at_once(void **state)
{
    (void)state;
    uint64_t foreign = add_record(0, 0, 9), next = add_record(1, 2, 0);
    join(0);
    assert_int_equal(receive_all(0), 2);
    assert_int_equal(fake_delivery_ring_state(world.ring, foreign), FAKE_DONE);
    assert_int_equal(fake_delivery_ring_state(world.ring, next), FAKE_DONE);
}

static void void_record_is_skipped_and_counted(void **state)
{
    (void)state;
    uint64_t seq = fake_delivery_ring_add_void(world.ring);
    world.got[seq] = calloc(1, sizeof(uint32_t));
    uint64_t next = add_record(1, 3, 0);
    join(0);
    assert_int_equal(receive_all(0), 3);
    assert_int_equal(fake_delivery_ring_state(world.ring, seq), FAKE_DONE);
    assert_int_equal(counter(CMQ_COUNT_VOIDS), 1);
    assert_arrived(next, true);
}

static uint64_t add_raw(const char *messages, size_t bytes, uint32_t count)
{
    uint64_t seq = 1;
    while (world.got[seq] != NULL)
        seq++;
    struct payload *payload = calloc(1, sizeof(*payload) + bytes);
    payload->segment_count = 1;
    payload->message_count = count;
    payload->segments[0] = (struct dsp_segment){.count = count, .bytes = bytes};
    memcpy(payload->messages, messages, bytes);
    world.got[seq] = calloc(count, sizeof(uint32_t));
    world.counts[seq] = count;
    fake_delivery_ring_add(world.ring, payload, sizeof(*payload) + bytes, count);
    free(payload);
    return seq;
}

static void unreadable_rest_of_a_record_is_counted_and_does_not_stop_what_follows(void **state)
{
    (void)state;
    uint64_t bad = add_raw("\xa3"
                           "1.0\xc1zz",
                           7, 4);
    uint64_t good = add_record(1, 2, 0);
    join(0);
    assert_int_equal(receive_all(0), 3);
    assert_int_equal(counter(CMQ_COUNT_UNDELIVERABLE), 3);
    assert_int_equal(fake_delivery_ring_state(world.ring, bad), FAKE_DONE);
    assert_int_equal(fake_delivery_ring_state(world.ring, good), FAKE_DONE);
}

static void message_that_is_not_text_is_counted_and_left_out(void **state)
{
    (void)state;
    uint64_t seq = add_raw("\xc4\x01z", 3, 1);
    join(0);
    assert_int_equal(receive_all(0), 0);
    assert_int_equal(counter(CMQ_COUNT_UNDELIVERABLE), 1);
    assert_int_equal(counter(CMQ_COUNT_MESSAGES), 0);
    assert_int_equal(fake_delivery_ring_state(world.ring, seq), FAKE_DONE);
}

static void failure_to_open_is_reported_and_gives_the_record_back(void **state)
{
    (void)state;
    uint64_t seq = add_record(1, 2, 0);
    join(0);
    open_result = CMQ_ERR_NOMEM;
    enum cmq_err err = CMQ_OK;
    assert_int_equal(dsp_share_fill(&world.group, &world.receivers[0].share, &world.frame, &err),
                     DSP_FILL_FAILED);
    assert_int_equal(err, CMQ_ERR_NOMEM);
    assert_int_equal(fake_delivery_ring_state(world.ring, seq), FAKE_FREE);
}

/* ---- several clients ---- */

static void two_clients_share_a_record_and_progress_waits_for_the_first_part(void **state)
{
    (void)state;
    uint64_t seq = add_record(1, 700, 0);
    join(0);
    join(1);
    uint32_t first = send_frame(0), second = send_frame(1);
    assert_true(first > 0 && second > 0 && first + second <= 700);
    take_frame(1);
    assert_int_equal(fake_delivery_ring_progress(world.ring, seq), 0);
    take_frame(0);
    assert_int_equal(fake_delivery_ring_progress(world.ring, seq),
                     first + second == 700 ? 0 : first + second);
    receive_all(1);
    assert_arrived(seq, true);
    assert_int_equal(fake_delivery_ring_state(world.ring, seq), FAKE_DONE);
}

static void dying_clients_messages_come_first_to_the_next_client_and_in_order(void **state)
{
    (void)state;
    dsp_frame_set_limits(&world.frame, FRAME_BYTES, 4);
    uint64_t seq = add_record(1, 16, 0);
    join(0);
    join(1);
    join(2);
    send_frame(0);
    send_frame(1);
    leave(1);
    leave(0);
    assert_int_equal(send_frame(2), 4);
    assert_memory_equal(world.receivers[2].frame.data, "[\"1.0\",", 7);
    take_frame(2);
    assert_int_equal(send_frame(2), 4);
    assert_memory_equal(world.receivers[2].frame.data, "[\"1.4\",", 7);
    take_frame(2);
    assert_int_equal(counter(CMQ_COUNT_REDELIVERED), 8);
    assert_int_equal(receive_all(2), 8);
    assert_int_equal(counter(CMQ_COUNT_REDELIVERED), 8);
    assert_arrived(seq, true);
}

static void last_client_releases_records_with_their_progress(void **state)
{
    (void)state;
    dsp_frame_set_limits(&world.frame, FRAME_BYTES, 4);
    uint64_t seq = add_record(1, 10, 0);
    join(0);
    assert_int_equal(send_frame(0), 4);
    take_frame(0);
    assert_int_equal(send_frame(0), 4);
    leave(0);
    assert_int_equal(fake_delivery_ring_state(world.ring, seq), FAKE_FREE);
    assert_int_equal(fake_delivery_ring_progress(world.ring, seq), 4);
    assert_int_equal(counter(CMQ_COUNT_BACKLOG), 0);
    join(1);
    assert_int_equal(receive_all(1), 6);
    assert_arrived(seq, true);
}

static void progress_inside_a_gap_or_a_segment_is_where_the_next_dispatcher_goes_on(void **state)
{
    (void)state;
    dsp_frame_set_limits(&world.frame, FRAME_BYTES, 3);
    uint64_t seq = add_record(3, 5, 2); /* 2 gap, 5, 2 gap, 5, 2 gap, 5, 2 gap */
    for (uint32_t taken = 0; taken < 15;) {
        join(0);
        uint32_t sent = send_frame(0);
        assert_true(sent > 0);
        take_frame(0);
        taken += sent;
        leave(0);
    }
    assert_arrived(seq, true);
    assert_int_equal(fake_delivery_ring_state(world.ring, seq), FAKE_DONE);
}

/* The former dispatcher could open what this one cannot. */
static void progress_that_ends_inside_a_gap_is_taken_over(void **state)
{
    (void)state;
    uint64_t seq = add_record(1, 5, 4);
    fake_delivery_ring_set_progress(world.ring, seq, 2);
    join(0);
    assert_int_equal(receive_all(0), 5);
    assert_int_equal(counter(CMQ_COUNT_REDELIVERED), 5);
    assert_arrived(seq, true);
    assert_int_equal(fake_delivery_ring_state(world.ring, seq), FAKE_DONE);
}

static void progress_beyond_the_record_means_that_it_is_done(void **state)
{
    (void)state;
    uint64_t seq = add_record(1, 5, 0);
    fake_delivery_ring_set_progress(world.ring, seq, 99);
    join(0);
    assert_int_equal(receive_all(0), 0);
    assert_int_equal(fake_delivery_ring_state(world.ring, seq), FAKE_DONE);
}

static void lost_record_is_dropped_and_not_offered_any_more(void **state)
{
    (void)state;
    dsp_frame_set_limits(&world.frame, FRAME_BYTES, 4);
    uint64_t lost = add_record(1, 12, 0), next = add_record(1, 2, 0);
    join(0);
    join(1);
    send_frame(0);
    send_frame(1);
    fake_delivery_ring_steal(world.ring, lost);
    take_frame(0);
    take_frame(1);
    assert_int_equal(receive_all(0), 2);
    assert_arrived(next, true);
    assert_int_equal(world.got[lost][8], 0);
    assert_int_equal(counter(CMQ_COUNT_BACKLOG), 0);
}

/* ---- bounds, waiting, drain ---- */

static void records_in_hand_are_bounded_and_delivery_makes_room(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 300; i++)
        add_record(1, 1, 0);
    for (unsigned i = 0; i < CLIENTS; i++) {
        join(i);
        send_frame(i);
    }
    assert_int_equal(fake_delivery_ring_claimed_max(world.ring), limits.open_records_max);
    assert_int_equal(dsp_share_want(&world.group), DSP_WANT_DELIVERY);
    take_frame(0);
    assert_int_equal(dsp_share_want(&world.group), DSP_WANT_CLIENT);
}

static void bytes_in_hand_are_bounded_but_one_record_always_opens(void **state)
{
    (void)state;
    world.group.limits.open_bytes_max = 10;
    add_record(1, 20, 0);
    add_record(1, 1, 0);
    join(0);
    join(1);
    assert_int_equal(send_frame(0), 20);
    assert_int_equal(send_frame(1), 0);
    assert_int_equal(dsp_share_want(&world.group), DSP_WANT_DELIVERY);
    take_frame(0);
    assert_int_equal(send_frame(1), 1);
}

static void group_waits_for_the_ring_only_when_it_said_that_it_has_nothing(void **state)
{
    (void)state;
    join(0);
    assert_int_equal(send_frame(0), 0);
    assert_int_equal(dsp_share_want(&world.group), DSP_WANT_RING);
    add_record(1, 1, 0);
    dsp_share_ring_rang(&world.group);
    assert_int_equal(dsp_share_want(&world.group), DSP_WANT_CLIENT);
    assert_int_equal(send_frame(0), 1);
    assert_int_equal(dsp_share_want(&world.group), DSP_WANT_RING);
}

static void drain_finishes_flights_and_releases_the_rest(void **state)
{
    (void)state;
    dsp_frame_set_limits(&world.frame, FRAME_BYTES, 4);
    uint64_t half = add_record(1, 10, 0), untouched = add_record(1, 3, 0);
    join(0);
    join(1);
    send_frame(0);
    send_frame(1);
    dsp_share_drain(&world.group);
    assert_int_equal(fake_delivery_ring_state(world.ring, half), FAKE_CLAIMED);
    take_frame(0);
    assert_int_equal(fake_delivery_ring_progress(world.ring, half), 4);
    leave(1);
    assert_int_equal(fake_delivery_ring_state(world.ring, half), FAKE_FREE);
    assert_int_equal(fake_delivery_ring_state(world.ring, untouched), FAKE_FREE);
    assert_int_equal(send_frame(0), 0);
    assert_int_equal(dsp_share_want(&world.group), DSP_WANT_DELIVERY);
}

/* ---- simulation ---- */

static uint32_t pick(uint32_t bound)
{
    world.random ^= world.random << 13;
    world.random ^= world.random >> 7;
    world.random ^= world.random << 17;
    return (uint32_t)(world.random >> 33) % bound;
}

static void add_random_record(void)
{
    uint32_t kind = pick(10);
    if (kind == 0)
        add_record(1, 400 + pick(2000), 0);
    else if (kind == 1)
        add_record(1 + pick(3), 1 + pick(30), pick(5));
    else
        add_record(1, 1 + pick(kind == 2 ? 100 : 2), 0);
}

enum { SEEDS = 40 };

enum death { NO_DEATHS = 0, CLIENTS_DIE = 1, ALL_CLIENTS_DIE = 2, DISPATCHERS_DIE = 4 };

static void step(unsigned deaths)
{
    unsigned i = pick(CLIENTS);
    struct receiver *receiver = &world.receivers[i];
    uint32_t what = pick(100);
    if (what < 20)
        add_random_record();
    else if (!receiver->joined)
        join(i);
    else if (receiver->frame.data != NULL && what < 70)
        take_frame(i);
    else if (what < 90 && receiver->frame.data == NULL)
        send_frame(i);
    else if ((deaths & CLIENTS_DIE) && what >= 95 && ((deaths & ALL_CLIENTS_DIE) || i != 0))
        leave(i);
    else if ((deaths & DISPATCHERS_DIE) && what == 94) {
        fake_delivery_ring_kill(world.ring);
        for (unsigned j = 0; j < CLIENTS; j++)
            if (world.receivers[j].joined)
                leave(j);
        dsp_share_fini(&world.group);
        dsp_share_init(&world.group, world.ring, NULL, &limits);
    }
}

static void run_world(uint64_t seed, unsigned deaths)
{
    world.random = seed * 0x9e3779b97f4a7c15ull + 1;
    join(0);
    for (unsigned i = 0; i < 1500; i++)
        step(deaths);
    if (!world.receivers[0].joined)
        join(0);
    for (unsigned i = 1; i < CLIENTS; i++)
        if (world.receivers[i].joined)
            leave(i);
    if (world.receivers[0].frame.data != NULL)
        take_frame(0);
    receive_all(0);
}

static void simulate(unsigned deaths, bool exactly_once)
{
    void *none = NULL;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        teardown(&none);
        assert_int_equal(setup(&none), 0);
        run_world(seed, deaths);
        for (uint64_t seq = 1; world.got[seq] != NULL; seq++) {
            assert_int_equal(fake_delivery_ring_state(world.ring, seq), FAKE_DONE);
            assert_arrived(seq, exactly_once);
        }
        assert_int_equal(counter(CMQ_COUNT_BACKLOG), 0);
    }
}

static void random_clients_get_everything_once(void **state)
{
    (void)state;
    simulate(NO_DEATHS, true);
}

/* What a dead client had not taken was not delivered, so nothing comes twice either. */
static void random_clients_that_die_lose_and_repeat_nothing_while_one_stays(void **state)
{
    (void)state;
    simulate(CLIENTS_DIE, true);
}

static void random_clients_that_all_die_lose_nothing(void **state)
{
    (void)state;
    simulate(CLIENTS_DIE | ALL_CLIENTS_DIE, false);
}

static void random_dispatchers_that_die_lose_nothing(void **state)
{
    (void)state;
    simulate(CLIENTS_DIE | ALL_CLIENTS_DIE | DISPATCHERS_DIE, false);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_claimed_before_a_client_can_take_it),
        TEST(record_is_done_only_when_the_socket_took_its_last_frame),
        TEST(many_small_records_share_a_frame),
        TEST(huge_record_spans_frames_and_notes_its_progress),
        TEST(frame_ends_at_its_message_limit),
        TEST(gaps_count_as_delivered),
        TEST(record_without_messages_for_this_endpoint_is_done_at_once),
        TEST(void_record_is_skipped_and_counted),
        TEST(unreadable_rest_of_a_record_is_counted_and_does_not_stop_what_follows),
        TEST(message_that_is_not_text_is_counted_and_left_out),
        TEST(failure_to_open_is_reported_and_gives_the_record_back),
        TEST(two_clients_share_a_record_and_progress_waits_for_the_first_part),
        TEST(dying_clients_messages_come_first_to_the_next_client_and_in_order),
        TEST(last_client_releases_records_with_their_progress),
        TEST(progress_inside_a_gap_or_a_segment_is_where_the_next_dispatcher_goes_on),
        TEST(progress_that_ends_inside_a_gap_is_taken_over),
        TEST(progress_beyond_the_record_means_that_it_is_done),
        TEST(lost_record_is_dropped_and_not_offered_any_more),
        TEST(records_in_hand_are_bounded_and_delivery_makes_room),
        TEST(bytes_in_hand_are_bounded_but_one_record_always_opens),
        TEST(group_waits_for_the_ring_only_when_it_said_that_it_has_nothing),
        TEST(drain_finishes_flights_and_releases_the_rest),
        TEST(random_clients_get_everything_once),
        TEST(random_clients_that_die_lose_and_repeat_nothing_while_one_stays),
        TEST(random_clients_that_all_die_lose_nothing),
        TEST(random_dispatchers_that_die_lose_nothing),
    };
    return cmocka_run_group_tests_name("dsp_group", tests, NULL, NULL);
}
