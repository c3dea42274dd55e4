#!/bin/bash
# The dashboard in a real browser, in both languages: see dashboard/dashboard.mjs.
#
#   tests/dashboard.sh [GHL-AUTH]           default: ghl-auth of the last build
#   SCREENSHOTS=FOLDER tests/dashboard.sh   keeps a picture of each page
# shellcheck source=tests/service.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/service.sh" "$@"
sources=$repository/tests/dashboard
chromium=$(command -v chromium || true)
[ -n "$chromium" ] || { echo "missing: chromium; the dashboard is not looked at" >&2; exit 1; }
if [ -n "${SCREENSHOTS:-}" ]; then
    mkdir -p "$SCREENSHOTS"
    SCREENSHOTS=$(realpath "$SCREENSHOTS")
fi

install_for_node "$sources"
# It loads what it needs from beside itself.
cp "$sources/dashboard.mjs" "$tools"

# Browsers come back where the service is, so its port has to be known before it starts.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
be_connected --name api --verb admin --verb token
sed -i -e "s|^GHL_REDIRECT_URI=.*|GHL_REDIRECT_URI=http://127.0.0.1:$port/oauth/callback|" \
    -e "s|^GHL_AUTH_LISTEN=.*|GHL_AUTH_LISTEN=127.0.0.1:$port|" .env

for language in en pt-BR; do
    "$program" keys create --all --verb token --name "to-be-revoked-$language" > revoked-key 2>> keys.log
    serve "GHL_AUTH_LANG=$language"
    "$program" check > check.log 2>&1 || { cat check.log >&2; exit 1; }
    check="curl -fsS -o /dev/null $service/v1/checks -H 'Authorization: Bearer $(cat key)' \
        -H 'Content-Type: application/json' -d '{\"kind\":\"location\",\"id\":\"$location\"}'"
    CHROMIUM=$chromium timeout 300 node "$tools/dashboard.mjs" "http://127.0.0.1:$port" \
        "$("$program" dashboard 2> dashboard.log)" "$check" "$language" "${SCREENSHOTS:-}"
    kill "$service_process"
    wait "$service_process" || { echo "the service did not end well" >&2; exit 1; }
    service_process=
done
