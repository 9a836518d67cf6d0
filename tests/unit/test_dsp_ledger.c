#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/cmq_clock.h"
#include "dispatcher/dsp_ledger.h"

enum { A = 11, B = 12, C = 13 };

static char directory[64];
static uint64_t dead_owners;

static bool is_alive(void *context, uint64_t owner)
{
    (void)context;
    return (dead_owners >> owner & 1) == 0;
}

static int setup(void **state)
{
    (void)state;
    (void)snprintf(directory, sizeof directory, "/tmp/cmq-ledger-XXXXXX");
    dead_owners = 0;
    return mkdtemp(directory) == NULL;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    (void)snprintf(command, sizeof command, "%s/groups", directory);
    for (int i = 0; i < 2; i++, (void)snprintf(command, sizeof command, "%s", directory)) {
        static const char *names[] = {"acks.mdb",       "acks.mdb-lock",
                                      "claims-one.mdb", "claims-one.mdb-lock",
                                      "claims-two.mdb", "claims-two.mdb-lock"};
        for (size_t n = 0; n < CMQ_COUNT_OF(names); n++) {
            char path[256];
            (void)snprintf(path, sizeof path, "%s/%s", command, names[n]);
            (void)unlink(path);
        }
        (void)rmdir(command);
    }
    return 0;
}

static struct dsp_ledger *open_as(uint64_t owner, struct dsp_ledger *beside, const char *boot_id)
{
    const struct dsp_ledger_setup with = {.directory = directory,
                                          .map_bytes = 16u << 20,
                                          .owner = owner,
                                          .is_alive = is_alive,
                                          .boot_id = boot_id,
                                          .beside = beside};
    struct dsp_ledger *ledger = NULL;
    struct cmq_reason reason = {{0}};
    enum cmq_err err = dsp_ledger_open(&with, &ledger, &reason);
    if (err != CMQ_OK)
        fail_msg("%s", reason.text);
    return ledger;
}

static struct cmq_span span(const char *text)
{
    return cmq_span_make(text, strlen(text));
}

static struct dsp_ledger_group group_of(struct dsp_ledger *ledger, const char *name, uint64_t start)
{
    struct dsp_ledger_group group = {0};
    assert_int_equal(dsp_ledger_group(ledger, name, span("jobs"), start, 0, &group), CMQ_OK);
    return group;
}

static struct dsp_claim claim(struct dsp_ledger *ledger, const struct dsp_ledger_group *group, uint64_t end,
                              uint32_t max)
{
    struct dsp_claim got = {0};
    enum cmq_err err = dsp_ledger_claim(ledger, group, 1, end, max, &got);
    if (err == CMQ_ERR_AGAIN)
        return (struct dsp_claim){0};
    assert_int_equal(err, CMQ_OK);
    assert_true(got.from < got.to && got.to <= end);
    return got;
}

#define assert_claim(got, first, behind)         \
    do {                                         \
        struct dsp_claim claim_got = (got);      \
        assert_int_equal(claim_got.from, first); \
        assert_int_equal(claim_got.to, behind);  \
    } while (0)
#define assert_nothing(got) assert_claim(got, 0, 0)

static enum cmq_err done(struct dsp_ledger *ledger, const struct dsp_ledger_group *group, uint64_t from,
                         uint64_t to)
{
    const struct dsp_ledger_change change = {.group = group->id, .from = from, .to = to};
    return dsp_ledger_commit(ledger, &change, 1);
}

static struct dsp_ledger_state state_of(struct dsp_ledger *ledger)
{
    struct dsp_ledger_state state;
    assert_int_equal(dsp_ledger_state(ledger, 0, &state), CMQ_OK);
    return state;
}

/* ---- groups ---- */

