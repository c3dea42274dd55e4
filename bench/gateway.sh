#!/usr/bin/env bash
# The gateway beside nginx (`proxy_pass`) and Node's http-proxy, over the same upstream on loopback, each adding
# a bearer token of 5 KB after it checked a key. See README.md for how to read it.
#
#   bench/gateway.sh [ROUNDS] [SECONDS]       default: 9 rounds of 4 seconds for each
#
# Everything runs in one go on 127.0.0.1, what is measured on core 0, load and upstream on core 1, in an order that
# is shuffled for each round. It needs Debian's nginx-core, wrk, valgrind, strace, openssl and curl, and npm for
# http-proxy (left out without); GHL_AUTH_BINARY=PATH measures another build.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
for pair in nginx=nginx-core wrk=wrk valgrind=valgrind strace=strace openssl=openssl taskset=util-linux python3=python3; do
    PATH=$PATH:/usr/sbin command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
done
[ ${#missing[@]} -eq 0 ] || { echo "missing: ${missing[*]} (apt-get install them)" >&2; exit 2; }

# The binary as it is shipped, unless one is named.
binary=${GHL_AUTH_BINARY:-target/bench/ghl-auth}
[ -n "${GHL_AUTH_BINARY:-}" ] || deploy/build-static.sh "$binary" >&2
binary=$(realpath "$binary")

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(
    cd "$folder"
    # An authority, and a certificate of it for localhost.
    new_key='req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
    {
        openssl $new_key -x509 -days 2 -subj /CN=bench -keyout ca.key -out ca.pem
        openssl $new_key -subj /CN=localhost -keyout key.pem -out leaf.csr
        echo 'subjectAltName=DNS:localhost' >leaf.ext
        openssl x509 -req -days 2 -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile leaf.ext -out leaf.pem
    } 2>/dev/null
    if command -v npm >/dev/null; then
        npm install --no-audit --no-fund --silent http-proxy@1.18.1 >/dev/null 2>&1 || rm -rf node_modules
    fi
)
PATH=$PATH:/usr/sbin SSL_CERT_FILE=$folder/ca.pem \
    python3 bench/gateway.py "$folder" "$binary" "${1:-9}" "${2:-4}"
