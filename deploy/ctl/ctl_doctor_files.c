/* Directories, keys, log, tables. What this user may not see is said, not guessed. */
#include "ctl_doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "common/auth/cmq_auth.h"
#include "common/base/cmq_clock.h"
#include "common/crypto/cmq_cert.h"
#include "common/crypto/cmq_keyring.h"
#include "common/journal/cmq_journal.h"

enum { CERT_SOON_DAYS = 14, SEALS_LOW_PERCENT = 80 };
#define MS_PER_DAY (86400ull * 1000ull)

struct who {
    char name[64];
};
static const char *who(struct who *ret_who, uid_t uid)
{
    const struct passwd *user = getpwuid(uid);
    if (user != NULL)
        (void)snprintf(ret_who->name, sizeof ret_who->name, "%s", user->pw_name);
    else
        (void)snprintf(ret_who->name, sizeof ret_who->name, "user %u", (unsigned)uid);
    return ret_who->name;
}

/* ---- directories ---- */

/* True if it is there and is a directory. */
static bool check_directory(struct doctor *doctor, const char *check, const char *key, const char *path,
                            struct stat *ret_info)
{
    struct who owner;
    if (stat(path, ret_info) != 0 && errno == ENOENT) {
        doctor_say(doctor, DOCTOR_FAIL, check,
                   "run `ciphermqctl init`, or make the directory above it for the stage's user",
                   "%s = %s does not exist", key, path);
        return false;
    }
    if (stat(path, ret_info) != 0) {
        doctor_say(doctor, DOCTOR_NOTE, check, "run doctor as root or as the stage's user", "%s = %s: %s",
                   key, path, strerror(errno));
        return false;
    }
    if (!S_ISDIR(ret_info->st_mode)) {
        doctor_say(doctor, DOCTOR_FAIL, check, "name a directory, or move that file away",
                   "%s = %s is not a directory", key, path);
        return false;
    }
    if ((ret_info->st_mode & S_IWOTH) != 0 && (ret_info->st_mode & S_ISVTX) == 0) {
        doctor_say(doctor, DOCTOR_FAIL, check, "chmod o-w on it: only the broker's users may write there",
                   "%s = %s may be written by everybody", key, path);
        return false;
    }
    if ((ret_info->st_mode & S_IWUSR) == 0 || (geteuid() == ret_info->st_uid && access(path, W_OK) != 0)) {
        doctor_say(doctor, DOCTOR_FAIL, check,
                   "chmod u+w on it, and see that its file system is not mounted read-only",
                   "%s = %s cannot be written by its owner %s", key, path, who(&owner, ret_info->st_uid));
        return false;
    }
    return true;
}

static void check_table(struct doctor *doctor, const char *check, const char *key, const char *path)
{
    struct stat info;
    struct who owner;
    if (access(path, F_OK) != 0 && errno == ENOENT) {
        doctor_say(doctor, DOCTOR_NOTE, check, "nothing, if the broker never ran: its stage makes it",
                   "%s = %s is not there yet", key, path);
        return;
    }
    if (check_directory(doctor, check, key, path, &info))
        doctor_say(doctor, DOCTOR_OK, check, NULL, "%s belongs to %s", path, who(&owner, info.st_uid));
}

/* ---- keys ---- */

static void say_readers(struct doctor *doctor, const char *check, const char *path)
{
    struct stat info;
    struct who owner;
    if (stat(path, &info) == 0)
        doctor_say(doctor, DOCTOR_OK, check, NULL, "%s is readable for %s and root only", path,
                   who(&owner, info.st_uid));
}