static void a_group_keeps_its_topic_and_start_and_refuses_another(void **unused)
{
    (void)unused;
    struct dsp_ledger *ledger = open_as(A, NULL, "one");
    struct dsp_ledger_group first, again, other;
    assert_int_equal(dsp_ledger_group(ledger, "w", span(""), 1, 0, &first), CMQ_ERR_NOT_FOUND);
    assert_int_equal(dsp_ledger_group(ledger, "w", span("jobs.*"), 7, 3, &first), CMQ_OK);
    dsp_ledger_close(ledger);
    ledger = open_as(B, NULL, "one");
    assert_int_equal(dsp_ledger_group(ledger, "w", span("jobs.*"), 99, 0, &again), CMQ_OK);
    assert_int_equal(again.id, first.id);
    assert_int_equal(again.start_seq, 7);
    assert_int_equal(again.start_index, 3);
    assert_int_equal(dsp_ledger_group(ledger, "w", span("jobs"), 1, 0, &again), CMQ_ERR_EXISTS);
    assert_string_equal(again.topic, "jobs.*");
    assert_int_equal(dsp_ledger_group(ledger, "w", span(""), 1, 0, &again), CMQ_OK);
    assert_string_equal(again.topic, "jobs.*");
    assert_int_equal(dsp_ledger_group(ledger, "format", span("jobs"), 1, 0, &other), CMQ_OK);
    assert_int_not_equal(other.id, first.id);
    struct dsp_ledger_state state;
    assert_int_equal(dsp_ledger_state(ledger, 1, &state), CMQ_OK);
    assert_int_equal(dsp_ledger_state(ledger, 2, &state), CMQ_ERR_NOT_FOUND);
    dsp_ledger_close(ledger);
}

/* ---- claims ---- */

static void owners_get_different_records_in_order(void **unused)
{
    (void)unused;
    struct dsp_ledger *a = open_as(A, NULL, "one"), *b = open_as(B, a, NULL);
    struct dsp_ledger_group group = group_of(a, "w", 1);
    assert_claim(claim(a, &group, 10, 3), 1, 4);
    assert_claim(claim(b, &group, 10, 3), 4, 7);
    assert_claim(claim(a, &group, 10, 3), 7, 10);
    assert_nothing(claim(b, &group, 10, 3));
    assert_int_equal(state_of(a).claimed, 9);
    struct dsp_ledger_group second = group_of(a, "v", 5);
    assert_claim(claim(b, &second, 10, 100), 5, 10);
    dsp_ledger_close(b);
    dsp_ledger_close(a);
}

static void what_is_given_up_is_claimed_next_and_is_no_loss(void **unused)
{
    (void)unused;
    struct dsp_ledger *a = open_as(A, NULL, "one"), *b = open_as(B, a, NULL);
    struct dsp_ledger_group group = group_of(a, "w", 1);
    assert_claim(claim(a, &group, 100, 20), 1, 21);
    assert_int_equal(dsp_ledger_give_up(a, group.id, 5, 8, 6, 17), CMQ_OK);
    assert_int_equal(dsp_ledger_give_up(a, group.id, 8, 10, 0, 0), CMQ_OK);
    struct dsp_claim got = claim(b, &group, 100, 2);
    assert_claim(got, 5, 7);
    assert_int_equal(got.noted_seq, 6);
    assert_int_equal(got.noted_index, 17);
    assert_int_equal(got.losses, 0);
    assert_claim(claim(a, &group, 100, 64), 7, 10);
    assert_claim(claim(a, &group, 100, 64), 21, 85);
    assert_int_equal(dsp_ledger_give_up(b, group.id, 1, 100, 0, 0), CMQ_OK); /* only what is its own */
    got = claim(a, &group, 100, 64);
    assert_claim(got, 5, 7);
    assert_int_equal(got.losses, 0);
    assert_claim(claim(b, &group, 100, 64), 85, 100);
    dsp_ledger_close(b);
    dsp_ledger_close(a);
}

static void claims_of_the_dead_are_taken_over_behind_what_they_noted(void **unused)
{
    (void)unused;
    struct dsp_ledger *a = open_as(A, NULL, "one"), *b = open_as(B, a, NULL), *c = open_as(C, a, NULL);
    struct dsp_ledger_group group = group_of(a, "w", 1);
    assert_claim(claim(a, &group, 50, 10), 1, 11);
    assert_claim(claim(c, &group, 50, 10), 11, 21);
    assert_int_equal(dsp_ledger_note(a, group.id, 4, 9), CMQ_OK);
    assert_int_equal(dsp_ledger_note(a, group.id, 4, 3), CMQ_OK); /* never back */
    assert_int_equal(dsp_ledger_note(a, group.id, 12, 0), CMQ_ERR_LOST);
    assert_int_equal(dsp_ledger_note(c, group.id, 11, 0), CMQ_ERR_LOST); /* record 10 is not its own */
    assert_int_equal(dsp_ledger_note(c, group.id, 21, 0), CMQ_OK);
    assert_claim(claim(b, &group, 21, 64), 0, 0);
    dead_owners = 1u << A;
    struct dsp_claim got = claim(b, &group, 21, 6);
    assert_claim(got, 1, 7);
    assert_int_equal(got.noted_seq, 4);
    assert_int_equal(got.noted_index, 9);
    assert_int_equal(got.losses, 1);
    assert_claim(claim(b, &group, 21, 64), 7, 11);
    assert_nothing(claim(b, &group, 21, 64));
    assert_int_equal(dsp_ledger_note(a, group.id, 5, 0), CMQ_ERR_LOST);
    dead_owners |= 1u << C;
    got = claim(b, &group, 21, 64);
    assert_claim(got, 11, 21);
    assert_int_equal(got.noted_seq, 21);
    dsp_ledger_close(c);
    dsp_ledger_close(b);
    dsp_ledger_close(a);
}

