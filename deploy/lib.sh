# Common to deploy/up, deploy/down, deploy/deps, deploy/stage and the scripts in tests/. Sourced by bash, never run.
# Sets CMQ_ROOT (the checkout). cmq_home_env sets and exports everything that deploy/supervisord.conf expands.
# shellcheck shell=bash

CMQ_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*"; }
warn() { printf 'note: %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$1" >&2
    shift
    local line
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

# Runs a command as root: directly, or by sudo. Without a terminal sudo must not ask for a password.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        if [ -t 0 ]; then sudo -- "$@"; else sudo -n -- "$@"; fi
    else
        die "this needs root: $*" "Run it as root, or install sudo and allow this user to use it."
    fi
}

# One value of the configuration file: cmq_conf_get SECTION KEY DEFAULT. A file that does not exist has defaults only.
cmq_conf_get() {
    local value=
    if [ -r "$CIPHERMQ_CONF" ]; then
        value=$(awk -v want="$1" -v key="$2" '
            /^[[:space:]]*\[/ { section = $0; gsub(/^[[:space:]]*\[|\].*$/, "", section); next }
            section == want && match($0, "^[[:space:]]*" key "[[:space:]]*=") {
                found = substr($0, RLENGTH + 1); sub(/[[:space:]]+[;#].*$/, "", found)
                gsub(/^[[:space:]]+|[[:space:]]+$/, "", found) }
            END { print found }' "$CIPHERMQ_CONF")
    fi
    printf '%s\n' "${value:-$3}"
}

# The address to reach a listener at from this machine.
cmq_reach() {
    case $1 in
    0.0.0.0 | '') echo 127.0.0.1 ;;
    ::) echo ::1 ;;
    *) echo "$1" ;;
    esac
}

cmq_home_env() {
    local home=${CIPHERMQ_HOME:-${HOME:?HOME is not set; set CIPHERMQ_HOME instead}/.ciphermq} hard
    case $home in
    /*) ;;
    *) home=$PWD/$home ;;
    esac
    case $home$CMQ_ROOT in
    *[!A-Za-z0-9/._+@~-]*)
        die "these paths hold a space or a special character: $home, $CMQ_ROOT" \
            "Supervisor's configuration can not carry it. Set CIPHERMQ_HOME, or move the checkout."
        ;;
    esac
    # A Unix socket's path ends at 107 bytes; supervisord binds under a temporary name first (.PID appended).
    [ ${#home} -le 80 ] || die "the path of the state directory is too long for a socket in it: $home" \
        "Set CIPHERMQ_HOME to a directory of at most 80 characters."
    export CIPHERMQ_HOME=$home
    export CIPHERMQ_CONF=$home/ciphermq.conf
    export CIPHERMQ_BUILD=${CIPHERMQ_BUILD:-$CMQ_ROOT/build/release}
    export CIPHERMQ_DEPLOY=$CMQ_ROOT/deploy
    export CIPHERMQ_SUPERVISOR_CONF=$CMQ_ROOT/deploy/supervisord.conf
    CIPHERMQ_USER=$(id -un)
    export CIPHERMQ_USER
    hard=$(ulimit -Hn)
    if [ "$hard" = unlimited ] || [ "$hard" -gt 65536 ]; then hard=65536; fi
    export CIPHERMQ_NOFILE=$hard
}

cmq_ctl() { "$CIPHERMQ_BUILD/deploy/ctl/ciphermqctl" --config "$CIPHERMQ_CONF" "$@"; }
cmq_super() { supervisorctl -c "$CIPHERMQ_DEPLOY/supervisord.conf" "$@"; }

# Prints the pid of this state directory's supervisord, or fails. The pid file alone proves nothing: the number may
# belong to another process by now, so the process must carry our state directory in its environment.
cmq_super_pid() {
    local pid
    pid=$(cat "$CIPHERMQ_HOME/run/supervisord.pid" 2>/dev/null) || return 1
    case $pid in '' | *[!0-9]*) return 1 ;; esac
    [ -r "/proc/$pid/environ" ] || return 1
    # -z: NUL ends a line, as it does in these files. No pipe: grep -q stops early, and pipefail would see that.
    grep -zq 'supervisord$' "/proc/$pid/cmdline" 2>/dev/null || return 1
    grep -zqxF "CIPHERMQ_HOME=$CIPHERMQ_HOME" "/proc/$pid/environ" 2>/dev/null || return 1
    printf '%s\n' "$pid"
}

# What supervisord.conf needs beyond cmq_home_env: how long a stage may take to stop, a little more than it drains.
cmq_stop_env() {
    local drain ms
    drain=$(cmq_conf_get common drain_ms 10000)
    case $drain in
    *ms) ms=${drain%ms} ;;
    *m) ms=$((${drain%m} * 60000)) ;;
    *s) ms=$((${drain%s} * 1000)) ;;
    *) ms=$drain ;;
    esac
    [[ $ms =~ ^[0-9]+$ ]] || ms=10000 # the stages refuse such a configuration themselves, and say why
    export CIPHERMQ_STOP_S=$((ms / 1000 + 10))
}

# A host as it stands in a URL.
cmq_url_host() { case $1 in *:*) printf '[%s]' "$1" ;; *) printf '%s' "$1" ;; esac; }

# The program of a stage, or of the agent.
cmq_program() {
    case $1 in agent) echo "$CIPHERMQ_BUILD/deploy/ctl/ciphermqctl" ;; *) echo "$CIPHERMQ_BUILD/$1/ciphermq-$1" ;; esac
}

# What a stage was started with: checksum of the configuration, inode and time of the program. "CONF PROGRAM".
cmq_launch_mark() {
    local sum
    sum=$(cksum <"$CIPHERMQ_CONF" 2>/dev/null || true)
    printf '%s %s\n' "${sum%% *}" "$(stat -L -c '%i.%Y' "$(cmq_program "$1")" 2>/dev/null || true)"
}
