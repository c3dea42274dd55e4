#!/bin/bash
# The sandbox's console in a real browser, beside a service, in both languages: see dashboard/console.mjs.
#
#   tests/console.sh [GHL-AUTH]           default: ghl-auth of the last build
#   SCREENSHOTS=FOLDER tests/console.sh   keeps a picture of each look
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)

# Each language has a sandbox and a service of its own: they speak the language that they were started with.
seen_in() { # LANGUAGE [GHL-AUTH]
    local language=$1
    export GHL_AUTH_LANG=$language
    # shellcheck source=tests/service.sh
    . "$here/service.sh" "${@:2}"
    # shellcheck source=tests/browser.sh
    . "$here/browser.sh"
    be_at_home
    serve GHL_AUTH_INSTALLS=open
    CHROMIUM=$chromium timeout 180 node "$tools/console.mjs" "$sandbox" "$service" "$program" "$language" \
        "${SCREENSHOTS:-}"
}
# What both need is fetched once.
(
    # shellcheck source=tests/service.sh
    . "$here/service.sh" "$@"
    # shellcheck source=tests/browser.sh
    . "$here/browser.sh"
    cp "$here"/dashboard/*.mjs "$tools"
)

# Most of the time is waiting for a service that does not give up at once.
(seen_in en "$@") &
english=$!
(seen_in pt-BR "$@") &
portuguese=$!
failed=0
wait "$english" || failed=1
wait "$portuguese" || failed=1
exit "$failed"