static void records_below_the_log_are_not_claimed(void **unused)
{
    (void)unused;
    struct dsp_ledger *a = open_as(A, NULL, "one"), *b = open_as(B, a, NULL);
    struct dsp_ledger_group group = group_of(a, "w", 1);
    struct dsp_claim got;
    assert_claim(claim(a, &group, 100, 10), 1, 11);
    dead_owners = 1u << A;
    assert_int_equal(dsp_ledger_claim(b, &group, 8, 100, 64, &got), CMQ_OK);
    assert_claim(got, 8, 11);
    assert_int_equal(dsp_ledger_claim(b, &group, 50, 100, 10, &got), CMQ_OK);
    assert_claim(got, 50, 60);
    dsp_ledger_close(b);
    dsp_ledger_close(a);
}

/* ---- done ---- */

static void done_ranges_merge_and_are_never_claimed_again(void **unused)
{
    (void)unused;
    struct dsp_ledger *a = open_as(A, NULL, "one");
    struct dsp_ledger_group group = group_of(a, "w", 1);
    assert_claim(claim(a, &group, 100, 64), 1, 65);
    assert_int_equal(done(a, &group, 10, 20), CMQ_OK);
    assert_int_equal(done(a, &group, 30, 40), CMQ_OK);
    assert_int_equal(state_of(a).floor, 1);
    assert_int_equal(done(a, &group, 1, 10), CMQ_OK);
    assert_int_equal(state_of(a).floor, 20);
    assert_int_equal(state_of(a).claimed, 45);
    dsp_ledger_close(a); /* gives up the rest */
    a = open_as(B, NULL, "two");
    assert_claim(claim(a, &group, 45, 64), 20, 30);
    assert_claim(claim(a, &group, 45, 64), 40, 45);
    assert_int_equal(done(a, &group, 20, 30), CMQ_OK);
    assert_int_equal(state_of(a).floor, 40);
    assert_int_equal(done(a, &group, 38, 45), CMQ_OK);
    assert_int_equal(state_of(a).floor, 45);
    assert_int_equal(state_of(a).claimed, 0);
    dsp_ledger_close(a);
}

static void holes_of_a_dead_claim_are_not_taken_over(void **unused)
{
    (void)unused;
    struct dsp_ledger *a = open_as(A, NULL, "one"), *b = open_as(B, a, NULL);
    struct dsp_ledger_group group = group_of(a, "w", 1);
    assert_claim(claim(a, &group, 30, 29), 1, 30);
    assert_int_equal(done(a, &group, 5, 10), CMQ_OK);
    assert_int_equal(done(a, &group, 20, 30), CMQ_OK);
    dead_owners = 1u << A;
    assert_claim(claim(b, &group, 30, 64), 1, 5);
    assert_claim(claim(b, &group, 30, 64), 10, 20);
    assert_nothing(claim(b, &group, 30, 64));
    dsp_ledger_close(b);
    dsp_ledger_close(a);
}

static void acked_messages_are_kept_by_chunks_until_their_record_is_done(void **unused)
{
    (void)unused;
    struct dsp_ledger *a = open_as(A, NULL, "one");
    struct dsp_ledger_group group = group_of(a, "w", 1);
    const struct cmq_ledger_acked first[] = {{0, 10, 0}, {20, 1, 3}, {CMQ_LEDGER_ACKED_CHUNK, 5, 0}},
                                  second[] = {{0, 30, 0}};
    struct cmq_ledger_acked got[8];
    struct dsp_ledger_change change = {
        .group = group.id, .from = 7, .chunk_first = 0, .chunk_count = 2, .acked = first, .acked_count = 3};
    assert_int_equal(dsp_ledger_commit(a, &change, 1), CMQ_OK);
    assert_int_equal(dsp_ledger_acked(a, group.id, 7, got, 8), 3);
    assert_memory_equal(got, first, sizeof first);
    change.chunk_count = 1;
    change.acked = second;
    change.acked_count = 1;
    assert_int_equal(dsp_ledger_commit(a, &change, 1), CMQ_OK);
    assert_int_equal(dsp_ledger_acked(a, group.id, 7, got, 8), 2);
    assert_memory_equal(&got[0], &second[0], sizeof second[0]);
    assert_memory_equal(&got[1], &first[2], sizeof first[2]);
    assert_int_equal(dsp_ledger_acked(a, group.id, 6, got, 8), 0);
    assert_int_equal(dsp_ledger_acked(a, group.id, 8, got, 8), 0);
    assert_int_equal(done(a, &group, 6, 8), CMQ_OK);
    assert_int_equal(dsp_ledger_acked(a, group.id, 7, got, 8), 0);
    dsp_ledger_close(a);
}

