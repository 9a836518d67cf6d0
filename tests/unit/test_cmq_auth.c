/* Unit tests of common/auth: who is let in, what a right covers, and what a bad file does. Time is given. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/auth/cmq_auth_failures.h"
#include "common/auth/cmq_auth_int.h"
#include "common/auth/cmq_auth_scope.h"
#include "common/auth/cmq_token_file.h"
#include "common/wire/cmq_topic.h"

/* "cmq_" and 43 times A, B: SHA-256 by another implementation. */
#define TOKEN_A  "cmq_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define TOKEN_B  "cmq_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"
#define DIGEST_A "affdcd7be4867ecfd05a95970820a0544c5b99774c3c65110ad234ce99cb58dc"
#define DIGEST_B "de4e8bb04617667d3e8a1759a5fdbe616fbf71698c8135743c290a0c14334511"
#define DATES    " created:1000 expires:never"
#define LINE_A   "token a sha256:" DIGEST_A DATES " publish:orders.> subscribe:orders.eu,$dead.> consume:jobs\n"
#define LINE_B   "token b sha256:" DIGEST_B " created:1000 expires:5000 admin\n"
#define LINE_C   "cert c subject:My%20Service" DATES " publish:>\n"

#define S_NS 1000000000ull

static char directory[] = "/tmp/cmq-test-auth-XXXXXX";
static char path[64], other_path[64];
static struct cmq_reason reason;
static struct cmq_auth *auth;
static struct cmq_grant grant;

static struct cmq_span span(const char *text)
{
    return cmq_span_make(text, strlen(text));
}

/* As an editor that writes in place: the inode stays. */
static void write_bytes(const char *text, size_t bytes)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, bytes), bytes);
    assert_int_equal(close(fd), 0);
}

static void write_file(const char *text)
{
    write_bytes(text, strlen(text));
}

static enum cmq_err open_auth(const char *text)
{
    write_file(text);
    reason.text[0] = '\0';
    return cmq_auth_new(path, 3, &auth, &reason);
}

static void open_good(const char *text)
{
    if (open_auth(text) != CMQ_OK)
        fail_msg("%s", reason.text);
}

static int begin(void **state)
{
    (void)state;
    (void)umask(0022);
    memcpy(directory + sizeof directory - 7, "XXXXXX", 6);
    auth = NULL;
    grant = (struct cmq_grant){0};
    if (mkdtemp(directory) == NULL)
        return 1;
    (void)snprintf(path, sizeof path, "%s/tokens", directory);
    (void)snprintf(other_path, sizeof other_path, "%s/other", directory);
    return 0;
}

static int end(void **state)
{
    static const char *const names[] = {"", ".lock", ".new"};
    (void)state;
    cmq_grant_put(&grant);
    cmq_auth_free(auth);
    for (size_t i = 0; i < CMQ_COUNT_OF(names); i++) {
        char name[96];
        (void)snprintf(name, sizeof name, "%s%s", path, names[i]);
        if (unlink(name) != 0 && rmdir(name) != 0 && errno != ENOENT)
            return 1;
    }
    (void)unlink(other_path);
    return rmdir(directory);
}

static enum cmq_auth_result check_from(const char *token, const char *certificate, struct cmq_span address,
                                       uint64_t wall_ms, uint64_t mono_ns)
{
    const struct cmq_auth_credentials credentials = {
        .token = span(token), .certificate = span(certificate), .address = address};
    cmq_grant_put(&grant);
    return cmq_auth_check_at(auth, &credentials, wall_ms, mono_ns, &grant);
}

static enum cmq_auth_result check(const char *token, const char *certificate)
{
    return check_from(token, certificate, (struct cmq_span){0}, 2000, S_NS);
}

static bool reload(bool force)
{
    bool changed = false;
    reason.text[0] = '\0';
    const enum cmq_err err = cmq_auth_reload(auth, force, &changed, &reason);
    if (err != CMQ_OK)
        fail_msg("%s", reason.text);
    return changed;
}

static void expect_reload_fault(bool force, enum cmq_err expected, const char *part)
{
    bool changed = true;
    assert_int_equal(cmq_auth_reload(auth, force, &changed, &reason), expected);
    assert_false(changed);
    if (strstr(reason.text, part) == NULL)
        fail_msg("expected '%s' in: %s", part, reason.text);
}

/* ---- who is let in ---- */

static void auth_without_a_file_lets_everybody_do_everything(void **state)
{
    (void)state;
    assert_int_equal(cmq_auth_new("", 3, &auth, &reason), CMQ_OK);
    assert_true(cmq_auth_is_open(auth));
    assert_int_equal(check("", ""), CMQ_AUTH_OK);
    assert_true(cmq_grant_allows(&grant, CMQ_RIGHT_ADMIN, span("")));
    assert_true(cmq_grant_allows(&grant, CMQ_RIGHT_CONSUME, span("$dead.x")));
    assert_true(cmq_grant_is_live(auth, &grant));
    assert_string_equal(cmq_grant_name(&grant), "");
    assert_false(reload(true));
    struct cmq_rate rate;
    cmq_grant_take(&grant, 100, 100, 1, 1, S_NS, &rate);
    assert_true(rate.ok);
    assert_int_equal(rate.limit, 0);
}

static void auth_nobody_may_do_nothing(void **state)
{
    (void)state;
    const struct cmq_grant nobody = {0};
    open_good(LINE_A);
    assert_false(cmq_grant_allows(&nobody, CMQ_RIGHT_PUBLISH, span("orders.eu")));
    assert_false(cmq_grant_allows(&nobody, CMQ_RIGHT_ADMIN, span("")));
    assert_false(cmq_grant_is_live(auth, &nobody));
    assert_string_equal(cmq_grant_name(&nobody), "");
}

