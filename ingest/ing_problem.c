#include "ingest/ing_problem.h"

#include <string.h>

#include "common/wire/cmq_json_out.h"
#include "ingest/ing_text.h"

enum { DETAIL_BYTES_MAX = 200 };

static const struct ing_problem_info table[] = {[ING_PROBLEM_NONE] = {0, ING_REFUSAL_BAD, "", "", ""},
#define X(name, status, refusal, slug, title, detail) \
    [ING_PROBLEM_##name] = {status, ING_REFUSAL_##refusal, slug, title, detail},
                                                ING_PROBLEM_MAP(X)
#undef X
};

const struct ing_problem_info *ing_problem_info(enum ing_problem_kind kind)
{
    cmq_assert(kind != ING_PROBLEM_NONE && (size_t)kind < CMQ_COUNT_OF(table));
    return &table[kind];
}

static uint8_t *put_string(uint8_t *dst, const char *text)
{
    size_t bytes = strnlen(text, DETAIL_BYTES_MAX);
    return dst + cmq_json_write_string(dst, cmq_span_make(text, bytes));
}

size_t ing_problem_write(uint8_t ret_body[ING_PROBLEM_BYTES_MAX], const struct ing_problem *problem)
{
    const struct ing_problem_info *info = ing_problem_info(problem->kind);
    uint8_t *dst = ing_text_put(ret_body, "{\"type\":\"/problems/");
    dst = ing_text_put(dst, info->slug);
    dst = ing_text_put(dst, "\",\"title\":");
    dst = put_string(dst, info->title);
    dst = ing_text_put(dst, ",\"status\":");
    dst = ing_text_put_u64(dst, info->status);
    dst = ing_text_put(dst, ",\"detail\":");
    dst = put_string(dst, problem->detail != NULL ? problem->detail : info->detail);
    if (problem->offset != ING_OFFSET_NONE) {
        dst = ing_text_put(dst, ",\"offset\":");
        dst = ing_text_put_u64(dst, problem->offset);
    }
    if (problem->index != ING_INDEX_NONE) {
        dst = ing_text_put(dst, ",\"index\":");
        dst = ing_text_put_u64(dst, problem->index);
    }
    dst = ing_text_put(dst, "}");
    size_t bytes = (size_t)(dst - ret_body);
    cmq_assert(bytes < ING_PROBLEM_BYTES_MAX);
    return bytes;
}
