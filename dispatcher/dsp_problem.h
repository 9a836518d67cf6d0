/*
 * dsp_problem: an answer of plain HTTP that says what is wrong (problem+json, RFC 9457).
 * Ownership: literals; nothing of the client's goes into one.
 * Units: status: of HTTP.
 * Errors: none.
 * Callers: any.
 */
#ifndef DSP_PROBLEM_H
#define DSP_PROBLEM_H

struct dsp_problem {
    unsigned status;
    const char *slug; /* of "type": "/problems/<slug>" */
    const char *title;
    const char *detail;
    const char *extra_name, *extra_value; /* one header more: "name:", value; or NULL */
};

#endif
