#!/usr/bin/env bash
# What the gateway asks of the system for each request, counted by strace: it repeats, so it may fail a build.
# Any build of the program does, for it says nothing of time. Without strace, or where nobody may watch another
# process, it says so and passes.
#
#   tests/gateway_cost.sh [BINARY]       default: target/debug/ghl-auth
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v strace >/dev/null || ! strace -o /dev/null true 2>/dev/null; then
    echo "skipped: strace is not here or not permitted, so system calls were not counted"
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=bench python3 tests/gateway_cost.py "$folder" "$(realpath "${1:-target/debug/ghl-auth}")"
