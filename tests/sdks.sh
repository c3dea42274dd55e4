#!/bin/bash
# HighLevel's own SDKs, as they are published, with our gateway in the place of HighLevel: contacts, tags,
# locations and pages, while access tokens are revoked in the sandbox behind it.
#
#   tests/sdks.sh [GHL-AUTH]                default: ghl-auth of the last build
# shellcheck source=tests/service.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/service.sh" "$@"
sources=$repository/tests/sdks
faketime=$(find /usr/lib -name libfaketimeMT.so.1 -print -quit)
[ -n "$faketime" ] || { echo "missing: faketime, which moves the service's clock; the SDKs are not tried" >&2; exit 1; }

# shellcheck disable=SC2317  # called by install_for_node
complete_tools() {
    python3 -m venv "$tools/python"
    "$tools/python/bin/pip" -q install --disable-pip-version-check -r "$sources/requirements.txt"
}
install_for_node "$sources" "$sources/requirements.txt"

be_connected --name sdk --verb gateway
# The Keeper gives no installation a new token for a refusal within a minute of the last. Nobody waits for that:
# the service's clock is moved by whoever revokes.
echo +0 > clock
serve "LD_PRELOAD=$faketime" "FAKETIME_TIMESTAMP_FILE=$work/clock" FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1
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
