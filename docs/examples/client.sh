#!/bin/sh
# CipherMQ from a shell: curl 7.76 or newer, and sed.
#
#   client.sh publish TOPIC TEXT         prints the reply
#   client.sh subscribe TOPIC [SINCE]    everything, one JSON a line; SINCE: earliest, latest, or the last id that you have
#
# Groups need a WebSocket: client.py, browser.html.
publish_url=${CIPHERMQ_URL:-http://127.0.0.1:3000}
read_url=${CIPHERMQ_READ_URL:-http://127.0.0.1:8080}

# The token goes to curl by standard input: arguments can be seen by everybody on the machine.
ask() {
    if [ -n "${CIPHERMQ_TOKEN:-}" ]; then echo "header = \"Authorization: Bearer $CIPHERMQ_TOKEN\""; fi |
        curl -sS --config - "$@"
}

# The key makes a retry safe: whatever became of the first try, the message is there once. curl waits as Retry-After says, and takes
# no other answer than 429 and 5xx for a reason to try again.
publish() {
    key=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    reply=$(mktemp) # of the last try
    status=$(ask --retry 60 --retry-max-time 60 --retry-all-errors -o "$reply" -w '%{http_code}' -H "Idempotency-Key: $key" \
        -H 'Content-Type: text/plain' --data-raw "$2" "$publish_url/v1/topics/$1")
    cat "$reply" && echo && rm -f "$reply"
    [ "$status" = 200 ]
}

# Asks for what is behind the last id, and waits there for a first message.
subscribe() {
    topic=$1 since=${2:-earliest}
    lines=$(mktemp)
    trap 'rm -f "$lines"' EXIT
    trap 'exit 0' INT TERM
    while :; do
        if ask --fail-with-body "$read_url/t/$topic/json?since=$since&wait_ms=20000" >"$lines"; then
            cat "$lines"
        else
            # Whole lines are good even if the answer broke off. 22: refused, and said why.
            if [ $? = 22 ] && grep -q '"status":4' "$lines"; then cat "$lines" >&2 && exit 1; fi
            sed -i '$d' "$lines" && grep '^{"topic"' "$lines"
            sleep 1
        fi
        last=$(sed -n 's/^{"topic":"[^"]*","id":"\([^"]*\)".*/\1/p' "$lines" | tail -n 1)
        since=${last:-$since}
    done
}

case $1 in
publish) [ $# = 3 ] && publish "$2" "$3" ;;
subscribe) [ $# -ge 2 ] && subscribe "$2" "${3:-}" ;;
*) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2 && exit 64 ;;
esac
