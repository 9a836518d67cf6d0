# Clean Debian 12 systems to try things in. Sourced by tests/bare and tests/package, which set `base` (a directory to work in)
# and are root. Needs debootstrap, unshare, git, and a Debian mirror: this machine's is used.
# shellcheck shell=bash disable=SC2154

# This machine's Debian mirror, of the lines that are not comments.
suite=bookworm
mirror=$(sed -nE '/^[[:space:]]*#/d; s#^(.*[[:space:]])?(https?://[^[:space:]]+/debian)/?([[:space:]].*)?$#\2#p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | sed -n 1p) || true
mirror=${mirror:-http://deb.debian.org/debian}

# make ROOT: a fresh system from the cached one.
make() {
    rm -rf --one-file-system "$1"
    cp -a "$base/pristine" "$1"
    mkdir -p "$1/src"
    git -c safe.directory='*' -C "$CMQ_ROOT" ls-files -z --cached --others --exclude-standard |
        (cd "$CMQ_ROOT" && tar --null --files-from=- --ignore-failed-read -cf - 2>/dev/null) | tar -xf - -C "$1/src"
}

# inside ROOT NETWORK USER COMMAND...: own mounts and processes; NETWORK own: only a loopback interface, no outside.
inside() {
    local root=$1 network=$2 user=$3 options=(-m -p --fork --kill-child)
    shift 3
    [ "$network" = own ] && options+=(-n)
    # shellcheck disable=SC2016
    unshare "${options[@]}" bash -c '
        set -euo pipefail
        root=$1 network=$2 user=$3
        shift 3
        mount --make-rprivate /
        mount -t proc proc "$root/proc"
        mount -t devtmpfs devtmpfs "$root/dev" 2>/dev/null || mount --rbind /dev "$root/dev"
        mount -t tmpfs -o size=2g,mode=1777 tmpfs "$root/dev/shm"
        if [ "$network" = own ]; then ip link set lo up; fi
        exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 TERM=dumb \
            setpriv --reuid "$user" --regid "$user" --init-groups \
            /usr/bin/env HOME="$(awk -F: -v who="$user" "\$1 == who { print \$6 }" "$root/etc/passwd")" \
            USER="$user" "$@"' bash "$root" "$network" "$user" "$@" </dev/null
}

# The minimal system that all others are copies of; made once.
make_pristine() {
    [ ! -d "$base/pristine" ] || return 0
    debootstrap --variant=minbase --include=ca-certificates $suite "$base/pristine.new" $mirror >"$base/debootstrap.log" 2>&1 || {
        tail -n 20 "$base/debootstrap.log"
        die "debootstrap failed"
    }
    cp /etc/resolv.conf "$base/pristine.new/etc/resolv.conf"
    printf '127.0.0.1 localhost %s\n' "$(hostname)" >"$base/pristine.new/etc/hosts"
    # The machine's own proxy and transport settings; its sources may be of another release and stay out.
    for file in /etc/apt/apt.conf /etc/apt/apt.conf.d/*proxy*; do
        if [ -e "$file" ]; then cp "$file" "$base/pristine.new/etc/apt/apt.conf.d/99machine-$(basename "$file")"; fi
    done
    mv "$base/pristine.new" "$base/pristine"
}
