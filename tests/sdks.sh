#!/bin/bash
# HighLevel's own SDKs, as they are published, with our gateway in the place of HighLevel: contacts, tags,
# locations and pages, while access tokens are revoked in the sandbox behind it.
#
#   tests/sdks.sh [GHL-AUTH]                default: ghl-auth of the last build
set -euo pipefail
umask 077

repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$repository/target}
program=${1:-}
for built in release debug; do
    [ -n "$program" ] || ! [ -x "$target/$built/ghl-auth" ] || program=$target/$built/ghl-auth
done
program=$(realpath "$program")
sources=$repository/tests/sdks
faketime=$(find /usr/lib -name libfaketimeMT.so.1 -print -quit)
[ -n "$faketime" ] || { echo "missing: faketime, which moves the service's clock; the SDKs are not tried" >&2; exit 1; }

# What is installed is named by what was asked for, so that other versions are installed anew.
asked=$(cat "$sources/package-lock.json" "$sources/requirements.txt" | sha256sum | cut -c 1-12)
tools=$target/tools/sdks-$asked
if ! [ -e "$tools/complete" ]; then
    rm -rf "$tools"
    mkdir -p "$tools"
    cp "$sources/package.json" "$sources/package-lock.json" "$tools"
    (cd "$tools" && npm ci --silent --no-audit --no-fund --ignore-scripts)
    python3 -m venv "$tools/python"
    "$tools/python/bin/pip" -q install --disable-pip-version-check -r "$sources/requirements.txt"
    touch "$tools/complete"
fi

work=$(mktemp -d)
sandbox_process=
service_process=
# shellcheck disable=SC2317  # called by the trap
clean_up() {
    for process in $service_process $sandbox_process; do
        kill "$process" 2> /dev/null || true
    done
    wait
    rm -rf "$work"
}
trap clean_up EXIT
cd "$work"
touch sandbox.log serve.log

awaited() { # FILE PATTERN: what stands there once it does
    local found
    for _ in {1..200}; do
        found=$(sed -n "s|.*$2.*|\\1|p" "$1" | head -n 1)
        [ -z "$found" ] || break
        sleep 0.1
    done
    [ -n "$found" ] || { cat "$1" >&2; return 1; }
    echo "$found"
}

"$program" sandbox --listen 127.0.0.1:0 > sandbox.log 2>&1 &
sandbox_process=$!
sandbox=$(awaited sandbox.log '\(http://127[0-9.:]*\)')
curl -fsS "$sandbox/_sandbox/limits" -d '{"enforced":false}' > limits.log
curl -fsS "$sandbox/_sandbox/env" > .env
{
    echo GHL_STORE=sqlite:tokens.db
    echo "GHL_AUTH_KEY=$(head -c 32 /dev/urandom | base64)"
    echo GHL_AUTH_LISTEN=127.0.0.1:0
    echo GHL_AUTH_LANG=en
} >> .env
code=$(curl -fsS "$sandbox/_sandbox/approve" -d '{"redirect_uri":"http://127.0.0.1:8788/oauth/callback"}' \
    | sed -E 's/.*"code": *"([^"]*)".*/\1/')
"$program" login --code "$code" > login.log 2>&1
"$program" keys create --name sdk --all --verb gateway > key 2> keys.log
# The Keeper gives no installation a new token for a refusal within a minute of the last. Nobody waits for that:
# the service's clock is moved by whoever revokes.
echo +0 > clock
LD_PRELOAD=$faketime FAKETIME_TIMESTAMP_FILE=$work/clock FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 \
    "$program" serve > serve.log 2>&1 &
service_process=$!
service=$(awaited serve.log 'ask here: \(http://[0-9.:]*\)')
location=$(sed -n 's/^GHL_LOCATION_ID="\{0,1\}\([^"]*\).*/\1/p' .env)
company=$(curl -fsS "$sandbox/_sandbox/settings" | sed -E 's/.*"company_id": *"([^"]*)".*/\1/')

# The SDKs load what they need from beside the script.
cp "$sources/sdk.mjs" "$tools"
failed=0
for sdk in "node $tools/sdk.mjs" "$tools/python/bin/python $sources/sdk.py"; do
    # shellcheck disable=SC2086  # a program and its script
    timeout 120 $sdk "$service/gateway" "$(cat key)" "$location" "$company" "$sandbox" "$work/clock" || failed=1
done
if grep 'ERROR\|panicked' serve.log; then
    failed=1
fi
exit "$failed"
