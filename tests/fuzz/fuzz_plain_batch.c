/* Bytes of a plain record -> everything that the encryptor reads of it, down to the parts of the messages. */
#include <string.h>

#include "common/wire/cmq_batch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_inside(struct cmq_span part, struct cmq_span all)
{
    if (part.bytes == 0)
        return;
    cmq_assert(part.data >= all.data && part.data < all.data + all.bytes);
    cmq_assert(part.bytes <= (size_t)(all.data + all.bytes - part.data));
}

/* Written again and read again, the unit is the same. */
static void check_again(const struct cmq_plain_head *head, const struct cmq_plain_unit *unit)
{
    uint8_t *dst =
        malloc(CMQ_BATCH_HEAD_BYTES + CMQ_PLAIN_UNIT_BYTES + unit->topic.bytes + unit->messages.bytes);
    cmq_assert(dst != NULL);
    struct cmq_plain_head one = *head, again_head;
    one.unit_count = 1;
    size_t bytes = cmq_plain_encode_head(dst, &one, unit->topic, unit->count, (uint32_t)unit->messages.bytes);
    cmq_assert(bytes <= CMQ_BATCH_HEAD_BYTES + CMQ_PLAIN_UNIT_BYTES + unit->topic.bytes);
    if (unit->messages.bytes != 0)
        memcpy(dst + bytes, unit->messages.data, unit->messages.bytes);
    bytes += unit->messages.bytes;
    struct cmq_mp_reader units;
    struct cmq_plain_unit again;
    cmq_assert(cmq_plain_decode(cmq_span_make(dst, bytes), &units, &again_head) == CMQ_OK);
    cmq_assert(cmq_plain_next(&units, &again) == CMQ_OK && cmq_mp_left(&units) == 0);
    cmq_assert(again_head.flags == head->flags && again_head.accepted_at_ms == head->accepted_at_ms);
    cmq_assert(again.count == unit->count && again.topic.bytes == unit->topic.bytes);
    cmq_assert(memcmp(again.topic.data, unit->topic.data, unit->topic.bytes) == 0);
    cmq_assert(again.messages.bytes == unit->messages.bytes);
    free(dst);
}

static bool same(struct cmq_span a, struct cmq_span b)
{
    return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

/* Written again and read again, the message is the same. */
static void check_message_again(const struct cmq_message_full *message)
{
    size_t room = CMQ_MESSAGE_FULL_BYTES + message->body.bytes + message->type.bytes + message->id.bytes +
                  message->headers.bytes;
    uint8_t *dst = malloc(room);
    cmq_assert(dst != NULL);
    struct cmq_mp_reader reader;
    struct cmq_message_full again;
    size_t bytes = cmq_message_write(dst, message);
    cmq_assert(bytes <= room);
    cmq_mp_reader_init(&reader, cmq_span_make(dst, bytes));
    cmq_assert(cmq_message_read(&reader, &again) == CMQ_OK && cmq_mp_left(&reader) == 0);
    cmq_assert(again.left_out == message->left_out && again.text == message->text);
    cmq_assert(again.expiry_ms == message->expiry_ms && same(again.body, message->body));
    cmq_assert(same(again.type, message->type) && same(again.id, message->id));
    cmq_assert(same(again.headers, message->headers));
    free(dst);
}

/* Reads the messages of a unit as far as they are good. */
static void check_messages(const struct cmq_plain_unit *unit, uint32_t flags)
{
    struct cmq_mp_reader reader;
    struct cmq_span key = {0};
    struct cmq_message_full message;
    cmq_mp_reader_init(&reader, unit->messages);
    const uint8_t *before = reader.next;
    enum cmq_err err = cmq_message_key_read(&reader, flags, &key);
    cmq_assert(err == CMQ_OK || reader.next == before);
    check_inside(key, unit->messages);
    cmq_assert(key.bytes <= CMQ_MESSAGE_ID_BYTES_MAX);
    while (err == CMQ_OK) {
        before = reader.next;
        err = cmq_message_read(&reader, &message);
        cmq_assert(err == CMQ_OK ? reader.next > before : reader.next == before);
        if (err != CMQ_OK)
            break;
        check_inside(message.body, unit->messages);
        check_inside(message.type, unit->messages);
        check_inside(message.id, unit->messages);
        check_inside(message.headers, unit->messages);
        cmq_assert(message.type.bytes <= CMQ_MESSAGE_TYPE_BYTES_MAX);
        cmq_assert(message.id.bytes <= CMQ_MESSAGE_ID_BYTES_MAX);
        check_message_again(&message);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    uint8_t *exact = malloc(bytes == 0 ? 1 : bytes);
    cmq_assert(exact != NULL);
    if (bytes != 0)
        memcpy(exact, data, bytes);
    struct cmq_span all = cmq_span_make(exact, bytes);
    struct cmq_plain_head head = {0};
    struct cmq_mp_reader units;
    enum cmq_err err = cmq_plain_decode(all, &units, &head);
    for (uint32_t i = 0; err == CMQ_OK && i < head.unit_count; i++) {
        struct cmq_plain_unit unit;
        const uint8_t *before = units.next;
        err = cmq_plain_next(&units, &unit);
        cmq_assert(err == CMQ_OK ? units.next > before : units.next == before);
        if (err != CMQ_OK)
            break;
        check_inside(unit.topic, all);
        check_inside(unit.messages, all);
        check_again(&head, &unit);
        check_messages(&unit, head.flags);
    }
    free(exact);
    return 0;
}
