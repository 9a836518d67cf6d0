/*
 * Bytes -> a configuration file; behind the first NUL, one override a line. A refusal leaves the settings alone and is one
 * sentence; what is taken is within its bounds, and a running stage that has it can take it again.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/cmq_base.h"
#include "common/conf/cmq_conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { OVERRIDES_MAX = 16, OVERRIDE_BYTES_MAX = 512 };

/* The file is in memory; libFuzzer runs one input at a time. */
static const char *write_file(const uint8_t *data, size_t bytes)
{
    static char path[64];
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("conf", MFD_CLOEXEC);
        cmq_assert(fd >= 0);
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    cmq_assert(ftruncate(fd, 0) == 0);
    cmq_assert(bytes == 0 || pwrite(fd, data, bytes, 0) == (ssize_t)bytes);
    return path;
}

static size_t read_overrides(const uint8_t *data, size_t bytes, char texts[OVERRIDES_MAX][OVERRIDE_BYTES_MAX],
                             struct cmq_conf_override *overrides)
{
    size_t count = 0;
    while (bytes != 0 && count < OVERRIDES_MAX) {
        const uint8_t *end = memchr(data, '\n', bytes);
        size_t length = end == NULL ? bytes : (size_t)(end - data);
        size_t kept = length < OVERRIDE_BYTES_MAX ? length : OVERRIDE_BYTES_MAX - 1;
        memcpy(texts[count], data, kept);
        texts[count][kept] = '\0';
        overrides[count].text = texts[count];
        count++;
        data += end == NULL ? bytes : length + 1;
        bytes -= end == NULL ? bytes : length + 1;
    }
    return count;
}

static void check_taken(const struct cmq_conf *conf)
{
    struct cmq_reason reason;
    struct cmq_conf_path path;
#define U64(section, name, preset, min, max, ...)                     \
    cmq_assert(conf->section##_##name >= (min) + 0ull || (min) == 0); \
    cmq_assert(conf->section##_##name <= (max) + 0ull);
#define TEXT(section, name, preset, bytes_max, ...) \
    cmq_assert(memchr(conf->section##_##name, '\0', (bytes_max) + 1) != NULL);
#define WORD(section, name, preset, words, ...) cmq_assert(conf->section##_##name < strlen(words));
    CMQ_CONF_MAP(U64, TEXT, WORD)
#undef U64
#undef TEXT
#undef WORD
    cmq_assert((conf->ring_slots & (conf->ring_slots - 1)) == 0);
    cmq_assert(cmq_conf_record_bytes_max(conf) <= conf->ingest_arena_bytes);
    cmq_assert(cmq_conf_reloadable(conf, conf, &reason));
    cmq_assert(cmq_conf_log_dir(conf, &path)[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static char texts[OVERRIDES_MAX][OVERRIDE_BYTES_MAX];
    static struct cmq_conf conf, before;
    struct cmq_conf_override overrides[OVERRIDES_MAX];
    struct cmq_reason reason = {{0}};
    const uint8_t *gap = bytes == 0 ? NULL : memchr(data, '\0', bytes);
    const size_t file_bytes = gap == NULL ? bytes : (size_t)(gap - data);
    size_t count = gap == NULL ? 0 : read_overrides(gap + 1, bytes - file_bytes - 1, texts, overrides);
    memset(&conf, 0xa5, sizeof conf);
    memset(&before, 0xa5, sizeof before);
    enum cmq_err err = cmq_conf_load(write_file(data, file_bytes), overrides, count, &conf, &reason);
    if (err == CMQ_OK) {
        check_taken(&conf);
    } else {
        cmq_assert(memcmp(&conf, &before, sizeof conf) == 0);
        cmq_assert(reason.text[0] != '\0' && strlen(reason.text) < sizeof reason.text);
    }
    return 0;
}
