/* Unit tests of encryptor/enc_idem: what is known, for how long, and what is left of it after a death. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "encryptor/enc_idem.h"

enum { WINDOW_MS = 1000 };

struct world {
    char parent[64], directory[96];
    struct enc_idem_setup setup;
    struct enc_idem *idem;
    uint64_t applied;
};

static void open_at(struct world *world, uint64_t next_seq)
{
    struct cmq_reason reason = {.text = ""};
    enum cmq_err err = enc_idem_open(&world->setup, next_seq, &world->idem, &world->applied, &reason);
    if (err != CMQ_OK)
        fail_msg("%s: %s", cmq_err_text(err), reason.text);
}

static void close_table(struct world *world)
{
    enc_idem_close(world->idem);
    world->idem = NULL;
}

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    if (world == NULL)
        return -1;
    (void)snprintf(world->parent, sizeof world->parent, "/tmp/cmq-unit-idem-XXXXXX");
    if (mkdtemp(world->parent) == NULL)
        return -1;
    (void)snprintf(world->directory, sizeof world->directory, "%s/ids", world->parent);
    world->setup = (struct enc_idem_setup){
        .directory = world->directory, .boot_id = "boot-1", .window_ms = WINDOW_MS, .entries_max = 100000};
    open_at(world, 1);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    close_table(world);
    enc_idem_discard(&world->setup);
    int failed = rmdir(world->directory) != 0 || rmdir(world->parent) != 0; /* nothing else was left in it */
    free(world);
    return failed;
}

static struct enc_idem_key key_of(const char *topic, const char *id)
{
    return (struct enc_idem_key){.topic = cmq_span_make(topic, strlen(topic)),
                                 .id = cmq_span_make(id, strlen(id))};
}

static void put(struct world *world, const char *id, uint64_t seq, uint32_t index, uint64_t at_ms)
{
    const struct enc_idem_key key = key_of("orders", id);
    struct enc_idem_entry entry = {.seq = seq, .index = index, .count = 1, .stored_at_ms = at_ms};
    memset(entry.digest, (int)seq, sizeof entry.digest);
    assert_int_equal(enc_idem_put(world->idem, &key, &entry), CMQ_OK);
}

/* 0: not known. */
static uint64_t find(struct world *world, const char *id, uint64_t now_ms)
{
    const struct enc_idem_key key = key_of("orders", id);
    struct enc_idem_entry entry;
    enum cmq_err err = enc_idem_find(world->idem, &key, now_ms, &entry);
    if (err == CMQ_ERR_NOT_FOUND)
        return 0;
    assert_int_equal(err, CMQ_OK);
    return entry.seq;
}

static void idem_finds_what_was_put_also_before_the_commit(void **state)
{
    struct world *world = *state;
    const struct enc_idem_key key = key_of("orders", "a");
    struct enc_idem_entry entry = {.seq = 7, .index = 3, .count = 9, .stored_at_ms = 5000}, found = {0};
    memset(entry.digest, 0xab, sizeof entry.digest);
    assert_int_equal(world->applied, 0);
    assert_int_equal(find(world, "a", 5000), 0);
    assert_int_equal(enc_idem_put(world->idem, &key, &entry), CMQ_OK);
    assert_int_equal(enc_idem_find(world->idem, &key, 5000, &found), CMQ_OK);
    assert_int_equal(found.seq, 7);
    assert_int_equal(found.index, 3);
    assert_int_equal(found.count, 9);
    assert_int_equal(found.stored_at_ms, 5000);
    assert_memory_equal(found.digest, entry.digest, sizeof entry.digest);
    assert_int_equal(enc_idem_commit(world->idem, 8), CMQ_OK);
    assert_int_equal(find(world, "a", 5000), 7);
    assert_int_equal(enc_idem_count(world->idem), 1);
}

static void idem_keys_of_other_topics_and_of_requests_are_other_keys(void **state)
{
    struct world *world = *state;
    struct enc_idem_key key = key_of("order", "sa");
    struct enc_idem_entry entry;
    put(world, "a", 1, 0, 5000);
    assert_int_equal(enc_idem_find(world->idem, &key, 5000, &entry), CMQ_ERR_NOT_FOUND);
    key = key_of("orders", "a");
    key.request = true;
    assert_int_equal(enc_idem_find(world->idem, &key, 5000, &entry), CMQ_ERR_NOT_FOUND);
    key.request = false;
    assert_int_equal(enc_idem_find(world->idem, &key, 5000, &entry), CMQ_OK);
}

static void idem_longest_names_fit(void **state)
{
    struct world *world = *state;
    char topic[256] = {0}, id[129] = {0};
    memset(topic, 't', 255);
    memset(id, 'i', 128);
    const struct enc_idem_key key = key_of(topic, id);
    struct enc_idem_entry entry = {.seq = 1, .stored_at_ms = 1}, found;
    assert_int_equal(enc_idem_put(world->idem, &key, &entry), CMQ_OK);
    assert_int_equal(enc_idem_commit(world->idem, 2), CMQ_OK);
    assert_int_equal(enc_idem_find(world->idem, &key, 1, &found), CMQ_OK);
}

