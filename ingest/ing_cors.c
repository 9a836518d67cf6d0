#include "ingest/ing_cors.h"

#include <string.h>

/* A browser asks again after this; it may remember less long. */
#define MAX_AGE_S "600"

struct cmq_span ing_cors_match(const char *origins, struct cmq_span origin)
{
    while (origin.bytes != 0 && *origins != '\0') {
        const size_t bytes = strcspn(origins, " ");
        const bool any = bytes == 1 && *origins == '*';
        if (any || (bytes == origin.bytes && memcmp(origins, origin.data, bytes) == 0))
            return cmq_span_make(origins, bytes);
        origins += bytes + strspn(origins + bytes, " ");
    }
    return cmq_span_make(NULL, 0);
}

void ing_cors_fields(struct cmq_span allowed, struct ing_fields *fields)
{
    ing_fields_put_copy(fields, "Access-Control-Allow-Origin", allowed);
    ing_fields_put(fields, "Access-Control-Expose-Headers",
                   "Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, WWW-Authenticate");
    ing_fields_put(fields, "Vary", "Origin");
}

void ing_cors_preflight(const char *methods, struct cmq_span asked, struct ing_fields *fields)
{
    ing_fields_put(fields, "Access-Control-Allow-Methods", methods);
    if (asked.bytes != 0 && asked.bytes <= ING_CORS_HEADERS_BYTES_MAX)
        ing_fields_put_copy(fields, "Access-Control-Allow-Headers", asked);
    ing_fields_put(fields, "Access-Control-Max-Age", MAX_AGE_S);
}
