/* Unit tests of the file of tokens on a system that fails: every call fails once, and the process ends at every call. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/auth/cmq_auth_table.h"
#include "common/auth/cmq_token_file.h"

#define DIGEST   "affdcd7be4867ecfd05a95970820a0544c5b99774c3c65110ad234ce99cb58dc"
#define LINE_OLD "token old sha256:" DIGEST " created:1 expires:never admin\n"
#define LINE_TWO "cert two subject:x created:1 expires:never publish:a,b subscribe:c consume:d\n"

enum { CALLS_MAX = 100, ROOM = 4096, DIED = 77 };

static char directory[] = "/tmp/cmq-test-tokens-XXXXXX";
static char path[64];
static struct cmq_reason reason;
static struct cmq_token_line added;

/* The call that is to fail (1: the next one; 0: none), or to be the last of the process. */
static unsigned fail_at, calls;
static bool dies;
static int fail_errno;

static bool fails(void)
{
    calls++;
    if (calls != fail_at)
        return false;
    if (dies)
        _exit(DIED);
    errno = fail_errno;
    return true;
}

#define WRAP(result, name, parameters, arguments)      \
    result __real_##name parameters;                   \
    result __wrap_##name parameters;                   \
    result __wrap_##name parameters                    \
    {                                                  \
        return fails() ? -1 : __real_##name arguments; \
    }
WRAP(ssize_t, read, (int fd, void *dst, size_t bytes), (fd, dst, bytes))
WRAP(int, fchmod, (int fd, mode_t mode), (fd, mode))
WRAP(int, fchown, (int fd, uid_t owner, gid_t group), (fd, owner, group))
WRAP(ssize_t, getrandom, (void *dst, size_t bytes, unsigned flags), (dst, bytes, flags))

/* What makes a change last: f a file is synced, r it gets its name, d the directory is synced. */
static char steps[16];

static int step(char name, int result)
{
    const size_t count = strlen(steps);
    if (result == 0 && count + 1 < sizeof steps)
        steps[count] = name;
    return result;
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    struct stat found = {0};
    (void)fstat(fd, &found);
    return fails() ? -1 : step(S_ISDIR(found.st_mode) ? 'd' : 'f', __real_fsync(fd));
}

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to)
{
    return fails() ? -1 : step('r', __real_rename(from, to));
}

/* In pieces: a short write is no error. */
ssize_t __real_write(int fd, const void *src, size_t bytes);
ssize_t __wrap_write(int fd, const void *src, size_t bytes);
ssize_t __wrap_write(int fd, const void *src, size_t bytes)
{
    return fails() ? -1 : __real_write(fd, src, bytes > 100 ? 100 : bytes);
}

static unsigned allocation_fail_at, allocations;
static bool allocation_fails(void)
{
    allocations++;
    return allocations == allocation_fail_at;
}

void *__real_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes)
{
    return allocation_fails() ? NULL : __real_calloc(count, bytes);
}

void *__real_realloc(void *old, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes)
{
    return allocation_fails() ? NULL : __real_realloc(old, bytes);
}

static void name_of(char name[96], const char *suffix)
{
    (void)snprintf(name, 96, "%s%s", path, suffix);
}

static int begin(void **state)
{
    (void)state;
    fail_at = calls = allocation_fail_at = allocations = 0;
    dies = false;
    fail_errno = EIO;
    memcpy(directory + sizeof directory - 7, "XXXXXX", 6);
    if (mkdtemp(directory) == NULL)
        return 1;
    (void)snprintf(path, sizeof path, "%s/tokens", directory);
    added = (struct cmq_token_line){
        .name = cmq_span_make("new", 3), .admin = true, .expires_ms = CMQ_TOKEN_NEVER};
    memset(added.digest, 0xab, sizeof added.digest);
    return 0;
}

static int end(void **state)
{
    static const char *const suffixes[] = {"", ".lock", ".new"};
    (void)state;
    fail_at = allocation_fail_at = 0;
    for (size_t i = 0; i < CMQ_COUNT_OF(suffixes); i++) {
        char name[96];
        name_of(name, suffixes[i]);
        (void)unlink(name);
    }
    return rmdir(directory);
}

static void write_old(void)
{
    fail_at = 0;
    assert_int_equal(
        cmq_token_file_write(path, cmq_span_make(LINE_OLD LINE_TWO, strlen(LINE_OLD LINE_TWO)), &reason),
        CMQ_OK);
    calls = 0;
}

/* Which names are in the file; it has to be right, whole. */
static enum cmq_err note_name(void *context, size_t number, struct cmq_span raw,
                              const struct cmq_token_line *line, struct cmq_reason *ret_reason)
{
    (void)number, (void)raw, (void)ret_reason;
    char *names = context;
    (void)snprintf(names + strlen(names), 64 - strlen(names), "%.*s ", (int)line->name.bytes,
                   (const char *)line->name.data);
    return CMQ_OK;
}

static void expect_names(const char *before, const char *after)
{
    struct cmq_buf content;
    char names[64] = "";
    fail_at = 0;
    if (cmq_token_file_load(path, &content, &reason) != CMQ_OK ||
        cmq_token_file_walk(path, cmq_buf_span(&content), note_name, names, &reason) != CMQ_OK)
        fail_msg("%s", reason.text);
    cmq_buf_fini(&content);
    if (strcmp(names, before) != 0 && strcmp(names, after) != 0)
        fail_msg("the file has %s", names);
}

static enum cmq_err add(void)
{
    return cmq_token_file_add(path, &added, &reason);
}

