#include "common/proc/cmq_stage_ring.h"

#include "common/journal/cmq_journal.h"

/* Of a broker without a record; 0 stays free to mean "none". */
enum { FIRST_SEQ = 1 };

void cmq_stage_ring_setup(const struct cmq_conf *conf, unsigned instance_number, uint64_t arena_bytes,
                          struct cmq_ring_setup *ret_setup)
{
    /* The table limits every one of these to 32 bits. */
    *ret_setup = (struct cmq_ring_setup){
        .instance = conf->common_instance,
        .run_dir = conf->common_run_dir,
        .slots = (uint32_t)conf->ring_slots,
        .first_seq = FIRST_SEQ,
        .record_bytes_max = cmq_conf_record_bytes_max(conf),
        .arena_bytes = arena_bytes,
        .instance_number = instance_number,
        .version = CMQ_VERSION,
        .lease_ms = (uint32_t)conf->ring_lease_ms,
        .stall_ms = (uint32_t)conf->ring_stall_ms,
        .spin_us = (uint32_t)conf->ring_spin_us,
        .wait_ms = (uint32_t)conf->ring_wait_ms,
    };
}

enum cmq_err cmq_stage_ring_create(const struct cmq_conf *conf, const struct cmq_ring_setup *setup,
                                   struct cmq_reason *reason)
{
    struct cmq_conf_path directory;
    struct cmq_ring_setup with_log = *setup;
    enum cmq_err err = cmq_journal_next_seq(cmq_conf_log_dir(conf, &directory), cmq_file_system(), FIRST_SEQ,
                                            &with_log.first_seq, reason);
    return err == CMQ_OK ? cmq_ring_create(&with_log, reason) : err;
}