static void auth_a_token_has_the_rights_of_its_line(void **state)
{
    (void)state;
    open_good("# comment\n\n" LINE_A LINE_B LINE_C);
    assert_false(cmq_auth_is_open(auth));
    assert_int_equal(check(TOKEN_A, ""), CMQ_AUTH_OK);
    assert_string_equal(cmq_grant_name(&grant), "a");
    assert_true(cmq_grant_allows(&grant, CMQ_RIGHT_PUBLISH, span("orders.eu.fr")));
    assert_false(cmq_grant_allows(&grant, CMQ_RIGHT_PUBLISH, span("orders")));
    assert_true(cmq_grant_allows(&grant, CMQ_RIGHT_SUBSCRIBE, span("orders.eu")));
    assert_false(cmq_grant_allows(&grant, CMQ_RIGHT_SUBSCRIBE, span("orders.*")));
    assert_true(cmq_grant_allows(&grant, CMQ_RIGHT_SUBSCRIBE, span("$dead.orders")));
    assert_false(cmq_grant_allows(&grant, CMQ_RIGHT_CONSUME, span("orders.eu")));
    assert_true(cmq_grant_allows(&grant, CMQ_RIGHT_CONSUME, span("jobs")));
    assert_false(cmq_grant_allows(&grant, CMQ_RIGHT_ADMIN, span("")));
    assert_int_equal(check(TOKEN_B, ""), CMQ_AUTH_OK);
    assert_true(cmq_grant_allows(&grant, CMQ_RIGHT_ADMIN, span("")));
    assert_false(
        cmq_grant_allows(&grant, CMQ_RIGHT_PUBLISH, span("orders.eu"))); /* admin is one right of four */
}

static void auth_refusals_are_told_apart(void **state)
{
    (void)state;
    char wrong[] = TOKEN_A;
    open_good(LINE_A LINE_B);
    assert_int_equal(check("", ""), CMQ_AUTH_MISSING);
    wrong[46] = 'B';
    assert_int_equal(check(wrong, ""), CMQ_AUTH_UNKNOWN);
    assert_null(grant.entry);
    wrong[46] = '\0';
    assert_int_equal(check(wrong, ""), CMQ_AUTH_UNKNOWN);
    assert_int_equal(check(TOKEN_A "A", ""), CMQ_AUTH_UNKNOWN);
    assert_int_equal(check(DIGEST_A, ""), CMQ_AUTH_UNKNOWN); /* what is in the file opens nothing */
    assert_int_equal(check_from(TOKEN_B, "", (struct cmq_span){0}, 4999, S_NS), CMQ_AUTH_OK);
    assert_int_equal(check_from(TOKEN_B, "", (struct cmq_span){0}, 5000, S_NS), CMQ_AUTH_EXPIRED);
    assert_null(grant.entry);
}

static void auth_a_certificate_is_known_by_its_name(void **state)
{
    (void)state;
    open_good(LINE_A LINE_C);
    assert_int_equal(check("", "My Service"), CMQ_AUTH_OK);
    assert_string_equal(cmq_grant_name(&grant), "c");
    assert_int_equal(check("", "My%20Service"), CMQ_AUTH_UNKNOWN);
    assert_int_equal(check("", "c"), CMQ_AUTH_UNKNOWN);
    assert_int_equal(check("My Service", ""), CMQ_AUTH_UNKNOWN);
    assert_int_equal(check("", TOKEN_A), CMQ_AUTH_UNKNOWN);
}

/* A line of a token with the key that a certificate is looked up by, and the other way round. */
static void auth_tokens_and_certificates_never_stand_for_each_other(void **state)
{
    (void)state;
    open_good("token x sha256:79323012b3cf386a29b30e519bca46969893c220062e9f4e86f259f497975a4f" DATES
              " admin\ncert y subject:" TOKEN_A DATES " admin\n");
    assert_int_equal(check("", "My Service"), CMQ_AUTH_UNKNOWN);
    assert_int_equal(check(TOKEN_A, ""), CMQ_AUTH_UNKNOWN);
    assert_int_equal(check("", TOKEN_A), CMQ_AUTH_OK); /* an odd name, but a name */
}

static void auth_a_bound_token_needs_its_certificate(void **state)
{
    (void)state;
    struct cmq_grant kept = {0};
    open_good("token a sha256:" DIGEST_A " subject:My%20Service" DATES " admin\n" LINE_C);
    assert_int_equal(check(TOKEN_A, "My Service"), CMQ_AUTH_OK);
    assert_string_equal(cmq_grant_name(&grant), "a");
    kept = grant;
    grant = (struct cmq_grant){0};
    assert_int_equal(check(TOKEN_A, ""), CMQ_AUTH_UNKNOWN);
    assert_int_equal(check(TOKEN_A, "My Servic"), CMQ_AUTH_UNKNOWN);
    assert_int_equal(check("", "My Service"), CMQ_AUTH_OK);
    assert_string_equal(cmq_grant_name(&grant), "c");
    write_file("token a sha256:" DIGEST_A " subject:other" DATES " admin\n");
    assert_true(reload(false));
    assert_false(cmq_grant_is_live_at(auth, &kept, 2000));
    cmq_grant_put(&kept);
}

static void auth_of_token_and_certificate_the_token_counts(void **state)
{
    (void)state;
    open_good(LINE_A LINE_C);
    assert_int_equal(check(TOKEN_A, "My Service"), CMQ_AUTH_OK);
    assert_string_equal(cmq_grant_name(&grant), "a");
    assert_int_equal(check(TOKEN_B, "My Service"), CMQ_AUTH_UNKNOWN);
}

/* ---- the file ---- */

static void expect_fault(const char *text, const char *part)
{
    char content[1024], place[96];
    (void)snprintf(content, sizeof content, "# one\n%s", text);
    const enum cmq_err err = open_auth(content);
    if (err != CMQ_ERR_INVALID)
        fail_msg("%s is not refused with INVALID", text);
    (void)snprintf(place, sizeof place, "%s:2: ", path);
    if (strncmp(reason.text, place, strlen(place)) != 0 || strstr(reason.text, part) == NULL)
        fail_msg("expected '%s%s' in: %s", place, part, reason.text);
}