/* ---- deaths ---- */

#ifdef CMQ_CRASH_POINTS
/* A child does that, and dies at the label. */
static void die_at(const char *label, unsigned visits)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char plan[64];
        (void)snprintf(plan, sizeof plan, "%s:%u", label, visits);
        (void)setenv("CMQ_CRASH", plan, 1);
        struct dsp_ledger *ledger = open_as(A, NULL, "one");
        struct dsp_ledger_group group = group_of(ledger, "w", 1);
        (void)claim(ledger, &group, 11, 5);
        (void)claim(ledger, &group, 11, 5);
        if (dsp_ledger_note(ledger, group.id, 3, 2) != CMQ_OK)
            _exit(2);
        (void)done(ledger, &group, 1, 3);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void a_death_after_any_step_leaves_each_record_done_or_free(void **unused)
{
    (void)unused;
    static const struct {
        const char *label;
        uint64_t first, behind, noted;
    } cases[] = {{"ledger.claimed", 1, 6, 0},
                 {"ledger.noted", 1, 6, 3},
                 {"ledger.committed", 3, 6, 3},
                 {"ledger.unclaimed", 3, 6, 3}};
    for (size_t i = 0; i < CMQ_COUNT_OF(cases); i++) {
        die_at(cases[i].label, 1);
        dead_owners = 1u << A;
        struct dsp_ledger *b = open_as(B, NULL, "one");
        struct dsp_ledger_group group = group_of(b, "w", 1);
        struct dsp_claim got = claim(b, &group, 11, 64);
        assert_claim(got, cases[i].first, cases[i].behind);
        assert_int_equal(got.noted_seq, cases[i].noted);
        if (cases[i].behind < 11)
            assert_claim(claim(b, &group, 11, 64), cases[i].behind, 11);
        assert_nothing(claim(b, &group, 11, 64));
        dsp_ledger_close(b);
        assert_int_equal(teardown(NULL), 0);
        assert_int_equal(mkdir(directory, 0700), 0);
    }
}
#endif

static void another_boot_forgets_claims_and_keeps_what_is_done(void **unused)
{
    (void)unused;
    struct dsp_ledger *a = open_as(A, NULL, "one");
    struct dsp_ledger_group group = group_of(a, "w", 1);
    assert_claim(claim(a, &group, 50, 20), 1, 21);
    assert_int_equal(done(a, &group, 1, 4), CMQ_OK);
    dsp_ledger_abandon(a);
    a = open_as(B, NULL, "one");
    assert_claim(claim(a, &group, 50, 64), 21, 50); /* A lives, as far as anybody knows */
    dsp_ledger_abandon(a);
    a = open_as(C, NULL, "two");
    struct dsp_claim got = claim(a, &group, 50, 64);
    assert_claim(got, 4, 50);
    assert_int_equal(got.losses, 0);
    dsp_ledger_close(a);
}

/* ---- the world ---- */

static void a_full_table_says_so_and_loses_nothing(void **unused)
{
    (void)unused;
    const struct dsp_ledger_setup with = {
        .directory = directory, .map_bytes = 1u << 20, .owner = A, .is_alive = is_alive, .boot_id = "one"};
    struct dsp_ledger *ledger = NULL;
    assert_int_equal(dsp_ledger_open(&with, &ledger, NULL), CMQ_OK);
    struct dsp_ledger_group group = group_of(ledger, "w", 1);
    uint64_t seq = 1;
    enum cmq_err err;
    while ((err = done(ledger, &group, seq, seq + 1)) == CMQ_OK && seq < 200000) {
        struct dsp_ledger_change changes[64];
        for (size_t i = 0; i < 64; i++)
            changes[i] =
                (struct dsp_ledger_change){.group = group.id, .from = seq + 2 * i, .to = seq + 2 * i + 1};
        if ((err = dsp_ledger_commit(ledger, changes, 64)) != CMQ_OK)
            break;
        seq += 128;
    }
    assert_int_equal(err, CMQ_ERR_FULL);
    assert_int_equal(state_of(ledger).floor, 2);
    dsp_ledger_close(ledger);
    ledger = open_as(B, NULL, "one"); /* with more room */
    assert_int_equal(state_of(ledger).floor, 2);
    /* Record seq itself may have been done before the table was full. */
    assert_int_equal(done(ledger, &group, 1, seq + 1), CMQ_OK);
    assert_int_equal(state_of(ledger).floor, seq + 1);
    dsp_ledger_close(ledger);
}

