/* Unit tests of deploy/ctl: targets, the plan of scale, names, and programs that are run. No supervisor, no
 * ring. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/cmq_base.h"
#include "ctl_exec.h"
#include "ctl_scale.h"
#include "ctl_token.h"

static void ctl_target_is_a_stage_or_one_of_its_instances(void **state)
{
    (void)state;
    struct ctl_target target;
    assert_true(ctl_target_parse("ingest", &target));
    assert_string_equal(target.stage, "ingest");
    assert_int_equal(target.role, CMQ_ROLE_INGEST);
    assert_false(target.one);
    assert_true(ctl_target_parse("dispatcher:7", &target));
    assert_int_equal(target.role, CMQ_ROLE_DISPATCHER);
    assert_true(target.one);
    assert_int_equal(target.instance, 7);
    assert_true(ctl_target_parse("encryptor:0", &target));
    assert_int_equal(target.role, CMQ_ROLE_ENCRYPTOR);
    assert_int_equal(target.instance, 0);
}

static void ctl_target_of_any_other_form_is_refused(void **state)
{
    (void)state;
    const char *const bad[] = {
        "",          "ing",       "ingests",    "Ingest", "ingest:",  "ingest:8", "ingest:-1",
        "ingest:1x", "ingest:01", "ingest:1:2", ":1",     "observer", "none"};
    struct ctl_target target = {.instance = 99};
    for (size_t i = 0; i < CMQ_COUNT_OF(bad); i++)
        assert_false(ctl_target_parse(bad[i], &target));
    assert_int_equal(target.instance, 99);
}

static void ctl_count_is_1_to_8(void **state)
{
    (void)state;
    const char *const bad[] = {"", "0", "9", "10", "-1", "1 ", " 1", "x"};
    unsigned count = 0;
    assert_true(ctl_count_parse("1", &count));
    assert_int_equal(count, 1);
    assert_true(ctl_count_parse("8", &count));
    assert_int_equal(count, 8);
    for (size_t i = 0; i < CMQ_COUNT_OF(bad); i++)
        assert_false(ctl_count_parse(bad[i], &count));
}

/* "S3" = start 3, "X5" = stop 5. */
static void expect_plan(const char *running, unsigned count, const char *expected)
{
    bool runs[CTL_INSTANCES_MAX] = {false};
    struct ctl_step steps[CTL_INSTANCES_MAX];
    char text[3 * CTL_INSTANCES_MAX + 1] = {0};
    for (size_t i = 0; running[i] != '\0'; i++)
        runs[running[i] - '0'] = true;
    unsigned step_count = ctl_scale_plan(runs, count, steps);
    for (unsigned i = 0; i < step_count; i++) {
        size_t at = strlen(text);
        (void)snprintf(text + at, sizeof text - at, "%s%c%u", at == 0 ? "" : " ",
                       steps[i].verb == CTL_SUPER_START ? 'S' : 'X', steps[i].instance);
    }
    assert_string_equal(text, expected);
}

static void ctl_scale_touches_only_what_must_change(void **state)
{
    (void)state;
    expect_plan("", 1, "S0");
    expect_plan("0", 1, "");
    expect_plan("0", 3, "S1 S2");
    expect_plan("012", 1, "X2 X1");
    expect_plan("02", 3, "S1");
    expect_plan("0257", 2, "S1 X7 X5 X2");
    expect_plan("01234567", 8, "");
    expect_plan("", 8, "S0 S1 S2 S3 S4 S5 S6 S7");
    expect_plan("01234567", 1, "X7 X6 X5 X4 X3 X2 X1");
    expect_plan("7", 1, "S0 X7");
}

static void ctl_names_are_those_of_the_supervisor(void **state)
{
    (void)state;
    struct ctl_super_name name;
    assert_string_equal(ctl_super_name(&name, CTL_SUPER_SUPERVISORD, "ingest", 0), "ingest:ingest-0");
    assert_string_equal(ctl_super_name(&name, CTL_SUPER_SUPERVISORD, "ingest", 3), "ingest-more:ingest-3");
    assert_string_equal(ctl_super_name(&name, CTL_SUPER_SYSTEMD, "encryptor", 2),
                        "ciphermq-encryptor@2.service");
}

