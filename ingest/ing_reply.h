/*
 * ing_reply: what is sent back, apart from how.
 * Ownership: a reply holds its body; its texts are static.
 * Units: bytes; wall clock in seconds.
 * Errors: none.
 * Callers: any thread.
 */
#ifndef ING_REPLY_H
#define ING_REPLY_H

#include <stdbool.h>
#include <time.h>

#include "common/base/cmq_err.h"
#include "common/wire/cmq_id.h"
#include "ingest/ing_fields.h"
#include "ingest/ing_problem.h"

#define ING_REPLY_TEXT_BYTES_MAX (ING_PROBLEM_BYTES_MAX + ING_FIELDS_TEXT_BYTES + 4096u)

struct ing_reply {
    unsigned status;
    const char *type;       /* media type; NULL: there is no body */
    const char *allow;      /* NULL: none */
    const char *challenge;  /* WWW-Authenticate; NULL: none */
    uint32_t retry_after_s; /* 0: none */
    bool close;             /* the connection cannot be trusted with another request */
    size_t body_bytes;
    const uint8_t *text; /* instead of body if it isn't NULL */
    bool lasting;        /* text lives until the request has ended: it need not be copied */
    uint8_t body[ING_PROBLEM_BYTES_MAX];
};

/* GET / */
void ing_reply_root(struct ing_reply *ret_reply);
/* {"status":"..."}; status is a word. */
void ing_reply_status(struct ing_reply *ret_reply, const char *status);
/* 200 with a text that lives on. */
void ing_reply_text_of(struct ing_reply *ret_reply, const char *type, struct cmq_span text);
/* OPTIONS: 204. */
void ing_reply_options(struct ing_reply *ret_reply, const char *allow);
/* Its header fields, but for Date and what frames it. */
void ing_reply_fields(const struct ing_reply *reply, struct ing_fields *fields);
struct ing_accepted {
    struct cmq_id id;
    uint32_t count;      /* messages of the request; 0: the id is null */
    uint32_t duplicates; /* of them were known */
    bool duplicate;      /* all of the request was */
    bool durable;
};
/* {"id":"<seq>-0","count":n,"ack":"durable"}, and "duplicate":true or "duplicates":n. */
void ing_reply_accepted(struct ing_reply *ret_reply, const struct ing_accepted *accepted);
/* allow is sent with ING_PROBLEM_METHOD only. */
void ing_reply_problem(struct ing_reply *ret_reply, const struct ing_problem *problem, const char *allow);
/* Why a record could not be published. err is not CMQ_OK. */
struct ing_problem ing_reply_publish_problem(enum cmq_err err);
/* The reply as HTTP/1.1 bytes, with Connection: close. reply->text is NULL. Returns their count. */
size_t ing_reply_text(uint8_t ret_text[ING_REPLY_TEXT_BYTES_MAX], const struct ing_reply *reply,
                      const struct ing_fields *fields, time_t now);

#endif
