# shellcheck shell=bash disable=SC2034  # what is found here is used by whoever sources it
# To be sourced: a sandbox and a service before it, on ports of their own, in a folder that goes away at the end.
#
#   . service.sh [GHL-AUTH]                 default: ghl-auth of the last build
#   be_connected --name NAME --verb VERB…   authorises, and makes a key with these options: it is in ./key
#   serve [NAME=VALUE…]                     starts the service, with these in its environment
set -euo pipefail
umask 077

# shellcheck source=tests/start.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/start.sh"
find_program "${1:-}"

work=$(mktemp -d)
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

be_connected() {
    cd "$work"
    touch serve.log
    begin_sandbox "$program"
    curl -fsS "$sandbox/_sandbox/limits" -d '{"enforced":false}' > limits.log
    curl -fsS "$sandbox/_sandbox/env" > .env
    {
        echo GHL_STORE=sqlite:tokens.db
        echo "GHL_AUTH_KEY=$(head -c 32 /dev/urandom | base64)"
        echo GHL_AUTH_LISTEN=127.0.0.1:0
        echo GHL_AUTH_LANG=en
    } >> .env
    local code
    code=$(consented)
    "$program" login --code "$code" > login.log 2>&1
    "$program" keys create --all "$@" > key 2> keys.log
    location=$(sed -n 's/^GHL_LOCATION_ID="\{0,1\}\([^"]*\).*/\1/p' .env)
}

serve() {
    env "$@" "$program" serve > serve.log 2>&1 &
    service_process=$!
    service=$(awaited serve.log '(ask here|pedem aqui): http://[0-9.:]*')
}
