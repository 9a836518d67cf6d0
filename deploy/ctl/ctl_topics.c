/* topics: what the retained log has, by topic. Reads all of it, opens nothing, and needs no key: names and counts are in clear
 * in it. Memory grows with the number of topics, up to --max. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/wire/cmq_batch.h"
#include "common/wire/cmq_id.h"
#include "common/wire/cmq_topic.h"
#include "ctl_json.h"
#include "ctl_log.h"

enum { TOPICS_MAX = 100000, SLOTS_FIRST = 1024, TIME_BYTES = 24 };

struct topic {
    char *name; /* NULL: a free slot, or all that has no row of its own */
    uint64_t hash, messages, bytes;
    struct cmq_id first, last;
    uint64_t first_ms, last_ms;
};

struct topics {
    const char *pattern; /* NULL: all */
    uint64_t max;
    struct topic *slots; /* open addressing; a power of two of them, at most half of them taken */
    size_t slot_count, count;
    struct topic others, total;
};

/* ---- the table ---- */

static uint64_t hash_of(struct cmq_span text)
{
    uint64_t hash = 0xcbf29ce484222325ull; /* FNV-1a */
    for (size_t i = 0; i < text.bytes; i++)
        hash = (hash ^ text.data[i]) * 0x100000001b3ull;
    return hash ^ hash >> 32;
}

static bool grow(struct topics *topics)
{
    const size_t count = topics->slot_count == 0 ? SLOTS_FIRST : topics->slot_count * 2;
    struct topic *slots = calloc(count, sizeof *slots);
    if (slots == NULL)
        return false;
    for (size_t i = 0; i < topics->slot_count; i++) {
        if (topics->slots[i].name == NULL)
            continue;
        size_t at = topics->slots[i].hash & (count - 1);
        while (slots[at].name != NULL)
            at = (at + 1) & (count - 1);
        slots[at] = topics->slots[i];
    }
    free(topics->slots);
    topics->slots = slots;
    topics->slot_count = count;
    return true;
}

/* The row of a topic; that of the others when the table is full. NULL: no memory. */
static struct topic *row_of(struct topics *topics, struct cmq_span name)
{
    const uint64_t hash = hash_of(name);
    if (topics->count * 2 >= topics->slot_count && !grow(topics))
        return NULL;
    size_t at = hash & (topics->slot_count - 1);
    for (; topics->slots[at].name != NULL; at = (at + 1) & (topics->slot_count - 1)) {
        const struct topic *topic = &topics->slots[at];
        if (topic->hash == hash && strlen(topic->name) == name.bytes &&
            memcmp(topic->name, name.data, name.bytes) == 0)
            return &topics->slots[at];
    }
    if (topics->count >= topics->max)
        return &topics->others;
    char *copy = malloc(name.bytes + 1);
    if (copy == NULL)
        return NULL;
    memcpy(copy, name.data, name.bytes);
    copy[name.bytes] = '\0';
    topics->slots[at] = (struct topic){.name = copy, .hash = hash};
    topics->count++;
    return &topics->slots[at];
}

static void add(struct topic *topic, const struct ctl_log_unit *unit)
{
    const struct cmq_id first = {.seq = unit->seq, .index = unit->first};
    if (topic->messages == 0) {
        topic->first = first;
        topic->first_ms = unit->accepted_at_ms;
    }
    topic->last = (struct cmq_id){.seq = unit->seq, .index = unit->first + unit->count - 1};
    topic->first_ms = cmq_min_u64(topic->first_ms, unit->accepted_at_ms); /* requests overtake each other */
    topic->last_ms = cmq_max_u64(topic->last_ms, unit->accepted_at_ms);
    topic->messages += unit->count;
    topic->bytes += unit->sealed_bytes;
}

static enum cmq_err take_unit(void *context, const struct ctl_log_unit *unit)
{
    struct topics *topics = context;
    if (unit->count == 0 || memchr(unit->topic.data, '\0', unit->topic.bytes) != NULL)
        return CMQ_OK;
    if (topics->pattern != NULL &&
        !cmq_topic_matches(cmq_span_make(topics->pattern, strlen(topics->pattern)), unit->topic))
        return CMQ_OK;
    struct topic *topic = row_of(topics, unit->topic);
    if (topic == NULL)
        return CMQ_ERR_NOMEM;
    add(topic, unit);
    add(&topics->total, unit);
    return CMQ_OK;
}

/* ---- order ---- */

static int by_name(const void *one, const void *two)
{
    return strcmp(((const struct topic *)one)->name, ((const struct topic *)two)->name);
}

static int by_messages(const void *one, const void *two)
{
    const uint64_t a = ((const struct topic *)one)->messages, b = ((const struct topic *)two)->messages;
    return a != b ? (a < b ? 1 : -1) : by_name(one, two);
}

static int by_bytes(const void *one, const void *two)
{
    const uint64_t a = ((const struct topic *)one)->bytes, b = ((const struct topic *)two)->bytes;
    return a != b ? (a < b ? 1 : -1) : by_name(one, two);
}

typedef int compare(const void *one, const void *two);

/* NULL: there is no such order. */
static compare *order_of(const char *name)
{
    if (name == NULL || strcmp(name, "name") == 0)
        return by_name;
    if (strcmp(name, "messages") == 0)
        return by_messages;
    return strcmp(name, "bytes") == 0 ? by_bytes : NULL;
}

