/*
 * Happy path: defaults from the table, then the file line by line, then the overrides, then the rules that
 * span keys; the caller's struct is written at the very end. The first fault ends it. inih cuts lines that do
 * not fit its buffer into two, joins indented lines, and tells a section only with its first key; so our
 * reader hands it the lines, refuses long ones, strips indents and checks the section headings itself.
 */
#include "common/conf/cmq_conf.h"

#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>

#include "common/conf/cmq_conf_int.h"

#define NAME_BYTES_MAX 48u /* longer names are compared by their beginning */
#define ROWS_MAX       128u

struct load {
    FILE *file;
    const char *path;
    char *line; /* of getline */
    size_t line_bytes;
    unsigned line_number;
    int read_errno;
    unsigned failed_line; /* 0: no fault yet */
    enum cmq_err err;
    unsigned set_in[ROWS_MAX]; /* line that set the row; 0 = none */
    struct cmq_conf conf;
    struct cmq_reason reason; /* of the fault, with file and line */
};

/* ---- nearest known name ---- */

/* Levenshtein distance of the first NAME_BYTES_MAX bytes. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t costs[NAME_BYTES_MAX + 1];
    size_t a_bytes = strnlen(a, NAME_BYTES_MAX), b_bytes = strnlen(b, NAME_BYTES_MAX);
    for (size_t j = 0; j <= b_bytes; j++)
        costs[j] = j;
    for (size_t i = 1; i <= a_bytes; i++) {
        size_t diagonal = costs[0];
        costs[0] = i;
        for (size_t j = 1; j <= b_bytes; j++) {
            size_t change = diagonal + (a[i - 1] != b[j - 1]);
            size_t shift = cmq_min_u64(costs[j], costs[j - 1]) + 1;
            diagonal = costs[j];
            costs[j] = cmq_min_u64(change, shift);
        }
    }
    return costs[b_bytes];
}

static const char *nearest_section(const char *section)
{
    const struct cmq_conf_row *best = &cmq_conf_rows[0];
    for (size_t i = 1; i < cmq_conf_row_count; i++) {
        if (edit_distance(section, cmq_conf_rows[i].section) < edit_distance(section, best->section))
            best = &cmq_conf_rows[i];
    }
    return best->section;
}

/* A key of another section costs two letters more: a slip of the pen is likelier than a slip of the place. */
static const struct cmq_conf_row *nearest_key(const char *section, const char *name)
{
    const struct cmq_conf_row *best = NULL;
    size_t best_distance = SIZE_MAX;
    for (size_t i = 0; i < cmq_conf_row_count; i++) {
        size_t distance = edit_distance(name, cmq_conf_rows[i].name);
        if (strcmp(section, cmq_conf_rows[i].section) != 0)
            distance += 2;
        if (distance < best_distance) {
            best_distance = distance;
            best = &cmq_conf_rows[i];
        }
    }
    return best;
}

/* ---- keys ---- */

static bool section_known(const char *section)
{
    for (size_t i = 0; i < cmq_conf_row_count; i++) {
        if (strcmp(cmq_conf_rows[i].section, section) == 0)
            return true;
    }
    return false;
}

static enum cmq_err row_find(const char *section, const char *name, size_t *ret_index,
                             struct cmq_reason *reason)
{
    for (size_t i = 0; i < cmq_conf_row_count; i++) {
        if (strcmp(cmq_conf_rows[i].section, section) == 0 && strcmp(cmq_conf_rows[i].name, name) == 0) {
            *ret_index = i;
            return CMQ_OK;
        }
    }
    struct cmq_conf_shown shown_section, shown_name;
    const struct cmq_conf_row *near = nearest_key(section, name);
    if (section[0] == '\0')
        return cmq_reason_set(reason, CMQ_ERR_INVALID,
                              "key %s stands before any [section]; nearest known key: %s.%s",
                              cmq_conf_shown(&shown_name, name), near->section, near->name);
    return cmq_reason_set(reason, CMQ_ERR_INVALID, "unknown key %s.%s; nearest known key: %s.%s",
                          cmq_conf_shown(&shown_section, section), cmq_conf_shown(&shown_name, name),
                          near->section, near->name);
}

