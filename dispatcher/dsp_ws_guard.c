#include "dispatcher/dsp_ws_guard.h"

#include <errno.h>
#include <sys/socket.h>

#include "common/base/cmq_clock.h"
#include "dispatcher/dsp_sock.h"
#include "dispatcher/dsp_ws_int.h"

enum {
    CLIENT_HEAD_BYTES = 6,       /* of a frame of a client, with its mask; longer ones have 2 or 8 more */
    CONTROL_BYTES_MAX = 6 + 125, /* a control frame of a client */
    PONG_GAIN_BYTES = 4,         /* a ping has a mask and its pong has none */
    TLS_BYTES = 96,              /* a data frame's share of records; more than any sane client needs */
    TLS_RECORD_BYTES = 29,       /* around a control frame that has a record of its own */
    READ_AHEAD_BYTES = 4096,     /* of a data frame that the library has and did not give us yet */
    TLS_READ_AHEAD_BYTES = 2 * 16384,
    STRIKES_MAX = 3
};

/* The bytes that no data frame explains, in the middle of one so many more. False: the kernel does not say. */
static bool measure(const struct dsp_guard *guard, struct lws *wsi, uint64_t *ret_in, uint64_t *ret_out)
{
    uint64_t in_bytes, out_bytes;
    if (!dsp_sock_traffic(lws_get_socket_fd(wsi), &in_bytes, &out_bytes))
        return false;
    *ret_in = in_bytes - guard->in_bytes - guard->frame_bytes;
    *ret_out = out_bytes - guard->out_bytes;
    return true;
}

void dsp_guard_begin(struct dsp_guard *guard, struct lws *wsi)
{
    *guard = (struct dsp_guard){0};
    if (measure(guard, wsi, &guard->seen_in, &guard->seen_out))
        guard->looked_ns = cmq_clock_mono_ns();
}

bool dsp_guard_received(struct dsp_guard *guard, const struct dsp_guard_limits *limits, struct lws *wsi,
                        size_t bytes)
{
    guard->frame_bytes += bytes;
    if (lws_remaining_packet_payload(wsi) != 0)
        return true;
    const uint64_t whole = guard->frame_bytes;
    guard->in_bytes += whole + CLIENT_HEAD_BYTES + (whole < 126 ? 0u : whole < 65536 ? 2u : 8u);
    if (lws_is_ssl(wsi))
        guard->in_bytes += TLS_BYTES + whole / 16;
    guard->frame_bytes = 0;
    guard->fragments++;
    bool ok = guard->fragments <= limits->fragments_max;
    if (lws_is_final_fragment(wsi))
        guard->fragments = 0;
    return ok;
}

void dsp_guard_pong(struct dsp_guard *guard, size_t bytes)
{
    guard->in_bytes += bytes + CLIENT_HEAD_BYTES;
    guard->pongs++;
}

static int64_t read_ahead(bool tls)
{
    return tls ? TLS_READ_AHEAD_BYTES : READ_AHEAD_BYTES;
}

bool dsp_guard_look(struct dsp_guard *guard, const struct dsp_guard_limits *limits, struct lws *wsi,
                    uint64_t now_ns)
{
    uint64_t in_bytes, out_bytes;
    if (guard->looked_ns == 0 || !measure(guard, wsi, &in_bytes, &out_bytes))
        return true;
    const int64_t came = (int64_t)(in_bytes - guard->seen_in);
    const int64_t went = (int64_t)(out_bytes - guard->seen_out);
    const uint64_t allowed = limits->control_rate_max * (now_ns - guard->looked_ns) / CMQ_NS_PER_S + 1u;
    /* Exact numbers are there only between frames, both ways. */
    const bool tls = lws_is_ssl(wsi) != 0;
    const bool inside = lws_remaining_packet_payload(wsi) != 0 || guard->frame_bytes > 0;
    int64_t frames;
    if (!inside && !tls && lws_partial_buffered(wsi) == 0)
        frames = (came - went) / PONG_GAIN_BYTES;
    else
        frames = (came - (inside ? read_ahead(tls) : 0)) / (CONTROL_BYTES_MAX + (tls ? TLS_RECORD_BYTES : 0));
    frames = (int64_t)guard->pongs + (frames > 0 ? frames : 0);
    guard->strikes = frames > (int64_t)allowed ? guard->strikes + 1 : 0;
    guard->seen_in = in_bytes;
    guard->seen_out = out_bytes;
    guard->looked_ns = now_ns;
    guard->pongs = 0;
    return guard->strikes < STRIKES_MAX;
}

bool dsp_guard_is_closing(struct lws *wsi)
{
    if (lws_get_close_length(wsi) == 0)
        return false;
    lws_set_timer_usecs(wsi, (lws_usec_t)DSP_CLOSE_ANSWER_MS * LWS_US_PER_MS);
    return true;
}

static bool blames_peer(unsigned code)
{
    switch (code) {
    case LWS_CLOSE_STATUS_PROTOCOL_ERR:
    case LWS_CLOSE_STATUS_UNACCEPTABLE_OPCODE:
    case LWS_CLOSE_STATUS_INVALID_PAYLOAD:
    case LWS_CLOSE_STATUS_POLICY_VIOLATION:
    case LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE:
    case 3500:
    case 3501:
        return true;
    default:
        return false;
    }
}

/* The library says the code that it, or we, closed with. Where it just drops the connection there is none; but then the
 * peer is still there. */
bool dsp_guard_is_fault(const struct dsp_guard *guard, struct lws *wsi)
{
    uint8_t byte;
    const struct dsp_ws *ws = lws_context_user(lws_get_context(wsi));
    if (guard->ended || ws->stopped) /* all end with the library */
        return false;
    if (lws_get_close_length(wsi) >= 2) {
        const uint8_t *code = lws_get_close_payload(wsi);
        return blames_peer((unsigned)code[0] << 8 | code[1]);
    }
    if (guard->peer_closed)
        return false;
    ssize_t bytes = recv(lws_get_socket_fd(wsi), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return bytes > 0 || (bytes < 0 && errno == EAGAIN);
}