static void idem_forgets_after_the_window_and_not_before(void **state)
{
    struct world *world = *state;
    put(world, "a", 1, 0, 5000);
    put(world, "b", 2, 0, 5001);
    assert_int_equal(find(world, "a", 5000 + WINDOW_MS - 1), 1);
    assert_int_equal(find(world, "a", 5000 + WINDOW_MS), 0);
    assert_int_equal(enc_idem_expire(world->idem, 5000 + WINDOW_MS), CMQ_OK);
    assert_int_equal(enc_idem_count(world->idem), 1);
    assert_int_equal(find(world, "b", 5000 + WINDOW_MS), 2);
    assert_int_equal(enc_idem_expire(world->idem, 5001 + WINDOW_MS), CMQ_OK);
    assert_int_equal(enc_idem_count(world->idem), 0);
}

static void idem_clock_that_jumped_makes_no_id_last_for_ever(void **state)
{
    struct world *world = *state;
    put(world, "future", 1, 0, 1000000);
    assert_int_equal(find(world, "future", 1000000 - WINDOW_MS + 1), 1); /* a small step back */
    assert_int_equal(find(world, "future", 5000), 0);
    assert_int_equal(enc_idem_expire(world->idem, 5000), CMQ_OK);
    assert_int_equal(enc_idem_count(world->idem), 0);
}

static void idem_id_used_again_after_its_window_is_not_expired_with_its_old_place(void **state)
{
    struct world *world = *state;
    put(world, "a", 1, 0, 5000);
    put(world, "a", 2, 0, 7000);
    assert_int_equal(enc_idem_expire(world->idem, 7000), CMQ_OK);
    assert_int_equal(find(world, "a", 7000), 2);
    assert_int_equal(enc_idem_count(world->idem), 1);
}

static void idem_expiry_is_bounded_and_goes_on(void **state)
{
    struct world *world = *state;
    char id[16];
    for (unsigned i = 0; i < 1300; i++) {
        (void)snprintf(id, sizeof id, "%u", i);
        put(world, id, 1 + i, 0, 5000);
    }
    assert_int_equal(enc_idem_expire(world->idem, 9000), CMQ_OK);
    uint64_t left = enc_idem_count(world->idem);
    assert_in_range(left, 1, 1299);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(enc_idem_expire(world->idem, 9000), CMQ_OK);
    assert_int_equal(enc_idem_count(world->idem), 0);
}

static void idem_too_many_ids_drop_the_oldest_and_count_it(void **state)
{
    struct world *world = *state;
    close_table(world);
    world->setup.entries_max = 3;
    open_at(world, 1);
    put(world, "a", 1, 0, 5000);
    put(world, "b", 1, 1, 5000);
    put(world, "c", 2, 0, 5000);
    assert_int_equal(enc_idem_dropped(world->idem), 0);
    put(world, "d", 3, 0, 5000);
    assert_int_equal(enc_idem_count(world->idem), 3);
    assert_int_equal(enc_idem_dropped(world->idem), 1);
    assert_int_equal(find(world, "a", 5000), 0);
    assert_int_equal(find(world, "b", 5000), 1);
    assert_int_equal(find(world, "d", 5000), 3);
}

static void idem_remove_takes_back_one_message(void **state)
{
    struct world *world = *state;
    put(world, "a", 1, 0, 5000);
    put(world, "b", 1, 1, 5000);
    assert_int_equal(enc_idem_remove(world->idem, 1, 1), CMQ_OK);
    assert_int_equal(enc_idem_remove(world->idem, 1, 2), CMQ_OK); /* was never there */
    assert_int_equal(find(world, "a", 5000), 1);
    assert_int_equal(find(world, "b", 5000), 0);
    assert_int_equal(enc_idem_count(world->idem), 1);
}

static void idem_abort_and_close_forget_what_was_not_committed(void **state)
{
    struct world *world = *state;
    put(world, "a", 1, 0, 5000);
    assert_int_equal(enc_idem_commit(world->idem, 2), CMQ_OK);
    put(world, "b", 2, 0, 5000);
    enc_idem_abort(world->idem);
    assert_int_equal(find(world, "b", 5000), 0);
    assert_int_equal(enc_idem_count(world->idem), 1);
    put(world, "c", 2, 0, 5000);
    close_table(world);
    open_at(world, 3);
    assert_int_equal(world->applied, 2);
    assert_int_equal(enc_idem_count(world->idem), 1);
    assert_int_equal(find(world, "a", 5000), 1);
    assert_int_equal(find(world, "c", 5000), 0);
}