static void check_one_key(struct doctor *doctor, const char *check, const char *path)
{
    struct stat info;
    if (lstat(path, &info) != 0 && errno == ENOENT) {
        doctor_say(doctor, DOCTOR_FAIL, check,
                   "bring it back from your copy; if the broker never ran, `ciphermqctl init` makes it",
                   "%s is missing", path);
    } else if (lstat(path, &info) != 0) {
        doctor_say(doctor, DOCTOR_NOTE, check, "run doctor as root or as the stage's user", "%s: %s", path,
                   strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        doctor_say(doctor, DOCTOR_FAIL, check, "put the file itself there: links are not followed",
                   "%s is not a regular file", path);
    } else if ((info.st_mode & 07777) != 0400) {
        doctor_say(doctor, DOCTOR_FAIL, check,
                   "chmod 0400 on it; if others could read it, rotate: `ciphermqctl key rotate`",
                   "%s has mode %04o, it must be 0400", path, (unsigned)(info.st_mode & 07777));
    } else if (info.st_size != 32) {
        doctor_say(doctor, DOCTOR_FAIL, check, "bring it back from your copy",
                   "%s has %lld bytes instead of 32", path, (long long)info.st_size);
    } else {
        say_readers(doctor, check, path);
    }
}

static void check_users(struct doctor *doctor)
{
    const struct cmq_conf *conf = &doctor->ctl->conf;
    struct stat ours, theirs;
    struct who owner;
    if (stat(conf->encryptor_kek_file, &ours) != 0 || stat(conf->dispatcher_kek_file, &theirs) != 0)
        return;
    if (ours.st_uid == theirs.st_uid)
        doctor_say(doctor, DOCTOR_NOTE, "users",
                   "on a server give every stage its user: the systemd units of deploy/ do",
                   "all stages run as %s: the process that faces the internet could read the keys",
                   who(&owner, ours.st_uid));
    else
        doctor_say(doctor, DOCTOR_OK, "users", NULL, "encryptor and dispatcher have users of their own");
}

static void check_seals(struct doctor *doctor, const struct cmq_keyring *keyring)
{
    for (size_t i = 0; i < cmq_keyring_count(keyring); i++) {
        struct cmq_key_info info;
        cmq_keyring_info(keyring, i, &info);
        if (info.seals_reserved > CMQ_KEY_SEALS_MAX / 100 * SEALS_LOW_PERCENT)
            doctor_say(doctor, DOCTOR_NOTE, "keyring",
                       "`ciphermqctl key rotate` begins a new epoch; at the limit it begins by itself",
                       "epoch %u of %s is used up to %.0f %%", info.epoch, info.pattern,
                       100.0 * (double)info.seals_reserved / (double)CMQ_KEY_SEALS_MAX);
    }
}

static void check_keyring_side(struct doctor *doctor, const char *kek_file, const char *keyring_file,
                               enum cmq_keyring_side side, const char *side_name)
{
    const struct cmq_keyring_paths paths = {.kek_file = kek_file, .keyring_file = keyring_file};
    struct cmq_keyring *keyring = NULL;
    struct cmq_reason reason = {{0}};
    if (access(kek_file, R_OK) != 0)
        return; /* said already, or not ours to read */
    enum cmq_err err = cmq_keyring_open_operator(&paths, side, &keyring, &reason);
    if (err != CMQ_OK) {
        doctor_say(doctor, DOCTOR_FAIL, "keyring",
                   "use the keyring and the key files that belong together; bring both back from one copy",
                   "%s: %s", side_name, reason.text[0] != '\0' ? reason.text : cmq_err_text(err));
        return;
    }
    doctor_say(doctor, DOCTOR_OK, "keyring", NULL, "%s opens with the key of the %s, %zu epochs",
               keyring_file, side_name, cmq_keyring_count(keyring));
    check_seals(doctor, keyring);
    cmq_keyring_free(keyring);
}

static void check_keys(struct doctor *doctor)
{
    const struct cmq_conf *conf = &doctor->ctl->conf;
    check_one_key(doctor, "kek", conf->encryptor_kek_file);
    check_one_key(doctor, "delivery-kek", conf->dispatcher_kek_file);
    check_users(doctor);
    if (access(conf->encryptor_keyring_file, F_OK) != 0 && errno == ENOENT) {
        doctor_say(doctor, DOCTOR_FAIL, "keyring",
                   "bring it back from your copy: without it the log cannot be read; if the broker never "
                   "ran, `ciphermqctl init`",
                   "%s is missing", conf->encryptor_keyring_file);
        return;
    }
    check_keyring_side(doctor, conf->encryptor_kek_file, conf->encryptor_keyring_file, CMQ_KEYRING_ENCRYPTOR,
                       "encryptor");
    check_keyring_side(doctor, conf->dispatcher_kek_file, conf->dispatcher_keyring_file, CMQ_KEYRING_DELIVERY,
                       "dispatcher");
}

/* ---- the log ---- */

static uint64_t log_bytes(const char *directory)
{
    struct cmq_journal_usage usage = {0};
    return cmq_journal_usage(directory, cmq_file_system(), &usage) == CMQ_OK ? usage.bytes : 0;
}

static void check_space(struct doctor *doctor, const char *directory)
{
    const struct cmq_conf *conf = &doctor->ctl->conf;
    struct statfs system;
    if (statfs(directory, &system) != 0)
        return;
    const uint64_t free_bytes = (uint64_t)system.f_bavail * (uint64_t)system.f_bsize,
                   used = log_bytes(directory);
    const uint64_t limit = cmq_conf_log_bytes_max(conf);
    const uint64_t wanted = limit > used ? limit - used : 0;
    if (free_bytes < conf->log_segment_bytes)
        doctor_say(doctor, DOCTOR_FAIL, "log-space",
                   "make room there, or lower log.retention_bytes; publishers get 503 until then",
                   "%s has %llu MiB free, the next segment needs %llu", directory,
                   (unsigned long long)(free_bytes >> 20),
                   (unsigned long long)(conf->log_segment_bytes >> 20));
    else if (free_bytes < wanted)
        doctor_say(doctor, DOCTOR_NOTE, "log-space",
                   "make room, or lower log.retention_bytes to what the disk can hold",
                   "%s has %llu MiB free, the log may grow by %llu", directory,
                   (unsigned long long)(free_bytes >> 20), (unsigned long long)(wanted >> 20));
    else
        doctor_say(doctor, DOCTOR_OK, "log-space", NULL, "%llu MiB used of %llu, %llu MiB free",
                   (unsigned long long)(used >> 20), (unsigned long long)(limit >> 20),
                   (unsigned long long)(free_bytes >> 20));
    if (conf->log_store == CMQ_CONF_STORE_DISK && system.f_type == TMPFS_MAGIC)
        doctor_say(doctor, DOCTOR_NOTE, "log-space", "put log.dir on a disk",
                   "%s is in memory (tmpfs): a reboot takes the log", directory);
}

static void check_log(struct doctor *doctor)
{
    struct cmq_conf_path path;
    struct cmq_reason reason = {{0}};
    struct stat info;
    const char *directory = cmq_conf_log_dir(&doctor->ctl->conf, &path);
    uint64_t next = 0;
    if (access(directory, F_OK) != 0 && errno == ENOENT) {
        doctor_say(doctor, DOCTOR_NOTE, "log", "nothing, if the broker never ran: the encryptor makes it",
                   "log.dir = %s is not there yet", directory);
        return;
    }
    if (!check_directory(doctor, "log", "log.dir", directory, &info))
        return;
    if (cmq_journal_next_seq(directory, cmq_file_system(), 1, &next, &reason) != CMQ_OK) {
        doctor_say(doctor, access(directory, R_OK) == 0 ? DOCTOR_FAIL : DOCTOR_NOTE, "log",
                   "`ciphermqctl verify` reads all of it and names what is damaged", "%s", reason.text);
        return;
    }
    struct cmq_journal_usage usage = {0};
    if (cmq_journal_usage(directory, cmq_file_system(), &usage) == CMQ_OK && usage.missing_seq != 0)
        doctor_say(doctor, DOCTOR_FAIL, "log",
                   "bring the file back; the encryptor says how to go on without its records",
                   "%s lacks segment %016llx.log", directory, (unsigned long long)usage.missing_seq);
    else
        doctor_say(doctor, DOCTOR_OK, "log", NULL, "%s ends before record %llu", directory,
                   (unsigned long long)next);
    if (usage.newest_ms > cmq_clock_wall_ms() + 5000)
        doctor_say(doctor, DOCTOR_NOTE, "clock",
                   "set the clock (timedatectl); order and acks do not depend on it, times shown do",
                   "the newest segment is from %llu s in the future",
                   (unsigned long long)((usage.newest_ms - cmq_clock_wall_ms()) / 1000));
    check_space(doctor, directory);
}

/* ---- tokens and certificates ---- */

static void check_tokens(struct doctor *doctor)
{
    const struct cmq_conf *conf = &doctor->ctl->conf;
    struct cmq_auth *auth = NULL;
    struct cmq_reason reason = {{0}};
    if (conf->tokens_file[0] == '\0') {
        doctor_say(doctor, DOCTOR_NOTE, "tokens",
                   "set file under [tokens] and make one: `ciphermqctl token create`",
                   "nobody needs a token; whoever reaches the ports of this machine may do everything");
        return;
    }
    if (cmq_auth_new(conf->tokens_file, (uint32_t)conf->tokens_failures_max, &auth, &reason) != CMQ_OK)
        doctor_say(doctor,
                   access(conf->tokens_file, R_OK) != 0 && errno == EACCES ? DOCTOR_NOTE : DOCTOR_FAIL,
                   "tokens", "mend that; `ciphermqctl token create` makes the file with the right mode", "%s",
                   reason.text);
    else
        doctor_say(doctor, DOCTOR_OK, "tokens", NULL, "%s is understood", conf->tokens_file);
    cmq_auth_free(auth);
}

static void check_certificate(struct doctor *doctor)
{
    const struct cmq_conf *conf = &doctor->ctl->conf;
    struct cmq_cert_info info;
    struct cmq_reason reason = {{0}};
    if (conf->tls_cert_file[0] == '\0') {
        doctor_say(doctor, DOCTOR_OK, "tls", NULL, "off: both ports listen on loopback only");
        return;
    }
    if (cmq_cert_examine(conf->tls_cert_file, conf->tls_key_file, &info, &reason) != CMQ_OK) {
        doctor_say(doctor, DOCTOR_FAIL, "tls", "name a PEM certificate chain and its own private key", "%s",
                   reason.text);
        return;
    }
    const uint64_t now_ms = cmq_clock_wall_ms();
    if (info.not_after_ms <= now_ms)
        doctor_say(doctor, DOCTOR_FAIL, "tls", "renew it; the stages take new files by themselves",
                   "the certificate of %s has expired", info.subject);
    else if (info.not_before_ms > now_ms)
        doctor_say(doctor, DOCTOR_FAIL, "tls", "set the clock, or wait",
                   "the certificate of %s is not valid yet", info.subject);
    else
        doctor_say(doctor, info.not_after_ms < now_ms + CERT_SOON_DAYS * MS_PER_DAY ? DOCTOR_NOTE : DOCTOR_OK,
                   "tls", info.not_after_ms < now_ms + CERT_SOON_DAYS * MS_PER_DAY ? "renew it" : NULL,
                   "the certificate of %s is valid for %llu days", info.subject,
                   (unsigned long long)((info.not_after_ms - now_ms) / MS_PER_DAY));
}

void doctor_check_files(struct doctor *doctor)
{
    const struct cmq_conf *conf = &doctor->ctl->conf;
    struct cmq_conf_path path;
    struct stat info;
    struct who owner;
    if (check_directory(doctor, "run-dir", "common.run_dir", conf->common_run_dir, &info))
        doctor_say(doctor, DOCTOR_OK, "run-dir", NULL, "%s belongs to %s", conf->common_run_dir,
                   who(&owner, info.st_uid));
    check_keys(doctor);
    check_log(doctor);
    check_table(doctor, "groups", "dispatcher.groups_dir", cmq_conf_groups_dir(conf, &path));
    check_table(doctor, "idempotency", "encryptor.idempotency_dir", cmq_conf_idempotency_dir(conf, &path));
    check_tokens(doctor);
    check_certificate(doctor);
}