static void auth_each_fault_of_a_line_has_place_and_sentence(void **state)
{
    (void)state;
#define HEAD "token a sha256:" DIGEST_A
    expect_fault(" " LINE_A, "begins with \"token \", \"cert \" or \"#\"");
    expect_fault("tokens a\n", "begins with");
    expect_fault("token\n", "a name has 1 to 63");
    expect_fault("token  sha256:" DIGEST_A DATES " admin\n", "a name has 1 to 63");
    expect_fault("token a/b sha256:" DIGEST_A DATES " admin\n", "a name has 1 to 63");
    expect_fault("token a\n", "sha256: is missing");
    expect_fault("token a sha256:" DIGEST_A " expires:never admin\n", "created: is missing");
    expect_fault(HEAD " created:1 admin\n", "expires: is missing");
    expect_fault(HEAD DATES "\n", "there is no right");
    expect_fault(HEAD DATES " admin \n", "field 7 is none of");
    expect_fault(HEAD DATES "  admin\n", "field 6 is none of");
    expect_fault(HEAD DATES " admin\r\n", "field 6 is none of");
    expect_fault(HEAD DATES " Admin\n", "field 6 is none of");
    expect_fault(HEAD DATES " admin admin\n", "admin is there twice");
    expect_fault("cert a subject:x sha256:" DIGEST_A DATES " admin\n", "sha256: does not belong");
    expect_fault("token a sha256:00" DIGEST_A DATES " admin\n", "sha256: is 64 digits");
    expect_fault("token a sha256:" TOKEN_A DATES " admin\n", "sha256: is 64 digits");
    expect_fault(HEAD " created:01 expires:never admin\n", "created: is a number");
    expect_fault(HEAD " created:1 expires:-1 admin\n", "expires: is a number");
    expect_fault(HEAD " created:1 expires:253402300800000 admin\n", "expires: is a number");
    expect_fault(HEAD " created:1 expires: admin\n", "expires: is a number");
    expect_fault(HEAD DATES " admin messages:0\n", "messages: is a number from 1");
    expect_fault(HEAD DATES " admin bytes:99999999999999999999\n", "bytes: is a number from 1");
    expect_fault(HEAD DATES " publish:\n", "publish: 1. pattern: pattern is empty");
    expect_fault(HEAD DATES " publish:a,\n", "publish: 2. pattern: pattern is empty");
    expect_fault(HEAD DATES " consume:a.>.b\n", "'>' at byte 2");
    expect_fault("cert c subject:" DATES " admin\n", "subject: is 1 to 253 bytes");
    expect_fault("cert c subject:a%0" DATES " admin\n", "subject: is 1 to 253 bytes");
    expect_fault("cert c subject:a%00" DATES " admin\n", "subject: is 1 to 253 bytes");
    expect_fault("cert c subject:%41" DATES " admin\n", "subject: is 1 to 253 bytes");
    expect_fault("cert c subject:%c3%a9" DATES " admin\n", "subject: is 1 to 253 bytes");
    expect_fault(HEAD DATES " admin", "the last line has no end");
#undef HEAD
}

static void auth_what_is_there_twice_is_refused(void **state)
{
    (void)state;
    assert_int_equal(open_auth(LINE_A "token a sha256:" DIGEST_B DATES " admin\n"), CMQ_ERR_INVALID);
    assert_non_null(strstr(reason.text, "tokens:2: the name a is used in line 1 already"));
    assert_int_equal(open_auth(LINE_C "token c sha256:" DIGEST_B DATES " admin\n"), CMQ_ERR_INVALID);
    assert_non_null(strstr(reason.text, "tokens:2: the name c is used in line 1 already"));
    assert_int_equal(open_auth(LINE_B "token a sha256:" DIGEST_B DATES " admin\n"), CMQ_ERR_INVALID);
    assert_non_null(strstr(reason.text, "tokens:2: sha256: is that of line 1"));
    assert_int_equal(open_auth(LINE_C "\ncert d subject:My%20Service" DATES " admin\n"), CMQ_ERR_INVALID);
    assert_non_null(strstr(reason.text, "tokens:3: subject: is that of line 1"));
}

static void auth_a_fault_never_shows_what_might_be_a_token(void **state)
{
    (void)state;
    static const char *const lines[] = {TOKEN_A "\n", "token " TOKEN_A " " TOKEN_A "\n",
                                        "token a " TOKEN_A DATES " admin\n", "token a sha256:" TOKEN_A "\n",
                                        "token a publish:" TOKEN_A "." TOKEN_A ".?\n"};
    for (size_t i = 0; i < CMQ_COUNT_OF(lines); i++) {
        assert_int_equal(open_auth(lines[i]), CMQ_ERR_INVALID);
        assert_null(strstr(reason.text, "AAAA"));
    }
}

static void expect_permission(const char *part)
{
    assert_int_equal(cmq_auth_new(path, 3, &auth, &reason), CMQ_ERR_PERMISSION);
    if (strstr(reason.text, part) == NULL)
        fail_msg("expected '%s' in: %s", part, reason.text);
}

static void auth_a_file_that_others_could_touch_is_refused(void **state)
{
    (void)state;
    static const unsigned modes[] = {0660, 0642, 0646, 0644, 0604, 0666};
    write_file(LINE_A);
    for (size_t i = 0; i < CMQ_COUNT_OF(modes); i++) {
        assert_int_equal(chmod(path, modes[i]), 0);
        expect_permission("chmod 0640");
    }
    assert_int_equal(chmod(path, 0400), 0);
    assert_int_equal(chmod(directory, 0770), 0);
    expect_permission("chmod go-w");
    assert_int_equal(chmod(directory, 0702), 0);
    expect_permission("chmod go-w");
    assert_int_equal(chmod(directory, 01777), 0);
    assert_int_equal(cmq_auth_new(path, 3, &auth, &reason), CMQ_OK);
    assert_int_equal(chmod(directory, 0700), 0);
}

