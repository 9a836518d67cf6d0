/*
 * cmq_conf_int: the rows of the table as data, and reading and writing of single values.
 * Ownership: rows are static; texts of rows are literals.
 * Units: as in cmq_conf_table.h.
 * Errors: CMQ_ERR_INVALID with a sentence that begins with the key.
 * Callers: common/conf only.
 */
#ifndef CMQ_CONF_INT_H
#define CMQ_CONF_INT_H

#include "common/base/cmq_base.h"
#include "common/conf/cmq_conf.h"

enum cmq_conf_kind { CMQ_CONF_U64, CMQ_CONF_TEXT, CMQ_CONF_WORD };
enum cmq_conf_when { CMQ_CONF_START, CMQ_CONF_LIVE };

struct cmq_conf_row {
    enum cmq_conf_kind kind;
    enum cmq_conf_when when;
    const char *section, *name, *help;
    size_t offset, field_bytes; /* of the field in struct cmq_conf */
    uint64_t preset, min, max;  /* U64 */
    const char *unit;           /* U64 */
    const char *preset_text;    /* TEXT, WORD */
    size_t bytes_max;           /* TEXT */
    const char *words;          /* WORD: "a|b|c" */
};

extern const struct cmq_conf_row cmq_conf_rows[];
extern const size_t cmq_conf_row_count;

/* Text of a number in the row's unit, with K, M or G where that is exact and shorter. */
struct cmq_conf_number {
    char text[24];
};
const char *cmq_conf_number(struct cmq_conf_number *ret_number, uint64_t value, const char *unit);
/* The row's default as it would stand in a file. */
const char *cmq_conf_preset(struct cmq_conf_number *storage, const struct cmq_conf_row *row);

/* A piece of foreign text fit for a sentence: cut at 60 bytes, control characters shown as '?'. */
struct cmq_conf_shown {
    char text[64];
};
const char *cmq_conf_shown(struct cmq_conf_shown *ret_shown, const char *text);

CMQ_MUST_USE enum cmq_err cmq_conf_value_parse(const struct cmq_conf_row *row, const char *text,
                                               struct cmq_conf *conf, struct cmq_reason *reason);
/* What spans several keys, and texts that must have a form. */
CMQ_MUST_USE enum cmq_err cmq_conf_check(const struct cmq_conf *conf, struct cmq_reason *reason);

#endif
