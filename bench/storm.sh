#!/usr/bin/env bash
# A storm of refreshes over the store alone: durable rotations a second on SQLite, beside one
# `fdatasync` after another on the same disk and beside a transaction for each change.
#
#   bench/storm.sh [ROUNDS]            prints a table with ratios
#
# TOKEN_BYTES (5000), MILLISECONDS for each measurement (1500) and FOLDER, on whose disk it is
# measured (here), come from the environment.
set -euo pipefail
cd "$(dirname "$0")/.."
ROUNDS=${1:-3} exec cargo run --quiet --profile measure --locked --package store --example storm
