/* metrics: what a scrape of the broker gives, for those who have no scraper, and for tests. */
#include <stdio.h>

#include "common/shm/cmq_metrics.h"
#include "ctl.h"

enum { TEXT_BYTES_MAX = 64 << 20 };

int ctl_metrics(struct ctl *ctl)
{
    struct cmq_reason reason = {{0}};
    struct cmq_ring *ring = NULL;
    struct cmq_sight *sight = NULL;
    struct cmq_buf text;
    cmq_buf_init(&text, TEXT_BYTES_MAX);
    enum cmq_err err = ctl_ring_observe(&ctl->conf, &ring, &reason);
    if (err == CMQ_ERR_AGAIN)
        return ctl_fail(CTL_EXIT_NOT_RUNNING, "%s", reason.text);
    if (err == CMQ_OK)
        err = cmq_sight_take(ring, &sight);
    if (err == CMQ_OK)
        err = cmq_metrics_write(sight, CMQ_VERSION,
                                ctl->conf.common_metrics_topics == CMQ_CONF_METRICS_TOPICS_ON, &text);
    if (err == CMQ_OK)
        (void)fwrite(text.data, 1, text.bytes, stdout);
    cmq_buf_fini(&text);
    cmq_sight_free(sight);
    cmq_ring_detach(ring);
    return err == CMQ_OK ? CMQ_EXIT_OK : ctl_fail_err(err, &reason);
}
