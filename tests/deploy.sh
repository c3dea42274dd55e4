#!/bin/bash
# Runs what is in deploy/ for real: cron's own `crontab`, the program, systemd's own checks. Only
# docker is played, by a script that writes down what it was asked.
#
#   tests/deploy.sh [GHL-AUTH]        default: ghl-auth of the last build
#
# As root it works on a crontab that nobody else sees; otherwise it puts yours back at the end.
set -euo pipefail
umask 022

# shellcheck source=tests/start.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/start.sh"
spools=/var/spool/cron
if [ "$(id -u)" = 0 ] && [ -z "${GHL_AUTH_TEST_APART:-}" ] && [ -d "$spools" ] && unshare --mount true 2> /dev/null; then
    GHL_AUTH_TEST_APART=yes exec unshare --mount "${BASH_SOURCE[0]}" "$@"
fi
if [ -n "${GHL_AUTH_TEST_APART:-}" ]; then
    # An empty place for crontabs, and one for logs, for this process and its children alone.
    mount -t tmpfs tmpfs "$spools"
    mkdir -m 1730 "$spools/crontabs"
    chgrp crontab "$spools/crontabs" 2> /dev/null || true
    mount -t tmpfs tmpfs /var/log
fi

find_program "${1:-}"

work=$(mktemp -d)
mine=$work/mine
if crontab -l > "$mine" 2> "$work/out"; then had=yes; elif grep -q 'no crontab for' "$work/out"; then had=no; else
    cat "$work/out" >&2
    exit 1
fi

# shellcheck disable=SC2317  # called by the trap
clean_up() {
    [ -z "$sandbox_process" ] || kill "$sandbox_process" 2> /dev/null || true
    case $had in
        yes) crontab "$mine" ;;
        no) crontab -r 2> /dev/null || true ;;
    esac
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

run() { # COMMAND…
    exit=0
    env -u LC_ALL -u LC_MESSAGES -u LANG -u GHL_AUTH_LANG "$@" > "$work/out" 2>&1 < /dev/null || exit=$?
}

said() { grep -qF -- "$1" "$work/out"; }
logged() { grep -qF -- "$1" "$log"; }
exited() { [ "$exit" = "$1" ]; }
not() { ! "$@"; }

# The crontab itself: Debian's `crontab -l` writes a carriage return as the two characters \r.
whole_crontab() {
    VISUAL=$work/show crontab -e < /dev/null > /dev/null 2>&1
    cat "$work/shown"
}

# A folder with the scripts, as the READMEs have it made.
new_folder() { # NAME
    folder=$work/$1
    mkdir -p "$folder"
    cp "$repository"/deploy/{run_ghl_check,setup_cron}.sh "$folder/"
    printf '%s\n' 'RUN_INTERVAL_HOURS=12' > "$folder/.env"
    log=/var/log/ghl_auth_check.log
    { true >> "$log"; } 2> /dev/null || log=$folder/ghl_auth_check.log
    if [ -n "${GHL_AUTH_TEST_APART:-}" ]; then : > "$log"; fi
}

## setup_cron.sh

# shellcheck disable=SC2016  # the editor's $1
printf '#!/bin/sh\ncp "$1" "%s"\n' "$work/shown" > "$work/show"
chmod +x "$work/show"
others=$work/others
printf '%s\n' '# mine, with a tab	and café' 'MAILTO=""' '' \
    '*/5 * * * * /usr/bin/true % stdin' "#0 3 * * * $work/plain/run_ghl_check.sh" \
    "5 5 * * * nice $work/plain/run_ghl_check.sh >> /dev/null" \
    "7 7 * * * $work/plain/run_ghl_check.sh.old >> /dev/null" '@reboot /usr/bin/true  ' > "$others"
# Neither UTF-8 nor a Unix line's end.
printf '1 2 3 4 5 /bin/echo \351\r\n' >> "$others"

