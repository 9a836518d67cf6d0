/* verify: every record of the log, read from its first to its last, every unit opened with the encryptor's keys. Writes
 * nothing; may run beside the broker, as a user who may read the log and the key. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cmq_base.h"
#include "common/crypto/cmq_keyring.h"
#include "common/crypto/cmq_seal.h"
#include "common/journal/cmq_journal.h"
#include "common/wire/cmq_batch.h"
#include "ctl.h"
#include "ctl_progress.h"

enum { READ_BYTES = 4 << 20 };

/* Records [from, to) that cannot be read, all for the same reason. */
struct damage {
    uint64_t from, to;
    const char *reason; /* static; NULL: none is open */
};

struct verify {
    bool json;
    struct cmq_journal_reader *reader;
    struct cmq_keyring *keyring;
    struct cmq_sealer *sealer;
    struct cmq_journal_chunk chunk;
    uint8_t *plain;
    size_t plain_capacity;
    uint64_t first_seq, end_seq;
    uint64_t records, voids, messages, units, bytes;
    uint64_t damaged, ranges;
    struct damage damage;
    struct ctl_progress progress;
};

/* ---- damage ---- */

static void print_damage(struct verify *verify)
{
    const struct damage *damage = &verify->damage;
    if (damage->reason == NULL)
        return;
    ctl_progress_clear(&verify->progress);
    if (verify->json)
        (void)printf("%s{\"from\":%llu,\"to\":%llu,\"reason\":\"%s\"}", verify->ranges == 0 ? "" : ",",
                     (unsigned long long)damage->from, (unsigned long long)damage->to, damage->reason);
    else if (damage->to - damage->from == 1)
        (void)printf("record %llu: %s\n", (unsigned long long)damage->from, damage->reason);
    else
        (void)printf("records %llu to %llu: %s\n", (unsigned long long)damage->from,
                     (unsigned long long)damage->to - 1, damage->reason);
    verify->ranges++;
    verify->damage.reason = NULL;
}

static void note_damage(struct verify *verify, uint64_t from, uint64_t to, const char *reason)
{
    verify->damaged += to - from;
    if (verify->damage.reason == reason && verify->damage.to == from) {
        verify->damage.to = to;
        return;
    }
    print_damage(verify);
    verify->damage = (struct damage){.from = from, .to = to, .reason = reason};
}

/* ---- one record ---- */

static enum cmq_err reserve_plain(struct verify *verify, size_t bytes)
{
    if (bytes <= verify->plain_capacity)
        return CMQ_OK;
    uint8_t *plain = realloc(verify->plain, bytes);
    if (plain == NULL)
        return CMQ_ERR_NOMEM;
    verify->plain = plain;
    verify->plain_capacity = bytes;
    return CMQ_OK;
}

/* Opens a unit, and looks at its messages. */
static enum cmq_err check_unit(struct verify *verify, const struct cmq_sealed_head *head,
                               const struct cmq_sealed_unit *unit)
{
    const struct cmq_data_key *key = NULL;
    uint8_t aad[CMQ_BATCH_AAD_BYTES_MAX];
    struct cmq_mp_reader reader;
    struct cmq_message_full message;
    struct cmq_span request_key;
    if (unit->suite != CMQ_SUITE_XAES_256_GCM)
        return CMQ_ERR_VERSION;
    enum cmq_err err = cmq_keyring_find(verify->keyring, unit->key_id, &key);
    if (err == CMQ_ERR_NOT_FOUND) /* an epoch that is younger than this run */
        err = cmq_keyring_reload(verify->keyring, NULL, NULL) == CMQ_OK
                  ? cmq_keyring_find(verify->keyring, unit->key_id, &key)
                  : CMQ_ERR_NOT_FOUND;
    if (err != CMQ_OK)
        return err;
    const size_t aad_bytes = cmq_sealed_aad(aad, head, unit);
    err = cmq_open(verify->sealer, key->key, unit->nonce, cmq_span_make(aad, aad_bytes), unit->sealed,
                   verify->plain);
    if (err != CMQ_OK)
        return err;
    cmq_mp_reader_init(&reader, cmq_span_make(verify->plain, unit->sealed.bytes - CMQ_TAG_BYTES));
    err = cmq_message_key_read(&reader, unit->flags, &request_key);
    for (uint32_t i = 0; err == CMQ_OK && i < unit->count; i++) {
        err = cmq_message_read(&reader, &message);
        if (err == CMQ_OK && !message.left_out)
            verify->messages++;
    }
    return err == CMQ_OK && cmq_mp_left(&reader) != 0 ? CMQ_ERR_MALFORMED : err;
}

