/* Bytes -> topics, patterns and message ids. `pattern NUL topic` is matched, too. */
#include <string.h>

#include "common/wire/cmq_id.h"
#include "common/wire/cmq_topic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_id(struct cmq_span text)
{
    struct cmq_id id;
    char again[CMQ_ID_TEXT_BYTES];
    if (cmq_id_parse(text, &id) != CMQ_OK)
        return;
    /* There is one spelling of an id. */
    cmq_assert(cmq_id_format(again, id) == text.bytes && memcmp(again, text.data, text.bytes) == 0);
}

static void check_names(struct cmq_span pattern, struct cmq_span topic)
{
    struct cmq_reason reason;
    bool good_topic = cmq_topic_check(topic, true, &reason) == CMQ_OK;
    bool good_pattern = cmq_topic_pattern_check(pattern, &reason) == CMQ_OK;
    if (cmq_topic_check(topic, false, &reason) == CMQ_OK)
        cmq_assert(good_topic);
    if (good_topic) {
        cmq_assert(cmq_topic_pattern_check(topic, &reason) == CMQ_OK);
        cmq_assert(cmq_topic_matches(topic, topic));
        cmq_assert(cmq_topic_matches(cmq_span_make(">", 1), topic) == (topic.data[0] != '$'));
    }
    if (good_topic && good_pattern)
        (void)cmq_topic_matches(pattern, topic);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    uint8_t *exact = malloc(bytes == 0 ? 1 : bytes);
    cmq_assert(exact != NULL);
    if (bytes != 0)
        memcpy(exact, data, bytes);
    struct cmq_span all = cmq_span_make(exact, bytes);
    check_id(all);
    const uint8_t *gap = bytes == 0 ? NULL : memchr(exact, '\0', bytes);
    size_t split = gap == NULL ? bytes : (size_t)(gap - exact);
    struct cmq_span pattern = cmq_span_make(exact, split);
    check_names(pattern, gap == NULL ? pattern : cmq_span_make(gap + 1, bytes - split - 1));
    free(exact);
    return 0;
}
