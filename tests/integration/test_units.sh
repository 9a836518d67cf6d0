#!/bin/bash
# test_units.sh BUILD: systemd accepts the units, the sysusers and the tmpfiles file of deploy/systemd.
# The units name /usr/bin, where nothing is installed here; copies with the build's paths are checked.
set -euo pipefail
build=$1
units=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../deploy/systemd" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { printf 'FAIL: %s\n' "$*" >&2 && exit 1; }

names=()
for file in "$units"/*.service "$units"/*.target; do
    name=$(basename "$file")
    sed -e "s#/usr/bin/ciphermqctl#$build/deploy/ctl/ciphermqctl#" \
        -e "s#/usr/bin/ciphermq-\([a-z]*\)#$build/\1/ciphermq-\1#" "$file" >"$work/$name"
    case $name in
    *@.service) name=${name/@/@1} && cp "$work/${name/@1/@}" "$work/$name" ;;
    esac
    names+=("$work/$name")
done
# verify writes what it finds to stderr; some findings leave its exit code at 0, so any word counts.
words=$(SYSTEMD_UNIT_PATH="$work:" systemd-analyze verify --man=no --recursive-errors=no "${names[@]}" 2>&1) ||
    fail "systemd-analyze verify: $words"
[ -z "$words" ] || fail "systemd-analyze verify says: $words"
printf 'ok: %s units\n' ${#names[@]}

# A wrong name in Requires= or After= is no error to systemd-analyze.
while read -r name; do
    [ -e "$units/${name/@[0-9]/@}" ] || fail "the units name $name, which does not exist"
done < <(grep -hE '^(Requires|Wants|After|Before|PartOf|WantedBy)=' "$units"/*.service "$units"/*.target |
    grep -oE 'ciphermq[^ =]*\.(service|target)')
printf 'ok: names of units\n'

mkdir -p "$work/root/etc"
systemd-sysusers --root="$work/root" "$units/ciphermq.sysusers.conf" >"$work/out" 2>&1 || fail "$(cat "$work/out")"
for user in cmq-in cmq-enc cmq-out; do
    grep -q "^$user:" "$work/root/etc/passwd" || fail "sysusers made no $user"
    grep -q "^ciphermq:.*\b$user\b" "$work/root/etc/group" || fail "$user is not in the group ciphermq"
done
printf 'ok: users\n'

# What a hardening directive is worth is easy to lose in an edit: the ones that matter most are named here.
grep -qx 'PrivateNetwork=yes' "$units/ciphermq-encryptor@.service" || fail "the encryptor has a network"
grep -qx 'RestrictAddressFamilies=AF_UNIX' "$units/ciphermq-encryptor@.service" || fail "the encryptor may open sockets"
for file in "$units"/ciphermq-*@.service; do
    for line in Type=notify Restart=on-failure 'RestartPreventExitStatus=64 78' NoNewPrivileges=yes ProtectSystem=strict; do
        grep -qxF "$line" "$file" || fail "$(basename "$file") lacks $line"
    done
done
printf 'ok: restart and confinement directives\n'
