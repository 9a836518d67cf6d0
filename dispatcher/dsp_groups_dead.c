/* Dead letters: what was delivered max_deliver times goes to topic $dead.<topic>, with the reason in its headers. It is done
 * when the letter is on the disk; until then it stays in hand, so that a death repeats the letter and does not lose it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cmq_clock.h"
#include "common/log/cmq_log.h"
#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_mp_out.h"
#include "dispatcher/dsp_groups_int.h"

enum { RETRY_MS = 100, STORED_MS = 20, HEADERS_BYTES = 512 };
#define DEAD_PREFIX "$dead."

const struct dsp_unit *dsp_unit_of(const struct dsp_record *record, uint32_t index)
{
    for (uint32_t i = 0; i < record->unit_count; i++)
        if (index >= record->units[i].first && index - record->units[i].first < record->units[i].count)
            return &record->units[i];
    return NULL;
}

enum cmq_err dsp_walk_to(struct dsp_group *group, const struct dsp_record *record,
                         const struct dsp_unit *unit, uint32_t index, size_t *ret_offset)
{
    struct cmq_mp_reader reader;
    struct cmq_message_full message;
    uint32_t at = unit->first;
    size_t offset = 0;
    if (group->walk_seq == record->seq && group->walk_unit_first == unit->first &&
        group->walk_index <= index) {
        at = group->walk_index;
        offset = group->walk_offset;
    }
    if (offset > unit->messages.bytes)
        return CMQ_ERR_MALFORMED;
    cmq_mp_reader_init(&reader, cmq_span_make(unit->messages.data + offset, unit->messages.bytes - offset));
    for (; at < index; at++) {
        enum cmq_err err = cmq_message_read(&reader, &message);
        if (err != CMQ_OK)
            return err;
    }
    *ret_offset = unit->messages.bytes - cmq_mp_left(&reader);
    group->walk_seq = record->seq;
    group->walk_unit_first = unit->first;
    group->walk_index = index;
    group->walk_offset = *ret_offset;
    return CMQ_OK;
}

void dsp_dead_add(struct dsp_groups *groups, struct dsp_hand *hand, uint32_t index, uint32_t attempt,
                  uint64_t ticket)
{
    struct dsp_dead *dead = malloc(sizeof *dead);
    if (dead == NULL) {
        groups->nomem = true;
        return;
    }
    *dead = (struct dsp_dead){
        .next = groups->dead, .hand = hand, .index = index, .attempt = attempt, .ticket = ticket};
    groups->dead = dead;
    hand->refs++;
    hand->group->dead_count++;
    groups->due_ns = 0; /* the next tick publishes it */
}

static uint8_t *put_header(uint8_t *dst, const char *name, const char *value)
{
    dst = cmq_mp_put_str(dst, cmq_span_make(name, strlen(name)));
    return cmq_mp_put_str(dst, cmq_span_make(value, strlen(value)));
}

/* The message with the headers that say why; its old headers go, and so does the end of its time: somebody should see it. */
static enum cmq_err write_letter(const struct dsp_dead *dead, const struct dsp_record *record,
                                 struct cmq_message_full *message, uint8_t **ret_letter, size_t *ret_bytes)
{
    char id[CMQ_ID_TEXT_BYTES], attempts[16];
    uint8_t headers[HEADERS_BYTES], *end = headers;
    (void)cmq_id_format(id, (struct cmq_id){.seq = record->seq, .index = dead->index});
    (void)snprintf(attempts, sizeof attempts, "%u", dead->attempt);
    end = cmq_mp_put_map(end, 4);
    end = put_header(end, "cmq-dead-reason", "max_deliver");
    end = put_header(end, "cmq-dead-group", dead->hand->group->name);
    end = put_header(end, "cmq-dead-id", id);
    end = put_header(end, "cmq-dead-attempts", attempts);
    message->headers = cmq_span_make(headers, (size_t)(end - headers));
    message->expiry_ms = 0;
    uint8_t *letter = malloc(CMQ_MESSAGE_FULL_BYTES + message->body.bytes + message->type.bytes +
                             message->id.bytes + message->headers.bytes);
    if (letter == NULL)
        return CMQ_ERR_NOMEM;
    *ret_bytes = cmq_message_write(letter, message);
    *ret_letter = letter;
    return CMQ_OK;
}