static void ctl_exec_gives_status_and_output(void **state)
{
    (void)state;
    struct ctl_exec_output output;
    int status = -1;
    const char *const fails[] = {"sh", "-c", "echo one; echo two >&2; exit 7", NULL};
    assert_int_equal(ctl_exec(fails, &status, &output), CMQ_OK);
    assert_int_equal(status, 7);
    assert_string_equal(output.text, "one two");
    const char *const killed[] = {"sh", "-c", "kill -TERM $$", NULL};
    assert_int_equal(ctl_exec(killed, &status, &output), CMQ_OK);
    assert_int_equal(status, 128 + 15);
    assert_string_equal(output.text, "");
    const char *const missing[] = {"cmq-no-such-program", NULL};
    assert_int_equal(ctl_exec(missing, &status, &output), CMQ_OK);
    assert_int_equal(status, 127);
    assert_string_equal(output.text, "cannot be started: not installed");
}

static void ctl_exec_has_no_shell_between(void **state)
{
    (void)state;
    struct ctl_exec_output output;
    int status = -1;
    const char *const argv[] = {"printf", "%s|", "$HOME; `id`", "two words", NULL};
    assert_int_equal(ctl_exec(argv, &status, &output), CMQ_OK);
    assert_string_equal(output.text, "$HOME; `id`|two words|");
}

static void ctl_exec_keeps_the_beginning_of_a_flood(void **state)
{
    (void)state;
    struct ctl_exec_output output;
    int status = -1;
    const char *const argv[] = {"sh", "-c", "printf start; head -c 1000000 /dev/zero; printf ok; cat", NULL};
    assert_int_equal(ctl_exec(argv, &status, &output), CMQ_OK);
    assert_int_equal(status, 0); /* it ran to its end, and its stdin is empty */
    assert_string_equal(output.text, "start");
}

