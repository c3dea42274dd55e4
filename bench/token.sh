#!/usr/bin/env bash
# The token endpoint over a warm cache, with a real API key and a 5 KB token, beside nginx that serves a
# file of the same bytes and redis-server that answers GET with them. See README.md for how to read it.
#
#   bench/token.sh [ROUNDS] [SECONDS]       default: 9 rounds of 4 seconds for each
#
# Everything runs in one go on 127.0.0.1, servers on core 0 and load on core 1, in an order that is
# shuffled for each round, so that the machine's other work falls on all of them. It needs Debian's
# nginx-core, redis-server, redis-tools, wrk, valgrind and curl; GHL_AUTH_BINARY=PATH measures another build,
# GHL_AUTH_INSTALLATIONS=N another number of kept ones than 10,000 (which take some minutes to import).
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
for pair in nginx=nginx-core redis-server=redis-server redis-benchmark=redis-tools wrk=wrk valgrind=valgrind \
    curl=curl taskset=util-linux python3=python3; do
    PATH=$PATH:/usr/sbin command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
done
[ ${#missing[@]} -eq 0 ] || { echo "missing: ${missing[*]} (apt-get install them)" >&2; exit 2; }

# The binary as it is shipped, unless one is named.
binary=${GHL_AUTH_BINARY:-target/bench/ghl-auth}
[ -n "${GHL_AUTH_BINARY:-}" ] || deploy/build-static.sh "$binary" >&2
binary=$(realpath "$binary")

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
PATH=$PATH:/usr/sbin python3 bench/token_endpoint.py "$folder" "$binary" "${1:-9}" "${2:-4}" "${GHL_AUTH_INSTALLATIONS:-10000}"
