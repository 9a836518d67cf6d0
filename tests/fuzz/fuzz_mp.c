/* Bytes -> the MessagePack reader: spans stay inside, a refused read moves nothing, skip and read agree on
 * the length. */
#include <string.h>

#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_mp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_value(const struct cmq_mp_value *value, struct cmq_span all)
{
    if (value->body.bytes == 0)
        return;
    cmq_assert(value->body.data >= all.data && value->body.data < all.data + all.bytes);
    cmq_assert(value->body.bytes <= (size_t)(all.data + all.bytes - value->body.data));
}

static void read_all(struct cmq_span all)
{
    struct cmq_mp_reader reader;
    struct cmq_mp_value value;
    cmq_mp_reader_init(&reader, all);
    const uint8_t *before = reader.next;
    while (cmq_mp_read(&reader, &value) == CMQ_OK) {
        cmq_assert(reader.next > before && reader.next <= reader.end);
        check_value(&value, all);
        before = reader.next;
    }
    cmq_assert(reader.next == before);
}

static void skip_all(struct cmq_span all)
{
    struct cmq_mp_reader reader;
    cmq_mp_reader_init(&reader, all);
    const uint8_t *before = reader.next;
    while (cmq_mp_skip(&reader) == CMQ_OK) {
        cmq_assert(reader.next > before && reader.next <= reader.end);
        before = reader.next;
    }
    cmq_assert(reader.next == before);
}

/* The fast and the general path of cmq_message_next agree. */
static void messages_all(struct cmq_span all)
{
    struct cmq_mp_reader fast, slow;
    struct cmq_message one, other;
    cmq_mp_reader_init(&fast, all);
    slow = fast;
    for (;;) {
        enum cmq_err err = cmq_message_next(&fast, &one);
        cmq_assert(cmq_message_next_any(&slow, &other) == err && fast.next == slow.next);
        if (err != CMQ_OK)
            return;
        cmq_assert(one.text == other.text && one.body.data == other.body.data &&
                   one.body.bytes == other.body.bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    uint8_t *exact = malloc(bytes == 0 ? 1 : bytes);
    cmq_assert(exact != NULL);
    if (bytes != 0)
        memcpy(exact, data, bytes);
    struct cmq_span all = cmq_span_make(exact, bytes);
    read_all(all);
    skip_all(all);
    messages_all(all);
    free(exact);
    return 0;
}
