/* Unit tests of dsp_access: tokens of requests, a file that changes, origins. The table of tokens itself: test_cmq_auth. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dispatcher/dsp_access.h"

/* The file has the first, and its digest. */
#define TOKEN  "cmq_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define OTHER  "cmq_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA"
#define DIGEST "affdcd7be4867ecfd05a95970820a0544c5b99774c3c65110ad234ce99cb58dc"
#define LINE   "token reader sha256:" DIGEST " created:0 expires:never subscribe:orders.> consume:jobs\n"
#define CERT   "cert machine subject:press-7 created:0 expires:never subscribe:a\n"

static char directory[] = "/tmp/cmq-access-XXXXXX";
static char path[64], path_2[64];
static struct dsp_access *access_of_file;

static void write_file(const char *file, const char *text)
{
    FILE *out = fopen(file, "w");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(chmod(file, 0640), 0);
}

static int make_directory(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(directory));
    (void)snprintf(path, sizeof(path), "%s/tokens", directory);
    (void)snprintf(path_2, sizeof(path_2), "%s/tokens2", directory);
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    (void)unlink(path);
    (void)unlink(path_2);
    return rmdir(directory);
}

static int setup(void **state)
{
    (void)state;
    struct cmq_reason reason = {.text = ""};
    write_file(path, LINE CERT);
    write_file(path_2, "");
    if (dsp_access_new(path, 1000000, &access_of_file, &reason) != CMQ_OK)
        fail_msg("%s", reason.text);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dsp_access_free(access_of_file);
    return 0;
}

static struct cmq_span span(const char *text)
{
    return text == NULL ? (struct cmq_span){0} : cmq_span_make(text, strlen(text));
}

/* The status that these headers are answered with; 0 and "": somebody, 0 and "-": nobody. */
static unsigned ask(const char *authorization, const char *api_key, const char *protocols, const char *name)
{
    const struct dsp_credentials credentials = {.authorization = span(authorization),
                                                .api_key = span(api_key),
                                                .protocols = span(protocols),
                                                .address = cmq_span_make("\x7f\0\0\1", 4)};
    struct cmq_grant grant;
    const struct dsp_problem *problem = dsp_access_identify(access_of_file, &credentials, &grant);
    if (problem == NULL)
        assert_string_equal(dsp_access_is_nobody(&grant) ? "-" : cmq_grant_name(&grant), name);
    else
        assert_true(dsp_access_is_nobody(&grant));
    cmq_grant_put(&grant);
    return problem == NULL ? 0 : problem->status;
}

static void a_token_is_found_wherever_it_may_stand(void **state)
{
    (void)state;
    assert_int_equal(ask("Bearer " TOKEN, NULL, NULL, "reader"), 0);
    assert_int_equal(ask(" bEARER   " TOKEN "\t", NULL, NULL, "reader"), 0);
    assert_int_equal(ask(NULL, " " TOKEN " ", NULL, "reader"), 0);
    assert_int_equal(ask(NULL, NULL, "ciphermq.v1.json, ciphermq.token." TOKEN, "reader"), 0);
    assert_int_equal(ask(NULL, NULL, "ciphermq.token." TOKEN ",ciphermq.v1.json", "reader"), 0);
    assert_int_equal(ask(NULL, NULL, "ciphermq.v1.json,, chat", "-"), 0);
    assert_int_equal(ask(NULL, NULL, NULL, "-"), 0);
}

static void what_is_no_good_token_is_unauthorized(void **state)
{
    (void)state;
    assert_int_equal(ask("Bearer " OTHER, NULL, NULL, ""), 401);
    assert_int_equal(ask("Bearer", NULL, NULL, ""), 401);
    assert_int_equal(ask("Bearer  ", NULL, NULL, ""), 401);
    assert_int_equal(ask("Basic " TOKEN, NULL, NULL, ""), 401);
    assert_int_equal(ask(TOKEN "x", NULL, NULL, ""), 401);
    assert_int_equal(ask(NULL, "", NULL, "-"), 401);
    assert_int_equal(ask(NULL, NULL, "ciphermq.token.", ""), 401);
}