static void set_presets(struct cmq_conf *ret_conf)
{
    struct cmq_conf_number number;
    memset(ret_conf, 0, sizeof *ret_conf);
    for (size_t i = 0; i < cmq_conf_row_count; i++) {
        const char *preset = cmq_conf_preset(&number, &cmq_conf_rows[i]);
        enum cmq_err err = cmq_conf_value_parse(&cmq_conf_rows[i], preset, ret_conf, NULL);
        cmq_assert(err == CMQ_OK); /* a default outside its own range */
    }
}

/* ---- the file ---- */

static void load_fail(struct load *load, enum cmq_err err, const struct cmq_reason *why)
{
    if (load->failed_line != 0)
        return;
    load->failed_line = load->line_number;
    load->err = cmq_reason_set(&load->reason, err, "%s:%u: %s", load->path, load->line_number, why->text);
}

static void check_heading(struct load *load, const char *line)
{
    const char *end = strchr(line, ']');
    if (line[0] != '[' || end == NULL)
        return; /* not a heading, or one that inih refuses */
    struct cmq_reason why;
    struct cmq_conf_shown shown;
    char section[NAME_BYTES_MAX + 1] = {0};
    memcpy(section, line + 1, cmq_min_u64((size_t)(end - line - 1), NAME_BYTES_MAX));
    if (!section_known(section)) {
        (void)cmq_reason_set(&why, CMQ_ERR_INVALID, "unknown section [%s]; nearest known section: [%s]",
                             cmq_conf_shown(&shown, section), nearest_section(section));
        load_fail(load, CMQ_ERR_INVALID, &why);
    }
}

/* ini_reader: the next line, without its indent. NULL ends the file. */
static char *next_line(char *dst, int dst_bytes, void *context)
{
    struct load *load = context;
    struct cmq_reason why;
    if (load->failed_line != 0)
        return NULL;
    ssize_t got = getline(&load->line, &load->line_bytes, load->file);
    if (got < 0) {
        load->read_errno = errno; /* of use only if the stream says error */
        return NULL;
    }
    load->line_number++;
    size_t bytes = (size_t)got;
    size_t indent = strspn(load->line, " \t");
    if (strlen(load->line) != bytes) {
        (void)cmq_reason_set(&why, CMQ_ERR_INVALID, "the line has a NUL byte");
        load_fail(load, CMQ_ERR_INVALID, &why);
        return NULL;
    }
    bytes -= indent;
    if (bytes + 1 >= (size_t)dst_bytes) {
        (void)cmq_reason_set(&why, CMQ_ERR_INVALID, "the line is longer than %d characters", dst_bytes - 2);
        load_fail(load, CMQ_ERR_INVALID, &why);
        return NULL;
    }
    memcpy(dst, load->line + indent, bytes + 1);
    check_heading(load, dst);
    return load->failed_line == 0 ? dst : NULL;
}

/* ini_handler */
static int take_pair(void *context, const char *section, const char *name, const char *value)
{
    struct load *load = context;
    struct cmq_reason why;
    size_t index = 0;
    enum cmq_err err = row_find(section, name, &index, &why);
    if (err == CMQ_OK && load->set_in[index] != 0)
        err =
            cmq_reason_set(&why, CMQ_ERR_INVALID, "%s.%s is set a second time (first in line %u): remove one",
                           section, name, load->set_in[index]);
    if (err == CMQ_OK)
        err = cmq_conf_value_parse(&cmq_conf_rows[index], value, &load->conf, &why);
    if (err != CMQ_OK) {
        load_fail(load, err, &why);
        return 0;
    }
    load->set_in[index] = load->line_number;
    return 1;
}

static enum cmq_err file_open(const char *path, FILE **ret_file, struct cmq_reason *reason)
{
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        *ret_file = file;
        return CMQ_OK;
    }
    enum cmq_err err = errno == ENOENT                     ? CMQ_ERR_NOT_FOUND
                       : errno == EACCES || errno == EPERM ? CMQ_ERR_PERMISSION
                                                           : CMQ_ERR_INVALID;
    return cmq_reason_set(reason, err, "%s: cannot be read: %s; name another file with --config", path,
                          strerror(errno));
}

