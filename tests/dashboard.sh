#!/bin/bash
# The dashboard and the status page in a real browser, in both languages: see dashboard/*.mjs.
#
#   tests/dashboard.sh [GHL-AUTH]           default: ghl-auth of the last build
#   SCREENSHOTS=FOLDER tests/dashboard.sh   keeps a picture of each page
# shellcheck source=tests/service.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/service.sh" "$@"
sources=$repository/tests/dashboard
# shellcheck source=tests/browser.sh
. "$repository/tests/browser.sh"
# It loads what it needs from beside itself.
cp "$sources"/*.mjs "$tools"

be_at_home

for language in en pt-BR; do
    "$program" keys create --all --verb token --name "to-be-revoked-$language" > revoked-key 2>> keys.log
    serve "GHL_AUTH_LANG=$language" GHL_AUTH_STATUS_PAGE=names
    "$program" check > check.log 2>&1 || { cat check.log >&2; exit 1; }
    check="curl -fsS -o /dev/null $service/v1/checks -H 'Authorization: Bearer $(cat key)' \
        -H 'Content-Type: application/json' -d '{\"kind\":\"location\",\"id\":\"$location\"}'"
    CHROMIUM=$chromium timeout 300 node "$tools/dashboard.mjs" "http://127.0.0.1:$port" \
        "$("$program" dashboard 2> dashboard.log)" "$check" "$language" "${SCREENSHOTS:-}"
    # What was forgotten and taken back is not checked yet.
    eval "$check"
    badge=/badge/$("$program" badge create --json 2> badge.log | sed -n 's/.*"badge": "\(.*\)".*/\1/p').svg
    CHROMIUM=$chromium timeout 300 node "$tools/status.mjs" "http://127.0.0.1:$port" "$badge" "$language" \
        "${SCREENSHOTS:-}"
    kill "$service_process"
    wait "$service_process" || { echo "the service did not end well" >&2; exit 1; }
    service_process=
done

# Names that would do something if they were more than text.
python3 "$sources/plant.py" tokens.db "$sources/hostile.json"
serve GHL_AUTH_LANG=en
CHROMIUM=$chromium timeout 120 node "$tools/hostile.mjs" "http://127.0.0.1:$port" \
    "$("$program" dashboard 2> dashboard.log)" "$sources/hostile.json" "$location"
