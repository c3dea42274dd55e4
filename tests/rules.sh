#!/usr/bin/env bash
# Switches off each rule of the refresh protocol in turn, and sees a story fail for want of it.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo test --locked -p ghl-auth --features break-rules --test keeping -- rules::every_rule_is_guarded --exact
