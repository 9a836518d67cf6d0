/* Unit tests of common/proc/cmq_tls_files: what is refused of a file as a file, and when a change counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/cmq_clock.h"
#include "common/proc/cmq_tls_files.h"

static char directory[] = "/tmp/cmq_test_tls.XXXXXX";
static char cert[64], key[64], ca[64], aside[64];
static struct cmq_tls_setup setup;
static struct cmq_reason reason;

static void put(const char *path, const char *text, size_t bytes, mode_t mode)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static int make_directory(void **state)
{
    (void)state;
    if (mkdtemp(directory) == NULL)
        return -1;
    (void)snprintf(cert, sizeof cert, "%s/cert", directory);
    (void)snprintf(key, sizeof key, "%s/key", directory);
    (void)snprintf(ca, sizeof ca, "%s/ca", directory);
    (void)snprintf(aside, sizeof aside, "%s/aside", directory);
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    const char *const paths[] = {cert, key, ca, aside};
    for (size_t i = 0; i < CMQ_COUNT_OF(paths); i++)
        (void)unlink(paths[i]);
    return rmdir(directory);
}

static int put_good_ones(void **state)
{
    (void)state;
    (void)unlink(cert);
    put(cert, "certificate", 11, 0644);
    put(key, "key", 3, 0640);
    put(ca, "authorities", 11, 0644);
    setup = (struct cmq_tls_setup){.path = {cert, key, ca}, .client_cert = CMQ_CONF_CLIENT_CERT_REQUIRED};
    reason.text[0] = '\0';
    return 0;
}

static void expect_refusal(enum cmq_err err, const char *part, const char *other_part)
{
    struct cmq_tls_files files = {0};
    assert_int_equal(cmq_tls_files_read(&setup, &files, &reason), err);
    if (strstr(reason.text, part) == NULL || strstr(reason.text, other_part) == NULL)
        fail_msg("expected '%s' and '%s' in: %s", part, other_part, reason.text);
    for (size_t i = 0; i < CMQ_TLS_FILE_COUNT; i++)
        assert_null(files.text[i].data);
}

static void files_come_as_text_with_a_zero_byte_behind(void **state)
{
    (void)state;
    struct cmq_tls_files files;
    assert_int_equal(cmq_tls_files_read(&setup, &files, &reason), CMQ_OK);
    assert_string_equal((const char *)files.text[CMQ_TLS_CERT].data, "certificate");
    assert_string_equal((const char *)files.text[CMQ_TLS_KEY].data, "key");
    assert_int_equal(files.text[CMQ_TLS_KEY].bytes, 3);
    assert_string_equal((const char *)files.text[CMQ_TLS_CLIENT_CA].data, "authorities");
    cmq_tls_files_clear(&files);
    assert_null(files.text[CMQ_TLS_KEY].data);
    cmq_tls_files_clear(&files);
}

static void files_that_are_not_named_are_empty(void **state)
{
    (void)state;
    struct cmq_tls_files files;
    setup.path[CMQ_TLS_CLIENT_CA] = "";
    assert_int_equal(cmq_tls_files_read(&setup, &files, &reason), CMQ_OK);
    assert_int_equal(files.text[CMQ_TLS_CLIENT_CA].bytes, 0);
    cmq_tls_files_clear(&files);
}

static void files_may_be_links(void **state)
{
    (void)state;
    struct cmq_tls_files files;
    assert_int_equal(rename(cert, aside), 0);
    assert_int_equal(symlink(aside, cert), 0);
    assert_int_equal(cmq_tls_files_read(&setup, &files, &reason), CMQ_OK);
    assert_string_equal((const char *)files.text[CMQ_TLS_CERT].data, "certificate");
    cmq_tls_files_clear(&files);
}

static void files_that_others_may_write_are_refused(void **state)
{
    (void)state;
    const char *const paths[] = {cert, key, ca};
    for (size_t i = 0; i < CMQ_COUNT_OF(paths); i++) {
        assert_int_equal(chmod(paths[i], 0620), 0);
        expect_refusal(CMQ_ERR_PERMISSION, "has mode 0620, so that group or others may write it",
                       "chmod go-w");
        assert_int_equal(chmod(paths[i], 0602), 0);
        expect_refusal(CMQ_ERR_PERMISSION, "has mode 0602", paths[i]);
        assert_int_equal(chmod(paths[i], 0600), 0);
    }
}

static void key_that_everybody_may_read_is_refused(void **state)
{
    (void)state;
    const mode_t modes[] = {0604, 0644, 0601};
    for (size_t i = 0; i < CMQ_COUNT_OF(modes); i++) {
        assert_int_equal(chmod(key, modes[i]), 0);
        expect_refusal(CMQ_ERR_PERMISSION, "tls.key_file: ", "everybody may read the key: `chmod o= ");
    }
}

static void files_of_another_kind_are_refused(void **state)
{
    (void)state;
    setup.path[CMQ_TLS_CERT] = directory;
    expect_refusal(CMQ_ERR_INVALID, "tls.cert_file: ", "is not a regular file");
    setup.path[CMQ_TLS_CERT] = "/dev/null";
    expect_refusal(CMQ_ERR_INVALID, "/dev/null", "is not a regular file");
    setup.path[CMQ_TLS_CERT] = aside;
    (void)unlink(aside);
    expect_refusal(CMQ_ERR_INVALID, "there is no file", aside);
    put(aside, "", 0, 0600);
    expect_refusal(CMQ_ERR_INVALID, "has 0 bytes", "1 to 1048576");
    put(aside, "a\0b", 3, 0600);
    expect_refusal(CMQ_ERR_INVALID, "has zero bytes", "no PEM file");
    assert_int_equal(truncate(aside, (off_t)CMQ_TLS_FILE_BYTES_MAX + 1), 0);
    expect_refusal(CMQ_ERR_INVALID, "has 1048577 bytes", "1 to 1048576");
}

/* Looks a second apart. */
static bool look(struct cmq_tls_watch *watch, unsigned second)
{
    return cmq_tls_watch_changed(watch, second * CMQ_NS_PER_S);
}