static enum cmq_err load_file(struct load *load, const char *path, struct cmq_reason *reason)
{
    enum cmq_err err = file_open(path, &load->file, reason);
    if (err != CMQ_OK)
        return err;
    load->path = path;
    int fault = ini_parse_stream(next_line, load, take_pair, load);
    if (ferror(load->file)) {
        err =
            cmq_reason_set(reason, CMQ_ERR_INVALID, "%s: cannot be read: %s; name another file with --config",
                           path, strerror(load->read_errno));
    } else if (fault > 0 && (load->failed_line == 0 || (unsigned)fault < load->failed_line)) {
        err = cmq_reason_set(reason, CMQ_ERR_INVALID, "%s:%d: expected [section], key = value, or a comment",
                             path, fault);
    } else if (load->failed_line != 0) {
        err = cmq_reason_set(reason, load->err, "%s", load->reason.text);
    } else if (fault < 0) {
        err = cmq_reason_set(reason, CMQ_ERR_NOMEM, "%s: out of memory", path);
    }
    (void)fclose(load->file);
    free(load->line);
    return err;
}

/* ---- overrides ---- */

static enum cmq_err take_override(struct cmq_conf *conf, const char *text, struct cmq_reason *reason)
{
    char section[NAME_BYTES_MAX + 1] = {0}, name[NAME_BYTES_MAX + 1] = {0};
    struct cmq_conf_shown shown;
    size_t section_bytes = strcspn(text, ".=");
    size_t name_bytes = text[section_bytes] == '.' ? strcspn(text + section_bytes + 1, "=") : 0;
    if (section_bytes == 0 || section_bytes > NAME_BYTES_MAX || name_bytes == 0 ||
        name_bytes > NAME_BYTES_MAX || text[section_bytes + 1 + name_bytes] != '=')
        return cmq_reason_set(reason, CMQ_ERR_INVALID, "--set %s: write section.key=value",
                              cmq_conf_shown(&shown, text));
    memcpy(section, text, section_bytes);
    memcpy(name, text + section_bytes + 1, name_bytes);
    struct cmq_reason why;
    size_t index = 0;
    enum cmq_err err = row_find(section, name, &index, &why);
    if (err == CMQ_OK)
        err = cmq_conf_value_parse(&cmq_conf_rows[index], text + section_bytes + 1 + name_bytes + 1, conf,
                                   &why);
    return err == CMQ_OK ? CMQ_OK : cmq_reason_set(reason, err, "--set: %s", why.text);
}

enum cmq_err cmq_conf_load(const char *path, const struct cmq_conf_override *overrides, size_t override_count,
                           struct cmq_conf *ret_conf, struct cmq_reason *reason)
{
    cmq_assert(cmq_conf_row_count <= ROWS_MAX);
    struct load load = {0};
    enum cmq_err err = CMQ_OK;
    set_presets(&load.conf);
    if (path != NULL)
        err = load_file(&load, path, reason);
    for (size_t i = 0; err == CMQ_OK && i < override_count; i++)
        err = take_override(&load.conf, overrides[i].text, reason);
    if (err == CMQ_OK)
        err = cmq_conf_check(&load.conf, reason);
    if (err == CMQ_OK)
        *ret_conf = load.conf;
    return err;
}

bool cmq_conf_reloadable(const struct cmq_conf *old_conf, const struct cmq_conf *new_conf,
                         struct cmq_reason *reason)
{
    for (size_t i = 0; i < cmq_conf_row_count; i++) {
        const struct cmq_conf_row *row = &cmq_conf_rows[i];
        /* Fields are zero behind their text, so bytes can be compared. */
        if (row->when == CMQ_CONF_START &&
            memcmp((const char *)old_conf + row->offset, (const char *)new_conf + row->offset,
                   row->field_bytes) != 0) {
            (void)cmq_reason_set(reason, CMQ_ERR_INVALID,
                                 "%s.%s has changed and needs a restart; nothing was reloaded", row->section,
                                 row->name);
            return false;
        }
    }
    return true;
}