static enum cmq_err check_batch(struct verify *verify, uint64_t seq, struct cmq_span payload)
{
    struct cmq_mp_reader units;
    struct cmq_sealed_head head;
    struct cmq_sealed_unit unit;
    enum cmq_err err = cmq_sealed_decode(payload, &units, &head);
    if (err == CMQ_OK && head.seq != seq)
        err = CMQ_ERR_MALFORMED;
    for (uint32_t i = 0; err == CMQ_OK && i < head.unit_count; i++) {
        err = cmq_sealed_next(&units, &unit);
        if (err == CMQ_OK)
            err = check_unit(verify, &head, &unit);
        verify->units++;
    }
    return err == CMQ_OK && cmq_mp_left(&units) != 0 ? CMQ_ERR_MALFORMED : err;
}

static const char *why(enum cmq_err err)
{
    switch (cmq_err_advice(err)) {
    case CMQ_ADVICE_REJECT:
        return err == CMQ_ERR_AUTH        ? "the seal does not fit"
               : err == CMQ_ERR_NOT_FOUND ? "its key is not in the keyring"
               : err == CMQ_ERR_VERSION   ? "an unknown version or cipher suite"
                                          : "malformed";
    case CMQ_ADVICE_NONE:
    case CMQ_ADVICE_RETRY:
    case CMQ_ADVICE_ABORT:
        return NULL;
    }
    return NULL;
}

static enum cmq_err check_chunk(struct verify *verify)
{
    enum cmq_err err = CMQ_OK;
    for (uint32_t i = 0; err == CMQ_OK && i < verify->chunk.count; i++) {
        const struct cmq_journal_entry *entry = &verify->chunk.entries[i];
        const struct cmq_span payload =
            cmq_span_make(verify->chunk.data + entry->payload_offset, entry->payload_bytes);
        verify->records++;
        verify->bytes += cmq_journal_record_bytes(entry->payload_bytes);
        if (entry->type != CMQ_JOURNAL_BATCH) {
            verify->voids++;
            continue;
        }
        err = reserve_plain(verify, payload.bytes);
        if (err == CMQ_OK)
            err = check_batch(verify, entry->seq, payload);
        if (err != CMQ_OK && why(err) != NULL) {
            note_damage(verify, entry->seq, entry->seq + 1, why(err));
            err = CMQ_OK;
        }
    }
    return err;
}

/* ---- the log ---- */

static enum cmq_err walk(struct verify *verify)
{
    uint64_t seq = verify->first_seq;
    const struct cmq_journal_pos *from = NULL;
    struct cmq_journal_pos next;
    while (seq < verify->end_seq) {
        uint64_t other = verify->end_seq;
        enum cmq_err err =
            cmq_journal_read(verify->reader, seq, verify->end_seq, from, READ_BYTES, &verify->chunk, &other);
        from = NULL;
        switch (err) {
        case CMQ_OK:
            err = check_chunk(verify);
            if (err != CMQ_OK)
                return err;
            seq = verify->chunk.next_seq;
            ctl_progress_add(&verify->progress, verify->chunk.bytes);
            next = verify->chunk.next;
            from = &next;
            break;
        case CMQ_ERR_CORRUPT:
            other = cmq_max_u64(other, seq + 1);
            note_damage(verify, seq, other, "checksums do not fit, or the file is missing");
            seq = other;
            break;
        case CMQ_ERR_NOT_FOUND: /* retention goes on meanwhile */
            seq = cmq_max_u64(other, seq + 1);
            break;
        default: /* of the system */
            return err;
        }
    }
    return CMQ_OK;
}