static void two_tokens_are_one_too_many(void **state)
{
    (void)state;
    assert_int_equal(ask("Bearer " TOKEN, TOKEN, NULL, ""), 400);
    assert_int_equal(ask("Bearer " TOKEN, NULL, "ciphermq.token." TOKEN, ""), 400);
    assert_int_equal(ask(NULL, NULL, "ciphermq.token." TOKEN ", ciphermq.token." TOKEN, ""), 400);
    struct cmq_grant grant;
    const struct dsp_credentials repeated = {.authorization = span("Bearer " TOKEN), .repeated = true};
    const struct dsp_problem *problem = dsp_access_identify(access_of_file, &repeated, &grant);
    assert_int_equal(problem->status, 400);
}

static void a_certificate_names_somebody_or_nobody(void **state)
{
    (void)state;
    struct cmq_grant grant;
    struct dsp_credentials credentials = {.certificate = span("press-7")};
    assert_null(dsp_access_identify(access_of_file, &credentials, &grant));
    assert_string_equal(cmq_grant_name(&grant), "machine");
    cmq_grant_put(&grant);
    credentials.certificate = span("press-8"); /* a token may follow in connect */
    assert_null(dsp_access_identify(access_of_file, &credentials, &grant));
    assert_true(dsp_access_is_nobody(&grant));
}

static void rights_are_asked_of_the_grant(void **state)
{
    (void)state;
    struct cmq_grant grant = {0};
    assert_int_equal(dsp_access_require(&grant, CMQ_RIGHT_CONSUME, span("jobs"))->status, 401);
    assert_int_equal(dsp_access_token(access_of_file, span(TOKEN), span(NULL), &grant), CMQ_AUTH_OK);
    assert_null(dsp_access_require(&grant, CMQ_RIGHT_CONSUME, span("jobs")));
    assert_null(dsp_access_require(&grant, CMQ_RIGHT_SUBSCRIBE, span("orders.*")));
    const struct dsp_problem *problem = dsp_access_require(&grant, CMQ_RIGHT_SUBSCRIBE, span("jobs"));
    assert_int_equal(problem->status, 403);
    assert_non_null(strstr(problem->detail, "subscribe"));
    assert_null(strstr(problem->detail, "jobs"));
    cmq_grant_put(&grant);
    assert_int_equal(dsp_access_token(access_of_file, span(""), span(NULL), &grant), CMQ_AUTH_UNKNOWN);
}

static void a_file_that_changes_ends_grants(void **state)
{
    (void)state;
    struct cmq_grant grant = {0};
    assert_int_equal(dsp_access_token(access_of_file, span(TOKEN), span(NULL), &grant), CMQ_AUTH_OK);
    assert_false(dsp_access_refresh(access_of_file, path, false));
    assert_true(dsp_access_is_live(access_of_file, &grant));
    write_file(path, "nonsense\n");
    assert_false(dsp_access_refresh(access_of_file, path, true));
    assert_true(dsp_access_is_live(access_of_file, &grant));
    write_file(path, CERT);
    assert_true(dsp_access_refresh(access_of_file, path, true));
    dsp_access_renew(access_of_file);
    assert_false(dsp_access_is_live(access_of_file, &grant));
    cmq_grant_put(&grant);
}

static void another_file_holds_once_the_delivery_thread_took_it(void **state)
{
    (void)state;
    struct cmq_grant grant = {0}, none = {0};
    assert_int_equal(dsp_access_token(access_of_file, span(TOKEN), span(NULL), &grant), CMQ_AUTH_OK);
    assert_true(dsp_access_refresh(access_of_file, path_2, false));
    assert_true(dsp_access_is_live(access_of_file, &grant)); /* not taken yet */
    dsp_access_renew(access_of_file);
    assert_false(dsp_access_is_live(access_of_file, &grant));
    assert_int_equal(dsp_access_token(access_of_file, span(TOKEN), span(NULL), &none), CMQ_AUTH_UNKNOWN);
    assert_true(dsp_access_refresh(access_of_file, path, false));
    assert_true(dsp_access_refresh(access_of_file, "", false)); /* nobody took the one before */
    dsp_access_renew(access_of_file);
    assert_true(dsp_access_is_open(access_of_file));
    (void)unlink(path_2);
    assert_false(dsp_access_refresh(access_of_file, path_2, false));
    assert_false(dsp_access_refresh(access_of_file, path_2, false)); /* said once */
    dsp_access_renew(access_of_file);
    assert_true(dsp_access_is_open(access_of_file));
    write_file(path_2, LINE);
    assert_true(dsp_access_refresh(access_of_file, path_2, true));
    dsp_access_renew(access_of_file);
    assert_false(dsp_access_is_open(access_of_file));
    cmq_grant_put(&grant);
}

