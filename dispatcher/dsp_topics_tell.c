/* Connections of /t/ on the roll. */
#include "dispatcher/dsp_roll.h"
#include "dispatcher/dsp_topics_int.h"
#include "dispatcher/dsp_ws_door.h"

static enum cmq_client_kind kind_of(enum dsp_topic_kind kind)
{
    switch (kind) {
    case DSP_TOPIC_WS:
        return CMQ_CLIENT_WS;
    case DSP_TOPIC_SSE:
        return CMQ_CLIENT_SSE;
    case DSP_TOPIC_JSON:
        break;
    }
    return CMQ_CLIENT_JSON;
}

void dsp_topics_tell(struct dsp_topics *topics, struct dsp_roll *roll)
{
    for (const struct dsp_topics_conn *conn = topics->conns; conn != NULL; conn = conn->next) {
        const struct dsp_visitor *visitor = dsp_door_visitor(conn->wsi);
        const struct dsp_sub *sub = &conn->feed.sub;
        const uint64_t lag = dsp_roll_lag(roll, sub->cursor.next.seq);
        dsp_roll_subscriber(roll, lag);
        struct cmq_table_client *row = dsp_roll_add(roll, lag, 1, &visitor->address);
        if (row == NULL)
            continue;
        row->kind = kind_of(conn->feed.kind);
        row->subject = cmq_span_make(sub->pattern, sub->pattern_bytes);
        row->connected_ms = visitor->since_ms;
        row->messages = conn->messages;
        row->bytes = conn->sent_bytes;
    }
}