/* Up to where the log is: what the ring says is stored, or without a ring the last valid record. */
static enum cmq_err find_end(const struct cmq_conf *conf, const char *directory, uint64_t *ret_seq,
                             struct cmq_reason *reason)
{
    struct cmq_ring *ring = NULL;
    if (ctl_ring_observe(conf, &ring, NULL) != CMQ_OK)
        return cmq_journal_next_seq(directory, cmq_file_system(), 1, ret_seq, reason);
    *ret_seq = cmq_ring_stored_seq(ring);
    cmq_ring_detach(ring);
    return CMQ_OK;
}

static enum cmq_err open_all(struct verify *verify, const struct cmq_conf *conf, const char *directory,
                             struct cmq_reason *reason)
{
    const struct cmq_keyring_paths paths = {.kek_file = conf->encryptor_kek_file,
                                            .keyring_file = conf->encryptor_keyring_file};
    enum cmq_err err = find_end(conf, directory, &verify->end_seq, reason);
    if (err == CMQ_OK)
        err = cmq_journal_reader_open(directory, cmq_file_system(), &verify->reader, reason);
    if (err == CMQ_ERR_AGAIN)
        return cmq_reason_set(reason, CMQ_ERR_NOT_FOUND, "there is no log in %s yet", directory);
    if (err == CMQ_OK)
        err = cmq_keyring_open_operator(&paths, CMQ_KEYRING_ENCRYPTOR, &verify->keyring, reason);
    if (err == CMQ_OK)
        err = cmq_sealer_new(&verify->sealer);
    if (err == CMQ_OK)
        verify->first_seq = cmq_journal_floor(verify->reader, verify->end_seq);
    return err;
}

static void print_end(const struct verify *verify, const char *directory)
{
    if (verify->json)
        (void)printf("],\"directory\":\"%s\",\"first\":%llu,\"end\":%llu,\"records\":%llu,\"void\":%llu,"
                     "\"messages\":%llu,\"units\":%llu,\"bytes\":%llu,\"damaged_records\":%llu}\n",
                     directory, (unsigned long long)verify->first_seq, (unsigned long long)verify->end_seq,
                     (unsigned long long)verify->records, (unsigned long long)verify->voids,
                     (unsigned long long)verify->messages, (unsigned long long)verify->units,
                     (unsigned long long)verify->bytes, (unsigned long long)verify->damaged);
    else
        (void)printf("log %s: records from %llu up to %llu; read: %llu (%llu void), %llu messages, %llu "
                     "bytes; damaged: %llu\n",
                     directory, (unsigned long long)verify->first_seq, (unsigned long long)verify->end_seq,
                     (unsigned long long)verify->records, (unsigned long long)verify->voids,
                     (unsigned long long)verify->messages, (unsigned long long)verify->bytes,
                     (unsigned long long)verify->damaged);
}

int ctl_verify(struct ctl *ctl)
{
    struct cmq_reason reason = {{0}};
    struct cmq_conf_path path;
    struct verify verify = {.json = ctl->json};
    const char *directory = cmq_conf_log_dir(&ctl->conf, &path);
    enum cmq_err err = open_all(&verify, &ctl->conf, directory, &reason);
    if (err == CMQ_OK) {
        if (ctl->json)
            (void)printf("{\"damaged\":[");
        struct cmq_journal_usage usage = {0};
        (void)(cmq_journal_usage(directory, cmq_file_system(), &usage) == CMQ_OK);
        ctl_progress_begin(&verify.progress, "verify", usage.bytes, ctl->json);
        err = walk(&verify);
        ctl_progress_end(&verify.progress);
        print_damage(&verify);
        print_end(&verify, directory);
    }
    cmq_journal_chunk_fini(&verify.chunk);
    cmq_journal_reader_close(verify.reader);
    cmq_sealer_free(verify.sealer);
    cmq_keyring_free(verify.keyring);
    free(verify.plain);
    if (err != CMQ_OK) {
        uint64_t next;
        if (err == CMQ_ERR_VERSION && /* which one, and what to do: who looks for the end says it */
            cmq_journal_next_seq(directory, cmq_file_system(), 0, &next, &reason) == CMQ_OK)
            reason.text[0] = '\0';
        if (reason.text[0] == '\0')
            (void)cmq_reason_set(&reason, err, "the log in %s cannot be read: %s", directory,
                                 cmq_err_text(err));
        return ctl_fail_err(err, &reason);
    }
    return verify.damaged == 0 ? CMQ_EXIT_OK : CTL_EXIT_DAMAGED;
}