static enum cmq_err publish_from(struct dsp_groups *groups, struct dsp_dead *dead, struct dsp_record *record)
{
    struct cmq_mp_reader reader;
    struct cmq_message_full message;
    uint8_t topic[sizeof DEAD_PREFIX + CMQ_TOPIC_BYTES_MAX], *letter = NULL;
    const size_t prefix = sizeof DEAD_PREFIX - 1;
    size_t offset, bytes = 0;
    enum cmq_err err = dsp_source_open(groups->setup.source, record);
    const struct dsp_unit *unit = dsp_unit_of(record, dead->index);
    if (err == CMQ_OK && (unit == NULL || !unit->readable))
        return CMQ_ERR_MALFORMED;
    if (err == CMQ_OK)
        err = dsp_walk_to(dead->hand->group, record, unit, dead->index, &offset);
    if (err != CMQ_OK)
        return err;
    cmq_mp_reader_init(&reader, cmq_span_make(unit->messages.data + offset, unit->messages.bytes - offset));
    err = cmq_message_read(&reader, &message);
    if (err != CMQ_OK || message.left_out)
        return CMQ_ERR_MALFORMED;
    /* A dead letter that dies again ends here; so does one whose topic has no room for the prefix. */
    if (unit->topic.bytes + prefix > CMQ_TOPIC_BYTES_MAX || unit->topic.data[0] == '$')
        return CMQ_ERR_TOO_BIG;
    memcpy(topic, DEAD_PREFIX, prefix);
    memcpy(topic + prefix, unit->topic.data, unit->topic.bytes);
    err = write_letter(dead, record, &message, &letter, &bytes);
    if (err == CMQ_OK)
        err = groups->setup.publish_dead(groups->setup.context,
                                         cmq_span_make(topic, prefix + unit->topic.bytes),
                                         cmq_span_make(letter, bytes), &dead->seq);
    free(letter);
    return err;
}

static enum cmq_err publish(struct dsp_groups *groups, struct dsp_dead *dead)
{
    struct dsp_record *record = NULL;
    uint64_t next;
    enum cmq_err err =
        dsp_source_get(groups->setup.source, dead->hand->seq, &dead->hand->near, &record, &next);
    if (err != CMQ_OK)
        return err;
    err = publish_from(groups, dead, record);
    dsp_source_put(groups->setup.source, record);
    return err;
}

static void tell_published(struct dsp_groups *groups, const struct dsp_dead *dead, enum cmq_err err)
{
    struct dsp_group *group = dead->hand->group;
    const unsigned long long seq = dead->hand->seq;
    if (err == CMQ_OK) {
        cmq_ring_count(groups->setup.ring, CMQ_COUNT_DEAD_LETTERS, 1);
        group->telling.dead_letters++;
        cmq_log(CMQ_LOG_WARN, CMQ_EV_DEAD_LETTER, "group=%s id=%llu-%u attempts=%u", group->name, seq,
                dead->index, dead->attempt);
    } else {
        cmq_log(CMQ_LOG_WARN, CMQ_EV_RECORD_BAD,
                "where=dead_letter group=%s id=%llu-%u attempts=%u err=\"%s\"", group->name, seq, dead->index,
                dead->attempt, cmq_err_text(err));
    }
}

/* True: nothing is left to do about it. */
static bool settle(struct dsp_groups *groups, struct dsp_dead *dead)
{
    struct dsp_group *group = dead->hand->group;
    /* First the ledger: whoever takes over sends the letter again, and does not deliver the message once more. */
    if (dsp_groups_durable(groups) < dead->ticket)
        return false;
    if (!dead->published) {
        if (groups->draining)
            return false; /* somebody else sends it */
        enum cmq_err err = publish(groups, dead);
        if (err != CMQ_OK && cmq_err_advice(err) == CMQ_ADVICE_RETRY)
            return false;
        dead->published = true;
        tell_published(groups, dead, err);
    }
    if (dead->seq != 0 && cmq_ring_durable_seq(groups->setup.ring) <= dead->seq)
        return false;
    if (!dead->hand->finished) {
        dead->hand->states[dead->index].state = DSP_DONE;
        dsp_hand_done(groups, dead->hand, dead->index, 1);
    }
    group->dead_count--;
    dsp_hand_unref(groups, dead->hand);
    return true;
}

bool dsp_groups_letters(const struct dsp_groups *groups)
{
    const struct dsp_dead *dead = groups->dead;
    while (dead != NULL && !dead->published)
        dead = dead->next;
    return dead != NULL;
}

uint64_t dsp_dead_tick(struct dsp_groups *groups, uint64_t now_ns)
{
    uint64_t due_ns = UINT64_MAX;
    bool settled = false;
    for (struct dsp_dead **link = &groups->dead, *dead; (dead = *link) != NULL;) {
        if (settle(groups, dead)) {
            *link = dead->next;
            free(dead);
            settled = true;
            continue;
        }
        due_ns = cmq_min_u64(due_ns, now_ns + (dead->published || dead->ticket != 0 ? STORED_MS : RETRY_MS) *
                                                  CMQ_NS_PER_MS);
        link = &dead->next;
    }
    if (settled)
        dsp_commit_flush(groups);
    return due_ns;
}
