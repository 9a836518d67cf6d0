/*
 * dsp_letters: publishes dead letters: this process joins the rings a second time, as a producer, when there is one to send.
 * Ownership: heap memory; conf is borrowed and outlives it.
 * Units: bytes.
 * Errors: publish: CMQ_ERR_FULL and what else has advice RETRY: again later.
 * Callers: publish: the delivery thread; tick: the main thread; free: when neither runs.
 */
#ifndef DSP_LETTERS_H
#define DSP_LETTERS_H

#include "common/base/cmq_base.h"
#include "common/base/cmq_reason.h"
#include "common/conf/cmq_conf.h"

struct dsp_letters;

CMQ_MUST_USE enum cmq_err dsp_letters_new(const struct cmq_conf *conf, unsigned instance_number,
                                          struct dsp_letters **ret_letters);
/* NULL is fine. */
void dsp_letters_free(struct dsp_letters *letters);
/* One record of one message (packed). */
CMQ_MUST_USE enum cmq_err dsp_letters_publish(struct dsp_letters *letters, struct cmq_span topic,
                                              struct cmq_span message, uint64_t *ret_seq);
/* Heartbeat of the second membership. Every 250 ms or so. */
void dsp_letters_tick(struct dsp_letters *letters);

#endif