static void auth_a_file_of_a_stranger_is_refused(void **state)
{
    (void)state;
    if (geteuid() != 0)
        return; /* nobody else can give a file away */
    write_file(LINE_A);
    assert_int_equal(chown(path, 4242, 4242), 0);
    expect_permission("belongs to user 4242");
    assert_int_equal(chown(directory, 4242, 4242), 0);
    assert_int_equal(cmq_auth_new(path, 3, &auth, &reason), CMQ_OK); /* who could replace it anyway */
}

static void auth_only_a_regular_file_is_read(void **state)
{
    (void)state;
    write_file(LINE_A);
    assert_int_equal(rename(path, other_path), 0);
    assert_int_equal(symlink(other_path, path), 0);
    expect_permission("is a symbolic link");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_permission("is not a regular file");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    expect_permission("is not a regular file");
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(cmq_auth_new(path, 3, &auth, &reason), CMQ_ERR_INVALID);
    assert_non_null(strstr(reason.text, "does not exist: make it with `ciphermqctl token create`"));
    assert_int_equal(cmq_auth_new("/no/such/directory/tokens", 3, &auth, &reason), CMQ_ERR_INVALID);
}

/* ---- reload ---- */

static void auth_reload_takes_what_changed_and_keeps_the_rest(void **state)
{
    (void)state;
    struct cmq_grant kept = {0}, gone = {0};
    open_good(LINE_A LINE_B);
    assert_int_equal(check(TOKEN_A, ""), CMQ_AUTH_OK);
    kept = grant;
    grant = (struct cmq_grant){0};
    assert_int_equal(check(TOKEN_B, ""), CMQ_AUTH_OK);
    gone = grant;
    grant = (struct cmq_grant){0};
    write_file(LINE_C "# moved\n" LINE_A);
    assert_true(reload(false));
    assert_false(reload(true));
    assert_int_equal(check("", "My Service"), CMQ_AUTH_OK);
    assert_int_equal(check(TOKEN_B, ""), CMQ_AUTH_UNKNOWN);
    assert_true(cmq_grant_is_live_at(auth, &kept, 2000));
    assert_false(cmq_grant_is_live_at(auth, &gone, 2000));
    assert_string_equal(cmq_grant_name(&gone), "b");
    cmq_grant_put(&gone);
    /* The same token with other rights is another grant. */
    write_file("token a sha256:" DIGEST_A DATES " publish:orders.>\n");
    assert_true(reload(false));
    assert_false(cmq_grant_is_live_at(auth, &kept, 2000));
    assert_true(cmq_grant_allows(&kept, CMQ_RIGHT_CONSUME, span("jobs")));
    assert_int_equal(check(TOKEN_A, ""), CMQ_AUTH_OK);
    assert_false(cmq_grant_allows(&grant, CMQ_RIGHT_CONSUME, span("jobs")));
    cmq_grant_put(&kept);
}

static void auth_a_grant_outlives_the_table(void **state)
{
    (void)state;
    open_good(LINE_B);
    assert_int_equal(check(TOKEN_B, ""), CMQ_AUTH_OK);
    assert_true(cmq_grant_is_live_at(auth, &grant, 4999));
    assert_false(cmq_grant_is_live_at(auth, &grant, 5000)); /* expired */
    cmq_auth_free(auth);
    assert_int_equal(cmq_auth_new("", 3, &auth, &reason), CMQ_OK);
    assert_false(cmq_grant_is_live_at(auth, &grant, 2000));
    assert_string_equal(cmq_grant_name(&grant), "b");
    assert_true(cmq_grant_allows(&grant, CMQ_RIGHT_ADMIN, span("")));
}

static void auth_a_bad_file_leaves_the_last_good_table_and_is_told_once(void **state)
{
    (void)state;
    open_good(LINE_A);
    write_file(LINE_A "token broken\n");
    expect_reload_fault(false, CMQ_ERR_INVALID, "tokens:2: sha256: is missing");
    assert_int_equal(check(TOKEN_A, ""), CMQ_AUTH_OK);
    assert_false(reload(false));
    expect_reload_fault(true, CMQ_ERR_INVALID, "tokens:2: ");
    assert_int_equal(chmod(path, 0666), 0);
    expect_reload_fault(false, CMQ_ERR_PERMISSION, "has mode 0666");
    assert_int_equal(unlink(path), 0);
    expect_reload_fault(false, CMQ_ERR_INVALID, "does not exist");
    assert_false(reload(false));
    assert_int_equal(check(TOKEN_A, ""), CMQ_AUTH_OK);
    assert_true(cmq_grant_is_live(auth, &grant));
    write_file(LINE_B);
    assert_true(reload(false));
    assert_int_equal(check(TOKEN_A, ""), CMQ_AUTH_UNKNOWN);
}

static bool stamp_stands_still;
static time_t stamp_ahead_s;
void __real_cmq_token_file_stamp(const char *file, struct cmq_token_stamp *ret_stamp);
void __wrap_cmq_token_file_stamp(const char *file, struct cmq_token_stamp *ret_stamp);
void __wrap_cmq_token_file_stamp(const char *file, struct cmq_token_stamp *ret_stamp)
{
    static struct cmq_token_stamp last;
    if (!stamp_stands_still)
        __real_cmq_token_file_stamp(file, &last);
    *ret_stamp = last;
    ret_stamp->modified.tv_sec += stamp_ahead_s;
}