new_folder plain
crontab "$others"
run "$folder/setup_cron.sh"
line="0 */12 * * * $folder/run_ghl_check.sh >> $log 2>&1"
check "cron is set up" exited 0
crontab -l > "$work/now"
check "… with the line of the Python template" grep -qxF "$line" "$work/now"
check "… and every other line as it was, to the byte" cmp <(whole_crontab | grep -avxF "$line") "$others"
run "$folder/setup_cron.sh"
check "once more changes nothing" cmp "$work/now" <(crontab -l)
sed -i 's/=12/="6" # Ex: 12/' "$folder/.env"
run "$folder/setup_cron.sh"
check "another interval, in quotes and with a comment, takes the place of the first" \
    cmp <(sed 's|^0 \*/12|0 */6|' "$work/now") <(crontab -l)
check "… and the script may be run" [ -x "$folder/run_ghl_check.sh" ]
for hours in 1 2 3 4 6 8 12 24; do
    echo "RUN_INTERVAL_HOURS=$hours" > "$folder/.env"
    run "$folder/setup_cron.sh"
    check "every $hours h" exited 0
done
check "… 24 is once a day" grep -qxF "0 0 * * * $folder/run_ghl_check.sh >> $log 2>&1" <(crontab -l)
crontab -l > "$work/now"
# shellcheck disable=SC2016  # nobody is to expand it
for hours in 0 5 7 36 -1 06 x '1 2' '$(touch pwned)'; do
    echo "RUN_INTERVAL_HOURS=$hours" > "$folder/.env"
    run "$folder/setup_cron.sh"
    check "every '$hours' h is refused" exited 1
    check "… with the divisors of 24" said "1, 2, 3, 4, 6, 8, 12"
done
check "… and nothing was changed" cmp "$work/now" <(crontab -l)
: > "$folder/.env"
run "$folder/setup_cron.sh"
check "12 hours where none are set" grep -qF "0 */12 * * * $folder/" <(crontab -l)

echo 'GHL_AUTH_LANG="pt-BR"' > "$folder/.env"
run "$folder/setup_cron.sh"
check "in Portuguese, the template's sentences" said "Configurando cron job para rodar a cada 12 horas."
check "… to the last" said "Cron job configurado com sucesso!"

crontab -r
run "$folder/setup_cron.sh"
check "a user without a crontab gets one" [ "$(crontab -l)" = "$line" ]

new_folder "a folder, 100% d'água"
# shellcheck disable=SC2016
printf '%s\n' 'RUN_INTERVAL_HOURS=12' 'GHL_CLIENT_SECRET=a$(touch pwned)`touch pwned`"$HOME' 'GHL_AUTHORIZATION_CODE="a b' > "$folder/.env"
crontab "$others"
run "$folder/setup_cron.sh"
run "$folder/setup_cron.sh"
check "a folder with spaces, a quote and a percent sign" [ "$(crontab -l | grep -c 'gua/run_ghl_check.sh')" = 1 ]
# What cron does with a line: five fields, then everything to the first % without a backslash.
command=$(crontab -l | grep 'gua/run_ghl_check.sh' | sed -E 's/^([^ ]+ ){5}//; s/([^\\])%.*/\1/; s/\\%/%/g')
printf '#!/bin/sh\necho it ran\n' > "$folder/run_ghl_check.sh"
run sh -c "$command"
check "… and cron's shell finds the script there" grep -q 'it ran' "$log"
check "no value in .env was run" [ -z "$(find "$work" -name pwned)" ]

rm "$folder/.env"
run "$folder/setup_cron.sh"
check "no .env: refused" exited 1

new_folder unreadable
mkdir "$work/shim"
cat > "$work/shim/crontab" << 'END'
#!/bin/sh
case $1 in
    -l) echo "crontabs/you/: fopen: Permission denied" >&2; exit 1 ;;
    *) touch "$(dirname "$0")/written" ;;
esac
END
chmod +x "$work/shim/crontab"
run env PATH="$work/shim:$PATH" "$folder/setup_cron.sh"
check "a crontab that can't be read: refused" exited 1
check "… saying why" said "fopen: Permission denied"
check "… and not written" [ ! -e "$work/shim/written" ]
if [ -n "${GHL_AUTH_TEST_APART:-}" ] && command -v setpriv > /dev/null; then
    chmod 755 "$work"
    chown -R 65534 "$folder"
    run setpriv --reuid 65534 --regid 65534 --clear-groups "$folder/setup_cron.sh"
    check "who can't write to /var/log has the log in the folder" \
        said "0 */12 * * * $folder/run_ghl_check.sh >> $folder/ghl_auth_check.log 2>&1"
