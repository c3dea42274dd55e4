#!/bin/bash
# Holds the service to its own /openapi.json: schemathesis asks whatever the description allows and much
# that it doesn't, with an admin key, and looks for failures of the service, for answers that are not
# described, and for what is taken or refused against the description.
#
#   tests/api.sh [GHL-AUTH]                 default: ghl-auth of the last build
#   GHL_AUTH_EXAMPLES=500 tests/api.sh      so many requests for each operation; 25 without it
#   GHL_AUTH_SEED=7 tests/api.sh            other requests; without it, the same ones each time
set -euo pipefail
umask 077

repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$repository/target}
program=${1:-}
for built in release debug; do
    [ -n "$program" ] || ! [ -x "$target/$built/ghl-auth" ] || program=$target/$built/ghl-auth
done
program=$(realpath "$program")
examples=${GHL_AUTH_EXAMPLES:-25}

version=4.32.5
tool=$target/tools/schemathesis-$version
if ! [ -x "$tool/bin/st" ]; then
    mkdir -p "$target/tools"
    if ! { python3 -m venv "$tool" && "$tool/bin/pip" -q install "schemathesis==$version"; }; then
        rm -rf "$tool"
        exit 1
    fi
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
"$program" keys create --name api --all --verb admin --verb token > key 2> keys.log
"$program" serve > serve.log 2>&1 &
service_process=$!
service=$(awaited serve.log 'ask here: \(http://[0-9.:]*\)')
location=$(sed -n 's/^GHL_LOCATION_ID="\{0,1\}\([^"]*\).*/\1/p' .env)

# OpenAPI has no way to say that two parameters of a query go together.
cat > schemathesis.toml << END
[[operations]]
include-method = "GET"
include-path = "/v1/checks"
checks.positive_data_acceptance.enabled = false
END
cat > known.toml << END
[parameters]
kind = "location"
id = "$location"
$(cat schemathesis.toml)
END

failed=0
ask() { # WHAT CONFIGURATION OPTION…
    local what=$1 configuration=$2
    shift 2
    printf '\n== %s, %s for each operation\n' "$what" "$examples"
    "$tool/bin/st" --config-file "$configuration" run "$service/openapi.json" --header "Authorization: Bearer $(cat key)" \
        --phases examples,coverage,fuzzing --mode all --max-examples "$examples" --continue-on-failure \
        --warnings off --generation-database none --seed "${GHL_AUTH_SEED:-1}" "$@" > st.log 2>&1 || failed=1
    # What was found, or else the figures.
    if grep -q '^=* FAILURES\|^=* ERRORS' st.log; then
        sed -n '/^=* \(FAILURES\|ERRORS\)/,$p' st.log
    else
        sed -n '/^=* SUMMARY/,$p' st.log
    fi
}
# What hardly any finds by chance is asked first: the other requests may remove it.
ask "requests about the installation that there is" known.toml --include-path-regex '\{id\}' --exclude-method DELETE
ask "requests about anything" schemathesis.toml

printf '\nanswers of routes by status: '
curl -fsS "$service/metrics" > metrics || failed=1
sed -n 's/^ghl_auth_http_requests_total{.*status="\([0-9]*\)"} \([0-9]*\)$/\1 \2/p' metrics \
    | awk '{ count[$1] += $2 } END { for (status in count) print status ": " count[status] }' | sort | paste -sd ' '
kill "$service_process"
wait "$service_process" || { echo "the service did not end well"; failed=1; }
if grep -q 'ERROR\|panicked' serve.log; then
    failed=1
    grep 'ERROR\|panicked' serve.log | head -n 20
fi
service_process=
[ "$failed" = 0 ] && echo "nothing was found"
exit "$failed"