static void without_tokens_everybody_is_somebody(void **state)
{
    (void)state;
    assert_true(dsp_access_refresh(access_of_file, "", false));
    dsp_access_renew(access_of_file);
    assert_int_equal(ask(NULL, NULL, NULL, ""), 0);
    assert_int_equal(ask("Bearer nonsense", NULL, NULL, ""), 0);
    assert_int_equal(ask("Bearer a", "b", NULL, ""), 400);
}

static void an_argument_that_brings_a_token_is_known(void **state)
{
    (void)state;
    static const char *const bad[] = {"token=x",        "TOKEN=",          "token",
                                      "access_token=x", "Authorization=x", "api_key=x"};
    static const char *const good[] = {"", "=", "tokens=x", "since=token", "to=1", "x=token=1"};
    for (size_t i = 0; i < CMQ_COUNT_OF(bad); i++)
        assert_true(dsp_access_is_token_argument(span(bad[i])));
    for (size_t i = 0; i < CMQ_COUNT_OF(good); i++)
        assert_false(dsp_access_is_token_argument(span(good[i])));
}

static void an_origin_is_listed_or_of_the_same_host(void **state)
{
    (void)state;
    static const struct {
        const char *allowed, *origin, *host;
        bool ok;
    } cases[] = {
        {"", "https://a.example", "a.example:8080", true},
        {"", "https://a.example:99", "a.example", true},
        {"", "https://A.example", "a.EXAMPLE", true},
        {"", "https://a.example.evil", "a.example", false},
        {"", "https://evil/a.example", "a.example", false},
        {"", "https://b.example", "a.example", false},
        {"", "http://localhost:3000", "a.example", true},
        {"", "http://[::1]:3000", "a.example", true},
        {"", "http://[::1", "[::1", true},
        {"", "http://127.0.0.1.evil", "a.example", false},
        {"", "http://localhost.evil", "a.example", false},
        {"", "null", "a.example", false},
        {"", "", "", false},
        {"", "https://", "", false},
        {"https://b.example", "https://b.example", "a.example", true},
        {"https://c.example https://b.example", "https://B.example", "a.example", true},
        {"https://b.example", "https://b.example:8443", "a.example", false},
        {"https://b.example", "https://b.exampl", "a.example", false},
        {"https://b.example", "", "a.example", false},
        {"  *  ", "https://any.example", "a.example", true},
        {"**", "https://any.example", "a.example", false},
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(cases); i++)
        if (dsp_access_origin(cases[i].allowed, span(cases[i].origin), span(cases[i].host)) != cases[i].ok)
            fail_msg("case %zu", i);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_token_is_found_wherever_it_may_stand),
        TEST(what_is_no_good_token_is_unauthorized),
        TEST(two_tokens_are_one_too_many),
        TEST(a_certificate_names_somebody_or_nobody),
        TEST(rights_are_asked_of_the_grant),
        TEST(a_file_that_changes_ends_grants),
        TEST(another_file_holds_once_the_delivery_thread_took_it),
        TEST(without_tokens_everybody_is_somebody),
        cmocka_unit_test(an_argument_that_brings_a_token_is_known),
        cmocka_unit_test(an_origin_is_listed_or_of_the_same_host),
    };
    return cmocka_run_group_tests_name("dsp_access", tests, make_directory, remove_directory);
}
