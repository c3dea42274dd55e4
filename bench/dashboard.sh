#!/usr/bin/env bash
# The dashboard's pages over a store of many: when their first byte comes, and how much there is of them.
#
#   bench/dashboard.sh [INSTALLATIONS] [CHECKS]   default: 100,000, each checked once, and a million checks of the last 90 days, which is all that is kept
#
# It needs Debian's python3. GHL_AUTH_BINARY=PATH measures another build; FOLDER is on whose disk the store is.
set -euo pipefail
cd "$(dirname "$0")/.."

binary=${GHL_AUTH_BINARY:-target/bench/ghl-auth}
[ -n "${GHL_AUTH_BINARY:-}" ] || deploy/build-static.sh "$binary" >&2
folder=$(mktemp -d -p "${FOLDER:-/tmp}")
trap 'rm -rf "$folder"' EXIT
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=bench \
    python3 bench/dashboard.py "$folder" "$(realpath "$binary")" "${1:-100000}" "${2:-1000000}"