fi

## run_ghl_check.sh

mkdir "$work/engine"
cat > "$work/engine/docker" << 'END'
#!/bin/sh
printf '%s\n' "$@" > "$(dirname "$0")/asked"
echo "docker speaks"
exit "$(cat "$(dirname "$0")/exit" 2> /dev/null || echo 0)"
END
chmod +x "$work/engine/docker"
asked() { diff <(printf '%s\n' "$@") "$work/engine/asked"; }

new_folder "engine, 1"
# shellcheck disable=SC2016
printf '%s\n' 'GHL_CLIENT_SECRET=$(touch pwned)' 'GHL_AUTHORIZATION_CODE="a b' >> "$folder/.env"
run env PATH="$work/engine:$PATH" "$folder/run_ghl_check.sh"
check "with docker: the check's exit code" exited 0
check "… docker was asked as the template asks it" \
    asked run --rm --env-file ./.env --volume "$folder/ghl_tokens.json:/app/ghl_tokens.json" ghl-auth
check "… a token file was made where none was, mode 0600" [ "$(stat -c '%F %a' "$folder/ghl_tokens.json")" = "regular empty file 600" ]
check "… what it says is in the log" logged "docker speaks"
check "… between the script's sentences" logged "The authentication microservice has finished."
check "… and nowhere else" [ ! -s "$work/out" ]
check "no value in .env was run" [ -z "$(find "$work" -name pwned)" ]
echo '{"kept": true}' > "$folder/ghl_tokens.json"
echo 3 > "$work/engine/exit"
printf '%s\n' "GHL_AUTH_LANG='pt-BR'" 'GHL_AUTH_IMAGE="raulbehnke/ghl-auth-template" # a minha' >> "$folder/.env"
run env PATH="$work/engine:$PATH" "$folder/run_ghl_check.sh"
check "a failure's exit code comes through" exited 3
check "… and is in the log, in Portuguese" logged "falhou com o codigo de saida 3"
check "… after the template's sentence" logged "Iniciando execucao do microservico de autenticacao."
check "the image is the one that .env names" grep -qx 'raulbehnke/ghl-auth-template' "$work/engine/asked"
check "the token file stays" grep -q kept "$folder/ghl_tokens.json"
run env PATH="$work/engine:$PATH" GHL_AUTH_IMAGE=other "$folder/run_ghl_check.sh"
check "… or the environment" grep -qx other "$work/engine/asked"
echo 'GHL_STORE=sqlite:tokens.db' >> "$folder/.env"
run env PATH="$work/engine:$PATH" "$folder/run_ghl_check.sh"
check "tokens in another file: the folder is mounted" grep -qx "$folder:/app" "$work/engine/asked"
rm "$folder/.env"
run env PATH="$work/engine:$PATH" "$folder/run_ghl_check.sh"
check "no .env: exit 2" exited 2
check "… in the log" logged "no .env in the script's folder"

if [ -n "$program" ]; then
    begin_sandbox "$program"
    new_folder program
    curl -fsS "$sandbox/_sandbox/env" > "$folder/.env"
    code=$(consented)
    echo "GHL_AUTHORIZATION_CODE=$code" >> "$folder/.env"
    chmod 600 "$folder/.env"
    ln -s "$program" "$folder/ghl-auth"
    run env PATH="$work/engine:$PATH" "$folder/run_ghl_check.sh"
    check "with the program beside the script: operational" exited 0
    check "… and that is in the log" logged "Microservice operational."
    rm "$folder/ghl-auth"
    mkdir "$work/bin"
    ln -s "$program" "$work/bin/ghl-auth"
    # No docker: only what the scripts need.
    for tool in bash sh env date dirname sed tail grep; do ln -s "$(command -v $tool)" "$work/bin/"; done
    sed "s|:/usr/local/bin:/snap/bin||" -i "$folder/run_ghl_check.sh"
    run env PATH="$work/bin" "$folder/run_ghl_check.sh"
    check "with the program in PATH and no docker: operational" exited 0
    rm "$work/bin/ghl-auth"
    run env PATH="$work/bin" "$folder/run_ghl_check.sh"
    check "with neither: exit 2" exited 2
    check "… saying what there is none of" logged "neither ./ghl-auth nor docker"
