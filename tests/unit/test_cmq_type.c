#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_type.h"

static void types_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum cmq_type type;
    } table[] = {
        {"text/plain", CMQ_TYPE_TEXT},
        {" Text/PLAIN ; charset=\"UTF-8\" ", CMQ_TYPE_TEXT},
        {"text/plain;", CMQ_TYPE_TEXT},
        {"text/plain; charset=latin1", CMQ_TYPE_OTHER},
        {"text/plain; format=flowed", CMQ_TYPE_OTHER},
        {"text/plainx", CMQ_TYPE_OTHER},
        {"application/json", CMQ_TYPE_JSON},
        {"application/JSON;v=1; charset=utf-8", CMQ_TYPE_JSON},
        {"application/json; charset=utf-16", CMQ_TYPE_JSON_FOREIGN},
        {"application/vnd.a+json", CMQ_TYPE_OTHER},
        {"image/svg+xml;q=\"a b\"", CMQ_TYPE_OTHER},
        {"", CMQ_TYPE_BAD},
        {"text", CMQ_TYPE_BAD},
        {"/", CMQ_TYPE_BAD},
        {"text/", CMQ_TYPE_BAD},
        {"/plain", CMQ_TYPE_BAD},
        {"a/b/c", CMQ_TYPE_BAD},
        {"a b/c", CMQ_TYPE_BAD},
        {"a /b", CMQ_TYPE_BAD},
        {"a/ b", CMQ_TYPE_BAD},
        {"a/b; c=\xc3\xa9", CMQ_TYPE_BAD},
        {"a/b; c=\x01", CMQ_TYPE_BAD},
    };
    for (size_t i = 0; i < CMQ_COUNT_OF(table); i++) {
        enum cmq_type type = cmq_type_of(cmq_span_make(table[i].text, strlen(table[i].text)));
        if (type != table[i].type)
            fail_msg("%s: %d", table[i].text, (int)type);
    }
}

static void a_type_has_at_most_127_bytes(void **state)
{
    (void)state;
    char text[129];
    memset(text, 'x', sizeof text);
    text[1] = '/';
    assert_int_equal(cmq_type_of(cmq_span_make(text, CMQ_MESSAGE_TYPE_BYTES_MAX)), CMQ_TYPE_OTHER);
    assert_int_equal(cmq_type_of(cmq_span_make(text, CMQ_MESSAGE_TYPE_BYTES_MAX + 1)), CMQ_TYPE_BAD);
}

static void ids_are_visible_ascii(void **state)
{
    (void)state;
    char text[CMQ_MESSAGE_ID_BYTES_MAX + 1];
    memset(text, '!', sizeof text);
    assert_false(cmq_message_id_is_good(cmq_span_make(text, 0)));
    assert_true(cmq_message_id_is_good(cmq_span_make(text, CMQ_MESSAGE_ID_BYTES_MAX)));
    assert_false(cmq_message_id_is_good(cmq_span_make(text, CMQ_MESSAGE_ID_BYTES_MAX + 1)));
    for (unsigned byte = 0; byte < 256; byte++) {
        text[1] = (char)byte;
        assert_int_equal(cmq_message_id_is_good(cmq_span_make(text, 3)), byte >= 0x21 && byte <= 0x7e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_are_told_apart),
        cmocka_unit_test(a_type_has_at_most_127_bytes),
        cmocka_unit_test(ids_are_visible_ascii),
    };
    return cmocka_run_group_tests_name("cmq_type", tests, NULL, NULL);
}
