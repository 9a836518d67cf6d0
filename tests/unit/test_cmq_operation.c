#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/cmq_buf.h"
#include "common/wire/cmq_json_pack.h"
#include "common/wire/cmq_operation.h"

static enum cmq_err read_json(const char *json, struct cmq_operation *ret_operation)
{
    struct cmq_json_packer *packer = NULL;
    struct cmq_buf packed;
    struct cmq_reason reason;
    cmq_buf_init(&packed, 4096);
    assert_int_equal(cmq_json_packer_new(1024, &packer), CMQ_OK);
    enum cmq_err err = cmq_json_pack(packer, cmq_span_make(json, strlen(json)), &packed, NULL);
    if (err == CMQ_OK)
        err = cmq_operation_read(cmq_buf_span(&packed), ret_operation, &reason);
    cmq_json_packer_free(packer);
    cmq_buf_fini(&packed);
    return err;
}

static void assert_comes_back(const char *json, const char *expected)
{
    struct cmq_operation operation;
    char text[CMQ_OPERATION_TEXT_BYTES];
    assert_int_equal(read_json(json, &operation), CMQ_OK);
    assert_int_equal(cmq_operation_write(text, &operation), strlen(expected));
    assert_string_equal(text, expected);
}

static void each_request_is_read_and_written(void **state)
{
    (void)state;
    assert_comes_back("{\"do\":\"watch\"}", "{\"do\":\"watch\",\"by\":\"\"}\n");
    assert_comes_back("{\"stage\":\"encryptor\",\"do\":\"restart\"}",
                      "{\"do\":\"restart\",\"stage\":\"encryptor\",\"instance\":null,\"by\":\"\"}\n");
    assert_comes_back("{\"do\":\"restart\",\"stage\":\"ingest\",\"instance\":null,\"by\":\"ops-1\"}",
                      "{\"do\":\"restart\",\"stage\":\"ingest\",\"instance\":null,\"by\":\"ops-1\"}\n");
    assert_comes_back("{\"do\":\"restart\",\"stage\":\"dispatcher\",\"instance\":7}",
                      "{\"do\":\"restart\",\"stage\":\"dispatcher\",\"instance\":7,\"by\":\"\"}\n");
    assert_comes_back("{\"do\":\"scale\",\"stage\":\"ingest\",\"count\":8}",
                      "{\"do\":\"scale\",\"stage\":\"ingest\",\"count\":8,\"by\":\"\"}\n");
}

static void name_cannot_end_its_string_or_line(void **state)
{
    (void)state;
    assert_comes_back("{\"do\":\"watch\",\"by\":\"a\\\"\\n,b\"}", "{\"do\":\"watch\",\"by\":\"a___b\"}\n");
}

static void everything_else_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "null",
        "[]",
        "{}",
        "{\"do\":\"stop\",\"stage\":\"ingest\"}",
        "{\"do\":\"restart\"}",
        "{\"stage\":\"ingest\"}",
        "{\"do\":\"restart\",\"stage\":\"supervisord\"}",
        "{\"do\":\"restart\",\"stage\":\"ingest:0\"}",
        "{\"do\":\"restart\",\"stage\":\"ingest\",\"instance\":8}",
        "{\"do\":\"restart\",\"stage\":\"ingest\",\"instance\":-1}",
        "{\"do\":\"restart\",\"stage\":\"ingest\",\"instance\":\"0\"}",
        "{\"do\":\"restart\",\"stage\":\"ingest\",\"count\":1}",
        "{\"do\":\"restart\",\"stage\":\"ingest\",\"stage\":\"ingest\"}",
        "{\"do\":\"scale\",\"stage\":\"ingest\"}",
        "{\"do\":\"scale\",\"stage\":\"ingest\",\"count\":0}",
        "{\"do\":\"scale\",\"stage\":\"ingest\",\"count\":9}",
        "{\"do\":\"scale\",\"stage\":\"ingest\",\"count\":1.5}",
        "{\"do\":\"scale\",\"stage\":\"ingest\",\"count\":1,\"instance\":0}",
        "{\"do\":\"watch\",\"stage\":\"ingest\"}",
        "{\"do\":\"watch\",\"more\":1}",
        "{\"do\":\"watch\",\"by\":\"0123456789012345678901234567890123456789012345678901234567890123\"}",
        "{\"do\":\"watch\"}{\"do\":\"watch\"}",
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(bad); i++) {
        struct cmq_operation operation = {.by = "kept"};
        if (read_json(bad[i], &operation) == CMQ_OK)
            fail_msg("taken: %s", bad[i]);
        assert_string_equal(operation.by, "kept");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_request_is_read_and_written),
        cmocka_unit_test(name_cannot_end_its_string_or_line),
        cmocka_unit_test(everything_else_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