static void idem_entries_of_records_that_the_log_does_not_have_go(void **state)
{
    struct world *world = *state;
    put(world, "a", 1, 0, 5000);
    put(world, "b", 2, 0, 5000);
    put(world, "b2", 2, 1, 5000);
    put(world, "c", 3, 0, 5000);
    assert_int_equal(enc_idem_commit(world->idem, 1), CMQ_OK);
    close_table(world);
    open_at(world, 2);
    assert_int_equal(world->applied, 1);
    assert_int_equal(find(world, "a", 5000), 1);
    assert_int_equal(find(world, "b", 5000), 0);
    assert_int_equal(find(world, "b2", 5000), 0);
    assert_int_equal(find(world, "c", 5000), 0);
    assert_int_equal(enc_idem_count(world->idem), 1);
}

static void idem_table_that_knows_more_than_the_log_is_of_another_log(void **state)
{
    struct world *world = *state;
    put(world, "a", 1, 0, 5000);
    assert_int_equal(enc_idem_commit(world->idem, 10), CMQ_OK);
    close_table(world);
    open_at(world, 9);
    assert_int_equal(world->applied, 0);
    assert_int_equal(enc_idem_count(world->idem), 0);
    assert_int_equal(find(world, "a", 5000), 0);
}

static void idem_table_of_another_boot_is_discarded(void **state)
{
    struct world *world = *state;
    char old[160];
    put(world, "a", 1, 0, 5000);
    assert_int_equal(enc_idem_commit(world->idem, 2), CMQ_OK);
    close_table(world);
    (void)snprintf(old, sizeof old, "%s/ids-boot-1.mdb", world->directory);
    assert_int_equal(access(old, F_OK), 0);
    world->setup.boot_id = "boot-2";
    open_at(world, 2);
    assert_int_equal(world->applied, 0);
    assert_int_equal(enc_idem_count(world->idem), 0);
    assert_int_not_equal(access(old, F_OK), 0);
}

static void idem_file_of_garbage_is_made_anew(void **state)
{
    struct world *world = *state;
    char path[160];
    put(world, "a", 1, 0, 5000);
    assert_int_equal(enc_idem_commit(world->idem, 2), CMQ_OK);
    close_table(world);
    (void)snprintf(path, sizeof path, "%s/ids-boot-1.mdb", world->directory);
    FILE *file = fopen(path, "r+e");
    assert_non_null(file);
    for (unsigned i = 0; i < 8192; i++)
        assert_int_equal(fputc(0x5a, file), 0x5a);
    assert_int_equal(fclose(file), 0);
    open_at(world, 2);
    assert_int_equal(world->applied, 0);
    put(world, "b", 2, 0, 5000);
    assert_int_equal(enc_idem_commit(world->idem, 3), CMQ_OK);
    assert_int_equal(find(world, "b", 5000), 2);
}

static void idem_survives_the_death_of_its_process(void **state)
{
    struct world *world = *state;
    close_table(world);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        open_at(world, 1);
        put(world, "kept", 1, 0, 5000);
        if (enc_idem_commit(world->idem, 1) != CMQ_OK)
            _exit(1);
        put(world, "open", 2, 0, 5000);
        (void)kill(getpid(), SIGKILL);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    open_at(world, 2);
    assert_int_equal(find(world, "kept", 5000), 1);
    assert_int_equal(find(world, "open", 5000), 0);
}

static void idem_file_is_private(void **state)
{
    struct world *world = *state;
    char path[160];
    struct stat found;
    assert_int_equal(stat(world->directory, &found), 0);
    assert_int_equal(found.st_mode & 0777, 0700);
    (void)snprintf(path, sizeof path, "%s/ids-boot-1.mdb", world->directory);
    assert_int_equal(stat(path, &found), 0);
    assert_int_equal(found.st_mode & 0777, 0600);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(idem_finds_what_was_put_also_before_the_commit),
        TEST(idem_keys_of_other_topics_and_of_requests_are_other_keys),
        TEST(idem_longest_names_fit),
        TEST(idem_forgets_after_the_window_and_not_before),
        TEST(idem_clock_that_jumped_makes_no_id_last_for_ever),
        TEST(idem_id_used_again_after_its_window_is_not_expired_with_its_old_place),
        TEST(idem_expiry_is_bounded_and_goes_on),
        TEST(idem_too_many_ids_drop_the_oldest_and_count_it),
        TEST(idem_remove_takes_back_one_message),
        TEST(idem_abort_and_close_forget_what_was_not_committed),
        TEST(idem_entries_of_records_that_the_log_does_not_have_go),
        TEST(idem_table_that_knows_more_than_the_log_is_of_another_log),
        TEST(idem_table_of_another_boot_is_discarded),
        TEST(idem_file_of_garbage_is_made_anew),
        TEST(idem_survives_the_death_of_its_process),
        TEST(idem_file_is_private),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