static void a_damaged_table_is_refused_with_the_fix(void **unused)
{
    (void)unused;
    dsp_ledger_close(open_as(A, NULL, "one"));
    const struct dsp_ledger_setup with = {
        .directory = directory, .map_bytes = 1u << 20, .owner = A, .is_alive = is_alive, .boot_id = "one"};
    struct dsp_ledger *ledger = NULL;
    char path[128];
    (void)snprintf(path, sizeof path, "%s/acks.mdb", directory);
    struct stat file;
    assert_int_equal(stat(path, &file), 0);
    for (int cut = 1; cut >= 0; cut--) {
        struct cmq_reason reason = {{0}};
        if (cut) {
            assert_int_equal(truncate(path, file.st_size - 4096), 0);
        } else {
            FILE *out = fopen(path, "r+");
            assert_non_null(out);
            for (int i = 0; i < 8192; i++)
                (void)fputc(0x5a, out);
            (void)fclose(out);
        }
        assert_int_equal(dsp_ledger_open(&with, &ledger, &reason), CMQ_ERR_CORRUPT);
        assert_non_null(strstr(reason.text, "move the directory"));
    }
}

static void a_missing_directory_is_made_but_not_its_parents(void **unused)
{
    (void)unused;
    char path[128];
    struct dsp_ledger_setup with = {
        .directory = path, .map_bytes = 1u << 20, .owner = A, .is_alive = is_alive, .boot_id = "one"};
    struct dsp_ledger *ledger = NULL;
    struct cmq_reason reason = {{0}};
    (void)snprintf(path, sizeof path, "%s/no/groups", directory);
    assert_int_equal(dsp_ledger_open(&with, &ledger, &reason), CMQ_ERR_SYSTEM);
    assert_non_null(strstr(reason.text, "dispatcher.groups_dir"));
    (void)snprintf(path, sizeof path, "%s/groups", directory);
    assert_int_equal(dsp_ledger_open(&with, &ledger, NULL), CMQ_OK);
    dsp_ledger_close(ledger);
}

/* ---- model ---- */

enum { RECORDS = 60, OWNERS = 3 };

struct model {
    uint8_t owner[RECORDS]; /* 0: free, 1..: claimed by, 255: done */
};

static void step(struct dsp_ledger **ledgers, const struct dsp_ledger_group *group, struct model *model)
{
    unsigned who = (unsigned)random() % OWNERS, what = (unsigned)random() % 8;
    uint64_t from = (uint64_t)random() % RECORDS, to = from + 1 + (uint64_t)random() % 6;
    to = cmq_min_u64(to, RECORDS);
    if (what < 4) {
        struct dsp_claim got;
        uint64_t end = from + 1;
        enum cmq_err err = dsp_ledger_claim(ledgers[who], group, 0, end, (uint32_t)(to - from), &got);
        uint64_t lowest = 0;
        while (lowest < end && model->owner[lowest] != 0)
            lowest++;
        assert_int_equal(err == CMQ_OK, lowest < end);
        if (err != CMQ_OK)
            return;
        /* What was free is found in any order only between free rows and new records: never one that is taken. */
        for (uint64_t seq = got.from; seq < got.to; seq++) {
            assert_int_equal(model->owner[seq], 0);
            model->owner[seq] = (uint8_t)(who + 1);
        }
    } else if (what == 4) {
        assert_int_equal(dsp_ledger_give_up(ledgers[who], group->id, from, to, 0, 0), CMQ_OK);
        for (uint64_t seq = from; seq < to; seq++)
            model->owner[seq] = model->owner[seq] == who + 1 ? 0 : model->owner[seq];
    } else if (what < 7) {
        while (to > from && model->owner[from] == who + 1 && model->owner[to - 1] != who + 1)
            to--;
        for (uint64_t seq = from; seq < to; seq++) {
            if (model->owner[seq] != who + 1)
                return;
        }
        assert_int_equal(done(ledgers[who], group, from, to), CMQ_OK);
        memset(model->owner + from, 255, to - from);
    } else { /* dies, and comes back as somebody else would */
        dsp_ledger_close(ledgers[who]);
        ledgers[who] = open_as(A + who, ledgers[(who + 1) % OWNERS], NULL);
        for (unsigned seq = 0; seq < RECORDS; seq++)
            model->owner[seq] = model->owner[seq] == who + 1 ? 0 : model->owner[seq];
    }
}