/* Two writes within one tick of the file system's clock, same size: only a second look can tell. */
static void auth_a_file_just_written_is_looked_at_again(void **state)
{
    (void)state;
    open_good(LINE_A);
    stamp_stands_still = true;
    write_file("token b sha256:" DIGEST_B DATES
               " publish:orders.> subscribe:orders.eu,$dead.> consume:jobs\n");
    assert_true(reload(false));
    write_file("token !\n");
    expect_reload_fault(false, CMQ_ERR_INVALID, "tokens:1: a name has");
    assert_false(reload(false)); /* told once */
    stamp_stands_still = false;
    assert_int_equal(check(TOKEN_B, ""), CMQ_AUTH_OK);
}

/* After the clock was set back: no look at every tick. */
static void auth_a_file_of_the_future_is_read_once(void **state)
{
    (void)state;
    stamp_ahead_s = 3600;
    open_good(LINE_A);
    stamp_stands_still = true;
    write_file(LINE_B);
    assert_false(reload(false));
    assert_true(reload(true));
    stamp_stands_still = false;
    stamp_ahead_s = 0;
}

struct race {
    atomic_bool stop;
    atomic_uint passed;
};

static void *race_checks(void *context)
{
    struct race *race = context;
    while (!atomic_load_explicit(&race->stop, memory_order_relaxed)) {
        struct cmq_grant own;
        struct cmq_rate rate;
        const enum cmq_auth_result result =
            cmq_auth_check(auth, span(TOKEN_A), (struct cmq_span){0}, span("10.0.0.1"), &own);
        cmq_assert(result == CMQ_AUTH_OK); /* it is in both versions of the file */
        cmq_assert(cmq_grant_allows(&own, CMQ_RIGHT_PUBLISH, span("orders.eu")));
        cmq_grant_take(&own, 1, 1, 1000000000, 0, S_NS, &rate);
        (void)cmq_grant_is_live(auth, &own);
        cmq_grant_put(&own);
        (void)atomic_fetch_add_explicit(&race->passed, 1, memory_order_relaxed);
    }
    return NULL;
}

static void auth_reloads_and_checks_may_meet(void **state)
{
    (void)state;
    enum { THREADS = 3, RELOADS = 300 };
    pthread_t threads[THREADS];
    struct race race;
    atomic_init(&race.stop, false);
    atomic_init(&race.passed, 0);
    open_good(LINE_A);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race_checks, &race), 0);
    for (unsigned i = 0; i < RELOADS || atomic_load_explicit(&race.passed, memory_order_relaxed) < RELOADS;
         i++) {
        static const char *const versions[] = {LINE_B LINE_A, "token a sha256:" DIGEST_A DATES " publish:>\n",
                                               LINE_A};
        write_file(versions[i % CMQ_COUNT_OF(versions)]);
        bool changed = false;
        assert_int_equal(cmq_auth_reload(auth, true, &changed, &reason), CMQ_OK);
    }
    atomic_store_explicit(&race.stop, true, memory_order_relaxed);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

/* ---- failed attempts ---- */

static void auth_failures_of_an_address_are_limited_for_a_minute(void **state)
{
    (void)state;
    const struct cmq_span one = span("\x0a\x00\x00\x01"), two = span("10.0.0.2");
    open_good(LINE_A LINE_B);
    assert_int_equal(check_from("x", "", one, 2000, S_NS), CMQ_AUTH_UNKNOWN);
    assert_int_equal(check_from("x", "", one, 2000, 2 * S_NS), CMQ_AUTH_UNKNOWN);
    assert_int_equal(check_from("", "", one, 2000, 2 * S_NS), CMQ_AUTH_MISSING); /* counts for nothing */
    assert_int_equal(check_from(TOKEN_B, "", one, 9000, 3 * S_NS), CMQ_AUTH_EXPIRED);
    assert_int_equal(check_from("x", "", one, 2000, 4 * S_NS), CMQ_AUTH_LIMITED);
    assert_int_equal(check_from(TOKEN_B, "", one, 9000, 4 * S_NS), CMQ_AUTH_LIMITED);
    assert_int_equal(check_from(TOKEN_A, "", one, 2000, 4 * S_NS),
                     CMQ_AUTH_OK); /* nobody locks a neighbour out */
    assert_int_equal(check_from("x", "", two, 2000, 4 * S_NS), CMQ_AUTH_UNKNOWN);
    assert_int_equal(check_from("x", "", one, 2000, 61 * S_NS - 1), CMQ_AUTH_LIMITED);
    assert_int_equal(check_from("x", "", one, 2000, 61 * S_NS), CMQ_AUTH_UNKNOWN);
}

static void auth_failures_count_by_customer(void **state)
{
    (void)state;
    static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff, 192, 0, 2, 1}, plain[4] = {192, 0, 2, 1};
    struct cmq_auth_failures *failures = NULL;
    assert_int_equal(cmq_auth_failures_new(2, &failures), CMQ_OK);
    assert_false(cmq_auth_failures_add(failures, span("2001:db8:1:2::1"), S_NS));
    assert_false(cmq_auth_failures_add(failures, span("2001:db8:1:2:ffff::9"), S_NS));
    assert_false(cmq_auth_failures_add(failures, span("2001:db8:1:3::1"), S_NS));
    assert_true(cmq_auth_failures_add(failures, span("2001:db8:1:2:1:2:3:4"), S_NS));
    assert_false(cmq_auth_failures_add(failures, cmq_span_make(mapped, 16), S_NS));
    assert_false(cmq_auth_failures_add(failures, cmq_span_make(plain, 4), S_NS));
    assert_true(cmq_auth_failures_add(failures, span("::ffff:192.0.2.1"), S_NS));
    assert_true(cmq_auth_failures_add(failures, span("192.0.2.1"), S_NS));
    assert_false(
        cmq_auth_failures_add(failures, span("a name that is longer than any address could be, ever"), S_NS));
    assert_false(cmq_auth_failures_add(failures, (struct cmq_span){0}, S_NS));
    cmq_auth_failures_free(failures);
}

