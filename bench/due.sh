#!/usr/bin/env bash
# Everybody is due at once: a service starts over a store whose grants are all to be refreshed, against
# a sandbox that allows it, and is asked for tokens meanwhile.
#
#   bench/due.sh [COUNT]            100,000 grants unless told; prints refreshes a second and how tokens were had
#
# FOLDER is where the store rests (here). PROGRAM is the program to run (the release build).
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${PROGRAM:-}" ]; then
    cargo build --quiet --release --locked
    PROGRAM=$PWD/target/release/ghl-auth
fi
export PROGRAM
COUNT=${1:-100000} exec cargo run --quiet --profile measure --locked --package ghl-auth --example due
