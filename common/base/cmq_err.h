/*
 * cmq_err: the one error code of the tree.
 * Ownership: codes are values; texts are static.
 * Units: none.
 * Errors: a code says what happened and, by its advice, what a caller may do about it.
 * Callers: any thread, any process, signal handlers too.
 */
#ifndef CMQ_ERR_H
#define CMQ_ERR_H

enum cmq_advice {
    CMQ_ADVICE_NONE,   /* not an error */
    CMQ_ADVICE_RETRY,  /* the same call may succeed later */
    CMQ_ADVICE_REJECT, /* the input is wrong: refuse it, go on */
    CMQ_ADVICE_ABORT   /* this process cannot go on with this object */
};

/*      name             advice  text */
#define CMQ_ERR_MAP(X)                                    \
    X(OK, NONE, "ok")                                     \
    X(ERR_AGAIN, RETRY, "not ready yet")                  \
    X(ERR_FULL, RETRY, "no space")                        \
    X(ERR_TIMEOUT, RETRY, "timed out")                    \
    X(ERR_NOMEM, RETRY, "out of memory")                  \
    X(ERR_LOST, RETRY, "somebody else took it over")      \
    X(ERR_DRAINING, RETRY, "draining")                    \
    X(ERR_NOT_FOUND, REJECT, "not found")                 \
    X(ERR_EXISTS, REJECT, "exists already")               \
    X(ERR_TOO_BIG, REJECT, "larger than the limit")       \
    X(ERR_MALFORMED, REJECT, "malformed")                 \
    X(ERR_VERSION, REJECT, "unknown version")             \
    X(ERR_AUTH, REJECT, "authentication failed")          \
    X(ERR_INVALID, REJECT, "invalid argument or setting") \
    X(ERR_LAYOUT, ABORT, "foreign shared-memory layout")  \
    X(ERR_CORRUPT, ABORT, "corrupt shared state")         \
    X(ERR_PERMISSION, ABORT, "permission denied")         \
    X(ERR_KEY, ABORT, "key refused")                      \
    X(ERR_EXHAUSTED, ABORT, "a hard limit is used up")    \
    X(ERR_SYSTEM, ABORT, "system call failed")

enum cmq_err {
#define X(name, advice, text) CMQ_##name,
    CMQ_ERR_MAP(X)
#undef X
};

#define CMQ_MUST_USE                      __attribute__((warn_unused_result))
#define CMQ_PRINTF(fmt_index, args_index) __attribute__((format(printf, fmt_index, args_index)))

/* Static text, never NULL, also for a value outside the enum. */
const char *cmq_err_text(enum cmq_err err);
enum cmq_advice cmq_err_advice(enum cmq_err err);

#endif
