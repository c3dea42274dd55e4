#!/usr/bin/env bash
# The gateway beside nginx (`proxy_pass`) and Node's http-proxy, which add the same 5 KB token for the same
# key, all before one nginx in HighLevel's place. See README.md for how to read it.
#
#   bench/gateway.sh [ROUNDS] [SECONDS]       default: 9 rounds of 3 seconds for each
#
# Everything runs in one go on 127.0.0.1, servers on core 0, load and HighLevel's place on core 1, in an order
# that is shuffled for each round. It needs Debian's nginx-core, wrk, valgrind, strace, iproute2, openssl, nodejs and
# npm; http-proxy comes from npm. GHL_AUTH_BINARY=PATH measures another build; one with its symbols (see README.md)
# and FUNCTIONS=FILE writes there where the instructions go.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
for pair in nginx=nginx-core wrk=wrk valgrind=valgrind strace=strace ss=iproute2 openssl=openssl node=nodejs npm=npm \
    taskset=util-linux python3=python3; do
    PATH=$PATH:/usr/sbin command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
done
[ ${#missing[@]} -eq 0 ] || { echo "missing: ${missing[*]} (apt-get install them)" >&2; exit 2; }

# The binary as it is shipped, unless one is named.
binary=${GHL_AUTH_BINARY:-target/bench/ghl-auth}
[ -n "${GHL_AUTH_BINARY:-}" ] || deploy/build-static.sh "$binary" >&2
binary=$(realpath "$binary")

modules=target/bench/node
[ -d $modules/node_modules/http-proxy ] \
    || npm install --silent --no-audit --no-fund --prefix $modules http-proxy@1.18.1 >&2

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# An authority, and a certificate of it for localhost.
new_key="req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
# shellcheck disable=SC2086  # words, on purpose
(
    cd "$folder"
    openssl $new_key -x509 -days 2 -subj /CN=bench -keyout ca.key -out ca.pem
    openssl $new_key -subj /CN=localhost -keyout key.pem -out leaf.csr
    echo 'subjectAltName=DNS:localhost' >leaf.ext
    openssl x509 -req -days 2 -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile leaf.ext -out leaf.pem
) 2>/dev/null
PATH=$PATH:/usr/sbin NODE_PATH=$PWD/$modules/node_modules SSL_CERT_FILE=$folder/ca.pem PYTHONDONTWRITEBYTECODE=1 \
    python3 bench/gateway.py "$folder" "$binary" "${1:-9}" "${2:-3}"
