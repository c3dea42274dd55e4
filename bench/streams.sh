#!/usr/bin/env bash
# Long bodies through the gateway, several at once, down and then up, beside nginx that passes them without keeping
# them: how many megabytes a second, and what the gateway's memory was at the most.
#
#   bench/streams.sh [STREAMS] [MIB]       default: 8 of 1024 MiB each way
#
# It needs Debian's nginx-core; GHL_AUTH_BINARY=PATH measures another build.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin
command -v nginx >/dev/null || { echo "missing: nginx-core (apt-get install it)" >&2; exit 2; }

# The binary as it is shipped, unless one is named.
binary=${GHL_AUTH_BINARY:-target/bench/ghl-auth}
[ -n "${GHL_AUTH_BINARY:-}" ] || deploy/build-static.sh "$binary" >&2
binary=$(realpath "$binary")

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
PYTHONDONTWRITEBYTECODE=1 python3 bench/streams.py "$folder" "$binary" "${1:-8}" "${2:-1024}"
