# shellcheck shell=bash disable=SC2034,SC2154  # what is found here is used by whoever sources it
# To be sourced after service.sh: a browser in $chromium, and in $tools what scripts in it need, to be copied beside.
chromium=$(command -v chromium || true)
[ -n "$chromium" ] || { echo "missing: chromium; nothing is looked at in a browser" >&2; exit 1; }

asked=$(sha256sum < "$repository/tests/dashboard/package-lock.json" | cut -c 1-12)
tools=$target/tools/dashboard-$asked
if ! [ -e "$tools/complete" ]; then
    rm -rf "$tools"
    mkdir -p "$tools"
    cp "$repository/tests/dashboard/package.json" "$repository/tests/dashboard/package-lock.json" "$tools"
    (cd "$tools" && npm ci --silent --no-audit --no-fund --ignore-scripts)
    touch "$tools/complete"
fi
