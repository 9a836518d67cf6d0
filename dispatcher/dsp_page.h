/*
 * dsp_page: the files of the dashboard, made of dispatcher/dashboard/ when the broker is built.
 * Ownership: static.
 * Units: bytes.
 * Errors: none.
 * Callers: any thread.
 */
#ifndef DSP_PAGE_H
#define DSP_PAGE_H

#include <stddef.h>

extern const unsigned char dsp_page_html[], dsp_page_css[], dsp_page_js[];
extern const size_t dsp_page_html_bytes, dsp_page_css_bytes, dsp_page_js_bytes;

#endif