static void auth_failures_of_a_busy_address_outlast_a_flood_of_others(void **state)
{
    (void)state;
    enum { FLOOD = 200000 };
    struct cmq_auth_failures *failures = NULL;
    assert_int_equal(cmq_auth_failures_new(3, &failures), CMQ_OK);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(cmq_auth_failures_add(failures, span("10.0.0.1"), S_NS), i == 3);
    for (uint32_t i = 0; i < FLOOD; i++)
        assert_false(cmq_auth_failures_add(failures, cmq_span_make(&i, sizeof i), 2 * S_NS));
    assert_true(cmq_auth_failures_add(failures, span("10.0.0.1"), 3 * S_NS));
    cmq_auth_failures_free(failures);
}

/* ---- rights ---- */

static void auth_scopes_cover_as_said(void **state)
{
    (void)state;
    static const struct {
        const char *scope, *inner;
        bool covered;
    } cases[] = {
        {"orders.>", "orders.*", true},
        {"orders.>", "orders.>", true},
        {"orders.>", "orders.eu.*", true},
        {"orders.>", "orders", false},
        {"orders.*", "orders.>", false},
        {"*", ">", false},
        {">", ">", true},
        {">", "*.*", true},
        {"*", "*", true},
        {"*.b", "a.*", false},
        {"a.*", "*.b", false},
        {"*.*", "a.*", true},
        {">", "$dead.x", false},
        {"*.x", "$dead.x", false},
        {"$dead.>", "$dead.*", true},
        {"$dead.>", "$dead.x", true},
        {"$dead.x", "$dead.*", false},
        {"$dead.>", ">", false},
        {"a.*,a.*.>", "a.>", true},
        {"a.*,a.*.*.>", "a.>", false},
        {"*,>", ">", true},
        {"*,*.*.>", ">", false},
        {"*,*.*,*.*.>", ">", true},
        {"x,y.z,a", "a", true},
        {"a.b,a.c", "a.*", false},
        {"aa", "a", false},
        {"a", "aa", false},
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(cases); i++) {
        if (cmq_auth_scope_covers(span(cases[i].scope), span(cases[i].inner)) != cases[i].covered)
            fail_msg("%s and %s", cases[i].scope, cases[i].inner);
    }
    assert_false(cmq_auth_scope_covers((struct cmq_span){0}, span("a")));
}

static void auth_longest_patterns_are_covered(void **state)
{
    (void)state;
    char wide[256], deep[80];
    memset(wide, 'a', 253);
    (void)snprintf(wide + 253, sizeof wide - 253, ".>");
    assert_int_equal(cmq_topic_pattern_check(span(wide), &reason), CMQ_OK);
    assert_true(cmq_auth_scope_covers(span("*.*"), span(wide))); /* there is room for one letter more */
    for (size_t i = 0; i < 32; i++)
        (void)snprintf(deep + 2 * i, sizeof deep - 2 * i, i == 31 ? ">" : "*.");
    assert_int_equal(cmq_topic_pattern_check(span(deep), &reason), CMQ_OK);
    assert_true(cmq_auth_scope_covers(span(">"), span(deep)));
    assert_false(cmq_auth_scope_covers(span("*.*"), span(deep)));
    deep[62] = '*';
    char scope[160];
    (void)snprintf(scope, sizeof scope, "x,%s", deep);
    deep[62] = '>';
    assert_true(cmq_auth_scope_covers(span(scope), span(deep)));
}

enum { DEPTH_PATTERN = 3, DEPTH_TOPIC = 5, NAMES_MAX = 1200 };

struct names {
    char text[NAMES_MAX][16];
    size_t count;
};

/* All names of up to depth levels from the words; `>` only as the last, `$x` only as the first. */
static void make_names(struct names *names, const char *const *words, size_t word_count, unsigned depth)
{
    names->count = 0;
    size_t first = 0;
    for (size_t i = 0; i < word_count; i++)
        (void)snprintf(names->text[names->count++], sizeof names->text[0], "%s", words[i]);
    for (unsigned level = 2; level <= depth; level++) {
        const size_t last = names->count;
        for (size_t i = first; i < last; i++) {
            if (strchr(names->text[i], '>') != NULL)
                continue;
            for (size_t word = 0; word < word_count; word++) {
                if (words[word][0] == '$')
                    continue;
                cmq_assert(names->count < NAMES_MAX);
                (void)snprintf(names->text[names->count++], sizeof names->text[0], "%.12s.%.2s",
                               names->text[i], words[word]);
            }
        }
        first = last;
    }
}

static bool matches_any(const char *scope, struct cmq_span topic)
{
    for (const char *next = scope; next != NULL; next = strchr(next, ','), next += next != NULL) {
        if (cmq_topic_matches(cmq_span_make(next, strcspn(next, ",")), topic))
            return true;
    }
    return false;
}

/* By trying: every topic that inner matches is matched by the scope. z stands for all the names that no pattern has. */
static bool covered_by_trial(const char *scope, const char *inner, const struct names *topics)
{
    for (size_t i = 0; i < topics->count; i++) {
        const struct cmq_span topic = span(topics->text[i]);
        if (cmq_topic_matches(span(inner), topic) && !matches_any(scope, topic))
            return false;
    }
    return true;
}