else
    echo "skipped the program itself: none is built"
fi

## .env.example

variables() {
    sed -n 's/^ *\(plain\|secret\)("\([A-Z_]*\)".*/\2/p' "$repository/crates/ghl-auth/src/config/variables.rs"
    sed -n 's/^ *secret("\([A-Z_]*\)".*/\1_FILE/p' "$repository/crates/ghl-auth/src/config/variables.rs"
}
# What stands under the name of an app is an example of its own.
grep -oE '^(# )?[A-Z][A-Z_]*=' "$repository/.env.example" | tr -d '# =' | grep -v '^GHL_APP_BILLING_' | sort > "$work/explained"
check "there are variables to look for" [ "$(variables | wc -l)" -gt 20 ]
check ".env.example has every variable of the program, once, and no other but the scripts' own" \
    diff "$work/explained" <({ variables; echo GHL_AUTH_IMAGE; } | sort)
if [ -n "$program" ]; then
    mkdir "$work/example"
    cp "$repository/.env.example" "$work/example/.env"
    run env -C "$work/example" "$program" check
    check "… as it is, it lacks nothing but ids" said "O_ID_DA_SUA_LOCALIZACAO_GHL_AQUI"
    check "… and every line of it is understood" not said ", line "
fi

## systemd

if command -v systemd-analyze > /dev/null && [ -n "$program" ]; then
    mkdir "$work/units"
    cp "$repository"/deploy/systemd/* "$work/units/"
    sed -i "s|/usr/local/bin/ghl-auth|$program|" "$work"/units/*.service
    run systemd-analyze verify --man=no "$work"/units/ghl-auth-check.{service,timer} "$work/units/ghl-auth.service"
    check "systemd takes the units" exited 0
    check "… without a word" [ ! -s "$work/out" ]
    for unit in ghl-auth-check ghl-auth; do
        run systemd-analyze security --offline=true --threshold=20 "$work/units/$unit.service"
        check "… and finds $unit at most 2.0 exposed (of 10)" exited 0
    done
fi

## Prometheus and Grafana

if command -v promtool > /dev/null; then
    run promtool check rules "$repository/deploy/prometheus/ghl-auth.rules.yml"
    check "Prometheus takes the alert rules" exited 0
    run env -C "$repository/deploy/prometheus" promtool test rules ghl-auth.tests.yml
    check "… and each tells of its trouble, and none when all is well" exited 0
    # The dashboard's queries as rules, with what Grafana puts in for its variables.
    python3 - "$repository/deploy/grafana/ghl-auth.json" > "$work/dashboard.yml" << 'END'
import json, sys
panels = json.load(open(sys.argv[1]))["panels"]
queries = [target["expr"].replace("$__rate_interval", "5m") for panel in panels for target in panel["targets"]]
rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, sys.stdout)
END
    run promtool check rules "$work/dashboard.yml"
    check "… and the queries of the dashboard" exited 0
    check "… of which there are some" grep -qE '(1[5-9]|2[0-9]) rules found' "$work/out"
else
    echo "skipped the alert rules: no promtool"
fi

## compose.yaml

if command -v docker-compose > /dev/null; then
    # Debian's knows all of it but one word.
    mkdir "$work/compose"
    sed '/^ *bind:$/d; /create_host_path/d' "$repository/compose.yaml" > "$work/compose/docker-compose.yml"
    run env -C "$work/compose" docker-compose config
    check "Docker takes compose.yaml" exited 0
    check "… and it has the service and the check" [ "$(grep -cE '^  (serve|check):$' "$work/out")" = 2 ]
    for secret in ghl_auth_key ghl_client_secret; do
        check "… and $secret can't be committed by mistake" grep -qx "$secret" "$repository/.gitignore"
    done
else
    echo "skipped compose.yaml: no docker-compose"
fi

if command -v shellcheck > /dev/null; then
    run shellcheck "$repository"/deploy/*.sh "$repository"/tests/*.sh
    check "shellcheck has nothing to say" exited 0
fi

tallied
