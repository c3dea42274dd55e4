#!/usr/bin/env bash
# One check (valid token, read, tag) as a whole process, beside one curl process and one Python
# process (with `requests`) that make the same requests of the same loopback HighLevel.
#
#   bench/check.sh [ROUNDS]        prints wall time, CPU time, peak memory and the ratios
#   bench/check.sh --tls [ROUNDS]  the same over TLS, through a TLS front of this script's own making
#
# Runs are interleaved, so that the machine's other work falls on all of them. Needs curl, python3
# and openssl; installs Python's `requests` into a folder of its own when it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

tls=no
if [ "${1:-}" = --tls ]; then tls=yes; shift; fi
rounds=${1:-40}

# The binary as it is shipped, unless one is named.
binary=${GHL_AUTH_BINARY:-target/bench/ghl-auth}
[ -n "${GHL_AUTH_BINARY:-}" ] || deploy/build-static.sh "$binary" >&2
binary=$(realpath "$binary")

folder=$(mktemp -d)
sandbox= front=
cleanup() {
    [ -z "$sandbox" ] || kill "$sandbox" 2>/dev/null || true
    [ -z "$front" ] || kill "$front" 2>/dev/null || true
    rm -rf "$folder"
}
trap cleanup EXIT

python=python3
if ! python3 -c 'import requests' 2>/dev/null; then
    python3 -m venv "$folder/venv" && "$folder/venv/bin/pip" -q install requests >&2
    python=$folder/venv/bin/python
fi

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$binary" sandbox --listen "127.0.0.1:$port" --write-env "$folder/.env" >/dev/null &
sandbox=$!
base=http://127.0.0.1:$port
for _ in $(seq 100); do curl -fs "$base/_sandbox" >/dev/null && break; sleep 0.05; done
# A measured machine asks more often than HighLevel lets one.
curl -fs "$base/_sandbox/limits" -d '{"enforced":false}' >/dev/null

cd "$folder"
code=$(curl -fs -d '{"redirect_uri":"http://127.0.0.1:8788/oauth/callback","user_type":"Location"}' \
    "$base/_sandbox/approve" | python3 -c 'import json, sys; print(json.load(sys.stdin)["code"])')
"$binary" login --code "$code" >/dev/null 2>&1

ca=
if [ $tls = yes ]; then
    # An authority, and a certificate of it for localhost.
    new_key="req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    # shellcheck disable=SC2086  # words, on purpose
    {
        openssl $new_key -x509 -days 2 -subj /CN=bench -keyout ca.key -out cert.pem
        openssl $new_key -subj /CN=localhost -keyout key.pem -out leaf.csr
        echo 'subjectAltName=DNS:localhost' >leaf.ext
        openssl x509 -req -days 2 -in leaf.csr -CA cert.pem -CAkey ca.key -CAcreateserial \
            -extfile leaf.ext -out leaf.pem
    } 2>/dev/null
    cat leaf.pem key.pem >both.pem
    tls_port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    python3 "$OLDPWD/bench/tls_front.py" "$tls_port" "$port" both.pem &
    front=$!
    sleep 0.5
    ca=$folder/cert.pem
    base=https://localhost:$tls_port
    sed -i "s#^GHL_API_BASE_URL=.*#GHL_API_BASE_URL=\"$base\"#" .env
fi

echo "$(stat -c %s "$binary" | awk '{ printf "%.1f", $1 / 1e6 }') MB: $("$binary" --version)"
SSL_CERT_FILE=$ca "$python" "$OLDPWD/bench/check.py" "$rounds" "$binary" "$python" "$base" "$ca"
