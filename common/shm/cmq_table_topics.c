#include "common/shm/cmq_table_topics.h"

#include <string.h>

/* The index is twice as large as the rows, so that a look is short. A window is so long that a topic which gets something now
 * and then is seen in it. */
enum { ROWS = CMQ_TABLE_TOPICS_MAX, SLOTS = 4 * ROWS, CHALLENGERS = 64, FREE = 0xff };
#define WINDOW_NS CMQ_NS_PER_S

/* A row, as this process knows it. */
struct known {
    uint64_t hash;
    uint32_t recent; /* notes, halved every window */
    uint8_t topic_bytes;
    uint8_t topic[CMQ_TABLE_TOPIC_BYTES_MAX];
};

/* Topics without a row that came lately: one of those whose hash leads here. */
struct challenger {
    uint64_t hash;
    uint32_t recent;
};

struct cmq_table_topics {
    struct cmq_tables_page *page;
    unsigned rows_max, row_count;
    unsigned least;     /* the row with the fewest recent notes, when it was looked for last */
    uint64_t window_ns; /* when this window began, */
    uint64_t wall_ms;   /* and by the other clock */
    uint8_t slots[SLOTS];
    struct challenger challengers[CHALLENGERS];
    struct known known[ROWS];
};
static_assert(ROWS < FREE, "a row's number fits");

