/* Unit tests of common/conf: every fault names file, line, key and fix, and leaves the caller's struct alone.
 */
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
#include "common/conf/cmq_conf.h"

static char conf_path[] = "/tmp/cmq_test_conf.XXXXXX";
static struct cmq_conf conf;
static struct cmq_reason reason;

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(conf_path);
    return fd < 0 || close(fd) != 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(conf_path);
}

static void write_bytes(const char *text, size_t bytes)
{
    FILE *file = fopen(conf_path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static enum cmq_err load_text(const char *text)
{
    write_bytes(text, strlen(text));
    memset(&conf, 0x5a, sizeof conf);
    reason.text[0] = '\0';
    return cmq_conf_load(conf_path, NULL, 0, &conf, &reason);
}

static enum cmq_err load_set(const char *override)
{
    const struct cmq_conf_override overrides[] = {{override}};
    reason.text[0] = '\0';
    return cmq_conf_load(NULL, overrides, override == NULL ? 0 : 1, &conf, &reason);
}

/* The load fails with INVALID, the sentence has all of the parts, and conf is untouched. */
static void expect_fault(const char *text, unsigned line, const char *part, const char *other_part)
{
    assert_int_equal(load_text(text), CMQ_ERR_INVALID);
    char place[128];
    (void)snprintf(place, sizeof place, "%s:%u: ", conf_path, line);
    if (line != 0 && strncmp(reason.text, place, strlen(place)) != 0)
        fail_msg("expected line %u in: %s", line, reason.text);
    if (strstr(reason.text, part) == NULL || strstr(reason.text, other_part) == NULL)
        fail_msg("expected '%s' and '%s' in: %s", part, other_part, reason.text);
    struct cmq_conf untouched;
    memset(&untouched, 0x5a, sizeof untouched);
    assert_memory_equal(&conf, &untouched, sizeof conf);
}

static void expect_set_fault(const char *override, const char *part, const char *other_part)
{
    assert_int_equal(load_set(override), CMQ_ERR_INVALID);
    if (strstr(reason.text, part) == NULL || strstr(reason.text, other_part) == NULL)
        fail_msg("expected '%s' and '%s' in: %s", part, other_part, reason.text);
}

static void conf_without_file_has_the_defaults(void **state)
{
    (void)state;
    assert_int_equal(load_set(NULL), CMQ_OK);
    assert_string_equal(conf.common_instance, "default");
    assert_string_equal(conf.common_run_dir, "/run/ciphermq");
    assert_int_equal(conf.common_log_level, 1);
    assert_int_equal(conf.ring_slots, 65536);
    assert_int_equal(conf.ingest_port, 3000);
    assert_int_equal(conf.ingest_request_bytes_max, 16 * 1024 * 1024);
    assert_int_equal(conf.dispatcher_port, 8080);
    assert_int_equal(conf.ingest_ack, CMQ_CONF_ACK_DURABLE);
    assert_int_equal(conf.log_store, CMQ_CONF_STORE_DISK);
    assert_int_equal(conf.log_sync, CMQ_CONF_SYNC_ALWAYS);
    assert_int_equal(conf.log_retention, CMQ_CONF_RETENTION_DISCARD_OLD);
    assert_int_equal(conf.log_retention_bytes, 8ull << 30);
    assert_string_equal(conf.encryptor_idempotency_dir, "/var/lib/ciphermq/idempotency");
    assert_string_equal(conf.dispatcher_groups_dir, "/var/lib/ciphermq/groups");
}

static void conf_file_sets_numbers_texts_and_words(void **state)
{
    (void)state;
    assert_int_equal(load_text("\xef\xbb\xbf# comment\r\n; comment\r\n[common]\r\ninstance = blue-1_x \r\n"
                               "log_level=debug\n\n  [ingest]\n\t port = 8000 ; why\n  listen : ::1\n"
                               "[common]\nrun_dir = /tmp/a b\n[dispatcher]\nlisten = 127.9.9.9\nport = 9000"),
                     CMQ_OK);
    assert_string_equal(conf.common_instance, "blue-1_x");
    assert_int_equal(conf.common_log_level, 0);
    assert_int_equal(conf.ingest_port, 8000);
    assert_string_equal(conf.ingest_listen, "::1");
    assert_string_equal(conf.common_run_dir, "/tmp/a b");
    assert_string_equal(conf.dispatcher_listen, "127.9.9.9");
    assert_int_equal(conf.dispatcher_port, 9000);
}

static void conf_empty_file_is_fine(void **state)
{
    (void)state;
    assert_int_equal(load_text(""), CMQ_OK);
    assert_int_equal(load_text("\n\n[ring]\n"), CMQ_OK);
}

static void conf_sizes_and_times_take_their_units_exactly(void **state)
{
    (void)state;
    const struct {
        const char *text;
        uint64_t value;
    } good[] = {{"ingest.waiting_bytes_max=64K", 65536},
                {"ingest.waiting_bytes_max=3M", 3145728},
                {"ingest.waiting_bytes_max=1G", 1073741824},
                {"ingest.waiting_bytes_max=16G", 17179869184},
                {"ingest.waiting_bytes_max=0", 0},
                {"ingest.waiting_bytes_max=0007", 7},
                {"common.drain_ms=250", 250},
                {"common.drain_ms=250ms", 250},
                {"common.drain_ms=10s", 10000},
                {"common.drain_ms=2m", 120000},
                {"common.drain_ms=5000us", 5},
                {"ring.spin_us=1ms", 1000},
                {"ingest.idle_s=2m", 120},
                {"ingest.idle_s=3000ms", 3}};
    for (size_t i = 0; i < CMQ_COUNT_OF(good); i++) {
        assert_int_equal(load_set(good[i].text), CMQ_OK);
        uint64_t value = strstr(good[i].text, "waiting") != NULL ? conf.ingest_waiting_bytes_max
                         : strstr(good[i].text, "drain") != NULL ? conf.common_drain_ms
                         : strstr(good[i].text, "spin") != NULL  ? conf.ring_spin_us
                                                                 : conf.ingest_idle_s;
        assert_int_equal(value, good[i].value);
    }
}

static void conf_numbers_of_any_other_form_are_refused(void **state)
{
    (void)state;
    const char *const bad[] = {"",
                               "x",
                               "-1",
                               "+1",
                               "1.5",
                               "1e3",
                               "0x10",
                               "1 K",
                               "K",
                               "1KK",
                               "1KB",
                               "1T",
                               "1k",
                               "1ms",
                               "18446744073709551616",
                               "18446744073709551620",
                               "99999999999999999999999",
                               "18014398509481984K",
                               "17G",
                               " 1"};
    for (size_t i = 0; i < CMQ_COUNT_OF(bad); i++) {
        char text[96];
        (void)snprintf(text, sizeof text, "ingest.waiting_bytes_max=%s", bad[i]);
        expect_set_fault(text, "ingest.waiting_bytes_max", "from 0 to 16G bytes");
    }
    expect_set_fault("common.drain_ms=1500us", "common.drain_ms = 1500us",
                     "may end in us, ms, s or m, from 0 to 600000 ms");
    expect_set_fault("common.drain_ms=1K", "common.drain_ms = 1K", "0 to 600000 ms");
    expect_set_fault("ingest.port=3K", "ingest.port = 3K", "a whole number from 1 to 65535 is allowed");
}

static void conf_out_of_range_says_the_range(void **state)
{
    (void)state;
    expect_fault("[ingest]\nport = 65536\n", 2, "ingest.port = 65536", "from 1 to 65535 is allowed");
    expect_fault("[ingest]\nport = 0\n", 2, "ingest.port = 0", "from 1 to 65535");
    expect_fault("[ring]\nslots = 2M\n", 2, "ring.slots = 2M", "from 2 to 1048576 records");
    expect_fault("[ingest]\nrequest_bytes_max = 512M\n", 2, "= 512M", "from 1K to 256M bytes");
    assert_int_equal(load_set("ingest.port=65535"), CMQ_OK);
    assert_int_equal(load_set("ingest.port=1"), CMQ_OK);
}

static void conf_wrong_word_says_the_words(void **state)
{
    (void)state;
    expect_fault("[common]\nlog_level = loud\n", 2, "common.log_level = loud", "debug|info|warn|error");
    expect_fault("[common]\nlog_level = inf\n", 2, "log_level = inf", "debug|info|warn|error");
    expect_fault("[common]\nlog_level = debug|info\n", 2, "log_level", "debug|info|warn|error");
    expect_fault("[ingest]\nack = dura\n", 2, "ingest.ack = dura", "accepted|durable");
    expect_fault("[log]\nsync = often\n", 2, "log.sync = often", "always|interval|none");
    assert_int_equal(load_text("[ingest]\nack = accepted\n[log]\nstore = memory\nsync = none\n"
                               "retention = reject_new\n"),
                     CMQ_OK);
    assert_int_equal(conf.ingest_ack, CMQ_CONF_ACK_ACCEPTED);
    assert_int_equal(conf.log_store, CMQ_CONF_STORE_MEMORY);
    assert_int_equal(conf.log_sync, CMQ_CONF_SYNC_NONE);
    assert_int_equal(conf.log_retention, CMQ_CONF_RETENTION_REJECT_NEW);
}

static void conf_unknown_key_names_the_nearest(void **state)
{
    (void)state;
    expect_fault("[ingest]\n\nprot = 1\n", 3, "unknown key ingest.prot", "nearest known key: ingest.port");
    expect_fault("[dispatcher]\nprot = 1\n", 2, "dispatcher.prot", "nearest known key: dispatcher.port");
    expect_fault("[ingest]\nclients_max = 1\n", 2, "ingest.clients_max",
                 "nearest known key: dispatcher.clients_max");
    expect_fault("[common]\nloglevel = info\n", 2, "common.loglevel", "common.log_level");
    expect_fault("port = 1\n[ingest]\n", 1, "before any [section]", ".port");
    expect_set_fault("ring.slot=2", "--set: unknown key ring.slot", "ring.slots");
}

static void conf_unknown_section_names_the_nearest_even_without_keys(void **state)
{
    (void)state;
    expect_fault("[ingets]\n", 1, "unknown section [ingets]", "[ingest]");
    expect_fault("[common]\n[dispatch]\nport = 1\n", 2, "[dispatch]", "[dispatcher]");
    expect_fault("[Ring]\n", 1, "[Ring]", "[ring]");
    expect_fault("[]\n", 1, "unknown section []", "nearest");
}

static void conf_very_long_names_are_refused_in_bounds(void **state)
{
    (void)state;
    char text[400];
    memset(text, 'a', sizeof text);
    text[0] = '[';
    memcpy(text + 150, "]\n", 3);
    expect_fault(text, 1, "unknown section [aaaa", "nearest");
    memset(text, 'b', sizeof text);
    memcpy(text, "ring.", 5);
    memcpy(text + 300, "=1", 3);
    assert_int_equal(load_set(text), CMQ_ERR_INVALID);
    assert_non_null(strstr(reason.text, "write section.key=value"));
    memset(text, 'b', 300);
    memcpy(text + 200, ".slots=2", 9);
    assert_int_equal(load_set(text), CMQ_ERR_INVALID);
    assert_non_null(strstr(reason.text, "write section.key=value"));
}

static void conf_duplicate_key_names_both_lines(void **state)
{
    (void)state;
    expect_fault("[ingest]\nport = 1\n[ring]\n[ingest]\nport = 1\n", 5, "ingest.port is set a second time",
                 "line 2");
}

static void conf_broken_syntax_names_the_line(void **state)
{
    (void)state;
    expect_fault("[ingest]\nport\n", 2, "expected [section], key = value", "");
    expect_fault("# x\n[ingest\nport = 1\n", 2, "expected [section]", "");
    expect_fault("[ingest]\nport\nport = 99999\n", 2, "expected", "");
    expect_fault("[ingest]\nport = 99999\nport\n", 2, "from 1 to 65535", "");
    write_bytes("[ring]\nslots = 2\0 4\n", 20);
    assert_int_equal(cmq_conf_load(conf_path, NULL, 0, &conf, &reason), CMQ_ERR_INVALID);
    assert_non_null(strstr(reason.text, ":2: the line has a NUL byte"));
}

static void conf_long_line_is_refused_not_split(void **state)
{
    (void)state;
    char text[600];
    for (unsigned length = 150; length < 260; length++) {
        (void)snprintf(text, sizeof text, "[common]\n# %0*d\nrun_dir = /x\n", (int)length, 0);
        enum cmq_err err = load_text(text);
        if (err == CMQ_OK)
            assert_string_equal(conf.common_run_dir, "/x");
        else
            assert_non_null(strstr(reason.text, ":2: the line is longer than "));
        assert_true(err != CMQ_OK || length < 250);
    }
    /* A path as long as a line may be comes through whole. */
    (void)snprintf(text, sizeof text, "[common]\nrun_dir = /%0170d\n", 0);
    assert_int_equal(load_text(text), CMQ_OK);
    assert_int_equal(strlen(conf.common_run_dir), 171);
}

static void conf_text_length_is_checked(void **state)
{
    (void)state;
    assert_int_equal(load_set("common.instance=1234567890123456789012345678901"), CMQ_OK);
    expect_set_fault("common.instance=12345678901234567890123456789012", "has 32 characters", "at most 31");
    expect_set_fault("common.instance=", "common.instance is empty", "1 to 31");
    expect_set_fault("common.run_dir=/a\nb", "control character", "position 3");
}

static void conf_shown_values_have_no_control_characters(void **state)
{
    (void)state;
    expect_set_fault("ingest.port=1\x1b[2J\n", "ingest.port = 1?[2J?", "65535");
    expect_set_fault("ingest.port=12345678901234567890123456789012345678901234567890123456789012345",
                     "...:", "65535");
}

static void conf_unreadable_files_say_why(void **state)
{
    (void)state;
    assert_int_equal(cmq_conf_load("/tmp/cmq-no-such-file", NULL, 0, &conf, &reason), CMQ_ERR_NOT_FOUND);
    assert_non_null(strstr(reason.text, "/tmp/cmq-no-such-file: cannot be read: No such file"));
    assert_int_equal(cmq_conf_load("/tmp", NULL, 0, &conf, &reason), CMQ_ERR_INVALID);
    assert_non_null(strstr(reason.text, "Is a directory"));
    if (geteuid() != 0) {
        assert_int_equal(chmod(conf_path, 0), 0);
        assert_int_equal(cmq_conf_load(conf_path, NULL, 0, &conf, &reason), CMQ_ERR_PERMISSION);
        assert_int_equal(chmod(conf_path, 0600), 0);
    }
}

static void conf_overrides_come_after_the_file_and_the_last_counts(void **state)
{
    (void)state;
    const struct cmq_conf_override overrides[] = {
        {"ingest.port=5000"}, {"ingest.port=6000"}, {"ring.slots=16"}};
    write_bytes("[ingest]\nport=4000\nthreads=7\n", 29);
    assert_int_equal(cmq_conf_load(conf_path, overrides, CMQ_COUNT_OF(overrides), &conf, &reason), CMQ_OK);
    assert_int_equal(conf.ingest_port, 6000);
    assert_int_equal(conf.ingest_threads, 7);
    assert_int_equal(conf.ring_slots, 16);
    expect_set_fault("ingest", "--set ingest:", "section.key=value");
    expect_set_fault("ingest.port", "section.key=value", "");
    expect_set_fault(".port=1", "section.key=value", "");
    expect_set_fault("ingest.=1", "section.key=value", "");
    expect_set_fault("port=ingest.port=1", "section.key=value", "");
}

static void conf_slots_must_be_a_power_of_two(void **state)
{
    (void)state;
    expect_set_fault("ring.slots=1000", "ring.slots = 1000", "512 or 1024");
    expect_set_fault("ring.slots=3", "power of two", "2 or 4");
    assert_int_equal(load_set("ring.slots=1048576"), CMQ_OK);
}

static void conf_arenas_must_hold_eight_of_the_largest_records(void **state)
{
    (void)state;
    /* 1 MiB requests: record = 1 MiB + 1 KiB + 4 KiB, eight of them = 8429568, a multiple of 4096. */
    const char *const base =
        "[ingest]\nrequest_bytes_max = 1M\narena_bytes = %s\n[encryptor]\narena_bytes = %s\n";
    char text[200];
    (void)snprintf(text, sizeof text, base, "8429568", "64M");
    assert_int_equal(load_text(text), CMQ_OK);
    assert_int_equal(cmq_conf_record_bytes_max(&conf), 1024 * 1024 + 1024 + 4096);
    (void)snprintf(text, sizeof text, base, "8425472", "64M");
    expect_fault(text, 0, "ingest.arena_bytes = 8228K: it must hold 8", "8232K or more");
    (void)snprintf(text, sizeof text, base, "8429632", "64M");
    expect_fault(text, 0, "ingest.arena_bytes = 8429632", "multiple of 4K");
    (void)snprintf(text, sizeof text, base, "64M", "8429568");
    expect_fault(text, 0, "encryptor.arena_bytes = 8232K: it must hold 8", "8264K or more");
    (void)snprintf(text, sizeof text, base, "64M", "8264K");
    assert_int_equal(load_text(text), CMQ_OK);
    expect_set_fault("ingest.request_bytes_max=64M", "ingest.arena_bytes",
                     "ingest.request_bytes_max (now 64M)");
}

static void conf_segment_must_hold_the_largest_record(void **state)
{
    (void)state;
    /* record = 16 MiB + 16 KiB + 4 KiB; sealed 4 KiB more; a segment's own 8 KiB. */
    expect_set_fault("log.segment_bytes=16M", "log.segment_bytes = 16M: it must hold the largest record",
                     "16416K or more, or lower ingest.request_bytes_max (now 16M)");
    assert_int_equal(load_set("log.segment_bytes=16416K"), CMQ_OK);
    expect_set_fault("log.segment_bytes=16809983", "log.segment_bytes", "16416K or more");
}

static void conf_retention_must_hold_two_segments_of_its_store(void **state)
{
    (void)state;
    expect_set_fault("log.retention_bytes=127M", "log.retention_bytes = 127M", "128M or more");
    assert_int_equal(load_set("log.retention_bytes=128M"), CMQ_OK);
    assert_int_equal(load_set("log.memory_bytes=100M"), CMQ_OK); /* not used with store = disk */
    expect_fault("[log]\nstore = memory\nmemory_bytes = 100M\n", 0, "log.memory_bytes = 100M",
                 "128M or more");
    assert_int_equal(load_text("[log]\nstore = memory\nretention_bytes = 2M\n"), CMQ_OK);
}

static void conf_interval_sync_comes_before_the_publisher_gives_up(void **state)
{
    (void)state;
    expect_fault("[log]\nsync = interval\nsync_ms = 5000\n", 0, "ingest.durable_wait_ms = 5000",
                 "more than log.sync_ms (now 5000)");
    assert_int_equal(load_text("[log]\nsync = interval\nsync_ms = 4999\n"), CMQ_OK);
    assert_int_equal(load_text("[log]\nsync = none\nsync_ms = 5000\n"), CMQ_OK);
    assert_int_equal(load_text("[log]\nstore = memory\nsync = interval\nsync_ms = 5000\n"), CMQ_OK);
}

static void conf_log_in_memory_has_a_directory_a_size_and_no_sync_of_its_own(void **state)
{
    (void)state;
    struct cmq_conf_path path;
    assert_int_equal(load_set("log.dir=/data/log"), CMQ_OK);
    assert_string_equal(cmq_conf_log_dir(&conf, &path), "/data/log");
    assert_int_equal(cmq_conf_log_sync(&conf), CMQ_CONF_SYNC_ALWAYS);
    assert_int_equal(cmq_conf_log_bytes_max(&conf), 8ull << 30);
    assert_int_equal(load_text("[common]\ninstance = blue\n[log]\nstore = memory\n"), CMQ_OK);
    assert_string_equal(cmq_conf_log_dir(&conf, &path), "/dev/shm/cmq.blue.log");
    assert_string_equal(cmq_conf_idempotency_dir(&conf, &path), "/dev/shm/cmq.blue.idempotency");
    assert_string_equal(cmq_conf_groups_dir(&conf, &path), "/dev/shm/cmq.blue.groups");
    assert_int_equal(cmq_conf_log_sync(&conf), CMQ_CONF_SYNC_NONE);
    assert_int_equal(cmq_conf_log_bytes_max(&conf), 512ull << 20);
}

static void conf_dead_letter_arena_holds_two_of_the_largest_records(void **state)
{
    (void)state;
    expect_set_fault("dispatcher.dead_arena_bytes=32M", "dispatcher.dead_arena_bytes = 32M",
                     "two of the largest records; set it to 32808K or more");
    assert_int_equal(load_set("dispatcher.dead_arena_bytes=32808K"), CMQ_OK);
    expect_set_fault("dispatcher.dead_arena_bytes=33596416", "dispatcher.dead_arena_bytes", "multiple of 4K");
}

static void conf_credit_is_within_what_a_group_may_have_out(void **state)
{
    (void)state;
    expect_set_fault("dispatcher.credit=65537", "dispatcher.credit = 65537", "max_ack_pending = 65536");
    assert_int_equal(load_set("dispatcher.credit=65536"), CMQ_OK);
}

static void conf_message_limit_is_within_the_request_limit(void **state)
{
    (void)state;
    assert_int_equal(load_set("ingest.message_bytes_max=16M"), CMQ_OK);
    expect_set_fault("ingest.message_bytes_max=17M", "ingest.message_bytes_max = 17M",
                     "ingest.request_bytes_max = 16M");
}

#define TLS_FILES "[tls]\ncert_file = /etc/tls/cert\nkey_file = /etc/tls/key\n"
#define TOKENS    "[tokens]\nfile = /etc/ciphermq/tokens\n"

static void conf_listens_anywhere_with_tls_and_tokens(void **state)
{
    (void)state;
    const char *const outside[] = {"0.0.0.0", "::", "192.168.1.1"};
    char text[300];
    for (size_t i = 0; i < CMQ_COUNT_OF(outside); i++) {
        const char *const form = "[ingest]\nlisten = %s\n[dispatcher]\nlisten = %s\n%s";
        (void)snprintf(text, sizeof text, form, outside[i], outside[i], TLS_FILES TOKENS);
        assert_int_equal(load_text(text), CMQ_OK);
        (void)snprintf(text, sizeof text, form, outside[i], outside[i], TLS_FILES);
        expect_fault(text, 0, "without TLS and tokens only loopback is allowed; listen on 127.0.0.1",
                     "or set tls.cert_file, tls.key_file and tokens.file (`ciphermqctl token create`");
        (void)snprintf(text, sizeof text, form, outside[i], outside[i], TOKENS);
        expect_fault(text, 0, "without TLS and tokens only loopback is allowed", "or set tls.cert_file");
        (void)snprintf(text, sizeof text, form, "127.0.0.1", outside[i], TOKENS);
        expect_fault(text, 0, "dispatcher.listen = ", "only loopback is allowed");
    }
}

static void conf_tls_is_said_whole_or_not_at_all(void **state)
{
    (void)state;
    assert_int_equal(load_text(TLS_FILES), CMQ_OK);
    expect_set_fault("tls.cert_file=/c", "tls.cert_file is set without tls.key_file", "leave both out");
    expect_set_fault("tls.key_file=/k", "tls.key_file is set without tls.cert_file", "leave both out");
    expect_set_fault("tls.client_cert=required", "there is no TLS", "tls.client_cert = none");
    expect_fault(TLS_FILES "client_cert = optional\n", 0, "nobody is trusted", "set tls.client_ca_file");
    expect_fault(TLS_FILES "client_ca_file = /ca\n", 0, "no client is asked",
                 "tls.client_cert = optional or required");
    assert_int_equal(load_text(TLS_FILES "client_ca_file = /ca\nclient_cert = required\n"), CMQ_OK);
    assert_int_equal(conf.tls_client_cert, CMQ_CONF_CLIENT_CERT_REQUIRED);
    assert_int_equal(load_text(TLS_FILES "client_ca_file = /ca\nclient_cert = optional\n"), CMQ_OK);
    assert_int_equal(conf.tls_client_cert, CMQ_CONF_CLIENT_CERT_OPTIONAL);
    expect_set_fault("tls.cert_file=c", "tls.cert_file = c", "beginning with '/'");
    expect_set_fault("tls.key_file=k", "tls.key_file = k", "beginning with '/'");
    expect_set_fault("tls.client_ca_file=a", "tls.client_ca_file = a", "beginning with '/'");
    expect_set_fault("tokens.file=t", "tokens.file = t", "beginning with '/'");
}

static void conf_listens_on_loopback_only_without_them(void **state)
{
    (void)state;
    const char *const good[] = {"127.0.0.1", "127.255.0.3", "::1"};
    const char *const outside[] = {"0.0.0.0",          "::",     "192.168.1.1", "128.0.0.1",
                                   "::ffff:127.0.0.1", "fe80::1"};
    const char *const no_address[] = {"localhost", "127.1", "127.0.0.1:3000", "[::1]", "1"};
    char text[100];
    for (size_t stage = 0; stage < 2; stage++) {
        const char *section = stage == 0 ? "ingest" : "dispatcher";
        for (size_t i = 0; i < CMQ_COUNT_OF(good); i++) {
            (void)snprintf(text, sizeof text, "%s.listen=%s", section, good[i]);
            assert_int_equal(load_set(text), CMQ_OK);
        }
        for (size_t i = 0; i < CMQ_COUNT_OF(outside); i++) {
            (void)snprintf(text, sizeof text, "%s.listen=%s", section, outside[i]);
            expect_set_fault(text, section,
                             "without TLS and tokens only loopback is allowed; listen on 127.0.0.1");
        }
        for (size_t i = 0; i < CMQ_COUNT_OF(no_address); i++) {
            (void)snprintf(text, sizeof text, "%s.listen=%s", section, no_address[i]);
            expect_set_fault(text, section, "not an IP address");
        }
    }
}

static void conf_stages_cannot_share_a_port(void **state)
{
    (void)state;
    expect_set_fault("ingest.port=8080", "both 8080 on 127.0.0.1", "another port");
    assert_int_equal(load_text("[ingest]\nport=8080\nlisten=127.0.0.2\n"), CMQ_OK);
}

static void conf_names_and_paths_have_their_form(void **state)
{
    (void)state;
    expect_set_fault("common.instance=a/b", "common.instance = a/b", "letters, digits");
    expect_set_fault("common.instance=a.b", "common.instance", "letters, digits");
    expect_set_fault("common.run_dir=run", "common.run_dir = run", "beginning with '/'");
    expect_set_fault("encryptor.kek_file=kek", "encryptor.kek_file", "beginning with '/'");
    expect_set_fault("dispatcher.keyring_file=k", "dispatcher.keyring_file", "beginning with '/'");
    expect_set_fault("dispatcher.kek_file=/etc/ciphermq/kek", "the same file", "name two files");
    expect_set_fault("log.dir=log", "log.dir = log", "beginning with '/'");
    expect_set_fault("encryptor.idempotency_dir=i", "encryptor.idempotency_dir = i", "beginning with '/'");
    expect_set_fault("dispatcher.groups_dir=g", "dispatcher.groups_dir = g", "beginning with '/'");
    expect_set_fault("dispatcher.groups_dir=/var/lib/ciphermq/log",
                     "log.dir and dispatcher.groups_dir are the same directory", "name two");
    expect_set_fault("encryptor.idempotency_dir=/var/lib/ciphermq/groups",
                     "encryptor.idempotency_dir and dispatcher.groups_dir", "name two");
}

static void conf_reload_takes_live_keys_and_names_others(void **state)
{
    (void)state;
    struct cmq_conf before;
    assert_int_equal(load_set(NULL), CMQ_OK);
    before = conf;
    assert_true(cmq_conf_reloadable(&before, &conf, &reason));
    const char *const live[] = {"common.log_level=debug",           "common.drain_ms=1",
                                "ingest.admission_wait_ms=1",       "ingest.waiting_bytes_max=1",
                                "dispatcher.write_timeout_ms=1000", "dispatcher.frame_messages_max=1",
                                "dispatcher.frame_bytes_max=8K"};
    for (size_t i = 0; i < CMQ_COUNT_OF(live); i++) {
        assert_int_equal(load_set(live[i]), CMQ_OK);
        assert_true(cmq_conf_reloadable(&before, &conf, &reason));
    }
    const char *const fixed[] = {"common.instance=defaulu", "ring.slots=2", "ingest.port=1",
                                 "dispatcher.ping_s=1", "encryptor.kek_file=/etc/ciphermq/kek2"};
    for (size_t i = 0; i < CMQ_COUNT_OF(fixed); i++) {
        assert_int_equal(load_set(fixed[i]), CMQ_OK);
        assert_false(cmq_conf_reloadable(&before, &conf, &reason));
        assert_memory_equal(reason.text, fixed[i], strcspn(fixed[i], "="));
        assert_non_null(strstr(reason.text, "needs a restart"));
    }
}

static void conf_text_overwritten_by_a_shorter_one_compares_equal(void **state)
{
    (void)state;
    struct cmq_conf direct;
    const struct cmq_conf_override twice[] = {{"common.instance=a-much-longer-name"}, {"common.instance=b"}};
    assert_int_equal(load_set("common.instance=b"), CMQ_OK);
    direct = conf;
    assert_int_equal(cmq_conf_load(NULL, twice, 2, &conf, &reason), CMQ_OK);
    assert_true(cmq_conf_reloadable(&direct, &conf, &reason));
}

static char *print_to_memory(void (*print)(FILE *))
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    print(out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void conf_sample_is_valid_and_shows_the_defaults(void **state)
{
    (void)state;
    char *sample = print_to_memory(cmq_conf_print_sample);
    struct cmq_conf defaults;
    assert_int_equal(cmq_conf_load(NULL, NULL, 0, &defaults, &reason), CMQ_OK);
    assert_int_equal(load_text(sample), CMQ_OK);
    assert_memory_equal(&conf, &defaults, sizeof conf);
    unsigned keys = 0;
    for (char *at = sample; (at = strstr(at, "\n#")) != NULL; at++) {
        if (at[2] != ' ') {
            at[1] = ' '; /* the key is set now */
            keys++;
        }
    }
    unsigned rows = 0;
#define ROW(section, ...) rows++;
    CMQ_CONF_MAP(ROW, ROW, ROW)
#undef ROW
    assert_int_equal(keys, rows);
    if (load_text(sample) != CMQ_OK)
        fail_msg("%s", reason.text);
    assert_memory_equal(&conf, &defaults, sizeof conf);
    free(sample);
}

static void conf_reference_has_every_key_with_default_and_range(void **state)
{
    (void)state;
    char *page = print_to_memory(cmq_conf_print_reference);
#define ROW(section, name, ...) assert_non_null(strstr(page, "| `" #name "` | "));
    CMQ_CONF_MAP(ROW, ROW, ROW)
#undef ROW
    assert_non_null(strstr(page, "| `request_bytes_max` | `16M` | 1K to 256M bytes | start | "));
    assert_non_null(strstr(page, "| `log_level` | `info` | debug, info, warn, error | start, SIGHUP | "));
    assert_non_null(strstr(page, "## [dispatcher]\n"));
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conf_without_file_has_the_defaults),
        cmocka_unit_test(conf_file_sets_numbers_texts_and_words),
        cmocka_unit_test(conf_empty_file_is_fine),
        cmocka_unit_test(conf_sizes_and_times_take_their_units_exactly),
        cmocka_unit_test(conf_numbers_of_any_other_form_are_refused),
        cmocka_unit_test(conf_out_of_range_says_the_range),
        cmocka_unit_test(conf_wrong_word_says_the_words),
        cmocka_unit_test(conf_unknown_key_names_the_nearest),
        cmocka_unit_test(conf_unknown_section_names_the_nearest_even_without_keys),
        cmocka_unit_test(conf_very_long_names_are_refused_in_bounds),
        cmocka_unit_test(conf_duplicate_key_names_both_lines),
        cmocka_unit_test(conf_broken_syntax_names_the_line),
        cmocka_unit_test(conf_long_line_is_refused_not_split),
        cmocka_unit_test(conf_text_length_is_checked),
        cmocka_unit_test(conf_shown_values_have_no_control_characters),
        cmocka_unit_test(conf_unreadable_files_say_why),
        cmocka_unit_test(conf_overrides_come_after_the_file_and_the_last_counts),
        cmocka_unit_test(conf_slots_must_be_a_power_of_two),
        cmocka_unit_test(conf_arenas_must_hold_eight_of_the_largest_records),
        cmocka_unit_test(conf_segment_must_hold_the_largest_record),
        cmocka_unit_test(conf_retention_must_hold_two_segments_of_its_store),
        cmocka_unit_test(conf_interval_sync_comes_before_the_publisher_gives_up),
        cmocka_unit_test(conf_log_in_memory_has_a_directory_a_size_and_no_sync_of_its_own),
        cmocka_unit_test(conf_dead_letter_arena_holds_two_of_the_largest_records),
        cmocka_unit_test(conf_credit_is_within_what_a_group_may_have_out),
        cmocka_unit_test(conf_message_limit_is_within_the_request_limit),
        cmocka_unit_test(conf_listens_anywhere_with_tls_and_tokens),
        cmocka_unit_test(conf_tls_is_said_whole_or_not_at_all),
        cmocka_unit_test(conf_listens_on_loopback_only_without_them),
        cmocka_unit_test(conf_stages_cannot_share_a_port),
        cmocka_unit_test(conf_names_and_paths_have_their_form),
        cmocka_unit_test(conf_reload_takes_live_keys_and_names_others),
        cmocka_unit_test(conf_text_overwritten_by_a_shorter_one_compares_equal),
        cmocka_unit_test(conf_sample_is_valid_and_shows_the_defaults),
        cmocka_unit_test(conf_reference_has_every_key_with_default_and_range),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