static void auth_scopes_cover_what_trying_every_topic_finds(void **state)
{
    (void)state;
    static const char *const pattern_words[] = {"a", "$d", "*", ">"};
    static const char *const topic_words[] = {"a", "$d", "z"};
    static struct names patterns, topics;
    make_names(&patterns, pattern_words, CMQ_COUNT_OF(pattern_words), DEPTH_PATTERN);
    make_names(&topics, topic_words, CMQ_COUNT_OF(topic_words), DEPTH_TOPIC);
    size_t covered = 0;
    for (size_t i = 0; i < patterns.count; i++) {
        for (size_t k = 0; k < patterns.count; k++) {
            for (size_t inner = 0; inner < patterns.count; inner++) {
                char scope[40];
                (void)snprintf(scope, sizeof scope, "%s,%s", patterns.text[i], patterns.text[k]);
                const bool found = cmq_auth_scope_covers(span(scope), span(patterns.text[inner]));
                if (found != covered_by_trial(scope, patterns.text[inner], &topics))
                    fail_msg("%s covers %s: %d", scope, patterns.text[inner], found);
                covered += found;
            }
        }
    }
    assert_true(covered > patterns.count);
}

/* ---- rates ---- */

static struct cmq_rate take(uint64_t messages, uint64_t bytes, uint64_t messages_rate, uint64_t bytes_rate,
                            uint64_t now_ns)
{
    struct cmq_rate rate;
    memset(&rate, 0x5a, sizeof rate);
    cmq_grant_take(&grant, messages, bytes, messages_rate, bytes_rate, now_ns, &rate);
    return rate;
}

static void expect_rate(struct cmq_rate rate, bool ok, uint64_t limit, uint64_t remaining, uint32_t reset_s)
{
    assert_int_equal(rate.ok, ok);
    assert_int_equal(rate.limit, limit);
    assert_int_equal(rate.remaining, remaining);
    assert_int_equal(rate.reset_s, reset_s);
}

static void auth_rates_hold_a_second_and_fill_again(void **state)
{
    (void)state;
    const uint64_t now = 1000 * S_NS;
    open_good(LINE_A);
    assert_int_equal(check(TOKEN_A, ""), CMQ_AUTH_OK);
    expect_rate(take(1, 1, 0, 0, now), true, 0, 0, 0);
    expect_rate(take(4, 1, 10, 0, now), true, 10, 6, 1);
    expect_rate(take(6, 1, 10, 0, now), true, 10, 0, 1);
    expect_rate(take(1, 1, 10, 0, now), false, 10, 0, 1);
    expect_rate(take(0, 1, 10, 0, now), true, 10, 0, 1);
    expect_rate(take(3, 1, 10, 0, now + 3 * S_NS / 10), true, 10, 0, 1);
    expect_rate(take(1, 1, 10, 0, now), false, 10, 0, 1); /* a clock read earlier gives nothing back */
    expect_rate(take(10, 1, 10, 0, now + 60 * S_NS), true, 10, 0, 1);
}

static void auth_a_batch_above_the_rate_is_taken_once_and_paid_for(void **state)
{
    (void)state;
    const uint64_t now = 1000 * S_NS;
    open_good(LINE_A);
    assert_int_equal(check(TOKEN_A, ""), CMQ_AUTH_OK);
    expect_rate(take(1, 0, 10, 0, now), true, 10, 9, 1);
    expect_rate(take(50, 0, 10, 0, now), false, 10, 9, 1); /* only a full bucket lets it through */
    expect_rate(take(50, 0, 10, 0, now + S_NS), true, 10, 0, 5);
    expect_rate(take(1, 0, 10, 0, now + 2 * S_NS), false, 10, 0, 4);
    expect_rate(take(0, 5, 10, 0, now + 2 * S_NS), true, 10, 0, 4); /* no message, nothing to wait for */
    expect_rate(take(1, 0, 10, 0, now + 6 * S_NS), true, 10, 9, 1);
    expect_rate(take(UINT64_MAX, 0, 1, 0, now + 60 * S_NS), true, 1, 0, UINT32_MAX);
}

static void auth_rates_take_from_both_buckets_or_none(void **state)
{
    (void)state;
    const uint64_t now = 1000 * S_NS;
    open_good("token a sha256:" DIGEST_A DATES " publish:> messages:10 bytes:1000\n");
    assert_int_equal(check(TOKEN_A, ""), CMQ_AUTH_OK);
    expect_rate(take(1, 900, 5, 5, now), true, 1000, 100, 1); /* its own limits, not the given ones */
    expect_rate(take(1, 200, 5, 5, now), false, 1000, 100, 1);
    expect_rate(take(9, 100, 5, 5, now), true, 10, 0, 1); /* the refused one cost no message */
    expect_rate(take(1, 0, 5, 5, now), false, 10, 0, 1);
    expect_rate(take(9, 100, 5, 5, now + S_NS), true, 10, 1, 1);
    expect_rate(take(1, 950, 5, 5, now + S_NS), false, 1000, 900,
                1); /* the one that refused, not the emptier one */
    expect_rate(take(1, 1099511627776, 0, 0, now + 2 * S_NS), true, 1000, 0, 1099511628);
}

static void auth_all_who_hold_a_token_share_its_buckets_across_reloads(void **state)
{
    (void)state;
    struct cmq_grant first = {0};
    const uint64_t now = 1000 * S_NS;
    open_good(LINE_A);
    assert_int_equal(check(TOKEN_A, ""), CMQ_AUTH_OK);
    first = grant;
    grant = (struct cmq_grant){0};
    assert_int_equal(check(TOKEN_A, ""), CMQ_AUTH_OK);
    struct cmq_rate rate;
    cmq_grant_take(&first, 7, 0, 10, 0, now, &rate);
    expect_rate(take(3, 0, 10, 0, now), true, 10, 0, 1);
    cmq_grant_put(&first);
    write_file(LINE_C LINE_A);
    assert_true(reload(false));
    assert_int_equal(check(TOKEN_A, ""), CMQ_AUTH_OK);
    expect_rate(take(1, 0, 10, 0, now), false, 10, 0, 1);
}

/* ---- what ciphermqctl writes ---- */