static enum cmq_err take_away(void)
{
    return cmq_token_file_remove(path, cmq_span_make("old", 3), &reason);
}

/* Every call fails once: an error with a sentence, the old file or (in the last step) the new one, and no litter. */
static void try_each_failure(enum cmq_err (*change)(void), const char *after)
{
    unsigned failed = 0;
    for (fail_at = 1; fail_at < CALLS_MAX; fail_at++) {
        const unsigned at = fail_at;
        char aside[96];
        write_old();
        fail_at = at;
        reason.text[0] = '\0';
        const enum cmq_err err = change();
        const bool reached = calls >= at;
        expect_names("old two ", after);
        name_of(aside, ".new");
        assert_int_equal(access(aside, F_OK), -1);
        fail_at = at;
        if (!reached) {
            assert_int_equal(err, CMQ_OK);
            break;
        }
        assert_int_not_equal(err, CMQ_OK);
        assert_true(strstr(reason.text, path) != NULL);
        failed++;
    }
    assert_in_range(failed, 7, CALLS_MAX - 2);
}

static void token_file_is_old_or_new_whatever_call_fails(void **state)
{
    (void)state;
    try_each_failure(add, "old two new ");
    try_each_failure(take_away, "two ");
}

static void token_file_is_on_the_disk_before_it_has_its_name_and_that_too(void **state)
{
    (void)state;
    write_old();
    memset(steps, 0, sizeof steps);
    assert_int_equal(add(), CMQ_OK);
    assert_string_equal(steps, "frd");
}

static void token_file_that_has_no_space_says_so(void **state)
{
    (void)state;
    static const int errors[] = {ENOSPC, EROFS, EDQUOT};
    for (size_t i = 0; i < CMQ_COUNT_OF(errors); i++) {
        write_old();
        fail_errno = errors[i];
        fail_at = 3; /* read, the end of the file, write */
        assert_int_not_equal(add(), CMQ_OK);
        assert_non_null(strstr(reason.text, strerror(errors[i])));
        expect_names("old two ", "old two ");
    }
}

static void token_file_is_old_or_new_wherever_the_process_ends(void **state)
{
    (void)state;
    unsigned died = 0;
    for (unsigned at = 1; at < CALLS_MAX; at++) {
        write_old();
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            fail_at = at;
            dies = true;
            _exit(add() == CMQ_OK ? 0 : 1);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        expect_names("old two ", "old two new ");
        /* The next run is not held up by what is left: lock and litter. */
        assert_int_equal(take_away(), CMQ_OK);
        expect_names("two ", "two new ");
        if (WEXITSTATUS(status) == 0)
            break;
        assert_int_equal(WEXITSTATUS(status), DIED);
        died++;
    }
    assert_in_range(died, 7, CALLS_MAX - 2);
}

static void token_is_not_made_without_random_bytes(void **state)
{
    (void)state;
    char token[CMQ_TOKEN_BYTES + 1];
    uint8_t digest[CMQ_TOKEN_DIGEST_BYTES];
    fail_at = 1;
    assert_int_equal(cmq_token_make(token, digest), CMQ_ERR_SYSTEM);
}

/* Also under ASan, which sees what leaks. */
static void auth_table_survives_every_allocation_that_fails(void **state)
{
    (void)state;
    const struct cmq_span content = cmq_span_make(LINE_OLD LINE_TWO, strlen(LINE_OLD LINE_TWO));
    struct cmq_auth_table *old = NULL, *next = NULL;
    assert_int_equal(cmq_auth_table_new("f", cmq_span_make(LINE_OLD, strlen(LINE_OLD)), NULL, &old, &reason),
                     CMQ_OK);
    allocations = 0;
    enum cmq_err err = CMQ_ERR_NOMEM;
    for (unsigned at = 1; err == CMQ_ERR_NOMEM && at < CALLS_MAX; at++) {
        allocations = 0;
        allocation_fail_at = at;
        err = cmq_auth_table_new("f", content, old, &next, &reason);
        if (err == CMQ_ERR_NOMEM)
            assert_non_null(strstr(reason.text, "no memory"));
        else
            assert_int_equal(allocations, at - 1);
    }
    assert_int_equal(err, CMQ_OK);
    assert_true(allocations >= 6);
    allocation_fail_at = 0;
    cmq_auth_table_free(old);
    cmq_auth_table_free(next);
}

static void token_file_survives_every_allocation_that_fails(void **state)
{
    (void)state;
    enum cmq_err err = CMQ_ERR_NOMEM;
    unsigned at = 1;
    for (; err != CMQ_OK && at < CALLS_MAX; at++) {
        allocation_fail_at = 0;
        write_old();
        allocations = 0;
        allocation_fail_at = at;
        err = add();
        allocation_fail_at = 0;
        expect_names("old two ", err == CMQ_OK ? "old two new " : "old two ");
        if (err != CMQ_OK)
            assert_true(strstr(reason.text, "no memory") != NULL || strstr(reason.text, "no room") != NULL);
    }
    assert_in_range(at, 6, CALLS_MAX - 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        T(token_file_is_old_or_new_whatever_call_fails),
        T(token_file_is_on_the_disk_before_it_has_its_name_and_that_too),
        T(token_file_that_has_no_space_says_so),
        T(token_file_is_old_or_new_wherever_the_process_ends),
        T(token_is_not_made_without_random_bytes),
        T(auth_table_survives_every_allocation_that_fails),
        T(token_file_survives_every_allocation_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
