#!/usr/bin/env bash
# How a store grows: load time, size, what is due, reads, durable commits, open to ready, memory and
# sealing anew, with few installations and with very many, beside one `fdatasync` on the same disk.
#
#   bench/store.sh [INSTALLATIONSxBYTES ...]      prints a table, writes nothing else
#
# BYTES are those of each of the two tokens: 600 make 1.5 KB sealed. Without arguments: 1,000 and
# 1,000,000 of those, and 100,000 with two tokens of 5 KB; that takes 6 GB of disk and some minutes.
# From the environment come FOLDER, on whose disk it is measured (here), and STORE: `postgres` for a
# PostgreSQL server of its own, which flushes and keeps its files in FOLDER (there: /tmp), or the address
# of an empty store. On one at `postgres://...` each size is put into a schema of its own, `bench_...`, which
# is left there.
set -euo pipefail
cd "$(dirname "$0")/.."
export SIZES="${*:-1000x600 100000x5000 1000000x600}"
if [ "${STORE-}" = postgres ]; then
    FOLDER=$(realpath "${FOLDER:-${TMPDIR:-/tmp}}")
    export FOLDER TMPDIR="$FOLDER"
fi
exec cargo run --quiet --profile measure --locked --package store --example million
