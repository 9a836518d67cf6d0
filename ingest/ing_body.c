#include "ingest/ing_body.h"

#include <string.h>

/* A client that announces a large body gets a large block only when bytes arrive; then blocks double. */
enum { CLASS_MIN = 12, FIRST_BYTES_MAX = 1 << 20 };

void ing_body_pool_init(struct ing_body_pool *pool, size_t received_bytes_max, size_t kept_bytes_max)
{
    *pool =
        (struct ing_body_pool){.kept_bytes_max = kept_bytes_max, .received_bytes_max = received_bytes_max};
    int error = pthread_mutex_init(&pool->mutex, NULL);
    cmq_assert(error == 0);
}

/* Detaches all kept blocks under the mutex, frees them outside. */
static void free_kept(struct ing_body_pool *pool)
{
    void *lists[ING_BODY_CLASSES];
    pthread_mutex_lock(&pool->mutex);
    memcpy(lists, pool->free, sizeof lists);
    memset(pool->free, 0, sizeof pool->free);
    pool->kept_bytes = 0;
    pthread_mutex_unlock(&pool->mutex);
    for (size_t i = 0; i < ING_BODY_CLASSES; i++) {
        while (lists[i] != NULL) {
            void *block = lists[i];
            memcpy(&lists[i], block, sizeof(void *));
            free(block);
        }
    }
}

void ing_body_pool_fini(struct ing_body_pool *pool)
{
    cmq_assert(atomic_load_explicit(&pool->received_bytes, memory_order_relaxed) == 0);
    free_kept(pool);
    (void)pthread_mutex_destroy(&pool->mutex);
}

void ing_body_pool_trim(struct ing_body_pool *pool)
{
    /* Relaxed: a hint only. */
    if (!atomic_exchange_explicit(&pool->used, false, memory_order_relaxed))
        free_kept(pool);
}

static unsigned class_of(size_t capacity)
{
    unsigned class = CLASS_MIN;
    while (((size_t)1 << class) < capacity)
        class ++;
    return class;
}

static void *take_block(struct ing_body_pool *pool, unsigned class)
{
    atomic_store_explicit(&pool->used, true, memory_order_relaxed);
    pthread_mutex_lock(&pool->mutex);
    void *block = pool->free[class];
    if (block != NULL) {
        memcpy(&pool->free[class], block, sizeof(void *));
        pool->kept_bytes -= (size_t)1 << class;
    }
    pthread_mutex_unlock(&pool->mutex);
    return block != NULL ? block : malloc(((size_t)1 << class) + CMQ_JSON_PADDING);
}

static void give_block(struct ing_body_pool *pool, void *block, size_t capacity)
{
    unsigned class = class_of(capacity);
    pthread_mutex_lock(&pool->mutex);
    bool keep = capacity <= pool->kept_bytes_max && pool->kept_bytes <= pool->kept_bytes_max - capacity;
    if (keep) {
        memcpy(block, &pool->free[class], sizeof(void *));
        pool->free[class] = block;
        pool->kept_bytes += capacity;
    }
    pthread_mutex_unlock(&pool->mutex);
    if (!keep)
        free(block);
}

bool ing_body_pool_reserve(struct ing_body_pool *pool, size_t bytes)
{
    /* Relaxed: the sum alone matters, it guards no other memory. */
    size_t before = atomic_fetch_add_explicit(&pool->received_bytes, bytes, memory_order_relaxed);
    if (before + bytes <= pool->received_bytes_max)
        return true;
    ing_body_pool_release(pool, bytes);
    return false;
}

void ing_body_pool_release(struct ing_body_pool *pool, size_t bytes)
{
    atomic_fetch_sub_explicit(&pool->received_bytes, bytes, memory_order_relaxed);
}

void ing_body_init(struct ing_body *body, size_t expected_bytes)
{
    body->block = NULL;
    body->bytes = 0;
    body->capacity = 0;
    body->expected_bytes = expected_bytes;
    body->by_capacity = false;
}

void ing_body_init_stream(struct ing_body *body)
{
    ing_body_init(body, 0);
    body->by_capacity = true;
}

/* For so much content a block of this class. */
static unsigned class_for(const struct ing_body *body, size_t need)
{
    size_t first = body->expected_bytes < FIRST_BYTES_MAX ? body->expected_bytes : FIRST_BYTES_MAX;
    unsigned class = class_of(need > first ? need : first);
    cmq_assert(class < ING_BODY_CLASSES);
    return class;
}

static enum cmq_err move_to(struct ing_body_pool *pool, struct ing_body *body, unsigned class)
{
    uint8_t *block = take_block(pool, class);
    if (block == NULL)
        return CMQ_ERR_NOMEM;
    struct cmq_span old = ing_body_span(body);
    memcpy(block, old.data, old.bytes);
    if (body->block != NULL)
        give_block(pool, body->block, body->capacity);
    body->block = block;
    body->capacity = (size_t)1 << class;
    return CMQ_OK;
}

/* What counts against the pool: nothing while the content is in the connection's own array. */
static size_t counted(const struct ing_body *body)
{
    if (body->block == NULL)
        return 0;
    return body->by_capacity ? body->capacity : body->bytes;
}

enum cmq_err ing_body_append(struct ing_body_pool *pool, struct ing_body *body, const void *data,
                             size_t bytes)
{
    size_t need = body->bytes + bytes;
    if (body->block == NULL && need <= ING_BODY_SMALL_BYTES) {
        memcpy(body->small + body->bytes, data, bytes);
        body->bytes = need;
        return CMQ_OK;
    }
    const bool grows = need > body->capacity;
    const unsigned class = grows ? class_for(body, need) : 0;
    size_t counts = need;
    if (body->by_capacity)
        counts = grows ? (size_t)1 << class : body->capacity;
    size_t more = counts - counted(body);
    if (!ing_body_pool_reserve(pool, more))
        return CMQ_ERR_FULL;
    enum cmq_err err = grows ? move_to(pool, body, class) : CMQ_OK;
    if (err != CMQ_OK) {
        ing_body_pool_release(pool, more);
        return err;
    }
    memcpy(body->block + body->bytes, data, bytes);
    body->bytes = need;
    return CMQ_OK;
}

/* Gives a large block back for a smaller one, or for the connection's own array. */
static void shrink(struct ing_body_pool *pool, struct ing_body *body)
{
    const size_t before = body->capacity;
    if (body->bytes > ING_BODY_SMALL_BYTES) {
        if (move_to(pool, body, class_of(body->bytes)) == CMQ_OK)
            ing_body_pool_release(pool, before - body->capacity);
        return;
    }
    memcpy(body->small, body->block, body->bytes);
    give_block(pool, body->block, before);
    body->block = NULL;
    body->capacity = 0;
    ing_body_pool_release(pool, before);
}

void ing_body_drop(struct ing_body_pool *pool, struct ing_body *body, size_t bytes, size_t keep_bytes_max)
{
    uint8_t *content = body->block != NULL ? body->block : body->small;
    cmq_assert(body->by_capacity && bytes <= body->bytes);
    memmove(content, content + bytes, body->bytes - bytes);
    body->bytes -= bytes;
    if (body->block != NULL && body->capacity > keep_bytes_max && body->bytes <= body->capacity / 4)
        shrink(pool, body);
}

void ing_body_clear(struct ing_body_pool *pool, struct ing_body *body)
{
    if (body->block != NULL) {
        ing_body_pool_release(pool, counted(body));
        give_block(pool, body->block, body->capacity);
    }
    body->block = NULL;
    body->bytes = 0;
    body->capacity = 0;
}