static void change_counts_once_when_it_has_settled(void **state)
{
    (void)state;
    struct cmq_tls_watch watch;
    cmq_tls_watch_init(&watch, &setup);
    assert_false(look(&watch, 1));
    assert_false(look(&watch, 2));
    put(cert, "renewed certificate", 19, 0644);
    assert_false(look(&watch, 3)); /* seen for the first time */
    put(key, "renewed key", 11, 0640);
    assert_false(look(&watch, 4)); /* still on the move */
    assert_true(look(&watch, 5));
    assert_false(look(&watch, 6));
}

static void looks_are_a_second_apart(void **state)
{
    (void)state;
    struct cmq_tls_watch watch;
    cmq_tls_watch_init(&watch, &setup);
    assert_false(look(&watch, 1));
    put(cert, "renewed", 7, 0644);
    assert_false(cmq_tls_watch_changed(&watch, CMQ_NS_PER_S + 1));
    assert_false(cmq_tls_watch_changed(&watch, 2 * CMQ_NS_PER_S - 1));
    assert_false(look(&watch, 2)); /* only now it is seen */
    assert_true(look(&watch, 3));
}

static void file_that_goes_is_a_change_and_comes_back_as_one(void **state)
{
    (void)state;
    struct cmq_tls_watch watch;
    cmq_tls_watch_init(&watch, &setup);
    assert_int_equal(unlink(key), 0);
    assert_false(look(&watch, 1));
    assert_true(look(&watch, 2)); /* reading it says what is wrong, once */
    assert_false(look(&watch, 3));
    put(key, "key", 3, 0640);
    assert_false(look(&watch, 4));
    assert_true(look(&watch, 5));
}

static void change_of_mode_alone_counts(void **state)
{
    (void)state;
    struct cmq_tls_watch watch;
    assert_int_equal(chmod(key, 0644), 0);
    cmq_tls_watch_init(&watch, &setup);
    assert_int_equal(chmod(key, 0600), 0);
    assert_false(look(&watch, 1));
    assert_true(look(&watch, 2));
}

static void names_are_plain_or_none(void **state)
{
    (void)state;
    const char *const plain[] = {
        "a", "client-1.example.com", "team@example.com", "urn:x:y", "*.example.com", "~_/'", "a b"};
    const char *const odd[] = {"",    " a",  "a ",  " ",  "a,b",  "a+b",  "a\"b",    "a\\b",
                               "<a>", "a;b", "a=b", "#1", "a\nb", "\x7f", "\xc3\xa4"};
    char longest[CMQ_TLS_NAME_BYTES_MAX + 1];
    memset(longest, 'a', sizeof longest);
    for (size_t i = 0; i < CMQ_COUNT_OF(plain); i++)
        assert_true(cmq_tls_name_is_plain(plain[i], strlen(plain[i])));
    for (size_t i = 0; i < CMQ_COUNT_OF(odd); i++)
        assert_false(cmq_tls_name_is_plain(odd[i], strlen(odd[i])));
    assert_false(cmq_tls_name_is_plain("a\0b", 3));
    assert_true(cmq_tls_name_is_plain(longest, CMQ_TLS_NAME_BYTES_MAX));
    assert_false(cmq_tls_name_is_plain(longest, sizeof longest));
}

static void setup_is_no_tls_without_a_certificate(void **state)
{
    (void)state;
    struct cmq_conf conf;
    struct cmq_tls_setup found;
    const struct cmq_conf_override overrides[] = {{"tls.cert_file=/c"}, {"tls.key_file=/k"}};
    assert_int_equal(cmq_conf_load(NULL, NULL, 0, &conf, &reason), CMQ_OK);
    assert_false(cmq_tls_setup(&conf, &found));
    assert_int_equal(cmq_conf_load(NULL, overrides, 2, &conf, &reason), CMQ_OK);
    assert_true(cmq_tls_setup(&conf, &found));
    assert_string_equal(found.path[CMQ_TLS_CERT], "/c");
    assert_string_equal(found.path[CMQ_TLS_KEY], "/k");
    assert_string_equal(found.path[CMQ_TLS_CLIENT_CA], "");
    assert_int_equal(found.client_cert, CMQ_CONF_CLIENT_CERT_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(files_come_as_text_with_a_zero_byte_behind, put_good_ones),
        cmocka_unit_test_setup(files_that_are_not_named_are_empty, put_good_ones),
        cmocka_unit_test_setup(files_may_be_links, put_good_ones),
        cmocka_unit_test_setup(files_that_others_may_write_are_refused, put_good_ones),
        cmocka_unit_test_setup(key_that_everybody_may_read_is_refused, put_good_ones),
        cmocka_unit_test_setup(files_of_another_kind_are_refused, put_good_ones),
        cmocka_unit_test_setup(change_counts_once_when_it_has_settled, put_good_ones),
        cmocka_unit_test_setup(looks_are_a_second_apart, put_good_ones),
        cmocka_unit_test_setup(file_that_goes_is_a_change_and_comes_back_as_one, put_good_ones),
        cmocka_unit_test_setup(change_of_mode_alone_counts, put_good_ones),
        cmocka_unit_test(names_are_plain_or_none),
        cmocka_unit_test(setup_is_no_tls_without_a_certificate),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