static void every_record_is_claimed_by_one_until_it_is_done(void **unused)
{
    (void)unused;
    srandom(7);
    struct dsp_ledger *ledgers[OWNERS] = {open_as(A, NULL, "one")};
    for (unsigned i = 1; i < OWNERS; i++)
        ledgers[i] = open_as(A + i, ledgers[0], NULL);
    for (unsigned round = 0; round < 12; round++) {
        char name[16];
        (void)snprintf(name, sizeof name, "g%u", round);
        struct dsp_ledger_group group = group_of(ledgers[0], name, 0);
        struct model model = {{0}};
        for (unsigned i = 0; i < 400; i++)
            step(ledgers, &group, &model);
    }
    for (unsigned i = 0; i < OWNERS; i++)
        dsp_ledger_close(ledgers[i]);
}

static void groups_follow_each_other_by_name_with_how_far_they_are(void **unused)
{
    (void)unused;
    struct dsp_ledger *ledger = open_as(A, NULL, "one");
    struct dsp_ledger_progress progress;
    assert_int_equal(dsp_ledger_next(ledger, "", &progress), CMQ_ERR_NOT_FOUND);
    const struct dsp_ledger_group late = group_of(ledger, "late", 7);
    const struct dsp_ledger_group form = group_of(ledger, "format-of-a-group", 1);
    const struct dsp_ledger_group half = group_of(ledger, "half", 1);
    assert_int_equal(done(ledger, &half, 1, 5), CMQ_OK);
    for (uint64_t seq = 6; seq < 6 + 2 * 10; seq += 2) /* ten records of twenty */
        assert_int_equal(done(ledger, &half, seq, seq + 1), CMQ_OK);
    assert_int_equal(done(ledger, &form, 9, 11), CMQ_OK);
    assert_int_equal(dsp_ledger_next(ledger, "", &progress), CMQ_OK);
    assert_string_equal(progress.name, "format-of-a-group");
    assert_int_equal(progress.floor, 1);
    assert_int_equal(progress.done_above, 2);
    assert_int_equal(dsp_ledger_next(ledger, progress.name, &progress), CMQ_OK);
    assert_string_equal(progress.name, "half");
    assert_string_equal(progress.group.topic, "jobs");
    assert_int_equal(progress.group.id, half.id);
    assert_int_equal(progress.floor, 5);
    assert_int_equal(progress.done_above, 10);
    assert_int_equal(dsp_ledger_next(ledger, "halg", &progress), CMQ_OK); /* there is no such group */
    assert_string_equal(progress.name, "late");
    assert_int_equal(progress.group.id, late.id);
    assert_int_equal(progress.floor, 7);
    assert_int_equal(dsp_ledger_next(ledger, progress.name, &progress), CMQ_ERR_NOT_FOUND);
    dsp_ledger_close(ledger);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_group_keeps_its_topic_and_start_and_refuses_another),
        TEST(owners_get_different_records_in_order),
        TEST(what_is_given_up_is_claimed_next_and_is_no_loss),
        TEST(claims_of_the_dead_are_taken_over_behind_what_they_noted),
        TEST(records_below_the_log_are_not_claimed),
        TEST(done_ranges_merge_and_are_never_claimed_again),
        TEST(holes_of_a_dead_claim_are_not_taken_over),
        TEST(acked_messages_are_kept_by_chunks_until_their_record_is_done),
        TEST(groups_follow_each_other_by_name_with_how_far_they_are),
#ifdef CMQ_CRASH_POINTS
        TEST(a_death_after_any_step_leaves_each_record_done_or_free),
#endif
        TEST(another_boot_forgets_claims_and_keeps_what_is_done),
        TEST(a_full_table_says_so_and_loses_nothing),
        TEST(a_damaged_table_is_refused_with_the_fix),
        TEST(a_missing_directory_is_made_but_not_its_parents),
        TEST(every_record_is_claimed_by_one_until_it_is_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
