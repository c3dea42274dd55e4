# shellcheck shell=bash disable=SC2034  # what is found here is used by whoever sources it
# To be sourced: a sandbox and a service before it, on ports of their own, in a folder that goes away at the end.
#
#   . service.sh [GHL-AUTH]                 default: ghl-auth of the last build
#   be_connected --name NAME --verb VERB…   authorises, and makes a key with these options: it is in ./key
#   serve [NAME=VALUE…]                     starts the service, with these in its environment
set -euo pipefail
umask 077

repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$repository/target}
program=${1:-}
for built in release debug; do
    [ -n "$program" ] || ! [ -x "$target/$built/ghl-auth" ] || program=$target/$built/ghl-auth
done
program=$(realpath "$program")

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

awaited() { # FILE PATTERN: the last word of what stands there once it does
    local found
    for _ in {1..200}; do
        found=$(grep -oE "$2" "$1" | head -n 1 || true)
        [ -z "$found" ] || break
        sleep 0.1
    done
    [ -n "$found" ] || { cat "$1" >&2; return 1; }
    echo "${found##* }"
}

be_connected() {
    cd "$work"
    touch sandbox.log serve.log
    "$program" sandbox --listen 127.0.0.1:0 > sandbox.log 2>&1 &
    sandbox_process=$!
    sandbox=$(awaited sandbox.log 'http://127[0-9.:]*')
    curl -fsS "$sandbox/_sandbox/limits" -d '{"enforced":false}' > limits.log
    curl -fsS "$sandbox/_sandbox/env" > .env
    {
        echo GHL_STORE=sqlite:tokens.db
        echo "GHL_AUTH_KEY=$(head -c 32 /dev/urandom | base64)"
        echo GHL_AUTH_LISTEN=127.0.0.1:0
        echo GHL_AUTH_LANG=en
    } >> .env
    local code
    code=$(curl -fsS "$sandbox/_sandbox/approve" -d '{"redirect_uri":"http://127.0.0.1:8788/oauth/callback"}' \
        | sed -E 's/.*"code": *"([^"]*)".*/\1/')
    "$program" login --code "$code" > login.log 2>&1
    "$program" keys create --all "$@" > key 2> keys.log
    location=$(sed -n 's/^GHL_LOCATION_ID="\{0,1\}\([^"]*\).*/\1/p' .env)
}

serve() {
    env "$@" "$program" serve > serve.log 2>&1 &
    service_process=$!
    service=$(awaited serve.log '(ask here|pedem aqui): http://[0-9.:]*')
}
