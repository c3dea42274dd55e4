#!/bin/sh
# The long runs: what the normal suite does dozens of times to see that no grant is lost is done here
# a thousand times. It takes about an hour on two cores, and ends with a table.
#
#   ./long-tests.sh            all of them
#   ./long-tests.sh sqlite     those whose name holds the word
#
# A variable that is set already is kept, so `GHL_AUTH_KILLS=10000 ./long-tests.sh` does more. Tests
# that mount file systems or trace processes say so when they are not allowed to, and are left out.
set -eu
cd "$(dirname "$0")"

export GHL_AUTH_PATHS="${GHL_AUTH_PATHS:-37000}"                         # ways to write a path at the gateway
export GHL_AUTH_GATEWAY_INTERVAL_MS="${GHL_AUTH_GATEWAY_INTERVAL_MS:-10000}" # of HighLevel's rate limit, as it is there
export GHL_AUTH_SLOW_SOCKETS="${GHL_AUTH_SLOW_SOCKETS:-2000}"             # that drip before the gateway
export GHL_AUTH_SILENT_SOCKETS="${GHL_AUTH_SILENT_SOCKETS:-20000}"        # that say nothing at all
export GHL_AUTH_KILLS="${GHL_AUTH_KILLS:-1000}"                          # random kills for each store
export GHL_AUTH_RESTART_WITHIN_MS="${GHL_AUTH_RESTART_WITHIN_MS:-5000}"  # how soon the next run comes
export GHL_AUTH_EVERY_CALL="${GHL_AUTH_EVERY_CALL:-1}"                   # kill at every system call there is
export GHL_AUTH_FREEZES="${GHL_AUTH_FREEZES:-500}"                       # SIGSTOP at random moments
export GHL_AUTH_FREEZE_MS="${GHL_AUTH_FREEZE_MS:-8000}"                  # for up to so long
export GHL_AUTH_SERVICE_KILLS="${GHL_AUTH_SERVICE_KILLS:-500}"           # of services and those beside them
export GHL_AUTH_CALLER_ROUNDS="${GHL_AUTH_CALLER_ROUNDS:-1000}"          # 64 callers for one expired token
export GHL_AUTH_REPORTS="${GHL_AUTH_REPORTS:-20000}"                     # of callers who saw a 401
export GHL_AUTH_AUDIT_OPERATIONS="${GHL_AUTH_AUDIT_OPERATIONS:-10000}"   # random ones, in each way to audit
export GHL_AUTH_AUDIT_KILLS="${GHL_AUTH_AUDIT_KILLS:-100}"               # while tokens leave
export GHL_AUTH_FAILURES="${GHL_AUTH_FAILURES:-25}"                      # of each of eight system calls
export GHL_AUTH_CUT_LANES="${GHL_AUTH_CUT_LANES:-16}"                    # answers of full length, cut at each byte
export GHL_AUTH_DISK_STEP="${GHL_AUTH_DISK_STEP:-1}"                     # free blocks on a full disk, one by one
export GHL_AUTH_KEYS="${GHL_AUTH_KEYS:-1000000}"                         # API keys, no two alike
export GHL_AUTH_DURABLE_REFRESHES="${GHL_AUTH_DURABLE_REFRESHES:-10000}"  # each token at rest before it is used
export GHL_AUTH_BAD_PAIRS="${GHL_AUTH_BAD_PAIRS:-500}"                   # handed out by HighLevel itself
export GHL_AUTH_JUDGED_ROTATIONS="${GHL_AUTH_JUDGED_ROTATIONS:-10000}"     # before a judge that forgives nothing
export GHL_AUTH_DUE_AT_ONCE="${GHL_AUTH_DUE_AT_ONCE:-10000}"                 # after three days down, 60 a second allowed
export GHL_AUTH_CLOCK_INSTALLATIONS="${GHL_AUTH_CLOCK_INSTALLATIONS:-200}" # while the clock leaps
export GHL_AUTH_WEBHOOKS="${GHL_AUTH_WEBHOOKS:-1000}"                    # signed events, one by one
export GHL_AUTH_REPLAYS="${GHL_AUTH_REPLAYS:-1000}"                      # of one event, at three doors at once
export GHL_AUTH_WEBHOOK_CROWD="${GHL_AUTH_WEBHOOK_CROWD:-5000}"          # signed and forged, 500 a second each
export GHL_AUTH_BULK_INSTALLS="${GHL_AUTH_BULK_INSTALLS:-500}"           # locations that are installed at once
export GHL_AUTH_EVENT_TIMINGS="${GHL_AUTH_EVENT_TIMINGS:-100}"           # of events in each order there is
export GHL_AUTH_REPLICA_INSTALLATIONS="${GHL_AUTH_REPLICA_INSTALLATIONS:-200}" # all due at once
export GHL_AUTH_REPLICA_CALLERS="${GHL_AUTH_REPLICA_CALLERS:-32}"         # before each of three replicas
export GHL_AUTH_REPLICA_REFRESHES="${GHL_AUTH_REPLICA_REFRESHES:-2000}"   # with slow and lost answers
export GHL_AUTH_REPLICA_TAKEOVERS="${GHL_AUTH_REPLICA_TAKEOVERS:-50}"     # twice each, nobody asks
export GHL_AUTH_REPLICA_KILL_SECONDS="${GHL_AUTH_REPLICA_KILL_SECONDS:-600}" # one of three, again and again
export GHL_AUTH_REPLICA_RESTARTS="${GHL_AUTH_REPLICA_RESTARTS:-20}"       # of all three, one after another
export GHL_AUTH_REPLICA_INTERLEAVINGS="${GHL_AUTH_REPLICA_INTERLEAVINGS:-500}" # of two who want different things
export GHL_AUTH_REPLICA_STOPS="${GHL_AUTH_REPLICA_STOPS:-300}"            # of PostgreSQL, as by a power cut
export GHL_AUTH_REPLICA_TERMINATIONS="${GHL_AUTH_REPLICA_TERMINATIONS:-1000}" # refreshes, connections ended meanwhile
timings="${GHL_AUTH_TIMINGS:-200000}"                                     # of wrong keys, on a quiet machine
GHL_AUTH_RESULTS="$(mktemp)"
export GHL_AUTH_RESULTS
trap 'rm -f "$GHL_AUTH_RESULTS"' EXIT

failed=0
for suite in keeping keeping_processes rounds judge webhooks replicas; do
    cargo test -p ghl-auth --features break-rules --test "$suite" -- \
        --include-ignored --nocapture --test-threads 1 "$@" || failed=1
done

if [ $# -eq 0 ]; then
    cargo test -p ghl-auth --features break-rules --test commands -- --test-threads 1 audit:: crowds:: || failed=1
    cargo test -p server --lib of_many_keys || failed=1
    GHL_AUTH_TIMINGS="$timings" cargo test --release -p server --lib what_is_wrong_with_a_key || failed=1
    GHL_AUTH_TIMINGS=$((timings / 20)) cargo test -p ghl-auth --features break-rules --test doors over_http_too || failed=1
    cargo test -p ghl-auth --features break-rules --test canaries || failed=1
    cargo test -p ghl-auth --features break-rules --test gateway -- --nocapture paths:: smuggling:: pressure:: turns:: || failed=1
fi

printf '\n%-58s %7s %5s %9s\n' 'what was done' 'times' 'lost' 'took'
cat "$GHL_AUTH_RESULTS"
if [ "$failed" -ne 0 ]; then
    printf '\nSomething went wrong; what it was stands further up.\n'
fi
exit "$failed"