/* A supervisorctl of ours in PATH: prints its arguments, ends with $FAKE_STATUS. */
static void ctl_super_calls_supervisorctl_and_understands_it(void **state)
{
    (void)state;
    char dir[] = "/tmp/cmq_test_ctl.XXXXXX", program[64], path[4096];
    assert_non_null(mkdtemp(dir));
    (void)snprintf(program, sizeof program, "%s/supervisorctl", dir);
    FILE *file = fopen(program, "we");
    assert_non_null(file);
    assert_true(fputs("#!/bin/sh\necho \"$FAKE_WORDS args: $*\"\nexit $FAKE_STATUS\n", file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(program, 0700), 0);
    (void)snprintf(path, sizeof path, "%s:%s", dir, getenv("PATH"));
    assert_int_equal(setenv("PATH", path, 1), 0);

    const struct ctl_super super = {.kind = CTL_SUPER_SUPERVISORD, .conf = "/a b.conf"};
    struct cmq_reason reason;
    bool runs[CTL_INSTANCES_MAX] = {false};
    assert_int_equal(setenv("FAKE_STATUS", "0", 1), 0);
    assert_int_equal(setenv("FAKE_WORDS", "", 1), 0);
    assert_int_equal(ctl_super_act(&super, CTL_SUPER_RESTART, "ingest", 0, &reason), CMQ_OK);
    assert_int_equal(setenv("FAKE_STATUS", "3", 1), 0);
    assert_int_equal(
        setenv("FAKE_WORDS",
               "ingest:ingest-0  RUNNING pid 7, uptime 0:00:01 ingest-more:ingest-1 STOPPED Not started "
               "ingest-more:ingest-2 STARTING ingest-more:ingest-3 BACKOFF Exited ingest-more:ingest-4 FATAL "
               "ingest-more:ingest-5 EXITED ingest-more:ingest-6 STOPPING ingest-more:ingest-7 RUNNING pid 8",
               1),
        0);
    assert_int_equal(ctl_super_look(&super, "ingest", runs, &reason), CMQ_OK);
    for (unsigned i = 0; i < CTL_INSTANCES_MAX; i++)
        assert_int_equal(runs[i], i == 0 || i == 2 || i == 7);
    assert_int_equal(ctl_super_look(&super, "encryptor", runs, &reason),
                     CMQ_ERR_SYSTEM); /* not one of them */
    assert_int_equal(setenv("FAKE_STATUS", "4", 1), 0);
    assert_int_equal(setenv("FAKE_WORDS", "", 1), 0);
    assert_int_equal(ctl_super_look(&super, "ingest", runs, &reason), CMQ_ERR_SYSTEM);
    assert_non_null(strstr(reason.text, "supervisorctl status ingest:ingest-0 ... ended with 4: "));
    assert_non_null(strstr(reason.text, "is the supervisor running?"));
    assert_int_equal(ctl_super_act(&super, CTL_SUPER_STOP, "encryptor", 0, &reason), CMQ_ERR_SYSTEM);
    assert_non_null(strstr(reason.text, "ended with 4:  args: -c /a b.conf stop encryptor:encryptor-0"));
    assert_int_equal(ctl_super_act(&super, CTL_SUPER_START, "encryptor", 2, &reason), CMQ_ERR_SYSTEM);
    assert_non_null(strstr(reason.text, "start encryptor-more:encryptor-2"));
    assert_int_equal(unlink(program), 0);
    assert_int_equal(rmdir(dir), 0);
}

/* A systemctl of ours that answers one word a unit. */
static void ctl_super_understands_systemctl(void **state)
{
    (void)state;
    char dir[] = "/tmp/cmq_test_ctl.XXXXXX", program[64], path[4096];
    assert_non_null(mkdtemp(dir));
    (void)snprintf(program, sizeof program, "%s/systemctl", dir);
    FILE *file = fopen(program, "we");
    assert_non_null(file);
    assert_true(fputs("#!/bin/sh\n[ $# -eq 9 ] || exit 1\nprintf 'active\\ninactive\\nactivating\\nfailed\\n"
                      "deactivating\\nreloading\\nunknown\\nactive\\n'\n",
                      file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(program, 0700), 0);
    (void)snprintf(path, sizeof path, "%s:%s", dir, getenv("PATH"));
    assert_int_equal(setenv("PATH", path, 1), 0);
    const struct ctl_super super = {.kind = CTL_SUPER_SYSTEMD};
    struct cmq_reason reason;
    bool runs[CTL_INSTANCES_MAX] = {false};
    assert_int_equal(ctl_super_look(&super, "ingest", runs, &reason), CMQ_OK);
    for (unsigned i = 0; i < CTL_INSTANCES_MAX; i++)
        assert_int_equal(runs[i], i == 0 || i == 2 || i == 5 || i == 7);
    assert_int_equal(unlink(program), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void ctl_super_is_found_by_option_or_environment(void **state)
{
    (void)state;
    struct ctl ctl = {0};
    struct ctl_super super;
    struct cmq_reason reason;
    assert_int_equal(setenv("CIPHERMQ_SUPERVISOR_CONF", "/env.conf", 1), 0);
    assert_int_equal(ctl_super_open(&ctl, &super, &reason), CMQ_OK);
    assert_int_equal(super.kind, CTL_SUPER_SUPERVISORD);
    assert_string_equal(super.conf, "/env.conf");
    ctl.supervisor_conf = "/option.conf";
    assert_int_equal(ctl_super_open(&ctl, &super, &reason), CMQ_OK);
    assert_string_equal(super.conf, "/option.conf");
    ctl.systemd = true;
    assert_int_equal(ctl_super_open(&ctl, &super, &reason), CMQ_OK);
    assert_int_equal(super.kind, CTL_SUPER_SYSTEMD);
    assert_int_equal(unsetenv("CIPHERMQ_SUPERVISOR_CONF"), 0);
}

/* 2026-11-25 00:00:00 UTC */
#define NOW_MS 1795564800000ull

static void ctl_token_expires_when_it_is_said(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t expires_ms;
    } cases[] = {
        {"never", CMQ_TOKEN_NEVER},    {"30m", NOW_MS + 1800000},     {"12h", NOW_MS + 43200000},
        {"90d", NOW_MS + 7776000000},  {"2w", NOW_MS + 1209600000},   {"36500d", NOW_MS + 3153600000000},
        {"2027-01-31", 1801353600000}, {"2028-02-29", 1835395200000}, {"2027-01-31T12:00:01Z", 1801396801000},
    };
    struct cmq_reason reason;
    for (size_t i = 0; i < CMQ_COUNT_OF(cases); i++) {
        uint64_t expires_ms = 0;
        if (ctl_token_expiry(cases[i].text, NOW_MS, &expires_ms, &reason) != CMQ_OK)
            fail_msg("%s: %s", cases[i].text, reason.text);
        assert_int_equal(expires_ms, cases[i].expires_ms);
    }
}

static void ctl_token_expiry_of_any_other_form_is_refused(void **state)
{
    (void)state;
    const char *const bad[] = {"",
                               "90",
                               "d",
                               "-1d",
                               "1.5d",
                               " 1d",
                               "1d ",
                               "1dd",
                               "1y",
                               "36501d",
                               "Never",
                               "9999999999d",
                               "2027",
                               "2027-02-29",
                               "2027-13-01",
                               "2027-00-10",
                               "2027-1-31",
                               "2027-01-31T",
                               "0d",
                               "2026-11-25",
                               "1969-12-31",
                               "31.01.2027",
                               "2027/01/31",
                               "2027-01-31T24:00:00Z",
                               "2027-01-31T12:00:00"};
    struct cmq_reason reason;
    for (size_t i = 0; i < CMQ_COUNT_OF(bad); i++) {
        uint64_t expires_ms = 7;
        if (ctl_token_expiry(bad[i], NOW_MS, &expires_ms, &reason) != CMQ_ERR_INVALID || expires_ms != 7)
            fail_msg("\"%s\" is taken", bad[i]);
        assert_non_null(strstr(reason.text, "--expires: "));
    }
}

static void ctl_token_rates_have_bounds_and_units(void **state)
{
    (void)state;
    const char *const bad[] = {"", "0", "-1", "1001", "1 ", "1k", "1KB", "K", "99999999999999999999", "1G"};
    struct cmq_reason reason;
    uint64_t rate = 0;
    assert_int_equal(ctl_token_rate("--x", "1000", false, 1000, &rate, &reason), CMQ_OK);
    assert_int_equal(rate, 1000);
    assert_int_equal(ctl_token_rate("--x", "3K", true, 3072, &rate, &reason), CMQ_OK);
    assert_int_equal(rate, 3072);
    assert_int_equal(ctl_token_rate("--x", "1024G", true, 1ull << 40, &rate, &reason), CMQ_OK);
    assert_int_equal(rate, 1ull << 40);
    assert_int_equal(ctl_token_rate("--x", "3K", true, 3071, &rate, &reason), CMQ_ERR_INVALID);
    assert_int_equal(ctl_token_rate("--x", "3K", false, 3072, &rate, &reason), CMQ_ERR_INVALID);
    for (size_t i = 0; i < CMQ_COUNT_OF(bad); i++)
        assert_int_equal(ctl_token_rate("--x", bad[i], true, 1000, &rate, &reason), CMQ_ERR_INVALID);
}

static void ctl_token_scopes_of_several_options_are_put_together(void **state)
{
    (void)state;
    struct ctl_token_options options = {.scopes = {[1] = {"orders.>,a", "b.*"}, [2] = {"a,,b"}},
                                        .scope_counts = {[1] = 2, [2] = 1}};
    struct cmq_reason reason;
    struct cmq_buf buf;
    cmq_buf_init(&buf, 100);
    assert_int_equal(ctl_token_scope(&options, 0, &buf, &reason), CMQ_OK);
    assert_int_equal(buf.bytes, 0);
    assert_int_equal(ctl_token_scope(&options, 1, &buf, &reason), CMQ_OK);
    assert_int_equal(buf.bytes, 14);
    assert_memory_equal(buf.data, "orders.>,a,b.*", 14);
    buf.bytes = 0;
    assert_int_equal(ctl_token_scope(&options, 2, &buf, &reason), CMQ_ERR_INVALID);
    assert_string_equal(reason.text, "--consume: 2. pattern: pattern is empty; it needs 1 to 255 bytes");
    cmq_buf_fini(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ctl_target_is_a_stage_or_one_of_its_instances),
        cmocka_unit_test(ctl_target_of_any_other_form_is_refused),
        cmocka_unit_test(ctl_count_is_1_to_8),
        cmocka_unit_test(ctl_scale_touches_only_what_must_change),
        cmocka_unit_test(ctl_names_are_those_of_the_supervisor),
        cmocka_unit_test(ctl_exec_gives_status_and_output),
        cmocka_unit_test(ctl_exec_has_no_shell_between),
        cmocka_unit_test(ctl_exec_keeps_the_beginning_of_a_flood),
        cmocka_unit_test(ctl_super_calls_supervisorctl_and_understands_it),
        cmocka_unit_test(ctl_super_understands_systemctl),
        cmocka_unit_test(ctl_super_is_found_by_option_or_environment),
        cmocka_unit_test(ctl_token_expires_when_it_is_said),
        cmocka_unit_test(ctl_token_expiry_of_any_other_form_is_refused),
        cmocka_unit_test(ctl_token_rates_have_bounds_and_units),
        cmocka_unit_test(ctl_token_scopes_of_several_options_are_put_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
