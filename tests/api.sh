#!/bin/bash
# Holds the service to its own /openapi.json: schemathesis asks whatever the description allows and much
# that it doesn't, with an admin key, and looks for failures of the service, for answers that are not
# described, and for what is taken or refused against the description.
#
#   tests/api.sh [GHL-AUTH]                 default: ghl-auth of the last build
#   GHL_AUTH_EXAMPLES=500 tests/api.sh      so many requests for each operation; 25 without it
#   GHL_AUTH_SEED=7 tests/api.sh            other requests; without it, the same ones each time
# shellcheck source=tests/service.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/service.sh" "$@"
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

be_connected --name api --verb admin --verb token
serve GHL_AUTH_LOG=info

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
