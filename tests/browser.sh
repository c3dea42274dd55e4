# shellcheck shell=bash disable=SC2034,SC2154  # what is found here is used by whoever sources it
# To be sourced after service.sh: a browser in $chromium, and in $tools what scripts in it need, to be copied beside;
# $SCREENSHOTS is made, where it names a folder.
#
#   be_at_home       like be_connected, with the service at a $port that is known before it starts: browsers come back there
chromium=$(command -v chromium || true)
[ -n "$chromium" ] || { echo "missing: chromium; nothing is looked at in a browser" >&2; exit 1; }

install_for_node "$repository/tests/dashboard"

if [ -n "${SCREENSHOTS:-}" ]; then
    mkdir -p "$SCREENSHOTS"
    SCREENSHOTS=$(realpath "$SCREENSHOTS")
fi

be_at_home() {
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    be_connected --name api --verb admin --verb token
    sed -i -e "s|^GHL_REDIRECT_URI=.*|GHL_REDIRECT_URI=http://127.0.0.1:$port/oauth/callback|" \
        -e "s|^GHL_AUTH_LISTEN=.*|GHL_AUTH_LISTEN=127.0.0.1:$port|" .env
}
