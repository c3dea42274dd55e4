#!/usr/bin/env bash
# How a store grows: load time, size, what is due, reads, durable commits, open to ready, memory and
# sealing anew, with few installations and with very many, beside one `fdatasync` on the same disk.
#
#   bench/store.sh [INSTALLATIONSxBYTES ...]      prints a table, writes nothing else
#
# BYTES are those of each of the two tokens: 500 make 1.5 KB sealed. Without arguments: 1,000 and
# 1,000,000 of those, and 100,000 with two tokens of 5 KB; that takes 6 GB of disk and some minutes.
# FOLDER, on whose disk it is measured (here), and STORE, an empty store at another address, come
# from the environment.
set -euo pipefail
cd "$(dirname "$0")/.."
SIZES=${*:-1000x500 100000x5000 1000000x500} \
    exec cargo run --quiet --profile measure --locked --package store --example million