static enum cmq_err keep_line(void *context, size_t number, struct cmq_span raw,
                              const struct cmq_token_line *line, struct cmq_reason *ret_reason)
{
    (void)number, (void)raw, (void)ret_reason;
    *(struct cmq_token_line *)context = *line;
    return CMQ_OK;
}

static void token_lines_are_written_as_they_are_read(void **state)
{
    (void)state;
    static const char *const lines[] = {
        LINE_A,
        LINE_B,
        LINE_C,
        "cert x.y-z_1 subject:%C3%A9%25%7F" DATES " admin messages:5 bytes:1099511627776\n",
        "token u sha256:" DIGEST_A " subject:x%20y" DATES " admin\n",
        "token t sha256:" DIGEST_B " created:0 expires:253402300799999 consume:*.b,>\n"};
    for (size_t i = 0; i < CMQ_COUNT_OF(lines); i++) {
        struct cmq_token_line line;
        struct cmq_buf buf;
        cmq_buf_init(&buf, 4096);
        assert_int_equal(cmq_token_file_walk("f", span(lines[i]), keep_line, &line, &reason), CMQ_OK);
        assert_int_equal(cmq_token_line_format(&line, &buf), CMQ_OK);
        assert_int_equal(buf.bytes, strlen(lines[i]));
        assert_memory_equal(buf.data, lines[i], buf.bytes);
        cmq_buf_fini(&buf);
    }
}

static void token_made_is_in_the_form_and_never_the_same(void **state)
{
    (void)state;
    char first[CMQ_TOKEN_BYTES + 1], second[CMQ_TOKEN_BYTES + 1], seen[256] = {0};
    uint8_t digest[CMQ_TOKEN_DIGEST_BYTES], again[CMQ_TOKEN_DIGEST_BYTES];
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(cmq_token_make(first, digest), CMQ_OK);
        assert_int_equal(cmq_token_make(second, again), CMQ_OK);
        assert_int_equal(strlen(first), CMQ_TOKEN_BYTES);
        assert_string_not_equal(first, second);
        assert_int_equal(strncmp(first, "cmq_", 4), 0);
        assert_int_equal(
            strspn(first + 4, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), 43);
        cmq_token_digest(span(first), again);
        assert_memory_equal(digest, again, sizeof digest);
        for (unsigned k = 4; k < CMQ_TOKEN_BYTES; k++)
            seen[(unsigned char)first[k]] = 1;
    }
    size_t letters = 0;
    for (unsigned i = 0; i < sizeof seen; i++)
        letters += seen[i] != 0;
    assert_int_equal(letters, 64);
}

static void token_file_is_replaced_whole_with_its_group(void **state)
{
    (void)state;
    struct stat before, after;
    char aside[96];
    (void)snprintf(aside, sizeof aside, "%s.new", path);
    assert_int_equal(cmq_token_file_write(path, span(LINE_A), &reason), CMQ_OK);
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(before.st_mode & 07777, 0640);
    if (geteuid() == 0)
        assert_int_equal(chown(path, 0, 4242), 0);
    assert_int_equal(chmod(path, 0600), 0);
    const int litter = open(aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    assert_true(litter >= 0);
    assert_int_equal(close(litter), 0);
    assert_int_equal(cmq_token_file_write(path, span(LINE_B), &reason), CMQ_OK);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_mode & 07777, 0640);
    assert_int_equal(after.st_gid, geteuid() == 0 ? 4242 : before.st_gid);
    assert_true(after.st_ino != before.st_ino);
    assert_int_equal(access(aside, F_OK), -1);
    assert_int_equal(cmq_auth_new(path, 3, &auth, &reason), CMQ_OK);
    assert_int_equal(check(TOKEN_B, ""), CMQ_AUTH_OK);
    assert_int_equal(cmq_token_file_write("/no/such/directory/tokens", span(LINE_B), &reason),
                     CMQ_ERR_NOT_FOUND);
    assert_non_null(strstr(reason.text, "make it first"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        T(auth_without_a_file_lets_everybody_do_everything),
        T(auth_nobody_may_do_nothing),
        T(auth_a_token_has_the_rights_of_its_line),
        T(auth_refusals_are_told_apart),
        T(auth_a_certificate_is_known_by_its_name),
        T(auth_tokens_and_certificates_never_stand_for_each_other),
        T(auth_a_bound_token_needs_its_certificate),
        T(auth_of_token_and_certificate_the_token_counts),
        T(auth_each_fault_of_a_line_has_place_and_sentence),
        T(auth_what_is_there_twice_is_refused),
        T(auth_a_fault_never_shows_what_might_be_a_token),
        T(auth_a_file_that_others_could_touch_is_refused),
        T(auth_a_file_of_a_stranger_is_refused),
        T(auth_only_a_regular_file_is_read),
        T(auth_reload_takes_what_changed_and_keeps_the_rest),
        T(auth_a_grant_outlives_the_table),
        T(auth_a_bad_file_leaves_the_last_good_table_and_is_told_once),
        T(auth_a_file_just_written_is_looked_at_again),
        T(auth_a_file_of_the_future_is_read_once),
        T(auth_reloads_and_checks_may_meet),
        T(auth_failures_of_an_address_are_limited_for_a_minute),
        T(auth_failures_count_by_customer),
        T(auth_failures_of_a_busy_address_outlast_a_flood_of_others),
        T(auth_scopes_cover_as_said),
        T(auth_longest_patterns_are_covered),
        T(auth_scopes_cover_what_trying_every_topic_finds),
        T(auth_rates_hold_a_second_and_fill_again),
        T(auth_a_batch_above_the_rate_is_taken_once_and_paid_for),
        T(auth_rates_take_from_both_buckets_or_none),
        T(auth_all_who_hold_a_token_share_its_buckets_across_reloads),
        T(token_lines_are_written_as_they_are_read),
        T(token_made_is_in_the_form_and_never_the_same),
        T(token_file_is_replaced_whole_with_its_group),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
