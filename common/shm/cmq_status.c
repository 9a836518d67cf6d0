#include "common/shm/cmq_status.h"

#include <stdio.h>
#include <string.h>

/* A build with other tables does not read these. */
static uint64_t status_magic(void)
{
    const uint64_t parts[] = {1, sizeof(struct cmq_status_page), CMQ_COUNTER_COUNT, CMQ_HIST_COUNT};
    uint64_t hash = 0x434d512d53544154ull; /* "CMQ-STAT" */
    for (size_t i = 0; i < CMQ_COUNT_OF(parts); i++)
        hash = (hash ^ parts[i]) * 0x100000001b3ull;
    return hash;
}

bool cmq_status_object_name(char ret_name[CMQ_SEGMENT_NAME_BYTES], char kind, const char *instance,
                            enum cmq_role role, uint32_t instance_number)
{
    static const char letters[] = {
        [CMQ_ROLE_INGEST] = 'i', [CMQ_ROLE_ENCRYPTOR] = 'e', [CMQ_ROLE_DISPATCHER] = 'd'};
    char suffix[16];
    if (role == CMQ_ROLE_NONE || (size_t)role >= sizeof letters ||
        instance_number >= CMQ_STATUS_INSTANCES_MAX)
        return false;
    (void)snprintf(suffix, sizeof suffix, "%c%c%u", kind, letters[role], instance_number);
    cmq_segment_name(ret_name, instance, suffix);
    return true;
}

static bool page_name(char ret_name[CMQ_SEGMENT_NAME_BYTES], const char *instance, enum cmq_role role,
                      uint32_t instance_number)
{
    return cmq_status_object_name(ret_name, 's', instance, role, instance_number);
}

enum cmq_err cmq_status_object_open(const char *name, size_t bytes, uint64_t magic,
                                    struct cmq_segment *ret_segment)
{
    enum cmq_err err = cmq_segment_map(name, 0, true, ret_segment, NULL);
    if (err == CMQ_OK) {
        const _Atomic uint64_t *word = ret_segment->data;
        if (ret_segment->bytes >= bytes) {
            /* Acquire: pairs with the release of who made it. */
            uint64_t found = atomic_load_explicit(word, memory_order_acquire);
            if (found == 0 || found == magic)
                return CMQ_OK;
        }
        cmq_segment_unmap(ret_segment);
        if (!cmq_segment_remove(name))
            return CMQ_ERR_PERMISSION;
        err = CMQ_ERR_NOT_FOUND;
    } else if (err == CMQ_ERR_LAYOUT &&
               cmq_segment_remove(name)) { /* empty: its maker died before it had a size */
        err = CMQ_ERR_NOT_FOUND;
    }
    if (err != CMQ_ERR_NOT_FOUND)
        return err;
    return cmq_segment_create(name, bytes, 0640, ret_segment, NULL);
}

static_assert(sizeof((struct cmq_status_page *)0)->version == CMQ_STATUS_VERSION_BYTES, "version");

static void write_version(struct cmq_status_page *page, const char *version)
{
    uint64_t words[2] = {0};
    char text[CMQ_STATUS_VERSION_BYTES] = {0};
    (void)snprintf(text, sizeof text, "%s", version != NULL ? version : "");
    memcpy(words, text, sizeof words);
    for (size_t i = 0; i < CMQ_COUNT_OF(words); i++)
        atomic_store_explicit(&page->version[i], words[i], memory_order_relaxed);
}

/* Ends at the first character that no version has: the page is another process's. */
static void read_version(const struct cmq_status_page *page, char ret_version[CMQ_STATUS_VERSION_BYTES])
{
    static const char allowed[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.+-~";
    uint64_t words[2];
    for (size_t i = 0; i < CMQ_COUNT_OF(words); i++)
        words[i] = atomic_load_explicit(&page->version[i], memory_order_relaxed);
    memcpy(ret_version, words, sizeof words);
    ret_version[CMQ_STATUS_VERSION_BYTES - 1] = '\0';
    ret_version[strspn(ret_version, allowed)] = '\0';
}

void cmq_status_join(const char *instance, enum cmq_role role, uint32_t instance_number, const char *version,
                     struct cmq_segment *ret_segment)
{
    char name[CMQ_SEGMENT_NAME_BYTES];
    struct cmq_segment segment = {0};
    if (!page_name(name, instance, role, instance_number) ||
        cmq_status_object_open(name, sizeof(struct cmq_status_page), status_magic(), &segment) != CMQ_OK)
        return;
    struct cmq_status_page *page = segment.data;
    for (unsigned i = 0; i < CMQ_COUNTER_COUNT; i++) {
        if (cmq_counter_info((enum cmq_counter)i)->kind == CMQ_KIND_GAUGE)
            atomic_store_explicit(&page->counters[i], 0, memory_order_relaxed);
    }
    atomic_fetch_add_explicit(&page->starts, 1, memory_order_relaxed);
    write_version(page, version);
    /* Pairs with the readers' load: a page with a magic is whole. */
    atomic_store_explicit(&page->magic, status_magic(), memory_order_release);
    *ret_segment = segment;
}

static void copy_hist(const struct cmq_status_hist *hist, struct cmq_status *ret_status, unsigned at)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < CMQ_HIST_BUCKETS; i++) {
        ret_status->hists[at].buckets[i] = atomic_load_explicit(&hist->buckets[i], memory_order_relaxed);
        count += ret_status->hists[at].buckets[i];
    }
    ret_status->hists[at].count = count; /* of the buckets that were read, so that they agree */
    ret_status->hists[at].sum_ns = atomic_load_explicit(&hist->sum_ns, memory_order_relaxed);
}

static bool read_page(const char *instance, enum cmq_role role, uint32_t number,
                      struct cmq_status *ret_status)
{
    char name[CMQ_SEGMENT_NAME_BYTES];
    struct cmq_segment segment = {0};
    if (!page_name(name, instance, role, number) || cmq_segment_map(name, 0, false, &segment, NULL) != CMQ_OK)
        return false;
    const struct cmq_status_page *page = segment.data;
    bool good = segment.bytes >= sizeof *page &&
                atomic_load_explicit(&page->magic, memory_order_acquire) == status_magic();
    if (good) {
        *ret_status = (struct cmq_status){.role = role, .instance_number = number};
        ret_status->starts = atomic_load_explicit(&page->starts, memory_order_relaxed);
        read_version(page, ret_status->version);
        for (unsigned i = 0; i < CMQ_COUNTER_COUNT; i++)
            ret_status->counters[i] = atomic_load_explicit(&page->counters[i], memory_order_relaxed);
        for (unsigned i = 0; i < CMQ_HIST_COUNT; i++)
            copy_hist(&page->hists[i], ret_status, i);
    }
    cmq_segment_unmap(&segment);
    return good;
}

size_t cmq_status_read(const char *instance, struct cmq_status *ret_statuses, size_t max)
{
    static const enum cmq_role roles[] = {CMQ_ROLE_INGEST, CMQ_ROLE_ENCRYPTOR, CMQ_ROLE_DISPATCHER};
    size_t count = 0;
    for (size_t i = 0; i < CMQ_COUNT_OF(roles); i++) {
        for (uint32_t number = 0; number < CMQ_STATUS_INSTANCES_MAX; number++) {
            struct cmq_status status;
            if (!read_page(instance, roles[i], number, &status))
                continue;
            if (count < max)
                ret_statuses[count] = status;
            count++;
        }
    }
    return count;
}