/* The rows, in the front of the slots. */
static void sort(struct topics *topics, compare *order)
{
    size_t at = 0;
    for (size_t i = 0; i < topics->slot_count; i++) {
        if (topics->slots[i].name != NULL)
            topics->slots[at++] = topics->slots[i];
    }
    if (at > 0)
        qsort(topics->slots, at, sizeof *topics->slots, order);
}

/* ---- output ---- */

static void print_json_topic(const struct topic *topic)
{
    char first[CMQ_ID_TEXT_BYTES], last[CMQ_ID_TEXT_BYTES];
    (void)cmq_id_format(first, topic->first);
    (void)cmq_id_format(last, topic->last);
    (void)printf("{\"topic\":");
    if (topic->name != NULL)
        ctl_json_string(stdout, cmq_span_make(topic->name, strlen(topic->name)));
    else
        (void)printf("null");
    (void)printf(",\"messages\":%llu,\"bytes\":%llu,\"first\":\"%s\",\"last\":\"%s\",\"first_ts\":%llu,"
                 "\"last_ts\":%llu}",
                 (unsigned long long)topic->messages, (unsigned long long)topic->bytes, first, last,
                 (unsigned long long)topic->first_ms, (unsigned long long)topic->last_ms);
}

static void print_json(const struct topics *topics, const struct ctl_log *log)
{
    (void)printf("{\"end\":%llu,\"messages\":%llu,\"bytes\":%llu,\"damaged_records\":%llu,\"topics\":[",
                 (unsigned long long)log->end_seq, (unsigned long long)topics->total.messages,
                 (unsigned long long)topics->total.bytes, (unsigned long long)log->damaged);
    for (size_t i = 0; i < topics->count; i++) {
        if (i > 0)
            (void)printf(",");
        print_json_topic(&topics->slots[i]);
    }
    (void)printf("],\"others\":");
    if (topics->others.messages > 0)
        print_json_topic(&topics->others);
    else
        (void)printf("null");
    (void)printf("}\n");
}

static const char *time_text(char text[TIME_BYTES], uint64_t ms)
{
    const time_t seconds = (time_t)(ms / 1000u);
    struct tm parts;
    if (gmtime_r(&seconds, &parts) == NULL || strftime(text, TIME_BYTES, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        (void)snprintf(text, TIME_BYTES, "?");
    return text;
}

static void print_text_topic(const struct topic *topic, const char *name)
{
    char first[CMQ_ID_TEXT_BYTES], last[CMQ_ID_TEXT_BYTES], begin[TIME_BYTES], end[TIME_BYTES];
    (void)cmq_id_format(first, topic->first);
    (void)cmq_id_format(last, topic->last);
    (void)printf("%-32s %12llu %14llu %14s %14s %20s %20s\n", name, (unsigned long long)topic->messages,
                 (unsigned long long)topic->bytes, first, last, time_text(begin, topic->first_ms),
                 time_text(end, topic->last_ms));
}

static void print_text(const struct topics *topics, const struct ctl_log *log)
{
    (void)printf("%-32s %12s %14s %14s %14s %20s %20s\n", "TOPIC", "MESSAGES", "SEALED BYTES", "FIRST",
                 "LAST", "FIRST TIME", "LAST TIME");
    for (size_t i = 0; i < topics->count; i++)
        print_text_topic(&topics->slots[i], topics->slots[i].name);
    if (topics->others.messages > 0)
        print_text_topic(&topics->others, "(others: raise --max)");
    (void)printf("%zu topics, %llu messages, %llu bytes sealed, up to record %llu\n", topics->count,
                 (unsigned long long)topics->total.messages, (unsigned long long)topics->total.bytes,
                 (unsigned long long)log->end_seq);
}

int ctl_topics(struct ctl *ctl)
{
    struct cmq_reason reason = {{0}};
    struct topics topics = {.max = ctl->max != 0 ? ctl->max : TOPICS_MAX,
                            .pattern = ctl->word_count > 0 ? ctl->words[0] : NULL};
    struct ctl_log log = {.what = "topics", .on_unit = take_unit, .context = &topics};
    compare *order = order_of(ctl->sort);
    if (order == NULL)
        return ctl_fail(CMQ_EXIT_USAGE, "topics: --sort is name, messages or bytes");
    if (topics.pattern != NULL &&
        cmq_topic_pattern_check(cmq_span_make(topics.pattern, strlen(topics.pattern)), &reason) != CMQ_OK)
        return ctl_fail(CMQ_EXIT_USAGE, "topics: %s", reason.text);
    enum cmq_err err = ctl_log_end(&ctl->conf, &log.end_seq, &reason);
    if (err == CMQ_OK)
        err = ctl_log_walk(ctl, &log, &reason);
    int code = CMQ_EXIT_OK;
    if (err == CMQ_OK) {
        sort(&topics, order);
        if (ctl->json)
            print_json(&topics, &log);
        else
            print_text(&topics, &log);
        if (log.damaged > 0)
            code =
                ctl_fail(CTL_EXIT_DAMAGED,
                         "%llu records cannot be read, and are not counted; `ciphermqctl verify` names them",
                         (unsigned long long)log.damaged);
    } else {
        code = ctl_fail_err(err, &reason);
    }
    for (size_t i = 0; i < topics.slot_count; i++)
        free(i < topics.count || err != CMQ_OK ? topics.slots[i].name : NULL);
    free(topics.slots);
    return code;
}
