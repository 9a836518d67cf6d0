#!/bin/bash
# test_deploy.sh BUILD: deploy/up, the supervisor's promises, and deploy/down, with a real broker in a private state
# directory on free ports. No timing is asserted: every wait is for a state and bounded.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
export CIPHERMQ_BUILD=$1 CIPHERMQ_HOME=$work/home
# Ports below the range from which the kernel gives ports to clients, so that nobody gets them meanwhile by chance.
read -r CIPHERMQ_HTTP_PORT CIPHERMQ_WS_PORT BUSY_PORT < <(/usr/bin/python3 - <<'PY'
import random, socket
found = []
for port in random.sample(range(15000, 30000), 200):
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            continue
    found.append(port)
    if len(found) == 3:
        break
print(*found)
PY
)
export CIPHERMQ_HTTP_PORT CIPHERMQ_WS_PORT
children=()
finish() {
    local code=$?
    for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
    if [ $code -ne 0 ]; then tail -n 20 "$work"/home/log/*.log >&2 || true; fi
    if [ -e "$work/good.conf" ]; then cp "$work/good.conf" "$CIPHERMQ_HOME/ciphermq.conf" 2>/dev/null || true; fi
    "$root/deploy/down" --purge --yes >/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
fail() { printf 'FAIL: %s\n' "$*" >&2 && exit 1; }
ok() { printf 'ok: %s\n' "$*"; }
# has TEXT WORDS: or fail and show the text.
has() { grep -qF -- "$2" <<<"$1" || fail "no '$2' in: $1"; }
lacks() { ! grep -qF -- "$2" <<<"$1" || fail "'$2' in: $1"; }
# eventually WHAT COMMAND...
eventually() {
    local what=$1 end=$((SECONDS + 30))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || fail "waited for: $what"
        sleep 0.05
    done
    ok "$what"
}
ctl() { "$root/deploy/ciphermqctl" "$@"; }
super() { lib_env cmq_super "$@"; }
post() {
    curl -fsS --noproxy '*' -m 10 -H 'Content-Type: application/json' -d "$1" -o /dev/null \
        "http://127.0.0.1:$CIPHERMQ_HTTP_PORT/${2:-input}"
}
status_of() { ctl status --json 2>/dev/null | /usr/bin/python3 -c "
import json, sys
state = json.load(sys.stdin)
alive = [one for one in state['instances'] if one['alive']]
print($1)"; }
is() { [ "$(status_of "$1")" = "$2" ]; }
listen() { /usr/bin/python3 "$root/deploy/cmq_ws.py" "ws://127.0.0.1:$CIPHERMQ_WS_PORT/" >"$1" & }
lib_env() { (
    . "$root/deploy/lib.sh"
    cmq_home_env
    cmq_stop_env
    "$@"
); }
dispatcher_clients="sum(one['counters']['clients'] for one in alive if one['stage'] == 'dispatcher')"

# ---- a busy port is named, with the key to change, and nothing stays behind
/usr/bin/python3 -c "
import signal, socket
sock = socket.socket(); sock.bind(('127.0.0.1', $BUSY_PORT)); sock.listen(); print('up', flush=True); signal.pause()" \
    >"$work/busy" &
children+=($!)
until grep -q up "$work/busy"; do sleep 0.02; done
if out=$(CIPHERMQ_HTTP_PORT=$BUSY_PORT "$root/deploy/up" 2>&1); then fail "up with a busy port: $out"; fi
has "$out" "port $BUSY_PORT on 127.0.0.1 is taken"
has "$out" "port under [ingest]"
"$root/deploy/down" --purge --yes >/dev/null
[ ! -e "$CIPHERMQ_HOME" ] || fail "purge left $CIPHERMQ_HOME"
ok "a busy port is refused"

# ---- the first run
out=$("$root/deploy/up" 2>&1) || fail "up: $out"
has "$out" "proof: one message went from POST /v1/topics/ciphermq.proof to a WebSocket subscriber"
has "$out" "curl -H"
[ "$(stat -c %a "$CIPHERMQ_HOME/keys/kek")" = 400 ] || fail "mode of the key"
ok "up"

# ---- the second run leaves everything alone, and proves it again
pids=$(status_of "sorted(one['pid'] for one in alive)")
out=$("$root/deploy/up" 2>&1) || fail "second up: $out"
has "$out" "runs already"
has "$out" "proof: one message went"
lacks "$out" restarting
is "sorted(one['pid'] for one in alive)" "$pids" || fail "the second up restarted a stage"
ok "second up"

# ---- a client is connected: the proof takes nothing away from it, and sends it nothing
listen "$work/client"
client=$!
children+=("$client")
eventually "the client is connected" is "$dispatcher_clients" 1
out=$("$root/deploy/up" 2>&1) || fail "up beside a client: $out"
has "$out" ", and is durable"
post '{"content":"for the client"}'
eventually "the client has its message" grep -qx '"for the client"' "$work/client"
lacks "$(cat "$work/client")" deploy-proof

# ---- a killed stage comes back with another pid, the others keep theirs, and the client its socket
for stage in ingest encryptor dispatcher; do
    before=$(status_of "[one['pid'] for one in alive if one['stage'] == '$stage']")
    others=$(status_of "sorted(one['pid'] for one in alive if one['stage'] != '$stage')")
    if [ $stage = dispatcher ]; then # its clients go with it
        kill "$client"
        wait "$client" || true
    fi
    pid=${before//[^0-9]/}
    kill -9 "$pid"
    eventually "$stage is back" is \
        "len([one for one in alive if one['stage'] == '$stage' and one['pid'] != $pid])" 1
    is "sorted(one['pid'] for one in alive if one['stage'] != '$stage')" "$others" || fail "another stage was restarted"
    if [ $stage != dispatcher ]; then
        curl -s -o /dev/null --retry 50 --retry-delay 0 --retry-connrefused --noproxy '*' \
            "http://127.0.0.1:$CIPHERMQ_HTTP_PORT/"
        post "{\"content\":\"after $stage\"}"
        eventually "delivery goes on" grep -qx "\"after $stage\"" "$work/client"
    fi
done

# ---- scaling starts and stops instances of one pool only
others=$(status_of "sorted(one['pid'] for one in alive)")
ctl scale encryptor 3 >/dev/null
eventually "three encryptors" is "len([one for one in alive if one['stage'] == 'encryptor'])" 3
ctl scale encryptor 1 >/dev/null
eventually "one encryptor" is "sorted(one['pid'] for one in alive)" "$others"

# ---- a changed configuration restarts the stages; one that is refused changes nothing
sed -i 's/^run_dir.*/&\nlog_level = debug/' "$CIPHERMQ_HOME/ciphermq.conf"
out=$("$root/deploy/up" 2>&1) || fail "up after a change: $out"
has "$out" "restarting encryptor 0, the configuration changed"
others=$(status_of "sorted(one['pid'] for one in alive)")
cp "$CIPHERMQ_HOME/ciphermq.conf" "$work/good.conf"
printf '[common]\nno_such_key = 1\n' >>"$CIPHERMQ_HOME/ciphermq.conf"
if out=$("$root/deploy/up" 2>&1); then fail "up took a wrong configuration"; fi
has "$out" no_such_key
cp "$CIPHERMQ_HOME/ciphermq.conf" "$work/bad.conf"
cp "$work/good.conf" "$CIPHERMQ_HOME/ciphermq.conf" # ciphermqctl reads it too
is "sorted(one['pid'] for one in alive)" "$others" || fail "a refused configuration restarted a stage"
ok "a wrong configuration is refused"

# ---- exit code 78 is not restarted; up starts the stage again when the file is good
cp "$work/bad.conf" "$CIPHERMQ_HOME/ciphermq.conf"
kill -9 "$(super pid ingest:ingest-0)"
exited() { grep -q EXITED < <(super status ingest:ingest-0); }
eventually "a stage that refuses its configuration stays down" exited
cp "$work/good.conf" "$CIPHERMQ_HOME/ciphermq.conf"
out=$("$root/deploy/up" 2>&1) || fail "up after exit 78: $out"
has "$out" "starting ingest 0, which was EXITED"

# ---- a stage that dies at once again and again is started more and more slowly. A start that lies ahead: the next
# one is quick in any case, however busy the machine is.
printf '%s 5 0 0\n' "$(($(date +%s) + 60))000000" >"$CIPHERMQ_HOME/run/launch-dispatcher-0"
kill -9 "$(super pid dispatcher:dispatcher-0)"
eventually "the back-off is reported" grep -q 'ev=backoff stage=dispatcher instance=0 quick_deaths=6 delay_ms=400' \
    "$CIPHERMQ_HOME/log/dispatcher-0.log"
eventually "and the stage comes back" is "len([one for one in alive if one['stage'] == 'dispatcher'])" 1

# ---- stages end with their supervisor
pid=$(lib_env cmq_super_pid)
pids=$(status_of "' '.join(str(one['pid']) for one in alive)")
kill -9 "$pid"
gone() {
    local one
    for one in $pids; do if kill -0 "$one" 2>/dev/null; then return 1; fi; done
}
eventually "no stage outlives a killed supervisor" gone
out=$("$root/deploy/up" 2>&1) || fail "up after the supervisor's death: $out"
has "$out" "supervisor: started"

# ---- what waits survives down and up
post '{"messages":[{"content":"kept 1"},{"content":"kept 2"}]}' input/batch
out=$("$root/deploy/up" 2>&1) || fail "up with a backlog: $out"
out=$("$root/deploy/down") || fail "down: $out"
has "$out" "kept: keys, configuration and messages"
if compgen -G "/dev/shm/*$(sed -n 's/^instance = //p' "$CIPHERMQ_HOME/ciphermq.conf")*"; then fail "shared memory left"; fi
out=$("$root/deploy/down") || fail "second down: $out"
has "$out" "was not running"
out=$("$root/deploy/up" 2>&1) || fail "up after down: $out"
listen "$work/kept"
client=$!
children+=("$client")
eventually "kept messages are delivered" grep -q 'kept 2' "$work/kept"
[ "$(cat "$work/kept")" = '"kept 1"
"kept 2"' ] || fail "delivered: $(cat "$work/kept")"
kill "$client"
wait "$client" || true

# ---- a file of an earlier deploy/up gets the places of the log and its tables, once
sed -i '/^\[log\]$/d; /^dir = /d; /_dir = .*data/d' "$CIPHERMQ_HOME/ciphermq.conf"
if grep -q data/ "$CIPHERMQ_HOME/ciphermq.conf"; then fail "the file still names places"; fi
out=$("$root/deploy/up" 2>&1) || fail "up with an old file: $out"
has "$out" "places for the log and its tables were added"
sum=$(sha256sum "$CIPHERMQ_HOME/ciphermq.conf")
out=$("$root/deploy/up" 2>&1) || fail "up again: $out"
lacks "$out" "were added"
[ "$sum" = "$(sha256sum "$CIPHERMQ_HOME/ciphermq.conf")" ] || fail "the file was changed again"
ok "an old configuration file"

# ---- with TLS and tokens up restarts the stages, and its proof speaks both; the proof's token is gone afterwards
cp "$CIPHERMQ_HOME/ciphermq.conf" "$work/clear.conf"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$work/tls.key" -out "$work/tls.crt" \
    -subj /CN=broker.example.com -days 2 2>/dev/null
chmod 600 "$work/tls.key"
printf '\n[tls]\ncert_file = %s\nkey_file = %s\n\n[tokens]\nfile = %s\n' "$work/tls.crt" "$work/tls.key" \
    "$CIPHERMQ_HOME/tokens" >>"$CIPHERMQ_HOME/ciphermq.conf"
token=$(ctl token create shop --publish shop 2>/dev/null | head -1)
out=$("$root/deploy/up" 2>&1) || fail "up with TLS: $out"
has "$out" "proof: one message"
has "$out" "https://127.0.0.1:$CIPHERMQ_HTTP_PORT/input"
has "$out" "wss://127.0.0.1:$CIPHERMQ_WS_PORT/"
lacks "$(ctl token list)" "deploy-proof"
shop() {
    curl -sS -k --noproxy '*' -m 10 -o /dev/null -w '%{http_code}' "$@" -d x "https://127.0.0.1:$CIPHERMQ_HTTP_PORT/v1/topics/shop"
}
[ "$(shop -H "Authorization: Bearer $token")" = 200 ] || fail "a token is refused"
[ "$(shop)" = 401 ] || fail "nobody is let in"
cp "$work/clear.conf" "$CIPHERMQ_HOME/ciphermq.conf"
out=$("$root/deploy/up" 2>&1) || fail "up in clear text again: $out"
has "$out" "http://127.0.0.1:$CIPHERMQ_HTTP_PORT/input"
ok "TLS and tokens"

# ---- without the program that removes the rings down says so, and purge does not remove what is needed for it
if out=$(CIPHERMQ_BUILD=$work/nothing "$root/deploy/down" --purge --yes 2>&1); then fail "down without a build: $out"; fi
has "$out" "Set CIPHERMQ_BUILD"
[ -e "$CIPHERMQ_HOME/ciphermq.conf" ] || fail "purge removed the configuration, but not the rings"
out=$("$root/deploy/up" 2>&1) || fail "up after a half down: $out"
ok "down without a build"

# ---- down --discard removes rings and messages and keeps the keys; purge removes all
sum=$(sha256sum "$CIPHERMQ_HOME"/keys/kek)
name=$(sed -n 's/^instance = //p' "$CIPHERMQ_HOME/ciphermq.conf")
compgen -G "/dev/shm/*$name*" >/dev/null || fail "no shared memory is named $name"
out=$("$root/deploy/down" --discard) || fail "down --discard: $out"
if compgen -G "/dev/shm/*$name*"; then fail "shared memory left"; fi
[ ! -e "$CIPHERMQ_HOME/data/log" ] || fail "the log is still there"
[ "$sum" = "$(sha256sum "$CIPHERMQ_HOME"/keys/kek)" ] || fail "the key changed"
if "$root/deploy/down" --purge </dev/null 2>/dev/null; then fail "purge without a terminal or --yes"; fi
[ -e "$CIPHERMQ_HOME/keys/kek" ] || fail "a refused purge removed the key"
"$root/deploy/down" --purge --yes >/dev/null
[ ! -e "$CIPHERMQ_HOME" ] || fail "purge left the state directory"
ok "down and purge"
