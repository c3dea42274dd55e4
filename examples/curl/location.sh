#!/usr/bin/env bash
# Reads a location from HighLevel with a token from the service.
set -euo pipefail

keeper="${GHL_AUTH_URL:-http://127.0.0.1:8787}/v1/locations/$GHL_LOCATION_ID/token"
highlevel="${GHL_API_BASE_URL:-https://services.leadconnectorhq.com}"

# Headers come from stdin: an argument could be read by everyone on the machine.
ask() {
    curl --silent --show-error --fail-with-body --header @- "$@" <<< "Authorization: Bearer $GHL_AUTH_API_KEY"
}

member() { sed -E "s/.*\"$1\":\"?([^\",}]+).*/\1/"; }

# Prints the status; what HighLevel says is not needed here.
read_location() {
    curl --silent --show-error --output /dev/null --write-out '%{http_code}' --header @- \
        "$highlevel/locations/$GHL_LOCATION_ID" <<< "Authorization: Bearer $1
Version: 2021-07-28"
}

answer=$(ask "$keeper")
status=$(read_location "$(member access_token <<< "$answer")")
if [ "$status" = 401 ]; then
    generation=$(member generation <<< "$answer")
    answer=$(ask --json "{\"generation\": $generation}" "$keeper/refused")
    status=$(read_location "$(member access_token <<< "$answer")")
fi
echo "HighLevel answered $status"
[ "$status" = 200 ]
