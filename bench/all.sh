#!/usr/bin/env bash
# Runs the benchmarks with short settings, one after the other, and writes what they print to bench/RESULTS.md.
#
#   bench/all.sh                  all of them; half an hour on two cores, most of it building
#   bench/all.sh --long           with the settings that README.md's figures are of, and a store of a million
#   bench/all.sh gateway streams  these anew; the others' results stay as they were
#
# The names: check, check-tls, token, gateway, streams, storm, store, dashboard. GHL_AUTH_BINARY=PATH measures another build
# than the one that is shipped; FOLDER is on whose disk the store and its storms are measured.
set -euo pipefail
cd "$(dirname "$0")/.."

long=no
if [ "${1:-}" = --long ]; then long=yes; shift; fi
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(check check-tls token gateway streams storm store dashboard)

# Built once, as it is shipped.
build="a build of one's own, at"
if [ -z "${GHL_AUTH_BINARY:-}" ]; then
    build="as it is shipped, of"
    deploy/build-static.sh target/bench/ghl-auth >&2
    export GHL_AUTH_BINARY=$PWD/target/bench/ghl-auth
fi

# Arguments of a benchmark: the short ones, the long ones.
pick() { if [ $long = yes ]; then echo "$2"; else echo "$1"; fi; }

run() {
    # shellcheck disable=SC2046  # words, on purpose
    case $1 in
        check) bench/check.sh $(pick 12 40) ;;
        check-tls) bench/check.sh --tls $(pick 12 40) ;;
        token) GHL_AUTH_INSTALLATIONS=${GHL_AUTH_INSTALLATIONS:-$(pick 500 10000)} bench/token.sh $(pick '3 2' '9 4') ;;
        gateway) bench/gateway.sh $(pick '3 2' '9 3') ;;
        streams) bench/streams.sh ;;
        storm) bench/storm.sh $(pick 1 3) ;;
        store) bench/store.sh $(pick 100000x600 '100000x600 1000000x600') ;;
        dashboard) bench/dashboard.sh ;;
        *) echo "there is no benchmark '$1'; see bench/all.sh" >&2; exit 2 ;;
    esac
}

title() {
    case $1 in
        check) echo "One check as a whole process" ;;
        check-tls) echo "The same over TLS" ;;
        token) echo "The token endpoint" ;;
        gateway) echo "The gateway" ;;
        streams) echo "Long streams through the gateway" ;;
        storm) echo "Storms of refreshes" ;;
        store) echo "A store of many" ;;
        dashboard) echo "The dashboard over a store of many" ;;
    esac
}

parts=target/bench/results
mkdir -p $parts
failed=()
for name in "${names[@]}"; do
    title "$name" >/dev/null
    echo "== $name" >&2
    began=$(date +%s)
    load=$(cut -d' ' -f1 /proc/loadavg)
    if run "$name" >"$parts/running"; then
        {
            echo "## $(title "$name")"
            echo
            # Tables that are drawn with spaces stay as they are.
            if grep -q '^| ---' "$parts/running"; then
                sed -e '/./,$!d' -e 's/^\([^|].*[^|]\)$/\1  /' "$parts/running"
            else
                echo '```text'
                sed '/./,$!d' "$parts/running"
                echo '```'
            fi
            echo
            echo "(\`bench/all.sh$([ $long = no ] || echo ' --long') $name\`, $(date -I), $(($(date +%s) - began)) s, load $load when it began)"
        } >"$parts/$name.md"
    else
        failed+=("$name")
    fi
    rm -f "$parts/running"
done

{
    echo "# Results"
    echo
    echo "Written by \`bench/all.sh\`. [README.md](README.md) says how to read each table. Ratios are of the same run;"
    echo "absolute times depend on the machine and on what else it does."
    echo
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=bench python3 -c 'import measure; print(measure.machine() + "  ")'
    echo "$("$GHL_AUTH_BINARY" --version), $(stat -c %s "$GHL_AUTH_BINARY" | awk '{ printf "%.1f", $1 / 1e6 }') MB, $(rustc --version | cut -d' ' -f1,2), $build commit $(git rev-parse --short HEAD)"
    for name in check check-tls token gateway streams storm store dashboard; do
        if [ -f "$parts/$name.md" ]; then
            echo
            cat "$parts/$name.md"
        fi
    done
} >bench/RESULTS.md

[ ${#failed[@]} -eq 0 ] || { echo "failed, their results are the earlier ones: ${failed[*]}" >&2; exit 1; }