static uint64_t load(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

/* There is one writer: no read-modify-write is needed. */
static void add(_Atomic uint64_t *word, uint64_t more)
{
    atomic_store_explicit(word, load(word) + more, memory_order_relaxed);
}

/* Eight bytes at a time; who may publish may also choose names that collide, and gets a slower note for it. */
static uint64_t hash_of(struct cmq_span topic)
{
    uint64_t hash = topic.bytes * 0x9e3779b97f4a7c15ull;
    size_t i = 0;
    for (; i + 8 <= topic.bytes; i += 8) {
        uint64_t word;
        memcpy(&word, topic.data + i, sizeof word);
        hash = (hash ^ word) * 0xff51afd7ed558ccdull;
        hash ^= hash >> 32;
    }
    uint64_t rest = 0;
    for (; i < topic.bytes; i++)
        rest = rest << 8 | topic.data[i];
    hash = (hash ^ rest) * 0xc4ceb9fe1a85ec53ull;
    return hash ^ hash >> 29;
}

static unsigned slot_after(unsigned slot)
{
    return (slot + 1u) % SLOTS;
}

/* The row of the topic, or the free slot that the search ended at. */
static unsigned find(const struct cmq_table_topics *topics, struct cmq_span topic, uint64_t hash)
{
    unsigned slot = (unsigned)(hash % SLOTS);
    for (; topics->slots[slot] != FREE; slot = slot_after(slot)) {
        const struct known *known = &topics->known[topics->slots[slot]];
        if (known->hash == hash && known->topic_bytes == topic.bytes &&
            memcmp(known->topic, topic.data, topic.bytes) == 0)
            return topics->slots[slot];
    }
    return FREE;
}

static void index_row(struct cmq_table_topics *topics, unsigned row)
{
    unsigned slot = (unsigned)(topics->known[row].hash % SLOTS);
    while (topics->slots[slot] != FREE)
        slot = slot_after(slot);
    topics->slots[slot] = (uint8_t)row;
}

/* Rows change hands seldom: the index is made anew. */
static void index_all(struct cmq_table_topics *topics)
{
    memset(topics->slots, FREE, sizeof topics->slots);
    for (unsigned row = 0; row < topics->row_count; row++)
        index_row(topics, row);
}

static void know(struct cmq_table_topics *topics, unsigned row, struct cmq_span topic, uint64_t hash)
{
    struct known *known = &topics->known[row];
    *known = (struct known){.hash = hash, .topic_bytes = (uint8_t)topic.bytes};
    memcpy(known->topic, topic.data, topic.bytes);
}

/* What the row has goes to the others. */
static void take_row(struct cmq_table_topics *topics, unsigned number, struct cmq_span topic)
{
    struct cmq_tables_page *page = topics->page;
    struct cmq_topic_row *row = &page->of.topics.rows[number];
    cmq_row_begin(&row->version);
    add(&page->of.topics.other_messages, load(&row->messages));
    add(&page->of.topics.other_bytes, load(&row->bytes));
    atomic_store_explicit(&page->of.topics.other_last_ms,
                          cmq_max_u64(load(&page->of.topics.other_last_ms), load(&row->last_ms)),
                          memory_order_relaxed);
    atomic_store_explicit(&row->messages, 0, memory_order_relaxed);
    atomic_store_explicit(&row->bytes, 0, memory_order_relaxed);
    atomic_store_explicit(&row->last_ms, 0, memory_order_relaxed);
    cmq_row_text_set(&row->topic.bytes, row->topic.words, CMQ_TABLE_TOPIC_BYTES_MAX, topic);
    cmq_row_end(&row->version);
}

static void find_least(struct cmq_table_topics *topics)
{
    topics->least = 0;
    for (unsigned row = 1; row < topics->row_count; row++)
        if (topics->known[row].recent < topics->known[topics->least].recent)
            topics->least = row;
}

static void begin_window(struct cmq_table_topics *topics, uint64_t now_ns)
{
    topics->window_ns = now_ns;
    topics->wall_ms = cmq_clock_wall_ms();
    for (unsigned row = 0; row < topics->row_count; row++)
        topics->known[row].recent /= 2;
    for (unsigned i = 0; i < CHALLENGERS; i++)
        topics->challengers[i].recent /= 2;
    find_least(topics);
}

/* The row that the topic gets now, or FREE. */
static unsigned challenge(struct cmq_table_topics *topics, struct cmq_span topic, uint64_t hash)
{
    if (topics->rows_max == 0)
        return FREE;
    unsigned row = topics->row_count;
    if (row < topics->rows_max) {
        topics->row_count++;
        take_row(topics, row, topic);
        know(topics, row, topic, hash);
        index_row(topics, row);
        return row;
    }
    struct challenger *challenger = &topics->challengers[hash / SLOTS % CHALLENGERS];
    if (challenger->hash != hash) {
        if (challenger->recent > 0) {
            challenger->recent--;
            return FREE;
        }
        challenger->hash = hash;
    }
    challenger->recent++;
    row = topics->least;
    if (challenger->recent <= 2u * topics->known[row].recent)
        return FREE;
    take_row(topics, row, topic);
    know(topics, row, topic, hash);
    topics->known[row].recent = challenger->recent;
    challenger->recent = 0;
    index_all(topics);
    find_least(topics);
    return row;
}

void cmq_table_topics_note(struct cmq_table_topics *topics, struct cmq_span topic, uint64_t messages,
                           uint64_t bytes, uint64_t now_ns)
{
    if (topics == NULL || topics->page == NULL || topic.bytes > CMQ_TABLE_TOPIC_BYTES_MAX)
        return;
    if (now_ns - topics->window_ns >= WINDOW_NS)
        begin_window(topics, now_ns);
    const uint64_t now_ms = topics->wall_ms + (now_ns - topics->window_ns) / CMQ_NS_PER_MS;
    const uint64_t hash = hash_of(topic);
    unsigned row = find(topics, topic, hash);
    if (row == FREE)
        row = challenge(topics, topic, hash);
    struct cmq_tables_page *page = topics->page;
    if (row == FREE) {
        add(&page->of.topics.other_messages, messages);
        add(&page->of.topics.other_bytes, bytes);
        atomic_store_explicit(&page->of.topics.other_last_ms, now_ms, memory_order_relaxed);
        return;
    }
    topics->known[row].recent++;
    add(&page->of.topics.rows[row].messages, messages);
    add(&page->of.topics.rows[row].bytes, bytes);
    atomic_store_explicit(&page->of.topics.rows[row].last_ms, now_ms, memory_order_relaxed);
}

/* ---- life ---- */

/* What the process before left: its rows move together, so that those in use are the first. */
static void adopt_rows(struct cmq_table_topics *topics)
{
    for (unsigned i = 0; i < ROWS; i++) {
        struct cmq_topic_row *row = &topics->page->of.topics.rows[i];
        uint64_t words[CMQ_COUNT_OF(row->topic.words)];
        const uint64_t bytes = load(&row->topic.bytes);
        for (size_t k = 0; k < CMQ_COUNT_OF(words); k++)
            words[k] = load(&row->topic.words[k]);
        const struct cmq_span topic = cmq_span_make(words, bytes);
        const uint64_t hash = bytes == 0 || bytes > CMQ_TABLE_TOPIC_BYTES_MAX ? 0 : hash_of(topic);
        if (bytes == 0 || bytes > CMQ_TABLE_TOPIC_BYTES_MAX || topics->row_count >= topics->rows_max ||
            find(topics, topic, hash) != FREE) {
            take_row(topics, i, cmq_span_make(NULL, 0));
            continue;
        }
        const unsigned to = topics->row_count++;
        if (to != i) {
            struct cmq_topic_row *free_row = &topics->page->of.topics.rows[to];
            const uint64_t messages = load(&row->messages), row_bytes = load(&row->bytes),
                           last_ms = load(&row->last_ms);
            atomic_store_explicit(&row->messages, 0, memory_order_relaxed);
            atomic_store_explicit(&row->bytes, 0, memory_order_relaxed);
            take_row(topics, i, cmq_span_make(NULL, 0));
            take_row(topics, to, topic);
            add(&free_row->messages, messages);
            add(&free_row->bytes, row_bytes);
            atomic_store_explicit(&free_row->last_ms, last_ms, memory_order_relaxed);
        }
        know(topics, to, topic, hash);
        index_row(topics, to);
    }
}

enum cmq_err cmq_table_topics_new(struct cmq_tables_page *page, unsigned rows_max,
                                  struct cmq_table_topics **ret_topics)
{
    struct cmq_table_topics *topics = calloc(1, sizeof *topics);
    if (topics == NULL)
        return CMQ_ERR_NOMEM;
    topics->page = page;
    topics->rows_max = (unsigned)cmq_min_u64(rows_max, ROWS);
    memset(topics->slots, FREE, sizeof topics->slots);
    if (page != NULL)
        adopt_rows(topics);
    *ret_topics = topics;
    return CMQ_OK;
}

void cmq_table_topics_free(struct cmq_table_topics *topics)
{
    free(topics);
}
