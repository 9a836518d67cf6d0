#include "common/base/cmq_err.h"

struct entry {
    enum cmq_advice advice;
    const char *text;
};

static const struct entry table[] = {
#define X(name, advice, text) [CMQ_##name] = {CMQ_ADVICE_##advice, text},
    CMQ_ERR_MAP(X)
#undef X
};

static const struct entry *find(enum cmq_err err)
{
    static const struct entry unknown = {CMQ_ADVICE_ABORT, "unknown error"};
    unsigned index = (unsigned)err;
    return index < sizeof table / sizeof table[0] ? &table[index] : &unknown;
}

const char *cmq_err_text(enum cmq_err err)
{
    return find(err)->text;
}

enum cmq_advice cmq_err_advice(enum cmq_err err)
{
    return find(err)->advice;
}
