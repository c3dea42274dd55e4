#!/bin/bash
# Runs one check, as cron does every RUN_INTERVAL_HOURS; setup_cron.sh tells cron to.
# Executa uma verificacao, como o cron a cada RUN_INTERVAL_HOURS; setup_cron.sh avisa o cron.
#
# Stands beside .env and ghl_tokens.json, in /opt/ghl-auth-microservice for instance. It runs
#   1. the program `ghl-auth`, if it stands here too;
#   2. otherwise the image GHL_AUTH_IMAGE (environment, .env, else `ghl-auth`), if there is a docker;
#   3. otherwise the `ghl-auth` in PATH.
# What it says goes to /var/log/ghl_auth_check.log, or, where this user can't write that, to
# ghl_auth_check.log here. Its exit code is the check's: 0 operational, 1 the check failed, 2 wrong
# configuration, 3 a person must authorise, 4 HighLevel or the tokens can't be reached.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
# cron's own PATH is short.
PATH=${PATH:-/usr/bin:/bin}:/usr/local/bin:/snap/bin

# The value of a name in .env, which is read and never run: it may hold anything.
from_env() { # NAME
    [ -f .env ] || return 0
    sed -n -e $'1s/^\xEF\xBB\xBF//' -e 's/\r$//' \
        -e "s/^[[:space:]]*\(export[[:space:]][[:space:]]*\)\{0,1\}$1[[:space:]]*=[[:space:]]*//p" .env | tail -n 1 \
        | sed -e 's/^"\([^"]*\)".*/\1/; t' -e "s/^'\([^']*\)'.*/\1/; t" \
            -e 's/^#.*//; s/[[:space:]]#.*//; s/[[:space:]]*$//'
}

language=${GHL_AUTH_LANG:-$(from_env GHL_AUTH_LANG)}
language=${language:-${LC_ALL:-${LC_MESSAGES:-${LANG:-}}}}

say() { # ENGLISH PORTUGUESE
    case ${language,,} in
        pt*) echo "$(date): $2" ;;
        *) echo "$(date): $1" ;;
    esac
}

fail() { # EXIT ENGLISH PORTUGUESE
    say "$2" "$3"
    [ ! -t 3 ] || say "$2" "$3" >&3
    exit "$1"
}

# Everything from here on is for the log; 3 is for whoever runs this by hand.
log=/var/log/ghl_auth_check.log
exec 3>&2
{ true >> "$log"; } 2> /dev/null || log=$PWD/ghl_auth_check.log
exec >> "$log" 2>&1

[ -f .env ] || fail 2 "Error: no .env in the script's folder, $PWD. Stopping." \
    "Erro: Arquivo .env nao encontrado no diretorio do script, $PWD. Saindo."

image=${GHL_AUTH_IMAGE:-$(from_env GHL_AUTH_IMAGE)}
command=()
if [ -x ./ghl-auth ]; then
    command=(./ghl-auth --env-file ./.env check)
elif command -v docker > /dev/null; then
    # docker would make a folder of a file that is not there.
    [ -e ghl_tokens.json ] || (umask 077 && : > ghl_tokens.json)
    volume=$PWD/ghl_tokens.json:/app/ghl_tokens.json
    # Tokens or secrets kept in other files: then the whole folder stands at /app.
    if grep -Eq '^[[:space:]]*(export[[:space:]]+)?(GHL_STORE|GHL_[A-Z_]+_FILE)[[:space:]]*=' .env; then
        volume=$PWD:/app
    fi
    command=(docker run --rm --env-file ./.env --volume "$volume" "${image:-ghl-auth}")
elif command -v ghl-auth > /dev/null; then
    command=(ghl-auth --env-file ./.env check)
else
    fail 2 "Error: neither ./ghl-auth nor docker nor a ghl-auth in PATH. Stopping." \
        "Erro: Nao ha ./ghl-auth, nem docker, nem ghl-auth no PATH. Saindo."
fi

say "Starting the authentication microservice." "Iniciando execucao do microservico de autenticacao."
exit=0
"${command[@]}" || exit=$?
if [ "$exit" = 0 ]; then
    say "The authentication microservice has finished." \
        "Execucao do microservico de autenticacao finalizada."
else
    fail "$exit" "The authentication microservice has failed with exit code $exit. See $log" \
        "Execucao do microservico de autenticacao falhou com o codigo de saida $exit. Veja $log"
fi
